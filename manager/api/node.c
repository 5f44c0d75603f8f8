/* Nodes: inspect, list, update, remove (reference/swarm-surface.md section 7).
 *
 * A node's role is what its spec wishes; membership.c moves the fact after it (Raft's configuration), and the node
 * itself its certificate. What would cost the managers their quorum is refused here, where somebody reads why. A
 * manager that was demoted may be removed by force before it has left the group: its place there goes by itself. */
#include <stdio.h>
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/authority.h"
#include "manager/api/listing.h"
#include "manager/api/match.h"
#include "manager/api/nouns.h"
#include "manager/api/resolve.h"
#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "manager/api/validate.h"
#include "manager/membership.h"
#include "manager/orchestrator/intent.h"
#include "proto/base/ident.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

struct node_args {
    struct filters filters;
    NodeSpec *spec;
    uint64_t version;
    bool force;
};

static const char *const roles[] = {"worker", "manager"};

/* --- reading the request --------------------------------------------------------------------------------- */

static const char *const known_filters[] = {"id", "name", "label", "node.label", "membership", "role", NULL};

static int check_values(const struct filters *filters, const char *key, const char *const *names, struct err *e)
{
    const struct filter *f = filters_get(filters, key);

    for (size_t i = 0; f && i < f->count; i++)
        if (strcmp(f->values[i], names[0]) != 0 && strcmp(f->values[i], names[1]) != 0)
            return filter_invalid(key, f->values[i], e);
    return 0;
}

static int prepare_list(struct ask *k, struct err *e)
{
    static const char *const memberships[] = {"accepted", "pending"};
    struct node_args *args = k->args = ARENA_NEW(&k->arena, struct node_args);
    int rc = ask_filters(k, known_filters, &args->filters, e);

    if (rc == 0)
        rc = check_values(&args->filters, "role", roles, e);
    return rc < 0 ? rc : check_values(&args->filters, "membership", memberships, e);
}

static int prepare_update(struct ask *k, struct err *e)
{
    struct node_args *args = k->args = ARENA_NEW(&k->arena, struct node_args);
    AUTO_JSON json_t *root = NULL;
    int rc = ask_query_version(k, "node", &args->version, e);

    if (rc == 0)
        rc = jread_parse(k->body, k->body_size, &root, e);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(e, ERR_INVALID, "invalid node spec: expected an object");
    if (rc == 0)
        rc = spec_read_node(root, &k->arena, &args->spec, e);
    if (rc < 0)
        return rc;
    if (!args->spec->has_role)
        return err_set(e, ERR_INVALID, "invalid Role: \"\"");
    if (!args->spec->has_availability)
        return err_set(e, ERR_INVALID, "invalid Availability: \"\"");
    return validate_node(args->spec, e) < 0 ? ask_rpc_error(e) : 0;
}

static int prepare_remove(struct ask *k, struct err *e)
{
    struct node_args *args = k->args = ARENA_NEW(&k->arena, struct node_args);

    (void)e; /* nothing can be wrong with it */
    args->force = ask_query_bool(k, "force");
    return 0;
}

/* --- reading --------------------------------------------------------------------------------------------- */

/* What is known of a node as a member of the managers' group. */
static void describe_manager(struct ask *k, const Node *node, struct pack_node *ret)
{
    struct membership_facts facts;

    *ret = (struct pack_node){0};
    if (!node->manager || !membership_describe(asks_config(k->asks)->membership, node->manager->raft_id, &facts))
        return;
    ret->is_manager = true;
    ret->is_leader = facts.is_leader;
    /* Docker knows no managers without a vote: until it has one, nobody is told that it can be counted on. */
    ret->reach = facts.is_voter || facts.reach != MEMBERSHIP_REACHABLE ? facts.reach : MEMBERSHIP_UNKNOWN;
    if (facts.why)
        (void)snprintf(ret->why, sizeof(ret->why), "as a manager it %s", facts.why);  /* cut when longer */
    (void)snprintf(ret->address, sizeof(ret->address), "%s", node->manager->address); /* host:port */
}

static bool pack_node(struct ask *k, struct view *v, uint64_t number, const Node *node)
{
    struct pack_node manager;

    describe_manager(k, node, &manager);
    manager.is_awaited =
        node->state == NODE_STATE__UP && dispatcher_awaits(asks_config(k->asks)->dispatcher, number);
    pack_note(&k->page.bytes, PACK_NODE, &manager, sizeof(manager));
    return pack_from(&k->page.bytes, v, KIND_NODE, number);
}

