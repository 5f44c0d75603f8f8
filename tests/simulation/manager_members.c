/* See manager_world.h: managers join, are promoted, demoted and removed, one step at a time, as the leader's
 * replica allows; what a step was to bring is looked at again, never remembered. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "manager/raft/driver.h"
#include "manager/raft/member.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

#define EVERY_US 100000

static void ignore(void *ctx, const struct err *e)
{
    (void)ctx; /* whether it worked is looked at again */
    (void)e;
}

static void note_removed(void *ctx, const struct err *e)
{
    struct msim *w = ctx;

    w->counts.removed += e->code == 0;
}

static void note_promoted(void *ctx, const struct err *e)
{
    struct msim *w = ctx;

    w->counts.promoted += e->code == 0;
}

static void fire_gone(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->number];

    msim_crash(w, m->id, false);
    w->counts.stale_gone += !m->gone;
    m->gone = true;
}

struct question { /* has it really left? */
    struct msim *world;
    uint64_t asked, life, about;
};

static void on_read(void *ctx, const struct err *e)
{
    struct question *q = ctx;
    struct msim *w = q->world;
    struct msim_manager *m = &w->managers[q->asked];
    struct replica_member members[MSIM_MANAGERS];
    bool member = e->code || !m->up || m->life != q->life ||
                  control_replica(m->control)->guard.core.configuration_uncommitted_index != 0;

    for (size_t i = member ? 0 : replica_members(control_replica(m->control), members, ARRAY_SIZE(members)); i > 0;
         i--)
        member |= members[i - 1].id == q->about;
    if (!member)
        msim_schedule(w, (int64_t)msim_below(w, 3000000),
                      (struct msim_event){.fire = fire_gone, .number = q->about});
    free(q);
}

/* A leader that was replaced may not know that it is a member: only one that leads says who has left. */
static void ask_whether_left(struct msim *w, struct msim_manager *leader, const struct msim_manager *m)
{
    struct question *q = mem_alloc(sizeof(*q));

    *q = (struct question){w, leader->id, leader->life, m->id};
    if (control_read(leader->control, on_read, q, NULL) < 0)
        free(q);
}

static const struct replica_member *find(const struct replica_member *members, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (members[i].id == id)
            return &members[i];
    return NULL;
}

/* One that is to leave: hands over, is demoted, removed; its machine goes a while later. */
static void take_leave(struct msim_manager *leader, struct msim_manager *m, const struct replica_member *member,
                       uint64_t successor)
{
    struct replica *r = control_replica(leader->control);
    struct msim *w = leader->world;

    if (!member) {
        ask_whether_left(w, leader, m);
    } else if (m == leader) {
        w->counts.transfers += successor && replica_transfer(r, successor, ignore, NULL, NULL) == 0;
    } else if (member->voter) {
        (void)replica_member_demote(r, m->id, ignore, NULL, NULL);
    } else {
        (void)replica_member_remove(r, m->id, note_removed, w, NULL);
    }
}

/* One that is to stay: is added, and promoted once it is level. */
static void bring_in(struct msim *w, struct replica *r, struct msim_manager *m, const struct replica_member *member)
{
    char address[16];

    (void)snprintf(address, sizeof(address), "m%" PRIu64 ":2377", m->id);
    if (!member)
        w->counts.added += replica_member_add(r, m->id, address, ignore, NULL, NULL) == 0;
    else if (!member->voter)
        (void)replica_member_promote(r, m->id, note_promoted, w, NULL);
}

/* A voter that stays, other than the leader; 0: none. */
static uint64_t successor_of(struct msim *w, const struct msim_manager *leader,
                             const struct replica_member *members, size_t count)
{
    uint64_t found = 0;

    for (size_t i = 0; leader && i < count; i++)
        if (members[i].voter && members[i].id != leader->id && !w->managers[members[i].id].leaving &&
            (!found || msim_chance(w, 50)))
            found = members[i].id;
    return found;
}

/* How many managers stay. */
static unsigned staying(const struct msim *w)
{
    unsigned count = 0;

    for (unsigned id = 1; id <= w->manager_count; id++)
        count += !w->managers[id].leaving;
    return count;
}

/* Now and then people want more managers, fewer, or another machine. */
static void change_mind(struct msim *w)
{
    unsigned count = staying(w);
    struct msim_manager *m = &w->managers[1 + msim_below(w, w->manager_count)];

    if (w->faults && w->options.churn && msim_chance(w, 6))
        w->wanted = 1 + (unsigned)msim_below(w, MSIM_VOTERS);
    if (count < w->wanted) {
        struct msim_manager *made = msim_make(w);

        if (made)
            msim_start(w, made->id);
        else
            w->wanted = count;
    } else if (count > w->wanted || (w->faults && w->options.churn && count > 1 && msim_chance(w, 2))) {
        m->leaving = true;
    }
}

static void fire_members(struct msim *w, struct msim_event *e)
{
    struct msim_manager *leader = msim_leader(w);
    struct replica *r = leader ? control_replica(leader->control) : NULL;
    struct replica_member members[MSIM_MANAGERS];
    size_t count = r ? replica_members(r, members, ARRAY_SIZE(members)) : 0;

    (void)e;
    msim_schedule(w, EVERY_US, (struct msim_event){.fire = fire_members});
    change_mind(w);
    uint64_t successor = successor_of(w, leader, members, count);
    for (unsigned id = 1; r && id <= w->manager_count; id++) {
        struct msim_manager *m = &w->managers[id];
        const struct replica_member *member = find(members, count, id);

        if (m->leaving && !m->gone)
            take_leave(leader, m, member, successor);
        else if (!m->leaving)
            bring_in(w, r, m, member);
    }
}

void msim_members_begin(struct msim *w)
{
    for (unsigned id = 2; id <= w->manager_count; id++)
        msim_start(w, id);
    msim_schedule(w, 1000, (struct msim_event){.fire = fire_members});
}

bool msim_members_content(struct msim *w, char *why, size_t size)
{
    struct msim_manager *leader = msim_leader(w);
    struct replica_member members[MSIM_MANAGERS];
    size_t count = leader ? replica_members(control_replica(leader->control), members, ARRAY_SIZE(members)) : 0;
    unsigned level = 0;

    for (size_t i = 0; i < count; i++) {
        const struct msim_manager *m = &w->managers[members[i].id];

        level += members[i].voter && m->up && store_applied(m->store) + 20 >= store_applied(leader->store);
    }
    if (leader && level == w->wanted && count == w->wanted)
        return true;
    int used = snprintf(why, size, "%u managers of %u are level:", level, w->wanted);
    for (size_t i = 0; i < count && used < (int)size; i++)
        used += snprintf(why + used, size - (size_t)used, " %" PRIu64 "%s%s%s", members[i].id,
                         members[i].voter ? "" : " standby", w->managers[members[i].id].leaving ? " leaving" : "",
                         w->managers[members[i].id].up ? "" : " down");
    return false;
}
