/* Writing a layer's directory (tree.h).
 *
 * An archive is a list of orders, and a hostile one gives contradicting orders: a link where a directory stood,
 * then a file below the link. What holds here:
 *
 * - Nothing outside of the root is ever opened: RESOLVE_BENEATH refuses absolute links and those that climb above
 * it, and the kernel checks at the moment of use, so there is no gap between looking and doing.
 * - New things are made exclusively (O_EXCL, mkdirat, symlinkat...), never written through what stands there.
 * - A later entry replaces an earlier one of its name, as with every other reader of layers. A directory with
 * content is only replaced by a directory (which keeps the content); anything else is refused.
 * - Hard links are made to entries of this layer only. One to a file of a lower layer is refused by name: the lower
 *   layers are not here, and no builder writes such a link.
 *
 * Whiteouts speak about lower layers only, so an entry of this layer wins over a whiteout of its name, in either
 * order; a directory and a whiteout of one name together are an opaque directory.
 *
 * Parents that have no entry are made root's, 0755. A directory's time is set at the end, as its content would
 * change it; the list of those is the one thing that grows with the archive, and it is bounded. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/job/tree.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

#define TIMES_MAX ((size_t)24 << 20) /* bytes for the times of directories: a quarter of a million of them */

struct tree {
    int root_fd; /* borrowed */
    int (*on_opaque)(void *ctx, const char *path, struct err *e);
    void *ctx;
    char parent[LAYER_PATH_MAX + 1]; /* the directory that parent_fd stands for */
    int parent_fd;                   /* -1: none */
    bool replaced;                   /* an entry gave way, maybe one that `parent` leads through */
    int file_fd;                     /* the file being written, or -1 */
    struct layer_entry file;         /* its owner, mode and time */
    struct layer_xattr *xattrs;      /* owned copies of its attributes */
    size_t xattr_count;
    uint64_t written; /* end of the last data block */
    struct buf times; /* struct directory_time and path, one after the other */
};

struct directory_time {
    int64_t mtime_s;
    int32_t mtime_ns;
    uint16_t path_length;
};

static int beneath(int fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | resolve,
    };
    long got;

    do
        got = syscall(SYS_openat2, fd, path, &how, sizeof(how));
    while (got < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)got;
}

/* --- directories on the way ---------------------------------------------------------------------- */

static void forget_parent(struct tree *t)
{
    if (t->parent_fd >= 0)
        close(t->parent_fd);
    t->parent_fd = -1;
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int why_not(const char *path, struct err *e)
{
    char shown[LAYER_SHOWN];

    layer_show(path, shown);
    if (errno == EXDEV)
        return err_set(e, ERR_INVALID, "the directory %s leads out of the layer through a link", shown);
    if (errno == ENOTDIR)
        return err_set(e, ERR_INVALID, "%s on its way is no directory", shown);
    if (errno == ELOOP)
        return err_set(e, ERR_INVALID, "the directory %s is a loop of links", shown);
    return err_errno(e, "open the directory %s", shown);
}

/* Open the directory `path` whose parent is open as `above`, making it when it is missing. */
static int step_into(struct tree *t, int above, const char *path, int *ret, struct err *e)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool hidden = false;
    struct stat st;
    int fd = beneath(t->root_fd, path, O_PATH | O_DIRECTORY, 0, 0);

    if (fd < 0 && errno == ENOTDIR && fstatat(above, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(&st)) {
        /* Hidden below and made anew here: an opaque directory. */
        if (unlinkat(above, name, 0) < 0)
            return err_errno(e, "replace a whiteout");
        hidden = true;
        errno = ENOENT;
    }
    if (fd < 0 && errno == ENOENT) {
        if (mkdirat(above, name, 0755) < 0) {
            /* A link stands there that leads nowhere, else openat2 had found what is there. */
            if (errno == EEXIST)
                errno = ENOTDIR;
            return why_not(path, e);
        }
        fd = beneath(t->root_fd, path, O_PATH | O_DIRECTORY, 0, 0);
    }
    if (fd < 0)
        return why_not(path, e);
    int rc = hidden ? t->on_opaque(t->ctx, path, e) : 0;
    if (rc < 0)
        close(fd);
    else
        *ret = fd;
    return rc;
}

/* Open a directory by its path from the root, with what is missing on the way. */
static int open_parent(struct tree *t, const char *path, int *ret, struct err *e)
{
    char prefix[LAYER_PATH_MAX + 1];
    AUTO_CLOSE
    int fd = beneath(t->root_fd, *path ? path : ".", O_PATH | O_DIRECTORY, 0, 0);

    if (fd >= 0) {
        *ret = steal_fd(&fd);
        return 0;
    }
    if (errno != ENOENT && errno != ENOTDIR)
        return why_not(path, e);
    for (const char *end = path; *end;) {
        int next = -1;

        end += *end == '/';
        end += strcspn(end, "/");
        memcpy(prefix, path, (size_t)(end - path));
        prefix[end - path] = '\0';
        int rc = step_into(t, fd >= 0 ? fd : t->root_fd, prefix, &next, e);
        if (rc < 0)
            return rc;
        if (fd >= 0)
            close(fd);
        fd = next;
    }
    *ret = steal_fd(&fd);
    return 0;
}

/* The directory that holds `path`, kept open while entries follow each other in one directory, and the last name.
 */
static int enter_parent(struct tree *t, const char *path, const char **ret_name, struct err *e)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;

    *ret_name = slash ? slash + 1 : path;
    if (t->parent_fd >= 0 && !t->replaced && strlen(t->parent) == length && memcmp(t->parent, path, length) == 0)
        return 0;
    forget_parent(t);
    t->replaced = false;
    memcpy(t->parent, path, length);
    t->parent[length] = '\0';
    return open_parent(t, t->parent, &t->parent_fd, e);
}

