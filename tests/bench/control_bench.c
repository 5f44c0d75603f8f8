/* What the manager's loop does per second, and how long its turns are: control, planners and store as in
 * production, a replica that commits at once, and agents that report what they are told. No disk is waited for and
 * nothing runs.
 *
 *     control_bench [TASKS [NODES]]      100,000 tasks on 1,000 nodes when not given
 *
 *     create   one service of TASKS replicas, until all are assigned (tasks per second)
 *     report   all of them run, as agents report it (statuses per second)
 *     small    one more service of one replica, until its task is assigned (median, microseconds)
 *     roll     a rolling update of all, 100 at a time (GOALS P17: simulated tasks per second)
 *     node     memory of the manager's loop by node, task (with its status, and what has been the feed of late):
 * growth of task     the process's PSS, with the store's pages (GOALS P12) turn     the longest turn of each part
 * and the longest apply (milliseconds): no more than 5 is allowed (DESIGN.md section 1)
 *
 * Rates by the wall clock, turns in CPU time of the one thread; the store lies in $TMPDIR (default /tmp). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "manager/control.h"
#include "manager/orchestrator/intent.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/bench/figure.h"

enum { REPORTS = 500, SMALL = 200 };

/* --- a replica that commits at once
 * ---------------------------------------------------------------------------------- */

struct replica {
    struct replica_events events;
    uint64_t index;
    struct buf proposal;
    void (*done)(void *ctx, const struct err *e, uint64_t index);
    void *done_ctx;
};

static struct replica replica;

int replica_open(const struct replica_config *config, const struct replica_events *events, struct replica **ret,
                 struct err *e)
{
    replica = (struct replica){.events = *events, .index = config->applied};
    *ret = &replica;
    return 0;
}

void replica_close(struct replica *r, void (*closed)(void *ctx), void *ctx)
{
    buf_fini(&r->proposal);
    closed(ctx);
}

int replica_propose(struct replica *r, const void *data, size_t size,
                    void (*done)(void *ctx, const struct err *e, uint64_t index), void *ctx, struct err *e)
{
    buf_append(&r->proposal, data, size);
    r->done = done;
    r->done_ctx = ctx;
    return 0;
}

int replica_blocked(const struct replica *r, struct err *e)
{
    return 0;
}

int replica_read(struct replica *r, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "no write here comes to nothing");
}

uint64_t replica_leader(const struct replica *r, const char **ret_address)
{
    return 1;
}

static void commit(void)
{
    struct replica_entry entry = {
        .index = ++replica.index, .term = 1, .data = buf_bytes(&replica.proposal), .size = replica.proposal.length};
    struct err e = {0};

    if (replica.events.on_apply(replica.events.ctx, &entry, 1, &e) < 0) {
        (void)fprintf(stderr, "control_bench: %s\n", e.text);
        exit(1);
    }
    void (*done)(void *ctx, const struct err *why, uint64_t index) = replica.done;
    replica.done = NULL;
    buf_clear(&replica.proposal);
    done(replica.done_ctx, &e, entry.index);
}

/* --- the manager, its agents
 * ------------------------------------------------------------------------------------------ */

struct report {
    struct control_write base;
    size_t count;
    struct {
        uint64_t task;
        TaskState state;
    } tasks[REPORTS];
};

struct bench {
    struct store *store;
    struct control *control;
    struct control_watch watch;
    uint64_t fed;
    struct report *report; /* being filled */
    uint64_t reported;
    bool agents; /* they report */
    int64_t longest_us, longest_apply_us;
};

static int report_execute(struct control_write *base, struct draft *d, struct plan *p, struct err *e)
{
    struct report *r = (struct report *)base;

    (void)d;
    (void)e;
    for (size_t i = 0; i < r->count; i++) {
        struct index_task *t = index_task(p->index, r->tasks[i].task);
        Status status = STATUS__INIT;

        status.state = r->tasks[i].state;
        if (t && t->share)
            plan_report(p, t->share->node, t->id, &status);
    }
    return 0;
}

static void report_done(struct control_write *base, const struct err *e, uint64_t index)
{
    (void)e;
    (void)index;
    free(base);
}

static void send_report(struct bench *b)
{
    if (b->report)
        control_submit(b->control, &b->report->base);
    b->report = NULL;
}

