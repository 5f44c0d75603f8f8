/* Containers as rows: `shoal ps` and `shoal container ls`. The columns are docker's; each is a function of the
 * object that GET /containers/json gave. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/tree.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

static void show_container_id(const struct row *row, struct buf *out)
{
    show_id(row, tree_text(row->object, "Id"), out);
}

/* A tagged name without its digest, and an id cut as ids are. */
static void show_image(const struct row *row, struct buf *out)
{
    const char *image = tree_text(row->object, "Image");
    char cut_image[13], cut_id[13];
    AUTO_ARENA struct arena a;
    struct image_name name;

    arena_init(&a);
    if (!*image) {
        buf_append_str(out, "<no image>");
        return;
    }
    if (row->list->truncate) {
        cli_short_id(image, cut_image);
        if (strcmp(cli_short_id(tree_text(row->object, "ImageID"), cut_id), cut_image) == 0) {
            buf_append_str(out, cut_id);
            return;
        }
        if (image_name_parse(image, &a, &name, NULL) == 0)
            image = image_name_brief(&name, &a);
    }
    buf_append_str(out, image);
}

static void show_command(const struct row *row, struct buf *out)
{
    AUTO_BUF struct buf cut = {0};
    const char *command = tree_text(row->object, "Command");

    if (row->list->truncate) {
        print_ellipsis(&cut, command, 20);
        command = buf_str(&cut);
    }
    print_quoted(out, command);
}

static void show_created_at(const struct row *row, struct buf *out)
{
    show_local_time(tree_int(row->object, "Created"), out);
}

static void show_running_for(const struct row *row, struct buf *out)
{
    show_age(row, tree_int(row->object, "Created"), out);
}

/* The container's own name; names that links give it hold a slash and are shown only in full. */
static void show_names(const struct row *row, struct buf *out)
{
    json_t *names = tree_get(row->object, "Names"), *name;
    size_t i;

    json_array_foreach(names, i, name)
    {
        const char *text = json_is_string(name) ? json_string_value(name) : "";

        text += *text == '/';
        if (row->list->truncate && !strchr(text, '/')) {
            buf_append_str(out, text);
            return;
        }
    }
    json_array_foreach(names, i, name)
    {
        const char *text = json_is_string(name) ? json_string_value(name) : "";

        buf_printf(out, "%s%s", i ? "," : "", text + (*text == '/'));
    }
}

struct port {
    const char *address, *type;
    int64_t private_port, public_port;
};

static int by_port(const void *a, const void *b)
{
    const struct port *x = a, *y = b;
    int order;

    if (x->private_port != y->private_port)
        return x->private_port < y->private_port ? -1 : 1;
    order = strcmp(x->address, y->address);
    if (order)
        return order;
    if (x->public_port != y->public_port)
        return x->public_port < y->public_port ? -1 : 1;
    return strcmp(x->type, y->type);
}

/* "80/tcp", "8000-8002/tcp", "0.0.0.0:80->80/tcp", "[::]:8000-8001->8000-8001/tcp". */
static void put_port_group(struct buf *out, const struct port *first, int64_t last)
{
    char range[48];
    bool six = strchr(first->address, ':') != NULL;

    if (last == first->private_port)
        (void)snprintf(range, sizeof(range), "%lld", (long long)last);
    else
        (void)snprintf(range, sizeof(range), "%lld-%lld", (long long)first->private_port, (long long)last);
    buf_append_str(out, out->length ? ", " : "");
    if (*first->address)
        buf_printf(out, "%s%s%s:%s->", six ? "[" : "", first->address, six ? "]" : "", range);
    buf_printf(out, "%s/%s", range, first->type);
}

/* Neighbouring ports of one protocol (and address, when published under their own number) are one range. Those
 * published under another number come last, each for itself. */
