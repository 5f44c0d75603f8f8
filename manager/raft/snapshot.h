/* Snapshots on disk: one sealed file each, written aside, synced and renamed, so a file that has its name is whole.
 *
 *     <dir>/<16 hex digits of the index>
 *     <dir>/take.tmp, <dir>/pull.tmp       being written
 *
 * The contents are the store's bytes, cut into chunks of equal size that are sealed one by one and can be read one
 * by one; the end of the file holds the digest of them all. Functions block: the bulk lane, or the loop while it
 * opens. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "manager/store/seal.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"

#define SNAPSHOT_CHUNK_MAX (1 << 20)
#define SNAPSHOT_TAKEN     "take.tmp"
#define SNAPSHOT_PULLED    "pull.tmp"

struct snapshots {           /* where they are and how they are sealed */
    struct replica_env *env; /* borrowed */
    char *dir;               /* owned */
    uint8_t key[SEAL_KEY];
    uint8_t cluster[16];
    uint32_t chunk_bytes; /* of new ones */
};

struct snapshot_info {
    uint64_t index, term;         /* the last entry it stands for */
    uint64_t configuration_index; /* of the last change of membership in it */
    uint8_t *configuration;       /* as libraft encodes it; owned */
    uint32_t configuration_size;
    uint32_t chunk_bytes;
    uint64_t chunks, bytes;       /* contents */
    uint8_t digest[SHA256_BYTES]; /* of the contents */
};

void snapshot_info_copy(struct snapshot_info *to, const struct snapshot_info *from); /* `to` is overwritten */
void snapshot_info_fini(struct snapshot_info *info);

void snapshots_init(struct snapshots *s, struct replica_env *env, const char *dir, const uint8_t *key,
                    const uint8_t cluster[16], uint32_t chunk_bytes);
void snapshots_fini(struct snapshots *s);

/* The newest one's index, 0: none. Removes what was being written. */
int snapshots_find(struct snapshots *s, uint64_t *ret_index, struct err *e);
int snapshots_remove_before(struct snapshots *s, uint64_t index, struct err *e);

/* --- reading -------------------------------------------------------------------------------------- */

struct snapshot; /* an open file; stays readable when it is removed */

/* ERR_CORRUPT names the file and what is wrong with it. */
int snapshot_open(struct snapshots *s, uint64_t index, struct snapshot **ret, struct err *e);
const struct snapshot_info *snapshot_get_info(const struct snapshot *p);
int snapshot_chunk(struct snapshot *p, uint64_t number, struct buf *into, struct err *e); /* appended */
int snapshot_verify(struct snapshot *p, struct err *e);                                   /* reads all of it */
void snapshot_close(struct snapshot *p);                                                  /* NULL is fine */

/* --- writing -------------------------------------------------------------------------------------- */

struct snapshot_out; /* being written under one of the two names */

/* index, term, configuration and chunk_bytes of info count. */
int snapshot_out_open(struct snapshots *s, const char *name, const struct snapshot_info *info,
                      struct snapshot_out **ret, struct err *e);
/* Every chunk but the last has chunk_bytes. */
int snapshot_out_add(struct snapshot_out *o, const void *data, size_t size, struct err *e);
/* Finish the file and sync it. *ret_info gets all of it (snapshot_info_fini). */
int snapshot_out_end(struct snapshot_out *o, struct snapshot_info *ret_info, struct err *e);
void snapshot_out_free(struct snapshot_out *o); /* closes; the file stays; NULL is fine */
/* Give a finished file its name, durably. */
int snapshot_publish(struct snapshots *s, const char *name, uint64_t index, struct err *e);
