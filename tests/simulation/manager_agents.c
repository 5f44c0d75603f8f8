/* See manager_world.h: who runs the tasks.
 *
 * An agent is a process on a machine with an engine. What it decides is the production code's (agent/task,
 * agent/assignment, agent/report), driven as agent/worker.c and agent/session.c drive it; the engine is made here:
 * actions take time and fail, containers die. The process may be killed: its ledger and its containers stay. The
 * machine may lose its power: then containers have ended when it is back. When it is merely cut off they run on.
 *
 * What must hold, whatever happens (checker "agent"): no task's container is started twice; none is stopped or
 * removed while it runs unless the managers have agreed that its task is to end, or is gone; every message of a
 * manager makes sense. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/assignment.h"
#include "agent/report.h"
#include "agent/task.h"
#include "proto/base/ident.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "tests/simulation/manager_conn.h"

struct work { /* one task on this machine */
    struct agent *agent;
    char key[IDENT_TEXT + 1];
    uint8_t id[16];
    /* On its disk, and in its engine. */
    AssignmentItem *item; /* in the ledger; NULL: not there */
    TaskState state;      /* in the ledger: the last one reported; 0: none */
    enum task_container container;
    int exit_code;
    unsigned starts;
    /* In the process. */
    struct task_in in;
    struct err error;
    uint64_t action; /* number of the one under way */
    uint64_t wake;   /* of the next look */
    bool image_here;
    bool known; /* a manager has named it, or the ledger */
    bool swept;
};

struct agent {
    struct msim *world;
    unsigned number;
    uint8_t node_id[16];
    char node_text[IDENT_TEXT + 1];
    bool machine_up, process_up;
    uint64_t life; /* of the process */
    struct map works;
    struct map specs; /* key -> AssignmentItem in the ledger */
    uint8_t instance[16];
    struct assignment *assignment;
    struct report *report;
    bool was_complete; /* a full set was known in this life */
    struct conn *conn;
    bool ready;
    int64_t period_ms;
    uint64_t target; /* manager to be asked next; 0: any */
    uint64_t session, tick;
    bool row_made; /* its row was seen */
    bool busy;     /* `write` is on its way */
    struct msim_ask ask;
    struct control_write write;
};

static void advance(struct work *work);
static void flush(struct agent *a);
static void connect_later(struct agent *a, int64_t most_us);

/* --- events of one life of a process ---------------------------------------------------------------- */

struct due {
    struct agent *agent;
    uint64_t life, number;
    char key[IDENT_TEXT + 1];
};

static void later(struct agent *a, int64_t after_us, void (*fire)(struct msim *w, struct msim_event *e),
                  const char *key, uint64_t number)
{
    struct due due = {.agent = a, .life = a->life, .number = number};

    if (key)
        memcpy(due.key, key, sizeof(due.key));
    msim_schedule(a->world, after_us, (struct msim_event){.fire = fire, .pointer = mem_dup(&due, sizeof(due))});
}

static struct agent *alive(const struct msim_event *e)
{
    const struct due *due = e->pointer;

    return due->agent->process_up && due->agent->life == due->life ? due->agent : NULL;
}

static struct work *work_of(const struct msim_event *e)
{
    const struct due *due = e->pointer;
    struct agent *a = alive(e);

    return a ? map_get(&a->works, due->key) : NULL;
}

/* --- the engine ------------------------------------------------------------------------------------- */

static void work_free(struct work *work)
{
    message_free(work->item);
    free(work);
}

static struct work *work_new(struct agent *a, const uint8_t id[16])
{
    struct work *work = mem_alloc(sizeof(*work));

    work->agent = a;
    memcpy(work->id, id, sizeof(work->id));
    ident_format(id, work->key);
    work->in.error = &work->error;
    map_put(&a->works, work->key, work);
    return work;
}

static void check_may_end(const struct work *work, const char *what)
{
    struct msim *w = work->agent->world;

    if (work->container == TASK_CONTAINER_ALIVE && !msim_told_to_end(w, work->id))
        msim_fail(w, "agent", "agent %u %s task %s, which is to run", work->agent->number, what, work->key);
}

