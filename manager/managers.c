/* See managers.h. There are few managers, so a sorted array of them is all. It is read once from the rows that the
 * index calls managers and follows the feed from there on; what falls out of the feed makes it read again. Since
 * the index may show a draft that is dropped later, it is also read again when a draft's author changes: see
 * managers_follow. */
#include <stdlib.h>
#include <string.h>

#include "manager/managers.h"
#include "proto/base/mem.h"

struct one {
    uint64_t node;    /* number of its row */
    uint64_t raft_id; /* sorted by it */
};

struct managers {
    struct control *control; /* borrowed */
    struct one *all;
    char **addresses; /* of each, owned */
    size_t count;
    uint64_t fed; /* index up to which the feed was read */
    bool is_read; /* once, at least */
    bool led;     /* whether this manager led when they were read */
    bool changed; /* since the last managers_follow */
};

struct managers *managers_new(struct control *control)
{
    struct managers *m = mem_alloc(sizeof(*m));

    m->control = control;
    return m;
}

static void forget_all(struct managers *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->addresses[i]);
    m->count = 0;
}

void managers_free(struct managers *m)
{
    if (!m)
        return;
    forget_all(m);
    free(m->addresses);
    free(m->all);
    free(m);
}

static void remove_at(struct managers *m, size_t at)
{
    free(m->addresses[at]);
    memmove(m->all + at, m->all + at + 1, (m->count - at - 1) * sizeof(*m->all));
    memmove(m->addresses + at, m->addresses + at + 1, (m->count - at - 1) * sizeof(*m->addresses));
    m->count--;
    m->changed = true;
}

static void insert(struct managers *m, uint64_t node, const NodeManager *manager)
{
    size_t at = m->count;

    m->all = mem_grow(m->all, m->count + 1, sizeof(*m->all));
    m->addresses = mem_grow(m->addresses, m->count + 1, sizeof(*m->addresses));
    while (at > 0 && m->all[at - 1].raft_id > manager->raft_id)
        at--;
    memmove(m->all + at + 1, m->all + at, (m->count - at) * sizeof(*m->all));
    memmove(m->addresses + at + 1, m->addresses + at, (m->count - at) * sizeof(*m->addresses));
    m->all[at] = (struct one){.node = node, .raft_id = manager->raft_id};
    m->addresses[at] = mem_strdup(manager->address);
    m->count++;
    m->changed = true;
}

static void look_at(struct managers *m, uint64_t number, const Node *node)
{
    const NodeManager *manager = node && node->manager && node->manager->address ? node->manager : NULL;

    for (size_t i = 0; i < m->count; i++) {
        if (m->all[i].node != number)
            continue;
        if (manager && m->all[i].raft_id == manager->raft_id && strcmp(m->addresses[i], manager->address) == 0)
            return;
        remove_at(m, i);
        break;
    }
    if (manager)
        insert(m, number, manager);
}

static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    look_at(ctx, object->number, (const Node *)object->message);
}

static void read_all(struct managers *m)
{
    struct store *store = control_store(m->control);
    const struct index *x = control_index(m->control);
    struct view *v = view_begin(store);
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    forget_all(m);
    m->changed = true;
    m->is_read = true;
    m->fed = store_applied(store);
    for (uint32_t i = 0; i < x->node_count; i++) {
        const struct index_node *node = x->node_at[i];

        if (node && node->raft_id && view_get(v, KIND_NODE, node->number, &a, &object) == 0)
            look_at(m, node->number, (const Node *)object.message);
    }
    view_end(v);
}

bool managers_follow(struct managers *m)
{
    bool leads = control_leads(m->control), changed;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    /* A leader's index shows its draft, which may never be applied: once it has lost that, look again. */
    if (!m->is_read || leads != m->led ||
        store_feed_kinds(control_store(m->control), m->fed, FEED_KIND(KIND_NODE), &a, on_fed, m, &m->fed) < 0)
        read_all(m);
    m->led = leads;
    changed = m->changed;
    m->changed = false;
    return changed;
}

char *const *managers_addresses(const struct managers *m, size_t *ret_count)
{
    *ret_count = m->count;
    return m->addresses;
}

const char *managers_leader(const struct managers *m)
{
    const char *configured = NULL;
    uint64_t id = replica_leader(control_replica(m->control), &configured);

    for (size_t i = 0; id && i < m->count; i++)
        if (m->all[i].raft_id == id)
            return m->addresses[i];
    return id ? configured : NULL;
}
