/* What the store costs: time per object and per entry, bytes per task on disk and in memory, at 10,000, 100,000 and
 * 1,000,000 tasks with a status each.
 *
 * usage: store_bench [TASKS]...    the sizes above when none is given
 *
 * One task here is what an operator's is: created in a batch with its status, then running in a container with an
 * id. The store lies in $TMPDIR (default /tmp), so on the disk a manager would use; nothing is synced. Times are
 * wall clock of one thread. Lines are those of GOALS.md; `n` is how many objects, entries or look-ups were timed.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/store.h"
#include "proto/base/buf.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define BATCH 1000 /* tasks in a change set: 2,000 objects with their statuses */

struct bench {
    struct store *s, *follower;
    char dir[256], follower_dir[300];
    uint64_t index;
    size_t tasks;
    int64_t started_us;
    int64_t cluster_ms;
    struct entropy_seeded random;
};

static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {2};

static void die(const struct err *e)
{
    (void)fprintf(stderr, "store_bench: %s\n", e->text);
    exit(1);
}

static void print(const struct bench *b, const char *what, double value, const char *unit, size_t runs)
{
    printf("BENCH store %s_%zuk %.4g %s n=%zu\n", what, b->tasks / 1000, value, unit, runs);
    (void)fflush(stdout);
}

static void start(struct bench *b)
{
    b->started_us = clock_mono_us(clock_real());
}

static double elapsed_us(const struct bench *b)
{
    return (double)(clock_mono_us(clock_real()) - b->started_us);
}

static void open_store(struct store **ret, const char *dir)
{
    struct store_config config = {.dir = dir, .key = key, .cluster = cluster, .entropy = entropy_real()};
    struct err e;

    if (store_open(&config, ret, &e) < 0)
        die(&e);
}

static void changed(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    size_t *count = ctx;

    ++*count;
}

static void apply(struct bench *b, struct store *s, const struct buf *set)
{
    struct store_entry entry = {.index = b->index, .data = buf_bytes(set), .size = set->length};
    struct err e;
    size_t count = 0;

    if (store_apply(s, &entry, 1, changed, &count, &e) < 0)
        die(&e);
}

static void put_task(struct bench *b, struct draft *d, uint64_t slot)
{
    uint8_t id[16];
    Task task = TASK__INIT;
    Status status = STATUS__INIT;

    entropy_fill(&b->random.base, id, sizeof(id));
    task.id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    task.service = 1 + slot / 1000;
    task.spec_version = 1;
    task.has_slot = task.has_node = true;
    task.slot = slot % 1000;
    task.node = 1 + slot % 5000;
    task.desired_state = TASK_STATE__RUNNING;
    uint64_t number = draft_create(d, KIND_TASK, &task.base);
    status.state = TASK_STATE__ASSIGNED;
    status.message = (char *)"scheduler assigned task to node";
    status.has_timestamp_ns = status.has_applied_ms = true;
    status.timestamp_ns = b->cluster_ms * 1000000;
    status.applied_ms = b->cluster_ms;
    draft_put(d, KIND_STATUS, number, &status.base);
}

static void put_running(struct bench *b, struct draft *d, uint64_t number)
{
    static const char hex[] = "0123456789abcdef";
    char container[65] = {0};
    ContainerStatus in = CONTAINER_STATUS__INIT;
    Status status = STATUS__INIT;
    uint64_t random = entropy_u64(&b->random.base);

    for (int i = 0; i < 64; i++)
        container[i] = hex[(random >> i % 60) & 15];
    in.container_id = container;
    in.has_pid = true;
    in.pid = 4000 + (int32_t)(random % 30000);
    status.state = TASK_STATE__RUNNING;
    status.message = (char *)"started";
    status.container = &in;
    status.has_timestamp_ns = status.has_applied_ms = true;
    status.timestamp_ns = b->cluster_ms * 1000000;
    status.applied_ms = b->cluster_ms;
    draft_put(d, KIND_STATUS, number, &status.base);
}

/* One change set of `count` objects made by `put`, planned and applied on the leader, applied on the follower. */
struct costs {
    double draft_us, pack_us, apply_us, follow_us;
    size_t objects;
};

static void entry(struct bench *b, struct costs *costs, size_t count,
                  void (*put)(struct bench *b, struct draft *d, uint64_t i), const uint64_t *numbers)
{
    static struct buf set;
    size_t seen = 0;

    b->cluster_ms += 20;
    b->index++;
    start(b);
    struct draft *d = draft_begin(b->s, b->cluster_ms, changed, &seen);
    for (size_t i = 0; i < count; i++)
        put(b, d, numbers[i]);
    costs->draft_us += elapsed_us(b);
    costs->objects += draft_objects(d);
    start(b);
    buf_clear(&set);
    draft_pack(d, &set);
    costs->pack_us += elapsed_us(b);
    draft_end(d, true);
    start(b);
    apply(b, b->s, &set);
    costs->apply_us += elapsed_us(b);
    start(b);
    apply(b, b->follower, &set);
    costs->follow_us += elapsed_us(b);
}

