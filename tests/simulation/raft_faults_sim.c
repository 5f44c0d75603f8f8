/* Proof that the simulation sees: each guard taken away, each planted bug must make it fail.
 *
 * usage: raft_faults_sim SEEDS [SEED]    both are ignored: how many seeds a bug may need is part of the claim
 *
 * This program is linked with manager/raft compiled once more with RAFT_FAULTS (Makefile). Every world runs in a
 * child process, since a missing guard may well crash it: that counts as seen. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/raft/fault.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_chaos.h"
#include "tests/simulation/raft_directed.h"

#define SEEDS_MAX   1000
#define SECONDS_MAX 60 /* a world that hangs is seen too */

enum raft_fault raft_fault;

struct seen {
    bool failed;
    uint64_t seed;
    char why[200];
};

/* Run worlds in a child until one fails; what it saw comes back through a pipe. */
static struct seen run(void (*worlds)(void *ctx, struct seen *ret), void *ctx)
{
    struct seen seen = {0};
    int ends[2], status = 0;
    pid_t child;

    fflush(stdout);
    if (pipe(ends) < 0 || (child = fork()) < 0)
        abort();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        worlds(ctx, &seen);
        _exit(write(ends[1], &seen, sizeof(seen)) != sizeof(seen));
    }
    close(ends[1]);
    if (read(ends[0], &seen, sizeof(seen)) != sizeof(seen)) {
        seen.failed = true;
        (void)snprintf(seen.why, sizeof(seen.why), "it crashed");
    }
    close(ends[0]);
    (void)waitpid(child, &status, 0);
    return seen;
}

static void judge(const struct world *w, struct seen *ret, uint64_t seed)
{
    ret->failed = w->failed;
    ret->seed = seed;
    (void)snprintf(ret->why, sizeof(ret->why), "%.190s", w->why);
}

static void run_directed(void *ctx, struct seen *ret)
{
    const struct directed *d = ctx;
    struct world w;

    (void)alarm(SECONDS_MAX);
    d->run(&w);
    judge(&w, ret, 0);
}

static void run_chaos(void *ctx, struct seen *ret)
{
    const char *checker = ctx;

    for (uint64_t seed = 1; seed <= SEEDS_MAX; seed++) {
        struct world w;

        (void)alarm(SECONDS_MAX);
        chaos_run(&w, seed);
        judge(&w, ret, seed);
        raftsim_fini(&w);
        if (ret->failed && (!checker || strncmp(ret->why, checker, strlen(checker)) == 0))
            return;
        ret->failed = false;
    }
}

struct planted {
    const char *name;
    enum raft_fault fault;
    const char *checker; /* that must see it; NULL: any */
};

static const struct planted planted[] = {
    {"vote_not_stored", FAULT_VOTE_NOT_STORED, "vote"},
    {"messages_before_the_vote_is_stored", FAULT_MESSAGE_EARLY, NULL},
    {"two_leaders_by_lost_votes", FAULT_VOTE_NOT_STORED, "leader"},
    {"sole_voter_keeps_its_term", FAULT_G3, "log"},
    {"uncommitted_entries_applied", FAULT_APPLY_UNCOMMITTED, "applied"},
    {"last_chunk_not_restored", FAULT_RESTORE_PARTIAL, "applied"},
    {"answered_before_applied", FAULT_ANSWER_EARLY, "acked"},
    {"durable_before_written", FAULT_EARLY_DURABLE, "durable"},
    {"snapshot_never_offered", FAULT_OFFER_LOST, "converge"},
    {"segments_removed_early", FAULT_REMOVE_EARLY, "open"},
    {"cut_not_written", FAULT_CUT_FORGOTTEN, "open"},
    {"old_appends_taken_for_new", FAULT_G2, NULL},
    {"change_inside_a_message", FAULT_G7, NULL},
};

int main(void)
{
    bool all = true;

    log_set_level(LOG_LEVEL_ERROR + 1);
    for (size_t i = 0; i < directed_count; i++) {
        if (!directed[i].without)
            continue;
        raft_fault = directed[i].without;
        struct seen seen = run(run_directed, (void *)&directed[i]);
        printf("%sok without_%s%s%s\n", seen.failed ? "" : "not ", directed[i].name, seen.failed ? ": " : "",
               seen.why);
        all &= seen.failed;
    }
    for (size_t i = 0; i < ARRAY_SIZE(planted); i++) {
        raft_fault = planted[i].fault;
        struct seen seen = run(run_chaos, (void *)planted[i].checker);
        printf("%sok planted_%s (seed %" PRIu64 "): %s\n", seen.failed ? "" : "not ", planted[i].name, seen.seed,
               seen.why);
        all &= seen.failed;
    }
    return !all;
}
