/* Errors: codes, texts that fit, and what foreign bytes may not do to a line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/err.h"
#include "proto/base/mem.h"

static void set_returns_the_code_and_keeps_the_text(void **state)
{
    struct err e;

    assert_int_equal(err_set(&e, ERR_NOT_FOUND, "no such image: %s", "web:2"), ERR_NOT_FOUND);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.text, "no such image: web:2");
    assert_int_equal(err_set(NULL, ERR_IO, "nobody reads this"), ERR_IO);
}

static void system_errors_bring_their_words(void **state)
{
    static const struct {
        int number, code;
        const char *words;
    } cases[] = {
        {ENOENT, ERR_NOT_FOUND, "No such file or directory"},
        {EEXIST, ERR_EXISTS, "File exists"},
        {EACCES, ERR_DENIED, "Permission denied"},
        {EINVAL, ERR_INVALID, "Invalid argument"},
        {ENOSPC, ERR_UNAVAILABLE, "No space left on device"},
        {EIO, ERR_IO, "Input/output error"},
        {ECONNREFUSED, ERR_UNAVAILABLE, "Connection refused"},
        {EPIPE, ERR_CLOSED, "Broken pipe"},
        {EBUSY, ERR_CONFLICT, "Device or resource busy"},
        {EAGAIN, ERR_AGAIN, "Resource temporarily unavailable"},
        {EXDEV, ERR_IO, "Invalid cross-device link"}, /* what is not listed */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[200];
        struct err e;

        (void)snprintf(text, sizeof(text), "open x: %s", cases[i].words);
        errno = cases[i].number;
        assert_int_equal(err_errno(&e, "open %s", "x"), cases[i].code);
        assert_string_equal(e.text, text);
        assert_int_equal(err_number(&e, cases[i].number, "open %s", "x"), cases[i].code);
        assert_string_equal(e.text, text);
        errno = cases[i].number;
        assert_int_equal(err_errno(NULL, "open"), cases[i].code);
    }
}

static void context_reads_from_the_outside_in(void **state)
{
    struct err e;

    err_set(&e, ERR_IO, "read: bad disk");
    assert_int_equal(err_wrap(&e, "layer %d", 3), ERR_IO);
    assert_int_equal(err_wrap(&e, "unpack image %s", "web:2"), ERR_IO);
    assert_string_equal(e.text, "unpack image web:2: layer 3: read: bad disk");
    assert_int_equal(err_wrap(NULL, "x"), ERR_INTERNAL);
}

static void long_texts_are_cut_never_overflow(void **state)
{
    struct {
        struct err e;
        char guard[16];
    } box;
    char long_text[3000];

    memset(box.guard, 'g', sizeof(box.guard));
    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    err_set(&box.e, ERR_IO, "%s", long_text);
    assert_int_equal(strlen(box.e.text), sizeof(box.e.text) - 1);
    err_wrap(&box.e, "%s", "outer");
    assert_int_equal(strlen(box.e.text), sizeof(box.e.text) - 1);
    assert_memory_equal(box.e.text, "outer: aaaa", 11);
    err_wrap(&box.e, "%s", long_text);
    errno = EIO;
    err_errno(&box.e, "%s", long_text);
    assert_int_equal(strlen(box.e.text), sizeof(box.e.text) - 1);
    for (size_t i = 0; i < sizeof(box.guard); i++)
        assert_int_equal(box.guard[i], 'g');
}

static void text_stays_one_line_without_control_characters(void **state)
{
    struct err e;

    err_set(&e, ERR_INVALID, "a\nb\rc\td\033[2Je\177f");
    assert_string_equal(e.text, "a b c d [2Je f");
    err_set(&e, ERR_INVALID, "stays: \303\244 %%n");
    assert_string_equal(e.text, "stays: \303\244 %n");
}

static void every_code_has_a_name(void **state)
{
    for (int code = 0; code >= ERR_INTERNAL; code--) {
        assert_string_not_equal(err_name(code), "unknown");
        for (int other = code - 1; other >= ERR_INTERNAL; other--)
            assert_string_not_equal(err_name(code), err_name(other));
    }
    assert_string_equal(err_name(1), "unknown");
    assert_string_equal(err_name(ERR_INTERNAL - 1), "unknown");
    assert_string_equal(err_name(-1000000), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_the_code_and_keeps_the_text),
        cmocka_unit_test(system_errors_bring_their_words),
        cmocka_unit_test(context_reads_from_the_outside_in),
        cmocka_unit_test(long_texts_are_cut_never_overflow),
        cmocka_unit_test(text_stays_one_line_without_control_characters),
        cmocka_unit_test(every_code_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
