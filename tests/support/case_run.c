/* See case_run.h.
 *
 * One poll loop in the test serves all connections of the program and takes what it prints. The answers are whole
 * and at once: what happens when they come in pieces is client_test.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/value.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/case_run.h"

#define CONNS_MAX  64
#define DEADLINE_S 60

struct conn {
    int fd;
    struct buf in;
};

struct server {
    int listener;
    struct conn conns[CONNS_MAX];
    struct scenario *scenario;
    struct result *result;
};

static char directory[] = "/tmp/shoal-cli-cases-XXXXXX";
static char *socket_path, *config_path;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A path with the parameters of its query in order. */
char *case_even_path(const char *path)
{
    AUTO_FREE
    char *copy = mem_strdup(path);
    char *rest = NULL;
    char *question = strchr(copy, '?'), *list[32];
    struct buf out = {0};
    size_t count = 0;

    if (question)
        *question++ = '\0';
    buf_append_str(&out, copy);
    for (char *one = question ? strtok_r(question, "&", &rest) : NULL; one && count < ARRAY_SIZE(list);
         one = strtok_r(NULL, "&", &rest))
        list[count++] = one;
    qsort(list, count, sizeof(*list), by_name);
    for (size_t i = 0; i < count; i++)
        buf_printf(&out, "%c%s", i ? '&' : '?', list[i]);
    text_replace(&out, "+", "%20");
    return buf_steal(&out);
}

/* --- the server -------------------------------------------------------------------------------------------------
 */

static const char *header_of(const char *head, const char *name, char value[512])
{
    AUTO_FREE
    char *pattern = mem_printf("\r\n%s: ", name);
    const char *found = strcasestr(head, pattern);

    *value = '\0';
    if (found)
        (void)snprintf(value, 512, "%.*s", (int)strcspn(found + strlen(pattern), "\r"), found + strlen(pattern));
    return value;
}

/* The exchange that answers: the first unused one of this request, else the last used one. */
static struct exchange *find_exchange(struct scenario *s, const char *method, const char *path)
{
    AUTO_FREE
    char *wanted = case_even_path(path);
    struct exchange *last = NULL;

    for (size_t i = 0; i < s->exchanges_count; i++) {
        struct exchange *x = &s->exchanges[i];
        AUTO_FREE
        char *even = case_even_path(x->path);

        if (strcmp(x->method, method) != 0 || strcmp(even, wanted) != 0)
            continue;
        last = x;
        if (!x->used)
            break;
    }
    return last;
}

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 409:
        return "Conflict";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    default:
        return "Another";
    }
}

static void answer(struct server *sv, int fd, const char *method, const char *path, struct buf *body,
                   const char *auth)
{
    static const char common[] = "Api-Version: 1.45\r\nOstype: linux\r\nDocker-Experimental: false\r\n"
                                 "Swarm: active/manager\r\n";
    AUTO_BUF struct buf out = {0};
    AUTO_BUF struct buf text = {0};
    struct exchange *x = NULL;
    int status = 200;
    const char *type = "text/plain";

    if (strstr(path, "/_ping")) {
        buf_append_str(&text, "OK");
    } else if (strstr(path, "condition=") && !find_exchange(sv->scenario, method, path)) {
        buf_append_str(&text, "{\"StatusCode\":0}"); /* docker run waits also when it will not show the end */
    } else {
        text_replace(body, directory, "/here");
        x = find_exchange(sv->scenario, method, path);
        assert_true(sv->result->seen_count < CASE_SEEN_MAX);
        sv->result->seen[sv->result->seen_count++] = (struct seen){.method = mem_strdup(method),
                                                                   .path = mem_strdup(path),
                                                                   .body = mem_strdup(buf_str(body)),
                                                                   .auth = mem_strdup(auth),
                                                                   .exchange = x};
        status = x ? x->status : 404;
        type = x ? x->type : "application/json";
        if (x)
            case_expand(&text, buf_str(&x->answer));
        else
            buf_printf(&text, "{\"message\":\"no answer to %s %s\"}", method, path);
        if (x)
            x->used++;
    }
    buf_printf(&out, "HTTP/1.1 %d %s\r\n%s", status, reason(status), common);
    if (status == 204 || status == 304)
        buf_append_str(&out, "\r\n");
    else
        buf_printf(&out, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, text.length);
    if (status != 204 && status != 304 && strcmp(method, "HEAD") != 0)
        buf_append(&out, buf_bytes(&text), text.length);
    for (size_t at = 0; at < out.length;) {
        ssize_t sent = send(fd, buf_bytes(&out) + at, out.length - at, MSG_NOSIGNAL);

        if (sent <= 0)
            return; /* the client went away: what it printed tells */
        at += (size_t)sent;
    }
}

