/* Global services: one task on each node that fits (reference/swarm-surface.md section 10).
 *
 * A node fits when it is there, not down, not drained, and the constraints hold. One that is paused gets nothing
 * new and keeps what it has. Resources are not looked at here: the scheduler confirms the task on its node or says
 * what is missing there. */
#include "manager/orchestrator/orchestrator.h"

static void shut_down(struct plan *p, struct index_slot *slot)
{
    struct index_task *t;

    list_each (t, &slot->tasks, by_slot)
        if (index_task_live(t))
            plan_set_desired(p, t, TASK_STATE__SHUTDOWN);
}

void global_node_step(struct plan *p, struct index_service *s, struct index_node *n)
{
    struct index_slot *slot = index_slot(s, INDEX_SLOT_NODE | n->number);
    const struct demand *d = &s->current->demand;

    if (!index_node_valid(n) || !constraints_hold(d->constraints, d->constraint_count, n)) {
        if (slot)
            shut_down(p, slot);
        return;
    }
    if (n->availability == NODE_AVAILABILITY__PAUSE)
        return;
    if (slot && slot->holder) {
        if (!index_task_clean(slot->holder))
            index_mark_service(p->index, s); /* the update passed over it while the node was paused */
        return;
    }
    plan_new_task(p, &(struct plan_new_task){.service = s, .node = n->number, .desired = TASK_STATE__RUNNING});
}

bool global_step(struct plan *p, struct index_service *s)
{
    struct index *x = p->index;

    if (!s->scan)
        return true;
    for (; s->scan_at < x->node_count; s->scan_at++) {
        if (plan_stop(p))
            return false;
        if (x->node_at[s->scan_at])
            global_node_step(p, s, x->node_at[s->scan_at]);
    }
    s->scan = false;
    return true;
}
