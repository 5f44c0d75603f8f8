/* The grammars of values, with the words for what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/value.h"
#include "proto/base/mem.h"

static void booleans_are_written_in_six_ways(void **state)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"}, *const no[] = {"0",     "f",
                                                                                             "F",     "false",
                                                                                             "FALSE", "False"},
                             *const wrong[] = {"", "yes", "tRUE", "2", " 1", "true "};
    bool value;
    struct err e;

    for (size_t i = 0; i < 6; i++) {
        value = false;
        assert_int_equal(value_bool(yes[i], &value, &e), 0);
        assert_true(value);
        assert_int_equal(value_bool(no[i], &value, &e), 0);
        assert_false(value);
        assert_int_equal(value_bool(wrong[i], &value, &e), ERR_INVALID);
    }
    assert_int_equal(value_bool("maybe", &value, &e), ERR_INVALID);
    assert_string_equal(e.text, "strconv.ParseBool: parsing \"maybe\": invalid syntax");
}

static void whole_numbers_have_bounds(void **state)
{
    static const struct {
        const char *text;
        int base, bits;
        int64_t value;
        const char *error; /* NULL: none */
    } table[] = {
        {"0", 10, 64, 0, NULL},
        {"-5", 10, 64, -5, NULL},
        {"+5", 10, 64, 5, NULL},
        {"9223372036854775807", 10, 64, INT64_MAX, NULL},
        {"-9223372036854775808", 10, 64, INT64_MIN, NULL},
        {"9223372036854775808", 10, 64, 0, "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"},
        {"128", 10, 8, 0, "strconv.ParseInt: parsing \"128\": value out of range"},
        {"-128", 10, 8, -128, NULL},
        {"0x1f", 0, 64, 31, NULL},
        {"0b101", 0, 64, 5, NULL},
        {"0o17", 0, 64, 15, NULL},
        {"017", 0, 64, 15, NULL},
        {"0x1f", 10, 64, 0, "strconv.ParseInt: parsing \"0x1f\": invalid syntax"},
        {"", 10, 64, 0, "strconv.ParseInt: parsing \"\": invalid syntax"},
        {"-", 10, 64, 0, "strconv.ParseInt: parsing \"-\": invalid syntax"},
        {" 1", 10, 64, 0, "strconv.ParseInt: parsing \" 1\": invalid syntax"},
        {"1 ", 10, 64, 0, "strconv.ParseInt: parsing \"1 \": invalid syntax"},
        {"1.5", 10, 64, 0, "strconv.ParseInt: parsing \"1.5\": invalid syntax"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t value = 0;
        struct err e = {0};
        int rc = value_int(table[i].text, table[i].base, table[i].bits, &value, &e);

        if (table[i].error)
            assert_string_equal(e.text, table[i].error);
        else
            assert_int_equal(rc, 0);
        assert_true(value == table[i].value);
    }
}

