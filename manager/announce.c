/* Managers that say where they are (serve.h, join.proto): a node whose row wishes a manager announces the address
 * of its manager port and is given its number in the managers' group, in one write; what follows is membership's.
 * It does so again at each start, so that a changed address is followed.
 *
 * A number belongs to a log. A node that shows its own keeps it; one without a log is given the number that its row
 * holds only if that was never in the group: else the group would take it for one that remembers its votes and
 * entries, and so it gets a new one, and the old one leaves. One that shows a number which is not its row's was
 * removed meanwhile.
 *
 * A node that leaves is answered once it has no vote any more: were it gone before, the others might be too few to
 * let it go. If the leader itself leaves it hands over first; its answer is where to ask again. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/serve.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/tcp.h"

struct announcing {
    struct control_write write;
    struct list link; /* serve_leaving, once it is written */
    struct serve *serve;
    struct rpc_stream *stream; /* NULL: the node is gone */
    uint8_t node_id[IDENT_BYTES];
    char node[IDENT_TEXT + 1];
    char address[MEMBERSHIP_ADDRESS_MAX];
    uint64_t raft_id; /* that it shows, 0: none; then what it has */
    bool leaves;
    uint32_t level; /* of features, that it offers */
    bool has_level;
    uint64_t given, epoch; /* by execute */
};

/* --- answering ----------------------------------------------------------------------------------------- */

static void announcing_free(struct announcing *n)
{
    list_remove(&n->link);
    free(n);
}

static void send_reply(struct rpc_stream *stream, const MemberReply *reply)
{
    size_t size = member_reply__get_packed_size(reply);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size + 1);

    member_reply__pack(reply, packed);
    rpc_answer(stream, packed, size);
}

/* The last thing that is done with n. */
static void finish(struct announcing *n, const struct err *e)
{
    struct rpc_stream_events nothing = {0};
    MemberReply reply = MEMBER_REPLY__INIT;

    if (n->stream) {
        rpc_stream_set(n->stream, &nothing); /* n is gone when it ends */
        reply.has_raft_id = n->given != 0;
        reply.raft_id = n->given;
        reply.has_epoch = true;
        reply.epoch = n->epoch;
        reply.managers = (char **)membership_managers(serve_config(n->serve)->membership, &reply.n_managers);
        if (e->code)
            rpc_end(n->stream, e);
        else
            send_reply(n->stream, &reply);
    }
    announcing_free(n);
}

static int redirect(struct serve *s, struct rpc_stream *stream, struct err *e)
{
    const char *leader = serve_leader(s, e);
    MemberReply reply = MEMBER_REPLY__INIT;

    if (!leader)
        return e->code;
    reply.redirect = (char *)leader;
    send_reply(stream, &reply);
    return 0;
}

/* --- being a manager ----------------------------------------------------------------------------------- */

static uint64_t next_number(struct plan *p, const Cluster *old)
{
    Cluster cluster = *old;
    uint64_t number = MAX(cluster.next_raft_id, 1u);

    cluster.has_next_raft_id = true;
    cluster.next_raft_id = number + 1;
    plan_put(p, KIND_CLUSTER, p->index->cluster, &cluster);
    return number;
}

static int execute_announce(struct announcing *n, uint64_t number, const Node *old, const Cluster *cluster,
                            struct plan *p, struct err *e)
{
    NodeManager manager = NODE_MANAGER__INIT;
    uint64_t has = old->manager ? old->manager->raft_id : 0;
    bool is_voter;

    if (!old->spec || old->spec->role != NODE_ROLE__MANAGER)
        return err_set(e, ERR_DENIED, "node %s is a worker: promote it first", n->node);
    if (n->raft_id && n->raft_id != has)
        return err_set(e, ERR_PRECONDITION,
                       "this manager (number %llu) was removed from the cluster's managers: leave and join again",
                       (unsigned long long)n->raft_id);
    if (!n->raft_id && has && membership_has(serve_config(n->serve)->membership, has, &is_voter))
        has = 0;
    n->given = has ? has : next_number(p, cluster);
    if (has && old->manager->address && strcmp(old->manager->address, n->address) == 0)
        return 0;
    Node node = *old;
    manager.has_raft_id = true;
    manager.raft_id = n->given;
    manager.address = n->address;
    node.manager = &manager;
    plan_put(p, KIND_NODE, number, &node);
    return 0;
}

static int execute_leave(struct announcing *n, uint64_t number, const Node *old, struct plan *p, struct err *e)
{
    NodeSpec spec = old->spec ? *old->spec : (NodeSpec)NODE_SPEC__INIT;
    Node node = *old;

    n->given = old->manager ? old->manager->raft_id : 0;
    if (spec.role != NODE_ROLE__MANAGER)
        return 0;
    int rc = membership_check_demotion(serve_config(n->serve)->membership, p, number, e);
    if (rc < 0)
        return rc;
    spec.has_role = true;
    spec.role = NODE_ROLE__WORKER;
    node.spec = &spec;
    plan_put(p, KIND_NODE, number, &node);
    return 0;
}

