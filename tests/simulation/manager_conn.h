/* An agent's session with a manager: one stream that keeps its order, over a link that may be slow, stopped or cut
 * (manager_world.h). What is sent while a link is cut waits, as in TCP; after a while each end gives up on its own.
 * The manager's end is the production dispatcher's. */
#pragma once

#include "tests/simulation/manager_world.h"

struct conn;

struct conn_events { /* at the agent */
    void *ctx;
    void (*on_message)(void *ctx, const void *data, size_t size);
    void (*on_closed)(void *ctx); /* last call */
};

/* Dial, with the opening message of the session. */
struct conn *conn_open(struct msim *w, unsigned agent, struct msim_manager *m, const char *node_id,
                       const void *message, size_t size, const struct conn_events *events);
void conn_send(struct conn *c, const void *data, size_t size);
void conn_drop(struct conn *c); /* the agent is gone, or does not want it: no further callbacks */

/* The manager dies: its ends of all sessions end now. */
void conns_end_of(struct msim_manager *m);
void conns_free(struct msim *w);
