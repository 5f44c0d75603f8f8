/* See registry.h. One thread for each connection, one request for each connection. */
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "tests/support/registry.h"

#define LOG_MAX ((size_t)256 << 10)

struct shared {
    pthread_mutex_t lock;
    unsigned count;
    size_t length;
    char log[LOG_MAX];
};

struct served {
    struct shared *shared;
    int fd, port;
    void (*answer)(struct exchange *x, void *ctx);
    void *ctx;
};

static const char *header_of(const char *request, const char *name, char *into, size_t size)
{
    const char *at = strcasestr(request, name);

    into[0] = '\0';
    if (at) {
        at += strlen(name);
        at += strspn(at, ": ");
        snprintf(into, size, "%.*s", (int)strcspn(at, "\r\n"), at);
    }
    return into;
}

static void note(struct shared *s, struct exchange *x)
{
    pthread_mutex_lock(&s->lock);
    x->count = s->count++;
    s->length += (size_t)snprintf(s->log + s->length, LOG_MAX - s->length, "%s %s auth=%s range=%s%" PRIu64 "\n",
                                  x->method, x->path, x->authorization, x->ranged ? "" : "no ", x->from);
    if (s->length >= LOG_MAX)
        abort();
    pthread_mutex_unlock(&s->lock);
}

static void *serve(void *arg)
{
    struct served *served = arg;
    static _Thread_local char request[16384];
    struct exchange x = {.fd = served->fd, .port = served->port};
    char value[64];
    size_t length = 0;
    char *end;

    for (;;) {
        ssize_t got = read(x.fd, request + length, sizeof(request) - 1 - length);

        if (got <= 0 || request[0] == 0x16)
            goto out; /* the latter begins a TLS connection */
        length += (size_t)got;
        request[length] = '\0';
        end = strstr(request, "\r\n\r\n");
        if (end &&
            length >= (size_t)(end + 4 - request) +
                          (size_t)strtoul(header_of(request, "\r\nContent-Length", value, sizeof(value)), NULL, 10))
            break;
    }
    if (sscanf(request, "%7s %511s", x.method, x.path) != 2)
        goto out;
    snprintf(x.body, sizeof(x.body), "%.1000s", end + 4);
    end[2] = '\0';
    header_of(request, "\r\nAuthorization", x.authorization, sizeof(x.authorization));
    x.ranged = sscanf(header_of(request, "\r\nRange", value, sizeof(value)), "bytes=%" SCNu64, &x.from) == 1;
    note(served->shared, &x);
    served->answer(&x, served->ctx);
out:
    shutdown(x.fd, SHUT_WR);
    while (read(x.fd, request, sizeof(request)) > 0)
        ; /* so that what was sent is not lost to a reset */
    close(x.fd);
    free(served);
    return NULL;
}

static void run(struct shared *shared, int listener, int port, void (*answer_with)(struct exchange *x, void *ctx),
                void *ctx)
{
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct served *served = mem_alloc(sizeof(*served));
        pthread_t thread;

        *served = (struct served){shared, accept(listener, NULL, NULL), port, answer_with, ctx};
        if (served->fd < 0 || pthread_create(&thread, NULL, serve, served) != 0)
            _exit(1);
        pthread_detach(thread);
    }
}

void registry_start(struct registry *r, void (*answer_with)(struct exchange *x, void *ctx), void *ctx)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t across;

    if (listener < 0 || shared == MAP_FAILED || bind(listener, (struct sockaddr *)&address, length) < 0 ||
        listen(listener, 64) < 0 || getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        abort();
    pthread_mutexattr_init(&across);
    pthread_mutexattr_setpshared(&across, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->lock, &across);
    r->port = ntohs(address.sin_port);
    snprintf(r->host, sizeof(r->host), "127.0.0.1:%d", r->port);
    r->shared = shared;
    r->pid = fork();
    if (r->pid < 0)
        abort();
    if (r->pid == 0)
        run(shared, listener, r->port, answer_with, ctx);
    close(listener);
}

void registry_stop(struct registry *r)
{
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    munmap(r->shared, sizeof(struct shared));
}

const char *registry_log(const struct registry *r)
{
    return ((struct shared *)r->shared)->log;
}

unsigned registry_asked(const struct registry *r, const char *text)
{
    unsigned count = 0;

    for (const char *line = registry_log(r); *line; line = strchr(line, '\n') + 1) {
        const char *found = strstr(line, text);

        count += found && found < strchr(line, '\n');
    }
    return count;
}

static void send_all(int fd, const void *data, size_t size)
{
    const char *at = data;

    while (size) {
        ssize_t wrote = write(fd, at, size);

        if (wrote <= 0)
            return;
        at += wrote;
        size -= (size_t)wrote;
    }
}

void answer_cut(struct exchange *x, int status, const char *headers, const void *body, size_t size, size_t sent)
{
    char head[4096];
    int length =
        snprintf(head, sizeof(head), "HTTP/1.1 %d Whatever\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
                 status, size, headers);

    send_all(x->fd, head, (size_t)length);
    send_all(x->fd, body, sent);
}

void answer_slowly(struct exchange *x, const void *body, size_t size, const struct timespec *pause)
{
    answer_cut(x, 200, "", body, size, 0);
    for (size_t at = 0; at < size; at += 16384) {
        nanosleep(pause, NULL);
        send_all(x->fd, (const char *)body + at, MIN((size_t)16384, size - at));
    }
}

void answer(struct exchange *x, int status, const char *headers, const void *body, size_t size)
{
    answer_cut(x, status, headers, body, size, size);
}

void answer_text(struct exchange *x, int status, const char *headers, const char *text)
{
    answer(x, status, headers, text, strlen(text));
}

void answer_range(struct exchange *x, const void *body, size_t size)
{
    char headers[100];

    if (!x->ranged || x->from >= size) {
        answer(x, x->ranged ? 416 : 200, "", body, x->ranged ? 0 : size);
        return;
    }
    snprintf(headers, sizeof(headers), "Content-Range: bytes %" PRIu64 "-%zu/%zu\r\n", x->from, size - 1, size);
    answer(x, 206, headers, (const char *)body + x->from, size - x->from);
}
