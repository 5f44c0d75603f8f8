/* See logger.h.
 *
 * A process of its own, because writing a regular file may block and the keeper must not. It reads the pipes that
 * containers write to, or terminals' masters, and appends to their log files (logfile.h). Each turn of a source
 * moves at most 64 KiB, so no container keeps others waiting.
 *
 * Nothing is taken out of a pipe before it is in the file: a turn looks at the pipe's contents (tee(2) into a pipe
 * of our own, which copies references), writes the whole lines, and only then removes them. What is not yet a line
 * stays in the pipe. So when this process is killed, the next one finds everything that was not written; at worst
 * it writes the last turn again: at most 64 KiB of a container's stream. There are two exceptions, in which bytes
 * are held in memory and would be lost with it:
 *
 *     terminals, which cannot be looked at without reading: the turn that is being written and the unfinished line
 *     before it, at most WORK_BYTES (80 KiB), usually nothing
 *     an unfinished line that is older than LINGER_US, at most LOG_TEXT_MAX (16 KiB) per stream: it must leave the
 *     pipe, since the kernel does not wake a reader when a writer fills a pipe that was not empty
 *
 * The death of shoald or of the keeper loses and repeats nothing: this process does not notice either. While no
 * logger runs, pipes and terminals keep what fits and then make the program wait.
 *
 * Where somebody may be attached (a terminal, or a client that asked for it), what lingers is written as a part of
 * a line, so that a prompt can be read in the file.
 *
 *     told "add"    the source is watched (edge-triggered) and read from now on
 *     told "drain"  its container ended: all there is is written, then "drained" is answered and it is let go
 *     told "quit"   everything in memory is written as parts of lines, and we end; pipes keep the rest
 *     keeper gone   we go on; the next keeper connects to our socket and is told what we write
 *
 * Pipes are open for writing too (box.c), so they never report an end of their own. A lock in the run directory is
 * held for life: no two loggers read one pipe. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/keeper/logfile.h"
#include "engine/keeper/logger.h"
#include "engine/keeper/loop.h"
#include "engine/keeper/packet.h"
#include "engine/keeper/server.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define TURN_BYTES  (64 << 10)
#define WORK_BYTES  (TURN_BYTES + LOG_TEXT_MAX)
#define LINGER_US   10000
#define DRAIN_TURNS 64              /* at the end: enough for the largest pipe */
#define ORPHAN_US   (60 * 1000000L) /* between looks, without a keeper, at whether anybody can still find us */

struct source;

struct stream {
    struct source *source;
    int fd; /* owned; -1: not used */
    const char *name;
    struct watch watch;
    struct list ready;   /* in logger.ready while it may have something */
    struct timer linger; /* runs while an unfinished line is left in the pipe */
    size_t left;         /* bytes so left */
    struct buf part;     /* an unfinished line in memory, shorter than LOG_TEXT_MAX */
};

struct source { /* one container */
    struct logger *logger;
    struct list link; /* logger.sources */
    struct list say;  /* logger.say while the keeper has to be told something of it */
    char *sandbox, *id;
    struct stream out, err; /* or the terminal in `out` alone */
    bool tty;
    bool discard;
    bool live;    /* unfinished lines are written when they linger: somebody may be waiting for a prompt */
    bool drained; /* everything is written; descriptors are closed */
    bool told;    /* this keeper knows that we have it */
    struct logfile file;
};

struct logger {
    struct loop loop;
    int run, lock, listener;
    int fd; /* the keeper; -1: none at present */
    struct watch watch, listen_watch;
    struct list sources;
    struct map by_sandbox;
    struct list ready; /* streams */
    struct list say;   /* sources */
    bool ready_due;    /* tell the keeper that it was told everything */
    bool writing;      /* waiting for the socket to take more */
    bool quit;
    struct timer orphan;
    int look[2]; /* pipe into which contents are copied; empty between turns */
    int null;    /* where they are moved when written */
    char work[WORK_BYTES];
    struct buf batch;
};

static void pump(struct logger *l);

