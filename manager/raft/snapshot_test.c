/* Snapshots are read back chunk by chunk as they were written, or refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <raft.h>

#include "manager/raft/snapshot.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_disk.h"

#define CHUNK 512

static const uint8_t key[SEAL_KEY] = {1}, other_key[SEAL_KEY] = {2}, cluster[16] = {5};

struct bench {
    struct entropy_seeded entropy;
    struct disk disk;
    struct replica_env env;
    struct snapshots snapshots;
    struct raft_buffer conf;
};

static struct disk *disk_of(struct replica_env *env)
{
    return &container_of(env, struct bench, env)->disk;
}

static void begin(struct bench *b)
{
    struct raft_configuration conf;

    *b = (struct bench){0};
    entropy_seeded_init(&b->entropy, 1);
    disk_init(&b->disk, &b->entropy.base);
    b->env.entropy = &b->entropy.base;
    disk_serve(&b->env, disk_of);
    snapshots_init(&b->snapshots, &b->env, "m", key, cluster, CHUNK);
    raft_configuration_init(&conf);
    (void)raft_configuration_add(&conf, 1, "a:1", RAFT_VOTER);
    (void)raft_configuration_encode(&conf, &b->conf);
    raft_configuration_close(&conf);
}

static void end(struct bench *b)
{
    raft_free(b->conf.base);
    snapshots_fini(&b->snapshots);
    disk_fini(&b->disk);
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7 + i / 256);
}

static int write_snapshot(struct bench *b, uint64_t index, size_t bytes, struct err *e)
{
    struct snapshot_info info = {.index = index,
                                 .term = 3,
                                 .configuration_index = 1,
                                 .configuration = b->conf.base,
                                 .configuration_size = (uint32_t)b->conf.len,
                                 .chunk_bytes = CHUNK};
    struct snapshot_info whole = {0};
    struct snapshot_out *out = NULL;
    uint8_t data[CHUNK];
    int rc = snapshot_out_open(&b->snapshots, SNAPSHOT_TAKEN, &info, &out, e);

    for (size_t at = 0; rc == 0 && at < bytes; at += CHUNK) {
        size_t size = MIN(CHUNK, bytes - at);

        for (size_t i = 0; i < size; i++)
            data[i] = byte_at(at + i);
        rc = snapshot_out_add(out, data, size, e);
    }
    if (rc == 0)
        rc = snapshot_out_end(out, &whole, e);
    snapshot_out_free(out);
    if (rc == 0) {
        assert_int_equal(whole.bytes, bytes);
        rc = snapshot_publish(&b->snapshots, SNAPSHOT_TAKEN, index, e);
    }
    snapshot_info_fini(&whole);
    return rc;
}

/* Read all of it; a code when any part is refused. Contents must be right. */
static int read_snapshot(struct bench *b, uint64_t index, size_t bytes, struct err *e)
{
    struct snapshot *p = NULL;
    size_t at = 0;
    int rc = snapshot_open(&b->snapshots, index, &p, e);

    if (rc == 0)
        rc = snapshot_verify(p, e);
    for (uint64_t i = 0; rc == 0 && i < snapshot_get_info(p)->chunks; i++) {
        AUTO_BUF struct buf data = {0};

        rc = snapshot_chunk(p, i, &data, e);
        for (size_t k = 0; rc == 0 && k < data.length; k++)
            if ((uint8_t)buf_bytes(&data)[k] != byte_at(at++))
                fail_msg("byte %zu is another", at - 1);
    }
    if (rc == 0) {
        assert_int_equal(at, bytes);
        assert_int_equal(snapshot_get_info(p)->term, 3);
        assert_memory_equal(snapshot_get_info(p)->configuration, b->conf.base, b->conf.len);
    }
    snapshot_close(p);
    return rc;
}

static void contents_are_read_back(void **state)
{
    static const size_t sizes[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 100};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct bench b;
        struct err e;

        begin(&b);
        if (write_snapshot(&b, 9, sizes[i], &e) < 0 || read_snapshot(&b, 9, sizes[i], &e) < 0)
            fail_msg("%zu bytes: %s", sizes[i], e.text);
        end(&b);
    }
}

static void newest_is_found_and_older_ones_go(void **state)
{
    struct bench b;
    uint64_t newest;
    struct err e;

    begin(&b);
    assert_int_equal(snapshots_find(&b.snapshots, &newest, &e), 0);
    assert_int_equal(newest, 0);
    for (uint64_t i = 1; i <= 0x2000; i *= 32)
        assert_int_equal(write_snapshot(&b, i, 10, &e), 0);
    assert_int_equal(snapshots_find(&b.snapshots, &newest, &e), 0);
    assert_int_equal(newest, 0x400);
    assert_int_equal(snapshots_remove_before(&b.snapshots, 0x400, &e), 0);
    assert_null(disk_find(&b.disk, "m/snapshots/0000000000000020"));
    assert_int_equal(read_snapshot(&b, 0x400, 10, &e), 0);
    end(&b);
}

