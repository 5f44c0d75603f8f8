/* libraft's step core, fenced in: every raft_step() of the project is in guard.c, with the guards that 0.22.1 needs
 * (reference/raft-step.md section 5, G1 to G17).
 *
 * The host is the driver. A call into the guard makes one or more steps; what they ask for comes back through the
 * host's callbacks, in the order in which it must be done, from inside the call. While the host has not yet stored
 * a term, a vote or a restart it must not call again. On the loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <raft.h>

#include "proto/base/err.h"

#define GUARDS 18 /* their numbers are 1 to 17 */

struct guard_host {
    void *ctx;
    int64_t (*now_ms)(void *ctx);
    uint64_t (*term_of)(void *ctx, uint64_t index); /* of a kept entry or the snapshot; 0: not known */
    bool (*settled)(void *ctx);                     /* everything is written and reported */
    unsigned short (*capacity)(void *ctx);          /* 0: the disk is full */
    /* The first entry above `after` that changes the membership, at or below `upto`. */
    bool (*change_after)(void *ctx, uint64_t after, uint64_t upto, uint64_t *ret_index, struct raft_buffer *ret);
    /* Term and vote aside, what RAFT_START needs. The array of entries, the one batch they all name, and the
     * metadata's configuration are raft_malloc'ed and the guard's from then on; payloads are borrowed. */
    void (*start)(void *ctx, struct raft_event *event);

    void (*on_vote)(void *ctx, uint64_t term, uint64_t vote); /* store both before anything else is done */
    /* Cut the log before `index`, if it reaches so far, and append; payloads are borrowed. */
    void (*on_entries)(void *ctx, uint64_t index, const struct raft_entry *entries, unsigned count);
    void (*on_install)(void *ctx, const struct raft_snapshot_metadata *metadata); /* begin; conf is the host's */
    void (*on_message)(void *ctx, const struct raft_message *message); /* entries are the host's to fill in */
    void (*on_state)(void *ctx);
    void (*on_commit)(void *ctx);
    /* Store term and vote, then call guard_restart, then send the reply (NULL: none). */
    void (*on_restart)(void *ctx, uint64_t term, uint64_t vote, const struct raft_message *reply);
    void (*on_fatal)(void *ctx, const struct err *e);
};

struct guard_config {
    uint64_t id;
    const char *address; /* borrowed */
    unsigned election_ms, heartbeat_ms, install_ms;
    unsigned window; /* entries under way to one member */
    unsigned seed;   /* of the election timer */
};

struct guard {
    struct raft core;
    struct guard_host host;
    struct guard_config config;
    bool running;          /* the core is initialised */
    raft_time time;        /* last one given to the core; never goes back */
    int64_t skew_ms;       /* by which the core's clock was advanced */
    int64_t heard_ms;      /* when a leader was heard last, by the core's clock */
    int64_t fired_ms;      /* when the timer fired last */
    uint64_t configured;   /* last change of membership the core was told is committed */
    uint64_t hits[GUARDS]; /* how often each guard stepped in */
};

/* Start the core with what is durable. A sole voter must have stored term + 1 and its vote before (guard_sole, G3).
 */
void guard_start(struct guard *g, const struct guard_host *host, const struct guard_config *config, uint64_t term,
                 uint64_t vote);
void guard_restart(struct guard *g, uint64_t term, uint64_t vote);
void guard_stop(struct guard *g);

/* Whether that member is the only voter. */
bool guard_sole(const struct raft_configuration *c, uint64_t id);
/* G3: whether a member with this newest configuration on disk must store term + 1 and a vote for itself before its
 * core starts with them. */
bool guard_begins_term(const struct raft_configuration *c, uint64_t id);

/* A message of libraft's six types, checked by message_get. Entries are borrowed; a configuration is taken. */
void guard_receive(struct guard *g, struct raft_message *m);

/* When guard_timeout must be called, in host time. */
int64_t guard_deadline(const struct guard *g);
void guard_timeout(struct guard *g);
/* The leader's process is gone for certain: let the election timer run out now. */
void guard_expire(struct guard *g);

void guard_persisted(struct guard *g, uint64_t index);

/* Own snapshot is durable, the log was dropped up to index - trailing. Takes the configuration. */
void guard_snapshot(struct guard *g, struct raft_snapshot_metadata *metadata, unsigned trailing);
/* Installed one is durable and loaded. Takes the configuration. */
void guard_installed(struct guard *g, struct raft_snapshot_metadata *metadata);

/* Propose commands or a barrier. ERR_UNAVAILABLE: not leader, or handing over. */
int guard_submit(struct guard *g, uint8_t type, const struct raft_buffer *data, unsigned count, struct err *e);

/* Whether an entry of the leader's own term is committed. */
bool guard_established(const struct guard *g);

/* Propose a membership that differs in one member. ERR_UNAVAILABLE: not leader, or no entry of our term is
 * committed yet; ERR_CONFLICT: another change is under way; ERR_INVALID: it would demote or remove the leader. */
int guard_change(struct guard *g, const struct raft_configuration *conf, struct err *e);

/* Hand over to a voter that has everything (0: any such). ERR_AGAIN: it has not yet; ERR_NOT_FOUND: there is none.
 */
int guard_transfer(struct guard *g, uint64_t to, struct err *e);
