/* The ledger gives back what was put, without credentials, and says when it cannot write. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/ledger.h"
#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

static char dir[] = "/tmp/ledger-test-XXXXXX";
static uv_loop_t loop;
static struct ledger *ledger;
static int specs, tasks;
static TaskState status_seen;

static void on_spec(void *ctx, const char *key, AssignedSpec *spec)
{
    assert_int_equal(tasks, 0); /* specs come first */
    assert_string_equal(key, "service.1");
    assert_string_equal(spec->spec->task->container->registry_auth, LEDGER_AUTH_REMOVED); /* there were some */
    assert_string_equal(spec->spec->task->container->image, "web:1");
    specs++;
}

static void on_task(void *ctx, const char *key, AssignedTask *task, const Status *status)
{
    assert_string_equal(key, "task");
    assert_int_equal(task->spec_version, 1);
    status_seen = status ? status->state : TASK_STATE__NEW;
    tasks++;
}

static void open_ledger(void)
{
    struct ledger_events events = {.on_spec = on_spec, .on_task = on_task};

    specs = tasks = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(ledger_open(&loop, dir, &ledger, NULL), 0);
    ledger_read(ledger, &events);
}

static void on_closed(void *ctx)
{
    ledger = NULL;
}

static void close_ledger(void)
{
    ledger_close(ledger, on_closed, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_null(ledger);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void put(TaskState state)
{
    static uint8_t id[16] = {1};
    ContainerSpec container = CONTAINER_SPEC__INIT;
    TaskSpec task_spec = TASK_SPEC__INIT;
    ServiceSpec service = SERVICE_SPEC__INIT;
    AssignedSpec spec = ASSIGNED_SPEC__INIT;
    AssignedTask task = ASSIGNED_TASK__INIT;
    Status status = STATUS__INIT;

    container.image = (char *)"web:1";
    container.registry_auth = (char *)"canary-credential";
    task_spec.container = &container;
    service.task = &task_spec;
    spec.spec = &service;
    spec.service_id = task.id = task.service_id = (ProtobufCBinaryData){16, id};
    spec.version = task.spec_version = 1;
    status.state = state;
    ledger_put_spec(ledger, "service.1", &spec);
    ledger_put_task(ledger, "task", &task, state ? &status : NULL);
}

static int setup(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    return tree_remove(AT_FDCWD, dir, NULL);
}

static void what_was_put_is_remembered(void **state)
{
    open_ledger();
    assert_int_equal(tasks, 0);
    put(TASK_STATE__READY);
    put(TASK_STATE__RUNNING);
    put(TASK_STATE__NEW); /* an assignment that changed keeps the status */
    assert_true(ledger_flush(ledger));
    close_ledger();
    open_ledger();
    assert_int_equal(specs, 1);
    assert_int_equal(tasks, 1);
    assert_int_equal(status_seen, TASK_STATE__RUNNING);
    close_ledger();
}

static void credentials_never_reach_the_disk(void **state)
{
    AUTO_BUF struct buf bytes = {0};
    AUTO_FREE
    char *path = mem_printf("%s/swarm/specs/service.1", dir);

    open_ledger();
    put(TASK_STATE__RUNNING);
    assert_true(ledger_flush(ledger));
    close_ledger();
    assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &bytes, NULL), 0);
    assert_null(memmem(buf_bytes(&bytes), bytes.length, "canary-credential", 17));
}

static void what_was_removed_is_forgotten(void **state)
{
    open_ledger();
    put(TASK_STATE__RUNNING);
    assert_true(ledger_flush(ledger));
    ledger_remove_task(ledger, "task");
    ledger_remove_spec(ledger, "service.1");
    ledger_remove_task(ledger, "never-there");
    assert_true(ledger_flush(ledger));
    close_ledger();
    open_ledger();
    assert_int_equal(specs + tasks, 0);
    close_ledger();
}

static void removal_before_the_flush_leaves_nothing(void **state)
{
    open_ledger();
    put(TASK_STATE__RUNNING);
    ledger_remove_task(ledger, "task");
    ledger_remove_spec(ledger, "service.1");
    assert_true(ledger_flush(ledger));
    close_ledger();
    open_ledger();
    assert_int_equal(specs + tasks, 0);
    close_ledger();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_remembered),
        cmocka_unit_test(credentials_never_reach_the_disk),
        cmocka_unit_test(what_was_removed_is_forgotten),
        cmocka_unit_test(removal_before_the_flush_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
