/* Reading one HTTP/1.x request from bytes: the head, the request target and the framing of the body.
 *
 * Pure of sockets and of the connection's state. Strict, because what two readers of the same bytes understand
 * differently is how requests are smuggled: every line ends with CR LF, nothing is folded, the body's length is
 * said once and in one way, chunks carry no extensions and no trailers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

#define HTTP_FIELDS_MAX 128 /* header fields of one request */

enum http_framing { HTTP_FRAMING_NONE, HTTP_FRAMING_LENGTH, HTTP_FRAMING_CHUNKED };

struct http_field {
    const char *name;
    const char *value;
};

/* A parsed head. All texts live in the arena it was parsed into. */
struct http_head {
    const char *method;            /* as sent, upper case */
    const char *path;              /* decoded */
    const char *query_string;      /* as sent, without '?'; "" when absent */
    struct http_field *parameters; /* of the query, decoded, in order */
    size_t parameter_count;
    struct http_field *fields; /* header fields, in order, values trimmed */
    size_t field_count;
    int minor;             /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;       /* the client is willing to send another request */
    bool wants_upgrade;    /* asked to switch to some other protocol */
    bool wants_tcp;        /* ... to raw bytes: "Upgrade: tcp" */
    bool expects_continue; /* waits for "100 Continue" before it sends the body */
    enum http_framing framing;
    uint64_t length; /* of the body, with HTTP_FRAMING_LENGTH */
};

/* Look for the end of a head in the first `size` bytes of it, having looked at `*scanned` of them before. Returns
 * the head's size with its empty line, 0 when the end has not come yet, ERR_INVALID when no head may hold these
 * bytes. */
long http_head_scan(const char *data, size_t size, size_t *scanned, struct err *e);

/* Parse a head that http_head_scan delimited. Returns 0, or the HTTP status to refuse it with. */
int http_head_parse(const char *data, size_t size, struct arena *a, struct http_head *ret, struct err *e);

/* The value of the first such field or parameter; NULL when absent. */
const char *http_head_field(const struct http_head *h, const char *name); /* without regard to case */
const char *http_head_parameter(const struct http_head *h, const char *key);

/* The parameters of a query string, decoded, in order and in the arena. ERR_INVALID when an escape is broken. */
int http_query_parse(const char *query, struct arena *a, struct http_field **ret, size_t *ret_count, struct err *e);

/* Docker's rule for booleans in queries: absent (NULL), "", 0, no, false, none are false. */
bool http_truth(const char *value);

/* --- the body ------------------------------------------------------------------------------------ */

struct http_body {
    enum http_framing framing;
    int state;     /* of the chunk reader */
    int digits;    /* of the chunk size so far */
    uint64_t left; /* bytes missing from the body, or from the chunk */
    bool done;     /* nothing of the body is missing */
};

void http_body_init(struct http_body *b, const struct http_head *h);

/* Read from `size` bytes that follow the head or what was read before. Returns how many were used and in
 * *ret_payload, *ret_size a piece of the body among them (size 0 when none); ERR_INVALID when the framing is
 * broken. Uses all there is unless it stops after a piece or at the end of the body. */
long http_body_read(struct http_body *b, const char *data, size_t size, const char **ret_payload, size_t *ret_size,
                    struct err *e);
