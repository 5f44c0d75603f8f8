/* Rolling update and rollback (reference/swarm-surface.md section 12).
 *
 *     spec changed -> (something is outdated) UPDATING -> all replaced and watched -> COMPLETED
 *                                                 |  too many replacements failed
 *                                                 +-> PAUSED                 (a new spec resumes)
 *                                                 +-> ROLLBACK_STARTED -> ROLLBACK_COMPLETED | ROLLBACK_PAUSED
 *
 * The intention is stored in the service (spec_version, update_status); how far it is follows from the tasks, so a
 * new leader goes on. A slot is outdated while its holder is not what the present spec would make
 * (index_task_clean). At most `parallelism` slots are worked on: those whose replacement does not run yet, and
 * those whose replacement did so less than `delay` ago. Replacing means to create the new task, prepared but not
 * started; stopping the old one and starting the new is slot.c's business. There is no time limit: a replacement
 * that finds no node holds its place.
 *
 * A replacement fails when it ends before it ran, or within `monitor` after. Failures are counted in the service as
 * they happen, against the number of slots that were outdated at the start. A cost of O(parallelism) per step. */
#include "manager/orchestrator/intent.h"
#include "manager/orchestrator/orchestrator.h"
#include "proto/base/planted.h"

static bool is_rollback(const struct index_service *s)
{
    return s->update_state == UPDATE_STATE__ROLLBACK_STARTED || s->update_state == UPDATE_STATE__ROLLBACK_PAUSED;
}

static bool is_halted(const struct index_service *s)
{
    return s->update_state == UPDATE_STATE__PAUSED || s->update_state == UPDATE_STATE__ROLLBACK_PAUSED;
}

static bool is_running(const struct index_service *s)
{
    return s->update_state == UPDATE_STATE__UPDATING || s->update_state == UPDATE_STATE__ROLLBACK_STARTED;
}

const struct index_update *update_config(const struct index_service *s)
{
    static const struct index_update none = {.parallelism = 1};

    if (!s->current)
        return &none;
    return is_rollback(s) ? &s->current->rollback : &s->current->update;
}

bool update_goes_on(const struct index_service *s)
{
    return !is_halted(s);
}

/* --- what is outdated ---------------------------------------------------------------------------------------- */

/* Whether this outdated slot is the update's business. One whose restart policy gave up is, in a rollback too: what
 * the update broke comes back. (Docker gives such slots new tasks as well, though without any pacing.) */
static bool concerns(const struct index_service *s, const struct index_task *t)
{
    const struct index_node *n = index_task_node(t);

    if (index_task_clean(t))
        return false;
    if (service_is_global(s) && n && (!index_node_valid(n) || n->availability == NODE_AVAILABILITY__PAUSE))
        return false;
    return true;
}

/* Holders before spec->walk were found clean; what changes that sets walk back (index_task.c). Holders that are
 * outdated, but not to be touched now, are passed over each time. */
static struct index_task *outdated_of(const struct index_service *s, struct index_spec *spec)
{
    struct list *at = spec->walk ? &spec->walk->by_spec : &spec->holders;

    for (; at != &spec->holders; at = at->next) {
        struct index_task *t = list_entry(at, struct index_task, by_spec);

        if (concerns(s, t))
            return t;
        if (spec->walk == t && index_task_clean(t))
            spec->walk = at->next == &spec->holders ? NULL : list_entry(at->next, struct index_task, by_spec);
    }
    return NULL;
}

static struct index_task *next_outdated(const struct index_service *s)
{
    struct index_spec *spec;
    struct index_task *t;

    list_each (spec, &s->specs, by_service)
        if (spec != s->current && (t = outdated_of(s, spec)))
            return t;
    return NULL;
}

/* Where the template differs all of them are, but for a few that are not to be touched: it is what failures are
 * held against, so the number that costs nothing is good enough. */
static uint64_t count_outdated(const struct index_service *s)
{
    struct index_spec *spec;
    struct index_task *t;
    uint64_t count = 0;

    list_each (spec, &s->specs, by_service) {
        if (spec == s->current)
            continue;
        if (!index_same_core(spec, s->current)) {
            count += spec->holder_count;
            continue;
        }
        list_each (t, &spec->holders, by_spec)
            count += concerns(s, t);
    }
    return count;
}

/* --- stored state -------------------------------------------------------------------------------------------- */

static void store_status(struct plan *p, struct index_service *s, const UpdateStatus *status)
{
    Service service = *plan_service(p, s->number);

    service.update_status = (UpdateStatus *)status;
    plan_put(p, KIND_SERVICE, s->number, &service);
}

static UpdateStatus status_of(const struct plan *p, const struct index_service *s)
{
    static const UpdateStatus none = UPDATE_STATUS__INIT;
    const Service *service = plan_service(p, s->number);

    return service->update_status ? *service->update_status : none;
}

static void enter(struct plan *p, struct index_service *s, UpdateState state, const char *message)
{
    UpdateStatus status = status_of(p, s);

    status.has_state = true;
    status.state = state;
    status.message = (char *)message;
    store_status(p, s, &status);
}

static void begin(struct plan *p, struct index_service *s)
{
    bool rollback = is_rollback(s);
    UpdateStatus status = UPDATE_STATUS__INIT;

    if (is_running(s))
        status = status_of(p, s);
    status.has_state = status.has_started_ms = status.has_slots = status.has_failures = true;
    status.state = rollback ? UPDATE_STATE__ROLLBACK_STARTED : UPDATE_STATE__UPDATING;
    if (!status.started_ms)
        status.started_ms = p->now_ms;
    if (!status.message)
        status.message = (char *)"update in progress";
    status.slots = count_outdated(s);
    status.failures = 0;
    store_status(p, s, &status);
}

