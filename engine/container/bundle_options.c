/* Options that are little languages: security, tmpfs, log, sysctls, modes of namespaces. Each names field and value
 * when it does not understand (bundle_part.h). */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>

#include "engine/container/bundle_part.h"
#include "proto/base/mem.h"
#include "proto/base/sysctl.h"

void warn(struct arena *a, char ***warnings, size_t *count, const char *fmt, ...)
{
    char text[512];
    va_list args;

    if (!warnings)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    *warnings = arena_append(a, *warnings, *count, sizeof(char *));
    (*warnings)[(*count)++] = arena_strdup(a, text);
}

bool options_is(const char *mode, const char *value)
{
    return mode && strcmp(mode, value) == 0;
}

bool options_size(const char *text, uint64_t *ret)
{
    static const char units[] = "bkmgt";
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (*end) {
        const char *unit = strchr(units, tolower((unsigned char)*end));

        if (!unit)
            return false;
        shift = 10 * (unsigned)(unit - units);
        end++;
        if (tolower((unsigned char)*end) == 'b' && shift)
            end++;
    }
    if (*end || (shift && number >> (63 - shift)))
        return false;
    *ret = (uint64_t)number << shift;
    return true;
}

/* --- modes ----------------------------------------------------------------------------------------- */

static int check_mode(const char *what, const char *mode, const char *const *known, struct err *e)
{
    if (!mode || !*mode)
        return 0;
    for (size_t i = 0; known[i]; i++)
        if (strcmp(mode, known[i]) == 0)
            return 0;
    if (strncmp(mode, "container:", 10) == 0)
        return err_set(e, ERR_UNSUPPORTED, "%s mode \"%s\" is not offered by this version", what, mode);
    return err_set(e, ERR_INVALID, "invalid %s mode: %s", what, mode);
}

int options_modes(const HostConfig *h, struct err *e)
{
    static const char *const pid[] = {"host", "private", NULL};
    static const char *const ipc[] = {"none", "private", "shareable", "host", NULL};
    static const char *const uts[] = {"host", "private", NULL};
    static const char *const cgroup[] = {"host", "private", NULL};
    static const char *const user[] = {"host", NULL};
    static const char *const runtimes[] = {"runc", "io.containerd.runc.v2", "shoal", NULL};
    int rc;

    if (!h)
        return 0;
    if ((rc = check_mode("PID", h->pid_mode, pid, e)) < 0 || (rc = check_mode("IPC", h->ipc_mode, ipc, e)) < 0 ||
        (rc = check_mode("UTS", h->uts_mode, uts, e)) < 0 ||
        (rc = check_mode("cgroup namespace", h->cgroupns_mode, cgroup, e)) < 0 ||
        (rc = check_mode("user namespace", h->userns_mode, user, e)) < 0)
        return rc;
    if (check_mode("runtime", h->runtime, runtimes, e) < 0)
        return err_set(e, ERR_INVALID, "unknown or invalid runtime name: %s", h->runtime);
    if (h->network_mode && strncmp(h->network_mode, "container:", 10) == 0)
        return err_set(e, ERR_UNSUPPORTED, "network mode \"%s\" is not offered by this version", h->network_mode);
    return 0;
}

/* --- security -------------------------------------------------------------------------------------- */

static int parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcmp(text, yes[i]) == 0)
            return *ret = true, 0;
        if (strcmp(text, no[i]) == 0)
            return *ret = false, 0;
    }
    return ERR_INVALID;
}

int options_security(const HostConfig *h, struct options *ret, struct err *e)
{
    *ret = (struct options){.seccomp_unconfined = h && h->privileged};
    for (size_t i = 0; h && i < h->n_security_options; i++) {
        const char *o = h->security_options[i];
        size_t name = strcspn(o, "=:");
        const char *value = o[name] ? o + name + 1 : NULL;

        if (name == 17 && strncmp(o, "no-new-privileges", name) == 0) {
            if (!value)
                ret->no_new_privileges = true;
            else if (parse_bool(value, &ret->no_new_privileges) < 0)
                return err_set(e, ERR_INVALID, "invalid --security-opt 2: \"%s\"", o);
        } else if (!value) {
            return err_set(e, ERR_INVALID, "invalid --security-opt 1: \"%s\"", o);
        } else if (name == 7 && strncmp(o, "seccomp", name) == 0) {
            ret->seccomp_unconfined = strcmp(value, "unconfined") == 0;
            ret->seccomp_profile = ret->seccomp_unconfined || strcmp(value, "builtin") == 0 ? NULL : value;
        } else if ((name == 8 && strncmp(o, "apparmor", name) == 0) ||
                   (name == 5 && strncmp(o, "label", name) == 0)) {
            /* Neither AppArmor nor SELinux confines our containers: only what asks for that is granted. */
            if (strcmp(value, "unconfined") != 0 && strcmp(value, "disable") != 0)
                return err_set(e, ERR_UNSUPPORTED,
                               "security option \"%.160s\" is not implemented in shoal " SHOAL_VERSION, o);
        } else {
            return err_set(e, ERR_INVALID, "invalid --security-opt 2: \"%s\"", o);
        }
    }
    return 0;
}

