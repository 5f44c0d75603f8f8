/* See raft_chaos.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/member.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_chaos.h"

#define RUN_MS 3000

struct chaos {
    struct world *w;
    bool members;                         /* membership changes */
    bool damages;                         /* a disk may be damaged */
    uint64_t damaged_member;              /* the member whose disk was */
    unsigned flicker;                     /* how often the leader is still to be isolated or joined again */
    int64_t fault_us, load_us, change_us; /* when the next of each comes */
    int64_t back_us[WORLD_MEMBERS + 1];   /* when a member that is down comes back; 0: it is up */
};

static uint64_t any_member(struct world *w)
{
    uint64_t id;

    do
        id = raftsim_random(w, 1, WORLD_MEMBERS);
    while (!w->members[id].exists);
    return id;
}

/* --- faults --------------------------------------------------------------------------------------- */

static void crash(struct chaos *c, uint64_t id, int64_t low_ms, int64_t high_ms)
{
    struct world *w = c->w;

    if (!raftsim_up(w, id))
        return;
    raftsim_crash(w, id, raftsim_chance(w, 2));
    c->back_us[id] = w->now_us + (int64_t)raftsim_random(w, (uint64_t)low_ms, (uint64_t)high_ms) * 1000;
}

static void fault_partition(struct chaos *c)
{
    struct world *w = c->w;
    uint64_t sides = entropy_u64(&w->entropy.base);

    for (unsigned a = 1; a <= WORLD_MEMBERS; a++)
        for (unsigned b = 1; b <= WORLD_MEMBERS; b++)
            w->cut[a][b] = (sides >> a ^ sides >> b) & 1;
}

static void fault_isolate_leader(struct chaos *c)
{
    uint64_t id = raftsim_core_leader(c->w);

    for (unsigned b = 1; id && b <= WORLD_MEMBERS; b++)
        c->w->cut[id][b] = c->w->cut[b][id] = true;
    for (uint64_t n = raftsim_random(c->w, 0, 12); id && n; n--)
        raftsim_propose(c->w, id, raftsim_random(c->w, 8, 900)); /* which the next leader will cut */
}

/* A leader that others lose sight of for a moment, again and again: logs fork and are cut while writes are under
 * way. */
static void fault_flicker(struct chaos *c)
{
    struct world *w = c->w;

    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++)
        if (raftsim_up(w, id))
            w->members[id].disk_max_us = (int64_t)raftsim_random(w, 3000, 80000);
    fault_isolate_leader(c);
    c->flicker = (unsigned)raftsim_random(w, 2, 5);
    c->fault_us = w->now_us + (int64_t)raftsim_random(w, 250, 700) * 1000;
}

static void fault_one_way(struct chaos *c)
{
    c->w->cut[any_member(c->w)][any_member(c->w)] = true;
}

static void fault_crash_one(struct chaos *c)
{
    crash(c, any_member(c->w), 5, 600);
}

static void fault_crash_leader(struct chaos *c)
{
    uint64_t id = raftsim_core_leader(c->w);

    if (!id)
        return;
    crash(c, id, 5, 600);
    if (raftsim_chance(c->w, 2)) /* the others see the link close */
        for (uint64_t other = 1; other <= WORLD_MEMBERS; other++)
            if (raftsim_up(c->w, other)) {
                struct world_env *env = c->w->members[other].env;

                c->w->counts.gone++;
                env->events.on_gone(env->events.ctx, id);
            }
}

static void fault_crash_many(struct chaos *c)
{
    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++)
        if (raftsim_chance(c->w, 2))
            crash(c, id, 5, 600);
}

static void fault_crash_inside(struct chaos *c)
{
    struct world_member *m = &c->w->members[any_member(c->w)];

    m->disk.crash_at = m->disk.operations + raftsim_random(c->w, 1, 40);
}

static void fault_network(struct chaos *c)
{
    struct world *w = c->w;

    w->drop = (unsigned)raftsim_random(w, 0, 250);
    w->twice = (unsigned)raftsim_random(w, 0, 200);
    w->delay_max_us = (int64_t)raftsim_random(w, 3000, 60000);
}

static void fault_slow_disk(struct chaos *c)
{
    struct world_member *m = &c->w->members[any_member(c->w)];

    m->disk_max_us = (int64_t)raftsim_random(c->w, 5000, 200000);
}

static void fault_hung_disk(struct chaos *c)
{
    struct world_member *m = &c->w->members[any_member(c->w)];

    m->hung = !m->hung;
}

static void fault_full_disk(struct chaos *c)
{
    struct world_member *m = &c->w->members[any_member(c->w)];

    m->disk.full = !m->disk.full;
}

