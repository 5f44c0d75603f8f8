/* See bundle.h: the plan of one container, in the order its steps must run.
 *
 *     limits of its groups            before anything is mounted: tmpfs and page cache count
 *     root, names                     overlay; hostname
 *     devices, mounts                 outer targets before inner ones
 *     working directory               may lie in a volume
 *     masks and read-only paths       of the user's own lists; the usual ones are the recipe's
 *     read-only root                  last, since all of the above may have to make directories
 *     what it becomes                 limits, user, capabilities, seccomp, program */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "engine/container/bundle_part.h"
#include "engine/container/procfs.h"
#include "proto/base/mem.h"
#include "proto/base/signal.h"

#define PLAN_VERSION 1
#define SHORT_ID     12
#define HOST_NAME    64 /* the kernel's limit */
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const HostConfig *host_of(const struct bundle_in *in)
{
    return in->record->config->host;
}

/* --- mounts ---------------------------------------------------------------------------------------- */

static int check_target(const char *target, struct err *e)
{
    if (target[0] != '/')
        return err_set(e, ERR_INVALID, "invalid mount path: '%s' mount path must be absolute", target);
    if (strspn(target, "/") == strlen(target))
        return err_set(e, ERR_INVALID, "invalid mount target: destination can't be '/'");
    if ((strcmp(target, "/proc") != 0 && strncmp(target, "/proc/", 6) != 0) || procfs_may_be_covered(target))
        return 0;
    return err_set(e, ERR_INVALID, "invalid mount target \"%s\": it cannot be mounted because it is inside /proc",
                   target);
}

struct pending { /* a mount waiting for its place in the order */
    const char *target;
    int point;         /* index of record->mounts, or -1 */
    const char *tmpfs; /* options of host->tmpfs, or NULL */
    unsigned file;     /* position of a bound file; UINT_MAX: none */
    unsigned depth;
};

static unsigned depth_of(const char *path)
{
    unsigned depth = 0;

    for (const char *c = path; *c; c++)
        depth += *c == '/' && c[1] != '/' && c[1] != '\0';
    return depth;
}

static bool is_target(const struct bundle_in *in, const char *target)
{
    for (size_t i = 0; i < in->record->n_mounts; i++)
        if (strcmp(in->record->mounts[i]->target, target) == 0)
            return true;
    return false;
}

