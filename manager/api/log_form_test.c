/* Lines of logs as Docker's clients read them, and what filters of the swarm API compare with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/logs.h"
#include "manager/api/match.h"
#include "proto/base/mem.h"

static LogLine line_of(int64_t time_ns, unsigned stream, const char *text)
{
    LogLine line = LOG_LINE__INIT;

    line.time_ns = time_ns;
    line.has_stream = line.has_data = true;
    line.stream = stream;
    line.data = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    return line;
}

static void lines_are_written_as_asked(void **state)
{
    static const struct {
        struct log_form form;
        unsigned stream;
        const char *text, *expected;
        size_t size;
    } cases[] = {
        {{0}, 1, "hi\n", "\1\0\0\0\0\0\0\3hi\n", 11},
        {{0}, 2, "hi\n", "\2\0\0\0\0\0\0\3hi\n", 11},
        {{0}, 7, "hi", "\1\0\0\0\0\0\0\2hi", 10}, /* a stream nobody knows is standard output */
        {{0}, 1, "", "\1\0\0\0\0\0\0\0", 8},
        {{.raw = true}, 2, "hi\n", "hi\n", 3},
        {{.timestamps = true},
         1,
         "x\n",
         "\1\0\0\0\0\0\0\x21"
         "2023-11-14T22:13:20.000000007Z x\n",
         41},
        {{.details = "k=v"}, 1, "x\n", "\1\0\0\0\0\0\0\6k=v x\n", 14},
        {{.timestamps = true, .details = "k=v"},
         1,
         "x\n",
         "\1\0\0\0\0\0\0\x25"
         "2023-11-14T22:13:20.000000007Z k=v x\n",
         45},
        {{.raw = true, .timestamps = true, .details = "k=v"},
         1,
         "x\n",
         "2023-11-14T22:13:20.000000007Z k=v x\n",
         37},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        LogLine line = line_of(1700000000000000007, cases[i].stream, cases[i].text);
        AUTO_BUF struct buf out = {0};

        log_form_line(&out, &cases[i].form, &line);
        assert_int_equal(out.length, cases[i].size);
        if (memcmp(buf_bytes(&out), cases[i].expected, cases[i].size) != 0)
            fail_msg("case %zu", i);
    }
}

static void length_of_a_frame_is_big_endian(void **state)
{
    char text[70001];
    AUTO_BUF struct buf out = {0};

    memset(text, 'a', 70000);
    text[70000] = '\0';
    LogLine line = line_of(0, 1, text);
    log_form_line(&out, &(struct log_form){0}, &line);
    assert_memory_equal(buf_bytes(&out), "\1\0\0\0\0\1\x11\x70", 8); /* 70000 = 0x11170 */
}

static void text_of_ours_goes_as_system_error(void **state)
{
    AUTO_BUF struct buf out = {0};

    log_form_text(&out, &(struct log_form){.timestamps = true}, "oh");
    assert_int_equal(out.length, 10);
    assert_memory_equal(buf_bytes(&out), "\3\0\0\0\0\0\0\2oh", 10);
    buf_clear(&out);
    log_form_text(&out, &(struct log_form){.raw = true}, "oh");
    assert_string_equal(buf_str(&out), "oh");
}

static void names_and_ids_match_by_their_beginning(void **state)
{
    char *values[] = {(char *)"web", (char *)"db"};
    struct filter items[] = {{.key = "name", .values = values, .count = 2}};
    struct filters f = {.items = items, .count = 1};

    assert_true(match_prefix(&f, "name", "web"));
    assert_true(match_prefix(&f, "name", "website"));
    assert_true(match_prefix(&f, "name", "db-1"));
    assert_false(match_prefix(&f, "name", "we"));
    assert_false(match_prefix(&f, "name", "my-web"));
    assert_false(match_prefix(&f, "name", ""));
    assert_true(match_prefix(&f, "id", "anything")); /* no such filter */
}

static void every_label_that_is_asked_for_must_be_there(void **state)
{
    KeyValue one = KEY_VALUE__INIT, two = KEY_VALUE__INIT, *labels[] = {&one, &two};
    static const struct {
        char *values[2];
        size_t count;
        bool matches;
    } cases[] = {
        {{(char *)"a"}, 1, true},
        {{(char *)"a=1"}, 1, true},
        {{(char *)"a=2"}, 1, false},
        {{(char *)"a=1", (char *)"b"}, 2, true},
        {{(char *)"a=1", (char *)"c"}, 2, false},
        {{(char *)"b="}, 1, true},
        {{(char *)"a="}, 1, false},
        {{(char *)"A"}, 1, false},
    };

    one.key = (char *)"a";
    one.value = (char *)"1";
    two.key = (char *)"b"; /* without a value */
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct filter items[] = {{.key = "label", .values = (char **)cases[i].values, .count = cases[i].count}};
        struct filters f = {.items = items, .count = 1};

        if (match_labels(&f, "label", labels, 2) != cases[i].matches)
            fail_msg("%s", cases[i].values[0]);
        assert_false(match_labels(&f, "label", NULL, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_written_as_asked),
        cmocka_unit_test(length_of_a_frame_is_big_endian),
        cmocka_unit_test(text_of_ours_goes_as_system_error),
        cmocka_unit_test(names_and_ids_match_by_their_beginning),
        cmocka_unit_test(every_label_that_is_asked_for_must_be_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
