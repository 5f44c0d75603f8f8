/* See puppet.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/assignment.h"
#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/puppet.h"

#define FAIL(...) cluster_fail(__FILE__, __LINE__, __VA_ARGS__)

/* --- agents: what they do with their tasks ------------------------------------------------------------------ */

void puppet_send(struct puppet *a, const AgentMessage *message)
{
    size_t size = agent_message__get_packed_size(message);
    uint8_t *packed = mem_alloc(size);

    agent_message__pack(message, packed);
    int rc = rpc_send(a->stream, packed, size);
    if (rc == ERR_AGAIN && !a->unsent.length)
        buf_append(&a->unsent, packed, size); /* goes when there is credit */
    else if (rc < 0)
        FAIL("the agent's message was not taken");
    free(packed);
}

void puppet_heartbeat(struct puppet *a)
{
    AgentMessage message = AGENT_MESSAGE__INIT;

    message.has_heartbeat = message.heartbeat = true;
    if (a->stream)
        puppet_send(a, &message);
}

static const char *image_of(const struct puppet *a, const struct puppet_task *t)
{
    return puppet_spec(a, t)->spec->spec->task->container->image;
}

static TaskState outcome(const struct puppet *a, const struct puppet_task *t)
{
    if (t->desired >= TASK_STATE__SHUTDOWN)
        return t->reported > TASK_STATE__RUNNING ? t->reported : TASK_STATE__SHUTDOWN;
    if (t->desired == TASK_STATE__READY)
        return MAX(t->reported, TASK_STATE__READY);
    if (a->failing || (a->failing_image && strcmp(image_of(a, t), a->failing_image) == 0))
        return TASK_STATE__FAILED;
    return MAX(t->reported, TASK_STATE__RUNNING);
}

static void fill_status(struct puppet_task *t, Status *status, ContainerStatus *container, char container_id[65])
{
    status__init(status);
    container_status__init(container);
    (void)snprintf(container_id, 65, "%s%s%014d", t->key, t->key, 0); /* 64 characters */
    container->container_id = container_id;
    container->has_pid = true;
    container->pid = 4711;
    status->state = t->reported;
    status->has_timestamp_ns = true;
    status->timestamp_ns = clock_wall_ms(clock_real()) * 1000000;
    status->message = (char *)(t->reported == TASK_STATE__RUNNING ? "started" : "as told");
    status->err = t->reported == TASK_STATE__FAILED ? (char *)"task: non-zero exit (1)" : NULL;
    if (t->reported == TASK_STATE__FAILED) {
        container->has_exit_code = true;
        container->exit_code = 1;
    }
    status->container = container;
}

#define REPORT_MOST 1000

static void report_due(struct puppet *a)
{
    struct list *link;

    while (!list_empty(&a->due) && !a->mute && a->stream && !a->unsent.length) {
        TaskReport *reports[REPORT_MOST];
        StatusReport report = STATUS_REPORT__INIT;
        AgentMessage message = AGENT_MESSAGE__INIT;
        AUTO_ARENA struct arena arena;

        arena_init(&arena);
        while (report.n_tasks < REPORT_MOST && (link = list_pop(&a->due))) {
            struct puppet_task *t = list_entry(link, struct puppet_task, due);
            TaskReport *one = ARENA_NEW(&arena, TaskReport);
            TaskState now = outcome(a, t);

            if (now == t->reported)
                continue;
            t->reported = now;
            task_report__init(one);
            one->task_id = (ProtobufCBinaryData){sizeof(t->id), t->id};
            one->status = ARENA_NEW(&arena, Status);
            fill_status(t, one->status, ARENA_NEW(&arena, ContainerStatus), arena_alloc(&arena, 65));
            reports[report.n_tasks++] = one;
        }
        if (!report.n_tasks)
            return;
        report.sequence = ++a->reports;
        report.tasks = reports;
        message.report = &report;
        puppet_send(a, &message);
    }
}

void puppet_look(struct puppet *a)
{
    struct puppet_task *t;
    size_t at = 0;

    while ((t = map_next(&a->tasks, &at)))
        if (list_empty(&t->due))
            list_push(&a->due, &t->due);
    report_due(a);
}

void puppet_report(struct puppet *a, const struct puppet_task *task, TaskState state, const char *error)
{
    struct puppet_task *t = map_get(&a->tasks, task->key);
    TaskReport one = TASK_REPORT__INIT, *reports[] = {&one};
    StatusReport report = STATUS_REPORT__INIT;
    AgentMessage message = AGENT_MESSAGE__INIT;
    ContainerStatus container;
    char container_id[65];
    Status status;

    t->reported = state;
    fill_status(t, &status, &container, container_id);
    status.err = (char *)error;
    one.task_id = (ProtobufCBinaryData){sizeof(t->id), t->id};
    one.status = &status;
    report.sequence = ++a->reports;
    report.tasks = reports;
    report.n_tasks = 1;
    message.report = &report;
    puppet_send(a, &message);
}

