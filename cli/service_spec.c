/* From the options of `shoal service create` to a service's spec. See service.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/service.h"
#include "cli/spec.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

#define SECOND 1000000000LL

/* --- pieces -----------------------------------------------------------------------------------------------------
 */

json_t *service_words(const struct args *args, const char *option)
{
    json_t *array = json_array();
    AUTO_ARENA struct arena a;
    const char **words;
    size_t count;

    arena_init(&a);
    if (value_words(&a, args_text(args, option), &words, &count, NULL) == 0) /* checked when parsed */
        for (size_t i = 0; i < count; i++)
            tree_append_text(array, words[i]);
    return array;
}

json_t *service_ports(const struct args *args, const char *option)
{
    json_t *array = json_array();
    AUTO_ARENA struct arena a;
    const char *text;

    arena_init(&a);
    for (size_t at = 0; (text = args_next(args, option, &at));) {
        struct attach_port *ports = NULL;
        size_t count = 0;

        (void)attach_ports(&a, text, &ports, &count, NULL); /* checked when parsed */
        for (size_t i = 0; i < count; i++) {
            json_t *port = json_object();

            tree_put_text(port, "Protocol", ports[i].protocol);
            tree_put_int(port, "TargetPort", ports[i].target);
            if (ports[i].published)
                tree_put_int(port, "PublishedPort", ports[i].published);
            tree_put_text(port, "PublishMode", ports[i].host_mode ? "host" : "ingress");
            tree_append(array, port);
        }
    }
    return array;
}

json_t *service_preferences(const struct args *args, const char *option)
{
    json_t *array = json_array();
    const char *text;

    for (size_t at = 0; (text = args_next(args, option, &at));) {
        json_t *preference = json_object();

        tree_put_text(tree_object(preference, "Spread"), "SpreadDescriptor", strchr(text, '=') + 1);
        tree_append(array, preference);
    }
    return array;
}

json_t *service_generic(const char *text)
{
    const char *equals = strchr(text, '=');
    json_t *resource = json_object(), *discrete = tree_object(resource, "DiscreteResourceSpec");
    AUTO_FREE
    char *kind = mem_strndup(text, (size_t)(equals - text));
    int64_t amount = 0;

    (void)value_int(equals + 1, 10, 64, &amount, NULL); /* checked when parsed */
    tree_put_text(discrete, "Kind", kind);
    tree_put_int(discrete, "Value", amount);
    return resource;
}

json_t *service_host(const char *text)
{
    const char *colon = strchr(text, ':');
    AUTO_FREE
    char *line = mem_printf("%s %.*s", colon + 1, (int)(colon - text), text);

    return json_stringn_nocheck(line, strlen(line));
}

int service_network(struct cli *cli, const char *text, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *network = NULL;
    AUTO_ARENA struct arena a;
    struct attach_network n;

    arena_init(&a);
    int rc = attach_network(&a, text, &n, e);
    if (rc < 0)
        return rc;
    path_add(&path, "/networks/%s", n.target);
    path_query(&path, "scope", "swarm");
    rc = cli_get(cli, &path, &network, e);
    if (rc < 0)
        return rc;
    json_t *attachment = json_object();
    tree_put_text(attachment, "Target", tree_text(network, "Id"));
    for (size_t i = 0; i < n.aliases_count; i++)
        tree_append_text(tree_array(attachment, "Aliases"), n.aliases[i]);
    if (n.driver_options.count)
        tree_put(attachment, "DriverOpts", spec_pairs(&n.driver_options));
    *ret = attachment;
    return 0;
}

static int by_target(const void *a, const void *b)
{
    return strcmp(tree_text(*(json_t *const *)a, "Target"), tree_text(*(json_t *const *)b, "Target"));
}

void service_sort_networks(json_t *networks)
{
    size_t count = json_array_size(networks);
    AUTO_FREE
    json_t **list = mem_array(count, sizeof(*list));

    for (size_t i = 0; i < count; i++)
        list[i] = json_incref(json_array_get(networks, i));
    qsort(list, count, sizeof(*list), by_target);
    for (size_t i = 0; i < count; i++)
        (void)json_array_set_new(networks, i, list[i]); /* the place exists */
}

