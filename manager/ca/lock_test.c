/* Unlock keys have one text each; what they wrap opens with the same key, for the same node, unchanged, and with
 * nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/manager.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

#define CLUSTER "0000000000000000000000001"
#define NODE    "0000000000000000000000002"
#define OTHER   "0000000000000000000000003"

static const uint8_t salt[MANAGER_LOCK_SALT] = {7};

static void key_comes_back_from_its_text(void **state)
{
    struct entropy_seeded entropy;

    entropy_seeded_init(&entropy, 3);
    for (int i = 0; i < 200; i++) {
        uint8_t key[MANAGER_LOCK_KEY], back[MANAGER_LOCK_KEY];
        char text[MANAGER_LOCK_TEXT + 1];

        entropy_fill(&entropy.base, key, sizeof(key));
        manager_lock_format(key, text);
        assert_int_equal(strlen(text), MANAGER_LOCK_TEXT);
        assert_memory_equal(text, "SWMKEY-1-", 9);
        assert_int_equal(manager_lock_parse(text, back, NULL), 0);
        assert_memory_equal(key, back, sizeof(key));
    }
}

static void text_that_is_no_key_is_refused_and_not_repeated(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "does not begin with SWMKEY-1-"},
        {"SWMKEY-2-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "does not begin with SWMKEY-1-"},
        {"swmkey-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "does not begin with SWMKEY-1-"},
        {"SWMKEY-1-", "should have 52 characters"},
        {"SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "should have 52 characters"},
        {"SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "should have 52 characters"},
        {"SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", "should have 52 characters"},
        {"SWMKEY-1-AAAAAAAAAAAAAAAAAAAAA-AAAAAAAAAAAAAAAAAAAAA", "is no base64"},
        {"SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "is no base64"},
        {"SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", "last character"},
    };
    uint8_t key[MANAGER_LOCK_KEY] = {9}, before[MANAGER_LOCK_KEY] = {9};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e;

        assert_int_equal(manager_lock_parse(cases[i].text, key, &e), ERR_INVALID);
        if (!strstr(e.text, cases[i].why) || strstr(e.text, "AAAA"))
            fail_msg("%s: %s", cases[i].text, e.text);
        assert_memory_equal(key, before, sizeof(key));
    }
}

static void what_was_wrapped_opens_with_its_key_alone(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = {1}, wrapped[64 + MANAGER_LOCK_MORE], out[sizeof(wrapped)];
    char data[64] = "the private key and the data key";
    struct err e;

    assert_int_equal(manager_lock_wrap(key, salt, CLUSTER, NODE, data, sizeof(data), wrapped, &e), 0);
    assert_null(memmem(wrapped, sizeof(wrapped), "private key", 11));
    assert_int_equal(manager_lock_unwrap(key, salt, CLUSTER, NODE, wrapped, sizeof(wrapped), out, &e), 0);
    assert_memory_equal(out, data, sizeof(data));
    for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
        key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(manager_lock_unwrap(key, salt, CLUSTER, NODE, wrapped, sizeof(wrapped), out, &e),
                         ERR_UNAUTHORIZED);
        assert_string_equal(e.text, "invalid key provided");
        key[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(manager_lock_unwrap(key, salt, CLUSTER, OTHER, wrapped, sizeof(wrapped), out, &e),
                     ERR_UNAUTHORIZED);
    assert_int_equal(manager_lock_unwrap(key, salt, OTHER, NODE, wrapped, sizeof(wrapped), out, &e),
                     ERR_UNAUTHORIZED);
    assert_int_equal(manager_lock_unwrap(key, salt, CLUSTER, "x", wrapped, sizeof(wrapped), out, &e), ERR_INVALID);
    assert_int_equal(manager_lock_wrap(key, salt, "x", NODE, data, sizeof(data), wrapped, &e), ERR_INVALID);
}

static void every_changed_or_missing_byte_is_refused(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = {1}, other_salt[MANAGER_LOCK_SALT] = {8}, wrapped[40 + MANAGER_LOCK_MORE],
            out[sizeof(wrapped)];
    char data[40] = "secret";
    struct err e;

    assert_int_equal(manager_lock_wrap(key, salt, CLUSTER, NODE, data, sizeof(data), wrapped, &e), 0);
    for (size_t i = 0; i < sizeof(wrapped); i++) {
        wrapped[i] ^= 0x80;
        assert_int_equal(manager_lock_unwrap(key, salt, CLUSTER, NODE, wrapped, sizeof(wrapped), out, &e),
                         ERR_UNAUTHORIZED);
        wrapped[i] ^= 0x80;
        assert_int_equal(manager_lock_unwrap(key, salt, CLUSTER, NODE, wrapped, i, out, &e), ERR_UNAUTHORIZED);
    }
    assert_int_equal(manager_lock_unwrap(key, other_salt, CLUSTER, NODE, wrapped, sizeof(wrapped), out, &e),
                     ERR_UNAUTHORIZED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_comes_back_from_its_text),
        cmocka_unit_test(text_that_is_no_key_is_refused_and_not_repeated),
        cmocka_unit_test(what_was_wrapped_opens_with_its_key_alone),
        cmocka_unit_test(every_changed_or_missing_byte_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
