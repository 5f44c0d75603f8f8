/* See thread.h.
 *
 * Opening: store, log (made first when the cluster is), control with its founding, dispatcher, API, port. Whatever
 * fails stops the manager but not the thread, which waits to be closed. It listens from then on, for the other
 * managers' links alone; it is ready once it leads, or knows who does, and holds the cluster's object. One that was
 * a member before and hears of no leader is ready after a while as well: to say who is missing.
 *
 * Turns: whoever has work says so (wake); the turn runs in the loop's next iteration as an idle handle, without a
 * system call, and at the time that its parts ask for. Control goes first, since what it applies is what the others
 * tell; each part does a few milliseconds at most.
 *
 * Closing: the asks are answered, a leader hands over, the port is closed, which ends all sessions, and the
 * connection to the leader, then control, which answers the writes that sessions and asks still have there; only
 * then may these go, and at last the store. */
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/authority.h"
#include "manager/membership.h"
#include "manager/news.h"
#include "manager/raft/env.h"
#include "manager/raft/links.h"
#include "manager/raft/member.h"
#include "manager/rotation.h"
#include "manager/serve.h"
#include "manager/thread.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define LEAVE_MS      1000 /* for handing over before it closes */
#define ELECTED_MS    200  /* ... of which the new leader may take so much to be known */
#define LEAVE_TURN_MS 5
#define ALONE_MS      3000 /* without a leader, until clients are told so */

struct thread {
    struct thread_events events;
    struct arena arena;           /* copies of the configuration */
    struct manager_config config; /* texts in the arena; no callbacks, no mailbox */
    uint8_t data_key[32];
    uint8_t cluster_id[IDENT_BYTES], node_id[IDENT_BYTES];
    struct control_founding founding;
    pthread_t pthread;
    uv_loop_t loop;
    struct mailbox inbox;
    uv_idle_t turn; /* active while a turn is due */
    uv_timer_t timer;
    struct tls *tls;
    struct store *store;
    struct links *links;
    struct replica_env *env;
    struct control *control;
    struct control_watch watch;
    struct dispatcher *dispatcher;
    struct forward *forward;
    struct membership *membership;
    struct rotation *rotation;
    struct asks *asks;
    struct relay *relay;
    struct serve *serve;
    bool applied;        /* something was, since the last turn */
    bool ready;          /* on_ready was told */
    bool serving;        /* serve_ready was called */
    int64_t alone_at_ms; /* monotonic: ready from then on, although nobody leads */
    bool stopped;        /* on_stopped was */
    bool removed;        /* on_removed was */
    bool leaving;        /* closing, but handing over first */
    bool handed_over;    /* and that is done, or failed */
    int64_t leave_by_ms; /* wait no longer */
    bool closing;
    struct {                               /* what the node was told last */
        uint64_t nodes, managers, version; /* managers: generation of membership_rows */
    } told;
    bool info_under_way;
    struct news *news; /* NULL until it is ready */
    bool news_under_way;
};

static void wake(void *ctx);

/* --- what goes wrong ------------------------------------------------------------------------------------ */

static void stop(struct thread *t, const struct err *e)
{
    if (t->stopped || t->closing)
        return;
    t->stopped = true;
    if (t->leaving)
        wake(t); /* it closes now */
    log_error("the manager cannot go on", "error=\"%s\"", e->text);
    if (t->asks) {
        struct err told = {.code = ERR_UNAVAILABLE};

        memcpy(told.text, e->text, sizeof(told.text));
        asks_refuse(t->asks, &told);
    }
    if (!t->leaving)
        t->events.on_stopped(t->events.ctx, e);
}

static void on_fatal(void *ctx, const struct err *e)
{
    stop(ctx, e);
}

static void on_removed(void *ctx)
{
    struct thread *t = ctx;

    if (t->removed || t->stopped || t->leaving || t->closing)
        return;
    t->removed = true;
    t->events.on_removed(t->events.ctx);
}

/* --- what the node shows --------------------------------------------------------------------------------- */

static uint64_t cluster_version(struct view *v)
{
    uint64_t number = view_next(v, KIND_CLUSTER, 0);
    struct object header;
    const void *data;
    size_t size;

    return number && view_get_packed(v, KIND_CLUSTER, number, &data, &size, &header) == 0 ? header.version : 0;
}

