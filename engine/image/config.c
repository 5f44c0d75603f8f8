/* Configs of images (config.h): Docker's image JSON and OCI's, which share their fields.
 *
 * Only what a container inherits is read into ImageConfig; the JSON itself stays in the store as the blob that
 * names the image, for inspect and history. Maps become sorted lists, as everywhere in our messages. */
#include <string.h>
#include <sys/param.h>

#include "engine/image/config.h"
#include "engine/image/manifest.h"
#include "proto/base/hash.h"
#include "proto/base/jread.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

/* --- reading ------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The keys of an object, sorted: exposed ports and volumes are sets written as maps. */
static int read_set(const json_t *object, const char *path, const char *key, struct arena *a, char ***ret,
                    size_t *ret_count, struct err *e)
{
    json_t *set = NULL, *value;
    const char *name;
    size_t count = 0;
    int rc = jread_object(object, path, key, &set, e);

    if (rc < 0 || !set)
        return rc;
    char **names = arena_array(a, json_object_size(set), sizeof(*names));
    json_object_foreach(set, name, value)
    {
        names[count++] = arena_strdup(a, name);
    }
    qsort(names, count, sizeof(*names), by_text);
    *ret = names;
    *ret_count = count;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(KeyValue *const *)a)->key, (*(KeyValue *const *)b)->key);
}

static int read_labels(const json_t *object, struct arena *a, ImageConfig *c, struct err *e)
{
    json_t *labels = NULL, *value;
    const char *name;
    int rc = jread_object(object, "config", "Labels", &labels, e);

    if (rc < 0 || !labels)
        return rc;
    c->labels = arena_array(a, json_object_size(labels), sizeof(*c->labels));
    json_object_foreach(labels, name, value)
    {
        KeyValue *label = ARENA_NEW(a, KeyValue);

        if (!json_is_string(value))
            return err_set(e, ERR_INVALID, "invalid config.Labels: \"%.100s\" is no text", name);
        key_value__init(label);
        label->key = arena_strdup(a, name);
        label->value = arena_strdup(a, json_string_value(value));
        c->labels[c->n_labels++] = label;
    }
    qsort(c->labels, c->n_labels, sizeof(*c->labels), by_key);
    return 0;
}

/* A command: a list, or in very old images one word. */
static int read_command(const json_t *object, const char *key, struct arena *a, char ***ret, size_t *ret_count,
                        struct err *e)
{
    const json_t *value = jread_get(object, key);

    if (!json_is_string(value))
        return jread_strings(object, "config", key, a, ret, ret_count, e);
    *ret = arena_array(a, 1, sizeof(**ret));
    (*ret)[0] = arena_strdup(a, json_string_value(value));
    *ret_count = 1;
    return 0;
}

static int read_health(const json_t *object, struct arena *a, ImageConfig *c, struct err *e)
{
    json_t *health = NULL;
    uint64_t retries = 0;
    int rc = jread_object(object, "config", "Healthcheck", &health, e);

    if (rc < 0 || !health)
        return rc;
    HealthConfig *h = ARENA_NEW(a, HealthConfig);
    health_config__init(h);
    const struct {
        const char *key;
        int64_t *value;
        protobuf_c_boolean *has;
    } times[] = {
        {"Interval", &h->interval_ns, &h->has_interval_ns},
        {"Timeout", &h->timeout_ns, &h->has_timeout_ns},
        {"StartPeriod", &h->start_period_ns, &h->has_start_period_ns},
        {"StartInterval", &h->start_interval_ns, &h->has_start_interval_ns},
    };
    rc = jread_strings(health, "config.Healthcheck", "Test", a, &h->test, &h->n_test, e);
    for (size_t i = 0; i < ARRAY_SIZE(times) && rc == 0; i++) {
        rc = jread_int(health, "config.Healthcheck", times[i].key, times[i].value, e);
        *times[i].has = *times[i].value != 0;
    }
    if (rc == 0)
        rc = jread_uint(health, "config.Healthcheck", "Retries", &retries, e);
    if (rc < 0)
        return rc;
    h->retries = (uint32_t)MIN(retries, (uint64_t)UINT32_MAX);
    h->has_retries = retries != 0;
    c->health = h;
    return 0;
}

