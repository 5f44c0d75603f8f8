/* See crowd.h. One loop, one thread. An agent is
 *
 *     (joining: a key, a certificate) -> dialing -> registering -> ready -> (connection lost: a pause) -> dialing
 *
 * Joins are taken a few at a time, since a manager lets in few peers without a certificate at once. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#include "agent/assignment.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "proto/wire/rpc.h"
#include "tests/bench/crowd.h"
#include "tests/bench/figure.h"

#define JOINS_MOST  24
#define REPORT_MOST 1000
#define PAUSE_MS    200

enum verb { GROW, CUT, MUTE, RETURN, STORM };

struct command {
    enum verb verb;
    unsigned number;
};

struct task {
    struct list due; /* agent->due, while something is to be reported; agent->under_way, while it is */
    uint8_t id[16];
    char key[IDENT_TEXT + 1];
    TaskState desired, reported;
    bool counted; /* acknowledged to run */
};

struct agent {
    struct swarm *swarm;
    unsigned number;
    char *key_pem; /* owned; while it joins */
    struct tls *tls;
    char cluster_id[IDENT_TEXT + 1];
    char redirect[64]; /* where the leader is; "": by number */
    struct rpc_conn *conn;
    struct rpc_stream *stream;
    struct assignment *assignment;
    struct map tasks; /* by key */
    struct list due, under_way;
    uv_timer_t timer; /* heartbeat, or the pause before it dials */
    uint64_t reports; /* sequence of the last one */
    bool ready, muted, away;
    uint32_t retry_ms;
    struct buf unsent;
};

struct swarm {
    uv_loop_t loop;
    uv_poll_t commands;
    int fd;
    const struct crowd_config *config;
    struct crowd_counts *counts;
    struct tls *nobody;
    struct agent *all[CROWD_MOST];
    unsigned count, wanted, joining;
};

static void dial(struct agent *a);
static void join_more(struct swarm *s);

static const char *address_of(const struct agent *a)
{
    const struct crowd_config *config = a->swarm->config;
    unsigned count = 0;

    while (count < CROWD_ADDRESSES && config->addresses[count])
        count++;
    return a->redirect[0] ? a->redirect : config->addresses[a->number % count];
}

/* A few times: whoever waits in vain wants to know. */
static void complain(const struct agent *a, const struct err *e)
{
    static unsigned complaints;

    if (complaints++ < 5)
        fprintf(stderr, "# agent %u: %s\n", a->number, e->text);
}

/* --- what it says ------------------------------------------------------------------------------------ */

static void say(struct agent *a, const AgentMessage *message)
{
    size_t size = agent_message__get_packed_size(message);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size);

    agent_message__pack(message, packed);
    if (rpc_send(a->stream, packed, size) == ERR_AGAIN && !a->unsent.length && !message->heartbeat)
        buf_append(&a->unsent, packed, size);
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    AgentMessage message = AGENT_MESSAGE__INIT;

    message.has_heartbeat = message.heartbeat = true;
    if (a->stream && !a->muted && !a->unsent.length)
        say(a, &message);
}

static TaskState outcome(const struct task *t)
{
    if (t->desired >= TASK_STATE__SHUTDOWN)
        return t->reported > TASK_STATE__RUNNING ? t->reported : TASK_STATE__SHUTDOWN;
    return MAX(t->reported, t->desired == TASK_STATE__READY ? TASK_STATE__READY : TASK_STATE__RUNNING);
}

static void count(struct agent *a, struct task *t, bool runs)
{
    if (t->counted == runs)
        return;
    t->counted = runs;
    a->swarm->counts->tasks_of[a->number] += runs ? 1 : UINT_MAX;
    a->swarm->counts->running += runs ? 1 : UINT64_MAX;
}

