/* See manager_world.h: who decides which nodes are managers, and the nodes that do as they are told.
 *
 * People write wishes into rows: this node a manager, that one a worker, at the leader, with the checks of the API.
 * A node whose row wishes a manager announces itself and is given a number, as manager/announce.c does it; then it
 * opens a manager with an empty log. All that follows is manager/membership.c's. A manager closes when it is told
 * that it was removed, or when its row has lost its number; its log goes with it. A node may be a manager again
 * later, under another number. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/membership.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

#define EVERY_US 150000
#define NODES    9 /* that may be managers */

enum wish { WISH_NONE, WISH_MANAGER, WISH_WORKER, WISH_NUMBER };

struct people {
    struct msim *world;
    unsigned wanted; /* managers */
    bool busy;       /* the write is under way */
    enum wish wish;
    unsigned node;
    uint64_t given; /* by the announcement */
    struct msim_ask ask;
    struct control_write write;
};

static void node_id_of(unsigned node, uint8_t ret[16])
{
    static const uint8_t first[16] = "the first node";

    memset(ret, 'A' + (int)node, 16);
    if (node == 0)
        memcpy(ret, first, 16);
}

/* The manager that this node runs, or NULL. */
static struct msim_manager *runs(struct msim *w, unsigned node)
{
    uint8_t id[16];

    node_id_of(node, id);
    for (unsigned i = 1; i <= w->manager_count; i++)
        if (w->managers[i].made && !w->managers[i].gone && memcmp(w->managers[i].node_id, id, 16) == 0)
            return &w->managers[i];
    return NULL;
}

static const struct index_node *row_of(struct index *x, unsigned node)
{
    uint8_t id[16];

    node_id_of(node, id);
    const struct index_node *n = index_node_by_id(x, id);
    return n && n->exists ? n : NULL;
}

/* --- wishes ----------------------------------------------------------------------------------------- */

static int wish_manager(struct people *x, struct plan *p)
{
    const struct index_node *n = row_of(p->index, x->node);
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    uint8_t id[16];

    node_id_of(x->node, id);
    if (n)
        node = *plan_node(p, n->number);
    if (node.spec)
        spec = *node.spec;
    node.id = (ProtobufCBinaryData){.len = 16, .data = id};
    spec.has_role = spec.has_availability = true;
    spec.role = NODE_ROLE__MANAGER;
    spec.availability = NODE_AVAILABILITY__DRAIN;
    node.spec = &spec;
    if (n)
        plan_put(p, KIND_NODE, n->number, &node);
    else
        plan_create(p, KIND_NODE, &node);
    return 0;
}

static int wish_worker(struct people *x, struct plan *p, struct err *e)
{
    const struct index_node *n = row_of(p->index, x->node);

    if (!n || n->role != NODE_ROLE__MANAGER)
        return 0;
    int rc = membership_check_demotion(x->ask.manager->membership, p, n->number, e);
    if (rc < 0)
        return rc;
    Node node = *plan_node(p, n->number);
    NodeSpec spec = *node.spec;
    spec.role = NODE_ROLE__WORKER;
    node.spec = &spec;
    plan_put(p, KIND_NODE, n->number, &node);
    return 0;
}

/* A node without a log announces itself. */
static int give_number(struct people *x, struct plan *p)
{
    const struct index_node *n = row_of(p->index, x->node);
    NodeManager manager = NODE_MANAGER__INIT;
    char address[16];
    bool is_voter;

    x->given = 0;
    if (!n || n->role != NODE_ROLE__MANAGER)
        return 0;
    Node node = *plan_node(p, n->number);
    uint64_t has = node.manager ? node.manager->raft_id : 0;
    if (has && !membership_has(x->ask.manager->membership, has, &is_voter)) {
        x->given = has;
        return 0;
    }
    Cluster cluster = *plan_cluster(p);
    x->given = cluster.next_raft_id++;
    plan_put(p, KIND_CLUSTER, p->index->cluster, &cluster);
    (void)snprintf(address, sizeof(address), "m%" PRIu64 ":2377", x->given);
    manager.has_raft_id = true;
    manager.raft_id = x->given;
    manager.address = address;
    node.manager = &manager;
    plan_put(p, KIND_NODE, n->number, &node);
    return 0;
}

static int execute(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct people *x = container_of(write, struct people, write);

    (void)d; /* the plan is enough */
    if (!plan_cluster(p))
        return err_set(e, ERR_UNAVAILABLE, "no cluster yet");
    if (x->wish == WISH_MANAGER)
        return wish_manager(x, p);
    return x->wish == WISH_WORKER ? wish_worker(x, p, e) : give_number(x, p);
}

static void done(struct control_write *write, const struct err *e, uint64_t index)
{
    struct people *x = container_of(write, struct people, write);
    struct msim *w = x->world;
    uint8_t id[16];

    x->busy = false;
    w->counts.refused += e->code == ERR_PRECONDITION;
    if (e->code) /* whether it was done all the same is looked at again */
        return;
    w->counts.demoted += x->wish == WISH_WORKER;
    if (x->wish != WISH_NUMBER || !x->given || x->given > MSIM_MANAGERS || w->managers[x->given].made)
        return;
    node_id_of(x->node, id);
    struct msim_manager *m = msim_make(w, x->given, id);
    m->announced = index;
    w->counts.announced++;
    msim_start(w, m->id);
}

