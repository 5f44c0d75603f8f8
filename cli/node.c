/* Nodes of the swarm: `shoal node demote, inspect, ls, promote, ps, rm, update`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/list.h"
#include "cli/node.h"
#include "cli/print.h"
#include "cli/task.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

/* --- ls ---------------------------------------------------------------------------------------------------------
 */

static void show_node_id(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "ID"));
}

/* row->context is the answer of /info, NULL when it was not asked for. */
static void show_self(const struct row *row, struct buf *out)
{
    bool self = strcmp(tree_text(row->object, "ID"), tree_text(row->context, "Swarm.NodeID")) == 0;

    buf_append_str(out, self ? "true" : "false");
}

static void show_hostname(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Description.Hostname"));
}

static void show_status(const struct row *row, struct buf *out)
{
    print_capital(out, tree_text(row->object, "Status.State"));
}

static void show_availability(const struct row *row, struct buf *out)
{
    print_capital(out, tree_text(row->object, "Spec.Availability"));
}

static void show_manager_status(const struct row *row, struct buf *out)
{
    if (tree_bool(row->object, "ManagerStatus.Leader"))
        buf_append_str(out, "Leader");
    else
        print_capital(out, tree_text(row->object, "ManagerStatus.Reachability"));
}

static void show_engine_version(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Description.Engine.EngineVersion"));
}

static void show_tls_status(const struct row *row, struct buf *out)
{
    const json_t *cluster = tree_get(row->context, "Swarm.Cluster.TLSInfo"),
                 *node = tree_get(row->object, "Description.TLSInfo");

    if (!json_object_size(cluster) || !json_object_size(node))
        buf_append_str(out, "Unknown");
    else
        buf_append_str(out, json_equal(cluster, node) ? "Ready" : "Needs Rotation");
}

static const struct column columns[] = {
    {"Availability", "AVAILABILITY", show_availability, false},
    {"EngineVersion", "ENGINE VERSION", show_engine_version, false},
    {"Hostname", "HOSTNAME", show_hostname, false},
    {"ID", "ID", show_node_id, false},
    {"ManagerStatus", "MANAGER STATUS", show_manager_status, false},
    {"Self", "", show_self, true},
    {"Status", "STATUS", show_status, false},
    {"TLSStatus", "TLS STATUS", show_tls_status, false},
};

static const struct list_kind nodes = {
    .noun = "node",
    .columns = columns,
    .columns_count = ARRAY_SIZE(columns),
    .table = "{{.ID}} {{if .Self}}*{{else}} {{ end }}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t"
             "{{.ManagerStatus}}\t{{.EngineVersion}}",
    .quiet = "{{.ID}}",
    .raw = "node_id: {{.ID}}\nhostname: {{.Hostname}}\nstatus: {{.Status}}\navailability: {{.Availability}}\n"
           "manager_status: {{.ManagerStatus}}\n",
    .raw_quiet = "node_id: {{.ID}}",
};

static const struct option ls_options[] = {
    {.name = "filter", .letter = 'f', .type = &option_filter, .help = "Only those that match: role=manager, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids"},
    {0}};

static int get_info(struct cli *cli, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/info");
    return cli_get(cli, &path, ret, e);
}

