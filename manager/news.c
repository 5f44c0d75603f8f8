/* See news.h.
 *
 *     filling (in slices, silent) -> catching up with the feed (silent) -> following
 *        ^------------------------------ the feed overflowed -----------------+
 *
 * The feed tells objects as they are afterwards. What they were before is remembered: id, name, and the states that
 * Docker shows in an update's attributes; of a service only which spec it had, since specs are stored once per
 * version and the one before is kept. What cannot be told any more (a spec that was reaped meanwhile) is left out.
 *
 * Who leads is known at every manager; which of the others answer, at the leader alone, and so only there it is
 * news.
 */
#include <stdlib.h>
#include <string.h>

#include "manager/news.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define FILL_MOST 256 /* objects looked at per turn */

struct known { /* an object as it was told last */
    char id[IDENT_TEXT + 1];
    char *name;            /* owned */
    uint64_t spec_version; /* service */
    UpdateState update;
    NodeState state; /* node */
    NodeAvailability availability;
    NodeRole role;
    bool is_manager, is_leader; /* a node that is one of the managers */
    enum membership_reach reach;
};

static const struct {
    enum kind kind;
    const char *type;
} tables[] = {{KIND_NETWORK, "network"}, {KIND_NODE, "node"}, {KIND_SERVICE, "service"}};

#define NODES         1 /* in tables */
#define MANAGERS_MOST 64

struct news {
    struct control *control;
    struct membership *membership;
    struct map64 known[ARRAY_SIZE(tables)]; /* struct known by number */
    bool following;
    size_t fill_table; /* while filling: where it is */
    uint64_t fill_after;
    uint64_t fed;             /* index up to which the feed is known */
    struct view *view;        /* during a turn */
    struct news_batch *batch; /* of this turn; NULL: nothing yet, or silent */
};

/* --- what is remembered ------------------------------------------------------------------------------------ */

static void known_free(struct known *k)
{
    if (!k)
        return;
    free(k->name);
    free(k);
}

static void forget_all(struct news *n)
{
    struct known *k;

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        for (size_t at = 0; (k = map64_next(&n->known[i], &at));)
            known_free(k);
        map64_fini(&n->known[i]);
        n->known[i] = (struct map64){0};
    }
}

static const char *node_name(const Node *node)
{
    if (node->spec && node->spec->name && *node->spec->name)
        return node->spec->name;
    return node->description && node->description->hostname ? node->description->hostname : "";
}

static struct known *known_of(const struct object *object)
{
    const Service *service = (const Service *)object->message;
    const Network *network = (const Network *)object->message;
    const Node *node = (const Node *)object->message;
    struct known *k = mem_alloc(sizeof(*k));

    switch (object->kind) {
    case KIND_SERVICE:
        ident_format(service->id.data, k->id);
        k->name = mem_strdup(service->name);
        k->spec_version = service->spec_version;
        k->update = service->update_status ? service->update_status->state : UPDATE_STATE__NO_UPDATE;
        break;
    case KIND_NODE:
        ident_format(node->id.data, k->id);
        k->name = mem_strdup(node_name(node));
        k->state = node->state;
        k->availability = node->spec ? node->spec->availability : NODE_AVAILABILITY__ACTIVE;
        k->role = node->spec ? node->spec->role : NODE_ROLE__WORKER;
        break;
    default:
        ident_format(network->id.data, k->id);
        k->name = mem_strdup(network->spec && network->spec->name ? network->spec->name : "");
    }
    return k;
}

/* --- telling ----------------------------------------------------------------------------------------------- */

static void attribute(struct manager_event *ev, struct arena *a, const char *key, const char *value)
{
    struct manager_attribute *one = &ev->attributes[ev->count++];

    one->key = key;
    one->value = arena_strdup(a, value);
}

/* What changed, under the keys "x.old" and "x.new"; without an old value the new one alone. */
static void change(struct manager_event *ev, struct arena *a, const char *const keys[2], const char *before,
                   const char *after)
{
    if (before && after && strcmp(before, after) == 0)
        return;
    if (before)
        attribute(ev, a, keys[0], before);
    if (after)
        attribute(ev, a, keys[1], after);
}

#define CHANGE(ev, a, key, before, after) \
    change(ev, a, (const char *const[2]){key ".old", key ".new"}, before, after)

static const char *state_name(NodeState state)
{
    static const char *const names[] = {"unknown", "down", "ready", "disconnected"};

    return (size_t)state < ARRAY_SIZE(names) ? names[state] : "";
}

