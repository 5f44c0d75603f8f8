/* See alarm.h. A list sorted by time, searched from its end: alarms are few, and most are set later than those that
 * wait already. */
#include <assert.h>

#include "engine/alarm.h"

static void on_timer(uv_timer_t *timer);

static void arm(struct alarms *s)
{
    struct alarm *first = list_first(&s->pending, struct alarm, link);

    if (!first) {
        (void)uv_timer_stop(&s->timer); /* cannot fail */
        return;
    }
    uint64_t now = uv_now(s->timer.loop);
    int rc = uv_timer_start(&s->timer, on_timer, first->at_ms > now ? first->at_ms - now : 0, 0);
    assert(rc == 0 || uv_is_closing((uv_handle_t *)&s->timer));
}

static void on_timer(uv_timer_t *timer)
{
    struct alarms *s = container_of(timer, struct alarms, timer);
    uint64_t now = uv_now(timer->loop);
    struct list due;

    /* Those due now, and not what they set for now meanwhile: that comes after them. */
    list_init(&due);
    for (struct alarm *m; (m = list_first(&s->pending, struct alarm, link)) && m->at_ms <= now;) {
        list_remove(&m->link);
        list_push(&due, &m->link);
    }
    for (struct list *l; (l = list_pop(&due));) {
        struct alarm *m = list_entry(l, struct alarm, link);

        m->ring(m);
    }
    arm(s);
}

void alarms_init(struct alarms *s, uv_loop_t *loop)
{
    list_init(&s->pending);
    (void)uv_timer_init(loop, &s->timer); /* cannot fail */
}

static void on_closed(uv_handle_t *handle)
{
    struct alarms *s = container_of((uv_timer_t *)handle, struct alarms, timer);

    s->closed(s->closed_ctx);
}

void alarms_close(struct alarms *s, void (*closed)(void *ctx), void *ctx)
{
    while (list_pop(&s->pending))
        ;
    s->closed = closed;
    s->closed_ctx = ctx;
    uv_close((uv_handle_t *)&s->timer, on_closed);
}

void alarm_init(struct alarm *m)
{
    list_init(&m->link);
}

void alarm_set(struct alarms *s, struct alarm *m, uint64_t delay_ms, void (*ring)(struct alarm *me))
{
    list_remove(&m->link);
    struct list *after = s->pending.prev;

    m->at_ms = uv_now(s->timer.loop) + delay_ms;
    m->ring = ring;
    while (after != &s->pending && list_entry(after, struct alarm, link)->at_ms > m->at_ms)
        after = after->prev;
    list_insert(after, &m->link);
    if (s->pending.next == &m->link)
        arm(s);
}

void alarm_clear(struct alarm *m)
{
    list_remove(&m->link);
}

bool alarm_is_set(const struct alarm *m)
{
    return !list_empty(&m->link);
}
