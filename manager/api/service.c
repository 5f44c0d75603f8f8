/* Services: routes, create, update, rollback, remove (reference/swarm-surface.md sections 3 and 9).
 *
 * What a request says is read and checked on the node's loop; what only the cluster's state can tell (whether the
 * name is free, the version the present one, the network there) inside the write, where nothing can come between
 * looking and putting. */
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/logs.h"
#include "manager/api/nouns.h"
#include "manager/api/resolve.h"
#include "manager/api/service.h"
#include "manager/api/spec.h"
#include "manager/api/validate.h"
#include "manager/orchestrator/intent.h"
#include "proto/base/ident.h"
#include "proto/base/jread.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"
#include "proto/base/names.h"

#define AUTH_MOST 8192 /* bytes of registry credentials */

/* --- reading the request --------------------------------------------------------------------------------- */

static int take_auth(struct ask *k, ServiceSpec *spec, struct err *e)
{
    if (!k->registry_auth || !*k->registry_auth)
        return 0;
    if (strlen(k->registry_auth) > AUTH_MOST)
        return err_set(e, ERR_INVALID, "invalid X-Registry-Auth: longer than %d bytes", AUTH_MOST);
    spec->task->container->registry_auth = arena_strdup(&k->arena, k->registry_auth);
    return 0;
}

/* A service that is created without a name gets one, as docker gives it. */
static void name_it(struct ask *k, ServiceSpec *spec)
{
    char *name = arena_alloc(&k->arena, NAME_GENERATED);

    name_generate(entropy_real(), 1, name); /* with a digit: two alike are seldom */
    spec->name = name;
}

static int take_spec(struct ask *k, bool is_new, ServiceSpec **ret, struct err *e)
{
    AUTO_JSON json_t *root = NULL;
    ServiceSpec *spec;
    int rc = jread_parse(k->body, k->body_size, &root, e);

    if (rc == 0 && !json_is_object(root))
        rc = err_set(e, ERR_INVALID, "invalid service spec: expected an object");
    if (rc == 0)
        rc = spec_read_service(root, &k->arena, &spec, e);
    if (rc < 0)
        return rc;
    if (is_new && !(spec->name && *spec->name))
        name_it(k, spec);
    if (validate_service(spec, e) < 0)
        return ask_rpc_error(e);
    rc = take_auth(k, spec, e);
    if (rc == 0)
        *ret = spec;
    return rc;
}

static int prepare_create(struct ask *k, struct err *e)
{
    struct service_args *args = k->args = ARENA_NEW(&k->arena, struct service_args);

    return take_spec(k, true, &args->spec, e);
}

static int prepare_update(struct ask *k, struct err *e)
{
    struct service_args *args = k->args = ARENA_NEW(&k->arena, struct service_args);
    const char *rollback = ask_query(k, "rollback"), *from = ask_query(k, "registryAuthFrom");
    int rc = ask_query_version(k, "service", &args->version, e);

    if (rc < 0)
        return rc;
    if (rollback && *rollback && strcmp(rollback, "previous") != 0 && strcmp(rollback, "none") != 0)
        return err_set(e, ERR_INVALID, "unrecognized rollback option %.64s", rollback);
    if (from && *from && strcmp(from, "spec") != 0 && strcmp(from, "previous-spec") != 0)
        return err_set(e, ERR_INVALID, "unsupported registryAuthFrom value: %.64s", from);
    args->rollback = rollback && strcmp(rollback, "previous") == 0;
    args->auth_from_previous = from && strcmp(from, "previous-spec") == 0;
    return args->rollback ? 0 : take_spec(k, false, &args->spec, e); /* of a rollback the body counts for nothing */
}

/* --- create ------------------------------------------------------------------------------------------------ */

/* Names and beginnings of ids become ids: names can change their meaning. Doing it twice changes nothing. */
static int settle_networks(struct ask *k, struct draft *d, TaskSpec *task, struct err *e)
{
    struct object object;

    for (size_t i = 0; i < task->n_networks; i++) {
        const char *target = task->networks[i]->target ? task->networks[i]->target : "";
        int rc = resolve_draft(control_store(asks_config(k->asks)->control), d, KIND_NETWORK, target, &object, e);

        if (rc < 0)
            return rc;
        char *id = arena_alloc(&k->arena, IDENT_TEXT + 1);
        ident_format(((const Network *)object.message)->id.data, id);
        task->networks[i]->target = id;
    }
    return 0;
}

static void reply_created(struct control_write *w, const uint8_t *service_id)
{
    struct jwrite j = JWRITE_TO(&w->reply);
    char id[IDENT_TEXT + 1];

    ident_format(service_id, id);
    jwrite_object(&j, NULL);
    jwrite_string(&j, "ID", id);
    jwrite_array(&j, "Warnings");
    jwrite_end(&j);
    jwrite_end(&j);
    w->http_status = 201;
}