static int64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void mark_ready(struct stream *s)
{
    list_remove(&s->ready);
    list_push(&s->source->logger->ready, &s->ready);
}

/* --- lines ----------------------------------------------------------------------------------------- */

static void put_entry(struct stream *s, const char *text, size_t length)
{
    if (!s->source->discard)
        logfile_entry(&s->source->logger->batch, text, length, s->name, wall_ns());
}

static void write_batch(struct stream *s)
{
    struct source *source = s->source;

    if (source->logger->batch.length)
        logfile_write(&source->file, &source->logger->batch);
}

/* Put every entry there is in data into the batch; returns how many bytes they were. */
static size_t put_entries(struct stream *s, const char *data, size_t size)
{
    size_t used = 0, cut;

    while ((cut = logfile_cut(data + used, size - used))) {
        put_entry(s, data + used, cut);
        used += cut;
    }
    return used;
}

/* The unfinished line in memory, as an entry of its own. */
static void put_part(struct stream *s)
{
    if (s->part.length)
        put_entry(s, buf_bytes(&s->part), s->part.length);
    buf_fini(&s->part);
}

/* --- pipes ----------------------------------------------------------------------------------------- */

/* Look at what the pipe holds, up to a turn's worth, behind `offset` in the work buffer. */
static size_t look(struct stream *s, size_t offset)
{
    struct logger *l = s->source->logger;
    ssize_t seen = tee(s->fd, l->look[1], TURN_BYTES, SPLICE_F_NONBLOCK);
    size_t done = 0;

    while (seen > 0 && done < (size_t)seen) {
        ssize_t got = read(l->look[0], l->work + offset + done, (size_t)seen - done);

        if (got <= 0)
            break; /* it was put there just now */
        done += (size_t)got;
    }
    return done;
}

static void take_away(struct stream *s, size_t size)
{
    struct logger *l = s->source->logger;

    while (size) {
        ssize_t moved = splice(s->fd, NULL, l->null, NULL, size, SPLICE_F_NONBLOCK);

        if (moved <= 0)
            break; /* nobody else reads it: cannot be */
        size -= (size_t)moved;
    }
}

/* One turn of a pipe. `all`: leave nothing in it, an unfinished line goes into memory. Returns whether there was
 * something new. */
static bool turn_pipe(struct stream *s, bool all)
{
    struct logger *l = s->source->logger;
    size_t before = s->part.length;

    if (before)
        memcpy(l->work, buf_bytes(&s->part), before);
    size_t seen = look(s, before);
    if (seen == s->left && !all)
        return false;
    size_t total = before + seen;
    size_t used = put_entries(s, l->work, total);
    write_batch(s);
    if (used >= before && !all) { /* what is unfinished begins in the pipe: it stays there */
        take_away(s, used - before);
        s->left = total - used;
        buf_fini(&s->part);
    } else { /* it begins in memory already, or must leave */
        take_away(s, seen);
        s->left = 0;
        buf_fini(&s->part);
        if (used < total)
            buf_append(&s->part, l->work + used, total - used);
    }
    return seen > 0;
}

/* --- terminals ------------------------------------------------------------------------------------- */

static bool turn_terminal(struct stream *s)
{
    struct logger *l = s->source->logger;
    size_t before = s->part.length, total = before;

    if (before)
        memcpy(l->work, buf_bytes(&s->part), before);
    while (total < WORK_BYTES) {
        ssize_t got = read(s->fd, l->work + total, MIN(WORK_BYTES - total, (size_t)4096));

        if (got <= 0)
            break; /* nothing now; EIO: nobody has it open, which may change */
        total += (size_t)got;
    }
    if (total == before)
        return false;
    size_t used = put_entries(s, l->work, total);
    write_batch(s);
    buf_fini(&s->part);
    if (used < total)
        buf_append(&s->part, l->work + used, total - used);
    return true;
}

static bool turn(struct stream *s, bool all)
{
    timer_clear(&s->linger);
    if (s->fd < 0)
        return false;
    bool more = s->source->tty ? turn_terminal(s) : turn_pipe(s, all);
    if (s->left || (s->part.length && s->source->live))
        timer_set(&s->source->logger->loop, &s->linger, LINGER_US);
    return more;
}

