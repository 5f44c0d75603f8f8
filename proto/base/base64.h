/* Base64 with padding, the standard alphabet (RFC 4648 section 4). Pure. */
#pragma once

#include <stddef.h>

#include "proto/base/buf.h"

/* Append the encoding of these bytes. */
void base64_encode(struct buf *out, const void *data, size_t size);
