/* GET /containers/{id}/logs (reference/engine-surface.md section 8): a stream of frames, each with its stream and
 * size before it, or raw text when the container has a terminal. The reader pauses while the client reads slowly.
 *
 * POST /containers/{id}/attach is the same on a connection of its own, from the moment of the call (before the
 * start, as `docker run` does it) to the container's next end. What is attached to is the log, so output comes line
 * by line, and a container that nobody may write to: its input is refused.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/logs.h"
#include "engine/container/container.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

struct log_call {
    struct api_call *call;  /* held */
    struct engine_log *log; /* NULL once it has ended */
    bool raw, timestamps, attached;
};

static void finish(struct log_call *l)
{
    struct api_call *c = l->call;

    c->on_left = NULL;
    free(l);
    api_release(c);
}

static bool on_line(void *ctx, int64_t time_ns, unsigned stream, const char *data, size_t size)
{
    struct log_call *l = ctx;
    char stamp[TIME_TEXT] = "";
    AUTO_BUF
    struct buf out = {0};

    if (l->timestamps)
        time_format_ns(time_ns, stamp);
    if (!l->raw) {
        uint32_t length = htonl((uint32_t)(strlen(stamp) + l->timestamps + size));
        char head[8] = {(char)stream};

        memcpy(head + 4, &length, sizeof(length));
        buf_append(&out, head, sizeof(head));
    }
    if (l->timestamps)
        buf_printf(&out, "%s ", stamp);
    buf_append(&out, data, size);
    return http_write(l->call->x, buf_bytes(&out), out.length);
}

static void on_end(void *ctx, const struct err *e)
{
    struct log_call *l = ctx;

    /* An error after the first byte cannot be told any more: the stream just ends. */
    if (l->attached)
        http_hijack_end(l->call->x);
    else
        http_stream_end(l->call->x);
    finish(l);
}

static void on_left(struct api_call *c)
{
    struct log_call *l = c->state;

    engine_log_close(l->log);
    finish(l);
}

static void on_writable(struct http_exchange *x)
{
    struct api_call *c = http_data(x);
    struct log_call *l = c->state;

    if (c->on_left) /* else it has ended meanwhile */
        engine_log_resume(l->log);
}

static bool take_time(struct api_call *c, const char *key, int64_t *ret_ns)
{
    const char *text = http_query(c->x, key);
    struct err e;

    if (!text || !*text || filter_time(text, engine_now_ns(), ret_ns))
        return true;
    err_set(&e, ERR_INVALID, "invalid value for \"%s\": \"%.64s\"", key, text);
    api_error(c, &e);
    return false;
}

static bool take_options(struct api_call *c, struct engine_log_options *o)
{
    const char *tail = http_query(c->x, "tail");
    struct err e;

    *o = (struct engine_log_options){
        .follow = http_query_bool(c->x, "follow"),
        .standard_out = http_query_bool(c->x, "stdout"),
        .standard_error = http_query_bool(c->x, "stderr"),
        .tail = -1,
    };
    if (!o->standard_out && !o->standard_error) {
        err_set(&e, ERR_INVALID, "Bad parameters: you must choose at least one stream");
        api_error(c, &e);
        return false;
    }
    if (tail && strcmp(tail, "all") != 0 && (!api_int(c, "tail", &o->tail)))
        return false;
    return take_time(c, "since", &o->since_ns) && take_time(c, "until", &o->until_ns);
}

/* Open the reader and make it the call's; NULL when the error was answered. */
static struct log_call *open_log(struct api_call *c, const struct container *container,
                                 const struct engine_log_options *options)
{
    struct log_call *l = mem_alloc(sizeof(*l));
    struct engine_log_events events = {.ctx = l, .on_line = on_line, .on_end = on_end};
    struct err e = {0};

    l->call = c;
    l->raw = container->record->config->tty;
    if (engine_log_open(c->en, container->record->id, options, &events, &l->log, &e) < 0) {
        free(l);
        api_error(c, &e);
        return NULL;
    }
    api_hold(c);
    c->state = l;
    c->on_left = on_left;
    return l;
}

static const char *content_type(const struct log_call *l)
{
    return l->raw || l->call->minor < 42 ? "application/vnd.docker.raw-stream"
                                         : "application/vnd.docker.multiplexed-stream";
}

static bool find(struct api_call *c, struct container **ret)
{
    struct err e = {0};

    if (container_find(c->en, c->name, ret, &e) == 0)
        return true;
    api_error(c, &e);
    return false;
}

void api_logs(struct api_call *c)
{
    struct engine_log_options options;
    struct container *container;

    if (!find(c, &container) || !take_options(c, &options))
        return;
    struct log_call *l = open_log(c, container, &options);
    if (!l)
        return;
    l->timestamps = http_query_bool(c->x, "timestamps");
    http_stream(c->x, 200, content_type(l), on_writable);
}

/* --- attach -------------------------------------------------------------------------------------- */

static bool on_input(struct http_exchange *x, const char *data, size_t size)
{
    return true; /* nobody reads it: the container's standard input is not open */
}

void api_attach(struct api_call *c)
{
    struct engine_log_options options = {
        .follow = http_query_bool(c->x, "stream"),
        .standard_out = http_query_bool(c->x, "stdout"),
        .standard_error = http_query_bool(c->x, "stderr"),
        .to_exit = true,
        .tail = http_query_bool(c->x, "logs") ? -1 : 0,
    };
    struct container *container;

    if (!find(c, &container))
        return;
    if (container->record->config->open_stdin && http_query_bool(c->x, "stdin")) {
        api_absent(c, "attaching to a container's standard input (run -i)");
        return;
    }
    struct log_call *l = open_log(c, container, &options);
    if (!l)
        return;
    l->attached = true;
    http_hijack(c->x, content_type(l), on_input, on_writable);
}
