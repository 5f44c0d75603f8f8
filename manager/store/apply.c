/* Applying: change sets become records (store.h).
 *
 * All entries of a call are one transaction, unless they are so many that LMDB's list of dirty pages would grow too
 * long; then they are a few, each ending between two entries. The map may turn out too small in the middle: the
 * transaction is given up, the map grows, and the same entries are applied again from the same state, which gives
 * the same result. Only callbacks are not repeated: they are counted, and an attempt passes over those that were
 * made before.
 *
 * For each change the record as it was is read (it has the time of creation, its part of the digest is subtracted,
 * its id and name may leave the indexes) and the record as it is sealed straight into LMDB's page. New numbers are
 * above all others of their kind, so they are appended and pages are filled.
 *
 * The leader's own entry. A draft that was packed knows the hash of its bytes. When the entry comes whose bytes
 * these are, the indexes already show its changes and `changed` is silent about them. When any other change set
 * comes first, the draft is undone before it, newest change first, so the indexes stand where the entry starts
 * from; if the draft's entry still comes later, it is as foreign as any other (and its planned_on tells that it is
 * void). Nobody needs to know who proposed an entry, and no message order can make index and store differ. */
#include <assert.h>
#include <string.h>

#include "manager/store/change.h"
#include "manager/store/inside.h"
#include "proto/base/buf.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define GROUP_CHANGES 8192 /* a transaction ends after the entry that reaches this */

struct apply {
    struct store *s;
    struct disk *d;
    store_changed *changed;
    void *ctx;
    /* of one attempt */
    MDB_txn *txn;
    MDB_cursor *cursors[KIND_MAX + 1];
    struct state state;
    uint64_t high[KIND_MAX + 1];
    size_t calls;                     /* of `changed` */
    bool own;                         /* the draft's entry is among them */
    int mdb;                          /* LMDB's code, when that is what failed */
    uint64_t discards[DISCARDS_KEPT]; /* newest last, at discarded % DISCARDS_KEPT - 1 */
    uint64_t discarded;
    struct buf created; /* int64_t per change, for the feed */
    /* of all attempts */
    size_t called;      /* calls made, not to be repeated */
    struct arena arena; /* of one callback */
    struct buf before;  /* the record as it was */
    struct buf after;   /* as it is */
};

static int failed(struct apply *a, int mdb, const char *doing, struct err *e)
{
    a->mdb = mdb;
    return disk_error(e, mdb, doing);
}

/* --- one change ------------------------------------------------------------------------------------------ */

static int cursor_of(struct apply *a, enum kind k, MDB_cursor **ret, struct err *e)
{
    if (!a->cursors[k]) {
        int rc = mdb_cursor_open(a->txn, a->d->kinds[k], &a->cursors[k]); /* goes with the transaction */

        if (rc)
            return failed(a, rc, "open a table", e);
    }
    *ret = a->cursors[k];
    return 0;
}

/* The record as it was, in a->before; ERR_NOT_FOUND when there is none. */
static int read_before(struct apply *a, MDB_cursor *cursor, const struct change *c, struct row *ret, struct err *e)
{
    uint64_t number = c->number;
    MDB_val key = {sizeof(number), &number}, value;

    if (number > a->high[c->kind])
        return ERR_NOT_FOUND;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc)
        return failed(a, rc, "read a record", e);
    buf_clear(&a->before);
    uint8_t *plain = (uint8_t *)buf_reserve(&a->before, value.mv_size);
    if (!disk_unseal(a->d->seal, (unsigned)c->kind, number, &value, plain) ||
        !row_read(plain, value.mv_size - DISK_OVERHEAD, ret))
        return err_set(e, ERR_IO, "store: %s %llu does not open", kind_name(c->kind), (unsigned long long)number);
    buf_added(&a->before, value.mv_size - DISK_OVERHEAD);
    return 0;
}

static int index_put(struct apply *a, MDB_dbi table, void *bytes, size_t size, struct err *e)
{
    MDB_val key = {size, bytes}, nothing = {0, NULL};
    int rc = mdb_put(a->txn, table, &key, &nothing, 0);

    return rc ? failed(a, rc, "write an index", e) : 0;
}

