/* See port.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/ca/ca.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/port.h"

#define DAY_MS (24LL * 3600 * 1000)

void port_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

#define FAIL(...) port_fail(__FILE__, __LINE__, __VA_ARGS__)

/* --- waiting --------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *tick)
{
    (void)tick; /* its coming is enough */
}

void port_tick(uv_loop_t *loop, uv_timer_t *tick)
{
    uv_timer_init(loop, tick);
    uv_timer_start(tick, on_tick, 5, 5);
}

static void on_untick(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

void port_untick(uv_timer_t *tick)
{
    uv_loop_t *loop = tick->loop;
    bool closed = false;

    tick->data = &closed;
    uv_close((uv_handle_t *)tick, on_untick);
    while (!closed)
        uv_run(loop, UV_RUN_NOWAIT);
}

void port_rest(struct port *p, unsigned ms)
{
    uint64_t end = uv_hrtime() + ms * UINT64_C(1000000);
    uv_timer_t tick;

    port_tick(p->loop, &tick);
    while (uv_hrtime() < end)
        uv_run(p->loop, UV_RUN_ONCE);
    port_untick(&tick);
}

/* --- certificates ---------------------------------------------------------------------------------- */

static char *issue(struct port *p, const void *request, size_t size, const struct rpc_identity *identity)
{
    char *certificate = NULL;
    struct err e;

    if (ca_issue(p->root_pem, p->root_key_pem, request, size, identity, clock_wall_ms(clock_real()), p->lifetime_ms,
                 &certificate, &e) < 0)
        FAIL("%s", e.text);
    return certificate;
}

void port_certificate(struct port *p, enum rpc_role role, const char *node_id, int64_t lifetime_ms,
                      char **ret_cert_pem, char **ret_key_pem)
{
    struct rpc_identity identity = {.role = role, .cluster_id = PORT_CLUSTER};
    int64_t lifetime = p->lifetime_ms;
    AUTO_BUF struct buf request = {0};

    (void)snprintf(identity.node_id, sizeof(identity.node_id), "%s", node_id); /* an id */
    if (cert_key_new(ret_key_pem, NULL) < 0 || cert_request_new(*ret_key_pem, &request, NULL) < 0)
        FAIL("no key");
    p->lifetime_ms = lifetime_ms;
    *ret_cert_pem = issue(p, buf_bytes(&request), request.length, &identity);
    p->lifetime_ms = lifetime;
}

struct tls *port_tls(struct port *p, enum rpc_role role, const char *node_id, int64_t lifetime_ms)
{
    AUTO_FREE
    char *certificate = NULL;
    AUTO_FREE
    char *key = NULL;
    struct tls *tls = NULL;
    struct err e;

    port_certificate(p, role, node_id, lifetime_ms, &certificate, &key);
    if (tls_new(certificate, key, p->root_pem, &tls, &e) < 0)
        FAIL("%s", e.text);
    return tls;
}

char *port_token(struct port *p)
{
    char token[CA_TOKEN_TEXT + 1];

    if (ca_token(p->root_pem, "0000000000000000000000000", token, NULL) < 0)
        FAIL("no token");
    return mem_strdup(token);
}

static void reply_with(struct rpc_stream *stream, const ProtobufCMessage *reply)
{
    size_t size = protobuf_c_message_get_packed_size(reply);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size + 1);

    protobuf_c_message_pack(reply, packed);
    rpc_answer(stream, packed, size);
}

static void on_root(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    static const struct rpc_stream_events nothing = {0};
    struct port *p = ctx;
    RootReply reply = ROOT_REPLY__INIT;
    const char *root = p->root_instead ? p->root_instead : p->root_pem;

    rpc_stream_set(stream, &nothing);
    p->roots++;
    reply.certificate_pem = (ProtobufCBinaryData){strlen(root), (uint8_t *)root};
    reply_with(stream, &reply.base);
}

static void on_member(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                      size_t size)
{
    static const struct rpc_stream_events nothing = {0};
    struct port *p = ctx;
    MemberReply reply = MEMBER_REPLY__INIT;
    AUTO_ARENA struct arena a;
    char *managers[] = {p->address};

    arena_init(&a);
    rpc_stream_set(stream, &nothing);
    p->members++;
    const MemberRequest *request = arena_unpack(&a, &member_request__descriptor, message, size);
    if (!request)
        FAIL("malformed request of a manager");
    (void)snprintf(p->member_address, sizeof(p->member_address), "%s", request->address); /* tests use short ones */
    p->member_raft_id = request->raft_id;
    p->member_leaves = request->leave;
    if (p->refuse_member.code) {
        rpc_end(stream, &p->refuse_member);
        return;
    }
    reply.redirect = (char *)p->member_redirect;
    reply.has_raft_id = reply.has_epoch = !p->member_redirect;
    reply.raft_id = p->raft_id ? p->raft_id : request->has_raft_id ? request->raft_id : 7;
    reply.epoch = p->member_epoch;
    reply.managers = managers;
    reply.n_managers = !p->member_redirect;
    reply_with(stream, &reply.base);
}

