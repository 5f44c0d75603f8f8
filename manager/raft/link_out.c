/* One outgoing link: a connection, a stream on it, a queue. See links.h.
 *
 *     (none) --something to send--> dialing --handshake--> open --closed--> (none), redialed at once
 *                 ^                    |
 *                 +----- back-off -----+
 *
 * The stream is opened before the handshake is done, so that what is to be sent goes with it; what a stream has no
 * credit for waits in the queue. When an attempt fails, or a link breaks, what waits is lost with it.
 *
 * A link of the control channel that breaks is redialed at once, with nothing to send too: when that is refused by
 * the machine (not by whoever listens), the peer's process is gone, and an election need not wait for silence.
 *
 * An attempt that meets a process while it dies may get no answer at all, until TCP tries again 200 ms later. So
 * the first attempts after a break are given up early, after what they took on this path before.
 *
 * A path that swallows everything is found out by TCP: unacknowledged bytes for STUCK_MS break the connection.
 * Without it a link would stay silent for as long after the path is back as the retransmissions had backed off. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "manager/raft/links_internal.h"
#include "manager/raft/message.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"

#define DIAL_MS        2000
#define QUICK_MS       50
#define STUCK_MS       2000
#define BACKOFF_MS     20
#define BACKOFF_MAX_MS 1000
#define URGENT_MS      100 /* an attempt on the control channel that long ago is repeated when there is something */
#define SETTLED_MS     1000  /* open for so long: it works */
#define IDLE_MS        60000 /* nothing to send for so long: closed */
#define GIVE_UP_MS     10000 /* ... and not redialed */
#define REPLY_BYTES    64    /* the peer sends nothing on a stream of ours */

static const size_t queue_bytes[CHANNELS] = {
    [ENV_CHANNEL_CONTROL] = 64 << 10,
    [ENV_CHANNEL_ENTRIES] = 16 << 20,
    [ENV_CHANNEL_BULK] = 8 << 20,
};

struct queued {
    struct list link;
    size_t size;
    uint8_t bytes[];
};

static void dial(struct link_out *o);
static const char *address_of(const struct link_peer *p);

static bool is_urgent(const struct link_out *o)
{
    return o->channel == ENV_CHANNEL_CONTROL;
}

void link_out_init(struct link_out *o, struct link_peer *p, enum env_channel channel)
{
    *o = (struct link_out){.peer = p,
                           .channel = channel,
                           .backoff_ms = BACKOFF_MS,
                           .patience_ms = DIAL_MS,
                           .quick_ms = DIAL_MS,
                           .tried_ms = INT64_MIN / 2};
    list_init(&o->queue);
}

/* --- the queue ------------------------------------------------------------------------------------ */

static void drop_first(struct link_out *o)
{
    struct queued *q = list_entry(list_pop(&o->queue), struct queued, link);

    o->queued_bytes -= q->size;
    o->peer->links->stats.dropped++;
    free(q);
}

static void drop_all(struct link_out *o)
{
    while (!list_empty(&o->queue))
        drop_first(o);
}

/* Of what is small the newest counts most. Of entries the first that are lost make the following useless, and of
 * chunks each is asked for: there the newest goes. */
static void enqueue(struct link_out *o, const void *data, size_t size)
{
    while (is_urgent(o) && !list_empty(&o->queue) && o->queued_bytes + size > queue_bytes[o->channel])
        drop_first(o);
    if (o->queued_bytes + size > queue_bytes[o->channel]) {
        o->peer->links->stats.dropped++;
        return;
    }
    struct queued *q = mem_alloc(sizeof(*q) + size);
    q->size = size;
    memcpy(q->bytes, data, size);
    list_push(&o->queue, &q->link);
    o->queued_bytes += size;
}

static void send_queued(struct link_out *o)
{
    while (!list_empty(&o->queue)) {
        struct queued *q = list_first(&o->queue, struct queued, link);

        if (rpc_send(o->stream, q->bytes, q->size) != 0)
            return; /* no credit: on_writable comes; or it has ended, which on_end says */
        o->peer->links->stats.sent++;
        list_remove(&q->link);
        o->queued_bytes -= q->size;
        free(q);
    }
}

