/* See keeper.h: containers as shoald holds them, and requests.
 *
 * For each container we hold duplicates of what its keeper holds: process, network namespace, terminal, pipes. They
 * serve signals, attaching and statistics without asking anybody, and they are what a new keeper is given when one
 * dies. A container is known from found or launched until it is forgotten.
 *
 * Requests wait in a queue until the keeper is ready and, for launches, until fewer are under way than it asked
 * for; so a burst of starts waits here, where it costs a message each, and not as half-built sandboxes. A launch
 * whose keeper died before it answered is known to have happened when the next keeper finds its container, and to
 * have failed when that keeper has said all it knows. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/keeper/client.h"
#include "engine/keeper/packet.h"
#include "engine/keeper/plan.h"
#include "engine/keeper/process.h"
#include "engine/keeper/server.h"
#include "proto/base/arena.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define QUEUE_MAX 65536 /* requests */

enum { FD_PROCESS, FD_NETWORK, FD_TERMINAL, FD_STDIN, FD_STDOUT, FD_STDERR };

/* --- containers ------------------------------------------------------------------------------------ */

static void held_free(struct keeper *k, struct held *h)
{
    map_remove(&k->by_id, h->id);
    list_remove(&h->link);
    fds_close(h->fds, HELD_FDS);
    for (size_t i = 0; i < BUNDLE_CONTROLLERS; i++)
        free(h->paths[i]);
    free(h->id);
    free(h->sandbox);
    free(h->group);
    free(h->log_path);
    free(h);
}

