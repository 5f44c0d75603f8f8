/* From the options of `shoal service update` to a changed spec. See service.h.
 *
 * The inspected spec is changed in place and only where an option says so, so that everything else, also what this
 * client does not know, is sent back as it came, and tasks are not replaced for a different order of the same
 * things. What is added under a key that exists replaces it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/service.h"
#include "cli/service_edit.h"
#include "cli/spec.h"
#include "proto/base/mem.h"

/* --- the task ---------------------------------------------------------------------------------------------------
 */

static json_t *generic_of(json_t *list, const char *kind, size_t *ret_place)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(tree_text(json_array_get(list, i), "DiscreteResourceSpec.Kind"), kind) == 0) {
            *ret_place = i;
            return json_array_get(list, i);
        }
    }
    return NULL;
}

static int update_generic(json_t *task, const struct args *args, struct err *e)
{
    const char *text;
    size_t place;

    if (!args_has(args, "generic-resource-add") && !args_has(args, "generic-resource-rm"))
        return 0;
    json_t *list = tree_array(task, "Resources.Reservations.GenericResources");
    for (size_t at = 0; (text = args_next(args, "generic-resource-add", &at));) {
        json_t *resource = service_generic(text);

        if (generic_of(list, tree_text(resource, "DiscreteResourceSpec.Kind"), &place))
            (void)json_array_set_new(list, place, resource); /* the place exists */
        else
            tree_append(list, resource);
    }
    for (size_t at = 0; (text = args_next(args, "generic-resource-rm", &at));) {
        if (!generic_of(list, text, &place))
            return err_set(e, ERR_NOT_FOUND, "could not find generic-resource `%s` to remove it", text);
        json_array_remove(list, place);
    }
    return 0;
}

static void update_resources(json_t *task, const struct args *args)
{
    if (args_has(args, "limit-cpu"))
        tree_put_int(tree_object(task, "Resources.Limits"), "NanoCPUs", args_cpus(args, "limit-cpu"));
    if (args_has(args, "limit-memory"))
        tree_put_int(tree_object(task, "Resources.Limits"), "MemoryBytes", args_bytes(args, "limit-memory"));
    if (args_has(args, "limit-pids"))
        tree_put_int(tree_object(task, "Resources.Limits"), "Pids", args_int(args, "limit-pids"));
    if (args_has(args, "reserve-cpu"))
        tree_put_int(tree_object(task, "Resources.Reservations"), "NanoCPUs", args_cpus(args, "reserve-cpu"));
    if (args_has(args, "reserve-memory"))
        tree_put_int(tree_object(task, "Resources.Reservations"), "MemoryBytes",
                     args_bytes(args, "reserve-memory"));
}

static bool drop_preference(const json_t *element, void *context)
{
    const char *text;

    for (size_t at = 0; (text = args_next(context, "placement-pref-rm", &at));)
        if (strcmp(tree_text(element, "Spread.SpreadDescriptor"), strchr(text, '=') + 1) == 0)
            return true;
    return false;
}

static void update_placement(json_t *task, const struct args *args)
{
    if (args_has(args, "constraint-add") || args_has(args, "constraint-rm"))
        edit_texts(tree_object(task, "Placement"), "Constraints", args, "constraint-add", "constraint-rm");
    if (args_has(args, "placement-pref-add") || args_has(args, "placement-pref-rm")) {
        AUTO_JSON json_t *added = service_preferences(args, "placement-pref-add");
        json_t *list = tree_array(task, "Placement.Preferences");

        edit_filter(list, drop_preference, (void *)args);
        (void)json_array_extend(list, added); /* both are arrays */
    }
    if (args_has(args, "replicas-max-per-node"))
        tree_put_int(tree_object(task, "Placement"), "MaxReplicas",
                     (int64_t)args_uint(args, "replicas-max-per-node"));
}

static int network_id(struct cli *cli, const char *name, char **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *network = NULL;

    path_add(&path, "/networks/%s", name);
    path_query(&path, "scope", "swarm");
    int rc = cli_get(cli, &path, &network, e);
    if (rc == 0)
        *ret = mem_strdup(tree_text(network, "Id"));
    return rc;
}

static bool drop_network(const json_t *element, void *context)
{
    return strcmp(tree_text(element, "Target"), context) == 0;
}

static int update_networks(struct cli *cli, json_t *spec, const struct args *args, struct err *e)
{
    json_t *list, *old = tree_get(spec, "Networks");
    const char *text;

    if (!args_has(args, "network-add") && !args_has(args, "network-rm"))
        return 0;
    list = tree_array(spec, "TaskTemplate.Networks");
    if (!json_array_size(list)) /* where the API once kept them */
        (void)json_array_extend(list, old);
    (void)json_object_del(spec, "Networks"); /* may not have been there */
    for (size_t at = 0; (text = args_next(args, "network-rm", &at));) {
        AUTO_FREE
        char *id = NULL;
        int rc = network_id(cli, text, &id, e);

        if (rc < 0)
            return rc;
        edit_filter(list, drop_network, id);
    }
    for (size_t at = 0; (text = args_next(args, "network-add", &at));) {
        json_t *network = NULL;
        int rc = service_network(cli, text, &network, e);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < json_array_size(list); i++) {
            if (drop_network(json_array_get(list, i), (void *)tree_text(network, "Target"))) {
                json_decref(network);
                return err_set(e, ERR_EXISTS, "service is already attached to network %s", text);
            }
        }
        tree_append(list, network);
    }
    service_sort_networks(list);
    return 0;
}

