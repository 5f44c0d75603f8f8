/* Containers: the verbs of their life, inspect and prune, and the group `shoal container`. Listing them is in ps.c,
 * creating them in container_create.c, their logs in logs.c. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/foreground.h"
#include "cli/inspect.h"
#include "cli/prune.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define PARALLEL_MAX 50 /* calls of one command under way at once */

/* --- verbs on several containers --------------------------------------------------------------------------------
 */

/* The request for one container: method and path. */
typedef const char *(*verb_request)(const struct args *args, const char *name, struct buf *path);

struct flight {
    struct call *call;
    int rc;
    struct err e;
};

static void launch(struct cli *cli, const struct args *args, verb_request request, const char *name,
                   struct flight *flight)
{
    AUTO_BUF struct buf path = {0};
    struct client *client;

    flight->e = (struct err){0};
    flight->call = NULL;
    name += *name == '/';
    if (!*name) {
        flight->rc = err_set(&flight->e, ERR_INVALID, "invalid container name or ID: value is empty");
        return;
    }
    const char *method = request(args, name, &path);
    const struct client_request r = {.method = method, .path = buf_str(&path)};
    flight->rc = cli_client(cli, &client, &flight->e);
    if (flight->rc == 0)
        flight->rc = client_start(client, &r, &flight->call, &flight->e);
}

static void land(struct flight *flight)
{
    AUTO_BUF struct buf ignored = {0};

    if (flight->rc == 0)
        flight->rc = call_answer(flight->call, &flight->e);
    if (flight->rc == 0)
        flight->rc = call_read_all(flight->call, &ignored, &flight->e);
    call_end(flight->call);
}

/* Ask for all at once, so that ten containers with ten seconds of grace take ten seconds; report in their order. */
static int verb(struct cli *cli, const struct args *args, verb_request request, bool missing_is_fine)
{
    for (size_t from = 0; from < args->words_count; from += PARALLEL_MAX) {
        size_t count = MIN(args->words_count - from, (size_t)PARALLEL_MAX);
        AUTO_FREE
        struct flight *flights = mem_array(count, sizeof(*flights));

        for (size_t i = 0; i < count; i++)
            launch(cli, args, request, args->words[from + i], &flights[i]);
        for (size_t i = 0; i < count; i++) {
            land(&flights[i]);
            if (flights[i].rc == 0)
                printf("%s\n", args->words[from + i]);
            else if (missing_is_fine && flights[i].rc == ERR_NOT_FOUND)
                fprintf(stderr, "%s\n", flights[i].e.text);
            else
                cli_complain(cli, &flights[i].e);
        }
    }
    return 0;
}

static const char *stop_request(const struct args *args, const char *name, struct buf *path)
{
    path_add(path, "/containers/%s/stop", name);
    if (*args_text(args, "signal"))
        path_query(path, "signal", args_text(args, "signal"));
    if (args_has(args, "timeout") || args_has(args, "time"))
        path_query(path, "t", args_text(args, args_has(args, "timeout") ? "timeout" : "time"));
    return "POST";
}

static const char *restart_request(const struct args *args, const char *name, struct buf *path)
{
    path_add(path, "/containers/%s/restart", name);
    if (*args_text(args, "signal"))
        path_query(path, "signal", args_text(args, "signal"));
    if (args_has(args, "timeout") || args_has(args, "time"))
        path_query(path, "t", args_text(args, args_has(args, "timeout") ? "timeout" : "time"));
    return "POST";
}

static const char *kill_request(const struct args *args, const char *name, struct buf *path)
{
    path_add(path, "/containers/%s/kill", name);
    if (*args_text(args, "signal"))
        path_query(path, "signal", args_text(args, "signal"));
    return "POST";
}

static const char *pause_request(const struct args *args, const char *name, struct buf *path)
{
    path_add(path, "/containers/%s/pause", name);
    return "POST";
}

static const char *unpause_request(const struct args *args, const char *name, struct buf *path)
{
    path_add(path, "/containers/%s/unpause", name);
    return "POST";
}

static const char *rm_request(const struct args *args, const char *name, struct buf *path)
{
    path_add(path, "/containers/%s", name);
    if (args_switch(args, "force"))
        path_query(path, "force", "1");
    if (args_switch(args, "link"))
        path_query(path, "link", "1");
    if (args_switch(args, "volumes"))
        path_query(path, "v", "1");
    return "DELETE";
}

static int check_timeout(const struct args *args, struct err *e)
{
    if (args_has(args, "time") && args_has(args, "timeout"))
        return err_set(e, ERR_INVALID, "conflicting options: cannot specify both --timeout and --time");
    return 0;
}

static int run_stop(struct cli *cli, const struct args *args, struct err *e)
{
    int rc = check_timeout(args, e);

    return rc < 0 ? rc : verb(cli, args, stop_request, false);
}