static void print_costs(const struct bench *b, const char *what, const struct costs *c)
{
    char name[64];
    const struct {
        const char *part;
        double us;
    } parts[] = {{"draft", c->draft_us}, {"pack", c->pack_us}, {"apply", c->apply_us}, {"follow", c->follow_us}};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        (void)snprintf(name, sizeof(name), "%s_%s", what, parts[i].part);
        print(b, name, parts[i].us / (double)c->objects, "us", c->objects);
    }
}

static void create(struct bench *b)
{
    struct costs costs = {0};
    uint64_t numbers[BATCH];

    for (size_t at = 0; at < b->tasks; at += BATCH) {
        for (size_t i = 0; i < BATCH; i++)
            numbers[i] = at + i;
        entry(b, &costs, BATCH, put_task, numbers);
    }
    print_costs(b, "create", &costs);
}

static void run_all(struct bench *b)
{
    struct costs costs = {0};
    uint64_t numbers[BATCH];

    for (size_t at = 0; at < b->tasks; at += BATCH) {
        for (size_t i = 0; i < BATCH; i++)
            numbers[i] = at + i + 1;
        entry(b, &costs, BATCH, put_running, numbers);
    }
    print_costs(b, "update", &costs);
}

static void update_some(struct bench *b, const char *what, size_t entries, size_t count)
{
    struct costs costs = {0};
    uint64_t numbers[BATCH];

    for (size_t k = 0; k < entries; k++) {
        for (size_t i = 0; i < count; i++)
            numbers[i] = 1 + entropy_below(&b->random.base, b->tasks);
        entry(b, &costs, count, put_running, numbers);
    }
    print_costs(b, what, &costs);
}

static void look_up(struct bench *b)
{
    const size_t count = 20000;
    struct arena a;
    struct object o;
    uint8_t(*ids)[16] = mem_array(count, 16);
    uint64_t found = 0;

    arena_init(&a);
    struct view *v = view_begin(b->s);
    for (size_t i = 0; i < count; i++) {
        (void)view_get(v, KIND_TASK, 1 + entropy_below(&b->random.base, b->tasks), &a, &o); /* all are there */
        memcpy(ids[i], ((const Task *)o.message)->id.data, 16);
    }
    view_end(v);
    start(b);
    for (size_t i = 0; i < count; i++) {
        arena_reset(&a);
        v = view_begin(b->s);
        uint64_t number = view_find_id(v, KIND_TASK, ids[i]);
        found += view_get(v, KIND_TASK, number, &a, &o) == 0;
        view_end(v);
    }
    print(b, "lookup_id", elapsed_us(b) / (double)count, "us", found);
    arena_fini(&a);
    free(ids);
}

static void list(struct bench *b)
{
    struct arena a;
    struct object o;
    const void *data;
    size_t size, count = 0;

    arena_init(&a);
    struct view *v = view_begin(b->s);
    start(b);
    for (uint64_t n = 0; (n = view_next(v, KIND_TASK, n)); count++) {
        arena_reset(&a);
        (void)view_get(v, KIND_TASK, n, &a, &o); /* view_next says it is there */
    }
    print(b, "list", (double)count / elapsed_us(b) * 1e6, "/s", count);
    start(b);
    count = 0;
    for (uint64_t n = 0; (n = view_next(v, KIND_TASK, n)); count++)
        (void)view_get_packed(v, KIND_TASK, n, &data, &size, &o);
    print(b, "list_packed", (double)count / elapsed_us(b) * 1e6, "/s", count);
    view_end(v);
    arena_fini(&a);
}

static void snapshot(struct bench *b)
{
    static char piece[64 * 1024];
    struct err e;
    double read_us = 0, load_us = 0, longest_us = 0, bytes = 0;
    long got;

    struct store_snapshot *p = store_snapshot_begin(b->s);
    struct store_load *l = store_load_begin(b->follower);
    for (;;) {
        start(b);
        got = store_snapshot_read(p, piece, sizeof(piece), &e);
        read_us += elapsed_us(b);
        if (got < 0)
            die(&e);
        if (got == 0)
            break;
        bytes += (double)got;
        start(b);
        if (store_load_add(l, piece, (size_t)got, &e) < 0)
            die(&e);
        longest_us = MAX(longest_us, elapsed_us(b));
        load_us += elapsed_us(b);
    }
    store_snapshot_end(p);
    if (store_load_end(l, &e) < 0)
        die(&e);
    if (store_digest(b->s) != store_digest(b->follower)) {
        err_set(&e, ERR_INTERNAL, "digests differ after loading");
        die(&e);
    }
    print(b, "snapshot", bytes / read_us, "MB/s", 2 * b->tasks);
    print(b, "snapshot_records", 2 * (double)b->tasks / read_us * 1e6, "/s", 2 * b->tasks);
    print(b, "load_records", 2 * (double)b->tasks / load_us * 1e6, "/s", 2 * b->tasks);
    print(b, "load_longest_piece", longest_us / 1000, "ms", (size_t)(bytes / sizeof(piece)) + 1);
}

