/* The store: the cluster's objects on this manager, a view of the Raft log that can be rebuilt (DESIGN.md section
 * 5).
 *
 * It lives in one LMDB file without fsync, sealed record by record. What is in it is exactly what the applied
 * change sets put there; the index of the last one stands in the same transaction. Opening discards a file that
 * another boot, schema, cluster or key wrote, or whose digest does not fit: the caller then applies snapshot and
 * log again from store_applied() = 0.
 *
 * Reading goes through views (a stable state, never longer than one loop turn). Writing goes through a draft:
 * planners and the API put objects into it, each seeing what was put before; packed, it is a change set, the
 * payload of one Raft entry; applied, it is visible in views.
 *
 * All on the manager loop, but for the snapshot reader, which one other thread may use. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/store/seal.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/object.pb-c.h"

enum kind { /* on disk and in change sets: never renumber. 8 secret, 9 config, 10 volume are reserved */
            KIND_CLUSTER = 1,
            KIND_NODE = 2,
            KIND_SERVICE = 3,
            KIND_SPEC = 4,
            KIND_TASK = 5,
            KIND_STATUS = 6, /* under the number of its task */
            KIND_NETWORK = 7,
            KIND_REQUEST = 11,
            KIND_MAX = 15,
};

/* The message type, whether it has an id and a name, per kind. */
const ProtobufCMessageDescriptor *kind_message(enum kind k); /* NULL for no kind of ours */
const char *kind_name(enum kind k);                          /* "service" */

/* One object as a view or draft shows it. The message is borrowed from the arena it was read into (or from the
 * draft). */
struct object {
    enum kind kind;
    uint64_t number;    /* order of creation; never reused */
    uint64_t version;   /* index of the entry that wrote it last; 0 while only in a draft */
    int64_t created_ms; /* cluster time */
    int64_t updated_ms;
    const ProtobufCMessage *message;
};

struct store;

struct store_config {
    const char *dir;        /* holds store.mdb */
    const uint8_t *key;     /* SEAL_KEY bytes, borrowed during open */
    const uint8_t *cluster; /* 16 bytes */
    const char *boot_id;    /* a file of another boot is discarded; NULL: read from the kernel */
    uint64_t map_bytes;     /* first size of the map; 0: 64 MiB. It grows as needed */
    size_t feed_bytes;      /* change feed kept in memory; 0: 64 MiB */
    struct entropy *entropy;
};

int store_open(const struct store_config *config, struct store **ret, struct err *e);
void store_close(struct store *s);

uint64_t store_applied(const struct store *s);   /* index of the last applied entry; 0: empty */
int64_t store_cluster_ms(const struct store *s); /* cluster time of the last change set */
uint64_t store_digest(
    const struct store *s); /* of all records, order-independent, kept at apply; equal on managers at equal index */
uint64_t store_count(const struct store *s, enum kind k);

/* --- applying ------------------------------------------------------------------------------------ */

struct store_entry {
    uint64_t index;   /* Raft's; grows */
    const void *data; /* a change set, or NULL, 0 for an entry without one (barrier, configuration) */
    size_t size;
};

/* Every changed record of an entry, as it was and as it is: for index_apply. before/after NULL: absent. */
typedef void store_changed(void *ctx, uint64_t index, const struct object *before, const struct object *after);

/* Apply entries in one transaction, unconditionally, in order. A change set that was planned on another state than
 * the one it meets is discarded whole (counted in store_discarded; on_discard tells its index). ERR_CORRUPT: the
 * bytes are no change set of ours (feature level too high, damaged): the manager must stop. ERR_IO: LMDB failed;
 * the file is discarded and must be rebuilt. Bytes of messages are stored as received, never re-packed. */
int store_apply(struct store *s, const struct store_entry *entries, size_t count, store_changed *changed, void *ctx,
                struct err *e);
uint64_t store_discarded(const struct store *s);
/* Whether the entry of that index was discarded; kept for the last 64. */
bool store_was_discarded(const struct store *s, uint64_t index);

/* --- views --------------------------------------------------------------------------------------- */

struct view;

struct view *view_begin(struct store *s);
void view_end(struct view *v);

