/* `shoal service inspect --pretty`: a service as lines for people, laid out as docker does. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/print.h"
#include "cli/service.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

static void put_pair(struct buf *out, const char *indent, const char *name, const char *separator, json_t *value)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";

    buf_printf(out, "%s%s%s%s\n", indent, name, *text ? separator : "", text);
}

static void label_line(void *context, const char *name, json_t *value)
{
    put_pair(context, " ", name, "=", value);
}

static void sysctl_line(void *context, const char *name, json_t *value)
{
    put_pair(context, " ", name, ": ", value);
}

static void option_line(void *context, const char *name, json_t *value)
{
    put_pair(context, "  ", name, ":       ", value);
}

static void put_map(struct buf *out, const char *title, const json_t *object,
                    void (*line)(void *context, const char *name, json_t *value))
{
    if (!json_object_size(object))
        return;
    buf_printf(out, "%s\n", title);
    tree_sorted(object, line, out);
}

/* The texts of an array with blanks between; "[a b]" when `brackets`. */
static void put_texts(struct buf *out, const json_t *array, const char *separator)
{
    json_t *text;
    size_t i;

    json_array_foreach(array, i, text)
    {
        buf_printf(out, "%s%s", i ? separator : "", json_is_string(text) ? json_string_value(text) : "");
    }
}

static void put_age(struct buf *out, const char *label, const char *moment)
{
    char text[PRINT_TEXT];
    int64_t ns = 0;

    if (!time_parse_ns(moment, &ns))
        return;
    print_age(clock_wall_ms(clock_real()) / 1000 - ns / 1000000000, text);
    buf_printf(out, "%s%s ago\n", label, text);
}

static void put_mode(struct buf *out, const json_t *spec)
{
    buf_append_str(out, "Service Mode:");
    if (tree_get(spec, "Mode.Global"))
        buf_append_str(out, "\tGlobal");
    else if (tree_get(spec, "Mode.Replicated"))
        buf_append_str(out, "\tReplicated");
    if (tree_get(spec, "Mode.Replicated.Replicas"))
        buf_printf(out, "\n Replicas:\t%lld", (long long)tree_int(spec, "Mode.Replicated.Replicas"));
    buf_append_char(out, '\n');
}

static void put_update_status(struct buf *out, const json_t *service)
{
    const char *state = tree_text(service, "UpdateStatus.State");

    if (!*state)
        return;
    buf_printf(out, "UpdateStatus:\n State:\t\t%s\n", state);
    put_age(out, " Started:\t", tree_text(service, "UpdateStatus.StartedAt"));
    if (strcmp(state, "completed") == 0)
        put_age(out, " Completed:\t", tree_text(service, "UpdateStatus.CompletedAt"));
    buf_printf(out, " Message:\t%s\n", tree_text(service, "UpdateStatus.Message"));
}

static void put_placement(struct buf *out, const json_t *placement)
{
    json_t *constraints = tree_get(placement, "Constraints"), *preferences = tree_get(placement, "Preferences"),
           *preference;
    size_t i;

    buf_append_str(out, "Placement:\n");
    if (json_array_size(constraints)) {
        buf_append_str(out, " Constraints:\t[");
        put_texts(out, constraints, " ");
        buf_append_str(out, "]\n");
    }
    if (json_array_size(preferences)) {
        buf_append_str(out, " Preferences:   [");
        json_array_foreach(preferences, i, preference)
        {
            buf_printf(out, "%sspread=%s", i ? " " : "", tree_text(preference, "Spread.SpreadDescriptor"));
        }
        buf_append_str(out, "]\n");
    }
    if (tree_int(placement, "MaxReplicas"))
        buf_printf(out, " Max Replicas Per Node:   %lld\n", (long long)tree_int(placement, "MaxReplicas"));
}

static void put_pace(struct buf *out, const char *title, const char *order, const json_t *config)
{
    char text[PRINT_TEXT];

    if (!config)
        return;
    buf_printf(out, "%s:\n Parallelism:\t%lld\n", title, (long long)tree_int(config, "Parallelism"));
    if (tree_int(config, "Delay") > 0) {
        print_duration(tree_int(config, "Delay"), text);
        buf_printf(out, " Delay:\t\t%s\n", text);
    }
    buf_printf(out, " On failure:\t%s\n", tree_text(config, "FailureAction"));
    if (tree_int(config, "Monitor") > 0) {
        print_duration(tree_int(config, "Monitor"), text);
        buf_printf(out, " Monitoring Period: %s\n", text);
    }
    print_real(tree_real(config, "MaxFailureRatio"), text);
    buf_printf(out, " Max failure ratio: %s\n %s%s\n", text, order, tree_text(config, "Order"));
}

