/* Filters of lists: both forms, alternatives, labels, times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/filter.h"
#include "proto/base/mem.h"

static const char *const known[] = {"name", "label", "dangling", NULL};
static struct arena arena;
static struct filters f;
static struct err e;

static int fresh(void **state)
{
    arena_init(&arena);
    return 0;
}

static int stale(void **state)
{
    arena_fini(&arena);
    return 0;
}

static int parse(const char *text)
{
    return filters_parse(text, known, &arena, &f, &e);
}

static void both_forms_are_read(void **state)
{
    assert_int_equal(parse("{\"name\":[\"a\",\"b\"]}"), 0);
    assert_true(filters_exact(&f, "name", "b"));
    assert_false(filters_exact(&f, "name", "c"));
    assert_true(filters_exact(&f, "label", "anything")); /* absent: no condition */
    assert_int_equal(parse("{\"name\":{\"a\":true,\"b\":false}}"), 0);
    assert_true(filters_exact(&f, "name", "a"));
    assert_false(filters_exact(&f, "name", "b"));
}

static void nothing_is_no_filter(void **state)
{
    static const char *const nothing[] = {NULL, "", "{}", "{\"name\":[]}", "{\"name\":null}", "{\"name\":{}}"};

    for (size_t i = 0; i < ARRAY_SIZE(nothing); i++) {
        assert_int_equal(parse(nothing[i]), 0);
        assert_null(filters_get(&f, "name"));
        assert_true(filters_like(&f, "name", "x"));
    }
}

static void what_is_no_filter_is_refused(void **state)
{
    static const char *const bad[] = {"x", "[]", "{\"name\":\"a\"}", "{\"name\":[1]}", "{\"name\":[\"a\"]"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse(bad[i]), ERR_INVALID);
    assert_int_equal(parse("{\"colour\":[\"red\"]}"), ERR_INVALID);
    assert_string_equal(e.text, "invalid filter 'colour'");
}

static void names_match_in_part_or_by_expression(void **state)
{
    assert_int_equal(parse("{\"name\":[\"we\"]}"), 0);
    assert_true(filters_like(&f, "name", "web"));
    assert_int_equal(parse("{\"name\":[\"^we$\",\"^db[0-9]$\"]}"), 0);
    assert_false(filters_like(&f, "name", "web"));
    assert_true(filters_like(&f, "name", "we"));
    assert_true(filters_like(&f, "name", "db7"));
    assert_int_equal(parse("{\"name\":[\"a{99}{99}{99}\",\"(\"]}"), 0);
    assert_false(filters_like(&f, "name", "aaa"));
}

static const char *value_of(void *ctx, const char *name)
{
    return strcmp(name, "tier") == 0 ? "gold" : strcmp(name, "empty") == 0 ? "" : NULL;
}

static void every_label_must_hold(void **state)
{
    static const struct {
        const char *text;
        bool holds;
    } table[] = {
        {"{\"label\":[\"tier\"]}", true},
        {"{\"label\":[\"tier=gold\"]}", true},
        {"{\"label\":[\"tier=tin\"]}", false},
        {"{\"label\":[\"tier\",\"empty=\"]}", true},
        {"{\"label\":[\"tier\",\"other\"]}", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(parse(table[i].text), 0);
        assert_int_equal(filters_labels(&f, "label", value_of, NULL), table[i].holds);
    }
}

static void truth_is_told_in_two_words(void **state)
{
    bool value = false;

    assert_int_equal(parse("{\"dangling\":[\"true\"]}"), 0);
    assert_int_equal(filters_bool(&f, "dangling", &value, &e), 0);
    assert_true(value);
    assert_int_equal(parse("{\"dangling\":{\"0\":true}}"), 0);
    assert_int_equal(filters_bool(&f, "dangling", &value, &e), 0);
    assert_false(value);
    assert_int_equal(parse("{\"dangling\":[\"perhaps\"]}"), 0);
    assert_int_equal(filters_bool(&f, "dangling", &value, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid filter 'dangling=perhaps'");
    assert_int_equal(parse("{\"dangling\":[\"true\",\"false\"]}"), 0);
    assert_int_equal(filters_bool(&f, "dangling", &value, &e), ERR_INVALID);
}

static void times_are_read_in_every_form(void **state)
{
    static const int64_t now = 1700000000000000000;
    static const struct {
        const char *text;
        int64_t ns; /* -1: refused */
    } table[] = {
        {"1699999999", 1699999999000000000},
        {"1699999999.25", 1699999999250000000},
        {"0", 0},
        {"2023-11-14T22:13:20Z", 1700000000000000000},
        {"2023-11-14T22:13:20", 1700000000000000000},
        {"2023-11-14T22:13", 1699999980000000000},
        {"2023-11-14", 1699920000000000000},
        {"10m", 1699999400000000000},
        {"1h30m", 1699994600000000000},
        {"1.5s", 1699999998500000000},
        {"yesterday", -1},
        {"10", 10000000000},
        {"10x", -1},
        {"", -1},
        {"-5", -1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t ns = -2;
        bool ok = filter_time(table[i].text, now, &ns);

        assert_int_equal(ok, table[i].ns >= 0);
        if (ok && ns != table[i].ns)
            fail_msg("\"%s\" gave %lld", table[i].text, (long long)ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_forms_are_read, fresh, stale),
        cmocka_unit_test_setup_teardown(nothing_is_no_filter, fresh, stale),
        cmocka_unit_test_setup_teardown(what_is_no_filter_is_refused, fresh, stale),
        cmocka_unit_test_setup_teardown(names_match_in_part_or_by_expression, fresh, stale),
        cmocka_unit_test_setup_teardown(every_label_must_hold, fresh, stale),
        cmocka_unit_test_setup_teardown(truth_is_told_in_two_words, fresh, stale),
        cmocka_unit_test_setup_teardown(times_are_read_in_every_form, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
