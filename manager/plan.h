/* The planners' language (STYLE.md section 3).
 *
 * A planner reads the index and writes through a plan. What it writes is in the index when the call returns, so
 * each planner sees what the ones before it did, and nothing is decided twice. control.c implements a plan over the
 * store's draft, tests over a map of objects; planners know neither clock nor randomness nor store: time, ids and
 * the end of the turn come through the plan.
 *
 * Planners work off the index's marks in small steps and look at plan_stop between two of them. What is left stays
 * marked, and the next draft goes on there. So a plan may end after any step, and everything a step writes belongs
 * together. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/index.h"
#include "proto/base/arena.h"

#define PLAN_STEP_OBJECTS 16 /* objects one step may write at most, but for those that ask plan_room themselves */

struct plan_backend {
    /* ERR_NOT_FOUND when absent; the message is borrowed until the plan ends. */
    int (*get)(void *ctx, enum kind k, uint64_t number, struct object *ret);
    uint64_t (*create)(void *ctx, enum kind k, const ProtobufCMessage *message);
    void (*put)(void *ctx, enum kind k, uint64_t number, const ProtobufCMessage *message);
    void (*remove)(void *ctx, enum kind k, uint64_t number);
    void (*ident)(void *ctx, uint8_t ret[IDENT_BYTES]); /* a new random id */
    size_t (*room)(void *ctx);                          /* objects that may still be written */
    bool (*late)(void *ctx);                            /* the turn is over */
};

struct plan {
    struct index *index;
    int64_t now_ms;  /* cluster time of this draft */
    int64_t wall_ns; /* for the timestamps of statuses */
    struct arena *arena;
    const struct plan_backend *backend;
    void *ctx;
    int64_t orphan_ms; /* a node is down for so long before its tasks are given up; 0: 24 hours */
    size_t reserve;    /* objects that must stay free: set by whoever runs the planners */
};

/* No further step: the draft is full or the turn is over. */
bool plan_stop(const struct plan *p);
/* Objects that the present step may write. */
size_t plan_room(const struct plan *p);

/* --- objects ------------------------------------------------------------------------------------------ */

/* The message, borrowed until the plan ends; NULL when absent. To change one: a shallow copy (*message), its
 * members set, plan_put. */
const Cluster *plan_cluster(const struct plan *p);
const Node *plan_node(const struct plan *p, uint64_t number);
const Service *plan_service(const struct plan *p, uint64_t number);
const Spec *plan_spec(const struct plan *p, const struct index_spec *spec);
const Task *plan_task(const struct plan *p, uint64_t number);
const Status *plan_status(const struct plan *p, uint64_t number); /* by the task's number */

uint64_t plan_create(struct plan *p, enum kind k, const void *message);
void plan_put(struct plan *p, enum kind k, uint64_t number, const void *message);
void plan_remove(struct plan *p, enum kind k, uint64_t number);
ProtobufCBinaryData plan_ident(struct plan *p); /* 16 random bytes in the arena */

/* --- tasks -------------------------------------------------------------------------------------------- */

struct plan_new_task {
    const struct index_service *service; /* of its present spec */
    uint64_t slot;                       /* 0: none (global) */
    uint64_t node;                       /* 0: the scheduler's choice */
    TaskState desired;
    int64_t start_at_ms;
    uint64_t predecessor;
    bool restarted;
};

/* A task in state NEW with its status. Two objects. */
struct index_task *plan_new_task(struct plan *p, const struct plan_new_task *task);

/* Nothing is written when it is so already. One object. */
void plan_set_desired(struct plan *p, struct index_task *t, TaskState desired);

/* The scheduler's answer: node and state ASSIGNED. Two objects. */
void plan_assign(struct plan *p, struct index_task *t, const struct index_node *node, const char *message);

/* What the system itself has to say of a task. `err` NULL or "": none. Nothing is written when only the time would
 * change. One object. */
void plan_set_status(struct plan *p, struct index_task *t, TaskState state, const char *message, const char *err);

/* Both records. */
void plan_remove_task(struct plan *p, struct index_task *t);

/* What an agent on `node` says of a task. Ignored (false) when the task is not there or not assigned to that
 * node, when the state goes back, or when nothing is new. One object. */
bool plan_report(struct plan *p, const struct index_node *node, const uint8_t task_id[16], const Status *status);
