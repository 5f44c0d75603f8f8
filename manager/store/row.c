/* See row.h.
 *
 *   version     varint
 *   created_ms  varint, zigzag
 *   updated_ms  varint, zigzag, as difference to created_ms: a record written once spends one byte on it
 *   message     the rest
 *
 * About ten bytes for a record written once and twelve for one written often. */
#include <string.h>

#include "manager/store/row.h"
#include "proto/base/field.h"
#include "proto/base/siphash.h"

size_t row_header(const struct row *r, uint8_t ret[ROW_HEADER_MAX])
{
    size_t used = varint_put(ret, r->version);

    used += varint_put(ret + used, zigzag(r->created_ms));
    /* Through unsigned numbers, so that no pair of times overflows. */
    used += varint_put(ret + used, zigzag((int64_t)((uint64_t)r->updated_ms - (uint64_t)r->created_ms)));
    return used;
}

bool row_read(const void *data, size_t size, struct row *ret)
{
    const uint8_t *at = data, *end = at + size;
    uint64_t part[3];

    for (int i = 0; i < 3; i++) {
        size_t used = varint_get(at, end, &part[i]);

        if (!used)
            return false;
        at += used;
    }
    ret->version = part[0];
    ret->created_ms = unzigzag(part[1]);
    ret->updated_ms = (int64_t)((uint64_t)ret->created_ms + (uint64_t)unzigzag(part[2]));
    ret->message = at;
    ret->message_size = (size_t)(end - at);
    return true;
}

uint64_t row_hash(enum kind k, uint64_t number, const void *data, size_t size)
{
    return siphash((uint64_t)k, number, data, size);
}
