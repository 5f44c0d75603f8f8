/* Templates over trees and rows. What their parts do is in cases/template.case, where docker says the same; here
 * are rows, what is missing, and the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/template.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

static int run_json(const char *text, const char *json, char (*zero)(const char *, const char *), struct buf *out,
                    struct err *e)
{
    AUTO_JSON json_t *root = NULL;
    struct template *t = NULL;

    assert_int_equal(jread_parse(json, strlen(json), &root, NULL), 0);
    const struct template_data data = {.json = root, .zero = zero};
    int rc = template_parse(text, &t, e);
    if (rc == 0)
        rc = template_run(t, &data, out, e);
    template_free(t);
    return rc;
}

/* --- trees ------------------------------------------------------------------------------------------------------
 */

static char zero_of(const char *of, const char *member)
{
    if (strcmp(of, "Labels") == 0)
        return '-';
    return strcmp(member, "Text") == 0     ? '"'
           : strcmp(member, "Count") == 0  ? '0'
           : strcmp(member, "Flag") == 0   ? 'f'
           : strcmp(member, "List") == 0   ? '['
           : strcmp(member, "Object") == 0 ? '{'
           : strcmp(member, "Nil") == 0    ? '*'
                                           : 0;
}

static void missing_members_stand_for_their_zero(void **state)
{
    static const struct {
        const char *text, *shown; /* NULL: an error */
    } table[] = {
        {"[{{.Text}}] {{.Count}} {{.Flag}} {{.List}} {{.Object}} {{.Nil}}", "[] 0 false [] map[] <nil>"},
        {"{{len .List}} {{json .List}} {{json .Nil}}", "0 [] null"},
        {"{{range .List}}x{{else}}none{{end}}{{if .Object}}x{{end}}{{if .Nil}}x{{end}}", "none"},
        {"{{.Labels.nope}} {{.Labels.a}}", "<no value> 1"},
        {"{{.Object.Text}}", ""},
        {"{{.Unknown}}", NULL},
        {"{{.Nil.Text}}", NULL},
        {"{{.Text.Text}}", NULL},
        {"{{.labels.a}} {{.LABELS.a}}", "1 1"}, /* the API does not mind the case */
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};
        struct err e = {0};
        int rc = run_json(table[i].text, "{\"Labels\":{\"a\":\"1\"}}", zero_of, &out, &e);

        if (table[i].shown && rc < 0)
            fail_msg("%s: %s", table[i].text, e.text);
        if (table[i].shown)
            assert_string_equal(buf_str(&out), table[i].shown);
        else
            assert_true(rc < 0 && *e.text);
    }
}

