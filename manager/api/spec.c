/* See spec.h. Order of members as Docker writes them. */
#include <stdlib.h>
#include <string.h>

#include "manager/api/spec.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

#define END \
    {       \
        0   \
    }
#define LATER(what) what " is not offered by shoal " SHOAL_VERSION

/* --- texts of enums -------------------------------------------------------------------------------- */

static const struct jmap_name mount_types[] = {
    {"bind", MOUNT_TYPE__BIND}, {"volume", MOUNT_TYPE__VOLUME}, {"tmpfs", MOUNT_TYPE__TMPFS}, END};
static const struct jmap_name restart_conditions[] = {{"any", RESTART_CONDITION__ANY},
                                                      {"none", RESTART_CONDITION__NONE},
                                                      {"on-failure", RESTART_CONDITION__ON_FAILURE},
                                                      {"", RESTART_CONDITION__ANY},
                                                      END};
static const struct jmap_name failure_actions[] = {{"pause", UPDATE_FAILURE_ACTION__PAUSE_UPDATE},
                                                   {"continue", UPDATE_FAILURE_ACTION__CONTINUE},
                                                   {"rollback", UPDATE_FAILURE_ACTION__ROLLBACK},
                                                   {"", UPDATE_FAILURE_ACTION__PAUSE_UPDATE},
                                                   END};
static const struct jmap_name rollback_actions[] = {{"pause", UPDATE_FAILURE_ACTION__PAUSE_UPDATE},
                                                    {"continue", UPDATE_FAILURE_ACTION__CONTINUE},
                                                    {"", UPDATE_FAILURE_ACTION__PAUSE_UPDATE},
                                                    END};
static const struct jmap_name orders[] = {{"stop-first", UPDATE_ORDER__STOP_FIRST},
                                          {"start-first", UPDATE_ORDER__START_FIRST},
                                          {"", UPDATE_ORDER__STOP_FIRST},
                                          END};
static const struct jmap_name protocols[] = {{"tcp", PORT_PROTOCOL__TCP},
                                             {"udp", PORT_PROTOCOL__UDP},
                                             {"sctp", PORT_PROTOCOL__SCTP},
                                             {"", PORT_PROTOCOL__TCP},
                                             END};
static const struct jmap_name publish_modes[] = {
    {"ingress", PUBLISH_MODE__INGRESS}, {"host", PUBLISH_MODE__HOST}, {"", PUBLISH_MODE__INGRESS}, END};
static const struct jmap_name endpoint_modes[] = {
    {"vip", ENDPOINT_MODE__VIP}, {"dnsrr", ENDPOINT_MODE__DNSRR}, {"", ENDPOINT_MODE__VIP}, END};
static const struct jmap_name roles[] = {{"worker", NODE_ROLE__WORKER}, {"manager", NODE_ROLE__MANAGER}, END};
static const struct jmap_name availabilities[] = {{"active", NODE_AVAILABILITY__ACTIVE},
                                                  {"pause", NODE_AVAILABILITY__PAUSE},
                                                  {"drain", NODE_AVAILABILITY__DRAIN},
                                                  END};

static const char *name_of(const struct jmap_name *names, int value)
{
    while (names->text && names->value != value)
        names++;
    return names->text ? names->text : "?";
}

const char *spec_protocol_name(PortProtocol protocol)
{
    return name_of(protocols, (int)protocol);
}

const char *spec_publish_mode_name(PublishMode mode)
{
    return name_of(publish_modes, (int)mode);
}

/* --- mounts ---------------------------------------------------------------------------------------- */

/* Docker groups a mount's options by type; the message is flat. */
static const struct jmap_field bind_options[] = {{"Propagation", "propagation"},
                                                 {"NonRecursive", "non_recursive"},
                                                 {"CreateMountpoint", "create_mountpoint"},
                                                 {"ReadOnlyNonRecursive", "read_only_non_recursive"},
                                                 {"ReadOnlyForceRecursive", "read_only_force_recursive"},
                                                 END};
static const struct jmap bind_map = {&mount__descriptor, bind_options};

static const struct jmap_field tmpfs_options[] = {
    {"SizeBytes", "tmpfs_size_bytes"},
    {"Mode", "tmpfs_mode"},
    {"Options", .refuse = LATER("an option of a tmpfs mount of a service")},
    END};
static const struct jmap tmpfs_map = {&mount__descriptor, tmpfs_options};

