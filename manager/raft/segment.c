/* Segments of the Raft log as bytes.
 *
 *     sector 0      header: magic, version, crc, cluster, salt, sequence, size, first index, where the
 *                   predecessor ends, tag
 *     sector 1..    batches, each beginning at a sector; within a batch records, each beginning at 8 bytes
 *     the rest      zeroes
 *
 * A record is a header of 40 bytes (crc, size, index, term, ordinal, batch, bytes of the batch, type, flags) and
 * the entry's bytes, sealed; the associated data names cluster, segment and everything in the record's header. The
 * nonce is the record's ordinal. A segment is only ever appended to, by one process in one life (a process that
 * finds a segment after a crash begins a new one with a new salt), so no ordinal is used twice under one subkey.
 *
 * A cut of the log is not a cut of the file: a record with the flag CUT replaces the entries from its index on, in
 * the same write that brings the new ones. So nothing that was once durable is ever written over, and cut and
 * append are one atomic step.
 *
 * What may be dropped, and what must be refused. An entry whose write has returned was perhaps acknowledged and
 * must never be lost in silence; an entry whose write had not returned at the crash never was. One batch is one
 * write, and a write begins after the one before has returned. Therefore
 *
 *   - a record of the last batch may be missing: it was torn;
 *   - anything wrong before the last batch is damage. That a batch is not the last is proven by any sound record
 * that begins a later batch, by the successor segment's header (which says where this one ends and how many records
 * it holds) and by the mark in the term file (meta.h), which is written when the log has been idle for a moment and
 *     when it is closed;
 *   - in the last batch itself, a torn write and damage look different as long as a disk writes sectors whole: the
 *     file was zeroes before, and each sector of a batch holds something that is not zero and belongs to no other
 *     batch. So a torn batch has at least one sector that is all zeroes, while a flipped bit leaves none. A batch
 *     that fails with all its sectors there is damage, and so are bytes behind the end of the last batch.
 *
 * What remains undetected is a whole sector of the very last write turned to zeroes after that write was
 * acknowledged and before the next write or mark, which follow within a tenth of a second: it cannot be told from a
 * crash in the middle of that write.
 *
 * Files are never made longer or shorter while they are the last segment, so a file of the wrong size is damage. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/segment.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

static const char magic[8] = "shoalLOG";

enum { AT_VERSION = 8, AT_CRC = 12, AT_CLUSTER = 16, AT_SALT = 32, AT_SEQUENCE = 48, AT_BYTES = 56, AT_FIRST = 64 };
enum { AT_BASE = 72, AT_BASE_TERM = 80, AT_PREVIOUS_END = 88, AT_PREVIOUS_RECORDS = 96, AT_FLAGS = 100 };
enum { AT_REST = 104, AT_TAG = SEGMENT_SECTOR - SEAL_TAG };
enum { HEADER_RESET = 1 };

enum { R_CRC = 0, R_SIZE = 4, R_INDEX = 8, R_TERM = 16, R_ORDINAL = 24, R_BATCH = 28, R_BYTES = 32, R_TYPE = 36 };
enum { R_FLAGS = 37, R_ZERO = 38 };
enum { RECORD_FIRST = 1, RECORD_LAST = 2, RECORD_CUT = 4, RECORD_FLAGS = 7 };

#define NONCE_HEADER 1 /* the upper part of the header's nonce; records have 0 there */

bool segment_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* --- header --------------------------------------------------------------------------------------- */

void segment_header_put(const struct segment_header *h, const uint8_t cluster[16], struct seal *s,
                        uint8_t into[SEGMENT_SECTOR])
{
    memset(into, 0, SEGMENT_SECTOR);
    memcpy(into, magic, sizeof(magic));
    put_u32(into + AT_VERSION, SEGMENT_VERSION);
    memcpy(into + AT_CLUSTER, cluster, 16);
    memcpy(into + AT_SALT, h->salt, SEAL_SALT);
    put_u64(into + AT_SEQUENCE, h->sequence);
    put_u64(into + AT_BYTES, h->bytes);
    put_u64(into + AT_FIRST, h->first_index);
    put_u64(into + AT_BASE, h->base_index);
    put_u64(into + AT_BASE_TERM, h->base_term);
    put_u64(into + AT_PREVIOUS_END, h->previous_end);
    put_u32(into + AT_PREVIOUS_RECORDS, h->previous_records);
    put_u32(into + AT_FLAGS, h->reset ? HEADER_RESET : 0);
    put_u32(into + AT_CRC, crc32c(0, into + AT_CLUSTER, AT_TAG - AT_CLUSTER));
    seal_close(s, NONCE_HEADER, 0, into, AT_TAG, NULL, 0, into + AT_TAG);
}

