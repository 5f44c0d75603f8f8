/* See container_spec.h. Most options are one member each and stand in a table; the rest (ports, volumes,
 * devices...) have a function. What is not given is left out, so that the node's own defaults hold. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/container_spec.h"
#include "cli/spec.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define SECCOMP_FILE_MAX (1024 * 1024)

enum member_kind { MEMBER_TEXT, MEMBER_INT, MEMBER_TRUE, MEMBER_BYTES, MEMBER_CPUS, MEMBER_LIST, MEMBER_MAP };

static const struct {
    const char *option;
    bool host; /* of HostConfig */
    const char *member;
    enum member_kind kind;
} members[] = {
    {"domainname", false, "Domainname", MEMBER_TEXT},
    {"hostname", false, "Hostname", MEMBER_TEXT},
    {"interactive", false, "OpenStdin", MEMBER_TRUE},
    {"stop-signal", false, "StopSignal", MEMBER_TEXT},
    {"tty", false, "Tty", MEMBER_TRUE},
    {"user", false, "User", MEMBER_TEXT},
    {"workdir", false, "WorkingDir", MEMBER_TEXT},
    {"add-host", true, "ExtraHosts", MEMBER_LIST},
    {"annotation", true, "Annotations", MEMBER_MAP},
    {"blkio-weight", true, "BlkioWeight", MEMBER_INT},
    {"cgroup-parent", true, "CgroupParent", MEMBER_TEXT},
    {"cgroupns", true, "CgroupnsMode", MEMBER_TEXT},
    {"cidfile", true, "ContainerIDFile", MEMBER_TEXT},
    {"cpu-period", true, "CpuPeriod", MEMBER_INT},
    {"cpu-quota", true, "CpuQuota", MEMBER_INT},
    {"cpu-rt-period", true, "CpuRealtimePeriod", MEMBER_INT},
    {"cpu-rt-runtime", true, "CpuRealtimeRuntime", MEMBER_INT},
    {"cpu-shares", true, "CpuShares", MEMBER_INT},
    {"cpus", true, "NanoCpus", MEMBER_CPUS},
    {"cpuset-cpus", true, "CpusetCpus", MEMBER_TEXT},
    {"cpuset-mems", true, "CpusetMems", MEMBER_TEXT},
    {"dns", true, "Dns", MEMBER_LIST},
    {"dns-search", true, "DnsSearch", MEMBER_LIST},
    {"group-add", true, "GroupAdd", MEMBER_LIST},
    {"ipc", true, "IpcMode", MEMBER_TEXT},
    {"link", true, "Links", MEMBER_LIST},
    {"memory", true, "Memory", MEMBER_BYTES},
    {"memory-reservation", true, "MemoryReservation", MEMBER_BYTES},
    {"memory-swap", true, "MemorySwap", MEMBER_BYTES},
    {"oom-kill-disable", true, "OomKillDisable", MEMBER_TRUE},
    {"oom-score-adj", true, "OomScoreAdj", MEMBER_INT},
    {"pid", true, "PidMode", MEMBER_TEXT},
    {"pids-limit", true, "PidsLimit", MEMBER_INT},
    {"privileged", true, "Privileged", MEMBER_TRUE},
    {"publish-all", true, "PublishAllPorts", MEMBER_TRUE},
    {"read-only", true, "ReadonlyRootfs", MEMBER_TRUE},
    {"rm", true, "AutoRemove", MEMBER_TRUE},
    {"runtime", true, "Runtime", MEMBER_TEXT},
    {"shm-size", true, "ShmSize", MEMBER_BYTES},
    {"sysctl", true, "Sysctls", MEMBER_MAP},
    {"userns", true, "UsernsMode", MEMBER_TEXT},
    {"uts", true, "UTSMode", MEMBER_TEXT},
    {"volume-driver", true, "VolumeDriver", MEMBER_TEXT},
    {"volumes-from", true, "VolumesFrom", MEMBER_LIST},
};

