/* One agent's session with this manager (dispatcher.h).
 *
 *     opened --checked--> registering --(write applied)--> registered: ready, full set, increments --> ended
 *
 * Registering is a write like any other: the node's description and state are in the store before the agent hears
 * "ready". What it is to be told waits as task numbers, not as messages: when credit comes back the newest state is
 * sent, once. A session is freed when its stream has ended and no write points to it. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/check.h"
#include "manager/dispatcher/internal.h"
#include "manager/orchestrator/intent.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

#define TWIN_MS    30000 /* until a displaced agent may ask again */
#define WRITES_MAX 16    /* of one session under way: an agent must not fill our queue */

struct session_write { /* a write on behalf of a session */
    struct control_write write;
    struct node_session *session;
    AgentMessage *message; /* owned: the registration, or a report */
    char address[64];      /* registration: where the agent is seen */
};

static void session_free(struct node_session *s)
{
    struct waiting_task *task, *after;

    list_each_safe (task, after, &s->waiting, link)
        free(task);
    map64_fini(&s->waiting_by_number);
    buf_fini(&s->unsent);
    assign_set_free(s->set);
    free(s);
}

static void session_release(struct node_session *s)
{
    if (!s->stream && s->writes == 0)
        session_free(s);
}

void node_session_end(struct node_session *s, const struct err *e)
{
    if (!s->stream || s->is_ending)
        return;
    s->is_ending = true;
    list_remove(&s->flush);
    rpc_end(s->stream, e); /* on_end comes */
}

bool node_session_blocked(const struct node_session *s)
{
    return s->unsent.length > 0;
}

static void send_unsent(struct node_session *s)
{
    if (rpc_send(s->stream, buf_bytes(&s->unsent), s->unsent.length) != ERR_AGAIN)
        buf_clear(&s->unsent); /* sent, or the stream is ending */
}

void node_session_send(struct node_session *s, const ManagerMessage *message)
{
    size_t size = manager_message__get_packed_size(message);

    assert(!node_session_blocked(s));
    if (!s->stream || s->is_ending)
        return;
    manager_message__pack(message, (uint8_t *)buf_reserve(&s->unsent, size));
    buf_added(&s->unsent, size);
    send_unsent(s);
}

static void flush_soon(struct node_session *s)
{
    if (s->is_ending || !list_empty(&s->flush) || node_session_blocked(s))
        return;
    list_push(&s->dispatcher->to_flush, &s->flush);
    dispatcher_wake(s->dispatcher);
}

/* The first message of a session; again when the period changes. */
static void tell_ready(struct node_session *s)
{
    struct dispatcher *d = s->dispatcher;
    ManagerMessage out = MANAGER_MESSAGE__INIT;
    SessionReady ready = SESSION_READY__INIT;

    s->ready_due = false;
    liveness_opened(d->liveness, s->node, dispatcher_now_ms(d)); /* from now on by this period */
    ready.session_id = (ProtobufCBinaryData){sizeof(s->session_id), s->session_id};
    /* Ten percent either way, so that agents that registered together do not all speak at once for ever. */
    ready.heartbeat_period_ms =
        d->period_ms * 9 / 10 + (int64_t)entropy_below(d->config.entropy, (uint64_t)(d->period_ms / 5 + 1));
    ready.has_cluster_epoch = true;
    ready.cluster_epoch = d->epoch;
    out.ready = &ready;
    node_session_send(s, &out);
}

/* What an agent is told of its row, and told again when it changes: what people decided. Where it is seen and
 * whether it is up says nothing new to it, and would come with every registration. */
static uint64_t digest_row(const Node *node)
{
    uint64_t manager = node->manager ? index_digest(&node->manager->base) : 0;

    return (node->spec ? index_digest(&node->spec->base) : 0) * 31 + manager;
}

static void tell_row(struct node_session *s, struct view *v, struct arena *a)
{
    ManagerMessage out = MANAGER_MESSAGE__INIT;
    struct object object;

    s->node_due = false;
    if (view_get(v, KIND_NODE, s->node, a, &object) < 0)
        return; /* removed: its connections are being closed */
    out.node = (Node *)object.message;
    uint64_t digest = digest_row(out.node);
    if (digest == s->node_digest)
        return;
    s->node_digest = digest;
    node_session_send(s, &out);
}