static void fill(struct task *t, TaskReport *one, Status *status, ContainerStatus *container, char *container_id)
{
    (void)snprintf(container_id, 65, "%s%s%014d", t->key, t->key, 0); /* 64 characters */
    container_status__init(container);
    container->container_id = container_id;
    container->has_pid = true;
    container->pid = 4711;
    status__init(status);
    status->state = t->reported;
    status->has_timestamp_ns = true;
    status->timestamp_ns = clock_wall_ms(clock_real()) * 1000000;
    status->message = (char *)(t->reported == TASK_STATE__RUNNING ? "started" : "as told");
    status->container = container;
    task_report__init(one);
    one->task_id = (ProtobufCBinaryData){sizeof(t->id), t->id};
    one->status = status;
}

/* One report is under way at a time; what comes meanwhile is in the next. */
static void report(struct agent *a)
{
    TaskReport *reports[REPORT_MOST];
    StatusReport out = STATUS_REPORT__INIT;
    AgentMessage message = AGENT_MESSAGE__INIT;
    AUTO_ARENA struct arena arena;
    struct list *link;

    arena_init(&arena);
    if (!list_empty(&a->under_way) || !a->stream || a->muted)
        return;
    while (out.n_tasks < REPORT_MOST && (link = list_pop(&a->due))) {
        struct task *t = list_entry(link, struct task, due);
        TaskState now = outcome(t);

        if (now == t->reported)
            continue;
        t->reported = now;
        list_push(&a->under_way, &t->due);
        reports[out.n_tasks] = ARENA_NEW(&arena, TaskReport);
        fill(t, reports[out.n_tasks++], ARENA_NEW(&arena, Status), ARENA_NEW(&arena, ContainerStatus),
             arena_alloc(&arena, 65));
    }
    if (!out.n_tasks)
        return;
    out.sequence = ++a->reports;
    out.tasks = reports;
    message.report = &out;
    say(a, &message);
}

static void on_acknowledged(struct agent *a, uint64_t sequence)
{
    struct list *link;

    if (sequence < a->reports)
        return;
    while ((link = list_pop(&a->under_way))) {
        struct task *t = list_entry(link, struct task, due);

        count(a, t, t->reported == TASK_STATE__RUNNING);
        if (outcome(t) != t->reported)
            list_push(&a->due, &t->due);
    }
    report(a);
}

/* --- what it is told --------------------------------------------------------------------------------- */

static void on_set(void *ctx, const AssignmentItem *item)
{
    struct agent *a = ctx;
    struct task *t = map_get(&a->tasks, item->key);

    if (!item->task)
        return;
    if (!t) {
        t = mem_alloc(sizeof(*t));
        list_init(&t->due);
        (void)snprintf(t->key, sizeof(t->key), "%s", item->key); /* an id */
        memcpy(t->id, item->task->id.data, sizeof(t->id));
        map_put(&a->tasks, t->key, t);
    }
    t->desired = item->task->desired_state;
    if (t->desired <= TASK_STATE__RUNNING) {
        a->swarm->counts->told++;
        a->swarm->counts->told_us = clock_mono_us(clock_real());
    }
    if (list_empty(&t->due))
        list_push(&a->due, &t->due);
}

static void on_removed(void *ctx, const char *key)
{
    struct agent *a = ctx;
    struct task *t = map_remove(&a->tasks, key);

    if (!t)
        return;
    count(a, t, false);
    list_remove(&t->due);
    free(t);
}

static void on_assignment(struct agent *a, const Assignment *message)
{
    struct err e;

    a->swarm->counts->messages++;
    if (assignment_apply(a->assignment, message, &e) < 0)
        bench_die("agent %u: assignment: %s", a->number, e.text);
    report(a);
}

static void on_session_ready(struct agent *a, const SessionReady *ready)
{
    a->swarm->counts->ready += !a->ready;
    a->ready = true;
    uv_timer_start(&a->timer, on_heartbeat, (uint64_t)ready->heartbeat_period_ms,
                   (uint64_t)ready->heartbeat_period_ms);
}

