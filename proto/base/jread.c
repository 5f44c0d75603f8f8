/* See jread.h. */
#include <string.h>
#include <strings.h>

#include "proto/base/jread.h"

int jread_parse(const char *text, size_t length, json_t **ret_root, struct err *e)
{
    json_error_t why;
    size_t depth = 0;
    bool quoted = false;

    /* jansson recurses up to 2,048 levels, more than anything sensible needs. */
    for (size_t i = 0; i < length; i++) {
        if (quoted) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                quoted = false;
        } else if (text[i] == '"') {
            quoted = true;
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > JREAD_DEPTH_MAX)
                return err_set(e, ERR_INVALID, "invalid JSON: more than %d levels", JREAD_DEPTH_MAX);
        } else if ((text[i] == '}' || text[i] == ']') && depth) {
            depth--;
        }
    }
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!root)
        return err_set(e, ERR_INVALID, "invalid JSON: %s (line %d, column %d)", why.text, why.line, why.column);
    *ret_root = root;
    return 0;
}

json_t *jread_get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    if (!value && json_is_object(object)) {
        const char *name;
        json_t *member;

        json_object_foreach((json_t *)object, name, member)
        {
            if (strcasecmp(name, key) == 0) {
                value = member;
                break;
            }
        }
    }
    return json_is_null(value) ? NULL : value;
}

static int wrong(const json_t *value, const char *path, const char *key, const char *expected, struct err *e)
{
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    err_set(e, ERR_INVALID, "invalid %s%s%s: expected %s, got %.120s%s", path ? path : "", path ? "." : "", key,
            expected, shown ? shown : "?", shown && strlen(shown) > 120 ? "..." : "");
    free(shown);
    return ERR_INVALID;
}

int jread_string(const json_t *object, const char *path, const char *key, struct arena *a, char **ret,
                 struct err *e)
{
    json_t *value = jread_get(object, key);

    if (!value)
        return 0;
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return wrong(value, path, key, "a string", e);
    *ret = arena_strndup(a, json_string_value(value), json_string_length(value));
    return 0;
}

int jread_bool(const json_t *object, const char *path, const char *key, bool *ret, struct err *e)
{
    json_t *value = jread_get(object, key);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return wrong(value, path, key, "true or false", e);
    *ret = json_is_true(value);
    return 0;
}

int jread_int(const json_t *object, const char *path, const char *key, int64_t *ret, struct err *e)
{
    json_t *value = jread_get(object, key);

    if (!value)
        return 0;
    if (!json_is_integer(value))
        return wrong(value, path, key, "a whole number", e);
    *ret = json_integer_value(value);
    return 0;
}

int jread_uint(const json_t *object, const char *path, const char *key, uint64_t *ret, struct err *e)
{
    json_t *value = jread_get(object, key);

    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong(value, path, key, "a whole number of 0 or more", e);
    *ret = (uint64_t)json_integer_value(value);
    return 0;
}

int jread_double(const json_t *object, const char *path, const char *key, double *ret, struct err *e)
{
    json_t *value = jread_get(object, key);

    if (!value)
        return 0;
    if (!json_is_number(value))
        return wrong(value, path, key, "a number", e);
    *ret = json_number_value(value);
    return 0;
}

int jread_object(const json_t *object, const char *path, const char *key, json_t **ret, struct err *e)
{
    json_t *value = jread_get(object, key);

    if (value && !json_is_object(value))
        return wrong(value, path, key, "an object", e);
    *ret = value;
    return 0;
}

int jread_array(const json_t *object, const char *path, const char *key, json_t **ret, struct err *e)
{
    json_t *value = jread_get(object, key);

    if (value && !json_is_array(value))
        return wrong(value, path, key, "an array", e);
    *ret = value;
    return 0;
}

int jread_strings(const json_t *object, const char *path, const char *key, struct arena *a, char ***ret,
                  size_t *ret_count, struct err *e)
{
    json_t *array = NULL;
    int rc = jread_array(object, path, key, &array, e);

    if (rc < 0)
        return rc;
    size_t count = json_array_size(array);
    char **strings = arena_array(a, count, sizeof(*strings));
    for (size_t i = 0; i < count; i++) {
        json_t *value = json_array_get(array, i);

        if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
            return wrong(array, path, key, "an array of strings", e);
        strings[i] = arena_strndup(a, json_string_value(value), json_string_length(value));
    }
    *ret = strings;
    *ret_count = count;
    return 0;
}
