/* What placing costs (GOALS P1): tasks placed per second with spread and constraints, one task replaced, and how
 * both grow with the number of nodes.
 *
 *     scheduler_bench [NODES]...    1,000, 10,000 and 100,000 when none is given
 *
 * The production scheduler on the production index; the plan writes messages into arrays, as cheap as a draft can
 * be, and the index follows every write. Times are CPU time of this thread. Ten services ask for two constraints,
 * which half of the nodes satisfy, and reserve memory and processors; a cluster is filled with EACH_NODE tasks for
 * each node, in rounds of 2,000 objects, as control.c makes drafts. Then one task after the other ends and is
 * replaced, each time of another service. `growth` is the cost by that with the first number of nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "manager/scheduler/scheduler.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

enum { SERVICES = 10, EACH_NODE = 20, REPLACES = 20000, RUNS = 5, ROUND = 2000 };

struct bench {
    struct index *index;
    struct plan plan;
    struct scheduler *scheduler;
    struct entropy_seeded random;
    uint32_t nodes;
    Task *tasks; /* by number */
    Status *statuses;
    uint8_t (*ids)[16];
    uint64_t next, room;
};

static int get(void *ctx, enum kind k, uint64_t number, struct object *ret)
{
    struct bench *b = ctx;

    *ret = (struct object){.kind = k, .number = number};
    ret->message = k == KIND_TASK ? &b->tasks[number].base : &b->statuses[number].base;
    return 0;
}

static void put(void *ctx, enum kind k, uint64_t number, const ProtobufCMessage *message)
{
    struct bench *b = ctx;
    Task old_task = b->tasks[number];
    Status old_status = b->statuses[number];
    struct object before = {.kind = k, .number = number}, after = before;

    before.message = k == KIND_TASK ? &old_task.base : &old_status.base;
    after.message = message;
    index_apply(b->index, before.message->descriptor ? &before : NULL, &after);
    if (k == KIND_TASK)
        b->tasks[number] = *(const Task *)message;
    else
        b->statuses[number] = *(const Status *)message;
    b->room -= b->room > 0;
}

static uint64_t create(void *ctx, enum kind k, const ProtobufCMessage *message)
{
    struct bench *b = ctx;
    uint64_t number = b->next++;
    Task task = *(const Task *)message;

    task.id = (ProtobufCBinaryData){.len = 16, .data = b->ids[number]}; /* it outlives the plan's arena */
    put(ctx, k, number, &task.base);
    return number;
}

static void ident(void *ctx, uint8_t ret[IDENT_BYTES])
{
    struct bench *b = ctx;

    entropy_fill(&b->random.base, b->ids[b->next], IDENT_BYTES);
    memcpy(ret, b->ids[b->next], IDENT_BYTES);
}

static size_t room(void *ctx)
{
    return ((struct bench *)ctx)->room;
}

static bool late(void *ctx)
{
    (void)ctx; /* never */
    return false;
}

static const struct plan_backend backend = {
    .get = get, .create = create, .put = put, .ident = ident, .room = room, .late = late};

/* --- a cluster
 * ------------------------------------------------------------------------------------------------------ */

static void add(struct bench *b, enum kind k, uint64_t number, const ProtobufCMessage *message)
{
    struct object o = {.kind = k, .number = number, .message = message};

    index_apply(b->index, NULL, &o);
}

static void add_node(struct bench *b, uint64_t number)
{
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    NodeDescription description = NODE_DESCRIPTION__INIT;
    Resources resources = RESOURCES__INIT;
    Platform platform = PLATFORM__INIT;
    KeyValue zone = KEY_VALUE__INIT, *labels[] = {&zone};
    uint8_t id[16];
    char hostname[32];

    entropy_fill(&b->random.base, id, sizeof(id));
    (void)snprintf(hostname, sizeof(hostname), "node-%llu", (unsigned long long)number);
    zone.key = (char *)"zone";
    zone.value = (char *)(number % 2 ? "a" : "b");
    platform.os = (char *)"linux";
    platform.architecture = (char *)"x86_64";
    resources.nano_cpus = INT64_MAX / 2;
    resources.memory_bytes = INT64_MAX / 2;
    description.hostname = hostname;
    description.platform = &platform;
    description.resources = &resources;
    spec.labels = labels;
    spec.n_labels = 1;
    node.id = (ProtobufCBinaryData){.len = 16, .data = id};
    node.spec = &spec;
    node.description = &description;
    node.has_state = true;
    node.state = NODE_STATE__UP;
    add(b, KIND_NODE, number, &node.base);
}

static struct index_service *add_service(struct bench *b, uint64_t number)
{
    Service service = SERVICE__INIT;
    Spec spec = SPEC__INIT;
    ServiceSpec contents = SERVICE_SPEC__INIT;
    TaskSpec task = TASK_SPEC__INIT;
    Placement placement = PLACEMENT__INIT;
    Resources reservations = RESOURCES__INIT;
    char *constraints[] = {(char *)"node.labels.zone==a", (char *)"node.platform.os==linux"};
    uint8_t id[16];
    char name[32];

    entropy_fill(&b->random.base, id, sizeof(id));
    (void)snprintf(name, sizeof(name), "service-%llu", (unsigned long long)number);
    placement.constraints = constraints;
    placement.n_constraints = 2;
    reservations.memory_bytes = 64 << 20;
    reservations.nano_cpus = 100000000;
    task.placement = &placement;
    task.reservations = &reservations;
    contents.name = name;
    contents.task = &task;
    service.id = (ProtobufCBinaryData){.len = 16, .data = id};
    service.name = name;
    service.spec_version = 1;
    spec.service = number;
    spec.version = 1;
    spec.spec = &contents;
    add(b, KIND_SERVICE, number, &service.base);
    add(b, KIND_SPEC, number + 1, &spec.base);
    return index_service(b->index, number);
}

