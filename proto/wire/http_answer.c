/* The answer to a request: at once, as a stream, or by handing the connection over.
 *
 * Everything is appended to the connection's buffer; http_conn_advance writes it later in the same turn of the
 * loop, so what a handler says in one go leaves in one piece. An exchange whose client is gone takes every call and
 * sends nothing. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proto/base/jwrite.h"
#include "proto/base/mem.h"
#include "proto/wire/http_internal.h"

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {101, "UPGRADED"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Other";
}

int http_status_of(int err_code)
{
    switch (err_code) {
    case ERR_INVALID:
    case ERR_PRECONDITION:
        return 400;
    case ERR_NOT_FOUND:
        return 404;
    case ERR_EXISTS:
    case ERR_CONFLICT:
        return 409;
    case ERR_DENIED:
        return 403;
    case ERR_UNAUTHORIZED:
        return 401;
    case ERR_UNAVAILABLE:
    case ERR_TIMEOUT:
    case ERR_CANCELED:
    case ERR_CLOSED:
        return 503;
    case ERR_UNSUPPORTED:
        return 501;
    case ERR_LIMIT:
        return 413;
    case ERR_NOT_MODIFIED:
        return 304;
    default:
        return 500;
    }
}

/* --- the head ------------------------------------------------------------------------------------ */

static bool is_line(const char *text)
{
    return !strpbrk(text, "\r\n");
}

static void put_header(struct buf *out, const char *name, const char *value)
{
    assert(is_line(name) && is_line(value));
    buf_append_str(out, name);
    buf_append(out, ": ", 2);
    buf_append_str(out, value);
    buf_append(out, "\r\n", 2);
}

void http_set_header(struct http_exchange *x, const char *name, const char *value)
{
    assert(!x->begun);
    put_header(&x->headers, name, value);
}

static void put_status(struct http_conn *c, int status)
{
    buf_printf(&c->out, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    if (c->server->handler.server_header)
        put_header(&c->out, "Server", c->server->handler.server_header);
    put_header(&c->out, "Date", http_server_date(c->server));
}

/* Throw away what is here of a body that nobody wanted: when that is all of it, the connection can go on. */
static void skip_body(struct http_exchange *x)
{
    struct buf *in = &x->conn->in;
    const char *payload;
    size_t size;

    if (x->mode != HTTP_BODY_UNCHOSEN)
        return;
    x->mode = HTTP_BODY_DISCARD;
    while (in->length && !x->body.done) {
        long used = http_body_read(&x->body, buf_bytes(in), in->length, &payload, &size, NULL);

        if (used < 0)
            return; /* the connection will be closed, as with every unread body */
        buf_consume(in, (size_t)used);
    }
}

/* Put the head but for what says where the body ends. `at_once`: the answer will be complete with it. */
static void begin(struct http_exchange *x, int status, const char *content_type, bool at_once)
{
    struct http_conn *c = x->conn;

    assert(!x->begun && !x->complete);
    x->begun = true;
    x->bodyless = strcmp(x->head.method, "HEAD") == 0 || status == 204 || status == 304;
    if (x->gone)
        return;
    skip_body(x);
    /* An upgrade that was not granted: a hasty client may have sent its other protocol already. */
    x->keep = x->head.keep_alive && !x->head.wants_upgrade && !c->server->closing;
    if (!x->body.done && (at_once || x->mode == HTTP_BODY_DISCARD))
        x->keep = false;
    put_status(c, status);
    buf_append(&c->out, buf_bytes(&x->headers), x->headers.length);
    if (content_type)
        put_header(&c->out, "Content-Type", content_type);
}

static void put_connection(struct http_exchange *x)
{
    if (!x->keep)
        put_header(&x->conn->out, "Connection", "close");
    else if (x->head.minor == 0)
        put_header(&x->conn->out, "Connection", "keep-alive");
}

static void complete(struct http_exchange *x)
{
    x->complete = true;
    http_conn_soon(x->conn);
}

/* --- at once ------------------------------------------------------------------------------------- */

void http_reply(struct http_exchange *x, int status, const char *content_type, const void *body, size_t length)
{
    struct buf *out = &x->conn->out;

    begin(x, status, content_type, true);
    if (!x->gone) {
        if (status != 204 && status != 304)
            buf_printf(out, "Content-Length: %zu\r\n", length);
        put_connection(x);
        buf_append(out, "\r\n", 2);
        if (!x->bodyless)
            buf_append(out, body, length);
    }
    complete(x);
}

void http_reply_json(struct http_exchange *x, int status, const struct buf *body)
{
    http_reply(x, status, "application/json", buf_bytes(body), body->length);
}

void http_reply_empty(struct http_exchange *x, int status)
{
    http_reply(x, status, NULL, NULL, 0);
}

static void put_message(struct buf *out, const struct err *e)
{
    struct jwrite j = JWRITE_TO(out);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "message", e->text);
    jwrite_end(&j);
    buf_append_char(out, '\n');
}

