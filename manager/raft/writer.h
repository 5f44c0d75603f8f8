/* The one writer of log, term and vote: takes what the loop queued, writes everything that waits at once on the log
 * lane, and tells the loop what is durable.
 *
 * What an entry's write means is not simply "durable up to here" (reference/raft-step.md 2.4): by the time it ends,
 * the entry may have been cut, or cut and replaced by one of the same term whose write is still to come. So the
 * writer reports only entries that are (a) still in the log in memory with the term that was written, and (b) below
 * the first index of every cut queued after that write. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "manager/raft/log.h"
#include "manager/raft/tail.h"
#include "proto/base/list.h"

struct writer_events { /* on the loop, never from inside a call */
    void *ctx;
    void (*on_durable)(void *ctx, uint64_t index);     /* everything up to it, as the log is now; may repeat */
    void (*on_voted)(void *ctx);                       /* term and vote are stored */
    void (*on_reset)(void *ctx);                       /* the log has begun anew */
    void (*on_closed)(void *ctx);                      /* the closing mark is written, or could not be */
    void (*on_full)(void *ctx);                        /* the disk has no room for a segment: writer_retry later */
    void (*on_failed)(void *ctx, const struct err *e); /* nothing may be written any more */
};

struct writer {
    struct replica_env *env; /* borrowed */
    struct disklog *log;     /* borrowed; the lane's while a job runs */
    struct tail *tail;       /* borrowed; gets the places */
    struct writer_events events;
    struct list order; /* of writer_item.by_order: queued and not yet reported; the loop's */
    unsigned cuts;     /* how many of them cut the log */
    bool failed;       /* the loop knows of it */

    pthread_mutex_t lock;
    struct list waiting; /* of writer_item.by_waiting: the next job takes them all */
    bool posted;         /* a job that has not taken them yet is on its way */
    bool full;           /* nothing is taken until writer_retry */
    bool broken;         /* a write failed: nothing is written any more */
};

void writer_init(struct writer *w, struct replica_env *env, struct disklog *log, struct tail *tail,
                 const struct writer_events *events);
void writer_fini(struct writer *w); /* the lane must be idle */

/* Entries that tail_append just put behind the log; `cut`: they replace what was there. */
void writer_entries(struct writer *w, uint64_t first, unsigned count, bool cut);
void writer_vote(struct writer *w, uint64_t term, uint64_t vote);
void writer_reset(struct writer *w, uint64_t index, uint64_t term);
void writer_mark(struct writer *w);  /* note how far the log reaches, when it has been idle */
void writer_close(struct writer *w); /* the same, as the last thing */
void writer_retry(struct writer *w); /* there may be room again */

bool writer_idle(const struct writer *w); /* everything queued is reported */
int64_t writer_since_us(
    const struct writer *w); /* since when the oldest of it waits, by the env's clock; -1: idle */
