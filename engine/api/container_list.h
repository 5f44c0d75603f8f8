/* Which containers a list request means: its filters (reference/engine-surface.md section 18). */
#pragma once

#include "engine/api/api.h"
#include "engine/container/container.h"

struct selection { /* the filters, with what they name looked up once */
    struct filters f;
    struct engine *en;
    int64_t before_ns, since_ns; /* made before, after; 0: any time */
    bool all;                    /* also those that do not run */
};

/* Take the filters of GET /containers/json; false when an error was answered. */
bool selection_take(struct api_call *c, struct selection *ret);
bool selection_holds(const struct selection *s, const struct container *container);
