/* See raft_directed.h. Each schedule makes its situation, checks that it came about, and checks what must follow;
 * the world's own checkers run all the time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/member.h"
#include "manager/raft/meta.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_directed.h"

#define LONG_MS     20000
#define FULL_MS     10000 /* to hand over, and to go on when there is room again */
#define FILL_POINTS 200

/* --- tools ---------------------------------------------------------------------------------------- */

#define expect(w, claim)                                                  \
    do {                                                                  \
        if (!(w)->failed && !(claim))                                     \
            raftsim_fail(w, "expected at line %d: %s", __LINE__, #claim); \
    } while (0)

static struct replica *replica(struct world *w, uint64_t id)
{
    struct replica *r = raftsim_replica(w, id);

    if (r)
        return r;
    raftsim_fail(w, "member %" PRIu64 " is down", id);
    abort(); /* the schedule makes no sense any more; the runner sees a dead child */
}

static void begin(struct world *w, uint64_t seed, unsigned voters, unsigned members, uint64_t snapshot_bytes)
{
    const struct world_options options = {
        .voters = voters, .members = members, .segment_bytes = 16384, .snapshot_bytes = snapshot_bytes};

    raftsim_init(w, seed, &options);
}

static bool has_leader(struct world *w, void *ctx)
{
    return raftsim_leader(w) != 0;
}

static bool member_leads(struct world *w, void *ctx)
{
    uint64_t id = *(uint64_t *)ctx;

    return raftsim_up(w, id) && replica_state(raftsim_replica(w, id)) == REPLICA_LEADER;
}

static uint64_t await_leader(struct world *w, int64_t ms)
{
    (void)raftsim_until(w, ms, has_leader, NULL);
    return raftsim_leader(w);
}

/* Some follower of the leader, in order of ids. */
static uint64_t other_than(uint64_t a, uint64_t b, unsigned members)
{
    for (uint64_t id = 1; id <= members; id++)
        if (id != a && id != b)
            return id;
    return 0;
}

static void cut_off(struct world *w, uint64_t id, bool cut)
{
    for (unsigned other = 1; other <= WORLD_MEMBERS; other++)
        w->cut[id][other] = w->cut[other][id] = cut;
}

/* Members outside the list cannot talk to anyone. */
static void only(struct world *w, uint64_t mask)
{
    for (unsigned a = 1; a <= WORLD_MEMBERS; a++)
        for (unsigned b = 1; b <= WORLD_MEMBERS; b++)
            w->cut[a][b] = !(mask >> a & 1) || !(mask >> b & 1);
}

/* Who may ask for votes: everybody else waits for a very long time. */
static void only_candidate(struct world *w, uint64_t id)
{
    for (uint64_t m = 1; m <= WORLD_MEMBERS; m++)
        if (raftsim_up(w, m))
            raft_set_election_timeout(&replica(w, m)->guard.core, m == id ? 300 : 1000000);
}

struct injected {
    struct world *world;
    uint64_t from, to;
    struct buf bytes;
};

static void fire_injected(struct world *w, struct world_event *e)
{
    struct injected *i = e->pointer;
    struct world_env *env = w->members[i->to].env;

    if (env)
        env->events.on_message(env->events.ctx, i->from, buf_bytes(&i->bytes), i->bytes.length);
}

static void drop_injected(struct world_event *e)
{
    struct injected *i = e->pointer;

    buf_fini(&i->bytes);
    free(i);
}

/* A message as if it came from that member, after a while. */
static void inject(struct world *w, uint64_t from, uint64_t to, const struct message *m, int64_t after_ms)
{
    struct injected *i = mem_alloc(sizeof(*i));
    struct message copy = *m;

    i->from = copy.from = from;
    i->to = copy.to = to;
    message_put(&i->bytes, 7, &copy);
    raftsim_schedule(
        w, (struct world_event){.fire = fire_injected, .drop = drop_injected, .member = (unsigned)to, .pointer = i},
        after_ms * 1000);
}

/* AppendEntries with `count` entries behind prev as they are in that member's memory. */
static struct message append_of(struct world *w, uint64_t id, uint64_t prev, unsigned count,
                                struct raft_entry *entries)
{
    struct replica *r = replica(w, id);
    struct message m = {.type = RAFT_APPEND_ENTRIES};

    m.raft.append_entries = (struct raft_append_entries){
        .term = replica_term(r),
        .prev_log_index = prev,
        .prev_log_term = prev ? driver_term_of(r, prev) : 0,
        .leader_commit = 0,
        .entries = entries,
        .n_entries = count,
    };
    for (unsigned i = 0; i < count; i++) {
        const struct tail_entry *have = tail_get(&r->tail, prev + 1 + i);
        const struct tail_change *change = tail_change_at(&r->tail, prev + 1 + i);

        if (have) {
            entries[i] = (struct raft_entry){.term = have->term, .type = (enum raft_entry_type)have->type};
            entries[i].buf = (struct raft_buffer){.base = (void *)have->data, .len = have->size};
        } else { /* read at the start: only changes of membership are in memory */
            expect(w, change && change->index == prev + 1 + i);
            entries[i] = (struct raft_entry){.term = change->term, .type = RAFT_CHANGE};
            entries[i].buf = (struct raft_buffer){.base = change->data, .len = change->size};
        }
    }
    return m;
}

struct outcome { /* of a change of the membership */
    bool came;
    int code;
};

static void note(void *ctx, const struct err *e)
{
    struct outcome *o = ctx;

    o->came = true;
    o->code = e->code;
}

static bool outcome_came(struct world *w, void *ctx)
{
    return ((struct outcome *)ctx)->came;
}

/* Wait for a change that was just asked for. */
static void await(struct world *w, struct outcome *o)
{
    (void)raftsim_until(w, LONG_MS, outcome_came, o);
    expect(w, o->came);
    expect(w, o->code == 0);
}

static void add_standby(struct world *w, uint64_t leader, uint64_t id)
{
    struct outcome o = {0};
    char address[16];

    (void)snprintf(address, sizeof(address), "m%" PRIu64 ":2377", id);
    expect(w, replica_member_add(replica(w, leader), id, address, note, &o, NULL) == 0);
    await(w, &o);
}

static void propose(struct world *w, uint64_t id, unsigned count)
{
    while (count--)
        expect(w, raftsim_propose(w, id, 40));
}

/* --- figure 8 of the Raft paper ------------------------------------------------------------------- */

static struct {
    int stage;
    uint64_t old; /* index of the entry that is replicated, not committed, and overwritten */
} figure;

static bool figure_filter(struct world *w, uint64_t from, uint64_t to, const struct message *m)
{
    const struct raft_append_entries *a = &m->raft.append_entries;
    struct message shorter = *m;

    if (m->type != RAFT_APPEND_ENTRIES || a->n_entries == 0)
        return true;
    if (figure.stage == 1 && from == 1)
        return to == 2;
    if (figure.stage == 2 && from == 5)
        return false;
    if (figure.stage != 3 || from != 1)
        return true;
    /* S1 leads again: the old entry reaches S3, its own barrier nobody. */
    if (to != 2 && to != 3)
        return false;
    if (a->prev_log_index + a->n_entries <= figure.old)
        return true;
    shorter.raft.append_entries.n_entries =
        a->prev_log_index < figure.old ? (unsigned)(figure.old - a->prev_log_index) : 0;
    inject(w, from, to, &shorter, 1);
    return false;
}

static void restart_all(struct world *w, uint64_t mask)
{
    for (uint64_t id = 1; id <= 5; id++) {
        if (!(mask >> id & 1))
            continue;
        raftsim_crash(w, id, false);
        raftsim_start(w, id);
    }
}

static void figure_8(struct world *w)
{
    uint64_t one = 1, five = 5, term;

    begin(w, 3, 5, 5, 1 << 20);
    w->filter = figure_filter;
    figure.stage = 0;
    only(w, 0x3e);
    only_candidate(w, 1);
    expect(w, raftsim_until(w, LONG_MS, member_leads, &one));
    raftsim_run(w, 300);
    figure.stage = 1; /* (a) the entry is on S1 and S2 only */
    figure.old = replica(w, 1)->tail.last + 1;
    propose(w, 1, 1);
    raftsim_run(w, 100);
    expect(w, replica(w, 2)->tail.last == figure.old && replica(w, 3)->tail.last < figure.old);
    raftsim_crash(w, 1, true);
    restart_all(w, 1 << 3 | 1 << 4 | 1 << 5);
    figure.stage = 2; /* (b) S5 leads with another entry at its index */
    only(w, 1 << 3 | 1 << 4 | 1 << 5);
    only_candidate(w, 5);
    for (int64_t end = w->now_us + 9000000; w->now_us < end && !w->failed && !driver_leads(replica(w, 5));)
        raftsim_run(w, 1);
    expect(w, driver_leads(replica(w, 5)));
    raftsim_run(w, 60);
    expect(w, replica(w, 5)->tail.last >= figure.old);
    raftsim_crash(w, 5, true);
    raftsim_start(w, 1);
    restart_all(w, 1 << 2 | 1 << 3 | 1 << 4);
    figure.stage = 3; /* (c) S1 leads again; the old entry is on a majority and must not be committed */
    only(w, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4);
    only_candidate(w, 1);
    for (int64_t end = w->now_us + 9000000; w->now_us < end && !w->failed && !driver_leads(replica(w, 1));)
        raftsim_run(w, 1);
    raftsim_run(w, 400);
    term = driver_term_of(replica(w, 1), figure.old);
    expect(w,
           driver_term_of(replica(w, 2), figure.old) == term && driver_term_of(replica(w, 3), figure.old) == term);
    expect(w, term < replica_term(replica(w, 1)) && replica_commit_index(replica(w, 1)) < figure.old);
    raftsim_crash(w, 1, true);
    raftsim_start(w, 5);
    restart_all(w, 1 << 2 | 1 << 3 | 1 << 4);
    figure.stage = 0; /* (d) S5 wins and overwrites it */
    only(w, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5);
    only_candidate(w, 5);
    expect(w, raftsim_until(w, LONG_MS, member_leads, &five));
    raftsim_run(w, 300);
    expect(w, driver_term_of(replica(w, 3), figure.old) != term);
    only_candidate(w, 0);
    for (uint64_t id = 1; id <= 5; id++)
        if (raftsim_up(w, id))
            raft_set_election_timeout(&replica(w, id)->guard.core, 300);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

/* --- the guards ----------------------------------------------------------------------------------- */

static void g1_stale_install_is_not_answered_with_junk(struct world *w)
{
    uint64_t leader, f, g, commit;
    struct message m = {.type = RAFT_INSTALL_SNAPSHOT};
    struct raft_install_snapshot *s = &m.raft.install_snapshot;

    begin(w, 25, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 3);
    g = other_than(leader, f, 3);
    propose(w, leader, 5);
    raftsim_run(w, 300);
    commit = replica_commit_index(replica(w, leader));
    expect(w, commit == replica(w, leader)->tail.last);
    w->members[f].hung = w->members[g].hung = true;
    propose(w, leader, 5);
    raftsim_run(w, 30);
    s->term = replica_term(replica(w, leader)) - 1;
    s->last_index = 2;
    s->last_term = 1;
    s->conf_index = 1;
    m.offer.chunk_bytes = 512;
    s->conf = replica(w, leader)->guard.core.configuration;
    inject(w, leader, f, &m, 1);
    raftsim_run(w, 60);
    expect(w, replica_commit_index(replica(w, leader)) == commit); /* nobody stored anything */
    expect(w, replica(w, f)->guard.hits[1] == 1);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

static void g2_old_append_after_compaction_adds_nothing(struct world *w)
{
    struct raft_entry entries[5];
    uint64_t leader, f, last;

    begin(w, 22, 3, 3, 1000);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 3);
    propose(w, leader, 4);
    raftsim_run(w, 100);
    struct message m = append_of(w, leader, 0, 5, entries);
    inject(w, leader, f, &m, 900);
    for (int i = 0; i < 60; i++) {
        propose(w, leader, 8);
        raftsim_run(w, 10);
    }
    raftsim_run(w, 150);
    expect(w, replica(w, f)->tail.base_index > 5);
    last = replica(w, f)->tail.last;
    raftsim_run(w, 200);
    expect(w, replica(w, f)->tail.last == last && replica(w, f)->guard.hits[2] > 0);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

static void g3_sole_voter_begins_a_new_term(struct world *w)
{
    uint64_t last;

    begin(w, 5, 1, 2, 1 << 20);
    await_leader(w, LONG_MS);
    add_standby(w, 1, 2);
    propose(w, 1, 3);
    raftsim_run(w, 300);
    last = replica(w, 1)->tail.last;
    expect(w, replica(w, 2)->tail.last == last);
    w->members[1].hung = true;
    propose(w, 1, 2);
    raftsim_run(w, 60);
    expect(w, replica(w, 2)->tail.last == last + 2); /* sent before it is on the leader's own disk */
    raftsim_crash(w, 1, true);
    w->members[1].hung = false;
    raftsim_start(w, 1);
    await_leader(w, LONG_MS);
    propose(w, 1, 3);
    raftsim_run(w, 500);
    raftsim_converge(w, LONG_MS);
}

static void g3_sole_voter_after_demotion_begins_a_new_term(struct world *w)
{
    struct outcome o = {0};
    uint64_t leader, f, term;

    begin(w, 6, 2, 2, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 2);
    raftsim_run(w, 100);
    term = replica_term(replica(w, leader));
    expect(w, replica_transfer(replica(w, leader), f, note, &o, NULL) == 0);
    await(w, &o);
    expect(w, raftsim_until(w, LONG_MS, member_leads, &f));
    o = (struct outcome){0};
    expect(w, replica_member_demote(replica(w, f), leader, note, &o, NULL) == 0);
    await(w, &o);
    raftsim_crash(w, f, false); /* and comes back as the only voter */
    raftsim_start(w, f);
    expect(w, raftsim_until(w, LONG_MS, member_leads, &f));
    expect(w, replica_term(replica(w, f)) > term + 1);
    raftsim_converge(w, LONG_MS);
}

static void g4_leader_cannot_demote_itself(struct world *w)
{
    struct outcome o = {0};
    uint64_t leader;

    begin(w, 23, 2, 2, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 100);
    expect(w, replica_member_demote(replica(w, leader), leader, note, &o, NULL) == 0);
    (void)raftsim_until(w, LONG_MS, outcome_came, &o);
    expect(w, o.came && o.code == ERR_INVALID);
    expect(w, replica(w, leader)->guard.hits[4] == 1 && replica(w, leader)->guard.core.configuration.n == 2);
    raftsim_converge(w, LONG_MS);
}

static void g5_member_that_does_not_know_its_promotion_votes(struct world *w)
{
    struct outcome o = {0};

    begin(w, 21, 1, 2, 1 << 20);
    await_leader(w, LONG_MS);
    add_standby(w, 1, 2);
    propose(w, 1, 3);
    raftsim_run(w, 300);
    cut_off(w, 2, true);
    expect(w, replica_member_promote(replica(w, 1), 2, note, &o, NULL) == 0);
    raftsim_run(w, 100);
    expect(w, raft_role(&replica(w, 1)->guard.core) == RAFT_VOTER &&
                  replica(w, 1)->guard.core.configuration_uncommitted_index);
    raftsim_crash(w, 1, false);
    raftsim_start(w, 1);
    cut_off(w, 2, false);
    expect(w, await_leader(w, LONG_MS) == 1);
    expect(w, replica(w, 2)->guard.hits[5] > 0 && replica(w, 2)->stats.restarts > 0);
    raftsim_converge(w, LONG_MS);
}

static void g6_overtaken_rejection_is_dropped(struct world *w)
{
    struct message m = {.type = RAFT_APPEND_ENTRIES_RESULT};
    raft_index match = 0;
    uint64_t leader, f;

    begin(w, 24, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 3);
    for (int i = 0; i < 5; i++)
        propose(w, leader, 10);
    raftsim_run(w, 300);
    (void)raft_match_index(&replica(w, leader)->guard.core, f, &match);
    m.raft.append_entries_result = (struct raft_append_entries_result){.term = replica_term(replica(w, leader)),
                                                                       .rejected = match,
                                                                       .last_log_index = 3,
                                                                       .features = 1,
                                                                       .capacity = 1};
    inject(w, f, leader, &m, 1);
    raftsim_run(w, 10);
    expect(w, match > 40 && replica(w, leader)->guard.hits[6] == 1);
    raftsim_converge(w, LONG_MS);
}

static void g7_change_inside_a_message_comes_first(struct world *w)
{
    struct outcome o = {0};
    uint64_t leader, f;

    begin(w, 6, 3, 5, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 200);
    f = other_than(leader, 0, 3);
    cut_off(w, f, true);
    propose(w, leader, 5);
    raftsim_run(w, 40);
    add_standby(w, leader, 4);
    propose(w, leader, 5);
    raftsim_run(w, 60);
    cut_off(w, f, false);
    raftsim_run(w, 300);
    expect(w, replica(w, f)->guard.hits[7] > 0);
    expect(w, replica(w, f)->guard.core.configuration_uncommitted_index == 0);
    expect(w, replica_transfer(replica(w, leader), f, note, &o, NULL) == 0);
    await(w, &o);
    expect(w, raftsim_until(w, LONG_MS, member_leads, &f));
    add_standby(w, f, 5);
    raftsim_converge(w, LONG_MS);
}

static void g8_spare_members_are_refused_and_the_timer_never_spins(struct world *w)
{
    struct raft_configuration conf;
    struct replica *r;
    struct err e;

    begin(w, 8, 1, 1, 1 << 20);
    await_leader(w, LONG_MS);
    r = replica(w, 1);
    raft_configuration_init(&conf);
    (void)raft_configuration_add(&conf, 1, "m1:2377", RAFT_VOTER);
    (void)raft_configuration_add(&conf, 2, "m2:2377", RAFT_SPARE);
    expect(w, guard_change(&r->guard, &conf, &e) == ERR_INVALID);
    raft_configuration_close(&conf);
    r->guard.core.election_timer_start = 0; /* a timer far in the past, as after a catch-up */
    r->guard.core.election_timeout = 1;
    guard_timeout(&r->guard);
    r->guard.core.election_timer_start = 0;
    expect(w, guard_deadline(&r->guard) >= driver_now(r) + 5);
}

static void g9_level_member_is_promoted_by_watching_it(struct world *w)
{
    struct outcome o = {0};
    uint64_t leader;
    int64_t start;

    begin(w, 9, 3, 4, 1 << 20);
    leader = await_leader(w, LONG_MS);
    add_standby(w, leader, 4);
    raftsim_run(w, 300);
    start = w->now_us;
    expect(w, replica_member_promote(replica(w, leader), 4, note, &o, NULL) == 0);
    await(w, &o);
    expect(w, w->now_us - start < 1000000 && raft_role(&replica(w, 4)->guard.core) == RAFT_VOTER);
    raftsim_converge(w, LONG_MS);
}

static void g10_one_change_at_a_time(struct world *w)
{
    struct raft_configuration conf;
    struct replica *r;
    uint64_t leader, last;
    struct err e;

    begin(w, 10, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    r = replica(w, leader);
    raftsim_run(w, 200);
    raft_configuration_init(&conf);
    for (unsigned id = 1; id <= 3; id++) {
        char address[16];

        (void)snprintf(address, sizeof(address), "m%u:2377", id);
        (void)raft_configuration_add(&conf, id, address, RAFT_VOTER);
    }
    (void)raft_configuration_add(&conf, 4, "m4:2377", RAFT_STANDBY);
    expect(w, guard_change(&r->guard, &conf, &e) == 0);
    last = r->tail.last;
    (void)raft_configuration_add(&conf, 5, "m5:2377", RAFT_STANDBY);
    expect(w, guard_change(&r->guard, &conf, &e) == ERR_CONFLICT);
    expect(w, r->tail.last == last && raft_last_index(&r->guard.core) == last && r->guard.hits[10] == 1);
    raft_configuration_close(&conf);
    raftsim_run(w, 300);
    expect(w, r->guard.core.configuration_uncommitted_index == 0);
}

/* Members 1 and 2 went on without member 3, whose log they no longer have. */
static uint64_t lagging_world(struct world *w, uint64_t seed)
{
    uint64_t leader;

    begin(w, seed, 3, 3, 1000);
    leader = await_leader(w, LONG_MS);
    if (leader == 3) {
        struct outcome o = {0};

        raftsim_run(w, 100);
        expect(w, replica_transfer(replica(w, 3), 1, note, &o, NULL) == 0);
        await(w, &o);
        leader = await_leader(w, LONG_MS);
    }
    cut_off(w, 3, true);
    for (int i = 0; i < 80; i++) {
        propose(w, leader, 10);
        raftsim_run(w, 10);
    }
    expect(w, replica(w, leader)->tail.base_index > replica(w, 3)->tail.last);
    return leader;
}

static bool installing(struct world *w, void *ctx)
{
    return raftsim_up(w, 3) && raftsim_replica(w, 3)->guard.core.snapshot.installing;
}

static void g11_second_install_while_one_runs_is_dropped(struct world *w)
{
    uint64_t leader = lagging_world(w, 11);
    struct raft_message m = {.type = RAFT_INSTALL_SNAPSHOT, .server_id = leader};
    struct replica *r;

    w->members[3].disk_min_us = w->members[3].disk_max_us = 20000;
    cut_off(w, 3, false);
    expect(w, raftsim_until(w, LONG_MS, installing, NULL));
    r = replica(w, 3);
    m.install_snapshot.version = 1;
    m.install_snapshot.term = replica_term(r);
    m.install_snapshot.last_index = r->install.wanted.index + 1000;
    m.install_snapshot.last_term = 1;
    m.install_snapshot.conf_index = 1;
    (void)raft_configuration_add(&m.install_snapshot.conf, 1, "m1:2377", RAFT_VOTER);
    guard_receive(&r->guard, &m);
    expect(w, r->guard.hits[11] == 1);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
    expect(w, replica(w, 3)->stats.installs > 0);
}

static void g12_late_vote_is_not_read_by_a_follower(struct world *w)
{
    struct message m = {.type = RAFT_REQUEST_VOTE_RESULT};
    uint64_t leader, f;

    begin(w, 12, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 3);
    m.raft.request_vote_result = (struct raft_request_vote_result){
        .version = 2, .term = replica_term(replica(w, leader)), .vote_granted = true, .features = 1};
    inject(w, leader, f, &m, 1);
    inject(w, f, leader, &m, 1);
    raftsim_run(w, 50);
    expect(w, replica(w, f)->guard.hits[12] > 0 && replica(w, leader)->guard.hits[12] > 0);
    raftsim_converge(w, LONG_MS);
}

static void g13_change_leaves_only_when_it_is_on_the_own_disk(struct world *w)
{
    struct outcome o = {0};
    uint64_t leader, f, last;

    begin(w, 13, 2, 2, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 2);
    propose(w, leader, 3);
    raftsim_run(w, 200);
    last = replica(w, f)->tail.last;
    w->members[leader].hung = true;
    expect(w, replica_member_demote(replica(w, leader), f, note, &o, NULL) == 0);
    raftsim_run(w, 60);
    expect(w, replica(w, leader)->tail.last == last + 1 && replica(w, leader)->guard.hits[13] > 0);
    expect(w, replica(w, f)->tail.last == last);
    raftsim_crash(w, leader, true);
    w->members[leader].hung = false;
    raftsim_start(w, leader);
    expect(w, await_leader(w, LONG_MS) != 0);
    raftsim_converge(w, LONG_MS);
}

static void g14_append_of_our_own_term_is_a_cloned_identity(struct world *w)
{
    uint64_t leader, f, last;
    struct message m = {.type = RAFT_APPEND_ENTRIES};

    begin(w, 14, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 3);
    raftsim_run(w, 200);
    last = replica(w, leader)->tail.last;
    m.raft.append_entries = (struct raft_append_entries){
        .term = replica_term(replica(w, leader)), .prev_log_index = 1, .prev_log_term = 1};
    inject(w, f, leader, &m, 1);
    raftsim_run(w, 500);
    expect(w, raftsim_leader(w) == leader && replica(w, leader)->guard.hits[14] > 0);
    expect(w, replica(w, leader)->tail.last == last);
    raftsim_converge(w, LONG_MS);
}

static void g15_transfer_under_load_waits_until_the_target_is_level(struct world *w)
{
    uint64_t leader, to, refused = 0;
    struct outcome o = {0};

    begin(w, 15, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 100);
    for (int i = 0; i < 20 && !w->failed; i++) {
        to = other_than(leader, 0, 3);
        for (int k = 0; k < 30; k++) {
            propose(w, leader, 3);
            raftsim_run(w, 1);
        }
        o = (struct outcome){0};
        expect(w, replica_transfer(replica(w, leader), to, note, &o, NULL) == 0);
        refused += replica(w, leader)->guard.hits[15] > 0;
        await(w, &o);
        expect(w, raftsim_until(w, 1000, member_leads, &to));
        refused += replica(w, leader)->guard.hits[15] > 0;
        leader = to;
    }
    expect(w, refused > 0);
    raftsim_converge(w, LONG_MS);
}

static void g16_refused_pre_vote_tells_our_term(struct world *w)
{
    uint64_t a, b, c;

    begin(w, 31, 3, 3, 1 << 20);
    a = await_leader(w, LONG_MS);
    b = other_than(a, 0, 3);
    c = other_than(a, b, 3);
    propose(w, a, 5);
    raftsim_run(w, 200);
    cut_off(w, a, true);
    propose(w, a, 5); /* the newest log, in an old term */
    raftsim_run(w, 30);
    for (uint64_t id = 1; id <= 3; id++) {
        raftsim_crash(w, id, false);
        if (id != a)
            raftsim_set_term(w, id, 20); /* elections nobody saw the end of */
    }
    cut_off(w, a, false);
    cut_off(w, c, true);
    raftsim_start(w, a);
    raftsim_start(w, b);
    expect(w, await_leader(w, LONG_MS) == a);
    expect(w, replica(w, b)->guard.hits[16] > 0);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

static bool core_leads_unready(struct world *w, void *ctx)
{
    uint64_t id = raftsim_core_leader(w);

    *(uint64_t *)ctx = id;
    return id && !propose_ready(raftsim_replica(w, id));
}

static void g17_no_change_before_an_entry_of_the_own_term(struct world *w)
{
    struct raft_configuration conf;
    uint64_t leader;
    struct replica *r;
    struct err e;

    begin(w, 17, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    propose(w, leader, 3);
    raftsim_run(w, 100);
    raftsim_crash(w, leader, false);
    expect(w, raftsim_until(w, LONG_MS, core_leads_unready, &leader));
    r = replica(w, leader);
    raft_configuration_init(&conf);
    for (unsigned i = 0; i < r->guard.core.configuration.n; i++)
        (void)raft_configuration_add(&conf, r->guard.core.configuration.servers[i].id,
                                     r->guard.core.configuration.servers[i].address, RAFT_VOTER);
    (void)raft_configuration_add(&conf, 4, "m4:2377", RAFT_STANDBY);
    expect(w, guard_change(&r->guard, &conf, &e) == ERR_UNAVAILABLE);
    expect(w, r->guard.hits[17] == 1);
    raft_configuration_close(&conf);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

/* --- what the simulation found -------------------------------------------------------------------- */

/* The leader kept too many files of older snapshots open and served none any more. */
static void many_snapshots_while_a_member_pulls(struct world *w)
{
    uint64_t leader = lagging_world(w, 121);

    for (int round = 0; round < 12; round++) {
        cut_off(w, 3, false);
        raftsim_run(w, 12); /* long enough to pull a chunk or two */
        cut_off(w, 3, true);
        for (int i = 0; i < 30; i++) {
            propose(w, leader, 10);
            raftsim_run(w, 5);
        }
    }
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
    expect(w, replica(w, 3)->stats.installs > 0);
}

/* A leader's entries were cut far back by the next one; then a snapshot let everything before the cut go, and the
 * oldest segment on disk began in the middle of what had been cut. */
static void cut_reaches_before_the_oldest_segment(struct world *w)
{
    uint64_t old, leader;

    begin(w, 144, 3, 3, 20000);
    old = await_leader(w, LONG_MS);
    raftsim_run(w, 100);
    cut_off(w, old, true);
    for (int i = 0; i < 20; i++) /* three segments that nobody else gets */
        expect(w, raftsim_propose(w, old, 3000));
    raftsim_run(w, 100);
    raftsim_crash(w, old, false);
    leader = await_leader(w, LONG_MS);
    for (int i = 0; i < 30; i++) {
        expect(w, raftsim_propose(w, leader, 400));
        raftsim_run(w, 5);
    }
    cut_off(w, old, false);
    raftsim_start(w, old);
    for (int i = 0; i < 120; i++) {
        expect(w, raftsim_propose(w, leader, 600));
        raftsim_run(w, 5);
    }
    expect(w, replica(w, old)->stats.cuts > 0 && replica(w, old)->stats.snapshots > 0);
    for (int i = 0; i < 4; i++) {
        raftsim_crash(w, old, i % 2);
        raftsim_start(w, old);
        raftsim_run(w, 60);
    }
    raftsim_converge(w, LONG_MS);
}

/* A standby that had nothing yet counted as level with a short log, and was promoted. */
static void empty_standby_is_not_promoted(struct world *w)
{
    struct outcome added = {0}, promoted = {0};

    begin(w, 15053, 1, 2, 1 << 20);
    await_leader(w, LONG_MS);
    cut_off(w, 2, true);
    expect(w, replica_member_add(replica(w, 1), 2, "m2:2377", note, &added, NULL) == 0);
    await(w, &added);
    expect(w, replica_member_promote(replica(w, 1), 2, note, &promoted, NULL) == 0);
    raftsim_run(w, 500);
    expect(w, !promoted.came && replica(w, 1)->guard.core.configuration_uncommitted_index == 0);
    raftsim_crash(w, 1, false);
    raftsim_start(w, 1);
    expect(w, await_leader(w, LONG_MS) == 1);
    cut_off(w, 2, false);
    raftsim_converge(w, LONG_MS);
}

/* A core that began again (G5) knows less of what is committed than the store; a snapshot ended just then. */
static void snapshot_waits_for_a_core_that_began_again(struct world *w)
{
    struct outcome o = {0};

    begin(w, 1, 1, 2, 1500);
    await_leader(w, LONG_MS);
    add_standby(w, 1, 2);
    for (int i = 0; i < 40; i++) {
        propose(w, 1, 3);
        raftsim_run(w, 5);
    }
    w->members[2].disk_min_us = w->members[2].disk_max_us = 15000;
    raftsim_run(w, 20);
    cut_off(w, 2, true);
    expect(w, replica_member_promote(replica(w, 1), 2, note, &o, NULL) == 0);
    raftsim_run(w, 60);
    raftsim_crash(w, 1, false);
    raftsim_start(w, 1);
    cut_off(w, 2, false);
    expect(w, await_leader(w, LONG_MS) == 1);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

/* A leader that does not know yet that it was replaced must not answer from what it has. */
static void cut_off_leader_answers_no_read(struct world *w)
{
    uint64_t old, next = 0, reads;

    begin(w, 48, 3, 3, 1 << 20);
    old = await_leader(w, LONG_MS);
    propose(w, old, 3);
    raftsim_run(w, 200);
    for (uint64_t id = 1; id <= 3; id++) /* the others replace it long before it gives up */
        raft_set_election_timeout(&replica(w, id)->guard.core, id == old ? 5000 : 100);
    cut_off(w, old, true);
    for (int i = 0; i < 200 && (!next || next == old); i++) {
        raftsim_run(w, 10);
        next = raftsim_leader(w);
    }
    expect(w, next && next != old && replica_state(replica(w, old)) == REPLICA_LEADER);
    propose(w, next, 3);
    raftsim_run(w, 200);
    expect(w, w->acked_top > replica(w, old)->applied);
    reads = w->counts.reads;
    expect(w, raftsim_read(w, old));
    raftsim_run(w, 300);
    expect(w, w->counts.reads == reads);
    for (uint64_t id = 1; id <= 3; id++)
        raft_set_election_timeout(&replica(w, id)->guard.core, 300);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

/* --- disks ---------------------------------------------------------------------------------------- */

static void full_disk_hands_over_and_comes_back(struct world *w)
{
    uint64_t leader, next;
    bool moved = false;

    begin(w, 40, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 200);
    w->members[leader].disk.full = true;
    for (int i = 0; i < 400 && !moved && !w->failed; i++) {
        for (int k = 0; k < 3; k++)
            (void)raftsim_propose(w, leader, 1500);
        raftsim_run(w, 25);
        next = raftsim_leader(w);
        moved = next && next != leader;
    }
    expect(w, moved && !w->members[leader].replica->failed);
    for (uint64_t id = 1; id <= 3; id++)
        w->members[id].disk.full = true;
    for (int i = 0; i < 60; i++) {
        (void)raftsim_propose(w, raftsim_leader(w) ? raftsim_leader(w) : 1, 3000);
        raftsim_run(w, 50);
    }
    expect(w, w->counts.full_refusals > 0);
    for (uint64_t id = 1; id <= 3; id++)
        expect(w, raftsim_up(w, id)); /* nobody gave up */
    raftsim_heal(w);
    raftsim_converge(w, 10000);
}

/* Write through this leader until its disk is full and, within FULL_MS of that, another one leads. */
static bool write_until_moved(struct world *w, uint64_t leader)
{
    struct disk *d = &w->members[leader].disk;
    int64_t full_ms = 0;

    for (int64_t ms = 0; ms < 6 * FULL_MS && full_ms < FULL_MS && !w->failed; ms += 25) {
        uint64_t now = raftsim_leader(w);

        if (d->full && now && now != leader)
            return true;
        (void)raftsim_propose(w, leader, 1500);
        raftsim_run(w, 25);
        full_ms += d->full ? 25 : 0;
    }
    return false;
}

/* GOALS R4: the leader's disk is full from its first, second... operation on, the two hundredth at last, so also in
 * the middle of making a segment, of a snapshot and of the term's file. */
static void disk_that_fills_at_any_point_moves_the_leader(struct world *w)
{
    begin(w, 43, 3, 3, 1 << 16);
    for (unsigned point = 1; point <= FILL_POINTS && !w->failed; point++) {
        uint64_t leader = await_leader(w, LONG_MS), life = w->members[leader].life, acked;
        struct disk *d = &w->members[leader].disk;

        d->fill_at = d->operations + point;
        expect(w, write_until_moved(w, leader));
        expect(w, raftsim_up(w, leader) && w->members[leader].life == life); /* no restart */
        acked = w->acked_top;
        raftsim_heal(w);
        for (int64_t ms = 0; ms < FULL_MS && w->acked_top == acked && !w->failed; ms += 25) {
            (void)raftsim_propose(w, raftsim_leader(w) ? raftsim_leader(w) : leader, 100);
            raftsim_run(w, 25);
        }
        expect(w, w->acked_top > acked);
        raftsim_converge(w, FULL_MS);
        expect(w, w->members[leader].life == life);
    }
}

static void failing_disk_stops_the_member(struct world *w)
{
    uint64_t leader, life;

    begin(w, 41, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 200);
    life = w->members[leader].life;
    w->members[leader].disk.broken = true;
    propose(w, leader, 3);
    raftsim_run(w, 1000);
    expect(w, !raftsim_up(w, leader) && w->members[leader].life == life); /* it stopped, loudly */
    expect(w, await_leader(w, LONG_MS) != 0);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

/* What a failed write left in the page cache is read after a restart, and lost with the power, unless it is written
 * again. */
static void failed_write_is_written_again_before_it_counts(struct world *w)
{
    uint64_t last;

    begin(w, 45, 1, 1, 1 << 20);
    await_leader(w, LONG_MS);
    propose(w, 1, 3);
    raftsim_run(w, 200);
    w->members[1].disk.broken = true;
    for (int i = 0; i < 5; i++)
        expect(w, raftsim_propose(w, 1, 900));
    raftsim_run(w, 300);
    expect(w, !raftsim_up(w, 1) && w->counts.unsaid > 0);
    w->members[1].disk.broken = false;
    raftsim_start(w, 1);
    await_leader(w, LONG_MS);
    propose(w, 1, 1);
    raftsim_run(w, 300);
    last = replica(w, 1)->applied;
    expect(w, last >= 10); /* the five are there, and now acknowledged by what follows them */
    raftsim_crash(w, 1, true);
    raftsim_start(w, 1);
    await_leader(w, LONG_MS);
    expect(w, replica(w, 1)->applied >= last);
    raftsim_converge(w, LONG_MS);
}

/* Another key, or ours damaged, opens nothing and spoils nothing. */
static void wrong_key_is_refused_and_spoils_nothing(struct world *w)
{
    uint64_t last;

    begin(w, 46, 1, 1, 2000);
    await_leader(w, LONG_MS);
    for (int i = 0; i < 40; i++) {
        propose(w, 1, 3);
        raftsim_run(w, 10);
    }
    raftsim_run(w, 300);
    last = replica(w, 1)->applied;
    expect(w, replica(w, 1)->stats.snapshots > 0);
    for (unsigned bit = 0; bit < 8 * SEAL_KEY; bit += 37) {
        raftsim_crash(w, 1, bit % 2);
        w->key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        w->members[1].damaged = true; /* it may be refused */
        raftsim_start(w, 1);
        expect(w, !raftsim_up(w, 1) && w->members[1].lost);
        w->key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        w->members[1].damaged = w->members[1].lost = false;
        raftsim_start(w, 1);
        expect(w, await_leader(w, LONG_MS) == 1 && replica(w, 1)->applied >= last);
    }
    raftsim_converge(w, LONG_MS);
}

/* A member that was restored from an old backup, or belongs to a cluster that was begun anew, is not heard. */
static void message_of_another_epoch_is_refused(struct world *w)
{
    uint64_t leader, f, term;
    struct message m = {.type = RAFT_APPEND_ENTRIES};
    struct buf bytes = {0};

    begin(w, 47, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    f = other_than(leader, 0, 3);
    raftsim_run(w, 100);
    term = replica_term(replica(w, leader));
    m.from = leader;
    m.to = f;
    m.raft.append_entries = (struct raft_append_entries){.term = term + 5, .prev_log_index = 1, .prev_log_term = 1};
    message_put(&bytes, 6, &m);
    w->members[f].env->events.on_message(w->members[f].env->events.ctx, leader, buf_bytes(&bytes), bytes.length);
    buf_fini(&bytes);
    raftsim_run(w, 300);
    expect(w, replica(w, f)->stats.refused == 1);
    expect(w, raftsim_leader(w) == leader && replica_term(replica(w, f)) == term);
    raftsim_converge(w, LONG_MS);
}

static void hung_disk_hands_over(struct world *w)
{
    uint64_t leader, next;

    begin(w, 42, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 200);
    w->members[leader].hung = true;
    propose(w, leader, 3);
    raftsim_run(w, 1500);
    next = raftsim_leader(w);
    expect(w, next && next != leader);
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

static void closed_link_of_a_dead_leader_speeds_up_the_election(struct world *w)
{
    uint64_t leader;
    int64_t start;

    begin(w, 43, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    raftsim_run(w, 200);
    raftsim_crash(w, leader, false);
    start = w->now_us;
    for (uint64_t id = 1; id <= 3; id++)
        if (raftsim_up(w, id))
            w->members[id].env->events.on_gone(w->members[id].env->events.ctx, leader);
    expect(w, await_leader(w, LONG_MS) != 0);
    expect(w, w->now_us - start < 250000); /* an election timeout alone is 300 to 600 ms */
    raftsim_heal(w);
    raftsim_converge(w, LONG_MS);
}

static void removed_member_is_told(struct world *w)
{
    struct outcome o = {0};
    uint64_t leader, gone, term;

    begin(w, 44, 3, 3, 1 << 20);
    leader = await_leader(w, LONG_MS);
    gone = other_than(leader, 0, 3);
    raftsim_run(w, 200);
    expect(w, replica_member_remove(replica(w, leader), gone, note, &o, NULL) == 0);
    await(w, &o);
    raftsim_run(w, 2000);
    expect(w, replica(w, gone)->members.removed);
    term = replica_term(replica(w, leader));
    raftsim_run(w, 3000);
    expect(w, replica_term(replica(w, leader)) == term && raftsim_leader(w) == leader);
    raftsim_converge(w, LONG_MS);
}

const struct directed directed[] = {
    {"figure_8", figure_8, 0},
    {"g1_stale_install_is_not_answered_with_junk", g1_stale_install_is_not_answered_with_junk, FAULT_G1},
    {"g2_old_append_after_compaction_adds_nothing", g2_old_append_after_compaction_adds_nothing, FAULT_G2},
    {"g3_sole_voter_begins_a_new_term", g3_sole_voter_begins_a_new_term, FAULT_G3},
    {"g3_sole_voter_after_demotion_begins_a_new_term", g3_sole_voter_after_demotion_begins_a_new_term, 0},
    {"g4_leader_cannot_demote_itself", g4_leader_cannot_demote_itself, FAULT_G4},
    {"g5_member_that_does_not_know_its_promotion_votes", g5_member_that_does_not_know_its_promotion_votes,
     FAULT_G5},
    {"g6_overtaken_rejection_is_dropped", g6_overtaken_rejection_is_dropped, FAULT_G6},
    {"g7_change_inside_a_message_comes_first", g7_change_inside_a_message_comes_first, FAULT_G7},
    {"g8_spare_members_are_refused_and_the_timer_never_spins",
     g8_spare_members_are_refused_and_the_timer_never_spins, FAULT_G8},
    {"g9_level_member_is_promoted_by_watching_it", g9_level_member_is_promoted_by_watching_it, 0},
    {"g10_one_change_at_a_time", g10_one_change_at_a_time, FAULT_G10},
    {"g11_second_install_while_one_runs_is_dropped", g11_second_install_while_one_runs_is_dropped, FAULT_G11},
    {"g12_late_vote_is_not_read_by_a_follower", g12_late_vote_is_not_read_by_a_follower, FAULT_G12},
    {"g13_change_leaves_only_when_it_is_on_the_own_disk", g13_change_leaves_only_when_it_is_on_the_own_disk,
     FAULT_G13},
    {"g14_append_of_our_own_term_is_a_cloned_identity", g14_append_of_our_own_term_is_a_cloned_identity, FAULT_G14},
    {"g15_transfer_under_load_waits_until_the_target_is_level",
     g15_transfer_under_load_waits_until_the_target_is_level, FAULT_G15},
    {"g16_refused_pre_vote_tells_our_term", g16_refused_pre_vote_tells_our_term, FAULT_G16},
    {"g17_no_change_before_an_entry_of_the_own_term", g17_no_change_before_an_entry_of_the_own_term, FAULT_G17},
    {"cut_off_leader_answers_no_read", cut_off_leader_answers_no_read, FAULT_READ_STALE},
    {"many_snapshots_while_a_member_pulls", many_snapshots_while_a_member_pulls, 0},
    {"cut_reaches_before_the_oldest_segment", cut_reaches_before_the_oldest_segment, 0},
    {"empty_standby_is_not_promoted", empty_standby_is_not_promoted, 0},
    {"snapshot_waits_for_a_core_that_began_again", snapshot_waits_for_a_core_that_began_again, 0},
    {"full_disk_hands_over_and_comes_back", full_disk_hands_over_and_comes_back, 0},
    {"disk_that_fills_at_any_point_moves_the_leader", disk_that_fills_at_any_point_moves_the_leader, 0},
    {"failing_disk_stops_the_member", failing_disk_stops_the_member, 0},
    {"failed_write_is_written_again_before_it_counts", failed_write_is_written_again_before_it_counts,
     FAULT_CACHE_TRUSTED},
    {"wrong_key_is_refused_and_spoils_nothing", wrong_key_is_refused_and_spoils_nothing, 0},
    {"message_of_another_epoch_is_refused", message_of_another_epoch_is_refused, 0},
    {"hung_disk_hands_over", hung_disk_hands_over, 0},
    {"closed_link_of_a_dead_leader_speeds_up_the_election", closed_link_of_a_dead_leader_speeds_up_the_election, 0},
    {"removed_member_is_told", removed_member_is_told, 0},
};

const size_t directed_count = ARRAY_SIZE(directed);
