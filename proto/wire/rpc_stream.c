/* Streams: messages both ways, credit, and ends.
 *
 * On the wire a stream is a sequence of bytes each way: messages, each after its length. Frames carry any piece of
 * it, so a large message does not hold up other streams and small ones share a frame.
 *
 * Credit: each side may have RPC_CREDIT_BYTES under way, or what the receiver's method gives at once when the
 * stream begins (a long path needs more to be filled). What was delivered gives credit back; so do the pieces of a
 * message that is still incomplete, which is bounded by the largest message; nothing does while the stream is
 * paused. A sender may queue what fits into its credit, or one message of any size when nothing is queued.
 *
 * Ends: each side sends END exactly once. The side that ends first goes on ignoring what comes until the other's
 * END says that nothing more will; that one is sent at once when END arrives and everything before it was
 * delivered. So a number can be used again once both have ended, and frames of streams that we do not know
 * (refused, ended) are left-overs and mean nothing.
 *
 * A stream is freed in stream_finish only, which only frames, sending and the connection's end lead to: never a
 * call of the user's. */
#include <assert.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/rpc_internal.h"

#define LENGTH_BYTES    4
#define STREAMS_DEFAULT 16

static void mark_ready(struct rpc_stream *s)
{
    if (s->ready.next == &s->ready)
        list_push(&s->conn->ready, &s->ready);
    rpc_conn_soon(s->conn);
}

/* --- beginning and finishing --------------------------------------------------------------------- */

static struct rpc_stream *stream_new(struct rpc_conn *c, uint32_t id, uint16_t method)
{
    struct rpc_stream *s = mem_alloc(sizeof(*s));

    s->conn = c;
    s->id = id;
    s->method = method;
    s->credit = s->allowed = RPC_CREDIT_BYTES;
    list_init(&s->ready);
    list_push(&c->all, &s->by_conn);
    map64_put(&c->streams, id, s);
    return s;
}

static void stream_unlink(struct rpc_stream *s)
{
    list_remove(&s->ready);
    list_remove(&s->by_conn);
    map64_remove(&s->conn->streams, s->id);
    if (!s->opened_by_peer)
        s->conn->opened--;
}

static void stream_free(struct rpc_stream *s)
{
    buf_fini(&s->out);
    buf_fini(&s->in);
    free(s->end);
    free(s->peer_end);
    free(s);
}

static void tell_end(struct rpc_stream *s, const struct err *e)
{
    stream_unlink(s);
    if (s->events.on_end)
        s->events.on_end(s->events.ctx, s, e);
    stream_free(s);
}

static void put_end(struct rpc_stream *s, struct buf *out)
{
    frame_put_reason(out, FRAME_END, s->id, s->end ? s->end->code : 0, s->end ? s->end->text : "");
    s->end_sent = true;
}

/* Both ends are known: the stream is over. */
static void stream_finish(struct rpc_stream *s)
{
    struct err plain = {0}, cut;
    const struct err *e = s->end ? s->end : s->peer_end ? s->peer_end : &plain;

    if (!s->end_sent)
        put_end(s, &s->conn->control);
    if (e == &plain && !s->ending && s->in.length > 0) {
        err_set(&cut, ERR_CORRUPT, "stream ended in the middle of a message");
        e = &cut;
    }
    tell_end(s, e);
}

void rpc_streams_end(struct rpc_conn *c, const struct err *e)
{
    while (!list_empty(&c->all))
        tell_end(list_first(&c->all, struct rpc_stream, by_conn), e);
}

/* A failure does not wait for credit. But a stream that ends before it began begins all the same, where the first
 * credit suffices: else the peer would never learn what it was that failed. */
static void drop_unsent(struct rpc_stream *s)
{
    size_t first = s->open_sent ? 0 : LENGTH_BYTES + (size_t)frame_u32((const uint8_t *)buf_bytes(&s->out));

    if (first == 0 || first > RPC_CREDIT_BYTES)
        buf_fini(&s->out);
    else
        s->out.length = first;
}

static void set_end(struct rpc_stream *s, const struct err *e)
{
    s->ending = true; /* what is in `in` may just be looked at by a callback: it is dropped by look_after */
    if (e && e->code != 0) {
        s->end = mem_dup(e, sizeof(*e));
        drop_unsent(s);
    }
    mark_ready(s);
}

