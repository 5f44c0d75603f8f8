/* See orchestrator.h.
 *
 * Order matters in one way only: nodes come before services, because a node that went down or lost a label marks
 * the slots of its tasks, and time before both. Within a service, slots come first (they may free or fill), then
 * the number of slots, then the update. Each of these marks slots again through what it writes; the loop ends when
 * a round writes nothing, since a slot in order is left alone. */
#include "manager/orchestrator/orchestrator.h"

/* --- time -------------------------------------------------------------------------------------------------- */

static void task_due(struct index *x, struct heap_item *timer)
{
    index_mark_slot(x, container_of(timer, struct index_task, timer)->slot);
}

static void service_due(struct index *x, struct heap_item *timer)
{
    index_mark_service(x, container_of(timer, struct index_service, timer));
}

static void node_due(struct index *x, struct heap_item *timer)
{
    struct index_node *n = container_of(timer, struct index_node, timer);

    if (list_empty(&n->dirty))
        list_push(&x->dirty_nodes, &n->dirty);
}

static void wake(struct plan *p, struct heap *timers, void (*due)(struct index *x, struct heap_item *timer))
{
    struct heap_item *first;

    while ((first = heap_first(timers)) && first->key <= p->now_ms && !plan_stop(p)) {
        heap_remove(timers, first);
        due(p->index, first);
    }
}

/* --- services --------------------------------------------------------------------------------------------------
 */

/* Slots that changed, and those that are looked at because all of the service's are. */
static bool slots_step(struct plan *p, struct index_service *s)
{
    struct index_slot *slot;

    for (;;) {
        if (plan_stop(p))
            return false;
        slot = list_first(&s->dirty_slots, struct index_slot, dirty);
        if (slot) {
            list_remove(&slot->dirty);
        } else if (s->slot_walk) {
            slot = s->slot_walk;
            s->slot_walk = slot->by_service.next == &s->all_slots
                               ? NULL
                               : list_entry(slot->by_service.next, struct index_slot, by_service);
        } else {
            return true;
        }
        /* Its last task may go: then the slot is gone when this returns. If not done, it marked itself. */
        if (!slot_step(p, slot))
            return false;
    }
}

static bool service_step(struct plan *p, struct index_service *s)
{
    uint64_t number = s->number;

    if (!slots_step(p, s))
        return false;
    if (index_service(p->index, number) != s || !s->current)
        return true; /* what is left of it went, or nothing is wanted of it */
    if (s->current->mode == SERVICE_MODE__REPLICATED && !replicated_step(p, s))
        return false;
    if (s->current->mode == SERVICE_MODE__GLOBAL && !global_step(p, s))
        return false;
    return update_step(p, s);
}

static void services(struct plan *p)
{
    struct index *x = p->index;
    struct index_service *s;

    while (!plan_stop(p) && (s = list_first(&x->dirty_services, struct index_service, dirty))) {
        uint64_t number = s->number;

        list_remove(&s->dirty);
        if (!service_step(p, s) && index_service(x, number) == s)
            index_mark_service(x, s); /* at the end: others get their turn */
    }
}

bool orchestrate(struct plan *p)
{
    struct index *x = p->index;
    struct index_node *n;

    index_forget_failures(x, p->now_ms);
    wake(p, &x->node_timers, node_due);
    wake(p, &x->task_timers, task_due);
    wake(p, &x->service_timers, service_due);
    while (!plan_stop(p) && (n = list_first(&x->dirty_nodes, struct index_node, dirty))) {
        list_remove(&n->dirty);
        if (!node_step(p, n))
            list_push(&x->dirty_nodes, &n->dirty);
    }
    services(p);
    bool reaped = reap_specs(p) && reap_requests(p);
    return !reaped || !list_empty(&x->dirty_nodes) || !list_empty(&x->dirty_services);
}
