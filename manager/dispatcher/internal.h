/* What the files of the dispatcher share. */
#pragma once

#include "manager/dispatcher/admission.h"
#include "manager/dispatcher/assign.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/dispatcher/liveness.h"
#include "manager/managers.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/map.h"

#define SESSION_ITEMS_MAX  256          /* task numbers looked at per message */
#define SESSION_BYTES_SOFT (512 * 1024) /* a message is closed when it is larger */
#define SESSION_TWINS_MAX  4            /* instances remembered that a session superseded */
#define INSTANCE_BYTES     16

struct waiting_task { /* a task whose item has to be looked at */
    struct list link; /* session->waiting */
    uint64_t number;
};

struct node_session {
    struct dispatcher *dispatcher;
    struct rpc_stream *stream; /* NULL once it has ended: freed when no write holds it */
    char node_id[IDENT_TEXT + 1];
    uint64_t node;          /* number; 0 before it is registered */
    struct list link;       /* dispatcher->sessions */
    struct list flush;      /* dispatcher->to_flush, when there is something to send */
    struct assign_set *set; /* NULL before it is registered */
    struct list waiting;    /* of struct waiting_task, oldest first */
    struct map64 waiting_by_number;
    uint64_t sequence; /* of the last assignment sent */
    bool is_full_set;  /* what waits is (the rest of) a full set */
    struct buf unsent; /* one packed message for which there was no credit */
    uint8_t session_id[16];
    uint8_t instance[INSTANCE_BYTES];                      /* of the agent's process; zeroes: it did not say */
    uint8_t superseded[SESSION_TWINS_MAX][INSTANCE_BYTES]; /* those that had sessions before; the newest first */
    bool ready_due;                                        /* it is to be told the heartbeat period */
    bool managers_due;                                     /* it is to be told who the managers are */
    bool authority_due;                                    /* it is to be told whom to trust */
    bool node_due;                                         /* it is to be told of its own row */
    uint64_t node_digest;                                  /* of what it was told of its row */
    bool is_ending;       /* by us: nothing is sent any more, its on_end is on the way */
    uint64_t acknowledge; /* report sequence to be acknowledged; 0: none */
    unsigned writes;      /* control_writes that point here */
};

struct dispatcher {
    struct dispatcher_config config;
    struct control_watch watch;
    struct map64 by_node;     /* node number -> its registered node_session */
    struct map64 registering; /* node number -> the node_session whose registration is executed, not yet applied */
    struct map64 by_task;     /* task number -> the node_session that has it, or is about to */
    struct list sessions;     /* all with a stream */
    struct list to_flush;
    struct liveness *liveness;
    struct managers *managers;
    struct admission *admission;
    int64_t turn_ends_us;   /* monotonic: what is left then has to wait for the next turn */
    uint64_t fed;           /* index up to which the feed was read */
    struct list logs;       /* of struct dispatcher_log */
    uint64_t subscriptions; /* numbers given out */
    int64_t period_ms;      /* between heartbeats */
    uint64_t authority_digest;
    struct buf authority; /* packed ManagerMessage: whom to trust; empty: not known yet */
    uint64_t epoch;       /* of the cluster */
    bool leads;
};

/* session.c */
void node_session_flush(struct node_session *s, struct view *v, struct arena *a);
void node_session_wait(struct node_session *s, uint64_t task); /* the task's item has to be looked at */
void node_session_begin_full_set(struct node_session *s);
void node_session_end(struct node_session *s, const struct err *e);
/* Send, or keep it until there is credit. Not while something is kept (node_session_blocked). */
void node_session_send(struct node_session *s, const ManagerMessage *message);
void node_session_tell_period(struct node_session *s);    /* it has changed */
void node_session_tell_managers(struct node_session *s);  /* they have changed */
void node_session_tell_authority(struct node_session *s); /* likewise */
void node_session_row_changed(struct node_session *s, const Node *node);
bool node_session_blocked(const struct node_session *s);

/* dispatcher.c */
void dispatcher_wake(struct dispatcher *d);
struct node_session *dispatcher_session_of(struct dispatcher *d, uint64_t node); /* NULL: none registered */
int64_t dispatcher_now_ms(const struct dispatcher *d);
bool dispatcher_late(const struct dispatcher *d); /* the turn has lasted long enough */

/* logs.c */
void dispatcher_logs_session_ended(struct dispatcher *d, uint64_t node);
int64_t dispatcher_logs_turn(struct dispatcher *d); /* as dispatcher_turn */
void dispatcher_logs_free(struct dispatcher *d);
