/* What a manager's restart costs: its log and its store opened again, until it leads and has applied everything.
 *
 * usage: restart_bench [DIRECTORY] [ENTRIES]    default: a new directory in $TMPDIR or /tmp; 100,000
 *
 * TASKS tasks are created, then each entry of the log is the status of one of them. Measured are a restart with the
 * store as it was (the log is read and checked, nothing is applied), one whose store was lost (all entries are
 * applied again), and one whose store was lost after a snapshot (it is loaded, and what the log has behind it is
 * applied). The floor is a plain read of the same files, from the page cache too. GOALS.md names no row for these.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <uv.h>

#include "manager/raft/env.h"
#include "manager/raft/replica.h"
#include "manager/store/store.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define TASKS   20000
#define BATCH   500  /* tasks in an entry */
#define AHEAD   2048 /* entries under way */
#define RUNS    3
#define GIVE_UP 60000 /* ms */

static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {2};

struct bench {
    uv_loop_t loop;
    struct replica_env *env;
    struct replica *replica;
    struct store *store;
    struct store_load *load;
    char dir[256];
    bool leads, closed;
    bool applies; /* committed entries go to the store; else it has them already */
    uint64_t snapshot_bytes;
    uint64_t applied; /* as the replica told */
    uint64_t under_way;
    struct entropy_seeded random;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "restart_bench: %s\n", what);
    exit(1);
}

static int64_t now_us(void)
{
    return clock_mono_us(clock_real());
}

static double cpu_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* cannot fail */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

/* --- the replica's events ----------------------------------------------------------------------------------- */

static void on_state(void *ctx, enum replica_state state, uint64_t term)
{
    ((struct bench *)ctx)->leads = state == REPLICA_LEADER;
}

static int on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    struct bench *b = ctx;
    AUTO_FREE
    struct store_entry *all = mem_array(count, sizeof(*all));

    b->applied = entries[count - 1].index;
    if (!b->applies)
        return 0;
    for (size_t i = 0; i < count; i++)
        all[i] = (struct store_entry){.index = entries[i].index, .data = entries[i].data, .size = entries[i].size};
    return store_apply(b->store, all, count, NULL, NULL, e);
}

static long snapshot_read(void *ctx, void *into, size_t size, struct err *e)
{
    return store_snapshot_read(ctx, into, size, e);
}

static void snapshot_end(void *ctx)
{
    store_snapshot_end(ctx);
}

static int on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    struct store_snapshot *p = store_snapshot_begin(((struct bench *)ctx)->store);

    *ret = (struct replica_snapshot_source){
        .ctx = p, .read = snapshot_read, .end = snapshot_end, .index = store_snapshot_index(p)};
    return 0;
}

static int on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e)
{
    struct bench *b = ctx;

    if (first)
        b->load = store_load_begin(b->store);
    int rc = store_load_add(b->load, data, size, e);
    if (rc == 0 && last)
        rc = store_load_end(b->load, e);
    b->applied = index;
    return rc;
}

static void on_fatal(void *ctx, const struct err *e)
{
    die(e->text);
}

/* --- lives ---------------------------------------------------------------------------------------------------- */

static void turn_until(struct bench *b, bool (*holds)(const struct bench *b))
{
    int64_t end = now_us() + GIVE_UP * INT64_C(1000);

    while (!holds(b)) {
        uv_run(&b->loop, UV_RUN_ONCE);
        if (now_us() > end)
            die("it takes too long");
    }
}

static bool is_closed(const struct bench *b)
{
    return b->closed;
}

static bool is_ready(const struct bench *b)
{
    return b->leads && b->applied >= replica_commit_index(b->replica);
}

static bool is_done(const struct bench *b)
{
    return b->under_way == 0;
}

static bool has_snapshot(const struct bench *b)
{
    struct replica_stats stats;

    replica_stats(b->replica, &stats);
    return stats.snapshots > 0;
}

