/* The machine as a replica's environment (env.h): files, two threads, a timer, libuv's loop.
 *
 * A lane is a thread and a queue, started by its first job. Finished jobs come back to the loop as mail, in order.
 * A wake-up on the loop itself is an idle handle: the turn runs in the loop's next iteration, without a system
 * call.
 *
 * Descriptors are used by one lane at a time, so they need no lock. Writes of ENV_OPEN_SYNCED files are O_DSYNC:
 * the bytes and what is needed to read them are on the disk when pwrite returns. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/raft/env.h"
#include "manager/raft/links.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "proto/wire/mailbox.h"

struct env_file {
    int fd;
    char *path; /* for messages, owned */
};

struct lane {
    struct real_env *env;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list jobs; /* of env_job; under the lock */
    bool quit;        /* under the lock */
};

struct real_env {
    struct replica_env base;
    uv_loop_t *loop;     /* borrowed */
    struct links *links; /* borrowed; NULL: none */
    struct env_events events;
    struct lane lanes[ENV_LANES];
    struct mailbox box; /* finished jobs */
    uv_idle_t idle;     /* runs while a wake-up is due */
    uv_timer_t timer;
    int64_t timer_ms;   /* armed for, -1: off */
    unsigned under_way; /* jobs posted and not yet handed back */
    unsigned open;      /* handles and the mailbox, while closing */
    bool attached, detaching, closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct finished { /* mail: a job that has run */
    struct mail mail;
    struct env_job *job;
};

static struct real_env *real(struct replica_env *env)
{
    return container_of(env, struct real_env, base);
}

/* --- lanes ---------------------------------------------------------------------------------------- */

static void close_if_idle(struct real_env *env);

static void deliver(struct mail *mail, void *owner)
{
    struct finished *f = container_of(mail, struct finished, mail);
    struct real_env *env = owner;
    struct env_job *job = f->job;

    free(f);
    job->done(job);
    env->under_way--;
    close_if_idle(env);
}

static void *lane_run(void *arg)
{
    struct lane *lane = arg;

    pthread_mutex_lock(&lane->lock);
    for (;;) {
        struct list *link = list_pop(&lane->jobs);

        if (!link && lane->quit)
            break;
        if (!link) {
            pthread_cond_wait(&lane->more, &lane->lock);
            continue;
        }
        pthread_mutex_unlock(&lane->lock);
        struct finished *f = mem_alloc(sizeof(*f));
        f->mail.deliver = deliver;
        f->job = list_entry(link, struct env_job, link);
        f->job->work(f->job);
        mailbox_post(&lane->env->box, &f->mail);
        pthread_mutex_lock(&lane->lock);
    }
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

static void post(struct replica_env *base, enum env_lane which, struct env_job *job)
{
    static const char *const names[] = {[ENV_LANE_LOG] = "raft-log", [ENV_LANE_BULK] = "raft-bulk"};
    struct real_env *env = real(base);
    struct lane *lane = &env->lanes[which];

    env->under_way++;
    pthread_mutex_lock(&lane->lock);
    list_push(&lane->jobs, &job->link);
    pthread_mutex_unlock(&lane->lock);
    pthread_cond_signal(&lane->more); /* behind the lock, or whoever wakes would wait for it at once */
    if (lane->started)
        return;
    if (pthread_create(&lane->thread, NULL, lane_run, lane) != 0)
        abort();                                          /* out of memory or threads: as mem.h */
    (void)pthread_setname_np(lane->thread, names[which]); /* for people who look */
    lane->started = true;
}

static void lane_stop(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->quit = true;
    pthread_cond_signal(&lane->more);
    pthread_mutex_unlock(&lane->lock);
    if (lane->started)
        (void)pthread_join(lane->thread, NULL); /* it is idle: this does not wait for a disk */
    lane->started = false;
}

/* --- events --------------------------------------------------------------------------------------- */

static void on_idle(uv_idle_t *idle)
{
    struct real_env *env = idle->data;

    uv_idle_stop(idle);
    if (env->attached && !env->detaching)
        env->events.on_wake(env->events.ctx);
}

static void wake(struct replica_env *base)
{
    uv_idle_start(&real(base)->idle, on_idle);
}

static void on_timer(uv_timer_t *timer)
{
    struct real_env *env = timer->data;

    env->timer_ms = -1;
    if (env->attached && !env->detaching)
        env->events.on_timer(env->events.ctx);
}

static void timer(struct replica_env *base, int64_t mono_ms)
{
    struct real_env *env = real(base);

    if (mono_ms == env->timer_ms)
        return;
    env->timer_ms = mono_ms;
    if (mono_ms < 0) {
        uv_timer_stop(&env->timer);
        return;
    }
    uv_update_time(env->loop);
    int64_t left = mono_ms - clock_mono_ms(base->clock);
    uv_timer_start(&env->timer, on_timer, (uint64_t)MAX(left, 0), 0);
}

static void attach(struct replica_env *base, const struct env_events *events)
{
    struct real_env *env = real(base);

    const struct links_events told = {
        .ctx = events->ctx, .on_message = events->on_message, .on_gone = events->on_gone};

    env->events = *events;
    env->attached = true;
    if (env->links)
        links_attach(env->links, &told);
}

static void part_closed(struct real_env *env)
{
    if (--env->open == 0)
        env->closed(env->closed_ctx);
}

static void on_handle_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

static void on_box_closed(struct mailbox *box)
{
    part_closed(container_of(box, struct real_env, box));
}

static void close_if_idle(struct real_env *env)
{
    if (!env->detaching || env->closing || env->under_way)
        return;
    env->closing = true;
    for (int i = 0; i < ENV_LANES; i++)
        lane_stop(&env->lanes[i]);
    env->open = 3;
    uv_close((uv_handle_t *)&env->idle, on_handle_closed);
    uv_close((uv_handle_t *)&env->timer, on_handle_closed);
    mailbox_close(&env->box, on_box_closed);
}

static void detach(struct replica_env *base, void (*closed)(void *ctx), void *ctx)
{
    struct real_env *env = real(base);

    env->detaching = true;
    if (env->links)
        links_attach(env->links, NULL);
    env->closed = closed;
    env->closed_ctx = ctx;
    close_if_idle(env);
}

/* --- files ---------------------------------------------------------------------------------------- */

static int real_dir_make(struct replica_env *env, const char *path, struct err *e)
{
    return dir_make(path, 0700, e);
}

static int real_dir_list(struct replica_env *env, const char *path, void (*each)(void *ctx, const char *name),
                         void *ctx, struct err *e)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    if (!dir)
        return err_errno(e, "list %s", path);
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(ctx, entry->d_name);
    closedir(dir);
    return 0;
}

static int real_dir_sync(struct replica_env *env, const char *path, struct err *e)
{
    AUTO_CLOSE
    int fd = -1;
    int rc = dir_open(path, &fd, e);

    if (rc < 0)
        return rc;
    return fsync(fd) < 0 ? err_errno(e, "sync directory %s", path) : 0;
}

static int real_open(struct replica_env *env, const char *path, enum env_open how, struct env_file **ret,
                     struct err *e)
{
    static const int flags[] = {
        [ENV_OPEN_READ] = O_RDONLY,
        [ENV_OPEN_CREATE] = O_RDWR | O_CREAT | O_TRUNC,
        [ENV_OPEN_SYNCED] = O_RDWR | O_DSYNC,
    };
    int fd = open(path, flags[how] | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(e, "open %s", path);
    struct env_file *f = mem_alloc(sizeof(*f));
    f->fd = fd;
    f->path = mem_strdup(path);
    *ret = f;
    return 0;
}

static int real_size(struct env_file *f, uint64_t *ret, struct err *e)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return err_errno(e, "look at %s", f->path);
    *ret = (uint64_t)st.st_size;
    return 0;
}

static long real_read(struct env_file *f, uint64_t offset, void *into, size_t size, struct err *e)
{
    size_t done = 0;

    while (done < size) {
        ssize_t got = pread(f->fd, (char *)into + done, size - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, "read %s", f->path);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (long)done;
}

static int real_write(struct env_file *f, uint64_t offset, const void *data, size_t size, struct err *e)
{
    size_t done = 0;

    while (done < size) {
        ssize_t put = pwrite(f->fd, (const char *)data + done, size - done, (off_t)(offset + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_errno(e, "write %zu bytes to %s", size, f->path);
        done += (size_t)put;
    }
    return 0;
}

static int real_reserve(struct env_file *f, uint64_t size, struct err *e)
{
    int number = posix_fallocate(f->fd, 0, (off_t)size);

    return number ? err_number(e, number, "reserve %llu bytes for %s", (unsigned long long)size, f->path) : 0;
}

static int real_cut(struct env_file *f, uint64_t size, struct err *e)
{
    return ftruncate(f->fd, (off_t)size) < 0 ? err_errno(e, "cut %s", f->path) : 0;
}

static int real_sync(struct env_file *f, struct err *e)
{
    return fdatasync(f->fd) < 0 ? err_errno(e, "sync %s", f->path) : 0;
}

static void real_close(struct env_file *f)
{
    close(f->fd);
    free(f->path);
    free(f);
}

static int real_rename(struct replica_env *env, const char *from, const char *to, struct err *e)
{
    return rename(from, to) < 0 ? err_errno(e, "rename %s to %s", from, to) : 0;
}

static int real_remove(struct replica_env *env, const char *path, struct err *e)
{
    return unlink(path) < 0 && errno != ENOENT ? err_errno(e, "remove %s", path) : 0;
}

/* --- links ---------------------------------------------------------------------------------------- */

static void real_send(struct replica_env *base, uint64_t to, const char *address, enum env_channel channel,
                      const void *data, size_t size)
{
    struct real_env *env = real(base);

    if (env->links) /* else it is lost, as in a network that loses everything */
        links_send(env->links, to, address, channel, data, size);
}

/* --- life ----------------------------------------------------------------------------------------- */

struct replica_env *replica_env_real(uv_loop_t *loop, struct links *links)
{
    struct real_env *env = mem_alloc(sizeof(*env));

    env->base = (struct replica_env){
        .clock = clock_real(),
        .entropy = entropy_real(),
        .attach = attach,
        .detach = detach,
        .post = post,
        .wake = wake,
        .timer = timer,
        .dir_make = real_dir_make,
        .dir_list = real_dir_list,
        .dir_sync = real_dir_sync,
        .file_open = real_open,
        .file_size = real_size,
        .file_read = real_read,
        .file_write = real_write,
        .file_reserve = real_reserve,
        .file_cut = real_cut,
        .file_sync = real_sync,
        .file_close = real_close,
        .file_rename = real_rename,
        .file_remove = real_remove,
        .send = real_send,
    };
    env->loop = loop;
    env->links = links;
    env->timer_ms = -1;
    for (int i = 0; i < ENV_LANES; i++) {
        struct lane *lane = &env->lanes[i];

        lane->env = env;
        list_init(&lane->jobs);
        pthread_mutex_init(&lane->lock, NULL);
        pthread_cond_init(&lane->more, NULL);
    }
    if (mailbox_open(&env->box, loop, env) < 0 || uv_idle_init(loop, &env->idle) < 0 ||
        uv_timer_init(loop, &env->timer) < 0)
        abort(); /* out of descriptors at the start: nothing would work */
    env->idle.data = env->timer.data = env;
    return &env->base;
}

static void free_env(void *ctx)
{
    struct real_env *env = ctx;

    for (int i = 0; i < ENV_LANES; i++) {
        pthread_mutex_destroy(&env->lanes[i].lock);
        pthread_cond_destroy(&env->lanes[i].more);
    }
    free(env);
}

void replica_env_real_free(struct replica_env *base)
{
    struct real_env *env = base ? real(base) : NULL;

    if (!env)
        return;
    if (!env->detaching) {
        detach(base, free_env, env);
        return;
    }
    assert(env->closing && env->open == 0);
    free_env(env);
}
