/* The container's part of `shoal service update`: environment, mounts, limits, capabilities, hosts, health. See
 * service_edit.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/service.h"
#include "cli/service_edit.h"
#include "cli/spec.h"
#include "proto/base/mem.h"

/* --- environment ------------------------------------------------------------------------------------------------
 */

static bool same_variable(const char *a, const char *b)
{
    size_t length = strcspn(b, "=");

    return strcspn(a, "=") == length && strncmp(a, b, length) == 0;
}

/* Variables keep their places; a new value goes where the old one stood. */
static void update_environment(json_t *container, const struct args *args)
{
    json_t *env;
    const char *text;

    if (!args_has(args, "env-add") && !args_has(args, "env-rm"))
        return;
    env = tree_array(container, "Env");
    for (size_t i = json_array_size(env); i-- > 0;) {
        const char *old = json_string_value(json_array_get(env, i));

        for (size_t at = 0; old && (text = args_next(args, "env-rm", &at));) {
            if (same_variable(old, text)) {
                json_array_remove(env, i);
                break;
            }
        }
    }
    for (size_t at = 0; (text = args_next(args, "env-add", &at));) {
        size_t i = 0;

        for (; i < json_array_size(env); i++) {
            const char *old = json_string_value(json_array_get(env, i));

            if (old && same_variable(old, text))
                break;
        }
        if (i < json_array_size(env))
            (void)json_array_set_new(env, i, json_stringn_nocheck(text, strlen(text))); /* the place exists */
        else
            tree_append_text(env, text);
    }
}

/* --- mounts -----------------------------------------------------------------------------------------------------
 */

static int by_source(const void *a, const void *b)
{
    int order = strcmp(tree_text(*(json_t *const *)a, "Source"), tree_text(*(json_t *const *)b, "Source"));

    return order ? order
                 : strcmp(tree_text(*(json_t *const *)a, "Target"), tree_text(*(json_t *const *)b, "Target"));
}

static void sort_mounts(json_t *mounts)
{
    size_t count = json_array_size(mounts);
    AUTO_FREE
    json_t **list = mem_array(count, sizeof(*list));

    for (size_t i = 0; i < count; i++)
        list[i] = json_incref(json_array_get(mounts, i));
    qsort(list, count, sizeof(*list), by_source);
    for (size_t i = 0; i < count; i++)
        (void)json_array_set_new(mounts, i, list[i]); /* the place exists */
}

static json_t *with_target(const json_t *mounts, const char *target)
{
    for (size_t i = 0; i < json_array_size(mounts); i++)
        if (strcmp(tree_text(json_array_get(mounts, i), "Target"), target) == 0)
            return json_array_get(mounts, i);
    return NULL;
}

static int update_mounts(json_t *container, const struct args *args, struct err *e)
{
    json_t *added = NULL, *old, *kept, *mount;
    size_t i;

    if (!args_has(args, "mount-add") && !args_has(args, "mount-rm"))
        return 0;
    int rc = spec_mounts(args, "mount-add", &added, e);
    if (rc < 0)
        return rc;
    kept = json_array();
    json_array_foreach(added, i, mount)
    {
        if (with_target(kept, tree_text(mount, "Target")))
            rc = err_set(e, ERR_INVALID, "duplicate mount target");
        if (!edit_names(args, "mount-rm", tree_text(mount, "Target")))
            tree_append(kept, json_incref(mount));
    }
    old = tree_array(container, "Mounts");
    json_array_foreach(old, i, mount)
    {
        const char *target = tree_text(mount, "Target");

        if (!with_target(added, target) && !edit_names(args, "mount-rm", target))
            tree_append(kept, json_incref(mount));
    }
    sort_mounts(kept);
    tree_put(container, "Mounts", kept);
    json_decref(added);
    return rc;
}

/* --- ulimits, capabilities, hosts -------------------------------------------------------------------------------
 */

static bool drop_ulimit(const json_t *element, void *context)
{
    const struct args *args = context;
    AUTO_JSON json_t *added = spec_ulimits(args, "ulimit-add");
    const char *name = tree_text(element, "Name"), *text;

    for (size_t at = 0; (text = args_next(args, "ulimit-rm", &at));)
        if (strlen(name) == strcspn(text, "=") && strncmp(name, text, strlen(name)) == 0)
            return true;
    for (size_t i = 0; i < json_array_size(added); i++)
        if (strcmp(tree_text(json_array_get(added, i), "Name"), name) == 0)
            return true;
    return false;
}

