/* The engine about itself: /_ping, /version, /info, /system/df and /events (reference/engine-surface.md section
 * 16). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/api/api.h"
#include "engine/api/container_show.h"
#include "engine/api/events.h"
#include "engine/api/image_show.h"
#include "engine/api/sizes.h"
#include "engine/api/volume_show.h"
#include "engine/container/container.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

/* --- ping and version ---------------------------------------------------------------------------- */

static void ping(struct api_call *c)
{
    const struct engine_config *config = &c->en->config;

    http_set_header(c->x, "Docker-Experimental", "false");
    http_set_header(c->x, "Builder-Version", "1");
    http_set_header(c->x, "Swarm", config->swarm_header ? config->swarm_header(config->ctx) : "inactive");
    http_set_header(c->x, "Cache-Control", "no-cache, no-store, must-revalidate");
    http_set_header(c->x, "Pragma", "no-cache");
    http_reply(c->x, 200, "text/plain; charset=utf-8", "OK", 2);
}

/* As other programs name what the kernel calls x86_64. */
static const char *architecture(const struct utsname *uts)
{
    static const char *const names[][2] = {
        {"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}, {"i686", "386"}};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(uts->machine, names[i][0]) == 0)
            return names[i][1];
    return uts->machine;
}

static void show_details(const struct utsname *uts, struct jwrite *j)
{
    char newest[16], oldest[16];

    (void)snprintf(newest, sizeof(newest), "1.%d", ENGINE_API_MINOR);
    (void)snprintf(oldest, sizeof(oldest), "1.%d", ENGINE_API_MINOR_MIN);
    jwrite_string(j, "ApiVersion", newest);
    jwrite_string(j, "MinAPIVersion", oldest);
    jwrite_string(j, "GitCommit", "");
    jwrite_string(j, "GoVersion", "");
    jwrite_string(j, "Os", "linux");
    jwrite_string(j, "Arch", architecture(uts));
    jwrite_string(j, "KernelVersion", uts->release);
    jwrite_string(j, "BuildTime", "");
}

static void version(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct utsname uts = {0};

    (void)uname(&uts); /* cannot fail */
    jwrite_object(&j, NULL);
    jwrite_object(&j, "Platform");
    jwrite_string(&j, "Name", "shoal");
    jwrite_end(&j);
    jwrite_array(&j, "Components");
    jwrite_object(&j, NULL);
    jwrite_string(&j, "Name", "Engine");
    jwrite_string(&j, "Version", SHOAL_VERSION);
    jwrite_object(&j, "Details");
    show_details(&uts, &j);
    jwrite_string(&j, "Experimental", "false");
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_string(&j, "Version", SHOAL_VERSION);
    show_details(&uts, &j);
    jwrite_end(&j);
    api_json(c, 200, &body);
}

/* --- info ---------------------------------------------------------------------------------------- */

static void show_counts(const struct engine *en, struct jwrite *j)
{
    const struct container *c;
    int64_t running = 0, paused = 0;

    list_each (c, &en->containers->all, link) {
        paused += c->record->state->paused;
        running += container_is_running(c) && !c->record->state->paused;
    }
    jwrite_uint(j, "Containers", en->containers->count);
    jwrite_int(j, "ContainersRunning", running);
    jwrite_int(j, "ContainersPaused", paused);
    jwrite_int(j, "ContainersStopped", (int64_t)en->containers->count - running - paused);
    jwrite_uint(j, "Images", images_count(en->images));
}

static void show_list(struct jwrite *j, const char *key, const char *const *texts, size_t count)
{
    jwrite_array(j, key);
    for (size_t i = 0; i < count; i++)
        jwrite_string(j, NULL, texts[i]);
    jwrite_end(j);
}

static void show_plugins(struct jwrite *j)
{
    static const char *const volume[] = {"local"}, *const network[] = {"host", "null"},
                             *const log[] = {"json-file"};

    jwrite_object(j, "Plugins");
    show_list(j, "Volume", volume, ARRAY_SIZE(volume));
    show_list(j, "Network", network, ARRAY_SIZE(network));
    show_list(j, "Authorization", NULL, 0);
    show_list(j, "Log", log, ARRAY_SIZE(log));
    jwrite_end(j);
}

static bool has(const struct engine *en, enum bundle_controller controller)
{
    return en->kernel.cgroup_there[controller];
}

/* A kernel without swap accounting has no file for it. */
static bool limits_swap(const struct engine *en)
{
    AUTO_FREE
    char *group = has(en, BUNDLE_MEMORY) ? cgroup_path(&en->cgroups, BUNDLE_MEMORY, "/") : NULL;
    AUTO_FREE
    char *file = group ? mem_printf("%s/memory.memsw.limit_in_bytes", group) : NULL;

    return en->kernel.cgroup_v2[BUNDLE_MEMORY] || (file && access(file, F_OK) == 0);
}

static bool forwards(void)
{
    AUTO_BUF struct buf text = {0};

    return file_read(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", 16, &text, NULL) == 0 && *buf_str(&text) == '1';
}

static void show_limits(const struct engine *en, struct jwrite *j)
{
    const struct {
        const char *key;
        bool value;
    } flags[] = {
        {"MemoryLimit", has(en, BUNDLE_MEMORY)},
        {"SwapLimit", limits_swap(en)},
        {"CpuCfsPeriod", has(en, BUNDLE_CPU)},
        {"CpuCfsQuota", has(en, BUNDLE_CPU)},
        {"CPUShares", has(en, BUNDLE_CPU)},
        {"CPUSet", has(en, BUNDLE_CPUSET)},
        {"PidsLimit", has(en, BUNDLE_PIDS)},
        {"OomKillDisable", has(en, BUNDLE_MEMORY) && !en->kernel.cgroup_v2[BUNDLE_MEMORY]},
        {"IPv4Forwarding", forwards()},
        {"BridgeNfIptables", false},
        {"BridgeNfIp6tables", false},
        {"Debug", log_get_level() == LOG_LEVEL_DEBUG},
    };

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        jwrite_bool(j, flags[i].key, flags[i].value);
}

/* PRETTY_NAME and VERSION_ID of the distribution. */
static void show_system(struct jwrite *j)
{
    static const struct {
        const char *name, *key;
    } wanted[] = {{"PRETTY_NAME=", "OperatingSystem"}, {"VERSION_ID=", "OSVersion"}};
    AUTO_BUF struct buf text = {0};

    if (file_read(AT_FDCWD, "/etc/os-release", 64 * 1024, &text, NULL) < 0)
        buf_clear(&text); /* an unknown system is as good */
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        const char *line = strstr(buf_str(&text), wanted[i].name);
        size_t length = 0;

        while (line && line != buf_str(&text) && line[-1] != '\n')
            line = strstr(line + 1, wanted[i].name);
        if (line) {
            line += strlen(wanted[i].name);
            line += *line == '"';
            length = strcspn(line, "\"\n");
        }
        jwrite_string_n(j, wanted[i].key, line ? line : (i == 0 ? "Linux" : ""), line ? length : (i == 0 ? 5 : 0));
    }
}

static void show_machine(const struct engine *en, struct jwrite *j)
{
    struct utsname uts = {0};
    struct sysinfo memory = {0};

    (void)uname(&uts);      /* cannot fail */
    (void)sysinfo(&memory); /* cannot fail */
    jwrite_string(j, "KernelVersion", uts.release);
    show_system(j);
    jwrite_string(j, "OSType", "linux");
    jwrite_string(j, "Architecture", uts.machine);
    jwrite_uint(j, "NCPU", en->kernel.processors);
    jwrite_uint(j, "MemTotal", (uint64_t)memory.totalram * memory.mem_unit);
    jwrite_string(j, "Name", uts.nodename);
}

static void show_registries(struct jwrite *j)
{
    static const char *const insecure[] = {"::1/128", "127.0.0.0/8"};

    jwrite_string(j, "IndexServerAddress", "https://index.docker.io/v1/");
    jwrite_object(j, "RegistryConfig");
    jwrite_null(j, "AllowNondistributableArtifactsCIDRs");
    jwrite_null(j, "AllowNondistributableArtifactsHostnames");
    show_list(j, "InsecureRegistryCIDRs", insecure, ARRAY_SIZE(insecure));
    jwrite_object(j, "IndexConfigs");
    jwrite_object(j, "docker.io");
    jwrite_string(j, "Name", "docker.io");
    show_list(j, "Mirrors", NULL, 0);
    jwrite_bool(j, "Secure", true);
    jwrite_bool(j, "Official", true);
    jwrite_end(j);
    jwrite_end(j);
    show_list(j, "Mirrors", NULL, 0);
    jwrite_end(j);
}

static void show_runtimes(const struct engine *en, struct jwrite *j)
{
    static const char *const security[] = {"name=seccomp,profile=builtin"}, *const commits[] = {"ContainerdCommit",
                                                                                                "RuncCommit",
                                                                                                "InitCommit"};

    jwrite_object(j, "Runtimes");
    jwrite_object(j, "shoal");
    jwrite_printf(j, "path", "%s/shoal-keeper", en->config.program_dir);
    jwrite_end(j);
    jwrite_end(j);
    jwrite_string(j, "DefaultRuntime", "shoal");
    jwrite_bool(j, "LiveRestoreEnabled", true);
    jwrite_string(j, "Isolation", "");
    jwrite_string(j, "InitBinary", "");
    for (size_t i = 0; i < ARRAY_SIZE(commits); i++) {
        jwrite_object(j, commits[i]);
        jwrite_string(j, "ID", "");
        jwrite_string(j, "Expected", "");
        jwrite_end(j);
    }
    show_list(j, "SecurityOptions", security, ARRAY_SIZE(security));
}

static void info(struct api_call *c)
{
    struct engine *en = c->en;
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "ID", en->id);
    show_counts(en, &j);
    jwrite_string(&j, "Driver", "overlay2");
    jwrite_array(&j, "DriverStatus");
    jwrite_end(&j);
    jwrite_string(&j, "DockerRootDir", en->config.data_dir);
    show_plugins(&j);
    show_limits(en, &j);
    jwrite_int(&j, "NFd", 0);
    jwrite_int(&j, "NGoroutines", 0);
    jwrite_time_ns(&j, "SystemTime", engine_now_ns());
    jwrite_string(&j, "LoggingDriver", "json-file");
    jwrite_string(&j, "CgroupDriver", "cgroupfs");
    jwrite_string(&j, "CgroupVersion", en->kernel.cgroup_v2[BUNDLE_MEMORY] ? "2" : "1");
    jwrite_uint(&j, "NEventsListener", en->events.listener_count);
    show_machine(en, &j);
    show_registries(&j);
    show_list(&j, "GenericResources", NULL, 0);
    jwrite_string(&j, "HttpProxy", "");
    jwrite_string(&j, "HttpsProxy", "");
    jwrite_string(&j, "NoProxy", "");
    show_list(&j, "Labels", NULL, 0);
    jwrite_bool(&j, "ExperimentalBuild", false);
    jwrite_string(&j, "ServerVersion", SHOAL_VERSION);
    show_runtimes(en, &j);
    jwrite_object(&j, "Swarm");
    if (en->config.swarm_info)
        en->config.swarm_info(en->config.ctx, &j);
    else
        jwrite_string(&j, "LocalNodeState", "inactive");
    jwrite_end(&j);
    show_list(&j, "DefaultAddressPools", NULL, 0);
    show_list(&j, "CDISpecDirs", NULL, 0);
    jwrite_array(&j, "Warnings");
    if (en->config.swarm_warnings)
        en->config.swarm_warnings(en->config.ctx, &j);
    jwrite_end(&j);
    jwrite_end(&j);
    api_json(c, 200, &body);
}

/* --- disk usage ---------------------------------------------------------------------------------- */

struct usage_parts {
    bool containers, images, volumes, builds;
};

/* `type` may be repeated; none is all. */
static struct usage_parts parts_of(struct api_call *c)
{
    static const char *const names[] = {"type=container", "type=image", "type=volume", "type=build-cache"};
    struct usage_parts parts = {0};
    bool *const flags[] = {&parts.containers, &parts.images, &parts.volumes, &parts.builds};
    bool any = false;

    for (const char *at = http_query_string(c->x); *at;) {
        size_t length = strcspn(at, "&");

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (strlen(names[i]) == length && strncmp(at, names[i], length) == 0)
                *flags[i] = any = true;
        at += length;
        at += *at == '&';
    }
    if (!any)
        parts = (struct usage_parts){true, true, true, true};
    return parts;
}

static int64_t containers_of(const struct engine *en, const char *image_id)
{
    const struct container *c;
    int64_t count = 0;

    list_each (c, &en->containers->all, link)
        count += strcmp(c->record->image_id, image_id) == 0;
    return count;
}

static void show_images(const struct engine *en, struct jwrite *j)
{
    struct image image;
    int64_t total = 0;
    size_t at = 0;

    while (images_next(en->images, &at, &image))
        total += image.record->size_bytes;
    jwrite_int(j, "LayersSize", total);
    jwrite_array(j, "Images");
    at = 0;
    while (images_next(en->images, &at, &image))
        image_show_summary(&image, containers_of(en, image.record->id), j);
    jwrite_end(j);
}

/* Entries of containers come first, those of volumes follow. */
static void usage_measured(struct api_call *c, const struct sizes_entry *entries, size_t count)
{
    struct usage_parts parts = parts_of(c);
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct container *container;
    struct image image;
    size_t at = 0;

    jwrite_object(&j, NULL);
    if (parts.images)
        show_images(c->en, &j);
    jwrite_array(&j, "Containers");
    for (; parts.containers && at < count && sizes_is_container(&entries[at]); at++) {
        struct show_sizes sizes = {.layer = entries[at].bytes};

        if (container_find(c->en, entries[at].name, &container, NULL) < 0)
            continue; /* removed meanwhile */
        if (image_find(c->en->images, container->record->image_id, &image, NULL) == 0)
            sizes.root = image.record->size_bytes + MAX(entries[at].bytes, (int64_t)0);
        container_show_summary(container, &sizes, &j);
    }
    jwrite_end(&j);
    jwrite_array(&j, "Volumes");
    for (; at < count; at++) {
        const struct volume *v = volume_find(c->en->volumes, entries[at].name);

        if (v)
            volume_show(v, MAX(entries[at].bytes, (int64_t)0), &j);
    }
    jwrite_end(&j);
    show_list(&j, "BuildCache", NULL, 0);
    jwrite_end(&j);
    api_json(c, 200, &body);
}

static void usage(struct api_call *c)
{
    struct usage_parts parts = parts_of(c);
    struct sizes *sizes = sizes_new(c);
    const struct container *container;

    list_each (container, &c->en->containers->all, link)
        if (parts.containers)
            sizes_add_container(sizes, container->record->id);
    for (struct volume *v = NULL; parts.volumes && (v = volumes_next(c->en->volumes, v));)
        sizes_add_volume(sizes, v->record->name);
    sizes_start(sizes, usage_measured);
}

static void plugins(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};

    buf_append_str(&body, "[]"); /* managed plugins: none, and none can be added */
    api_json(c, 200, &body);
}

/* `docker inspect` asks for one when nothing else has the name. */
static void plugin(struct api_call *c)
{
    struct err e;

    err_set(&e, ERR_NOT_FOUND, "plugin \"%.255s\" not found", c->name);
    api_error(c, &e);
}

/* A part of `docker system prune`: nothing is built here, so there is no cache. */
static void build_prune(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};

    buf_append_str(&body, "{\"CachesDeleted\":[],\"SpaceReclaimed\":0}");
    api_json(c, 200, &body);
}

const struct api_route api_system_routes[] = {
    {"GET", "/_ping", ping, API_BODY_NONE, true},
    {"HEAD", "/_ping", ping, API_BODY_NONE, true},
    {"GET", "/version", version, API_BODY_NONE, true},
    {"GET", "/info", info, API_BODY_NONE, false},
    {"GET", "/events", api_events, API_BODY_NONE, false},
    {"GET", "/system/df", usage, API_BODY_NONE, false},
    {"GET", "/plugins", plugins, API_BODY_NONE, true},
    {"GET", "/plugins/*/json", plugin, API_BODY_NONE, true},
    {"POST", "/build/prune", build_prune, API_BODY_NONE, true},
    {0},
};
