/* Services: inspect and list (ask.h). */
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/listing.h"
#include "manager/api/match.h"
#include "manager/api/resolve.h"
#include "manager/api/service.h"
#include "manager/api/show.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

static const char *const known_filters[] = {"id", "name", "label", "mode", "runtime", NULL};

int service_prepare_list(struct ask *k, struct err *e)
{
    struct service_args *args = k->args = ARENA_NEW(&k->arena, struct service_args);

    args->status = ask_query_bool(k, "status");
    return ask_filters(k, known_filters, &args->filters, e);
}

int service_prepare_inspect(struct ask *k, struct err *e)
{
    struct service_args *args = k->args = ARENA_NEW(&k->arena, struct service_args);

    (void)e; /* nothing can be wrong with it */
    args->insert_defaults = ask_query_bool(k, "insertDefaults");
    return 0;
}

/* --- one ------------------------------------------------------------------------------------------------- */

static uint64_t spec_number(const struct index *x, uint64_t service, uint64_t version)
{
    const struct index_service *s = index_service(x, service);
    const struct index_spec *spec = s && version ? index_spec(s, version) : NULL;

    return spec ? spec->number : 0;
}

/* The service behind its specs. False when it is going: the index, which shows the draft, may not have them any
 * more.
 */
static bool pack_service(struct ask *k, struct view *v, struct arena *a, uint64_t number)
{
    const struct index *x = control_index(asks_config(k->asks)->control);
    struct object object;

    if (view_get(v, KIND_SERVICE, number, a, &object) < 0)
        return false;
    const Service *service = (const Service *)object.message;
    if (!pack_from(&k->page.bytes, v, KIND_SPEC, spec_number(x, number, service->spec_version)))
        return false;
    pack_from(&k->page.bytes, v, KIND_SPEC, spec_number(x, number, service->previous_spec_version));
    return pack_from(&k->page.bytes, v, KIND_SERVICE, number);
}

static void inspect(struct ask *k)
{
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    AUTO_ARENA struct arena a;
    uint64_t number;
    struct err e;
    int rc = resolve(v, KIND_SERVICE, k->id, &number, &e);

    arena_init(&a);
    if (rc == 0 && !pack_service(k, v, &a, number))
        rc = err_set(&e, ERR_NOT_FOUND, "service %.200s not found", k->id);
    view_end(v);
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    k->page.render = show_service;
    ask_reply(k, 200);
}

void service_begin_inspect(struct ask *k)
{
    ask_read(k, inspect);
}

/* --- the list -------------------------------------------------------------------------------------------- */

static const char *mode_name(ServiceMode mode)
{
    static const char *const names[] = {"replicated", "global", "replicated-job", "global-job"};

    return (size_t)mode < ARRAY_SIZE(names) ? names[mode] : "";
}

static bool is_selected(const struct service_args *args, const Service *service, const ServiceSpec *spec)
{
    char id[IDENT_TEXT + 1];

    ident_format(service->id.data, id);
    return match_prefix(&args->filters, "id", id) && match_prefix(&args->filters, "name", service->name) &&
           match_labels(&args->filters, "label", spec->labels, spec->n_labels) &&
           filters_exact(&args->filters, "mode", mode_name(spec->mode)) &&
           filters_exact(&args->filters, "runtime", "container");
}

/* Tasks that run and those that should, without looking at each: a slot counts once, by the task that holds it. */
static void count_tasks(const struct index *x, uint64_t number, const ServiceSpec *spec, struct pack_service *ret)
{
    const struct index_service *s = index_service(x, number);
    const struct index_share *share;
    uint64_t held = 0;

    *ret = (struct pack_service){0};
    if (s)
        list_each (share, &s->shares, by_service) {
            held += share->counted;
            ret->running += share->running;
        }
    ret->desired = spec->mode == SERVICE_MODE__GLOBAL ? held : spec->has_replicas ? spec->replicas : 1;
}

static void pick(struct ask *k, struct listing *l, struct view *v, uint64_t number)
{
    const struct index *x = control_index(asks_config(k->asks)->control);
    const struct service_args *args = k->args;
    struct object object, spec_object;

    arena_reset(&l->arena);
    if (view_get(v, KIND_SERVICE, number, &l->arena, &object) < 0)
        return;
    const Service *service = (const Service *)object.message;
    if (view_get(v, KIND_SPEC, spec_number(x, number, service->spec_version), &l->arena, &spec_object) < 0)
        return;
    const Spec *spec = (const Spec *)spec_object.message;
    if (!spec->spec || !is_selected(args, service, spec->spec))
        return;
    pack_from(&k->page.bytes, v, KIND_SPEC, spec_object.number);
    pack_from(&k->page.bytes, v, KIND_SPEC, spec_number(x, number, service->previous_spec_version));
    if (args->status) {
        struct pack_service counts;

        count_tasks(x, number, spec->spec, &counts);
        pack_note(&k->page.bytes, PACK_SERVICE, &counts, sizeof(counts));
    }
    pack_from(&k->page.bytes, v, KIND_SERVICE, number);
}

static void list(struct ask *k)
{
    listing_begin(k, &(struct listing){.kind = KIND_SERVICE, .pick = pick, .render = show_services, .all = true});
}

void service_begin_list(struct ask *k)
{
    ask_read(k, list);
}