/* Send what changed, one at a time: however often it does, one is on the way. */
static void tell_info(struct thread *t)
{
    struct membership_row rows[THREAD_MANAGERS_MOST];
    struct view *v;
    uint64_t managers;

    if (t->info_under_way)
        return;
    size_t count = membership_rows(t->membership, rows, ARRAY_SIZE(rows), &managers);
    v = view_begin(t->store);
    uint64_t version = cluster_version(v), nodes = store_count(t->store, KIND_NODE);
    if (version && (version != t->told.version || nodes != t->told.nodes || managers != t->told.managers)) {
        struct thread_info *info = mem_alloc(sizeof(*info));

        info->nodes = t->told.nodes = nodes;
        info->manager_count = count;
        for (size_t i = 0; i < count; i++) {
            ident_format(rows[i].node_id, info->managers[i].node_id);
            memcpy(info->managers[i].address, rows[i].address, sizeof(rows[i].address));
        }
        t->told.managers = managers;
        t->told.version = version;
        info->version = version;
        info->is_locking = authority_lock_key(v, info->lock_key);
        authority_pack_cluster(&info->cluster, v, false);
        t->info_under_way = true;
        t->events.on_info(t->events.ctx, info);
    }
    view_end(v);
}

void thread_info_free(struct thread_info *info)
{
    if (!info)
        return;
    mem_wipe(info->lock_key, sizeof(info->lock_key));
    buf_fini(&info->cluster);
    free(info);
}

void thread_info_seen(struct thread *t, struct thread_info *info)
{
    thread_info_free(info);
    t->info_under_way = false;
    t->applied = true; /* it may be old already */
    wake(t);
}

/* The feed keeps what comes while a batch is on the way. */
static int64_t tell_news(struct thread *t)
{
    struct news_batch *batch;

    if (!t->news || t->news_under_way)
        return -1;
    int64_t wait_ms = news_turn(t->news, &batch);
    if (batch) {
        t->news_under_way = true;
        t->events.on_news(t->events.ctx, batch);
    }
    return wait_ms;
}

void thread_news_seen(struct thread *t)
{
    t->news_under_way = false;
    wake(t);
}

/* --- being ready ----------------------------------------------------------------------------------------- */

/* The signing key is in the store now. */
static void forget_founding(struct thread *t)
{
    if (t->founding.cluster)
        authority_forget(t->founding.cluster);
}

/* Ready: clients may be answered, if only with who is missing. Serving: other nodes are judged by their rows, which
 * needs a leader, since rows that are old would shut out the very manager that has the newer ones. Returns when to
 * look again, -1: when something happens. */
static int64_t look_ready(struct thread *t)
{
    if ((t->ready && t->serving) || t->stopped || !store_count(t->store, KIND_CLUSTER) ||
        !membership_settled(t->membership))
        return -1;
    bool led = replica_leader(control_replica(t->control), NULL);
    if (led && !t->serving) {
        t->serving = true;
        serve_ready(t->serve);
        forget_founding(t);
    }
    if (t->ready)
        return -1;
    if (!led) {
        int64_t wait_ms = t->alone_at_ms - clock_mono_ms(clock_real());

        if (wait_ms > 0)
            return wait_ms;
        log_warn("no leader is known: requests are answered with who is missing", "%s", "");
    }
    t->ready = true;
    t->news = news_new(t->control, t->membership);
    tell_info(t);
    t->events.on_ready(t->events.ctx, serve_port(t->serve));
    return -1;
}

/* --- turns ----------------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    wake(timer->data);
}

static void consider(int64_t *next_ms, int64_t wait_ms)
{
    if (wait_ms >= 0 && (*next_ms < 0 || wait_ms < *next_ms))
        *next_ms = wait_ms;
}

static void leave_turn(struct thread *t);
static void close_now(struct thread *t);

static void on_turn(uv_idle_t *idle)
{
    struct thread *t = idle->data;
    int64_t next_ms = -1;

    uv_idle_stop(idle);
    if (t->leaving && t->stopped)
        close_now(t);
    if (t->closing || t->stopped)
        return;
    consider(&next_ms, control_turn(t->control));
    if (t->leaving) {
        leave_turn(t);
        return;
    }
    consider(&next_ms, dispatcher_turn(t->dispatcher));
    consider(&next_ms, asks_turn(t->asks));
    consider(&next_ms, membership_turn(t->membership));
    consider(&next_ms, rotation_turn(t->rotation));
    if (t->stopped)
        return;
    consider(&next_ms, look_ready(t));
    announce_follow(t->serve);
    if (t->applied && t->ready) {
        t->applied = false;
        if (t->serving)
            serve_follow(t->serve);
        tell_info(t);
    }
    consider(&next_ms, tell_news(t));
    if (next_ms == 0) {
        wake(t);
    } else if (next_ms > 0) {
        uv_update_time(&t->loop); /* the turn took time */
        uv_timer_start(&t->timer, on_timer, (uint64_t)next_ms, 0);
    } else {
        uv_timer_stop(&t->timer);
    }
}

