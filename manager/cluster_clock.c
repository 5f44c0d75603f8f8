/* See cluster_clock.h. Kept in microseconds, because 5 % of the time between two drafts is often less than one
 * millisecond. */
#include <sys/param.h>

#include "manager/cluster_clock.h"

#define DRAW 20 /* a twentieth is 5 % */

void cluster_clock_init(struct cluster_clock *c, int64_t last_ms, int64_t mono_us)
{
    *c = (struct cluster_clock){.us = last_ms * 1000, .mono_us = mono_us};
}

void cluster_clock_follow(struct cluster_clock *c, int64_t last_ms, int64_t mono_us)
{
    *c = (struct cluster_clock){.us = last_ms * 1000, .mono_us = mono_us, .followed = true};
}

void cluster_clock_lead(struct cluster_clock *c, int64_t mono_us, int64_t wall_ms)
{
    if (!c->followed)
        *c = (struct cluster_clock){.us = MAX(c->us, wall_ms * 1000), .mono_us = mono_us};
    c->followed = true; /* ourselves, from now on */
}

int64_t cluster_clock_now(struct cluster_clock *c, int64_t last_ms, int64_t mono_us, int64_t wall_ms)
{
    int64_t elapsed = MAX(mono_us - c->mono_us, (int64_t)0), most = elapsed / DRAW;
    int64_t ahead = wall_ms * 1000 - (c->us + elapsed);

    c->us += elapsed + MAX(MIN(ahead, most), -most);
    c->us = MAX(c->us, last_ms * 1000);
    c->mono_us = MAX(mono_us, c->mono_us);
    return c->us / 1000;
}