static int execute_create(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    const struct service_args *args = k->args;
    struct object object;
    uint64_t number;
    int rc = settle_networks(k, d, args->spec->task, e);

    if (rc < 0)
        return rc;
    if (draft_find_name(d, KIND_SERVICE, args->spec->name)) {
        err_set(e, ERR_EXISTS, "name conflicts with an existing object: service %s already exists",
                args->spec->name);
        return ask_rpc_error(e);
    }
    if (service_create(p, args->spec, &number, e) < 0)
        return ask_rpc_error(e);
    rc = draft_get(d, KIND_SERVICE, number, &object);
    if (rc == 0)
        reply_created(w, ((const Service *)object.message)->id.data);
    return rc;
}

static void begin_create(struct ask *k)
{
    ask_write(k, execute_create);
}

/* --- update ------------------------------------------------------------------------------------------------ */

static const ServiceSpec *spec_of(struct plan *p, uint64_t service, uint64_t version)
{
    const struct index_service *s = index_service(p->index, service);
    const struct index_spec *spec = s && version ? index_spec(s, version) : NULL;
    const Spec *stored = spec ? plan_spec(p, spec) : NULL;

    return stored ? stored->spec : NULL;
}

/* Without new credentials those of the spec stay: clients never see them, so they cannot send them back. */
static int keep_auth(const struct service_args *args, struct plan *p, uint64_t number, const Service *service,
                     ServiceSpec *spec, struct err *e)
{
    const ServiceSpec *from =
        spec_of(p, number, args->auth_from_previous ? service->previous_spec_version : service->spec_version);

    if (!from && args->auth_from_previous)
        return err_set(e, ERR_PRECONDITION, "service %s does not have a previous spec", service->name);
    if (from && from->task && from->task->container)
        spec->task->container->registry_auth = from->task->container->registry_auth;
    return 0;
}

static int update(struct ask *k, struct draft *d, struct plan *p, const struct object *object, struct err *e)
{
    const struct service_args *args = k->args;
    const Service *service = (const Service *)object->message;
    ServiceSpec spec;
    TaskSpec task;
    ContainerSpec container;

    if (args->rollback)
        return service_rollback(p, object->number, e) < 0 ? ask_rpc_error(e) : 0;
    /* Copies: what is filled in here belongs to this draft. */
    spec = *args->spec;
    task = *spec.task;
    container = *task.container;
    spec.task = &task;
    task.container = &container;
    int rc = settle_networks(k, d, &task, e);
    if (rc == 0 && !container.registry_auth)
        rc = keep_auth(args, p, object->number, service, &spec, e);
    if (rc < 0)
        return rc;
    return service_update(p, object->number, &spec, e) < 0 ? ask_rpc_error(e) : 0;
}

static int execute_update(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    const struct service_args *args = k->args;
    struct object object;
    int rc = resolve_draft(control_store(asks_config(k->asks)->control), d, KIND_SERVICE, k->id, &object, e);

    if (rc < 0)
        return rc;
    if (object.version != args->version) {
        err_set(e, ERR_SEQUENCE, "update out of sequence");
        return ask_rpc_error(e);
    }
    rc = update(k, d, p, &object, e);
    if (rc < 0)
        return rc;
    w->http_status = 200;
    buf_append_str(&w->reply, "{\"Warnings\":[]}\n");
    return 0;
}

static void begin_update(struct ask *k)
{
    ask_write(k, execute_update);
}

/* --- remove ------------------------------------------------------------------------------------------------ */

static int execute_remove(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct object object;
    int rc = resolve_draft(control_store(asks_config(k->asks)->control), d, KIND_SERVICE, k->id, &object, e);

    if (rc < 0)
        return rc;
    if (service_remove(p, object.number, e) < 0)
        return ask_rpc_error(e);
    w->http_status = 200;
    return 0;
}

static void begin_remove(struct ask *k)
{
    ask_write(k, execute_remove);
}

const struct ask_route service_routes[] = {
    {"GET", "/services", ASK_READ, .prepare = service_prepare_list, .begin = service_begin_list},
    {"POST", "/services/create", ASK_WRITE, .prepare = prepare_create, .begin = begin_create},
    {"GET", "/services/{id}", ASK_READ, .prepare = service_prepare_inspect, .begin = service_begin_inspect},
    {"DELETE", "/services/{id}", ASK_WRITE, .begin = begin_remove},
    {"POST", "/services/{id}/update", ASK_WRITE, .prepare = prepare_update, .begin = begin_update},
    {"GET", "/services/{id}/logs", ASK_STREAM, .prepare = logs_prepare, .begin = logs_begin_service},
    {0},
};