int segment_header_get(const uint8_t *sector, const uint8_t cluster[16], struct segment_header *ret, struct err *e)
{
    struct segment_header h;

    if (memcmp(sector, magic, sizeof(magic)) != 0)
        return err_set(e, ERR_CORRUPT, "damaged at byte 0: not a log segment");
    if (get_u32(sector + AT_VERSION) != SEGMENT_VERSION)
        return err_set(e, ERR_CORRUPT, "version %u of the log is not known, only %d",
                       (unsigned)get_u32(sector + AT_VERSION), SEGMENT_VERSION);
    if (get_u32(sector + AT_CRC) != crc32c(0, sector + AT_CLUSTER, AT_TAG - AT_CLUSTER))
        return err_set(e, ERR_CORRUPT, "damaged at byte 0: the header's checksum does not fit");
    if (memcmp(sector + AT_CLUSTER, cluster, 16) != 0)
        return err_set(e, ERR_CORRUPT, "belongs to another cluster");
    if (!segment_zero(sector + AT_REST, AT_TAG - AT_REST) || get_u32(sector + AT_FLAGS) > HEADER_RESET)
        return err_set(e, ERR_CORRUPT, "damaged at byte %d: unknown fields in the header", AT_FLAGS);
    h = (struct segment_header){
        .sequence = get_u64(sector + AT_SEQUENCE),
        .bytes = get_u64(sector + AT_BYTES),
        .first_index = get_u64(sector + AT_FIRST),
        .reset = get_u32(sector + AT_FLAGS) & HEADER_RESET,
        .base_index = get_u64(sector + AT_BASE),
        .base_term = get_u64(sector + AT_BASE_TERM),
        .previous_end = get_u64(sector + AT_PREVIOUS_END),
        .previous_records = get_u32(sector + AT_PREVIOUS_RECORDS),
    };
    memcpy(h.salt, sector + AT_SALT, SEAL_SALT);
    if (h.bytes < SEGMENT_BYTES_MIN || h.bytes > SEGMENT_BYTES_MAX || h.bytes % SEGMENT_SECTOR || !h.sequence ||
        !h.first_index || (h.reset && h.first_index != h.base_index + 1))
        return err_set(e, ERR_CORRUPT, "damaged at byte %d: the header makes no sense", AT_SEQUENCE);
    *ret = h;
    return 0;
}

bool segment_header_verify(const uint8_t *sector, const uint8_t cluster[16], struct seal *s)
{
    uint8_t nothing[1];

    return seal_open(s, NONCE_HEADER, 0, sector, AT_TAG, sector + AT_TAG, SEAL_TAG, nothing);
}

/* --- records -------------------------------------------------------------------------------------- */

/* What a record's seal is bound to besides the key: kind of file, cluster, segment, and its header but the crc. */
struct place {
    uint8_t bytes[4 + 16 + 8 + SEGMENT_RECORD - R_SIZE];
};

static struct place place_of(const uint8_t cluster[16], uint64_t sequence, const uint8_t *record)
{
    struct place p;

    memcpy(p.bytes, "log", 4);
    memcpy(p.bytes + 4, cluster, 16);
    put_u64(p.bytes + 20, sequence);
    memcpy(p.bytes + 28, record + R_SIZE, SEGMENT_RECORD - R_SIZE);
    return p;
}

uint64_t segment_record_bytes(size_t size)
{
    return round_up(SEGMENT_RECORD + (uint64_t)size + SEAL_TAG, 8);
}

