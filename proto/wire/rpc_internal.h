/* What the files of RPC share. Nobody else includes this, but for tests and the fuzzer.
 *
 *   rpc.c         a connection: hello, frames in and out, deadlines, dialing and ending
 *   rpc_stream.c  streams: messages, credit, ends
 *   rpc_call.c    one message each way
 *   rpc_server.c  listeners, limits, peers by node
 *   conn.c        bytes under TLS     tls.c  certificates     frame.c  the format of frames */
#pragma once

#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/wire/conn.h"
#include "proto/wire/frame.h"
#include "proto/wire/rpc.h"

#define RPC_CREDIT_BYTES     (256 * 1024)           /* of a stream, each way, when it begins */
#define RPC_CREDIT_MAX       (16 * 1024 * 1024)     /* ... and at most, where the receiver's method gives more */
#define RPC_CREDIT_STEP      (RPC_CREDIT_BYTES / 4) /* given back at least so much at a time */
#define RPC_OUT_BYTES        (64 * 1024)            /* sealed and not yet taken: no more of streams is sealed */
#define RPC_CONTROL_BYTES    (256 * 1024)           /* unsent answers of ours: the peer is read no further */
#define RPC_STREAMS_OPEN_MAX 4096                   /* streams one side opens on one connection */

enum rpc_state {
    RPC_CONNECTING, /* TCP and TLS */
    RPC_GREETING,   /* our hello is sent, the peer's not come */
    RPC_OPEN,
    RPC_CLOSING,
};

struct rpc_conn {
    struct conn link;
    struct rpc_server *server;        /* that accepted it; NULL when dialed */
    struct list by_server;            /* in server->conns */
    struct list by_stage;             /* in server->handshakes, or unlinked */
    struct list due;                  /* in server->due, or unlinked: bytes of a handshake wait */
    struct rpc_peer *by_node;         /* of the server; NULL until known, or without certificate */
    struct list by_peer;              /* in by_node->conns */
    struct tls *tls;                  /* a reference */
    const struct rpc_method *methods; /* what the peer may open; borrowed */
    size_t method_count;
    void *method_ctx;              /* borrowed */
    struct rpc_conn_events events; /* of a dialed connection */
    struct rpc_identity peer;
    enum rpc_role shown;    /* role in the peer's certificate; peer.role may be less */
    char address[TCP_TEXT]; /* the peer's */
    unsigned expect_roles;  /* dialed: refuse another; 0: any */
    char expect_cluster[IDENT_TEXT + 1];
    int state;    /* enum rpc_state */
    bool counted; /* as anonymous by the server */
    bool silent;  /* rpc_dial failed: nobody knows of it */
    bool denied;  /* a refused stream was logged */
    struct frame_reader reader;
    struct buf control;        /* frames that go before those of streams */
    struct map64 streams;      /* by id */
    struct list all;           /* struct rpc_stream by_conn */
    struct list ready;         /* streams with something to send, or to be looked after */
    unsigned opened;           /* streams of ours alive */
    uint32_t next_id;          /* of ours: odd for the side that dialed, even for the other */
    int64_t since_ms;          /* when the connection began */
    int handshake_ms, idle_ms; /* limits */
    int silent_beats;          /* thirds of idle_ms without a byte from the peer */
    int stuck_beats;           /* ... without it taking a byte, though some wait */
    size_t queued_seen;        /* at the last beat */
    bool heard;                /* a byte came since the last beat */
    struct err *why;           /* owned; the reason of closing */
    uint8_t *certificate;      /* owned; DER; NULL when the peer showed none */
    size_t certificate_size;
    uv_timer_t timer;
    uv_idle_t soon; /* active: rpc_conn_work is due in this turn */
    int handles;    /* not yet closed */
};

struct rpc_stream {
    struct rpc_conn *conn;
    struct list by_conn;
    struct list ready; /* in conn->ready, or unlinked */
    uint32_t id;
    uint16_t method;
    const struct rpc_method *opened_by_peer; /* NULL when ours */
    struct rpc_stream_events events;
    uint32_t message_bytes_max; /* of what comes in */

    struct buf out;     /* messages with their lengths, not yet sent */
    uint32_t credit;    /* bytes that may be sent */
    bool open_sent;     /* OPEN has left (ours), or came (the peer's) */
    bool blocked;       /* rpc_send returned ERR_AGAIN */
    bool ended_by_user; /* rpc_end was called */
    bool ending;        /* our END is due or sent: by the user, or for a broken rule */
    bool end_sent;
    struct err *end; /* owned; our reason, NULL for a plain end */

    struct buf in;    /* messages with their lengths, not yet delivered */
    size_t counted;   /* bytes at the front of `in` whose credit went back already */
    uint32_t allowed; /* bytes the peer may still send */
    uint32_t owed;    /* credit to give back */
    bool told_open;   /* on_open was called (the peer's) */
    bool set;         /* events were given */
    bool paused;
    bool ended;           /* the peer's END came */
    struct err *peer_end; /* owned; its reason, NULL for a plain end */
};

/* --- rpc.c --------------------------------------------------------------------------------------- */

int64_t rpc_now(const struct rpc_conn *c);
struct rpc_conn *rpc_conn_new(uv_loop_t *loop);
void rpc_conn_begin(struct rpc_conn *c); /* its link is made: watch its deadlines */
void rpc_conn_soon(struct rpc_conn *c);
/* Close because of this; the peer is told when it can be. Callbacks come later. The peer's address is put before
 * the text. */
void rpc_conn_fail(struct rpc_conn *c, const struct err *e);
const struct conn_events *rpc_link_events(void);

/* --- rpc_stream.c -------------------------------------------------------------------------------- */

/* What a frame on a stream does. Returns ERR_CORRUPT when the peer broke the rules. */
int rpc_stream_frame(struct rpc_conn *c, const struct frame *f, struct err *e);

/* Put frames of streams that may send into `batch`, up to `room` bytes in all. */
void rpc_streams_fill(struct rpc_conn *c, struct buf *batch, size_t room);

/* End all of them with the connection. */
void rpc_streams_end(struct rpc_conn *c, const struct err *e);
void rpc_streams_limit(struct rpc_conn *c); /* end those that the peer may not have any more */

/* --- rpc_server.c -------------------------------------------------------------------------------- */

void rpc_server_handshake_due(struct rpc_conn *c);
/* The handshake is done and the peer known: 0 to keep it. */
int rpc_server_admit(struct rpc_conn *c, struct err *e);
void rpc_server_forget(struct rpc_conn *c); /* about to be freed */