static void put_members(json_t *config, json_t *host, const struct args *args)
{
    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        const char *option = members[i].option, *member = members[i].member;
        json_t *object = members[i].host ? host : config;

        if (!args_has(args, option) || !*args_text(args, option))
            continue;
        switch (members[i].kind) {
        case MEMBER_TEXT:
            tree_put_text(object, member, args_text(args, option));
            break;
        case MEMBER_INT:
            tree_put_int(object, member, args_int(args, option));
            break;
        case MEMBER_TRUE:
            if (args_switch(args, option))
                tree_put_bool(object, member, true);
            break;
        case MEMBER_BYTES:
            tree_put_int(object, member, args_bytes(args, option));
            break;
        case MEMBER_CPUS:
            tree_put_int(object, member, args_cpus(args, option));
            break;
        case MEMBER_LIST:
            tree_put(object, member, spec_list(args, option));
            break;
        case MEMBER_MAP:
            tree_put(object, member, spec_map(args, option));
            break;
        }
    }
}

/* --- checks -----------------------------------------------------------------------------------------------------
 */

static int check_modes(const struct args *args, struct err *e)
{
    static const struct {
        const char *option, *name, *values[3]; /* "container:" stands for any container */
    } modes[] = {{"pid", "PID", {"host", "container:"}},
                 {"uts", "UTS", {"host"}},
                 {"userns", "USER", {"host"}},
                 {"cgroupns", "CGROUP", {"host", "private"}}};

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        const char *text = args_text(args, modes[i].option);
        bool good = !*text;

        for (size_t k = 0; k < ARRAY_SIZE(modes[i].values) && modes[i].values[k]; k++) {
            const char *value = modes[i].values[k];
            size_t length = strlen(value);

            good = good || (value[length - 1] == ':' ? strncmp(text, value, length) == 0 && text[length]
                                                     : strcmp(text, value) == 0);
        }
        if (!good)
            return err_set(e, ERR_INVALID, "--%s: invalid %s mode", modes[i].option, modes[i].name);
    }
    return 0;
}

bool container_spec_mac(const char *text)
{
    unsigned bytes[6];
    char end;

    return strlen(text) == 17 && sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &bytes[0], &bytes[1], &bytes[2],
                                        &bytes[3], &bytes[4], &bytes[5], &end) == 6;
}

static int check(const struct args *args, struct err *e)
{
    static const char *const policies[] = {"always", "missing", "never", ""};
    int64_t swappiness = args_int(args, "memory-swappiness");
    const char *pull = args_text(args, "pull"), *mac = args_text(args, "mac-address");
    size_t i = 0;

    while (i < ARRAY_SIZE(policies) && strcmp(pull, policies[i]) != 0)
        i++;
    if (i == ARRAY_SIZE(policies))
        return err_set(e, ERR_INVALID,
                       "invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", pull);
    if (*mac && !container_spec_mac(mac))
        return err_set(e, ERR_INVALID, "%s is not a valid mac address", mac);
    if (swappiness < -1 || swappiness > 100)
        return err_set(e, ERR_INVALID, "invalid value: %lld. Valid memory swappiness range is 0-100",
                       (long long)swappiness);
    return check_modes(args, e);
}

/* --- the members that need more ---------------------------------------------------------------------------------
 */

static void put_streams(json_t *config, const struct args *args)
{
    static const struct {
        const char *stream, *member;
    } streams[] = {{"stdin", "AttachStdin"}, {"stdout", "AttachStdout"}, {"stderr", "AttachStderr"}};
    bool all = !args_has(args, "attach");

    for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
        bool attached = i == 0 ? args_switch(args, "interactive") : all;
        const char *text;

        for (size_t at = 0; (text = args_next(args, "attach", &at));)
            attached = attached || strcmp(text, streams[i].stream) == 0;
        if (attached)
            tree_put_bool(config, streams[i].member, true);
    }
    if (tree_bool(config, "OpenStdin") && tree_bool(config, "AttachStdin"))
        tree_put_bool(config, "StdinOnce", true);
}

static int put_command(json_t *config, const struct args *args, struct err *e)
{
    json_t *lines = NULL;
    int rc = spec_lines(args, "env-file", "env", true, &lines, e);

    if (rc < 0)
        return rc;
    if (json_array_size(lines))
        tree_put(config, "Env", lines);
    else
        json_decref(lines);
    if (args_has(args, "entrypoint")) /* an empty one drops the image's */
        tree_append_text(tree_array(config, "Entrypoint"), args_text(args, "entrypoint"));
    for (size_t i = 1; i < args->words_count; i++)
        tree_append_text(tree_array(config, "Cmd"), args->words[i]);
    tree_put_text(config, "Image", args->words[0]);
    if (args_has(args, "stop-timeout"))
        tree_put_int(config, "StopTimeout", args_int(args, "stop-timeout"));
    return 0;
}