void node_session_row_changed(struct node_session *s, const Node *node)
{
    if (!s->set || (node && digest_row(node) == s->node_digest))
        return;
    s->node_due = true;
    flush_soon(s);
}

static void tell_managers(struct node_session *s)
{
    ManagerMessage out = MANAGER_MESSAGE__INIT;

    s->managers_due = false;
    out.managers = (char **)managers_addresses(s->dispatcher->managers, &out.n_managers);
    if (out.n_managers)
        node_session_send(s, &out);
}

void node_session_tell_managers(struct node_session *s)
{
    s->managers_due = true;
    flush_soon(s);
}

static void tell_authority(struct node_session *s)
{
    const struct buf *packed = &s->dispatcher->authority;

    s->authority_due = false;
    buf_append(&s->unsent, buf_bytes(packed), packed->length);
    if (packed->length)
        send_unsent(s);
}

void node_session_tell_authority(struct node_session *s)
{
    s->authority_due = true;
    flush_soon(s);
}

/* --- down: what the agent is told ------------------------------------------------------------------ */

void node_session_wait(struct node_session *s, uint64_t number)
{
    if (!s->set || map64_get(&s->waiting_by_number, number))
        return;
    struct waiting_task *task = mem_alloc(sizeof(*task));
    task->number = number;
    list_push(&s->waiting, &task->link);
    map64_put(&s->waiting_by_number, number, task);
    map64_put(&s->dispatcher->by_task, number, s);
    flush_soon(s);
}

/* Nothing leads from that task to this session any more. */
static void release_task(struct node_session *s, uint64_t number)
{
    struct map64 *by_task = &s->dispatcher->by_task;

    if (map64_get(by_task, number) == s)
        map64_remove(by_task, number);
}

static void release_assigned(struct node_session *s)
{
    uint64_t number;

    for (size_t at = 0; s->set && (number = assign_next(s->set, &at));)
        if (!map64_get(&s->waiting_by_number, number))
            release_task(s, number);
}

void node_session_begin_full_set(struct node_session *s)
{
    const struct index_node *node = index_node(control_index(s->dispatcher->config.control), s->node);
    struct index_walk walk = {0};
    struct index_task *task;

    if (!node)
        return;
    release_assigned(s);
    assign_set_free(s->set);
    s->set = assign_set_new(s->node, node->id);
    s->sequence = 0;
    s->is_full_set = true;
    while ((task = index_node_next(node, &walk)))
        node_session_wait(s, task->number);
    flush_soon(s);
}

/* Build the next message from what waits. Returns false when there is nothing to say. */
static bool next_assignment(struct node_session *s, struct view *v, struct arena *a, Assignment *message)
{
    const struct index *x = control_index(s->dispatcher->config.control);
    AssignmentItem **items = NULL;
    struct waiting_task *task;
    size_t count = 0, bytes = 0, looked_at = 0, measured = 0;

    while (looked_at < SESSION_ITEMS_MAX && bytes < SESSION_BYTES_SOFT &&
           (task = list_first(&s->waiting, struct waiting_task, link))) {
        assign_task(s->set, v, x, task->number, a, &items, &count);
        for (; measured < count; measured++)
            bytes += assignment_item__get_packed_size(items[measured]);
        looked_at++;
        if (!assign_has(s->set, task->number)) /* taken back, or not to be told yet */
            release_task(s, task->number);
        map64_remove(&s->waiting_by_number, task->number);
        list_remove(&task->link);
        free(task);
    }
    if (count == 0 && !(s->is_full_set && list_empty(&s->waiting)))
        return false;
    assignment__init(message);
    message->items = items;
    message->n_items = count;
    message->has_begin = message->begin = s->is_full_set && s->sequence == 0;
    message->has_end = message->end = s->is_full_set && list_empty(&s->waiting);
    message->sequence = ++s->sequence;
    message->has_digest = !s->is_full_set || message->end;
    message->digest = assign_digest(s->set);
    if (message->end)
        s->is_full_set = false;
    return true;
}

