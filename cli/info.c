/* `shoal info`: the node, its engine and its swarm, as docker lays it out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/print.h"
#include "cli/system.h"
#include "cli/template.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

static void put_line(const char *label, const char *text)
{
    printf("%s %s\n", label, text);
}

static void put_if(const json_t *info, const char *label, const char *path)
{
    if (*tree_text(info, path))
        put_line(label, tree_text(info, path));
}

static void put_number(const json_t *info, const char *label, const char *path)
{
    printf("%s %lld\n", label, (long long)tree_int(info, path));
}

static void put_bool(const json_t *info, const char *label, const char *path)
{
    put_line(label, tree_bool(info, path) ? "true" : "false");
}

/* The texts of an array on one line. */
static void put_list(const json_t *info, const char *label, const char *path)
{
    json_t *array = tree_get(info, path), *text;
    size_t i;

    printf("%s ", label);
    json_array_foreach(array, i, text)
    {
        printf("%s%s", i ? " " : "", json_is_string(text) ? json_string_value(text) : "");
    }
    putchar('\n');
}

/* The texts of an array, one on each line below a title. */
static void put_lines(const json_t *info, const char *title, const char *indent, const char *path)
{
    json_t *array = tree_get(info, path), *text;
    size_t i;

    if (json_array_size(array))
        printf("%s\n", title);
    json_array_foreach(array, i, text)
    {
        printf("%s%s\n", indent, json_is_string(text) ? json_string_value(text) : "");
    }
}

static void put_age(const json_t *info, const char *label, const char *path)
{
    char text[PRINT_TEXT];

    print_age(tree_int(info, path) / 1000000000, text);
    put_line(label, text);
}

/* --- the swarm --------------------------------------------------------------------------------------------------
 */

static void show_cluster(const json_t *swarm)
{
    const json_t *cluster = tree_get(swarm, "Cluster");
    json_t *pools = tree_get(cluster, "DefaultAddrPool"), *pool,
           *cas = tree_get(cluster, "Spec.CAConfig.ExternalCAs"), *ca;
    size_t i;

    put_line("  ClusterID:", tree_text(cluster, "ID"));
    put_number(swarm, "  Managers:", "Managers");
    put_number(swarm, "  Nodes:", "Nodes");
    if (pools) {
        printf("  Default Address Pool: ");
        json_array_foreach(pools, i, pool)
        {
            printf("%s  ", json_is_string(pool) ? json_string_value(pool) : "");
        }
        putchar('\n');
        put_number(cluster, "  SubnetSize:", "SubnetSize");
    }
    if (tree_int(cluster, "DataPathPort") > 0)
        put_number(cluster, "  Data Path Port:", "DataPathPort");
    printf("  Orchestration:\n");
    put_number(cluster, "   Task History Retention Limit:", "Spec.Orchestration.TaskHistoryRetentionLimit");
    printf("  Raft:\n");
    put_number(cluster, "   Snapshot Interval:", "Spec.Raft.SnapshotInterval");
    if (tree_get(cluster, "Spec.Raft.KeepOldSnapshots"))
        put_number(cluster, "   Number of Old Snapshots to Retain:", "Spec.Raft.KeepOldSnapshots");
    put_number(cluster, "   Heartbeat Tick:", "Spec.Raft.HeartbeatTick");
    put_number(cluster, "   Election Tick:", "Spec.Raft.ElectionTick");
    printf("  Dispatcher:\n");
    put_age(cluster, "   Heartbeat Period:", "Spec.Dispatcher.HeartbeatPeriod");
    printf("  CA Configuration:\n");
    put_age(cluster, "   Expiry Duration:", "Spec.CAConfig.NodeCertExpiry");
    put_number(cluster, "   Force Rotate:", "Spec.CAConfig.ForceRotate");
    if (json_array_size(cas))
        printf("   External CAs:\n");
    json_array_foreach(cas, i, ca)
    {
        printf("     %s: %s\n", tree_text(ca, "Protocol"), tree_text(ca, "URL"));
    }
    put_bool(cluster, "  Autolock Managers:", "Spec.EncryptionConfig.AutoLockManagers");
    put_bool(cluster, "  Root Rotation In Progress:", "RootRotationInProgress");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void show_managers(const json_t *swarm)
{
    json_t *array = tree_get(swarm, "RemoteManagers"), *manager;
    size_t count = json_array_size(array), i;
    AUTO_FREE
    const char **addresses = mem_array(count, sizeof(*addresses));

    json_array_foreach(array, i, manager)
    {
        addresses[i] = tree_text(manager, "Addr");
    }
    qsort(addresses, count, sizeof(*addresses), by_text);
    if (count)
        printf("  Manager Addresses:\n");
    for (i = 0; i < count; i++)
        printf("   %s\n", addresses[i]);
}

static void show_swarm(const json_t *swarm)
{
    const char *state = tree_text(swarm, "LocalNodeState"), *error = tree_text(swarm, "Error");

    put_line(" Swarm:", state);
    if (strcmp(state, "inactive") == 0 || strcmp(state, "locked") == 0)
        return;
    put_line("  NodeID:", tree_text(swarm, "NodeID"));
    if (*error)
        put_line("  Error:", error);
    put_bool(swarm, "  Is Manager:", "ControlAvailable");
    if (tree_get(swarm, "Cluster") && tree_bool(swarm, "ControlAvailable") && !*error &&
        strcmp(state, "error") != 0)
        show_cluster(swarm);
    put_line("  Node Address:", tree_text(swarm, "NodeAddr"));
    show_managers(swarm);
}

/* --- the engine -------------------------------------------------------------------------------------------------
 */

static void show_driver(const json_t *info)
{
    json_t *pairs = tree_get(info, "DriverStatus"), *pair;
    size_t i;

    put_number(info, " Containers:", "Containers");
    put_number(info, "  Running:", "ContainersRunning");
    put_number(info, "  Paused:", "ContainersPaused");
    put_number(info, "  Stopped:", "ContainersStopped");
    put_number(info, " Images:", "Images");
    put_if(info, " Server Version:", "ServerVersion");
    put_if(info, " Storage Driver:", "Driver");
    json_array_foreach(pairs, i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0)),
                   *value = json_string_value(json_array_get(pair, 1));

        printf("  %s: %s\n", name ? name : "", value ? value : "");
    }
    put_if(info, " Logging Driver:", "LoggingDriver");
    put_if(info, " Cgroup Driver:", "CgroupDriver");
    put_if(info, " Cgroup Version:", "CgroupVersion");
    printf(" Plugins:\n");
    put_list(info, "  Volume:", "Plugins.Volume");
    put_list(info, "  Network:", "Plugins.Network");
    if (json_array_size(tree_get(info, "Plugins.Authorization")))
        put_list(info, "  Authorization:", "Plugins.Authorization");
    put_list(info, "  Log:", "Plugins.Log");
    put_lines(info, " CDI spec directories:", "  ", "CDISpecDirs");
}

