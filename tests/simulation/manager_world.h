/* A simulated cluster: managers with the production control loop, planners, store (LMDB in a directory on tmpfs)
 * and Raft driver, on a simulated disk (raft_disk.h), clock and network; agents and clients that are faked here.
 * One thread, one virtual time, one seed. Managers die inside operations on their disks and with their power, disks
 * are full or fail, stores are lost or damaged while a manager is down and discarded while it is up: each time the
 * state is rebuilt from snapshot and log, and must be what it was.
 *
 * After each event the checkers look at what it touched:
 *
 *     digest      managers at equal index hold equal records, over all their lives
 *     index       the warm index equals one rebuilt from the store
 *     laws        one task of a slot is told to run, updates keep to their parallelism, no port twice
 *     forward     no task's state goes back
 *     acked       what a client was told is done is there, once, and stays
 *     answer      no client is told an error that cannot be
 *     open        a manager that crashed opens again, and no change set is discarded
 *     converge    once the faults stop everything wanted runs within bounded time
 *
 * A planted fault (enum msim_plant) breaks what one checker watches, from outside the production code, to prove
 * that it sees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/control.h"
#include "manager/raft/env.h"
#include "proto/base/heap.h"
#include "tests/simulation/raft_disk.h"

enum { MSIM_MANAGERS = 3, MSIM_AGENTS = 5, MSIM_CLIENTS = 4 };

enum msim_plant {
    PLANT_NONE,
    PLANT_DIGEST,   /* one manager's state is changed behind its back */
    PLANT_INDEX,    /* an object reaches the index alone */
    PLANT_LAWS,     /* a port is published by two services */
    PLANT_FORWARD,  /* a status is put back */
    PLANT_ACKED,    /* a client believes in a change that was never made */
    PLANT_ANSWER,   /* a client repeats a lost request under a new id */
    PLANT_CONVERGE, /* the agents never report that a task runs */
    PLANTS
};

struct msim;

struct msim_event {
    struct heap_item due;
    void (*fire)(struct msim *w, struct msim_event *e);
    unsigned manager; /* of which life; 0: of nobody */
    uint64_t life, number;
    void *pointer; /* freed with the event */
    size_t size;
};

struct msim_manager { /* one member, through all its lives */
    struct msim *world;
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
    bool suspected; /* its store's file is said to be damaged: it stops, to be opened again */
    int64_t clock_offset_us, wall_skew_ms;
    int64_t read_us; /* what each look at its clock takes: turns end early on a slow machine */
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

struct msim {
    uint64_t seed;
    struct entropy_seeded random;
    int64_t now_us;
    struct heap events;
    uint64_t event_number;
    unsigned manager_count;
    struct msim_manager managers[MSIM_MANAGERS + 1]; /* from 1 */
    bool cut[MSIM_MANAGERS + 1];                     /* this manager hears nobody and is not heard */
    struct agent *agents[MSIM_AGENTS];
    struct client *clients[MSIM_CLIENTS];
    bool faults;           /* things still go wrong */
    bool spoil;            /* stores of managers that are down may be lost or damaged */
    enum msim_plant plant; /* and whether it is done */
    bool planted;
    uint64_t crash_at; /* manager 1 dies in this operation on its disk; 0: none */
    bool crash_power;
    char failure[512];    /* what broke first; "": nothing */
    struct map64 digests; /* applied index -> digest */
    struct map64 states;  /* task number -> highest state + 1 */
    uint64_t seen;        /* index up to which states were looked at */
    struct {
        uint64_t events, crashes, elections, drafts, acked, unknown, replayed, checks, spoiled, suspected;
    } counts;
};

/* --- the kernel: manager_world.c ------------------------------------------------------------------------ */

struct msim *msim_new(uint64_t seed, unsigned managers, const char *dir);
void msim_free(struct msim *w);

void msim_schedule(struct msim *w, int64_t after_us, struct msim_event e);
bool msim_step(struct msim *w, int64_t until_us); /* false: nothing is left before that time */
void msim_run(struct msim *w, int64_t for_us);

uint64_t msim_below(struct msim *w, uint64_t limit);
bool msim_chance(struct msim *w, unsigned percent);

void msim_fail(struct msim *w, const char *checker, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool msim_broken(const struct msim *w);

void msim_start(struct msim *w, uint64_t id);
void msim_crash(struct msim *w, uint64_t id, bool power);
void msim_suspect(struct msim *w, uint64_t id);
struct msim_manager *msim_leader(struct msim *w); /* NULL: none that serves */
void msim_join(struct msim *w);                   /* the other managers become members */

/* --- checkers: manager_check.c --------------------------------------------------------------------------- */

void msim_check_applied(struct msim_manager *m); /* something was applied */
void msim_check_index(struct msim_manager *m);   /* unless a draft is under way */
void msim_check_opened(struct msim_manager *m);

/* --- agents and clients: manager_actors.c ------------------------------------------------------------------ */

void actors_make(struct msim *w);
void actors_free(struct msim *w);
/* Every client makes one last change that resumes whatever was paused. */
void actors_finish(struct msim *w);
/* Everything the clients asked for is there and runs; if not, `why` says what is missing. */
bool actors_content(struct msim *w, char *why, size_t size);
