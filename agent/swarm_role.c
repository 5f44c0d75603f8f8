/* This node's place among the managers: becoming one, staying one, being one no more (swarm.h). Tasks run on
 * through all of it.
 *
 *                    row wishes a manager                         the leader gave a number
 *     worker --------------------------> certificate, no place --------------------------> manager opens, serves
 *       ^             renews at once      (raft_id 0, durable)     (METHOD_MEMBER, durable)           |
 *       |                                                                                            |
 *       +---- renews: the certificate says worker ------- manager closed for good <---- on_removed, -+
 *                    directory removed                                           or the row says so
 *
 * A join as manager enters at "no place". Each arrow is durable before the next begins, so a node that dies between
 * two goes on where it was. The directory of a manager that ended is removed before another one begins: a log must
 * not be taken up under another number. A renewal that says "worker" while our manager still is a member is not
 * used; it is asked for again when the manager is out. */
#include <stdlib.h>
#include <string.h>

#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define LEAVE_MS 5000

bool swarm_is_member(const struct swarm *s)
{
    return swarm_is_manager(s) && !s->role.is_ending && (!s->identity->has_raft_id || s->identity->raft_id);
}

static bool is_settled(const struct swarm *s)
{
    return s->identity && !s->is_entering && (s->state == SWARM_ACTIVE || s->state == SWARM_PENDING);
}

/* --- news ------------------------------------------------------------------------------------------ */

static void end_role(struct swarm *s, const char *why)
{
    if (s->role.is_ending)
        return;
    log_info("this node is a manager no more", "node=%s why=\"%s\"", s->identity->node_id, why);
    s->role.is_ending = true;
    swarm_stop_asking(s);
    swarm_end_manager(s);
}

/* The certificate should say what the row wishes. */
static void look(struct swarm *s)
{
    if (!is_settled(s) || !s->role.is_known)
        return;
    if (s->role.wishes_manager && !swarm_is_manager(s) && s->renew)
        renew_soon(s->renew, 0);
    else if (!s->role.wishes_manager && !s->role.is_member && swarm_is_manager(s))
        end_role(s, "its row says so");
}

void swarm_on_node(void *ctx, const Node *node)
{
    struct swarm *s = ctx;

    s->role.is_known = true;
    s->role.wishes_manager = node->spec && node->spec->role == NODE_ROLE__MANAGER;
    s->role.is_member = node->manager != NULL;
    look(s);
}

void swarm_on_removed(void *ctx)
{
    struct swarm *s = ctx;

    if (is_settled(s))
        end_role(s, "the managers' group goes on without it");
}

/* --- the certificate ------------------------------------------------------------------------------- */

static void forget_manager(Identity *identity)
{
    identity->has_data_key = identity->has_raft_id = false;
    identity->has_lock_key = identity->has_lock_version = false;
    identity->has_forces_new_cluster = identity->forces_new_cluster = false;
    identity->raft_id = identity->lock_version = 0;
}

int swarm_take_role(struct swarm *s, NodeRole role, Identity *identity, uint8_t data_key[32], struct err *e)
{
    if (role == s->identity->role && !s->role.is_ending)
        return 0;
    if (role == NODE_ROLE__WORKER && swarm_is_member(s))
        return err_set(e, ERR_UNAVAILABLE,
                       "this node is to be a worker, but is still a member of the managers' group");
    forget_manager(identity);
    identity->role = role;
    if (role == NODE_ROLE__MANAGER) {
        entropy_fill(s->config.entropy, data_key, 32);
        identity->has_data_key = identity->has_raft_id = true;
        identity->data_key = (ProtobufCBinaryData){32, data_key};
        identity->raft_id = 0;
    }
    return 0;
}

static void on_cleared(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code && e->code != ERR_NOT_FOUND)
        log_error("cannot remove what a manager left", "error=\"%s\"", e->text);
    (void)swarm_callback_came(s);
}

/* A worker has no manager's files. */
static void clear(struct swarm *s)
{
    struct err e;

    if (!is_settled(s) || swarm_is_manager(s))
        return;
    s->pending++;
    if (identity_clear_manager(s->config.loop, s->config.data_dir, on_cleared, s, &e) < 0)
        on_cleared(s, &e);
}

void swarm_role_taken(struct swarm *s, NodeRole before)
{
    bool was_ending = s->role.is_ending, is_manager = swarm_is_manager(s);

    s->role.is_ending = false;
    if (is_manager && (was_ending || before != NODE_ROLE__MANAGER)) {
        swarm_when_durable(s, swarm_begin_manager);
    } else if (!is_manager && before == NODE_ROLE__MANAGER) {
        swarm_stop_asking(s);
        if (s->state == SWARM_PENDING)
            swarm_move(s, SWARM_ACTIVE);
        swarm_when_durable(s, clear);
        if (s->awaits_session && s->agent && agent_manager(s->agent))
            swarm_joined(s);
    }
    swarm_tell(s);
    look(s);
}

