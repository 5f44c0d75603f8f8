/* `swarm init`: a new cluster whose first manager is this node (swarm.h).
 *
 * Order of founding: the manager first (its log on the disk makes the cluster real), the identity last and durably:
 * it alone decides, at the next start, whether this node is in a swarm. A crash before that leaves files without an
 * identity, which the next start removes; nothing was acknowledged. The client may go away meanwhile, founding goes
 * on. */
#include <string.h>

#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/clock.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

#define CERT_LIFETIME_DEFAULT_MS (90LL * 24 * 3600 * 1000)

static const char already_text[] =
    "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.";

static void on_undone(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code)
        log_warn("cannot remove what a failed init or join left", "error=\"%s\"", e->text);
    if (!swarm_callback_came(s))
        return;
    swarm_drop_identity(s);
    swarm_drop_asked(s);
    s->is_entering = false;
    swarm_move(s, SWARM_INACTIVE);
    swarm_answer_error(s, &s->error);
}

static void undo_files(struct swarm *s)
{
    struct err e;

    s->pending++;
    if (identity_forget(s->config.loop, s->config.data_dir, on_undone, s, &e) < 0)
        on_undone(s, &e);
}

void swarm_undo_entering(struct swarm *s, const struct err *e)
{
    log_error(s->asked ? "cannot join the swarm" : "cannot found the swarm", "error=\"%s\"", e->text);
    s->error = *e;
    swarm_close_parts(s, undo_files);
}

bool swarm_entered(struct swarm *s, const struct err *e)
{
    if (!swarm_callback_came(s))
        return false;
    if (e->code) {
        swarm_undo_entering(s, e);
        return false;
    }
    s->is_entering = false;
    return true;
}

static void on_identity_written(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (!swarm_entered(s, e))
        return;
    swarm_move(s, SWARM_ACTIVE);
    swarm_start_renewal(s);
    log_info("swarm founded", "cluster=%s node=%s listen=%s advertise=%s", s->identity->cluster_id,
             s->identity->node_id, s->identity->listen_address, s->identity->advertise_address);
    swarm_start_agent(s);
    if (s->waiting) {
        AUTO_BUF struct buf body = {0};
        struct jwrite j = JWRITE_TO(&body);

        jwrite_string(&j, NULL, s->identity->node_id);
        http_reply_json(s->waiting, 200, &body);
        s->waiting = NULL;
    }
}

void swarm_founded(struct swarm *s)
{
    struct err e;

    s->pending++;
    if (identity_write(s->config.loop, s->config.data_dir, s->identity, on_identity_written, s, &e) < 0)
        on_identity_written(s, &e);
}

/* Keys, ids and certificate, into the identity and the cluster object that are being made. */
static void use_founding(struct manager_founding *founding, Identity *identity, Cluster *cluster, struct arena *a)
{
    RootCa *root = ARENA_NEW(a, RootCa);
    uint8_t *cluster_id = arena_alloc(a, IDENT_BYTES);

    identity->node_id = founding->node_id;
    identity->cluster_id = founding->cluster_id;
    identity->role = NODE_ROLE__MANAGER;
    identity->certificate_pem = founding->certificate_pem;
    identity->key_pem = founding->key_pem;
    identity->root_pem = founding->root_pem;
    identity->has_data_key = true;
    identity->data_key = (ProtobufCBinaryData){sizeof(founding->data_key), founding->data_key};
    (void)ident_parse(founding->cluster_id, cluster_id); /* just made */
    cluster->id = (ProtobufCBinaryData){IDENT_BYTES, cluster_id};
    root_ca__init(root);
    root->has_certificate_pem = root->has_key_pem = true;
    root->certificate_pem = (ProtobufCBinaryData){strlen(founding->root_pem), (uint8_t *)founding->root_pem};
    root->key_pem = (ProtobufCBinaryData){strlen(founding->root_key_pem), (uint8_t *)founding->root_key_pem};
    root->worker_secret = founding->worker_secret;
    root->manager_secret = founding->manager_secret;
    cluster->root_ca = root;
    if (cluster->spec && cluster->spec->autolock_managers) {
        cluster->has_unlock_key = identity->has_lock_key = true;
        cluster->unlock_key = identity->lock_key =
            (ProtobufCBinaryData){sizeof(founding->unlock_key), founding->unlock_key};
    }
}

int swarm_check_inactive(const struct swarm *s, struct err *e)
{
    if (s->state == SWARM_INACTIVE)
        return 0;
    if (s->state == SWARM_PENDING && !s->identity && !s->join)
        return err_set(e, ERR_UNAVAILABLE, "this node is still starting; try again in a moment");
    return err_set(e, ERR_UNAVAILABLE, "%s", already_text);
}

static int found(struct swarm *s, const struct manager_init *init, struct arena *a, struct err *e)
{
    struct manager_founding founding = {0};
    Identity identity = IDENTITY__INIT;
    int rc = swarm_read_addresses(&identity, init->listen_address, init->advertise_address, init->data_path_address,
                                  false, a, e);
    if (rc < 0)
        return rc;
    const ClusterSpec *spec = init->cluster->spec;
    int64_t lifetime_ms =
        spec && spec->has_node_cert_expiry_ns ? spec->node_cert_expiry_ns / 1000000 : CERT_LIFETIME_DEFAULT_MS;
    rc = manager_found(clock_wall_ms(s->config.clock), lifetime_ms, &founding, e);
    if (rc < 0)
        return rc;
    use_founding(&founding, &identity, init->cluster, a);
    identity.has_availability = true;
    identity.availability = init->availability;
    rc = tls_new(identity.certificate_pem, identity.key_pem, identity.root_pem, &s->tls, e);
    identity.has_raft_id = true;
    identity.raft_id = MANAGER_RAFT_ID_FIRST;
    if (rc == 0) {
        s->identity = message_dup(&identity);
        rc = swarm_start_manager(s, init->cluster, founding.root_key_pem, e);
        if (rc < 0)
            swarm_drop_identity(s);
    }
    manager_founding_free(&founding);
    if (rc < 0)
        return rc;
    swarm_move(s, SWARM_PENDING);
    s->is_entering = true;
    return 0;
}

static int init(struct swarm *s, const char *body, size_t size, struct err *e)
{
    struct manager_init asked;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    int rc = manager_init_parse(body, size, &arena, &asked, e);
    if (rc == 0 && asked.force_new_cluster)
        return swarm_force_new_cluster(s, &asked, e);
    if (rc == 0)
        rc = swarm_check_inactive(s, e);
    return rc == 0 ? found(s, &asked, &arena, e) : rc;
}

static void on_init_body(struct http_exchange *x, const char *body, size_t length)
{
    struct swarm *s = http_data(x);
    struct err e;

    if (init(s, body, length, &e) < 0)
        http_reply_error(x, &e);
    else
        swarm_wait_for(s, x);
}

void swarm_http_init(struct swarm *s, struct http_exchange *x)
{
    http_set_data(x, s);
    http_collect(x, on_init_body); /* the body says whether a new cluster is to be forced */
}
