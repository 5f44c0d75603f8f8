/* The first use of a volume: the image's files at its target are copied into it (child.h, child_copy_up).
 *
 * Both sides are walked by descriptor and without following a link, so neither an image nor a volume that somebody
 * else also has mounted can lead the copy elsewhere. Directories are descended with an explicit limit, files are
 * cloned or copied in the kernel, and the names of one inode become hard links again. Owner, mode, times and
 * extended attributes are set when a thing is complete, modes last, since a change of owner clears the set-user-id
 * bit. Sockets are left out: nobody can be listening. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/keeper/child.h"
#include "proto/base/file.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define DEPTH_MAX  256
#define XATTR_SIZE 65536 /* the kernel's limit for a value and for a list */

struct copy {
    int top;             /* the volume's root: hard links are made by path from here */
    struct map64 links;  /* inode number of a source file with several names -> path of its copy below top */
    struct buf path;     /* of what is being copied, below top */
    char *names, *value; /* room for extended attributes; XATTR_SIZE each */
    bool named;          /* the error says already what was being copied */
};

static bool overlay_internal(const char *name)
{
    return strncmp(name, "trusted.overlay.", 16) == 0 || strncmp(name, "user.overlay.", 13) == 0;
}

/* What a file system on the volume's side cannot hold is left out: the copy is worth having without. */
static bool attribute_lost(int number)
{
    return number == EOPNOTSUPP || number == ENOTSUP;
}

static int copy_attributes(struct copy *c, int from, int to, struct err *e)
{
    ssize_t size = flistxattr(from, c->names, XATTR_SIZE);

    if (size < 0)
        return attribute_lost(errno) ? 0 : err_errno(e, "list attributes");
    for (const char *name = c->names; name < c->names + size; name += strlen(name) + 1) {
        ssize_t length = overlay_internal(name) ? -1 : fgetxattr(from, name, c->value, XATTR_SIZE);

        if (length >= 0 && fsetxattr(to, name, c->value, (size_t)length, 0) < 0 && !attribute_lost(errno))
            return err_errno(e, "set attribute %s", name);
    }
    return 0;
}

static int finish(struct copy *c, int from, int to, const struct stat *st, struct err *e)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};

    if (fchown(to, st->st_uid, st->st_gid) < 0)
        return err_errno(e, "set owner");
    int rc = copy_attributes(c, from, to, e); /* after the owner: a change clears security.capability */
    if (rc == 0 && (fchmod(to, st->st_mode & 07777) < 0 || futimens(to, times) < 0))
        rc = err_errno(e, "set mode and times");
    return rc;
}

static int copy_bytes(int from, int to, off_t size, struct err *e)
{
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    for (off_t done = 0; done < size;) {
        ssize_t moved = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);

        if (moved < 0 && errno == EINTR)
            continue;
        if (moved < 0 && done == 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
            break;
        if (moved < 0)
            return err_errno(e, "copy");
        if (moved == 0)
            return 0;
        done += moved;
        if (done >= size)
            return 0;
    }
    char block[65536];
    ssize_t got;
    while ((got = read(from, block, sizeof(block))) > 0) {
        int rc = write_all(to, block, (size_t)got, e);
        if (rc < 0)
            return rc;
    }
    return got < 0 ? err_errno(e, "read") : 0;
}

static int copy_file(struct copy *c, int from_dir, int to_dir, const char *name, const struct stat *st,
                     struct err *e)
{
    const char *earlier = st->st_nlink > 1 ? map64_get(&c->links, st->st_ino) : NULL;

    if (earlier) {
        if (linkat(c->top, earlier, to_dir, name, 0) < 0)
            return err_errno(e, "link to %s", earlier);
        return 0;
    }
    AUTO_CLOSE
    int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0)
        return err_errno(e, "open");
    AUTO_CLOSE
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return err_errno(e, "make");
    int rc = copy_bytes(from, to, st->st_size, e);
    if (rc == 0)
        rc = finish(c, from, to, st, e);
    if (rc == 0 && st->st_nlink > 1)
        map64_put(&c->links, st->st_ino, mem_strdup(buf_str(&c->path)));
    return rc;
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st, struct err *e)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    char target[4096];
    ssize_t length = readlinkat(from_dir, name, target, sizeof(target) - 1);

    if (length < 0)
        return err_errno(e, "read link");
    target[length] = '\0';
    if (symlinkat(target, to_dir, name) < 0 ||
        fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "make link");
    return 0;
}

static int copy_node(int to_dir, const char *name, const struct stat *st, struct err *e)
{
    if (S_ISSOCK(st->st_mode))
        return 0;
    if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0 ||
        fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "make node");
    return 0;
}

static int copy_directory(struct copy *c, int from, int to, int depth, struct err *e);

static int copy_subdirectory(struct copy *c, int from_dir, int to_dir, const char *name, const struct stat *st,
                             int depth, struct err *e)
{
    AUTO_CLOSE
    int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (from < 0)
        return err_errno(e, "open");
    if (mkdirat(to_dir, name, 0700) < 0)
        return err_errno(e, "make directory");
    AUTO_CLOSE
    int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return err_errno(e, "open the copy");
    int rc = copy_directory(c, from, to, depth + 1, e);
    return rc == 0 ? finish(c, from, to, st, e) : rc;
}

static int copy_entry(struct copy *c, int from, int to, const char *name, int depth, struct err *e)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "look");
    if (S_ISDIR(st.st_mode))
        return copy_subdirectory(c, from, to, name, &st, depth, e);
    if (S_ISREG(st.st_mode))
        return copy_file(c, from, to, name, &st, e);
    if (S_ISLNK(st.st_mode))
        return copy_link(from, to, name, &st, e);
    return copy_node(to, name, &st, e);
}

static int copy_directory(struct copy *c, int from, int to, int depth, struct err *e)
{
    int listed = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    size_t length = c->path.length;
    const struct dirent *entry;
    int rc = 0;

    if (!dir)
        return err_errno(e, "list directory");
    if (depth > DEPTH_MAX)
        rc = err_set(e, ERR_LIMIT, "more than %d levels deep", DEPTH_MAX);
    while (rc == 0 && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (length)
            buf_append_char(&c->path, '/');
        buf_append_str(&c->path, entry->d_name);
        rc = copy_entry(c, from, to, entry->d_name, depth, e);
        if (rc < 0 && !c->named)
            err_wrap(e, "copy %s into the volume", buf_str(&c->path));
        c->named = rc < 0;
        c->path.length = length;
    }
    closedir(dir);
    return rc;
}

static bool directory_is_empty(int fd)
{
    int listed = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    const struct dirent *entry;
    bool empty = dir != NULL;

    while (empty && (entry = readdir(dir)))
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (dir)
        closedir(dir);
    return empty;
}

int child_copy_up(int from, int to, struct err *e)
{
    AUTO_CLOSE
    int top = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* `to` may be a mount's O_PATH */
    struct copy c = {.top = top, .names = mem_alloc(XATTR_SIZE), .value = mem_alloc(XATTR_SIZE)};
    struct stat st;
    int rc = 0;

    if (top < 0 || fstat(from, &st) < 0)
        rc = err_errno(e, "open the volume");
    else if (directory_is_empty(top)) {
        rc = copy_directory(&c, from, top, 0, e);
        if (rc == 0)
            rc = finish(&c, from, top, &st, e);
    }
    size_t at = 0;
    void *path;
    while ((path = map64_next(&c.links, &at)))
        free(path);
    map64_fini(&c.links);
    buf_fini(&c.path);
    free(c.names);
    free(c.value);
    return rc;
}
