/* Tasks: inspect and list (ask.h).
 *
 * A list looks at the tasks of the services or nodes it asks for, whose numbers the index has, and only without
 * such a filter (or for very many tasks) at all. What is compared is read from the stored bytes in place: a task
 * that does not belong to the list costs a record and a few fields, no message. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/listing.h"
#include "manager/api/logs.h"
#include "manager/api/match.h"
#include "manager/api/nouns.h"
#include "manager/api/resolve.h"
#include "manager/api/show.h"
#include "proto/base/field.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

#define NUMBERS_MOST 16384 /* taken from the index at once: more would stop the loop too long */

struct numbers { /* of services or nodes that were asked for */
    uint64_t *items;
    size_t count;
};

struct task_args {
    struct filters filters;
    struct numbers services, nodes; /* resolved when the list begins */
    TaskState *desired;
    size_t desired_count;
    bool clean_only; /* _up-to-date */
};

struct facts { /* of a stored task, read in place */
    uint8_t id[IDENT_BYTES];
    uint64_t service, spec_version, slot, node, desired;
};

/* --- reading the request --------------------------------------------------------------------------------- */

static const char *const known_filters[] = {"id",          "label",   "name", "node", "service", "desired-state",
                                            "_up-to-date", "runtime", NULL};

static int take_desired(struct ask *k, struct task_args *args, struct err *e)
{
    const struct filter *f = filters_get(&args->filters, "desired-state");

    for (size_t i = 0; f && i < f->count; i++) {
        TaskState state;

        if (!show_task_state_parse(f->values[i], &state))
            return filter_invalid("desired-state", f->values[i], e);
        args->desired = arena_append(&k->arena, args->desired, args->desired_count, sizeof(*args->desired));
        args->desired[args->desired_count++] = state;
    }
    return 0;
}

static int prepare_list(struct ask *k, struct err *e)
{
    struct task_args *args = k->args = ARENA_NEW(&k->arena, struct task_args);
    int rc = ask_filters(k, known_filters, &args->filters, e);

    if (rc == 0)
        rc = filters_bool(&args->filters, "_up-to-date", &args->clean_only, e);
    return rc < 0 ? rc : take_desired(k, args, e);
}

/* --- what is put into a page ----------------------------------------------------------------------------- */

static bool read_facts(struct view *v, uint64_t number, struct facts *ret)
{
    struct object header;
    struct field field;
    const void *data;
    size_t size;

    *ret = (struct facts){0};
    if (view_get_packed(v, KIND_TASK, number, &data, &size, &header) < 0)
        return false;
    for (struct field_reader r = field_read(data, size); field_next(&r, &field);) {
        switch (field.tag) {
        case 1:
            memcpy(ret->id, field.data, MIN(field.size, sizeof(ret->id)));
            break;
        case 2:
            ret->service = field.value;
            break;
        case 3:
            ret->spec_version = field.value;
            break;
        case 4:
            ret->slot = field.value;
            break;
        case 5:
            ret->node = field.value;
            break;
        case 6:
            ret->desired = field.value;
            break;
        default:
            break;
        }
    }
    return true;
}

static uint64_t spec_number(const struct index *x, const struct facts *t)
{
    const struct index_service *s = index_service(x, t->service);
    const struct index_spec *spec = s ? index_spec(s, t->spec_version) : NULL;

    return spec ? spec->number : 0;
}

/* The spec, and the networks its tasks are attached to: once in a page. */
static void pack_spec(struct buf *page, struct view *v, uint64_t number, struct map64 *in_page, struct arena *a)
{
    struct object object;
    uint8_t id[IDENT_BYTES];

    if (!number || map64_put(in_page, number, in_page) || view_get(v, KIND_SPEC, number, a, &object) < 0)
        return;
    pack_from(page, v, KIND_SPEC, number);
    const Spec *spec = (const Spec *)object.message;
    const TaskSpec *task = spec->spec ? spec->spec->task : NULL;
    for (size_t i = 0; task && i < task->n_networks; i++) {
        uint64_t network = task->networks[i]->target && ident_parse(task->networks[i]->target, id)
                               ? view_find_id(v, KIND_NETWORK, id)
                               : 0;

        if (network && !map64_put(in_page, network | UINT64_C(1) << 63, in_page))
            pack_from(page, v, KIND_NETWORK, network);
    }
}

