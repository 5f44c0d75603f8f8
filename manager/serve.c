/* See serve.h.
 *
 * A certificate says who a node is; the store says whether it still is one. Both are asked when a peer connects,
 * and when the node's row goes afterwards its connections are closed, so that no other call has to ask again.
 * Rows of nodes that are connected, or were, are remembered by number, because a row that is gone cannot say whose
 * it was. A manager's certificate counts as a worker's unless the row wishes a manager or its node still is one;
 * when that changes the connections stay, for the sake of the node's session, with what its role allows. */
#include <stdlib.h>
#include <string.h>

#include "manager/api/authority.h"
#include "manager/ca/ca.h"
#include "manager/raft/links.h"
#include "manager/serve.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/methods.h"

#define UNJUDGED_MAX 512 /* connections before it is ready */

#define NODES (RPC_ROLE_WORKER | RPC_ROLE_MANAGER)

struct row { /* of a node that connected */
    char node_id[IDENT_TEXT + 1];
    bool manages; /* it may be a manager */
};

struct serve {
    struct serve_config config;
    struct rpc_server *server; /* NULL once it is closed */
    struct map64 rows;         /* by number of the node */
    uint64_t fed;              /* index up to which changes of nodes were looked at */
    bool ready;
    struct rpc_identity unjudged[UNJUDGED_MAX]; /* who connected before */
    size_t unjudged_count;
    struct list leaving;  /* of announce.c */
    struct ca_root *root; /* of issue.c; owned */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* --- who may connect ----------------------------------------------------------------------------------- */

/* Its row wishes it, or it is still in the managers' group, which may need it. */
static bool manages(const Node *node)
{
    return (node->spec && node->spec->role == NODE_ROLE__MANAGER) || node->manager;
}

static void remember(struct serve *s, uint64_t number, const struct rpc_identity *peer, bool may_manage)
{
    struct row *row = map64_get(&s->rows, number);

    if (!row) {
        row = mem_alloc(sizeof(*row));
        map64_put(&s->rows, number, row);
    }
    memcpy(row->node_id, peer->node_id, sizeof(row->node_id));
    row->manages = may_manage;
}

/* Whether the peer's row is there. A certificate's role counts only as long as the row agrees. */
static int check_row(struct serve *s, struct view *v, struct rpc_identity *peer, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct object object;
    uint8_t id[IDENT_BYTES];
    uint64_t number = ident_parse(peer->node_id, id) ? view_find_id(v, KIND_NODE, id) : 0;

    arena_init(&a);
    if (!number || view_get(v, KIND_NODE, number, &a, &object) < 0)
        return err_set(e, ERR_DENIED, "node %s is not part of this cluster", peer->node_id);
    bool may_manage = manages((const Node *)object.message);
    remember(s, number, peer, may_manage);
    if (peer->role == RPC_ROLE_MANAGER && !may_manage)
        peer->role = RPC_ROLE_WORKER;
    return 0;
}

static int on_connect(void *ctx, struct rpc_conn *c, struct rpc_identity *peer, struct err *e)
{
    struct serve *s = ctx;

    if (strcmp(peer->cluster_id, s->config.cluster_id) != 0)
        return err_set(e, ERR_DENIED, "certificate of another cluster");
    if (!s->ready && s->unjudged_count == UNJUDGED_MAX)
        return err_set(e, ERR_UNAVAILABLE, "this manager is starting");
    if (!s->ready) {
        s->unjudged[s->unjudged_count++] = *peer;
        return 0;
    }
    struct view *v = view_begin(control_store(s->config.control));
    int rc = check_row(s, v, peer, e);
    view_end(v);
    return rc;
}

/* --- rows that change ---------------------------------------------------------------------------------- */

static void drop_row(struct serve *s, uint64_t number)
{
    struct row *row = map64_remove(&s->rows, number);

    if (!row)
        return;
    log_info("closing a node's connections", "node=%s why=\"it was removed\"", row->node_id);
    if (s->server)
        rpc_server_close_peer(s->server, row->node_id);
    free(row);
}

/* Its sessions go on; what only managers may have ends. */
static void judge(struct serve *s, struct row *row, const Node *node)
{
    bool may_manage = manages(node);

    if (row->manages == may_manage)
        return;
    log_info(may_manage ? "a node may be a manager now" : "a node is a manager no more", "node=%s", row->node_id);
    row->manages = may_manage;
    if (s->server)
        rpc_server_limit_peer(s->server, row->node_id, may_manage ? RPC_ROLE_MANAGER : RPC_ROLE_WORKER);
}

static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    struct serve *s = ctx;
    const Node *node = (const Node *)object->message;
    struct row *row = map64_get(&s->rows, object->number);