static void arrived(struct msim_ask *ask, bool alive)
{
    struct people *x = container_of(ask, struct people, ask);

    x->busy = alive;
    if (!alive)
        return;
    x->write = (struct control_write){.execute = execute, .done = done};
    control_submit(ask->manager->control, &x->write);
}

static void ask_for(struct people *x, struct msim_manager *leader, enum wish wish, unsigned node)
{
    x->wish = wish;
    x->node = node;
    x->busy = true;
    x->ask.arrived = arrived;
    msim_ask(x->world, &x->ask, leader);
}

/* --- what they want --------------------------------------------------------------------------------- */

static bool may_number_more(const struct msim *w)
{
    return w->manager_count + 3 < MSIM_MANAGERS;
}

static void want(struct people *x, struct msim_manager *leader)
{
    struct msim *w = x->world;
    struct index *rows = control_index(leader->control);
    unsigned wished = 0, any = (unsigned)msim_below(w, NODES);

    for (unsigned node = 0; node < NODES; node++) {
        const struct index_node *n = row_of(rows, node);

        wished += n && n->role == NODE_ROLE__MANAGER;
        if (n && n->role == NODE_ROLE__MANAGER && !runs(w, node)) {
            ask_for(x, leader, WISH_NUMBER, node);
            return;
        }
    }
    if (w->faults && w->options.churn && may_number_more(w) && msim_chance(w, 5))
        x->wanted = 1 + (unsigned)msim_below(w, MSIM_VOTERS);
    const struct index_node *n = row_of(rows, any);
    bool is_manager = n && n->role == NODE_ROLE__MANAGER;
    bool swap = w->faults && w->options.churn && may_number_more(w) && msim_chance(w, 3);
    if (is_manager && (wished > x->wanted || swap))
        ask_for(x, leader, WISH_WORKER, any);
    else if (!is_manager && wished < x->wanted)
        ask_for(x, leader, WISH_MANAGER, any);
}

/* --- nodes that are managers no more ---------------------------------------------------------------- */

/* Its row, as that leader's store has it, names another number or none: it was there, so it was taken. */
static bool lost_number(const struct msim_manager *m, const struct msim_manager *leader)
{
    const struct index_node *n = index_node_by_id(control_index(leader->control), m->node_id);
    struct control_stats stats;

    control_stats(leader->control, &stats);
    return !stats.under_way && m->announced && store_applied(leader->store) > m->announced &&
           (!n || n->raft_id != m->id);
}

static void fire_gone(struct msim *w, struct msim_event *e)
{
    struct msim_manager *m = &w->managers[e->number];

    msim_crash(w, m->id, msim_chance(w, 50));
    w->counts.gone += !m->gone;
    m->gone = true;
}

static void look_after(struct msim *w, const struct msim_manager *leader)
{
    for (unsigned id = 1; id <= w->manager_count; id++) {
        struct msim_manager *m = &w->managers[id];

        if (!m->made || m->gone || !(m->removed || (leader && lost_number(m, leader))))
            continue;
        m->removed = true;
        msim_schedule(w, (int64_t)msim_below(w, 1000000), (struct msim_event){.fire = fire_gone, .number = id});
    }
}

static void fire_people(struct msim *w, struct msim_event *e)
{
    struct people *x = w->people;
    struct msim_manager *leader = msim_leader(w);

    (void)e;
    msim_schedule(w, EVERY_US, (struct msim_event){.fire = fire_people});
    look_after(w, leader);
    if (leader && !x->busy)
        want(x, leader);
}

void people_make(struct msim *w)
{
    uint8_t id[16];

    w->people = mem_alloc(sizeof(*w->people));
    w->people->world = w;
    w->people->wanted = w->options.managers;
    node_id_of(0, id);
    (void)msim_make(w, 1, id);
    msim_schedule(w, 1000, (struct msim_event){.fire = fire_people});
}

void people_free(struct msim *w)
{
    free(w->people);
}

/* --- in the end ------------------------------------------------------------------------------------- */

static size_t say_member(struct msim *w, const struct replica_member *r, const struct msim_manager *leader,
                         char *into, size_t size)
{
    const struct msim_manager *m = &w->managers[r->id];
    int used = snprintf(into, size, " %" PRIu64 "%s%s%s", r->id, r->voter ? "" : " standby", m->gone ? " gone" : "",
                        !m->up                                                        ? " down"
                        : store_applied(m->store) + 50 < store_applied(leader->store) ? " behind"
                                                                                      : "");

    return MIN((size_t)used, size - 1);
}

bool people_content(struct msim *w, char *why, size_t size)
{
    struct msim_manager *leader = msim_leader(w);
    struct replica_member members[MSIM_MANAGERS];
    size_t count = leader ? replica_members(control_replica(leader->control), members, ARRAY_SIZE(members)) : 0;
    size_t good = 0, wished = 0;

    for (unsigned node = 0; leader && node < NODES; node++) {
        const struct index_node *n = row_of(control_index(leader->control), node);

        wished += n && n->role == NODE_ROLE__MANAGER;
    }
    for (size_t i = 0; i < count; i++) {
        const struct msim_manager *m = &w->managers[members[i].id];

        good += members[i].voter && m->up && store_applied(m->store) + 50 >= store_applied(leader->store);
    }
    if (leader && good == wished && count == wished)
        return true;
    size_t used = (size_t)snprintf(why, size, "%zu managers are wished, there are:", wished);
    for (size_t i = 0; i < count && used < size; i++)
        used += say_member(w, &members[i], leader, why + used, size - used);
    return false;
}
