/* Requests to a node over the Docker Engine API: HTTP/1.1 on a unix socket or TCP.
 *
 * Blocking, one thread. A client keeps one idle connection and reuses it; several calls may be under way at once,
 * each on a connection of its own. The first request asks the node which API it speaks (HEAD /_ping) and all
 * requests use the older of its and our version. Answers of 400 and above become errors: "Error response from
 * daemon: ..." with a code that fits the status. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define CLIENT_API_VERSION "1.45" /* the newest this client speaks */
#define CLIENT_ANSWER_MAX  (512u * 1024 * 1024)

struct client; /* a node, and how to reach it */
struct call;   /* one request and its answer */

struct client_request {
    const char *method;
    const char *path;          /* escaped, with query, without version: "/containers/json?all=1" */
    const char *registry_auth; /* header X-Registry-Auth; NULL for none */
    const char *content_type;  /* of the body; NULL with a body: application/json */
    const void *body;
    size_t body_size;
    bool streams; /* the body is what body_fd holds, until its end */
    int body_fd;  /* borrowed until the call ends */
};

/* `host` is unix://PATH, tcp://HOST[:PORT] or HOST:PORT. Does not connect yet. `stop` (NULL for none): once it is
 * set, what waits ends with ERR_CANCELED. */
int client_open(const char *host, const volatile sig_atomic_t *stop, struct client **ret, struct err *e);
void client_close(struct client *c);
const char *client_host(const struct client *c);

/* The version that requests use, asked for when it is not known yet. Borrowed. */
int client_version(struct client *c, const char **ret, struct err *e);

/* Whether that version is at least "1.N"; asks when it is not known yet, false when it cannot be. */
bool client_speaks(struct client *c, int minor);

/* Send a request. The call must be given to call_end. */
int client_start(struct client *c, const struct client_request *request, struct call **ret, struct err *e);

/* Wait for the answer's head. An answer of 400 and above is read whole and returned as the error. */
int call_answer(struct call *call, struct err *e);
int call_status(const struct call *call);
const char *call_content_type(const struct call *call);

/* For an answer that took the connection over (attach): what `fd` gives goes to the other side as it is, while
 * call_read waits; its end closes our half. Borrowed until the call ends. */
void call_pass(struct call *call, int fd);

/* Up to `size` bytes of the answer's body; 0 at its end, or a code. Sends the rest of a streamed body meanwhile. */
ssize_t call_read(struct call *call, void *data, size_t size, struct err *e);

/* The whole body, at most CLIENT_ANSWER_MAX bytes. */
int call_read_all(struct call *call, struct buf *into, struct err *e);

/* End a call; NULL is fine. An answer read to its end leaves the connection to the next call. */
void call_end(struct call *call);

/* client_start, call_answer and call_read_all at once. `into` may be NULL when the answer does not matter. */
int client_do(struct client *c, const struct client_request *request, struct buf *into, struct err *e);

/* Paths and queries: literal text of `fmt`, and arguments with what a path may not hold escaped. Only %s. */
void path_add(struct buf *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "?name=value" or "&name=value", escaped. */
void path_query(struct buf *path, const char *name, const char *value);