static void pack_task(struct ask *k, struct view *v, uint64_t number, const struct facts *t, struct map64 *in_page,
                      struct arena *a)
{
    static const uint8_t nobody[IDENT_BYTES];
    const struct index *x = control_index(asks_config(k->asks)->control);
    const struct index_service *service = index_service(x, t->service);
    const struct index_node *node = t->node ? index_node(x, t->node) : NULL;
    struct pack_task names = {0};

    pack_spec(&k->page.bytes, v, spec_number(x, t), in_page, a);
    /* Of what was removed before this manager started there is no id any more. */
    names.has_service = service && memcmp(service->id, nobody, sizeof(nobody)) != 0;
    names.has_node = node && memcmp(node->id, nobody, sizeof(nobody)) != 0;
    if (names.has_service)
        memcpy(names.service_id, service->id, sizeof(names.service_id));
    if (names.has_node)
        memcpy(names.node_id, node->id, sizeof(names.node_id));
    pack_note(&k->page.bytes, PACK_TASK, &names, sizeof(names));
    pack_from(&k->page.bytes, v, KIND_STATUS, number);
    pack_from(&k->page.bytes, v, KIND_TASK, number);
}

/* --- one ------------------------------------------------------------------------------------------------- */

static void inspect(struct ask *k)
{
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    struct map64 in_page = {0};
    AUTO_ARENA struct arena a;
    struct facts facts;
    uint64_t number;
    struct err e;
    int rc = resolve(v, KIND_TASK, k->id, &number, &e);

    arena_init(&a);
    if (rc == 0 && !read_facts(v, number, &facts))
        rc = err_set(&e, ERR_NOT_FOUND, "task %.200s not found", k->id);
    if (rc == 0)
        pack_task(k, v, number, &facts, &in_page, &a);
    view_end(v);
    map64_fini(&in_page);
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    k->page.render = show_task;
    ask_reply(k, 200);
}

static void begin_inspect(struct ask *k)
{
    ask_read(k, inspect);
}

/* --- which belong to the list ------------------------------------------------------------------------------ */

static bool holds(const struct numbers *n, uint64_t number)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->items[i] == number)
            return true;
    return n->count == 0;
}

static bool has_desired(const struct task_args *args, uint64_t desired)
{
    for (size_t i = 0; i < args->desired_count; i++)
        if ((uint64_t)args->desired[i] == desired)
            return true;
    return args->desired_count == 0;
}

static bool has_name(const struct task_args *args, const struct index *x, const struct facts *t, const char *id)
{
    const struct index_service *service = index_service(x, t->service);
    const struct index_node *node = t->node ? index_node(x, t->node) : NULL;
    char name[NAME_MAX_SERVICE + 2 * (IDENT_TEXT + 1) + 32];

    if (!filters_get(&args->filters, "name"))
        return true;
    if (t->slot)
        (void)snprintf(name, sizeof(name), "%s.%" PRIu64 ".%s", service && service->name ? service->name : "",
                       t->slot, id); /* fits: names are short */
    else
        (void)snprintf(name, sizeof(name), "%s.%s.%s", service && service->name ? service->name : "",
                       node ? node->id_text : "", id); /* the same */
    return match_prefix(&args->filters, "name", name);
}

/* Labels are the service's, of the version that the task was made from; looked at once per version. */
static bool has_labels(const struct task_args *args, struct listing *l, struct view *v, uint64_t spec)
{
    static char yes, no;
    void *known = map64_get(&l->memo, spec);
    struct object object;

    if (!filters_get(&args->filters, "label"))
        return true;
    if (!known) {
        AUTO_ARENA struct arena a;

        arena_init(&a);
        known = &no;
        if (spec && view_get(v, KIND_SPEC, spec, &a, &object) == 0) {
            const ServiceSpec *s = ((const Spec *)object.message)->spec;

            if (s && match_labels(&args->filters, "label", s->labels, s->n_labels))
                known = &yes;
        }
        map64_put(&l->memo, spec, known);
    }
    return known == &yes;
}

