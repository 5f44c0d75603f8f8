/* See assign.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/assign.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/planted.h"
#include "proto/wire/assigned.h"

struct spec_item {
    uint64_t number;     /* of the Spec object */
    uint64_t digest;     /* of the item sent */
    unsigned tasks;      /* that name it */
    char *key;           /* owned: "<service id>.<version>" */
    char *service;       /* owned: the service's name, for the names of its tasks */
    const char *network; /* network mode of its tasks: static text */
    uint8_t service_id[16];
    uint64_t version;
};

struct task_item {
    uint64_t number;
    uint64_t digest;
    struct spec_item *spec;
    char key[IDENT_TEXT + 1];
};

struct assign_set {
    uint64_t node; /* number */
    char node_id[IDENT_TEXT + 1];
    struct map64 tasks; /* by number -> task_item */
    struct map64 specs; /* by number of the Spec object -> spec_item */
    uint64_t digest;
};

struct assign_set *assign_set_new(uint64_t node, const uint8_t node_id[16])
{
    struct assign_set *s = mem_alloc(sizeof(*s));

    s->node = node;
    ident_format(node_id, s->node_id);
    return s;
}

static void spec_free(struct spec_item *spec)
{
    free(spec->key);
    free(spec->service);
    free(spec);
}

void assign_set_free(struct assign_set *s)
{
    struct spec_item *spec;
    struct task_item *task;
    size_t at = 0;

    if (!s)
        return;
    while ((task = map64_next(&s->tasks, &at)))
        free(task);
    at = 0;
    while ((spec = map64_next(&s->specs, &at)))
        spec_free(spec);
    map64_fini(&s->tasks);
    map64_fini(&s->specs);
    free(s);
}

uint64_t assign_digest(const struct assign_set *s)
{
    return s->digest;
}

uint64_t assign_next(const struct assign_set *s, size_t *at)
{
    const struct task_item *task = map64_next(&s->tasks, at);

    return task ? task->number : 0;
}

bool assign_has(const struct assign_set *s, uint64_t task)
{
    return map64_get(&s->tasks, task) != NULL;
}

size_t assign_count(const struct assign_set *s)
{
    return s->tasks.count;
}

/* --- items ----------------------------------------------------------------------------------------- */

static AssignmentItem *append(struct arena *a, AssignmentItem ***items, size_t *count, const char *key)
{
    AssignmentItem *item = ARENA_NEW(a, AssignmentItem);

    assignment_item__init(item);
    item->key = arena_strdup(a, key);
    *items = arena_append(a, *items, *count, sizeof(**items));
    (*items)[(*count)++] = item;
    return item;
}

static void append_removal(struct arena *a, AssignmentItem ***items, size_t *count, const char *key)
{
    AssignmentItem *item = append(a, items, count, key);

    item->has_remove = item->remove = true;
}

/* The network mode of a service's containers. Until there are overlay networks it is one of the predefined ones, by
 * its name. */
static const char *network_of(const ServiceSpec *spec, struct view *v, struct arena *a)
{
    uint8_t id[IDENT_BYTES];
    struct object object;

    if (!spec->task || spec->task->n_networks == 0 || !spec->task->networks[0]->target ||
        !ident_parse(spec->task->networks[0]->target, id))
        return "none";
    uint64_t number = view_find_id(v, KIND_NETWORK, id);
    if (!number || view_get(v, KIND_NETWORK, number, a, &object) < 0)
        return "none";
    const Network *network = (const Network *)object.message;
    return network->spec && network->spec->name && strcmp(network->spec->name, "host") == 0 ? "host" : "none";
}

/* The spec that a task names, sent first if the agent does not have it. NULL when the store has no such spec. */
static struct spec_item *need_spec(struct assign_set *s, struct view *v, const struct index *x, const Task *task,
                                   struct arena *a, AssignmentItem ***items, size_t *count)
{
    const struct index_service *service = index_service(x, task->service);
    const struct index_spec *indexed = service ? index_spec(service, task->spec_version) : NULL;
    struct object object;

    if (!indexed || !indexed->number)
        return NULL;
    struct spec_item *spec = map64_get(&s->specs, indexed->number);
    if (spec)
        return spec;
    if (view_get(v, KIND_SPEC, indexed->number, a, &object) < 0)
        return NULL;
    const Spec *stored = (const Spec *)object.message;
    char service_id[IDENT_TEXT + 1];
    ident_format(service->id, service_id);
    spec = mem_alloc(sizeof(*spec));
    spec->number = indexed->number;
    spec->version = task->spec_version;
    memcpy(spec->service_id, service->id, sizeof(spec->service_id));
    spec->key = mem_printf("%s.%" PRIu64, service_id, task->spec_version);
    spec->service = mem_strdup(stored->spec && stored->spec->name ? stored->spec->name : "");
    spec->network = stored->spec ? network_of(stored->spec, v, a) : "none";
    map64_put(&s->specs, spec->number, spec);

