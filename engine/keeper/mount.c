/* Steps that mount, and the way from the host's mounts into the container's.
 *
 * The child begins with a copy of the host's mount table, makes it private, puts a small tmpfs (the staging root)
 * over it and pivots, so that the copy is gone before any container is known. The sandbox (/proc, /sys, /dev and
 * what is below them, with masks) is built in the staging root. A plan's overlay is then mounted at its "root"
 * directory, the sandbox is moved into it, three mounts with everything on them, and a second pivot ends the
 * staging root.
 *
 *     host copy -> staging: proc sys dev null empty root -> root: proc sys dev ...
 *
 * Mounts are made detached and attached by descriptor; targets are descriptors found inside the root (inode.c).
 * Nothing ever appears in the host's mount table.
 *
 * Overlay's layers come as descriptors of the mount namespace in which shoald opened them. The kernel takes layers
 * only from the caller's own namespace, so the child goes back there for the four calls that make the overlay.
 *
 * Masks are made of inodes of our own in the staging tmpfs: a null device and an empty directory, read-only.
 * Nothing is taken from the container's /dev, which it could have replaced, nor from the host's, whose permissions
 * it could change (the class of CVE-2025-31133). */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/container/procfs.h"
#include "engine/keeper/child.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define STAGING_NULL  "null"
#define STAGING_EMPTY "empty"
#define STAGING_ROOT  "root"
#define MASK_ATTRS    (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)

static int set_attributes(int mount_fd, bool recursive, uint64_t set, uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .propagation = propagation};

    if (set == 0 && propagation == 0)
        return 0;
    /* Kinds of access time exclude each other, so setting one clears the others. */
    if (set & MOUNT_ATTR__ATIME)
        attr.attr_clr = MOUNT_ATTR__ATIME;
    return (int)syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
                        sizeof(attr));
}

int child_attach(int mount_fd, int target_fd, const char *target, struct err *e)
{
    if (syscall(SYS_move_mount, mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(e, "mount %s", target);
    return 0;
}

int child_clone_tree(int dir_fd, const char *path, bool recursive, int *ret_fd, struct err *e)
{
    long fd = syscall(SYS_open_tree, dir_fd, path,
                      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW |
                          (recursive ? AT_RECURSIVE : 0));

    if (fd < 0)
        return err_errno(e, "clone the mount of %s", *path ? path : "a descriptor");
    *ret_fd = (int)fd;
    return 0;
}

/* The kernel says in the context's own log what it did not like. */
static int context_error(int context, const char *what, struct err *e)
{
    int number = errno;
    char text[256];
    ssize_t got = read(context, text, sizeof(text) - 1);

    if (got <= 2 || text[0] != 'e')
        return err_number(e, number, "%s", what);
    text[got] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return err_number(e, number, "%s: %s", what, text + 2);
}

static int configure(int context, const char *option, struct err *e)
{
    const char *equals = strchr(option, '=');
    AUTO_FREE
    char *key = equals ? mem_strndup(option, (size_t)(equals - option)) : mem_strdup(option);
    long rc = equals ? syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, equals + 1, 0)
                     : syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, NULL, 0);

    return rc < 0 ? context_error(context, option, e) : 0;
}

static int create_mount(int context, const char *type, uint64_t attributes, int *ret_fd, struct err *e)
{
    if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return context_error(context, type, e);
    long fd = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    if (fd < 0)
        return err_errno(e, "%s", type);
    *ret_fd = (int)fd;
    return 0;
}

int child_new_mount(const char *type, char *const *options, size_t option_count, uint64_t attributes, int *ret_fd,
                    struct err *e)
{
    AUTO_CLOSE
    int context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
    int rc = 0;

    if (context < 0) /* ENODEV is "unsupported", which an optional mount may be */
        return err_errno(e, "file system %s", type);
    /* What df and mount show as its device; without it they say "none". Only a name, so a refusal is no matter. */
    (void)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", type, 0);
    for (size_t i = 0; rc == 0 && i < option_count; i++)
        rc = configure(context, options[i], e);
    return rc < 0 ? rc : create_mount(context, type, attributes, ret_fd, e);
}

/* --- into the staging root ------------------------------------------------------------------------- */

