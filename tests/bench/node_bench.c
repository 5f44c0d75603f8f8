/* The goals of one node, at the API's socket of the real shoald: P3 to P6, P12, P14, P17 and P19 (GOALS.md).
 *
 * usage: node_bench [GOAL]...      all of them when none is named ("P3 P4")
 *
 * Everything a container has is on: mutual TLS between agent and manager, durable commits, seccomp, capabilities.
 * Each figure stands beside its floor, measured around it in the same run:
 *
 *     P3, P4      floor.h's launch, one after the other; P3's also waits for two flushes of the disk, one for
 *                 the commit that makes the task, one for that which says that it runs
 *     P5, P6      the same launch by two processes at once, and the cycle of launch, end and removal by as many
 *                 processes as the node has clients
 *     P12         kernel memory of the floor's containers (user memory has no floor)
 *     P14         `shoald --version`: the program is loaded and ends
 *     P19         three flushes: the node's key, the manager's key, the log's first entry */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "tests/bench/figure.h"
#include "tests/bench/floor.h"
#include "tests/bench/node.h"

enum {
    INITS = 8,
    SERVICES = 40,
    STARTS = 60,
    STARTS_EACH_SECOND = 6,
    COLD = 20,
    REPLICAS = 50,
    REPLICAS_RUNS = 3,
    RATE_SLICES = 3,
    RATE_SLICE = 2, /* seconds */
    CLIENTS = 4,
    RESTARTS = 4,
    ROLLS = 2,
    MEMORY = 50, /* containers */
};

struct bench {
    struct stage stage;
    struct node node; /* a swarm of one, warm */
    struct floor floor;
};

static const char container[] = "{\"Image\":\"" NODE_IMAGE "\",\"HostConfig\":{\"NetworkMode\":\"none\"}}";
static const char container_quick[] =
    "{\"Image\":\"" NODE_IMAGE "\",\"Cmd\":[\"true\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}";

/* --- floors ---------------------------------------------------------------------------------------- */

static const char *const sleeper[] = {"/bin/busybox", "sleep", "1000", NULL};

/* A floor's launch beside each of ours: what else the machine does slows both. */
static void add_launch(struct bench *b, struct samples *launches)
{
    struct floor_container c;

    samples_add(launches, floor_start(&b->floor, &c, sleeper));
    floor_end(&b->floor, &c);
}

/* --- P12 ------------------------------------------------------------------------------------------- */

/* A swarm of one that has only its image. */
static void bench_idle(struct bench *b)
{
    struct node *n = &b->node;
    double begun, cpu;

    bench_pause(1000);
    begun = bench_now_ms();
    cpu = node_cpu_ms(n);
    bench_pause(3000);
    cpu = (node_cpu_ms(n) - cpu) / (bench_now_ms() - begun) * 1000;
    figure("P12", "idle", node_pss_kib(n, false) / 1024, "MiB", 1, 0, "with_warm=%.2f cpu=%.1fms/s",
           node_pss_kib(n, true) / 1024, cpu);
}

/* --- P19 ------------------------------------------------------------------------------------------- */

static void bench_init(struct bench *b)
{
    struct samples took = {0}, flush = {0};

    for (int i = 0; i < INITS; i++) {
        node_swarm_leave(&b->node);
        bench_pause(50);
        double begun = bench_now_ms();
        node_swarm_init(&b->node);
        samples_add(&took, bench_now_ms() - begun);
        samples_add(&flush, floor_flush_ms(b->stage.dir));
    }
    figure("P19", "init", samples_percentile(&took, 50), "ms", took.count, 3 * samples_percentile(&flush, 50),
           "min=%.1f max=%.1f", samples_percentile(&took, 0), samples_percentile(&took, 100));
}

/* --- services -------------------------------------------------------------------------------------- */

struct service {
    char id[32];
};

#define SERVICE_BODY                                                                                           \
    "{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"" NODE_IMAGE "\"},\"ForceUpdate\":%u}," \
    "\"Mode\":{\"Replicated\":{\"Replicas\":%u}},\"UpdateConfig\":{\"Parallelism\":10,\"Order\":\"stop-first\"}}"

