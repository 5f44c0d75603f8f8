/* One sandbox and the container in it: data, files, messages (server.h).
 *
 * Its directory <run-dir>/keeper/box/<sandbox> holds the pipes of its output and, once a container is in it,
 * `state`: magic, checksum and a packed Box. The record is written before the child may execute anything and again
 * when it ended, so whatever dies, a later keeper finds what ran here and how it ended. A directory without a
 * record is a sandbox that never had a container. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/keeper/packet.h"
#include "engine/keeper/server.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"

#define RECORD_MAGIC "SHOALBX1"
#define RECORD_MAX   65536

static const char *const stages[] = {"preparing", "warm", "launching", "running", "draining", "ended"};
static const uint32_t moves[] = {
    [BOX_STAGE__PREPARING_BOX] =
        SM_TO(BOX_STAGE__WARM_BOX) | SM_TO(BOX_STAGE__LAUNCHING_BOX) | SM_TO(BOX_STAGE__ENDED_BOX),
    [BOX_STAGE__WARM_BOX] = SM_TO(BOX_STAGE__LAUNCHING_BOX) | SM_TO(BOX_STAGE__ENDED_BOX),
    [BOX_STAGE__LAUNCHING_BOX] = SM_TO(BOX_STAGE__RUNNING_BOX) | SM_TO(BOX_STAGE__ENDED_BOX),
    [BOX_STAGE__RUNNING_BOX] = SM_TO(BOX_STAGE__DRAINING_BOX),
    [BOX_STAGE__DRAINING_BOX] = SM_TO(BOX_STAGE__ENDED_BOX),
    [BOX_STAGE__ENDED_BOX] = 0,
};
static const struct sm_table table = {
    .machine = "box", .states = stages, .moves = moves, .count = ARRAY_SIZE(stages)};

/* The descriptors of a box that shoald gets duplicates of come first. */
#define SHARED_FDS 6

static int *fd_of(struct box *b, unsigned i)
{
    int *const fds[] = {&b->pidfd, &b->netns, &b->terminal, &b->in, &b->out, &b->err, &b->log, &b->channel};

    return i < ARRAY_SIZE(fds) ? fds[i] : NULL;
}

void box_move(struct box *b, BoxStage next)
{
    b->server->launching += next == BOX_STAGE__LAUNCHING_BOX;
    b->server->launching -= b->stage == BOX_STAGE__LAUNCHING_BOX;
    sm_move(&table, &b->stage, (int)next);
}

struct box *box_new(struct server *s, const char *sandbox)
{
    uint8_t random[SANDBOX_TEXT / 2];

    if (s->box_count >= BOXES_MAX)
        return NULL;
    struct box *b = mem_alloc(sizeof(*b));
    b->server = s;
    b->stage = BOX_STAGE__PREPARING_BOX;
    list_init(&b->link);
    list_init(&b->say);
    list_init(&b->pooled);
    list_init(&b->timer.link);
    b->exit_watch.fd = b->channel_watch.fd = -1;
    for (unsigned i = 0; fd_of(b, i); i++)
        *fd_of(b, i) = -1;
    if (sandbox) {
        (void)snprintf(b->sandbox, sizeof(b->sandbox), "%s", sandbox);
    } else {
        entropy_fill(entropy_real(), random, sizeof(random));
        hex_encode(random, sizeof(random), b->sandbox);
    }
    list_push(&s->boxes, &b->link);
    map_put(&s->by_sandbox, b->sandbox, b);
    s->box_count++;
    return b;
}

void box_set_id(struct box *b, const char *id)
{
    b->id = mem_strdup(id);
    map_put(&b->server->by_id, b->id, b);
}

void box_free(struct box *b)
{
    struct server *s = b->server;

    watch_stop(&s->loop, &b->exit_watch);
    watch_stop(&s->loop, &b->channel_watch);
    timer_clear(&b->timer);
    list_remove(&b->link);
    list_remove(&b->say);
    list_remove(&b->pooled);
    map_remove(&s->by_sandbox, b->sandbox);
    if (b->id)
        map_remove(&s->by_id, b->id);
    if (b->pid > 0 && map64_get(&s->by_pid, (uint64_t)b->pid) == b)
        map64_remove(&s->by_pid, (uint64_t)b->pid);
    s->launching -= b->stage == BOX_STAGE__LAUNCHING_BOX;
    s->box_count--;
    for (unsigned i = 0; fd_of(b, i); i++)
        if (*fd_of(b, i) >= 0)
            close(*fd_of(b, i));
    free(b->id);
    free(b->group);
    free(b->log_path);
    free(b->error);
    free(b);
}

void box_remove(struct box *b)
{
    static const char *const files[] = {"stdin", "stdout", "stderr", "state", ".state.tmp"};
    int dir = openat(b->server->box_dir, b->sandbox, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(files); i++)
        (void)unlinkat(dir, files[i], 0); /* most are not there */
    if (dir >= 0)
        close(dir);
    (void)unlinkat(b->server->box_dir, b->sandbox, AT_REMOVEDIR); /* what stays is removed by the next scan */
    if (b->group)
        janitor_take(b->server, b->group);
    box_free(b);
}

