/* See container_read.h. Tables say which member of the JSON becomes which member of the message, which ones this
 * version does not do, and which ones mean nothing on Linux; functions read what is more than one value. */
#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/api/container_read.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

#define NOT_IMPLEMENTED "is not implemented in shoal " SHOAL_VERSION
#define LIST_MAX        10000 /* entries of any list or map */

struct reading {
    struct arena *a;
    unsigned minor;
    char **warnings;
    size_t warning_count;
};

enum kind { TEXT, FLAG, INT64, INT32, UINT32, TEXTS, MAP, KEYS };

struct field {
    const char *key;
    enum kind kind;
    size_t value;  /* offset of the member */
    size_t beside; /* of its has_ flag or of its n_ count; unused for TEXT */
};

#define F_TEXT(type, key, member)            \
    {                                        \
        key, TEXT, offsetof(type, member), 0 \
    }
#define F_HAS(type, key, kind, member)                                  \
    {                                                                   \
        key, kind, offsetof(type, member), offsetof(type, has_##member) \
    }
#define F_COUNT(type, key, kind, member)                              \
    {                                                                 \
        key, kind, offsetof(type, member), offsetof(type, n_##member) \
    }

static const struct field config_fields[] = {
    F_TEXT(ContainerConfig, "Image", image),
    F_TEXT(ContainerConfig, "Hostname", hostname),
    F_TEXT(ContainerConfig, "Domainname", domainname),
    F_TEXT(ContainerConfig, "User", user),
    F_TEXT(ContainerConfig, "WorkingDir", working_dir),
    F_TEXT(ContainerConfig, "StopSignal", stop_signal),
    F_HAS(ContainerConfig, "StopTimeout", INT32, stop_timeout_s),
    F_HAS(ContainerConfig, "AttachStdin", FLAG, attach_stdin),
    F_HAS(ContainerConfig, "AttachStdout", FLAG, attach_stdout),
    F_HAS(ContainerConfig, "AttachStderr", FLAG, attach_stderr),
    F_HAS(ContainerConfig, "Tty", FLAG, tty),
    F_HAS(ContainerConfig, "OpenStdin", FLAG, open_stdin),
    F_HAS(ContainerConfig, "StdinOnce", FLAG, stdin_once),
    F_HAS(ContainerConfig, "NetworkDisabled", FLAG, network_disabled),
    F_COUNT(ContainerConfig, "Env", TEXTS, env),
    F_COUNT(ContainerConfig, "Shell", TEXTS, shell),
    F_COUNT(ContainerConfig, "Labels", MAP, labels),
    F_COUNT(ContainerConfig, "ExposedPorts", KEYS, exposed_ports),
    F_COUNT(ContainerConfig, "Volumes", KEYS, volumes),
    {0},
};

static const struct field host_fields[] = {
    F_COUNT(HostConfig, "Binds", TEXTS, binds),
    F_COUNT(HostConfig, "Tmpfs", MAP, tmpfs),
    F_TEXT(HostConfig, "ContainerIDFile", container_id_file),
    F_TEXT(HostConfig, "NetworkMode", network_mode),
    F_HAS(HostConfig, "AutoRemove", FLAG, auto_remove),
    F_COUNT(HostConfig, "CapAdd", TEXTS, capability_add),
    F_COUNT(HostConfig, "CapDrop", TEXTS, capability_drop),
    F_HAS(HostConfig, "Privileged", FLAG, privileged),
    F_HAS(HostConfig, "ReadonlyRootfs", FLAG, read_only_root),
    F_COUNT(HostConfig, "SecurityOpt", TEXTS, security_options),
    F_HAS(HostConfig, "NanoCpus", INT64, nano_cpus),
    F_HAS(HostConfig, "CpuShares", INT64, cpu_shares),
    F_HAS(HostConfig, "CpuPeriod", INT64, cpu_period_us),
    F_HAS(HostConfig, "CpuQuota", INT64, cpu_quota_us),
    F_TEXT(HostConfig, "CpusetCpus", cpuset_cpus),
    F_TEXT(HostConfig, "CpusetMems", cpuset_mems),
    F_HAS(HostConfig, "Memory", INT64, memory_bytes),
    F_HAS(HostConfig, "MemorySwap", INT64, memory_swap_bytes),
    F_HAS(HostConfig, "MemoryReservation", INT64, memory_reservation_bytes),
    F_HAS(HostConfig, "MemorySwappiness", INT64, memory_swappiness),
    F_HAS(HostConfig, "OomKillDisable", FLAG, oom_kill_disable),
    F_HAS(HostConfig, "PidsLimit", INT64, pids_limit),
    F_HAS(HostConfig, "BlkioWeight", UINT32, blkio_weight),
    F_HAS(HostConfig, "OomScoreAdj", INT64, oom_score_adj),
    F_HAS(HostConfig, "ShmSize", INT64, shm_size_bytes),
    F_TEXT(HostConfig, "PidMode", pid_mode),
    F_TEXT(HostConfig, "IpcMode", ipc_mode),
    F_TEXT(HostConfig, "UTSMode", uts_mode),
    F_TEXT(HostConfig, "CgroupnsMode", cgroupns_mode),
    F_TEXT(HostConfig, "UsernsMode", userns_mode),
    F_TEXT(HostConfig, "CgroupParent", cgroup_parent),
    F_COUNT(HostConfig, "Dns", TEXTS, dns),
    F_COUNT(HostConfig, "DnsOptions", TEXTS, dns_options),
    F_COUNT(HostConfig, "DnsSearch", TEXTS, dns_search),
    F_COUNT(HostConfig, "ExtraHosts", TEXTS, extra_hosts),
    F_COUNT(HostConfig, "GroupAdd", TEXTS, group_add),
    F_COUNT(HostConfig, "Sysctls", MAP, sysctls),
    F_HAS(HostConfig, "Init", FLAG, init),
    F_COUNT(HostConfig, "DeviceCgroupRules", TEXTS, device_cgroup_rules),
    F_HAS(HostConfig, "PublishAllPorts", FLAG, publish_all_ports),
    F_COUNT(HostConfig, "Annotations", MAP, annotations),
    F_TEXT(HostConfig, "Runtime", runtime),
    F_COUNT(HostConfig, "VolumesFrom", TEXTS, volumes_from),
    F_TEXT(HostConfig, "VolumeDriver", volume_driver),
    F_COUNT(HostConfig, "Links", TEXTS, links),
    {0},
};

static const char *const host_absent[] = {
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "DeviceRequests",
    "KernelMemory",
    "KernelMemoryTCP",
    "Cgroup",
    "StorageOpt",
    NULL,
};

static const char *const host_windows[] = {
    "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", NULL,
};

static void warn(struct reading *r, char *text)
{
    r->warnings = arena_append(r->a, r->warnings, r->warning_count, sizeof(*r->warnings));
    r->warnings[r->warning_count++] = text;
}

/* Whether a member says anything: not null, false, 0, "", [] or {}, and nothing but such. */
static bool says_something(const json_t *value)
{
    const char *key;
    json_t *item;
    size_t at;

    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_TRUE:
        return true;
    case JSON_INTEGER:
        return json_integer_value(value) != 0;
    case JSON_REAL:
        return json_real_value(value) != 0;
    case JSON_STRING:
        return json_string_length(value) != 0;
    case JSON_ARRAY:
        json_array_foreach(value, at, item) if (says_something(item)) return true;
        return false;
    case JSON_OBJECT:
        json_object_foreach((json_t *)value, key, item) if (says_something(item)) return true;
        return false;
    default:
        return false;
    }
}

static int refuse(const json_t *object, const char *path, const char *const *keys, struct err *e)
{
    for (; *keys; keys++)
        if (says_something(jread_get(object, *keys)))
            return err_set(e, ERR_UNSUPPORTED, "%s%s%s " NOT_IMPLEMENTED, path ? path : "", path ? "." : "", *keys);
    return 0;
}

static void warn_of_windows(struct reading *r, const json_t *object, const char *path, const char *const *keys)
{
    for (; *keys; keys++)
        if (says_something(jread_get(object, *keys)))
            warn(r, arena_printf(r->a, "%s%s%s has no effect: it is for Windows only", path ? path : "",
                                 path ? "." : "", *keys));
}

/* --- values -------------------------------------------------------------------------------------- */

static int out_of_range(const char *path, const char *key, int64_t value, struct err *e)
{
    return err_set(e, ERR_INVALID, "invalid %s%s%s: %lld is out of range", path ? path : "", path ? "." : "", key,
                   (long long)value);
}

static int by_key(const void *one, const void *other)
{
    return strcmp((*(KeyValue *const *)one)->key, (*(KeyValue *const *)other)->key);
}

static int too_many(const json_t *list, const char *path, const char *key, struct err *e)
{
    size_t count = json_is_array(list) ? json_array_size(list) : json_object_size(list);

    if (count <= LIST_MAX)
        return 0;
    return err_set(e, ERR_INVALID, "invalid %s%s%s: more than %d entries", path ? path : "", path ? "." : "", key,
                   LIST_MAX);
}

static int read_map(struct reading *r, const json_t *object, const char *path, const char *key, KeyValue ***ret,
                    size_t *ret_count, struct err *e)
{
    json_t *map = NULL, *value;
    const char *name;
    int rc = jread_object(object, path, key, &map, e);

    if (rc < 0 || too_many(map, path, key, e) < 0)
        return ERR_INVALID;
    *ret = arena_array(r->a, json_object_size(map), sizeof(**ret));
    *ret_count = 0;
    json_object_foreach(map, name, value)
    {
        KeyValue *pair = ARENA_NEW(r->a, KeyValue);

        if (!json_is_string(value) && !json_is_null(value))
            return err_set(e, ERR_INVALID, "invalid %s%s%s: the value of \"%.120s\" must be a string",
                           path ? path : "", path ? "." : "", key, name);
        key_value__init(pair);
        pair->key = arena_strdup(r->a, name);
        pair->value = arena_strdup(r->a, json_is_string(value) ? json_string_value(value) : "");
        (*ret)[(*ret_count)++] = pair;
    }
    if (*ret_count)
        qsort(*ret, *ret_count, sizeof(**ret), by_key);
    return 0;
}

static int by_text(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* {"80/tcp": {}}: the keys, sorted. */
static int read_keys(struct reading *r, const json_t *object, const char *path, const char *key, char ***ret,
                     size_t *ret_count, struct err *e)
{
    json_t *set = NULL, *value;
    const char *name;
    int rc = jread_object(object, path, key, &set, e);

    if (rc < 0 || too_many(set, path, key, e) < 0)
        return ERR_INVALID;
    *ret = arena_array(r->a, json_object_size(set), sizeof(**ret));
    *ret_count = 0;
    json_object_foreach(set, name, value)
    {
        if (!json_is_object(value) && !json_is_null(value))
            return err_set(e, ERR_INVALID, "invalid %s%s%s: the value of \"%.120s\" must be {}", path ? path : "",
                           path ? "." : "", key, name);
        (*ret)[(*ret_count)++] = arena_strdup(r->a, name);
    }
    if (*ret_count)
        qsort(*ret, *ret_count, sizeof(**ret), by_text);
    return 0;
}

static int read_number(const json_t *object, const char *path, const struct field *f, char *into, struct err *e)
{
    int64_t value = 0;
    int rc = jread_int(object, path, f->key, &value, e);

    if (rc < 0)
        return rc;
    if (f->kind == INT32 && (value < INT32_MIN || value > INT32_MAX))
        return out_of_range(path, f->key, value, e);
    if (f->kind == UINT32 && (value < 0 || value > UINT32_MAX))
        return out_of_range(path, f->key, value, e);
    *(protobuf_c_boolean *)(into + f->beside) = true;
    if (f->kind == INT64)
        *(int64_t *)(into + f->value) = value;
    else if (f->kind == INT32)
        *(int32_t *)(into + f->value) = (int32_t)value;
    else
        *(uint32_t *)(into + f->value) = (uint32_t)value;
    return 0;
}

static int read_field(struct reading *r, const json_t *object, const char *path, const struct field *f, char *into,
                      struct err *e)
{
    bool flag = false;
    size_t *count = (size_t *)(into + f->beside);
    int rc;

    if (!jread_get(object, f->key))
        return 0;
    switch (f->kind) {
    case TEXT:
        return jread_string(object, path, f->key, r->a, (char **)(into + f->value), e);
    case FLAG:
        rc = jread_bool(object, path, f->key, &flag, e);
        *(protobuf_c_boolean *)(into + f->beside) = true;
        *(protobuf_c_boolean *)(into + f->value) = flag;
        return rc;
    case TEXTS:
        rc = jread_strings(object, path, f->key, r->a, (char ***)(into + f->value), count, e);
        return rc < 0 ? rc : too_many(jread_get(object, f->key), path, f->key, e);
    case MAP:
        return read_map(r, object, path, f->key, (KeyValue ***)(into + f->value), count, e);
    case KEYS:
        return read_keys(r, object, path, f->key, (char ***)(into + f->value), count, e);
    default:
        return read_number(object, path, f, into, e);
    }
}

static int read_fields(struct reading *r, const json_t *object, const char *path, const struct field *fields,
                       void *into, struct err *e)
{
    for (; fields->key; fields++) {
        int rc = read_field(r, object, path, fields, into, e);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A command: a list, or a text that is a list of one. *ret_set: something was given, maybe an empty list. */
static int read_command(struct reading *r, const json_t *object, const char *key, char ***ret, size_t *ret_count,
                        protobuf_c_boolean *ret_set, struct err *e)
{
    const json_t *value = jread_get(object, key);

    if (!json_is_string(value)) {
        *ret_set = value != NULL;
        return jread_strings(object, NULL, key, r->a, ret, ret_count, e);
    }
    if (!json_string_length(value))
        return 0; /* "" is as absent */
    *ret_set = true;
    *ret_count = 1;
    *ret = arena_array(r->a, 1, sizeof(**ret));
    return jread_string(object, NULL, key, r->a, *ret, e);
}

/* --- ports --------------------------------------------------------------------------------------- */

/* "80", "80/tcp": number and protocol. */
static bool parse_port(const char *text, uint32_t *ret_port, PortProtocol *ret_protocol)
{
    static const char *const names[] = {"tcp", "udp", "sctp"};
    char *end;
    unsigned long port = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;

    if (port < 1 || port > 65535)
        return false;
    *ret_port = (uint32_t)port;
    *ret_protocol = PORT_PROTOCOL__TCP;
    if (!*end)
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (*end == '/' && strcasecmp(end + 1, names[i]) == 0) {
            *ret_protocol = (PortProtocol)i;
            return true;
        }
    }
    return false;
}

static int check_exposed(struct reading *r, ContainerConfig *config, struct err *e)
{
    static const char *const names[] = {"tcp", "udp", "sctp"};

    for (size_t i = 0; i < config->n_exposed_ports; i++) {
        PortProtocol protocol;
        uint32_t port;

        if (!parse_port(config->exposed_ports[i], &port, &protocol))
            return err_set(e, ERR_INVALID, "invalid ExposedPorts: invalid port specification: \"%.120s\"",
                           config->exposed_ports[i]);
        config->exposed_ports[i] = arena_printf(r->a, "%u/%s", port, names[protocol]);
    }
    return 0;
}

static int read_binding(struct reading *r, const json_t *given, const char *key, uint32_t port,
                        PortProtocol protocol, HostConfig *host, struct err *e)
{
    PortBinding *binding = ARENA_NEW(r->a, PortBinding);

    port_binding__init(binding);
    binding->port = port;
    binding->has_protocol = true;
    binding->protocol = protocol;
    if (!json_is_object(given))
        return err_set(e, ERR_INVALID, "invalid HostConfig.PortBindings: the entries of \"%.64s\" must be objects",
                       key);
    int rc = jread_string(given, "HostConfig.PortBindings", "HostIp", r->a, &binding->host_address, e);
    if (rc == 0)
        rc = jread_string(given, "HostConfig.PortBindings", "HostPort", r->a, &binding->host_port, e);
    host->port_bindings =
        arena_append(r->a, host->port_bindings, host->n_port_bindings, sizeof(*host->port_bindings));
    host->port_bindings[host->n_port_bindings++] = binding;
    return rc;
}

static int read_port_bindings(struct reading *r, const json_t *object, HostConfig *host, struct err *e)
{
    json_t *map = NULL, *list, *given;
    const char *key;
    size_t at;
    int rc = jread_object(object, "HostConfig", "PortBindings", &map, e);

    if (rc < 0 || too_many(map, "HostConfig", "PortBindings", e) < 0)
        return ERR_INVALID;
    json_object_foreach(map, key, list)
    {
        PortProtocol protocol;
        uint32_t port;

        if (!parse_port(key, &port, &protocol))
            return err_set(e, ERR_INVALID,
                           "invalid HostConfig.PortBindings: invalid port specification: \"%.120s\"", key);
        if (!json_is_array(list) && !json_is_null(list))
            return err_set(e, ERR_INVALID, "invalid HostConfig.PortBindings: \"%.64s\" must be an array", key);
        json_array_foreach(list, at, given)
        {
            rc = read_binding(r, given, key, port, protocol, host, e);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* --- parts of the host configuration -------------------------------------------------------------- */

/* Each object of an array becomes one message by `read_one`. */
static int read_objects(struct reading *r, const json_t *object, const char *key, void ***ret, size_t *ret_count,
                        int (*read_one)(struct reading *r, const json_t *given, void **ret, struct err *e),
                        struct err *e)
{
    json_t *array = NULL, *given;
    size_t at;
    int rc = jread_array(object, "HostConfig", key, &array, e);

    if (rc < 0 || too_many(array, "HostConfig", key, e) < 0)
        return ERR_INVALID;
    *ret = arena_array(r->a, json_array_size(array), sizeof(**ret));
    *ret_count = 0;
    json_array_foreach(array, at, given)
    {
        if (!json_is_object(given))
            return err_set(e, ERR_INVALID, "invalid HostConfig.%s: entries must be objects", key);
        rc = read_one(r, given, &(*ret)[*ret_count], e);
        if (rc < 0)
            return rc;
        (*ret_count)++;
    }
    return 0;
}

static int read_ulimit(struct reading *r, const json_t *given, void **ret, struct err *e)
{
    Ulimit *limit = ARENA_NEW(r->a, Ulimit);

    ulimit__init(limit);
    limit->name = arena_strdup(r->a, "");
    limit->has_soft = limit->has_hard = true;
    int rc = jread_string(given, "HostConfig.Ulimits", "Name", r->a, &limit->name, e);
    if (rc == 0)
        rc = jread_int(given, "HostConfig.Ulimits", "Soft", &limit->soft, e);
    if (rc == 0)
        rc = jread_int(given, "HostConfig.Ulimits", "Hard", &limit->hard, e);
    *ret = limit;
    return rc;
}

static int read_device(struct reading *r, const json_t *given, void **ret, struct err *e)
{
    DeviceMapping *device = ARENA_NEW(r->a, DeviceMapping);

    device_mapping__init(device);
    device->host_path = arena_strdup(r->a, "");
    int rc = jread_string(given, "HostConfig.Devices", "PathOnHost", r->a, &device->host_path, e);
    if (rc == 0)
        rc = jread_string(given, "HostConfig.Devices", "PathInContainer", r->a, &device->container_path, e);
    if (rc == 0)
        rc = jread_string(given, "HostConfig.Devices", "CgroupPermissions", r->a, &device->permissions, e);
    *ret = device;
    return rc;
}

static int read_mount_type(struct reading *r, const json_t *given, Mount *mount, struct err *e)
{
    static const char *const types[] = {"bind", "volume", "tmpfs"}, *const later[] = {"npipe", "cluster", "image"};
    char *type = NULL;
    int rc = jread_string(given, "HostConfig.Mounts", "Type", r->a, &type, e);

    if (rc < 0)
        return rc;
    for (size_t i = 0; type && i < ARRAY_SIZE(types); i++) {
        if (strcmp(type, types[i]) == 0) {
            mount->has_type = true;
            mount->type = (MountType)i;
            return 0;
        }
    }
    for (size_t i = 0; type && i < ARRAY_SIZE(later); i++)
        if (strcmp(type, later[i]) == 0)
            return err_set(e, ERR_UNSUPPORTED, "invalid mount config: type \"%s\" " NOT_IMPLEMENTED, type);
    return err_set(e, ERR_INVALID, "mount type unknown: \"%.64s\"", type ? type : "");
}

static int read_bind_options(struct reading *r, const json_t *given, Mount *mount, struct err *e)
{
    static const char path[] = "HostConfig.Mounts.BindOptions";
    static const struct field fields[] = {
        F_TEXT(Mount, "Propagation", propagation),
        F_HAS(Mount, "NonRecursive", FLAG, non_recursive),
        F_HAS(Mount, "CreateMountpoint", FLAG, create_mountpoint),
        F_HAS(Mount, "ReadOnlyNonRecursive", FLAG, read_only_non_recursive),
        F_HAS(Mount, "ReadOnlyForceRecursive", FLAG, read_only_force_recursive),
        {0},
    };
    json_t *options = NULL;
    int rc = jread_object(given, "HostConfig.Mounts", "BindOptions", &options, e);

    if (rc == 0)
        rc = read_fields(r, options, path, fields, mount, e);
    if (rc == 0 && r->minor < 44 && mount->type == MOUNT_TYPE__BIND && mount->read_only)
        mount->has_read_only_non_recursive = mount->read_only_non_recursive = true; /* as it was then */
    return rc;
}

static int read_volume_options(struct reading *r, const json_t *given, Mount *mount, struct err *e)
{
    static const char path[] = "HostConfig.Mounts.VolumeOptions";
    static const struct field fields[] = {
        F_HAS(Mount, "NoCopy", FLAG, no_copy),
        F_COUNT(Mount, "Labels", MAP, volume_labels),
        F_TEXT(Mount, "Subpath", volume_subpath),
        {0},
    };
    static const struct field driver_fields[] = {
        F_TEXT(Mount, "Name", volume_driver),
        F_COUNT(Mount, "Options", MAP, volume_options),
        {0},
    };
    json_t *options = NULL, *driver = NULL;
    int rc = jread_object(given, "HostConfig.Mounts", "VolumeOptions", &options, e);

    if (rc == 0)
        rc = read_fields(r, options, path, fields, mount, e);
    if (rc == 0)
        rc = jread_object(options, path, "DriverConfig", &driver, e);
    return rc == 0 ? read_fields(r, driver, path, driver_fields, mount, e) : rc;
}

static int read_tmpfs_options(struct reading *r, const json_t *given, Mount *mount, struct err *e)
{
    static const char path[] = "HostConfig.Mounts.TmpfsOptions", *const absent[] = {"Options", NULL};
    json_t *options = NULL;
    uint64_t size = 0, mode = 0;
    int rc = jread_object(given, "HostConfig.Mounts", "TmpfsOptions", &options, e);

    if (rc == 0)
        rc = refuse(options, path, absent, e);
    if (rc == 0)
        rc = jread_uint(options, path, "SizeBytes", &size, e);
    if (rc == 0)
        rc = jread_uint(options, path, "Mode", &mode, e);
    if (rc < 0)
        return rc;
    if (mode > UINT32_MAX)
        return out_of_range(path, "Mode", (int64_t)mode, e);
    mount->has_tmpfs_size_bytes = size > 0;
    mount->tmpfs_size_bytes = size;
    mount->has_tmpfs_mode = mode > 0;
    mount->tmpfs_mode = (uint32_t)mode;
    return 0;
}

static int read_mount(struct reading *r, const json_t *given, void **ret, struct err *e)
{
    static const struct field fields[] = {
        F_TEXT(Mount, "Source", source),
        F_TEXT(Mount, "Target", target),
        F_HAS(Mount, "ReadOnly", FLAG, read_only),
        F_TEXT(Mount, "Consistency", consistency),
        {0},
    };
    static const char *const absent[] = {"ClusterOptions", "ImageOptions", NULL};
    Mount *mount = ARENA_NEW(r->a, Mount);

    mount__init(mount);
    *ret = mount;
    int rc = read_mount_type(r, given, mount, e);
    if (rc == 0)
        rc = read_fields(r, given, "HostConfig.Mounts", fields, mount, e);
    if (rc == 0)
        rc = refuse(given, "HostConfig.Mounts", absent, e);
    if (rc == 0)
        rc = read_bind_options(r, given, mount, e);
    if (rc == 0)
        rc = read_volume_options(r, given, mount, e);
    if (rc == 0)
        rc = read_tmpfs_options(r, given, mount, e);
    return rc;
}

static int read_restart(struct reading *r, const json_t *object, HostConfig *host, struct err *e)
{
    json_t *given = NULL;
    int64_t most = 0;
    int rc = jread_object(object, "HostConfig", "RestartPolicy", &given, e);

    if (rc < 0 || !given)
        return rc;
    host->restart = ARENA_NEW(r->a, RestartRule);
    restart_rule__init(host->restart);
    rc = jread_string(given, "HostConfig.RestartPolicy", "Name", r->a, &host->restart->name, e);
    if (rc == 0)
        rc = jread_int(given, "HostConfig.RestartPolicy", "MaximumRetryCount", &most, e);
    if (rc < 0)
        return rc;
    if (most < 0 || most > INT32_MAX)
        return err_set(e, ERR_INVALID, "invalid restart policy: maximum retry count cannot be negative (%lld)",
                       (long long)most);
    host->restart->has_maximum_retries = true;
    host->restart->maximum_retries = (uint32_t)most;
    return 0;
}

static int read_log(struct reading *r, const json_t *object, HostConfig *host, struct err *e)
{
    json_t *given = NULL;
    int rc = jread_object(object, "HostConfig", "LogConfig", &given, e);

    if (rc == 0)
        rc = jread_string(given, "HostConfig.LogConfig", "Type", r->a, &host->log_driver, e);
    if (rc == 0)
        rc = read_map(r, given, "HostConfig.LogConfig", "Config", &host->log_options, &host->n_log_options, e);
    return rc;
}

/* Lists of paths that mean something when they are empty. */
static int read_paths(struct reading *r, const json_t *object, HostConfig *host, struct err *e)
{
    int rc =
        jread_strings(object, "HostConfig", "MaskedPaths", r->a, &host->masked_paths, &host->n_masked_paths, e);

    if (rc == 0)
        rc = jread_strings(object, "HostConfig", "ReadonlyPaths", r->a, &host->read_only_paths,
                           &host->n_read_only_paths, e);
    host->has_masked_paths_set = host->masked_paths_set = jread_get(object, "MaskedPaths") != NULL;
    host->has_read_only_paths_set = host->read_only_paths_set = jread_get(object, "ReadonlyPaths") != NULL;
    return rc;
}

static int read_console(const json_t *object, HostConfig *host, struct err *e)
{
    json_t *given = NULL;
    int rc = jread_array(object, "HostConfig", "ConsoleSize", &given, e);

    if (rc < 0 || !given)
        return rc;
    const json_t *height = json_array_get(given, 0), *width = json_array_get(given, 1);
    if (json_array_size(given) != 2 || !json_is_integer(height) || !json_is_integer(width) ||
        json_integer_value(height) < 0 || json_integer_value(height) > UINT16_MAX ||
        json_integer_value(width) < 0 || json_integer_value(width) > UINT16_MAX)
        return err_set(e, ERR_INVALID, "invalid HostConfig.ConsoleSize: [height, width] is expected");
    host->has_console_height = host->has_console_width = true;
    host->console_height = (uint32_t)json_integer_value(height);
    host->console_width = (uint32_t)json_integer_value(width);
    return 0;
}

/* What clients send where they mean nothing. */
static void clear_unset(HostConfig *host)
{
    if (host->memory_swappiness == -1)
        host->has_memory_swappiness = false;
    if (host->pids_limit <= 0)
        host->has_pids_limit = false;
}

static int read_host(struct reading *r, const json_t *object, HostConfig *host, struct err *e)
{
    char *isolation = NULL;
    int rc = refuse(object, "HostConfig", host_absent, e);

    if (rc == 0)
        rc = read_fields(r, object, "HostConfig", host_fields, host, e);
    if (rc == 0)
        rc = read_restart(r, object, host, e);
    if (rc == 0)
        rc = read_log(r, object, host, e);
    if (rc == 0)
        rc = read_objects(r, object, "Mounts", (void ***)&host->mounts, &host->n_mounts, read_mount, e);
    if (rc == 0)
        rc = read_objects(r, object, "Ulimits", (void ***)&host->ulimits, &host->n_ulimits, read_ulimit, e);
    if (rc == 0)
        rc = read_objects(r, object, "Devices", (void ***)&host->devices, &host->n_devices, read_device, e);
    if (rc == 0)
        rc = read_port_bindings(r, object, host, e);
    if (rc == 0)
        rc = read_paths(r, object, host, e);
    if (rc == 0)
        rc = read_console(object, host, e);
    if (rc == 0)
        rc = jread_string(object, "HostConfig", "Isolation", r->a, &isolation, e);
    if (rc == 0 && isolation && *isolation && strcmp(isolation, "default") != 0)
        rc = err_set(e, ERR_INVALID, "invalid isolation (%.64s): only \"default\" exists on Linux", isolation);
    if (rc < 0)
        return rc;
    warn_of_windows(r, object, "HostConfig", host_windows);
    clear_unset(host);
    return 0;
}

/* --- networks ------------------------------------------------------------------------------------ */

/* Clients repeat the network mode here; anything beyond it needs networks that are not there yet. */
static int check_networking(struct reading *r, const json_t *body, HostConfig *host, struct err *e)
{
    static const char *const settings[] = {"IPAMConfig", "Links", "Aliases", "MacAddress", "DriverOpts", NULL};
    json_t *networking = NULL, *endpoints = NULL, *endpoint;
    const char *name;
    int rc = jread_object(body, NULL, "NetworkingConfig", &networking, e);

    if (rc == 0)
        rc = jread_object(networking, "NetworkingConfig", "EndpointsConfig", &endpoints, e);
    if (rc < 0)
        return rc;
    if (json_object_size(endpoints) > 1)
        return err_set(e, ERR_UNSUPPORTED,
                       "NetworkingConfig.EndpointsConfig with more than one network " NOT_IMPLEMENTED);
    json_object_foreach(endpoints, name, endpoint)
    {
        AUTO_FREE
        char *path = mem_printf("NetworkingConfig.EndpointsConfig.%.64s", name);

        if (!json_is_object(endpoint) && !json_is_null(endpoint))
            return err_set(e, ERR_INVALID, "invalid %s: an object is expected", path);
        rc = refuse(endpoint, path, settings, e);
        if (rc < 0)
            return rc;
        if (!host->network_mode || !*host->network_mode || strcmp(host->network_mode, "default") == 0)
            host->network_mode = arena_strdup(r->a, name);
        else if (strcmp(host->network_mode, name) != 0 && strcmp(name, "default") != 0)
            return err_set(e, ERR_INVALID,
                           "conflicting options: NetworkMode \"%.64s\" and NetworkingConfig for network \"%.64s\"",
                           host->network_mode, name);
    }
    return 0;
}

/* --- the whole ----------------------------------------------------------------------------------- */

static int read_health(struct reading *r, const json_t *body, ContainerConfig *config, struct err *e)
{
    static const struct field fields[] = {
        F_COUNT(HealthConfig, "Test", TEXTS, test),
        F_HAS(HealthConfig, "Interval", INT64, interval_ns),
        F_HAS(HealthConfig, "Timeout", INT64, timeout_ns),
        F_HAS(HealthConfig, "StartPeriod", INT64, start_period_ns),
        F_HAS(HealthConfig, "StartInterval", INT64, start_interval_ns),
        F_HAS(HealthConfig, "Retries", UINT32, retries),
        {0},
    };
    json_t *given = NULL;
    int rc = jread_object(body, NULL, "Healthcheck", &given, e);

    if (rc < 0 || !given)
        return rc;
    HealthConfig *health = ARENA_NEW(r->a, HealthConfig);
    health_config__init(health);
    config->health = health;
    rc = read_fields(r, given, "Healthcheck", fields, health, e);
    if (rc < 0)
        return rc;
    const struct {
        const char *name;
        int64_t value;
    } times[] = {{"Interval", health->interval_ns},
                 {"Timeout", health->timeout_ns},
                 {"StartPeriod", health->start_period_ns},
                 {"StartInterval", health->start_interval_ns}};
    for (size_t i = 0; i < ARRAY_SIZE(times); i++)
        if (times[i].value != 0 && times[i].value < 1000000)
            return err_set(e, ERR_INVALID, "%s in Healthcheck cannot be less than 1ms", times[i].name);
    return 0;
}

static int check_env(const ContainerConfig *config, struct err *e)
{
    for (size_t i = 0; i < config->n_env; i++)
        if (!*config->env[i] || *config->env[i] == '=')
            return err_set(e, ERR_INVALID, "invalid environment variable: %.120s", config->env[i]);
    return 0;
}

static int read_config(struct reading *r, const json_t *body, ContainerConfig *config, struct err *e)
{
    static const char *const absent[] = {"MacAddress", NULL}, *const windows[] = {"ArgsEscaped", NULL};
    int rc = refuse(body, NULL, absent, e);

    if (rc == 0)
        rc = read_fields(r, body, NULL, config_fields, config, e);
    if (rc == 0)
        rc = read_command(r, body, "Entrypoint", &config->entrypoint, &config->n_entrypoint,
                          &config->entrypoint_set, e);
    if (rc == 0)
        rc = read_command(r, body, "Cmd", &config->command, &config->n_command, &config->command_set, e);
    config->has_entrypoint_set = config->has_command_set = true;
    if (rc == 0)
        rc = check_env(config, e);
    if (rc == 0)
        rc = check_exposed(r, config, e);
    if (rc == 0)
        rc = read_health(r, body, config, e);
    if (rc < 0)
        return rc;
    warn_of_windows(r, body, NULL, windows);
    if (says_something(jread_get(body, "OnBuild")))
        warn(r, arena_strdup(r->a, "OnBuild has no effect on a container"));
    return 0;
}

int container_read(const json_t *body, unsigned minor, struct arena *a, ContainerConfig **ret, char ***ret_warnings,
                   struct err *e)
{
    struct reading r = {.a = a, .minor = minor};
    ContainerConfig *config = ARENA_NEW(a, ContainerConfig);
    json_t *host = NULL;
    int rc;

    container_config__init(config);
    config->host = ARENA_NEW(a, HostConfig);
    host_config__init(config->host);
    rc = read_config(&r, body, config, e);
    if (rc == 0)
        rc = jread_object(body, NULL, "HostConfig", &host, e);
    if (rc == 0)
        rc = read_host(&r, host, config->host, e);
    if (rc == 0)
        rc = check_networking(&r, body, config->host, e);
    if (rc < 0)
        return rc;
    warn(&r, NULL);
    *ret = config;
    *ret_warnings = r.warnings;
    return 0;
}
