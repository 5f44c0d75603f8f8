/* Removing images by Docker's rules (reference/engine-surface.md section 11), and pruning.
 *
 * By name: the name goes. If it was the last tag of its repository for this image, the repository's digest names go
 * too. What remains named stays; an image without a name left is deleted. By id: only an image whose names all
 * belong to one repository goes without force, with all its names.
 *
 * Conflicts. Hard ones cannot be forced: images made from it, a running container. Soft ones must be forced: a
 * stopped container, names in several repositories. After the last image of a line its parents go as well, as far
 * as nothing else keeps them, in silence. */
#include <stdio.h>
#include <string.h>

#include "engine/image/store.h"
#include "proto/base/jwrite.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

enum conflict {
    CONFLICT_CHILD = 1,
    CONFLICT_RUNNING = 2,
    CONFLICT_REFERENCED = 4,
    CONFLICT_STOPPED = 8,
    CONFLICT_HARD = CONFLICT_CHILD | CONFLICT_RUNNING,
    CONFLICT_SOFT = CONFLICT_REFERENCED | CONFLICT_STOPPED,
};

struct removal {
    struct images *store;
    struct jwrite *out;
};

static void tell(struct removal *r, const char *what, const char *which)
{
    jwrite_object(r->out, NULL);
    jwrite_string(r->out, what, which);
    jwrite_end(r->out);
}

static const char *user_of(struct images *s, const struct entry *entry, bool *ret_running)
{
    *ret_running = false;
    return s->config.in_use ? s->config.in_use(s->config.ctx, entry->record->id, ret_running) : NULL;
}

static size_t names_of(const struct entry *entry)
{
    return entry->record->n_tags + entry->record->n_digests;
}

/* Whether all its names are one tag and the digest names of the same repository, or one digest name. */
static bool single_reference(const struct entry *entry)
{
    const ImageRecord *r = entry->record;
    const char *first = r->n_tags ? r->tags[0] : r->n_digests ? r->digests[0] : NULL;

    if (names_of(entry) <= 1)
        return names_of(entry) == 1;
    if (r->n_tags > 1)
        return false;
    size_t length = image_name_repository(first);
    for (size_t i = 0; i < r->n_digests; i++)
        if (image_name_repository(r->digests[i]) != length || strncmp(r->digests[i], first, length) != 0)
            return false;
    return true;
}

static int conflict(const struct entry *entry, bool hard, const char *why, struct err *e)
{
    return err_set(e, ERR_CONFLICT, "conflict: unable to delete %.12s (%s) - %s", HEX_OF(entry->record->id),
                   hard ? "cannot be forced" : "must be forced", why);
}

static int check_conflicts(struct images *s, const struct entry *entry, unsigned kinds, struct err *e)
{
    bool running;
    const char *user = user_of(s, entry, &running);
    char why[300];

    if ((kinds & CONFLICT_CHILD) && entry_children(s, entry->record->id))
        return conflict(entry, true, "image has dependent child images", e);
    if ((kinds & CONFLICT_RUNNING) && user && running) {
        snprintf(why, sizeof(why), "image is being used by running %s", user);
        return conflict(entry, true, why, e);
    }
    if ((kinds & CONFLICT_REFERENCED) && names_of(entry))
        return conflict(entry, false, "image is referenced in multiple repositories", e);
    if ((kinds & CONFLICT_STOPPED) && user && !running) {
        snprintf(why, sizeof(why), "image is being used by stopped %s", user);
        return conflict(entry, false, why, e);
    }
    return 0;
}

/* --- names --------------------------------------------------------------------------------------- */

static int untag(struct removal *r, struct entry *entry, const char *full, struct err *e)
{
    AUTO_FREE
    char *copy = mem_strdup(full);
    int rc = entry_untag(entry, copy, e);

    if (rc < 0)
        return rc;
    tell(r, "Untagged", image_name_familiar(copy));
    event(r->store, "untag", entry->record->id, image_name_familiar(copy));
    return 0;
}

static int untag_all(struct removal *r, struct entry *entry, struct err *e)
{
    int rc = 0;

    while (rc == 0 && names_of(entry))
        rc = untag(r, entry, entry->record->n_tags ? entry->record->tags[0] : entry->record->digests[0], e);
    return rc;
}

static bool in_repository(const char *full, const char *repository)
{
    size_t length = image_name_repository(full);

    return strlen(repository) == length && strncmp(full, repository, length) == 0;
}

/* The digest names of a repository that has no tag for the image any more. */
static int untag_digests(struct removal *r, struct entry *entry, const char *repository, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < entry->record->n_tags; i++)
        if (in_repository(entry->record->tags[i], repository))
            return 0;
    for (size_t i = 0; i < entry->record->n_digests && rc == 0;) {
        if (in_repository(entry->record->digests[i], repository))
            rc = untag(r, entry, entry->record->digests[i], e);
        else
            i++;
    }
    return rc;
}

/* --- images -------------------------------------------------------------------------------------- */

static void on_layer_removed(void *ctx, const char *diff_id)
{
    tell(ctx, "Deleted", diff_id);
}

