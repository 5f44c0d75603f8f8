/* Steps that make inodes: devices, links, directories, files; and the one way to find a mount's target.
 *
 * A target is always resolved inside the root by the kernel (openat2 with RESOLVE_IN_ROOT, proto/base/file.h), and
 * what is missing is made relative to descriptors so found. An image may have any link anywhere: /etc/resolv.conf
 * that points to a file which is not there, /data that points to /proc. The first is followed and made, inside the
 * root; the second is the caller's to refuse by looking at what the descriptor is, not at what the path says. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/keeper/child.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define LINKS_MAX 40 /* as the kernel's own limit */

static int target_at(int root, const char *path, bool directory, bool create, int links, int *ret_fd,
                     struct err *e);

/* The directory that holds a path's last component, made when missing, and that component. */
static int target_parent(int root, const char *path, bool create, int links, int *ret_fd, const char **ret_name,
                         char **ret_parent, struct err *e)
{
    const char *end = path + strlen(path);

    while (end > path && end[-1] == '/')
        end--;
    const char *name = end;
    while (name > path && name[-1] != '/')
        name--;
    AUTO_FREE
    char *parent = mem_strndup(path, (size_t)(name - path));
    int rc = target_at(root, *parent ? parent : "/", true, create, links, ret_fd, e);

    if (rc < 0)
        return rc;
    *ret_name = name;
    *ret_parent = steal(&parent);
    return 0;
}

/* The path is not there: follow a link that leads nowhere yet, or make the last component. */
static int target_make(int root, const char *path, bool directory, int links, int *ret_fd, struct err *e)
{
    AUTO_CLOSE
    int parent_fd = -1;
    AUTO_FREE
    char *parent = NULL;
    const char *slash_name;
    char link[4096];
    int rc = target_parent(root, path, true, links, &parent_fd, &slash_name, &parent, e);

    if (rc < 0)
        return rc;
    AUTO_FREE
    char *name = mem_strndup(slash_name, strcspn(slash_name, "/"));
    ssize_t length = readlinkat(parent_fd, name, link, sizeof(link) - 1);
    if (length > 0) {
        link[length] = '\0';
        if (links == 0)
            return err_set(e, ERR_INVALID, "%s: too many links", path);
        AUTO_FREE
        char *next = link[0] == '/' ? mem_strdup(link) : mem_printf("%s/%s", parent, link);
        return target_at(root, next, directory, true, links - 1, ret_fd, e);
    }
    if (directory) {
        if (mkdirat(parent_fd, name, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "make directory %s", path);
    } else {
        AUTO_CLOSE
        int made = openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (made < 0)
            return err_errno(e, "make file %s", path);
    }
    int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC | (directory ? O_DIRECTORY : 0));
    if (fd < 0)
        return err_errno(e, "open %s", path);
    *ret_fd = fd;
    return 0;
}

static int target_at(int root, const char *path, bool directory, bool create, int links, int *ret_fd, struct err *e)
{
    int rc = root_open(root, path, O_PATH | (directory ? O_DIRECTORY : 0), 0, ret_fd, e);

    if (rc != ERR_NOT_FOUND || !create)
        return rc;
    return target_make(root, path, directory, links, ret_fd, e);
}

int child_target(int root, const char *path, bool directory, bool create, int *ret_fd, struct err *e)
{
    return target_at(root, path, directory, create, LINKS_MAX, ret_fd, e);
}

int child_directory(struct child *c, const StepDirectory *s, struct err *e)
{
    AUTO_CLOSE
    int fd = -1;

    return child_target(child_root(c), s->path, true, true, &fd, e);
}

/* The directory of a path whose last component is to be made, and that component. */
static int parent_of(struct child *c, const char *path, int *ret_fd, char **ret_name, struct err *e)
{
    AUTO_FREE
    char *parent = NULL;
    const char *name;
    int rc = target_parent(child_root(c), path, true, LINKS_MAX, ret_fd, &name, &parent, e);

    if (rc == 0)
        *ret_name = mem_strndup(name, strcspn(name, "/"));
    return rc;
}

int child_device(struct child *c, const StepDevice *s, struct err *e)
{
    AUTO_CLOSE
    int parent = -1;
    AUTO_FREE
    char *name = NULL;
    mode_t mode = (s->block ? S_IFBLK : S_IFCHR) | (s->has_mode ? s->mode & 07777 : 0666);
    dev_t number = makedev(s->major, s->minor);
    struct stat st;
    int rc = parent_of(c, s->path, &parent, &name, e);

    if (rc < 0)
        return rc;
    if (mknodat(parent, name, mode, number) < 0 && errno != EEXIST)
        return err_errno(e, "make device %s", s->path);
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "look at device %s", s->path);
    if ((st.st_mode & S_IFMT) != (mode & S_IFMT) || st.st_rdev != number)
        return err_set(e, ERR_EXISTS, "make device %s: something else is there", s->path);
    if (fchownat(parent, name, s->uid, s->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "give device %s its owner", s->path);
    return 0;
}

int child_symlink(struct child *c, const StepSymlink *s, struct err *e)
{
    AUTO_CLOSE
    int parent = -1;
    AUTO_FREE
    char *name = NULL;
    int rc = parent_of(c, s->path, &parent, &name, e);

    if (rc == 0 && symlinkat(s->target, parent, name) < 0 && errno != EEXIST)
        return err_errno(e, "make link %s", s->path);
    return rc;
}

int child_file(struct child *c, const StepFile *s, struct err *e)
{
    AUTO_CLOSE
    int parent = -1;
    AUTO_FREE
    char *name = NULL;
    struct stat st;
    int rc = parent_of(c, s->path, &parent, &name, e);

    if (rc < 0)
        return rc;
    /* Not blocking and never a terminal: the image may have put a pipe or a device there. */
    AUTO_CLOSE
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(e, "make file %s", s->path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_EXISTS, "make file %s: something else is there", s->path);
    if (ftruncate(fd, 0) < 0 || fchmod(fd, s->has_mode ? s->mode & 07777 : 0644) < 0)
        return err_errno(e, "make file %s", s->path);
    rc = s->has_content ? write_all(fd, s->content.data, s->content.len, e) : 0;
    return rc < 0 ? err_wrap(e, "file %s", s->path) : 0;
}
