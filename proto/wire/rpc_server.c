/* The server's side of RPC: who may connect, how many, and in which order they are let in.
 *
 * A connection passes two stages. While its handshake is under way nobody knows who it is: at most HANDSHAKES_MAX
 * are in this stage, the others wait in the kernel's queue. A handshake whose peer is slow while others wait is
 * dropped after a second; a handshake that waits for us is worked off in slices of SLICE_NS per turn, so that
 * thousands of agents that come back at once do not stop the loop. Then it is a peer: one of its node's connections
 * (at most PER_NODE_MAX), or anonymous (few, and not for long). */
#include <assert.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/rpc_internal.h"

#define HANDSHAKES_MAX  512
#define PER_NODE_MAX    64
#define SLICE_NS        2000000
#define RELIEVE_MS      250
#define PATIENCE_MS     1000
#define BACKLOG         4096
#define LOG_INTERVAL_MS 1000

struct rpc_peer {
    char node_id[IDENT_TEXT + 1]; /* key in server->peers */
    struct list conns;            /* struct rpc_conn by_peer */
    unsigned count;
};

struct rpc_listener {
    struct list link; /* in server->listeners */
    struct rpc_server *server;
    uv_tcp_t tcp;
    int port;
    bool waiting; /* a connection is there that we have no room for */
};

struct rpc_server {
    uv_loop_t *loop;                  /* borrowed */
    struct tls *tls;                  /* a reference */
    const struct rpc_method *methods; /* borrowed */
    size_t method_count;
    void *method_ctx;         /* borrowed */
    struct rpc_limits limits; /* none is 0 */
    struct rpc_server_events events;
    struct list listeners;
    struct list conns; /* all not yet freed */
    unsigned conn_count;
    unsigned anonymous_count; /* admitted without a certificate */
    struct list handshakes;   /* under way, oldest first */
    unsigned handshake_count;
    struct list due;   /* handshakes with bytes to be worked on */
    struct map peers;  /* struct rpc_peer by node id */
    uv_idle_t idle;    /* active while `due` is not empty */
    uv_timer_t relief; /* active while a listener waits */
    int64_t logged_ms; /* when a refusal was logged last */
    unsigned unlogged; /* refusals since */
    int handles;       /* of idle and relief, not yet closed; 0 before close */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

int rpc_server_open(uv_loop_t *loop, struct tls *tls, const struct rpc_method *methods, size_t method_count,
                    void *method_ctx, const struct rpc_limits *limits, const struct rpc_server_events *events,
                    struct rpc_server **ret, struct err *e)
{
    struct rpc_server *s = mem_alloc(sizeof(*s));

