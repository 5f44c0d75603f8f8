/* Containers come back when their policy says so, and not sooner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/container/restart.h"
#include "proto/base/mem.h"

static RestartRule rule;

static struct restart_in an_end(const char *name, unsigned most)
{
    restart_rule__init(&rule);
    rule.name = (char *)name;
    rule.has_maximum_retries = true;
    rule.maximum_retries = most;
    return (struct restart_in){.rule = &rule, .failed = true, .ran_ms = 5};
}

static void each_policy_follows_the_table(void **state)
{
    static const struct {
        const char *name;
        bool failed, stopped;
        bool again, at_open;
    } table[] = {
        {"", true, false, false, false},
        {"no", true, false, false, false},
        {"always", false, false, true, true},
        {"always", true, true, false, true},
        {"unless-stopped", false, false, true, true},
        {"unless-stopped", true, true, false, false},
        {"on-failure", true, false, true, true},
        {"on-failure", false, false, false, false},
        {"on-failure", true, true, false, false},
        {"sometimes", true, false, false, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct restart_in in = an_end(table[i].name, 0);

        in.failed = table[i].failed;
        in.stopped_by_user = table[i].stopped;
        assert_int_equal(restart_after(&in) >= 0, table[i].again);
        assert_int_equal(restart_at_open(&in), table[i].at_open);
    }
    struct restart_in none = {.failed = true};
    assert_int_equal(restart_after(&none), -1);
    assert_false(restart_at_open(&none));
}

static void on_failure_gives_up_after_its_retries(void **state)
{
    struct restart_in in = an_end("on-failure", 2);

    assert_int_equal(restart_after(&in), 100);
    in.count = 1;
    assert_int_equal(restart_after(&in), 100);
    in.count = 2;
    assert_int_equal(restart_after(&in), -1);
    assert_false(restart_at_open(&in));
}

static void delay_doubles_to_a_minute_and_starts_over_after_a_long_run(void **state)
{
    struct restart_in in = an_end("always", 0);
    int64_t expected = 100;

    for (int i = 0; i < 20; i++) {
        in.delay_ms = restart_after(&in);
        assert_int_equal(in.delay_ms, expected);
        expected = MIN(expected * 2, 60000);
    }
    in.ran_ms = RESTART_RESET_MS - 1;
    assert_int_equal(restart_after(&in), 60000);
    in.ran_ms = RESTART_RESET_MS;
    assert_int_equal(restart_after(&in), 100);
}

static void rules_that_make_no_sense_are_refused(void **state)
{
    struct err e = {0};

    an_end("sometimes", 0);
    assert_int_equal(restart_check(&rule, false, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "'sometimes'"));
    an_end("always", 3);
    assert_int_equal(restart_check(&rule, false, &e), ERR_INVALID);
    an_end("", 3);
    assert_int_equal(restart_check(&rule, false, &e), ERR_INVALID);
    an_end("always", 0);
    assert_int_equal(restart_check(&rule, true, &e), ERR_INVALID);
    assert_int_equal(restart_check(&rule, false, &e), 0);
    an_end("no", 0);
    assert_int_equal(restart_check(&rule, true, &e), 0);
    an_end("on-failure", 3);
    assert_int_equal(restart_check(&rule, false, &e), 0);
    assert_int_equal(restart_check(NULL, true, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_policy_follows_the_table),
        cmocka_unit_test(on_failure_gives_up_after_its_retries),
        cmocka_unit_test(delay_doubles_to_a_minute_and_starts_over_after_a_long_run),
        cmocka_unit_test(rules_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
