/* See dispatcher.h. Here: following what is applied, and declaring nodes down. */
#include <stdlib.h>
#include <string.h>

#include "manager/api/authority.h"
#include "manager/ca/rotation.h"
#include "manager/dispatcher/internal.h"
#include "manager/orchestrator/intent.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/planted.h"
#include "proto/wire/cert.h"

#define DOWN_NODES_MAX    512 /* in one write */
#define PERIOD_DEFAULT_MS 5000
#define TURN_US           3000

#define RENEWAL_MS          2u                  /* for each agent */
#define RENEWAL_SPAN_MS_MAX (10u * 60u * 1000u) /* and never more than this */

struct down_write { /* nodes to be declared down */
    struct control_write write;
    struct dispatcher *dispatcher;
    uint64_t nodes[DOWN_NODES_MAX];
    bool silent[DOWN_NODES_MAX];
    size_t count;
};

void dispatcher_wake(struct dispatcher *d)
{
    d->config.wake(d->config.ctx);
}

int64_t dispatcher_now_ms(const struct dispatcher *d)
{
    return clock_mono_ms(d->config.clock);
}

bool dispatcher_late(const struct dispatcher *d)
{
    return clock_mono_us(d->config.clock) >= d->turn_ends_us;
}

struct node_session *dispatcher_session_of(struct dispatcher *d, uint64_t node)
{
    return map64_get(&d->by_node, node);
}

unsigned dispatcher_sessions(const struct dispatcher *d)
{
    return (unsigned)d->by_node.count;
}

bool dispatcher_awaits(const struct dispatcher *d, uint64_t node)
{
    return d->leads && !map64_get(&d->by_node, node) && liveness_awaits(d->liveness, node);
}

/* --- what the cluster's object says ------------------------------------------------------------------- */

static int64_t period_of(const Cluster *cluster)
{
    const ClusterSpec *spec = cluster->spec;

    return spec && spec->has_heartbeat_period_ns && spec->heartbeat_period_ns > 0
               ? MAX(spec->heartbeat_period_ns / 1000000, (int64_t)1)
               : PERIOD_DEFAULT_MS;
}

static void set_period(struct dispatcher *d, int64_t period_ms)
{
    struct node_session *s;

    if (period_ms == d->period_ms)
        return;
    d->period_ms = period_ms;
    liveness_set_period(d->liveness, period_ms);
    list_each (s, &d->sessions, link) {
        if (s->set)
            node_session_tell_period(s);
    }
}

/* Every agent that has to renew when this changes asks for a certificate, which costs us a handshake and a
 * signature: over as much time as that takes with ease. */
static uint32_t renewal_span_ms(const struct dispatcher *d)
{
    return (uint32_t)MIN(dispatcher_sessions(d) * RENEWAL_MS, RENEWAL_SPAN_MS_MAX);
}

static void set_authority(struct dispatcher *d, const Cluster *cluster)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    Authority authority = AUTHORITY__INIT;
    AUTO_ARENA struct arena a;
    struct node_session *s;

    arena_init(&a);
    const char *trust = ca_trust(cluster->root_ca, &a), *issuer = ca_issuer(cluster->root_ca, &a);
    if (!trust || cert_key_digest(issuer, &authority.issuer, NULL) < 0)
        return; /* being founded; or the root cannot be read, which issuing says */
    authority.root_pem = (ProtobufCBinaryData){strlen(trust), (uint8_t *)trust};
    authority.has_lifetime_ms = true;
    authority.lifetime_ms = ca_lifetime_ms(cluster->spec);
    message.authority = &authority;
    uint64_t digest = index_digest(&authority.base);
    if (digest == d->authority_digest)
        return;
    d->authority_digest = digest;
    authority.has_within_ms = true;
    authority.within_ms = renewal_span_ms(d);
    size_t size = manager_message__get_packed_size(&message);
    buf_clear(&d->authority);
    manager_message__pack(&message, (uint8_t *)buf_reserve(&d->authority, size));
    buf_added(&d->authority, size);
    list_each (s, &d->sessions, link) {
        if (s->set)
            node_session_tell_authority(s);
    }
}

static void set_cluster(struct dispatcher *d, const Cluster *cluster)
{
    d->epoch = cluster->epoch;
    set_period(d, period_of(cluster));
    set_authority(d, cluster);
    authority_forget(cluster);
}

static void read_cluster(struct dispatcher *d)
{
    struct view *v = view_begin(control_store(d->config.control));
    uint64_t number = view_next(v, KIND_CLUSTER, 0);
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    if (number && view_get(v, KIND_CLUSTER, number, &a, &object) == 0)
        set_cluster(d, (const Cluster *)object.message);
    view_end(v);
}

