/* Files of cases for command-line programs: a command, the requests it sends with the answers it gets, and what it
 * prints. The format is described in cli/cases_test.c. A file that cannot be understood fails the test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "proto/base/buf.h"

#define CASE_EXCHANGES_MAX 64

struct exchange {
    char *method, *path;
    char *body, *header; /* that the request must have; NULL: any */
    int status;
    char *type;
    struct buf answer; /* not expanded */
    int used;          /* how often it was given in this run */
};

struct scenario {
    char *title, *command;
    char *env[16]; /* "NAME=value" */
    size_t env_count;
    struct buf input, out, err; /* the outputs that are wanted, not expanded */
    struct {
        char *name;
        struct buf text;
    } files[4];
    int exit;
    int columns;      /* of the terminal; 0: none */
    int file;         /* that it stands in */
    size_t interrupt; /* after so many requests; 0: never */
    struct exchange exchanges[CASE_EXCHANGES_MAX];
    size_t exchanges_count;
    bool differs_out, differs_err, differs_exit, differs_requests;
};

/* Every case of the files in `directory`, by name of file; *ret is to be given to cases_free. */
size_t cases_load(const char *directory, struct scenario **ret);
void cases_free(struct scenario *list, size_t count);

/* A case begins: @{...} is expanded as its file says, with moments counted from now. */
void case_begin(const struct scenario *s);
/* Append the text with its @{...} expanded. */
void case_expand(struct buf *out, const char *text);

/* Every `from` in the text becomes `to`. */
void text_replace(struct buf *text, const char *from, const char *to);