static int run_ls(struct cli *cli, const struct args *args, struct err *e)
{
    bool quiet = args_switch(args, "quiet");
    const char *format = args_text(args, "format");
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_JSON json_t *array = NULL;
    AUTO_JSON json_t *info = NULL;
    struct list list;
    json_t *node;
    size_t i;

    if (!*format && !quiet)
        format = cli_config(cli, "nodesFormat");
    int rc = list_open(&list, &nodes, format, quiet, false, e);
    path_add(&path, "/nodes");
    cli_filter_query(&path, filters);
    if (rc == 0)
        rc = cli_get(cli, &path, &array, e);
    if (rc == 0 && json_array_size(array) && !quiet)
        rc = get_info(cli, &info, e);
    list_sort(array, "Description.Hostname");
    json_array_foreach(array, i, node)
    {
        if (rc == 0)
            rc = list_add(&list, node, info, e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    return rc;
}

/* --- self -------------------------------------------------------------------------------------------------------
 */

/* The id that "self" stands for; other names stay. *ret is freed by the caller. */
static int refer(struct cli *cli, const char *name, char **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *info = NULL;
    AUTO_JSON json_t *list = NULL;

    if (strcmp(name, "self") != 0) {
        *ret = mem_strdup(name);
        return 0;
    }
    int rc = get_info(cli, &info, e);
    if (rc < 0)
        return rc;
    *ret = mem_strdup(tree_text(info, "Swarm.NodeID"));
    if (**ret)
        return 0;
    free(steal(ret)); /* not in a swarm: a swarm's request says so in the node's own words */
    path_add(&path, "/nodes");
    rc = cli_get(cli, &path, &list, e);
    return rc < 0 ? rc : err_set(e, ERR_NOT_FOUND, "node ID not found in /info");
}

static int get_node(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret, struct err *e)
{
    AUTO_FREE
    char *id = NULL;
    AUTO_BUF struct buf path = {0};
    int rc = refer(cli, name, &id, e);

    if (rc < 0)
        return rc;
    if (!*id)
        return err_set(e, ERR_INVALID, "invalid node name or ID: value is empty");
    path_add(&path, "/nodes/%s", id);
    return cli_get_raw(cli, &path, raw, ret, e);
}

int node_filter_names(struct cli *cli, json_t *filters, struct err *e)
{
    json_t *names = json_object_get(filters, "node"), *value;
    AUTO_JSON json_t *ids = NULL;
    const char *name;

    if (!names)
        return 0;
    ids = json_object();
    json_object_foreach(names, name, value)
    {
        AUTO_FREE
        char *id = NULL;
        int rc = refer(cli, name, &id, e);

        if (rc < 0)
            return rc;
        tree_put_bool(ids, id, true);
    }
    tree_put(filters, "node", json_incref(ids));
    return 0;
}

/* --- inspect ----------------------------------------------------------------------------------------------------
 */

static void pretty_map(void *context, const char *name, json_t *value)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";

    buf_printf(context, " - %s%s%s\n", name, *text ? "=" : "", text);
}

static void pretty_plugins(struct buf *out, const json_t *plugins)
{
    json_t *types = json_object(), *plugin;
    const char *type;
    size_t i;

    json_array_foreach(plugins, i, plugin)
    {
        json_t *names = json_object_get(types, tree_text(plugin, "Type"));
        AUTO_FREE
        char *list = mem_printf("%s%s%s", names ? json_string_value(names) : "", names ? ", " : "",
                                tree_text(plugin, "Name"));

        tree_put_text(types, tree_text(plugin, "Type"), list);
    }
    if (json_object_size(types))
        buf_append_str(out, "Plugins:\n");
    json_object_foreach(types, type, plugin)
    {
        buf_printf(out, " %s:\t\t%s\n", type, json_string_value(plugin));
    }
    json_decref(types);
}

static void pretty_labels(struct buf *out, const char *title, const json_t *labels)
{
    if (!json_object_size(labels))
        return;
    buf_printf(out, "%s:\n", title);
    tree_sorted(labels, pretty_map, out);
}

static void pretty_time(struct buf *out, const char *text)
{
    AUTO_BUF struct buf moment = {0};

    print_moment(&moment, text);
    for (const char *c = buf_str(&moment); *c; c++)
        buf_append_char(out, *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c); /* as docker has it here */
}

static void pretty_resources(struct buf *out, const json_t *node)
{
    char memory[PRINT_TEXT] = "";
    int64_t bytes = tree_int(node, "Description.Resources.MemoryBytes");

    if (bytes)
        print_size_binary((double)bytes, memory);
    buf_printf(out, "Platform:\n Operating System:\t%s\n Architecture:\t\t%s\n",
               tree_text(node, "Description.Platform.OS"), tree_text(node, "Description.Platform.Architecture"));
    buf_printf(out, "Resources:\n CPUs:\t\t\t%lld\n Memory:\t\t%s\n",
               (long long)(tree_int(node, "Description.Resources.NanoCPUs") / 1000000000), memory);
}

static void pretty(struct buf *out, const json_t *node)
{
    AUTO_BUF struct buf state = {0};
    AUTO_BUF struct buf availability = {0};
    AUTO_BUF struct buf reachability = {0};
    AUTO_BUF struct buf message = {0};
    const json_t *tls = tree_get(node, "Description.TLSInfo");

    print_capital(&state, tree_text(node, "Status.State"));
    print_capital(&availability, tree_text(node, "Spec.Availability"));
    print_capital(&reachability, tree_text(node, "ManagerStatus.Reachability"));
    print_capital(&message, tree_text(node, "Status.Message"));
    buf_printf(out, "ID:\t\t\t%s\n", tree_text(node, "ID"));
    if (*tree_text(node, "Spec.Name"))
        buf_printf(out, "Name:\t\t\t%s\n", tree_text(node, "Spec.Name"));
    pretty_labels(out, "Labels", tree_get(node, "Spec.Labels"));
    buf_printf(out, "Hostname:              \t%s\nJoined at:             \t",
               tree_text(node, "Description.Hostname"));
    pretty_time(out, tree_text(node, "CreatedAt"));
    buf_printf(out, "\nStatus:\n State:\t\t\t%s\n", buf_str(&state));
    if (message.length)
        buf_printf(out, " Message:              \t%s\n", buf_str(&message));
    buf_printf(out, " Availability:         \t%s\n", buf_str(&availability));
    if (*tree_text(node, "Status.Addr"))
        buf_printf(out, " Address:\t\t%s\n", tree_text(node, "Status.Addr"));
    if (tree_get(node, "ManagerStatus"))
        buf_printf(out, "Manager Status:\n Address:\t\t%s\n Raft Status:\t\t%s\n Leader:\t\t%s\n",
                   tree_text(node, "ManagerStatus.Addr"), buf_str(&reachability),
                   tree_bool(node, "ManagerStatus.Leader") ? "Yes" : "No");
    pretty_resources(out, node);
    pretty_plugins(out, tree_get(node, "Description.Engine.Plugins"));
    buf_printf(out, "Engine Version:\t\t%s\n", tree_text(node, "Description.Engine.EngineVersion"));
    pretty_labels(out, "Engine Labels", tree_get(node, "Description.Engine.Labels"));
    if (json_object_size(tls))
        buf_printf(out, "TLS Info:\n TrustRoot:\n%s\n Issuer Subject:\t%s\n Issuer Public Key:\t%s\n",
                   tree_text(tls, "TrustRoot"), tree_text(tls, "CertIssuerSubject"),
                   tree_text(tls, "CertIssuerPublicKey"));
}

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT},
    {.name = "pretty", .type = &option_switch, .help = "As lines for people"},
    {0}};

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    if (!args_switch(args, "pretty") && strcmp(args_text(args, "format"), "pretty") != 0)
        return inspect_run(cli, args, get_node, NULL, e);
    for (size_t i = 0; i < args->words_count; i++) {
        AUTO_BUF struct buf raw = {0};
        AUTO_BUF struct buf out = {0};
        AUTO_JSON json_t *node = NULL;
        int rc = get_node(cli, NULL, args->words[i], &raw, &node, e);

        if (rc < 0)
            return rc;
        pretty(&out, node);
        cli_print(&out);
    }
    return 0;
}

