/* See manager_world.h: the machine under a manager, as the replica sees it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

static struct msim_manager *of_env(struct replica_env *env)
{
    return container_of(env, struct msim_manager, env);
}

static struct disk *disk_of(struct replica_env *env)
{
    return &of_env(env)->disk;
}

static int64_t mono_us(struct clock *c)
{
    struct msim_manager *m = container_of(c, struct msim_manager, clock);

    m->clock_offset_us += m->read_us;
    return m->clock_offset_us + m->world->now_us + m->world->now_us / 1000 * m->clock_drift;
}

static int64_t wall_ms(struct clock *c)
{
    struct msim_manager *m = container_of(c, struct msim_manager, clock);

    return 1800000000000 + m->world->now_us / 1000 + m->wall_skew_ms;
}

void msim_later(struct msim_manager *m, int64_t after_us, void (*fire)(struct msim *w, struct msim_event *e),
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
    msim_later(m, (int64_t)msim_below(m->world, 40), fire_wake, 0);
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
        msim_later(m, (at_ms * 1000 - mono_us(&m->clock)) * 1000 / (1000 + m->clock_drift) + 1, fire_timer,
                   m->timer);
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

    if (m->hung && lane == ENV_LANE_LOG) {
        msim_later(m, 2000, fire_lane, lane);
        return;
    }
    struct env_job *job = list_entry(list_pop(&m->jobs[lane]), struct env_job, link);

    list_push(&m->done, &job->link);
    job->work(job);
    msim_later(m, (int64_t)msim_below(w, 30), fire_done, 0);
    m->running[lane] = false;
    lane_next(m, lane);
}

static void lane_next(struct msim_manager *m, enum env_lane lane)
{
    if (m->running[lane] || list_empty(&m->jobs[lane]))
        return;
    m->running[lane] = true;
    msim_later(m, m->disk_min_us + (int64_t)msim_below(m->world, (uint64_t)(m->disk_max_us - m->disk_min_us)),
               fire_lane, lane);
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

    if (m->up && m->paused_until_us > w->now_us) {
        msim_schedule(w, m->paused_until_us - w->now_us + 50,
                      (struct msim_event){.fire = fire_message,
                                          .life = e->life,
                                          .number = e->number,
                                          .pointer = mem_dup(e->pointer, e->size),
                                          .size = e->size});
        return;
    }
    if (m->up)
        m->events.on_message(m->events.ctx, e->number, e->pointer, e->size);
}

static void env_send(struct replica_env *env, uint64_t to, const char *address, enum env_channel channel,
                     const void *data, size_t size)
{
    struct msim_manager *m = of_env(env);
    struct msim *w = m->world;

    (void)address; /* links are by id */
    (void)channel;
    if (m->up && to > 0 && to <= w->manager_count)
        msim_send(w, (unsigned)m->id, (unsigned)to, data, size, fire_message);
}

void msim_env_init(struct msim_manager *m)
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
    disk_serve(&m->env, disk_of);
    for (int i = 0; i < ENV_LANES; i++) {
        list_init(&m->jobs[i]);
        m->running[i] = false;
    }
    list_init(&m->done);
    m->woken = m->turn_due = false;
    m->closed = NULL;
}

/* Run everything that is left of a life, without time passing, until it has closed. Its disk answers nothing. */
void msim_env_drain(struct msim_manager *m)
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