static void wake(void *ctx)
{
    struct thread *t = ctx;

    if (!t->closing)
        uv_idle_start(&t->turn, on_turn); /* no-op when it is started already */
}

static void on_applied(struct control_watch *w, uint64_t index)
{
    struct thread *t = container_of(w, struct thread, watch);

    t->applied = true;
    wake(t);
}

static void on_leads(struct control_watch *w, bool leads)
{
    log_info(leads ? "this manager leads" : "this manager does not lead any more", "%s", "");
    on_applied(w, 0);
}

/* A follower that lacks nothing hears of no more than this. */
static void on_leader(struct control_watch *w)
{
    wake(container_of(w, struct thread, watch));
}

/* --- mail ------------------------------------------------------------------------------------------------ */

void thread_ask(struct thread *t, struct ask *k)
{
    asks_begin(t->asks, k);
}

void thread_more(struct thread *t, struct ask *k)
{
    asks_more(t->asks, k);
}

void thread_drop(struct thread *t, struct ask *k)
{
    asks_drop(t->asks, k);
}

void thread_relay_page(struct thread *t, struct relayed *r)
{
    relay_page(t->relay, r);
}

void thread_relay_dropped(struct thread *t, struct relayed *r)
{
    relay_dropped(t->relay, r);
}

static void on_asks_page(void *ctx, struct ask *k)
{
    struct thread *t = ctx;

    t->events.on_page(t->events.ctx, k);
}

static void on_asks_dropped(void *ctx, struct ask *k)
{
    struct thread *t = ctx;

    t->events.on_dropped(t->events.ctx, k);
}

void thread_issue(struct thread *t, const void *request_der, size_t size, struct buf *ret_reply, struct err *e)
{
    *e = (struct err){0};
    if (!t->serve || t->closing)
        err_set(e, ERR_UNAVAILABLE, "the manager is stopping");
    else
        (void)issue_own(t->serve, t->config.node_id, request_der, size, ret_reply, e); /* e says how it went */
}

void thread_set_tls(struct thread *t, struct tls *tls)
{
    if (t->serve && !t->closing)
        serve_set_tls(t->serve, tls);
    if (t->forward && !t->closing)
        forward_set_tls(t->forward, tls);
    links_set_tls(t->links, tls);
    tls_unref(t->tls);
    t->tls = tls;
}

/* --- opening --------------------------------------------------------------------------------------------- */

static int open_store(struct thread *t, struct err *e)
{
    const char *dir = arena_printf(&t->arena, "%s/store", t->config.dir);
    struct store_config config = {
        .dir = dir, .key = t->data_key, .cluster = t->cluster_id, .entropy = entropy_real()};
    int rc = dir_make(dir, 0700, e);

    if (rc == 0)
        rc = store_open(&config, &t->store, e);
    return rc == ERR_IO ? (e->code = ERR_UNAVAILABLE) : rc; /* it is rebuilt as soon as it can be made */
}

