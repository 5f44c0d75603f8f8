/* JSON out and in: what is written is valid whatever the bytes, what is read is bounded, and what is wrong is
 * named. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/jread.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"

/* --- writing ------------------------------------------------------------------------------------- */

static void nesting_commas_and_keys_are_its_business(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct jwrite j = JWRITE_TO(&b);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "ID", "4f5c");
    jwrite_array(&j, "Tags");
    jwrite_string(&j, NULL, "web:1");
    jwrite_object(&j, NULL);
    jwrite_end(&j);
    jwrite_array(&j, NULL);
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_string(&j, "Nothing", NULL);
    jwrite_null(&j, "Null");
    jwrite_bool(&j, "Yes", true);
    jwrite_bool(&j, "No", false);
    jwrite_int(&j, "Least", INT64_MIN);
    jwrite_uint(&j, "Most", UINT64_MAX);
    jwrite_printf(&j, "Text", "%s-%d", "a\"b", 7);
    jwrite_raw(&j, "Raw", "[1,2]");
    jwrite_time_ns(&j, "Never", 0);
    jwrite_end(&j);
    assert_string_equal(buf_str(&b),
                        "{\"ID\":\"4f5c\",\"Tags\":[\"web:1\",{},[]],\"Nothing\":\"\",\"Null\":null,\"Yes\":true,"
                        "\"No\":false,\"Least\":-9223372036854775808,\"Most\":18446744073709551615,"
                        "\"Text\":\"a\\\"b-7\",\"Raw\":[1,2],\"Never\":\"0001-01-01T00:00:00Z\"}");
}

/* The JSON text of one string. */
static const char *text_of(struct buf *b, const char *value, size_t length)
{
    struct jwrite j = JWRITE_TO(b);

    buf_clear(b);
    jwrite_string_n(&j, NULL, value, length);
    return buf_str(b);
}