static int delete_image(struct removal *r, struct entry *entry, bool force, bool prune, bool quiet, struct err *e)
{
    struct images *s = r->store;
    bool running;
    struct err why = {0};
    int rc = check_conflicts(s, entry, CONFLICT_HARD | (force ? 0 : CONFLICT_SOFT), &why);

    if (rc < 0) {
        if (quiet && (names_of(entry) || entry_children(s, entry->record->id) || user_of(s, entry, &running)))
            return 0; /* the name that was asked for is gone: that was it */
        if (e)
            *e = why;
        return rc;
    }
    AUTO_FREE
    char *parent = entry->record->parent ? mem_strdup(entry->record->parent) : NULL;
    AUTO_FREE
    char *id = mem_strdup(entry->record->id);
    rc = untag_all(r, entry, e);
    if (rc < 0)
        return rc;
    tell(r, "Deleted", id);
    rc = entry_remove(entry, on_layer_removed, r, e);
    if (rc < 0)
        return rc;
    event(s, "delete", id, id);
    struct entry *above = prune && parent ? entry_get(s, parent) : NULL;
    if (!above || above->record->hidden)
        return 0;
    /* A parent that something keeps is no failure of what was asked for. */
    if (delete_image(r, above, false, true, true, &why) < 0)
        log_debug("image store: parent stays", "image=%s reason=\"%s\"", parent, why.text);
    return 0;
}

static int remove_by_id(struct removal *r, struct entry *entry, bool force, bool prune, struct err *e)
{
    if (single_reference(entry)) {
        unsigned kinds = CONFLICT_HARD | (force ? 0 : CONFLICT_SOFT & ~CONFLICT_REFERENCED);
        int rc = check_conflicts(r->store, entry, kinds, e);

        if (rc == 0)
            rc = untag_all(r, entry, e);
        if (rc < 0)
            return rc;
    }
    return delete_image(r, entry, force, prune, false, e);
}

static int remove_by_name(struct removal *r, struct entry *entry, const char *ref, bool force, bool prune,
                          struct err *e)
{
    AUTO_ARENA
    struct arena a;
    struct image_name name;
    bool running;
    const char *user = user_of(r->store, entry, &running);

    arena_init(&a);
    int rc = image_name_parse(ref, &a, &name, e);
    if (rc < 0)
        return rc;
    if (!force && user && single_reference(entry))
        return err_set(e, ERR_CONFLICT,
                       "conflict: unable to remove repository reference \"%s\" (must force) - %s is using its "
                       "referenced image %.12s",
                       ref, user, HEX_OF(entry->record->id));
    const char *repository = arena_printf(&a, "%s/%s", name.domain, name.path);
    const char *full = name.digest ? arena_printf(&a, "%s@%s", repository, name.digest) : name.full;
    rc = untag(r, entry, full, e);
    if (rc == 0 && !name.digest)
        rc = untag_digests(r, entry, repository, e);
    if (rc < 0 || names_of(entry))
        return rc;
    return delete_image(r, entry, force, prune, true, e);
}

/* Whether `ref` named the image by (a part of) its id. */
static bool named_by_id(const struct entry *entry, const char *ref, struct images *s)
{
    AUTO_ARENA
    struct arena a;
    struct image_name name;
    const char *prefix = strncmp(ref, "sha256:", 7) == 0 ? ref + 7 : ref;

    arena_init(&a);
    if (strncmp(HEX_OF(entry->record->id), prefix, strlen(prefix)) != 0)
        return false;
    /* An image may be named "abc" and have an id that begins so: the name comes first. */
    return image_name_parse(ref, &a, &name, NULL) < 0 || map_get(&s->names, name.full) != entry;
}

int image_remove(struct images *s, const char *ref, bool force, bool prune_parents, struct buf *out, struct err *e)
{
    AUTO_BUF
    struct buf list = {0};
    struct jwrite j = JWRITE_TO(&list);
    struct removal r = {.store = s, .out = &j};
    struct err why = {0};
    struct entry *entry = entry_find(s, ref, &why);

    if (!entry) {
        if (e)
            *e = why;
        return why.code;
    }
    jwrite_array(&j, NULL);
    int rc = named_by_id(entry, ref, s) ? remove_by_id(&r, entry, force, prune_parents, e)
                                        : remove_by_name(&r, entry, ref, force, prune_parents, e);
    jwrite_end(&j);
    if (rc == 0)
        buf_append(out, buf_bytes(&list), list.length);
    return rc;
}

/* --- prune --------------------------------------------------------------------------------------- */

/* Bytes that go with an image: of the layers that nothing else uses. */
static int64_t own_bytes(const struct entry *entry)
{
    int64_t bytes = 0;

    for (size_t i = 0; i < entry->config->n_diff_ids; i++)
        if (entry->layers[i]->users == 1 && entry->layers[i]->record)
            bytes += entry->layers[i]->record->size_bytes;
    return bytes;
}

int image_prune(struct images *s, bool dangling_only, struct buf *out, struct err *e)
{
    struct jwrite j = JWRITE_TO(out);
    struct removal r = {.store = s, .out = &j};
    int64_t reclaimed = 0;
    size_t at = 0, count = 0;
    struct image image;
    char **ids = mem_array(images_count(s), sizeof(*ids));
    bool running;

    while (images_next(s, &at, &image))
        ids[count++] = mem_strdup(image.record->id);
    jwrite_object(&j, NULL);
    jwrite_array(&j, "ImagesDeleted");
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = entry_get(s, ids[i]);
        struct err why = {0};

        if (!entry || entry->record->hidden || user_of(s, entry, &running) || entry_children(s, ids[i]) ||
            (dangling_only && entry->record->n_tags))
            continue;
        int64_t bytes = own_bytes(entry);
        if (delete_image(&r, entry, true, true, false, &why) == 0)
            reclaimed += bytes;
        else
            log_warn("image store: prune leaves an image", "image=%s error=\"%s\"", ids[i], why.text);
    }
    jwrite_end(&j);
    jwrite_int(&j, "SpaceReclaimed", reclaimed);
    jwrite_end(&j);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    return 0;
}