static void show_ports(const struct row *row, struct buf *out)
{
    json_t *ports = tree_get(row->object, "Ports"), *value;
    size_t count = json_array_size(ports), i, groups = 0;
    AUTO_FREE
    struct port *list = mem_array(count, sizeof(*list));
    AUTO_FREE
    struct {
        const struct port *first;
        int64_t last;
    } *group = mem_array(count, sizeof(*group));
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf mapped = {0};

    json_array_foreach(ports, i, value)
    {
        list[i] = (struct port){.address = tree_text(value, "IP"),
                                .type = tree_text(value, "Type"),
                                .private_port = tree_int(value, "PrivatePort"),
                                .public_port = tree_int(value, "PublicPort")};
    }
    qsort(list, count, sizeof(*list), by_port);
    for (i = 0; i < count; i++) {
        const struct port *p = &list[i];
        size_t g = 0;

        if (*p->address && p->public_port != p->private_port) {
            bool six = strchr(p->address, ':') != NULL;

            buf_printf(&mapped, ", %s%s%s:%lld->%lld/%s", six ? "[" : "", p->address, six ? "]" : "",
                       (long long)p->public_port, (long long)p->private_port, p->type);
            continue;
        }
        while (g < groups &&
               (strcmp(group[g].first->type, p->type) != 0 || strcmp(group[g].first->address, p->address) != 0))
            g++;
        if (g < groups && p->private_port == group[g].last + 1) {
            group[g].last = p->private_port;
            continue;
        }
        if (g < groups)
            put_port_group(&text, group[g].first, group[g].last);
        groups += g == groups;
        group[g].first = p;
        group[g].last = p->private_port;
    }
    for (size_t g = 0; g < groups; g++)
        put_port_group(&text, group[g].first, group[g].last);
    buf_append(out, buf_bytes(&text), text.length);
    if (mapped.length)
        buf_append_str(out, buf_str(&mapped) + (text.length ? 0 : 2));
}

static void show_state(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "State"));
}

static void show_status(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Status"));
}

static void show_size(const struct row *row, struct buf *out)
{
    char own[PRINT_TEXT], all[PRINT_TEXT];
    int64_t whole = tree_int(row->object, "SizeRootFs");

    print_size((double)tree_int(row->object, "SizeRw"), 3, own);
    print_size((double)whole, 3, all);
    buf_append_str(out, own);
    if (whole > 0)
        buf_printf(out, " (virtual %s)", all);
}

static void show_mounts(const struct row *row, struct buf *out)
{
    json_t *mounts = tree_get(row->object, "Mounts"), *mount;
    size_t i;

    json_array_foreach(mounts, i, mount)
    {
        const char *name = tree_text(mount, "Name");

        if (!*name)
            name = tree_text(mount, "Source");
        if (i)
            buf_append_char(out, ',');
        if (row->list->truncate)
            print_ellipsis(out, name, 15);
        else
            buf_append_str(out, name);
    }
}

static void show_local_volumes(const struct row *row, struct buf *out)
{
    json_t *mounts = tree_get(row->object, "Mounts"), *mount;
    size_t i;
    int count = 0;

    json_array_foreach(mounts, i, mount)
    {
        count += strcmp(tree_text(mount, "Driver"), "local") == 0;
    }
    buf_printf(out, "%d", count);
}

static void show_networks(const struct row *row, struct buf *out)
{
    json_t *networks = tree_get(row->object, "NetworkSettings.Networks"), *network;
    const char *name, *comma = "";

    json_object_foreach(networks, name, network)
    {
        buf_printf(out, "%s%s", comma, name);
        comma = ",";
    }
}

static const struct column container_columns[] = {
    {"Command", "COMMAND", show_command, false},
    {"CreatedAt", "CREATED AT", show_created_at, false},
    {"ID", "CONTAINER ID", show_container_id, false},
    {"Image", "IMAGE", show_image, false},
    {"Labels", "LABELS", show_labels, false},
    {"LocalVolumes", "LOCAL VOLUMES", show_local_volumes, false},
    {"Mounts", "MOUNTS", show_mounts, false},
    {"Names", "NAMES", show_names, false},
    {"Networks", "NETWORKS", show_networks, false},
    {"Ports", "PORTS", show_ports, false},
    {"RunningFor", "CREATED", show_running_for, false},
    {"Size", "SIZE", show_size, false},
    {"State", "STATE", show_state, false},
    {"Status", "STATUS", show_status, false},
};

