/* Services as rows and in full: `shoal service ls` and `inspect`. The lines of --pretty are in service_pretty.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/list.h"
#include "cli/service.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

static void show_service_id(const struct row *row, struct buf *out)
{
    char text[13];

    buf_append_str(out, cli_short_id(tree_text(row->object, "ID"), text));
}

static void show_name(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Spec.Name"));
}

static void show_mode(const struct row *row, struct buf *out)
{
    static const struct {
        const char *path, *shown;
    } modes[] = {{"Spec.Mode.Global", "global"},
                 {"Spec.Mode.Replicated", "replicated"},
                 {"Spec.Mode.ReplicatedJob", "replicated job"},
                 {"Spec.Mode.GlobalJob", "global job"}};

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        if (tree_get(row->object, modes[i].path)) {
            buf_append_str(out, modes[i].shown);
            return;
        }
    }
}

static void show_replicas(const struct row *row, struct buf *out)
{
    const json_t *s = row->object;
    long long running = tree_int(s, "ServiceStatus.RunningTasks"),
              desired = tree_int(s, "ServiceStatus.DesiredTasks"),
              completed = tree_int(s, "ServiceStatus.CompletedTasks"),
              most = tree_int(s, "Spec.TaskTemplate.Placement.MaxReplicas");

    buf_printf(out, "%lld/%lld", running, desired);
    if (tree_get(s, "Spec.Mode.ReplicatedJob"))
        buf_printf(out, " (%lld/%lld completed)", completed,
                   (long long)tree_int(s, "Spec.Mode.ReplicatedJob.TotalCompletions"));
    else if (tree_get(s, "Spec.Mode.GlobalJob"))
        buf_printf(out, " (%lld/%lld completed)", completed, desired + completed);
    else if (tree_get(s, "Spec.Mode.Replicated") && most > 0)
        buf_printf(out, " (max %lld per node)", most);
}

static void show_image(const struct row *row, struct buf *out)
{
    const char *image = tree_text(row->object, "Spec.TaskTemplate.ContainerSpec.Image");
    AUTO_ARENA struct arena a;
    struct image_name name;

    arena_init(&a);
    if (image_name_parse(image, &a, &name, NULL) == 0 && name.tag && !name.tag_assumed)
        image = image_name_brief(&name, &a);
    buf_append_str(out, image);
}

struct range {
    int64_t published, published_end, target, target_end;
    const char *protocol;
};

static void put_range(struct buf *out, const struct range *r)
{
    if (r->published == 0)
        return;
    buf_printf(out, "%s*:%lld", out->length ? ", " : "", (long long)r->published);
    if (r->published_end > r->published)
        buf_printf(out, "-%lld", (long long)r->published_end);
    buf_printf(out, "->%lld", (long long)r->target);
    if (r->target_end > r->target)
        buf_printf(out, "-%lld", (long long)r->target_end);
    buf_printf(out, "/%s", r->protocol);
}

static int by_published(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    int order = strcmp(tree_text(x, "Protocol"), tree_text(y, "Protocol"));
    int64_t p = tree_int(x, "PublishedPort"), q = tree_int(y, "PublishedPort");

    return order ? order : p < q ? -1 : p > q;
}

/* Ports published on every node; neighbours are one range: 80->80, 81->81 is 80-81->80-81, and 80->80, 81->80 is
 * 80-81->80. */
static void show_ports(const struct row *row, struct buf *out)
{
    const json_t *ports = tree_get(row->object, "Endpoint.Ports");
    size_t count = json_array_size(ports);
    AUTO_FREE
    json_t **sorted = mem_array(count, sizeof(*sorted));
    AUTO_BUF struct buf text = {0};
    struct range r = {.protocol = ""};

    for (size_t i = 0; i < count; i++)
        sorted[i] = json_array_get(ports, i);
    qsort(sorted, count, sizeof(*sorted), by_published);
    for (size_t i = 0; i < count; i++) {
        const char *protocol = tree_text(sorted[i], "Protocol");
        int64_t published = tree_int(sorted[i], "PublishedPort"), target = tree_int(sorted[i], "TargetPort");
        bool is_range = r.target_end != r.target;

        if (strcmp(tree_text(sorted[i], "PublishMode"), "ingress") != 0)
            continue;
        if (strcmp(protocol, r.protocol) != 0 || published - r.published_end > 1 || target < r.target_end ||
            target - r.target_end > 1 || (is_range && target <= r.target_end)) {
            put_range(&text, &r);
            r = (struct range){published, published, target, target, protocol};
        }
        r.published_end = published;
        r.target_end = target;
    }
    put_range(&text, &r);
    buf_append(out, buf_bytes(&text), text.length);
}

