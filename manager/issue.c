/* Certificates for nodes that join or renew (serve.h, reference/swarm-surface.md section 5).
 *
 *     joins:   token -> certificate for a new id -> row of that id in the store -> answer
 *     renews:  row is there -> certificate with the role that it wishes -> answer
 *     at a manager that does not lead: where the leader is
 *
 * A certificate without a row is worth nothing, so the row comes last: whatever fails before leaves nothing behind.
 * Nobody is told which part of a token was wrong. Who joins as a manager has a certificate for it, and a row that
 * wishes it, but is no member of the managers' group before it has announced itself (announce.c). A manager that is
 * to be a worker keeps its certificate until it is out of the group: until then the others may need its vote.
 *
 * Under autolock a manager's certificate comes with the unlock key, so that already the first file with the new
 * keys is locked. The key goes to that node alone: it has just proved a manager's token, or that its row wishes a
 * manager, and will read the key in its own store. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/authority.h"
#include "manager/ca/ca.h"
#include "manager/ca/rotation.h"
#include "manager/serve.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"
#include "proto/join.pb-c.h"

#define TOKEN_NEEDED "A valid join token is necessary to join this cluster"
#define SKEW_MS      (10 * 60 * 1000)

struct joining { /* a node's row on its way into the store */
    struct control_write write;
    struct rpc_stream *stream; /* NULL: the node is gone */
    uint8_t node_id[IDENT_BYTES];
    char secret[CA_SECRET_TEXT + 1];
    bool has_availability;
    NodeAvailability availability;
    NodeRole role;  /* of the token, and so of the certificate */
    uint8_t *reply; /* owned: packed IssueReply */
    size_t reply_size;
};

/* --- the certificate ----------------------------------------------------------------------------------- */

static int pack_reply(struct serve *s, const char *certificate_pem, const char *trust_pem,
                      const struct object *object, const uint8_t *node_id, NodeRole role, uint8_t **ret,
                      size_t *ret_size)
{
    const Cluster *cluster = (const Cluster *)object->message;
    IssueReply reply = ISSUE_REPLY__INIT;

    reply.has_certificate_pem = reply.has_root_pem = reply.has_node_id = reply.has_cluster_id = true;
    reply.certificate_pem = (ProtobufCBinaryData){strlen(certificate_pem), (uint8_t *)certificate_pem};
    reply.root_pem = (ProtobufCBinaryData){strlen(trust_pem), (uint8_t *)trust_pem};
    reply.node_id = (ProtobufCBinaryData){IDENT_BYTES, (uint8_t *)node_id};
    reply.cluster_id = cluster->id;
    reply.has_role = true;
    reply.role = role;
    reply.has_lock_key = reply.has_lock_version = role == NODE_ROLE__MANAGER && cluster->has_unlock_key;
    reply.lock_key = cluster->unlock_key;
    reply.lock_version = object->version;
    reply.managers = (char **)membership_managers(serve_config(s)->membership, &reply.n_managers);
    *ret_size = issue_reply__get_packed_size(&reply);
    *ret = mem_alloc(*ret_size);
    issue_reply__pack(&reply, *ret);
    return 0;
}

/* It may hold the unlock key. */
static void wipe_reply(uint8_t *reply, size_t size)
{
    if (reply)
        mem_wipe(reply, size);
    free(reply);
}

/* Sign for this node, with what the cluster's object says; *ret is the packed answer, for wipe_reply. */
static int make_reply(struct serve *s, const struct object *object, const IssueRequest *request,
                      const struct rpc_identity *identity, uint8_t **ret, size_t *ret_size, struct err *e)
{
    const Cluster *cluster = (const Cluster *)object->message;
    const ClusterSpec *spec = cluster->spec;
    AUTO_ARENA struct arena a;
    AUTO_FREE
    char *certificate_pem = NULL;
    uint8_t node_id[IDENT_BYTES];
    struct ca_signer signer;

    arena_init(&a);
    if (!ident_parse(identity->node_id, node_id))
        return err_set(e, ERR_INVALID, "malformed node id");
    int rc = ca_signer(cluster->root_ca, &a, &signer, e);
    if (rc < 0)
        return rc;
    rc = ca_root_use(serve_root(s), signer.root_pem, signer.key_pem, e);
    ca_signer_wipe(&signer);
    if (rc == 0)
        rc = ca_root_issue(*serve_root(s), request->csr_der.data, request->csr_der.len, identity,
                           clock_wall_ms(serve_config(s)->clock), ca_lifetime_ms(spec), &certificate_pem, e);
    return rc < 0 ? rc
                  : pack_reply(s, arena_printf(&a, "%s%s", certificate_pem, signer.chain_pem), signer.trust_pem,
                               object, node_id,
                               identity->role == RPC_ROLE_MANAGER ? NODE_ROLE__MANAGER : NODE_ROLE__WORKER, ret,
                               ret_size);
}

