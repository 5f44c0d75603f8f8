/* See loop.h.
 *
 * Small on purpose: the keeper must not change when the rest of shoal does, must start within a millisecond and
 * hold less than a megabyte, so it brings no event library. Timers are a sorted list: there are a handful, and
 * those of many boxes ending at once all have the same distance, so they are inserted at the end. */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "engine/keeper/loop.h"
#include "proto/base/clock.h"

int loop_init(struct loop *l, struct err *e)
{
    *l = (struct loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    list_init(&l->timers);
    return l->epoll < 0 ? err_errno(e, "make an epoll") : 0;
}

void loop_fini(struct loop *l)
{
    if (l->epoll >= 0)
        close(l->epoll);
    l->epoll = -1;
}

int watch_start(struct loop *l, struct watch *w, int fd, uint32_t events,
                void (*on)(struct watch *w, uint32_t events), struct err *e)
{
    struct epoll_event event = {.events = events, .data.ptr = w};

    assert(w->fd < 0);
    assert(fd >= 0);
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return err_errno(e, "watch a descriptor");
    w->fd = fd;
    w->on = on;
    return 0;
}

void watch_change(struct loop *l, struct watch *w, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = w};

    assert(w->fd >= 0);
    (void)epoll_ctl(l->epoll, EPOLL_CTL_MOD, w->fd, &event); /* it is watched: cannot fail */
}

void watch_stop(struct loop *l, struct watch *w)
{
    if (w->fd < 0)
        return;
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL); /* it is watched: cannot fail */
    w->fd = -1;
    for (int i = 0; i < l->batch_count; i++)
        if (l->batch[i].data.ptr == w)
            l->batch[i].data.ptr = NULL;
}

void timer_init(struct timer *t, void (*on)(struct timer *t))
{
    list_init(&t->link);
    t->on = on;
}

bool timer_is_set(const struct timer *t)
{
    return !list_empty(&t->link);
}

void timer_set(struct loop *l, struct timer *t, int64_t delay_us)
{
    struct list *at;

    list_remove(&t->link);
    t->due_us = clock_mono_us(clock_real()) + delay_us;
    for (at = l->timers.prev; at != &l->timers; at = at->prev)
        if (list_entry(at, struct timer, link)->due_us <= t->due_us)
            break;
    list_insert(at, &t->link);
}

void timer_clear(struct timer *t)
{
    list_remove(&t->link);
}

static int wait_time(const struct loop *l, int wait_ms)
{
    const struct timer *first = list_first(&l->timers, struct timer, link);

    if (!first)
        return wait_ms;
    int64_t left_ms = (first->due_us - clock_mono_us(clock_real()) + 999) / 1000;
    if (left_ms < 0)
        left_ms = 0;
    return wait_ms >= 0 && wait_ms < left_ms ? wait_ms : (int)MIN(left_ms, 3600 * 1000);
}

static void run_timers(struct loop *l)
{
    int64_t now_us = clock_mono_us(clock_real());

    for (;;) {
        struct timer *first = list_first(&l->timers, struct timer, link);

        if (!first || first->due_us > now_us)
            return;
        list_remove(&first->link);
        first->on(first);
    }
}

void loop_turn(struct loop *l, int wait_ms)
{
    int count = epoll_wait(l->epoll, l->batch, LOOP_BATCH, wait_time(l, wait_ms));

    l->batch_count = count > 0 ? count : 0; /* EINTR is an empty turn */
    for (int i = 0; i < l->batch_count; i++) {
        struct watch *w = l->batch[i].data.ptr;

        if (w)
            w->on(w, l->batch[i].events);
    }
    l->batch_count = 0;
    run_timers(l);
}