/* What an action does, at its end; the code that it ends with. */
static int perform(struct work *work, enum task_action action)
{
    struct msim *w = work->agent->world;
    bool fails = w->faults && msim_chance(w, 5);

    if (fails && action != TASK_REMOVE && action != TASK_STOP)
        return msim_chance(w, 50) ? ERR_UNAVAILABLE : ERR_INVALID;
    switch (action) {
    case TASK_PULL:
        work->image_here = true;
        return 0;
    case TASK_CREATE:
        work->container = TASK_CONTAINER_CREATED;
        return 0;
    case TASK_START:
        if (work->starts++)
            msim_fail(w, "agent", "agent %u starts task %s twice", work->agent->number, work->key);
        work->container = TASK_CONTAINER_ALIVE;
        w->counts.started++;
        return 0;
    case TASK_STOP:
        check_may_end(work, "stops");
        work->container = TASK_CONTAINER_EXITED;
        return 0;
    default:
        check_may_end(work, "removes");
        work->container = TASK_CONTAINER_NONE;
        return 0;
    }
}

static void note_end(struct work *work, enum task_action action, int code)
{
    struct agent *a = work->agent;

    work->in.busy = TASK_NOTHING;
    if (code == 0) {
        work->in.failed = TASK_NOTHING;
        work->in.attempts = 0;
        return;
    }
    work->in.attempts = work->in.failed == action ? work->in.attempts + 1 : 1;
    work->in.failed = action;
    work->in.told = false;
    work->in.failed_ms = a->world->now_us / 1000;
    err_set(&work->error, code, "the simulation lets it fail");
    a->world->counts.actions_failed++;
}

static void fire_action(struct msim *w, struct msim_event *e)
{
    struct work *work = work_of(e);
    const struct due *due = e->pointer;

    (void)w; /* the agent knows */
    if (!work || work->in.busy == TASK_NOTHING || work->action != due->number)
        return;
    enum task_action action = work->in.busy;
    note_end(work, action, perform(work, action));
    advance(work);
}

static void begin(struct work *work, enum task_action action)
{
    work->in.busy = action;
    later(work->agent, 1000 + (int64_t)msim_below(work->agent->world, 60000), fire_action, work->key,
          ++work->action);
}

/* A pull that is given up ends at once. */
static void cancel(struct work *work)
{
    later(work->agent, 100, fire_action, work->key, work->action);
}

/* --- the worker: as agent/worker.c ------------------------------------------------------------------ */

static void say(struct work *work, const struct task_step *step)
{
    struct agent *a = work->agent;
    Status status = STATUS__INIT;

    work->in.told = true;
    work->in.state = step->state;
    if (a->world->plant == PLANT_CONVERGE && step->state == TASK_STATE__RUNNING)
        return;
    status.state = step->state;
    status.message = (char *)step->message;
    status.err = *step->err ? (char *)step->err : NULL;
    if (!work->item)
        return;
    work->state = step->state;
    report_put(a->report, work->id, &status);
    flush(a);
}

static void fire_wake(struct msim *w, struct msim_event *e)
{
    struct work *work = work_of(e);
    const struct due *due = e->pointer;

    (void)w; /* the agent knows */
    if (work && work->wake == due->number)
        advance(work);
}

static void forget(struct work *work)
{
    report_drop(work->agent->report, work->id);
    map_remove(&work->agent->works, work->key);
    work_free(work);
}

static void advance(struct work *work)
{
    struct agent *a = work->agent;
    struct task_step step;

    if (!work->known && !work->swept)
        return;
    for (;;) {
        work->in.now_ms = a->world->now_us / 1000;
        work->in.image_here = work->image_here;
        work->in.container = work->container;
        work->in.exit_code = work->exit_code;
        task_next(&work->in, &step);
        if (step.report)
            say(work, &step);
        if (step.action == TASK_FORGET) {
            forget(work);
            return;
        }
        if (step.action == TASK_CANCEL) {
            cancel(work);
            return;
        }
        if (step.action == TASK_CREATE) { /* at once, as in the engine */
            work->in.busy = TASK_CREATE;
            note_end(work, TASK_CREATE, perform(work, TASK_CREATE));
        } else if (step.action != TASK_NOTHING) {
            begin(work, step.action);
            return;
        } else if (!step.report) {
            if (step.wake_ms != INT64_MAX)
                later(a, MAX(step.wake_ms - work->in.now_ms, (int64_t)1) * 1000, fire_wake, work->key,
                      ++work->wake);
            return;
        }
    }
}

