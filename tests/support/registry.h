/* A registry that does what a test tells it, good or bad: an HTTP server in a child process, on a free loopback
 * port. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct exchange { /* one request and the answer to it, in the registry's process */
    int fd;
    int port;       /* of this registry */
    unsigned count; /* requests answered before this one, of this registry */
    char method[8];
    char path[512];           /* with its query */
    char authorization[1024]; /* "" when there is none */
    char body[1024];          /* of a POST */
    uint64_t from;            /* where its Range begins */
    bool ranged;
};

struct registry {
    int port;
    pid_t pid;
    char host[32]; /* "127.0.0.1:PORT" */
    void *shared;  /* the log and the counter, seen by both processes */
};

/* Start one; `answer` is called for each request, by several threads at once. */
void registry_start(struct registry *r, void (*answer)(struct exchange *x, void *ctx), void *ctx);
void registry_stop(struct registry *r);

/* What was asked so far, a line each: "METHOD PATH auth=... range=...". Borrowed until the end of the registry. */
const char *registry_log(const struct registry *r);
/* How many lines of it hold this text. */
unsigned registry_asked(const struct registry *r, const char *text);

/* Answer with status, headers (lines with \r\n, or "") and a body. */
void answer(struct exchange *x, int status, const char *headers, const void *body, size_t size);
void answer_text(struct exchange *x, int status, const char *headers, const char *text);
/* Announce `size` bytes and send only the first `sent`, then close. */
void answer_cut(struct exchange *x, int status, const char *headers, const void *body, size_t size, size_t sent);
/* The body in pieces of 16 KiB with a pause before each. */
struct timespec;
void answer_slowly(struct exchange *x, const void *body, size_t size, const struct timespec *pause);
/* As a registry that honours Range does. */
void answer_range(struct exchange *x, const void *body, size_t size);
