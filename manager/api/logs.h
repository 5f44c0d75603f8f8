/* Logs of a service or a task, merged from the nodes that have them (reference/swarm-surface.md section 22). */
#pragma once

#include "manager/api/ask.h"
#include "proto/dispatch.pb-c.h"

int logs_prepare(struct ask *k, struct err *e);
void logs_begin_service(struct ask *k);
void logs_begin_task(struct ask *k);

/* --- following: what is done for all that follow ----------------------------------------------------------- */

struct logs_hub;

struct logs_hub *logs_hub_new(struct asks *a);
void logs_hub_free(struct logs_hub *h); /* nobody follows any more */
/* Look what changed. Returns when to be called again, by the monotonic clock in ms; INT64_MAX: when woken. */
int64_t logs_hub_turn(struct logs_hub *h);

/* --- lines ------------------------------------------------------------------------------------------------- */

struct log_form { /* how lines are written */
    bool raw;     /* a terminal's: no frames */
    bool timestamps;
    const char *details; /* put before each line; NULL: none */
};

enum { LOG_STREAM_OUT = 1, LOG_STREAM_ERR = 2, LOG_STREAM_SYSTEM = 3 };

/* Append a line (or a part of one) as clients of Docker read it. */
void log_form_line(struct buf *out, const struct log_form *form, const LogLine *line);
/* Append a text of our own. */
void log_form_text(struct buf *out, const struct log_form *form, const char *text);