static int read_bind_options(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                             struct err *e)
{
    Mount *mount = (Mount *)message, *read;
    int rc = jmap_read(member, &bind_map, path, a, (ProtobufCMessage **)&read, e);

    if (rc < 0)
        return rc;
    mount->propagation = read->propagation;
    mount->has_non_recursive = read->has_non_recursive;
    mount->non_recursive = read->non_recursive;
    mount->has_create_mountpoint = read->has_create_mountpoint;
    mount->create_mountpoint = read->create_mountpoint;
    mount->has_read_only_non_recursive = read->has_read_only_non_recursive;
    mount->read_only_non_recursive = read->read_only_non_recursive;
    mount->has_read_only_force_recursive = read->has_read_only_force_recursive;
    mount->read_only_force_recursive = read->read_only_force_recursive;
    return 0;
}

static void write_bind_options(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Mount *mount = (const Mount *)message;

    if (mount->propagation || mount->has_non_recursive || mount->has_create_mountpoint ||
        mount->has_read_only_non_recursive || mount->has_read_only_force_recursive)
        jmap_write(j, key, &bind_map, message);
}

static int read_tmpfs_options(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                              struct err *e)
{
    Mount *mount = (Mount *)message, *read;
    int rc = jmap_read(member, &tmpfs_map, path, a, (ProtobufCMessage **)&read, e);

    if (rc < 0)
        return rc;
    mount->has_tmpfs_size_bytes = read->has_tmpfs_size_bytes;
    mount->tmpfs_size_bytes = read->tmpfs_size_bytes;
    mount->has_tmpfs_mode = read->has_tmpfs_mode;
    mount->tmpfs_mode = read->tmpfs_mode;
    return 0;
}

static void write_tmpfs_options(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Mount *mount = (const Mount *)message;

    if (mount->has_tmpfs_size_bytes || mount->has_tmpfs_mode)
        jmap_write(j, key, &tmpfs_map, message);
}

static const struct jmap_field driver_fields[] = {{"Name", "volume_driver"}, {"Options", "volume_options"}, END};
static const struct jmap driver_map = {&mount__descriptor, driver_fields};

static int read_driver(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                       struct err *e)
{
    Mount *mount = (Mount *)message, *read;

    int rc = jmap_read(member, &driver_map, path, a, (ProtobufCMessage **)&read, e);
    if (rc < 0)
        return rc;
    mount->volume_driver = read->volume_driver;
    mount->n_volume_options = read->n_volume_options;
    mount->volume_options = read->volume_options;
    return 0;
}

static void write_driver(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Mount *mount = (const Mount *)message;

    if (mount->volume_driver || mount->n_volume_options)
        jmap_write(j, key, &driver_map, message);
}

static const struct jmap_field volume_options[] = {{"NoCopy", "no_copy"},
                                                   {"Labels", "volume_labels"},
                                                   {"Subpath", "volume_subpath"},
                                                   {"DriverConfig", .read = read_driver, .write = write_driver},
                                                   END};
static const struct jmap volume_map = {&mount__descriptor, volume_options};

static int read_volume_options(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                               struct err *e)
{
    Mount *mount = (Mount *)message, *read;
    int rc = jmap_read(member, &volume_map, path, a, (ProtobufCMessage **)&read, e);

    if (rc < 0)
        return rc;
    mount->has_no_copy = read->has_no_copy;
    mount->no_copy = read->no_copy;
    mount->n_volume_labels = read->n_volume_labels;
    mount->volume_labels = read->volume_labels;
    mount->volume_subpath = read->volume_subpath;
    mount->volume_driver = read->volume_driver;
    mount->n_volume_options = read->n_volume_options;
    mount->volume_options = read->volume_options;
    return 0;
}

static void write_volume_options(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Mount *mount = (const Mount *)message;

    if (mount->has_no_copy || mount->n_volume_labels || mount->volume_subpath || mount->volume_driver ||
        mount->n_volume_options)
        jmap_write(j, key, &volume_map, message);
}

static const struct jmap_field mount_fields[] = {
    {"Type", "type", .names = mount_types, .always = true},
    {"Source", "source"},
    {"Target", "target"},
    {"ReadOnly", "read_only"},
    {"Consistency", "consistency"},
    {"BindOptions", .read = read_bind_options, .write = write_bind_options},
    {"VolumeOptions", .read = read_volume_options, .write = write_volume_options},
    {"TmpfsOptions", .read = read_tmpfs_options, .write = write_tmpfs_options},
    {"ImageOptions", .refuse = LATER("an image mount")},
    {"ClusterOptions", .refuse = LATER("a cluster (CSI) volume")},
    END};
