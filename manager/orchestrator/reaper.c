/* What is deleted, and when (reference/swarm-surface.md section 8, DESIGN.md sections 4 and 5).
 *
 * Of a slot the newest tasks are kept, as many as the cluster's history limit says (the one that runs counts), or
 * as the restart policy needs to count its attempts. Only tasks that ended, or that will never run, are deleted;
 * and never the slot's holder, because a slot that ended for good would be filled again. A spec goes with its last
 * task, unless it is the present or the previous one of its service. Stored answers go after ten minutes. */
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/restart.h"

static bool reapable(const struct index_task *t)
{
    if (t->slot->holder == t || index_task_live(t))
        return false;
    return index_task_ended(t) || t->state < TASK_STATE__ASSIGNED;
}

static uint64_t keep_count(const struct plan *p, const struct index_slot *slot)
{
    const struct index_task *newest = list_last(&slot->tasks, struct index_task, by_slot);
    uint64_t keep = restart_history(newest);

    if (slot->service->current && slot->service->current->restart_attempts)
        keep = MAX(keep, slot->service->current->restart_attempts + 1);
    if (keep)
        return keep;
    return p->index->task_history_limit < 0 ? UINT64_MAX : (uint64_t)p->index->task_history_limit;
}

/* One that was told to vanish goes whatever the limit. */
static bool reap(const struct index_task *t, bool too_many)
{
    return reapable(t) && (too_many || t->desired == TASK_STATE__REMOVE);
}

bool reap_slot(struct plan *p, struct index_slot *slot)
{
    uint64_t keep = keep_count(p, slot), count = slot->task_count;
    struct index_task *t, *after;

    if (count <= keep && !slot->leaving)
        return true;
    list_each_safe (t, after, &slot->tasks, by_slot) {
        bool last = t->by_slot.next == &slot->tasks;

        if (plan_room(p) < PLAN_STEP_OBJECTS / 4) {
            index_mark_slot(p->index, slot);
            return false;
        }
        if (reap(t, count > keep)) {
            count--;
            plan_remove_task(p, t);
        }
        if (last)
            break; /* with its last task the slot is gone */
    }
    return true;
}

static bool spec_needed(const struct index_spec *spec)
{
    const struct index_service *s = spec->service;

    return spec->task_count ||
           (s->exists && (spec->version == s->spec_version || spec->version == s->previous_spec_version));
}

bool reap_specs(struct plan *p)
{
    struct index_spec *spec;

    while ((spec = list_first(&p->index->dirty_specs, struct index_spec, reap))) {
        if (plan_stop(p))
            return false;
        list_remove(&spec->reap);
        if (spec->number && !spec_needed(spec))
            plan_remove(p, KIND_SPEC, spec->number);
    }
    return true;
}

bool reap_requests(struct plan *p)
{
    struct index_request *r;

    while ((r = list_first(&p->index->request_ages, struct index_request, by_age)) &&
           (index_request_until_ms(p->index, r) <= p->now_ms || p->index->request_count > INDEX_REQUEST_MAX)) {
        if (plan_stop(p))
            return false;
        plan_remove(p, KIND_REQUEST, r->number);
    }
    return true;
}
