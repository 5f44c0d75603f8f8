/* A log line is read, or known to be none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/container/logline.h"
#include "proto/base/entropy.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"

#define TAIL ",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.5Z\"}"

static bool parse(const char *text, struct logline *ret, char *copy)
{
    strncpy(copy, text, 999);
    return logline_parse(copy, strlen(text), ret);
}

static void lines_are_read_in_any_order_with_unknown_members(void **state)
{
    static const char *const table[] = {
        "{\"log\":\"hello\\n\"" TAIL,
        "{\"time\":\"2026-01-01T00:00:00.5Z\",\"stream\":\"stdout\",\"log\":\"hello\\n\"}",
        " { \"log\" : \"hello\\n\" , \"attrs\":{\"a\":[1,2.5e3,null,true,{\"b\":\"}\"}]}" TAIL " ",
        "{\"log\":\"first\",\"log\":\"hello\\n\"" TAIL,
    };
    char copy[1000];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct logline line;

        if (!parse(table[i], &line, copy))
            fail_msg("%s", table[i]);
        assert_int_equal(line.size, 6);
        assert_memory_equal(line.text, "hello\n", 6);
        assert_int_equal(line.stream, LOGLINE_STDOUT);
        assert_int_equal(line.time_ns, 1767225600500000000);
    }
}

static void escapes_are_decoded(void **state)
{
    static const struct {
        const char *json, *text;
        size_t size;
    } table[] = {
        {"", "", 0},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8},
        {"\\u0041\\u00e9\\u20ac", "A\xc3\xa9\xe2\x82\xac", 6},
        {"\\ud83d\\ude00!", "\xf0\x9f\x98\x80!", 5},
        {"\\ud83dx", "\xef\xbf\xbdx", 4},
        {"\\ud83d\\u0041",
         "\xef\xbf\xbd"
         "A",
         4},
        {"\\ude00", "\xef\xbf\xbd", 3},
        {"a\\u0000b", "a\0b", 3},
        {"\xff\xfe", "\xff\xfe", 2},
    };
    char copy[1000];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_FREE
        char *text = mem_printf("{\"log\":\"%s\"" TAIL, table[i].json);
        struct logline line;

        assert_true(parse(text, &line, copy));
        assert_int_equal(line.size, table[i].size);
        assert_memory_equal(line.text, table[i].text, table[i].size);
    }
}

static void raw_bytes_count_where_there_are_some(void **state)
{
    static const char *const table[] = {
        "{\"log\":\"\\ufffd\\n\",\"raw\":\"/wo=\"" TAIL,
        "{\"raw\":\"/wo=\",\"log\":\"\\ufffd\\n\"" TAIL,
    };
    char copy[1000];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct logline line;

        assert_true(parse(table[i], &line, copy));
        assert_int_equal(line.size, 2);
        assert_memory_equal(line.text, "\xff\n", 2);
    }
}

static void damage_is_noticed(void **state)
{
    static const char *const table[] = {
        "",
        "{}",
        "null",
        "{\"log\":\"x\"}",
        "{\"log\":\"x\",\"stream\":\"stdout\"}",
        "{\"log\":\"x\",\"stream\":\"stdin\",\"time\":\"2026-01-01T00:00:00Z\"}",
        "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"yesterday\"}",
        "{\"log\":5" TAIL,
        "{\"log\":\"x\",\"raw\":\"/w\"" TAIL,
        "{\"log\":\"x\",\"raw\":5" TAIL,
        "{\"log\":\"x\"" TAIL "x",
        "{\"log\":\"x\\q\"" TAIL,
        "{\"log\":\"x\\u12\"" TAIL,
        "{\"log\":\"x\\",
        "{\"log\":\"x",
        "{\"log\":\"x\",\"a\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]" TAIL,
        "{\"log\":\"x\",\"a\":[1,]" TAIL,
    };
    char copy[1000];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct logline line;

        if (parse(table[i], &line, copy))
            fail_msg("%s was taken for a line", table[i]);
    }
}

/* What the logger writes is read back, whatever it is; what was cut anywhere is no line. */
static void written_lines_read_back_and_cut_ones_do_not(void **state)
{
    struct entropy_seeded seeded;
    uint64_t seed = 20261124;

    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&seeded, seed);
    for (int round = 0; round < 300; round++) {
        AUTO_BUF struct buf out = {0};
        struct jwrite j = JWRITE_TO(&out);
        char text[64];
        size_t size = entropy_below(&seeded.base, sizeof(text));
        struct logline line;

        for (size_t i = 0; i < size; i++) /* ASCII: others are replaced by the writer */
            text[i] = (char)entropy_below(&seeded.base, 128);
        jwrite_object(&j, NULL);
        jwrite_string_n(&j, "log", text, size);
        jwrite_string(&j, "stream", "stderr");
        jwrite_time_ns(&j, "time", 1767225600123456789);
        jwrite_end(&j);
        for (size_t cut = 0; cut < out.length; cut++) {
            AUTO_FREE
            char *part = mem_dup(buf_bytes(&out), cut + 1); /* cut may be 0 */

            assert_false(logline_parse(part, cut, &line));
        }
        assert_true(logline_parse(buf_bytes(&out), out.length, &line));
        assert_int_equal(line.size, size);
        assert_memory_equal(line.text, text, size);
        assert_int_equal(line.stream, LOGLINE_STDERR);
        assert_int_equal(line.time_ns, 1767225600123456789);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_in_any_order_with_unknown_members),
        cmocka_unit_test(escapes_are_decoded),
        cmocka_unit_test(raw_bytes_count_where_there_are_some),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(written_lines_read_back_and_cut_ones_do_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
