/* A disk that fails the way disks fail.
 *
 * What is written is in the page cache until it is synced (or was written with ENV_OPEN_SYNCED); names made,
 * renamed and removed are in the cache until their directory is synced. Killing the process loses neither; losing
 * power loses a random part of what was not synced: any sectors, and the names from some point on. The operation
 * during which the crash happens is done in part: a synced write tears at sectors, or at pages when only the
 * process dies. A broken disk fails as Linux reports it: once. What could not be written stays in the cache, is
 * read from there, and is taken for clean: a later sync succeeds and writes nothing.
 *
 * Sizes, offsets and contents are exact, so the production code runs on it unchanged. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "proto/base/entropy.h"
#include "proto/base/list.h"

#define DISK_SECTOR 512
#define DISK_PAGE   4096

struct disk_node { /* contents; names point to it */
    struct list all;
    unsigned names, handles; /* in either name space; open files */
    uint8_t *cache, *durable;
    size_t size, durable_size;
    size_t dirty_from, dirty_to; /* bytes of the cache that may not be durable */
};

struct disk_name {
    char *path;
    struct disk_node *node;
};

struct disk_names {
    struct disk_name *names;
    size_t count;
};

struct disk_change { /* of a name, not yet durable */
    struct list link;
    char *gone;             /* name taken away; NULL: none */
    char *path;             /* name given; NULL: none */
    struct disk_node *node; /* to this */
};

struct disk {
    struct entropy *entropy; /* borrowed */
    struct list nodes;
    struct disk_names cache, durable;
    struct list changes; /* of disk_change, oldest first */

    uint64_t operations; /* done so far */
    uint64_t crash_at;   /* crash during this one; 0: never */
    bool crashed;        /* every operation fails from now on */
    bool power;          /* the crash is a loss of power */
    bool full;           /* nothing grows */
    uint64_t fill_at;    /* full from this operation on; 0: never */
    bool broken;         /* synced writes and syncs fail, other operations sometimes */
    void (*on_crash)(void *ctx);
    void *ctx;
    uint64_t torn;   /* synced writes that a crash tore */
    uint64_t unsaid; /* synced writes that failed, with their bytes left in the cache */
};

void disk_init(struct disk *d, struct entropy *entropy);
void disk_fini(struct disk *d);

/* The process or the machine dies now, unless it has. */
void disk_crash(struct disk *d, bool power);
/* The machine is back: what was not durable at a loss of power is gone. Open files must have been closed. */
void disk_restart(struct disk *d);

/* For tests: a file's contents as they would be read; NULL when absent. */
struct disk_node *disk_find(struct disk *d, const char *path);
/* Change what is on the disk: a node's bytes, in cache and durable alike. */
void disk_flip(struct disk_node *n, size_t byte, uint8_t mask);
void disk_zero(struct disk_node *n, size_t from, size_t size); /* as far as the file goes */
void disk_truncate(struct disk_node *n, size_t size);
void disk_remove_name(struct disk *d, const char *path);
/* Call for each name that begins so. */
void disk_each(struct disk *d, const char *prefix, void (*each)(void *ctx, const char *path, struct disk_node *n),
               void *ctx);

/* Put the file functions into an environment. disk_of says which disk an environment has, the same in one program.
 */
void disk_serve(struct replica_env *env, struct disk *(*disk_of)(struct replica_env *env));
