/* See http_parse.h.
 *
 * The grammar of the head is the library's business: llhttp where the distribution has it, else its frozen
 * predecessor http_parser, which it resembles enough that this file is the only one to know the difference. Both
 * are lenient in ways that matter to us (line ends, folding, old versions) and differ in which, so http_head_scan
 * looks at every byte first, and everything that decides where a request ends is decided here: the library is
 * handed exactly one complete head and told that no body follows. Chunks are read by the small machine at the end
 * of this file for the same reason. */
#include <assert.h>
#include <string.h>
#include <strings.h>

#if __has_include(<llhttp.h>)
#include <llhttp.h>
#define HAS_LLHTTP 1
#else
#include <http_parser.h>
#define HAS_LLHTTP 0
#endif

#include "proto/base/buf.h"
#include "proto/base/mem.h"
#include "proto/wire/http_parse.h"

/* --- where a head ends --------------------------------------------------------------------------- */

long http_head_scan(const char *data, size_t size, size_t *scanned, struct err *e)
{
    for (size_t i = *scanned; i < size; i++) {
        bool after_cr = i > 0 && data[i - 1] == '\r', after_lf = i > 0 && data[i - 1] == '\n';

        if (data[i] == '\0')
            return err_set(e, ERR_INVALID, "malformed request: zero byte at position %zu", i);
        if ((data[i] == '\n') != after_cr)
            return err_set(e, ERR_INVALID, "malformed request: lines end with CR LF (position %zu)", i);
        if (after_lf && (data[i] == ' ' || data[i] == '\t'))
            return err_set(e, ERR_INVALID, "malformed request: folded header field (position %zu)", i);
        if (data[i] == '\n' && i >= 3 && data[i - 2] == '\n')
            return (long)i + 1;
    }
    *scanned = size;
    return 0;
}

/* --- the library --------------------------------------------------------------------------------- */

/* What the library's callbacks collect. Texts may come in pieces. */
struct collector {
    struct arena *arena;
    struct http_head *head;
    struct buf target, name, value;
    bool in_value; /* the last piece belonged to a value */
    bool too_many; /* fields */
    bool complete;
};

static void collector_fini(struct collector *c)
{
    buf_fini(&c->target);
    buf_fini(&c->name);
    buf_fini(&c->value);
}

static void add_field(struct collector *c)
{
    struct http_head *h = c->head;

    if (!c->in_value && c->name.length == 0)
        return; /* before the first field */
    if (h->field_count >= HTTP_FIELDS_MAX) {
        c->too_many = true;
        return;
    }
    while (c->value.length && strchr(" \t", buf_bytes(&c->value)[c->value.length - 1]))
        c->value.length--;
    h->fields = arena_append(c->arena, h->fields, h->field_count, sizeof(*h->fields));
    h->fields[h->field_count++] = (struct http_field){.name = arena_strdup(c->arena, buf_str(&c->name)),
                                                      .value = arena_strdup(c->arena, buf_str(&c->value))};
    buf_clear(&c->name);
    buf_clear(&c->value);
    c->in_value = false;
}

#if HAS_LLHTTP
typedef llhttp_t parser_type;
typedef llhttp_settings_t settings_type;
#else
typedef http_parser parser_type;
typedef http_parser_settings settings_type;
#endif

static int on_target(parser_type *p, const char *at, size_t length)
{
    buf_append(&((struct collector *)p->data)->target, at, length);
    return 0;
}

static int on_field(parser_type *p, const char *at, size_t length)
{
    struct collector *c = p->data;

    if (c->in_value)
        add_field(c);
    buf_append(&c->name, at, length);
    return 0;
}

static int on_value(parser_type *p, const char *at, size_t length)
{
    struct collector *c = p->data;

    c->in_value = true;
    buf_append(&c->value, at, length);
    return 0;
}

static int on_complete(parser_type *p)
{
    struct collector *c = p->data;

    add_field(c);
    c->complete = true;
    return 1; /* no body follows in these bytes */
}

