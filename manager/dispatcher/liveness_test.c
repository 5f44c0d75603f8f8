/* Who is down, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "manager/dispatcher/liveness.h"

#define PERIOD 5000
#define GRACE  15000

static int setup(void **state)
{
    *state = liveness_new(PERIOD);
    return 0;
}

static int teardown(void **state)
{
    liveness_free(*state);
    return 0;
}

/* Nodes that are down by a time, as a count. */
static int downs(struct liveness *l, int64_t now_ms)
{
    uint64_t node;
    bool silent;
    int count = 0;

    while (liveness_next_down(l, now_ms, &node, &silent))
        count++;
    return count;
}

static void silent_node_is_down_after_the_grace(void **state)
{
    struct liveness *l = *state;
    uint64_t node;
    bool silent;

    liveness_opened(l, 7, 0);
    liveness_heard(l, 7, 4000);
    assert_false(liveness_next_down(l, 4000 + GRACE - 1, &node, &silent));
    assert_in_range(liveness_due_ms(l), 4000 + GRACE, 4000 + GRACE + GRACE / 64);
    assert_true(liveness_next_down(l, 4000 + GRACE, &node, &silent));
    assert_int_equal(node, 7);
    assert_true(silent);
    assert_int_equal(liveness_due_ms(l), INT64_MAX);
    assert_int_equal(liveness_sessions(l), 0);
}

static void closed_session_is_down_quickly_unless_it_is_back(void **state)
{
    struct liveness *l = *state;
    uint64_t node;
    bool silent;

    liveness_opened(l, 1, 0);
    liveness_opened(l, 2, 0);
    liveness_closed(l, 1, 1000);
    liveness_closed(l, 2, 1000);
    liveness_opened(l, 2, 1100);
    assert_false(liveness_next_down(l, 1000 + LIVENESS_SUSPECT_MS - 1, &node, &silent));
    assert_true(liveness_next_down(l, 1000 + LIVENESS_SUSPECT_MS, &node, &silent));
    assert_int_equal(node, 1);
    assert_false(silent);
    assert_int_equal(downs(l, 1100 + GRACE - 1), 0);
}

static void few_of_many_closing_are_no_storm(void **state)
{
    struct liveness *l = *state;

    for (uint64_t node = 1; node <= 200; node++)
        liveness_opened(l, node, 0);
    for (uint64_t node = 1; node <= 10; node++)
        liveness_closed(l, node, 10);
    assert_int_equal(downs(l, 10 + LIVENESS_SUSPECT_MS), 10);
}

static void storm_of_closing_sessions_gets_the_grace(void **state)
{
    struct liveness *l = *state;

    for (uint64_t node = 1; node <= 50; node++)
        liveness_opened(l, node, 0);
    for (uint64_t node = 1; node <= 20; node++)
        liveness_closed(l, node, (int64_t)node); /* the first nine are suspects before it is one */
    assert_int_equal(downs(l, 1000), 0);
    assert_int_equal(downs(l, 20 + GRACE - 1 - 20), 0);
    for (uint64_t node = 1; node <= 15; node++)
        liveness_opened(l, node, 2000); /* most come back */
    for (uint64_t node = 21; node <= 50; node++)
        liveness_heard(l, node, 2000);
    assert_int_equal(downs(l, 20 + GRACE), 5);
}

static void all_of_a_small_cluster_may_close_without_being_a_storm(void **state)
{
    struct liveness *l = *state;

    for (uint64_t node = 1; node <= 3; node++)
        liveness_opened(l, node, 0);
    for (uint64_t node = 1; node <= 3; node++)
        liveness_closed(l, node, 5);
    assert_int_equal(downs(l, 5 + LIVENESS_SUSPECT_MS), 3);
}