void link_out_send(struct link_out *o, const void *data, size_t size)
{
    struct links *l = o->peer->links;
    int64_t now = links_now(l);
    int rc = ERR_AGAIN;

    o->used_ms = o->peer->used_ms = now;
    if (!*address_of(o->peer)) {
        l->stats.dropped++;
        return;
    }
    if (!o->conn && (now >= o->again_ms || (is_urgent(o) && now - o->tried_ms >= URGENT_MS)))
        dial(o);
    if (o->stream && list_empty(&o->queue))
        rc = rpc_send(o->stream, data, size);
    l->stats.sent += rc == 0;
    if (rc == ERR_AGAIN)
        enqueue(o, data, size);
    else if (rc != 0)
        l->stats.dropped++; /* it is ending */
    links_arm(l);
}

/* --- its connection ------------------------------------------------------------------------------- */

/* Not before a while that grows from failure to failure. */
static void back_off(struct link_out *o)
{
    struct links *l = o->peer->links;
    int64_t half = o->backoff_ms / 2;

    o->again_ms = links_now(l) + half + (int64_t)entropy_below(l->config.entropy, (uint64_t)half + 1);
    o->backoff_ms = MIN(o->backoff_ms * 2, BACKOFF_MAX_MS);
    o->patience_ms = MIN(o->patience_ms * 2, DIAL_MS);
}

static int quick_ms(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0
               ? DIAL_MS
               : (int)MIN(MAX(info.tcpi_rtt / 1000 * 8, QUICK_MS), DIAL_MS);
}

static void on_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    struct link_out *o = ctx;
    unsigned stuck_ms = STUCK_MS;

    o->quick_ms = quick_ms(rpc_conn_fd(c));
    o->patience_ms = DIAL_MS;

    (void)setsockopt(rpc_conn_fd(c), IPPROTO_TCP, TCP_USER_TIMEOUT, &stuck_ms, sizeof(stuck_ms)); /* then later */
    o->open = o->peer->alive = true;
    o->wanted = false;
    o->opened_ms = links_now(o->peer->links);
    o->peer->links->stats.dialed++;
}

/* It was open: this may be the peer's end. */
static void broke(struct link_out *o, const struct err *e)
{
    struct link_peer *p = o->peer;

    o->patience_ms = o->quick_ms;
    log_debug("a link to a manager broke", "manager=%llu channel=%d error=\"%s\"", (unsigned long long)p->id,
              (int)o->channel, e->text);
    o->wanted = is_urgent(o);
    if (links_now(p->links) - o->opened_ms < SETTLED_MS) {
        back_off(o);
        return;
    }
    o->backoff_ms = BACKOFF_MS;
    o->again_ms = links_now(p->links);
    free(p->complaint);
    p->complaint = NULL;
}

/* It could not be opened, or the peer does not want it. */
static void failed(struct link_out *o, const char *what, const struct err *e)
{
    struct link_peer *p = o->peer;

    links_complain(p, what, e);
    back_off(o);
    if (*p->announced && *p->configured)
        p->use_announced = !p->use_announced; /* it may be at its other address */
    if (links_now(p->links) - o->used_ms > GIVE_UP_MS)
        o->wanted = false;
}

/* Nobody listens where it was. */
static void look_gone(struct link_out *o)
{
    struct link_peer *p = o->peer;
    struct links *l = p->links;

    l->stats.refused++;
    if (!p->alive || !is_urgent(o))
        return;
    p->alive = false;
    o->wanted = false;
    log_info("a manager is gone", "manager=%llu", (unsigned long long)p->id);
    if (l->events.on_gone)
        l->events.on_gone(l->events.ctx, p->id);
}

