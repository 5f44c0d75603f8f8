/* A leader with thousands of agents: a real shoald on one side, simulated agents (crowd.h) on the other, TLS and
 * the protocol as they are.
 *
 *     swarm_bench [GOAL...] [agents=N] [tasks=N]        500 agents and 20,000 tasks when not given
 *
 *     P10   agents that only hold their sessions: CPU of the leader, and memory by session
 *     P2    a service grows to so many tasks, created to reported running
 *     P9    a node's connection closes, or it says nothing any more: until its tasks run elsewhere
 *     P11   single tasks change: CPU time of the leader by change
 *     P18   the 100 tasks of one service are listed beside all others
 *     P12   memory of the leader by task and by node
 *     P19   a real node joins, as a worker and as a manager
 *     storm all agents lose their connections at once: until they are back, and how long people wait meanwhile
 *
 * The leader's CPU time and memory are those of its process alone. docs/performance.md says what they came to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "tests/bench/crowd.h"
#include "tests/bench/figure.h"
#include "tests/bench/floor.h"
#include "tests/bench/node.h"

#define JOIN_MS 600000.0
#define GROW_MS 1200000.0

static struct stage stage;
static struct node leader;
static struct crowd crowd;
static struct crowd_config config;
static unsigned agents = 500, tasks = 20000, services;
static const char *goals[16];
static unsigned goal_count;
static char manager_token[128];

static bool wanted(const char *goal)
{
    for (unsigned i = 0; i < goal_count; i++)
        if (strcmp(goals[i], goal) == 0)
            return true;
    return goal_count == 0;
}

static void until_running(uint64_t count, double patience_ms)
{
    double until = bench_now_ms() + patience_ms;

    while (crowd.counts->running != count) {
        if (bench_now_ms() > until)
            bench_die("%llu of %llu tasks run", (unsigned long long)crowd.counts->running,
                      (unsigned long long)count);
        bench_pause(0.2);
    }
}

static void create(const char *name, unsigned replicas)
{
    AUTO_FREE
    char *body = mem_printf("{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"box:1\"},"
                            "\"RestartPolicy\":{\"Delay\":0}},\"Mode\":{\"Replicated\":{\"Replicas\":%u}}}",
                            name, replicas);

    (void)dialog_ask(&leader.client, 201, "POST", body, "/services/create");
    services++;
}

static void scale(const char *name, unsigned replicas)
{
    (void)dialog_ask(&leader.client, 200, "GET", NULL, "/services/%s", name);
    double version = dialog_number(&leader.client, "\"Index\":");
    AUTO_FREE
    char *body = mem_printf("{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"box:1\"},"
                            "\"RestartPolicy\":{\"Delay\":0}},\"Mode\":{\"Replicated\":{\"Replicas\":%u}}}",
                            name, replicas);

    (void)dialog_ask(&leader.client, 200, "POST", body, "/services/%s/update?version=%.0f", name, version);
}

static void set_heartbeat(unsigned ms)
{
    (void)dialog_ask(&leader.client, 200, "GET", NULL, "/swarm");
    double version = dialog_number(&leader.client, "\"Index\":");
    AUTO_FREE
    char *body = mem_printf("{\"Dispatcher\":{\"HeartbeatPeriod\":%u000000}}", ms);

    (void)dialog_ask(&leader.client, 200, "POST", body, "/swarm/update?version=%.0f", version);
}

/* --- P10, P12 ---------------------------------------------------------------------------------------- */

static double join_all(unsigned count)
{
    double begun = bench_now_ms();

    crowd_grow(&crowd, count);
    crowd_await(&crowd, count, JOIN_MS);
    return bench_now_ms() - begun;
}

static void measure_sessions(void)
{
    double before_kib = bench_pss_kib(leader.pid), cpu_ms = bench_cpu_ms(leader.pid);
    double took_ms = join_all(agents);

    figure("P10", "join", agents / took_ms * 1000, "/s", agents, 0, "cpu=%.3gms",
           (bench_cpu_ms(leader.pid) - cpu_ms) / agents);
    bench_pause(12000); /* two heartbeats of each: what joining leaves behind has settled */
    double kib = bench_pss_kib(leader.pid) - before_kib;
    double quiet_ms = bench_now_ms(), idle_ms = bench_cpu_ms(leader.pid);
    bench_pause(15000);
    figure("P10", "core", (bench_cpu_ms(leader.pid) - idle_ms) / (bench_now_ms() - quiet_ms) * 100, "percent", 1, 0,
           "agents=%u", agents);
    figure("P10", "session", kib / agents, "KiB", agents, 0, "agents=%u with the node's record", agents);
}

/* --- P2 ---------------------------------------------------------------------------------------------- */

