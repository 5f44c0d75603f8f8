/* Links: how the managers' group talks, over TLS connections between manager ports (DESIGN.md sections 5 and 6).
 *
 * Each side dials for what it sends: one connection per peer and channel, when there is something to send, so that
 * heartbeats never wait behind entries or chunks. What cannot be sent is dropped, oldest first or newest first as
 * the channel is, and never damaged; within a channel the order is kept. A connection that nothing is sent on for a
 * minute is closed, as to one that was removed.
 *
 * A link begins with a LinkHello (link.proto). Who the dialer is says its certificate; that the number it claims in
 * the group is that node's, the owner's `check`. The address that a peer announced last is where it is dialed, else
 * the one that comes with what is to be sent.
 *
 * Everything on one loop; events never come from inside a call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/wire/rpc.h"

#define LINKS_FEATURE_LEVEL 1 /* what this version offers to other managers, and the least it takes from them */

struct links;

struct links_config {
    uv_loop_t *loop;
    struct clock *clock;
    struct entropy *entropy;
    struct tls *tls;        /* a reference is taken */
    const char *cluster_id; /* copied, as the others */
    const char *address;    /* host:port where others reach this manager, announced to them */
    uint64_t id, epoch;
    unsigned feature_level; /* offered, and the least that is taken; 0: LINKS_FEATURE_LEVEL */
    void *ctx;
    /* May this node (by its certificate a manager of our cluster) be number `id` in the group? A manager that does
     * not know yet says yes. NULL: always. */
    int (*check)(void *ctx, uint64_t id, const char *node_id, struct err *e);
};

struct links_events {
    void *ctx;
    void (*on_message)(void *ctx, uint64_t from, const void *data, size_t size); /* borrowed for the call */
    /* A peer that we heard of is gone: its connection closed, and nobody listens at its address any more. */
    void (*on_gone)(void *ctx, uint64_t id);
};

struct links *links_new(const struct links_config *config);

/* Whom to tell; NULL: nobody, and what comes is dropped. */
void links_attach(struct links *l, const struct links_events *events);

/* Queue one message (at most MESSAGE_BYTES_MAX); copied. `address` "" when the peer's is not known otherwise. */
void links_send(struct links *l, uint64_t to, const char *address, enum env_channel channel, const void *data,
                size_t size);

/* A stream of METHOD_RAFT was opened at our port: the method's on_open. */
void links_on_open(struct links *l, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size);

void links_set_tls(struct links *l, struct tls *tls); /* for connections dialed from now on */

/* Close every connection that was dialed, then `closed`; l is freed then. The port is closed before. */
void links_close(struct links *l, void (*closed)(void *ctx), void *ctx);

struct links_stats {                   /* for metrics and tests */
    unsigned dialed, accepted;         /* links that are open now */
    uint64_t sent, received, dropped;  /* messages */
    uint64_t dials, refused, refusals; /* attempts; that nobody answered; hellos that were not taken */
};
void links_stats(const struct links *l, struct links_stats *ret);
