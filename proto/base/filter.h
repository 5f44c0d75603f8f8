/* The `filters` parameter of list requests (reference/engine-surface.md section 1): {"key":["v1","v2"]}, or the old
 * form {"key":{"v1":true}}. Values of one key are alternatives, keys must all hold; of labels every value must
 * hold. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

struct filter {
    const char *key;
    char **values;
    size_t count;
};

struct filters {
    struct filter *items;
    size_t count;
};

/* Parse; NULL and "" are no filters. `known` (NULL-terminated) lists the keys that may be used: another one is
 * ERR_INVALID "invalid filter 'x'". Everything lives in the arena. */
int filters_parse(const char *text, const char *const *known, struct arena *a, struct filters *ret, struct err *e);

/* The filter of that key, or NULL. */
const struct filter *filters_get(const struct filters *f, const char *key);

/* The key is absent, or one of its values is this one. */
bool filters_exact(const struct filters *f, const char *key, const char *value);

/* The key is absent, or one of its values occurs in this one: as text, or as a regular expression, as names are
 * filtered ("^web$"). */
bool filters_like(const struct filters *f, const char *key, const char *value);

/* The key is absent, or each of its values "name" or "name=value" is among the labels; value_of gives a label's
 * value or NULL. */
bool filters_labels(const struct filters *f, const char *key, const char *(*value_of)(void *ctx, const char *name),
                    void *ctx);

/* A filter that is true or false ("1", "true", "0", "false"); *ret is untouched when absent. */
int filters_bool(const struct filters *f, const char *key, bool *ret, struct err *e);

/* "invalid filter 'key=value'" */
int filter_invalid(const char *key, const char *value, struct err *e);

/* A time as clients give it: Unix seconds with a fraction, RFC 3339 (also without time or zone: UTC), or a duration
 * before now ("10m", "1h30m"). */
bool filter_time(const char *text, int64_t now_ns, int64_t *ret_ns);
