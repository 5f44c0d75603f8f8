/* A cluster in memory for tests of planners: objects in a map, an index, a plan over both, and agents that do what
 * they are told. No store, no loop, no time but what the test sets.
 *
 * Every write is kept, so that a test can undo and look whether the index follows. Builders take designated
 * members: fake_node(f, (struct fake_node){.hostname = "n1", .labels = "zone=a"}). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/plan.h"
#include "manager/scheduler/scheduler.h"
#include "proto/base/entropy.h"

struct fake_object;
struct fake_change;

struct fake {
    struct index *index;
    struct plan plan;
    struct scheduler *scheduler;
    struct arena arena;          /* all messages ever written */
    struct map64 objects;        /* kind << 56 | number -> struct fake_object */
    struct fake_change *journal; /* oldest first */
    size_t journal_count, journal_room;
    uint64_t next_number;
    size_t room;       /* objects left in this round */
    size_t round_room; /* objects per round; 2,000 at first */
    uint32_t late_in;  /* looks at the clock until the turn is over; 0: never */
    struct entropy_seeded random;
};

struct fake *fake_new(uint64_t seed);
void fake_free(struct fake *f);

/* --- builders ------------------------------------------------------------------------------------------- */

struct fake_node {
    const char *hostname, *labels, *engine_labels, *plugins, *os, *architecture, *address, *generic;
    int64_t nano_cpus, memory_bytes;
    NodeRole role;
    NodeAvailability availability;
    NodeState state; /* UNKNOWN (0): UP */
};
uint64_t fake_node(struct fake *f, struct fake_node n);
void fake_node_set(struct fake *f, uint64_t number, struct fake_node n); /* everything as given */
void fake_node_state(struct fake *f, uint64_t number, NodeState state);
void fake_node_availability(struct fake *f, uint64_t number, NodeAvailability availability);
void fake_node_labels(struct fake *f, uint64_t number, const char *labels);
void fake_node_remove(struct fake *f, uint64_t number);

struct fake_service {
    const char *name, *image;
    ServiceMode mode;
    uint64_t replicas;
    const char *constraints; /* separated by ',' */
    const char *preferences;
    const char *platforms; /* "linux/amd64" */
    uint64_t max_replicas;
    int64_t nano_cpus, memory_bytes; /* reserved */
    const char *generic;             /* "gpu=2" */
    const char *log_driver, *volume_driver;
    uint32_t host_port, mesh_port; /* 0: none */
    bool automatic_port;
    RestartCondition condition;
    bool has_condition; /* else any */
    int64_t delay_ms;   /* -1: absent */
    uint64_t attempts;
    int64_t window_ms;
    bool has_update;
    uint64_t parallelism;
    int64_t update_delay_ms, monitor_ms;
    UpdateFailureAction failure_action;
    float failure_ratio;
    UpdateOrder order;
    const char *registry_auth;
};
uint64_t fake_service(struct fake *f, struct fake_service s);
ServiceSpec *fake_spec(struct fake *f, struct fake_service s);
void fake_service_update(struct fake *f, uint64_t number, struct fake_service s);
void fake_service_remove(struct fake *f, uint64_t number);
void fake_history_limit(struct fake *f, int64_t limit);

/* --- time and turns --------------------------------------------------------------------------------------- */

/* One round: orchestrator, allocator, scheduler, as control.c runs them. Returns how many objects it wrote. */
size_t fake_round(struct fake *f);
/* Rounds until nothing is written; asserts that they end. Returns how many wrote something. */
size_t fake_settle(struct fake *f);
/* Agents of nodes that are up take each task to where it is wanted (READY, RUNNING, SHUTDOWN), at most `steps`
 * states further. Returns how many reports were new. */
size_t fake_agents(struct fake *f, unsigned steps);
/* Agents and rounds in turn until nothing moves. */
void fake_converge(struct fake *f);
void fake_advance(struct fake *f, int64_t ms); /* time passes, then fake_settle */

/* --- looking ----------------------------------------------------------------------------------------------- */

/* What an agent says of a task. */
void fake_report(struct fake *f, uint64_t task, TaskState state, const char *err);
/* Move a task to a state, each state on the way reported. */
void fake_bring(struct fake *f, uint64_t task, TaskState state);

const Task *fake_task(struct fake *f, uint64_t number);
const Status *fake_status(struct fake *f, uint64_t number);
const Service *fake_service_object(struct fake *f, uint64_t number);

/* The newest task of a slot (0 when there is none). Slot 0 with a node: of a global service. */
uint64_t fake_newest(struct fake *f, uint64_t service, uint64_t slot, uint64_t node);
/* Tasks of a service with this desired state and at least this state. */
unsigned fake_count(struct fake *f, uint64_t service, TaskState desired, TaskState at_least);
unsigned fake_count_on(struct fake *f, uint64_t service, uint64_t node); /* to run there */

size_t fake_mark(const struct fake *f);
void fake_undo(struct fake *f, size_t mark);

/* The warm index equals one built from the objects; and planning everything once more would write nothing. */
void fake_check(struct fake *f);
void fake_check_settled(struct fake *f);