/* --- entries ----------------------------------------------------------------------------------------------------
 */

/* Make room for an entry that is no directory. */
static int clear_place(struct tree *t, const char *name, struct err *e)
{
    struct stat st;

    if (fstatat(t->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "look at what stands there");
    t->replaced = true;
    if (unlinkat(t->parent_fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0) {
        if (errno == ENOTEMPTY || errno == EEXIST)
            return err_set(e, ERR_INVALID, "it would replace a directory that has content");
        return err_errno(e, "replace what stands there");
    }
    return 0;
}

static int set_xattr(int fd, const struct layer_xattr *x, struct err *e)
{
    if (fsetxattr(fd, x->name, x->value, x->size, 0) == 0)
        return 0;
    /* A file system without user attributes loses them; capabilities of programs must not get lost in silence. */
    if (errno == EOPNOTSUPP && strncmp(x->name, "user.", 5) == 0)
        return 0;
    return err_errno(e, "set the attribute %.64s", x->name);
}

static int set_xattrs(int fd, const struct layer_xattr *xattrs, size_t count, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++)
        rc = set_xattr(fd, &xattrs[i], e);
    return rc;
}

static int remember_time(struct tree *t, const struct layer_entry *entry, struct err *e)
{
    struct directory_time time = {
        .mtime_s = entry->mtime_s,
        .mtime_ns = (int32_t)entry->mtime_ns,
        .path_length = (uint16_t)strlen(entry->path),
    };

    if (t->times.length > TIMES_MAX)
        return err_set(e, ERR_LIMIT, "the layer has too many directories");
    buf_append(&t->times, &time, sizeof(time));
    buf_append(&t->times, entry->path, time.path_length);
    return 0;
}

static int put_directory(struct tree *t, const struct layer_entry *entry, const char *name, struct err *e)
{
    bool hidden = false;
    struct stat st;

    if (*entry->path) {
        bool there = fstatat(t->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;

        if (!there && errno != ENOENT)
            return err_errno(e, "look at what stands there");
        if (there && !S_ISDIR(st.st_mode)) {
            hidden = is_whiteout(&st);
            t->replaced = true;
            if (unlinkat(t->parent_fd, name, 0) < 0)
                return err_errno(e, "replace what stands there");
            there = false;
        }
        if (!there && mkdirat(t->parent_fd, name, 0700) < 0)
            return err_errno(e, "make the directory");
    }
    AUTO_CLOSE
    int fd = *entry->path ? beneath(t->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS)
                          : beneath(t->root_fd, ".", O_RDONLY | O_DIRECTORY, 0, 0);
    if (fd < 0)
        return err_errno(e, "open the directory");
    if (fchown(fd, entry->uid, entry->gid) < 0)
        return err_errno(e, "set its owner");
    if (fchmod(fd, entry->mode) < 0)
        return err_errno(e, "set its mode");
    int rc = set_xattrs(fd, entry->xattrs, entry->xattr_count, e);
    if (rc == 0 && hidden)
        rc = t->on_opaque(t->ctx, entry->path, e);
    return rc < 0 ? rc : remember_time(t, entry, e);
}

static void keep_xattrs(struct tree *t, const struct layer_entry *entry)
{
    t->xattr_count = entry->xattr_count;
    t->xattrs = t->xattr_count ? mem_array(t->xattr_count, sizeof(*t->xattrs)) : NULL;
    for (size_t i = 0; i < t->xattr_count; i++)
        t->xattrs[i] =
            (struct layer_xattr){mem_strdup(entry->xattrs[i].name),
                                 mem_dup(entry->xattrs[i].value, entry->xattrs[i].size), entry->xattrs[i].size};
}

static void drop_xattrs(struct tree *t)
{
    for (size_t i = 0; i < t->xattr_count; i++) {
        free((void *)t->xattrs[i].name);
        free((void *)t->xattrs[i].value);
    }
    free(t->xattrs);
    t->xattrs = NULL;
    t->xattr_count = 0;
}

static int put_file(struct tree *t, const struct layer_entry *entry, const char *name, struct err *e)
{
    t->file_fd = beneath(t->parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, RESOLVE_NO_SYMLINKS);
    if (t->file_fd < 0)
        return err_errno(e, "make the file");
    t->file = *entry;
    t->written = 0;
    keep_xattrs(t, entry);
    return 0;
}

static int put_hardlink(struct tree *t, const struct layer_entry *entry, const char *name, struct err *e)
{
    const char *slash = strrchr(entry->link, '/');
    char shown[LAYER_SHOWN], directory[LAYER_PATH_MAX + 1];
    size_t length = slash ? (size_t)(slash - entry->link) : 0;
    struct stat st;

    layer_show(entry->link, shown);
    memcpy(directory, entry->link, length);
    directory[length] = '\0';
    AUTO_CLOSE
    int fd = beneath(t->root_fd, length ? directory : ".", O_PATH | O_DIRECTORY, 0, 0);
    if (fd < 0 && errno != ENOENT)
        return why_not(directory, e);
    const char *target = slash ? slash + 1 : entry->link;
    if (fd < 0 || fstatat(fd, target, &st, AT_SYMLINK_NOFOLLOW) < 0 || is_whiteout(&st))
        return err_set(e, ERR_INVALID, "it is a hard link to %s, which this layer does not hold", shown);
    if (S_ISDIR(st.st_mode))
        return err_set(e, ERR_INVALID, "it is a hard link to the directory %s", shown);
    if (linkat(fd, target, t->parent_fd, name, 0) < 0)
        return err_errno(e, "link to %s", shown);
    return 0;
}

static int put_node(struct tree *t, const struct layer_entry *entry, const char *name, struct err *e)
{
    struct timespec times[2] = {{entry->mtime_s, entry->mtime_ns}, {entry->mtime_s, entry->mtime_ns}};
    int rc;

    if (entry->kind == LAYER_SYMLINK)
        rc = symlinkat(entry->link, t->parent_fd, name);
    else if (entry->kind == LAYER_FIFO)
        rc = mknodat(t->parent_fd, name, S_IFIFO | 0600, 0);
    else
        rc = mknodat(t->parent_fd, name, (entry->kind == LAYER_BLOCK ? S_IFBLK : S_IFCHR) | 0600,
                     makedev(entry->device_major, entry->device_minor));
    if (rc < 0)
        return err_errno(e, "make it");
    if (fchownat(t->parent_fd, name, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "set its owner");
    /* Nobody else works in this directory, so the name still is what was just made and no link. */
    if (entry->kind != LAYER_SYMLINK && fchmodat(t->parent_fd, name, entry->mode, 0) < 0)
        return err_errno(e, "set its mode");
    if (utimensat(t->parent_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "set its time");
    return 0;
}

static int put_whiteout(struct tree *t, const struct layer_entry *entry, const char *name, struct err *e)
{
    struct stat st;

    if (fstatat(t->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISDIR(st.st_mode) ? t->on_opaque(t->ctx, entry->path, e) : 0;
    if (errno != ENOENT)
        return err_errno(e, "look at what stands there");
    if (mknodat(t->parent_fd, name, S_IFCHR, makedev(0, 0)) < 0)
        return err_errno(e, "make the whiteout");
    return 0;
}

static int on_entry(void *ctx, const struct layer_entry *entry, struct err *e)
{
    struct tree *t = ctx;
    const char *name;

    if (entry->kind == LAYER_OPAQUE) {
        int fd = -1;
        int rc = open_parent(t, entry->path, &fd, e); /* it may have no entry of its own */

        if (rc < 0)
            return rc;
        close(fd);
        return t->on_opaque(t->ctx, entry->path, e);
    }
    int rc = enter_parent(t, entry->path, &name, e);
    if (rc < 0)
        return rc;
    if (entry->kind == LAYER_WHITEOUT)
        return put_whiteout(t, entry, name, e);
    if (entry->kind == LAYER_DIRECTORY)
        return put_directory(t, entry, name, e);
    rc = clear_place(t, name, e);
    if (rc < 0)
        return rc;
    if (entry->kind == LAYER_FILE)
        return put_file(t, entry, name, e);
    if (entry->kind == LAYER_HARDLINK)
        return put_hardlink(t, entry, name, e);
    return put_node(t, entry, name, e);
}

static int on_data(void *ctx, uint64_t offset, const void *data, size_t size, struct err *e)
{
    struct tree *t = ctx;
    const char *at = data;

    while (size) {
        ssize_t wrote = pwrite(t->file_fd, at, size, (off_t)offset);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return err_errno(e, "write %zu bytes", size);
        at += wrote;
        size -= (size_t)wrote;
        offset += (uint64_t)wrote;
    }
    t->written = MAX(t->written, offset);
    return 0;
}

static int on_end(void *ctx, struct err *e)
{
    struct tree *t = ctx;
    struct timespec times[2] = {{t->file.mtime_s, t->file.mtime_ns}, {t->file.mtime_s, t->file.mtime_ns}};
    int rc = 0;

    /* A sparse file may end in a hole. */
    if (t->written < t->file.size && ftruncate(t->file_fd, (off_t)t->file.size) < 0)
        rc = err_errno(e, "set its size to %llu", (unsigned long long)t->file.size);
    /* Owner before mode, which loses its set-id bits to a change of owner, and before attributes, which lose the
     * capabilities. */
    if (rc == 0 && fchown(t->file_fd, t->file.uid, t->file.gid) < 0)
        rc = err_errno(e, "set its owner");
    if (rc == 0 && fchmod(t->file_fd, t->file.mode) < 0)
        rc = err_errno(e, "set its mode");
    if (rc == 0)
        rc = set_xattrs(t->file_fd, t->xattrs, t->xattr_count, e);
    if (rc == 0 && futimens(t->file_fd, times) < 0)
        rc = err_errno(e, "set its time");
    drop_xattrs(t);
    if (close(steal_fd(&t->file_fd)) < 0 && rc == 0)
        rc = err_errno(e, "close the file");
    return rc;
}

/* --- life ---------------------------------------------------------------------------------------- */

struct tree *tree_new(int root_fd, int (*on_opaque)(void *ctx, const char *path, struct err *e), void *ctx)
{
    struct tree *t = mem_alloc(sizeof(*t));

    t->root_fd = root_fd;
    t->on_opaque = on_opaque;
    t->ctx = ctx;
    t->parent_fd = t->file_fd = -1;
    return t;
}

void tree_free(struct tree *t)
{
    if (!t)
        return;
    forget_parent(t);
    if (t->file_fd >= 0)
        close(t->file_fd);
    drop_xattrs(t);
    buf_fini(&t->times);
    free(t);
}

struct layer_sink tree_sink(struct tree *t)
{
    return (struct layer_sink){.ctx = t, .entry = on_entry, .data = on_data, .end = on_end};
}

int tree_finish(struct tree *t, struct err *e)
{
    char path[LAYER_PATH_MAX + 1], shown[LAYER_SHOWN];

    forget_parent(t);
    while (t->times.length) {
        struct directory_time time;

        memcpy(&time, buf_bytes(&t->times), sizeof(time));
        buf_consume(&t->times, sizeof(time));
        memcpy(path, buf_bytes(&t->times), time.path_length);
        path[time.path_length] = '\0';
        buf_consume(&t->times, time.path_length);
        AUTO_CLOSE
        int fd = beneath(t->root_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0);
        struct timespec times[2] = {{time.mtime_s, time.mtime_ns}, {time.mtime_s, time.mtime_ns}};
        if (fd < 0)
            continue; /* replaced by a later entry */
        if (futimens(fd, times) < 0)
            return err_errno(e, "set the time of %s", layer_show(path, shown));
    }
    return 0;
}
