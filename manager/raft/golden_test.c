/* The files of a member as each released format wrote them (manager/raft/golden/VERSION), opened by this program;
 * and files of a later format, which are refused by name and left alone.
 *
 * A new format gets a directory of its own beside the old ones, which must stay readable:
 *
 *     GOLDEN_WRITE=1 golden_test     writes the one of the present format (from the root of the sources) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <raft.h>

#include "manager/raft/bytes.h"
#include "manager/raft/log_private.h"
#include "manager/raft/snapshot.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_disk.h"

#define GOLDEN        "manager/raft/golden/1/"
#define SNAPSHOT      9 /* what it stands for */
#define LAST          24
#define CUT_AT        15 /* from here on the entries of term 2 replaced those of term 1 */
#define CHUNK         512
#define CONTENT_BYTES 700

static const uint8_t key[SEAL_KEY] = "the key of the golden files", cluster[16] = "golden cluster";

struct bench {
    struct entropy_seeded entropy;
    struct disk disk;
    struct replica_env env;
    struct snapshots snapshots;
    struct disklog *log;
    uint64_t last;
    unsigned cuts;
};

static struct disk *disk_of(struct replica_env *env)
{
    return &container_of(env, struct bench, env)->disk;
}

static void begin(struct bench *b)
{
    *b = (struct bench){0};
    entropy_seeded_init(&b->entropy, 1);
    disk_init(&b->disk, &b->entropy.base);
    b->env.entropy = &b->entropy.base;
    disk_serve(&b->env, disk_of);
    snapshots_init(&b->snapshots, &b->env, "m", key, cluster, CHUNK);
}

static void end(struct bench *b)
{
    disklog_free(b->log);
    snapshots_fini(&b->snapshots);
    disk_fini(&b->disk);
}

/* Contents: sizes from nothing to more than a sector. */
static uint32_t size_of(uint64_t index)
{
    return (uint32_t)(index * 67 % CONTENT_BYTES);
}

static void fill(uint8_t *into, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < CONTENT_BYTES; i++)
        into[i] = (uint8_t)(index * 31 + term * 7 + i);
}

static struct disklog_config config_of(struct bench *b)
{
    return (struct disklog_config){
        .env = &b->env, .dir = "m", .key = key, .cluster = cluster, .id = 3, .segment_bytes = 4096};
}

/* --- reading ----------------------------------------------------------------------------------------------- */

static int on_entry(void *ctx, const struct segment_record *record, struct disklog_place place, struct err *e)
{
    struct bench *b = ctx;
    uint8_t want[CONTENT_BYTES];

    fill(want, record->index, record->term);
    assert_int_equal(record->size, size_of(record->index));
    assert_memory_equal(record->data, want, record->size);
    if (record->index >= CUT_AT && b->cuts)
        assert_int_equal(record->term, 2);
    b->cuts += record->cut;
    b->last = record->index;
    return 0;
}

static void on_reset(void *ctx, uint64_t index, uint64_t term)
{
    fail_msg("the log does not begin anew behind entry %llu", (unsigned long long)index);
}

static int try_open(struct bench *b, struct err *e)
{
    const struct disklog_found found = {.ctx = b, .entry = on_entry, .reset = on_reset};
    struct disklog_config config = config_of(b);

    b->last = b->cuts = 0;
    return disklog_open(&config, &found, &b->log, e);
}

static int read_snapshot(struct bench *b, struct err *e)
{
    struct snapshot *p = NULL;
    AUTO_BUF struct buf data = {0};
    uint8_t want[CONTENT_BYTES];
    int rc = snapshot_open(&b->snapshots, SNAPSHOT, &p, e);

    if (rc == 0)
        rc = snapshot_verify(p, e);
    if (rc < 0) {
        snapshot_close(p);
        return rc;
    }
    const struct snapshot_info *info = snapshot_get_info(p);
    assert_int_equal(info->term, 1);
    assert_int_equal(info->configuration_index, 1);
    for (uint64_t i = 0; i < info->chunks; i++)
        assert_int_equal(snapshot_chunk(p, i, &data, e), 0);
    fill(want, SNAPSHOT, 1);
    assert_int_equal(data.length, CONTENT_BYTES);
    assert_memory_equal(buf_bytes(&data), want, CONTENT_BYTES);
    snapshot_close(p);
    return 0;
}

