/* Questions that other servers answer (dns_inside.h).
 *
 *     begin -> ask the first server -> its reply fits: given back
 *                 |        ^              is cut short: asked again over TCP
 *                 |        |              is an error (SERVFAIL, REFUSED ...): kept, next server
 *                 +--------+ time is over, or it cannot be reached: next server
 *     no server is left: the error that was kept, the short answer, or SERVFAIL
 *
 * The client's own bytes are sent, under an id of ours, from a socket of their own: so what the client wanted of
 * EDNS holds, and whoever wants to forge an answer must guess id and port. A reply counts when it came from that
 * server and repeats the question; what does not is passed over, and time goes on.
 *
 * Every question has its own state, so a slow server delays only those who ask it. A client that asks again
 * (resolvers do, every few seconds) does not get a second one. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/net/dns_inside.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define LENGTH       2 /* before each message over TCP */
#define TELL_EACH_MS 60000

struct attempt { /* one socket, until it is closed */
    union {
        uv_handle_t handle;
        uv_udp_t udp;
        uv_tcp_t tcp;
    };
    struct dns *dns;
    struct forward *forward; /* NULL: given up */
    bool over_tcp;
    uv_connect_t connect;
    uv_write_t write;
    uint8_t *out;  /* over TCP: being written, owned */
    struct buf in; /* over TCP */
};

struct forward {
    struct due due;
    struct list link; /* serving->forwards */
    struct serving *serving;
    struct asker asker;
    struct dns_question question;
    uint8_t *message; /* LENGTH bytes, then the question; owned */
    size_t size;      /* of the question */
    uint16_t id;      /* under which it is asked now */
    struct dns_servers servers;
    unsigned at; /* the server that is asked now */
    struct attempt *attempt;
    uint8_t *kept; /* LENGTH bytes, then the best reply so far: cut short, or an error; owned */
    size_t kept_size;
};

static void ask(struct forward *f, bool over_tcp);

/* --- the end --------------------------------------------------------------------------------------- */

static void attempt_on_closed(uv_handle_t *handle)
{
    struct attempt *t = handle->data;
    struct dns *d = t->dns;

    buf_fini(&t->in);
    free(t->out);
    free(t);
    dns_handle_closed(d);
}

static void give_up_attempt(struct forward *f)
{
    struct attempt *t = f->attempt;

    if (!t)
        return;
    f->attempt = NULL;
    t->forward = NULL;
    uv_close(&t->handle, attempt_on_closed);
}

void forward_abandon(struct forward *f)
{
    give_up_attempt(f);
    dns_due_remove(&f->due);
    list_remove(&f->link);
    f->serving->forward_count--;
    f->serving->dns->forward_count--;
    free(f->message);
    free(f->kept);
    free(f);
}

struct forward *forward_of(struct list *link)
{
    return list_entry(link, struct forward, link);
}

/* Give a reply that fits back to the client. `message` has LENGTH bytes before it. */
static void give_back(struct forward *f, uint8_t *message, size_t size)
{
    struct serving *s = f->serving;
    struct asker to = f->asker;

    dns_reply_restore(&f->question, message);
    if (!to.client && size > f->question.udp_size)
        size = dns_reply_cut(&f->question, message);
    dns_reply(s, &to, message, size);
    forward_abandon(f);
}

static void keep(struct forward *f, const uint8_t *message, size_t size)
{
    free(f->kept);
    f->kept = mem_alloc(LENGTH + size);
    memcpy(f->kept + LENGTH, message, size);
    f->kept_size = size;
}

static void fail(struct forward *f)
{
    struct serving *s = f->serving;
    struct asker to = f->asker;
    struct dns_question q = f->question;

    s->dns->counts.failed++;
    forward_abandon(f);
    dns_reply_code(s, &to, &q, DNS_SERVFAIL);
}

