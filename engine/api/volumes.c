/* The volumes of the API: see api.h and reference/engine-surface.md section 14. */
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/container_show.h"
#include "engine/api/prune.h"
#include "engine/api/sizes.h"
#include "engine/api/volume_show.h"
#include "engine/container/merge.h"
#include "proto/base/ident.h"
#include "proto/base/jread.h"

#define LABELS_MAX 1024

void volume_show(const struct volume *v, int64_t bytes, struct jwrite *j)
{
    const struct list *use;
    int64_t users = 0;

    jwrite_object(j, NULL);
    jwrite_time_ns(j, "CreatedAt", v->record->created_ns);
    jwrite_string(j, "Driver", "local");
    show_pairs(j, "Labels", v->record->labels, v->record->n_labels);
    jwrite_string(j, "Mountpoint", v->path);
    jwrite_string(j, "Name", v->record->name);
    show_pairs(j, "Options", v->record->options, v->record->n_options);
    jwrite_string(j, "Scope", "local");
    if (bytes >= 0) {
        for (use = v->uses.next; use != &v->uses; use = use->next)
            users++;
        jwrite_object(j, "UsageData");
        jwrite_int(j, "RefCount", users);
        jwrite_int(j, "Size", bytes);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void answer_volume(struct api_call *c, int status, const struct volume *v)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    volume_show(v, -1, &j);
    api_json(c, status, &body);
}

static const char *label_of(void *ctx, const char *name)
{
    const struct volume *v = ctx;

    return key_value_get(v->record->labels, v->record->n_labels, name);
}

static void list(struct api_call *c)
{
    static const char *const known[] = {"dangling", "driver", "label", "name", NULL};
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct filters f;
    bool dangling = false;
    struct err e = {0};

    if (!api_filters(c, known, &f))
        return;
    if (filters_bool(&f, "dangling", &dangling, &e) < 0) {
        api_error(c, &e);
        return;
    }
    jwrite_object(&j, NULL);
    jwrite_array(&j, "Volumes");
    for (struct volume *v = NULL; (v = volumes_next(c->en->volumes, v));) {
        if ((filters_get(&f, "dangling") && list_empty(&v->uses) != dangling) ||
            !filters_exact(&f, "driver", "local") || !filters_like(&f, "name", v->record->name) ||
            !filters_labels(&f, "label", label_of, v))
            continue;
        volume_show(v, -1, &j);
    }
    jwrite_end(&j);
    jwrite_array(&j, "Warnings");
    jwrite_end(&j);
    jwrite_end(&j);
    api_json(c, 200, &body);
}

/* {"k": "v"} of the body as pairs sorted by key. */
static int read_pairs(struct api_call *c, const char *key, KeyValue ***ret, size_t *ret_count, struct err *e)
{
    json_t *map = NULL, *value;
    const char *name;
    size_t count = 0;
    int rc = jread_object(c->body, NULL, key, &map, e);

    if (rc < 0)
        return rc;
    if (json_object_size(map) > LABELS_MAX)
        return err_set(e, ERR_INVALID, "invalid %s: more than %d entries", key, LABELS_MAX);
    KeyValue **pairs = arena_array(api_arena(c), json_object_size(map), sizeof(*pairs));
    json_object_foreach(map, name, value)
    {
        size_t at = count++;

        if (!json_is_string(value))
            return err_set(e, ERR_INVALID, "invalid %s: the value of \"%.120s\" must be a string", key, name);
        for (; at && strcmp(pairs[at - 1]->key, name) > 0; at--)
            pairs[at] = pairs[at - 1];
        pairs[at] = ARENA_NEW(api_arena(c), KeyValue);
        key_value__init(pairs[at]);
        pairs[at]->key = arena_strdup(api_arena(c), name);
        pairs[at]->value = arena_strdup(api_arena(c), json_string_value(value));
    }
    *ret = pairs;
    *ret_count = count;
    return 0;
}

static int read_new(struct api_call *c, struct volume_new *ret, struct err *e)
{
    char *name = NULL, *driver = NULL, *made;
    KeyValue **labels = NULL, **options = NULL;
    json_t *cluster = NULL;
    int rc = jread_string(c->body, NULL, "Name", api_arena(c), &name, e);

    *ret = (struct volume_new){0};
    if (rc == 0)
        rc = jread_string(c->body, NULL, "Driver", api_arena(c), &driver, e);
    if (rc == 0)
        rc = read_pairs(c, "Labels", &labels, &ret->label_count, e);
    if (rc == 0)
        rc = read_pairs(c, "DriverOpts", &options, &ret->option_count, e);
    if (rc == 0)
        rc = jread_object(c->body, NULL, "ClusterVolumeSpec", &cluster, e);
    if (rc == 0 && cluster)
        rc = err_set(e, ERR_UNSUPPORTED, "ClusterVolumeSpec " API_NOT_IMPLEMENTED);
    if (rc < 0)
        return rc;
    ret->anonymous = !name || !*name;
    if (ret->anonymous) {
        made = arena_alloc(api_arena(c), HEX_ID_TEXT + 1);
        hex_id_new(entropy_real(), made);
        name = made;
    }
    ret->name = name;
    ret->driver = driver;
    ret->labels = labels;
    ret->options = options;
    return 0;
}

static void create(struct api_call *c)
{
    struct volume_new asked;
    struct volume *v;
    struct err e = {0};

    if (read_new(c, &asked, &e) < 0 || volume_create(c->en->volumes, &asked, &v, &e) < 0)
        api_error(c, &e);
    else
        answer_volume(c, 201, v);
}

static void inspect(struct api_call *c)
{
    struct volume *v;
    struct err e = {0};

    if (volume_get(c->en->volumes, c->name, &v, &e) < 0)
        api_error(c, &e);
    else
        answer_volume(c, 200, v);
}

static void delete (struct api_call *c)
{
    struct volume *v;
    struct err e = {0};
    int rc = volume_get(c->en->volumes, c->name, &v, &e);

    if (rc == ERR_NOT_FOUND && http_query_bool(c->x, "force"))
        rc = 0;
    else if (rc == 0)
        rc = volume_remove(c->en->volumes, v, &e);
    if (rc < 0)
        api_error(c, &e);
    else
        api_empty(c, 204);
}

static void prune_measured(struct api_call *c, const struct sizes_entry *entries, size_t count)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    int64_t reclaimed = 0;

    jwrite_object(&j, NULL);
    jwrite_array(&j, "VolumesDeleted");
    for (size_t i = 0; i < count; i++) {
        struct volume *v = volume_find(c->en->volumes, entries[i].name);

        if (!v || volume_remove(c->en->volumes, v, NULL) < 0)
            continue; /* gone or used meanwhile */
        jwrite_string(&j, NULL, entries[i].name);
        reclaimed += MAX(entries[i].bytes, (int64_t)0);
    }
    jwrite_end(&j);
    jwrite_int(&j, "SpaceReclaimed", reclaimed);
    jwrite_end(&j);
    prune_event(c->en, "volume", reclaimed);
    api_json(c, 200, &body);
}