static char *log_driver(const LogDriver *driver)
{
    AUTO_BUF struct buf text = {0};

    if (!driver)
        return NULL;
    buf_printf(&text, "%s", driver->name);
    for (size_t i = 0; i < driver->n_options; i++)
        buf_printf(&text, ",%s=%s", driver->options[i]->key, driver->options[i]->value);
    return mem_strdup(buf_str(&text));
}

static void on_set(void *ctx, const AssignmentItem *item)
{
    struct puppet *a = ctx;
    struct puppet_task *t = map_get(&a->tasks, item->key);

    if (!item->task)
        return;
    if (!t) {
        t = mem_alloc(sizeof(*t));
        list_init(&t->due);
        (void)snprintf(t->key, sizeof(t->key), "%s", item->key); /* an id */
        memcpy(t->id, item->task->id.data, sizeof(t->id));
        t->name = mem_strdup(item->task->name);
        t->log_driver = log_driver(item->task->log_driver);
        map_put(&a->tasks, t->key, t);
    }
    t->desired = item->task->desired_state;
    if (t->desired == TASK_STATE__RUNNING && !a->first_task_us)
        a->first_task_us = clock_mono_us(clock_real());
    if (list_empty(&t->due))
        list_push(&a->due, &t->due);
}

static void on_removed(void *ctx, const char *key)
{
    struct puppet *a = ctx;
    struct puppet_task *t = map_remove(&a->tasks, key);

    if (!t)
        return;
    list_remove(&t->due);
    free(t->name);
    free(t->log_driver);
    free(t);
}

size_t puppet_running(const struct puppet *a)
{
    const struct puppet_task *t;
    size_t at = 0, count = 0;

    while ((t = map_next(&a->tasks, &at)))
        count += t->reported == TASK_STATE__RUNNING && t->desired == TASK_STATE__RUNNING;
    return count;
}

const AssignmentItem *puppet_spec(const struct puppet *a, const struct puppet_task *t)
{
    const AssignmentItem *item = assignment_find(a->assignment, t->key);
    char service[IDENT_TEXT + 1], key[64];

    assert_non_null(item);
    ident_format(item->task->service_id.data, service);
    (void)snprintf(key, sizeof(key), "%s.%llu", service, (unsigned long long)item->task->spec_version); /* fits */
    item = assignment_find(a->assignment, key);
    assert_non_null(item);
    return item;
}

struct puppet_task *puppet_find(const struct puppet *a, const char *prefix)
{
    struct puppet_task *t;
    size_t at = 0;

    while ((t = map_next(&a->tasks, &at)))
        if (strncmp(t->name, prefix, strlen(prefix)) == 0)
            return t;
    return NULL;
}

struct puppet_task *puppet_find_image(const struct puppet *a, const char *image)
{
    struct puppet_task *t;
    size_t at = 0;

    while ((t = map_next(&a->tasks, &at)))
        if (strcmp(image_of(a, t), image) == 0)
            return t;
    return NULL;
}

/* --- agents: logs ------------------------------------------------------------------------------------------- */

static void on_log_stream_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    ((struct puppet_log *)ctx)->stream = NULL;
}

static void on_log_stream_message(void *ctx, struct rpc_stream *stream, const void *message, size_t size)
{
    FAIL("a manager sent something on a log's stream");
}

static struct puppet_log *log_find(struct puppet *a, uint64_t subscription)
{
    struct puppet_log *l;

    list_each (l, &a->logs, link) {
        if (l->subscription == subscription)
            return l;
    }
    return NULL;
}

static void on_log_request(struct puppet *a, const LogRequest *request)
{
    struct rpc_stream_events events = {.on_message = on_log_stream_message, .on_end = on_log_stream_end};
    struct puppet_log *l = log_find(a, request->subscription);
    LogStart start = LOG_START__INIT;
    uint8_t packed[32];
    struct err e;

    if (request->stop) {
        if (l)
            l->stopped = true;
        return;
    }
    l = mem_alloc(sizeof(*l));
    l->agent = a;
    l->subscription = request->subscription;
    memcpy(l->task_id, request->task_id.data, sizeof(l->task_id));
    l->follow = request->follow;
    l->tail = request->has_tail ? request->tail : -1;
    l->since_ns = request->since_ns;
    list_push(&a->logs, &l->link);
    if (a->no_logs)
        return;
    events.ctx = l;
    start.subscription = l->subscription;
    size_t size = log_start__pack(&start, packed);
    if (rpc_open(a->conn, METHOD_LOGS, METHOD_LOGS_BYTES_MAX, packed, size, &events, &l->stream, &e) < 0)
        FAIL("%s", e.text);
}