/* --- restart, update, rollback ----------------------------------------------------------------------------------
 */

json_t *service_restart_policy(void)
{
    json_t *policy = json_object();

    tree_put_text(policy, "Condition", "any");
    tree_put_int(policy, "Delay", 5 * SECOND);
    tree_put_int(policy, "MaxAttempts", 0);
    return policy;
}

bool service_restarts(const struct args *args)
{
    return args_has(args, "restart-condition") || args_has(args, "restart-delay") ||
           args_has(args, "restart-max-attempts") || args_has(args, "restart-window");
}

void service_put_restart(json_t *policy, const struct args *args)
{
    if (args_has(args, "restart-condition"))
        tree_put_text(policy, "Condition", args_text(args, "restart-condition"));
    if (args_has(args, "restart-delay"))
        tree_put_int(policy, "Delay", args_duration(args, "restart-delay"));
    if (args_has(args, "restart-max-attempts"))
        tree_put_int(policy, "MaxAttempts", (int64_t)args_uint(args, "restart-max-attempts"));
    if (args_has(args, "restart-window"))
        tree_put_int(policy, "Window", args_duration(args, "restart-window"));
}

json_t *service_pace(void)
{
    json_t *config = json_object();

    tree_put_int(config, "Parallelism", 1);
    tree_put_text(config, "FailureAction", "pause");
    tree_put_int(config, "Monitor", 5 * SECOND);
    tree_put_int(config, "MaxFailureRatio", 0);
    tree_put_text(config, "Order", "stop-first");
    return config;
}

static const struct {
    const char *suffix, *member;
    char kind; /* '0' number, 'd' duration, 't' text, 'f' real */
} pace_members[] = {
    {"parallelism", "Parallelism", '0'},
    {"delay", "Delay", 'd'},
    {"monitor", "Monitor", 'd'},
    {"failure-action", "FailureAction", 't'},
    {"max-failure-ratio", "MaxFailureRatio", 'f'},
    {"order", "Order", 't'},
};

static const char *pace_option(const char *prefix, size_t i, char name[64])
{
    (void)snprintf(name, 64, "%s-%s", prefix, pace_members[i].suffix);
    return name;
}

bool service_paces(const struct args *args, const char *prefix)
{
    char name[64];

    for (size_t i = 0; i < ARRAY_SIZE(pace_members); i++)
        if (args_has(args, pace_option(prefix, i, name)))
            return true;
    return false;
}

void service_put_pace(json_t *config, const struct args *args, const char *prefix)
{
    for (size_t i = 0; i < ARRAY_SIZE(pace_members); i++) {
        const char *member = pace_members[i].member;
        char name[64];

        if (!args_has(args, pace_option(prefix, i, name)))
            continue;
        if (pace_members[i].kind == '0')
            tree_put_int(config, member, (int64_t)args_uint(args, name));
        else if (pace_members[i].kind == 'd')
            tree_put_int(config, member, args_duration(args, name));
        else if (pace_members[i].kind == 'f')
            tree_put(config, member, json_real(args_real(args, name)));
        else
            tree_put_text(config, member, args_text(args, name));
    }
}

/* --- the image --------------------------------------------------------------------------------------------------
 */

static void put_platforms(json_t *spec, const json_t *answer)
{
    json_t *platforms = tree_get(answer, "Platforms"), *platform, *list;
    size_t i;

    if (!json_array_size(platforms))
        return;
    list = json_array();
    json_array_foreach(platforms, i, platform)
    {
        const char *architecture = tree_text(platform, "architecture"), *os = tree_text(platform, "os");
        json_t *copy = json_object();

        /* Images say "arm" where nodes say "armv7l": no constraint is better than one that fits nowhere. */
        if (*architecture && strcasecmp(architecture, "arm") != 0)
            tree_put_text(copy, "Architecture", architecture);
        if (*os)
            tree_put_text(copy, "OS", os);
        tree_append(list, copy);
    }
    tree_put(tree_object(spec, "TaskTemplate.Placement"), "Platforms", list);
}