static void stream_on_linger(struct timer *t)
{
    struct stream *s = container_of(t, struct stream, linger);

    if (turn(s, true))
        mark_ready(s);
    else if (s->source->live && s->part.length) {
        put_part(s);
        write_batch(s);
    }
}

static void stream_on_event(struct watch *w, uint32_t events)
{
    (void)events;
    mark_ready(container_of(w, struct stream, watch));
}

/* One turn for everything that may have something. */
static void run_ready(struct logger *l)
{
    struct list now;
    struct list *item;

    list_init(&now);
    list_splice(&now, &l->ready);
    while ((item = list_pop(&now))) {
        struct stream *s = list_entry(item, struct stream, ready);

        if (turn(s, false))
            mark_ready(s); /* there may be more: edges come only for what is written from now on */
    }
}

/* --- sources --------------------------------------------------------------------------------------- */

static void stream_init(struct source *source, struct stream *s, const char *name)
{
    *s = (struct stream){.source = source, .fd = -1, .name = name};
    s->watch.fd = -1;
    list_init(&s->ready);
    timer_init(&s->linger, stream_on_linger);
}

static void stream_close(struct stream *s)
{
    watch_stop(&s->source->logger->loop, &s->watch);
    timer_clear(&s->linger);
    list_remove(&s->ready);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    buf_fini(&s->part);
}

static void source_free(struct source *s)
{
    stream_close(&s->out);
    stream_close(&s->err);
    logfile_close(&s->file);
    list_remove(&s->link);
    list_remove(&s->say);
    map_remove(&s->logger->by_sandbox, s->sandbox);
    free(s->sandbox);
    free(s->id);
    free(s);
}

static void source_say(struct source *s)
{
    list_remove(&s->say);
    list_push(&s->logger->say, &s->say);
    pump(s->logger);
}

static int take_fd(int *fds, unsigned count, bool has, uint32_t position)
{
    return has && position < count ? steal_fd(&fds[position]) : -1;
}

static int stream_start(struct stream *s, int fd)
{
    if (fd < 0)
        return 0;
    s->fd = fd;
    /* Ours alone has to be nonblocking, but flags belong to the description, which others share: all agree. */
    (void)fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    int rc = watch_start(&s->source->logger->loop, &s->watch, fd, EPOLLIN | EPOLLET, stream_on_event, NULL);
    if (rc == 0)
        mark_ready(s);
    return rc;
}

static void on_add(struct logger *l, const Box *m, int *fds, unsigned count)
{
    if (!m->id || map_get(&l->by_sandbox, m->sandbox))
        return; /* we write it already */
    struct source *s = mem_alloc(sizeof(*s));
    s->logger = l;
    s->told = true;
    s->sandbox = mem_strdup(m->sandbox);
    s->id = mem_strdup(m->id);
    s->tty = m->has_terminal_fd;
    list_init(&s->say);
    list_push(&l->sources, &s->link);
    map_put(&l->by_sandbox, s->sandbox, s);
    stream_init(s, &s->out, "stdout");
    stream_init(s, &s->err, "stderr");
    int dir = take_fd(fds, count, m->has_log_fd, m->log_fd);
    s->discard = dir < 0;
    s->live = s->tty || m->log_live;
    logfile_open(&s->file, dir, s->id, m->log_size_max, m->log_files_max);
    int rc = stream_start(&s->out, s->tty ? take_fd(fds, count, true, m->terminal_fd)
                                          : take_fd(fds, count, m->has_stdout_fd, m->stdout_fd));
    if (rc == 0)
        rc = stream_start(&s->err, take_fd(fds, count, !s->tty && m->has_stderr_fd, m->stderr_fd));
    if (rc < 0)
        log_error("output is not logged", "container=%s error=\"%s\"", s->id, err_name(rc));
}

