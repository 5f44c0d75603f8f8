/* Signals are found by every name people use, and by nothing else. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/err.h"
#include "proto/base/mem.h"
#include "proto/base/signal.h"

static void names_and_numbers_are_found(void **state)
{
    static const struct {
        const char *name;
        int number;
    } cases[] = {{"SIGTERM", SIGTERM}, {"TERM", SIGTERM},   {"sigterm", SIGTERM},
                 {"Kill", SIGKILL},    {"15", 15},          {"9", 9},
                 {"64", 64},           {"SIGRTMIN", 34},    {"SIGRTMIN+3", 37},
                 {"rtmin+30", 64},     {"SIGRTMAX", 64},    {"RTMAX-14", 50},
                 {"SIGCLD", SIGCHLD},  {"SIGIOT", SIGABRT}, {"SIGWINCH", SIGWINCH}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int number = 0;

        assert_int_equal(signal_parse(cases[i].name, &number), 0);
        assert_int_equal(number, cases[i].number);
    }
}

static void anything_else_is_refused_and_touches_nothing(void **state)
{
    static const char *const cases[] = {"",         "0",        "00",       "65",      "100",     "-1",
                                        "+9",       "9 ",       " 9",       "SIG",     "SIGNOPE", "SIGSIGTERM",
                                        "RTMIN+31", "RTMAX-31", "RTMIN-1",  "RTMAX+1", "RTMIN+",  "RTMIN+x",
                                        "TERM ",    "0x9",      "SIGRTMINX"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int number = 77;

        assert_int_equal(signal_parse(cases[i], &number), ERR_INVALID);
        assert_int_equal(number, 77);
    }
}

static void every_name_leads_back_to_its_number(void **state)
{
    for (int number = 1; number <= 31; number++) {
        int again = 0;

        assert_non_null(signal_name(number));
        assert_int_equal(signal_parse(signal_name(number), &again), 0);
        assert_int_equal(again, number);
    }
    assert_null(signal_name(0));
    assert_null(signal_name(40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_numbers_are_found),
        cmocka_unit_test(anything_else_is_refused_and_touches_nothing),
        cmocka_unit_test(every_name_leads_back_to_its_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