static const struct jmap mount_map = {&mount__descriptor, mount_fields};

/* --- containers ------------------------------------------------------------------------------------ */

static const struct jmap_field dns_fields[] = {
    {"Nameservers", "nameservers"}, {"Search", "search"}, {"Options", "options"}, END};
static const struct jmap dns_map = {&dns_config__descriptor, dns_fields};

static const struct jmap_field ulimit_fields[] = {
    {"Name", "name", .always = true}, {"Hard", "hard", .always = true}, {"Soft", "soft", .always = true}, END};
static const struct jmap ulimit_map = {&ulimit__descriptor, ulimit_fields};

static int expect_object(const json_t *member, const char *path, struct err *e)
{
    if (json_is_object(member))
        return 0;
    char *shown = json_dumps(member, JSON_ENCODE_ANY | JSON_COMPACT);
    err_set(e, ERR_INVALID, "invalid %s: expected an object, got %.120s", path, shown ? shown : "?");
    free(shown);
    return ERR_INVALID;
}

static int read_seccomp(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                        struct err *e)
{
    Privileges *privileges = (Privileges *)message;
    char *mode = NULL;
    json_t *profile = jread_get(member, "Profile");
    int rc = expect_object(member, path, e);

    if (rc == 0)
        rc = jread_string(member, path, "Mode", a, &mode, e);
    if (rc < 0)
        return rc;
    if (profile && !json_is_string(profile))
        return err_set(e, ERR_INVALID, "invalid %s.Profile: expected a string in base 64", path);
    if (mode && *mode && strcmp(mode, "default") != 0 && strcmp(mode, "unconfined") != 0)
        return strcmp(mode, "custom") == 0
                   ? err_set(e, ERR_UNSUPPORTED, "%s.Mode: " LATER("a custom seccomp profile of a service"), path)
                   : err_set(e, ERR_INVALID, "invalid %s.Mode: expected default, unconfined or custom, got \"%s\"",
                             path, mode);
    if (profile && json_string_length(profile))
        return err_set(e, ERR_UNSUPPORTED, "%s.Profile: " LATER("a custom seccomp profile of a service"), path);
    privileges->seccomp_mode = mode;
    return 0;
}

static void write_seccomp(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Privileges *privileges = (const Privileges *)message;

    if (!privileges->seccomp_mode)
        return;
    jwrite_object(j, key);
    jwrite_string(j, "Mode", privileges->seccomp_mode);
    jwrite_end(j);
}

static int read_apparmor(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                         struct err *e)
{
    Privileges *privileges = (Privileges *)message;
    char *mode = NULL;
    int rc = expect_object(member, path, e);

    if (rc == 0)
        rc = jread_string(member, path, "Mode", a, &mode, e);
    if (rc == 0 && mode && *mode && strcmp(mode, "default") != 0 && strcmp(mode, "disabled") != 0)
        rc = err_set(e, ERR_INVALID, "invalid %s.Mode: expected default or disabled, got \"%s\"", path, mode);
    privileges->apparmor_mode = mode;
    return rc;
}

static void write_apparmor(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Privileges *privileges = (const Privileges *)message;

    if (!privileges->apparmor_mode)
        return;
    jwrite_object(j, key);
    jwrite_string(j, "Mode", privileges->apparmor_mode);
    jwrite_end(j);
}

static const struct jmap_field privileges_fields[] = {
    {"CredentialSpec", .refuse = "credential specs exist on Windows only"},
    {"SELinuxContext", .refuse = LATER("an SELinux context")},
    {"Seccomp", .read = read_seccomp, .write = write_seccomp},
    {"AppArmor", .read = read_apparmor, .write = write_apparmor},
    {"NoNewPrivileges", "no_new_privileges"},
    END};
static const struct jmap privileges_map = {&privileges__descriptor, privileges_fields};

