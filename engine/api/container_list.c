/* See container_list.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/api/container_list.h"
#include "engine/api/container_show.h"
#include "engine/container/merge.h"
#include "proto/base/mem.h"

#define TASK_LABEL "com.docker.swarm.task.id" /* on the containers of services */

static const char *label_of(void *ctx, const char *name)
{
    const ContainerRecord *record = ctx;

    return key_value_get(record->config->labels, record->config->n_labels, name);
}

/* --- single filters ------------------------------------------------------------------------------ */

static bool take_port(const char **at, unsigned long *ret)
{
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    errno = 0;
    *ret = strtoul(*at, &end, 10);
    *at = end;
    return errno == 0 && *ret <= 65535;
}

/* "80", "80/tcp", "80-90/udp". */
static bool parse_ports(const char *text, unsigned long *ret_low, unsigned long *ret_high,
                        const char **ret_protocol)
{
    if (!take_port(&text, ret_low))
        return false;
    *ret_high = *ret_low;
    if (*text == '-') {
        text++;
        if (!take_port(&text, ret_high))
            return false;
    }
    *ret_protocol = *text ? text : "/tcp";
    return strcmp(*ret_protocol, "/tcp") == 0 || strcmp(*ret_protocol, "/udp") == 0 ||
           strcmp(*ret_protocol, "/sctp") == 0;
}

static bool port_matches(const char *wanted, const char *port)
{
    unsigned long low = 0, high = 0, number = 0, same = 0;
    const char *wanted_protocol = "", *protocol = "";

    return parse_ports(wanted, &low, &high, &wanted_protocol) && parse_ports(port, &number, &same, &protocol) &&
           number >= low && number <= high && strcmp(wanted_protocol, protocol) == 0;
}

static bool exposes(const struct selection *s, const ContainerRecord *record)
{
    const struct filter *f = filters_get(&s->f, "expose");

    for (size_t i = 0; f && i < f->count; i++)
        for (size_t k = 0; k < record->config->n_exposed_ports; k++)
            if (port_matches(f->values[i], record->config->exposed_ports[k]))
                return true;
    return !f;
}

static bool exited_with(const struct selection *s, const struct container *c)
{
    const struct filter *f = filters_get(&s->f, "exited");

    if (f && (container_is_running(c) || !c->record->state->finished_ns))
        return false;
    for (size_t i = 0; f && i < f->count; i++)
        if (strtol(f->values[i], NULL, 10) == c->record->state->exit_code)
            return true;
    return !f;
}

/* The image itself, or one that is made on top of its layers. */
static bool is_ancestor(struct engine *en, const char *ref, const ContainerRecord *record)
{
    struct image wanted, own;

    if (image_find(en->images, ref, &wanted, NULL) < 0)
        return strcmp(ref, record->config->image) == 0 || strcmp(ref, record->image_id) == 0;
    if (strcmp(wanted.record->id, record->image_id) == 0)
        return true;
    if (image_find(en->images, record->image_id, &own, NULL) < 0 || !wanted.config->n_diff_ids ||
        own.config->n_diff_ids <= wanted.config->n_diff_ids)
        return false;
    for (size_t i = 0; i < wanted.config->n_diff_ids; i++)
        if (strcmp(wanted.config->diff_ids[i], own.config->diff_ids[i]) != 0)
            return false;
    return true;
}

static bool has_ancestor(const struct selection *s, const ContainerRecord *record)
{
    const struct filter *f = filters_get(&s->f, "ancestor");

    for (size_t i = 0; f && i < f->count; i++)
        if (is_ancestor(s->en, f->values[i], record))
            return true;
    return !f;
}

static bool mounts(const ContainerRecord *record, const char *wanted)
{
    for (size_t i = 0; i < record->n_mounts; i++) {
        const MountPoint *p = record->mounts[i];

        if ((p->volume && strcmp(p->volume, wanted) == 0) || strcmp(p->target, wanted) == 0 ||
            (p->source && strcmp(p->source, wanted) == 0))
            return true;
    }
    return false;
}

static bool has_volume(const struct selection *s, const ContainerRecord *record)
{
    const struct filter *f = filters_get(&s->f, "volume");

    for (size_t i = 0; f && i < f->count; i++)
        if (mounts(record, f->values[i]))
            return true;
    return !f;
}

static bool has_network(const struct selection *s, const ContainerRecord *record)
{
    const char *mode = record->config->host->network_mode;
    char id[HEX_ID_TEXT + 1];

    if (!filters_get(&s->f, "network"))
        return true;
    for (size_t i = 0; i < record->n_endpoints; i++) {
        const struct network *n = network_by_id(s->en->networks, record->endpoints[i]->network_id);

        if (n &&
            (filters_exact(&s->f, "network", n->record->name) || filters_exact(&s->f, "network", n->record->id)))
            return true;
    }
    network_id(s->en, mode, id);
    return filters_exact(&s->f, "network", mode) || filters_exact(&s->f, "network", id);
}

