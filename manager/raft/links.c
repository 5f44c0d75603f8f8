/* Links to the other managers: the peers, what comes in, the timer. See links.h; link_out.c is what goes out.
 *
 * A peer exists from the first message for it or from it on. One stream per peer and channel comes in; a newer one
 * replaces it, since the dialer opens a second only when it has given up the first. Its hello was checked
 * (link_hello.c), and who may be that number the owner said; a number that is connected as one node is not taken
 * from another.
 *
 * When a stream of a peer ends and we have no connection to it, we dial: so we learn whether it is gone, too, when
 * we had nothing to say to it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/links_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/tcp.h"

#define PEERS_MAX 256

struct links *links_new(const struct links_config *config)
{
    struct links *l = mem_alloc(sizeof(*l));

    assert(strlen(config->address) <= LINK_ADDRESS_MAX);
    l->config = *config;
    l->armed_ms = INT64_MAX;
    l->config.cluster_id = mem_strdup(config->cluster_id);
    l->config.address = mem_strdup(config->address);
    l->config.tls = tls_ref(config->tls);
    if (!config->feature_level)
        l->config.feature_level = LINKS_FEATURE_LEVEL;
    list_init(&l->peers);
    (void)uv_timer_init(config->loop, &l->timer); /* cannot fail */
    l->timer.data = l;
    return l;
}

void links_attach(struct links *l, const struct links_events *events)
{
    l->events = events ? *events : (struct links_events){0};
}

void links_set_tls(struct links *l, struct tls *tls)
{
    struct tls *old = l->config.tls;

    l->config.tls = tls_ref(tls);
    tls_unref(old);
}

int64_t links_now(const struct links *l)
{
    return clock_mono_ms(l->config.clock);
}

void links_stats(const struct links *l, struct links_stats *ret)
{
    *ret = l->stats;
}

/* --- peers ---------------------------------------------------------------------------------------- */

static struct link_peer *find_peer(struct links *l, uint64_t id)
{
    struct link_peer *p;

    list_each (p, &l->peers, link)
        if (p->id == id)
            return p;
    return NULL;
}

static bool is_idle(const struct link_peer *p)
{
    for (int i = 0; i < CHANNELS; i++)
        if (p->out[i].conn)
            return false;
    return p->streams == 0;
}

static void free_peer(struct link_peer *p)
{
    for (int i = 0; i < CHANNELS; i++)
        link_out_close(&p->out[i]);
    list_remove(&p->link);
    p->links->peer_count--;
    free(p->complaint);
    free(p);
}

/* Numbers are never reused: the one that was used longest ago has left. */
static bool make_room(struct links *l)
{
    struct link_peer *p, *oldest = NULL;

    if (l->peer_count < PEERS_MAX)
        return true;
    list_each (p, &l->peers, link)
        if (is_idle(p) && (!oldest || p->used_ms < oldest->used_ms))
            oldest = p;
    if (oldest)
        free_peer(oldest);
    return oldest != NULL;
}

struct link_peer *links_peer(struct links *l, uint64_t id)
{
    struct link_peer *p = find_peer(l, id);

    if (p || !make_room(l))
        return p;
    p = mem_alloc(sizeof(*p));
    p->links = l;
    p->id = id;
    p->used_ms = links_now(l);
    for (int i = 0; i < CHANNELS; i++)
        link_out_init(&p->out[i], p, (enum env_channel)i);
    list_push(&l->peers, &p->link);
    l->peer_count++;
    return p;
}

/* The first time, and when the reason is another. */
static bool is_news(char **said, const struct err *e)
{
    if (*said && strcmp(*said, e->text) == 0)
        return false;
    free(*said);
    *said = mem_strdup(e->text);
    return true;
}

void links_complain(struct link_peer *p, const char *what, const struct err *e)
{
    if (is_news(&p->complaint, e))
        log_warn(what, "manager=%llu error=\"%s\"", (unsigned long long)p->id, e->text);
}