/* All mounts, outer ones first and otherwise in the order given. */
static size_t collect(const struct bundle_in *in, struct arena *a, struct pending **ret)
{
    const HostConfig *h = host_of(in);
    size_t most = in->record->n_mounts + (h ? h->n_tmpfs : 0) + 3, count = 0;
    struct pending *list = arena_array(a, most, sizeof(*list));
    const struct pending files[] = {{.target = "/etc/resolv.conf", .point = -1, .file = in->resolv_conf},
                                    {.target = "/etc/hostname", .point = -1, .file = in->hostname},
                                    {.target = "/etc/hosts", .point = -1, .file = in->hosts}};

    for (size_t i = 0; i < in->record->n_mounts; i++)
        list[count++] =
            (struct pending){.target = in->record->mounts[i]->target, .point = (int)i, .file = UINT_MAX};
    for (size_t i = 0; h && i < h->n_tmpfs; i++)
        if (!is_target(in, h->tmpfs[i]->key))
            list[count++] = (struct pending){.target = h->tmpfs[i]->key,
                                             .point = -1,
                                             .tmpfs = h->tmpfs[i]->value ? h->tmpfs[i]->value : "",
                                             .file = UINT_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (files[i].file != UINT_MAX && !is_target(in, files[i].target))
            list[count++] = files[i];
    for (size_t i = 0; i < count; i++)
        list[i].depth = depth_of(list[i].target);
    for (size_t i = 1; i < count; i++) { /* stable, and there are few */
        struct pending p = list[i];
        size_t at = i;

        for (; at > 0 && list[at - 1].depth > p.depth; at--)
            list[at] = list[at - 1];
        list[at] = p;
    }
    *ret = list;
    return count;
}

static int propagation(const char *given, const char **ret, struct err *e)
{
    const char *name = given && *given ? given : "rprivate";

    name += *name == 'r';
    if (strcmp(name, "private") == 0)
        *ret = "private";
    else if (strcmp(name, "slave") == 0)
        *ret = "slave";
    else if (strcmp(name, "shared") == 0)
        *ret = "shared";
    else
        return err_set(e, ERR_INVALID, "invalid propagation mode: '%s'", given);
    return 0;
}

static StepMount *add_bound(struct step_list *l, const char *target, unsigned position)
{
    StepMount *m = step_mount(l, target, NULL, 0);

    m->has_source_fd = m->has_create_target = m->create_target = true;
    m->source_fd = position;
    return m;
}

static int add_tmpfs_point(struct step_list *l, const MountPoint *p, struct err *e)
{
    const Mount *spec = p->spec;
    StepMount *m;
    int rc = options_tmpfs(l, p->target, p->mode, &m, e);

    if (rc < 0)
        return rc;
    if (p->read_only)
        m->attributes |= MOUNT_ATTR_RDONLY;
    if (spec && spec->tmpfs_size_bytes)
        step_option(l, m, arena_printf(l->arena, "size=%llu", (unsigned long long)spec->tmpfs_size_bytes));
    if (spec && spec->has_tmpfs_mode)
        step_option(l, m, arena_printf(l->arena, "mode=%o", spec->tmpfs_mode));
    return 0;
}

static int add_point(const struct bundle_in *in, struct step_list *l, size_t i, struct err *e)
{
    const MountPoint *p = in->record->mounts[i];
    const char *how = NULL;

    if (p->type == MOUNT_TYPE__TMPFS)
        return add_tmpfs_point(l, p, e);
    int rc = propagation(p->propagation, &how, e);
    if (rc < 0)
        return rc;
    StepMount *m = add_bound(l, p->target, in->mounts[i]);
    m->propagation = (char *)how;
    if (p->read_only)
        m->attributes |= MOUNT_ATTR_RDONLY;
    m->has_recursive = true;
    m->recursive = !(p->spec && (p->spec->read_only_non_recursive || p->spec->non_recursive));
    m->has_copy_up = true;
    m->copy_up = in->mount_copy_up && in->mount_copy_up[i];
    return 0;
}

static int add_mounts(const struct bundle_in *in, struct step_list *l, struct err *e)
{
    struct pending *list;
    size_t count = collect(in, l->arena, &list);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        StepMount *m;

        rc = check_target(list[i].target, e);
        if (rc < 0)
            break;
        if (list[i].file != UINT_MAX)
            (void)add_bound(l, list[i].target, list[i].file);
        else if (list[i].point >= 0)
            rc = add_point(in, l, (size_t)list[i].point, e);
        else
            rc = options_tmpfs(l, list[i].target, list[i].tmpfs, &m, e);
    }
    return rc;
}

/* --- root, names, devices -------------------------------------------------------------------------- */

static void add_root(const struct bundle_in *in, struct step_list *l)
{
    StepOverlay *s = ARENA_NEW(l->arena, StepOverlay);

    step_overlay__init(s);
    s->lower_fds = arena_array(l->arena, in->layers, sizeof(*s->lower_fds));
    for (unsigned i = 0; i < in->layers; i++)
        s->lower_fds[s->n_lower_fds++] = i;
    s->has_upper_fd = s->has_work_fd = true;
    s->upper_fd = in->upper;
    s->work_fd = in->work;
    step_add(l)->overlay = s;
}

static int add_names(const struct bundle_in *in, struct step_list *l, const char **ret_hostname, struct err *e)
{
    const ContainerConfig *c = in->record->config;
    const HostConfig *h = host_of(in);
    bool given = c->hostname && *c->hostname, domain = c->domainname && *c->domainname;
    const char *name = given ? c->hostname : arena_strndup(l->arena, in->id, SHORT_ID);

    if (strlen(name) > HOST_NAME || (domain && strlen(c->domainname) > HOST_NAME))
        return err_set(e, ERR_INVALID, "invalid %s \"%s\": longer than %d bytes",
                       strlen(name) > HOST_NAME ? "hostname" : "domainname",
                       strlen(name) > HOST_NAME ? name : c->domainname, HOST_NAME);
    *ret_hostname = name;
    if (h && options_is(h->uts_mode, "host")) { /* the machine's name, which is noted when it is created */
        *ret_hostname = given ? name : NULL;
        return 0;
    }
    StepHostname *s = ARENA_NEW(l->arena, StepHostname);
    step_hostname__init(s);
    s->hostname = (char *)name;
    s->domainname = domain ? c->domainname : NULL;
    step_add(l)->hostname = s;
    return 0;
}