static void inspect(struct ask *k)
{
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    AUTO_ARENA struct arena a;
    struct object object;
    uint64_t number;
    struct err e;
    int rc = resolve(v, KIND_NODE, k->id, &number, &e);

    arena_init(&a);
    if (rc == 0 && view_get(v, KIND_NODE, number, &a, &object) < 0)
        rc = err_set(&e, ERR_NOT_FOUND, "node %.200s not found", k->id);
    if (rc == 0) {
        authority_pack(&k->page.bytes, v);
        pack_node(k, v, number, (const Node *)object.message);
    }
    view_end(v);
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    k->page.render = show_node;
    ask_reply(k, 200);
}

static void begin_inspect(struct ask *k)
{
    ask_read(k, inspect);
}

static bool is_selected(const struct node_args *args, const Node *node)
{
    static const NodeDescription nothing = NODE_DESCRIPTION__INIT;
    static const NodeSpec none = NODE_SPEC__INIT;
    const NodeDescription *d = node->description ? node->description : &nothing;
    const NodeSpec *spec = node->spec ? node->spec : &none;
    char id[IDENT_TEXT + 1];

    ident_format(node->id.data, id);
    return match_prefix(&args->filters, "id", id) &&
           match_prefix(&args->filters, "name", d->hostname ? d->hostname : "") &&
           match_labels(&args->filters, "label", d->engine_labels, d->n_engine_labels) &&
           match_labels(&args->filters, "node.label", spec->labels, spec->n_labels) &&
           filters_exact(&args->filters, "membership", "accepted") &&
           filters_exact(&args->filters, "role", roles[spec->role == NODE_ROLE__MANAGER]);
}

static void pick(struct ask *k, struct listing *l, struct view *v, uint64_t number)
{
    struct object object;

    arena_reset(&l->arena);
    if (view_get(v, KIND_NODE, number, &l->arena, &object) < 0 ||
        !is_selected(k->args, (const Node *)object.message))
        return;
    if (!map64_put(&l->in_page, 0, l))
        authority_pack(&k->page.bytes, v);
    pack_node(k, v, number, (const Node *)object.message);
}

static void list(struct ask *k)
{
    listing_begin(k, &(struct listing){.kind = KIND_NODE, .pick = pick, .render = show_nodes, .all = true});
}

static void begin_list(struct ask *k)
{
    ask_read(k, list);
}

/* --- update ------------------------------------------------------------------------------------------------ */

static int execute_update(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    const struct node_args *args = k->args;
    struct object object;
    int rc = resolve_draft(control_store(asks_config(k->asks)->control), d, KIND_NODE, k->id, &object, e);

    if (rc < 0)
        return rc;
    if (object.version != args->version)
        rc = err_set(e, ERR_SEQUENCE, "update out of sequence");
    Node node = *(const Node *)object.message;
    if (rc == 0 && node.spec && node.spec->role == NODE_ROLE__MANAGER && args->spec->role == NODE_ROLE__WORKER)
        rc = membership_check_demotion(asks_config(k->asks)->membership, p, object.number, e);
    if (rc < 0)
        return ask_rpc_error(e);
    node.spec = args->spec;
    plan_put(p, KIND_NODE, object.number, &node);
    w->http_status = 200;
    return 0;
}

static void begin_update(struct ask *k)
{
    ask_write(k, execute_update);
}

/* --- remove ------------------------------------------------------------------------------------------------ */

static int execute_remove(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    const struct node_args *args = k->args;
    struct object object;
    int rc = resolve_draft(control_store(asks_config(k->asks)->control), d, KIND_NODE, k->id, &object, e);

    if (rc < 0)
        return rc;
    const Node *node = (const Node *)object.message;
    bool wished = node->spec && node->spec->role == NODE_ROLE__MANAGER;
    if (node->manager && (wished || !args->force))
        rc = err_set(
            e, ERR_PRECONDITION,
            "node %s is a cluster manager and is a member of the raft cluster. It must be demoted to worker "
            "before removal",
            k->id);
    else if (node->state == NODE_STATE__UP && !args->force)
        rc = err_set(e, ERR_PRECONDITION, "node %s is not down and can't be removed", k->id);
    if (rc == 0)
        rc = node_remove(p, object.number, e);
    if (rc < 0)
        return ask_rpc_error(e);
    w->http_status = 200;
    return 0;
}

static void begin_remove(struct ask *k)
{
    ask_write(k, execute_remove);
}

const struct ask_route node_routes[] = {
    {"GET", "/nodes", ASK_READ, .prepare = prepare_list, .begin = begin_list},
    {"GET", "/nodes/{id}", ASK_READ, .begin = begin_inspect},
    {"DELETE", "/nodes/{id}", ASK_WRITE, .prepare = prepare_remove, .begin = begin_remove},
    {"POST", "/nodes/{id}/update", ASK_WRITE, .prepare = prepare_update, .begin = begin_update},
    {0},
};