static void on_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct link_out *o = ctx;
    struct links *l = o->peer->links;
    AUTO_FREE
    struct err *refusal = steal(&o->refusal);
    bool was_open = o->open, closing = l->closing;

    l->stats.dialed -= was_open;
    o->conn = NULL;
    o->stream = NULL;
    o->open = false;
    drop_all(o);
    links_closed_one(l);
    if (closing)
        return; /* l may be gone */
    if (refusal)
        failed(o, "a manager refuses our link", refusal);
    else if (was_open && !o->ending)
        broke(o, e);
    else if (!o->ending)
        failed(o, "no link to a manager", e);
    o->ending = false;
    if (rpc_conn_refused(c))
        look_gone(o);
    link_out_due(o);
    links_arm(l);
}

static void on_writable(void *ctx, struct rpc_stream *s)
{
    send_queued(ctx);
}

/* The peer ended it: it refuses us, or has a newer one. When the connection ends, on_closed says why. */
static void on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct link_out *o = ctx;

    o->stream = NULL;
    if (!o->ending && rpc_conn_is_open(o->conn)) {
        o->refusal = mem_dup(e, sizeof(*e));
        rpc_conn_close(o->conn);
    }
}

static void end(struct link_out *o)
{
    o->ending = true;
    rpc_conn_close(o->conn);
}

static const char *address_of(const struct link_peer *p)
{
    return *p->announced && (p->use_announced || !*p->configured) ? p->announced : p->configured;
}

static void open_stream(struct link_out *o)
{
    const struct rpc_stream_events events = {.ctx = o, .on_writable = on_writable, .on_end = on_end};
    const struct links_config *config = &o->peer->links->config;
    struct link_hello hello = {.from = config->id,
                               .to = o->peer->id,
                               .epoch = config->epoch,
                               .feature_level = config->feature_level,
                               .channel = o->channel};
    AUTO_BUF struct buf bytes = {0};
    struct err e;

    (void)snprintf(hello.address, sizeof(hello.address), "%s", config->address); /* its length was checked */
    link_hello_put(&bytes, &hello);
    (void)rpc_open(o->conn, METHOD_RAFT, REPLY_BYTES, buf_bytes(&bytes), bytes.length, &events, &o->stream,
                   &e); /* cannot fail: the connection is new */
}

static void dial(struct link_out *o)
{
    struct link_peer *p = o->peer;
    struct links *l = p->links;
    const struct rpc_conn_events events = {.ctx = o, .on_open = on_open, .on_closed = on_closed};
    struct rpc_dial dialed = {.address = address_of(p),
                              .tls = l->config.tls,
                              .expect_roles = RPC_ROLE_MANAGER,
                              .expect_cluster = l->config.cluster_id,
                              .timeout_ms = o->patience_ms};
    struct err e;

    l->stats.dials++;
    o->tried_ms = links_now(l);
    if (rpc_dial(l->config.loop, &dialed, &events, &o->conn, &e) < 0) {
        failed(o, "no link to a manager", &e);
        drop_all(o);
        return;
    }
    l->dialed++;
    open_stream(o);
    send_queued(o); /* what waited for this attempt */
}

/* --- what is due ---------------------------------------------------------------------------------- */

void link_out_want(struct link_out *o)
{
    if (!*address_of(o->peer))
        return;
    o->wanted = true;
    if (!o->conn && links_now(o->peer->links) - o->tried_ms >= BACKOFF_MS)
        dial(o);
    links_arm(o->peer->links);
}

void link_out_retry(struct link_out *o)
{
    o->backoff_ms = BACKOFF_MS;
    o->again_ms = links_now(o->peer->links);
    if (o->conn && !o->open) {
        o->wanted = true;
        end(o);
    }
    links_arm(o->peer->links);
}

int64_t link_out_next(const struct link_out *o)
{
    if (o->ending)
        return INT64_MAX;
    if (o->open)
        return MAX(o->used_ms, o->opened_ms) + IDLE_MS;
    return !o->conn && (o->wanted || !list_empty(&o->queue)) ? o->again_ms : INT64_MAX;
}

void link_out_due(struct link_out *o)
{
    if (links_now(o->peer->links) < link_out_next(o))
        return;
    if (o->open)
        end(o);
    else
        dial(o);
}

void link_out_close(struct link_out *o)
{
    o->wanted = false;
    drop_all(o);
    if (o->conn)
        end(o);
}