void rpc_streams_limit(struct rpc_conn *c)
{
    struct rpc_stream *s;
    struct err e;

    list_each (s, &c->all, by_conn) {
        const struct rpc_method *m = s->opened_by_peer;

        if (!m || (m->roles & c->peer.role) || s->ending)
            continue;
        err_set(&e, ERR_DENIED, "%s is not for peers of this role any more", m->name);
        set_end(s, &e);
    }
}

/* --- receiving ----------------------------------------------------------------------------------- */

static void tell_message(struct rpc_stream *s, const uint8_t *message, size_t size)
{
    const struct rpc_method *m = s->opened_by_peer;

    if (m && !s->told_open) {
        s->told_open = true;
        m->on_open(s->conn->method_ctx, s, &s->conn->peer, message, size);
        assert(s->set || s->ended_by_user);
    } else if (s->events.on_message) {
        s->events.on_message(s->events.ctx, s, message, size);
    }
}

/* Deliver whole messages from bytes of the stream. Returns how many bytes they were. */
static size_t tell_messages(struct rpc_stream *s, const uint8_t *bytes, size_t size)
{
    size_t at = 0;
    struct err e;

    while (size - at >= LENGTH_BYTES && !s->paused && !s->ending && s->conn->state != RPC_CLOSING) {
        uint32_t length = frame_u32(bytes + at);

        if (length > s->message_bytes_max) {
            err_set(&e, ERR_LIMIT, "message of %u bytes, at most %u are taken", length, s->message_bytes_max);
            set_end(s, &e);
            break;
        }
        if (size - at - LENGTH_BYTES < length)
            break;
        tell_message(s, bytes + at + LENGTH_BYTES, length);
        at += LENGTH_BYTES + length;
    }
    return at;
}

static void give_credit(struct rpc_stream *s)
{
    if (!s->paused) { /* the beginning of a message: bounded by its largest size */
        s->owed += (uint32_t)(s->in.length - s->counted);
        s->counted = s->in.length;
    }
    if (s->owed < RPC_CREDIT_STEP || s->ended || s->ending)
        return;
    frame_put_u32(&s->conn->control, FRAME_CREDIT, s->id, s->owed);
    s->allowed += s->owed;
    s->owed = 0;
}

/* Deliver what is kept; true when that was the stream's end and it is freed. */
static bool deliver(struct rpc_stream *s)
{
    if (s->in.length > 0) {
        size_t told = tell_messages(s, (const uint8_t *)buf_bytes(&s->in), s->in.length);

        if (!s->ending) { /* else nothing is kept any more */
            size_t counted = MIN(told, s->counted);

            buf_consume(&s->in, told);
            s->owed += (uint32_t)(told - counted);
            s->counted -= counted;
            if (s->in.length == 0)
                buf_fini(&s->in);
        }
    }
    if (s->conn->state == RPC_CLOSING)
        return false;
    if (s->ended && (!s->paused || s->ending)) {
        stream_finish(s);
        return true;
    }
    give_credit(s);
    return false;
}

static int frame_data(struct rpc_stream *s, const uint8_t *data, size_t size, struct err *e)
{
    if (s->ended)
        return err_set(e, ERR_CORRUPT, "stream %u goes on after its end", s->id);
    if (size > s->allowed)
        return err_set(e, ERR_CORRUPT, "stream %u overran its credit by %zu bytes", s->id, size - s->allowed);
    s->allowed -= (uint32_t)size;
    if (s->ending)
        return 0;            /* the peer does not know yet */
    if (s->in.length == 0) { /* mostly: whole messages, told from where they lie */
        size_t told = tell_messages(s, data, size);

        if (s->ending || s->conn->state == RPC_CLOSING)
            return 0;
        s->owed += (uint32_t)told;
        data += told;
        size -= told;
    }
    buf_append(&s->in, data, size);
    (void)deliver(s); /* not ended yet: it lives */
    return 0;
}

static int frame_credit(struct rpc_stream *s, uint32_t credit, struct err *e)
{
    /* More than the least is for those we asked: who only opened a stream here does not say what we keep for it. */
    uint32_t most = s->opened_by_peer ? RPC_CREDIT_BYTES : RPC_CREDIT_MAX;

    if (s->credit > most || credit > most - s->credit)
        return err_set(e, ERR_CORRUPT, "stream %u was given more credit than there is", s->id);
    s->credit += credit;
    mark_ready(s);
    return 0;
}

