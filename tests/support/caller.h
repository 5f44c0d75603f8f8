/* For tests of the manager port: one call on a connection of its own, as whoever the certificate says. */
#pragma once

#include "proto/base/buf.h"
#include "proto/wire/rpc.h"
#include "tests/support/cluster.h"

struct caller {
    struct rpc_conn *conn; /* NULL: not there, or gone */
    bool opened;
    bool done, ended; /* the call was answered; its stream has ended */
    struct err e;     /* of the last call, or why there is no connection */
    struct buf reply; /* of the last call */
};

/* Dial the cluster's manager; returns when the connection is open, or has failed (then the code). */
int caller_open(struct caller *k, struct cluster *c, struct tls *tls);
/* One call on it: opens a stream, and ends it with the first message that comes back. Returns the code. */
int caller_call(struct caller *k, struct cluster *c, uint16_t method, const void *message, size_t size);
void caller_close(struct caller *k, struct cluster *c);
/* One call on a connection of its own, which is closed afterwards; the reply is the caller's to free. */
int caller_once(struct caller *k, struct cluster *c, struct tls *tls, uint16_t method, const void *message,
                size_t size);

/* A certificate that the cluster's authority signed, for whom the test likes. */
struct tls *caller_certificate(struct cluster *c, const char *node_id, enum rpc_role role, const char *cluster_id);
