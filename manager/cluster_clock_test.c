/* Cluster time goes on, follows the wall clock slowly, and never back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manager/cluster_clock.h"

static void time_goes_on_with_the_monotonic_clock(void **state)
{
    struct cluster_clock c;

    cluster_clock_follow(&c, 1000, 500);
    assert_int_equal(cluster_clock_now(&c, 1000, 500, 1000), 1000);
    assert_int_equal(cluster_clock_now(&c, 1000, 500 + 7000000, 8000), 8000);
}

static void wall_clock_that_jumps_moves_it_by_a_twentieth_at_most(void **state)
{
    struct cluster_clock ahead, behind;

    cluster_clock_follow(&ahead, 1000000, 0);
    cluster_clock_follow(&behind, 1000000, 0);
    assert_int_equal(cluster_clock_now(&ahead, 0, 100000000, 99999999999), 1000000 + 105000);
    assert_int_equal(cluster_clock_now(&behind, 0, 100000000, 0), 1000000 + 95000);
}

static void many_small_steps_are_drawn_as_much_as_a_large_one(void **state)
{
    struct cluster_clock c;

    cluster_clock_follow(&c, 0, 0);
    for (int i = 1; i <= 100000; i++)
        (void)cluster_clock_now(&c, 0, (int64_t)i * 1000, 999999999);
    assert_int_equal(cluster_clock_now(&c, 0, 100000000, 999999999), 105000);
}

static void it_reaches_the_wall_clock_and_stays_there(void **state)
{
    struct cluster_clock c;

    cluster_clock_follow(&c, 10000, 0);
    for (int i = 1; i <= 1000; i++)
        (void)cluster_clock_now(&c, 0, (int64_t)i * 1000000, 20000 + i * 1000);
    assert_int_equal(cluster_clock_now(&c, 0, 1000000000, 1020000), 1020000);
}

static void it_never_goes_back(void **state)
{
    struct cluster_clock c;

    cluster_clock_follow(&c, 5000, 1000000);
    assert_int_equal(cluster_clock_now(&c, 5000, 0, 0), 5000);    /* a clock that went back */
    assert_int_equal(cluster_clock_now(&c, 9000, 1000, 0), 9000); /* something later was applied */
    assert_int_equal(cluster_clock_now(&c, 5000, 1000, 0), 9000);
}

static void leader_that_followed_nobody_jumps_forward_to_the_wall_clock(void **state)
{
    struct cluster_clock c;

    cluster_clock_init(&c, 1000, 0); /* opened after the cluster stood still */
    cluster_clock_lead(&c, 5000, 700000);
    assert_int_equal(cluster_clock_now(&c, 1000, 5000, 700000), 700000);
    cluster_clock_init(&c, 900000, 0); /* but never back */
    cluster_clock_lead(&c, 5000, 700000);
    assert_int_equal(cluster_clock_now(&c, 900000, 5000, 700000), 900000);
}

static void leader_that_followed_another_goes_on_from_there(void **state)
{
    struct cluster_clock c;

    cluster_clock_init(&c, 1000, 0);
    cluster_clock_follow(&c, 2000, 0);
    cluster_clock_lead(&c, 0, 700000);
    assert_int_equal(cluster_clock_now(&c, 2000, 0, 700000), 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_goes_on_with_the_monotonic_clock),
        cmocka_unit_test(wall_clock_that_jumps_moves_it_by_a_twentieth_at_most),
        cmocka_unit_test(many_small_steps_are_drawn_as_much_as_a_large_one),
        cmocka_unit_test(it_reaches_the_wall_clock_and_stays_there),
        cmocka_unit_test(it_never_goes_back),
        cmocka_unit_test(leader_that_followed_nobody_jumps_forward_to_the_wall_clock),
        cmocka_unit_test(leader_that_followed_another_goes_on_from_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