    (void)e; /* nothing here can fail yet */
    tcp_ignore_sigpipe();
    s->loop = loop;
    s->tls = tls_ref(tls);
    s->methods = methods;
    s->method_count = method_count;
    s->method_ctx = method_ctx;
    s->limits = limits ? *limits : (struct rpc_limits){0};
    s->limits.connections = s->limits.connections ? s->limits.connections : 32768;
    s->limits.anonymous_connections = s->limits.anonymous_connections ? s->limits.anonymous_connections : 64;
    s->events = events ? *events : (struct rpc_server_events){0};
    list_init(&s->listeners);
    list_init(&s->conns);
    list_init(&s->handshakes);
    list_init(&s->due);
    (void)uv_idle_init(loop, &s->idle); /* these two cannot fail */
    (void)uv_timer_init(loop, &s->relief);
    s->idle.data = s->relief.data = s;
    *ret = s;
    return 0;
}

/* --- letting in ---------------------------------------------------------------------------------- */

static void accept_one(struct rpc_listener *l)
{
    struct rpc_server *s = l->server;
    struct rpc_conn *c = rpc_conn_new(s->loop);
    struct sockaddr_storage address;
    int size = sizeof(address);
    struct err e;

    c->server = s;
    c->tls = tls_ref(s->tls);
    c->methods = s->methods;
    c->method_count = s->method_count;
    c->method_ctx = s->method_ctx;
    c->handshake_ms = s->limits.handshake_ms ? s->limits.handshake_ms : c->handshake_ms;
    c->idle_ms = s->limits.idle_ms ? s->limits.idle_ms : c->idle_ms;
    list_push(&s->conns, &c->by_server);
    s->conn_count++;
    list_push(&s->handshakes, &c->by_stage);
    s->handshake_count++;
    int rc = conn_accept(&c->link, (uv_stream_t *)&l->tcp, c->tls, rpc_link_events(), &e);
    if (uv_tcp_getpeername(&c->link.tcp, (struct sockaddr *)&address, &size) == 0)
        tcp_format(&address, c->address);
    if (rc == 0 && s->conn_count > s->limits.connections)
        rc = err_set(&e, ERR_LIMIT, "more than %u connections", s->limits.connections);
    if (rc < 0)
        rpc_conn_fail(c, &e);
    else
        rpc_conn_begin(c);
}

static void on_relief(uv_timer_t *relief);

static void on_connection(uv_stream_t *stream, int status)
{
    struct rpc_listener *l = stream->data;
    struct rpc_server *s = l->server;

    if (status < 0)
        return; /* out of descriptors or so: libuv has turned the peer away, it will try again */
    if (s->handshake_count < HANDSHAKES_MAX) {
        accept_one(l);
        return;
    }
    l->waiting = true; /* libuv listens no further before it is accepted */
    if (!uv_is_active((uv_handle_t *)&s->relief))
        (void)uv_timer_start(&s->relief, on_relief, RELIEVE_MS, RELIEVE_MS);
}

/* Room was made: take what waits. */
static void accept_waiting(struct rpc_server *s)
{
    struct rpc_listener *l;

    if (s->closing)
        return;
    list_each (l, &s->listeners, link) {
        if (l->waiting && s->handshake_count < HANDSHAKES_MAX) {
            l->waiting = false;
            accept_one(l);
        }
    }
}

/* Peers that keep us waiting give way to those that wait for us. */
static void on_relief(uv_timer_t *relief)
{
    struct rpc_server *s = relief->data;
    struct rpc_conn *c, *after;
    struct rpc_listener *l;
    bool waiting = false;
    struct err e;

    list_each (l, &s->listeners, link)
        waiting = waiting || l->waiting;
    if (!waiting) {
        uv_timer_stop(relief);
        return;
    }
    err_set(&e, ERR_LIMIT, "too many handshakes at once, and this one was slow");
    list_each_safe (c, after, &s->handshakes, by_stage) {
        if (list_empty(&c->due) && rpc_now(c) - c->since_ms >= PATIENCE_MS)
            rpc_conn_fail(c, &e);
    }
}

/* --- handshakes ---------------------------------------------------------------------------------- */

static void on_idle(uv_idle_t *idle)
{
    struct rpc_server *s = idle->data;
    uint64_t end = uv_hrtime() + SLICE_NS;
    struct list *link;

    while (uv_hrtime() < end && (link = list_pop(&s->due)))
        conn_handshake(&list_entry(link, struct rpc_conn, due)->link);
    if (list_empty(&s->due))
        uv_idle_stop(idle);
}

void rpc_server_handshake_due(struct rpc_conn *c)
{
    struct rpc_server *s = c->server;

    list_push(&s->due, &c->due);
    (void)uv_idle_start(&s->idle, on_idle); /* no-op when active */
}

static void leave_handshakes(struct rpc_conn *c)
{
    struct rpc_server *s = c->server;

    if (list_empty(&c->by_stage))
        return;
    list_remove(&c->by_stage);
    s->handshake_count--;
    accept_waiting(s);
}

static int admit_anonymous(struct rpc_conn *c, struct err *e)
{
    struct rpc_server *s = c->server;

    if (s->anonymous_count >= s->limits.anonymous_connections)
        return err_set(e, ERR_LIMIT, "more than %u connections without a certificate",
                       s->limits.anonymous_connections);
    s->anonymous_count++;
    c->counted = true;
    return 0;
}

static int admit_node(struct rpc_conn *c, struct err *e)
{
    struct rpc_server *s = c->server;
    struct rpc_peer *p = map_get(&s->peers, c->peer.node_id);

    if (p && p->count >= PER_NODE_MAX)
        return err_set(e, ERR_LIMIT, "more than %d connections of node %s", PER_NODE_MAX, c->peer.node_id);
    if (!p) {
        p = mem_alloc(sizeof(*p));
        memcpy(p->node_id, c->peer.node_id, sizeof(p->node_id));
        list_init(&p->conns);
        map_put(&s->peers, p->node_id, p);
    }
    p->count++;
    list_push(&p->conns, &c->by_peer);
    c->by_node = p;
    c->shown = c->peer.role;
    return s->events.on_connect ? s->events.on_connect(s->events.ctx, c, &c->peer, e) : 0;
}

int rpc_server_admit(struct rpc_conn *c, struct err *e)
{
    leave_handshakes(c);
    return c->peer.role == RPC_ROLE_NONE ? admit_anonymous(c, e) : admit_node(c, e);
}

/* --- ends ---------------------------------------------------------------------------------------- */

/* One line per second at most: whoever can reach the port can cause these. */
static void log_refusal(struct rpc_server *s, const struct rpc_conn *c)
{
    int64_t now = rpc_now(c);

    if (c->link.ready && c->by_node && c->why->code != ERR_UNAUTHORIZED)
        return; /* it was in, and left */
    if (c->why->code == ERR_CLOSED || c->why->code == ERR_CANCELED)
        return;
    if (s->logged_ms && now - s->logged_ms < LOG_INTERVAL_MS) {
        s->unlogged++;
        return;
    }
    log_warn("refused a connection", "error=\"%s\" more=%u", c->why->text, s->unlogged);
    s->logged_ms = now;
    s->unlogged = 0;
}

static void on_server_closed(uv_handle_t *handle)
{
    struct rpc_server *s = handle->data;

    if (--s->handles > 0)
        return;
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;
    tls_unref(s->tls);
    map_fini(&s->peers);
    free(s);
    if (closed)
        closed(ctx);
}

static void close_when_empty(struct rpc_server *s)
{
    if (!s->closing || s->handles > 0 || !list_empty(&s->listeners) || !list_empty(&s->conns))
        return;
    s->handles = 2;
    uv_close((uv_handle_t *)&s->idle, on_server_closed);
    uv_close((uv_handle_t *)&s->relief, on_server_closed);
}

void rpc_server_forget(struct rpc_conn *c)
{
    struct rpc_server *s = c->server;
    struct rpc_peer *p = c->by_node;

    log_refusal(s, c);
    list_remove(&c->by_server);
    s->conn_count--;
    list_remove(&c->due);
    if (c->counted)
        s->anonymous_count--;
    list_remove(&c->by_peer);
    if (p && --p->count == 0) {
        map_remove(&s->peers, p->node_id);
        free(p);
    }
    leave_handshakes(c);
    close_when_empty(s);
}

void rpc_server_limit_peer(struct rpc_server *s, const char *node_id, enum rpc_role most)
{
    struct rpc_peer *p = map_get(&s->peers, node_id);
    struct rpc_conn *c;

    if (!p)
        return;
    list_each (c, &p->conns, by_peer) {
        c->peer.role = MIN(c->shown, most); /* they are in order */
        rpc_streams_limit(c);
    }
}

void rpc_server_close_peer(struct rpc_server *s, const char *node_id)
{
    struct rpc_peer *p = map_get(&s->peers, node_id);
    struct rpc_conn *c;
    struct err e;

    if (!p)
        return;
    err_set(&e, ERR_UNAUTHORIZED, "node %s may not be connected any more", node_id);
    list_each (c, &p->conns, by_peer)
        rpc_conn_fail(c, &e);
}

/* --- listening ----------------------------------------------------------------------------------- */

static void on_listener_closed(uv_handle_t *handle)
{
    struct rpc_listener *l = handle->data;
    struct rpc_server *s = l->server;

    list_remove(&l->link);
    free(l);
    close_when_empty(s);
}

int rpc_server_listen(struct rpc_server *s, const char *address, struct err *e)
{
    struct sockaddr_storage bound;
    int size = sizeof(bound), fd = -1, rc;

    assert(!s->closing);
    rc = tcp_bind(address, &fd, e);
    if (rc < 0)
        return rc;
    struct rpc_listener *l = mem_alloc(sizeof(*l));
    l->server = s;
    (void)uv_tcp_init(s->loop, &l->tcp); /* makes no socket: cannot fail */
    l->tcp.data = l;
    list_push(&s->listeners, &l->link);
    rc = uv_tcp_open(&l->tcp, fd);
    if (rc < 0)
        close(fd);
    else
        rc = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, on_connection);
    if (rc < 0) {
        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
        return err_number(e, -rc, "listen on %s", address);
    }
    if (uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&bound, &size) == 0)
        l->port = tcp_port(&bound);
    return 0;
}

int rpc_server_port(const struct rpc_server *s)
{
    const struct rpc_listener *l = list_first(&s->listeners, struct rpc_listener, link);

    return l ? l->port : 0;
}

void rpc_server_set_tls(struct rpc_server *s, struct tls *tls)
{
    struct tls *old = s->tls;

    s->tls = tls_ref(tls);
    tls_unref(old);
}

void rpc_server_close(struct rpc_server *s, void (*closed)(void *ctx), void *ctx)
{
    struct rpc_listener *l;
    struct rpc_conn *c;
    struct err e;

    assert(!s->closing);
    s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    list_each (l, &s->listeners, link)
        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
    err_set(&e, ERR_CANCELED, "the server is closing");
    list_each (c, &s->conns, by_server)
        rpc_conn_fail(c, &e);
    close_when_empty(s);
}
