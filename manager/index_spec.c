/* Specs of the index (index.h): one version of a service's spec, parsed once into what planners ask of it.
 *
 * The spec itself is not kept. Whether tasks of an older version are still what the present version would make is
 * answered from digests of its parts: the core (task template and endpoint), the placement, and the registry's
 * credentials, because the last two do not always make a task outdated (reference/swarm-surface.md section 12). */
#include <stdlib.h>
#include <string.h>

#include "manager/index_internal.h"
#include "proto/base/mem.h"

#define MS 1000000 /* nanoseconds */

/* Defaults of swarm-surface.md section 9. */
#define RESTART_DELAY_MS   5000
#define UPDATE_MONITOR_MS  5000
#define UPDATE_PARALLELISM 1
#define STOP_GRACE_NS      10000000000

struct index_spec *index_spec_get(struct index *x, struct index_service *s, uint64_t version)
{
    struct index_spec *spec = index_spec(s, version);

    (void)x; /* placeholders are in no table */
    if (spec)
        return spec;
    spec = mem_alloc(sizeof(*spec));
    spec->version = version;
    spec->service = s;
    spec->reason = 1;
    struct list *links[] = {&spec->by_service, &spec->holders, &spec->waiting, &spec->explained,
                            &spec->settled,    &spec->dirty,   &spec->reap};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        list_init(links[i]);
    struct list *at = s->specs.prev;
    while (at != &s->specs && list_entry(at, struct index_spec, by_service)->version > version)
        at = at->prev;
    list_insert(at, &spec->by_service);
    return spec;
}

void index_free_spec(struct index_spec *spec)
{
    free(spec->memory);
    free(spec);
}

void index_spec_needless(struct index *x, struct index_spec *spec)
{
    if (spec->number || spec->task_count)
        return;
    list_remove(&spec->by_service);
    list_remove(&spec->dirty);
    list_remove(&spec->reap);
    index_service_needless(x, spec->service);
    index_free_spec(spec);
}

/* --- parsing ---------------------------------------------------------------------------------------------------
 */

/* The template with the defaults it has where nothing is given (swarm-surface.md section 9), so that clients may
 * say them or not. */
static void set_core(struct index_spec *spec, const TaskSpec *given, const ContainerSpec *given_container)
{
    TaskSpec task = *given;
    ContainerSpec container = CONTAINER_SPEC__INIT;
    RestartPolicy restart = RESTART_POLICY__INIT;

    if (given_container)
        container = *given_container;
    container.registry_auth = NULL;
    if (!container.has_stop_grace_period_ns)
        container.stop_grace_period_ns = STOP_GRACE_NS;
    container.has_stop_grace_period_ns = true;
    restart.has_condition = restart.has_delay_ns = restart.has_max_attempts = restart.has_window_ns = true;
    restart.condition = spec->restart_condition;
    restart.delay_ns = spec->restart_delay_ms * MS;
    restart.max_attempts = spec->restart_attempts;
    restart.window_ns = spec->restart_window_ms * MS;
    task.container = &container;
    task.restart = &restart;
    task.placement = NULL;
    if (task.runtime && strcmp(task.runtime, "container") == 0)
        task.runtime = NULL;
    for (uint64_t i = 0; i < ARRAY_SIZE(spec->core_digest); i++)
        spec->core_digest[i] = index_digest_keyed(&task.base, spec->endpoint_digest, i);
}

static void set_digests(struct index_spec *spec, const ServiceSpec *from)
{
    static const TaskSpec nothing = TASK_SPEC__INIT;
    const TaskSpec *task = from->task ? from->task : &nothing;

    spec->placement_digest = index_digest(task->placement ? &task->placement->base : NULL);
    spec->auth_digest = task->container ? index_text_digest(task->container->registry_auth) : 0;
    spec->endpoint_digest = index_digest(from->endpoint ? &from->endpoint->base : NULL);
    set_core(spec, task, task->container);
}

static void set_restart(struct index_spec *spec, const RestartPolicy *from)
{
    spec->restart_condition = from && from->has_condition ? from->condition : RESTART_CONDITION__ANY;
    spec->restart_delay_ms = from && from->has_delay_ns ? from->delay_ns / MS : RESTART_DELAY_MS;
    spec->restart_attempts = from ? from->max_attempts : 0;
    spec->restart_window_ms = from ? from->window_ns / MS : 0;
}

/* An absent config means one at a time; a config without parallelism means all at once (swarm-surface.md 9). */
static struct index_update update_of(const UpdateConfig *from)
{
    if (!from)
        return (struct index_update){.parallelism = UPDATE_PARALLELISM, .monitor_ms = UPDATE_MONITOR_MS};
    return (struct index_update){
        .parallelism = from->parallelism,
        .delay_ms = from->delay_ns / MS,
        .monitor_ms = from->monitor_ns > 0 ? from->monitor_ns / MS : UPDATE_MONITOR_MS,
        .max_failure_ratio = (double)from->max_failure_ratio,
        .failure_action = from->failure_action,
        .order = from->order,
    };
}

static void fill(struct index_spec *spec, const ServiceSpec *from)
{
    static const ServiceSpec nothing = SERVICE_SPEC__INIT;

    from = from ? from : &nothing;
    spec->mode = from->mode;
    spec->replicas = from->has_replicas ? from->replicas : 1;
    spec->has_log_driver = from->task && from->task->log_driver;
    set_restart(spec, from->task ? from->task->restart : NULL);
    spec->update = update_of(from->update);
    spec->rollback = update_of(from->rollback);
    set_digests(spec, from);
    spec->memory = mem_alloc(demand_bytes(from));
    demand_fill(from, spec->memory, &spec->demand);
}

static void empty(struct index_spec *spec)
{
    free(spec->memory);
    spec->memory = NULL;
    spec->demand = (struct demand){0};
}

static void set(struct index *x, struct index_spec *spec, uint64_t number, const ServiceSpec *from, bool present)
{
    struct index_task **tasks = spec->task_count ? index_detach_tasks(x, spec) : NULL;

    if (spec->number)
        table_remove(&x->specs, &spec->number);
    empty(spec);
    spec->number = present ? number : 0;
    if (present) {
        fill(spec, from);
        table_put(&x->specs, spec);
    }
    if (tasks)
        index_attach_tasks(x, tasks);
}

void index_apply_spec(struct index *x, uint64_t number, const Spec *before, const Spec *after)
{
    const Spec *either = after ? after : before;
    struct index_spec *spec;

    if (!either)
        return;
    struct index_service *s = index_service_get(x, either->service);
    spec = index_spec_get(x, s, either->version);
    set(x, spec, number, after ? after->spec : NULL, after != NULL);
    index_service_current(x, s);
    index_mark_service(x, s);
    index_mark_spec(x, spec);
    index_mark_class(x, spec);
    if (!after)
        index_spec_needless(x, spec);
}

bool index_same_core(const struct index_spec *a, const struct index_spec *b)
{
    return a->core_digest[0] == b->core_digest[0] && a->core_digest[1] == b->core_digest[1];
}

bool index_task_clean(const struct index_task *t)
{
    const struct index_spec *now = t->spec->service->current, *old = t->spec;
    const struct index_node *n = index_task_node(t);

    if (!now || old == now)
        return now != NULL;
    if (!index_same_core(old, now))
        return false;
    if (old->placement_digest != now->placement_digest &&
        !(n && constraints_hold(now->demand.constraints, now->demand.constraint_count, n)))
        return false;
    return old->auth_digest == now->auth_digest ||
           (t->state >= TASK_STATE__READY && t->state <= TASK_STATE__RUNNING);
}
