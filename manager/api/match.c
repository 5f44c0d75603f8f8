/* See match.h. */
#include <string.h>

#include "manager/api/match.h"

bool match_prefix(const struct filters *f, const char *key, const char *value)
{
    const struct filter *one = filters_get(f, key);

    for (size_t i = 0; one && i < one->count; i++)
        if (strncmp(one->values[i], value, strlen(one->values[i])) == 0)
            return true;
    return !one;
}

struct labels {
    KeyValue *const *items;
    size_t count;
};

static const char *value_of(void *ctx, const char *name)
{
    const struct labels *labels = ctx;

    for (size_t i = 0; i < labels->count; i++)
        if (strcmp(labels->items[i]->key, name) == 0)
            return labels->items[i]->value ? labels->items[i]->value : "";
    return NULL;
}

bool match_labels(const struct filters *f, const char *key, KeyValue *const *labels, size_t count)
{
    struct labels all = {labels, count};

    return filters_labels(f, key, value_of, &all);
}
