/* The worker: carries every task of this node through its life, by the engine (DESIGN.md section 9).
 *
 * It asks the task machine (agent/task.h) for the next step whenever something about a task changed, and performs
 * it. Containers that already exist for a task, because shoald was killed or upgraded, are found by their label and
 * adopted. On the node loop. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "engine/engine.h"
#include "proto/base/clock.h"
#include "proto/dispatch.pb-c.h"

struct worker;

struct worker_config {
    uv_loop_t *loop;
    struct engine *engine;
    struct clock *clock;
    const char *node_id; /* borrowed for the worker's life */
    void *ctx;
    /* A task's status is new: report it and remember it. Borrowed for the call. */
    void (*on_status)(void *ctx, const AssignedTask *task, const Status *status);
    /* Nothing is left of the task here. */
    void (*on_forgotten)(void *ctx, const char *task_id);
};

/* The engine must be ready: the containers it knows are looked through once. */
struct worker *worker_new(const struct worker_config *config);

/* No further callbacks; containers go on, pulls are ended, other operations under way are left to the engine. NULL
 * is fine. */
void worker_free(struct worker *w);

/* A task is assigned, or its assignment changed. `status`: what the ledger remembers of it, or NULL. Both are
 * copied. */
void worker_set(struct worker *w, const AssignedTask *task, const AssignedSpec *spec, const Status *status);

/* A spec came from a manager: tasks that wait for its credentials go on. Copied. */
void worker_set_spec(struct worker *w, const AssignedSpec *spec);

/* It is not assigned any more: stop it, remove its container, forget it. No-op for an unknown id. */
void worker_remove(struct worker *w, const char *task_id);

/* The full set has come: containers of this node's tasks that no assignment names are stopped and removed. */
void worker_sweep(struct worker *w);

/* Call for every task with its last status, to report them all anew. */
void worker_each_status(struct worker *w, void (*each)(void *ctx, const AssignedTask *task, const Status *status),
                        void *ctx);

/* Container of a task, or NULL: for logs. */
const char *worker_container(const struct worker *w, const char *task_id);

size_t worker_count(const struct worker *w);
