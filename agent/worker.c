/* See worker.h.
 *
 * One struct work per task. Whatever changes it (assignment, end of an action, change of its container, a timer)
 * ends in advance(), which asks task_next() and performs the answer until there is nothing to do. The engine calls
 * back only later, so advance() never nests, and a task with an action under way is never forgotten: the machine
 * waits for the action first.
 *
 * Adoption: the label with the task's id is the only link between a container and a task. worker_new reads all
 * containers once. A container whose task is not yet assigned is left alone until worker_sweep says that the full
 * set is known. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/convert.h"
#include "agent/ledger.h"
#include "agent/task.h"
#include "agent/worker.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

#define STOP_GRACE_DEFAULT_S 10

struct work {
    struct worker *worker;           /* whose it is; NULL: the worker is gone, free it when its action has ended */
    char id[IDENT_TEXT + 1];         /* of the task */
    AssignedTask *task;              /* owned; NULL for a container found without assignment */
    AssignedSpec *spec;              /* owned; NULL likewise */
    Status *status;                  /* owned; the last one decided, NULL before the first */
    struct task_in in;               /* what the machine is told */
    struct err error;                /* in.error points here */
    char container[HEX_ID_TEXT + 1]; /* its id; "" when there is none */
    int pid;                         /* of the container, while alive */
    struct engine_pull *pull;        /* under way */
    int64_t wake_ms;                 /* when a failed action is tried again; INT64_MAX: never */
    bool swept;                      /* no assignment names it: it has to go */
};

struct worker {
    struct worker_config config;
    struct engine_watch watch;
    struct map works;        /* by task id */
    struct map by_container; /* by container id */
    bool has_waiting;        /* some work may wait for credentials */
    uv_timer_t *timer;       /* for the earliest wake_ms; owned, freed when closed */
    int64_t wake_ms;         /* what the timer is set to */
};

static void advance(struct work *work);

/* --- works ----------------------------------------------------------------------------------------- */

static struct work *work_new(struct worker *w, const char *id)
{
    struct work *work = mem_alloc(sizeof(*work));

    work->worker = w;
    memcpy(work->id, id, IDENT_TEXT);
    work->in.error = &work->error;
    work->wake_ms = INT64_MAX;
    map_put(&w->works, work->id, work);
    return work;
}

static void work_free(struct work *work)
{
    message_free(work->task);
    message_free(work->spec);
    message_free(work->status);
    free(work);
}

static void note_no_container(struct work *work)
{
    if (*work->container)
        map_remove(&work->worker->by_container, work->container);
    work->container[0] = '\0';
    work->pid = 0;
    work->in.container = TASK_CONTAINER_NONE;
}

static void note_container(struct work *work, const ContainerRecord *record)
{
    const ContainerState *state = record->state;

    if (strcmp(work->container, record->id) != 0) {
        note_no_container(work);
        (void)strncpy(work->container, record->id, HEX_ID_TEXT); /* the last byte stays zero */
        map_put(&work->worker->by_container, work->container, work);
    }
    work->pid = state->pid;
    work->in.exit_code = state->exit_code;
    work->in.exit_unknown = state->exit_unknown;
    work->in.oom_killed = state->oom_killed;
    if (state->status == CONTAINER_STATUS_KIND__CREATED)
        work->in.container = TASK_CONTAINER_CREATED;
    else if (state->status == CONTAINER_STATUS_KIND__ALIVE)
        work->in.container = TASK_CONTAINER_ALIVE;
    else /* exited, dead or on its way out */
        work->in.container = TASK_CONTAINER_EXITED;
}

static void forget(struct work *work)
{
    struct worker *w = work->worker;

    note_no_container(work);
    map_remove(&w->works, work->id);
    w->config.on_forgotten(w->config.ctx, work->id);
    work_free(work);
}

/* --- what the engine says -------------------------------------------------------------------------- */

static const char *label_of(const ContainerRecord *record, const char *key)
{
    for (size_t i = 0; i < record->config->n_labels; i++)
        if (strcmp(record->config->labels[i]->key, key) == 0)
            return record->config->labels[i]->value;
    return NULL;
}

/* The id of the task of this node that a container belongs to, or NULL. */
static const char *task_of(const struct worker *w, const ContainerRecord *record)
{
    const char *task = label_of(record, CONVERT_LABEL_TASK), *node = label_of(record, CONVERT_LABEL_NODE);

    return task && node && strcmp(node, w->config.node_id) == 0 && ident_valid(task) ? task : NULL;
}

