/* Task logs for `service logs`: a manager asks over the session, the lines go over a connection of their own
 * (DESIGN.md section 9).
 *
 * The bulk connection is dialed when the first log is asked for and closed when none has been read for a while.
 * Each subscription is a stream with its own credit: a slow reader holds up its own log and nothing else. */
#pragma once

#include <uv.h>

#include "engine/engine.h"
#include "proto/dispatch.pb-c.h"
#include "proto/wire/rpc.h"

struct logs;

struct logs *task_logs_new(uv_loop_t *loop, struct engine *engine, struct tls *tls, const char *cluster_id);
void task_logs_set_tls(struct logs *l, struct tls *tls);

/* Begin or end what a manager asked for. `manager` is its address; `container` the task's container, or NULL when
 * it has none. */
void task_logs_request(struct logs *l, const LogRequest *request, const char *manager, const char *container);

/* The session was lost: its subscriptions end. */
void task_logs_end_all(struct logs *l);

void task_logs_close(struct logs *l, void (*closed)(void *ctx), void *ctx);
