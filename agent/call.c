/* See call.h.
 *
 *     dial -> open: the request goes out -> answer kept -> connection closed -> done
 *
 * Whatever ends it earlier ends at the closed connection too, with the first reason that came up. */
#include <stdlib.h>
#include <string.h>

#include "agent/call.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

struct call {
    struct call_config config;
    struct rpc_conn *conn;
    struct tls *tls;    /* referenced */
    struct buf message; /* until it is sent */
    struct buf reply;
    struct err error; /* code: why there is none */
    bool reached, answered;
};

static void set_error(struct call *c, const struct err *e)
{
    if (c->error.code == 0)
        c->error = *e;
}

static void call_on_closed(void *ctx, struct rpc_conn *conn, const struct err *e)
{
    struct call *c = ctx;

    if (!c->answered)
        set_error(c, e);
    tls_unref(c->tls);
    mem_wipe(c->message.data, c->message.capacity); /* a token may be in it */
    buf_fini(&c->message);
    c->config.done(c->config.ctx, &c->error, c->reached, buf_bytes(&c->reply), c->reply.length);
    buf_fini(&c->reply);
    free(c);
}

static void call_on_answer(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct call *c = ctx;

    if (e->code == 0 && c->error.code == 0) {
        c->reached = c->answered = true;
        buf_append(&c->reply, reply, size);
    } else if (e->code) {
        /* What the far side says ends the stream alone; a broken connection ends with it. */
        c->reached = e->code != ERR_CANCELED && e->code != ERR_CLOSED && e->code != ERR_TIMEOUT;
        set_error(c, e);
    }
    rpc_conn_close(c->conn); /* call_on_closed goes on */
}

static void call_on_open(void *ctx, struct rpc_conn *conn, const struct rpc_identity *peer)
{
    struct call *c = ctx;
    struct err e;

    if (c->config.on_open)
        c->config.on_open(c->config.ctx, conn);
    if (rpc_call(conn, c->config.method, buf_bytes(&c->message), c->message.length, c->config.reply_bytes_max,
                 c->config.timeout_ms, call_on_answer, c, &e) < 0) {
        set_error(c, &e);
        rpc_conn_close(conn);
    }
}

int call_start(const struct call_config *config, struct call **ret, struct err *e)
{
    struct call *c = mem_alloc(sizeof(*c));
    struct rpc_conn_events events = {.ctx = c, .on_open = call_on_open, .on_closed = call_on_closed};
    struct rpc_dial how = {.address = config->address,
                           .tls = config->tls,
                           .expect_roles = config->expect_roles,
                           .expect_cluster = config->expect_cluster,
                           .timeout_ms = config->timeout_ms};

    c->config = *config;
    int rc = rpc_dial(config->loop, &how, &events, &c->conn, e);
    if (rc < 0) {
        free(c);
        return rc;
    }
    c->config.address = c->config.expect_cluster = NULL; /* borrowed until here */
    c->config.message = NULL;
    c->tls = tls_ref(config->tls);
    buf_append(&c->message, config->message, config->size);
    *ret = c;
    return 0;
}

void call_cancel(struct call *c)
{
    struct err e;

    err_set(&e, ERR_CANCELED, "given up");
    c->answered = false;
    set_error(c, &e);
    rpc_conn_close(c->conn);
}
