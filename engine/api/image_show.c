/* See image_show.h. */
#include <string.h>

#include "engine/api/container_show.h"
#include "engine/api/image_show.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

const char *image_familiar(const char *full, struct arena *a)
{
    struct image_name name;

    return image_name_parse(full, a, &name, NULL) == 0 ? name.familiar : full;
}

static void show_names(struct jwrite *j, const char *key, char *const *names, size_t count)
{
    struct arena AUTO_ARENA a;

    arena_init(&a);
    jwrite_array(j, key);
    for (size_t i = 0; i < count; i++)
        jwrite_string(j, NULL, image_familiar(names[i], &a));
    jwrite_end(j);
}

void image_show_summary(const struct image *image, int64_t containers, struct jwrite *j)
{
    const ImageRecord *record = image->record;

    jwrite_object(j, NULL);
    jwrite_int(j, "Containers", containers);
    jwrite_int(j, "Created", image->config->created_ns / 1000000000);
    jwrite_string(j, "Id", record->id);
    show_pairs(j, "Labels", image->config->labels, image->config->n_labels);
    jwrite_string(j, "ParentId", record->parent);
    show_names(j, "RepoDigests", record->digests, record->n_digests);
    show_names(j, "RepoTags", record->tags, record->n_tags);
    jwrite_int(j, "SharedSize", -1);
    jwrite_int(j, "Size", record->size_bytes);
    jwrite_end(j);
}

static void show_keys(struct jwrite *j, const char *key, char *const *keys, size_t count)
{
    if (!count) {
        jwrite_null(j, key);
        return;
    }
    jwrite_object(j, key);
    for (size_t i = 0; i < count; i++) {
        jwrite_object(j, keys[i]);
        jwrite_end(j);
    }
    jwrite_end(j);
}

/* The members that only containers have are there, empty, as the API of this version wants it. */
static void show_config(const ImageConfig *config, struct jwrite *j)
{
    static const char *const flags[] = {"AttachStdin", "AttachStdout", "AttachStderr",
                                        "Tty",         "OpenStdin",    "StdinOnce"};

    jwrite_object(j, "Config");
    jwrite_string(j, "Hostname", "");
    jwrite_string(j, "Domainname", "");
    jwrite_string(j, "User", config->user);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        jwrite_bool(j, flags[i], false);
    if (config->n_exposed_ports)
        show_keys(j, "ExposedPorts", config->exposed_ports, config->n_exposed_ports);
    show_texts(j, "Env", config->env, config->n_env);
    show_texts_or_null(j, "Cmd", config->command, config->n_command);
    if (config->health)
        show_health(config->health, j);
    jwrite_string(j, "Image", "");
    show_keys(j, "Volumes", config->volumes, config->n_volumes);
    jwrite_string(j, "WorkingDir", config->working_dir);
    show_texts_or_null(j, "Entrypoint", config->entrypoint, config->n_entrypoint);
    jwrite_null(j, "OnBuild");
    show_pairs(j, "Labels", config->labels, config->n_labels);
    if (config->stop_signal && *config->stop_signal)
        jwrite_string(j, "StopSignal", config->stop_signal);
    if (config->n_shell)
        show_texts(j, "Shell", config->shell, config->n_shell);
    jwrite_end(j);
}

void image_show_inspect(const struct engine *en, const struct image *image, struct jwrite *j)
{
    const ImageRecord *record = image->record;
    const ImageConfig *config = image->config;

    jwrite_object(j, NULL);
    jwrite_string(j, "Id", record->id);
    show_names(j, "RepoTags", record->tags, record->n_tags);
    show_names(j, "RepoDigests", record->digests, record->n_digests);
    jwrite_string(j, "Parent", record->parent);
    jwrite_string(j, "Comment", config->comment);
    if (config->created_ns)
        jwrite_time_ns(j, "Created", config->created_ns);
    jwrite_string(j, "DockerVersion", "");
    jwrite_string(j, "Author", config->author);
    show_config(config, j);
    jwrite_string(j, "Architecture", config->architecture);
    if (config->variant && *config->variant)
        jwrite_string(j, "Variant", config->variant);
    jwrite_string(j, "Os", config->os);
    jwrite_int(j, "Size", record->size_bytes);
    jwrite_object(j, "GraphDriver");
    jwrite_string(j, "Name", "overlay2");
    jwrite_object(j, "Data");
    jwrite_end(j);
    jwrite_end(j);
    jwrite_object(j, "RootFS");
    jwrite_string(j, "Type", "layers");
    show_texts(j, "Layers", config->diff_ids, config->n_diff_ids);
    jwrite_end(j);
    jwrite_object(j, "Metadata");
    jwrite_time_ns(j, "LastTagTime", record->tagged_ns);
    jwrite_end(j);
    jwrite_end(j);
}

/* --- history ------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *entry, const char *key)
{
    const char *text = json_string_value(json_object_get(entry, key));

    return text ? text : "";
}

static void show_entry(const struct image *image, const json_t *entry, bool is_top, int64_t size, struct jwrite *j)
{
    int64_t created_ns = 0;

    (void)time_parse_ns(text_of(entry, "created"), &created_ns); /* images may say nothing, or nonsense */
    jwrite_object(j, NULL);
    jwrite_string(j, "Id", is_top ? image->record->id : "<missing>");
    jwrite_int(j, "Created", created_ns / 1000000000);
    jwrite_string(j, "CreatedBy", text_of(entry, "created_by"));
    if (is_top && image->record->n_tags)
        show_names(j, "Tags", image->record->tags, image->record->n_tags);
    else
        jwrite_null(j, "Tags");
    jwrite_int(j, "Size", size);
    jwrite_string(j, "Comment", text_of(entry, "comment"));
    jwrite_end(j);
}

/* Entries tell whether they made a layer; layers are counted from the newest. An image without entries, or with
 * fewer than layers, shows its oldest layers without a word about them. */
int image_show_history(struct engine *en, const struct image *image, struct jwrite *j, struct err *e)
{
    AUTO_BUF
    struct buf text = {0};
    AUTO_JSON
    json_t *root = NULL;
    size_t layer = image->config->n_diff_ids;
    int rc = image_config_json(en->images, image->record->id, &text, e);

    if (rc == 0)
        rc = jread_parse(buf_bytes(&text), text.length, &root, e);
    if (rc < 0)
        return err_wrap(e, "the configuration of image %s", image->record->id);
    const json_t *history = json_object_get(root, "history");
    size_t count = json_array_size(history), shown = 0;
    jwrite_array(j, NULL);
    for (size_t i = count; i-- > 0;) { /* newest first */
        const json_t *entry = json_array_get(history, i);
        bool has_layer = layer > 0 && !json_is_true(json_object_get(entry, "empty_layer"));

        layer -= has_layer;
        show_entry(image, entry, shown++ == 0,
                   has_layer ? image_layer_size(en->images, image->config->diff_ids[layer]) : 0, j);
    }
    while (layer-- > 0)
        show_entry(image, NULL, shown++ == 0, image_layer_size(en->images, image->config->diff_ids[layer]), j);
    jwrite_end(j);
    return 0;
}