static void set_task(struct agent *a, const AssignmentItem *item)
{
    const AssignedTask *task = item->task;
    struct work *work = map_get(&a->works, item->key);

    if (!work)
        work = work_new(a, task->id.data);
    if (!work->known)
        work->in.state = MAX(TASK_STATE__ASSIGNED, work->state);
    if (task->has_state)
        work->in.state = MAX(work->in.state, task->state);
    if (work->item != item) {
        message_free(work->item);
        work->item = message_dup(item);
    }
    work->known = true;
    work->in.assigned = true;
    work->in.desired = task->desired_state;
    advance(work);
}

static void on_set(void *ctx, const AssignmentItem *item)
{
    struct agent *a = ctx;

    if (item->task)
        set_task(a, item);
    else if (!map_get(&a->specs, item->key)) {
        AssignmentItem *copy = message_dup(item);

        map_put(&a->specs, copy->key, copy);
    }
}

static void on_removed(void *ctx, const char *key)
{
    struct agent *a = ctx;
    struct work *work = map_get(&a->works, key);

    if (!work) {
        message_free(map_remove(&a->specs, key));
        return;
    }
    message_free(work->item);
    work->item = NULL;
    work->in.assigned = false;
    advance(work);
}

/* All works, so that each may be forgotten meanwhile. */
static void each_work(struct agent *a, void (*each)(struct work *work))
{
    size_t count = 0, at = 0;
    AUTO_FREE
    struct work **all = mem_array(a->works.count + 1, sizeof(*all));
    struct work *work;

    while ((work = map_next(&a->works, &at)))
        all[count++] = work;
    for (size_t i = 0; i < count; i++)
        each(all[i]);
}

static void sweep(struct work *work)
{
    if (work->known)
        return;
    work->swept = true;
    advance(work);
}

/* --- the session: as agent/session.c ---------------------------------------------------------------- */

static void send_message(struct agent *a, const AgentMessage *message)
{
    size_t size = agent_message__get_packed_size(message);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size + 1);

    agent_message__pack(message, packed);
    conn_send(a->conn, packed, size);
}

static void flush(struct agent *a)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    while (a->conn && a->ready && (message.report = report_next(a->report, &arena))) {
        send_message(a, &message);
        report_sent(a->report, message.report);
    }
}

static void fire_heartbeat(struct msim *w, struct msim_event *e)
{
    struct agent *a = alive(e);
    const struct due *due = e->pointer;
    AgentMessage message = AGENT_MESSAGE__INIT;

    (void)w; /* the agent knows */
    if (!a || !a->conn || a->session != due->number)
        return;
    message.has_heartbeat = message.heartbeat = true;
    send_message(a, &message);
    later(a, a->period_ms * 1000, fire_heartbeat, NULL, a->session);
}

static void on_ready(struct agent *a, const SessionReady *ready)
{
    bool first = !a->ready;

    a->period_ms = ready->heartbeat_period_ms;
    a->ready = true;
    if (!first)
        return;
    a->world->counts.sessions++;
    later(a, a->period_ms * 1000, fire_heartbeat, NULL, a->session);
    flush(a);
}

static void on_assignment(struct agent *a, const Assignment *assignment)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    struct err e;
    int rc = assignment_apply(a->assignment, assignment, &e);

    if (rc == ERR_SEQUENCE) {
        a->world->counts.resyncs++;
        assignment_new_session(a->assignment);
        message.has_resync = true;
        message.resync = assignment_sequence(a->assignment);
        send_message(a, &message);
    } else if (rc < 0) {
        msim_fail(a->world, "agent", "agent %u was assigned what makes no sense: %s", a->number, e.text);
    }
    if (rc == 0 && !a->was_complete && assignment_complete(a->assignment)) {
        a->was_complete = true;
        each_work(a, sweep);
    }
}

static void hang_up(struct agent *a, int64_t again_us)
{
    if (a->conn)
        conn_drop(a->conn);
    a->conn = NULL;
    a->ready = false;
    connect_later(a, again_us);
}

