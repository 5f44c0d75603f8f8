/* Records survive what may happen to them: crashes at each step, power cuts, damage, a full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <uv.h>

#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/base/record.h"
#include "proto/container.pb-c.h"

static const struct record_format format = {
    .magic = "shoalvol",
    .version = 1,
    .size_max = 4096,
    .type = &volume_record__descriptor,
};

struct place {
    char path[64];
    int dir_fd;
    uv_loop_t loop;
};

static int setup(void **state)
{
    struct place *p = mem_alloc(sizeof(*p));

    snprintf(p->path, sizeof(p->path), "/tmp/record-test-XXXXXX");
    assert_non_null(mkdtemp(p->path));
    assert_int_equal(dir_open(p->path, &p->dir_fd, NULL), 0);
    assert_int_equal(uv_loop_init(&p->loop), 0);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    assert_int_equal(uv_loop_close(&p->loop), 0);
    close(p->dir_fd);
    assert_int_equal(dir_open("/tmp", &p->dir_fd, NULL), 0);
    assert_int_equal(tree_remove(p->dir_fd, strrchr(p->path, '/') + 1, NULL), 0);
    close(p->dir_fd);
    free(p);
    return 0;
}

static VolumeRecord a_volume(const char *name, int64_t created_ns)
{
    VolumeRecord v = VOLUME_RECORD__INIT;

    v.format = 1;
    v.name = (char *)name;
    v.created_ns = created_ns;
    return v;
}

/* The creation time of the record of that name, -1 when there is none, or the code. */
static int64_t read_back(int dir_fd, const char *name)
{
    ProtobufCMessage *message = NULL;
    int rc = record_read(dir_fd, name, &format, &message, NULL);

    if (rc < 0)
        return rc == ERR_NOT_FOUND ? -1 : rc;
    int64_t created = ((VolumeRecord *)message)->created_ns;
    protobuf_c_message_free_unpacked(message, NULL);
    return created;
}

static void copy_file(int dir_fd, const char *from, const char *to)
{
    AUTO_BUF
    struct buf b = {0};

    assert_int_equal(file_read(dir_fd, from, 1 << 20, &b, NULL), 0);
    assert_int_equal(file_replace(dir_fd, to, 0600, buf_bytes(&b), b.length, false, NULL), 0);
}

static bool there(int dir_fd, const char *name)
{
    return faccessat(dir_fd, name, F_OK, 0) == 0;
}

static void written_record_reads_back(void **state)
{
    struct place *p = *state;
    VolumeRecord v = a_volume("data", 42);

    assert_int_equal(record_write(p->dir_fd, "data", &format, &v.base, NULL), 0);
    assert_int_equal(read_back(p->dir_fd, "data"), 42);
    assert_int_equal(read_back(p->dir_fd, "absent"), -1);
    assert_false(there(p->dir_fd, ".data.tmp"));
}

static void bytes_on_disk_are_the_documented_ones(void **state)
{
    struct place *p = *state;
    VolumeRecord v = a_volume("data", 42);
    AUTO_BUF
    struct buf file = {0};
    char hex[128];

    assert_int_equal(record_write(p->dir_fd, "data", &format, &v.base, NULL), 0);
    assert_int_equal(file_read(p->dir_fd, "data", 4096, &file, NULL), 0);
    assert_in_range(file.length, 1, sizeof(hex) / 2 - 1);
    hex_encode(buf_bytes(&file), file.length, hex);
    assert_string_equal(hex, "73686f616c766f6c" /* shoalvol */ "01000000" /* version */ "0a000000" /* length */
                             "5891b7fc" /* CRC-32C of the rest */ "0801"
                             "120464617461"
                             "182a");
}

