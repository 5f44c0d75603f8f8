/* Certificates for nodes that join or renew (serve.h, reference/swarm-surface.md section 5).
 *
 *     joins:   token -> certificate for a new id -> row of that id in the store -> answer
 *     renews:  row is there with the role of its certificate -> certificate -> answer
 *
 * A certificate without a row is worth nothing, so the row comes last: whatever fails before leaves nothing behind.
 * Nobody is told which part of a token was wrong. Joining as a manager is issue 4's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/authority.h"
#include "manager/ca/ca.h"
#include "manager/serve.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"

#define TOKEN_NEEDED        "A valid join token is necessary to join this cluster"
#define LIFETIME_DEFAULT_MS (90LL * 24 * 3600 * 1000)

struct joining { /* a node's row on its way into the store */
    struct control_write write;
    struct rpc_stream *stream; /* NULL: the node is gone */
    uint8_t node_id[IDENT_BYTES];
    char secret[CA_SECRET_TEXT + 1];
    bool has_availability;
    NodeAvailability availability;
    uint8_t *reply; /* owned: packed IssueReply */
    size_t reply_size;
};

/* --- the certificate ----------------------------------------------------------------------------------- */

static int pack_reply(const char *certificate_pem, const RootCa *root, const Cluster *cluster,
                      const uint8_t *node_id, NodeRole role, uint8_t **ret, size_t *ret_size)
{
    IssueReply reply = ISSUE_REPLY__INIT;

    reply.has_certificate_pem = reply.has_root_pem = reply.has_node_id = reply.has_cluster_id = true;
    reply.certificate_pem = (ProtobufCBinaryData){strlen(certificate_pem), (uint8_t *)certificate_pem};
    reply.root_pem = root->certificate_pem;
    reply.node_id = (ProtobufCBinaryData){IDENT_BYTES, (uint8_t *)node_id};
    reply.cluster_id = cluster->id;
    reply.has_role = true;
    reply.role = role;
    *ret_size = issue_reply__get_packed_size(&reply);
    *ret = mem_alloc(*ret_size);
    issue_reply__pack(&reply, *ret);
    return 0;
}

/* Sign for this node; *ret is the packed answer, to be freed. */
static int make_reply(struct serve *s, const Cluster *cluster, const IssueRequest *request,
                      const struct rpc_identity *identity, uint8_t **ret, size_t *ret_size, struct err *e)
{
    const RootCa *root = cluster->root_ca;
    const ClusterSpec *spec = cluster->spec;
    AUTO_ARENA struct arena a;
    AUTO_FREE
    char *certificate_pem = NULL;
    uint8_t node_id[IDENT_BYTES];
    int64_t lifetime_ms = spec && spec->has_node_cert_expiry_ns && spec->node_cert_expiry_ns > 0
                              ? spec->node_cert_expiry_ns / 1000000
                              : LIFETIME_DEFAULT_MS;

    arena_init(&a);
    if (!root || !root->has_certificate_pem || !root->has_key_pem)
        return err_set(e, ERR_UNAVAILABLE, "this cluster has no signing key");
    if (!ident_parse(identity->node_id, node_id))
        return err_set(e, ERR_INVALID, "malformed node id");
    char *key_pem = arena_strndup(&a, (const char *)root->key_pem.data, root->key_pem.len);
    int rc = ca_issue(arena_strndup(&a, (const char *)root->certificate_pem.data, root->certificate_pem.len),
                      key_pem, request->csr_der.data, request->csr_der.len, identity,
                      clock_wall_ms(serve_config(s)->clock), lifetime_ms, &certificate_pem, e);
    mem_wipe(key_pem, strlen(key_pem));
    return rc < 0 ? rc
                  : pack_reply(certificate_pem, root, cluster, node_id,
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
    char token[CA_TOKEN_TEXT + 1], own[CA_DIGEST_TEXT + 1], secret[CA_SECRET_TEXT + 1];
    AUTO_FREE
    char *root_pem = mem_strndup((const char *)root->certificate_pem.data, root->certificate_pem.len);
    int rc = ca_token(root_pem, root->worker_secret, token, e);

    if (rc == 0)
        rc = ca_token_parse(token, own, secret, e);
    mem_wipe(secret, sizeof(secret));
    mem_wipe(token, sizeof(token));
    if (rc == 0 && strcmp(own, digest) != 0)
        rc = err_set(e, ERR_INVALID, TOKEN_NEEDED);
    return rc;
}

/* --- joining ------------------------------------------------------------------------------------------- */

static void joining_free(struct joining *j)
{
    mem_wipe(j->secret, sizeof(j->secret));
    buf_fini(&j->write.reply);
    free(j->reply);
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
    if (rc < 0)
        return rc;
    spec.has_role = spec.has_availability = true;
    spec.role = NODE_ROLE__WORKER;
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
        log_info("node joined", "node=%s", id);
    }
    if (j->stream) {
        struct rpc_stream_events nothing = {0};

        rpc_stream_set(j->stream, &nothing); /* j is gone when it ends */
        if (e->code == 0)
            (void)rpc_send(j->stream, j->reply, j->reply_size); /* the first message always has credit */
        rpc_end(j->stream, e);
    }
    joining_free(j);
}

