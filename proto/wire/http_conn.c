/* One connection of the HTTP server: requests served one after the other.
 *
 *                 .------------------------------------.
 *                 v                                    | kept alive
 *     (accept) IDLE ---> HEAD ---> EXCHANGE -----------+
 *                         |           |  `-> HIJACKED  |
 *                 refused |           |         |      | not kept
 *                         +---------> + <-------+------'
 *                                     v
 *                                   FLUSH ---> LINGER ---> CLOSING         (everything goes to CLOSING when the
 * link breaks)
 *
 * Everything that happens - bytes, an answer, a deadline - is only noted by its callback; http_conn_advance then
 * takes steps until none is possible, starts writing, decides whether to read, and sets the timer. Handlers are
 * called from there and nowhere else, so none is ever called from inside a function it called.
 *
 * Back-pressure: one write is under way at a time, the rest waits in `out`. The socket is read only while somebody
 * takes the bytes; while an answer is made, up to HTTP_READ_BYTES are read ahead, for the sake of noticing the
 * client's end and of pipelined requests. An exchange ends when its last byte was taken by the kernel, so a client
 * that sends requests without reading answers holds one answer in memory.
 *
 * A client that closes its sending half is not gone: it may wait for the answer. It is gone when the link says so
 * (reset, hang-up), when it left in the middle of a body, or when nothing is owed to it. Gone clients are told to
 * the handler by on_close. A handler without on_close keeps its exchange until it has answered, into nothing.
 *
 * After the last answer our half is closed and what the client still sends is thrown away for a moment: closing a
 * socket with unread bytes would reset it, and the reset can overtake the answer. */
#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/sm.h"
#include "proto/wire/http_internal.h"

static const char *const state_names[] = {
    [HTTP_IDLE] = "idle",   [HTTP_HEAD] = "head",     [HTTP_EXCHANGE] = "exchange", [HTTP_HIJACKED] = "hijacked",
    [HTTP_FLUSH] = "flush", [HTTP_LINGER] = "linger", [HTTP_CLOSING] = "closing"};
static const uint32_t state_moves[] = {
    [HTTP_IDLE] = SM_TO(HTTP_HEAD) | SM_TO(HTTP_FLUSH) | SM_TO(HTTP_CLOSING),
    [HTTP_HEAD] = SM_TO(HTTP_EXCHANGE) | SM_TO(HTTP_FLUSH) | SM_TO(HTTP_CLOSING),
    [HTTP_EXCHANGE] = SM_TO(HTTP_IDLE) | SM_TO(HTTP_HIJACKED) | SM_TO(HTTP_FLUSH) | SM_TO(HTTP_CLOSING),
    [HTTP_HIJACKED] = SM_TO(HTTP_FLUSH) | SM_TO(HTTP_CLOSING),
    [HTTP_FLUSH] = SM_TO(HTTP_LINGER) | SM_TO(HTTP_CLOSING),
    [HTTP_LINGER] = SM_TO(HTTP_CLOSING),
    [HTTP_CLOSING] = 0,
};
static const struct sm_table states = {
    .machine = "http connection", .states = state_names, .moves = state_moves, .count = ARRAY_SIZE(state_names)};

#define NO_DEADLINE INT64_MAX
#define KEEP_BYTES  16384 /* of an empty buffer */

static int64_t now_ms(const struct http_conn *c)
{
    return (int64_t)uv_now(c->server->loop);
}

static void move(struct http_conn *c, int state)
{
    sm_move(&states, &c->state, state);
    c->since = now_ms(c);
}

void http_conn_init(struct http_conn *c, struct http_server *s, const struct http_link *link)
{
    c->server = s;
    c->link = link;
    c->state = HTTP_IDLE;
    c->since = now_ms(c);
    list_init(&c->soon);
    list_push(&s->conns, &c->by_server);
    s->conn_count++;
    (void)uv_timer_init(s->loop, &c->timer); /* cannot fail */
    c->timer.data = c;
    http_conn_soon(c);
}

size_t http_conn_queued(const struct http_conn *c)
{
    return c->out.length + (c->writing ? c->link->unsent(c) : 0);
}

void http_conn_soon(struct http_conn *c)
{
    if (!c->advancing)
        http_server_soon(c->server, c);
}

void http_conn_fail(struct http_conn *c)
{
    c->failed = true;
    http_conn_soon(c);
}