static void every_flipped_bit_and_cut_byte_is_noticed(void **state)
{
    struct place *p = *state;
    VolumeRecord v = a_volume("data", 42);
    AUTO_BUF
    struct buf file = {0};
    struct err e;

    assert_int_equal(record_write(p->dir_fd, "data", &format, &v.base, NULL), 0);
    assert_int_equal(file_read(p->dir_fd, "data", 4096, &file, NULL), 0);
    char *bytes = buf_bytes(&file);
    for (size_t bit = 0; bit < file.length * 8; bit++) {
        ProtobufCMessage *message = NULL;

        bytes[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(file_replace(p->dir_fd, "x", 0600, bytes, file.length, false, NULL), 0);
        assert_int_equal(record_read(p->dir_fd, "x", &format, &message, &e), ERR_CORRUPT);
        assert_null(message);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < file.length; cut++) {
        assert_int_equal(file_replace(p->dir_fd, "x", 0600, bytes, cut, false, NULL), 0);
        assert_int_equal(read_back(p->dir_fd, "x"), ERR_CORRUPT);
    }
}

static void record_of_another_kind_is_refused(void **state)
{
    struct place *p = *state;
    struct record_format other = format;
    ProtobufCMessage *message = NULL;
    VolumeRecord v = a_volume("data", 42);
    struct err e;

    assert_int_equal(record_write(p->dir_fd, "data", &format, &v.base, NULL), 0);
    other.magic = "shoalimg";
    assert_int_equal(record_read(p->dir_fd, "data", &other, &message, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "data is not a record of kind shoalimg"));
}

static void record_of_a_newer_version_is_named_not_damaged(void **state)
{
    struct place *p = *state;
    struct record_format newer = format;
    ProtobufCMessage *message = NULL;
    VolumeRecord v = a_volume("data", 42);
    struct err e;

    newer.version = 7;
    assert_int_equal(record_write(p->dir_fd, "data", &newer, &v.base, NULL), 0);
    assert_int_equal(record_read(p->dir_fd, "data", &format, &message, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "version 7"));
}

static void message_too_large_is_refused_and_the_old_one_stands(void **state)
{
    struct place *p = *state;
    VolumeRecord v = a_volume("data", 42);
    AUTO_FREE
    char *long_name = mem_alloc(5000);

    assert_int_equal(record_write(p->dir_fd, "data", &format, &v.base, NULL), 0);
    memset(long_name, 'x', 4999);
    v.name = long_name;
    assert_int_equal(record_write(p->dir_fd, "data", &format, &v.base, NULL), ERR_LIMIT);
    assert_int_equal(read_back(p->dir_fd, "data"), 42);
}

static void name_that_is_no_plain_file_name_is_refused(void **state)
{
    struct place *p = *state;
    VolumeRecord v = a_volume("data", 42);
    char long_name[RECORD_NAME_MAX + 2] = {0};

    memset(long_name, 'a', RECORD_NAME_MAX + 1);
    const char *const bad[] = {"", ".", "..", ".hidden", "a/b", "/etc/x", long_name};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(record_write(p->dir_fd, bad[i], &format, &v.base, NULL), ERR_INVALID);
    long_name[RECORD_NAME_MAX] = '\0';
    assert_int_equal(record_write(p->dir_fd, long_name, &format, &v.base, NULL), 0);
}

/* --- directories -----------------------------------------------------------------------------------------------
 */

struct seen {
    unsigned records, problems;
    int64_t created_sum;
    char problem[1024];
    int problem_code;
    bool closed;
};

static void seen_record(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct seen *seen = ctx;
    const VolumeRecord *v = (const VolumeRecord *)message;

    assert_string_equal(v->name, name);
    seen->records++;
    seen->created_sum += v->created_ns;
    protobuf_c_message_free_unpacked(message, NULL);
}

static void seen_problem(void *ctx, const char *name, const struct err *why)
{
    struct seen *seen = ctx;

    seen->problems++;
    seen->problem_code = why->code;
    snprintf(seen->problem, sizeof(seen->problem), "%s", why->text);
}

static void seen_closed(void *ctx)
{
    ((struct seen *)ctx)->closed = true;
}

static struct records *open_and_scan(struct place *p, struct seen *seen)
{
    struct records *r = NULL;
    struct err e = {0};
    struct records_scan scan = {.ctx = seen, .on_record = seen_record, .on_problem = seen_problem};

    memset(seen, 0, sizeof(*seen));
    assert_int_equal(records_open(&p->loop, p->path, &format, &r, &e), 0);
    assert_int_equal(records_scan(r, &scan, &e), 0);
    return r;
}

static void close_and_run(struct place *p, struct records *r, struct seen *seen)
{
    records_close(r, seen_closed, seen);
    assert_false(seen->closed);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    assert_true(seen->closed);
}

static void put(struct records *r, const char *name, int64_t created_ns)
{
    VolumeRecord v = a_volume(name, created_ns);
    struct err e = {0};

    assert_int_equal(records_put(r, name, &v.base, &e), 0);
}

static void put_records_are_found_by_the_next_scan(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);
    char name[16];

    assert_int_equal(seen.records, 0);
    for (int i = 0; i < 100; i++) { /* more than one batch */
        snprintf(name, sizeof(name), "v%d", i);
        put(r, name, i);
        put(r, name, 1);
    }
    assert_int_equal(records_remove(r, "v7", NULL), 0);
    assert_int_equal(records_remove(r, "absent", NULL), 0);
    close_and_run(p, r, &seen);
    assert_false(there(p->dir_fd, ".v1.old"));
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.records, 99);
    assert_int_equal(seen.created_sum, 99);
    assert_int_equal(seen.problems, 0);
    close_and_run(p, r, &seen);
}

