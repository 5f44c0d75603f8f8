/* The swarm as a whole: `shoal swarm init, inspect, join, join-token, leave, update`. Its certificates are in
 * swarm_ca.c, locked managers in swarm_lock.c, what its specification is made from in swarm_spec.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/inspect.h"
#include "cli/swarm.h"
#include "cli/tree.h"
#include "cli/value.h"
#include "proto/base/mem.h"

int swarm_get(struct cli *cli, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/swarm");
    return cli_get(cli, &path, ret, e);
}

int swarm_send(struct cli *cli, const json_t *swarm, enum swarm_rotation rotation, struct err *e)
{
    const json_t *spec = tree_get(swarm, "Spec");
    AUTO_BUF struct buf path = {0};
    char version[24];

    if (!spec)
        return err_set(e, ERR_CORRUPT, "the daemon's answer to GET /swarm has no Spec");
    (void)snprintf(version, sizeof(version), "%lld", (long long)tree_int(swarm, "Version.Index"));
    path_add(&path, "/swarm/update");
    path_query(&path, "rotateManagerToken", rotation == ROTATE_MANAGER_TOKEN ? "true" : "false");
    path_query(&path, "rotateManagerUnlockKey", rotation == ROTATE_UNLOCK_KEY ? "true" : "false");
    path_query(&path, "rotateWorkerToken", rotation == ROTATE_WORKER_TOKEN ? "true" : "false");
    path_query(&path, "version", version);
    return cli_post(cli, &path, spec, NULL, e);
}

/* How another machine joins as a worker or as a manager. */
static int print_join(struct cli *cli, const char *node_id, const char *role, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *node = NULL;
    AUTO_JSON json_t *swarm = NULL;
    bool worker = strcmp(role, "worker") == 0;

    path_add(&path, "/nodes/%s", node_id);
    int rc = cli_get(cli, &path, &node, e);
    if (rc == 0)
        rc = swarm_get(cli, &swarm, e);
    if (rc == 0 && tree_get(node, "ManagerStatus"))
        printf("To add a %s to this swarm, run the following command:\n\n    %s swarm join --token %s %s\n\n", role,
               cli->program, tree_text(swarm, worker ? "JoinTokens.Worker" : "JoinTokens.Manager"),
               tree_text(node, "ManagerStatus.Addr"));
    return rc;
}

/* --- what init and join share -----------------------------------------------------------------------------------
 */

#define ADDRESSES                                                                        \
    {.name = "advertise-addr",                                                           \
     .type = &option_string,                                                             \
     .help = "The address others reach this node at: address or interface[:port]"},      \
        {.name = "availability",                                                         \
         .type = &option_string,                                                         \
         .standard = "active",                                                           \
         .help = "Of this node: active, pause or drain"},                                \
        {.name = "data-path-addr",                                                       \
         .type = &option_string,                                                         \
         .help = "The address for traffic between containers: address or interface"},    \
    {                                                                                    \
        .name = "listen-addr", .type = &option_node_address, .standard = "0.0.0.0:2377", \
        .help = "Where to listen: address or interface[:port]"                           \
    }

static void put_addresses(json_t *body, const struct args *args)
{
    tree_put_text(body, "ListenAddr", args_text(args, "listen-addr"));
    if (*args_text(args, "advertise-addr"))
        tree_put_text(body, "AdvertiseAddr", args_text(args, "advertise-addr"));
    if (*args_text(args, "data-path-addr"))
        tree_put_text(body, "DataPathAddr", args_text(args, "data-path-addr"));
}

static int put_availability(json_t *body, const struct args *args, struct err *e)
{
    static const char *const availabilities[] = {"active", "pause", "drain"};
    const char *availability = args_text(args, "availability");
    size_t i = 0;

    while (i < ARRAY_SIZE(availabilities) && strcasecmp(availability, availabilities[i]) != 0)
        i++;
    if (i == ARRAY_SIZE(availabilities))
        return err_set(e, ERR_INVALID, "invalid availability \"%s\", only active, pause and drain are supported",
                       availability);
    if (args_has(args, "availability"))
        tree_put_text(body, "Availability", availabilities[i]);
    return 0;
}

/* --- init ---------------------------------------------------------------------------------------------------
 */

static const struct option init_options[] = {
    ADDRESSES,
    {.name = "data-path-port",
     .type = &option_uint32,
     .help = "The port for that traffic, 1024 to 49151 (4789 when 0)"},
    {.name = "default-addr-pool", .type = &option_subnets, .help = "Addresses to make networks from: 10.0.0.0/8"},
    {.name = "default-addr-pool-mask-length",
     .type = &option_uint32,
     .standard = "24",
     .help = "Size of each such network, as the length of its prefix"},
    {.name = "force-new-cluster", .type = &option_switch, .help = "Start a swarm of one from this manager's state"},
    {0}};

