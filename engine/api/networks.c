/* The networks of the API: those of this machine, and the two that every machine has (reference/engine-surface.md
 * section 15). */
#include <stdio.h>
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/container_show.h"
#include "engine/api/prune.h"
#include "engine/api/read_fields.h"
#include "engine/container/container.h"
#include "engine/container/merge.h"
#include "engine/container/plug.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

/* One of ours, or one that every machine has. */
struct shown {
    const char *name, *driver;
    char id[HEX_ID_TEXT + 1];
    const struct network *network; /* NULL: "host" or "none" */
};

static const char *const fixed[][2] = {{"host", "host"}, {"none", "null"}}; /* name, driver */

static void show_fixed(const struct engine *en, size_t which, struct shown *ret)
{
    *ret = (struct shown){.name = fixed[which][0], .driver = fixed[which][1]};
    network_id(en, ret->name, ret->id);
}

static void show_network(const struct network *n, struct shown *ret)
{
    *ret = (struct shown){.name = n->record->name, .driver = n->record->driver, .network = n};
    (void)snprintf(ret->id, sizeof(ret->id), "%s", n->record->id);
}

static int find(const struct engine *en, const char *ref, struct shown *ret, struct err *e)
{
    struct network *n;
    size_t length = strlen(ref);

    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        show_fixed(en, i, ret);
        if (strcmp(ref, ret->name) == 0 || (length && strncmp(ret->id, ref, length) == 0))
            return 0;
    }
    if (!en->networks)
        return err_set(e, ERR_NOT_FOUND, "network %.120s not found", ref);
    int rc = network_find(en->networks, ref, &n, e);
    if (rc == 0)
        show_network(n, ret);
    return rc;
}

/* What the container has there, or an endpoint without anything for "host" and "none"; NULL: it is not in it. */
static const NetworkEndpoint *endpoint_in(const struct container *c, const struct shown *n)
{
    static const NetworkEndpoint nothing = NETWORK_ENDPOINT__INIT;

    if (n->network)
        return plug_endpoint(c->record, n->id);
    return container_is_running(c) && strcmp(c->record->config->host->network_mode, n->name) == 0 ? &nothing : NULL;
}

/* Whether a container, running or not, is to be in it. */
static bool has_containers(const struct engine *en, const struct shown *n)
{
    const struct container *c;
    struct plug_wish wish;
    struct network *named;

    list_each (c, &en->containers->all, link) {
        if (strcmp(c->record->config->host->network_mode, n->name) == 0 || endpoint_in(c, n))
            return true;
        for (size_t i = 0; n->network && plug_wish(c->record->config, i, &wish); i++)
            if (network_find(en->networks, wish.network, &named, NULL) == 0 && named == n->network)
                return true;
    }
    return false;
}

static void show_containers(const struct engine *en, const struct shown *n, struct jwrite *j)
{
    const struct container *c;

    list_each (c, &en->containers->all, link) {
        const NetworkEndpoint *ep = endpoint_in(c, n);

        if (!ep)
            continue;
        jwrite_object(j, c->record->id);
        jwrite_string(j, "Name", c->record->name);
        jwrite_string(j, "EndpointID", ep->id);
        show_mac(ep, j);
        show_ipv4(ep, "IPv4Address", true, j);
        jwrite_string(j, "IPv6Address", "");
        jwrite_end(j);
    }
}

static void show_ipam(const struct network *n, struct jwrite *j)
{
    jwrite_object(j, "IPAM");
    jwrite_string(j, "Driver", "default");
    show_pairs(j, "Options", n ? n->record->ipam_options : NULL, n ? n->record->n_ipam_options : 0);
    jwrite_array(j, "Config");
    for (size_t i = 0; n && i < n->record->n_pools; i++) {
        const IpamPool *p = n->record->pools[i];

        jwrite_object(j, NULL);
        jwrite_string(j, "Subnet", p->subnet);
        if (p->range && *p->range)
            jwrite_string(j, "IPRange", p->range);
        if (p->gateway && *p->gateway)
            jwrite_string(j, "Gateway", p->gateway);
        if (p->n_reserved)
            show_pairs(j, "AuxiliaryAddresses", p->reserved, p->n_reserved);
        jwrite_end(j);
    }
    jwrite_end(j);
    jwrite_end(j);
}