static void next_server(struct forward *f)
{
    give_up_attempt(f);
    while (++f->at < f->servers.count) {
        ask(f, f->asker.client != NULL);
        if (f->attempt)
            return;
    }
    if (f->kept)
        give_back(f, f->kept + LENGTH, f->kept_size);
    else
        fail(f);
}

/* --- replies --------------------------------------------------------------------------------------- */

static void on_reply(struct attempt *t, uint8_t *message, size_t size)
{
    struct forward *f = t->forward;
    enum dns_code code;
    bool truncated;

    if (!dns_reply_fits(&f->question, f->id, message, size, &code, &truncated)) {
        if (t->over_tcp)
            next_server(f); /* nothing else will come on this connection */
        return;
    }
    dns_server_trust(f->serving->dns, &f->servers.list[f->at]);
    if (code != DNS_NOERROR && code != DNS_NXDOMAIN) {
        if (!f->kept)
            keep(f, message, size);
        next_server(f);
    } else if (truncated && !t->over_tcp) {
        keep(f, message, size);
        give_up_attempt(f);
        ask(f, true);
        if (!f->attempt)
            next_server(f);
    } else if (f->kept && !f->asker.client && size > f->question.udp_size) {
        give_back(f, f->kept + LENGTH, f->kept_size); /* the server cut it better than we would */
    } else {
        give_back(f, message, size);
    }
}

/* The present server does not answer. Many answer over UDP alone: that is no reason to shun them. */
static void give_up_server(struct forward *f)
{
    if (!f->attempt->over_tcp)
        dns_server_shun(f->serving->dns, &f->servers.list[f->at]);
    next_server(f);
}

void forward_on_timeout(struct due *due)
{
    give_up_server(container_of(due, struct forward, due));
}

/* --- over UDP -------------------------------------------------------------------------------------- */

static uint8_t reply_room[LENGTH + DNS_MESSAGE_MAX]; /* of the datagram at hand */

static void udp_on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *ret)
{
    *ret = uv_buf_init((char *)reply_room + LENGTH, DNS_MESSAGE_MAX);
}

static void udp_on_read(uv_udp_t *udp, ssize_t got, const uv_buf_t *room, const struct sockaddr *from,
                        unsigned flags)
{
    struct attempt *t = udp->data;

    if (!t->forward || (got == 0 && !from))
        return;
    if (got < 0)
        give_up_server(t->forward); /* nobody listens there */
    else
        on_reply(t, reply_room + LENGTH, (size_t)got);
}

static int ask_by_udp(struct forward *f, struct attempt *t, const union dns_endpoint *server)
{
    uv_buf_t part = uv_buf_init((char *)f->message + LENGTH, (unsigned)f->size);
    int rc = uv_udp_connect(&t->udp, &server->any);

    if (rc == 0)
        rc = uv_udp_recv_start(&t->udp, udp_on_room, udp_on_read);
    return rc == 0 ? uv_udp_try_send(&t->udp, &part, 1, NULL) : rc;
}

/* --- over TCP -------------------------------------------------------------------------------------- */

static void tcp_on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *ret)
{
    struct attempt *t = handle->data;

    *ret = uv_buf_init(buf_reserve(&t->in, 4096), 4096);
}

static void tcp_on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *room)
{
    struct attempt *t = stream->data;

    if (!t->forward)
        return;
    if (got < 0) {
        give_up_server(t->forward);
        return;
    }
    buf_added(&t->in, (size_t)got);
    uint8_t *in = (uint8_t *)buf_bytes(&t->in);
    if (t->in.length < LENGTH)
        return;
    size_t size = (size_t)(in[0] << 8 | in[1]);
    if (t->in.length >= LENGTH + size)
        on_reply(t, in + LENGTH, size);
}

static void tcp_on_written(uv_write_t *write, int status)
{
    struct attempt *t = write->data;

    if (status < 0 && t->forward)
        give_up_server(t->forward);
}