static void on_message(void *ctx, const void *data, size_t size)
{
    struct agent *a = ctx;
    ManagerMessage *m = manager_message__unpack(NULL, size, data);

    if (!m) {
        msim_fail(a->world, "agent", "agent %u was sent what cannot be read", a->number);
        return;
    }
    if (m->ready)
        on_ready(a, m->ready);
    else if (m->assignment)
        on_assignment(a, m->assignment);
    else if (m->has_report_ack)
        report_acknowledged(a->report, m->report_ack);
    if (m->redirect) {
        a->world->counts.redirects++;
        a->target = strtoull(m->redirect + 1, NULL, 10);
        hang_up(a, 1000);
    } else if (m->come_back) {
        a->world->counts.come_back++;
        hang_up(a, m->come_back->after_ms * INT64_C(1000));
    } else if (m->has_report_ack) {
        flush(a);
    }
    message_free(m);
}

static void on_closed(void *ctx)
{
    struct agent *a = ctx;

    a->conn = NULL;
    a->ready = false;
    a->target = 0;
    connect_later(a, 300000);
}

static void dial(struct agent *a, struct msim_manager *m)
{
    const struct conn_events events = {.ctx = a, .on_message = on_message, .on_closed = on_closed};
    AgentMessage message = AGENT_MESSAGE__INIT;
    SessionOpen open = SESSION_OPEN__INIT;
    NodeDescription description = NODE_DESCRIPTION__INIT;
    char hostname[16];
    uint8_t packed[256];

    (void)snprintf(hostname, sizeof(hostname), "agent%u", a->number);
    description.hostname = hostname;
    open.description = &description;
    open.has_instance = true;
    open.instance = (ProtobufCBinaryData){.len = sizeof(a->instance), .data = a->instance};
    message.open = &open;
    a->session++;
    assignment_new_session(a->assignment);
    report_new_session(a->report);
    size_t size = agent_message__pack(&message, packed);
    a->conn = conn_open(a->world, a->number, m, a->node_text, packed, size, &events);
}

static void fire_connect(struct msim *w, struct msim_event *e)
{
    struct agent *a = alive(e);
    uint64_t id;

    if (!a || a->conn)
        return;
    id = a->target && a->target <= w->manager_count ? a->target : 1 + msim_below(w, w->manager_count);
    a->target = 0;
    if (a->row_made && w->managers[id].up)
        dial(a, &w->managers[id]);
    else
        connect_later(a, 100000);
}

static void connect_later(struct agent *a, int64_t most_us)
{
    later(a, 500 + (int64_t)msim_below(a->world, (uint64_t)MAX(most_us, (int64_t)1)), fire_connect, NULL, 0);
}

/* --- joining ---------------------------------------------------------------------------------------- */

static int make_row(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct agent *a = container_of(write, struct agent, write);
    Node node = NODE__INIT;

    (void)e; /* nothing can fail */
    if (draft_find_id(d, KIND_NODE, a->node_id))
        return 0;
    node.id = (ProtobufCBinaryData){.len = 16, .data = a->node_id};
    plan_create(p, KIND_NODE, &node);
    return 0;
}

static void row_made(struct control_write *write, const struct err *e, uint64_t index)
{
    struct agent *a = container_of(write, struct agent, write);

    (void)index; /* it is there */
    a->busy = false;
    a->row_made = e->code == 0;
}

static void row_arrived(struct msim_ask *ask, bool there)
{
    struct agent *a = container_of(ask, struct agent, ask);

    a->busy = there;
    if (!there)
        return;
    a->write = (struct control_write){.background = true, .execute = make_row, .done = row_made};
    control_submit(ask->manager->control, &a->write);
}

/* --- life ------------------------------------------------------------------------------------------- */

static void restore(struct work *work)
{
    struct agent *a = work->agent;

    memset(&work->in, 0, sizeof(work->in));
    work->in.error = &work->error;
    work->known = work->swept = false;
    if (!work->item && work->container == TASK_CONTAINER_NONE) {
        map_remove(&a->works, work->key);
        work_free(work);
    } else if (work->item && assignment_restore(a->assignment, work->item, NULL) < 0) {
        msim_fail(a->world, "agent", "agent %u cannot read its ledger", a->number);
    }
}

