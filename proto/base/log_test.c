/* A log line is one line, and its pairs can be taken apart again whatever the values hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/log.h"

static char said[8192];

/* What the call wrote to stderr, from the message on. */
#define SAID(call)                                           \
    ({                                                       \
        int pipe_[2], kept = dup(2);                         \
        assert_int_equal(pipe(pipe_), 0);                    \
        dup2(pipe_[1], 2);                                   \
        call;                                                \
        dup2(kept, 2);                                       \
        close(kept);                                         \
        close(pipe_[1]);                                     \
        ssize_t n_ = read(pipe_[0], said, sizeof(said) - 1); \
        close(pipe_[0]);                                     \
        said[n_ > 0 ? n_ : 0] = 0;                           \
        n_ > 0 ? said + strlen("<6>") : "";                  \
    })

static void values_with_quotes_and_backslashes_are_escaped(void **state)
{
    assert_string_equal(
        SAID(log_warn("start failed", "task=%s error=\"%s\" more=%d", "t1", "exec: \"a\\b\": no", 3)),
        "start failed task=t1 error=\"exec: \\\"a\\\\b\\\": no\" more=3\n");
    assert_string_equal(SAID(log_warn("refused", "one=\"%s\" two=\"%s\"", "x\" two=\"y", "z")),
                        "refused one=\"x\\\" two=\\\"y\" two=\"z\"\n");
}

static void a_value_cannot_begin_a_line(void **state)
{
    assert_string_equal(SAID(log_info("read", "name=\"%s\"", "a\n<0>forged\tb\x1b[1m")),
                        "read name=\"a <0>forged b [1m\"\n");
}

static void a_message_without_pairs_ends_with_its_last_word(void **state)
{
    assert_string_equal(SAID(log_info("this manager leads", "%s", "")), "this manager leads\n");
}

static void what_is_too_long_is_cut_with_its_quote_closed(void **state)
{
    char *text = malloc(10001);

    memset(text, '"', 10000);
    text[10000] = 0;
    const char *line = SAID(log_info("long", "value=\"%s\" after=%d", text, 1));
    size_t size = strlen(line);
    free(text);
    assert_true(size > 4000 && size < 4096);
    assert_string_equal(line + size - 2, "\"\n");
    assert_int_equal(line[size - 3], '"');
    assert_int_equal(line[size - 4], '\\');
}

static void lines_below_the_level_are_dropped(void **state)
{
    assert_string_equal(SAID(log_debug("nobody reads this", "n=%d", 1)), "");
    assert_int_equal(log_level_of("warn"), LOG_LEVEL_WARN);
    assert_int_equal(log_level_of("loud"), -1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_with_quotes_and_backslashes_are_escaped),
        cmocka_unit_test(a_value_cannot_begin_a_line),
        cmocka_unit_test(a_message_without_pairs_ends_with_its_last_word),
        cmocka_unit_test(what_is_too_long_is_cut_with_its_quote_closed),
        cmocka_unit_test(lines_below_the_level_are_dropped),
    };

    setenv("JOURNAL_STREAM", "1:1", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
