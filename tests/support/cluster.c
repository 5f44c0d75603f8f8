/* See cluster.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>

#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/jread.h"
#include "tests/support/cluster.h"

#define DAY_MS (24LL * 3600 * 1000)

struct manager_tuning cluster_tuning;

void cluster_fail(const char *file, int line, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args); /* cut when longer */
    va_end(args);
    print_error("%s:%d: %s\n", file, line, text);
    _fail(file, line);
    abort(); /* outside of a test */
}

#define FAIL(...) cluster_fail(__FILE__, __LINE__, __VA_ARGS__)

static void on_tick(uv_timer_t *t)
{
    (void)t; /* its coming is enough */
}

void cluster_rest(struct cluster *c, unsigned ms)
{
    uint64_t end = uv_hrtime() + ms * UINT64_C(1000000);

    while (uv_hrtime() < end)
        uv_run(&c->loop, UV_RUN_ONCE);
}

/* --- the manager ------------------------------------------------------------------------------------------ */

static void on_ready(void *ctx)
{
    struct cluster *c = ctx;

    c->ready = true;
    c->port = manager_port(c->manager);
}

static void on_stopped(void *ctx, const struct err *e)
{
    struct cluster *c = ctx;

    c->stops++;
    c->why = *e;
}

static void on_removed(void *ctx)
{
    ((struct cluster *)ctx)->removed = true;
}

static void on_closed(void *ctx)
{
    ((struct cluster *)ctx)->closed = true;
}

static void on_lock_key(void *ctx, const uint8_t *key, uint64_t version)
{
    struct cluster *c = ctx;

    c->lock.tells++;
    c->lock.is_on = key != NULL;
    c->lock.version = version;
    if (key)
        memcpy(c->lock.key, key, sizeof(c->lock.key));
}

static void on_event(void *ctx, const struct manager_event *ev)
{
    struct cluster *c = ctx;

    if (!c->hears)
        return;
    buf_printf(&c->events, "%s %s %s", ev->type, ev->action, ev->id);
    for (size_t i = 0; i < ev->count; i++)
        buf_printf(&c->events, " %s=%s", ev->attributes[i].key, ev->attributes[i].value);
    buf_append_str(&c->events, "\n");
}

int cluster_open(struct cluster *c, const Cluster *bootstrap, struct err *e)
{
    static Platform platform = PLATFORM__INIT;
    static Resources resources = RESOURCES__INIT;
    NodeDescription description = NODE_DESCRIPTION__INIT;

    platform.architecture = (char *)"x86_64";
    platform.os = (char *)"linux";
    resources.has_nano_cpus = resources.has_memory_bytes = true;
    resources.nano_cpus = 4000000000;
    resources.memory_bytes = INT64_C(8) << 30;
    description.hostname = (char *)(c->hostname ? c->hostname : "first");
    description.platform = &platform;
    description.resources = &resources;
    struct manager_config config = {.dir = c->dir,
                                    .listen_address = c->listen,
                                    .advertise_address = *c->advertise ? c->advertise : "127.0.0.1:2377",
                                    .data_key = c->founding.data_key,
                                    .raft_id = c->raft_id ? c->raft_id : MANAGER_RAFT_ID_FIRST,
                                    .epoch = c->epoch,
                                    .force_new_cluster = c->force_new_cluster,
                                    .node_id = c->founding.node_id,
                                    .cluster_id = c->founding.cluster_id,
                                    .certificate_pem = c->founding.certificate_pem,
                                    .key_pem = c->founding.key_pem,
                                    .root_pem = c->founding.root_pem,
                                    .root_key_pem = bootstrap ? c->founding.root_key_pem : NULL,
                                    .bootstrap = bootstrap,
                                    .description = &description,
                                    .availability = NODE_AVAILABILITY__ACTIVE,
                                    .node = &c->box,
                                    .tuning = cluster_tuning,
                                    .ctx = c,
                                    .on_ready = on_ready,
                                    .on_stopped = on_stopped,
                                    .on_removed = on_removed,
                                    .on_lock_key = on_lock_key,
                                    .on_event = on_event};

    c->ready = c->closed = c->removed = false;
    return manager_open(&config, &c->manager, e);
}