static void service_create(struct node *n, struct service *s, const char *name, unsigned replicas)
{
    char body[1024];

    (void)snprintf(body, sizeof(body), SERVICE_BODY, name, 0, replicas);
    (void)dialog_ask(&n->client, 201, "POST", body, "/services/create");
    dialog_string(&n->client, "\"ID\":\"", s->id, sizeof(s->id));
}

static void service_remove(struct node *n, const struct service *s)
{
    (void)dialog_ask(&n->client, 200, "DELETE", NULL, "/services/%s", s->id);
    node_empty(n);
}

static unsigned service_running(struct node *n, const struct service *s)
{
    (void)dialog_ask(&n->client, 200, "GET", NULL,
                     "/services?status=true&filters=%%7B%%22id%%22%%3A%%5B%%22%s%%22%%5D%%7D", s->id);
    return (unsigned)dialog_number(&n->client, "\"RunningTasks\":");
}

static void service_wait(struct node *n, const struct service *s, unsigned replicas)
{
    double until = bench_now_ms() + 20000;

    while (service_running(n, s) < replicas) {
        if (bench_now_ms() > until)
            bench_die("service %s does not run: %s", s->id, dialog_ask(&n->client, 200, "GET", NULL, "/tasks"));
        bench_pause(replicas > 1 ? 2 : 0.3);
    }
}

/* P3: the request is sent, and the state is asked for until the task runs. */
static void bench_service(struct bench *b)
{
    struct samples took = {0}, launches = {0}, flushes = {0};

    for (int i = -3; i < SERVICES; i++) {
        struct service s;
        char name[32];

        add_launch(b, &launches);
        samples_add(&flushes, floor_flush_ms(b->stage.dir));
        (void)snprintf(name, sizeof(name), "p3-%d", i + 3);
        double begun = bench_now_ms();
        service_create(&b->node, &s, name, 1);
        service_wait(&b->node, &s, 1);
        if (i >= 0)
            samples_add(&took, bench_now_ms() - begun);
        service_remove(&b->node, &s);
        bench_pause(50); /* idle, and the pool is full again */
    }
    double flush = samples_percentile(&flushes, 50);
    figure("P3", "p50", samples_percentile(&took, 50), "ms", took.count,
           samples_percentile(&launches, 50) + 2 * flush, "min=%.2f", samples_percentile(&took, 0));
    figure("P3", "p99", samples_percentile(&took, 99), "ms", took.count,
           samples_percentile(&launches, 99) + 2 * flush, "flush=%.3f", flush);
}

static void bench_replicas(struct bench *b)
{
    struct samples took = {0}, bursts = {0};

    for (int i = 0; i < REPLICAS_RUNS; i++) {
        struct service s;

        samples_add(&bursts, floor_burst_ms(&b->floor, REPLICAS));
        double begun = bench_now_ms();

        service_create(&b->node, &s, "p5", REPLICAS);
        service_wait(&b->node, &s, REPLICAS);
        samples_add(&took, bench_now_ms() - begun);
        service_remove(&b->node, &s);
        bench_pause(200);
    }
    figure("P5", "replicas_50", samples_percentile(&took, 50), "ms", took.count, samples_percentile(&bursts, 50),
           "min=%.1f max=%.1f", samples_percentile(&took, 0), samples_percentile(&took, 100));
}

/* P17: until all tasks of the new version run; that of the old ones has ended before. */
static void bench_roll(struct bench *b)
{
    struct samples took = {0}, bursts = {0};
    struct service s;
    struct node *n = &b->node;

    service_create(n, &s, "p17", REPLICAS);
    service_wait(n, &s, REPLICAS);
    for (unsigned i = 1; i <= ROLLS; i++) {
        char body[1024];

        samples_add(&bursts, floor_burst_ms(&b->floor, REPLICAS));
        bench_pause(300);
        (void)dialog_ask(&n->client, 200, "GET", NULL, "/services/%s", s.id);
        unsigned version = (unsigned)dialog_number(&n->client, "\"Version\":{\"Index\":");
        (void)snprintf(body, sizeof(body), SERVICE_BODY, "p17", i, (unsigned)REPLICAS);
        double begun = bench_now_ms();
        (void)dialog_ask(&n->client, 200, "POST", body, "/services/%s/update?version=%u", s.id, version);
        for (;;) {
            char text[64];

            (void)dialog_ask(
                &n->client, 200, "GET", NULL,
                "/tasks?filters=%%7B%%22service%%22%%3A%%5B%%22p17%%22%%5D%%2C%%22desired-state%%22%%3A%%5B"
                "%%22running%%22%%5D%%7D");
            (void)snprintf(text, sizeof(text), "\"ForceUpdate\":%u}", i);
            if (dialog_count(&n->client, text) == REPLICAS &&
                dialog_count(&n->client, "\"State\":\"running\"") == REPLICAS)
                break;
            if (bench_now_ms() > begun + 30000)
                bench_die("the update comes to no end: %u of %u", dialog_count(&n->client, text), REPLICAS);
            bench_pause(10);
        }
        samples_add(&took, bench_now_ms() - begun);
    }
    service_remove(n, &s);
    figure("P17", "roll50", samples_percentile(&took, 50), "ms", took.count, samples_percentile(&bursts, 50),
           "parallelism=10");
}

