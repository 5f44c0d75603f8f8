/* See manager_world.h: a manager's life. It opens what its disk and its store hold, turns, and dies: killed, with
 * its power, or by itself for a reason that is checked. What it does while it dies reaches nobody. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/dispatcher.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_conn.h"
#include "tests/simulation/spoil.h"

static const uint8_t key[SEAL_KEY] = "the data key of the simulation", cluster_id[16] = "simulated clust";

/* --- the control loop ------------------------------------------------------------------------------- */

static void turn(struct msim_manager *m);

static void fire_turn(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];

    if (m->turn == e->number)
        turn(m);
}

static void turn_in(struct msim_manager *m, int64_t after_us)
{
    msim_later(m, after_us, fire_turn, ++m->turn);
}

static int64_t sooner(int64_t a_ms, int64_t b_ms)
{
    return a_ms < 0 || (b_ms >= 0 && b_ms < a_ms) ? b_ms : a_ms;
}

static void turn(struct msim_manager *m)
{
    m->turn_due = false;
    int64_t wait = control_turn(m->control);
    wait = sooner(wait, dispatcher_turn(m->dispatcher));
    wait = sooner(wait, membership_turn(m->membership));
    m->force &= !membership_settled(m->membership);
    if (msim_below(m->world, 16) == 0) /* it looks at everything: now and then is enough to find the step */
        msim_check_index(m);
    if (wait >= 0 && !m->turn_due)
        turn_in(m, wait * 1000 + (wait == 0));
}

static void on_wake(void *ctx)
{
    struct msim_manager *m = ctx;

    if (m->turn_due)
        return;
    m->turn_due = true;
    turn_in(m, (int64_t)msim_below(m->world, 20));
}

static void on_fatal(void *ctx, const struct err *e)
{
    ((struct msim_manager *)ctx)->fatal = *e;
}

static void on_removed(void *ctx)
{
    struct msim_manager *m = ctx;

    m->world->counts.told_removed += !m->removed;
    m->removed = true;
}

static void on_applied(struct control_watch *watch, uint64_t index)
{
    struct msim_manager *m = container_of(watch, struct msim_manager, watch);

    (void)index; /* the checkers ask the store */
    msim_check_applied(m);
    on_wake(m);
}

static void on_leads(struct control_watch *watch, bool leads)
{
    struct msim_manager *m = container_of(watch, struct msim_manager, watch);

    if (leads)
        msim_check_leads(m);
    on_wake(m);
}

/* --- opening ---------------------------------------------------------------------------------------- */

static struct replica_config replica_config(struct msim_manager *m)
{
    return (struct replica_config){.dir = "raft",
                                   .id = m->id,
                                   .address = m->address,
                                   .key = key,
                                   .cluster = cluster_id,
                                   .epoch = 1 + m->epoch,
                                   .segment_bytes = m->world->options.segment_bytes,
                                   .snapshot_bytes = m->world->options.snapshot_bytes,
                                   .env = &m->env};
}

static bool open_store(struct msim_manager *m)
{
    char boot[32];
    struct err e;

    (void)snprintf(boot, sizeof(boot), "boot-%" PRIu64, m->boot);
    struct store_config config = {.dir = m->dir,
                                  .key = key,
                                  .cluster = cluster_id,
                                  .boot_id = boot,
                                  .map_bytes = 1 << 20,
                                  .reserve_bytes = 256 << 10,
                                  .entropy = &m->entropy.base};
    if (store_open(&config, &m->store, &e) == 0)
        return true;
    msim_fail(m->world, "open", "manager %" PRIu64 ": %s", m->id, e.text);
    return false;
}

static const struct control_founding *founding(void)
{
    static Cluster cluster = CLUSTER__INIT;
    static ClusterSpec spec = CLUSTER_SPEC__INIT;
    static const uint8_t node_id[16] = "the first node";
    static const struct control_founding f = {.cluster = &cluster,
                                              .node_id = node_id,
                                              .raft_id = 1,
                                              .manager_address = "m1:2377",
                                              .availability = NODE_AVAILABILITY__DRAIN};

    spec.has_heartbeat_period_ns = true;
    spec.heartbeat_period_ns = 300000000;
    cluster.spec = &spec;
    cluster.id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)cluster_id};
    return &f;
}

static void fire_start(struct msim *w, struct msim_event *e)
{
    msim_start(w, e->number);
}

void msim_start_later(struct msim *w, uint64_t id)
{
    msim_schedule(w, 5000 + (int64_t)msim_below(w, 100000), (struct msim_event){.fire = fire_start, .number = id});
}

