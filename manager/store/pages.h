/* A check of an LMDB file's pages, made before LMDB maps it.
 *
 * LMDB trusts its file: a flipped bit in a page's header, a pointer or the list of free pages is followed, into a
 * crash or into pages that are in use. This reads the file as plain bytes, verifies all that LMDB will rely on, and
 * hands out every record on the way, so that checking the contents costs no second pass. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct pages_table {
    const char *name;
    unsigned flags; /* as LMDB stores them: MDB_INTEGERKEY or none */
};

struct pages_record {
    int table;                 /* index of the table, or -1: a plain record of the main table, which come first */
    const uint8_t *key, *data; /* borrowed for the call */
    size_t key_size, data_size;
};

/* Return 0, or a code to stop. */
typedef int pages_each(void *ctx, const struct pages_record *record, struct err *e);

/* Walk the file's newest state; every table must be there and no other. ERR_CORRUPT names page and fault. */
int pages_check(int fd, const struct pages_table *tables, size_t count, pages_each *each, void *ctx, struct err *e);