/* Open everything and wait until it leads. Returns the time it took. */
static double begin_life(struct bench *b)
{
    AUTO_FREE
    char *store_dir = mem_printf("%s/store", b->dir);
    AUTO_FREE
    char *raft_dir = mem_printf("%s/raft", b->dir);
    const struct store_config store = {
        .dir = store_dir, .key = key, .cluster = cluster, .entropy = &b->random.base};
    const struct replica_events events = {.ctx = b,
                                          .on_state = on_state,
                                          .on_apply = on_apply,
                                          .on_snapshot = on_snapshot,
                                          .on_restore = on_restore,
                                          .on_fatal = on_fatal};
    int64_t start = now_us();
    bool there = access(raft_dir, F_OK) == 0;
    struct err e;

    b->env = replica_env_real(&b->loop, NULL);
    if (dir_make(store_dir, 0700, &e) < 0 || store_open(&store, &b->store, &e) < 0)
        die(e.text);
    const struct replica_config config = {.dir = raft_dir,
                                          .id = 1,
                                          .address = "127.0.0.1:2377",
                                          .key = key,
                                          .cluster = cluster,
                                          .applied = store_applied(b->store),
                                          .snapshot_bytes = b->snapshot_bytes,
                                          .env = b->env};
    b->applied = config.applied;
    if ((!there && replica_bootstrap(&config, &e) < 0) || replica_open(&config, &events, &b->replica, &e) < 0)
        die(e.text);
    turn_until(b, is_ready);
    return (double)(now_us() - start) / 1e3;
}

static void on_closed(void *ctx)
{
    ((struct bench *)ctx)->closed = true;
}

static void end_life(struct bench *b)
{
    b->closed = b->leads = false;
    replica_close(b->replica, on_closed, b);
    turn_until(b, is_closed);
    replica_env_real_free(b->env);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    store_close(b->store);
}

static void lose_store(const struct bench *b)
{
    AUTO_FREE
    char *path = mem_printf("%s/store/store.mdb", b->dir);

    if (unlink(path) < 0)
        die("cannot remove the store");
}

/* --- what is in the log -----------------------------------------------------------------------------------------
 */

static void put_task(struct bench *b, struct draft *d, uint64_t slot)
{
    Task task = TASK__INIT;
    Status status = STATUS__INIT;
    uint8_t id[16];

    entropy_fill(&b->random.base, id, sizeof(id));
    task.id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    task.service = task.spec_version = 1;
    task.has_slot = true;
    task.slot = slot;
    task.desired_state = TASK_STATE__RUNNING;
    status.state = TASK_STATE__ASSIGNED;
    draft_put(d, KIND_STATUS, draft_create(d, KIND_TASK, &task.base), &status.base);
}

static void put_status(struct bench *b, struct draft *d, uint64_t number)
{
    Status status = STATUS__INIT;

    status.state = TASK_STATE__RUNNING;
    status.message = (char *)"started";
    status.has_timestamp_ns = true;
    status.timestamp_ns = (int64_t)entropy_below(&b->random.base, INT64_MAX);
    draft_put(d, KIND_STATUS, number, &status.base);
}

static void on_proposed(void *ctx, const struct err *e, uint64_t index)
{
    if (e->code)
        die(e->text);
    ((struct bench *)ctx)->under_way--;
}