static void tcp_on_connected(uv_connect_t *connect, int status)
{
    struct attempt *t = connect->data;
    struct forward *f = t->forward;

    if (!f)
        return;
    if (status == 0) {
        t->out = mem_dup(f->message, LENGTH + f->size);
        t->out[0] = (uint8_t)(f->size >> 8);
        t->out[1] = (uint8_t)f->size;
        t->write.data = t;
        uv_buf_t part = uv_buf_init((char *)t->out, (unsigned)(LENGTH + f->size));
        status = uv_write(&t->write, (uv_stream_t *)&t->tcp, &part, 1, tcp_on_written);
    }
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&t->tcp, tcp_on_room, tcp_on_read);
    if (status < 0)
        give_up_server(f);
}

static int ask_by_tcp(struct attempt *t, const union dns_endpoint *server)
{
    t->connect.data = t;
    return uv_tcp_connect(&t->connect, &t->tcp, &server->any, tcp_on_connected);
}

/* --- asking ---------------------------------------------------------------------------------------- */

/* Ask the present server. Without f->attempt afterwards it cannot be asked. */
static void ask(struct forward *f, bool over_tcp)
{
    struct dns *d = f->serving->dns;
    struct attempt *t = mem_alloc(sizeof(*t));
    const union dns_endpoint *server = &f->servers.list[f->at];

    f->id = (uint16_t)entropy_u64(d->config.entropy);
    dns_message_set_id(f->message + LENGTH, f->id);
    t->dns = d;
    t->forward = f;
    t->over_tcp = over_tcp;
    if (over_tcp)
        (void)uv_tcp_init(d->config.loop, &t->tcp); /* neither makes a socket: they cannot fail */
    else
        (void)uv_udp_init(d->config.loop, &t->udp);
    t->handle.data = t;
    dns_handle_opened(d);
    f->attempt = t;
    int rc = over_tcp ? ask_by_tcp(t, server) : ask_by_udp(f, t, server);
    if (rc < 0)
        give_up_attempt(f);
    else
        dns_due_put(d, &d->forwards, &f->due);
}

static bool is_asked_already(const struct serving *s, const struct asker *from, const struct dns_question *q)
{
    const struct forward *f;

    list_each (f, &s->forwards, link)
        if (!from->client && !f->asker.client && f->question.id == q->id &&
            f->asker.from.sin_port == from->from.sin_port &&
            f->asker.from.sin_addr.s_addr == from->from.sin_addr.s_addr &&
            f->question.section_size == q->section_size &&
            memcmp(f->question.section, q->section, q->section_size) == 0)
            return true;
    return false;
}

static void refuse(struct serving *s, const struct asker *from, const struct dns_question *q)
{
    struct dns *d = s->dns;
    uint64_t now = uv_now(d->config.loop);

    d->counts.refused++;
    if (!d->told_ms || now - d->told_ms >= TELL_EACH_MS) {
        log_warn("too many questions for names at once", "container=%s its=%u all=%u", s->container,
                 s->forward_count, d->forward_count);
        d->told_ms = MAX(now, 1u);
    }
    dns_reply_code(s, from, q, DNS_SERVFAIL);
}

void forward_begin(struct serving *s, const struct asker *from, const struct dns_question *q,
                   const uint8_t *message, size_t size)
{
    struct dns *d = s->dns;

    if (is_asked_already(s, from, q))
        return;
    if (s->forward_count >= FORWARDS_EACH_MAX || d->forward_count >= FORWARDS_MAX) {
        refuse(s, from, q);
        return;
    }
    struct forward *f = mem_alloc(sizeof(*f));
    list_init(&f->due.link);
    list_push(&s->forwards, &f->link);
    s->forward_count++;
    d->forward_count++;
    d->counts.forwarded++;
    f->serving = s;
    f->asker = *from;
    f->question = *q;
    f->servers = dns_servers_for(d, s);
    f->message = mem_alloc(LENGTH + size);
    memcpy(f->message + LENGTH, message, size);
    f->size = size;
    if (from->client)
        from->client->waiting = f;
    if (f->servers.count)
        ask(f, from->client != NULL);
    if (!f->attempt)
        next_server(f);
}