static void drain_stream(struct stream *s)
{
    for (int i = 0; i < DRAIN_TURNS && turn(s, true); i++)
        ;
    put_part(s);
    write_batch(s);
}

static void on_drain(struct logger *l, const char *sandbox)
{
    struct source *s = map_get(&l->by_sandbox, sandbox);

    if (!s || s->drained)
        return;
    drain_stream(&s->out);
    drain_stream(&s->err);
    stream_close(&s->out);
    stream_close(&s->err);
    s->drained = true;
    source_say(s);
}

/* --- the keeper ------------------------------------------------------------------------------------ */

static void drop_keeper(struct logger *l)
{
    if (l->fd < 0)
        return;
    watch_stop(&l->loop, &l->watch);
    close(l->fd);
    l->fd = -1;
    while (list_pop(&l->say))
        ;
    if (list_empty(&l->sources))
        l->quit = true; /* nobody needs us; the next keeper starts its own */
    else
        timer_set(&l->loop, &l->orphan, ORPHAN_US);
}

/* The node was removed while its keeper was dead: no keeper will ever come. */
static void logger_on_orphan(struct timer *t)
{
    struct logger *l = container_of(t, struct logger, orphan);

    if (faccessat(l->run, KEEPER_LOG_SOCKET, F_OK, 0) < 0 && errno == ENOENT)
        l->quit = true;
    else
        timer_set(&l->loop, t, ORPHAN_US);
}

static int say_source(struct source *s)
{
    KeeperLogEvent event = KEEPER_LOG_EVENT__INIT;
    Box box = BOX__INIT;
    int fds[3];
    unsigned count = 0;

    if (s->drained) {
        event.drained = s->sandbox;
        return packet_send_message(s->logger->fd, &event.base, NULL, 0, NULL);
    }
    if (s->told)
        return 0;
    box.sandbox = s->sandbox;
    box.id = s->id;
    if (s->out.fd >= 0) {
        *(s->tty ? &box.has_terminal_fd : &box.has_stdout_fd) = true;
        *(s->tty ? &box.terminal_fd : &box.stdout_fd) = count;
        fds[count++] = s->out.fd;
    }
    if (s->err.fd >= 0) {
        box.has_stderr_fd = true;
        box.stderr_fd = count;
        fds[count++] = s->err.fd;
    }
    if (s->file.dir >= 0) {
        box.has_log_fd = true;
        box.log_fd = count;
        fds[count++] = s->file.dir;
    }
    event.found = &box;
    return packet_send_message(s->logger->fd, &event.base, fds, count, NULL);
}

static int say_all(struct logger *l)
{
    int rc = 0;

    while (!list_empty(&l->say)) {
        struct source *s = list_first(&l->say, struct source, say);

        rc = say_source(s);
        if (rc < 0)
            return rc;
        s->told = true;
        list_remove(&s->say);
        if (s->drained)
            source_free(s);
    }
    if (l->ready_due) {
        KeeperLogEvent event = KEEPER_LOG_EVENT__INIT;

        event.has_ready = event.ready = true;
        rc = packet_send_message(l->fd, &event.base, NULL, 0, NULL);
        l->ready_due = rc < 0;
    }
    return rc;
}

static void pump(struct logger *l)
{
    if (l->fd < 0)
        return;
    int rc = say_all(l);
    if (rc < 0 && rc != ERR_AGAIN) {
        drop_keeper(l);
    } else if (l->writing != (rc == ERR_AGAIN)) {
        l->writing = rc == ERR_AGAIN;
        watch_change(&l->loop, &l->watch, EPOLLIN | (l->writing ? EPOLLOUT : 0u));
    }
}

static void handle(struct logger *l, const KeeperLogRequest *r, int *fds, unsigned count)
{
    if (r->add)
        on_add(l, r->add, fds, count);
    else if (r->drain)
        on_drain(l, r->drain);
    else if (r->quit)
        l->quit = true;
}

