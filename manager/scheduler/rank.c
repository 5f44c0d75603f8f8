/* See rank.h.
 *
 * Per place of a node (index_node.place) a rank knows which filter refused it, and where it stands in a heap if
 * none did. Two kinds of changes are told apart. By some a node may fit now, or rank better (a task ended, a label
 * changed): they are looked at when the rank is synced (index->eased). By the others it can only fit less or rank
 * worse (a task was placed there): what the heap holds of it is then too good, so it comes out on top in time, and
 * is looked at there. So placing a task costs nothing in the ranks that do not place it. Building a rank looks at
 * all nodes, in slices if the plan stops. A service's own rank begins as a copy of the shared one of the same
 * demand, in which only the nodes that have its tasks are out of order.
 *
 *     shared:  key = load of the node
 *     own:     key = failures of the spec | tasks of the service on the node | load of the node
 *
 * With preferences the heap of nodes hangs below a tree: each branch orders its children by the tasks of the
 * service in them, so that the least used branch with a fitting node comes first, on each level. A node without the
 * label is in the branch of the empty value. Trees look at every change, because what they count of a branch must
 * be exact. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "manager/scheduler/rank.h"
#include "manager/scheduler/rank_heap.h"
#include "proto/base/mem.h"

#define PLACES_MAX     (4u << 20) /* in all ranks together: about 28 bytes each */
#define STOP_INTERVAL  256        /* nodes between two looks at the end of the turn */
#define FAILURES_MIN   5          /* a node ranks behind others from so many on (swarm-surface.md section 14) */
#define FAILURES_SHOWN 255
#define ABSENT         FILTER_COUNT /* no node at this place */

struct branch {
    struct branch *parent;
    uint32_t id;           /* among the parent's children */
    char *value;           /* of the label; owned */
    uint64_t counted;      /* tasks of the service in it */
    struct rank_heap heap; /* leaf: nodes that fit; else: children that have any, by `counted` */
    uint32_t *at;          /* else: position of each child */
    struct branch **children;
    uint32_t child_count;
    struct map by_value;
};

struct place {       /* of a node */
    uint64_t seen;   /* index->sequence when it was looked at */
    uint32_t at;     /* position in its heap, from 1; 0: in none */
    uint8_t refused; /* enum filter, or ABSENT */
};

struct rank {
    uint64_t key[2];
    bool own, cold;
    uint64_t eased, changed; /* what was followed of index->eased and index->changed */
    uint64_t born;           /* index->sequence when it was empty */
    uint32_t places, built;
    struct place *place;
    uint32_t refused_count[FILTER_COUNT + 1];
    struct branch root;
    struct branch **leaf; /* by place, with preferences; else NULL: all in the root */
    uint32_t *counted;    /* by place, with preferences: what it adds to its branches */
    struct list recent;   /* ranks->recent */
};

struct ranks {
    struct table by_key;
    struct list recent; /* most recently used first */
    uint64_t places;    /* of all */
};

/* --- keys ---------------------------------------------------------------------------------------------------- */

static uint32_t counted_on(const struct index *x, const struct index_spec *spec, const struct index_node *n)
{
    const struct index_share *share = index_share(x, spec->service->number, n->number);

    return share ? share->counted : 0;
}

uint64_t rank_key(const struct index *x, const struct index_spec *spec, const struct index_node *n)
{
    uint32_t failures = list_empty(&n->failures) ? 0 : index_node_failures(n, spec);

    failures = failures < FAILURES_MIN ? 0 : MIN(failures, (uint32_t)FAILURES_SHOWN);
    return (uint64_t)failures << 56 | (uint64_t)MIN(counted_on(x, spec, n), 0xffffffu) << 32 | n->counted;
}

/* --- branches ---------------------------------------------------------------------------------------------------
 */

static struct branch *child_of(struct branch *b, const char *value)
{
    struct branch *child = map_get(&b->by_value, value);

    if (child)
        return child;
    child = mem_alloc(sizeof(*child));
    child->parent = b;
    child->id = b->child_count++;
    child->value = mem_strdup(value);
    b->children = mem_grow(b->children, b->child_count, sizeof(struct branch *));
    b->children[child->id] = child;
    b->at = mem_grow(b->at, b->child_count, sizeof(*b->at));
    b->at[child->id] = 0;
    map_put(&b->by_value, child->value, child);
    return child;
}