static bool ask_registry(struct cli *cli, const char *image, const char *auth, json_t **ret)
{
    AUTO_BUF struct buf path = {0};
    AUTO_BUF struct buf text = {0};
    struct client *client;

    path_add(&path, "/distribution/%s/json", image);
    const struct client_request request = {.method = "GET", .path = buf_str(&path), .registry_auth = auth};
    return cli_client(cli, &client, NULL) == 0 && client_do(client, &request, &text, NULL) == 0 &&
           jread_parse(buf_str(&text), text.length, ret, NULL) == 0;
}

void service_resolve_image(struct cli *cli, json_t *spec, bool ask, const char *auth, struct buf *warning)
{
    json_t *container = tree_object(spec, "TaskTemplate.ContainerSpec");
    AUTO_JSON json_t *answer = NULL;
    AUTO_ARENA struct arena a;
    struct image_name name;
    const char *image = tree_text(container, "Image");

    arena_init(&a);
    bool named = image_name_parse(image, &a, &name, NULL) == 0;
    if (named) {
        tree_put_text(container, "Image", name.familiar);
        image = name.familiar;
    }
    if (!ask)
        return;
    if (!ask_registry(cli, image, auth, &answer)) {
        buf_printf(
            warning,
            "image %s could not be accessed on a registry to record\nits digest. Each node will access %s "
            "independently,\npossibly leading to different nodes running different\nversions of the image.\n",
            image, image);
        return;
    }
    const char *digest = tree_text(answer, "Descriptor.digest");
    if (named && !name.digest && *digest)
        tree_put_text(container, "Image", arena_printf(&a, "%s@%s", name.familiar, digest));
    put_platforms(spec, answer);
}

/* --- create -----------------------------------------------------------------------------------------------------
 */

static int put_mode(json_t *spec, const struct args *args, struct err *e)
{
    const char *mode = args_text(args, "mode");
    bool replicas = args_has(args, "replicas"), concurrent = args_has(args, "max-concurrent");
    bool global = strcmp(mode, "global") == 0 || strcmp(mode, "global-job") == 0;
    int64_t count = (int64_t)args_uint(args, "replicas");
    json_t *object;

    if (global && replicas)
        return err_set(e, ERR_INVALID, "replicas can only be used with replicated or replicated-job mode");
    if (global && args_uint(args, "replicas-max-per-node"))
        return err_set(e, ERR_INVALID,
                       "replicas-max-per-node can only be used with replicated or replicated-job mode");
    if (concurrent && strcmp(mode, "replicated-job") != 0)
        return err_set(e, ERR_INVALID, "max-concurrent can only be used with replicated-job mode");
    if (strcmp(mode, "global") == 0) {
        (void)tree_object(spec, "Mode.Global");
    } else if (strcmp(mode, "global-job") == 0) {
        (void)tree_object(spec, "Mode.GlobalJob");
    } else if (strcmp(mode, "replicated") == 0) {
        object = tree_object(spec, "Mode.Replicated");
        if (replicas)
            tree_put_int(object, "Replicas", count);
    } else if (strcmp(mode, "replicated-job") == 0) {
        object = tree_object(spec, "Mode.ReplicatedJob");
        if (concurrent || replicas)
            tree_put_int(object, "MaxConcurrent", concurrent ? (int64_t)args_uint(args, "max-concurrent") : count);
        if (replicas)
            tree_put_int(object, "TotalCompletions", count);
    } else {
        return err_set(e, ERR_INVALID, "Unknown mode: %s, only replicated and global supported", mode);
    }
    return 0;
}

/* The last value of each variable counts. */
static int put_environment(json_t *container, const struct args *args, struct err *e)
{
    json_t *lines = NULL, *kept, *line, *other;
    size_t i, k;
    int rc = spec_lines(args, "env-file", "env", true, &lines, e);

    if (rc < 0)
        return rc;
    kept = json_array();
    json_array_foreach(lines, i, line)
    {
        const char *text = json_string_value(line);
        size_t name = strcspn(text, "=");

        json_array_foreach(kept, k, other)
        {
            const char *old = json_string_value(other);

            if (strncmp(old, text, name) == 0 && old[name] == '=') {
                json_array_remove(kept, k);
                break;
            }
        }
        tree_append(kept, json_incref(line));
    }
    json_decref(lines);
    if (json_array_size(kept))
        tree_put(container, "Env", kept);
    else
        json_decref(kept);
    return 0;
}

