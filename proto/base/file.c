/* See file.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"

#define LEVELS_MAX 64 /* descriptors a removal holds open */
#define RACES_MAX  64 /* times a path is resolved anew because something was renamed meanwhile */

int file_read_all(int fd, size_t size_max, struct buf *into, struct err *e)
{
    size_t total = 0;

    for (;;) {
        ssize_t got = read(fd, buf_reserve(into, 16384), 16384);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, "read");
        if (got == 0)
            return 0;
        total += (size_t)got;
        if (total > size_max)
            return err_set(e, ERR_LIMIT, "larger than %zu bytes", size_max);
        buf_added(into, (size_t)got);
    }
}

int file_read(int dir_fd, const char *path, size_t size_max, struct buf *into, struct err *e)
{
    AUTO_CLOSE
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, "open %s", path);
    int rc = file_read_all(fd, size_max, into, e);
    if (rc < 0)
        err_wrap(e, "%s", path);
    return rc;
}

int write_all(int fd, const void *data, size_t size, struct err *e)
{
    const char *at = data;

    while (size) {
        ssize_t wrote = write(fd, at, size);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return wrote < 0 ? err_errno(e, "write %zu bytes", size) : err_set(e, ERR_IO, "write took nothing");
        at += wrote;
        size -= (size_t)wrote;
    }
    return 0;
}

/* Give what was written aside its name. Unless it was synced before, it is exchanged with what bears the name and
 * that is removed, since ext4 writes a file out at once when it is renamed over another: in our caller's time, and
 * for nothing when the file is soon replaced again or goes. */
static int take_name(int dir_fd, const char *aside, const char *name, bool synced)
{
    if (!synced && renameat2(dir_fd, aside, dir_fd, name, RENAME_EXCHANGE) == 0) {
        if (unlinkat(dir_fd, aside, 0) == 0)
            return 0;
        int number = errno; /* it is a directory: the name stays its own */
        (void)renameat2(dir_fd, aside, dir_fd, name, RENAME_EXCHANGE);
        errno = number;
        return -1;
    }
    return renameat(dir_fd, aside, dir_fd, name);
}

int file_replace(int dir_fd, const char *name, mode_t mode, const void *data, size_t size, bool sync, struct err *e)
{
    AUTO_FREE
    char *aside = mem_printf(".%s.tmp", name);
    if (unlinkat(dir_fd, aside, 0) < 0 && errno != ENOENT) /* a crash's leftover may have another mode */
        return err_errno(e, "remove %s", aside);
    AUTO_CLOSE
    int fd = openat(dir_fd, aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, "create %s", aside);
    int rc = write_all(fd, data, size, e);
    if (rc < 0) {
        err_wrap(e, "%s", aside);
        goto undo;
    }
    if (sync && fdatasync(fd) < 0) {
        rc = err_errno(e, "sync %s", aside);
        goto undo;
    }
    if (take_name(dir_fd, aside, name, sync) < 0) {
        rc = err_errno(e, "rename %s to %s", aside, name);
        goto undo;
    }
    if (sync && fsync(dir_fd) < 0)
        return err_errno(e, "sync directory of %s", name);
    return 0;
undo:
    (void)unlinkat(dir_fd, aside, 0); /* best effort: the next try truncates it */
    return rc;
}

int dir_make(const char *path, mode_t mode, struct err *e)
{
    AUTO_FREE
    char *copy = mem_strdup(path);

    if (!*path)
        return err_set(e, ERR_INVALID, "make directory: the path is empty");
    for (char *at = copy + 1;; at++) {
        if (*at && *at != '/')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return err_errno(e, "make directory %s", copy);
        if (!end)
            break;
        *at = end;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(e, "look at %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is not a directory", path);
    return 0;
}

int dir_open(const char *path, int *ret_fd, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, "open directory %s", path);
    *ret_fd = fd;
    return 0;
}

/* --- removing a tree ----------------------------------------------------------------------------- */

/* Depth first, one descriptor per level. A container can nest directories without end, so below LEVELS_MAX a
 * directory is first moved up to the top of the tree, where the next pass finds it. */
struct removal {
    int top;        /* the tree's own directory */
    unsigned moved; /* directories moved up to it */
    bool again;     /* one was moved since its entries were listed */
};