static double pss_bytes(void)
{
    AUTO_BUF
    struct buf text = {0};

    if (file_read(AT_FDCWD, "/proc/self/smaps_rollup", 65536, &text, NULL) < 0)
        return 0;
    const char *line = strstr(buf_str(&text), "\nPss:");
    return line ? (double)strtoul(line + 5, NULL, 10) * 1024 : 0;
}

/* A store as every manager has at least: made new, with one object. */
static void open_empty(struct bench *b)
{
    struct costs costs = {0};
    double before = pss_bytes();

    start(b);
    open_store(&b->s, b->dir);
    print(b, "open_new", elapsed_us(b) / 1000, "ms", 1);
    open_store(&b->follower, b->follower_dir);
    entry(b, &costs, 1, put_task, (const uint64_t[]){0});
    print(b, "memory_new", (pss_bytes() - before) / 2048, "KiB", 2);
    store_close(b->follower);
    store_close(b->s);
    b->index = 0;
}

static void reopen(struct bench *b)
{
    struct store_stats stats;

    store_close(b->s);
    start(b);
    open_store(&b->s, b->dir);
    print(b, "open", elapsed_us(b) / 1000, "ms", 1);
    store_stats(b->s, &stats);
    print(b, "file_per_task", (double)stats.file_bytes / (double)b->tasks, "bytes", b->tasks);
    double before = pss_bytes();
    struct view *v = view_begin(b->s);
    const void *data;
    struct object o;
    size_t size;
    for (uint64_t n = 0; (n = view_next(v, KIND_TASK, n));) { /* touch every page, indexes too */
        const uint8_t *id;
        struct object status;

        (void)view_get_packed(v, KIND_STATUS, n, &data, &size, &status);
        (void)view_get_packed(v, KIND_TASK, n, &data, &size, &o);
        id = (const uint8_t *)data + 2; /* the first field */
        (void)view_find_id(v, KIND_TASK, id);
    }
    view_end(v);
    print(b, "memory_per_task", (pss_bytes() - before) / (double)b->tasks, "bytes", b->tasks);
    if (b->tasks == 1000000)
        printf("BENCH P12 task_store %.3f KiB n=%zu\n", (double)stats.file_bytes / 1024 / (double)b->tasks,
               b->tasks);
}

static void remove_file(const char *dir)
{
    AUTO_FREE
    char *path = mem_printf("%s/store.mdb", dir);

    (void)unlink(path); /* what is left of it shows in the figures */
}

static void run(size_t tasks)
{
    const char *tmp = getenv("TMPDIR");
    struct bench b = {.tasks = tasks, .cluster_ms = 1700000000000};
    struct err e;
    int fd;

    (void)snprintf(b.dir, sizeof(b.dir), "%.200s/store-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(b.dir)) {
        err_errno(&e, "make %s", b.dir);
        die(&e);
    }
    (void)snprintf(b.follower_dir, sizeof(b.follower_dir), "%s/follower", b.dir);
    if (dir_make(b.follower_dir, 0700, &e) < 0)
        die(&e);
    entropy_seeded_init(&b.random, 1);
    open_empty(&b);
    remove_file(b.dir);
    remove_file(b.follower_dir);
    open_store(&b.s, b.dir);
    open_store(&b.follower, b.follower_dir);
    create(&b);
    run_all(&b);
    update_some(&b, "random100", 100, 100);
    update_some(&b, "single", 2000, 1);
    look_up(&b);
    list(&b);
    snapshot(&b);
    store_close(b.follower);
    reopen(&b);
    store_close(b.s);
    char *name = strrchr(b.dir, '/');
    *name = '\0';
    if (dir_open(b.dir, &fd, &e) < 0 || tree_remove(fd, name + 1, &e) < 0)
        die(&e);
    close(fd);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {10000, 100000, 1000000};

    for (int i = 1; i < argc; i++)
        run(strtoul(argv[i], NULL, 10) / BATCH * BATCH);
    for (size_t i = 0; argc == 1 && i < ARRAY_SIZE(sizes); i++)
        run(sizes[i]);
    return 0;
}
