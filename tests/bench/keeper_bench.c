/* The keeper's part of P4, P6 and P12 (GOALS.md), at its own socket: a plan is sent, the program is executed.
 *
 * usage: keeper_bench        KEEPER_BENCH_ALIVE=2000 for the long form of "among"
 *
 *     P4  keeper_warm, keeper_each_second   from the pool, a start after the other and one per second
 *         keeper_cold                       without a pool
 *         keeper_among                      from the pool while many containers are alive, against none alive
 *     P6  keeper_rate, keeper_cpu           launch, end, removal, several under way; CPU of keeper, children and us
 *     P12 keeper_idle, keeper_container     PSS of keeper and logger; its growth per container that runs
 *
 * The floor (floor.h) is taken beside each start, so that what else the machine does slows both. It builds its
 * sandbox cold every time: a warm start should be far below it, a cold one near it.
 *
 * Told to end (SIGTERM) it says nothing more, but still ends its containers and its keeper. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "tests/bench/figure.h"
#include "tests/bench/floor.h"
#include "tests/bench/rig.h"

enum {
    STARTS = 50,
    STARTS_EACH_SECOND = 6,
    COLD = 30,
    ALIVE = 100,
    AMONG = 30,
    UNDER_WAY = 8,
    RATE_SECONDS = 3,
    MEMORY = 100, /* containers */
};

static struct rig rig;
static struct floor plain;

static const char *const sleeper[] = {"/bin/busybox", "sleep", "1000", NULL};

static volatile sig_atomic_t is_over; /* it was told to end */

static void on_term(int number)
{
    (void)number;
    is_over = 1;
}

static void say(const char *id, const char *what, double value, const char *unit, unsigned n, double least,
                const char *more)
{
    if (!is_over)
        figure(id, what, value, unit, n, least, "%s", more);
}

static double floor_once(void)
{
    struct floor_container c;
    double took = floor_start(&plain, &c, sleeper);

    floor_end(&plain, &c);
    return took;
}

static struct rig_case *a_sleeper(void)
{
    return rig_case(&rig, "/bin/busybox", "sleep", "1000", NULL);
}

static void end(struct rig_case *c)
{
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
    rig_drop(c);
}

static double start(struct rig_case *c)
{
    double begun = bench_now_ms();

    rig_launch(c);
    if (c->error.code)
        bench_die("launch: %s", c->error.text);
    return bench_now_ms() - begun;
}

/* --- P4 -------------------------------------------------------------------------------------------- */

static void bench_starts(const char *what, unsigned count, unsigned pause_ms)
{
    struct samples took = {0}, floors = {0};

    for (unsigned i = 0; i < count && !is_over; i++) {
        struct rig_case *c = a_sleeper();

        rig_turn(&rig, pause_ms); /* the pool is filled off the path */
        samples_add(&took, start(c));
        end(c);
        samples_add(&floors, floor_once());
    }
    char more[96];
    (void)snprintf(more, sizeof(more), "min=%.2f p95=%.2f floor_p95=%.2f", samples_percentile(&took, 0),
                   samples_percentile(&took, 95), samples_percentile(&floors, 95));
    say("P4", what, samples_percentile(&took, 50), "ms", took.count, samples_percentile(&floors, 50), more);
}

static unsigned alive(void)
{
    const char *wish = getenv("KEEPER_BENCH_ALIVE");
    long count = wish ? strtol(wish, NULL, 10) : ALIVE;

    return count > 0 && count <= 4000 ? (unsigned)count : ALIVE;
}

static double among(void)
{
    struct samples took = {0};

    for (unsigned i = 0; i < AMONG && !is_over; i++) {
        struct rig_case *c = a_sleeper();

        rig_turn(&rig, 25);
        samples_add(&took, start(c));
        end(c);
    }
    return samples_percentile(&took, 50);
}

static void bench_among(void)
{
    unsigned count = alive();
    struct rig_case **c = mem_array(count, sizeof(struct rig_case *));
    double none = among();

    unsigned made = 0;
    char more[32];

    for (; made < count && !is_over; made++)
        (void)start(c[made] = a_sleeper());
    (void)snprintf(more, sizeof(more), "alive=%u", made);
    say("P4", "keeper_among", among(), "ms", AMONG, none, more);
    for (unsigned i = 0; i < made; i++)
        end(c[i]);
    free(c);
}