static int open_plain(int dir_fd, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS, /* bind mounts included, whatever their device */
    };

    return (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
}

static int move_up(struct removal *r, int dir_fd, const char *name, struct err *e)
{
    char to[32];
    int rc;

    do {
        (void)snprintf(to, sizeof(to), ".removing.%u", r->moved++);
        rc = renameat2(dir_fd, name, r->top, to, RENAME_NOREPLACE);
    } while (rc < 0 && errno == EEXIST);
    if (rc < 0 && errno != ENOENT)
        return err_errno(e, "move %s up", name);
    r->again = true;
    return 0;
}

static int remove_entries(struct removal *r, int fd, int level, struct err *e);

static int remove_one(struct removal *r, int dir_fd, const char *name, int level, struct err *e)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_errno(e, "remove %s", name);
    if (level > LEVELS_MAX)
        return move_up(r, dir_fd, name, e);
    int fd = open_plain(dir_fd, name);
    if (fd < 0 && errno == EXDEV)
        return err_set(e, ERR_CONFLICT, "remove %s: something is mounted there", name);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, "open %s", name);
    int rc = remove_entries(r, fd, level + 1, e); /* closes fd */
    if (rc < 0)
        return rc;
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_errno(e, "remove directory %s", name);
    return 0;
}

static int remove_entries(struct removal *r, int fd, int level, struct err *e)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    int rc = 0;

    if (!dir) {
        rc = err_errno(e, "list directory");
        close(fd);
        return rc;
    }
    if (level == 1)
        r->top = fd;
    do {
        r->again = level == 1 ? false : r->again;
        rewinddir(dir);
        while (rc == 0 && (entry = readdir(dir))) {
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                rc = remove_one(r, fd, entry->d_name, level, e);
        }
    } while (rc == 0 && level == 1 && r->again);
    closedir(dir);
    return rc;
}

int tree_remove(int dir_fd, const char *name, struct err *e)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    AUTO_FREE
    char *parent = slash ? mem_strndup(name, (size_t)(slash - name) + 1) : mem_strdup(".");
    AUTO_CLOSE
    int parent_fd = openat(dir_fd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct removal r = {.top = -1};

    if (*base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return err_set(e, ERR_INVALID, "remove %s: not the name of an entry", name);
    if (parent_fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, "open directory of %s", name);
    return remove_one(&r, parent_fd, base, 0, e);
}

/* --- paths inside a root ------------------------------------------------------------------------- */

int root_open(int root_fd, const char *path, int flags, mode_t mode, int *ret_fd, struct err *e)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int races = 0;
    long fd;

    do
        fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || (errno == EAGAIN && races++ < RACES_MAX))); /* a rename raced with ".." */
    if (fd < 0)
        return err_errno(e, "open %s inside its root", path);
    *ret_fd = (int)fd;
    return 0;
}

int root_mkdirs(int root_fd, const char *path, int *ret_fd, struct err *e)
{
    AUTO_FREE
    char *copy = mem_strdup(path);
    AUTO_CLOSE
    int fd = -1;
    int rc;

    /* Each prefix is resolved from the root again, so links inside the root are followed as the container would. */
    for (char *at = copy;; at++) {
        if (*at && *at != '/')
            continue;
        char end = *at;
        *at = '\0';
        if (*copy) {
            int next = -1;

            rc = root_open(root_fd, copy, O_PATH | O_DIRECTORY, 0, &next, e);
            if (rc == ERR_NOT_FOUND) {
                const char *slash = strrchr(copy, '/');
                const char *name = slash ? slash + 1 : copy;

                if (mkdirat(fd >= 0 ? fd : root_fd, name, 0755) < 0 && errno != EEXIST)
                    return err_errno(e, "make directory %s", copy);
                rc = root_open(root_fd, copy, O_PATH | O_DIRECTORY, 0, &next, e);
            }
            if (rc < 0)
                return rc;
            if (fd >= 0)
                close(fd);
            fd = next;
        }
        if (!end)
            break;
        *at = end;
    }
    if (fd < 0) {
        rc = root_open(root_fd, "/", O_PATH | O_DIRECTORY, 0, &fd, e);
        if (rc < 0)
            return rc;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}