/* Run the library over one head. Returns NULL, or what it has to say against it. */
static const char *run_parser(struct collector *c, const char *data, size_t size, int *ret_major, int *ret_minor)
{
    parser_type parser;
    settings_type settings;
    const char *complaint = NULL;

#if HAS_LLHTTP
    llhttp_settings_init(&settings);
#else
    http_parser_settings_init(&settings);
#endif
    settings.on_url = on_target;
    settings.on_header_field = on_field;
    settings.on_header_value = on_value;
    settings.on_headers_complete = on_complete;
#if HAS_LLHTTP
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = c;
    llhttp_errno_t rc = llhttp_execute(&parser, data, size);
    if (rc != HPE_OK && rc != HPE_PAUSED_UPGRADE)
        complaint = llhttp_get_error_reason(&parser);
    c->head->method = llhttp_method_name((llhttp_method_t)parser.method);
#else
    http_parser_set_max_header_size(UINT32_MAX); /* the caller's limit holds, not the library's */
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = c;
    http_parser_execute(&parser, &settings, data, size);
    if (parser.http_errno != HPE_OK)
        complaint = http_errno_description(parser.http_errno);
    c->head->method = http_method_str(parser.method);
#endif
    *ret_major = parser.http_major;
    *ret_minor = parser.http_minor;
    return complaint ? complaint : c->complete ? NULL : "incomplete head";
}

/* --- the target ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decode %XX (and '+' in queries). NULL when an escape is broken or stands for zero. */
static const char *decode(struct arena *a, const char *text, size_t length, bool plus_is_blank)
{
    char *decoded = arena_alloc(a, length + 1), *to = decoded;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (c == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < length ? hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return NULL;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        *to++ = c;
    }
    *to = '\0';
    return decoded;
}

int http_query_parse(const char *query, struct arena *a, struct http_field **ret, size_t *ret_count, struct err *e)
{
    struct http_field *parameters = NULL;
    size_t count = 0;

    for (const char *at = query; *at;) {
        size_t length = strcspn(at, "&"), key = strcspn(at, "=&");

        if (length) {
            struct http_field p = {.name = decode(a, at, key, true), .value = ""};

            if (key < length)
                p.value = decode(a, at + key + 1, length - key - 1, true);
            if (!p.name || !p.value)
                return err_set(e, ERR_INVALID, "invalid URL escape in query parameter \"%.*s\"",
                               (int)MIN(length, (size_t)100), at);
            parameters = arena_append(a, parameters, count, sizeof(p));
            parameters[count++] = p;
        }
        at += length + (at[length] == '&');
    }
    *ret = parameters;
    *ret_count = count;
    return 0;
}

bool http_truth(const char *value)
{
    static const char *const no[] = {"", "0", "no", "false", "none"};

    if (!value)
        return false;
    value += strspn(value, " \t");
    for (size_t i = 0; i < ARRAY_SIZE(no); i++)
        if (strcasecmp(value, no[i]) == 0)
            return false;
    return true;
}

/* Origin form ("/path?query") or, as proxies send it, absolute form ("http://host/path?query"). */
static int parse_target(struct http_head *h, struct arena *a, const char *target, struct err *e)
{
    const char *path = target;

    for (const char *c = target; *c; c++)
        if (*c <= ' ' || *c >= 0x7f)
            return err_set(e, ERR_INVALID, "invalid byte 0x%02x in request target", (unsigned char)*c);
    if (strncasecmp(path, "http://", 7) == 0) {
        path += 7;
        path += strcspn(path, "/?#");
        if (*path == '\0')
            path = "/";
    }
    if (*path != '/' || strchr(path, '#'))
        return err_set(e, ERR_INVALID, "invalid request target \"%.100s\"", target);
    size_t length = strcspn(path, "?");
    h->path = decode(a, path, length, false);
    if (!h->path)
        return err_set(e, ERR_INVALID, "invalid URL escape in path \"%.*s\"", (int)MIN(length, (size_t)100), path);
    h->query_string = arena_strdup(a, path[length] ? path + length + 1 : "");
    return http_query_parse(h->query_string, a, &h->parameters, &h->parameter_count, e);
}

