/* Protobuf's wire format read in place, and varints written: for readers that must not copy (the store's change
 * sets and records) or that want one field of a message without unpacking it. Pure.
 *
 * Reading never leaves the bytes given and never fails but by `bad`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX 10 /* bytes of the longest varint */

enum field_type { FIELD_VARINT = 0, FIELD_FIXED64 = 1, FIELD_BYTES = 2, FIELD_FIXED32 = 5 }; /* as on the wire */

struct field {
    uint32_t tag;
    enum field_type type;
    uint64_t value;      /* of a varint or fixed field */
    const uint8_t *data; /* of a bytes field: borrowed, inside the message */
    size_t size;
};

struct field_reader {
    const uint8_t *at, *end;
    bool bad; /* the bytes are no message; set when field_next ended early */
};

static inline struct field_reader field_read(const void *data, size_t size)
{
    return (struct field_reader){.at = data, .end = (const uint8_t *)data + size};
}

/* The next field; false at the end or when the bytes are bad. */
bool field_next(struct field_reader *r, struct field *ret);

/* The bytes field that `path` (tags, ended by 0) leads to through embedded messages; the last one when it occurs
 * several times, as unpacking would have it. False when absent, of another type, or when the message is bad. */
bool field_find_bytes(const void *data, size_t size, const uint32_t *path, const uint8_t **ret_data,
                      size_t *ret_size);

/* A varint at `at`: returns the bytes used, 0 when it is cut off, longer than ten bytes, or above 2^64. */
size_t varint_get(const uint8_t *at, const uint8_t *end, uint64_t *ret);
/* Write one; returns the bytes used. `at` holds VARINT_MAX. */
size_t varint_put(uint8_t *at, uint64_t value);
size_t varint_size(uint64_t value);

/* Signed numbers that are usually near 0. */
static inline uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static inline int64_t unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}
