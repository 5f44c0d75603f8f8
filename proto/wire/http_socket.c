/* A connection's link to its peer over a libuv stream: unix or TCP.
 *
 * One write at a time through one embedded request. After the peer's half-close libuv reads no more and would not
 * notice when the peer goes away altogether; a second descriptor of the same socket is then watched for the hang-up
 * alone (asking poll for priority data, of which there is none: errors and hang-ups are always reported). On TCP a
 * hang-up without a word is found by keepalive. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "proto/base/mem.h"
#include "proto/wire/http_internal.h"
#include "proto/wire/tcp.h"

struct http_socket {
    struct http_conn conn;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    uv_write_t write;
    uv_shutdown_t shutdown;
    uv_poll_t hangup;    /* over hangup_fd */
    int hangup_fd;       /* the same socket once more; -1 when not watched */
    unsigned open_count; /* handles not yet closed */
};

static struct http_socket *socket_of(const struct http_conn *c)
{
    return container_of(c, struct http_socket, conn);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct http_conn *c = handle->data;

    (void)suggested;
    *ret = uv_buf_init(c->server->read_bytes, sizeof(c->server->read_bytes));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct http_conn *c = stream->data;

    if (size > 0)
        http_conn_on_data(c, buf->base, (size_t)size);
    else if (size == UV_EOF)
        http_conn_on_eof(c);
    else if (size < 0)
        http_conn_on_broken(c);
}

static void socket_read(struct http_conn *c, bool on)
{
    struct http_socket *s = socket_of(c);

    if (!on)
        (void)uv_read_stop(&s->uv.stream); /* always succeeds */
    else if (uv_read_start(&s->uv.stream, on_alloc, on_read) < 0)
        http_conn_fail(c);
}

static void on_wrote(uv_write_t *request, int status)
{
    http_conn_on_wrote(request->data, status == 0);
}

static void socket_write(struct http_conn *c, const char *data, size_t size)
{
    struct http_socket *s = socket_of(c);
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)size);

    s->write.data = c;
    if (uv_write(&s->write, &s->uv.stream, &buf, 1, on_wrote) < 0)
        http_conn_fail(c);
}

static size_t socket_unsent(const struct http_conn *c)
{
    return uv_stream_get_write_queue_size(&socket_of(c)->uv.stream);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request; /* a peer that is gone already is noticed by reading */
    (void)status;
}

static void socket_shutdown(struct http_conn *c)
{
    struct http_socket *s = socket_of(c);

    (void)uv_shutdown(&s->shutdown, &s->uv.stream, on_shutdown); /* fails only when not connected any more */
}

static void on_hangup(uv_poll_t *hangup, int status, int events)
{
    struct http_conn *c = hangup->data;
    struct pollfd p = {.fd = socket_of(c)->hangup_fd};

    (void)status; /* poll says it more precisely */
    (void)events;
    uv_poll_stop(hangup);
    /* Once both halves are closed the socket looks hung up by itself. */
    if (!c->shut && poll(&p, 1, 0) == 1)
        http_conn_on_broken(c);
}

static void socket_watch_hangup(struct http_conn *c)
{
    struct http_socket *s = socket_of(c);
    uv_os_fd_t fd;

    if (s->hangup_fd >= 0 || uv_fileno(&s->uv.handle, &fd) < 0)
        return;
    s->hangup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (s->hangup_fd < 0)
        return; /* out of descriptors: then the next write finds out */
    if (uv_poll_init(c->server->loop, &s->hangup, s->hangup_fd) < 0) {
        close(steal_fd(&s->hangup_fd));
        return;
    }
    s->hangup.data = c;
    s->open_count++;
    (void)uv_poll_start(&s->hangup, UV_PRIORITIZED, on_hangup); /* fails only while closing */
}

static void on_closed(uv_handle_t *handle)
{
    struct http_conn *c = handle->data;
    struct http_socket *s = socket_of(c);

    if (handle == (uv_handle_t *)&s->hangup)
        close(steal_fd(&s->hangup_fd));
    if (--s->open_count == 0)
        http_conn_on_closed(c);
}

static void socket_close(struct http_conn *c)
{
    struct http_socket *s = socket_of(c);

    if (s->hangup_fd >= 0)
        uv_close((uv_handle_t *)&s->hangup, on_closed);
    uv_close(&s->uv.handle, on_closed);
}

static void socket_free(struct http_conn *c)
{
    free(socket_of(c));
}

static const struct http_link socket_link = {
    .read = socket_read,
    .write = socket_write,
    .unsent = socket_unsent,
    .shutdown = socket_shutdown,
    .watch_hangup = socket_watch_hangup,
    .close = socket_close,
    .free = socket_free,
};

/* --- accepting ----------------------------------------------------------------------------------- */

static void on_unused_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int http_socket_accept(struct http_server *server, uv_stream_t *listener, bool is_tcp)
{
    struct http_socket *s = mem_alloc(sizeof(*s));
    struct err e;

    if (is_tcp)
        (void)uv_tcp_init(server->loop, &s->uv.tcp); /* makes no socket yet: cannot fail */
    else
        (void)uv_pipe_init(server->loop, &s->uv.pipe, 0);
    s->uv.handle.data = s;
    s->hangup_fd = -1;
    s->open_count = 1;
    int rc = uv_accept(listener, &s->uv.stream);
    unsigned limit = server->limits.clients;
    if (rc < 0 || server->conn_count >= limit + HTTP_REFUSED_MAX) {
        uv_close(&s->uv.handle, on_unused_closed);
        return rc;
    }
    if (is_tcp)
        tcp_tune(&s->uv.tcp);
    http_conn_init(&s->conn, server, &socket_link);
    s->uv.handle.data = &s->conn;
    if (server->conn_count > limit) {
        err_set(&e, ERR_UNAVAILABLE, "more than %u clients at once", limit);
        http_conn_turn_away(&s->conn, 503, &e);
    }
    return 0;
}