/* --- what the fields say about the connection and the body ---------------------------------------- */

/* The only field of this name; *ret NULL when there is none. False when there are several. */
static bool single_field(const struct http_head *h, const char *name, const char **ret)
{
    *ret = NULL;
    for (size_t i = 0; i < h->field_count; i++) {
        if (strcasecmp(h->fields[i].name, name) != 0)
            continue;
        if (*ret)
            return false;
        *ret = h->fields[i].value;
    }
    return true;
}

/* Whether a comma-separated list among all fields of this name holds the token. */
static bool has_token(const struct http_head *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->field_count; i++) {
        if (strcasecmp(h->fields[i].name, name) != 0)
            continue;
        for (const char *at = h->fields[i].value; *at;) {
            at += strspn(at, ", \t");
            size_t length = strcspn(at, ", \t");
            if (length == strlen(token) && strncasecmp(at, token, length) == 0)
                return true;
            at += length;
        }
    }
    return false;
}

static bool parse_length(const char *text, uint64_t *ret)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (INT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *ret = value;
    return true;
}

static int parse_framing(struct http_head *h, struct err *e)
{
    const char *length, *coding;

    if (!single_field(h, "Content-Length", &length)) {
        err_set(e, ERR_INVALID, "malformed request: more than one Content-Length");
        return 400;
    }
    if (!single_field(h, "Transfer-Encoding", &coding)) {
        err_set(e, ERR_INVALID, "malformed request: more than one Transfer-Encoding");
        return 400;
    }
    if (coding && (length || h->minor == 0)) {
        err_set(e, ERR_INVALID, "malformed request: Transfer-Encoding %s",
                length ? "together with Content-Length" : "in HTTP/1.0");
        return 400;
    }
    if (coding && strcasecmp(coding, "chunked") != 0) {
        err_set(e, ERR_UNSUPPORTED, "unsupported Transfer-Encoding \"%.100s\"", coding);
        return 501;
    }
    if (length && !parse_length(length, &h->length)) {
        err_set(e, ERR_INVALID, "malformed request: invalid Content-Length \"%.100s\"", length);
        return 400;
    }
    h->framing = coding ? HTTP_FRAMING_CHUNKED : h->length ? HTTP_FRAMING_LENGTH : HTTP_FRAMING_NONE;
    return 0;
}

/* The libraries take blanks before the colon, and bytes beyond ASCII in targets; what we forward would not. */
static bool is_token(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", *c))
            return false;
    return *text != '\0';
}

static int parse_fields(struct http_head *h, struct err *e)
{
    const char *host, *expect = http_head_field(h, "Expect"), *upgrade = http_head_field(h, "Upgrade");

    for (size_t i = 0; i < h->field_count; i++) {
        if (!is_token(h->fields[i].name)) {
            err_set(e, ERR_INVALID, "malformed request: invalid header field name \"%.100s\"", h->fields[i].name);
            return 400;
        }
    }
    if (!single_field(h, "Host", &host) || (!host && h->minor == 1)) {
        err_set(e, ERR_INVALID, "malformed request: %s Host", host ? "more than one" : "missing");
        return 400;
    }
    if (expect && h->minor == 1 && strcasecmp(expect, "100-continue") != 0) {
        err_set(e, ERR_UNSUPPORTED, "unsupported expectation \"%.100s\"", expect);
        return 417;
    }
    h->expects_continue = expect && h->minor == 1;
    h->keep_alive = h->minor == 1 ? !has_token(h, "Connection", "close") : has_token(h, "Connection", "keep-alive");
    h->wants_upgrade = upgrade != NULL;
    h->wants_tcp = upgrade && strcasecmp(upgrade, "tcp") == 0;
    return parse_framing(h, e);
}

