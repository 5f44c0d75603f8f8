/* Running a program against a server in the test's own process that answers as a case says. */
#pragma once

#include "tests/support/case_file.h"

#define CASE_SEEN_MAX 512

struct seen { /* a request that arrived */
    char *method, *path, *body, *auth;
    const struct exchange *exchange; /* that answered it; NULL: none did */
};

struct result {
    struct buf out, err;
    int status;
    struct seen seen[CASE_SEEN_MAX];
    size_t seen_count;
};

/* Where the programs run: a directory with a socket to talk to and config/ for their configuration. */
void case_room_open(void);
void case_room_close(void);

/* Run "shoal" (in a fork of this process, without exec) or another program by its name on the case's command. */
void case_run(struct scenario *s, const char *program, struct result *r);
void result_free(struct result *r);

/* A path with the parameters of its query in order. Free it. */
char *case_even_path(const char *path);
