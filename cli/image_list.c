/* Images as rows: `shoal images`, `shoal image ls` and `shoal history`. An image with several names is several
 * rows. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/image.h"
#include "cli/inspect.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/tree.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

struct name {
    const char *repository, *tag, *digest;
};

static void show_image_id(const struct row *row, struct buf *out)
{
    show_id(row, tree_text(row->object, "Id"), out);
}

static void show_repository(const struct row *row, struct buf *out)
{
    buf_append_str(out, ((const struct name *)row->context)->repository);
}

static void show_tag(const struct row *row, struct buf *out)
{
    buf_append_str(out, ((const struct name *)row->context)->tag);
}

static void show_digest(const struct row *row, struct buf *out)
{
    buf_append_str(out, ((const struct name *)row->context)->digest);
}

static void show_created_since(const struct row *row, struct buf *out)
{
    show_age(row, tree_int(row->object, "Created"), out);
}

static void show_created_at(const struct row *row, struct buf *out)
{
    show_local_time(tree_int(row->object, "Created"), out);
}

static void put_size(struct buf *out, int64_t bytes, int digits)
{
    char text[PRINT_TEXT];

    print_size((double)bytes, digits, text);
    buf_append_str(out, text);
}

static void show_size(const struct row *row, struct buf *out)
{
    put_size(out, tree_int(row->object, "Size"), 3);
}

static void show_virtual_size(const struct row *row, struct buf *out)
{
    put_size(out, tree_int(row->object, "Size"), 4);
}

static void show_containers(const struct row *row, struct buf *out)
{
    int64_t count = tree_int(row->object, "Containers");

    if (count == -1)
        buf_append_str(out, "N/A");
    else
        buf_printf(out, "%lld", (long long)count);
}

static void show_shared_size(const struct row *row, struct buf *out)
{
    int64_t shared = tree_int(row->object, "SharedSize");

    if (shared == -1)
        buf_append_str(out, "N/A");
    else
        put_size(out, shared, 4);
}

static void show_unique_size(const struct row *row, struct buf *out)
{
    int64_t shared = tree_int(row->object, "SharedSize"), size = tree_int(row->object, "Size");

    if (shared == -1 || size == -1)
        buf_append_str(out, "N/A");
    else
        put_size(out, size - shared, 4);
}

static const struct column image_columns[] = {
    {"Containers", "CONTAINERS", show_containers, false},
    {"CreatedAt", "CREATED AT", show_created_at, false},
    {"CreatedSince", "CREATED", show_created_since, false},
    {"Digest", "DIGEST", show_digest, false},
    {"ID", "IMAGE ID", show_image_id, false},
    {"Repository", "REPOSITORY", show_repository, false},
    {"SharedSize", "SHARED SIZE", show_shared_size, false},
    {"Size", "SIZE", show_size, false},
    {"Tag", "TAG", show_tag, false},
    {"UniqueSize", "UNIQUE SIZE", show_unique_size, false},
    {"VirtualSize", "SIZE", show_virtual_size, false},
};

#define IMAGE_COLUMNS                                                                                          \
    .noun = "image", .columns = image_columns, .columns_count = ARRAY_SIZE(image_columns), .quiet = "{{.ID}}", \
    .raw_quiet = "image_id: {{.ID}}"

static const struct list_kind images = {
    IMAGE_COLUMNS,
    .table =
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    .raw = "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n"
           "virtual_size: {{.Size}}\n",
};

static const struct list_kind images_with_digest = {
    IMAGE_COLUMNS,
    .table = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t"
             "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    .raw = "repository: {{ .Repository }}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\n"
           "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
};

static const struct option images_options[] = {
    {.name = "all", .letter = 'a', .type = &option_switch, .help = "With those that others are built on"},
    {.name = "digests", .type = &option_switch, .help = "With digests"},
    {.name = "filter", .letter = 'f', .type = &option_filter, .help = "Only those that match: key=value"},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids in full"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids"},
    {0}};

/* --- rows of one image ------------------------------------------------------------------------------------------
 */

struct rows {
    struct arena arena; /* of what names are taken apart into */
    struct list *list;
    const json_t *image;
    bool digests_wanted; /* a row for each digest */
    int rc;
    struct err *e;
};

/* The repository of "busybox:1" or "busybox@sha256:...", what follows it returned; NULL when the name is none. */
static const char *split_name(struct rows *r, const json_t *name, const char **ret_repository)
{
    const char *text = json_string_value(name);
    struct image_name n;

    if (!text || image_name_parse(text, &r->arena, &n, NULL) < 0 || n.tag_assumed)
        return NULL;
    *ret_repository = image_name_familiar(n.repository);
    return n.digest ? n.digest : n.tag;
}