static int read_inherited(const json_t *root, struct arena *a, ImageConfig *c, struct err *e)
{
    json_t *config = NULL;
    int rc = jread_object(root, NULL, "config", &config, e);
    const struct {
        const char *key;
        char **value;
    } words[] = {{"User", &c->user}, {"WorkingDir", &c->working_dir}, {"StopSignal", &c->stop_signal}};
    const struct {
        const char *key;
        char ***list;
        size_t *count;
    } lists[] = {
        {"Env", &c->env, &c->n_env}, {"Shell", &c->shell, &c->n_shell}, {"OnBuild", &c->on_build, &c->n_on_build}};

    if (rc < 0 || !config)
        return rc;
    for (size_t i = 0; i < ARRAY_SIZE(words) && rc == 0; i++)
        rc = jread_string(config, "config", words[i].key, a, words[i].value, e);
    for (size_t i = 0; i < ARRAY_SIZE(lists) && rc == 0; i++)
        rc = jread_strings(config, "config", lists[i].key, a, lists[i].list, lists[i].count, e);
    if (rc == 0)
        rc = read_command(config, "Entrypoint", a, &c->entrypoint, &c->n_entrypoint, e);
    if (rc == 0)
        rc = read_command(config, "Cmd", a, &c->command, &c->n_command, e);
    if (rc == 0)
        rc = read_set(config, "config", "ExposedPorts", a, &c->exposed_ports, &c->n_exposed_ports, e);
    if (rc == 0)
        rc = read_set(config, "config", "Volumes", a, &c->volumes, &c->n_volumes, e);
    if (rc == 0)
        rc = read_labels(config, a, c, e);
    return rc < 0 ? rc : read_health(config, a, c, e);
}

static int read_layers(const json_t *root, struct arena *a, ImageConfig *c, struct err *e)
{
    json_t *rootfs = NULL;
    char *type = NULL;
    int rc = jread_object(root, NULL, "rootfs", &rootfs, e);

    if (rc == 0)
        rc = jread_string(rootfs, "rootfs", "type", a, &type, e);
    if (rc == 0)
        rc = jread_strings(rootfs, "rootfs", "diff_ids", a, &c->diff_ids, &c->n_diff_ids, e);
    if (rc < 0)
        return rc;
    if (type && strcmp(type, "layers") != 0)
        return err_set(e, ERR_UNSUPPORTED, "rootfs.type \"%.64s\" is not supported", type);
    if (c->n_diff_ids > MANIFEST_LAYERS_MAX)
        return err_set(e, ERR_LIMIT, "rootfs.diff_ids: %zu layers are more than the %d allowed", c->n_diff_ids,
                       MANIFEST_LAYERS_MAX);
    for (size_t i = 0; i < c->n_diff_ids; i++)
        if (!digest_valid(c->diff_ids[i]))
            return err_set(e, ERR_INVALID, "rootfs.diff_ids[%zu] \"%.100s\" is no SHA-256 digest", i,
                           c->diff_ids[i]);
    return 0;
}

static int read_config(const json_t *root, struct arena *a, ImageConfig *c, struct err *e)
{
    char *created = NULL;
    const struct {
        const char *key;
        char **value;
    } words[] = {{"architecture", &c->architecture}, {"os", &c->os},
                 {"variant", &c->variant},           {"author", &c->author},
                 {"comment", &c->comment},           {"created", &created}};
    int rc = 0;

    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "no JSON object");
    for (size_t i = 0; i < ARRAY_SIZE(words) && rc == 0; i++)
        rc = jread_string(root, NULL, words[i].key, a, words[i].value, e);
    if (rc == 0)
        rc = read_inherited(root, a, c, e);
    if (rc == 0)
        rc = read_layers(root, a, c, e);
    if (rc < 0)
        return rc;
    if (created && *created && !time_parse_ns(created, &c->created_ns))
        return err_set(e, ERR_INVALID, "created \"%.64s\" is no time", created);
    c->has_created_ns = c->created_ns != 0;
    if (c->os && *c->os && strcmp(c->os, "linux") != 0)
        return err_set(e, ERR_UNSUPPORTED, "image operating system \"%.64s\" cannot be used on this platform",
                       c->os);
    return 0;
}

