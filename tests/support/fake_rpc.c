/* See fake_rpc.h. A stream is its own connection. */
#include <stdlib.h>

#include "proto/base/mem.h"
#include "tests/support/fake_rpc.h"

struct rpc_stream {
    struct rpc_stream_events events;
    struct fake_rpc_far far;
    bool ended; /* by whoever serves it */
};

struct rpc_stream *fake_rpc_open(const struct fake_rpc_far *far)
{
    struct rpc_stream *s = mem_alloc(sizeof(*s));

    s->far = *far;
    return s;
}

void fake_rpc_message(struct rpc_stream *s, const void *message, size_t size)
{
    if (!s->ended && s->events.on_message)
        s->events.on_message(s->events.ctx, s, message, size);
}

void fake_rpc_writable(struct rpc_stream *s)
{
    if (!s->ended && s->events.on_writable)
        s->events.on_writable(s->events.ctx, s);
}

void fake_rpc_ended(struct rpc_stream *s, const struct err *e)
{
    if (s->events.on_end)
        s->events.on_end(s->events.ctx, s, e);
    free(s);
}

/* --- proto/wire/rpc.h ------------------------------------------------------------------------------------- */

void rpc_stream_set(struct rpc_stream *s, const struct rpc_stream_events *events)
{
    s->events = *events;
}

struct rpc_conn *rpc_stream_conn(struct rpc_stream *s)
{
    return (struct rpc_conn *)s;
}

const char *rpc_conn_address(const struct rpc_conn *c)
{
    return ((const struct rpc_stream *)c)->far.address;
}

int rpc_send(struct rpc_stream *s, const void *message, size_t size)
{
    return s->ended ? ERR_CLOSED : s->far.on_send(s->far.ctx, message, size);
}

void rpc_end(struct rpc_stream *s, const struct err *e)
{
    static const struct err fine;

    if (s->ended)
        return;
    s->ended = true;
    s->far.on_end(s->far.ctx, e ? e : &fine);
}

void rpc_pause(struct rpc_stream *s, bool paused)
{
    s->far.on_pause(s->far.ctx, paused);
}

void rpc_conn_close(struct rpc_conn *c)
{
    struct err e;

    err_set(&e, ERR_CANCELED, "the connection is closed");
    rpc_end((struct rpc_stream *)c, &e);
}

/* Nothing is opened towards the far side here: it has no methods. */
int rpc_open(struct rpc_conn *c, uint16_t method, uint32_t message_bytes_max, const void *message, size_t size,
             const struct rpc_stream_events *events, struct rpc_stream **ret, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "method %u is not served", method);
}
