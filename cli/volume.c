/* Volumes: `shoal volume create, inspect, ls, prune, rm`. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/prune.h"
#include "cli/spec.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

/* --- ls ---------------------------------------------------------------------------------------------------------
 */

static void show_name(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Name"));
}

static void show_driver(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Driver"));
}

static void show_scope(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Scope"));
}

static void show_mountpoint(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Mountpoint"));
}

static void show_links(const struct row *row, struct buf *out)
{
    if (tree_get(row->object, "UsageData"))
        buf_printf(out, "%lld", (long long)tree_int(row->object, "UsageData.RefCount"));
    else
        buf_append_str(out, "N/A");
}

static void show_size(const struct row *row, struct buf *out)
{
    char text[PRINT_TEXT] = "N/A";

    if (tree_get(row->object, "UsageData"))
        print_size((double)tree_int(row->object, "UsageData.Size"), 4, text);
    buf_append_str(out, text);
}

/* Columns of cluster volumes, which this node does not offer. */
static void show_not_cluster(const struct row *row, struct buf *out)
{
    buf_append_str(out, "N/A");
}

static const struct column columns[] = {
    {"Availability", "AVAILABILITY", show_not_cluster, false},
    {"Driver", "DRIVER", show_driver, false},
    {"Group", "GROUP", show_not_cluster, false},
    {"Labels", "LABELS", show_labels, false},
    {"Links", "LINKS", show_links, false},
    {"Mountpoint", "MOUNTPOINT", show_mountpoint, false},
    {"Name", "VOLUME NAME", show_name, false},
    {"Scope", "SCOPE", show_scope, false},
    {"Size", "SIZE", show_size, false},
    {"Status", "STATUS", show_not_cluster, false},
};

static const struct list_kind volumes = {
    .noun = "volume",
    .columns = columns,
    .columns_count = ARRAY_SIZE(columns),
    .table = "{{.Driver}}\t{{.Name}}",
    .quiet = "{{.Name}}",
    .raw = "name: {{.Name}}\ndriver: {{.Driver}}\n",
    .raw_quiet = "name: {{.Name}}",
    .labels = "Labels",
};

static const struct option ls_options[] = {
    {.name = "filter", .letter = 'f', .type = &option_filter, .help = "Only those that match: dangling=true, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only names"},
    {0}};

static int run_ls(struct cli *cli, const struct args *args, struct err *e)
{
    bool quiet = args_switch(args, "quiet");
    const char *format = args_text(args, "format");
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_JSON json_t *answer = NULL;
    struct list list;
    json_t *volume;
    size_t i;

    if (!*format && !quiet)
        format = cli_config(cli, "volumesFormat");
    int rc = list_open(&list, &volumes, format, quiet, false, e);
    path_add(&path, "/volumes");
    cli_filter_query(&path, filters);
    if (rc == 0)
        rc = cli_get(cli, &path, &answer, e);
    json_t *array = tree_get(answer, "Volumes");
    list_sort(array, "Name");
    json_array_foreach(array, i, volume)
    {
        if (rc == 0)
            rc = list_add(&list, volume, NULL, e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    return rc;
}

/* --- create, rm, inspect, prune ---------------------------------------------------------------------------------
 */

static const struct option create_options[] = {
    {.name = "driver", .letter = 'd', .type = &option_string, .standard = "local", .help = "The volume's driver"},
    {.name = "label", .type = &option_labels, .help = "Set a label: key=value"},
    {.name = "name", .type = &option_string, .help = "The volume's name", .hidden = true},
    {.name = "opt", .letter = 'o', .type = &option_map, .help = "Set an option of the driver: key=value"},
    {0}};

static int run_create(struct cli *cli, const struct args *args, struct err *e)
{
    const char *name = args_text(args, "name");
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *body = json_object();
    AUTO_JSON json_t *answer = NULL;

    if (*name && args->words_count)
        return err_set(e, ERR_INVALID,
                       "conflicting options: cannot specify a volume-name through both --name and as a "
                       "positional arg");
    if (args->words_count)
        name = args->words[0];
    tree_put_text(body, "Driver", args_text(args, "driver"));
    spec_put_map(body, "DriverOpts", args, "opt");
    spec_put_map(body, "Labels", args, "label");
    if (*name)
        tree_put_text(body, "Name", name);
    path_add(&path, "/volumes/create");
    int rc = cli_post(cli, &path, body, &answer, e);
    if (rc == 0)
        printf("%s\n", tree_text(answer, "Name"));
    return rc;
}

static const struct option rm_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Do not mind when it does not exist"}, {0}};

static int remove_volume(struct cli *cli, const struct args *args, const char *name, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid volume name or ID: value is empty");
    path_add(&path, "/volumes/%s", name);
    if (args_switch(args, "force"))
        path_query(&path, "force", "1");
    return cli_delete(cli, &path, NULL, e);
}

static int run_rm(struct cli *cli, const struct args *args, struct err *e)
{
    for (size_t i = 0; i < args->words_count; i++) {
        struct err why = {0};

        if (remove_volume(cli, args, args->words[i], &why) < 0)
            cli_complain(cli, &why);
        else
            printf("%s\n", args->words[i]);
    }
    return 0;
}

static int get_volume(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret,
                      struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid volume name or ID: value is empty");
    path_add(&path, "/volumes/%s", name);
    return cli_get_raw(cli, &path, raw, ret, e);
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    return inspect_run(cli, args, get_volume, NULL, e);
}

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT}, {0}};