static struct branch *leaf_for(struct rank *r, const struct index_spec *spec, const struct index_node *n)
{
    struct branch *b = &r->root;

    for (uint32_t i = 0; i < spec->demand.preference_count; i++)
        b = child_of(b, constraint_value(spec->demand.preferences[i].key, spec->demand.preferences[i].label, n));
    return b;
}

/* A leaf changed: its branches stand elsewhere now. */
static void lift(struct branch *b, int64_t counted)
{
    for (; b->parent; b = b->parent) {
        b->counted += (uint64_t)counted;
        if (b->heap.count)
            rank_heap_put(&b->parent->heap, b->parent->at, b->id, b->counted);
        else
            rank_heap_remove(&b->parent->heap, b->parent->at, b->id);
    }
}

static void fini_branch(struct branch *b)
{
    for (uint32_t i = 0; i < b->child_count; i++) {
        fini_branch(b->children[i]);
        free(b->children[i]);
    }
    free(b->children);
    free(b->at);
    free(b->value);
    map_fini(&b->by_value);
    rank_heap_fini(&b->heap);
    *b = (struct branch){0};
}

/* --- one node ----------------------------------------------------------------------------------------------------
 */

/* The heap of a leaf: positions are in rank->place. */
static struct rank_heap *nodes_of(struct branch *leaf)
{
    leaf->heap.stride = sizeof(struct place) / sizeof(uint32_t);
    return &leaf->heap;
}

static void leave_leaf(struct rank *r, uint32_t place)
{
    struct branch *leaf = r->leaf ? r->leaf[place] : &r->root;

    if (!leaf)
        return;
    rank_heap_remove(nodes_of(leaf), &r->place->at, place);
    if (!r->leaf)
        return;
    lift(leaf, -(int64_t)r->counted[place]);
    r->counted[place] = 0;
    r->leaf[place] = NULL;
}

static void refuse(struct rank *r, uint32_t place, uint8_t why)
{
    r->refused_count[r->place[place].refused]--;
    r->place[place].refused = why;
    r->refused_count[why]++;
}

/* Which filter refuses it; what follows from its facts alone is not asked twice. */
static enum filter ask(const struct rank *r, const struct index *x, const struct index_spec *spec,
                       const struct index_node *n)
{
    const struct index_share *share =
        spec->demand.max_replicas ? index_share(x, spec->service->number, n->number) : NULL;
    uint8_t before = r->place[n->place].refused;
    bool facts_passed = before == FILTER_NONE || before == FILTER_HOST_PORT || before == FILTER_MAX_REPLICAS ||
                        before == FILTER_NODE_TASKS;

    if (facts_passed && r->place[n->place].seen >= n->facts_at)
        return filter_check_again(spec, n, share);
    return filter_check(spec, n, share);
}

static void refresh(struct rank *r, const struct index *x, const struct index_spec *spec, uint32_t place)
{
    const struct index_node *n = x->node_at[place];
    bool present = n && n->exists;

    refuse(r, place, present ? (uint8_t)ask(r, x, spec, n) : ABSENT);
    r->place[place].seen = x->sequence;
    if (!present) {
        leave_leaf(r, place);
        return;
    }
    struct branch *leaf = r->leaf ? leaf_for(r, spec, n) : &r->root;
    if (r->leaf && r->leaf[place] != leaf)
        leave_leaf(r, place);
    if (r->place[place].refused == FILTER_NONE)
        rank_heap_put(nodes_of(leaf), &r->place->at, place, r->own ? rank_key(x, spec, n) : n->counted);
    else
        rank_heap_remove(nodes_of(leaf), &r->place->at, place);
    if (r->leaf) {
        uint32_t counted = counted_on(x, spec, n);

        lift(leaf, (int64_t)counted - r->counted[place]);
        r->counted[place] = counted;
        r->leaf[place] = leaf;
    }
}

/* --- the whole
 * ---------------------------------------------------------------------------------------------------- */