static char *dup_or_null(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

static struct held *held_new(struct keeper *k, const Box *m)
{
    struct held *h = mem_alloc(sizeof(*h));

    h->id = mem_strdup(m->id);
    h->sandbox = mem_strdup(m->sandbox);
    h->group = dup_or_null(m->cgroup);
    h->log_path = dup_or_null(m->log_path);
    h->log_discard = m->log_discard;
    h->log_live = m->log_live;
    h->log_size_max = m->log_size_max;
    h->log_files_max = m->log_files_max;
    h->tty = m->tty;
    h->open_stdin = m->open_stdin;
    for (int i = 0; i < HELD_FDS; i++)
        h->fds[i] = -1;
    list_push(&k->held, &h->link);
    map_put(&k->by_id, h->id, h);
    return h;
}

/* What may have become better known: times, and descriptors that we lack. */
static void held_update(struct held *h, const Box *m, int *fds, unsigned fd_count)
{
    const struct {
        bool has;
        uint32_t position;
    } named[HELD_FDS] = {
        {m->has_pidfd_fd, m->pidfd_fd}, {m->has_netns_fd, m->netns_fd},   {m->has_terminal_fd, m->terminal_fd},
        {m->has_stdin_fd, m->stdin_fd}, {m->has_stdout_fd, m->stdout_fd}, {m->has_stderr_fd, m->stderr_fd},
    };

    h->pid = m->pid;
    h->start = m->pid_start;
    if (h->started_ns == 0)
        h->started_ns = m->started_ns;
    for (int i = 0; i < HELD_FDS; i++)
        if (h->fds[i] < 0 && named[i].has && named[i].position < fd_count)
            h->fds[i] = steal_fd(&fds[named[i].position]);
}

/* How it ended. What the keeper could not see our own descriptor may still tell. */
static struct keeper_exit exit_of(struct held *h, const BoxExit *m)
{
    struct keeper_exit x = {
        .code = m->code, .ended_ns = m->ended_ns, .oom_killed = m->oom_killed, .unknown = m->unknown};
    int status;

    if (x.unknown && h->fds[FD_PROCESS] >= 0 &&
        process_end(h->fds[FD_PROCESS], h->pid, h->start, &status) == PROCESS_ENDED) {
        x.code = process_exit_code(status);
        x.unknown = false;
    }
    return x;
}

/* Of no use any more once it has ended: a dead process, pipes that were read to the end. */
static void held_ended(struct held *h)
{
    h->ended = true;
    fds_close(h->fds, HELD_FDS);
    for (int i = 0; i < HELD_FDS; i++)
        h->fds[i] = -1;
}

static void tell_exit(struct keeper *k, struct held *h, const BoxExit *m)
{
    if (h->ended)
        return; /* told when it was found */
    const struct keeper_exit x = exit_of(h, m);
    held_ended(h);
    k->events.on_exit(k->events.ctx, h->id, &x);
}

static void tell_found(struct keeper *k, struct held *h, const BoxExit *m)
{
    struct keeper_found found = {.id = h->id, .sandbox = h->sandbox, .pid = h->pid, .started_ns = h->started_ns};
    struct keeper_exit x;

    if (m) {
        x = exit_of(h, m);
        found.exit = &x;
        held_ended(h);
    }
    k->events.on_found(k->events.ctx, &found);
}

/* --- requests -------------------------------------------------------------------------------------- */

static void request_free(struct keeper *k, struct request *r)
{
    list_remove(&r->link);
    map64_remove(&k->by_serial, r->serial);
    k->launching -= r->sent && r->kind == REQUEST_LAUNCH;
    fds_close(r->fds, r->fd_count);
    free(r->fds);
    free(r->data);
    free(r->id);
    free(r->program);
    free(r);
}

static void request_done(struct keeper *k, struct request *r, const struct err *e, const struct held *h)
{
    const struct request copy = *r;

    request_free(k, r); /* before the callback, which may close us */
    if (copy.kind == REQUEST_LAUNCH)
        copy.launched(copy.ctx, e, h ? h->pid : 0, h ? h->sandbox : NULL, h ? h->started_ns : 0);
    else if (copy.done)
        copy.done(copy.ctx, e);
}

static uint32_t take_serial(struct keeper *k)
{
    k->next_serial = k->next_serial ? k->next_serial : 1; /* 0 names none */
    return k->next_serial++;
}

/* Queue a request. The message's serial is set here; descriptors are duplicated. */
static int enqueue(struct keeper *k, struct request *r, KeeperRequest *m, const int *fds, unsigned fd_count,
                   struct err *e)
{
    r->serial = take_serial(k);
    m->serial = r->serial;
    r->size = keeper_request__get_packed_size(m);
    if (r->size > PACKET_BYTES)
        return err_set(e, ERR_LIMIT, "a request of %zu bytes to the keeper", r->size);
    r->fds = mem_array(fd_count, sizeof(int));
    for (; r->fd_count < fd_count; r->fd_count++) {
        r->fds[r->fd_count] = fcntl(fds[r->fd_count], F_DUPFD_CLOEXEC, 0);
        if (r->fds[r->fd_count] < 0)
            return err_errno(e, "duplicate a descriptor for the keeper");
    }
    r->data = mem_alloc(r->size);
    keeper_request__pack(m, r->data);
    list_push(&k->queue, &r->link);
    if (r->kind != REQUEST_OTHER)
        map64_put(&k->by_serial, r->serial, r);
    link_flush(k);
    return 0;
}

static struct request *request_new(enum request_kind kind, void *ctx)
{
    struct request *r = mem_alloc(sizeof(*r));

    r->kind = kind;
    r->ctx = ctx;
    list_init(&r->link);
    return r;
}

/* A request nobody waits for. */
static void post(struct keeper *k, KeeperRequest *m, const int *fds, unsigned fd_count)
{
    struct request *r = request_new(REQUEST_OTHER, NULL);
    struct err e;

    if (enqueue(k, r, m, fds, fd_count, &e) < 0) {
        log_warn("a request to the keeper is lost", "error=\"%s\"", e.text);
        request_free(k, r);
    }
}

static struct request *waiting_launch(struct keeper *k, const char *id)
{
    struct request *r;

    list_each (r, &k->waiting, link)
        if (r->kind == REQUEST_LAUNCH && strcmp(r->id, id) == 0)
            return r;
    return NULL;
}

/* --- what the keeper says --------------------------------------------------------------------------- */

static void post_forget(struct keeper *k, const char *id)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;

    m.forget = (char *)id;
    post(k, &m, NULL, 0);
}

static void on_found(struct keeper *k, const Box *m, int *fds, unsigned fd_count)
{
    static const struct err none;
    struct held *h = map_get(&k->by_id, m->id);
    struct request *r = waiting_launch(k, m->id);

    if (map_get(&k->forgotten, m->id)) {
        post_forget(k, m->id);
        return;
    }
    bool is_new = !h;
    if (is_new)
        h = held_new(k, m);
    h->seen = true;
    held_update(h, m, fds, fd_count);
    if (r) /* launched by a keeper that died before it could say so */
        request_done(k, r, &none, h);
    else if (is_new) {
        tell_found(k, h, m->exit);
        return;
    }
    if (m->exit && map_get(&k->by_id, m->id) == h)
        tell_exit(k, h, m->exit);
}