static int pivot_to(int mount_fd, struct err *e)
{
    /* Old and new root are stacked on one place; "." is the old one until it is unmounted. */
    if (fchdir(mount_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(e, "pivot to the new root");
    if (umount2(".", MNT_DETACH) < 0)
        return err_errno(e, "leave the old root");
    if (chdir("/") < 0)
        return err_errno(e, "enter the new root");
    return 0;
}

int child_enter_staging(struct child *c, struct err *e)
{
    static char size[] = "size=64k", mode[] = "mode=0755";
    char *const options[] = {size, mode};
    AUTO_CLOSE
    int slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = child_new_mount("tmpfs", options, ARRAY_SIZE(options), 0, &c->staging, e);

    if (rc < 0)
        return rc;
    if (slash < 0)
        return err_errno(e, "open /");
    rc = child_attach(c->staging, slash, "the staging root", e);
    if (rc == 0)
        rc = pivot_to(c->staging, e);
    if (rc < 0)
        return rc;
    if (mknodat(c->staging, STAGING_NULL, S_IFCHR | 0666, makedev(1, 3)) < 0 ||
        mkdirat(c->staging, STAGING_EMPTY, 0555) < 0 || mkdirat(c->staging, STAGING_ROOT, 0755) < 0)
        return err_errno(e, "fill the staging root");
    return 0;
}

/* --- the root -------------------------------------------------------------------------------------- */

static int layer_by_descriptor(int context, const char *key, int fd)
{
    return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_FD, key, NULL, fd);
}

static int layer_by_path(int context, const char *key, int fd)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, path, 0);
}

/* Kernels before 6.5 know all lower directories as one string only. */
static int layers_in_one(struct child *c, int context, const StepOverlay *s)
{
    AUTO_BUF struct buf list = {0};

    for (size_t i = 0; i < s->n_lower_fds; i++)
        buf_printf(&list, "%s/proc/self/fd/%d", i ? ":" : "", c->fds[s->lower_fds[i]]);
    return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "lowerdir", buf_str(&list), 0);
}

static int add_layers(struct child *c, int context, const StepOverlay *s, struct err *e)
{
    int (*add)(int context, const char *key, int fd) = layer_by_descriptor; /* since Linux 6.13 */
    int rc = 0;

    for (size_t i = 0; i < s->n_lower_fds; i++) {
        rc = add(context, "lowerdir+", c->fds[s->lower_fds[i]]);
        if (rc < 0 && i == 0) {
            add = layer_by_path; /* since Linux 6.5 */
            rc = add(context, "lowerdir+", c->fds[s->lower_fds[i]]);
        }
        if (rc < 0 && i == 0) {
            rc = layers_in_one(c, context, s);
            break;
        }
        if (rc < 0)
            break;
    }
    if (rc == 0 && s->has_upper_fd) {
        rc = add(context, "upperdir", c->fds[s->upper_fd]);
        if (rc == 0)
            rc = add(context, "workdir", c->fds[s->work_fd]);
    }
    return rc < 0 ? context_error(context, "overlay", e) : 0;
}

static int make_overlay(struct child *c, const StepOverlay *s, int *ret_fd, struct err *e)
{
    AUTO_CLOSE
    int context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);

    if (context < 0)
        return err_errno(e, "file system overlay");
    int rc = add_layers(c, context, s, e);
    if (rc == 0)
        rc = create_mount(context, "overlay", 0, ret_fd, e);
    return rc;
}

/* One directory needs no overlay: the upper one alone (an image without layers), or one layer read-only. */
static int make_plain_root(struct child *c, const StepOverlay *s, int *ret_fd, struct err *e)
{
    int fd = -1;
    int rc = child_clone_tree(c->fds[s->has_upper_fd ? s->upper_fd : s->lower_fds[0]], "", false, &fd, e);

    if (rc == 0 && set_attributes(fd, false, s->has_upper_fd ? 0 : MOUNT_ATTR_RDONLY, MS_PRIVATE) < 0) {
        rc = err_errno(e, "make the root read-only");
        close(fd);
    }
    if (rc == 0)
        *ret_fd = fd;
    return rc;
}

static int make_root(struct child *c, const StepOverlay *s, int *ret_fd, struct err *e)
{
    bool plain = s->n_lower_fds == 0 || (s->n_lower_fds == 1 && !s->has_upper_fd);

    if (setns(c->client_ns, CLONE_NEWNS) < 0)
        return err_errno(e, "enter the mount namespace of the layers");
    int rc = plain ? make_plain_root(c, s, ret_fd, e) : make_overlay(c, s, ret_fd, e);
    if (setns(c->own_ns, CLONE_NEWNS) < 0 && rc == 0)
        rc = err_errno(e, "return to our mount namespace");
    return rc;
}

