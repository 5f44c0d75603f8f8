/* See manager_world.h: what must hold after each event. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "manager/orchestrator/orchestrator.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

void msim_check_leads(struct msim_manager *m)
{
    struct msim *w = m->world;
    uint64_t term = replica_term(control_replica(m->control));
    void *other = map64_put(&w->leaders, term, (void *)(uintptr_t)m->id);

    w->counts.elections++;
    if (other && (uint64_t)(uintptr_t)other != m->id)
        msim_fail(w, "leader", "managers %" PRIu64 " and %" PRIu64 " both lead term %" PRIu64,
                  (uint64_t)(uintptr_t)other, m->id, term);
}

void msim_check_history(struct msim *w)
{
    static const char *const kinds[] = {"read", "swap of", "mismatch of"};
    size_t bad;

    for (unsigned i = 0; i < MSIM_OBJECTS; i++) {
        if (linear_check(w->history[i], w->history_count[i], 0, &bad))
            continue;
        const struct linear_op *op = &w->history[i][bad];
        msim_fail(w, "linear",
                  "no order explains what rivals did with service %u up to moment %" PRIu64 ": %s %" PRIu64
                  " (to %" PRIu64 ")",
                  i, op->returned, kinds[op->kind], op->found, op->left);
    }
}

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

static uint64_t task_key(const uint8_t id[16])
{
    uint64_t key;

    memcpy(&key, id, sizeof(key));
    return key | 1; /* random enough */
}

static void see_task(struct msim *w, const struct object *o)
{
    const Task *task = (const Task *)o->message;

    if (task)
        map64_put(&w->tasks, o->number, (void *)(uintptr_t)task_key(task->id.data));
    if (!task || task->desired_state > TASK_STATE__RUNNING)
        map64_put(&w->ended, (uint64_t)(uintptr_t)map64_get(&w->tasks, o->number), w);
}

bool msim_told_to_end(const struct msim *w, const uint8_t task[16])
{
    return w->missed || map64_get(&w->ended, task_key(task));
}

static void see(void *ctx, uint64_t index, const struct object *o)
{
    struct msim *w = ctx;

    if (o->kind == KIND_TASK)
        see_task(w, o);
    if (o->kind != KIND_STATUS)
        return;
    if (!o->message)
        return;
    const Status *status = (const Status *)o->message;
    uint64_t seen = (uint64_t)(uintptr_t)map64_get(&w->states, o->number);
    if ((uint64_t)status->state + 1 < seen)
        msim_fail(w, "forward", "task %" PRIu64 " went from state %" PRIu64 " to %u at index %" PRIu64, o->number,
                  seen - 1, status->state, index);
    w->counts.orphans += status->state == TASK_STATE__ORPHANED && seen != TASK_STATE__ORPHANED + 1;
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
        w->missed |= (to = store_applied(m->store)) > MAX(m->fed, w->seen);
    m->fed = to;
    w->seen = MAX(w->seen, to);
    arena_fini(&arena);
}

/* In stop-first a slot runs once, an update works on no more slots than it may, and a published port has one owner.
 */
static void msim_check_laws(struct msim_manager *m)
{
    struct index *x = control_index(m->control);
    struct map64 ports = {0};
    struct index_service *s;

    for (size_t at = 0; (s = table_next(&x->services, &at));) {
        const struct index_slot *slot;
        const struct index_task *t;
        uint64_t parallelism = update_config(s)->parallelism;

        list_each (slot, &s->all_slots, by_service) {
            unsigned told = 0;

            list_each (t, &slot->tasks, by_slot)
                told += t->desired == TASK_STATE__RUNNING;
            if (told > 1)
                msim_fail(m->world, "laws", "%u tasks of slot %" PRIx64 " of %s are told to run", told, slot->key,
                          s->name);
        }
        if (s->current && parallelism && s->current->unsettled > parallelism)
            msim_fail(m->world, "laws", "%s updates %u slots at once, %" PRIu64 " are allowed", s->name,
                      s->current->unsettled, parallelism);
        for (uint32_t i = 0; i < s->port_count; i++)
            if (map64_put(&ports, s->ports[i].published + UINT64_C(1), s))
                msim_fail(m->world, "laws", "port %u is published twice", s->ports[i].published);
    }
    map64_fini(&ports);
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
    msim_check_laws(m);
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
