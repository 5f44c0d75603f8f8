/* What the files of the HTTP server share. Nobody else includes this, but for the fuzzer, which is a peer without a
 * socket.
 *
 *   http_server.c    listeners, connections counted, closing
 *   http_socket.c    a connection's link to its peer over libuv
 *   http_conn.c      a connection's life: heads, one exchange after the other, deadlines, ending
 *   http_exchange.c  the request as the handler sees it, and its body
 *   http_answer.c    the answer
 *   http_parse.c     the grammar */
#pragma once

#include "proto/base/list.h"
#include "proto/wire/http.h"
#include "proto/wire/http_parse.h"

#define HTTP_READ_BYTES  65536 /* read at once, and kept at most of what came too early */
#define HTTP_LINGER_MS   2000  /* how long a client may go on sending after our last byte */
#define HTTP_REFUSED_MAX 64    /* clients over the limit that are told so; more are just closed */

struct http_conn;

/* How a connection reaches its peer: a socket, or the fuzzer. The link calls http_conn_on_* below, never from
 * inside one of these calls. */
struct http_link {
    void (*read)(struct http_conn *c, bool on);
    void (*write)(struct http_conn *c, const char *data,
                  size_t size);                  /* one at a time; data stays until on_wrote */
    size_t (*unsent)(const struct http_conn *c); /* bytes of that write not yet taken */
    void (*shutdown)(struct http_conn *c);       /* our half; no write is under way */
    void (*watch_hangup)(struct http_conn *c);   /* after the peer's half-close: tell when it is gone altogether */
    void (*close)(struct http_conn *c);          /* a write under way may or may not report */
    void (*free)(struct http_conn *c);           /* after on_closed, when nothing refers to c any more */
};

struct http_server {
    uv_loop_t *loop;             /* borrowed */
    struct http_limits limits;   /* none is 0 */
    struct http_handler handler; /* contents borrowed */
    struct list listeners;       /* struct http_listener, http_server.c */
    struct list conns;           /* all not yet freed */
    unsigned conn_count;         /* of them */
    struct list soon;            /* connections whose state changed outside their own advance */
    uv_idle_t idle;              /* active while `soon` is not empty; calls http_conn_advance for each */
    bool idle_open;              /* not closed yet */
    bool closing;                /* http_server_close was called */
    bool failing;                /* accepting fails, and that was logged */
    void (*closed)(void *ctx);   /* last callback */
    void *closed_ctx;
    int64_t date_second;              /* of date_text */
    char date_text[40];               /* value of "Date:" */
    char read_bytes[HTTP_READ_BYTES]; /* every read goes through here */
};

enum http_conn_state {
    HTTP_IDLE,     /* no byte of a request yet */
    HTTP_HEAD,     /* some bytes of a head */
    HTTP_EXCHANGE, /* a request is being served */
    HTTP_HIJACKED, /* raw bytes both ways */
    HTTP_FLUSH,    /* the last answer is complete: write it, then close our half */
    HTTP_LINGER,   /* our half is closed; what still comes is thrown away */
    HTTP_CLOSING,  /* the link is being closed, or an exchange is not yet given back by its handler */
};

struct http_conn {
    struct http_server *server;
    const struct http_link *link;
    struct list by_server;
    struct list soon;        /* in server->soon, or unlinked */
    int state;               /* enum http_conn_state */
    struct http_exchange *x; /* owned; the one being served, or kept for its handler */
    struct buf in;           /* received, not yet used */
    size_t scanned;          /* bytes of `in` that http_head_scan has seen */
    struct buf out;          /* to be written after flight */
    struct buf flight;       /* being written */
    size_t unsent_seen;      /* link->unsent at the last look */
    int64_t since;           /* when this state began; loop time, ms */
    int64_t moved_in;        /* when a byte came last, or was asked for */
    int64_t moved_out;       /* when a byte was taken last, or writing began */
    uv_timer_t timer;        /* fires at or before the next deadline */
    bool writing;            /* link->write is under way */
    bool reading;            /* as told to the link */
    bool eof;                /* the peer closed its half */
    bool failed;             /* the link is broken or we gave up: end everything */
    bool shut;               /* our half is closed */
    bool advancing;          /* http_conn_advance is on the stack */
    bool timer_closed;       /* both must be closed before the struct is freed */
    bool link_closed;
};