/* While a manager is down its store may be lost or damaged: it is a view of the log. */
static void spoil_store(struct msim_manager *m)
{
    struct msim *w = m->world;
    char path[128];

    if (!w->spoil || !msim_chance(w, 40))
        return;
    (void)snprintf(path, sizeof(path), "%s/store.mdb", m->dir);
    w->counts.spoiled++;
    if (!spoil_file(path, &w->random.base))
        msim_fail(w, "open", "cannot damage %s", path);
}

/* A record that does not open any more: the next change set finds out. */
void msim_suspect(struct msim *w, uint64_t id)
{
    struct msim_manager *m = &w->managers[id];

    if (!m->up)
        return;
    w->counts.suspected++;
    m->suspected = true;
    spoil_open_store(m->store);
}

static bool open_control(struct msim_manager *m)
{
    struct err e;
    struct control_config config = {.store = m->store,
                                    .replica = replica_config(m),
                                    .clock = &m->clock,
                                    .entropy = &m->entropy.base,
                                    .founding = m->id == 1 ? founding() : NULL,
                                    .orphan_ms = m->world->options.orphan_ms,
                                    .ctx = m,
                                    .wake = on_wake,
                                    .on_fatal = on_fatal,
                                    .on_removed = on_removed};

    int rc = 0;
    if (m->force) {
        config.replica.applied = store_applied(m->store);
        rc = replica_force(&config.replica, &e);
    }
    if (rc == 0 && control_open(&config, &m->control, &e) == 0)
        return true;
    store_close(m->store);
    if (m->disk.broken || m->disk.full || m->disk.crashed)
        msim_start_later(m->world, m->id);
    else
        msim_fail(m->world, "open", "manager %" PRIu64 ": %s", m->id, e.text);
    return false;
}

static void open_rest(struct msim_manager *m)
{
    struct membership_config membership = {.control = m->control,
                                           .clock = &m->clock,
                                           .self = m->id,
                                           .force = m->force,
                                           .epoch = m->epoch,
                                           .node_id = m->node_id,
                                           .address = m->address,
                                           .ctx = m,
                                           .wake = on_wake};

    struct dispatcher_config dispatcher = {.control = m->control,
                                           .clock = &m->clock,
                                           .entropy = &m->entropy.base,
                                           .registrations_per_node = 20,
                                           .ctx = m,
                                           .wake = on_wake};

    m->dispatcher = dispatcher_new(&dispatcher);
    m->membership = membership_new(&membership);
}

void msim_start(struct msim *w, uint64_t id)
{
    struct msim_manager *m = &w->managers[id];

    if (!m->made || m->up || m->gone || msim_broken(w))
        return;
    disk_restart(&m->disk);
    m->life++;
    m->read_us = msim_chance(w, 30) ? 20 + (int64_t)msim_below(w, 200) : 0;
    msim_env_init(m);
    spoil_store(m);
    m->suspected = false;
    if (!open_store(m))
        return;
    m->fatal = (struct err){0};
    m->paused_until_us = 0;
    m->fed = store_applied(m->store);
    m->up = true; /* while it opens, too, it lives */
    m->up = open_control(m);
    if (!m->up)
        return;
    open_rest(m);
    m->watch = (struct control_watch){.on_applied = on_applied, .on_leads = on_leads};
    control_watch(m->control, &m->watch);
    msim_check_opened(m);
}

/* --- dying ------------------------------------------------------------------------------------------ */

static void on_closed(void *ctx)
{
    ((struct msim_manager *)ctx)->control_closed = true;
}

static void add_counts(struct msim_manager *m)
{
    struct msim_counts *c = &m->world->counts;
    struct control_stats control;
    struct replica_stats raft;

    control_stats(m->control, &control);
    replica_stats(control_replica(m->control), &raft);
    c->drafts_lost += control.lost;
    c->snapshots += raft.snapshots;
    c->installs += raft.installs;
    c->cuts += raft.cuts;
    c->restarts += raft.restarts;
    c->fetches += raft.fetches;
}

static void fire_gone(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];

    if (!w->managers[e->number].up)
        m->events.on_gone(m->events.ctx, e->number);
}

/* Those who had a link to it see it close, and that nobody answers there. */
static void tell_gone(struct msim_manager *dead)
{
    struct msim *w = dead->world;

    for (unsigned id = 1; id <= w->manager_count; id++)
        if (w->managers[id].up && msim_connected(w, id, (unsigned)dead->id))
            msim_later(&w->managers[id], 200 + (int64_t)msim_below(w, 3000), fire_gone, dead->id);
}

