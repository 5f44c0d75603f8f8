/* Protobuf's wire format, read in place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/field.h"
#include "proto/base/mem.h"

static void varint_comes_back_as_it_went(void **state)
{
    static const uint64_t values[] = {0,          1,          127,       128,        16383,     16384,
                                      UINT32_MAX, 1ull << 35, INT64_MAX, 1ull << 63, UINT64_MAX};
    uint8_t bytes[VARINT_MAX];
    uint64_t back;

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        size_t used = varint_put(bytes, values[i]);

        assert_int_equal(used, varint_size(values[i]));
        assert_int_equal(varint_get(bytes, bytes + used, &back), used);
        assert_true(back == values[i]);
        assert_int_equal(varint_get(bytes, bytes + used - 1, &back), 0); /* cut off */
    }
}

static void varint_beyond_64_bits_is_refused(void **state)
{
    static const uint8_t wide[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t longer[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    uint64_t value;

    assert_int_equal(varint_get(wide, wide + sizeof(wide), &value), 0);
    assert_int_equal(varint_get(longer, longer + sizeof(longer), &value), 0);
}

static void zigzag_keeps_small_numbers_small(void **state)
{
    static const int64_t values[] = {0, -1, 1, -2, 2, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        assert_true(unzigzag(zigzag(values[i])) == values[i]);
    assert_int_equal(zigzag(-1), 1);
    assert_int_equal(zigzag(1), 2);
}

static void each_type_of_field_is_read(void **state)
{
    static const uint8_t bytes[] = {0x08, 0x96, 0x01,                                      /* 1: varint 150 */
                                    0x12, 0x03, 'a',  'b',  'c',                           /* 2: "abc" */
                                    0x1d, 0x01, 0x00, 0x00, 0x80,                          /* 3: fixed32 */
                                    0x21, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80}; /* 4: fixed64 */
    struct field_reader r = field_read(bytes, sizeof(bytes));
    struct field f;

    assert_true(field_next(&r, &f) && f.tag == 1 && f.type == FIELD_VARINT && f.value == 150);
    assert_true(field_next(&r, &f) && f.tag == 2 && f.type == FIELD_BYTES && f.size == 3);
    assert_memory_equal(f.data, "abc", 3);
    assert_true(field_next(&r, &f) && f.tag == 3 && f.value == 0x80000001);
    assert_true(field_next(&r, &f) && f.tag == 4 && f.value == 0x8000000000000002);
    assert_false(field_next(&r, &f));
    assert_false(r.bad);
}

static void bad_bytes_end_the_reading(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"\x08", 1},     /* value missing */
        {"\x08\x80", 2}, /* value cut off */
        {"\x12\x05"
         "abc",
         5},                                                  /* bytes longer than what is left */
        {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* a length of 2^64 - 1 */
        {"\x1d\x01\x02", 3},                                  /* fixed32 cut off */
        {"\x21\x01\x02", 3},                                  /* fixed64 cut off */
        {"\x0b", 1},                                          /* a group */
        {"\x0c", 1},                                          /* its end */
        {"\x0f", 1},                                          /* no such type */
        {"\x00", 1},                                          /* tag 0 */
        {"\xf8\xff\xff\xff\xff\x01", 6},                      /* a tag above 2^29 */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct field_reader r = field_read(cases[i].bytes, cases[i].size);
        struct field f;

        assert_false(field_next(&r, &f));
        assert_true(r.bad);
        assert_false(field_next(&r, &f));
    }
}

static void bytes_are_found_by_path_and_the_last_one_wins(void **state)
{
    static const uint8_t bytes[] = {0x0a, 0x01, 'x', 0x12, 0x06, 0x0a, 0x01, 'a', 0x0a, 0x01, 'b', 0x0a, 0x01, 'y'};
    const uint8_t *data;
    size_t size;

    assert_true(field_find_bytes(bytes, sizeof(bytes), (uint32_t[]){1, 0}, &data, &size));
    assert_true(size == 1 && *data == 'y');
    assert_true(field_find_bytes(bytes, sizeof(bytes), (uint32_t[]){2, 1, 0}, &data, &size));
    assert_true(size == 1 && *data == 'b');
    assert_false(field_find_bytes(bytes, sizeof(bytes), (uint32_t[]){3, 0}, &data, &size));
    assert_false(field_find_bytes(bytes, sizeof(bytes), (uint32_t[]){2, 2, 0}, &data, &size));
    assert_false(field_find_bytes(bytes, sizeof(bytes) - 1, (uint32_t[]){1, 0}, &data, &size)); /* cut off */
}

static void random_bytes_never_lead_outside(void **state)
{
    struct entropy_seeded seeded;
    uint64_t seed = entropy_u64(entropy_real());

    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&seeded, seed);
    for (int round = 0; round < 20000; round++) {
        size_t size = entropy_below(&seeded.base, 40);
        uint8_t *bytes = mem_alloc(size + 1); /* on the heap, so that the sanitizers see a step outside */
        struct field f;

        entropy_fill(&seeded.base, bytes, size);
        struct field_reader r = field_read(bytes, size);
        while (field_next(&r, &f))
            if (f.type == FIELD_BYTES)
                assert_true(f.data >= bytes && f.data + f.size <= bytes + size);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varint_comes_back_as_it_went),
        cmocka_unit_test(varint_beyond_64_bits_is_refused),
        cmocka_unit_test(zigzag_keeps_small_numbers_small),
        cmocka_unit_test(each_type_of_field_is_read),
        cmocka_unit_test(bad_bytes_end_the_reading),
        cmocka_unit_test(bytes_are_found_by_path_and_the_last_one_wins),
        cmocka_unit_test(random_bytes_never_lead_outside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