static int open_control(struct thread *t, struct err *e)
{
    struct control_config config = {
        .store = t->store,
        .replica = {.dir = arena_printf(&t->arena, "%s/raft", t->config.dir),
                    .id = t->config.raft_id,
                    .address = t->config.advertise_address,
                    .key = t->data_key,
                    .cluster = t->cluster_id,
                    .epoch = t->config.epoch,
                    .election_ms = t->config.election_ms,
                    .heartbeat_ms = t->config.heartbeat_ms,
                    .snapshot_bytes = t->config.tuning.snapshot_bytes,
                    .env = t->env},
        .clock = clock_real(),
        .entropy = entropy_real(),
        .founding = t->founding.cluster ? &t->founding : NULL,
        .orphan_ms = t->config.tuning.orphan_ms,
        .ctx = t,
        .wake = wake,
        .on_fatal = on_fatal,
        .on_removed = on_removed,
    };
    int rc = dir_make(config.replica.dir, 0700, e);

    if (rc == 0 && config.founding)
        rc = replica_bootstrap(&config.replica, e);
    if (rc == 0 && t->config.force_new_cluster) {
        config.replica.applied = store_applied(t->store);
        rc = replica_force(&config.replica, e);
    }
    if (rc == 0)
        rc = control_open(&config, &t->control, e);
    if (rc == ERR_EXISTS)
        return err_wrap(e, "found a new cluster in %s", t->config.dir);
    return rc;
}

static const char *leader_address(void *ctx)
{
    return membership_leader(((struct thread *)ctx)->membership);
}

static int open_rest(struct thread *t, struct err *e)
{
    struct dispatcher_config dispatcher = {
        .control = t->control,
        .clock = clock_real(),
        .entropy = entropy_real(),
        .registrations_per_second = t->config.tuning.registrations_per_second,
        .registrations_per_node = t->config.tuning.registrations_per_node,
        .ctx = t,
        .wake = wake,
    };

    t->watch.on_applied = on_applied;
    t->watch.on_leads = on_leads;
    t->watch.on_leader = on_leader;
    control_watch(t->control, &t->watch);
    t->dispatcher = dispatcher_new(&dispatcher);
    struct forward_config forward = {.loop = &t->loop, .tls = t->tls, .cluster_id = t->config.cluster_id};
    t->forward = forward_new(&forward);
    struct membership_config membership = {.control = t->control,
                                           .clock = clock_real(),
                                           .self = t->config.raft_id,
                                           .force = t->config.force_new_cluster,
                                           .epoch = t->config.epoch,
                                           .node_id = t->node_id,
                                           .address = t->config.advertise_address,
                                           .ctx = t,
                                           .wake = wake};
    t->membership = membership_new(&membership);
    t->rotation = rotation_new(&(struct rotation_config){.control = t->control, .ctx = t, .wake = wake});
    struct asks_config asks = {.control = t->control,
                               .dispatcher = t->dispatcher,
                               .forward = t->forward,
                               .membership = t->membership,
                               .clock = clock_real(),
                               .entropy = entropy_real(),
                               .node_id = t->config.node_id,
                               .ctx = t,
                               .leader = leader_address,
                               .wake = wake,
                               .on_page = on_asks_page,
                               .on_dropped = on_asks_dropped};
    t->asks = asks_new(&asks);
    t->relay = relay_new(&t->events.relay);
    struct serve_config serve = {.loop = &t->loop,
                                 .control = t->control,
                                 .dispatcher = t->dispatcher,
                                 .relay = t->relay,
                                 .membership = t->membership,
                                 .clock = clock_real(),
                                 .entropy = entropy_real(),
                                 .links = t->links,
                                 .cluster_id = t->config.cluster_id,
                                 .tls = t->tls};
    int rc = serve_open(&serve, &t->serve, e);
    return rc < 0 ? rc : serve_listen(t->serve, t->config.listen_address, e);
}

/* The store may lag behind: then it cannot say. What it says of a node's number may be an older one, never a later
 * one. */
static int check_manager(void *ctx, uint64_t id, const char *node_id, struct err *e)
{
    const struct thread *t = ctx;
    AUTO_ARENA struct arena a;
    uint8_t bytes[IDENT_BYTES];
    struct object object;

    arena_init(&a);
    if (!t->control)
        return 0;
    if (!ident_parse(node_id, bytes))
        return err_set(e, ERR_DENIED, "malformed node id \"%.40s\"", node_id);
    struct view *v = view_begin(t->store);
    uint64_t number = view_find_id(v, KIND_NODE, bytes);
    int rc = number ? view_get(v, KIND_NODE, number, &a, &object) : ERR_NOT_FOUND;
    view_end(v);
    const Node *node = rc == 0 ? (const Node *)object.message : NULL;
    uint64_t known = node && node->manager ? node->manager->raft_id : 0;
    return known <= id ? 0
                       : err_set(e, ERR_DENIED, "node %s is manager %llu of the group, not %llu", node_id,
                                 (unsigned long long)known, (unsigned long long)id);
}