/* R3: each byte flipped, the file cut anywhere: refused with its name. */
/* DAMAGE=all: of a snapshot of more than 64 KiB, and every cut (make damage). */
static void every_damage_is_refused_by_name(void **state)
{
    bool all = getenv("DAMAGE") != NULL;
    size_t contents = (all ? 130 : 3) * CHUNK + 100;
    struct bench b;
    struct err e;

    begin(&b);
    assert_int_equal(write_snapshot(&b, 9, contents, &e), 0);
    struct disk_node *n = disk_find(&b.disk, "m/snapshots/0000000000000009");
    for (size_t byte = 0; byte < n->size; byte++) {
        disk_flip(n, byte, 0x10);
        assert_int_equal(read_snapshot(&b, 9, contents, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "m/snapshots/0000000000000009"));
        disk_flip(n, byte, 0x10);
    }
    AUTO_FREE
    uint8_t *whole = mem_dup(n->cache, n->size);
    size_t size = n->size;
    for (size_t cut = 0; cut < size; cut += all ? 1 : 1 + cut / 64) {
        disk_truncate(n, cut);
        assert_int_equal(read_snapshot(&b, 9, contents, &e), ERR_CORRUPT);
        disk_truncate(n, size);
        memcpy(n->cache, whole, size);
    }
    assert_int_equal(read_snapshot(&b, 9, contents, &e), 0);
    end(&b);
}

static void chunks_cannot_change_places_or_files(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    assert_int_equal(write_snapshot(&b, 9, 3 * CHUNK, &e), 0);
    struct disk_node *n = disk_find(&b.disk, "m/snapshots/0000000000000009");
    size_t first = n->size - 64 - 3 * (CHUNK + SEAL_TAG);
    uint8_t chunk[CHUNK + SEAL_TAG];
    memcpy(chunk, n->cache + first, sizeof(chunk));
    memcpy(n->cache + first, n->cache + first + sizeof(chunk), sizeof(chunk));
    memcpy(n->cache + first + sizeof(chunk), chunk, sizeof(chunk));
    assert_int_equal(read_snapshot(&b, 9, 3 * CHUNK, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "chunk 0"));
    end(&b);
}

static void wrong_key_is_refused(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    assert_int_equal(write_snapshot(&b, 9, 100, &e), 0);
    memcpy(b.snapshots.key, other_key, SEAL_KEY);
    assert_int_equal(read_snapshot(&b, 9, 100, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "another key"));
    end(&b);
}

/* A crash in any operation leaves the old one whole, and the new one whole or absent. */
static void crash_at_every_operation_leaves_a_whole_snapshot(void **state)
{
    bool more = true;

    for (uint64_t n = 1; more; n++) {
        struct bench b;
        uint64_t newest;
        struct err e;

        begin(&b);
        assert_int_equal(write_snapshot(&b, 5, 700, &e), 0);
        b.disk.crash_at = b.disk.operations + n;
        more = write_snapshot(&b, 9, 2000, &e) < 0;
        disk_crash(&b.disk, n % 2);
        disk_restart(&b.disk);
        assert_int_equal(snapshots_find(&b.snapshots, &newest, &e), 0);
        assert_true(newest == 5 || newest == 9);
        assert_true(more || newest == 9);
        if (read_snapshot(&b, newest, newest == 5 ? 700 : 2000, &e) < 0)
            fail_msg("crash in operation %llu: %s", (unsigned long long)n, e.text);
        assert_null(disk_find(&b.disk, "m/snapshots/" SNAPSHOT_TAKEN));
        end(&b);
    }
}

/* The format as it was first released. */
static void golden_snapshot(void **state)
{
    struct bench b;
    uint8_t digest[SHA256_BYTES];
    char text[DIGEST_TEXT + 1];
    struct err e;

    begin(&b);
    assert_int_equal(write_snapshot(&b, 9, CHUNK + 1, &e), 0);
    struct disk_node *n = disk_find(&b.disk, "m/snapshots/0000000000000009");
    assert_memory_equal(n->cache, "shoalSNP\1\0\0\0", 12);
    sha256(n->cache, n->size, digest);
    digest_format(digest, text);
    assert_string_equal(text, "sha256:2dcac2415617cd39086caef73f7b5d1a52066817a59329ba8a5302c292bb92c7");
    end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_are_read_back),
        cmocka_unit_test(newest_is_found_and_older_ones_go),
        cmocka_unit_test(every_damage_is_refused_by_name),
        cmocka_unit_test(chunks_cannot_change_places_or_files),
        cmocka_unit_test(wrong_key_is_refused),
        cmocka_unit_test(crash_at_every_operation_leaves_a_whole_snapshot),
        cmocka_unit_test(golden_snapshot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
