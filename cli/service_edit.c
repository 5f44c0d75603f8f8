/* See service_edit.h. */
#include <string.h>

#include "cli/service_edit.h"
#include "cli/spec.h"
#include "proto/base/mem.h"

bool edit_names(const struct args *args, const char *option, const char *text)
{
    const char *given;

    for (size_t at = 0; (given = args_next(args, option, &at));)
        if (strcmp(given, text) == 0)
            return true;
    return false;
}

bool edit_asks(const struct args *args, const char *const *options)
{
    for (; *options; options++)
        if (args_has(args, *options))
            return true;
    return false;
}

/* Keep the elements for which `drop` is false. */
void edit_filter(json_t *array, bool (*drop)(const json_t *element, void *context), void *context)
{
    for (size_t i = json_array_size(array); i-- > 0;)
        if (drop(json_array_get(array, i), context))
            json_array_remove(array, i);
}

/* --- maps and lists of texts ------------------------------------------------------------------------------------
 */

/* X-rm takes keys away (also "key=value"), X-add sets them. */
void edit_map(json_t *parent, const char *member, const struct args *args, const char *rm, const char *add)
{
    AUTO_JSON json_t *added = spec_map(args, add);
    const char *text;

    if (!args_has(args, rm) && !args_has(args, add))
        return;
    json_t *object = tree_object(parent, member);
    for (size_t at = 0; (text = args_next(args, rm, &at));) {
        AUTO_FREE
        char *key = mem_strndup(text, strcspn(text, "="));

        if (json_object_del(object, text) < 0)
            (void)json_object_del(object, key); /* one that does not exist is gone already */
    }
    (void)json_object_update(object, added); /* both are objects */
}

/* X-add appends, X-rm takes away; sorted and without doubles, so that the same wish gives the same spec. */
void edit_texts(json_t *parent, const char *member, const struct args *args, const char *add, const char *rm)
{
    json_t *old, *kept, *element;
    const char *text;
    size_t i;

    if (!args_has(args, rm) && !args_has(args, add))
        return;
    old = tree_array(parent, member);
    for (size_t at = 0; (text = args_next(args, add, &at));)
        tree_append_text(old, text);
    kept = json_array();
    json_array_foreach(old, i, element)
    {
        text = json_string_value(element);
        if (text && !edit_names(args, rm, text) && !spec_holds(kept, text))
            tree_append_text(kept, text);
    }
    spec_sort(kept);
    tree_put(parent, member, kept);
}
