/* Comparing two indexes (index.h): one kept warm through index_apply, one built anew. Facts and what follows from
 * them are compared; marks, timers and hints are not. The first difference is named, with the object and both
 * values, so that a failing simulation reads well. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "manager/index_internal.h"

struct compare {
    char *text;
    size_t size;
    char object[96]; /* what is being compared */
};

static bool differ(struct compare *c, const char *what, uint64_t a, uint64_t b)
{
    if (a == b)
        return false;
    (void)snprintf(c->text, c->size, "%s: %s is %" PRIu64 " and %" PRIu64, c->object, what, a, b); /* cut is fine */
    return true;
}

static bool texts_differ(struct compare *c, const char *what, const char *a, const char *b)
{
    if (strcmp(a, b) == 0)
        return false;
    (void)snprintf(c->text, c->size, "%s: %s is \"%s\" and \"%s\"", c->object, what, a, b);
    return true;
}

static bool missing(struct compare *c)
{
    (void)snprintf(c->text, c->size, "%s is in one index only", c->object);
    return true;
}

static uint64_t length(const struct list *head)
{
    uint64_t count = 0;

    for (const struct list *at = head->next; at != head; at = at->next)
        count++;
    return count;
}

#define D(member)       differ(c, #member, (uint64_t)a->member, (uint64_t)b->member)
#define DLENGTH(member) differ(c, "length of " #member, length(&a->member), length(&b->member))
#define DTEXT(member)   texts_differ(c, #member, a->member, b->member)

static uint64_t node_number(const struct index_task *t)
{
    return t->share ? t->share->node_number : 0;
}

static bool tasks_differ(struct compare *c, const struct index_task *a, const struct index_task *b)
{
    return differ(c, "id", !memcmp(a->id, b->id, 16), 1) || D(spec->version) || D(spec->service->number) ||
           D(slot->key) || differ(c, "node", node_number(a), node_number(b)) || D(created_ms) || D(desired_ms) ||
           D(start_at_ms) || D(predecessor) || D(desired) || D(state) || D(state_ms) || D(running_ms) ||
           D(err_digest) || D(restarted) || D(made) || D(holds_resources) || D(stage_kind);
}

static bool specs_differ(struct compare *c, const struct index_spec *a, const struct index_spec *b)
{
    return D(version) || D(number) || D(mode) || D(has_log_driver) || D(replicas) || D(restart_condition) ||
           D(restart_attempts) || D(restart_delay_ms) || D(restart_window_ms) || D(update.parallelism) ||
           D(update.delay_ms) || D(core_digest[0]) || D(core_digest[1]) || D(placement_digest) || D(auth_digest) ||
           D(demand.digest[0]) || D(demand.digest[1]) || D(task_count) || D(holder_count) || D(unsettled) ||
           DLENGTH(holders) || differ(c, "holders listed", length(&a->holders), a->holder_count) ||
           differ(c, "waiting", length(&a->waiting) + length(&a->explained),
                  length(&b->waiting) + length(&b->explained)) ||
           DLENGTH(settled);
}

static bool slots_differ(struct compare *c, const struct index_slot *a, const struct index_slot *b)
{
    return differ(c, "holder", a->holder ? a->holder->number : 0, b->holder ? b->holder->number : 0) ||
           D(task_count) || DLENGTH(tasks) || D(live_count) || D(leaving) || D(counted) || D(counted_running);
}

static bool shares_differ(struct compare *c, const struct index_share *a, const struct index_share *b)
{
    return D(counted) || D(running) || DLENGTH(tasks) || D(service->number) || D(node->number);
}

static bool parts_differ(struct compare *c, const struct index_service *a, const struct index_service *b)
{
    struct list *i = a->specs.next, *k = b->specs.next;
    struct index_slot *slot;

    for (; i != &a->specs && k != &b->specs; i = i->next, k = k->next) {
        const struct index_spec *one = list_entry(i, struct index_spec, by_service);

        (void)snprintf(c->object, sizeof(c->object), "service %" PRIu64 " spec %" PRIu64, a->number, one->version);
        if (specs_differ(c, one, list_entry(k, struct index_spec, by_service)))
            return true;
    }
    list_each (slot, &a->all_slots, by_service) {
        const struct index_slot *other = index_slot(b, slot->key);

        (void)snprintf(c->object, sizeof(c->object), "service %" PRIu64 " slot %" PRIx64, a->number, slot->key);
        if (!other ? missing(c) : slots_differ(c, slot, other))
            return true;
        if (!slot->holder && differ(c, "below the first free one", slot->key < a->free_hint, 0))
            return true;
    }
    return false;
}

static uint64_t port_sum(const struct index_port *ports, uint32_t count)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum = sum * 31 + ports[i].target + ((uint64_t)ports[i].published << 20) + ports[i].mode;
    return sum;
}