static void open_links(struct thread *t)
{
    struct links_config config = {.loop = &t->loop,
                                  .clock = clock_real(),
                                  .entropy = entropy_real(),
                                  .tls = t->tls,
                                  .cluster_id = t->config.cluster_id,
                                  .address = t->config.advertise_address,
                                  .id = t->config.raft_id,
                                  .epoch = t->config.epoch,
                                  .ctx = t,
                                  .check = check_manager};

    t->links = links_new(&config);
    t->env = replica_env_real(&t->loop, t->links);
}

static void open_all(struct thread *t)
{
    struct err e;
    int rc;

    t->alone_at_ms = clock_mono_ms(clock_real()) + ALONE_MS;
    open_links(t);
    rc = open_store(t, &e);
    if (rc == 0)
        rc = open_control(t, &e);
    if (rc == 0)
        rc = open_rest(t, &e);
    if (rc < 0)
        stop(t, &e);
    else
        wake(t);
}

/* --- closing --------------------------------------------------------------------------------------------- */

static void on_inbox_closed(struct mailbox *m)
{
    (void)m; /* the last handle: the loop ends */
}

static void on_links_closed(void *ctx)
{
    struct thread *t = ctx;

    mailbox_close(&t->inbox, on_inbox_closed);
}

static void on_control_closed(void *ctx)
{
    struct thread *t = ctx;

    dispatcher_free(t->dispatcher);
    membership_free(t->membership);
    rotation_free(t->rotation);
    asks_free(t->asks);
    serve_free(t->serve);
    news_free(t->news);
    store_close(t->store);
    replica_env_real_free(t->env);
    uv_close((uv_handle_t *)&t->turn, NULL);
    uv_close((uv_handle_t *)&t->timer, NULL);
    links_close(t->links, on_links_closed, t);
}

static void close_control(void *ctx)
{
    struct thread *t = ctx;

    if (t->control)
        control_close(t->control, on_control_closed, t);
    else
        on_control_closed(t);
}

static void close_forward(void *ctx)
{
    struct thread *t = ctx;

    if (t->forward)
        forward_close(t->forward, close_control, t);
    else
        close_control(t);
}

static void close_now(struct thread *t)
{
    t->closing = true;
    uv_idle_stop(&t->turn);
    uv_timer_stop(&t->timer);
    if (t->serve)
        serve_close(t->serve, close_forward, t);
    else
        close_forward(t);
}

static void on_handed_over(void *ctx, const struct err *e)
{
    struct thread *t = ctx;

    if (e->code)
        log_warn("the leadership was not handed over", "error=\"%s\"", e->text);
    else
        log_info("the leadership was handed over before stopping", "manager=%llu",
                 (unsigned long long)t->config.raft_id);
    t->handed_over = true;
    t->leave_by_ms = MIN(t->leave_by_ms, clock_mono_ms(clock_real()) + ELECTED_MS);
    wake(t);
}

/* Our vote is still needed for the next leader, so stay until it is known. */
static void leave_turn(struct thread *t)
{
    uint64_t leader = replica_leader(control_replica(t->control), NULL);

    if ((t->handed_over && leader && leader != t->config.raft_id) ||
        clock_mono_ms(clock_real()) >= t->leave_by_ms) {
        close_now(t);
        return;
    }
    uv_update_time(&t->loop);
    uv_timer_start(&t->timer, on_timer, LEAVE_TURN_MS, 0);
}

/* A leader that stops on purpose hands over first, which takes the others a few round trips instead of an election.
 */
static bool hand_over(struct thread *t)
{
    struct replica *r = t->control && !t->stopped ? control_replica(t->control) : NULL;
    struct replica_member members[64];
    size_t count = r ? replica_members(r, members, ARRAY_SIZE(members)) : 0;
    bool others = false;

    for (size_t i = 0; i < count; i++)
        others |= members[i].voter && members[i].id != t->config.raft_id && members[i].heard_ms >= 0 &&
                  members[i].heard_ms < LEAVE_MS;
    if (!others || replica_state(r) != REPLICA_LEADER || replica_transfer(r, 0, on_handed_over, t, NULL) < 0)
        return false;
    t->leaving = true;
    t->leave_by_ms = clock_mono_ms(clock_real()) + LEAVE_MS;
    wake(t);
    return true;
}

