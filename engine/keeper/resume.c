/* Keepers after keepers: what a program finds that others left, and what it leaves to the next.
 *
 * Three ways lead here. A keeper that finds the lock free looks through the records of its run directory
 * (resume_scan): what still runs is watched again, by number, start time and boot id; what ended meanwhile is
 * reported, with its code when anybody can still tell. shoald may then hand over the duplicates it holds
 * (resume_adopt), and the logger those it reads. A keeper that is to be replaced by another program writes
 * everything into a memfd and executes it in its own place (resume_upgrade): children stay children, descriptors
 * stay open, a launch that is under way goes on.
 *
 * Before that the other program is run once, as a child, with the same state, and only asked whether it understands
 * it. A program that does not, or is none, leaves everything as it was. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/keeper/packet.h"
#include "engine/keeper/self.h"
#include "engine/keeper/server.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define STATE_VERSION 1
#define MAGIC_BYTES   8
#define CHECK_US      (5 * 1000000L)

int resume_lock(int run_fd, const char *name, int *ret_fd, struct err *e)
{
    for (;;) {
        AUTO_CLOSE
        int fd = openat(run_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        struct stat ours, there;

        if (fd < 0)
            return err_errno(e, "open %s", name);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return err_set(e, ERR_CONFLICT, "%s is held by a process that lives", name);
        /* Whoever ended properly has removed the file; then the lock on it excludes nobody. */
        if (fstat(fd, &ours) == 0 && fstatat(run_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            ours.st_ino == there.st_ino) {
            *ret_fd = steal_fd(&fd);
            return 0;
        }
    }
}

static int64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* --- by files -------------------------------------------------------------------------------------- */

static void open_namespace(struct box *b)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", b->pid);
    if (b->netns < 0)
        b->netns = open(path, O_RDONLY | O_CLOEXEC); /* fails when it is dying: then nobody needs it */
}