static int index_delete(struct apply *a, MDB_dbi table, void *bytes, size_t size, struct err *e)
{
    MDB_val key = {size, bytes};
    int rc = mdb_del(a->txn, table, &key, NULL);

    return rc ? failed(a, rc, "delete from an index", e) : 0; /* not found: the index is damaged */
}

static int index_id(struct apply *a, const struct change *c, const struct row *before, struct err *e)
{
    const uint8_t *old = before ? kind_id_of(c->kind, before->message, before->message_size) : NULL;
    const uint8_t *new = c->message ? kind_id_of(c->kind, c->message, c->size) : NULL;
    uint8_t key[DISK_ID_KEY];
    int rc = 0;

    if (old && new &&memcmp(old, new, KIND_ID_BYTES) == 0)
        return 0;
    if (old) {
        disk_id_key(c->kind, old, c->number, key);
        rc = index_delete(a, a->d->ids, key, sizeof(key), e);
    }
    if (rc == 0 && new) {
        disk_id_key(c->kind, new, c->number, key);
        rc = index_put(a, a->d->ids, key, sizeof(key), e);
    }
    return rc;
}

static int index_name(struct apply *a, const struct change *c, const struct row *before, struct err *e)
{
    const char *old, *new;
    size_t old_length, new_length;
    bool had = before && kind_name_of(c->kind, before->message, before->message_size, &old, &old_length);
    bool has = c->message && kind_name_of(c->kind, c->message, c->size, &new, &new_length);
    uint8_t key[DISK_NAME_KEY];
    int rc = 0;

    if (had && has && kind_name_equal(old, old_length, new, new_length))
        return 0;
    if (had) {
        disk_name_key(a->d->seal, c->kind, old, old_length, c->number, key);
        rc = index_delete(a, a->d->names, key, sizeof(key), e);
    }
    if (rc == 0 && has) {
        disk_name_key(a->d->seal, c->kind, new, new_length, c->number, key);
        rc = index_put(a, a->d->names, key, sizeof(key), e);
    }
    return rc;
}

static int write_after(struct apply *a, MDB_cursor *cursor, const struct change *c, const struct row *after,
                       struct err *e)
{
    uint64_t number = c->number;
    MDB_val key = {sizeof(number), &number}, value;
    uint8_t header[ROW_HEADER_MAX];

    buf_clear(&a->after);
    buf_append(&a->after, header, row_header(after, header));
    buf_append(&a->after, after->message, after->message_size);
    value.mv_size = a->after.length + DISK_OVERHEAD;
    int rc = mdb_cursor_put(cursor, &key, &value, MDB_RESERVE | (number > a->high[c->kind] ? MDB_APPEND : 0));
    if (rc)
        return failed(a, rc, "write a record", e);
    disk_seal(a->d, (unsigned)c->kind, number, buf_bytes(&a->after), a->after.length, value.mv_data);
    a->state.digest += row_hash(c->kind, number, buf_bytes(&a->after), a->after.length);
    a->high[c->kind] = MAX(a->high[c->kind], number);
    if (kind_has_numbers(c->kind))
        a->state.next[c->kind] = MAX(a->state.next[c->kind], number + 1);
    return 0;
}

static int unpack(struct apply *a, enum kind k, uint64_t number, const struct row *r, struct object *ret,
                  struct err *e)
{
    const ProtobufCMessage *message = arena_unpack(&a->arena, kind_message(k), r->message, r->message_size);

    if (!message)
        return err_set(e, ERR_CORRUPT, "change set: the message of %s %llu is none", kind_name(k),
                       (unsigned long long)number);
    row_object(k, number, r, message, ret);
    return 0;
}

/* Tell, unless the draft already did or an earlier attempt. What came from outside is unpacked in any case, so that
 * nothing gets stored that could not be read again. */
static int tell(struct apply *a, const struct change *c, const struct row *before, const struct row *after,
                bool own, struct err *e)
{
    struct object was, is;
    int rc = 0;

    if (own)
        return 0;
    arena_reset(&a->arena);
    if (after)
        rc = unpack(a, c->kind, c->number, after, &is, e);
    if (rc < 0 || !a->changed || ++a->calls <= a->called)
        return rc;
    if (before)
        rc = unpack(a, c->kind, c->number, before, &was, e);
    if (rc < 0)
        return rc;
    a->called = a->calls;
    a->changed(a->ctx, a->state.applied, before ? &was : NULL, after ? &is : NULL);
    return 0;
}