static void update_ulimits(json_t *container, const struct args *args)
{
    AUTO_JSON json_t *added = spec_ulimits(args, "ulimit-add");
    json_t *list, *limit;
    size_t i, k;

    if (!args_has(args, "ulimit-add") && !args_has(args, "ulimit-rm"))
        return;
    list = tree_array(container, "Ulimits");
    edit_filter(list, drop_ulimit, (void *)args);
    json_array_foreach(added, i, limit)
    {
        for (k = 0; k < json_array_size(list); k++)
            if (strcmp(tree_text(json_array_get(list, k), "Name"), tree_text(limit, "Name")) > 0)
                break;
        if (json_array_insert(list, k, limit) < 0)
            abort(); /* out of memory */
    }
}

static bool take_out(json_t *array, const char *text)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *element = json_string_value(json_array_get(array, i));

        if (element && strcmp(element, text) == 0) {
            json_array_remove(array, i);
            return true;
        }
    }
    return false;
}

/* Move each capability one step: what was dropped and is added now is neither, and so is what was added and is
 * dropped now; from neither it becomes added or dropped. RESET forgets a list first, ALL makes it one name. */
static void move_capabilities(const json_t *wanted, const json_t *not_if_in, json_t *into, json_t *out_of)
{
    json_t *name;
    size_t i;

    if (spec_holds(wanted, "RESET"))
        json_array_clear(into);
    json_array_foreach(wanted, i, name)
    {
        const char *text = json_string_value(name);

        if (strcmp(text, "RESET") == 0 || (not_if_in && spec_holds(not_if_in, text)))
            continue;
        if (!take_out(out_of, text) && !spec_holds(into, text))
            tree_append_text(into, text);
    }
}

static void put_capabilities(json_t *container, const char *member, json_t *list)
{
    if (spec_holds(list, "ALL")) {
        json_array_clear(list);
        tree_append_text(list, "ALL");
    }
    spec_sort(list);
    if (json_array_size(list))
        tree_put(container, member, json_incref(list));
    else
        (void)json_object_del(container, member); /* may not have been there */
}

static void update_capabilities(json_t *container, const struct args *args)
{
    AUTO_JSON json_t *to_add = spec_capabilities(args, "cap-add");
    AUTO_JSON json_t *to_drop = spec_capabilities(args, "cap-drop");
    AUTO_JSON json_t *added = NULL;
    AUTO_JSON json_t *dropped = NULL;

    if (!args_has(args, "cap-add") && !args_has(args, "cap-drop"))
        return;
    added = json_copy(tree_array(container, "CapabilityAdd"));
    dropped = json_copy(tree_array(container, "CapabilityDrop"));
    move_capabilities(to_drop, to_add, dropped, added);
    move_capabilities(to_add, NULL, added, dropped);
    put_capabilities(container, "CapabilityAdd", added);
    put_capabilities(container, "CapabilityDrop", dropped);
}

/* The line "address name name..." without the names that --host-rm ("name" or "name:address") takes; NULL when none
 * is left. Free it. */
static char *host_line(const char *line, const struct args *args)
{
    AUTO_FREE
    char *copy = mem_strdup(line);
    char *rest = NULL;
    const char *address = strtok_r(copy, " \t", &rest), *name, *text;
    AUTO_BUF struct buf kept = {0};

    while (address && (name = strtok_r(NULL, " \t", &rest))) {
        bool gone = false;

        for (size_t at = 0; (text = args_next(args, "host-rm", &at));) {
            size_t length = strcspn(text, ":");

            gone = gone || (strlen(name) == length && strncmp(name, text, length) == 0 &&
                            (!text[length] || !text[length + 1] || strcmp(text + length + 1, address) == 0));
        }
        if (!gone)
            buf_printf(&kept, " %s", name);
    }
    return kept.length ? mem_printf("%s%s", address, buf_str(&kept)) : NULL;
}

