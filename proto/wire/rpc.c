/* An RPC connection: hello, frames, deadlines, and how it begins and ends. See rpc.h for the promise.
 *
 *     CONNECTING --TLS done, peer judged--> GREETING --its hello--> OPEN --> CLOSING --> (freed)
 *
 * A dialed connection is open for its owner only once the peer's hello came: in TLS 1.3 the dialing side is done
 * before the other has judged its certificate, and only the hello says that it passed.
 *
 * Everything that is to be sent is put down first - frames about streams and the connection in `control`, messages
 * in their stream - and sealed by send_all at the end of the turn: control frames first, then the streams one after
 * the other, a record at a time, while less than RPC_OUT_BYTES wait for the kernel. So one large message delays
 * others by a few records only, and what a slow peer costs is bounded.
 *
 * Who reads nothing is not read: when our answers pile up (pings, refusals), reading stops; the idle limit then
 * ends it. Callbacks come from the loop's events, never from inside a call of the user's. */
#include <assert.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"
#include "proto/wire/rpc_internal.h"

#define HANDSHAKE_MS      10000
#define IDLE_MS           30000
#define BEATS             3     /* in idle_ms */
#define ANONYMOUS_LIFE_MS 60000 /* long enough to join */

static const char *const state_names[] = {
    [RPC_CONNECTING] = "connecting", [RPC_GREETING] = "greeting", [RPC_OPEN] = "open", [RPC_CLOSING] = "closing"};
static const uint32_t state_moves[] = {[RPC_CONNECTING] = SM_TO(RPC_GREETING) | SM_TO(RPC_CLOSING),
                                       [RPC_GREETING] = SM_TO(RPC_OPEN) | SM_TO(RPC_CLOSING),
                                       [RPC_OPEN] = SM_TO(RPC_CLOSING),
                                       [RPC_CLOSING] = 0};
static const struct sm_table states = {
    .machine = "rpc connection", .states = state_names, .moves = state_moves, .count = ARRAY_SIZE(state_names)};

static struct rpc_conn *conn_of(struct conn *link)
{
    return container_of(link, struct rpc_conn, link);
}

int64_t rpc_now(const struct rpc_conn *c)
{
    return (int64_t)uv_now(c->timer.loop);
}

/* --- ending -------------------------------------------------------------------------------------- */

static void free_conn(struct rpc_conn *c)
{
    tls_unref(c->tls);
    frame_reader_fini(&c->reader);
    buf_fini(&c->control);
    map64_fini(&c->streams);
    free(c->why);
    OPENSSL_free(c->certificate);
    free(c);
}

static void on_handle_closed(struct rpc_conn *c)
{
    if (--c->handles > 0)
        return;
    rpc_streams_end(c, c->why);
    if (c->server)
        rpc_server_forget(c);
    else if (c->events.on_closed && !c->silent)
        c->events.on_closed(c->events.ctx, c, c->why);
    free_conn(c);
}

static void on_own_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_link_closed(struct conn *link)
{
    on_handle_closed(conn_of(link));
}

/* Seal what is there without regard to room: nothing can be sent later. */
static void say_goodbye(struct rpc_conn *c, const struct err *e)
{
    frame_put_reason(&c->control, FRAME_CLOSE, 0, e->code, e->text);
    conn_write(&c->link, buf_bytes(&c->control), c->control.length);
}

static void start_closing(struct rpc_conn *c, const struct err *e, bool tell)
{
    if (c->state == RPC_CLOSING)
        return;
    c->why = mem_dup(e, sizeof(*e));
    err_wrap(c->why, "%s", c->address);
    if (tell && c->link.ready)
        say_goodbye(c, e);
    sm_move(&states, &c->state, RPC_CLOSING);
    uv_close((uv_handle_t *)&c->timer, on_own_closed);
    uv_close((uv_handle_t *)&c->soon, on_own_closed);
    conn_close(&c->link);
}

void rpc_conn_fail(struct rpc_conn *c, const struct err *e)
{
    start_closing(c, e, true);
}

void rpc_conn_close(struct rpc_conn *c)
{
    struct err e;

    err_set(&e, ERR_CANCELED, "connection was closed");
    start_closing(c, &e, true);
}

void rpc_conn_abandon(struct rpc_conn *c)
{
    struct err e;

    err_set(&e, ERR_CANCELED, "connection was left to another");
    c->link.broken = true; /* nothing is sent any more, nor the notice of TLS */
    start_closing(c, &e, false);
}

static void on_broken(struct conn *link, const struct err *e)
{
    start_closing(conn_of(link), e, false);
}

/* --- sending ------------------------------------------------------------------------------------- */

static void send_all(struct rpc_conn *c)
{
    struct buf batch = {0};

    while (c->link.ready && c->state != RPC_CLOSING && conn_queued(&c->link) < RPC_OUT_BYTES) {
        size_t part = MIN(c->control.length, (size_t)FRAME_BYTES_MAX);

        buf_append(&batch, buf_bytes(&c->control), part);
        buf_consume(&c->control, part);
        if (c->control.length == 0) {
            buf_fini(&c->control);
            rpc_streams_fill(c, &batch, FRAME_BYTES_MAX);
        }
        if (c->state == RPC_CLOSING)
            break; /* a callback closed the connection */
        if (batch.length == 0 && c->control.length == 0)
            break; /* looking after streams may have put more of it */
        conn_write(&c->link, buf_bytes(&batch), batch.length);
        buf_clear(&batch);
    }
    buf_fini(&batch);
    conn_flush(&c->link);
}

