/* Loading a snapshot: a stream (stream.h) becomes a file beside the present one, which takes its place at the end.
 *
 * The bytes come from a file or another manager, in pieces of any size; they are collected to frames, and a frame
 * is checked whole before anything of it is written: its size, the order of kinds and numbers, that each record is
 * one and its message can be unpacked. At the end the number of records and their digest must be what the head
 * told. Until then nobody reads the new file, and a load that ends early leaves nothing but a file that the next
 * opening removes.
 *
 * Records are appended in order; a transaction takes some hundreds of them, so a turn of the loop that feeds one
 * piece stays short. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/stream.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/field.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

#define COMMIT_RECORDS 512          /* a transaction ends after the frame that reaches this: a few milliseconds */
#define FRAME_RECORDS  STREAM_FRAME /* no frame holds more */
#define ROOM           (128u << 20) /* of the map, more than a transaction can use */
#define MAP_FIRST      (1ull << 30) /* address space; moving a map that is in use costs milliseconds */

enum phase { PHASE_MAGIC, PHASE_HEAD, PHASE_RECORDS, PHASE_DONE, PHASE_FAILED };

struct store_load {
    struct store *store;
    struct disk *disk; /* NULL when it could not be made */
    struct err failure;
    enum phase phase;
    struct buf pending; /* bytes of a frame that is not complete */
    struct state state; /* what the head tells */
    uint64_t head_hash;
    MDB_txn *txn; /* open between frames */
    size_t uncommitted;
    enum kind kind; /* of the last record */
    uint64_t number;
    uint64_t records, digest;
    struct buf scratch;
    struct arena arena;
};

struct store_load *store_load_begin(struct store *s)
{
    struct store_load *l = mem_alloc(sizeof(*l));

    assert(!s->load); /* one at a time */
    l->store = s;
    arena_init(&l->arena);
    if (disk_create(&s->config, DISK_LOAD, &l->disk, &l->failure) < 0 ||
        disk_grow(l->disk, MAP_FIRST, &l->failure) < 0) {
        l->phase = PHASE_FAILED;
        l->failure.code = ERR_IO; /* whatever the system called it */
    }
    s->load = l;
    return l;
}

static void free_load(struct store_load *l)
{
    l->store->load = NULL;
    if (l->txn)
        mdb_txn_abort(l->txn);
    disk_unref(l->disk);
    arena_fini(&l->arena);
    if (l->pending.data)
        mem_wipe(l->pending.data, l->pending.capacity);
    buf_fini(&l->pending);
    buf_fini(&l->scratch);
    free(l);
}

void store_load_cancel(struct store_load *l)
{
    struct store *s = l->store;

    free_load(l);
    disk_remove(&s->config, DISK_LOAD);
}

/* --- writing --------------------------------------------------------------------------------------------- */

static int commit(struct store_load *l, struct err *e)
{
    MDB_txn *txn = l->txn;

    l->txn = NULL;
    l->uncommitted = 0;
    int rc = txn ? mdb_txn_commit(txn) : 0;
    return rc ? disk_error(e, rc, "commit a loaded snapshot") : 0;
}

static int begin(struct store_load *l, struct err *e)
{
    if (l->txn)
        return 0;
    int rc = disk_grow(l->disk, disk_used_bytes(l->disk) + ROOM, e);
    if (rc == 0)
        rc = disk_reserve(l->disk, &state_empty, COMMIT_RECORDS + FRAME_RECORDS + 1, e);
    if (rc < 0)
        return rc;
    rc = mdb_txn_begin(l->disk->env, NULL, 0, &l->txn);
    return rc ? disk_error(e, rc, "begin") : 0;
}

static int put_index(struct store_load *l, MDB_dbi table, void *bytes, size_t size, struct err *e)
{
    MDB_val key = {size, bytes}, nothing = {0, NULL};
    int rc = mdb_put(l->txn, table, &key, &nothing, 0);

    return rc ? disk_error(e, rc, "write an index") : 0;
}

static int write_record(struct store_load *l, const struct row *r, const uint8_t *bytes, size_t size, struct err *e)
{
    uint64_t number = l->number;
    MDB_val key = {sizeof(number), &number}, value = {size + DISK_OVERHEAD, NULL};
    uint8_t id_key[DISK_ID_KEY], name_key[DISK_NAME_KEY];
    const char *name;
    size_t length;
    int rc = mdb_put(l->txn, l->disk->kinds[l->kind], &key, &value, MDB_RESERVE | MDB_APPEND);

    if (rc)
        return disk_error(e, rc, "write a record");
    disk_seal(l->disk, (unsigned)l->kind, number, bytes, size, value.mv_data);
    l->disk->high[l->kind] = number;
    if (kind_has_id(l->kind)) {
        disk_id_key(l->kind, kind_id_of(l->kind, r->message, r->message_size), number, id_key);
        rc = put_index(l, l->disk->ids, id_key, sizeof(id_key), e);
    }
    if (rc == 0 && kind_name_of(l->kind, r->message, r->message_size, &name, &length)) {
        disk_name_key(l->disk->seal, l->kind, name, length, number, name_key);
        rc = put_index(l, l->disk->names, name_key, sizeof(name_key), e);
    }
    return rc;
}

