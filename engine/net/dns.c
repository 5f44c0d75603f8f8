/* See dns.h. A datagram is read, answered and forgotten; only what is forwarded (dns_forward.c) is remembered. A
 * TCP client has one question at a time: while it waits, or does not take its answer, it is not read.
 *
 * The sockets are bound in the containers' namespaces and belong to several processes: whoever reads first answers.
 * So nothing is done to them that would outlive us; the datagram socket is not libuv's own kind of handle, which
 * would allow others inside the container to bind its port as well.
 *
 * Time: limits are the same for all of a kind, so each kind is a list in which the first ends first, and one timer
 * is enough. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/net/dns_inside.h"
#include "proto/base/mem.h"

#define DATAGRAMS_PER_TURN 64 /* of one container, then others have their turn */
#define LENGTH             2  /* before each message over TCP */

static void client_read(struct client *c);
static void client_close(struct client *c);

/* --- handles and time ------------------------------------------------------------------------------ */

void dns_handle_opened(struct dns *d)
{
    d->handles++;
}

void dns_handle_closed(struct dns *d)
{
    if (--d->handles > 0)
        return;
    void (*closed)(void *ctx) = d->closed;
    void *ctx = d->closed_ctx;

    map_fini(&d->serving);
    dns_answer_fini(&d->answer);
    free(d);
    closed(ctx);
}

static void on_timer(uv_timer_t *timer);

static void arm(struct dns *d)
{
    uint64_t now = uv_now(d->config.loop), at = UINT64_MAX;
    const struct due *f = list_first(&d->forwards.list, struct due, link);
    const struct due *c = list_first(&d->clients.list, struct due, link);

    if (f)
        at = f->at_ms;
    if (c)
        at = MIN(at, c->at_ms);
    if (at == UINT64_MAX)
        (void)uv_timer_stop(&d->timer);
    else
        (void)uv_timer_start(&d->timer, on_timer, at > now ? at - now : 0, 0); /* fails only without a function */
}

void dns_due_put(struct dns *d, struct due_list *l, struct due *due)
{
    due->at_ms = uv_now(d->config.loop) + l->limit_ms;
    list_remove(&due->link);
    list_push(&l->list, &due->link);
    if (!uv_is_active((uv_handle_t *)&d->timer) || uv_timer_get_due_in(&d->timer) > l->limit_ms)
        arm(d);
}

void dns_due_remove(struct due *due)
{
    list_remove(&due->link); /* the timer then finds nothing to do, at worst */
}

static struct due *next_due(struct dns *d, struct due_list *l)
{
    struct due *due = list_first(&l->list, struct due, link);

    return due && due->at_ms <= uv_now(d->config.loop) ? due : NULL;
}

static void on_timer(uv_timer_t *timer)
{
    struct dns *d = timer->data;
    struct due *due;

    while ((due = next_due(d, &d->forwards)))
        forward_on_timeout(due);
    while ((due = next_due(d, &d->clients))) {
        struct client *c = container_of(due, struct client, due);

        if (c->waiting)
            dns_due_put(d, &d->clients, due); /* what it waits for has a limit of its own */
        else
            client_close(c);
    }
    arm(d);
}

/* --- answering ------------------------------------------------------------------------------------- */

static void client_send(struct client *c, uint8_t *message, size_t size);

void dns_reply(struct serving *s, const struct asker *to, uint8_t *message, size_t size)
{
    if (to->client)
        client_send(to->client, message, size);
    else /* one that cannot be delivered is asked again */
        (void)sendto(s->udp, message, size, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&to->from,
                     sizeof(to->from));
}

static void reply(struct serving *s, const struct asker *to, const struct dns_question *q, enum dns_code code,
                  const struct dns_answer *a)
{
    static uint8_t out[LENGTH + DNS_MESSAGE_MAX];
    size_t limit = to->client ? DNS_MESSAGE_MAX : q->udp_size;

    dns_reply(s, to, out + LENGTH, dns_answer_write(q, code, a, out + LENGTH, limit));
}

void dns_reply_code(struct serving *s, const struct asker *to, const struct dns_question *q, enum dns_code code)
{
    reply(s, to, q, code, NULL);
}

static void answer(struct serving *s, const struct asker *from, const uint8_t *message, size_t size)
{
    struct dns *d = s->dns;
    struct dns_question q;
    int code = dns_question_read(message, size, &q);
    enum dns_verdict verdict = DNS_FOREIGN;

    if (code == DNS_IGNORE) {
        if (from->client)
            client_close(from->client); /* it does not speak DNS */
        return;
    }
    d->counts.questions++;
    if (code != DNS_NOERROR) {
        reply(s, from, &q, (enum dns_code)code, NULL);
        return;
    }
    dns_answer_clear(&d->answer);
    if (q.name[0])
        verdict = d->config.resolve(d->config.ctx, s->container, &q, &d->answer);
    if (verdict == DNS_FOREIGN && !s->isolated) {
        forward_begin(s, from, &q, message, size);
    } else if (verdict == DNS_FOUND) {
        if (d->answer.count > 1)
            dns_answer_shuffle(&d->answer, entropy_u64(d->config.entropy));
        reply(s, from, &q, DNS_NOERROR, &d->answer);
    } else {
        reply(s, from, &q, DNS_NXDOMAIN, NULL);
    }
}

