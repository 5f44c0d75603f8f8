/* See index.h.
 *
 * index_apply dispatches by kind: nodes in index_node.c, specs in index_spec.c, tasks and statuses (with slots and
 * shares) in index_task.c; services, the cluster and stored answers here. Each applies one object whatever was
 * there before, so the same code grows an index, shrinks it, follows and undoes.
 *
 * Objects may arrive in any order: a task may name a node, service or spec that is not there yet or not any more. A
 * placeholder (exists false, number 0 for specs) stands for it and goes with the last that names it. This is also
 * how planners find what is to be done after a service or node was removed. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "manager/index_internal.h"
#include "proto/base/mem.h"
#include "proto/base/planted.h"

#define TASK_HISTORY_DEFAULT 5

struct index *index_new(void)
{
    struct index *x = mem_alloc(sizeof(*x));

    table_init(&x->tasks, offsetof(struct index_task, number), 8);
    table_init(&x->tasks_by_id, offsetof(struct index_task, id), 16);
    table_init(&x->nodes, offsetof(struct index_node, number), 8);
    table_init(&x->nodes_by_id, offsetof(struct index_node, id), 16);
    table_init(&x->services, offsetof(struct index_service, number), 8);
    table_init(&x->services_by_id, offsetof(struct index_service, id), 16);
    table_init(&x->specs, offsetof(struct index_spec, number), 8);
    table_init(&x->shares, offsetof(struct index_share, service_number), 16);
    table_init(&x->requests, offsetof(struct index_request, number), 8);
    struct list *heads[] = {&x->request_ages,   &x->failures,      &x->global_services, &x->dirty_nodes,
                            &x->dirty_services, &x->dirty_classes, &x->dirty_specs,     &x->unallocated,
                            &x->confirm,        &x->starved,       &x->parked,          &x->resumed_classes};
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        list_init(heads[i]);
    x->task_history_limit = TASK_HISTORY_DEFAULT;
    return x;
}

static void free_service(struct index_service *s)
{
    table_fini(&s->slots);
    free(s->ports);
    free(s->name);
    free(s);
}

static void free_contents(struct index *x)
{
    void *entry;

    for (size_t at = 0; (entry = table_next(&x->tasks, &at));)
        index_free_task(entry);
    for (size_t at = 0; (entry = table_next(&x->shares, &at));)
        free(entry);
    for (size_t at = 0; (entry = table_next(&x->services, &at));) {
        struct index_service *s = entry;
        struct list *link;

        while ((link = list_pop(&s->specs)))
            index_free_spec(list_entry(link, struct index_spec, by_service));
        while ((link = list_pop(&s->all_slots)))
            free(list_entry(link, struct index_slot, by_service));
        free_service(s);
    }
    for (size_t at = 0; (entry = table_next(&x->requests, &at));)
        free(entry);
    for (size_t at = 0; (entry = table_next(&x->nodes, &at));)
        index_free_node(entry);
}

void index_free(struct index *x)
{
    if (!x)
        return;
    /* Heaps first: their items are inside what is freed next. */
    heap_fini(&x->task_timers);
    heap_fini(&x->service_timers);
    heap_fini(&x->node_timers);
    free_contents(x);
    struct table *tables[] = {&x->tasks,          &x->tasks_by_id, &x->nodes,  &x->nodes_by_id, &x->services,
                              &x->services_by_id, &x->specs,       &x->shares, &x->requests};
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        table_fini(tables[i]);
    map64_fini(&x->ports);
    map64_fini(&x->host_ports);
    free(x->changed.places);
    free(x->eased.places);
    free(x->node_at);
    free(x->node_holes);
    free(x);
}

/* --- look-up ------------------------------------------------------------------------------------------- */

struct index_task *index_task(const struct index *x, uint64_t number)
{
    return table_get(&x->tasks, &number);
}

struct index_task *index_task_recent(struct index *x, uint64_t number)
{
    struct index_task *t = x->recent_task;

    return t && t->number == number ? t : (x->recent_task = index_task(x, number));
}

void index_expect_task(struct index *x, struct index_task *t)
{
    x->recent_task = t;
}

struct index_task *index_task_by_id(const struct index *x, const uint8_t id[16])
{
    return table_get(&x->tasks_by_id, id);
}

struct index_node *index_node(const struct index *x, uint64_t number)
{
    return table_get(&x->nodes, &number);
}