bool puppet_log_line(struct puppet_log *l, int64_t time_ns, unsigned stream, const char *text)
{
    LogLine line = LOG_LINE__INIT, *lines[] = {&line};
    LogChunk chunk = LOG_CHUNK__INIT;

    line.time_ns = time_ns;
    line.has_stream = line.has_data = true;
    line.stream = stream;
    line.data = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    chunk.lines = lines;
    chunk.n_lines = 1;
    size_t size = log_chunk__get_packed_size(&chunk);
    uint8_t *packed = mem_alloc(size);
    log_chunk__pack(&chunk, packed);
    bool taken = l->stream && rpc_send(l->stream, packed, size) == 0;
    free(packed);
    l->sent += taken;
    l->refused += !taken;
    return taken;
}

void puppet_log_end(struct puppet_log *l, const struct err *e)
{
    if (l->stream)
        rpc_end(l->stream, e);
}

/* --- agents: sessions --------------------------------------------------------------------------------------- */

static void on_told(struct puppet *a, const ManagerMessage *m)
{
    if (m->node) {
        size_t size = node__get_packed_size(m->node);

        a->rows++;
        buf_clear(&a->row);
        buf_added(&a->row, node__pack(m->node, (uint8_t *)buf_reserve(&a->row, size)));
    }
    if (m->authority) {
        a->authority.tells++;
        (void)snprintf(a->authority.root_pem, sizeof(a->authority.root_pem), "%.*s",
                       (int)m->authority->root_pem.len, (const char *)m->authority->root_pem.data); /* two roots */
        a->authority.issuer = m->authority->issuer;
        a->authority.lifetime_ms = m->authority->lifetime_ms;
    }
    if (m->n_managers)
        a->managers[0] = '\0';
    for (size_t i = 0, at = 0; i < m->n_managers && at < sizeof(a->managers); i++)
        at += (size_t)snprintf(a->managers + at, sizeof(a->managers) - at, "%s ", m->managers[i]);
    if (m->redirect)
        (void)snprintf(a->redirect, sizeof(a->redirect), "%s", m->redirect); /* an address */
    a->retry_ms = m->come_back ? m->come_back->after_ms : a->retry_ms;
}

static void on_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct puppet *a = ctx;
    AUTO_ARENA struct arena arena;
    struct err e;

    arena_init(&arena);
    const ManagerMessage *m = arena_unpack(&arena, &manager_message__descriptor, data, size);
    if (!m)
        FAIL("malformed message of a manager");
    if (m->ready) {
        a->ready = true;
        a->heartbeat_ms = m->ready->heartbeat_period_ms;
        a->epoch = m->ready->cluster_epoch;
    }
    on_told(a, m);
    if (m->has_report_ack)
        a->acknowledged = m->report_ack;
    if (m->assignment) {
        a->messages++;
        if (assignment_apply(a->assignment, m->assignment, &e) < 0)
            FAIL("assignment: %s", e.text);
        report_due(a);
    }
    if (m->log)
        on_log_request(a, m->log);
}

static void on_writable(void *ctx, struct rpc_stream *stream)
{
    struct puppet *a = ctx;

    if (a->unsent.length && rpc_send(stream, buf_bytes(&a->unsent), a->unsent.length) == ERR_AGAIN)
        return;
    buf_clear(&a->unsent);
    report_due(a);
}

static void on_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct puppet *a = ctx;

    a->stream = NULL;
    buf_clear(&a->unsent);
    a->ready = false;
    a->ended = *e;
    a->ends++;
}

static NodeDescription *describe(struct puppet *a, struct arena *arena)
{
    NodeDescription *d = ARENA_NEW(arena, NodeDescription);

    node_description__init(d);
    d->platform = ARENA_NEW(arena, Platform);
    platform__init(d->platform);
    d->platform->architecture = (char *)"x86_64";
    d->platform->os = (char *)"linux";
    d->resources = ARENA_NEW(arena, Resources);
    resources__init(d->resources);
    d->resources->has_nano_cpus = d->resources->has_memory_bytes = true;
    d->resources->nano_cpus = 64000000000;
    d->resources->memory_bytes = INT64_C(1) << 40;
    d->hostname = a->hostname;
    d->engine_version = (char *)"27.0.0-fake";
    d->has_certificate_issuer = a->certificate_issuer != 0;
    d->certificate_issuer = a->certificate_issuer;
    d->has_trust = a->trust != 0;
    d->trust = a->trust;
    return d;
}

