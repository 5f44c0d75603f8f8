/* The log in memory: for every kept entry its term and its place on disk, and for the newest ones their contents.
 *
 * Contents stay until they are durable, applied, and more than `memory_max` bytes of newer ones follow; older
 * entries are read from the disk again by whoever needs them (a lagging member, a restart). Entries that change the
 * membership stay in memory always: they are small, few, and wanted at every restart of the core.
 *
 * Pure data; on the loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/raft/log.h"

/* Contents of several entries in one allocation, shared by the tail and by writes under way. On the loop. */
struct block {
    unsigned references;
    size_t size;
    uint8_t bytes[];
};

struct block *block_new(size_t size); /* one reference */
struct block *block_ref(struct block *b);
void block_unref(struct block *b); /* NULL is fine */

struct tail_entry { /* one whose contents are in memory */
    uint64_t term;
    const uint8_t *data; /* in the block */
    uint32_t size;
    uint8_t type;
    struct block *block; /* a reference */
};

struct tail_run { /* entries from `index` on have this term, up to the next run */
    uint64_t index, term;
};

struct tail_change { /* an entry that changes the membership */
    uint64_t index, term;
    uint8_t *data; /* owned */
    uint32_t size;
};

struct ring { /* items appended at the end, dropped at both ends */
    void *items;
    size_t start, count, capacity;
};

struct tail {
    uint64_t base_index; /* entry before the first kept one; 0: the log is kept from entry 1 on */
    uint64_t base_term;  /* 0: not known */
    uint64_t last;       /* base_index when no entry is kept */
    uint64_t held;       /* first entry whose contents are in memory; last + 1: none */
    struct ring places;  /* of disklog_place, of base_index + 1.. ; segment 0: not durable yet */
    struct ring entries; /* of tail_entry, of held.. */
    struct ring runs;    /* of tail_run */
    struct ring changes; /* of tail_change */
    size_t memory;       /* bytes of contents held */
};

void tail_init(struct tail *t);
void tail_fini(struct tail *t);

/* Begin anew behind an entry. */
void tail_reset(struct tail *t, uint64_t index, uint64_t term);

/* Append last + 1, whose contents are in a block (a reference is taken). */
void tail_append(struct tail *t, uint64_t term, uint8_t type, const uint8_t *data, uint32_t size, struct block *b);
/* Append last + 1, which stands on disk. `data` is kept only of a change of membership. */
void tail_append_stored(struct tail *t, uint64_t term, uint8_t type, const uint8_t *data, uint32_t size,
                        struct disklog_place place);
void tail_cut(struct tail *t, uint64_t from);                       /* drop from..last */
void tail_drop(struct tail *t, uint64_t upto);                      /* forget ..upto, which a snapshot stands for */
void tail_forget(struct tail *t, uint64_t upto, size_t memory_max); /* contents only */

static inline uint64_t tail_first(const struct tail *t)
{
    return t->base_index + 1;
}

/* 0 when it is not known. */
uint64_t tail_term(const struct tail *t, uint64_t index);
/* NULL when the contents are not in memory. */
const struct tail_entry *tail_get(const struct tail *t, uint64_t index);
struct disklog_place tail_place(const struct tail *t, uint64_t index);
void tail_set_place(struct tail *t, uint64_t index, struct disklog_place place);
/* The last change of membership at or below an index; NULL: none kept. */
const struct tail_change *tail_change_at(const struct tail *t, uint64_t index);
/* The first one above an index; NULL: none. */
const struct tail_change *tail_change_after(const struct tail *t, uint64_t index);
