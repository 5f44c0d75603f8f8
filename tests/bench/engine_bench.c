/* GOALS P4 and P6 at the API's socket: how long one start takes, and how many containers can be made, started,
 * waited for and removed in a second, with everything on that a container has.
 *
 * usage: engine_bench [STARTS [SECONDS]]
 *
 * The engine runs here; the client is another process, so that it does not take part in the engine's loop. The CPU
 * of a cycle is that of this process and of the keeper with all the children it has reaped: what a start costs this
 * machine besides the program that is run. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/core.h"
#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/support/engine.h"

#define CLIENTS 4 /* connections of the rate */

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* --- the client ------------------------------------------------------------------------------------------------
 */

struct client {
    int fd;
    char answer[8192];
    size_t size;
};

static void client_open(struct client *c, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *c = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        perror("connect");
        exit(1);
    }
}

static void client_send(struct client *c, const char *method, const char *path, const char *body)
{
    char request[2048];
    int length =
        snprintf(request, sizeof(request),
                 "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                 method, path, strlen(body), body);

    c->size = 0;
    if (write(c->fd, request, (size_t)length) != length)
        exit(1);
}

/* Whether the answer in the buffer is whole: by its length, its last chunk, or because it has no body. */
static bool is_whole(struct client *c)
{
    c->answer[c->size] = '\0';
    const char *body = strstr(c->answer, "\r\n\r\n"), *length = strcasestr(c->answer, "content-length:");

    if (!body)
        return false;
    if (length && length < body)
        return strlen(body + 4) >= strtoul(length + 15, NULL, 10);
    return strncmp(c->answer + 9, "204", 3) == 0 || strstr(body, "\r\n0\r\n\r\n");
}

static int client_receive(struct client *c)
{
    while (!is_whole(c)) {
        ssize_t got = read(c->fd, c->answer + c->size, sizeof(c->answer) - 1 - c->size);

        if (got <= 0)
            exit(1);
        c->size += (size_t)got;
    }
    return (int)strtol(c->answer + 9, NULL, 10);
}

static void client_ask(struct client *c, const char *method, const char *path, const char *body, int wanted)
{
    client_send(c, method, path, body);
    int status = client_receive(c);
    if (status != wanted) {
        fprintf(stderr, "%s %s: %s\n", method, path, c->answer);
        exit(1);
    }
}

static const char sleeper[] = "{\"Image\":\"" ENGINE_RIG_IMAGE "\",\"Cmd\":[\"sleep\",\"1000\"],\"HostConfig\":"
                              "{\"NetworkMode\":\"none\"}}";
static const char quick[] =
    "{\"Image\":\"" ENGINE_RIG_IMAGE "\",\"Cmd\":[\"true\"],\"HostConfig\":{\"NetworkMode\":"
    "\"none\"}}";

static double one_start(struct client *c, int serial)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "/containers/create?name=p4-%d", serial);
    client_ask(c, "POST", path, sleeper, 201);
    (void)snprintf(path, sizeof(path), "/containers/p4-%d/start", serial);
    double begun = now_ms();
    client_ask(c, "POST", path, "", 204);
    return now_ms() - begun;
}

static void one_removal(struct client *c, int serial)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "/containers/p4-%d?force=1", serial);
    client_ask(c, "DELETE", path, "", 204);
}

static void print_starts(const char *what, double *took, int count)
{
    qsort(took, (size_t)count, sizeof(*took), by_size);
    printf("BENCH P4 %s %.3f ms n=%d min=%.3f p95=%.3f\n", what, took[count / 2], count, took[0],
           took[count * 95 / 100]);
    fflush(stdout);
}

static void client_starts(const char *socket, int count)
{
    struct client c;
    double *took = mem_array((size_t)count, sizeof(*took));
    int slow = count < 10 ? count : 10;

    client_open(&c, socket);
    for (int i = -5; i < count; i++) { /* five to warm up */
        double t = one_start(&c, i + 5);

        if (i >= 0)
            took[i] = t;
        one_removal(&c, i + 5);
    }
    print_starts("start_none", took, count);
    for (int i = 0; i < slow; i++) {
        const struct timespec second = {.tv_sec = 1};

        nanosleep(&second, NULL);
        took[i] = one_start(&c, 10000 + i);
        one_removal(&c, 10000 + i);
    }
    print_starts("start_none_each_second", took, slow);
    for (int i = 0; i < count; i++) /* the last beside the first: they all stay */
        took[i] = one_start(&c, 20000 + i);
    double first = took[0], last = took[count - 1];
    printf("BENCH P4 start_none_last_to_first %.2f ratio n=%d\n", last / first, count);
    for (int i = 0; i < count; i++)
        one_removal(&c, 20000 + i);
    free(took);
}