void node_session_flush(struct node_session *s, struct view *v, struct arena *a)
{
    Assignment assignment;

    assert(!s->is_ending);
    if (s->stream && s->ready_due && !node_session_blocked(s))
        tell_ready(s);
    if (s->stream && s->node_due && !node_session_blocked(s))
        tell_row(s, v, a);
    if (s->stream && s->managers_due && !node_session_blocked(s))
        tell_managers(s);
    if (s->stream && s->authority_due && !node_session_blocked(s))
        tell_authority(s);
    if (s->stream && s->acknowledge && !node_session_blocked(s)) {
        ManagerMessage out = MANAGER_MESSAGE__INIT;

        out.has_report_ack = true;
        out.report_ack = s->acknowledge;
        s->acknowledge = 0;
        node_session_send(s, &out);
    }
    while (s->stream && s->set && !node_session_blocked(s) && (!list_empty(&s->waiting) || s->is_full_set)) {
        if (dispatcher_late(s->dispatcher)) {
            flush_soon(s); /* behind those that had no turn yet */
            return;
        }
        ManagerMessage out = MANAGER_MESSAGE__INIT;

        if (!next_assignment(s, v, a, &assignment))
            continue;
        out.assignment = &assignment;
        node_session_send(s, &out);
    }
}

void node_session_tell_period(struct node_session *s)
{
    s->ready_due = true;
    flush_soon(s);
}

static void on_writable(void *ctx, struct rpc_stream *stream)
{
    struct node_session *s = ctx;

    if (s->is_ending)
        return;
    if (node_session_blocked(s))
        send_unsent(s);
    flush_soon(s);
}

/* --- registering ----------------------------------------------------------------------------------- */

static bool same_message(const void *a, const void *b)
{
    AUTO_ARENA struct arena arena;
    size_t size = a ? protobuf_c_message_get_packed_size(a) : 0;

    arena_init(&arena);
    if (!a || size != protobuf_c_message_get_packed_size(b))
        return false;
    uint8_t *left = arena_alloc(&arena, size), *right = arena_alloc(&arena, size);
    protobuf_c_message_pack(a, left);
    protobuf_c_message_pack(b, right);
    return memcmp(left, right, size) == 0;
}

static void put_description(struct plan *p, uint64_t number, NodeDescription *description)
{
    const struct index_node *node = index_node(p->index, number);

    if (!node || !node->exists)
        return; /* removed meanwhile */
    Node changed = *plan_node(p, number);
    if (same_message(changed.description, description))
        return;
    changed.description = description;
    plan_put(p, KIND_NODE, number, &changed);
}

/* The host of "host:port", into `ret`. */
static void host_of(const char *address, char *ret, size_t size)
{
    const char *colon = strrchr(address, ':');

    (void)snprintf(ret, size, "%.*s", colon ? (int)(colon - address) : (int)strlen(address), address); /* it fits */
}

/* Where the agent is seen; that of the leader's own machine is seen at the loopback, which tells nobody anything.
 */
static const char *seen_at(struct plan *p, uint64_t number, struct session_write *write)
{
    const NodeManager *manager = plan_node(p, number)->manager;
    bool is_loopback = strncmp(write->address, "127.", 4) == 0 || strcmp(write->address, "[::1]") == 0;

    if (is_loopback && manager && manager->address)
        host_of(manager->address, write->address, sizeof(write->address));
    return write->address;
}

static int execute_registration(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct session_write *write = container_of(w, struct session_write, write);
    struct node_session *s = write->session;
    uint8_t id[IDENT_BYTES];

    (void)ident_parse(s->node_id, id); /* the certificate's: checked */
    const struct index_node *node = index_node_by_id(p->index, id);
    if (!node || !node->exists)
        return err_set(e, ERR_DENIED, "node %s is not part of this cluster (it was removed)", s->node_id);
    s->node = node->number;
    map64_put(&s->dispatcher->registering, s->node, s);
    put_description(p, node->number, write->message->open->description);
    return node_set_state(p, node->number, NODE_STATE__UP, "", seen_at(p, node->number, write), e);
}

/* This session takes the place of `old`, and remembers whom else that one had displaced. */
static void supersede(struct node_session *s, const struct node_session *old)
{
    bool is_same = memcmp(s->instance, old->instance, INSTANCE_BYTES) == 0; /* it lost its connection alone */

    memcpy(s->superseded, old->superseded, sizeof(s->superseded));
    if (is_same)
        return;
    memcpy(s->superseded[1], old->superseded[0], sizeof(s->superseded) - INSTANCE_BYTES);
    memcpy(s->superseded[0], old->instance, INSTANCE_BYTES);
}