static void fault_broken_disk(struct chaos *c)
{
    struct world_member *m = &c->w->members[any_member(c->w)];

    m->disk.broken = raftsim_chance(c->w, 2);
}

struct pick {
    struct disk_node *nodes[64];
    bool is_log[64];
    size_t count;
};

static void pick_each(void *ctx, const char *path, struct disk_node *n)
{
    struct pick *p = ctx;

    if (n->size == 0 || p->count == ARRAY_SIZE(p->nodes))
        return;
    p->is_log[p->count] = strstr(path, "/log/") != NULL;
    p->nodes[p->count++] = n;
}

/* A byte changes, the end is lost, or a stretch is zeroes. Not in the log: when its last write turns to zeroes
 * before the mark vouches for it, nothing is left to tell that it ever was (log_test.c has the others). */
static void damage(struct world *w, struct disk_node *n, bool is_log)
{
    size_t byte =
        raftsim_chance(w, 2) ? raftsim_random(w, 0, n->size - 1) : raftsim_random(w, 0, MIN(n->size, 2048) - 1);

    switch (raftsim_random(w, is_log, 3)) {
    case 0:
        disk_zero(n, byte, raftsim_random(w, 1, 2 * DISK_PAGE));
        break;
    case 1:
        disk_truncate(n, byte);
        break;
    default:
        disk_flip(n, byte, (uint8_t)raftsim_random(w, 1, 255));
        break;
    }
}

/* Damage a file on a disk whose member is down. It may refuse to start then, and is lost. */
static void fault_damage(struct chaos *c)
{
    struct world *w = c->w;
    uint64_t id = c->damaged_member ? c->damaged_member : any_member(w);
    struct world_member *m = &w->members[id];
    struct pick p = {0};

    if (!c->damages)
        return;
    c->damaged_member = id;
    crash(c, id, 5, 300);
    if (raftsim_up(w, id) || m->lost)
        return;
    disk_restart(&m->disk);
    disk_each(&m->disk, "raft", pick_each, &p);
    if (p.count == 0)
        return;
    size_t i = raftsim_random(w, 0, p.count - 1);
    damage(w, p.nodes[i], p.is_log[i]);
    m->damaged = true;
}

static void fault(struct chaos *c)
{
    static void (*const faults[])(struct chaos * c) = {
        fault_partition,    fault_partition,    fault_isolate_leader, fault_one_way, fault_crash_one,
        fault_crash_one,    fault_crash_leader, fault_crash_many,     fault_network, fault_slow_disk,
        fault_hung_disk,    fault_full_disk,    fault_broken_disk,    fault_damage,  fault_crash_inside,
        fault_crash_inside, fault_crash_inside, fault_flicker,        fault_flicker,
    };

    if (c->flicker) {
        c->flicker--;
        memset(c->w->cut, 0, sizeof(c->w->cut));
        c->fault_us = c->w->now_us + (int64_t)raftsim_random(c->w, 20, 200) * 1000;
        if (c->flicker % 2)
            fault_isolate_leader(c);
        return;
    }

    faults[raftsim_random(c->w, 0, ARRAY_SIZE(faults) - 1)](c);
    if (raftsim_chance(c->w, 3))
        memset(c->w->cut, 0, sizeof(c->w->cut));
}

/* --- load and membership -------------------------------------------------------------------------- */

static void load(struct chaos *c)
{
    struct world *w = c->w;

    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++) {
        if (!raftsim_up(w, id) || replica_state(raftsim_replica(w, id)) != REPLICA_LEADER)
            continue;
        for (uint64_t n = raftsim_random(w, 1, 5); n; n--)
            raftsim_propose(w, id, raftsim_chance(w, 10) ? raftsim_random(w, 8, 3000) : raftsim_random(w, 8, 200));
        if (raftsim_chance(w, 2))
            raftsim_read(w, id);
    }
}

static void ignore_done(void *ctx, const struct err *e)
{
    struct world *w = ctx;

    w->counts.changes += e->code == 0;
}

static const struct raft_server *server_of(struct replica *r, uint64_t id)
{
    const struct raft_configuration *conf = &r->guard.core.configuration;

    for (unsigned i = 0; i < conf->n; i++)
        if (conf->servers[i].id == id)
            return &conf->servers[i];
    return NULL;
}