/* Cycles of one connection until the time is over; how many. */
static int client_cycles(const char *socket, int which, double until_ms)
{
    struct client c;
    char path[128];
    int done = 0;

    client_open(&c, socket);
    for (; now_ms() < until_ms; done++) {
        (void)snprintf(path, sizeof(path), "/containers/create?name=p6-%d-%d", which, done);
        client_ask(&c, "POST", path, quick, 201);
        (void)snprintf(path, sizeof(path), "/containers/p6-%d-%d/start", which, done);
        client_ask(&c, "POST", path, "", 204);
        (void)snprintf(path, sizeof(path), "/containers/p6-%d-%d/wait", which, done);
        client_ask(&c, "POST", path, "", 200);
        (void)snprintf(path, sizeof(path), "/containers/p6-%d-%d", which, done);
        client_ask(&c, "DELETE", path, "", 204);
    }
    return done;
}

static int run_client(int argc, char **argv)
{
    int count = (int)strtol(argv[4], NULL, 10);

    if (strcmp(argv[2], "starts") == 0) {
        client_starts(argv[3], count);
        return 0;
    }
    double until = now_ms() + count * 1000.0;
    int fds[2];
    if (pipe(fds) < 0)
        return 1;
    for (int i = 0; i < CLIENTS; i++) {
        if (fork() == 0) {
            int done = client_cycles(argv[3], i, until);

            return write(fds[1], &done, sizeof(done)) == sizeof(done) ? 0 : 1;
        }
    }
    int total = 0;
    for (int i = 0; i < CLIENTS; i++) {
        int done;

        if (read(fds[0], &done, sizeof(done)) != sizeof(done))
            return 1;
        total += done;
    }
    printf("%d\n", total);
    return 0;
}

/* --- the engine ------------------------------------------------------------------------------------------------
 */

struct child {
    uv_process_t process;
    bool ended;
    int64_t code;
};

static void on_ended(uv_process_t *process, int64_t code, int number)
{
    struct child *c = container_of(process, struct child, process);

    c->ended = true;
    c->code = number ? 128 + number : code;
}

/* Run this program as a client; its output goes to `out`. */
static void with_client(struct engine_rig *r, const char *what, int count, int out)
{
    char *socket = mem_printf("%s/api.sock", r->dir), text[16];
    (void)snprintf(text, sizeof(text), "%d", count);
    char *args[] = {(char *)"engine_bench", (char *)"--client", (char *)what, socket, text, NULL};
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = out}, {.flags = UV_INHERIT_FD, .data.fd = 2}};
    uv_process_options_t options = {
        .exit_cb = on_ended, .file = "/proc/self/exe", .args = args, .stdio_count = 3, .stdio = stdio};
    struct child child = {0};

    if (uv_spawn(&r->loop, &child.process, &options) < 0)
        exit(1);
    while (!child.ended)
        uv_run(&r->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&child.process, NULL);
    uv_run(&r->loop, UV_RUN_NOWAIT);
    free(socket);
    if (child.code != 0)
        exit(1);
}

static double own_cpu_ms(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e3 +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e3;
}

/* CPU of the keepers of this rig and of all children they have reaped. */
static double keeper_cpu_ms(const struct engine_rig *r)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    double ticks = 0;

    while (proc && (entry = readdir(proc))) {
        char path[300], text[4096] = "";
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (fd >= 0)
            close(fd);
        if (size <= 0 || strncmp(text, "shoal-keeper", 12) != 0 ||
            !memmem(text, (size_t)size, r->dir, strlen(r->dir)))
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        size = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (fd >= 0)
            close(fd);
        const char *at = size > 0 ? strrchr(text, ')') : NULL;
        unsigned long long use[4];
        if (at && sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &use[0],
                         &use[1], &use[2], &use[3]) == 4)
            ticks += (double)(use[0] + use[1] + use[2] + use[3]);
    }
    if (proc)
        closedir(proc);
    return ticks * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

static void bench_rate(struct engine_rig *r, int seconds)
{
    char *path = mem_printf("%s/cycles", r->dir), text[32] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    double own = own_cpu_ms(), keeper = keeper_cpu_ms(r), begun = now_ms();

    with_client(r, "cycles", seconds, fd);
    double took = now_ms() - begun;
    own = own_cpu_ms() - own;
    keeper = keeper_cpu_ms(r) - keeper;
    if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
        exit(1);
    close(fd);
    free(path);
    double cycles = strtod(text, NULL);
    printf("BENCH P6 rate_none %.1f /s n=%.0f clients=%d\n", cycles / took * 1000, cycles, CLIENTS);
    printf("BENCH P6 cpu_none %.3f ms n=%.0f engine=%.3f keeper=%.3f\n", (own + keeper) / cycles, cycles,
           own / cycles, keeper / cycles);
}

int main(int argc, char **argv)
{
    struct engine_rig rig;
    const char *missing = engine_rig_missing();

    if (argc == 5 && strcmp(argv[1], "--client") == 0)
        return run_client(argc, argv);
    if (missing) {
        printf("skip engine_bench: %s\n", missing);
        return 0;
    }
    log_set_level(LOG_LEVEL_WARN);
    engine_rig_open(&rig, 2, 16);
    with_client(&rig, "starts", argc > 1 ? (int)strtol(argv[1], NULL, 10) : 200, 1);
    bench_rate(&rig, argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5);
    engine_rig_close(&rig);
    return 0;
}
