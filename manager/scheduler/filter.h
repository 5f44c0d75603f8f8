/* The filters of placement, in Docker's order and with its texts (reference/swarm-surface.md section 14). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/index.h"
#include "proto/base/arena.h"

/* Tasks that are to run on one node. Its agent is told of them all, of as many that end while they are replaced,
 * and of their specs, and takes 65,536 of these together (agent/assignment.h). */
#define FILTER_NODE_TASKS_MAX 30000

enum filter {
    FILTER_NONE, /* fits */
    FILTER_READY,
    FILTER_RESOURCES,
    FILTER_PLUGIN,
    FILTER_CONSTRAINT,
    FILTER_PLATFORM,
    FILTER_HOST_PORT,
    FILTER_MAX_REPLICAS,
    FILTER_NODE_TASKS, /* the only one that Docker does not have */
    FILTER_COUNT,
};

/* The first filter that keeps a task of this spec off the node; `share` is of the spec's service on it, or NULL. */
enum filter filter_check(const struct index_spec *spec, const struct index_node *node,
                         const struct index_share *share);

/* The same for a node that passed all of them since its own facts (state, labels...) changed last: only what tasks
 * change is looked at. */
enum filter filter_check_again(const struct index_spec *spec, const struct index_node *node,
                               const struct index_share *share);

/* The same for one task that has its node already and is counted there: whether it may stay. */
enum filter filter_check_pinned(const struct index_task *t);

/* Whether `new`, which waits, would fit on the node of `old` if that were gone. */
bool filter_fits_without(const struct index_task *new, const struct index_task *old);

/* "no suitable node (insufficient resources on 2 nodes; unsupported platform on 1 node)" from how many nodes each
 * filter refused: most frequent first. */
const char *filter_explain(struct arena *a, const uint32_t refused[FILTER_COUNT]);
/* "insufficient resources on 1 node". */
const char *filter_text(struct arena *a, enum filter f, uint32_t nodes);
