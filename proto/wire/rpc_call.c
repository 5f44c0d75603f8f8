/* Calls: a stream with one message each way and a time limit.
 *
 * The reply is kept until the stream's end, which says whether the call succeeded. A call that timed out is done
 * for its caller at once; its stream is ended behind its back. The struct is freed when both the stream and the
 * timer are through. */
#include <string.h>

#include "proto/base/mem.h"
#include "proto/wire/rpc_internal.h"

struct rpc_call {
    uv_timer_t timer;
    struct rpc_stream *stream; /* NULL once it ended */
    void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size);
    void *ctx; /* the caller's */
    struct buf reply;
    unsigned replies; /* messages received */
    bool is_done;     /* `done` was called */
    int timeout_ms;
};

static void call_done(struct rpc_call *call, const struct err *e)
{
    if (call->is_done)
        return;
    call->is_done = true;
    call->done(call->ctx, e, e->code ? NULL : buf_str(&call->reply), e->code ? 0 : call->reply.length);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct rpc_call *call = handle->data;

    buf_fini(&call->reply);
    free(call);
}

static void call_on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    struct rpc_call *call = ctx;

    (void)s;
    if (call->replies++ == 0)
        buf_append(&call->reply, message, size);
}

static void call_on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct rpc_call *call = ctx;
    struct err wrong;

    (void)s;
    call->stream = NULL;
    if (e->code == 0 && call->replies != 1) {
        err_set(&wrong, ERR_CORRUPT, "%u replies to one call", call->replies);
        e = &wrong;
    }
    call_done(call, e);
    uv_close((uv_handle_t *)&call->timer, on_timer_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct rpc_call *call = timer->data;
    struct err e;

    err_set(&e, ERR_TIMEOUT, "no reply from %s within %d ms", rpc_conn_address(rpc_stream_conn(call->stream)),
            call->timeout_ms);
    call_done(call, &e);
    if (call->stream)
        rpc_end(call->stream, &e);
}

int rpc_call(struct rpc_conn *c, uint16_t method, const void *message, size_t size, uint32_t reply_bytes_max,
             int timeout_ms, void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size),
             void *ctx, struct err *e)
{
    struct rpc_call *call = mem_alloc(sizeof(*call));
    struct rpc_stream_events events = {.ctx = call, .on_message = call_on_message, .on_end = call_on_end};

    call->done = done;
    call->ctx = ctx;
    call->timeout_ms = timeout_ms;
    int rc = rpc_open(c, method, reply_bytes_max, message, size, &events, &call->stream, e);
    if (rc < 0) {
        free(call);
        return rc;
    }
    (void)uv_timer_init(c->timer.loop, &call->timer); /* these two cannot fail */
    call->timer.data = call;
    (void)uv_timer_start(&call->timer, on_timer, (uint64_t)MAX(timeout_ms, 0), 0);
    return 0;
}
