/* See membership.h.
 *
 * The rows of managers are kept from the change feed, which tells only what is applied: a wish in a draft may be
 * lost with its leader, and a number in it be given to another. One thing at a time is under way, a change of
 * Raft's configuration, a transfer, or the write that takes a number out of a row; its end begins the next turn.
 *
 * What fails is held back, alone, for 100 ms, then twice as long, at most 5 s. While something waits that nothing
 * tells us of (a member's silence, its catching up), the leader looks again every 50 ms, and once a second whether
 * the others still answer; alone it has no timer. A new leader starts with an empty memory: all that matters is in
 * rows and configuration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/managers.h"
#include "manager/membership.h"
#include "manager/raft/member.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define MEMBERS_MOST  64
#define LEVEL_ENTRIES 64
#define REACHABLE_MS  2000
#define PROMPT_MS     500 /* who is to carry a change of votes answered within */
#define LOOK_MS       50
#define WATCH_MS      1000 /* whether the others answer, which is news */
#define SAY_MS        2000
#define HELD_MS       100
#define HELD_MOST_MS  5000

struct held { /* what failed lately */
    uint64_t raft_id;
    int64_t until_ms, pause_ms;
};

struct waiting { /* for what, and since when */
    uint64_t raft_id;
    const char *why;
    int64_t since_ms;
    bool said;
};

struct membership {
    struct membership_config config;
    struct managers *managers;
    struct map64 rows; /* struct membership_row by number of the node */
    uint64_t fed;      /* index up to which node rows are known */
    uint64_t generation;
    bool following; /* they were all read */
    struct control_write write;
    struct membership_step step; /* under way, or the last one */
    bool under_way;
    bool leads;
    bool forced;                    /* the others have lost their numbers */
    int64_t leads_since_ms;         /* monotonic */
    struct held held[MEMBERS_MOST]; /* raft_id 0: free */
    struct waiting waiting;
};

static int64_t now_ms(const struct membership *m)
{
    return clock_mono_us(m->config.clock) / 1000;
}

/* --- rows --------------------------------------------------------------------------------------------------- */

static void learn(struct membership *m, uint64_t number, const Node *node)
{
    if (!node || !node->manager) {
        struct membership_row *gone = map64_remove(&m->rows, number);

        m->generation += gone != NULL;
        free(gone);
        return;
    }
    struct membership_row *row = mem_alloc(sizeof(*row));
    *row = (struct membership_row){.number = number,
                                   .raft_id = node->manager->raft_id,
                                   .wished = node->spec && node->spec->role == NODE_ROLE__MANAGER};
    memcpy(row->node_id, node->id.data, MIN(node->id.len, sizeof(row->node_id)));
    (void)snprintf(row->address, sizeof(row->address), "%s", /* checked when it was announced */
                   node->manager->address ? node->manager->address : "");
    struct membership_row *before = map64_put(&m->rows, number, row);
    m->generation += !before || before->raft_id != row->raft_id || before->wished != row->wished ||
                     strcmp(before->address, row->address) != 0;
    free(before);
}

static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    (void)index; /* the newest is what counts */
    learn(ctx, object->number, (const Node *)object->message);
}

static void forget_rows(struct membership *m)
{
    struct membership_row *row;

    for (size_t at = 0; (row = map64_next(&m->rows, &at));)
        free(row);
    map64_fini(&m->rows);
    m->rows = (struct map64){0};
}

/* At the start, and when the feed does not go back far enough. */
static void read_all(struct membership *m, struct store *s)
{
    struct view *v = view_begin(s);
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    forget_rows(m);
    m->generation++;
    for (uint64_t number = 0; (number = view_next(v, KIND_NODE, number)); arena_reset(&a))
        if (view_get(v, KIND_NODE, number, &a, &object) == 0)
            learn(m, number, (const Node *)object.message);
    view_end(v);
    m->fed = store_applied(s);
    m->following = true;
}

