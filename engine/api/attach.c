/* Attaching: a hijacked connection between a client and a container (reference/engine-surface.md section 9).
 *
 * What the container writes is read from its log, from the end of what is there when the client comes, to the end
 * of the run that is under way or comes next. So a slow client costs nobody anything: the file is the buffer, and
 * neither the container nor memory waits for him. He loses only what a log with a size limit (max-size) has rotated
 * away before he read it. The logger writes unfinished lines of such containers soon (LogTarget.live), so that a
 * prompt is seen.
 *
 * What the client types goes to the container's terminal or pipe through a duplicate of the descriptor that the
 * keeper shares with us. One piece is held at most; the client is held back until it is written, also while the
 * container does not run yet. The client's half-close ends the container's input when that was made for one client
 * (StdinOnce), and so does his leaving.
 *
 *     client --- on_data --> keys --> input --> terminal or pipe (poll: writable)
 *     client <-- http_write --------- on_line <-- log reader
 *
 * It ends when the reader has come to the end, when the client leaves, or when he types the keys to detach. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/api/api.h"
#include "engine/api/attach.h"
#include "engine/api/detach.h"
#include "engine/api/logs.h"
#include "engine/container/container.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

struct input_poll { /* closed asynchronously */
    uv_poll_t handle;
    int fd;
    struct attach *attach;
};

struct attach {
    struct api_call *call;  /* held */
    struct engine_log *log; /* NULL: no output was asked for, or it has ended */
    struct engine_watch watch;
    char id[HEX_ID_TEXT + 1];
    bool is_terminal;
    bool types;       /* input was asked for, and the container takes some */
    bool once;        /* the input ends with the client */
    bool input_over;  /* the client's half-close has come */
    bool held_back;   /* the client, until `input` is written */
    struct buf input; /* received and not yet written */
    struct detach keys;
    struct input_poll *poll; /* NULL: the container does not run yet, or reads no more */
};

static struct container *container_of_attach(const struct attach *a)
{
    struct container *c = NULL;

    (void)container_find(a->call->en, a->id, &c, NULL); /* it may be gone */
    return c;
}

/* --- input --------------------------------------------------------------------------------------- */

static void on_poll_closed(uv_handle_t *handle)
{
    struct input_poll *p = container_of((uv_poll_t *)handle, struct input_poll, handle);

    close(p->fd);
    free(p);
}

static void drop_poll(struct attach *a)
{
    if (!a->poll)
        return;
    (void)uv_poll_stop(&a->poll->handle); /* cannot fail */
    uv_close((uv_handle_t *)&a->poll->handle, on_poll_closed);
    a->poll = NULL;
}

static bool take_poll(struct attach *a)
{
    struct engine *en = a->call->en;
    int shared = a->is_terminal ? keeper_terminal(en->keeper, a->id) : keeper_stdin(en->keeper, a->id);
    int fd = a->poll || shared < 0 ? -1 : fcntl(shared, F_DUPFD_CLOEXEC, 0);

    if (fd < 0)
        return a->poll != NULL;
    struct input_poll *p = mem_alloc(sizeof(*p));
    p->fd = fd;
    p->attach = a;
    if (uv_poll_init(en->loop, &p->handle, fd) < 0) {
        close(fd);
        free(p);
        return false;
    }
    a->poll = p;
    return true;
}

/* The client types no more. */
static void end_input(struct attach *a)
{
    struct container *c = container_of_attach(a);

    drop_poll(a);
    if (!a->types || !a->once || !c)
        return;
    if (c->life == LIFE_CREATED || c->life == LIFE_ENDED || c->life == LIFE_STARTING)
        c->stdin_ended = true; /* for the run that comes */
    else
        keeper_close_stdin(c->en->keeper, a->id);
}

static void on_poll(uv_poll_t *handle, int status, int events);

