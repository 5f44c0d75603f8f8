/* Images: pull, load, import, tag, rm, inspect, prune, and the group `shoal image`. Listing them is in
 * image_list.c. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/image.h"
#include "cli/inspect.h"
#include "cli/logs.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/prune.h"
#include "cli/tree.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

/* --- pull -------------------------------------------------------------------------------------------------------
 */

static int pull(struct cli *cli, const struct image_name *name, bool all_tags, const char *platform, FILE *out,
                bool terminal, bool quiet, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    char lower[64] = "";
    struct call *call = NULL;

    AUTO_FREE
    char *auth = cli_registry_auth(cli, name->repository);
    path_add(&path, "/images/create");
    path_query(&path, "fromImage", name->repository);
    for (size_t i = 0; platform[i] && i + 1 < sizeof(lower); i++)
        lower[i] = platform[i] >= 'A' && platform[i] <= 'Z' ? (char)(platform[i] + 32) : platform[i];
    if (*lower)
        path_query(&path, "platform", lower);
    if (!all_tags)
        path_query(&path, "tag", name->digest ? name->digest : name->tag);
    const struct client_request request = {.method = "POST", .path = buf_str(&path), .registry_auth = auth};
    int rc = cli_call(cli, &request, &call, e);
    if (rc == 0)
        rc = progress_messages(call, out, terminal, quiet, e);
    call_end(call);
    return rc;
}

int image_pull(struct cli *cli, const char *image, const char *platform, FILE *out, bool terminal, bool quiet,
               struct err *e)
{
    AUTO_ARENA struct arena a;
    struct image_name name;

    arena_init(&a);
    int rc = image_name_parse(image, &a, &name, e);
    return rc < 0 ? rc : pull(cli, &name, false, platform, out, terminal, quiet, e);
}

static const struct option pull_options[] = {
    {.name = "all-tags", .letter = 'a', .type = &option_switch, .help = "Every tag of the repository"},
    {.name = "platform", .type = &option_string, .help = "The image's variant: os/architecture"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "No progress"},
    {0}};

static int run_pull(struct cli *cli, const struct args *args, struct err *e)
{
    bool quiet = args_switch(args, "quiet"), all = args_switch(args, "all-tags");
    AUTO_ARENA struct arena a;
    struct image_name name;

    arena_init(&a);
    int rc = image_name_parse(args->words[0], &a, &name, e);
    if (rc < 0)
        return rc;
    if (all && !name.tag_assumed)
        return err_set(e, ERR_INVALID, "tag can't be used with --all-tags/-a");
    if (!all && !quiet && name.tag_assumed)
        printf("Using default tag: %s\n", name.tag);
    rc = pull(cli, &name, all, args_text(args, "platform"), stdout, cli->out_is_terminal, quiet, e);
    if (rc < 0)
        return rc;
    printf("%s\n", all ? name.repository : name.full);
    return 0;
}

/* --- load, import -----------------------------------------------------------------------------------------------
 */

static const struct option load_options[] = {
    {.name = "input", .letter = 'i', .type = &option_string, .help = "Read this archive instead of standard input"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "No progress"},
    {0}};

/* Send a file (or stdin for "-") as the body and show what comes back. */
static int upload(struct cli *cli, struct buf *path, const char *file, const char *content_type, bool quiet,
                  struct err *e)
{
    struct call *call = NULL;
    AUTO_CLOSE
    int fd = -1;
    struct client_request request = {.method = "POST",
                                     .path = buf_str(path),
                                     .content_type = content_type,
                                     .streams = true,
                                     .body_fd = STDIN_FILENO};

    if (strcmp(file, "-") != 0) {
        fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return err_errno(e, "open %s", file);
        request.body_fd = fd;
    }
    int rc = cli_call(cli, &request, &call, e);
    if (rc == 0 && strncmp(call_content_type(call), "application/json", 16) == 0)
        rc = progress_messages(call, stdout, cli->out_is_terminal, quiet, e);
    else if (rc == 0)
        rc = logs_copy(call, e);
    call_end(call);
    return rc;
}

