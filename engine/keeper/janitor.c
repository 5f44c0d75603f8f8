/* The groups of the dead: removed by a child, in batches, a moment later.
 *
 * Removing a control group takes the kernel's one lock for all of them, which a process that joins a group may hold
 * for ten milliseconds and more while it waits for a grace period. The keeper must not wait for that, so a child
 * does. It gets every path known so far; what it could not remove (something in it is still dying) is tried again,
 * ever more slowly.
 *
 * The list is in memory, and a keeper that is killed takes it along. So a keeper that follows one looks once at the
 * groups there are (janitor_sweep) and takes those that belong to no sandbox it knows. Not at once: shoald may
 * still hand over containers whose records are lost, and their groups must not be emptied before. */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/keeper/group.h"
#include "engine/keeper/server.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define FIRST_US 20000
#define LAST_US  (10 * 1000000L)
#define SWEEP_US (5 * 1000000L) /* after shoald was told everything */

static void janitor_on_exit(struct watch *w, uint32_t events);

static _Noreturn void work(struct server *s)
{
    struct err e;
    int failed = 0;

    (void)syscall(SYS_close_range, 3, ~0U, 0); /* what the keeper holds is not ours to keep alive */
    for (unsigned i = 0; i < s->janitor.working; i++)
        if (group_remove(&s->layout, s->janitor.groups[i], &e) < 0)
            failed = 1;
    _exit(failed);
}

static void janitor_on_timer(struct timer *t)
{
    struct server *s = container_of(t, struct server, janitor.timer);
    struct janitor *j = &s->janitor;
    int pidfd = -1;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    struct err e;

    j->working = j->count;
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        work(s);
    if (pid < 0) {
        log_warn("no child to remove groups", "error=\"%s\"", strerror(errno));
        timer_set(&s->loop, t, LAST_US);
        return;
    }
    j->pidfd = pidfd;
    j->pid = (pid_t)pid;
    if (watch_start(&s->loop, &j->watch, pidfd, EPOLLIN, janitor_on_exit, &e) < 0) {
        log_warn("the child that removes groups is not watched", "error=\"%s\"", e.text);
        timer_set(&s->loop, t, LAST_US); /* removing twice is harmless */
    }
}

static void janitor_on_exit(struct watch *w, uint32_t events)
{
    struct server *s = container_of(w, struct server, janitor.watch);
    struct janitor *j = &s->janitor;
    int status = 0;

    (void)events;
    if (process_end(j->pidfd, 0, 0, &status) == PROCESS_RUNS)
        return;
    watch_stop(&s->loop, w);
    close(j->pidfd);
    j->pidfd = -1;
    if (status == 0) {
        for (unsigned i = 0; i < j->working; i++)
            free(j->groups[i]);
        memmove(j->groups, j->groups + j->working, (j->count - j->working) * sizeof(*j->groups));
        j->count -= j->working;
        j->failures = 0;
    } else if (++j->failures == 8) {
        log_warn("groups cannot be removed yet", "count=%u first=%s", j->working, j->groups[0]);
    }
    j->working = 0;
    if (j->count)
        timer_set(&s->loop, &j->timer, MIN((int64_t)FIRST_US << MIN(j->failures, 10u), LAST_US));
}

bool janitor_look(struct server *s, pid_t pid)
{
    if (s->janitor.pidfd < 0 || s->janitor.pid != pid)
        return false;
    janitor_on_exit(&s->janitor.watch, 0);
    return true;
}

/* --- what keepers before us left -------------------------------------------------------------------- */

static bool holds_a_box(const struct server *s, const char *path)
{
    size_t length = strlen(path);
    const struct box *b;

    list_each (b, &s->boxes, link)
        if (b->group && strncmp(b->group, path, length) == 0 && (b->group[length] == '/' || !b->group[length]))
            return true;
    return false;
}

static bool is_taken(const struct janitor *j, const char *path)
{
    for (unsigned i = 0; i < j->count; i++)
        if (strcmp(j->groups[i], path) == 0)
            return true;
    return false;
}

/* A group that is named like a sandbox is one; others are parents that people gave their containers. */
static bool sweep_group(void *ctx, const char *path)
{
    struct server *s = ctx;
    const char *name = strrchr(path, '/') + 1;
    const struct box *b = map_get(&s->by_sandbox, name);

    if (b && b->group && strcmp(b->group, path) == 0)
        return false;
    if (!box_sandbox_valid(name) || holds_a_box(s, path))
        return true;
    if (!is_taken(&s->janitor, path))
        janitor_take(s, path);
    return false;
}

void janitor_sweep(struct server *s)
{
    s->janitor.sweep_due = false;
    timer_clear(&s->janitor.sweep);
    if (s->has_groups)
        group_walk(&s->layout, s->group_base, sweep_group, s);
}

static void janitor_on_sweep(struct timer *t)
{
    janitor_sweep(container_of(t, struct server, janitor.sweep));
}

void janitor_sweep_soon(struct server *s)
{
    if (s->janitor.sweep_due)
        timer_set(&s->loop, &s->janitor.sweep, SWEEP_US);
}

void janitor_init(struct server *s)
{
    s->janitor.sweep_due = true;
    timer_init(&s->janitor.sweep, janitor_on_sweep);
    s->janitor.pidfd = -1;
    s->janitor.watch.fd = -1;
    timer_init(&s->janitor.timer, janitor_on_timer);
}

void janitor_take(struct server *s, const char *group)
{
    struct janitor *j = &s->janitor;

    if (j->count == j->capacity) {
        j->capacity = j->capacity ? 2 * j->capacity : 16;
        j->groups = mem_grow(j->groups, j->capacity, sizeof(*j->groups));
    }
    j->groups[j->count++] = mem_strdup(group);
    if (j->pidfd < 0 && !timer_is_set(&j->timer))
        timer_set(&s->loop, &j->timer, FIRST_US);
}

bool janitor_idle(const struct server *s)
{
    return s->janitor.count == 0;
}