static void on_launched(struct keeper *k, uint32_t serial, const Box *m, int *fds, unsigned fd_count)
{
    static const struct err none;
    struct request *r = map64_get(&k->by_serial, serial);

    if (!r || r->kind != REQUEST_LAUNCH || map_get(&k->by_id, m->id)) {
        log_error("the keeper answers what was not asked", "serial=%u container=%s", serial, m->id);
        return;
    }
    struct held *h = held_new(k, m);
    h->seen = true;
    held_update(h, m, fds, fd_count);
    request_done(k, r, &none, h);
    link_flush(k);
}

/* A held launch has its sandbox. A keeper that was replaced meanwhile says so twice. */
static void on_prepared(struct keeper *k, uint32_t serial, const Box *m, int *fds, unsigned fd_count)
{
    struct request *r = map64_get(&k->by_serial, serial);
    struct err e;

    if (!r || r->kind != REQUEST_LAUNCH || !r->prepared || r->is_prepared)
        return; /* given up meanwhile */
    if (!m->has_netns_fd || m->netns_fd >= fd_count) {
        err_set(&e, ERR_INTERNAL, "the keeper's sandbox has no network namespace");
        keeper_give_up(k, r->id, &e);
        return;
    }
    r->is_prepared = true;
    r->prepared(r->ctx, fds[m->netns_fd]);
}

static void on_answer(struct keeper *k, uint32_t serial, const KeeperError *error)
{
    struct request *r = map64_get(&k->by_serial, serial);
    struct err e = {0};

    if (error)
        err_set(&e, error->code < 0 ? error->code : ERR_INTERNAL, "%s", error->text);
    if (!r) {
        if (error)
            log_warn("the keeper refuses a request", "error=\"%s\"", e.text);
        return;
    }
    if (!error && r->kind == REQUEST_STOP)
        link_stopped(k);
    if (!error && r->kind == REQUEST_UPGRADE) {
        free(k->program);
        k->program = steal(&r->program);
    }
    request_done(k, r, &e, NULL);
    if (k->state != LINK_CLOSED)
        link_flush(k);
}

/* Hand over a container of ours that this keeper does not know, or knows by its files alone. */
static void post_adopt(struct keeper *k, struct held *h)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;
    Box b = BOX__INIT;
    int list[HELD_FDS];
    unsigned count = 0;
    struct {
        protobuf_c_boolean *has;
        uint32_t *value;
    } const fields[HELD_FDS] = {
        {&b.has_pidfd_fd, &b.pidfd_fd}, {&b.has_netns_fd, &b.netns_fd},   {&b.has_terminal_fd, &b.terminal_fd},
        {&b.has_stdin_fd, &b.stdin_fd}, {&b.has_stdout_fd, &b.stdout_fd}, {&b.has_stderr_fd, &b.stderr_fd},
    };

    b.sandbox = h->sandbox;
    b.id = h->id;
    b.has_pid = b.has_pid_start = b.has_started_ns = b.has_tty = b.has_open_stdin = true;
    b.pid = h->pid;
    b.pid_start = h->start;
    b.started_ns = h->started_ns;
    b.tty = h->tty;
    b.open_stdin = h->open_stdin;
    b.cgroup = h->group;
    b.log_path = h->log_path;
    b.has_log_size_max = b.has_log_files_max = b.has_log_discard = b.has_log_live = true;
    b.log_size_max = h->log_size_max;
    b.log_files_max = h->log_files_max;
    b.log_discard = h->log_discard;
    b.log_live = h->log_live;
    for (int i = 0; i < HELD_FDS; i++) {
        if (h->fds[i] < 0)
            continue;
        *fields[i].has = true;
        *fields[i].value = count;
        list[count++] = h->fds[i];
    }
    m.adopt = &b;
    post(k, &m, list, count);
}

static void post_warm(struct keeper *k, const struct warm *w)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;

    m.has_warm = true;
    m.warm.data = w->data;
    m.warm.len = w->size;
    post(k, &m, NULL, 0);
}

static void post_hold(struct keeper *k)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;

    m.has_hold = m.hold = true;
    post(k, &m, &k->hold, k->hold >= 0 ? 1 : 0);
}

static void fail_lost_requests(struct keeper *k)
{
    struct err e;
    struct request *r;

    err_set(&e, ERR_UNAVAILABLE, "the keeper died while it was at it");
    while ((r = list_first(&k->waiting, struct request, link))) {
        if (r->kind == REQUEST_STOP) { /* it died: that is what was wanted, but another one has come; ask that */
            KeeperRequest m = KEEPER_REQUEST__INIT;
            struct request *again = request_new(REQUEST_STOP, r->ctx);

            again->done = r->done;
            request_free(k, r);
            m.has_stop = m.stop = true;
            (void)enqueue(k, again, &m, NULL, 0, NULL); /* small and without descriptors: cannot fail */
            continue;
        }
        request_done(k, r, &e, NULL);
    }
}

