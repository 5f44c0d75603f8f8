/* Networks: `shoal network create, connect, disconnect, rm, prune`. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/network.h"
#include "cli/prune.h"
#include "cli/spec.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

/* --- create
 * ------------------------------------------------------------------------------------------------------- */

static const struct option create_options[] = {
    {.name = "attachable", .type = &option_switch, .help = "Containers of the user may join it as well"},
    {.name = "aux-address", .type = &option_map, .help = "An address that is not to be given: name=address"},
    {.name = "config-from", .type = &option_string, .help = "The network whose configuration is taken"},
    {.name = "config-only", .type = &option_switch, .help = "Only a configuration, for other networks"},
    {.name = "driver", .letter = 'd', .type = &option_string, .standard = "bridge", .help = "The network's driver"},
    {.name = "gateway", .type = &option_strings, .help = "The gateway of the subnet"},
    {.name = "ingress", .type = &option_switch, .help = "Use it for the swarm's routing mesh"},
    {.name = "internal", .type = &option_switch, .help = "Nothing goes in or out"},
    {.name = "ip-range", .type = &option_strings, .help = "Give addresses from this part of the subnet"},
    {.name = "ipam-driver", .type = &option_string, .standard = "default", .help = "What gives the addresses"},
    {.name = "ipam-opt", .type = &option_map, .help = "Set an option of that: key=value"},
    {.name = "ipv4", .type = &option_switch, .standard = "true", .help = "IPv4 addresses"},
    {.name = "ipv6", .type = &option_switch, .help = "IPv6 addresses"},
    {.name = "label", .type = &option_labels, .help = "Set a label: key=value"},
    {.name = "opt", .letter = 'o', .type = &option_map, .help = "Set an option of the driver: key=value"},
    {.name = "scope", .type = &option_string, .help = "How far it reaches: local, swarm"},
    {.name = "subnet", .type = &option_strings, .help = "The subnet, as 10.1.0.0/24"},
    {0}};

/* Ranges and gateways belong to the subnets in the order in which they are given. */
static int put_pools(json_t *ipam, const struct args *args, struct err *e)
{
    size_t subnets = args_count(args, "subnet"), at = 0, range_at = 0, gateway_at = 0;
    const char *subnet, *range, *gateway;
    json_t *pool = NULL;

    if (args_count(args, "ip-range") > subnets || args_count(args, "gateway") > subnets)
        return err_set(e, ERR_INVALID, "every ip-range or gateway must have a corresponding subnet");
    if (args_has(args, "aux-address") && subnets != 1)
        return err_set(e, ERR_INVALID, "no matching subnet for aux-address %s", args_text(args, "aux-address"));
    while ((subnet = args_next(args, "subnet", &at))) {
        pool = json_object();
        tree_put_text(pool, "Subnet", subnet);
        if ((range = args_next(args, "ip-range", &range_at)))
            tree_put_text(pool, "IPRange", range);
        if ((gateway = args_next(args, "gateway", &gateway_at)))
            tree_put_text(pool, "Gateway", gateway);
        json_array_append_new(tree_array(ipam, "Config"), pool);
    }
    if (pool)
        spec_put_map(pool, "AuxiliaryAddresses", args, "aux-address");
    return 0;
}

static int run_create(struct cli *cli, const struct args *args, struct err *e)
{
    static const struct {
        const char *option, *member;
    } switches[] = {{"attachable", "Attachable"},
                    {"config-only", "ConfigOnly"},
                    {"ingress", "Ingress"},
                    {"internal", "Internal"}};
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *body = json_object();
    AUTO_JSON json_t *answer = NULL;

    tree_put_text(body, "Name", args->words[0]);
    tree_put_text(body, "Driver", args_text(args, "driver"));
    if (*args_text(args, "scope"))
        tree_put_text(body, "Scope", args_text(args, "scope"));
    for (size_t i = 0; i < ARRAY_SIZE(switches); i++)
        if (args_switch(args, switches[i].option))
            tree_put(body, switches[i].member, json_true());
    if (args_has(args, "ipv6"))
        tree_put(body, "EnableIPv6", json_boolean(args_switch(args, "ipv6")));
    if (args_has(args, "ipv4"))
        tree_put(body, "EnableIPv4", json_boolean(args_switch(args, "ipv4")));
    if (*args_text(args, "config-from"))
        tree_put_text(tree_object(body, "ConfigFrom"), "Network", args_text(args, "config-from"));
    json_t *ipam = tree_object(body, "IPAM");
    tree_put_text(ipam, "Driver", args_text(args, "ipam-driver"));
    spec_put_map(ipam, "Options", args, "ipam-opt");
    spec_put_map(body, "Options", args, "opt");
    spec_put_map(body, "Labels", args, "label");
    path_add(&path, "/networks/create");
    int rc = put_pools(ipam, args, e);
    if (rc == 0)
        rc = cli_post(cli, &path, body, &answer, e);
    if (rc == 0)
        printf("%s\n", tree_text(answer, "Id"));
    return rc;
}