struct index_node *index_node_by_id(const struct index *x, const uint8_t id[16])
{
    return table_get(&x->nodes_by_id, id);
}

struct index_service *index_service(const struct index *x, uint64_t number)
{
    return table_get(&x->services, &number);
}

struct index_service *index_service_by_id(const struct index *x, const uint8_t id[16])
{
    return table_get(&x->services_by_id, id);
}

struct index_spec *index_spec(const struct index_service *s, uint64_t version)
{
    struct index_spec *spec;

    list_each (spec, &s->specs, by_service)
        if (spec->version == version)
            return spec;
    return NULL;
}

struct index_share *index_share(const struct index *x, uint64_t service, uint64_t node)
{
    return table_get(&x->shares, (uint64_t[2]){service, node});
}

struct index_share *index_share_recent(struct index *x, uint64_t service, uint64_t node)
{
    struct index_share *share = x->recent_share;

    if (share && share->service_number == service && share->node_number == node)
        return share;
    return x->recent_share = index_share(x, service, node);
}

struct index_slot *index_slot(const struct index_service *s, uint64_t key)
{
    return table_get(&s->slots, &key);
}

struct index_task *index_service_next(const struct index_service *s, struct index_walk *w)
{
    while (!w->slot || w->next == &w->slot->tasks) {
        struct list *next = w->slot ? w->slot->by_service.next : s->all_slots.next;

        if (next == &s->all_slots)
            return NULL;
        w->slot = list_entry(next, struct index_slot, by_service);
        w->next = w->slot->tasks.next;
    }
    struct index_task *t = list_entry(w->next, struct index_task, by_slot);
    w->next = w->next->next;
    return t;
}

struct index_task *index_node_next(const struct index_node *n, struct index_walk *w)
{
    while (!w->share || w->next == &w->share->tasks) {
        struct list *next = w->share ? w->share->by_node.next : n->shares.next;

        if (next == &n->shares)
            return NULL;
        w->share = list_entry(next, struct index_share, by_node);
        w->next = w->share->tasks.next;
    }
    struct index_task *t = list_entry(w->next, struct index_task, by_share);
    w->next = w->next->next;
    return t;
}

/* --- marks ----------------------------------------------------------------------------------------------- */

void index_mark_service(struct index *x, struct index_service *s)
{
    index_mark(&x->dirty_services, &s->dirty);
}

void index_mark_slot(struct index *x, struct index_slot *s)
{
    index_mark(&s->service->dirty_slots, &s->dirty);
    index_mark_service(x, s->service);
}

void index_mark_spec(struct index *x, struct index_spec *spec)
{
    index_mark(&x->dirty_specs, &spec->reap);
}

/* One that waits for its turn keeps its place; one that is parked tries again. */
void index_mark_class(struct index *x, struct index_spec *spec)
{
    if (spec->parked)
        list_remove(&spec->dirty);
    spec->parked = false;
    index_mark(&x->dirty_classes, &spec->dirty);
}

void index_mark_unallocated(struct index *x, struct index_service *s)
{
    list_remove(&s->unallocated); /* it may be starved: then it tries again */
    list_push(&x->unallocated, &s->unallocated);
}

static void mark_all_of(struct index *x, struct index_service *s)
{
    struct index_spec *spec;

    index_mark_service(x, s);
    index_mark_unallocated(x, s);
    s->scan = true;
    s->scan_at = 0;
    s->slot_walk = list_first(&s->all_slots, struct index_slot, by_service);
    list_each (spec, &s->specs, by_service) {
        index_mark_class(x, spec);
        index_mark_spec(x, spec);
    }
}

void index_mark_all(struct index *x)
{
    void *entry;

    for (size_t at = 0; (entry = table_next(&x->services, &at));)
        mark_all_of(x, entry);
    for (uint32_t i = 0; i < x->node_count; i++) {
        if (!x->node_at[i])
            continue;
        index_mark(&x->dirty_nodes, &x->node_at[i]->dirty);
        index_mark(&x->confirm, &x->node_at[i]->confirm);
    }
}

bool index_marked(const struct index *x)
{
    const struct list *marks[] = {&x->dirty_nodes, &x->dirty_services, &x->dirty_classes, &x->resumed_classes,
                                  &x->dirty_specs, &x->unallocated,    &x->confirm};
    const struct index_spec *parked = list_first(&x->parked, struct index_spec, dirty);

    for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
        if (!list_empty(marks[i]))
            return true;
    return parked && parked->parked_at < x->eased_at;
}

