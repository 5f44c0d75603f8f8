/* The end of a change of roots (manager/ca/rotation.h): on the leader, watch who has renewed, and write that it is
 * over when every node has. On the manager loop; without a loop of its own, as control.
 *
 * Every node means every row: one that is down, or has never come, holds it up until it comes or is removed, since
 * it could not come back afterwards. */
#pragma once

#include <stdint.h>

#include "manager/control.h"

struct rotation;

struct rotation_config {
    struct control *control;
    void *ctx;
    void (*wake)(void *ctx); /* call rotation_turn soon */
};

struct rotation *rotation_new(const struct rotation_config *config);

/* Call when something was applied, when leadership came or went, and at the time it asks for: after so many
 * milliseconds, -1: not before one of these. */
int64_t rotation_turn(struct rotation *r);

/* After control has closed, since it holds a write of ours. NULL is fine. */
void rotation_free(struct rotation *r);