static void show(const struct engine *en, const struct shown *n, bool containers, struct jwrite *j)
{
    static const char *const flags[] = {"Ingress", "ConfigOnly"};
    const NetworkRecord *r = n->network ? n->network->record : NULL;

    jwrite_object(j, NULL);
    jwrite_string(j, "Name", n->name);
    jwrite_string(j, "Id", n->id);
    jwrite_time_ns(j, "Created", r ? r->created_ns : 0);
    jwrite_string(j, "Scope", "local");
    jwrite_string(j, "Driver", n->driver);
    jwrite_bool(j, "EnableIPv4", true);
    jwrite_bool(j, "EnableIPv6", false);
    show_ipam(n->network, j);
    jwrite_bool(j, "Internal", r && r->internal);
    jwrite_bool(j, "Attachable", r && r->attachable);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        jwrite_bool(j, flags[i], false);
    jwrite_object(j, "ConfigFrom");
    jwrite_string(j, "Network", "");
    jwrite_end(j);
    jwrite_object(j, "Containers");
    if (containers)
        show_containers(en, n, j);
    jwrite_end(j);
    show_pairs(j, "Options", r ? r->options : NULL, r ? r->n_options : 0);
    show_pairs(j, "Labels", r ? r->labels : NULL, r ? r->n_labels : 0);
    jwrite_end(j);
}

static bool is_predefined(const struct shown *n)
{
    return !n->network || n->network->predefined;
}

static const char *label_of(void *ctx, const char *name)
{
    const struct shown *n = ctx;

    return n->network ? key_value_get(n->network->record->labels, n->network->record->n_labels, name) : NULL;
}

static bool is_selected(const struct engine *en, const struct filters *f, struct shown *n, bool dangling)
{
    /* Predefined networks are never dangling: nothing may remove them. */
    if (filters_get(f, "dangling") &&
        (dangling ? is_predefined(n) || has_containers(en, n) : !is_predefined(n) && !has_containers(en, n)))
        return false;
    return filters_exact(f, "driver", n->driver) && filters_like(f, "id", n->id) &&
           filters_like(f, "name", n->name) && filters_exact(f, "scope", "local") &&
           filters_exact(f, "type", is_predefined(n) ? "builtin" : "custom") &&
           filters_labels(f, "label", label_of, n);
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
    struct shown item;
    struct err e = {0};

    if (!api_filters(c, known, &f))
        return;
    if (filters_bool(&f, "dangling", &dangling, &e) < 0 || check_types(&f, &e) < 0) {
        api_error(c, &e);
        return;
    }
    jwrite_array(&j, NULL);
    for (struct network *n = NULL; c->en->networks && (n = networks_next(c->en->networks, n));) {
        show_network(n, &item);
        if (is_selected(c->en, &f, &item, dangling))
            show(c->en, &item, false, &j);
    }
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        show_fixed(c->en, i, &item);
        if (is_selected(c->en, &f, &item, dangling))
            show(c->en, &item, false, &j);
    }
    jwrite_end(&j);
    api_json(c, 200, &body);
}

static void inspect(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct shown n;
    struct err e;

    if (find(c->en, c->name, &n, &e) < 0) {
        api_error(c, &e);
        return;
    }
    show(c->en, &n, true, &j);
    api_json(c, 200, &body);
}

/* --- creating ------------------------------------------------------------------------------------- */

static int read_pool(struct reading *r, const json_t *given, IpamPool *p, struct err *e)
{
    static const struct field fields[] = {
        F_TEXT(IpamPool, "Subnet", subnet),
        F_TEXT(IpamPool, "IPRange", range),
        F_TEXT(IpamPool, "Gateway", gateway),
        F_COUNT(IpamPool, "AuxiliaryAddresses", MAP, reserved),
        {0},
    };
    int rc = read_fields(r, given, "IPAM.Config", fields, p, e);

    if (rc == 0 && (!p->subnet || !*p->subnet))
        rc = err_set(e, ERR_UNSUPPORTED, "invalid IPAM.Config: an entry without Subnet " API_NOT_IMPLEMENTED);
    return rc;
}

static int read_ipam(struct reading *r, const json_t *body, NetworkRecord *record, struct err *e)
{
    json_t *ipam = NULL, *list = NULL, *item;
    char *driver = NULL;
    size_t at;
    int rc = jread_object(body, NULL, "IPAM", &ipam, e);

    if (rc == 0)
        rc = jread_string(ipam, "IPAM", "Driver", r->a, &driver, e);
    if (rc == 0 && driver && *driver && strcmp(driver, "default") != 0)
        rc = err_set(e, ERR_NOT_FOUND, "could not find plugin %.120s in v1 plugin registry: plugin not found",
                     driver);
    if (rc == 0)
        rc = read_map(r, ipam, "IPAM", "Options", &record->ipam_options, &record->n_ipam_options, e);
    if (rc == 0)
        rc = jread_array(ipam, "IPAM", "Config", &list, e);
    if (rc < 0 || read_too_many(list, "IPAM", "Config", e) < 0)
        return e->code;
    record->pools = arena_array(r->a, json_array_size(list), sizeof(*record->pools));
    json_array_foreach(list, at, item)
    {
        IpamPool *p = ARENA_NEW(r->a, IpamPool);

        if (!read_says_something(item))
            continue; /* as clients send it when nothing was asked for */
        ipam_pool__init(p);
        rc = read_pool(r, item, p, e);
        if (rc < 0)
            return rc;
        record->pools[record->n_pools++] = p;
    }
    return 0;
}

