/* The life of a sandbox: cloned, warm, launched, running, ended.
 *
 *     launch_prepare   clone3 with a descriptor of the child; it builds the sandbox (child.c)
 *     launch_begin     a plan came: take a warm sandbox or clone one, write its record, send plan and word
 *     launch_go        the same for the word alone, where shoald first makes the sandbox's network
 *     child_told       the channel's end: the program runs, or the child said why not
 *     child_ended      the process is gone: to whom that must be said depends on the stage
 *     launch_drained   its last output is written: now the end is reported
 *
 * The keeper does not wait for any of it. While a child is on its way only the end of its channel wakes us: the
 * packets it sent before (a terminal, its last words) are read then, so a launch costs one wake-up.
 *
 * The record of a container is written before its child may execute. So a child whose keeper dies either gives up,
 * for its word never comes, or is found by the next keeper. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/keeper/child.h"
#include "engine/keeper/packet.h"
#include "engine/keeper/plan.h"
#include "engine/keeper/server.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define LATER_US      50000          /* between two looks at a dead process whose parent has not taken note */
#define LATER_LIMIT   100            /* looks */
#define DRAIN_TIME_US (2 * 1000000L) /* the end is reported after this even when its output is not written */

static void box_on_channel(struct watch *w, uint32_t events);
static void box_on_exit(struct watch *w, uint32_t events);
static void box_on_timer(struct timer *t);

static int64_t now_us(void)
{
    return clock_mono_us(clock_real());
}

static int64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* --- clone ----------------------------------------------------------------------------------------- */

static uint64_t clone_flags(const Namespaces *n)
{
    /* The cgroup namespace is made by the child once it is in its group. */
    return CLONE_PIDFD | CLONE_NEWNS | (n->net ? CLONE_NEWNET : 0) | (n->pid ? CLONE_NEWPID : 0) |
           (n->ipc ? CLONE_NEWIPC : 0) | (n->uts ? CLONE_NEWUTS : 0) | (n->time ? CLONE_NEWTIME : 0);
}

static int clone_child(struct box *b, const Recipe *recipe, struct err *e)
{
    struct server *s = b->server;
    int ends[2], pidfd = -1;
    struct clone_args args = {
        .flags = clone_flags(recipe->namespaces), .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    int rc = packet_pair(ends, e);

    if (rc < 0)
        return rc;
    AUTO_FREE
    char *directory = mem_printf("%s/" KEEPER_BOXES "/%s", s->run_path, b->sandbox);
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        const struct child_birth birth = {.sandbox = b->sandbox,
                                          .directory = directory,
                                          .group = b->group,
                                          .layout = &s->layout,
                                          .recipe = recipe,
                                          .files = s->files,
                                          .channel = ends[1]};

        child_main(&birth);
    }
    int number = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return err_number(e, number, "clone a child");
    }
    b->channel = ends[0];
    b->pid = (pid_t)pid;
    b->pidfd = pidfd;
    b->start = process_start(b->pid);
    map64_put(&s->by_pid, (uint64_t)pid, b);
    (void)fcntl(b->channel, F_SETFL, O_NONBLOCK); /* ours: cannot fail */
    return 0;
}

static int open_netns(struct box *b, struct err *e)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", b->pid);
    b->netns = open(path, O_RDONLY | O_CLOEXEC);
    return b->netns < 0 ? err_errno(e, "open the network namespace") : 0;
}

/* End a child that did not execute anything; its exit removes the rest. */
static void abandon(struct box *b)
{
    watch_stop(&b->server->loop, &b->channel_watch);
    if (b->channel >= 0)
        close(b->channel);
    b->channel = -1;
    if (b->id) {
        map_remove(&b->server->by_id, b->id);
        free(b->id);
        b->id = NULL;
    }
    (void)process_signal(b->pidfd, SIGKILL, NULL); /* gone already: then its exit is on its way */
    if (b->exit_watch.fd < 0)
        timer_set(&b->server->loop, &b->timer, LATER_US); /* it could not be watched */
    box_move(b, BOX_STAGE__ENDED_BOX);
}