static void follow(struct membership *m)
{
    struct store *s = control_store(m->config.control);
    AUTO_ARENA struct arena a;

    arena_init(&a);
    if (!m->following || store_feed_kinds(s, m->fed, FEED_KIND(KIND_NODE), &a, on_fed, m, &m->fed) < 0)
        read_all(m, s);
}

/* --- what is held back ---------------------------------------------------------------------------------------- */

static struct held *held_of(struct membership *m, uint64_t raft_id)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (m->held[i].raft_id == raft_id)
            return &m->held[i];
    return NULL;
}

static bool is_held(struct membership *m, uint64_t raft_id)
{
    const struct held *h = raft_id ? held_of(m, raft_id) : NULL;

    return h && now_ms(m) < h->until_ms;
}

static void hold(struct membership *m, uint64_t raft_id)
{
    struct held *h = held_of(m, raft_id);

    if (!h)
        h = held_of(m, 0);
    if (!h)
        h = &m->held[0]; /* so many cannot be under way; none is worth more than another */
    int64_t pause_ms = h->raft_id == raft_id ? MIN(h->pause_ms * 2, HELD_MOST_MS) : HELD_MS;
    *h = (struct held){.raft_id = raft_id, .pause_ms = pause_ms, .until_ms = now_ms(m) + pause_ms};
}

static void release(struct membership *m, uint64_t raft_id)
{
    struct held *h = held_of(m, raft_id);

    if (h)
        *h = (struct held){0};
}

/* --- doing it ------------------------------------------------------------------------------------------------- */

static const char *const verbs[] = {
    [MEMBERSHIP_NOTHING] = "go on alone",
    [MEMBERSHIP_CLEAR] = "take a manager's number out of its node",
    [MEMBERSHIP_REMOVE] = "remove a manager",
    [MEMBERSHIP_MOVE] = "change a manager's address",
    [MEMBERSHIP_PROMOTE] = "give a manager its vote",
    [MEMBERSHIP_DEMOTE] = "take a manager's vote",
    [MEMBERSHIP_TRANSFER] = "hand the leadership over",
    [MEMBERSHIP_ADD] = "add a manager",
};

static void on_done(void *ctx, const struct err *e)
{
    struct membership *m = ctx;

    m->under_way = false;
    if (e->code && e->code != ERR_NOT_MODIFIED && e->code != ERR_CANCELED) {
        log_warn("a change of the managers failed", "change=\"%s\" member=%llu error=\"%s\"", verbs[m->step.verb],
                 (unsigned long long)m->step.raft_id, e->text);
        hold(m, m->step.raft_id);
    } else {
        release(m, m->step.raft_id);
    }
    m->config.wake(m->config.ctx);
}

static int execute_clear(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct membership *m = container_of(w, struct membership, write);
    const Node *old = plan_node(p, m->step.row);

    (void)d; /* the plan is enough */
    (void)e; /* nothing can fail */
    if (!old || !old->manager || old->manager->raft_id != m->step.raft_id ||
        (old->spec && old->spec->role == NODE_ROLE__MANAGER))
        return 0; /* it has changed meanwhile */
    Node node = *old;
    node.manager = NULL;
    plan_put(p, KIND_NODE, m->step.row, &node);
    return 0;
}

static void on_cleared(struct control_write *w, const struct err *e, uint64_t index)
{
    (void)index; /* the feed tells it */
    on_done(container_of(w, struct membership, write), e);
}

/* --- going on alone ----------------------------------------------------------------------------------------- */

static void demote_node(struct plan *p, const struct index_node *n)
{
    Node node = *plan_node(p, n->number);
    NodeSpec spec = node.spec ? *node.spec : (NodeSpec)NODE_SPEC__INIT;

    spec.has_role = true;
    spec.role = NODE_ROLE__WORKER;
    node.spec = &spec;
    node.manager = NULL;
    plan_put(p, KIND_NODE, n->number, &node);
}

