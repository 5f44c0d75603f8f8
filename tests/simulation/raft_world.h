/* A simulated world of Raft members: one virtual clock, a network that loses, delays, repeats and reorders, disks
 * that tear (raft_disk.h), processes that die; and the production code of manager/raft on top of it, unchanged.
 *
 * Everything comes from one seed. After each event the checkers look at the member it concerned:
 *
 *     leader      at most one leader in a term
 *     vote        a member votes for one candidate in a term, over all its lives
 *     log         an index and a term have one content and one predecessor everywhere
 *     applied     what is applied at an index never differs, nor does the state after it
 *     acked       what was acknowledged is what was applied, and stays
 *     durable     what was reported durable is there after a crash
 *     read        a strong read sees everything acknowledged before it
 *     converge    once the faults stop everybody agrees in bounded time
 *     open        a member that crashed opens again
 *     fatal       nothing stops for a reason of its own
 *
 * The store is a stand-in: a hash over what was applied, kept over a kill and lost with the power, as LMDB without
 * sync is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/raft/driver.h"
#include "proto/base/entropy.h"
#include "tests/simulation/raft_disk.h"

#define WORLD_MEMBERS 12 /* ids are 1 to this */

struct world;

struct world_event {
    int64_t at_us;
    uint64_t sequence;
    void (*fire)(struct world *w, struct world_event *event);
    void (*drop)(struct world_event *event); /* frees what it holds; may be NULL */
    unsigned member;                         /* index, for events of one life */
    uint64_t life;
    void *pointer;
    size_t size;
    uint64_t number;
};

struct world_env { /* of one life */
    struct replica_env base;
    struct clock clock;
    struct entropy_seeded entropy;
    struct world *world;
    unsigned member;
    struct env_events events;
    bool attached, woken, dead;
    uint64_t timer; /* generation */
    struct list jobs[ENV_LANES], done;
    bool running[ENV_LANES];
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct world_member {
    uint64_t id;
    bool exists;   /* was made */
    bool damaged;  /* a byte of its disk was changed */
    bool lost;     /* and so it does not open: it never comes back */
    bool removed;  /* from the group, for good */
    uint64_t life; /* number of starts */
    struct disk disk;
    struct world_env *env;   /* NULL: down */
    struct replica *replica; /* NULL: down */
    bool closed;
    int64_t clock_offset_us;
    int clock_drift; /* per mille */
    bool hung;       /* its disk does not answer */
    int64_t disk_min_us, disk_max_us;

    uint64_t applied, state; /* the store: index, hash over all */
    uint64_t restoring;      /* bytes of a snapshot so far */
    uint8_t restored[64];
    bool leads; /* told by on_state */
    uint64_t told_term;

    /* What the checkers remember of it. */
    uint64_t stored, stored_term; /* reported durable at the last crash */
    uint64_t *votes;              /* by term */
    size_t votes_max;
    uint64_t *seen; /* by index: term of the entry last seen in its log */
    size_t seen_max;
    uint64_t cuts; /* of its log, when it was looked at last */
};

struct world_entry {               /* what the world knows of an index */
    uint64_t term, content, state; /* applied; term 0: not yet */
    uint64_t acked;                /* content acknowledged; 0: none */
    struct world_version {
        uint64_t term, content, before; /* of a log entry seen: its term, its content, its predecessor's term */
    } * versions;
    size_t version_count;
};

struct world_options {
    unsigned voters, members; /* at the start */
    int election_ms, heartbeat_ms;
    uint64_t segment_bytes, snapshot_bytes;
};

struct world_counts { /* rare states, summed over worlds */
    uint64_t events, entries, acked, reads, elections, crashes, powers, torn, unsaid, kills_inside, cuts, snapshots,
        installs, restarts, fetches, refused, changes, promotes, removes, transfers, full_refusals,
        failed_proposals, held, segments_new, marks_clean, gone, dropped, doubled, refused_open, lost_terms,
        two_leaders, old_uncommitted, longer_elsewhere, guards[GUARDS];
};

struct world {
    struct world_options options;
    uint64_t seed;
    int64_t now_us;
    struct entropy_seeded entropy;
    struct world_event **heap;
    size_t heap_count, heap_capacity;
    uint64_t sequence;

    struct world_member members[WORLD_MEMBERS + 1]; /* by id */
    uint8_t key[SEAL_KEY], cluster[16];

    unsigned drop, twice; /* per mille of the messages */
    int64_t delay_min_us, delay_max_us;
    bool cut[WORLD_MEMBERS + 1][WORLD_MEMBERS + 1]; /* from, to */
    /* Directed schedules look at each message: false drops it. */
    bool (*filter)(struct world *w, uint64_t from, uint64_t to, const struct message *m);

    struct world_entry *entries; /* by index */
    size_t entries_max;
    uint64_t *leaders; /* by term */
    size_t leaders_max;
    uint64_t lead_term;      /* highest term with a leader */
    uint64_t voter;          /* who granted a vote last; a scenario may clear it */
    uint64_t top, acked_top; /* highest index applied, acknowledged */
    uint64_t payload;        /* number of the next proposal */

    bool trace; /* print every message (RAFT_SIM_TRACE) */
    bool failed;
    char why[600];
    struct world_counts counts;
};

uint64_t raftsim_random(struct world *w, uint64_t low, uint64_t high); /* both included */
bool raftsim_chance(struct world *w, unsigned in);                     /* one in so many */
void raftsim_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void raftsim_init(struct world *w, uint64_t seed, const struct world_options *options);
void raftsim_fini(struct world *w);

/* Make a member's directory: of the first configuration of all voters, or empty. And start it. */
void raftsim_make(struct world *w, uint64_t id, bool voter);
void raftsim_start(struct world *w, uint64_t id);
void raftsim_crash(struct world *w, uint64_t id, bool power); /* no-op when down */
void raftsim_close(struct world *w, uint64_t id);             /* in order; it ends within the call */
/* Of a member that is down: as if elections had raised its term. */
void raftsim_set_term(struct world *w, uint64_t id, uint64_t term);
bool raftsim_up(const struct world *w, uint64_t id);
struct replica *raftsim_replica(const struct world *w, uint64_t id);

/* Fire the next event, if there is one before `until_us`; time advances to it, or to until_us. */
bool raftsim_step(struct world *w, int64_t until_us);
void raftsim_run(struct world *w, int64_t ms); /* stops early when a checker failed */
/* Run until the condition holds; false when it does not within so many milliseconds. */
bool raftsim_until(struct world *w, int64_t ms, bool (*holds)(struct world *w, void *ctx), void *ctx);

uint64_t raftsim_leader(const struct world *w);                  /* announced, of the highest term; 0: none */
uint64_t raftsim_core_leader(const struct world *w);             /* by the cores */
bool raftsim_propose(struct world *w, uint64_t id, size_t size); /* false when refused */
bool raftsim_read(struct world *w, uint64_t id);

void raftsim_heal(struct world *w); /* network and disks; starts who is down */
/* After heal: wait for agreement, then check that nothing acknowledged is missing. */
void raftsim_converge(struct world *w, int64_t ms);

void raftsim_schedule(struct world *w, struct world_event event, int64_t after_us);
void raftsim_dump(const struct world *w); /* to stderr */
