/* See foreground.h. Two calls are under way at once, each on its own connection: the output (and input), and the
 * wait for the end that carries the exit code. A signal interrupts the reading, is dealt with, and reading goes on:
 *
 * - without a terminal it is sent to the container, which decides what it does with it; the third interrupt ends
 * this process alone;
 * - with a terminal, what is typed goes to the container as it is, so Ctrl-C is its program's; the size of ours is
 * told whenever it changes. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/foreground.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define INTERRUPTS_MAX 3

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGINT, "INT"},   {SIGTERM, "TERM"}, {SIGHUP, "HUP"},
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
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        (void)sigaction(signals[i].number, &act, NULL); /* cannot fail with these arguments */
    (void)sigaction(SIGWINCH, &act, NULL);
}

static const char *signal_name(int number)
{
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        if (signals[i].number == number)
            return signals[i].name;
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

/* --- the terminal ------------------------------------------------------------------------------------------- */

static void tell_size(struct cli *cli, const struct foreground *f)
{
    AUTO_BUF struct buf path = {0};
    struct err ignored = {0};
    struct winsize size;
    char text[16];

    if (!f->options.has_terminal || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return;
    path_add(&path, "/containers/%s/resize", f->id);
    (void)snprintf(text, sizeof(text), "%u", size.ws_row); /* fits */
    path_query(&path, "h", text);
    (void)snprintf(text, sizeof(text), "%u", size.ws_col);
    path_query(&path, "w", text);
    (void)cli_post(cli, &path, NULL, NULL, &ignored); /* another size is no reason to end anything */
}

static void take_terminal(struct foreground *f)
{
    struct termios raw;

    if (!f->options.has_terminal || !f->options.standard_in || tcgetattr(STDIN_FILENO, &f->before) < 0)
        return;
    raw = f->before;
    cfmakeraw(&raw);
    f->is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static void give_terminal_back(struct foreground *f)
{
    if (f->is_raw)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &f->before); /* it may have gone */
    f->is_raw = false;
}

/* --- the calls ---------------------------------------------------------------------------------------------- */

int foreground_begin(struct cli *cli, const char *id, const struct foreground_options *o, struct foreground *ret,
                     struct err *e)
{
    const struct {
        const char *name;
        bool wanted;
    } streams[] = {{"stdin", o->standard_in}, {"stdout", o->standard_out}, {"stderr", o->standard_error}};
    AUTO_BUF struct buf attach = {0};
    AUTO_BUF struct buf wait = {0};
    struct client *client;

    *ret = (struct foreground){.id = mem_strdup(id), .options = *o};
    if (o->has_terminal && o->standard_in && !isatty(STDIN_FILENO))
        return err_set(e, ERR_INVALID, "the input device is not a TTY");
    path_add(&attach, "/containers/%s/attach?stream=1", id);
    for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
        if (streams[i].wanted)
            path_query(&attach, streams[i].name, "1");
    path_add(&wait, "/containers/%s/wait", id);
    path_query(&wait, "condition", o->until_removed ? "removed" : "next-exit");
    int rc = cli_call(cli, &(struct client_request){.method = "POST", .path = buf_str(&attach)}, &ret->output, e);
    if (rc == 0)
        rc = cli_client(cli, &client, e);
    if (rc == 0)
        rc =
            client_start(client, &(struct client_request){.method = "POST", .path = buf_str(&wait)}, &ret->wait, e);
    if (rc == 0)
        catch_signals(cli);
    return rc;
}

/* False: this process is to end. */
static bool deal_with(struct cli *cli, const struct foreground *f, int number, int *interrupts)
{
    if (number == SIGWINCH) {
        tell_size(cli, f);
        return true;
    }
    if (f->options.has_terminal)
        return false;
    *interrupts += number == SIGINT;
    if (*interrupts == INTERRUPTS_MAX)
        return false;
    pass_on(cli, f, number);
    return true;
}

/* Do `step` until it is done, through all signals. */
static int through_signals(struct cli *cli, struct foreground *f, int (*step)(struct foreground *f, struct err *e),
                           struct err *e)
{
    int interrupts = 0, rc;

    while ((rc = step(f, e)) == ERR_CANCELED) {
        cli->stop = 0;
        if (!deal_with(cli, f, got, &interrupts))
            return rc;
        *e = (struct err){0};
    }
    return rc;
}

static int show(struct foreground *f, struct err *e)
{
    return f->options.has_terminal ? logs_copy(f->output, e)
                                   : logs_split_more(&f->splitter, f->output, logs_print, NULL, e);
}

static int hear_of_end(struct foreground *f, struct err *e)
{
    return call_answer(f->wait, e);
}

/* The output ends with the container, or earlier when the person detached. */
static bool runs_on(struct cli *cli, const struct foreground *f)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *container = NULL;
    struct err ignored = {0};

    path_add(&path, "/containers/%s/json", f->id);
    return cli_get(cli, &path, &container, &ignored) == 0 && tree_bool(container, "State.Running");
}

int foreground_follow(struct cli *cli, struct foreground *f, int *ret_status, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_JSON json_t *answer = NULL;

    tell_size(cli, f);
    take_terminal(f);
    if (f->options.standard_in)
        call_pass(f->output, STDIN_FILENO);
    int rc = through_signals(cli, f, show, e);
    give_terminal_back(f);
    *ret_status = 0;
    if (rc == 0 && f->options.standard_in && f->options.has_terminal && runs_on(cli, f))
        return 0;
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
    give_terminal_back(f);
    call_end(f->output);
    call_end(f->wait);
    logs_splitter_fini(&f->splitter);
    free(f->id);
    *f = (struct foreground){0};
}
