/* The term file: what a member must remember besides the log. Term and vote are one record (a vote is worth nothing
 * without its term), and the mark says how far the log is known to reach, so that a log that lost its end is
 * noticed.
 *
 * The file holds the record twice. A write replaces the first copy, then the second, and returns when both are on
 * the disk; so whichever copy a crash tears or a disk damages, the other is whole and right. Both gone is refused.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "manager/store/seal.h"
#include "proto/base/err.h"

struct meta_state {
    uint64_t term;
    uint64_t vote;         /* Raft id; 0: none in this term */
    uint64_t mark_segment; /* the log reaches at least here: sequence of the segment, 0: nothing known */
    uint64_t mark_offset;  /* end of the last durable write in it */
    bool clean;            /* written by closing: nothing was under way after the mark */
};

struct meta {
    struct replica_env *env; /* borrowed */
    struct env_file *file;   /* owned */
    const uint8_t *key;      /* SEAL_KEY bytes, borrowed */
    uint8_t cluster[16];
    uint64_t id;             /* whose file it is */
    uint64_t count;          /* of writes; the newer copy has the greater */
    struct meta_state state; /* as on disk */
};

/* Make the file: written aside, synced and renamed. ERR_EXISTS is not checked. */
int meta_create(struct replica_env *env, const char *path, const uint8_t *key, const uint8_t cluster[16],
                uint64_t id, const struct meta_state *state, struct err *e);

/* ERR_NOT_FOUND when there is none; ERR_CORRUPT when neither copy is whole, or it is another member's. A copy that
 * is not whole or older is replaced. */
int meta_open(struct meta *m, struct replica_env *env, const char *path, const uint8_t *key,
              const uint8_t cluster[16], uint64_t id, struct err *e);
int meta_write(struct meta *m, const struct meta_state *state, struct err *e); /* durable on return */
void meta_close(struct meta *m);
