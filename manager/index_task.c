/* Tasks, slots and shares of the index (index.h).
 *
 * A task's two records (task and status) become one struct. Applying either takes the task's contributions out,
 * changes the facts and puts them in again, so there is one place that knows what a task counts for:
 *
 *     detach: slot's holder uncounted; out of slot, spec, share, reservations, stage
 *     change: the facts
 *     attach: the same in reverse; the slot's holder is found again and counted
 *
 * Most changes (preparing, starting, running) leave what placing looks at as it was. A footprint taken before and
 * after tells, so that only real changes reach index_node_changed.
 *
 * The holder of a slot is its newest task that is to run. If there is none, it is its newest task, provided that it
 * ended for good (the restart policy gives it no successor): such a slot is taken, though nothing runs in it.
 * Otherwise the slot is free. Only holders count in the ranking of nodes, because a task that is being replaced is
 * about to go. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/index_internal.h"
#include "manager/orchestrator/restart.h"
#include "proto/base/mem.h"

struct footprint { /* what a task and its slot's holder mean for placing */
    struct index_node *holder, *reserved, *pinned;
};

/* --- shares and slots ------------------------------------------------------------------------------------------
 */

static struct index_share *share_get(struct index *x, struct index_service *s, uint64_t node)
{
    struct index_share *share = index_share_recent(x, s->number, node);

    if (share)
        return share;
    share = mem_alloc(sizeof(*share));
    *share = (struct index_share){
        .service_number = s->number, .node_number = node, .service = s, .node = index_node_get(x, node)};
    list_init(&share->tasks);
    list_push(&share->node->shares, &share->by_node);
    list_push(&s->shares, &share->by_service);
    table_put(&x->shares, share);
    return share;
}

static void share_needless(struct index *x, struct index_share *share)
{
    struct index_node *n = share->node;

    if (!list_empty(&share->tasks))
        return;
    table_remove(&x->shares, &share->service_number);
    list_remove(&share->by_node);
    list_remove(&share->by_service);
    if (x->recent_share == share)
        x->recent_share = NULL;
    free(share);
    index_node_needless(x, n);
}

/* Slots of which the holder runs, or is to run, on the share's node. */
static void share_count(struct index_share *share, int by, int running)
{
    struct index_service *s = share->service;

    s->share_count -= share->counted != 0;
    share->counted += (uint32_t)by;
    share->running += (uint32_t)running;
    share->node->counted += (uint32_t)by;
    s->share_count += share->counted != 0;
}

static struct index_slot *slot_get(struct index_service *s, uint64_t key)
{
    struct index_slot *slot = index_slot(s, key);

    if (slot)
        return slot;
    slot = mem_alloc(sizeof(*slot));
    slot->key = key;
    slot->service = s;
    list_init(&slot->tasks);
    list_init(&slot->dirty);
    list_push(&s->all_slots, &slot->by_service);
    table_put(&s->slots, slot);
    return slot;
}

static void slot_needless(struct index *x, struct index_slot *slot)
{
    struct index_service *s = slot->service;

    if (slot->task_count)
        return;
    if (s->slot_walk == slot)
        s->slot_walk = slot->by_service.next == &s->all_slots
                           ? NULL
                           : list_entry(slot->by_service.next, struct index_slot, by_service);
    if (slot->key & INDEX_SLOT_NODE && s->exists) {
        struct index_node *n = index_node(x, slot->key & ~INDEX_SLOT_NODE);

        if (n)
            index_mark(&x->dirty_nodes, &n->dirty); /* its making was undone: it may be wanted still */
    }
    table_remove(&s->slots, &slot->key);
    list_remove(&slot->by_service);
    list_remove(&slot->dirty);
    free(slot);
    index_service_needless(x, s);
}

/* --- holders ------------------------------------------------------------------------------------------------- */

static struct index_task *find_holder(const struct index_slot *slot)
{
    struct index_task *newest = list_last(&slot->tasks, struct index_task, by_slot);

