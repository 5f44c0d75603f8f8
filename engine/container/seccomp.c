/* See seccomp.h.
 *
 *     wanted --in memory--> there
 *        |--file is good--> there
 *        v
 *     queued --fewer than JOBS_MAX run--> compiling --answer--> there, and a file
 *                                             |--error--> forgotten (the next who wants it tries again)
 *
 * The key of a program is a digest of everything it depends on, our own version included, since the default profile
 * is part of shoal-job. A file begins with magic, checksum and key; one that is damaged, or is of other things than
 * its name says, is compiled again. Programs are small and few: a node has one, or a handful where profiles are
 * custom. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/container/seccomp.h"
#include "engine/keeper/packet.h"
#include "proto/base/arena.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/launch.pb-c.h"

#define MAGIC        "SHOALSC1"
#define HEAD_BYTES   (8 + 4 + SHA256_BYTES)
#define FILE_MAX     (HEAD_BYTES + BPF_MAXINSNS * sizeof(struct sock_filter))
#define ANSWER_MAX   (FILE_MAX + 4096)
#define PROFILE_MAX  (1u << 20)
#define PROGRAMS_MAX 64  /* in memory; the one longest unused goes */
#define FILES_MAX    256 /* in the directory at open */
#define JOBS_MAX     2
#define JOB_MS       30000

enum stage { QUEUED, COMPILING, THERE };

struct waiter {
    struct list link;
    void (*done)(void *ctx, const struct err *e, int fd);
    void *ctx;
};

struct program {
    struct seccomp *owner;
    struct list link; /* last used first */
    char key[SHA256_HEX + 1];
    uint8_t digest[SHA256_BYTES];
    enum stage stage;
    int fd;              /* sealed memfd, owned; -1 until it is there */
    struct list waiters; /* struct waiter */
    uint8_t *request;    /* packed ProfileRequest, owned; until it is compiled */
    size_t request_size;
    struct job *job; /* while compiling */
};

struct job { /* one run of shoal-job; on the heap until all its handles are closed */
    struct seccomp *owner;
    struct program *program; /* NULL: nobody wants it any more */
    uv_process_t process;
    uv_pipe_t input, output;
    uv_timer_t timer;
    uv_write_t write;
    uint8_t *request; /* owned */
    char *answer;     /* ANSWER_MAX */
    size_t length;
    bool started, exited, ended; /* the process, its output */
    struct err failure;          /* it could not be started */
    unsigned open;               /* handles not yet closed */
};