/* "name=seccomp,profile=builtin": the name, and the profile below it. */
static void show_security(const json_t *info)
{
    json_t *options = tree_get(info, "SecurityOptions"), *option;
    size_t i;

    if (json_array_size(options))
        printf(" Security Options:\n");
    json_array_foreach(options, i, option)
    {
        AUTO_FREE
        char *text = mem_strdup(json_is_string(option) ? json_string_value(option) : "");
        char *rest = NULL;
        bool pairs = strchr(text, '=') != NULL;

        if (!pairs)
            printf("  %s\n", text);
        for (char *pair = strtok_r(text, ",", &rest); pairs && pair; pair = strtok_r(NULL, ",", &rest)) {
            if (strncmp(pair, "name=", 5) == 0)
                printf("  %s\n", pair + 5);
            else if (strncmp(pair, "profile=", 8) == 0)
                printf("   Profile: %s\n", pair + 8);
        }
    }
}

static void show_runtimes(const json_t *info)
{
    json_t *runtimes = tree_get(info, "Runtimes"), *runtime;
    const char *name;

    if (json_object_size(runtimes)) {
        printf(" Runtimes:");
        json_object_foreach(runtimes, name, runtime)
        {
            printf(" %s", name);
        }
        printf("\n");
        put_line(" Default Runtime:", tree_text(info, "DefaultRuntime"));
    }
    if (strcmp(tree_text(info, "OSType"), "linux") == 0) {
        put_line(" Init Binary:", tree_text(info, "InitBinary"));
        put_if(info, " containerd version:", "ContainerdCommit.ID");
        put_if(info, " runc version:", "RuncCommit.ID");
        put_if(info, " init version:", "InitCommit.ID");
        show_security(info);
    }
}

static void show_registries(const json_t *info)
{
    json_t *ranges = tree_get(info, "RegistryConfig.InsecureRegistryCIDRs"),
           *indexes = tree_get(info, "RegistryConfig.IndexConfigs"), *index, *range;
    const char *name;
    size_t i;

    if (json_array_size(ranges) || json_object_size(indexes))
        printf(" Insecure Registries:\n");
    json_object_foreach(indexes, name, index)
    {
        if (!tree_bool(index, "Secure"))
            printf("  %s\n", tree_text(index, "Name"));
    }
    json_array_foreach(ranges, i, range)
    {
        printf("  %s\n", json_is_string(range) ? json_string_value(range) : "");
    }
    put_lines(info, " Registry Mirrors:", "  ", "RegistryConfig.Mirrors");
}

