/* See prune.h. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/print.h"
#include "cli/prune.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

static void print_text(const json_t *item)
{
    printf("%s\n", json_is_string(item) ? json_string_value(item) : "");
}

int cli_prune(struct cli *cli, const struct args *args, const struct prune *p, const json_t *filters, struct err *e)
{
    AUTO_FREE
    char *question = mem_printf("%s\nAre you sure you want to continue?", p->warning);
    AUTO_FREE
    char *key = mem_printf("%sDeleted", p->title);
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *answer = NULL;
    char size[PRINT_TEXT];
    json_t *item;
    size_t i;

    if (!args_switch(args, "force") && !cli_confirm(question))
        return err_set(e, ERR_CANCELED, "cancelled");
    path_add(&path, "%s", p->path);
    cli_filter_query(&path, filters);
    int rc = cli_post(cli, &path, NULL, &answer, e);
    if (rc < 0)
        return rc;
    json_t *deleted = tree_get(answer, key);
    if (json_array_size(deleted))
        printf("Deleted %s:\n", p->title);
    json_array_foreach(deleted, i, item)
    {
        (p->print ? p->print : print_text)(item);
    }
    if (!p->tells_size)
        return 0;
    print_size((double)tree_int(answer, "SpaceReclaimed"), 4, size);
    printf("%sTotal reclaimed space: %s\n", json_array_size(deleted) ? "\n" : "", size);
    return 0;
}