/* ERR_NOT_FOUND when absent. The message is unpacked into the arena. */
int view_get(struct view *v, enum kind k, uint64_t number, struct arena *a, struct object *ret);
/* Numbers; 0 when absent. Names compare without regard to case. */
uint64_t view_find_id(struct view *v, enum kind k, const uint8_t id[16]);
uint64_t view_find_name(struct view *v, enum kind k, const char *name);
/* The least number above `after`; 0 at the end. For listing in order of creation, in slices. */
uint64_t view_next(struct view *v, enum kind k, uint64_t after);
/* The stored bytes of the message, borrowed until the view ends or the next call on it: for copying packed objects.
 */
int view_get_packed(struct view *v, enum kind k, uint64_t number, const void **ret_data, size_t *ret_size,
                    struct object *ret_header);
/* Up to `max` numbers of objects whose id begins with this text (base 36); returns how many there are, at most max.
 */
size_t view_find_prefix(struct view *v, enum kind k, const char *prefix, uint64_t *ret, size_t max);

/* --- drafts -------------------------------------------------------------------------------------- */

struct draft;

/* One at a time. Begins from the last applied state, for cluster time `cluster_ms`. `changed` is called as the
 * draft grows (and, arguments swapped, as it shrinks), so that warm indexes follow it. */
struct draft *draft_begin(struct store *s, int64_t cluster_ms, store_changed *changed, void *ctx);

int64_t draft_ms(const struct draft *d);
/* As the view functions, seeing what was put. Messages in the draft's arena, valid until it ends. */
int draft_get(struct draft *d, enum kind k, uint64_t number, struct object *ret);
uint64_t draft_find_id(struct draft *d, enum kind k, const uint8_t id[16]);
uint64_t draft_find_name(struct draft *d, enum kind k, const char *name);
struct arena *draft_arena(struct draft *d);

/* Put a new object; returns its number. The message is copied. For KIND_STATUS use draft_put with the task's
 * number. */
uint64_t draft_create(struct draft *d, enum kind k, const ProtobufCMessage *message);
void draft_put(struct draft *d, enum kind k, uint64_t number, const ProtobufCMessage *message);
void draft_delete(struct draft *d, enum kind k, uint64_t number);

/* Marks: undo everything put since, e.g. when one of many requests in a draft fails. */
size_t draft_mark(const struct draft *d);
void draft_undo(struct draft *d, size_t mark);

size_t draft_objects(const struct draft *d);
size_t draft_bytes(const struct draft *d); /* about the size of the change set */
bool draft_empty(const struct draft *d);

/* The change set, appended to `out`. */
void draft_pack(struct draft *d, struct buf *out);

/* End it. keep false: undo all first (indexes follow). keep true: it was proposed; the indexes already show it and
 * `changed` must not be repeated for it at apply: the store hands NULL, NULL objects' changes of that entry to
 * nobody. */
void draft_end(struct draft *d, bool keep);

/* --- feed ---------------------------------------------------------------------------------------- */

/* Applied change sets since `after`, oldest first: for consumers that keep an index. `each` gets every changed
 * object (message unpacked into the arena; NULL message: deleted). Returns 0 and sets *ret_index to the last one
 * seen, or ERR_LIMIT: fell out of the ring, read everything again. */
typedef void feed_each(void *ctx, uint64_t index, const struct object *object);
int store_feed(struct store *s, uint64_t after, struct arena *a, feed_each *each, void *ctx, uint64_t *ret_index);

/* --- snapshots ----------------------------------------------------------------------------------- */

/* One stable state as a stream of bytes (format, applied index, records as stored but in clear: the snapshot file
 * seals them itself). begin and end on the manager loop, read on one other thread. */
struct store_snapshot;
struct store_snapshot *store_snapshot_begin(struct store *s);
uint64_t store_snapshot_index(const struct store_snapshot *p);
/* Fill; returns bytes, 0 at the end, or a code. */
long store_snapshot_read(struct store_snapshot *p, void *into, size_t size, struct err *e);
void store_snapshot_end(struct store_snapshot *p);

/* Replace everything by a snapshot's bytes, given piece by piece; the state changes only at load_end. */
struct store_load;
struct store_load *store_load_begin(struct store *s);
int store_load_add(struct store_load *l, const void *data, size_t size, struct err *e);
int store_load_end(struct store_load *l, struct err *e); /* frees l, also on error */
void store_load_cancel(struct store_load *l);
