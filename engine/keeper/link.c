/* The connection of shoald to its keeper: found, made, lost and made again (client.h).
 *
 *     DOWN --connect--> GREETING --told everything--> READY
 *       | nobody there      |                           |
 *       v                   +------ lost ---------------+--> DOWN
 *     STARTING --it serves--> (connect)
 *
 * A keeper that is not there is started: its starter process ends when it serves, with an error on its stdout when
 * it does not. The keeper itself is then nobody's child of ours (main.c). When the connection is lost the keeper
 * died, or another shoald took its place: in both cases connecting again is right. Failures are retried with
 * growing pauses, and the owner is told once each time. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/keeper/client.h"
#include "engine/keeper/packet.h"
#include "engine/keeper/server.h"
#include "proto/base/arena.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define RETRY_FIRST_MS  5
#define RETRY_LAST_MS   5000
#define GREETING_MS     10000
#define EVENTS_PER_TURN 64

static void try_connect(struct keeper *k);

static void link_on_timer(uv_timer_t *t);

static void retry_later(struct keeper *k)
{
    uint64_t delay = (uint64_t)RETRY_FIRST_MS << MIN(k->failures, 10u);

    k->state = LINK_DOWN;
    k->failures++;
    (void)uv_timer_start(&k->timer, link_on_timer, MIN(delay, (uint64_t)RETRY_LAST_MS), 0);
}

static void trouble(struct keeper *k, const struct err *e)
{
    retry_later(k);
    keeper_on_trouble(k, e);
}

/* --- the connection -------------------------------------------------------------------------------- */

static void handle_on_closed(uv_handle_t *handle)
{
    struct keeper *k = handle->data;

    if (handle != (uv_handle_t *)&k->timer)
        free(handle);
    if (--k->closing == 0 && k->state == LINK_CLOSED)
        keeper_on_closed(k);
}

static void close_handle(struct keeper *k, uv_handle_t *handle)
{
    k->closing++;
    uv_close(handle, handle_on_closed);
}

static void disconnect(struct keeper *k)
{
    if (!k->poll)
        return;
    (void)uv_poll_stop(k->poll);
    close_handle(k, (uv_handle_t *)k->poll);
    k->poll = NULL;
    close(k->socket);
    k->socket = -1;
}

static void lost(struct keeper *k)
{
    disconnect(k);
    if (k->state == LINK_STOPPED || k->state == LINK_CLOSED)
        return;
    if (k->state == LINK_READY)
        log_warn("keeper lost", "run_dir=%s", k->run_dir);
    retry_later(k);
}

/* Handle what has come. False: the connection is over. */
static bool receive(struct keeper *k)
{
    static char packet[PACKET_BYTES];
    int fds[PACKET_FDS];
    unsigned count;
    struct err e;

    for (int i = 0; i < EVENTS_PER_TURN && k->socket >= 0; i++) {
        AUTO_ARENA struct arena a;
        int got;

        arena_init(&a);
        got = packet_receive(k->socket, packet, fds, &count, &e);

        if (got == ERR_AGAIN)
            return true;
        if (got <= 0) {
            if (got < 0)
                log_warn("keeper's connection is broken", "error=\"%s\"", e.text);
            return false;
        }
        const KeeperEvent *event = arena_unpack(&a, &keeper_event__descriptor, packet, (size_t)got);
        if (event && event->has_ready && k->state == LINK_GREETING) {
            k->state = LINK_READY;
            k->failures = 0;
            (void)uv_timer_stop(&k->timer);
        }
        if (event)
            keeper_on_event(k, event, fds, count);
        fds_close(fds, count);
    }
    return true;
}

static void link_on_poll(uv_poll_t *poll, int status, int events)
{
    struct keeper *k = poll->data;

    if (status < 0 || !receive(k)) {
        if (k->poll == poll) /* else an event's callback has closed us */
            lost(k);
        return;
    }
    if (k->poll == poll && events & UV_WRITABLE)
        link_flush(k);
}