static const struct jmap_field container_fields[] = {{"Image", "image"},
                                                     {"Labels", "labels"},
                                                     {"Command", "command"},
                                                     {"Args", "args"},
                                                     {"Hostname", "hostname"},
                                                     {"Env", "env"},
                                                     {"Dir", "dir"},
                                                     {"User", "user"},
                                                     {"Groups", "groups"},
                                                     {"Privileges", "privileges", .sub = &privileges_map},
                                                     {"Init", "init"},
                                                     {"StopSignal", "stop_signal"},
                                                     {"TTY", "tty"},
                                                     {"OpenStdin", "open_stdin"},
                                                     {"ReadOnly", "read_only"},
                                                     {"Mounts", "mounts", .sub = &mount_map},
                                                     {"StopGracePeriod", "stop_grace_period_ns"},
                                                     {"Healthcheck", .refuse = LATER("a health check")},
                                                     {"HealthCheck", .refuse = LATER("a health check")},
                                                     {"Hosts", "hosts"},
                                                     {"DNSConfig", "dns", .sub = &dns_map},
                                                     {"Secrets", .refuse = LATER("a secret")},
                                                     {"Configs", .refuse = LATER("a config")},
                                                     {"Isolation", "isolation"},
                                                     {"Sysctls", "sysctls"},
                                                     {"CapabilityAdd", "capability_add"},
                                                     {"CapabilityDrop", "capability_drop"},
                                                     {"Ulimits", "ulimits", .sub = &ulimit_map},
                                                     {"OomScoreAdj", "oom_score_adj"},
                                                     END};
static const struct jmap container_map = {&container_spec__descriptor, container_fields};

/* --- tasks ----------------------------------------------------------------------------------------- */

static int read_generic(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                        struct err *e)
{
    Resources *resources = (Resources *)message;
    size_t count = json_array_size(member);

    if (!json_is_array(member))
        return err_set(e, ERR_INVALID, "invalid %s: expected an array", path);
    resources->generic = arena_array(a, count, sizeof(*resources->generic));
    for (size_t i = 0; i < count; i++) {
        const json_t *element = json_array_get(member, i);
        json_t *discrete = NULL, *named = NULL;
        const char *way = arena_printf(a, "%s[%zu]", path, i);
        GenericResource *resource = ARENA_NEW(a, GenericResource);
        char *kind = NULL;
        int rc = expect_object(element, way, e);

        if (rc == 0)
            rc = jread_object(element, way, "DiscreteResourceSpec", &discrete, e);
        if (rc == 0)
            rc = jread_object(element, way, "NamedResourceSpec", &named, e);
        if (rc < 0)
            return rc;
        generic_resource__init(resource);
        if (!!discrete == !!named)
            return err_set(e, ERR_INVALID, "invalid %s: expected DiscreteResourceSpec or NamedResourceSpec", way);
        rc = jread_string(discrete ? discrete : named, way, "Kind", a, &kind, e);
        if (rc == 0 && discrete) {
            resource->has_discrete = true;
            rc = jread_int(discrete, way, "Value", &resource->discrete, e);
        } else if (rc == 0) {
            rc = jread_string(named, way, "Value", a, &resource->named, e);
        }
        if (rc == 0 && (!kind || !*kind))
            rc = err_set(e, ERR_INVALID, "invalid %s.Kind: it must not be empty", way);
        if (rc < 0)
            return rc;
        resource->kind = kind;
        resources->generic[resources->n_generic++] = resource;
    }
    return 0;
}