/* --- following ------------------------------------------------------------------------------------- */

/* A task that was made for its node becomes its node's with this. */
static bool is_assigned(const struct object *status)
{
    return status->message && ((const Status *)status->message)->state == TASK_STATE__ASSIGNED;
}

static struct node_session *session_by_index(struct dispatcher *d, uint64_t task)
{
    const struct index_task *t = index_task(control_index(d->config.control), task);
    const struct index_node *node = t ? index_task_node(t) : NULL;

    return node ? dispatcher_session_of(d, node->number) : NULL;
}

/* A task changed: the session of its node looks at it. A deleted one's record is gone, so we remember who had it.
 */
static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    struct dispatcher *d = ctx;
    struct node_session *s;

    if (object->kind == KIND_NODE && !object->message)
        liveness_forget(d->liveness, object->number);
    else if (object->kind == KIND_NODE && (s = dispatcher_session_of(d, object->number)))
        node_session_row_changed(s, (const Node *)object->message);
    if (object->kind == KIND_CLUSTER && object->message)
        set_cluster(d, (const Cluster *)object->message);
    if (object->kind != KIND_TASK && object->kind != KIND_STATUS)
        return;
    if (object->kind == KIND_STATUS)
        s = is_assigned(object) ? session_by_index(d, object->number) : NULL;
    else if (object->message)
        s = dispatcher_session_of(d, ((const Task *)object->message)->node);
    else
        s = map64_get(&d->by_task, object->number);
    if (s)
        node_session_wait(s, object->number);
}

static void follow(struct dispatcher *d, struct arena *a)
{
    int rc = store_feed_kinds(control_store(d->config.control), d->fed,
                              FEED_KIND(KIND_TASK) | FEED_KIND(KIND_STATUS) | FEED_KIND(KIND_NODE) |
                                  FEED_KIND(KIND_CLUSTER),
                              a, on_fed, d, &d->fed);
    struct node_session *s;

    if (rc == 0)
        return;
    log_warn("the change feed overflowed: agents get their full sets", "sessions=%u", dispatcher_sessions(d));
    d->fed = store_applied(control_store(d->config.control));
    read_cluster(d);
    list_each (s, &d->sessions, link) {
        if (s->set) {
            node_session_begin_full_set(s);
            node_session_row_changed(s, NULL);
        }
    }
}

static void follow_managers(struct dispatcher *d)
{
    struct node_session *s;

    if (!managers_follow(d->managers))
        return;
    list_each (s, &d->sessions, link) {
        if (s->set)
            node_session_tell_managers(s);
    }
}

static void on_applied(struct control_watch *w, uint64_t index)
{
    dispatcher_wake(container_of(w, struct dispatcher, watch));
}

/* --- leadership ------------------------------------------------------------------------------------ */

/* Every node that was alive is expected back. Their rows are left alone: they are written when a node does not
 * come. */
static void expect_nodes(struct dispatcher *d)
{
    const struct index *x = control_index(d->config.control);

    for (uint32_t i = 0; i < x->node_count; i++) {
        const struct index_node *node = x->node_at[i];

        if (node && node->exists && node->state != NODE_STATE__DOWN)
            liveness_expect(d->liveness, node->number, dispatcher_now_ms(d));
    }
}

static void on_leads(struct control_watch *w, bool leads)
{
    struct dispatcher *d = container_of(w, struct dispatcher, watch);
    struct node_session *s, *after;
    struct err e;

    d->leads = leads;
    liveness_clear(d->liveness);
    if (leads) {
        d->fed = store_applied(control_store(d->config.control));
        read_cluster(d);
        expect_nodes(d);
    } else {
        err_set(&e, ERR_UNAVAILABLE, "this manager is not the leader any more");
        list_each_safe (s, after, &d->sessions, link)
            node_session_end(s, &e);
    }
    dispatcher_wake(d);
}

/* --- nodes that are down --------------------------------------------------------------------------- */

static int execute_down(struct control_write *w, struct draft *draft, struct plan *p, struct err *e)
{
    struct down_write *down = container_of(w, struct down_write, write);

    for (size_t i = 0; i < down->count; i++) {
        const struct index_node *node = index_node(p->index, down->nodes[i]);

        /* It may be back by now: then its registration was executed before, perhaps in this very draft, or comes
         * after. */
        if (node && node->exists && !dispatcher_session_of(down->dispatcher, down->nodes[i]) &&
            (PLANTED(DOWN_TWICE) || !map64_get(&down->dispatcher->registering, down->nodes[i])))
            (void)node_set_state(p, down->nodes[i], NODE_STATE__DOWN,
                                 down->silent[i] ? "heartbeat failure" : "session closed", NULL, NULL);
    }
    return 0;
}

