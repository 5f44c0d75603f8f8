/* See validate.h. */
#include <stdio.h>
#include <string.h>

#include "manager/api/validate.h"
#include "manager/scheduler/constraint.h"
#include "proto/base/ident.h"
#include "proto/base/image_name.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define CPU_LEAST          1000000 /* a thousandth of a processor, in 1e-9 */
#define CPU_MOST           (1000000000LL * 65536)
#define MEMORY_LEAST       (4LL * 1024 * 1024)
#define GRACE_MOST_NS      (366LL * 24 * 3600 * 1000000000)
#define REPLICAS_MOST      1000000
#define LIST_MOST          4096         /* of env, labels, mounts... */
#define TEXT_MOST          (128 * 1024) /* of one value */
#define CERT_EXPIRY_LEAST  (3600LL * 1000000000)
#define HEARTBEAT_LEAST_NS (100LL * 1000000)
#define LATER(what)        what " is not offered by shoal " SHOAL_VERSION

/* --- small pieces ---------------------------------------------------------------------------------- */

static int check_texts(const char *field, char *const *texts, size_t count, struct err *e)
{
    if (count > LIST_MOST)
        return err_set(e, ERR_INVALID, "%s: %zu entries are more than %d", field, count, LIST_MOST);
    for (size_t i = 0; i < count; i++)
        if (strnlen(texts[i], TEXT_MOST + 1) > TEXT_MOST)
            return err_set(e, ERR_INVALID, "%s: entry %zu is longer than %d bytes", field, i, TEXT_MOST);
    return 0;
}

static int check_labels(const char *field, KeyValue *const *labels, size_t count, struct err *e)
{
    if (count > LIST_MOST)
        return err_set(e, ERR_INVALID, "%s: %zu entries are more than %d", field, count, LIST_MOST);
    for (size_t i = 0; i < count; i++)
        if (strnlen(labels[i]->key, TEXT_MOST + 1) > TEXT_MOST ||
            (labels[i]->value && strnlen(labels[i]->value, TEXT_MOST + 1) > TEXT_MOST))
            return err_set(e, ERR_INVALID, "%s: %.60s... is longer than %d bytes", field, labels[i]->key,
                           TEXT_MOST);
    return 0;
}

static int check_duration(const char *field, bool is_set, int64_t value_ns, struct err *e)
{
    if (is_set && (value_ns < 0 || value_ns > GRACE_MOST_NS))
        return err_set(e, ERR_INVALID, "%s: %lld ns must be between 0 and a year", field, (long long)value_ns);
    return 0;
}

/* Placeholders are expanded on the node (swarm-surface.md section 17), which this version does not do: taken
 * literally they would be wrong. */
static int check_no_template(const char *field, const char *text, struct err *e)
{
    if (text && strstr(text, "{{"))
        return err_set(e, ERR_UNSUPPORTED, "%s: %.80s: " LATER("a template"), field, text);
    return 0;
}

/* --- containers ------------------------------------------------------------------------------------ */

static int check_mount(const Mount *mount, struct err *e)
{
    const char *source = mount->source ? mount->source : "", *target = mount->target ? mount->target : "";

    if (target[0] != '/')
        return err_set(e, ERR_INVALID, "invalid mount target, must be an absolute path: %s", target);
    if (strlen(target) == strspn(target, "/"))
        return err_set(e, ERR_INVALID, "invalid mount target: the root of the container cannot be mounted over");
    switch (mount->type) {
    case MOUNT_TYPE__BIND:
        if (source[0] != '/')
            return err_set(e, ERR_INVALID, "invalid bind mount source, must be an absolute path: %s", source);
        break;
    case MOUNT_TYPE__VOLUME:
        if (source[0] == '/')
            return err_set(e, ERR_INVALID, "invalid volume mount source, must not be an absolute path: %s", source);
        if (*source && !name_valid_container(source))
            return err_set(e, ERR_INVALID, "invalid volume name \"%s\"", source);
        break;
    case MOUNT_TYPE__TMPFS:
        if (*source)
            return err_set(e, ERR_INVALID, "invalid tmpfs source, source must be empty: %s", source);
        break;
    default:
        return err_set(e, ERR_INVALID, "invalid mount type %d of %s", mount->type, target);
    }
    if (strlen(source) >= 4096 || strlen(target) >= 4096)
        return err_set(e, ERR_INVALID, "invalid mount of %.60s: a path is longer than 4095 bytes", target);
    int rc = check_no_template("ContainerSpec.Mounts", source, e);
    return rc < 0 ? rc : check_no_template("ContainerSpec.Mounts", target, e);
}

