/* Everything outside the Raft code: files, threads, timer, clock, randomness, and the links to the other members.
 *
 * A replica is given one environment and touches the machine through nothing else. replica_env_real is the machine
 * (env_real.c); the simulation has its own, where disks tear, networks lose and clocks run apart.
 *
 * Threads. The replica lives on one loop. What may block runs as a job on a lane: a serial executor with a thread
 * of its own. work() runs on the lane, then done() on the loop, both exactly once and in order of posting. There
 * are two lanes: the log's, where nothing but log, term and vote is written, and the bulk lane for snapshots, old
 * entries and spare segments. The file functions block and are called on a lane, or on the loop while a replica is
 * being opened.
 *
 * Links. send() hands over one message of message.h for another member and may lose it, never damage it; the bytes
 * are copied. on_message says who sent it by the identity the link was authenticated with, not by what the message
 * claims. Three channels keep what must be quick from queueing behind what is large. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/base/list.h"

struct uv_loop_s;

enum env_lane { ENV_LANE_LOG, ENV_LANE_BULK, ENV_LANES };

struct env_job {
    struct list link;                  /* the environment's while posted */
    void (*work)(struct env_job *job); /* on the lane */
    void (*done)(struct env_job *job); /* on the loop; the job is the poster's again */
};

enum env_open {
    ENV_OPEN_READ,   /* an existing file */
    ENV_OPEN_CREATE, /* new or emptied; written through the page cache, durable with sync */
    ENV_OPEN_SYNCED, /* an existing file; each write is durable when it returns (O_DSYNC) */
};

struct env_file; /* an open file; used by one thread at a time */

enum env_channel {
    ENV_CHANNEL_CONTROL, /* votes, heartbeats, acknowledgements: small, never behind the others */
    ENV_CHANNEL_ENTRIES, /* entries of the log */
    ENV_CHANNEL_BULK,    /* chunks of snapshots */
};

/* What the environment tells the replica; all on the loop, never from inside a call of the replica. */
struct env_events {
    void *ctx;
    void (*on_wake)(void *ctx); /* once after each wake(), or once for several */
    void (*on_timer)(void *ctx);
    void (*on_message)(void *ctx, uint64_t from, const void *data, size_t size); /* borrowed for the call */
    /* The link to that member closed and dialling it again was refused: its process is gone. */
    void (*on_gone)(void *ctx, uint64_t member);
};

struct replica_env {
    struct clock *clock;
    struct entropy *entropy;

    /* From attach on, events come. detach: no further event; `closed` comes once the lanes are idle, after every
     * done(), and is the last call. */
    void (*attach)(struct replica_env *env, const struct env_events *events);
    void (*detach)(struct replica_env *env, void (*closed)(void *ctx), void *ctx);

    void (*post)(struct replica_env *env, enum env_lane lane, struct env_job *job);
    void (*wake)(struct replica_env *env);                   /* call on_wake soon */
    void (*timer)(struct replica_env *env, int64_t mono_ms); /* call on_timer then; replaces the former; -1: off */

    int (*dir_make)(struct replica_env *env, const char *path, struct err *e);
    int (*dir_list)(struct replica_env *env, const char *path, void (*each)(void *ctx, const char *name), void *ctx,
                    struct err *e);
    int (*dir_sync)(struct replica_env *env, const char *path,
                    struct err *e); /* names made, renamed, removed in it */

    int (*file_open)(struct replica_env *env, const char *path, enum env_open how, struct env_file **ret,
                     struct err *e);
    int (*file_size)(struct env_file *f, uint64_t *ret, struct err *e);
    long (*file_read)(struct env_file *f, uint64_t offset, void *into, size_t size,
                      struct err *e); /* less: the end */
    int (*file_write)(struct env_file *f, uint64_t offset, const void *data, size_t size, struct err *e);
    int (*file_reserve)(struct env_file *f, uint64_t size, struct err *e); /* room on the disk; reads as zeroes */
    int (*file_cut)(struct env_file *f, uint64_t size, struct err *e);     /* to this size */
    int (*file_sync)(struct env_file *f, struct err *e);
    void (*file_close)(struct env_file *f);
    int (*file_rename)(struct replica_env *env, const char *from, const char *to, struct err *e);
    int (*file_remove)(struct replica_env *env, const char *path, struct err *e); /* absent is fine */

    void (*send)(struct replica_env *env, uint64_t to, const char *address, enum env_channel channel,
                 const void *data, size_t size);
};

struct links; /* links.h */

/* The machine, on a libuv loop. The links are borrowed, and one environment's at a time; NULL: what is sent is
 * lost.
 */
struct replica_env *replica_env_real(struct uv_loop_s *loop, struct links *links);
/* Once the replica it was given to has closed, or when none was ever opened with it; then its handles close as the
 * loop goes on. NULL is fine. */
void replica_env_real_free(struct replica_env *env);