static void add_row(struct rows *r, const char *repository, const char *tag, const char *digest)
{
    struct name name = {repository, tag, digest};

    if (r->rc == 0)
        r->rc = list_add(r->list, r->image, &name, r->e);
}

/* A row for this tag, or one for each digest of its repository. */
static void add_tag(struct rows *r, const char *repository, const char *tag)
{
    json_t *digests = tree_get(r->image, "RepoDigests"), *name;
    const char *other;
    bool any = false;
    size_t i;

    json_array_foreach(digests, i, name)
    {
        const char *digest = split_name(r, name, &other);

        if (!r->digests_wanted || !digest || strcmp(other, repository) != 0)
            continue;
        add_row(r, repository, tag, digest);
        any = true;
    }
    if (!any)
        add_row(r, repository, tag, "<none>");
}

static bool has_tag(struct rows *r, const char *repository)
{
    json_t *tags = tree_get(r->image, "RepoTags"), *name;
    const char *other;
    size_t i;

    json_array_foreach(tags, i, name)
    {
        if (split_name(r, name, &other) && strcmp(other, repository) == 0)
            return true;
    }
    return false;
}

static void add_image(struct rows *r, bool digests)
{
    json_t *tags = tree_get(r->image, "RepoTags"), *names = tree_get(r->image, "RepoDigests"), *name;
    const char *repository = "", *last = "";
    bool any = false;
    size_t i;

    json_array_foreach(tags, i, name)
    {
        const char *tag = split_name(r, name, &repository);

        if (tag)
            add_tag(r, repository, tag);
        any = any || tag;
    }
    json_array_foreach(names, i, name)
    {
        const char *digest = split_name(r, name, &repository);

        if (!digest || has_tag(r, repository))
            continue;
        any = true;
        if (digests)
            add_row(r, repository, "<none>", digest);
        else if (strcmp(repository, last) != 0)
            add_row(r, repository, "<none>", "");
        last = repository;
    }
    if (!any)
        add_row(r, "<none>", "<none>", "<none>");
}