static int say_hello(struct keeper *k, struct err *e)
{
    AUTO_CLOSE
    int ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    KeeperRequest r = KEEPER_REQUEST__INIT;
    KeeperHello hello = KEEPER_HELLO__INIT;

    if (ns < 0)
        return err_errno(e, "open our mount namespace");
    hello.protocol = KEEPER_PROTOCOL;
    hello.has_warm_min = hello.has_warm_max = true;
    hello.warm_min = k->warm_min;
    hello.warm_max = k->warm_max;
    r.serial = k->next_serial++;
    r.hello = &hello;
    return packet_send_message(k->socket, &r.base, &ns, 1, e);
}

static int greet(struct keeper *k, int fd, struct err *e)
{
    k->poll = mem_alloc(sizeof(*k->poll));
    int rc = uv_poll_init(k->loop, k->poll, fd);

    if (rc < 0) {
        free(k->poll);
        k->poll = NULL;
        close(fd);
        return err_number(e, -rc, "watch the keeper's socket");
    }
    k->poll->data = k;
    k->socket = fd;
    k->writing = false;
    rc = say_hello(k, e);
    if (rc == 0)
        rc = uv_poll_start(k->poll, UV_READABLE, link_on_poll) < 0 ? err_set(e, ERR_IO, "watch the keeper's socket")
                                                                   : 0;
    if (rc < 0) {
        disconnect(k);
        return rc;
    }
    k->state = LINK_GREETING;
    (void)uv_timer_start(&k->timer, link_on_timer, GREETING_MS, 0);
    keeper_on_greeting(k);
    return 0;
}

/* --- starting one ---------------------------------------------------------------------------------- */

static void child_on_exit(uv_process_t *child, int64_t status, int signal)
{
    struct keeper *k = child->data;
    char text[1024] = "";
    ssize_t got = read(k->child_output, text, sizeof(text) - 1);
    struct err e;

    close(k->child_output);
    k->child_output = -1;
    k->child = NULL;
    close_handle(k, (uv_handle_t *)child);
    if (signal == 0 && (status == 0 || status == KEEPER_EXIT_BUSY)) {
        /* Busy: somebody else has started one just now. */
        if (status != 0)
            retry_later(k);
        else
            try_connect(k);
        return;
    }
    text[got > 0 ? (size_t)got : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    err_set(&e, ERR_UNAVAILABLE, "start %s: %s (status %lld)", k->program, *text ? text : "it ended without a word",
            (long long)status);
    trouble(k, &e);
}

static int spawn(struct keeper *k, int output, struct err *e)
{
    char *journal = getenv("JOURNAL_STREAM"); /* how the keeper's own log lines are to look */
    AUTO_FREE
    char *stream = journal ? mem_printf("JOURNAL_STREAM=%s", journal) : NULL;
    char *env[] = {stream, NULL};
    char *argv[] = {(char *)"shoal-keeper",
                    (char *)"--run-dir",
                    k->run_dir,
                    (char *)"--instance",
                    k->instance,
                    (char *)"--cgroup-parent",
                    k->cgroup_parent,
                    (char *)"--log-level",
                    (char *)(log_get_level() == LOG_LEVEL_DEBUG ? "debug" : "info"),
                    NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = output}, {.flags = UV_INHERIT_FD, .data.fd = 2}};
    const uv_process_options_t options = {.exit_cb = child_on_exit,
                                          .file = k->program,
                                          .args = argv,
                                          .env = env,
                                          .flags = UV_PROCESS_DETACHED,
                                          .stdio_count = 3,
                                          .stdio = stdio};

    k->child = mem_alloc(sizeof(*k->child));
    k->child->data = k;
    int rc = uv_spawn(k->loop, k->child, &options);
    if (rc == 0)
        return 0;
    close_handle(k, (uv_handle_t *)k->child);
    k->child = NULL;
    return err_number(e, -rc, "start %s", k->program);
}

/* The directory by its path, made when it is missing: a keeper that ended properly takes its own with it. */
static int open_run(struct keeper *k, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/keeper", k->run_dir);
    int fd;
    int rc = dir_make(path, 0700, e);

    if (rc == 0)
        rc = dir_open(path, &fd, e);
    if (rc < 0)
        return rc;
    if (k->run >= 0)
        close(k->run);
    k->run = fd;
    return 0;
}

