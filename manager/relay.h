/* Requests that other managers forward to this one, because it leads (METHOD_FORWARD, proto/forward.proto; their
 * side is manager/api/forward.h).
 *
 * They are carried out as if a client of this machine had asked: by the manager's own door, on the node loop, where
 * JSON is read and written, so that they cost the manager loop no more than others do. What comes back goes into
 * the stream as fast as the other manager takes it.
 *
 *     manager loop (relay.c)                  node loop (relay_door.c)
 *     the stream opens, its body comes
 *     complete                    --begin-->  manager_ask
 *     page to messages, to stream <--page---  on_reply
 *     all is taken                --more--->  manager_more
 *     the stream has ended        --drop--->  manager_drop
 *     freed                       <-dropped-
 *
 * Either side has it in turn, so that one page is anywhere. A drop may cross a page; after it nothing but `dropped`
 * comes back. When the manager closes nothing can be posted to its thread any more: what was dropped by then is
 * freed when the thread has ended. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "manager/manager.h"
#include "proto/wire/rpc.h"

#define RELAY_STREAMS_MAX 1024 /* of one connection */

struct relayed;

/* --- on the manager loop ----------------------------------------------------------------------------------- */

struct relay_events { /* hand it to the node's side */
    void *ctx;
    void (*on_begin)(void *ctx, struct relayed *r);
    void (*on_more)(void *ctx, struct relayed *r);
    void (*on_drop)(void *ctx, struct relayed *r);
};

struct relay;

struct relay *relay_new(const struct relay_events *events);
/* For the table of methods. */
void relay_on_open(struct relay *y, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size);
void relay_page(struct relay *y, struct relayed *r);    /* mail from the node */
void relay_dropped(struct relay *y, struct relayed *r); /* the same */
/* When every stream has ended and the thread too. NULL is fine. */
void relay_free(struct relay *y);

/* --- on the node loop -------------------------------------------------------------------------------------- */

struct relay_door { /* inside struct manager */
    struct manager *manager;
    struct mailbox *node, *thread;
    bool closed; /* nothing is posted to the thread any more */
};

/* Post to the node's side; on the manager loop. */
void relay_door_begin(struct relay_door *d, struct relayed *r);
void relay_door_more(struct relay_door *d, struct relayed *r);
void relay_door_drop(struct relay_door *d, struct relayed *r);

/* --- between the two --------------------------------------------------------------------------------------- */

struct relayed {
    struct mail to_node, drop; /* to the node's side; the first is begin, then more */
    struct mail to_manager, dropped;
    struct relay_door *door;
    struct manager_request *request; /* the relay's until begin, then the node's; NULL there once it has ended */

    struct { /* whoever has it in turn */
        int status, again;
        const char *type; /* static */
        bool more, cut;
        struct buf bytes;
    } page;

    /* The relay's own. */
    struct relay *relay;
    struct list link; /* relay->all */
    struct relay_peer *peer;
    int class;
    struct rpc_stream *stream; /* NULL once it has ended */
    char *body;                /* in the request's arena */
    size_t body_size, body_come;
    size_t sent; /* of the page's bytes */
    bool begun, at_node, said_head, drop_posted;
};