/* Empty a buffer; one that grew large is given back, for connections may stand still for days. */
static void drain(struct buf *b)
{
    if (b->capacity > KEEP_BYTES)
        buf_fini(b);
    else
        buf_clear(b);
}

/* --- what the link reports ----------------------------------------------------------------------- */

void http_conn_on_data(struct http_conn *c, const char *data, size_t size)
{
    buf_append(&c->in, data, size);
    c->moved_in = now_ms(c);
    http_conn_advance(c);
}

void http_conn_on_eof(struct http_conn *c)
{
    c->eof = true;
    c->reading = false;
    if (c->state == HTTP_EXCHANGE || c->state == HTTP_HIJACKED)
        c->link->watch_hangup(c);
    http_conn_advance(c);
}

void http_conn_on_wrote(struct http_conn *c, bool ok)
{
    c->writing = false;
    c->moved_out = now_ms(c);
    drain(&c->flight);
    if (!ok)
        c->failed = true;
    http_conn_advance(c);
}

void http_conn_on_broken(struct http_conn *c)
{
    c->failed = true;
    http_conn_advance(c);
}

void http_conn_on_closed(struct http_conn *c)
{
    c->link_closed = true;
    http_conn_advance(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct http_conn *c = handle->data;

    c->timer_closed = true;
    http_conn_advance(c);
}

/* --- ends ---------------------------------------------------------------------------------------- */

static void end_exchange(struct http_conn *c)
{
    struct http_exchange *x = steal(&c->x);

    if (x->on_end)
        x->on_end(x);
    http_exchange_free(x);
}

/* The handler has started nothing yet but waits for the body. */
static bool waits_for_body(const struct http_exchange *x)
{
    return !x->begun && !x->body_told && !x->paused &&
           (x->mode == HTTP_BODY_COLLECT || x->mode == HTTP_BODY_STREAM);
}

/* The client will see nothing more of this exchange. Ends it, or leaves it to a handler that asked for no word. */
static void tell_gone(struct http_conn *c)
{
    struct http_exchange *x = c->x;

    if (!x || x->gone)
        return;
    x->gone = true;
    if (x->complete)
        return;
    if (x->on_close || waits_for_body(x)) {
        if (x->on_close)
            x->on_close(x);
        x->complete = true;
        return;
    }
    /* It has no other way to learn it; whatever it waits for is told as if it had come. */
    if (x->answer == HTTP_ANSWER_HIJACK && !x->half_told) {
        x->half_told = true;
        (void)x->on_data(x, NULL, 0);
    }
    if (!x->complete && x->blocked) {
        x->blocked = false;
        if (x->on_writable)
            x->on_writable(x);
    }
}

static void start_closing(struct http_conn *c)
{
    move(c, HTTP_CLOSING);
    c->reading = false;
    c->link->close(c);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

/* Refuse what is being served, when that can still be said. */
static void give_up(struct http_conn *c, int status, const struct err *e)
{
    if (c->x && c->x->begun) {
        c->failed = true;
        return;
    }
    bool bodyless = c->x ? strcmp(c->x->head.method, "HEAD") == 0
                         : c->in.length >= 5 && memcmp(buf_bytes(&c->in), "HEAD ", 5) == 0;
    http_refuse(c, status, e, bodyless);
    tell_gone(c);
    move(c, HTTP_FLUSH);
}

void http_conn_turn_away(struct http_conn *c, int status, const struct err *e)
{
    give_up(c, status, e);
}

/* --- steps: each returns whether something happened ------------------------------------------------ */

static bool step_idle(struct http_conn *c)
{
    /* An empty line before a request is an old client's habit that servers must bear. */
    while (c->in.length >= 2 && memcmp(buf_bytes(&c->in), "\r\n", 2) == 0)
        buf_consume(&c->in, 2);
    if (c->in.length > 1 || (c->in.length == 1 && *buf_bytes(&c->in) != '\r')) {
        c->scanned = 0;
        move(c, HTTP_HEAD);
        return true;
    }
    if (c->eof)
        start_closing(c);
    return false;
}

static bool step_head(struct http_conn *c)
{
    size_t limit = c->server->limits.head_bytes;
    struct err e;
    long end = http_head_scan(buf_bytes(&c->in), c->in.length, &c->scanned, &e);

    if (end < 0) {
        give_up(c, 400, &e);
        return true;
    }
    if ((size_t)end > limit || (end == 0 && c->in.length >= limit)) {
        err_set(&e, ERR_LIMIT, "request head is larger than %zu bytes", limit);
        give_up(c, 431, &e);
        return true;
    }
    if (end == 0) {
        if (!c->eof)
            return false;
        c->failed = true; /* left in the middle of a head: nobody to answer */
        return true;
    }
    struct http_exchange *x = http_exchange_new(c);
    int status = http_head_parse(buf_bytes(&c->in), (size_t)end, &x->arena, &x->head, &e);
    if (status) {
        http_exchange_free(x);
        give_up(c, status, &e);
        return true;
    }
    buf_consume(&c->in, (size_t)end);
    http_body_init(&x->body, &x->head);
    c->x = x;
    move(c, HTTP_EXCHANGE);
    c->server->handler.on_request(c->server->handler.ctx, x);
    return true;
}

/* Let a stream or hijack that was told to wait go on. */
static bool unblock(struct http_conn *c)
{
    struct http_exchange *x = c->x;

    if (!x->blocked || x->complete || http_conn_queued(c) > c->server->limits.write_bytes / 2)
        return false;
    x->blocked = false;
    if (!x->on_writable)
        return false;
    x->on_writable(x);
    return true;
}

/* The answer is complete and taken: serve the next request, or part. */
static void finish(struct http_conn *c)
{
    bool keep = c->x->keep && c->x->body.done && c->x->answer != HTTP_ANSWER_HIJACK;

    end_exchange(c);
    buf_fini(&c->out);
    buf_fini(&c->flight);
    if (c->in.length == 0)
        buf_fini(&c->in);
    move(c, keep ? HTTP_IDLE : HTTP_FLUSH);
}

static bool step_exchange(struct http_conn *c)
{
    struct http_exchange *x = c->x;
    struct err e;
    int code = 0;

    if (x->too_large) {
        err_set(&e, ERR_LIMIT, "request body is larger than %zu bytes", c->server->limits.body_bytes);
        give_up(c, 413, &e);
        return true;
    }
    if (http_exchange_read(x, &code, &e))
        return true;
    if (code < 0) {
        give_up(c, 400, &e);
        return true;
    }
    if (x->answer == HTTP_ANSWER_HIJACK && x->body.done) {
        move(c, HTTP_HIJACKED);
        return true;
    }
    if (x->complete) {
        if (http_conn_queued(c) > 0 || c->writing)
            return false;
        finish(c);
        return true;
    }
    if (c->eof && http_exchange_wants(x)) {
        c->failed = true; /* left in the middle of the body */
        return true;
    }
    return unblock(c);
}

static bool step_hijacked(struct http_conn *c)
{
    struct http_exchange *x = c->x;
    bool all_written = http_conn_queued(c) == 0 && !c->writing;

    if (x->complete) {
        if (all_written)
            finish(c);
        return all_written;
    }
    if (!x->paused && c->in.length > 0) {
        x->paused = !x->on_data(x, buf_bytes(&c->in), c->in.length);
        drain(&c->in);
        return true;
    }
    if (!x->paused && c->eof && !x->half_told) {
        x->half_told = true;
        x->paused = !x->on_data(x, NULL, 0);
        return true;
    }
    if (x->shut_wanted && !c->shut && all_written) {
        c->shut = true;
        c->link->shutdown(c);
    }
    return unblock(c);
}

static bool step_flush(struct http_conn *c)
{
    buf_clear(&c->in);
    if (http_conn_queued(c) > 0 || c->writing)
        return false;
    if (!c->shut)
        c->link->shutdown(c);
    c->shut = true;
    move(c, HTTP_LINGER);
    return true;
}

static bool step_linger(struct http_conn *c)
{
    buf_fini(&c->in);
    if (c->eof)
        start_closing(c);
    return false;
}

static bool step(struct http_conn *c)
{
    if (c->x && c->x->gone && c->x->complete) {
        end_exchange(c);
        return true;
    }
    if (c->failed && c->state != HTTP_CLOSING) {
        start_closing(c);
        tell_gone(c);
        return true;
    }
    switch (c->state) {
    case HTTP_IDLE:
        return step_idle(c);
    case HTTP_HEAD:
        return step_head(c);
    case HTTP_EXCHANGE:
        return step_exchange(c);
    case HTTP_HIJACKED:
        return step_hijacked(c);
    case HTTP_FLUSH:
        return step_flush(c);
    case HTTP_LINGER:
        return step_linger(c);
    default:
        return false;
    }
}

/* --- deadlines ----------------------------------------------------------------------------------- */

static int64_t body_deadline(const struct http_conn *c)
{
    if (c->state == HTTP_EXCHANGE && http_exchange_wants(c->x))
        return MAX(c->moved_in, c->since) + c->server->limits.body_stall_ms;
    return NO_DEADLINE;
}

/* A hijacked stream may stand still for as long as its terminal likes. */
static int64_t write_deadline(const struct http_conn *c)
{
    if ((c->state == HTTP_EXCHANGE || c->state == HTTP_FLUSH) && c->writing)
        return c->moved_out + c->server->limits.body_stall_ms;
    return NO_DEADLINE;
}

static int64_t deadline(const struct http_conn *c)
{
    switch (c->state) {
    case HTTP_IDLE:
        return c->since + c->server->limits.idle_ms;
    case HTTP_HEAD:
        return c->since + c->server->limits.head_ms;
    case HTTP_LINGER:
        return c->since + HTTP_LINGER_MS;
    default:
        return MIN(body_deadline(c), write_deadline(c));
    }
}

static void on_timer(uv_timer_t *timer);

/* The timer may fire early, never late: most deadlines only ever move away. */
static void set_timer(struct http_conn *c)
{
    int64_t due = deadline(c), now = now_ms(c);

    if (due == NO_DEADLINE)
        return;
    uint64_t in = due > now ? (uint64_t)(due - now) : 0;
    if (!uv_is_active((uv_handle_t *)&c->timer) || uv_timer_get_due_in(&c->timer) > in)
        (void)uv_timer_start(&c->timer, on_timer, in, 0); /* fails only while closing */
}

static void expire(struct http_conn *c)
{
    int64_t now = now_ms(c);
    struct err e;

    if (c->writing && c->link->unsent(c) != c->unsent_seen) { /* slow, but it takes something */
        c->unsent_seen = c->link->unsent(c);
        c->moved_out = now;
    }
    if (deadline(c) > now)
        return;
    if (c->state == HTTP_HEAD) {
        err_set(&e, ERR_TIMEOUT, "request head did not arrive within %d ms", c->server->limits.head_ms);
        give_up(c, 408, &e);
    } else if (body_deadline(c) <= now) {
        err_set(&e, ERR_TIMEOUT, "no byte of the request body arrived within %d ms",
                c->server->limits.body_stall_ms);
        give_up(c, 408, &e);
    } else {
        c->failed = true;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct http_conn *c = timer->data;

    c->advancing = true; /* what expire calls is called from advance */
    expire(c);
    c->advancing = false;
    http_conn_advance(c);
}

/* --- advance ------------------------------------------------------------------------------------- */

static void start_writing(struct http_conn *c)
{
    if (c->writing || c->out.length == 0)
        return;
    struct buf written = c->flight;
    c->flight = c->out;
    c->out = written;
    c->writing = true;
    c->moved_out = now_ms(c);
    c->unsent_seen = c->flight.length;
    c->link->write(c, buf_bytes(&c->flight), c->flight.length);
}

static bool wants_bytes(const struct http_conn *c)
{
    switch (c->state) {
    case HTTP_EXCHANGE:
    case HTTP_HIJACKED:
        return !c->x->paused && c->in.length < HTTP_READ_BYTES;
    default:
        return true;
    }
}

static void settle(struct http_conn *c)
{
    if (c->state == HTTP_CLOSING) {
        if (c->link_closed && c->timer_closed && !c->x) {
            http_server_forget(c->server, c);
            list_remove(&c->soon);
            buf_fini(&c->in);
            buf_fini(&c->out);
            buf_fini(&c->flight);
            c->link->free(c);
        }
        return;
    }
    start_writing(c);
    bool read = !c->eof && wants_bytes(c);
    if (read != c->reading) {
        c->reading = read;
        c->link->read(c, read);
    }
    set_timer(c);
}

void http_conn_advance(struct http_conn *c)
{
    assert(!c->advancing);
    c->advancing = true;
    while (step(c))
        ;
    c->advancing = false;
    settle(c);
}