static char *group_of(struct server *s, const Recipe *r, const char *sandbox)
{
    const char *parent = r->cgroup_parent ? r->cgroup_parent : "";

    if (!r->cgroups || !s->has_groups)
        return NULL;
    return mem_printf("%s%s%s/%s", s->group_base, *parent ? "/" : "", parent, sandbox);
}

int launch_prepare(struct server *s, const Recipe *recipe, struct box **ret, struct err *e)
{
    struct box *b = box_new(s, NULL);

    if (!b)
        return err_set(e, ERR_UNAVAILABLE, "more than %d sandboxes", BOXES_MAX);
    b->group = group_of(s, recipe, b->sandbox);
    b->asked_us = now_us();
    int rc = box_make_files(b, e);
    if (rc == 0 && b->group && recipe->cgroup_parent && *recipe->cgroup_parent) {
        AUTO_FREE
        char *parent = mem_printf("%s/%s", s->group_base, recipe->cgroup_parent);

        rc = group_base(&s->layout, parent, e);
    }
    if (rc == 0)
        rc = clone_child(b, recipe, e);
    if (rc == 0)
        rc = launch_watch(b, e);
    if (rc == 0 && recipe->namespaces->net)
        rc = open_netns(b, e);
    if (rc < 0) {
        if (b->pid > 0)
            abandon(b);
        else
            box_remove(b);
        return rc;
    }
    *ret = b;
    return 0;
}

int launch_watch(struct box *b, struct err *e)
{
    struct loop *l = &b->server->loop;
    uint32_t events =
        b->stage == BOX_STAGE__PREPARING_BOX || b->stage == BOX_STAGE__WARM_BOX ? EPOLLIN : EPOLLRDHUP;
    int rc = 0;

    b->timer.on = box_on_timer;
    if (b->pidfd >= 0)
        rc = watch_start(l, &b->exit_watch, b->pidfd, EPOLLIN, box_on_exit, e);
    if (rc == 0 && b->channel >= 0)
        rc = watch_start(l, &b->channel_watch, b->channel, events, box_on_channel, e);
    if (b->stage == BOX_STAGE__DRAINING_BOX)
        timer_set(l, &b->timer, DRAIN_TIME_US);
    return rc;
}

/* --- a plan ---------------------------------------------------------------------------------------- */

struct order { /* a launch request, checked */
    uint32_t serial;
    bool hold;
    const LaunchPlan *plan;
    const Recipe *recipe;
    const void *data; /* the plan packed, or */
    size_t size;
    int memfd; /* a memfd of it, -1 */
    int *fds;
    unsigned fd_count;
};

/* What the keeper itself needs of a plan; the rest is the child's. Takes the log's descriptor out of the list. */
static int note_plan(struct box *b, const LaunchPlan *p, int *fds, struct err *e)
{
    const LogTarget *log = p->log;
    char link[32], path[4096];

    b->tty = p->tty;
    b->open_stdin = p->open_stdin;
    b->log_discard = !log || log->discard || !log->has_directory_fd;
    if (b->log_discard)
        return 0;
    b->log_live = log->live;
    b->log_size_max = log->size_max;
    b->log_files_max = log->has_files_max && log->files_max ? log->files_max : 1;
    b->log = fcntl(fds[log->directory_fd], F_DUPFD_CLOEXEC, 0);
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", b->log);
    ssize_t length = b->log < 0 ? -1 : readlink(link, path, sizeof(path) - 1);
    if (length < 0)
        return err_errno(e, "directory of the log");
    path[length] = '\0';
    b->log_path = mem_strdup(path);
    return 0;
}

static int send_plan(struct box *b, const struct order *o, int reader, struct err *e)
{
    size_t size = o->memfd < 0 ? o->size : 0;
    AUTO_FREE
    char *packet = mem_alloc(1 + size);
    int list[PACKET_FDS];
    unsigned count = 0;

    list[count++] = b->server->control.client_ns;
    list[count++] = reader >= 0 ? reader : b->server->control.client_ns;
    memcpy(list + count, o->fds, o->fd_count * sizeof(int));
    count += o->fd_count;
    if (o->memfd >= 0)
        list[count++] = o->memfd;
    packet[0] = o->memfd >= 0 ? CHILD_MEMFD : CHILD_PLAN;
    if (size)
        memcpy(packet + 1, o->data, size);
    return packet_send(b->channel, packet, 1 + size, list, count, e);
}