#define PS_TABLE "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
#define PS_RAW                                                                                      \
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n" \
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n"               \
    "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"

static const struct list_kind containers = {
    .noun = "container",
    .columns = container_columns,
    .columns_count = ARRAY_SIZE(container_columns),
    .table = PS_TABLE,
    .quiet = "{{.ID}}",
    .raw = PS_RAW,
    .raw_quiet = "container_id: {{.ID}}",
    .labels = "Labels",
};

static const struct list_kind containers_with_size = {
    .noun = "container",
    .columns = container_columns,
    .columns_count = ARRAY_SIZE(container_columns),
    .table = PS_TABLE "\t{{.Size}}",
    .quiet = "{{.ID}}",
    .raw = PS_RAW "size: {{.Size}}\n",
    .raw_quiet = "container_id: {{.ID}}",
    .labels = "Labels",
};

static const struct option ps_options[] = {
    {.name = "all", .letter = 'a', .type = &option_switch, .help = "All containers, not only running ones"},
    {.name = "filter", .letter = 'f', .type = &option_filter, .help = "Only those that match: key=value"},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "last",
     .letter = 'n',
     .type = &option_int,
     .standard = "-1",
     .help = "The n containers created last, in any state"},
    {.name = "latest", .letter = 'l', .type = &option_switch, .help = "The container created last, in any state"},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids and commands in full"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids"},
    {.name = "size", .letter = 's', .type = &option_switch, .help = "With the size of each container's files"},
    {0}};

static int query_containers(struct cli *cli, const struct args *args, bool size, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *filters = cli_filters(args);
    int64_t limit = args_int(args, "last");
    char number[24];

    if (args_switch(args, "latest") && limit == -1)
        limit = 1;
    path_add(&path, "/containers/json");
    if (args_switch(args, "all"))
        path_query(&path, "all", "1");
    cli_filter_query(&path, filters);
    (void)snprintf(number, sizeof(number), "%lld", (long long)limit);
    if (limit > 0)
        path_query(&path, "limit", number);
    if (size)
        path_query(&path, "size", "1");
    return cli_get(cli, &path, ret, e);
}

/* Docker tries the format of ps alone before it asks, with words of its own. */
static int check_format(const char *format, struct err *e)
{
    struct list list;
    int rc = list_open(&list, &containers, format, false, true, NULL);

    if (rc < 0) {
        struct template *t = NULL;

        rc = template_parse(format, &t, e);
        template_free(t);
        return err_wrap(e, "failed to parse template");
    }
    rc = list_check(&list, e);
    list_fini(&list);
    return rc < 0 ? err_wrap(e, "failed to execute template") : 0;
}

static int run_ps(struct cli *cli, const struct args *args, struct err *e)
{
    bool quiet = args_switch(args, "quiet"), size = args_switch(args, "size");
    const char *format = args_text(args, "format");
    AUTO_JSON json_t *array = NULL;
    struct list list;
    json_t *object;
    size_t i;

    if (*format && quiet) {
        fprintf(stderr, "WARNING: Ignoring custom format, because both --format and --quiet are set.\n");
        format = "";
    } else if (!*format) {
        format = cli_config(cli, "psFormat");
    }
    int rc = check_format(format, e);
    if (rc < 0)
        return rc;
    rc = list_open(&list, size ? &containers_with_size : &containers, format, quiet, !args_switch(args, "no-trunc"),
                   e);
    if (rc == 0 && !args_has(args, "size") && !quiet)
        size = list_reads(&list, "Size");
    if (rc == 0)
        rc = query_containers(cli, args, size, &array, e);
    json_array_foreach(array, i, object)
    {
        if (rc == 0)
            rc = list_add(&list, object, NULL, e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    return rc;
}

#define PS                                                                                                     \
    .usage = "[OPTIONS]", .summary = "List containers",                                                        \
    .also = "shoal container ls, shoal container list, shoal container ps, shoal ps", .options = {ps_options}, \
    .run = run_ps
const struct command command_ps = {.name = "ps", .section = SECTION_COMMON, PS};
const struct command command_container_ls = {.name = "ls", .alias = {"ps", "list"}, PS};