/* The leader's store has each change set as soon as it is proposed, so that many can be under way. */
static void propose(struct bench *b, uint64_t index, void (*put)(struct bench *b, struct draft *d, uint64_t number),
                    uint64_t first, uint64_t count)
{
    struct draft *d = draft_begin(b->store, (int64_t)index, NULL, NULL);
    AUTO_BUF
    struct buf set = {0};
    struct err e;

    for (uint64_t i = 0; i < count; i++)
        put(b, d, first + i);
    draft_pack(d, &set);
    draft_end(d, true);
    const struct store_entry entry = {.index = index, .data = buf_bytes(&set), .size = set.length};
    b->under_way++;
    if (store_apply(b->store, &entry, 1, NULL, NULL, &e) < 0 ||
        replica_propose(b->replica, entry.data, entry.size, on_proposed, b, &e) < 0)
        die(e.text);
    while (b->under_way > AHEAD)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void fill(struct bench *b, uint64_t entries)
{
    uint64_t index;

    b->applies = false;
    (void)begin_life(b);
    index = replica_last_index(b->replica);
    for (uint64_t at = 0; at < TASKS; at += BATCH)
        propose(b, ++index, put_task, at + 1, BATCH);
    for (uint64_t i = 0; i < entries; i++)
        propose(b, ++index, put_status, 1 + i % TASKS, 1);
    turn_until(b, is_done);
    if (replica_last_index(b->replica) != index)
        die("there are entries of others in the log");
    end_life(b);
    b->applies = true;
}

/* --- floor
 * -------------------------------------------------------------------------------------------------------- */

/* Read every file of a directory; the time, and how many bytes. */
static double read_all(const struct bench *b, const char *name, uint64_t *ret_bytes)
{
    AUTO_FREE
    char *path = mem_printf("%s/raft/%s", b->dir, name);
    static char piece[1 << 20];
    int64_t start = now_us();
    DIR *dir = opendir(path);
    struct dirent *entry;

    *ret_bytes = 0;
    while (dir && (entry = readdir(dir))) {
        AUTO_CLOSE
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
        ssize_t got;

        while (fd >= 0 && (got = read(fd, piece, sizeof(piece))) > 0)
            *ret_bytes += (uint64_t)got;
    }
    if (dir)
        closedir(dir);
    return (double)(now_us() - start) / 1e3;
}

/* --- the parts
 * ------------------------------------------------------------------------------------------------------ */

static void measure(struct bench *b, const char *what, const char *floor_dir, bool lost, uint64_t entries)
{
    double took[RUNS], cpu[RUNS], floors[RUNS];
    uint64_t bytes;

    for (int i = 0; i < RUNS; i++) {
        if (lost)
            lose_store(b);
        floors[i] = read_all(b, floor_dir, &bytes);
        cpu[i] = cpu_ms();
        took[i] = begin_life(b);
        cpu[i] = cpu_ms() - cpu[i];
        end_life(b);
    }
    double ms = median(took, RUNS), floor = median(floors, RUNS);
    printf("BENCH restart %s %.1f ms n=%d floor=%.1f ratio=%.1f cpu=%.1f entries=%llu tasks=%d bytes=%llu\n", what,
           ms, RUNS, floor, ms / floor, median(cpu, RUNS), (unsigned long long)entries, TASKS,
           (unsigned long long)bytes);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    uint64_t entries = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    struct bench b = {.snapshot_bytes = UINT64_MAX};
    struct err e;

    log_set_level(LOG_LEVEL_ERROR);
    (void)snprintf(b.dir, sizeof(b.dir), "%s/shoal-restart-bench-XXXXXX", argc > 1 ? argv[1] : tmp ? tmp : "/tmp");
    if (!mkdtemp(b.dir) || uv_loop_init(&b.loop) < 0)
        die("cannot make a directory");
    entropy_seeded_init(&b.random, 1);
    fill(&b, entries);
    measure(&b, "store_kept", "log", false, entries);
    measure(&b, "store_lost", "log", true, entries);

    b.snapshot_bytes = 1; /* the log since the last one is larger than that: it is taken at once */
    int64_t start = now_us();
    double opened = begin_life(&b);
    turn_until(&b, has_snapshot);
    printf("BENCH restart snapshot_taken %.1f ms n=1 tasks=%d\n", (double)(now_us() - start) / 1e3 - opened, TASKS);
    end_life(&b);
    b.snapshot_bytes = UINT64_MAX;
    measure(&b, "snapshot_installed", "snapshots", true, entries);

    (void)uv_loop_close(&b.loop);
    return tree_remove(AT_FDCWD, b.dir, &e) < 0;
}
