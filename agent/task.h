/* The agent's task machine: what to do next for one task. Pure (DESIGN.md section 9).
 *
 * The caller says what is known of a task (what the manager wants, what was reported, what its container does, how
 * the last action ended) and is told one step: an action for the worker, a state to report, or both, or nothing. It
 * calls again after each step until nothing is left to do. Rules: reference/swarm-surface.md sections 8 and 16.
 * States only move forward. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/object.pb-c.h"

enum task_container { /* what the engine has for the task */
                      TASK_CONTAINER_NONE,
                      TASK_CONTAINER_CREATED,
                      TASK_CONTAINER_ALIVE,
                      TASK_CONTAINER_EXITED,
};

enum task_action {
    TASK_NOTHING,
    TASK_PULL,   /* bring the image */
    TASK_CANCEL, /* end the pull that is under way */
    TASK_CREATE,
    TASK_START,
    TASK_STOP, /* stop signal, grace, SIGKILL */
    TASK_REMOVE,
    TASK_FORGET, /* nothing is left of it: drop it from memory and ledger */
};

struct task_in {
    bool assigned;                 /* still wanted here at all */
    TaskState desired;             /* by the manager */
    TaskState state;               /* last decided, and reported or about to be */
    bool image_here;               /* the image need not be brought */
    bool image_waits;              /* it cannot be brought before a manager sent the credentials */
    enum task_container container; /* as the engine says */
    int exit_code;                 /* of an exited container */
    bool exit_unknown;             /* it ended while nobody could see how */
    bool oom_killed;
    enum task_action busy;   /* under way; TASK_NOTHING: none */
    enum task_action failed; /* the last action, if it failed; else TASK_NOTHING */
    const struct err *error; /* how */
    unsigned attempts;       /* failures of this action in a row */
    bool told;               /* the manager was told of the last failure */
    int64_t failed_ms;       /* when it failed last */
    int64_t now_ms;          /* same clock */
};

struct task_step {
    enum task_action action;
    bool report;         /* `state` is new, or why it waits */
    TaskState state;     /* unchanged when report is false */
    const char *message; /* with report: static text */
    char err[512];       /* with report: why, or "" */
    int64_t wake_ms;     /* look again at this time; INT64_MAX: only on change */
};

/* "pull", "create"...: for logs. */
const char *task_action_name(enum task_action action);

void task_next(const struct task_in *in, struct task_step *ret);

/* Whether an error of an action may pass by itself, so that trying again is right. */
bool task_error_passes(enum task_action action, const struct err *e);
