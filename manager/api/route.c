/* Routes of the swarm API (ask.h).
 *
 * A pattern is compared segment by segment; "{id}" takes one. Of several that fit, the first in the table counts,
 * so that "/services/create" is no service called "create". */
#include <string.h>

#include "manager/api/ask.h"
#include "manager/api/nouns.h"
#include "proto/base/mem.h"
#include "proto/wire/http_parse.h"

static const struct ask_route *const tables[] = {swarm_routes, service_routes, task_routes,
                                                 node_routes,  network_routes, later_routes};

/* Whether the path fits; *ret_id is where its {id} begins. */
static bool fits(const char *pattern, const char *path, const char **ret_id, size_t *ret_length)
{
    *ret_id = NULL;
    while (*pattern && *path) {
        size_t expected = strcspn(pattern + 1, "/") + 1, given = strcspn(path + 1, "/") + 1;

        if (strncmp(pattern, "/{id}", expected) == 0 && expected == 5 && *path == '/' && given > 1) {
            *ret_id = path + 1;
            *ret_length = given - 1;
        } else if (expected != given || strncmp(pattern, path, given) != 0) {
            return false;
        }
        pattern += expected;
        path += given;
    }
    return !*pattern && !*path;
}

static const struct ask_route *find(const char *method, const char *path, const char **ret_id, size_t *ret_length)
{
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        for (const struct ask_route *r = tables[i]; r->path; r++)
            if (method ? strcmp(r->method, method) == 0 && fits(r->path, path, ret_id, ret_length)
                       : !r->by_invitation && fits(r->path, path, ret_id, ret_length))
                return r;
    return NULL;
}

bool ask_serves(const char *path)
{
    const char *id;
    size_t length;

    return find(NULL, path, &id, &length) != NULL;
}

enum ask_class ask_class_of(const char *method, const char *path)
{
    const char *id;
    size_t length;
    const struct ask_route *r = find(method, path, &id, &length);

    return r ? r->class : ASK_READ;
}

int ask_prepare(struct ask *k, const struct ask_source *source, struct err *e)
{
    const char *id;
    size_t length = 0;
    int rc;

    k->route = find(source->method, source->path, &id, &length);
    if (!k->route)
        return err_set(e, ERR_NOT_FOUND, "page not found");
    if (id)
        k->id = arena_strndup(&k->arena, id, length);
    rc = http_query_parse(source->query, &k->arena, &k->parameters, &k->parameter_count, e);
    k->path = source->path;
    k->query = source->query;
    k->origin = source->origin;
    k->registry_auth = source->registry_auth;
    k->body = source->body;
    k->body_size = source->body_size;
    k->api_minor = source->api_minor;
    if (rc == 0 && k->route->prepare)
        rc = k->route->prepare(k, e);
    return rc;
}
