/* What log.c and log_open.c share: the open log and its files. */
#pragma once

#include <pthread.h>

#include "manager/raft/log.h"

struct disklog_ended { /* a segment that has a successor and is longer than its contents */
    uint32_t sequence;
    uint64_t end, bytes;
};

struct disklog_window {    /* what the bulk lane read last */
    struct env_file *file; /* owned; NULL: none */
    struct seal *seal;     /* owned, of that segment */
    uint32_t sequence;     /* of that segment */
    uint64_t from;         /* offset of the first byte in data */
    struct buf data;
};

struct disklog {
    struct replica_env *env; /* borrowed */
    char *dir;               /* of the segments */
    uint8_t key[SEAL_KEY];
    uint8_t cluster[16];
    uint64_t segment_bytes;

    /* The log lane's. */
    struct meta meta;      /* term, vote, mark */
    struct env_file *file; /* the segment being written, owned; NULL: the next write begins one */
    struct seal *seal;     /* of that segment, owned */
    uint32_t sequence;     /* of the last segment with a header; 0: none yet */
    uint64_t at;           /* where its next write goes */
    uint64_t file_bytes;   /* of it */
    uint32_t records;      /* in it */
    uint32_t batch;        /* number of its last write */
    struct buf out;        /* bytes of a write being put together */

    /* Under the lock. */
    pthread_mutex_t lock;
    uint32_t oldest;             /* first segment kept */
    uint32_t active;             /* as sequence, for others */
    unsigned spares;             /* behind it */
    uint64_t used_bytes;         /* of the files of all kept segments */
    uint64_t writes;             /* so far */
    struct disklog_ended *ended; /* to be cut to their end, owned */
    size_t ended_count;

    /* The bulk lane's. */
    struct disklog_window window;
};

char *disklog_path(const struct disklog *l, uint32_t sequence); /* free it */
struct seal *disklog_seal(const struct disklog *l, const uint8_t salt[SEAL_SALT]);

/* Make a segment's file of zeroes at `path`: room reserved and, with `fill`, each block written once, so that later
 * writes change no metadata of the file system. Synced. */
int disklog_make_file(const struct disklog *l, const char *path, bool fill, struct err *e);