static int check_mounts(const ContainerSpec *spec, struct err *e)
{
    struct map seen = {0};
    int rc = 0;

    for (size_t i = 0; i < spec->n_mounts && rc == 0; i++) {
        rc = check_mount(spec->mounts[i], e);
        if (rc == 0 && map_put(&seen, spec->mounts[i]->target, spec->mounts[i]))
            rc = err_set(e, ERR_INVALID, "ContainerSpec: duplicate mount point: %s", spec->mounts[i]->target);
    }
    map_fini(&seen);
    return rc;
}

static int check_env(const ContainerSpec *spec, struct err *e)
{
    int rc = check_texts("ContainerSpec.Env", spec->env, spec->n_env, e);

    for (size_t i = 0; i < spec->n_env && rc == 0; i++) {
        if (spec->env[i][0] == '\0' || spec->env[i][0] == '=')
            rc = err_set(e, ERR_INVALID, "invalid ContainerSpec.Env \"%.80s\": a variable needs a name",
                         spec->env[i]);
        else
            rc = check_no_template("ContainerSpec.Env", spec->env[i], e);
    }
    return rc;
}

static int check_image(const char *image, struct err *e)
{
    AUTO_ARENA
    struct arena a;
    struct image_name name;

    arena_init(&a);
    if (image_name_parse(image, &a, &name, e) == 0)
        return 0;
    return err_wrap(e, "ContainerSpec: \"%.100s\" is not a valid repository/tag", image);
}

static int check_container(const ContainerSpec *spec, struct err *e)
{
    int rc = 0;

    if (!spec)
        return err_set(e, ERR_INVALID, "TaskSpec: missing runtime");
    if (!spec->image || !*spec->image)
        return err_set(e, ERR_INVALID, "ContainerSpec: image reference must be provided");
    rc = check_image(spec->image, e);
    if (rc < 0)
        return rc;
    if (spec->isolation && *spec->isolation && strcmp(spec->isolation, "default") != 0)
        return err_set(e, ERR_INVALID, "ContainerSpec: isolation \"%s\" exists on Windows only", spec->isolation);
    if (spec->hostname && strlen(spec->hostname) > 63)
        return err_set(e, ERR_INVALID, "invalid ContainerSpec.Hostname \"%.70s\": longer than 63 bytes",
                       spec->hostname);
    rc = check_no_template("ContainerSpec.Hostname", spec->hostname, e);
    if (rc == 0)
        rc = check_env(spec, e);
    if (rc == 0 && spec->init)
        rc = err_set(e, ERR_UNSUPPORTED, "ContainerSpec.Init (true): " LATER("an init process"));
    if (rc == 0)
        rc = validate_container(spec, e);
    if (rc == 0)
        rc = check_texts("ContainerSpec.Command", spec->command, spec->n_command, e);
    if (rc == 0)
        rc = check_texts("ContainerSpec.Args", spec->args, spec->n_args, e);
    if (rc == 0)
        rc = check_labels("ContainerSpec.Labels", spec->labels, spec->n_labels, e);
    if (rc == 0)
        rc = check_duration("ContainerSpec.StopGracePeriod", spec->has_stop_grace_period_ns,
                            spec->stop_grace_period_ns, e);
    if (rc == 0 && spec->dir && *spec->dir && *spec->dir != '/')
        rc = err_set(e, ERR_INVALID, "invalid ContainerSpec.Dir \"%s\": it must be absolute", spec->dir);
    return rc < 0 ? rc : check_mounts(spec, e);
}

/* --- tasks ----------------------------------------------------------------------------------------- */