static void slow_trickle_of_closing_sessions_is_no_storm(void **state)
{
    struct liveness *l = *state;
    int count = 0;

    for (uint64_t node = 1; node <= 40; node++)
        liveness_opened(l, node, 0);
    for (uint64_t node = 1; node <= 20; node++) {
        liveness_closed(l, node, (int64_t)node * 200);
        count += downs(l, (int64_t)node * 200 + LIVENESS_SUSPECT_MS);
    }
    assert_int_equal(count, 20);
}

static void expected_node_has_twice_the_grace(void **state)
{
    struct liveness *l = *state;

    liveness_expect(l, 1, 0);
    liveness_expect(l, 2, 0);
    liveness_opened(l, 2, 100);
    assert_int_equal(downs(l, 100 + GRACE), 1); /* node 2, which said nothing more */
    assert_int_equal(downs(l, 2 * GRACE - 1), 0);
    assert_int_equal(downs(l, 2 * GRACE), 1);
}

static void who_stood_still_forgives_those_it_could_not_hear(void **state)
{
    struct liveness *l = *state;
    int64_t woken = GRACE + LIVENESS_LATE_MS + 1;

    liveness_opened(l, 1, 0);
    liveness_opened(l, 2, 0);
    liveness_expect(l, 3, -15000);
    liveness_opened(l, 4, GRACE - 100);
    liveness_closed(l, 4, GRACE - 90);
    assert_int_equal(downs(l, woken), 0);
    liveness_heard(l, 1, woken + 10);
    assert_int_equal(downs(l, woken + LIVENESS_SUSPECT_MS - 1), 0);
    assert_int_equal(downs(l, woken + LIVENESS_SUSPECT_MS), 1); /* 4, which had closed before */
    assert_int_equal(downs(l, woken + GRACE - 1), 0);
    assert_int_equal(downs(l, woken + GRACE), 1);      /* 2, which is silent still */
    assert_int_equal(downs(l, woken + GRACE + 10), 1); /* 1, which was heard a little later */
    assert_int_equal(downs(l, woken + 6 * PERIOD), 1); /* 3, which has not come */
}

static void silent_ones_are_looked_for_together(void **state)
{
    struct liveness *l = *state;
    unsigned looks = 0;

    for (uint64_t node = 1; node <= 1000; node++)
        liveness_opened(l, node, (int64_t)node * 5);
    for (int64_t due_ms = liveness_due_ms(l), beat_ms = 5000; due_ms < 40 * PERIOD; due_ms = liveness_due_ms(l)) {
        for (; beat_ms <= due_ms; beat_ms += PERIOD)
            for (uint64_t node = 1; node <= 1000; node++)
                liveness_heard(l, node, beat_ms);
        assert_int_equal(downs(l, due_ms), 0);
        looks++;
    }
    assert_in_range(looks, 1, 40 * PERIOD / (GRACE / 64) + 1);
}

static void forgotten_node_is_never_down(void **state)
{
    struct liveness *l = *state;

    liveness_opened(l, 1, 0);
    liveness_forget(l, 1);
    liveness_forget(l, 1);
    liveness_closed(l, 1, 5);
    liveness_heard(l, 1, 5);
    assert_int_equal(downs(l, 1000000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(silent_node_is_down_after_the_grace, setup, teardown),
        cmocka_unit_test_setup_teardown(closed_session_is_down_quickly_unless_it_is_back, setup, teardown),
        cmocka_unit_test_setup_teardown(few_of_many_closing_are_no_storm, setup, teardown),
        cmocka_unit_test_setup_teardown(storm_of_closing_sessions_gets_the_grace, setup, teardown),
        cmocka_unit_test_setup_teardown(all_of_a_small_cluster_may_close_without_being_a_storm, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_trickle_of_closing_sessions_is_no_storm, setup, teardown),
        cmocka_unit_test_setup_teardown(expected_node_has_twice_the_grace, setup, teardown),
        cmocka_unit_test_setup_teardown(who_stood_still_forgives_those_it_could_not_hear, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_ones_are_looked_for_together, setup, teardown),
        cmocka_unit_test_setup_teardown(forgotten_node_is_never_down, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
