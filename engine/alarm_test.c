/* Alarms ring once, in order, and never after they were cleared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/alarm.h"
#include "engine/testing.h"
#include "proto/base/mem.h"

static uv_loop_t loop;
static struct alarms alarms;
static char rang[16];

struct named {
    struct alarm alarm;
    char name;
    struct named *clears, *sets;
};

static void ring(struct alarm *m)
{
    struct named *n = container_of(m, struct named, alarm);

    rang[strlen(rang)] = n->name;
    if (n->clears)
        alarm_clear(&n->clears->alarm);
    if (n->sets)
        alarm_set(&alarms, &n->sets->alarm, 0, ring);
}

static int fresh(void **state)
{
    memset(rang, 0, sizeof(rang));
    assert_int_equal(uv_loop_init(&loop), 0);
    alarms_init(&alarms, &loop);
    return 0;
}

static int stale(void **state)
{
    bool closed = false;

    alarms_close(&alarms, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
    testing_loop_close(&loop);
    return 0;
}

static void alarms_ring_in_order(void **state)
{
    struct named a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'};

    alarm_init(&a.alarm);
    alarm_init(&b.alarm);
    alarm_init(&c.alarm);
    alarm_set(&alarms, &b.alarm, 5, ring);
    alarm_set(&alarms, &c.alarm, 9, ring);
    alarm_set(&alarms, &a.alarm, 0, ring);
    assert_string_equal(rang, ""); /* never from inside the call */
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_string_equal(rang, "abc");
    assert_false(alarm_is_set(&a.alarm));
}

static void cleared_and_moved_alarms_do_not_ring_at_their_old_time(void **state)
{
    struct named a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c', .clears = &a};

    alarm_init(&a.alarm);
    alarm_init(&b.alarm);
    alarm_init(&c.alarm);
    alarm_set(&alarms, &c.alarm, 0, ring);
    alarm_set(&alarms, &a.alarm, 0, ring); /* due in the same turn, cleared by c */
    alarm_set(&alarms, &b.alarm, 0, ring);
    alarm_set(&alarms, &b.alarm, 4, ring);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_string_equal(rang, "cb");
}

static void alarm_may_set_another(void **state)
{
    struct named a = {.name = 'a'}, b = {.name = 'b'};

    alarm_init(&a.alarm);
    alarm_init(&b.alarm);
    a.sets = &b;
    alarm_set(&alarms, &a.alarm, 0, ring);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_string_equal(rang, "ab");
}

static void nothing_rings_after_close(void **state)
{
    struct named a = {.name = 'a'};

    alarm_init(&a.alarm);
    alarm_set(&alarms, &a.alarm, 0, ring);
    assert_int_equal(stale(NULL), 0);
    assert_string_equal(rang, "");
    assert_false(alarm_is_set(&a.alarm));
    assert_int_equal(fresh(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(alarms_ring_in_order, fresh, stale),
        cmocka_unit_test_setup_teardown(cleared_and_moved_alarms_do_not_ring_at_their_old_time, fresh, stale),
        cmocka_unit_test_setup_teardown(alarm_may_set_another, fresh, stale),
        cmocka_unit_test_setup_teardown(nothing_rings_after_close, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
