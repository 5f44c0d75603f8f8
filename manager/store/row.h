/* Rows: what lies under an object's number, before it is sealed: a header, then the message's bytes as they were
 * received. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store/store.h"

#define ROW_HEADER_MAX  30                /* three varints */
#define ROW_MESSAGE_MAX (2 * 1024 * 1024) /* a Raft entry is no longer */

struct row {
    uint64_t version; /* index of the entry that wrote it last */
    int64_t created_ms, updated_ms;
    const uint8_t *message; /* borrowed */
    size_t message_size;
};

/* Write the header; returns its size. The message follows it. */
size_t row_header(const struct row *r, uint8_t ret[ROW_HEADER_MAX]);

/* Read header and message of `size` bytes; false when they are no record. */
bool row_read(const void *data, size_t size, struct row *ret);

/* A record's part of the store's digest, from its header and message as they stand together. The digest is the sum
 * of these. */
uint64_t row_hash(enum kind k, uint64_t number, const void *data, size_t size);