/* Its own row, which may say that it was demoted, or be gone. */
static void keep_node(struct membership *m, struct plan *p, const struct index_node *n)
{
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    NodeManager manager = NODE_MANAGER__INIT;

    if (n)
        node = *plan_node(p, n->number);
    if (node.spec)
        spec = *node.spec;
    node.id = (ProtobufCBinaryData){IDENT_BYTES, (uint8_t *)m->config.node_id};
    spec.has_role = manager.has_raft_id = true;
    spec.role = NODE_ROLE__MANAGER;
    manager.raft_id = m->config.self;
    manager.address = (char *)m->config.address;
    node.spec = &spec;
    node.manager = &manager;
    if (n)
        plan_put(p, KIND_NODE, n->number, &node);
    else
        plan_create(p, KIND_NODE, &node);
}

static int execute_force(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct membership *m = container_of(w, struct membership, write);
    const Cluster *old = plan_cluster(p);

    (void)d; /* the plan is enough */
    if (!old)
        return err_set(e, ERR_UNAVAILABLE, "this manager holds no cluster");
    if (old->epoch >= m->config.epoch)
        return 0;
    const struct index_node *own = index_node_by_id(p->index, m->config.node_id);
    for (uint32_t i = 0; i < p->index->node_count; i++) {
        const struct index_node *n = p->index->node_at[i];

        if (n && n->exists && n != own && (n->role == NODE_ROLE__MANAGER || n->raft_id))
            demote_node(p, n);
    }
    keep_node(m, p, own && own->exists ? own : NULL);
    Cluster cluster = *old;
    cluster.has_epoch = cluster.has_next_raft_id = true;
    cluster.epoch = m->config.epoch;
    cluster.next_raft_id = MAX(cluster.next_raft_id, m->config.self + 1);
    plan_put(p, KIND_CLUSTER, p->index->cluster, &cluster);
    return 0;
}

static void on_forced(struct control_write *w, const struct err *e, uint64_t index)
{
    struct membership *m = container_of(w, struct membership, write);

    (void)index; /* the feed tells it */
    m->forced = e->code == 0;
    if (m->forced)
        log_warn("this manager goes on alone", "member=%llu epoch=%llu", (unsigned long long)m->config.self,
                 (unsigned long long)m->config.epoch);
    on_done(m, e);
}

static void force(struct membership *m)
{
    m->step = (struct membership_step){.raft_id = m->config.self};
    m->under_way = true;
    m->write = (struct control_write){.execute = execute_force, .done = on_forced};
    control_submit(m->config.control, &m->write);
}

bool membership_settled(const struct membership *m)
{
    return !m->config.force || m->forced;
}

/* --- one change --------------------------------------------------------------------------------------------- */

static int begin(struct membership *m, struct err *e)
{
    struct replica *r = control_replica(m->config.control);
    uint64_t id = m->step.raft_id;

    switch (m->step.verb) {
    case MEMBERSHIP_REMOVE:
        return replica_member_remove(r, id, on_done, m, e);
    case MEMBERSHIP_PROMOTE:
        return replica_member_promote(r, id, on_done, m, e);
    case MEMBERSHIP_DEMOTE:
        return replica_member_demote(r, id, on_done, m, e);
    case MEMBERSHIP_TRANSFER:
        return replica_transfer(r, id, on_done, m, e);
    case MEMBERSHIP_ADD:
        return replica_member_add(r, id, m->step.address, on_done, m, e);
    case MEMBERSHIP_MOVE:
        return replica_member_address(r, id, m->step.address, on_done, m, e);
    default:
        m->write = (struct control_write){.execute = execute_clear, .done = on_cleared};
        control_submit(m->config.control, &m->write);
        return 0;
    }
}

static void act(struct membership *m)
{
    struct err e;

    log_info("changing the managers", "change=\"%s\" member=%llu", verbs[m->step.verb],
             (unsigned long long)m->step.raft_id);
    m->under_way = true;
    if (begin(m, &e) < 0)
        on_done(m, &e);
}

/* --- the turn ------------------------------------------------------------------------------------------------- */

struct facts {
    struct membership_row rows[MEMBERS_MOST];
    struct membership_member members[MEMBERS_MOST];
    struct membership_in in;
};

static int64_t reachable_ms_of(const struct membership *m)
{
    return m->config.reachable_ms ? m->config.reachable_ms : REACHABLE_MS;
}