const struct command network_create = {.name = "create",
                                       .usage = "[OPTIONS] NETWORK",
                                       .summary = "Make a network",
                                       .options = {create_options},
                                       .words_min = 1,
                                       .words_max = 1,
                                       .run = run_create};

/* --- connect, disconnect
 * ------------------------------------------------------------------------------------------ */

static const struct option connect_options[] = {
    {.name = "alias", .type = &option_strings, .help = "A further name of the container in the network"},
    {.name = "driver-opt", .type = &option_strings, .help = "Set an option of the driver: key=value"},
    {.name = "gw-priority", .type = &option_int, .help = "The network of the highest one is the way out"},
    {.name = "ip", .type = &option_string, .help = "IPv4 address"},
    {.name = "ip6", .type = &option_string, .help = "IPv6 address"},
    {.name = "link", .type = &option_links, .help = "Another container that is known by a name: container:name"},
    {.name = "link-local-ip", .type = &option_strings, .help = "A link-local address"},
    {0}};

static int run_connect(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *body = json_object();
    json_t *ep = tree_object(body, "EndpointConfig");

    tree_put_text(body, "Container", args->words[1]);
    spec_put_list(ep, "Aliases", args, "alias");
    spec_put_list(ep, "Links", args, "link");
    spec_put_map(ep, "DriverOpts", args, "driver-opt");
    if (args_has(args, "gw-priority"))
        tree_put_int(ep, "GwPriority", args_int(args, "gw-priority"));
    if (*args_text(args, "ip"))
        tree_put_text(tree_object(ep, "IPAMConfig"), "IPv4Address", args_text(args, "ip"));
    if (*args_text(args, "ip6"))
        tree_put_text(tree_object(ep, "IPAMConfig"), "IPv6Address", args_text(args, "ip6"));
    if (args_has(args, "link-local-ip"))
        spec_put_list(tree_object(ep, "IPAMConfig"), "LinkLocalIPs", args, "link-local-ip");
    path_add(&path, "/networks/%s/connect", args->words[0]);
    return cli_post(cli, &path, body, NULL, e);
}

const struct command network_connect = {.name = "connect",
                                        .usage = "[OPTIONS] NETWORK CONTAINER",
                                        .summary = "Connect a container to a network",
                                        .options = {connect_options},
                                        .words_min = 2,
                                        .words_max = 2,
                                        .run = run_connect};

static const struct option disconnect_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Also when the container is not there"}, {0}};

static int run_disconnect(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *body = json_object();

    tree_put_text(body, "Container", args->words[1]);
    tree_put(body, "Force", json_boolean(args_switch(args, "force")));
    path_add(&path, "/networks/%s/disconnect", args->words[0]);
    return cli_post(cli, &path, body, NULL, e);
}

const struct command network_disconnect = {.name = "disconnect",
                                           .usage = "[OPTIONS] NETWORK CONTAINER",
                                           .summary = "Disconnect a container from a network",
                                           .options = {disconnect_options},
                                           .words_min = 2,
                                           .words_max = 2,
                                           .run = run_disconnect};

/* --- rm, prune
 * ---------------------------------------------------------------------------------------------------- */

static const struct option rm_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Do not mind when it does not exist"}, {0}};

static int run_rm(struct cli *cli, const struct args *args, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < args->words_count; i++) {
        AUTO_BUF struct buf path = {0};
        struct err why = {0};

        path_add(&path, "/networks/%s", args->words[i]);
        int rc = *args->words[i] ? cli_delete(cli, &path, NULL, &why)
                                 : err_set(&why, ERR_INVALID, "invalid network name or ID: value is empty");
        if (rc == 0)
            printf("%s\n", args->words[i]);
        else if (rc != ERR_NOT_FOUND || !args_switch(args, "force"))
            cli_complain(cli, &why);
    }
    return 0;
}

const struct command network_rm = {.name = "rm",
                                   .alias = {"remove"},
                                   .usage = "NETWORK [NETWORK...]",
                                   .summary = "Remove networks",
                                   .options = {rm_options},
                                   .words_min = 1,
                                   .words_max = -1,
                                   .run = run_rm};

static const struct option prune_options[] = {
    {.name = "filter", .type = &option_filter, .help = "Only those that match: until=24h, label=KEY"},
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Do not ask first"},
    {0}};

static int run_prune(struct cli *cli, const struct args *args, struct err *e)
{
    static const struct prune networks = {
        .path = "/networks/prune",
        .title = "Networks",
        .warning = "WARNING! This will remove all custom networks not used by at least one container."};
    AUTO_JSON json_t *filters = cli_filters(args);

    return cli_prune(cli, args, &networks, filters, e);
}

const struct command network_prune = {.name = "prune",
                                      .usage = "[OPTIONS]",
                                      .summary = "Remove networks that nothing uses",
                                      .options = {prune_options},
                                      .run = run_prune};