static int update_task(struct cli *cli, json_t *spec, const struct args *args, struct err *e)
{
    json_t *task = tree_object(spec, "TaskTemplate");
    int rc = edit_container(tree_object(task, "ContainerSpec"), args, e);

    update_resources(task, args);
    if (rc == 0)
        rc = update_generic(task, args, e);
    if (rc < 0)
        return rc;
    if (service_restarts(args)) {
        if (!tree_get(task, "RestartPolicy"))
            tree_put(task, "RestartPolicy", service_restart_policy());
        service_put_restart(tree_object(task, "RestartPolicy"), args);
    }
    update_placement(task, args);
    if (*args_text(args, "log-driver")) {
        json_t *driver = json_object();

        tree_put_text(driver, "Name", args_text(args, "log-driver"));
        spec_put_map(driver, "Options", args, "log-opt");
        tree_put(task, "LogDriver", driver);
    }
    if (args_switch(args, "force"))
        tree_put_int(task, "ForceUpdate", tree_int(task, "ForceUpdate") + 1);
    return update_networks(cli, spec, args, e);
}

/* --- the service ------------------------------------------------------------------------------------------------
 */

static int update_replicas(json_t *spec, const struct args *args, struct err *e)
{
    if (args_has(args, "replicas")) {
        if (!tree_get(spec, "Mode.Replicated"))
            return err_set(e, ERR_INVALID, "replicas can only be used with replicated mode");
        tree_put_int(tree_object(spec, "Mode.Replicated"), "Replicas", (int64_t)args_uint(args, "replicas"));
    }
    if (args_has(args, "max-concurrent")) {
        if (!tree_get(spec, "Mode.ReplicatedJob"))
            return err_set(e, ERR_INVALID, "max-concurrent can only be used with replicated-job mode");
        tree_put_int(tree_object(spec, "Mode.ReplicatedJob"), "MaxConcurrent",
                     (int64_t)args_uint(args, "max-concurrent"));
    }
    return 0;
}

static bool same_or(const char *a, const char *b, const char *standard)
{
    return strcmp(*a ? a : standard, *b ? b : standard) == 0;
}

static bool drop_port(const json_t *element, void *context)
{
    const json_t *removed = context;

    for (size_t i = 0; i < json_array_size(removed); i++) {
        const json_t *port = json_array_get(removed, i);

        if (tree_int(port, "TargetPort") == tree_int(element, "TargetPort") &&
            same_or(tree_text(port, "Protocol"), tree_text(element, "Protocol"), "tcp") &&
            same_or(tree_text(port, "PublishMode"), tree_text(element, "PublishMode"), "ingress"))
            return true;
    }
    return false;
}

static char *port_name(const json_t *port)
{
    return mem_printf("%lld:%lld/%s/%s", (long long)tree_int(port, "PublishedPort"),
                      (long long)tree_int(port, "TargetPort"), tree_text(port, "Protocol"),
                      tree_text(port, "PublishMode"));
}

static int by_port_name(const void *a, const void *b)
{
    AUTO_FREE
    char *x = port_name(*(json_t *const *)a);
    AUTO_FREE
    char *y = port_name(*(json_t *const *)b);

    return strcmp(x, y);
}

static void update_ports(json_t *spec, const struct args *args)
{
    AUTO_JSON json_t *removed = service_ports(args, "publish-rm");
    AUTO_JSON json_t *added = service_ports(args, "publish-add");
    json_t *list, *port;
    size_t i, k;

    if (!args_has(args, "publish-add") && !args_has(args, "publish-rm"))
        return;
    list = tree_array(spec, "EndpointSpec.Ports");
    edit_filter(list, drop_port, removed);
    json_array_foreach(added, i, port)
    {
        for (k = 0; k < json_array_size(list); k++) {
            json_t *other = json_array_get(list, k);

            if (by_port_name(&port, &other) == 0)
                break;
        }
        if (k == json_array_size(list))
            tree_append(list, json_incref(port));
    }
    size_t count = json_array_size(list);
    AUTO_FREE
    json_t **sorted = mem_array(count, sizeof(*sorted));
    for (i = 0; i < count; i++)
        sorted[i] = json_incref(json_array_get(list, i));
    qsort(sorted, count, sizeof(*sorted), by_port_name);
    for (i = 0; i < count; i++)
        (void)json_array_set_new(list, i, sorted[i]); /* the place exists */
}

int service_update_spec(struct cli *cli, const struct args *args, json_t *spec, struct err *e)
{
    static const struct {
        const char *prefix, *member;
    } paces[] = {{"update", "UpdateConfig"}, {"rollback", "RollbackConfig"}};

    edit_map(spec, "Labels", args, "label-rm", "label-add");
    int rc = update_task(cli, spec, args, e);
    if (rc == 0)
        rc = update_replicas(spec, args, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < ARRAY_SIZE(paces); i++) {
        if (!service_paces(args, paces[i].prefix))
            continue;
        if (!tree_get(spec, paces[i].member))
            tree_put(spec, paces[i].member, service_pace());
        service_put_pace(tree_object(spec, paces[i].member), args, paces[i].prefix);
    }
    if (args_has(args, "endpoint-mode"))
        tree_put_text(tree_object(spec, "EndpointSpec"), "Mode", args_text(args, "endpoint-mode"));
    update_ports(spec, args);
    return 0;
}
