/* The worker against an engine of a few lines: lives, failures, adoption, sweeping, and an end in the middle of
 * everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/convert.h"
#include "agent/worker.h"
#include "proto/base/ident.h"
#include "proto/base/map.h"
#include "proto/base/message.h"

#define NODE "0000000000000000000000abc"

/* --- an engine ------------------------------------------------------------------------------------- */

struct engine_pull {
    engine_done *done;
    void *ctx;
};

static struct {
    ContainerRecord *records[8]; /* owned; NULL: free place */
    bool image_here;
    struct engine_watch *watch;
    struct {
        engine_done *done;
        void *ctx;
        const char *what;
        char id[65];
    } pending; /* one operation at a time is enough here */
    struct engine_pull pull;
    struct err create_error;
    int64_t grace_ms;
    int next_id;
} engine;

static ContainerRecord *find(const char *id)
{
    for (size_t i = 0; i < ARRAY_SIZE(engine.records); i++)
        if (engine.records[i] && strcmp(engine.records[i]->id, id) == 0)
            return engine.records[i];
    return NULL;
}

const ContainerRecord *engine_find(struct engine *en, const char *ref, struct err *e)
{
    ContainerRecord *record = find(ref);

    if (!record)
        err_set(e, ERR_NOT_FOUND, "No such container: %s", ref);
    return record;
}

bool engine_next(struct engine *en, size_t *at, const ContainerRecord **ret)
{
    while (*at < ARRAY_SIZE(engine.records))
        if ((*ret = engine.records[(*at)++]))
            return true;
    return false;
}

int engine_create(struct engine *en, const char *name, const ContainerConfig *config, struct arena *a,
                  const char **ret_id, char ***ret_warnings, struct err *e)
{
    ContainerRecord record = CONTAINER_RECORD__INIT;
    ContainerState state = CONTAINER_STATE__INIT;
    char id[65];

    if (engine.create_error.code) {
        *e = engine.create_error;
        return e->code;
    }
    (void)snprintf(id, sizeof(id), "%064d", ++engine.next_id); /* fits */
    record.id = id;
    record.name = (char *)name;
    record.config = (ContainerConfig *)config;
    record.image_id = (char *)"sha256:0";
    record.state = &state;
    for (size_t i = 0; i < ARRAY_SIZE(engine.records); i++)
        if (!engine.records[i]) {
            engine.records[i] = message_dup(&record);
            *ret_id = engine.records[i]->id;
            return 0;
        }
    return err_set(e, ERR_LIMIT, "full");
}

static int pend(const char *what, const char *id, engine_done *done, void *ctx)
{
    assert_null(engine.pending.what);
    engine.pending.what = what;
    engine.pending.done = done;
    engine.pending.ctx = ctx;
    (void)snprintf(engine.pending.id, sizeof(engine.pending.id), "%s", id); /* fits */
    return 0;
}

int engine_start(struct engine *en, const char *ref, engine_done *done, void *ctx, struct err *e)
{
    return pend("start", ref, done, ctx);
}

int engine_stop(struct engine *en, const char *ref, const char *signal, int64_t grace_ms, engine_done *done,
                void *ctx, struct err *e)
{
    engine.grace_ms = grace_ms;
    return pend("stop", ref, done, ctx);
}

int engine_remove(struct engine *en, const char *ref, bool force, bool volumes, engine_done *done, void *ctx,
                  struct err *e)
{
    return pend("remove", ref, done, ctx);
}

void engine_watch(struct engine *en, struct engine_watch *w)
{
    engine.watch = w;
}

void engine_unwatch(struct engine_watch *w)
{
    engine.watch = NULL;
}

const char *engine_image(struct engine *en, const char *ref)
{
    return engine.image_here ? "sha256:0" : NULL;
}

int engine_pull(struct engine *en, const char *ref, const char *auth, engine_done *done, void *ctx,
                struct engine_pull **ret, struct err *e)
{
    engine.pull = (struct engine_pull){done, ctx};
    *ret = &engine.pull;
    return 0;
}

static void pull_ends(int code)
{
    struct err e = {.code = code};
    engine_done *done = engine.pull.done;

    assert_non_null(done);
    engine.pull.done = NULL;
    if (code == 0)
        engine.image_here = true;
    done(engine.pull.ctx, &e);
}

static int canceled;

void engine_pull_cancel(struct engine_pull *p)
{
    canceled++;
}

static void change(enum engine_change what, ContainerRecord *record, ContainerStatusKind status, int exit_code)
{
    record->state->status = status;
    record->state->has_exit_code = true;
    record->state->exit_code = exit_code;
    if (engine.watch)
        engine.watch->on_change(engine.watch->ctx, what, record);
}

