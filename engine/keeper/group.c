/* See group.h.
 *
 * The mounts differ in three ways, all of them here: version 1's cpuset refuses members until it was given
 * processors and memory nodes, version 2 hands controllers to the groups below only when told so in each parent,
 * and each counts its kills by the out-of-memory killer in another file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/keeper/group.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define DEPTH_MAX 16 /* groups below a container's own that are removed with it */

/* Names of our controllers on the unified tree that must be handed down. */
static const char *const handed_down[BUNDLE_CONTROLLERS] = {
    [BUNDLE_CPU] = "+cpu",   [BUNDLE_CPUSET] = "+cpuset", [BUNDLE_MEMORY] = "+memory",
    [BUNDLE_PIDS] = "+pids", [BUNDLE_BLKIO] = "+io",
};

static bool used(const struct cgroup_layout *l, unsigned mount)
{
    return l->mounts[mount].controllers != 0;
}

static int write_value(int dir_fd, const char *file, const char *value)
{
    AUTO_CLOSE
    int fd = openat(dir_fd, file, O_WRONLY | O_CLOEXEC);

    return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* Copy what a version 1 cpuset needs from the group above, and let groups below have it of themselves. */
static int cpuset_begin(int parent_fd, int fd, struct err *e)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        AUTO_BUF struct buf mine = {0}, above = {0};

        if (file_read(fd, files[i], 4096, &mine, NULL) == 0 && mine.length > 1)
            continue;
        int rc = file_read(parent_fd, files[i], 4096, &above, e);
        if (rc < 0)
            return rc;
        int number = write_value(fd, files[i], buf_str(&above));
        if (number < 0)
            return err_number(e, -number, "write %s", files[i]);
    }
    (void)write_value(fd, "cgroup.clone_children", "1"); /* spares the copies later; without it they are made */
    return 0;
}

static int hand_down(const struct cgroup_mount *m, int fd, const char *path, struct err *e)
{
    for (int c = 0; c < BUNDLE_CONTROLLERS; c++) {
        int number = m->controllers & 1u << c && handed_down[c]
                         ? write_value(fd, "cgroup.subtree_control", handed_down[c])
                         : 0;

        if (number == -EBUSY)
            return err_set(
                e, ERR_CONFLICT,
                "cgroup %s holds processes of its own, so it cannot hand down %s: start the node in a group "
                "below it",
                path, handed_down[c] + 1);
        if (number < 0)
            return err_number(e, -number, "hand down %s in cgroup %s", handed_down[c] + 1, path);
    }
    return 0;
}

