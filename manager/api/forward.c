/* See forward.h.
 *
 *     forward_send --request, body--> answered --part--> held --more--> ... --last part--> dropped by the asker
 *                          |                       |
 *                          +--- the stream ends ---+--> told (when it does not hold a part), then dropped
 *
 * A line is one connection. When another leads its line is closed: the streams end, the asks go on elsewhere; the
 * struct lives until the connection is gone. A line that could not be made, or broke, is gone too, and the next ask
 * that is tried makes another: the asker waits a while before.
 *
 * Whether an ask whose stream ended may have been carried out: not if the connection was never made, and not if the
 * leader refused the stream; else nobody knows. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/forward.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"

#define DIAL_MS        3000
#define BODY_BYTES_MAX (16 * 1024 * 1024) /* under way, of all asks; but for one ask, however large */

static const unsigned calls_of_class[ASK_CLASSES] = {[ASK_READ] = 256, [ASK_WRITE] = 256, [ASK_STREAM] = 128};

struct line {
    struct forward *forward;
    struct rpc_conn *conn;
    char *address; /* owned */
    bool opened;   /* it was connected at some time */
    bool left;     /* because another leads */
};

struct forward {
    struct forward_config config;
    struct tls *tls;
    char *leader;      /* owned; NULL: not known */
    struct line *line; /* NULL: none */
    unsigned lines;    /* that are not gone */
    struct list calls; /* of forward_call */
    unsigned under_way[ASK_CLASSES];
    size_t body_bytes; /* of all calls */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct forward_call {
    struct list link; /* forward->calls */
    struct forward *forward;
    struct ask *ask; /* borrowed */
    struct forward_events events;
    struct line *line;         /* while there is a stream */
    struct rpc_stream *stream; /* NULL once it has ended */
    size_t body_sent;
    bool held;      /* the asker has a part, and others follow */
    bool finished;  /* the last part came */
    bool given_up;  /* we ended the stream, and wait for its end */
    bool undecided; /* how it ended, with `why`, while the asker held a part */
    struct err why;
};

/* --- lines ------------------------------------------------------------------------------------------------- */

static void maybe_closed(struct forward *f)
{
    void (*closed)(void *ctx) = f->closed;
    void *ctx = f->closed_ctx;

    if (!f->closing || f->lines)
        return;
    tls_unref(f->tls);
    free(f->leader);
    free(f);
    closed(ctx);
}

static void on_line_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    struct line *l = ctx;

    l->opened = true;
    log_debug("requests are forwarded to the leader", "address=%s node=%s", l->address, peer->node_id);
}

static void on_line_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct line *l = ctx;
    struct forward *f = l->forward;

    if (f->line == l)
        f->line = NULL;
    /* One that is not made is tried again and again while somebody asks. */
    log_debug(l->opened ? "the connection to the leader is closed" : "the leader cannot be reached",
              "address=%s error=\"%s\"", l->address, e->text);
    free(l->address);
    free(l);
    f->lines--;
    maybe_closed(f);
}

static void close_line(struct forward *f)
{
    struct line *l = f->line;

    f->line = NULL;
    if (!l)
        return;
    l->left = true;
    rpc_conn_close(l->conn); /* the streams end later */
}

static int make_line(struct forward *f, struct err *e)
{
    struct rpc_conn_events events = {.on_open = on_line_open, .on_closed = on_line_closed};
    struct rpc_dial dial = {.address = f->leader,
                            .tls = f->tls,
                            .expect_roles = RPC_ROLE_MANAGER,
                            .expect_cluster = f->config.cluster_id,
                            .timeout_ms = DIAL_MS};
    struct line *l = mem_alloc(sizeof(*l));

    l->forward = f;
    l->address = mem_strdup(f->leader);
    events.ctx = l;
    int rc = rpc_dial(f->config.loop, &dial, &events, &l->conn, e);
    if (rc < 0) {
        free(l->address);
        free(l);
        return rc;
    }
    f->line = l;
    f->lines++;
    return 0;
}

void forward_lead(struct forward *f, const char *address)
{
    bool same = address && f->leader ? strcmp(address, f->leader) == 0 : !address && !f->leader;

    if (f->closing || same)
        return;
    free(f->leader);
    f->leader = address ? mem_strdup(address) : NULL;
    if (address && f->line && strcmp(f->line->address, address) != 0)
        close_line(f);
}

void forward_lead_here(struct forward *f)
{
    forward_lead(f, NULL);
    if (!f->closing)
        close_line(f);
}

void forward_set_tls(struct forward *f, struct tls *tls)
{
    tls_unref(f->tls);
    f->tls = tls_ref(tls);
}

/* --- a stream ---------------------------------------------------------------------------------------------- */

/* The leader said no to the stream, before anybody looked at the request. */
static bool was_refused(const struct err *e)
{
    return e->code == ERR_UNSUPPORTED || e->code == ERR_DENIED || e->code == ERR_LIMIT || e->code == ERR_INVALID;
}

/* The asker drops the call meanwhile. */
static void tell_end(struct forward_call *call)
{
    struct err why = call->why;

    call->events.on_end(call->ask, &why, call->undecided);
}

static void on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct forward_call *call = ctx;

    call->stream = NULL;
    call->why = *e;
    if (call->line->left)
        err_set(&call->why, ERR_AGAIN, "another manager leads now");
    else if (!e->code)
        err_set(&call->why, ERR_CLOSED, "the leader ended its answer");
    call->undecided = call->line->opened && !was_refused(e);
    if (!call->held)
        tell_end(call);
}

