/* `shoal create` and `shoal run`. A missing image is pulled and the request repeated. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/container_spec.h"
#include "cli/foreground.h"
#include "cli/image.h"
#include "cli/tree.h"
#include "proto/base/file.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

static const struct option run_only_options[] = {{.name = "detach",
                                                  .letter = 'd',
                                                  .type = &option_switch,
                                                  .help = "Leave it in the background and print its id"},
                                                 {0}};

/* "shoal: WHAT", how to get help, and a status of its own. */
static int with_help(struct cli *cli, const char *command, int status, struct err *e)
{
    int rc = e->code;

    (void)fflush(stdout);
    fprintf(stderr, "%s: %s\n\nRun '%s %s --help' for more information\n", cli->program, e->text, cli->program,
            command);
    *e = (struct err){.code = rc};
    return cli_status(cli, status, rc);
}

static int post(struct cli *cli, const struct args *args, const json_t *body, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/containers/create");
    if (*args_text(args, "name"))
        path_query(&path, "name", args_text(args, "name"));
    if (*args_text(args, "platform"))
        path_query(&path, "platform", args_text(args, "platform"));
    return cli_post(cli, &path, body, ret, e);
}

static int pull(struct cli *cli, const struct args *args, struct err *e)
{
    return image_pull(cli, args->words[0], args_text(args, "platform"), stderr, isatty(STDERR_FILENO),
                      args_switch(args, "quiet"), e);
}

static int create(struct cli *cli, const struct args *args, const json_t *body, json_t **ret, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct image_name name;
    bool named = !image_name_is_id(args->words[0]);

    arena_init(&a);
    int rc = named ? image_name_parse(args->words[0], &a, &name, e) : 0;
    if (rc < 0)
        return rc;
    if (strcmp(args_text(args, "pull"), "always") == 0)
        rc = pull(cli, args, e);
    if (rc == 0)
        rc = post(cli, args, body, ret, e);
    if (rc != ERR_NOT_FOUND || !named || strcmp(args_text(args, "pull"), "missing") != 0)
        return rc;
    if (!args_switch(args, "quiet"))
        fprintf(stderr, "Unable to find image '%s' locally\n", name.familiar);
    rc = pull(cli, args, e);
    return rc < 0 ? rc : post(cli, args, body, ret, e);
}

static void warn(const json_t *answer, const json_t *body)
{
    json_t *warnings = tree_get(answer, "Warnings"), *servers = tree_get(body, "HostConfig.Dns"), *text;
    size_t i;

    json_array_foreach(warnings, i, text)
    {
        fprintf(stderr, "WARNING: %s\n", json_is_string(text) ? json_string_value(text) : "");
    }
    json_array_foreach(servers, i, text)
    {
        const char *address = json_string_value(text);

        if (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0) {
            fprintf(stderr, "WARNING: Localhost DNS (%s) may fail in containers.\n", address);
            break;
        }
    }
}

/* The file for the id, made before the container so that an old one is noticed; -1 when none is wanted. */
static int open_id_file(const char *path, int *ret_fd, struct err *e)
{
    *ret_fd = -1;
    if (!*path)
        return 0;
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (*ret_fd >= 0)
        return 0;
    if (errno == EEXIST)
        return err_set(e, ERR_EXISTS,
                       "container ID file found, make sure the other container isn't running or delete %s", path);
    return err_errno(e, "failed to create the container ID file");
}

/* Create the container; *ret is its id (free it). */
static int create_container(struct cli *cli, const struct args *args, const json_t *body, char **ret, struct err *e)
{
    AUTO_JSON json_t *answer = NULL;
    AUTO_CLOSE
    int fd = -1;
    int rc = open_id_file(args_text(args, "cidfile"), &fd, e);

    if (rc < 0)
        return rc;
    rc = create(cli, args, body, &answer, e);
    if (rc == 0) {
        warn(answer, body);
        *ret = mem_strdup(tree_text(answer, "Id"));
        if (fd >= 0)
            rc = write_all(fd, *ret, strlen(*ret), e);
    } else if (fd >= 0) {
        (void)unlink(args_text(args, "cidfile")); /* ours, and of no use */
    }
    return rc;
}

