/* `swarm init --force-new-cluster`: go on alone with what this manager has (swarm.h, reference/swarm-surface.md
 * section 4).
 *
 *     parts closed --> epoch raised, in the identity, durable --> manager opened to go on alone --> serves
 *         --> noted that it does, durable --> answered
 *
 * The intention is in the identity, so a node that dies meanwhile goes on with it at its next start; it is cleared
 * before the client hears of it, so that it can never be acted on again after others have joined. The certificate
 * may have expired: the manager renews it itself as soon as it serves. */
#include <string.h>

#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

/* --- the end --------------------------------------------------------------------------------------- */

static void answer(struct swarm *s)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    if (!s->waiting)
        return;
    jwrite_string(&j, NULL, s->identity->node_id);
    http_reply_json(s->waiting, 200, &body);
    s->waiting = NULL;
}

void swarm_forced(struct swarm *s)
{
    Identity changed = *s->identity;

    log_info("this manager goes on alone", "cluster=%s epoch=%llu advertise=%s", changed.cluster_id,
             (unsigned long long)changed.epoch, changed.advertise_address);
    changed.has_forces_new_cluster = changed.forces_new_cluster = false;
    swarm_replace_identity(s, &changed);
    swarm_when_durable(s, answer);
}

/* --- the way --------------------------------------------------------------------------------------- */

static void open_alone(struct swarm *s)
{
    swarm_start_agent(s);
    swarm_open_manager(s);
}

static void on_parts_closed(struct swarm *s)
{
    if (s->state != SWARM_PENDING)
        return;
    swarm_write_out(s);
    swarm_when_durable(s, open_alone);
}

static int check(const struct swarm *s, struct err *e)
{
    if (s->state == SWARM_LOCKED)
        return err_set(e, ERR_UNAVAILABLE, "%s", swarm_locked_text);
    if (!s->identity)
        return err_set(
            e, ERR_UNAVAILABLE,
            "This node is not part of a swarm: --force-new-cluster makes a new cluster of what a manager "
            "still has, and this node has nothing. Use \"docker swarm init\" without it");
    if (!swarm_is_member(s))
        return err_set(
            e, ERR_UNAVAILABLE,
            "This node is a worker: --force-new-cluster makes a new cluster of what a manager still has. "
            "Please run this command on a manager node");
    if (s->is_entering || s->waiting || s->identity->forces_new_cluster ||
        (s->state != SWARM_ACTIVE && s->state != SWARM_PENDING && s->state != SWARM_FAILED))
        return err_set(e, ERR_UNAVAILABLE, "this node is %s; try again in a moment", swarm_state_name(s));
    return 0;
}

/* What is asked for now, else how it was asked for, else what came of it. */
static const char *choose(const char *now, const char *asked, const char *before)
{
    if (*now)
        return now;
    return asked && *asked ? asked : before ? before : "";
}

int swarm_force_new_cluster(struct swarm *s, const struct manager_init *asked, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct tls *tls = NULL;
    int rc = check(s, e);

    arena_init(&a);
    if (rc < 0)
        return rc;
    Identity changed = *s->identity;
    const char *listen = choose(asked->listen_address, changed.listen_asked, changed.listen_address);
    const char *advertise = choose(asked->advertise_address, changed.advertise_asked, changed.advertise_address);
    const char *data_path = choose(asked->data_path_address, NULL, changed.data_path_address);
    rc = swarm_read_addresses(&changed, listen, advertise, data_path, false, &a, e);
    if (rc == 0 && !s->tls)
        rc = tls_new(changed.certificate_pem, changed.key_pem, changed.root_pem, &tls, e);
    if (rc < 0)
        return rc;
    if (tls)
        s->tls = tls;
    changed.has_epoch = changed.has_forces_new_cluster = changed.forces_new_cluster = true;
    changed.epoch++;
    changed.managers = &changed.advertise_address;
    changed.n_managers = 1;
    log_warn("told to go on alone", "cluster=%s epoch=%llu", changed.cluster_id, (unsigned long long)changed.epoch);
    s->when_durable = NULL;
    if (s->state != SWARM_PENDING)
        swarm_move(s, SWARM_PENDING);
    swarm_replace_identity(s, &changed);
    swarm_close_parts(s, on_parts_closed);
    return 0;
}
