/* The manager's control loop (DESIGN.md section 4): one draft, one Raft entry.
 *
 * It owns the replica and the index, and drives the store. Whoever wants to change the cluster submits a write; the
 * leader puts it into the next draft, lets orchestrator, allocator and scheduler extend that, proposes it, and
 * answers when it is applied. Exactly one draft is under way; what is submitted meanwhile waits for the next one,
 * which starts at once. Nothing waits for a timer but what has a deadline.
 *
 * Everything is on the manager loop. Control has no loop of its own: it asks to be called through `wake`, and
 * control_turn does at most a few milliseconds of work (DESIGN.md section 1). So the simulation runs this very
 * code.
 *
 * Reading. Views of control_store show what is applied, control_index shows the draft besides (index.h); for a
 * strong read ask control_read first and open the view in its callback. A list is made by taking numbers from the
 * index and reading the objects through the view, skipping what is not found.
 *
 * Following. A watch is told of each batch that was applied and reads what changed with store_feed; ERR_LIMIT there
 * means that everything is to be read again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/index.h"
#include "manager/plan.h"
#include "manager/raft/replica.h"
#include "manager/store/store.h"
#include "proto/base/buf.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/base/list.h"

struct control;

/* What a new cluster begins with (control_found). */
struct control_founding {
    const Cluster *cluster;      /* id, spec, root, pools...; its next_raft_id is set to the one after raft_id */
    const uint8_t *node_id;      /* 16 bytes: the first node, a manager */
    const NodeDescription *node; /* may be NULL */
    NodeAvailability availability;
    uint64_t raft_id;
    const char *manager_address; /* host:port */
};

struct control_config {
    struct store *store;           /* open; borrowed until `closed` */
    struct replica_config replica; /* `applied` is filled in here */
    struct clock *clock;
    struct entropy *entropy;
    const struct control_founding *founding; /* borrowed; the first draft makes these objects unless there is a
                                              * cluster already. NULL: none */
    int64_t orphan_ms;                       /* as in struct plan */
    void *ctx;
    void (*wake)(void *ctx); /* call control_turn soon; comes from inside any function here, many times */
    /* Log or store cannot be trusted. ERR_UNAVAILABLE: it is the store alone, or a disk without room: close, wait,
     * and open everything again. Any other code: stop, loudly. */
    void (*on_fatal)(void *ctx, const struct err *e);
    void (*on_removed)(void *ctx); /* a leader says that this manager is no member any more. May be NULL */
};

/* Open the replica, build the index. Entries that are in the log but not in the store come by on the loop. Errors
 * of replica_open. */
int control_open(const struct control_config *config, struct control **ret, struct err *e);

/* Every write and read that was submitted is answered with ERR_CANCELED first. `closed` comes last; c is freed
 * then. */
void control_close(struct control *c, void (*closed)(void *ctx), void *ctx);

/* One turn: at most about 5 ms of work. Returns after how many milliseconds the next one is due: 0: at once (after
 * other events), -1: not before `wake`. */
int64_t control_turn(struct control *c);

/* --- writing ------------------------------------------------------------------------------------------ */

struct control_write {
    struct list link; /* control's from submit to done */

    /* Who may be answered twice: with an id the answer is stored with the change, and a second write of that id is
     * given it instead of being executed. */
    bool has_request_id;
    uint8_t request_id[16];

    bool background; /* statuses and the like: what people ask for goes first */

    /* Put what is wanted into the draft, through d, p or the intents of manager/orchestrator/intent.h. An error
     * undoes all that this write put. Called on the leader, once, or again if the draft became too large for it.
     * Must not keep anything of d or p. On success with an id: http_status and reply are what is stored as the
     * answer. */
    int (*execute)(struct control_write *w, struct draft *d, struct plan *p, struct err *e);

    /* The answer, exactly once, never from inside control_submit; w is the caller's again. e->code 0: applied, with
     * all that the planners made of it, at `index`, or nothing had to be written and `index` is what was read.
     * What execute returned, once it is certain that we still led when it looked.
     * ERR_UNAVAILABLE: not the leader; if w->unknown, the draft was proposed and may be applied or not. */
    void (*done)(struct control_write *w, const struct err *e, uint64_t index);

    uint32_t http_status; /* with an id: the answer, stored or given back */
    struct buf reply;     /* its body; the caller frees it */
    bool replayed;        /* it was given back */
    bool unknown;         /* the outcome is */

    bool failed; /* private */
    struct err error;
};

void control_submit(struct control *c, struct control_write *w);

/* Why what is submitted is not taken now: this manager does not lead, or a disk is full (ERR_UNAVAILABLE). 0: as
 * far as is known it is. */
int control_blocked(const struct control *c, struct err *e);

/* Make the objects of a new cluster: cluster, first node, and the predefined networks. For tests; control_config
 * has `founding` for it. */
void control_found(struct plan *p, const struct control_founding *f);

/* --- reading ------------------------------------------------------------------------------------------ */

/* `done` comes once this manager knows that it still leads and has applied everything that was committed before the
 * call; one round for all that wait. ERR_UNAVAILABLE at once, without done, when it does not lead. */
int control_read(struct control *c, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e);

struct store *control_store(struct control *c);
struct index *control_index(struct control *c);
struct replica *control_replica(struct control *c); /* for membership and metrics */

/* It leads, and its drafts are open. */
bool control_leads(const struct control *c);

/* The member that leads and the address of its manager port; 0 and NULL: none is known. The text is borrowed for
 * the moment. */
uint64_t control_leader(const struct control *c, const char **ret_address);

/* Cluster time now: the last draft's, gone on. */
int64_t control_now_ms(struct control *c);

/* --- following ---------------------------------------------------------------------------------------- */

struct control_watch {
    struct list link; /* control's between watch and unwatch */
    /* Entries up to `index` are applied; come from the loop, not from inside a call. May be NULL. */
    void (*on_applied)(struct control_watch *w, uint64_t index);
    /* Leadership came or went. May be NULL. */
    void (*on_leads)(struct control_watch *w, bool leads);
    /* Another member leads (or we do, or nobody is known to): control_leader. After on_leads. May be NULL. */
    void (*on_leader)(struct control_watch *w);
};

void control_watch(struct control *c, struct control_watch *w);
void control_unwatch(struct control *c, struct control_watch *w); /* not from inside a callback of another watch */

/* --- figures ------------------------------------------------------------------------------------------ */

struct control_stats {
    uint64_t turns, drafts, objects; /* drafts that were proposed, objects in them */
    uint64_t writes, lost;           /* writes executed; drafts whose outcome was not learned */
    uint64_t discarded;              /* of store_discarded */
    int64_t longest_turn_us;
    bool under_way; /* a draft is proposed: the index is ahead of the store */
};
void control_stats(const struct control *c, struct control_stats *ret);
