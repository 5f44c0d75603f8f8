/* See session.h.
 *
 *     waiting --timer--> dialing --open--> registering --ready--> ready
 *        ^                  |                   |                   |
 *        +------------------+-------------------+-------------------+     the connection ended
 *
 * A redirect names the leader: it is tried next, without a wait, but for a few times only: managers that disagree
 * about the leader must not make us dial in a circle. The back-off begins anew only after a session that was ready
 * for a while, for the same reason. Among several managers the first one is chosen by chance, so that not all nodes
 * ask the same one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/session.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"
#include "proto/wire/methods.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   8000
#define DIAL_MS          4000
#define REGISTER_MS      10000 /* from the open stream to "ready" */
#define GOOD_AFTER_MS    10000 /* a session this old resets the back-off */
#define DENIALS_SURE     3     /* one may come of a manager that has not heard of us yet */
#define MANAGERS_MAX     16
#define REDIRECTS_MAX    3     /* in a row, without a wait */
#define RETRY_MAX_MS     60000 /* as a manager may ask for */

enum state { WAITING, DIALING, REGISTERING, READY, CLOSED };

static const char *const state_names[] = {"waiting", "dialing", "registering", "ready", "closed"};
static const uint32_t moves[] = {
    [WAITING] = SM_TO(DIALING) | SM_TO(CLOSED),
    [DIALING] = SM_TO(REGISTERING) | SM_TO(WAITING) | SM_TO(CLOSED),
    [REGISTERING] = SM_TO(READY) | SM_TO(WAITING) | SM_TO(CLOSED),
    [READY] = SM_TO(WAITING) | SM_TO(CLOSED),
    [CLOSED] = 0,
};
static const struct sm_table machine = {"session", state_names, moves, CLOSED + 1};

struct session {
    uv_loop_t *loop;
    struct session_events events;
    struct session_config config; /* tls referenced */
    char cluster_id[IDENT_TEXT + 1];
    uint8_t instance[16];         /* of this process */
    int state;                    /* enum state */
    char *managers[MANAGERS_MAX]; /* owned */
    size_t manager_count, manager_next;
    char *redirect;            /* owned; tried before all others, once */
    unsigned redirects;        /* since the last session that was ready */
    size_t tried;              /* managers, since the last long wait */
    int64_t retry_ms;          /* the manager asked for so much patience; 0: it did not */
    char *manager;             /* owned; dialed or connected */
    struct rpc_conn *conn;     /* NULL when there is none */
    struct rpc_stream *stream; /* NULL when there is none */
    uv_timer_t timer;          /* waiting: next attempt; registering: time-out; ready: heartbeat */
    int64_t heartbeat_ms;
    uint64_t ready_since_ms; /* loop time */
    int64_t backoff_ms;
    void (*closed)(void *ctx);
    void *closed_ctx;
    bool timer_closed;
    struct err ended; /* how the stream did; code 0: plainly, or there is one */
    unsigned denials; /* in a row, by whichever managers */
};

static void dial(struct session *s);

/* --- ending and coming back ------------------------------------------------------------------------ */

static void maybe_free(struct session *s)
{
    if (s->state != CLOSED || s->conn || !s->timer_closed)
        return;
    for (size_t i = 0; i < s->manager_count; i++)
        free(s->managers[i]);
    free(s->redirect);
    free(s->manager);
    tls_unref(s->config.tls);
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;
    free(s);
    closed(ctx);
}

static void on_wait_over(uv_timer_t *timer)
{
    dial(container_of(timer, struct session, timer));
}

static int64_t with_jitter(struct session *s, int64_t ms)
{
    return ms / 2 + (int64_t)entropy_below(s->config.entropy, (uint64_t)ms);
}

/* How long to wait before the next attempt. */
static int64_t patience(struct session *s)
{
    int64_t asked_ms = s->retry_ms, wait_ms;

    s->retry_ms = 0;
    if (s->redirect && ++s->redirects <= REDIRECTS_MAX)
        return 0;
    if (!asked_ms && ++s->tried < s->manager_count)
        return with_jitter(s, BACKOFF_FIRST_MS); /* all are tried before the wait gets long */
    s->tried = 0;
    wait_ms = with_jitter(s, s->backoff_ms);
    s->backoff_ms = MIN(s->backoff_ms * 2, BACKOFF_MAX_MS);
    return asked_ms ? asked_ms : wait_ms;
}

/* The connection has ended, or could not be made: wait, then try the next manager. */
static void come_back(struct session *s, const struct err *e)
{
    bool was_ready = s->state == READY;

    s->denials = e->code == ERR_DENIED ? s->denials + 1 : 0;
    if (was_ready && uv_now(s->loop) - s->ready_since_ms >= GOOD_AFTER_MS)
        s->backoff_ms = BACKOFF_FIRST_MS;
    int64_t wait_ms = patience(s);
    sm_move(&machine, &s->state, WAITING);
    log_info("manager is away", "manager=%s retry_ms=%lld error=\"%s\"", s->manager ? s->manager : "?",
             (long long)wait_ms, e->text);
    uv_timer_start(&s->timer, on_wait_over, (uint64_t)wait_ms, 0);
    if (was_ready)
        s->events.on_lost(s->events.ctx, e);
}