static void on_down_done(struct control_write *w, const struct err *e, uint64_t index)
{
    struct down_write *down = container_of(w, struct down_write, write);
    struct dispatcher *d = down->dispatcher;

    /* Not written, though we may still lead: look at them again. A new leader does so by itself. */
    for (size_t i = 0; e->code && i < down->count; i++)
        if (d->leads && !dispatcher_session_of(d, down->nodes[i]))
            liveness_expect(d->liveness, down->nodes[i], dispatcher_now_ms(d));
    buf_fini(&w->reply);
    free(down);
}

static void declare_down(struct dispatcher *d)
{
    struct down_write *down = NULL;
    uint64_t node;
    bool silent;

    while (d->leads && liveness_next_down(d->liveness, dispatcher_now_ms(d), &node, &silent)) {
        struct node_session *s = dispatcher_session_of(d, node);

        if (!down) {
            down = mem_alloc(sizeof(*down));
            down->dispatcher = d;
        }
        down->nodes[down->count] = node;
        down->silent[down->count++] = silent;
        log_warn("node is down", "node=%llu why=%s", (unsigned long long)node, silent ? "silent" : "closed");
        if (s) { /* it has a connection that says nothing */
            struct err e;

            err_set(&e, ERR_TIMEOUT, "no heartbeat within %lld ms", (long long)liveness_grace_ms(d->liveness));
            map64_remove(&d->by_node, node);
            dispatcher_logs_session_ended(d, node);
            s->node = 0;
            node_session_end(s, &e);
        }
        if (down->count == DOWN_NODES_MAX)
            break; /* the rest in the next turn */
    }
    if (!down)
        return;
    down->write.background = true;
    down->write.execute = execute_down;
    down->write.done = on_down_done;
    control_submit(d->config.control, &down->write);
}

/* --- the turn -------------------------------------------------------------------------------------- */

int64_t dispatcher_turn(struct dispatcher *d)
{
    AUTO_ARENA struct arena a;
    struct list *link;

    arena_init(&a);
    d->turn_ends_us = clock_mono_us(d->config.clock) + TURN_US;
    int64_t logs_ms = dispatcher_logs_turn(d);
    if (d->leads)
        follow(d, &a);
    follow_managers(d);
    declare_down(d);
    if (!list_empty(&d->to_flush)) {
        struct view *v = view_begin(control_store(d->config.control));

        while (!dispatcher_late(d) && (link = list_pop(&d->to_flush))) {
            node_session_flush(list_entry(link, struct node_session, flush), v, &a);
            arena_reset(&a);
        }
        view_end(v);
        admission_tidy(d->admission, dispatcher_now_ms(d));
    }
    if (!list_empty(&d->to_flush))
        return 0;
    int64_t due_ms = d->leads ? liveness_due_ms(d->liveness) : INT64_MAX;
    int64_t wait_ms = due_ms == INT64_MAX ? -1 : MAX(due_ms - dispatcher_now_ms(d), 0);
    return wait_ms < 0 || (logs_ms >= 0 && logs_ms < wait_ms) ? logs_ms : wait_ms;
}

/* --- the door -------------------------------------------------------------------------------------- */

struct dispatcher *dispatcher_new(const struct dispatcher_config *config)
{
    struct dispatcher *d = mem_alloc(sizeof(*d));

    d->config = *config;
    list_init(&d->sessions);
    list_init(&d->to_flush);
    list_init(&d->logs);
    d->period_ms = PERIOD_DEFAULT_MS;
    d->liveness = liveness_new(d->period_ms);
    d->managers = managers_new(config->control);
    d->admission = admission_new(config->registrations_per_second, config->registrations_per_node);
    d->watch.on_applied = on_applied;
    d->watch.on_leads = on_leads;
    control_watch(config->control, &d->watch);
    if (control_leads(config->control))
        on_leads(&d->watch, true);
    return d;
}

void dispatcher_free(struct dispatcher *d)
{
    if (!d)
        return;
    dispatcher_logs_free(d);
    liveness_free(d->liveness);
    managers_free(d->managers);
    admission_free(d->admission);
    buf_fini(&d->authority);
    map64_fini(&d->by_node);
    map64_fini(&d->registering);
    map64_fini(&d->by_task);
    free(d);
}
