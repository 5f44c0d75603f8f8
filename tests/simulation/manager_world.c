/* See manager_world.h: time, the managers' environments, their lives. */
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/raft/member.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"
#include "tests/simulation/spoil.h"

static const uint8_t key[SEAL_KEY] = "the data key of the simulation", cluster_id[16] = "simulated clust";

/* --- chance, time
 * --------------------------------------------------------------------------------------------------- */

uint64_t msim_below(struct msim *w, uint64_t limit)
{
    return entropy_below(&w->random.base, limit);
}

bool msim_chance(struct msim *w, unsigned percent)
{
    return msim_below(w, 100) < percent;
}

void msim_fail(struct msim *w, const char *checker, const char *fmt, ...)
{
    char text[400];
    va_list args;

    if (*w->failure)
        return; /* the first one counts */
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)snprintf(w->failure, sizeof(w->failure), "%s: %s (at %" PRId64 " us)", checker, text, w->now_us);
}

bool msim_broken(const struct msim *w)
{
    return *w->failure != '\0';
}

/* Events of one time happen in the order in which they were scheduled: the number is the low part of the key. */
void msim_schedule(struct msim *w, int64_t after_us, struct msim_event e)
{
    struct msim_event *copy = mem_alloc(sizeof(*copy));

    *copy = e;
    copy->due = (struct heap_item){0};
    heap_put(&w->events, &copy->due,
             (w->now_us + MAX(after_us, (int64_t)0)) << 20 | (int64_t)(w->event_number++ & 0xfffff));
}

static bool lives(const struct msim *w, const struct msim_event *e)
{
    return !e->manager || (w->managers[e->manager].up && w->managers[e->manager].life == e->life);
}

static void reap(struct msim *w);

bool msim_step(struct msim *w, int64_t until_us)
{
    struct heap_item *first = heap_first(&w->events);

    if (!first || first->key >> 20 > until_us) {
        w->now_us = MAX(w->now_us, until_us);
        return false;
    }
    struct msim_event *e = container_of(first, struct msim_event, due);
    heap_remove(&w->events, first);
    w->now_us = MAX(w->now_us, first->key >> 20);
    w->counts.events++;
    if (lives(w, e))
        e->fire(w, e);
    free(e->pointer);
    free(e);
    reap(w);
    return true;
}

void msim_run(struct msim *w, int64_t for_us)
{
    int64_t until = w->now_us + for_us;

    while (!msim_broken(w) && msim_step(w, until))
        ;
}

/* --- a manager's environment
 * ------------------------------------------------------------------------------------------ */

static struct msim_manager *of_env(struct replica_env *env)
{
    return container_of(env, struct msim_manager, env);
}

struct disk *disk_of(struct replica_env *env)
{
    return &of_env(env)->disk;
}

static int64_t mono_us(struct clock *c)
{
    struct msim_manager *m = container_of(c, struct msim_manager, clock);

    m->clock_offset_us += m->read_us;
    return m->clock_offset_us + m->world->now_us;
}

static int64_t wall_ms(struct clock *c)
{
    struct msim_manager *m = container_of(c, struct msim_manager, clock);

    return 1800000000000 + m->world->now_us / 1000 + m->wall_skew_ms;
}

static void later(struct msim_manager *m, int64_t after_us, void (*fire)(struct msim *w, struct msim_event *e),
                  uint64_t number)
{
    msim_schedule(m->world, after_us,
                  (struct msim_event){.fire = fire, .manager = (unsigned)m->id, .life = m->life, .number = number});
}

static void attach(struct replica_env *env, const struct env_events *events)
{
    of_env(env)->events = *events;
}

static void detach(struct replica_env *env, void (*closed)(void *ctx), void *ctx)
{
    of_env(env)->closed = closed;
    of_env(env)->closed_ctx = ctx;
}

static void fire_wake(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];

    m->woken = false;
    m->events.on_wake(m->events.ctx);
}

static void env_wake(struct replica_env *env)
{
    struct msim_manager *m = of_env(env);

    if (m->woken)
        return;
    m->woken = true;
    later(m, (int64_t)msim_below(m->world, 40), fire_wake, 0);
}

static void fire_timer(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];

    if (m->timer == e->number)
        m->events.on_timer(m->events.ctx);
}

