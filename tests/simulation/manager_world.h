/* A simulated cluster: managers with the production control loop, planners, store (LMDB in a directory on tmpfs)
 * and Raft driver, on a simulated disk (raft_disk.h), clock and network; agents and clients that are faked here.
 * One thread, one virtual time, one seed.
 *
 * After each event the checkers look at what it touched:
 *
 *     digest      managers at equal index hold equal records, over all their lives
 *     index       the warm index equals one rebuilt from the store
 *     forward     no task's state goes back
 *     acked       what a client was told is done is there, once, and stays
 *     answer      no client is told an error that cannot be
 *     open        a manager that crashed opens again, and no change set is discarded
 *     converge    once the faults stop everything wanted runs within bounded time
 *
 * A planted fault (enum world_plant) breaks what one checker watches, from outside the production code, to prove
 * that it sees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/control.h"
#include "manager/raft/env.h"
#include "proto/base/heap.h"
#include "tests/simulation/raft_disk.h"

enum { WORLD_MANAGERS = 3, WORLD_AGENTS = 5, WORLD_CLIENTS = 4 };

enum world_plant {
    PLANT_NONE,
    PLANT_DIGEST,   /* one manager's state is changed behind its back */
    PLANT_INDEX,    /* an object reaches the index alone */
    PLANT_FORWARD,  /* a status is put back */
    PLANT_ACKED,    /* a client believes in a change that was never made */
    PLANT_ANSWER,   /* a client repeats a lost request under a new id */
    PLANT_CONVERGE, /* the agents never report that a task runs */
    PLANTS
};

struct world;

struct event {
    struct heap_item due;
    void (*fire)(struct world *w, struct event *e);
    unsigned manager; /* of which life; 0: of nobody */
    uint64_t life, number;
    void *pointer; /* freed with the event */
    size_t size;
};

struct manager { /* one member, through all its lives */
    struct world *world;
    uint64_t id; /* Raft's */
    bool made;   /* has a disk */
    bool up;
    uint64_t life, boot;
    struct disk disk;
    char dir[96]; /* of the store, on tmpfs */
    struct store *store;
    struct control *control;
    struct control_watch watch;
    struct err fatal;
    int64_t clock_offset_us, wall_skew_ms;
    /* Its environment, made anew for each life. */
    struct replica_env env;
    struct clock clock;
    struct entropy_seeded entropy;
    struct env_events events;
    struct list jobs[ENV_LANES], done;
    bool running[ENV_LANES], woken, turn_due;
    uint64_t timer, turn; /* generations */
    void (*closed)(void *ctx);
    void *closed_ctx;
    bool control_closed;
    /* Checkers. */
    uint64_t fed; /* index up to which the feed was read */
};

struct agent;
struct client;

struct world {
    uint64_t seed;
    struct entropy_seeded random;
    int64_t now_us;
    struct heap events;
    uint64_t event_number;
    unsigned manager_count;
    struct manager managers[WORLD_MANAGERS + 1]; /* from 1 */
    bool cut[WORLD_MANAGERS + 1];                /* this manager hears nobody and is not heard */
    struct agent *agents[WORLD_AGENTS];
    struct client *clients[WORLD_CLIENTS];
    bool faults;            /* things still go wrong */
    enum world_plant plant; /* and whether it is done */
    bool planted;
    uint64_t crash_at; /* manager 1 dies in this operation on its disk; 0: none */
    bool crash_power;
    char failure[512];    /* what broke first; "": nothing */
    struct map64 digests; /* applied index -> digest */
    struct map64 states;  /* task number -> highest state + 1 */
    uint64_t seen;        /* index up to which states were looked at */
    struct {
        uint64_t events, crashes, elections, drafts, acked, unknown, replayed, checks;
    } counts;
};

/* --- the kernel: manager_world.c ------------------------------------------------------------------------ */

struct world *world_new(uint64_t seed, unsigned managers, const char *dir);
void world_free(struct world *w);

void world_schedule(struct world *w, int64_t after_us, struct event e);
bool world_step(struct world *w, int64_t until_us); /* false: nothing is left before that time */
void world_run(struct world *w, int64_t for_us);

uint64_t world_below(struct world *w, uint64_t limit);
bool world_chance(struct world *w, unsigned percent);

void world_fail(struct world *w, const char *checker, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool world_broken(const struct world *w);

void world_start(struct world *w, uint64_t id);
void world_crash(struct world *w, uint64_t id, bool power);
struct manager *world_leader(struct world *w); /* NULL: none that serves */
void world_join(struct world *w);              /* the other managers become members */

/* --- checkers: manager_check.c --------------------------------------------------------------------------- */

void check_applied(struct manager *m); /* something was applied */
void check_index(struct manager *m);   /* unless a draft is under way */
void check_opened(struct manager *m);

/* --- agents and clients: manager_actors.c ------------------------------------------------------------------ */

void actors_make(struct world *w);
void actors_free(struct world *w);
/* Every client makes one last change that resumes whatever was paused. */
void actors_finish(struct world *w);
/* Everything the clients asked for is there and runs; if not, `why` says what is missing. */
bool actors_content(struct world *w, char *why, size_t size);