static const char *availability_name(NodeAvailability availability)
{
    static const char *const names[] = {"active", "pause", "drain"};

    return (size_t)availability < ARRAY_SIZE(names) ? names[availability] : "";
}

static const char *update_name(UpdateState state)
{
    static const char *const names[] = {
        NULL, "updating", "paused", "completed", "rollback_started", "rollback_paused", "rollback_completed"};

    return (size_t)state < ARRAY_SIZE(names) ? names[state] : NULL;
}

static const ServiceSpec *spec_of(struct news *n, const struct index_service *s, uint64_t version, struct arena *a)
{
    const struct index_spec *spec = index_spec(s, version);
    struct object object;

    if (!spec || !spec->number || view_get(n->view, KIND_SPEC, spec->number, a, &object) < 0)
        return NULL;
    return ((const Spec *)object.message)->spec;
}

static const char *image_of(const ServiceSpec *spec)
{
    const char *image = spec->task && spec->task->container ? spec->task->container->image : NULL;

    return image ? image : "";
}

static const char *replicas_of(const ServiceSpec *spec, struct arena *a)
{
    return arena_printf(a, "%llu", (unsigned long long)(spec->has_replicas ? spec->replicas : 1));
}

static void service_changes(struct news *n, uint64_t number, const struct known *before, const struct known *after,
                            struct manager_event *ev, struct arena *a)
{
    const struct index_service *s = index_service(control_index(n->control), number);
    AUTO_ARENA struct arena scratch;

    arena_init(&scratch);
    if (s && before->spec_version != after->spec_version) {
        const ServiceSpec *old = spec_of(n, s, before->spec_version, &scratch);
        const ServiceSpec *new = spec_of(n, s, after->spec_version, &scratch);

        if (old && new) {
            CHANGE(ev, a, "image", image_of(old), image_of(new));
            if (new->mode == SERVICE_MODE__REPLICATED)
                CHANGE(ev, a, "replicas", replicas_of(old, &scratch), replicas_of(new, &scratch));
        }
    }
    if (update_name(after->update))
        CHANGE(ev, a, "updatestate", update_name(before->update), update_name(after->update));
}

static void node_changes(const struct known *before, const struct known *after, struct manager_event *ev,
                         struct arena *a)
{
    static const char *const roles[] = {"worker", "manager"};

    CHANGE(ev, a, "availability", availability_name(before->availability), availability_name(after->availability));
    CHANGE(ev, a, "role", roles[before->role == NODE_ROLE__MANAGER], roles[after->role == NODE_ROLE__MANAGER]);
    CHANGE(ev, a, "state", state_name(before->state), state_name(after->state));
}

static struct news_batch *batch_of(struct news *n)
{
    if (!n->batch) {
        n->batch = mem_alloc(sizeof(*n->batch));
        arena_init(&n->batch->arena);
    }
    return n->batch;
}

static struct manager_event *event_new(struct news *n, size_t table, const char *action, const struct known *which)
{
    struct news_batch *b = batch_of(n);
    struct manager_event *ev = ARENA_NEW(&b->arena, struct manager_event);

    ev->type = tables[table].type;
    ev->action = action;
    ev->id = arena_strdup(&b->arena, which->id);
    attribute(ev, &b->arena, "name", which->name);
    b->events = arena_append(&b->arena, b->events, b->count, sizeof(struct manager_event *));
    b->events[b->count++] = ev;
    return ev;
}

static void tell(struct news *n, size_t table, uint64_t number, const struct known *before,
                 const struct known *after)
{
    const char *action = !before ? "create" : after ? "update" : "remove";
    struct manager_event *ev = event_new(n, table, action, after ? after : before);

    if (before && after && tables[table].kind == KIND_SERVICE)
        service_changes(n, number, before, after, ev, &n->batch->arena);
    if (before && after && tables[table].kind == KIND_NODE)
        node_changes(before, after, ev, &n->batch->arena);
}

/* --- the managers ------------------------------------------------------------------------------------------ */

static const char *reach_name(enum membership_reach reach)
{
    return reach == MEMBERSHIP_REACHABLE ? "reachable" : "unreachable";
}