static void start_keeper(struct keeper *k)
{
    int output[2];
    struct err e;

    k->state = LINK_STARTING;
    if (open_run(k, &e) < 0) {
        trouble(k, &e);
        return;
    }
    if (pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0) {
        err_errno(&e, "make a pipe");
        trouble(k, &e);
        return;
    }
    int rc = spawn(k, output[1], &e);
    close(output[1]);
    if (rc < 0) {
        close(output[0]);
        trouble(k, &e);
        return;
    }
    k->child_output = output[0];
}

static void try_connect(struct keeper *k)
{
    struct err e;
    int fd;
    int rc = packet_connect(k->run, KEEPER_SOCKET, &fd, &e);

    if (rc < 0 && rc != ERR_AGAIN) { /* there is none */
        start_keeper(k);
        return;
    }
    if (rc == 0)
        rc = greet(k, fd, &e);
    if (rc == ERR_AGAIN || rc == ERR_CLOSED) /* it does not accept quickly enough, or it is ending */
        retry_later(k);
    else if (rc < 0)
        trouble(k, &e);
}

static void link_on_timer(uv_timer_t *t)
{
    struct keeper *k = t->data;
    struct err e;

    if (k->state == LINK_GREETING) {
        err_set(&e, ERR_TIMEOUT, "the keeper in %s does not answer", k->run_dir);
        disconnect(k);
        trouble(k, &e);
    } else {
        try_connect(k);
    }
}

static void link_on_first(uv_timer_t *t)
{
    try_connect(t->data);
}

int link_open(struct keeper *k, struct err *e)
{
    k->socket = k->child_output = k->run = -1;
    int rc = open_run(k, e);
    if (rc < 0)
        return rc;
    rc = uv_timer_init(k->loop, &k->timer);
    if (rc < 0)
        return err_number(e, -rc, "make a timer");
    k->timer.data = k;
    /* Not from inside this call: callbacks come from the loop. */
    (void)uv_timer_start(&k->timer, link_on_first, 0, 0);
    return 0;
}

/* --- sending --------------------------------------------------------------------------------------- */

static void watch_writable(struct keeper *k, bool writing)
{
    if (k->writing == writing || !k->poll)
        return;
    k->writing = writing;
    (void)uv_poll_start(k->poll, UV_READABLE | (writing ? UV_WRITABLE : 0),
                        link_on_poll); /* it runs: cannot fail */
}

static void sent(struct keeper *k, struct request *r)
{
    r->sent = true;
    fds_close(r->fds, r->fd_count);
    free(r->fds);
    free(r->data);
    r->fds = NULL;
    r->data = NULL;
    r->fd_count = 0;
    list_remove(&r->link);
    if (r->kind != REQUEST_OTHER) {
        k->launching += r->kind == REQUEST_LAUNCH;
        list_push(&k->waiting, &r->link);
        return;
    }
    free(r->id);
    free(r);
}

void link_flush(struct keeper *k)
{
    struct request *r, *after;

    if (k->state != LINK_READY)
        return;
    list_each_safe (r, after, &k->queue, link) {
        struct err e;

        if (r->kind == REQUEST_LAUNCH && k->launching >= k->launching_max)
            continue; /* what is not a launch passes by */
        int rc = packet_send(k->socket, r->data, r->size, r->fds, r->fd_count, &e);
        if (rc == ERR_AGAIN) {
            watch_writable(k, true);
            return;
        }
        if (rc < 0) /* it is gone: that comes as an event of the socket too, and what is queued stays so */
            return;
        sent(k, r);
    }
    watch_writable(k, false);
}

/* --- closing --------------------------------------------------------------------------------------- */

void link_stopped(struct keeper *k)
{
    k->state = LINK_STOPPED;
    (void)uv_timer_stop(&k->timer);
}

void link_close(struct keeper *k)
{
    k->state = LINK_CLOSED;
    close_handle(k, (uv_handle_t *)&k->timer);
    if (k->child) { /* the starter: its end is not waited for */
        close_handle(k, (uv_handle_t *)k->child);
        close(k->child_output);
        k->child = NULL;
    }
    disconnect(k);
    close(k->run);
    k->run = -1;
}
