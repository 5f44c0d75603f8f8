/* Randomness: the seeded kind repeats itself, bounds hold, and the kernel's does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"

static void same_seed_gives_the_same_bytes(void **state)
{
    struct entropy_seeded a, b, c;
    uint8_t from_a[100], from_b[100], from_c[100];

    entropy_seeded_init(&a, 42);
    entropy_seeded_init(&b, 42);
    entropy_seeded_init(&c, 43);
    entropy_fill(&a.base, from_a, sizeof(from_a));
    entropy_fill(&b.base, from_b, sizeof(from_b));
    entropy_fill(&c.base, from_c, sizeof(from_c));
    assert_memory_equal(from_a, from_b, sizeof(from_a));
    assert_memory_not_equal(from_a, from_c, sizeof(from_a));
}

/* Replays of old seeds must go on meaning the same: the generator's published first outputs. */
static void generator_is_xoshiro256_starstar(void **state)
{
    struct entropy_seeded e = {.state = {1, 2, 3, 4}};
    static const uint64_t first[] = {11520, 0, 1509978240, 1215971899390074240};

    entropy_seeded_init(&e, 0);
    for (int i = 0; i < 4; i++)
        e.state[i] = (uint64_t)i + 1;
    for (int i = 0; i < 4; i++)
        assert_true(entropy_u64(&e.base) == first[i]);
}

static void numbers_stay_below_and_reach_all(void **state)
{
    static const uint64_t bounds[] = {1, 2, 3, 7, 10, 1000, UINT64_C(1) << 63, (UINT64_C(1) << 63) + 1, UINT64_MAX};
    struct entropy_seeded e;
    unsigned seen[7] = {0};

    entropy_seeded_init(&e, 4);
    for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++)
        for (int i = 0; i < 1000; i++)
            assert_true(entropy_below(&e.base, bounds[b]) < bounds[b]);
    for (int i = 0; i < 7000; i++)
        seen[entropy_below(&e.base, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 800, 1200); /* the seed is fixed: this cannot fail by chance */
}

static void kernel_gives_something_else_each_time(void **state)
{
    uint8_t a[64] = {0}, b[64] = {0}, zero[64] = {0};

    entropy_fill(entropy_real(), a, sizeof(a));
    entropy_fill(entropy_real(), b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, zero, sizeof(a));
    entropy_fill(entropy_real(), a, 0);
    assert_true(entropy_u64(entropy_real()) != entropy_u64(entropy_real()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_gives_the_same_bytes),
        cmocka_unit_test(generator_is_xoshiro256_starstar),
        cmocka_unit_test(numbers_stay_below_and_reach_all),
        cmocka_unit_test(kernel_gives_something_else_each_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