static void gather(struct membership *m, int64_t reachable_ms, struct facts *f)
{
    struct replica *r = control_replica(m->config.control);
    struct replica_member members[MEMBERS_MOST];
    const struct membership_row *row;
    uint64_t last = replica_last_index(r);

    f->in = (struct membership_in){.rows = f->rows, .members = f->members, .self = m->config.self};
    for (size_t at = 0; (row = map64_next(&m->rows, &at)) && f->in.row_count < MEMBERS_MOST;) {
        f->rows[f->in.row_count] = *row;
        f->rows[f->in.row_count++].held = is_held(m, row->raft_id);
    }
    f->in.member_count = replica_members(r, members, MEMBERS_MOST);
    for (size_t i = 0; i < f->in.member_count; i++) {
        bool is_self = members[i].id == m->config.self;

        f->members[i] = (struct membership_member){
            .id = members[i].id,
            .address = members[i].address,
            .voter = members[i].voter,
            .reachable = is_self || (members[i].heard_ms >= 0 && members[i].heard_ms < reachable_ms),
            .level = is_self || members[i].match + LEVEL_ENTRIES >= last,
            .held = is_held(m, members[i].id)};
    }
}

/* Once per reason, when it has lasted: whoever joins is waited for a moment. */
static void say(struct membership *m)
{
    struct waiting *w = &m->waiting;

    if (w->raft_id != m->step.raft_id || w->why != m->step.why)
        *w = (struct waiting){.raft_id = m->step.raft_id, .why = m->step.why, .since_ms = now_ms(m)};
    if (!w->why || w->said || now_ms(m) < w->since_ms + SAY_MS)
        return;
    w->said = true;
    log_warn("the managers are not yet as wished", "member=%llu why=\"it %s\"", (unsigned long long)w->raft_id,
             w->why);
}

static bool anything_held(struct membership *m)
{
    for (size_t i = 0; i < MEMBERS_MOST; i++)
        if (m->held[i].raft_id && now_ms(m) < m->held[i].until_ms)
            return true;
    return false;
}

int64_t membership_turn(struct membership *m)
{
    struct facts f;

    follow(m);
    if (m->under_way)
        return -1; /* its end wakes us */
    if (!control_leads(m->config.control) || !store_count(control_store(m->config.control), KIND_CLUSTER)) {
        memset(m->held, 0, sizeof(m->held));
        m->step = (struct membership_step){0};
        m->waiting = (struct waiting){0};
        m->leads = false;
        return -1;
    }
    if (!m->leads)
        m->leads_since_ms = now_ms(m);
    m->leads = true;
    if (!membership_settled(m)) {
        if (!is_held(m, m->config.self))
            force(m);
        return LOOK_MS;
    }
    gather(m, MIN(reachable_ms_of(m), PROMPT_MS), &f);
    m->step = membership_plan(&f.in);
    say(m);
    if (m->step.verb > MEMBERSHIP_WAIT)
        act(m);
    m->step.address = NULL; /* it was ours */
    if (m->step.verb == MEMBERSHIP_WAIT || anything_held(m))
        return LOOK_MS;
    return f.in.member_count > 1 ? WATCH_MS : -1;
}

/* --- questions ------------------------------------------------------------------------------------------------ */

const char *membership_leader(struct membership *m)
{
    managers_follow(m->managers);
    return managers_leader(m->managers);
}

char *const *membership_managers(struct membership *m, size_t *ret_count)
{
    managers_follow(m->managers);
    return managers_addresses(m->managers, ret_count);
}

static int by_raft_id(const void *a, const void *b)
{
    uint64_t x = ((const struct membership_row *)a)->raft_id, y = ((const struct membership_row *)b)->raft_id;

    return x < y ? -1 : x > y;
}

size_t membership_rows(struct membership *m, struct membership_row *ret, size_t max, uint64_t *ret_generation)
{
    const struct membership_row *row;
    size_t count = 0;

    follow(m);
    for (size_t at = 0; (row = map64_next(&m->rows, &at)) && count < max;)
        ret[count++] = *row;
    qsort(ret, count, sizeof(*ret), by_raft_id);
    if (ret_generation)
        *ret_generation = m->generation;
    return count;
}