static void clear(struct rank *r)
{
    bool tree = r->leaf != NULL;

    fini_branch(&r->root);
    free(r->place);
    free(r->leaf);
    free(r->counted);
    r->place = NULL;
    r->leaf = tree ? mem_alloc(sizeof(struct branch *)) : NULL;
    r->counted = NULL;
    r->places = r->built = 0;
    memset(r->refused_count, 0, sizeof(r->refused_count));
    r->cold = true;
}

static void add_places(struct rank *r, uint32_t places)
{
    uint32_t more = places - r->places;

    r->place = mem_grow(r->place, places, sizeof(*r->place));
    for (uint32_t i = r->places; i < places; i++)
        r->place[i] = (struct place){.refused = ABSENT};
    r->refused_count[ABSENT] += more;
    if (r->leaf) {
        r->leaf = mem_grow(r->leaf, places, sizeof(struct branch *));
        memset(r->leaf + r->places, 0, more * sizeof(struct branch *));
        r->counted = mem_grow(r->counted, places, sizeof(*r->counted));
        memset(r->counted + r->places, 0, more * sizeof(*r->counted));
    }
    r->places = places;
}

static bool build(struct rank *r, const struct plan *p, const struct index_spec *spec)
{
    if (r->built == 0) { /* what changes meanwhile is looked at again */
        r->eased = p->index->eased.count;
        r->changed = p->index->changed.count;
        r->born = p->index->sequence;
    }
    for (; r->built < r->places; r->built++) {
        if (r->built % STOP_INTERVAL == STOP_INTERVAL - 1 && plan_stop(p))
            return false;
        refresh(r, p->index, spec, r->built);
    }
    r->cold = false;
    return true;
}

/* Look at the nodes that changed since. */
static void follow(struct rank *r, const struct index *x, const struct index_spec *spec,
                   const struct index_log *log, uint64_t *at)
{
    bool all = !index_log_holds(log, *at);
    uint64_t end = all ? r->places : log->count;

    for (uint64_t i = all ? 0 : *at; i < end; i++) {
        uint32_t place = all ? (uint32_t)i : log->places[i & (log->size - 1)];
        const struct index_node *n = x->node_at[place];

        if (!n || n->changed_at > r->place[place].seen)
            refresh(r, x, spec, place);
    }
    *at = log->count;
}

static void see_all(struct rank *r, const struct index *x, const struct index_spec *spec)
{
    follow(r, x, spec, &x->changed, &r->changed);
    r->eased = x->eased.count;
}

bool rank_sync(struct rank *r, const struct plan *p, const struct index_spec *spec)
{
    const struct index *x = p->index;

    if (r->born < x->gone_at)
        clear(r); /* places may have new owners */
    if (r->places < x->node_count)
        add_places(r, x->node_count);
    if (r->cold && !build(r, p, spec))
        return false;
    if (r->leaf)
        see_all(r, x, spec);
    else
        follow(r, x, spec, &x->eased, &r->eased);
    return true;
}

static struct index_node *top(const struct rank *r, const struct index *x)
{
    const struct branch *b = &r->root;

    if (!b->heap.count)
        return NULL;
    while (b->child_count)
        b = b->children[rank_heap_first(&b->heap)];
    return x->node_at[rank_heap_first(&b->heap)];
}

struct index_node *rank_best(struct rank *r, const struct index *x, const struct index_spec *spec)
{
    struct index_node *n;

    while ((n = top(r, x)) && n->changed_at > r->place[n->place].seen)
        refresh(r, x, spec, n->place);
    return n;
}

void rank_hide(struct rank *r, const struct index_node *n)
{
    struct branch *leaf = r->leaf ? r->leaf[n->place] : &r->root;

    rank_heap_remove(nodes_of(leaf), &r->place->at, n->place);
    lift(leaf, 0);
}

bool rank_hidden_fits(struct rank *r, const struct index *x, const struct index_spec *spec,
                      const struct index_node *n)
{
    if (n->changed_at > r->place[n->place].seen) {
        refresh(r, x, spec, n->place);
        rank_hide(r, n);
    }
    return r->place[n->place].refused == FILTER_NONE;
}