static void measure_growth(void)
{
    double begun = bench_now_ms(), cpu_ms = bench_cpu_ms(leader.pid), before_kib = bench_pss_kib(leader.pid);
    double tenth[11] = {0};
    uint64_t had = crowd.counts->running;

    create("grown", tasks);
    for (unsigned i = 1; i <= 10; i++) {
        while (crowd.counts->running < had + (uint64_t)tasks / 10 * i) {
            if (bench_now_ms() - begun > GROW_MS)
                bench_die("%llu tasks run after %.0f s", (unsigned long long)crowd.counts->running, GROW_MS / 1000);
            bench_pause(0.5);
        }
        tenth[i] = bench_now_ms() - begun;
    }
    until_running(had + tasks, GROW_MS);
    double took_ms = bench_now_ms() - begun;
    figure("P2", "seconds", took_ms / 1000, "s", 1, 0, "tasks=%u agents=%u last_tenth=%.2f cpu=%.3gus", tasks,
           agents, tenth[1] / (tenth[10] - tenth[9]), (bench_cpu_ms(leader.pid) - cpu_ms) * 1000 / tasks);
    figure("P12", "task", (bench_pss_kib(leader.pid) - before_kib) / tasks, "KiB", tasks, 0,
           "with log and sessions");
}

/* --- P9 ---------------------------------------------------------------------------------------------- */

static void measure_loss(bool closed, unsigned runs, unsigned heartbeat_ms)
{
    static struct samples took;
    uint64_t all = crowd.counts->running;

    took.count = 0;
    for (unsigned i = 0; i < runs; i++) {
        unsigned victim = (i * 7 + 3) % agents, its = crowd.counts->tasks_of[victim];

        if (its == 0)
            continue;
        double begun = bench_now_ms();
        (closed ? crowd_cut : crowd_mute)(&crowd, victim);
        while (crowd.counts->tasks_of[victim] != 0) /* once it has lost its connection, they do not count */
            bench_pause(0.1);
        until_running(all, 60000);
        samples_add(&took, bench_now_ms() - begun);
        crowd_return(&crowd, victim);
        crowd_await(&crowd, agents, 60000);
        until_running(all, 60000);
    }
    if (closed)
        figure("P9", "closed", samples_percentile(&took, 50), "ms", took.count, 0, "most=%.4g agents=%u",
               samples_percentile(&took, 100), agents);
    else
        figure("P9", "silent", samples_percentile(&took, 50), "ms", took.count, 3.0 * heartbeat_ms,
               "most=%.4g agents=%u", samples_percentile(&took, 100), agents);
}

static void measure_losses(void)
{
    if (crowd.counts->running == 0) {
        create("lost", agents * 4);
        until_running(agents * 4, GROW_MS);
    }
    measure_loss(true, 10, 0);
    set_heartbeat(1000);
    bench_pause(3000);
    measure_loss(false, 3, 1000);
    set_heartbeat(5000);
}

/* --- P11, P18 ---------------------------------------------------------------------------------------- */

/* A service of one task is scaled up and down: one task is told to an agent, runs, and is told to end. */
static void measure_changes(void)
{
    enum { CHANGES = 200 };
    static struct samples took;
    uint64_t all = crowd.counts->running, told = crowd.counts->told;

    create("changed", 0);
    double cpu_ms = bench_cpu_ms(leader.pid);
    took.count = 0;
    for (unsigned i = 0; i < CHANGES; i++) {
        double begun = bench_now_ms();

        scale("changed", 1);
        while (crowd.counts->told == told)
            bench_pause(0.02);
        told = crowd.counts->told;
        samples_add(&took, bench_now_ms() - begun);
        until_running(all + 1, 60000);
        scale("changed", 0);
        until_running(all, 60000);
    }
    figure("P11", "asked_to_told", samples_percentile(&took, 99), "ms", took.count, 0, "p50=%.3g agents=%u",
           samples_percentile(&took, 50), agents);
    figure("P11", "cpu_of_all", (bench_cpu_ms(leader.pid) - cpu_ms) * 1000 / CHANGES / 2, "us", took.count, 0,
           "with HTTP, log and reports; agents=%u", agents);
}

static void measure_listing(void)
{
    static struct samples took;
    uint64_t all = crowd.counts->running;

    create("listed", 100);
    until_running(all + 100, GROW_MS);
    took.count = 0;
    for (unsigned i = 0; i < 50; i++) {
        double begun = bench_now_ms();

        (void)dialog_ask(&leader.client, 200, "GET", NULL, "/tasks?filters={%%22service%%22:[%%22listed%%22]}");
        samples_add(&took, bench_now_ms() - begun);
    }
    if (dialog_count(&leader.client, "\"Slot\"") != 100)
        bench_die("%u tasks were listed, not 100", dialog_count(&leader.client, "\"Slot\""));
    figure("P18", "list", samples_percentile(&took, 50), "ms", took.count, 0, "most=%.3g tasks=%llu",
           samples_percentile(&took, 100), (unsigned long long)crowd.counts->running);
}

/* --- P19 --------------------------------------------------------------------------------------------- */

/* From the request to the answer: the node has its certificate and its session; a manager has the leader's log too.
 * The floor is three flushes: key and certificate at the node, its row at the leader. */