void swarm_role_ended(struct swarm *s)
{
    if (!is_settled(s))
        return;
    swarm_start_renewal(s);
    swarm_connect_agent(s);
    if (s->renew)
        renew_soon(s->renew, 0);
}

/* --- becoming a member ----------------------------------------------------------------------------- */

static void on_asked_closed(void *ctx)
{
    (void)swarm_callback_came(ctx); /* what it said was used when it came */
}

void swarm_stop_asking(struct swarm *s)
{
    if (!s->role.member)
        return;
    s->pending++;
    member_close(steal(&s->role.member), on_asked_closed, s);
}

static void open_manager(struct swarm *s)
{
    if (is_settled(s) && swarm_is_member(s) && !s->manager && !s->reopen.closing && !s->reopen.timer)
        swarm_open_manager(s);
}

static void take_place(struct swarm *s, const MemberReply *reply)
{
    Identity changed = *s->identity;

    log_info("member of the managers' group", "raft_id=%llu epoch=%llu address=%s",
             (unsigned long long)reply->raft_id, (unsigned long long)reply->epoch, s->identity->advertise_address);
    changed.has_raft_id = changed.has_epoch = true;
    changed.raft_id = reply->raft_id;
    changed.epoch = reply->epoch;
    if (reply->n_managers) {
        changed.managers = reply->managers;
        changed.n_managers = reply->n_managers;
    }
    swarm_replace_identity(s, &changed);
    swarm_when_durable(s, open_manager);
}

static void on_member(void *ctx, const struct err *e, const MemberReply *reply)
{
    struct swarm *s = ctx;
    bool is_member = swarm_is_member(s);
    uint64_t raft_id = s->identity->has_raft_id ? s->identity->raft_id : MANAGER_RAFT_ID_FIRST;

    swarm_stop_asking(s);
    if (!reply || !is_settled(s) || s->role.is_ending)
        return;
    if (!is_member)
        take_place(s, reply);
    else if (reply->raft_id != raft_id)
        end_role(s, "it has another place in the group than its log says");
    else if (reply->n_managers)
        swarm_set_managers(s, reply->managers, reply->n_managers);
}

/* Perhaps this node is not to be a manager any more: the certificate will tell. */
static void on_refused(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (!swarm_is_member(s) && s->renew && !s->role.is_ending)
        renew_soon(s->renew, 0);
}

static void ask(struct swarm *s, bool leave, void (*done)(void *ctx, const struct err *e, const MemberReply *reply))
{
    struct member_config config = {.loop = s->config.loop,
                                   .entropy = s->config.entropy,
                                   .cluster_id = s->identity->cluster_id,
                                   .own = s->identity->advertise_address,
                                   .leave = leave,
                                   .patience_ms = leave ? LEAVE_MS : 0,
                                   .ctx = s,
                                   .tls = swarm_tls,
                                   .address = swarm_manager_to_ask,
                                   .on_refused = on_refused,
                                   .done = done};

    config.raft_id = s->identity->has_raft_id ? s->identity->raft_id : MANAGER_RAFT_ID_FIRST;
    s->role.member = member_open(&config);
}

static void on_begun(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code && e->code != ERR_NOT_FOUND)
        log_error("cannot remove what a manager left", "error=\"%s\"", e->text);
    if (!swarm_callback_came(s))
        return;
    if (is_settled(s) && swarm_is_manager(s) && !s->role.is_ending && !s->role.member && !s->manager)
        ask(s, false, on_member);
}

void swarm_begin_manager(struct swarm *s)
{
    struct err e;

    if (!is_settled(s) || !swarm_is_manager(s) || s->role.is_ending)
        return;
    s->pending++;
    if (identity_clear_manager(s->config.loop, s->config.data_dir, on_begun, s, &e) < 0)
        on_begun(s, &e);
}

void swarm_announce(struct swarm *s)
{
    if (!s->role.member && is_settled(s) && swarm_is_member(s))
        ask(s, false, on_member);
}

/* --- leaving --------------------------------------------------------------------------------------- */

static void on_leave(void *ctx, const struct err *e, const MemberReply *reply)
{
    struct swarm *s = ctx;
    void (*then)(struct swarm * s) = s->then;

    if (!reply)
        log_warn("leaving without the other managers' knowing", "error=\"%s\"", e->text);
    swarm_stop_asking(s);
    then(s);
}

void swarm_ask_to_leave(struct swarm *s, void (*then)(struct swarm *s))
{
    bool has_others = false;

    for (size_t i = 0; i < s->identity->n_managers; i++)
        has_others = has_others || !swarm_is_own(s, s->identity->managers[i]);
    swarm_stop_asking(s);
    if (!has_others || !swarm_is_member(s) || !s->tls) {
        then(s);
        return;
    }
    s->then = then;
    ask(s, true, on_leave);
}