/* Names are matched with and without their slash, as people write both. */
static bool has_name(const struct selection *s, const ContainerRecord *record)
{
    AUTO_FREE
    char *with_slash = NULL;

    if (!filters_get(&s->f, "name") || filters_like(&s->f, "name", record->name))
        return true;
    with_slash = mem_printf("/%s", record->name);
    return filters_like(&s->f, "name", with_slash);
}

static bool is_task(const struct selection *s, ContainerRecord *record)
{
    bool wanted = false;

    if (!filters_get(&s->f, "is-task"))
        return true;
    (void)filters_bool(&s->f, "is-task", &wanted, NULL); /* checked before */
    return wanted == (label_of(record, TASK_LABEL) != NULL);
}

bool selection_holds(const struct selection *s, const struct container *container)
{
    ContainerRecord *record = container->record;
    const struct filters *f = &s->f;

    if (!s->all && !container_is_running(container))
        return false;
    if ((s->before_ns && record->created_ns >= s->before_ns) || (s->since_ns && record->created_ns <= s->since_ns))
        return false;
    /* No health checks are run, no ports published: those two hold for nothing else. */
    return has_name(s, record) && filters_like(f, "id", record->id) &&
           filters_exact(f, "status", container_status_word(container)) &&
           filters_labels(f, "label", label_of, record) && exited_with(s, container) && exposes(s, record) &&
           has_ancestor(s, record) && has_volume(s, record) && has_network(s, record) && is_task(s, record) &&
           filters_exact(f, "health", "none") && filters_exact(f, "isolation", "default") &&
           !filters_get(f, "publish");
}

/* --- taking them --------------------------------------------------------------------------------- */

static int check_words(const struct filters *f, const char *key, const char *const *words, struct err *e)
{
    const struct filter *one = filters_get(f, key);

    for (size_t i = 0; one && i < one->count; i++) {
        const char *const *word = words;

        while (*word && strcmp(*word, one->values[i]) != 0)
            word++;
        if (!*word)
            return filter_invalid(key, one->values[i], e);
    }
    return 0;
}

static int check_numbers(const struct filters *f, struct err *e)
{
    const struct filter *exited = filters_get(f, "exited");
    static const char *const ports[] = {"expose", "publish"};

    for (size_t i = 0; exited && i < exited->count; i++) {
        char *end;

        if (!*exited->values[i] || (strtol(exited->values[i], &end, 10), *end))
            return filter_invalid("exited", exited->values[i], e);
    }
    for (size_t k = 0; k < ARRAY_SIZE(ports); k++) {
        const struct filter *port = filters_get(f, ports[k]);
        unsigned long low, high;
        const char *protocol;

        for (size_t i = 0; port && i < port->count; i++)
            if (!parse_ports(port->values[i], &low, &high, &protocol))
                return filter_invalid(ports[k], port->values[i], e);
    }
    return 0;
}

/* before and since name containers. */
static int take_neighbour(struct selection *s, const char *key, int64_t *ret_ns, struct err *e)
{
    const struct filter *f = filters_get(&s->f, key);
    struct container *c;

    for (size_t i = 0; f && i < f->count; i++) {
        int rc = container_find(s->en, f->values[i], &c, e);

        if (rc < 0)
            return rc;
        *ret_ns = c->record->created_ns;
        s->all = true;
    }
    return 0;
}

static int check(struct selection *s, struct err *e)
{
    static const char *const statuses[] = {"created", "restarting", "running", "removing",
                                           "paused",  "exited",     "dead",    NULL};
    static const char *const healths[] = {"starting", "healthy", "unhealthy", "none", NULL};
    static const char *const isolations[] = {"default", "process", "hyperv", NULL};
    bool task;
    int rc = check_words(&s->f, "status", statuses, e);

    if (rc == 0)
        rc = check_words(&s->f, "health", healths, e);
    if (rc == 0)
        rc = check_words(&s->f, "isolation", isolations, e);
    if (rc == 0)
        rc = check_numbers(&s->f, e);
    if (rc == 0)
        rc = filters_bool(&s->f, "is-task", &task, e);
    if (rc == 0)
        rc = take_neighbour(s, "before", &s->before_ns, e);
    if (rc == 0)
        rc = take_neighbour(s, "since", &s->since_ns, e);
    return rc;
}

bool selection_take(struct api_call *c, struct selection *ret)
{
    static const char *const known[] = {"ancestor", "before",    "exited", "expose", "health",  "id",
                                        "is-task",  "isolation", "label",  "name",   "network", "publish",
                                        "since",    "status",    "volume", NULL};
    struct err e = {0};

    *ret = (struct selection){.en = c->en};
    if (!api_filters(c, known, &ret->f))
        return false;
    if (check(ret, &e) < 0) {
        api_error(c, &e);
        return false;
    }
    if (http_query_bool(c->x, "all") || filters_get(&ret->f, "status") || filters_get(&ret->f, "exited"))
        ret->all = true;
    return true;
}
