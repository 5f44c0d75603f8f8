/* The heap of ranks gives the least key, whatever was put, moved or removed, and knows where everything is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/scheduler/rank_heap.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

enum { ITEMS = 300 };

static void random_use(uint32_t stride)
{
    static uint32_t at[ITEMS * 4];
    static uint64_t keys[ITEMS];
    static bool in[ITEMS];
    struct rank_heap h = {.stride = stride};
    struct entropy_seeded random;

    memset(at, 0, sizeof(at));
    memset(in, 0, sizeof(in));
    entropy_seeded_init(&random, 5);
    for (int round = 0; round < 30000; round++) {
        uint32_t item = (uint32_t)entropy_below(&random.base, ITEMS);
        uint64_t least = UINT64_MAX, count = 0;

        if (entropy_below(&random.base, 3) == 0) {
            rank_heap_remove(&h, at, item);
            in[item] = false;
        } else {
            keys[item] = entropy_below(&random.base, 500);
            rank_heap_put(&h, at, item, keys[item]);
            in[item] = true;
        }
        for (uint32_t i = 0; i < ITEMS; i++) {
            uint32_t position = at[i * (stride ? stride : 1)];

            assert_int_equal(position != 0, in[i]);
            if (!in[i])
                continue;
            assert_int_equal(h.items[position - 1], i);
            least = keys[i] < least ? keys[i] : least;
            count++;
        }
        assert_int_equal(h.count, count);
        if (count)
            assert_int_equal(keys[rank_heap_first(&h)], least);
    }
    struct rank_heap copy;
    rank_heap_copy(&copy, &h);
    assert_int_equal(copy.count, h.count);
    assert_memory_equal(copy.keys, h.keys, h.count * sizeof(*h.keys));
    rank_heap_fini(&copy);
    rank_heap_fini(&h);
}

static void least_key_is_first_through_random_use(void **state)
{
    random_use(0);
}

static void positions_may_be_kept_apart(void **state)
{
    random_use(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(least_key_is_first_through_random_use),
        cmocka_unit_test(positions_may_be_kept_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
