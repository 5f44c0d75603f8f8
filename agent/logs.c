/* See logs.h.
 *
 * A subscription ends by itself when its log has ended, or by a `stop`, the end of the session, or of the bulk
 * connection. It owns a reader of the engine and a stream of the connection; both must be gone before it is freed.
 * Lines gather in `pending` (encoded LogLines can simply be concatenated) and go out once per turn of the loop, or
 * when there are CHUNK_BYTES of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/logs.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"

#define CHUNK_BYTES       (32 * 1024)
#define SUBSCRIPTIONS_MAX 256
#define IDLE_MS           30000

struct subscription {
    struct list link;
    struct logs *logs;
    uint64_t number;           /* the manager's */
    struct engine_log *reader; /* NULL: ended, or never begun */
    struct rpc_stream *stream; /* NULL: ended */
    struct buf pending;        /* encoded lines of the next chunk */
    struct err error;          /* told at the end */
    bool at_end;               /* the reader has nothing more: end the stream when pending is sent */
    bool paused;               /* the reader waits for credit */
    bool ended;                /* the stream was told to end */
};

struct logs {
    uv_loop_t *loop;
    struct engine *engine;
    struct tls *tls; /* referenced */
    char cluster_id[IDENT_TEXT + 1];
    struct rpc_conn *conn; /* NULL: none */
    char *manager;         /* owned; where conn leads */
    struct list subscriptions;
    unsigned count;
    uv_timer_t flush; /* sends what gathered in this turn */
    uv_timer_t idle;  /* closes an unused connection */
    unsigned open_handles;
    void (*closed)(void *ctx); /* set: closing */
    void *closed_ctx;
};

/* --- the end of things ----------------------------------------------------------------------------- */

static void maybe_free(struct logs *l)
{
    if (!l->closed || l->conn || l->open_handles)
        return;
    void (*closed)(void *ctx) = l->closed;
    void *ctx = l->closed_ctx;
    tls_unref(l->tls);
    free(l->manager);
    free(l);
    closed(ctx);
}

static void on_idle(uv_timer_t *timer)
{
    struct logs *l = container_of(timer, struct logs, idle);

    if (l->conn && list_empty(&l->subscriptions))
        rpc_conn_close(l->conn);
}

static void drop(struct subscription *s)
{
    struct logs *l = s->logs;

    if (s->reader)
        engine_log_close(s->reader);
    list_remove(&s->link);
    buf_fini(&s->pending);
    free(s);
    l->count--;
    if (l->count == 0 && !l->closed)
        uv_timer_start(&l->idle, on_idle, IDLE_MS, 0);
}

/* End the stream; what is left of the subscription goes with it. */
static void end(struct subscription *s)
{
    if (s->reader) {
        engine_log_close(s->reader);
        s->reader = NULL;
    }
    if (s->ended)
        return;
    s->ended = true;
    if (s->stream)
        rpc_end(s->stream, &s->error); /* on_stream_end comes and drops it */
    else
        drop(s);
}

static void on_stream_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct subscription *s = ctx;

    s->stream = NULL;
    drop(s);
}

/* --- lines ----------------------------------------------------------------------------------------- */

static void send_pending(struct subscription *s)
{
    if (!s->stream || s->ended)
        return;
    if (s->pending.length) {
        if (rpc_send(s->stream, buf_bytes(&s->pending), s->pending.length) == ERR_AGAIN) {
            s->paused = true;
            return;
        }
        buf_clear(&s->pending);
    }
    if (s->at_end)
        end(s);
}

static void on_writable(void *ctx, struct rpc_stream *stream)
{
    struct subscription *s = ctx;

    s->paused = false;
    send_pending(s); /* may end it */
    if (s->stream == stream && !s->paused && s->reader)
        engine_log_resume(s->reader);
}

static void on_flush(uv_timer_t *timer)
{
    struct logs *l = container_of(timer, struct logs, flush);
    struct subscription *s, *after;

    list_each_safe (s, after, &l->subscriptions, link) {
        if (!s->paused)
            send_pending(s);
    }
}

static bool on_line(void *ctx, int64_t time_ns, unsigned stream, const char *data, size_t size)
{
    struct subscription *s = ctx;
    LogLine line = LOG_LINE__INIT, *lines[] = {&line};
    LogChunk chunk = LOG_CHUNK__INIT;

    line.time_ns = time_ns;
    line.has_stream = line.has_data = true;
    line.stream = stream;
    line.data = (ProtobufCBinaryData){size, (uint8_t *)data};
    chunk.n_lines = 1;
    chunk.lines = lines;
    size_t packed = log_chunk__get_packed_size(&chunk);
    log_chunk__pack(&chunk, (uint8_t *)buf_reserve(&s->pending, packed));
    buf_added(&s->pending, packed);
    if (s->pending.length >= CHUNK_BYTES)
        send_pending(s);
    else if (!uv_is_active((uv_handle_t *)&s->logs->flush))
        uv_timer_start(&s->logs->flush, on_flush, 0, 0);
    return !s->paused;
}

static void on_log_end(void *ctx, const struct err *e)
{
    struct subscription *s = ctx;

    s->reader = NULL;
    s->at_end = true;
    s->error = *e;
    if (!s->paused)
        send_pending(s);
}

/* --- beginning ------------------------------------------------------------------------------------- */