/* --- reading --------------------------------------------------------------------------------------------- */

static int malformed(struct err *e, const char *fault)
{
    return err_set(e, ERR_CORRUPT, "snapshot: %s", fault);
}

static int take_head(struct store_load *l, const uint8_t *data, size_t size, struct err *e)
{
    uint64_t numbers[STREAM_HEAD_NUMBERS];

    if (size != sizeof(numbers))
        return malformed(e, "the head is of another size");
    memcpy(numbers, data, sizeof(numbers));
    if (numbers[3] > STORE_FEATURE_LEVEL)
        return err_set(e, ERR_CORRUPT, "snapshot: needs feature level %llu, this version offers %d",
                       (unsigned long long)numbers[3], STORE_FEATURE_LEVEL);
    l->state = (struct state){.applied = numbers[0],
                              .planned = numbers[1],
                              .cluster_ms = (int64_t)numbers[2],
                              .feature_level = (uint32_t)numbers[3],
                              .digest = numbers[4]};
    for (int k = 0; k <= KIND_MAX; k++) {
        l->state.next[k] = numbers[5 + k];
        if (l->state.next[k] == 0)
            return malformed(e, "a counter is 0");
    }
    if (l->state.planned > l->state.applied)
        return malformed(e, "the last change set comes after the last entry");
    l->head_hash = siphash(0, 0, numbers, sizeof(numbers));
    l->phase = PHASE_RECORDS;
    return 0;
}

static int check_record(struct store_load *l, const uint8_t *bytes, size_t size, struct row *ret, struct err *e)
{
    unsigned long long number = l->number;

    if (!row_read(bytes, size, ret) || ret->version > l->state.applied)
        return err_set(e, ERR_CORRUPT, "snapshot: %s %llu has no record", kind_name(l->kind), number);
    if (kind_has_numbers(l->kind) && l->number >= l->state.next[l->kind])
        return err_set(e, ERR_CORRUPT, "snapshot: %s %llu lies above its counter", kind_name(l->kind), number);
    if (kind_has_id(l->kind) && !kind_id_of(l->kind, ret->message, ret->message_size))
        return err_set(e, ERR_CORRUPT, "snapshot: %s %llu has no id", kind_name(l->kind), number);
    arena_reset(&l->arena);
    if (!arena_unpack(&l->arena, kind_message(l->kind), ret->message, ret->message_size))
        return err_set(e, ERR_CORRUPT, "snapshot: the message of %s %llu is none", kind_name(l->kind), number);
    return 0;
}

static int take_record(struct store_load *l, const uint8_t **at, const uint8_t *end, struct err *e)
{
    uint64_t number, size;
    struct row record;
    size_t used = varint_get(*at, end, &number), more = used ? varint_get(*at + used, end, &size) : 0;

    if (!more || size > (size_t)(end - *at) - used - more)
        return malformed(e, "a record is cut off");
    const uint8_t *bytes = *at + used + more;
    if (number <= l->number || number == UINT64_MAX)
        return malformed(e, "numbers do not ascend");
    l->number = number;
    int rc = check_record(l, bytes, size, &record, e);
    if (rc == 0)
        rc = write_record(l, &record, bytes, size, e);
    if (rc < 0)
        return rc;
    l->digest += row_hash(l->kind, number, bytes, size);
    l->records++;
    l->uncommitted++;
    *at = bytes + size;
    return 0;
}

static int take_records(struct store_load *l, const uint8_t *data, size_t size, struct err *e)
{
    const uint8_t *at = data + 1, *end = data + size;
    uint64_t before = l->records;

    if (size < 2 || !kind_message((enum kind)data[0]) || data[0] < (unsigned)l->kind)
        return malformed(e, "records of an unknown kind, or out of order");
    if ((enum kind)data[0] != l->kind) {
        l->kind = (enum kind)data[0];
        l->number = 0;
    }
    int rc = begin(l, e);
    while (rc == 0 && at < end)
        rc = size > STREAM_FRAME && l->records > before ? malformed(e, "a frame is too long")
                                                        : take_record(l, &at, end, e);
    if (rc == 0 && l->uncommitted >= COMMIT_RECORDS)
        rc = commit(l, e);
    return rc;
}

