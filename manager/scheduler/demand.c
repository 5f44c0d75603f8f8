/* See demand.h. One pass measures, one fills, over the same parts of a spec; arrays come first, texts behind them.
 */
#include <assert.h>
#include <string.h>

#include "manager/scheduler/demand.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

struct area { /* where demand_fill puts things */
    char *arrays, *texts;
};

static const Placement *placement_of(const ServiceSpec *spec)
{
    return spec->task ? spec->task->placement : NULL;
}

static const Resources *reserved_by(const ServiceSpec *spec)
{
    return spec->task ? spec->task->reservations : NULL;
}

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 1;
}

const char *demand_architecture(const char *name)
{
    static const char *const alias[][2] = {{"amd64", "x86_64"}, {"arm64", "aarch64"}};

    for (size_t i = 0; i < ARRAY_SIZE(alias); i++)
        if (strcmp(name, alias[i][0]) == 0)
            return alias[i][1];
    return name;
}

/* Whether the spec asks for a volume driver, and which. */
static const char *volume_driver(const Mount *m)
{
    bool asks = m->type == MOUNT_TYPE__VOLUME && m->volume_driver && *m->volume_driver;

    return asks && strcmp(m->volume_driver, "local") != 0 ? m->volume_driver : NULL;
}

static const char *log_driver(const ServiceSpec *spec)
{
    const LogDriver *d = spec->task ? spec->task->log_driver : NULL;

    return d && d->name && *d->name && strcmp(d->name, "none") != 0 ? d->name : NULL;
}

static size_t mount_count(const ServiceSpec *spec)
{
    return spec->task && spec->task->container ? spec->task->container->n_mounts : 0;
}

static size_t port_count(const ServiceSpec *spec)
{
    return spec->endpoint ? spec->endpoint->n_ports : 0;
}

size_t demand_bytes(const ServiceSpec *spec)
{
    const Placement *p = placement_of(spec);
    const Resources *r = reserved_by(spec);
    size_t bytes = 64; /* alignment of each array */

    for (size_t i = 0; p && i < p->n_constraints; i++)
        bytes += sizeof(struct constraint) + constraint_bytes(p->constraints[i]);
    for (size_t i = 0; p && i < p->n_platforms; i++)
        bytes += sizeof(struct demand_platform) + text_bytes(p->platforms[i]->os) +
                 text_bytes(p->platforms[i]->architecture) + sizeof("aarch64");
    for (size_t i = 0; p && i < p->n_spread_descriptors; i++)
        bytes += sizeof(struct demand_preference) + text_bytes(p->spread_descriptors[i]);
    for (size_t i = 0; r && i < r->n_generic; i++)
        bytes += sizeof(struct demand_generic) + text_bytes(r->generic[i]->kind);
    for (size_t i = 0; i < mount_count(spec); i++)
        bytes += sizeof(struct demand_plugin) + text_bytes(volume_driver(spec->task->container->mounts[i]));
    bytes += sizeof(struct demand_plugin) + text_bytes(log_driver(spec));
    return bytes + port_count(spec) * sizeof(uint32_t);
}

static void *take_array(struct area *a, size_t count, size_t size)
{
    void *array = a->arrays;

    a->arrays += (count * size + 7) & ~(size_t)7;
    return array;
}

static const char *take_text(struct area *a, const char *text)
{
    char *copy = a->texts;
    size_t bytes = text_bytes(text);

    memcpy(copy, text ? text : "", bytes);
    a->texts += bytes;
    return copy;
}

static void fill_constraints(const Placement *p, struct area *a, struct constraint *ret)
{
    for (size_t i = 0; i < p->n_constraints; i++) {
        if (constraint_parse(p->constraints[i], a->texts, &ret[i], NULL) < 0)
            ret[i] = (struct constraint){.key = CONSTRAINT_UNKNOWN, .label = "", .value = ""};
        a->texts += constraint_bytes(p->constraints[i]);
    }
}

static void fill_placement(const Placement *p, struct area *a, struct demand *d)
{
    struct constraint *constraints = take_array(a, p->n_constraints, sizeof(*constraints));
    struct demand_platform *platforms = take_array(a, p->n_platforms, sizeof(*platforms));
    struct demand_preference *preferences = take_array(a, p->n_spread_descriptors, sizeof(*preferences));

    fill_constraints(p, a, constraints);
    for (size_t i = 0; i < p->n_platforms; i++) {
        const Platform *from = p->platforms[i];

        platforms[i].os = take_text(a, from->os);
        platforms[i].architecture =
            take_text(a, from->architecture ? demand_architecture(from->architecture) : NULL);
    }
    for (size_t i = 0; i < p->n_spread_descriptors; i++) {
        struct demand_preference *to = &preferences[d->preference_count];

        d->preference_count += constraint_descriptor(take_text(a, p->spread_descriptors[i]), &to->key, &to->label);
    }
    d->constraints = constraints;
    d->constraint_count = (uint32_t)p->n_constraints;
    d->platforms = platforms;
    d->platform_count = (uint32_t)p->n_platforms;
    d->preferences = preferences;
    d->max_replicas = p->max_replicas;
}

