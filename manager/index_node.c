/* Nodes of the index (index.h): their facts, what is reserved on them, and the order in which they changed.
 *
 * The facts of a node lie in one block, because there are many nodes and each has dozens of small texts. All that
 * placing looks at and that changes often (reservations, ports, load) is kept beside it by index_task.c, which
 * tells index_node_changed; the scheduler's ranks follow two logs of places, so that they cost what changed. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/index_internal.h"
#include "proto/base/mem.h"

#define LOG_MIN   1024
#define LOG_NODES 4 /* changes kept per node */

/* What the smaller log held is given up: whoever followed it looks at all nodes once. */
static void log_grow(struct index_log *l, uint32_t nodes)
{
    uint32_t size = l->size ? l->size : LOG_MIN;

    while (size / LOG_NODES < nodes)
        size *= 2;
    if (size == l->size)
        return;
    l->places = mem_grow(l->places, size, sizeof(*l->places));
    l->size = size;
    l->first = l->count;
}

struct index_node *index_node_get(struct index *x, uint64_t number)
{
    struct index_node *n = index_node(x, number);

    if (n)
        return n;
    n = mem_alloc(sizeof(*n));
    n->number = number;
    n->name = n->hostname = n->address = n->os = n->architecture = "";
    struct list *links[] = {&n->shares, &n->pinned, &n->failures, &n->dirty, &n->confirm};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        list_init(links[i]);
    table_put(&x->nodes, n);
    if (x->node_hole_count) {
        n->place = x->node_holes[--x->node_hole_count];
    } else {
        if (x->node_count == x->node_room) {
            x->node_room = MAX(x->node_room * 2, 16u);
            x->node_at = mem_grow(x->node_at, x->node_room, sizeof(struct index_node *));
        }
        n->place = x->node_count++;
    }
    x->node_at[n->place] = n;
    log_grow(&x->changed, x->node_count);
    log_grow(&x->eased, x->node_count);
    return n;
}

static void drop_failure(struct index_failure *f)
{
    list_remove(&f->by_node);
    list_remove(&f->by_time);
    free(f);
}

void index_free_node(struct index_node *n)
{
    struct list *link;

    while ((link = n->failures.next) != &n->failures)
        drop_failure(list_entry(link, struct index_failure, by_node));
    for (uint32_t i = 0; i < n->reserved_generic_count; i++)
        free((char *)n->reserved_generic[i].kind);
    free(n->reserved_generic);
    free(n->host_ports);
    free(n->memory);
    free(n);
}

void index_node_needless(struct index *x, struct index_node *n)
{
    if (n->exists || !list_empty(&n->shares))
        return;
    table_remove(&x->nodes, &n->number);
    list_remove(&n->dirty);
    list_remove(&n->confirm);
    heap_remove(&x->node_timers, &n->timer);
    x->node_at[n->place] = NULL;
    if (x->node_hole_count == x->node_hole_room) {
        x->node_hole_room = MAX(x->node_hole_room * 2, 16u);
        x->node_holes = mem_grow(x->node_holes, x->node_hole_room, sizeof(*x->node_holes));
    }
    x->node_holes[x->node_hole_count++] = n->place;
    x->gone_at = ++x->sequence; /* ranks that know this place must forget it */
    index_free_node(n);
}

static void note(struct index_log *l, uint32_t place)
{
    l->places[l->count++ & (l->size - 1)] = place;
}

void index_node_changed(struct index *x, struct index_node *n, bool eased)
{
    n->changed_at = ++x->sequence;
    note(&x->changed, n->place);
    if (!eased)
        return;
    x->eased_at = x->sequence;
    note(&x->eased, n->place);
    if (!list_empty(&n->pinned))
        index_mark(&x->confirm, &n->confirm);
}

/* --- facts --------------------------------------------------------------------------------------------------- */

struct facts { /* one block: arrays, then texts */
    char *memory, *next;
    size_t size;
};

static void *take(struct facts *f, size_t size)
{
    void *part = f->next;

    f->next += size;
    assert(f->next <= f->memory + f->size);
    return part;
}

static const char *take_text(struct facts *f, const char *text)
{
    size_t bytes = text ? strlen(text) + 1 : 1;

    return text && *text ? memcpy(take(f, bytes), text, bytes) : "";
}