int64_t index_request_until_ms(const struct index *x, const struct index_request *r)
{
    return MAX(r->at_ms, x->requests_from_ms) + INDEX_REQUEST_MS;
}

int64_t index_next_timer(const struct index *x)
{
    const struct heap *heaps[] = {&x->task_timers, &x->service_timers, &x->node_timers};
    const struct index_request *oldest = list_first(&x->request_ages, struct index_request, by_age);
    int64_t next = oldest ? index_request_until_ms(x, oldest) : INT64_MAX;

    for (size_t i = 0; i < ARRAY_SIZE(heaps); i++)
        if (heap_first(heaps[i]))
            next = MIN(next, heap_first(heaps[i])->key);
    return next;
}

/* --- services ---------------------------------------------------------------------------------------------- */

struct index_service *index_service_get(struct index *x, uint64_t number)
{
    struct index_service *s = index_service(x, number);

    if (s)
        return s;
    s = mem_alloc(sizeof(*s));
    s->number = number;
    s->name = mem_strdup("");
    s->free_hint = 1;
    table_init(&s->slots, offsetof(struct index_slot, key), 8);
    struct list *links[] = {&s->specs,  &s->all_slots, &s->shares,      &s->fresh,
                            &s->global, &s->dirty,     &s->dirty_slots, &s->unallocated};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        list_init(links[i]);
    table_put(&x->services, s);
    return s;
}

void index_service_needless(struct index *x, struct index_service *s)
{
    if (s->exists || s->slots.count || !list_empty(&s->specs))
        return;
    table_remove(&x->services, &s->number);
    list_remove(&s->dirty);
    list_remove(&s->unallocated);
    list_remove(&s->global);
    heap_remove(&x->service_timers, &s->timer);
    free_service(s);
}

static void take_mesh_port(struct index *x, struct index_service *s, uint32_t port, bool take)
{
    void *owner = map64_get(&x->ports, port);

    if (take && !owner)
        map64_put(&x->ports, port, s);
    else if (!take && owner == s)
        map64_remove(&x->ports, port);
}

static void count_host_port(struct index *x, uint32_t port, int by)
{
    intptr_t count = (intptr_t)map64_get(&x->host_ports, port) + by;

    if (count)
        map64_put(&x->host_ports, port, (void *)count);
    else
        map64_remove(&x->host_ports, port);
}

static void take_ports(struct index *x, struct index_service *s, bool take)
{
    for (uint32_t i = 0; i < s->port_count; i++) {
        const struct index_port *p = &s->ports[i];

        if (!(p->published & 0xffff))
            continue;
        if (p->mode == PUBLISH_MODE__INGRESS)
            take_mesh_port(x, s, p->published, take);
        else
            count_host_port(x, p->published, take ? 1 : -1);
    }
    if (!take && s->port_count)
        list_splice(&x->unallocated, &x->starved);
}

static void set_ports(struct index_service *s, const Endpoint *endpoint)
{
    s->endpoint_digest = index_digest(endpoint && endpoint->spec ? &endpoint->spec->base : NULL);
    s->port_count = endpoint ? (uint32_t)endpoint->n_ports : 0;
    free(s->ports);
    s->ports = s->port_count ? mem_array(s->port_count, sizeof(*s->ports)) : NULL;
    for (uint32_t i = 0; i < s->port_count; i++) {
        const PortConfig *from = endpoint->ports[i];

        s->ports[i].target = (uint32_t)from->protocol << 16 | (from->target_port & 0xffff);
        s->ports[i].published = (uint32_t)from->protocol << 16 | (from->published_port & 0xffff);
        s->ports[i].mode = from->mode;
    }
}

/* Called with whatever is true already; links the service where its present spec belongs. */
void index_service_current(struct index *x, struct index_service *s)
{
    struct index_spec *spec = s->exists ? index_spec(s, s->spec_version) : NULL;
    bool is_global;

    if (spec && !spec->number)
        spec = NULL; /* only named so far */
    is_global = spec && spec->mode == SERVICE_MODE__GLOBAL;
    list_remove(&s->global);
    if (is_global)
        list_push(&x->global_services, &s->global);
    if (spec == s->current)
        return;
    s->current = spec;
    s->scan = true;
    s->scan_at = 0;
    struct index_spec *other;
    list_each (other, &s->specs, by_service) {
        other->walk = list_first(&other->holders, struct index_task, by_spec);
        index_mark_spec(x, other);
    }
    index_mark_unallocated(x, s);
}