enum http_body_mode { HTTP_BODY_UNCHOSEN, HTTP_BODY_COLLECT, HTTP_BODY_STREAM, HTTP_BODY_DISCARD };
enum http_answer { HTTP_ANSWER_NONE, HTTP_ANSWER_STREAM, HTTP_ANSWER_HIJACK };

struct http_exchange {
    struct http_conn *conn; /* never NULL; outlives the exchange */
    struct arena arena;
    struct http_head head;
    void *data; /* the handler's */
    void (*on_close)(struct http_exchange *x);
    void (*on_end)(struct http_exchange *x);
    bool gone; /* the client is: nothing more reaches it; kept only until the handler completes its answer */

    /* the request's body */
    struct http_body body;
    int mode; /* enum http_body_mode */
    struct buf collected;
    void (*on_body)(struct http_exchange *x, const char *body, size_t length);
    bool (*on_data)(struct http_exchange *x, const char *data, size_t size); /* body or hijack */
    bool paused;                                                             /* on_data returned false */
    bool body_told;                                                          /* the handler was told its end */
    bool half_told; /* the handler was told the client's half-close (hijack) */
    bool too_large; /* refuse with 413 */

    /* the answer */
    int answer;         /* enum http_answer: how far beyond one reply it went */
    bool begun;         /* its head is queued */
    bool complete;      /* the handler has nothing to add */
    bool keep;          /* the connection may serve another request after it */
    bool chunked;       /* the stream is framed by chunks, not by the end of the connection */
    bool bodyless;      /* HEAD, 204, 304: nothing follows the head */
    bool blocked;       /* http_write returned false, on_writable not called yet */
    bool shut_wanted;   /* http_shutdown */
    struct buf headers; /* lines set by http_set_header */
    void (*on_writable)(struct http_exchange *x);
};

/* --- http_server.c ------------------------------------------------------------------------------- */

void http_server_soon(struct http_server *s, struct http_conn *c); /* have http_conn_advance called in this turn */
const char *http_server_date(struct http_server *s);
void http_server_forget(struct http_server *s, struct http_conn *c); /* c is about to be freed */

/* --- http_socket.c ------------------------------------------------------------------------------- */

/* Take the connection that waits at a listening stream. Returns 0 or libuv's code. */
int http_socket_accept(struct http_server *s, uv_stream_t *listener, bool is_tcp);

/* --- http_conn.c --------------------------------------------------------------------------------- */

/* Begin in `c`, all zeroes but for what the link needs, memory owned by the link. */
void http_conn_init(struct http_conn *c, struct http_server *s, const struct http_link *link);

/* The first thing after init: tell the client that it cannot be served, and part. */
void http_conn_turn_away(struct http_conn *c, int status, const struct err *e);

void http_conn_on_data(struct http_conn *c, const char *data, size_t size);
void http_conn_on_eof(struct http_conn *c);
void http_conn_on_wrote(struct http_conn *c, bool ok);
void http_conn_on_broken(struct http_conn *c); /* reset, hung up */
void http_conn_on_closed(struct http_conn *c);

void http_conn_advance(struct http_conn *c);
void http_conn_soon(struct http_conn *c);           /* something changed; harmless from anywhere */
size_t http_conn_queued(const struct http_conn *c); /* bytes to be written, in flight included */
void http_conn_fail(struct http_conn *c);           /* give up; all callbacks come from advance */

/* --- http_exchange.c ----------------------------------------------------------------------------- */

struct http_exchange *http_exchange_new(struct http_conn *c);
void http_exchange_free(struct http_exchange *x);

/* Move the body on by one step; true when something happened. ERR_INVALID in *ret_code when its framing is broken.
 */
bool http_exchange_read(struct http_exchange *x, int *ret_code, struct err *e);

/* Whether bytes of the body are expected from the client now. */
bool http_exchange_wants(const struct http_exchange *x);

/* --- http_answer.c ------------------------------------------------------------------------------- */

/* The complete refusal of a request that no handler answers: {"message": e->text}, "Connection: close". */
void http_refuse(struct http_conn *c, int status, const struct err *e, bool bodyless);
