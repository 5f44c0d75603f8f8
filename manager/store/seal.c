/* See seal.h. AES-256-GCM and HKDF from OpenSSL; one cipher context per direction is kept keyed, so that sealing a
 * record costs no key schedule. */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "manager/store/seal.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

struct seal {
    EVP_CIPHER_CTX *closing; /* owned, keyed for encryption */
    EVP_CIPHER_CTX *opening; /* owned, keyed for decryption */
    uint8_t index_key[32];   /* for seal_index */
};

static void derive(const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], const char *purpose, const char *use,
                   const uint8_t cluster[16], uint8_t ret[32])
{
    char info[128];
    size_t purpose_length = strnlen(purpose, 64), use_length = strnlen(use, 16);

    memcpy(info, "shoal\0", 6);
    memcpy(info + 6, cluster, 16);
    memcpy(info + 22, purpose, purpose_length);
    info[22 + purpose_length] = '\0';
    memcpy(info + 23 + purpose_length, use, use_length);

    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, SEAL_KEY),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, SEAL_SALT),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, 23 + purpose_length + use_length),
        OSSL_PARAM_construct_end(),
    };
    if (!ctx || EVP_KDF_derive(ctx, ret, 32, params) != 1)
        abort(); /* out of memory, or a library without HKDF */
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

struct seal *seal_new(const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], const char *purpose,
                      const uint8_t cluster[16])
{
    struct seal *s = mem_alloc(sizeof(*s));
    uint8_t subkey[32];

    derive(key, salt, purpose, "seal", cluster, subkey);
    derive(key, salt, purpose, "index", cluster, s->index_key);
    s->closing = EVP_CIPHER_CTX_new();
    s->opening = EVP_CIPHER_CTX_new();
    if (!s->closing || !s->opening || EVP_EncryptInit_ex(s->closing, EVP_aes_256_gcm(), NULL, subkey, NULL) != 1 ||
        EVP_DecryptInit_ex(s->opening, EVP_aes_256_gcm(), NULL, subkey, NULL) != 1)
        abort(); /* out of memory */
    mem_wipe(subkey, sizeof(subkey));
    return s;
}

void seal_free(struct seal *s)
{
    if (!s)
        return;
    EVP_CIPHER_CTX_free(s->closing); /* wipes its key */
    EVP_CIPHER_CTX_free(s->opening);
    mem_wipe(s, sizeof(*s));
    free(s);
}

static void put_nonce(uint8_t nonce[SEAL_NONCE], uint32_t high, uint64_t low)
{
    for (int i = 0; i < 4; i++)
        nonce[i] = (uint8_t)(high >> (24 - 8 * i));
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(low >> (56 - 8 * i));
}

void seal_close(struct seal *s, uint32_t nonce_high, uint64_t nonce_low, const void *ad, size_t ad_size,
                const void *in, size_t size, uint8_t *out)
{
    uint8_t nonce[SEAL_NONCE];
    int length;

    put_nonce(nonce, nonce_high, nonce_low);
    if (EVP_EncryptInit_ex(s->closing, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(s->closing, NULL, &length, ad, (int)ad_size) != 1 ||
        (size && EVP_EncryptUpdate(s->closing, out, &length, in, (int)size) != 1) ||
        EVP_EncryptFinal_ex(s->closing, out + size, &length) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->closing, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, out + size) != 1)
        abort(); /* cannot fail with a keyed context */
}

bool seal_open(struct seal *s, uint32_t nonce_high, uint64_t nonce_low, const void *ad, size_t ad_size,
               const uint8_t *in, size_t size, uint8_t *out)
{
    uint8_t nonce[SEAL_NONCE], end[16];
    int length;

    if (size < SEAL_TAG)
        return false;
    size -= SEAL_TAG;
    put_nonce(nonce, nonce_high, nonce_low);
    if (EVP_DecryptInit_ex(s->opening, NULL, NULL, NULL, nonce) == 1 &&
        EVP_DecryptUpdate(s->opening, NULL, &length, ad, (int)ad_size) == 1 &&
        (!size || EVP_DecryptUpdate(s->opening, out, &length, in, (int)size) == 1) &&
        EVP_CIPHER_CTX_ctrl(s->opening, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, (void *)(in + size)) == 1 &&
        EVP_DecryptFinal_ex(s->opening, end, &length) == 1)
        return true;
    mem_wipe(out, size);
    return false;
}

void seal_index(struct seal *s, const void *data, size_t size, uint8_t ret[16])
{
    uint8_t whole[SHA256_BYTES];

    hmac_sha256(s->index_key, sizeof(s->index_key), data, size, whole);
    memcpy(ret, whole, 16);
}
