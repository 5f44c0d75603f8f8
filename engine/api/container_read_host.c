/* HostConfig of a create request: see container_read.h and read_fields.h. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/api/container_read.h"
#include "engine/api/container_read_part.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

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

    if (rc < 0 || read_too_many(map, "HostConfig", "PortBindings", e) < 0)
        return ERR_INVALID;
    json_object_foreach(map, key, list)
    {
        PortProtocol protocol;
        uint32_t port;

        if (!container_read_port(key, &port, &protocol))
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

    if (rc < 0 || read_too_many(array, "HostConfig", key, e) < 0)
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
            return err_set(e, ERR_UNSUPPORTED, "invalid mount config: type \"%s\" " READ_NOT_IMPLEMENTED, type);
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
        rc = read_refuse(options, path, absent, ERR_UNSUPPORTED, READ_NOT_IMPLEMENTED, e);
    if (rc == 0)
        rc = jread_uint(options, path, "SizeBytes", &size, e);
    if (rc == 0)
        rc = jread_uint(options, path, "Mode", &mode, e);
    if (rc < 0)
        return rc;
    if (mode > UINT32_MAX)
        return read_out_of_range(path, "Mode", (int64_t)mode, e);
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
        rc = read_refuse(given, "HostConfig.Mounts", absent, ERR_UNSUPPORTED, READ_NOT_IMPLEMENTED, e);
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

int container_read_host(struct reading *r, const json_t *object, HostConfig *host, struct err *e)
{
    char *isolation = NULL;
    int rc = read_refuse(object, "HostConfig", host_absent, ERR_UNSUPPORTED, READ_NOT_IMPLEMENTED, e);

    if (rc == 0)
        rc = read_refuse(object, "HostConfig", host_windows, ERR_INVALID, "is for Windows only", e);

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
    clear_unset(host);
    return 0;
}