/* "c 1:3 rwm", "a *:* rwm" */
static int parse_rule(const char *text, struct bundle_device *ret, bool *ret_both, bool *ret_any_major,
                      bool *ret_any_minor, struct arena *a, struct err *e)
{
    char type, major[12], minor[12], access[4], rest;
    unsigned number;

    if (sscanf(text, "%c %11[0-9*]:%11[0-9*] %3[rwm]%c", &type, major, minor, access, &rest) != 4 ||
        !strchr("abc", type))
        return err_set(e, ERR_INVALID, "invalid device cgroup format '%s'", text);
    *ret = (struct bundle_device){.block = type == 'b', .access = arena_strdup(a, access)};
    *ret_both = type == 'a';
    *ret_any_major = strcmp(major, "*") == 0;
    *ret_any_minor = strcmp(minor, "*") == 0;
    if (!*ret_any_major) {
        if (sscanf(major, "%u%c", &number, &rest) != 1 || number > 0xfff)
            return err_set(e, ERR_INVALID, "invalid device cgroup format '%s'", text);
        ret->major = number;
    }
    if (!*ret_any_minor) {
        if (sscanf(minor, "%u%c", &number, &rest) != 1 || number > 0xfffff)
            return err_set(e, ERR_INVALID, "invalid device cgroup format '%s'", text);
        ret->minor = number;
    }
    return 0;
}

static int add_rules(const HostConfig *h, struct arena *a, StepDevices *s, struct err *e)
{
    for (size_t i = 0; h && i < h->n_device_cgroup_rules; i++) {
        struct bundle_device d;
        bool both = false, any_major = false, any_minor = false;
        int rc = parse_rule(h->device_cgroup_rules[i], &d, &both, &any_major, &any_minor, a, e);

        if (rc < 0)
            return rc;
        bundle_add_device(a, s, &d);
        DeviceRule *r = s->rules[s->n_rules - 1];
        r->type = both ? NULL : r->type;
        r->has_major = !any_major;
        r->has_minor = !any_minor;
    }
    return 0;
}

static int add_devices(const struct bundle_in *in, struct step_list *l, struct err *e)
{
    const HostConfig *h = host_of(in);
    bool privileged = h && h->privileged;

    for (size_t i = 0; i < in->device_count; i++)
        step_device(l, &in->devices[i]);
    if (privileged || !in->kernel->cgroup_there[BUNDLE_DEVICES] ||
        (in->device_count == 0 && (!h || h->n_device_cgroup_rules == 0)))
        return 0; /* the recipe's list is right */
    StepDevices *s = ARENA_NEW(l->arena, StepDevices);
    step_devices__init(s);
    bundle_default_devices(l->arena, s);
    for (size_t i = 0; i < in->device_count; i++)
        bundle_add_device(l->arena, s, &in->devices[i]);
    int rc = add_rules(h, l->arena, s, e);
    step_add(l)->devices = s;
    return rc;
}

/* --- what it becomes ------------------------------------------------------------------------------- */

static void add_user(const struct bundle_in *in, struct step_list *l)
{
    const HostConfig *h = host_of(in);
    StepUser *s = ARENA_NEW(l->arena, StepUser);

    step_user__init(s);
    s->user = in->record->user;
    if (h) {
        s->groups = h->group_add;
        s->n_groups = h->n_group_add;
    }
    step_add(l)->user = s;
}

static int add_privileges(const struct bundle_in *in, struct step_list *l, struct err *e)
{
    const HostConfig *h = host_of(in);
    StepCapabilities *s = ARENA_NEW(l->arena, StepCapabilities);
    struct options options;
    uint64_t mask;
    int rc = bundle_capabilities(h, in->kernel->capabilities, &mask, e);

    if (rc == 0)
        rc = options_security(h, &options, e);
    if (rc < 0)
        return rc;
    step_capabilities__init(s);
    s->bounding = s->effective = mask;
    s->has_no_new_privileges = true;
    s->no_new_privileges = options.no_new_privileges;
    step_add(l)->capabilities = s;
    if (in->seccomp != UINT_MAX && !options.seccomp_unconfined) {
        StepSeccomp *p = ARENA_NEW(l->arena, StepSeccomp);

        step_seccomp__init(p);
        p->program_fd = in->seccomp;
        step_add(l)->seccomp = p;
    }
    return 0;
}