static bool is_clean(const struct index *x, uint64_t number)
{
    const struct index_task *t = index_task(x, number);

    return t && index_task_clean(t);
}

static void pick(struct ask *k, struct listing *l, struct view *v, uint64_t number)
{
    const struct index *x = control_index(asks_config(k->asks)->control);
    const struct task_args *args = k->args;
    char id[IDENT_TEXT + 1];
    struct facts t;

    if (!read_facts(v, number, &t) || !holds(&args->services, t.service) || !holds(&args->nodes, t.node) ||
        !has_desired(args, t.desired))
        return;
    ident_format(t.id, id);
    if (match_prefix(&args->filters, "id", id) && has_name(args, x, &t, id) &&
        filters_exact(&args->filters, "runtime", "container") && has_labels(args, l, v, spec_number(x, &t)) &&
        (!args->clean_only || is_clean(x, number)))
        pack_task(k, v, number, &t, &l->in_page, &l->arena);
}

/* --- the list -------------------------------------------------------------------------------------------- */

static int resolve_all(struct ask *k, struct view *v, enum kind kind, const char *key, struct numbers *ret,
                       struct err *e)
{
    const struct task_args *args = k->args;
    const struct filter *f = filters_get(&args->filters, key);
    int rc = 0;

    *ret = (struct numbers){0};
    if (!f)
        return 0;
    ret->items = arena_array(&k->arena, f->count, sizeof(*ret->items));
    for (size_t i = 0; i < f->count && rc == 0; i++) {
        bool self = kind == KIND_NODE && strcmp(f->values[i], "self") == 0;

        rc = resolve(v, kind, self ? ask_node_id(k) : f->values[i], &ret->items[ret->count++], e);
    }
    return rc;
}

static size_t tasks_of(const struct index_service *s)
{
    const struct index_spec *spec;
    size_t count = 0;

    list_each (spec, &s->specs, by_service)
        count += spec->task_count;
    return count;
}

static void add_service(struct listing *l, const struct index_service *s)
{
    struct index_walk walk = {0};
    struct index_task *t;

    if (l->all || l->number_count + tasks_of(s) > NUMBERS_MOST) {
        l->all = true;
        return;
    }
    while ((t = index_service_next(s, &walk)))
        listing_add(l, t->number);
}

static void add_node(struct listing *l, const struct index_node *n)
{
    struct index_walk walk = {0};
    struct index_task *t;

    while (!l->all && (t = index_node_next(n, &walk))) {
        listing_add(l, t->number);
        l->all = l->number_count > NUMBERS_MOST;
    }
}

static void list(struct ask *k)
{
    const struct index *x = control_index(asks_config(k->asks)->control);
    struct task_args *args = k->args;
    struct listing l = {.kind = KIND_TASK, .pick = pick, .render = show_tasks};
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    struct err e;
    int rc = resolve_all(k, v, KIND_SERVICE, "service", &args->services, &e);

    if (rc == 0)
        rc = resolve_all(k, v, KIND_NODE, "node", &args->nodes, &e);
    view_end(v);
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    l.all = !args->services.count && !args->nodes.count;
    for (size_t i = 0; i < args->services.count; i++) {
        const struct index_service *s = index_service(x, args->services.items[i]);

        if (s)
            add_service(&l, s);
    }
    for (size_t i = 0; i < args->nodes.count && !args->services.count; i++) {
        const struct index_node *n = index_node(x, args->nodes.items[i]);

        if (n)
            add_node(&l, n);
    }
    listing_begin(k, &l);
}

static void begin_list(struct ask *k)
{
    ask_read(k, list);
}

const struct ask_route task_routes[] = {
    {"GET", "/tasks", ASK_READ, .prepare = prepare_list, .begin = begin_list},
    {"GET", "/tasks/{id}", ASK_READ, .begin = begin_inspect},
    {"GET", "/tasks/{id}/logs", ASK_STREAM, .prepare = logs_prepare, .begin = logs_begin_task},
    {0},
};