static void on_ready(struct keeper *k, unsigned launching_max)
{
    struct held *h;
    struct warm *w;
    size_t at = 0;
    char *id;

    k->launching_max = launching_max ? launching_max : 1;
    while ((id = map_next(&k->forgotten, &at))) {
        post_forget(k, id); /* said while it was still telling, or lost with the keeper before */
        free(id);
    }
    map_fini(&k->forgotten);
    list_each (h, &k->held, link)
        if (!h->ended)
            post_adopt(k, h);
    list_each (w, &k->warm, link)
        post_warm(k, w);
    if (k->hold >= 0) /* without: what it may still hold for a shoald before us stays until we have our own */
        post_hold(k);
    bool first = !k->was_ready;
    k->was_ready = true;
    if (first)
        k->events.on_ready(k->events.ctx);
}

void keeper_on_greeting(struct keeper *k)
{
    struct held *h;

    list_each (h, &k->held, link)
        h->seen = false;
}

void keeper_on_event(struct keeper *k, const KeeperEvent *event, int *fds, unsigned fd_count)
{
    if (event->has_ready) {
        fail_lost_requests(k);
        on_ready(k, event->ready);
        if (k->state == LINK_READY)
            link_flush(k);
    } else if (event->launched && event->launched->id) {
        on_launched(k, event->serial, event->launched, fds, fd_count);
    } else if (event->prepared && event->prepared->id) {
        on_prepared(k, event->serial, event->prepared, fds, fd_count);
    } else if (event->found && event->found->id) {
        on_found(k, event->found, fds, fd_count);
    } else if (event->ended && event->ended->id && event->ended->exit) {
        struct held *h = map_get(&k->by_id, event->ended->id);

        if (h)
            tell_exit(k, h, event->ended->exit);
        else /* its end we had seen ourselves, and what we then said came before the keeper knew of it */
            post_forget(k, event->ended->id);
    } else if (event->has_serial) {
        on_answer(k, event->serial, event->error);
    }
}

/* No keeper, and none can be started. What waits for one is told, instead of waiting for ever. */
void keeper_on_trouble(struct keeper *k, const struct err *e)
{
    struct request *r, *after;

    list_each_safe (r, after, &k->queue, link)
        if (r->kind == REQUEST_LAUNCH && k->failures > 3)
            request_done(k, r, e, NULL);
    k->events.on_fatal(k->events.ctx, e);
}

/* --- the interface --------------------------------------------------------------------------------- */

int keeper_open(const struct keeper_config *config, const struct keeper_events *events, struct keeper **ret,
                struct err *e)
{
    struct keeper *k = mem_alloc(sizeof(*k));
    struct err why;

    k->events = *events;
    k->loop = config->loop;
    k->run_dir = mem_strdup(config->run_dir);
    k->program = mem_strdup(config->program);
    k->instance = mem_strdup(config->instance);
    k->cgroup_parent = mem_strdup(config->cgroup_parent ? config->cgroup_parent : "");
    k->warm_min = config->warm_min;
    k->warm_max = config->warm_max;
    k->launching_max = 1;
    k->hold = -1;
    k->next_serial = 1;
    list_init(&k->held);
    list_init(&k->queue);
    list_init(&k->waiting);
    list_init(&k->warm);
    k->has_layout = cgroup_layout_read(&k->layout, &why) == 0;
    int rc = link_open(k, e);
    if (rc < 0) {
        keeper_on_closed(k);
        return rc;
    }
    *ret = k;
    return 0;
}

void keeper_on_closed(struct keeper *k)
{
    void (*closed)(void *ctx) = k->closed;
    void *ctx = k->closed_ctx;
    struct held *h;
    struct warm *w;
    struct request *r;
    size_t at = 0;
    char *id;

    list_splice(&k->queue, &k->waiting);
    while ((r = list_first(&k->queue, struct request, link))) {
        struct err e;

        err_set(&e, ERR_CANCELED, "the engine is closing");
        request_done(k, r, &e, NULL);
    }
    while ((h = list_first(&k->held, struct held, link)))
        held_free(k, h);
    while ((w = list_first(&k->warm, struct warm, link))) {
        list_remove(&w->link);
        free(w->data);
        free(w);
    }
    while ((id = map_next(&k->forgotten, &at)))
        free(id);
    map_fini(&k->forgotten);
    if (k->hold >= 0)
        close(k->hold);
    map_fini(&k->by_id);
    map64_fini(&k->by_serial);
    if (k->has_layout)
        cgroup_layout_fini(&k->layout);
    free(k->run_dir);
    free(k->program);
    free(k->instance);
    free(k->cgroup_parent);
    free(k);
    if (closed)
        closed(ctx);
}

