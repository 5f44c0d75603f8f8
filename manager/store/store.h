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

#define STORE_FEATURE_LEVEL 1 /* the highest that this program offers; change sets say what they need */

/* Every kind but spec and status has an id (field 1, 16 bytes). Named are: service (name), network (spec.name), and
 * node (description.hostname, which need not be unique). Both indexes follow from the messages. */
const ProtobufCMessageDescriptor *kind_message(enum kind k); /* NULL for no kind of ours */
const char *kind_name(enum kind k);                          /* "service" */

/* One object as a view or draft shows it. The message is borrowed from the arena it was read into (or from the
 * draft). Fields that this program does not know are in its unknown_fields and survive being put again. */
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
    const uint8_t *key;     /* SEAL_KEY bytes; copied, wiped at close */
    const uint8_t *cluster; /* 16 bytes */
    const char *boot_id;    /* a file of another boot is discarded; NULL: read from the kernel */
    uint64_t map_bytes;     /* first size of the map; 0: 64 MiB. It grows as needed */
    uint64_t reserve_bytes; /* blocks kept free in the file for what is under way (store_room); 0: 8 MiB */
    size_t feed_bytes;      /* change feed kept in memory; 0: 64 MiB */
    struct entropy *entropy;
};

/* Every record is verified, about a microsecond each. A file that does not pass is logged and replaced by an empty
 * one. ERR_CONFLICT: another process has the directory's store open. */
int store_open(const struct store_config *config, struct store **ret, struct err *e);
/* No view is open; an open or proposed draft is forgotten, a load canceled. Snapshots may be read on and ended
 * later. NULL is fine. */
void store_close(struct store *s);

uint64_t store_applied(const struct store *s);   /* index of the last applied entry; 0: empty */
int64_t store_cluster_ms(const struct store *s); /* cluster time of the last change set */
/* Of all records and counters, order-independent, kept at apply; equal on managers at equal index. */
uint64_t store_digest(const struct store *s);
uint64_t store_count(const struct store *s, enum kind k);

/* 0, or why the file cannot be trusted or had: a record did not open while it was read, or the disk is full. What
 * is read may be missing objects. The next store_apply discards the file and returns ERR_IO. */
int store_failed(const struct store *s, struct err *e);

struct store_stats { /* for metrics */
    uint64_t file_bytes, map_bytes;
    size_t feed_bytes;
};
void store_stats(const struct store *s, struct store_stats *ret);

/* --- applying -------------------------------------------------------------------------------------------- */

struct store_entry {
    uint64_t index;   /* Raft's; grows */
    const void *data; /* a change set, or NULL, 0 for an entry without one (barrier, configuration) */
    size_t size;
};

/* Every changed record of an entry, as it was and as it is: for index_apply. before/after NULL: absent. `index` is
 * the entry's; 0 from a draft. The objects are borrowed for the call (from a draft: until the draft ends). From a
 * draft `after` has version 0, and the version it gets is not told. At apply it comes while the transaction is
 * open: views opened in it show the state before the whole call. */
typedef void store_changed(void *ctx, uint64_t index, const struct object *before, const struct object *after);

/* Apply entries in one transaction, unconditionally, in order. No view may be open.
 *
 * A change set that was planned on another state than the one it meets is discarded whole (counted in
 * store_discarded; store_was_discarded tells which). A draft that is open or proposed (draft_end) is settled: if
 * this is its own entry, `changed` is not called for it; if another change set comes first, the draft is undone
 * through its own `changed` before that one is applied. Bytes of messages are stored as received, never re-packed.
 *
 * ERR_CORRUPT: the bytes are no change set of ours (feature level too high, damaged, out of order): the manager
 * must stop; what was applied before stays. ERR_IO: LMDB failed; the file was discarded, the store is empty at
 * index 0, an open draft is forgotten without `changed`; whoever keeps indexes empties them and feeds snapshot and
 * log again. If no new file can be made either (full disk) every call tries again, and returns ERR_IO until it can.
 */
int store_apply(struct store *s, const struct store_entry *entries, size_t count, store_changed *changed, void *ctx,
                struct err *e);
/* Whether the disk has room for what comes next: ask before proposing, so that no store_apply meets a full disk. 0,
 * or ERR_UNAVAILABLE. Cheap while there is. */
int store_room(struct store *s, struct err *e);
uint64_t store_discarded(const struct store *s);
/* Whether the entry of that index was discarded; kept for the last 64. */
bool store_was_discarded(const struct store *s, uint64_t index);

/* --- views ----------------------------------------------------------------------------------------------- */

struct view;

/* Cheap (no system call). Several may be open. */
struct view *view_begin(struct store *s);
void view_end(struct view *v);

/* ERR_NOT_FOUND when absent, ERR_CORRUPT when the record is damaged (store_failed). The message is unpacked into
 * the arena. */
int view_get(struct view *v, enum kind k, uint64_t number, struct arena *a, struct object *ret);
/* Numbers; 0 when absent. Names compare without regard to case; of several objects with the name, the oldest. */
uint64_t view_find_id(struct view *v, enum kind k, const uint8_t id[16]);
uint64_t view_find_name(struct view *v, enum kind k, const char *name);
/* All of that name, oldest first; returns how many there are, at most max. */
size_t view_find_names(struct view *v, enum kind k, const char *name, uint64_t *ret, size_t max);
/* The least number above `after`; 0 at the end. For listing in order of creation, in slices. */
uint64_t view_next(struct view *v, enum kind k, uint64_t after);
/* The stored bytes of the message, borrowed until the view ends or the next call on it: for copying packed objects.
 */
int view_get_packed(struct view *v, enum kind k, uint64_t number, const void **ret_data, size_t *ret_size,
                    struct object *ret_header);