static void on_message(void *ctx, struct rpc_stream *stream, const void *message, size_t size)
{
    (void)size; /* a manager sends nothing on this stream; what it sends is ignored */
}

static int open_stream(struct subscription *s, struct err *e)
{
    struct rpc_stream_events events = {
        .ctx = s, .on_message = on_message, .on_writable = on_writable, .on_end = on_stream_end};
    LogStart start = LOG_START__INIT;
    uint8_t packed[32];

    start.subscription = s->number;
    size_t size = log_start__pack(&start, packed);
    return rpc_open(s->logs->conn, METHOD_LOGS, METHOD_LOGS_BYTES_MAX, packed, size, &events, &s->stream, e);
}

static void on_conn_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    (void)peer; /* checked by what was expected at dialing; streams go out by themselves */
}

static void on_conn_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct logs *l = ctx;

    l->conn = NULL; /* its streams have ended before */
    maybe_free(l);
}

static int connect_to(struct logs *l, const char *manager, struct err *e)
{
    struct rpc_conn_events events = {.ctx = l, .on_open = on_conn_open, .on_closed = on_conn_closed};
    struct rpc_dial how = {
        .address = manager, .tls = l->tls, .expect_roles = RPC_ROLE_MANAGER, .expect_cluster = l->cluster_id};

    if (l->conn && strcmp(l->manager, manager) == 0)
        return 0;
    if (l->conn)
        return err_set(e, ERR_UNAVAILABLE, "logs are still being sent to manager %s", l->manager);
    free(l->manager);
    l->manager = mem_strdup(manager);
    return rpc_dial(l->loop, &how, &events, &l->conn, e);
}

static int open_reader(struct subscription *s, const LogRequest *request, const char *container, struct err *e)
{
    struct engine_log_options options = {
        .follow = request->follow,
        .standard_out = !request->has_standard_out || request->standard_out,
        .standard_error = !request->has_standard_error || request->standard_error,
        .since_ns = request->since_ns,
        .until_ns = request->until_ns,
        .tail = request->has_tail ? request->tail : -1,
    };
    struct engine_log_events events = {.ctx = s, .on_line = on_line, .on_end = on_log_end};

    if (!container)
        return err_set(e, ERR_NOT_FOUND, "the task has no container on this node");
    return engine_log_open(s->logs->engine, container, &options, &events, &s->reader, e);
}

static struct subscription *find(struct logs *l, uint64_t number)
{
    struct subscription *s;

    list_each (s, &l->subscriptions, link) {
        if (s->number == number)
            return s;
    }
    return NULL;
}

void task_logs_request(struct logs *l, const LogRequest *request, const char *manager, const char *container)
{
    struct subscription *s = find(l, request->subscription);
    struct err e;

    if (request->stop || s || l->closed) {
        if (s && request->stop)
            end(s);
        return;
    }
    if (l->count >= SUBSCRIPTIONS_MAX) { /* the manager would refuse the stream as well */
        log_warn("cannot send a log", "manager=%s error=\"more than %d at once\"", manager, SUBSCRIPTIONS_MAX);
        return;
    }
    if (connect_to(l, manager, &e) < 0) {
        log_warn("cannot send a log", "manager=%s error=\"%s\"", manager, e.text);
        return;
    }
    s = mem_alloc(sizeof(*s));
    s->logs = l;
    s->number = request->subscription;
    list_push(&l->subscriptions, &s->link);
    l->count++;
    uv_timer_stop(&l->idle);
    if (open_stream(s, &e) < 0) {
        log_warn("cannot send a log", "manager=%s error=\"%s\"", manager, e.text);
        drop(s);
    } else if (open_reader(s, request, container, &s->error) < 0) {
        end(s);
    }
}

void task_logs_end_all(struct logs *l)
{
    struct subscription *s, *after;

    list_each_safe (s, after, &l->subscriptions, link)
        end(s);
}

/* --- the door -------------------------------------------------------------------------------------- */

struct logs *task_logs_new(uv_loop_t *loop, struct engine *engine, struct tls *tls, const char *cluster_id)
{
    struct logs *l = mem_alloc(sizeof(*l));

    l->loop = loop;
    l->engine = engine;
    l->tls = tls ? tls_ref(tls) : NULL;
    (void)snprintf(l->cluster_id, sizeof(l->cluster_id), "%s", cluster_id); /* an id fits */
    list_init(&l->subscriptions);
    uv_timer_init(loop, &l->flush);
    uv_timer_init(loop, &l->idle);
    l->open_handles = 2;
    return l;
}

void task_logs_set_tls(struct logs *l, struct tls *tls)
{
    tls_unref(l->tls);
    l->tls = tls_ref(tls);
}

static void on_flush_closed(uv_handle_t *handle)
{
    struct logs *l = container_of((uv_timer_t *)handle, struct logs, flush);

    l->open_handles--;
    maybe_free(l);
}

static void on_idle_closed(uv_handle_t *handle)
{
    struct logs *l = container_of((uv_timer_t *)handle, struct logs, idle);

    l->open_handles--;
    maybe_free(l);
}

void task_logs_close(struct logs *l, void (*closed)(void *ctx), void *ctx)
{
    l->closed = closed;
    l->closed_ctx = ctx;
    task_logs_end_all(l);
    if (l->conn)
        rpc_conn_close(l->conn);
    uv_close((uv_handle_t *)&l->flush, on_flush_closed);
    uv_close((uv_handle_t *)&l->idle, on_idle_closed);
}
