/* The front: Docker's API on the node's sockets, routed by noun (DESIGN.md sections 1 and 10). */
#pragma once

#include "agent/swarm.h"
#include "engine/engine.h"
#include "proto/base/err.h"

struct front;

struct front_config {
    uv_loop_t *loop;
    struct engine *engine;
    struct swarm *swarm;
    const char *const *urls; /* "unix:///path", "tcp://address:port" */
    size_t url_count;
    const int *sockets; /* listening already; taken, whatever the outcome */
    size_t socket_count;
    gid_t group; /* of unix sockets made here; -1 for none */
};

int front_open(const struct front_config *config, struct front **ret, struct err *e);

void front_close(struct front *f, void (*closed)(void *ctx), void *ctx);