    for (struct list *at = slot->tasks.prev; slot->live_count && at != &slot->tasks; at = at->prev) {
        struct index_task *t = list_entry(at, struct index_task, by_slot);

        if (index_task_live(t))
            return t;
    }
    /* A task told to vanish leaves its slot. */
    if (!newest || newest->desired >= TASK_STATE__REMOVE || restart_allowed(newest))
        return NULL;
    return newest;
}

static void leave_spec(struct index_task *t)
{
    if (t->spec->walk == t) {
        struct list *next = t->by_spec.next;

        t->spec->walk = next == &t->spec->holders ? NULL : list_entry(next, struct index_task, by_spec);
    }
    list_remove(&t->by_spec);
    t->spec->holder_count--;
}

/* It is to run, has a node, and did not end. */
static bool serves(const struct index_task *t)
{
    return index_task_live(t) && t->share && !index_task_ended(t);
}

static void join_spec(struct index_task *t)
{
    bool idle = !serves(t);

    if (idle)
        list_push_front(&t->spec->holders, &t->by_spec);
    else
        list_push(&t->spec->holders, &t->by_spec);
    t->spec->holder_count++;
    if (idle || !t->spec->walk)
        t->spec->walk = t;
}

static void slot_uncount(struct index_slot *slot)
{
    struct index_task *t = slot->holder;

    if (!t)
        return;
    if (slot->counted)
        share_count(t->share, -1, -(int)slot->counted_running);
    leave_spec(t);
    slot->holder = NULL;
    slot->counted = slot->counted_running = false;
    slot->service->held--;
}

static void slot_count(struct index_slot *slot)
{
    struct index_task *t = find_holder(slot);

    if (!t) {
        slot->service->free_hint = MIN(slot->service->free_hint, slot->key);
        return;
    }
    slot->holder = t;
    slot->service->held++;
    join_spec(t);
    slot->counted = serves(t);
    if (!slot->counted)
        return;
    slot->counted_running = t->state == TASK_STATE__RUNNING;
    share_count(t->share, 1, slot->counted_running);
}

/* --- contributions ---------------------------------------------------------------------------------------------
 */

static void leave_stage(struct index_task *t)
{
    list_remove(&t->stage);
    t->stage_kind = INDEX_STAGE_NONE;
}

/* By the time it settled; at the end, but when an index is built anew. */
static void join_settled(struct index_task *t)
{
    struct list *at = t->spec->settled.prev;

    while (at != &t->spec->settled && list_entry(at, struct index_task, stage)->state_ms > t->state_ms)
        at = at->prev;
    list_insert(at, &t->stage);
    t->stage_kind = INDEX_STAGE_SETTLED;
}

/* It was told the present reason, and what it was told was not undone since. */
static bool explained(const struct index_task *t)
{
    return t->reason == t->spec->reason && t->err_digest == t->spec->reason_digest;
}

static void join_stage(struct index *x, struct index_task *t)
{
    if (t->state >= TASK_STATE__RUNNING) {
        if (t->made)
            join_settled(t);
        return;
    }
    if (!index_task_live(t) || t->state >= TASK_STATE__ASSIGNED)
        return;
    if (t->state < TASK_STATE__PENDING) {
        list_push(&t->spec->service->fresh, &t->stage);
        t->stage_kind = INDEX_STAGE_NEW;
        index_mark_unallocated(x, t->spec->service);
    } else if (t->share) {
        list_push(&t->share->node->pinned, &t->stage);
        t->stage_kind = INDEX_STAGE_PINNED;
    } else {
        list_push(explained(t) ? &t->spec->explained : &t->spec->waiting, &t->stage);
        t->stage_kind = INDEX_STAGE_WAITING;
    }
}

static bool unsettled(const struct index_task *t)
{
    return t->made && index_task_live(t) && t->state < TASK_STATE__RUNNING;
}

