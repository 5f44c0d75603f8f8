/* RPC over mutual TLS: one connection, many streams (DESIGN.md sections 1, 6, 9).
 *
 * A connection is TLS 1.3 on TCP, driven through memory BIOs on a loop. Both sides know each other by certificate:
 * CN is the node's id, OU its role, O the cluster (section 6). A side without a certificate is ROLE_NONE and may
 * call only what the table of methods allows to it. On a connection either side opens streams; a stream begins with
 * a method number and a first message, carries messages both ways, and ends by either side with a code and a text.
 * A call is a stream with one message each way.
 *
 * Bounds: message size per method, streams per connection, bytes in flight per stream (256 KiB of credit, more
 * where a method says so), connections per server and connections without a certificate, time for the handshake,
 * idle time (pings). Whatever breaks one closes the stream or the connection with a reason; nothing a peer sends
 * may crash or grow us. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/ident.h"

/* --- certificates -------------------------------------------------------------------------------- */

struct tls; /* what one side proves itself with and whom it trusts; shared by connections, replaced as a whole */

enum rpc_role {
    RPC_ROLE_NONE = 1, /* no certificate */
    RPC_ROLE_WORKER = 2,
    RPC_ROLE_MANAGER = 4, /* usable as a mask: who may call a method */
};

struct rpc_identity {
    enum rpc_role role;
    char node_id[IDENT_TEXT + 1]; /* "" for RPC_ROLE_NONE */
    char cluster_id[IDENT_TEXT + 1];
};

/* Build from PEM texts. cert_pem and key_pem NULL: a side without a certificate. root_pem NULL (only without a
 * certificate): trust nothing and accept the peer's chain unverified, for fetching the root before joining; the
 * identity of such a peer is RPC_ROLE_NONE. */
int tls_new(const char *cert_pem, const char *key_pem, const char *root_pem, struct tls **ret, struct err *e);
struct tls *tls_ref(struct tls *t);
void tls_unref(struct tls *t); /* NULL is fine */

/* --- methods ------------------------------------------------------------------------------------- */

struct rpc_conn;
struct rpc_stream;

struct rpc_method {
    uint16_t number;  /* on the wire; never reused */
    const char *name; /* for messages and logs */
    unsigned roles; /* mask of enum rpc_role that may open it; default deny: a method not in the table is refused */
    uint32_t message_bytes_max;
    unsigned streams_max; /* of this method per connection; 0: 16 */
    /* A peer opened a stream; `message` is borrowed for the call. Must set callbacks (rpc_stream_set) or end the
     * stream. */
    void (*on_open)(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                    size_t size);
    uint32_t credit_bytes; /* that the peer may have under way on a stream; 0: 256 KiB, which is the least */
};

struct rpc_stream_events {
    void *ctx;
    void (*on_message)(void *ctx, struct rpc_stream *s, const void *message,
                       size_t size); /* borrowed for the call */
    void (*on_writable)(void *ctx,
                        struct rpc_stream *s); /* credit came back after rpc_send returned ERR_AGAIN; may be NULL */
    /* The stream has ended, by either side or with its connection: code 0 for a plain end. Last call; the stream is
     * freed after it. */
    void (*on_end)(void *ctx, struct rpc_stream *s, const struct err *e);
};

/* --- servers and connections --------------------------------------------------------------------- */

struct rpc_limits {
    unsigned connections;           /* 0: 32768 */
    unsigned anonymous_connections; /* without a certificate; 0: 64 */
    int handshake_ms;               /* 0: 10 s */
    int idle_ms;                    /* without any byte from the peer; pings are sent at a third of it; 0: 30 s */
};

struct rpc_server_events {
    void *ctx;
    /* A peer with a valid certificate connected. Return a code to refuse it (its row is gone), or lower peer->role
     * (it is a manager no more). May be NULL. */
    int (*on_connect)(void *ctx, struct rpc_conn *c, struct rpc_identity *peer, struct err *e);
};

struct rpc_server;

int rpc_server_open(uv_loop_t *loop, struct tls *tls, const struct rpc_method *methods, size_t method_count,
                    void *method_ctx, const struct rpc_limits *limits, const struct rpc_server_events *events,
                    struct rpc_server **ret, struct err *e);
