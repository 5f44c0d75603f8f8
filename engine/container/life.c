/* Starting, ending and starting again: see container.h for the states.
 *
 * A start is: open what is needed and hand it to the keeper (launch.c), answer in container_launched. The record is
 * written soon after the program runs and soon after it has ended, so a container that lives shortly costs no file
 * for either; until then the keeper is the authority (its own files say what ran and how it ended, until it is told
 * to forget), and a crash of this program is repaired by what the keeper reports at the next start
 * (containers_on_found):
 *
 * - it runs, and the record does not know yet: the crash came before the record was written; adopted.
 * - it has ended, and the record does not know yet: code and time are the keeper's, which keeps them until the
 * record is written and keeper_forget was said.
 * - the record says it runs and the keeper knows nothing: nobody saw how it ended. That is said; never a code of 0.
 *
 * Callers are answered, watchers told and waits ended later (engine_later), so nothing calls in from within. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/container/container.h"
#include "engine/container/plug.h"
#include "engine/container/restart.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define EXIT_NOT_FOUND  127
#define EXIT_DENIED     126
#define EXIT_NOT_BEGUN  128
#define EXIT_IS_UNKNOWN 255

static const char unknown_text[] = "exit status unknown: the container ended while nobody could see how";

static void set_text(char **slot, const char *text)
{
    free(*slot);
    *slot = text ? mem_strdup(text) : NULL;
}

/* Start time of a process in clock ticks, so that a reused pid is told apart; 0 when there is none. */
static uint64_t process_start(int pid)
{
    char path[32], text[1024];
    AUTO_CLOSE
    int fd = -1;
    uint64_t start;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (size <= 0)
        return 0;
    text[size] = '\0';
    /* The name in parentheses may hold anything, so fields are counted from the last one. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at && sscanf(at, "%" SCNu64, &start) == 1 ? start : 0;
}

static void volume_events(struct container *c, const char *action)
{
    for (size_t i = 0; i < c->record->n_mounts; i++) {
        const MountPoint *p = c->record->mounts[i];
        struct event_attribute about[] = {
            {"driver", "local"},
            {"container", c->record->id},
            {"destination", p->target},
            {"propagation", p->propagation},
            {"read/write", p->read_only ? "false" : "true"},
        };

        if (p->type == MOUNT_TYPE__VOLUME)
            engine_event(c->en, "volume", action, p->volume, about, *action == 'm' ? ARRAY_SIZE(about) : 2);
    }
}

/* --- starting ------------------------------------------------------------------------------------ */

static void set_failed(struct container *c, const struct err *e)
{
    ContainerState *state = c->record->state;

    state->has_exit_code = true;
    state->exit_code = e->code == ERR_NOT_FOUND ? EXIT_NOT_FOUND
                       : e->code == ERR_DENIED  ? EXIT_DENIED
                                                : EXIT_NOT_BEGUN;
    set_text(&state->error, e->text);
}

static void on_restart(struct alarm *m);

/* Where it goes after an end or a start that failed: to rest, or to wait for the next start. */
static void rest_or_wait(struct container *c, bool failed, int64_t ran_ms)
{
    const HostConfig *host = c->record->config->host;
    ContainerState *state = c->record->state;
    struct restart_in in = {
        .rule = host ? host->restart : NULL,
        .failed = failed,
        .stopped_by_user = state->stopped_by_user,
        .count = state->restart_count,
        .ran_ms = ran_ms,
        .delay_ms = c->restart_delay_ms,
    };
    int64_t delay = c->remove_ended ? -1 : restart_after(&in);

    if (delay < 0) {
        sm_move(&container_machine, &c->life, LIFE_ENDED);
        c->restart_delay_ms = 0;
        return;
    }
    sm_move(&container_machine, &c->life, LIFE_WAITING);
    c->restart_delay_ms = delay;
    state->has_restart_count = true;
    state->restart_count++;
    alarm_set(&c->en->alarms, &c->restart, (uint64_t)delay, on_restart);
}

/* It is at rest: what was put off until then. */
static void settle(struct container *c)
{
    const HostConfig *host = c->record->config->host;
    struct err e = {0};

    if (c->life != LIFE_ENDED && c->life != LIFE_CREATED)
        return;
    if (c->remove_ended || (host && host->auto_remove)) {
        if (container_remove(c, false, c->remove_ended ? c->remove_volumes : true, NULL, NULL, &e) < 0)
            log_warn("a container that has ended could not be removed", "container=%s error=\"%s\"", c->record->id,
                     e.text);
    }
}

static void start_failed(struct container *c, struct err *e)
{
    bool automatic = c->restart_delay_ms > 0;

    plug_out(c);
    set_failed(c, e);
    /* "docker run" tells 127 and 126 by these words. */
    if (e->code == ERR_NOT_FOUND && strstr(e->text, "executable file not found"))
        e->code = ERR_INVALID;
    else if (e->code == ERR_DENIED && strstr(e->text, "permission denied"))
        e->code = ERR_INVALID;
    else if (e->code == ERR_NOT_FOUND)
        err_set(e, ERR_INVALID, "%s: exec: \"%s\": executable file not found in $PATH or no such file or directory",
                c->record->state->error, c->record->argv[0]);
    else if (e->code == ERR_DENIED)
        err_set(e, ERR_INVALID, "%s: exec: \"%s\": permission denied", c->record->state->error, c->record->argv[0]);
    err_wrap(e, "failed to start container %.12s", c->record->id);
    if (automatic) {
        log_warn("a container could not be restarted", "container=%s error=\"%s\"", c->record->id, e->text);
        rest_or_wait(c, true, 0);
    } else {
        sm_move(&container_machine, &c->life, c->record->state->started_ns ? LIFE_ENDED : LIFE_CREATED);
    }
    container_save(c);
    container_ops_end(&c->starts, e);
    container_ops_end(&c->stops, NULL);
    container_answer_waits(c, false, false);
    settle(c);
}

/* From rest or from waiting. On an error the container has been put back and the error noted. */
static int begin(struct container *c, struct err *e)
{
    struct err why = {0};

    sm_move(&container_machine, &c->life, LIFE_STARTING);
    if (c->forget_exit)
        container_save(c); /* the keeper still holds the last end, until it is written */
    if (c->forget_exit)
        err_set(&why, ERR_IO, "the record of its last end cannot be written");
    else if (launch_begin(c, &why) == 0)
        return 0;
    start_failed(c, &why);
    return err_set(e, why.code, "%s", why.text);
}

int container_start(struct container *c, engine_done *done, void *ctx, struct err *e)
{
    if (c->life == LIFE_RUNNING)
        return c->record->state->paused
                   ? err_set(e, ERR_CONFLICT, "cannot start a paused container, try unpause instead")
                   : err_set(e, ERR_NOT_MODIFIED, "container %s is running", c->record->id);
    if (c->life == LIFE_REMOVING || c->is_dead)
        return err_set(e, ERR_CONFLICT, "container is marked for removal and cannot be started");
    if (c->life != LIFE_STARTING) {
        alarm_clear(&c->restart);
        c->restart_delay_ms = 0;
        c->record->state->restart_count = 0;
        c->record->state->stopped_by_user = false;
        int rc = begin(c, e);
        if (rc < 0)
            return rc;
    }
    container_op_add(c, &c->starts, done, ctx);
    return 0;
}

static void on_restart(struct alarm *m)
{
    struct container *c = container_of(m, struct container, restart);
    struct err e = {0};

    if (!c->en->is_ready) { /* it ended while nobody looked, and the keeper is still telling what it found */
        alarm_set(&c->en->alarms, m, RESTART_DELAY_MIN_MS, on_restart);
        return;
    }
    (void)begin(c, &e); /* start_failed has said it and seen to what comes next */
}

static void set_console(struct container *c)
{
    const HostConfig *host = c->record->config->host;
    int terminal = keeper_terminal(c->en->keeper, c->record->id);
    struct winsize size;

    if (terminal < 0 || !host || !host->console_height || !host->console_width)
        return;
    size = (struct winsize){.ws_row = (unsigned short)host->console_height,
                            .ws_col = (unsigned short)host->console_width};
    (void)ioctl(terminal, TIOCSWINSZ, &size); /* a terminal of another size is no reason to end anything */
}

static void set_alive(struct container *c, int pid, const char *sandbox, int64_t started_ns)
{
    ContainerState *state = c->record->state;

    state->status = CONTAINER_STATUS_KIND__ALIVE;
    state->has_pid = true;
    state->pid = pid;
    state->has_pid_start = true;
    state->pid_start = process_start(pid);
    state->exit_code = 0;
    state->exit_unknown = state->oom_killed = state->paused = false;
    state->has_started_ns = true;
    state->started_ns = started_ns;
    set_text(&state->error, NULL);
    set_text(&state->sandbox, sandbox);
    c->started_mono_ms = (int64_t)uv_now(c->en->loop);
}

static bool was_restarted(const struct container *c)
{
    const struct container_op *op;

    list_each (op, &c->starts, link)
        if (op->start_again)
            return true;
    return false;
}

void container_launched(struct container *c, const struct err *e, int pid, const char *sandbox, int64_t started_ns)
{
    c->launch = NULL;
    if (e && e->code) {
        struct err why = *e;

        start_failed(c, &why);
        return;
    }
    sm_move(&container_machine, &c->life, LIFE_RUNNING);
    set_alive(c, pid, sandbox, started_ns);
    container_save_soon(c);
    if (c->record->config->tty)
        set_console(c);
    if (c->stdin_ended)
        keeper_close_stdin(c->en->keeper, c->record->id);
    c->stdin_ended = false;
    volume_events(c, "mount");
    container_tell(c, ENGINE_STARTED, "start", NULL, 0);
    if (was_restarted(c))
        container_tell(c, -1, "restart", NULL, 0);
    container_ops_end(&c->starts, NULL);
    if (c->remove_ended)
        container_send(c, SIGKILL);
    else
        container_stops_begin(c);
}

/* --- ending -------------------------------------------------------------------------------------- */

static void set_ended(struct container *c, const struct keeper_exit *exit)
{
    ContainerState *state = c->record->state;

    state->status = CONTAINER_STATUS_KIND__EXITED;
    state->pid = 0;
    state->pid_start = 0;
    state->paused = false;
    state->has_exit_code = state->has_exit_unknown = state->has_oom_killed = state->has_finished_ns = true;
    state->exit_code = exit->unknown ? EXIT_IS_UNKNOWN : exit->code;
    state->exit_unknown = exit->unknown;
    state->oom_killed = exit->oom_killed;
    state->finished_ns = exit->ended_ns;
    set_text(&state->error, exit->unknown ? unknown_text : NULL);
}

static void tell_ended(struct container *c)
{
    const ContainerState *state = c->record->state;
    char code[16], seconds[24];
    struct event_attribute about[] = {{"exitCode", code}, {"execDuration", seconds}};

    (void)snprintf(code, sizeof(code), "%d", (int)state->exit_code);
    (void)snprintf(seconds, sizeof(seconds), "%" PRId64,
                   MAX((state->finished_ns - state->started_ns) / 1000000000, (int64_t)0));
    if (state->oom_killed)
        container_tell(c, ENGINE_OOM, "oom", NULL, 0);
    container_tell(c, ENGINE_DIED, "die", about, ARRAY_SIZE(about));
    volume_events(c, "unmount");
    if (!list_empty(&c->stops))
        container_tell(c, -1, "stop", NULL, 0);
}

/* The newest wish counts. */
static bool wants_start_again(const struct container *c)
{
    return !list_empty(&c->stops) && list_last(&c->stops, struct container_op, link)->start_again;
}

static void start_again(struct container *c)
{
    struct container_op *op, *after;
    struct err e = {0};

    list_each_safe (op, after, &c->stops, link) {
        alarm_clear(&op->grace);
        if (!op->start_again) {
            container_op_end(op, NULL);
            continue;
        }
        list_remove(&op->link);
        list_push(&c->starts, &op->link); /* answered when it runs */
    }
    c->record->state->stopped_by_user = false;
    c->record->state->restart_count = 0;
    c->restart_delay_ms = 0;
    (void)begin(c, &e); /* start_failed has said it */
}

/* RUNNING, or REMOVING while it still ran: it has ended. */
static void ended(struct container *c, const struct keeper_exit *exit)
{
    int64_t ran_ms = (int64_t)uv_now(c->en->loop) - c->started_mono_ms;
    bool again = wants_start_again(c) && !c->remove_ended && c->life != LIFE_REMOVING;

    c->unconfirmed = false;
    plug_out(c);
    set_ended(c, exit);
    if (c->life == LIFE_REMOVING) {
        tell_ended(c);
        container_ops_end(&c->stops, NULL);
        container_answer_waits(c, true, false);
        container_remove_now(c);
        return;
    }
    if (again)
        sm_move(&container_machine, &c->life, LIFE_ENDED);
    else
        rest_or_wait(c, exit->unknown || exit->code != 0, ran_ms);
    c->forget_exit = true; /* once the record is written */
    container_save_soon(c);
    tell_ended(c);
    container_answer_waits(c, true, false);
    if (again) {
        start_again(c);
        return;
    }
    container_ops_end(&c->stops, NULL);
    settle(c);
}

void containers_on_exit(struct engine *en, const char *id, const struct keeper_exit *exit)
{
    struct container *c;

    if (en->closing)
        return; /* the next engine is told */
    c = map_get(&en->containers->by_id, id);
    if (c && (c->life == LIFE_RUNNING || c->life == LIFE_REMOVING))
        ended(c, exit);
    else
        keeper_forget(en->keeper, id); /* removed, or reported twice */
}

/* --- after a start of this program ---------------------------------------------------------------- */

static void found_running(struct container *c, const struct keeper_found *found)
{
    bool was_known = c->unconfirmed && c->record->state->started_ns == found->started_ns;

    c->unconfirmed = false;
    if (c->life == LIFE_REMOVING) {
        (void)keeper_signal(c->en->keeper, c->record->id, SIGKILL, NULL); /* else: it has just ended */
        return;
    }
    if (was_known)
        return;
    if (c->life != LIFE_RUNNING)
        sm_move(&container_machine, &c->life, LIFE_RUNNING);
    set_alive(c, found->pid, found->sandbox, found->started_ns);
    container_save(c);
    container_tell(c, ENGINE_STARTED, "start", NULL, 0);
}

static void found_ended(struct container *c, const struct keeper_found *found)
{
    const ContainerState *state = c->record->state;
    bool was_known = state->status == CONTAINER_STATUS_KIND__EXITED && state->finished_ns == found->exit->ended_ns;

    if (was_known) {
        keeper_forget(c->en->keeper, c->record->id);
        return;
    }
    if (c->life == LIFE_REMOVING)
        return; /* containers_on_ready goes on */
    if (c->life != LIFE_RUNNING) {
        sm_move(&container_machine, &c->life, LIFE_RUNNING);
        set_alive(c, found->pid, found->sandbox, found->started_ns);
    }
    c->started_mono_ms =
        (int64_t)uv_now(c->en->loop) - (found->exit->ended_ns - found->started_ns) / 1000000; /* how long it ran */
    ended(c, found->exit);
}

void containers_on_found(struct engine *en, const struct keeper_found *found)
{
    struct container *c;

    if (en->closing)
        return;
    c = map_get(&en->containers->by_id, found->id);
    if (!c && found->exit) {
        keeper_forget(en->keeper, found->id);
    } else if (!c) {
        log_warn("a container that nobody knows is ended", "container=%s pid=%d", found->id, found->pid);
        (void)keeper_signal(en->keeper, found->id, SIGKILL, NULL); /* else: it has just ended */
    } else if (found->exit) {
        found_ended(c, found);
    } else {
        found_running(c, found);
    }
}

/* A process that its keeper lost must not live beside the next one of that container. */
static void kill_lost(const struct container *c)
{
    const ContainerState *state = c->record->state;
    AUTO_CLOSE
    int fd = state->pid > 0 ? (int)syscall(SYS_pidfd_open, state->pid, 0) : -1;

    if (fd < 0 || !state->pid_start || process_start(state->pid) != state->pid_start)
        return;
    log_warn("a container whose keeper is gone is ended", "container=%s pid=%d", c->record->id, (int)state->pid);
    (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0); /* else: it has just ended */
}

static void start_at_open(struct container *c)
{
    const HostConfig *host = c->record->config->host;
    const ContainerState *state = c->record->state;
    struct restart_in in = {
        .rule = host ? host->restart : NULL,
        .failed = state->exit_unknown || state->exit_code != 0,
        .stopped_by_user = state->stopped_by_user,
        .count = state->restart_count,
    };
    struct err e = {0};

    if (c->life != LIFE_ENDED || c->is_dead || !state->started_ns)
        return;
    if (restart_at_open(&in)) {
        c->record->state->stopped_by_user = false;
        c->restart_delay_ms = RESTART_DELAY_MIN_MS; /* nobody waits for an answer */
        (void)begin(c, &e);                         /* start_failed has said it */
    } else {
        settle(c);
    }
}

void containers_on_ready(struct engine *en)
{
    struct container *c, *after;

    if (en->closing)
        return;
    list_each_safe (c, after, &en->containers->all, link) {
        if (c->unconfirmed) {
            struct keeper_exit exit = {.ended_ns = engine_now_ns(), .unknown = true};

            kill_lost(c);
            ended(c, &exit);
        }
    }
    list_each_safe (c, after, &en->containers->all, link)
        if (c->life == LIFE_REMOVING && c->record->state->status == CONTAINER_STATUS_KIND__REMOVING &&
            keeper_signal(en->keeper, c->record->id, SIGKILL, NULL) < 0) /* one that runs goes when it has ended */
            container_remove_now(c);
    if (en->is_ready)
        return;
    en->is_ready = true;
    list_each (c, &en->containers->all, link)
        if (c->life != LIFE_RUNNING && c->life != LIFE_REMOVING)
            plug_out(c); /* it never ran with them, or its end was seen before */
    list_each_safe (c, after, &en->containers->all, link)
        start_at_open(c);
}

/* --- names --------------------------------------------------------------------------------------- */

int container_rename(struct container *c, const char *name, struct err *e)
{
    struct containers *s = c->en->containers;
    const char *plain = name + (*name == '/');
    struct err why = {0};

    if (!*plain || strcmp(plain, c->record->name) == 0)
        return err_set(e, ERR_INVALID, "Neither old nor new names may be empty or the same");
    int rc = container_name_free(s, plain, e);
    if (rc < 0)
        return rc;
    AUTO_FREE
    char *old = c->record->name;
    c->record->name = mem_strdup(plain);
    if (records_put(s->records, c->record->id, &c->record->base, &why) < 0) {
        free(c->record->name);
        c->record->name = steal(&old);
        return err_set(e, why.code, "rename container %s: %s", c->record->id, why.text);
    }
    map_remove(&s->by_name, old);
    map_put(&s->by_name, c->record->name, c);
    struct event_attribute about = {"oldName", old};
    container_tell(c, -1, "rename", &about, 1);
    return 0;
}