static void on_change(void *ctx, enum engine_change what, const ContainerRecord *record)
{
    struct worker *w = ctx;
    struct work *work = map_get(&w->by_container, record->id);

    if (!work)
        return;
    if (what == ENGINE_REMOVED)
        note_no_container(work);
    else
        note_container(work, record);
    if (work->in.busy == TASK_NOTHING || what == ENGINE_DIED)
        advance(work);
}

/* An action has ended: remember how, look at the container as it is now. */
static void note_end(struct work *work, enum task_action action, const struct err *e)
{
    struct worker *w = work->worker;
    const ContainerRecord *record = *work->container ? engine_find(w->config.engine, work->container, NULL) : NULL;

    assert(work->in.busy == action);
    work->in.busy = TASK_NOTHING;
    if (record)
        note_container(work, record);
    else
        note_no_container(work);
    if (e->code == 0 || e->code == ERR_NOT_MODIFIED) {
        work->in.failed = TASK_NOTHING;
        work->in.attempts = 0;
        return;
    }
    work->in.attempts = work->in.failed == action ? work->in.attempts + 1 : 1;
    work->in.failed = action;
    work->in.told = e->code == ERR_CANCELED; /* we did that */
    work->in.failed_ms = clock_mono_ms(w->config.clock);
    work->error = *e;
    if (e->code != ERR_CANCELED)
        log_warn("task action failed", "task=%s action=%s attempts=%u error=\"%s\"", work->id,
                 task_action_name(action), work->in.attempts, e->text);
}

static void action_ended(struct work *work, enum task_action action, const struct err *e)
{
    if (!work->worker) {
        work_free(work);
        return;
    }
    note_end(work, action, e);
    advance(work);
}

static void on_pulled(void *ctx, const struct err *e)
{
    struct work *work = ctx;

    work->pull = NULL;
    action_ended(work, TASK_PULL, e);
}

static void on_started(void *ctx, const struct err *e)
{
    action_ended(ctx, TASK_START, e);
}

static void on_stopped(void *ctx, const struct err *e)
{
    action_ended(ctx, TASK_STOP, e);
}

static void on_removed(void *ctx, const struct err *e)
{
    static const struct err gone;

    action_ended(ctx, TASK_REMOVE, e->code == ERR_NOT_FOUND ? &gone : e);
}

/* --- performing ------------------------------------------------------------------------------------ */

static const ContainerSpec *container_spec(const struct work *work)
{
    return work->spec && work->spec->spec->task ? work->spec->spec->task->container : NULL;
}

static int pull(struct work *work, struct err *e)
{
    const ContainerSpec *spec = container_spec(work);

    if (!spec || !spec->image)
        return err_set(e, ERR_INVALID, "TaskTemplate.ContainerSpec.Image is missing");
    return engine_pull(work->worker->config.engine, spec->image, spec->registry_auth, on_pulled, work, &work->pull,
                       e);
}

static int create(struct work *work, struct err *e)
{
    const struct worker_config *config = &work->worker->config;
    AUTO_ARENA struct arena arena;
    ContainerConfig *container;
    char **warnings = NULL;
    const char *id;

    arena_init(&arena);
    int rc = convert_task(work->task, work->spec, config->node_id, &arena, &container, e);
    if (rc == 0)
        rc = engine_create(config->engine, work->task->name, container, &arena, &id, &warnings, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; warnings && warnings[i]; i++)
        log_warn("container has a warning", "task=%s warning=\"%s\"", work->id, warnings[i]);
    note_container(work, engine_find(config->engine, id, NULL));
    return 0;
}

static int stop(struct work *work, struct err *e)
{
    struct engine *engine = work->worker->config.engine;
    const ContainerRecord *record = engine_find(engine, work->container, e);

    if (!record)
        return ERR_NOT_FOUND;
    int64_t grace_s = record->config->has_stop_timeout_s ? record->config->stop_timeout_s : STOP_GRACE_DEFAULT_S;
    return engine_stop(engine, work->container, NULL, grace_s * 1000, on_stopped, work, e);
}

