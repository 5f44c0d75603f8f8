/* Asking a registry what a name stands for (image.h): for service create, which pins the digest, and for
 * /distribution. Nothing is stored. An index tells the platforms itself; for a single manifest its config is asked.
 */
#include <string.h>
#include <unistd.h>

#include "engine/image/config.h"
#include "engine/image/remote.h"
#include "engine/later.h"
#include "proto/base/mem.h"

#define PATIENCE_S 8 /* who creates a service waits, and can do without a digest */

enum { COMMAND_MANIFEST = 1, COMMAND_CONFIG };

struct resolve {
    struct list link; /* in the store's list */
    struct images *store;
    struct arena arena;
    struct image_name name;
    struct remote *remote;
    char *draft; /* owned: an empty directory, as a fetch job needs one */
    int draft_fd;
    struct image_manifest_info info;
    bool answered; /* info is complete */
    struct err error;
    void (*done)(void *ctx, const struct err *e, const struct image_manifest_info *info);
    void *ctx;
};

static void resolve_free(struct resolve *r)
{
    struct images *s = r->store;

    list_remove(&r->link);
    if (r->draft)
        store_discard(s, s->tmp_fd, r->draft);
    mem_auto_close(&r->draft_fd);
    free(r->draft);
    arena_fini(&r->arena);
    free(r);
    store_idle(s);
}

/* The job has ended: only now, so that the answer comes once and nothing is left. */
static void on_end(void *ctx, const struct err *e)
{
    struct resolve *r = ctx;

    if (!r->error.code && !r->answered)
        err_set(&r->error, ERR_INTERNAL, "%s", e->code ? e->text : "the fetch job ended early");
    r->done(r->ctx, &r->error, r->error.code ? NULL : &r->info);
    resolve_free(r);
}

static const Platform *a_platform(struct resolve *r, const char *os, const char *architecture)
{
    Platform *p = ARENA_NEW(&r->arena, Platform);

    platform__init(p);
    p->os = arena_strdup(&r->arena, os ? os : "");
    p->architecture = arena_strdup(&r->arena, architecture ? architecture : "");
    return p;
}

static void finish(struct resolve *r, const Platform **platforms, size_t count)
{
    r->info.platforms = (const Platform *const *)platforms;
    r->info.platform_count = count;
    r->answered = true;
    remote_close(r->remote);
}

static int take_manifest(struct resolve *r, const FetchEvent *event, struct err *e)
{
    struct manifest m;
    int rc = manifest_parse((const char *)event->body.data, event->body.len, event->media_type, &r->arena, &m, e);

    if (rc < 0)
        return rc;
    r->info.digest = arena_strdup(&r->arena, event->digest);
    r->info.media_type = m.media_type;
    r->info.size = (int64_t)event->body.len;
    if (m.kind == MANIFEST_IMAGE) {
        remote_blob(r->remote, COMMAND_CONFIG, m.config.digest, (uint64_t)m.config.size, NULL);
        return 0;
    }
    const Platform **platforms = arena_array(&r->arena, m.count, sizeof(*platforms));
    size_t count = 0;
    for (size_t i = 0; i < m.count; i++)
        if (m.entries[i].has_platform && strcmp(m.entries[i].platform.os, "unknown") != 0)
            platforms[count++] = a_platform(r, m.entries[i].platform.os, m.entries[i].platform.architecture);
    finish(r, platforms, count);
    return 0;
}

static int take_config(struct resolve *r, const FetchEvent *event, struct err *e)
{
    ImageConfig *config;
    const Platform **platforms = arena_array(&r->arena, 1, sizeof(*platforms));
    int rc = image_config_parse((const char *)event->body.data, event->body.len, &r->arena, &config, e);

    if (rc < 0)
        return rc;
    platforms[0] = a_platform(r, config->os, config->architecture);
    finish(r, platforms, 1);
    return 0;
}

static void on_event(void *ctx, const FetchEvent *event)
{
    struct resolve *r = ctx;
    int rc = 0;

    if (event->error) {
        rc = err_set(&r->error, event->error->code < 0 ? event->error->code : ERR_INTERNAL, "%s",
                     event->error->text);
        remote_explain(&r->name, &r->error);
    } else if (event->id == COMMAND_MANIFEST && event->done && event->digest) {
        rc = take_manifest(r, event, &r->error);
    } else if (event->id == COMMAND_CONFIG && event->done) {
        rc = take_config(r, event, &r->error);
    }
    if (rc < 0)
        remote_close(r->remote);
}

int image_resolve(struct images *s, const char *ref, const char *auth,
                  void (*done)(void *ctx, const struct err *e, const struct image_manifest_info *info), void *ctx,
                  struct err *e)
{
    struct resolve *r = mem_alloc(sizeof(*r));
    const struct remote_events events = {.ctx = r, .on_event = on_event, .on_end = on_end};

    r->store = s;
    r->done = done;
    r->ctx = ctx;
    r->draft_fd = -1;
    list_init(&r->link);
    arena_init(&r->arena);
    store_busy(s);
    int rc = s->closing ? err_set(e, ERR_UNAVAILABLE, "the image store is closing")
                        : image_name_parse(ref, &r->arena, &r->name, e);
    if (rc == 0)
        rc = store_draft(s, "resolve", &r->draft, &r->draft_fd, e);
    if (rc == 0)
        rc = remote_open(s, &r->name, auth, PATIENCE_S, r->draft_fd, &events, &r->remote, e);
    if (rc < 0) {
        resolve_free(r);
        return rc;
    }
    list_push(&s->resolves, &r->link);
    remote_manifest(r->remote, COMMAND_MANIFEST, r->name.digest ? r->name.digest : r->name.tag);
    return 0;
}

void resolve_cancel_all(struct images *s)
{
    struct resolve *r;

    list_each (r, &s->resolves, link) {
        if (!r->error.code && !r->answered)
            err_set(&r->error, ERR_CANCELED, "the engine is closing");
        remote_close(r->remote);
    }
}
