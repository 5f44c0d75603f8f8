/* The inside of a replica: what the driver's files share. The door is replica.h.
 *
 *     driver.c    the loop's turn, the guard's host, votes that hold everything back, timers
 *     apply.c     committed entries to the store, entries read again from disk
 *     send.c      messages out, messages in
 *     propose.c   proposals, leadership as others see it, strong reads
 *     member.c    membership, handing over
 *     take.c      taking snapshots, dropping the log they stand for
 *     install.c   offering, pulling and installing them
 *     digest.c    whether the members' stores are equal
 *     replica.c   open and close
 *
 * Every part has a struct here, a function that moves it on once per turn, and a time when it wants to be called.
 */
#pragma once

#include "manager/raft/env.h"
#include "manager/raft/guard.h"
#include "manager/raft/log.h"
#include "manager/raft/message.h"
#include "manager/raft/replica.h"
#include "manager/raft/snapshot.h"
#include "manager/raft/tail.h"
#include "manager/raft/writer.h"
#include "proto/base/list.h"

#define DRIVER_NEVER  INT64_MAX       /* a time that does not come */
#define DRIVER_BEFORE (INT64_MIN / 2) /* a time before all others */

struct outgoing { /* a message on its way out */
    struct list link;
    uint64_t to;
    enum env_channel channel;
    struct buf bytes;
};

struct incoming { /* a message that waits until a vote is stored */
    struct list link;
    uint64_t from;
    size_t size;
    uint8_t bytes[];
};

struct peer { /* what we know of another member besides what the core knows */
    uint64_t id;
    int64_t heard_ms; /* last message */
    bool full;        /* it said its disk is full */
    bool fetching;    /* old entries for it are being read */
};

struct fetch; /* entries being read from disk (apply.c) */

struct proposal {
    struct list link;
    uint64_t index, term; /* 0 until submitted */
    struct buf data;      /* until submitted */
    size_t size;
    void (*done)(void *ctx, const struct err *e, uint64_t index);
    void *ctx;
    struct err e; /* of the answer */
};

struct propose {
    struct list queued;   /* to be submitted this turn */
    struct list proposed; /* under way, by index */
    struct list answered; /* callbacks due */
    size_t count, bytes;  /* queued and proposed */
    uint64_t lead_index;  /* leading: the first entry of our term; 0: none yet */
    bool leading;         /* the core leads */
    enum replica_state announced;
    uint64_t announced_term;
    uint64_t announced_leader;
};

struct read_request {
    struct list link;
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
    struct err e;
};

struct reads {
    struct list waiting;   /* for the next round */
    struct list asked;     /* in the round under way */
    struct list confirmed; /* round won, in order of index; wait for applied */
    struct list answered;
    uint64_t round;                       /* number of the last round */
    uint64_t round_index;                 /* commit index when it began */
    int64_t asked_ms;                     /* when it was asked last */
    uint64_t voters[MESSAGE_MEMBERS_MAX]; /* who answered it */
    unsigned answers;
    uint64_t confirmed_index; /* for `confirmed`: the highest index they wait for */
};

enum member_verb { MEMBER_NONE, MEMBER_ADD, MEMBER_PROMOTE, MEMBER_DEMOTE, MEMBER_REMOVE, MEMBER_ADDRESS };

struct members { /* one change at a time */
    enum member_verb verb;
    uint64_t id;
    char *address;  /* ADD, ADDRESS; owned */
    uint64_t index; /* of the entry; 0: not proposed yet */
    uint64_t term;
    int64_t until_ms; /* give up a change that is not proposed yet */
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
    bool answered; /* the callback is due with e */
    struct err e;

    bool removed;     /* we were told that we are no member */
    bool removed_due; /* on_removed is due */
};

struct transfer {
    bool active; /* proposals are refused */
    uint64_t to; /* 0: anyone */
    bool fired;  /* the core has begun */
    int64_t until_ms;
    int64_t again_ms;                             /* not by ourselves before */
    void (*done)(void *ctx, const struct err *e); /* may be NULL */
    void *ctx;
    bool answered;
    struct err e;
};

struct take { /* a snapshot being taken */
    struct env_job job;
    bool active, canceled, ended;
    bool holding; /* the file is whole; a core that began again may not know yet that it is committed */
    struct replica_snapshot_source source;
    struct snapshot_info info; /* what it stands for; complete at the end */
    struct snapshot_out *out;
    struct buf chunk;
    struct err e;
    int64_t again_ms; /* after a failure not before */
};

