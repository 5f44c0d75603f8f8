/* Views: the state as of the last commit (store.h).
 *
 * A view is an LMDB read transaction with a cursor per table. Beginning and ending one costs no system call: ended
 * views are reset and kept, and renewed when the next one is wanted. A cursor that stands on a page finds the next
 * number on the same page without a descent, so listing in order is cheap.
 *
 * A record that does not open is damage that came after the file was verified: the caller gets ERR_CORRUPT or "not
 * there", the store remembers, and the next apply discards the file. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/inside.h"
#include "proto/base/buf.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

enum { TABLE_IDS = KIND_MAX + 1, TABLE_NAMES, TABLES };

struct view {
    struct list link; /* store.views while idle */
    struct store *store;
    MDB_txn *txn;                /* NULL: there is no file */
    MDB_cursor *cursors[TABLES]; /* kept from use to use */
    bool renewed[TABLES];        /* in this use */
    struct buf plain;            /* the record read last */
};

/* --- life ------------------------------------------------------------------------------------------------ */

static void drop_transaction(struct view *v)
{
    for (int i = 0; i < TABLES; i++)
        if (v->cursors[i])
            mdb_cursor_close(v->cursors[i]);
    if (v->txn)
        mdb_txn_abort(v->txn);
    v->txn = NULL;
    memset(v->cursors, 0, sizeof(v->cursors));
}

static void free_view(struct view *v)
{
    drop_transaction(v);
    if (v->plain.data)
        mem_wipe(v->plain.data, v->plain.capacity);
    buf_fini(&v->plain);
    free(v);
}

void views_free(struct store *s)
{
    struct list *link;

    while ((link = list_pop(&s->views)))
        free_view(list_entry(link, struct view, link));
}

struct view *view_begin(struct store *s)
{
    struct list *idle = list_pop(&s->views);
    struct view *v = idle ? list_entry(idle, struct view, link) : mem_alloc(sizeof(*v));
    int rc = 0;

    v->store = s;
    s->views_open++;
    if (v->txn)
        rc = mdb_txn_renew(v->txn);
    else if (s->disk)
        rc = mdb_txn_begin(s->disk->env, NULL, MDB_RDONLY, &v->txn);
    if (rc) {
        drop_transaction(v);
        store_suspect(s, mdb_strerror(rc));
    }
    return v;
}

void view_end(struct view *v)
{
    v->store->views_open--;
    memset(v->renewed, 0, sizeof(v->renewed));
    if (!v->txn) {
        free_view(v);
        return;
    }
    mdb_txn_reset(v->txn);
    list_push_front(&v->store->views, &v->link);
}

static MDB_dbi table_dbi(const struct disk *d, int table)
{
    return table == TABLE_IDS ? d->ids : table == TABLE_NAMES ? d->names : d->kinds[table];
}

/* The cursor of a table; NULL when there is nothing to read. */
static MDB_cursor *cursor_of(struct view *v, int table)
{
    int rc = 0;

    if (!v->txn)
        return NULL;
    if (v->renewed[table])
        return v->cursors[table];
    if (v->cursors[table])
        rc = mdb_cursor_renew(v->txn, v->cursors[table]);
    else
        rc = mdb_cursor_open(v->txn, table_dbi(v->store->disk, table), &v->cursors[table]);
    if (rc) {
        store_suspect(v->store, mdb_strerror(rc));
        return NULL;
    }
    v->renewed[table] = true;
    return v->cursors[table];
}

/* Move a table's cursor. False when there is nothing there. */
static bool seek(struct view *v, int table, MDB_val *key, MDB_val *value, MDB_cursor_op op)
{
    MDB_cursor *cursor = cursor_of(v, table);
    int rc = cursor ? mdb_cursor_get(cursor, key, value, op) : MDB_NOTFOUND;

    if (rc && rc != MDB_NOTFOUND)
        store_suspect(v->store, mdb_strerror(rc));
    return rc == 0;
}

/* --- records --------------------------------------------------------------------------------------------- */

bool view_has(struct view *v, enum kind k, uint64_t number)
{
    MDB_val key = {sizeof(number), &number}, value;

    return kind_message(k) && seek(v, (int)k, &key, &value, MDB_SET);
}

int view_row(struct view *v, enum kind k, uint64_t number, struct row *ret)
{
    MDB_val key = {sizeof(number), &number}, value;

    if (!kind_message(k) || !seek(v, (int)k, &key, &value, MDB_SET))
        return ERR_NOT_FOUND;
    buf_clear(&v->plain);
    uint8_t *plain = (uint8_t *)buf_reserve(&v->plain, value.mv_size);
    if (disk_unseal(v->store->disk->seal, (unsigned)k, number, &value, plain) &&
        row_read(plain, value.mv_size - DISK_OVERHEAD, ret))
        return 0;
    store_suspect(v->store, "a record does not open");
    return ERR_CORRUPT;
}