/* Write what there is; then let the client go on. */
static void write_input(struct attach *a)
{
    while (a->input.length) {
        if (!take_poll(a))
            return; /* once it runs */
        ssize_t done = write(a->poll->fd, buf_bytes(&a->input), a->input.length);

        if (done < 0 && errno == EAGAIN) {
            (void)uv_poll_start(&a->poll->handle, UV_WRITABLE, on_poll); /* cannot fail: it was initialised */
            return;
        }
        if (done < 0) /* nobody reads it any more: into nothing */
            buf_clear(&a->input);
        else
            buf_consume(&a->input, (size_t)done);
    }
    if (a->poll)
        (void)uv_poll_stop(&a->poll->handle); /* cannot fail */
    if (a->held_back) {
        a->held_back = false;
        http_body_resume(a->call->x);
    }
    if (!a->input_over)
        return;
    end_input(a);
    a->types = false;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    write_input(container_of(handle, struct input_poll, handle)->attach);
}

/* --- ending -------------------------------------------------------------------------------------- */

static void finish(struct attach *a)
{
    struct api_call *c = a->call;

    engine_unwatch(&a->watch);
    if (a->log)
        engine_log_close(a->log);
    end_input(a);
    buf_fini(&a->input);
    c->on_left = NULL;
    free(a);
    api_release(c);
}

static void hang_up(struct attach *a)
{
    http_hijack_end(a->call->x);
    finish(a);
}

static void on_left(struct api_call *c)
{
    finish(c->state);
}

/* Not the client's end: what comes after him may type. */
static void detach(struct attach *a)
{
    struct container *c = container_of_attach(a);

    a->once = false;
    if (c)
        container_tell(c, -1, "detach", NULL, 0);
    hang_up(a);
}

/* --- the two ways -------------------------------------------------------------------------------- */

static bool on_data(struct http_exchange *x, const char *data, size_t size)
{
    struct api_call *c = http_data(x);
    struct attach *a = c->state;

    if (!c->on_left || !a->types) /* over, or nobody wants to know */
        return true;
    if (!data) {
        a->input_over = true;
    } else if (!a->is_terminal) {
        buf_append(&a->input, data, size);
    } else if (detach_type(&a->keys, data, size, &a->input)) {
        write_input(a);
        detach(a);
        return true;
    }
    write_input(a);
    a->held_back = a->input.length > 0;
    return !a->held_back;
}

static void on_writable(struct http_exchange *x)
{
    struct api_call *c = http_data(x);
    struct attach *a = c->state;

    if (c->on_left && a->log)
        engine_log_resume(a->log);
}

static bool on_line(void *ctx, int64_t time_ns, unsigned stream, const char *data, size_t size)
{
    struct attach *a = ctx;

    return api_frame(a->call->x, a->is_terminal ? 0 : stream, "", data, size);
}

static void on_log_end(void *ctx, const struct err *e)
{
    struct attach *a = ctx;

    a->log = NULL;
    hang_up(a);
}

static void on_change(void *ctx, enum engine_change what, const ContainerRecord *record)
{
    struct attach *a = ctx;

    if (strcmp(record->id, a->id) != 0)
        return;
    if (what == ENGINE_STARTED)
        write_input(a);
    else if ((what == ENGINE_DIED || what == ENGINE_REMOVED) && !a->log)
        hang_up(a); /* it only typed */
}

/* --- beginning ----------------------------------------------------------------------------------- */

static int check(const struct container *c, struct err *e)
{
    const HostConfig *host = c->record->config->host;

    if (c->record->state->paused)
        return err_set(e, ERR_CONFLICT, "container %s is paused, unpause the container before attach",
                       c->record->id);
    if (c->life == LIFE_WAITING)
        return err_set(e, ERR_CONFLICT, "container %s is restarting, wait until the container is running",
                       c->record->id);
    if (host->log_driver && strcmp(host->log_driver, "none") == 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "attaching to a container with log driver \"none\" " API_NOT_IMPLEMENTED ": use json-file");
    return 0;
}