static void env_timer(struct replica_env *env, int64_t at_ms)
{
    struct msim_manager *m = of_env(env);

    m->timer++;
    if (at_ms >= 0 && at_ms < INT64_MAX / 1000)
        later(m, at_ms * 1000 - mono_us(&m->clock), fire_timer, m->timer);
}

static void lane_next(struct msim_manager *m, enum env_lane lane);

static void fire_done(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];
    struct env_job *job = list_entry(list_pop(&m->done), struct env_job, link);

    job->done(job);
}

static void fire_lane(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];
    enum env_lane lane = (enum env_lane)e->number;
    struct env_job *job = list_entry(list_pop(&m->jobs[lane]), struct env_job, link);

    list_push(&m->done, &job->link);
    job->work(job);
    later(m, (int64_t)msim_below(w, 30), fire_done, 0);
    m->running[lane] = false;
    lane_next(m, lane);
}

static void lane_next(struct msim_manager *m, enum env_lane lane)
{
    if (m->running[lane] || list_empty(&m->jobs[lane]))
        return;
    m->running[lane] = true;
    later(m, 200 + (int64_t)msim_below(m->world, 1500), fire_lane, lane);
}

static void env_post(struct replica_env *env, enum env_lane lane, struct env_job *job)
{
    struct msim_manager *m = of_env(env);

    list_push(&m->jobs[lane], &job->link);
    lane_next(m, lane);
}

static void fire_message(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->life]; /* for whoever lives there when it arrives */

    if (m->up && !w->cut[m->id] && !w->cut[e->number])
        m->events.on_message(m->events.ctx, e->number, e->pointer, e->size);
}

static void env_send(struct replica_env *env, uint64_t to, const char *address, enum env_channel channel,
                     const void *data, size_t size)
{
    struct msim_manager *m = of_env(env);
    struct msim *w = m->world;

    (void)address; /* links are by id */
    (void)channel;
    if (to == 0 || to > w->manager_count || w->cut[to] || w->cut[m->id] || (w->faults && msim_chance(w, 1)))
        return;
    msim_schedule(
        w, 100 + (int64_t)msim_below(w, 2000),
        (struct msim_event){
            .fire = fire_message, .life = to, .number = m->id, .pointer = mem_dup(data, size), .size = size});
}

static void env_init(struct msim_manager *m)
{
    m->clock = (struct clock){.mono_us = mono_us, .wall_ms = wall_ms};
    entropy_seeded_init(&m->entropy, entropy_u64(&m->world->random.base));
    m->env = (struct replica_env){.clock = &m->clock,
                                  .entropy = &m->entropy.base,
                                  .attach = attach,
                                  .detach = detach,
                                  .post = env_post,
                                  .wake = env_wake,
                                  .timer = env_timer,
                                  .send = env_send};
    disk_serve(&m->env);
    for (int i = 0; i < ENV_LANES; i++) {
        list_init(&m->jobs[i]);
        m->running[i] = false;
    }
    list_init(&m->done);
    m->woken = m->turn_due = false;
    m->closed = NULL;
}

/* --- the control loop
 * ------------------------------------------------------------------------------------------------- */

static void turn(struct msim_manager *m);

static void fire_turn(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->manager];

    if (m->turn == e->number)
        turn(m);
}

static void turn_in(struct msim_manager *m, int64_t after_us)
{
    later(m, after_us, fire_turn, ++m->turn);
}

static void turn(struct msim_manager *m)
{
    m->turn_due = false;
    int64_t wait = control_turn(m->control);
    if (msim_below(m->world, 4) == 0) /* it looks at everything: now and then is enough to find the step */
        msim_check_index(m);
    if (wait >= 0 && !m->turn_due)
        turn_in(m, wait * 1000 + (wait == 0));
}

static void on_control_wake(void *ctx)
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

static void on_applied(struct control_watch *watch, uint64_t index)
{
    (void)index; /* the checkers ask the store */
    msim_check_applied(container_of(watch, struct msim_manager, watch));
}

static void on_leads(struct control_watch *watch, bool leads)
{
    container_of(watch, struct msim_manager, watch)->world->counts.elections += leads;
}

/* --- lives
 * ---------------------------------------------------------------------------------------------------------------
 */

