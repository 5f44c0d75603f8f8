/* See front.h.
 *
 * Every path may carry a version prefix; what is asked for then chooses who answers: the node's own part of the
 * swarm API (agent/swarm), the manager, by mail and page by page as the client reads, or the engine.
 *
 * After a start the manager reads its log for a moment. What is asked of it meanwhile waits until it serves, so
 * that clients see a restart as a slow answer and not as an error; PATIENCE_MS at most. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/front.h"
#include "manager/manager.h"
#include "proto/base/list.h"
#include "proto/base/mem.h"

#define API_MINOR_NEWEST 45
#define API_MINOR_OLDEST 24
#define PATIENCE_MS      3000

struct front {
    struct http_server *server;
    struct engine *engine;
    struct swarm *swarm;
    struct list waiting;  /* of struct asking: for the manager to serve */
    uv_timer_t *patience; /* owned; runs while somebody waits */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* --- requests for the manager ---------------------------------------------------------------------- */

struct asking {       /* one exchange that waits for the manager; in the exchange's arena */
    struct list link; /* front->waiting, until the manager serves */
    const char *body; /* while it waits; in the same arena */
    size_t length;
    struct front *front;
    struct http_exchange *exchange;
    struct manager_request *request; /* under way; NULL when it has ended */
    const char *path;                /* without the version prefix */
    unsigned api_minor;
    bool is_streaming; /* the first page went out and more follow */
    bool is_full;      /* the client reads slowly: the next page is asked for on_writable */
};

static void on_asking_closed(struct http_exchange *x)
{
    struct asking *asking = http_data(x);

    if (asking->request)
        manager_drop(asking->request);
}

static void on_asking_writable(struct http_exchange *x)
{
    struct asking *asking = http_data(x);

    if (asking->is_full && asking->request) {
        asking->is_full = false;
        manager_more(asking->request);
    }
}

static void on_reply(struct manager_request *r, struct manager_reply *reply)
{
    struct asking *asking = r->ctx;
    struct http_exchange *x = asking->exchange;
    const char *type = reply->content_type ? reply->content_type : "application/json";
    bool more = reply->more;

    if (!more)
        asking->request = NULL; /* it ends with this call */
    if (!more && !asking->is_streaming) {
        http_reply(x, reply->status, reply->body.length ? type : NULL,
                   reply->body.length ? buf_bytes(&reply->body) : NULL, reply->body.length);
        buf_fini(&reply->body);
        return;
    }
    if (!asking->is_streaming)
        http_stream(x, reply->status, type, on_asking_writable);
    asking->is_streaming = true;
    bool room = !reply->body.length || http_write(x, buf_bytes(&reply->body), reply->body.length);
    buf_fini(&reply->body);
    if (reply->cut)
        http_stream_cut(x);
    else if (!more)
        http_stream_end(x);
    else if (room)
        manager_more(r);
    else
        asking->is_full = true;
}

static void on_waiting_closed(struct http_exchange *x)
{
    list_remove(&((struct asking *)http_data(x))->link);
}

static void on_impatient(uv_timer_t *timer);

static void wait_for_manager(struct asking *asking, const char *body, size_t length)
{
    struct front *f = asking->front;

    if (list_empty(&f->waiting))
        uv_timer_start(f->patience, on_impatient, PATIENCE_MS, 0);
    asking->body = arena_dup(http_arena(asking->exchange), body, length);
    asking->length = length;
    list_push(&f->waiting, &asking->link);
    http_on_close(asking->exchange, on_waiting_closed);
}

static void ask(struct asking *asking, struct manager *manager, const char *body, size_t length)
{
    struct http_exchange *x = asking->exchange;
    struct manager_request *r = manager_request_new();
    const char *auth = http_header(x, "X-Registry-Auth");
    r->method = arena_strdup(&r->arena, http_method(x));
    r->path = arena_strdup(&r->arena, asking->path);
    r->query = arena_strdup(&r->arena, http_query_string(x));
    r->registry_auth = auth ? arena_strdup(&r->arena, auth) : NULL;
    r->body = arena_dup(&r->arena, body, length);
    r->body_size = length;
    r->api_minor = asking->api_minor;
    r->ctx = asking;
    r->on_reply = on_reply;
    asking->request = r;
    http_on_close(x, on_asking_closed);
    manager_ask(manager, r);
}

static void on_manager_body(struct http_exchange *x, const char *body, size_t length)
{
    struct asking *asking = http_data(x);
    struct err e;
    struct manager *manager = swarm_manager(asking->front->swarm, &e);

    if (manager)
        ask(asking, manager, body, length);
    else if (swarm_manager_starts(asking->front->swarm))
        wait_for_manager(asking, body, length);
    else
        http_reply_error(x, &e);
}

/* Answer those who wait: by the manager, or with why there is none. */
static void end_waiting(struct front *f)
{
    struct err e;
    struct manager *manager = swarm_manager(f->swarm, &e);
    struct asking *asking;

    uv_timer_stop(f->patience);
    while ((asking = list_first(&f->waiting, struct asking, link))) {
        list_remove(&asking->link);
        if (manager) {
            ask(asking, manager, asking->body, asking->length);
        } else {
            http_on_close(asking->exchange, NULL);
            http_reply_error(asking->exchange, &e);
        }
    }
}

static void on_impatient(uv_timer_t *timer)
{
    end_waiting(timer->data);
}

static void on_swarm_change(void *ctx)
{
    struct front *f = ctx;

    if (!swarm_manager_starts(f->swarm))
        end_waiting(f);
}

