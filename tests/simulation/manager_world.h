/* A simulated cluster: up to seven managers with the production control loop, planners, store (LMDB in a directory
 * on tmpfs) and Raft driver, on simulated disks (raft_disk.h), clocks and links; managers join and leave; agents
 * and clients are made here. One thread, one virtual time, one seed. Managers die inside operations on their disks
 * and with their power, disks are full or fail, slow or hung, links lose, delay, repeat and carry one way only,
 * clocks drift and wall clocks are set, stores are lost or damaged while a manager is down and discarded while it
 * is up.
 *
 * After each event the checkers look at what it touched:
 *
 *     leader      one manager leads in a term
 *     digest      managers at equal index hold equal records, over all their lives
 *     index       the warm index equals one rebuilt from the store
 *     laws        one task of a slot is told to run, updates keep to their parallelism, no port twice
 *     forward     no task's state goes back
 *     agent       no task starts twice, none is stopped that is to run (manager_agents.c)
 *     acked       what a client was told is done is there, once, and stays
 *     answer      no client is told an error that cannot be
 *     linear      what rivals did and saw has an order (linear.h)
 *     open        a manager that crashed opens again, and no change set is discarded
 *     converge    once the faults stop everything wanted runs within bounded time
 *
 * A planted fault (enum msim_plant) breaks what one checker watches, from outside the production code, to prove
 * that it sees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/control.h"
#include "manager/membership.h"
#include "manager/raft/env.h"
#include "proto/base/heap.h"
#include "tests/simulation/linear.h"
#include "tests/simulation/raft_disk.h"

enum {
    MSIM_MANAGERS = 31, /* Raft ids, from 1; none is used twice */
    MSIM_VOTERS = 7,    /* at once */
    MSIM_AGENTS = 5,
    MSIM_CLIENTS = 4,
    MSIM_RIVALS = 3,
    MSIM_OBJECTS = 2,                            /* that rivals fight for */
    MSIM_ENDS = MSIM_MANAGERS + 1 + MSIM_AGENTS, /* of links: managers by id, then agents */
};