void row_object(enum kind k, uint64_t number, const struct row *r, const ProtobufCMessage *message,
                struct object *ret)
{
    *ret = (struct object){.kind = k,
                           .number = number,
                           .version = r->version,
                           .created_ms = r->created_ms,
                           .updated_ms = r->updated_ms,
                           .message = message};
}

int view_get(struct view *v, enum kind k, uint64_t number, struct arena *a, struct object *ret)
{
    struct row r;
    int rc = view_row(v, k, number, &r);

    if (rc < 0)
        return rc;
    const ProtobufCMessage *message = arena_unpack(a, kind_message(k), r.message, r.message_size);
    if (!message) {
        store_suspect(v->store, "a record holds no message of its kind");
        return ERR_CORRUPT;
    }
    row_object(k, number, &r, message, ret);
    return 0;
}

int view_get_packed(struct view *v, enum kind k, uint64_t number, const void **ret_data, size_t *ret_size,
                    struct object *ret_header)
{
    struct row r;
    int rc = view_row(v, k, number, &r);

    if (rc < 0)
        return rc;
    *ret_data = r.message;
    *ret_size = r.message_size;
    row_object(k, number, &r, NULL, ret_header);
    return 0;
}

uint64_t view_next(struct view *v, enum kind k, uint64_t after)
{
    uint64_t from = after + 1;
    MDB_val key = {sizeof(from), &from}, value;

    if (!kind_message(k) || from == 0 || !seek(v, (int)k, &key, &value, MDB_SET_RANGE))
        return 0;
    memcpy(&from, key.mv_data, sizeof(from));
    return from;
}

/* --- indexes --------------------------------------------------------------------------------------------- */

/* The number of the first key at or after `from` that begins as `from` does, but for the number; 0 when none does.
 */
static uint64_t first_of(struct view *v, int table, const uint8_t *from, size_t size)
{
    MDB_val key = {size, (void *)from}, value;

    if (!seek(v, table, &key, &value, MDB_SET_RANGE) || key.mv_size != size ||
        memcmp(key.mv_data, from, size - DISK_NUMBER) != 0)
        return 0;
    return disk_key_number(&key);
}

uint64_t view_find_id(struct view *v, enum kind k, const uint8_t id[16])
{
    uint8_t key[DISK_ID_KEY];

    if (!kind_has_id(k))
        return 0;
    disk_id_key(k, id, 0, key);
    return first_of(v, TABLE_IDS, key, sizeof(key));
}

uint64_t view_next_named(struct view *v, enum kind k, const char *name, size_t length, uint64_t after)
{
    uint8_t key[DISK_NAME_KEY];

    if (!v->txn || !kind_has_name(k) || !length)
        return 0;
    disk_name_key(v->store->disk->seal, k, name, length, after + 1, key);
    return first_of(v, TABLE_NAMES, key, sizeof(key));
}

uint64_t view_find_name(struct view *v, enum kind k, const char *name)
{
    return view_next_named(v, k, name, strlen(name), 0);
}

size_t view_find_names(struct view *v, enum kind k, const char *name, uint64_t *ret, size_t max)
{
    size_t count = 0;
    uint64_t number = 0;

    while (count < max && (number = view_next_named(v, k, name, strlen(name), number)))
        ret[count++] = number;
    return count;
}

/* The range of ids whose text begins with `prefix`: padded with the lowest and the highest digits. */
static bool prefix_range(const char *prefix, uint8_t low[KIND_ID_BYTES], uint8_t high[KIND_ID_BYTES])
{
    char text[IDENT_TEXT + 1];
    size_t length = strlen(prefix);

    if (length > IDENT_TEXT)
        return false;
    memset(text, '0', IDENT_TEXT);
    text[IDENT_TEXT] = '\0';
    memcpy(text, prefix, length);
    if (!ident_parse(text, low))
        return false; /* no base 36, or beyond 2^128 */
    memset(text + length, 'z', IDENT_TEXT - length);
    if (!ident_parse(text, high))
        memset(high, 0xff, KIND_ID_BYTES);
    return true;
}

size_t view_find_prefix(struct view *v, enum kind k, const char *prefix, uint64_t *ret, size_t max)
{
    uint8_t low[KIND_ID_BYTES], high[KIND_ID_BYTES], from[DISK_ID_KEY], to[DISK_ID_KEY];
    MDB_val key = {sizeof(from), from}, value;
    size_t count = 0;

    if (!kind_has_id(k) || !prefix_range(prefix, low, high))
        return 0;
    disk_id_key(k, low, 0, from);
    disk_id_key(k, high, UINT64_MAX, to);
    for (bool found = seek(v, TABLE_IDS, &key, &value, MDB_SET_RANGE);
         found && count < max && key.mv_size == sizeof(to) && memcmp(key.mv_data, to, sizeof(to)) <= 0;
         found = seek(v, TABLE_IDS, &key, &value, MDB_NEXT))
        ret[count++] = disk_key_number(&key);
    return count;
}
