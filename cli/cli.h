/* What every command of the client works with: the node it talks to, the person's configuration, and where output
 * goes.
 *
 * Errors: a command returns 0, or a code with its text in `e`; the text is then printed once to stderr and the
 * status is 1 unless the command said another (cli_status). A command that works on several things goes on after a
 * failure: it complains about each as it happens and returns 0; the status is 1 all the same. */
#pragma once

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "cli/client.h"
#include "cli/option.h"

struct cli {
    const char *host;           /* --host; NULL: from the environment */
    const char *config_dir;     /* --config; NULL: from the environment */
    const char *program;        /* "shoal", for messages */
    struct client *client;      /* NULL until asked for */
    json_t *config;             /* config.json; NULL until asked for */
    int status;                 /* of the process when the command fails */
    bool failed;                /* something was complained about */
    bool out_is_terminal;       /* stdout */
    volatile sig_atomic_t stop; /* Ctrl-C, for commands that catch it */
};

/* Run the program with these words (argv[0] is its name) and return its exit status. */
int cli_main(int argc, char **argv);

/* The client, opened on first use. */
int cli_client(struct cli *cli, struct client **ret, struct err *e);

/* Requests. `path` is made with path_add; *ret must be given to json_decref. `raw` (NULL: not wanted) gets the
 * text. */
int cli_get(struct cli *cli, struct buf *path, json_t **ret, struct err *e);
int cli_get_raw(struct cli *cli, struct buf *path, struct buf *raw, json_t **ret, struct err *e);
/* `body` NULL: none. `ret` NULL: the answer does not matter. */
int cli_post(struct cli *cli, struct buf *path, const json_t *body, json_t **ret, struct err *e);
int cli_delete(struct cli *cli, struct buf *path, json_t **ret, struct err *e);
/* A request with everything, for streams; the call must be given to call_end. */
int cli_call(struct cli *cli, const struct client_request *request, struct call **ret, struct err *e);

/* Print to stdout. A failure is noticed when the program ends. */
void cli_print(const struct buf *out);
/* Print the error and go on; the process will end with status 1. */
void cli_complain(struct cli *cli, const struct err *e);
/* Set the status the process ends with when the command fails, and return `rc`. */
int cli_status(struct cli *cli, int status, int rc);

/* While it lasts Ctrl-C sets cli->stop instead of ending the program: for what goes on without us. */
void cli_catch_interrupt(struct cli *cli);
void cli_release_interrupt(struct cli *cli);

/* Filters of lists: {"key":{"value":true}}, as the API takes them. From every --filter of the command. */
json_t *cli_filters(const struct args *args);
void cli_filter_add(json_t *filters, const char *key, const char *value);
void cli_filter_query(struct buf *path, const json_t *filters); /* nothing when there are none */

/* config.json of the person: a member's text, "" when absent. */
const char *cli_config(struct cli *cli, const char *name);

/* Value of X-Registry-Auth for the registry of an image: what config.json's auths say, or that of no login. Free
 * it. */
char *cli_registry_auth(struct cli *cli, const char *image);

/* Ask "QUESTION [y/N] " and read a line from stdin. */
bool cli_confirm(const char *question);

/* An id cut to the 12 characters that are shown, without its algorithm. Borrows from `id`; ret holds 13 bytes. */
const char *cli_short_id(const char *id, char ret[13]);

/* A moment for since and until from what the person wrote. */
int cli_moment(const char *text, const char *what, char ret[40], struct err *e);
