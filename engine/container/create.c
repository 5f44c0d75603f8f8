/* Making containers: see container.h.
 *
 * Everything that can be refused is refused before anything is made. Then: directory and its layer, record,
 * volumes. A crash before the record leaves a directory without one, which goes at the next start; a crash after it
 * leaves a container whose missing volumes are made when it is started. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/container/cgroup.h"
#include "engine/container/container.h"
#include "engine/container/merge.h"
#include "engine/container/mounts.h"
#include "engine/container/netfiles.h"
#include "engine/container/plug.h"
#include "engine/container/restart.h"
#include "engine/sweep.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/names.h"

#define CONTAINERS_MAX   100000
#define NAME_ATTEMPTS    100
#define HOSTNAME_MAX     64
#define NOT_IMPLEMENTED  "is not implemented in shoal " SHOAL_VERSION
#define SHM_SIZE_DEFAULT (64 * 1024 * 1024)

struct creation {
    struct engine *en;
    struct arena *a;
    struct image image;
    const char *name;
    char id[HEX_ID_TEXT + 1];
    struct merged merged;
    struct mounts mounts;
    char **warnings; /* in the arena */
    size_t warning_count;
};

static void warn(struct creation *cr, const char *text)
{
    cr->warnings = arena_append(cr->a, cr->warnings, cr->warning_count, sizeof(*cr->warnings));
    cr->warnings[cr->warning_count++] = arena_strdup(cr->a, text);
}

/* --- names --------------------------------------------------------------------------------------- */