static void on_conn_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct session *s = ctx;

    struct err why = s->ended.code ? s->ended : *e; /* the stream may have ended first, and knows better */

    s->conn = NULL;
    s->ended = (struct err){0};
    if (s->state == CLOSED)
        maybe_free(s);
    else
        come_back(s, &why);
}

static void on_stream_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct session *s = ctx;

    s->stream = NULL;
    s->ended = *e;
    if (s->conn && s->state != CLOSED) {
        if (e->code)
            log_warn("manager ended the session", "manager=%s error=\"%s\"", s->manager, e->text);
        rpc_conn_close(s->conn); /* on_conn_closed comes */
    }
}

void session_restart(struct session *s, const char *why)
{
    if (!s->conn || s->state == CLOSED)
        return;
    log_warn("restarting the session", "manager=%s why=\"%s\"", s->manager, why);
    rpc_conn_close(s->conn);
}

/* --- messages -------------------------------------------------------------------------------------- */

int session_send(struct session *s, const AgentMessage *message, struct err *e)
{
    if (!s->stream)
        return err_set(e, ERR_UNAVAILABLE, "no session with a manager");
    size_t size = agent_message__get_packed_size(message);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size);
    agent_message__pack(message, packed);
    int rc = rpc_send(s->stream, packed, size);
    return rc == 0 ? 0 : err_set(e, rc, "send to manager %s: %s", s->manager, err_name(rc));
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct session *s = container_of(timer, struct session, timer);
    AgentMessage message = AGENT_MESSAGE__INIT;

    message.has_heartbeat = message.heartbeat = true;
    (void)session_send(s, &message, NULL); /* without credit other messages are on their way, which tell as much */
}

/* Registered; or, later, the period of heartbeats has changed. */
static void on_session_ready(struct session *s, const SessionReady *ready)
{
    bool is_registered = s->state == READY;

    if (ready->has_cluster_epoch && ready->cluster_epoch < s->config.cluster_epoch) {
        session_restart(s, "this manager belongs to the cluster as it was before a new one was forced");
        return;
    }
    s->config.cluster_epoch = MAX(s->config.cluster_epoch, ready->cluster_epoch);
    s->heartbeat_ms = MIN(MAX(ready->heartbeat_period_ms, 10), 3600 * 1000);
    uv_timer_start(&s->timer, on_heartbeat, (uint64_t)s->heartbeat_ms, (uint64_t)s->heartbeat_ms);
    if (is_registered)
        return;
    sm_move(&machine, &s->state, READY);
    s->redirects = 0;
    s->ready_since_ms = uv_now(s->loop);
    log_info("session with manager", "manager=%s heartbeat_ms=%lld", s->manager, (long long)s->heartbeat_ms);
    s->events.on_ready(s->events.ctx);
}

static void on_stream_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct session *s = ctx;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    ManagerMessage *message = arena_unpack(&arena, &manager_message__descriptor, data, size);
    if (!message)
        session_restart(s, "malformed message");
    else if (message->ready)
        on_session_ready(s, message->ready);
    else if (message->redirect) {
        free(s->redirect);
        s->redirect = mem_strdup(message->redirect);
        session_restart(s, "redirected to the leader");
    } else if (message->come_back) {
        s->retry_ms = MIN(MAX(message->come_back->after_ms, 1u), (uint32_t)RETRY_MAX_MS);
        session_restart(s, message->come_back->why ? message->come_back->why : "the manager has too much to do");
    } else if (s->state == READY)
        s->events.on_message(s->events.ctx, message);
    else
        session_restart(s, "message before the registration");
}

static void on_stream_writable(void *ctx, struct rpc_stream *stream)
{
    struct session *s = ctx;

    if (s->state == READY)
        s->events.on_writable(s->events.ctx);
}

/* --- dialing and registering ----------------------------------------------------------------------- */

static void on_register_timeout(uv_timer_t *timer)
{
    session_restart(container_of(timer, struct session, timer), "no answer to the registration");
}