static const struct option prune_options[] = {
    {.name = "all",
     .letter = 'a',
     .type = &option_switch,
     .help = "Every volume that no container uses, not only anonymous ones"},
    {.name = "filter", .type = &option_filter, .help = "Only those that match: label=KEY"},
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Do not ask first"},
    {0}};

static int run_prune(struct cli *cli, const struct args *args, struct err *e)
{
    bool all = args_switch(args, "all");
    struct prune how = {.path = "/volumes/prune", .title = "Volumes", .tells_size = true};
    AUTO_JSON json_t *filters = cli_filters(args);

    if (all && json_object_get(filters, "all"))
        return err_set(e, ERR_INVALID, "conflicting options: cannot specify both --all and --filter all=1");
    if (all)
        cli_filter_add(filters, "all", "true");
    how.warning = all ? "WARNING! This will remove all local volumes not used by at least one container."
                      : "WARNING! This will remove anonymous local volumes not used by at least one container.";
    return cli_prune(cli, args, &how, filters, e);
}

static const struct command create = {.name = "create",
                                      .usage = "[OPTIONS] [VOLUME]",
                                      .summary = "Make a volume",
                                      .options = {create_options},
                                      .words_max = 1,
                                      .run = run_create};
static const struct command inspect = {.name = "inspect",
                                       .usage = "[OPTIONS] VOLUME [VOLUME...]",
                                       .summary = "Show everything about volumes",
                                       .options = {inspect_options},
                                       .words_min = 1,
                                       .words_max = -1,
                                       .run = run_inspect};
static const struct command ls = {.name = "ls",
                                  .alias = {"list"},
                                  .usage = "[OPTIONS]",
                                  .summary = "List volumes",
                                  .options = {ls_options},
                                  .run = run_ls};
static const struct command prune = {.name = "prune",
                                     .usage = "[OPTIONS]",
                                     .summary = "Remove volumes that nothing uses",
                                     .options = {prune_options},
                                     .run = run_prune};
static const struct command rm = {.name = "rm",
                                  .alias = {"remove"},
                                  .usage = "[OPTIONS] VOLUME [VOLUME...]",
                                  .summary = "Remove volumes",
                                  .options = {rm_options},
                                  .words_min = 1,
                                  .words_max = -1,
                                  .run = run_rm};

static const struct command *const children[] = {&create, &inspect, &ls, &prune, &rm, NULL};

const struct command command_volume = {.name = "volume",
                                       .summary = "Manage volumes",
                                       .words_max = -1,
                                       .section = SECTION_MANAGEMENT,
                                       .children = children};