static void work(struct rpc_conn *c)
{
    if (c->state == RPC_CLOSING)
        return;
    send_all(c);
    if (c->state != RPC_CLOSING)
        conn_read(&c->link, conn_queued(&c->link) + c->control.length < RPC_CONTROL_BYTES);
}

static void on_soon(uv_idle_t *soon)
{
    uv_idle_stop(soon);
    work(soon->data);
}

void rpc_conn_soon(struct rpc_conn *c)
{
    if (c->state != RPC_CLOSING)
        (void)uv_idle_start(&c->soon, on_soon); /* no-op when active */
}

static void on_turn(struct conn *link)
{
    work(conn_of(link));
}

/* --- receiving ----------------------------------------------------------------------------------- */

/* The peer says why it closes; the connection's end follows, but need not be waited for. */
static void frame_close(struct rpc_conn *c, const struct frame *f)
{
    struct err e;

    frame_reason(f, &e);
    if (e.code == 0)
        e.code = ERR_CLOSED;
    start_closing(c, &e, false);
}

static void set_timer(struct rpc_conn *c);

static void frame_hello(struct rpc_conn *c)
{
    sm_move(&states, &c->state, RPC_OPEN);
    set_timer(c);
    if (c->events.on_open)
        c->events.on_open(c->events.ctx, c, &c->peer);
}

static int dispatch(struct rpc_conn *c, const struct frame *f, struct err *e)
{
    switch (f->type) {
    case FRAME_HELLO:
        frame_hello(c);
        return 0;
    case FRAME_PING:
        frame_put(&c->control, FRAME_PONG, 0, f->payload, f->size);
        return 0;
    case FRAME_PONG: /* it was heard, that is all */
        return 0;
    case FRAME_CLOSE:
        frame_close(c, f);
        return 0;
    case FRAME_OPEN:
    case FRAME_DATA:
    case FRAME_CREDIT:
    case FRAME_END:
        return rpc_stream_frame(c, f, e);
    }
    return 0;
}

static void on_data(struct conn *link, const uint8_t *data, size_t size)
{
    struct rpc_conn *c = conn_of(link);
    struct frame f;
    struct err e;
    int rc = 1;

    c->heard = true;
    while (rc > 0 && c->state != RPC_CLOSING) {
        rc = frame_read(&c->reader, &data, &size, &f, &e);
        if (rc > 0 && dispatch(c, &f, &e) < 0)
            rc = e.code;
    }
    if (rc < 0)
        rpc_conn_fail(c, &e);
}

/* --- the peer is judged -------------------------------------------------------------------------- */

/* Keep the certificate as bytes: the library's object is ten times as large. */
static void keep_certificate(struct rpc_conn *c)
{
    X509 *cert = SSL_get0_peer_certificate(c->link.session);
    int size = cert ? i2d_X509(cert, &c->certificate) : 0;

    c->certificate_size = size > 0 ? (size_t)size : 0;
    tls_forget_peer(c->link.session);
}

static int judge_peer(struct rpc_conn *c, struct err *e)
{
    int rc = tls_identify(c->tls, c->link.session, &c->peer, e);

    if (rc < 0)
        return rc;
    keep_certificate(c);
    if (c->server)
        return rpc_server_admit(c, e);
    if (c->expect_roles && !(c->expect_roles & c->peer.role))
        return err_set(e, ERR_UNAUTHORIZED, "peer has not the role it should have");
    if (c->expect_cluster[0] && strcmp(c->expect_cluster, c->peer.cluster_id) != 0)
        return err_set(e, ERR_UNAUTHORIZED, "peer belongs to cluster \"%s\", not to %s", c->peer.cluster_id,
                       c->expect_cluster);
    return 0;
}

static void on_ready(struct conn *link)
{
    struct rpc_conn *c = conn_of(link);
    struct err e;

    if (judge_peer(c, &e) < 0) {
        rpc_conn_fail(c, &e);
        return;
    }
    frame_put_hello(&c->control);
    sm_move(&states, &c->state, RPC_GREETING);
    work(c);
}

static void on_handshake_due(struct conn *link)
{
    rpc_server_handshake_due(conn_of(link));
}

const struct conn_events *rpc_link_events(void)
{
    static const struct conn_events events = {
        .on_handshake_due = on_handshake_due,
        .on_ready = on_ready,
        .on_data = on_data,
        .on_turn = on_turn,
        .on_broken = on_broken,
        .on_closed = on_link_closed,
    };

    return &events;
}

/* --- deadlines ----------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void set_timer(struct rpc_conn *c)
{
    int64_t in = c->state == RPC_OPEN ? c->idle_ms / BEATS : c->since_ms + c->handshake_ms - rpc_now(c);

    (void)uv_timer_start(&c->timer, on_timer, (uint64_t)MAX(in, 1), 0); /* fails only while closing */
}