void keeper_close(struct keeper *k, void (*closed)(void *ctx), void *ctx)
{
    assert(k->state != LINK_CLOSED);
    k->closed = closed;
    k->closed_ctx = ctx;
    link_close(k);
}

int keeper_stop(struct keeper *k, void (*stopped)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    const struct held *h = list_first(&k->held, struct held, link);
    KeeperRequest m = KEEPER_REQUEST__INIT;

    if (h)
        return err_set(e, ERR_CONFLICT, "container %s is still here", h->id);
    if (k->state == LINK_STOPPED)
        return err_set(e, ERR_CONFLICT, "the keeper is stopped already");
    struct request *r = request_new(REQUEST_STOP, ctx);
    r->done = stopped;
    m.has_stop = m.stop = true;
    int rc = enqueue(k, r, &m, NULL, 0, e);
    if (rc < 0)
        request_free(k, r);
    return rc;
}

void keeper_warm(struct keeper *k, const Recipe *recipe)
{
    struct warm *w = mem_alloc(sizeof(*w));

    w->size = recipe__get_packed_size(recipe);
    w->data = mem_alloc(w->size);
    recipe__pack(recipe, w->data);
    list_push(&k->warm, &w->link);
    if (k->state == LINK_READY)
        post_warm(k, w);
}

/* Put a plan into a request: inside, or in a memfd when it is large. */
static int wrap_plan(const LaunchPlan *plan, KeeperLaunch *launch, uint8_t **ret_data, int *ret_memfd,
                     unsigned fd_count, struct err *e)
{
    size_t size = launch_plan__get_packed_size(plan);

    if (size > MEMFD_BYTES)
        return err_set(e, ERR_LIMIT, "a launch plan of %zu bytes", size);
    *ret_data = mem_alloc(size);
    launch_plan__pack(plan, *ret_data);
    if (size <= PACKET_BYTES / 2) {
        launch->has_plan = true;
        launch->plan.data = *ret_data;
        launch->plan.len = size;
        return 0;
    }
    launch->has_plan_fd = true;
    launch->plan_fd = fd_count;
    return memfd_sealed("shoal-plan", *ret_data, size, ret_memfd, e);
}

static unsigned queued(const struct keeper *k)
{
    unsigned count = 0;
    const struct list *l;

    for (l = k->queue.next; l != &k->queue && count < QUEUE_MAX; l = l->next)
        count++;
    return count;
}

int keeper_launch(struct keeper *k, const LaunchPlan *plan, const int *fds, unsigned fd_count,
                  void (*prepared)(void *ctx, int netns_fd),
                  void (*done)(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns),
                  void *ctx, struct err *e)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;
    KeeperLaunch launch = KEEPER_LAUNCH__INIT;
    AUTO_FREE
    uint8_t *data = NULL;
    AUTO_CLOSE
    int memfd = -1;
    int list[PLAN_FDS_MAX + 1];

    if (fd_count > PLAN_FDS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d descriptors for one container", PLAN_FDS_MAX);
    if (map_get(&k->by_id, plan->id) || waiting_launch(k, plan->id))
        return err_set(e, ERR_CONFLICT, "container %s is launched already", plan->id);
    if (k->state == LINK_STOPPED)
        return err_set(e, ERR_UNAVAILABLE, "the keeper is stopped");
    if (!list_empty(&k->queue) && queued(k) >= QUEUE_MAX)
        return err_set(e, ERR_UNAVAILABLE, "%d launches are waiting", QUEUE_MAX);
    int rc = wrap_plan(plan, &launch, &data, &memfd, fd_count, e);
    if (rc < 0)
        return rc;
    if (fd_count)
        memcpy(list, fds, fd_count * sizeof(int));
    if (memfd >= 0)
        list[fd_count++] = memfd;
    m.launch = &launch;
    launch.has_hold = launch.hold = prepared != NULL;
    struct request *r = request_new(REQUEST_LAUNCH, ctx);
    r->prepared = prepared;
    r->launched = done;
    r->id = mem_strdup(plan->id);
    rc = enqueue(k, r, &m, list, fd_count, e);
    if (rc < 0)
        request_free(k, r);
    return rc;
}

