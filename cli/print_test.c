/* What numbers, times and texts look like to people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/print.h"
#include "cli/table.h"
#include "proto/base/mem.h"

static void sizes_have_few_digits_and_a_unit(void **state)
{
    static const struct {
        double bytes;
        int digits;
        const char *text;
    } table[] = {
        {0, 3, "0B"},        {999, 3, "999B"},          {1000, 3, "1kB"},
        {1095, 3, "1.09kB"}, {1500, 3, "1.5kB"},        {187654321, 3, "188MB"},
        {999999, 3, "1MB"},  {1234567890, 3, "1.23GB"}, {12345678, 4, "12.35MB"},
        {5000000, 4, "5MB"}, {4096, 3, "4.1kB"},        {1e15, 3, "1PB"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[PRINT_TEXT];

        print_size(table[i].bytes, table[i].digits, text);
        assert_string_equal(text, table[i].text);
    }
}

static void binary_sizes_count_in_1024(void **state)
{
    static const struct {
        double bytes;
        const char *text;
    } table[] = {
        {0, "0B"},           {1023, "1023B"},          {1024, "1KiB"},
        {67108864, "64MiB"}, {4138426368, "3.854GiB"}, {1610612736, "1.5GiB"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[PRINT_TEXT];

        print_size_binary(table[i].bytes, text);
        assert_string_equal(text, table[i].text);
    }
}

static void ages_are_told_roughly(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } table[] = {
        {0, "Less than a second"}, {1, "1 second"},       {59, "59 seconds"},      {60, "About a minute"},
        {119, "About a minute"},   {120, "2 minutes"},    {3599, "59 minutes"},    {3600, "About an hour"},
        {7199, "2 hours"},         {7200, "2 hours"},     {170000, "47 hours"},    {172800, "2 days"},
        {1207000, "13 days"},      {1209600, "2 weeks"},  {5100000, "8 weeks"},    {5270400, "2 months"},
        {63069000, "24 months"},   {63072000, "2 years"}, {315360000, "10 years"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[PRINT_TEXT];

        print_age(table[i].seconds, text);
        assert_string_equal(text, table[i].text);
    }
}

static void durations_read_back_as_flags(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } table[] = {
        {0, "0s"},
        {1, "1ns"},
        {1500, "1.5µs"},
        {200000000, "200ms"},
        {5000000000, "5s"},
        {1500000000, "1.5s"},
        {90000000000, "1m30s"},
        {3600000000000, "1h0m0s"},
        {-1000000000, "-1s"},
        {7776000000000000, "2160h0m0s"},
        {INT64_MIN, "-2562047h47m16.854775808s"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[PRINT_TEXT];

        print_duration(table[i].ns, text);
        assert_string_equal(text, table[i].text);
    }
}

static void reals_are_as_short_as_they_can_be(void **state)
{
    static const struct {
        double value;
        const char *text;
    } table[] = {{0, "0"},           {0.5, "0.5"},    {0.1, "0.1"},   {1e6, "1e+06"},
                 {123456, "123456"}, {1e21, "1e+21"}, {-2.5, "-2.5"}, {1.0 / 3, "0.3333333333333333"},
                 {1e-7, "1e-07"}};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[PRINT_TEXT];

        print_real(table[i].value, text);
        assert_string_equal(text, table[i].text);
    }
}

static void long_texts_end_in_an_ellipsis(void **state)
{
    static const struct {
        const char *text;
        size_t width;
        const char *cut;
    } table[] = {
        {"short", 5, "short"}, {"longer", 5, "long…"}, {"", 5, ""},    {"äöüäöü", 5, "äöüä…"},
        {"x", 1, "x"},         {"xyz", 1, "…"},        {"xyz", 0, ""}, {"日本語日本語", 7, "日本語…"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};

        print_ellipsis(&out, table[i].text, table[i].width);
        assert_string_equal(buf_str(&out), table[i].cut);
    }
}

static void widths_count_places_not_bytes(void **state)
{
    assert_int_equal(print_width("abc", 3), 3);
    assert_int_equal(print_width("äöü", 6), 3);
    assert_int_equal(print_width("日本", 6), 4);
    assert_int_equal(print_width("a…b", 5), 3);
    assert_int_equal(print_width("\xff\xfe", 2), 2); /* no UTF-8: a place each */
    assert_int_equal(print_width("日", 2), 2);       /* cut in the middle */
}

static void quoted_texts_show_what_does_not_print(void **state)
{
    static const struct {
        const char *text, *quoted;
    } table[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"say \"x\"\\", "\"say \\\"x\\\"\\\\\""},
        {"a\nb\tc\r", "\"a\\nb\\tc\\r\""},
        {"\x01\x7f", "\"\\x01\\x7f\""},
        {"ä", "\"ä\""},
        {"\xff", "\"\\xff\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};

        print_quoted(&out, table[i].text);
        assert_string_equal(buf_str(&out), table[i].quoted);
    }
}