static int apply_change(struct apply *a, const struct change *c, bool own, struct err *e)
{
    struct row was, is = {.version = a->state.applied,
                          .created_ms = a->state.cluster_ms,
                          .updated_ms = a->state.cluster_ms,
                          .message = c->message,
                          .message_size = c->size};
    int64_t created_ms = 0;
    MDB_cursor *cursor = NULL;
    int rc = cursor_of(a, c->kind, &cursor, e);

    if (rc == 0)
        rc = read_before(a, cursor, c, &was, e);
    if (rc < 0 && rc != ERR_NOT_FOUND)
        return rc;
    const struct row *before = rc == 0 ? &was : NULL, *after = c->message ? &is : NULL;
    if (before) {
        a->state.digest -= row_hash(c->kind, c->number, buf_bytes(&a->before), a->before.length);
        is.created_ms = was.created_ms;
    }
    rc = 0;
    if (after) {
        created_ms = is.created_ms;
        rc = write_after(a, cursor, c, after, e);
    } else if (before && (rc = mdb_cursor_del(cursor, 0))) {
        rc = failed(a, rc, "delete a record", e);
    }
    buf_append(&a->created, &created_ms, sizeof(created_ms));
    if (rc == 0 && kind_has_id(c->kind))
        rc = index_id(a, c, before, e);
    if (rc == 0 && kind_has_name(c->kind))
        rc = index_name(a, c, before, e);
    if (rc == 0 && (before || after))
        rc = tell(a, c, before, after, own, e);
    return rc;
}

/* --- entries --------------------------------------------------------------------------------------------- */

static void discard_set(struct apply *a, const struct store_entry *entry, const struct change_set *set)
{
    a->discards[a->discarded++ % DISCARDS_KEPT] = entry->index;
    log_warn("change set is void: planned on another state", "index=%llu planned_on=%llu last=%llu",
             (unsigned long long)entry->index, (unsigned long long)set->planned_on,
             (unsigned long long)a->state.planned);
}

static int apply_entry(struct apply *a, const struct store_entry *entry, struct change_set set, struct err *e)
{
    struct draft *draft = a->s->draft;
    struct change c;

    a->state.applied = entry->index;
    if (!entry->data)
        return 0;
    bool fits = set.planned_on == a->state.planned;
    bool own = fits && draft && !a->own && draft_is(draft, entry->data, entry->size);
    if (own)
        a->own = true;
    else if (draft && !a->own)
        draft_drop(draft);
    if (!fits) {
        discard_set(a, entry, &set);
        return 0;
    }
    a->state.planned = entry->index;
    a->state.cluster_ms = MAX(a->state.cluster_ms, set.cluster_ms); /* never backwards */
    a->state.feature_level = MAX(a->state.feature_level, set.feature_level);
    while (change_next(&set, &c)) {
        int rc = apply_change(a, &c, own, e);
        if (rc < 0)
            return err_wrap(e, "entry %llu", (unsigned long long)entry->index);
    }
    return 0;
}

static int attempt(struct apply *a, const struct store_entry *entries, const struct change_set *sets, size_t count,
                   struct err *e)
{
    int rc = mdb_txn_begin(a->d->env, NULL, 0, &a->txn);

    if (rc)
        return failed(a, rc, "begin", e);
    memset(a->cursors, 0, sizeof(a->cursors));
    memcpy(a->high, a->d->high, sizeof(a->high));
    a->state = a->s->state;
    a->calls = 0;
    a->own = false;
    a->discarded = a->s->discarded;
    memcpy(a->discards, a->s->discards, sizeof(a->discards));
    buf_clear(&a->created);
    rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = apply_entry(a, &entries[i], sets[i], e);
    if (rc == 0 && (rc = disk_write_state(a->d, a->txn, &a->state)))
        rc = failed(a, rc, "write the state", e);
    if (rc < 0) {
        mdb_txn_abort(a->txn);
        return rc;
    }
    rc = mdb_txn_commit(a->txn);
    return rc ? failed(a, rc, "commit", e) : 0;
}

