/* What one node is assigned, as items of the session (proto/dispatch.proto). Reads the store through a view: only
 * what is applied is ever sent.
 *
 * A set remembers, for one session, which items the agent has: their digests, so that an item is sent only when it
 * changed, and which specs its tasks name, so that a spec goes out before its first task and is taken back after
 * its last. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/index.h"
#include "manager/store/store.h"
#include "proto/base/arena.h"
#include "proto/dispatch.pb-c.h"

struct assign_set;

struct assign_set *assign_set_new(uint64_t node, const uint8_t node_id[16]);
void assign_set_free(struct assign_set *s);

/* Append to `items` (in the arena, grown with arena_append) what brings the agent's copy of this task up to date:
 * nothing, the task, its spec and the task, or removals. */
void assign_task(struct assign_set *s, struct view *v, const struct index *x, uint64_t task, struct arena *a,
                 AssignmentItem ***items, size_t *count);

uint64_t assign_digest(const struct assign_set *s); /* of everything that was appended so far */
uint64_t assign_next(const struct assign_set *s,
                     size_t *at); /* numbers of the tasks the agent has, in no order; 0 at the end */
bool assign_has(const struct assign_set *s, uint64_t task); /* the agent has it */
size_t assign_count(const struct assign_set *s);            /* tasks the agent has */
