/* What the prune requests share: the filters until, label and label!. */
#pragma once

#include "engine/api/api.h"

struct prune {
    struct filters f;
    int64_t until_ns; /* made before; 0: any time */
};

/* Take the filters; false when an error was answered. `more` (NULL-terminated, may be NULL) are further keys. */
bool prune_take_with(struct api_call *c, const char *const *more, struct prune *ret);
bool prune_take(struct api_call *c, struct prune *ret);

/* Whether something made then, with these labels (sorted), may go. */
bool prune_holds(const struct prune *p, int64_t created_ns, KeyValue *const *labels, size_t count);

/* Tell listeners that a prune of this type has ended. */
void prune_event(struct engine *en, const char *type, int64_t reclaimed);