static TaskState next_state(const struct index_task *t)
{
    if (!t->share || t->state < TASK_STATE__ASSIGNED || index_task_ended(t))
        return (TaskState)t->state;
    if (t->desired >= TASK_STATE__SHUTDOWN)
        return TASK_STATE__SHUTDOWN;
    return (TaskState)MAX(t->state, t->desired);
}

static void agent_sees(void *ctx, uint64_t index, const struct object *o)
{
    struct bench *b = ctx;
    struct index_task *t =
        o->kind == KIND_TASK || o->kind == KIND_STATUS ? index_task(control_index(b->control), o->number) : NULL;

    (void)index;
    if (!t || next_state(t) == t->state)
        return;
    if (!b->report) {
        b->report = mem_alloc(sizeof(*b->report));
        b->report->base =
            (struct control_write){.background = true, .execute = report_execute, .done = report_done};
    }
    b->report->tasks[b->report->count].task = o->number;
    b->report->tasks[b->report->count++].state = next_state(t);
    b->reported++;
    if (b->report->count == REPORTS)
        send_report(b);
}

static void on_applied(struct control_watch *watch, uint64_t index)
{
    struct bench *b = container_of(watch, struct bench, watch);
    struct arena arena;

    arena_init(&arena);
    if (!b->agents || store_feed(b->store, b->fed, &arena, agent_sees, b, &b->fed) < 0)
        b->fed = index;
    arena_fini(&arena);
    send_report(b);
}

static void on_wake(void *ctx)
{
    (void)ctx; /* the bench never rests */
}

static void on_fatal(void *ctx, const struct err *e)
{
    (void)ctx;
    (void)fprintf(stderr, "control_bench: %s\n", e->text);
    exit(1);
}

/* Of this thread: what others take from the processor is not our turn's length. */
static int64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Until nothing is left to do. */
static void run(struct bench *b)
{
    for (;;) {
        int64_t from = cpu_us(), wait = control_turn(b->control);

        b->longest_us = MAX(b->longest_us, cpu_us() - from);
        if (replica.done) {
            from = cpu_us();
            commit();
            b->longest_apply_us = MAX(b->longest_apply_us, cpu_us() - from);
        } else if (wait != 0) {
            return;
        }
    }
}

/* --- what is asked for
 * ------------------------------------------------------------------------------------------------ */

struct ask {
    struct control_write base;
    uint64_t nodes, replicas, service;
    const char *name, *image;
    uint64_t number; /* of the service made */
};

static void ask_done(struct control_write *base, const struct err *e, uint64_t index)
{
    (void)base;
    (void)index;
    if (e->code)
        on_fatal(NULL, e);
}

static int make_nodes(struct control_write *base, struct draft *d, struct plan *p, struct err *e)
{
    struct ask *ask = (struct ask *)base;

    (void)d;
    (void)e;
    for (uint64_t i = 0; i < ask->nodes; i++) {
        Node node = NODE__INIT;
        NodeDescription description = NODE_DESCRIPTION__INIT;

        description.hostname = arena_printf(p->arena, "node-%llu", (unsigned long long)i);
        node.id = plan_ident(p);
        node.description = &description;
        node.has_state = true;
        node.state = NODE_STATE__UP;
        plan_create(p, KIND_NODE, &node);
    }
    return 0;
}

static int put_service(struct control_write *base, struct draft *d, struct plan *p, struct err *e)
{
    struct ask *ask = (struct ask *)base;
    ServiceSpec spec = SERVICE_SPEC__INIT;
    TaskSpec task = TASK_SPEC__INIT;
    ContainerSpec container = CONTAINER_SPEC__INIT;
    UpdateConfig update = UPDATE_CONFIG__INIT;

    (void)d;
    container.image = (char *)ask->image;
    task.container = &container;
    update.has_parallelism = true;
    update.parallelism = 100;
    spec.name = (char *)ask->name;
    spec.task = &task;
    spec.update = &update;
    spec.has_replicas = true;
    spec.replicas = ask->replicas;
    return ask->service ? service_update(p, ask->service, &spec, e) : service_create(p, &spec, &ask->number, e);
}

static double ask(struct bench *b, struct ask *what)
{
    int64_t from = clock_mono_us(clock_real());

    b->longest_us = b->longest_apply_us = 0;
    what->base.done = ask_done;
    control_submit(b->control, &what->base);
    run(b);
    return (double)(clock_mono_us(clock_real()) - from);
}

