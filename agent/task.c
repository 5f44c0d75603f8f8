/* See task.h.
 *
 *   assigned -> accepted -> preparing -> ready -> starting -> running -> complete | failed
 *                              |           |                     |
 *                           rejected    (parked while           shutdown (on request)
 *                                        desired is ready)
 *
 * The order of the questions below is the order of importance: what is not wanted goes first, then what has ended,
 * then the way up. A task whose container turns out to be further than its state (we were killed between starting
 * it and saying so) catches up by itself, because each question looks at the container and not at what we remember
 * having done. */
#include <stdio.h>
#include <string.h>

#include "agent/task.h"

#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS   30000
#define PULLS_MAX      3 /* then another node may have the image, and an update must learn that it fails */

const char *task_action_name(enum task_action action)
{
    static const char *const names[] = {"nothing", "pull", "cancel", "create", "start", "stop", "remove", "forget"};

    return names[action];
}

bool task_error_passes(enum task_action action, const struct err *e)
{
    switch (e->code) {
    case ERR_UNAVAILABLE: /* the keeper is being replaced, the registry does not answer, no space or descriptors now
                           */
    case ERR_TIMEOUT:
    case ERR_CANCELED:
    case ERR_CLOSED:
    case ERR_AGAIN:
        return true;
    case ERR_IO:
        return action == TASK_PULL; /* a connection broke; elsewhere it is the disk */
    case ERR_CONFLICT:
        return action == TASK_REMOVE || action == TASK_STOP; /* something else holds it for a moment */
    default:
        return false;
    }
}

static void report(struct task_step *step, TaskState state, const char *message)
{
    step->report = true;
    step->state = state;
    step->message = message;
}

static int64_t retry_delay_ms(unsigned attempts)
{
    int64_t delay = RETRY_FIRST_MS;

    while (attempts-- > 1 && delay < RETRY_MAX_MS)
        delay *= 2;
    return delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS;
}

static bool tried_again(const struct task_in *in)
{
    if (in->failed == TASK_STOP || in->failed == TASK_REMOVE)
        return true; /* never given up: the container must go */
    return task_error_passes(in->failed, in->error) && !(in->failed == TASK_PULL && in->attempts >= PULLS_MAX);
}

/* A task that waits says why (DESIGN.md section 11), once for each failure. */
static void wait_for_next_try(const struct task_in *in, struct task_step *step)
{
    step->wake_ms = in->failed_ms + retry_delay_ms(in->attempts);
    if (in->now_ms >= step->wake_ms)
        return;
    step->action = TASK_NOTHING;
    if (in->told || !in->assigned)
        return;
    report(step, in->state, "waiting to try again");
    (void)snprintf(step->err, sizeof(step->err), "%s", in->error->text);
}

/* The step would repeat an action that has failed: wait for its next try, or give up. */
static void weigh_failure(const struct task_in *in, struct task_step *step)
{
    if (tried_again(in)) {
        wait_for_next_try(in, step);
        return;
    }
    step->action = TASK_NOTHING;
    (void)snprintf(step->err, sizeof(step->err), "%s", in->error->text); /* cut when longer */
    if (in->state < TASK_STATE__STARTING)
        report(step, TASK_STATE__REJECTED, in->failed == TASK_CREATE ? "preparing" : "pulling image");
    else
        report(step, TASK_STATE__FAILED, "starting");
}

/* It is not ours any more: stop, remove, forget. */
static void go_away(const struct task_in *in, struct task_step *step)
{
    if (in->busy == TASK_PULL)
        step->action = TASK_CANCEL;
    else if (in->busy != TASK_NOTHING)
        return;
    else if (in->container == TASK_CONTAINER_ALIVE)
        step->action = TASK_STOP;
    else if (in->container != TASK_CONTAINER_NONE)
        step->action = TASK_REMOVE;
    else
        step->action = TASK_FORGET;
}

static void shut_down(const struct task_in *in, struct task_step *step)
{
    if (in->busy == TASK_PULL)
        step->action = TASK_CANCEL;
    else if (in->busy != TASK_NOTHING)
        return;
    else if (in->container == TASK_CONTAINER_ALIVE)
        step->action = TASK_STOP;
    else
        report(step, TASK_STATE__SHUTDOWN, "shutdown");
}

static void ended(const struct task_in *in, struct task_step *step)
{
    if (in->exit_unknown) {
        report(step, TASK_STATE__FAILED, "finished");
        (void)snprintf(step->err, sizeof(step->err),
                       "task: exit status unknown: it ended while no daemon was there");
    } else if (in->exit_code == 0) {
        report(step, TASK_STATE__COMPLETE, "finished");
    } else {
        report(step, TASK_STATE__FAILED, "started");
        (void)snprintf(step->err, sizeof(step->err), "task: non-zero exit (%d)%s", in->exit_code,
                       in->oom_killed ? ": out of memory" : "");
    }
}

static void prepare(const struct task_in *in, struct task_step *step)
{
    if (in->state < TASK_STATE__ACCEPTED)
        report(step, TASK_STATE__ACCEPTED, "accepted");
    else if (in->state < TASK_STATE__PREPARING)
        report(step, TASK_STATE__PREPARING, "preparing");
    else if (in->container != TASK_CONTAINER_NONE)
        report(step, TASK_STATE__READY, "prepared");
    else if (in->busy == TASK_NOTHING && (in->image_here || !in->image_waits))
        step->action = in->image_here ? TASK_CREATE : TASK_PULL;
}

/* It is prepared: up to running, or parked until its turn comes. */
static void go_up(const struct task_in *in, struct task_step *step)
{
    if (in->container == TASK_CONTAINER_NONE && in->busy == TASK_NOTHING) {
        /* Somebody removed it. Said also while it is parked: the task that it is to replace must not be stopped. */
        report(step, TASK_STATE__FAILED, in->state < TASK_STATE__RUNNING ? "starting" : "started");
        (void)snprintf(step->err, sizeof(step->err), "task: its container is gone");
    } else if (in->desired < TASK_STATE__RUNNING) {
        return;
    } else if (in->state < TASK_STATE__STARTING) {
        report(step, TASK_STATE__STARTING, "starting");
    } else if (in->busy == TASK_NOTHING && in->container == TASK_CONTAINER_CREATED) {
        step->action = TASK_START;
    }
}

static void decide(const struct task_in *in, struct task_step *step)
{
    if (!in->assigned) {
        go_away(in, step);
        return;
    }
    if (in->state >=
        TASK_STATE__COMPLETE) { /* its container, if any, stays for its logs until the task is deleted */
        if (in->busy == TASK_NOTHING && in->container == TASK_CONTAINER_ALIVE)
            step->action = TASK_STOP;
        return;
    }
    if (in->desired >= TASK_STATE__SHUTDOWN) {
        shut_down(in, step);
        return;
    }
    if (in->container == TASK_CONTAINER_EXITED) {
        ended(in, step);
        return;
    }
    if (in->container == TASK_CONTAINER_ALIVE) {
        if (in->state < TASK_STATE__RUNNING)
            report(step, TASK_STATE__RUNNING, "started");
        return;
    }
    if (in->state < TASK_STATE__READY && in->desired >= TASK_STATE__READY) {
        prepare(in, step);
        return;
    }
    if (in->desired >= TASK_STATE__READY)
        go_up(in, step);
}

void task_next(const struct task_in *in, struct task_step *step)
{
    *step = (struct task_step){.action = TASK_NOTHING, .state = in->state, .message = "", .wake_ms = INT64_MAX};

    decide(in, step);
    if (step->action != TASK_NOTHING && step->action == in->failed)
        weigh_failure(in, step);
}