/* --- files ----------------------------------------------------------------------------------------- */

static int open_dir(struct box *b, int *ret_fd, struct err *e)
{
    *ret_fd = openat(b->server->box_dir, b->sandbox, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 ? err_errno(e, "open directory of sandbox %s", b->sandbox) : 0;
}

/* For reading and writing: the output never ends by somebody's death, only by the keeper's word (logger.c). */
static int open_output(int dir, const char *name, int *ret_fd, struct err *e)
{
    *ret_fd = openat(dir, name, O_RDWR | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 ? err_errno(e, "open %s", name) : 0;
}

int box_open_files(struct box *b, struct err *e)
{
    AUTO_CLOSE
    int dir = -1;
    int rc = open_dir(b, &dir, e);

    if (rc == 0 && b->out < 0 && !b->tty)
        rc = open_output(dir, "stdout", &b->out, e);
    if (rc == 0 && b->err < 0 && !b->tty)
        rc = open_output(dir, "stderr", &b->err, e);
    if (rc == 0 && b->in < 0 && b->open_stdin && !b->tty)
        b->in =
            openat(dir, "stdin", O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC); /* fails when nobody reads it */
    return rc;
}

int box_make_files(struct box *b, struct err *e)
{
    AUTO_CLOSE
    int dir = -1;

    if (mkdirat(b->server->box_dir, b->sandbox, 0700) < 0)
        return err_errno(e, "make directory of sandbox %s", b->sandbox);
    int rc = open_dir(b, &dir, e);
    if (rc < 0)
        return rc;
    if (mkfifoat(dir, "stdout", 0600) < 0 || mkfifoat(dir, "stderr", 0600) < 0)
        return err_errno(e, "make pipes of sandbox %s", b->sandbox);
    rc = open_output(dir, "stdout", &b->out, e);
    if (rc == 0)
        rc = open_output(dir, "stderr", &b->err, e);
    return rc;
}

int box_make_stdin(struct box *b, int *ret_reader, struct err *e)
{
    AUTO_CLOSE
    int dir = -1;
    int rc = open_dir(b, &dir, e);

    if (rc < 0)
        return rc;
    if (mkfifoat(dir, "stdin", 0600) < 0)
        return err_errno(e, "make the pipe of the standard input");
    /* The reader first and without blocking, else each end would wait for the other. */
    AUTO_CLOSE
    int reader = openat(dir, "stdin", O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    b->in = openat(dir, "stdin", O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (reader < 0 || b->in < 0 || fcntl(reader, F_SETFL, O_RDONLY) < 0)
        return err_errno(e, "open the pipe of the standard input");
    *ret_reader = steal_fd(&reader);
    return 0;
}

/* --- messages -------------------------------------------------------------------------------------- */

static void describe_fds(const struct box *b, Box *m, int *fds, unsigned *fd_count)
{
    struct {
        protobuf_c_boolean *has;
        uint32_t *value;
    } const fields[] = {
        {&m->has_pidfd_fd, &m->pidfd_fd},       {&m->has_netns_fd, &m->netns_fd},
        {&m->has_terminal_fd, &m->terminal_fd}, {&m->has_stdin_fd, &m->stdin_fd},
        {&m->has_stdout_fd, &m->stdout_fd},     {&m->has_stderr_fd, &m->stderr_fd},
        {&m->has_log_fd, &m->log_fd},           {&m->has_channel_fd, &m->channel_fd},
    };
    unsigned shared = fds ? SHARED_FDS : ARRAY_SIZE(fields);

    for (unsigned i = 0; i < shared; i++) {
        int fd = *fd_of((struct box *)b, i);

        if (fd < 0)
            continue;
        *fields[i].has = true;
        *fields[i].value = fds ? *fd_count : (uint32_t)fd;
        if (fds)
            fds[(*fd_count)++] = fd;
    }
}

void box_describe(const struct box *b, struct box_message *ret, int *fds, unsigned *fd_count)
{
    Box *m = &ret->box;

    box__init(m);
    m->sandbox = (char *)b->sandbox;
    m->id = b->id;
    m->has_stage = true;
    m->stage = (BoxStage)b->stage;
    m->has_pid = true;
    m->pid = b->pid;
    m->has_pid_start = true;
    m->pid_start = b->start;
    m->has_started_ns = true;
    m->started_ns = b->started_ns;
    m->has_tty = true;
    m->tty = b->tty;
    m->has_open_stdin = true;
    m->open_stdin = b->open_stdin;
    m->cgroup = b->group;
    m->log_path = b->log_path;
    m->has_log_size_max = true;
    m->log_size_max = b->log_size_max;
    m->has_log_files_max = true;
    m->log_files_max = b->log_files_max;
    m->has_log_discard = true;
    m->log_discard = b->log_discard;
    m->has_log_live = true;
    m->log_live = b->log_live;
    m->has_adopted = true;
    m->adopted = b->adopted;
    if (b->stage >= BOX_STAGE__DRAINING_BOX) {
        box_exit__init(&ret->exit);
        ret->exit.code = b->exit.code;
        ret->exit.ended_ns = b->exit.ended_ns;
        ret->exit.has_oom_killed = ret->exit.has_unknown = true;
        ret->exit.oom_killed = b->exit.oom_killed;
        ret->exit.unknown = b->exit.unknown;
        m->exit = &ret->exit;
    }
    if (fds || fd_count == NULL)
        describe_fds(b, m, fds, fd_count);
}

int box_save(struct box *b, struct err *e)
{
    struct box_message m;
    unsigned none = 0;

    box_describe(b, &m, NULL, &none);
    m.box.boot = b->server->boot;
    size_t size = box__get_packed_size(&m.box);
    AUTO_FREE
    uint8_t *record = mem_alloc(12 + size);
    memcpy(record, RECORD_MAGIC, 8);
    box__pack(&m.box, record + 12);
    uint32_t sum = crc32c(0, record + 12, size);
    memcpy(record + 8, &sum, 4);

    AUTO_CLOSE
    int dir = -1;
    int rc = open_dir(b, &dir, e);
    return rc < 0 ? rc : file_replace(dir, "state", 0600, record, 12 + size, false, e);
}

void box_fill(struct box *b, const Box *m)
{
    if (m->id)
        box_set_id(b, m->id);
    b->pid = m->pid;
    b->start = m->pid_start;
    b->started_ns = m->started_ns;
    b->tty = m->tty;
    b->open_stdin = m->open_stdin;
    b->group = m->cgroup ? mem_strdup(m->cgroup) : NULL;
    b->log_path = m->log_path ? mem_strdup(m->log_path) : NULL;
    b->log_size_max = m->log_size_max;
    b->log_files_max = m->log_files_max;
    b->log_discard = m->log_discard;
    b->log_live = m->log_live;
    b->adopted = true;
    if (m->exit) {
        b->exit.code = m->exit->code;
        b->exit.ended_ns = m->exit->ended_ns;
        b->exit.oom_killed = m->exit->oom_killed;
        b->exit.unknown = m->exit->unknown;
    }
    /* By what is known of it: it has ended, or it was (or was about to be) executed. */
    b->stage = m->exit ? BOX_STAGE__ENDED_BOX : BOX_STAGE__RUNNING_BOX;
}

bool box_sandbox_valid(const char *sandbox)
{
    return hex_valid(sandbox, SANDBOX_TEXT);
}

void box_take_fds(struct box *b, const Box *m, int *fds, unsigned fd_count)
{
    const struct {
        bool has;
        uint32_t position;
    } named[] = {
        {m->has_pidfd_fd, m->pidfd_fd}, {m->has_netns_fd, m->netns_fd},     {m->has_terminal_fd, m->terminal_fd},
        {m->has_stdin_fd, m->stdin_fd}, {m->has_stdout_fd, m->stdout_fd},   {m->has_stderr_fd, m->stderr_fd},
        {m->has_log_fd, m->log_fd},     {m->has_channel_fd, m->channel_fd},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(named); i++)
        if (named[i].has && named[i].position < fd_count && *fd_of(b, i) < 0)
            *fd_of(b, i) = steal_fd(&fds[named[i].position]);
}

int box_load(struct server *s, const char *sandbox, struct box **ret, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/state", sandbox);
    AUTO_BUF struct buf text = {0};
    AUTO_ARENA struct arena a;
    uint32_t sum;

    arena_init(&a);
    int rc = file_read(s->box_dir, path, RECORD_MAX, &text, e);
    if (rc < 0)
        return rc;
    const char *data = buf_bytes(&text);
    if (text.length < 12 || memcmp(data, RECORD_MAGIC, 8) != 0)
        return err_set(e, ERR_CORRUPT, "the record of sandbox %s is none", sandbox);
    memcpy(&sum, data + 8, 4);
    const Box *m = arena_unpack(&a, &box__descriptor, data + 12, text.length - 12);
    if (crc32c(0, data + 12, text.length - 12) != sum || !m || !m->id || strcmp(m->sandbox, sandbox) != 0)
        return err_set(e, ERR_CORRUPT, "the record of sandbox %s is damaged", sandbox);
    if (!m->boot || strcmp(m->boot, s->boot) != 0)
        return err_set(e, ERR_NOT_FOUND, "sandbox %s was of another boot", sandbox);
    if (map_get(&s->by_id, m->id))
        return err_set(e, ERR_EXISTS, "sandbox %s: container %s is in another one", sandbox, m->id);
    struct box *b = box_new(s, sandbox);
    if (!b)
        return err_set(e, ERR_LIMIT, "more than %d sandboxes", BOXES_MAX);
    box_fill(b, m);
    *ret = b;
    return 0;
}
