/* Reading JSON: any text is refused or becomes a tree of bounded depth, every getter answers for every member, and
 * what is written of it is read again as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/jread.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void ask_everything(const json_t *object, struct arena *a)
{
    const char *key;
    json_t *member;

    json_object_foreach((json_t *)object, key, member)
    {
        json_t *part = NULL;
        char *text = NULL, **texts = NULL;
        size_t count = 0;
        int64_t i = 0;
        uint64_t u = 0;
        double d = 0;
        bool b = false;
        struct err e = {0};

        must(jread_get(object, key) == (json_is_null(member) ? NULL : member));
        (void)jread_string(object, "path", key, a, &text, &e);
        (void)jread_int(object, NULL, key, &i, &e);
        (void)jread_uint(object, NULL, key, &u, &e);
        (void)jread_double(object, NULL, key, &d, &e);
        (void)jread_bool(object, NULL, key, &b, &e);
        (void)jread_object(object, NULL, key, &part, &e);
        (void)jread_array(object, NULL, key, &part, &e);
        (void)jread_strings(object, NULL, key, a, &texts, &count, &e);
        must(strlen(e.text) < sizeof(e.text));
        for (size_t k = 0; k < count; k++)
            must(strlen(texts[k]) <= json_string_length(json_array_get(part, k)));
    }
}

static void walk(const json_t *value, struct jwrite *j, const char *key, struct arena *a, int depth)
{
    const char *name;
    json_t *member;
    size_t i;

    must(depth <= JREAD_DEPTH_MAX);
    if (json_is_object(value)) {
        ask_everything(value, a);
        jwrite_object(j, key);
        json_object_foreach((json_t *)value, name, member) walk(member, j, name, a, depth + 1);
        jwrite_end(j);
    } else if (json_is_array(value)) {
        jwrite_array(j, key);
        json_array_foreach((json_t *)value, i, member) walk(member, j, NULL, a, depth + 1);
        jwrite_end(j);
    } else if (json_is_string(value)) {
        jwrite_string_n(j, key, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        jwrite_int(j, key, json_integer_value(value));
    } else if (json_is_real(value)) {
        jwrite_double(j, key, json_real_value(value));
    } else if (json_is_boolean(value)) {
        jwrite_bool(j, key, json_is_true(value));
    } else {
        jwrite_null(j, key);
    }
}

/* Whole reals are written as whole numbers; but for that the trees are equal. */
static bool same(const json_t *a, const json_t *b)
{
    const char *name;
    json_t *member;
    size_t i;

    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_object(a)) {
        json_object_foreach((json_t *)a, name, member)
        {
            const json_t *other = json_object_get(b, name);

            if (!other || !same(member, other))
                return false;
        }
        return json_object_size(a) == json_object_size(b);
    }
    if (json_is_array(a)) {
        json_array_foreach((json_t *)a, i,
                           member) if (!json_array_get(b, i) || !same(member, json_array_get(b, i))) return false;
        return json_array_size(a) == json_array_size(b);
    }
    return json_equal((json_t *)a, (json_t *)b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *root = NULL;
    AUTO_JSON json_t *again = NULL;
    AUTO_BUF struct buf out = {0};
    AUTO_ARENA struct arena a;
    struct jwrite j = JWRITE_TO(&out);
    struct err e = {0};
    char *copy = mem_dup(data, size); /* so that reads beyond it are seen */

    arena_init(&a);
    int rc = jread_parse(copy, size, &root, &e);
    free(copy);
    if (rc < 0) {
        must(rc == ERR_INVALID && e.text[0] && !root);
        return 0;
    }
    walk(root, &j, NULL, &a, 0);
    must(jread_parse(buf_str(&out), out.length, &again, &e) == 0);
    must(same(root, again));
    return 0;
}