/* --- out ------------------------------------------------------------------------------------------ */

void links_send(struct links *l, uint64_t to, const char *address, enum env_channel channel, const void *data,
                size_t size)
{
    struct link_peer *p = l->closing ? NULL : links_peer(l, to);

    if (!p) {
        l->stats.dropped++;
        return;
    }
    if (*address && strcmp(address, p->configured) != 0) {
        (void)snprintf(p->configured, sizeof(p->configured), "%s", address); /* longer ones are refused before */
        p->use_announced = strcmp(address, p->announced) == 0;
    }
    link_out_send(&p->out[channel], data, size);
}

/* --- in ------------------------------------------------------------------------------------------- */

static void on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    struct link_in *in = ctx;
    struct links *l = in->peer->links;

    if (in->peer->in[in->channel] != in)
        return; /* replaced */
    in->peer->used_ms = links_now(l);
    l->stats.received++;
    if (l->events.on_message)
        l->events.on_message(l->events.ctx, in->peer->id, message, size);
}

static void on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct link_in *in = ctx;
    struct link_peer *p = in->peer;
    struct links *l = p->links;

    l->stats.accepted--;
    p->streams--;
    if (p->in[in->channel] == in) {
        p->in[in->channel] = NULL;
        if (!l->closing && in->channel == ENV_CHANNEL_CONTROL && !p->out[ENV_CHANNEL_CONTROL].open)
            link_out_want(&p->out[ENV_CHANNEL_CONTROL]);
    }
    free(in);
}

static const char *node_of(const struct link_peer *p)
{
    for (int i = 0; i < CHANNELS; i++)
        if (p->in[i])
            return p->in[i]->node_id;
    return NULL;
}

static int admit(struct links *l, const struct link_hello *h, const struct rpc_identity *peer, struct err *e)
{
    struct sockaddr_storage parsed;
    socklen_t length;
    int rc = 0;

    if (strcmp(peer->cluster_id, l->config.cluster_id) != 0)
        return err_set(e, ERR_DENIED, "node %s is of another cluster", peer->node_id);
    rc = link_hello_check(h, l->config.id, l->config.epoch, l->config.feature_level, e);
    if (rc == 0 && *h->address)
        rc = tcp_parse(h->address, &parsed, &length, e);
    if (rc == 0 && l->config.check)
        rc = l->config.check(l->config.ctx, h->from, peer->node_id, e);
    const struct link_peer *p = rc == 0 ? find_peer(l, h->from) : NULL;
    const char *node = p ? node_of(p) : NULL;
    if (node && strcmp(node, peer->node_id) != 0)
        rc = err_set(e, ERR_DENIED, "manager %llu is node %s, not %s", (unsigned long long)h->from, node,
                     peer->node_id);
    return rc;
}

static void hear_address(struct link_peer *p, const char *address)
{
    if (!*address || strcmp(p->announced, address) == 0) {
        p->use_announced |= *address != 0;
        return;
    }
    if (*p->announced || (*p->configured && strcmp(p->configured, address) != 0))
        log_info("a manager has another address", "manager=%llu address=%s", (unsigned long long)p->id, address);
    (void)snprintf(p->announced, sizeof(p->announced), "%s", address); /* its length was checked */
    p->use_announced = true;
    for (int i = 0; i < CHANNELS; i++)
        link_out_retry(&p->out[i]);
}

static void take_stream(struct link_peer *p, struct rpc_stream *stream, enum env_channel channel,
                        const struct rpc_identity *peer)
{
    struct link_in *in = mem_alloc(sizeof(*in));
    const struct rpc_stream_events events = {.ctx = in, .on_message = on_message, .on_end = on_end};
    struct link_in *before = p->in[channel];
    struct err e;

    in->peer = p;
    in->channel = channel;
    in->stream = stream;
    memcpy(in->node_id, peer->node_id, sizeof(in->node_id));
    p->in[channel] = in;
    p->alive = true;
    p->streams++;
    p->used_ms = links_now(p->links);
    p->links->stats.accepted++;
    rpc_stream_set(stream, &events);
    if (before) {
        err_set(&e, ERR_CANCELED, "a newer link took its place");
        rpc_end(before->stream, &e);
    }
}