static int check_resources(const Resources *resources, const char *what, struct err *e)
{
    if (!resources)
        return 0;
    if (resources->nano_cpus && (resources->nano_cpus < CPU_LEAST || resources->nano_cpus > CPU_MOST))
        return err_set(e, ERR_INVALID, "invalid cpu value %g in %s: Must be at least 0.001",
                       (double)resources->nano_cpus / 1e9, what);
    if (resources->memory_bytes && resources->memory_bytes < MEMORY_LEAST)
        return err_set(e, ERR_INVALID, "invalid memory value %lld in %s: Must be at least 4MiB",
                       (long long)resources->memory_bytes, what);
    if (resources->pids < 0)
        return err_set(e, ERR_INVALID, "invalid pids value %lld in %s: must be 0 (no limit) or more",
                       (long long)resources->pids, what);
    if (resources->n_generic) /* no node of this version can declare any, so the task would wait for ever */
        return err_set(e, ERR_UNSUPPORTED, "%s.GenericResources (%.60s): " LATER("a generic resource"), what,
                       resources->generic[0]->kind);
    return 0;
}

static int check_preferences(const Placement *placement, struct err *e)
{
    enum constraint_key key;
    const char *label;

    if (placement->n_spread_descriptors > LIST_MOST)
        return err_set(e, ERR_INVALID, "Placement.Preferences: more than %d", LIST_MOST);
    for (size_t i = 0; i < placement->n_spread_descriptors; i++)
        if (!constraint_descriptor(placement->spread_descriptors[i], &key, &label))
            return err_set(e, ERR_INVALID,
                           "invalid Placement.Preferences[%zu].Spread.SpreadDescriptor: \"%.80s\" is neither "
                           "node.labels.NAME nor engine.labels.NAME",
                           i, placement->spread_descriptors[i]);
    return 0;
}

static int check_placement(const Placement *placement, struct err *e)
{
    int rc = 0;

    if (!placement)
        return 0;
    if (placement->n_constraints > LIST_MOST)
        return err_set(e, ERR_INVALID, "Placement.Constraints: more than %d", LIST_MOST);
    for (size_t i = 0; i < placement->n_constraints && rc == 0; i++)
        rc = constraint_check(placement->constraints[i], e);
    return rc < 0 ? rc : check_preferences(placement, e);
}

static int check_networks(const TaskSpec *task, struct err *e)
{
    if (task->n_networks > 1)
        return err_set(e, ERR_UNSUPPORTED,
                       "TaskTemplate.Networks (%zu of them): " LATER("more than one network of a service"),
                       task->n_networks);
    for (size_t i = 0; i < task->n_networks; i++) {
        const NetworkAttachmentConfig *network = task->networks[i];

        if (network->n_aliases)
            return err_set(e, ERR_UNSUPPORTED, "TaskTemplate.Networks[%zu].Aliases (%.60s): " LATER("an alias"), i,
                           network->aliases[0]);
        if (network->n_driver_options)
            return err_set(e, ERR_UNSUPPORTED,
                           "TaskTemplate.Networks[%zu].DriverOpts (%.60s): " LATER("an option of a network"), i,
                           network->driver_options[0]->key);
    }
    return 0; /* which networks there are is known to the store: manager/api/service */
}

static int check_log_driver(const char *path, const LogDriver *driver, struct err *e)
{
    if (!driver || !driver->name || !*driver->name || strcmp(driver->name, "json-file") == 0 ||
        strcmp(driver->name, "none") == 0)
        return 0;
    return err_set(e, ERR_UNSUPPORTED,
                   "%s.LogDriver.Name: %s: only json-file and none are offered by shoal " SHOAL_VERSION, path,
                   driver->name);
}

static int check_restart(const RestartPolicy *restart, struct err *e)
{
    if (!restart)
        return 0;
    int rc = check_duration("TaskSpec.RestartPolicy.Delay", restart->has_delay_ns, restart->delay_ns, e);
    return rc < 0 ? rc
                  : check_duration("TaskSpec.RestartPolicy.Window", restart->has_window_ns, restart->window_ns, e);
}

static int check_task(const TaskSpec *task, struct err *e)
{
    int rc;

    if (!task)
        return err_set(e, ERR_INVALID, "TaskTemplate is missing");
    if (task->runtime && *task->runtime && strcmp(task->runtime, "container") != 0)
        return err_set(e, ERR_UNSUPPORTED, "TaskTemplate.Runtime: %s: only container is offered", task->runtime);
    rc = check_container(task->container, e);
    if (rc == 0)
        rc = check_resources(task->limits, "Resources.Limits", e);
    if (rc == 0)
        rc = check_resources(task->reservations, "Resources.Reservations", e);
    if (rc == 0)
        rc = check_restart(task->restart, e);
    if (rc == 0)
        rc = check_placement(task->placement, e);
    if (rc == 0)
        rc = check_networks(task, e);
    return rc < 0 ? rc : check_log_driver("TaskTemplate", task->log_driver, e);
}

