/* Ids both ways, digits, and the grammar of names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/ident.h"
#include "proto/base/mem.h"

static void ids_come_back_as_they_were(void **state)
{
    struct entropy_seeded e;
    char previous[IDENT_TEXT + 1] = "";

    print_message("# seed 21\n");
    entropy_seeded_init(&e, 21);
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[IDENT_BYTES], again[IDENT_BYTES];
        char text[IDENT_TEXT + 1];

        entropy_fill(&e.base, bytes, sizeof(bytes));
        if (i % 10 == 0)
            memset(bytes, i % 20 ? 0xff : 0, (size_t)i % 17);
        ident_format(bytes, text);
        assert_int_equal(strlen(text), IDENT_TEXT);
        assert_true(ident_valid(text));
        assert_true(ident_parse(text, again));
        assert_memory_equal(bytes, again, sizeof(bytes));
        ident_new(&e.base, text);
        assert_true(ident_valid(text));
        assert_string_not_equal(text, previous);
        memcpy(previous, text, sizeof(text));
    }
}

static void known_ids(void **state)
{
    static const struct {
        uint8_t bytes[IDENT_BYTES];
        const char *text;
    } cases[] = {
        {{0}, "0000000000000000000000000"},
        {{[15] = 1}, "0000000000000000000000001"},
        {{[15] = 35}, "000000000000000000000000z"},
        {{[15] = 36}, "0000000000000000000000010"},
        {{[14] = 1}, "0000000000000000000000074"},
        {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
         "f5lxx1zz5pnorynqglhzmsp33"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[IDENT_TEXT + 1];

        ident_format(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void what_is_no_id_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "0",
        "000000000000000000000000",   /* 24 */
        "00000000000000000000000000", /* 26 */
        "000000000000000000000000A",
        "000000000000000000000000-",
        " 00000000000000000000000 ",
        "f5lxx1zz5pnorynqglhzmsp34", /* 2^128 */
        "zzzzzzzzzzzzzzzzzzzzzzzzz",
        "\303\2440000000000000000000000",
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[IDENT_BYTES] = {7};

        assert_false(ident_valid(cases[i]));
        assert_false(ident_parse(cases[i], bytes));
        assert_int_equal(bytes[0], 7); /* untouched */
    }
}

static void base36_keeps_its_width(void **state)
{
    uint8_t digest[32], zero[4] = {0}, one[1] = {1}, too_long[65] = {0};
    char text[64];

    memset(digest, 0xff, sizeof(digest));
    assert_true(base36_encode(digest, sizeof(digest), 50, text)); /* as in a join token */
    assert_int_equal(strlen(text), 50);
    assert_string_equal(text, "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof");
    assert_false(base36_encode(digest, sizeof(digest), 49, text));
    assert_true(base36_encode(zero, sizeof(zero), 3, text));
    assert_string_equal(text, "000");
    assert_true(base36_encode(one, 1, 1, text));
    assert_string_equal(text, "1");
    assert_false(base36_encode(one, 1, 0, text));
    assert_string_equal(text, "");
    assert_false(base36_encode(too_long, sizeof(too_long), 50, text));
}

static void hex_is_lower_case_and_of_its_length(void **state)
{
    struct entropy_seeded e;
    char text[HEX_ID_TEXT + 1];

    entropy_seeded_init(&e, 1);
    hex_encode("\000\177\200\377", 4, text);
    assert_string_equal(text, "007f80ff");
    hex_id_new(&e.base, text);
    assert_true(hex_valid(text, HEX_ID_TEXT));
    assert_false(hex_valid(text, HEX_ID_TEXT - 1));
    assert_true(hex_valid("", 0));
    assert_false(hex_valid("abc", 4));
    assert_false(hex_valid("ABCD", 4));
    assert_false(hex_valid("abcg", 4));
}

static void names_follow_their_grammar(void **state)
{
    char long63[64], long64[65], long65[66], long255[256], long256[257];
    const struct {
        const char *name;
        bool service, secret, container;
    } cases[] = {
        {"", false, false, false},          {"a", true, true, false}, /* containers have two characters at least */
        {"ab", true, true, true},           {"0", true, true, false},      {"Web-1_x", true, true, true},
        {"a--b__c", true, true, true},      {"a.b", false, true, true},    {"-a", false, false, false},
        {"_ab", false, false, false},       {".ab", false, false, false},  {"a-", false, false, true},
        {"a_", false, false, true},         {"a.", false, false, true},    {"a b", false, false, false},
        {"a/b", false, false, false},       {"a\nb", false, false, false}, {"../x", false, false, false},
        {"\303\244b", false, false, false}, {long63, true, true, true},    {long64, false, true, true},
        {long65, false, false, true},       {long255, false, false, true}, {long256, false, false, false},
    };
    char *longs[] = {long63, long64, long65, long255, long256};
    size_t sizes[] = {63, 64, 65, 255, 256};

    for (size_t i = 0; i < ARRAY_SIZE(longs); i++) {
        memset(longs[i], 'n', sizes[i]);
        longs[i][sizes[i]] = '\0';
    }
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (name_valid_service(cases[i].name) != cases[i].service ||
            name_valid_secret(cases[i].name) != cases[i].secret ||
            name_valid_container(cases[i].name) != cases[i].container)
            fail_msg("\"%s\" is judged otherwise", cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_come_back_as_they_were),
        cmocka_unit_test(known_ids),
        cmocka_unit_test(what_is_no_id_is_refused),
        cmocka_unit_test(base36_keeps_its_width),
        cmocka_unit_test(hex_is_lower_case_and_of_its_length),
        cmocka_unit_test(names_follow_their_grammar),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
