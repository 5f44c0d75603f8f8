/* Replicated services: as many slots as wanted (reference/swarm-surface.md section 10).
 *
 * Missing slots get the lowest free numbers. Slots too many go in this order: those in which nothing runs on a node
 * (not placed yet, or ended for good); then from the node that holds most of the service, so that what stays is
 * spread; there first what is not running, then the highest number. The node comes from a heap, its tasks are
 * looked at once for as many as surely go from it: removing m of n slots does not cost n for each. */
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

static bool scale_down(struct plan *p, struct index_service *s)
{
    while (s->held > s->current->replicas) {
        struct index_slot *idle = idle_slot(s);

        if (plan_stop(p))
            return false;
        if (idle) {
            if (!slot_remove(p, idle))
                return false;
            continue;
        }
        struct index_share *share = container_of(heap_first(&s->shares), struct index_share, counts);
        uint64_t surplus = s->held - s->current->replicas;
        /* No node will hold fewer than the rounded-up mean in the end, so all above it goes from here. */
        uint64_t mean = (s->current->replicas + s->share_count - 1) / s->share_count;
        uint64_t count = share->counted > mean ? share->counted - mean : 1;
        if (!remove_from_share(p, share, MIN(count, surplus)))
            return false;
    }
    return true;
}

bool replicated_step(struct plan *p, struct index_service *s)
{
    return s->held < s->current->replicas ? scale_up(p, s) : scale_down(p, s);
}