/* The child works meanwhile; it executes only after this. What is said to be its start is what is written down
 * here, so that a keeper after us says the same. */
static int release(struct box *b, struct err *e)
{
    static const char go[] = {CHILD_GO};

    b->holding = false;
    b->started_ns = wall_ns();
    int rc = box_save(b, e);
    if (rc == 0)
        rc = packet_send(b->channel, go, sizeof(go), NULL, 0, e);
    b->released = rc == 0;
    return rc;
}

static int begin_in(struct box *b, const struct order *o, struct err *e)
{
    AUTO_CLOSE
    int reader = -1;
    int rc = note_plan(b, o->plan, o->fds, e);

    if (rc == 0 && b->open_stdin && !b->tty)
        rc = box_make_stdin(b, &reader, e);
    if (rc == 0)
        rc = send_plan(b, o, reader, e);
    if (rc < 0)
        return rc;
    if (!o->hold)
        return release(b, e);
    b->holding = true;
    control_say(b);
    return 0;
}

static int begin_with(struct box *b, const struct order *o, struct err *e)
{
    struct server *s = b->server;

    b->asked_us = now_us();
    b->serial = o->serial;
    b->generation = s->control.generation;
    box_set_id(b, o->plan->id);
    box_move(b, BOX_STAGE__LAUNCHING_BOX);
    watch_change(&s->loop, &b->channel_watch, EPOLLRDHUP);
    int rc = begin_in(b, o, e);
    if (rc < 0)
        abandon(b);
    return rc;
}

static int begin_checked(struct server *s, const struct order *o, struct err *e)
{
    struct box *b;

    if (map_get(&s->by_id, o->plan->id))
        return err_set(e, ERR_EXISTS, "container %s is here already", o->plan->id);
    while ((b = pool_take(s, o->plan->recipe.data, o->plan->recipe.len))) {
        int rc = begin_with(b, o, e);

        if (rc != ERR_CLOSED) /* a warm one that died just now is nobody's failure */
            return rc;
    }
    int rc = launch_prepare(s, o->recipe, &b, e);
    return rc < 0 ? rc : begin_with(b, o, e);
}

int launch_begin(struct server *s, uint32_t serial, bool hold, const void *plan, size_t size, int memfd, int *fds,
                 unsigned fd_count, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct order o = {.serial = serial,
                      .hold = hold,
                      .data = plan,
                      .size = size,
                      .memfd = memfd,
                      .fds = fds,
                      .fd_count = fd_count};
    const void *mapped = NULL;
    size_t mapped_size = 0;
    Recipe *recipe = NULL;
    int rc = 0;

    arena_init(&a);
    if (s->control.client_ns < 0)
        rc = err_set(e, ERR_INVALID, "a launch before hello");
    else if (fd_count > PLAN_FDS_MAX)
        rc = err_set(e, ERR_LIMIT, "more than %d descriptors", PLAN_FDS_MAX);
    if (rc == 0 && memfd >= 0)
        rc = memfd_map(memfd, &mapped, &mapped_size, e);
    if (rc == 0) {
        o.plan = plan_unpack(&a, mapped ? mapped : plan, mapped ? mapped_size : size, fd_count, &recipe, e);
        o.recipe = recipe;
        rc = o.plan ? begin_checked(s, &o, e) : e->code;
    }
    if (mapped)
        memfd_unmap(mapped, mapped_size);
    fds_close(fds, fd_count);
    if (memfd >= 0)
        close(memfd);
    return rc;
}

/* --- a launch that is held ------------------------------------------------------------------------- */