static void registered(struct node_session *s)
{
    struct dispatcher *d = s->dispatcher;
    struct node_session *old = map64_get(&d->by_node, s->node);

    if (old) { /* the agent came back before its old connection was noticed to be dead */
        struct err e;

        err_set(&e, ERR_CONFLICT, "a newer session of this node was opened");
        supersede(s, old);
        map64_remove(&d->by_node, s->node);
        dispatcher_logs_session_ended(d, s->node);
        old->node = 0;
        node_session_end(old, &e);
    }
    map64_put(&d->by_node, s->node, s);
    entropy_fill(d->config.entropy, s->session_id, sizeof(s->session_id));
    tell_ready(s);
    s->managers_due = s->node_due = s->authority_due = true;
    log_info("agent registered", "node=%s", s->node_id);
    node_session_begin_full_set(s);
}

static void write_free(struct session_write *write)
{
    message_free(write->message);
    buf_fini(&write->write.reply);
    free(write);
}

static void on_registration_done(struct control_write *w, const struct err *e, uint64_t index)
{
    struct session_write *write = container_of(w, struct session_write, write);
    struct node_session *s = write->session;

    struct dispatcher *d = s->dispatcher;

    s->writes--;
    if (map64_get(&d->registering, s->node) == s)
        map64_remove(&d->registering, s->node);
    if (e->code == 0 && s->stream && !s->is_ending && d->leads) {
        registered(s);
    } else {
        if (s->node && d->leads && !dispatcher_session_of(d, s->node)) /* it went away meanwhile */
            liveness_expect(d->liveness, s->node, dispatcher_now_ms(d));
        s->node = 0;
        if (e->code)
            log_info("agent not registered", "node=%s error=\"%s\"", s->node_id, e->text);
        node_session_end(s, e);
    }
    write_free(write);
    session_release(s);
}

static struct session_write *write_new(struct node_session *s, AgentMessage *message)
{
    struct session_write *write = mem_alloc(sizeof(*write));

    write->session = s;
    write->message = message;
    s->writes++;
    return write;
}

static void submit_registration(struct node_session *s, AgentMessage *message)
{
    struct session_write *write = write_new(s, message);

    host_of(rpc_conn_address(rpc_stream_conn(s->stream)), write->address, sizeof(write->address));
    write->write.background = true;
    write->write.execute = execute_registration;
    write->write.done = on_registration_done;
    control_submit(s->dispatcher->config.control, &write->write);
}

/* --- up: what the agent says ----------------------------------------------------------------------- */

static int execute_report(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct session_write *write = container_of(w, struct session_write, write);
    const StatusReport *report = write->message->report;
    const struct index_node *node = index_node(p->index, write->session->node);

    for (size_t i = 0; node && i < report->n_tasks; i++)
        (void)plan_report(p, node, report->tasks[i]->task_id.data,
                          report->tasks[i]->status); /* what is old or not theirs is ignored */
    return 0;
}

/* The write is done with; returns its session while that goes on, else NULL. */
static struct node_session *written(struct session_write *write, const struct err *e)
{
    struct node_session *s = write->session;

    s->writes--;
    if (e->code)
        node_session_end(s, e); /* it comes back and says it again */
    if (e->code || !s->stream || s->is_ending)
        return NULL;
    if (s->node) /* its heartbeats may have waited behind the pause */
        liveness_heard(s->dispatcher->liveness, s->node, dispatcher_now_ms(s->dispatcher));
    rpc_pause(s->stream, false);
    return s;
}

static void on_report_done(struct control_write *w, const struct err *e, uint64_t index)
{
    struct session_write *write = container_of(w, struct session_write, write);
    struct node_session *s = write->session;

    if (written(write, e)) {
        s->acknowledge = MAX(s->acknowledge, write->message->report->sequence);
        flush_soon(s);
    }
    write_free(write);
    session_release(s);
}

static void on_description_done(struct control_write *w, const struct err *e, uint64_t index)
{
    struct session_write *write = container_of(w, struct session_write, write);
    struct node_session *s = write->session;

    (void)written(write, e); /* nothing is said of it */
    write_free(write);
    session_release(s);
}

