/* Maps against an array that does the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

static void empty_map_needs_nothing(void **state)
{
    struct map m = {0};
    struct map64 n = {0};
    size_t at = 0;

    assert_null(map_get(&m, "x"));
    assert_null(map_remove(&m, "x"));
    assert_null(map_next(&m, &at));
    assert_null(map64_get(&n, 7));
    assert_null(map64_remove(&n, 7));
    at = 0;
    assert_null(map64_next(&n, &at));
    map_fini(&m);
    map64_fini(&n);
}

static void keys_are_texts_not_pointers(void **state)
{
    struct map m = {0};
    char one[] = "key", other[] = "key", longer[] = "keys", *values[] = {one, other};

    assert_null(map_put(&m, one, values[0]));
    assert_ptr_equal(map_get(&m, other), values[0]);
    assert_null(map_get(&m, "ke"));
    assert_null(map_get(&m, longer));
    assert_null(map_get(&m, ""));
    assert_ptr_equal(map_get_n(&m, longer, 3), values[0]);
    assert_null(map_get_n(&m, longer, 4));
    assert_null(map_get_n(&m, longer, 2));
    assert_ptr_equal(map_put(&m, other, values[1]), values[0]); /* replaced: the key is the new one now */
    memset(one, 'x', 3);
    assert_ptr_equal(map_get(&m, "key"), values[1]);
    assert_int_equal(m.count, 1);
    assert_null(map_put(&m, "", values[0]));
    assert_ptr_equal(map_get(&m, ""), values[0]);
    map_fini(&m);
}

#define KEYS 300

static void random_changes_agree_with_an_array(void **state)
{
    static char keys[KEYS][16];
    void *model[KEYS] = {0}, *model64[KEYS] = {0};
    uint64_t keys64[KEYS];
    struct map m = {0};
    struct map64 n = {0};
    struct entropy_seeded e;
    size_t count = 0;

    print_message("# seed 9\n");
    entropy_seeded_init(&e, 9);
    for (size_t i = 0; i < KEYS; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "key%zu", i);
        /* Numbers as they come: small, stepped by a power of two, and random. */
        keys64[i] = i < 100 ? i : i < 200 ? i << 32 : entropy_u64(&e.base);
    }
    for (int step = 0; step < 30000; step++) {
        size_t i = entropy_below(&e.base, KEYS);
        bool filling = step / 5000 % 2 == 0; /* grow and shrink in turns */

        if (entropy_below(&e.base, 10) < (filling ? 7 : 3)) {
            void *value = &keys[entropy_below(&e.base, KEYS)];

            assert_ptr_equal(map_put(&m, keys[i], value), model[i]);
            assert_ptr_equal(map64_put(&n, keys64[i], value), model64[i]);
            count += !model[i];
            model[i] = model64[i] = value;
        } else {
            assert_ptr_equal(map_remove(&m, keys[i]), model[i]);
            assert_ptr_equal(map64_remove(&n, keys64[i]), model64[i]);
            count -= model[i] != NULL;
            model[i] = model64[i] = NULL;
        }
        assert_int_equal(m.count, count);
        assert_int_equal(n.count, count);
        if (step % 100)
            continue;
        for (size_t k = 0; k < KEYS; k++) {
            assert_ptr_equal(map_get(&m, keys[k]), model[k]);
            assert_ptr_equal(map64_get(&n, keys64[k]), model64[k]);
        }
    }
    map_fini(&m);
    map64_fini(&n);
}

static void walking_meets_each_value_once(void **state)
{
    static char keys[1000][16];
    unsigned met[1000] = {0}, met64[1000] = {0};
    struct map m = {0};
    struct map64 n = {0};
    size_t at = 0;
    char *value;

    for (size_t i = 0; i < 1000; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "%zu", i);
        map_put(&m, keys[i], keys[i]);
        map64_put(&n, i, keys[i]);
    }
    while ((value = map_next(&m, &at)))
        met[(value - keys[0]) / 16]++;
    at = 0;
    while ((value = map64_next(&n, &at)))
        met64[(value - keys[0]) / 16]++;
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(met[i], 1);
        assert_int_equal(met64[i], 1);
    }
    map_fini(&m);
    map64_fini(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_map_needs_nothing),
        cmocka_unit_test(keys_are_texts_not_pointers),
        cmocka_unit_test(random_changes_agree_with_an_array),
        cmocka_unit_test(walking_meets_each_value_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
