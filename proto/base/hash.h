/* Digests: SHA-256, streaming and at once, HMAC-SHA-256 and CRC-32C for our own files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX   64 /* without the zero */
#define DIGEST_TEXT  71 /* "sha256:" and the hex digits, without the zero */

struct hash; /* a running SHA-256 */

struct hash *hash_new(void);
void hash_free(struct hash *h);
void hash_add(struct hash *h, const void *data, size_t size);
void hash_end(struct hash *h, uint8_t ret[SHA256_BYTES]); /* may be added to no more; still hash_free it */

void sha256(const void *data, size_t size, uint8_t ret[SHA256_BYTES]);
void hmac_sha256(const void *key, size_t key_size, const void *data, size_t size, uint8_t ret[SHA256_BYTES]);

/* "sha256:<hex>" of finished bytes, and whether a text is such a digest. */
void digest_format(const uint8_t bytes[SHA256_BYTES], char ret[DIGEST_TEXT + 1]);
bool digest_valid(const char *text);

/* CRC-32C (Castagnoli) of data, continuing from crc (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* Compare secrets in constant time. */
bool secret_equal(const void *a, const void *b, size_t size);