static void durable_version_is_kept_until_the_new_one_is_synced(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    put(r, "data", 2);
    put(r, "data", 3);
    assert_int_equal(read_back(p->dir_fd, ".data.old"), 1);
    assert_int_equal(read_back(p->dir_fd, "data"), 3);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    assert_false(there(p->dir_fd, ".data.old"));
    close_and_run(p, r, &seen);
}

static void on_deadline(uv_timer_t *timer)
{
    fail_msg("not synced after its delay");
}

static void changes_settle_before_they_are_synced(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    records_set_delay(r, 3600 * 1000);
    put(r, "data", 2);
    put(r, "short", 1);
    assert_int_equal(records_remove(r, "short", NULL), 0);
    uv_run(&p->loop, UV_RUN_DEFAULT); /* nothing keeps the loop: no job, no timer that counts */
    assert_true(there(p->dir_fd, ".data.old"));
    assert_int_equal(read_back(p->dir_fd, "data"), 2);
    close_and_run(p, r, &seen); /* closing does not wait */
    assert_false(there(p->dir_fd, ".data.old"));

    r = open_and_scan(p, &seen);
    records_set_delay(r, 5);
    put(r, "data", 3);
    assert_true(there(p->dir_fd, ".data.old"));
    /* The delay's timer does not keep a loop running; this one does. */
    uv_timer_t deadline;
    uv_timer_init(&p->loop, &deadline);
    uv_timer_start(&deadline, on_deadline, 60000, 0);
    while (there(p->dir_fd, ".data.old"))
        uv_run(&p->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&deadline, NULL);
    close_and_run(p, r, &seen);
}

static void power_cut_gives_the_previous_version(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1);
    put(r, "other", 10);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    /* What the disk holds when the new name arrived and its bytes did not. */
    copy_file(p->dir_fd, "data", ".data.old");
    assert_int_equal(file_replace(p->dir_fd, "data", 0600, "", 0, false, NULL), 0);
    close_and_run(p, r, &seen);
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.records, 2);
    assert_int_equal(seen.created_sum, 11);
    assert_int_equal(seen.problems, 1);
    assert_non_null(strstr(seen.problem, "previous version taken"));
    assert_true(there(p->dir_fd, ".data.damaged"));
    close_and_run(p, r, &seen);
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.records, 2);
    assert_int_equal(seen.problems, 0);
    close_and_run(p, r, &seen);
}