static void service_apply(struct index *x, uint64_t number, const Service *after)
{
    struct index_service *s = index_service_get(x, number);

    take_ports(x, s, false);
    if (after && !s->exists) {
        memcpy(s->id, after->id.data, MIN(after->id.len, sizeof(s->id)));
        table_put(&x->services_by_id, s);
    } else if (!after && s->exists) {
        table_remove(&x->services_by_id, s->id);
    }
    s->exists = after != NULL;
    s->spec_version = after ? after->spec_version : 0;
    s->previous_spec_version = after ? after->previous_spec_version : 0;
    const UpdateStatus *update = after ? after->update_status : NULL;
    s->has_update = update != NULL;
    s->update_state = update ? update->state : UPDATE_STATE__NO_UPDATE;
    s->update_started_ms = update ? update->started_ms : 0;
    s->update_slots = update ? update->slots : 0;
    s->update_failures = update ? update->failures : 0;
    set_ports(s, after ? after->endpoint : NULL);
    take_ports(x, s, true);
    if (strcmp(s->name, after ? after->name : "") != 0) {
        free(s->name);
        s->name = mem_strdup(after ? after->name : "");
    }
    index_service_current(x, s);
    index_mark_service(x, s);
    index_mark_unallocated(x, s);
    if (!after) {
        struct index_spec *spec;

        s->slot_walk = list_first(&s->all_slots, struct index_slot, by_service);
        list_each (spec, &s->specs, by_service)
            index_mark_spec(x, spec);
        index_service_needless(x, s);
    }
}

/* --- stored answers, the cluster --------------------------------------------------------------------------- */

static void request_apply(struct index *x, uint64_t number, const Request *after)
{
    struct index_request *r = table_get(&x->requests, &number);

    if (!after || r) {
        if (!r)
            return;
        table_remove(&x->requests, &number);
        list_remove(&r->by_age);
        free(r);
        x->request_count--;
    }
    if (!after)
        return;
    r = mem_alloc(sizeof(*r));
    *r = (struct index_request){.number = number, .at_ms = after->at_ms};
    table_put(&x->requests, r);
    x->request_count++;
    /* Numbers grow with time: its place is at the end, or in front when its removal is undone. */
    struct index_request *first = list_first(&x->request_ages, struct index_request, by_age);
    struct list *at = first && first->number > number ? &x->request_ages : x->request_ages.prev;
    for (; at != &x->request_ages; at = at->prev)
        if (list_entry(at, struct index_request, by_age)->number < number)
            break;
    list_insert(at, &r->by_age);
}

static void cluster_apply(struct index *x, uint64_t number, const Cluster *after)
{
    x->cluster = after ? number : 0;
    x->task_history_limit = TASK_HISTORY_DEFAULT;
    if (after && after->spec && after->spec->has_task_history_limit)
        x->task_history_limit = after->spec->task_history_limit;
    x->has_log_driver = after && after->spec && after->spec->log_driver;
}

void index_apply(struct index *x, const struct object *before, const struct object *after)
{
    const struct object *either = after ? after : before;

    if (!either)
        return;
    const void *old = before ? before->message : NULL, *now = after ? after->message : NULL;
    switch (either->kind) {
    case KIND_CLUSTER:
        cluster_apply(x, either->number, now);
        break;
    case KIND_NODE:
        index_apply_node(x, either->number, now);
        break;
    case KIND_SERVICE:
        service_apply(x, either->number, now);
        break;
    case KIND_SPEC:
        index_apply_spec(x, either->number, old, now);
        break;
    case KIND_TASK:
        index_apply_task(x, before, after);
        break;
    case KIND_STATUS:
        index_apply_status(x, either->number, old, now);
        break;
    case KIND_REQUEST:
        request_apply(x, either->number, now);
        break;
    case KIND_NETWORK:
    case KIND_MAX:
        break;
    }
}

void index_changed(void *index, uint64_t at, const struct object *before, const struct object *after)
{
    (void)at; /* the index does not care when */
    if (PLANTED(UNDO_FORGOTTEN) && at == 0 && before && !after && before->version == 0)
        return;
    index_apply(index, before, after);
}
