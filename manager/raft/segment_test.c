/* A segment is read back as it was written, a torn write is cut, and nothing damaged passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/raft/segment.h"
#include "proto/base/hash.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

#define FILE_BYTES 8192

static const uint8_t key[SEAL_KEY] = {1}, salt[SEAL_SALT] = {3}, cluster[16] = {5}, other_cluster[16] = {6};

struct fixture {
    struct seal *seal;
    uint8_t file[FILE_BYTES];
    uint64_t end; /* of what is written */
    uint32_t records, batches;
    uint64_t batch_at[64]; /* where each begins */
    uint64_t next;         /* index */
};

struct seen {
    uint64_t indexes[128];
    size_t count;
    uint64_t data_sum;
};

static struct segment_header header_of(void)
{
    struct segment_header h = {.sequence = 7, .bytes = FILE_BYTES, .first_index = 11};

    memcpy(h.salt, salt, sizeof(salt));
    return h;
}

static void begin(struct fixture *f)
{
    struct segment_header h = header_of();

    *f = (struct fixture){.seal = seal_new(key, salt, "log", cluster), .end = SEGMENT_SECTOR, .next = 11};
    segment_header_put(&h, cluster, f->seal, f->file);
}

/* One write of `count` records of that size. */
static void write_batch(struct fixture *f, unsigned count, uint32_t size)
{
    struct segment_record records[16] = {{0}};
    AUTO_BUF struct buf out = {0};
    static uint8_t data[4096];

    memset(data, 0xd5, sizeof(data));
    for (unsigned i = 0; i < count; i++)
        records[i] = (struct segment_record){.index = f->next++, .term = 3, .type = 1, .data = data, .size = size};
    segment_batch_put(&out, cluster, f->seal, 7, f->batches + 1, f->records, records, count);
    assert_true(f->end + out.length <= FILE_BYTES);
    memcpy(f->file + f->end, buf_bytes(&out), out.length);
    f->batch_at[f->batches++] = f->end;
    f->records += count;
    f->end += out.length;
}

static int on_record(void *ctx, const struct segment_record *record, struct err *e)
{
    struct seen *seen = ctx;

    seen->indexes[seen->count++] = record->index;
    for (uint32_t i = 0; i < record->size; i++)
        seen->data_sum += record->data[i];
    return 0;
}

static int scan(struct fixture *f, const uint8_t *file, uint64_t durable, struct segment_scan *ret,
                struct seen *seen, struct err *e)
{
    *seen = (struct seen){0};
    *ret = (struct segment_scan){.data = file,
                                 .size = FILE_BYTES,
                                 .cluster = cluster,
                                 .seal = f->seal,
                                 .sequence = 7,
                                 .durable = durable,
                                 .ctx = seen,
                                 .found = on_record};
    return segment_scan(ret, e);
}

static void header_is_read_back(void **state)
{
    struct segment_header h = header_of(), got;
    struct seal *s = seal_new(key, salt, "log", cluster);
    uint8_t sector[SEGMENT_SECTOR];
    struct err e;

    h.reset = true;
    h.base_index = 10;
    h.base_term = 2;
    h.previous_end = 1024;
    h.previous_records = 9;
    segment_header_put(&h, cluster, s, sector);
    assert_int_equal(segment_header_get(sector, cluster, &got, &e), 0);
    assert_memory_equal(&got, &h, sizeof(h));
    assert_true(segment_header_verify(sector, cluster, s));
    assert_int_equal(segment_header_get(sector, other_cluster, &got, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "another cluster"));
    seal_free(s);
}