/* --- services -------------------------------------------------------------------------------------- */

static int check_update(const UpdateConfig *config, const char *what, struct err *e)
{
    char field[40];

    if (!config)
        return 0;
    (void)snprintf(field, sizeof(field), "%s.Delay", what); /* fits */
    int rc = check_duration(field, config->has_delay_ns, config->delay_ns, e);
    (void)snprintf(field, sizeof(field), "%s.Monitor", what); /* fits */
    if (rc == 0)
        rc = check_duration(field, config->has_monitor_ns, config->monitor_ns, e);
    if (rc == 0 && config->has_max_failure_ratio &&
        !(config->max_failure_ratio >= 0 && config->max_failure_ratio <= 1))
        rc = err_set(e, ERR_INVALID, "%s.MaxFailureRatio: %g must be between 0 and 1", what,
                     (double)config->max_failure_ratio);
    return rc;
}

static int check_endpoint(const EndpointSpec *endpoint, struct err *e)
{
    if (endpoint && endpoint->n_ports)
        return err_set(e, ERR_UNSUPPORTED,
                       "EndpointSpec.Ports (%u): " LATER("publishing a port") "; a service on network host serves "
                                                                              "on its nodes' ports",
                       endpoint->ports[0]->target_port);
    return 0;
}

int validate_service(const ServiceSpec *spec, struct err *e)
{
    int rc;

    if (!spec->name || !*spec->name)
        return err_set(e, ERR_INVALID, "meta: name must be provided");
    if (!name_valid_service(spec->name))
        return err_set(
            e, ERR_INVALID,
            "name must be valid as a DNS name component: \"%.70s\" is not (letters, digits, - and _, at most %d)",
            spec->name, NAME_MAX_SERVICE);
    if (spec->replicas > REPLICAS_MOST)
        return err_set(e, ERR_INVALID, "Mode.Replicated.Replicas: %llu is more than %d",
                       (unsigned long long)spec->replicas, REPLICAS_MOST);
    rc = check_labels("Labels", spec->labels, spec->n_labels, e);
    if (rc == 0)
        rc = check_task(spec->task, e);
    if (rc == 0)
        rc = check_update(spec->update, "UpdateConfig", e);
    if (rc == 0)
        rc = check_update(spec->rollback, "RollbackConfig", e);
    return rc < 0 ? rc : check_endpoint(spec->endpoint, e);
}

/* --- nodes and the cluster ------------------------------------------------------------------------- */

int validate_node(const NodeSpec *spec, struct err *e)
{
    for (size_t i = 0; i < spec->n_labels; i++)
        if (!*spec->labels[i]->key)
            return err_set(e, ERR_INVALID, "Labels: a label needs a name");
    return check_labels("Labels", spec->labels, spec->n_labels, e);
}

int validate_cluster(const ClusterSpec *spec, struct err *e)
{
    if (spec->name && *spec->name && strcmp(spec->name, "default") != 0)
        return err_set(e, ERR_INVALID, "Name: a cluster's name is always \"default\", not \"%.60s\"", spec->name);
    if (spec->has_node_cert_expiry_ns && spec->node_cert_expiry_ns < CERT_EXPIRY_LEAST)
        return err_set(e, ERR_INVALID,
                       "certificate expiry time must be at least 1h0m0s (CAConfig.NodeCertExpiry: %lld ns)",
                       (long long)spec->node_cert_expiry_ns);
    if (spec->has_heartbeat_period_ns &&
        (spec->heartbeat_period_ns < HEARTBEAT_LEAST_NS || spec->heartbeat_period_ns > GRACE_MOST_NS))
        return err_set(e, ERR_INVALID, "Dispatcher.HeartbeatPeriod: %lld ns must be between 100ms and a year",
                       (long long)spec->heartbeat_period_ns);
    int rc = check_log_driver("TaskDefaults", spec->log_driver, e);
    return rc < 0 ? rc : check_labels("Labels", spec->labels, spec->n_labels, e);
}
