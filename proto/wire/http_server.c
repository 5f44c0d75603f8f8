/* The HTTP server: its listeners, the count of its connections, and its end.
 *
 * Sockets are made and bound here, before libuv sees them, so that a unix socket has its mode and group before
 * anybody can connect: it is bound with 0600, given away, and only then listened on. A socket file that nobody
 * answers on is what a killed server left, and is replaced; ours is removed at the end, if it still is ours.
 *
 * Connections whose state was changed from outside (a handler answered later) queue in `soon` and are advanced
 * once, before the loop waits again. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/http_internal.h"
#include "proto/wire/tcp.h"

#define BACKLOG 1024

struct http_listener {
    struct list link; /* in server->listeners */
    struct http_server *server;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    bool is_tcp;
    int port;     /* TCP */
    char *path;   /* owned; socket file to be removed, or NULL */
    dev_t device; /* of that file, to know it again */
    ino_t inode;
};

static void on_idle(uv_idle_t *idle);

static struct http_limits with_defaults(const struct http_limits *given)
{
    struct http_limits l = given ? *given : (struct http_limits){0};

    l.head_bytes = l.head_bytes ? l.head_bytes : 64 * 1024;
    l.body_bytes = l.body_bytes ? l.body_bytes : 8 * 1024 * 1024;
    l.head_ms = l.head_ms ? l.head_ms : 10 * 1000;
    l.idle_ms = l.idle_ms ? l.idle_ms : 300 * 1000;
    l.body_stall_ms = l.body_stall_ms ? l.body_stall_ms : 300 * 1000;
    l.clients = l.clients ? l.clients : 1024;
    l.write_bytes = l.write_bytes ? l.write_bytes : 256 * 1024;
    return l;
}

int http_server_open(uv_loop_t *loop, const struct http_limits *limits, const struct http_handler *handler,
                     struct http_server **ret, struct err *e)
{
    struct http_server *s = mem_alloc(sizeof(*s));
    int rc = uv_idle_init(loop, &s->idle);

    if (rc < 0) {
        free(s);
        return err_number(e, -rc, "open HTTP server");
    }
    tcp_ignore_sigpipe();
    s->loop = loop;
    s->limits = with_defaults(limits);
    s->handler = *handler;
    s->idle.data = s;
    s->idle_open = true;
    list_init(&s->listeners);
    list_init(&s->conns);
    list_init(&s->soon);
    *ret = s;
    return 0;
}

/* --- connections --------------------------------------------------------------------------------- */

void http_server_soon(struct http_server *s, struct http_conn *c)
{
    if (c->soon.next != &c->soon)
        return; /* queued already */
    if (list_empty(&s->soon))
        (void)uv_idle_start(&s->idle, on_idle); /* cannot fail with a callback */
    list_push(&s->soon, &c->soon);
}

static void on_idle(uv_idle_t *idle)
{
    struct http_server *s = idle->data;
    struct list batch = LIST_INIT(batch), *link;

    list_splice(&batch, &s->soon);
    uv_idle_stop(idle); /* what follows may start it again */
    while ((link = list_pop(&batch)))
        http_conn_advance(list_entry(link, struct http_conn, soon));
}

static void on_server_closed(uv_handle_t *handle)
{
    struct http_server *s = handle->data;
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;

    free(s);
    if (closed)
        closed(ctx);
}

static void close_when_empty(struct http_server *s)
{
    if (!s->closing || !s->idle_open || !list_empty(&s->listeners) || !list_empty(&s->conns))
        return;
    s->idle_open = false;
    uv_close((uv_handle_t *)&s->idle, on_server_closed);
}

void http_server_forget(struct http_server *s, struct http_conn *c)
{
    list_remove(&c->by_server);
    s->conn_count--;
    close_when_empty(s);
}