void msim_crash(struct msim *w, uint64_t id, bool power)
{
    struct msim_manager *m = &w->managers[id];

    if (!m->up)
        return;
    disk_crash(&m->disk, power);
    w->counts.crashes++;
    w->counts.powers += m->disk.power;
    add_counts(m);
    m->up = false; /* nothing it still does is looked at */
    m->control_closed = false;
    conns_end_of(m);
    control_unwatch(m->control, &m->watch);
    control_close(m->control, on_closed, m);
    msim_env_drain(m);
    assert(m->control_closed);
    m->control = NULL;
    dispatcher_free(m->dispatcher);
    membership_free(m->membership);
    m->dispatcher = NULL;
    m->membership = NULL;
    store_close(m->store);
    m->store = NULL;
    if (m->disk.power)
        m->boot++;
    else
        tell_gone(m);
}

/* Whether what it was told is a reason to stop, and the right one. */
static bool may_stop(const struct msim_manager *m)
{
    if (m->disk.crashed || m->disk.broken)
        return true;
    return m->suspected && m->fatal.code == ERR_UNAVAILABLE; /* the node opens it again */
}

void msim_reap(struct msim *w)
{
    for (unsigned id = 1; id <= w->manager_count; id++) {
        struct msim_manager *m = &w->managers[id];

        if (!m->up)
            continue;
        if (m->fatal.code && !may_stop(m))
            msim_fail(w, "open", "manager %u stopped by itself: %s", id, m->fatal.text);
        if (!m->fatal.code && !m->disk.crashed)
            continue;
        w->counts.inside += m->disk.crashed;
        msim_crash(w, id, m->disk.power);
        msim_start_later(w, id);
    }
}

struct msim_manager *msim_leader(struct msim *w)
{
    struct msim_manager *best = NULL;

    for (unsigned id = 1; id <= w->manager_count; id++) {
        struct msim_manager *m = &w->managers[id];

        if (!m->up || !control_leads(m->control))
            continue;
        w->counts.rivals_lead += best != NULL; /* one of them does not know yet that it was replaced */
        if (!best || replica_term(control_replica(m->control)) > replica_term(control_replica(best->control)))
            best = m;
    }
    return best;
}

void msim_force(struct msim *w, struct msim_manager *survivor, uint64_t stale)
{
    w->counts.forced++;
    for (unsigned id = 1; id <= w->manager_count; id++) {
        msim_crash(w, id, msim_chance(w, 50));
        w->managers[id].gone = id != survivor->id && id != stale;
    }
    survivor->epoch = ++w->epoch;
    survivor->force = true;
    if (msim_chance(w, 50)) /* and dies once more while it does so */
        survivor->disk.crash_at = survivor->disk.operations + 1 + msim_below(w, 80);
    msim_start(w, survivor->id);
    if (stale)
        msim_schedule(w, 1000000, (struct msim_event){.fire = fire_start, .number = stale});
}

/* --- making ----------------------------------------------------------------------------------------- */

struct msim_manager *msim_make(struct msim *w, uint64_t id, const uint8_t node_id[16])
{
    struct msim_manager *m = &w->managers[id];
    struct err e;

    assert(id > 0 && id <= MSIM_MANAGERS && !m->made);
    m->world = w;
    m->id = id;
    m->made = true;
    m->epoch = w->epoch;
    memcpy(m->node_id, node_id, sizeof(m->node_id));
    w->manager_count = MAX(w->manager_count, (unsigned)id);
    m->clock_offset_us = (int64_t)msim_below(w, 1000000000);
    m->clock_drift = (int)msim_below(w, 21) - 10;
    m->wall_skew_ms = (int64_t)msim_below(w, 4000) - 2000;
    m->disk_min_us = 200;
    m->disk_max_us = 1700;
    disk_init(&m->disk, &w->random.base);
    (void)snprintf(m->address, sizeof(m->address), "m%" PRIu64 ":2377", id);
    (void)snprintf(m->dir, sizeof(m->dir), "%s/m%" PRIu64, w->dir, id);
    if (dir_make(m->dir, 0700, &e) < 0)
        msim_fail(w, "open", "%s", e.text);
    if (id > 1)
        return m;
    msim_env_init(m);
    struct replica_config config = replica_config(m);
    if (replica_bootstrap(&config, &e) < 0)
        msim_fail(w, "open", "bootstrap: %s", e.text);
    return m;
}
