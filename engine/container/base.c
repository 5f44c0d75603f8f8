/* See base.h.
 *
 * A container's /proc, /sys and /dev, its three files in /etc and /.dockerenv must be there before something can be
 * mounted on them, and most images lack some. Made in each container's own layer they would be some six files more
 * on the disk per start and removal, and /etc would be copied up; as the lowest layer of every root they cost
 * nothing, are never seen for what is mounted on them, and an image's own files stand above them.
 *
 * The directory is shared by all containers and written by none: overlayfs changes upper layers alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/container/base.h"
#include "proto/base/mem.h"

static const struct {
    const char *path;
    mode_t mode; /* of a directory when `directory` */
    bool directory;
} parts[] = {
    {"dev", 0755, true},
    {"proc", 0755, true},
    {"sys", 0755, true},
    {"etc", 0755, true},
    {"etc/hosts", 0644, false},
    {"etc/hostname", 0644, false},
    {"etc/resolv.conf", 0644, false},
    {".dockerenv", 0755, false},
};

static int make_part(int base_fd, size_t i, struct err *e)
{
    if (parts[i].directory)
        return mkdirat(base_fd, parts[i].path, parts[i].mode) < 0 && errno != EEXIST
                   ? err_errno(e, "make %s of the base layer", parts[i].path)
                   : 0;
    AUTO_CLOSE
    int fd = openat(base_fd, parts[i].path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, parts[i].mode);
    return fd < 0 ? err_errno(e, "make %s of the base layer", parts[i].path) : 0;
}

int base_layer_open(int dir_fd, const char *name, int *ret_fd, struct err *e)
{
    if (mkdirat(dir_fd, name, 0755) < 0 && errno != EEXIST)
        return err_errno(e, "make the base layer");
    AUTO_CLOSE
    int fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open the base layer");
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        int rc = make_part(fd, i, e);

        if (rc < 0)
            return rc;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}