void thread_close(struct thread *t)
{
    struct err e;

    assert(!t->closing && !t->leaving);
    err_set(&e, ERR_UNAVAILABLE, "the manager is stopping");
    if (t->asks)
        asks_end(t->asks, &e);
    if (!hand_over(t))
        close_now(t);
}

/* --- the thread ------------------------------------------------------------------------------------------ */

static void *run(void *arg)
{
    struct thread *t = arg;

    open_all(t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&t->loop);
    assert(rc == 0);
    (void)rc;
    t->events.on_finished(t->events.ctx);
    return NULL;
}

static void copy_config(struct thread *t, const struct manager_config *config)
{
    struct manager_config *own = &t->config;
    struct arena *a = &t->arena;

    own->dir = arena_strdup(a, config->dir);
    own->listen_address = arena_strdup(a, config->listen_address);
    own->advertise_address = arena_strdup(a, config->advertise_address);
    own->node_id = arena_strdup(a, config->node_id);
    own->cluster_id = arena_strdup(a, config->cluster_id);
    own->raft_id = config->raft_id;
    own->force_new_cluster = config->force_new_cluster;
    own->epoch = config->epoch;
    own->election_ms = config->election_ms;
    own->heartbeat_ms = config->heartbeat_ms;
    own->tuning = config->tuning;
    memcpy(t->data_key, config->data_key, sizeof(t->data_key));
    if (!config->bootstrap)
        return;
    Cluster *cluster = arena_message(a, &config->bootstrap->base);
    if (cluster->root_ca && !cluster->root_ca->has_key_pem && config->root_key_pem) {
        size_t size = strlen(config->root_key_pem);

        cluster->root_ca->has_key_pem = true;
        cluster->root_ca->key_pem = (ProtobufCBinaryData){size, arena_dup(a, config->root_key_pem, size)};
    }
    t->founding = (struct control_founding){
        .cluster = cluster,
        .node_id = t->node_id,
        .node = config->description ? arena_message(a, &config->description->base) : NULL,
        .availability = config->availability,
        .raft_id = MANAGER_RAFT_ID_FIRST,
        .manager_address = own->advertise_address,
    };
}

static int init_loop(struct thread *t, struct err *e)
{
    int rc = uv_loop_init(&t->loop);

    if (rc < 0)
        return err_number(e, -rc, "make the manager's loop");
    rc = mailbox_open(&t->inbox, &t->loop, t);
    if (rc < 0) {
        (void)uv_loop_close(&t->loop); /* nothing is on it */
        return err_set(e, rc, "open the manager's mailbox: %s", err_name(rc));
    }
    uv_idle_init(&t->loop, &t->turn);
    uv_timer_init(&t->loop, &t->timer);
    t->turn.data = t->timer.data = t;
    return 0;
}

static void thread_free(struct thread *t)
{
    relay_free(t->relay);
    tls_unref(t->tls);
    mem_wipe(t->data_key, sizeof(t->data_key));
    arena_fini(&t->arena);
    free(t);
}

/* Signals are the node's. */
static int start(struct thread *t, struct err *e)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&t->pthread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : err_number(e, rc, "start the manager's thread");
}

int thread_start(const struct manager_config *config, const struct thread_events *events, struct thread **ret,
                 struct err *e)
{
    struct thread *t = mem_alloc(sizeof(*t));
    int rc = 0;

    arena_init(&t->arena);
    t->events = *events;
    copy_config(t, config);
    if (!ident_parse(config->cluster_id, t->cluster_id))
        rc = err_set(e, ERR_INVALID, "malformed cluster id \"%.40s\"", config->cluster_id);
    else if (!ident_parse(config->node_id, t->node_id))
        rc = err_set(e, ERR_INVALID, "malformed node id \"%.40s\"", config->node_id);
    if (rc == 0)
        rc = tls_new(config->certificate_pem, config->key_pem, config->root_pem, &t->tls, e);
    if (rc == 0)
        rc = init_loop(t, e);
    if (rc == 0) {
        rc = start(t, e);
        if (rc < 0)
            abort(); /* out of threads or memory: there is no loop to close the handles on */
    }
    if (rc < 0) {
        thread_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

void thread_join(struct thread *t)
{
    pthread_join(t->pthread, NULL);
    thread_free(t);
}

struct mailbox *thread_inbox(struct thread *t)
{
    return &t->inbox;
}
