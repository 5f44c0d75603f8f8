/* See read_fields.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/api/read_fields.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

#define LIST_MAX 10000 /* entries of any list or map */

/* --- what is refused ----------------------------------------------------------------------------- */

/* Whether a member says anything: not null, false, 0, "", [] or {}, and nothing but such. */
bool read_says_something(const json_t *value)
{
    const char *key;
    json_t *item;
    size_t at;

    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_TRUE:
        return true;
    case JSON_INTEGER:
        return json_integer_value(value) != 0;
    case JSON_REAL:
        return json_real_value(value) != 0;
    case JSON_STRING:
        return json_string_length(value) != 0;
    case JSON_ARRAY:
        json_array_foreach(value, at, item) if (read_says_something(item)) return true;
        return false;
    case JSON_OBJECT:
        json_object_foreach((json_t *)value, key, item) if (read_says_something(item)) return true;
        return false;
    default:
        return false;
    }
}
void read_value_text(const json_t *value, char ret[READ_VALUE_TEXT])
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    size_t length = text ? strlen(text) : 0;

    if (length < READ_VALUE_TEXT)
        memcpy(ret, text ? text : "", length + 1);
    else
        (void)snprintf(ret, READ_VALUE_TEXT, "%.*s...", READ_VALUE_TEXT - 4, text);
    free(text);
}

int read_refuse(const json_t *object, const char *path, const char *const *keys, int code, const char *why,
                struct err *e)
{
    char text[READ_VALUE_TEXT];

    for (; *keys; keys++) {
        const json_t *value = jread_get(object, *keys);

        if (!read_says_something(value))
            continue;
        read_value_text(value, text);
        return err_set(e, code, "%s%s%s (%s) %s", path ? path : "", path ? "." : "", *keys, text, why);
    }
    return 0;
}

/* --- values -------------------------------------------------------------------------------------- */

int read_out_of_range(const char *path, const char *key, int64_t value, struct err *e)
{
    return err_set(e, ERR_INVALID, "invalid %s%s%s: %lld is out of range", path ? path : "", path ? "." : "", key,
                   (long long)value);
}

static int by_key(const void *one, const void *other)
{
    return strcmp((*(KeyValue *const *)one)->key, (*(KeyValue *const *)other)->key);
}

int read_too_many(const json_t *list, const char *path, const char *key, struct err *e)
{
    size_t count = json_is_array(list) ? json_array_size(list) : json_object_size(list);

    if (count <= LIST_MAX)
        return 0;
    return err_set(e, ERR_INVALID, "invalid %s%s%s: more than %d entries", path ? path : "", path ? "." : "", key,
                   LIST_MAX);
}

int read_map(struct reading *r, const json_t *object, const char *path, const char *key, KeyValue ***ret,
             size_t *ret_count, struct err *e)
{
    json_t *map = NULL, *value;
    const char *name;
    int rc = jread_object(object, path, key, &map, e);

    if (rc < 0 || read_too_many(map, path, key, e) < 0)
        return ERR_INVALID;
    *ret = arena_array(r->a, json_object_size(map), sizeof(**ret));
    *ret_count = 0;
    json_object_foreach(map, name, value)
    {
        KeyValue *pair = ARENA_NEW(r->a, KeyValue);

        if (!json_is_string(value) && !json_is_null(value))
            return err_set(e, ERR_INVALID, "invalid %s%s%s: the value of \"%.120s\" must be a string",
                           path ? path : "", path ? "." : "", key, name);
        key_value__init(pair);
        pair->key = arena_strdup(r->a, name);
        pair->value = arena_strdup(r->a, json_is_string(value) ? json_string_value(value) : "");
        (*ret)[(*ret_count)++] = pair;
    }
    if (*ret_count)
        qsort(*ret, *ret_count, sizeof(**ret), by_key);
    return 0;
}

static int by_text(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* {"80/tcp": {}}: the keys, sorted. */
static int read_keys(struct reading *r, const json_t *object, const char *path, const char *key, char ***ret,
                     size_t *ret_count, struct err *e)
{
    json_t *set = NULL, *value;
    const char *name;
    int rc = jread_object(object, path, key, &set, e);

    if (rc < 0 || read_too_many(set, path, key, e) < 0)
        return ERR_INVALID;
    *ret = arena_array(r->a, json_object_size(set), sizeof(**ret));
    *ret_count = 0;
    json_object_foreach(set, name, value)
    {
        if (!json_is_object(value) && !json_is_null(value))
            return err_set(e, ERR_INVALID, "invalid %s%s%s: the value of \"%.120s\" must be {}", path ? path : "",
                           path ? "." : "", key, name);
        (*ret)[(*ret_count)++] = arena_strdup(r->a, name);
    }
    if (*ret_count)
        qsort(*ret, *ret_count, sizeof(**ret), by_text);
    return 0;
}

static int read_number(const json_t *object, const char *path, const struct field *f, char *into, struct err *e)
{
    int64_t value = 0;
    int rc = jread_int(object, path, f->key, &value, e);

    if (rc < 0)
        return rc;
    if (f->kind == INT32 && (value < INT32_MIN || value > INT32_MAX))
        return read_out_of_range(path, f->key, value, e);
    if (f->kind == UINT32 && (value < 0 || value > UINT32_MAX))
        return read_out_of_range(path, f->key, value, e);
    *(protobuf_c_boolean *)(into + f->beside) = true;
    if (f->kind == INT64)
        *(int64_t *)(into + f->value) = value;
    else if (f->kind == INT32)
        *(int32_t *)(into + f->value) = (int32_t)value;
    else
        *(uint32_t *)(into + f->value) = (uint32_t)value;
    return 0;
}

static int read_field(struct reading *r, const json_t *object, const char *path, const struct field *f, char *into,
                      struct err *e)
{
    bool flag = false;
    size_t *count = (size_t *)(into + f->beside);
    int rc;

    if (!jread_get(object, f->key))
        return 0;
    switch (f->kind) {
    case TEXT:
        return jread_string(object, path, f->key, r->a, (char **)(into + f->value), e);
    case FLAG:
        rc = jread_bool(object, path, f->key, &flag, e);
        *(protobuf_c_boolean *)(into + f->beside) = true;
        *(protobuf_c_boolean *)(into + f->value) = flag;
        return rc;
    case TEXTS:
        rc = jread_strings(object, path, f->key, r->a, (char ***)(into + f->value), count, e);
        return rc < 0 ? rc : read_too_many(jread_get(object, f->key), path, f->key, e);
    case MAP:
        return read_map(r, object, path, f->key, (KeyValue ***)(into + f->value), count, e);
    case KEYS:
        return read_keys(r, object, path, f->key, (char ***)(into + f->value), count, e);
    default:
        return read_number(object, path, f, into, e);
    }
}

int read_fields(struct reading *r, const json_t *object, const char *path, const struct field *fields, void *into,
                struct err *e)
{
    for (; fields->key; fields++) {
        int rc = read_field(r, object, path, fields, into, e);

        if (rc < 0)
            return rc;
    }
    return 0;
}