void segment_batch_put(struct buf *out, const uint8_t cluster[16], struct seal *s, uint64_t sequence,
                       uint32_t batch, uint32_t ordinal, struct segment_record *records, size_t count)
{
    uint64_t bytes = 0, at = 0;

    assert(count > 0);
    for (size_t i = 0; i < count; i++)
        bytes += segment_record_bytes(records[i].size);
    bytes = round_up(bytes, SEGMENT_SECTOR);
    uint8_t *into = (uint8_t *)buf_reserve(out, bytes);
    for (size_t i = 0; i < count; i++) {
        struct segment_record *r = &records[i];
        uint8_t *record = into + at;
        uint64_t size = segment_record_bytes(r->size), used = SEGMENT_RECORD + r->size + SEAL_TAG;

        put_u32(record + R_SIZE, r->size + SEAL_TAG);
        put_u64(record + R_INDEX, r->index);
        put_u64(record + R_TERM, r->term);
        put_u32(record + R_ORDINAL, ordinal + (uint32_t)i);
        put_u32(record + R_BATCH, batch);
        put_u32(record + R_BYTES, (uint32_t)bytes);
        record[R_TYPE] = r->type;
        record[R_FLAGS] =
            (uint8_t)((i == 0 ? RECORD_FIRST : 0) | (i == count - 1 ? RECORD_LAST : 0) | (r->cut ? RECORD_CUT : 0));
        put_u16(record + R_ZERO, 0);
        put_u32(record + R_CRC, crc32c(0, record + R_SIZE, SEGMENT_RECORD - R_SIZE));
        struct place p = place_of(cluster, sequence, record);
        seal_close(s, 0, ordinal + i, &p, sizeof(p), r->data, r->size, record + SEGMENT_RECORD);
        memset(record + used, 0, size - used);
        r->offset = at;
        at += size;
    }
    memset(into + at, 0, bytes - at);
    buf_added(out, bytes);
}

/* A record header that is whole: the checksum fits and the fields can be ours. */
static bool record_sound(const uint8_t *at, size_t room)
{
    return room >= SEGMENT_RECORD && get_u32(at + R_CRC) == crc32c(0, at + R_SIZE, SEGMENT_RECORD - R_SIZE) &&
           get_u32(at + R_SIZE) >= SEAL_TAG && get_u32(at + R_SIZE) <= room - SEGMENT_RECORD &&
           get_u32(at + R_BATCH) > 0 && at[R_FLAGS] <= RECORD_FLAGS && get_u16(at + R_ZERO) == 0;
}

uint32_t segment_record_size(const uint8_t *at)
{
    return get_u32(at + R_SIZE) - SEAL_TAG;
}

bool segment_record_peek(const uint8_t *at, size_t room, uint64_t index, uint64_t *ret_term, uint8_t *ret_type,
                         uint32_t *ret_size)
{
    if (!record_sound(at, room) || get_u64(at + R_INDEX) != index)
        return false;
    *ret_term = get_u64(at + R_TERM);
    *ret_type = at[R_TYPE];
    *ret_size = get_u32(at + R_SIZE) - SEAL_TAG;
    return true;
}

bool segment_record_open(const uint8_t *at, const uint8_t cluster[16], struct seal *s, uint64_t sequence,
                         uint8_t *into)
{
    struct place p = place_of(cluster, sequence, at);

    return seal_open(s, 0, get_u32(at + R_ORDINAL), &p, sizeof(p), at + SEGMENT_RECORD, get_u32(at + R_SIZE), into);
}

/* --- scanning ------------------------------------------------------------------------------------- */

struct scan_state {
    size_t at;        /* where the next record would begin */
    size_t batch_at;  /* where the last batch began */
    uint32_t batch;   /* its number */
    uint32_t ordinal; /* of the next record */
    bool open;        /* the last batch's last record has not come yet */
};

/* Whether the record at state->at is the one that must come. */
static bool scan_fits(const struct segment_scan *s, const struct scan_state *state)
{
    const uint8_t *at = s->data + state->at;
    bool first;

    if (!record_sound(at, s->size - state->at) || get_u32(at + R_ORDINAL) != state->ordinal)
        return false;
    first = at[R_FLAGS] & RECORD_FIRST;
    if (first == state->open || get_u32(at + R_BATCH) != state->batch + (first ? 1 : 0))
        return false;
    /* A segment with a successor was cut to its end, perhaps within a torn batch. */
    return s->end || (get_u32(at + R_BYTES) % SEGMENT_SECTOR == 0 &&
                      get_u32(at + R_BYTES) <= s->size - (first ? state->at : state->batch_at));
}

static void scan_advance(const struct segment_scan *s, struct scan_state *state)
{
    const uint8_t *at = s->data + state->at;

    if (at[R_FLAGS] & RECORD_FIRST)
        state->batch_at = state->at;
    state->batch = get_u32(at + R_BATCH);
    state->ordinal++;
    state->open = !(at[R_FLAGS] & RECORD_LAST);
    state->at += segment_record_bytes(get_u32(at + R_SIZE) - SEAL_TAG);
    if (!state->open)
        state->at = round_up(state->at, SEGMENT_SECTOR);
}

/* Where in the file the batch that could not be read to its end may have put bytes: [begin, end). False when its
 * first sector is there but makes no sense. */