static int open_log(struct attach *a, bool replays, bool streams, struct err *e)
{
    struct engine_log_options options = {
        .follow = streams,
        .to_exit = streams,
        .standard_out = http_query_bool(a->call->x, "stdout"),
        .standard_error = http_query_bool(a->call->x, "stderr"),
        .tail = replays ? -1 : 0,
    };
    struct engine_log_events events = {.ctx = a, .on_line = on_line, .on_end = on_log_end};

    if (!options.standard_out && !options.standard_error)
        return 0;
    if (a->is_terminal) /* it has one stream */
        options.standard_out = true;
    return engine_log_open(a->call->en, a->id, &options, &events, &a->log, e);
}

void api_attach(struct api_call *c)
{
    struct container *container;
    struct err e = {0};
    bool replays = http_query_bool(c->x, "logs"), streams = http_query_bool(c->x, "stream");
    int rc = container_find(c->en, c->name, &container, &e);

    if (rc == 0)
        rc = check(container, &e);
    if (rc < 0) {
        api_error(c, &e);
        return;
    }
    const ContainerConfig *config = container->record->config;
    struct attach *a = mem_alloc(sizeof(*a));
    a->call = c;
    a->is_terminal = config->tty;
    a->types = streams && config->open_stdin && http_query_bool(c->x, "stdin");
    a->once = config->stdin_once && !config->tty;
    a->watch = (struct engine_watch){.ctx = a, .on_change = on_change};
    list_init(&a->watch.link);
    memcpy(a->id, container->record->id, sizeof(a->id));
    rc = detach_parse(http_query(c->x, "detachKeys"), &a->keys, &e);
    if (rc == 0)
        rc = open_log(a, replays, streams, &e);
    if (rc < 0) {
        free(a);
        api_error(c, &e);
        return;
    }
    api_hold(c);
    c->state = a;
    c->on_left = on_left;
    http_hijack(c->x, api_frame_type(c, a->is_terminal), on_data, on_writable);
    if (!a->log && !streams) {
        hang_up(a);
        return;
    }
    engine_watch(c->en, &a->watch);
    container_tell(container, -1, "attach", NULL, 0);
}

/* --- the terminal's size ------------------------------------------------------------------------- */

static bool take_side(struct api_call *c, const char *key, unsigned short *ret)
{
    int64_t value = -1;
    struct err e;

    if (!api_int(c, key, &value))
        return false;
    if (value < 0 || value > UINT16_MAX) {
        err_set(&e, ERR_INVALID, "invalid %s: expected a number from 0 to %d, got \"%.32s\"", key, UINT16_MAX,
                http_query(c->x, key) ? http_query(c->x, key) : "");
        api_error(c, &e);
        return false;
    }
    *ret = (unsigned short)value;
    return true;
}

void api_resize(struct api_call *c)
{
    struct container *container;
    struct winsize size = {0};
    char height[8], width[8];
    struct event_attribute about[] = {{"height", height}, {"width", width}};
    struct err e = {0};

    if (container_find(c->en, c->name, &container, &e) < 0) {
        api_error(c, &e);
        return;
    }
    if (!take_side(c, "h", &size.ws_row) || !take_side(c, "w", &size.ws_col))
        return;
    int terminal = keeper_terminal(c->en->keeper, container->record->id);
    if (container->life != LIFE_RUNNING || (terminal < 0 && container->record->config->tty)) {
        err_set(&e, ERR_CONFLICT, "container %s is not running", container->record->id);
        api_error(c, &e);
        return;
    }
    if (terminal >= 0 && ioctl(terminal, TIOCSWINSZ, &size) < 0) { /* without one there is nothing to size */
        err_errno(&e, "size of the terminal of container %s", container->record->id);
        api_error(c, &e);
        return;
    }
    (void)snprintf(height, sizeof(height), "%u", size.ws_row);
    (void)snprintf(width, sizeof(width), "%u", size.ws_col);
    container_tell(container, -1, "resize", about, ARRAY_SIZE(about));
    api_empty(c, 200);
}
