/* A real HTTP server over an engine, and a client that speaks to it, in one thread: for tests of the API. Include
 * after cmocka, and after engine/fakes.h where there is one. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>
#include <uv.h>

#include "engine/engine.h"
#include "engine/testing.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"
#include "proto/wire/http.h"

struct web {
    uv_loop_t *loop;
    struct engine *engine;
    struct http_server *server;
    char *socket; /* path */
};

/* What agent/front.c does, without clusters. */
static inline void web_on_request(void *ctx, struct http_exchange *x)
{
    struct web *w = ctx;
    const char *path = http_path(x);
    unsigned minor = 45;
    int used = 0;
    struct err e;

    http_set_header(x, "Api-Version", "1.45");
    http_set_header(x, "Ostype", "linux");
    if (sscanf(path, "/v1.%u%n", &minor, &used) == 1)
        path += used;
    if (engine_http(w->engine, x, path, minor))
        return;
    err_set(&e, ERR_NOT_FOUND, "page not found");
    http_reply_error(x, &e);
}

static inline void web_open(struct web *w, uv_loop_t *loop, struct engine *en, const char *dir)
{
    struct http_handler handler = {.ctx = w, .on_request = web_on_request, .server_header = "shoal"};
    struct err e = {0};

    w->loop = loop;
    w->engine = en;
    w->socket = mem_printf("%s/api.sock", dir);
    assert_int_equal(http_server_open(loop, NULL, &handler, &w->server, &e), 0);
    AUTO_FREE
    char *url = mem_printf("unix://%s", w->socket);
    if (http_server_listen(w->server, url, 0600, (gid_t)-1, &e) < 0)
        fail_msg("%s", e.text);
}

static inline void web_close(struct web *w)
{
    bool closed = false;

    http_server_close(w->server, testing_set_true, &closed);
    testing_run_until(w->loop, &closed);
    free(w->socket);
}

/* --- a client --------------------------------------------------------------------------------------------------
 */

struct web_client { /* one connection, one request at a time */
    struct web *web;
    int fd;
    struct buf in;   /* received, not yet consumed */
    int status;      /* of the answer; 0: its head is not there yet */
    char head[4096]; /* of the answer */
    struct buf body; /* so far, without the framing of chunks */
    bool complete;   /* the answer */
};

static inline void web_send(struct web_client *c, struct web *w, const char *request)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *c = (struct web_client){.web = w, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", w->socket);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    for (size_t sent = 0; sent < strlen(request);) {
        ssize_t n = send(c->fd, request + sent, strlen(request) - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        else
            uv_run(w->loop, UV_RUN_NOWAIT);
    }
}

static inline const char *web_header(const struct web_client *c, const char *name)
{
    static char value[256];

    for (const char *line = strstr(c->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
        size_t length = strlen(name);

        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            const char *from = line + 3 + length + strspn(line + 3 + length, " ");
            (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(from, "\r\n"), from);
            return value;
        }
    }
    return NULL;
}

static inline void web_parse(struct web_client *c)
{
    if (!c->status) {
        char *end = c->in.length ? strstr(buf_str(&c->in), "\r\n\r\n") : NULL;

        if (!end)
            return;
        size_t length = (size_t)(end - buf_bytes(&c->in)) + 4;
        (void)snprintf(c->head, sizeof(c->head), "%.*s", (int)length - 2, buf_bytes(&c->in));
        c->status = (int)strtol(c->head + 9, NULL, 10);
        buf_consume(&c->in, length);
    }
    const char *size = web_header(c, "Content-Length");
    if (size || c->status == 204 || c->status == 304) {
        size_t wanted = size && c->status != 304 ? strtoul(size, NULL, 10) : 0;
        if (strncmp(c->head, "HTTP", 4) == 0 && c->in.length >= wanted) {
            buf_append(&c->body, buf_bytes(&c->in), wanted);
            buf_consume(&c->in, wanted);
            c->complete = true;
        }
        return;
    }
    for (;;) { /* chunks */
        char *line = c->in.length ? strstr(buf_str(&c->in), "\r\n") : NULL;
        if (!line)
            return;
        size_t head = (size_t)(line - buf_bytes(&c->in)) + 2, chunk = strtoul(buf_bytes(&c->in), NULL, 16);
        if (c->in.length < head + chunk + 2)
            return;
        buf_append(&c->body, buf_bytes(&c->in) + head, chunk);
        buf_consume(&c->in, head + chunk + 2);
        if (!chunk) {
            c->complete = true;
            return;
        }
    }
}

/* Run the loop once and take what has come. False when the connection was closed. */
static inline bool web_turn(struct web_client *c)
{
    ssize_t got;

    uv_run(c->web->loop, UV_RUN_NOWAIT);
    got = recv(c->fd, buf_reserve(&c->in, 65536), 65536, MSG_DONTWAIT);
    if (got > 0) {
        buf_added(&c->in, (size_t)got);
        web_parse(c);
    } else if (got == 0) {
        return false;
    } else {
        assert_int_equal(errno, EAGAIN);
    }
    return true;
}

static inline void web_await(struct web_client *c)
{
    while (!c->complete)
        if (!web_turn(c) && !c->complete)
            fail_msg("the connection was closed before the answer was complete: %s", c->head);
}

static inline void web_fini(struct web_client *c)
{
    close(c->fd);
    buf_fini(&c->in);
    buf_fini(&c->body);
}

static inline char *web_request(const char *method, const char *path, const char *body)
{
    return body
               ? mem_printf(
                     "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     method, path, strlen(body), body)
               : mem_printf("%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path);
}

/* Ask and wait for the whole answer: its status, and its body as JSON (json_decref it) or NULL. */
static inline int web_ask(struct web *w, const char *method, const char *path, const char *body, json_t **ret)
{
    AUTO_FREE
    char *request = web_request(method, path, body);
    struct web_client c;

    web_send(&c, w, request);
    web_await(&c);
    int status = c.status;
    if (ret)
        *ret = c.body.length ? json_loadb(buf_bytes(&c.body), c.body.length, JSON_DECODE_ANY, NULL) : NULL;
    web_fini(&c);
    return status;
}

/* "State.ExitCode" or "Mounts.0.Name" of an answer; a dot in a key is written as ':'. */
static inline json_t *web_at(json_t *root, const char *path)
{
    json_t *at = root;

    while (*path && at) {
        size_t length = strcspn(path, ".");
        AUTO_FREE
        char *key = mem_strndup(path, length);

        for (char *k = key; *k; k++)
            *k = *k == ':' ? '.' : *k;
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10)) : json_object_get(at, key);
        path += length;
        path += *path == '.';
    }
    return at;
}
