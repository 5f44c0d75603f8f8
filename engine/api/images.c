/* The images of the API: see api.h and reference/engine-surface.md sections 11 and 12. The long ones (pull, load,
 * import) are in image_jobs.c. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/container_show.h"
#include "engine/api/image_jobs.h"
#include "engine/api/image_show.h"
#include "engine/api/prune.h"
#include "engine/container/container.h"
#include "engine/container/merge.h"
#include "proto/base/mem.h"

static bool named(struct api_call *c, struct image *ret)
{
    struct err e = {0};

    if (image_find(c->en->images, c->name, ret, &e) == 0)
        return true;
    api_error(c, &e);
    return false;
}

/* --- list ---------------------------------------------------------------------------------------- */

struct image_selection {
    struct filters f;
    int64_t before_ns, since_ns; /* created before, after; 0: any time */
    bool dangling;               /* when asked for */
};

static const char *label_of(void *ctx, const char *name)
{
    const struct image *image = ctx;

    return key_value_get(image->config->labels, image->config->n_labels, name);
}

/* "web", "web:1*", "127.0.0.1:5000/web". */
static bool matches_reference(const char *pattern, const char *full, struct arena *a)
{
    struct image_name name;

    if (image_name_parse(full, a, &name, NULL) < 0)
        return false;
    const char *colon = strrchr(name.familiar, ':');
    const char *plain = colon && !strchr(colon, '/')
                            ? arena_strndup(a, name.familiar, (size_t)(colon - name.familiar))
                            : name.familiar;
    return fnmatch(pattern, name.familiar, FNM_PATHNAME) == 0 || fnmatch(pattern, plain, FNM_PATHNAME) == 0 ||
           strcmp(pattern, full) == 0;
}

/* "web@sha256:..." whole, or its name alone. */
static bool matches_digest(const char *pattern, const char *full, struct arena *a)
{
    const char *familiar = image_familiar(full, a);

    return strcmp(pattern, familiar) == 0 ||
           fnmatch(pattern, arena_strndup(a, familiar, strcspn(familiar, "@")), FNM_PATHNAME) == 0;
}

static size_t keep_matching(const struct filter *one, char **names, size_t count, struct arena *a,
                            bool (*matches)(const char *pattern, const char *full, struct arena *a), char **ret)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < one->count; k++)
            if (matches(one->values[k], names[i], a)) {
                ret[kept++] = names[i];
                break;
            }
    return kept;
}

/* An image is shown under the names that were asked for alone. False when it has none of them. */
static bool narrow(const struct filters *f, struct image *image, ImageRecord *copy, struct arena *a)
{
    const struct filter *one = filters_get(f, "reference");

    if (!one)
        return true;
    *copy = *image->record;
    copy->tags = arena_array(a, copy->n_tags, sizeof(char *));
    copy->digests = arena_array(a, copy->n_digests, sizeof(char *));
    copy->n_tags = keep_matching(one, image->record->tags, copy->n_tags, a, matches_reference, copy->tags);
    copy->n_digests = keep_matching(one, image->record->digests, copy->n_digests, a, matches_digest, copy->digests);
    image->record = copy;
    return copy->n_tags + copy->n_digests > 0;
}

static bool is_selected(const struct image_selection *s, const struct image *image)
{
    int64_t created = image->config->created_ns;

    if (filters_get(&s->f, "dangling") && (image->record->n_tags == 0) != s->dangling)
        return false;
    if ((s->before_ns && created >= s->before_ns) || (s->since_ns && created <= s->since_ns))
        return false;
    return filters_labels(&s->f, "label", label_of, (void *)image);
}

static int take_neighbour(struct api_call *c, const struct filters *f, const char *key, int64_t *ret, struct err *e)
{
    const struct filter *one = filters_get(f, key);
    struct image image;

    for (size_t i = 0; one && i < one->count; i++) {
        int rc = image_find(c->en->images, one->values[i], &image, e);

        if (rc < 0)
            return rc;
        *ret = image.config->created_ns;
    }
    return 0;
}

