/* Stopping, signals, pausing and waiting: see container.h.
 *
 * Each stop is an operation with its own signal and grace; the first grace to end brings SIGKILL, and the
 * container's end answers them all. A stop of what is being started waits until it runs. That a user stopped it is
 * written before the signal is sent, so that a crash between does not bring the container back. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/container/container.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/signal.h"

#define GRACE_DEFAULT_S 10
#define GRACE_UNSENT_MS 2000  /* the signal could not be sent */
#define GIVE_UP_MS      10000 /* after SIGKILL */

/* --- operations ---------------------------------------------------------------------------------- */

struct container_op *container_op_add(struct container *c, struct list *to, engine_done *done, void *ctx)
{
    struct container_op *op = mem_alloc(sizeof(*op));

    op->container = c;
    op->done = done;
    op->ctx = ctx;
    alarm_init(&op->grace);
    list_push(to, &op->link);
    return op;
}

static void deliver_op(struct later *me)
{
    struct container_op *op = container_of(me, struct container_op, later);

    if (op->done)
        op->done(op->ctx, &op->result);
    free(op);
}

void container_op_end(struct container_op *op, const struct err *e)
{
    alarm_clear(&op->grace);
    list_remove(&op->link);
    if (e)
        op->result = *e;
    engine_later(op->container->en, &op->later, deliver_op);
}

void container_ops_end(struct list *ops, const struct err *e)
{
    while (!list_empty(ops))
        container_op_end(list_first(ops, struct container_op, link), e);
}

/* --- signals ------------------------------------------------------------------------------------- */

static int take_signal(const char *text, int *ret, struct err *e)
{
    if (signal_parse(text, ret) < 0)
        return err_set(e, ERR_INVALID, "Invalid signal: %.64s", text);
    return 0;
}

static bool send_signal(struct container *c, int number)
{
    char text[16];
    struct event_attribute about = {"signal", text};
    bool sent = keeper_signal(c->en->keeper, c->record->id, number, NULL) == 0; /* else: it has just ended */

    (void)snprintf(text, sizeof(text), "%d", number);
    container_tell(c, -1, "kill", &about, 1);
    /* What is frozen cannot take a signal, nor die of one. */
    if (c->record->state->paused)
        (void)container_pause(c, false, NULL); /* the grace brings SIGKILL, and that an error */
    return sent;
}

void container_send(struct container *c, int number)
{
    (void)send_signal(c, number); /* by its contract: whoever waits for the end sees that it does not come */
}

static void give_up(struct alarm *m)
{
    struct container_op *op = container_of(m, struct container_op, grace);
    struct err e;

    err_set(&e, ERR_TIMEOUT, "container %s did not end within %d s after SIGKILL", op->container->record->id,
            GIVE_UP_MS / 1000);
    container_op_end(op, &e);
}

void container_give_up_later(struct container_op *op)
{
    op->killed = true;
    alarm_set(&op->container->en->alarms, &op->grace, GIVE_UP_MS, give_up);
}

static void grace_is_over(struct alarm *m)
{
    struct container_op *op = container_of(m, struct container_op, grace);

    container_send(op->container, SIGKILL);
    container_give_up_later(op);
}

static void op_begin(struct container_op *op)
{
    struct container *c = op->container;
    int64_t grace = op->grace_ms;
    bool sent;

    if (grace == 0) {
        container_send(c, SIGKILL);
        container_give_up_later(op);
        return;
    }
    sent = send_signal(c, op->signal);
    if (!sent)
        grace = grace < 0 ? GRACE_UNSENT_MS : MIN(grace, (int64_t)GRACE_UNSENT_MS);
    if (grace > 0)
        alarm_set(&c->en->alarms, &op->grace, (uint64_t)grace, grace_is_over);
}

void container_stops_begin(struct container *c)
{
    struct container_op *op;
    bool by_user = false;

    if (list_empty(&c->stops))
        return;
    list_each (op, &c->stops, link)
        by_user |= !op->start_again;
    if (by_user) {
        c->record->state->has_stopped_by_user = c->record->state->stopped_by_user = true;
        container_save(c);
    }
    list_each (op, &c->stops, link)
        op_begin(op);
}

/* --- stop, restart, kill ------------------------------------------------------------------------- */

static int64_t own_grace_ms(const struct container *c)
{
    const ContainerConfig *config = c->record->config;
    int64_t seconds = config->has_stop_timeout_s ? config->stop_timeout_s : GRACE_DEFAULT_S;

    return seconds < 0 ? -1 : seconds * 1000;
}

/* The wait to be restarted is over without a start. */
static void stay_ended(struct container *c)
{
    alarm_clear(&c->restart);
    c->restart_delay_ms = 0;
    sm_move(&container_machine, &c->life, LIFE_ENDED);
    c->record->state->has_stopped_by_user = c->record->state->stopped_by_user = true;
    container_save(c);
    container_answer_waits(c, false, false);
}