static void complete(struct plan *p, struct index_service *s)
{
    bool rollback = is_rollback(s);
    UpdateStatus status = status_of(p, s);

    status.has_state = status.has_completed_ms = true;
    status.state = rollback ? UPDATE_STATE__ROLLBACK_COMPLETED : UPDATE_STATE__COMPLETED;
    status.completed_ms = p->now_ms;
    status.message = (char *)(rollback ? "rollback completed" : "update completed");
    store_status(p, s, &status);
}

/* --- failures --------------------------------------------------------------------------------------------------
 */

static bool failed_early(const struct index_task *t, const struct index_update *u)
{
    return !t->running_ms || t->state_ms - t->running_ms <= u->monitor_ms;
}

static void halt(struct plan *p, struct index_service *s, const struct index_task *t)
{
    char id[IDENT_TEXT + 1];
    bool rollback = is_rollback(s);

    ident_format(t->id, id);
    if (!rollback && s->current->update.failure_action == UPDATE_FAILURE_ACTION__ROLLBACK &&
        service_revert(
            p, s, false,
            arena_printf(p->arena, "update rolled back due to failure or early termination of task %s", id)))
        return;
    enter(p, s, rollback ? UPDATE_STATE__ROLLBACK_PAUSED : UPDATE_STATE__PAUSED,
          arena_printf(p->arena, "%s paused due to failure or early termination of task %s",
                       rollback ? "rollback" : "update", id));
}

void update_on_ended(struct plan *p, struct index_task *t)
{
    struct index_service *s = t->spec->service;
    const struct index_update *u = update_config(s);

    if (!is_running(s) || !t->made || t->spec != s->current ||
        u->failure_action == UPDATE_FAILURE_ACTION__CONTINUE || !failed_early(t, u))
        return;
    UpdateStatus status = status_of(p, s);
    status.has_failures = true;
    status.failures++;
    store_status(p, s, &status);
    if ((double)status.failures > u->max_failure_ratio * (double)MAX(status.slots, (uint64_t)1))
        halt(p, s, t);
}

/* --- the step --------------------------------------------------------------------------------------------------
 */

bool update_has_clean(const struct index_task *t)
{
    const struct index_task *other;

    list_each (other, &t->slot->tasks, by_slot)
        if (other != t && index_task_live(other) && !index_task_ended(other) && other->share &&
            index_task_clean(other))
            return true;
    return false;
}

static void replace(struct plan *p, struct index_service *s, struct index_task *old)
{
    const struct index_update *u = update_config(s);
    bool is_global = service_is_global(s);

    if (update_has_clean(old)) {
        /* It was about to be replaced by one that is no longer wanted. */
        plan_set_desired(p, old, TASK_STATE__SHUTDOWN);
        return;
    }
    plan_new_task(p, &(struct plan_new_task){
                         .service = s,
                         .slot = is_global ? 0 : old->slot->key,
                         .node = is_global ? old->share->node_number : 0,
                         .desired = u->order == UPDATE_ORDER__START_FIRST ? TASK_STATE__RUNNING : TASK_STATE__READY,
                         .predecessor = old->number,
                     });
}

/* Slots that are worked on or rest after it. *ret_free_ms: when the first of those that rest is free. */
static uint64_t busy_slots(const struct plan *p, const struct index_service *s, int64_t *ret_free_ms)
{
    int64_t delay = update_config(s)->delay_ms;
    uint64_t busy = s->current->unsettled;

    *ret_free_ms = INT64_MAX;
    for (struct list *at = s->current->settled.prev; delay && at != &s->current->settled; at = at->prev) {
        const struct index_task *t = list_entry(at, struct index_task, stage);

        if (t->state_ms + delay <= p->now_ms)
            break;
        *ret_free_ms = t->state_ms + delay;
        busy++;
    }
    return busy;
}

static void look_again(struct plan *p, struct index_service *s, int64_t at_ms)
{
    if (at_ms != INT64_MAX)
        heap_put(&p->index->service_timers, &s->timer, at_ms);
}

/* Everything is replaced: watch the last ones for a while. */
static void finish(struct plan *p, struct index_service *s)
{
    const struct index_update *u = update_config(s);
    const struct index_task *last = list_last(&s->current->settled, struct index_task, stage);
    int64_t watch = u->delay_ms >= u->monitor_ms ? u->delay_ms + 1000 : u->monitor_ms;

    if (!is_running(s) || s->current->unsettled)
        return;
    if (!last || last->state_ms + watch <= p->now_ms)
        complete(p, s);
    else
        look_again(p, s, last->state_ms + watch);
}

bool update_step(struct plan *p, struct index_service *s)
{
    struct index_task *old = is_halted(s) ? NULL : next_outdated(s);
    uint64_t parallelism = update_config(s)->parallelism;
    int64_t free_ms;

    if (is_halted(s))
        return true;
    if (!old) {
        finish(p, s);
        return true;
    }
    if (plan_stop(p))
        return false;
    if (!is_running(s) || !s->update_slots)
        begin(p, s);
    for (; old; old = next_outdated(s)) {
        if (parallelism && busy_slots(p, s, &free_ms) >= parallelism + PLANTED(ONE_TOO_MANY)) {
            look_again(p, s, free_ms);
            return true;
        }
        if (plan_stop(p))
            return false;
        replace(p, s, old);
    }
    return true;
}