static struct bench *bench_new(uint32_t nodes, uint64_t tasks)
{
    struct bench *b = mem_alloc(sizeof(*b));
    uint64_t objects = 1000 + nodes + tasks;

    entropy_seeded_init(&b->random, 1);
    b->nodes = nodes;
    b->index = index_new();
    b->scheduler = scheduler_new();
    b->tasks = mem_array(objects, sizeof(Task));
    b->statuses = mem_array(objects, sizeof(Status));
    b->ids = mem_array(objects, 16);
    b->plan = (struct plan){.index = b->index,
                            .now_ms = 1000000,
                            .arena = mem_alloc(sizeof(struct arena)),
                            .backend = &backend,
                            .ctx = b};
    arena_init(b->plan.arena);
    for (uint64_t n = 0; n < nodes; n++)
        add_node(b, 1000 + n);
    b->next = 1000 + nodes;
    return b;
}

static void bench_free(struct bench *b)
{
    index_free(b->index);
    scheduler_free(b->scheduler);
    arena_fini(b->plan.arena);
    free(b->plan.arena);
    free(b->tasks);
    free(b->statuses);
    free(b->ids);
    free(b);
}

/* A task that waits for a node. */
static void add_waiting(struct bench *b, const struct index_service *s, uint64_t slot)
{
    struct index_task *t = plan_new_task(
        &b->plan, &(struct plan_new_task){.service = s, .slot = slot, .desired = TASK_STATE__RUNNING});

    plan_set_status(&b->plan, t, TASK_STATE__PENDING, "pending task scheduling", NULL);
}

static void place_all(struct bench *b)
{
    do {
        b->room = ROUND;
        arena_reset(b->plan.arena);
    } while (schedule(b->scheduler, &b->plan));
}

/* --- measuring
 * ------------------------------------------------------------------------------------------------------- */

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Microseconds per task when SERVICES services of equal size are placed. */
static double place_once(uint32_t nodes)
{
    uint64_t tasks = (uint64_t)nodes * EACH_NODE, placed = 0;
    struct bench *b = bench_new(nodes, tasks);

    for (uint64_t i = 0; i < SERVICES; i++) {
        struct index_service *s = add_service(b, 1 + 2 * i);

        for (uint64_t slot = 1; slot <= tasks / SERVICES; slot++)
            add_waiting(b, s, slot);
    }
    double from = cpu_us();
    place_all(b);
    double us = (cpu_us() - from) / (double)tasks;
    for (uint32_t i = 0; i < b->index->node_count; i++)
        placed += b->index->node_at[i]->counted;
    if (placed != tasks) {
        (void)fprintf(stderr, "scheduler_bench: %llu of %llu tasks were placed\n", (unsigned long long)placed,
                      (unsigned long long)tasks);
        exit(1);
    }
    bench_free(b);
    return us;
}

/* Each time another service loses a task, and a new one takes the slot. */
static void replace_many(uint32_t nodes, double *each)
{
    uint64_t tasks = (uint64_t)nodes * EACH_NODE;
    struct bench *b = bench_new(nodes, tasks + REPLACES);
    struct index_service *services[SERVICES];

    for (uint64_t i = 0; i < SERVICES; i++) {
        services[i] = add_service(b, 1 + 2 * i);
        for (uint64_t slot = 1; slot <= tasks / SERVICES; slot++)
            add_waiting(b, services[i], slot);
    }
    place_all(b);
    for (uint64_t i = 0; i < REPLACES; i++) {
        struct index_service *s = services[i % SERVICES];
        uint64_t slot = 1 + entropy_below(&b->random.base, tasks / SERVICES);
        struct index_task *old = index_slot(s, slot)->holder;

        b->room = ROUND;
        arena_reset(b->plan.arena);
        double from = cpu_us();
        plan_set_desired(&b->plan, old, TASK_STATE__SHUTDOWN);
        add_waiting(b, s, slot);
        (void)schedule(b->scheduler, &b->plan);
        each[i] = cpu_us() - from;
        if (!index_slot(s, slot)->holder->share) {
            (void)fprintf(stderr, "scheduler_bench: a task was not replaced\n");
            exit(1);
        }
    }
    bench_free(b);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"1000", "10000", "100000"};
    static double each[REPLACES];
    int count = argc > 1 ? argc - 1 : 3;
    double first_place = 0, first_replace = 0;

    for (int i = 0; i < count; i++) {
        uint32_t nodes = (uint32_t)strtoul(argc > 1 ? argv[i + 1] : usual[i], NULL, 10);
        double runs[RUNS];

        for (int r = 0; r < RUNS; r++)
            runs[r] = place_once(nodes);
        qsort(runs, RUNS, sizeof(*runs), compare);
        replace_many(nodes, each);
        qsort(each, REPLACES, sizeof(*each), compare);
        double place = runs[RUNS / 2], replace = each[REPLACES / 2];
        if (i == 0) {
            first_place = place;
            first_replace = replace;
        }
        printf("BENCH P1 rate %.0f /s n=%d nodes=%u best=%.0f growth=%.2f\n", 1e6 / place, RUNS, nodes,
               1e6 / runs[0], place / first_place);
        printf("BENCH P1 replace %.2f us n=%d nodes=%u p99=%.2f growth=%.2f\n", replace, REPLACES, nodes,
               each[REPLACES * 99 / 100], replace / first_replace);
        (void)fflush(stdout);
    }
    return 0;
}