/* A manager that looks for another one at our address is refused, but tells where it is itself: so managers that
 * all have other addresses than before, of each other's, find each other again. */
static bool hello_is_for_another(struct links *l, const struct link_hello *hello, const struct rpc_identity *peer,
                                 int rc)
{
    struct link_hello as_ours = *hello;

    as_ours.to = l->config.id;
    return rc == ERR_PRECONDITION && hello->to != l->config.id && admit(l, &as_ours, peer, NULL) == 0 &&
           links_peer(l, hello->from);
}

void links_on_open(struct links *l, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};
    struct link_peer *p = NULL;
    struct link_hello hello = {0};
    struct err e;
    int rc = link_hello_get(message, size, &hello, &e);

    if (rc == 0 && l->closing)
        rc = err_set(&e, ERR_UNAVAILABLE, "this manager is stopping");
    if (rc == 0)
        rc = admit(l, &hello, peer, &e);
    if (rc == 0 && !(p = links_peer(l, hello.from)))
        rc = err_set(&e, ERR_LIMIT, "more than %d managers", PEERS_MAX);
    if (rc == 0) {
        take_stream(p, stream, hello.channel, peer);
        hear_address(p, hello.address);
        return;
    }
    if (hello_is_for_another(l, &hello, peer, rc))
        hear_address(links_peer(l, hello.from), hello.address);
    l->stats.refusals++;
    if (is_news(&l->complaint, &e))
        log_warn("refused a link of a manager", "node=%s error=\"%s\"", peer->node_id, e.text);
    rpc_stream_set(stream, &ignore);
    rpc_end(stream, &e);
}

/* --- the timer ------------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
    struct links *l = timer->data;
    struct link_peer *p;

    l->armed_ms = INT64_MAX;
    list_each (p, &l->peers, link)
        for (int i = 0; i < CHANNELS; i++)
            link_out_due(&p->out[i]);
    links_arm(l);
}

void links_arm(struct links *l)
{
    int64_t next = INT64_MAX, now = links_now(l);
    struct link_peer *p;

    if (l->closing)
        return;
    list_each (p, &l->peers, link)
        for (int i = 0; i < CHANNELS; i++)
            next = MIN(next, link_out_next(&p->out[i]));
    if (next >= l->armed_ms)
        return; /* it comes in time, and looks again */
    l->armed_ms = next;
    uv_update_time(l->config.loop);
    uv_timer_start(&l->timer, on_timer, (uint64_t)MAX(next - now, 1), 0);
}

/* --- closing -------------------------------------------------------------------------------------- */

static void free_links(struct links *l)
{
    void (*closed)(void *) = l->closed;
    void *ctx = l->closed_ctx;

    while (!list_empty(&l->peers))
        free_peer(list_first(&l->peers, struct link_peer, link));
    tls_unref(l->config.tls);
    free((char *)l->config.cluster_id);
    free((char *)l->config.address);
    free(l->complaint);
    free(l);
    closed(ctx);
}

void links_closed_one(struct links *l)
{
    l->dialed--;
    if (l->closing && l->dialed == 0 && l->timer_closed)
        free_links(l);
}

static void on_timer_closed(uv_handle_t *timer)
{
    struct links *l = timer->data;

    l->timer_closed = true;
    if (l->dialed == 0)
        free_links(l);
}

void links_close(struct links *l, void (*closed)(void *ctx), void *ctx)
{
    struct link_peer *p;

    assert(!l->closing && l->stats.accepted == 0);
    l->closing = true;
    l->closed = closed;
    l->closed_ctx = ctx;
    list_each (p, &l->peers, link)
        for (int i = 0; i < CHANNELS; i++)
            link_out_close(&p->out[i]);
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}