/* Up to `max` numbers of objects whose id begins with this text (base 36); returns how many there are, at most max.
 */
size_t view_find_prefix(struct view *v, enum kind k, const char *prefix, uint64_t *ret, size_t max);

/* --- drafts ---------------------------------------------------------------------------------------------- */

struct draft;

/* One at a time. Begins from the last applied state, for cluster time `cluster_ms` (or the store's, if that is
 * later). `changed` is called as the draft grows (and, arguments swapped, as it shrinks), so that warm indexes
 * follow it. A proposed draft that is still waiting for its entry is dropped first: a leader opens drafts only when
 * nothing of an earlier term can come any more. */
struct draft *draft_begin(struct store *s, int64_t cluster_ms, store_changed *changed, void *ctx);

/* A change set was applied since it began (its own or another), or the state was replaced: nothing that was put
 * before is pending any more, and what it would be packed to now is void. End it. */
bool draft_stale(const struct draft *d);

int64_t draft_ms(const struct draft *d);
/* As the view functions, seeing what was put. Messages in the draft's arena, valid until it ends. */
int draft_get(struct draft *d, enum kind k, uint64_t number, struct object *ret);
uint64_t draft_find_id(struct draft *d, enum kind k, const uint8_t id[16]);
uint64_t draft_find_name(struct draft *d, enum kind k, const char *name);
struct arena *draft_arena(struct draft *d);

/* Put a new object; returns its number. The message is copied; it must be complete (required fields, 16 bytes of
 * id). Names are not checked for uniqueness: look with draft_find_name before. For KIND_STATUS use draft_put with
 * the task's number. */
uint64_t draft_create(struct draft *d, enum kind k, const ProtobufCMessage *message);
void draft_put(struct draft *d, enum kind k, uint64_t number, const ProtobufCMessage *message);
/* A task's status goes with it. Nothing happens when there is no such object. */
void draft_delete(struct draft *d, enum kind k, uint64_t number);

/* Marks: undo everything put since, e.g. when one of many requests in a draft fails. */
size_t draft_mark(const struct draft *d);
void draft_undo(struct draft *d, size_t mark);

size_t draft_objects(const struct draft *d); /* that the change set would write or delete */
size_t draft_bytes(const struct draft *d);   /* about the size of the change set */
bool draft_empty(const struct draft *d);

/* The change set, appended to `out`. Pack last: what is put afterwards needs another packing. */
void draft_pack(struct draft *d, struct buf *out);

/* End it.
 *
 * keep false: everything is undone, indexes follow.
 *
 * keep true: it was packed and proposed. The indexes go on showing it, and the store keeps what it needs to undo
 * it, until one of these settles it: its entry is applied (`changed` is silent for that one); another change set is
 * applied first, or draft_begin or store_drop_proposed is called (it is undone through its `changed`); the state is
 * replaced or discarded (it is forgotten). It may be called right after proposing, or when the entry was applied.
 */
void draft_end(struct draft *d, bool keep);

/* Undo a proposed draft: the leader lost its place, and nobody knows whether the entry will still come. If it does,
 * `changed` tells it like any other. Nothing happens when no draft is proposed. */
void store_drop_proposed(struct store *s);

/* --- feed ------------------------------------------------------------------------------------------------ */

/* Applied change sets since `after`, oldest first: for consumers that keep an index. `each` gets every changed
 * object (message unpacked into the arena; NULL message: deleted). Returns 0 and sets *ret_index to the last
 * applied index, or ERR_LIMIT: fell out of the ring (or the state was replaced), read everything again. */
typedef void feed_each(void *ctx, uint64_t index, const struct object *object);
int store_feed(struct store *s, uint64_t after, struct arena *a, feed_each *each, void *ctx, uint64_t *ret_index);

/* The same for objects of some kinds alone (FEED_KIND | FEED_KIND...): the others cost next to nothing. */
#define FEED_KIND(kind) (UINT32_C(1) << (kind))
int store_feed_kinds(struct store *s, uint64_t after, uint32_t kinds, struct arena *a, feed_each *each, void *ctx,
                     uint64_t *ret_index);

/* --- snapshots ------------------------------------------------------------------------------------------- */

/* One stable state as a stream of bytes (format, applied index, records as stored but in clear: the snapshot file
 * seals them itself). begin and end on the manager loop, read on one other thread. Several may be open. NULL: there
 * is no file to read (store_failed). */
struct store_snapshot;
struct store_snapshot *store_snapshot_begin(struct store *s);
uint64_t store_snapshot_index(const struct store_snapshot *p);
/* Fill; returns bytes, 0 at the end, or a code. ERR_CANCELED: the file had to grow under it (rare: room is made
 * when it begins); begin another. ERR_CORRUPT: a record is damaged. */
long store_snapshot_read(struct store_snapshot *p, void *into, size_t size, struct err *e);
void store_snapshot_end(struct store_snapshot *p); /* also after store_close; NULL is fine */

/* Replace everything by a snapshot's bytes, given piece by piece; the state changes only at load_end, to exactly
 * the snapshot's, with its applied index. Until then the store is used as before. One at a time. Pieces are of any
 * size; one of 32 KiB takes a few milliseconds. ERR_CORRUPT: the bytes are no snapshot of ours. ERR_IO: the file
 * could not be made or written. At load_end no view is open; an open draft is forgotten without `changed`,
 * consumers of the feed resync, indexes are to be rebuilt. */
struct store_load;
struct store_load *store_load_begin(struct store *s);
int store_load_add(struct store_load *l, const void *data, size_t size, struct err *e);
int store_load_end(struct store_load *l, struct err *e); /* frees l, also on error */
void store_load_cancel(struct store_load *l);
