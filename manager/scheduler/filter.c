/* See filter.h. */
#include <string.h>

#include "manager/scheduler/filter.h"

/* What a filter looks at. */
struct question {
    const struct index_spec *spec;
    const struct index_node *node;
    uint32_t counted;             /* of the spec's service on the node */
    bool counts_itself;           /* the task is among the node's already */
    const struct demand *without; /* as if a task of this demand were gone; NULL: none */
};

static bool ready(const struct question *q)
{
    return q->node->exists && q->node->state == NODE_STATE__UP &&
           q->node->availability == NODE_AVAILABILITY__ACTIVE;
}

static int64_t amount_of(const struct demand_generic *all, uint32_t count, const char *kind)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(all[i].kind, kind) == 0)
            return all[i].amount;
    return 0;
}

static bool generic_fit(const struct question *q, const struct demand_generic *asked)
{
    const struct index_node *n = q->node;
    int64_t offered = amount_of(n->generic, n->generic_count, asked->kind);
    int64_t used = amount_of(n->reserved_generic, n->reserved_generic_count, asked->kind);

    if (q->without)
        used -= amount_of(q->without->generic, q->without->generic_count, asked->kind);
    return asked->amount <= offered - used;
}

/* Reservations alone count, neither limits nor real use. */
static bool resources(const struct question *q)
{
    const struct demand *d = &q->spec->demand, *w = q->without;
    const struct index_node *n = q->node;

    if (d->nano_cpus && d->nano_cpus > n->nano_cpus - n->reserved_cpus + (w ? w->nano_cpus : 0))
        return false;
    if (d->memory_bytes && d->memory_bytes > n->memory_bytes - n->reserved_memory + (w ? w->memory_bytes : 0))
        return false;
    for (uint32_t i = 0; i < d->generic_count; i++)
        if (!generic_fit(q, &d->generic[i]))
            return false;
    return true;
}

static bool has_plugin(const struct index_node *n, const struct demand_plugin *asked)
{
    bool any_of_type = false;

    for (uint32_t i = 0; i < n->plugin_count; i++) {
        if (strcmp(n->plugins[i].key, asked->type) != 0)
            continue;
        any_of_type = true;
        if (strcmp(n->plugins[i].value, asked->name) == 0)
            return true;
    }
    /* A node that reports no log drivers at all is not refused for them. */
    return !any_of_type && strcmp(asked->type, "Log") == 0;
}

static bool plugins(const struct question *q)
{
    for (uint32_t i = 0; i < q->spec->demand.plugin_count; i++)
        if (!has_plugin(q->node, &q->spec->demand.plugins[i]))
            return false;
    return true;
}

static bool constraints(const struct question *q)
{
    return constraints_hold(q->spec->demand.constraints, q->spec->demand.constraint_count, q->node);
}

static bool platforms(const struct question *q)
{
    const struct demand *d = &q->spec->demand;

    if (!d->platform_count)
        return true;
    const char *architecture = demand_architecture(q->node->architecture);
    for (uint32_t i = 0; i < d->platform_count; i++) {
        const struct demand_platform *p = &d->platforms[i];

        if ((!*p->os || strcmp(p->os, q->node->os) == 0) &&
            (!*p->architecture || strcmp(p->architecture, architecture) == 0))
            return true;
    }
    return false;
}

static uint32_t times(const uint32_t *ports, uint32_t count, uint32_t port)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i++)
        found += ports[i] == port;
    return found;
}

static bool host_ports(const struct question *q)
{
    const struct demand *d = &q->spec->demand, *w = q->without;

    for (uint32_t i = 0; i < d->host_port_count; i++) {
        uint32_t port = d->host_ports[i];
        uint32_t freed = w ? times(w->host_ports, w->host_port_count, port) : 0;

        if (times(q->node->host_ports, q->node->host_port_count, port) > freed)
            return false;
    }
    return true;
}

static bool replicas(const struct question *q)
{
    return !q->spec->demand.max_replicas || q->counted < q->spec->demand.max_replicas;
}