/* Begin an action. Returns true when the engine will call back, false when it has ended already. */
static bool perform(struct work *work, enum task_action action)
{
    struct engine *engine = work->worker->config.engine;
    struct err e = {0};
    int rc;

    work->in.busy = action;
    switch (action) {
    case TASK_PULL:
        rc = pull(work, &e);
        break;
    case TASK_CREATE:
        (void)create(work, &e); /* e says how it went */
        note_end(work, action, &e);
        return false;
    case TASK_START:
        rc = engine_start(engine, work->container, on_started, work, &e);
        break;
    case TASK_STOP:
        rc = stop(work, &e);
        break;
    case TASK_REMOVE:
        rc = engine_remove(engine, work->container, true, true, on_removed, work, &e);
        break;
    default:
        abort(); /* task_next names no other */
    }
    if (rc == 0)
        return true;
    note_end(work, action, &e);
    return false;
}

/* --- statuses and the next step -------------------------------------------------------------------- */

static void report(struct work *work, const struct task_step *step)
{
    const struct worker_config *config = &work->worker->config;
    Status status = STATUS__INIT;
    ContainerStatus container = CONTAINER_STATUS__INIT;

    work->in.told = true;
    work->in.state = step->state;
    status.state = step->state;
    status.has_timestamp_ns = true;
    status.timestamp_ns = clock_wall_ms(config->clock) * 1000000;
    status.message = (char *)step->message;
    status.err = *step->err ? (char *)step->err : NULL;
    if (*work->container) {
        status.container = &container;
        container.container_id = work->container;
        container.has_pid = work->pid != 0;
        container.pid = work->pid;
        container.has_exit_code = work->in.container == TASK_CONTAINER_EXITED && !work->in.exit_unknown;
        container.exit_code = work->in.exit_code;
    }
    message_free(work->status);
    work->status = message_dup(&status);
    if (work->task)
        config->on_status(config->ctx, work->task, work->status);
}

static void on_timer(uv_timer_t *timer);

static void wake_at(struct work *work, int64_t wake_ms)
{
    struct worker *w = work->worker;

    work->wake_ms = wake_ms;
    if (wake_ms >= w->wake_ms)
        return;
    w->wake_ms = wake_ms;
    uv_timer_start(w->timer, on_timer, (uint64_t)MAX(wake_ms - work->in.now_ms, 1), 0);
}

static void advance(struct work *work)
{
    struct worker *w = work->worker;

    if (!work->task && !work->swept)
        return; /* found by its container: whether it is wanted is not known yet */
    for (;;) {
        const ContainerSpec *spec = container_spec(work);
        struct task_step step;

        work->in.now_ms = clock_mono_ms(w->config.clock);
        work->in.image_here = spec && spec->image && engine_image(w->config.engine, spec->image);
        task_next(&work->in, &step);
        if (step.report)
            report(work, &step);
        if (step.action == TASK_FORGET) {
            forget(work);
            return;
        }
        if (step.action == TASK_CANCEL) {
            if (work->pull)
                engine_pull_cancel(work->pull);
            work->pull = NULL; /* on_pulled comes */
            return;
        }
        if (step.action != TASK_NOTHING && perform(work, step.action))
            return;
        if (step.action == TASK_NOTHING && !step.report) {
            wake_at(work, step.wake_ms);
            return;
        }
    }
}

/* Gather first: advancing one may remove it from the table. */
static struct work **gather(const struct worker *w, bool (*wanted)(const struct work *work, int64_t now_ms),
                            int64_t now_ms, size_t *ret_count)
{
    struct work **works = mem_array(w->works.count, sizeof(*works)), *work;
    size_t at = 0, count = 0;

    while ((work = map_next(&w->works, &at)))
        if (wanted(work, now_ms))
            works[count++] = work;
    *ret_count = count;
    return works;
}

static bool is_due(const struct work *work, int64_t now_ms)
{
    return work->wake_ms <= now_ms;
}

static void on_timer(uv_timer_t *timer)
{
    struct worker *w = timer->data;
    int64_t now_ms = clock_mono_ms(w->config.clock), next_ms = INT64_MAX;
    size_t count, at = 0;
    AUTO_FREE
    struct work **due = gather(w, is_due, now_ms, &count);
    struct work *work;

    while ((work = map_next(&w->works, &at)))
        if (!is_due(work, now_ms) && work->wake_ms < next_ms)
            next_ms = work->wake_ms;
    w->wake_ms = next_ms;
    if (next_ms != INT64_MAX)
        uv_timer_start(w->timer, on_timer, (uint64_t)(next_ms - now_ms), 0);
    for (size_t i = 0; i < count; i++) {
        due[i]->wake_ms = INT64_MAX;
        advance(due[i]);
    }
}

/* --- the door -------------------------------------------------------------------------------------- */