enum msim_plant {
    PLANT_NONE,
    PLANT_DIGEST,   /* one manager's state is changed behind its back */
    PLANT_INDEX,    /* an object reaches the index alone */
    PLANT_LAWS,     /* a port is published by two services */
    PLANT_FORWARD,  /* a status is put back */
    PLANT_ACKED,    /* a client believes in a change that was never made */
    PLANT_ANSWER,   /* a client repeats a lost request under a new id */
    PLANT_CONVERGE, /* the agents never report that a task runs */
    PLANT_LINEAR,   /* a rival reads from its store without asking whether the manager leads */
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
    bool removed; /* it was told so */
    bool gone;    /* it was removed from the group, and its log with it: it never starts again */
    uint8_t node_id[16];
    uint64_t epoch;     /* of the cluster, as its node knows it */
    bool force;         /* it is to go on alone */
    uint64_t announced; /* index of the entry that gave it its number */
    struct membership *membership;
    struct dispatcher *dispatcher;
    uint64_t life, boot;
    struct disk disk;
    char address[16];
    char dir[96]; /* of the store, on tmpfs */
    struct store *store;
    struct control *control;
    struct control_watch watch;
    struct err fatal;
    bool suspected; /* its store's file is said to be damaged: it stops, to be opened again */
    int64_t clock_offset_us, wall_skew_ms;
    int clock_drift;                  /* per mille */
    int64_t read_us;                  /* what each look at its clock takes: turns end early on a slow machine */
    int64_t disk_min_us, disk_max_us; /* what an operation takes */
    bool hung;                        /* its disk does not answer */
    int64_t paused_until_us;          /* the process is stopped until then */
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

struct msim_link { /* one way */
    bool cut;
    unsigned drop, twice; /* per mille of the messages */
    int64_t delay_us;     /* at most */
};

/* What a run may count, so that one sees what it reached: see manager_sim.c for the names. */
struct msim_counts {
    uint64_t paused, events, checks, elections, crashes, powers, inside, rivals_lead, drafts_lost, acked, unknown,
        replayed, gave_up, swaps, mismatches, reads, spoiled, suspected, snapshots, installs, cuts, restarts,
        fetches, hung, full, broken, slow_disks, wall_steps, one_way, partitions, isolated, noisy, announced,
        demoted, refused, told_removed, gone, sessions, resyncs, redirects, come_back, started, actions_failed,
        agents_killed, machines_off, forced, orphans;
};

struct agent;
struct dispatcher;
struct people;
struct client;
struct rival;

struct msim_options {
    unsigned managers; /* voters at first */
    bool churn;        /* managers join and leave all the time */
    uint64_t snapshot_bytes, segment_bytes;
    int64_t orphan_ms; /* until the tasks of a node that is down are given up; 0: a day */
};

struct msim {
    uint64_t seed;
    struct msim_options options;
    struct entropy_seeded random;
    int64_t now_us;
    struct heap events;
    uint64_t event_number;
    char dir[64];
    struct msim_manager managers[MSIM_MANAGERS + 1]; /* from 1 */
    unsigned manager_count;                          /* highest id */
    uint64_t epoch;                                  /* of the cluster */
    struct people *people;
    struct list conns;                            /* of agents with managers: manager_conn.c */
    struct msim_link links[MSIM_ENDS][MSIM_ENDS]; /* from, to */
    struct agent *agents[MSIM_AGENTS];
    struct client *clients[MSIM_CLIENTS];
    struct rival *rivals[MSIM_RIVALS];
    bool faults;           /* things still go wrong */
    bool spoil;            /* stores of managers that are down may be lost or damaged */
    enum msim_plant plant; /* and whether it is done */
    bool planted;
    char failure[512];    /* what broke first; "": nothing */
    struct map64 leaders; /* term -> id */
    struct map64 digests; /* applied index -> digest */
    struct map64 states;  /* task number -> highest state + 1 */
    struct map64 tasks;   /* task number -> first bytes of its id */
    struct map64 ended;   /* these -> told to end, or gone */
    bool missed;          /* some changes were not seen: nothing is known of ended tasks */
    uint64_t seen;        /* index up to which states were looked at */
    uint64_t moment;      /* of the rivals' clock */
    struct linear_op *history[MSIM_OBJECTS];
    size_t history_count[MSIM_OBJECTS];
    struct msim_counts counts;
};

/* --- the kernel: manager_world.c ------------------------------------------------------------------------ */

struct msim *msim_new(uint64_t seed, const struct msim_options *options, const char *dir);
void msim_free(struct msim *w);

void msim_schedule(struct msim *w, int64_t after_us, struct msim_event e);
bool msim_step(struct msim *w, int64_t until_us); /* false: nothing is left before that time */
void msim_run(struct msim *w, int64_t for_us);

uint64_t msim_below(struct msim *w, uint64_t limit);
bool msim_chance(struct msim *w, unsigned percent);

void msim_fail(struct msim *w, const char *checker, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool msim_broken(const struct msim *w);

/* --- a manager's environment: manager_env.c --------------------------------------------------------------- */

void msim_env_init(struct msim_manager *m);
void msim_env_drain(struct msim_manager *m); /* run what is left of a life until it has closed */
/* An event of this life of the manager. */
void msim_later(struct msim_manager *m, int64_t after_us, void (*fire)(struct msim *w, struct msim_event *e),
                uint64_t number);

/* --- lives: manager_lives.c -------------------------------------------------------------------------------- */

/* A manager of that number and node, with an empty disk; number 1 founds the cluster. */
struct msim_manager *msim_make(struct msim *w, uint64_t id, const uint8_t node_id[16]);
void msim_start(struct msim *w, uint64_t id);
void msim_start_later(struct msim *w, uint64_t id);
/* All other managers are lost for good, but for `stale` (0: none), which comes back and knows of nothing. This one
 * goes on alone in a new epoch of the cluster. */
void msim_force(struct msim *w, struct msim_manager *survivor, uint64_t stale);
void msim_crash(struct msim *w, uint64_t id, bool power);
void msim_suspect(struct msim *w, uint64_t id);
void msim_reap(struct msim *w);                   /* lives that ended inside an event */
struct msim_manager *msim_leader(struct msim *w); /* NULL: none that serves */

/* --- links: manager_net.c ---------------------------------------------------------------------------------- */

unsigned msim_end_of_agent(unsigned number);
/* Send something one way: fire(event) comes as often as it arrives, with a copy of the bytes. */
void msim_send(struct msim *w, unsigned from, unsigned to, const void *data, size_t size,
               void (*fire)(struct msim *w, struct msim_event *e));
bool msim_connected(const struct msim *w, unsigned a, unsigned b); /* both ways */
/* A request on its way to a manager that may be stopped, or dead when it arrives. */
struct msim_ask {
    struct msim_manager *manager;
    uint64_t life; /* of the manager, when it was asked */
    bool is_late;  /* who asked has given up */
    void (*arrived)(struct msim_ask *a, bool alive);
};
void msim_ask(struct msim *w, struct msim_ask *a, struct msim_manager *m);

void msim_net_heal(struct msim *w);
void msim_net_disturb(struct msim *w); /* something about the links gets worse, or better */
void msim_isolate(struct msim *w, unsigned end);

/* --- who is a manager: manager_people.c -------------------------------------------------------------------- */

void people_make(struct msim *w);
void people_free(struct msim *w);
/* Who is wished to be a manager is one, with a vote, and has everything; nobody else is. */
bool people_content(struct msim *w, char *why, size_t size);

/* --- checkers: manager_check.c --------------------------------------------------------------------------- */

void msim_check_applied(struct msim_manager *m); /* something was applied */
void msim_check_index(struct msim_manager *m);   /* unless a draft is under way */
void msim_check_opened(struct msim_manager *m);
void msim_check_leads(struct msim_manager *m);                       /* it leads now */
void msim_check_history(struct msim *w);                             /* at the end */
bool msim_told_to_end(const struct msim *w, const uint8_t task[16]); /* by what was applied, or nobody knows */

/* --- who uses it: manager_agents.c, manager_clients.c, manager_rivals.c ------------------------------------- */

void agents_make(struct msim *w);
void agents_free(struct msim *w);
/* What the store says runs, and nothing else, runs on their machines. */
bool agents_content(struct msim *w, char *why, size_t size);

void clients_make(struct msim *w);
void clients_free(struct msim *w);
/* Every client makes one last change that resumes whatever was paused. */
void clients_finish(struct msim *w);
/* Everything the clients asked for is there and runs; if not, `why` says what is missing. */
bool clients_content(struct msim *w, char *why, size_t size);

void rivals_make(struct msim *w);
void rivals_free(struct msim *w);
void rivals_finish(struct msim *w); /* one last read each */
bool rivals_content(const struct msim *w, char *why, size_t size);
