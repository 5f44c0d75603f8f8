/* See manager_world.h: chance and time. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_conn.h"

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
static void put(struct msim *w, struct msim_event *e, int64_t at_us)
{
    heap_put(&w->events, &e->due, at_us << 20 | (int64_t)(w->event_number++ & 0xfffff));
}

void msim_schedule(struct msim *w, int64_t after_us, struct msim_event e)
{
    struct msim_event *copy = mem_alloc(sizeof(*copy));

    *copy = e;
    copy->due = (struct heap_item){0};
    put(w, copy, w->now_us + MAX(after_us, (int64_t)0));
}

static void free_event(struct msim_event *e)
{
    free(e->pointer);
    free(e);
}

static bool lives(const struct msim *w, const struct msim_event *e)
{
    return !e->manager || (w->managers[e->manager].up && w->managers[e->manager].life == e->life);
}

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
    if (lives(w, e) && e->manager && w->managers[e->manager].paused_until_us > w->now_us) {
        put(w, e, w->managers[e->manager].paused_until_us + 100); /* it looks at its sockets first, or not */
        return true;
    }
    if (lives(w, e))
        e->fire(w, e);
    free_event(e);
    msim_reap(w);
    return true;
}

void msim_run(struct msim *w, int64_t for_us)
{
    int64_t until = w->now_us + for_us;

    while (!msim_broken(w) && msim_step(w, until))
        ;
}

/* --- the whole -------------------------------------------------------------------------------------- */

struct msim *msim_new(uint64_t seed, const struct msim_options *options, const char *dir)
{
    struct msim *w = mem_alloc(sizeof(*w));

    w->seed = seed;
    w->options = *options;
    entropy_seeded_init(&w->random, seed);
    w->now_us = 1000000;
    (void)snprintf(w->dir, sizeof(w->dir), "%s", dir);
    msim_net_heal(w);
    list_init(&w->conns);
    people_make(w);
    agents_make(w);
    clients_make(w);
    rivals_make(w);
    return w;
}

void msim_free(struct msim *w)
{
    struct heap_item *first;

    for (unsigned id = 1; id <= w->manager_count; id++) {
        if (!w->managers[id].made)
            continue;
        msim_crash(w, id, false);
        disk_fini(&w->managers[id].disk);
        (void)tree_remove(AT_FDCWD, w->managers[id].dir, NULL);
    }
    while ((first = heap_first(&w->events))) {
        heap_remove(&w->events, first);
        free_event(container_of(first, struct msim_event, due));
    }
    heap_fini(&w->events);
    conns_free(w);
    agents_free(w);
    clients_free(w);
    rivals_free(w);
    people_free(w);
    for (unsigned i = 0; i < MSIM_OBJECTS; i++)
        free(w->history[i]);
    map64_fini(&w->leaders);
    map64_fini(&w->digests);
    map64_fini(&w->states);
    map64_fini(&w->tasks);
    map64_fini(&w->ended);
    free(w);
}
