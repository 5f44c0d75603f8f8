/* The swarm as a whole: `shoal swarm init, inspect, join-token, leave`. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/spec.h"
#include "cli/tree.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define PEM_MAX (1024 * 1024)

static int get_swarm(struct cli *cli, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/swarm");
    return cli_get(cli, &path, ret, e);
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
        rc = get_swarm(cli, &swarm, e);
    if (rc == 0 && tree_get(node, "ManagerStatus"))
        printf("To add a %s to this swarm, run the following command:\n\n    %s swarm join --token %s %s\n\n", role,
               cli->program, tree_text(swarm, worker ? "JoinTokens.Worker" : "JoinTokens.Manager"),
               tree_text(node, "ManagerStatus.Addr"));
    return rc;
}

/* --- init -------------------------------------------------------------------------------------------------------
 */

/* "protocol=cfssl,url=https://...[,cacert=file]": other keys are options of the signer. */
static int external_ca(const char *text, json_t **ret, struct err *e)
{
    AUTO_ARENA struct arena a;
    const char **fields;
    size_t count;
    bool protocol = false, url = false;
    json_t *ca = json_object();

    arena_init(&a);
    int rc = value_fields(&a, text, &fields, &count, e);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *key, *value = value_cut(&a, fields[i], '=', &key);
        AUTO_BUF struct buf pem = {0};

        if (!value) {
            rc = err_set(e, ERR_INVALID, "invalid field '%s' must be a key=value pair", fields[i]);
        } else if (strcasecmp(key, "protocol") == 0) {
            protocol = true;
            if (strcasecmp(value, "cfssl") != 0)
                rc = err_set(e, ERR_INVALID, "unrecognized external CA protocol %s", value);
            tree_put_text(ca, "Protocol", "cfssl");
        } else if (strcasecmp(key, "url") == 0) {
            url = true;
            tree_put_text(ca, "URL", value);
        } else if (strcasecmp(key, "cacert") == 0) {
            rc = file_read(AT_FDCWD, value, PEM_MAX, &pem, e);
            if (rc < 0)
                (void)err_wrap(e, "unable to read CA cert for external CA");
            else if (!strstr(buf_str(&pem), "-----BEGIN "))
                rc = err_set(e, ERR_INVALID, "CA cert for external CA must be in PEM format");
            tree_put_text(ca, "CACert", buf_str(&pem));
        } else {
            tree_put_text(tree_object(ca, "Options"), key, value);
        }
    }
    if (rc == 0 && !protocol)
        rc = err_set(e, ERR_INVALID, "the external-ca option needs a protocol= parameter");
    if (rc == 0 && !url)
        rc = err_set(e, ERR_INVALID, "the external-ca option needs a url= parameter");
    if (rc < 0)
        json_decref(ca);
    else
        *ret = ca;
    return rc;
}

static int check_external_ca(struct arena *a, const char **text, struct err *e)
{
    AUTO_JSON json_t *ca = NULL;

    return external_ca(*text, &ca, e);
}

static const struct option_type external_cas = {"external-ca", true, check_external_ca};

static const struct option init_options[] = {
    {.name = "advertise-addr",
     .type = &option_string,
     .help = "The address others reach this node at: address or interface[:port]"},
    {.name = "autolock", .type = &option_switch, .help = "Keep managers' keys locked until an unlock key is given"},
    {.name = "availability",
     .type = &option_string,
     .standard = "active",
     .help = "Of this node: active, pause or drain"},
    {.name = "cert-expiry",
     .type = &option_duration,
     .standard = "2160h0m0s",
     .help = "How long the certificates of nodes hold"},
    {.name = "data-path-addr",
     .type = &option_string,
     .help = "The address for traffic between containers: address or interface"},
    {.name = "data-path-port",
     .type = &option_uint32,
     .help = "The port for that traffic, 1024 to 49151 (4789 when 0)"},
    {.name = "default-addr-pool", .type = &option_subnets, .help = "Addresses to make networks from: 10.0.0.0/8"},
    {.name = "default-addr-pool-mask-length",
     .type = &option_uint32,
     .standard = "24",
     .help = "Size of each such network, as the length of its prefix"},
    {.name = "dispatcher-heartbeat",
     .type = &option_duration,
     .standard = "5s",
     .help = "How often nodes say that they live"},
    {.name = "external-ca",
     .type = &external_cas,
     .help = "Have certificates signed elsewhere: protocol=cfssl,url=..."},
    {.name = "force-new-cluster", .type = &option_switch, .help = "Start a swarm of one from this manager's state"},
    {.name = "listen-addr",
     .type = &option_node_address,
     .standard = "0.0.0.0:2377",
     .help = "Where to listen: address or interface[:port]"},
    {.name = "max-snapshots", .type = &option_uint, .help = "Old snapshots to keep besides the newest"},
    {.name = "snapshot-interval",
     .type = &option_uint,
     .standard = "10000",
     .help = "Log entries between two snapshots"},
    {.name = "task-history-limit",
     .type = &option_int,
     .standard = "5",
     .help = "Ended tasks to keep for each slot"},
    {0}};

