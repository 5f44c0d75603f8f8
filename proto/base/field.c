/* See field.h. Groups (wire types 3 and 4) are refused, as protobuf-c refuses them. */
#include <string.h>

#include "proto/base/field.h"

size_t varint_get(const uint8_t *at, const uint8_t *end, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < VARINT_MAX && at + i < end; i++) {
        if (i == VARINT_MAX - 1 && at[i] > 1)
            return 0; /* beyond 64 bits */
        value |= (uint64_t)(at[i] & 0x7f) << (7 * i);
        if (!(at[i] & 0x80)) {
            *ret = value;
            return i + 1;
        }
    }
    return 0;
}

size_t varint_put(uint8_t *at, uint64_t value)
{
    size_t used = 0;

    while (value >= 0x80) {
        at[used++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    at[used++] = (uint8_t)value;
    return used;
}

size_t varint_size(uint64_t value)
{
    size_t size = 1;

    while (value >>= 7)
        size++;
    return size;
}

static bool bad(struct field_reader *r)
{
    r->bad = true;
    r->at = r->end;
    return false;
}

static bool take_fixed(struct field_reader *r, size_t size, uint64_t *ret)
{
    *ret = 0;
    if ((size_t)(r->end - r->at) < size)
        return bad(r);
    memcpy(ret, r->at, size); /* little-endian machines only, as everything here */
    r->at += size;
    return true;
}

bool field_next(struct field_reader *r, struct field *ret)
{
    uint64_t key;

    if (r->at == r->end)
        return false;
    size_t used = varint_get(r->at, r->end, &key);
    if (!used || key >> 3 == 0 || key >> 3 >= 1u << 29)
        return bad(r);
    r->at += used;
    *ret = (struct field){.tag = (uint32_t)(key >> 3), .type = (enum field_type)(key & 7)};
    switch (key & 7) {
    case FIELD_VARINT:
        used = varint_get(r->at, r->end, &ret->value);
        r->at += used;
        return used ? true : bad(r);
    case FIELD_FIXED64:
        return take_fixed(r, 8, &ret->value);
    case FIELD_FIXED32:
        return take_fixed(r, 4, &ret->value);
    case FIELD_BYTES:
        used = varint_get(r->at, r->end, &ret->value);
        if (!used || ret->value > (size_t)(r->end - r->at - used))
            return bad(r);
        ret->data = r->at + used;
        ret->size = ret->value;
        r->at = ret->data + ret->size;
        return true;
    default:
        return bad(r);
    }
}

bool field_find_bytes(const void *data, size_t size, const uint32_t *path, const uint8_t **ret_data,
                      size_t *ret_size)
{
    struct field_reader r = field_read(data, size);
    struct field f;
    bool found = false;

    while (field_next(&r, &f)) {
        if (f.tag != path[0])
            continue;
        if (f.type != FIELD_BYTES)
            return false;
        if (path[1]) {
            found |= field_find_bytes(f.data, f.size, path + 1, ret_data, ret_size);
        } else {
            *ret_data = f.data;
            *ret_size = f.size;
            found = true;
        }
    }
    return found && !r.bad;
}