static int put_labels(json_t *config, const struct args *args, struct err *e)
{
    json_t *lines = NULL, *line;
    size_t i;
    int rc = spec_lines(args, "label-file", "label", false, &lines, e);

    if (rc < 0)
        return rc;
    json_array_foreach(lines, i, line)
    {
        const char *text = json_string_value(line), *equals = strchr(text, '=');
        AUTO_FREE
        char *key = mem_strndup(text, equals ? (size_t)(equals - text) : strlen(text));

        tree_put_text(tree_object(config, "Labels"), key, equals ? equals + 1 : "");
    }
    json_decref(lines);
    return 0;
}

static json_t *port_key(json_t *object, uint16_t port, const char *protocol, json_t *standard)
{
    char key[24];

    (void)snprintf(key, sizeof(key), "%u/%.8s", port, protocol);
    json_t *found = json_object_get(object, key);
    if (found)
        json_decref(standard);
    else
        tree_put(object, key, standard);
    return json_object_get(object, key);
}

static int put_ports(json_t *config, json_t *host, const struct args *args, struct err *e)
{
    AUTO_ARENA struct arena a;
    const char *text, *protocol;
    uint16_t first, last;
    int rc = 0;

    arena_init(&a);
    for (size_t at = 0; rc == 0 && (text = args_next(args, "publish", &at));) {
        struct attach_binding *list = NULL;
        size_t count = 0;

        rc = attach_bindings(&a, text, &list, &count, e);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            json_t *bindings =
                       port_key(tree_object(host, "PortBindings"), list[i].port, list[i].protocol, json_array()),
                   *binding = json_object();

            (void)port_key(tree_object(config, "ExposedPorts"), list[i].port, list[i].protocol, json_object());
            tree_put_text(binding, "HostIp", list[i].address);
            tree_put_text(binding, "HostPort", list[i].host_port);
            tree_append(bindings, binding);
        }
    }
    for (size_t at = 0; rc == 0 && (text = args_next(args, "expose", &at));) {
        rc = attach_exposed(&a, text, &first, &last, &protocol, e);
        for (unsigned port = first; rc == 0 && port <= last; port++)
            (void)port_key(tree_object(config, "ExposedPorts"), (uint16_t)port, protocol, json_object());
    }
    return rc;
}

/* -v /path makes an anonymous volume; -v source:target[:options] mounts one, or a directory. */
static int put_volumes(json_t *config, json_t *host, const struct args *args, struct err *e)
{
    AUTO_ARENA struct arena a;
    AUTO_FREE
    char *directory = getcwd(NULL, 0);
    const char *text;

    arena_init(&a);
    for (size_t at = 0; (text = args_next(args, "volume", &at));) {
        const char *source, *rest = value_cut(&a, text, ':', &source);

        if (!*text)
            return err_set(e, ERR_INVALID, "invalid empty volume spec");
        if (!rest) {
            tree_put(tree_object(config, "Volumes"), text, json_object());
            continue;
        }
        if (!*source || !*rest || *rest == ':' || strstr(rest, "::") || text[strlen(text) - 1] == ':')
            return err_set(e, ERR_INVALID, "invalid spec: %s: empty section between colons", text);
        if (*source == '.')
            source = attach_path(&a, directory ? directory : "/", source);
        tree_append_text(tree_array(host, "Binds"), arena_printf(&a, "%s:%s", source, rest));
    }
    for (size_t at = 0; (text = args_next(args, "tmpfs", &at));) {
        const char *path, *options = value_cut(&a, text, ':', &path);

        tree_put_text(tree_object(host, "Tmpfs"), path, options ? options : "");
    }
    if (args_has(args, "mount")) {
        json_t *mounts;
        int rc = spec_mounts(args, "mount", &mounts, e);

        if (rc < 0)
            return rc;
        tree_put(host, "Mounts", mounts);
    }
    return 0;
}

static bool device_rule(const char *text)
{
    size_t major, minor, length;

    if (!strchr("acb", *text) || !*text || text[1] != ' ')
        return false;
    text += 2;
    major = *text == '*' ? 1 : strspn(text, "0123456789");
    if (!major || text[major] != ':')
        return false;
    text += major + 1;
    minor = *text == '*' ? 1 : strspn(text, "0123456789");
    if (!minor || text[minor] != ' ')
        return false;
    length = strlen(text + minor + 1);
    return length >= 1 && length <= 3 && strspn(text + minor + 1, "rwm") == length;
}