static void states_get_a_capital(void **state)
{
    AUTO_BUF struct buf out = {0};

    print_capital(&out, "running");
    print_capital(&out, "");
    print_capital(&out, "READY");
    print_capital(&out, "x");
    assert_string_equal(buf_str(&out), "RunningReadyX");
}

static void names_sort_as_people_count(void **state)
{
    static const char *const sorted[] = {"",      "a",      "a1", "a01x", "a2",    "a10",    "a10.1",
                                         "a10.2", "a10.10", "b",  "web",  "web.9", "web.10", "web10"};

    for (size_t i = 0; i + 1 < ARRAY_SIZE(sorted); i++) {
        if (print_natural(sorted[i], sorted[i + 1]) >= 0 || print_natural(sorted[i + 1], sorted[i]) <= 0)
            fail_msg("\"%s\" does not come before \"%s\"", sorted[i], sorted[i + 1]);
        assert_int_equal(print_natural(sorted[i], sorted[i]), 0);
    }
    /* numbers beyond any integer */
    assert_true(print_natural("a99999999999999999999999998", "a99999999999999999999999999") < 0);
}

static void moments_keep_their_zone_and_lose_zeros(void **state)
{
    static const struct {
        const char *from, *to;
    } table[] = {
        {"2024-05-01T10:20:30Z", "2024-05-01 10:20:30 +0000 UTC"},
        {"2024-05-01T10:20:30.120000000Z", "2024-05-01 10:20:30.12 +0000 UTC"},
        {"2024-05-01T10:20:30.000000000Z", "2024-05-01 10:20:30 +0000 UTC"},
        {"2024-05-01T10:20:30.123456789Z", "2024-05-01 10:20:30.123456789 +0000 UTC"},
        {"2024-05-01T10:20:30.5+02:00", "2024-05-01 10:20:30.5 +0200 +0200"},
        {"", "0001-01-01 00:00:00 +0000 UTC"},
        {"yesterday", "yesterday"},
        {"2024-05-01 10:20:30Z no", "2024-05-01 10:20:30Z no"},
        {"2024-05-01T10:20:30.", "2024-05-01 10:20:30 +0000 UTC"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};

        print_moment(&out, table[i].from);
        assert_string_equal(buf_str(&out), table[i].to);
    }
}

static void texts_are_broken_at_blanks(void **state)
{
    AUTO_BUF struct buf out = {0};

    print_wrapped(&out, "one two three four averyveryverylongword end\nnew line", 2, 12);
    assert_string_equal(buf_str(&out), "one two\n  three four\n  averyveryverylongword\n  end\n  new line");
}

/* --- tables -----------------------------------------------------------------------------------------------------
 */

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    static const struct {
        struct table_shape shape;
        const char *text, *laid_out;
    } table[] = {
        {{10, 3}, "ID\tNAME\nabc\tweb\n", "ID        NAME\nabc       web\n"},
        {{10, 3}, "ID\tNAME\t\nabcdefghijkl\tweb\t\n", "ID             NAME      \nabcdefghijkl   web       \n"},
        {{0, 1}, "a\tb\tc\nlong\tx\ty\n", "a    b c\nlong x y\n"},
        {{0, 1}, "no cells\na\tb\n", "no cells\na b\n"},
        {{0, 1}, "aaaa\tb\nnone\nc\td\n", "aaaa b\nnone\nc d\n"}, /* a line without a cell ends the column */
        {{0, 1}, "ä\tx\nab\ty\n", "ä  x\nab y\n"},
        {{0, 1}, "a\tb", "a b"},
        {{0, 1}, "", ""},
        {{0, 1}, "\t\t\n", "  \n"},
        {{8, 2}, "x\ty\n\tz\n", "x       y\n        z\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};

        table_layout(&out, table[i].text, strlen(table[i].text), table[i].shape);
        assert_string_equal(buf_str(&out), table[i].laid_out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_few_digits_and_a_unit),
        cmocka_unit_test(binary_sizes_count_in_1024),
        cmocka_unit_test(ages_are_told_roughly),
        cmocka_unit_test(durations_read_back_as_flags),
        cmocka_unit_test(reals_are_as_short_as_they_can_be),
        cmocka_unit_test(long_texts_end_in_an_ellipsis),
        cmocka_unit_test(widths_count_places_not_bytes),
        cmocka_unit_test(quoted_texts_show_what_does_not_print),
        cmocka_unit_test(states_get_a_capital),
        cmocka_unit_test(names_sort_as_people_count),
        cmocka_unit_test(moments_keep_their_zone_and_lose_zeros),
        cmocka_unit_test(texts_are_broken_at_blanks),
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
