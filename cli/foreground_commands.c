/* `shoal attach` and the attached form of `shoal start`. */
#include "cli/command.h"
#include "cli/foreground.h"
#include "cli/tree.h"

static int look(struct cli *cli, const char *name, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/containers/%s/json", name + (*name == '/'));
    return cli_get(cli, &path, ret, e);
}

static struct foreground_options options_of(const json_t *container, bool interactive)
{
    return (struct foreground_options){
        .standard_in = interactive && tree_bool(container, "Config.OpenStdin"),
        .standard_out = true,
        .standard_error = true,
        .has_terminal = tree_bool(container, "Config.Tty"),
        .until_removed = tree_bool(container, "HostConfig.AutoRemove"),
    };
}

/* Follow it; the exit code becomes ours. */
static int follow(struct cli *cli, struct foreground *f, struct err *e)
{
    int status;
    int rc = foreground_follow(cli, f, &status, e);

    return rc == 0 && status ? cli_status(cli, status, ERR_INTERNAL) : rc;
}

int foreground_start(struct cli *cli, const char *name, bool interactive, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *container = NULL;
    struct foreground f = {0};
    int rc = look(cli, name, &container, e);

    if (rc < 0)
        return rc;
    struct foreground_options options = options_of(container, interactive);
    path_add(&path, "/containers/%s/start", tree_text(container, "Id"));
    rc = foreground_begin(cli, tree_text(container, "Id"), &options, &f, e);
    if (rc == 0)
        rc = cli_post(cli, &path, NULL, NULL, e);
    if (rc == 0)
        rc = follow(cli, &f, e);
    foreground_end(&f);
    return rc;
}

static int run_attach(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *container = NULL;
    struct foreground f = {0};
    int rc = look(cli, args->words[0], &container, e);

    if (rc < 0)
        return rc;
    if (!tree_bool(container, "State.Running"))
        return err_set(e, ERR_CONFLICT, "You cannot attach to a stopped container, start it first");
    if (tree_bool(container, "State.Paused"))
        return err_set(e, ERR_CONFLICT, "You cannot attach to a paused container, unpause it first");
    struct foreground_options options = options_of(container, !args_switch(args, "no-stdin"));
    rc = foreground_begin(cli, tree_text(container, "Id"), &options, &f, e);
    if (rc == 0)
        rc = follow(cli, &f, e);
    foreground_end(&f);
    return rc;
}

static const struct option attach_options[] = {
    {.name = "no-stdin", .type = &option_switch, .help = "Show its output only"}, {0}};

const struct command command_attach = {.name = "attach",
                                       .usage = "[OPTIONS] CONTAINER",
                                       .summary = "Show a running container's output and pass input to it",
                                       .also = "shoal container attach, shoal attach",
                                       .options = {attach_options},
                                       .words_min = 1,
                                       .words_max = 1,
                                       .run = run_attach};
