/* See prune.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/api/prune.h"
#include "engine/container/merge.h"
#include "proto/base/mem.h"

struct labels {
    KeyValue *const *pairs;
    size_t count;
};

static const char *label_of(void *ctx, const char *name)
{
    const struct labels *l = ctx;

    return key_value_get(l->pairs, l->count, name);
}

bool prune_take_with(struct api_call *c, const char *const *more, struct prune *ret)
{
    const char *known[8] = {"until", "label", "label!"};
    size_t count = 3;
    struct err e;

    for (; more && *more; more++)
        known[count++] = *more;
    *ret = (struct prune){0};
    if (!api_filters(c, known, &ret->f))
        return false;
    const struct filter *until = filters_get(&ret->f, "until");
    if (until && (until->count != 1 || !filter_time(until->values[0], engine_now_ns(), &ret->until_ns))) {
        filter_invalid("until", until->values[0], &e);
        api_error(c, &e);
        return false;
    }
    return true;
}

bool prune_take(struct api_call *c, struct prune *ret)
{
    return prune_take_with(c, NULL, ret);
}

bool prune_holds(const struct prune *p, int64_t created_ns, KeyValue *const *labels, size_t count)
{
    struct labels l = {labels, count};
    const struct filter *without = filters_get(&p->f, "label!");

    if (p->until_ns && created_ns >= p->until_ns)
        return false;
    if (!filters_labels(&p->f, "label", label_of, &l))
        return false;
    return !without || !filters_labels(&p->f, "label!", label_of, &l);
}

void prune_event(struct engine *en, const char *type, int64_t reclaimed)
{
    char text[24];
    struct event_attribute about = {"reclaimed", text};

    (void)snprintf(text, sizeof(text), "%" PRId64, reclaimed);
    engine_event(en, type, "prune", "", &about, 1);
}
