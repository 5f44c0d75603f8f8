/* See membership_plan.h. One change at a time, in an order that never leaves fewer voters than it must:
 *
 *     row wishes manager:   not there -> ADD (standby) -> level and reachable -> PROMOTE (voter)
 *     row wishes worker:    voter -> DEMOTE (standby) -> CLEAR (the row's number) -> REMOVE
 *     no row at all:        voter -> DEMOTE (standby) -> REMOVE
 *
 * The number leaves the row before the member leaves the group, never after. So a node that is promoted again
 * meanwhile either keeps its number, which is still in the group, or is given a new one: a number that was removed
 * is never added again.
 *
 * What would leave the group without a majority of voters that answer is not done: a joiner that cannot be reached
 * stays a standby, and of two voters of which one is silent none is demoted but the silent one. The leader never
 * demotes itself: it hands over, and the next leader goes on. */
#include <string.h>

#include "manager/membership_plan.h"
#include "proto/base/planted.h"

static const struct membership_row *row_of(const struct membership_in *in, uint64_t id)
{
    for (size_t i = 0; i < in->row_count; i++)
        if (in->rows[i].raft_id == id)
            return &in->rows[i];
    return NULL;
}

static const struct membership_member *member_of(const struct membership_in *in, uint64_t id)
{
    for (size_t i = 0; i < in->member_count; i++)
        if (in->members[i].id == id)
            return &in->members[i];
    return NULL;
}

static bool is_wished(const struct membership_in *in, uint64_t id)
{
    const struct membership_row *row = row_of(in, id);

    return row && row->wished;
}

bool membership_keeps_quorum(const struct membership_in *in, uint64_t without, uint64_t with)
{
    size_t voters = 0, reachable = 0;

    for (size_t i = 0; i < in->member_count; i++) {
        const struct membership_member *m = &in->members[i];

        if (m->id == without || !(m->voter || m->id == with))
            continue;
        voters++;
        reachable += m->reachable;
    }
    return reachable * 2 > voters;
}

/* --- what takes little ------------------------------------------------------------------------------------ */

static bool clear(const struct membership_in *in, struct membership_step *ret)
{
    for (size_t i = 0; i < in->row_count; i++) {
        const struct membership_row *row = &in->rows[i];
        const struct membership_member *m = member_of(in, row->raft_id);

        if (row->wished || row->held || (m && m->voter))
            continue;
        *ret = (struct membership_step){.verb = MEMBERSHIP_CLEAR, .raft_id = row->raft_id, .row = row->number};
        return true;
    }
    return false;
}

static bool remove_one(const struct membership_in *in, struct membership_step *ret)
{
    for (size_t i = 0; i < in->member_count; i++) {
        const struct membership_member *m = &in->members[i];

        if (m->voter || m->held || row_of(in, m->id))
            continue;
        *ret = (struct membership_step){.verb = MEMBERSHIP_REMOVE, .raft_id = m->id};
        return true;
    }
    return false;
}

static bool address_taken(const struct membership_in *in, const char *address)
{
    for (size_t i = 0; i < in->member_count; i++)
        if (strcmp(in->members[i].address, address) == 0)
            return true;
    return false;
}

/* It announced another address. One that a member still has is waited for. */
static bool move(const struct membership_in *in, struct membership_step *ret)
{
    for (size_t i = 0; i < in->member_count; i++) {
        const struct membership_member *m = &in->members[i];
        const struct membership_row *row = row_of(in, m->id);

        if (!row || !row->wished || m->held || strcmp(row->address, m->address) == 0)
            continue;
        if (address_taken(in, row->address)) {
            *ret = (struct membership_step){
                .verb = MEMBERSHIP_WAIT, .raft_id = m->id, .why = "announces the address of another manager"};
            continue;
        }
        *ret = (struct membership_step){.verb = MEMBERSHIP_MOVE, .raft_id = m->id, .address = row->address};
        return true;
    }
    return false;
}

/* --- more voters, fewer voters ---------------------------------------------------------------------------- */

static const char *unready(const struct membership_in *in, const struct membership_member *m)
{
    if (!m->reachable)
        return "cannot be reached: it stays without a vote";
    if (!m->level)
        return "is catching up: it has no vote yet";
    return membership_keeps_quorum(in, 0, m->id) ? NULL
                                                 : "stays without a vote: too few of the managers can be reached";
}

static bool promote(const struct membership_in *in, struct membership_step *ret)
{
    for (size_t i = 0; i < in->member_count; i++) {
        const struct membership_member *m = &in->members[i];

        if (PLANTED(NEVER_PROMOTED) || m->voter || !is_wished(in, m->id))
            continue;
        const char *why = unready(in, m);
        if (why || m->held) {
            if (why)
                *ret = (struct membership_step){.verb = MEMBERSHIP_WAIT, .raft_id = m->id, .why = why};
            continue;
        }
        *ret = (struct membership_step){.verb = MEMBERSHIP_PROMOTE, .raft_id = m->id};
        return true;
    }
    return false;
}

/* Somebody else who is to stay. */
static bool hand_over(const struct membership_in *in, struct membership_step *ret)
{
    *ret = (struct membership_step){
        .verb = MEMBERSHIP_WAIT, .raft_id = in->self, .why = "leads, and no other manager can take over"};
    for (size_t i = 0; i < in->member_count; i++) {
        const struct membership_member *m = &in->members[i];

        if (m->id == in->self || !m->voter || !m->reachable || m->held || !is_wished(in, m->id))
            continue;
        ret->raft_id = m->id;
        if (m->level) {
            *ret = (struct membership_step){.verb = MEMBERSHIP_TRANSFER, .raft_id = m->id};
            return true;
        }
    }
    return false;
}

static bool demote(const struct membership_in *in, struct membership_step *ret)
{
    bool is_self = false;

    for (size_t i = 0; i < in->member_count; i++) {
        const struct membership_member *m = &in->members[i];

        if (!m->voter || is_wished(in, m->id) || m->held)
            continue;
        if (m->id == in->self) {
            is_self = true;
        } else if (!membership_keeps_quorum(in, m->id, 0)) {
            *ret = (struct membership_step){.verb = MEMBERSHIP_WAIT,
                                            .raft_id = m->id,
                                            .why = "is not demoted: this would result in a loss of quorum"};
        } else {
            *ret = (struct membership_step){.verb = MEMBERSHIP_DEMOTE, .raft_id = m->id};
            return true;
        }
    }
    return is_self && hand_over(in, ret);
}

static bool add(const struct membership_in *in, struct membership_step *ret)
{
    for (size_t i = 0; i < in->row_count; i++) {
        const struct membership_row *row = &in->rows[i];

        if (!row->wished || row->held || member_of(in, row->raft_id))
            continue;
        if (address_taken(in, row->address)) {
            *ret = (struct membership_step){.verb = MEMBERSHIP_WAIT,
                                            .raft_id = row->raft_id,
                                            .why = "has the address of another manager, which must be demoted or "
                                                   "removed first"};
            continue;
        }
        *ret = (struct membership_step){.verb = MEMBERSHIP_ADD, .raft_id = row->raft_id, .address = row->address};
        return true;
    }
    return false;
}

struct membership_step membership_plan(const struct membership_in *in)
{
    static bool (*const steps[])(const struct membership_in *,
                                 struct membership_step *) = {clear, remove_one, move, promote, demote, add};
    struct membership_step step = {.verb = MEMBERSHIP_NOTHING};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (steps[i](in, &step))
            return step;
    return step; /* the last that has to wait, or nothing */
}