struct seccomp {
    uv_loop_t *loop;
    char *job;
    int dir;
    char machine[256]; /* kernel and architecture */
    struct list programs;
    unsigned count, running;
    unsigned open; /* jobs alive, and the handle that closing brings */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void start_jobs(struct seccomp *s);

/* --- programs -------------------------------------------------------------------------------------- */

static void program_free(struct program *p)
{
    struct list *l;

    while ((l = list_pop(&p->waiters)))
        free(list_entry(l, struct waiter, link));
    list_remove(&p->link);
    p->owner->count--;
    if (p->job)
        p->job->program = NULL;
    if (p->fd >= 0)
        close(p->fd);
    free(p->request);
    free(p);
}

static void tell(struct program *p, const struct err *e)
{
    struct list waiters;
    struct list *l;
    int fd = p->fd;

    list_init(&waiters);
    list_splice(&waiters, &p->waiters);
    while ((l = list_pop(&waiters))) {
        struct waiter w = *list_entry(l, struct waiter, link);

        free(list_entry(l, struct waiter, link));
        w.done(w.ctx, e, fd);
    }
}

static void failed(struct program *p, const struct err *e)
{
    list_remove(&p->link); /* whoever asks from inside a callback gets a new try */
    list_init(&p->link);
    tell(p, e);
    program_free(p);
}

static void trim(struct seccomp *s)
{
    struct program *p, *after;

    if (s->count <= PROGRAMS_MAX)
        return;
    p = list_last(&s->programs, struct program, link);
    for (; p && s->count > PROGRAMS_MAX; p = after) {
        after = p->link.prev == &s->programs ? NULL : list_entry(p->link.prev, struct program, link);
        if (p->stage == THERE)
            program_free(p);
    }
}

/* --- files ----------------------------------------------------------------------------------------- */

static int check_size(size_t size, struct err *e)
{
    if (size == 0 || size % sizeof(struct sock_filter) || size / sizeof(struct sock_filter) > BPF_MAXINSNS)
        return err_set(e, ERR_CORRUPT, "a seccomp program of %zu bytes", size);
    return 0;
}

static int load_file(struct program *p, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    uint32_t sum;
    int rc = file_read(p->owner->dir, p->key, FILE_MAX, &text, e);

    if (rc < 0)
        return rc;
    const char *data = buf_bytes(&text);
    if (text.length < HEAD_BYTES || memcmp(data, MAGIC, 8) != 0)
        return err_set(e, ERR_CORRUPT, "seccomp cache: %s is none of ours", p->key);
    memcpy(&sum, data + 8, 4);
    if (sum != crc32c(0, data + 12, text.length - 12) || memcmp(data + 12, p->digest, SHA256_BYTES) != 0)
        return err_set(e, ERR_CORRUPT, "seccomp cache: %s is damaged", p->key);
    rc = check_size(text.length - HEAD_BYTES, e);
    return rc < 0 ? rc : memfd_sealed("shoal-seccomp", data + HEAD_BYTES, text.length - HEAD_BYTES, &p->fd, e);
}

/* Not synced: a file that did not survive is compiled again. */
static void save_file(const struct program *p, const void *code, size_t size)
{
    AUTO_FREE
    char *data = mem_alloc(HEAD_BYTES + size);
    struct err e;

    memcpy(data, MAGIC, 8);
    memcpy(data + 12, p->digest, SHA256_BYTES);
    memcpy(data + HEAD_BYTES, code, size);
    uint32_t sum = crc32c(0, data + 12, SHA256_BYTES + size);
    memcpy(data + 8, &sum, 4);
    if (file_replace(p->owner->dir, p->key, 0600, data, HEAD_BYTES + size, false, &e) < 0)
        log_warn("seccomp program not kept on disk", "error=\"%s\"", e.text);
}

/* Profiles that came and went leave files; a directory with too many of them begins anew. */
static void empty_if_full(int dir)
{
    int listed = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = listed < 0 ? NULL : fdopendir(listed);
    const struct dirent *entry;
    unsigned count = 0;

    for (int pass = 0; d && pass < 2; pass++) {
        while ((entry = readdir(d))) {
            if (!hex_valid(entry->d_name, SHA256_HEX))
                continue;
            count += pass == 0;
            if (pass == 1)
                (void)unlinkat(dir, entry->d_name, 0); /* what stays is no harm */
        }
        if (count <= FILES_MAX)
            break;
        rewinddir(d);
    }
    if (d)
        closedir(d);
}

/* --- jobs ------------------------------------------------------------------------------------------ */

static void one_closed(struct seccomp *s)
{
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;

    if (--s->open || !s->closing)
        return;
    close(s->dir);
    free(s->job);
    free(s);
    if (closed)
        closed(ctx);
}

static void job_on_closed(uv_handle_t *handle)
{
    struct job *j = handle->data;
    struct seccomp *s = j->owner;

    if (--j->open)
        return;
    if (j->program) { /* it could not be started: said here, since a callback never comes from inside a call */
        j->program->job = NULL;
        failed(j->program, &j->failure);
    }
    free(j->request);
    free(j->answer);
    free(j);
    one_closed(s);
}

static void job_close(struct job *j)
{
    uv_handle_t *const handles[] = {(uv_handle_t *)&j->process, (uv_handle_t *)&j->input, (uv_handle_t *)&j->output,
                                    (uv_handle_t *)&j->timer};

    for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
        if (!uv_is_closing(handles[i]))
            uv_close(handles[i], job_on_closed);
}

static int take_answer(struct program *p, const struct job *j, struct err *e)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    const ProfileAnswer *answer = arena_unpack(&a, &profile_answer__descriptor, j->answer, j->length);
    if (!answer || (!answer->error && !answer->has_program))
        return err_set(e, ERR_INTERNAL, "%s ended without an answer", j->owner->job);
    if (answer->error)
        return err_set(e, answer->error->code < 0 ? answer->error->code : ERR_INTERNAL, "%s", answer->error->text);
    int rc = check_size(answer->program.len, e);
    if (rc == 0)
        rc = memfd_sealed("shoal-seccomp", answer->program.data, answer->program.len, &p->fd, e);
    if (rc == 0)
        save_file(p, answer->program.data, answer->program.len);
    return rc;
}

static void job_finish(struct job *j)
{
    struct seccomp *s = j->owner;
    struct program *p = j->program;
    struct err e = {0};

    if (!j->exited || !j->ended)
        return;
    s->running--;
    j->program = NULL;
    job_close(j);
    if (p) {
        p->job = NULL;
        if (take_answer(p, j, &e) < 0) {
            failed(p, &e);
        } else {
            p->stage = THERE;
            tell(p, &e);
            trim(s);
        }
    }
    start_jobs(s);
}