static void put_mounts(struct buf *out, const json_t *mounts)
{
    json_t *mount;
    size_t i;

    if (json_array_size(mounts))
        buf_append_str(out, "Mounts:\n");
    json_array_foreach(mounts, i, mount)
    {
        buf_printf(out, " Target:\t%s\n  Source:\t%s\n  ReadOnly:\t%s\n  Type:\t\t%s\n", tree_text(mount, "Target"),
                   tree_text(mount, "Source"), tree_bool(mount, "ReadOnly") ? "true" : "false",
                   tree_text(mount, "Type"));
    }
}

static void put_files(struct buf *out, const char *title, const char *name, const json_t *files)
{
    json_t *file;
    size_t i;

    if (json_array_size(files))
        buf_printf(out, "%s:\n", title);
    json_array_foreach(files, i, file)
    {
        buf_printf(out, " Target:\t%s\n  Source:\t%s\n", tree_text(file, "File.Name"), tree_text(file, name));
    }
}

static void put_ulimits(struct buf *out, const json_t *ulimits)
{
    json_t *limit;
    size_t i;

    if (json_array_size(ulimits))
        buf_append_str(out, "Ulimits:\n");
    json_array_foreach(ulimits, i, limit)
    {
        buf_printf(out, " %s: %lld:%lld\n", tree_text(limit, "Name"), (long long)tree_int(limit, "Soft"),
                   (long long)tree_int(limit, "Hard"));
    }
}

static void put_capabilities(struct buf *out, const json_t *container)
{
    json_t *add = tree_get(container, "CapabilityAdd"), *drop = tree_get(container, "CapabilityDrop");

    if (!json_array_size(add) && !json_array_size(drop))
        return;
    buf_append_str(out, "Capabilities:\n");
    if (json_array_size(add)) {
        buf_append_str(out, " Add: ");
        put_texts(out, add, ", ");
        buf_append_char(out, '\n');
    }
    if (json_array_size(drop)) {
        buf_append_str(out, " Drop: ");
        put_texts(out, drop, ", ");
        buf_append_char(out, '\n');
    }
}

/* A line of texts that each end in a blank. */
static void put_words(struct buf *out, const char *label, const json_t *array)
{
    if (!json_array_size(array))
        return;
    buf_append_str(out, label);
    put_texts(out, array, " ");
    buf_append_str(out, " \n");
}

static void put_container(struct buf *out, const json_t *container)
{
    buf_printf(out, "ContainerSpec:\n Image:\t\t%s\n", tree_text(container, "Image"));
    put_words(out, " Args:\t\t", tree_get(container, "Args"));
    put_words(out, " Env:\t\t", tree_get(container, "Env"));
    if (*tree_text(container, "Dir"))
        buf_printf(out, " Dir:\t\t%s\n", tree_text(container, "Dir"));
    if (tree_get(container, "Init"))
        buf_printf(out, " Init:\t\t%s\n", tree_bool(container, "Init") ? "true" : "false");
    if (*tree_text(container, "User"))
        buf_printf(out, " User: %s\n", tree_text(container, "User"));
    put_capabilities(out, container);
    put_map(out, "SysCtls:", tree_get(container, "Sysctls"), sysctl_line);
    put_ulimits(out, tree_get(container, "Ulimits"));
    put_mounts(out, tree_get(container, "Mounts"));
    put_files(out, "Configs", "ConfigName", tree_get(container, "Configs"));
    put_files(out, "Secrets", "SecretName", tree_get(container, "Secrets"));
}

static void put_amounts(struct buf *out, const char *title, const json_t *amounts)
{
    int64_t cpus = tree_int(amounts, "NanoCPUs"), memory = tree_int(amounts, "MemoryBytes");
    char text[PRINT_TEXT];

    if (cpus <= 0 && memory <= 0 && tree_int(amounts, "Pids") <= 0)
        return;
    buf_printf(out, " %s:\n", title);
    print_real((double)cpus / 1e9, text);
    if (cpus > 0)
        buf_printf(out, "  CPU:\t\t%s\n", text);
    print_size_binary((double)memory, text);
    if (memory > 0)
        buf_printf(out, "  Memory:\t%s\n", text);
}