enum install_state {
    INSTALL_IDLE,
    INSTALL_PULLING,  /* chunks are asked for and written */
    INSTALL_COMPLETE, /* the file is whole; the next offer of a leader installs it */
    INSTALL_PUBLISH,  /* the core wants it: the file gets its name */
    INSTALL_RESET,    /* the log begins anew behind it */
    INSTALL_LOAD,     /* chunks go to the store */
};

struct install {
    struct env_job job;
    enum install_state state;
    bool busy;                   /* the job runs */
    bool loaded;                 /* all of it is in the store */
    uint64_t from;               /* whom we pull from */
    struct snapshot_info wanted; /* of the offer */
    uint64_t next;               /* chunk to be asked for or loaded next */
    int64_t asked_ms;            /* when it was asked for */
    unsigned tries;              /* how often */
    struct snapshot_out *out;
    struct snapshot_info pulled; /* of the finished file */
    struct snapshot *file;       /* while loading */
    struct buf chunk;
    struct err e;
    struct raft_snapshot_metadata metadata; /* what the core gave */
};

struct serve { /* a snapshot a lagging member pulls */
    struct list link;
    struct env_job job;
    struct replica *replica;
    struct snapshot *file; /* opened by the first job */
    uint64_t index;
    bool busy;
    uint64_t to, number; /* chunk being read, and for whom */
    struct buf chunk;
    struct err e;
    int64_t used_ms;
};

struct digest { /* of the store, after an entry */
    uint64_t index, value;
};

struct digest_list { /* the newest */
    struct digest all[8];
    unsigned next;
};

struct digests {
    struct digest_list mine, heard; /* heard: of entries that we have not applied yet */
    uint64_t heard_from;            /* whom the last one */
    uint64_t contested, against;    /* leader: index, and who has another there, by place among the voters */
    uint64_t leader, term;          /* whose differs from ours, 0: nobody's */
    struct digest own;
    uint64_t theirs;
    int64_t until_ms; /* then we are the one that differs */
};

struct replica {
    struct replica_env *env;
    struct replica_events events;
    uint64_t id, epoch;
    char *address; /* owned */
    int election_ms, heartbeat_ms;
    uint64_t segment_bytes, snapshot_bytes;
    size_t entry_max; /* bytes of one */

    struct guard guard;
    struct tail tail;
    struct disklog *log;
    struct writer writer;
    struct snapshots snapshots;
    struct snapshot_info last;              /* newest snapshot; index 0: none */
    struct raft_snapshot_metadata metadata; /* of it, for starting the core */

    uint64_t commit;   /* highest index known to be committed */
    uint64_t written;  /* highest index on our disk, as the log is now */
    uint64_t applied;  /* highest index given to on_apply, or restored */
    uint64_t log_from; /* bytes of entries applied since the last snapshot */

    unsigned votes;  /* being stored: nothing leaves before */
    bool restarting; /* begin again with this term and vote once stored */
    uint64_t restart_term, restart_vote;
    bool restart_replies;
    struct raft_message restart_reply;

    struct list outbox, inbox;
    size_t inbox_bytes;
    struct peer *peers; /* owned; small */
    size_t peer_count;

    struct fetch *fetching; /* for apply; NULL: none */
    struct propose propose;
    struct reads reads;
    struct members members;
    struct transfer transfer;
    struct take take;
    struct install install;
    struct list serves;
    struct digests digests;

    struct env_job spare_job;
    struct err spare_error;
    bool spare_posted, full; /* full: no room for a spare, or for anything */
    int64_t spare_ms;        /* no spare is made before */
    int64_t mark_ms;         /* note the log's end then; DRIVER_NEVER: noted */
    uint64_t gone;           /* leader whose process is gone, 0: none */
    int64_t gone_ms;         /* let our timer expire then */
    int64_t expired_ms;      /* when we did, and no voter refused since */
    int64_t asked_ms;        /* somebody asked for votes while we had a leader */
    uint64_t lost;           /* the same, until it is heard from again: who asks for votes against it gets them */

    bool failed; /* on_fatal is due, or came */
    bool told;   /* it came */
    struct err fatal;
    bool closing, close_begun, closed_log, detached;
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct replica_stats stats;
};

