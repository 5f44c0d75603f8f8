/* See resolver.h. */
#include <stdlib.h>
#include <string.h>

#include "cli/resolver.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

struct resolver_name {
    char *id, *name;
};

void resolver_init(struct resolver *r, struct cli *cli, bool off)
{
    *r = (struct resolver){.cli = cli, .off = off};
}

void resolver_fini(struct resolver *r)
{
    struct resolver_name *entry;
    size_t at = 0;

    while ((entry = map_next(&r->names, &at))) {
        free(entry->id);
        free(entry->name);
        free(entry);
    }
    map_fini(&r->names);
}

static const char *resolve(struct resolver *r, const char *id, bool node)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *object = NULL;

    if (r->off || !*id)
        return id;
    struct resolver_name *entry = map_get(&r->names, id);
    if (entry)
        return entry->name;
    path_add(&path, node ? "/nodes/%s" : "/services/%s", id);
    if (!node)
        path_query(&path, "insertDefaults", "false");
    (void)cli_get(r->cli, &path, &object, NULL); /* what cannot be asked keeps its id */
    const char *name = tree_text(object, "Spec.Name");
    if (!*name && node)
        name = tree_text(object, "Description.Hostname");
    entry = mem_alloc(sizeof(*entry));
    entry->id = mem_strdup(id);
    entry->name = mem_strdup(*name ? name : id);
    map_put(&r->names, entry->id, entry);
    return entry->name;
}

const char *resolver_node(struct resolver *r, const char *id)
{
    return resolve(r, id, true);
}

const char *resolver_service(struct resolver *r, const char *id)
{
    return resolve(r, id, false);
}