static void give_up(struct forward_call *call, const struct err *e)
{
    log_warn("the leader does not make sense", "address=%s error=\"%s\"", call->line->address, e->text);
    call->given_up = true;
    rpc_end(call->stream, e); /* on_end comes */
}

static void on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    struct forward_call *call = ctx;
    AUTO_ARENA struct arena a;
    ForwardPart *part;
    struct err e;

    arena_init(&a);
    if (forward_read_part(message, size, &a, &part, &e) < 0) {
        give_up(call, &e);
        return;
    }
    call->finished = !part->more;
    call->held = part->more;
    if (call->held)
        rpc_pause(s, true);
    call->events.on_part(call->ask, part);
}

static void send_body(struct forward_call *call)
{
    const struct ask *k = call->ask;
    AUTO_BUF struct buf packed = {0};

    while (call->body_sent < k->body_size) {
        ForwardBody body = FORWARD_BODY__INIT;

        body.bytes.len = MIN(k->body_size - call->body_sent, (size_t)FORWARD_PART_BYTES);
        body.bytes.data = (uint8_t *)k->body + call->body_sent;
        buf_clear(&packed);
        forward_body__pack(&body, (uint8_t *)buf_reserve(&packed, forward_body__get_packed_size(&body)));
        buf_added(&packed, forward_body__get_packed_size(&body));
        if (rpc_send(call->stream, buf_bytes(&packed), packed.length) < 0)
            return; /* on_writable comes, or on_end */
        call->body_sent += body.bytes.len;
    }
}

static void on_writable(void *ctx, struct rpc_stream *s)
{
    send_body(ctx);
}

/* --- calls ------------------------------------------------------------------------------------------------- */

static int may_send(const struct forward *f, const struct ask *k, struct err *e)
{
    if (f->closing || !f->leader)
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead and knows nobody who does");
    if (f->under_way[k->route->class] >= calls_of_class[k->route->class] ||
        (f->body_bytes && f->body_bytes + k->body_size > BODY_BYTES_MAX))
        return err_set(e, ERR_UNAVAILABLE, "too many requests are being forwarded to the leader at once");
    return 0;
}

static int open_stream(struct forward_call *call, const uint8_t *id, struct err *e)
{
    static const struct rpc_stream_events base = {
        .on_message = on_message, .on_writable = on_writable, .on_end = on_end};
    struct rpc_stream_events events = base;
    ForwardRequest r = FORWARD_REQUEST__INIT;
    const struct ask *k = call->ask;
    AUTO_BUF struct buf packed = {0};

    r.method = (char *)k->route->method;
    r.path = (char *)k->path;
    r.query = (char *)k->query;
    r.registry_auth = (char *)k->registry_auth;
    r.api_minor = k->api_minor;
    r.has_body_size = k->body_size != 0;
    r.body_size = (uint32_t)k->body_size;
    r.has_id = id != NULL;
    r.id = (ProtobufCBinaryData){.len = IDENT_BYTES, .data = (uint8_t *)id};
    size_t size = forward_request__get_packed_size(&r);
    forward_request__pack(&r, (uint8_t *)buf_reserve(&packed, size));
    events.ctx = call;
    return rpc_open(call->line->conn, METHOD_FORWARD, METHOD_FORWARD_BYTES_MAX, buf_bytes(&packed), size, &events,
                    &call->stream, e);
}

int forward_send(struct forward *f, struct ask *k, const uint8_t *id, const struct forward_events *events,
                 struct forward_call **ret, struct err *e)
{
    int rc = may_send(f, k, e);

    if (rc == 0 && !f->line)
        rc = make_line(f, e);
    if (rc < 0)
        return rc;
    struct forward_call *call = mem_alloc(sizeof(*call));
    call->forward = f;
    call->ask = k;
    call->events = *events;
    call->line = f->line;
    rc = open_stream(call, id, e);
    if (rc < 0) {
        free(call);
        return rc;
    }
    list_push(&f->calls, &call->link);
    f->under_way[k->route->class]++;
    f->body_bytes += k->body_size;
    send_body(call);
    *ret = call;
    return 0;
}

void forward_more(struct forward_call *call)
{
    assert(call->held);
    call->held = false;
    if (call->stream)
        rpc_pause(call->stream, false);
    else
        tell_end(call);
}

void forward_drop(struct forward_call *call)
{
    static const struct rpc_stream_events nothing = {.ctx = NULL};
    struct forward *f = call->forward;
    struct err e;

    if (call->stream) {
        rpc_stream_set(call->stream, &nothing);
        err_set(&e, ERR_CANCELED, "nobody waits for the answer any more");
        if (!call->given_up)
            rpc_end(call->stream, call->finished ? NULL : &e);
    }
    list_remove(&call->link);
    f->under_way[call->ask->route->class]--;
    f->body_bytes -= call->ask->body_size;
    free(call);
}

/* --- the door ---------------------------------------------------------------------------------------------- */

struct forward *forward_new(const struct forward_config *config)
{
    struct forward *f = mem_alloc(sizeof(*f));

    f->config = *config;
    f->tls = tls_ref(config->tls);
    list_init(&f->calls);
    return f;
}

void forward_close(struct forward *f, void (*closed)(void *ctx), void *ctx)
{
    assert(!f->closing && list_empty(&f->calls));
    f->closing = true;
    f->closed = closed;
    f->closed_ctx = ctx;
    close_line(f);
    maybe_closed(f);
}