static void on_stream_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    ((struct joining *)ctx)->stream = NULL;
}

static int join(struct serve *s, struct rpc_stream *stream, const Cluster *cluster, const IssueRequest *request,
                struct err *e)
{
    struct rpc_identity identity = {.role = RPC_ROLE_WORKER};
    struct joining *j = mem_alloc(sizeof(*j));
    struct rpc_stream_events events = {.ctx = j, .on_end = on_stream_end};
    char digest[CA_DIGEST_TEXT + 1];
    NodeRole role = NODE_ROLE__WORKER;
    int rc = ca_token_parse(request->token, digest, j->secret, e);

    if (rc == 0)
        rc = role_of_secret(cluster->root_ca, j->secret, &role, e);
    if (rc == 0)
        rc = check_digest(cluster->root_ca, digest, e);
    if (rc == 0 && role == NODE_ROLE__MANAGER)
        rc = err_set(e, ERR_UNSUPPORTED, "joining as a manager is not offered by shoal " SHOAL_VERSION);
    if (rc == 0) {
        ident_new(serve_config(s)->entropy, identity.node_id);
        (void)ident_parse(identity.node_id, j->node_id); /* just made */
        memcpy(identity.cluster_id, serve_config(s)->cluster_id, sizeof(identity.cluster_id));
        rc = make_reply(s, cluster, request, &identity, &j->reply, &j->reply_size, e);
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

/* The peer's row is there and has its role: else its connection would have been closed. */
static int renew(struct serve *s, struct rpc_stream *stream, const Cluster *cluster, const IssueRequest *request,
                 const struct rpc_identity *peer, struct err *e)
{
    AUTO_FREE
    uint8_t *reply = NULL;
    size_t size;
    int rc = make_reply(s, cluster, request, peer, &reply, &size, e);

    if (rc < 0)
        return rc;
    log_info("certificate renewed", "node=%s", peer->node_id);
    (void)rpc_send(stream, reply, size); /* the first message always has credit */
    rpc_end(stream, NULL);
    return 0;
}

int issue_own(struct serve *s, const char *node_id, const void *request_der, size_t size, struct buf *ret_reply,
              struct err *e)
{
    struct rpc_identity self = {.role = RPC_ROLE_MANAGER};
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_ARENA struct arena a;
    AUTO_FREE
    uint8_t *reply = NULL;
    size_t reply_size = 0;
    struct object object;

    arena_init(&a);
    if (!control_leads(serve_config(s)->control))
        return err_set(e, ERR_UNAVAILABLE, "this manager is not the leader");
    (void)snprintf(self.node_id, sizeof(self.node_id), "%s", node_id);                           /* ids fit */
    (void)snprintf(self.cluster_id, sizeof(self.cluster_id), "%s", serve_config(s)->cluster_id); /* likewise */
    request.csr_der = (ProtobufCBinaryData){size, (uint8_t *)request_der};
    struct view *v = view_begin(control_store(serve_config(s)->control));
    int rc = serve_check_row(s, v, &self, e);
    if (rc == 0 && authority_cluster(v, &a, &object) < 0)
        rc = err_set(e, ERR_UNAVAILABLE, "this cluster is being founded");
    view_end(v);
    if (rc < 0)
        return rc;
    rc = make_reply(s, (const Cluster *)object.message, &request, &self, &reply, &reply_size, e);
    authority_forget((const Cluster *)object.message);
    if (rc < 0)
        return rc;
    log_info("certificate renewed", "node=%s", node_id);
    buf_append(ret_reply, reply, reply_size);
    return 0;
}

/* --- the call ------------------------------------------------------------------------------------------ */

static int answer(struct serve *s, struct rpc_stream *stream, const struct rpc_identity *peer,
                  const IssueRequest *request, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    if (!request)
        return err_set(e, ERR_INVALID, "malformed request for a certificate");
    if (!control_leads(serve_config(s)->control))
        return err_set(e, ERR_UNAVAILABLE, "this manager is not the leader");
    if (request->token && peer->role != RPC_ROLE_NONE)
        return err_set(e, ERR_INVALID, "a node with a certificate is in a cluster already");
    if (!request->token && peer->role == RPC_ROLE_NONE)
        return err_set(e, ERR_DENIED, TOKEN_NEEDED);
    struct view *v = view_begin(control_store(serve_config(s)->control));
    int rc = authority_cluster(v, &a, &object);
    view_end(v);
    if (rc < 0)
        return err_set(e, ERR_UNAVAILABLE, "this cluster is being founded");
    const Cluster *cluster = (const Cluster *)object.message;
    rc = request->token ? join(s, stream, cluster, request, e) : renew(s, stream, cluster, request, peer, e);
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