static void start(struct agent *a)
{
    const struct assignment_events events = {.ctx = a, .on_set = on_set, .on_removed = on_removed};
    AssignmentItem *spec;

    a->life++;
    a->process_up = true;
    a->conn = NULL;
    a->ready = a->was_complete = false;
    a->assignment = assignment_new(&events);
    a->report = report_new();
    entropy_fill(&a->world->random.base, a->instance, sizeof(a->instance));
    for (size_t at = 0; (spec = map_next(&a->specs, &at));)
        (void)assignment_restore(a->assignment, spec, NULL);
    each_work(a, restore);
    struct work *work;
    for (size_t at = 0; (work = map_next(&a->works, &at));) { /* what was said last is said again */
        Status status = STATUS__INIT;

        status.state = work->state;
        if (work->item && work->state)
            report_put(a->report, work->id, &status);
    }
    connect_later(a, 50000);
}

static void kill_process(struct agent *a)
{
    a->process_up = false;
    if (a->conn)
        conn_drop(a->conn);
    a->conn = NULL;
    assignment_free(a->assignment);
    report_free(a->report);
    a->assignment = NULL;
    a->report = NULL;
    a->world->counts.agents_killed++;
}

static void lose_power(struct agent *a)
{
    struct work *work;

    for (size_t at = 0; (work = map_next(&a->works, &at));)
        if (work->container == TASK_CONTAINER_ALIVE) {
            work->container = TASK_CONTAINER_EXITED;
            work->exit_code = 137;
        }
    a->world->counts.machines_off++;
}

static void die(struct work *work)
{
    struct msim *w = work->agent->world;

    if (work->container != TASK_CONTAINER_ALIVE || !msim_chance(w, 2))
        return;
    work->container = TASK_CONTAINER_EXITED;
    work->exit_code = msim_chance(w, 50) ? 0 : 1;
    if (work->in.busy == TASK_NOTHING)
        advance(work);
}

static void fire_tick(struct msim *w, struct msim_event *e)
{
    struct agent *a = w->agents[e->number];
    struct msim_manager *leader = msim_leader(w);

    msim_schedule(w, 20000 + (int64_t)msim_below(w, 80000),
                  (struct msim_event){.fire = fire_tick, .number = a->number});
    if (a->process_up && w->faults && msim_chance(w, 2)) {
        kill_process(a);
        if (msim_chance(w, 30))
            lose_power(a);
    } else if (!a->process_up && (!w->faults || msim_chance(w, 8))) {
        start(a);
    } else if (a->process_up && w->faults) {
        each_work(a, die);
    }
    if (a->process_up && !a->row_made && !a->busy && leader) {
        a->busy = true;
        a->ask.arrived = row_arrived;
        msim_ask(w, &a->ask, leader);
    }
}

void agents_make(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_AGENTS; i++) {
        struct agent *a = w->agents[i] = mem_alloc(sizeof(*a));

        a->world = w;
        a->number = i;
        memset(a->node_id, 'a' + (int)i, sizeof(a->node_id));
        ident_format(a->node_id, a->node_text);
        start(a);
        msim_schedule(w, 20000 + (int64_t)msim_below(w, 80000),
                      (struct msim_event){.fire = fire_tick, .number = i});
    }
}

void agents_free(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_AGENTS; i++) {
        struct agent *a = w->agents[i];
        struct work *work;
        AssignmentItem *spec;

        for (size_t at = 0; (work = map_next(&a->works, &at));)
            work_free(work);
        for (size_t at = 0; (spec = map_next(&a->specs, &at));)
            message_free(spec);
        map_fini(&a->works);
        map_fini(&a->specs);
        assignment_free(a->assignment);
        report_free(a->report);
        free(a);
    }
}

/* --- in the end ------------------------------------------------------------------------------------- */

bool agents_content(struct msim *w, char *why, size_t size)
{
    struct msim_manager *leader = msim_leader(w);
    uint64_t alive_count = 0, wanted = 0;
    const struct index_task *t;

    if (!leader)
        return false;
    struct index *x = control_index(leader->control);
    for (size_t at = 0; (t = table_next(&x->tasks, &at));)
        wanted += t->state == TASK_STATE__RUNNING && t->desired == TASK_STATE__RUNNING;
    for (unsigned i = 0; i < MSIM_AGENTS; i++) {
        struct work *work;

        for (size_t at = 0; (work = map_next(&w->agents[i]->works, &at));)
            alive_count += work->container == TASK_CONTAINER_ALIVE;
    }
    if (alive_count == wanted)
        return true;
    (void)snprintf(why, size, "%" PRIu64 " containers run, %" PRIu64 " tasks", alive_count, wanted);
    return false;
}