static void crash_while_setting_aside_loses_nothing(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1);
    close_and_run(p, r, &seen);
    assert_int_equal(renameat(p->dir_fd, "data", p->dir_fd, ".data.old"), 0);
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.created_sum, 1);
    assert_false(there(p->dir_fd, ".data.old"));
    close_and_run(p, r, &seen);
}

static void crash_before_the_sync_leaves_the_new_version(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    copy_file(p->dir_fd, "data", ".data.old");
    put(r, "data", 2);
    copy_file(p->dir_fd, "data", ".data.tmp"); /* and one that was being written */
    close_and_run(p, r, &seen);
    copy_file(p->dir_fd, "data", ".data.old");
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.created_sum, 2);
    assert_false(there(p->dir_fd, ".data.tmp"));
    uv_run(&p->loop, UV_RUN_DEFAULT); /* it is synced, then the old one goes */
    assert_false(there(p->dir_fd, ".data.old"));
    close_and_run(p, r, &seen);
}

static void damaged_record_is_set_aside_and_reported(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1);
    close_and_run(p, r, &seen);
    assert_int_equal(file_replace(p->dir_fd, "data", 0600, "shoalvol garbage of some length", 31, false, NULL), 0);
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.records, 0);
    assert_int_equal(seen.problems, 1);
    assert_int_equal(seen.problem_code, ERR_CORRUPT);
    assert_true(there(p->dir_fd, ".data.damaged"));
    put(r, "data", 5); /* its name can be used again */
    close_and_run(p, r, &seen);
    r = open_and_scan(p, &seen);
    assert_int_equal(seen.created_sum, 5);
    assert_int_equal(seen.problems, 0);
    close_and_run(p, r, &seen);
}

static void newer_record_is_left_alone(void **state)
{
    struct place *p = *state;
    struct record_format newer = format;
    VolumeRecord v = a_volume("data", 42);
    struct seen seen;

    newer.version = 2;
    assert_int_equal(record_write(p->dir_fd, "data", &newer, &v.base, NULL), 0);
    struct records *r = open_and_scan(p, &seen);
    assert_int_equal(seen.records, 0);
    assert_int_equal(seen.problem_code, ERR_UNSUPPORTED);
    assert_true(there(p->dir_fd, "data"));
    close_and_run(p, r, &seen);
}

static void record_removed_while_it_is_synced_stays_away(void **state)
{
    struct place *p = *state;
    struct seen seen;
    struct records *r = open_and_scan(p, &seen);

    put(r, "data", 1); /* its sync is under way */
    assert_int_equal(records_remove(r, "data", NULL), 0);
    put(r, "other", 2);
    put(r, "other", 3);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    assert_int_equal(read_back(p->dir_fd, "data"), -1);
    put(r, "data", 4);
    close_and_run(p, r, &seen);
    assert_int_equal(read_back(p->dir_fd, "data"), 4);
    assert_int_equal(read_back(p->dir_fd, "other"), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(written_record_reads_back),
        TEST(bytes_on_disk_are_the_documented_ones),
        TEST(every_flipped_bit_and_cut_byte_is_noticed),
        TEST(record_of_another_kind_is_refused),
        TEST(record_of_a_newer_version_is_named_not_damaged),
        TEST(message_too_large_is_refused_and_the_old_one_stands),
        TEST(name_that_is_no_plain_file_name_is_refused),
        TEST(put_records_are_found_by_the_next_scan),
        TEST(durable_version_is_kept_until_the_new_one_is_synced),
        TEST(changes_settle_before_they_are_synced),
        TEST(power_cut_gives_the_previous_version),
        TEST(crash_while_setting_aside_loses_nothing),
        TEST(crash_before_the_sync_leaves_the_new_version),
        TEST(damaged_record_is_set_aside_and_reported),
        TEST(newer_record_is_left_alone),
        TEST(record_removed_while_it_is_synced_stays_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