static bool secret_is(const char *expected, const char *given)
{
    return expected && strlen(expected) == CA_SECRET_TEXT && secret_equal(expected, given, CA_SECRET_TEXT);
}

/* The role that the secret stands for. */
static int role_of_secret(const RootCa *root, const char *secret, NodeRole *ret, struct err *e)
{
    /* Both are compared whatever the first says. */
    bool worker = root && secret_is(root->worker_secret, secret);
    bool manager = root && secret_is(root->manager_secret, secret);

    if (!worker && !manager)
        return err_set(e, ERR_INVALID, TOKEN_NEEDED);
    *ret = manager ? NODE_ROLE__MANAGER : NODE_ROLE__WORKER;
    return 0;
}

/* The first part of the token says which root its owner trusts: one that was made for another is no good, also when
 * its secret still is. */
static int check_digest(const RootCa *root, const char *digest, struct err *e)
{
    char own[TOKEN_DIGEST_TEXT + 1];
    AUTO_FREE
    char *root_pem = mem_strndup((const char *)root->certificate_pem.data, root->certificate_pem.len);
    int rc = token_digest(root_pem, own, e);

    if (rc == 0 && strcmp(own, digest) != 0)
        rc = err_set(e, ERR_INVALID, TOKEN_NEEDED);
    return rc;
}

/* --- joining ------------------------------------------------------------------------------------------- */

static void joining_free(struct joining *j)
{
    mem_wipe(j->secret, sizeof(j->secret));
    buf_fini(&j->write.reply);
    wipe_reply(j->reply, j->reply_size);
    free(j);
}

static int execute_join(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct joining *j = container_of(w, struct joining, write);
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    struct object object;
    NodeRole role;

    /* The token may have been rotated since it was looked at. */
    if (!p->index->cluster || draft_get(d, KIND_CLUSTER, p->index->cluster, &object) < 0)
        return err_set(e, ERR_UNAVAILABLE, "this cluster is being founded");
    int rc = role_of_secret(((const Cluster *)object.message)->root_ca, j->secret, &role, e);
    if (rc == 0 && role != j->role)
        rc = err_set(e, ERR_INVALID, TOKEN_NEEDED);
    if (rc < 0)
        return rc;
    spec.has_role = spec.has_availability = true;
    spec.role = role;
    spec.availability = j->has_availability ? j->availability : NODE_AVAILABILITY__ACTIVE;
    node.id = (ProtobufCBinaryData){IDENT_BYTES, j->node_id};
    node.spec = &spec;
    node.has_state = true;
    node.state = NODE_STATE__UNKNOWN; /* until its agent comes */
    plan_create(p, KIND_NODE, &node);
    return 0;
}

static void on_join_done(struct control_write *w, const struct err *e, uint64_t index)
{
    struct joining *j = container_of(w, struct joining, write);
    char id[IDENT_TEXT + 1];

    if (e->code == 0) {
        ident_format(j->node_id, id);
        log_info("node joined", "node=%s role=%s", id, j->role == NODE_ROLE__MANAGER ? "manager" : "worker");
    }
    if (j->stream) {
        struct rpc_stream_events nothing = {0};

        rpc_stream_set(j->stream, &nothing); /* j is gone when it ends */
        if (e->code == 0)
            rpc_answer(j->stream, j->reply, j->reply_size);
        else
            rpc_end(j->stream, e);
    }
    joining_free(j);
}