static void put_texts(json_t *container, const struct args *args)
{
    static const struct {
        const char *option, *member;
    } texts[] = {{"hostname", "Hostname"},
                 {"workdir", "Dir"},
                 {"user", "User"},
                 {"stop-signal", "StopSignal"},
                 {"isolation", "Isolation"}};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (*args_text(args, texts[i].option))
            tree_put_text(container, texts[i].member, args_text(args, texts[i].option));
    if (args_switch(args, "tty"))
        tree_put_bool(container, "TTY", true);
    if (args_switch(args, "read-only"))
        tree_put_bool(container, "ReadOnly", true);
    tree_put_bool(container, "Init", args_switch(args, "init"));
    if (args_int(args, "oom-score-adj"))
        tree_put_int(container, "OomScoreAdj", args_int(args, "oom-score-adj"));
    if (args_has(args, "stop-grace-period"))
        tree_put_int(container, "StopGracePeriod", args_duration(args, "stop-grace-period"));
}

/* Adding a capability wins over dropping it, and ALL over any other. */
static void put_capabilities(json_t *container, const struct args *args)
{
    AUTO_JSON json_t *add = spec_capabilities(args, "cap-add");
    AUTO_JSON json_t *drop = spec_capabilities(args, "cap-drop");
    json_t *name, *list;
    size_t i;

    json_array_foreach(add, i, name)
    {
        const char *text = json_string_value(name);

        if (strcmp(text, "RESET") != 0 && (!spec_holds(add, "ALL") || strcmp(text, "ALL") == 0)) {
            list = tree_array(container, "CapabilityAdd");
            tree_append_text(list, text);
        }
    }
    json_array_foreach(drop, i, name)
    {
        const char *text = json_string_value(name);

        if (strcmp(text, "RESET") != 0 && !spec_holds(add, text) &&
            (!spec_holds(drop, "ALL") || strcmp(text, "ALL") == 0)) {
            list = tree_array(container, "CapabilityDrop");
            tree_append_text(list, text);
        }
    }
}

static int put_container(json_t *container, const struct args *args, struct err *e)
{
    json_t *health = NULL, *mounts = NULL, *dns;
    const char *text;
    int rc = put_environment(container, args, e);

    if (rc == 0)
        rc = spec_health(args, &health, e);
    if (rc < 0)
        return rc;
    if (health)
        tree_put(container, "Healthcheck", health);
    tree_put_text(container, "Image", args->words[0]);
    for (size_t i = 1; i < args->words_count; i++)
        tree_append_text(tree_array(container, "Args"), args->words[i]);
    if (*args_text(args, "entrypoint"))
        tree_put(container, "Command", service_words(args, "entrypoint"));
    put_texts(container, args);
    put_capabilities(container, args);
    spec_put_map(container, "Labels", args, "container-label");
    spec_put_list(container, "Groups", args, "group");
    spec_put_map(container, "Sysctls", args, "sysctl");
    dns = tree_object(container, "DNSConfig");
    spec_put_list(dns, "Nameservers", args, "dns");
    spec_put_list(dns, "Search", args, "dns-search");
    spec_put_list(dns, "Options", args, "dns-option");
    for (size_t at = 0; (text = args_next(args, "host", &at));)
        tree_append(tree_array(container, "Hosts"), service_host(text));
    if (args_has(args, "ulimit"))
        tree_put(container, "Ulimits", spec_ulimits(args, "ulimit"));
    if (!args_has(args, "mount"))
        return 0;
    rc = spec_mounts(args, "mount", &mounts, e);
    if (rc == 0)
        tree_put(container, "Mounts", mounts);
    return rc;
}

static void put_nonzero(json_t *object, const char *member, int64_t value)
{
    if (value)
        tree_put_int(object, member, value);
}