/* --- ps ---------------------------------------------------------------------------------------------------------
 */

static const struct option ps_options[] = {
    {.name = "filter",
     .letter = 'f',
     .type = &option_filter,
     .help = "Only those that match: desired-state=running, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "no-resolve", .type = &option_switch, .help = "Ids of services and nodes instead of names"},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids and messages in full"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids of tasks"},
    {0}};

static int tasks_of(struct cli *cli, const struct args *args, const char *name, json_t *tasks, struct err *e)
{
    AUTO_BUF struct buf raw = {0};
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_JSON json_t *node = NULL;
    AUTO_JSON json_t *list = NULL;
    int rc = get_node(cli, NULL, name, &raw, &node, e);

    if (rc < 0)
        return rc;
    cli_filter_add(filters, "node", tree_text(node, "ID"));
    path_add(&path, "/tasks");
    cli_filter_query(&path, filters);
    rc = cli_get(cli, &path, &list, e);
    if (rc == 0)
        (void)json_array_extend(tasks, list); /* nothing when the answer is no array */
    return rc;
}

static int run_ps(struct cli *cli, const struct args *args, struct err *e)
{
    static const char *const self[] = {"self"};
    const char *const *names = args->words_count ? args->words : self;
    size_t count = MAX(args->words_count, (size_t)1);
    const char *format = args_text(args, "format");
    AUTO_JSON json_t *tasks = json_array();
    struct resolver resolver;
    bool quiet = args_switch(args, "quiet");
    int rc = 0;

    if (!*format && !quiet)
        format = cli_config(cli, "tasksFormat");
    for (size_t i = 0; i < count; i++) {
        struct err why = {0};

        if (tasks_of(cli, args, names[i], tasks, &why) < 0)
            cli_complain(cli, &why);
    }
    resolver_init(&resolver, cli, args_switch(args, "no-resolve"));
    if (!cli->failed || json_array_size(tasks))
        rc = task_print(tasks, &resolver, (struct task_view){format, quiet, !args_switch(args, "no-trunc")}, e);
    resolver_fini(&resolver);
    return rc;
}

/* --- update, rm -------------------------------------------------------------------------------------------------
 */

static const struct option update_options[] = {
    {.name = "availability",
     .type = &option_string,
     .help = "Whether it takes tasks: active, pause (keeps those it has), drain (gives them up)"},
    {.name = "label-add", .type = &option_list, .help = "Set a label: key=value"},
    {.name = "label-rm", .type = &option_list, .help = "Remove a label"},
    {.name = "role", .type = &option_string, .help = "Role of the node: worker or manager"},
    {0}};

static int merge(json_t *spec, const struct args *args, struct err *e)
{
    json_t *labels = tree_object(spec, "Labels");
    const char *text;

    if (args_has(args, "role"))
        tree_put_text(spec, "Role", args_text(args, "role"));
    if (args_has(args, "availability"))
        tree_put_text(spec, "Availability", args_text(args, "availability"));
    for (size_t at = 0; (text = args_next(args, "label-add", &at));) {
        const char *equals = strchr(text, '=');
        AUTO_FREE
        char *key = mem_strndup(text, equals ? (size_t)(equals - text) : strlen(text));

        tree_put_text(labels, key, equals ? equals + 1 : "");
    }
    for (size_t at = 0; (text = args_next(args, "label-rm", &at));) {
        if (json_object_del(labels, text) < 0)
            return err_set(e, ERR_NOT_FOUND, "key %s doesn't exist in node's labels", text);
    }
    return 0;
}

static int get_for_change(struct cli *cli, const char *name, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf raw = {0};
    AUTO_JSON json_t *node = NULL;
    int rc = get_node(cli, NULL, name, &raw, &node, e);

    if (rc == 0 && !json_is_object(node))
        rc = err_set(e, ERR_CORRUPT, "the daemon's answer to GET /nodes/%s is no object", name);
    if (rc == 0)
        *ret = json_incref(node);
    return rc;
}

/* Send the specification of a node back under its version. */
static int send_node(struct cli *cli, const json_t *node, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    char version[24];

    (void)snprintf(version, sizeof(version), "%lld", (long long)tree_int(node, "Version.Index"));
    path_add(&path, "/nodes/%s/update", tree_text(node, "ID"));
    path_query(&path, "version", version);
    return cli_post(cli, &path, tree_get(node, "Spec"), NULL, e);
}

static int run_update(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *node = NULL;
    int rc = get_for_change(cli, args->words[0], &node, e);

    if (rc == 0)
        rc = merge(tree_object(node, "Spec"), args, e);
    if (rc == 0)
        rc = send_node(cli, node, e);
    if (rc == 0)
        printf("%s\n", args->words[0]);
    return rc;
}

static int change_role(struct cli *cli, const char *name, bool promote, struct err *e)
{
    const char *role = promote ? "manager" : "worker";
    AUTO_JSON json_t *node = NULL;
    int rc = get_for_change(cli, name, &node, e);

    if (rc < 0)
        return rc;
    if (strcmp(tree_text(node, "Spec.Role"), role) == 0) {
        printf("Node %s is already a %s.\n", tree_text(node, "ID"), role);
        return 0;
    }
    tree_put_text(tree_object(node, "Spec"), "Role", role);
    rc = send_node(cli, node, e);
    if (rc == 0)
        printf(promote ? "Node %s promoted to a manager in the swarm.\n" : "Manager %s demoted in the swarm.\n",
               name);
    return rc;
}

static int run_promote(struct cli *cli, const struct args *args, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < args->words_count; i++)
        rc = change_role(cli, args->words[i], true, e);
    return rc;
}