static int init_body(json_t *body, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *spec = json_object();
    AUTO_ARENA struct arena a;
    const char *text;

    arena_init(&a);
    put_addresses(body, args);
    if (args_uint(args, "data-path-port"))
        tree_put_int(body, "DataPathPort", (int64_t)args_uint(args, "data-path-port"));
    for (size_t at = 0; (text = args_next(args, "default-addr-pool", &at));) {
        for (const char *one; text;) {
            text = value_cut(&a, text, ',', &one);
            tree_append_text(tree_array(body, "DefaultAddrPool"), one);
        }
    }
    tree_put_int(body, "SubnetSize", (int64_t)args_uint(args, "default-addr-pool-mask-length"));
    if (args_switch(args, "force-new-cluster"))
        tree_put_bool(body, "ForceNewCluster", true);
    if (args_switch(args, "autolock"))
        tree_put_bool(body, "AutoLockManagers", true);
    int rc = put_availability(body, args, e);
    if (rc == 0)
        rc = swarm_spec(spec, args, "", e);
    if (rc == 0 && json_object_size(spec))
        tree_put(body, "Spec", json_incref(spec));
    return rc;
}

static int run_init(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *body = json_object();
    AUTO_JSON json_t *id = NULL;
    AUTO_BUF struct buf path = {0};
    int rc = init_body(body, args, e);

    path_add(&path, "/swarm/init");
    if (rc == 0)
        rc = cli_post(cli, &path, body, &id, e);
    if (rc < 0) {
        if (strstr(e->text, "could not choose an IP address to advertise") ||
            strstr(e->text, "could not find the system's IP address"))
            strncat(e->text, " - specify one with --advertise-addr", sizeof(e->text) - strlen(e->text) - 1);
        return rc;
    }
    const char *node = json_is_string(id) ? json_string_value(id) : "";
    printf("Swarm initialized: current node (%s) is now a manager.\n\n", node);
    rc = print_join(cli, node, "worker", e);
    if (rc < 0)
        return rc;
    printf("To add a manager to this swarm, run '%s swarm join-token manager' and follow the instructions.\n",
           cli->program);
    return args_switch(args, "autolock") ? swarm_print_unlock_key(cli, e) : 0;
}

/* --- join-token -------------------------------------------------------------------------------------------------
 */

static const struct option join_token_options[] = {
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only the token"},
    {.name = "rotate", .type = &option_switch, .help = "Make a new token; the old one is no longer accepted"},
    {0}};

static int rotate(struct cli *cli, bool worker, struct err *e)
{
    AUTO_JSON json_t *swarm = NULL;
    int rc = swarm_get(cli, &swarm, e);

    return rc < 0 ? rc : swarm_send(cli, swarm, worker ? ROTATE_WORKER_TOKEN : ROTATE_MANAGER_TOKEN, e);
}

static int run_join_token(struct cli *cli, const struct args *args, struct err *e)
{
    const char *role = args->words[0];
    bool worker = strcmp(role, "worker") == 0, quiet = args_switch(args, "quiet");
    AUTO_JSON json_t *swarm = NULL;
    AUTO_JSON json_t *info = NULL;
    AUTO_BUF struct buf path = {0};
    int rc = 0;

    if (!worker && strcmp(role, "manager") != 0)
        return err_set(e, ERR_INVALID, "unknown role %s", role);
    if (args_switch(args, "rotate")) {
        rc = rotate(cli, worker, e);
        if (rc == 0 && !quiet)
            printf("Successfully rotated %s join token.\n\n", role);
    }
    if (rc == 0 && quiet) {
        rc = swarm_get(cli, &swarm, e);
        if (rc == 0)
            printf("%s\n", tree_text(swarm, worker ? "JoinTokens.Worker" : "JoinTokens.Manager"));
        return rc;
    }
    path_add(&path, "/info");
    if (rc == 0)
        rc = cli_get(cli, &path, &info, e);
    if (rc == 0 && !*tree_text(info, "Swarm.NodeID")) /* the request for the swarm says it in the node's words */
        rc = swarm_get(cli, &swarm, e);
    return rc < 0 ? rc : print_join(cli, tree_text(info, "Swarm.NodeID"), role, e);
}

/* --- join -------------------------------------------------------------------------------------------------------
 */