int rpc_server_listen(struct rpc_server *s, const char *address /* "host:port", "[v6]:port" */, struct err *e);
int rpc_server_port(const struct rpc_server *s);                       /* of the first listener, for port 0 */
void rpc_server_set_tls(struct rpc_server *s, struct tls *tls);        /* for connections accepted from now on */
void rpc_server_close_peer(struct rpc_server *s, const char *node_id); /* every connection of that node */
/* What every connection of that node may do from now on: at most this role, of the one that its certificate says.
 * Streams that it opened and may not have any more are ended with ERR_DENIED. Connections that come later are
 * on_connect's to judge. */
void rpc_server_limit_peer(struct rpc_server *s, const char *node_id, enum rpc_role most);
void rpc_server_close(struct rpc_server *s, void (*closed)(void *ctx), void *ctx);

struct rpc_conn_events {
    void *ctx;
    void (*on_open)(void *ctx, struct rpc_conn *c,
                    const struct rpc_identity *peer); /* handshake done, peer verified */
    void (*on_closed)(void *ctx, struct rpc_conn *c,
                      const struct err *e); /* also when it never opened; last call, c is freed after it */
};

/* Dial. `methods` are what the far side may open towards us on this connection (NULL, 0: nothing). Streams may be
 * opened at once: they are sent when the handshake is done. expect_role/expect_cluster: refuse a peer with another
 * (0 / NULL: any). */
struct rpc_dial {
    const char *address;
    struct tls *tls; /* a reference is taken */
    const struct rpc_method *methods;
    size_t method_count;
    void *method_ctx;
    unsigned expect_roles;
    const char *expect_cluster;
    int timeout_ms; /* for connect and handshake together; 0: 10 s */
};

int rpc_dial(uv_loop_t *loop, const struct rpc_dial *dial, const struct rpc_conn_events *events,
             struct rpc_conn **ret, struct err *e);
void rpc_conn_close(struct rpc_conn *c); /* ends its streams with ERR_CANCELED; on_closed comes later */
/* The same without a word to the peer: for a connection whose socket somebody else holds. */
void rpc_conn_abandon(struct rpc_conn *c);
const struct rpc_identity *rpc_conn_peer(const struct rpc_conn *c);
const char *rpc_conn_address(const struct rpc_conn *c); /* the peer's "ip:port" */
/* The peer's certificate and the chain's issuer as DER; NULL when it showed none. Borrowed. */
const uint8_t *rpc_conn_certificate(const struct rpc_conn *c, size_t *ret_size);
int rpc_conn_fd(const struct rpc_conn *c);       /* borrowed; for the keeper's duplicate */
bool rpc_conn_is_open(const struct rpc_conn *c); /* not yet on its way to on_closed */
bool rpc_conn_refused(const struct rpc_conn *c); /* dialed, in on_closed: nobody listens at that address */

/* --- streams ------------------------------------------------------------------------------------- */

int rpc_open(struct rpc_conn *c, uint16_t method, uint32_t message_bytes_max, const void *message, size_t size,
             const struct rpc_stream_events *events, struct rpc_stream **ret, struct err *e);
void rpc_stream_set(struct rpc_stream *s, const struct rpc_stream_events *events);
struct rpc_conn *rpc_stream_conn(struct rpc_stream *s);

/* Queue one message; copied. ERR_AGAIN: no credit, nothing was queued, on_writable will come. */
int rpc_send(struct rpc_stream *s, const void *message, size_t size);

/* End the stream, after what is queued: e NULL or code 0 for success. With a failure what is queued is dropped, but
 * for the message that opens the stream. on_end comes later. */
void rpc_end(struct rpc_stream *s, const struct err *e);

/* Answer a call whose stream has carried nothing yet, so that there is credit: this message, then the end. */
static inline void rpc_answer(struct rpc_stream *s, const void *message, size_t size)
{
    (void)rpc_send(s, message, size); /* a connection that is gone ends the stream by itself */
    rpc_end(s, NULL);
}

/* Stop and go on receiving: while paused the peer gets no new credit. */
void rpc_pause(struct rpc_stream *s, bool paused);

/* One message each way. `done` comes once, later: code 0 and the reply (borrowed), or the error. */
int rpc_call(struct rpc_conn *c, uint16_t method, const void *message, size_t size, uint32_t reply_bytes_max,
             int timeout_ms, void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size),
             void *ctx, struct err *e);