static void job_on_exit(uv_process_t *process, int64_t status, int signal)
{
    struct job *j = process->data;

    (void)status;
    (void)signal; /* what counts is whether there is an answer */
    j->exited = true;
    job_finish(j);
}

static void job_on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct job *j = handle->data;

    (void)suggested;
    *ret = uv_buf_init(j->answer + j->length, (unsigned)(ANSWER_MAX - j->length)); /* full: UV_ENOBUFS ends it */
}

static void job_on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct job *j = stream->data;

    (void)buf;
    if (got > 0) {
        j->length += (size_t)got;
        return;
    }
    if (got == 0 || j->ended)
        return;
    (void)uv_read_stop(stream);
    if (got != UV_EOF)
        (void)uv_process_kill(&j->process, SIGKILL); /* it says too much: then it has no answer */
    j->ended = true;
    job_finish(j);
}

static void job_on_written(uv_write_t *write, int status)
{
    struct job *j = write->data;

    (void)status; /* a job that does not read ends without an answer */
    if (!uv_is_closing((uv_handle_t *)&j->input))
        uv_close((uv_handle_t *)&j->input, job_on_closed);
}

static void job_on_timer(uv_timer_t *timer)
{
    struct job *j = timer->data;

    (void)uv_process_kill(&j->process, SIGKILL); /* its exit does the rest */
}

static void job_init(struct job *j)
{
    (void)uv_pipe_init(j->owner->loop, &j->input, 0);
    (void)uv_pipe_init(j->owner->loop, &j->output, 0);
    (void)uv_timer_init(j->owner->loop, &j->timer);
    j->process.data = j->input.data = j->output.data = j->timer.data = j->write.data = j;
    j->open = 4;
    j->answer = mem_alloc(ANSWER_MAX);
    j->owner->open++;
}

static int job_spawn(struct job *j, struct err *e)
{
    char *argv[] = {(char *)"shoal-job", (char *)"profile", NULL};
    char *env[] = {NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&j->input},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&j->output},
        {.flags = UV_INHERIT_FD, .data.fd = 2}};
    const uv_process_options_t options = {
        .exit_cb = job_on_exit, .file = j->owner->job, .args = argv, .env = env, .stdio_count = 3, .stdio = stdio};
    int rc = uv_spawn(j->owner->loop, &j->process, &options);

    return rc < 0 ? err_number(e, -rc, "start %s", j->owner->job) : 0;
}

static void job_start(struct program *p)
{
    struct seccomp *s = p->owner;
    struct job *j = mem_alloc(sizeof(*j));

    j->owner = s;
    job_init(j);
    p->stage = COMPILING;
    p->job = j;
    j->program = p;
    j->request = steal(&p->request);
    if (job_spawn(j, &j->failure) < 0) {
        job_close(j);
        return;
    }
    j->started = true;
    s->running++;
    uv_buf_t data = uv_buf_init((char *)j->request, (unsigned)p->request_size);
    (void)uv_timer_start(&j->timer, job_on_timer, JOB_MS, 0);
    (void)uv_read_start((uv_stream_t *)&j->output, job_on_buffer, job_on_read);
    if (uv_write(&j->write, (uv_stream_t *)&j->input, &data, 1, job_on_written) < 0)
        (void)uv_process_kill(&j->process, SIGKILL); /* its exit does the rest */
}

static void start_jobs(struct seccomp *s)
{
    struct program *p, *after;

    list_each_safe (p, after, &s->programs, link) {
        if (s->closing || s->running >= JOBS_MAX)
            return;
        if (p->stage == QUEUED)
            job_start(p);
    }
}

/* --- the interface --------------------------------------------------------------------------------- */

int seccomp_open(uv_loop_t *loop, const char *job, const char *dir, struct seccomp **ret, struct err *e)
{
    struct utsname name;
    int fd, rc = dir_make(dir, 0700, e);

    if (rc == 0)
        rc = dir_open(dir, &fd, e);
    if (rc < 0)
        return rc;
    struct seccomp *s = mem_alloc(sizeof(*s));
    s->loop = loop;
    s->job = mem_strdup(job);
    s->dir = fd;
    list_init(&s->programs);
    if (uname(&name) == 0)
        (void)snprintf(s->machine, sizeof(s->machine), "%s %s", name.release, name.machine);
    empty_if_full(fd);
    *ret = s;
    return 0;
}

