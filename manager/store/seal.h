/* Sealing: nothing of the cluster's state is readable on a manager's disk (DESIGN.md section 5).
 *
 * Every file that holds state derives a subkey of its own from the manager's data key (HKDF-SHA-256 over a random
 * salt that stands in the file's header) and encrypts with AES-256-GCM under a 96-bit nonce. The nonce of a record
 * is given by its place (log: segment-relative counter; LMDB: a counter that is stored with the record and never
 * reused), so it never repeats under one subkey, also after a crash: whoever cannot be sure starts a new file with
 * a new salt. The associated data names cluster, kind of file, and the place of the record, so records cannot be
 * swapped. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/entropy.h"
#include "proto/base/err.h"

#define SEAL_KEY   32 /* bytes of a data key */
#define SEAL_SALT  16 /* bytes of a file's salt */
#define SEAL_NONCE 12
#define SEAL_TAG   16 /* bytes a sealed record is longer than its contents */

struct seal; /* one file's subkey, ready to use; one thread at a time */

/* `purpose` names the kind of file ("log", "snapshot", "store", "names"); `cluster` is bound into the key as well.
 */
struct seal *seal_new(const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], const char *purpose,
                      const uint8_t cluster[16]);
void seal_free(struct seal *s); /* wipes; NULL is fine */

/* out holds size + SEAL_TAG bytes; may not overlap in. nonce_high/low form the nonce: the caller guarantees it is
 * used once. */
void seal_close(struct seal *s, uint32_t nonce_high, uint64_t nonce_low, const void *ad, size_t ad_size,
                const void *in, size_t size, uint8_t *out);

/* out holds size - SEAL_TAG bytes. False when the bytes, the place or the key are not the right ones; out is then
 * wiped. */
bool seal_open(struct seal *s, uint32_t nonce_high, uint64_t nonce_low, const void *ad, size_t ad_size,
               const uint8_t *in, size_t size, uint8_t *out);

/* Keyed hash of index keys (names, labels): the same text gives the same 16 bytes under one key, and says nothing
 * without it. */
void seal_index(struct seal *s, const void *data, size_t size, uint8_t ret[16]);
