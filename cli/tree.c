/* See tree.h. */
#include <stdlib.h>
#include <string.h>

#include "cli/tree.h"
#include "proto/base/mem.h"

#define KEY_MAX 128

/* The next name of a dotted path; moves past it. Names are ours, so they fit. */
static const char *next_name(const char **path, char name[KEY_MAX])
{
    size_t length = strcspn(*path, ".");

    if (length >= KEY_MAX)
        abort();
    memcpy(name, *path, length);
    name[length] = '\0';
    *path += length + ((*path)[length] == '.');
    return name;
}

json_t *tree_get(const json_t *root, const char *path)
{
    json_t *at = (json_t *)root;
    char name[KEY_MAX];

    while (at && *path)
        at = jread_get(at, next_name(&path, name));
    return json_is_null(at) ? NULL : at;
}

const char *tree_text(const json_t *root, const char *path)
{
    const char *text = json_string_value(tree_get(root, path));

    return text ? text : "";
}

int64_t tree_int(const json_t *root, const char *path)
{
    json_t *value = tree_get(root, path);

    if (json_is_integer(value))
        return json_integer_value(value);
    double real = json_real_value(value);
    return real >= -9e18 && real <= 9e18 ? (int64_t)real : 0;
}

double tree_real(const json_t *root, const char *path)
{
    return json_number_value(tree_get(root, path));
}

bool tree_bool(const json_t *root, const char *path)
{
    return json_is_true(tree_get(root, path));
}

static json_t *make(json_t *root, const char *path, bool array)
{
    char name[KEY_MAX];

    while (*path) {
        next_name(&path, name);
        json_t *child = json_object_get(root, name);
        bool last_array = array && !*path;

        if (last_array ? !json_is_array(child) : !json_is_object(child)) {
            child = last_array ? json_array() : json_object();
            tree_put(root, name, child);
        }
        root = child;
    }
    return root;
}

json_t *tree_object(json_t *root, const char *path)
{
    return make(root, path, false);
}

json_t *tree_array(json_t *root, const char *path)
{
    return make(root, path, true);
}

void tree_put(json_t *object, const char *key, json_t *value)
{
    if (!value || json_object_set_new_nocheck(object, key, value) < 0)
        abort(); /* out of memory, or a bug: `object` is none */
}

void tree_append(json_t *array, json_t *value)
{
    if (!value || json_array_append_new(array, value) < 0)
        abort();
}

/* Texts come from command lines and may hold any bytes; JSON holds UTF-8, and jwrite replaces what is not. */
static json_t *text_value(const char *value)
{
    return json_stringn_nocheck(value, strlen(value));
}

void tree_put_text(json_t *object, const char *key, const char *value)
{
    tree_put(object, key, text_value(value));
}

void tree_put_int(json_t *object, const char *key, int64_t value)
{
    tree_put(object, key, json_integer(value));
}

void tree_put_bool(json_t *object, const char *key, bool value)
{
    tree_put(object, key, json_boolean(value));
}

void tree_append_text(json_t *array, const char *value)
{
    tree_append(array, text_value(value));
}

void tree_write(struct jwrite *j, const char *key, const json_t *value)
{
    const char *name;
    json_t *member;
    size_t i;

    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        jwrite_object(j, key);
        json_object_foreach((json_t *)value, name, member)
        {
            tree_write(j, name, member);
        }
        jwrite_end(j);
        break;
    case JSON_ARRAY:
        jwrite_array(j, key);
        json_array_foreach(value, i, member)
        {
            tree_write(j, NULL, member);
        }
        jwrite_end(j);
        break;
    case JSON_STRING:
        jwrite_string_n(j, key, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        jwrite_int(j, key, json_integer_value(value));
        break;
    case JSON_REAL:
        jwrite_double(j, key, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        jwrite_bool(j, key, json_is_true(value));
        break;
    case JSON_NULL:
        jwrite_null(j, key);
        break;
    }
}

static void break_line(struct buf *out, unsigned indent, size_t depth)
{
    if (!indent)
        return;
    buf_append_char(out, '\n');
    for (size_t i = 0; i < indent * depth; i++)
        buf_append_char(out, ' ');
}

/* Length of the string that begins at text[0] == '"', quotes included. */
static size_t string_length(const char *text, size_t left)
{
    size_t at = 1;

    while (at < left && text[at] != '"')
        at += text[at] == '\\' ? 2 : 1;
    return MIN(at + 1, left);
}

void tree_indent(struct buf *out, const char *text, size_t length, unsigned indent)
{
    size_t depth = 0;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (c == '"') {
            size_t size = string_length(text + i, length - i);

            buf_append(out, text + i, size);
            i += size - 1;
        } else if (c == '{' || c == '[') {
            size_t next = i + 1;

            while (next < length && strchr(" \t\r\n", text[next]))
                next++;
            buf_append_char(out, c);
            if (next < length && (text[next] == '}' || text[next] == ']')) {
                buf_append_char(out, text[next]);
                i = next;
            } else {
                break_line(out, indent, ++depth);
            }
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
            break_line(out, indent, depth);
            buf_append_char(out, c);
        } else if (c == ',') {
            buf_append_char(out, c);
            break_line(out, indent, depth);
        } else if (c == ':') {
            buf_append_str(out, indent ? ": " : ":");
        } else if (!strchr(" \t\r\n", c)) {
            buf_append_char(out, c);
        }
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void tree_sorted(const json_t *object, void (*each)(void *context, const char *name, json_t *value), void *context)
{
    size_t count = json_object_size(object), i = 0;
    AUTO_FREE
    const char **names = mem_array(count, sizeof(*names));
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)object, name, value)
    {
        names[i++] = name;
    }
    qsort(names, count, sizeof(*names), by_name);
    for (i = 0; i < count; i++)
        each(context, names[i], json_object_get(object, names[i]));
}