static struct replica_config replica_config(struct msim_manager *m, char address[16])
{
    (void)snprintf(address, 16, "m%" PRIu64 ":2377", m->id);
    return (struct replica_config){.dir = "raft",
                                   .id = m->id,
                                   .address = address,
                                   .key = key,
                                   .cluster = cluster_id,
                                   .epoch = 1,
                                   .segment_bytes = 64 * 1024,
                                   .snapshot_bytes = 128 * 1024,
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

static const struct control_founding *founding(struct msim *w)
{
    static Cluster cluster = CLUSTER__INIT;
    static const uint8_t node_id[16] = "the first node";
    static const struct control_founding f = {.cluster = &cluster,
                                              .node_id = node_id,
                                              .raft_id = 1,
                                              .manager_address = "m1:2377",
                                              .availability = NODE_AVAILABILITY__DRAIN};

    (void)w; /* every world is founded alike */
    cluster.id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)cluster_id};
    return &f;
}

static void fire_start(struct msim *w, struct msim_event *e)
{
    msim_start(w, e->number);
}

static void start_later(struct msim *w, uint64_t id)
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

void msim_start(struct msim *w, uint64_t id)
{
    struct msim_manager *m = &w->managers[id];
    char address[16];
    struct err e;

    if (m->up || msim_broken(w))
        return;
    disk_restart(&m->disk);
    m->life++;
    m->read_us = msim_chance(w, 30) ? 20 + (int64_t)msim_below(w, 200) : 0;
    env_init(m);
    spoil_store(m);
    m->suspected = false;
    if (!open_store(m))
        return;
    m->fatal = (struct err){0};
    m->fed = store_applied(m->store);
    struct control_config config = {.store = m->store,
                                    .replica = replica_config(m, address),
                                    .clock = &m->clock,
                                    .entropy = &m->entropy.base,
                                    .founding = id == 1 ? founding(w) : NULL,
                                    .ctx = m,
                                    .wake = on_control_wake,
                                    .on_fatal = on_fatal};
    m->up = true;
    if (control_open(&config, &m->control, &e) < 0) {
        m->up = false;
        store_close(m->store);
        if (m->disk.broken || m->disk.full)
            start_later(w, id);
        else
            msim_fail(w, "open", "manager %" PRIu64 ": %s", id, e.text);
        return;
    }
    m->watch = (struct control_watch){.on_applied = on_applied, .on_leads = on_leads};
    control_watch(m->control, &m->watch);
    msim_check_opened(m);
}

static void on_closed(void *ctx)
{
    ((struct msim_manager *)ctx)->control_closed = true;
}

/* Run everything that is left of a life, without time passing, until it has closed. Its disk answers nothing. */
static void drain(struct msim_manager *m)
{
    struct list *link;

    while (!m->closed || !list_empty(&m->done) || !list_empty(&m->jobs[0]) || !list_empty(&m->jobs[1])) {
        m->woken = false;
        if (!m->closed)
            m->events.on_wake(m->events.ctx);
        for (int lane = 0; lane < ENV_LANES; lane++)
            while ((link = list_pop(&m->jobs[lane]))) {
                struct env_job *job = list_entry(link, struct env_job, link);

                list_push(&m->done, &job->link);
                job->work(job);
            }
        while ((link = list_pop(&m->done))) {
            struct env_job *job = list_entry(link, struct env_job, link);

            job->done(job);
        }
    }
    m->closed(m->closed_ctx);
}

void msim_crash(struct msim *w, uint64_t id, bool power)
{
    struct msim_manager *m = &w->managers[id];

    if (!m->up)
        return;
    disk_crash(&m->disk, power);
    w->counts.crashes++;
    m->up = false; /* nothing it still does is looked at */
    m->control_closed = false;
    control_unwatch(m->control, &m->watch);
    control_close(m->control, on_closed, m);
    drain(m);
    assert(m->control_closed);
    m->control = NULL;
    store_close(m->store);
    m->store = NULL;
    if (m->disk.power)
        m->boot++;
}

/* Whether what it was told is a reason to stop, and the right one. */
static bool may_stop(const struct msim_manager *m)
{
    if (m->disk.crashed || m->disk.broken)
        return true;
    return m->suspected && m->fatal.code == ERR_UNAVAILABLE; /* the node opens it again */
}