static void update_hosts(json_t *container, const struct args *args)
{
    json_t *old, *kept, *line;
    const char *text;
    size_t i;

    if (!args_has(args, "host-add") && !args_has(args, "host-rm"))
        return;
    old = tree_array(container, "Hosts");
    kept = json_array();
    json_array_foreach(old, i, line)
    {
        AUTO_FREE
        char *shorter = json_is_string(line) ? host_line(json_string_value(line), args) : NULL;

        if (shorter && !spec_holds(kept, shorter))
            tree_append_text(kept, shorter);
    }
    for (size_t at = 0; (text = args_next(args, "host-add", &at));) {
        line = service_host(text);
        if (spec_holds(kept, json_string_value(line)))
            json_decref(line);
        else
            tree_append(kept, line);
    }
    tree_put(container, "Hosts", kept);
}

/* --- the container ----------------------------------------------------------------------------------------------
 */

static int update_health(json_t *container, const struct args *args, struct err *e)
{
    static const char *const settings[] = {"health-cmd",
                                           "health-interval",
                                           "health-retries",
                                           "health-timeout",
                                           "health-start-period",
                                           "health-start-interval",
                                           NULL};
    json_t *wanted = NULL, *health;

    if (!edit_asks(args, settings) && !args_switch(args, "no-healthcheck"))
        return 0;
    int rc = spec_health(args, &wanted, e);
    if (rc < 0)
        return rc;
    if (args_switch(args, "no-healthcheck")) {
        tree_put(container, "Healthcheck", wanted);
        return 0;
    }
    health = tree_object(container, "Healthcheck");
    if (spec_holds(tree_get(health, "Test"), "NONE") || args_has(args, "health-cmd"))
        (void)json_object_del(health, "Test"); /* may not have been there */
    if (wanted)
        (void)json_object_update(health, wanted); /* both are objects */
    json_decref(wanted);
    return 0;
}

static void update_texts_of(json_t *container, const struct args *args)
{
    static const struct {
        const char *option, *member;
    } texts[] = {{"image", "Image"},       {"workdir", "Dir"},         {"user", "User"},
                 {"hostname", "Hostname"}, {"isolation", "Isolation"}, {"stop-signal", "StopSignal"}},
      switches[] = {{"init", "Init"}, {"tty", "TTY"}, {"read-only", "ReadOnly"}},
      words[] = {{"args", "Args"}, {"entrypoint", "Command"}};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (args_has(args, texts[i].option))
            tree_put_text(container, texts[i].member, args_text(args, texts[i].option));
    for (size_t i = 0; i < ARRAY_SIZE(switches); i++)
        if (args_has(args, switches[i].option))
            tree_put_bool(container, switches[i].member, args_switch(args, switches[i].option));
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (args_has(args, words[i].option))
            tree_put(container, words[i].member, service_words(args, words[i].option));
    if (args_has(args, "oom-score-adj"))
        tree_put_int(container, "OomScoreAdj", args_int(args, "oom-score-adj"));
    if (args_has(args, "stop-grace-period"))
        tree_put_int(container, "StopGracePeriod", args_duration(args, "stop-grace-period"));
}

int edit_container(json_t *container, const struct args *args, struct err *e)
{
    static const char *const dns[] = {
        "dns-add", "dns-rm", "dns-option-add", "dns-option-rm", "dns-search-add", "dns-search-rm", NULL};
    int rc;

    update_texts_of(container, args);
    edit_map(container, "Labels", args, "container-label-rm", "container-label-add");
    update_environment(container, args);
    rc = update_mounts(container, args, e);
    if (rc < 0)
        return rc;
    edit_map(container, "Sysctls", args, "sysctl-rm", "sysctl-add");
    update_ulimits(container, args);
    edit_texts(container, "Groups", args, "group-add", "group-rm");
    if (edit_asks(args, dns)) {
        json_t *config = tree_object(container, "DNSConfig");

        edit_texts(config, "Nameservers", args, "dns-add", "dns-rm");
        edit_texts(config, "Options", args, "dns-option-add", "dns-option-rm");
        edit_texts(config, "Search", args, "dns-search-add", "dns-search-rm");
    }
    update_hosts(container, args);
    update_capabilities(container, args);
    return update_health(container, args, e);
}