void launch_go(struct server *s, const char *id)
{
    struct box *b = map_get(&s->by_id, id);
    struct err e;

    if (!b || b->stage != BOX_STAGE__LAUNCHING_BOX || !b->holding)
        return; /* its child has failed meanwhile, and that was said */
    /* One that has just failed is about to end, and child_ended says why. */
    int rc = b->channel < 0 ? ERR_CLOSED : release(b, &e);
    if (rc == 0 || rc == ERR_CLOSED)
        return;
    uint32_t serial = b->serial;
    abandon(b);
    control_answer(s, serial, &e);
}

void launch_give_up_held(struct server *s, const char *id)
{
    struct box *b = map_get(&s->by_id, id);

    if (b && b->stage == BOX_STAGE__LAUNCHING_BOX && b->holding)
        abandon(b);
}

void launch_drop_held(struct server *s)
{
    struct box *b, *after;

    list_each_safe (b, after, &s->boxes, link)
        if (b->stage == BOX_STAGE__LAUNCHING_BOX && b->holding)
            abandon(b);
}

/* --- what the child says --------------------------------------------------------------------------- */

static void note_error(struct box *b, const char *data, size_t size)
{
    int32_t code = ERR_INTERNAL;

    if (b->error)
        return;
    b->error = mem_alloc(sizeof(*b->error));
    if (size >= sizeof(code)) {
        memcpy(&code, data, sizeof(code));
        err_set(b->error, code, "%.*s", (int)(size - sizeof(code)), data + sizeof(code));
    }
    if (b->error->code >= 0) /* it has no success to report this way */
        err_set(b->error, ERR_INTERNAL, "the launch child ended without a word");
}

static void note_exec(struct box *b, const char *data, size_t size)
{
    struct child_times t = {0};

    b->executes = true;
    memcpy(&t, data, MIN(size, sizeof(t)));
    log_debug("container is executed",
              "container=%s sandbox=%s root_us=%u steps_us=%u pivot_us=%u go_us=%u total_us=%lld", b->id,
              b->sandbox, t.root, t.steps, t.pivot, t.go, (long long)(now_us() - b->asked_us));
}

static void note_ready(struct box *b)
{
    if (b->stage != BOX_STAGE__PREPARING_BOX)
        return; /* it has its plan already */
    b->warm_us = now_us();
    box_move(b, BOX_STAGE__WARM_BOX);
    pool_wake(b->server);
}

/* Read what the child has sent. False: there is no more and there will be none. */
static bool read_channel(struct box *b)
{
    static char packet[PACKET_BYTES];
    int fds[PACKET_FDS];
    unsigned count;
    int got;

    while ((got = packet_receive(b->channel, packet, fds, &count, NULL)) > 0) {
        if (packet[0] == CHILD_READY)
            note_ready(b);
        else if (packet[0] == CHILD_EXEC)
            note_exec(b, packet + 1, (size_t)got - 1);
        else if (packet[0] == CHILD_ERROR)
            note_error(b, packet + 1, (size_t)got - 1);
        else if (packet[0] == CHILD_TERMINAL && count == 1 && b->terminal < 0)
            b->terminal = fds[--count];
        fds_close(fds, count);
    }
    return got == ERR_AGAIN;
}

/* A terminal takes the place of the pipes. */
static void drop_pipes(struct box *b)
{
    if (b->out >= 0)
        close(b->out);
    if (b->err >= 0)
        close(b->err);
    b->out = b->err = -1;
}

static void launched(struct box *b)
{
    if (b->tty)
        drop_pipes(b);
    box_move(b, BOX_STAGE__RUNNING_BOX);
    control_say(b);
    logger_add(b);
    pool_wake(b->server);
}

/* Everything the child had to say is read and its channel is closed. */
static void child_told(struct box *b)
{
    watch_stop(&b->server->loop, &b->channel_watch);
    close(b->channel);
    b->channel = -1;
    if (b->stage == BOX_STAGE__LAUNCHING_BOX && b->executes && !b->error)
        launched(b);
    /* Otherwise it is about to end: child_ended says why. */
}

static void box_on_channel(struct watch *w, uint32_t events)
{
    struct box *b = container_of(w, struct box, channel_watch);

    (void)events;
    if (!read_channel(b))
        child_told(b);
}

