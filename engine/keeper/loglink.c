/* The keeper's side of its logger (logger.c): found or started, fed, asked to drain, replaced when it dies.
 *
 * The logger outlives us and we outlive it. It listens at a socket of its own, so a keeper that comes anew finds
 * the one that writes already; only when there is none, a new one is started over a socket pair. The logger holds a
 * lock while it reads pipes, so two never read the same. When it dies it is started again and given every running
 * container anew; what it had not written is still in the pipes.
 *
 * On connecting it says what it writes, with the descriptors: a keeper that comes after a death takes terminals
 * back from there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/keeper/packet.h"
#include "engine/keeper/server.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define RETRY_FIRST_US 10000
#define RETRY_LAST_US  (10 * 1000000L)

static void logger_on_event(struct watch *w, uint32_t events);

static void retry_later(struct server *s)
{
    struct logger_link *l = &s->logger;
    int64_t delay = MIN((int64_t)RETRY_FIRST_US << MIN(l->failures, 10u), RETRY_LAST_US);

    if (l->failures++ == 3)
        log_warn("the logger keeps dying", "run_dir=%s", s->run_path);
    timer_set(&s->loop, &l->retry, delay);
}

/* It is gone. Ends that waited for its word are reported once another one has written the rest. */
static void lost(struct server *s)
{
    struct logger_link *l = &s->logger;
    struct box *b;

    if (l->fd < 0)
        return;
    watch_stop(&s->loop, &l->watch);
    close(l->fd);
    l->fd = -1;
    list_each (b, &s->boxes, link)
        b->logged = false;
    if (l->leaving)
        return;
    log_warn("logger lost", "run_dir=%s", s->run_path);
    retry_later(s);
}

static int send_request(struct server *s, const KeeperLogRequest *r, const int *fds, unsigned fd_count)
{
    if (s->logger.fd < 0)
        return ERR_CLOSED;
    int rc = packet_send_message(s->logger.fd, &r->base, fds, fd_count, NULL);
    if (rc < 0) /* also when it does not read: one that hangs is replaced like a dead one, once it dies */
        lost(s);
    return rc;
}

static bool has_output(const struct box *b)
{
    return b->out >= 0 || b->err >= 0 || b->terminal >= 0;
}

void logger_add(struct box *b)
{
    KeeperLogRequest r = KEEPER_LOG_REQUEST__INIT;
    struct box_message m;
    int fds[4];
    unsigned count = 0, none = 0;

    if (b->logged || !b->id || !has_output(b))
        return;
    box_describe(b, &m, NULL, &none);
    if (b->terminal >= 0) {
        m.box.has_terminal_fd = true;
        m.box.terminal_fd = count;
        fds[count++] = b->terminal;
    } else {
        m.box.has_stdout_fd = m.box.has_stderr_fd = true;
        m.box.stdout_fd = count;
        fds[count++] = b->out;
        m.box.stderr_fd = count;
        fds[count++] = b->err;
    }
    if (b->log >= 0) {
        m.box.has_log_fd = true;
        m.box.log_fd = count;
        fds[count++] = b->log;
    }
    r.add = &m.box;
    b->logged = send_request(b->server, &r, fds, count) == 0;
}

void logger_drain(struct box *b)
{
    KeeperLogRequest r = KEEPER_LOG_REQUEST__INIT;

    if (!has_output(b)) {
        launch_drained(b);
        return;
    }
    if (!b->logged)
        return; /* it is drained as soon as there is a logger again */
    r.drain = b->sandbox;
    (void)send_request(b->server, &r, NULL, 0); /* on failure the next logger drains */
}

/* Its pipes are read to the end: what we held of them is not needed any more. */
static void release_output(struct box *b)
{
    int *const fds[] = {&b->in, &b->out, &b->err, &b->terminal, &b->log};

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    b->logged = false;
}

static void on_drained(struct server *s, const char *sandbox)
{
    struct box *b = map_get(&s->by_sandbox, sandbox);

    if (!b)
        return;
    release_output(b);
    launch_drained(b);
}

static void take_if_missing(int *slot, int *fds, unsigned fd_count, bool has, uint32_t position)
{
    if (*slot < 0 && has && position < fd_count)
        *slot = steal_fd(&fds[position]);
}

/* It writes this one already. */
static void on_found(struct server *s, const Box *m, int *fds, unsigned fd_count)
{
    struct box *b = map_get(&s->by_sandbox, m->sandbox);

    if (!b) { /* of a container that is forgotten: let go of it */
        KeeperLogRequest r = KEEPER_LOG_REQUEST__INIT;

        r.drain = m->sandbox;
        (void)send_request(s, &r, NULL, 0); /* on failure it is gone anyway */
        return;
    }
    b->logged = true;
    take_if_missing(&b->terminal, fds, fd_count, m->has_terminal_fd, m->terminal_fd);
    take_if_missing(&b->out, fds, fd_count, m->has_stdout_fd, m->stdout_fd);
    take_if_missing(&b->err, fds, fd_count, m->has_stderr_fd, m->stderr_fd);
    take_if_missing(&b->log, fds, fd_count, m->has_log_fd, m->log_fd);
    if (b->stage >= BOX_STAGE__DRAINING_BOX)
        logger_drain(b); /* the word to do so was lost with the connection before */
}

