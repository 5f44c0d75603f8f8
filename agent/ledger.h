/* The ledger: what this node remembers of its tasks, so that it goes on without managers and after a reboot
 * (DESIGN.md sections 6 and 9).
 *
 * One small file per task and per spec below <data-dir>/swarm/tasks, written at the end of a turn and synced in the
 * background: after SIGKILL everything is there, after a power cut at most the last moments are missing, which the
 * next full set repairs. Registry credentials are left out. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "proto/base/err.h"
#include "proto/dispatch.pb-c.h"

struct ledger;

/* What stands where registry credentials were: no text that credentials can be (base64url). Whoever needs them has
 * to wait for a manager. */
#define LEDGER_AUTH_REMOVED "?"

struct ledger_events {
    void *ctx;
    void (*on_spec)(void *ctx, const char *key, AssignedSpec *spec);                       /* all specs first, */
    void (*on_task)(void *ctx, const char *key, AssignedTask *task, const Status *status); /* then all tasks */
};

int ledger_open(uv_loop_t *loop, const char *data_dir, struct ledger **ret, struct err *e);

/* Tell everything that is remembered, which need not be put again. Once, after opening. Damaged files are logged
 * and set aside. */
void ledger_read(struct ledger *l, const struct ledger_events *events);

/* Remember; written at the next ledger_flush, only the newest of several. status NULL keeps the one that is
 * remembered. */
void ledger_put_task(struct ledger *l, const char *key, const AssignedTask *task, const Status *status);
void ledger_put_spec(struct ledger *l, const char *key, const AssignedSpec *spec);
void ledger_remove_task(struct ledger *l, const char *key);
void ledger_remove_spec(struct ledger *l, const char *key);

/* Write what changed. False when something could not be written now (full disk), which is logged once: call again
 * in a while. */
bool ledger_flush(struct ledger *l);

/* Sync and close; `closed` comes on the loop. */
void ledger_close(struct ledger *l, void (*closed)(void *ctx), void *ctx);