static int run_demote(struct cli *cli, const struct args *args, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < args->words_count; i++)
        rc = change_role(cli, args->words[i], false, e);
    return rc;
}

static const struct option rm_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Although it is not down"}, {0}};

static int run_rm(struct cli *cli, const struct args *args, struct err *e)
{
    for (size_t i = 0; i < args->words_count; i++) {
        AUTO_BUF struct buf path = {0};
        struct err why = {0};

        AUTO_FREE
        char *id = NULL;

        int rc = refer(cli, args->words[i], &id, &why);
        path_add(&path, "/nodes/%s", id ? id : "");
        if (args_switch(args, "force"))
            path_query(&path, "force", "1");
        if (rc < 0 || cli_delete(cli, &path, NULL, &why) < 0)
            cli_complain(cli, &why);
        else
            printf("%s\n", args->words[i]);
    }
    return 0;
}

static const struct command demote = {.name = "demote",
                                      .usage = "NODE [NODE...]",
                                      .summary = "Make managers workers",
                                      .words_min = 1,
                                      .words_max = -1,
                                      .run = run_demote};
static const struct command inspect = {.name = "inspect",
                                       .usage = "[OPTIONS] self|NODE [NODE...]",
                                       .summary = "Show everything about nodes",
                                       .options = {inspect_options},
                                       .words_min = 1,
                                       .words_max = -1,
                                       .run = run_inspect};
