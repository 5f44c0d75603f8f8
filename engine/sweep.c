/* See sweep.h.
 *
 * The pool's job works on the trash until its time is over and is then queued again; it keeps no state but the
 * directory itself, so a slice begins at the top and descends to what is left. The walk holds at most DEPTH_MAX
 * descriptors: a directory deeper than that is moved up into the trash and removed from there. An entry that cannot
 * be removed is logged and left for the next start; it does not keep the others.
 *
 * A name taken is "<number>", free numbers are found by trying, which a fresh number per process makes rare. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/sweep.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define SLICE_NS  5000000 /* a job of the pool */
#define DEPTH_MAX 64      /* descriptors of a walk */

struct sweep {
    uv_loop_t *loop;
    uv_work_t work;
    char *path;      /* owned */
    int fd;          /* the trash */
    unsigned serial; /* of the next name */
    bool working, closing;
    bool again; /* something was taken since the job began */
    void (*closed)(void *ctx);
    void *closed_ctx;

    /* The job's, while it runs. */
    int64_t deadline_ns;
    bool over;         /* there is more to do */
    unsigned removed;  /* entries that went */
    unsigned failures; /* entries that stay */
    char failure[256]; /* the first one, in words */
};

enum removal { REMOVED, KEPT, INTERRUPTED };

static enum removal remove_tree(struct sweep *s, int dir_fd, const char *name, int depth);

static int64_t mono_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static enum removal keep(struct sweep *s, const char *what, const char *name)
{
    if (s->failures++ == 0)
        (void)snprintf(s->failure, sizeof(s->failure), "%s %.120s: %s", what, name, strerror(errno));
    return KEPT;
}

/* Immutable and append-only files and directories refuse removal even for root. */
static void clear_flags(int fd)
{
    int flags;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) {
        flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags); /* the removal that follows tells */
    }
}

static void clear_flags_of(int dir_fd, const char *name)
{
    struct stat st;
    int fd;

    clear_flags(dir_fd);
    /* Devices and pipes are never opened: that may wait, or do something. */
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return;
    fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    clear_flags(fd);
    close(fd);
}

/* Everything in `fd`, which is closed. */
static enum removal remove_entries(struct sweep *s, int fd, int depth)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    enum removal worst = REMOVED;

    if (!dir) {
        close(fd);
        return keep(s, "list", s->path);
    }
    while (worst != INTERRUPTED && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        enum removal one = remove_tree(s, dirfd(dir), entry->d_name, depth);
        worst = MAX(worst, one);
        if (mono_ns() > s->deadline_ns)
            worst = INTERRUPTED;
    }
    closedir(dir);
    return worst;
}

static bool move_up(struct sweep *s, int dir_fd, const char *name)
{
    for (;;) {
        char up[32];

        (void)snprintf(up, sizeof(up), "deep-%u", __atomic_fetch_add(&s->serial, 1, __ATOMIC_RELAXED));
        if (renameat2(dir_fd, name, s->fd, up, RENAME_NOREPLACE) == 0)
            return true;
        if (errno != EEXIST)
            return false;
    }
}

static enum removal gone(struct sweep *s)
{
    s->removed++;
    return REMOVED;
}

static enum removal remove_tree(struct sweep *s, int dir_fd, const char *name, int depth)
{
    struct stat trash, here;

    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return gone(s);
    if (errno == EPERM) {
        clear_flags_of(dir_fd, name);
        if (unlinkat(dir_fd, name, 0) == 0)
            return gone(s);
    }
    if (errno != EISDIR)
        return keep(s, "remove", name);
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
        return gone(s);
    if (depth >= DEPTH_MAX) {
        if (!move_up(s, dir_fd, name))
            return keep(s, "move up", name);
        s->removed++;
        return INTERRUPTED; /* so that the walk begins at the top again */
    }
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return keep(s, "open", name);
    if (fstat(fd, &here) < 0 || fstat(s->fd, &trash) < 0 || here.st_dev != trash.st_dev) {
        close(fd);
        errno = EBUSY; /* something is mounted there */
        return keep(s, "enter", name);
    }
    enum removal inside = remove_entries(s, fd, depth + 1);
    if (inside != REMOVED)
        return inside;
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return keep(s, "remove directory", name);
    return gone(s);
}

static void sweep_work(uv_work_t *work)
{
    struct sweep *s = work->data;

    s->deadline_ns = mono_ns() + SLICE_NS;
    s->over = false;
    s->removed = 0;
    s->failures = 0;
    /* A new open description: the walk must begin at the first entry. */
    int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        (void)keep(s, "open", s->path);
    else if (remove_entries(s, fd, 0) == INTERRUPTED)
        s->over = true;
}

static void sweep_next(struct sweep *s);

static void free_sweep(struct sweep *s)
{
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;

    close(s->fd);
    free(s->path);
    free(s);
    if (closed)
        closed(ctx);
}

static void sweep_done(uv_work_t *work, int status)
{
    struct sweep *s = work->data;

    s->working = false;
    if (s->closing) {
        free_sweep(s);
        return;
    }
    if (s->again || (s->over && s->removed)) { /* a slice in which nothing went would be repeated for ever */
        sweep_next(s);
        return;
    }
    if (s->failures)
        log_warn("removed files are left over", "directory=%s count=%u first=\"%s\"", s->path, s->failures,
                 s->failure);
}

static void sweep_next(struct sweep *s)
{
    s->again = false;
    s->working = true;
    if (uv_queue_work(s->loop, &s->work, sweep_work, sweep_done) < 0)
        abort(); /* only for a missing callback */
}

int sweep_open(uv_loop_t *loop, const char *path, struct sweep **ret, struct err *e)
{
    int fd;
    int rc = dir_make(path, 0700, e);

    if (rc == 0)
        rc = dir_open(path, &fd, e);
    if (rc < 0)
        return rc;
    struct sweep *s = mem_alloc(sizeof(*s));
    s->loop = loop;
    s->work.data = s;
    s->path = mem_strdup(path);
    s->fd = fd;
    s->serial = (unsigned)mono_ns();
    *ret = s;
    sweep_next(s);
    return 0;
}

int sweep_take(struct sweep *s, int dir_fd, const char *name, struct err *e)
{
    char aside[32];
    int rc;

    do {
        (void)snprintf(aside, sizeof(aside), "%u", __atomic_fetch_add(&s->serial, 1, __ATOMIC_RELAXED));
        rc = renameat2(dir_fd, name, s->fd, aside, RENAME_NOREPLACE);
    } while (rc < 0 && errno == EEXIST);
    if (rc < 0)
        return errno == ENOENT ? 0 : err_errno(e, "move %s to the trash %s", name, s->path);
    if (s->working)
        s->again = true;
    else
        sweep_next(s);
    return 0;
}

bool sweep_idle(const struct sweep *s)
{
    return !s->working;
}

void sweep_close(struct sweep *s, void (*closed)(void *ctx), void *ctx)
{
    s->closed = closed;
    s->closed_ctx = ctx;
    s->closing = true;
    if (!s->working)
        sweep_next(s); /* the loop calls back; one slice more does no harm */
}
