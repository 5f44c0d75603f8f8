/* Helper processes (child.h).
 *
 * Four handles make a child: the process, its input, its output and maybe an upload. The end is reached when the
 * process was reaped and its output has ended, in whichever order; then the handles are closed, and on_end comes
 * with the last of them. A frame that is too long, as anything unexpected from a confined process, ends it. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/child.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

#define FRAME_MAX  ((size_t)8 << 20)
#define FEED_MAX   ((size_t)1 << 20) /* bytes of an upload that wait to be written */
#define FDS_MAX    8
#define READ_BYTES 65536

struct child {
    uv_process_t process;
    uv_pipe_t input, output, upload;
    struct child_events events;
    struct buf in; /* of its output, from the beginning of a frame */
    bool has_upload;
    bool reaped, output_ended, killed, finishing;
    bool feed_full; /* child_feed returned false */
    int64_t exit_status;
    int signal;
    struct err broken; /* why we ended it ourselves */
    unsigned open_handles;
};

struct write_request {
    uv_write_t write;
    struct child *child;
    char data[];
};

static void child_free(struct child *c)
{
    struct err e = c->broken;

    if (e.code == 0 && c->killed)
        err_set(&e, ERR_CANCELED, "canceled");
    else if (e.code == 0 && c->signal)
        err_set(&e, ERR_INTERNAL, "a helper process was killed by signal %d", c->signal);
    else if (e.code == 0 && c->exit_status)
        err_set(&e, ERR_INTERNAL, "a helper process ended with status %lld", (long long)c->exit_status);
    struct child_events events = c->events;
    buf_fini(&c->in);
    free(c);
    events.on_end(events.ctx, &e);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;

    if (--c->open_handles == 0)
        child_free(c);
}

