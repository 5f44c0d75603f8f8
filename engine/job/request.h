/* One question to a registry: an HTTP request with its redirects and attempts, and where the answer goes.
 *
 * Internal to the fetch job (fetch.c holds the loop and the commands, session.c the credentials). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "proto/base/list.h"
#include "proto/job.pb-c.h"

#define REQUEST_ATTEMPTS 5

enum request_kind { REQUEST_PING, REQUEST_TOKEN, REQUEST_MANIFEST, REQUEST_BLOB };

struct fetch;

struct request {
    struct list link; /* in the job's queue, or in its list of those under way */
    struct fetch *fetch;
    enum request_kind kind;
    FetchCommand *command; /* owned; NULL for the session's own */
    CURL *easy;            /* NULL while waiting */
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char *url;          /* owned: where to ask next; NULL: the command's place below the registry's base */
    bool authorize;     /* it is on the registry's own host: credentials may be shown */
    const char *post;   /* body of a POST, borrowed; NULL: GET */
    unsigned redirects; /* followed since the attempt began */
    unsigned attempts;  /* begun */
    unsigned refusals;  /* 401s answered with a new token */
    int64_t begin_ms;   /* not before */
    /* The answer. */
    long status;     /* of HTTP, 0 while none came */
    struct buf body; /* of anything but a blob into a file */
    size_t body_max;
    int fd;             /* blob's file, or -1 */
    struct hash *hash;  /* of its bytes so far */
    uint64_t received;  /* of them */
    bool resumed;       /* some came by an earlier attempt */
    bool restarted;     /* it was begun anew after a digest did not match */
    int64_t told_ms;    /* progress */
    struct err refused; /* why our own callback ended the transfer */
};

struct fetch {
    const FetchRequest *request; /* from shoald */
    CURLM *multi;
    char *base;          /* owned: "https://host" */
    int root_fd;         /* directory for blobs */
    struct list waiting; /* of struct request */
    struct list active;
    unsigned active_count;
    struct session *session;
    bool ended; /* no more commands will come */
};

/* For a command (taken), or one of the session's own at `url` (taken). */
struct request *request_new(struct fetch *f, enum request_kind kind, FetchCommand *command, char *url);
void request_free(struct request *r);

/* Start it: hand it to curl. `authorization` is the header's value or NULL. */
int request_start(struct request *r, const char *authorization, struct err *e);

/* curl has finished with it: what next? */
enum request_end {
    REQUEST_DONE,     /* status 2xx; blobs are complete and checked */
    REQUEST_AGAIN,    /* put it back into the queue: a redirect, or another attempt after begin_ms */
    REQUEST_REFUSED,  /* 401: get (other) credentials */
    REQUEST_HOPELESS, /* e says why */
};
enum request_end request_finish(struct request *r, CURLcode result, int64_t now_ms, struct err *e);

/* Give back the connection of a request that will be started again. */
void request_rest(struct request *r);

/* A response header's value, borrowed until the next call; NULL when absent. */
const char *request_header(struct request *r, const char *name);

/* What the registry says is wrong: "manifest unknown: manifest unknown", or its status. Into the arena. */
const char *request_complaint(const struct request *r, struct arena *a);

/* Whether two URLs have scheme, host and port in common. */
bool url_same_origin(const char *a, const char *b);

/* Whether `to` may be asked because `from` said so: HTTPS always, HTTP only from HTTP of a registry that is allowed
 * it. */
bool url_may_follow(const struct fetch *f, const char *from, const char *to);
