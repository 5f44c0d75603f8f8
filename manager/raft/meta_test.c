/* Term and vote survive every crash and every damaged sector, or are refused; they never go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/raft/meta.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_disk.h"

static const uint8_t key[SEAL_KEY] = {1}, other_key[SEAL_KEY] = {2}, cluster[16] = {5}, other_cluster[16] = {6};

struct bench {
    struct entropy_seeded entropy;
    struct disk disk;
    struct replica_env env;
    struct meta meta;
};

static struct disk *disk_of(struct replica_env *env)
{
    return &container_of(env, struct bench, env)->disk;
}

static void begin(struct bench *b)
{
    const struct meta_state state = {.term = 3, .vote = 2, .mark_segment = 1, .mark_offset = 512, .clean = true};
    struct err e;

    *b = (struct bench){0};
    entropy_seeded_init(&b->entropy, 1);
    disk_init(&b->disk, &b->entropy.base);
    b->env.entropy = &b->entropy.base;
    disk_serve(&b->env, disk_of);
    if (meta_create(&b->env, "m/term", key, cluster, 1, &state, &e) < 0 || b->env.dir_sync(&b->env, "m", &e) < 0)
        fail_msg("%s", e.text);
}

static int open_meta(struct bench *b, struct err *e)
{
    return meta_open(&b->meta, &b->env, "m/term", key, cluster, 1, e);
}

static void end(struct bench *b)
{
    meta_close(&b->meta);
    disk_fini(&b->disk);
}

static void state_is_read_back(void **state)
{
    struct meta_state next = {.term = 9, .vote = 0, .mark_segment = 4, .mark_offset = 8192};
    struct bench b;
    struct err e;

    begin(&b);
    assert_int_equal(open_meta(&b, &e), 0);
    assert_int_equal(b.meta.state.term, 3);
    assert_int_equal(b.meta.state.vote, 2);
    assert_int_equal(b.meta.state.mark_offset, 512);
    assert_true(b.meta.state.clean);
    assert_int_equal(meta_write(&b.meta, &next, &e), 0);
    meta_close(&b.meta);
    assert_int_equal(open_meta(&b, &e), 0);
    assert_int_equal(b.meta.state.term, 9);
    assert_int_equal(b.meta.state.vote, 0);
    assert_int_equal(b.meta.state.mark_segment, 4);
    assert_int_equal(b.meta.state.mark_offset, 8192);
    assert_false(b.meta.state.clean);
    end(&b);
}

static void other_member_key_or_cluster_is_refused(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    assert_int_equal(meta_open(&b.meta, &b.env, "m/term", key, cluster, 2, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "m/term: belongs to member 1, not 2"));
    assert_int_equal(meta_open(&b.meta, &b.env, "m/term", other_key, cluster, 1, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "sealed under another key"));
    assert_int_equal(meta_open(&b.meta, &b.env, "m/term", key, other_cluster, 1, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "another cluster"));
    assert_int_equal(meta_open(&b.meta, &b.env, "m/none", key, cluster, 1, &e), ERR_NOT_FOUND);
    end(&b);
}

/* The second vote is torn at any point: then the first or the second is remembered, never anything else. */
static void torn_write_leaves_the_old_or_the_new(void **state)
{
    const struct meta_state next = {.term = 4, .vote = 3};

    for (uint64_t n = 1; n < 12; n++) {
        struct bench b;
        struct err e;

        begin(&b);
        entropy_seeded_init(&b.entropy, n);
        assert_int_equal(open_meta(&b, &e), 0);
        b.disk.crash_at = b.disk.operations + 1 + n % 3;
        int rc = meta_write(&b.meta, &next, &e);
        meta_close(&b.meta);
        disk_crash(&b.disk, true);
        disk_restart(&b.disk);
        if (open_meta(&b, &e) < 0)
            fail_msg("%s", e.text);
        assert_true(b.meta.state.term == 4 || (rc < 0 && b.meta.state.term == 3 && b.meta.state.vote == 2));
        assert_true(b.meta.state.term == 3 || b.meta.state.vote == 3);
        end(&b);
    }
}

/* R3: any byte flipped, either copy wholly gone: the same state, for the other copy is whole. */
static void every_single_damage_is_repaired(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    struct disk_node *n = disk_find(&b.disk, "m/term");
    for (size_t byte = 0; byte < n->size; byte++) {
        disk_flip(n, byte, 0x41);
        if (open_meta(&b, &e) < 0)
            fail_msg("byte %zu: %s", byte, e.text);
        assert_int_equal(b.meta.state.term, 3);
        assert_int_equal(b.meta.state.vote, 2);
        meta_close(&b.meta);
        assert_int_equal(open_meta(&b, &e), 0); /* and it was repaired: both copies may be damaged in turn */
        meta_close(&b.meta);
    }
    disk_fini(&b.disk);
}

static void both_copies_damaged_is_refused(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    struct disk_node *n = disk_find(&b.disk, "m/term");
    disk_flip(n, 60, 1);
    disk_flip(n, 4096 + 60, 1);
    assert_int_equal(open_meta(&b, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "m/term: damaged"));
    end(&b);
}

static void file_that_was_cut_is_repaired_or_refused(void **state)
{
    for (size_t size = 0; size < 4608; size += getenv("DAMAGE") ? 1 : 64) {
        struct bench b;
        struct err e;

        begin(&b);
        disk_truncate(disk_find(&b.disk, "m/term"), size);
        int rc = open_meta(&b, &e);
        if (rc < 0)
            assert_true(rc == ERR_CORRUPT && size < 128); /* the first copy is whole from somewhere below on */
        if (rc == 0)
            assert_int_equal(b.meta.state.term, 3);
        end(&b);
    }
}

/* The format as it was first released. */
static void golden_term_file(void **state)
{
    struct bench b;
    uint8_t digest[SHA256_BYTES];
    char text[DIGEST_TEXT + 1];

    begin(&b);
    struct disk_node *n = disk_find(&b.disk, "m/term");
    assert_memory_equal(n->cache, "shoalTRM", 8);
    assert_memory_equal(n->cache + 12, "\1\0\0\0", 4);
    assert_int_equal(n->size, 4608);
    sha256(n->cache, n->size, digest);
    digest_format(digest, text);
    assert_string_equal(text, "sha256:9f669a8af901a88a147a6d014365bfc4cf3e10717b499cb1da06b235a8443086");
    end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_is_read_back),
        cmocka_unit_test(other_member_key_or_cluster_is_refused),
        cmocka_unit_test(torn_write_leaves_the_old_or_the_new),
        cmocka_unit_test(every_single_damage_is_repaired),
        cmocka_unit_test(both_copies_damaged_is_refused),
        cmocka_unit_test(file_that_was_cut_is_repaired_or_refused),
        cmocka_unit_test(golden_term_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
