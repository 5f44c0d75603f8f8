/* The front: Docker's API on the node's sockets, routed by noun (DESIGN.md sections 1 and 10). */
#pragma once

#include "agent/swarm.h"
#include "engine/engine.h"
#include "proto/base/err.h"

struct front;

/* Serve on these URLs ("unix:///path", "tcp://address:port"). `group`: of unix sockets, -1 for none. */
int front_open(uv_loop_t *loop, struct engine *engine, struct swarm *swarm, const char *const *urls,
               size_t url_count, gid_t group, struct front **ret, struct err *e);

void front_close(struct front *f, void (*closed)(void *ctx), void *ctx);
