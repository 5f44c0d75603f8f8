/* A container in the foreground: `shoal run` without --detach, `shoal start -a`. */
#pragma once

#include "cli/cli.h"
#include "cli/logs.h"

struct foreground_options {
    bool standard_out, standard_error; /* which streams are shown */
    bool has_terminal;                 /* the output is one stream, as it is */
    bool until_removed;                /* the end is not enough: --rm */
    bool passes_signals;               /* what this process is sent goes to the container */
};

struct foreground {
    struct call *output; /* attached */
    struct call *wait;   /* for its end */
    struct logs_splitter splitter;
    bool has_terminal;
    char *id; /* of the container, or its name */
    bool passes_signals;
};

/* Attach to a container's output and ask for its end: before it is started, so that nothing is missed. End with
 * foreground_end, also after an error. */
int foreground_begin(struct cli *cli, const char *id, const struct foreground_options *o, struct foreground *ret,
                     struct err *e);

/* Show the output until the container has ended; *ret_status is its exit code. */
int foreground_follow(struct cli *cli, struct foreground *f, int *ret_status, struct err *e);

void foreground_end(struct foreground *f);
