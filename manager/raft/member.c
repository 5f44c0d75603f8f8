/* See member.h. A change is proposed as soon as the guards allow it (an entry of our term is committed, no other
 * change is pending) and, to promote, the member is level; it is done when its entry is applied.
 *
 * A removed member never learns of it from the log. The leader tells it when the removal is committed, and again
 * whenever it hears from one that is no member. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/driver.h"
#include "manager/raft/member.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define LEVEL_ENTRIES 64 /* a standby that lacks no more may vote */

/* --- asking --------------------------------------------------------------------------------------- */

static int begin(struct replica *r, enum member_verb verb, uint64_t id, const char *address,
                 replica_member_done *done, void *ctx, struct err *e)
{
    struct members *m = &r->members;

    if (r->closing || r->failed || !driver_leads(r))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    if (m->verb != MEMBER_NONE)
        return err_set(e, ERR_CONFLICT, "another change of the managers is under way");
    m->verb = verb;
    m->id = id;
    m->address = address ? mem_strdup(address) : NULL;
    m->index = 0;
    m->until_ms = driver_now(r) + (int64_t)r->election_ms * 20;
    m->done = done;
    m->ctx = ctx;
    m->answered = false;
    m->e = (struct err){0};
    driver_wake(r);
    return 0;
}

static int check_address(uint64_t id, const char *address, struct err *e)
{
    if (id == 0 || !*address || strnlen(address, MESSAGE_ADDRESS_MAX + 1) > MESSAGE_ADDRESS_MAX)
        return err_set(e, ERR_INVALID, "\"%.80s\" is no address of member %llu", address, (unsigned long long)id);
    return 0;
}

int replica_member_add(struct replica *r, uint64_t id, const char *address, replica_member_done *done, void *ctx,
                       struct err *e)
{
    int rc = check_address(id, address, e);

    return rc < 0 ? rc : begin(r, MEMBER_ADD, id, address, done, ctx, e);
}

int replica_member_promote(struct replica *r, uint64_t id, replica_member_done *done, void *ctx, struct err *e)
{
    return begin(r, MEMBER_PROMOTE, id, NULL, done, ctx, e);
}

int replica_member_demote(struct replica *r, uint64_t id, replica_member_done *done, void *ctx, struct err *e)
{
    return begin(r, MEMBER_DEMOTE, id, NULL, done, ctx, e);
}

int replica_member_remove(struct replica *r, uint64_t id, replica_member_done *done, void *ctx, struct err *e)
{
    return begin(r, MEMBER_REMOVE, id, NULL, done, ctx, e);
}

int replica_member_address(struct replica *r, uint64_t id, const char *address, replica_member_done *done,
                           void *ctx, struct err *e)
{
    int rc = check_address(id, address, e);

    return rc < 0 ? rc : begin(r, MEMBER_ADDRESS, id, address, done, ctx, e);
}

/* --- doing it ------------------------------------------------------------------------------------- */

static const struct raft_server *server_of(const struct replica *r, uint64_t id)
{
    const struct raft_configuration *c = &r->guard.core.configuration;

    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id)
            return &c->servers[i];
    return NULL;
}

static void finish(struct replica *r, int code, const char *why)
{
    struct members *m = &r->members;

    if (m->answered)
        return;
    m->answered = true;
    if (code)
        err_set(&m->e, code, "%s", why);
    driver_wake(r);
}

/* Whether the change can be made, and changes anything. */
static int check_change(const struct replica *r, const struct raft_server *server, int role, struct err *e)
{
    const struct members *m = &r->members;
    const struct raft_configuration *now = &r->guard.core.configuration;
    bool roles = m->verb == MEMBER_PROMOTE || m->verb == MEMBER_DEMOTE;

    if (m->verb == MEMBER_ADD && server)
        return err_set(e, ERR_EXISTS, "member %llu is there already", (unsigned long long)m->id);
    if (m->verb != MEMBER_ADD && !server)
        return err_set(e, ERR_NOT_FOUND, "there is no member %llu", (unsigned long long)m->id);
    if (roles && server->role == role)
        return err_set(e, ERR_NOT_MODIFIED, "member %llu has that role already", (unsigned long long)m->id);
    if (m->verb == MEMBER_ADDRESS && strcmp(server->address, m->address) == 0)
        return err_set(e, ERR_NOT_MODIFIED, "member %llu has that address already", (unsigned long long)m->id);
    if (m->verb == MEMBER_ADD && now->n == MESSAGE_MEMBERS_MAX)
        return err_set(e, ERR_LIMIT, "there are %d members already", MESSAGE_MEMBERS_MAX);
    for (unsigned i = 0; m->address && i < now->n; i++)
        if (now->servers[i].id != m->id && strcmp(now->servers[i].address, m->address) == 0)
            return err_set(e, ERR_EXISTS, "member %llu is at %s already", (unsigned long long)now->servers[i].id,
                           m->address);
    return 0;
}