int container_name_free(const struct containers *s, const char *name, struct err *e)
{
    const struct container *other = map_get(&s->by_name, name);

    if (!name_valid_container(name))
        return err_set(e, ERR_INVALID,
                       "Invalid container name (%.255s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
    if (other)
        return err_set(e, ERR_CONFLICT,
                       "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to "
                       "remove (or rename) that container to be able to reuse that name.",
                       name, other->record->id);
    return 0;
}

static int take_name(struct creation *cr, const char *name, struct err *e)
{
    const char *plain = name + (*name == '/');
    int rc = container_name_free(cr->en->containers, plain, e);

    if (rc < 0)
        return rc;
    cr->name = arena_strdup(cr->a, plain);
    return 0;
}

static int make_name(struct creation *cr, struct err *e)
{
    char name[NAME_GENERATED];

    for (unsigned attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        name_generate(entropy_real(), attempt, name);
        if (!map_get(&cr->en->containers->by_name, name)) {
            cr->name = arena_strdup(cr->a, name);
            return 0;
        }
    }
    cr->name = arena_strndup(cr->a, cr->id, 12); /* on a machine this crowded */
    return map_get(&cr->en->containers->by_name, cr->name) ? err_set(e, ERR_INTERNAL, "no name is free") : 0;
}

/* --- what was asked ------------------------------------------------------------------------------ */

static int check_ports(struct creation *cr, const HostConfig *host, bool is_host, struct err *e)
{
    const PortBinding *first = host->n_port_bindings ? host->port_bindings[0] : NULL;

    if (!first && !host->publish_all_ports)
        return 0;
    if (!is_host && first)
        return err_set(e, ERR_UNSUPPORTED,
                       "publishing ports (HostConfig.PortBindings: port %u at \"%.64s:%.64s\") " NOT_IMPLEMENTED
                       ": published ports come later; use network mode \"host\"",
                       first->port, first->host_address ? first->host_address : "",
                       first->host_port ? first->host_port : "");
    if (!is_host)
        return err_set(e, ERR_UNSUPPORTED,
                       "publishing ports (HostConfig.PublishAllPorts: true) " NOT_IMPLEMENTED
                       ": published ports come later; use network mode \"host\"");
    warn(cr, "Published ports are discarded when using host network mode");
    return 0;
}

/* With networks of this machine: bridge where nothing was asked. */
static int take_own_network(struct creation *cr, ContainerConfig *config, struct err *e)
{
    HostConfig *host = config->host;
    const char *mode = host->network_mode ? host->network_mode : "";
    bool is_host = strcmp(mode, "host") == 0;

    if (config->network_disabled && is_host)
        return err_set(e, ERR_INVALID, "conflicting options: NetworkDisabled and network mode \"host\"");
    if (strncmp(mode, "container:", 10) == 0)
        return err_set(e, ERR_UNSUPPORTED, "invalid NetworkMode: \"%.120s\" " NOT_IMPLEMENTED, mode);
    if (config->network_disabled)
        mode = "none";
    else if (!*mode || strcmp(mode, "default") == 0)
        mode = "bridge";
    host->network_mode = arena_strdup(cr->a, mode);
    if (host->n_links)
        return err_set(e, ERR_UNSUPPORTED, "invalid Links: link \"%.120s\" " NOT_IMPLEMENTED, host->links[0]);
    int rc = plug_check(config, e);
    return rc == 0 ? check_ports(cr, host, is_host, e) : rc;
}

/* `none` and `host`; no wish at all is none, and said so. */
static int take_network(struct creation *cr, ContainerConfig *config, struct err *e)
{
    HostConfig *host = config->host;
    const char *mode = host->network_mode ? host->network_mode : "";
    bool is_host = strcmp(mode, "host") == 0, is_none = strcmp(mode, "none") == 0;

    if (cr->en->networks)
        return take_own_network(cr, config, e);
    if (!is_host && !is_none && *mode && strcmp(mode, "default") != 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "invalid NetworkMode: network \"%.120s\" " NOT_IMPLEMENTED
                       ": bridge networks come later; use \"none\" or \"host\"",
                       mode);
    if (config->network_disabled && is_host)
        return err_set(e, ERR_INVALID, "conflicting options: NetworkDisabled and network mode \"host\"");
    if (host->n_links)
        return err_set(e, ERR_UNSUPPORTED,
                       "invalid Links: link \"%.120s\" " NOT_IMPLEMENTED ": bridge networks come later",
                       host->links[0]);
    if (!is_host && !is_none && !config->network_disabled) {
        warn(cr, "No network was asked for and the container gets none: bridge networks come later. Use "
                 "--network host, or --network none to silence this warning");
        config->n_endpoints = 0; /* clients name the default network */
    }
    host->network_mode = arena_strdup(cr->a, is_host ? "host" : "none");
    int rc = plug_check(config, e);
    return rc == 0 ? check_ports(cr, host, is_host, e) : rc;
}

/* Letters, digits, dashes and dots, as RFC 1123 has them; underscores are common and harmless. */
static int check_hostname(const char *field, const char *name, struct err *e)
{
    size_t length = strlen(name);

    if (length > HOSTNAME_MAX)
        return err_set(e, ERR_INVALID, "invalid %s: \"%.80s\" is longer than %d bytes", field, name, HOSTNAME_MAX);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-._", name[i]))
            return err_set(e, ERR_INVALID, "invalid %s: \"%s\"", field, name);
    return 0;
}

static int take_hostname(struct creation *cr, const ContainerConfig *config, char ret[HOSTNAME_MAX + 1],
                         struct err *e)
{
    const HostConfig *host = config->host;
    const char *asked = config->hostname && *config->hostname ? config->hostname : NULL;
    bool shares_uts = host->uts_mode && strcmp(host->uts_mode, "host") == 0;

    if (asked && shares_uts)
        return err_set(e, ERR_INVALID, "conflicting options: hostname and the UTS mode");
    if (config->domainname && *config->domainname && shares_uts)
        return err_set(e, ERR_INVALID, "conflicting options: domainname and the UTS mode");
    if (config->domainname && check_hostname("Domainname", config->domainname, e) < 0)
        return ERR_INVALID;
    if (asked) {
        if (check_hostname("Hostname", asked, e) < 0)
            return ERR_INVALID;
        (void)snprintf(ret, HOSTNAME_MAX + 1, "%s", asked);
    } else if (shares_uts || strcmp(host->network_mode, "host") == 0) {
        if (gethostname(ret, HOSTNAME_MAX) < 0)
            return err_errno(e, "this machine's name");
        ret[HOSTNAME_MAX] = '\0';
    } else {
        (void)snprintf(ret, HOSTNAME_MAX + 1, "%.12s", cr->id);
    }
    return 0;
}

static int check_log_driver(const HostConfig *host, struct err *e)
{
    static const char *const known[] = {"local",  "journald", "syslog",  "gelf",   "fluentd",
                                        "splunk", "awslogs",  "gcplogs", "etwlogs"};
    const char *driver = host->log_driver ? host->log_driver : "";

    if (!*driver || strcmp(driver, "json-file") == 0 || strcmp(driver, "none") == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(driver, known[i]) == 0)
            return err_set(e, ERR_UNSUPPORTED,
                           "invalid LogConfig: log driver \"%s\" " NOT_IMPLEMENTED ": use json-file or none",
                           driver);
    return err_set(e, ERR_INVALID, "logger: no log driver named '%.120s' is registered", driver);
}

static int check_host(struct creation *cr, const ContainerConfig *config, struct err *e)
{
    const HostConfig *host = config->host;
    int rc = restart_check(host->restart, host->auto_remove, e);

    if (rc == 0)
        rc = check_log_driver(host, e);
    if (rc == 0)
        rc = netfiles_check(host, e);
    if (rc == 0 && host->runtime && *host->runtime && strcmp(host->runtime, "shoal") != 0)
        rc = err_set(e, ERR_INVALID, "unknown or invalid runtime name: %.120s", host->runtime);
    /* Docker takes "/jobs" and "jobs" for the same group; here it lies below ours (bundle_recipe.c). */
    if (rc == 0 && host->cgroup_parent && !cgroup_path_is_tame(host->cgroup_parent + (*host->cgroup_parent == '/')))
        rc = err_set(e, ERR_INVALID,
                     "invalid HostConfig.CgroupParent \"%.255s\": it must be names between slashes, none beginning "
                     "with a dot",
                     host->cgroup_parent);
    if (rc == 0 && host->volume_driver && *host->volume_driver && strcmp(host->volume_driver, "local") != 0)
        rc = err_set(e, ERR_NOT_FOUND, "error looking up volume plugin %.120s: plugin not found",
                     host->volume_driver);
    if (rc == 0 && host->console_height > UINT16_MAX)
        rc = err_set(e, ERR_INVALID, "invalid ConsoleSize: %u", host->console_height);
    if (rc == 0 && host->console_width > UINT16_MAX)
        rc = err_set(e, ERR_INVALID, "invalid ConsoleSize: %u", host->console_width);
    if (rc == 0 && config->has_stop_timeout_s && config->stop_timeout_s < -1)
        rc = err_set(e, ERR_INVALID, "invalid StopTimeout: %d", (int)config->stop_timeout_s);
    return rc;
}

/* What inspect shows where nothing was asked. */
static void fill_defaults(struct creation *cr, HostConfig *host)
{
    if (!host->log_driver || !*host->log_driver)
        host->log_driver = arena_strdup(cr->a, "json-file");
    if (!host->ipc_mode || !*host->ipc_mode)
        host->ipc_mode = arena_strdup(cr->a, "private");
    if (!host->cgroupns_mode || !*host->cgroupns_mode)
        host->cgroupns_mode = arena_strdup(cr->a, "private");
    if (!host->shm_size_bytes) {
        host->has_shm_size_bytes = true;
        host->shm_size_bytes = SHM_SIZE_DEFAULT;
    }
    if (!host->runtime || !*host->runtime)
        host->runtime = arena_strdup(cr->a, "shoal");
}

static void warn_of_health(struct creation *cr, const ContainerConfig *config)
{
    const HealthConfig *health = config->health;

    if (health && health->n_test && strcmp(health->test[0], "NONE") != 0)
        warn(cr, "Healthcheck has no effect: running health checks " NOT_IMPLEMENTED);
}

static int resolve_mounts(struct creation *cr, struct err *e)
{
    const HostConfig *host = cr->merged.config->host;
    struct mounts_from *from = arena_array(cr->a, host->n_volumes_from, sizeof(*from));

    for (size_t i = 0; i < host->n_volumes_from; i++) {
        const char *ref;
        struct container *other;
        int rc = mounts_from_parse(host->volumes_from[i], cr->a, &ref, &from[i].mode, e);

        if (rc == 0)
            rc = container_find(cr->en, ref, &other, e);
        if (rc < 0)
            return rc;
        from[i].record = other->record;
    }
    return mounts_resolve(cr->merged.config, from, host->n_volumes_from, cr->a, &cr->mounts, e);
}

static void new_volume_of(const MountPoint *p, struct volume_new *ret)
{
    const Mount *spec = p->spec;

    *ret = (struct volume_new){
        .name = p->volume,
        .driver = spec ? spec->volume_driver : NULL,
        .labels = spec ? spec->volume_labels : NULL,
        .label_count = spec ? spec->n_volume_labels : 0,
        .options = spec ? spec->volume_options : NULL,
        .option_count = spec ? spec->n_volume_options : 0,
        .anonymous = p->anonymous,
    };
}

static int check_mounts(struct creation *cr, struct err *e)
{
    for (size_t i = 0; i < cr->mounts.count; i++) {
        MountPoint *p = cr->mounts.points[i];
        struct volume_new asked;
        int rc = 0;

        if (p->type == MOUNT_TYPE__VOLUME) {
            if (!p->volume) {
                p->volume = arena_alloc(cr->a, HEX_ID_TEXT + 1);
                hex_id_new(entropy_real(), p->volume);
            }
            new_volume_of(p, &asked);
            rc = volume_check(&asked, e);
            p->source = arena_printf(cr->a, "%s/volumes/%s/_data", cr->en->config.data_dir, p->volume);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- volumes ------------------------------------------------------------------------------------- */

int container_hold_volumes(struct container *c, struct err *e)
{
    for (size_t i = 0; i < c->record->n_mounts; i++) {
        const MountPoint *p = c->record->mounts[i];
        struct volume_new asked;
        struct volume *v;

        if (p->type != MOUNT_TYPE__VOLUME || c->uses[i].volume)
            continue;
        new_volume_of(p, &asked);
        int rc = volume_create(c->en->volumes, &asked, &v, e);
        if (rc < 0)
            return rc;
        volume_use(v, &c->uses[i], c->record->id);
    }
    return 0;
}

void container_release_volumes(struct container *c)
{
    for (size_t i = 0; i < c->record->n_mounts; i++)
        volume_unuse(&c->uses[i]);
}

/* --- layer --------------------------------------------------------------------------------------- */

static int make_layer(int dir_fd, struct err *e)
{
    if (mkdirat(dir_fd, "upper", 0755) < 0 || fchmodat(dir_fd, "upper", 0755, 0) < 0 ||
        mkdirat(dir_fd, "work", 0700) < 0)
        return err_errno(e, "make the layer's directories");
    return 0;
}

/* --- making -------------------------------------------------------------------------------------- */

static void fill_record(struct creation *cr, ContainerRecord *record)
{
    ContainerConfig *config = cr->merged.config;
    ContainerState *state = ARENA_NEW(cr->a, ContainerState);

    container_record__init(record);
    container_state__init(state);
    state->status = CONTAINER_STATUS_KIND__CREATED;
    record->format = 1;
    record->id = cr->id;
    record->name = (char *)cr->name;
    record->created_ns = engine_now_ns();
    record->config = config;
    record->image_id = cr->image.record->id;
    record->has_layers = true;
    record->layers = (uint32_t)cr->image.config->n_diff_ids;
    record->argv = cr->merged.argv;
    record->n_argv = cr->merged.argc;
    record->env = cr->merged.env;
    record->n_env = cr->merged.env_count;
    record->working_dir = config->working_dir;
    record->user = config->user;
    record->stop_signal = config->stop_signal;
    record->mounts = cr->mounts.points;
    record->n_mounts = cr->mounts.count;
    record->state = state;
}

static int make(struct creation *cr, struct container **ret, struct err *e)
{
    struct containers *s = cr->en->containers;
    ContainerRecord record;
    AUTO_CLOSE
    int dir_fd = -1;
    int rc;

    fill_record(cr, &record);
    if (mkdirat(s->fd, cr->id, 0700) < 0)
        return err_errno(e, "make directory of container %s", cr->id);
    dir_fd = openat(s->fd, cr->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = dir_fd < 0 ? err_errno(e, "open directory") : make_layer(dir_fd, e);
    if (rc == 0)
        rc = records_put(s->records, cr->id, &record.base, e);
    if (rc < 0) {
        (void)sweep_take(s->sweep, s->fd, cr->id, NULL); /* else it goes at the next start */
        return err_wrap(e, "create container %s", cr->id);
    }
    struct container *c = container_add(s, message_dup(&record));
    image_hold(cr->en->images, c->record->image_id);
    rc = container_hold_volumes(c, e);
    if (rc < 0) {
        (void)container_remove(c, false, true, NULL, NULL, NULL); /* at rest: cannot be refused */
        return rc;
    }
    *ret = c;
    return 0;
}

static int check(struct creation *cr, const ContainerConfig *asked, struct err *e)
{
    ContainerConfig *config = arena_dup(cr->a, asked, sizeof(*config));
    char hostname[HOSTNAME_MAX + 1], **more = NULL;
    int rc;

    config->host = ARENA_NEW(cr->a, HostConfig);
    if (asked->host)
        *config->host = *asked->host;
    else
        host_config__init(config->host);
    fill_defaults(cr, config->host);
    rc = take_network(cr, config, e);
    if (rc == 0)
        rc = take_hostname(cr, config, hostname, e);
    if (rc == 0)
        rc = check_host(cr, config, e);
    if (rc == 0)
        rc = config_merge(config, cr->image.config, arena_strdup(cr->a, hostname), cr->a, &cr->merged, e);
    if (rc == 0)
        rc = bundle_check(cr->merged.config, &cr->en->kernel, cr->a, &more, e);
    if (rc == 0)
        rc = resolve_mounts(cr, e);
    if (rc == 0)
        rc = check_mounts(cr, e);
    if (rc < 0)
        return rc;
    warn_of_health(cr, cr->merged.config);
    for (size_t i = 0; i < cr->mounts.warning_count; i++)
        warn(cr, cr->mounts.warnings[i]);
    for (size_t i = 0; more && more[i]; i++)
        warn(cr, more[i]);
    return 0;
}

int container_create(struct engine *en, const char *name, const ContainerConfig *config, struct arena *a,
                     struct container **ret, char ***ret_warnings, struct err *e)
{
    struct creation cr = {.en = en, .a = a};
    int rc;

    if (en->containers->count >= CONTAINERS_MAX)
        return err_set(e, ERR_LIMIT, "there are %d containers already", CONTAINERS_MAX);
    if (!config->image || !*config->image)
        return err_set(e, ERR_INVALID, "invalid Image: no image was named");
    hex_id_new(entropy_real(), cr.id);
    rc = name && *name ? take_name(&cr, name, e) : make_name(&cr, e);
    if (rc == 0)
        rc = image_find(en->images, config->image, &cr.image, e);
    if (rc == 0)
        rc = check(&cr, config, e);
    if (rc == 0)
        rc = make(&cr, ret, e);
    if (rc < 0)
        return rc;
    container_tell(*ret, ENGINE_CREATED, "create", NULL, 0);
    cr.warnings = arena_append(a, cr.warnings, cr.warning_count, sizeof(*cr.warnings));
    cr.warnings[cr.warning_count] = NULL;
    *ret_warnings = cr.warnings;
    return 0;
}
