/* See response.h.
 *
 *     STATUS_LINE -> HEADERS -> LENGTH -------------------------------> DONE
 *                            -> CHUNK_SIZE -> CHUNK -> CHUNK_END -+
 *                                   ^                            |
 *                                   +----------------------------+
 *                                   +-> TRAILERS -----------------> DONE     (after the chunk of size 0)
 *                            -> UNTIL_CLOSE ----------------------> DONE     (when the connection closes)
 *                            -> DONE                                         (no body: HEAD, 204, 304)
 *
 * Lines are collected in a fixed buffer; bodies are handed out where they lie. Interim answers (1xx) are skipped.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/response.h"
#include "proto/base/mem.h"

void response_begin(struct response *r, bool to_head)
{
    *r = (struct response){.to_head = to_head, .keep_alive = true};
}

static int malformed(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, "malformed HTTP response: %s", what);
}

/* Decimal digits and nothing else. */
static bool parse_length(const char *text, uint64_t *ret)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    }
    *ret = value;
    return true;
}

static int status_line(struct response *r, struct err *e)
{
    const char *l = r->line;

    if (strncmp(l, "HTTP/1.", 7) != 0 || (l[7] != '0' && l[7] != '1') || l[8] != ' ')
        return malformed(e, "no status line");
    for (int i = 9; i < 12; i++)
        if (!isdigit((unsigned char)l[i]))
            return malformed(e, "bad status");
    if (l[12] != ' ' && l[12] != '\0')
        return malformed(e, "bad status");
    r->status = (l[9] - '0') * 100 + (l[10] - '0') * 10 + (l[11] - '0');
    if (r->status < 100 || r->status > 599)
        return malformed(e, "bad status");
    r->keep_alive = l[7] == '1';
    (void)snprintf(r->reason, sizeof(r->reason), "%s", l[12] ? l + 13 : ""); /* cut when long */
    r->state = RESPONSE_HEADERS;
    return 0;
}

static int length_header(struct response *r, const char *value, struct err *e)
{
    uint64_t length;

    if (!parse_length(value, &length))
        return malformed(e, "bad Content-Length");
    if (r->has_length && r->length != length)
        return malformed(e, "two lengths");
    r->has_length = true;
    r->length = length;
    return 0;
}

static int header(struct response *r, struct err *e)
{
    char *colon = strchr(r->line, ':');

    if (!colon || colon == r->line)
        return malformed(e, "bad header line");
    for (const char *c = r->line; c < colon; c++)
        if (!isalnum((unsigned char)*c) && !strchr("!#$%&'*+-.^_`|~", *c))
            return malformed(e, "bad header name");
    *colon = '\0';
    const char *name = r->line;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t length = strlen(value); length && strchr(" \t", value[length - 1]); length--)
        value[length - 1] = '\0';
    if (strcasecmp(name, "Content-Length") == 0)
        return length_header(r, value, e);
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0 || r->chunked)
            return malformed(e, "unknown Transfer-Encoding");
        r->chunked = true;
    } else if (strcasecmp(name, "Connection") == 0) {
        if (strcasestr(value, "close"))
            r->keep_alive = false;
        else if (strcasestr(value, "keep-alive"))
            r->keep_alive = true;
    } else if (strcasecmp(name, "Content-Type") == 0) {
        (void)snprintf(r->content_type, sizeof(r->content_type), "%s", value);
    } else if (strcasecmp(name, "Api-Version") == 0) {
        (void)snprintf(r->api_version, sizeof(r->api_version), "%s", value);
    } else if (strcasecmp(name, "Swarm") == 0) {
        (void)snprintf(r->swarm, sizeof(r->swarm), "%s", value);
    }
    return 0;
}

/* The blank line after the headers: what follows? */
static int head_end(struct response *r, struct err *e)
{
    if (r->chunked && r->has_length)
        return malformed(e, "chunks and a length");
    if (r->status < 200) { /* interim: the real answer follows */
        if (r->status == 101 || r->chunked || (r->has_length && r->length))
            return malformed(e, "unexpected interim response");
        struct response next = {.to_head = r->to_head, .head_bytes = r->head_bytes, .lines = r->lines};
        *r = next;
        return 0;
    }
    if (r->to_head || r->status == 204 || r->status == 304 || (r->has_length && r->length == 0))
        r->state = RESPONSE_DONE;
    else if (r->chunked)
        r->state = RESPONSE_CHUNK_SIZE;
    else if (r->has_length)
        r->state = RESPONSE_LENGTH;
    else
        r->state = RESPONSE_UNTIL_CLOSE;
    r->left = r->length;
    if (r->state == RESPONSE_UNTIL_CLOSE)
        r->keep_alive = false;
    return 0;
}