void puppet_describe(struct puppet *a)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    message.description = describe(a, &arena);
    puppet_send(a, &message);
}

static void on_conn_open(void *ctx, struct rpc_conn *conn, const struct rpc_identity *peer)
{
    static const struct rpc_stream_events base = {
        .on_message = on_message, .on_writable = on_writable, .on_end = on_end};
    struct puppet *a = ctx;
    struct rpc_stream_events events = base;
    SessionOpen open = SESSION_OPEN__INIT;
    AgentMessage message = AGENT_MESSAGE__INIT;
    AUTO_ARENA struct arena arena;
    struct err e;

    arena_init(&arena);
    open.description = describe(a, &arena);
    open.has_cluster_epoch = true;
    open.cluster_epoch = a->epoch;
    open.has_instance = true;
    open.instance = (ProtobufCBinaryData){sizeof(a->instance), a->instance};
    message.open = &open;
    events.ctx = a;
    size_t size = agent_message__get_packed_size(&message);
    uint8_t *packed = arena_alloc(&arena, size);
    agent_message__pack(&message, packed);
    if (rpc_open(conn, METHOD_SESSION, METHOD_SESSION_BYTES_MAX, packed, size, &events, &a->stream, &e) < 0)
        FAIL("%s", e.text);
}

static void on_conn_closed(void *ctx, struct rpc_conn *conn, const struct err *e)
{
    struct puppet *a = ctx;

    a->conn = NULL;
    a->ready = false;
    a->ended = *e;
    a->ends++;
}

void puppet_connect(struct puppet *a)
{
    struct rpc_conn_events events = {.ctx = a, .on_open = on_conn_open, .on_closed = on_conn_closed};
    char address[64];
    struct rpc_dial dial = {.address = address,
                            .tls = a->tls,
                            .expect_roles = RPC_ROLE_MANAGER,
                            .expect_cluster = a->cluster->founding.cluster_id};
    struct puppet_task *t;
    size_t at = 0;
    struct err e;

    (void)snprintf(address, sizeof(address), "%s", cluster_address(a->cluster)); /* fits */
    a->ends = 0;
    a->redirect[0] = '\0';
    a->retry_ms = 0;
    assignment_new_session(a->assignment);
    while ((t = map_next(&a->tasks, &at))) /* an agent says again what it knows */
        if (list_empty(&t->due))
            list_push(&a->due, &t->due);
    if (rpc_dial(&a->cluster->loop, &dial, &events, &a->conn, &e) < 0)
        FAIL("%s", e.text);
}

static void begin(struct puppet *a, struct cluster *c, const char *hostname)
{
    static uint8_t instances;
    static const struct assignment_events base = {.on_set = on_set, .on_removed = on_removed};
    struct assignment_events events = base;

    memset(a, 0, sizeof(*a));
    a->cluster = c;
    a->instance[0] = ++instances;
    a->hostname = mem_strdup(hostname);
    list_init(&a->due);
    list_init(&a->logs);
    events.ctx = a;
    a->assignment = assignment_new(&events);
}

void puppet_prepare(struct puppet *a, struct cluster *c)
{
    struct err e;

    begin(a, c, "first");
    (void)snprintf(a->node_id, sizeof(a->node_id), "%s", c->founding.node_id); /* an id */
    if (tls_new(c->founding.certificate_pem, c->founding.key_pem, c->founding.root_pem, &a->tls, &e) < 0 ||
        cert_issuer_digest(c->founding.certificate_pem, c->founding.root_pem, &a->certificate_issuer, &e) < 0)
        FAIL("%s", e.text);
    a->trust = cert_trust_digest(c->founding.root_pem);
}

void puppet_start(struct puppet *a, struct cluster *c)
{
    puppet_prepare(a, c);
    puppet_connect(a);
    cluster_until(c, a->ready || a->ends);
    if (!a->ready)
        FAIL("%s", a->ended.text);
}

void puppet_disconnect(struct puppet *a)
{
    if (a->conn)
        rpc_conn_close(a->conn);
    cluster_until(a->cluster, !a->conn);
}

