/* See hash.h. */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "proto/base/hash.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

struct hash {
    EVP_MD_CTX *ctx; /* owned */
};

struct hash *hash_new(void)
{
    struct hash *h = mem_alloc(sizeof(*h));

    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
        abort(); /* out of memory */
    return h;
}

void hash_free(struct hash *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void hash_add(struct hash *h, const void *data, size_t size)
{
    if (EVP_DigestUpdate(h->ctx, data, size) != 1)
        abort(); /* cannot fail for SHA-256 */
}

void hash_end(struct hash *h, uint8_t ret[SHA256_BYTES])
{
    unsigned size = SHA256_BYTES;

    if (EVP_DigestFinal_ex(h->ctx, ret, &size) != 1)
        abort(); /* cannot fail for SHA-256 */
}

void sha256(const void *data, size_t size, uint8_t ret[SHA256_BYTES])
{
    unsigned length = SHA256_BYTES;

    if (EVP_Digest(data, size, ret, &length, EVP_sha256(), NULL) != 1)
        abort(); /* out of memory */
}

void hmac_sha256(const void *key, size_t key_size, const void *data, size_t size, uint8_t ret[SHA256_BYTES])
{
    unsigned length = SHA256_BYTES;

    if (!HMAC(EVP_sha256(), key, (int)key_size, data, size, ret, &length))
        abort(); /* out of memory */
}

void digest_format(const uint8_t bytes[SHA256_BYTES], char ret[DIGEST_TEXT + 1])
{
    memcpy(ret, "sha256:", 7);
    hex_encode(bytes, SHA256_BYTES, ret + 7);
}

bool digest_valid(const char *text)
{
    return strncmp(text, "sha256:", 7) == 0 && hex_valid(text + 7, SHA256_HEX);
}

bool secret_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}
