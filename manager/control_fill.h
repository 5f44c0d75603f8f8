/* Filling one draft (control.c): first what was asked for, then what the planners make of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/control.h"
#include "manager/scheduler/scheduler.h"

#define CONTROL_DRAFT_OBJECTS 1200 /* planners stop at so many: to apply them takes less than a turn */
#define CONTROL_WRITE_OBJECTS 2000 /* what one write may make of a draft (DESIGN.md section 4) */
#define CONTROL_DRAFT_BYTES   (3 * 1024 * 1024 / 2)

struct fill {
    struct draft *draft;
    struct plan plan;
    struct clock *clock;
    struct entropy *entropy;
    int64_t writes_until_us, plan_until_us; /* monotonic: when to stop */
};

/* Begin on the store's state. Ends with draft_end by the caller. */
void fill_begin(struct fill *f, struct store *s, struct index *x, struct clock *clock, struct entropy *entropy,
                int64_t cluster_ms, int64_t start_us);

/* Execute writes from the front of `queue` and move them to `executed`, until the draft has `objects_max`, the time
 * is over, or one does not fit beside the others (it stays). Returns how many were executed. */
size_t fill_writes(struct fill *f, struct list *queue, struct list *executed, size_t objects_max);

void fill_plan(struct fill *f, struct scheduler *scheduler);
