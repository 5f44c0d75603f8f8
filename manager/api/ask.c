/* What every request of the swarm API has, whatever its route: life, query, rendering (ask.h). On the node loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/ask.h"
#include "proto/base/mem.h"
#include "proto/wire/http_parse.h"

struct ask *ask_new(void)
{
    struct ask *k = mem_alloc(sizeof(*k));

    arena_init(&k->arena);
    arena_init(&k->scratch);
    return k;
}

void ask_free(struct ask *k)
{
    if (!k)
        return;
    buf_fini(&k->page.bytes);
    arena_fini(&k->scratch);
    arena_fini(&k->arena);
    free(k);
}

void ask_render(struct ask *k, struct buf *ret)
{
    if (k->page.render) {
        arena_reset(&k->scratch);
        k->page.render(k, ret);
        buf_clear(&k->page.bytes);
        return;
    }
    *ret = k->page.bytes;
    k->page.bytes = (struct buf){0};
}

/* --- queries ------------------------------------------------------------------------------------------- */

const char *ask_query(const struct ask *k, const char *key)
{
    for (size_t i = 0; i < k->parameter_count; i++)
        if (strcmp(k->parameters[i].name, key) == 0)
            return k->parameters[i].value;
    return NULL;
}

bool ask_query_bool(const struct ask *k, const char *key)
{
    return http_truth(ask_query(k, key));
}

int ask_query_version(const struct ask *k, const char *noun, uint64_t *ret, struct err *e)
{
    const char *text = ask_query(k, "version");
    char *end;

    errno = 0;
    unsigned long long value = text ? strtoull(text, &end, 10) : 0;
    if (!text || *text < '0' || *text > '9' || *end || errno)
        return err_set(e, ERR_INVALID, "invalid %s version '%.64s': %s", noun, text ? text : "",
                       text ? "it must be a number" : "it must be given");
    *ret = value;
    return 0;
}

int ask_filters(struct ask *k, const char *const *known, struct filters *ret, struct err *e)
{
    return filters_parse(ask_query(k, "filters"), known, &k->arena, ret, e);
}