static void put_resources(struct buf *out, const json_t *task)
{
    const json_t *resources = tree_get(task, "Resources"), *driver = tree_get(task, "LogDriver");

    if (driver) {
        buf_append_str(out, "Log Driver:\n");
        if (*tree_text(driver, "Name"))
            buf_printf(out, " Name:\t\t%s\n", tree_text(driver, "Name"));
        put_map(out, " LogOpts:", tree_get(driver, "Options"), option_line);
        buf_append_char(out, '\n');
    }
    if (resources) {
        buf_append_str(out, "Resources:\n");
        put_amounts(out, "Reservations", tree_get(resources, "Reservations"));
        put_amounts(out, "Limits", tree_get(resources, "Limits"));
    }
    if (tree_int(resources, "Limits.Pids") > 0)
        buf_printf(out, "  PIDs:\t\t%lld\n", (long long)tree_int(resources, "Limits.Pids"));
}

static void put_networks(struct cli *cli, struct buf *out, const json_t *networks)
{
    json_t *network;
    size_t i;

    if (!json_array_size(networks))
        return;
    buf_append_str(out, "Networks:");
    json_array_foreach(networks, i, network)
    {
        AUTO_BUF struct buf path = {0};
        AUTO_JSON json_t *object = NULL;

        path_add(&path, "/networks/%s", tree_text(network, "Target"));
        path_query(&path, "scope", "swarm");
        (void)cli_get(cli, &path, &object, NULL); /* one that cannot be asked for keeps its id */
        const char *name = tree_text(object, "Name");
        buf_printf(out, " %s", *name ? name : tree_text(network, "Target"));
    }
    buf_append_str(out, " \n");
}

static void put_endpoint(struct buf *out, const json_t *service)
{
    json_t *ports = tree_get(service, "Endpoint.Ports"), *port;
    size_t i;

    buf_printf(out, "Endpoint Mode:\t%s\n", tree_text(service, "Spec.EndpointSpec.Mode"));
    if (json_array_size(ports))
        buf_append_str(out, "Ports:\n");
    json_array_foreach(ports, i, port)
    {
        buf_printf(out, " PublishedPort = %lld\n  Protocol = %s\n  TargetPort = %lld\n  PublishMode = %s%s\n",
                   (long long)tree_int(port, "PublishedPort"), tree_text(port, "Protocol"),
                   (long long)tree_int(port, "TargetPort"), tree_text(port, "PublishMode"),
                   i + 1 == json_array_size(ports) ? " " : "");
    }
}

static void put_health(struct buf *out, const json_t *health)
{
    json_t *test = tree_get(health, "Test"), *word;
    char interval[PRINT_TEXT], start[PRINT_TEXT], timeout[PRINT_TEXT];
    size_t i;

    if (!health)
        return;
    print_duration(tree_int(health, "Interval"), interval);
    print_duration(tree_int(health, "StartPeriod"), start);
    print_duration(tree_int(health, "Timeout"), timeout);
    buf_printf(out, " Healthcheck:\n  Interval = %s\n  Retries = %lld\n  StartPeriod =\t%s\n  Timeout =\t%s\n",
               interval, (long long)tree_int(health, "Retries"), start, timeout);
    if (json_array_size(test))
        buf_append_str(out, "  Tests:\n");
    json_array_foreach(test, i, word)
    {
        buf_printf(out, "\t Test = %s%s\n", json_is_string(word) ? json_string_value(word) : "",
                   i + 1 == json_array_size(test) ? " " : "");
    }
}

void service_pretty(struct cli *cli, const json_t *service, struct buf *out)
{
    const json_t *spec = tree_get(service, "Spec"), *task = tree_get(spec, "TaskTemplate");

    buf_printf(out, "\nID:\t\t%s\nName:\t\t%s\n", tree_text(service, "ID"), tree_text(spec, "Name"));
    put_map(out, "Labels:", tree_get(spec, "Labels"), label_line);
    put_mode(out, spec);
    put_update_status(out, service);
    put_placement(out, tree_get(task, "Placement"));
    put_pace(out, "UpdateConfig", "Update order:      ", tree_get(spec, "UpdateConfig"));
    put_pace(out, "RollbackConfig", "Rollback order:    ", tree_get(spec, "RollbackConfig"));
    put_container(out, tree_get(task, "ContainerSpec"));
    put_resources(out, task);
    put_networks(cli, out, tree_get(task, "Networks"));
    put_endpoint(out, service);
    put_health(out, tree_get(task, "ContainerSpec.Healthcheck"));
    buf_append_char(out, '\n');
}
