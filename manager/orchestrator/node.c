/* A node that changed: what follows for the tasks on it (reference/swarm-surface.md sections 7, 10 and 15).
 *
 *  - Removed: its tasks are orphaned at once.
 *  - Down for 24 hours: its tasks are orphaned; before, they may come back with it.
 *  - Removed, down or drained: the slots of its tasks are marked, and the restart policy decides there.
 *  - Active, but labels, role or resources changed: tasks whose constraints or reservations no longer hold are
 *    rejected, so that they are replaced elsewhere.
 *  - Global services get a task there, or lose it.
 *
 * All of it costs what is on the node, and the number of global services. */
#include <string.h>

#include "manager/orchestrator/orchestrator.h"

#define ORPHAN_MS (24 * 3600 * INT64_C(1000))

static bool assigned_and_not_ended(const struct index_task *t)
{
    return t->state >= TASK_STATE__ASSIGNED && !index_task_ended(t);
}

static bool orphan_tasks(struct plan *p, struct index_node *n, const char *message)
{
    struct index_share *share;
    struct index_task *t, *after;

    list_each (share, &n->shares, by_node) {
        list_each_safe (t, after, &share->tasks, by_share) {
            if (!assigned_and_not_ended(t))
                continue;
            if (plan_stop(p))
                return false;
            plan_set_status(p, t, TASK_STATE__ORPHANED, message, NULL);
        }
    }
    return true;
}

static bool orphans(struct plan *p, struct index_node *n)
{
    if (!n->exists)
        return orphan_tasks(p, n, "Task belonged to a node that has been deleted");
    int64_t orphan_ms = p->orphan_ms ? p->orphan_ms : ORPHAN_MS;

    if (n->state != NODE_STATE__DOWN || !n->down_since_ms)
        return true;
    if (p->now_ms >= n->down_since_ms + orphan_ms)
        return orphan_tasks(p, n, "Task belonged to a node that has been unreachable for too long");
    heap_put(&p->index->node_timers, &n->timer, n->down_since_ms + orphan_ms);
    return true;
}

static void mark_slots(struct index *x, struct index_node *n)
{
    struct index_walk w = {0};
    struct index_task *t;

    while ((t = index_node_next(n, &w)))
        if (index_task_live(t) || !index_task_ended(t))
            index_mark_slot(x, t->slot); /* a successor may wait for one that is to stop */
}

/* --- enforcing ------------------------------------------------------------------------------------------------ */

struct room { /* what the node offers, less what tasks seen so far reserve */
    int64_t nano_cpus, memory_bytes;
};

static bool generic_offered(const struct index_node *n, const struct demand *d)
{
    for (uint32_t i = 0; i < d->generic_count; i++) {
        int64_t offered = 0;

        for (uint32_t k = 0; k < n->generic_count; k++)
            if (strcmp(n->generic[k].kind, d->generic[i].kind) == 0)
                offered = n->generic[k].amount;
        if (offered < d->generic[i].amount)
            return false;
    }
    return true;
}

/* The constraints that count for a task: its own, and those of the service's present spec if the two differ in
 * their placement alone. But while an update runs, what is outdated is replaced at its pace. */
static bool constraints_allow(const struct index_task *t, const struct index_node *n)
{
    const struct index_service *s = t->spec->service;
    const struct demand *own = &t->spec->demand;
    bool updating = s->has_update && s->update_state != UPDATE_STATE__COMPLETED &&
                    s->update_state != UPDATE_STATE__ROLLBACK_COMPLETED;

    if (!constraints_hold(own->constraints, own->constraint_count, n))
        return false;
    if (!s->current || updating || !index_same_core(t->spec, s->current))
        return true;
    return constraints_hold(s->current->demand.constraints, s->current->demand.constraint_count, n);
}

static bool may_stay(const struct index_task *t, const struct index_node *n, struct room *room)
{
    const struct demand *d = &t->spec->demand;

    if (!constraints_allow(t, n))
        return false;
    if (d->nano_cpus > room->nano_cpus || d->memory_bytes > room->memory_bytes || !generic_offered(n, d))
        return false;
    room->nano_cpus -= d->nano_cpus;
    room->memory_bytes -= d->memory_bytes;
    return true;
}

static bool enforce(struct plan *p, struct index_node *n)
{
    struct room room = {.nano_cpus = n->nano_cpus, .memory_bytes = n->memory_bytes};
    struct index_share *share;
    struct index_task *t, *after;

    list_each (share, &n->shares, by_node) {
        list_each_safe (t, after, &share->tasks, by_share) {
            if (!t->holds_resources || !assigned_and_not_ended(t) || service_is_global(t->spec->service) ||
                may_stay(t, n, &room))
                continue;
            if (plan_stop(p))
                return false;
            plan_set_status(p, t, TASK_STATE__REJECTED, "task rejected by constraint enforcer",
                            "assigned node no longer meets constraints");
        }
    }
    return true;
}

static bool globals(struct plan *p, struct index_node *n)
{
    struct index_service *s;

    list_each (s, &p->index->global_services, global) {
        if (plan_stop(p))
            return false;
        global_node_step(p, s, n);
    }
    return true;
}

bool node_step(struct plan *p, struct index_node *n)
{
    if (!index_node_valid(n))
        mark_slots(p->index, n);
    else if (n->availability == NODE_AVAILABILITY__ACTIVE && !enforce(p, n))
        return false;
    return globals(p, n) && orphans(p, n);
}
