/* See remote.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/image/auth.h"
#include "engine/image/remote.h"
#include "proto/base/mem.h"

#define DOCKER_HUB "registry-1.docker.io" /* what stands for docker.io */

struct remote {
    struct child *child;
    struct remote_events events;
    bool closed;
};

static void on_frame(void *ctx, const void *data, size_t size)
{
    struct remote *r = ctx;
    FetchEvent *event = r->closed ? NULL : fetch_event__unpack(NULL, size, data);

    if (!event)
        return;
    r->events.on_event(r->events.ctx, event);
    fetch_event__free_unpacked(event, NULL);
}

static void on_end(void *ctx, const struct err *e)
{
    struct remote *r = ctx;
    struct remote_events events = r->events;
    const struct err none = {0};
    bool closed = r->closed;

    free(r);
    events.on_end(events.ctx, closed ? &none : e);
}

static bool is_insecure(const struct images *s, const char *domain)
{
    if (image_domain_is_loopback(domain))
        return true;
    for (const char *const *at = s->config.insecure; at && *at; at++) {
        size_t length = strlen(*at);

        /* "host" stands for every port of it. */
        if (strncmp(*at, domain, length) == 0 && (!domain[length] || (domain[length] == ':' && !strchr(*at, ':'))))
            return true;
    }
    return false;
}

int remote_open(struct images *s, const struct image_name *name, const char *auth, unsigned patience_s, int dir_fd,
                const struct remote_events *events, struct remote **ret, struct err *e)
{
    AUTO_ARENA
    struct arena a;
    struct registry_auth credentials;
    FetchRequest request = FETCH_REQUEST__INIT;
    const struct child_config config = {
        .loop = s->config.loop, .program = s->config.job, .verb = "fetch", .fds = &dir_fd, .fd_count = 1};

    arena_init(&a);
    int rc = registry_auth_parse(auth, &a, &credentials, e);
    if (rc < 0)
        return rc;
    struct remote *r = mem_alloc(sizeof(*r));
    r->events = *events;
    const struct child_events of_child = {.ctx = r, .on_frame = on_frame, .on_end = on_end};
    rc = child_start(&config, &of_child, &r->child, e);
    if (rc < 0) {
        free(r);
        return rc;
    }
    request.host = (char *)(strcmp(name->domain, "docker.io") == 0 ? DOCKER_HUB : name->domain);
    request.repository = (char *)name->path;
    request.has_insecure = request.has_parallel = request.has_patience_s = true;
    request.insecure = is_insecure(s, name->domain);
    request.parallel = s->config.parallel;
    request.patience_s = patience_s;
    request.user = (char *)credentials.user;
    request.password = (char *)credentials.password;
    request.identity_token = (char *)credentials.identity_token;
    request.registry_token = (char *)credentials.registry_token;
    request.certificates = (char *)s->config.certificates;
    child_send(r->child, &request.base);
    *ret = r;
    return 0;
}

void remote_close(struct remote *r)
{
    r->closed = true;
    child_kill(r->child);
}

void remote_manifest(struct remote *r, uint32_t id, const char *reference)
{
    FetchCommand c = FETCH_COMMAND__INIT;

    c.id = id;
    c.manifest = (char *)reference;
    c.has_bytes_max = true;
    c.bytes_max = MANIFEST_BYTES_MAX;
    child_send(r->child, &c.base);
}

void remote_blob(struct remote *r, uint32_t id, const char *digest, uint64_t size, const char *file)
{
    FetchCommand c = FETCH_COMMAND__INIT;

    c.id = id;
    c.blob = (char *)digest;
    c.file = (char *)file;
    c.has_size_bytes = true;
    c.size_bytes = size;
    child_send(r->child, &c.base);
}

void remote_explain(const struct image_name *name, struct err *e)
{
    char repository[IMAGE_NAME_MAX + 2];

    snprintf(repository, sizeof(repository), "%s/%s", name->domain, name->path);
    const char *familiar = image_name_familiar(repository);
    if (e->code == ERR_UNAUTHORIZED || e->code == ERR_DENIED)
        err_wrap(e, "pull access denied for %s, repository does not exist or may require 'docker login'", familiar);
    else if (e->code == ERR_NOT_FOUND && strncmp(e->text, "name unknown", 12) == 0)
        err_wrap(e, "repository %s not found", familiar);
    else if (e->code == ERR_NOT_FOUND)
        err_wrap(e, "manifest for %s not found", name->familiar);
}