/* --- datagrams ------------------------------------------------------------------------------------- */

static void on_datagrams(uv_poll_t *poll, int status, int events)
{
    struct serving *s = poll->data;
    static uint8_t message[QUESTION_MAX + 1];

    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        struct asker from = {0};
        socklen_t length = sizeof(from.from);
        ssize_t got =
            recvfrom(s->udp, message, sizeof(message), MSG_DONTWAIT, (struct sockaddr *)&from.from, &length);

        if (got < 0)
            return; /* nothing more, or an error of a datagram before that concerns nobody */
        if ((size_t)got < sizeof(message) && length == sizeof(from.from))
            answer(s, &from, message, (size_t)got);
    }
}

/* --- TCP clients ----------------------------------------------------------------------------------- */

static void client_on_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    struct dns *d = c->serving->dns;
    struct serving *s = c->serving;

    buf_fini(&c->in);
    free(c->out);
    free(c);
    if (--s->handles == 0) {
        free(s->container);
        free(s);
    }
    dns_handle_closed(d);
}

static void client_close(struct client *c)
{
    if (c->closing)
        return;
    c->closing = true;
    if (c->waiting)
        forward_abandon(c->waiting);
    c->waiting = NULL;
    dns_due_remove(&c->due);
    list_remove(&c->link);
    c->serving->client_count--;
    c->serving->dns->client_count--;
    uv_close((uv_handle_t *)&c->tcp, client_on_closed);
}

static void client_on_written(uv_write_t *write, int status)
{
    struct client *c = write->data;

    free(c->out);
    c->out = NULL;
    if (c->closing)
        return;
    if (status < 0) {
        client_close(c);
        return;
    }
    dns_due_put(c->serving->dns, &c->serving->dns->clients, &c->due);
    client_read(c);
}

static void client_send(struct client *c, uint8_t *message, size_t size)
{
    c->waiting = NULL;
    if (c->closing)
        return;
    assert(!c->out);
    c->out = mem_alloc(LENGTH + size);
    c->out[0] = (uint8_t)(size >> 8);
    c->out[1] = (uint8_t)size;
    memcpy(c->out + LENGTH, message, size);
    c->write.data = c;
    uv_buf_t part = uv_buf_init((char *)c->out, (unsigned)(LENGTH + size));
    dns_due_put(c->serving->dns, &c->serving->dns->clients, &c->due);
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &part, 1, client_on_written) < 0) {
        free(c->out);
        c->out = NULL;
        client_close(c);
    }
}

static void client_on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *ret)
{
    struct client *c = handle->data;

    *ret = uv_buf_init(buf_reserve(&c->in, LENGTH + QUESTION_MAX), LENGTH + QUESTION_MAX);
}

/* Take up the next question, if there is a whole one and none is being answered; else read on. */
static void client_read_on(struct client *c)
{
    const uint8_t *in = (const uint8_t *)buf_bytes(&c->in);
    size_t size = c->in.length >= LENGTH ? (size_t)(in[0] << 8 | in[1]) : 0;
    uint8_t question[QUESTION_MAX];

    if (c->in.length < LENGTH || (size <= QUESTION_MAX && c->in.length < LENGTH + size)) {
        if (c->ended)
            client_close(c);
        return;
    }
    if (size == 0 || size > QUESTION_MAX) {
        client_close(c);
        return;
    }
    memcpy(question, in + LENGTH, size);
    buf_consume(&c->in, LENGTH + size);
    (void)uv_read_stop((uv_stream_t *)&c->tcp); /* never fails */
    struct asker from = {.client = c};
    answer(c->serving, &from, question, size);
}

static void client_on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *room)
{
    struct client *c = stream->data;

    if (got > 0)
        buf_added(&c->in, (size_t)got);
    if (got == UV_EOF) { /* it may have closed its half and wait for the answer */
        c->ended = true;
        (void)uv_read_stop(stream); /* never fails */
    } else if (got < 0) {
        client_close(c);
        return;
    }
    client_read_on(c);
}

static void client_read(struct client *c)
{
    if (!c->ended) {
        if (uv_read_start((uv_stream_t *)&c->tcp, client_on_room, client_on_read) < 0) {
            client_close(c);
            return;
        }
    }
    client_read_on(c); /* what came with the question before */
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct serving *s = listener->data;
    struct dns *d = s->dns;

    if (status < 0)
        return; /* the next one may do */
    struct client *c = mem_alloc(sizeof(*c));
    c->serving = s;
    list_init(&c->due.link);
    list_init(&c->link);
    (void)uv_tcp_init(d->config.loop, &c->tcp); /* makes no socket: cannot fail */
    c->tcp.data = c;
    s->handles++;
    dns_handle_opened(d);
    list_push(&s->clients, &c->link);
    s->client_count++;
    d->client_count++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) < 0 || s->client_count > CLIENTS_EACH_MAX ||
        d->client_count > CLIENTS_MAX) {
        client_close(c);
        return;
    }
    dns_due_put(d, &d->clients, &c->due);
    client_read(c);
}

