/* See foreground.h. Two calls are under way at once, each on its own connection: the output, and the wait for the
 * end that carries the exit code. A signal that this process gets interrupts the reading, is sent to the container,
 * and reading goes on: the container decides what it does with it. The third interrupt ends this process alone. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/foreground.h"
#include "cli/logs.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define INTERRUPTS_MAX 3

static const struct {
    int number;
    const char *name;
} passed[] = {{SIGINT, "INT"},   {SIGTERM, "TERM"}, {SIGHUP, "HUP"},
              {SIGQUIT, "QUIT"}, {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}};

static volatile sig_atomic_t got;           /* the last signal that came */
static volatile sig_atomic_t *stop_reading; /* the client's */

static void on_signal(int number)
{
    got = number;
    *stop_reading = 1;
}

static void catch_signals(struct cli *cli)
{
    struct sigaction act = {.sa_handler = on_signal};

    stop_reading = &cli->stop;
    for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
        (void)sigaction(passed[i].number, &act, NULL); /* cannot fail with these arguments */
}

static const char *signal_name(int number)
{
    for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
        if (passed[i].number == number)
            return passed[i].name;
    return "TERM";
}

static void pass_on(struct cli *cli, const struct foreground *f, int number)
{
    AUTO_BUF struct buf path = {0};
    struct err ignored = {0};

    path_add(&path, "/containers/%s/kill", f->id);
    path_query(&path, "signal", signal_name(number));
    (void)cli_post(cli, &path, NULL, NULL, &ignored); /* it may have ended just now */
}

int foreground_begin(struct cli *cli, const char *id, const struct foreground_options *o, struct foreground *ret,
                     struct err *e)
{
    AUTO_BUF struct buf attach = {0};
    AUTO_BUF struct buf wait = {0};

    struct client *client;

    *ret = (struct foreground){
        .id = mem_strdup(id), .passes_signals = o->passes_signals, .has_terminal = o->has_terminal};
    path_add(&attach, "/containers/%s/attach?stream=1", id);
    if (o->standard_out)
        path_query(&attach, "stdout", "1");
    if (o->standard_error)
        path_query(&attach, "stderr", "1");
    path_add(&wait, "/containers/%s/wait", id);
    path_query(&wait, "condition", o->until_removed ? "removed" : "next-exit");
    int rc = cli_call(cli, &(struct client_request){.method = "POST", .path = buf_str(&attach)}, &ret->output, e);
    if (rc == 0)
        rc = cli_client(cli, &client, e);
    if (rc == 0)
        rc =
            client_start(client, &(struct client_request){.method = "POST", .path = buf_str(&wait)}, &ret->wait, e);
    if (rc == 0 && o->passes_signals)
        catch_signals(cli);
    return rc;
}

/* Do `step` until it is done; signals that interrupt it go to the container. */
static int through_signals(struct cli *cli, struct foreground *f, int (*step)(struct foreground *f, struct err *e),
                           struct err *e)
{
    int interrupts = 0, rc;

    while ((rc = step(f, e)) == ERR_CANCELED && f->passes_signals) {
        int number = got;

        interrupts += number == SIGINT;
        if (interrupts == INTERRUPTS_MAX)
            return rc;
        cli->stop = 0;
        *e = (struct err){0};
        pass_on(cli, f, number);
    }
    return rc;
}

static int show(struct foreground *f, struct err *e)
{
    return f->has_terminal ? logs_copy(f->output, e)
                           : logs_split_more(&f->splitter, f->output, logs_print, NULL, e);
}

static int hear_of_end(struct foreground *f, struct err *e)
{
    return call_answer(f->wait, e);
}

int foreground_follow(struct cli *cli, struct foreground *f, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_JSON json_t *answer = NULL;
    int rc = through_signals(cli, f, show, e);

    if (rc == 0)
        rc = through_signals(cli, f, hear_of_end, e);
    if (rc == 0)
        rc = call_read_all(f->wait, &text, e);
    if (rc == 0)
        rc = jread_parse(buf_bytes(&text), text.length, &answer, e);
    if (rc < 0)
        return rc;
    if (*tree_text(answer, "Error.Message"))
        return err_set(e, ERR_INTERNAL, "%s", tree_text(answer, "Error.Message"));
    *ret_status = (int)tree_int(answer, "StatusCode");
    return 0;
}

void foreground_end(struct foreground *f)
{
    call_end(f->output);
    call_end(f->wait);
    logs_splitter_fini(&f->splitter);
    free(f->id);
    *f = (struct foreground){0};
}