static void every_flipped_bit_of_a_header_is_refused(void **state)
{
    struct fixture f;
    struct segment_header got;

    begin(&f);
    for (size_t bit = 0; bit < SEGMENT_SECTOR * 8; bit++) {
        f.file[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(segment_header_get(f.file, cluster, &got, NULL) < 0 ||
                    !segment_header_verify(f.file, cluster, f.seal));
        f.file[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    seal_free(f.seal);
}

static void records_are_read_back_in_order(void **state)
{
    struct fixture f;
    struct segment_scan s;
    struct seen seen;
    struct err e;

    begin(&f);
    write_batch(&f, 1, 0);
    write_batch(&f, 5, 100);
    write_batch(&f, 1, 1500);
    assert_int_equal(scan(&f, f.file, 0, &s, &seen, &e), 0);
    assert_int_equal(seen.count, 7);
    for (size_t i = 0; i < seen.count; i++)
        assert_int_equal(seen.indexes[i], 11 + i);
    assert_int_equal(seen.data_sum, 0xd5 * (500 + 1500));
    assert_int_equal(s.ret_end, f.end);
    assert_int_equal(s.ret_records, 7);
    assert_int_equal(s.ret_batch, 3);
    assert_true(s.ret_clean);
    seal_free(f.seal);
}

/* Any subset of the last write's sectors may be missing: what was there before stays, and nothing is refused. */
static void every_torn_last_write_is_cut(void **state)
{
    struct fixture f;
    uint8_t torn[FILE_BYTES];
    struct segment_scan s;
    struct seen seen;
    struct err e;

    begin(&f);
    write_batch(&f, 2, 300);
    uint32_t before = f.records;
    write_batch(&f, 9, 200); /* 5 sectors */
    unsigned sectors = (unsigned)((f.end - f.batch_at[1]) / SEGMENT_SECTOR);
    assert_in_range(sectors, 4, 6);
    for (unsigned mask = 0; mask < 1u << sectors; mask++) {
        memcpy(torn, f.file, sizeof(torn));
        for (unsigned i = 0; i < sectors; i++)
            if (!(mask >> i & 1))
                memset(torn + f.batch_at[1] + (size_t)i * SEGMENT_SECTOR, 0, SEGMENT_SECTOR);
        int rc = scan(&f, torn, 0, &s, &seen, &e);
        if (rc < 0)
            fail_msg("mask %x: %s", mask, e.text);
        assert_in_range(seen.count, before, f.records);
        assert_int_equal(s.ret_clean, mask == (1u << sectors) - 1 || mask == 0);
        if (!(mask & 1))
            assert_int_equal(seen.count, before);
        for (size_t i = 0; i < seen.count; i++)
            assert_int_equal(seen.indexes[i], 11 + i);
    }
    seal_free(f.seal);
}

/* The same losses are damage once it is known that the write had returned. */
static void torn_write_below_the_mark_is_refused(void **state)
{
    struct fixture f;
    uint8_t torn[FILE_BYTES];
    struct segment_scan s;
    struct seen seen;
    struct err e;

    begin(&f);
    write_batch(&f, 2, 300);
    write_batch(&f, 9, 200);
    unsigned sectors = (unsigned)((f.end - f.batch_at[1]) / SEGMENT_SECTOR);
    for (unsigned mask = 0; mask < (1u << sectors) - 1; mask++) {
        memcpy(torn, f.file, sizeof(torn));
        for (unsigned i = 0; i < sectors; i++)
            if (!(mask >> i & 1))
                memset(torn + f.batch_at[1] + (size_t)i * SEGMENT_SECTOR, 0, SEGMENT_SECTOR);
        assert_int_equal(scan(&f, torn, f.end, &s, &seen, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "damaged at byte"));
    }
    seal_free(f.seal);
}

/* R3: each byte, flipped: refused, or every entry is there (a byte of padding, or behind the end). */
static void every_flipped_byte_is_refused_or_harmless(void **state)
{
    struct fixture f;
    struct segment_scan s;
    struct seen seen;
    unsigned refused = 0;
    struct err e;

    begin(&f);
    write_batch(&f, 2, 300);
    write_batch(&f, 1, 40);
    write_batch(&f, 3, 250);
    for (size_t byte = SEGMENT_SECTOR; byte < FILE_BYTES; byte++) {
        uint8_t mask = (uint8_t)(1 + byte % 255);

        f.file[byte] ^= mask;
        if (scan(&f, f.file, 0, &s, &seen, &e) < 0) {
            refused++;
            assert_non_null(strstr(e.text, "damaged"));
        } else {
            assert_int_equal(seen.count, 6);
            assert_int_equal(seen.data_sum, 0xd5 * (600 + 40 + 750));
        }
        f.file[byte] ^= mask;
    }
    assert_in_range(refused, 6 * (SEGMENT_RECORD + SEAL_TAG) + 600 + 40 + 750, FILE_BYTES);
    seal_free(f.seal);
}

/* Zeroes from any byte on: what remains is a prefix of what was written, whole sectors apart from the last write.
 */
static void zeroed_rest_is_refused_unless_it_can_be_a_torn_last_write(void **state)
{
    struct fixture f;
    uint8_t cut[FILE_BYTES];
    struct segment_scan s;
    struct seen seen;

    begin(&f);
    write_batch(&f, 2, 300);
    write_batch(&f, 1, 40);
    write_batch(&f, 3, 250);
    for (size_t from = SEGMENT_SECTOR; from < f.end; from++) {
        memcpy(cut, f.file, sizeof(cut));
        memset(cut + from, 0, sizeof(cut) - from);
        assert_int_equal(scan(&f, cut, f.end, &s, &seen, NULL),
                         segment_zero(f.file + from, f.end - from) ? 0 : ERR_CORRUPT);
        if (scan(&f, cut, 0, &s, &seen, NULL) == 0)
            for (size_t i = 0; i < seen.count; i++)
                assert_int_equal(seen.indexes[i], 11 + i);
    }
    seal_free(f.seal);
}

static void record_is_bound_to_its_segment_and_place(void **state)
{
    struct fixture f;
    struct segment_scan s;
    struct seen seen;
    struct err e;

    begin(&f);
    write_batch(&f, 1, 40);
    write_batch(&f, 1, 40);
    assert_int_equal(scan(&f, f.file, 0, &s, &seen, &e), 0);
    s.sequence = 8;
    seen = (struct seen){0};
    assert_int_equal(segment_scan(&s, &e), ERR_CORRUPT);
    assert_int_equal(seen.count, 0);
    uint8_t first[SEGMENT_SECTOR];
    memcpy(first, f.file + f.batch_at[0], SEGMENT_SECTOR);
    memcpy(f.file + f.batch_at[0], f.file + f.batch_at[1], SEGMENT_SECTOR);
    memcpy(f.file + f.batch_at[1], first, SEGMENT_SECTOR);
    assert_int_equal(scan(&f, f.file, 0, &s, &seen, &e), ERR_CORRUPT);
    assert_int_equal(seen.count, 0);
    seal_free(f.seal);
}

/* The format as it was first released: a change of these bytes is a change of version. */
static void golden_segment(void **state)
{
    static const char golden_header[] = "73686f616c4c4f470100000091974779"
                                        "05000000000000000000000000000000";
    static const char golden_record[] =
        "ffe84d85180000000500000000000000030000000000000000000000010000000002000001030000";
    static const char golden_digest[] = "sha256:73d228988c8b6daeb59b0b7459f25edd6e042c0484dd1ce39c600bce35e4a6b0";
    struct fixture f;
    char hex[2 * SEGMENT_RECORD + 1], digest_hex[DIGEST_TEXT + 1];
    uint8_t digest[SHA256_BYTES];
    AUTO_BUF struct buf out = {0};

    begin(&f);
    struct segment_record record = {
        .index = 5, .term = 3, .type = 1, .data = (const uint8_t *)"12345678", .size = 8};
    segment_batch_put(&out, cluster, f.seal, 7, 1, 0, &record, 1);
    hex_encode(f.file, 32, hex);
    assert_string_equal(hex, golden_header);
    hex_encode(buf_bytes(&out), SEGMENT_RECORD, hex);
    assert_string_equal(hex, golden_record);
    buf_append(&out, f.file, SEGMENT_SECTOR);
    sha256(buf_bytes(&out), out.length, digest);
    digest_format(digest, digest_hex);
    assert_string_equal(digest_hex, golden_digest);
    seal_free(f.seal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_is_read_back),
        cmocka_unit_test(every_flipped_bit_of_a_header_is_refused),
        cmocka_unit_test(records_are_read_back_in_order),
        cmocka_unit_test(every_torn_last_write_is_cut),
        cmocka_unit_test(torn_write_below_the_mark_is_refused),
        cmocka_unit_test(every_flipped_byte_is_refused_or_harmless),
        cmocka_unit_test(zeroed_rest_is_refused_unless_it_can_be_a_torn_last_write),
        cmocka_unit_test(record_is_bound_to_its_segment_and_place),
        cmocka_unit_test(golden_segment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