static void show_pools(const json_t *info)
{
    json_t *pools = tree_get(info, "DefaultAddressPools"), *pool;
    size_t i;

    if (json_array_size(pools))
        printf(" Default Address Pools:\n");
    json_array_foreach(pools, i, pool)
    {
        printf("   Base: %s, Size: %lld\n", tree_text(pool, "Base"), (long long)tree_int(pool, "Size"));
    }
}

static void show_server(struct cli *cli, const json_t *info)
{
    char memory[PRINT_TEXT];
    json_t *warnings = tree_get(info, "Warnings"), *warning;
    size_t i;

    show_driver(info);
    show_swarm(tree_get(info, "Swarm"));
    show_runtimes(info);
    put_if(info, " Kernel Version:", "KernelVersion");
    put_if(info, " Operating System:", "OperatingSystem");
    put_if(info, " OSType:", "OSType");
    put_if(info, " Architecture:", "Architecture");
    put_number(info, " CPUs:", "NCPU");
    print_size_binary((double)tree_int(info, "MemTotal"), memory);
    put_line(" Total Memory:", memory);
    put_if(info, " Name:", "Name");
    put_if(info, " ID:", "ID");
    put_line(" Docker Root Dir:", tree_text(info, "DockerRootDir"));
    put_bool(info, " Debug Mode:", "Debug");
    if (tree_bool(info, "Debug")) {
        put_number(info, "  File Descriptors:", "NFd");
        put_number(info, "  Goroutines:", "NGoroutines");
        put_line("  System Time:", tree_text(info, "SystemTime"));
        put_number(info, "  EventsListeners:", "NEventsListener");
    }
    put_if(info, " HTTP Proxy:", "HttpProxy");
    put_if(info, " HTTPS Proxy:", "HttpsProxy");
    put_if(info, " No Proxy:", "NoProxy");
    put_lines(info, " Labels:", "  ", "Labels");
    put_bool(info, " Experimental:", "ExperimentalBuild");
    show_registries(info);
    put_bool(info, " Live Restore Enabled:", "LiveRestoreEnabled");
    put_if(info, " Product License:", "ProductLicense");
    show_pools(info);
    putchar('\n');
    (void)fflush(stdout);
    json_array_foreach(warnings, i, warning)
    {
        fprintf(stderr, "%s\n", json_is_string(warning) ? json_string_value(warning) : "");
    }
}

/* --- the command ------------------------------------------------------------------------------------------------
 */

static const struct option info_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT}, {0}};

static int show_formatted(struct template *t, json_t *info, struct err *e)
{
    const struct template_data data = {.json = info, .zero = inspect_zero};
    AUTO_BUF struct buf out = {0};
    int rc = template_run(t, &data, &out, e);

    buf_append_char(&out, '\n');
    cli_print(&out);
    return rc;
}

static int run_info(struct cli *cli, const struct args *args, struct err *e)
{
    const char *format = args_text(args, "format");
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *info = NULL;
    json_t *client = system_client_version(cli, false);
    struct template *t = NULL;
    int rc = *format ? template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, &t, e) : 0;

    if (rc < 0) {
        json_decref(client);
        return cli_status(cli, 64, err_wrap(e, "template parsing error"));
    }
    path_add(&path, "/info");
    if (!t) {
        printf("Client:\n Version:    %s\n Context:    default\n Debug Mode: false\n\nServer:\n", SHOAL_VERSION);
        rc = cli_get(cli, &path, &info, e);
        if (rc == 0)
            show_server(cli, info);
        json_decref(client);
        return rc;
    }
    int asked = cli_get(cli, &path, &info, e);
    if (!json_is_object(info)) {
        json_decref(info);
        info = json_object();
    }
    tree_put_bool(client, "Debug", false);
    tree_put(client, "Plugins", json_array());
    tree_put(client, "Warnings", json_null());
    tree_put(info, "ClientInfo", client);
    struct err why = {0};
    rc = show_formatted(t, info, &why);
    template_free(t);
    if (asked < 0)
        return asked;
    if (rc < 0)
        *e = why;
    return rc;
}

const struct command command_info = {.name = "info",
                                     .usage = "[OPTIONS]",
                                     .summary = "Show the node, its engine and its swarm",
                                     .also = "shoal system info, shoal info",
                                     .options = {info_options},
                                     .section = SECTION_COMMON,
                                     .run = run_info};