/* --- P4 -------------------------------------------------------------------------------------------- */

static double start_one(struct dialog *c, const char *name)
{
    (void)dialog_ask(c, 201, "POST", container, "/containers/create?name=%s", name);
    double begun = bench_now_ms();
    (void)dialog_ask(c, 204, "POST", NULL, "/containers/%s/start", name);
    return bench_now_ms() - begun;
}

static void remove_one(struct dialog *c, const char *name)
{
    (void)dialog_ask(c, 204, "DELETE", NULL, "/containers/%s?force=1", name);
}

static void start_in_turn(struct bench *b, struct node *n, const char *what, int count, double pause_ms)
{
    struct samples took = {0}, launches = {0};

    for (int i = -3; i < count; i++) {
        if (pause_ms > 0 && i < 0)
            continue;
        bench_pause(pause_ms);
        double ms = start_one(&n->client, "p4");

        remove_one(&n->client, "p4");
        if (i < 0)
            continue;
        samples_add(&took, ms);
        add_launch(b, &launches);
    }
    figure("P4", what, samples_percentile(&took, 50), "ms", took.count, samples_percentile(&launches, 50),
           "min=%.2f p95=%.2f floor_min=%.2f", samples_percentile(&took, 0), samples_percentile(&took, 95),
           samples_percentile(&launches, 0));
}

/* All stay: the last tenth beside the first. */
static void start_and_keep(struct node *n)
{
    struct samples first = {0}, last = {0};
    char name[32];

    for (int i = 0; i < STARTS; i++) {
        (void)snprintf(name, sizeof(name), "p4-%d", i);
        bench_pause(15); /* as the others have theirs removed: time to fill the pool */
        double ms = start_one(&n->client, name);

        if (i < STARTS / 10)
            samples_add(&first, ms);
        else if (i >= STARTS - STARTS / 10)
            samples_add(&last, ms);
    }
    figure("P4", "start_none_last", samples_percentile(&last, 50), "ms", last.count, samples_percentile(&first, 50),
           "alive=%d", STARTS);
    for (int i = 0; i < STARTS; i++) {
        (void)snprintf(name, sizeof(name), "p4-%d", i);
        remove_one(&n->client, name);
    }
}

static void bench_start(struct bench *b)
{
    struct node cold;

    start_in_turn(b, &b->node, "start_none", STARTS, 0);
    start_in_turn(b, &b->node, "start_none_each_second", STARTS_EACH_SECOND, 1000);
    start_and_keep(&b->node);
    node_open(&cold, &b->stage, "cold", "0");
    start_in_turn(b, &cold, "start_none_cold", COLD, 0);
    node_close(&cold);
}

/* --- P6 -------------------------------------------------------------------------------------------- */

/* Cycles of one connection until the time is over; how many. */
static unsigned client_cycles(const char *socket, int which, double until_ms)
{
    struct dialog c;
    unsigned done = 0;

    dialog_open(&c, socket);
    for (; bench_now_ms() < until_ms; done++) {
        (void)dialog_ask(&c, 201, "POST", container_quick, "/containers/create?name=p6-%d-%u", which, done);
        (void)dialog_ask(&c, 204, "POST", NULL, "/containers/p6-%d-%u/start", which, done);
        (void)dialog_ask(&c, 200, "POST", NULL, "/containers/p6-%d-%u/wait", which, done);
        (void)dialog_ask(&c, 204, "DELETE", NULL, "/containers/p6-%d-%u", which, done);
    }
    return done;
}