static void on_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct agent *a = ctx;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    const ManagerMessage *m = arena_unpack(&arena, &manager_message__descriptor, data, size);
    if (!m)
        bench_die("agent %u: malformed message", a->number);
    if (m->ready)
        on_session_ready(a, m->ready);
    if (m->has_report_ack)
        on_acknowledged(a, m->report_ack);
    if (m->assignment)
        on_assignment(a, m->assignment);
    if (m->redirect)
        (void)snprintf(a->redirect, sizeof(a->redirect), "%s", m->redirect); /* an address */
    if (m->come_back) {
        a->retry_ms = m->come_back->after_ms;
        a->swarm->counts->sent_away++;
    }
}

static void on_writable(void *ctx, struct rpc_stream *stream)
{
    struct agent *a = ctx;

    if (a->unsent.length && rpc_send(stream, buf_bytes(&a->unsent), a->unsent.length) == ERR_AGAIN)
        return;
    buf_clear(&a->unsent);
}

static void on_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct agent *a = ctx;

    a->stream = NULL;
    if (e->code && e->code != ERR_CANCELED)
        complain(a, e);
    if (a->conn)
        rpc_conn_close(a->conn);
}

/* --- coming and going -------------------------------------------------------------------------------- */

static void on_conn_open(void *ctx, struct rpc_conn *conn, const struct rpc_identity *peer)
{
    static const struct rpc_stream_events base = {
        .on_message = on_message, .on_writable = on_writable, .on_end = on_end};
    struct agent *a = ctx;
    struct rpc_stream_events events = base;
    NodeDescription description = NODE_DESCRIPTION__INIT;
    SessionOpen open = SESSION_OPEN__INIT;
    AgentMessage message = AGENT_MESSAGE__INIT;
    Resources resources = RESOURCES__INIT;
    Platform platform = PLATFORM__INIT;
    char hostname[64];
    uint8_t packed[512];
    struct err e;

    (void)snprintf(hostname, sizeof(hostname), "%.40s-%u", a->swarm->config->hostname, a->number);
    platform.architecture = (char *)"x86_64";
    platform.os = (char *)"linux";
    resources.has_nano_cpus = resources.has_memory_bytes = true;
    resources.nano_cpus = INT64_C(64000000000);
    resources.memory_bytes = INT64_C(1) << 40;
    description.hostname = hostname;
    description.platform = &platform;
    description.resources = &resources;
    description.engine_version = (char *)"27.0.0-crowd";
    open.description = &description;
    message.open = &open;
    size_t size = agent_message__pack(&message, packed); /* fits */
    events.ctx = a;
    if (rpc_open(conn, METHOD_SESSION, METHOD_SESSION_BYTES_MAX, packed, size, &events, &a->stream, &e) < 0)
        bench_die("agent %u: %s", a->number, e.text);
}

static void on_pause_over(uv_timer_t *timer)
{
    dial(timer->data);
}

/* It says again what it knows, to whoever it comes to. */
static void forget_session(struct agent *a)
{
    struct task *t;
    size_t at = 0;

    a->swarm->counts->ready -= a->ready;
    a->ready = false;
    buf_clear(&a->unsent);
    assignment_new_session(a->assignment);
    while ((t = map_next(&a->tasks, &at))) {
        count(a, t, false);
        t->reported = TASK_STATE__NEW;
        list_remove(&t->due);
        list_push(&a->due, &t->due);
    }
}

static void on_conn_closed(void *ctx, struct rpc_conn *conn, const struct err *e)
{
    struct agent *a = ctx;
    uint64_t pause_ms = a->retry_ms ? a->retry_ms : PAUSE_MS / 2 + entropy_below(entropy_real(), PAUSE_MS);

    a->conn = NULL;
    forget_session(a);
    a->retry_ms = 0;
    uv_timer_stop(&a->timer);
    a->away = a->away || a->muted;
    if (!a->away)
        uv_timer_start(&a->timer, on_pause_over, pause_ms, 0);
}