    if (row && !node)
        drop_row(s, object->number);
    else if (row)
        judge(s, row, node);
}

/* The feed does not go back far enough: look at every row. */
static void look_at_all(struct serve *s)
{
    struct view *v = view_begin(control_store(s->config.control));
    AUTO_ARENA struct arena a;
    uint64_t gone[256];
    size_t count = 0;

    arena_init(&a);
    for (size_t i = 0; s->rows.slots && i <= s->rows.mask && count < ARRAY_SIZE(gone); i++) {
        struct row *row = s->rows.slots[i].value;
        struct object object;

        if (row && view_get(v, KIND_NODE, s->rows.slots[i].key, &a, &object) < 0)
            gone[count++] = s->rows.slots[i].key;
        else if (row)
            judge(s, row, (const Node *)object.message);
    }
    view_end(v);
    for (size_t i = 0; i < count; i++)
        drop_row(s, gone[i]);
    if (count < ARRAY_SIZE(gone))
        s->fed = store_applied(control_store(s->config.control));
}

void serve_follow(struct serve *s)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    if (store_feed_kinds(control_store(s->config.control), s->fed, FEED_KIND(KIND_NODE), &a, on_fed, s, &s->fed) <
        0)
        look_at_all(s);
}

/* --- methods ------------------------------------------------------------------------------------------- */

static void on_root(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};
    struct serve *s = ctx;
    AUTO_ARENA struct arena a;
    RootReply reply = ROOT_REPLY__INIT;
    struct object object;
    struct err e;

    arena_init(&a);
    rpc_stream_set(stream, &ignore);
    struct view *v = view_begin(control_store(s->config.control));
    int rc = authority_cluster(v, &a, &object);
    view_end(v);
    const RootCa *root = rc == 0 ? ((const Cluster *)object.message)->root_ca : NULL;
    if (!root || !root->has_certificate_pem) {
        err_set(&e, ERR_UNAVAILABLE, "this manager is starting");
        rpc_end(stream, &e);
        return;
    }
    reply.certificate_pem = root->certificate_pem;
    size_t packed_size = root_reply__get_packed_size(&reply);
    uint8_t *packed = arena_alloc(&a, packed_size);
    root_reply__pack(&reply, packed);
    rpc_answer(stream, packed, packed_size);
    authority_forget((const Cluster *)object.message);
}

/* Whether it can be asked yet; else the stream is ended. */
static bool is_ready(const struct serve *s, struct rpc_stream *stream)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};
    struct err e;

    if (s->ready)
        return true;
    err_set(&e, ERR_UNAVAILABLE, "this manager is starting");
    rpc_stream_set(stream, &ignore);
    rpc_end(stream, &e);
    return false;
}

static void on_issue(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                     size_t size)
{
    if (is_ready(ctx, stream))
        issue_on_open(ctx, stream, peer, message, size);
}

static void on_member(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                      size_t size)
{
    if (is_ready(ctx, stream))
        announce_on_open(ctx, stream, peer, message, size);
}

static void on_session(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                       size_t size)
{
    if (is_ready(ctx, stream))
        dispatcher_on_session(((struct serve *)ctx)->config.dispatcher, stream, peer, message, size);
}

static void on_logs(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    if (is_ready(ctx, stream))
        dispatcher_on_logs(((struct serve *)ctx)->config.dispatcher, stream, peer, message, size);
}

static void on_raft(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    links_on_open(((struct serve *)ctx)->config.links, stream, peer, message, size);
}

static void on_forward(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                       size_t size)
{
    relay_on_open(((struct serve *)ctx)->config.relay, stream, peer, message, size);
}

/* Who may call what: this table, and ownership inside the calls (a session is its own node's, a log only that of
 * the node that was asked; a node announces and takes out itself alone, and only one that may be a manager gets
 * in). */