/* --- P6 -------------------------------------------------------------------------------------------- */

static struct rig_case *send_quick(void)
{
    struct rig_case *c = rig_case(&rig, "/bin/busybox", "true", NULL);

    rig_send(c);
    return c;
}

static double cpu_ms(void)
{
    return bench_own_cpu_ms() + bench_cpu_ms(rig_keeper_pid(&rig)) + bench_cpu_ms(rig_logger_pid(&rig));
}

static void bench_rate(void)
{
    struct rig_case *slots[UNDER_WAY];
    unsigned cycles = 0;

    for (unsigned i = 0; i < UNDER_WAY; i++)
        slots[i] = send_quick();
    double begun = bench_now_ms(), cpu = cpu_ms();
    while (!is_over && bench_now_ms() - begun < RATE_SECONDS * 1000) {
        (void)uv_run(&rig.loop, UV_RUN_ONCE);
        for (unsigned i = 0; i < UNDER_WAY; i++) {
            if (slots[i]->answered && slots[i]->error.code)
                bench_die("launch: %s", slots[i]->error.text);
            if (!slots[i]->ended)
                continue;
            rig_forget(slots[i]);
            rig_drop(slots[i]);
            slots[i] = send_quick();
            cycles++;
        }
    }
    double seconds = (bench_now_ms() - begun) / 1000;
    cpu = cpu_ms() - cpu;
    for (unsigned i = 0; i < UNDER_WAY; i++) {
        rig_wait(slots[i]);
        rig_forget(slots[i]);
        rig_drop(slots[i]);
    }
    if (is_over || cycles == 0)
        return;
    struct floor_rate least = floor_cycles(&plain, 2, RATE_SECONDS);
    say("P6", "keeper_rate", cycles / seconds, "/s", cycles, least.per_second, "");
    say("P6", "keeper_cpu", cpu / cycles, "ms", cycles, least.cpu_ms, "");
}

/* --- P12 ------------------------------------------------------------------------------------------- */

static double pss_kib(void)
{
    return bench_pss_kib(rig_await_keeper(&rig, 0)) + bench_pss_kib(rig_await_logger(&rig, 0));
}

static void bench_memory(void)
{
    struct rig_case *c[MEMORY];
    double idle = pss_kib();

    for (unsigned i = 0; i < MEMORY; i++)
        (void)start(c[i] = rig_case(&rig, "/bin/sh", "-c", "echo a line; exec sleep 1000", NULL));
    rig_turn(&rig, 300);
    double full = pss_kib();
    figure("P12", "keeper_idle", idle, "KiB", 1, 0, "keeper=%.0f logger=%.0f", bench_pss_kib(rig_keeper_pid(&rig)),
           bench_pss_kib(rig_logger_pid(&rig)));
    figure("P12", "keeper_container", (full - idle) / MEMORY, "KiB", MEMORY, 0, "%s", "");
    for (unsigned i = 0; i < MEMORY; i++)
        end(c[i]);
}

int main(int argc, char **argv)
{
    const char *missing = rig_missing(argv[0]);
    char group[32];

    (void)argc;
    if (missing) {
        printf("# keeper_bench: %s\n", missing);
        return 0;
    }
    (void)signal(SIGTERM, on_term);
    rig_run_in_memory();
    rig_open(&rig, 0, 0);
    (void)snprintf(group, sizeof(group), "shoal-floor-%d", (int)getpid());
    floor_open(&plain, rig_path(&rig, "floor"), group);
    bench_memory();
    bench_starts("keeper_cold", COLD, 1);
    rig_disconnect(&rig);
    rig.warm_min = 2;
    rig.warm_max = 12;
    rig_connect(&rig);
    bench_starts("keeper_warm", STARTS, 25);
    bench_starts("keeper_each_second", STARTS_EACH_SECOND, 1000);
    bench_among();
    bench_rate();
    floor_close(&plain);
    rig_close(&rig);
    return 0;
}
