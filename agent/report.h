/* Statuses on their way to the manager. Pure (DESIGN.md section 4, step 7).
 *
 * Only the newest status of a task is kept. A report carries what changed since the last one; it is kept until the
 * manager says that it is durable, and everything not acknowledged is sent again in the next session. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/dispatch.pb-c.h"

#define REPORT_TASKS_MAX 256 /* in one message */

struct report;

struct report *report_new(void);
void report_free(struct report *r); /* NULL is fine */

/* The newest status of a task; copied. */
void report_put(struct report *r, const uint8_t task_id[16], const Status *status);

/* The task is gone: nothing is sent of it any more. */
void report_drop(struct report *r, const uint8_t task_id[16]);

/* A session begins: what was sent and not acknowledged is to be sent again. Sequences start at 1 in each session.
 */
void report_new_session(struct report *r);

/* The next message, in the arena (statuses borrowed until the next call on r), or NULL when there is nothing to
 * send. report_sent says that it is on its way; without that the same comes again. */
StatusReport *report_next(struct report *r, struct arena *a);
void report_sent(struct report *r, const StatusReport *message);

/* Everything sent up to this sequence is durable. */
void report_acknowledged(struct report *r, uint64_t sequence);

bool report_empty(const struct report *r); /* nothing to send and nothing unacknowledged */
