/* The keeper's loop: epoll and a few timers, in one thread. Callbacks may remove any watch or timer, themselves
 * included; a removed one is not called any more, even when its event was already fetched. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "proto/base/err.h"
#include "proto/base/list.h"

#define LOOP_BATCH 32

struct loop {
    int epoll;                            /* owned */
    bool ended;                           /* loop_run returns */
    struct list timers;                   /* soonest first */
    struct epoll_event batch[LOOP_BATCH]; /* events being handed out; data.ptr NULL: removed meanwhile */
    int batch_count;
};

struct watch {
    int fd; /* borrowed; -1 while not watched */
    void (*on)(struct watch *w, uint32_t events);
};

struct timer {
    struct list link;
    int64_t due_us; /* monotonic */
    void (*on)(struct timer *t);
};

int loop_init(struct loop *l, struct err *e);
void loop_fini(struct loop *l);

/* Watch `fd` for `events` (EPOLL*). A watch that was not yet used must be all zeroes with fd -1. */
int watch_start(struct loop *l, struct watch *w, int fd, uint32_t events,
                void (*on)(struct watch *w, uint32_t events), struct err *e);
void watch_change(struct loop *l, struct watch *w, uint32_t events);
void watch_stop(struct loop *l, struct watch *w); /* before its descriptor is closed; may be repeated */

void timer_init(struct timer *t, void (*on)(struct timer *t));
void timer_set(struct loop *l, struct timer *t, int64_t delay_us); /* moves one that is set */
void timer_clear(struct timer *t);
bool timer_is_set(const struct timer *t);

/* Wait for events (at most wait_ms, -1: until the next timer) and hand them out once. */
void loop_turn(struct loop *l, int wait_ms);