static void close_handle(void *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void maybe_end(struct child *c)
{
    if (!c->reaped || !c->output_ended)
        return;
    close_handle(&c->process);
    close_handle(&c->input);
    close_handle(&c->output);
    if (c->has_upload)
        close_handle(&c->upload);
}

static void end_process(struct child *c)
{
    if (!c->reaped) /* afterwards its number may be another's */
        (void)uv_process_kill(&c->process, SIGKILL);
}

static void break_off(struct child *c, const char *why)
{
    if (!c->broken.code)
        err_set(&c->broken, ERR_INTERNAL, "a helper process %s", why);
    end_process(c);
}

static void on_exit_status(uv_process_t *process, int64_t status, int signal)
{
    struct child *c = process->data;

    c->reaped = true;
    c->exit_status = status;
    c->signal = signal;
    maybe_end(c);
}

/* --- what it says -------------------------------------------------------------------------------- */

static void take_frames(struct child *c)
{
    while (c->in.length >= 4) {
        const uint8_t *at = (const uint8_t *)buf_bytes(&c->in);
        size_t size = (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;

        if (size > FRAME_MAX) {
            buf_clear(&c->in);
            break_off(c, "sent a message that is too long");
            return;
        }
        if (c->in.length < 4 + size)
            return;
        if (!c->killed && !c->broken.code)
            c->events.on_frame(c->events.ctx, at + 4, size);
        buf_consume(&c->in, 4 + size);
    }
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct child *c = handle->data;

    *ret = uv_buf_init(buf_reserve(&c->in, READ_BYTES), READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *into)
{
    struct child *c = stream->data;

    if (got > 0) {
        buf_added(&c->in, (size_t)got);
        take_frames(c);
    } else if (got < 0) {
        (void)uv_read_stop(stream); /* cannot fail */
        c->output_ended = true;
        maybe_end(c);
    }
}

/* --- what it is told ----------------------------------------------------------------------------- */

static void on_written(uv_write_t *write, int status)
{
    struct write_request *w = container_of(write, struct write_request, write);
    struct child *c = w->child;
    bool upload = write->handle == (uv_stream_t *)&c->upload;

    free(w);
    /* A child that is gone does not read: its end says more than a broken pipe would. */
    if (upload && c->feed_full && uv_stream_get_write_queue_size((uv_stream_t *)&c->upload) < FEED_MAX / 2 &&
        !uv_is_closing((uv_handle_t *)&c->upload)) {
        c->feed_full = false;
        if (c->events.on_writable)
            c->events.on_writable(c->events.ctx);
    }
}

static void write_bytes(struct child *c, uv_pipe_t *pipe, const void *head, size_t head_size, const void *data,
                        size_t size)
{
    if (uv_is_closing((uv_handle_t *)pipe))
        return;
    struct write_request *w = mem_alloc(sizeof(*w) + head_size + size);
    w->child = c;
    if (head_size)
        memcpy(w->data, head, head_size);
    if (size)
        memcpy(w->data + head_size, data, size);
    const uv_buf_t out = uv_buf_init(w->data, (unsigned)(head_size + size));
    if (uv_write(&w->write, (uv_stream_t *)pipe, &out, 1, on_written) < 0)
        free(w);
}

void child_send(struct child *c, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size);
    uint8_t head[4];

    protobuf_c_message_pack(message, packed);
    for (int i = 0; i < 4; i++)
        head[i] = (uint8_t)(size >> (8 * i));
    write_bytes(c, &c->input, head, sizeof(head), packed, size);
}

/* Closing a pipe drops what waits to be written, so its end is announced by a shutdown. */
static void on_shutdown(uv_shutdown_t *request, int status)
{
    uv_handle_t *handle = (uv_handle_t *)request->handle;

    free(request);
    close_handle(handle);
}

static void end_of(uv_pipe_t *pipe)
{
    uv_shutdown_t *request;

    if (uv_is_closing((uv_handle_t *)pipe))
        return;
    request = mem_alloc(sizeof(*request));
    if (uv_shutdown(request, (uv_stream_t *)pipe, on_shutdown) < 0) {
        free(request);
        close_handle(pipe);
    }
}

void child_finish(struct child *c)
{
    if (!c->finishing)
        end_of(&c->input);
    c->finishing = true;
}

bool child_feed(struct child *c, const void *data, size_t size)
{
    if (size == 0) {
        end_of(&c->upload);
        return true;
    }
    write_bytes(c, &c->upload, NULL, 0, data, size);
    c->feed_full = uv_stream_get_write_queue_size((uv_stream_t *)&c->upload) >= FEED_MAX;
    return !c->feed_full;
}

void child_kill(struct child *c)
{
    c->killed = true;
    end_process(c);
}

/* --- start --------------------------------------------------------------------------------------- */

static const char *const passed_on[] = {
    "http_proxy", "https_proxy",   "HTTPS_PROXY",  "no_proxy",       "NO_PROXY",     "all_proxy",
    "ALL_PROXY",  "SSL_CERT_FILE", "SSL_CERT_DIR", "JOURNAL_STREAM", "ASAN_OPTIONS", "UBSAN_OPTIONS",
};

static void make_environment(char **environment, size_t room)
{
    size_t count = 0;

    environment[count++] = mem_strdup("PATH=/usr/bin:/bin");
    for (size_t i = 0; i < ARRAY_SIZE(passed_on) && count + 1 < room; i++) {
        const char *value = getenv(passed_on[i]);

        if (value)
            environment[count++] = mem_printf("%s=%s", passed_on[i], value);
    }
    environment[count] = NULL;
}

static void open_pipe(struct child *c, uv_loop_t *loop, uv_pipe_t *pipe)
{
    (void)uv_pipe_init(loop, pipe, 0); /* cannot fail */
    pipe->data = c;
    c->open_handles++;
}

static int spawn(struct child *c, const struct child_config *config)
{
    uv_stdio_container_t stdio[3 + 1 + FDS_MAX];
    char *argv[] = {(char *)config->program, (char *)config->verb, NULL};
    char *environment[ARRAY_SIZE(passed_on) + 2];
    unsigned count = 0;

    stdio[count++] =
        (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&c->input};
    stdio[count++] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                                            .data.stream = (uv_stream_t *)&c->output};
    stdio[count++] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = 2};
    if (config->upload)
        stdio[count++] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_READABLE_PIPE,
                                                .data.stream = (uv_stream_t *)&c->upload};
    for (unsigned i = 0; i < config->fd_count; i++)
        stdio[count++] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = config->fds[i]};
    make_environment(environment, ARRAY_SIZE(environment));
    const uv_process_options_t options = {
        .exit_cb = on_exit_status,
        .file = config->program,
        .args = argv,
        .env = environment,
        .stdio_count = (int)count,
        .stdio = stdio,
    };
    int rc = uv_spawn(config->loop, &c->process, &options);
    for (char **at = environment; *at; at++)
        free(*at);
    return rc;
}

static void ignore_end(void *ctx, const struct err *e)
{
}

int child_start(const struct child_config *config, const struct child_events *events, struct child **ret,
                struct err *e)
{
    struct child *c = mem_alloc(sizeof(*c));

    if (config->fd_count > FDS_MAX)
        abort();
    c->events = *events;
    c->has_upload = config->upload;
    open_pipe(c, config->loop, &c->input);
    open_pipe(c, config->loop, &c->output);
    if (c->has_upload)
        open_pipe(c, config->loop, &c->upload);
    c->process.data = c;
    c->open_handles++; /* uv_spawn makes the handle a live one even when it fails */
    int rc = spawn(c, config);
    if (rc == 0)
        rc = uv_read_start((uv_stream_t *)&c->output, on_room, on_read);
    if (rc < 0) {
        err_set(e, err_code_of(-rc), "start %s %s: %s", config->program, config->verb, uv_strerror(rc));
        c->events = (struct child_events){.on_end = ignore_end};
        c->reaped = c->output_ended = true;
        maybe_end(c);
        return e ? e->code : ERR_INTERNAL;
    }
    *ret = c;
    return 0;
}