static const struct option join_options[] = {
    ADDRESSES,
    {.name = "token", .type = &option_string, .help = "What `swarm join-token` shows: decides worker or manager"},
    {0}};

static int run_join(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *body = json_object();
    AUTO_JSON json_t *info = NULL;
    AUTO_BUF struct buf path = {0};
    AUTO_BUF struct buf info_path = {0};

    put_addresses(body, args);
    tree_append_text(tree_array(body, "RemoteAddrs"), args->words[0]);
    tree_put_text(body, "JoinToken", args_text(args, "token"));
    int rc = put_availability(body, args, e);
    path_add(&path, "/swarm/join");
    if (rc == 0)
        rc = cli_post(cli, &path, body, NULL, e);
    path_add(&info_path, "/info");
    if (rc == 0)
        rc = cli_get(cli, &info_path, &info, e);
    if (rc == 0)
        printf("This node joined a swarm as a %s.\n",
               tree_bool(info, "Swarm.ControlAvailable") ? "manager" : "worker");
    return rc;
}

/* --- update -----------------------------------------------------------------------------------------------------
 */

static int run_update(struct cli *cli, const struct args *args, struct err *e)
{
    static const char autolock[] = "Spec.EncryptionConfig.AutoLockManagers";
    AUTO_JSON json_t *swarm = NULL;
    int rc = swarm_get(cli, &swarm, e);

    if (rc < 0)
        return rc;
    bool was_locking = tree_bool(swarm, autolock);
    rc = swarm_spec(tree_object(swarm, "Spec"), args, tree_text(swarm, "TLSInfo.TrustRoot"), e);
    if (rc == 0)
        rc = swarm_send(cli, swarm, ROTATE_NOTHING, e);
    if (rc < 0)
        return rc;
    printf("Swarm updated.\n");
    return tree_bool(swarm, autolock) && !was_locking ? swarm_print_unlock_key(cli, e) : 0;
}

/* --- leave, inspect ---------------------------------------------------------------------------------------------
 */

static const struct option leave_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Although it is a manager"}, {0}};

static int run_leave(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/swarm/leave");
    if (args_switch(args, "force"))
        path_query(&path, "force", "1");
    int rc = cli_post(cli, &path, NULL, NULL, e);
    if (rc == 0)
        printf("Node left the swarm.\n");
    return rc;
}

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT}, {0}};

static int fetch_swarm(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret,
                       struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/swarm");
    return cli_get_raw(cli, &path, raw, ret, e);
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    static const char *only[] = {"swarm"};
    struct args one = *args; /* there is one swarm, and no word to name it */

    one.words = only;
    one.words_count = 1;
    return inspect_run(cli, &one, fetch_swarm, NULL, e);
}

static const struct command init = {.name = "init",
                                    .usage = "[OPTIONS]",
                                    .summary = "Start a swarm with this node as its first manager",
                                    .options = {init_options, swarm_ca_options, swarm_spec_options},
                                    .run = run_init};
static const struct command inspect = {.name = "inspect",
                                       .usage = "[OPTIONS]",
                                       .summary = "Show everything about the swarm",
                                       .options = {inspect_options},
                                       .run = run_inspect};
static const struct command join = {.name = "join",
                                    .usage = "[OPTIONS] HOST:PORT",
                                    .summary = "Join a swarm as a worker or a manager",
                                    .options = {join_options},
                                    .words_min = 1,
                                    .words_max = 1,
                                    .run = run_join};
static const struct command join_token = {.name = "join-token",
                                          .usage = "[OPTIONS] (worker|manager)",
                                          .summary = "Show how other nodes join",
                                          .options = {join_token_options},
                                          .words_min = 1,
                                          .words_max = 1,
                                          .run = run_join_token};
static const struct command leave = {.name = "leave",
                                     .usage = "[OPTIONS]",
                                     .summary = "Take this node out of its swarm",
                                     .options = {leave_options},
                                     .run = run_leave};

static const struct command update = {.name = "update",
                                      .usage = "[OPTIONS]",
                                      .summary = "Change the swarm's settings",
                                      .options = {swarm_ca_options, swarm_spec_options},
                                      .needs_option = true,
                                      .run = run_update};

static const struct command *const children[] = {&swarm_ca, &init,         &inspect,          &join,   &join_token,
                                                 &leave,    &swarm_unlock, &swarm_unlock_key, &update, NULL};

const struct command command_swarm = {.name = "swarm",
                                      .summary = "Manage the swarm",
                                      .words_max = -1,
                                      .section = SECTION_SWARM,
                                      .children = children};
