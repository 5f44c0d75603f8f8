/* Who may register now, and who is told to come back when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "manager/dispatcher/admission.h"

static int64_t ask_number(struct admission *a, unsigned node, int64_t now_ms)
{
    char id[26];

    (void)snprintf(id, sizeof(id), "%025u", node);
    return admission_ask(a, id, now_ms);
}

static void second_of_registrations_may_come_at_once(void **state)
{
    struct admission *a = admission_new(100, 3);

    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(ask_number(a, i, 5000), 0);
    assert_true(ask_number(a, 100, 5000) > 0);
    admission_free(a);
}

static void who_is_sent_away_gets_a_time_of_its_own(void **state)
{
    struct admission *a = admission_new(100, 3);
    int64_t before_ms = 0;

    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(ask_number(a, i, 5000), 0);
    for (unsigned i = 100; i < 400; i++) {
        int64_t wait_ms = ask_number(a, i, 5000);

        assert_true(wait_ms > before_ms);
        before_ms = wait_ms;
    }
    assert_in_range(before_ms, 2990, 3010);
    admission_free(a);
}

static void all_come_in_at_the_rate_when_they_do_as_told(void **state)
{
    enum { NODES = 1000 };
    struct admission *a = admission_new(100, 3);
    int64_t due_ms[NODES] = {0}, last_ms = 0;
    unsigned in = 0;

    for (int64_t now_ms = 0; in < NODES && now_ms < 60000; now_ms++) {
        for (unsigned i = 0; i < NODES; i++) {
            if (due_ms[i] != now_ms)
                continue;
            int64_t wait_ms = ask_number(a, i, now_ms);

            if (wait_ms == 0) {
                in++;
                last_ms = now_ms;
            }
            due_ms[i] = wait_ms ? now_ms + wait_ms : -1;
        }
    }
    assert_int_equal(in, NODES);
    assert_in_range(last_ms, 8900, 10000); /* 100 at once, 900 at 100 per second */
    admission_free(a);
}

static void node_registers_three_times_in_eight_seconds(void **state)
{
    struct admission *a = admission_new(0, 0);

    assert_int_equal(ask_number(a, 1, 1000), 0);
    assert_int_equal(ask_number(a, 1, 2000), 0);
    assert_int_equal(ask_number(a, 1, 3000), 0);
    assert_int_equal(ask_number(a, 1, 4000), 5000);
    assert_int_equal(ask_number(a, 2, 4000), 0); /* another's trouble is not its own */
    assert_int_equal(ask_number(a, 1, 8999), 1);
    assert_int_equal(ask_number(a, 1, 9000), 0);
    assert_int_equal(ask_number(a, 1, 9500), 500);
    assert_int_equal(ask_number(a, 1, 10000), 0);
    assert_int_equal(ask_number(a, 1, 30000), 0);
    admission_free(a);
}

static void refusals_do_not_count(void **state)
{
    struct admission *a = admission_new(1, 3);

    assert_int_equal(ask_number(a, 1, 0), 0);
    for (int i = 0; i < 100; i++)
        assert_true(ask_number(a, 2, 0) > 0);
    assert_int_equal(ask_number(a, 2, 1000), 0);
    assert_int_equal(ask_number(a, 2, 2000), 0);
    assert_int_equal(ask_number(a, 2, 3000), 0);
    admission_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_of_registrations_may_come_at_once),
        cmocka_unit_test(who_is_sent_away_gets_a_time_of_its_own),
        cmocka_unit_test(all_come_in_at_the_rate_when_they_do_as_told),
        cmocka_unit_test(node_registers_three_times_in_eight_seconds),
        cmocka_unit_test(refusals_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
