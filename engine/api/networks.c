/* The networks of the API: the two that every machine has, and clear words about the others
 * (reference/engine-surface.md section 15). */
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/container_show.h"
#include "engine/container/container.h"
#include "proto/base/mem.h"

static const struct network {
    const char *name, *driver;
} networks[] = {{"host", "host"}, {"none", "null"}};

static const struct network *find(const struct engine *en, const char *ref)
{
    char id[HEX_ID_TEXT + 1];
    size_t length = strlen(ref);

    for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
        network_id(en, networks[i].name, id);
        if (strcmp(ref, networks[i].name) == 0 || (length && strncmp(id, ref, length) == 0))
            return &networks[i];
    }
    return NULL;
}

static bool has_containers(const struct engine *en, const struct network *n)
{
    const struct container *c;

    list_each (c, &en->containers->all, link)
        if (strcmp(c->record->config->host->network_mode, n->name) == 0)
            return true;
    return false;
}

static void show_containers(const struct engine *en, const struct network *n, struct jwrite *j)
{
    static const char *const empty[] = {"EndpointID", "MacAddress", "IPv4Address", "IPv6Address"};
    const struct container *c;

    list_each (c, &en->containers->all, link) {
        if (!container_is_running(c) || strcmp(c->record->config->host->network_mode, n->name) != 0)
            continue;
        jwrite_object(j, c->record->id);
        jwrite_string(j, "Name", c->record->name);
        for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
            jwrite_string(j, empty[i], "");
        jwrite_end(j);
    }
}

static void show(const struct engine *en, const struct network *n, bool containers, struct jwrite *j)
{
    static const char *const flags[] = {"EnableIPv6", "Internal", "Attachable", "Ingress", "ConfigOnly"};
    char id[HEX_ID_TEXT + 1];

    network_id(en, n->name, id);
    jwrite_object(j, NULL);
    jwrite_string(j, "Name", n->name);
    jwrite_string(j, "Id", id);
    jwrite_time_ns(j, "Created", 0);
    jwrite_string(j, "Scope", "local");
    jwrite_string(j, "Driver", n->driver);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        jwrite_bool(j, flags[i], false);
    jwrite_object(j, "IPAM");
    jwrite_string(j, "Driver", "default");
    jwrite_object(j, "Options");
    jwrite_end(j);
    jwrite_array(j, "Config");
    jwrite_end(j);
    jwrite_end(j);
    jwrite_object(j, "ConfigFrom");
    jwrite_string(j, "Network", "");
    jwrite_end(j);
    jwrite_object(j, "Containers");
    if (containers)
        show_containers(en, n, j);
    jwrite_end(j);
    jwrite_object(j, "Options");
    jwrite_end(j);
    jwrite_object(j, "Labels");
    jwrite_end(j);
    jwrite_end(j);
}

static const char *no_label(void *ctx, const char *name)
{
    return NULL;
}

static bool is_selected(const struct engine *en, const struct filters *f, const struct network *n, bool dangling)
{
    char id[HEX_ID_TEXT + 1];

    network_id(en, n->name, id);
    /* Predefined networks are never dangling: nothing may remove them. */
    if (filters_get(f, "dangling") && (dangling || !has_containers(en, n)))
        return false;
    return filters_exact(f, "driver", n->driver) && filters_like(f, "id", id) && filters_like(f, "name", n->name) &&
           filters_exact(f, "scope", "local") && filters_exact(f, "type", "builtin") &&
           filters_labels(f, "label", no_label, NULL);
}

static int check_types(const struct filters *filters, struct err *e)
{
    const struct filter *f = filters_get(filters, "type");

    for (size_t i = 0; f && i < f->count; i++)
        if (strcmp(f->values[i], "builtin") != 0 && strcmp(f->values[i], "custom") != 0)
            return filter_invalid("type", f->values[i], e);
    return 0;
}

static void list(struct api_call *c)
{
    static const char *const known[] = {"dangling", "driver", "id", "label", "name", "scope", "type", NULL};
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct filters f;
    bool dangling = false;
    struct err e = {0};

    if (!api_filters(c, known, &f))
        return;
    if (filters_bool(&f, "dangling", &dangling, &e) < 0 || check_types(&f, &e) < 0) {
        api_error(c, &e);
        return;
    }
    jwrite_array(&j, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(networks); i++)
        if (is_selected(c->en, &f, &networks[i], dangling))
            show(c->en, &networks[i], false, &j);
    jwrite_end(&j);
    api_json(c, 200, &body);
}

static const struct network *named(struct api_call *c)
{
    const struct network *n = find(c->en, c->name);
    struct err e;

    if (!n) {
        err_set(&e, ERR_NOT_FOUND, "network %.120s not found", c->name);
        api_error(c, &e);
    }
    return n;
}

static void inspect(struct api_call *c)
{
    const struct network *n = named(c);
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    if (!n)
        return;
    show(c->en, n, true, &j);
    api_json(c, 200, &body);
}

static void delete (struct api_call *c)
{
    const struct network *n = named(c);
    struct err e;

    if (!n)
        return;
    err_set(&e, ERR_DENIED, "%s is a pre-defined network and cannot be removed", n->name);
    api_error(c, &e);
}

static void prune(struct api_call *c)
{
    static const char *const known[] = {"until", "label", "label!", NULL};
    struct filters f;
    AUTO_BUF struct buf body = {0};

    if (!api_filters(c, known, &f))
        return;
    buf_append_str(&body, "{\"NetworksDeleted\":[]}"); /* there are only those that stay */
    api_json(c, 200, &body);
}

const struct api_route api_network_routes[] = {
    {"GET", "/networks", list, API_BODY_NONE, false},
    {"POST", "/networks/prune", prune, API_BODY_NONE, false},
    {"GET", "/networks/*", inspect, API_BODY_NONE, false},
    {"DELETE", "/networks/*", delete, API_BODY_NONE, false},
    {0},
};