struct worker *worker_new(const struct worker_config *config)
{
    struct worker *w = mem_alloc(sizeof(*w));
    const ContainerRecord *record;
    size_t at = 0;

    w->config = *config;
    w->wake_ms = INT64_MAX;
    w->timer = mem_alloc(sizeof(*w->timer));
    uv_timer_init(config->loop, w->timer);
    w->timer->data = w;
    while (engine_next(config->engine, &at, &record)) {
        const char *task = task_of(w, record);

        if (task && !map_get(&w->works, task))
            note_container(work_new(w, task), record);
    }
    w->watch.ctx = w;
    w->watch.on_change = on_change;
    engine_watch(config->engine, &w->watch);
    return w;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

void worker_free(struct worker *w)
{
    struct work *work;
    size_t at = 0;

    if (!w)
        return;
    engine_unwatch(&w->watch);
    while ((work = map_next(&w->works, &at))) {
        work->worker = NULL;
        if (work->pull)
            engine_pull_cancel(work->pull);
        if (work->in.busy == TASK_NOTHING)
            work_free(work); /* else its callback frees it */
    }
    map_fini(&w->works);
    map_fini(&w->by_container);
    uv_close((uv_handle_t *)w->timer, on_timer_closed);
    free(w);
}

/* What is left of a spec by the ledger lacks its credentials. */
static void use_spec(struct work *work, const AssignedSpec *spec)
{
    message_free(work->spec);
    work->spec = message_dup(spec);
    const ContainerSpec *container = container_spec(work);
    work->in.image_waits =
        container && container->registry_auth && strcmp(container->registry_auth, LEDGER_AUTH_REMOVED) == 0;
    work->worker->has_waiting |= work->in.image_waits;
}

static bool is_waiting(const struct work *work, int64_t now_ms)
{
    return work->task && work->in.image_waits;
}

void worker_set_spec(struct worker *w, const AssignedSpec *spec)
{
    size_t count;

    if (!w->has_waiting)
        return;
    AUTO_FREE
    struct work **waiting = gather(w, is_waiting, 0, &count);
    w->has_waiting = count > 0;
    for (size_t i = 0; i < count; i++) {
        const AssignedTask *task = waiting[i]->task;

        if (task->spec_version != spec->version ||
            memcmp(task->service_id.data, spec->service_id.data, IDENT_BYTES) != 0)
            continue;
        use_spec(waiting[i], spec);
        advance(waiting[i]);
    }
}

void worker_set(struct worker *w, const AssignedTask *task, const AssignedSpec *spec, const Status *status)
{
    char id[IDENT_TEXT + 1];

    ident_format(task->id.data, id);
    struct work *work = map_get(&w->works, id);
    if (!work)
        work = work_new(w, id);
    if (!work->task) /* new, or found by its container */
        work->in.state = TASK_STATE__ASSIGNED;
    if (status && !work->status) {
        work->status = message_dup(status);
        work->in.state = MAX(work->in.state, status->state);
    }
    if (task->has_state)
        work->in.state = MAX(work->in.state, task->state);
    message_free(work->task);
    work->task = message_dup(task);
    use_spec(work, spec);
    work->in.assigned = true;
    work->in.desired = task->desired_state;
    advance(work);
}

void worker_remove(struct worker *w, const char *task_id)
{
    struct work *work = map_get(&w->works, task_id);

    if (!work || !work->in.assigned)
        return;
    work->in.assigned = false;
    advance(work);
}

static bool is_unnamed(const struct work *work, int64_t now_ms)
{
    return !work->task && !work->swept;
}

void worker_sweep(struct worker *w)
{
    size_t count;
    AUTO_FREE
    struct work **unnamed = gather(w, is_unnamed, 0, &count);

    for (size_t i = 0; i < count; i++) {
        log_info("removing the container of a task that is not assigned here", "task=%s container=%s",
                 unnamed[i]->id, unnamed[i]->container);
        unnamed[i]->swept = true;
        advance(unnamed[i]);
    }
}

void worker_each_status(struct worker *w, void (*each)(void *ctx, const AssignedTask *task, const Status *status),
                        void *ctx)
{
    struct work *work;
    size_t at = 0;

    while ((work = map_next(&w->works, &at)))
        if (work->task && work->status)
            each(ctx, work->task, work->status);
}

const char *worker_container(const struct worker *w, const char *task_id)
{
    struct work *work = map_get(&w->works, task_id);

    return work && *work->container ? work->container : NULL;
}

size_t worker_count(const struct worker *w)
{
    return w->works.count;
}