static void open_log(struct box *b)
{
    if (b->log < 0 && b->log_path && !b->log_discard)
        b->log = open(b->log_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* removed meanwhile: nothing to write */
}

/* Watch a container that was found, or finish one that ended unseen. */
static int take_up(struct box *b, struct err *e)
{
    bool ended = b->stage == BOX_STAGE__ENDED_BOX;
    struct err why;

    if (box_open_files(b, &why) < 0)
        log_warn("pipes of a container are gone", "container=%s error=\"%s\"", b->id, why.text);
    open_log(b);
    if (!ended && b->pidfd < 0 && process_open(b->pid, b->start, &b->pidfd, NULL) < 0) {
        b->exit.code = 255;
        b->exit.unknown = true;
        b->exit.ended_ns = wall_ns();
        ended = true;
    }
    if (ended) {
        /* Its last output may still be in the pipes that the logger holds. */
        b->stage = BOX_STAGE__DRAINING_BOX;
        (void)box_save(b, NULL); /* next time it would be found ended again */
    } else {
        open_namespace(b);
    }
    return launch_watch(b, e);
}

static void remove_leftover(struct server *s, const char *sandbox)
{
    AUTO_FREE
    char *group = mem_printf("%s/%s", s->group_base, sandbox);
    struct err e;

    if (s->has_groups)
        janitor_take(s, group);
    if (tree_remove(s->box_dir, sandbox, &e) < 0)
        log_warn("a dead sandbox is not removed", "sandbox=%s error=\"%s\"", sandbox, e.text);
}

static void scan_one(struct server *s, const char *sandbox)
{
    struct box *b;
    struct err e;
    int rc = box_load(s, sandbox, &b, &e);

    if (rc == 0)
        rc = take_up(b, &e);
    if (rc == 0) {
        log_info("container found", "container=%s sandbox=%s pid=%d stage=%d", b->id, sandbox, b->pid, b->stage);
        return;
    }
    if (rc != ERR_NOT_FOUND)
        log_error("a sandbox cannot be taken over", "sandbox=%s error=\"%s\"", sandbox, e.text);
    if (map_get(&s->by_sandbox, sandbox))
        return; /* known but not watched: too few descriptors; it stays until it is forgotten */
    remove_leftover(s, sandbox);
}

int resume_scan(struct server *s, struct err *e)
{
    int listed = openat(s->box_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    const struct dirent *entry;

    if (!dir)
        return err_errno(e, "list the sandboxes");
    while ((entry = readdir(dir)))
        if (box_sandbox_valid(entry->d_name))
            scan_one(s, entry->d_name);
    closedir(dir);
    return 0;
}

/* --- by duplicates --------------------------------------------------------------------------------- */

int resume_adopt(struct server *s, const Box *m, int *fds, unsigned fd_count, struct err *e)
{
    if (!m->id || !box_sandbox_valid(m->sandbox))
        return err_set(e, ERR_INVALID, "adopt: sandbox \"%s\"", m->sandbox);
    struct box *b = map_get(&s->by_id, m->id);
    if (b) { /* found by its files already: take what those cannot give */
        if (strcmp(b->sandbox, m->sandbox) != 0)
            return err_set(e, ERR_CONFLICT, "adopt: container %s is in sandbox %s", m->id, b->sandbox);
        bool had_output = b->terminal >= 0 || b->out >= 0;

        if (b->stage <= BOX_STAGE__RUNNING_BOX)
            box_take_fds(b, m, fds, fd_count);
        if (!had_output)
            logger_add(b);
        return 0;
    }
    if (m->exit || map_get(&s->by_sandbox, m->sandbox))
        return 0; /* shoald knows how it ended, or it is being removed */
    b = box_new(s, m->sandbox);
    if (!b)
        return err_set(e, ERR_LIMIT, "more than %d sandboxes", BOXES_MAX);
    box_fill(b, m);
    box_take_fds(b, m, fds, fd_count);
    b->announced = true;
    (void)mkdirat(s->box_dir, b->sandbox, 0700); /* usually there; without it no record is kept */
    int rc = take_up(b, e);
    if (rc < 0) {
        box_free(b);
        return rc;
    }
    (void)box_save(b, NULL);
    if (b->stage == BOX_STAGE__DRAINING_BOX)
        logger_drain(b);
    else
        logger_add(b);
    return 0;
}

/* --- by state -------------------------------------------------------------------------------------- */

static KeeperError *describe_error(struct arena *a, const struct err *e)
{
    KeeperError *m = ARENA_NEW(a, KeeperError);

    keeper_error__init(m);
    m->code = e->code;
    m->text = (char *)e->text;
    return m;
}

static void describe_rest(const struct box *b, Box *m, const struct server *s, struct arena *a)
{
    m->has_serial = b->serial != 0 && b->generation == s->control.generation;
    m->serial = b->serial;
    m->has_released = m->has_reported = true;
    m->released = b->executes;
    m->has_holding = true;
    m->holding = b->holding;
    m->reported = b->reported;
    m->has_announced = true;
    m->announced = b->announced;
    if (b->recipe) {
        m->has_recipe = true;
        m->recipe.data = b->recipe->data;
        m->recipe.len = b->recipe->size;
    }
    m->error = b->error ? describe_error(a, b->error) : NULL;
}

static void describe_answers(const struct server *s, KeeperState *state, struct arena *a)
{
    const struct answer *answer;

    state->answers = arena_array(a, s->control.answer_count, sizeof(*state->answers));
    list_each (answer, &s->control.answers, link) {
        KeeperEvent *m = ARENA_NEW(a, KeeperEvent);

        keeper_event__init(m);
        m->has_serial = true;
        m->serial = answer->serial;
        m->error = answer->error.code ? describe_error(a, &answer->error) : NULL;
        state->answers[state->n_answers++] = m;
    }
}

static int write_state(struct server *s, int *ret_fd, struct err *e)
{
    AUTO_ARENA struct arena a;
    KeeperState state = KEEPER_STATE__INIT;
    struct box *b;
    struct recipe *r;
    size_t count = 0;

    arena_init(&a);
    state.version = STATE_VERSION;
    state.boxes = arena_array(&a, s->box_count + 1, sizeof(*state.boxes));
    list_each (b, &s->boxes, link) {
        struct box_message *m = ARENA_NEW(&a, struct box_message);

        box_describe(b, m, NULL, NULL);
        describe_rest(b, &m->box, s, &a);
        state.boxes[count++] = &m->box;
    }
    state.n_boxes = count;
    state.recipes = arena_array(&a, RECIPES_MAX, sizeof(*state.recipes));
    list_each (r, &s->pool.recipes, link)
        state.recipes[state.n_recipes++] = (ProtobufCBinaryData){.data = r->data, .len = r->size};
    state.n_leftovers = s->janitor.count;
    state.leftovers = s->janitor.groups;
    state.has_lock_fd = state.has_listen_fd = state.has_upgrade_serial = true;
    state.has_warm_min = state.has_warm_max = true;
    state.lock_fd = (uint32_t)s->lock;
    state.listen_fd = (uint32_t)s->listener;
    state.upgrade_serial = s->upgrade.serial;
    state.warm_min = s->pool.min;
    state.warm_max = s->pool.max;
    state.has_control_fd = s->control.fd >= 0;
    state.control_fd = (uint32_t)s->control.fd;
    state.has_mount_namespace_fd = s->control.client_ns >= 0;
    state.mount_namespace_fd = (uint32_t)s->control.client_ns;
    state.has_held_fd = s->held >= 0;
    state.held_fd = (uint32_t)s->held;
    state.has_files_soft = true;
    state.files_soft = s->files.rlim_cur;
    state.has_ready_due = true;
    state.ready_due = s->control.ready_due;
    describe_answers(s, &state, &a);

    size_t size = keeper_state__get_packed_size(&state);
    uint8_t *data = arena_alloc(&a, MAGIC_BYTES + size);
    memcpy(data, KEEPER_STATE_MAGIC, MAGIC_BYTES);
    keeper_state__pack(&state, data + MAGIC_BYTES);
    return memfd_sealed("shoal-keeper-state", data, MAGIC_BYTES + size, ret_fd, e);
}

static KeeperState *read_state(struct arena *a, int fd, struct err *e)
{
    const void *data;
    size_t size;
    KeeperState *state = NULL;

    if (memfd_map(fd, &data, &size, e) < 0)
        return NULL;
    if (size > MAGIC_BYTES && memcmp(data, KEEPER_STATE_MAGIC, MAGIC_BYTES) == 0)
        state = arena_unpack(a, &keeper_state__descriptor, (const char *)data + MAGIC_BYTES, size - MAGIC_BYTES);
    memfd_unmap(data, size);
    if (!state)
        err_set(e, ERR_CORRUPT, "the state of the keeper before is none");
    else if (state->version != STATE_VERSION) {
        err_set(e, ERR_UNSUPPORTED, "the state of the keeper before is of version %u", state->version);
        state = NULL;
    }
    return state;
}

int resume_accepts(int state_fd, struct err *e)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    return read_state(&a, state_fd, e) ? 0 : e->code;
}

static int own(bool has, uint32_t number)
{
    int fd = has ? (int)number : -1;

    if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -1; /* it is none */
    return fd;
}

static void own_all(const Box *m, struct box *b)
{
    b->pidfd = own(m->has_pidfd_fd, m->pidfd_fd);
    b->netns = own(m->has_netns_fd, m->netns_fd);
    b->terminal = own(m->has_terminal_fd, m->terminal_fd);
    b->in = own(m->has_stdin_fd, m->stdin_fd);
    b->out = own(m->has_stdout_fd, m->stdout_fd);
    b->err = own(m->has_stderr_fd, m->stderr_fd);
    b->log = own(m->has_log_fd, m->log_fd);
    b->channel = own(m->has_channel_fd, m->channel_fd);
}

/* What another program's code means to us. */
static void take_error(const KeeperError *m, struct err *ret)
{
    err_set(ret, m->code < 0 && m->code >= ERR_INTERNAL ? m->code : ERR_INTERNAL, "%s", m->text);
}

static int restore_box(struct server *s, const Box *m, struct err *e)
{
    struct box *b = box_sandbox_valid(m->sandbox) ? box_new(s, m->sandbox) : NULL;

    if (!b)
        return err_set(e, ERR_CORRUPT, "sandbox \"%s\"", m->sandbox);
    box_fill(b, m);
    own_all(m, b);
    b->adopted = m->adopted;
    b->stage = (int)m->stage;
    b->executes = m->released;
    b->holding = m->holding;
    b->announced = m->announced;
    b->reported = m->reported;
    if (m->error) {
        b->error = mem_alloc(sizeof(*b->error));
        take_error(m->error, b->error);
    }
    s->launching += b->stage == BOX_STAGE__LAUNCHING_BOX;
    if (m->has_serial) {
        b->serial = m->serial;
        b->generation = s->control.generation;
    }
    if (!b->adopted)
        map64_put(&s->by_pid, (uint64_t)b->pid, b);
    int rc = launch_watch(b, e);
    /* Warm ones know the old program's plans, not ours. */
    if (rc == 0 && (b->stage == BOX_STAGE__PREPARING_BOX || b->stage == BOX_STAGE__WARM_BOX))
        launch_give_up(b);
    return rc;
}

int resume_state(struct server *s, int state_fd, struct err *e)
{
    AUTO_ARENA struct arena a;
    int rc = 0;

    arena_init(&a);
    const KeeperState *state = read_state(&a, state_fd, e);
    close(state_fd);
    if (!state)
        return e->code;
    s->lock = own(state->has_lock_fd, state->lock_fd);
    s->listener = own(state->has_listen_fd, state->listen_fd);
    s->held = own(state->has_held_fd, state->held_fd);
    if (state->has_files_soft)
        s->files.rlim_cur = (rlim_t)state->files_soft;
    rc = control_start(s, e);
    s->pool.min = state->warm_min;
    s->pool.max = state->warm_max;
    int control = own(state->has_control_fd, state->control_fd);
    int ns = own(state->has_mount_namespace_fd, state->mount_namespace_fd);
    if (rc == 0 && control >= 0)
        rc = control_resume(s, control, ns, e);
    for (size_t i = 0; rc == 0 && i < state->n_boxes; i++)
        rc = restore_box(s, state->boxes[i], e);
    for (size_t i = 0; i < state->n_leftovers; i++)
        janitor_take(s, state->leftovers[i]);
    for (size_t i = state->n_recipes; i-- > 0;)
        (void)pool_add(s, state->recipes[i].data, state->recipes[i].len,
                       NULL); /* one we do not know is not kept warm */
    if (rc < 0)
        return rc;
    s->control.ready_due = state->ready_due;
    for (size_t i = 0; i < state->n_answers; i++) {
        const KeeperError *error = state->answers[i]->error;
        struct err why;

        if (error)
            take_error(error, &why);
        control_answer(s, state->answers[i]->serial, error ? &why : NULL);
    }
    struct box *b;
    list_each (b, &s->boxes, link)
        if (b->id && (b->holding || (b->stage >= BOX_STAGE__RUNNING_BOX && (!b->announced || !b->reported))))
            control_say(b);
    control_answer(s, state->upgrade_serial, NULL);
    log_info("keeper program replaced", "version=%s boxes=%u", SHOAL_VERSION, s->box_count);
    return 0;
}

/* --- to another program ---------------------------------------------------------------------------- */

static void upgrade_end(struct server *s, const struct err *e)
{
    struct upgrade *u = &s->upgrade;
    uint32_t serial = u->serial;

    watch_stop(&s->loop, &u->watch);
    timer_clear(&u->timer);
    const int fds[] = {u->program, u->state, u->pidfd};
    fds_close(fds, ARRAY_SIZE(fds));
    u->program = u->state = u->pidfd = -1;
    u->serial = 0;
    u->pid = 0;
    control_answer(s, serial, e);
}

static void keep_open(const struct server *s, bool keep)
{
    const struct box *b;
    const int own_fds[] = {s->lock, s->listener, s->held, s->control.fd, s->control.client_ns, s->upgrade.state};

    for (size_t i = 0; i < ARRAY_SIZE(own_fds); i++)
        if (own_fds[i] >= 0)
            (void)fcntl(own_fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC); /* ours: cannot fail */
    list_each (b, &s->boxes, link) {
        const int fds[] = {b->pidfd, b->netns, b->terminal, b->in, b->out, b->err, b->log, b->channel};

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
            if (fds[i] >= 0)
                (void)fcntl(fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
    }
}

/* Execute the other program in our place. Returns only when that fails. */
static int replace(struct server *s, struct err *e)
{
    char number[12];
    unsigned count = 0;

    close(s->upgrade.state);
    s->upgrade.state = -1;
    int rc = write_state(s, &s->upgrade.state, e);
    if (rc < 0)
        return rc;
    while (s->argv[count])
        count++;
    AUTO_FREE
    char **argv = mem_array(count + 3, sizeof(char *));
    memcpy(argv, s->argv, count * sizeof(char *));
    (void)snprintf(number, sizeof(number), "%d", s->upgrade.state);
    argv[count] = (char *)"--resume";
    argv[count + 1] = number;
    keep_open(s, true);
    (void)syscall(SYS_execveat, s->upgrade.program, "", argv, environ, AT_EMPTY_PATH);
    rc = err_errno(e, "execute the new program");
    keep_open(s, false);
    return rc;
}

static void check_ended(struct server *s, int status)
{
    struct err e;

    watch_stop(&s->loop, &s->upgrade.watch);
    if (status != 0) {
        err_set(&e, ERR_UNSUPPORTED, "the new program does not accept our state (it ended with %d)",
                process_exit_code(status));
        upgrade_end(s, &e);
        return;
    }
    logger_quit(s); /* the new program brings its own; pipes keep what is written meanwhile */
    (void)replace(s, &e);
    s->logger.leaving = false;
    logger_begin(s);
    upgrade_end(s, &e);
}

static void check_on_exit(struct watch *w, uint32_t events)
{
    struct server *s = container_of(w, struct server, upgrade.watch);
    int status = 0;

    (void)events;
    if (process_end(s->upgrade.pidfd, 0, 0, &status) == PROCESS_ENDED)
        check_ended(s, status);
}

bool resume_look(struct server *s, pid_t pid)
{
    if (s->upgrade.pidfd < 0 || s->upgrade.pid != pid)
        return false;
    check_on_exit(&s->upgrade.watch, 0);
    return true;
}

static void check_on_timer(struct timer *t)
{
    struct server *s = container_of(t, struct server, upgrade.timer);

    (void)process_signal(s->upgrade.pidfd, SIGKILL, NULL); /* its exit tells that it did not accept */
}

static _Noreturn void exec_check(struct server *s)
{
    char number[12];
    char *argv[] = {s->argv[0], (char *)"--accepts", number, NULL};

    (void)snprintf(number, sizeof(number), "%d", s->upgrade.state);
    if (fcntl(s->upgrade.state, F_SETFD, 0) == 0)
        (void)syscall(SYS_execveat, s->upgrade.program, "", argv, environ, AT_EMPTY_PATH);
    _exit(127);
}

static int begin_check(struct server *s, struct err *e)
{
    struct upgrade *u = &s->upgrade;
    struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&u->pidfd, .exit_signal = SIGCHLD};
    int rc = write_state(s, &u->state, e);

    if (rc < 0)
        return rc;
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        exec_check(s);
    if (pid < 0)
        return err_errno(e, "start the new program");
    u->pid = (pid_t)pid;
    timer_set(&s->loop, &u->timer, CHECK_US);
    return watch_start(&s->loop, &u->watch, u->pidfd, EPOLLIN, check_on_exit, e);
}

void resume_upgrade(struct server *s, uint32_t serial, int program_fd)
{
    struct upgrade *u = &s->upgrade;
    struct err e;
    int rc = 0;

    if (u->program >= 0 || s->stop_serial) {
        err_set(&e, ERR_CONFLICT, "the keeper is being replaced or stopped already");
        if (program_fd >= 0)
            close(program_fd);
        control_answer(s, serial, &e);
        return;
    }
    u->serial = serial;
    rc = program_fd < 0 ? err_set(&e, ERR_INVALID, "no program") : self_copy(program_fd, &u->program, &e);
    if (program_fd >= 0)
        close(program_fd);
    if (rc == 0)
        rc = begin_check(s, &e);
    if (rc < 0)
        upgrade_end(s, &e);
}

void resume_init(struct server *s)
{
    s->upgrade.program = s->upgrade.state = s->upgrade.pidfd = s->upgrade.watch.fd = -1;
    timer_init(&s->upgrade.timer, check_on_timer);
}
