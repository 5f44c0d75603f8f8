/* Reading logs: see engine.h and reference/engine-surface.md section 8.
 *
 * The logger (another process) writes <id>-json.log and rotates by renaming: .1 is the next older one, and so on
 * up; with a single file it truncates. A reader knows its file by inode, not by name: at the end of a file it looks
 * where that file stands now, and goes on with the next newer one, so that rotation under its hands loses and
 * repeats nothing. A file that was removed meanwhile is followed by the oldest one left.
 *
 *     TAIL -----> READ <-----> WAIT (following)
 *      |           |            |
 *      +-----------+---> END <--+
 *
 * TAIL counts newlines backwards, from the newest file into older ones, and leaves the reader where the last N
 * lines begin. Everything goes in slices of SLICE bytes, one per turn of the loop. While there is nothing new,
 * inotify (on the directory) and changes of the container wake it; the keeper reports an end only after the last
 * output has been written, so an ended container whose files are read is done.
 *
 * A reader of one run (to_exit: who is attached) may come before the start and ends with that run. The directory of
 * a container that is removed stays until its last follower has read it to the end; after a crash it is one without
 * a record, which goes.
 *
 * A line that is none is counted and skipped, one longer than LINE_MAX as well; memory stays bounded whatever the
 * file holds. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/container/container.h"
#include "engine/container/logline.h"
#include "engine/container/logs.h"
#include "engine/sweep.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define SLICE          (64 * 1024)
#define LINE_MAX_BYTES (512 * 1024) /* 16 KiB of text, every byte escaped, is well below */
#define FILES_MAX      10000

enum log_state { LOG_TAIL, LOG_READ, LOG_WAIT, LOG_END };

static const char *const state_names[] = {"tail", "read", "wait", "end"};
static const uint32_t state_moves[] = {
    [LOG_TAIL] = SM_TO(LOG_READ) | SM_TO(LOG_END),
    [LOG_READ] = SM_TO(LOG_WAIT) | SM_TO(LOG_END),
    [LOG_WAIT] = SM_TO(LOG_READ) | SM_TO(LOG_END),
    [LOG_END] = 0,
};
static const struct sm_table machine = {"log reader", state_names, state_moves, ARRAY_SIZE(state_names)};

struct engine_log {
    struct engine *en;
    struct list link; /* in en->logs */
    struct engine_log_options options;
    struct engine_log_events events;
    char id[HEX_ID_TEXT + 1]; /* of the container */
    int state;                /* enum log_state */
    int dir_fd;               /* of the container; lasts beyond its removal */

    int fd;         /* the file being read; -1: none yet */
    ino_t inode;    /* of it */
    off_t offset;   /* of the next byte to be read; in TAIL: of the first one looked at so far */
    int64_t lines;  /* TAIL: still to be found */
    struct buf raw; /* read and not yet parsed */
    bool skipping;  /* inside a line that is too long */
    uint64_t damaged;

    bool run_over; /* options.to_exit: that run has ended */
    bool paused;   /* by on_line */
    bool closing;
    uv_idle_t idle;       /* one slice per turn, while there is something to do */
    uv_fs_event_t notify; /* following */
    unsigned open_handles;
    struct engine_watch watch; /* following */
    struct alarm until;        /* following to a time */
};

static void end(struct engine_log *l, const struct err *e);

/* --- files --------------------------------------------------------------------------------------- */

static void file_name(const struct engine_log *l, unsigned index, char ret[HEX_ID_TEXT + 32])
{
    if (index)
        (void)snprintf(ret, HEX_ID_TEXT + 32, "%s-json.log.%u", l->id, index);
    else
        (void)snprintf(ret, HEX_ID_TEXT + 32, "%s-json.log", l->id);
}

