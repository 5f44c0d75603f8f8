/* Proof that the managers' simulation sees: with each bug that is planted in managers and agents a checker fails.
 *
 * usage: manager_faults_sim SEEDS [SEED]
 *
 * How many seeds a bug may need is part of the claim, so these only say how thorough to be: with fewer than 100
 * seeds the bugs that are seen within seconds are planted, else all. MSIM_ONLY=text plants those whose name
 * contains it.
 *
 * This program is linked with the sources that hold such bugs compiled once more (proto/base/planted.h), and with
 * manager/raft's (manager/raft/fault.h). Every bug's worlds run in a child process, since it may crash or hang:
 * that counts as seen. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/raft/fault.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/planted.h"
#include "tests/simulation/manager_scene.h"

#define SEEDS_MAX   1000
#define SECONDS_MAX 100 /* for all worlds of one bug */

enum raft_fault raft_fault;
enum planted planted;

static char dir[64];

struct bug {
    const char *name, *checker, * or ; /* who must see it */
    enum planted planted;
    enum raft_fault raft;
    unsigned managers;
    bool quick; /* seen within seconds */
};

struct seen {
    uint64_t seed;
    char why[300];
};

/* Leaders that are stopped for a while are asked too late. */
static void stop_leaders(struct msim *w)
{
    struct msim_manager *m = msim_leader(w);

    if (m && msim_chance(w, 5))
        m->paused_until_us = w->now_us + 3000000;
}

static bool is_by(const char *why, const char *checker)
{
    return checker && strncmp(why, checker, strlen(checker)) == 0;
}

static bool is_seen(const struct bug *bug, const char *why)
{
    return is_by(why, bug->checker) || is_by(why, bug->or);
}

/* Until the checker sees it that is there for it; others may before. */
static void run_worlds(const struct bug *bug, struct seen *ret)
{
    struct scene scene = {.options = {.managers = bug->managers, .snapshot_bytes = 16384, .segment_bytes = 32768},
                          .seconds = 10,
                          .on_step = bug->planted == PLANTED_READ_STALE ? stop_leaders : NULL};

    planted = bug->planted;
    raft_fault = bug->raft;
    (void)alarm(SECONDS_MAX);
    for (ret->seed = 1; ret->seed <= SEEDS_MAX; ret->seed++) {
        struct msim *w = scene_live(ret->seed, &scene, dir);

        (void)snprintf(ret->why, sizeof(ret->why), "%.290s", w->failure);
        msim_free(w);
        if (is_seen(bug, ret->why))
            return;
    }
}

/* What it saw comes back through a pipe; nothing comes when it crashed. */
static struct seen run(const struct bug *bug)
{
    struct seen seen = {0};
    int ends[2], status;
    pid_t child;

    fflush(stdout);
    if (pipe(ends) < 0 || (child = fork()) < 0)
        abort();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        run_worlds(bug, &seen);
        _exit(write(ends[1], &seen, sizeof(seen)) != sizeof(seen));
    }
    close(ends[1]);
    if (read(ends[0], &seen, sizeof(seen)) != sizeof(seen))
        (void)snprintf(seen.why, sizeof(seen.why), "it crashed");
    close(ends[0]);
    (void)waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        *seen.why = '\0'; /* no checker saw it in time */
    return seen;
}

static const struct bug bugs[] = {
    {"entry_skipped", "digest", "open", PLANTED_ENTRY_SKIPPED, 0, 3, true},
    {"undo_forgotten", "index", "it crashed", PLANTED_UNDO_FORGOTTEN, 0, 3, false},
    {"one_slot_too_many", "laws", NULL, PLANTED_ONE_TOO_MANY, 0, 1, true},
    {"port_given_twice", "laws", NULL, PLANTED_PORT_TWICE, 0, 1, true},
    {"answered_when_proposed", "acked", "linear", PLANTED_ANSWERED_EARLY, 0, 3, true},
    {"repeated_request_executed", "answer", "acked", PLANTED_REPLAY_FORGOTTEN, 0, 3, true},
    {"stale_strong_read", "linear", NULL, PLANTED_READ_STALE, 0, 3, false},
    {"task_told_before_confirmed", "converge", NULL, PLANTED_TOLD_EARLY, 0, 3, false},
    {"down_while_registering", "converge", NULL, PLANTED_DOWN_TWICE, 0, 3, false},
    {"full_set_clears", "agent", NULL, PLANTED_FULL_SET_CLEARS, 0, 1, true},
    {"standby_never_promoted", "converge", NULL, PLANTED_NEVER_PROMOTED, 0, 3, false},
    {"durable_before_written", "acked", "open", 0, FAULT_EARLY_DURABLE, 1, false},
    {"votes_lost", "leader", "digest", 0, FAULT_VOTE_NOT_STORED, 3, true},
    {"cut_not_written", "open", NULL, 0, FAULT_CUT_FORGOTTEN, 3, false},
    {"snapshot_never_offered", "converge", NULL, 0, FAULT_OFFER_LOST, 3, false},
};

int main(int argc, char **argv)
{
    bool all = true, thorough = argc > 1 && strtoul(argv[1], NULL, 10) >= 100;

    log_set_level(LOG_LEVEL_ERROR + 1);
    (void)snprintf(dir, sizeof(dir), "%s/shoal-faults-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                   (int)getpid()); /* fits */
    for (size_t i = 0; i < ARRAY_SIZE(bugs); i++) {
        if (!thorough && !bugs[i].quick)
            continue;
        if (getenv("MSIM_ONLY") && !strstr(bugs[i].name, getenv("MSIM_ONLY")))
            continue;
        if (dir_make(dir, 0700, NULL) < 0)
            return 1;
        struct seen seen = run(&bugs[i]);
        bool ok = is_seen(&bugs[i], seen.why);

        printf("%sok planted_%s (seed %" PRIu64 "): %s\n", ok ? "" : "not ", bugs[i].name, seen.seed,
               *seen.why ? seen.why : "no checker saw it");
        all &= ok;
        (void)tree_remove(AT_FDCWD, dir, NULL); /* what a child that crashed has left */
    }
    return !all;
}