/* A write of what the agent said; takes the message. */
static void submit_up(struct node_session *s, AgentMessage *message,
                      int (*execute)(struct control_write *w, struct draft *d, struct plan *p, struct err *e),
                      void (*done)(struct control_write *w, const struct err *e, uint64_t index))
{
    struct session_write *write = write_new(s, message);

    write->write.background = true;
    write->write.execute = execute;
    write->write.done = done;
    control_submit(s->dispatcher->config.control, &write->write);
    if (s->writes >= WRITES_MAX) /* it reads on when one of them is done */
        rpc_pause(s->stream, true);
}

static void on_report(struct node_session *s, AgentMessage *message)
{
    struct err e;

    if (check_report(message->report, &e) < 0) {
        message_free(message);
        node_session_end(s, &e);
        return;
    }
    submit_up(s, message, execute_report, on_report_done);
}

static int execute_description(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct session_write *write = container_of(w, struct session_write, write);

    put_description(p, write->session->node, write->message->description);
    return 0;
}

static void on_description(struct node_session *s, AgentMessage *message)
{
    struct err e;

    if (check_description(message->description, &e) < 0) {
        message_free(message);
        node_session_end(s, &e);
        return;
    }
    submit_up(s, message, execute_description, on_description_done);
}

static void on_message(void *ctx, struct rpc_stream *stream, const void *data, size_t size)
{
    struct node_session *s = ctx;
    AgentMessage *message = agent_message__unpack(NULL, size, data);
    struct err e;

    if (!message || !s->set) {
        err_set(&e, ERR_INVALID, message ? "message before the registration" : "malformed message");
        message_free(message);
        node_session_end(s, &e);
        return;
    }
    liveness_heard(s->dispatcher->liveness, s->node, dispatcher_now_ms(s->dispatcher));
    if (message->report) {
        on_report(s, message); /* takes it */
        return;
    }
    if (message->description) {
        on_description(s, message); /* takes it */
        return;
    }
    if (message->has_resync) {
        log_warn("agent asks for the full set", "node=%s sequence=%llu", s->node_id,
                 (unsigned long long)message->resync);
        node_session_begin_full_set(s);
    }
    message_free(message);
}

/* The tasks that this session has, or was about to look at, are nobody's. */
static void release_tasks(struct node_session *s)
{
    struct waiting_task *task;

    list_each (task, &s->waiting, link)
        release_task(s, task->number);
    release_assigned(s);
}

static void on_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct node_session *s = ctx;
    struct dispatcher *d = s->dispatcher;

    s->stream = NULL;
    list_remove(&s->link);
    list_remove(&s->flush);
    release_tasks(s);
    if (s->node && map64_get(&d->by_node, s->node) == s) {
        map64_remove(&d->by_node, s->node);
        dispatcher_logs_session_ended(d, s->node);
        liveness_closed(d->liveness, s->node, dispatcher_now_ms(d));
        dispatcher_wake(d);
        log_info("agent's session ended", "node=%s error=\"%s\"", s->node_id, e->code ? e->text : "none");
    }
    session_release(s);
}

/* --- opening --------------------------------------------------------------------------------------- */

/* Two agents with one identity, as when a machine was cloned: the newer has it. The other is kept away as long as
 * that one is there, or they would displace each other for ever. */
static bool has_twin(struct dispatcher *d, const struct index_node *node, const SessionOpen *open)
{
    static const uint8_t nobody[INSTANCE_BYTES];
    const struct node_session *present = node ? dispatcher_session_of(d, node->number) : NULL;

    if (!present || open->instance.len != INSTANCE_BYTES ||
        memcmp(open->instance.data, nobody, sizeof(nobody)) == 0)
        return false;
    for (size_t i = 0; i < SESSION_TWINS_MAX; i++)
        if (memcmp(open->instance.data, present->superseded[i], INSTANCE_BYTES) == 0)
            return memcmp(open->instance.data, present->instance, INSTANCE_BYTES) != 0;
    return false;
}