/* Beats are counted, not time: a process that was stopped for a minute finds its peers' bytes waiting in the
 * sockets and must not take them for dead before it has read them. */
static void beat(struct rpc_conn *c)
{
    static const uint8_t nonce[8];
    size_t queued = conn_queued(&c->link);
    struct err e;

    c->silent_beats = c->heard ? 0 : c->silent_beats + 1;
    c->stuck_beats = queued == 0 || queued != c->queued_seen ? 0 : c->stuck_beats + 1;
    c->heard = false;
    c->queued_seen = queued;
    if (c->silent_beats >= BEATS) {
        err_set(&e, ERR_TIMEOUT, "nothing was heard for %d ms", c->idle_ms);
        rpc_conn_fail(c, &e);
    } else if (c->stuck_beats >= BEATS) {
        err_set(&e, ERR_TIMEOUT, "took nothing for %d ms", c->idle_ms);
        rpc_conn_fail(c, &e);
    } else if (c->server && c->peer.role == RPC_ROLE_NONE && rpc_now(c) - c->since_ms >= ANONYMOUS_LIFE_MS) {
        err_set(&e, ERR_TIMEOUT, "no certificate after %d ms", ANONYMOUS_LIFE_MS);
        rpc_conn_fail(c, &e);
    } else if (c->silent_beats > 0) {
        frame_put(&c->control, FRAME_PING, 0, nonce, sizeof(nonce));
        work(c);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct rpc_conn *c = timer->data;
    struct err e;

    if (c->state == RPC_OPEN) {
        beat(c);
    } else if (rpc_now(c) - c->since_ms >= c->handshake_ms) {
        err_set(&e, ERR_TIMEOUT, "not connected within %d ms", c->handshake_ms);
        rpc_conn_fail(c, &e);
    }
    if (c->state != RPC_CLOSING)
        set_timer(c);
}

/* --- beginning ----------------------------------------------------------------------------------- */

struct rpc_conn *rpc_conn_new(uv_loop_t *loop)
{
    struct rpc_conn *c = mem_alloc(sizeof(*c));

    list_init(&c->by_server);
    list_init(&c->by_stage);
    list_init(&c->due);
    list_init(&c->by_peer);
    list_init(&c->all);
    list_init(&c->ready);
    (void)uv_timer_init(loop, &c->timer); /* these two cannot fail */
    (void)uv_idle_init(loop, &c->soon);
    c->timer.data = c->soon.data = c;
    c->handles = 3;
    c->handshake_ms = HANDSHAKE_MS;
    c->idle_ms = IDLE_MS;
    c->since_ms = rpc_now(c);
    c->peer.role = RPC_ROLE_NONE;
    c->next_id = 2;
    return c;
}

void rpc_conn_begin(struct rpc_conn *c)
{
    set_timer(c);
}

int rpc_dial(uv_loop_t *loop, const struct rpc_dial *dial, const struct rpc_conn_events *events,
             struct rpc_conn **ret, struct err *e)
{
    struct sockaddr_storage address;
    socklen_t size;
    struct err why;
    int rc = tcp_parse(dial->address, &address, &size, e);

    if (rc < 0)
        return rc;
    tcp_ignore_sigpipe();
    struct rpc_conn *c = rpc_conn_new(loop);
    c->next_id = 1;
    c->tls = tls_ref(dial->tls);
    c->methods = dial->methods;
    c->method_count = dial->method_count;
    c->method_ctx = dial->method_ctx;
    c->events = *events;
    c->expect_roles = dial->expect_roles;
    if (dial->expect_cluster)
        (void)snprintf(c->expect_cluster, sizeof(c->expect_cluster), "%s", dial->expect_cluster);
    if (dial->timeout_ms > 0)
        c->handshake_ms = dial->timeout_ms;
    tcp_format(&address, c->address);
    rc = conn_dial(&c->link, loop, c->tls, &address, rpc_link_events(), &why);
    if (rc < 0) {
        c->silent = true;
        start_closing(c, &why, false);
        return err_set(e, rc, "%s: %s", dial->address, why.text);
    }
    set_timer(c);
    *ret = c;
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------- */

const struct rpc_identity *rpc_conn_peer(const struct rpc_conn *c)
{
    return &c->peer;
}

const char *rpc_conn_address(const struct rpc_conn *c)
{
    return c->address;
}

const uint8_t *rpc_conn_certificate(const struct rpc_conn *c, size_t *ret_size)
{
    *ret_size = c->certificate_size;
    return c->certificate;
}

bool rpc_conn_is_open(const struct rpc_conn *c)
{
    return c->state != RPC_CLOSING;
}

bool rpc_conn_refused(const struct rpc_conn *c)
{
    return c->link.refused;
}

int rpc_conn_fd(const struct rpc_conn *c)
{
    uv_os_fd_t fd;

    return uv_fileno((const uv_handle_t *)&c->link.tcp, &fd) == 0 ? fd : -1;
}
