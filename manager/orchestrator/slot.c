/* One slot of a service: what is to become of its tasks (orchestrator.h).
 *
 * A slot normally has one task that is to run, the newest, and dead ones before it. Then this file has nothing to
 * do. Otherwise, in this order:
 *
 *  - The service is gone, or the newest task was told to vanish: all go.
 *  - A task that is to run ended, or its node can hold it no longer: it is told to shut down, and if the restart
 * policy allows, a new task takes the slot (section 11). It is prepared at once (desired state READY) and started
 * later.
 *  - A prepared task whose delay is over starts as soon as no older task of the slot still runs; a task that does
 * not stop within 60 s, or whose node is down, is not waited for.
 *  - A task that is being replaced is told to shut down when its replacement is prepared (stop-first) or runs
 *    (start-first). So an image is pulled before anything stops, unlike in Docker; what the user asked for still
 *    holds, the two never run together in stop-first. When the replacement finds no node because the old task holds
 * what it needs (a port, memory), the old one goes at once, as it does in Docker.
 *
 * All of it is decided from the tasks as they are, so a new leader goes on in the middle. */
#include "manager/orchestrator/orchestrator.h"
#include "manager/orchestrator/restart.h"
#include "manager/scheduler/filter.h"

#define STOP_WAIT_MS 60000 /* how long a replacement waits for its predecessor to stop */

static inline struct index_task *newest_of(const struct index_slot *slot)
{
    return list_last(&slot->tasks, struct index_task, by_slot);
}

static bool again(struct plan *p, struct index_slot *slot)
{
    index_mark_slot(p->index, slot);
    return false;
}

/* --- vanishing --------------------------------------------------------------------------------------------- */

static bool never_ran(const struct index_task *t)
{
    return t->state < TASK_STATE__ASSIGNED;
}

bool slot_remove(struct plan *p, struct index_slot *slot)
{
    struct index_task *t, *after;
    uint32_t left = slot->task_count;

    list_each_safe (t, after, &slot->tasks, by_slot) {
        if (plan_room(p) < PLAN_STEP_OBJECTS / 4)
            return again(p, slot);
        left--;
        if (index_task_ended(t) || never_ran(t)) {
            plan_remove_task(p, t);
            if (!left)
                break; /* the slot may be gone */
        } else {
            plan_set_desired(p, t, TASK_STATE__REMOVE);
        }
    }
    return true;
}

/* --- restarting ---------------------------------------------------------------------------------------------- */

static struct index_task *newer_live(const struct index_task *t)
{
    struct index_task *holder = t->slot->holder;

    return holder && holder->number > t->number && index_task_live(holder) ? holder : NULL;
}

static void restart(struct plan *p, struct index_task *old, const struct index_node *node)
{
    bool drained = node && node->exists && node->availability == NODE_AVAILABILITY__DRAIN;
    bool is_global = service_is_global(old->slot->service);

    plan_new_task(p, &(struct plan_new_task){
                         .service = old->slot->service,
                         .slot = is_global ? 0 : old->slot->key,
                         .node = is_global && node ? node->number : 0,
                         .desired = TASK_STATE__READY,
                         .start_at_ms = p->now_ms + (drained ? 0 : old->spec->restart_delay_ms),
                         .predecessor = old->number,
                         .restarted = true,
                     });
}

/* The replacement ended for good while what it was to replace still runs: that goes too, as in Docker, unless the
 * update was halted because of it. */
static void give_up(struct plan *p, struct index_slot *slot)
{
    struct index_task *t;

    if (!slot->live_count || !update_goes_on(slot->service))
        return;
    list_each (t, &slot->tasks, by_slot)
        if (index_task_live(t) && !index_task_clean(t))
            plan_set_desired(p, t, TASK_STATE__SHUTDOWN);
}