/* The leader changes something about a random member; most of it is refused, which is part of the test. */
static void change(struct chaos *c)
{
    struct world *w = c->w;
    uint64_t leader = raftsim_leader(w), id = raftsim_random(w, 1, MIN(w->options.members + 3, WORLD_MEMBERS));
    struct replica *r;
    char address[16];

    if (!leader)
        return;
    r = raftsim_replica(w, leader);
    if (raftsim_chance(w, 8)) {
        w->counts.transfers++;
        (void)replica_transfer(r, 0, ignore_done, w, NULL);
        return;
    }
    if (!c->members)
        return;
    const struct raft_server *server = server_of(r, id);
    (void)snprintf(address, sizeof(address), "m%" PRIu64 ":2377", id);
    if (!server && !w->members[id].exists) {
        raftsim_make(w, id, false);
        raftsim_start(w, id);
        (void)replica_member_add(r, id, address, ignore_done, w, NULL);
    } else if (!server && !w->members[id].removed) {
        (void)replica_member_add(r, id, address, ignore_done, w, NULL);
    } else if (server && server->role != RAFT_VOTER && !raftsim_chance(w, 4)) {
        w->counts.promotes++;
        (void)replica_member_promote(r, id, ignore_done, w, NULL);
    } else if (server && raftsim_chance(w, 2)) {
        (void)replica_member_demote(r, id, ignore_done, w, NULL);
    } else if (server && id != leader && w->options.members > 1 &&
               replica_member_remove(r, id, ignore_done, w, NULL) == 0) {
        w->counts.removes++;
        w->members[id].removed = true; /* ids are never used again */
    }
}

/* --- the run -------------------------------------------------------------------------------------- */

static void come_back(struct chaos *c)
{
    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++) {
        struct world_member *m = &c->w->members[id];

        if (!m->exists || raftsim_up(c->w, id) || m->lost)
            continue;
        if (!c->back_us[id]) { /* it died inside an event */
            c->back_us[id] = c->w->now_us + (int64_t)raftsim_random(c->w, 5, 400) * 1000;
            if (raftsim_chance(c->w, 2))
                m->disk.broken = false;
        } else if (c->w->now_us >= c->back_us[id]) {
            c->back_us[id] = 0;
            raftsim_start(c->w, id);
        }
    }
}

static void run(struct chaos *c, int64_t ms)
{
    struct world *w = c->w;
    int64_t end = w->now_us + ms * 1000;

    while (w->now_us < end && !w->failed) {
        raftsim_run(w, 2);
        if (w->voter && raftsim_chance(w, 10)) /* a vote must survive, however soon the power fails */
            crash(c, w->voter, 1, 60);
        w->voter = 0;
        come_back(c);
        if (w->now_us >= c->fault_us) {
            c->fault_us = w->now_us + (int64_t)raftsim_random(w, 20, 400) * 1000;
            fault(c);
        }
        if (w->now_us >= c->load_us) {
            c->load_us = w->now_us + (int64_t)raftsim_random(w, 2, 30) * 1000;
            load(c);
        }
        if (w->now_us >= c->change_us) {
            c->change_us = w->now_us + (int64_t)raftsim_random(w, 10, 300) * 1000;
            change(c);
        }
    }
}

void chaos_run(struct world *w, uint64_t seed)
{
    struct world_options options = {0};
    struct chaos c = {.w = w};
    struct entropy_seeded pick;

    entropy_seeded_init(&pick, seed ^ 0x5eed);
    static const unsigned sizes[] = {1, 3, 3, 3, 5, 7};
    options.voters = sizes[entropy_below(&pick.base, ARRAY_SIZE(sizes))];
    c.members = entropy_below(&pick.base, 2);
    options.members = options.voters + (c.members ? 1 + (unsigned)entropy_below(&pick.base, 2) : 0);
    options.snapshot_bytes = 1000 << entropy_below(&pick.base, 6);
    options.segment_bytes = 8192 << entropy_below(&pick.base, 3);
    c.damages = !c.members && options.voters >= 3;
    raftsim_init(w, seed, &options);
    c.fault_us = w->now_us + (int64_t)raftsim_random(w, 100, 700) * 1000;
    c.change_us = w->now_us + 500000;
    run(&c, RUN_MS);
    if (w->failed)
        return;
    raftsim_heal(w);
    raftsim_converge(w, 20000);
}

uint64_t chaos_kill_at(struct world *w, uint64_t seed, uint64_t n)
{
    unsigned voters = seed % 2 ? 1 : 3; /* alone, every write counts at once */
    struct world_options options = {
        .voters = voters, .members = voters, .segment_bytes = 8192, .snapshot_bytes = 2000};
    uint64_t id = 1 + seed % voters, operations;
    struct chaos c = {.w = w};

    raftsim_init(w, seed, &options);
    w->members[id].disk.crash_at = n;
    c.fault_us = INT64_MAX;
    c.change_us = w->now_us + 400000;
    run(&c, 700);
    operations = w->members[id].disk.operations;
    if (!w->failed) {
        raftsim_heal(w);
        raftsim_converge(w, 20000);
    }
    return operations;
}