static void on_stream_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    ((struct joining *)ctx)->stream = NULL;
}

static int join(struct serve *s, struct rpc_stream *stream, const struct object *object,
                const IssueRequest *request, struct err *e)
{
    const Cluster *cluster = (const Cluster *)object->message;
    struct rpc_identity identity = {.role = RPC_ROLE_NONE};
    struct joining *j = mem_alloc(sizeof(*j));
    struct rpc_stream_events events = {.ctx = j, .on_end = on_stream_end};
    char digest[TOKEN_DIGEST_TEXT + 1];
    int rc = token_parse(request->token, digest, j->secret, e);

    if (rc == 0)
        rc = role_of_secret(cluster->root_ca, j->secret, &j->role, e);
    if (rc == 0)
        rc = check_digest(cluster->root_ca, digest, e);
    if (rc == 0) {
        identity.role = j->role == NODE_ROLE__MANAGER ? RPC_ROLE_MANAGER : RPC_ROLE_WORKER;
        ident_new(serve_config(s)->entropy, identity.node_id);
        (void)ident_parse(identity.node_id, j->node_id); /* just made */
        memcpy(identity.cluster_id, serve_config(s)->cluster_id, sizeof(identity.cluster_id));
        rc = make_reply(s, object, request, &identity, &j->reply, &j->reply_size, e);
    }
    if (rc < 0) {
        joining_free(j);
        return rc;
    }
    j->stream = stream;
    j->has_availability = request->has_availability;
    j->availability = request->availability;
    j->write.execute = execute_join;
    j->write.done = on_join_done;
    rpc_stream_set(stream, &events);
    control_submit(serve_config(s)->control, &j->write);
    return 0;
}

/* --- renewing ------------------------------------------------------------------------------------------ */

/* The role that the node's row wishes. */
static int role_of_row(struct serve *s, const char *node_id, enum rpc_role *ret, struct err *e)
{
    struct view *v = view_begin(control_store(serve_config(s)->control));
    AUTO_ARENA struct arena a;
    struct object object;
    uint8_t id[IDENT_BYTES];
    uint64_t number = ident_parse(node_id, id) ? view_find_id(v, KIND_NODE, id) : 0;
    int rc = 0;

    arena_init(&a);
    if (!number || view_get(v, KIND_NODE, number, &a, &object) < 0)
        rc = err_set(e, ERR_DENIED, "node %s is not part of this cluster", node_id);
    view_end(v);
    if (rc < 0)
        return rc;
    const Node *node = (const Node *)object.message;
    bool wished = node->spec && node->spec->role == NODE_ROLE__MANAGER;
    if (!wished && node->manager)
        return err_set(e, ERR_UNAVAILABLE,
                       "node %s is still one of the managers: it gets a worker's certificate once it is not",
                       node_id);
    *ret = wished ? RPC_ROLE_MANAGER : RPC_ROLE_WORKER;
    return 0;
}

static int renew(struct serve *s, struct rpc_stream *stream, const struct object *object,
                 const IssueRequest *request, const struct rpc_identity *peer, struct err *e)
{
    struct rpc_identity identity = *peer;
    uint8_t *reply = NULL;
    size_t size = 0;
    int rc = role_of_row(s, peer->node_id, &identity.role, e);

    if (rc == 0)
        rc = make_reply(s, object, request, &identity, &reply, &size, e);
    if (rc == 0) {
        log_info("certificate renewed", "node=%s", peer->node_id);
        rpc_answer(stream, reply, size);
    }
    wipe_reply(reply, size);
    return rc;
}

int issue_own(struct serve *s, const char *node_id, const void *request_der, size_t size, struct buf *ret_reply,
              struct err *e)
{
    struct rpc_identity self = {.role = RPC_ROLE_MANAGER};
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_ARENA struct arena a;
    uint8_t *reply = NULL;
    size_t reply_size = 0;
    struct object object;