/* A task that is to run but cannot: its end is noted, and the policy asked. */
static void replace_ended(struct plan *p, struct index_task *t)
{
    struct index_slot *slot = t->slot;
    struct index_node *node = index_task_node(t);
    bool ended = index_task_ended(t), is_global = service_is_global(slot->service);

    if (ended && t->desired == TASK_STATE__READY && p->now_ms < t->start_at_ms) {
        heap_put(&p->index->task_timers, &t->timer, t->start_at_ms); /* its own delay comes first */
        return;
    }
    bool replaced = newer_live(t), allowed = restart_allowed(t);
    if (ended)
        update_on_ended(p, t);
    plan_set_desired(p, t, TASK_STATE__SHUTDOWN);
    if (replaced || update_has_clean(t))
        return;
    if (allowed && !(is_global && !(node && index_node_valid(node))))
        restart(p, t, node);
    else
        give_up(p, slot);
}

/* From the newest, because tasks that are to run come before a long history there. */
static bool restarts(struct plan *p, struct index_slot *slot)
{
    uint32_t live = slot->live_count;
    struct list *at, *before;

    if (!slot->service->current)
        return true;
    for (at = slot->tasks.prev; live && at != &slot->tasks; at = before) {
        struct index_task *t = list_entry(at, struct index_task, by_slot);
        const struct index_node *node = index_task_node(t);

        before = at->prev;
        if (!index_task_live(t))
            continue;
        live--;
        if (!index_task_ended(t) && (!node || index_node_valid(node)))
            continue;
        if (plan_room(p) < PLAN_STEP_OBJECTS / 2)
            return again(p, slot);
        replace_ended(p, t);
    }
    return true;
}

/* --- starting --------------------------------------------------------------------------------------------------
 */

/* Until when `t` waits for an older task that may still run; 0: not at all; INT64_MAX: until something changes. */
static int64_t wait_for(const struct index_task *older)
{
    const struct index_node *node = index_task_node(older);

    if (!node || index_task_ended(older) || older->state < TASK_STATE__ASSIGNED || !node->exists ||
        node->state == NODE_STATE__DOWN)
        return 0;
    return index_task_live(older) ? INT64_MAX : older->desired_ms + STOP_WAIT_MS;
}

static int64_t start_time(const struct index_task *t)
{
    int64_t at = t->start_at_ms;
    struct index_task *older;

    list_each (older, &t->slot->tasks, by_slot) {
        if (older == t)
            break;
        at = MAX(at, wait_for(older));
    }
    return at;
}

static void start(struct plan *p, struct index_slot *slot)
{
    struct index_task *t = slot->holder;

    if (!t || t->desired != TASK_STATE__READY || index_task_ended(t))
        return;
    int64_t at = start_time(t);
    if (at <= p->now_ms)
        plan_set_desired(p, t, TASK_STATE__RUNNING);
    else if (at != INT64_MAX)
        heap_put(&p->index->task_timers, &t->timer, at);
}

/* --- replacing --------------------------------------------------------------------------------------------------
 */

/* Whether `old` may stop now that `new` is to take its place. */
static bool may_stop(const struct index_task *old, const struct index_task *new)
{
    if (old->state < TASK_STATE__RUNNING)
        return true; /* it serves nobody */
    if (index_task_ended(new))
        return false; /* it waits for its own successor */
    if (update_config(new->slot->service)->order == UPDATE_ORDER__START_FIRST)
        return new->state == TASK_STATE__RUNNING;
    if (new->state >= TASK_STATE__READY)
        return true;
    return new->state == TASK_STATE__PENDING &&new->err_digest &&filter_fits_without(new, old);
}

static void stop_replaced(struct plan *p, struct index_slot *slot)
{
    struct index_task *new = slot->holder, *t;

    if (slot->live_count < 2 || !new)
        return;
    list_each (t, &slot->tasks, by_slot)
        if (t != new &&index_task_live(t) && may_stop(t, new))
            plan_set_desired(p, t, TASK_STATE__SHUTDOWN);
}

bool slot_step(struct plan *p, struct index_slot *slot)
{
    struct index_service *s = slot->service;
    uint64_t key = slot->key;

    if (!s->exists || newest_of(slot)->desired == TASK_STATE__REMOVE)
        return slot_remove(p, slot);
    if (!restarts(p, slot))
        return false;
    stop_replaced(p, slot);
    start(p, slot);
    if (!reap_slot(p, slot))
        return false;
    if (service_is_global(s)) {
        struct index_node *node = index_node(p->index, key & ~INDEX_SLOT_NODE);

        if (node)
            global_node_step(p, s, node);
    }
    return true;
}
