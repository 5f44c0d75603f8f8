/* See check.h. Sizes are those of the packed messages, so that fields nobody knows are bounded as well. */
#include "manager/dispatcher/check.h"
#include "proto/base/ident.h"

static int check_status(const Status *status, struct err *e)
{
    size_t size = status__get_packed_size(status);

    if (size > CHECK_STATUS_BYTES_MAX)
        return err_set(e, ERR_INVALID, "status report: a status of %zu bytes, at most %d are taken", size,
                       CHECK_STATUS_BYTES_MAX);
    /* An enum is a number on the wire, and unpacking takes any. */
    if (!protobuf_c_enum_descriptor_get_value(&task_state__descriptor, (int)status->state))
        return err_set(e, ERR_INVALID, "status report: %d is no state of a task", (int)status->state);
    return 0;
}

int check_report(const StatusReport *report, struct err *e)
{
    if (report->n_tasks > CHECK_REPORT_TASKS_MAX)
        return err_set(e, ERR_INVALID, "status report: %zu tasks, at most %d are taken", report->n_tasks,
                       CHECK_REPORT_TASKS_MAX);
    for (size_t i = 0; i < report->n_tasks; i++) {
        if (report->tasks[i]->task_id.len != IDENT_BYTES)
            return err_set(e, ERR_INVALID, "status report: a task id of %zu bytes", report->tasks[i]->task_id.len);
        int rc = check_status(report->tasks[i]->status, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int check_description(const NodeDescription *description, struct err *e)
{
    size_t size = node_description__get_packed_size(description);

    if (size > CHECK_DESCRIPTION_BYTES_MAX)
        return err_set(e, ERR_INVALID, "node description: %zu bytes, at most %d are taken", size,
                       CHECK_DESCRIPTION_BYTES_MAX);
    return 0;
}
