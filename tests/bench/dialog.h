/* One side of a conversation over HTTP, on a unix socket, for benchmarks: one connection, one request at a time,
 * blocking. It costs little itself, so what it waits for is the server. Whatever it did not expect ends the process
 * with a message. */
#pragma once

#include <stddef.h>

struct dialog {
    int fd;
    int status;  /* of the last answer */
    char *body;  /* zero-terminated, chunks joined; lives until the next request */
    char *bytes; /* the answer as it came */
    size_t size, room;
};

void dialog_open(struct dialog *c, const char *socket_path);
void dialog_close(struct dialog *c);

/* Whether somebody answers there: opens the client only then. */
int dialog_try(struct dialog *c, const char *socket_path);

/* Send a request and wait for the whole answer; returns the body. `content` NULL: none. The path is a format. A
 * wanted status of 0 is any. */
const char *dialog_ask(struct dialog *c, int wanted_status, const char *method, const char *content,
                       const char *path_fmt, ...) __attribute__((format(printf, 5, 6)));
const char *dialog_ask_bytes(struct dialog *c, int wanted_status, const char *method, const void *content,
                             size_t size, const char *path);

/* The number that follows `key` in the last body, counted from the first place where `key` stands; -1: nowhere. */
double dialog_number(const struct dialog *c, const char *key);
/* How often a text stands in the last body. */
unsigned dialog_count(const struct dialog *c, const char *text);
/* The string that follows `"key":"`, copied; fails without. */
void dialog_string(const struct dialog *c, const char *key, char *ret, size_t size);