/* Whether it has to come back later, and when. */
static bool not_now(struct dispatcher *d, const char *node_id, const SessionOpen *open, ComeBack *ret)
{
    int64_t now_ms = dispatcher_now_ms(d), wait_ms;
    uint8_t id[IDENT_BYTES];

    (void)ident_parse(node_id, id); /* checked */
    const struct index_node *node = index_node_by_id(control_index(d->config.control), id);
    if (has_twin(d, node, open)) {
        ret->after_ms = TWIN_MS;
        ret->why = (char *)"another agent has this node's identity: was the machine cloned? Make one of them leave "
                           "the swarm with --force and join again";
        return true;
    }
    wait_ms = admission_ask(d->admission, node_id, now_ms);
    if (wait_ms == 0)
        return false;
    if (node && node->exists && node->state != NODE_STATE__DOWN && !dispatcher_session_of(d, node->number))
        liveness_expect(d->liveness, node->number, now_ms + wait_ms); /* it is there: it is we who are busy */
    ret->after_ms = (uint32_t)MIN(wait_ms, (int64_t)UINT32_MAX);
    ret->why = (char *)"too many registrations at once, of this node or of all";
    return true;
}

static int check_open(struct dispatcher *d, const struct rpc_identity *peer, const AgentMessage *message,
                      struct err *e)
{
    if (!message || !message->open)
        return err_set(e, ERR_INVALID, "a session begins with the node's description");
    if (!ident_valid(peer->node_id))
        return err_set(e, ERR_DENIED, "no node's certificate");
    if (message->open->cluster_epoch > d->epoch)
        return err_set(e, ERR_DENIED, "this manager is of epoch %llu of the cluster, which is in epoch %llu by now",
                       (unsigned long long)d->epoch, (unsigned long long)message->open->cluster_epoch);
    return check_description(message->open->description, e);
}

/* The one answer to a session that begins and ends here. */
static void answer_alone(struct rpc_stream *stream, const ManagerMessage *out)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};
    size_t size = manager_message__get_packed_size(out);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size);

    rpc_stream_set(stream, &ignore);
    manager_message__pack(out, packed);
    rpc_answer(stream, packed, size);
}

/* Another manager leads: the agent is sent there. Without a leader it is told so, and tries the next manager. */
static void send_away(struct dispatcher *d, struct rpc_stream *stream)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};
    ManagerMessage out = MANAGER_MESSAGE__INIT;
    struct err e;

    out.redirect = (char *)managers_leader(d->managers);
    if (out.redirect) {
        answer_alone(stream, &out);
        return;
    }
    rpc_stream_set(stream, &ignore);
    err_set(&e, ERR_UNAVAILABLE, "no leader: the managers have not agreed on one");
    rpc_end(stream, &e);
}

static struct node_session *session_new(struct dispatcher *d, struct rpc_stream *stream, const char *node_id,
                                        const SessionOpen *open)
{
    static const struct rpc_stream_events base = {
        .on_message = on_message, .on_writable = on_writable, .on_end = on_end};
    struct rpc_stream_events events = base;
    struct node_session *s = mem_alloc(sizeof(*s));

    s->dispatcher = d;
    s->stream = stream;
    memcpy(s->node_id, node_id, sizeof(s->node_id));
    if (open->instance.len == INSTANCE_BYTES)
        memcpy(s->instance, open->instance.data, INSTANCE_BYTES);
    list_init(&s->waiting);
    list_init(&s->flush);
    list_push(&d->sessions, &s->link);
    events.ctx = s;
    rpc_stream_set(stream, &events);
    return s;
}

void dispatcher_on_session(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *data,
                           size_t size)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};
    struct dispatcher *d = ctx;
    ManagerMessage out = MANAGER_MESSAGE__INIT;
    ComeBack later = COME_BACK__INIT;
    struct err e;

    if (!d->leads) {
        send_away(d, stream);
        return;
    }
    AgentMessage *message = agent_message__unpack(NULL, size, data);
    if (check_open(d, peer, message, &e) < 0) {
        rpc_stream_set(stream, &ignore);
        rpc_end(stream, &e);
    } else if (not_now(d, peer->node_id, message->open, &later)) {
        out.come_back = &later;
        answer_alone(stream, &out);
    } else {
        submit_registration(session_new(d, stream, peer->node_id, message->open), message); /* takes it */
        return;
    }
    message_free(message);
}
