/* Cluster time (DESIGN.md section 5): what stored deadlines and planners go by.
 *
 * It goes on from the last change set applied by this machine's monotonic clock, is drawn to the wall clock by at
 * most 5 %, and never goes back. So a wall clock that jumps moves no deadline. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cluster_clock {
    int64_t us;      /* cluster time ... */
    int64_t mono_us; /* ... at this time */
    bool followed;   /* change sets of a leader were applied as they came: time went on while we watched */
};

void cluster_clock_init(struct cluster_clock *c, int64_t last_ms, int64_t mono_us);

/* A change set of another leader was applied. */
void cluster_clock_follow(struct cluster_clock *c, int64_t last_ms, int64_t mono_us);

/* This manager leads from now on. Without having followed anyone it cannot know how long the cluster stood still,
 * so time jumps forward to the wall clock. */
void cluster_clock_lead(struct cluster_clock *c, int64_t mono_us, int64_t wall_ms);

/* The time now, in milliseconds; at least `last_ms`. */
int64_t cluster_clock_now(struct cluster_clock *c, int64_t last_ms, int64_t mono_us, int64_t wall_ms);