static int run_restart(struct cli *cli, const struct args *args, struct err *e)
{
    int rc = check_timeout(args, e);

    return rc < 0 ? rc : verb(cli, args, restart_request, false);
}

static int run_kill(struct cli *cli, const struct args *args, struct err *e)
{
    return verb(cli, args, kill_request, false);
}

static int run_pause(struct cli *cli, const struct args *args, struct err *e)
{
    return verb(cli, args, pause_request, false);
}

static int run_unpause(struct cli *cli, const struct args *args, struct err *e)
{
    return verb(cli, args, unpause_request, false);
}

static int run_rm(struct cli *cli, const struct args *args, struct err *e)
{
    return verb(cli, args, rm_request, args_switch(args, "force"));
}

static const struct option stop_options[] = {{.name = "signal",
                                              .letter = 's',
                                              .type = &option_string,
                                              .help = "The signal to send instead of the container's own"},
                                             {.name = "time",
                                              .type = &option_int,
                                              .help = "The same as --timeout",
                                              .hidden = true,
                                              .deprecated = "use --timeout instead"},
                                             {.name = "timeout",
                                              .letter = 't',
                                              .type = &option_int,
                                              .help = "Seconds until it is killed; -1 waits for ever"},
                                             {0}};

static const struct option kill_options[] = {
    {.name = "signal", .letter = 's', .type = &option_string, .help = "The signal to send instead of SIGKILL"},
    {0}};

static const struct option rm_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Kill it first when it runs"},
    {.name = "link", .letter = 'l', .type = &option_switch, .help = "Remove the named link, not the container"},
    {.name = "volumes", .letter = 'v', .type = &option_switch, .help = "With the anonymous volumes it used"},
    {0}};

/* --- start, wait, rename ----------------------------------------------------------------------------------------
 */

static const struct option start_options[] = {
    {.name = "attach", .letter = 'a', .type = &option_switch, .help = "Show the container's output until it exits"},
    {.name = "interactive", .letter = 'i', .type = &option_switch, .help = "Pass on input"},
    {0}};

static int start_one(struct cli *cli, const char *name, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/containers/%s/start", name + (*name == '/'));
    return cli_post(cli, &path, NULL, NULL, e);
}

static int run_start(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_BUF struct buf failed = {0};
    bool attach = args_switch(args, "attach") || args_switch(args, "interactive");

    if (attach && args->words_count > 1)
        return err_set(e, ERR_INVALID, "you cannot start and attach multiple containers at once");
    if (attach)
        return foreground_start(cli, args->words[0], args_switch(args, "interactive"), e);
    for (size_t i = 0; i < args->words_count; i++) {
        struct err why = {0};

        if (start_one(cli, args->words[i], &why) == 0) {
            printf("%s\n", args->words[i]);
            continue;
        }
        cli_complain(cli, &why);
        buf_printf(&failed, "%s%s", failed.length ? ", " : "", args->words[i]);
    }
    if (failed.length)
        return err_set(e, ERR_INTERNAL, "Error: failed to start containers: %s", buf_str(&failed));
    return 0;
}

static int wait_one(struct cli *cli, const char *name, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *answer = NULL;

    path_add(&path, "/containers/%s/wait", name + (*name == '/'));
    int rc = cli_post(cli, &path, NULL, &answer, e);
    if (rc < 0)
        return rc;
    printf("%lld\n", (long long)tree_int(answer, "StatusCode"));
    if (*tree_text(answer, "Error.Message"))
        return err_set(e, ERR_INTERNAL, "%s", tree_text(answer, "Error.Message"));
    return 0;
}

static int run_wait(struct cli *cli, const struct args *args, struct err *e)
{
    for (size_t i = 0; i < args->words_count; i++) {
        struct err why = {0};

        if (wait_one(cli, args->words[i], &why) < 0)
            cli_complain(cli, &why);
    }
    return 0;
}

static int run_rename(struct cli *cli, const struct args *args, struct err *e)
{
    const char *old = args->words[0] + strspn(args->words[0], " "),
               *new = args->words[1] + strspn(args->words[1], " ");
    AUTO_BUF struct buf path = {0};
    struct err why = {0};

    if (!*old || !*new)
        return err_set(e, ERR_INVALID, "Error: Neither old nor new names may be empty");
    path_add(&path, "/containers/%s/rename", old + (*old == '/'));
    path_query(&path, "name", new);
    if (cli_post(cli, &path, NULL, NULL, &why) == 0)
        return 0;
    cli_complain(cli, &why);
    return err_set(e, why.code, "Error: failed to rename container named %s", old);
}

/* --- inspect, prune ---------------------------------------------------------------------------------------------
 */

