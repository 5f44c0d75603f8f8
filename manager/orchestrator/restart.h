/* The restart policy (reference/swarm-surface.md section 11): whether a task that ended gets a successor. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct index_task;

/* Whether the policy of its own spec allows one more task after this one, the newest of its slot. Its state counts
 * as it is now; attempts are the restarted tasks of the same spec version in its slot. */
bool restart_allowed(const struct index_task *t);

/* How many tasks of a slot must be kept so that restart_allowed can count; 0: the policy does not count. */
uint64_t restart_history(const struct index_task *newest);
