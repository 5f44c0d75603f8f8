/* What links.c (peers, what comes in) and link_out.c (what goes out) share. */
#pragma once

#include "manager/raft/link_hello.h"
#include "manager/raft/links.h"
#include "proto/base/list.h"

#define CHANNELS 3

struct link_out { /* to one peer on one channel */
    struct link_peer *peer;
    enum env_channel channel;
    struct rpc_conn *conn;     /* NULL: none */
    struct rpc_stream *stream; /* on it; NULL: none, or it has ended */
    struct list queue;         /* struct queued: what the stream takes no more of */
    size_t queued_bytes;
    bool open;           /* the handshake is done */
    bool wanted;         /* dial even with nothing to send */
    bool ending;         /* we closed the connection */
    struct err *refusal; /* owned; the peer ended the stream with this; NULL: it did not */
    int64_t opened_ms;   /* when it was */
    int64_t tried_ms;    /* when it was dialed last */
    int64_t again_ms;    /* not dialed before */
    int64_t used_ms;     /* when something was sent last */
    int64_t backoff_ms;  /* of the next failure */
    int patience_ms;     /* for the next attempt */
    int quick_ms;        /* what an attempt takes on this path at most, mostly */
};

struct link_peer {
    struct list link; /* in links->peers */
    struct links *links;
    uint64_t id;
    char configured[LINK_ADDRESS_MAX + 1]; /* came with what was to be sent; "" unknown */
    char announced[LINK_ADDRESS_MAX + 1];  /* by itself */
    bool use_announced;                    /* the newer of the two, or the other when that failed */
    bool alive;                            /* it was connected, and is not known to be gone */
    int64_t used_ms;
    struct link_out out[CHANNELS];
    struct link_in *in[CHANNELS]; /* the newest; NULL: none */
    unsigned streams;             /* of its, also those that are ending */
    char *complaint;              /* owned; what was logged of it last, NULL: nothing */
};

struct link_in { /* a stream of a peer */
    struct link_peer *peer;
    enum env_channel channel;
    struct rpc_stream *stream;
    char node_id[IDENT_TEXT + 1];
};

struct links {
    struct links_config config; /* texts owned */
    struct links_events events; /* all NULL: nobody */
    struct list peers;
    size_t peer_count;
    uv_timer_t timer;
    int64_t armed_ms; /* INT64_MAX: it is not */
    unsigned dialed;  /* connections not yet closed */
    bool closing, timer_closed;
    void (*closed)(void *ctx);
    void *closed_ctx;
    char *complaint; /* owned; of peers that are not known */
    struct links_stats stats;
};

/* --- links.c */
struct link_peer *links_peer(struct links *l, uint64_t id); /* made when there is none; NULL: too many */
void links_complain(struct link_peer *p, const char *what, const struct err *e); /* once per reason */
void links_closed_one(struct links *l);
void links_arm(struct links *l); /* the timer, for whatever is due next */
int64_t links_now(const struct links *l);

/* --- link_out.c */
void link_out_init(struct link_out *o, struct link_peer *p, enum env_channel channel);
void link_out_send(struct link_out *o, const void *data, size_t size);
void link_out_want(struct link_out *o);          /* have it connected, now */
void link_out_retry(struct link_out *o);         /* the address changed: an attempt under way is given up */
void link_out_due(struct link_out *o);           /* do what is due */
int64_t link_out_next(const struct link_out *o); /* when something is; INT64_MAX: nothing */
void link_out_close(struct link_out *o);         /* and drop what is queued */
