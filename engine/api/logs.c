/* GET /containers/{id}/logs (reference/engine-surface.md section 8): a stream of frames, each with its stream and
 * size before it, or raw text when the container has a terminal. The reader pauses while the client reads slowly.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
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
    bool raw, timestamps;
};

static void finish(struct log_call *l)
{
    struct api_call *c = l->call;

    c->on_left = NULL;
    free(l);
    api_release(c);
}

bool api_frame(struct http_exchange *x, unsigned stream, const char *prefix, const char *data, size_t size)
{
    uint32_t length = htonl((uint32_t)(strlen(prefix) + size));
    char head[8] = {(char)stream};
    AUTO_BUF struct buf out = {0};

    memcpy(head + 4, &length, sizeof(length));
    if (stream)
        buf_append(&out, head, sizeof(head));
    buf_append_str(&out, prefix);
    buf_append(&out, data, size);
    return http_write(x, buf_bytes(&out), out.length);
}

const char *api_frame_type(const struct api_call *c, bool is_raw)
{
    return is_raw || c->minor < 42 ? "application/vnd.docker.raw-stream"
                                   : "application/vnd.docker.multiplexed-stream";
}

static bool on_line(void *ctx, int64_t time_ns, unsigned stream, const char *data, size_t size)
{
    struct log_call *l = ctx;
    char stamp[TIME_TEXT], prefix[TIME_TEXT + 1] = "";

    if (l->timestamps) {
        time_format_ns(time_ns, stamp);
        (void)snprintf(prefix, sizeof(prefix), "%s ", stamp);
    }
    return api_frame(l->call->x, l->raw ? 0 : stream, prefix, data, size);
}

static void on_end(void *ctx, const struct err *e)
{
    struct log_call *l = ctx;

    /* An error after the first byte cannot be told any more: the stream just ends. */
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
    return api_time(c, "since", &o->since_ns) && api_time(c, "until", &o->until_ns);
}

void api_logs(struct api_call *c)
{
    struct engine_log_options options;
    struct container *container;
    struct err e = {0};

    if (container_find(c->en, c->name, &container, &e) < 0) {
        api_error(c, &e);
        return;
    }
    if (!take_options(c, &options))
        return;
    struct log_call *l = mem_alloc(sizeof(*l));
    struct engine_log_events events = {.ctx = l, .on_line = on_line, .on_end = on_end};
    l->call = c;
    l->raw = container->record->config->tty;
    l->timestamps = http_query_bool(c->x, "timestamps");
    if (engine_log_open(c->en, container->record->id, &options, &events, &l->log, &e) < 0) {
        free(l);
        api_error(c, &e);
        return;
    }
    api_hold(c);
    c->state = l;
    c->on_left = on_left;
    http_stream(c->x, 200, api_frame_type(c, l->raw), on_writable);
}