static int run_load(struct cli *cli, const struct args *args, struct err *e)
{
    const char *input = args_text(args, "input");
    AUTO_BUF struct buf path = {0};

    if (!*input && isatty(STDIN_FILENO))
        return err_set(e, ERR_INVALID, "requested load from stdin, but stdin is empty");
    path_add(&path, "/images/load");
    path_query(&path, "quiet", args_switch(args, "quiet") || !cli->out_is_terminal ? "1" : "0");
    return upload(cli, &path, *input ? input : "-", "application/x-tar", false, e);
}

static const struct option import_options[] = {
    {.name = "change", .letter = 'c', .type = &option_list, .help = "Apply a Dockerfile instruction to the image"},
    {.name = "message", .letter = 'm', .type = &option_string, .help = "Comment of the image"},
    {.name = "platform", .type = &option_string, .help = "The image's variant: os/architecture"},
    {0}};

static int run_import(struct cli *cli, const struct args *args, struct err *e)
{
    const char *source = args->words[0], *change;
    bool remote = strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0;
    AUTO_BUF struct buf path = {0};
    AUTO_ARENA struct arena a;
    struct image_name name;
    struct call *call = NULL;

    arena_init(&a);
    int rc = args->words_count > 1 ? image_name_parse(args->words[1], &a, &name, e) : 0;
    if (rc < 0)
        return rc;
    path_add(&path, "/images/create");
    for (size_t at = 0; (change = args_next(args, "change", &at));)
        path_query(&path, "changes", change);
    path_query(&path, "fromSrc", remote ? source : "-");
    if (*args_text(args, "message"))
        path_query(&path, "message", args_text(args, "message"));
    if (*args_text(args, "platform"))
        path_query(&path, "platform", args_text(args, "platform"));
    if (args->words_count > 1)
        path_query(&path, "repo", args->words[1]);
    if (!remote)
        return upload(cli, &path, source, "text/plain", false, e);
    const struct client_request request = {.method = "POST", .path = buf_str(&path)};
    rc = cli_call(cli, &request, &call, e);
    if (rc == 0)
        rc = progress_messages(call, stdout, cli->out_is_terminal, false, e);
    call_end(call);
    return rc;
}

/* --- tag, rm ----------------------------------------------------------------------------------------------------
 */

static int run_tag(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_ARENA struct arena a;
    struct image_name name;

    arena_init(&a);
    int rc = image_name_parse(args->words[1], &a, &name, e);
    if (rc < 0)
        return err_wrap(e, "Error parsing reference: \"%s\" is not a valid repository/tag", args->words[1]);
    if (name.digest)
        return err_set(e, ERR_INVALID, "refusing to create a tag with a digest reference");
    path_add(&path, "/images/%s/tag", args->words[0]);
    path_query(&path, "repo", name.repository);
    path_query(&path, "tag", name.tag);
    return cli_post(cli, &path, NULL, NULL, e);
}

static const struct option rmi_options[] = {
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Although something still uses it"},
    {.name = "no-prune", .type = &option_switch, .help = "Keep parents without a name"},
    {0}};

static int remove_image(struct cli *cli, const struct args *args, const char *image, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *answer = NULL;
    json_t *item;
    size_t i;

    path_add(&path, "/images/%s", image);
    if (args_switch(args, "force"))
        path_query(&path, "force", "1");
    if (args_switch(args, "no-prune"))
        path_query(&path, "noprune", "1");
    int rc = cli_delete(cli, &path, &answer, e);
    json_array_foreach(answer, i, item)
    {
        bool deleted = *tree_text(item, "Deleted");

        printf("%s: %s\n", deleted ? "Deleted" : "Untagged", tree_text(item, deleted ? "Deleted" : "Untagged"));
    }
    return rc;
}

static int run_rmi(struct cli *cli, const struct args *args, struct err *e)
{
    for (size_t i = 0; i < args->words_count; i++) {
        struct err why = {0};
        int rc = remove_image(cli, args, args->words[i], &why);

        if (rc == ERR_NOT_FOUND && args_switch(args, "force"))
            fprintf(stderr, "%s\n", why.text);
        else if (rc < 0)
            cli_complain(cli, &why);
    }
    return 0;
}

