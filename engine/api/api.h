/* The engine's nouns of the Docker API: requests, their tables and their answers. Inside engine/api and engine.c.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "engine/core.h"
#include "proto/base/filter.h"
#include "proto/wire/http.h"

#define API_NOT_IMPLEMENTED "is not implemented in shoal " SHOAL_VERSION

/* One request. It lives until the exchange has ended and nobody holds it: what goes on after the client left is
 * held.
 */
struct api_call {
    struct list link; /* in en->calls */
    struct engine *en;
    struct http_exchange *x; /* NULL: the client has left, or was answered */
    unsigned minor;          /* of the API version */
    const char *name;        /* what stands for * in the route; in the exchange's arena; NULL when none */
    json_t *body;            /* of routes that take one; NULL: empty */
    unsigned held;
    void *state;                         /* the handler's; */
    void (*on_left)(struct api_call *c); /* the client left or the engine closes before the answer was complete */
    void (*handler)(struct api_call *c); /* of the route, while the body is collected */
};

enum api_body { API_BODY_NONE, API_BODY_OPTIONAL, API_BODY_REQUIRED };

struct api_route {
    const char *method;
    const char *path; /* with at most one *, which stands for anything but nothing */
    void (*handler)(struct api_call *c);
    enum api_body body;
    bool before_ready; /* may be answered while the engine starts */
};

/* Tables end with a route without method. */
extern const struct api_route api_container_routes[], api_image_routes[], api_volume_routes[], api_network_routes[],
    api_system_routes[], api_absent_routes[];

/* Keep the call while something goes on; each hold is released once. */
void api_hold(struct api_call *c);
void api_release(struct api_call *c);

/* Answers; nothing happens when the client has left. */
void api_error(struct api_call *c, const struct err *e);
void api_json(struct api_call *c, int status, const struct buf *body);
void api_empty(struct api_call *c, int status);

/* "<operation> is not implemented in shoal <version>", 501. */
void api_absent(struct api_call *c, const char *operation);

/* Parse the query's filters; false when the error was answered. */
bool api_filters(struct api_call *c, const char *const *known, struct filters *ret);

/* A whole number of the query; *ret is untouched when absent. False when the error was answered. */
bool api_int(struct api_call *c, const char *key, int64_t *ret);

/* A moment of the query (proto/base/filter.h), in the same way. */
bool api_time(struct api_call *c, const char *key, int64_t *ret_ns);

static inline struct arena *api_arena(const struct api_call *c)
{
    return http_arena(c->x);
}

/* Every request under way is answered with 503. */
void api_close(struct engine *en);
