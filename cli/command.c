/* See command.h.
 *
 * The root's own options (--host...) stand before the command; a group has none but --help. Mistakes on the command
 * line are answered as docker does: what is wrong, the usage line, how to get help; status 125 for options, 1 for
 * the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/command.h"
#include "proto/base/mem.h"

#define LEVELS_MAX 4

/* The commands on the way from the root, for "shoal service create". */
struct way {
    const struct command *commands[LEVELS_MAX];
    size_t count;
};

static const struct option root_options[] = {
    {.name = "config",
     .type = &option_string,
     .help = "Directory of the client's config.json (normally ~/.docker)"},
    {.name = "host",
     .letter = 'H',
     .type = &option_list,
     .help = "The node to talk to: unix://PATH or tcp://HOST:PORT (normally $SHOAL_HOST, $DOCKER_HOST or "
             "unix:///var/run/shoal.sock)"},
    {.name = "version", .letter = 'v', .type = &option_switch, .help = "Print the client's version and quit"},
    {0}};

static const struct command *const root_children[] = {&command_run_container,
                                                      &command_ps,
                                                      &command_pull,
                                                      &command_images,
                                                      &command_version,
                                                      &command_info,
                                                      &command_container,
                                                      &command_image,
                                                      &command_network,
                                                      &command_system,
                                                      &command_volume,
                                                      &command_node,
                                                      &command_service,
                                                      &command_swarm,
                                                      &command_attach,
                                                      &command_create,
                                                      &command_events,
                                                      &command_history,
                                                      &command_import,
                                                      &command_inspect,
                                                      &command_kill,
                                                      &command_load,
                                                      &command_logs,
                                                      &command_pause,
                                                      &command_rename,
                                                      &command_restart,
                                                      &command_rm,
                                                      &command_rmi,
                                                      &command_start,
                                                      &command_stop,
                                                      &command_tag,
                                                      &command_unpause,
                                                      &command_wait,
                                                      NULL};

const struct command command_root = {
    .name = "shoal",
    .usage = "[OPTIONS] COMMAND [ARG...]",
    .summary = "Runs containers on many machines as one",
    .options = {root_options},
    .words_max = -1,
    .children = root_children,
};

/* --- names ------------------------------------------------------------------------------------------------------
 */

static const char *path_of(const struct way *way, struct buf *into)
{
    for (size_t i = 0; i < way->count; i++)
        buf_printf(into, "%s%s", i ? " " : "", way->commands[i]->name);
    return buf_str(into);
}

static const struct command *last(const struct way *way)
{
    return way->commands[way->count - 1];
}

static const struct command *child(const struct command *group, const char *name)
{
    for (const struct command *const *c = group->children; *c; c++) {
        if (strcmp((*c)->name, name) == 0)
            return *c;
        for (size_t i = 0; i < ARRAY_SIZE((*c)->alias) && (*c)->alias[i]; i++)
            if (strcmp((*c)->alias[i], name) == 0)
                return *c;
    }
    return NULL;
}

static const char *next_child(void *context)
{
    const struct command *const **at = context;

    return **at ? (*(*at)++)->name : NULL;
}

/* --- help -------------------------------------------------------------------------------------------------------
 */

static size_t columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 40 ? size.ws_col : 80;
}

/* The group's commands of one section; `all`: of any. */
static void help_commands(struct buf *out, const struct command *group, enum command_section section, bool all,
                          const char *title)
{
    size_t widest = 0;
    bool any = false;

    for (const struct command *const *c = group->children; *c; c++)
        widest = MAX(widest, strlen((*c)->name));
    for (const struct command *const *c = group->children; *c; c++) {
        if (!all && (*c)->section != section)
            continue;
        if (!any)
            buf_printf(out, "\n%s:\n", title);
        any = true;
        buf_printf(out, "  %-*s %s\n", (int)MAX(widest, (size_t)11), (*c)->name, (*c)->summary);
    }
}

static void help_aliases(struct buf *out, const struct way *way)
{
    const struct command *c = last(way);
    AUTO_BUF struct buf path = {0};

    if (c->also) {
        buf_printf(out, "\nAliases:\n  %s\n", c->also);
        return;
    }
    if (!c->alias[0])
        return;
    path_of(way, &path);
    buf_printf(out, "\nAliases:\n  %s", buf_str(&path));
    size_t parent = path.length - strlen(c->name);
    for (size_t i = 0; i < ARRAY_SIZE(c->alias) && c->alias[i]; i++)
        buf_printf(out, ", %.*s%s", (int)parent, buf_str(&path), c->alias[i]);
    buf_append_char(out, '\n');
}

static void help(const struct way *way, FILE *to)
{
    const struct command *c = last(way);
    AUTO_BUF struct buf out = {0};
    AUTO_BUF struct buf path = {0};
    const char *name = path_of(way, &path);

    if (c->children)
        buf_printf(&out, "Usage:  %s%s COMMAND\n", name, way->count == 1 ? " [OPTIONS]" : "");
    else
        buf_printf(&out, "Usage:  %s%s%s\n", name, *c->usage ? " " : "", c->usage);
    buf_printf(&out, "\n%s\n", c->description ? c->description : c->summary);
    help_aliases(&out, way);
    if (c->children) {
        if (way->count == 1) {
            help_commands(&out, c, SECTION_COMMON, false, "Common Commands");
            help_commands(&out, c, SECTION_MANAGEMENT, false, "Management Commands");
            help_commands(&out, c, SECTION_SWARM, false, "Swarm Commands");
        }
        help_commands(&out, c, SECTION_PLAIN, way->count > 1, "Commands");
    }
    if (c->options[0]) {
        buf_append_str(&out, way->count == 1 ? "\nGlobal Options:\n" : "\nOptions:\n");
        options_help(c->options, columns() - 1, &out);
    }
    if (c->children)
        buf_printf(&out, "\nRun '%s COMMAND --help' for more information on a command.\n", name);
    (void)fwrite(buf_bytes(&out), 1, out.length, to); /* a failure is noticed at the end */
}