/* A life may have ended inside an event: in an operation on its disk. */
static void reap(struct msim *w)
{
    for (unsigned id = 1; id <= w->manager_count; id++) {
        struct msim_manager *m = &w->managers[id];

        if (!m->up)
            continue;
        if (m->fatal.code && !may_stop(m))
            msim_fail(w, "open", "manager %u stopped by itself: %s", id, m->fatal.text);
        if (!m->fatal.code && !m->disk.crashed)
            continue;
        msim_crash(w, id, m->disk.power);
        start_later(w, id);
    }
}

struct msim_manager *msim_leader(struct msim *w)
{
    for (unsigned id = 1; id <= w->manager_count; id++)
        if (w->managers[id].up && control_leads(w->managers[id].control))
            return &w->managers[id];
    return NULL;
}

/* --- joining
 * -------------------------------------------------------------------------------------------------------------- */

static void nothing(void *ctx, const struct err *e)
{
    (void)ctx; /* whether it worked is looked at again */
    (void)e;
}

static bool is_member(struct replica *r, uint64_t id, bool *ret_voter)
{
    struct replica_member members[MSIM_MANAGERS + 1];
    size_t count = replica_members(r, members, ARRAY_SIZE(members));

    for (size_t i = 0; i < count; i++)
        if (members[i].id == id) {
            *ret_voter = members[i].voter;
            return true;
        }
    return false;
}

static void fire_join(struct msim *w, struct msim_event *e)
{
    struct msim_manager *leader = msim_leader(w);
    bool voter = false, all = true;

    for (unsigned id = 2; id <= w->manager_count; id++) {
        char address[16];
        bool member = leader && is_member(control_replica(leader->control), id, &voter);

        all &= member && voter;
        (void)snprintf(address, sizeof(address), "m%u:2377", id);
        if (leader && !member)
            (void)replica_member_add(control_replica(leader->control), id, address, nothing, NULL, NULL);
        else if (leader && !voter)
            (void)replica_member_promote(control_replica(leader->control), id, nothing, NULL, NULL);
    }
    (void)e;
    if (!all)
        msim_schedule(w, 100000, (struct msim_event){.fire = fire_join});
}

void msim_join(struct msim *w)
{
    for (unsigned id = 2; id <= w->manager_count; id++)
        msim_start(w, id);
    if (w->manager_count > 1)
        msim_schedule(w, 1000, (struct msim_event){.fire = fire_join});
}

/* --- the whole
 * ------------------------------------------------------------------------------------------------------------- */

static void manager_make(struct msim *w, unsigned id, const char *dir)
{
    struct msim_manager *m = &w->managers[id];
    char address[16];
    struct err e;

    m->world = w;
    m->id = id;
    m->made = true;
    m->clock_offset_us = (int64_t)msim_below(w, 1000000000);
    m->wall_skew_ms = (int64_t)msim_below(w, 4000) - 2000;
    disk_init(&m->disk, &w->random.base);
    (void)snprintf(m->dir, sizeof(m->dir), "%s/m%u", dir, id);
    if (dir_make(m->dir, 0700, &e) < 0)
        msim_fail(w, "open", "%s", e.text);
    if (id != 1)
        return;
    env_init(m);
    struct replica_config config = replica_config(m, address);
    if (replica_bootstrap(&config, &e) < 0)
        msim_fail(w, "open", "bootstrap: %s", e.text);
}

struct msim *msim_new(uint64_t seed, unsigned managers, const char *dir)
{
    struct msim *w = mem_alloc(sizeof(*w));

    w->seed = seed;
    entropy_seeded_init(&w->random, seed);
    w->now_us = 1000000;
    w->manager_count = managers;
    for (unsigned id = 1; id <= managers; id++)
        manager_make(w, id, dir);
    actors_make(w);
    return w;
}

void msim_free(struct msim *w)
{
    struct heap_item *first;

    for (unsigned id = 1; id <= w->manager_count; id++) {
        msim_crash(w, id, false);
        disk_fini(&w->managers[id].disk);
        (void)tree_remove(AT_FDCWD, w->managers[id].dir, NULL);
    }
    while ((first = heap_first(&w->events))) {
        struct msim_event *e = container_of(first, struct msim_event, due);

        heap_remove(&w->events, first);
        free(e->pointer);
        free(e);
    }
    heap_fini(&w->events);
    actors_free(w);
    map64_fini(&w->digests);
    map64_fini(&w->states);
    free(w);
}