static void counts_are_never_negative(void **state)
{
    uint64_t value;
    struct err e;

    assert_int_equal(value_uint("18446744073709551615", 10, 64, &value, &e), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(value_uint("65535", 10, 16, &value, &e), 0);
    assert_int_equal(value_uint("65536", 10, 16, &value, &e), ERR_INVALID);
    assert_string_equal(e.text, "strconv.ParseUint: parsing \"65536\": value out of range");
    assert_int_equal(value_uint("-1", 10, 64, &value, &e), ERR_INVALID);
    assert_string_equal(e.text, "strconv.ParseUint: parsing \"-1\": invalid syntax");
    assert_int_equal(value_uint("+1", 10, 64, &value, &e), ERR_INVALID);
    assert_int_equal(value_uint("18446744073709551616", 10, 64, &value, &e), ERR_INVALID);
    assert_int_equal(value_uint("99999999999999999999999999", 10, 64, &value, &e), ERR_INVALID);
}

static void reals_are_read_whole(void **state)
{
    static const char *const wrong[] = {"", "x", "1x", " 1", "1 ", "1,5", "--1", "0x"};
    double value;
    struct err e;

    assert_int_equal(value_real("0.25", &value, &e), 0);
    assert_true(value == 0.25);
    assert_int_equal(value_real("-1e3", &value, &e), 0);
    assert_true(value == -1000);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        if (value_real(wrong[i], &value, &e) != ERR_INVALID)
            fail_msg("\"%s\" was read as a number", wrong[i]);
}

static void durations_have_units(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
        const char *error;
    } table[] = {
        {"0", 0, NULL},
        {"5s", 5000000000, NULL},
        {"1h30m", 5400000000000, NULL},
        {"1.5h", 5400000000000, NULL},
        {"200ms", 200000000, NULL},
        {"10us", 10000, NULL},
        {"10µs", 10000, NULL},
        {"10μs", 10000, NULL}, /* the Greek letter */
        {"7ns", 7, NULL},
        {"-1m", -60000000000, NULL},
        {"+1m", 60000000000, NULL},
        {".5s", 500000000, NULL},
        {"1.s", 1000000000, NULL},
        {"2562047h", 9223369200000000000, NULL},
        {"2562047h47m16.854775807s", INT64_MAX, NULL},
        {"-2562047h47m16.854775808s", INT64_MIN, NULL},
        {"2562047h47m16.854775808s", 0, "time: invalid duration \"2562047h47m16.854775808s\""},
        {"99999999999999999999999999999999999999999999h", 0,
         "time: invalid duration \"99999999999999999999999999999999999999999999h\""},
        {"0.99999999999999999999999999999999999999999999s", 999999999, NULL},
        {"2562048h", 0, "time: invalid duration \"2562048h\""},
        {"9223372036854775808ns", 0, "time: invalid duration \"9223372036854775808ns\""},
        {"", 0, "time: invalid duration \"\""},
        {"5", 0, "time: missing unit in duration \"5\""},
        {"5d", 0, "time: unknown unit \"d\" in duration \"5d\""},
        {"s", 0, "time: invalid duration \"s\""},
        {".s", 0, "time: invalid duration \".s\""},
        {"5s ", 0, "time: unknown unit \"s \" in duration \"5s \""},
        {"1h5", 0, "time: missing unit in duration \"1h5\""},
        {"-", 0, "time: invalid duration \"-\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t ns = 0;
        struct err e = {0};
        int rc = value_duration(table[i].text, &ns, &e);

        assert_string_equal(e.text, table[i].error ? table[i].error : "");
        assert_int_equal(rc, table[i].error ? ERR_INVALID : 0);
        assert_true(ns == table[i].ns);
    }
}

static void sizes_are_binary(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
        const char *error;
    } table[] = {
        {"0", 0, NULL},
        {"512", 512, NULL},
        {"64m", 67108864, NULL},
        {"64M", 67108864, NULL},
        {"64MB", 67108864, NULL},
        {"64MiB", 67108864, NULL},
        {"1.5 GiB", 1610612736, NULL},
        {"1k", 1024, NULL},
        {"1b", 1, NULL},
        {"1t", 1099511627776, NULL},
        {"1p", 1125899906842624, NULL},
        {".5k", 512, NULL},
        {"", 0, "invalid size: ''"},
        {"m", 0, "invalid size: 'm'"},
        {"1x", 0, "invalid suffix: 'x'"},
        {"1mm", 0, "invalid suffix: 'mm'"},
        {"-1", 0, "invalid size: '-1'"},
        {"1 2", 0, NULL},
        {"99999999999p", 0, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t bytes = 0;
        struct err e = {0};
        int rc = value_bytes(table[i].text, &bytes, &e);

        if (i >= ARRAY_SIZE(table) - 2) { /* whatever it says: not a number that somebody meant */
            assert_int_equal(rc, ERR_INVALID);
            continue;
        }
        assert_string_equal(e.text, table[i].error ? table[i].error : "");
        assert_int_equal(rc, table[i].error ? ERR_INVALID : 0);
        assert_true(bytes == table[i].bytes);
    }
}

static void processors_are_counted_in_billionths(void **state)
{
    static const struct {
        const char *text;
        int64_t nano;
        const char *error;
    } table[] = {
        {"1", 1000000000, NULL},
        {"1.5", 1500000000, NULL},
        {"0.000000001", 1, NULL},
        {"1/2", 500000000, NULL},
        {"0", 0, NULL},
        {"1e-1", 0, "failed to parse 1e-1 as a rational number"},
        {"0.0000000001", 0, "value is too precise"},
        {"1/3", 0, "value is too precise"},
        {"many", 0, "failed to parse many as a rational number"},
        {"", 0, "failed to parse  as a rational number"},
        {"1/0", 0, "failed to parse 1/0 as a rational number"},
        {"99999999999999", 0, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t nano = 0;
        struct err e = {0};
        int rc = value_cpus(table[i].text, &nano, &e);

        if (i + 1 == ARRAY_SIZE(table)) {
            assert_int_equal(rc, ERR_INVALID);
            continue;
        }
        assert_string_equal(e.text, table[i].error ? table[i].error : "");
        assert_int_equal(rc, table[i].error ? ERR_INVALID : 0);
        assert_true(nano == table[i].nano);
    }
}

static void moments_are_dates_or_distances(void **state)
{
    static const int64_t now = 1714558830500000000; /* 2024-05-01T10:20:30.5Z */
    static const struct {
        const char *text;
        int zone;
        const char *moment; /* NULL: refused */
    } table[] = {
        {"2024-05-01T10:20:30Z", 0, "1714558830.000000000"},
        {"2024-05-01T10:20:30.123456789Z", 0, "1714558830.123456789"},
        {"2024-05-01T12:20:30+02:00", 0, "1714558830.000000000"},
        {"2024-05-01T10:20:30", 0, "1714558830.000000000"},
        {"2024-05-01T12:20:30", 7200, "1714558830.000000000"},
        {"2024-05-01T10:20", 0, "1714558800.000000000"},
        {"2024-05-01", 0, "1714521600.000000000"},
        {"2024-05-01Z", 0, "1714521600.000000000"},
        {"30s", 0, "1714558800"},
        {"1h", 0, "1714555230"},
        {"1714558830", 0, "1714558830"},
        {"1714558830.5", 0, "1714558830.5"},
        {"", 0, NULL},
        {"yesterday", 0, NULL},
        {"2024-13-01", 0, NULL},
        {"2024-05-01T25:00:00Z", 0, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char moment[40] = "";
        struct err e = {0};
        int rc = value_moment(table[i].text, now, table[i].zone, moment, &e);

        if (!table[i].moment && rc != ERR_INVALID)
            fail_msg("\"%s\" is \"%s\"", table[i].text, moment);
        if (table[i].moment)
            assert_string_equal(moment, table[i].moment);
    }
}

static void words_are_split_as_a_shell_does(void **state)
{
    static const struct {
        const char *text;
        const char *words[6];
    } table[] = {
        {"", {NULL}},
        {"one two", {"one", "two"}},
        {"  one\t two \n", {"one", "two"}},
        {"'one two' three", {"one two", "three"}},
        {"\"a \\\"b\\\" \\\\\" c\\ d", {"a \"b\" \\", "c d"}},
        {"a'b'\"c\"", {"abc"}},
        {"''", {""}},
        {"a # the rest", {"a"}},
        {"a#b", {"a#b"}},
        {"'\\n'", {"\\n"}},
    };
    static const char *const wrong[] = {"'open", "\"open", "end\\"};
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        const char **words;
        size_t count, k;

        arena_init(&a);
        assert_int_equal(value_words(&a, table[i].text, &words, &count, &e), 0);
        for (k = 0; k < count; k++) {
            assert_non_null(table[i].words[k]);
            assert_string_equal(words[k], table[i].words[k]);
        }
        assert_null(table[i].words[k]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        AUTO_ARENA struct arena a;
        const char **words;
        size_t count;

        arena_init(&a);
        assert_int_equal(value_words(&a, wrong[i], &words, &count, &e), ERR_INVALID);
    }
}

static void fields_may_be_quoted(void **state)
{
    static const struct {
        const char *text;
        const char *fields[5];
    } table[] = {
        {"a", {"a"}},
        {"a,b,c", {"a", "b", "c"}},
        {"a,,c", {"a", "", "c"}},
        {"\"a,b\",c", {"a,b", "c"}},
        {"\"say \"\"x\"\"\",c", {"say \"x\"", "c"}},
        {"a,", {"a", ""}},
    };
    static const char *const wrong[] = {"\"open", "a\"b,c", "\"a\"b"};
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        const char **fields;
        size_t count, k;

        arena_init(&a);
        assert_int_equal(value_fields(&a, table[i].text, &fields, &count, &e), 0);
        for (k = 0; k < count; k++) {
            assert_non_null(table[i].fields[k]);
            assert_string_equal(fields[k], table[i].fields[k]);
        }
        assert_null(table[i].fields[k]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        AUTO_ARENA struct arena a;
        const char **fields;
        size_t count;

        arena_init(&a);
        if (value_fields(&a, wrong[i], &fields, &count, &e) != ERR_INVALID)
            fail_msg("%s was read", wrong[i]);
    }
}

static void ulimits_have_a_soft_and_a_hard_end(void **state)
{
    static const struct {
        const char *text, *name;
        int64_t soft, hard;
        const char *error;
    } table[] = {
        {"nofile=1024:2048", "nofile", 1024, 2048, NULL},
        {"nofile=1024", "nofile", 1024, 1024, NULL},
        {"core=-1", "core", -1, -1, NULL},
        {"nproc=5:-1", "nproc", 5, -1, NULL},
        {"nofile", "", 0, 0, "invalid ulimit argument: nofile"},
        {"files=1", "", 0, 0, "invalid ulimit type: files"},
        {"nofile=2:1", "", 0, 0, "ulimit soft limit must be less than or equal to hard limit: 2 > 1"},
        {"nofile=-1:1", "", 0, 0,
         "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 1"},
        {"nofile=x", "", 0, 0, "strconv.ParseInt: parsing \"x\": invalid syntax"},
        {"nofile=1:2:3", "", 0, 0,
         "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct value_ulimit u = {0};
        struct err e = {0};
        int rc = value_ulimit(table[i].text, &u, &e);

        assert_string_equal(e.text, table[i].error ? table[i].error : "");
        if (table[i].error)
            continue;
        assert_int_equal(rc, 0);
        assert_string_equal(u.name, table[i].name);
        assert_true(u.soft == table[i].soft && u.hard == table[i].hard);
    }
}

static void addresses_are_written_shortly(void **state)
{
    static const struct {
        const char *text, *address;
    } table[] = {
        {"1.2.3.4", "1.2.3.4"},
        {" 1.2.3.4 ", "1.2.3.4"},
        {"fd00:0:0:0:0:0:0:1", "fd00::1"},
        {"::1", "::1"},
        {"1.2.3", NULL},
        {"1.2.3.4.5", NULL},
        {"", NULL},
        {"x", NULL},
        {"1.2.3.256", NULL},
        {"fd00:::1", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char address[64] = "";
        struct err e = {0};
        int rc = value_address(table[i].text, address, &e);

        assert_int_equal(rc, table[i].address ? 0 : ERR_INVALID);
        if (table[i].address)
            assert_string_equal(address, table[i].address);
    }
}

static void hosts_have_a_name_and_an_address(void **state)
{
    static const struct {
        const char *text, *host;
    } table[] = {
        {"db:10.0.0.5", "db:10.0.0.5"},
        {"db=10.0.0.5", "db:10.0.0.5"},
        {"six:fd00::1", "six:fd00::1"},
        {"six=[fd00::1]", "six:fd00::1"},
        {"out:host-gateway", "out:host-gateway"},
        {"db", NULL},
        {":10.0.0.5", NULL},
        {"db:", NULL},
        {"db:nowhere", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        char *host = NULL;
        struct err e = {0};

        arena_init(&a);
        int rc = value_host(&a, table[i].text, &host, &e);
        assert_int_equal(rc, table[i].host ? 0 : ERR_INVALID);
        if (table[i].host)
            assert_string_equal(host, table[i].host);
    }
}

static void search_domains_look_like_domains(void **state)
{
    static const char *const good[] = {"example.com", "a", "a-b.c", "."}, *const wrong[] = {"", "exa mple.com",
                                                                                            "-a.com", "a..b",
                                                                                            "a_b!"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO_ARENA struct arena a;
        char *domain = NULL;
        struct err e = {0};

        arena_init(&a);
        if (value_domain(&a, good[i], &domain, &e) < 0)
            fail_msg("%s: %s", good[i], e.text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        AUTO_ARENA struct arena a;
        char *domain = NULL;
        struct err e = {0};

        arena_init(&a);
        if (value_domain(&a, wrong[i], &domain, &e) == 0)
            fail_msg("\"%s\" is taken as %s", wrong[i], domain);
    }
}

static void labels_and_resources_need_names(void **state)
{
    struct err e = {0};

    assert_int_equal(value_label("a=b", &e), 0);
    assert_int_equal(value_label("a", &e), 0);
    assert_int_equal(value_label("a=", &e), 0);
    assert_int_equal(value_label("=b", &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid label '=b': empty name");
    assert_int_equal(value_label("a b=c", &e), ERR_INVALID);
    assert_string_equal(e.text, "label 'a b' contains whitespaces");
    assert_int_equal(value_generic("GPU=2", &e), 0);
    assert_int_equal(value_generic("GPU", &e), ERR_INVALID);
    assert_int_equal(value_generic("GPU=x", &e), ERR_INVALID);
    assert_int_equal(value_generic("GPU=-1", &e), ERR_INVALID);
}

static void variables_come_from_the_environment_when_they_have_no_value(void **state)
{
    static const char *const environment[] = {"HERE=yes", "HEREAFTER=no", "EMPTY=", NULL};
    static const struct {
        const char *text, *variable; /* NULL: refused */
    } table[] = {
        {"A=1", "A=1"},      {"A=", "A="},     {"A=b=c", "A=b=c"}, {"HERE", "HERE=yes"},
        {"EMPTY", "EMPTY="}, {"GONE", "GONE"}, {"=x", NULL},       {"HER", "HER"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        char *variable = NULL;
        struct err e = {0};

        arena_init(&a);
        int rc = value_env(&a, table[i].text, (char *const *)environment, &variable, &e);
        assert_int_equal(rc, table[i].variable ? 0 : ERR_INVALID);
        if (table[i].variable)
            assert_string_equal(variable, table[i].variable);
    }
}

static int read_lines(struct arena *a, const char *text, size_t length, const char ***lines, size_t *count,
                      struct err *e)
{
    static const char *const environment[] = {"HERE=yes", NULL};

    arena_init(a);
    return value_env_lines(a, "vars", text, length, (char *const *)environment, lines, count, e);
}

static void files_of_variables_have_comments_and_gaps(void **state)
{
    static const char text[] = "\xef\xbb\xbf# comment\n\nA=1\r\n  B=two words  \nHERE\nGONE\nC=#not a comment\nD=";
    static const char *const wanted[] = {"A=1", "B=two words  ", "HERE=yes", "C=#not a comment", "D="};
    AUTO_ARENA struct arena a;
    const char **lines;
    size_t count;
    struct err e = {0};

    assert_int_equal(read_lines(&a, text, sizeof(text) - 1, &lines, &count, &e), 0);
    assert_int_equal(count, ARRAY_SIZE(wanted));
    for (size_t i = 0; i < count; i++)
        assert_string_equal(lines[i], wanted[i]);
}

static void files_of_variables_say_what_is_wrong(void **state)
{
    static const struct {
        const char *text;
        size_t length;
        const char *error;
    } table[] = {
        {"A B=1", 5, "invalid env file (vars): variable 'A B' contains whitespaces"},
        {"=1", 2, "invalid env file (vars): no variable name on line '=1'"},
        {"A=\xff\xfe", 4, "invalid env file (vars): invalid utf8 bytes at line 1"},
        {"A=1\nB=\0x", 8, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        const char **lines;
        size_t count;
        struct err e = {0};
        int rc = read_lines(&a, table[i].text, table[i].length, &lines, &count, &e);

        assert_int_equal(rc, ERR_INVALID);
        if (table[i].error)
            assert_string_equal(e.text, table[i].error);
    }
}

static void rights_have_one_form(void **state)
{
    static const struct {
        const char *text, *right;
    } table[] = {{"NET_ADMIN", "CAP_NET_ADMIN"},
                 {"net_admin", "CAP_NET_ADMIN"},
                 {"CAP_NET_ADMIN", "CAP_NET_ADMIN"},
                 {"cap_chown", "CAP_CHOWN"},
                 {"all", "ALL"},
                 {" ALL ", "ALL"}};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;

        arena_init(&a);
        assert_string_equal(value_capability(&a, table[i].text), table[i].right);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(booleans_are_written_in_six_ways),
        cmocka_unit_test(whole_numbers_have_bounds),
        cmocka_unit_test(counts_are_never_negative),
        cmocka_unit_test(reals_are_read_whole),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(sizes_are_binary),
        cmocka_unit_test(processors_are_counted_in_billionths),
        cmocka_unit_test(moments_are_dates_or_distances),
        cmocka_unit_test(words_are_split_as_a_shell_does),
        cmocka_unit_test(fields_may_be_quoted),
        cmocka_unit_test(ulimits_have_a_soft_and_a_hard_end),
        cmocka_unit_test(addresses_are_written_shortly),
        cmocka_unit_test(hosts_have_a_name_and_an_address),
        cmocka_unit_test(search_domains_look_like_domains),
        cmocka_unit_test(labels_and_resources_need_names),
        cmocka_unit_test(variables_come_from_the_environment_when_they_have_no_value),
        cmocka_unit_test(files_of_variables_have_comments_and_gaps),
        cmocka_unit_test(files_of_variables_say_what_is_wrong),
        cmocka_unit_test(rights_have_one_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