/* It has said what it has; give it the rest. */
static void on_ready(struct server *s)
{
    struct box *b;

    s->logger.failures = 0;
    list_each (b, &s->boxes, link) {
        bool ended = b->stage >= BOX_STAGE__DRAINING_BOX;

        if (b->stage < BOX_STAGE__RUNNING_BOX || (ended && !has_output(b)) || b->logged)
            continue;
        logger_add(b);
        if (ended && b->logged)
            logger_drain(b);
    }
}

static void handle(struct server *s, const KeeperLogEvent *event, int *fds, unsigned fd_count)
{
    if (event->found)
        on_found(s, event->found, fds, fd_count);
    else if (event->ready)
        on_ready(s);
    else if (event->drained)
        on_drained(s, event->drained);
}

static void logger_on_event(struct watch *w, uint32_t events)
{
    struct server *s = container_of(w, struct server, logger.watch);
    AUTO_FREE
    char *packet = mem_alloc(PACKET_BYTES);
    int got = ERR_AGAIN;

    (void)events;
    for (int i = 0; i < 64 && s->logger.fd >= 0; i++) {
        AUTO_ARENA struct arena a;
        int fds[PACKET_FDS];
        unsigned count;

        arena_init(&a);
        got = packet_receive(s->logger.fd, packet, fds, &count, NULL);
        if (got <= 0)
            break;
        const KeeperLogEvent *event = arena_unpack(&a, &keeper_log_event__descriptor, packet, (size_t)got);
        if (event)
            handle(s, event, fds, count);
        fds_close(fds, count);
    }
    if (got <= 0 && got != ERR_AGAIN)
        lost(s);
}

/* --- finding and starting -------------------------------------------------------------------------- */

int logger_resume(struct server *s, int fd, struct err *e)
{
    int rc = watch_start(&s->loop, &s->logger.watch, fd, EPOLLIN, logger_on_event, e);

    if (rc < 0)
        close(fd);
    else
        s->logger.fd = fd;
    return rc;
}

static _Noreturn void exec_logger(struct server *s, int program, int channel)
{
    char number[12], run[12];
    char *argv[] = {s->argv[0],          (char *)"--log", number, (char *)"--run-fd", run,
                    (char *)"--run-dir", s->run_path,     NULL}; /* the last for who looks at the process list */

    (void)snprintf(number, sizeof(number), "%d", channel);
    (void)snprintf(run, sizeof(run), "%d", s->run);
    (void)setsid();
    if (fcntl(channel, F_SETFD, 0) == 0 && fcntl(s->run, F_SETFD, 0) == 0)
        (void)syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
    _exit(127);
}

/* Start one from our own sealed program. It is our child, reaped with the orphans (main.c); its socket tells us of
 * its end. */
static int start(struct server *s, struct err *e)
{
    AUTO_CLOSE
    int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int ends[2];
    int rc = program < 0 ? err_errno(e, "open our own program") : packet_pair(ends, e);

    if (rc < 0)
        return rc;
    pid_t pid = fork();
    if (pid == 0)
        exec_logger(s, program, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return err_errno(e, "start the logger");
    }
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK); /* ours: cannot fail */
    return logger_resume(s, ends[0], e);
}

void logger_begin(struct server *s)
{
    struct err e;
    int fd = -1;

    if (s->logger.fd >= 0 || s->logger.leaving)
        return;
    int rc = packet_connect(s->run, KEEPER_LOG_SOCKET, &fd, &e) == 0 ? logger_resume(s, fd, &e) : start(s, &e);
    if (rc < 0) {
        log_warn("no logger", "error=\"%s\"", e.text);
        retry_later(s);
    }
}

static void logger_on_retry(struct timer *t)
{
    logger_begin(container_of(t, struct server, logger.retry));
}

void logger_quit(struct server *s)
{
    KeeperLogRequest r = KEEPER_LOG_REQUEST__INIT;

    s->logger.leaving = true;
    timer_clear(&s->logger.retry);
    r.has_quit = r.quit = true;
    (void)send_request(s, &r, NULL, 0); /* it may be gone */
}

void logger_init(struct server *s)
{
    s->logger.fd = s->logger.watch.fd = -1;
    timer_init(&s->logger.retry, logger_on_retry);
}