static Cluster *cluster_object(struct cluster *c, const char *init)
{
    const char *body = init ? init : "{\"ListenAddr\":\"127.0.0.1:0\"}";
    struct manager_init parsed;
    RootCa *root = ARENA_NEW(&c->arena, RootCa);
    uint8_t *id = arena_alloc(&c->arena, IDENT_BYTES);
    struct err e;

    if (manager_init_parse(body, strlen(body), &c->arena, &parsed, &e) < 0)
        FAIL("%s", e.text);
    assert_true(ident_parse(c->founding.cluster_id, id));
    root_ca__init(root);
    parsed.cluster->id = (ProtobufCBinaryData){IDENT_BYTES, id};
    root->has_certificate_pem = true;
    root->certificate_pem = (ProtobufCBinaryData){strlen(c->founding.root_pem), (uint8_t *)c->founding.root_pem};
    root->worker_secret = c->founding.worker_secret;
    root->manager_secret = c->founding.manager_secret;
    parsed.cluster->root_ca = root;
    parsed.cluster->has_unlock_key = parsed.cluster->spec->autolock_managers;
    parsed.cluster->unlock_key = (ProtobufCBinaryData){sizeof(c->founding.unlock_key), c->founding.unlock_key};
    return parsed.cluster;
}

static void open_loop(struct cluster *c)
{
    assert_int_equal(uv_loop_init(&c->loop), 0);
    uv_timer_init(&c->loop, &c->tick);
    uv_timer_start(&c->tick, on_tick, 5, 5);
    assert_int_equal(mailbox_open(&c->box, &c->loop, c), 0);
}

void cluster_resume(struct cluster *c, const char *dir, const struct manager_founding *founding)
{
    memset(c, 0, sizeof(*c));
    arena_init(&c->arena);
    (void)snprintf(c->dir, sizeof(c->dir), "%s", dir);           /* short */
    (void)snprintf(c->listen, sizeof(c->listen), "127.0.0.1:0"); /* fits */
    c->founding = *founding;
    open_loop(c);
}

void cluster_found_at(struct cluster *c, const char *base, const char *init, const char *address)
{
    struct manager_founding founding;
    char dir[sizeof(c->dir)];
    struct err e;

    (void)snprintf(dir, sizeof(dir), "%s/manager-XXXXXX", base); /* bases are short */
    assert_non_null(mkdtemp(dir));
    if (manager_found(clock_wall_ms(clock_real()), 90 * DAY_MS, &founding, &e) < 0)
        FAIL("%s", e.text);
    cluster_resume(c, dir, &founding);
    if (address) {
        (void)snprintf(c->listen, sizeof(c->listen), "%s", address);       /* host:port */
        (void)snprintf(c->advertise, sizeof(c->advertise), "%s", address); /* likewise */
    }
    if (cluster_open(c, cluster_object(c, init), &e) < 0)
        FAIL("%s", e.text);
    cluster_until(c, c->ready || c->stops);
    if (c->stops)
        FAIL("%s", c->why.text);
}

void cluster_found(struct cluster *c, const char *base, const char *init)
{
    cluster_found_at(c, base, init, NULL);
}

const char *cluster_address(struct cluster *c)
{
    return *c->advertise ? c->advertise : arena_printf(&c->arena, "127.0.0.1:%d", c->port);
}

void cluster_stop(struct cluster *c)
{
    manager_close(c->manager, on_closed, c);
    assert_false(c->closed); /* never from inside the call */
    cluster_until(c, c->closed);
    c->manager = NULL;
}

void cluster_start(struct cluster *c)
{
    struct err e;

    if (cluster_open(c, NULL, &e) < 0)
        FAIL("%s", e.text);
    cluster_until(c, c->ready || c->stops);
    if (c->stops)
        FAIL("%s", c->why.text);
}