/* --- the end --------------------------------------------------------------------------------------- */

static void launch_failed(struct box *b, int status)
{
    struct err e;

    if (b->error)
        e = *b->error;
    else
        err_set(&e, ERR_INTERNAL, "the launch child ended by itself with %d", process_exit_code(status));
    uint32_t serial = b->generation == b->server->control.generation ? b->serial : 0;
    struct server *s = b->server;
    box_remove(b);
    if (serial)
        control_answer(s, serial, &e);
    else
        control_poke(s);
    pool_wake(s);
}

static void sandbox_failed(struct box *b, int status)
{
    struct server *s = b->server;
    bool failed = b->recipe != NULL;

    if (failed)
        log_warn("warm sandbox failed", "sandbox=%s status=%d error=\"%s\"", b->sandbox, process_exit_code(status),
                 b->error ? b->error->text : "");
    pool_left(b, failed);
    box_remove(b);
    pool_wake(s);
}

static void container_ended(struct box *b, bool known, int status)
{
    struct err e;

    b->exit.code = known ? process_exit_code(status) : 255;
    b->exit.unknown = !known;
    b->exit.ended_ns = wall_ns();
    b->exit.oom_killed = b->group && group_oom_killed(&b->server->layout, b->group);
    box_move(b, BOX_STAGE__DRAINING_BOX);
    if (box_save(b, &e) < 0)
        log_warn("record of an end not written", "container=%s error=\"%s\"", b->id, e.text);
    timer_set(&b->server->loop, &b->timer, DRAIN_TIME_US);
    logger_drain(b);
}

static void child_ended(struct box *b, bool known, int status)
{
    watch_stop(&b->server->loop, &b->exit_watch);
    timer_clear(&b->timer);
    if (!b->adopted)
        map64_remove(&b->server->by_pid, (uint64_t)b->pid); /* the number is free now */
    close(b->pidfd);
    b->pidfd = -1;
    if (b->channel >= 0) { /* its last words may not have been read yet */
        (void)read_channel(b);
        child_told(b);
    }
    if (b->stage == BOX_STAGE__RUNNING_BOX)
        container_ended(b, known, status);
    else if (b->stage == BOX_STAGE__LAUNCHING_BOX)
        launch_failed(b, status);
    else
        sandbox_failed(b, status);
}

void launch_look(struct box *b)
{
    int status = 0;

    switch (process_end(b->pidfd, b->pid, b->start, &status)) {
    case PROCESS_RUNS:
        if (b->exit_watch.fd < 0)
            timer_set(&b->server->loop, &b->timer, LATER_US);
        return;
    case PROCESS_ENDED:
        child_ended(b, true, status);
        return;
    case PROCESS_LATER:
        watch_stop(&b->server->loop, &b->exit_watch); /* it would call without pause */
        if (b->looks++ < LATER_LIMIT) {
            timer_set(&b->server->loop, &b->timer, LATER_US);
            return;
        }
        child_ended(b, false, 0);
        return;
    case PROCESS_UNKNOWN:
        child_ended(b, false, 0);
    }
}

static void box_on_exit(struct watch *w, uint32_t events)
{
    (void)events;
    launch_look(container_of(w, struct box, exit_watch));
}

static void box_on_timer(struct timer *t)
{
    struct box *b = container_of(t, struct box, timer);

    if (b->stage == BOX_STAGE__DRAINING_BOX) {
        log_warn("output of an ended container is not written in time", "container=%s", b->id);
        launch_drained(b);
    } else {
        launch_look(b);
    }
}

void launch_drained(struct box *b)
{
    if (b->stage != BOX_STAGE__DRAINING_BOX)
        return; /* too late: reported already */
    timer_clear(&b->timer);
    box_move(b, BOX_STAGE__ENDED_BOX);
    control_say(b);
}

void launch_give_up(struct box *b)
{
    assert(b->stage == BOX_STAGE__WARM_BOX || b->stage == BOX_STAGE__PREPARING_BOX);
    pool_left(b, false);
    abandon(b);
}
