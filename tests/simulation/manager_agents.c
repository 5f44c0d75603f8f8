/* See manager_world.h: who runs the tasks.
 *
 * An agent is a machine with containers. It looks at what the leader's store assigns to its node, moves each task a
 * few states on, and reports, as the dispatcher does for real ones. It outlives managers; when its machine loses
 * power its tasks fail, when it is merely cut off they run on. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/orchestrator/intent.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

enum { REPORTS = 64 };

struct report {
    uint8_t task[16];
    TaskState state;
};

struct agent {
    struct msim *world;
    unsigned number;
    uint8_t node_id[16];
    bool up;            /* the machine */
    struct map64 tasks; /* task number -> state here + 1 */
    bool busy;          /* `write` is submitted */
    struct control_write write;
    struct report reports[REPORTS];
    size_t report_count;
};

static void agent_tick(struct msim *w, struct msim_event *e);

static void agent_soon(struct agent *a)
{
    msim_schedule(a->world, 20000 + (int64_t)msim_below(a->world, 80000),
                  (struct msim_event){.fire = agent_tick, .number = a->number});
}

static void agent_done(struct control_write *write, const struct err *e, uint64_t index)
{
    (void)e; /* it looks again */
    (void)index;
    container_of(write, struct agent, write)->busy = false;
}

static int agent_make_node(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct agent *a = container_of(write, struct agent, write);
    Node node = NODE__INIT;
    NodeDescription description = NODE_DESCRIPTION__INIT;
    char hostname[16];

    if (draft_find_id(d, KIND_NODE, a->node_id))
        return 0;
    (void)snprintf(hostname, sizeof(hostname), "agent%u", a->number);
    description.hostname = hostname;
    node.id = (ProtobufCBinaryData){.len = 16, .data = a->node_id};
    node.description = &description;
    plan_create(p, KIND_NODE, &node);
    return 0;
}

static int agent_set_state(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct agent *a = container_of(write, struct agent, write);
    uint64_t number = draft_find_id(d, KIND_NODE, a->node_id);

    return number ? node_set_state(p, number, a->up ? NODE_STATE__UP : NODE_STATE__DOWN, "", NULL, e) : 0;
}

static int agent_report(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct agent *a = container_of(write, struct agent, write);
    struct index_node *node = index_node_by_id(p->index, a->node_id);

    for (size_t i = 0; node && i < a->report_count; i++) {
        Status status = STATUS__INIT;

        status.state = a->reports[i].state;
        plan_report(p, node, a->reports[i].task, &status);
    }
    return 0;
}

static void agent_submit(struct agent *a, struct msim_manager *m,
                         int (*execute)(struct control_write *w, struct draft *d, struct plan *p, struct err *e))
{
    a->write = (struct control_write){.background = true, .execute = execute, .done = agent_done};
    a->busy = true;
    control_submit(m->control, &a->write);
}

/* What a task becomes next, if it does. */
static TaskState agent_move(struct agent *a, TaskState state, TaskState desired)
{
    struct msim *w = a->world;

    if (state > TASK_STATE__RUNNING || msim_chance(w, 30))
        return state;
    if (desired >= TASK_STATE__SHUTDOWN)
        return TASK_STATE__SHUTDOWN;
    switch (state) {
    case TASK_STATE__ASSIGNED:
        return TASK_STATE__PREPARING;
    case TASK_STATE__PREPARING:
        return w->faults && msim_chance(w, 4) ? TASK_STATE__REJECTED : TASK_STATE__READY;
    case TASK_STATE__READY:
        return desired > TASK_STATE__READY ? TASK_STATE__STARTING : TASK_STATE__READY;
    case TASK_STATE__STARTING:
        return w->plant == PLANT_CONVERGE ? TASK_STATE__STARTING : TASK_STATE__RUNNING;
    case TASK_STATE__RUNNING:
        if (w->faults && msim_chance(w, 1))
            return msim_chance(w, 50) ? TASK_STATE__FAILED : TASK_STATE__COMPLETE;
        return TASK_STATE__RUNNING;
    default:
        return state;
    }
}

