/* See clock.h. */
#include <time.h>

#include "proto/base/clock.h"

static int64_t real_mono_us(struct clock *c)
{
    struct timespec now;

    (void)c; /* there is one machine */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t real_wall_ms(struct clock *c)
{
    struct timespec now;

    (void)c; /* there is one machine */
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct clock *clock_real(void)
{
    static struct clock real = {.mono_us = real_mono_us, .wall_ms = real_wall_ms};

    return &real;
}
