/* Logs of tasks as their nodes send them (dispatcher.h).
 *
 * A log is asked for over the node's session; the agent opens a stream of its own for it, which names the
 * subscription. The stream is accepted only from the node that was asked. The log ends with its stream, with the
 * node's session, or when nobody opened a stream in time. */
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/internal.h"
#include "proto/base/mem.h"

#define STREAM_MS 10000 /* from the request to the agent's stream */

struct dispatcher_log {
    struct dispatcher *dispatcher;
    struct list link;          /* dispatcher->logs */
    uint64_t number;           /* of the subscription */
    uint64_t node;             /* asked; 0: there was none to ask */
    struct rpc_stream *stream; /* NULL: not yet, or not any more */
    int64_t deadline_ms;       /* for the stream */
    struct dispatcher_log_events events;
    bool is_ending;   /* its stream is, by us: on_end is on the way */
    bool paused;      /* by its reader, maybe before there is a stream */
    bool is_ended;    /* on_end is due in the next turn */
    bool is_closed;   /* by its reader: freed when the stream has ended */
    struct err error; /* with is_ended */
};

static void log_free(struct dispatcher_log *l)
{
    list_remove(&l->link);
    free(l);
}

static void log_ended(struct dispatcher_log *l, const struct err *e)
{
    if (l->is_ended)
        return;
    l->is_ended = true;
    l->error = *e;
    dispatcher_wake(l->dispatcher);
}

static void end_stream(struct dispatcher_log *l, const struct err *e)
{
    if (l->is_ending)
        return;
    l->is_ending = true;
    rpc_end(l->stream, e);
}

static void tell_stop(struct dispatcher_log *l)
{
    struct node_session *s = l->node ? dispatcher_session_of(l->dispatcher, l->node) : NULL;
    ManagerMessage out = MANAGER_MESSAGE__INIT;
    LogRequest request = LOG_REQUEST__INIT;
    uint8_t none[IDENT_BYTES] = {0};

    if (!s || node_session_blocked(s))
        return; /* ending the stream tells as well */
    request.subscription = l->number;
    request.task_id = (ProtobufCBinaryData){sizeof(none), none};
    request.has_stop = request.stop = true;
    out.log = &request;
    node_session_send(s, &out);
}

/* --- the agent's stream ---------------------------------------------------------------------------- */

static void on_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct dispatcher_log *l = ctx;
    AUTO_ARENA struct arena a;
    struct err e;

    arena_init(&a);
    if (l->is_closed || l->is_ended)
        return;
    LogChunk *chunk = arena_unpack(&a, &log_chunk__descriptor, data, size);
    if (chunk) {
        l->events.on_lines(l->events.ctx, chunk);
    } else {
        err_set(&e, ERR_INVALID, "malformed log");
        end_stream(l, &e);
    }
}

static void on_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct dispatcher_log *l = ctx;

    l->stream = NULL;
    if (l->is_closed)
        log_free(l);
    else
        log_ended(l, e);
}

static struct dispatcher_log *find(struct dispatcher *d, uint64_t number)
{
    struct dispatcher_log *l;

    list_each (l, &d->logs, link) {
        if (l->number == number)
            return l;
    }
    return NULL;
}

static bool is_asked(struct dispatcher *d, const struct dispatcher_log *l, const struct rpc_identity *peer)
{
    struct node_session *s = l->node ? dispatcher_session_of(d, l->node) : NULL;

    return s && strcmp(s->node_id, peer->node_id) == 0 && !l->stream && !l->is_ended && !l->is_closed;
}

void dispatcher_on_logs(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *data,
                        size_t size)
{
    struct dispatcher *d = ctx;
    AUTO_ARENA struct arena a;
    struct err e;

    arena_init(&a);
    const LogStart *start = arena_unpack(&a, &log_start__descriptor, data, size);
    struct dispatcher_log *l = start ? find(d, start->subscription) : NULL;
    if (!l || !is_asked(d, l, peer)) {
        err_set(&e, ERR_DENIED, "nobody asked this node for such a log");
        rpc_end(stream, &e);
        return;
    }
    struct rpc_stream_events events = {.ctx = l, .on_message = on_message, .on_end = on_end};
    l->stream = stream;
    rpc_stream_set(stream, &events);
    if (l->paused)
        rpc_pause(stream, true);
}