static void on_conn_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    static const struct rpc_stream_events base = {
        .on_message = on_stream_message, .on_writable = on_stream_writable, .on_end = on_stream_end};
    struct session *s = ctx;
    struct rpc_stream_events events = base;
    AgentMessage message = AGENT_MESSAGE__INIT;
    SessionOpen open = SESSION_OPEN__INIT;
    AUTO_ARENA struct arena arena;
    struct err e;

    arena_init(&arena);
    if (s->state == CLOSED)
        return;
    sm_move(&machine, &s->state, REGISTERING);
    events.ctx = s;
    open.description = s->events.describe(s->events.ctx, &arena);
    open.has_cluster_epoch = open.has_feature_level = true;
    open.cluster_epoch = s->config.cluster_epoch;
    open.feature_level = s->config.feature_level;
    open.has_instance = true;
    open.instance = (ProtobufCBinaryData){sizeof(s->instance), s->instance};
    message.open = &open;
    size_t size = agent_message__get_packed_size(&message);
    uint8_t *packed = arena_alloc(&arena, size);
    agent_message__pack(&message, packed);
    if (rpc_open(c, METHOD_SESSION, METHOD_SESSION_BYTES_MAX, packed, size, &events, &s->stream, &e) < 0)
        session_restart(s, e.text);
    else
        uv_timer_start(&s->timer, on_register_timeout, REGISTER_MS, 0);
}

static void choose_manager(struct session *s)
{
    free(s->manager);
    s->manager = steal(&s->redirect);
    if (!s->manager && s->manager_count)
        s->manager = mem_strdup(s->managers[s->manager_next++ % s->manager_count]);
}

static void dial(struct session *s)
{
    struct rpc_conn_events events = {.ctx = s, .on_open = on_conn_open, .on_closed = on_conn_closed};
    struct rpc_dial how = {.tls = s->config.tls,
                           .expect_roles = RPC_ROLE_MANAGER,
                           .expect_cluster = s->cluster_id,
                           .timeout_ms = DIAL_MS};
    struct err e = {.text = "no manager is known"};

    choose_manager(s);
    sm_move(&machine, &s->state, DIALING);
    how.address = s->manager;
    if (!s->manager || rpc_dial(s->loop, &how, &events, &s->conn, &e) < 0) {
        s->conn = NULL;
        come_back(s, &e);
    }
}

/* --- the door -------------------------------------------------------------------------------------- */

void session_set_managers(struct session *s, char *const *managers, size_t count)
{
    for (size_t i = 0; i < s->manager_count; i++)
        free(s->managers[i]);
    s->manager_count = MIN(count, MANAGERS_MAX);
    for (size_t i = 0; i < s->manager_count; i++)
        s->managers[i] = mem_strdup(managers[i]);
    s->manager_next = s->manager_count ? entropy_below(s->config.entropy, s->manager_count) : 0;
}

void session_try_first(struct session *s, const char *manager)
{
    free(s->redirect);
    s->redirect = mem_strdup(manager);
}

void session_set_tls(struct session *s, struct tls *tls)
{
    tls_unref(s->config.tls);
    s->config.tls = tls_ref(tls);
}

bool session_ready(const struct session *s)
{
    return s->state == READY;
}

uint64_t session_epoch(const struct session *s)
{
    return s->config.cluster_epoch;
}

int session_fd(const struct session *s)
{
    return s->conn ? rpc_conn_fd(s->conn) : -1;
}

bool session_denied(const struct session *s)
{
    return s->denials >= DENIALS_SURE;
}

const char *session_manager(const struct session *s)
{
    return s->state == READY ? s->manager : NULL;
}

int session_open(const struct session_config *config, const char *const *managers, size_t manager_count,
                 const struct session_events *events, struct session **ret, struct err *e)
{
    struct session *s = mem_alloc(sizeof(*s));
    int rc = uv_timer_init(config->loop, &s->timer);

    if (rc < 0) {
        free(s);
        return err_number(e, -rc, "make timer");
    }
    s->loop = config->loop;
    s->events = *events;
    s->config = *config;
    s->config.tls = tls_ref(config->tls);
    (void)snprintf(s->cluster_id, sizeof(s->cluster_id), "%s", config->cluster_id); /* an id fits */
    s->backoff_ms = BACKOFF_FIRST_MS;
    entropy_fill(config->entropy, s->instance, sizeof(s->instance));
    session_set_managers(s, (char *const *)managers, manager_count);
    uv_timer_start(&s->timer, on_wait_over, 0, 0); /* the first attempt, from the loop */
    *ret = s;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct session *s = container_of((uv_timer_t *)handle, struct session, timer);

    s->timer_closed = true;
    maybe_free(s);
}

static void close_with(struct session *s, void (*end)(struct rpc_conn *c), void (*closed)(void *ctx), void *ctx)
{
    s->closed = closed;
    s->closed_ctx = ctx;
    sm_move(&machine, &s->state, CLOSED);
    uv_close((uv_handle_t *)&s->timer, on_timer_closed);
    if (s->conn)
        end(s->conn);
}

void session_close(struct session *s, void (*closed)(void *ctx), void *ctx)
{
    close_with(s, rpc_conn_close, closed, ctx);
}

void session_abandon(struct session *s, void (*closed)(void *ctx), void *ctx)
{
    close_with(s, rpc_conn_abandon, closed, ctx);
}
