/* A container in the foreground: `shoal run` without --detach, `shoal start -a`. */
#pragma once

#include <termios.h>

#include "cli/cli.h"
#include "cli/logs.h"

struct foreground_options {
    bool standard_out, standard_error; /* which streams are shown */
    bool standard_in;                  /* our standard input is the container's */
    bool has_terminal;                 /* it has one: the output is one stream, as it is */
    bool until_removed;                /* the end is not enough: --rm */
};

struct foreground {
    struct call *output; /* attached */
    struct call *wait;   /* for its end */
    struct logs_splitter splitter;
    char *id; /* of the container, or its name */
    struct foreground_options options;
    bool is_raw; /* our terminal; `before` is how it was */
    struct termios before;
};

/* Attach to a container's output and ask for its end: before it is started, so that nothing is missed. End with
 * foreground_end, also after an error. */
int foreground_begin(struct cli *cli, const char *id, const struct foreground_options *o, struct foreground *ret,
                     struct err *e);

/* Show the output until the container has ended, or the person has typed the keys to detach; *ret_status is its
 * exit code, or 0. */
int foreground_follow(struct cli *cli, struct foreground *f, int *ret_status, struct err *e);

void foreground_end(struct foreground *f);

/* `shoal start -a` and -i: start this container and follow it. Its exit code becomes the client's. */
int foreground_start(struct cli *cli, const char *name, bool interactive, struct err *e);