static bool scan_torn_extent(const struct segment_scan *s, const struct scan_state *state, size_t *ret_end)
{
    size_t begin = state->open ? state->batch_at : state->at;
    const uint8_t *at = s->data + begin;

    if (begin >= s->size || segment_zero(at, SEGMENT_SECTOR)) {
        *ret_end = s->size; /* the sector that would say how long it is never arrived */
        return true;
    }
    if (!record_sound(at, s->size - begin) || !(at[R_FLAGS] & RECORD_FIRST) ||
        get_u32(at + R_BYTES) % SEGMENT_SECTOR || get_u32(at + R_BYTES) > s->size - begin)
        return false;
    *ret_end = begin + get_u32(at + R_BYTES);
    return true;
}

/* The last segment stops making sense at state->at: decide whether that is the torn rest of a write that never
 * returned (0), or damage. The rules are the essay's. */
static int scan_tail(struct segment_scan *s, const struct scan_state *state, struct err *e)
{
    uint32_t torn = state->open ? state->batch : state->batch + 1;
    size_t begin = state->open ? state->batch_at : state->at, end;
    bool missing = begin >= s->size;

    if (state->at < s->durable)
        return err_set(e, ERR_CORRUPT, "damaged at byte %zu: bytes up to %llu are known to have been written",
                       state->at, (unsigned long long)s->durable);
    for (size_t at = round_up(state->at, SEGMENT_SECTOR); at < s->size; at += SEGMENT_SECTOR)
        if (record_sound(s->data + at, s->size - at) && s->data[at + R_FLAGS] & RECORD_FIRST &&
            get_u32(s->data + at + R_BATCH) > torn)
            return err_set(e, ERR_CORRUPT, "damaged at byte %zu: a later write at byte %zu is there", state->at,
                           at);
    if (!scan_torn_extent(s, state, &end))
        return err_set(e, ERR_CORRUPT, "damaged at byte %zu: what stands there is no record", state->at);
    for (size_t at = begin; at < end && !missing; at += SEGMENT_SECTOR)
        missing = segment_zero(s->data + at, SEGMENT_SECTOR);
    if (!missing)
        return err_set(e, ERR_CORRUPT, "damaged at byte %zu: the record is not as it was written", state->at);
    if (!segment_zero(s->data + end, s->size - end))
        return err_set(e, ERR_CORRUPT, "damaged behind byte %zu: bytes that nobody wrote", end);
    return 0;
}

bool segment_written_twice(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + SEGMENT_SECTOR <= size; at += SEGMENT_SECTOR)
        if (record_sound(data + at, size - at) && data[at + R_FLAGS] & RECORD_FIRST &&
            get_u32(data + at + R_BATCH) > 1)
            return true;
    return false;
}

static int scan_end(struct segment_scan *s, const struct scan_state *state, struct err *e)
{
    s->ret_end = state->at;
    s->ret_records = state->ordinal;
    s->ret_batch = state->batch;
    if (!s->end) {
        s->ret_clean = !state->open && segment_zero(s->data + state->at, s->size - state->at);
        return s->ret_clean && state->at >= s->durable ? 0 : scan_tail(s, state, e);
    }
    s->ret_clean = true;
    if (state->at != s->end || state->ordinal != s->records)
        return err_set(e, ERR_CORRUPT, "damaged at byte %zu: record %u of %u is not as it was written", state->at,
                       state->ordinal + 1, s->records);
    return 0;
}

int segment_scan(struct segment_scan *s, struct err *e)
{
    struct scan_state state = {.at = SEGMENT_SECTOR};
    size_t limit = s->end ? MIN(s->end, s->size) : s->size;
    struct segment_record record;
    int rc = 0;

    while (rc == 0 && state.at < limit && scan_fits(s, &state)) {
        const uint8_t *at = s->data + state.at;
        uint32_t size = get_u32(at + R_SIZE) - SEAL_TAG;
        AUTO_FREE
        uint8_t *data = mem_alloc(size + 1);

        if (!segment_record_open(at, s->cluster, s->seal, s->sequence, data))
            break;
        record = (struct segment_record){
            .index = get_u64(at + R_INDEX),
            .term = get_u64(at + R_TERM),
            .type = at[R_TYPE],
            .cut = at[R_FLAGS] & RECORD_CUT,
            .data = data,
            .size = size,
            .offset = state.at,
        };
        rc = s->found(s->ctx, &record, e);
        scan_advance(s, &state);
    }
    return rc < 0 ? rc : scan_end(s, &state, e);
}