    AssignmentItem *item = append(a, items, count, spec->key);
    item->spec = ARENA_NEW(a, AssignedSpec);
    assigned_spec__init(item->spec);
    item->spec->service_id = (ProtobufCBinaryData){
        IDENT_BYTES, arena_dup(a, spec->service_id, IDENT_BYTES)}; /* may be taken back in this message */
    item->spec->version = spec->version;
    item->spec->spec = stored->spec;
    spec->digest = assigned_digest(item);
    s->digest += spec->digest;
    return spec;
}

static void release_spec(struct assign_set *s, struct spec_item *spec, struct arena *a, AssignmentItem ***items,
                         size_t *count)
{
    if (--spec->tasks)
        return;
    append_removal(a, items, count, spec->key);
    s->digest -= spec->digest;
    map64_remove(&s->specs, spec->number);
    spec_free(spec);
}

/* The agent has the task and should not any more. */
static void take_back(struct assign_set *s, uint64_t number, struct arena *a, AssignmentItem ***items,
                      size_t *count)
{
    struct task_item *known = map64_remove(&s->tasks, number);

    if (!known)
        return;
    append_removal(a, items, count, known->key);
    s->digest -= known->digest;
    release_spec(s, known->spec, a, items, count);
    free(known);
}

static AssignedTask *assigned_task(const struct assign_set *s, const struct spec_item *spec, const Task *task,
                                   const Status *status, const char *task_id, struct arena *a)
{
    AssignedTask *made = ARENA_NEW(a, AssignedTask);

    assigned_task__init(made);
    made->id = task->id;
    made->service_id = (ProtobufCBinaryData){IDENT_BYTES, arena_dup(a, spec->service_id, IDENT_BYTES)};
    made->spec_version = task->spec_version;
    made->desired_state = task->desired_state;
    made->has_slot = task->has_slot && task->slot;
    made->slot = task->slot;
    made->name = made->has_slot ? arena_printf(a, "%s.%" PRIu64 ".%s", spec->service, task->slot, task_id)
                                : arena_printf(a, "%s.%s.%s", spec->service, s->node_id, task_id);
    made->network = (char *)spec->network;
    made->log_driver = task->log_driver;
    made->has_state = status != NULL;
    made->state = status ? status->state : TASK_STATE__NEW;
    return made;
}

void assign_task(struct assign_set *s, struct view *v, const struct index *x, uint64_t number, struct arena *a,
                 AssignmentItem ***items, size_t *count)
{
    struct object object, status;
    struct task_item *known = map64_get(&s->tasks, number);
    char key[IDENT_TEXT + 1];

    if (view_get(v, KIND_TASK, number, a, &object) < 0 || ((const Task *)object.message)->node != s->node) {
        take_back(s, number, a, items, count);
        return;
    }
    const Task *task = (const Task *)object.message;
    bool has_status = view_get(v, KIND_STATUS, number, a, &status) == 0;
    if (!known && !PLANTED(TOLD_EARLY) &&
        (!has_status || ((const Status *)status.message)->state < TASK_STATE__ASSIGNED))
        return; /* made for this node, but the scheduler has not yet said that it fits there */
    struct spec_item *spec = known ? known->spec : need_spec(s, v, x, task, a, items, count);
    if (!spec || task->id.len != IDENT_BYTES) {
        log_error("a task names a spec that is not there", "task=%" PRIu64 " service=%" PRIu64, number,
                  task->service);
        return;
    }
    ident_format(task->id.data, key);
    /* The state is told once: it changes all the time, and only an agent that knows nothing of the task needs it.
     */
    AssignedTask *made =
        assigned_task(s, spec, task, has_status && !known ? (const Status *)status.message : NULL, key, a);
    AssignmentItem *item = append(a, items, count, key);
    item->task = made;
    uint64_t digest = assigned_digest(item);
    if (known && known->digest == digest) {
        (*count)--;
        return;
    }
    if (!known) {
        known = mem_alloc(sizeof(*known));
        memcpy(known->key, key, sizeof(key));
        known->number = number;
        known->spec = spec;
        spec->tasks++;
        map64_put(&s->tasks, number, known);
    }
    s->digest += digest - known->digest;
    known->digest = digest;
}
