/* Warm sandboxes: built before they are asked for, by recipe (server.h, struct recipe).
 *
 * A sandbox is taken once and never comes back. Building goes on off the path: only while no launch is under way,
 * one at a time, a moment after the last. How many are kept follows from use: a start that finds none raises the
 * target of its recipe, up to the maximum; time without that lowers it again, down to the minimum. The recipe used
 * last stays warm for ever, so that the first start after a quiet night is as fast as any; others are given up
 * after some minutes.
 *
 * A recipe whose sandboxes fail (a kernel without something it asks for) is tried again after a while: the launch
 * that needs it reports the error. */
#include <string.h>

#include "engine/keeper/plan.h"
#include "engine/keeper/server.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define REFILL_US (1000)           /* after the last launch */
#define CHECK_US  (10 * 1000000L)  /* between looks at what is not used */
#define LOWER_US  (30 * 1000000L)  /* without a miss: one less */
#define UNUSED_US (300 * 1000000L) /* a recipe that is not the last used one is given up */
#define RETRY_US  (10 * 1000000L)  /* after one could not be built */
#define DIED_US   (1000 * 1000L)   /* after one died without a word: somebody killed it */

static int64_t now_us(void)
{
    return clock_mono_us(clock_real());
}

static struct recipe *find(struct server *s, const void *data, size_t size)
{
    struct recipe *r;

    list_each (r, &s->pool.recipes, link)
        if (r->size == size && memcmp(r->data, data, size) == 0)
            return r;
    return NULL;
}

static unsigned within(const struct pool *p, unsigned target)
{
    return MIN(MAX(target, p->min), p->max);
}

/* Give up warm boxes of a recipe until `keep` are left. */
static void shrink(struct recipe *r, unsigned keep)
{
    struct box *b, *after;

    list_each_safe (b, after, &r->boxes, pooled)
        if (b->stage == BOX_STAGE__WARM_BOX && r->warm > keep)
            launch_give_up(b);
}

static void drop(struct recipe *r)
{
    struct box *b, *after;

    list_each_safe (b, after, &r->boxes, pooled)
        launch_give_up(b);
    list_remove(&r->link);
    arena_fini(&r->arena);
    free(r->data);
    free(r);
}

int pool_add(struct server *s, const void *data, size_t size, struct err *e)
{
    struct pool *p = &s->pool;
    struct recipe *r = find(s, data, size);
    unsigned count = 0;

    if (!r) {
        struct recipe *other;

        list_each (other, &p->recipes, link)
            count++;
        if (count >= RECIPES_MAX)
            drop(list_last(&p->recipes, struct recipe, link));
        r = mem_alloc(sizeof(*r));
        arena_init(&r->arena);
        list_init(&r->link);
        list_init(&r->boxes);
        r->message = plan_recipe(&r->arena, data, size, e);
        if (!r->message) {
            arena_fini(&r->arena);
            free(r);
            return e ? e->code : ERR_INVALID;
        }
        r->data = mem_dup(data, size);
        r->size = size;
        r->target = within(p, 0);
        r->changed_us = now_us();
    }
    list_remove(&r->link);
    list_push_front(&p->recipes, &r->link);
    r->used_us = now_us();
    pool_wake(s);
    return 0;
}

static void leave(struct box *b)
{
    list_remove(&b->pooled);
    b->recipe->warm--;
    b->recipe = NULL;
}

struct box *pool_take(struct server *s, const void *data, size_t size)
{
    struct recipe *r = find(s, data, size);
    struct box *b, *found = NULL;

    if (!r)
        return NULL;
    r->used_us = now_us();
    list_remove(&r->link);
    list_push_front(&s->pool.recipes, &r->link);
    list_each (b, &r->boxes, pooled)
        if (b->stage == BOX_STAGE__WARM_BOX) {
            found = b;
            break;
        }
    if (found) {
        leave(found);
    } else {
        r->target = within(&s->pool, r->target + r->target / 2 + 1);
        r->changed_us = r->used_us;
    }
    pool_wake(s);
    return found;
}

void pool_left(struct box *b, bool failed)
{
    struct recipe *r = b->recipe;

    if (!r)
        return;
    leave(b);
    if (failed)
        r->retry_us = now_us() + (b->error ? RETRY_US : DIED_US);
}

static bool preparing(struct server *s)
{
    const struct recipe *r;
    const struct box *b;

    list_each (r, &s->pool.recipes, link)
        list_each (b, &r->boxes, pooled)
            if (b->stage == BOX_STAGE__PREPARING_BOX)
                return true;
    return false;
}

static void age(struct server *s, int64_t now)
{
    const struct recipe *first = list_first(&s->pool.recipes, struct recipe, link);
    struct recipe *r, *after;

    list_each_safe (r, after, &s->pool.recipes, link) {
        if (r != first && now - r->used_us > UNUSED_US) {
            drop(r);
            continue;
        }
        if (now - r->changed_us > LOWER_US) {
            r->target = within(&s->pool, r->target ? r->target - 1 : 0);
            r->changed_us = now;
        }
        shrink(r, r->target);
    }
}

static void refill(struct server *s, int64_t now)
{
    struct recipe *r;

    list_each (r, &s->pool.recipes, link) {
        struct box *b;
        struct err e;

        if (r->warm >= r->target || now < r->retry_us)
            continue;
        if (launch_prepare(s, r->message, &b, &e) < 0) {
            log_warn("no sandbox can be kept warm", "error=\"%s\"", e.text);
            r->retry_us = now + RETRY_US;
            continue;
        }
        b->recipe = r;
        list_push(&r->boxes, &b->pooled);
        r->warm++;
        return; /* the next when this one is ready */
    }
}

/* When there is something to do next by time alone. */
static int64_t next_look(const struct server *s, int64_t now)
{
    const struct recipe *r;
    int64_t next = CHECK_US;

    list_each (r, &s->pool.recipes, link)
        if (r->warm < r->target && r->retry_us > now)
            next = MIN(next, r->retry_us - now);
    return next;
}

static void pool_on_timer(struct timer *t)
{
    struct server *s = container_of(t, struct server, pool.timer);
    int64_t now = now_us();

    age(s, now);
    if (s->launching == 0 && !preparing(s))
        refill(s, now);
    if (!timer_is_set(t) && !list_empty(&s->pool.recipes))
        timer_set(&s->loop, t, next_look(s, now));
}

void pool_wake(struct server *s)
{
    if (!list_empty(&s->pool.recipes))
        timer_set(&s->loop, &s->pool.timer, REFILL_US);
}

void pool_init(struct server *s)
{
    list_init(&s->pool.recipes);
    timer_init(&s->pool.timer, pool_on_timer);
}

void pool_configure(struct server *s, unsigned min, unsigned max)
{
    struct recipe *r;

    s->pool.max = MIN(max, BOXES_MAX / 4);
    s->pool.min = MIN(min, s->pool.max);
    list_each (r, &s->pool.recipes, link) {
        r->target = within(&s->pool, r->target);
        r->changed_us = now_us();
    }
    pool_wake(s);
}

void pool_empty(struct server *s)
{
    struct recipe *r;

    while ((r = list_first(&s->pool.recipes, struct recipe, link)))
        drop(r);
    timer_clear(&s->pool.timer);
}