static bool take_selection(struct api_call *c, struct image_selection *s)
{
    static const char *const known[] = {"before", "dangling", "label", "reference", "since", "until", NULL};
    const struct filter *until;
    int64_t until_ns = 0;
    struct err e = {0};

    *s = (struct image_selection){0};
    if (!api_filters(c, known, &s->f))
        return false;
    int rc = filters_bool(&s->f, "dangling", &s->dangling, &e);
    if (rc == 0)
        rc = take_neighbour(c, &s->f, "before", &s->before_ns, &e);
    if (rc == 0)
        rc = take_neighbour(c, &s->f, "since", &s->since_ns, &e);
    until = filters_get(&s->f, "until");
    if (rc == 0 && until && !filter_time(until->values[0], engine_now_ns(), &until_ns))
        rc = filter_invalid("until", until->values[0], &e);
    if (rc < 0) {
        api_error(c, &e);
        return false;
    }
    if (until_ns && (!s->before_ns || until_ns < s->before_ns))
        s->before_ns = until_ns;
    return true;
}

static void list(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct image_selection s;
    struct image image;
    size_t at = 0;

    if (!take_selection(c, &s))
        return;
    jwrite_array(&j, NULL);
    while (images_next(c->en->images, &at, &image)) {
        ImageRecord narrowed;

        if (is_selected(&s, &image) && narrow(&s.f, &image, &narrowed, api_arena(c)))
            image_show_summary(&image, -1, &j);
    }
    jwrite_end(&j);
    api_json(c, 200, &body);
}

/* --- one image ----------------------------------------------------------------------------------- */

static void inspect(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct image image;

    if (!named(c, &image))
        return;
    image_show_inspect(c->en, &image, &j);
    api_json(c, 200, &body);
}

static void history(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct image image;
    struct err e = {0};

    if (!named(c, &image))
        return;
    if (image_show_history(c->en, &image, &j, &e) < 0)
        api_error(c, &e);
    else
        api_json(c, 200, &body);
}

static void tag(struct api_call *c)
{
    const char *repo = http_query(c->x, "repo"), *version = http_query(c->x, "tag");
    struct err e = {0};
    int rc;

    if (!repo || !*repo) {
        err_set(&e, ERR_INVALID, "invalid repo: the new name must not be empty");
        api_error(c, &e);
        return;
    }
    rc = image_tag(c->en->images, c->name,
                   version && *version ? arena_printf(api_arena(c), "%s:%s", repo, version) : repo, &e);
    if (rc < 0)
        api_error(c, &e);
    else
        api_empty(c, 201);
}

static void delete (struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct err e = {0};

    if (image_remove(c->en->images, c->name, http_query_bool(c->x, "force"), !http_query_bool(c->x, "noprune"),
                     &body, &e) < 0)
        api_error(c, &e);
    else
        api_json(c, 200, &body);
}

static void prune(struct api_call *c)
{
    static const char *const known[] = {"dangling", "until", "label", "label!", NULL};
    AUTO_BUF struct buf body = {0};
    struct filters f;
    bool dangling = true;
    struct err e = {0};

    if (!api_filters(c, known, &f))
        return;
    if (filters_get(&f, "until") || filters_get(&f, "label") || filters_get(&f, "label!")) {
        api_absent(c, "pruning images by until or label");
        return;
    }
    int rc = filters_bool(&f, "dangling", &dangling, &e);
    if (rc == 0)
        rc = image_prune(c->en->images, dangling, &body, &e);
    if (rc < 0)
        api_error(c, &e);
    else
        api_json(c, 200, &body);
}

const struct api_route api_image_routes[] = {
    {"GET", "/images/json", list, API_BODY_NONE, false},
    {"POST", "/images/create", image_jobs_create, API_BODY_NONE, false},
    {"POST", "/images/load", image_jobs_load, API_BODY_NONE, false},
    {"POST", "/images/prune", prune, API_BODY_NONE, false},
    {"GET", "/images/*/json", inspect, API_BODY_NONE, false},
    {"GET", "/images/*/history", history, API_BODY_NONE, false},
    {"POST", "/images/*/tag", tag, API_BODY_NONE, false},
    {"DELETE", "/images/*", delete, API_BODY_NONE, false},
    {"GET", "/distribution/*/json", image_jobs_distribution, API_BODY_NONE, false},
    {0},
};