static int execute(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct announcing *n = container_of(w, struct announcing, write);
    const struct index_node *found = index_node_by_id(p->index, n->node_id);
    const Node *node = found ? plan_node(p, found->number) : NULL;
    const Cluster *cluster = plan_cluster(p);

    (void)d; /* the plan is enough */
    n->given = 0;
    if (!cluster)
        return err_set(e, ERR_UNAVAILABLE, "this cluster is being founded");
    if (!node)
        return err_set(e, ERR_DENIED, "node %s is not part of this cluster", n->node);
    n->epoch = cluster->epoch;
    if (n->leaves)
        return execute_leave(n, found->number, node, p, e);
    int rc = serve_check_level(cluster, n->has_level, n->level, e);
    return rc < 0 ? rc : execute_announce(n, found->number, node, cluster, p, e);
}

static bool has_vote(struct announcing *n)
{
    bool is_voter = false;

    return n->given && membership_has(serve_config(n->serve)->membership, n->given, &is_voter) && is_voter;
}

static void on_done(struct control_write *w, const struct err *e, uint64_t index)
{
    struct announcing *n = container_of(w, struct announcing, write);

    (void)index; /* the number is what counts */
    if (e->code == 0 && !n->leaves)
        log_info("a manager announced itself", "node=%s member=%llu address=%s", n->node,
                 (unsigned long long)n->given, n->address);
    if (e->code == 0 && n->leaves && n->stream && has_vote(n))
        list_push(serve_leaving(n->serve), &n->link);
    else
        finish(n, e);
}

void announce_follow(struct serve *s)
{
    struct announcing *n, *after;
    struct err e = {0};

    list_each_safe (n, after, serve_leaving(s), link) {
        if (!control_leads(serve_config(s)->control)) {
            struct rpc_stream *stream = n->stream;
            struct rpc_stream_events nothing = {0};

            rpc_stream_set(stream, &nothing);
            announcing_free(n);
            if (redirect(s, stream, &e) < 0)
                rpc_end(stream, &e);
        } else if (!has_vote(n)) {
            log_info("a manager left", "node=%s member=%llu", n->node, (unsigned long long)n->given);
            finish(n, &e);
        }
    }
}

/* --- the call ------------------------------------------------------------------------------------------ */

static void on_stream_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct announcing *n = ctx;

    n->stream = NULL;
    if (!list_empty(&n->link))
        announcing_free(n); /* it waits for nothing but its answer */
}

static int check_request(const MemberRequest *request, const struct rpc_identity *peer, struct err *e)
{
    struct sockaddr_storage address;
    socklen_t size;

    if (!request)
        return err_set(e, ERR_INVALID, "malformed announcement of a manager");
    if (request->leave)
        return 0;
    if (peer->role != RPC_ROLE_MANAGER)
        return err_set(e, ERR_DENIED, "node %s has no manager's certificate", peer->node_id);
    if (strlen(request->address) >= MEMBERSHIP_ADDRESS_MAX || tcp_parse(request->address, &address, &size, e) < 0 ||
        tcp_port(&address) == 0)
        return err_set(e, ERR_INVALID, "\"%.80s\" is no address of a manager", request->address);
    return 0;
}

static int begin(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer,
                 const MemberRequest *request, struct err *e)
{
    int rc = check_request(request, peer, e);

    if (rc < 0)
        return rc;
    if (!control_leads(serve_config(s)->control))
        return redirect(s, stream, e);
    struct announcing *n = mem_alloc(sizeof(*n));
    struct rpc_stream_events events = {.ctx = n, .on_end = on_stream_end};
    list_init(&n->link);
    n->serve = s;
    n->stream = stream;
    (void)ident_parse(peer->node_id, n->node_id);                           /* its row was found by it */
    (void)snprintf(n->node, sizeof(n->node), "%s", peer->node_id);          /* fits */
    (void)snprintf(n->address, sizeof(n->address), "%s", request->address); /* checked, but for one that leaves */
    n->raft_id = request->raft_id;
    n->leaves = request->leave;
    n->level = request->feature_level;
    n->has_level = request->has_feature_level;
    n->write.execute = execute;
    n->write.done = on_done;
    rpc_stream_set(stream, &events);
    control_submit(serve_config(s)->control, &n->write);
    return 0;
}

void announce_on_open(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer,
                      const void *message, size_t size)
{
    struct rpc_stream_events nothing = {0};
    AUTO_ARENA struct arena a;
    struct err e;

    arena_init(&a);
    rpc_stream_set(stream, &nothing);
    if (begin(s, stream, peer, arena_unpack(&a, &member_request__descriptor, message, size), &e) < 0) {
        log_info("a manager was not taken", "node=%s error=\"%s\"", peer->node_id, e.text);
        rpc_end(stream, &e);
    }
}
