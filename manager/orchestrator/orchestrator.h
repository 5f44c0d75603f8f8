/* The orchestrator: which tasks should exist (reference/swarm-surface.md sections 7, 8, 10, 11 and 12).
 *
 * It works off what is marked in the index, step by step, until nothing is or the plan says stop. A second call on
 * an unchanged state writes nothing. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/plan.h"

/* Returns whether marks are left. */
bool orchestrate(struct plan *p);

/* --- its parts, each with its rules in its own file ------------------------------------------------------ */

/* All return false when the plan stopped before they were done: call again in the next one. */

/* A slot whose tasks or nodes changed: restarts, starts that were waited for, tasks that were replaced, history. */
bool slot_step(struct plan *p, struct index_slot *slot);
/* A node that changed: what it can no longer hold, and what global services want of it. */
bool node_step(struct plan *p, struct index_node *node);
/* Replicated: as many slots as wanted. */
bool replicated_step(struct plan *p, struct index_service *s);
/* Global: one task on each node that fits. */
bool global_step(struct plan *p, struct index_service *s);
void global_node_step(struct plan *p, struct index_service *s, struct index_node *node);
/* Rolling update and rollback. */
bool update_step(struct plan *p, struct index_service *s);
/* A task ended that was to run; called once for each, before it is replaced. */
void update_on_ended(struct plan *p, struct index_task *t);
/* Whether tasks that are being replaced are to be stopped in favour of one that will never run: true unless the
 * update was halted because of it. */
bool update_goes_on(const struct index_service *s);
/* How the present update, or rollback, of the service goes. */
const struct index_update *update_config(const struct index_service *s);
/* Another task of the slot that is to run, has a node and is what the present spec would make. */
bool update_has_clean(const struct index_task *t);
/* Delete old and needless tasks of a slot. */
bool reap_slot(struct plan *p, struct index_slot *slot);
/* Delete specs that nothing names any more, and stored answers that are old. */
bool reap_specs(struct plan *p);
bool reap_requests(struct plan *p);

/* Make a slot vanish: all its tasks are told to, what ended or never ran is deleted. */
bool slot_remove(struct plan *p, struct index_slot *slot);

static inline bool service_is_global(const struct index_service *s)
{
    return s->current && s->current->mode == SERVICE_MODE__GLOBAL;
}
