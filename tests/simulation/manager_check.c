/* See manager_world.h: what must hold after each event. */
#include <inttypes.h>
#include <stdio.h>

#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

static void msim_check_digest(struct msim_manager *m)
{
    struct msim *w = m->world;
    uint64_t index = store_applied(m->store), digest = store_digest(m->store) | 1;
    void *seen = map64_get(&w->digests, index);

    if (!seen)
        map64_put(&w->digests, index, (void *)(uintptr_t)digest);
    else if ((uint64_t)(uintptr_t)seen != digest)
        msim_fail(w, "digest", "manager %" PRIu64 " holds other records at index %" PRIu64, m->id, index);
}

static void see(void *ctx, uint64_t index, const struct object *o)
{
    struct msim *w = ctx;

    if (o->kind != KIND_STATUS)
        return;
    if (!o->message)
        return;
    const Status *status = (const Status *)o->message;
    uint64_t seen = (uint64_t)(uintptr_t)map64_get(&w->states, o->number);
    if ((uint64_t)status->state + 1 < seen)
        msim_fail(w, "forward", "task %" PRIu64 " went from state %" PRIu64 " to %u at index %" PRIu64, o->number,
                  seen - 1, status->state, index);
    map64_put(&w->states, o->number, (void *)(uintptr_t)((uint64_t)status->state + 1));
}

/* Indexes are seen once in order by the member that is ahead; the others repeat what was seen. */
static void msim_check_forward(struct msim_manager *m)
{
    struct msim *w = m->world;
    struct arena arena;
    uint64_t to = m->fed;

    arena_init(&arena);
    if (store_feed(m->store, MAX(m->fed, w->seen), &arena, see, w, &to) < 0)
        to = store_applied(m->store);
    m->fed = to;
    w->seen = MAX(w->seen, to);
    arena_fini(&arena);
}

void msim_check_index(struct msim_manager *m)
{
    struct msim *w = m->world;
    struct control_stats stats;
    char difference[256];

    if (msim_broken(w) || !m->control)
        return;
    control_stats(m->control, &stats);
    if (stats.discarded)
        msim_fail(w, "open", "manager %" PRIu64 " discarded a change set", m->id);
    if (stats.under_way)
        return;
    w->counts.checks++;
    struct index *again = index_rebuild(m->store);
    if (!index_equal(control_index(m->control), again, difference, sizeof(difference)))
        msim_fail(w, "index", "manager %" PRIu64 " at index %" PRIu64 ": %s", m->id, store_applied(m->store),
                  difference);
    index_free(again);
}

void msim_check_applied(struct msim_manager *m)
{
    msim_check_digest(m);
    msim_check_forward(m);
}

void msim_check_opened(struct msim_manager *m)
{
    if (store_applied(m->store))
        msim_check_digest(m);
    msim_check_index(m);
}
