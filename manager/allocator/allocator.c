/* See allocator.h.
 *
 * A port published in the mesh belongs to one service in the cluster, by protocol; the API asks
 * allocator_check_ports before it accepts one, and since writes go into a draft one after the other, what was
 * accepted stays free. A port that is to be chosen keeps its value while the service wants the same target in the
 * same way; otherwise it is the lowest free one of 30000-32767. When none is left the service's new tasks wait and
 * say so; they are tried again when a service gives ports back. Ports in host mode are the scheduler's to keep
 * apart, node by node; one without a number is chosen by the node. */
#include "manager/allocator/allocator.h"
#include "proto/base/planted.h"

#define STARVED "no published port is free between 30000 and 32767"

static const struct index_service *other_owner(const struct index *x, const struct index_service *own,
                                               uint32_t port)
{
    const struct index_service *owner = map64_get(&x->ports, port);

    return owner == own ? NULL : owner;
}

static bool publishes_on_hosts(const struct index_service *s, uint32_t port)
{
    for (uint32_t i = 0; i < s->port_count; i++)
        if (s->ports[i].published == port && s->ports[i].mode == PUBLISH_MODE__HOST)
            return true;
    return false;
}

/* Another service that publishes it on its tasks' nodes. Found by looking at all, once the counter says there is
 * one. */
static const struct index_service *host_owner(const struct index *x, const struct index_service *own, uint32_t port)
{
    struct index_service *s;

    if (!map64_get(&x->host_ports, port))
        return NULL;
    for (size_t at = 0; (s = table_next(&x->services, &at));)
        if (s != own && s->exists && publishes_on_hosts(s, port))
            return s;
    return NULL;
}

static int in_use(const PortConfig *port, const struct index_service *owner, const char *as, struct err *e)
{
    char id[IDENT_TEXT + 1];

    ident_format(owner->id, id);
    return err_set(e, ERR_INVALID, "port '%u' is already in use by service '%s' (%s) as %s", port->published_port,
                   owner->name, id, as);
}

int allocator_check_ports(const struct index *x, uint64_t service, const EndpointSpec *spec, struct err *e)
{
    const struct index_service *own = service ? index_service(x, service) : NULL, *owner;

    for (size_t i = 0; spec && i < spec->n_ports; i++) {
        const PortConfig *port = spec->ports[i];
        uint32_t key = (uint32_t)port->protocol << 16 | port->published_port;

        if (!port->published_port || port->published_port > UINT16_MAX)
            continue; /* the range is the API's to check */
        if ((owner = other_owner(x, own, key)))
            return in_use(port, owner, "an ingress port", e);
        if (port->mode == PUBLISH_MODE__INGRESS && (owner = host_owner(x, own, key)))
            return in_use(port, owner, "a host-published port", e);
    }
    return 0;
}

/* --- services ------------------------------------------------------------------------------------------------ */

static uint32_t kept_port(const struct index_service *s, const PortConfig *wanted)
{
    for (uint32_t i = 0; i < s->port_count; i++) {
        const struct index_port *p = &s->ports[i];

        if (p->mode == wanted->mode && p->target == ((uint32_t)wanted->protocol << 16 | wanted->target_port))
            return p->published & 0xffff;
    }
    return 0;
}

static bool taken(const struct index *x, const struct index_service *s, const Endpoint *so_far, uint32_t key)
{
    for (size_t i = 0; i < so_far->n_ports; i++)
        if (((uint32_t)so_far->ports[i]->protocol << 16 | so_far->ports[i]->published_port) == key)
            return true;
    return !PLANTED(PORT_TWICE) && (other_owner(x, s, key) || map64_get(&x->host_ports, key));
}

/* A port for one that is to be chosen; 0: none is left. */
static uint32_t choose(const struct index *x, const struct index_service *s, const Endpoint *so_far,
                       const PortConfig *wanted)
{
    uint32_t protocol = (uint32_t)wanted->protocol << 16, kept = kept_port(s, wanted);

    if (kept && !taken(x, s, so_far, protocol | kept))
        return kept;
    for (uint32_t port = ALLOCATOR_PORT_FIRST; port <= ALLOCATOR_PORT_LAST; port++)
        if (!taken(x, s, so_far, protocol | port))
            return port;
    return 0;
}

/* Ports that are asked for by number first, so that none of them is chosen for another. */
static bool give_ports(struct plan *p, const struct index_service *s, const EndpointSpec *spec, Endpoint *endpoint)
{
    PortConfig **ports = arena_array(p->arena, spec->n_ports, sizeof(PortConfig *));
    PortConfig *copies = arena_array(p->arena, spec->n_ports, sizeof(*copies));

    endpoint->ports = arena_array(p->arena, spec->n_ports, sizeof(PortConfig *));
    for (size_t i = 0; i < spec->n_ports; i++) {
        copies[i] = *spec->ports[i];
        ports[i] = &copies[i];
        if (copies[i].published_port)
            endpoint->ports[endpoint->n_ports++] = ports[i];
    }
    for (size_t i = 0; i < spec->n_ports; i++) {
        if (copies[i].published_port || copies[i].mode == PUBLISH_MODE__HOST)
            continue;
        uint32_t port = choose(p->index, s, endpoint, &copies[i]);
        if (!port)
            return false;
        copies[i].has_published_port = true;
        copies[i].published_port = port;
        endpoint->ports[endpoint->n_ports++] = ports[i];
    }
    endpoint->ports = ports; /* in the order of the spec */
    endpoint->n_ports = spec->n_ports;
    return true;
}

/* Whether the service has what its present spec asks for. */
static bool give_endpoint(struct plan *p, struct index_service *s)
{
    if (s->endpoint_digest == s->current->endpoint_digest)
        return true;
    Endpoint endpoint = ENDPOINT__INIT;
    Service service = *plan_service(p, s->number);
    const Spec *spec = plan_spec(p, s->current);
    endpoint.spec = spec->spec->endpoint;
    if (endpoint.spec && !give_ports(p, s, endpoint.spec, &endpoint))
        return false;
    service.endpoint = endpoint.spec ? &endpoint : NULL;
    plan_put(p, KIND_SERVICE, s->number, &service);
    return true;
}

static bool allocate_tasks(struct plan *p, struct index_service *s, bool given)
{
    struct index_task *t, *after;

    list_each_safe (t, after, &s->fresh, stage) {
        if (plan_stop(p))
            return false;
        if (given)
            plan_set_status(p, t, TASK_STATE__PENDING, "pending task scheduling", NULL);
        else
            plan_set_status(p, t, TASK_STATE__NEW, "created", STARVED);
    }
    return true;
}

bool allocate(struct plan *p)
{
    struct index *x = p->index;
    struct index_service *s;

    while (!plan_stop(p) && (s = list_first(&x->unallocated, struct index_service, unallocated))) {
        list_remove(&s->unallocated);
        if (!s->current)
            continue;
        bool given = give_endpoint(p, s), done = allocate_tasks(p, s, given);
        list_remove(&s->unallocated); /* its own writes marked it */
        if (!done)
            list_push(&x->unallocated, &s->unallocated);
        else if (!given)
            list_push(&x->starved, &s->unallocated);
    }
    return !list_empty(&x->unallocated);
}
