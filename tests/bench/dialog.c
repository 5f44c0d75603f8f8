/* See dialog.h. Answers are read until they are whole: by their length, their last chunk, or because they have no
 * body. Nothing here checks a server that breaks the protocol: proto/wire's tests do. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/dialog.h"
#include "tests/bench/figure.h"

#define ROOM_FIRST 65536

int dialog_try(struct dialog *c, const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *c = (struct dialog){.fd = fd, .bytes = mem_alloc(ROOM_FIRST), .room = ROOM_FIRST};
    return 0;
}

void dialog_open(struct dialog *c, const char *socket_path)
{
    if (dialog_try(c, socket_path) < 0)
        bench_die("connect %s: %s", socket_path, strerror(errno));
}

void dialog_close(struct dialog *c)
{
    close(c->fd);
    free(c->bytes);
    *c = (struct dialog){.fd = -1};
}

static void read_more(struct dialog *c)
{
    if (c->room - c->size < ROOM_FIRST / 2) {
        c->room *= 2;
        c->bytes = mem_grow(c->bytes, c->room, 1);
    }
    ssize_t got = read(c->fd, c->bytes + c->size, c->room - 1 - c->size);
    if (got <= 0)
        bench_die("the server closed the connection");
    c->size += (size_t)got;
    c->bytes[c->size] = '\0';
}

/* Join the chunks from `at` on in their place. */
static void read_chunks(struct dialog *c, size_t at)
{
    size_t to = at;

    for (;;) {
        char *line;

        while (!(line = memmem(c->bytes + at, c->size - at, "\r\n", 2)))
            read_more(c);
        size_t length = strtoul(c->bytes + at, NULL, 16);
        at = (size_t)(line - c->bytes) + 2;
        while (c->size < at + length + 2)
            read_more(c);
        memmove(c->bytes + to, c->bytes + at, length);
        to += length;
        at += length + 2;
        if (length == 0)
            break;
    }
    c->bytes[to] = '\0';
}

static void read_answer(struct dialog *c)
{
    char *end;

    c->size = 0;
    c->bytes[0] = '\0';
    while (!(end = memmem(c->bytes, c->size, "\r\n\r\n", 4)))
        read_more(c);
    *end = '\0';
    size_t body = (size_t)(end - c->bytes) + 4;
    const char *length = strcasestr(c->bytes, "\r\ncontent-length:");
    c->status = (int)strtol(c->bytes + 9, NULL, 10);
    if (strcasestr(c->bytes, "\r\ntransfer-encoding: chunked")) {
        read_chunks(c, body);
    } else {
        size_t wanted = length ? strtoul(length + 17, NULL, 10) : 0;

        while (c->size < body + wanted)
            read_more(c);
    }
    c->body = c->bytes + body;
}

const char *dialog_ask_bytes(struct dialog *c, int wanted_status, const char *method, const void *content,
                             size_t size, const char *path)
{
    char head[1024];
    int length = snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: node\r\n%sContent-Length: %zu\r\n\r\n",
                          method, path, content ? "Content-Type: application/json\r\n" : "", size);

    if (length >= (int)sizeof(head))
        bench_die("%s: too long", path);
    char *request = mem_alloc((size_t)length + size); /* one write: one wake-up of the server */
    memcpy(request, head, (size_t)length);
    if (size)
        memcpy(request + length, content, size);
    if (write_all(c->fd, request, (size_t)length + size, NULL) < 0)
        bench_die("%s %s: %s", method, path, strerror(errno));
    free(request);
    read_answer(c);
    if (wanted_status && c->status != wanted_status)
        bench_die("%s %s: %d %s", method, path, c->status, c->body);
    return c->body;
}

const char *dialog_ask(struct dialog *c, int wanted_status, const char *method, const char *content,
                       const char *path_fmt, ...)
{
    char path[512];
    va_list args;

    va_start(args, path_fmt);
    (void)vsnprintf(path, sizeof(path), path_fmt, args);
    va_end(args);
    return dialog_ask_bytes(c, wanted_status, method, content, content ? strlen(content) : 0, path);
}

double dialog_number(const struct dialog *c, const char *key)
{
    const char *at = strstr(c->body, key);

    return at ? strtod(at + strlen(key), NULL) : -1;
}

unsigned dialog_count(const struct dialog *c, const char *text)
{
    unsigned count = 0;

    for (const char *at = c->body; (at = strstr(at, text)); at += strlen(text))
        count++;
    return count;
}

void dialog_string(const struct dialog *c, const char *key, char *ret, size_t size)
{
    const char *at = strstr(c->body, key), *end = at ? strchr(at + strlen(key), '"') : NULL;

    if (!end)
        bench_die("no %s in %s", key, c->body);
    at += strlen(key);
    if ((size_t)(end - at) >= size)
        bench_die("%s is too long", key);
    memcpy(ret, at, (size_t)(end - at));
    ret[end - at] = '\0';
}