/* What was known of a manager and what is; a new one's first facts, and what is not known, are no news. */
static void look_at_manager(struct news *n, uint64_t raft_id, struct known *k)
{
    struct membership_facts facts = {.reach = MEMBERSHIP_UNKNOWN};
    bool is_manager = membership_describe(n->membership, raft_id, &facts);

    if (facts.reach == MEMBERSHIP_UNKNOWN)
        facts.reach = k->reach;
    bool leads = is_manager && k->is_manager && facts.is_leader != k->is_leader;
    bool heard = is_manager && k->is_manager && k->reach != MEMBERSHIP_UNKNOWN && facts.reach != k->reach;
    if (n->following && (leads || heard)) {
        struct manager_event *ev = event_new(n, NODES, "update", k);
        struct arena *a = &n->batch->arena;

        if (leads)
            CHANGE(ev, a, "leader", k->is_leader ? "true" : "false", facts.is_leader ? "true" : "false");
        if (heard)
            CHANGE(ev, a, "reachability", reach_name(k->reach), reach_name(facts.reach));
    }
    k->is_manager = is_manager;
    k->is_leader = facts.is_leader;
    k->reach = facts.reach;
}

static void look_at_managers(struct news *n)
{
    struct membership_row rows[MANAGERS_MOST];
    size_t count = membership_rows(n->membership, rows, MANAGERS_MOST, NULL);

    for (size_t i = 0; i < count; i++) {
        struct known *k = map64_get(&n->known[NODES], rows[i].number);

        if (k)
            look_at_manager(n, rows[i].raft_id, k);
    }
}

void news_batch_free(struct news_batch *b)
{
    if (!b)
        return;
    arena_fini(&b->arena);
    free(b);
}

/* --- turns ------------------------------------------------------------------------------------------------- */

static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    struct news *n = ctx;
    size_t table = 0;

    while (table < ARRAY_SIZE(tables) && tables[table].kind != object->kind)
        table++;
    if (table == ARRAY_SIZE(tables))
        return;
    struct map64 *known = &n->known[table];
    struct known *after = object->message ? known_of(object) : NULL;
    struct known *before = after ? map64_put(known, object->number, after) : map64_remove(known, object->number);
    if (before && after) {
        after->is_manager = before->is_manager; /* these are no part of the object */
        after->is_leader = before->is_leader;
        after->reach = before->reach;
    }
    if (n->following && (before || after))
        tell(n, table, object->number, before, after);
    known_free(before);
}

/* From now on everything is to be learned again, silently. */
static void begin_filling(struct news *n)
{
    forget_all(n);
    n->following = false;
    n->fill_table = 0;
    n->fill_after = 0;
    n->fed = store_applied(control_store(n->control));
}

static void follow(struct news *n)
{
    uint32_t kinds = 0;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        kinds |= FEED_KIND(tables[i].kind);
    if (store_feed_kinds(control_store(n->control), n->fed, kinds, &a, on_fed, n, &n->fed) < 0) {
        if (n->following)
            log_warn("the change feed overflowed: some events are not told", "fed=%llu",
                     (unsigned long long)n->fed);
        begin_filling(n);
    } else {
        n->following = true;
    }
}

/* Returns false when there is more. What changes meanwhile comes by the feed once more. */
static bool fill(struct news *n)
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    for (unsigned looked_at = 0; n->fill_table < ARRAY_SIZE(tables);) {
        enum kind kind = tables[n->fill_table].kind;

        if (looked_at++ == FILL_MOST)
            return false;
        n->fill_after = view_next(n->view, kind, n->fill_after);
        if (!n->fill_after) {
            n->fill_table++;
        } else if (view_get(n->view, kind, n->fill_after, &a, &object) == 0) {
            known_free(map64_put(&n->known[n->fill_table], n->fill_after, known_of(&object)));
        }
        arena_reset(&a);
    }
    return true;
}

int64_t news_turn(struct news *n, struct news_batch **ret_batch)
{
    bool done = true;

    if (!n->following || n->fed != store_applied(control_store(n->control))) {
        n->view = view_begin(control_store(n->control));
        if (!n->following)
            done = fill(n);
        if (done)
            follow(n);
        view_end(n->view);
        n->view = NULL;
    }
    if (n->following)
        look_at_managers(n);
    *ret_batch = n->batch;
    n->batch = NULL;
    return n->following ? -1 : 0;
}

struct news *news_new(struct control *control, struct membership *membership)
{
    struct news *n = mem_alloc(sizeof(*n));

    n->control = control;
    n->membership = membership;
    begin_filling(n);
    return n;
}

void news_free(struct news *n)
{
    if (!n)
        return;
    forget_all(n);
    free(n);
}
