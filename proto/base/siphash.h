/* SipHash-1-3: a fast keyed 64-bit hash. For hash tables with an unpredictable key, and with a fixed key (0, 0) for
 * digests that two machines compare; not for anything an attacker must not be able to forge. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(uint64_t key0, uint64_t key1, const void *data, size_t size);