int image_config_parse(const char *json, size_t length, struct arena *a, ImageConfig **ret, struct err *e)
{
    AUTO_JSON
    json_t *root = NULL;
    ImageConfig *c = ARENA_NEW(a, ImageConfig);

    image_config__init(c);
    if (length > MANIFEST_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "image config: %zu bytes are more than the %zu allowed", length,
                       MANIFEST_BYTES_MAX);
    int rc = jread_parse(json, length, &root, e);
    if (rc == 0)
        rc = read_config(root, a, c, e);
    if (rc < 0)
        return err_wrap(e, "image config");
    *ret = c;
    return 0;
}

/* --- writing ------------------------------------------------------------------------------------- */

static void write_word(struct jwrite *j, const char *key, const char *value)
{
    if (value && *value)
        jwrite_string(j, key, value);
}

static void write_list(struct jwrite *j, const char *key, char *const *list, size_t count)
{
    if (count == 0)
        return;
    jwrite_array(j, key);
    for (size_t i = 0; i < count; i++)
        jwrite_string(j, NULL, list[i]);
    jwrite_end(j);
}

static void write_set(struct jwrite *j, const char *key, char *const *list, size_t count)
{
    if (count == 0)
        return;
    jwrite_object(j, key);
    for (size_t i = 0; i < count; i++) {
        jwrite_object(j, list[i]);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void write_health(struct jwrite *j, const HealthConfig *h)
{
    if (!h)
        return;
    jwrite_object(j, "Healthcheck");
    write_list(j, "Test", h->test, h->n_test);
    const struct {
        const char *key;
        int64_t value;
    } times[] = {{"Interval", h->interval_ns},
                 {"Timeout", h->timeout_ns},
                 {"StartPeriod", h->start_period_ns},
                 {"StartInterval", h->start_interval_ns},
                 {"Retries", h->retries}};
    for (size_t i = 0; i < ARRAY_SIZE(times); i++)
        if (times[i].value)
            jwrite_int(j, times[i].key, times[i].value);
    jwrite_end(j);
}

static void write_inherited(struct jwrite *j, const ImageConfig *c)
{
    jwrite_object(j, "config");
    write_word(j, "User", c->user);
    write_set(j, "ExposedPorts", c->exposed_ports, c->n_exposed_ports);
    write_list(j, "Env", c->env, c->n_env);
    write_list(j, "Entrypoint", c->entrypoint, c->n_entrypoint);
    write_list(j, "Cmd", c->command, c->n_command);
    write_health(j, c->health);
    write_set(j, "Volumes", c->volumes, c->n_volumes);
    write_word(j, "WorkingDir", c->working_dir);
    write_list(j, "OnBuild", c->on_build, c->n_on_build);
    if (c->n_labels) {
        jwrite_object(j, "Labels");
        for (size_t i = 0; i < c->n_labels; i++)
            jwrite_string(j, c->labels[i]->key, c->labels[i]->value);
        jwrite_end(j);
    }
    write_word(j, "StopSignal", c->stop_signal);
    write_list(j, "Shell", c->shell, c->n_shell);
    jwrite_end(j);
}

void image_config_write(const ImageConfig *c, const char *created_by, struct buf *out)
{
    struct jwrite j = JWRITE_TO(out);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "architecture", c->architecture);
    write_word(&j, "variant", c->variant);
    write_word(&j, "author", c->author);
    write_word(&j, "comment", c->comment);
    write_inherited(&j, c);
    jwrite_time_ns(&j, "created", c->created_ns);
    jwrite_array(&j, "history");
    jwrite_object(&j, NULL);
    jwrite_time_ns(&j, "created", c->created_ns);
    write_word(&j, "created_by", created_by);
    write_word(&j, "comment", c->comment);
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_string(&j, "os", c->os);
    jwrite_object(&j, "rootfs");
    jwrite_string(&j, "type", "layers");
    jwrite_array(&j, "diff_ids");
    for (size_t i = 0; i < c->n_diff_ids; i++)
        jwrite_string(&j, NULL, c->diff_ids[i]);
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_end(&j);
}
