/* One member of the Raft group: the door of manager/raft (DESIGN.md section 5, reference/raft-step.md).
 *
 * Inside: libraft's step core with its guards, our sealed log on disk, term and vote, snapshots, membership, and
 * from issue 4 the transport. Outside, the control loop proposes bytes and is given committed bytes in order.
 * raft.h is included nowhere else.
 *
 * Everything outside the machine is an interface (struct replica_env), so that the simulation runs this very code
 * on a simulated disk, clock and network. All calls and callbacks on the manager loop; no callback comes from
 * inside a call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/store/seal.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"

struct replica;
struct replica_env; /* manager/raft/env.h: files, threads, timers, transport; replica_env_real makes the machine's
                     */

enum replica_state { REPLICA_FOLLOWER, REPLICA_CANDIDATE, REPLICA_LEADER };

struct replica_entry {
    uint64_t index, term;
    const void *data; /* what was proposed; NULL for barriers and configurations. Borrowed for the call */
    size_t size;
};

/* Where a snapshot's bytes come from; read on the snapshot thread. Same as store_snapshot_*. */
struct replica_snapshot_source {
    void *ctx;
    long (*read)(void *ctx, void *into, size_t size, struct err *e); /* 0 at the end */
    void (*end)(void *ctx);                                          /* on the loop, after the last read */
    uint64_t index;                                                  /* applied index it stands for */
};

struct replica_events {
    void *ctx;
    /* Leadership changed, here or as replica_leader tells it. LEADER comes only once the new term's barrier is
     * applied: drafts may be opened. On loss every proposal under way is answered with ERR_UNAVAILABLE first
     * ("outcome unknown"). */
    void (*on_state)(void *ctx, enum replica_state state, uint64_t term);
    /* Committed and locally durable entries, in order, each exactly once since open, beginning after `applied` of
     * the config. One batch per turn. A code stops the replica (on_fatal). */
    int (*on_apply)(void *ctx, const struct replica_entry *entries, size_t count, struct err *e);
    /* Give a source for a snapshot of the present state. */
    int (*on_snapshot)(void *ctx, struct replica_snapshot_source *ret, struct err *e);
    /* A snapshot replaces the state: begin, pieces, end (index, or an error to drop it). */
    int (*on_restore)(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e);
    /* The log cannot be trusted or written: the process must stop, loudly. */
    void (*on_fatal)(void *ctx, const struct err *e);
    /* A digest of the state after the entries that were applied, for comparing it with other members'. NULL: none.
     */
    uint64_t (*on_digest)(void *ctx);
    /* A leader says that this member was removed. It asks for no votes any more. May be NULL. */
    void (*on_removed)(void *ctx);
};

struct replica_config {
    const char *dir;               /* log/, snapshots/ and the term file below it */
    uint64_t id;                   /* Raft id; never reused in a cluster */
    const char *address;           /* host:port of this member */
    const uint8_t *key;            /* SEAL_KEY bytes; borrowed during open */
    const uint8_t *cluster;        /* 16 bytes */
    uint64_t epoch;                /* of the cluster; messages of another are refused */
    uint64_t applied;              /* index the store holds already; it is not given again */
    int election_ms, heartbeat_ms; /* 0: 500, 50 */
    uint64_t segment_bytes;        /* 0: 8 MiB */
    uint64_t snapshot_bytes;       /* least log between snapshots; 0: 64 MiB */
    struct replica_env *env;
};

/* Make the first member's log: term 1 and a configuration of it alone as entry 1. ERR_EXISTS when there is one. */
int replica_bootstrap(const struct replica_config *config, struct err *e);

/* Make what is on disk a group of this member alone, before it is opened, for when the others are lost for good.
 * All entries that are here stay and become committed, also those that no majority had: more than was acknowledged,
 * never less, as far as this member had it. May be tried again after a crash at any moment. Members that are left
 * behind must be kept away by a higher epoch. ERR_PRECONDITION when the log is empty. */
int replica_force(const struct replica_config *config, struct err *e);

/* Open what is on disk. Restores from the snapshot through on_restore when `applied` is below it. Damaged or
 * foreign files are refused by name and position; a torn tail of the last write is cut. */
int replica_open(const struct replica_config *config, const struct replica_events *events, struct replica **ret,
                 struct err *e);
void replica_close(struct replica *r, void (*closed)(void *ctx), void *ctx);

uint64_t replica_id(const struct replica *r);
enum replica_state replica_state(const struct replica *r);
uint64_t replica_term(const struct replica *r);
uint64_t replica_leader(const struct replica *r, const char **ret_address); /* its id; 0: none known */
uint64_t replica_last_index(const struct replica *r);
uint64_t replica_commit_index(const struct replica *r);

/* Propose; leader only. `done` comes after on_apply of that entry with code 0 and its index, or with
 * ERR_UNAVAILABLE when leadership was lost before (the outcome is unknown). Data is copied. At most 2 MiB.
 * ERR_UNAVAILABLE at once when not leader; ERR_LIMIT when too much is under way. */
int replica_propose(struct replica *r, const void *data, size_t size,
                    void (*done)(void *ctx, const struct err *e, uint64_t index), void *ctx, struct err *e);

/* Why nothing can be proposed now: it does not lead, hands over, or a disk is full (ERR_UNAVAILABLE). 0: it can. */
int replica_blocked(const struct replica *r, struct err *e);

/* Strong read: `done` comes once this member knows it still leads and has applied everything committed before the
 * call. One round for all that wait. */
int replica_read(struct replica *r, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e);

struct replica_member {
    uint64_t id;
    const char *address;
    bool voter;
    uint64_t match;   /* leader: highest entry known to be there */
    int64_t heard_ms; /* leader: since it was heard from; -1 never */
};
size_t replica_members(const struct replica *r, struct replica_member *ret, size_t max);

struct replica_stats { /* for metrics and tests */
    uint64_t log_bytes, writes, syncs, snapshots, entries;
    int64_t longest_write_us;
    uint64_t cuts;     /* of the log, by a new leader */
    uint64_t restarts; /* of the core, by its guards */
    uint64_t installs; /* of a leader's snapshot */
    uint64_t refused;  /* messages that made no sense */
    uint64_t fetches;  /* old entries read again for a member that lags */
};
void replica_stats(const struct replica *r, struct replica_stats *ret);
