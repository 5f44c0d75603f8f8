/* Alarms: deadlines inside structs that come and go, over one uv timer.
 *
 * A uv_timer_t must be closed, which takes a turn of the loop, before its memory may go; an alarm can be cleared
 * and freed at once. Times are milliseconds on the loop's clock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/list.h"

struct alarm {
    struct list link;               /* in alarms.pending while set */
    uint64_t at_ms;                 /* on the loop's clock */
    void (*ring)(struct alarm *me); /* may set, clear and free any alarm, this one too */
};

struct alarms {
    uv_timer_t timer;
    struct list pending; /* of struct alarm, soonest first */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

void alarms_init(struct alarms *s, uv_loop_t *loop);

/* No alarm rings any more; `closed` comes from the loop. */
void alarms_close(struct alarms *s, void (*closed)(void *ctx), void *ctx);

void alarm_init(struct alarm *m);

/* Ring once, `delay_ms` from now, never from inside this call. One that is set is moved. */
void alarm_set(struct alarms *s, struct alarm *m, uint64_t delay_ms, void (*ring)(struct alarm *me));
void alarm_clear(struct alarm *m);
bool alarm_is_set(const struct alarm *m);