const char *http_server_date(struct http_server *s)
{
    time_t now = time(NULL);
    struct tm tm;

    if (now != s->date_second) {
        s->date_second = now;
        gmtime_r(&now, &tm);
        strftime(s->date_text, sizeof(s->date_text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return s->date_text;
}

/* --- listeners ----------------------------------------------------------------------------------- */

static void on_connection(uv_stream_t *stream, int status)
{
    struct http_listener *l = stream->data;
    struct http_server *s = l->server;
    int rc = status < 0 ? status : http_socket_accept(s, stream, l->is_tcp);

    if (rc < 0 && rc != UV_EAGAIN && !s->failing)
        log_warn("cannot accept clients of the API", "error=\"%s\"", uv_strerror(rc)); /* once, until it works */
    s->failing = rc < 0 && rc != UV_EAGAIN;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct http_listener *l = handle->data;
    struct http_server *s = l->server;

    list_remove(&l->link);
    free(l->path);
    free(l);
    close_when_empty(s);
}

static void close_listener(struct http_listener *l)
{
    struct stat st;

    if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        (void)unlink(l->path); /* best effort: the next server replaces it */
    uv_close(&l->uv.handle, on_listener_closed);
}

/* Listen on a bound descriptor; takes it. `path`: the file to remove at the end, or NULL. */
static int listen_on(struct http_server *s, int fd, bool is_tcp, const char *path, struct err *e)
{
    struct http_listener *l = mem_alloc(sizeof(*l));
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    struct stat st;
    int rc;

    assert(!s->closing);
    l->server = s;
    l->is_tcp = is_tcp;
    if (is_tcp)
        (void)uv_tcp_init(s->loop, &l->uv.tcp); /* makes no socket: cannot fail */
    else
        (void)uv_pipe_init(s->loop, &l->uv.pipe, 0);
    l->uv.handle.data = l;
    list_push(&s->listeners, &l->link);
    if (is_tcp && getsockname(fd, (struct sockaddr *)&address, &size) == 0)
        l->port = tcp_port(&address);
    if (path && lstat(path, &st) == 0) {
        l->path = mem_strdup(path);
        l->device = st.st_dev;
        l->inode = st.st_ino;
    }
    rc = is_tcp ? uv_tcp_open(&l->uv.tcp, fd) : uv_pipe_open(&l->uv.pipe, fd);
    if (rc < 0)
        close(fd);
    else
        rc = uv_listen(&l->uv.stream, BACKLOG, on_connection);
    if (rc < 0) {
        err_number(e, -rc, "listen");
        close_listener(l);
        return err_code_of(-rc);
    }
    return 0;
}

int http_server_listen_fd(struct http_server *s, int fd, struct err *e)
{
    AUTO_CLOSE
    int taken = fd;
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return err_errno(e, "listen on descriptor %d", fd);
    bool is_tcp = address.ss_family == AF_INET || address.ss_family == AF_INET6;
    if (!is_tcp && address.ss_family != AF_UNIX)
        return err_set(e, ERR_INVALID, "descriptor %d is a socket of family %d, neither unix nor TCP", fd,
                       address.ss_family);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_errno(e, "listen on descriptor %d", fd);
    return listen_on(s, steal_fd(&taken), is_tcp, NULL, e);
}

/* Make way for a socket file at path: remove what a killed server left, never what somebody answers on. */
static int clear_path(const char *path, const struct sockaddr_un *address, struct err *e)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "look at %s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_EXISTS, "%s exists and is not a socket", path);
    AUTO_CLOSE
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "make a socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return err_set(e, ERR_EXISTS, "%s: another process is listening there", path);
    if (errno != ECONNREFUSED && errno != ENOENT)
        return err_errno(e, "%s: is anybody listening there", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_errno(e, "remove stale socket %s", path);
    return 0;
}

static int listen_unix(struct http_server *s, const char *path, mode_t mode, gid_t group, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path))
        return err_set(e, ERR_INVALID, "unix://%s: the path must be absolute and shorter than %zu bytes", path,
                       sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path) + 1);
    int rc = clear_path(path, &address, e);
    if (rc < 0)
        return rc;
    AUTO_CLOSE
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the file is the one the unbound socket has. */
    if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(e, "bind %s", path);
    if ((group != (gid_t)-1 && lchown(path, (uid_t)-1, group) < 0) || chmod(path, mode) < 0) {
        rc = err_errno(e, "set mode and group of %s", path);
        (void)unlink(path); /* nobody ever listened on it */
        return rc;
    }
    rc = listen_on(s, steal_fd(&fd), false, path, e);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

static int listen_tcp(struct http_server *s, const char *text, struct err *e)
{
    int fd = -1, rc = tcp_bind(text, &fd, e);

    if (rc == 0)
        rc = listen_on(s, fd, true, NULL, e);
    return rc < 0 ? err_wrap(e, "tcp://%s", text) : 0;
}

int http_server_listen(struct http_server *s, const char *url, mode_t mode, gid_t group, struct err *e)
{
    if (strncmp(url, "unix://", 7) == 0)
        return listen_unix(s, url + 7, mode, group, e);
    if (strncmp(url, "tcp://", 6) == 0)
        return listen_tcp(s, url + 6, e);
    return err_set(e, ERR_INVALID, "invalid listen address \"%s\": must begin with unix:// or tcp://", url);
}

int http_server_port(const struct http_server *s)
{
    struct http_listener *l;

    list_each (l, &s->listeners, link) {
        if (l->is_tcp)
            return l->port;
    }
    return 0;
}

void http_server_close(struct http_server *s, void (*closed)(void *ctx), void *ctx)
{
    struct http_listener *l;
    struct http_conn *c;

    assert(!s->closing);
    s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    list_each (l, &s->listeners, link)
        close_listener(l);
    list_each (c, &s->conns, by_server)
        http_conn_fail(c);
    close_when_empty(s);
}
