/* A manager's port without a manager: real RPC over TLS on loopback, on the loop of the test, whose answers the
 * test decides. It issues certificates, takes one session at a time and takes logs. Waits that last too long abort
 * with what was waited for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/dispatch.pb-c.h"
#include "proto/join.pb-c.h"
#include "proto/wire/rpc.h"

#define PORT_CLUSTER "0000000000000000000000xyz"
#define PORT_MANAGER "0000000000000000000000man"
#define PORT_NODE    "0000000000000000000000abc"

struct port {
    uv_loop_t *loop;
    char *root_pem, *root_key_pem; /* owned */
    struct tls *tls;               /* the manager's */
    struct rpc_server *server;     /* NULL while it does not listen */
    char address[64];
    bool closed;
    int64_t lifetime_ms; /* of the certificates it issues */

    /* what a node asked for */
    unsigned issues;
    struct err refuse;                          /* code: issue nothing, say this */
    void (*spoil)(IssueReply *, struct port *); /* change an answer before it leaves; NULL: honest */
    struct rpc_identity issued_to;              /* who asked last; who joins is PORT_NODE */
    const char *issue_redirect;                 /* say this instead of a certificate; NULL: do not */
    NodeRole role;                              /* of who joins, whatever the token says */
    bool changes_role;                          /* who renews gets that role too */
    char token[128];                            /* that it showed */
    const char *root_instead;                   /* what is said to be the root; NULL: it */
    unsigned roots;                             /* asked for */

    /* what a manager asked for */
    unsigned members;
    struct err refuse_member;
    const char *member_redirect;
    uint64_t raft_id, member_epoch; /* told to it; raft_id 0: as it said itself, or 7 */
    char member_address[64];        /* what it said */
    uint64_t member_raft_id;
    bool member_leaves;

    unsigned connections, sessions; /* so far */
    bool mute;                      /* do not say "ready" to a session */
    struct err refuse_session;      /* code: end it at once */
    const char *redirect;           /* sessions are sent there; NULL: they are not */
    uint32_t retry_ms;              /* sessions are to come back after so long; 0: they may stay */
    uint64_t epoch;                 /* told to sessions; 0: none is */
    struct rpc_stream *session;     /* NULL: none */
    struct buf opened;              /* the last SessionOpen, packed */
    unsigned heartbeats, reports, resyncs;
    uint64_t report_sequence; /* of the last one */
    bool acknowledges;        /* reports, at once */
    int64_t heartbeat_ms;     /* told to sessions; 0: 60 s */
    unsigned statuses;        /* in all reports */
    TaskState last_state;     /* of the last status */
    struct err ended;         /* how the last session ended */

    struct rpc_stream *log; /* the log that is coming; NULL: none */
    unsigned logs;          /* so far */
    uint64_t log_subscription;
    struct buf lines; /* of all logs, one after the other */
    bool log_ended;
    struct err log_error;
    bool log_paused; /* gives no credit */
};

/* A new authority; listens at a free port of loopback. */
void port_open(struct port *p, uv_loop_t *loop);
void port_close(struct port *p);

/* Stop and go on listening, at the same address. */
void port_stop(struct port *p);
void port_start(struct port *p);

/* The token that belongs to the root. Free it. */
char *port_token(struct port *p);

/* A certificate of this authority, valid from an hour ago for so long from now. Free both. */
void port_certificate(struct port *p, enum rpc_role role, const char *node_id, int64_t lifetime_ms,
                      char **ret_cert_pem, char **ret_key_pem);
/* The same as what one side proves itself with. */
struct tls *port_tls(struct port *p, enum rpc_role role, const char *node_id, int64_t lifetime_ms);

/* To the session that is there. */
void port_send(struct port *p, const ManagerMessage *message);
void port_send_bytes(struct port *p, const void *data, size_t size);
void port_ready(struct port *p);

#define PORT_PATIENCE_MS 20000
#define port_until(p, condition)                                                     \
    do {                                                                             \
        uint64_t give_up_ = uv_hrtime() / 1000000 + PORT_PATIENCE_MS;                \
        uv_timer_t tick_;                                                            \
        port_tick((p)->loop, &tick_);                                                \
        while (!(condition)) {                                                       \
            uv_run((p)->loop, UV_RUN_ONCE);                                          \
            if (uv_hrtime() / 1000000 > give_up_)                                    \
                port_fail(__FILE__, __LINE__, "waited in vain for: %s", #condition); \
        }                                                                            \
        port_untick(&tick_);                                                         \
    } while (0)

void port_rest(struct port *p, unsigned ms); /* turn the loop for so long */
void port_tick(uv_loop_t *loop, uv_timer_t *tick);
void port_untick(uv_timer_t *tick);
void port_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
