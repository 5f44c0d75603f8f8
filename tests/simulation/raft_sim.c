/* The simulation of manager/raft: the production code on simulated disks, clocks and links.
 *
 * usage: raft_sim SEEDS [SEED]
 *
 * Without SEED: the directed schedules, then SEEDS random worlds, then worlds in which a member is killed at one
 * operation on its disk after another: a member alone, then one of three, until there were as many as SEEDS ask
 * for. With SEED: SEEDS random worlds from that one on and the kills of the first of them, with a line per message
 * if RAFT_SIM_TRACE is set and the production code's own log if RAFT_SIM_LOG is. One line "ok NAME" or "not ok
 * NAME" per group, and how often rare states were reached: with many seeds each of them must have been. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_chaos.h"
#include "tests/simulation/raft_directed.h"

#define KILLS_PER_SEED 25
#define SEEDS_FOR_ALL  200 /* with so many every rare state must come about */

static struct world_counts total;

static void add_counts(const struct world *w)
{
    const uint64_t *from = (const uint64_t *)&w->counts;
    uint64_t *to = (uint64_t *)&total;

    for (size_t i = 0; i < sizeof(total) / sizeof(*to); i++)
        to[i] += from[i];
}

/* Print how often what is rare came about; false when something never did. */
static bool print_counts(void)
{
    bool all = true;
    const struct world_counts *c = &total;
    const struct {
        const char *name;
        uint64_t count;
    } states[] = {
        {"events", c->events},
        {"entries applied", c->entries},
        {"proposals acknowledged", c->acked},
        {"proposals failed", c->failed_proposals},
        {"strong reads", c->reads},
        {"terms with a leader", c->elections},
        {"terms without a leader: votes split or lost", c->lost_terms},
        {"leaders elected while another believed to lead", c->two_leaders},
        {"leaders that began with old entries uncommitted (figure 8)", c->old_uncommitted},
        {"leaders elected while another had the longer log", c->longer_elsewhere},
        {"members killed", c->crashes},
        {"of these with a loss of power", c->powers},
        {"of these inside an operation on the disk", c->kills_inside},
        {"writes torn", c->torn},
        {"writes failed, their bytes left in the cache", c->unsaid},
        {"logs cut by a new leader", c->cuts},
        {"snapshots taken", c->snapshots},
        {"snapshots installed", c->installs},
        {"cores begun again (G3, G5)", c->restarts},
        {"old entries read again for a member", c->fetches},
        {"messages refused", c->refused},
        {"changes of membership", c->changes},
        {"removals", c->removes},
        {"transfers asked for", c->transfers},
        {"proposals refused for a full disk", c->full_refusals},
        {"logs reopened with a new segment", c->segments_new},
        {"leaders' links seen closed", c->gone},
        {"damaged disks refused", c->refused_open},
        {"messages lost", c->dropped},
        {"messages doubled", c->doubled},
    };

    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        printf("# %12" PRIu64 " %s\n", states[i].count, states[i].name);
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        all &= states[i].count > 0;
    printf("# guards that stepped in:");
    for (int i = 1; i < GUARDS; i++)
        printf(" G%d=%" PRIu64, i, c->guards[i]);
    printf("\n");
    return all;
}

/* End a world; tell what failed and how to see it again. */
static bool finish(struct world *w, const char *name, const char *again)
{
    bool ok = !w->failed;
    char why[sizeof(w->why)];
    int64_t ms = w->now_us / 1000;

    if (!ok && getenv("RAFT_SIM_LOG"))
        raftsim_dump(w);
    memcpy(why, w->why, sizeof(why));
    raftsim_fini(w);
    add_counts(w);
    if (!ok)
        printf("not ok %s: at %" PRId64 " ms: %s\n    again: %s\n", name, ms, why, again);
    return ok;
}

static bool run_directed(void)
{
    bool all = true;

    for (size_t i = 0; i < directed_count; i++) {
        struct world w;
        const char *only = getenv("RAFT_SIM_ONLY");

        if (only && !strstr(directed[i].name, only))
            continue;
        directed[i].run(&w);
        if (finish(&w, directed[i].name, "RAFT_SIM_ONLY=NAME raft_sim 0"))
            printf("ok %s\n", directed[i].name);
        else
            all = false;
        fflush(stdout);
    }
    return all;
}

static bool run_seed(uint64_t seed)
{
    struct world w;
    char name[32], again[64];

    (void)snprintf(name, sizeof(name), "chaos_seed_%" PRIu64, seed);
    (void)snprintf(again, sizeof(again), "make sim ONLY=raft_sim SEED=%" PRIu64, seed);
    chaos_run(&w, seed);
    return finish(&w, name, again);
}

static bool run_chaos(uint64_t first, uint64_t seeds)
{
    uint64_t failed = 0;
    int64_t start_us = clock_mono_us(clock_real()), us;

    for (uint64_t seed = first; seed < first + seeds && failed < 10; seed++)
        failed += !run_seed(seed);
    if (!failed)
        printf("ok chaos (%" PRIu64 " seeds from %" PRIu64 ")\n", seeds, first);
    us = MAX(clock_mono_us(clock_real()) - start_us, (int64_t)1);
    printf("# %" PRIu64 " seeds in %.1f s: %.0f seeds a minute\n", seeds, (double)us / 1e6,
           (double)seeds * 60e6 / (double)us);
    return failed == 0;
}

/* Kill at every operation on the disk that the world of this seed makes. */
static uint64_t run_kills_of(uint64_t seed, uint64_t *failed)
{
    struct world w;
    uint64_t operations = chaos_kill_at(&w, seed, 0), n;
    char name[64], again[64];

    *failed += !finish(&w, "kill_at_none", "");
    (void)snprintf(again, sizeof(again), "make sim ONLY=raft_sim SEED=%" PRIu64, seed);
    for (n = 1; n <= operations && *failed < 10; n++) {
        (void)snprintf(name, sizeof(name), "kill_seed_%" PRIu64 "_operation_%" PRIu64, seed, n);
        chaos_kill_at(&w, seed, n);
        *failed += !finish(&w, name, again);
    }
    return operations;
}

static bool run_kills(uint64_t seeds)
{
    uint64_t points = 0, failed = 0;

    for (uint64_t seed = 1; points < seeds * KILLS_PER_SEED && failed < 10; seed++)
        points += run_kills_of(seed, &failed);
    if (!failed)
        printf("ok kill_at_each_operation (%" PRIu64 " points)\n", points);
    return failed == 0;
}

/* The kills of each of these seeds. */
static bool run_kills_from(uint64_t first, uint64_t seeds)
{
    uint64_t failed = 0;

    for (uint64_t seed = first; seed < first + seeds && failed < 10; seed++)
        (void)run_kills_of(seed, &failed);
    if (!failed)
        printf("ok kill_at_each_operation (%" PRIu64 " seeds from %" PRIu64 ")\n", seeds, first);
    return failed == 0;
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 100;
    bool ok = true;

    log_set_level(getenv("RAFT_SIM_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    if (argc > 2) {
        uint64_t first = strtoull(argv[2], NULL, 10);

        ok = run_chaos(first, seeds);
        ok &= run_kills_from(first, MAX(seeds / KILLS_PER_SEED, (uint64_t)1));
        (void)print_counts();
        return !ok;
    }
    ok &= run_directed();
    ok &= run_chaos(1, seeds);
    ok &= run_kills(seeds);
    bool all = print_counts();
    if (seeds >= SEEDS_FOR_ALL) {
        printf("%sok every_rare_state_is_reached\n", all ? "" : "not ");
        ok &= all;
    }
    return !ok;
}