/* The chunks of a body into `body`; the bytes they take, 0 while the last has not come. */
static size_t read_chunks(const char *text, size_t length, struct buf *body)
{
    size_t at = 0;

    for (;;) {
        const char *line = memmem(text + at, length - at, "\r\n", 2);
        size_t size = line ? strtoul(text + at, NULL, 16) : 0;

        if (!line || (size_t)(line - text) + 2 + size + 2 > length)
            return 0;
        at = (size_t)(line - text) + 2;
        buf_append(body, text + at, size);
        at += size + 2;
        if (size == 0)
            return at;
    }
}

/* Answer one whole request at the front of a connection's bytes; false when there is none. */
static bool serve(struct server *sv, struct conn *c)
{
    const char *bytes = buf_bytes(&c->in);
    const char *end = bytes ? memmem(bytes, c->in.length, "\r\n\r\n", 4) : NULL;
    AUTO_BUF struct buf body = {0};
    char method[16] = "", path[4096] = "", value[512], auth[512];

    if (!end)
        return false;
    size_t head_size = (size_t)(end - buf_bytes(&c->in)) + 4, used = head_size;
    AUTO_FREE
    char *head = mem_strndup(buf_bytes(&c->in), head_size);
    size_t length = strtoul(header_of(head, "Content-Length", value), NULL, 10);
    if (strcasecmp(header_of(head, "Transfer-Encoding", value), "chunked") == 0) {
        size_t chunks = read_chunks(buf_bytes(&c->in) + head_size, c->in.length - head_size, &body);

        if (!chunks)
            return false;
        used += chunks;
    } else if (c->in.length - head_size < length) {
        return false;
    } else {
        buf_append(&body, buf_bytes(&c->in) + head_size, length);
        used += length;
    }
    assert_int_equal(sscanf(head, "%15s %4095s", method, path), 2);
    answer(sv, c->fd, method, path, &body, header_of(head, "X-Registry-Auth", auth));
    buf_consume(&c->in, used);
    return true;
}

static void serve_conn(struct server *sv, struct conn *c)
{
    ssize_t got = recv(c->fd, buf_reserve(&c->in, 65536), 65536, 0);

    if (got <= 0) {
        close(c->fd);
        c->fd = -1;
        buf_fini(&c->in);
        return;
    }
    buf_added(&c->in, (size_t)got);
    while (serve(sv, c))
        ;
}

static void accept_conn(struct server *sv)
{
    int fd = accept4(sv->listener, NULL, NULL, SOCK_CLOEXEC);

    for (size_t i = 0; i < CONNS_MAX; i++) {
        if (sv->conns[i].fd < 0) {
            sv->conns[i].fd = fd;
            return;
        }
    }
    fail_msg("more than %d connections", CONNS_MAX);
}

