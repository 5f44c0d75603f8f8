/* Arenas: zeroed, aligned, apart from each other, and gone at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/arena.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"
#include "proto/spec.pb-c.h"

static void memory_is_zeroed_aligned_and_apart(void **state)
{
    AUTO_ARENA struct arena a;
    struct entropy_seeded e;
    struct {
        unsigned char *data;
        size_t size;
    } parts[2000];

    print_message("# seed 3\n");
    entropy_seeded_init(&e, 3);
    arena_init(&a);
    for (int turn = 0; turn < 3; turn++) {
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
            parts[i].size =
                entropy_below(&e.base, 50) ? entropy_below(&e.base, 200) : entropy_below(&e.base, 400000);
            parts[i].data = arena_alloc(&a, parts[i].size);
            assert_non_null(parts[i].data);
            assert_int_equal((uintptr_t)parts[i].data % 16, 0);
            for (size_t k = 0; k < parts[i].size; k++)
                assert_int_equal(parts[i].data[k], 0); /* also what a reset turn had used */
            memset(parts[i].data, (int)(i & 0xff) | 1, parts[i].size);
        }
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
            for (size_t k = 0; k < parts[i].size; k++)
                assert_int_equal(parts[i].data[k], (i & 0xff) | 1);
        arena_reset(&a);
    }
}

static void reset_keeps_one_chunk_only(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    arena_reset(&a); /* of nothing */
    for (int i = 0; i < 100; i++)
        (void)arena_alloc(&a, 10000);
    size_t before = a.total_bytes;
    arena_reset(&a);
    assert_true(a.total_bytes < before);
    size_t kept = a.total_bytes;
    (void)arena_alloc(&a, 16);
    assert_int_equal(a.total_bytes, kept);
}

static void texts_are_copied(void **state)
{
    AUTO_ARENA struct arena a;
    char text[] = "hello world";

    arena_init(&a);
    char *copy = arena_strdup(&a, text), *part = arena_strndup(&a, text, 5), *empty = arena_strndup(&a, text, 0);
    char *printed = arena_printf(&a, "%s/%d", text, 7), *bytes = arena_dup(&a, text, 3);
    memset(text, 'x', sizeof(text) - 1);
    assert_string_equal(copy, "hello world");
    assert_string_equal(part, "hello");
    assert_string_equal(empty, "");
    assert_string_equal(printed, "hello world/7");
    assert_memory_equal(bytes, "hel", 3);
    assert_non_null(arena_dup(&a, NULL, 0));
}

static void appending_grows_an_array(void **state)
{
    AUTO_ARENA struct arena a;
    int *numbers = NULL;

    arena_init(&a);
    for (int i = 0; i < 1000; i++) {
        numbers = arena_append(&a, numbers, (size_t)i, sizeof(*numbers));
        numbers[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(numbers[i], i);
}

static void messages_are_copied_deep_and_garbage_is_none(void **state)
{
    AUTO_ARENA struct arena a;
    KeyValue one = KEY_VALUE__INIT;
    char key[] = "name", value[] = "web";

    arena_init(&a);
    one.key = key;
    one.value = value;
    KeyValue *copy = arena_message(&a, &one.base);
    key[0] = value[0] = 'X';
    assert_string_equal(copy->key, "name");
    assert_string_equal(copy->value, "web");
    assert_null(arena_unpack(&a, &key_value__descriptor, "\377\377\377", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(reset_keeps_one_chunk_only),
        cmocka_unit_test(texts_are_copied),
        cmocka_unit_test(appending_grows_an_array),
        cmocka_unit_test(messages_are_copied_deep_and_garbage_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