static int base_on(const struct cgroup_mount *m, const char *path, struct err *e)
{
    AUTO_FREE
    char *copy = mem_strdup(path);
    AUTO_CLOSE
    int fd = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *rest = copy, *part;
    int rc = 0;

    if (fd < 0)
        return err_errno(e, "open %s", m->path);
    while ((part = strsep(&rest, "/"))) {
        if (!*part)
            continue;
        if (m->v2 && (rc = hand_down(m, fd, m->path, e)) < 0)
            return rc;
        if (mkdirat(fd, part, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "make cgroup %s in %s", path, m->path);
        int next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return err_errno(e, "open cgroup %s in %s", path, m->path);
        if (!m->v2 && m->controllers & 1u << BUNDLE_CPUSET)
            rc = cpuset_begin(fd, next, e);
        close(fd);
        fd = next;
        if (rc < 0)
            return err_wrap(e, "cgroup %s", path);
    }
    return m->v2 ? hand_down(m, fd, path, e) : 0;
}

int group_base(const struct cgroup_layout *l, const char *path, struct err *e)
{
    for (unsigned i = 0; i < l->count; i++) {
        int rc = used(l, i) ? base_on(&l->mounts[i], path, e) : 0;

        if (rc < 0)
            return rc;
    }
    return 0;
}

void group_close(struct group_dirs *dirs)
{
    for (unsigned i = 0; i < CGROUP_MOUNTS; i++) {
        if (dirs->fds[i] >= 0)
            close(dirs->fds[i]);
        dirs->fds[i] = -1;
    }
}

static int make_on(const struct cgroup_mount *m, const char *path, int *ret_fd, struct err *e)
{
    AUTO_FREE
    char *full = mem_printf("%s%s", m->path, path);

    if (mkdir(full, 0755) < 0)
        return err_errno(e, "make cgroup %s", full);
    AUTO_CLOSE
    int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open cgroup %s", full);
    if (!m->v2 && m->controllers & 1u << BUNDLE_CPUSET) {
        AUTO_BUF struct buf cpus = {0};

        /* clone_children of the base has usually filled it already. */
        if (file_read(fd, "cpuset.cpus", 4096, &cpus, NULL) < 0 || cpus.length <= 1) {
            AUTO_CLOSE
            int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            int rc = parent < 0 ? err_errno(e, "open the group above %s", full) : cpuset_begin(parent, fd, e);

            if (rc < 0)
                return rc;
        }
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

int group_make(const struct cgroup_layout *l, const char *path, struct group_dirs *ret, struct err *e)
{
    struct group_dirs dirs;

    GROUP_NO_DIRS(&dirs);
    for (unsigned i = 0; i < l->count; i++) {
        int rc = used(l, i) ? make_on(&l->mounts[i], path, &dirs.fds[i], e) : 0;

        if (rc < 0) {
            group_close(&dirs);
            return rc;
        }
    }
    *ret = dirs;
    return 0;
}

int group_join(const struct cgroup_layout *l, const struct group_dirs *dirs, struct err *e)
{
    for (unsigned i = 0; i < l->count; i++) {
        int number = dirs->fds[i] >= 0 ? write_value(dirs->fds[i], "cgroup.procs", "0") : 0;

        if (number < 0)
            return err_number(e, -number, "join the cgroup in %s", l->mounts[i].path);
    }
    return 0;
}

int group_set(const struct cgroup_layout *l, const struct group_dirs *dirs, const char *controller,
              const char *file, const char *value, struct err *e)
{
    int which = cgroup_controller(controller);
    int at = which < 0 ? -1 : l->of[which];

    if (at < 0 || dirs->fds[at] < 0)
        return err_set(e, ERR_UNSUPPORTED, "no cgroup controller %s on this machine", controller);
    if (strchr(file, '/'))
        return err_set(e, ERR_INVALID, "cgroup file %s", file);
    int number = write_value(dirs->fds[at], file, value);
    if (number == -ENOENT)
        return err_set(e, ERR_UNSUPPORTED, "this kernel has no %s", file);
    return number < 0 ? err_number(e, -number, "write %s \"%s\"", file, value) : 0;
}

bool group_oom_killed(const struct cgroup_layout *l, const char *path)
{
    int at = l->of[BUNDLE_MEMORY];
    AUTO_FREE
    char *full = at < 0 ? NULL
                        : mem_printf("%s%s/%s", l->mounts[at].path, path,
                                     l->mounts[at].v2 ? "memory.events" : "memory.oom_control");
    AUTO_BUF struct buf text = {0};

    if (!full || file_read(AT_FDCWD, full, 4096, &text, NULL) < 0)
        return false;
    const char *line = strstr(buf_str(&text), "oom_kill "); /* "oom_kill_disable" has no blank there */
    return line && strtoul(line + 9, NULL, 10) > 0;
}

/* Kill every process that the group lists, looking again once its descriptor is held, since the number might have
 * passed to somebody else in between. */
static void kill_listed(int fd, struct err *e)
{
    AUTO_BUF struct buf first = {0};

    if (file_read(fd, "cgroup.procs", 1u << 20, &first, e) < 0)
        return;
    char *rest = (char *)buf_str(&first), *line;
    while ((line = strsep(&rest, "\n"))) {
        AUTO_BUF struct buf again = {0};
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        AUTO_CLOSE
        int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

        if (pidfd < 0 || file_read(fd, "cgroup.procs", 1u << 20, &again, e) < 0)
            continue;
        buf_append_char(&again, '\n');
        AUTO_FREE
        char *needle = mem_printf("\n%d\n", pid);
        const char *text = buf_str(&again);
        if (strncmp(text, needle + 1, strlen(needle + 1)) == 0 || strstr(text, needle))
            (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* it may have gone by itself */
    }
}

static int remove_below(int parent_fd, const char *name, bool v2, int depth, struct err *e);

static int remove_children(int fd, bool v2, int depth, struct err *e)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    const struct dirent *entry;
    int rc = 0;

    if (!dir)
        return err_errno(e, "list a cgroup");
    while ((entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            remove_below(fd, entry->d_name, v2, depth + 1, e) < 0)
            rc = ERR_CONFLICT;
    closedir(dir);
    return rc;
}

static int remove_below(int parent_fd, const char *name, bool v2, int depth, struct err *e)
{
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != EBUSY && errno != ENOTEMPTY)
        return err_errno(e, "remove cgroup %s", name);
    if (depth > DEPTH_MAX)
        return err_set(e, ERR_LIMIT, "remove cgroup %s: more than %d levels deep", name, DEPTH_MAX);
    AUTO_CLOSE
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, "open cgroup %s", name);
    if (!v2 || write_value(fd, "cgroup.kill", "1") < 0) /* cgroup.kill since Linux 5.14 */
        kill_listed(fd, e);
    (void)remove_children(fd, v2, depth, e); /* what stays makes the next line fail */
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_set(e, ERR_CONFLICT, "cgroup %s is still busy", name);
    return 0;
}

int group_remove(const struct cgroup_layout *l, const char *path, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < l->count; i++) {
        AUTO_FREE
        char *full = mem_printf("%s%s", l->mounts[i].path, path);

        if (used(l, i) && remove_below(AT_FDCWD, full, l->mounts[i].v2, 0, e) < 0)
            rc = ERR_CONFLICT; /* go on: what can be removed is */
    }
    return rc;
}

/* Groups below a group of one mount, by their names. NULL: it is not there. */
static DIR *list_groups(const struct cgroup_mount *m, const char *path)
{
    AUTO_FREE
    char *full = mem_printf("%s%s", m->path, path);
    int fd = open(full, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (!dir && fd >= 0)
        close(fd);
    return dir;
}

static bool is_group(const struct dirent *entry)
{
    return entry->d_type == DT_DIR && entry->d_name[0] != '.';
}

static void walk_mount(const struct cgroup_mount *m, const char *path, int depth,
                       bool (*visit)(void *ctx, const char *path), void *ctx)
{
    DIR *dir = depth > DEPTH_MAX ? NULL : list_groups(m, path);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        AUTO_FREE
        char *below = is_group(entry) ? mem_printf("%s/%s", path, entry->d_name) : NULL;

        if (below && visit(ctx, below))
            walk_mount(m, below, depth + 1, visit, ctx);
    }
    if (dir)
        closedir(dir);
}

void group_walk(const struct cgroup_layout *l, const char *path, bool (*visit)(void *ctx, const char *path),
                void *ctx)
{
    for (unsigned i = 0; i < l->count; i++)
        if (used(l, i))
            walk_mount(&l->mounts[i], path, 0, visit, ctx);
}

static void remove_empty(const struct cgroup_mount *m, const char *path, int depth)
{
    AUTO_FREE
    char *full = mem_printf("%s%s", m->path, path);
    DIR *dir = depth > DEPTH_MAX ? NULL : list_groups(m, path);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        AUTO_FREE
        char *below = is_group(entry) ? mem_printf("%s/%s", path, entry->d_name) : NULL;

        if (below)
            remove_empty(m, below, depth + 1);
    }
    if (dir)
        closedir(dir);
    (void)rmdir(full); /* in use by somebody: then it stays */
}

void group_base_remove(const struct cgroup_layout *l, const char *path)
{
    for (unsigned i = 0; i < l->count; i++)
        if (used(l, i))
            remove_empty(&l->mounts[i], path, 0);
}