/* --- tmpfs ----------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint64_t set, clear;
} flags[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noatime", MOUNT_ATTR_NOATIME, 0},
    {"relatime", 0, 0},
    {"strictatime", MOUNT_ATTR_STRICTATIME, 0},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"async", 0, 0},
    {"sync", 0, 0},
    {"rprivate", 0, 0},
    {"private", 0, 0},
};

static const char *const tmpfs_keys[] = {
    "size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks=", "mpol=", "huge="};

static bool take_flag(const char *word, uint64_t *attributes)
{
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (strcmp(flags[i].name, word) == 0) {
            *attributes = (*attributes & ~flags[i].clear) | flags[i].set;
            return true;
        }
    return false;
}

static bool is_tmpfs_option(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(tmpfs_keys); i++)
        if (strncmp(word, tmpfs_keys[i], strlen(tmpfs_keys[i])) == 0)
            return true;
    return false;
}

int options_tmpfs(struct step_list *l, const char *target, const char *text, StepMount **ret, struct err *e)
{
    uint64_t attributes = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    char *rest = arena_strdup(l->arena, text ? text : ""), *word;
    StepMount *m = step_mount(l, target, "tmpfs", 0);

    m->has_create_target = m->create_target = true;
    while ((word = strsep(&rest, ","))) {
        if (!*word || take_flag(word, &attributes))
            continue;
        if (!is_tmpfs_option(word))
            return err_set(e, ERR_INVALID, "invalid tmpfs option [\"%s\"] for %s", word, target);
        step_option(l, m, word);
    }
    m->attributes = attributes;
    *ret = m;
    return 0;
}

/* --- log ------------------------------------------------------------------------------------------- */

static int log_option(const KeyValue *o, LogTarget *t, struct err *e)
{
    static const struct {
        const char *name, *usual; /* the value that asks for nothing */
    } absent[] = {
        {"compress", "false"}, {"mode", "blocking"}, {"labels", ""}, {"labels-regex", ""},
        {"env", ""},           {"env-regex", ""},    {"tag", ""},    {"max-buffer-size", ""},
    };
    const char *value = o->value ? o->value : "";

    if (strcmp(o->key, "max-size") == 0) {
        if (strcmp(value, "-1") == 0)
            t->size_max = 0;
        else if (!options_size(value, &t->size_max) || t->size_max == 0)
            return err_set(e, ERR_INVALID, "invalid value for max-size: \"%s\"", value);
        return 0;
    }
    if (strcmp(o->key, "max-file") == 0) {
        char *end;
        unsigned long files = *value >= '0' && *value <= '9' ? strtoul(value, &end, 10) : 0;

        if (files < 1 || files > 10000 || *end)
            return err_set(e, ERR_INVALID, "max-file must be a number from 1 to 10000: \"%s\"", value);
        t->files_max = (uint32_t)files;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
        if (strcmp(o->key, absent[i].name) != 0)
            continue;
        if (strcmp(value, absent[i].usual) == 0)
            return 0;
        return err_set(e, ERR_UNSUPPORTED, "log opt %s=%.120s is not implemented in shoal " SHOAL_VERSION, o->key,
                       value);
    }
    return err_set(e, ERR_INVALID, "unknown log opt '%s' for json-file log driver", o->key);
}

int options_log(const HostConfig *h, LogTarget *ret, struct err *e)
{
    const char *driver = h && h->log_driver && *h->log_driver ? h->log_driver : "json-file";
    int rc = 0;

    ret->has_size_max = ret->has_files_max = ret->has_discard = true;
    ret->size_max = 0;
    ret->files_max = 1;
    ret->discard = strcmp(driver, "none") == 0;
    if (ret->discard)
        return 0;
    if (strcmp(driver, "json-file") != 0)
        return err_set(e, ERR_INVALID, "logger: no log driver named '%s' is registered", driver);
    for (size_t i = 0; rc == 0 && h && i < h->n_log_options; i++)
        rc = log_option(h->log_options[i], ret, e);
    return rc;
}

/* --- sysctls --------------------------------------------------------------------------------------- */

int options_sysctls(const HostConfig *h, struct step_list *l, struct err *e)
{
    for (size_t i = 0; h && i < h->n_sysctls; i++) {
        const char *name = h->sysctls[i]->key;
        enum sysctl_scope scope = sysctl_scope_of(name);

        if (scope == SYSCTL_NO_NAME)
            return err_set(e, ERR_INVALID, "invalid sysctl name \"%s\"", name);
        if (scope == SYSCTL_OF_IPC && options_is(h->ipc_mode, "host"))
            return err_set(e, ERR_INVALID, "sysctl \"%s\" not allowed in host ipc namespace", name);
        if (scope == SYSCTL_OF_NETWORK && options_is(h->network_mode, "host"))
            return err_set(e, ERR_INVALID, "sysctl \"%s\" not allowed in host network namespace", name);
        if (scope == SYSCTL_OF_UTS && options_is(h->uts_mode, "host"))
            return err_set(e, ERR_INVALID, "sysctl \"%s\" not allowed in host uts namespace", name);
        if (scope == SYSCTL_OF_KERNEL)
            return err_set(e, ERR_INVALID, "sysctl \"%s\" is not in a separate kernel namespace", name);
        if (!l)
            continue;
        char *path = arena_strdup(l->arena, name);
        for (char *c = path; *c; c++)
            *c = *c == '.' ? '/' : *c;
        step_sysctl(l, path, h->sysctls[i]->value ? h->sysctls[i]->value : "", false);
    }
    return 0;
}

int bundle_seccomp(const HostConfig *host, bool *ret_none, const char **ret_profile, struct err *e)
{
    struct options options;
    int rc = options_security(host, &options, e);

    if (rc < 0)
        return rc;
    *ret_none = options.seccomp_unconfined;
    *ret_profile = options.seccomp_profile;
    return 0;
}