/* A directory of the root by its plain name: never through a link, never something else (an image's /proc that is a
 * link would make us mount elsewhere). */
static int open_top(int root, const char *name, int *ret_fd, struct err *e)
{
    if (mkdirat(root, name, 0755) < 0 && errno != EEXIST)
        return err_errno(e, "make /%s in the root", name);
    int fd = openat(root, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, ERR_INVALID, "/%s in the image is not a directory", name);
    *ret_fd = fd;
    return 0;
}

static int move_tops(struct child *c, struct err *e)
{
    for (unsigned i = 0; i < c->top_count; i++) {
        AUTO_CLOSE
        int target = -1;
        int rc = open_top(c->root, c->tops[i], &target, e);

        if (rc < 0)
            return rc;
        if (syscall(SYS_move_mount, c->staging, c->tops[i], target, "", MOVE_MOUNT_T_EMPTY_PATH) < 0)
            return err_errno(e, "move /%s into the root", c->tops[i]);
    }
    return 0;
}

int child_overlay(struct child *c, const StepOverlay *s, struct err *e)
{
    AUTO_CLOSE
    int place = openat(c->staging, STAGING_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE
    int root = -1;

    if (place < 0)
        return err_errno(e, "open the place of the root");
    int rc = make_root(c, s, &root, e);
    if (rc == 0)
        rc = child_attach(root, place, "the root", e);
    if (rc < 0)
        return rc;
    c->root = steal_fd(&root);
    return move_tops(c, e);
}

int child_pivot(struct child *c, struct err *e)
{
    return pivot_to(c->root, e);
}

/* --- other mounts ---------------------------------------------------------------------------------- */

/* What is built in the staging root stands below its own mount, which will move: remember those mounts. */
static int note_top(struct child *c, const char *target, struct err *e)
{
    size_t length = strcspn(target + 1, "/");

    for (unsigned i = 0; i < c->top_count; i++)
        if (strlen(c->tops[i]) == length && memcmp(c->tops[i], target + 1, length) == 0)
            return 0;
    if (target[1 + length] != '\0' || length == 0 || c->top_count == CHILD_TOPS)
        return err_set(e, ERR_INVALID, "mount %s: nothing is mounted at its first directory", target);
    c->tops[c->top_count++] = arena_strndup(&c->arena, target + 1, length);
    return 0;
}

/* The target must not lead into /proc by whatever links the image has; looked at after it was opened. */
static int check_target(int fd, const char *path, struct err *e)
{
    struct statfs st;

    if (fstatfs(fd, &st) < 0)
        return err_errno(e, "mount %s", path);
    if (st.f_type != PROC_SUPER_MAGIC)
        return 0;
    if (procfs_may_be_covered(path))
        return 0;
    return err_set(e, ERR_INVALID, "mount %s: the place is inside /proc", path);
}

/* Keep hands on what later steps need without a path: /proc without masks, and the terminals. */
static int note_special(struct child *c, const StepMount *s, int mount_fd, struct err *e)
{
    if (!s->fstype || c->root >= 0)
        return 0;
    if (strcmp(s->fstype, "proc") == 0 && c->proc < 0)
        return child_clone_tree(mount_fd, "", false, &c->proc, e);
    if (strcmp(s->fstype, "devpts") == 0 && c->pts < 0) {
        c->pts = fcntl(mount_fd, F_DUPFD_CLOEXEC, 0);
        return c->pts < 0 ? err_errno(e, "keep the terminals") : 0;
    }
    return 0;
}

static uint64_t propagation_of(const StepMount *s)
{
    if (!s->propagation || strcmp(s->propagation, "private") == 0)
        return MS_PRIVATE;
    return strcmp(s->propagation, "slave") == 0 ? MS_SLAVE : MS_SHARED;
}

static int source_of(struct child *c, const StepMount *s, int host_mount, int *ret_fd, struct err *e)
{
    if (s->fstype)
        return child_new_mount(s->fstype, s->options, s->n_options, s->attributes, ret_fd, e);
    int fd = fcntl(s->has_source_fd ? c->fds[s->source_fd] : host_mount, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, "take the source");
    /* Propagation goes for the whole tree: what is mounted below came with it from the same place. */
    if (set_attributes(fd, true, 0, propagation_of(s)) < 0 ||
        set_attributes(fd, s->recursive, s->attributes, 0) < 0) {
        int rc = err_errno(e, "set the attributes of its mount");

        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static int mount_at(struct child *c, const StepMount *s, int host_mount, struct err *e)
{
    AUTO_CLOSE
    int source = -1;
    AUTO_CLOSE
    int target = -1;
    struct stat st;
    int rc = source_of(c, s, host_mount, &source, e);

    if (rc < 0)
        return rc;
    if (fstat(source, &st) < 0)
        return err_errno(e, "look at the source");
    bool directory = S_ISDIR(st.st_mode);
    rc = child_target(child_root(c), s->target, directory, s->create_target || c->root < 0, &target, e);
    if (rc == 0 && c->root >= 0)
        rc = check_target(target, s->target, e);
    if (rc == 0 && s->copy_up && directory) {
        AUTO_CLOSE
        int from = -1;

        if (root_open(c->root, s->target, O_RDONLY | O_DIRECTORY, 0, &from, NULL) == 0)
            rc = child_copy_up(from, source, e);
    }
    if (rc == 0)
        rc = child_attach(source, target, s->target, e);
    if (rc == 0)
        rc = note_special(c, s, source, e);
    return rc;
}

int child_mount(struct child *c, const StepMount *s, int host_mount, struct err *e)
{
    int rc = c->root < 0 ? note_top(c, s->target, e) : 0;

    if (rc < 0)
        return rc;
    rc = mount_at(c, s, host_mount, e);
    if (rc == ERR_UNSUPPORTED && s->optional)
        return 0;
    return rc < 0 ? err_wrap(e, "mount %s", s->target) : 0;
}

static int mask_one(struct child *c, const char *path, struct err *e)
{
    AUTO_CLOSE
    int target = -1;
    AUTO_CLOSE
    int cover = -1;
    struct stat st;
    int rc = child_target(child_root(c), path, false, false, &target, e);

    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc < 0)
        return rc;
    if (fstat(target, &st) < 0)
        return err_errno(e, "look at %s", path);
    rc = child_clone_tree(c->staging, S_ISDIR(st.st_mode) ? STAGING_EMPTY : STAGING_NULL, false, &cover, e);
    if (rc < 0)
        return rc;
    if (!S_ISDIR(st.st_mode) && (fstat(cover, &st) < 0 || !S_ISCHR(st.st_mode) ||
                                 st.st_rdev != makedev(1, 3))) /* ours, and still checked */
        return err_set(e, ERR_INTERNAL, "the null device is none");
    if (set_attributes(cover, false, MASK_ATTRS, MS_PRIVATE) < 0)
        return err_errno(e, "make the mask read-only");
    return child_attach(cover, target, path, e);
}

int child_mask(struct child *c, const StepMask *s, struct err *e)
{
    for (size_t i = 0; i < s->n_paths; i++)
        if (mask_one(c, s->paths[i], e) < 0)
            return err_wrap(e, "mask %s", s->paths[i]);
    return 0;
}

/* Whether something is mounted at just this place. */
static bool is_mount(int fd)
{
    struct statx st;

    return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static int read_only_one(struct child *c, const char *path, struct err *e)
{
    AUTO_CLOSE
    int target = -1;
    AUTO_CLOSE
    int clone = -1;

    if (strcmp(path, "/") == 0) {
        if (set_attributes(child_root(c), false, MOUNT_ATTR_RDONLY, 0) < 0)
            return err_errno(e, "change the root's mount");
        return 0;
    }
    int rc = child_target(child_root(c), path, false, false, &target, e);
    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc == 0 && is_mount(target)) {
        if (set_attributes(target, true, MOUNT_ATTR_RDONLY, 0) < 0)
            return err_errno(e, "change its mount");
        return 0;
    }
    if (rc == 0)
        rc = child_clone_tree(target, "", true, &clone, e);
    if (rc < 0)
        return rc;
    if (set_attributes(clone, true, MOUNT_ATTR_RDONLY, 0) < 0)
        return err_errno(e, "change its mount");
    return child_attach(clone, target, path, e);
}

int child_read_only(struct child *c, const StepReadOnly *s, struct err *e)
{
    for (size_t i = 0; i < s->n_paths; i++)
        if (read_only_one(c, s->paths[i], e) < 0)
            return err_wrap(e, "read-only %s", s->paths[i]);
    return 0;
}