static int listen_here(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", socket_path);
    (void)unlink(socket_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

/* --- running ----------------------------------------------------------------------------------------------------
 */

struct process {
    pid_t pid;
    int out, err; /* to read from; -1 once ended */
};

static void set_environment(const struct scenario *s, const char *program)
{
    AUTO_FREE
    char *host = mem_printf("unix://%s", socket_path);

    assert_int_equal(clearenv(), 0);
    (void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    (void)setenv("HOME", directory, 1);
    (void)setenv("TZ", "UTC", 1);
    (void)setenv("DOCKER_CONFIG", config_path, 1);
    (void)setenv("DOCKER_HOST", host, 1);
    for (size_t i = 0; i < s->env_count; i++)
        (void)putenv(s->env[i]);
    (void)program;
}

static void run_child(const struct scenario *s, const char *program, int in, int out, int err)
{
    AUTO_ARENA struct arena a;
    const char **words = NULL;
    size_t count = 0;

    arena_init(&a);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir(directory) < 0)
        _exit(99);
    set_environment(s, program);
    if (value_words(&a, s->command, &words, &count, NULL) < 0)
        _exit(99);
    char **argv = arena_array(&a, count + 2, sizeof(*argv));
    argv[0] = (char *)program;
    for (size_t i = 0; i < count; i++)
        argv[i + 1] = (char *)words[i];
    if (strcmp(program, "shoal") != 0) {
        execvp(program, argv);
        _exit(99);
    }
    int status = cli_main((int)count + 1, argv);
    arena_fini(&a);
    (void)fflush(NULL);
    exit(status); /* the sanitizers look for leaks of the command here */
}

static void write_files(struct scenario *s)
{
    int dir;

    assert_int_equal(dir_open(directory, &dir, NULL), 0);
    (void)unlinkat(dir, "config/config.json", 0);
    (void)unlinkat(dir, "id.txt", 0); /* that a case before wrote */
    for (size_t i = 0; i < ARRAY_SIZE(s->files) && s->files[i].name; i++) {
        const struct buf *text = &s->files[i].text;
        int fd = openat(dir, s->files[i].name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, buf_bytes(text), text->length), (ssize_t)text->length);
        close(fd);
    }
    close(dir);
}

static struct process start(const struct scenario *s, const char *program)
{
    struct process p;
    int in[2], out[2] = {-1, -1}, err[2];
    struct winsize size = {.ws_row = 40, .ws_col = (unsigned short)s->columns};

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    if (s->columns)
        assert_int_equal(openpty(&out[0], &out[1], NULL, NULL, &size), 0);
    else
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p.pid = fork();
    assert_true(p.pid >= 0);
    if (p.pid == 0)
        close(in[1]); /* the forked program does not exec: nothing else closes it */
    if (p.pid == 0)
        run_child(s, program, in[0], out[1], err[1]);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    (void)!write(in[1], buf_bytes(&s->input), s->input.length); /* small enough for the pipe */
    close(in[1]);
    p.out = out[0];
    p.err = err[0];
    return p;
}

static void drain(int *fd, struct buf *into)
{
    ssize_t got = read(*fd, buf_reserve(into, 65536), 65536);

    if (got > 0) {
        buf_added(into, (size_t)got);
    } else {
        close(*fd);
        *fd = -1;
    }
}

/* Serve until the program has closed its output. */
static void attend(struct server *sv, struct process *p, const char *title)
{
    time_t deadline = time(NULL) + DEADLINE_S;
    size_t interrupt = sv->scenario->interrupt;

    while (p->out >= 0 || p->err >= 0) {
        struct pollfd pollers[CONNS_MAX + 3] = {{.fd = sv->listener, .events = POLLIN},
                                                {.fd = p->out, .events = POLLIN},
                                                {.fd = p->err, .events = POLLIN}};

        for (size_t i = 0; i < CONNS_MAX; i++)
            pollers[3 + i] = (struct pollfd){.fd = sv->conns[i].fd, .events = POLLIN};
        (void)poll(pollers, ARRAY_SIZE(pollers), 1000);
        if (interrupt && sv->result->seen_count >= interrupt) {
            (void)kill(p->pid, SIGINT);
            interrupt = 0;
        }
        if (time(NULL) > deadline) {
            (void)kill(p->pid, SIGKILL);
            print_message("case \"%s\" did not end within %d s\n", title, DEADLINE_S);
            deadline += DEADLINE_S;
        }
        for (size_t i = 0; i < CONNS_MAX; i++)
            if (pollers[3 + i].revents && sv->conns[i].fd >= 0)
                serve_conn(sv, &sv->conns[i]);
        if (pollers[0].revents)
            accept_conn(sv);
        if (pollers[1].revents)
            drain(&p->out, &sv->result->out);
        if (pollers[2].revents)
            drain(&p->err, &sv->result->err);
    }
}

void case_run(struct scenario *s, const char *program, struct result *r)
{
    struct server sv = {.listener = listen_here(), .scenario = s, .result = r};
    int status = 0;

    *r = (struct result){0};
    for (size_t i = 0; i < CONNS_MAX; i++)
        sv.conns[i].fd = -1;
    for (size_t i = 0; i < s->exchanges_count; i++)
        s->exchanges[i].used = 0;
    write_files(s);
    struct process p = start(s, program);
    attend(&sv, &p, s->title);
    assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
    r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    for (size_t i = 0; i < CONNS_MAX; i++) {
        if (sv.conns[i].fd >= 0)
            close(sv.conns[i].fd);
        buf_fini(&sv.conns[i].in);
    }
    close(sv.listener);
    text_replace(&r->out, "\r\n", "\n"); /* a terminal's line ends */
}

void result_free(struct result *r)
{
    for (size_t i = 0; i < r->seen_count; i++) {
        free(r->seen[i].method);
        free(r->seen[i].path);
        free(r->seen[i].body);
        free(r->seen[i].auth);
    }
    buf_fini(&r->out);
    buf_fini(&r->err);
    r->seen_count = 0;
}

void case_room_open(void)
{
    assert_non_null(mkdtemp(directory));
    socket_path = mem_printf("%s/api.sock", directory);
    config_path = mem_printf("%s/config", directory);
    assert_int_equal(mkdir(config_path, 0700), 0);
}

void case_room_close(void)
{
    int fd;

    if (dir_open("/tmp", &fd, NULL) == 0) {
        (void)tree_remove(fd, directory + 5, NULL);
        close(fd);
    }
    free(socket_path);
    free(config_path);
}