void keeper_go(struct keeper *k, const char *id)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;

    m.go = (char *)id;
    if (waiting_launch(k, id))
        post(k, &m, NULL, 0);
}

void keeper_give_up(struct keeper *k, const char *id, const struct err *e)
{
    KeeperRequest m = KEEPER_REQUEST__INIT;
    struct request *r = waiting_launch(k, id);
    const struct err why = *e;

    if (!r)
        return;
    m.give_up = (char *)id;
    post(k, &m, NULL, 0);
    request_done(k, r, &why, NULL);
}

int keeper_signal(struct keeper *k, const char *id, int signal, struct err *e)
{
    const struct held *h = map_get(&k->by_id, id);

    if (!h || h->ended)
        return err_set(e, ERR_NOT_FOUND, "container %s does not run", id);
    int rc = process_signal(h->fds[FD_PROCESS], signal, e);
    return rc < 0 ? err_wrap(e, "container %s", id) : 0;
}

void keeper_forget(struct keeper *k, const char *id)
{
    struct held *h = map_get(&k->by_id, id);

    if (!h)
        return;
    if (!h->ended) {
        log_warn("a container that has not ended is not forgotten", "container=%s", id);
        return;
    }
    if (k->state == LINK_READY)
        post_forget(k, id);
    /* As long as the word is not out, a keeper may tell us of the container again. */
    if ((k->state != LINK_READY || !list_empty(&k->queue)) && !map_get(&k->forgotten, id)) {
        char *copy = mem_strdup(id);

        map_put(&k->forgotten, copy, copy);
    }
    held_free(k, h);
}

void keeper_close_stdin(struct keeper *k, const char *id)
{
    struct held *h = map_get(&k->by_id, id);
    KeeperRequest m = KEEPER_REQUEST__INIT;

    if (!h || h->ended || !h->open_stdin || h->tty)
        return;
    if (h->fds[FD_STDIN] >= 0)
        close(h->fds[FD_STDIN]);
    h->fds[FD_STDIN] = -1;
    h->open_stdin = false; /* a keeper that is given this container does not open it either */
    m.close_stdin = (char *)id;
    post(k, &m, NULL, 0);
}

void keeper_hold(struct keeper *k, int fd)
{
    if (k->hold >= 0)
        close(k->hold);
    k->hold = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1; /* without descriptors left: nothing is held */
    if (k->state == LINK_READY)
        post_hold(k);
}

int keeper_upgrade(struct keeper *k, const char *program, void (*done)(void *ctx, const struct err *e), void *ctx,
                   struct err *e)
{
    AUTO_CLOSE
    int fd = open(program, O_RDONLY | O_CLOEXEC);
    KeeperRequest m = KEEPER_REQUEST__INIT;
    KeeperUpgrade upgrade = KEEPER_UPGRADE__INIT;

    if (fd < 0)
        return err_errno(e, "open %s", program);
    struct request *r = request_new(REQUEST_UPGRADE, ctx);
    r->done = done;
    r->program = mem_strdup(program);
    upgrade.program_fd = 0;
    m.upgrade = &upgrade;
    int rc = enqueue(k, r, &m, &fd, 1, e);
    if (rc < 0)
        request_free(k, r);
    return rc;
}

static int borrow(struct keeper *k, const char *id, int which)
{
    const struct held *h = map_get(&k->by_id, id);

    return h ? h->fds[which] : -1;
}

int keeper_terminal(struct keeper *k, const char *id)
{
    return borrow(k, id, FD_TERMINAL);
}

int keeper_stdin(struct keeper *k, const char *id)
{
    return borrow(k, id, FD_STDIN);
}

int keeper_process(struct keeper *k, const char *id)
{
    return borrow(k, id, FD_PROCESS);
}

int keeper_network(struct keeper *k, const char *id)
{
    return borrow(k, id, FD_NETWORK);
}

const char *keeper_cgroup(struct keeper *k, const char *id, const char *controller)
{
    struct held *h = map_get(&k->by_id, id);
    int which = cgroup_controller(controller);

    if (!h || !h->group || !k->has_layout || which < 0)
        return NULL;
    if (!h->paths[which])
        h->paths[which] = cgroup_path(&k->layout, (enum bundle_controller)which, h->group);
    return h->paths[which];
}