static void detach(struct index *x, struct index_task *t)
{
    slot_uncount(t->slot);
    leave_stage(t);
    t->spec->unsettled -= unsettled(t);
    t->spec->task_count--;
    t->slot->live_count -= index_task_live(t);
    t->slot->leaving -= t->desired == TASK_STATE__REMOVE;
    t->slot->task_count--;
    list_remove(&t->by_slot);
    if (t->holds_resources)
        index_node_reserve(t->share->node, &t->spec->demand, -1);
    t->holds_resources = false;
    if (t->share)
        list_remove(&t->by_share);
}

static void attach(struct index *x, struct index_task *t)
{
    struct list *at = t->slot->tasks.prev;

    while (at != &t->slot->tasks && list_entry(at, struct index_task, by_slot)->number > t->number)
        at = at->prev;
    list_insert(at, &t->by_slot);
    t->slot->task_count++;
    t->slot->live_count += index_task_live(t);
    t->slot->leaving += t->desired == TASK_STATE__REMOVE;
    t->spec->task_count++;
    t->spec->unsettled += unsettled(t);
    if (t->share)
        list_push(&t->share->tasks, &t->by_share);
    t->holds_resources =
        t->share && t->state >= TASK_STATE__ASSIGNED && !index_task_ended(t) && t->desired <= TASK_STATE__COMPLETE;
    if (t->holds_resources)
        index_node_reserve(t->share->node, &t->spec->demand, 1);
    join_stage(x, t);
    slot_count(t->slot);
}

static struct footprint footprint(const struct index_slot *slot, const struct index_task *t)
{
    return (struct footprint){
        .holder = slot->counted ? slot->holder->share->node : NULL,
        .reserved = t && t->holds_resources ? t->share->node : NULL,
        .pinned = t && t->stage_kind == INDEX_STAGE_PINNED ? t->share->node : NULL,
    };
}

static void compare_footprints(struct index *x, struct footprint before, struct footprint after)
{
    struct index_node *left[] = {before.holder, before.reserved}, *come[] = {after.holder, after.reserved};

    for (size_t i = 0; i < 2; i++)
        if (left[i] && left[i] != come[i] && !(i && left[1] == left[0] && left[0] != come[0]))
            index_node_changed(x, left[i], true);
    for (size_t i = 0; i < 2; i++)
        if (come[i] && come[i] != left[i] && !(i && come[1] == come[0] && come[0] != left[0]))
            index_node_changed(x, come[i], false);
    if (after.pinned && before.pinned != after.pinned)
        index_mark(&x->confirm, &after.pinned->confirm);
}

struct index_task **index_detach_tasks(struct index *x, struct index_spec *spec)
{
    struct index_task **tasks = mem_array(spec->task_count + 1, sizeof(struct index_task *)), *t;
    struct index_walk w = {0};
    size_t count = 0;

    while ((t = index_service_next(spec->service, &w)))
        if (t->spec == spec)
            tasks[count++] = t;
    for (size_t i = 0; i < count; i++)
        detach(x, tasks[i]);
    return tasks;
}

void index_attach_tasks(struct index *x, struct index_task **tasks)
{
    for (size_t i = 0; tasks[i]; i++) {
        attach(x, tasks[i]);
        index_mark_slot(x, tasks[i]->slot);
        if (tasks[i]->share)
            index_node_changed(x, tasks[i]->share->node, true);
    }
    free(tasks);
}

/* --- applying ------------------------------------------------------------------------------------------------- */

void index_free_task(struct index_task *t)
{
    free(t);
}

static void set_facts(struct index *x, struct index_task *t, const struct object *o)
{
    const Task *task = (const Task *)o->message;

    t->created_ms = o->created_ms;
    t->desired_ms = o->updated_ms;
    t->start_at_ms = task->start_at_ms;
    t->predecessor = task->predecessor;
    t->desired = (uint16_t)task->desired_state;
    t->restarted = task->restarted;
    t->made = task->predecessor && !task->restarted;
    t->share = task->node ? share_get(x, t->spec->service, task->node) : NULL;
}

static struct index_task *task_new(struct index *x, uint64_t number, const Task *task)
{
    struct index_service *s = index_service_get(x, task->service);
    struct index_task *t = mem_alloc(sizeof(*t));