void http_reply_error(struct http_exchange *x, const struct err *e)
{
    AUTO_BUF struct buf body = {0};
    int status = http_status_of(e->code);

    if (status == 304) {
        http_reply_empty(x, status);
        return;
    }
    put_message(&body, e);
    http_reply_json(x, status, &body);
}

void http_refuse(struct http_conn *c, int status, const struct err *e, bool bodyless)
{
    AUTO_BUF struct buf body = {0};

    put_message(&body, e);
    put_status(c, status);
    buf_printf(&c->out,
               "Content-Type: application/json\r\nContent-Length: %zu\r\n"
               "Connection: close\r\n\r\n",
               body.length);
    if (!bodyless)
        buf_append(&c->out, buf_bytes(&body), body.length);
}

/* --- streams ------------------------------------------------------------------------------------- */

void http_stream(struct http_exchange *x, int status, const char *content_type,
                 void (*on_writable)(struct http_exchange *x))
{
    begin(x, status, content_type, false);
    x->answer = HTTP_ANSWER_STREAM;
    x->on_writable = on_writable;
    x->chunked = x->head.minor == 1;
    if (!x->chunked)
        x->keep = false; /* the end of the connection is the end of the stream */
    if (!x->gone) {
        if (x->chunked)
            put_header(&x->conn->out, "Transfer-Encoding", "chunked");
        put_connection(x);
        buf_append(&x->conn->out, "\r\n", 2);
    }
    http_conn_soon(x->conn);
}

bool http_write(struct http_exchange *x, const void *data, size_t size)
{
    struct http_conn *c = x->conn;

    if (x->gone)
        return true; /* into nothing, as fast as it comes */
    assert(x->answer != HTTP_ANSWER_NONE && !x->complete && !x->shut_wanted);
    if (size > 0 && !x->bodyless) { /* an empty chunk would end the stream */
        if (x->chunked)
            buf_printf(&c->out, "%zx\r\n", size);
        buf_append(&c->out, data, size);
        if (x->chunked)
            buf_append(&c->out, "\r\n", 2);
        http_conn_soon(c);
    }
    x->blocked = http_conn_queued(c) > c->server->limits.write_bytes;
    return !x->blocked;
}

void http_stream_end(struct http_exchange *x)
{
    assert(x->answer == HTTP_ANSWER_STREAM && (!x->complete || x->gone));
    if (!x->gone && x->chunked && !x->bodyless)
        buf_append_str(&x->conn->out, "0\r\n\r\n");
    complete(x);
}

void http_stream_cut(struct http_exchange *x)
{
    assert(x->answer == HTTP_ANSWER_STREAM && (!x->complete || x->gone));
    x->keep = false;
    complete(x);
}

/* --- hijack -------------------------------------------------------------------------------------- */

void http_hijack(struct http_exchange *x, const char *content_type,
                 bool (*on_data)(struct http_exchange *x, const char *data, size_t size),
                 void (*on_writable)(struct http_exchange *x))
{
    struct http_conn *c = x->conn;

    begin(x, x->head.wants_tcp ? 101 : 200, content_type, false);
    x->answer = HTTP_ANSWER_HIJACK;
    x->bodyless = false; /* raw bytes are no body */
    x->on_data = on_data;
    x->on_writable = on_writable;
    x->body_told = true;
    x->paused = false;
    x->mode = HTTP_BODY_DISCARD;
    if (!x->gone) {
        if (x->head.wants_tcp)
            buf_append_str(&c->out, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
        buf_append(&c->out, "\r\n", 2);
    }
    http_conn_soon(c);
}

void http_shutdown(struct http_exchange *x)
{
    assert(x->answer == HTTP_ANSWER_HIJACK);
    x->shut_wanted = true;
    http_conn_soon(x->conn);
}

void http_hijack_end(struct http_exchange *x)
{
    assert(x->answer == HTTP_ANSWER_HIJACK && (!x->complete || x->gone));
    complete(x);
}