static int chunk_size(struct response *r, struct err *e)
{
    uint64_t size = 0;
    size_t digits = strspn(r->line, "0123456789abcdefABCDEF");
    const char *after = r->line + digits + strspn(r->line + digits, " \t");

    if (digits == 0 || digits > 15 || (*after && *after != ';'))
        return malformed(e, "bad chunk size");
    for (size_t i = 0; i < digits; i++) {
        char c = (char)tolower((unsigned char)r->line[i]);

        size = size << 4 | (uint64_t)(isdigit((unsigned char)c) ? c - '0' : c - 'a' + 10);
    }
    r->left = size;
    r->state = size ? RESPONSE_CHUNK : RESPONSE_TRAILERS;
    return 0;
}

/* A whole line is in r->line. */
static int line(struct response *r, struct err *e)
{
    bool blank = r->line_length == 0;

    if (!blank && (r->state == RESPONSE_HEADERS || r->state == RESPONSE_TRAILERS) &&
        ++r->lines > RESPONSE_LINES_MAX)
        return malformed(e, "too many header lines");
    switch (r->state) {
    case RESPONSE_STATUS_LINE:
        return status_line(r, e);
    case RESPONSE_HEADERS:
        return blank ? head_end(r, e) : header(r, e);
    case RESPONSE_CHUNK_SIZE:
        return chunk_size(r, e);
    case RESPONSE_CHUNK_END:
        r->state = RESPONSE_CHUNK_SIZE;
        return blank ? 0 : malformed(e, "chunk longer than its size");
    case RESPONSE_TRAILERS:
        if (blank)
            r->state = RESPONSE_DONE;
        return 0; /* trailers mean nothing to us */
    default:
        return malformed(e, "line in a body");
    }
}

/* Collect bytes of a line; 1 when it is complete. */
static int collect(struct response *r, const char *data, size_t size, size_t *ret_used, struct err *e)
{
    for (size_t i = 0; i < size; i++) {
        char c = data[i];

        if (r->state <= RESPONSE_HEADERS && ++r->head_bytes > RESPONSE_HEAD_MAX)
            return malformed(e, "headers too large");
        if (c == '\n') {
            if (r->line_length && r->line[r->line_length - 1] == '\r')
                r->line_length--;
            r->line[r->line_length] = '\0';
            *ret_used = i + 1;
            return 1;
        }
        if (r->line_length && r->line[r->line_length - 1] == '\r')
            return malformed(e, "bare carriage return");
        if (((unsigned char)c < 0x20 && c != '\t' && c != '\r') || c == 0x7f)
            return malformed(e, "control byte in a header");
        if (r->line_length + 1 >= sizeof(r->line))
            return malformed(e, "line too long");
        r->line[r->line_length++] = c;
    }
    *ret_used = size;
    return 0;
}

int response_take(struct response *r, const char *data, size_t size, size_t *ret_used, const char **ret_body,
                  size_t *ret_body_size, struct err *e)
{
    *ret_used = 0;
    *ret_body_size = 0;
    if (r->state == RESPONSE_DONE || size == 0)
        return 0;
    if (r->state == RESPONSE_LENGTH || r->state == RESPONSE_CHUNK || r->state == RESPONSE_UNTIL_CLOSE) {
        size_t take = r->state == RESPONSE_UNTIL_CLOSE ? size : (size_t)MIN((uint64_t)size, r->left);

        *ret_used = *ret_body_size = take;
        *ret_body = data;
        if (r->state == RESPONSE_UNTIL_CLOSE)
            return 0;
        r->left -= take;
        if (r->left == 0)
            r->state = r->state == RESPONSE_LENGTH ? RESPONSE_DONE : RESPONSE_CHUNK_END;
        return 0;
    }
    int rc = collect(r, data, size, ret_used, e);
    if (rc <= 0)
        return rc;
    rc = line(r, e);
    r->line_length = 0;
    return rc;
}

int response_closed(struct response *r, struct err *e)
{
    if (r->state == RESPONSE_UNTIL_CLOSE)
        r->state = RESPONSE_DONE;
    if (r->state == RESPONSE_DONE)
        return 0;
    return err_set(e, ERR_CLOSED, "%s",
                   response_has_head(r) ? "unexpected EOF: the connection closed in the middle of the answer"
                                        : "EOF: the connection closed before the answer");
}
