/* See devices.h. A directory means all devices below it, under the same names. Symbolic links are followed for what
 * a user named, as anywhere, and not below a directory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/container/devices.h"
#include "proto/base/mem.h"

#define DEPTH_MAX 8

struct search {
    struct arena *a;
    struct bundle_device *found;
    size_t count;
    const char *access;
};

static int add(struct search *s, const char *path, const struct stat *st, struct err *e)
{
    if (s->count == DEVICES_MAX)
        return err_set(e, ERR_LIMIT, "more than %d devices", DEVICES_MAX);
    s->found = arena_append(s->a, s->found, s->count, sizeof(*s->found));
    s->found[s->count++] = (struct bundle_device){
        .path = path,
        .block = S_ISBLK(st->st_mode),
        .major = major(st->st_rdev),
        .minor = minor(st->st_rdev),
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .access = s->access,
    };
    return 0;
}

/* File systems of their own, and what every container has its own of. */
static bool is_left_out(const char *name)
{
    static const char *const names[] = {".",       "..",        "pts",   "shm",  "fd",  "mqueue",
                                        "console", "hugepages", ".udev", ".lxc", "ptmx"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static int add_below(struct search *s, int fd, const char *path, int depth, struct err *e) /* closes fd */
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    int rc = 0;

    if (!dir) {
        rc = err_errno(e, "list %s", path);
        close(fd);
        return rc;
    }
    while (rc == 0 && (entry = readdir(dir))) {
        struct stat st;

        if (is_left_out(entry->d_name) || fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        const char *below = arena_printf(s->a, "%s/%s", path, entry->d_name);
        if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
            rc = add(s, below, &st, e);
        } else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            int next = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            if (next >= 0)
                rc = add_below(s, next, below, depth + 1, e);
        }
    }
    closedir(dir);
    return rc;
}

static int add_directory(struct search *s, const char *host_path, const char *path, struct err *e)
{
    int fd = open(host_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? err_errno(e, "open device directory %s", host_path) : add_below(s, fd, path, 0, e);
}

static int add_mapping(struct search *s, const DeviceMapping *m, struct err *e)
{
    const char *path = m->container_path && *m->container_path ? m->container_path : m->host_path;
    size_t before = s->count;
    struct stat st;
    int rc;

    s->access = m->permissions && *m->permissions ? m->permissions : "rwm";
    if (strspn(s->access, "rwm") != strlen(s->access))
        return err_set(e, ERR_INVALID, "invalid device mode: %.64s", s->access);
    if (*path != '/')
        return err_set(e, ERR_INVALID, "invalid device path in the container: \"%.120s\"", path);
    if (stat(m->host_path, &st) < 0)
        return err_errno(e, "error gathering device information while adding custom device \"%s\"", m->host_path);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        return add(s, path, &st, e);
    rc = S_ISDIR(st.st_mode) ? add_directory(s, m->host_path, path, e) : 0;
    if (rc == 0 && s->count == before)
        rc = err_set(e, ERR_INVALID,
                     "error gathering device information while adding custom device \"%s\": not a device node",
                     m->host_path);
    return rc;
}

int devices_find(const HostConfig *host, struct arena *a, struct bundle_device **ret, size_t *ret_count,
                 struct err *e)
{
    struct search s = {.a = a, .access = "rwm"};
    int rc = host->privileged ? add_directory(&s, "/dev", "/dev", e) : 0;

    for (size_t i = 0; rc == 0 && i < host->n_devices; i++)
        rc = add_mapping(&s, host->devices[i], e);
    if (rc < 0)
        return rc;
    *ret = s.found;
    *ret_count = s.count;
    return 0;
}