static int run_images_as(struct cli *cli, const struct args *args, bool hint, struct err *e)
{
    static const char *const verbs[] = {"history", "import", "inspect", "list",  "load", "ls",  "prune",
                                        "pull",    "rm",     "tag",     "build", "push", "save"};
    bool quiet = args_switch(args, "quiet"), digests = args_switch(args, "digests");
    const char *format = args_text(args, "format"), *match = args->words_count ? args->words[0] : "";
    AUTO_BUF struct buf path = {0};
    AUTO_BUF struct buf with_digest = {0};
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_JSON json_t *array = NULL;
    struct list list;
    json_t *image;
    size_t i;

    if (*match)
        cli_filter_add(filters, "reference", match);
    if (!*format && !quiet)
        format = cli_config(cli, "imagesFormat");
    if (digests && strncmp(format, "table", 5) == 0 && format[5] && !strstr(format, "{{.Digest}}")) {
        buf_printf(&with_digest, "%s\t{{.Digest}}", format);
        format = buf_str(&with_digest);
    }
    int rc =
        list_open(&list, digests ? &images_with_digest : &images, format, quiet, !args_switch(args, "no-trunc"), e);
    path_add(&path, "/images/json");
    if (args_switch(args, "all"))
        path_query(&path, "all", "1");
    cli_filter_query(&path, filters);
    if (rc == 0)
        rc = cli_get(cli, &path, &array, e);
    bool wanted = digests || (rc == 0 && list_reads(&list, "Digest"));
    json_array_foreach(array, i, image)
    {
        struct rows rows = {.list = &list, .image = image, .digests_wanted = wanted, .e = e};

        arena_init(&rows.arena);
        if (rc == 0) {
            add_image(&rows, digests);
            rc = rows.rc;
        }
        arena_fini(&rows.arena);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    for (i = 0; rc == 0 && hint && *match && !json_array_size(array) && i < ARRAY_SIZE(verbs); i++)
        if (strcmp(match, verbs[i]) == 0)
            fprintf(stderr, "\nNo images found matching \"%s\": did you mean \"%s image %s\"?\n", match,
                    cli->program, match);
    return rc;
}

static int run_images(struct cli *cli, const struct args *args, struct err *e)
{
    return run_images_as(cli, args, true, e);
}

static int run_image_ls(struct cli *cli, const struct args *args, struct err *e)
{
    return run_images_as(cli, args, false, e);
}

#define IMAGES                                                         \
    .usage = "[OPTIONS] [REPOSITORY[:TAG]]", .summary = "List images", \
    .also = "shoal image ls, shoal image list, shoal images", .options = {images_options}, .words_max = 1
const struct command command_images = {.name = "images", .section = SECTION_COMMON, IMAGES, .run = run_images};
const struct command command_image_ls = {.name = "ls", .alias = {"list"}, IMAGES, .run = run_image_ls};

/* --- history ----------------------------------------------------------------------------------------------------
 */

static void show_history_time(const struct row *row, struct buf *out)
{
    time_t moment = (time_t)tree_int(row->object, "Created");
    char text[PRINT_TEXT] = "";
    struct tm tm;

    if (!localtime_r(&moment, &tm))
        return;
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S%z", &tm);
    size_t length = strlen(text);
    if (tm.tm_gmtoff == 0 && length > 5) /* "+0000" is written Z, "+0100" with a colon */
        buf_printf(out, "%.*sZ", (int)length - 5, text);
    else
        buf_printf(out, "%.*s:%s", (int)length - 2, text, text + length - 2);
}

static void show_history_since(const struct row *row, struct buf *out)
{
    static const int64_t year_2000 = 946684800; /* older ones are dates that builders invent */

    if (!*(const bool *)row->context)
        show_history_time(row, out);
    else if (tree_int(row->object, "Created") <= year_2000)
        buf_append_str(out, "N/A");
    else
        show_age(row, tree_int(row->object, "Created"), out);
}

static void show_created_by(const struct row *row, struct buf *out)
{
    AUTO_BUF struct buf text = {0};

    for (const char *c = tree_text(row->object, "CreatedBy"); *c; c++)
        buf_append_char(&text, *c == '\t' ? ' ' : *c);
    if (row->list->truncate)
        print_ellipsis(out, buf_str(&text), 45);
    else
        buf_append(out, buf_bytes(&text), text.length);
}

static void show_history_size(const struct row *row, struct buf *out)
{
    if (*(const bool *)row->context)
        put_size(out, tree_int(row->object, "Size"), 3);
    else
        buf_printf(out, "%lld", (long long)tree_int(row->object, "Size"));
}

static void show_comment(const struct row *row, struct buf *out)
{
    buf_append_str(out, tree_text(row->object, "Comment"));
}

static const struct column history_columns[] = {
    {"Comment", "COMMENT", show_comment, false},
    {"CreatedAt", "CREATED AT", show_history_time, false},
    {"CreatedBy", "CREATED BY", show_created_by, false},
    {"CreatedSince", "CREATED", show_history_since, false},
    {"ID", "IMAGE", show_image_id, false},
    {"Size", "SIZE", show_history_size, false},
};

static const struct list_kind history = {
    .noun = "history",
    .columns = history_columns,
    .columns_count = ARRAY_SIZE(history_columns),
    .table = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    .quiet = "{{.ID}}",
};

static const struct list_kind history_in_numbers = {
    .noun = "history",
    .columns = history_columns,
    .columns_count = ARRAY_SIZE(history_columns),
    .table = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    .quiet = "{{.ID}}",
};

static const struct option history_options[] = {
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "human",
     .letter = 'H',
     .type = &option_switch,
     .standard = "true",
     .help = "Sizes and times for people; --human=false gives plain numbers"},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids and commands in full"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids"},
    {0}};

static int run_history(struct cli *cli, const struct args *args, struct err *e)
{
    bool human = args_switch(args, "human");
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *array = NULL;
    struct list list;
    json_t *layer;
    size_t i;
    int rc = list_open(&list, human ? &history : &history_in_numbers, args_text(args, "format"),
                       args_switch(args, "quiet"), !args_switch(args, "no-trunc"), e);

    path_add(&path, "/images/%s/history", args->words[0]);
    if (rc == 0)
        rc = cli_get(cli, &path, &array, e);
    json_array_foreach(array, i, layer)
    {
        if (rc == 0)
            rc = list_add(&list, layer, &human, e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    return rc;
}

const struct command command_history = {.name = "history",
                                        .usage = "[OPTIONS] IMAGE",
                                        .summary = "Show the layers of an image",
                                        .also = "shoal image history, shoal history",
                                        .options = {history_options},
                                        .words_min = 1,
                                        .words_max = 1,
                                        .run = run_history};