int http_head_parse(const char *data, size_t size, struct arena *a, struct http_head *ret, struct err *e)
{
    __attribute__((cleanup(collector_fini))) struct collector c = {.arena = a, .head = ret};
    int major = 0, minor = 0;

    *ret = (struct http_head){0};
    const char *complaint = run_parser(&c, data, size, &major, &minor);
    if (complaint) {
        err_set(e, ERR_INVALID, "malformed request: %s", complaint);
        return 400;
    }
    if (c.too_many) {
        err_set(e, ERR_LIMIT, "more than %d header fields", HTTP_FIELDS_MAX);
        return 431;
    }
    if (major != 1 || minor > 1) {
        err_set(e, ERR_UNSUPPORTED, "unsupported HTTP version %d.%d", major, minor);
        return 505;
    }
    ret->minor = minor;
    if (parse_target(ret, a, buf_str(&c.target), e) < 0)
        return 400;
    return parse_fields(ret, e);
}

const char *http_head_field(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->field_count; i++)
        if (strcasecmp(h->fields[i].name, name) == 0)
            return h->fields[i].value;
    return NULL;
}

const char *http_head_parameter(const struct http_head *h, const char *key)
{
    for (size_t i = 0; i < h->parameter_count; i++)
        if (strcmp(h->parameters[i].name, key) == 0)
            return h->parameters[i].value;
    return NULL;
}

/* --- the body ------------------------------------------------------------------------------------ */

/*   SIZE -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ...
 *              `-> END_CR -> END_LF -> done                    after the chunk of size 0 */
enum { SIZE, SIZE_LF, DATA, DATA_CR, DATA_LF, END_CR, END_LF };

#define CHUNK_DIGITS_MAX 15 /* far more than anybody sends, and no overflow */

void http_body_init(struct http_body *b, const struct http_head *h)
{
    *b = (struct http_body){.framing = h->framing, .state = SIZE, .left = h->length};
    b->done = h->framing == HTTP_FRAMING_NONE;
}

static int size_digit(struct http_body *b, char c, struct err *e)
{
    int digit = hex_digit(c);

    if (c == '\r' && b->digits > 0) {
        b->state = SIZE_LF;
    } else if (digit >= 0 && b->digits < CHUNK_DIGITS_MAX) {
        b->left = b->left << 4 | (uint64_t)digit;
        b->digits++;
    } else {
        return err_set(e, ERR_INVALID, "malformed chunk size");
    }
    return 0;
}

/* One byte of framing. */
static int framing_byte(struct http_body *b, char c, struct err *e)
{
    static const struct {
        char want; /* the only byte allowed */
        int next;
    } step[] = {[SIZE_LF] = {'\n', DATA},
                [DATA_CR] = {'\r', DATA_LF},
                [DATA_LF] = {'\n', SIZE},
                [END_CR] = {'\r', END_LF},
                [END_LF] = {'\n', SIZE}};

    if (b->state == SIZE)
        return size_digit(b, c, e);
    if (c != step[b->state].want)
        return err_set(e, ERR_INVALID, b->state == END_CR ? "chunked body with trailers" : "malformed chunk");
    b->done = b->state == END_LF;
    if (b->state == SIZE_LF && b->left == 0)
        b->state = END_CR;
    else
        b->state = step[b->state].next;
    b->digits = 0;
    return 0;
}

long http_body_read(struct http_body *b, const char *data, size_t size, const char **ret_payload, size_t *ret_size,
                    struct err *e)
{
    size_t used = 0;

    *ret_payload = NULL;
    *ret_size = 0;
    while (used < size && !b->done) {
        bool counted = b->framing == HTTP_FRAMING_LENGTH;

        if (!counted && b->state != DATA) {
            if (framing_byte(b, data[used++], e) < 0)
                return ERR_INVALID;
            continue;
        }
        size_t piece = b->left < size - used ? (size_t)b->left : size - used;
        b->left -= piece;
        if (b->left == 0 && counted)
            b->done = true;
        else if (b->left == 0)
            b->state = DATA_CR;
        *ret_payload = data + used;
        *ret_size = piece;
        return (long)(used + piece);
    }
    return (long)used;
}