static int frame_end(struct rpc_stream *s, const struct frame *f, struct err *e)
{
    struct err reason;

    if (s->ended)
        return err_set(e, ERR_CORRUPT, "stream %u ended twice", s->id);
    s->ended = true;
    frame_reason(f, &reason);
    if (reason.code != 0)
        s->peer_end = mem_dup(&reason, sizeof(reason));
    if (s->ending)
        stream_finish(s);
    else
        (void)deliver(s); /* may free it */
    return 0;
}

/* --- opened by the peer -------------------------------------------------------------------------- */

static const struct rpc_method *find_method(const struct rpc_conn *c, uint32_t number)
{
    for (size_t i = 0; i < c->method_count; i++)
        if (c->methods[i].number == number)
            return &c->methods[i];
    return NULL;
}

/* Whether the peer may open one more stream of this method. */
static int may_open(struct rpc_conn *c, const struct rpc_method *m, uint32_t number, struct err *e)
{
    unsigned alive = 0, max;
    struct rpc_stream *s;

    if (!m)
        return err_set(e, ERR_UNSUPPORTED, "there is no method %u", number);
    if (!(m->roles & c->peer.role))
        return err_set(e, ERR_DENIED, "%s is not for peers of this role", m->name);
    max = m->streams_max ? m->streams_max : STREAMS_DEFAULT;
    list_each (s, &c->all, by_conn)
        alive += s->opened_by_peer == m;
    if (alive >= max)
        return err_set(e, ERR_LIMIT, "more than %u streams of %s at once", max, m->name);
    return 0;
}

static int frame_open(struct rpc_conn *c, const struct frame *f, struct err *e)
{
    uint32_t number = frame_u16(f->payload);
    const struct rpc_method *m = find_method(c, number);
    struct err refusal;

    if ((f->stream & 1) == (c->next_id & 1))
        return err_set(e, ERR_CORRUPT, "stream %u opened by the wrong side", f->stream);
    if (map64_get(&c->streams, f->stream))
        return err_set(e, ERR_CORRUPT, "stream %u opened twice", f->stream);
    if (may_open(c, m, number, &refusal) < 0) {
        frame_put_reason(&c->control, FRAME_END, f->stream, refusal.code, refusal.text);
        if (refusal.code == ERR_DENIED && !c->denied) /* once: a peer must not fill our log */
            log_warn("peer may not do this", "peer=%s node=%s error=\"%s\"", c->address, c->peer.node_id,
                     refusal.text);
        c->denied = c->denied || refusal.code == ERR_DENIED;
        return 0;
    }
    struct rpc_stream *s = stream_new(c, f->stream, (uint16_t)number);
    s->opened_by_peer = m;
    s->message_bytes_max = m->message_bytes_max;
    s->open_sent = true;
    if (m->credit_bytes > RPC_CREDIT_BYTES)
        s->owed = MIN(m->credit_bytes, RPC_CREDIT_MAX) - RPC_CREDIT_BYTES; /* given with the next that is due */
    return f->size > 2 ? frame_data(s, f->payload + 2, f->size - 2, e) : 0;
}

int rpc_stream_frame(struct rpc_conn *c, const struct frame *f, struct err *e)
{
    if (f->type == FRAME_OPEN)
        return frame_open(c, f, e);
    struct rpc_stream *s = map64_get(&c->streams, f->stream);
    if (!s)
        return 0; /* what was under way when it ended */
    if (f->type == FRAME_DATA)
        return frame_data(s, f->payload, f->size, e);
    if (f->type == FRAME_CREDIT)
        return frame_credit(s, frame_u32(f->payload), e);
    return frame_end(s, f, e);
}

/* --- sending ------------------------------------------------------------------------------------- */

/* Put one frame of the stream's bytes, as many as credit and room allow. */
static void put_bytes(struct rpc_stream *s, struct buf *batch, size_t room)
{
    size_t left = room - batch->length - FRAME_HEAD - 2;
    size_t part = MIN(MIN(s->out.length, (size_t)s->credit), left);

    if (!s->open_sent) {
        uint8_t method[] = {(uint8_t)(s->method >> 8), (uint8_t)s->method};

        frame_put_head(batch, FRAME_OPEN, s->id, sizeof(method) + part);
        buf_append(batch, method, sizeof(method));
        s->open_sent = true;
    } else if (part > 0) {
        frame_put_head(batch, FRAME_DATA, s->id, part);
    }
    buf_append(batch, part ? buf_bytes(&s->out) : NULL, part);
    buf_consume(&s->out, part);
    s->credit -= (uint32_t)part;
    if (s->out.length == 0)
        buf_fini(&s->out);
}

