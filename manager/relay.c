/* See relay.h: the manager loop's side.
 *
 * What one other manager may have here at a time is bounded by class, in bodies and, by the table of methods, in
 * streams: somewhat more than it lets itself have (forward.c), because it learns of an end sooner than we do.
 *
 * Pages become messages that fit into the stream's credit; nothing is kept beside the page, and the next page is
 * asked for when the last byte of this one was taken. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/forward.h"
#include "manager/relay.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define BODY_BYTES_MAX (32 * 1024 * 1024) /* of one other manager's requests */

static const unsigned most_of_class[ASK_CLASSES] = {[ASK_READ] = 320, [ASK_WRITE] = 320, [ASK_STREAM] = 160};

struct relay_peer {   /* another manager that has something here */
    struct list link; /* relay->peers */
    char node_id[IDENT_TEXT + 1];
    unsigned count; /* of all classes */
    unsigned of_class[ASK_CLASSES];
    size_t body_bytes;
};

struct relay {
    struct relay_events events;
    struct list all; /* of relayed */
    struct list peers;
};

/* --- who has how much -------------------------------------------------------------------------------------- */

static struct relay_peer *peer_of(struct relay *y, const char *node_id)
{
    struct relay_peer *p;

    list_each (p, &y->peers, link)
        if (strcmp(p->node_id, node_id) == 0)
            return p;
    p = mem_alloc(sizeof(*p));
    memcpy(p->node_id, node_id, sizeof(p->node_id));
    list_push(&y->peers, &p->link);
    return p;
}

static void peer_forget(struct relay_peer *p)
{
    if (p->count)
        return;
    list_remove(&p->link);
    free(p);
}

static int check_room(const struct relay_peer *p, int class, size_t body_size, struct err *e)
{
    if (p->of_class[class] >= most_of_class[class])
        return err_set(e, ERR_LIMIT, "more than %u forwarded requests of one kind at once", most_of_class[class]);
    if (p->body_bytes + body_size > BODY_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "bodies of forwarded requests are larger than %d bytes at once",
                       BODY_BYTES_MAX);
    return 0;
}

static void count(struct relayed *r, int change)
{
    r->peer->count += (unsigned)change;
    r->peer->of_class[r->class] += (unsigned)change;
    r->peer->body_bytes += change > 0 ? r->body_size : -r->body_size;
}

/* --- the end ----------------------------------------------------------------------------------------------- */

static void relayed_free(struct relayed *r)
{
    list_remove(&r->link);
    count(r, -1);
    peer_forget(r->peer);
    if (!r->begun)
        manager_request_forget(r->request);
    buf_fini(&r->page.bytes);
    free(r);
}

/* Its stream is gone: so is the client, for us. */
static void let_go(struct relayed *r)
{
    bool has_more = r->at_node || (r->begun && r->page.more);

    if (!has_more) {
        relayed_free(r);
    } else if (!r->drop_posted) {
        r->drop_posted = true;
        r->relay->events.on_drop(r->relay->events.ctx, r);
    }
}

void relay_dropped(struct relay *y, struct relayed *r)
{
    (void)y; /* r knows it */
    relayed_free(r);
}

static void on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct relayed *r = ctx;

    r->stream = NULL;
    let_go(r);
}

/* --- answers ----------------------------------------------------------------------------------------------- */

static void pack_part(const struct relayed *r, size_t size, bool more, struct buf *out)
{
    ForwardPart part = FORWARD_PART__INIT;

    part.has_status = !r->said_head && r->page.again == ASK_ANSWERED;
    part.status = (uint32_t)r->page.status;
    part.type = r->said_head ? NULL : (char *)r->page.type;
    part.has_bytes = size != 0;
    part.bytes = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)buf_bytes(&r->page.bytes) + r->sent};
    part.has_more = part.more = more;
    part.has_cut = part.cut = r->page.cut;
    part.has_again = r->page.again != ASK_ANSWERED;
    part.again = r->page.again == ASK_UNDECIDED ? FORWARD_AGAIN__UNDECIDED : FORWARD_AGAIN__NOT_LED;
    size_t packed = forward_part__get_packed_size(&part);
    forward_part__pack(&part, (uint8_t *)buf_reserve(out, packed));
    buf_added(out, packed);
}

/* One message. Returns a code when the stream takes none now: on_writable comes, or on_end. */
static int send_part(struct relayed *r)
{
    AUTO_BUF struct buf packed = {0};
    size_t left = r->page.bytes.length - r->sent, size = MIN(left, (size_t)FORWARD_PART_BYTES);

    pack_part(r, size, r->page.more || size < left, &packed);
    int rc = rpc_send(r->stream, buf_bytes(&packed), packed.length);
    if (rc < 0)
        return rc;
    r->sent += size;
    r->said_head = true;
    return 0;
}

static void ask_more(struct relayed *r)
{
    buf_clear(&r->page.bytes);
    r->at_node = true;
    r->relay->events.on_more(r->relay->events.ctx, r);
}