static void print(const struct bench *b, const char *id, const char *what, double value, const char *unit,
                  uint64_t n)
{
    printf("BENCH %s %s %.4g %s n=%llu\n", id, what, value, unit, (unsigned long long)n);
    printf("BENCH control turn_%s %.3g ms n=%llu apply=%.3g\n", what, (double)b->longest_us / 1000,
           (unsigned long long)n, (double)b->longest_apply_us / 1000);
    (void)fflush(stdout);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static uint64_t running(struct bench *b, uint64_t service)
{
    const struct index_service *s = index_service(control_index(b->control), service);
    struct index_walk w = {0};
    struct index_task *t;
    uint64_t count = 0;

    while ((t = index_service_next(s, &w)))
        count += t->state == TASK_STATE__RUNNING && t->desired == TASK_STATE__RUNNING && t->spec == s->current;
    return count;
}

static void expect(struct bench *b, uint64_t service, uint64_t tasks)
{
    if (running(b, service) == tasks)
        return;
    (void)fprintf(stderr, "control_bench: %llu of %llu tasks run\n", (unsigned long long)running(b, service),
                  (unsigned long long)tasks);
    exit(1);
}

static void measure(struct bench *b, uint64_t tasks, uint64_t nodes)
{
    double us[SMALL], empty = bench_pss_kib(getpid());

    for (uint64_t made = 0; made < nodes; made += 500)
        (void)ask(b, &(struct ask){.base.execute = make_nodes, .nodes = MIN(nodes - made, (uint64_t)500)});
    double with_nodes = bench_pss_kib(getpid());
    figure("P12", "node", (with_nodes - empty) / (double)nodes, "KiB", (unsigned)nodes, 0, "%s", "");
    struct ask create = {.base.execute = put_service, .name = "large", .image = "image:1", .replicas = tasks};
    double took = ask(b, &create);
    print(b, "control", "create", (double)tasks / took * 1e6, "/s", tasks);

    b->agents = true;
    b->longest_us = b->longest_apply_us = 0;
    int64_t from = clock_mono_us(clock_real());
    for (uint64_t number = 1; number <= tasks + nodes + 1000; number++)
        agent_sees(b, 0, &(struct object){.kind = KIND_TASK, .number = number});
    send_report(b);
    run(b);
    print(b, "control", "report", (double)tasks / (double)(clock_mono_us(clock_real()) - from) * 1e6, "/s", tasks);
    expect(b, create.number, tasks);
    figure("P12", "task", (bench_pss_kib(getpid()) - with_nodes) / (double)tasks, "KiB", (unsigned)tasks, 0, "%s",
           "");

    int64_t longest = 0;
    for (int i = 0; i < SMALL; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "small-%d", i);
        us[i] = ask(b, &(struct ask){.base.execute = put_service, .name = name, .image = "image:1", .replicas = 1});
        longest = MAX(longest, b->longest_us);
    }
    b->longest_us = longest;
    qsort(us, SMALL, sizeof(*us), compare);
    print(b, "control", "small", us[SMALL / 2], "us", SMALL);

    struct ask update = {.base.execute = put_service,
                         .name = "large",
                         .image = "image:2",
                         .replicas = tasks,
                         .service = create.number};
    took = ask(b, &update);
    expect(b, create.number, tasks);
    print(b, "P17", "simulated", (double)tasks / took * 1e6, "/s", tasks);
}

static void closed(void *ctx)
{
    (void)ctx; /* the process ends next */
}

int main(int argc, char **argv)
{
    uint64_t tasks = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000,
             nodes = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
    static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {2};
    struct bench b = {0};
    char dir[200];
    struct err e;

    (void)snprintf(dir, sizeof(dir), "%s/shoal-control-bench-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    struct store_config store = {.dir = dir, .key = key, .cluster = cluster, .entropy = entropy_real()};
    if (store_open(&store, &b.store, &e) < 0)
        on_fatal(NULL, &e);
    struct control_config config = {
        .store = b.store, .clock = clock_real(), .entropy = entropy_real(), .wake = on_wake, .on_fatal = on_fatal};
    if (control_open(&config, &b.control, &e) < 0)
        on_fatal(NULL, &e);
    b.watch.on_applied = on_applied;
    control_watch(b.control, &b.watch);
    replica.events.on_state(replica.events.ctx, REPLICA_LEADER, 1);
    measure(&b, tasks, nodes);
    control_close(b.control, closed, NULL);
    store_close(b.store);
    (void)tree_remove(AT_FDCWD, dir, NULL); /* nothing else can be done about it */
    return 0;
}