static void ask_manager(struct front *f, struct http_exchange *x, const char *path, unsigned api_minor)
{
    struct asking *asking = ARENA_NEW(http_arena(x), struct asking);

    asking->front = f;
    asking->exchange = x;
    list_init(&asking->link);
    asking->path = path;
    asking->api_minor = api_minor;
    http_set_data(x, asking);
    http_collect(x, on_manager_body);
}

/* --- routing --------------------------------------------------------------------------------------- */

/* "/v1.45/info" to "/info" and 45; without a prefix the newest version. */
static int strip_version(const char *path, const char **ret_path, unsigned *ret_minor, struct err *e)
{
    unsigned major = 0, minor = 0;
    const char *at = path + 2;
    int digits = 0;

    *ret_path = path;
    *ret_minor = API_MINOR_NEWEST;
    if (path[0] != '/' || path[1] != 'v' || !isdigit((unsigned char)path[2]))
        return 0;
    for (; isdigit((unsigned char)*at) && digits < 4; at++, digits++)
        major = major * 10 + (unsigned)(*at - '0');
    if (*at++ != '.' || !isdigit((unsigned char)*at))
        return 0; /* no version: somebody's path that begins with v */
    for (digits = 0; isdigit((unsigned char)*at) && digits < 4; at++, digits++)
        minor = minor * 10 + (unsigned)(*at - '0');
    if (*at != '/' && *at != '\0')
        return 0;
    if (major < 1 || (major == 1 && minor < API_MINOR_OLDEST))
        return err_set(
            e, ERR_INVALID,
            "client version %u.%u is too old. Minimum supported API version is 1.%d, please upgrade your "
            "client to a newer version",
            major, minor, API_MINOR_OLDEST);
    if (major > 1 || minor > API_MINOR_NEWEST)
        return err_set(e, ERR_INVALID, "client version %u.%u is too new. Maximum supported API version is 1.%d",
                       major, minor, API_MINOR_NEWEST);
    *ret_path = *at ? at : "/";
    *ret_minor = minor;
    return 0;
}

/* Networks are the engine's, but for one that is asked for as the swarm's: so clients look up the id by which a
 * service names it. */
static bool is_swarm_network(struct front *f, struct http_exchange *x, const char *path)
{
    const char *scope = http_query(x, "scope");

    return scope && strcmp(scope, "swarm") == 0 && strncmp(path, "/networks/", 10) == 0 &&
           strcmp(http_method(x), "GET") == 0 && swarm_manager(f->swarm, NULL);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    struct front *f = ctx;
    const char *path;
    unsigned minor;
    struct err e;

    http_set_header(x, "Api-Version", "1.45");
    http_set_header(x, "Ostype", "linux");
    if (strip_version(http_path(x), &path, &minor, &e) < 0) {
        http_reply_error(x, &e);
        return;
    }
    if (swarm_http(f->swarm, x, path))
        return;
    if (manager_serves(path) || is_swarm_network(f, x, path)) {
        ask_manager(f, x, path, minor);
        return;
    }
    if (engine_http(f->engine, x, path, minor))
        return;
    err_set(&e, ERR_NOT_FOUND, "page not found");
    http_reply_error(x, &e);
}

/* --- the door -------------------------------------------------------------------------------------- */

static void on_server_closed(void *ctx)
{
    struct front *f = ctx;
    void (*closed)(void *ctx) = f->closed;
    void *closed_ctx = f->closed_ctx;

    free(f);
    closed(closed_ctx);
}

static void on_timer_closed(uv_handle_t *timer)
{
    free(timer);
}

void front_close(struct front *f, void (*closed)(void *ctx), void *ctx)
{
    f->closed = closed;
    f->closed_ctx = ctx;
    swarm_watch(f->swarm, NULL, NULL);
    (void)uv_timer_stop(f->patience); /* cannot fail */
    uv_close((uv_handle_t *)f->patience, on_timer_closed);
    http_server_close(f->server, on_server_closed, f);
}

static void on_unopened(void *ctx)
{
    (void)ctx; /* nobody waits for it */
}

/* All of them are taken, also those behind one that cannot be used. */
static int listen_sockets(struct front *f, const struct front_config *config, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < config->socket_count; i++) {
        if (rc == 0)
            rc = http_server_listen_fd(f->server, config->sockets[i], e);
        else
            (void)close(config->sockets[i]); /* nothing was written to it */
    }
    return rc;
}

int front_open(const struct front_config *config, struct front **ret, struct err *e)
{
    struct front *f = mem_alloc(sizeof(*f));
    struct http_handler handler = {.ctx = f,
                                   .on_request = on_request,
                                   .server_header = "Docker/" SHOAL_VERSION " (linux) shoal/" SHOAL_VERSION};
    int rc = http_server_open(config->loop, &(struct http_limits){0}, &handler, &f->server, e);

    if (rc < 0) {
        free(f);
        return rc;
    }
    f->engine = config->engine;
    f->swarm = config->swarm;
    list_init(&f->waiting);
    f->patience = mem_alloc(sizeof(*f->patience));
    (void)uv_timer_init(config->loop, f->patience); /* cannot fail */
    f->patience->data = f;
    swarm_watch(f->swarm, on_swarm_change, f);
    rc = listen_sockets(f, config, e);
    for (size_t i = 0; i < config->url_count && rc == 0; i++)
        rc = http_server_listen(f->server, config->urls[i], 0660, config->group, e);
    if (rc < 0)
        front_close(f, on_unopened, NULL);
    else
        *ret = f;
    return rc;
}
