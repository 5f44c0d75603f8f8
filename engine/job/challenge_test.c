/* Challenges of registries, as they are found and as nobody should send them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/job/challenge.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

static void challenges_are_read(void **state)
{
    static const struct {
        const char *header;
        enum challenge_scheme scheme;
        const char *realm, *service, *scope;
    } rows[] = {
        {"Bearer realm=\"https://auth.example/token\",service=\"reg\",scope=\"repository:a/b:pull\"",
         CHALLENGE_BEARER, "https://auth.example/token", "reg", "repository:a/b:pull"},
        {"bearer Realm=\"r\" , SERVICE=s", CHALLENGE_BEARER, "r", "s", NULL},
        {"Bearer realm=\"r\",scope=\"repository:a:pull,push\",error=\"invalid_token\"", CHALLENGE_BEARER, "r", NULL,
         "repository:a:pull,push"},
        {"Bearer realm=\"a \\\"quoted\\\\ word\"", CHALLENGE_BEARER, "a \"quoted\\ word", NULL, NULL},
        {"Basic realm=\"Registry Realm\"", CHALLENGE_BASIC, "Registry Realm", NULL, NULL},
        {"Basic", CHALLENGE_BASIC, NULL, NULL, NULL},
        {"BASIC realm=x, Bearer realm=y,service=z", CHALLENGE_BEARER, "y", "z", NULL},
        {"Bearer realm=y,service=z, Basic realm=x", CHALLENGE_BEARER, "y", "z", NULL},
        {"Negotiate, Basic realm=x", CHALLENGE_BASIC, "x", NULL, NULL},
        {"Digest realm=\"x\", nonce=\"y\"", CHALLENGE_NONE, NULL, NULL, NULL},
        {"Bearer realm=\"unterminated", CHALLENGE_BEARER, "unterminated", NULL, NULL},
        {"Bearer realm=\"ends in escape\\", CHALLENGE_BEARER, "ends in escape\\", NULL, NULL},
        {"Bearer realm=", CHALLENGE_BEARER, "", NULL, NULL},
        {"Bearer =x", CHALLENGE_NONE, NULL, NULL, NULL},
        {"", CHALLENGE_NONE, NULL, NULL, NULL},
        {" , ,,", CHALLENGE_NONE, NULL, NULL, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct challenge c = {0};

        arena_init(&a);
        challenge_read(rows[i].header, &a, &c);
        if (c.scheme != rows[i].scheme)
            fail_msg("%s: scheme %d", rows[i].header, c.scheme);
        assert_string_equal(c.realm ? c.realm : "-", rows[i].realm ? rows[i].realm : "-");
        assert_string_equal(c.service ? c.service : "-", rows[i].service ? rows[i].service : "-");
        assert_string_equal(c.scope ? c.scope : "-", rows[i].scope ? rows[i].scope : "-");
    }
}

static void stronger_of_two_headers_is_kept(void **state)
{
    AUTO_ARENA
    struct arena a;
    struct challenge c = {0};

    arena_init(&a);
    challenge_read("Bearer realm=\"first\"", &a, &c);
    challenge_read("Basic realm=\"second\"", &a, &c);
    challenge_read("Bearer realm=\"third\"", &a, &c);
    assert_int_equal(c.scheme, CHALLENGE_BEARER);
    assert_string_equal(c.realm, "first");
}

static void any_text_is_survived(void **state)
{
    static const char letters[] = "Bearer bearerBasic=\"\\, \trealmscope";
    struct entropy_seeded random;

    entropy_seeded_init(&random, 3);
    for (int i = 0; i < 50000; i++) {
        AUTO_ARENA
        struct arena a;
        struct challenge c = {0};
        char header[40] = {0};
        size_t length = entropy_below(&random.base, 39);

        arena_init(&a);
        for (size_t k = 0; k < length; k++)
            header[k] = letters[entropy_below(&random.base, sizeof(letters) - 1)];
        challenge_read(header, &a, &c);
        assert_in_range(c.scheme, CHALLENGE_NONE, CHALLENGE_BEARER);
    }
}

static void line_breaks_are_no_header_values(void **state)
{
    assert_true(header_value_valid("abc.DEF-123~"));
    assert_false(header_value_valid("abc\r\nX-Evil: 1"));
    assert_false(header_value_valid("abc\n"));
    assert_false(header_value_valid("\x7f"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenges_are_read),
        cmocka_unit_test(stronger_of_two_headers_is_kept),
        cmocka_unit_test(any_text_is_survived),
        cmocka_unit_test(line_breaks_are_no_header_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