static int read_new(struct api_call *c, NetworkRecord *record, struct err *e)
{
    static const struct field fields[] = {
        F_TEXT(NetworkRecord, "Name", name),
        F_TEXT(NetworkRecord, "Driver", driver),
        F_HAS(NetworkRecord, "Internal", FLAG, internal),
        F_HAS(NetworkRecord, "Attachable", FLAG, attachable),
        F_COUNT(NetworkRecord, "Options", MAP, options),
        F_COUNT(NetworkRecord, "Labels", MAP, labels),
        {0},
    };
    static const char *const absent[] = {"EnableIPv6", "Ingress", "ConfigOnly", "ConfigFrom", NULL};
    struct reading r = {.a = api_arena(c), .minor = c->minor};
    char *scope = NULL;
    int rc = read_refuse(c->body, NULL, absent, ERR_UNSUPPORTED, READ_NOT_IMPLEMENTED, e);

    network_record__init(record);
    record->name = record->driver = record->id = (char *)"";
    if (rc == 0)
        rc = read_fields(&r, c->body, NULL, fields, record, e);
    if (rc == 0)
        rc = jread_string(c->body, NULL, "Scope", r.a, &scope, e);
    if (rc == 0 && scope && *scope && strcmp(scope, "local") != 0)
        rc = err_set(e, ERR_INVALID, "invalid Scope \"%.60s\": this network is one machine's", scope);
    return rc == 0 ? read_ipam(&r, c->body, record, e) : rc;
}

static void on_created(void *ctx, const struct err *e, struct network *n)
{
    struct api_call *c = ctx;
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    if (e->code) {
        api_error(c, e);
    } else {
        jwrite_object(&j, NULL);
        jwrite_string(&j, "Id", n->record->id);
        jwrite_string(&j, "Warning", "");
        jwrite_end(&j);
        api_json(c, 201, &body);
    }
    api_release(c);
}

static void create(struct api_call *c)
{
    NetworkRecord record;
    struct err e = {0};

    if (!c->en->networks) {
        api_absent(c, "creating a network where the node's own networks are switched off");
        return;
    }
    api_hold(c);
    if (read_new(c, &record, &e) == 0 && network_create(c->en->networks, &record, on_created, c, &e) == 0)
        return;
    api_error(c, &e);
    api_release(c);
}

/* --- removing ------------------------------------------------------------------------------------- */

/* Only containers that run hold a network, as Docker has it: others find it missing when they are started. */
static int remove_one(struct engine *en, const struct shown *n, struct err *e)
{
    const struct container *c;

    if (is_predefined(n))
        return err_set(e, ERR_DENIED, "%s is a pre-defined network and cannot be removed", n->name);
    list_each (c, &en->containers->all, link) {
        const NetworkEndpoint *ep = endpoint_in(c, n);

        if (ep)
            return err_set(e, ERR_DENIED,
                           "error while removing network: network %s has active endpoints (name:\"%s\" "
                           "id:\"%.12s\")",
                           n->name, c->record->name, ep->id);
    }
    return network_remove(network_by_id(en->networks, n->id), e);
}

static void delete (struct api_call *c)
{
    struct shown n;
    struct err e;

    if (find(c->en, c->name, &n, &e) < 0 || remove_one(c->en, &n, &e) < 0)
        api_error(c, &e);
    else
        api_empty(c, 204);
}

static void prune(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct network *n, *after;
    struct prune p;
    struct shown item;

    if (!prune_take(c, &p))
        return;
    jwrite_object(&j, NULL);
    jwrite_array(&j, "NetworksDeleted");
    for (n = c->en->networks ? networks_next(c->en->networks, NULL) : NULL; n; n = after) {
        after = networks_next(c->en->networks, n);
        show_network(n, &item);
        if (n->predefined || has_containers(c->en, &item) ||
            !prune_holds(&p, n->record->created_ns, n->record->labels, n->record->n_labels))
            continue;
        AUTO_FREE
        char *name = mem_strdup(item.name);
        if (network_remove(n, NULL) == 0)
            jwrite_string(&j, NULL, name);
    }
    jwrite_end(&j);
    jwrite_end(&j);
    prune_event(c->en, "network", 0);
    api_json(c, 200, &body);
}

const struct api_route api_network_routes[] = {
    {"GET", "/networks", list, API_BODY_NONE, false},
    {"POST", "/networks/create", create, API_BODY_REQUIRED, false},
    {"POST", "/networks/prune", prune, API_BODY_NONE, false},
    {"GET", "/networks/*", inspect, API_BODY_NONE, false},
    {"DELETE", "/networks/*", delete, API_BODY_NONE, false},
    {0},
};
