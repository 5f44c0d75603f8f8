/* Heaps give the least key first, whatever was moved or removed before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/heap.h"
#include "proto/base/mem.h"

static void least_key_comes_first(void **state)
{
    struct heap h = {0};
    struct heap_item items[5] = {{0}};
    static const int64_t keys[] = {5, -3, 9, INT64_MAX, 0};

    assert_null(heap_first(&h));
    for (size_t i = 0; i < 5; i++)
        heap_put(&h, &items[i], keys[i]);
    static const int64_t sorted[] = {-3, 0, 5, 9, INT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        struct heap_item *first = heap_first(&h);

        assert_int_equal(first->key, sorted[i]);
        heap_remove(&h, first);
        assert_false(heap_holds(first));
    }
    assert_null(heap_first(&h));
    heap_fini(&h);
}

static void item_that_is_in_no_heap_may_be_removed(void **state)
{
    struct heap h = {0};
    struct heap_item item = {0};

    heap_remove(&h, &item);
    heap_put(&h, &item, 1);
    heap_put(&h, &item, 2);
    assert_int_equal(h.count, 1);
    assert_int_equal(heap_first(&h)->key, 2);
    heap_fini(&h);
    assert_false(heap_holds(&item));
}

static void random_moves_keep_the_order(void **state)
{
    struct heap h = {0};
    struct heap_item items[200] = {{0}};
    struct entropy_seeded random;

    entropy_seeded_init(&random, 7);
    for (int round = 0; round < 20000; round++) {
        struct heap_item *item = &items[entropy_below(&random.base, ARRAY_SIZE(items))];
        int64_t least = INT64_MAX;

        if (entropy_below(&random.base, 3) == 0)
            heap_remove(&h, item);
        else
            heap_put(&h, item, (int64_t)entropy_below(&random.base, 1000));
        for (size_t i = 0; i < ARRAY_SIZE(items); i++)
            if (heap_holds(&items[i]) && items[i].key < least)
                least = items[i].key;
        assert_int_equal(h.count ? heap_first(&h)->key : INT64_MAX, least);
    }
    heap_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(least_key_comes_first),
        cmocka_unit_test(item_that_is_in_no_heap_may_be_removed),
        cmocka_unit_test(random_moves_keep_the_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