static bool node_tasks(const struct question *q)
{
    return q->node->counted - q->counts_itself < FILTER_NODE_TASKS_MAX;
}

/* In the order of enum filter, which is Docker's. The text is `before`, the number of nodes, and `one` or `many`.
 */
static const struct {
    bool (*passes)(const struct question *q);
    const char *before, *one, *many;
} filters[FILTER_COUNT] = {
    [FILTER_READY] = {ready, "", " node not available for new tasks", " nodes not available for new tasks"},
    [FILTER_RESOURCES] = {resources, "insufficient resources on ", " node", " nodes"},
    [FILTER_PLUGIN] = {plugins, "missing plugin on ", " node", " nodes"},
    [FILTER_CONSTRAINT] = {constraints, "scheduling constraints not satisfied on ", " node", " nodes"},
    [FILTER_PLATFORM] = {platforms, "unsupported platform on ", " node", " nodes"},
    [FILTER_HOST_PORT] = {host_ports, "host-mode port already in use on ", " node", " nodes"},
    [FILTER_MAX_REPLICAS] = {replicas, "max replicas per node limit exceed", NULL, NULL},
    [FILTER_NODE_TASKS] = {node_tasks, "", " node has the most tasks it can hold",
                           " nodes have the most tasks they can hold"},
};

static enum filter check(const struct question *q)
{
    for (enum filter f = FILTER_NONE + 1; f < FILTER_COUNT; f++)
        if (!filters[f].passes(q))
            return f;
    return FILTER_NONE;
}

enum filter filter_check(const struct index_spec *spec, const struct index_node *node,
                         const struct index_share *share)
{
    return check(&(struct question){.spec = spec, .node = node, .counted = share ? share->counted : 0});
}

enum filter filter_check_again(const struct index_spec *spec, const struct index_node *node,
                               const struct index_share *share)
{
    const struct question q = {.spec = spec, .node = node, .counted = share ? share->counted : 0};

    if (!resources(&q))
        return FILTER_RESOURCES;
    if (!host_ports(&q))
        return FILTER_HOST_PORT;
    if (!replicas(&q))
        return FILTER_MAX_REPLICAS;
    return node_tasks(&q) ? FILTER_NONE : FILTER_NODE_TASKS;
}

enum filter filter_check_pinned(const struct index_task *t)
{
    bool counts_itself = t->slot->holder == t && t->slot->counted;

    return check(&(struct question){.spec = t->spec,
                                    .node = t->share->node,
                                    .counted = t->share->counted - counts_itself,
                                    .counts_itself = counts_itself});
}

bool filter_fits_without(const struct index_task *new, const struct index_task *old)
{
    struct question q = {.spec = new->spec, .node = old->share->node};

    /* Neither counts among the replicas of the node: the old one is no holder any more. */
    q.counts_itself = new->share == old->share &&new->slot->counted;
    q.counted = old->share->counted - q.counts_itself;
    q.without = old->holds_resources ? &old->spec->demand : NULL;
    return (!new->share || new->share == old->share) && check(&q) == FILTER_NONE;
}

const char *filter_text(struct arena *a, enum filter f, uint32_t nodes)
{
    if (!filters[f].one)
        return filters[f].before;
    return arena_printf(a, "%s%u%s", filters[f].before, nodes, nodes == 1 ? filters[f].one : filters[f].many);
}

const char *filter_explain(struct arena *a, const uint32_t refused[FILTER_COUNT])
{
    uint32_t left[FILTER_COUNT];
    const char *text = NULL;

    memcpy(left, refused, sizeof(left));
    for (;;) {
        enum filter most = FILTER_NONE;

        for (enum filter f = FILTER_NONE + 1; f < FILTER_COUNT; f++)
            if (left[f] && (most == FILTER_NONE || left[f] > left[most]))
                most = f;
        if (most == FILTER_NONE)
            break;
        const char *part = filter_text(a, most, left[most]);
        text = text ? arena_printf(a, "%s; %s", text, part) : part;
        left[most] = 0;
    }
    return text ? arena_printf(a, "no suitable node (%s)", text) : "no suitable node";
}
