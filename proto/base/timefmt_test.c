/* Times as texts, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

#define S INT64_C(1000000000)

static void known_times_are_written_and_read(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0001-01-01T00:00:00Z"}, /* never */
        {1, "1970-01-01T00:00:00.000000001Z"},
        {S, "1970-01-01T00:00:01.000000000Z"},
        {951827696 * S + 123, "2000-02-29T12:34:56.000000123Z"},
        {1795500840 * S, "2026-11-24T06:14:00.000000000Z"},
        {4102444799 * S + 999999999, "2099-12-31T23:59:59.999999999Z"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[TIME_TEXT];
        int64_t ns = -1;

        time_format_ns(cases[i].ns, text);
        assert_string_equal(text, cases[i].text);
        assert_true(time_parse_ns(text, &ns));
        assert_true(ns == cases[i].ns);
    }
}

static void times_before_1970_are_written_right(void **state)
{
    char text[TIME_TEXT];

    time_format_ns(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999999Z");
    time_format_ns(-S, text);
    assert_string_equal(text, "1969-12-31T23:59:59.000000000Z");
    time_format_ns(INT64_MIN, text);
    assert_string_equal(text, "1677-09-21T00:12:43.145224192Z");
    time_format_ns(INT64_MAX, text);
    assert_string_equal(text, "2262-04-11T23:47:16.854775807Z");
}

static void other_forms_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"2000-02-29T12:34:56Z", 951827696 * S},
        {"2000-02-29t12:34:56z", 951827696 * S},
        {"2000-02-29T12:34:56.5Z", 951827696 * S + 500000000},
        {"2000-02-29T12:34:56.123456789999Z", 951827696 * S + 123456789},
        {"2000-02-29T14:34:56+02:00", 951827696 * S},
        {"2000-02-29T04:04:56-08:30", 951827696 * S},
        {"2016-12-31T23:59:60Z", 1483228800 * S}, /* a leap second */
        {"0001-01-01T00:00:00Z", 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t ns = -1;

        if (!time_parse_ns(cases[i].text, &ns) || ns != cases[i].ns)
            fail_msg("%s: %lld", cases[i].text, (long long)ns);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "now",
        "2000-02-29",
        "2000-02-29T12:34:56",
        "2000-02-29T12:34:56.Z",
        "2000-02-29T12:34:56Zx",
        "2000-02-29T12:34:56+2:00",
        "2000-02-29T12:34:56+24:00",
        "2000-02-29T12:34:56+0200",
        "2000-2-29T12:34:56Z",
        "2000-13-01T00:00:00Z",
        "2000-00-01T00:00:00Z",
        "2000-01-00T00:00:00Z",
        "2000-01-32T00:00:00Z",
        "2001-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2000-04-31T00:00:00Z",
        "2000-01-01T24:00:00Z",
        "2000-01-01T00:60:00Z",
        "2000-01-01T00:00:61Z",
        "1969-12-31T23:59:59Z",
        "2262-01-01T00:00:00Z",
        "9999-01-01T00:00:00Z",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00garbage",
        " 2000-02-29T12:34:56Z",
        "-200-02-29T12:34:56Z",
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t ns = 7;

        if (time_parse_ns(cases[i], &ns))
            fail_msg("taken: %s", cases[i]);
        assert_true(ns == 7);
    }
}

static void random_times_come_back(void **state)
{
    struct entropy_seeded e;

    print_message("# seed 23\n");
    entropy_seeded_init(&e, 23);
    for (int i = 0; i < 5000; i++) {
        int64_t ns = 1 + (int64_t)entropy_below(&e.base, (uint64_t)9000000000 * S), again = 0;
        char text[TIME_TEXT];

        time_format_ns(ns, text);
        assert_true(time_parse_ns(text, &again));
        assert_true(ns == again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_times_are_written_and_read),
        cmocka_unit_test(times_before_1970_are_written_right),
        cmocka_unit_test(other_forms_are_read),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(random_times_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
