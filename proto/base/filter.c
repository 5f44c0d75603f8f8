/* See filter.h. */
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/filter.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

#define VALUES_MAX  1000
#define PATTERN_MAX 128 /* of a regular expression */

static int take_values(const char *key, const json_t *given, struct arena *a, struct filter *f, struct err *e)
{
    size_t count = json_is_array(given) ? json_array_size(given) : json_object_size(given), at = 0;
    const char *name;
    json_t *item;

    if (!json_is_array(given) && !json_is_object(given))
        return err_set(e, ERR_INVALID, "invalid filter '%.64s': a list of values is expected", key);
    if (count > VALUES_MAX)
        return err_set(e, ERR_INVALID, "invalid filter '%.64s': more than %d values", key, VALUES_MAX);
    f->key = arena_strdup(a, key);
    f->values = arena_array(a, count, sizeof(*f->values));
    if (json_is_object(given)) { /* the old form: those that are not true do not count */
        json_object_foreach((json_t *)given, name, item) if (json_is_true(item)) f->values[f->count++] =
            arena_strdup(a, name);
        return 0;
    }
    json_array_foreach(given, at, item)
    {
        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item))
            return err_set(e, ERR_INVALID, "invalid filter '%.64s': values must be texts", key);
        f->values[f->count++] = arena_strdup(a, json_string_value(item));
    }
    return 0;
}

static bool is_known(const char *const *known, const char *key)
{
    for (; *known; known++)
        if (strcmp(*known, key) == 0)
            return true;
    return false;
}

int filters_parse(const char *text, const char *const *known, struct arena *a, struct filters *ret, struct err *e)
{
    AUTO_JSON json_t *root = NULL;
    struct filters f = {0};
    const char *key;
    json_t *given;

    *ret = f;
    if (!text || !*text)
        return 0;
    int rc = jread_parse(text, strlen(text), &root, e);
    if (rc < 0)
        return err_wrap(e, "invalid filters");
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "invalid filters: an object is expected");
    f.items = arena_array(a, json_object_size(root), sizeof(*f.items));
    json_object_foreach(root, key, given)
    {
        if (!is_known(known, key))
            return filter_invalid(key, NULL, e);
        if (json_is_null(given))
            continue;
        rc = take_values(key, given, a, &f.items[f.count], e);
        if (rc < 0)
            return rc;
        f.count += f.items[f.count].count > 0;
    }
    *ret = f;
    return 0;
}

const struct filter *filters_get(const struct filters *f, const char *key)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->items[i].key, key) == 0)
            return &f->items[i];
    return NULL;
}

bool filters_exact(const struct filters *f, const char *key, const char *value)
{
    const struct filter *one = filters_get(f, key);

    for (size_t i = 0; one && i < one->count; i++)
        if (strcmp(one->values[i], value) == 0)
            return true;
    return !one;
}

/* A pattern that could cost more than it is worth (bounds nest) or is none is only compared as text. */
static bool matches(const char *pattern, const char *value)
{
    regex_t compiled;

    if (strstr(value, pattern))
        return true;
    if (!strpbrk(pattern, "^$.*+?()[]|\\") || strchr(pattern, '{') || strlen(pattern) > PATTERN_MAX)
        return false;
    if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool found = regexec(&compiled, value, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

bool filters_like(const struct filters *f, const char *key, const char *value)
{
    const struct filter *one = filters_get(f, key);

    for (size_t i = 0; one && i < one->count; i++)
        if (matches(one->values[i], value))
            return true;
    return !one;
}

bool filters_labels(const struct filters *f, const char *key, const char *(*value_of)(void *ctx, const char *name),
                    void *ctx)
{
    const struct filter *one = filters_get(f, key);

    for (size_t i = 0; one && i < one->count; i++) {
        const char *wanted = one->values[i], *equals = strchr(wanted, '=');
        AUTO_FREE
        char *name = mem_strndup(wanted, equals ? (size_t)(equals - wanted) : strlen(wanted));
        const char *value = value_of(ctx, name);

        if (!value || (equals && strcmp(value, equals + 1) != 0))
            return false;
    }
    return true;
}

int filter_invalid(const char *key, const char *value, struct err *e)
{
    return value ? err_set(e, ERR_INVALID, "invalid filter '%.64s=%.200s'", key, value)
                 : err_set(e, ERR_INVALID, "invalid filter '%.64s'", key);
}

int filters_bool(const struct filters *f, const char *key, bool *ret, struct err *e)
{
    const struct filter *one = filters_get(f, key);
    const char *value = one ? one->values[0] : NULL;

    if (!one)
        return 0;
    if (one->count != 1)
        return filter_invalid(key, NULL, e);
    if (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0)
        *ret = true;
    else if (strcmp(value, "0") == 0 || strcasecmp(value, "false") == 0)
        *ret = false;
    else
        return filter_invalid(key, value, e);
    return 0;
}

/* --- times --------------------------------------------------------------------------------------- */

static bool take_digits(const char **at, int64_t most, int64_t *ret)
{
    int64_t value = 0;

    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at); (*at)++) {
        value = value * 10 + (**at - '0');
        if (value > most)
            return false;
    }
    *ret = value;
    return true;
}

/* ".25" as nanoseconds. */
static int64_t take_fraction(const char **at)
{
    int64_t nanos = 0, unit = 100000000;

    if (**at != '.')
        return 0;
    for ((*at)++; isdigit((unsigned char)**at); (*at)++, unit /= 10)
        nanos += (**at - '0') * unit;
    return nanos;
}

static bool parse_duration(const char *text, int64_t *ret_ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1},         {"us", 1000},       {"ms", 1000000},
                 {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000}};
    int64_t total = 0;

    if (!*text)
        return false;
    while (*text) {
        int64_t whole = 0;
        size_t i = 0;

        if (!take_digits(&text, 1000000, &whole))
            return false;
        int64_t part = take_fraction(&text);
        size_t length = strcspn(text, "0123456789.");
        while (i < ARRAY_SIZE(units) &&
               (strlen(units[i].name) != length || strncmp(text, units[i].name, length) != 0))
            i++;
        if (i == ARRAY_SIZE(units))
            return false;
        text += length;
        total += whole * units[i].ns + (int64_t)((double)part / 1e9 * (double)units[i].ns);
        if (total > INT64_MAX / 4)
            return false;
    }
    *ret_ns = total;
    return true;
}

static bool parse_seconds(const char *text, int64_t *ret_ns)
{
    int64_t whole = 0;

    if (!take_digits(&text, 9000000000, &whole))
        return false;
    int64_t part = take_fraction(&text);
    *ret_ns = whole * 1000000000 + part;
    return !*text;
}

/* A date alone, or a time without a zone. */
static bool parse_date(const char *text, int64_t *ret_ns)
{
    char full[64];
    size_t length = strlen(text);

    if (time_parse_ns(text, ret_ns))
        return true;
    if (length < 10 || length > 40)
        return false;
    (void)snprintf(full, sizeof(full), length == 10 ? "%sT00:00:00Z" : length == 16 ? "%s:00Z" : "%sZ", text);
    return time_parse_ns(full, ret_ns);
}

bool filter_time(const char *text, int64_t now_ns, int64_t *ret_ns)
{
    int64_t before;

    if (parse_seconds(text, ret_ns) || parse_date(text, ret_ns))
        return true;
    if (!parse_duration(text, &before))
        return false;
    *ret_ns = now_ns - before;
    return true;
}
