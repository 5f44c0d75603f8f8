/* What the files of manager/store share behind store.h. */
#pragma once

#include "manager/store/disk.h"
#include "manager/store/row.h"
#include "manager/store/store.h"
#include "proto/base/list.h"

#define DISCARDS_KEPT 64

/* Applied change sets, kept in memory (feed.c). */
struct feed {
    struct list entries; /* oldest first */
    size_t bytes, bytes_max;
    uint64_t floor; /* nothing up to this index can be told any more */
};

struct store {
    struct disk_config config; /* `dir` owned */
    struct disk *disk;         /* NULL: no file could be made; everything reads as empty */
    struct err failure;        /* code 0, or why the file cannot be trusted: the next apply discards it */
    struct state state;        /* as of the last commit */
    struct list views;         /* view.link, idle ones */
    size_t views_open;
    struct draft *draft;     /* open, or proposed and not yet applied */
    struct store_load *load; /* under way */
    struct feed feed;
    uint64_t discarded;               /* change sets that were planned on another state */
    uint64_t discards[DISCARDS_KEPT]; /* their indexes, the newest at discarded % DISCARDS_KEPT - 1 */
};

extern const struct state state_empty;

/* Something was read that cannot be: remember why, for store_failed and the next apply. */
void store_suspect(struct store *s, const char *what);
/* Give up the file, its feed and an open draft; make an empty one if that can be. `why` is logged. */
void store_throw_away(struct store *s, const struct err *why);
/* Take `disk` and `state` in place of what there is. */
void store_replace(struct store *s, struct disk *disk, const struct state *state);

/* --- view.c */
void views_free(struct store *s); /* the idle ones */
/* The record, opened, borrowed from the view until the next call. ERR_NOT_FOUND, ERR_CORRUPT. */
int view_row(struct view *v, enum kind k, uint64_t number, struct row *ret);
bool view_has(struct view *v, enum kind k, uint64_t number);
/* Numbers of the objects of that name, least first, one per call: pass the one before, 0 to begin; 0 at the end. */
uint64_t view_next_named(struct view *v, enum kind k, const char *name, size_t length, uint64_t after);
void row_object(enum kind k, uint64_t number, const struct row *r, const ProtobufCMessage *message,
                struct object *ret);

/* --- feed.c */
void feed_init(struct feed *f, size_t bytes_max, uint64_t floor);
void feed_reset(struct feed *f, uint64_t floor); /* forget everything up to `floor` */
/* A change set that was applied, with the time of creation of each object it wrote. */
void feed_add(struct feed *f, uint64_t index, int64_t at_ms, const void *data, size_t size,
              const int64_t *created_ms, size_t count);

/* --- draft.c */
/* Whether these bytes are what the draft was packed to. */
bool draft_is(const struct draft *d, const void *data, size_t size);
/* Its entry was applied: what it holds is now the store's. */
void draft_applied(struct draft *d);
/* Another change set came first: undo everything, indexes follow. */
void draft_drop(struct draft *d);
/* The whole state was replaced: forget everything, indexes are rebuilt by their owner. */
void draft_forget(struct draft *d);
/* After any of these, once the store has its new state: what is read and numbered from now on is of that one. The
 * change set that comes of it names the old one, and is void. */
void draft_moved(struct draft *d);
