/* The bytes of a log segment: header, records, and telling a torn write from damage. No files here: a segment is
 * a run of bytes, so that every reader of it can be fuzzed and every torn byte be tried. The format and the
 * reasoning stand in segment.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store/seal.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

#define SEGMENT_SECTOR    512  /* what a disk writes whole or not at all; each write begins at a multiple */
#define SEGMENT_RECORD    40   /* bytes of a record before its sealed contents */
#define SEGMENT_BYTES_MIN 4096 /* least size of a segment's file */
#define SEGMENT_BYTES_MAX (256 << 20)
#define SEGMENT_ENTRY_MAX (2 << 20) /* bytes of an entry */
#define SEGMENT_VERSION   1

struct segment_header {
    uint64_t sequence;         /* its place among the segments, from 1 */
    uint64_t bytes;            /* of the file, as made */
    uint64_t first_index;      /* of the first record */
    bool reset;                /* the log begins anew after `base`: nothing before this segment counts */
    uint64_t base_index;       /* with reset: what a snapshot stands for */
    uint64_t base_term;        /* with reset */
    uint64_t previous_end;     /* where the segment before it ends; 0 with the very first */
    uint32_t previous_records; /* how many records that one holds */
    uint8_t salt[SEAL_SALT];   /* of the subkey */
};

struct segment_record {
    uint64_t index, term;
    uint8_t type;        /* enum raft_entry_type */
    bool cut;            /* the log is cut before this entry: it replaces what had its index */
    const uint8_t *data; /* contents, opened; borrowed for the call */
    uint32_t size;       /* bytes of data */
    uint64_t offset;     /* where the record begins */
};

/* Write the header's sector. The seal is that of the header's salt. */
void segment_header_put(const struct segment_header *h, const uint8_t cluster[16], struct seal *s,
                        uint8_t into[SEGMENT_SECTOR]);

/* Read what can be read without the key. ERR_CORRUPT with what is wrong ("not a log segment", "of another
 * cluster"). */
int segment_header_get(const uint8_t *sector, const uint8_t cluster[16], struct segment_header *ret, struct err *e);

/* Whether the header was sealed under this key. */
bool segment_header_verify(const uint8_t *sector, const uint8_t cluster[16], struct seal *s);

/* In a file without a header: whether a second write ever went into it, so that a header must have been there. */
bool segment_written_twice(const uint8_t *data, size_t size);

bool segment_zero(const uint8_t *data, size_t size);

uint64_t segment_record_bytes(size_t size); /* room an entry of that size takes in a batch */

/* Append one write to `out`: a batch of records, filled up to the sector. `batch` numbers the writes of the segment
 * from 1, `ordinal` its records from 0: it is the nonce. Sets each record's offset, from the batch's begin. */
void segment_batch_put(struct buf *out, const uint8_t cluster[16], struct seal *s, uint64_t sequence,
                       uint32_t batch, uint32_t ordinal, struct segment_record *records, size_t count);

struct segment_scan {
    const uint8_t *data; /* the whole file */
    size_t size;         /* of it */
    const uint8_t *cluster;
    struct seal *seal;
    uint64_t sequence;
    uint64_t end;     /* where it must end, as its successor says; 0: it is the last, find out */
    uint32_t records; /* with end: how many it must hold */
    uint64_t durable; /* everything before this offset is known to have been written; 0: nothing known */
    void *ctx;
    int (*found)(void *ctx, const struct segment_record *record,
                 struct err *e); /* in order; a code ends the scan */
    uint64_t ret_end;            /* behind the last good record */
    uint32_t ret_records;        /* how many were found */
    uint32_t ret_batch;          /* number of the last batch begun */
    bool ret_clean;              /* it ends with a whole write and zeroes: nothing was torn */
};

/* Read all records. ERR_CORRUPT names the offset when something that was once written is not as it was; the torn
 * rest of an unfinished last write is left out. */
int segment_scan(struct segment_scan *s, struct err *e);

/* One record at `at` with `room` bytes behind it, for reading single entries: opens its contents into `into`, which
 * holds its size (*ret_size of segment_record_peek). False when it is not the entry of that index. */
uint32_t segment_record_size(const uint8_t *at); /* as the header at `at` claims; not checked */
bool segment_record_peek(const uint8_t *at, size_t room, uint64_t index, uint64_t *ret_term, uint8_t *ret_type,
                         uint32_t *ret_size);
bool segment_record_open(const uint8_t *at, const uint8_t cluster[16], struct seal *s, uint64_t sequence,
                         uint8_t *into);