/* "path:number" of a limit for one device. */
static int put_device_limit(json_t *host, const struct args *args, const char *option, const char *member,
                            const char *number_name, bool bytes, struct err *e)
{
    AUTO_ARENA struct arena a;
    const char *text;

    arena_init(&a);
    for (size_t at = 0; (text = args_next(args, option, &at));) {
        const char *path, *number = value_cut(&a, text, ':', &path);
        int64_t value = 0;
        uint64_t whole = 0;

        if (!number || !*path)
            return err_set(e, ERR_INVALID, "bad format: %s", text);
        if (strncmp(path, "/dev/", 5) != 0)
            return err_set(e, ERR_INVALID, "bad format for device path: %s", text);
        if (bytes ? value_bytes(number, &value, NULL) < 0 : value_uint(number, 10, 63, &whole, NULL) < 0)
            return err_set(e, ERR_INVALID,
                           "invalid rate for device: %s. The correct format is <device-path>:<number>%s", text,
                           bytes ? "[<unit>]" : "");
        json_t *limit = json_object();
        tree_put_text(limit, "Path", path);
        tree_put_int(limit, number_name, bytes ? value : (int64_t)whole);
        tree_append(tree_array(host, member), limit);
    }
    return 0;
}

static int put_devices(json_t *host, const struct args *args, struct err *e)
{
    static const struct {
        const char *option, *member, *number;
        bool bytes;
    } limits[] = {{"blkio-weight-device", "BlkioWeightDevice", "Weight", false},
                  {"device-read-bps", "BlkioDeviceReadBps", "Rate", true},
                  {"device-read-iops", "BlkioDeviceReadIOps", "Rate", false},
                  {"device-write-bps", "BlkioDeviceWriteBps", "Rate", true},
                  {"device-write-iops", "BlkioDeviceWriteIOps", "Rate", false}};
    AUTO_ARENA struct arena a;
    const char *text;
    int rc = 0;

    arena_init(&a);
    for (size_t at = 0; rc == 0 && (text = args_next(args, "device", &at));) {
        struct attach_device device;

        rc = attach_device(&a, text, &device, e);
        if (rc < 0)
            break;
        json_t *object = json_object();
        tree_put_text(object, "PathOnHost", device.host_path);
        tree_put_text(object, "PathInContainer", device.container_path);
        tree_put_text(object, "CgroupPermissions", device.permissions);
        tree_append(tree_array(host, "Devices"), object);
    }
    for (size_t at = 0; rc == 0 && (text = args_next(args, "device-cgroup-rule", &at));) {
        if (!device_rule(text))
            return err_set(e, ERR_INVALID, "invalid device cgroup format '%s'", text);
        tree_append_text(tree_array(host, "DeviceCgroupRules"), text);
    }
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(limits); i++)
        rc = put_device_limit(host, args, limits[i].option, limits[i].member, limits[i].number, limits[i].bytes, e);
    return rc;
}

static int put_restart(json_t *host, const struct args *args, struct err *e)
{
    AUTO_ARENA struct arena a;
    const char *name, *count;
    int64_t retries = 0;

    arena_init(&a);
    count = value_cut(&a, args_text(args, "restart"), ':', &name);
    if (count && !*name)
        return err_set(e, ERR_INVALID, "invalid restart policy format: no policy provided before colon");
    if (count && *count && value_int(count, 10, 32, &retries, NULL) < 0)
        return err_set(e, ERR_INVALID, "invalid restart policy format: maximum retry count must be an integer");
    if (args_switch(args, "rm") && *name && strcmp(name, "no") != 0)
        return err_set(e, ERR_INVALID, "conflicting options: cannot specify both --restart and --rm");
    if (!*name)
        return 0;
    json_t *policy = tree_object(host, "RestartPolicy");
    tree_put_text(policy, "Name", name);
    if (retries)
        tree_put_int(policy, "MaximumRetryCount", retries);
    return 0;
}

