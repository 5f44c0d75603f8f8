/* The engine's own restart policy (docker run --restart): pure. Services have another one, in the manager. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/container.pb-c.h"

#define RESTART_DELAY_MIN_MS 100
#define RESTART_DELAY_MAX_MS 60000
#define RESTART_RESET_MS     10000 /* a run as long as this starts the delays over */

struct restart_in {
    const RestartRule *rule; /* NULL: no */
    bool failed;             /* exit code other than 0, or unknown */
    bool stopped_by_user;
    unsigned count;   /* restarts since a user started it */
    int64_t ran_ms;   /* how long it ran; 0 when it could not be started */
    int64_t delay_ms; /* waited before that run; 0: none yet */
};

/* After an end: milliseconds to wait before the next start, or -1 to leave it ended. */
int64_t restart_after(const struct restart_in *in);

/* When the engine starts and finds it ended: whether to start it. `always` comes back even after a user's stop. */
bool restart_at_open(const struct restart_in *in);

/* Refuse rules that make no sense; `auto_remove` excludes restarting. */
int restart_check(const RestartRule *rule, bool auto_remove, struct err *e);