static bool services_differ(struct compare *c, const struct index_service *a, const struct index_service *b)
{
    return D(exists) || DTEXT(name) || D(spec_version) || D(previous_spec_version) ||
           differ(c, "current", a->current ? a->current->version : 0, b->current ? b->current->version : 0) ||
           DLENGTH(specs) || D(slots.count) || DLENGTH(all_slots) || D(held) || DLENGTH(fresh) || D(share_count) ||
           DLENGTH(shares) ||
           differ(c, "ports", port_sum(a->ports, a->port_count), port_sum(b->ports, b->port_count)) ||
           D(has_update) || D(update_state) || D(update_started_ms) || D(update_slots) || D(update_failures) ||
           differ(c, "listed as global", list_empty(&a->global), list_empty(&b->global)) || parts_differ(c, a, b);
}

static uint64_t labels_sum(const struct index_label *labels, uint32_t count)
{
    uint64_t sum = count;

    for (uint32_t i = 0; i < count; i++)
        sum = sum * 31 + index_text_digest(labels[i].key) + 7 * (uint64_t)index_text_digest(labels[i].value);
    return sum;
}

static uint64_t generic_sum(const struct demand_generic *all, uint32_t count)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += (uint64_t)all[i].amount * index_text_digest(all[i].kind);
    return sum;
}

static uint64_t used_ports(const struct index_node *n)
{
    uint64_t sum = n->host_port_count;

    for (uint32_t i = 0; i < n->host_port_count; i++)
        sum += (uint64_t)n->host_ports[i] << 8;
    return sum;
}

static bool nodes_differ(struct compare *c, const struct index_node *a, const struct index_node *b)
{
    return D(exists) || differ(c, "id", !a->exists || !memcmp(a->id, b->id, 16), 1) || D(state) ||
           D(availability) || D(role) || D(down_since_ms) || D(raft_id) || DTEXT(name) || DTEXT(hostname) ||
           DTEXT(address) || DTEXT(os) || DTEXT(architecture) ||
           differ(c, "labels", labels_sum(a->labels, a->label_count), labels_sum(b->labels, b->label_count)) ||
           differ(c, "engine labels", labels_sum(a->engine_labels, a->engine_label_count),
                  labels_sum(b->engine_labels, b->engine_label_count)) ||
           differ(c, "plugins", labels_sum(a->plugins, a->plugin_count), labels_sum(b->plugins, b->plugin_count)) ||
           differ(c, "generic", generic_sum(a->generic, a->generic_count),
                  generic_sum(b->generic, b->generic_count)) ||
           D(nano_cpus) || D(memory_bytes) || D(reserved_cpus) || D(reserved_memory) ||
           differ(c, "reserved generic", generic_sum(a->reserved_generic, a->reserved_generic_count),
                  generic_sum(b->reserved_generic, b->reserved_generic_count)) ||
           differ(c, "host ports", used_ports(a), used_ports(b)) || D(counted) || DLENGTH(shares) ||
           DLENGTH(pinned);
}

static bool requests_differ(struct compare *c, const struct index_request *a, const struct index_request *b)
{
    return D(at_ms);
}

static bool tops_differ(struct compare *c, const struct index *a, const struct index *b)
{
    return D(tasks.count) || D(tasks_by_id.count) || D(nodes.count) || D(nodes_by_id.count) || D(services.count) ||
           D(services_by_id.count) || D(specs.count) || D(shares.count) || D(requests.count) || D(request_count) ||
           DLENGTH(request_ages) || D(cluster) || D(task_history_limit) || D(has_log_driver) || D(ports.count) ||
           D(host_ports.count) || DLENGTH(global_services);
}

/* Each object of a against its like in b; the counts are equal already. */
#define EACH(table, type, key, name, check)                                               \
    for (size_t at = 0; (entry = table_next(&a->table, &at));) {                          \
        const struct type *one = entry, *other = table_get(&b->table, &one->key);         \
                                                                                          \
        (void)snprintf(c.object, sizeof(c.object), name " %" PRIu64, (uint64_t)one->key); \
        if (!other ? missing(&c) : check(&c, one, other))                                 \
            return false;                                                                 \
    }

bool index_equal(const struct index *a, const struct index *b, char *ret, size_t size)
{
    struct compare c = {.text = ret, .size = size, .object = "index"};
    void *entry;

    EACH(nodes, index_node, number, "node", nodes_differ)
    EACH(services, index_service, number, "service", services_differ)
    EACH(tasks, index_task, number, "task", tasks_differ)
    EACH(shares, index_share, service_number, "share of service", shares_differ)
    EACH(requests, index_request, number, "request", requests_differ)
    (void)snprintf(c.object, sizeof(c.object), "index");
    return !tops_differ(&c, a, b);
}