/* A seccomp profile travels as its JSON; systempaths=unconfined means that nothing is masked. */
static int put_security(json_t *host, const struct args *args, struct err *e)
{
    const char *text;

    for (size_t at = 0; (text = args_next(args, "security-opt", &at));) {
        size_t key = strcspn(text, "=");
        bool no_new = strncmp(text, "no-new-privileges", 17) == 0;
        AUTO_BUF struct buf profile = {0};
        AUTO_BUF struct buf option = {0};
        AUTO_JSON json_t *parsed = NULL;

        if (!text[key] && !no_new)
            key = strcspn(text, ":");
        const char *value = text[key] ? text + key + 1 : "";
        if (!*value && !no_new)
            return err_set(e, ERR_INVALID, "Invalid --security-opt: \"%s\"", text);
        if (strcmp(text, "systempaths=unconfined") == 0) {
            (void)tree_array(host, "MaskedPaths");
            (void)tree_array(host, "ReadonlyPaths");
            continue;
        }
        if (key == 7 && strncmp(text, "seccomp", 7) == 0 && strcmp(value, "unconfined") != 0 &&
            strcmp(value, "builtin") != 0) {
            int rc = file_read(AT_FDCWD, value, SECCOMP_FILE_MAX, &profile, e);

            if (rc < 0)
                return err_wrap(e, "opening seccomp profile (%s) failed", value);
            rc = jread_parse(buf_str(&profile), profile.length, &parsed, e);
            if (rc < 0)
                return err_wrap(e, "compacting json for seccomp profile (%s) failed", value);
            buf_append_str(&option, "seccomp=");
            tree_indent(&option, buf_str(&profile), profile.length, 0);
            text = buf_str(&option);
        }
        tree_append_text(tree_array(host, "SecurityOpt"), text);
    }
    return 0;
}

static int put_logging(json_t *host, const struct args *args, struct err *e)
{
    const char *driver = args_text(args, "log-driver"), *text;

    if (strcmp(driver, "none") == 0 && args_has(args, "log-opt"))
        return err_set(e, ERR_INVALID, "invalid logging opts for driver %s", driver);
    if (*driver)
        tree_put_text(tree_object(host, "LogConfig"), "Type", driver);
    if (args_has(args, "log-opt"))
        tree_put(tree_object(host, "LogConfig"), "Config", spec_map(args, "log-opt"));
    for (size_t at = 0; (text = args_next(args, "storage-opt", &at));)
        if (!strchr(text, '='))
            return err_set(e, ERR_INVALID, "invalid storage option");
    spec_put_map(host, "StorageOpt", args, "storage-opt");
    return 0;
}

static int put_limits(json_t *config, json_t *host, const struct args *args, struct err *e)
{
    static const char *const dns_options[] = {"dns-option", "dns-opt"};
    json_t *health = NULL, *array;
    const char *text;
    int rc = spec_health(args, &health, e);

    if (rc < 0)
        return rc;
    if (health)
        tree_put(config, "Healthcheck", health);
    if (args_has(args, "ulimit"))
        tree_put(host, "Ulimits", spec_ulimits(args, "ulimit"));
    if (args_has(args, "cap-add"))
        tree_put(host, "CapAdd", spec_capabilities(args, "cap-add"));
    if (args_has(args, "cap-drop"))
        tree_put(host, "CapDrop", spec_capabilities(args, "cap-drop"));
    if (args_int(args, "memory-swappiness") != -1)
        tree_put_int(host, "MemorySwappiness", args_int(args, "memory-swappiness"));
    if (args_has(args, "init"))
        tree_put_bool(host, "Init", args_switch(args, "init"));
    for (size_t i = 0; i < ARRAY_SIZE(dns_options); i++) {
        for (size_t at = 0; (text = args_next(args, dns_options[i], &at));) {
            array = tree_array(host, "DnsOptions");
            tree_append_text(array, text);
        }
    }
    return 0;
}

/* --- all of it
 * ------------------------------------------------------------------------------------------------------ */

int container_spec(const struct args *args, json_t **ret, struct err *e)
{
    json_t *body = json_object(), *host = tree_object(body, "HostConfig");
    int rc = check(args, e);

    put_members(body, host, args);
    put_streams(body, args);
    if (rc == 0)
        rc = put_volumes(body, host, args, e);
    if (rc == 0)
        rc = put_ports(body, host, args, e);
    if (rc == 0)
        rc = put_devices(host, args, e);
    if (rc == 0)
        rc = put_command(body, args, e);
    if (rc == 0)
        rc = put_labels(body, args, e);
    if (rc == 0)
        rc = put_restart(host, args, e);
    if (rc == 0)
        rc = put_logging(host, args, e);
    if (rc == 0)
        rc = put_security(host, args, e);
    if (rc == 0)
        rc = put_limits(body, host, args, e);
    if (rc == 0)
        rc = container_spec_networks(body, host, args, e);
    if (rc < 0)
        json_decref(body);
    else
        *ret = body;
    return rc;
}