/* --- inspect, prune ---------------------------------------------------------------------------------------------
 */

static int get_image(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_NOT_FOUND, "Error: No such image: ");
    path_add(&path, "/images/%s/json", name);
    return cli_get_raw(cli, &path, raw, ret, e);
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    return inspect_run(cli, args, get_image, NULL, e);
}

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT}, {0}};

static const struct option prune_options[] = {
    {.name = "all", .letter = 'a', .type = &option_switch, .help = "Every image that no container uses"},
    {.name = "filter", .type = &option_filter, .help = "Only those that match: until=TIME, label=KEY"},
    {.name = "force", .letter = 'f', .type = &option_switch, .help = "Do not ask first"},
    {0}};

static void print_pruned(const json_t *item)
{
    bool untagged = *tree_text(item, "Untagged");

    printf("%s: %s\n", untagged ? "untagged" : "deleted", tree_text(item, untagged ? "Untagged" : "Deleted"));
}

static int run_prune(struct cli *cli, const struct args *args, struct err *e)
{
    bool all = args_switch(args, "all");
    struct prune images = {.path = "/images/prune", .title = "Images", .tells_size = true, .print = print_pruned};
    AUTO_JSON json_t *filters = cli_filters(args);

    cli_filter_add(filters, "dangling", all ? "false" : "true");
    images.warning = all ? "WARNING! This will remove all images without at least one container associated to them."
                         : "WARNING! This will remove all dangling images.";
    return cli_prune(cli, args, &images, filters, e);
}

/* --- tables -----------------------------------------------------------------------------------------------------
 */

const struct command command_pull = {.name = "pull",
                                     .usage = "[OPTIONS] NAME[:TAG|@DIGEST]",
                                     .summary = "Fetch an image from a registry",
                                     .also = "shoal image pull, shoal pull",
                                     .options = {pull_options},
                                     .words_min = 1,
                                     .words_max = 1,
                                     .section = SECTION_COMMON,
                                     .run = run_pull};
const struct command command_load = {.name = "load",
                                     .usage = "[OPTIONS]",
                                     .summary = "Load images from an archive",
                                     .also = "shoal image load, shoal load",
                                     .options = {load_options},
                                     .run = run_load};
const struct command command_import = {.name = "import",
                                       .usage = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
                                       .summary = "Make an image from an archive of files",
                                       .also = "shoal image import, shoal import",
                                       .options = {import_options},
                                       .words_min = 1,
                                       .words_max = -1,
                                       .run = run_import};
const struct command command_tag = {.name = "tag",
                                    .usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
                                    .summary = "Give an image another name",
                                    .also = "shoal image tag, shoal tag",
                                    .words_min = 2,
                                    .words_max = 2,
                                    .stops_at_word = true,
                                    .run = run_tag};

#define RMI                                                                                            \
    .usage = "[OPTIONS] IMAGE [IMAGE...]", .summary = "Remove images",                                 \
    .also = "shoal image rm, shoal image remove, shoal rmi", .options = {rmi_options}, .words_min = 1, \
    .words_max = -1, .run = run_rmi
const struct command command_rmi = {.name = "rmi", RMI};
static const struct command inner_rm = {.name = "rm", .alias = {"rmi", "remove"}, RMI};

static const struct command inner_inspect = {.name = "inspect",
                                             .usage = "[OPTIONS] IMAGE [IMAGE...]",
                                             .summary = "Show everything about images",
                                             .options = {inspect_options},
                                             .words_min = 1,
                                             .words_max = -1,
                                             .run = run_inspect};
static const struct command inner_prune = {.name = "prune",
                                           .usage = "[OPTIONS]",
                                           .summary = "Remove images that nothing uses",
                                           .options = {prune_options},
                                           .run = run_prune};

static const struct command *const children[] = {
    &command_history, &command_import, &inner_inspect, &command_load, &command_image_ls,
    &inner_prune,     &command_pull,   &inner_rm,      &command_tag,  NULL};

const struct command command_image = {.name = "image",
                                      .summary = "Manage images",
                                      .words_max = -1,
                                      .section = SECTION_MANAGEMENT,
                                      .children = children};