bool membership_has(struct membership *m, uint64_t raft_id, bool *ret_voter)
{
    struct membership_facts facts;

    *ret_voter = false;
    if (!membership_describe(m, raft_id, &facts))
        return m->under_way && m->step.verb == MEMBERSHIP_ADD && m->step.raft_id == raft_id;
    *ret_voter = facts.is_voter;
    return true;
}

/* A new leader has not yet heard from everyone who is there. */
static enum membership_reach reach_of(const struct membership *m, const struct replica_member *member)
{
    int64_t reachable_ms = reachable_ms_of(m);

    if (member->id == m->config.self)
        return MEMBERSHIP_REACHABLE;
    if (!control_leads(m->config.control))
        return MEMBERSHIP_UNKNOWN;
    if (member->heard_ms >= 0)
        return member->heard_ms < reachable_ms ? MEMBERSHIP_REACHABLE : MEMBERSHIP_UNREACHABLE;
    return now_ms(m) < m->leads_since_ms + reachable_ms ? MEMBERSHIP_UNKNOWN : MEMBERSHIP_UNREACHABLE;
}

/* A change counts here once it is committed; in Raft's configuration it does at once. */
static bool is_voter(const struct membership *m, const struct replica_member *member)
{
    if (!m->under_way || m->step.raft_id != member->id)
        return member->voter;
    return m->step.verb == MEMBERSHIP_DEMOTE || (m->step.verb != MEMBERSHIP_PROMOTE && member->voter);
}

bool membership_describe(struct membership *m, uint64_t raft_id, struct membership_facts *ret)
{
    struct replica *r = control_replica(m->config.control);
    struct replica_member members[MEMBERS_MOST];
    size_t count = replica_members(r, members, MEMBERS_MOST);

    for (size_t i = 0; i < count; i++) {
        if (members[i].id != raft_id)
            continue;
        ret->is_leader = replica_leader(r, NULL) == raft_id;
        ret->is_voter = is_voter(m, &members[i]);
        ret->reach = reach_of(m, &members[i]);
        ret->why = m->step.verb == MEMBERSHIP_WAIT && m->step.raft_id == raft_id ? m->step.why : NULL;
        return true;
    }
    return false;
}

/* --- demotion ------------------------------------------------------------------------------------------------- */

static const struct index_node *node_of(const struct index *x, uint64_t raft_id)
{
    for (uint32_t i = 0; i < x->node_count; i++)
        if (x->node_at[i] && x->node_at[i]->exists && x->node_at[i]->raft_id == raft_id)
            return x->node_at[i];
    return NULL;
}

int membership_check_demotion(struct membership *m, struct plan *p, uint64_t number, struct err *e)
{
    size_t left = 0, reachable = 0;
    bool has_vote = false;
    struct facts f;

    gather(m, reachable_ms_of(m), &f);
    for (size_t i = 0; i < f.in.member_count; i++) {
        const struct index_node *node = node_of(p->index, f.members[i].id);

        if (!f.members[i].voter || !node)
            continue;
        if (node->number == number) {
            has_vote = true;
        } else if (node->role == NODE_ROLE__MANAGER) { /* and not on its way out */
            left++;
            reachable += f.members[i].reachable;
        }
    }
    if (!has_vote)
        return 0; /* it has no vote: nothing is lost */
    if (!left)
        return err_set(e, ERR_PRECONDITION, "attempting to demote the last manager of the swarm");
    if (reachable * 2 <= left)
        return err_set(e, ERR_PRECONDITION,
                       "can't remove member from the raft: this would result in a loss of quorum");
    return 0;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

struct membership *membership_new(const struct membership_config *config)
{
    struct membership *m = mem_alloc(sizeof(*m));

    m->config = *config;
    m->managers = managers_new(config->control);
    return m;
}

void membership_free(struct membership *m)
{
    if (!m)
        return;
    forget_rows(m);
    managers_free(m->managers);
    free(m);
}
