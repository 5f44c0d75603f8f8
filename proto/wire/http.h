/* An HTTP/1.1 server on a loop: Docker's API is served through it (DESIGN.md section 10).
 *
 * One `struct http_exchange` is one request and its answer. The handler is called when the head is complete; it
 * chooses how the body is read, and answers once: at once with http_reply, as a chunked stream, or by taking the
 * connection over (hijack). Requests on one connection are served one after the other; the next one is read only
 * after the answer is complete.
 *
 * Limits, all in struct http_limits: head and body size, time to send the head, idle time between requests, clients
 * at once. A request that breaks one gets 400, 408, 413, 431 or 503 with Docker's error shape and the connection is
 * closed. Transfer-Encoding together with Content-Length, and every other ambiguity of framing, is refused.
 *
 * Back-pressure: the socket is not read while a body chunk is being consumed, and a stream or hijack tells with its
 * return value when the client reads too slowly; `on_writable` says when to go on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <uv.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

struct http_server;
struct http_exchange;

struct http_limits {
    size_t head_bytes; /* request line and header fields; 0: 64 KiB */
    size_t body_bytes; /* collected bodies; 0: 8 MiB. Streamed bodies have no limit of ours */
    int head_ms;       /* from first byte to complete head; 0: 10 s */
    int idle_ms;       /* between requests; 0: 300 s */
    int body_stall_ms; /* without a byte of an expected body, or with an answer no byte of which is taken; 0: 300 s.
                        * Hijacked connections may stand still for ever */
    unsigned clients;  /* connections at once, over all listeners of the server; 0: 1024 */
    size_t write_bytes; /* queued towards one client before streams are told to stop; 0: 256 KiB */
};

struct http_handler {
    void *ctx;                                              /* borrowed */
    void (*on_request)(void *ctx, struct http_exchange *x); /* head complete; must lead to exactly one answer */
    const char *server_header;                              /* value of "Server:", borrowed */
};

/* Makes the process ignore SIGPIPE. The limits are copied, NULL for all defaults. */
int http_server_open(uv_loop_t *loop, const struct http_limits *limits, const struct http_handler *handler,
                     struct http_server **ret, struct err *e);

/* Listen on "unix:///path" (made with this mode and group, -1 for none; a stale socket file is replaced, one that
 * answers is ERR_EXISTS) or "tcp://address:port". */
int http_server_listen(struct http_server *s, const char *url, mode_t mode, gid_t group, struct err *e);

/* Listen on a descriptor that is bound and listening already (socket activation). Takes it. */
int http_server_listen_fd(struct http_server *s, int fd, struct err *e);

/* The port of the first TCP listener, for port 0; 0 when there is none. */
int http_server_port(const struct http_server *s);

/* Stop listening, end all exchanges (their on_close comes), remove socket files, then call `closed` and free the
 * server. */
void http_server_close(struct http_server *s, void (*closed)(void *ctx), void *ctx);

/* --- the request: all borrowed until the exchange ends ------------------------------------------- */

const char *http_method(const struct http_exchange *x); /* "GET" */
const char *http_path(const struct http_exchange *x);   /* decoded, without the query, as sent otherwise */
const char *http_query(const struct http_exchange *x,
                       const char *key); /* decoded value of the first such parameter, "" when it has
                                            none, NULL when absent */
const char *http_query_string(const struct http_exchange *x); /* undecoded, without '?'; "" when absent */
const char *http_header(const struct http_exchange *x, const char *name); /* case-insensitive; NULL when absent */
struct arena *http_arena(struct http_exchange *x);                        /* lives as long as the exchange */
void http_set_data(struct http_exchange *x, void *data);                  /* the handler's own pointer */
void *http_data(const struct http_exchange *x);

/* Docker's rule for booleans in queries: absent, "", 0, no, false, none are false. */
bool http_query_bool(const struct http_exchange *x, const char *key);

/* The client went away, the request was refused for its body, or the server closes: called at most once, before the
 * exchange is freed, and not after a completed answer. From then on no function may be called with x.
 *
 * A client that only closed its sending half is not gone: it gets its answer. An exchange without on_close is kept
 * until its handler has answered, into nothing if need be; every call stays allowed (but one that still waits for
 * its body just ends; one that is hijacked or held back gets the client's half-close or on_writable once more).
 * Closing the server waits for such exchanges. */
void http_on_close(struct http_exchange *x, void (*on_close)(struct http_exchange *x));

/* The exchange has ended in any way (after the answer is complete, or after on_close): the last thing that happens
 * to it. */
void http_on_end(struct http_exchange *x, void (*on_end)(struct http_exchange *x));

/* --- the body ------------------------------------------------------------------------------------ */

/* Collect the whole body, then call. Too large: answered with 413, `on_body` does not come (on_close does). No
 * body: length 0. */
void http_collect(struct http_exchange *x,
                  void (*on_body)(struct http_exchange *x, const char *body, size_t length));

/* Take the body in pieces. on_data returns false to be paused after this piece (it has taken it); http_body_resume
 * goes on, never call it from inside on_data. data NULL, size 0 is the end. After the answer is complete no piece
 * comes any more. */
void http_body_stream(struct http_exchange *x,
                      bool (*on_data)(struct http_exchange *x, const char *data, size_t size));
void http_body_resume(struct http_exchange *x);

/* --- the answer ---------------------------------------------------------------------------------- */

/* All of these may be called from the handler or later; what they say is sent at the end of the loop's turn. An
 * answer that is complete before the request's body was read ends the connection. */

/* A header of the answer; before the answer begins. Both strings are copied. CR and LF in the value are refused by
 * assertion. */
void http_set_header(struct http_exchange *x, const char *name, const char *value);

/* The whole answer at once; body is copied. HEAD requests and 204 and 304 send none. content_type NULL: none. */
void http_reply(struct http_exchange *x, int status, const char *content_type, const void *body, size_t length);
void http_reply_json(struct http_exchange *x, int status, const struct buf *body);
void http_reply_empty(struct http_exchange *x, int status);

/* {"message": e->text} with the status of the code (err.h names it; ERR_SEQUENCE is 500, as Docker's clients
 * expect). */
void http_reply_error(struct http_exchange *x, const struct err *e);
int http_status_of(int err_code);

/* A chunked stream (to a client of HTTP/1.0: until the connection ends). http_write returns false once more than
 * `write_bytes` are queued: stop until on_writable. The data is copied. Headers are sent at once, before the first
 * chunk. */
void http_stream(struct http_exchange *x, int status, const char *content_type,
                 void (*on_writable)(struct http_exchange *x));
bool http_write(struct http_exchange *x, const void *data, size_t size);
void http_stream_end(struct http_exchange *x);
/* End it so that the client knows that something is missing: the connection ends without the last chunk. */
void http_stream_cut(struct http_exchange *x);

/* Take over the connection (attach, exec). Answers 101 UPGRADED when the request asked for "Upgrade: tcp", else
 * 200, with this content type; from then on bytes are raw both ways. on_data(NULL, 0) is the client's half-close;
 * it returns false to be paused (http_body_resume). http_write writes; http_shutdown closes our half;
 * http_hijack_end closes the connection when all is written. */
void http_hijack(struct http_exchange *x, const char *content_type,
                 bool (*on_data)(struct http_exchange *x, const char *data, size_t size),
                 void (*on_writable)(struct http_exchange *x));
void http_shutdown(struct http_exchange *x);
void http_hijack_end(struct http_exchange *x);