static int run_create(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *body = NULL;
    AUTO_FREE
    char *id = NULL;
    int rc = container_spec(args, &body, e);

    if (rc < 0)
        return with_help(cli, "create", 125, e);
    rc = create_container(cli, args, body, &id, e);
    if (rc == 0)
        printf("%s\n", id);
    return rc;
}

/* 127 when the program was not found in the container, 126 when it cannot be executed, 125 for the rest. */
static int start_status(const char *message)
{
    if (strstr(message, "executable file not found") || strstr(message, "no such file or directory") ||
        strstr(message, "No such file or directory"))
        return 127;
    if (strcasestr(message, "permission denied") || strcasestr(message, "is a directory"))
        return 126;
    return 125;
}

static int start(struct cli *cli, const char *id, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    path_add(&path, "/containers/%s/start", id);
    int rc = cli_post(cli, &path, NULL, NULL, e);
    return rc < 0 ? with_help(cli, "run", start_status(e->text), e) : 0;
}

static int run_detached(struct cli *cli, const struct args *args, json_t *body, struct err *e)
{
    AUTO_FREE
    char *id = NULL;

    (void)json_object_del(body, "AttachStdin");
    (void)json_object_del(body, "AttachStdout");
    (void)json_object_del(body, "AttachStderr");
    (void)json_object_del(body, "StdinOnce");
    int rc = create_container(cli, args, body, &id, e);
    if (rc < 0)
        return with_help(cli, "run", 125, e);
    printf("%s\n", id);
    return start(cli, id, e);
}

/* The container's exit code becomes the client's. */
static int run_in_foreground(struct cli *cli, const struct args *args, const json_t *body, struct err *e)
{
    const struct foreground_options options = {
        .standard_in = tree_bool(body, "AttachStdin"),
        .standard_out = tree_bool(body, "AttachStdout"),
        .standard_error = tree_bool(body, "AttachStderr"),
        .has_terminal = tree_bool(body, "Tty"),
        .until_removed = args_switch(args, "rm"),
    };
    struct foreground f = {0};
    AUTO_FREE
    char *id = NULL;
    int status = 0;

    if (options.standard_in && options.has_terminal && !isatty(STDIN_FILENO))
        return err_set(e, ERR_INVALID, "the input device is not a TTY");
    int rc = create_container(cli, args, body, &id, e);
    if (rc == 0)
        rc = foreground_begin(cli, id, &options, &f, e);
    if (rc < 0)
        rc = with_help(cli, "run", 125, e);
    if (rc == 0)
        rc = start(cli, id, e);
    if (rc == 0) {
        rc = foreground_follow(cli, &f, &status, e);
        if (rc == ERR_CANCELED) { /* the person gave up waiting */
            status = 130;
            *e = (struct err){0};
        }
        if (status)
            rc = cli_status(cli, status, ERR_INTERNAL); /* and nothing to say about it */
    }
    foreground_end(&f);
    return rc;
}

static int run_run(struct cli *cli, const struct args *args, struct err *e)
{
    bool detach = args_switch(args, "detach");
    AUTO_JSON json_t *body = NULL;
    int rc = container_spec(args, &body, e);

    if (rc == 0 && detach && args_has(args, "attach"))
        rc = err_set(e, ERR_INVALID, "conflicting options: cannot specify both --attach and --detach");
    if (rc < 0)
        return with_help(cli, "run", 125, e);
    return detach ? run_detached(cli, args, body, e) : run_in_foreground(cli, args, body, e);
}

const struct command command_create = {.name = "create",
                                       .usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
                                       .summary = "Make a new container",
                                       .also = "shoal container create, shoal create",
                                       .options = {container_options},
                                       .words_min = 1,
                                       .words_max = -1,
                                       .stops_at_word = true,
                                       .run = run_create};
const struct command command_run_container = {.name = "run",
                                              .usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
                                              .summary = "Make a new container and start it",
                                              .also = "shoal container run, shoal run",
                                              .options = {run_only_options, container_options},
                                              .words_min = 1,
                                              .words_max = -1,
                                              .stops_at_word = true,
                                              .section = SECTION_COMMON,
                                              .run = run_run};