static int take_end(struct store_load *l, const uint8_t *data, size_t size, struct err *e)
{
    uint64_t numbers[2];

    if (size != sizeof(numbers))
        return malformed(e, "the end is of another size");
    memcpy(numbers, data, sizeof(numbers));
    if (numbers[0] != l->records)
        return err_set(e, ERR_CORRUPT, "snapshot: %llu records, its end tells %llu", (unsigned long long)l->records,
                       (unsigned long long)numbers[0]);
    if (numbers[1] != l->head_hash)
        return malformed(e, "its head is not the one that its end tells");
    if (l->digest != l->state.digest)
        return err_set(e, ERR_CORRUPT, "snapshot: the records' digest is %016llx, its head tells %016llx",
                       (unsigned long long)l->digest, (unsigned long long)l->state.digest);
    l->phase = PHASE_DONE;
    return 0;
}

static int take_frame(struct store_load *l, int type, const uint8_t *data, size_t size, struct err *e)
{
    if (l->phase == PHASE_HEAD && type == STREAM_HEAD)
        return take_head(l, data, size, e);
    if (l->phase == PHASE_RECORDS && type == STREAM_RECORDS)
        return take_records(l, data, size, e);
    if (l->phase == PHASE_RECORDS && type == STREAM_END)
        return take_end(l, data, size, e);
    return err_set(e, ERR_CORRUPT, "snapshot: frame of type %d is out of place", type);
}

/* Take what is complete off the front of the pending bytes. */
static int take_pending(struct store_load *l, struct err *e)
{
    const uint8_t *at = (const uint8_t *)buf_bytes(&l->pending);
    uint32_t size;

    if (l->phase == PHASE_MAGIC) {
        if (l->pending.length < STREAM_MAGIC_BYTES)
            return ERR_AGAIN;
        if (memcmp(at, STREAM_MAGIC, STREAM_MAGIC_BYTES) != 0)
            return malformed(e, "does not begin with \"shoalst\" and version 1");
        buf_consume(&l->pending, STREAM_MAGIC_BYTES);
        l->phase = PHASE_HEAD;
        return 0;
    }
    if (l->phase == PHASE_DONE && l->pending.length)
        return malformed(e, "goes on after its end");
    if (l->pending.length < STREAM_HEADER)
        return ERR_AGAIN;
    memcpy(&size, at + 1, sizeof(size));
    if (size > STREAM_CONTENTS_MAX)
        return err_set(e, ERR_CORRUPT, "snapshot: a frame of %u bytes", size);
    if (l->pending.length < STREAM_HEADER + size)
        return ERR_AGAIN;
    int rc = take_frame(l, at[0], at + STREAM_HEADER, size, e);
    if (rc == 0)
        buf_consume(&l->pending, STREAM_HEADER + size);
    return rc;
}

static int fail(struct store_load *l, int rc)
{
    l->phase = PHASE_FAILED;
    return rc;
}

int store_load_add(struct store_load *l, const void *data, size_t size, struct err *e)
{
    const char *at = data;
    int rc;

    if (!e)
        e = &l->failure;
    if (l->phase == PHASE_FAILED) {
        if (e != &l->failure)
            *e = l->failure;
        return l->failure.code;
    }
    while (size) {
        size_t part = MIN(size, (size_t)STREAM_FRAME); /* keeps what is pending near one frame */

        buf_append(&l->pending, at, part);
        at += part;
        size -= part;
        while ((rc = take_pending(l, e)) == 0)
            ;
        if (rc != ERR_AGAIN) {
            l->failure = *e;
            return fail(l, rc);
        }
    }
    return 0;
}

static int finish(struct store_load *l, struct err *e)
{
    if (l->phase == PHASE_FAILED) {
        *e = l->failure;
        return l->failure.code;
    }
    if (l->phase != PHASE_DONE)
        return malformed(e, "is cut off");
    int rc = begin(l, e);
    if (rc < 0)
        return rc;
    rc = disk_write_state(l->disk, l->txn, &l->state);
    if (rc)
        return disk_error(e, rc, "write the state");
    rc = commit(l, e);
    if (rc == 0 && disk_rename(&l->store->config, DISK_LOAD, e) < 0)
        rc = e->code = ERR_IO;
    return rc;
}

int store_load_end(struct store_load *l, struct err *e)
{
    struct store *s = l->store;
    struct err own_error = {0};

    int rc = finish(l, e ? e : &own_error);
    if (rc < 0) {
        store_load_cancel(l);
        return rc;
    }
    store_replace(s, l->disk, &l->state);
    l->disk = NULL;
    free_load(l);
    return 0;
}
