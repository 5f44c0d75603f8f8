/* The Raft log on disk: sealed entries in preallocated segments, term and vote beside them.
 *
 *     <dir>/term                 meta.h
 *     <dir>/log/<16 hex digits>  segment.h; the number is its place in the sequence
 *     <dir>/log/spare.tmp, now.tmp  being made
 *
 * A segment without a header is a spare: preallocated, zeroed, waiting. The functions say which thread calls them:
 * the loop while it opens, the log lane or the bulk lane afterwards (env.h). What the lanes share is under a lock
 * that no one holds for longer than it takes to rename a file. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "manager/raft/meta.h"
#include "manager/raft/segment.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

#define DISKLOG_SPARES 2 /* always preallocated; below that a leader hands over */

struct disklog;

struct disklog_place { /* where an entry stands */
    uint32_t segment;  /* sequence */
    uint32_t offset;   /* of its record */
};

struct disklog_config {
    struct replica_env *env;
    const char *dir;        /* exists */
    const uint8_t *key;     /* SEAL_KEY bytes; copied */
    const uint8_t *cluster; /* 16 bytes */
    uint64_t id;            /* of this member */
    uint64_t segment_bytes; /* multiple of a sector */
};

/* What open finds, in the order it was written. */
struct disklog_found {
    void *ctx;
    /* An entry; with record->cut the ones from its index on are gone. */
    int (*entry)(void *ctx, const struct segment_record *record, struct disklog_place place, struct err *e);
    /* The log began anew behind that entry, which a snapshot stands for. */
    void (*reset)(void *ctx, uint64_t index, uint64_t term);
};

/* Whether a member lives here: it has a term file. */
int disklog_exists(const struct disklog_config *config, bool *ret, struct err *e);

/* Make the files of a member that does not exist yet: with an entry 1, or none (a joiner). What an earlier try left
 * unfinished is removed; a log without a term file that no such try explains is refused. */
int disklog_create(const struct disklog_config *config, uint64_t term, const struct segment_record *first,
                   struct err *e);

/* Read and check everything. ERR_CORRUPT names file and byte. What is returned to `found` is on the disk. */
int disklog_open(const struct disklog_config *config, const struct disklog_found *found, struct disklog **ret,
                 struct err *e);
void disklog_free(struct disklog *l); /* once the lanes are idle; NULL is fine */

uint64_t disklog_term(const struct disklog *l); /* as found by open */
uint64_t disklog_vote(const struct disklog *l);

/* --- on the log lane (or the loop, before the lanes have work) ------------------------------------ */

/* Term and vote, durable on return. */
int disklog_vote_put(struct disklog *l, uint64_t term, uint64_t vote, struct err *e);

/* Append entries, durable on return; sets their places. ERR_UNAVAILABLE: no segment is left and the disk has no
 * room for another; *ret_written entries are durable, the others were not touched and may be tried again. Any other
 * code: the log must not be used again. */
int disklog_write(struct disklog *l, struct segment_record *records, size_t count, struct disklog_place *ret_places,
                  size_t *ret_written, struct err *e);

/* Begin anew behind a snapshot; durable on return. ERR_UNAVAILABLE as above. */
int disklog_reset(struct disklog *l, uint64_t index, uint64_t term, struct err *e);

/* Note durably how far the log reaches; `clean`: nothing will be written after it. */
int disklog_mark(struct disklog *l, bool clean, struct err *e);
bool disklog_marked(const struct disklog *l); /* nothing was written since the mark */

/* --- on the bulk lane ----------------------------------------------------------------------------- */

/* Make one spare segment, unless there are enough, and give back what ended segments do not use. ERR_UNAVAILABLE:
 * no room. */
int disklog_spare(struct disklog *l, struct err *e);
/* Remove the segments before this one. */
int disklog_remove(struct disklog *l, uint32_t before, struct err *e);
/* Read entries again. begin before each run of reads; each appends the entry's contents to `into`. */
void disklog_read_begin(struct disklog *l);
int disklog_read(struct disklog *l, struct disklog_place place, uint64_t index, struct buf *into,
                 uint64_t *ret_term, uint8_t *ret_type, struct err *e);

/* --- anywhere ------------------------------------------------------------------------------------- */

uint32_t disklog_active(struct disklog *l); /* sequence of the segment written last; 0: none yet */
unsigned disklog_spares(struct disklog *l); /* ready now */
uint64_t disklog_bytes(struct disklog *l);  /* that the kept segments use */
uint64_t disklog_writes(struct disklog *l); /* so far */
