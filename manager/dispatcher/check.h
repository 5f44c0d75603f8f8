/* What an agent may say: bounds on its messages, which end up in the store (DESIGN.md section 6: a worker is not
 * trusted). Pure. */
#pragma once

#include "proto/base/err.h"
#include "proto/dispatch.pb-c.h"

#define CHECK_REPORT_TASKS_MAX      4096
#define CHECK_STATUS_BYTES_MAX      4096 /* packed; an agent of ours needs some 700 */
#define CHECK_DESCRIPTION_BYTES_MAX (64 * 1024)

/* ERR_INVALID names what is wrong with it. */
int check_report(const StatusReport *report, struct err *e);
int check_description(const NodeDescription *description, struct err *e);
