/* See plan.h. */
#include <assert.h>
#include <string.h>

#include "manager/plan.h"

size_t plan_room(const struct plan *p)
{
    size_t room = p->backend->room(p->ctx);

    return room > p->reserve ? room - p->reserve : 0;
}

bool plan_stop(const struct plan *p)
{
    return plan_room(p) < PLAN_STEP_OBJECTS || p->backend->late(p->ctx);
}

static const void *get(const struct plan *p, enum kind k, uint64_t number)
{
    struct object o;

    return p->backend->get(p->ctx, k, number, &o) == 0 ? o.message : NULL;
}

const Cluster *plan_cluster(const struct plan *p)
{
    return get(p, KIND_CLUSTER, p->index->cluster);
}

const Node *plan_node(const struct plan *p, uint64_t number)
{
    return get(p, KIND_NODE, number);
}

const Service *plan_service(const struct plan *p, uint64_t number)
{
    return get(p, KIND_SERVICE, number);
}

const Spec *plan_spec(const struct plan *p, const struct index_spec *spec)
{
    return spec->number ? get(p, KIND_SPEC, spec->number) : NULL;
}

const Task *plan_task(const struct plan *p, uint64_t number)
{
    return get(p, KIND_TASK, number);
}

const Status *plan_status(const struct plan *p, uint64_t number)
{
    return get(p, KIND_STATUS, number);
}

uint64_t plan_create(struct plan *p, enum kind k, const void *message)
{
    return p->backend->create(p->ctx, k, message);
}

void plan_put(struct plan *p, enum kind k, uint64_t number, const void *message)
{
    p->backend->put(p->ctx, k, number, message);
}

void plan_remove(struct plan *p, enum kind k, uint64_t number)
{
    p->backend->remove(p->ctx, k, number);
}

ProtobufCBinaryData plan_ident(struct plan *p)
{
    uint8_t *id = arena_alloc(p->arena, IDENT_BYTES);

    p->backend->ident(p->ctx, id);
    return (ProtobufCBinaryData){.len = IDENT_BYTES, .data = id};
}

/* --- tasks ---------------------------------------------------------------------------------------------- */

/* The driver that a new task of this service gets from the cluster. A later default is for later tasks: those that
 * are there keep where their lines are. */
static LogDriver *default_log_driver(const struct plan *p, const struct index_service *service)
{
    if (!p->index->has_log_driver || (service->current && service->current->has_log_driver))
        return NULL;
    return plan_cluster(p)->spec->log_driver;
}

struct index_task *plan_new_task(struct plan *p, const struct plan_new_task *new)
{
    Task task = TASK__INIT;
    Status status = STATUS__INIT;

    task.id = plan_ident(p);
    task.service = new->service->number;
    task.spec_version = new->service->spec_version;
    task.slot = new->slot;
    task.has_slot = new->slot != 0;
    task.node = new->node;
    task.has_node = new->node != 0;
    task.desired_state = new->desired;
    task.start_at_ms = new->start_at_ms;
    task.has_start_at_ms = new->start_at_ms != 0;
    task.predecessor = new->predecessor;
    task.has_predecessor = new->predecessor != 0;
    task.restarted = task.has_restarted = new->restarted;
    task.log_driver = default_log_driver(p, new->service);
    status.state = TASK_STATE__NEW;
    status.has_timestamp_ns = status.has_applied_ms = true;
    status.timestamp_ns = p->wall_ns;
    status.applied_ms = p->now_ms;
    status.message = (char *)"created";
    uint64_t number = plan_create(p, KIND_TASK, &task);
    plan_put(p, KIND_STATUS, number, &status);
    return index_task(p->index, number);
}

void plan_set_desired(struct plan *p, struct index_task *t, TaskState desired)
{
    const Task *old = plan_task(p, t->number);

    assert(old);
    if (old->desired_state == desired)
        return;
    Task task = *old;
    task.desired_state = desired;
    index_expect_task(p->index, t);
    plan_put(p, KIND_TASK, t->number, &task);
}

void plan_set_status(struct plan *p, struct index_task *t, TaskState state, const char *message, const char *err)
{
    static const Status none = STATUS__INIT;
    const Status *old = plan_status(p, t->number);
    Status status = old ? *old : none;

    if (old && t->state == state && t->err_digest == index_text_digest(err))
        return;
    if (!old || status.state != state) {
        status.has_applied_ms = true;
        status.applied_ms = p->now_ms;
    }
    status.state = state;
    status.has_timestamp_ns = true;
    status.timestamp_ns = p->wall_ns;
    status.message = (char *)message;
    status.err = err && *err ? (char *)err : NULL;
    index_expect_task(p->index, t);
    plan_put(p, KIND_STATUS, t->number, &status);
}

void plan_assign(struct plan *p, struct index_task *t, const struct index_node *node, const char *message)
{
    const Task *old = plan_task(p, t->number);

    assert(old);
    /* The status first: with a node but not yet assigned it would count as pinned there. */
    plan_set_status(p, t, TASK_STATE__ASSIGNED, message, NULL);
    if (old->node)
        return;
    Task task = *old;
    task.has_node = true;
    task.node = node->number;
    index_expect_task(p->index, t);
    plan_put(p, KIND_TASK, t->number, &task);
}

void plan_remove_task(struct plan *p, struct index_task *t)
{
    uint64_t number = t->number;

    /* The status first, so that undoing finds its task there again. */
    if (plan_status(p, number))
        plan_remove(p, KIND_STATUS, number);
    plan_remove(p, KIND_TASK, number);
}

static bool same_container(const ContainerStatus *a, const ContainerStatus *b)
{
    if (!a || !b)
        return !a && !b;
    return strcmp(a->container_id ? a->container_id : "", b->container_id ? b->container_id : "") == 0 &&
           a->pid == b->pid && a->has_exit_code == b->has_exit_code && a->exit_code == b->exit_code;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool says_more(const Status *old, const Status *new)
{
    return new->state > old->state || !same_text(old->message, new->message) || !same_text(old->err, new->err) ||
           !same_container(old->container, new->container);
}

bool plan_report(struct plan *p, const struct index_node *node, const uint8_t task_id[16], const Status *said)
{
    struct index_task *t = index_task_by_id(p->index, task_id);
    const Status *old = t && index_task_node(t) == node ? plan_status(p, t->number) : NULL;

    if (!old || old->state < TASK_STATE__ASSIGNED || said->state < old->state ||
        said->state >= TASK_STATE__REMOVE || !says_more(old, said))
        return false;
    Status status = *said;
    if (!status.container)
        status.container = old->container; /* what was known of it stays known */
    status.has_applied_ms = true;
    status.applied_ms = said->state == old->state ? old->applied_ms : p->now_ms;
    status.has_running_ms = old->has_running_ms || said->state == TASK_STATE__RUNNING;
    status.running_ms = old->has_running_ms ? old->running_ms : status.has_running_ms ? p->now_ms : 0;
    plan_put(p, KIND_STATUS, t->number, &status);
    return true;
}