/* The operation that waits ends: as it should, or with this code. */
static void operation_ends(const char *what, int code)
{
    struct err e = {.code = code, .text = "told to fail"};
    engine_done *done = engine.pending.done;
    ContainerRecord *record = find(engine.pending.id);

    assert_non_null(engine.pending.what);
    assert_string_equal(engine.pending.what, what);
    engine.pending.what = NULL;
    if (code == 0 && strcmp(what, "start") == 0)
        change(ENGINE_STARTED, record, CONTAINER_STATUS_KIND__ALIVE, 0);
    if (code == 0 && strcmp(what, "stop") == 0)
        change(ENGINE_DIED, record, CONTAINER_STATUS_KIND__EXITED, 143);
    if (code == 0 && strcmp(what, "remove") == 0) {
        if (engine.watch)
            engine.watch->on_change(engine.watch->ctx, ENGINE_REMOVED, record);
        for (size_t i = 0; i < ARRAY_SIZE(engine.records); i++)
            if (engine.records[i] == record)
                engine.records[i] = NULL;
        message_free(record);
    }
    done(engine.pending.ctx, &e);
}

/* --- a task and its worker ------------------------------------------------------------------------- */

static uv_loop_t loop;
static struct worker *worker;
static TaskState last_state;
static char last_err[512], task_id[IDENT_TEXT + 1], forgotten[IDENT_TEXT + 1];
static int64_t now_us;
static uint8_t id[16] = {9};

static int64_t fake_mono_us(struct clock *c)
{
    return now_us;
}

static int64_t fake_wall_ms(struct clock *c)
{
    return 1790000000000;
}

static struct clock fake_clock = {fake_mono_us, fake_wall_ms};

static void on_status(void *ctx, const AssignedTask *task, const Status *status)
{
    assert_true(status->state > last_state || (status->state == last_state && status->err));
    last_state = status->state;
    (void)snprintf(last_err, sizeof(last_err), "%s", status->err ? status->err : ""); /* cut is fine */
}

static void on_forgotten(void *ctx, const char *gone)
{
    (void)snprintf(forgotten, sizeof(forgotten), "%s", gone); /* fits */
}

static void open_worker(void)
{
    struct worker_config config = {
        .loop = &loop, .clock = &fake_clock, .node_id = NODE, .on_status = on_status, .on_forgotten = on_forgotten};

    worker = worker_new(&config);
}

static void assign(TaskState desired, const Status *remembered)
{
    ContainerSpec container = CONTAINER_SPEC__INIT;
    TaskSpec task_spec = TASK_SPEC__INIT;
    ServiceSpec service = SERVICE_SPEC__INIT;
    AssignedSpec spec = ASSIGNED_SPEC__INIT;
    AssignedTask task = ASSIGNED_TASK__INIT;

    container.image = (char *)"web:1";
    container.has_stop_grace_period_ns = true;
    container.stop_grace_period_ns = 3000000000;
    task_spec.container = &container;
    service.name = (char *)"web";
    service.task = &task_spec;
    spec.spec = &service;
    spec.service_id = task.service_id = task.id = (ProtobufCBinaryData){16, id};
    spec.version = task.spec_version = 1;
    task.name = (char *)"web.1.x";
    task.desired_state = desired;
    worker_set(worker, &task, &spec, remembered);
}

static int setup(void **state)
{
    memset(&engine, 0, sizeof(engine));
    engine.image_here = true;
    last_state = TASK_STATE__NEW;
    last_err[0] = forgotten[0] = '\0';
    now_us = 1000000;
    canceled = 0;
    ident_format(id, task_id);
    assert_int_equal(uv_loop_init(&loop), 0);
    open_worker();
    return 0;
}

static int teardown(void **state)
{
    worker_free(worker);
    if (engine.pending.what) /* the engine closes: what is under way ends */
        operation_ends(engine.pending.what, ERR_CANCELED);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < ARRAY_SIZE(engine.records); i++)
        message_free(engine.records[i]);
    return 0;
}

static void task_lives_from_assignment_to_oblivion(void **state)
{
    engine.image_here = false;
    assign(TASK_STATE__RUNNING, NULL);
    assert_int_equal(last_state, TASK_STATE__PREPARING);
    pull_ends(0);
    assert_int_equal(last_state, TASK_STATE__STARTING);
    operation_ends("start", 0);
    assert_int_equal(last_state, TASK_STATE__RUNNING);
    assert_non_null(worker_container(worker, task_id));
    assign(TASK_STATE__SHUTDOWN, NULL);
    assert_int_equal(engine.grace_ms, 3000);
    operation_ends("stop", 0);
    assert_int_equal(last_state, TASK_STATE__SHUTDOWN);
    assert_non_null(worker_container(worker, task_id)); /* its logs stay readable */
    worker_remove(worker, task_id);
    operation_ends("remove", 0);
    assert_string_equal(forgotten, task_id);
    assert_int_equal(worker_count(worker), 0);
}