static struct index_label *take_labels(struct facts *f, KeyValue *const *from, size_t count)
{
    struct index_label *labels = take(f, count * sizeof(*labels));

    for (size_t i = 0; i < count; i++) {
        labels[i].key = from[i]->key;
        labels[i].value = from[i]->value;
    }
    return labels;
}

static void take_label_texts(struct facts *f, struct index_label *labels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        labels[i].key = take_text(f, labels[i].key);
        labels[i].value = take_text(f, labels[i].value);
    }
}

/* Amounts by kind; named units count one each. */
static void take_generic(struct facts *f, struct index_node *n, const Resources *r)
{
    n->generic = take(f, r ? r->n_generic * sizeof(*n->generic) : 0);
    n->generic_count = 0;
    for (size_t i = 0; r && i < r->n_generic; i++) {
        const GenericResource *one = r->generic[i];
        int64_t amount = one->named ? 1 : one->discrete;
        uint32_t k = 0;

        while (k < n->generic_count && strcmp(n->generic[k].kind, one->kind) != 0)
            k++;
        if (k == n->generic_count)
            n->generic[n->generic_count++] = (struct demand_generic){.kind = one->kind};
        n->generic[k].amount += amount;
    }
}

static size_t facts_size(const Node *node)
{
    const NodeDescription *d = node->description;
    size_t size =
        protobuf_c_message_get_packed_size(&node->base); /* each text is longer there than with its zero */

    if (node->spec)
        size += node->spec->n_labels * sizeof(struct index_label);
    if (d)
        size += (d->n_engine_labels + d->n_plugins) * sizeof(struct index_label);
    if (d && d->resources)
        size += d->resources->n_generic * sizeof(struct demand_generic);
    return size + 1;
}

static void set_facts(struct index_node *n, const Node *node)
{
    static const NodeSpec no_spec = NODE_SPEC__INIT;
    static const NodeDescription no_description = NODE_DESCRIPTION__INIT;
    const NodeSpec *spec = node->spec ? node->spec : &no_spec;
    const NodeDescription *d = node->description ? node->description : &no_description;
    struct facts f = {.size = facts_size(node)};

    f.memory = f.next = mem_alloc(f.size);
    n->memory = f.memory;
    n->label_count = (uint32_t)spec->n_labels;
    n->labels = take_labels(&f, spec->labels, spec->n_labels);
    n->engine_label_count = (uint32_t)d->n_engine_labels;
    n->engine_labels = take_labels(&f, d->engine_labels, d->n_engine_labels);
    n->plugin_count = (uint32_t)d->n_plugins;
    n->plugins = take_labels(&f, d->plugins, d->n_plugins);
    take_generic(&f, n, d->resources);
    take_label_texts(&f, n->labels, n->label_count);
    take_label_texts(&f, n->engine_labels, n->engine_label_count);
    take_label_texts(&f, n->plugins, n->plugin_count);
    for (uint32_t i = 0; i < n->generic_count; i++)
        n->generic[i].kind = take_text(&f, n->generic[i].kind);
    n->name = take_text(&f, spec->name);
    n->hostname = take_text(&f, d->hostname);
    n->address = take_text(&f, node->address);
    n->os = take_text(&f, d->platform ? d->platform->os : NULL);
    n->architecture = take_text(&f, d->platform ? d->platform->architecture : NULL);
    n->nano_cpus = d->resources ? d->resources->nano_cpus : 0;
    n->memory_bytes = d->resources ? d->resources->memory_bytes : 0;
    n->role = spec->role;
    n->availability = spec->availability;
    n->state = node->state;
    n->down_since_ms = node->down_since_ms;
    n->raft_id = node->manager ? node->manager->raft_id : 0;
}

static void clear_facts(struct index_node *n)
{
    free(n->memory);
    n->memory = NULL;
    n->label_count = n->engine_label_count = n->plugin_count = n->generic_count = 0;
    n->name = n->hostname = n->address = n->os = n->architecture = "";
    n->nano_cpus = n->memory_bytes = n->down_since_ms = 0;
    n->raft_id = 0;
    n->state = NODE_STATE__UNKNOWN;
    n->availability = NODE_AVAILABILITY__ACTIVE;
    n->role = NODE_ROLE__WORKER;
}

