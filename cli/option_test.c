/* Command lines: what the tables of options make of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/option.h"
#include "proto/base/mem.h"

static const struct option first[] = {
    {.name = "all", .letter = 'a', .type = &option_switch},
    {.name = "quiet", .letter = 'q', .type = &option_switch},
    {.name = "filter", .letter = 'f', .type = &option_filter},
    {.name = "env", .letter = 'e', .type = &option_env},
    {.name = "last", .letter = 'n', .type = &option_int, .standard = "-1"},
    {0},
};

static const struct option second[] = {
    {.name = "replicas", .type = &option_uint},
    {.name = "delay", .type = &option_duration},
    {.name = "memory", .letter = 'm', .type = &option_bytes},
    {.name = "cpus", .type = &option_decimal},
    {.name = "ratio", .type = &option_float},
    {.name = "init", .type = &option_switch, .standard = "true"},
    {.name = "format", .type = &option_string, .standard = "table"},
    {0},
};

static const struct option *const tables[] = {first, second, NULL};

static int parse(struct args *a, bool stop, const char *line, struct err *e)
{
    static char copy[512]; /* what was parsed borrows from it */
    char *argv[32], *rest = NULL;
    size_t count = 0;

    assert_true(strlen(line) < sizeof(copy));
    memcpy(copy, line, strlen(line) + 1);
    for (char *word = strtok_r(copy, " ", &rest); word && count < 31; word = strtok_r(NULL, " ", &rest))
        argv[count++] = word;
    argv[count] = NULL;
    return args_parse(a, tables, argv, stop, e);
}

/* What was given, as "--name=text" each, then the words. */
static void show(const struct args *a, struct buf *out)
{
    for (size_t i = 0; i < a->given_count; i++)
        buf_printf(out, "--%s=%s ", a->given[i].option->name, a->given[i].text);
    buf_append_str(out, "|");
    for (size_t i = 0; i < a->words_count; i++)
        buf_printf(out, " %s", a->words[i]);
}

static void options_are_written_in_many_ways(void **state)
{
    static const struct {
        const char *line, *meaning;
    } table[] = {
        {"", "|"},
        {"web", "| web"},
        {"-a", "--all=true |"},
        {"--all", "--all=true |"},
        {"--all=false", "--all=false |"},
        {"-a=false", "--all=false |"},
        {"-aq", "--all=true --quiet=true |"},
        {"-aqn5", "--all=true --quiet=true --last=5 |"},
        {"-aqn 5", "--all=true --quiet=true --last=5 |"},
        {"-n=5", "--last=5 |"},
        {"-n5", "--last=5 |"},
        {"--last 5", "--last=5 |"},
        {"--last=5", "--last=5 |"},
        {"--last -5", "--last=-5 |"},
        {"-n -5", "--last=-5 |"},
        {"web -a db -q", "--all=true --quiet=true | web db"},
        {"-a -- -q web", "--all=true | -q web"},
        {"-- --", "| --"},
        {"-", "| -"},
        {"web - -a", "--all=true | web -"},
        {"-e A=1 -e B=2", "--env=A=1 --env=B=2 |"},
        {"--env=A=1=2", "--env=A=1=2 |"},
        {"-eA=1", "--env=A=1 |"},
        {"--format=", "--format= |"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};
        struct args a;
        struct err e = {0};

        if (parse(&a, false, table[i].line, &e) < 0)
            fail_msg("%s: %s", table[i].line, e.text);
        show(&a, &out);
        assert_string_equal(buf_str(&out), table[i].meaning);
        args_fini(&a);
    }
}

static void the_first_word_can_end_the_options(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct args a;
    struct err e;

    assert_int_equal(parse(&a, true, "-a nginx ls -la --all -n", &e), 0);
    show(&a, &out);
    assert_string_equal(buf_str(&out), "--all=true | nginx ls -la --all -n");
    args_fini(&a);
}