static const struct rpc_method methods[] = {
    {METHOD_ROOT, "root", RPC_ROLE_NONE | NODES, METHOD_JOIN_BYTES_MAX, .on_open = on_root},
    {METHOD_ISSUE, "issue", RPC_ROLE_NONE | NODES, METHOD_JOIN_BYTES_MAX, .on_open = on_issue},
    {METHOD_SESSION, "session", NODES, METHOD_SESSION_BYTES_MAX, .streams_max = 1, .on_open = on_session},
    {METHOD_LOGS, "logs", NODES, METHOD_LOGS_BYTES_MAX, .streams_max = DISPATCHER_LOGS_PER_NODE,
     .on_open = on_logs},
    {METHOD_FORWARD, "forward", RPC_ROLE_MANAGER, METHOD_FORWARD_BYTES_MAX, .streams_max = RELAY_STREAMS_MAX,
     .on_open = on_forward},
    {METHOD_RAFT, "raft", RPC_ROLE_MANAGER, METHOD_RAFT_BYTES_MAX, .streams_max = 1, .on_open = on_raft,
     .credit_bytes = METHOD_RAFT_CREDIT},
    {METHOD_MEMBER, "member", NODES, METHOD_JOIN_BYTES_MAX, .on_open = on_member},
};

/* --- the door ------------------------------------------------------------------------------------------ */

const struct serve_config *serve_config(const struct serve *s)
{
    return &s->config;
}

struct ca_root **serve_root(struct serve *s)
{
    return &s->root;
}

struct list *serve_leaving(struct serve *s)
{
    return &s->leaving;
}

const char *serve_leader(struct serve *s, struct err *e)
{
    const char *leader = membership_leader(s->config.membership);

    if (!leader)
        err_set(e, ERR_UNAVAILABLE,
                "the managers have no leader at the moment: fewer than half of them may be online; try again");
    return leader;
}

int serve_check_level(const Cluster *cluster, bool has_level, uint32_t level, struct err *e)
{
    uint32_t offered = has_level ? level : 1, needed = cluster->has_feature_level ? cluster->feature_level : 1;

    return offered >= needed
               ? 0
               : err_set(
                     e, ERR_PRECONDITION,
                     "this cluster needs feature level %u and this node offers %u: install a newer version on it",
                     needed, offered);
}

int serve_open(const struct serve_config *config, struct serve **ret, struct err *e)
{
    struct serve *s = mem_alloc(sizeof(*s));
    struct rpc_server_events events = {.ctx = s, .on_connect = on_connect};

    s->config = *config;
    list_init(&s->leaving);
    int rc =
        rpc_server_open(config->loop, config->tls, methods, ARRAY_SIZE(methods), s, NULL, &events, &s->server, e);
    if (rc < 0) {
        free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

int serve_listen(struct serve *s, const char *address, struct err *e)
{
    return rpc_server_listen(s->server, address, e);
}

void serve_ready(struct serve *s)
{
    struct view *v = view_begin(control_store(s->config.control));
    struct err e;

    s->ready = true;
    s->fed = store_applied(control_store(s->config.control));
    for (size_t i = 0; i < s->unjudged_count; i++) {
        struct rpc_identity peer = s->unjudged[i];

        if (check_row(s, v, &peer, &e) < 0) {
            log_info("closing a node's connections", "node=%s why=\"%s\"", peer.node_id, e.text);
            rpc_server_close_peer(s->server, peer.node_id);
        } else {
            rpc_server_limit_peer(s->server, peer.node_id, peer.role);
        }
    }
    s->unjudged_count = 0;
    view_end(v);
}

int serve_port(const struct serve *s)
{
    return s->server ? rpc_server_port(s->server) : 0;
}

void serve_set_tls(struct serve *s, struct tls *tls)
{
    rpc_server_set_tls(s->server, tls);
}

static void on_server_closed(void *ctx)
{
    struct serve *s = ctx;

    s->server = NULL;
    s->closed(s->closed_ctx);
}

void serve_close(struct serve *s, void (*closed)(void *ctx), void *ctx)
{
    s->closed = closed;
    s->closed_ctx = ctx;
    rpc_server_close(s->server, on_server_closed, s);
}

void serve_free(struct serve *s)
{
    struct row *row;
    size_t at = 0;

    if (!s)
        return;
    while ((row = map64_next(&s->rows, &at)))
        free(row);
    map64_fini(&s->rows);
    ca_root_free(s->root);
    free(s);
}