static void measure_joins(const char *role, const char *token, unsigned runs)
{
    static struct samples took, flush;
    static struct node node;
    AUTO_FREE
    char *body = mem_printf("{\"ListenAddr\":\"127.0.0.1:2378\",\"AdvertiseAddr\":\"127.0.0.1:2378\","
                            "\"RemoteAddrs\":[\"127.0.0.1:2377\"],\"JoinToken\":\"%s\"}",
                            token);

    node_open(&node, &stage, role, "0");
    took.count = flush.count = 0;
    for (unsigned i = 0; i < runs; i++) {
        double begun = bench_now_ms();

        (void)dialog_ask(&node.client, 200, "POST", body, "/swarm/join");
        samples_add(&took, bench_now_ms() - begun);
        samples_add(&flush, floor_flush_ms(stage.dir));
        node_swarm_leave(&node);
    }
    node_close(&node);
    figure("P19", "join", samples_percentile(&took, 50), "ms", took.count, 3 * samples_percentile(&flush, 50),
           "role=%s min=%.1f max=%.1f", role, samples_percentile(&took, 0), samples_percentile(&took, 100));
}

/* --- a storm ------------------------------------------------------------------------------------------ */

static void measure_storm(void)
{
    static struct samples waits;
    double cpu_ms = bench_cpu_ms(leader.pid), begun = bench_now_ms();

    crowd_storm(&crowd);
    while (crowd.counts->ready == agents)
        bench_pause(1);
    waits.count = 0;
    while (crowd.counts->ready < agents) {
        double asked = bench_now_ms();

        (void)dialog_ask(&leader.client, 200, "GET", NULL, "/services");
        samples_add(&waits, bench_now_ms() - asked);
        bench_pause(10);
        if (asked - begun > JOIN_MS)
            bench_die("%u of %u agents are back", crowd.counts->ready, agents);
    }
    double took_ms = bench_now_ms() - begun;
    (void)dialog_ask(&leader.client, 200, "GET", NULL, "/nodes");
    if (dialog_count(&leader.client, "\"down\""))
        bench_die("%u nodes are down after the storm", dialog_count(&leader.client, "\"down\""));
    figure("storm", "back", took_ms / 1000, "s", 1, 0, "agents=%u sent_away=%u cpu=%.3gms", agents,
           crowd.counts->sent_away, (bench_cpu_ms(leader.pid) - cpu_ms) / agents);
    figure("storm", "api_p99", samples_percentile(&waits, 99), "ms", waits.count, 0, "p50=%.3g most=%.3g",
           samples_percentile(&waits, 50), samples_percentile(&waits, 100));
}

/* --- all of it ---------------------------------------------------------------------------------------- */

static void read_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "agents=", 7) == 0)
            agents = (unsigned)strtoul(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "tasks=", 6) == 0)
            tasks = (unsigned)strtoul(argv[i] + 6, NULL, 10);
        else if (goal_count < ARRAY_SIZE(goals))
            goals[goal_count++] = argv[i];
    }
    if (agents < 2 || agents > CROWD_MOST || tasks < 10)
        bench_die("usage: swarm_bench [GOAL...] [agents=N] [tasks=N]");
}

static void raise_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* shoald gets it from us */
    }
    if (files.rlim_max < agents + 100)
        bench_die("%u agents need more descriptors than the %llu allowed here", agents,
                  (unsigned long long)files.rlim_max);
}

/* The leader takes no tasks itself. Agents dial several of its addresses, so that there are ports enough. */
static void found(void)
{
    static char token[sizeof(manager_token)], addresses[CROWD_ADDRESSES][32];

    node_open(&leader, &stage, "leader", "0");
    (void)dialog_ask(&leader.client, 200, "POST",
                     "{\"ListenAddr\":\"0.0.0.0:2377\",\"AdvertiseAddr\":\"127.0.0.1:2377\","
                     "\"Availability\":\"drain\"}",
                     "/swarm/init");
    (void)dialog_ask(&leader.client, 200, "GET", NULL, "/swarm");
    dialog_string(&leader.client, "\"Worker\":\"", token, sizeof(token));
    dialog_string(&leader.client, "\"Manager\":\"", manager_token, sizeof(manager_token));
    for (unsigned i = 0; i < CROWD_ADDRESSES; i++) {
        (void)snprintf(addresses[i], sizeof(addresses[i]), "127.0.0.%u:2377", i + 1); /* fits */
        config.addresses[i] = addresses[i];
    }
    config.token = token;
    config.hostname = "crowd";
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    raise_limit();
    const char *missing = stage_enter(&stage, argv[0]);
    if (missing) {
        printf("# swarm_bench: %s\n", missing);
        return 0;
    }
    found();
    crowd_open(&crowd, &config);
    bench_pause(1000);
    if (wanted("P19")) {
        measure_joins("worker", config.token, 9);
        measure_joins("manager", manager_token, 5);
    }
    if (wanted("P10"))
        measure_sessions();
    else
        (void)join_all(agents);
    if (wanted("P2"))
        measure_growth();
    if (wanted("P9"))
        measure_losses();
    if (wanted("P11"))
        measure_changes();
    if (wanted("P18"))
        measure_listing();
    if (wanted("storm"))
        measure_storm();
    crowd_close(&crowd);
    node_close(&leader);
    return 0;
}