static void mistakes_are_told_in_dockers_words(void **state)
{
    static const struct {
        const char *line, *error;
    } table[] = {
        {"--nope", "unknown flag: --nope"},
        {"--nope=x", "unknown flag: --nope"},
        {"--filtr x=y", "unknown flag: --filtr (did you mean --filter?)"},
        {"-x", "unknown shorthand flag: 'x' in -x"},
        {"-ax", "unknown shorthand flag: 'x' in -x"},
        {"-axq", "unknown shorthand flag: 'x' in -xq"},
        {"--last", "flag needs an argument: --last"},
        {"-n", "flag needs an argument: 'n' in -n"},
        {"-an", "flag needs an argument: 'n' in -n"},
        {"--=x", "bad flag syntax: --=x"},
        {"---all", "bad flag syntax: ---all"},
        {"--last x",
         "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"},
        {"--replicas -1",
         "invalid argument \"-1\" for \"--replicas\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax"},
        {"--all=x",
         "invalid argument \"x\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"},
        {"--delay 5", "invalid argument \"5\" for \"--delay\" flag: time: missing unit in duration \"5\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct args a;
        struct err e = {0};

        assert_int_equal(parse(&a, false, table[i].line, &e), ERR_INVALID);
        assert_string_equal(e.text, table[i].error);
        args_fini(&a);
    }
}

static void values_have_types_and_standards(void **state)
{
    struct args a;
    struct err e;

    assert_int_equal(parse(&a, false, "", &e), 0);
    assert_false(args_has(&a, "last"));
    assert_true(args_int(&a, "last") == -1);
    assert_true(args_uint(&a, "replicas") == 0);
    assert_true(args_switch(&a, "init"));
    assert_false(args_switch(&a, "all"));
    assert_string_equal(args_text(&a, "format"), "table");
    assert_true(args_duration(&a, "delay") == 0);
    assert_true(args_bytes(&a, "memory") == 0);
    assert_true(args_real(&a, "ratio") == 0);
    args_fini(&a);

    assert_int_equal(parse(&a, false,
                           "--last 7 --replicas 3 --init=false --delay 1m --memory 1k --cpus 0.5 --ratio 0.25 "
                           "--replicas 4 --format json",
                           &e),
                     0);
    assert_true(args_has(&a, "last"));
    assert_true(args_int(&a, "last") == 7);
    assert_true(args_uint(&a, "replicas") == 4); /* the last one counts */
    assert_false(args_switch(&a, "init"));
    assert_true(args_duration(&a, "delay") == 60000000000);
    assert_true(args_bytes(&a, "memory") == 1024);
    assert_true(args_cpus(&a, "cpus") == 500000000);
    assert_true(args_real(&a, "ratio") == 0.25);
    assert_string_equal(args_text(&a, "format"), "json");
    args_fini(&a);
}

static void repeated_options_keep_their_order(void **state)
{
    static const char *const wanted[] = {"a=1", "b=2", "a=3"};
    struct args a;
    const char *text;
    size_t at = 0, i = 0;
    struct err e;

    assert_int_equal(parse(&a, false, "-f a=1 x --filter b=2 -fa=3", &e), 0);
    assert_int_equal(args_count(&a, "filter"), 3);
    while ((text = args_next(&a, "filter", &at)))
        assert_string_equal(text, wanted[i++]);
    assert_int_equal(i, 3);
    args_fini(&a);
}

static void help_is_asked_for_anywhere_among_the_options(void **state)
{
    static const char *const lines[] = {"--help", "web --help", "-a --help x", "-h"};
    struct args a;
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        assert_int_equal(parse(&a, false, lines[i], &e), 0);
        assert_true(a.help);
        args_fini(&a);
    }
    assert_int_equal(parse(&a, true, "nginx --help", &e), 0);
    assert_false(a.help);
    args_fini(&a);
    assert_int_equal(parse(&a, false, "-- --help", &e), 0);
    assert_false(a.help);
    args_fini(&a);
}

struct names {
    const char *const *at;
};

static const char *next_name(void *context)
{
    struct names *names = context;

    return *names->at ? *names->at++ : NULL;
}

static void near_names_are_suggested_and_far_ones_not(void **state)
{
    static const char *const names[] = {"create", "inspect", "ls", "ps", "remove", "scale", "update", NULL};
    static const struct {
        const char *text, *near;
    } table[] = {{"creat", "create"}, {"inpsect", "inspect"}, {"list", "ls"},
                 {"lsx", "ls"},       {"zzz", NULL},          {"sclae", "scale"},
                 {"", NULL},          {"updated", "update"},  {"l", NULL}};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct names all = {names};
        const char *near = nearest_name(table[i].text, next_name, &all);

        if (table[i].near) {
            assert_non_null(near);
            assert_string_equal(near, table[i].near);
        } else if (near) {
            fail_msg("\"%s\" is taken for %s", table[i].text, near);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_written_in_many_ways),
        cmocka_unit_test(the_first_word_can_end_the_options),
        cmocka_unit_test(mistakes_are_told_in_dockers_words),
        cmocka_unit_test(values_have_types_and_standards),
        cmocka_unit_test(repeated_options_keep_their_order),
        cmocka_unit_test(help_is_asked_for_anywhere_among_the_options),
        cmocka_unit_test(near_names_are_suggested_and_far_ones_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