struct rate {
    double cpu_ms, daemon_ms, took_ms;
    unsigned cycles;
};

static void node_cycles(struct bench *b, struct rate *r)
{
    double cpu = node_cpu_ms(&b->node), daemon = bench_cpu_ms(b->node.pid), begun = bench_now_ms();
    int results[2];

    if (pipe(results) < 0)
        bench_die("pipe");
    for (int i = 0; i < CLIENTS; i++)
        if (fork() == 0) {
            unsigned done = client_cycles(b->node.socket, i, begun + RATE_SLICE * 1000);

            _exit(write(results[1], &done, sizeof(done)) != sizeof(done));
        }
    for (int i = 0; i < CLIENTS; i++) {
        unsigned done;

        if (read(results[0], &done, sizeof(done)) != sizeof(done))
            bench_die("a client gave up");
        r->cycles += done;
    }
    r->took_ms += bench_now_ms() - begun;
    r->cpu_ms += node_cpu_ms(&b->node) - cpu;
    r->daemon_ms += bench_cpu_ms(b->node.pid) - daemon;
    for (int i = 0; i < CLIENTS; i++)
        (void)wait(NULL);
    close(results[0]);
    close(results[1]);
}

static void bench_rate(struct bench *b)
{
    struct samples floor_rates = {0}, floor_cpus = {0};
    struct rate ours = {0};

    for (int i = 0; i < RATE_SLICES; i++) {
        struct floor_rate floor = floor_cycles(&b->floor, CLIENTS, RATE_SLICE);

        samples_add(&floor_rates, floor.per_second);
        samples_add(&floor_cpus, floor.cpu_ms);
        node_cycles(b, &ours);
    }
    double cpu = ours.cpu_ms / ours.cycles, floor_cpu = samples_percentile(&floor_cpus, 50);
    figure("P6", "rate_none", ours.cycles / ours.took_ms * 1000, "/s", ours.cycles,
           samples_percentile(&floor_rates, 50), "clients=%d", CLIENTS);
    figure("P6", "cpu_none", cpu, "ms", ours.cycles, floor_cpu, "of_floor_rate=%.2f shoald=%.2f", floor_cpu / cpu,
           ours.daemon_ms / ours.cycles);
}

/* --- P12 again, P14 -------------------------------------------------------------------------------------- */

/* In a process of the floor's group, since the kernel charges who makes a namespace, not who lives in it. */
static double floor_kernel_kib(struct bench *b)
{
    int result[2];
    double kib;

    if (pipe(result) < 0)
        bench_die("pipe");
    if (fork() == 0) {
        struct floor_container made[MEMORY + 1];

        stage_join(&b->stage, "floor");
        (void)floor_start(&b->floor, &made[0], sleeper); /* what the first one makes for all */
        kib = stage_kernel_kib(&b->stage, "floor");
        for (int i = 1; i <= MEMORY; i++)
            (void)floor_start(&b->floor, &made[i], sleeper);
        bench_pause(100);
        kib = (stage_kernel_kib(&b->stage, "floor") - kib) / MEMORY;
        for (int i = 0; i <= MEMORY; i++)
            floor_end(&b->floor, &made[i]);
        _exit(write(result[1], &kib, sizeof(kib)) != sizeof(kib));
    }
    if (read(result[0], &kib, sizeof(kib)) != sizeof(kib))
        bench_die("floor: the kernel's memory is not known");
    (void)wait(NULL);
    close(result[0]);
    close(result[1]);
    return kib;
}

static void many_start(struct node *n)
{
    char name[32];

    for (int i = 0; i < MEMORY; i++) {
        (void)snprintf(name, sizeof(name), "p12-%d", i);
        (void)start_one(&n->client, name);
    }
    bench_pause(1000); /* the pool is full again */
}

static void many_remove(struct node *n)
{
    char name[32];

    for (int i = 0; i < MEMORY; i++) {
        (void)snprintf(name, sizeof(name), "p12-%d", i);
        remove_one(&n->client, name);
    }
    bench_pause(1000);
}

