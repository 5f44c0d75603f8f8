/* RPC below TLS: what a peer with a valid certificate can send.
 *
 * The input is the plain bytes of a connection, handed over in pieces; a byte 0xff introduces an event of our side
 * (the loop turns, streams are paused, resumed and ended, messages are sent). Some streams of ours are open from
 * the start. Laws: a stream keeps no more than its credit and its largest message, every stream's end is told once,
 * and everything is freed. The frames alone are also read at another split and must be the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/rpc_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVENT       0xff
#define MESSAGE_MAX 5000
#define STREAMS_MAX 64

static uv_loop_t loop;

static struct {
    struct rpc_conn *conn;                   /* NULL once closed */
    struct rpc_stream *streams[STREAMS_MAX]; /* alive and told to us */
    unsigned told, ended;
    uint8_t sum; /* of what was received */
} run;

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* --- our side ------------------------------------------------------------------------------------ */

static void on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    for (size_t i = 0; i < size; i++)
        run.sum ^= ((const uint8_t *)message)[i];
    must(size <= MESSAGE_MAX);
    if (size % 7 == 3)
        rpc_pause(s, true);
    else if (size % 7 == 5)
        (void)rpc_send(s, message, size); /* ERR_AGAIN is fine */
}

static void on_writable(void *ctx, struct rpc_stream *s)
{
    (void)rpc_send(s, "more", 4);
}

static void on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    run.ended++;
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (run.streams[i] == s)
            run.streams[i] = NULL;
}

static const struct rpc_stream_events stream_events = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end};

static void remember(struct rpc_stream *s)
{
    run.told++;
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        if (!run.streams[i]) {
            run.streams[i] = s;
            return;
        }
    }
    abort(); /* the limits allow fewer */
}

static void on_open(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    remember(s);
    rpc_stream_set(s, &stream_events);
    on_message(ctx, s, message, size);
}

static void on_open_once(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                         size_t size)
{
    (void)rpc_send(s, message, size);
    rpc_end(s, NULL);
}

static const struct rpc_method methods[] = {
    {1, "talk", RPC_ROLE_WORKER, MESSAGE_MAX, 0, on_open},
    {2, "once", RPC_ROLE_WORKER, 100, 2, on_open_once},
    {3, "never", RPC_ROLE_MANAGER, 100, 0, on_open},
};

static void on_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    run.conn = NULL;
}

static void begin(void)
{
    static SSL_CTX *context;
    struct rpc_conn *c = rpc_conn_new(&loop);

    if (!context)
        context = SSL_CTX_new(TLS_method());
    memset(&run, 0, sizeof(run));
    run.conn = c;
    c->methods = methods;
    c->method_count = ARRAY_SIZE(methods);
    c->events.on_closed = on_closed;
    c->peer.role = RPC_ROLE_WORKER;
    c->state = RPC_GREETING;
    /* A link that takes what is sent and loses it: its session was never started. */
    c->link.events = rpc_link_events();
    c->link.ready = true;
    c->link.session = SSL_new(context);
    must(uv_tcp_init(&loop, &c->link.tcp) == 0);
    c->link.tcp.data = &c->link;
    for (int i = 0; i < 3; i++) {
        struct rpc_stream *s = NULL;

        must(rpc_open(c, 9, MESSAGE_MAX, "hello", 5, &stream_events, &s, NULL) == 0);
        remember(s);
    }
}

/* --- laws ---------------------------------------------------------------------------------------- */

static void check(void)
{
    struct rpc_stream *s;

    if (!run.conn || run.conn->state == RPC_CLOSING)
        return;
    list_each (s, &run.conn->all, by_conn) {
        must(s->in.length <= RPC_CREDIT_BYTES + MESSAGE_MAX + 4);
        must(s->credit <= RPC_CREDIT_BYTES && s->allowed <= RPC_CREDIT_BYTES);
        must(s->counted <= s->in.length || s->ending);
    }
}

static void event(uint8_t what)
{
    struct rpc_stream *s = run.streams[what >> 3 & (STREAMS_MAX - 1) & 7];
    struct err e;

    if (what % 8 == 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    if (!s || !run.conn || run.conn->state == RPC_CLOSING)
        return;
    switch (what % 8) {
    case 1:
    case 2:
        rpc_pause(s, what % 8 == 1);
        break;
    case 3:
        if (!s->ended_by_user)
            rpc_end(s, NULL);
        break;
    case 4:
        err_set(&e, ERR_IO, "failed");
        if (!s->ended_by_user)
            rpc_end(s, &e);
        break;
    case 5:
        if (!s->ended_by_user)
            (void)rpc_send(s, methods, sizeof(methods));
        break;
    case 6:
        if (what == 0xfe)
            rpc_conn_close(run.conn);
        break;
    default:
        break;
    }
}

/* The frames of a piece of input, as a text, read `step` bytes at a time. */
static void list_frames(const uint8_t *data, size_t size, size_t step, struct buf *ret)
{
    struct frame_reader r = {0};
    struct frame f;
    int rc = 0;

    for (size_t at = 0; at < size && rc >= 0; at += step) {
        const uint8_t *piece = data + at;
        size_t left = MIN(step, size - at);

        while ((rc = frame_read(&r, &piece, &left, &f, NULL)) > 0) {
            buf_printf(ret, "%d %u %zu:", f.type, f.stream, f.size);
            buf_append(ret, f.payload, f.size);
        }
    }
    buf_printf(ret, "%d", rc < 0 ? rc : 0);
    frame_reader_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    AUTO_BUF struct buf whole = {0}, split = {0};

    if (!ready)
        must(uv_loop_init(&loop) == 0);
    ready = true;
    log_set_level(LOG_LEVEL_ERROR); /* refusals are logged, and expected here */
    list_frames(data, size, size ? size : 1, &whole);
    list_frames(data, size, size > 3000 ? 7 : 1, &split);
    must(whole.length == split.length && memcmp(buf_bytes(&whole), buf_bytes(&split), whole.length) == 0);

    begin();
    for (size_t at = 0; at < size;) {
        const uint8_t *mark = memchr(data + at, EVENT, size - at);
        size_t part = mark ? (size_t)(mark - data) - at : size - at;

        if (part > 0 && run.conn && run.conn->state != RPC_CLOSING) {
            uint8_t *copy = mem_dup(data + at, part); /* so that reads beyond it are seen */

            rpc_link_events()->on_data(&run.conn->link, copy, part);
            if (run.conn && run.conn->state != RPC_CLOSING)
                rpc_link_events()->on_turn(&run.conn->link);
            free(copy);
        }
        at += part;
        check();
        if (mark) {
            if (at + 1 < size)
                event(data[at + 1]);
            at += 2;
        }
    }
    for (int i = 0; i < 5; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    check();
    if (run.conn)
        rpc_conn_close(run.conn);
    for (int i = 0; run.conn; i++) {
        must(i < 100);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    must(run.told == run.ended);
    return 0;
}
