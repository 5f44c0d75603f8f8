/* Tables find what was put and nothing else, also while they grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/mem.h"
#include "proto/base/table.h"

struct entry {
    uint64_t number;
    uint64_t pair[2];
    bool present;
};

static void empty_table_holds_nothing(void **state)
{
    struct table t;
    uint64_t key = 1;
    size_t at = 0;

    table_init(&t, 0, 8);
    assert_null(table_get(&t, &key));
    assert_null(table_remove(&t, &key));
    assert_null(table_next(&t, &at));
    table_fini(&t);
}

static void check_iteration(const struct table *t, size_t expected)
{
    size_t at = 0, seen = 0;
    struct entry *entry;

    while ((entry = table_next(t, &at))) {
        assert_true(entry->present);
        seen++;
    }
    assert_int_equal(seen, expected);
    assert_int_equal(t->count, expected);
}

/* Random puts and removes over a range that makes the table grow several times, compared with a plain array. */
static void random_use(size_t offset, size_t size)
{
    enum { ENTRIES = 3000 };
    AUTO_FREE
    struct entry *entries = mem_array(ENTRIES, sizeof(struct entry));
    struct entropy_seeded random;
    struct table t;
    size_t present = 0;

    table_init(&t, offset, size);
    entropy_seeded_init(&random, 11);
    for (size_t i = 0; i < ENTRIES; i++)
        entries[i] = (struct entry){.number = i + 1, .pair = {i / 50, i % 50}};
    for (int round = 0; round < 60000; round++) {
        struct entry *entry = &entries[entropy_below(&random.base, ENTRIES)];
        const void *key = (const char *)entry + offset;

        assert_ptr_equal(table_get(&t, key), entry->present ? entry : NULL);
        if (entry->present && entropy_below(&random.base, 3) == 0) {
            assert_ptr_equal(table_remove(&t, key), entry);
            entry->present = false;
            present--;
        } else if (!entry->present) {
            table_put(&t, entry);
            entry->present = true;
            present++;
        }
        if (round % 97 == 0)
            check_iteration(&t, present);
    }
    for (size_t i = 0; i < ENTRIES; i++)
        assert_ptr_equal(table_get(&t, (const char *)&entries[i] + offset),
                         entries[i].present ? &entries[i] : NULL);
    table_fini(&t);
}

static void numbers_are_found_through_growth_and_removal(void **state)
{
    random_use(offsetof(struct entry, number), 8);
}

static void pairs_are_found_through_growth_and_removal(void **state)
{
    random_use(offsetof(struct entry, pair), 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_table_holds_nothing),
        cmocka_unit_test(numbers_are_found_through_growth_and_removal),
        cmocka_unit_test(pairs_are_found_through_growth_and_removal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
