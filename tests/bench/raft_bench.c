/* What a commit costs with one manager: replica_propose to its answer, through the sealed log on a real disk.
 *
 * usage: raft_bench [DIRECTORY]    default: a new directory in $TMPDIR or /tmp
 *
 * A change is as large as the status of one task. Serial: one at a time; its floor is a bare O_DSYNC write of one
 * sector into a preallocated file of the same directory, measured in turns with it. Grouped: 1,024 under way, each
 * an entry of its own, so that what is written together is what waited together. Managers on one machine come with
 * issue 4. Lines are those of GOALS.md. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "manager/raft/env.h"
#include "manager/raft/replica.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define CHANGE_BYTES  200
#define SERIAL_RUNS   3000
#define GROUPED_RUNS  300000
#define GROUPED_AHEAD 1024
#define FLOOR_RUNS    100 /* in each turn */
#define TURNS         10
#define INIT_RUNS     11

struct bench {
    uv_loop_t loop;
    struct replica *replica;
    char dir[256];
    unsigned ahead;  /* that may be under way */
    unsigned wanted; /* in this part */
    unsigned sent, done;
    int64_t *started_us; /* by number */
    int64_t *took_us;
    bool leads;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "raft_bench: %s\n", what);
    exit(1);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static int64_t now_us(void)
{
    return clock_mono_us(clock_real());
}

/* Bare writes of one sector with O_DSYNC: FLOOR_RUNS times into `took`. */
static void measure_floor(const struct bench *b, int64_t *took)
{
    AUTO_FREE
    char *path = mem_printf("%s/floor", b->dir);
    AUTO_CLOSE
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    AUTO_FREE
    char *zeroes = mem_alloc(FLOOR_RUNS * 512);

    if (fd < 0 || write_all(fd, zeroes, FLOOR_RUNS * 512, NULL) < 0 || fsync(fd) < 0)
        die("cannot write the file for the floor");
    close(fd);
    fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
    memset(zeroes, 7, 512);
    for (int i = 0; i < FLOOR_RUNS; i++) {
        int64_t start = now_us();

        if (pwrite(fd, zeroes, 512, i * 512) != 512)
            die("cannot write the file for the floor");
        took[i] = now_us() - start;
    }
    (void)unlink(path);
}

/* --- the replica's events ------------------------------------------------------------------------- */

static void on_state(void *ctx, enum replica_state state, uint64_t term)
{
    struct bench *b = ctx;

    b->leads = state == REPLICA_LEADER;
    if (b->leads)
        uv_stop(&b->loop);
}

static int on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    return 0;
}

static long no_bytes(void *ctx, void *into, size_t size, struct err *e)
{
    return 0;
}

static int on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    struct bench *b = ctx;

    *ret = (struct replica_snapshot_source){.read = no_bytes, .index = replica_commit_index(b->replica)};
    return err_set(e, ERR_UNAVAILABLE, "the bench takes none");
}

static int on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e)
{
    return 0;
}

static void on_fatal(void *ctx, const struct err *e)
{
    die(e->text);
}

/* --- load ----------------------------------------------------------------------------------------- */

static void fill(struct bench *b);

static void answered(void *ctx, const struct err *e, uint64_t index)
{
    struct bench *b = ctx;

    if (e->code)
        die(e->text);
    b->took_us[b->done] = now_us() - b->started_us[b->done];
    b->done++;
    if (b->done == b->wanted)
        uv_stop(&b->loop);
    fill(b);
}

static void fill(struct bench *b)
{
    static const char change[CHANGE_BYTES] = "one task's status";
    struct err e;

    while (b->sent < b->wanted && b->sent - b->done < b->ahead) {
        b->started_us[b->sent++] = now_us();
        if (replica_propose(b->replica, change, sizeof(change), answered, b, &e) < 0)
            die(e.text);
    }
}

static double run(struct bench *b, unsigned wanted, unsigned ahead)
{
    int64_t start = now_us();

    b->wanted = wanted;
    b->ahead = ahead;
    b->sent = b->done = 0;
    b->started_us = mem_array(wanted, sizeof(int64_t));
    b->took_us = mem_array(wanted, sizeof(int64_t));
    fill(b);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    double seconds = (double)(now_us() - start) / 1e6;
    qsort(b->took_us, wanted, sizeof(int64_t), ascending);
    free(b->started_us);
    return seconds;
}

static void on_closed(void *ctx)
{
    struct bench *b = ctx;

    uv_stop(&b->loop);
}