static bool has_variable(const ContainerRecord *r, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < r->n_env; i++)
        if (strncmp(r->env[i], name, length) == 0 && r->env[i][length] == '=')
            return true;
    return false;
}

static void add_program(const struct bundle_in *in, struct step_list *l, const char *hostname)
{
    const ContainerRecord *r = in->record;
    StepExec *s = ARENA_NEW(l->arena, StepExec);

    step_exec__init(s);
    s->argv = r->argv;
    s->n_argv = r->n_argv;
    s->env = arena_array(l->arena, r->n_env + 3, sizeof(char *));
    if (!has_variable(r, "PATH"))
        s->env[s->n_env++] = (char *)DEFAULT_PATH;
    if (hostname && !has_variable(r, "HOSTNAME"))
        s->env[s->n_env++] = arena_printf(l->arena, "HOSTNAME=%s", hostname);
    if (r->config->tty && !has_variable(r, "TERM"))
        s->env[s->n_env++] = (char *)"TERM=xterm";
    for (size_t i = 0; i < r->n_env; i++)
        s->env[s->n_env++] = r->env[i];
    s->working_dir = r->working_dir;
    step_add(l)->exec = s;
}

static void add_oom_score(const HostConfig *h, struct step_list *l)
{
    if (!h || !h->has_oom_score_adj || h->oom_score_adj == 0)
        return;
    StepOomScore *s = ARENA_NEW(l->arena, StepOomScore);
    step_oom_score__init(s);
    s->adjust = (int32_t)h->oom_score_adj;
    step_add(l)->oom_score = s;
}

/* --- the plan -------------------------------------------------------------------------------------- */

/* The paths a user asked to be hidden or read-only instead of the usual ones. */
static int add_own_paths(const HostConfig *h, struct step_list *l, struct err *e)
{
    if (!h || h->privileged)
        return 0;
    for (size_t i = 0; i < h->n_masked_paths + h->n_read_only_paths; i++) {
        const char *path = i < h->n_masked_paths ? h->masked_paths[i] : h->read_only_paths[i - h->n_masked_paths];

        if (path[0] != '/')
            return err_set(e, ERR_INVALID, "invalid %s: \"%s\" is not an absolute path",
                           i < h->n_masked_paths ? "MaskedPaths" : "ReadonlyPaths", path);
    }
    if (h->masked_paths_set && h->n_masked_paths)
        step_mask(l, h->masked_paths, h->n_masked_paths);
    if (h->read_only_paths_set && h->n_read_only_paths)
        step_read_only(l, h->read_only_paths, h->n_read_only_paths);
    return 0;
}

static int add_steps(const struct bundle_in *in, struct step_list *l, struct err *e)
{
    static char *root[] = {(char *)"/"};
    const ContainerRecord *r = in->record;
    const HostConfig *h = host_of(in);
    const char *hostname = NULL;
    int rc;

    limits_steps(h, in->kernel, l);
    add_root(in, l);
    if ((rc = add_names(in, l, &hostname, e)) < 0)
        return rc;
    if ((rc = add_devices(in, l, e)) < 0 || (rc = add_mounts(in, l, e)) < 0)
        return rc;
    if (r->working_dir && *r->working_dir) {
        if (r->working_dir[0] != '/')
            return err_set(e, ERR_INVALID, "the working directory '%s' is invalid, it needs to be an absolute path",
                           r->working_dir);
        step_directory(l, r->working_dir);
    }
    if ((rc = add_own_paths(h, l, e)) < 0 || (rc = options_sysctls(h, l, e)) < 0)
        return rc;
    if (h && h->read_only_root)
        step_read_only(l, root, 1);
    add_oom_score(h, l);
    if ((rc = limits_ulimits(h, l, e)) < 0)
        return rc;
    add_user(in, l);
    if ((rc = add_privileges(in, l, e)) < 0)
        return rc;
    if (r->n_argv == 0)
        return err_set(e, ERR_INVALID, "no command specified");
    add_program(in, l, hostname);
    return 0;
}

