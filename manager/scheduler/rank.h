/* Ranks: the nodes that fit a demand, the best one first, kept from one placement to the next.
 *
 * A rank is brought up to date by looking at the nodes that changed since (index->changed), so placing one task
 * costs what changed and not the number of nodes. Specs that ask the same share one rank, in which nodes are
 * ordered by their load; a service with many tasks gets its own, ordered by the service's tasks on the node first.
 * With spread preferences it is a tree: branches by the values of a label, the least used first. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/plan.h"
#include "manager/scheduler/filter.h"

struct ranks; /* all of them, the least recently used dropped when they get too large */
struct rank;

struct ranks *ranks_new(void);
void ranks_free(struct ranks *all);

/* The rank for tasks of this spec: for its version alone when `own` says so or there is such a one already, else
 * the one that all specs share which ask the same. Made when missing, not yet up to date. Valid until the next
 * ranks_get. */
struct rank *ranks_get(struct ranks *all, const struct index *x, const struct index_spec *spec, bool own);

/* Whether it orders by the service's tasks on the node. If not, a node that has any, or has seen tasks of the spec
 * fail, stands too far in front. */
bool rank_is_own(const struct rank *r);

/* Bring it up to date. False: the plan stopped before it was; call again. `spec` is one that asks the same. */
bool rank_sync(struct rank *r, const struct plan *p, const struct index_spec *spec);

/* The best node, NULL when none fits. The rank is synced. */
struct index_node *rank_best(struct rank *r, const struct index *x, const struct index_spec *spec);

/* Leave a node out until it changes, or is shown again. */
void rank_hide(struct rank *r, const struct index_node *n);
/* Whether a hidden node fits. */
bool rank_hidden_fits(struct rank *r, const struct index *x, const struct index_spec *spec,
                      const struct index_node *n);
void rank_show(struct rank *r, const struct index *x, const struct index_spec *spec, const struct index_node *n);

/* Among nodes that fit the less comes first: what ranks of their own order by. */
uint64_t rank_key(const struct index *x, const struct index_spec *spec, const struct index_node *n);

/* How many nodes each filter refused. */
const uint32_t *rank_refused(struct rank *r, const struct index *x, const struct index_spec *spec);