static const struct column columns[] = {
    {"ID", "ID", show_service_id, false},  {"Image", "IMAGE", show_image, false},
    {"Mode", "MODE", show_mode, false},    {"Name", "NAME", show_name, false},
    {"Ports", "PORTS", show_ports, false}, {"Replicas", "REPLICAS", show_replicas, false},
};

static const struct list_kind services = {
    .noun = "service",
    .columns = columns,
    .columns_count = ARRAY_SIZE(columns),
    .table = "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
    .quiet = "{{.ID}}",
    .raw = "id: {{.ID}}\nname: {{.Name}}\nmode: {{.Mode}}\nreplicas: {{.Replicas}}\nimage: {{.Image}}\n"
           "ports: {{.Ports}}\n",
    .raw_quiet = "id: {{.ID}}",
};

static const struct option ls_options[] = {
    {.name = "filter",
     .letter = 'f',
     .type = &option_filter,
     .help = "Only those that match: name=web, mode=global, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
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
    json_t *service;
    size_t i;

    if (!*format && !quiet)
        format = cli_config(cli, "servicesFormat");
    int rc = list_open(&list, &services, format, quiet, true, e);
    path_add(&path, "/services");
    cli_filter_query(&path, filters);
    if (!quiet)
        path_query(&path, "status", "true");
    if (rc == 0)
        rc = cli_get(cli, &path, &array, e);
    list_sort(array, "Spec.Name");
    json_array_foreach(array, i, service)
    {
        if (rc == 0)
            rc = list_add(&list, service, NULL, e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    return rc;
}

/* --- inspect ----------------------------------------------------------------------------------------------------
 */

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT},
    {.name = "pretty", .type = &option_switch, .help = "As lines for people"},
    {0}};

static int get_service(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret,
                       struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid service name or ID: value is empty");
    path_add(&path, "/services/%s", name);
    path_query(&path, "insertDefaults", "true");
    int rc = cli_get_raw(cli, &path, raw, ret, e);
    return rc == ERR_NOT_FOUND ? err_set(e, rc, "Error: no such service: %s", name) : rc;
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    const char *format = args_text(args, "format");
    bool pretty = args_switch(args, "pretty");
    AUTO_BUF struct buf out = {0};
    int rc = 0;

    if (pretty && *format)
        return err_set(e, ERR_INVALID, "--format is incompatible with human friendly format");
    if (strncmp(format, "pretty", 6) == 0 && format[6])
        return err_set(e, ERR_INVALID, "Cannot supply extra formatting options to the pretty template");
    if (!pretty && strcmp(format, "pretty") != 0)
        return inspect_run(cli, args, get_service, NULL, e);
    for (size_t i = 0; rc == 0 && i < args->words_count; i++) {
        AUTO_BUF struct buf raw = {0};
        AUTO_JSON json_t *service = NULL;

        rc = get_service(cli, NULL, args->words[i], &raw, &service, e);
        if (rc == 0)
            service_pretty(cli, service, &out);
    }
    if (rc == 0)
        cli_print(&out);
    return rc;
}

const struct command service_ls = {.name = "ls",
                                   .alias = {"list"},
                                   .usage = "[OPTIONS]",
                                   .summary = "List services",
                                   .options = {ls_options},
                                   .run = run_ls};
const struct command service_inspect = {.name = "inspect",
                                        .usage = "[OPTIONS] SERVICE [SERVICE...]",
                                        .summary = "Show everything about services",
                                        .options = {inspect_options},
                                        .words_min = 1,
                                        .words_max = -1,
                                        .run = run_inspect};
