/* See spec.h. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/spec.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define LINES_FILE_MAX (1024 * 1024)

json_t *spec_pairs(const struct attach_pairs *pairs)
{
    json_t *object = json_object();

    for (size_t i = 0; i < pairs->count; i++)
        tree_put_text(object, pairs->list[i].key, pairs->list[i].value);
    return object;
}

json_t *spec_map(const struct args *args, const char *option)
{
    struct attach_pairs pairs = {0};
    AUTO_ARENA struct arena a;
    const char *text;

    arena_init(&a);
    for (size_t at = 0; (text = args_next(args, option, &at));)
        attach_pairs_add(&a, &pairs, text);
    return spec_pairs(&pairs);
}

json_t *spec_list(const struct args *args, const char *option)
{
    json_t *array = json_array();
    const char *text;

    for (size_t at = 0; (text = args_next(args, option, &at));)
        tree_append_text(array, text);
    return array;
}

void spec_put_map(json_t *object, const char *member, const struct args *args, const char *option)
{
    if (args_has(args, option))
        tree_put(object, member, spec_map(args, option));
}

void spec_put_list(json_t *object, const char *member, const struct args *args, const char *option)
{
    if (args_has(args, option))
        tree_put(object, member, spec_list(args, option));
}

static void put_text(json_t *object, const char *member, const char *text)
{
    if (*text)
        tree_put_text(object, member, text);
}

static void put_true(json_t *object, const char *member, bool value)
{
    if (value)
        tree_put_bool(object, member, true);
}

static json_t *mount_json(const struct attach_mount *m)
{
    json_t *mount = json_object();

    tree_put_text(mount, "Type", m->type);
    put_text(mount, "Source", m->source);
    tree_put_text(mount, "Target", m->target);
    put_true(mount, "ReadOnly", m->read_only);
    put_text(mount, "Consistency", m->consistency);
    if (m->has_bind) {
        json_t *bind = tree_object(mount, "BindOptions");

        put_text(bind, "Propagation", m->propagation);
        put_true(bind, "NonRecursive", m->non_recursive);
        put_true(bind, "ReadOnlyNonRecursive", m->read_only_non_recursive);
        put_true(bind, "ReadOnlyForceRecursive", m->read_only_force_recursive);
    }
    if (m->has_volume) {
        json_t *volume = tree_object(mount, "VolumeOptions"), *driver = tree_object(volume, "DriverConfig");

        put_true(volume, "NoCopy", m->no_copy);
        put_text(volume, "Subpath", m->volume_subpath);
        if (m->volume_labels.count)
            tree_put(volume, "Labels", spec_pairs(&m->volume_labels));
        put_text(driver, "Name", m->driver);
        if (m->driver_options.count)
            tree_put(driver, "Options", spec_pairs(&m->driver_options));
    }
    if (m->has_image)
        put_text(tree_object(mount, "ImageOptions"), "Subpath", m->image_subpath);
    if (m->has_tmpfs) {
        json_t *tmpfs = tree_object(mount, "TmpfsOptions");

        if (m->tmpfs_bytes)
            tree_put_int(tmpfs, "SizeBytes", m->tmpfs_bytes);
        if (m->tmpfs_mode)
            tree_put_int(tmpfs, "Mode", m->tmpfs_mode);
    }
    return mount;
}

int spec_mounts(const struct args *args, const char *option, json_t **ret, struct err *e)
{
    json_t *array = json_array();
    AUTO_ARENA struct arena a;
    AUTO_FREE
    char *directory = getcwd(NULL, 0);
    const char *text;
    int rc = 0;

    arena_init(&a);
    for (size_t at = 0; rc == 0 && (text = args_next(args, option, &at));) {
        struct attach_mount mount;

        rc = attach_mount(&a, text, directory ? directory : "/", &mount, e);
        if (rc == 0)
            tree_append(array, mount_json(&mount));
    }
    if (rc < 0)
        json_decref(array);
    else
        *ret = array;
    return rc;
}

json_t *spec_ulimits(const struct args *args, const char *option)
{
    json_t *array = json_array();
    const char *text;

    for (size_t at = 0; (text = args_next(args, option, &at));) {
        struct value_ulimit u;
        json_t *object = json_object();
        size_t i = 0;

        (void)value_ulimit(text, &u, NULL); /* checked when the options were parsed */
        tree_put_text(object, "Name", u.name);
        tree_put_int(object, "Hard", u.hard);
        tree_put_int(object, "Soft", u.soft);
        while (i < json_array_size(array) && strcmp(tree_text(json_array_get(array, i), "Name"), u.name) < 0)
            i++;
        if (i < json_array_size(array) && strcmp(tree_text(json_array_get(array, i), "Name"), u.name) == 0)
            json_array_remove(array, i);
        if (json_array_insert_new(array, i, object) < 0)
            abort(); /* out of memory */
    }
    return array;
}