static void agent_see(struct agent *a, struct map64 *kept, const Task *task, const Status *status, uint64_t number)
{
    uint64_t here = (uint64_t)(uintptr_t)map64_get(&a->tasks, number);
    TaskState state = (TaskState)MAX(here ? here - 1 : 0, (uint64_t)status->state);

    if (status->state < TASK_STATE__ASSIGNED)
        return;
    state = agent_move(a, state, task->desired_state);
    map64_put(kept, number, (void *)(uintptr_t)((uint64_t)state + 1));
    if (state <= status->state || a->report_count == REPORTS)
        return;
    struct report *r = &a->reports[a->report_count++];
    memcpy(r->task, task->id.data, sizeof(r->task));
    r->state = state;
}

/* Look at all tasks of the node, as applied. What is not assigned any more is forgotten. */
static void agent_look(struct agent *a, struct msim_manager *m, uint64_t node)
{
    struct index_node *n = index_node(control_index(m->control), node);
    struct view *v = view_begin(m->store);
    struct map64 kept = {0};
    struct index_walk walk = {0};
    struct index_task *t;
    struct arena arena;

    arena_init(&arena);
    a->report_count = 0;
    while (n && (t = index_node_next(n, &walk))) {
        struct object task, status;

        if (view_get(v, KIND_TASK, t->number, &arena, &task) == 0 &&
            view_get(v, KIND_STATUS, t->number, &arena, &status) == 0 && ((const Task *)task.message)->node == node)
            agent_see(a, &kept, (const Task *)task.message, (const Status *)status.message, t->number);
    }
    map64_fini(&a->tasks);
    a->tasks = kept;
    view_end(v);
    arena_fini(&arena);
}

/* Power is lost: what ran has failed when the machine is back. */
static void agent_power_off(struct agent *a)
{
    for (size_t at = 0; a->tasks.slots && at <= a->tasks.mask; at++) {
        struct map64_slot *slot = &a->tasks.slots[at];

        if (slot->value && (uint64_t)(uintptr_t)slot->value <= TASK_STATE__RUNNING + 1)
            slot->value = (void *)(uintptr_t)(TASK_STATE__FAILED + 1);
    }
}

static void agent_fate(struct agent *a)
{
    struct msim *w = a->world;

    if (!w->faults) {
        a->up = true;
    } else if (a->up && msim_chance(w, 1)) {
        a->up = false;
        if (msim_chance(w, 50))
            agent_power_off(a);
    } else if (!a->up && msim_chance(w, 3)) {
        a->up = true;
    }
}

static void agent_tick(struct msim *w, struct msim_event *e)
{
    struct agent *a = w->agents[e->number];
    struct msim_manager *m = msim_leader(w);

    agent_soon(a);
    agent_fate(a);
    if (!m || a->busy)
        return;
    struct view *v = view_begin(m->store);
    uint64_t node = view_find_id(v, KIND_NODE, a->node_id);
    view_end(v);
    const struct index_node *n = node ? index_node(control_index(m->control), node) : NULL;
    if (!node) {
        agent_submit(a, m, agent_make_node);
    } else if (n && n->state != (a->up ? NODE_STATE__UP : NODE_STATE__DOWN)) {
        agent_submit(a, m, agent_set_state);
    } else if (a->up) {
        agent_look(a, m, node);
        if (a->report_count)
            agent_submit(a, m, agent_report);
    }
}

void agents_make(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_AGENTS; i++) {
        struct agent *a = w->agents[i] = mem_alloc(sizeof(*a));

        a->world = w;
        a->number = i;
        a->up = true;
        memset(a->node_id, 'a' + (int)i, sizeof(a->node_id));
        agent_soon(a);
    }
}

void agents_free(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_AGENTS; i++) {
        map64_fini(&w->agents[i]->tasks);
        free(w->agents[i]);
    }
}