static const struct command ls = {.name = "ls",
                                  .alias = {"list"},
                                  .usage = "[OPTIONS]",
                                  .summary = "List the nodes of the swarm",
                                  .options = {ls_options},
                                  .run = run_ls};
static const struct command promote = {.name = "promote",
                                       .usage = "NODE [NODE...]",
                                       .summary = "Make workers managers",
                                       .words_min = 1,
                                       .words_max = -1,
                                       .run = run_promote};
static const struct command ps = {.name = "ps",
                                  .usage = "[OPTIONS] [NODE...]",
                                  .summary = "List the tasks on nodes; this one when none is named",
                                  .options = {ps_options},
                                  .words_max = -1,
                                  .run = run_ps};
static const struct command rm = {.name = "rm",
                                  .alias = {"remove"},
                                  .usage = "[OPTIONS] NODE [NODE...]",
                                  .summary = "Remove nodes from the swarm",
                                  .options = {rm_options},
                                  .words_min = 1,
                                  .words_max = -1,
                                  .run = run_rm};
static const struct command update = {.name = "update",
                                      .usage = "[OPTIONS] NODE",
                                      .summary = "Change a node's labels, availability or role",
                                      .options = {update_options},
                                      .words_min = 1,
                                      .words_max = 1,
                                      .run = run_update};

static const struct command *const children[] = {&demote, &inspect, &ls, &promote, &ps, &rm, &update, NULL};

const struct command command_node = {.name = "node",
                                     .summary = "Manage the nodes of the swarm",
                                     .words_max = -1,
                                     .section = SECTION_SWARM,
                                     .children = children};