static void on_box_closed(struct mailbox *m)
{
    (void)m; /* the loop runs until it is */
}

void cluster_end(struct cluster *c)
{
    struct err e;

    if (c->manager)
        cluster_stop(c);
    uv_close((uv_handle_t *)&c->tick, NULL);
    mailbox_close(&c->box, on_box_closed);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&c->loop), 0);
    manager_founding_free(&c->founding);
    arena_fini(&c->arena);
    buf_fini(&c->events);
    if (tree_remove(AT_FDCWD, c->dir, &e) < 0)
        FAIL("%s", e.text);
}

/* --- requests --------------------------------------------------------------------------------------------- */

static void on_reply(struct manager_request *r, struct manager_reply *reply)
{
    struct answer *a = r->ctx;

    if (a->pages++ == 0) {
        a->status = reply->status;
        (void)snprintf(a->type, sizeof(a->type), "%s", reply->content_type ? reply->content_type : "");
    }
    buf_append(&a->body, buf_bytes(&reply->body), reply->body.length);
    buf_fini(&reply->body);
    a->cut = reply->cut;
    if (!reply->more) {
        a->done = true;
        a->request = NULL;
    } else if (a->keep_asking) {
        manager_more(r);
    }
}

void cluster_ask(struct cluster *c, struct answer *a, const char *method, const char *path, const char *body)
{
    cluster_ask_as(c, a, method, path, body, NULL);
}

void cluster_ask_as(struct cluster *c, struct answer *a, const char *method, const char *path, const char *body,
                    const char *registry_auth)
{
    struct manager_request *r = manager_request_new();
    size_t length = strcspn(path, "?");

    *a = (struct answer){.request = r, .keep_asking = true};
    r->method = arena_strdup(&r->arena, method);
    r->path = arena_strndup(&r->arena, path, length);
    r->query = arena_strdup(&r->arena, path[length] ? path + length + 1 : "");
    r->body = body ? arena_strdup(&r->arena, body) : "";
    r->body_size = body ? strlen(body) : 0;
    r->registry_auth = registry_auth;
    r->api_minor = 45;
    r->ctx = a;
    r->on_reply = on_reply;
    manager_ask(c->manager, r);
    assert_false(a->done); /* never from inside the call */
}

void answer_fini(struct answer *a)
{
    buf_fini(&a->body);
}

int cluster_call(struct cluster *c, const char *method, const char *path, const char *body, const char **ret_body)
{
    struct answer a;

    cluster_ask(c, &a, method, path, body);
    cluster_until(c, a.done);
    if (ret_body)
        *ret_body = arena_strndup(&c->arena, a.body.length ? buf_bytes(&a.body) : "", a.body.length);
    answer_fini(&a);
    return a.status;
}

const char *cluster_expect(struct cluster *c, int status, const char *method, const char *path, const char *body)
{
    const char *text;
    int got = cluster_call(c, method, path, body, &text);

    if (got != status)
        FAIL("%s %s: %d instead of %d: %s", method, path, got, status, text);
    return text;
}

/* --- answers ---------------------------------------------------------------------------------------------- */

const char *json_at(struct cluster *c, const char *body, const char *way)
{
    AUTO_JSON json_t *root = NULL;
    const json_t *at;
    struct err e;

    if (jread_parse(body, strlen(body), &root, &e) < 0)
        FAIL("%s: %s", e.text, body);
    at = root;
    while (*way && at) {
        size_t length = strcspn(way, ".");
        char *key = arena_strndup(&c->arena, way, length);

        if (strcmp(key, "#") == 0)
            return arena_printf(&c->arena, "%zu", json_is_array(at) ? json_array_size(at) : json_object_size(at));
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10)) : json_object_get(at, key);
        way += length + (way[length] == '.');
    }
    if (!at)
        return NULL;
    if (json_is_string(at))
        return arena_strdup(&c->arena, json_string_value(at));
    char *shown = json_dumps(at, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *copy = arena_strdup(&c->arena, shown);
    free(shown);
    return copy;
}