static int cluster_spec(json_t *body, const struct args *args, struct err *e)
{
    const char *text;

    if (args_has(args, "task-history-limit"))
        tree_put_int(tree_object(body, "Spec.Orchestration"), "TaskHistoryRetentionLimit",
                     args_int(args, "task-history-limit"));
    if (args_has(args, "dispatcher-heartbeat"))
        tree_put_int(tree_object(body, "Spec.Dispatcher"), "HeartbeatPeriod",
                     args_duration(args, "dispatcher-heartbeat"));
    if (args_has(args, "max-snapshots"))
        tree_put_int(tree_object(body, "Spec.Raft"), "KeepOldSnapshots", (int64_t)args_uint(args, "max-snapshots"));
    if (args_has(args, "snapshot-interval"))
        tree_put_int(tree_object(body, "Spec.Raft"), "SnapshotInterval",
                     (int64_t)args_uint(args, "snapshot-interval"));
    if (args_has(args, "autolock"))
        tree_put_bool(tree_object(body, "Spec.EncryptionConfig"), "AutoLockManagers",
                      args_switch(args, "autolock"));
    if (args_has(args, "cert-expiry"))
        tree_put_int(tree_object(body, "Spec.CAConfig"), "NodeCertExpiry", args_duration(args, "cert-expiry"));
    for (size_t at = 0; (text = args_next(args, "external-ca", &at));) {
        json_t *ca = NULL;
        int rc = external_ca(text, &ca, e);

        if (rc < 0)
            return rc;
        tree_append(tree_array(body, "Spec.CAConfig.ExternalCAs"), ca);
    }
    return 0;
}

static int init_body(json_t *body, const struct args *args, struct err *e)
{
    static const char *const availabilities[] = {"active", "pause", "drain"};
    const char *availability = args_text(args, "availability"), *text;
    AUTO_ARENA struct arena a;
    size_t i = 0;

    arena_init(&a);
    tree_put_text(body, "ListenAddr", args_text(args, "listen-addr"));
    if (*args_text(args, "advertise-addr"))
        tree_put_text(body, "AdvertiseAddr", args_text(args, "advertise-addr"));
    if (*args_text(args, "data-path-addr"))
        tree_put_text(body, "DataPathAddr", args_text(args, "data-path-addr"));
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
    while (i < ARRAY_SIZE(availabilities) && strcasecmp(availability, availabilities[i]) != 0)
        i++;
    if (i == ARRAY_SIZE(availabilities))
        return err_set(e, ERR_INVALID, "invalid availability \"%s\", only active, pause and drain are supported",
                       availability);
    if (args_has(args, "availability"))
        tree_put_text(body, "Availability", availabilities[i]);
    return cluster_spec(body, args, e);
}

static int print_unlock_key(struct cli *cli, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *answer = NULL;

    path_add(&path, "/swarm/unlockkey");
    int rc = cli_get(cli, &path, &answer, e);
    if (rc < 0)
        return err_wrap(e, "could not fetch unlock key");
    printf(
        "To unlock a swarm manager after it restarts, run the `%s swarm unlock`\ncommand and provide the following "
        "key:\n\n    %s\n\nRemember to store this key in a password manager, since without it you\nwill not be "
        "able "
        "to restart the manager.\n",
        cli->program, tree_text(answer, "UnlockKey"));
    return 0;
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
    return args_switch(args, "autolock") ? print_unlock_key(cli, e) : 0;
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
    AUTO_BUF struct buf path = {0};
    char version[24];
    int rc = get_swarm(cli, &swarm, e);

    if (rc < 0)
        return rc;
    (void)snprintf(version, sizeof(version), "%lld", (long long)tree_int(swarm, "Version.Index"));
    path_add(&path, "/swarm/update");
    path_query(&path, "rotateManagerToken", worker ? "false" : "true");
    path_query(&path, "rotateManagerUnlockKey", "false");
    path_query(&path, "rotateWorkerToken", worker ? "true" : "false");
    path_query(&path, "version", version);
    json_t *spec = tree_get(swarm, "Spec");
    return spec ? cli_post(cli, &path, spec, NULL, e)
                : err_set(e, ERR_CORRUPT, "the daemon's answer to GET /swarm has no Spec");
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
        rc = get_swarm(cli, &swarm, e);
        if (rc == 0)
            printf("%s\n", tree_text(swarm, worker ? "JoinTokens.Worker" : "JoinTokens.Manager"));
        return rc;
    }
    path_add(&path, "/info");
    if (rc == 0)
        rc = cli_get(cli, &path, &info, e);
    if (rc == 0 && !*tree_text(info, "Swarm.NodeID")) /* the request for the swarm says it in the node's words */
        rc = get_swarm(cli, &swarm, e);
    return rc < 0 ? rc : print_join(cli, tree_text(info, "Swarm.NodeID"), role, e);
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
                                    .options = {init_options},
                                    .run = run_init};
static const struct command inspect = {.name = "inspect",
                                       .usage = "[OPTIONS]",
                                       .summary = "Show everything about the swarm",
                                       .options = {inspect_options},
                                       .run = run_inspect};
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

static const struct command *const children[] = {&init, &inspect, &join_token, &leave, NULL};

const struct command command_swarm = {.name = "swarm",
                                      .summary = "Manage the swarm",
                                      .words_max = -1,
                                      .section = SECTION_SWARM,
                                      .children = children};