static int stop(struct container *c, const char *signal, int64_t grace_ms, bool start_again, engine_done *done,
                void *ctx, struct err *e)
{
    const char *own = c->record->stop_signal;
    int number = SIGTERM;

    if (!signal || !*signal)
        signal = own && *own ? own : "SIGTERM";
    if (take_signal(signal, &number, e) < 0)
        return ERR_INVALID;
    if (c->life == LIFE_CREATED || c->life == LIFE_ENDED)
        return err_set(e, ERR_NOT_MODIFIED, "container %s is not running", c->record->id);
    struct container_op *op = container_op_add(c, &c->stops, done, ctx);
    if (c->life == LIFE_WAITING) {
        stay_ended(c);
        container_op_end(op, NULL);
        return 0;
    }
    op->signal = number;
    op->grace_ms = grace_ms == ENGINE_GRACE_OWN ? own_grace_ms(c) : grace_ms;
    op->start_again = start_again;
    if (c->life != LIFE_RUNNING)
        return 0; /* once it runs, or with its removal */
    if (!start_again) {
        c->record->state->has_stopped_by_user = c->record->state->stopped_by_user = true;
        container_save(c);
    }
    op_begin(op);
    return 0;
}

int container_stop(struct container *c, const char *signal, int64_t grace_ms, engine_done *done, void *ctx,
                   struct err *e)
{
    return stop(c, signal, grace_ms, false, done, ctx, e);
}

int container_restart(struct container *c, const char *signal, int64_t grace_ms, engine_done *done, void *ctx,
                      struct err *e)
{
    if (c->life == LIFE_RUNNING)
        return stop(c, signal, grace_ms, true, done, ctx, e);
    int rc = container_start(c, done, ctx, e);
    if (rc == 0)
        list_last(&c->starts, struct container_op, link)->start_again = true; /* for the event */
    return rc;
}

/* The signal that users stop it with, or one that they have not told us from it: it shall not come back. */
static bool ends_restarts(const struct container *c, int number)
{
    const char *own = c->record->config->stop_signal;
    int stop;

    return !own || !*own || number == SIGKILL || signal_parse(own, &stop) < 0 || stop == number;
}

int container_kill(struct container *c, const char *signal, int *ret_number, struct err *e)
{
    int number = SIGKILL;

    if (signal && *signal && take_signal(signal, &number, e) < 0)
        return ERR_INVALID;
    if (ret_number)
        *ret_number = number;
    if (c->life == LIFE_WAITING) {
        stay_ended(c);
        return 0;
    }
    if (c->life != LIFE_RUNNING && !(c->life == LIFE_REMOVING && c->record->state->pid))
        return err_set(e, ERR_CONFLICT, "Cannot kill container: %s: container %s is not running", c->record->name,
                       c->record->id);
    if (c->life == LIFE_RUNNING && ends_restarts(c, number) && !c->record->state->stopped_by_user) {
        c->record->state->has_stopped_by_user = c->record->state->stopped_by_user = true;
        container_save(c);
    }
    container_send(c, number);
    return 0;
}

/* --- pause --------------------------------------------------------------------------------------- */

/* Version 1 has freezer.state, version 2 cgroup.freeze. */
static int write_freezer(const struct container *c, bool freeze, struct err *e)
{
    static const char *const files[] = {"freezer.state", "cgroup.freeze"};
    static const char *const values[2][2] = {{"THAWED", "FROZEN"}, {"0", "1"}};
    const char *dir = keeper_cgroup(c->en->keeper, c->record->id, "freezer");

    for (size_t i = 0; dir && i < ARRAY_SIZE(files); i++) {
        AUTO_FREE
        char *path = mem_printf("%s/%s", dir, files[i]);
        AUTO_CLOSE
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0)
            return err_errno(e, "open %s", path);
        return write_all(fd, values[i][freeze], strlen(values[i][freeze]), e);
    }
    return err_set(e, ERR_UNSUPPORTED, "this machine has no freezer for container %s", c->record->id);
}

int container_pause(struct container *c, bool pause, struct err *e)
{
    ContainerState *state = c->record->state;

    if (c->life != LIFE_RUNNING && c->life != LIFE_REMOVING)
        return err_set(e, ERR_CONFLICT, "container %s is not running", c->record->id);
    if (state->paused == pause)
        return err_set(e, ERR_CONFLICT, "container %s is %s", c->record->id,
                       pause ? "already paused" : "not paused");
    int rc = write_freezer(c, pause, e);
    if (rc < 0)
        return err_wrap(e, "cannot %s container %s", pause ? "pause" : "unpause", c->record->id);
    state->has_paused = true;
    state->paused = pause;
    container_save(c);
    container_tell(c, -1, pause ? "pause" : "unpause", NULL, 0);
    return 0;
}

/* --- waiting ------------------------------------------------------------------------------------- */

static void deliver_wait(struct later *me)
{
    struct container_wait *w = container_of(me, struct container_wait, later);

    w->done(w);
}

static void answer(struct container *c, struct container_wait *w)
{
    const ContainerState *state = c->record->state;

    w->code = state->exit_code;
    w->error = NULL;
    if (state->exit_unknown && state->error) {
        (void)snprintf(w->error_text, sizeof(w->error_text), "%s", state->error);
        w->error = w->error_text;
    }
    list_remove(&w->link);
    engine_later(c->en, &w->later, deliver_wait);
}

void container_answer_waits(struct container *c, bool has_ended, bool is_removed)
{
    struct container_wait *w, *after;

    list_each_safe (w, after, &c->waits, link)
        if (is_removed || (w->condition == WAIT_NEXT_EXIT && has_ended) ||
            (w->condition == WAIT_NOT_RUNNING && !container_is_running(c)))
            answer(c, w);
}

void container_wait(struct container *c, struct container_wait *w, enum container_condition condition)
{
    w->condition = condition;
    list_init(&w->later.link);
    list_push(&c->waits, &w->link);
    container_answer_waits(c, false, false);
}

void container_unwait(struct container_wait *w)
{
    list_remove(&w->link);
    list_remove(&w->later.link);
}
