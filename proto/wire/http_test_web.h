/* For the tests of the HTTP server: a server on a loop of its own and clients on plain sockets, all in one thread.
 * `web_until` turns the loop until something is true, or fails after a generous while. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "proto/wire/http.h"

#define WEB_PATIENCE_MS 20000

struct web {
    uv_loop_t loop;
    uv_timer_t tick; /* so that a turn ends */
    struct http_server *server;
    char dir[64], path[96], url[128];
    bool server_closed;
};

struct client {
    int fd;
    struct buf got;
    bool eof;
};

static inline void web_on_tick(uv_timer_t *t)
{
    (void)t; /* its coming is enough */
}

static inline void web_open(struct web *w, const struct http_limits *limits,
                            void (*on_request)(void *ctx, struct http_exchange *x))
{
    struct http_handler handler = {.ctx = w, .on_request = on_request, .server_header = "Test/1 (linux)"};
    struct err e = {0};

    memset(w, 0, sizeof(*w));
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_timer_init(&w->loop, &w->tick), 0);
    assert_int_equal(uv_timer_start(&w->tick, web_on_tick, 2, 2), 0);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/shoal-http-test.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(w->path, sizeof(w->path), "%s/api.sock", w->dir);
    (void)snprintf(w->url, sizeof(w->url), "unix://%s", w->path);
    assert_int_equal(http_server_open(&w->loop, limits, &handler, &w->server, &e), 0);
    if (http_server_listen(w->server, w->url, 0600, (gid_t)-1, &e) < 0)
        fail_msg("%s", e.text);
}

static inline void web_on_closed(void *ctx)
{
    ((struct web *)ctx)->server_closed = true;
}

/* Turn the loop until the condition holds. */
#define web_until(w, condition)                                                    \
    do {                                                                           \
        uint64_t give_up_ = uv_now(&(w)->loop) + WEB_PATIENCE_MS;                  \
        while (!(condition)) {                                                     \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                       \
            if (uv_now(&(w)->loop) > give_up_)                                     \
                fail_msg("line %d: waited in vain for: %s", __LINE__, #condition); \
        }                                                                          \
    } while (0)

/* Turn the loop for a while, for what must not happen. */
static inline void web_rest(struct web *w, unsigned ms)
{
    uint64_t end = uv_now(&w->loop) + ms;

    while (uv_now(&w->loop) < end)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static inline void web_close_server(struct web *w)
{
    http_server_close(w->server, web_on_closed, w);
    assert_false(w->server_closed);
    web_until(w, w->server_closed);
}

static inline void web_close(struct web *w)
{
    if (!w->server_closed)
        web_close_server(w);
    assert_int_equal(access(w->path, F_OK), -1); /* the socket file is gone */
    assert_int_equal(rmdir(w->dir), 0);
    uv_close((uv_handle_t *)&w->tick, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static inline void client_open(struct web *w, struct client *c)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *c = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", w->path);
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->got);
    c->fd = -1;
}

/* Send as much as the socket takes now. */
static inline size_t client_push(struct client *c, const void *data, size_t size)
{
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);

    return sent > 0 ? (size_t)sent : 0;
}

static inline void client_send_n(struct web *w, struct client *c, const char *data, size_t size)
{
    size_t at = 0;

    web_until(w, (at += client_push(c, data + at, size - at)) == size);
}

static inline void client_send(struct web *w, struct client *c, const char *text)
{
    client_send_n(w, c, text, strlen(text));
}

/* Take what is there now. */
static inline void client_pull(struct client *c)
{
    ssize_t got = 1;

    while (got > 0) {
        got = recv(c->fd, buf_reserve(&c->got, 65536), 65536, 0);
        if (got > 0)
            buf_added(&c->got, (size_t)got);
    }
    if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
        c->eof = true;
}

static inline bool client_has(struct client *c, const char *text)
{
    client_pull(c);
    return c->got.length > 0 && strstr(buf_str(&c->got), text) != NULL;
}

static inline bool client_ended(struct client *c)
{
    client_pull(c);
    return c->eof;
}

static inline bool client_has_n(struct client *c, size_t size)
{
    client_pull(c);
    return c->got.length >= size;
}

/* Wait for this text, then forget everything received. */
static inline void client_expect(struct web *w, struct client *c, const char *text)
{
    web_until(w, client_has(c, text) || c->eof);
    if (!client_has(c, text))
        fail_msg("closed without \"%s\" after: %s", text, c->got.length ? buf_str(&c->got) : "nothing");
}

static inline void client_forget(struct client *c)
{
    buf_clear(&c->got);
}

static inline unsigned client_count(struct client *c, const char *text)
{
    unsigned count = 0;

    for (const char *at = c->got.length ? buf_str(&c->got) : ""; (at = strstr(at, text)); at++)
        count++;
    return count;
}