/* The configuration as it will be. 0, ERR_NOT_MODIFIED, or why it cannot be. */
static int changed_configuration(const struct replica *r, struct raft_configuration *ret, struct err *e)
{
    const struct members *m = &r->members;
    const struct raft_configuration *now = &r->guard.core.configuration;
    const struct raft_server *server = server_of(r, m->id);
    int role = m->verb == MEMBER_PROMOTE ? RAFT_VOTER : RAFT_STANDBY, rv = 0;

    int rc = check_change(r, server, role, e);
    if (rc < 0)
        return rc;
    if (m->verb == MEMBER_ADDRESS)
        role = server->role;
    raft_configuration_init(ret);
    for (unsigned i = 0; i < now->n && rv == 0; i++) {
        const struct raft_server *s = &now->servers[i];

        if (s->id != m->id)
            rv = raft_configuration_add(ret, s->id, s->address, s->role);
        else if (m->verb != MEMBER_REMOVE)
            rv = raft_configuration_add(ret, s->id, m->verb == MEMBER_ADDRESS ? m->address : s->address, role);
    }
    if (m->verb == MEMBER_ADD && rv == 0)
        rv = raft_configuration_add(ret, m->id, m->address, RAFT_STANDBY);
    if (rv == 0)
        return 0;
    raft_configuration_close(ret);
    return err_set(e, ERR_INVALID, "member %llu: %s", (unsigned long long)m->id, raft_strerror(rv));
}

/* It lacks little, and it has the entry that made it a member: an empty one never votes, so with it as a voter a
 * group of two could not elect anyone (simulation, seed 15053). */
static bool level(const struct replica *r)
{
    raft_index match = 0;

    return raft_match_index(&r->guard.core, r->members.id, &match) != 0 ||
           (match + LEVEL_ENTRIES >= r->tail.last && match >= r->guard.configured);
}

static void propose_change(struct replica *r)
{
    struct members *m = &r->members;
    struct raft_configuration conf;
    struct err e;

    if (driver_now(r) >= m->until_ms) {
        finish(r, ERR_TIMEOUT, "the change of the managers could not be proposed in time");
        return;
    }
    if (!propose_ready(r) || r->transfer.active || r->guard.core.configuration_uncommitted_index ||
        (m->verb == MEMBER_PROMOTE && !level(r)))
        return;
    int rc = changed_configuration(r, &conf, &e);
    if (rc == 0) {
        rc = guard_change(&r->guard, &conf, &e);
        raft_configuration_close(&conf);
    }
    if (rc < 0) {
        finish(r, rc, e.text);
        return;
    }
    m->index = r->tail.last;
    m->term = raft_current_term(&r->guard.core);
}

static void tell_removed(struct replica *r, uint64_t id)
{
    struct message m = {.type = MESSAGE_REMOVED, .to = id};

    m.removed = (struct message_removed){.term = raft_current_term(&r->guard.core), .index = r->guard.configured};
    send_message(r, ENV_CHANNEL_CONTROL, &m);
}

static void member_change_advance(struct replica *r)
{
    struct members *m = &r->members;

    if (m->verb == MEMBER_NONE || m->answered)
        return;
    if (!driver_leads(r))
        finish(r, ERR_UNAVAILABLE, "leadership was lost: the outcome is unknown");
    else if (m->index == 0)
        propose_change(r);
    else if (r->applied >= m->index && r->guard.core.configuration_uncommitted_index != m->index) {
        if (m->verb == MEMBER_REMOVE)
            tell_removed(r, m->id);
        finish(r, 0, NULL);
    }
}

/* --- being removed -------------------------------------------------------------------------------- */

/* Our own configuration's index, as far as we know. */
static uint64_t configuration_index(const struct replica *r)
{
    const struct tail_change *change = tail_change_at(&r->tail, r->tail.last);

    return change ? change->index : r->last.configuration_index;
}

void member_receive_removed(struct replica *r, const struct message *m)
{
    bool newer = configuration_index(r) > m->removed.index && server_of(r, r->id);

    if (m->removed.term < raft_current_term(&r->guard.core) || newer || r->members.removed || driver_leads(r))
        return;
    log_warn("this manager was removed from the group", "member=%llu by=%llu", (unsigned long long)r->id,
             (unsigned long long)m->from);
    r->members.removed = true;
    r->members.removed_due = true;
    driver_wake(r);
}