static void dial(struct agent *a)
{
    struct rpc_conn_events events = {.ctx = a, .on_open = on_conn_open, .on_closed = on_conn_closed};
    struct rpc_dial how = {.address = address_of(a),
                           .tls = a->tls,
                           .expect_roles = RPC_ROLE_MANAGER,
                           .expect_cluster = a->cluster_id,
                           .timeout_ms = 60000};
    struct err e;

    if (rpc_dial(&a->swarm->loop, &how, &events, &a->conn, &e) < 0)
        bench_die("agent %u: %s", a->number, e.text);
    a->redirect[0] = '\0'; /* followed once */
}

/* --- joining ----------------------------------------------------------------------------------------- */

static void on_issued(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct agent *a = ctx;
    AUTO_ARENA struct arena arena;
    struct err why;

    arena_init(&arena);
    if (e->code)
        complain(a, e);
    const IssueReply *r = e->code ? NULL : arena_unpack(&arena, &issue_reply__descriptor, reply, size);
    if (r && r->has_certificate_pem) {
        char *certificate = arena_strndup(&arena, (const char *)r->certificate_pem.data, r->certificate_pem.len);
        char *root = arena_strndup(&arena, (const char *)r->root_pem.data, r->root_pem.len);

        ident_format(r->cluster_id.data, a->cluster_id);
        if (tls_new(certificate, a->key_pem, root, &a->tls, &why) < 0)
            bench_die("agent %u: %s", a->number, why.text);
    }
    if (a->conn)
        rpc_conn_close(a->conn);
}

static void on_joining_open(void *ctx, struct rpc_conn *conn, const struct rpc_identity *peer)
{
    struct agent *a = ctx;
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_BUF struct buf csr = {0};
    uint8_t packed[2048];
    struct err e;

    if (cert_request_new(a->key_pem, &csr, &e) < 0)
        bench_die("%s", e.text);
    request.csr_der = (ProtobufCBinaryData){csr.length, (uint8_t *)buf_bytes(&csr)};
    request.token = (char *)a->swarm->config->token;
    size_t size = issue_request__pack(&request, packed);
    if (rpc_call(conn, METHOD_ISSUE, packed, size, METHOD_JOIN_BYTES_MAX, 60000, on_issued, a, &e) < 0)
        bench_die("%s", e.text);
}

static void join(struct agent *a);

static void on_join_again(uv_timer_t *timer)
{
    join(timer->data);
}

static void on_joining_closed(void *ctx, struct rpc_conn *conn, const struct err *e)
{
    struct agent *a = ctx;

    a->conn = NULL;
    if (!a->tls) { /* too many at once, or so */
        uv_timer_start(&a->timer, on_join_again, PAUSE_MS, 0);
        return;
    }
    free(steal(&a->key_pem));
    a->swarm->counts->joined++;
    a->swarm->joining--;
    dial(a);
    join_more(a->swarm);
}

static void join(struct agent *a)
{
    struct rpc_conn_events events = {.ctx = a, .on_open = on_joining_open, .on_closed = on_joining_closed};
    struct rpc_dial how = {.address = address_of(a), .tls = a->swarm->nobody, .timeout_ms = 60000};
    struct err e;

    if (rpc_dial(&a->swarm->loop, &how, &events, &a->conn, &e) < 0)
        bench_die("agent %u: %s", a->number, e.text);
}

static void join_more(struct swarm *s)
{
    static const struct assignment_events base = {.on_set = on_set, .on_removed = on_removed};
    struct err e;

    while (s->count < s->wanted && s->joining < JOINS_MOST) {
        struct agent *a = s->all[s->count] = mem_alloc(sizeof(*a));
        struct assignment_events events = base;

        a->swarm = s;
        a->number = s->count++;
        s->joining++;
        list_init(&a->due);
        list_init(&a->under_way);
        events.ctx = a;
        a->assignment = assignment_new(&events);
        uv_timer_init(&s->loop, &a->timer);
        a->timer.data = a;
        if (cert_key_new(&a->key_pem, &e) < 0)
            bench_die("%s", e.text);
        join(a);
    }
}