void index_apply_node(struct index *x, uint64_t number, const Node *after)
{
    struct index_node *n = index_node_get(x, number);

    if (after && !n->exists) {
        memcpy(n->id, after->id.data, MIN(after->id.len, sizeof(n->id)));
        ident_format(n->id, n->id_text);
        table_put(&x->nodes_by_id, n);
    } else if (!after && n->exists) {
        table_remove(&x->nodes_by_id, n->id);
    }
    n->exists = after != NULL;
    clear_facts(n);
    if (after)
        set_facts(n, after);
    index_node_changed(x, n, true);
    n->facts_at = n->changed_at;
    index_mark(&x->dirty_nodes, &n->dirty);
    if (!after)
        index_node_needless(x, n);
}

/* --- reservations --------------------------------------------------------------------------------------------- */

static void reserve_generic(struct index_node *n, const struct demand_generic *asked, int sign)
{
    uint32_t i = 0;

    while (i < n->reserved_generic_count && strcmp(n->reserved_generic[i].kind, asked->kind) != 0)
        i++;
    if (i == n->reserved_generic_count) {
        n->reserved_generic =
            mem_grow(n->reserved_generic, ++n->reserved_generic_count, sizeof(*n->reserved_generic));
        n->reserved_generic[i] = (struct demand_generic){.kind = mem_strdup(asked->kind)};
    }
    n->reserved_generic[i].amount += sign * asked->amount;
    if (n->reserved_generic[i].amount)
        return;
    free((char *)n->reserved_generic[i].kind);
    n->reserved_generic[i] = n->reserved_generic[--n->reserved_generic_count];
}

static void reserve_port(struct index_node *n, uint32_t port, int sign)
{
    if (sign > 0) {
        if (n->host_port_count == n->host_port_room) {
            n->host_port_room = MAX(n->host_port_room * 2, 4u);
            n->host_ports = mem_grow(n->host_ports, n->host_port_room, sizeof(*n->host_ports));
        }
        n->host_ports[n->host_port_count++] = port;
        return;
    }
    for (uint32_t i = 0; i < n->host_port_count; i++)
        if (n->host_ports[i] == port) {
            n->host_ports[i] = n->host_ports[--n->host_port_count];
            return;
        }
}

void index_node_reserve(struct index_node *n, const struct demand *d, int sign)
{
    n->reserved_cpus += sign * d->nano_cpus;
    n->reserved_memory += sign * d->memory_bytes;
    for (uint32_t i = 0; i < d->generic_count; i++)
        if (d->generic[i].amount)
            reserve_generic(n, &d->generic[i], sign);
    for (uint32_t i = 0; i < d->host_port_count; i++)
        reserve_port(n, d->host_ports[i], sign);
}

/* --- failures ---------------------------------------------------------------------------------------------------
 */

void index_add_failure(struct index *x, struct index_node *n, const struct index_spec *spec, int64_t at_ms)
{
    struct index_failure *f = mem_alloc(sizeof(*f));

    *f = (struct index_failure){
        .node = n, .service = spec->service->number, .version = spec->version, .at_ms = at_ms};
    list_push(&n->failures, &f->by_node);
    list_push(&x->failures, &f->by_time);
    index_node_changed(x, n, false);
}

void index_drop_failure(struct index *x, struct index_node *n, const struct index_spec *spec)
{
    for (struct list *at = n->failures.prev; at != &n->failures; at = at->prev) {
        struct index_failure *f = list_entry(at, struct index_failure, by_node);

        if (f->service != spec->service->number || f->version != spec->version)
            continue;
        drop_failure(f);
        index_node_changed(x, n, true);
        return;
    }
}

uint32_t index_node_failures(const struct index_node *n, const struct index_spec *spec)
{
    const struct index_failure *f;
    uint32_t count = 0;

    list_each (f, &n->failures, by_node)
        count += f->service == spec->service->number && f->version == spec->version;
    return count;
}

void index_forget_failures(struct index *x, int64_t now_ms)
{
    struct index_failure *f;

    while ((f = list_first(&x->failures, struct index_failure, by_time)) && f->at_ms + INDEX_FAILURE_MS <= now_ms) {
        struct index_node *n = f->node;

        drop_failure(f);
        index_node_changed(x, n, true);
    }
}
