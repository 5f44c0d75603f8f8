/* See raft_world.h. Here: time, events, the environment of a member, the network, lives. The stand-in store and the
 * checkers are in raft_check.c. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tests/simulation/raft_check.h"
#include "tests/simulation/raft_world.h"

uint64_t raftsim_random(struct world *w, uint64_t low, uint64_t high)
{
    return low + entropy_below(&w->entropy.base, high - low + 1);
}

bool raftsim_chance(struct world *w, unsigned in)
{
    return entropy_below(&w->entropy.base, in) == 0;
}

void raftsim_fail(struct world *w, const char *fmt, ...)
{
    va_list args;

    if (w->failed)
        return;
    w->failed = true;
    va_start(args, fmt);
    (void)vsnprintf(w->why, sizeof(w->why), fmt, args);
    va_end(args);
}

/* --- the event queue: a heap by time, then by order of scheduling --------------------------------- */

static bool before(const struct world_event *a, const struct world_event *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->sequence < b->sequence);
}

void raftsim_schedule(struct world *w, struct world_event event, int64_t after_us)
{
    struct world_event *e = mem_dup(&event, sizeof(event));
    size_t i = w->heap_count++;

    e->at_us = w->now_us + MAX(after_us, 0);
    e->sequence = ++w->sequence;
    if (i == w->heap_capacity) {
        w->heap_capacity = MAX(64, w->heap_capacity * 2);
        w->heap = mem_grow(w->heap, w->heap_capacity, sizeof(struct world_event *));
    }
    for (; i && before(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct world_event *heap_pop(struct world *w)
{
    struct world_event *top = w->heap[0], *last = w->heap[--w->heap_count];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->heap_count)
        w->heap[i] = last;
    return top;
}

static void event_free(struct world_event *e)
{
    if (e->drop)
        e->drop(e);
    free(e);
}

/* --- a member's environment ----------------------------------------------------------------------- */

static struct world_env *env_of(struct replica_env *env)
{
    return container_of(env, struct world_env, base);
}

static struct world_member *member_of(struct world_env *env)
{
    return &env->world->members[env->member];
}

static struct disk *disk_of(struct replica_env *env)
{
    return &member_of(env_of(env))->disk;
}

static int64_t member_us(const struct world_member *m, int64_t world_us)
{
    return m->clock_offset_us + world_us + world_us / 1000 * m->clock_drift;
}

static int64_t clock_us(struct clock *c)
{
    struct world_env *env = container_of(c, struct world_env, clock);

    return member_us(member_of(env), env->world->now_us);
}

static int64_t clock_wall(struct clock *c)
{
    return 1700000000000 + clock_us(c) / 1000;
}

/* The environment of the event's life, if that life goes on. */
static struct world_env *alive(struct world *w, const struct world_event *e)
{
    struct world_member *m = &w->members[e->member];

    return m->env && m->life == e->life && !m->env->dead ? m->env : NULL;
}

static void schedule(struct world_env *env, void (*fire)(struct world *w, struct world_event *event), int64_t after,
                     uint64_t number)
{
    struct world_event e = {.fire = fire, .member = env->member, .life = member_of(env)->life, .number = number};

    raftsim_schedule(env->world, e, after);
}

static void attach(struct replica_env *base, const struct env_events *events)
{
    struct world_env *env = env_of(base);

    env->events = *events;
    env->attached = true;
}

static void fire_wake(struct world *w, struct world_event *e)
{
    struct world_env *env = alive(w, e);

    if (!env)
        return;
    env->woken = false;
    env->events.on_wake(env->events.ctx);
}

static void env_wake(struct replica_env *base)
{
    struct world_env *env = env_of(base);

    if (env->woken)
        return;
    env->woken = true;
    schedule(env, fire_wake, (int64_t)raftsim_random(env->world, 1, 60), 0);
}

static void fire_timer(struct world *w, struct world_event *e)
{
    struct world_env *env = alive(w, e);

    if (env && env->timer == e->number)
        env->events.on_timer(env->events.ctx);
}

static void env_timer(struct replica_env *base, int64_t mono_ms)
{
    struct world_env *env = env_of(base);
    struct world_member *m = member_of(env);

    env->timer++;
    if (mono_ms < 0 || mono_ms == DRIVER_NEVER)
        return;
    int64_t left = mono_ms * 1000 - clock_us(&env->clock);
    schedule(env, fire_timer, MAX(left, 0) * 1000 / (1000 + m->clock_drift) + 1, env->timer);
}

/* Lanes: one job at a time; a job's operations happen at the end of its time. */
static void fire_done(struct world *w, struct world_event *e);
static void lane_next(struct world_env *env, enum env_lane lane);

static void fire_lane(struct world *w, struct world_event *e)
{
    struct world_env *env = alive(w, e);
    enum env_lane lane = (enum env_lane)e->number;

    if (!env)
        return;
    if (member_of(env)->hung && lane == ENV_LANE_LOG) {
        schedule(env, fire_lane, 1000, lane);
        return;
    }
    struct env_job *job = list_entry(list_pop(&env->jobs[lane]), struct env_job, link);
    list_push(&env->done, &job->link);
    job->work(job);
    schedule(env, fire_done, (int64_t)raftsim_random(w, 1, 50), 0);
    env->running[lane] = false;
    lane_next(env, lane);
}

static void fire_done(struct world *w, struct world_event *e)
{
    struct world_env *env = alive(w, e);

    if (!env)
        return;
    struct env_job *job = list_entry(list_pop(&env->done), struct env_job, link);
    job->done(job);
}

static void lane_next(struct world_env *env, enum env_lane lane)
{
    const struct world_member *m = member_of(env);

    if (env->running[lane] || list_empty(&env->jobs[lane]))
        return;
    env->running[lane] = true;
    schedule(env, fire_lane,
             (int64_t)raftsim_random(env->world, (uint64_t)m->disk_min_us, (uint64_t)m->disk_max_us), lane);
}

static void env_post(struct replica_env *base, enum env_lane lane, struct env_job *job)
{
    struct world_env *env = env_of(base);

    list_push(&env->jobs[lane], &job->link);
    lane_next(env, lane);
}

static void env_detach(struct replica_env *base, void (*closed)(void *ctx), void *ctx)
{
    struct world_env *env = env_of(base);

    env->closed = closed;
    env->closed_ctx = ctx;
}

/* --- network -------------------------------------------------------------------------------------- */

static void drop_message(struct world_event *e)
{
    free(e->pointer);
}

static void fire_message(struct world *w, struct world_event *e)
{
    struct world_member *m = &w->members[e->member];

    if (!m->env || m->env->dead || w->cut[e->number][e->member])
        return;
    m->env->events.on_message(m->env->events.ctx, e->number, e->pointer, e->size);
}

static void env_send(struct replica_env *base, uint64_t to, const char *address, enum env_channel channel,
                     const void *data, size_t size)
{
    struct world_env *env = env_of(base);
    struct world *w = env->world;
    uint64_t from = member_of(env)->id;
    int64_t delay = (int64_t)raftsim_random(w, (uint64_t)w->delay_min_us, (uint64_t)w->delay_max_us);

    (void)address; /* links are by id */
    if (env->dead || to == 0 || to > WORLD_MEMBERS)
        return;
    if (!check_sent(w, from, to, data, size))
        return;
    if (w->cut[from][to] || raftsim_random(w, 0, 999) < w->drop) {
        w->counts.dropped++;
        return;
    }
    unsigned copies = raftsim_random(w, 0, 999) < w->twice ? 2 : 1;
    w->counts.doubled += copies - 1;
    if (channel == ENV_CHANNEL_BULK)
        delay *= 2;
    while (copies--) {
        struct world_event e = {.fire = fire_message,
                                .drop = drop_message,
                                .member = (unsigned)to,
                                .number = from,
                                .pointer = mem_dup(data, size),
                                .size = size};
        raftsim_schedule(w, e, delay);
        delay += (int64_t)raftsim_random(w, 0, (uint64_t)w->delay_max_us * 4);
    }
}

/* --- lives ---------------------------------------------------------------------------------------- */

bool raftsim_up(const struct world *w, uint64_t id)
{
    return w->members[id].replica != NULL;
}

struct replica *raftsim_replica(const struct world *w, uint64_t id)
{
    return w->members[id].replica;
}

static struct world_env *env_new(struct world *w, unsigned member)
{
    struct world_env *env = mem_alloc(sizeof(*env));

    env->world = w;
    env->member = member;
    env->clock = (struct clock){.mono_us = clock_us, .wall_ms = clock_wall};
    entropy_seeded_init(&env->entropy, entropy_u64(&w->entropy.base));
    env->base = (struct replica_env){
        .clock = &env->clock,
        .entropy = &env->entropy.base,
        .attach = attach,
        .detach = env_detach,
        .post = env_post,
        .wake = env_wake,
        .timer = env_timer,
        .send = env_send,
    };
    disk_serve(&env->base, disk_of);
    for (int i = 0; i < ENV_LANES; i++)
        list_init(&env->jobs[i]);
    list_init(&env->done);
    return env;
}

/* Run everything that is left of a life, without time passing, until it has closed. */
static void env_drain(struct world_env *env)
{
    struct list *link;

    while (!env->closed || !list_empty(&env->done) || !list_empty(&env->jobs[0]) || !list_empty(&env->jobs[1])) {
        env->woken = false;
        if (!env->closed)
            env->events.on_wake(env->events.ctx);
        for (int lane = 0; lane < ENV_LANES; lane++)
            while ((link = list_pop(&env->jobs[lane]))) {
                struct env_job *job = list_entry(link, struct env_job, link);

                list_push(&env->done, &job->link);
                job->work(job);
            }
        while ((link = list_pop(&env->done))) {
            struct env_job *job = list_entry(link, struct env_job, link);

            job->done(job);
        }
    }
    env->closed(env->closed_ctx);
}

static void on_closed(void *ctx)
{
    struct world_member *m = ctx;

    m->closed = true;
}

static void end_life(struct world *w, struct world_member *m)
{
    m->closed = false;
    replica_close(m->replica, on_closed, m);
    env_drain(m->env);
    assert(m->closed);
    m->replica = NULL;
    free(m->env);
    m->env = NULL;
    m->leads = false;
}

static struct replica_config config_of(struct world *w, struct world_member *m, char address[16],
                                       struct world_env *env)
{
    (void)snprintf(address, 16, "m%" PRIu64 ":2377", m->id);
    return (struct replica_config){
        .dir = "raft",
        .id = m->id,
        .address = address,
        .key = w->key,
        .cluster = w->cluster,
        .epoch = 7,
        .applied = m->applied,
        .election_ms = w->options.election_ms,
        .heartbeat_ms = w->options.heartbeat_ms,
        .segment_bytes = w->options.segment_bytes,
        .snapshot_bytes = w->options.snapshot_bytes,
        .env = &env->base,
    };
}

void raftsim_make(struct world *w, uint64_t id, bool voter)
{
    struct world_member *m = &w->members[id];
    struct world_env *env;
    struct err e;
    char address[16];

    assert(!m->exists);
    *m = (struct world_member){.id = id, .exists = true, .disk_min_us = 100, .disk_max_us = 3000};
    m->clock_offset_us = (int64_t)raftsim_random(w, 1000000, 100000000);
    m->clock_drift = (int)raftsim_random(w, 0, 40) - 20;
    disk_init(&m->disk, &w->entropy.base);
    if (!voter)
        return;
    env = env_new(w, (unsigned)id);
    struct replica_config config = config_of(w, m, address, env);
    if (w->options.voters == 1) {
        if (replica_bootstrap(&config, &e) < 0)
            raftsim_fail(w, "open: bootstrap: %s", e.text);
    } else {
        check_make_first(w, &config);
    }
    free(env);
}

static void raftsim_reap(struct world *w, struct world_member *m);

void raftsim_start(struct world *w, uint64_t id)
{
    struct world_member *m = &w->members[id];
    char address[16];
    struct err e;

    if (!m->exists || m->lost || m->replica)
        return;
    disk_restart(&m->disk);
    m->life++;
    m->env = env_new(w, (unsigned)id);
    struct replica_config config = config_of(w, m, address, m->env);
    struct replica_events events = check_events(m);
    int rc = replica_open(&config, &events, &m->replica, &e);
    if (rc < 0) {
        m->replica = NULL;
        free(m->env);
        m->env = NULL;
        check_refused(w, m, &e);
        return;
    }
    check_opened(w, m);
    raftsim_reap(w, m);
}

void raftsim_crash(struct world *w, uint64_t id, bool power)
{
    struct world_member *m = &w->members[id];

    if (!m->replica)
        return;
    check_crashing(w, m);
    disk_crash(&m->disk, power);
    m->env->dead = true;
    w->counts.crashes++;
    w->counts.powers += m->disk.power;
    end_life(w, m);
    if (m->disk.power) {
        m->applied = m->state = 0; /* the store is made for one boot of the machine */
    }
}

void raftsim_close(struct world *w, uint64_t id)
{
    struct world_member *m = &w->members[id];

    if (!m->replica)
        return;
    check_crashing(w, m);
    end_life(w, m);
}

void raftsim_set_term(struct world *w, uint64_t id, uint64_t term)
{
    struct world_member *m = &w->members[id];
    struct world_env *env;
    struct meta meta;
    struct err e;

    assert(!m->replica);
    disk_restart(&m->disk);
    env = env_new(w, (unsigned)id);
    if (meta_open(&meta, &env->base, "raft/term", w->key, w->cluster, id, &e) < 0) {
        raftsim_fail(w, "open: %s", e.text);
    } else {
        struct meta_state state = meta.state;

        state.term = term;
        state.vote = 0;
        (void)meta_write(&meta, &state, NULL);
        meta_close(&meta);
    }
    free(env);
}

/* A life may have ended inside an event: at an operation on the disk, or because it gave up. */
static void raftsim_reap(struct world *w, struct world_member *m)
{
    if (!m->replica || (!m->disk.crashed && !m->replica->told))
        return;
    w->counts.kills_inside += m->disk.crashed;
    raftsim_crash(w, m->id, m->disk.power);
}

bool raftsim_step(struct world *w, int64_t until_us)
{
    struct world_event *e;
    unsigned member;

    if (w->heap_count == 0 || w->heap[0]->at_us > until_us) {
        w->now_us = MAX(w->now_us, until_us);
        return false;
    }
    e = heap_pop(w);
    w->now_us = e->at_us;
    w->counts.events++;
    member = e->member;
    e->fire(w, e);
    event_free(e);
    if (member && w->members[member].replica) {
        check_member(w, &w->members[member]);
        raftsim_reap(w, &w->members[member]);
    }
    return !w->failed;
}

void raftsim_run(struct world *w, int64_t ms)
{
    int64_t until = w->now_us + ms * 1000;

    while (raftsim_step(w, until))
        continue;
}

bool raftsim_until(struct world *w, int64_t ms, bool (*holds)(struct world *w, void *ctx), void *ctx)
{
    int64_t until = w->now_us + ms * 1000;

    while (!holds(w, ctx))
        if (!raftsim_step(w, until))
            return !w->failed && holds(w, ctx);
    return true;
}

void raftsim_init(struct world *w, uint64_t seed, const struct world_options *options)
{
    *w = (struct world){.options = *options, .seed = seed, .now_us = 1000000};
    w->options.election_ms = options->election_ms ? options->election_ms : 300;
    w->options.heartbeat_ms = options->heartbeat_ms ? options->heartbeat_ms : 30;
    w->options.segment_bytes = options->segment_bytes ? options->segment_bytes : 16384;
    w->options.snapshot_bytes = options->snapshot_bytes ? options->snapshot_bytes : 8192;
    w->trace = getenv("RAFT_SIM_TRACE") != NULL;
    entropy_seeded_init(&w->entropy, seed);
    memset(w->key, 0x5a, sizeof(w->key));
    memset(w->cluster, 0xc1, sizeof(w->cluster));
    w->delay_min_us = 200;
    w->delay_max_us = 4000;
    for (uint64_t id = 1; id <= options->members; id++)
        raftsim_make(w, id, id <= options->voters);
    for (uint64_t id = 1; id <= options->members; id++)
        raftsim_start(w, id);
}

void raftsim_fini(struct world *w)
{
    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++) {
        struct world_member *m = &w->members[id];

        if (!m->exists)
            continue;
        raftsim_crash(w, id, false);
        disk_fini(&m->disk);
        free(m->votes);
        free(m->seen);
    }
    while (w->heap_count)
        event_free(heap_pop(w));
    free(w->heap);
    for (size_t i = 0; i < w->entries_max; i++)
        free(w->entries[i].versions);
    free(w->entries);
    free(w->leaders);
}

void raftsim_heal(struct world *w)
{
    memset(w->cut, 0, sizeof(w->cut));
    w->drop = w->twice = 0;
    w->delay_min_us = 200;
    w->delay_max_us = 4000;
    w->filter = NULL;
    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++) {
        struct world_member *m = &w->members[id];

        m->hung = m->disk.full = m->disk.broken = false;
        m->disk.crash_at = m->disk.fill_at = 0;
        m->disk_min_us = 100;
        m->disk_max_us = 3000;
        raftsim_start(w, id);
    }
}
