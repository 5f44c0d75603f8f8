/* Digests against published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/hash.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

static void sha256_gives_the_published_digests(void **state)
{
    static const struct {
        const char *text, *digest;
    } cases[] = {
        /* FIPS 180-4 examples */
        {"", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[SHA256_BYTES], streamed[SHA256_BYTES];
        char text[DIGEST_TEXT + 1];
        struct hash *h = hash_new();

        sha256(cases[i].text, strlen(cases[i].text), bytes);
        digest_format(bytes, text);
        assert_string_equal(text, cases[i].digest);
        for (const char *c = cases[i].text; *c; c++)
            hash_add(h, c, 1);
        hash_add(h, NULL, 0);
        hash_end(h, streamed);
        hash_free(h);
        assert_memory_equal(bytes, streamed, sizeof(bytes));
    }
    hash_free(NULL);
}

static void hmac_gives_the_published_codes(void **state)
{
    /* RFC 4231, cases 1, 2 and 6 */
    uint8_t key1[20], key6[131], code[SHA256_BYTES];
    char text[2 * SHA256_BYTES + 1];

    memset(key1, 0x0b, sizeof(key1));
    memset(key6, 0xaa, sizeof(key6));
    hmac_sha256(key1, sizeof(key1), "Hi There", 8, code);
    hex_encode(code, sizeof(code), text);
    assert_string_equal(text, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, code);
    hex_encode(code, sizeof(code), text);
    assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    hmac_sha256(key6, sizeof(key6), "Test Using Larger Than Block-Size Key - Hash Key First", 54, code);
    hex_encode(code, sizeof(code), text);
    assert_string_equal(text, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void crc32c_gives_the_published_sums(void **state)
{
    /* RFC 3720, B.4, and the usual check value */
    uint8_t zeroes[32] = {0}, ones[32], rising[32], falling[32];

    memset(ones, 0xff, sizeof(ones));
    for (uint8_t i = 0; i < 32; i++) {
        rising[i] = i;
        falling[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, zeroes, 32), 0x8a9136aa);
    assert_int_equal(crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(crc32c(0, rising, 32), 0x46dd794e);
    assert_int_equal(crc32c(0, falling, 32), 0x113fdb5c);
    assert_int_equal(crc32c(0, "", 0), 0);
    for (size_t cut = 0; cut <= 9; cut++) /* in two parts */
        assert_int_equal(crc32c(crc32c(0, "123456789", cut), &"123456789"[cut], 9 - cut), 0xe3069283);
}

static void digests_are_recognised(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true},
        {"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85", false},
        {"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555", false},
        {"sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", false},
        {"sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", false},
        {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", false},
        {"sha256:../../../../../../../../../../../../../../../../../../../../../", false},
        {"sha256:", false},
        {"", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(digest_valid(cases[i].text), cases[i].valid);
}

static void secrets_are_compared_whole(void **state)
{
    assert_true(secret_equal("abcd", "abcd", 4));
    assert_false(secret_equal("abcd", "abce", 4));
    assert_false(secret_equal("xbcd", "abcd", 4));
    assert_true(secret_equal("abcd", "abce", 3));
    assert_true(secret_equal("a", "b", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_published_digests), cmocka_unit_test(hmac_gives_the_published_codes),
        cmocka_unit_test(crc32c_gives_the_published_sums),    cmocka_unit_test(digests_are_recognised),
        cmocka_unit_test(secrets_are_compared_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