static void bytes_that_are_not_utf8_are_replaced(void **state)
{
    static const struct {
        const char *bytes, *json;
    } cases[] = {
        {"plain", "\"plain\""},
        {"\"\\\n\r\t\b\001\037\177", "\"\\\"\\\\\\n\\r\\t\\u0008\\u0001\\u001f\\u007f\""},
        {"<&>", "\"\\u003c\\u0026\\u003e\""},
        {"\303\244\342\202\254\360\237\230\200", "\"\303\244\342\202\254\360\237\230\200\""},
        {"a\200b", "\"a\\ufffdb\""},                     /* a continuation alone */
        {"\303", "\"\\ufffd\""},                         /* cut */
        {"\342\202", "\"\\ufffd\\ufffd\""},              /* cut */
        {"\360\237\230x", "\"\\ufffd\\ufffd\\ufffdx\""}, /* cut */
        {"\300\200", "\"\\ufffd\\ufffd\""},              /* overlong zero */
        {"\301\277", "\"\\ufffd\\ufffd\""},              /* overlong */
        {"\340\237\277", "\"\\ufffd\\ufffd\\ufffd\""},   /* overlong */
        {"\360\217\277\277", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\355\240\200", "\"\\ufffd\\ufffd\\ufffd\""},            /* a surrogate */
        {"\364\220\200\200", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* beyond Unicode */
        {"\365\200\200\200", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\377\376", "\"\\ufffd\\ufffd\""},
        {"\364\217\277\277", "\"\364\217\277\277\""},                 /* the last one there is */
        {"\355\237\277\356\200\200", "\"\355\237\277\356\200\200\""}, /* beside the surrogates */
    };
    AUTO_BUF struct buf b = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_string_equal(text_of(&b, cases[i].bytes, strlen(cases[i].bytes)), cases[i].json);
    assert_string_equal(text_of(&b, "a\0b", 3), "\"a\\u0000b\"");
}

/* Law: whatever the bytes, a reader takes what was written; well-formed text comes back as it was. */
static void random_bytes_are_written_as_valid_json(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct entropy_seeded e;

    print_message("# seed 17\n");
    entropy_seeded_init(&e, 17);
    for (int round = 0; round < 3000; round++) {
        char bytes[40];
        size_t size = entropy_below(&e.base, sizeof(bytes));
        json_t *root = NULL;
        struct err why;
        struct jwrite j = JWRITE_TO(&b);

        entropy_fill(&e.base, bytes, size);
        for (size_t i = 0; i < size; i++)
            if (round % 2)
                bytes[i] &= 0x7f;
        buf_clear(&b);
        jwrite_object(&j, NULL);
        jwrite_string_n(&j, "value", bytes, size);
        jwrite_end(&j);
        if (jread_parse(buf_bytes(&b), b.length, &root, &why) < 0)
            fail_msg("%s: %s", why.text, buf_str(&b));
        if (round % 2) {
            const json_t *value = json_object_get(root, "value");

            assert_int_equal(json_string_length(value), size);
            assert_memory_equal(json_string_value(value), bytes, size);
        }
        json_decref(root);
    }
}

static void numbers_come_back_as_they_were(void **state)
{
    static const double cases[] = {
        0, 1, -1.5, 0.1, 1e300, 5e-324, 123456789.123456789, 1.0 / 3, 4503599627370497.5};
    AUTO_BUF struct buf b = {0};
    struct jwrite j = JWRITE_TO(&b);

    jwrite_array(&j, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        jwrite_double(&j, NULL, cases[i]);
    jwrite_double(&j, NULL, INFINITY);
    jwrite_double(&j, NULL, NAN);
    jwrite_end(&j);
    json_t *root = NULL;
    assert_int_equal(jread_parse(buf_bytes(&b), b.length, &root, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_true(json_number_value(json_array_get(root, i)) == cases[i]);
    assert_true(json_number_value(json_array_get(root, ARRAY_SIZE(cases))) == 0);
    assert_true(json_number_value(json_array_get(root, ARRAY_SIZE(cases) + 1)) == 0);
    json_decref(root);
}

/* --- reading ------------------------------------------------------------------------------------- */

static void texts_that_are_no_json_are_refused(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "{",
        "}",
        "{}x",
        "{} {}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":}",
        "[1,]",
        "{\"a\":1,}",
        "[01]",
        "[1.]",
        "[.5]",
        "nul",
        "\"\\x\"",
        "\"a\nb\"",
        "[1e]",
        "\"\303\"",
        "\"\\ud800\"",
        "{\"a\":1,\"a\":2}",
        "[NaN]",
        "//x\n{}",
        "\xef\xbb\xbf{}",
        "[99999999999999999999]",
        "{\"a\\u0000b\":1}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        json_t *root = NULL;
        struct err e = {0};

        if (jread_parse(cases[i], strlen(cases[i]), &root, &e) != ERR_INVALID)
            fail_msg("taken: %s", cases[i]);
        assert_non_null(strstr(e.text, "invalid JSON"));
        assert_null(root);
    }
}

static void depth_is_bounded(void **state)
{
    char text[2 * JREAD_DEPTH_MAX + 3];

    for (size_t depth = JREAD_DEPTH_MAX; depth <= JREAD_DEPTH_MAX + 1; depth++) {
        json_t *root = NULL;
        struct err e;

        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        int rc = jread_parse(text, 2 * depth, &root, &e);
        assert_int_equal(rc, depth == JREAD_DEPTH_MAX ? 0 : ERR_INVALID);
        json_decref(root);
    }
    /* Brackets in texts are no levels. */
    AUTO_FREE
    char *quoted = mem_alloc(3000);
    memset(quoted, '[', 2999);
    memcpy(quoted, "[\"\\\"", 4);
    memcpy(quoted + 2990, "\"]", 3);
    json_t *root = NULL;
    assert_int_equal(jread_parse(quoted, 2992, &root, NULL), 0);
    json_decref(root);
}

static void fields_are_read_by_type(void **state)
{
    static const char text[] =
        "{\"Name\":\"web\",\"Replicas\":-3,\"Most\":9223372036854775807,\"On\":true,\"Part\":0.5,"
        "\"Whole\":2,\"Null\":null,\"Tags\":[\"a\",\"b\"],\"None\":[],\"Spec\":{\"x\":1},"
        "\"lower\":\"l\",\"LOWER2\":\"u\",\"Exact\":\"e\",\"exact\":\"f\"}";
    AUTO_ARENA struct arena a;
    AUTO_JSON json_t *root = NULL;
    json_t *part = NULL;
    char *s = NULL, **list = NULL;
    size_t count = 99;
    int64_t i = 42;
    uint64_t u = 42;
    double d = 42;
    bool on = false;

    arena_init(&a);
    assert_int_equal(jread_parse(text, sizeof(text) - 1, &root, NULL), 0);
    assert_int_equal(jread_string(root, NULL, "Name", &a, &s, NULL), 0);
    assert_string_equal(s, "web");
    assert_int_equal(jread_int(root, NULL, "Replicas", &i, NULL), 0);
    assert_int_equal(i, -3);
    assert_int_equal(jread_uint(root, NULL, "Most", &u, NULL), 0);
    assert_true(u == INT64_MAX);
    assert_int_equal(jread_bool(root, NULL, "On", &on, NULL), 0);
    assert_true(on);
    assert_int_equal(jread_double(root, NULL, "Part", &d, NULL), 0);
    assert_true(d == 0.5);
    assert_int_equal(jread_double(root, NULL, "Whole", &d, NULL), 0);
    assert_true(d == 2);
    assert_int_equal(jread_strings(root, NULL, "Tags", &a, &list, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_string_equal(list[1], "b");
    assert_int_equal(jread_strings(root, NULL, "None", &a, &list, &count, NULL), 0);
    assert_int_equal(count, 0);
    assert_int_equal(jread_object(root, NULL, "Spec", &part, NULL), 0);
    assert_non_null(part);
    /* Without regard to case unless there is an exact one. */
    assert_int_equal(jread_string(root, NULL, "Lower", &a, &s, NULL), 0);
    assert_string_equal(s, "l");
    assert_int_equal(jread_string(root, NULL, "Lower2", &a, &s, NULL), 0);
    assert_string_equal(s, "u");
    assert_int_equal(jread_string(root, NULL, "Exact", &a, &s, NULL), 0);
    assert_string_equal(s, "e");
    /* Absent and null leave everything as it was. */
    static const char *const absent[] = {"Null", "Absent"};
    for (size_t k = 0; k < 2; k++) {
        i = 7;
        assert_int_equal(jread_int(root, NULL, absent[k], &i, NULL), 0);
        assert_int_equal(i, 7);
        assert_int_equal(jread_string(root, NULL, absent[k], &a, &s, NULL), 0);
        assert_string_equal(s, "e");
        assert_int_equal(jread_strings(root, NULL, absent[k], &a, &list, &count, NULL), 0);
        assert_int_equal(count, 0);
        assert_int_equal(jread_array(root, NULL, absent[k], &part, NULL), 0);
        assert_null(part);
    }
    assert_null(jread_get(NULL, "x"));
    assert_int_equal(jread_int(NULL, NULL, "x", &i, NULL), 0);
}

static void wrong_types_are_named_with_field_and_value(void **state)
{
    static const char text[] =
        "{\"s\":\"web\",\"i\":-3,\"b\":true,\"d\":0.5,\"l\":[\"a\",1],\"o\":{},\"z\":\"a\\u0000b\","
        "\"lz\":[\"a\\u0000b\"]}";
    AUTO_ARENA struct arena a;
    AUTO_JSON json_t *root = NULL;
    json_t *part = NULL;
    char *s = NULL, **list = NULL;
    size_t count = 99;
    int64_t i = 42;
    uint64_t u = 42;
    double d = 42;
    bool on = false;
    struct err e;

    arena_init(&a);
    assert_int_equal(jread_parse(text, sizeof(text) - 1, &root, NULL), 0);
    assert_int_equal(jread_string(root, "Spec.Task", "i", &a, &s, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid Spec.Task.i: expected a string, got -3");
    assert_int_equal(jread_string(root, NULL, "z", &a, &s, &e), ERR_INVALID); /* C texts hold no zero */
    assert_int_equal(jread_int(root, NULL, "s", &i, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid s: expected a whole number, got \"web\"");
    assert_int_equal(jread_int(root, NULL, "d", &i, &e), ERR_INVALID);
    assert_int_equal(jread_uint(root, NULL, "i", &u, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid i: expected a whole number of 0 or more, got -3");
    assert_int_equal(jread_bool(root, NULL, "i", &on, &e), ERR_INVALID);
    assert_int_equal(jread_double(root, NULL, "b", &d, &e), ERR_INVALID);
    assert_int_equal(jread_object(root, NULL, "l", &part, &e), ERR_INVALID);
    assert_int_equal(jread_array(root, NULL, "o", &part, &e), ERR_INVALID);
    assert_int_equal(jread_strings(root, NULL, "l", &a, &list, &count, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid l: expected an array of strings, got [\"a\",1]");
    assert_int_equal(jread_strings(root, NULL, "lz", &a, &list, &count, &e), ERR_INVALID);
    assert_int_equal(i, 42);
    assert_true(u == 42 && d == 42 && !on && !s && !list && count == 99);
}

static void long_values_are_shown_in_part(void **state)
{
    AUTO_BUF struct buf b = {0};
    AUTO_JSON json_t *root = NULL;
    struct jwrite j = JWRITE_TO(&b);
    struct err e;
    int64_t i;

    jwrite_object(&j, NULL);
    jwrite_printf(&j, "x", "%0500d", 7);
    jwrite_end(&j);
    assert_int_equal(jread_parse(buf_bytes(&b), b.length, &root, NULL), 0);
    assert_int_equal(jread_int(root, NULL, "x", &i, &e), ERR_INVALID);
    assert_true(strlen(e.text) < 200);
    assert_non_null(strstr(e.text, "..."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nesting_commas_and_keys_are_its_business),
        cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
        cmocka_unit_test(random_bytes_are_written_as_valid_json),
        cmocka_unit_test(numbers_come_back_as_they_were),
        cmocka_unit_test(texts_that_are_no_json_are_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(fields_are_read_by_type),
        cmocka_unit_test(wrong_types_are_named_with_field_and_value),
        cmocka_unit_test(long_values_are_shown_in_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