static void put_resources(json_t *task, const struct args *args)
{
    json_t *limits = tree_object(task, "Resources.Limits"), *reserved = tree_object(task, "Resources.Reservations");
    const char *text;

    put_nonzero(limits, "NanoCPUs", args_cpus(args, "limit-cpu"));
    put_nonzero(limits, "MemoryBytes", args_bytes(args, "limit-memory"));
    put_nonzero(limits, "Pids", args_int(args, "limit-pids"));
    put_nonzero(reserved, "NanoCPUs", args_cpus(args, "reserve-cpu"));
    put_nonzero(reserved, "MemoryBytes", args_bytes(args, "reserve-memory"));
    for (size_t at = 0; (text = args_next(args, "generic-resource", &at));)
        tree_append(tree_array(reserved, "GenericResources"), service_generic(text));
}

static void put_placement(json_t *task, const struct args *args)
{
    json_t *placement = tree_object(task, "Placement");

    spec_put_list(placement, "Constraints", args, "constraint");
    if (args_has(args, "placement-pref"))
        tree_put(placement, "Preferences", service_preferences(args, "placement-pref"));
    put_nonzero(placement, "MaxReplicas", (int64_t)args_uint(args, "replicas-max-per-node"));
    if (*args_text(args, "log-driver")) {
        tree_put_text(tree_object(task, "LogDriver"), "Name", args_text(args, "log-driver"));
        spec_put_map(tree_object(task, "LogDriver"), "Options", args, "log-opt");
    }
    if (service_restarts(args)) {
        tree_put(task, "RestartPolicy", service_restart_policy());
        service_put_restart(tree_object(task, "RestartPolicy"), args);
    }
}

static int put_networks(struct cli *cli, json_t *task, const struct args *args, struct err *e)
{
    const char *text;

    for (size_t at = 0; (text = args_next(args, "network", &at));) {
        json_t *network = NULL;
        int rc = service_network(cli, text, &network, e);

        if (rc < 0)
            return rc;
        tree_append(tree_array(task, "Networks"), network);
    }
    if (args_has(args, "network"))
        service_sort_networks(tree_array(task, "Networks"));
    return 0;
}

static int put_paces(json_t *spec, const struct args *args, struct err *e)
{
    static const struct {
        const char *prefix, *member;
    } paces[] = {{"update", "UpdateConfig"}, {"rollback", "RollbackConfig"}};
    bool job = strstr(args_text(args, "mode"), "-job") != NULL;

    for (size_t i = 0; i < ARRAY_SIZE(paces); i++) {
        if (!service_paces(args, paces[i].prefix))
            continue;
        if (job)
            return err_set(e, ERR_INVALID, "update and rollback configuration is not supported for jobs");
        tree_put(spec, paces[i].member, service_pace());
        service_put_pace(tree_object(spec, paces[i].member), args, paces[i].prefix);
    }
    return 0;
}

int service_spec(struct cli *cli, const struct args *args, json_t **ret, struct err *e)
{
    json_t *spec = json_object(), *task = tree_object(spec, "TaskTemplate");
    AUTO_FREE
    char *mode = mem_strdup(args_text(args, "endpoint-mode"));
    int rc = put_container(tree_object(task, "ContainerSpec"), args, e);

    if (*args_text(args, "name"))
        tree_put_text(spec, "Name", args_text(args, "name"));
    spec_put_map(spec, "Labels", args, "label");
    if (rc == 0)
        rc = put_mode(spec, args, e);
    if (rc == 0)
        rc = put_paces(spec, args, e);
    if (rc == 0)
        rc = put_networks(cli, task, args, e);
    put_resources(task, args);
    put_placement(task, args);
    for (char *c = mode; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    if (*mode)
        tree_put_text(tree_object(spec, "EndpointSpec"), "Mode", mode);
    if (args_has(args, "publish"))
        tree_put(tree_object(spec, "EndpointSpec"), "Ports", service_ports(args, "publish"));
    if (rc < 0)
        json_decref(spec);
    else
        *ret = spec;
    return rc;
}
