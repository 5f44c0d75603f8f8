/* Reading an HTTP/1.1 response, byte by byte as it arrives. Pure: the caller owns the socket.
 *
 * Strict where laxness would let two readers disagree: one framing only (a length, chunks, or until the connection
 * closes), decimal lengths, hexadecimal chunk sizes, no folded headers, no bare control bytes. Everything is
 * bounded. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

#define RESPONSE_HEAD_MAX  (64 * 1024)
#define RESPONSE_LINES_MAX 256 /* header and trailer lines */

enum response_state {
    RESPONSE_STATUS_LINE,
    RESPONSE_HEADERS,
    RESPONSE_LENGTH, /* body with Content-Length */
    RESPONSE_CHUNK_SIZE,
    RESPONSE_CHUNK,
    RESPONSE_CHUNK_END,
    RESPONSE_TRAILERS,
    RESPONSE_UNTIL_CLOSE,
    RESPONSE_DONE,
};

struct response {
    enum response_state state;
    bool to_head;    /* answers a HEAD request: no body follows */
    bool keep_alive; /* the connection may carry another request */
    int status;
    char reason[64];
    char content_type[64];
    char api_version[16]; /* header Api-Version */
    char swarm[24];       /* header Swarm */

    uint64_t left;   /* bytes of the body or chunk still to come */
    uint64_t length; /* Content-Length, when has_length */
    bool has_length, chunked;
    size_t head_bytes, lines; /* so far */
    char line[4096];          /* the line that is being read */
    size_t line_length;
};

/* Begin to read the answer to a request. */
void response_begin(struct response *r, bool to_head);

/* Take bytes in. Consumes *ret_used of them and, when a part of the body is among them, sets *ret_body (into data)
 * and *ret_body_size. Call again with the rest until everything is used or state is RESPONSE_DONE. After an error
 * the connection is of no use. */
int response_take(struct response *r, const char *data, size_t size, size_t *ret_used, const char **ret_body,
                  size_t *ret_body_size, struct err *e);

/* The connection closed: done when that ends the body, an error otherwise. */
int response_closed(struct response *r, struct err *e);

/* Whether the head is complete, so that status and headers may be read. */
static inline bool response_has_head(const struct response *r)
{
    return r->state > RESPONSE_HEADERS;
}