/* The first page says its head even if it is empty, the last one that it is the last. */
static void send_on(struct relayed *r)
{
    do {
        if ((r->sent < r->page.bytes.length || !r->said_head || !r->page.more) && send_part(r) < 0)
            return;
    } while (r->sent < r->page.bytes.length);
    if (r->page.more)
        ask_more(r);
    else
        rpc_end(r->stream, NULL); /* on_end frees it */
}

static void on_writable(void *ctx, struct rpc_stream *s)
{
    struct relayed *r = ctx;

    if (r->begun && !r->at_node)
        send_on(r);
}

void relay_page(struct relay *y, struct relayed *r)
{
    (void)y; /* r knows it */
    r->at_node = false;
    r->sent = 0;
    if (r->stream)
        send_on(r);
    else if (!r->drop_posted)
        let_go(r);
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void begin(struct relayed *r)
{
    r->begun = r->at_node = true;
    r->relay->events.on_begin(r->relay->events.ctx, r);
}

static int take_body(struct relayed *r, const void *message, size_t size, struct err *e)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    const ForwardBody *body = arena_unpack(&a, &forward_body__descriptor, message, size);
    if (!body)
        return err_set(e, ERR_INVALID, "%zu bytes are no part of a forwarded request's body", size);
    if (r->begun || body->bytes.len == 0 || body->bytes.len > r->body_size - r->body_come)
        return err_set(e, ERR_INVALID,
                       "the body of a forwarded request is larger than the %zu bytes it should have", r->body_size);
    memcpy(r->body + r->body_come, body->bytes.data, body->bytes.len);
    r->body_come += body->bytes.len;
    return 0;
}

static void on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    struct relayed *r = ctx;
    struct err e;

    if (take_body(r, message, size, &e) < 0)
        rpc_end(s, &e);
    else if (r->body_come == r->body_size)
        begin(r);
}

/* Whatever the request needs lies in its arena. */
static struct manager_request *request_from(const ForwardRequest *f, const struct rpc_identity *peer)
{
    struct manager_request *q = manager_request_new();
    struct ask_origin *origin = ARENA_NEW(&q->arena, struct ask_origin);

    memcpy(origin->node_id, peer->node_id, sizeof(origin->node_id));
    if (f->has_id)
        memcpy(origin->request_id, f->id.data, sizeof(origin->request_id));
    q->origin = origin;
    q->method = arena_strdup(&q->arena, f->method);
    q->path = arena_strdup(&q->arena, f->path);
    q->query = arena_strdup(&q->arena, f->query ? f->query : "");
    q->registry_auth = f->registry_auth ? arena_strdup(&q->arena, f->registry_auth) : NULL;
    q->api_minor = f->api_minor;
    q->body_size = f->body_size;
    q->body = arena_alloc(&q->arena, f->body_size);
    return q;
}

static void relayed_open(struct relay *y, struct rpc_stream *stream, struct relay_peer *peer,
                         struct manager_request *request, int class)
{
    struct rpc_stream_events events = {.on_message = on_message, .on_writable = on_writable, .on_end = on_end};
    struct relayed *r = mem_alloc(sizeof(*r));

    r->relay = y;
    r->peer = peer;
    r->class = class;
    r->stream = stream;
    r->request = request;
    r->body = (char *)request->body;
    r->body_size = request->body_size;
    events.ctx = r;
    rpc_stream_set(stream, &events);
    list_push(&y->all, &r->link);
    count(r, 1);
    if (r->body_size == 0)
        begin(r);
}

void relay_on_open(struct relay *y, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size)
{
    static const struct rpc_stream_events nothing = {.ctx = NULL};
    struct relay_peer *p = peer_of(y, peer->node_id);
    AUTO_ARENA struct arena a;
    ForwardRequest *f;
    struct err e;
    int class = ASK_READ, rc;

    arena_init(&a);
    rc = forward_read_request(message, size, &a, &f, &e);
    if (rc == 0) {
        class = (int)ask_class_of(f->method, f->path);
        rc = check_room(p, class, f->body_size, &e);
    }
    if (rc == 0) {
        relayed_open(y, stream, p, request_from(f, peer), class);
        return;
    }
    log_debug("a forwarded request is refused", "node=%s error=\"%s\"", peer->node_id, e.text);
    peer_forget(p);
    rpc_stream_set(stream, &nothing);
    rpc_end(stream, &e);
}

/* --- the door ---------------------------------------------------------------------------------------------- */

struct relay *relay_new(const struct relay_events *events)
{
    struct relay *y = mem_alloc(sizeof(*y));

    y->events = *events;
    list_init(&y->all);
    list_init(&y->peers);
    return y;
}

void relay_free(struct relay *y)
{
    struct relayed *r;

    if (!y)
        return;
    while ((r = list_first(&y->all, struct relayed, link))) {
        assert(!r->stream && r->drop_posted);
        relayed_free(r);
    }
    assert(list_empty(&y->peers));
    free(y);
}
