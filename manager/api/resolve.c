/* See resolve.h. A task is named "<service>.<slot>.<its id>": the id at the end finds it, and the name must fit. */
#include <inttypes.h>
#include <string.h>

#include "manager/api/resolve.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

#define MATCHES_MAX 100 /* counted at most, for the message */

static int not_found(enum kind k, const char *text, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "%s %.200s not found", kind_name(k), text);
}

static int choose(enum kind k, const char *text, const uint64_t *matches, size_t count, uint64_t *ret,
                  struct err *e)
{
    if (count > 1)
        return err_set(e, ERR_INVALID, "%s %.200s is ambiguous (%zu matches found)", kind_name(k), text, count);
    *ret = matches[0];
    return 0;
}

/* Whether the task's name, without the id at its end, is this one. */
static bool is_task_named(struct view *v, uint64_t number, const char *name, size_t length)
{
    AUTO_ARENA struct arena a;
    struct object task, service, node;

    arena_init(&a);
    if (view_get(v, KIND_TASK, number, &a, &task) < 0)
        return false;
    const Task *t = (const Task *)task.message;
    if (view_get(v, KIND_SERVICE, t->service, &a, &service) < 0)
        return false;
    const char *service_name = ((const Service *)service.message)->name;
    char node_id[IDENT_TEXT + 1] = "";
    if (!t->slot && view_get(v, KIND_NODE, t->node, &a, &node) == 0)
        ident_format(((const Node *)node.message)->id.data, node_id);
    const char *full = t->slot ? arena_printf(&a, "%s.%" PRIu64 ".", service_name, t->slot)
                               : arena_printf(&a, "%s.%s.", service_name, node_id);
    return strlen(full) == length && strncmp(full, name, length) == 0;
}

static uint64_t find_task_name(struct view *v, const char *text)
{
    size_t length = strlen(text);
    uint8_t id[IDENT_BYTES];

    if (length <= IDENT_TEXT || !ident_parse(text + length - IDENT_TEXT, id))
        return 0;
    uint64_t number = view_find_id(v, KIND_TASK, id);
    return number && is_task_named(v, number, text, length - IDENT_TEXT) ? number : 0;
}

int resolve(struct view *v, enum kind k, const char *text, uint64_t *ret, struct err *e)
{
    uint64_t matches[MATCHES_MAX];
    uint8_t id[IDENT_BYTES];
    size_t count;

    if (ident_parse(text, id) && (matches[0] = view_find_id(v, k, id)))
        return choose(k, text, matches, 1, ret, e);
    count = k == KIND_TASK ? (matches[0] = find_task_name(v, text)) != 0
                           : view_find_names(v, k, text, matches, MATCHES_MAX);
    if (count == 0)
        count = view_find_prefix(v, k, text, matches, MATCHES_MAX);
    return count ? choose(k, text, matches, count, ret, e) : not_found(k, text, e);
}

/* What was made in the same draft is found by its full id and name alone. */
int resolve_draft(struct store *s, struct draft *d, enum kind k, const char *text, struct object *ret,
                  struct err *e)
{
    uint8_t id[IDENT_BYTES];
    uint64_t number = ident_parse(text, id) ? draft_find_id(d, k, id) : 0;

    if (!number) {
        struct view *v = view_begin(s);
        int rc = resolve(v, k, text, &number, e);

        view_end(v);
        if (rc == ERR_NOT_FOUND)
            number = draft_find_name(d, k, text);
        else if (rc < 0)
            return rc;
    }
    return number && draft_get(d, k, number, ret) == 0 ? 0 : not_found(k, text, e);
}
