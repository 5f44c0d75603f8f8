/* Requests find their handlers here: see api.h.
 *
 * A handler is called when the head is complete, or the body where its route takes one. It answers at once, or
 * holds the call and answers later. When the client leaves meanwhile c->x becomes NULL and on_left is called, once;
 * what was begun goes on (a start is not undone because nobody waits for it) unless on_left ends it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/api/api.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

/* --- life of a call ------------------------------------------------------------------------------ */

static void call_free(struct api_call *c)
{
    list_remove(&c->link);
    json_decref(c->body);
    free(c);
}

void api_hold(struct api_call *c)
{
    c->held++;
}

void api_release(struct api_call *c)
{
    assert(c->held);
    if (--c->held == 0)
        call_free(c);
}

static void leave(struct api_call *c)
{
    void (*on_left)(struct api_call * c) = c->on_left;

    c->x = NULL;
    c->on_left = NULL;
    if (on_left)
        on_left(c);
}

static void on_close(struct http_exchange *x)
{
    leave(http_data(x));
}

static void on_end(struct http_exchange *x)
{
    struct api_call *c = http_data(x);

    c->x = NULL;
    c->on_left = NULL;
    api_release(c);
}

void api_close(struct engine *en)
{
    struct err closing = {ERR_UNAVAILABLE, "the engine is closing"};
    struct api_call *c, *after;

    list_each_safe (c, after, &en->calls, link) {
        struct http_exchange *x = c->x;

        api_hold(c);
        if (x && !c->state) /* nothing was sent yet */
            http_reply_error(x, &closing);
        leave(c);
        list_remove(&c->link);
        api_release(c);
    }
}

/* --- answers ------------------------------------------------------------------------------------- */

void api_error(struct api_call *c, const struct err *e)
{
    if (!c->x)
        return;
    if (e->code == ERR_NOT_MODIFIED)
        http_reply_empty(c->x, 304);
    else
        http_reply_error(c->x, e);
}

void api_json(struct api_call *c, int status, const struct buf *body)
{
    if (c->x)
        http_reply_json(c->x, status, body);
}

void api_empty(struct api_call *c, int status)
{
    if (c->x)
        http_reply_empty(c->x, status);
}

void api_absent(struct api_call *c, const char *operation)
{
    struct err e;

    err_set(&e, ERR_UNSUPPORTED, "%s " API_NOT_IMPLEMENTED, operation);
    api_error(c, &e);
}

bool api_filters(struct api_call *c, const char *const *known, struct filters *ret)
{
    struct err e = {0};

    if (filters_parse(http_query(c->x, "filters"), known, api_arena(c), ret, &e) == 0)
        return true;
    api_error(c, &e);
    return false;
}

bool api_int(struct api_call *c, const char *key, int64_t *ret)
{
    const char *text = http_query(c->x, key);
    struct err e = {0};
    char *end;

    if (!text || !*text)
        return true;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || end == text) {
        err_set(&e, ERR_INVALID, "invalid %s: expected a whole number, got \"%.64s\"", key, text);
        api_error(c, &e);
        return false;
    }
    *ret = value;
    return true;
}

bool api_time(struct api_call *c, const char *key, int64_t *ret_ns)
{
    const char *text = http_query(c->x, key);
    struct err e;

    if (!text || !*text || filter_time(text, engine_now_ns(), ret_ns))
        return true;
    err_set(&e, ERR_INVALID, "invalid value for \"%s\": \"%.64s\"", key, text);
    api_error(c, &e);
    return false;
}

/* --- routing ------------------------------------------------------------------------------------- */

/* Whether the path is the route's; what stands for * is between the two lengths. */
static bool route_matches(const struct api_route *route, const char *path, size_t *ret_start, size_t *ret_length)
{
    const char *star = strchr(route->path, '*');
    size_t length = strlen(path);

    *ret_length = 0;
    if (!star)
        return strcmp(route->path, path) == 0;
    size_t before = (size_t)(star - route->path), after = strlen(star + 1);
    if (length <= before + after || strncmp(route->path, path, before) != 0 ||
        strcmp(star + 1, path + length - after) != 0)
        return false;
    *ret_start = before;
    *ret_length = length - before - after;
    return true;
}

static const struct api_route *find_in(const struct api_route *table, const char *method, const char *path,
                                       size_t *ret_start, size_t *ret_length)
{
    for (const struct api_route *route = table; route->method; route++)
        if (strcmp(route->method, method) == 0 && route_matches(route, path, ret_start, ret_length))
            return route;
    return NULL;
}

static const struct api_route *find_route(const char *method, const char *path, size_t *ret_start,
                                          size_t *ret_length)
{
    static const struct api_route *const tables[] = {api_container_routes, api_image_routes,  api_volume_routes,
                                                     api_network_routes,   api_system_routes, api_absent_routes};

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        const struct api_route *route = find_in(tables[i], method, path, ret_start, ret_length);

        if (route)
            return route;
    }
    return NULL;
}

static void on_body(struct http_exchange *x, const char *body, size_t length)
{
    struct api_call *c = http_data(x);
    struct err e = {0};

    if (length && jread_parse(body, length, &c->body, &e) < 0) {
        api_error(c, &e);
        return;
    }
    if (c->body && !json_is_object(c->body) && !json_is_null(c->body)) {
        err_set(&e, ERR_INVALID, "invalid JSON: an object is expected");
        api_error(c, &e);
        return;
    }
    c->handler(c);
}

static int check_content_type(const struct http_exchange *x, struct err *e)
{
    const char *type = http_header(x, "Content-Type");
    size_t length = type ? strcspn(type, "; \t") : 0;

    if (!type || (length == 16 && strncasecmp(type, "application/json", length) == 0))
        return 0;
    return err_set(e, ERR_INVALID, "unsupported Content-Type header (%.120s): must be 'application/json'", type);
}

static bool has_body(const struct http_exchange *x)
{
    const char *length = http_header(x, "Content-Length");

    return http_header(x, "Transfer-Encoding") || (length && strcmp(length, "0") != 0);
}

static void dispatch(struct api_call *c, const struct api_route *route)
{
    struct err e = {0};

    if (c->en->closing || (!c->en->is_ready && !route->before_ready)) {
        err_set(&e, ERR_UNAVAILABLE, "the engine is %s", c->en->closing ? "closing" : "starting");
        api_error(c, &e);
        return;
    }
    if (route->body == API_BODY_NONE) {
        route->handler(c);
        return;
    }
    if (has_body(c->x) ? check_content_type(c->x, &e) < 0
                       : route->body == API_BODY_REQUIRED &&
                             err_set(&e, ERR_INVALID, "invalid JSON: got EOF while reading request body") < 0) {
        api_error(c, &e);
        return;
    }
    c->handler = route->handler;
    http_collect(c->x, on_body);
}

bool engine_http(struct engine *en, struct http_exchange *x, const char *path, unsigned api_minor)
{
    size_t start = 0, length = 0;
    const struct api_route *route = find_route(http_method(x), path, &start, &length);

    if (!route)
        return false;
    struct api_call *c = mem_alloc(sizeof(*c));
    c->en = en;
    c->x = x;
    c->minor = api_minor;
    c->held = 1; /* by the exchange */
    c->name = length ? arena_strndup(http_arena(x), path + start, length) : NULL;
    list_push(&en->calls, &c->link);
    http_set_data(x, c);
    http_on_close(x, on_close);
    http_on_end(x, on_end);
    dispatch(c, route);
    return true;
}