int bundle_make(const struct bundle_in *in, struct arena *a, LaunchPlan **ret_plan, struct err *e)
{
    const HostConfig *h = host_of(in);
    LaunchPlan *plan = ARENA_NEW(a, LaunchPlan);
    struct step_list l = {.arena = a};
    Recipe *recipe;
    int rc = limits_check(h, in->kernel, a, NULL, NULL, e);

    if (rc == 0)
        rc = bundle_recipe(in->record, in->kernel, a, &recipe, e);
    if (rc == 0)
        rc = add_steps(in, &l, e);
    if (rc < 0)
        return rc;
    launch_plan__init(plan);
    plan->version = PLAN_VERSION;
    plan->id = (char *)in->id;
    plan->recipe.len = recipe__get_packed_size(recipe);
    plan->recipe.data = arena_alloc(a, plan->recipe.len);
    recipe__pack(recipe, plan->recipe.data);
    plan->steps = l.steps;
    plan->n_steps = l.count;
    plan->has_tty = plan->has_open_stdin = true;
    plan->tty = in->record->config->tty;
    plan->open_stdin = in->record->config->open_stdin;
    plan->log = ARENA_NEW(a, LogTarget);
    log_target__init(plan->log);
    rc = options_log(h, plan->log, e);
    if (rc < 0)
        return rc;
    plan->log->has_live = true; /* a client may be attached, and wait for a prompt */
    plan->log->live =
        in->record->config->tty || in->record->config->attach_stdout || in->record->config->attach_stderr;
    plan->log->has_directory_fd = in->log_directory != UINT_MAX;
    plan->log->directory_fd = in->log_directory;
    *ret_plan = plan;
    return 0;
}

/* --- check ----------------------------------------------------------------------------------------- */

static int check_targets(const HostConfig *h, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < h->n_mounts; i++)
        if (h->mounts[i]->target)
            rc = check_target(h->mounts[i]->target, e);
    for (size_t i = 0; rc == 0 && i < h->n_tmpfs; i++)
        rc = check_target(h->tmpfs[i]->key, e);
    return rc;
}

static int check_options(const HostConfig *h, const struct bundle_kernel *kernel, struct arena *a, char ***warnings,
                         size_t *count, struct err *e)
{
    struct step_list scratch = {.arena = a};
    StepDevices devices = STEP_DEVICES__INIT;
    struct options options;
    LogTarget log = LOG_TARGET__INIT;
    StepMount *m;
    uint64_t mask;
    int rc;

    if ((rc = options_modes(h, e)) < 0 || (rc = limits_check(h, kernel, a, warnings, count, e)) < 0 ||
        (rc = bundle_capabilities(h, kernel->capabilities, &mask, e)) < 0 ||
        (rc = options_security(h, &options, e)) < 0 || (rc = options_log(h, &log, e)) < 0 ||
        (rc = options_sysctls(h, NULL, e)) < 0 || (rc = check_targets(h, e)) < 0 ||
        (rc = add_rules(h, a, &devices, e)) < 0 || (rc = add_own_paths(h, &scratch, e)) < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < h->n_tmpfs; i++)
        rc = options_tmpfs(&scratch, h->tmpfs[i]->key, h->tmpfs[i]->value, &m, e);
    return rc;
}

int bundle_check(const ContainerConfig *config, const struct bundle_kernel *kernel, struct arena *a,
                 char ***ret_warnings, struct err *e)
{
    char **warnings = NULL;
    size_t count = 0;
    int number, rc = 0;

    if (config->stop_signal && *config->stop_signal && signal_parse(config->stop_signal, &number) < 0)
        return err_set(e, ERR_INVALID, "invalid signal: %s", config->stop_signal);
    if (config->working_dir && *config->working_dir && config->working_dir[0] != '/')
        return err_set(e, ERR_INVALID, "the working directory '%s' is invalid, it needs to be an absolute path",
                       config->working_dir);
    if (config->host && config->host->init)
        return err_set(e, ERR_UNSUPPORTED, "HostConfig.Init (true) is not implemented in shoal " SHOAL_VERSION);
    if (config->host)
        rc = check_options(config->host, kernel, a, &warnings, &count, e);
    if (rc < 0)
        return rc;
    warnings = arena_append(a, warnings, count, sizeof(char *));
    warnings[count] = NULL;
    *ret_warnings = warnings;
    return 0;
}