/* --- mistakes ---------------------------------------------------------------------------------------------------
 */

static void usage(const struct way *way)
{
    AUTO_BUF struct buf path = {0};
    const struct command *c = last(way);
    const char *name = path_of(way, &path);

    const char *words = way->count == 1 ? "[OPTIONS] COMMAND [ARG...]"
                        : c->children   ? "COMMAND"
                        : c->usage      ? c->usage
                                        : "";

    fprintf(stderr, "\nUsage:  %s%s%s\n\nRun '%s --help' for more information\n", name, *words ? " " : "", words,
            name);
}

static int wrong_options(struct cli *cli, const struct way *way, struct err *e)
{
    int rc = e->code;

    fprintf(stderr, "%s\n", e->text);
    usage(way);
    *e = (struct err){.code = rc};
    return cli_status(cli, 125, rc);
}

static int unknown_command(struct cli *cli, const struct way *way, const char *word)
{
    AUTO_BUF struct buf path = {0};
    const struct command *const *at = last(way)->children;
    const char *name = path_of(way, &path), *near = nearest_name(word, next_child, &at);

    fprintf(stderr, "%s: unknown command: %s %s\n", cli->program, name, word);
    if (near)
        fprintf(stderr, "\nDid you mean '%s %s'?\n", name, near);
    if (way->count == 1)
        fprintf(stderr, "\nRun '%s --help' for more information\n", name);
    else
        usage(way);
    return ERR_INVALID;
}

static int check_words(struct cli *cli, const struct way *way, const struct args *args)
{
    const struct command *c = last(way);
    int count = (int)MIN(args->words_count, (size_t)INT32_MAX), least = c->words_min, most = c->words_max;
    AUTO_BUF struct buf path = {0};

    if (count >= least && (most < 0 || count <= most))
        return 0;
    fprintf(stderr, "%s: '%s' ", cli->program, path_of(way, &path));
    if (most == 0)
        fprintf(stderr, "accepts no arguments\n");
    else if (least == most)
        fprintf(stderr, "requires %d argument%s\n", least, least == 1 ? "" : "s");
    else if (most < 0)
        fprintf(stderr, "requires at least %d argument%s\n", least, least == 1 ? "" : "s");
    else if (least == 0)
        fprintf(stderr, "requires at most %d argument%s\n", most, most == 1 ? "" : "s");
    else
        fprintf(stderr, "requires at least %d and at most %d arguments\n", least, most);
    usage(way);
    return ERR_INVALID;
}

/* --- dispatch ---------------------------------------------------------------------------------------------------
 */

static int run_leaf(struct cli *cli, struct way *way, char **argv, struct err *e)
{
    const struct command *c = last(way);
    struct args args = {0};
    int rc = args_parse(&args, c->options, argv, c->stops_at_word, e);

    if (rc < 0) {
        rc = wrong_options(cli, way, e);
    } else if (args.help) {
        help(way, stdout);
    } else {
        rc = check_words(cli, way, &args);
        if (rc == 0 && c->needs_option && args.given_count == 0)
            help(way, stdout);
        else if (rc == 0)
            rc = c->run(cli, &args, e);
    }
    args_fini(&args);
    return rc;
}

static int run_help(struct cli *cli, char **argv, struct err *e)
{
    struct way way = {.commands = {&command_root}, .count = 1};

    for (; *argv; argv++) {
        const struct command *next = last(&way)->children ? child(last(&way), *argv) : NULL;

        if (!next || way.count == LEVELS_MAX)
            return err_set(e, ERR_INVALID, "unknown help topic: %s", *argv);
        way.commands[way.count++] = next;
    }
    help(&way, stdout);
    return 0;
}

/* The root's options and the groups' --help, then the next name on the way. */
static int run_group(struct cli *cli, struct way *way, char **argv, struct err *e)
{
    const struct command *group = last(way);
    struct args args = {0};
    int rc = args_parse(&args, group->options, argv, true, e);

    if (rc < 0) {
        rc = wrong_options(cli, way, e);
        goto done;
    }
    if (way->count == 1) {
        cli->host = *args_text(&args, "host") ? args_text(&args, "host") : NULL;
        cli->config_dir = *args_text(&args, "config") ? args_text(&args, "config") : NULL;
        if (args_switch(&args, "version")) {
            printf("Shoal version %s\n", SHOAL_VERSION);
            goto done;
        }
    }
    if (args.help || args.words_count == 0) {
        help(way, args.help ? stdout : stderr);
        goto done;
    }
    const char *word = args.words[0];
    char **rest = argv;
    while (*rest != word)
        rest++;
    const struct command *next = child(group, word);
    if (next) {
        way->commands[way->count++] = next;
        rc = next->children ? run_group(cli, way, rest + 1, e) : run_leaf(cli, way, rest + 1, e);
    } else if (way->count == 1 && strcmp(word, "help") == 0) {
        rc = run_help(cli, rest + 1, e);
    } else {
        rc = unknown_command(cli, way, word);
    }
done:
    args_fini(&args);
    return rc;
}

int command_run(struct cli *cli, char **argv, struct err *e)
{
    struct way way = {.commands = {&command_root}, .count = 1};

    return run_group(cli, &way, argv, e);
}
