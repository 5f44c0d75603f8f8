/* Base64 as RFC 4648 has it in its section 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/base64.h"
#include "proto/base/mem.h"

static void test_vectors_of_the_rfc_are_encoded(void **state)
{
    static const struct {
        const char *plain, *encoded;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF struct buf out = {0};

        char decoded[16];
        size_t size;

        base64_encode(&out, cases[i].plain, strlen(cases[i].plain));
        assert_string_equal(buf_str(&out), cases[i].encoded);
        assert_true(base64_decode(cases[i].encoded, strlen(cases[i].encoded), decoded, &size));
        assert_int_equal(size, strlen(cases[i].plain));
        assert_memory_equal(decoded, cases[i].plain, size);
    }
}

static void bytes_above_127_use_the_whole_alphabet(void **state)
{
    static const uint8_t bytes[] = {0xfb, 0xff, 0xfe, 0x00};
    AUTO_BUF struct buf out = {0};

    buf_append_str(&out, "x=");
    base64_encode(&out, bytes, sizeof(bytes));
    assert_string_equal(buf_str(&out), "x=+//+AA==");
}

static void what_is_no_base64_is_refused(void **state)
{
    static const char *const cases[] = {"Z", "Zg", "Zg=", "Z===", "Zg=a", "=g==", "Zm9v\nZm8", "Zm-v", "Zg==Zg=="};
    char decoded[16];
    size_t size;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (base64_decode(cases[i], strlen(cases[i]), decoded, &size))
            fail_msg("%s", cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_of_the_rfc_are_encoded),
        cmocka_unit_test(bytes_above_127_use_the_whole_alphabet),
        cmocka_unit_test(what_is_no_base64_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