static void handle_on_closed(uv_handle_t *handle)
{
    struct seccomp *s = handle->data;

    free(handle);
    one_closed(s);
}

static void stop_job(struct job *j)
{
    j->program->job = NULL;
    j->program = NULL;
    if (!j->started)
        return; /* closing already */
    (void)uv_process_kill(&j->process, SIGKILL);
    j->owner->running--;
    job_close(j);
}

void seccomp_close(struct seccomp *s, void (*closed)(void *ctx), void *ctx)
{
    uv_idle_t *handle = mem_alloc(sizeof(*handle)); /* its end is ours, so that the callback comes from the loop */
    struct program *p;
    struct err e;

    assert(!s->closing);
    s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    s->open++;
    (void)uv_idle_init(s->loop, handle);
    handle->data = s;
    uv_close((uv_handle_t *)handle, handle_on_closed);
    err_set(&e, ERR_CANCELED, "the engine is closing");
    while ((p = list_first(&s->programs, struct program, link))) {
        if (p->job)
            stop_job(p->job);
        failed(p, &e);
    }
}

static void make_key(const struct seccomp *s, const char *profile, uint64_t capabilities, struct program *p)
{
    struct hash *h = hash_new();
    static const char version[] = MAGIC " " SHOAL_VERSION;

    hash_add(h, version, sizeof(version));
    hash_add(h, s->machine, strlen(s->machine) + 1);
    hash_add(h, &capabilities, sizeof(capabilities));
    if (profile)
        hash_add(h, profile, strlen(profile));
    hash_end(h, p->digest);
    hash_free(h);
    hex_encode(p->digest, SHA256_BYTES, p->key);
}

static struct program *find(struct seccomp *s, const uint8_t *digest)
{
    struct program *p;

    list_each (p, &s->programs, link)
        if (memcmp(p->digest, digest, SHA256_BYTES) == 0)
            return p;
    return NULL;
}

static void make_request(struct program *p, const char *profile, uint64_t capabilities)
{
    ProfileRequest r = PROFILE_REQUEST__INIT;

    r.capabilities = capabilities;
    r.has_profile = profile != NULL;
    r.profile.data = (uint8_t *)profile;
    r.profile.len = profile ? strlen(profile) : 0;
    p->request_size = profile_request__get_packed_size(&r);
    p->request = mem_alloc(p->request_size);
    profile_request__pack(&r, p->request);
}

static struct program *add(struct seccomp *s, const struct program *key)
{
    struct program *p = mem_dup(key, sizeof(*key));
    struct err e;

    p->owner = s;
    p->fd = -1;
    list_init(&p->waiters);
    list_push_front(&s->programs, &p->link);
    s->count++;
    int rc = load_file(p, &e);
    p->stage = rc == 0 ? THERE : QUEUED;
    if (rc < 0 && rc != ERR_NOT_FOUND)
        log_warn("seccomp program is compiled again", "error=\"%s\"", e.text);
    return p;
}

int seccomp_program(struct seccomp *s, const char *profile, uint64_t capabilities, int *ret_fd,
                    void (*done)(void *ctx, const struct err *e, int fd), void *ctx, struct err *e)
{
    struct program key = {0};

    assert(!s->closing);
    if (profile && strlen(profile) > PROFILE_MAX)
        return err_set(e, ERR_LIMIT, "seccomp profile: larger than %u bytes", PROFILE_MAX);
    make_key(s, profile, capabilities, &key);
    struct program *p = find(s, key.digest);
    if (!p) {
        p = add(s, &key);
        if (p->stage == QUEUED)
            make_request(p, profile, capabilities);
    }
    list_remove(&p->link);
    list_push_front(&s->programs, &p->link);
    if (p->stage == THERE) {
        trim(s);
        *ret_fd = p->fd;
        return 0;
    }
    struct waiter *w = mem_alloc(sizeof(*w));
    w->done = done;
    w->ctx = ctx;
    list_push(&p->waiters, &w->link);
    if (p->stage == QUEUED)
        start_jobs(s);
    return err_set(e, ERR_AGAIN, "the seccomp program is being compiled");
}

void seccomp_cancel(struct seccomp *s, void *ctx)
{
    struct program *p;
    struct waiter *w, *after;

    list_each (p, &s->programs, link)
        list_each_safe (w, after, &p->waiters, link)
            if (w->ctx == ctx) {
                list_remove(&w->link);
                free(w);
            }
}
