/* See mounts.h.
 *
 * Precedence: --volumes-from first, what -v, --mount or --tmpfs name replaces it, and the image's volumes take what
 * is left. Two explicit mounts on one target are refused. The list is sorted by the depth of the target, so that a
 * mount below another one's target lands in it.
 *
 * A point of --tmpfs has its options in `mode` and no `spec`; all others carry a `spec` with the details. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/container/mounts.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/base/path.h"

struct building {
    struct arena *a;
    struct mounts m;
    bool inherited[MOUNTS_MAX]; /* of --volumes-from, not replaced yet */
};

static void warn(struct building *b, char *text)
{
    b->m.warnings = arena_append(b->a, b->m.warnings, b->m.warning_count, sizeof(*b->m.warnings));
    b->m.warnings[b->m.warning_count++] = text;
}

/* Position of the point on this target, or the count. */
static size_t find_target(const struct building *b, const char *target)
{
    size_t at = 0;

    while (at < b->m.count && strcmp(b->m.points[at]->target, target) != 0)
        at++;
    return at;
}

static MountPoint *new_point(struct arena *a, MountType type, char *target)
{
    MountPoint *p = ARENA_NEW(a, MountPoint);

    mount_point__init(p);
    p->has_type = true;
    p->type = type;
    p->target = target;
    return p;
}

static int add_point(struct building *b, MountPoint *p, struct err *e)
{
    if (b->m.count == MOUNTS_MAX)
        return err_set(e, ERR_INVALID, "more than %d mounts", MOUNTS_MAX);
    b->m.points = arena_append(b->a, b->m.points, b->m.count, sizeof(*b->m.points));
    b->m.points[b->m.count++] = p;
    return 0;
}

/* What was asked for by name: in place of an inherited point, never of another explicit one. */
static int add_explicit(struct building *b, MountPoint *p, struct err *e)
{
    size_t at = find_target(b, p->target);

    if (at == b->m.count)
        return add_point(b, p, e);
    if (!b->inherited[at])
        return err_set(e, ERR_INVALID, "Duplicate mount point: %s", p->target);
    b->inherited[at] = false;
    b->m.points[at] = p;
    return 0;
}

/* A target as given: absolute and not the root. */
static int take_target(struct arena *a, const char *given, const char *what, char **ret, struct err *e)
{
    if (!given || !*given)
        return err_set(e, ERR_INVALID, "invalid mount %s: field Target must not be empty", what);
    if (*given != '/')
        return err_set(e, ERR_INVALID, "invalid mount %s: mount path must be absolute: '%s'", what, given);
    char *clean = path_clean(a, given);
    if (!clean[1])
        return err_set(e, ERR_INVALID, "invalid mount %s: destination can't be '/'", what);
    *ret = clean;
    return 0;
}

static int check_volume_name(const char *name, struct err *e)
{
    if (name_valid_container(name))
        return 0;
    return err_set(e, ERR_INVALID,
                   "\"%s\" includes invalid characters for a local volume name, only "
                   "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use "
                   "absolute path",
                   name);
}

