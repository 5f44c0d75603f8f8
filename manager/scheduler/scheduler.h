/* The scheduler: which node runs a task (reference/swarm-surface.md section 14). Pure.
 *
 * It works off the index's marks: specs with waiting tasks, nodes with tasks made for them, and, when a node
 * changed so that more may fit, the specs whose tasks found none. */
#pragma once

#include <stdbool.h>

#include "manager/plan.h"

struct scheduler;

struct scheduler *scheduler_new(void); /* what it remembers (ranks) is for speed alone */
void scheduler_free(struct scheduler *s);
void scheduler_forget(struct scheduler *s); /* the index is another one now */

/* Returns whether marks are left. */
bool schedule(struct scheduler *s, struct plan *p);
