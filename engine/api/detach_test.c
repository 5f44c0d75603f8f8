/* Keys to detach: read as Docker's client writes them, found in what is typed, and nothing else is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/api/detach.h"
#include "proto/base/mem.h"

static void keys_are_read(void **state)
{
    static const struct {
        const char *text, *keys;
    } table[] = {
        {NULL, "\x10\x11"},
        {"", "\x10\x11"},
        {"ctrl-p,ctrl-q", "\x10\x11"},
        {"a", "a"},
        {"a,b,c", "abc"},
        {"ctrl-@,x", "\0x"},
        {"ctrl-[", "\x1b"},
        {"ctrl-A", "\x01"},
        {",", ","},
        {"ctrl-\\,^", "\x1c^"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct detach d;
        struct err e;

        assert_int_equal(detach_parse(table[i].text, &d, &e), 0);
        assert_memory_equal(d.keys, table[i].keys, d.count);
    }
}

static void bad_keys_are_named(void **state)
{
    static const char *const table[] = {"ctrl-", "ctrl-1",  "ab",
                                        "a,",    "ctrl-pp", "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct detach d;
        struct err e;

        if (detach_parse(table[i], &d, &e) != ERR_INVALID)
            fail_msg("%s", table[i]);
        assert_non_null(strstr(e.text, table[i]));
    }
}

static void typing_is_passed_on_but_for_the_keys(void **state)
{
    static const struct {
        const char *pieces[4], *out;
        bool detaches;
    } table[] = {
        {{"hello"}, "hello", false},
        {{"a", "\x10", "b"},
         "a\x10"
         "b",
         false},
        {{"a\x10\x11z"}, "a", true},
        {{"a\x10", "\x11"}, "a", true},
        {{"\x10\x10\x11"}, "\x10", true},
        {{"\x11\x10"}, "\x11", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf out = {0};
        struct detach d;
        bool detaches = false;

        assert_int_equal(detach_parse(NULL, &d, NULL), 0);
        for (size_t k = 0; k < 4 && table[i].pieces[k]; k++)
            detaches = detach_type(&d, table[i].pieces[k], strlen(table[i].pieces[k]), &out);
        assert_int_equal(detaches, table[i].detaches);
        assert_string_equal(buf_str(&out), table[i].out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_read),
        cmocka_unit_test(bad_keys_are_named),
        cmocka_unit_test(typing_is_passed_on_but_for_the_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