/* --- driver.c */
void driver_start(struct replica *r, uint64_t term, uint64_t vote);
void driver_wake(struct replica *r);
void driver_fail(struct replica *r, const struct err *e); /* stop; on_fatal comes */
int64_t driver_now(const struct replica *r);
bool driver_leads(const struct replica *r); /* the core leads */
bool driver_holds(const struct replica *r); /* a vote is being stored */
uint64_t driver_term_of(void *ctx, uint64_t index);
void driver_heard(struct replica *r, uint64_t from); /* it lives */
/* Somebody wants to lead: whether the leader that we know is gone, so that he need not wait until we forget it. */
bool driver_disrupts(struct replica *r);
bool driver_precedes(const struct replica *r, const struct raft_request_vote *a, uint64_t from);
unsigned driver_voters(const struct replica *r, uint64_t ids[MESSAGE_MEMBERS_MAX]);
extern const struct writer_events driver_writer_events; /* ctx: the replica */
extern const struct env_events driver_env_events;
void driver_make_metadata(struct replica *r);
void driver_free(struct replica *r); /* nothing may run any more */

/* --- apply.c */
void apply_advance(struct replica *r);
/* Read entries first.. again for a member, then send them. */
void fetch_send(struct replica *r, uint64_t to, uint64_t prev_index, uint64_t count);

/* --- send.c */
void send_core(struct replica *r, const struct raft_message *m); /* of the core; entries are added */
void send_message(struct replica *r, enum env_channel channel, struct message *m);
#define SEND_BURST \
    (8 << 20) /* bytes of entries sent for one message of the core; the core asks again for the rest */
/* As several messages if need be; at least one entry. */
void send_entries(struct replica *r, uint64_t to, uint64_t prev_index, uint64_t prev_term, uint64_t commit,
                  const struct raft_entry *entries, unsigned count);
void send_flush(struct replica *r);
void receive_bytes(struct replica *r, uint64_t from, const void *data, size_t size);
void receive_waiting(struct replica *r);
struct peer *peer_of(struct replica *r, uint64_t id); /* made when there is none */
void send_drop(struct replica *r);                    /* forget what waits */

/* --- propose.c */
void propose_init(struct replica *r);
void propose_state(struct replica *r); /* the core's state changed */
void propose_entries(struct replica *r, uint64_t index, uint64_t term);
void propose_advance(struct replica *r); /* submit what is queued */
void propose_applied(struct replica *r);
void propose_answer(struct replica *r); /* callbacks */
void propose_cancel(struct replica *r, int code, const char *why);
bool propose_ready(const struct replica *r); /* leads and its barrier is applied */
void read_advance(struct replica *r);
void read_receive(struct replica *r, const struct message *m);
int64_t read_due(const struct replica *r);

/* --- member.c */
void member_advance(struct replica *r);
void member_answer(struct replica *r);
void member_cancel(struct replica *r, int code, const char *why);
void member_heard(struct replica *r, uint64_t from); /* from someone who may be no member */
void member_receive_removed(struct replica *r, const struct message *m);
int64_t member_due(const struct replica *r);
/* Hand over by ourselves: the disk is full or hangs. */
void transfer_away(struct replica *r, const char *why);

/* --- take.c */
void take_advance(struct replica *r);
void take_cancel(struct replica *r);
void take_remove_old(struct replica *r, uint32_t segment); /* snapshots before the last, segments before that one */
int64_t take_due(const struct replica *r);

/* --- install.c */
void install_offer(struct replica *r, uint64_t to, uint64_t term); /* leader */
void install_receive_offer(struct replica *r, struct message *m);
void install_receive_pull(struct replica *r, const struct message *m); /* leader */
void install_receive_chunk(struct replica *r, const struct message *m);
void install_begin(struct replica *r, const struct raft_snapshot_metadata *metadata); /* the core wants it */
void install_reset_done(struct replica *r);
void install_advance(struct replica *r);
int64_t install_due(const struct replica *r);
bool install_active(const struct replica *r); /* the core is being given one */
void install_fini(struct replica *r);

/* --- digest.c */
uint64_t digest_room(const struct replica *r); /* entries that may be applied in one batch */
void digest_applied(struct replica *r);        /* a batch was */
void digest_receive(struct replica *r, const struct message *m);
void digest_advance(struct replica *r);
void digest_forget(struct replica *r); /* a snapshot took the state's place */
int64_t digest_due(const struct replica *r);
