/* Replicated services: as many slots as wanted (reference/swarm-surface.md section 10).
 *
 * Missing slots get the lowest free numbers. Slots too many go in this order: those in which nothing runs on a node
 * (not placed yet, or ended for good); then from the node that holds most of the service, so that what stays is
 * spread; there first what is not running, then the highest number. Scaling down orders the service's nodes once
 * per draft, and looks at the tasks of a node once for as many as surely go from it: removing m of n slots does not
 * cost n for each. */
#include <assert.h>
#include <stdlib.h>

#include "manager/orchestrator/orchestrator.h"

static uint64_t lowest_free(struct index_service *s)
{
    for (;; s->free_hint++) {
        struct index_slot *slot = index_slot(s, s->free_hint);

        if (!slot || !slot->holder)
            return s->free_hint;
    }
}

static bool scale_up(struct plan *p, struct index_service *s)
{
    while (s->held < s->current->replicas) {
        if (plan_stop(p))
            return false;
        plan_new_task(
            p, &(struct plan_new_task){.service = s, .slot = lowest_free(s), .desired = TASK_STATE__RUNNING});
    }
    return true;
}

/* A slot in which nothing runs on a node; such holders stand in front of their lists. */
static struct index_slot *idle_slot(const struct index_service *s)
{
    struct index_spec *spec;

    list_each (spec, &s->specs, by_service) {
        struct index_task *t = list_first(&spec->holders, struct index_task, by_spec);

        if (t && !t->slot->counted)
            return t->slot;
    }
    return NULL;
}

/* The first to go comes first: not running before running, then by slot number downwards. */
static int compare_victims(const void *left, const void *right)
{
    const struct index_slot *a = *(struct index_slot *const *)left, *b = *(struct index_slot *const *)right;

    if (a->counted_running != b->counted_running)
        return a->counted_running ? 1 : -1;
    return a->key < b->key ? 1 : a->key > b->key ? -1 : 0;
}

/* Remove `count` slots from one node. */
static bool remove_from_share(struct plan *p, struct index_share *share, uint64_t count)
{
    struct index_slot **slots = arena_array(p->arena, share->counted, sizeof(struct index_slot *));
    struct index_task *t;
    size_t found = 0;

    list_each (t, &share->tasks, by_share)
        if (t->slot->counted && t->slot->holder == t)
            slots[found++] = t->slot;
    qsort(slots, found, sizeof(struct index_slot *), compare_victims);
    for (size_t i = 0; i < found && i < count; i++)
        if (plan_stop(p) || !slot_remove(p, slots[i]))
            return false;
    return true;
}

struct crowd { /* a node by what it holds of the service */
    struct heap_item order;
    struct index_share *share;
};

/* Most first; among equals one with a slot that is not running. */
static void order_crowd(struct heap *h, struct crowd *c)
{
    const struct index_share *share = c->share;

    if (share->counted)
        heap_put(h, &c->order, -(2 * (int64_t)share->counted + (share->running < share->counted)));
    else
        heap_remove(h, &c->order);
}

static bool remove_from_nodes(struct plan *p, struct index_service *s, struct heap *crowds)
{
    while (s->held > s->current->replicas) {
        if (plan_stop(p))
            return false;
        assert(heap_first(crowds));
        struct crowd *c = container_of(heap_first(crowds), struct crowd, order);
        uint64_t surplus = s->held - s->current->replicas;
        /* No node will hold fewer than the rounded-up mean in the end, so all above it goes from here. */
        uint64_t mean = (s->current->replicas + s->share_count - 1) / s->share_count;
        uint64_t count = c->share->counted > mean ? c->share->counted - mean : 1;
        bool done = remove_from_share(p, c->share, MIN(count, surplus));
        order_crowd(crowds, c);
        if (!done)
            return false;
    }
    return true;
}

static bool scale_down(struct plan *p, struct index_service *s)
{
    struct index_slot *idle;
    struct index_share *share;
    struct heap crowds = {0};

    while (s->held > s->current->replicas && (idle = idle_slot(s)))
        if (plan_stop(p) || !slot_remove(p, idle))
            return false;
    if (s->held <= s->current->replicas)
        return true;
    list_each (share, &s->shares, by_service) {
        struct crowd *c = ARENA_NEW(p->arena, struct crowd);

        c->share = share;
        order_crowd(&crowds, c);
    }
    bool done = remove_from_nodes(p, s, &crowds);
    heap_fini(&crowds);
    return done;
}

bool replicated_step(struct plan *p, struct index_service *s)
{
    return s->held < s->current->replicas ? scale_up(p, s) : scale_down(p, s);
}