void rank_show(struct rank *r, const struct index *x, const struct index_spec *spec, const struct index_node *n)
{
    refresh(r, x, spec, n->place);
}

const uint32_t *rank_refused(struct rank *r, const struct index *x, const struct index_spec *spec)
{
    see_all(r, x, spec);
    return r->refused_count;
}

bool rank_is_own(const struct rank *r)
{
    return r->own;
}

/* --- all of them
 * --------------------------------------------------------------------------------------------------- */

struct ranks *ranks_new(void)
{
    struct ranks *all = mem_alloc(sizeof(*all));

    table_init(&all->by_key, offsetof(struct rank, key), 16);
    list_init(&all->recent);
    return all;
}

static void drop(struct ranks *all, struct rank *r)
{
    table_remove(&all->by_key, r->key);
    list_remove(&r->recent);
    all->places -= r->places;
    clear(r);
    free(r->leaf);
    free(r);
}

void ranks_free(struct ranks *all)
{
    struct rank *r;

    if (!all)
        return;
    while ((r = list_first(&all->recent, struct rank, recent)))
        drop(all, r);
    table_fini(&all->by_key);
    free(all);
}

static struct rank *find(const struct ranks *all, const struct index_spec *spec, bool own)
{
    uint64_t key[2] = {spec->demand.digest[0], spec->demand.digest[1]};

    if (own) {
        key[0] += spec->service->number * 0x9e3779b97f4a7c15;
        key[1] = ~key[1] - spec->version;
    }
    return table_get(&all->by_key, key);
}

/* Begin with the order of the shared rank; only nodes that concern the service stand elsewhere. */
static void copy_shared(struct rank *r, const struct rank *shared, const struct index *x,
                        const struct index_spec *spec)
{
    const struct index_share *share;
    struct index_failure *f;

    r->places = r->built = shared->places;
    r->place = mem_dup(shared->place, shared->places * sizeof(*r->place));
    memcpy(r->refused_count, shared->refused_count, sizeof(r->refused_count));
    rank_heap_copy(&r->root.heap, &shared->root.heap);
    r->changed = shared->changed;
    r->eased = shared->eased;
    r->born = shared->born;
    r->cold = false;
    list_each (share, &spec->service->shares, by_service)
        if (share->node->place < r->places)
            refresh(r, x, spec, share->node->place);
    list_each (f, &x->failures, by_time)
        if (f->service == spec->service->number && f->node->place < r->places)
            refresh(r, x, spec, f->node->place);
}

static struct rank *make(struct ranks *all, const struct index *x, const struct index_spec *spec, bool own)
{
    struct rank *r = mem_alloc(sizeof(*r)), *shared = find(all, spec, false);

    r->own = own;
    r->cold = true;
    r->key[0] = spec->demand.digest[0] + (own ? spec->service->number * 0x9e3779b97f4a7c15 : 0);
    r->key[1] = own ? ~spec->demand.digest[1] - spec->version : spec->demand.digest[1];
    if (spec->demand.preference_count)
        r->leaf = mem_alloc(sizeof(struct branch *));
    else if (own && !spec->demand.max_replicas && shared && !shared->cold && shared->born >= x->gone_at)
        copy_shared(r, shared, x, spec);
    list_init(&r->recent);
    table_put(&all->by_key, r);
    return r;
}

struct rank *ranks_get(struct ranks *all, const struct index *x, const struct index_spec *spec, bool own)
{
    /* What depends on the service's own tasks cannot be shared. */
    own = own || spec->demand.max_replicas || spec->demand.preference_count || find(all, spec, true);
    struct rank *r = find(all, spec, own), *oldest;
    if (!r) {
        r = make(all, x, spec, own);
        all->places += r->places;
    }
    if (r->places < x->node_count) {
        all->places += x->node_count - r->places;
        add_places(r, x->node_count);
    }
    list_remove(&r->recent);
    list_push_front(&all->recent, &r->recent);
    while (all->places > PLACES_MAX && (oldest = list_last(&all->recent, struct rank, recent)) != r)
        drop(all, oldest);
    return r;
}
