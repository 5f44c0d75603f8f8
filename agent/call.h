/* One call to one manager, on a connection of its own that is closed before the answer is used: what a node asks of
 * managers outside its session (joining, becoming a member, leaving). On the node loop. */
#pragma once

#include <stdint.h>

#include <uv.h>

#include "proto/base/err.h"
#include "proto/wire/rpc.h"

struct call;

struct call_config {
    uv_loop_t *loop;
    const char *address; /* "host:port", numeric */
    struct tls *tls;     /* a reference is taken */
    unsigned expect_roles;
    const char *expect_cluster; /* NULL: any */
    uint16_t method;
    const void *message; /* copied */
    size_t size;
    uint32_t reply_bytes_max;
    int timeout_ms; /* for the connection, and again for the answer */
    void *ctx;
    /* The peer was let in: a look at it, before it is asked. May be NULL. */
    void (*on_open)(void *ctx, struct rpc_conn *c);
    /* Once, later, when the connection is gone: code 0 and the answer (borrowed), or why there is none. `reached`:
     * the peer itself answered, if only with an error. */
    void (*done)(void *ctx, const struct err *e, bool reached, const void *reply, size_t size);
};

/* On an error `done` does not come. */
int call_start(const struct call_config *config, struct call **ret, struct err *e);

/* Give up: `done` comes soon, with ERR_CANCELED. */
void call_cancel(struct call *c);