/* Whatever is due on a stream: deliver what was held back, send, end, let a waiting sender go on. */
static void look_after(struct rpc_stream *s, struct buf *batch, size_t room)
{
    struct rpc_conn *c = s->conn;

    if (s->ending) {
        buf_fini(&s->in);
        s->counted = 0;
    } else if (deliver(s)) {
        return;
    }
    if (c->state == RPC_CLOSING)
        return;
    put_bytes(s, batch, room);
    if (s->ending && s->out.length == 0 && !s->end_sent) {
        put_end(s, batch);
        if (s->ended) {
            stream_finish(s);
            return;
        }
    }
    if (s->blocked && !s->ending && s->out.length == 0 && s->credit > 0) {
        s->blocked = false;
        if (s->events.on_writable)
            s->events.on_writable(s->events.ctx, s);
    }
    if (s->out.length > 0 && s->credit > 0)
        mark_ready(s); /* behind the others */
}

void rpc_streams_fill(struct rpc_conn *c, struct buf *batch, size_t room)
{
    struct list *link;

    while (batch->length + FRAME_HEAD + 2 < room && c->state != RPC_CLOSING && (link = list_pop(&c->ready)))
        look_after(list_entry(link, struct rpc_stream, ready), batch, room);
}

/* --- the user's side ----------------------------------------------------------------------------- */

static void queue_message(struct rpc_stream *s, const void *message, size_t size)
{
    uint8_t *head = (uint8_t *)buf_reserve(&s->out, LENGTH_BYTES + size);

    frame_store_u32(head, (uint32_t)size);
    if (size)
        memcpy(head + LENGTH_BYTES, message, size);
    buf_added(&s->out, LENGTH_BYTES + size);
    mark_ready(s);
}

int rpc_open(struct rpc_conn *c, uint16_t method, uint32_t message_bytes_max, const void *message, size_t size,
             const struct rpc_stream_events *events, struct rpc_stream **ret, struct err *e)
{
    assert(size <= UINT32_MAX);
    if (c->state == RPC_CLOSING)
        return err_set(e, ERR_CLOSED, "%s: the connection is closed", c->address);
    if (c->opened >= RPC_STREAMS_OPEN_MAX)
        return err_set(e, ERR_LIMIT, "%s: more than %d streams at once", c->address, RPC_STREAMS_OPEN_MAX);
    while (c->next_id == 0 || map64_get(&c->streams, c->next_id)) /* numbers come back after 2^31 streams */
        c->next_id += 2;
    struct rpc_stream *s = stream_new(c, c->next_id, method);
    c->next_id += 2;
    c->opened++;
    s->message_bytes_max = message_bytes_max;
    s->events = *events;
    s->set = true;
    queue_message(s, message, size);
    if (ret)
        *ret = s;
    return 0;
}

void rpc_stream_set(struct rpc_stream *s, const struct rpc_stream_events *events)
{
    s->events = *events;
    s->set = true;
}

struct rpc_conn *rpc_stream_conn(struct rpc_stream *s)
{
    return s->conn;
}

int rpc_send(struct rpc_stream *s, const void *message, size_t size)
{
    assert(!s->ended_by_user && size <= UINT32_MAX);
    if (s->ended || s->ending || s->conn->state == RPC_CLOSING)
        return ERR_CLOSED; /* on_end is on its way */
    if (s->out.length > 0 ? s->out.length + LENGTH_BYTES + size > s->credit : s->credit == 0) {
        s->blocked = true;
        return ERR_AGAIN;
    }
    queue_message(s, message, size);
    return 0;
}

void rpc_end(struct rpc_stream *s, const struct err *e)
{
    assert(!s->ended_by_user);
    s->ended_by_user = true;
    if (s->conn->state != RPC_CLOSING && !s->ending)
        set_end(s, e);
}

void rpc_pause(struct rpc_stream *s, bool paused)
{
    if (s->paused && !paused)
        mark_ready(s);
    s->paused = paused;
}
