/* See merge.h. The rules, as users know them:
 *
 * - An entry point that the user gives drops the image's command, unless a command is given too. The entry point
 * [""] means none at all. An empty list is no entry point either, but keeps the image's command.
 * - Environment, labels, exposed ports and volumes are united; the user's entry wins by name. "NAME" without "="
 *   removes a variable that the image or the defaults would have set.
 * - Directory, user, stop signal and shell are the image's when the user says nothing. The members of a health
 * check are inherited one by one. */
#include <stdbool.h>
#include <string.h>

#include "engine/container/merge.h"
#include "proto/base/mem.h"
#include "proto/base/path.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct strings { /* a growing array in the arena */
    char **items;
    size_t count;
};

static void strings_add(struct arena *a, struct strings *s, char *item)
{
    s->items = arena_append(a, s->items, s->count, sizeof(*s->items));
    s->items[s->count++] = item;
}

static void strings_add_all(struct arena *a, struct strings *s, char *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        strings_add(a, s, items[i]);
}

static bool is_empty(const char *text)
{
    return !text || !*text;
}

const char *key_value_get(KeyValue *const *list, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i]->key, key) == 0)
            return list[i]->value ? list[i]->value : "";
    return NULL;
}

/* Whether both are entries of one variable: "A=1" and "A=2" or "A". */
static bool same_variable(const char *one, const char *other)
{
    size_t length = strcspn(one, "=");

    return length == strcspn(other, "=") && memcmp(one, other, length) == 0;
}

static char **find_variable(const struct strings *s, const char *entry)
{
    for (size_t i = 0; i < s->count; i++)
        if (same_variable(s->items[i], entry))
            return &s->items[i];
    return NULL;
}

static void merge_env(struct arena *a, ContainerConfig *config, const ImageConfig *image)
{
    struct strings all = {0};

    strings_add_all(a, &all, config->env, config->n_env);
    for (size_t i = 0; i < image->n_env; i++)
        if (!find_variable(&all, image->env[i]))
            strings_add(a, &all, image->env[i]);
    config->env = all.items;
    config->n_env = all.count;
}

static void merge_set(struct arena *a, char ***set, size_t *count, char *const *more, size_t more_count)
{
    struct strings all = {0};

    strings_add_all(a, &all, *set, *count);
    for (size_t i = 0; i < more_count; i++) {
        bool there = false;

        for (size_t k = 0; k < all.count && !there; k++)
            there = strcmp(all.items[k], more[i]) == 0;
        if (!there)
            strings_add(a, &all, more[i]);
    }
    *set = all.items;
    *count = all.count;
}

static void merge_labels(struct arena *a, ContainerConfig *config, const ImageConfig *image)
{
    KeyValue **all = arena_array(a, config->n_labels + image->n_labels, sizeof(*all));
    size_t mine = 0, theirs = 0, count = 0;

    /* Two sorted lists into one; of equal keys the user's stays. */
    while (mine < config->n_labels || theirs < image->n_labels) {
        int order = mine == config->n_labels    ? 1
                    : theirs == image->n_labels ? -1
                                                : strcmp(config->labels[mine]->key, image->labels[theirs]->key);
        if (order <= 0)
            all[count++] = config->labels[mine++];
        else
            all[count++] = image->labels[theirs];
        theirs += order >= 0;
    }
    config->labels = all;
    config->n_labels = count;
}

static void merge_health(struct arena *a, ContainerConfig *config, HealthConfig *inherited)
{
    if (!inherited)
        return;
    if (!config->health) {
        config->health = inherited;
        return;
    }
    HealthConfig *own = arena_dup(a, config->health, sizeof(*own));
    if (!own->n_test) {
        own->test = inherited->test;
        own->n_test = inherited->n_test;
    }
#define INHERIT(member)                              \
    if (!own->member) {                              \
        own->has_##member = inherited->has_##member; \
        own->member = inherited->member;             \
    }
    INHERIT(interval_ns)
    INHERIT(timeout_ns)
    INHERIT(start_period_ns)
    INHERIT(start_interval_ns)
    INHERIT(retries)
#undef INHERIT
    config->health = own;
}

static void merge_command(ContainerConfig *config, const ImageConfig *image)
{
    if (!config->n_entrypoint && !config->n_command) {
        config->command = image->command;
        config->n_command = image->n_command;
    }
    if (!config->n_entrypoint && !config->entrypoint_set) {
        config->entrypoint = image->entrypoint;
        config->n_entrypoint = image->n_entrypoint;
    }
    if (config->n_entrypoint == 1 && !*config->entrypoint[0])
        config->n_entrypoint = 0;
}

static void process_env(struct arena *a, const ContainerConfig *config, const char *hostname, struct merged *m)
{
    struct strings env = {0};

    strings_add(a, &env, arena_strdup(a, DEFAULT_PATH));
    strings_add(a, &env, arena_printf(a, "HOSTNAME=%s", hostname));
    if (config->tty)
        strings_add(a, &env, arena_strdup(a, "TERM=xterm"));
    for (size_t i = 0; i < config->n_env; i++) {
        char **there = find_variable(&env, config->env[i]);
        bool removes = !strchr(config->env[i], '=');

        if (there && removes) {
            memmove(there, there + 1, (size_t)(env.items + env.count - (there + 1)) * sizeof(*there));
            env.count--;
        } else if (there) {
            *there = config->env[i];
        } else if (!removes) {
            strings_add(a, &env, config->env[i]);
        }
    }
    m->env = env.items;
    m->env_count = env.count;
}

int config_merge(const ContainerConfig *asked, const ImageConfig *image, const char *hostname, struct arena *a,
                 struct merged *ret, struct err *e)
{
    ContainerConfig *config = arena_dup(a, asked, sizeof(*config));
    struct strings argv = {0};

    merge_command(config, image);
    if (!config->n_entrypoint && !config->n_command)
        return err_set(e, ERR_INVALID, "no command specified: neither the image nor the request names one");
    merge_env(a, config, image);
    merge_labels(a, config, image);
    merge_set(a, &config->exposed_ports, &config->n_exposed_ports, image->exposed_ports, image->n_exposed_ports);
    merge_set(a, &config->volumes, &config->n_volumes, image->volumes, image->n_volumes);
    merge_health(a, config, image->health);
    if (is_empty(config->working_dir))
        config->working_dir = image->working_dir;
    if (is_empty(config->user))
        config->user = image->user;
    if (is_empty(config->stop_signal))
        config->stop_signal = image->stop_signal;
    if (!config->n_shell) {
        config->shell = image->shell;
        config->n_shell = image->n_shell;
    }
    if (!is_empty(config->working_dir)) {
        if (config->working_dir[0] != '/')
            return err_set(e, ERR_INVALID, "invalid WorkingDir: \"%s\" is not an absolute path",
                           config->working_dir);
        config->working_dir = path_clean(a, config->working_dir);
    }
    config->hostname = (char *)hostname;

    strings_add_all(a, &argv, config->entrypoint, config->n_entrypoint);
    strings_add_all(a, &argv, config->command, config->n_command);
    ret->config = config;
    ret->argv = argv.items;
    ret->argc = argv.count;
    process_env(a, config, hostname, ret);
    return 0;
}