static void bench_memory(struct bench *b)
{
    struct node *n = &b->node;
    double floor = floor_kernel_kib(b);

    many_start(n); /* the pool grows with use: the second time it is as large before as it is after */
    many_remove(n);
    double user = node_pss_kib(n, false), kernel = stage_kernel_kib(&b->stage, "node");
    many_start(n);
    user = (node_pss_kib(n, false) - user) / MEMORY;
    kernel = (stage_kernel_kib(&b->stage, "node") - kernel) / MEMORY;
    many_remove(n);
    figure("P12", "container", user, "KiB", MEMORY, 0, "%s", "");
    if (kernel > 0)
        figure("P12", "kernel", kernel, "KiB", MEMORY, floor, "%s", "");
}

static double version_ms(const struct stage *s)
{
    struct samples took = {0};
    AUTO_FREE
    char *program = mem_printf("%sshoald", s->build);

    for (int i = 0; i < 20; i++) {
        double begun = bench_now_ms();
        pid_t pid = fork();

        if (pid == 0) {
            if (!freopen("/dev/null", "w", stdout))
                _exit(1);
            (void)execl(program, "shoald", "--version", NULL);
            _exit(1);
        }
        (void)waitpid(pid, NULL, 0);
        samples_add(&took, bench_now_ms() - begun);
    }
    return samples_percentile(&took, 50);
}

static void bench_restart(struct bench *b)
{
    struct samples serve = {0}, lead = {0};
    struct node *n = &b->node;
    unsigned kept = REPLICAS;
    struct service s;

    service_create(n, &s, "p14", REPLICAS);
    service_wait(n, &s, REPLICAS);
    for (int i = 0; i < RESTARTS; i++) {
        bench_pause(300);
        node_kill(n);
        double begun = bench_now_ms();
        node_start_again(n);
        node_answers(n);
        (void)dialog_ask(&n->client, 200, "GET", NULL, "/containers/json");
        samples_add(&serve, bench_now_ms() - begun);
        unsigned running = dialog_count(&n->client, "\"State\":\"running\"");
        if (running < kept)
            kept = running;
        do {
            bench_pause(1);
            (void)dialog_ask(&n->client, 0, "GET", NULL, "/services/%s", s.id); /* 503 until there is a leader */
        } while (n->client.status != 200 && bench_now_ms() < begun + 20000);
        samples_add(&lead, bench_now_ms() - begun);
        service_wait(n, &s, REPLICAS);
        (void)dialog_ask(&n->client, 200, "GET", NULL,
                         "/tasks?filters=%%7B%%22service%%22%%3A%%5B%%22p14%%22%%5D%%7D");
        if (dialog_count(&n->client, "\"ForceUpdate\"") != REPLICAS)
            bench_die("tasks were replaced");
    }
    service_remove(n, &s);
    figure("P14", "serve", samples_percentile(&serve, 50), "ms", serve.count, version_ms(&b->stage),
           "max=%.1f service=%.1f", samples_percentile(&serve, 100), samples_percentile(&lead, 50));
    figure("P14", "kept", kept, "containers", serve.count, 0, "of=%d", REPLICAS);
}

/* --- all ------------------------------------------------------------------------------------------- */

static const struct part {
    const char *goal;
    void (*run)(struct bench *b);
} parts[] = {{"P12", bench_memory}, {"P3", bench_service},  {"P4", bench_start}, {"P5", bench_replicas},
             {"P6", bench_rate},    {"P14", bench_restart}, {"P17", bench_roll}};

static bool is_wanted(const char *goal, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], goal) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *missing = stage_enter(&b.stage, argv[0]);
    AUTO_FREE
    char *floor_dir = NULL, *floor_group = NULL;

    if (missing) {
        printf("skip node_bench: %s\n", missing);
        return 0;
    }
    floor_dir = mem_printf("%s/floor", b.stage.dir);
    floor_group = mem_printf("%s/floor", b.stage.group);
    node_open(&b.node, &b.stage, "node", "2:16");
    floor_open(&b.floor, floor_dir, floor_group);
    node_swarm_init(&b.node);
    if (is_wanted("P12", argc, argv))
        bench_idle(&b);
    if (is_wanted("P19", argc, argv))
        bench_init(&b);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (is_wanted(parts[i].goal, argc, argv))
            parts[i].run(&b);
    node_close(&b.node);
    floor_close(&b.floor);
    return 0;
}
