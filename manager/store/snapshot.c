/* Snapshots: one state as a stream of bytes (store.h, stream.h), made frame by frame as fast as the reader asks.
 *
 * begin takes an LMDB read transaction, which pins the state while the loop goes on committing; pages that are
 * replaced meanwhile cannot be used again, so the file grows for as long as the snapshot is read. Room for that is
 * made in advance, in address space only, because a map cannot be moved under a reader. Should it not be enough,
 * the loop takes the transaction away (disk_grow) and the reader is told to begin anew.
 *
 * The reader seals nothing and shares nothing with the loop but the file: its own cipher context, its own
 * transaction, a lock held for one frame at a time. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/stream.h"
#include "proto/base/buf.h"
#include "proto/base/field.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

#define ROOM (1ull << 30) /* what the file may grow by while a snapshot is read, beside its own size */

enum phase { PHASE_MAGIC, PHASE_RECORDS, PHASE_END, PHASE_DONE };

struct store_snapshot {
    struct disk_reader reader;
    struct state state;
    enum phase phase;
    int kind;        /* of the next record */
    uint64_t number; /* of the last one */
    uint64_t records;
    struct buf frame; /* what is still to be handed out */
    struct buf plain; /* one record */
};

struct store_snapshot *store_snapshot_begin(struct store *s)
{
    if (!s->disk)
        return NULL;
    struct store_snapshot *p = mem_alloc(sizeof(*p));
    /* A failure to make room is none of the snapshot: it may do with what there is. */
    if (list_empty(&s->disk->readers) && s->views_open == 0)
        (void)disk_grow(s->disk, 2 * disk_used_bytes(s->disk) + ROOM, NULL);
    p->state = s->state;
    if (disk_reader_begin(s->disk, &p->reader, NULL) < 0) {
        free(p);
        return NULL;
    }
    return p;
}

uint64_t store_snapshot_index(const struct store_snapshot *p)
{
    return p->state.applied;
}

static size_t begin_frame(struct store_snapshot *p, enum stream_frame type)
{
    uint8_t header[STREAM_HEADER] = {(uint8_t)type};

    buf_append(&p->frame, header, sizeof(header));
    return p->frame.length;
}

static void end_frame(struct store_snapshot *p, size_t start)
{
    uint32_t size = (uint32_t)(p->frame.length - start);

    memcpy(buf_bytes(&p->frame) + start - 4, &size, 4);
}

static void make_head(struct store_snapshot *p)
{
    uint64_t numbers[STREAM_HEAD_NUMBERS];

    stream_head(&p->state, numbers);
    buf_append(&p->frame, STREAM_MAGIC, STREAM_MAGIC_BYTES);
    size_t start = begin_frame(p, STREAM_HEAD);
    buf_append(&p->frame, numbers, sizeof(numbers));
    end_frame(p, start);
    p->phase = PHASE_RECORDS;
}

static void make_end(struct store_snapshot *p)
{
    uint64_t numbers[STREAM_HEAD_NUMBERS], end[2] = {p->records};

    stream_head(&p->state, numbers);
    end[1] = siphash(0, 0, numbers, sizeof(numbers));
    size_t start = begin_frame(p, STREAM_END);
    buf_append(&p->frame, end, sizeof(end));
    end_frame(p, start);
    p->phase = PHASE_DONE;
}

static int add_record(struct store_snapshot *p, const MDB_val *value, struct err *e)
{
    uint8_t *at;

    buf_clear(&p->plain);
    uint8_t *plain = (uint8_t *)buf_reserve(&p->plain, value->mv_size);
    if (!disk_unseal(p->reader.seal, (unsigned)p->kind, p->number, value, plain))
        return err_set(e, ERR_CORRUPT, "store: %s %llu does not open", kind_name((enum kind)p->kind),
                       (unsigned long long)p->number);
    size_t size = value->mv_size - DISK_OVERHEAD;
    at = (uint8_t *)buf_reserve(&p->frame, 2 * VARINT_MAX);
    size_t used = varint_put(at, p->number);
    used += varint_put(at + used, size);
    buf_added(&p->frame, used);
    buf_append(&p->frame, plain, size);
    p->records++;
    return 0;
}

/* Records of one kind, as many as a frame takes, always one at least; or on to the next kind. */
static int make_records(struct store_snapshot *p, MDB_cursor *cursor, struct err *e)
{
    uint64_t from = p->number + 1;
    MDB_val key = {sizeof(from), &from}, value;
    uint8_t kind = (uint8_t)p->kind;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);

    if (rc == MDB_NOTFOUND) {
        p->kind++;
        p->number = 0;
        return 0;
    }
    size_t start = begin_frame(p, STREAM_RECORDS);
    buf_append(&p->frame, &kind, 1);
    for (bool first = true; rc == 0; first = false) {
        size_t after = p->frame.length - start + 2 * VARINT_MAX + value.mv_size;

        if (!first && after > STREAM_FRAME)
            break;
        memcpy(&p->number, key.mv_data, sizeof(p->number));
        int bad = add_record(p, &value, e);
        if (bad < 0)
            return bad;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    end_frame(p, start);
    return rc && rc != MDB_NOTFOUND ? disk_error(e, rc, "read the snapshot") : 0;
}

static int make_frame(struct store_snapshot *p, struct err *e)
{
    MDB_cursor *cursor;

    if (p->phase == PHASE_MAGIC) {
        make_head(p);
        return 0;
    }
    while (p->kind <= KIND_MAX && !kind_message((enum kind)p->kind))
        p->kind++;
    if (p->kind > KIND_MAX) {
        make_end(p);
        return 0;
    }
    int rc = mdb_cursor_open(p->reader.txn, p->reader.disk->kinds[p->kind], &cursor);
    if (rc)
        return disk_error(e, rc, "read the snapshot");
    rc = make_records(p, cursor, e);
    mdb_cursor_close(cursor);
    return rc;
}

long store_snapshot_read(struct store_snapshot *p, void *into, size_t size, struct err *e)
{
    size_t have = 0;
    int rc = 0;

    while (have < size && rc == 0) {
        if (p->frame.length == 0 && p->phase == PHASE_DONE)
            break;
        if (p->frame.length == 0) {
            pthread_mutex_lock(&p->reader.lock);
            if (p->reader.txn)
                rc = make_frame(p, e);
            else
                rc = err_set(e, ERR_CANCELED, "store: the file grew while the snapshot was read");
            pthread_mutex_unlock(&p->reader.lock);
        }
        size_t part = MIN(size - have, p->frame.length);
        if (rc == 0 && part) {
            memcpy((char *)into + have, buf_bytes(&p->frame), part);
            buf_consume(&p->frame, part);
            have += part;
        }
    }
    return rc < 0 ? rc : (long)have;
}

void store_snapshot_end(struct store_snapshot *p)
{
    if (!p)
        return;
    disk_reader_end(&p->reader);
    if (p->plain.data)
        mem_wipe(p->plain.data, p->plain.capacity);
    if (p->frame.data)
        mem_wipe(p->frame.data, p->frame.capacity);
    buf_fini(&p->plain);
    buf_fini(&p->frame);
    free(p);
}
