/* JSON by path, and written out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/tree.h"
#include "proto/base/mem.h"

static json_t *parse(const char *text)
{
    json_t *root = NULL;

    assert_int_equal(jread_parse(text, strlen(text), &root, NULL), 0);
    return root;
}

static void what_is_missing_is_empty(void **state)
{
    AUTO_JSON json_t *root = parse("{\"A\":{\"B\":\"text\",\"N\":7,\"R\":1.5,\"T\":true,\"Z\":null},\"L\":[1]}");

    assert_string_equal(tree_text(root, "A.B"), "text");
    assert_string_equal(tree_text(root, "A.N"), "");
    assert_string_equal(tree_text(root, "A.B.C"), "");
    assert_string_equal(tree_text(root, "X.Y"), "");
    assert_string_equal(tree_text(NULL, "A"), "");
    assert_true(tree_int(root, "A.N") == 7);
    assert_true(tree_int(root, "A.R") == 1);
    assert_true(tree_int(root, "A.B") == 0);
    assert_true(tree_real(root, "A.R") == 1.5);
    assert_true(tree_bool(root, "A.T"));
    assert_false(tree_bool(root, "A.N"));
    assert_null(tree_get(root, "A.Z"));
    assert_null(tree_get(root, "L.B"));
}

static void numbers_beyond_integers_are_zero(void **state)
{
    AUTO_JSON json_t *root = parse("{\"A\":1e300,\"B\":-1e300,\"C\":9e17}");

    assert_true(tree_int(root, "A") == 0);
    assert_true(tree_int(root, "B") == 0);
    assert_true(tree_int(root, "C") == 900000000000000000);
}

static void paths_are_made_on_the_way(void **state)
{
    AUTO_JSON json_t *root = json_object();
    AUTO_BUF struct buf text = {0};
    struct jwrite j = JWRITE_TO(&text);

    tree_put_text(tree_object(root, "A.B"), "C", "x");
    tree_put_int(tree_object(root, "A"), "N", -5);
    tree_put_bool(root, "T", true);
    tree_append_text(tree_array(root, "A.L"), "one");
    tree_append(tree_array(root, "A.L"), json_integer(2));
    tree_put_text(tree_object(root, "T"), "D", "another type is replaced");
    tree_write(&j, NULL, root);
    assert_string_equal(buf_str(&text), "{\"A\":{\"B\":{\"C\":\"x\"},\"N\":-5,\"L\":[\"one\",2]},"
                                        "\"T\":{\"D\":\"another type is replaced\"}}");
}

static void written_trees_read_back(void **state)
{
    static const char *const texts[] = {
        "{}",          "[]",
        "[[],{}]",     "{\"a\":[1,2.5,-3,true,false,null,\"x\"]}",
        "{\"\":\"\"}", "{\"k\":\"\\u0001\\n\\\"\\\\ \xc3\xa4 \xe2\x82\xac\"}",
        "[1e100,0.1]",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        AUTO_JSON json_t *root = parse(texts[i]);
        AUTO_BUF struct buf text = {0};
        struct jwrite j = JWRITE_TO(&text);

        tree_write(&j, NULL, root);
        AUTO_JSON json_t *again = parse(buf_str(&text));
        if (!json_equal(root, again))
            fail_msg("%s became %s", texts[i], buf_str(&text));
    }
}

static void text_is_indented_and_otherwise_left_alone(void **state)
{
    static const struct {
        const char *text;
        unsigned indent;
        const char *indented;
    } table[] = {
        {"{}", 4, "{}"},
        {"[ ]", 4, "[]"},
        {"{\"a\":1}", 4, "{\n    \"a\": 1\n}"},
        {"{\"a\":[1,2],\"b\":{}}", 2, "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}"},
        {"{ \"a\" : [ 1 , 2 ] }", 0, "{\"a\":[1,2]}"},
        {"{\"a,b:c{\":\"[x]\\\"{}\"}", 4, "{\n    \"a,b:c{\": \"[x]\\\"{}\"\n}"},
        {"[1.50,\"\\u00e4\",1e5]", 0, "[1.50,\"\\u00e4\",1e5]"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};

        tree_indent(&out, table[i].text, strlen(table[i].text), table[i].indent);
        assert_string_equal(buf_str(&out), table[i].indented);
    }
}

static void collect(void *context, const char *name, json_t *value)
{
    buf_printf(context, "%s=%lld ", name, (long long)json_integer_value(value));
}

static void members_are_visited_in_order(void **state)
{
    AUTO_JSON json_t *root = parse("{\"b\":2,\"a\":1,\"B\":3,\"\":0}");
    AUTO_BUF struct buf out = {0};

    tree_sorted(root, collect, &out);
    assert_string_equal(buf_str(&out), "=0 B=3 a=1 b=2 ");
    buf_clear(&out);
    tree_sorted(NULL, collect, &out);
    assert_int_equal(out.length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_empty),
        cmocka_unit_test(numbers_beyond_integers_are_zero),
        cmocka_unit_test(paths_are_made_on_the_way),
        cmocka_unit_test(written_trees_read_back),
        cmocka_unit_test(text_is_indented_and_otherwise_left_alone),
        cmocka_unit_test(members_are_visited_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