    arena_init(&a);
    if (!control_leads(serve_config(s)->control))
        return err_set(e, ERR_UNAVAILABLE, "this manager is not the leader");
    (void)snprintf(self.node_id, sizeof(self.node_id), "%s", node_id);                           /* ids fit */
    (void)snprintf(self.cluster_id, sizeof(self.cluster_id), "%s", serve_config(s)->cluster_id); /* likewise */
    request.csr_der = (ProtobufCBinaryData){size, (uint8_t *)request_der};
    int rc = role_of_row(s, node_id, &self.role, e);
    if (rc < 0)
        return rc;
    struct view *v = view_begin(control_store(serve_config(s)->control));
    rc = authority_cluster(v, &a, &object);
    view_end(v);
    if (rc < 0)
        return err_set(e, ERR_UNAVAILABLE, "this cluster is being founded");
    rc = make_reply(s, &object, &request, &self, &reply, &reply_size, e);
    authority_forget((const Cluster *)object.message);
    if (rc == 0) {
        log_info("certificate renewed", "node=%s", node_id);
        buf_append(ret_reply, reply, reply_size);
    }
    wipe_reply(reply, reply_size);
    return rc;
}

/* --- the call ------------------------------------------------------------------------------------------ */

static int check_clock(struct serve *s, const IssueRequest *request, struct err *e)
{
    int64_t here_ms = clock_wall_ms(serve_config(s)->clock);
    char here[TIME_TEXT], there[TIME_TEXT];

    if (!request->has_wall_ms || (request->wall_ms > here_ms - SKEW_MS && request->wall_ms < here_ms + SKEW_MS))
        return 0;
    time_format_ns(here_ms / 1000 * 1000000000, here);
    time_format_ns(MAX(MIN(request->wall_ms, INT64_MAX / 1000000), 0) / 1000 * 1000000000, there);
    return err_set(e, ERR_PRECONDITION,
                   "the clocks differ too much: it is %s at the manager and %s at this node; set its clock and try "
                   "again",
                   here, there);
}

static int redirect(struct serve *s, struct rpc_stream *stream, struct err *e)
{
    const char *leader = serve_leader(s, e);
    IssueReply reply = ISSUE_REPLY__INIT;
    uint8_t packed[256];

    ca_root_free(*serve_root(s)); /* a manager that led before has no use for it */
    *serve_root(s) = NULL;
    if (!leader)
        return e->code;
    reply.redirect = (char *)leader;
    assert(issue_reply__get_packed_size(&reply) <= sizeof(packed)); /* host:port */
    rpc_answer(stream, packed, issue_reply__pack(&reply, packed));
    return 0;
}

static int answer(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer,
                  const IssueRequest *request, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    if (!request)
        return err_set(e, ERR_INVALID, "malformed request for a certificate");
    if (request->token && peer->role != RPC_ROLE_NONE)
        return err_set(e, ERR_INVALID,
                       "This node is already part of a swarm: a node with a certificate is in a cluster already");
    if (!request->token && peer->role == RPC_ROLE_NONE)
        return err_set(e, ERR_DENIED, TOKEN_NEEDED);
    if (!control_leads(serve_config(s)->control))
        return redirect(s, stream, e);
    struct view *v = view_begin(control_store(serve_config(s)->control));
    int rc = authority_cluster(v, &a, &object);
    view_end(v);
    if (rc < 0)
        return err_set(e, ERR_UNAVAILABLE, "this cluster is being founded");
    const Cluster *cluster = (const Cluster *)object.message;
    rc = check_clock(s, request, e);
    if (rc == 0)
        rc = serve_check_level(cluster, request->has_feature_level, request->feature_level, e);
    if (rc == 0)
        rc = request->token ? join(s, stream, &object, request, e) : renew(s, stream, &object, request, peer, e);
    authority_forget(cluster);
    return rc;
}

void issue_on_open(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                   size_t size)
{
    struct rpc_stream_events nothing = {0};
    AUTO_ARENA struct arena a;
    struct err e;

    arena_init(&a);
    rpc_stream_set(stream, &nothing);
    if (answer(s, stream, peer, arena_unpack(&a, &issue_request__descriptor, message, size), &e) < 0) {
        log_info("no certificate given", "peer=%s error=\"%s\"", rpc_conn_address(rpc_stream_conn(stream)), e.text);
        rpc_end(stream, &e);
    }
}
