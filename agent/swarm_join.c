/* `swarm join` (swarm.h).
 *
 *     pending: certificate (agent/join) --> identity on the disk --> the agent connects --> active, answered
 *                                                          a manager: its place in the group (swarm_role.c),
 *                                                          and it serves
 *
 * Nothing is on the disk before the identity is, durably, so a crash leaves the node in the swarm or outside of it.
 * (What a manager has noted of a node whose answer never arrived is a row that goes down, as that of any dead
 * node.) A join that fails leaves nothing behind. The client is answered when the node is of use to the cluster;
 * one that has waited for 20 s is told so, while the join goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/address.h"
#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/wire/tcp.h"

#define PATIENCE_MS 20000

static const char timeout_text[] = "Timeout was reached before node joined. The attempt to join the swarm will "
                                   "continue in the background. Use the "
                                   "\"docker info\" command to see the current swarm status of your node.";

/* --- the answer ------------------------------------------------------------------------------------ */

static void on_impatient(uv_timer_t *timer)
{
    struct swarm *s = timer->data;
    struct err e;

    s->awaits_session = false;
    err_set(&e, ERR_TIMEOUT, "%s", timeout_text);
    swarm_answer_error(s, &e);
}

void swarm_joined(struct swarm *s)
{
    swarm_drop_asked(s);
    if (s->waiting)
        http_reply_empty(s->waiting, 200);
    s->waiting = NULL;
}

void swarm_drop_asked(struct swarm *s)
{
    message_free(s->asked);
    s->asked = NULL;
    s->awaits_session = false;
    (void)uv_timer_stop(s->patience); /* cannot fail */
}

/* --- with the certificate -------------------------------------------------------------------------- */

static void on_identity_written(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (!swarm_entered(s, e))
        return;
    log_info("joined the swarm", "cluster=%s node=%s role=%s advertise=%s", s->identity->cluster_id,
             s->identity->node_id, swarm_is_manager(s) ? "manager" : "worker", s->identity->advertise_address);
    s->awaits_session = true; /* and a manager has to serve, before whoever waits is answered */
    swarm_start_renewal(s);
    if (swarm_is_manager(s))
        swarm_begin_manager(s);
    else
        swarm_move(s, SWARM_ACTIVE);
    swarm_start_agent(s);
    if (s->agent)
        agent_try_first(s->agent, s->identity->managers[0]); /* the leader, who knows us */
}

/* A manager's identity has a key for its data, and no place in the group yet. That it can listen is looked at while
 * the client still hears of it. */
static int become_manager(struct swarm *s, Identity *identity, uint8_t data_key[32], struct err *e)
{
    char listen[ADDRESS_TEXT];

    address_hear(identity->listen_address, identity->advertise_address, listen);
    int fd = -1, rc = tcp_bind(listen, &fd, e);
    if (rc < 0)
        return err_wrap(e, "the manager's port");
    close(fd);
    entropy_fill(s->config.entropy, data_key, 32);
    identity->has_data_key = identity->has_raft_id = true;
    identity->data_key = (ProtobufCBinaryData){32, data_key};
    identity->raft_id = 0;
    return 0;
}

static int use_result(struct swarm *s, const struct join_result *result, struct err *e)
{
    Identity identity = *s->asked;
    char advertise[ADDRESS_TEXT];
    uint8_t data_key[32];

    identity.node_id = (char *)result->node_id;
    identity.cluster_id = (char *)result->cluster_id;
    identity.role = result->role;
    identity.certificate_pem = (char *)result->certificate_pem;
    identity.key_pem = (char *)result->key_pem;
    identity.root_pem = (char *)result->root_pem;
    identity.managers = (char **)result->managers;
    identity.n_managers = result->manager_count;
    if (!*identity.advertise_address) {
        if (!*result->local)
            return err_set(e, ERR_UNAVAILABLE,
                           "could not find the address that this node reaches the manager from: name it with "
                           "--advertise-addr");
        address_make(result->local, address_port(identity.listen_address), advertise);
        identity.advertise_address = advertise;
    }
    int rc = result->role == NODE_ROLE__MANAGER ? become_manager(s, &identity, data_key, e) : 0;
    if (rc == 0)
        rc = tls_new(identity.certificate_pem, identity.key_pem, identity.root_pem, &s->tls, e);
    swarm_lock(&identity, result->lock_key, result->lock_version);
    if (rc == 0)
        s->identity = message_dup(&identity);
    mem_wipe(data_key, sizeof(data_key));
    return rc;
}

static void on_join_closed(void *ctx)
{
    (void)swarm_callback_came(ctx); /* its result was used when it came */
}

static void on_join_done(void *ctx, const struct err *e, const struct join_result *result)
{
    struct swarm *s = ctx;
    struct err error = *e;

    s->pending++;
    join_close(steal(&s->join), on_join_closed, s);
    if (error.code == 0 && use_result(s, result, &error) == 0) {
        s->pending++;
        if (identity_write(s->config.loop, s->config.data_dir, s->identity, on_identity_written, s, &error) < 0)
            on_identity_written(s, &error);
        return;
    }
    swarm_undo_entering(s, &error);
}

/* --- the request ----------------------------------------------------------------------------------- */

static int begin(struct swarm *s, const char *body, size_t size, struct err *e)
{
    Identity identity = IDENTITY__INIT;
    struct manager_join asked;
    char none[] = "";
    AUTO_ARENA struct arena a;

    arena_init(&a);
    int rc = manager_join_parse(body, size, &a, &asked, e);
    if (rc == 0)
        rc = swarm_read_addresses(&identity, asked.listen_address, asked.advertise_address, asked.data_path_address,
                                  true, &a, e);
    if (rc < 0)
        return rc;
    struct join_config config = {.loop = s->config.loop,
                                 .clock = s->config.clock,
                                 .entropy = s->config.entropy,
                                 .remotes = asked.remotes,
                                 .remote_count = asked.remote_count,
                                 .token = asked.token,
                                 .availability = asked.availability,
                                 .ctx = s,
                                 .done = on_join_done};
    rc = join_open(&config, &s->join, e);
    if (rc < 0)
        return rc;
    identity.has_availability = true;
    identity.availability = asked.availability;
    /* What the certificate will fill in; a copy needs the required fields. */
    identity.node_id = identity.cluster_id = identity.certificate_pem = identity.key_pem = identity.root_pem = none;
    if (!identity.advertise_address)
        identity.advertise_address = none;
    s->asked = message_dup(&identity);
    return 0;
}

static void on_join_body(struct http_exchange *x, const char *body, size_t length)
{
    struct swarm *s = http_data(x);
    struct err e;

    /* Asked again: somebody else may have been quicker while the body came. */
    if (swarm_check_inactive(s, &e) < 0 || begin(s, body, length, &e) < 0) {
        http_reply_error(x, &e);
        return;
    }
    swarm_move(s, SWARM_PENDING);
    s->is_entering = true;
    swarm_wait_for(s, x);
    uv_timer_start(s->patience, on_impatient, PATIENCE_MS, 0);
}

void swarm_http_join(struct swarm *s, struct http_exchange *x)
{
    struct err e;

    if (swarm_check_inactive(s, &e) < 0) {
        http_reply_error(x, &e);
        return;
    }
    http_set_data(x, s);
    http_collect(x, on_join_body);
}