static int get_container(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret,
                         struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid container name or ID: value is empty");
    path_add(&path, "/containers/%s/json", name + (*name == '/'));
    if (args_switch(context, "size"))
        path_query(&path, "size", "1");
    return cli_get_raw(cli, &path, raw, ret, e);
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    return inspect_run(cli, args, get_container, (void *)args, e);
}

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT},
    {.name = "size", .letter = 's', .type = &option_switch, .help = "With the size of its files"},
    {0}};

static const struct option prune_options[] = {
    {.name = "filter", .type = &option_filter, .help = "Only those that match: until=TIME, label=KEY"},
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Do not ask first"},
    {0}};

static int run_prune(struct cli *cli, const struct args *args, struct err *e)
{
    static const struct prune containers = {.path = "/containers/prune",
                                            .title = "Containers",
                                            .warning = "WARNING! This will remove all stopped containers.",
                                            .tells_size = true};
    AUTO_JSON json_t *filters = cli_filters(args);

    return cli_prune(cli, args, &containers, filters, e);
}

/* --- tables -----------------------------------------------------------------------------------------------------
 */

/* A command that is both `shoal NAME` and `shoal container NAME2`. */
#define BOTH(variable, top, inner, ...)                                   \
    const struct command command_##variable = {.name = top, __VA_ARGS__}; \
    static const struct command inner_##variable = {.name = inner, __VA_ARGS__}

BOTH(stop, "stop", "stop", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Stop running containers",
     .also = "shoal container stop, shoal stop", .options = {stop_options}, .words_min = 1, .words_max = -1,
     .run = run_stop);
BOTH(restart, "restart", "restart", .usage = "[OPTIONS] CONTAINER [CONTAINER...]",
     .summary = "Stop containers and start them again", .also = "shoal container restart, shoal restart",
     .options = {stop_options}, .words_min = 1, .words_max = -1, .run = run_restart);
BOTH(kill, "kill", "kill", .usage = "[OPTIONS] CONTAINER [CONTAINER...]",
     .summary = "Send running containers a signal", .also = "shoal container kill, shoal kill",
     .options = {kill_options}, .words_min = 1, .words_max = -1, .run = run_kill);
BOTH(pause, "pause", "pause", .usage = "CONTAINER [CONTAINER...]",
     .summary = "Stop the processes of containers where they are", .also = "shoal container pause, shoal pause",
     .words_min = 1, .words_max = -1, .run = run_pause);
BOTH(unpause, "unpause", "unpause", .usage = "CONTAINER [CONTAINER...]",
     .summary = "Let the processes of paused containers go on", .also = "shoal container unpause, shoal unpause",
     .words_min = 1, .words_max = -1, .run = run_unpause);
BOTH(start, "start", "start", .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Start stopped containers",
     .also = "shoal container start, shoal start", .options = {start_options}, .words_min = 1, .words_max = -1,
     .run = run_start);
BOTH(wait, "wait", "wait", .usage = "CONTAINER [CONTAINER...]",
     .summary = "Wait until containers stop and print their exit codes", .also = "shoal container wait, shoal wait",
     .words_min = 1, .words_max = -1, .run = run_wait);
BOTH(rename, "rename", "rename", .usage = "CONTAINER NEW_NAME", .summary = "Give a container another name",
     .also = "shoal container rename, shoal rename", .words_min = 2, .words_max = 2, .run = run_rename);

#define RM                                                                                                   \
    .usage = "[OPTIONS] CONTAINER [CONTAINER...]", .summary = "Remove containers",                           \
    .also = "shoal container rm, shoal container remove, shoal rm", .options = {rm_options}, .words_min = 1, \
    .words_max = -1, .run = run_rm
const struct command command_rm = {.name = "rm", RM};
static const struct command inner_rm = {.name = "rm", .alias = {"remove"}, RM};

static const struct command inner_inspect = {.name = "inspect",
                                             .usage = "[OPTIONS] CONTAINER [CONTAINER...]",
                                             .summary = "Show everything about containers",
                                             .options = {inspect_options},
                                             .words_min = 1,
                                             .words_max = -1,
                                             .run = run_inspect};
static const struct command inner_prune = {.name = "prune",
                                           .usage = "[OPTIONS]",
                                           .summary = "Remove all stopped containers",
                                           .options = {prune_options},
                                           .run = run_prune};

static const struct command *const children[] = {
    &command_attach, &command_create, &inner_inspect, &inner_kill,    &command_logs, &command_container_ls,
    &inner_pause,    &inner_prune,    &inner_rename,  &inner_restart, &inner_rm,     &command_run_container,
    &inner_start,    &inner_stop,     &inner_unpause, &inner_wait,    NULL};

const struct command command_container = {.name = "container",
                                          .summary = "Manage containers",
                                          .words_max = -1,
                                          .section = SECTION_MANAGEMENT,
                                          .children = children};