static bool is_propagation(const char *word)
{
    static const char *const words[] = {"private", "rprivate", "shared", "rshared", "slave", "rslave"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static bool is_consistency(const char *word)
{
    static const char *const words[] = {"default", "consistent", "cached", "delegated"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* One word of the options of -v. Each class may come once. */
static bool take_mode_word(struct building *b, MountPoint *p, char *word, unsigned *seen)
{
    bool is_bind = p->type == MOUNT_TYPE__BIND;
    unsigned class;

    if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0) {
        class = 1;
        p->has_read_only = p->read_only = word[1] == 'o';
    } else if (strcasecmp(word, "z") == 0) {
        class = 2;
        warn(b, arena_printf(b->a, "mount %s: option \"%s\" has no effect: SELinux labels are not set", p->target,
                             word));
    } else if (strcmp(word, "nocopy") == 0 && !is_bind) {
        class = 4;
        p->spec->has_no_copy = p->spec->no_copy = true;
    } else if (is_propagation(word) && is_bind) {
        class = 8;
        p->propagation = word;
    } else if (is_consistency(word)) {
        class = 16; /* promises about caches that only matter where files cross machines */
    } else {
        return false;
    }
    bool again = *seen & class;
    *seen |= class;
    return !again;
}

static int take_mode(struct building *b, MountPoint *p, const char *mode, const char *text, struct err *e)
{
    unsigned seen = 0;

    p->mode = arena_strdup(b->a, mode);
    while (*mode) {
        size_t length = strcspn(mode, ",");
        char *word = arena_strndup(b->a, mode, length);

        if (!take_mode_word(b, p, word, &seen))
            return err_set(e, ERR_INVALID, "invalid volume specification: '%s': invalid mode: %s", text, p->mode);
        mode += length;
        if (*mode && !*++mode)
            return err_set(e, ERR_INVALID, "invalid volume specification: '%s': invalid mode: %s", text, p->mode);
    }
    return 0;
}

/* "source:target[:mode]". */
static int add_bind(struct building *b, const char *text, struct err *e)
{
    struct arena *a = b->a;
    char *copy = arena_strdup(a, text), *source = copy, *target = strchr(copy, ':'), *mode = NULL;
    char *clean;
    int rc;

    if (target) {
        *target++ = '\0';
        mode = strchr(target, ':');
        if (mode)
            *mode++ = '\0';
    } else { /* a path alone: an anonymous volume */
        target = source;
        source = NULL;
    }
    if ((source && !*source) || !*target || (mode && (strchr(mode, ':') || !*mode)))
        return err_set(e, ERR_INVALID, "invalid volume specification: '%s'", text);
    rc = take_target(a, target, arena_printf(a, "specification '%s'", text), &clean, e);
    if (rc < 0)
        return rc;

    bool is_path = source && *source == '/';
    MountPoint *p = new_point(a, is_path ? MOUNT_TYPE__BIND : MOUNT_TYPE__VOLUME, clean);
    p->spec = ARENA_NEW(a, Mount);
    mount__init(p->spec);
    if (is_path) {
        p->source = path_clean(a, source);
        p->propagation = arena_strdup(a, "rprivate");
        p->spec->has_create_mountpoint = p->spec->create_mountpoint = true;
    } else if (source) {
        rc = check_volume_name(source, e);
        if (rc < 0)
            return rc;
        p->volume = source;
    } else {
        p->has_anonymous = p->anonymous = true;
    }
    rc = take_mode(b, p, mode ? mode : "", text, e);
    return rc < 0 ? rc : add_explicit(b, p, e);
}

static bool has_bind_options(const Mount *spec)
{
    return spec->propagation || spec->non_recursive || spec->create_mountpoint || spec->read_only_non_recursive ||
           spec->read_only_force_recursive;
}

static bool has_volume_options(const Mount *spec)
{
    return spec->no_copy || spec->n_volume_labels || (spec->volume_driver && *spec->volume_driver) ||
           spec->n_volume_options || (spec->volume_subpath && *spec->volume_subpath);
}

static bool has_tmpfs_options(const Mount *spec)
{
    return spec->has_tmpfs_size_bytes || spec->has_tmpfs_mode;
}

static int wrong_mount(const char *type, const char *why, struct err *e)
{
    return err_set(e, ERR_INVALID, "invalid mount config for type \"%s\": %s", type, why);
}

static int check_foreign_options(const Mount *spec, const char *type, struct err *e)
{
    if (spec->type != MOUNT_TYPE__BIND && has_bind_options(spec))
        return wrong_mount(type, "field BindOptions must not be specified", e);
    if (spec->type != MOUNT_TYPE__VOLUME && has_volume_options(spec))
        return wrong_mount(type, "field VolumeOptions must not be specified", e);
    if (spec->type != MOUNT_TYPE__TMPFS && has_tmpfs_options(spec))
        return wrong_mount(type, "field TmpfsOptions must not be specified", e);
    return 0;
}

/* A path inside a volume: relative, never leading out. */
static bool subpath_valid(const char *path)
{
    if (*path == '/')
        return false;
    while (*path) {
        size_t length = strcspn(path, "/");

        if (length == 2 && path[0] == '.' && path[1] == '.')
            return false;
        path += length;
        path += *path == '/';
    }
    return true;
}

static int fill_mount(struct arena *a, MountPoint *p, const Mount *spec, const char *type, struct err *e)
{
    const char *source = spec->source ? spec->source : "";

    switch (spec->type) {
    case MOUNT_TYPE__BIND:
        if (!*source)
            return wrong_mount(type, "field Source must not be empty", e);
        if (*source != '/')
            return err_set(e, ERR_INVALID,
                           "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be "
                           "absolute",
                           source);
        if (spec->propagation && *spec->propagation && !is_propagation(spec->propagation))
            return err_set(e, ERR_INVALID,
                           "invalid mount config for type \"bind\": invalid propagation mode: \"%s\"",
                           spec->propagation);
        p->source = path_clean(a, source);
        p->propagation = spec->propagation && *spec->propagation ? spec->propagation : arena_strdup(a, "rprivate");
        return 0;
    case MOUNT_TYPE__VOLUME:
        if (*source && check_volume_name(source, e) < 0)
            return ERR_INVALID;
        if (spec->volume_subpath && !subpath_valid(spec->volume_subpath))
            return err_set(e, ERR_INVALID,
                           "invalid mount config for type \"volume\": Subpath \"%s\" must be relative and stay "
                           "inside the volume",
                           spec->volume_subpath);
        p->volume = *source ? spec->source : NULL;
        p->has_anonymous = p->anonymous = !*source;
        return 0;
    case MOUNT_TYPE__TMPFS:
        if (*source)
            return wrong_mount(type, "field Source must not be specified", e);
        if (spec->has_tmpfs_mode && spec->tmpfs_mode > 07777)
            return err_set(e, ERR_INVALID, "invalid mount config for type \"tmpfs\": invalid Mode %o",
                           (unsigned)spec->tmpfs_mode);
        return 0;
    default:
        return err_set(e, ERR_INVALID, "mount type unknown: %d", (int)spec->type);
    }
}

static int add_mount(struct building *b, Mount *spec, struct err *e)
{
    static const char *const types[] = {"bind", "volume", "tmpfs"};
    const char *type = (unsigned)spec->type < ARRAY_SIZE(types) ? types[spec->type] : "unknown";
    char *target;
    int rc = take_target(b->a, spec->target, arena_printf(b->a, "config for type \"%s\"", type), &target, e);

    if (rc < 0)
        return rc;
    MountPoint *p = new_point(b->a, spec->type, target);
    rc = fill_mount(b->a, p, spec, type, e);
    if (rc == 0)
        rc = check_foreign_options(spec, type, e);
    if (rc < 0)
        return rc;
    if (spec->consistency && *spec->consistency && !is_consistency(spec->consistency))
        return err_set(e, ERR_INVALID, "invalid mount config for type \"%s\": invalid Consistency \"%s\"", type,
                       spec->consistency);
    p->has_read_only = p->read_only = spec->read_only;
    p->spec = spec;
    return add_explicit(b, p, e);
}

static int add_tmpfs(struct building *b, const KeyValue *tmpfs, struct err *e)
{
    char *target;
    int rc = take_target(b->a, tmpfs->key, "of tmpfs", &target, e);

    if (rc < 0)
        return rc;
    MountPoint *p = new_point(b->a, MOUNT_TYPE__TMPFS, target);
    p->mode = tmpfs->value;
    return add_explicit(b, p, e);
}

/* A volume of the image or of Config.Volumes; a target that is taken is taken. */
static int add_anonymous(struct building *b, const char *path, struct err *e)
{
    char *target;
    int rc = take_target(b->a, path, "of volume", &target, e);

    if (rc < 0 || find_target(b, target) < b->m.count)
        return rc;
    MountPoint *p = new_point(b->a, MOUNT_TYPE__VOLUME, target);
    p->has_anonymous = p->anonymous = true;
    p->spec = ARENA_NEW(b->a, Mount);
    mount__init(p->spec);
    return add_point(b, p, e);
}

static int add_inherited(struct building *b, const struct mounts_from *from, struct err *e)
{
    for (size_t i = 0; i < from->record->n_mounts; i++) {
        const MountPoint *theirs = from->record->mounts[i];

        if (theirs->type == MOUNT_TYPE__TMPFS || find_target(b, theirs->target) < b->m.count)
            continue;
        MountPoint *p = arena_message(b->a, &theirs->base);
        if (from->mode) {
            p->has_read_only = p->read_only = strcmp(from->mode, "ro") == 0;
            p->mode = arena_strdup(b->a, from->mode);
        }
        int rc = add_point(b, p, e);
        if (rc < 0)
            return rc;
        b->inherited[b->m.count - 1] = true;
    }
    return 0;
}

int mounts_from_parse(const char *text, struct arena *a, const char **ret_container, const char **ret_mode,
                      struct err *e)
{
    const char *colon = strchr(text, ':');
    const char *mode = colon && colon[1] ? colon + 1 : NULL;

    if (!*text || colon == text)
        return err_set(e, ERR_INVALID, "invalid VolumesFrom: \"%s\" names no container", text);
    if (mode && strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0 && strcasecmp(mode, "z") != 0)
        return err_set(e, ERR_INVALID, "invalid VolumesFrom: invalid mode of \"%s\": ro or rw expected", text);
    *ret_container = arena_strndup(a, text, strcspn(text, ":"));
    *ret_mode = mode && mode[0] == 'r' ? mode : NULL;
    return 0;
}

static int by_depth(const void *one, const void *other)
{
    const MountPoint *a = *(MountPoint *const *)one, *b = *(MountPoint *const *)other;
    unsigned depth_a = path_depth(a->target), depth_b = path_depth(b->target);

    return depth_a != depth_b ? (depth_a > depth_b) - (depth_a < depth_b) : strcmp(a->target, b->target);
}

int mounts_resolve(const ContainerConfig *config, const struct mounts_from *from, size_t from_count,
                   struct arena *a, struct mounts *ret, struct err *e)
{
    const HostConfig *host = config->host;
    struct building b = {.a = a};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < from_count; i++)
        rc = add_inherited(&b, &from[i], e);
    for (size_t i = 0; host && rc == 0 && i < host->n_binds; i++)
        rc = add_bind(&b, host->binds[i], e);
    for (size_t i = 0; host && rc == 0 && i < host->n_mounts; i++)
        rc = add_mount(&b, host->mounts[i], e);
    for (size_t i = 0; host && rc == 0 && i < host->n_tmpfs; i++)
        rc = add_tmpfs(&b, host->tmpfs[i], e);
    for (size_t i = 0; rc == 0 && i < config->n_volumes; i++)
        rc = add_anonymous(&b, config->volumes[i], e);
    if (rc < 0)
        return rc;
    if (b.m.count)
        qsort(b.m.points, b.m.count, sizeof(*b.m.points), by_depth);
    *ret = b.m;
    return 0;
}