void member_heard(struct replica *r, uint64_t from)
{
    if (driver_leads(r) && propose_ready(r) && !r->guard.core.configuration_uncommitted_index &&
        !server_of(r, from))
        tell_removed(r, from);
}

/* --- handing over --------------------------------------------------------------------------------- */

int replica_transfer(struct replica *r, uint64_t to, replica_member_done *done, void *ctx, struct err *e)
{
    struct transfer *t = &r->transfer;

    if (r->closing || r->failed || !driver_leads(r))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    if (t->active || t->answered)
        return err_set(e, ERR_CONFLICT, "the leadership is being handed over already");
    *t = (struct transfer){.active = true, .to = to, .done = done, .ctx = ctx, .again_ms = t->again_ms};
    t->until_ms = driver_now(r) + (int64_t)r->election_ms * 2;
    driver_wake(r);
    return 0;
}

/* A voter that was heard just now, has everything and has room; 0: none. */
static uint64_t successor(struct replica *r)
{
    uint64_t ids[MESSAGE_MEMBERS_MAX], to = 0;
    unsigned voters = driver_voters(r, ids);
    int64_t now = driver_now(r), heard_ms = now - r->election_ms;

    for (unsigned i = 0; i < voters; i++) {
        const struct peer *peer = ids[i] == r->id ? NULL : peer_of(r, ids[i]);
        raft_index match;

        if (!peer || peer->full || peer->heard_ms < heard_ms ||
            raft_match_index(&r->guard.core, ids[i], &match) != 0 || match != r->tail.last)
            continue;
        heard_ms = peer->heard_ms;
        to = ids[i];
    }
    return to;
}

void transfer_away(struct replica *r, const char *why)
{
    int64_t now = driver_now(r);

    if (r->transfer.active || r->transfer.answered || now < r->transfer.again_ms)
        return;
    uint64_t to = successor(r);
    if (!to)
        return;
    log_warn("the raft leader hands over", "member=%llu to=%llu why=\"%s\"", (unsigned long long)r->id,
             (unsigned long long)to, why);
    r->transfer.again_ms = now + (int64_t)r->election_ms * 2;
    (void)replica_transfer(r, to, NULL, NULL, NULL); /* cannot be active, and we lead */
}

static void transfer_finish(struct replica *r, int code, const char *why)
{
    r->transfer.active = false;
    r->transfer.answered = r->transfer.done != NULL;
    r->transfer.e = (struct err){0};
    if (code)
        err_set(&r->transfer.e, code, "%s", why);
    driver_wake(r);
}

static void transfer_advance(struct replica *r)
{
    struct transfer *t = &r->transfer;
    struct err e;

    if (!t->active)
        return;
    if (!driver_leads(r))
        transfer_finish(r, t->fired ? 0 : ERR_UNAVAILABLE, "leadership was lost before it was handed over");
    else if (t->fired && !raft_transferee(&r->guard.core))
        transfer_finish(r, ERR_TIMEOUT, "the other manager did not take over");
    else if (!t->fired && driver_now(r) >= t->until_ms)
        transfer_finish(r, ERR_TIMEOUT, "no other manager has everything");
    else if (!t->fired) {
        uint64_t to = t->to ? t->to : successor(r);
        int rc = to ? guard_transfer(&r->guard, to, &e) : ERR_AGAIN;

        if (rc == 0)
            t->fired = true;
        else if (rc != ERR_AGAIN)
            transfer_finish(r, rc, e.text);
    }
}

/* --- the turn ------------------------------------------------------------------------------------- */

void member_advance(struct replica *r)
{
    member_change_advance(r);
    transfer_advance(r);
}

void member_answer(struct replica *r)
{
    struct members *m = &r->members;
    struct transfer *t = &r->transfer;

    if (m->answered) {
        replica_member_done *done = m->done;
        struct err e = m->e;

        free(m->address);
        m->address = NULL;
        m->verb = MEMBER_NONE;
        m->answered = false;
        done(m->ctx, &e);
    }
    if (t->answered) {
        replica_member_done *done = t->done;
        struct err e = t->e;

        t->answered = false;
        done(t->ctx, &e);
    }
    if (m->removed_due) {
        m->removed_due = false;
        if (r->events.on_removed && !r->closing)
            r->events.on_removed(r->events.ctx);
    }
}

void member_cancel(struct replica *r, int code, const char *why)
{
    if (r->members.verb != MEMBER_NONE)
        finish(r, code, why);
    if (r->transfer.active)
        transfer_finish(r, code, why);
}

int64_t member_due(const struct replica *r)
{
    bool waits = (r->members.verb != MEMBER_NONE && !r->members.answered) || r->transfer.active;

    return waits ? driver_now(r) + r->heartbeat_ms : DRIVER_NEVER;
}