static void parked_task_is_created_but_not_started(void **state)
{
    assign(TASK_STATE__READY, NULL);
    assert_int_equal(last_state, TASK_STATE__READY);
    assert_null(engine.pending.what);
    assign(TASK_STATE__RUNNING, NULL);
    operation_ends("start", 0);
    assert_int_equal(last_state, TASK_STATE__RUNNING);
}

static void exit_by_itself_is_reported_with_its_code(void **state)
{
    assign(TASK_STATE__RUNNING, NULL);
    operation_ends("start", 0);
    change(ENGINE_DIED, engine.records[0], CONTAINER_STATUS_KIND__EXITED, 7);
    assert_int_equal(last_state, TASK_STATE__FAILED);
    assert_string_equal(last_err, "task: non-zero exit (7)");
}

static void failed_create_rejects_with_its_reason(void **state)
{
    err_set(&engine.create_error, ERR_INVALID, "invalid mount source");
    assign(TASK_STATE__RUNNING, NULL);
    assert_int_equal(last_state, TASK_STATE__REJECTED);
    assert_string_equal(last_err, "invalid mount source");
}

static void passing_error_is_tried_again_after_its_delay(void **state)
{
    err_set(&engine.create_error, ERR_UNAVAILABLE, "no descriptors");
    assign(TASK_STATE__RUNNING, NULL);
    assert_int_equal(last_state, TASK_STATE__PREPARING);
    assert_string_equal(last_err, "no descriptors");
    engine.create_error.code = 0;
    now_us += 10000000;
    uv_run(&loop, UV_RUN_ONCE); /* the timer */
    assert_int_equal(last_state, TASK_STATE__STARTING);
    assert_string_equal(last_err, "");
}

static void running_container_is_adopted_not_restarted(void **state)
{
    Status remembered = STATUS__INIT;

    assign(TASK_STATE__RUNNING, NULL);
    operation_ends("start", 0);
    worker_free(worker); /* shoald is killed */
    remembered.state = TASK_STATE__STARTING;
    last_state = TASK_STATE__STARTING;
    open_worker();
    assert_int_equal(worker_count(worker), 1);
    assign(TASK_STATE__RUNNING, &remembered);
    assert_null(engine.pending.what);
    assert_int_equal(last_state, TASK_STATE__RUNNING);
}

static void exit_while_nobody_watched_is_reported(void **state)
{
    Status remembered = STATUS__INIT;

    assign(TASK_STATE__RUNNING, NULL);
    operation_ends("start", 0);
    worker_free(worker);
    change(ENGINE_DIED, engine.records[0], CONTAINER_STATUS_KIND__EXITED, 0);
    remembered.state = last_state;
    open_worker();
    assign(TASK_STATE__RUNNING, &remembered);
    assert_int_equal(last_state, TASK_STATE__COMPLETE);
}

static void container_without_assignment_waits_for_the_full_set(void **state)
{
    assign(TASK_STATE__RUNNING, NULL);
    operation_ends("start", 0);
    worker_free(worker);
    open_worker();
    change(ENGINE_OOM, engine.records[0], CONTAINER_STATUS_KIND__ALIVE, 0);
    assert_null(engine.pending.what);
    worker_sweep(worker);
    operation_ends("stop", 0);
    operation_ends("remove", 0);
    assert_string_equal(forgotten, task_id);
}

static void shutdown_ends_a_pull(void **state)
{
    engine.image_here = false;
    assign(TASK_STATE__RUNNING, NULL);
    assign(TASK_STATE__SHUTDOWN, NULL);
    assert_int_equal(canceled, 1);
    pull_ends(ERR_CANCELED);
    assert_int_equal(last_state, TASK_STATE__SHUTDOWN);
}

static void worker_may_end_in_the_middle_of_an_action(void **state)
{
    assign(TASK_STATE__RUNNING, NULL);
    worker_free(worker);
    operation_ends("start", 0); /* comes late: nobody minds, nothing leaks */
    open_worker();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(task_lives_from_assignment_to_oblivion, setup, teardown),
        cmocka_unit_test_setup_teardown(parked_task_is_created_but_not_started, setup, teardown),
        cmocka_unit_test_setup_teardown(exit_by_itself_is_reported_with_its_code, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_create_rejects_with_its_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(passing_error_is_tried_again_after_its_delay, setup, teardown),
        cmocka_unit_test_setup_teardown(running_container_is_adopted_not_restarted, setup, teardown),
        cmocka_unit_test_setup_teardown(exit_while_nobody_watched_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(container_without_assignment_waits_for_the_full_set, setup, teardown),
        cmocka_unit_test_setup_teardown(shutdown_ends_a_pull, setup, teardown),
        cmocka_unit_test_setup_teardown(worker_may_end_in_the_middle_of_an_action, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
