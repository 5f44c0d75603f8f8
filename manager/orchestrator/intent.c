/* See intent.h. A spec is never changed: each version is an object of its own, which tasks name and which goes with
 * the last of them. A rollback is a new version with the old contents, so that versions only grow. */
#include <string.h>

#include "manager/allocator/allocator.h"
#include "manager/orchestrator/intent.h"

static int no_service(uint64_t number, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "service %llu not found", (unsigned long long)number);
}

static void create_spec(struct plan *p, uint64_t service, uint64_t version, const ServiceSpec *contents)
{
    Spec spec = SPEC__INIT;

    spec.service = service;
    spec.version = version;
    spec.spec = (ServiceSpec *)contents;
    plan_create(p, KIND_SPEC, &spec);
}

int service_create(struct plan *p, const ServiceSpec *spec, uint64_t *ret_number, struct err *e)
{
    Service service = SERVICE__INIT;
    int rc = allocator_check_ports(p->index, 0, spec->endpoint, e);

    if (rc < 0)
        return rc;
    service.id = plan_ident(p);
    service.name = spec->name;
    service.spec_version = 1;
    uint64_t number = plan_create(p, KIND_SERVICE, &service);
    create_spec(p, number, 1, spec);
    *ret_number = number;
    return 0;
}

static void set_spec(struct plan *p, uint64_t number, Service *service, const ServiceSpec *spec, bool keep_previous)
{
    uint64_t old = service->spec_version;

    create_spec(p, number, old + 1, spec);
    service->spec_version = old + 1;
    service->has_previous_spec_version = keep_previous;
    service->previous_spec_version = keep_previous ? old : 0;
    plan_put(p, KIND_SERVICE, number, service);
}

int service_update(struct plan *p, uint64_t number, const ServiceSpec *spec, struct err *e)
{
    const Service *old = plan_service(p, number);
    const struct index_service *s = index_service(p->index, number);

    if (!old || !s || !s->current)
        return no_service(number, e);
    if (!spec->name || strcmp(spec->name, old->name) != 0)
        return err_set(e, ERR_UNSUPPORTED, "renaming services is not supported");
    if (spec->mode != s->current->mode)
        return err_set(e, ERR_UNSUPPORTED, "service mode change is not allowed");
    int rc = allocator_check_ports(p->index, number, spec->endpoint, e);
    if (rc < 0)
        return rc;
    Service service = *old;
    service.update_status = NULL;
    set_spec(p, number, &service, spec, true);
    return 0;
}

bool service_revert(struct plan *p, struct index_service *s, bool swap, const char *message)
{
    const struct index_spec *previous = index_spec(s, s->previous_spec_version);
    const Spec *contents = previous ? plan_spec(p, previous) : NULL;
    UpdateStatus status = UPDATE_STATUS__INIT;

    if (!contents)
        return false;
    Service service = *plan_service(p, s->number);
    status.has_state = status.has_started_ms = true;
    status.state = UPDATE_STATE__ROLLBACK_STARTED;
    status.started_ms = service.update_status && !swap ? service.update_status->started_ms : p->now_ms;
    status.message = (char *)message;
    service.update_status = &status;
    set_spec(p, s->number, &service, contents->spec, swap);
    return true;
}

int service_rollback(struct plan *p, uint64_t number, struct err *e)
{
    struct index_service *s = index_service(p->index, number);

    if (!s || !s->exists)
        return no_service(number, e);
    if (!service_revert(p, s, true, "manually requested rollback"))
        return err_set(e, ERR_PRECONDITION, "service %s does not have a previous spec", s->name);
    return 0;
}

int service_remove(struct plan *p, uint64_t number, struct err *e)
{
    if (!plan_service(p, number))
        return no_service(number, e);
    plan_remove(p, KIND_SERVICE, number);
    return 0;
}

/* --- nodes -----------------------------------------------------------------------------------------------------
 */

static bool same(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

int node_set_state(struct plan *p, uint64_t number, NodeState state, const char *message, const char *address,
                   struct err *e)
{
    const Node *old = plan_node(p, number);

    if (!old)
        return err_set(e, ERR_NOT_FOUND, "node %llu not found", (unsigned long long)number);
    if (old->has_state && old->state == state && same(old->state_message, message) &&
        (!address || same(old->address, address)))
        return 0;
    Node node = *old;
    node.has_state = true;
    node.state = state;
    node.state_message = (char *)message;
    if (address)
        node.address = (char *)address;
    if (state != NODE_STATE__DOWN) {
        node.has_down_since_ms = false;
        node.down_since_ms = 0;
    } else if (old->state != NODE_STATE__DOWN) {
        node.has_down_since_ms = true;
        node.down_since_ms = p->now_ms;
    }
    plan_put(p, KIND_NODE, number, &node);
    return 0;
}

int node_remove(struct plan *p, uint64_t number, struct err *e)
{
    if (!plan_node(p, number))
        return err_set(e, ERR_NOT_FOUND, "node %llu not found", (unsigned long long)number);
    plan_remove(p, KIND_NODE, number);
    return 0;
}
