/* One request as its handler sees it, and the reading of its body.
 *
 * The handler chooses how the body comes: collected, in pieces, or not at all. Until it has chosen, the body stays
 * in the connection's buffer and then in the socket: a handler that first asks elsewhere whether the request may be
 * served makes the client wait, not us grow. "100 Continue" goes out with the choice, not before. */
#include <assert.h>
#include <string.h>
#include <strings.h>

#include "proto/base/mem.h"
#include "proto/wire/http_internal.h"

struct http_exchange *http_exchange_new(struct http_conn *c)
{
    struct http_exchange *x = mem_alloc(sizeof(*x));

    x->conn = c;
    arena_init(&x->arena);
    return x;
}

void http_exchange_free(struct http_exchange *x)
{
    arena_fini(&x->arena);
    buf_fini(&x->collected);
    buf_fini(&x->headers);
    free(x);
}

/* --- the request --------------------------------------------------------------------------------- */

const char *http_method(const struct http_exchange *x)
{
    return x->head.method;
}

const char *http_path(const struct http_exchange *x)
{
    return x->head.path;
}

const char *http_query(const struct http_exchange *x, const char *key)
{
    return http_head_parameter(&x->head, key);
}

const char *http_query_string(const struct http_exchange *x)
{
    return x->head.query_string;
}

bool http_query_bool(const struct http_exchange *x, const char *key)
{
    return http_truth(http_query(x, key));
}

const char *http_header(const struct http_exchange *x, const char *name)
{
    return http_head_field(&x->head, name);
}

struct arena *http_arena(struct http_exchange *x)
{
    return &x->arena;
}

void http_set_data(struct http_exchange *x, void *data)
{
    x->data = data;
}

void *http_data(const struct http_exchange *x)
{
    return x->data;
}

void http_on_close(struct http_exchange *x, void (*on_close)(struct http_exchange *x))
{
    x->on_close = on_close;
}

void http_on_end(struct http_exchange *x, void (*on_end)(struct http_exchange *x))
{
    x->on_end = on_end;
}

/* --- the body ------------------------------------------------------------------------------------ */

static void choose(struct http_exchange *x, int mode)
{
    struct http_conn *c = x->conn;

    assert(x->mode == HTTP_BODY_UNCHOSEN && !x->complete);
    x->mode = mode;
    c->moved_in = (int64_t)uv_now(c->server->loop);
    x->too_large = mode == HTTP_BODY_COLLECT && x->head.length > c->server->limits.body_bytes;
    if (x->head.expects_continue && !x->begun && !x->body.done && !x->too_large && !x->gone && c->in.length == 0)
        buf_append_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    http_conn_soon(c);
}

void http_collect(struct http_exchange *x,
                  void (*on_body)(struct http_exchange *x, const char *body, size_t length))
{
    x->on_body = on_body;
    choose(x, HTTP_BODY_COLLECT);
}

void http_body_stream(struct http_exchange *x,
                      bool (*on_data)(struct http_exchange *x, const char *data, size_t size))
{
    x->on_data = on_data;
    choose(x, HTTP_BODY_STREAM);
}

void http_body_resume(struct http_exchange *x)
{
    x->paused = false;
    x->conn->moved_in = (int64_t)uv_now(x->conn->server->loop);
    http_conn_soon(x->conn);
}

bool http_exchange_wants(const struct http_exchange *x)
{
    if (x->body.done || x->paused || x->complete)
        return false;
    if (x->mode == HTTP_BODY_DISCARD)
        return x->answer == HTTP_ANSWER_HIJACK; /* raw bytes begin behind it */
    return x->mode != HTTP_BODY_UNCHOSEN;
}

/* Tell the end of the body, once. */
static bool read_end(struct http_exchange *x)
{
    if (x->body_told || x->mode == HTTP_BODY_DISCARD)
        return false;
    x->body_told = true;
    if (x->mode == HTTP_BODY_COLLECT)
        x->on_body(x, buf_str(&x->collected), x->collected.length);
    else
        (void)x->on_data(x, NULL, 0); /* there is nothing left to pause */
    return true;
}

static void read_piece(struct http_exchange *x, const char *data, size_t size)
{
    if (x->mode == HTTP_BODY_STREAM)
        x->paused = !x->on_data(x, data, size);
    else if (x->mode == HTTP_BODY_COLLECT && size > x->conn->server->limits.body_bytes - x->collected.length)
        x->too_large = true;
    else if (x->mode == HTTP_BODY_COLLECT)
        buf_append(&x->collected, data, size);
}

bool http_exchange_read(struct http_exchange *x, int *ret_code, struct err *e)
{
    struct buf *in = &x->conn->in;
    const char *payload;
    size_t size;

    if (x->mode == HTTP_BODY_UNCHOSEN || x->paused || x->complete)
        return false;
    if (x->body.done)
        return read_end(x);
    if (in->length == 0)
        return false;
    long used = http_body_read(&x->body, buf_bytes(in), in->length, &payload, &size, e);
    if (used < 0) {
        *ret_code = (int)used;
        return false;
    }
    if (size)
        read_piece(x, payload, size);
    buf_consume(in, (size_t)used);
    return true;
}
