/* See measure.h. A stack of paths that are still to be visited is all that is kept between slices; one directory is
 * listed to its end within a slice unless time runs out, then its stream stays open. Paths longer than the kernel
 * takes are skipped: such a tree is measured too small, never a reason to wait. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/measure.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define SLICE_NS    5000000
#define PENDING_MAX 100000 /* directories waiting; more are skipped */

struct measure {
    uv_loop_t *loop;
    uv_work_t work;
    int fd; /* of the directory */
    dev_t device;
    void (*done)(void *ctx, int64_t bytes); /* NULL: canceled */
    void *ctx;
    char **pending; /* paths below fd, owned, the last is next */
    size_t pending_count, pending_room;
    DIR *dir;            /* the one being listed */
    char *path;          /* of it; owned */
    struct map64 linked; /* inodes with several names that were counted */
    int64_t bytes;
};

static int64_t mono_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void push(struct measure *m, char *path)
{
    if (m->pending_count == PENDING_MAX || strlen(path) >= 4000) {
        free(path);
        return;
    }
    if (m->pending_count == m->pending_room) {
        m->pending_room = m->pending_room ? m->pending_room * 2 : 16;
        m->pending = mem_grow(m->pending, m->pending_room, sizeof(*m->pending));
    }
    m->pending[m->pending_count++] = path;
}

static void open_next(struct measure *m)
{
    free(m->path);
    m->path = m->pending[--m->pending_count];
    int fd = openat(m->fd, m->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return; /* removed meanwhile */
    m->dir = fdopendir(fd);
    if (!m->dir)
        close(fd);
}

static void count(struct measure *m, const char *name)
{
    struct stat st;

    if (fstatat(dirfd(m->dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != m->device)
        return;
    if (S_ISDIR(st.st_mode)) {
        push(m, mem_printf("%s/%s", m->path, name));
        return; /* its own size depends on the file system and says nothing, so Docker leaves it out too */
    }
    if (st.st_nlink > 1) {
        if (map64_get(&m->linked, st.st_ino))
            return;
        map64_put(&m->linked, st.st_ino, m);
    }
    m->bytes += st.st_size;
}

static void slice(uv_work_t *work)
{
    struct measure *m = work->data;
    int64_t deadline = mono_ns() + SLICE_NS;

    while (mono_ns() < deadline) {
        struct dirent *entry;

        if (!m->dir) {
            if (!m->pending_count)
                return;
            open_next(m);
            continue;
        }
        entry = readdir(m->dir);
        if (!entry) {
            closedir(m->dir);
            m->dir = NULL;
        } else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            count(m, entry->d_name);
        }
    }
}

static void finish(struct measure *m)
{
    if (m->done)
        m->done(m->ctx, m->fd >= 0 ? m->bytes : -1);
    while (m->pending_count)
        free(m->pending[--m->pending_count]);
    free(m->pending);
    if (m->dir)
        closedir(m->dir);
    if (m->fd >= 0)
        close(m->fd);
    map64_fini(&m->linked);
    free(m->path);
    free(m);
}

static void slice_done(uv_work_t *work, int status)
{
    struct measure *m = work->data;

    if (!m->done || (!m->dir && !m->pending_count)) {
        finish(m);
        return;
    }
    if (uv_queue_work(m->loop, &m->work, slice, slice_done) < 0)
        abort(); /* only for a missing callback */
}

struct measure *measure_start(uv_loop_t *loop, int dir_fd, void (*done)(void *ctx, int64_t bytes), void *ctx)
{
    struct measure *m = mem_alloc(sizeof(*m));
    struct stat st = {0};

    m->loop = loop;
    m->work.data = m;
    m->done = done;
    m->ctx = ctx;
    m->fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->fd >= 0 && fstat(m->fd, &st) == 0) {
        m->device = st.st_dev;
        push(m, mem_strdup("."));
    }
    if (uv_queue_work(loop, &m->work, slice, slice_done) < 0)
        abort(); /* only for a missing callback */
    return m;
}

void measure_cancel(struct measure *m)
{
    m->done = NULL;
}