static void add_generic(struct demand_generic *all, uint32_t *count, const GenericResource *one, struct area *a)
{
    int64_t amount = one->named ? 1 : one->discrete;

    for (uint32_t i = 0; i < *count; i++)
        if (strcmp(all[i].kind, one->kind) == 0) {
            all[i].amount += amount;
            return;
        }
    all[(*count)++] = (struct demand_generic){.kind = take_text(a, one->kind), .amount = amount};
}

static void fill_resources(const Resources *r, struct area *a, struct demand *d)
{
    struct demand_generic *generic = take_array(a, r->n_generic, sizeof(*generic));

    d->nano_cpus = r->nano_cpus;
    d->memory_bytes = r->memory_bytes;
    for (size_t i = 0; i < r->n_generic; i++)
        add_generic(generic, &d->generic_count, r->generic[i], a);
    d->generic = generic;
}

static void fill_plugins(const ServiceSpec *spec, struct area *a, struct demand *d)
{
    struct demand_plugin *plugins = take_array(a, mount_count(spec) + 1, sizeof(*plugins));

    for (size_t i = 0; i < mount_count(spec); i++) {
        const char *driver = volume_driver(spec->task->container->mounts[i]);

        if (driver)
            plugins[d->plugin_count++] = (struct demand_plugin){.type = "Volume", .name = take_text(a, driver)};
    }
    if (log_driver(spec))
        plugins[d->plugin_count++] = (struct demand_plugin){.type = "Log", .name = take_text(a, log_driver(spec))};
    d->plugins = plugins;
}

static void fill_ports(const ServiceSpec *spec, struct area *a, struct demand *d)
{
    uint32_t *ports = take_array(a, port_count(spec), sizeof(*ports));

    for (size_t i = 0; i < port_count(spec); i++) {
        const PortConfig *p = spec->endpoint->ports[i];

        if (p->mode == PUBLISH_MODE__HOST && p->published_port)
            ports[d->host_port_count++] = (uint32_t)p->protocol << 16 | (p->published_port & 0xffff);
    }
    d->host_ports = ports;
}

/* Digest what was parsed, by its meaning: each part with its length. */
struct mixer {
    uint64_t a, b;
};

static void mix(struct mixer *m, const void *data, size_t size)
{
    m->a = siphash(m->a, 1, data, size);
    m->b = siphash(m->b, 2, data, size);
}

static void mix_text(struct mixer *m, const char *text)
{
    mix(m, text, strlen(text));
}

static void mix_number(struct mixer *m, uint64_t number)
{
    mix(m, &number, sizeof(number));
}

static void digest(struct demand *d)
{
    struct mixer m = {0};

    mix_number(&m, d->constraint_count);
    for (uint32_t i = 0; i < d->constraint_count; i++) {
        mix_number(&m, (uint64_t)d->constraints[i].key << 1 | d->constraints[i].equal);
        mix_text(&m, d->constraints[i].label);
        mix_text(&m, d->constraints[i].value);
    }
    mix_number(&m, d->platform_count);
    for (uint32_t i = 0; i < d->platform_count; i++) {
        mix_text(&m, d->platforms[i].os);
        mix_text(&m, d->platforms[i].architecture);
    }
    mix_number(&m, d->plugin_count);
    for (uint32_t i = 0; i < d->plugin_count; i++) {
        mix_text(&m, d->plugins[i].type);
        mix_text(&m, d->plugins[i].name);
    }
    mix_number(&m, d->preference_count);
    for (uint32_t i = 0; i < d->preference_count; i++) {
        mix_number(&m, d->preferences[i].key);
        mix_text(&m, d->preferences[i].label);
    }
    mix_number(&m, d->generic_count);
    for (uint32_t i = 0; i < d->generic_count; i++) {
        mix_text(&m, d->generic[i].kind);
        mix_number(&m, (uint64_t)d->generic[i].amount);
    }
    mix(&m, d->host_ports, d->host_port_count * sizeof(*d->host_ports));
    mix_number(&m, (uint64_t)d->nano_cpus);
    mix_number(&m, (uint64_t)d->memory_bytes);
    mix_number(&m, d->max_replicas);
    d->digest[0] = m.a;
    d->digest[1] = m.b;
}

void demand_fill(const ServiceSpec *spec, void *memory, struct demand *ret)
{
    static const uint32_t no_ports[1];
    struct demand d = {.host_ports = no_ports};
    const Placement *p = placement_of(spec);
    const Resources *r = reserved_by(spec);
    size_t arrays = (mount_count(spec) + 1) * sizeof(struct demand_plugin) +
                    ((port_count(spec) * sizeof(uint32_t) + 7) & ~(size_t)7);

    if (p)
        arrays += p->n_constraints * sizeof(struct constraint) + p->n_platforms * sizeof(struct demand_platform) +
                  p->n_spread_descriptors * sizeof(struct demand_preference);
    if (r)
        arrays += r->n_generic * sizeof(struct demand_generic);
    struct area a = {.arrays = memory, .texts = (char *)memory + arrays};
    if (p)
        fill_placement(p, &a, &d);
    if (r)
        fill_resources(r, &a, &d);
    fill_plugins(spec, &a, &d);
    fill_ports(spec, &a, &d);
    assert(a.arrays <= (char *)memory + arrays && a.texts <= (char *)memory + demand_bytes(spec));
    digest(&d);
    *ret = d;
}