static void write_generic(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Resources *resources = (const Resources *)message;

    if (!resources->n_generic)
        return;
    jwrite_array(j, key);
    for (size_t i = 0; i < resources->n_generic; i++) {
        const GenericResource *resource = resources->generic[i];

        jwrite_object(j, NULL);
        jwrite_object(j, resource->named ? "NamedResourceSpec" : "DiscreteResourceSpec");
        jwrite_string(j, "Kind", resource->kind);
        if (resource->named)
            jwrite_string(j, "Value", resource->named);
        else
            jwrite_int(j, "Value", resource->discrete);
        jwrite_end(j);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static const struct jmap_field limit_fields[] = {
    {"NanoCPUs", "nano_cpus"}, {"MemoryBytes", "memory_bytes"}, {"Pids", "pids"}, END};
static const struct jmap limit_map = {&resources__descriptor, limit_fields};
static const struct jmap_field reservation_fields[] = {
    {"NanoCPUs", "nano_cpus"},
    {"MemoryBytes", "memory_bytes"},
    {"GenericResources", .read = read_generic, .write = write_generic},
    END};
const struct jmap spec_resources_map = {&resources__descriptor, reservation_fields};

/* TaskTemplate.Resources.{Limits,Reservations} are two fields of the task spec. */
static const struct jmap_field task_resources_fields[] = {
    {"Limits", "limits", .sub = &limit_map},
    {"Reservations", "reservations", .sub = &spec_resources_map},
    {"SwapBytes", .refuse = LATER("a swap limit")},
    {"MemorySwappiness", .refuse = LATER("memory swappiness of a service")},
    END};
static const struct jmap task_resources_map = {&task_spec__descriptor, task_resources_fields};

static int read_task_resources(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                               struct err *e)
{
    TaskSpec *task = (TaskSpec *)message, *read;
    int rc = jmap_read(member, &task_resources_map, path, a, (ProtobufCMessage **)&read, e);

    if (rc < 0)
        return rc;
    task->limits = read->limits;
    task->reservations = read->reservations;
    return 0;
}

static void write_task_resources(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const TaskSpec *task = (const TaskSpec *)message;

    if (task->limits || task->reservations)
        jmap_write(j, key, &task_resources_map, message);
}

static const struct jmap_field restart_fields[] = {{"Condition", "condition", .names = restart_conditions},
                                                   {"Delay", "delay_ns"},
                                                   {"MaxAttempts", "max_attempts"},
                                                   {"Window", "window_ns"},
                                                   END};
static const struct jmap restart_map = {&restart_policy__descriptor, restart_fields};

static int read_preferences(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                            struct err *e)
{
    Placement *placement = (Placement *)message;
    size_t count = json_array_size(member);

    if (!json_is_array(member))
        return err_set(e, ERR_INVALID, "invalid %s: expected an array", path);
    placement->spread_descriptors = arena_array(a, count, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        const char *place = arena_printf(a, "%s[%zu]", path, i), *way = arena_printf(a, "%s.Spread", place);
        const json_t *element = json_array_get(member, i);
        json_t *spread = NULL;
        char *descriptor = NULL;
        int rc = expect_object(element, place, e);

        if (rc == 0)
            rc = jread_object(element, place, "Spread", &spread, e);
        if (rc == 0)
            rc = jread_string(spread, way, "SpreadDescriptor", a, &descriptor, e);
        if (rc == 0 && (!descriptor || !*descriptor))
            rc = err_set(e, ERR_INVALID, "invalid %s: expected a SpreadDescriptor", way);
        if (rc < 0)
            return rc;
        placement->spread_descriptors[placement->n_spread_descriptors++] = descriptor;
    }
    return 0;
}

static void write_preferences(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const Placement *placement = (const Placement *)message;

    if (!placement->n_spread_descriptors)
        return;
    jwrite_array(j, key);
    for (size_t i = 0; i < placement->n_spread_descriptors; i++) {
        jwrite_object(j, NULL);
        jwrite_object(j, "Spread");
        jwrite_string(j, "SpreadDescriptor", placement->spread_descriptors[i]);
        jwrite_end(j);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static const struct jmap_field platform_fields[] = {{"Architecture", "architecture"}, {"OS", "os"}, END};
const struct jmap spec_platform_map = {&platform__descriptor, platform_fields};

static const struct jmap_field placement_fields[] = {
    {"Constraints", "constraints"},
    {"Preferences", .read = read_preferences, .write = write_preferences},
    {"MaxReplicas", "max_replicas"},
    {"Platforms", "platforms", .sub = &spec_platform_map},
    END};
static const struct jmap placement_map = {&placement__descriptor, placement_fields};

static const struct jmap_field attachment_fields[] = {
    {"Target", "target"}, {"Aliases", "aliases"}, {"DriverOpts", "driver_options"}, END};
static const struct jmap attachment_map = {&network_attachment_config__descriptor, attachment_fields};

static const struct jmap_field log_driver_fields[] = {{"Name", "name"}, {"Options", "options"}, END};
static const struct jmap log_driver_map = {&log_driver__descriptor, log_driver_fields};

static const struct jmap_field task_fields[] = {
    {"PluginSpec", .refuse = LATER("a plugin service")},
    {"ContainerSpec", "container", .sub = &container_map},
    {"NetworkAttachmentSpec", .refuse = LATER("a network attachment task")},
    {"Resources", .read = read_task_resources, .write = write_task_resources},
    {"RestartPolicy", "restart", .sub = &restart_map},
    {"Placement", "placement", .sub = &placement_map},
    {"Networks", "networks", .sub = &attachment_map},
    {"LogDriver", "log_driver", .sub = &log_driver_map},
    {"ForceUpdate", "force_update", .always = true},
    {"Runtime", "runtime"},
    END};
const struct jmap spec_task_map = {&task_spec__descriptor, task_fields};

/* --- services -------------------------------------------------------------------------------------- */

static int read_mode(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                     struct err *e)
{
    ServiceSpec *spec = (ServiceSpec *)message;
    static const char *const names[] = {"Replicated", "Global", "ReplicatedJob", "GlobalJob"};
    json_t *modes[ARRAY_SIZE(names)] = {NULL};
    size_t count = 0, which = 0;
    int rc = expect_object(member, path, e);

    for (size_t i = 0; i < ARRAY_SIZE(names) && rc == 0; i++) {
        rc = jread_object(member, path, names[i], &modes[i], e);
        which = modes[i] ? i : which;
        count += modes[i] != NULL;
    }
    if (rc < 0 || count == 0)
        return rc;
    if (count > 1)
        return err_set(e, ERR_INVALID, "invalid %s: more than one mode was given", path);
    if (which >= 2)
        return err_set(e, ERR_UNSUPPORTED, "%s.%s: " LATER("a job"), path, names[which]);
    const json_t *replicated = modes[0];
    spec->has_mode = true;
    spec->mode = modes[1] ? SERVICE_MODE__GLOBAL : SERVICE_MODE__REPLICATED;
    if (replicated && jread_get(replicated, "Replicas")) {
        spec->has_replicas = true;
        rc = jread_uint(replicated, arena_printf(a, "%s.Replicated", path), "Replicas", &spec->replicas, e);
    }
    return rc;
}

static void write_mode(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    const ServiceSpec *spec = (const ServiceSpec *)message;

    jwrite_object(j, key);
    if (spec->mode == SERVICE_MODE__GLOBAL) {
        jwrite_object(j, "Global");
    } else {
        jwrite_object(j, "Replicated");
        jwrite_uint(j, "Replicas", spec->has_replicas ? spec->replicas : 1);
    }
    jwrite_end(j);
    jwrite_end(j);
}

/* Before 1.44 clients put networks into the service instead of the task. */
static const struct jmap_field old_networks_fields[] = {{"Networks", "networks", .sub = &attachment_map}, END};
static const struct jmap old_networks_map = {&task_spec__descriptor, old_networks_fields};

static int read_old_networks(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                             struct err *e)
{
    ServiceSpec *spec = (ServiceSpec *)message;
    TaskSpec *read;
    json_t *holder = json_pack("{s:O}", "Networks", member);
    int rc = jmap_read(holder, &old_networks_map, "", a, (ProtobufCMessage **)&read, e);
    json_decref(holder);
    if (rc < 0 || !spec->task || spec->task->n_networks)
        return rc;
    spec->task->n_networks = read->n_networks;
    spec->task->networks = read->networks;
    return 0;
}

static void write_nothing(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    (void)message; /* read for old clients; it is written where it belongs */
}

static const struct jmap_field update_fields[] = {{"Parallelism", "parallelism", .always = true},
                                                  {"Delay", "delay_ns"},
                                                  {"FailureAction", "failure_action", .names = failure_actions},
                                                  {"Monitor", "monitor_ns"},
                                                  {"MaxFailureRatio", "max_failure_ratio", .always = true},
                                                  {"Order", "order", .names = orders},
                                                  END};
static const struct jmap update_map = {&update_config__descriptor, update_fields};
static const struct jmap_field rollback_fields[] = {{"Parallelism", "parallelism", .always = true},
                                                    {"Delay", "delay_ns"},
                                                    {"FailureAction", "failure_action", .names = rollback_actions},
                                                    {"Monitor", "monitor_ns"},
                                                    {"MaxFailureRatio", "max_failure_ratio", .always = true},
                                                    {"Order", "order", .names = orders},
                                                    END};
static const struct jmap rollback_map = {&update_config__descriptor, rollback_fields};

static const struct jmap_field port_fields[] = {{"Name", "name"},
                                                {"Protocol", "protocol", .names = protocols, .always = true},
                                                {"TargetPort", "target_port"},
                                                {"PublishedPort", "published_port"},
                                                {"PublishMode", "mode", .names = publish_modes, .always = true},
                                                END};
const struct jmap spec_port_map = {&port_config__descriptor, port_fields};

static const struct jmap_field endpoint_fields[] = {
    {"Mode", "mode", .names = endpoint_modes, .always = true}, {"Ports", "ports", .sub = &spec_port_map}, END};
const struct jmap spec_endpoint_map = {&endpoint_spec__descriptor, endpoint_fields};

static const struct jmap_field service_fields[] = {{"Name", "name", .always = true},
                                                   {"Labels", "labels", .always = true},
                                                   {"TaskTemplate", "task", .sub = &spec_task_map, .always = true},
                                                   {"Mode", .read = read_mode, .write = write_mode},
                                                   {"UpdateConfig", "update", .sub = &update_map},
                                                   {"RollbackConfig", "rollback", .sub = &rollback_map},
                                                   {"Networks", .read = read_old_networks, .write = write_nothing},
                                                   {"EndpointSpec", "endpoint", .sub = &spec_endpoint_map},
                                                   END};
const struct jmap spec_service_map = {&service_spec__descriptor, service_fields};

/* Docker's JSON says "Parallelism" 0 for all at once, so a config without the member asks for that too
 * (swarm-surface.md section 9). */
static void settle_parallelism(UpdateConfig *config)
{
    if (config)
        config->has_parallelism = true;
}

int spec_read_service(const json_t *object, struct arena *a, ServiceSpec **ret, struct err *e)
{
    int rc = jmap_read(object, &spec_service_map, "", a, (ProtobufCMessage **)ret, e);

    if (rc < 0)
        return rc;
    settle_parallelism((*ret)->update);
    settle_parallelism((*ret)->rollback);
    return 0;
}

/* --- nodes, networks, the cluster ------------------------------------------------------------------ */

static const struct jmap_field node_fields[] = {
    {"Name", "name"},
    {"Labels", "labels", .always = true},
    {"Role", "role", .names = roles, .always = true},
    {"Availability", "availability", .names = availabilities, .always = true},
    END};
const struct jmap spec_node_map = {&node_spec__descriptor, node_fields};

int spec_read_node(const json_t *object, struct arena *a, NodeSpec **ret, struct err *e)
{
    return jmap_read(object, &spec_node_map, "", a, (ProtobufCMessage **)ret, e);
}

static const struct jmap_field network_fields[] = {{"Name", "name", .always = true},
                                                   {"Driver", "driver", .always = true},
                                                   {"Scope", "scope", .always = true},
                                                   {"Internal", "internal", .always = true},
                                                   {"Attachable", "attachable", .always = true},
                                                   {"Ingress", "ingress", .always = true},
                                                   {"EnableIPv6", "enable_ipv6", .always = true},
                                                   {"Options", "driver_options", .always = true},
                                                   {"Labels", "labels", .always = true},
                                                   END};
const struct jmap spec_network_map = {&network_spec__descriptor, network_fields};

/* The cluster's spec comes in groups; the message is flat. Each group is a table over the same message, read in
 * turn and merged. */
static const struct jmap_field orchestration_fields[] = {{"TaskHistoryRetentionLimit", "task_history_limit"}, END};
static const struct jmap_field raft_fields[] = {{"SnapshotInterval", "snapshot_interval"},
                                                {"KeepOldSnapshots", "keep_old_snapshots"},
                                                {"LogEntriesForSlowFollowers", "log_entries_for_slow_followers"},
                                                {"ElectionTick", "election_tick"},
                                                {"HeartbeatTick", "heartbeat_tick"},
                                                END};
static const struct jmap_field dispatcher_fields[] = {{"HeartbeatPeriod", "heartbeat_period_ns"}, END};
/* A root of the user's own goes its own way (spec_read_signing) and never comes back. */
static int read_signing(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                        struct err *e)
{
    (void)message;
    return 0;
}

int spec_read_signing(const json_t *object, struct arena *a, char **ret_certificate, char **ret_key, struct err *e)
{
    json_t *ca = NULL;
    int rc = jread_object(object, NULL, "CAConfig", &ca, e);

    *ret_certificate = *ret_key = NULL;
    if (rc == 0 && ca)
        rc = jread_string(ca, "CAConfig", "SigningCACert", a, ret_certificate, e);
    if (rc == 0 && ca)
        rc = jread_string(ca, "CAConfig", "SigningCAKey", a, ret_key, e);
    if (*ret_certificate && !**ret_certificate)
        *ret_certificate = NULL;
    if (*ret_key && !**ret_key)
        *ret_key = NULL;
    return rc;
}

static const struct jmap_field ca_fields[] = {{"NodeCertExpiry", "node_cert_expiry_ns"},
                                              {"ExternalCAs", .refuse = LATER("an external CA")},
                                              {"SigningCACert", .read = read_signing, .write = write_nothing},
                                              {"SigningCAKey", .read = read_signing, .write = write_nothing},
                                              {"ForceRotate", "force_rotate"},
                                              END};
static const struct jmap_field encryption_fields[] = {{"AutoLockManagers", "autolock_managers", .always = true},
                                                      END};
static const struct jmap_field defaults_fields[] = {{"LogDriver", "log_driver", .sub = &log_driver_map}, END};

static const struct {
    const char *json;
    struct jmap map;
} cluster_groups[] = {{"Orchestration", {&cluster_spec__descriptor, orchestration_fields}},
                      {"Raft", {&cluster_spec__descriptor, raft_fields}},
                      {"Dispatcher", {&cluster_spec__descriptor, dispatcher_fields}},
                      {"CAConfig", {&cluster_spec__descriptor, ca_fields}},
                      {"EncryptionConfig", {&cluster_spec__descriptor, encryption_fields}},
                      {"TaskDefaults", {&cluster_spec__descriptor, defaults_fields}}};

/* Where 0 makes no sense it asks for nothing, as clients that know no "absent" send it. */
#define MERGE_SET(into, from, field)         \
    do {                                     \
        if ((from)->field)                   \
            MESSAGE_TAKE(into, from, field); \
    } while (0)

static void merge_cluster(ClusterSpec *into, const ClusterSpec *from)
{
    MESSAGE_TAKE(into, from, task_history_limit);
    MERGE_SET(into, from, snapshot_interval);
    MESSAGE_TAKE(into, from, keep_old_snapshots);
    MERGE_SET(into, from, log_entries_for_slow_followers);
    MERGE_SET(into, from, election_tick);
    MERGE_SET(into, from, heartbeat_tick);
    MERGE_SET(into, from, heartbeat_period_ns);
    MERGE_SET(into, from, node_cert_expiry_ns);
    MESSAGE_TAKE(into, from, autolock_managers);
    MERGE_SET(into, from, force_rotate);
    if (from->log_driver)
        into->log_driver = from->log_driver;
}

int spec_read_cluster(const json_t *object, struct arena *a, ClusterSpec **ret, struct err *e)
{
    ClusterSpec *spec;
    int rc = jmap_read(object, &spec_cluster_map, "", a, (ProtobufCMessage **)&spec, e);

    for (size_t i = 0; rc == 0 && i < sizeof(cluster_groups) / sizeof(cluster_groups[0]); i++) {
        ClusterSpec *group;
        json_t *member = NULL;

        rc = jread_object(object, NULL, cluster_groups[i].json, &member, e);
        if (rc < 0 || !member)
            continue;
        rc = jmap_read(member, &cluster_groups[i].map, cluster_groups[i].json, a, (ProtobufCMessage **)&group, e);
        if (rc == 0)
            merge_cluster(spec, group);
    }
    if (rc == 0)
        *ret = spec;
    return rc;
}

static void write_cluster_group(struct jwrite *j, const char *key, const ProtobufCMessage *message)
{
    for (size_t i = 0; i < sizeof(cluster_groups) / sizeof(cluster_groups[0]); i++)
        if (strcmp(cluster_groups[i].json, key) == 0)
            jmap_write(j, key, &cluster_groups[i].map, message);
}

static int read_group_later(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message,
                            struct err *e)
{
    (void)message; /* spec_read_cluster reads the groups one by one */
    return 0;
}

#define GROUP(name)                                                  \
    {                                                                \
        name, .read = read_group_later, .write = write_cluster_group \
    }
static const struct jmap_field cluster_fields[] = {{"Name", "name", .always = true},
                                                   {"Labels", "labels", .always = true},
                                                   GROUP("Orchestration"),
                                                   GROUP("Raft"),
                                                   GROUP("Dispatcher"),
                                                   GROUP("CAConfig"),
                                                   GROUP("EncryptionConfig"),
                                                   GROUP("TaskDefaults"),
                                                   END};
const struct jmap spec_cluster_map = {&cluster_spec__descriptor, cluster_fields};