/* --- the files --------------------------------------------------------------------------------------------- */

static const char *const names[] = {"term",
                                    "log/0000000000000001",
                                    "log/0000000000000002",
                                    "log/0000000000000003",
                                    "log/0000000000000004",
                                    "log/0000000000000005",
                                    "log/0000000000000006",
                                    "snapshots/0000000000000009"};

/* A file's name in the sources: a directory holds them all. */
static char *source_of(const char *name)
{
    char *path = mem_printf(GOLDEN "%s", name);

    for (char *at = path + strlen(GOLDEN); *at; at++)
        if (*at == '/')
            *at = '-';
    return path;
}

static void put_file(struct bench *b, const char *name, const struct buf *bytes)
{
    AUTO_FREE
    char *path = mem_printf("m/%s", name);
    struct env_file *file;
    struct err e;

    assert_int_equal(b->env.file_open(&b->env, path, ENV_OPEN_CREATE, &file, &e), 0);
    assert_int_equal(b->env.file_write(file, 0, buf_bytes(bytes), bytes->length, &e), 0);
    assert_int_equal(b->env.file_sync(file, &e), 0);
    b->env.file_close(file);
}

static void load(struct bench *b)
{
    begin(b);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        AUTO_BUF struct buf bytes = {0};
        AUTO_FREE
        char *path = source_of(names[i]);
        struct err e;

        if (file_read(AT_FDCWD, path, 1 << 20, &bytes, &e) < 0)
            fail_msg("%s (run from the root of the sources)", e.text);
        put_file(b, names[i], &bytes);
    }
}

static struct disk_node *node(struct bench *b, const char *name)
{
    AUTO_FREE
    char *path = mem_printf("m/%s", name);
    struct disk_node *n = disk_find(&b->disk, path);

    assert_non_null(n);
    return n;
}

/* --- writing them -------------------------------------------------------------------------------------------- */

static int write_entries(struct bench *b, uint64_t first, uint64_t last, uint64_t term, bool cut)
{
    for (uint64_t index = first; index <= last; index++) {
        uint8_t data[CONTENT_BYTES];
        struct disklog_place place;
        size_t written;

        fill(data, index, term);
        struct segment_record record = {.index = index,
                                        .term = term,
                                        .type = RAFT_COMMAND,
                                        .cut = cut && index == first,
                                        .data = data,
                                        .size = size_of(index)};
        assert_int_equal(disklog_write(b->log, &record, 1, &place, &written, NULL), 0);
    }
    return 0;
}

static void write_snapshot(struct bench *b)
{
    struct raft_configuration conf;
    struct raft_buffer packed;
    struct snapshot_info whole = {0};
    struct snapshot_out *out;
    uint8_t data[CONTENT_BYTES];

    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, 3, "10.0.0.3:2377", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_encode(&conf, &packed), 0);
    raft_configuration_close(&conf);
    const struct snapshot_info info = {.index = SNAPSHOT,
                                       .term = 1,
                                       .configuration_index = 1,
                                       .configuration = packed.base,
                                       .configuration_size = (uint32_t)packed.len,
                                       .chunk_bytes = CHUNK};
    fill(data, SNAPSHOT, 1);
    assert_int_equal(snapshot_out_open(&b->snapshots, SNAPSHOT_TAKEN, &info, &out, NULL), 0);
    assert_int_equal(snapshot_out_add(out, data, CHUNK, NULL), 0);
    assert_int_equal(snapshot_out_add(out, data + CHUNK, CONTENT_BYTES - CHUNK, NULL), 0);
    assert_int_equal(snapshot_out_end(out, &whole, NULL), 0);
    snapshot_out_free(out);
    assert_int_equal(snapshot_publish(&b->snapshots, SNAPSHOT_TAKEN, SNAPSHOT, NULL), 0);
    snapshot_info_fini(&whole);
    raft_free(packed.base);
}