static void numbers_and_texts_of_any_kind_are_shown(void **state)
{
    static const struct {
        const char *json, *shown, *as_json;
    } table[] = {
        {"{\"X\":9223372036854775807}", "9223372036854775807", "9223372036854775807"},
        {"{\"X\":-0.5}", "-0.5", "-0.5"},
        {"{\"X\":\"\\u0001<&>\\\"\\u00e4\\n\"}", "\x01<&>\"ä\n", "\"\\u0001<&>\\\"ä\\n\""},
        {"{\"X\":[null,true,[]]}", "[<nil> true []]", "[null,true,[]]"},
        {"{\"X\":{\"b\":1,\"a\":\"\"}}", "map[a: b:1]", "{\"b\":1,\"a\":\"\"}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};
        struct err e = {0};

        assert_int_equal(run_json("{{.X}}", table[i].json, NULL, &out, &e), 0);
        assert_string_equal(buf_str(&out), table[i].shown);
        buf_clear(&out);
        assert_int_equal(run_json("{{json .X}}", table[i].json, NULL, &out, &e), 0);
        assert_string_equal(buf_str(&out), table[i].as_json);
    }
}

static void errors_name_the_place(void **state)
{
    static const struct {
        const char *text, *error;
    } table[] = {
        {"{{.A}}\n  {{.Nope}}", "template: :2:4: executing \"\" at <.Nope>: map has no entry for key \"Nope\""},
        {"{{len .A .A}}", "template: :1:2: executing \"\" at <len>: wrong number of args for len: want 1 got 2"},
        {"{{index .L 5}}",
         "template: :1:2: executing \"\" at <index .L 5>: error calling index: index out of range: 5"},
        {"\n\n{{nope}}", "template: :3: function \"nope\" not defined"},
        {"{{if .A}}", "template: :1: unexpected EOF"},
        {"{{end}}", "template: :1: unexpected {{end}}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};
        struct err e = {0};

        assert_true(run_json(table[i].text, "{\"A\":\"x\",\"L\":[1]}", NULL, &out, &e) < 0);
        assert_string_equal(e.text, table[i].error);
    }
}

static void what_came_before_an_error_stays(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct err e;

    assert_true(run_json("before {{.A}} {{.Nope}} after", "{\"A\":\"x\"}", NULL, &out, &e) < 0);
    assert_string_equal(buf_str(&out), "before x ");
}

static void variables_live_in_their_block(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct err e = {0};

    assert_int_equal(
        run_json("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}{{range .L}}{{$x = .}}{{end}}{{$x}}",
                 "{\"L\":[5,6]}", NULL, &out, &e),
        0);
    assert_string_equal(buf_str(&out), "216");
    buf_clear(&out);
    assert_true(run_json("{{if true}}{{$y := 2}}{{end}}{{$y}}", "{}", NULL, &out, &e) < 0);
}

/* --- rows -------------------------------------------------------------------------------------------------------
 */

static bool column(const void *row, const char *name, struct buf *out, bool *ret_bool)
{
    *ret_bool = strcmp(name, "Up") == 0;
    if (strcmp(name, "Name") == 0)
        buf_append_str(out, row ? "web" : "NAME");
    else if (strcmp(name, "Up") == 0)
        buf_append_str(out, row ? "true" : "UP");
    else
        return false;
    return true;
}

static void label(const void *row, const char *name, struct buf *out)
{
    buf_printf(out, "%s of %s", name, row ? "web" : "header");
}

static void row_json(const void *row, struct jwrite *j)
{
    jwrite_object(j, NULL);
    jwrite_string(j, "Name", "<web>");
    jwrite_end(j);
}

static int run_row(const char *text, bool header, struct buf *out, struct err *e)
{
    static const struct template_rows rows = {.noun = "thing", .column = column, .label = label, .json = row_json};
    const struct template_data data = {.rows = &rows, .row = header ? NULL : "row", .header = header};
    struct template *t = NULL;
    int rc = template_parse(text, &t, e);

    if (rc == 0)
        rc = template_run(t, &data, out, e);
    template_free(t);
    return rc;
}

static void rows_compute_their_columns(void **state)
{
    static const struct {
        const char *text, *row, *header;
    } table[] = {
        {"{{.Name}}\t{{.Up}}", "web\ttrue", "NAME\tUP"},
        {"{{upper .Name}}", "WEB", "NAME"},
        {"{{lower .Name}}", "web", "NAME"}, /* functions leave headers alone */
        {"{{.Name | printf \"%s!\"}}", "web!", "NAME!"},
        {"{{.Label \"a.b\"}}", "a.b of web", "a.b of header"},
        {"{{if .Up}}up{{end}}", "up", "up"},
        {"{{json .}}", "{\"Name\":\"\\u003cweb\\u003e\"}", NULL},
        {"{{json .Name}}", "\"web\"", "NAME"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};
        struct err e = {0};

        assert_int_equal(run_row(table[i].text, false, &out, &e), 0);
        assert_string_equal(buf_str(&out), table[i].row);
        buf_clear(&out);
        if (!table[i].header)
            continue;
        assert_int_equal(run_row(table[i].text, true, &out, &e), 0);
        assert_string_equal(buf_str(&out), table[i].header);
    }
}

static void rows_say_which_columns_they_lack(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct err e;

    assert_true(run_row("{{.Nope}}", false, &out, &e) < 0);
    assert_string_equal(e.text,
                        "template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type thing");
    assert_true(run_row("{{.Name.First}}", false, &out, &e) < 0);
    assert_true(run_row("{{.Label}}", false, &out, &e) < 0);
}

static void what_a_template_reads_is_known_before(void **state)
{
    static const struct {
        const char *text;
        bool reads;
    } table[] = {
        {"{{.Size}}", true},
        {"{{if .Size}}x{{end}}", true},
        {"{{range .X}}{{.Y}}{{else}}{{.Size}}{{end}}", true},
        {"{{upper (print .Size)}}", true},
        {"{{.X | printf \"%s\" .Size}}", true},
        {"{{.Sizes}} Size {{\"Size\"}}", false},
        {"{{.X.Size}}", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct template *t = NULL;

        assert_int_equal(template_parse(table[i].text, &t, NULL), 0);
        if (template_reads(t, "Size") != table[i].reads)
            fail_msg("%s", table[i].text);
        template_free(t);
    }
}

/* --- bounds -----------------------------------------------------------------------------------------------------
 */

static void repeat(struct buf *out, const char *text, int times)
{
    for (int i = 0; i < times; i++)
        buf_append_str(out, text);
}

static void depth_is_bounded(void **state)
{
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf out = {0};
    struct err e;

    repeat(&text, "{{if true}}", 1000);
    repeat(&text, "{{end}}", 1000);
    assert_true(run_json(buf_str(&text), "{}", NULL, &out, &e) < 0);
    buf_clear(&text);
    buf_append_str(&text, "{{");
    repeat(&text, "(", 1000);
    buf_append_str(&text, "1");
    repeat(&text, ")", 1000);
    buf_append_str(&text, "}}");
    assert_true(run_json(buf_str(&text), "{}", NULL, &out, &e) < 0);
    buf_clear(&text);
    repeat(&text, "{{if true}}", 20);
    buf_append_str(&text, "deep");
    repeat(&text, "{{end}}", 20);
    assert_int_equal(run_json(buf_str(&text), "{}", NULL, &out, &e), 0);
    assert_string_equal(buf_str(&out), "deep");
}

static void work_and_output_are_bounded(void **state)
{
    static const char *const greedy[] = {
        "{{range .L}}{{range $.L}}{{range $.L}}{{range $.L}}{{range $.L}}{{range $.L}}{{range $.L}}{{range $.L}}"
        "{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}",
        "{{$x := \"0123456789\"}}{{range .L}}{{range $.L}}{{range $.L}}{{$x = print $x $x}}{{end}}{{end}}{{end}}",
        "{{printf \"%999999999d\" 1}}",
        "{{pad \"x\" 999999999 0}}",
        "{{range 999999999999}}{{end}}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(greedy); i++) {
        AUTO_BUF struct buf out = {0};
        struct err e = {0};

        if (run_json(greedy[i], "{\"L\":[1,2,3,4,5,6,7,8,9,10,11,12]}", NULL, &out, &e) == 0)
            fail_msg("this was allowed: %s", greedy[i]);
        assert_true(*e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_members_stand_for_their_zero),
        cmocka_unit_test(numbers_and_texts_of_any_kind_are_shown),
        cmocka_unit_test(errors_name_the_place),
        cmocka_unit_test(what_came_before_an_error_stays),
        cmocka_unit_test(variables_live_in_their_block),
        cmocka_unit_test(rows_compute_their_columns),
        cmocka_unit_test(rows_say_which_columns_they_lack),
        cmocka_unit_test(what_a_template_reads_is_known_before),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(work_and_output_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