    t->number = number;
    memcpy(t->id, task->id.data, MIN(task->id.len, sizeof(t->id)));
    t->spec = index_spec_get(x, s, task->spec_version);
    t->slot = slot_get(s, task->slot ? task->slot : INDEX_SLOT_NODE | task->node);
    struct list *links[] = {&t->by_slot, &t->by_share, &t->by_spec, &t->stage};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        list_init(links[i]);
    table_put(&x->tasks, t);
    table_put(&x->tasks_by_id, t);
    return t;
}

static void needless(struct index *x, struct index_slot *slot, struct index_spec *spec)
{
    if (!spec->task_count)
        index_mark_spec(x, spec);
    index_spec_needless(x, spec);
    slot_needless(x, slot);
}

/* A task may have changed: mark who looks at it. */
static void marks(struct index *x, struct index_task *t)
{
    index_mark_slot(x, t->slot);
    if (t->stage_kind == INDEX_STAGE_WAITING && (!explained(t) || list_empty(&t->spec->dirty)))
        index_mark_class(x, t->spec);
}

static void task_remove(struct index *x, struct index_task *t)
{
    struct footprint before = footprint(t->slot, t);
    struct index_slot *slot = t->slot;
    struct index_share *share = t->share;

    detach(x, t);
    if (x->recent_task == t)
        x->recent_task = NULL;
    table_remove(&x->tasks, &t->number);
    table_remove(&x->tasks_by_id, t->id);
    heap_remove(&x->task_timers, &t->timer);
    slot_count(slot);
    compare_footprints(x, before, footprint(slot, NULL));
    index_mark_slot(x, slot);
    if (share)
        share_needless(x, share);
    struct index_spec *spec = t->spec;
    index_free_task(t);
    needless(x, slot, spec);
}

void index_apply_task(struct index *x, const struct object *before, const struct object *after)
{
    bool present = after && after->message;
    struct index_task *t = index_task_recent(x, present ? after->number : before->number);
    struct footprint was = {0};
    struct index_share *share = NULL;

    if (!present) {
        if (t)
            task_remove(x, t);
        return;
    }
    if (t) {
        was = footprint(t->slot, t);
        share = t->share;
        detach(x, t);
    } else {
        t = task_new(x, after->number, (const Task *)after->message);
        was = footprint(t->slot, NULL);
        slot_uncount(t->slot);
    }
    set_facts(x, t, after);
    attach(x, t);
    compare_footprints(x, was, footprint(t->slot, t));
    marks(x, t);
    if (share && share != t->share)
        share_needless(x, share);
}

static bool failed(TaskState state)
{
    return state == TASK_STATE__FAILED || state == TASK_STATE__REJECTED;
}

/* Failures are counted as they happen and uncounted when that is undone; a task that came failed (a rebuilt index)
 * counts for nothing: the ranking forgets them with the leader. */
static void count_failure(struct index *x, struct index_task *t, const Status *before, const Status *after)
{
    if (!before || !after || !t->share || failed(before->state) == failed(after->state))
        return;
    if (failed(after->state))
        index_add_failure(x, t->share->node, t->spec, after->applied_ms);
    else
        index_drop_failure(x, t->share->node, t->spec);
}

void index_apply_status(struct index *x, uint64_t number, const Status *before, const Status *after)
{
    struct index_task *t = index_task_recent(x, number);

    if (!t)
        return; /* its task went first */
    struct footprint was = footprint(t->slot, t);
    if (t->share && after && after->state < t->state)
        index_mark(&x->dirty_nodes, &t->share->node->dirty); /* undone: what the node's change asked for is open */
    detach(x, t);
    t->state = after ? (uint16_t)after->state : TASK_STATE__NEW;
    t->state_ms = after ? after->applied_ms : 0;
    t->running_ms = after ? after->running_ms : 0;
    t->err_digest = after ? index_text_digest(after->err) : 0;
    attach(x, t);
    compare_footprints(x, was, footprint(t->slot, t));
    count_failure(x, t, before, after);
    marks(x, t);
}