/* Who it is for: the peer, or somebody new. */
static struct rpc_identity issue_for(struct port *p, const IssueRequest *request, const struct rpc_identity *peer)
{
    struct rpc_identity who = *peer;

    if (peer->role == RPC_ROLE_NONE) {
        who.role = p->role == NODE_ROLE__MANAGER ? RPC_ROLE_MANAGER : RPC_ROLE_WORKER;
        memcpy(who.node_id, PORT_NODE, sizeof(PORT_NODE));
        memcpy(who.cluster_id, PORT_CLUSTER, sizeof(PORT_CLUSTER));
        (void)snprintf(p->token, sizeof(p->token), "%s", request->token ? request->token : ""); /* fits */
    } else if (p->changes_role) {
        who.role = p->role == NODE_ROLE__MANAGER ? RPC_ROLE_MANAGER : RPC_ROLE_WORKER;
    }
    return who;
}

static void on_issue(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                     size_t size)
{
    static const struct rpc_stream_events nothing = {0};
    struct port *p = ctx;
    IssueReply reply = ISSUE_REPLY__INIT;
    uint8_t node[IDENT_BYTES], cluster[IDENT_BYTES];
    AUTO_ARENA struct arena a;

    arena_init(&a);
    rpc_stream_set(stream, &nothing);
    p->issues++;
    p->issued_to = *peer;
    const IssueRequest *request = arena_unpack(&a, &issue_request__descriptor, message, size);
    if (!request)
        FAIL("malformed request for a certificate");
    if (p->refuse.code) {
        rpc_end(stream, &p->refuse);
        return;
    }
    if (p->issue_redirect) {
        reply.redirect = (char *)p->issue_redirect;
        reply_with(stream, &reply.base);
        return;
    }
    struct rpc_identity who = issue_for(p, request, peer);
    AUTO_FREE
    char *certificate = issue(p, request->csr_der.data, request->csr_der.len, &who);
    if (!ident_parse(who.node_id, node) || !ident_parse(who.cluster_id, cluster))
        FAIL("no identity");
    reply.has_certificate_pem = reply.has_root_pem = reply.has_node_id = reply.has_cluster_id = true;
    reply.certificate_pem = (ProtobufCBinaryData){strlen(certificate), (uint8_t *)certificate};
    reply.root_pem = (ProtobufCBinaryData){strlen(p->root_pem), (uint8_t *)p->root_pem};
    reply.node_id = (ProtobufCBinaryData){sizeof(node), node};
    reply.cluster_id = (ProtobufCBinaryData){sizeof(cluster), cluster};
    if (p->spoil)
        p->spoil(&reply, p);
    reply_with(stream, &reply.base);
}

/* --- sessions -------------------------------------------------------------------------------------- */

void port_send_bytes(struct port *p, const void *data, size_t size)
{
    if (!p->session || rpc_send(p->session, data, size) < 0)
        FAIL("there is no session to send to, or it takes nothing");
}

void port_send(struct port *p, const ManagerMessage *message)
{
    size_t size = manager_message__get_packed_size(message);
    uint8_t *packed = mem_alloc(size);

    manager_message__pack(message, packed);
    port_send_bytes(p, packed, size);
    free(packed);
}

void port_ready(struct port *p)
{
    static uint8_t id[16];
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    SessionReady ready = SESSION_READY__INIT;

    ready.session_id = (ProtobufCBinaryData){sizeof(id), id};
    ready.heartbeat_period_ms = p->heartbeat_ms ? p->heartbeat_ms : 60000;
    ready.has_cluster_epoch = p->epoch > 0;
    ready.cluster_epoch = p->epoch;
    message.ready = &ready;
    port_send(p, &message);
}

/* Whom it sends away does not come back on this stream. */
static void send_away(struct port *p)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    ComeBack later = COME_BACK__INIT;

    message.redirect = (char *)p->redirect;
    later.after_ms = p->retry_ms;
    message.come_back = p->redirect ? NULL : &later;
    port_send(p, &message);
}

static void on_session_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct port *p = ctx;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    const AgentMessage *message = arena_unpack(&a, &agent_message__descriptor, data, size);
    if (!message)
        FAIL("malformed message of an agent");
    p->heartbeats += message->has_heartbeat;
    p->resyncs += message->has_resync;
    if (!message->report)
        return;
    p->reports++;
    p->report_sequence = message->report->sequence;
    p->statuses += (unsigned)message->report->n_tasks;
    if (message->report->n_tasks)
        p->last_state = message->report->tasks[message->report->n_tasks - 1]->status->state;
    if (p->acknowledges) {
        ManagerMessage answer = MANAGER_MESSAGE__INIT;

        answer.has_report_ack = true;
        answer.report_ack = message->report->sequence;
        port_send(p, &answer);
    }
}

