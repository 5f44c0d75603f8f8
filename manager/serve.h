/* The manager port: who may connect and what is served there (DESIGN.md section 6, proto/wire/methods.h). On the
 * manager loop. */
#pragma once

#include <uv.h>

#include "manager/control.h"
#include "manager/dispatcher/dispatcher.h"
#include "manager/membership.h"
#include "manager/relay.h"
#include "proto/wire/rpc.h"

struct ca_root;
struct serve;

struct serve_config {
    uv_loop_t *loop;
    struct control *control;
    struct dispatcher *dispatcher;
    struct relay *relay;
    struct membership *membership;
    struct clock *clock;
    struct entropy *entropy;
    struct links *links;    /* to the other managers; NULL: none */
    const char *cluster_id; /* borrowed */
    struct tls *tls;        /* a reference is taken */
};

int serve_open(const struct serve_config *config, struct serve **ret, struct err *e);

/* Accept connections at "host:port". Until serve_ready only links and the root certificate are served: the store
 * may not hold yet what the log says, so nobody can be told whether it is a node of this cluster. */
int serve_listen(struct serve *s, const char *address, struct err *e);
void serve_ready(struct serve *s); /* from now on nodes are judged by their rows, those that are connected too */
int serve_port(const struct serve *s); /* 0 while it does not listen */

void serve_set_tls(struct serve *s, struct tls *tls); /* for connections from now on */

/* Close the connections of nodes that were removed or have another role since: call when something was applied. */
void serve_follow(struct serve *s);

/* Stop listening and close every connection, then `closed`. */
void serve_close(struct serve *s, void (*closed)(void *ctx), void *ctx);
/* After serve_close and after control has closed, which holds writes of ours. NULL is fine. */
void serve_free(struct serve *s);

/* issue.c: certificates for nodes that join or renew */
void issue_on_open(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size);
/* For the node that this manager runs on, whose word is as good as ours: a packed IssueReply. */
int issue_own(struct serve *s, const char *node_id, const void *request_der, size_t size, struct buf *ret_reply,
              struct err *e);

/* announce.c: managers that say where they are, and those that leave */
void announce_on_open(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer,
                      const void *message, size_t size);
/* Answer those that may go now: call after each turn of the membership. */
void announce_follow(struct serve *s);
struct list *serve_leaving(struct serve *s); /* announce.c's */

struct ca_root **serve_root(struct serve *s); /* issue.c's: who signs, once it was read */

/* For both. Where the leader is; NULL: none is known, e->code ERR_UNAVAILABLE. */
const char *serve_leader(struct serve *s, struct err *e);
/* Whether a node that offers this feature level can be in the cluster; absent: the first. */
int serve_check_level(const Cluster *cluster, bool has_level, uint32_t level, struct err *e);
const struct serve_config *serve_config(const struct serve *s);
