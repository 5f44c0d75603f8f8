/* Sealing opens what it closed, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/store/seal.h"
#include "proto/base/mem.h"

static const uint8_t key[SEAL_KEY] = {1}, other_key[SEAL_KEY] = {2}, salt[SEAL_SALT] = {3},
                     other_salt[SEAL_SALT] = {4}, cluster[16] = {5}, other_cluster[16] = {6};
static const char text[] = "the quick brown fox";

static void closed_record_opens_at_its_place(void **state)
{
    struct seal *s = seal_new(key, salt, "log", cluster);
    uint8_t sealed[sizeof(text) + SEAL_TAG];
    char opened[sizeof(text)];

    seal_close(s, 7, 9, "place", 5, text, sizeof(text), sealed);
    assert_memory_not_equal(sealed, text, sizeof(text));
    assert_true(seal_open(s, 7, 9, "place", 5, sealed, sizeof(sealed), (uint8_t *)opened));
    assert_string_equal(opened, text);
    seal_free(s);
}

static void empty_record_is_sealed_too(void **state)
{
    struct seal *s = seal_new(key, salt, "log", cluster);
    uint8_t sealed[SEAL_TAG], nothing[1];

    seal_close(s, 0, 0, NULL, 0, NULL, 0, sealed);
    assert_true(seal_open(s, 0, 0, NULL, 0, sealed, sizeof(sealed), nothing));
    sealed[0] ^= 1;
    assert_false(seal_open(s, 0, 0, NULL, 0, sealed, sizeof(sealed), nothing));
    seal_free(s);
}

static void wrong_key_salt_purpose_or_cluster_does_not_open(void **state)
{
    struct seal *s = seal_new(key, salt, "log", cluster);
    struct seal *others[] = {seal_new(other_key, salt, "log", cluster), seal_new(key, other_salt, "log", cluster),
                             seal_new(key, salt, "snapshot", cluster), seal_new(key, salt, "log", other_cluster)};
    uint8_t sealed[sizeof(text) + SEAL_TAG], opened[sizeof(text)];

    seal_close(s, 0, 1, "x", 1, text, sizeof(text), sealed);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        assert_false(seal_open(others[i], 0, 1, "x", 1, sealed, sizeof(sealed), opened));
        seal_free(others[i]);
    }
    seal_free(s);
}

static void every_flipped_bit_and_moved_place_is_noticed(void **state)
{
    struct seal *s = seal_new(key, salt, "log", cluster);
    uint8_t sealed[sizeof(text) + SEAL_TAG], opened[sizeof(text)];

    seal_close(s, 1, 2, "x", 1, text, sizeof(text), sealed);
    for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(seal_open(s, 1, 2, "x", 1, sealed, sizeof(sealed), opened));
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_false(seal_open(s, 1, 3, "x", 1, sealed, sizeof(sealed), opened));
    assert_false(seal_open(s, 2, 2, "x", 1, sealed, sizeof(sealed), opened));
    assert_false(seal_open(s, 1, 2, "y", 1, sealed, sizeof(sealed), opened));
    assert_false(seal_open(s, 1, 2, "x", 1, sealed, SEAL_TAG - 1, opened));
    seal_free(s);
}

static void index_of_a_name_depends_on_the_key(void **state)
{
    struct seal *s = seal_new(key, salt, "store", cluster), *t = seal_new(other_key, salt, "store", cluster);
    uint8_t a[16], b[16], c[16];

    seal_index(s, "web", 3, a);
    seal_index(s, "web", 3, b);
    seal_index(t, "web", 3, c);
    assert_memory_equal(a, b, 16);
    assert_memory_not_equal(a, c, 16);
    seal_free(s);
    seal_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_record_opens_at_its_place),
        cmocka_unit_test(empty_record_is_sealed_too),
        cmocka_unit_test(wrong_key_salt_purpose_or_cluster_does_not_open),
        cmocka_unit_test(every_flipped_bit_and_moved_place_is_noticed),
        cmocka_unit_test(index_of_a_name_depends_on_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