void puppet_end(struct puppet *a)
{
    struct puppet_task *t;
    struct puppet_log *l, *after;
    size_t at = 0;

    puppet_disconnect(a);
    while ((t = map_next(&a->tasks, &at))) {
        free(t->name);
        free(t->log_driver);
        free(t);
    }
    map_fini(&a->tasks);
    list_each_safe (l, after, &a->logs, link)
        free(l);
    assignment_free(a->assignment);
    buf_fini(&a->unsent);
    buf_fini(&a->row);
    tls_unref(a->tls);
    free(a->hostname);
}

/* --- joining ------------------------------------------------------------------------------------------------ */

struct joining {
    struct puppet *agent;
    const char *token;
    char *key_pem;
    struct rpc_conn *conn;
    bool done;
    struct err e;
};

static void on_issued(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct joining *j = ctx;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    j->done = true;
    j->e = *e;
    if (e->code)
        return;
    const IssueReply *r = arena_unpack(&arena, &issue_reply__descriptor, reply, size);
    assert_non_null(r);
    ident_format(r->node_id.data, j->agent->node_id);
    char *certificate = arena_strndup(&arena, (const char *)r->certificate_pem.data, r->certificate_pem.len);
    char *root = arena_strndup(&arena, (const char *)r->root_pem.data, r->root_pem.len);
    tls_unref(j->agent->tls);
    if (tls_new(certificate, j->key_pem, root, &j->agent->tls, &j->e) < 0 ||
        cert_issuer_digest(certificate, root, &j->agent->certificate_issuer, &j->e) < 0)
        FAIL("%s", j->e.text);
    j->agent->trust = cert_trust_digest(root);
}

static void on_joining_open(void *ctx, struct rpc_conn *conn, const struct rpc_identity *peer)
{
    struct joining *j = ctx;
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_BUF struct buf csr = {0};
    uint8_t packed[2048];
    struct err e;

    if (cert_request_new(j->key_pem, &csr, &e) < 0)
        FAIL("%s", e.text);
    request.csr_der = (ProtobufCBinaryData){csr.length, (uint8_t *)buf_bytes(&csr)};
    request.token = (char *)j->token;
    size_t size = issue_request__pack(&request, packed);
    if (rpc_call(conn, METHOD_ISSUE, packed, size, METHOD_JOIN_BYTES_MAX, 5000, on_issued, j, &e) < 0)
        FAIL("%s", e.text);
}

static void on_joining_closed(void *ctx, struct rpc_conn *conn, const struct err *e)
{
    struct joining *j = ctx;

    j->conn = NULL;
    if (!j->done)
        j->e = *e;
    j->done = true;
}

/* By `token`, or by the certificate in `tls`. */
static int ask_for_certificate(struct puppet *a, const char *token, struct tls *tls, struct err *e)
{
    struct joining j = {.agent = a, .token = token};
    struct rpc_conn_events events = {.ctx = &j, .on_open = on_joining_open, .on_closed = on_joining_closed};
    char address[64];

    if (cert_key_new(&j.key_pem, e) < 0)
        FAIL("%s", e->text);
    (void)snprintf(address, sizeof(address), "%s", cluster_address(a->cluster)); /* fits */
    struct rpc_dial dial = {.address = address, .tls = tls};
    if (rpc_dial(&a->cluster->loop, &dial, &events, &j.conn, e) < 0)
        FAIL("%s", e->text);
    cluster_until(a->cluster, j.done);
    if (j.conn)
        rpc_conn_close(j.conn);
    cluster_until(a->cluster, !j.conn);
    free(j.key_pem);
    *e = j.e;
    return j.e.code;
}

int puppet_try_join(struct puppet *a, const char *token, struct err *e)
{
    struct tls *nobody = NULL;

    if (tls_new(NULL, NULL, a->cluster->founding.root_pem, &nobody, e) < 0)
        FAIL("%s", e->text);
    int rc = ask_for_certificate(a, token, nobody, e);
    tls_unref(nobody);
    return rc;
}

int puppet_renew(struct puppet *a, struct err *e)
{
    return ask_for_certificate(a, NULL, a->tls, e);
}

void puppet_prepare_worker(struct puppet *a, struct cluster *c, const char *hostname)
{
    char token[CA_TOKEN_TEXT + 1];
    struct err e;

    begin(a, c, hostname);
    if (ca_token(c->founding.root_pem, c->founding.worker_secret, token, &e) < 0 ||
        puppet_try_join(a, token, &e) < 0)
        FAIL("%s", e.text);
}

void puppet_join(struct puppet *a, struct cluster *c, const char *hostname)
{
    puppet_prepare_worker(a, c, hostname);
    puppet_connect(a);
    cluster_until(c, a->ready || a->ends);
    if (!a->ready)
        FAIL("%s", a->ended.text);
}
