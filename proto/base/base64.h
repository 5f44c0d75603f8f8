/* Base64 with padding, the standard alphabet (RFC 4648 section 4). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"

/* Append the encoding of these bytes. */
void base64_encode(struct buf *out, const void *data, size_t size);

/* Decode; `ret` has room for size / 4 * 3 bytes and may be `text` itself. False when it is none: characters outside
 * the alphabet, a wrong length, padding elsewhere than at the end. */
bool base64_decode(const char *text, size_t size, void *ret, size_t *ret_size);
