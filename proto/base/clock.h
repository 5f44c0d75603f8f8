/* Time behind an interface, so that the simulation can replace it.
 *
 * Planners never hold a clock: they are given a time. Code that needs one takes `struct clock *`. */
#pragma once

#include <stdint.h>

struct clock {
    int64_t (*mono_us)(struct clock *c); /* never goes back, no relation to the date; microseconds */
    int64_t (*wall_ms)(struct clock *c); /* milliseconds since 1970, UTC; may jump */
};

/* The machine's clocks. Never closed. */
struct clock *clock_real(void);

static inline int64_t clock_mono_us(struct clock *c)
{
    return c->mono_us(c);
}

static inline int64_t clock_mono_ms(struct clock *c)
{
    return c->mono_us(c) / 1000;
}

static inline int64_t clock_wall_ms(struct clock *c)
{
    return c->wall_ms(c);
}