/* What an attempt found becomes the store's. */
static void keep(struct apply *a, const struct store_entry *entries, const struct change_set *sets, size_t count)
{
    struct store *s = a->s;
    const int64_t *created = (const int64_t *)buf_bytes(&a->created);
    uint64_t planned = s->state.planned;
    int64_t cluster_ms = s->state.cluster_ms;

    for (size_t i = 0; i < count; i++) {
        if (!entries[i].data || sets[i].planned_on != planned)
            continue;
        planned = entries[i].index;
        cluster_ms = MAX(cluster_ms, sets[i].cluster_ms);
        feed_add(&s->feed, planned, cluster_ms, entries[i].data, entries[i].size, created, sets[i].count);
        created += sets[i].count;
    }
    s->state = a->state;
    s->discarded = a->discarded;
    memcpy(s->discards, a->discards, sizeof(s->discards));
    memcpy(a->d->high, a->high, sizeof(a->high));
    if (a->own)
        draft_applied(s->draft);
    if (s->draft)
        draft_moved(s->draft);
}

/* Apply `count` entries in one transaction, growing the map as often as it takes. */
static int apply_group(struct apply *a, const struct store_entry *entries, const struct change_set *sets,
                       size_t count, size_t changes, struct err *e)
{
    a->called = 0;
    buf_clear(&a->created);
    (void)buf_reserve(&a->created, changes * sizeof(int64_t));
    for (;;) {
        int rc = disk_reserve(a->d, &a->s->state, changes + 1, e);

        a->mdb = 0;
        if (rc == 0)
            rc = attempt(a, entries, sets, count, e);
        if (rc < 0 && a->mdb == MDB_MAP_FULL)
            rc = disk_grow(a->d, a->d->map_bytes * 2, e);
        else if (rc == 0)
            break;
        if (rc < 0)
            return rc;
    }
    keep(a, entries, sets, count);
    return 0;
}

static int apply_all(struct apply *a, const struct store_entry *entries, struct change_set *sets, size_t count,
                     struct err *e)
{
    uint64_t index = a->s->state.applied;

    for (size_t i = 0; i < count; i++) {
        if (entries[i].index <= index)
            return err_set(e, ERR_CORRUPT, "store: entry %llu comes after entry %llu",
                           (unsigned long long)entries[i].index, (unsigned long long)index);
        index = entries[i].index;
        int rc = entries[i].data ? change_set_read(entries[i].data, entries[i].size, &sets[i], e) : 0;
        if (rc < 0)
            return err_wrap(e, "entry %llu", (unsigned long long)index);
    }
    for (size_t from = 0; from < count;) {
        size_t changes = 0, to = from;

        do
            changes += sets[to].count;
        while (++to < count && changes + sets[to].count <= GROUP_CHANGES);
        int rc = apply_group(a, entries + from, sets + from, to - from, changes, e);
        if (rc < 0)
            return rc;
        from = to;
    }
    return 0;
}

/* The file, if it can be had and trusted. */
static int ready(struct store *s, struct err *e)
{
    if (s->disk && s->failure.code) {
        struct err why = s->failure;

        store_throw_away(s, &why);
        return err_set(e, ERR_IO, "%s: the file was discarded", why.text);
    }
    if (!s->disk) {
        int rc = disk_create(&s->config, DISK_FILE, &s->disk, e);

        if (rc < 0) {
            err_wrap(e, "store: no file can be made");
            return e->code = ERR_IO;
        }
        s->failure = (struct err){0};
    }
    return 0;
}

int store_apply(struct store *s, const struct store_entry *entries, size_t count, store_changed *changed, void *ctx,
                struct err *e)
{
    struct err own_error = {0};
    struct apply a = {.s = s, .changed = changed, .ctx = ctx};

    e = e ? e : &own_error;
    assert(s->views_open == 0);
    int rc = ready(s, e);
    if (rc < 0 || count == 0)
        return rc;
    a.d = s->disk;
    arena_init(&a.arena);
    struct change_set *sets = mem_array(count, sizeof(*sets));
    rc = apply_all(&a, entries, sets, count, e);
    if (rc == ERR_IO)
        store_throw_away(s, e);
    free(sets);
    arena_fini(&a.arena);
    buf_fini(&a.before);
    buf_fini(&a.after);
    buf_fini(&a.created);
    return rc;
}