static void on_session_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct port *p = ctx;

    if (p->session == stream)
        p->session = NULL;
    p->ended = *e;
}

static void on_session(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                       size_t size)
{
    struct port *p = ctx;
    struct rpc_stream_events events = {.ctx = p, .on_message = on_session_message, .on_end = on_session_end};
    AUTO_ARENA struct arena a;

    arena_init(&a);
    rpc_stream_set(stream, &events);
    const AgentMessage *opened = arena_unpack(&a, &agent_message__descriptor, message, size);
    if (!opened || !opened->open)
        FAIL("a session did not begin with SessionOpen");
    buf_clear(&p->opened);
    buf_append(&p->opened, message, size);
    p->sessions++;
    if (p->refuse_session.code) {
        rpc_end(stream, &p->refuse_session);
        return;
    }
    p->session = stream;
    if (p->redirect || p->retry_ms)
        send_away(p);
    else if (!p->mute)
        port_ready(p);
}

/* --- logs ------------------------------------------------------------------------------------------ */

static void on_log_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct port *p = ctx;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    const LogChunk *chunk = arena_unpack(&a, &log_chunk__descriptor, data, size);
    if (!chunk)
        FAIL("malformed piece of a log");
    for (size_t i = 0; i < chunk->n_lines; i++)
        buf_append(&p->lines, chunk->lines[i]->data.data, chunk->lines[i]->data.len);
}

static void on_log_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct port *p = ctx;

    if (p->log == stream)
        p->log = NULL;
    p->log_ended = true;
    p->log_error = *e;
}

static void on_log(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size)
{
    struct port *p = ctx;
    struct rpc_stream_events events = {.ctx = p, .on_message = on_log_message, .on_end = on_log_end};
    AUTO_ARENA struct arena a;

    arena_init(&a);
    rpc_stream_set(stream, &events);
    const LogStart *start = arena_unpack(&a, &log_start__descriptor, message, size);
    if (!start)
        FAIL("malformed beginning of a log");
    p->log = stream;
    p->logs++;
    p->log_ended = false;
    p->log_subscription = start->subscription;
    if (p->log_paused)
        rpc_pause(stream, true);
}

/* --- opening and closing --------------------------------------------------------------------------- */

static int on_connect(void *ctx, struct rpc_conn *c, struct rpc_identity *peer, struct err *e)
{
    ((struct port *)ctx)->connections++;
    return 0;
}

void port_start(struct port *p)
{
    static const struct rpc_method methods[] = {
        {METHOD_ROOT, "root", RPC_ROLE_NONE, METHOD_JOIN_BYTES_MAX, .on_open = on_root},
        {METHOD_ISSUE, "issue", RPC_ROLE_NONE | RPC_ROLE_WORKER | RPC_ROLE_MANAGER, METHOD_JOIN_BYTES_MAX,
         .on_open = on_issue},
        {METHOD_MEMBER, "member", RPC_ROLE_MANAGER, METHOD_JOIN_BYTES_MAX, .on_open = on_member},
        {METHOD_SESSION, "session", RPC_ROLE_WORKER | RPC_ROLE_MANAGER, METHOD_SESSION_BYTES_MAX, .streams_max = 1,
         .on_open = on_session},
        {METHOD_LOGS, "logs", RPC_ROLE_WORKER | RPC_ROLE_MANAGER, METHOD_LOGS_BYTES_MAX, .streams_max = 256,
         .on_open = on_log},
    };
    struct rpc_server_events events = {.ctx = p, .on_connect = on_connect};
    struct err e;

    if (rpc_server_open(p->loop, p->tls, methods, ARRAY_SIZE(methods), p, NULL, &events, &p->server, &e) < 0 ||
        rpc_server_listen(p->server, *p->address ? p->address : "127.0.0.1:0", &e) < 0)
        FAIL("%s", e.text);
    (void)snprintf(p->address, sizeof(p->address), "127.0.0.1:%d", rpc_server_port(p->server)); /* fits */
}

static void on_closed(void *ctx)
{
    ((struct port *)ctx)->closed = true;
}

void port_stop(struct port *p)
{
    p->closed = false;
    rpc_server_close(p->server, on_closed, p);
    port_until(p, p->closed);
    p->server = NULL;
}

void port_open(struct port *p, uv_loop_t *loop)
{
    struct err e;

    *p = (struct port){.loop = loop, .lifetime_ms = 90 * DAY_MS};
    if (ca_root_new(clock_wall_ms(clock_real()), &p->root_pem, &p->root_key_pem, &e) < 0)
        FAIL("%s", e.text);
    p->tls = port_tls(p, RPC_ROLE_MANAGER, PORT_MANAGER, DAY_MS);
    port_start(p);
}

void port_close(struct port *p)
{
    if (p->server)
        port_stop(p);
    tls_unref(p->tls);
    free(p->root_pem);
    free(p->root_key_pem);
    buf_fini(&p->opened);
    buf_fini(&p->lines);
}
