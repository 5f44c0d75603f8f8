/* What an agent may not say is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/dispatcher/check.h"
#include "proto/base/mem.h"

static uint8_t id[17];

struct made {
    Status status;
    TaskReport task;
    TaskReport *tasks[1];
    StatusReport report;
};

static StatusReport *a_report(struct made *m)
{
    m->status = (Status)STATUS__INIT;
    m->status.state = TASK_STATE__RUNNING;
    m->task = (TaskReport)TASK_REPORT__INIT;
    m->task.task_id = (ProtobufCBinaryData){16, id};
    m->task.status = &m->status;
    m->tasks[0] = &m->task;
    m->report = (StatusReport)STATUS_REPORT__INIT;
    m->report.n_tasks = 1;
    m->report.tasks = m->tasks;
    return &m->report;
}

static void assert_refused(const StatusReport *report, const char *why)
{
    struct err e = {0};

    assert_int_equal(check_report(report, &e), ERR_INVALID);
    if (!strstr(e.text, why))
        fail_msg("\"%s\" is not in \"%s\"", why, e.text);
}

static void what_agents_say_is_taken(void **state)
{
    static const TaskState states[] = {TASK_STATE__NEW, TASK_STATE__ACCEPTED, TASK_STATE__REJECTED,
                                       TASK_STATE__ORPHANED};
    char text[512];
    struct made m;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        StatusReport *report = a_report(&m);

        m.status.state = states[i];
        m.status.err = text;
        assert_int_equal(check_report(report, NULL), 0);
    }
    m.report.n_tasks = 0;
    assert_int_equal(check_report(&m.report, NULL), 0);
}

static void ids_of_another_length_are_refused(void **state)
{
    static const size_t lengths[] = {0, 1, 15, 17};

    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct made m;
        StatusReport *report = a_report(&m);

        m.task.task_id.len = lengths[i];
        assert_refused(report, "a task id of");
    }
}

static void numbers_that_are_no_state_are_refused(void **state)
{
    static const int numbers[] = {-1, 1, 511, 513, 1 << 30};

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        struct made m;
        StatusReport *report = a_report(&m);

        m.status.state = (TaskState)numbers[i];
        assert_refused(report, "is no state of a task");
    }
}

static void long_texts_are_refused_wherever_they_hide(void **state)
{
    char *text = mem_alloc(CHECK_STATUS_BYTES_MAX + 1);
    ContainerStatus container = CONTAINER_STATUS__INIT;
    ProtobufCMessageUnknownField unknown = {.tag = 99, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED};
    struct made m;

    memset(text, 'x', CHECK_STATUS_BYTES_MAX);
    a_report(&m);
    m.status.err = text;
    assert_refused(&m.report, "a status of");
    a_report(&m);
    m.status.message = text;
    assert_refused(&m.report, "a status of");
    a_report(&m);
    container.container_id = text;
    m.status.container = &container;
    assert_refused(&m.report, "a status of");
    a_report(&m);
    unknown.len = CHECK_STATUS_BYTES_MAX;
    unknown.data = (uint8_t *)text;
    m.status.base.unknown_fields = &unknown;
    m.status.base.n_unknown_fields = 1;
    assert_refused(&m.report, "a status of");
    free(text);
}

static void reports_and_descriptions_are_bounded(void **state)
{
    TaskReport **tasks = mem_array(CHECK_REPORT_TASKS_MAX + 1, sizeof(*tasks));
    char *text = mem_alloc(CHECK_DESCRIPTION_BYTES_MAX + 1);
    NodeDescription description = NODE_DESCRIPTION__INIT;
    struct made m;
    struct err e;

    a_report(&m);
    for (size_t i = 0; i <= CHECK_REPORT_TASKS_MAX; i++)
        tasks[i] = &m.task;
    m.report.tasks = tasks;
    m.report.n_tasks = CHECK_REPORT_TASKS_MAX;
    assert_int_equal(check_report(&m.report, NULL), 0);
    m.report.n_tasks++;
    assert_refused(&m.report, "4097 tasks");
    assert_int_equal(check_description(&description, &e), 0);
    memset(text, 'x', CHECK_DESCRIPTION_BYTES_MAX);
    description.hostname = text;
    assert_int_equal(check_description(&description, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "node description"));
    free(tasks);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_agents_say_is_taken),
        cmocka_unit_test(ids_of_another_length_are_refused),
        cmocka_unit_test(numbers_that_are_no_state_are_refused),
        cmocka_unit_test(long_texts_are_refused_wherever_they_hide),
        cmocka_unit_test(reports_and_descriptions_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