static void write_golden(void **state)
{
    struct bench b;
    uint8_t data[CONTENT_BYTES];
    struct err e;

    begin(&b);
    struct disklog_config config = config_of(&b);
    fill(data, 1, 1);
    const struct segment_record first = {
        .index = 1, .term = 1, .type = RAFT_COMMAND, .data = data, .size = size_of(1)};
    assert_int_equal(disklog_create(&config, 1, &first, &e), 0);
    assert_int_equal(try_open(&b, &e), 0);
    (void)write_entries(&b, 2, CUT_AT + 4, 1, false);
    (void)write_entries(&b, CUT_AT, LAST, 2, true);
    assert_int_equal(disklog_vote_put(b.log, 2, 3, &e), 0);
    assert_int_equal(disklog_mark(b.log, true, &e), 0);
    write_snapshot(&b);
    AUTO_CLOSE
    int dir = -1;
    assert_int_equal(dir_open(GOLDEN, &dir, &e), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        AUTO_FREE
        char *path = source_of(names[i]);
        const struct disk_node *n = node(&b, names[i]);

        assert_int_equal(file_replace(dir, path + strlen(GOLDEN), 0644, n->cache, n->size, false, &e), 0);
    }
    end(&b);
}

/* --- tests --------------------------------------------------------------------------------------------------- */

static void files_of_the_first_format_are_read_and_written_on(void **state)
{
    struct bench b;
    struct err e;

    load(&b);
    for (int life = 0; life < 2; life++) {
        if (try_open(&b, &e) < 0 || read_snapshot(&b, &e) < 0)
            fail_msg("%s", e.text);
        assert_int_equal(b.last, LAST + (unsigned)life);
        assert_int_equal(b.cuts, 1);
        assert_int_equal(disklog_term(b.log), 2);
        assert_int_equal(disklog_vote(b.log), 3);
        (void)write_entries(&b, b.last + 1, b.last + 1, 2, false);
        disklog_free(b.log);
        b.log = NULL;
    }
    end(&b);
}

/* A later program wrote these: an older one must neither read nor repair them. */
static void files_of_a_later_format_are_refused_and_left_alone(void **state)
{
    static const struct {
        const char *name;
        size_t version, crc, from, to; /* offsets; crc 0: none covers the version */
    } files[] = {
        {"log/0000000000000001", 8, 0, 0, 0},
        {"log/0000000000000006", 8, 0, 0, 0},
        {"term", 12, 8, 12, 116},
        {"snapshots/0000000000000009", 8, 0, 0, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        struct bench b;
        struct err e = {0};

        load(&b);
        struct disk_node *n = node(&b, files[i].name);
        for (size_t copy = 0; copy < 4608; copy += 4096) { /* the term file has two */
            if (copy && !files[i].crc)
                break;
            put_u32(n->cache + copy + files[i].version, 2);
            if (files[i].crc)
                put_u32(n->cache + copy + files[i].crc,
                        crc32c(0, n->cache + copy + files[i].from, files[i].to - files[i].from));
        }
        AUTO_FREE
        uint8_t *before = mem_dup(n->cache, n->size);
        int rc = try_open(&b, &e);
        if (rc == 0)
            rc = read_snapshot(&b, &e);
        assert_int_equal(rc, ERR_CORRUPT);
        if (!strstr(e.text, "version 2") ||
            !strstr(e.text, strrchr(files[i].name, '/') ? strrchr(files[i].name, '/') + 1 : files[i].name))
            fail_msg("neither file nor version in: %s", e.text);
        assert_memory_equal(node(&b, files[i].name)->cache, before, n->size);
        end(&b);
    }
}

int main(void)
{
    const struct CMUnitTest writing[] = {cmocka_unit_test(write_golden)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_the_first_format_are_read_and_written_on),
        cmocka_unit_test(files_of_a_later_format_are_refused_and_left_alone),
    };

    if (getenv("GOLDEN_WRITE") && cmocka_run_group_tests(writing, NULL, NULL) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