int spec_health(const struct args *args, json_t **ret, struct err *e)
{
    static const struct {
        const char *option, *member;
    } times[] = {{"health-interval", "Interval"},
                 {"health-timeout", "Timeout"},
                 {"health-start-period", "StartPeriod"},
                 {"health-start-interval", "StartInterval"}};
    json_t *health = json_object();
    bool any = *args_text(args, "health-cmd") || args_int(args, "health-retries");

    if (*args_text(args, "health-cmd")) {
        json_t *test = tree_array(health, "Test");

        tree_append_text(test, "CMD-SHELL");
        tree_append_text(test, args_text(args, "health-cmd"));
    }
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        if (!args_has(args, times[i].option))
            continue;
        any = true;
        if (args_duration(args, times[i].option))
            tree_put_int(health, times[i].member, args_duration(args, times[i].option));
    }
    if (args_int(args, "health-retries") < 0) {
        json_decref(health);
        return err_set(e, ERR_INVALID, "--health-retries cannot be negative");
    }
    if (args_int(args, "health-retries"))
        tree_put_int(health, "Retries", args_int(args, "health-retries"));
    if (args_switch(args, "no-healthcheck")) {
        if (any) {
            json_decref(health);
            return err_set(e, ERR_INVALID, "--no-healthcheck conflicts with --health-* options");
        }
        tree_append_text(tree_array(health, "Test"), "NONE");
    } else if (!any) {
        json_decref(health);
        health = NULL;
    }
    *ret = health;
    return 0;
}

static int lines_of(const char *name, bool from_environment, json_t *array, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_ARENA struct arena a;
    const char **lines;
    size_t count;
    int rc = file_read(AT_FDCWD, name, LINES_FILE_MAX, &text, e);

    arena_init(&a);
    if (rc == 0)
        rc = value_env_lines(&a, name, buf_str(&text), text.length, from_environment ? environ : NULL, &lines,
                             &count, e);
    for (size_t i = 0; rc == 0 && i < count; i++)
        tree_append_text(array, lines[i]);
    return rc;
}

int spec_lines(const struct args *args, const char *files, const char *option, bool from_environment, json_t **ret,
               struct err *e)
{
    json_t *array = json_array();
    const char *text;
    int rc = 0;

    for (size_t at = 0; rc == 0 && (text = args_next(args, files, &at));)
        rc = lines_of(text, from_environment, array, e);
    for (size_t at = 0; rc == 0 && (text = args_next(args, option, &at));)
        tree_append_text(array, text);
    if (rc < 0)
        json_decref(array);
    else
        *ret = array;
    return rc;
}

json_t *spec_capabilities(const struct args *args, const char *option)
{
    json_t *array = json_array();
    AUTO_ARENA struct arena a;
    const char *text;

    arena_init(&a);
    for (size_t at = 0; (text = args_next(args, option, &at));) {
        const char *name = value_capability(&a, text);

        if (!spec_holds(array, name))
            tree_append_text(array, name);
    }
    spec_sort(array);
    return array;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

void spec_sort(json_t *array)
{
    size_t count = json_array_size(array);
    AUTO_FREE
    json_t **list = mem_array(count, sizeof(*list));

    for (size_t i = 0; i < count; i++) {
        list[i] = json_incref(json_array_get(array, i));
        if (!json_is_string(list[i])) /* not ours to order */
            count = i + 1;
    }
    if (count == json_array_size(array))
        qsort(list, count, sizeof(*list), by_text);
    for (size_t i = 0; i < count; i++)
        (void)json_array_set_new(array, i, list[i]); /* the place exists */
}

bool spec_holds(const json_t *array, const char *text)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *element = json_string_value(json_array_get(array, i));

        if (element && strcmp(element, text) == 0)
            return true;
    }
    return false;
}
