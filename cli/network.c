/* Networks: `shoal network ls` and `inspect`, and the group. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/list.h"
#include "cli/network.h"
#include "cli/print.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

static void show_network_id(const struct row *row, struct buf *out)
{
    show_id(row, tree_text(row->object, "Id"), out);
}

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

static void put_bool(struct buf *out, bool value)
{
    buf_append_str(out, value ? "true" : "false");
}

static void show_ipv4(const struct row *row, struct buf *out)
{
    put_bool(out, tree_bool(row->object, "EnableIPv4"));
}

static void show_ipv6(const struct row *row, struct buf *out)
{
    put_bool(out, tree_bool(row->object, "EnableIPv6"));
}

static void show_internal(const struct row *row, struct buf *out)
{
    put_bool(out, tree_bool(row->object, "Internal"));
}

static void show_created_at(const struct row *row, struct buf *out)
{
    print_moment(out, tree_text(row->object, "Created"));
}

static const struct column columns[] = {
    {"CreatedAt", "CREATED AT", show_created_at, false},
    {"Driver", "DRIVER", show_driver, false},
    {"ID", "NETWORK ID", show_network_id, false},
    {"IPv4", "IPV4", show_ipv4, false},
    {"IPv6", "IPV6", show_ipv6, false},
    {"Internal", "INTERNAL", show_internal, false},
    {"Labels", "LABELS", show_labels, false},
    {"Name", "NAME", show_name, false},
    {"Scope", "SCOPE", show_scope, false},
};

static const struct list_kind networks = {
    .noun = "network",
    .columns = columns,
    .columns_count = ARRAY_SIZE(columns),
    .table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    .quiet = "{{.ID}}",
    .raw = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    .raw_quiet = "network_id: {{.ID}}",
    .labels = "Labels",
};

static const struct option ls_options[] = {
    {.name = "filter", .letter = 'f', .type = &option_filter, .help = "Only those that match: driver=bridge, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids in full"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids"},
    {0}};

static int run_ls(struct cli *cli, const struct args *args, struct err *e)
{
    bool quiet = args_switch(args, "quiet");
    const char *format = args_text(args, "format");
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_JSON json_t *array = NULL;
    struct list list;
    json_t *network;
    size_t i;

    if (!*format && !quiet)
        format = cli_config(cli, "networksFormat");
    int rc = list_open(&list, &networks, format, quiet, !args_switch(args, "no-trunc"), e);
    path_add(&path, "/networks");
    cli_filter_query(&path, filters);
    if (rc == 0)
        rc = cli_get(cli, &path, &array, e);
    list_sort(array, "Name");
    json_array_foreach(array, i, network)
    {
        if (rc == 0)
            rc = list_add(&list, network, NULL, e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    return rc;
}

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT},
    {.name = "verbose", .letter = 'v', .type = &option_switch, .help = "With the services and tasks on it"},
    {0}};

static int get_network(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret,
                       struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid network name or ID: value is empty");
    path_add(&path, "/networks/%s", name);
    if (args_switch(context, "verbose"))
        path_query(&path, "verbose", "true");
    return cli_get_raw(cli, &path, raw, ret, e);
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    return inspect_run(cli, args, get_network, (void *)args, e);
}

static const struct command inspect = {.name = "inspect",
                                       .usage = "[OPTIONS] NETWORK [NETWORK...]",
                                       .summary = "Show everything about networks",
                                       .options = {inspect_options},
                                       .words_min = 1,
                                       .words_max = -1,
                                       .run = run_inspect};
static const struct command ls = {.name = "ls",
                                  .alias = {"list"},
                                  .usage = "[OPTIONS]",
                                  .summary = "List networks",
                                  .options = {ls_options},
                                  .run = run_ls};

static const struct command *const children[] = {
    &network_connect, &network_create, &network_disconnect, &inspect, &ls, &network_prune, &network_rm, NULL};

const struct command command_network = {.name = "network",
                                        .summary = "Manage networks",
                                        .words_max = -1,
                                        .section = SECTION_MANAGEMENT,
                                        .children = children};