/* A new member in a directory of its own, until it leads. */
static double open_member(struct bench *b, int number, struct replica_env **ret_env)
{
    static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {2};
    AUTO_FREE
    char *dir = mem_printf("%s/%d", b->dir, number);
    const struct replica_config config = {
        .dir = dir,
        .id = 1,
        .address = "127.0.0.1:2377",
        .key = key,
        .cluster = cluster,
        .snapshot_bytes = 1ULL << 40,
        .env = replica_env_real(&b->loop, NULL),
    };
    const struct replica_events events = {
        .ctx = b,
        .on_state = on_state,
        .on_apply = on_apply,
        .on_snapshot = on_snapshot,
        .on_restore = on_restore,
        .on_fatal = on_fatal,
    };
    int64_t start = now_us();
    struct err e;

    if (replica_bootstrap(&config, &e) < 0 || replica_open(&config, &events, &b->replica, &e) < 0)
        die(e.text);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    *ret_env = config.env;
    return (double)(now_us() - start);
}

static void close_member(struct bench *b, struct replica_env *env)
{
    replica_close(b->replica, on_closed, b);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    replica_env_real_free(env);
    uv_run(&b->loop, UV_RUN_DEFAULT);
}

/* Serial runs and runs of the floor take turns: on a machine that others use too, both meet the same disk. */
static void serial(struct bench *b)
{
    AUTO_FREE
    int64_t *took = mem_array(SERIAL_RUNS, sizeof(*took));
    AUTO_FREE
    int64_t *floors = mem_array(TURNS * FLOOR_RUNS, sizeof(*floors));
    const unsigned part = SERIAL_RUNS / TURNS;
    double seconds = 0;

    for (unsigned turn = 0; turn < TURNS; turn++) {
        measure_floor(b, floors + turn * FLOOR_RUNS);
        seconds += run(b, part, 1);
        memcpy(took + turn * part, b->took_us, part * sizeof(*took));
        free(b->took_us);
    }
    qsort(took, SERIAL_RUNS, sizeof(*took), ascending);
    qsort(floors, TURNS * FLOOR_RUNS, sizeof(*floors), ascending);
    double p50 = (double)took[SERIAL_RUNS / 2], p99 = (double)took[SERIAL_RUNS * 99 / 100];
    double floor_us = (double)floors[TURNS * FLOOR_RUNS / 2];
    printf("BENCH P7 serial_p50 %.3f ms n=%d floor=%.3f ratio=%.2f managers=1 p99=%.3f\n", p50 / 1e3, SERIAL_RUNS,
           floor_us / 1e3, p50 / floor_us, p99 / 1e3);
    printf("BENCH P7 serial %.0f /s n=%d floor=%.0f ratio=%.2f managers=1\n", SERIAL_RUNS / seconds, SERIAL_RUNS,
           1e6 / floor_us, SERIAL_RUNS / seconds * floor_us / 1e6);
}

static void grouped(struct bench *b)
{
    double seconds = run(b, GROUPED_RUNS, GROUPED_AHEAD);
    struct replica_stats stats;

    replica_stats(b->replica, &stats);
    printf("BENCH P7 grouped %.0f /s n=%d managers=1 p50=%.2f ahead=%d writes=%llu\n", GROUPED_RUNS / seconds,
           GROUPED_RUNS, (double)b->took_us[GROUPED_RUNS / 2] / 1e3, GROUPED_AHEAD,
           (unsigned long long)stats.writes);
    free(b->took_us);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    int64_t init_us[INIT_RUNS];
    struct replica_env *env;
    struct bench b = {0};
    struct err e;

    log_set_level(LOG_LEVEL_ERROR);
    (void)snprintf(b.dir, sizeof(b.dir), "%s/shoal-raft-bench-XXXXXX", argc > 1 ? argv[1] : tmp ? tmp : "/tmp");
    if (!mkdtemp(b.dir) || uv_loop_init(&b.loop) < 0)
        die("cannot make a directory");
    for (int i = 0; i < INIT_RUNS; i++) {
        init_us[i] = (int64_t)open_member(&b, i, &env);
        if (i + 1 < INIT_RUNS)
            close_member(&b, env);
    }
    serial(&b);
    grouped(&b);
    qsort(init_us, INIT_RUNS, sizeof(*init_us), ascending);
    printf("BENCH P19 raft_init %.2f ms n=%d\n", (double)init_us[INIT_RUNS / 2] / 1e3, INIT_RUNS);
    close_member(&b, env);
    (void)uv_loop_close(&b.loop);
    return tree_remove(AT_FDCWD, b.dir, &e) < 0;
}