static void prune(struct api_call *c)
{
    static const char *const more[] = {"all", NULL};
    struct prune p;
    bool all = c->minor < 42; /* before, the names made no difference */
    struct err e = {0};

    if (!prune_take_with(c, more, &p))
        return;
    if (filters_get(&p.f, "until"))
        err_set(&e, ERR_INVALID, "invalid filter 'until'");
    else
        (void)filters_bool(&p.f, "all", &all, &e); /* looked at below */
    if (e.code) {
        api_error(c, &e);
        return;
    }
    struct sizes *sizes = sizes_new(c);
    for (struct volume *v = NULL; (v = volumes_next(c->en->volumes, v));)
        if (list_empty(&v->uses) && (all || v->record->anonymous) &&
            prune_holds(&p, v->record->created_ns, v->record->labels, v->record->n_labels))
            sizes_add_volume(sizes, v->record->name);
    sizes_start(sizes, prune_measured);
}

const struct api_route api_volume_routes[] = {
    {"GET", "/volumes", list, API_BODY_NONE, false},
    {"POST", "/volumes/create", create, API_BODY_OPTIONAL, false},
    {"POST", "/volumes/prune", prune, API_BODY_NONE, false},
    {"GET", "/volumes/*", inspect, API_BODY_NONE, false},
    {"DELETE", "/volumes/*", delete, API_BODY_NONE, false},
    {0},
};