/* --- containers ------------------------------------------------------------------------------------ */

static void serving_on_closed(uv_handle_t *handle)
{
    struct serving *s = handle->data;
    struct dns *d = s->dns;

    if (--s->handles == 0) {
        free(s->container);
        free(s);
    }
    dns_handle_closed(d);
}

static void stop(struct serving *s)
{
    struct client *c, *after;

    (void)map_remove(&s->dns->serving, s->container);
    list_each_safe (c, after, &s->clients, link)
        client_close(c);
    while (!list_empty(&s->forwards))
        forward_abandon(forward_of(s->forwards.next));
    (void)uv_poll_stop(&s->poll);
    close(s->udp);
    uv_close((uv_handle_t *)&s->poll, serving_on_closed);
    if (s->listener.data) /* else there is none yet */
        uv_close((uv_handle_t *)&s->listener, serving_on_closed);
}

static int duplicate(int fd, int *ret, struct err *e)
{
    *ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return *ret < 0 ? err_errno(e, "duplicate a socket") : 0;
}

static int watch_datagrams(struct serving *s, int fd, struct err *e)
{
    int rc = duplicate(fd, &s->udp, e);

    if (rc < 0)
        return rc;
    rc = uv_poll_init(s->dns->config.loop, &s->poll, s->udp);
    if (rc < 0) {
        close(s->udp);
        return err_number(e, -rc, "watch a socket for names");
    }
    s->poll.data = s;
    s->handles++;
    dns_handle_opened(s->dns);
    (void)uv_poll_start(&s->poll, UV_READABLE, on_datagrams); /* fails only when it is closing */
    return 0;
}

static int watch_connections(struct serving *s, int fd, struct err *e)
{
    int own;
    int rc = duplicate(fd, &own, e);

    if (rc < 0)
        return rc;
    (void)uv_tcp_init(s->dns->config.loop, &s->listener); /* makes no socket: cannot fail */
    s->listener.data = s;
    s->handles++;
    dns_handle_opened(s->dns);
    rc = uv_tcp_open(&s->listener, own);
    if (rc < 0)
        close(own);
    else
        rc = uv_listen((uv_stream_t *)&s->listener, CLIENTS_EACH_MAX, on_connection);
    return rc < 0 ? err_number(e, -rc, "listen for names") : 0;
}

int dns_serve(struct dns *d, const char *container, int udp_fd, int tcp_fd, const struct dns_options *options,
              struct err *e)
{
    struct serving *s = mem_alloc(sizeof(*s));

    dns_stop(d, container);
    s->dns = d;
    s->container = mem_strdup(container);
    s->isolated = options->isolated;
    dns_servers_read(&s->servers, options->servers, options->server_count);
    list_init(&s->clients);
    list_init(&s->forwards);
    int rc = watch_datagrams(s, udp_fd, e);
    if (rc < 0) {
        free(s->container);
        free(s);
        return rc;
    }
    (void)map_put(&d->serving, s->container, s);
    rc = watch_connections(s, tcp_fd, e);
    if (rc < 0)
        stop(s);
    return rc;
}

void dns_stop(struct dns *d, const char *container)
{
    struct serving *s = map_get(&d->serving, container);

    if (s)
        stop(s);
}

struct dns_counts dns_counts(const struct dns *d)
{
    struct dns_counts c = d->counts;

    c.serving = (unsigned)d->serving.count;
    c.forwarding = d->forward_count;
    c.clients = d->client_count;
    return c;
}

/* --- open and close -------------------------------------------------------------------------------- */

int dns_open(const struct dns_config *config, struct dns **ret, struct err *e)
{
    struct dns *d = mem_alloc(sizeof(*d));
    int rc = uv_timer_init(config->loop, &d->timer);

    if (rc < 0) {
        free(d);
        return err_number(e, -rc, "make a timer");
    }
    d->config = *config;
    d->timer.data = d;
    list_init(&d->forwards.list);
    list_init(&d->clients.list);
    d->forwards.limit_ms = config->timeout_ms ? config->timeout_ms : SERVER_TIMEOUT_MS;
    d->clients.limit_ms = CLIENT_TIMEOUT_MS;
    dns_handle_opened(d);
    *ret = d;
    return 0;
}

static void timer_on_closed(uv_handle_t *handle)
{
    dns_handle_closed(handle->data);
}

void dns_close(struct dns *d, void (*closed)(void *ctx), void *ctx)
{
    struct serving *s;
    size_t at = 0;

    d->closed = closed;
    d->closed_ctx = ctx;
    while ((s = map_next(&d->serving, &at))) {
        stop(s);
        at = 0; /* it was removed */
    }
    uv_close((uv_handle_t *)&d->timer, timer_on_closed);
}