static void keeper_on_event(struct watch *w, uint32_t events)
{
    struct logger *l = container_of(w, struct logger, watch);
    AUTO_FREE
    char *packet = mem_alloc(PACKET_BYTES);
    int got = ERR_AGAIN;

    if (events & EPOLLOUT)
        pump(l);
    for (int i = 0; i < 64 && l->fd >= 0 && !l->quit; i++) {
        AUTO_ARENA struct arena a;
        int fds[PACKET_FDS];
        unsigned count;

        arena_init(&a);
        got = packet_receive(l->fd, packet, fds, &count, NULL);
        if (got <= 0)
            break;
        const KeeperLogRequest *r = arena_unpack(&a, &keeper_log_request__descriptor, packet, (size_t)got);
        if (r)
            handle(l, r, fds, count);
        fds_close(fds, count);
    }
    if (got <= 0 && got != ERR_AGAIN)
        drop_keeper(l);
}

static int take_keeper(struct logger *l, int fd, struct err *e)
{
    struct source *s;

    drop_keeper(l);
    timer_clear(&l->orphan);
    l->quit = false;
    int rc = watch_start(&l->loop, &l->watch, fd, EPOLLIN, keeper_on_event, e);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    l->fd = fd;
    l->writing = false;
    list_each (s, &l->sources, link) {
        s->told = false;
        list_remove(&s->say);
        list_push(&l->say, &s->say);
    }
    l->ready_due = true;
    pump(l);
    return 0;
}

static void listen_on_event(struct watch *w, uint32_t events)
{
    struct logger *l = container_of(w, struct logger, listen_watch);
    struct err e;
    int fd, rc = l->quit ? ERR_AGAIN : packet_accept(l->listener, &fd, &e); /* told to end: the next one serves */

    (void)events;
    if (rc == 0)
        rc = take_keeper(l, fd, &e);
    if (rc < 0 && rc != ERR_AGAIN)
        log_warn("connection refused", "error=\"%s\"", e.text);
}

/* --- start and end --------------------------------------------------------------------------------- */

static int logger_open(struct logger *l, int channel, struct err *e)
{
    int rc = resume_lock(l->run, KEEPER_LOG_LOCK, &l->lock, e);

    if (rc < 0)
        return rc;
    if (pipe2(l->look, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, "make a pipe");
    l->null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (l->null < 0)
        return err_errno(e, "open /dev/null");
    rc = loop_init(&l->loop, e);
    if (rc == 0)
        rc = packet_listen(l->run, KEEPER_LOG_SOCKET, &l->listener, e);
    if (rc == 0)
        rc = watch_start(&l->loop, &l->listen_watch, l->listener, EPOLLIN, listen_on_event, e);
    if (rc == 0)
        rc = take_keeper(l, channel, e);
    return rc;
}

static void logger_end(struct logger *l)
{
    struct source *s;

    while ((s = list_first(&l->sources, struct source, link))) {
        struct stream *streams[] = {&s->out, &s->err};

        for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
            put_part(streams[i]);
            write_batch(streams[i]);
        }
        source_free(s);
    }
    (void)unlinkat(l->run, KEEPER_LOG_SOCKET, 0); /* while the lock is still ours */
}

int logger_main(int channel, int run_fd)
{
    static struct logger l; /* large */
    struct err e;

    log_set_prefix("logger");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(0); /* a log has the mode it is opened with */
    l.run = run_fd;
    l.fd = l.listener = l.watch.fd = l.listen_watch.fd = -1;
    list_init(&l.sources);
    list_init(&l.ready);
    list_init(&l.say);
    timer_init(&l.orphan, logger_on_orphan);
    if (fcntl(channel, F_SETFL, O_NONBLOCK) < 0 || fcntl(channel, F_SETFD, FD_CLOEXEC) < 0)
        return 1;
    if (logger_open(&l, channel, &e) < 0) {
        log_error("logger does not start", "error=\"%s\"", e.text);
        return e.code == ERR_CONFLICT ? KEEPER_EXIT_BUSY : 1;
    }
    while (!l.quit) {
        loop_turn(&l.loop, list_empty(&l.ready) ? -1 : 0);
        run_ready(&l);
    }
    logger_end(&l);
    return 0;
}