/* --- commands ---------------------------------------------------------------------------------------- */

static void lose(struct agent *a)
{
    if (a->conn && a->tls)
        rpc_conn_close(a->conn);
}

static void obey(struct swarm *s, const struct command *c)
{
    struct agent *a = c->verb != GROW && c->verb != STORM ? s->all[c->number] : NULL;

    switch (c->verb) {
    case GROW:
        s->wanted = c->number;
        join_more(s);
        break;
    case CUT:
        a->away = true;
        lose(a);
        break;
    case MUTE:
        a->muted = true;
        break;
    case RETURN:
        a->muted = false;
        if (a->away && !a->conn)
            dial(a);
        a->away = false;
        break;
    case STORM:
        for (unsigned i = 0; i < s->count; i++)
            lose(s->all[i]);
        break;
    }
}

static void on_command(uv_poll_t *poll, int status, int events)
{
    struct swarm *s = poll->data;
    struct command c;

    if (read(s->fd, &c, sizeof(c)) != sizeof(c))
        _exit(0); /* the benchmark has ended */
    obey(s, &c);
}

static _Noreturn void live(int fd, const struct crowd_config *config, struct crowd_counts *counts)
{
    static struct swarm s;
    struct err e;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_set_level(LOG_LEVEL_ERROR + 1);
    s.fd = fd;
    s.config = config;
    s.counts = counts;
    uv_loop_init(&s.loop);
    uv_poll_init(&s.loop, &s.commands, fd);
    s.commands.data = &s;
    uv_poll_start(&s.commands, UV_READABLE, on_command);
    if (tls_new(NULL, NULL, NULL, &s.nobody, &e) < 0)
        bench_die("%s", e.text);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* --- the benchmark's side ---------------------------------------------------------------------------- */

void crowd_open(struct crowd *c, const struct crowd_config *config)
{
    int ends[2];

    c->counts = mmap(NULL, sizeof(*c->counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c->counts == MAP_FAILED || pipe(ends) < 0)
        bench_die("crowd: %s", strerror(errno));
    c->pid = fork();
    if (c->pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (c->pid == 0) {
        close(ends[1]);
        live(ends[0], config, c->counts);
    }
    close(ends[0]);
    c->commands = ends[1];
}

void crowd_close(struct crowd *c)
{
    (void)kill(c->pid, SIGKILL);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(c->commands);
    (void)munmap(c->counts, sizeof(*c->counts));
}

static void command(struct crowd *c, enum verb verb, unsigned number)
{
    const struct command out = {.verb = verb, .number = number};

    if (number > CROWD_MOST || write(c->commands, &out, sizeof(out)) != sizeof(out))
        bench_die("the crowd does not listen");
}

void crowd_grow(struct crowd *c, unsigned agents)
{
    command(c, GROW, agents);
}

void crowd_await(struct crowd *c, unsigned ready, double patience_ms)
{
    double until = bench_now_ms() + patience_ms;

    while (c->counts->ready < ready) {
        if (bench_now_ms() > until || kill(c->pid, 0) < 0)
            bench_die("%u of %u agents have a session", c->counts->ready, ready);
        bench_pause(1);
    }
}

void crowd_cut(struct crowd *c, unsigned agent)
{
    command(c, CUT, agent);
}

void crowd_mute(struct crowd *c, unsigned agent)
{
    command(c, MUTE, agent);
}

void crowd_return(struct crowd *c, unsigned agent)
{
    command(c, RETURN, agent);
}

void crowd_storm(struct crowd *c)
{
    command(c, STORM, 0);
}