static bool file_inode(const struct engine_log *l, unsigned index, ino_t *ret)
{
    char name[HEX_ID_TEXT + 32];
    struct stat st;

    file_name(l, index, name);
    if (fstatat(l->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return false;
    *ret = st.st_ino;
    return true;
}

/* Open a file in place of the present one. */
static bool file_open(struct engine_log *l, unsigned index)
{
    char name[HEX_ID_TEXT + 32];
    struct stat st;

    file_name(l, index, name);
    AUTO_CLOSE
    int fd = openat(l->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = steal_fd(&fd);
    l->inode = st.st_ino;
    l->offset = 0;
    return true;
}

/* Where the present file stands now, and the oldest one. With one file or none both are 0. While the logger
 * rotates, one number may be missing. */
static bool file_place(const struct engine_log *l, unsigned *ret_place, unsigned *ret_oldest)
{
    bool found = false, gap = false;
    ino_t inode;

    *ret_oldest = 0;
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (!file_inode(l, i, &inode)) {
            if (gap)
                break;
            gap = true;
            continue;
        }
        gap = false;
        *ret_oldest = i;
        if (l->fd >= 0 && inode == l->inode) {
            *ret_place = i;
            found = true;
        }
    }
    return found;
}

/* Go on with the next newer file; false when the present one is the newest. */
static bool file_newer(struct engine_log *l)
{
    unsigned place, oldest;

    if (!file_place(l, &place, &oldest))
        return file_open(l, oldest);
    while (place-- > 0)
        if (file_open(l, place))
            return true;
    return false;
}

/* Go back to the next older file, at its end. */
static bool file_older(struct engine_log *l)
{
    unsigned place, oldest;
    struct stat st;

    if (!file_place(l, &place, &oldest) || place == oldest || !file_open(l, place + 1))
        return false;
    l->offset = fstat(l->fd, &st) == 0 ? st.st_size : 0;
    return true;
}

/* --- tail ---------------------------------------------------------------------------------------- */

static void begin_reading(struct engine_log *l)
{
    sm_move(&machine, &l->state, LOG_READ);
}

/* One slice backwards. The newline that ends the file's last line is not one before a line that is wanted, so one
 * more than the lines is looked for. */
static void step_tail(struct engine_log *l)
{
    AUTO_FREE
    char *slice = mem_alloc(SLICE);
    size_t size = (size_t)MIN(l->offset, (off_t)SLICE);
    ssize_t got = pread(l->fd, slice, size, l->offset - (off_t)size);

    if (got != (ssize_t)size) { /* truncated under our hands: what is left is little */
        l->offset = 0;
        begin_reading(l);
        return;
    }
    for (size_t i = size; i-- > 0;) {
        if (slice[i] != '\n')
            continue;
        if (l->lines-- == 0) {
            l->offset -= (off_t)(size - i - 1);
            begin_reading(l);
            return;
        }
    }
    l->offset -= (off_t)size;
    if (l->offset > 0)
        return;
    /* The whole file is wanted. Its first line has no newline before it, so the next older one's last counts as
     * that. */
    if (!file_older(l)) {
        l->offset = 0;
        begin_reading(l);
    }
}

static void begin_tail(struct engine_log *l)
{
    struct stat st;

    if (!file_open(l, 0) || fstat(l->fd, &st) < 0) {
        begin_reading(l);
        return;
    }
    l->offset = st.st_size;
    l->lines = l->options.tail;
}

/* --- reading ------------------------------------------------------------------------------------- */

/* False: stop for now (paused, ended or closed). */
static bool give_line(struct engine_log *l, char *line, size_t size)
{
    struct logline parsed;

    if (!size)
        return true;
    if (!logline_parse(line, size, &parsed)) {
        l->damaged++;
        return true;
    }
    if (l->options.until_ns && parsed.time_ns > l->options.until_ns) {
        end(l, NULL);
        return false;
    }
    if (l->options.since_ns && parsed.time_ns < l->options.since_ns)
        return true;
    if (!(parsed.stream == LOGLINE_STDOUT ? l->options.standard_out : l->options.standard_error))
        return true;
    l->paused = !l->events.on_line(l->events.ctx, parsed.time_ns, parsed.stream, parsed.text, parsed.size);
    return !l->paused && !l->closing;
}

/* Parse what was read; false: stop for now. */
static bool give_lines(struct engine_log *l)
{
    while (l->raw.length) {
        char *line = buf_bytes(&l->raw), *newline = memchr(line, '\n', l->raw.length);
        size_t size = newline ? (size_t)(newline - line) : l->raw.length;

        if (!newline && !l->skipping && size <= LINE_MAX_BYTES)
            return true; /* the rest comes later */
        bool skip = l->skipping;
        l->skipping = !newline;
        if (skip || !newline || size > LINE_MAX_BYTES) {
            l->damaged += !skip;
            buf_consume(&l->raw, size + (newline != NULL));
            continue;
        }
        /* The line must outlive its callback, which may close the reader: only then it is consumed. */
        bool go_on = give_line(l, line, size);
        if (l->state == LOG_END || l->closing)
            return false;
        buf_consume(&l->raw, size + 1);
        if (!go_on)
            return false;
    }
    return true;
}

static bool is_over(const struct engine_log *l)
{
    struct container *c;

    if (!l->options.follow || container_find(l->en, l->id, &c, NULL) < 0)
        return true;
    if (l->options.to_exit)
        return l->run_over;
    return !container_is_running(c) && c->life != LIFE_STARTING;
}

/* The present file has no more bytes. */
static void at_file_end(struct engine_log *l)
{
    struct stat st;

    if (l->fd >= 0 && fstat(l->fd, &st) == 0 && st.st_size < l->offset) { /* truncated: a single file was full */
        l->offset = 0;
        buf_clear(&l->raw);
        return;
    }
    if (file_newer(l)) {
        buf_clear(&l->raw); /* half a line at the end of an old file stays half */
        return;
    }
    if (is_over(l))
        end(l, NULL);
    else
        sm_move(&machine, &l->state, LOG_WAIT);
}

static void step_read(struct engine_log *l)
{
    ssize_t got;

    if (!give_lines(l))
        return;
    got = l->fd >= 0 ? pread(l->fd, buf_reserve(&l->raw, SLICE), SLICE, l->offset) : 0;
    if (got < 0) {
        struct err e;

        err_errno(&e, "read the log of container %s", l->id);
        end(l, &e);
        return;
    }
    if (got == 0) {
        at_file_end(l);
        return;
    }
    buf_added(&l->raw, (size_t)got);
    l->offset += got;
    (void)give_lines(l);
}

/* --- turns --------------------------------------------------------------------------------------- */

static void on_idle(uv_idle_t *idle);

static void keep_turning(struct engine_log *l)
{
    bool wanted = !l->closing && !l->paused && (l->state == LOG_TAIL || l->state == LOG_READ);

    if (wanted && !uv_is_active((uv_handle_t *)&l->idle))
        (void)uv_idle_start(&l->idle, on_idle); /* cannot fail: the callback is given */
    else if (!wanted && !l->closing)
        (void)uv_idle_stop(&l->idle); /* cannot fail */
}

static void on_idle(uv_idle_t *idle)
{
    struct engine_log *l = container_of(idle, struct engine_log, idle);

    if (l->state == LOG_TAIL)
        step_tail(l);
    else if (l->state == LOG_READ)
        step_read(l);
    keep_turning(l);
}

static void wake(struct engine_log *l)
{
    if (l->state != LOG_WAIT || l->closing)
        return;
    sm_move(&machine, &l->state, LOG_READ);
    keep_turning(l);
}

static void on_notify(uv_fs_event_t *notify, const char *name, int events, int status)
{
    wake(container_of(notify, struct engine_log, notify));
}

static void on_change(void *ctx, enum engine_change what, const ContainerRecord *record)
{
    struct engine_log *l = ctx;

    if (strcmp(record->id, l->id) != 0)
        return;
    l->run_over = l->run_over || what == ENGINE_DIED;
    wake(l);
}

static void on_until(struct alarm *m)
{
    struct engine_log *l = container_of(m, struct engine_log, until);

    if (l->state == LOG_WAIT)
        end(l, NULL); /* else it ends with the first later line, or when all is read */
    else
        l->options.follow = false;
}

/* --- beginning and ending -------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct engine_log *l = handle->data;

    if (--l->open_handles)
        return;
    buf_fini(&l->raw);
    free(l);
}

bool logs_are_read(struct engine *en, const char *id)
{
    const struct engine_log *l;

    list_each (l, &en->logs, link)
        if (l->options.follow && strcmp(l->id, id) == 0)
            return true;
    return false;
}

/* The last who reads what a removed container has written lets its directory go (remove.c). */
static void let_go(struct engine_log *l)
{
    struct containers *s = l->en->containers;

    if (!l->en->closing && l->options.follow && !map_get(&s->by_id, l->id) && !logs_are_read(l->en, l->id))
        (void)sweep_take(s->sweep, s->fd, l->id, NULL); /* else it goes at the next start */
}

static void close_reader(struct engine_log *l)
{
    if (l->damaged)
        log_warn("damaged lines of a log were skipped", "container=%s count=%" PRIu64, l->id, l->damaged);
    l->closing = true;
    list_remove(&l->link);
    let_go(l);
    engine_unwatch(&l->watch);
    alarm_clear(&l->until);
    if (l->fd >= 0)
        close(l->fd);
    close(l->dir_fd);
    uv_close((uv_handle_t *)&l->idle, on_handle_closed);
    uv_close((uv_handle_t *)&l->notify, on_handle_closed);
}

static void end(struct engine_log *l, const struct err *e)
{
    static const struct err fine = {0};
    struct engine_log_events events = l->events;

    sm_move(&machine, &l->state, LOG_END);
    close_reader(l);
    events.on_end(events.ctx, e ? e : &fine);
}

static int begin_following(struct engine_log *l, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/containers/%s", l->en->config.data_dir, l->id);
    int64_t now = engine_now_ns();
    int rc = uv_fs_event_start(&l->notify, on_notify, path, 0);

    if (rc < 0)
        return err_number(e, -rc, "watch the log of container %s", l->id);
    engine_watch(l->en, &l->watch);
    if (l->options.until_ns)
        alarm_set(&l->en->alarms, &l->until,
                  l->options.until_ns > now ? (uint64_t)(l->options.until_ns - now) / 1000000 + 1 : 0, on_until);
    return 0;
}

int engine_log_open(struct engine *en, const char *ref, const struct engine_log_options *options,
                    const struct engine_log_events *events, struct engine_log **ret, struct err *e)
{
    struct container *c;
    const HostConfig *host;
    AUTO_CLOSE
    int dir_fd = -1;
    int rc = en->closing ? err_set(e, ERR_UNAVAILABLE, "the engine is closing") : container_find(en, ref, &c, e);

    if (rc < 0)
        return rc;
    host = c->record->config->host;
    if (host && host->log_driver && strcmp(host->log_driver, "none") == 0)
        return err_set(e, ERR_UNSUPPORTED, "configured logging driver does not support reading");
    rc = container_dir(c, &dir_fd, e);
    if (rc < 0)
        return rc;
    struct engine_log *l = mem_alloc(sizeof(*l));
    l->en = en;
    l->options = *options;
    l->events = *events;
    memcpy(l->id, c->record->id, HEX_ID_TEXT);
    l->dir_fd = steal_fd(&dir_fd);
    l->fd = -1;
    l->state = LOG_TAIL;
    l->watch.ctx = l;
    l->watch.on_change = on_change;
    list_init(&l->watch.link);
    alarm_init(&l->until);
    (void)uv_idle_init(en->loop, &l->idle);       /* cannot fail */
    (void)uv_fs_event_init(en->loop, &l->notify); /* cannot fail */
    l->idle.data = l->notify.data = l;
    l->open_handles = 2;
    list_push(&en->logs, &l->link);
    if (options->follow) {
        rc = begin_following(l, e);
        if (rc < 0) {
            close_reader(l);
            return rc;
        }
    }
    if (options->tail >= 0)
        begin_tail(l);
    else
        begin_reading(l);
    keep_turning(l);
    *ret = l;
    return 0;
}

void engine_log_resume(struct engine_log *l)
{
    if (!l->paused || l->closing)
        return;
    l->paused = false;
    keep_turning(l);
}

void engine_log_close(struct engine_log *l)
{
    assert(l->state != LOG_END);
    sm_move(&machine, &l->state, LOG_END);
    close_reader(l);
}

void logs_close(struct engine *en)
{
    struct err canceled = {ERR_CANCELED, "the engine is closing"};

    while (!list_empty(&en->logs))
        end(list_first(&en->logs, struct engine_log, link), &canceled);
}