/* --- asking ---------------------------------------------------------------------------------------- */

static unsigned count_of_node(const struct dispatcher *d, uint64_t node)
{
    const struct dispatcher_log *l;
    unsigned count = 0;

    list_each (l, &d->logs, link)
        count += l->node == node && (l->stream || !l->is_ended);
    return count;
}

struct dispatcher_log *dispatcher_log_open(struct dispatcher *d, uint64_t task, const LogRequest *request,
                                           const struct dispatcher_log_events *events)
{
    const struct index_task *indexed = index_task(control_index(d->config.control), task);
    const struct index_node *node = indexed ? index_task_node(indexed) : NULL;
    struct node_session *s = node ? dispatcher_session_of(d, node->number) : NULL;
    struct dispatcher_log *l = mem_alloc(sizeof(*l));
    ManagerMessage out = MANAGER_MESSAGE__INIT;
    LogRequest asked = *request;
    struct err e;

    l->dispatcher = d;
    l->events = *events;
    l->number = ++d->subscriptions;
    l->deadline_ms = dispatcher_now_ms(d) + STREAM_MS;
    unsigned others = node ? count_of_node(d, node->number) : 0;
    list_push(&d->logs, &l->link);
    if (!node) {
        err_set(&e, ERR_NOT_FOUND, "the task has not been scheduled");
        log_ended(l, &e);
    } else if (!s || node_session_blocked(s)) {
        err_set(&e, ERR_UNAVAILABLE, "node %s is not available", node->id_text);
        log_ended(l, &e);
    } else if (others >= DISPATCHER_LOGS_PER_NODE) {
        err_set(&e, ERR_UNAVAILABLE, "node %s sends %u logs already", node->id_text, others);
        log_ended(l, &e);
    } else {
        l->node = node->number;
        asked.subscription = l->number;
        asked.task_id = (ProtobufCBinaryData){sizeof(indexed->id), (uint8_t *)indexed->id};
        out.log = &asked;
        node_session_send(s, &out);
        dispatcher_wake(d); /* the deadline */
    }
    return l;
}

void dispatcher_log_pause(struct dispatcher_log *l, bool paused)
{
    l->paused = paused;
    if (l->stream)
        rpc_pause(l->stream, paused);
}

void dispatcher_log_close(struct dispatcher_log *l)
{
    l->is_closed = true;
    tell_stop(l);
    if (l->stream)
        end_stream(l, NULL); /* on_end frees it */
    else
        log_free(l);
}

/* --- the dispatcher's side ------------------------------------------------------------------------- */

void dispatcher_logs_session_ended(struct dispatcher *d, uint64_t node)
{
    const struct index_node *known = index_node(control_index(d->config.control), node);
    struct dispatcher_log *l, *after;
    struct err e;

    err_set(&e, ERR_UNAVAILABLE, "node %s is not available: its session ended", known ? known->id_text : "");
    list_each_safe (l, after, &d->logs, link) {
        if (l->node != node || l->is_closed)
            continue;
        if (l->stream)
            end_stream(l, &e); /* on_end tells */
        else
            log_ended(l, &e);
    }
}

int64_t dispatcher_logs_turn(struct dispatcher *d)
{
    int64_t now_ms = dispatcher_now_ms(d), due_ms = INT64_MAX;
    struct dispatcher_log *l, *after;
    struct err e;

    list_each_safe (l, after, &d->logs, link) {
        if (!l->is_ended && !l->is_closed && !l->stream && now_ms >= l->deadline_ms) {
            err_set(&e, ERR_TIMEOUT, "the node does not send the log");
            log_ended(l, &e);
        }
        if (l->is_ended && !l->is_closed) {
            struct dispatcher_log_events events = l->events;

            e = l->error;
            log_free(l);
            events.on_end(events.ctx, &e); /* may open and close others: begin again */
            return 0;
        }
        if (!l->stream && !l->is_closed)
            due_ms = MIN(due_ms, l->deadline_ms);
    }
    return due_ms == INT64_MAX ? -1 : MAX(due_ms - now_ms, 0);
}

void dispatcher_logs_free(struct dispatcher *d)
{
    struct dispatcher_log *l, *after;

    list_each_safe (l, after, &d->logs, link)
        log_free(l);
}
