/* Images in memory and their records (store.h): names, ids, and what they use.
 *
 * An image is its record (names, digests) and its config (the blob that is its id). A name leads to one image:
 * giving it to another takes it away from the first. Both records are written then, the new owner's first; if a
 * crash comes between, two records claim the name, and the one tagged last keeps it at the next open.
 *
 * Removal writes first that the image is gone (its record), then gives up blobs and layers, which go when nobody
 * else uses them. While containers hold the image it is only hidden: its record stays, nameless, so that its layers
 * are found again after a restart, until the last container lets go. */
#include <stdio.h>
#include <string.h>

#include "engine/image/config.h"
#include "engine/image/store.h"
#include "proto/base/clock.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define NAMES_MAX 1000 /* tags and digests of one image */

struct entry *entry_get(struct images *s, const char *id)
{
    return map_get(&s->images, id);
}

/* --- records ------------------------------------------------------------------------------------- */

static int put_record(struct entry *entry, struct err *e)
{
    return records_put(entry->store->image_records, HEX_OF(entry->record->id), &entry->record->base, e);
}

static void list_add(char ***list, size_t *count, const char *text)
{
    *list = mem_grow(*list, *count + 1, sizeof(**list));
    (*list)[(*count)++] = mem_strdup(text);
}

static bool list_drop(char **list, size_t *count, const char *text)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(list[i], text) == 0) {
            free(list[i]);
            memmove(list + i, list + i + 1, (--*count - i) * sizeof(*list));
            return true;
        }
    return false;
}

/* The digest a name ends with, or NULL for a tag. */
static const char *digest_of(const char *full)
{
    const char *at = strchr(full, '@');

    return at ? at + 1 : NULL;
}

static int64_t now_ns(void)
{
    return clock_wall_ms(clock_real()) * 1000000;
}

/* Give the entry a name in memory. The map's key is the record's own text. */
static void name_add(struct entry *entry, const char *full)
{
    ImageRecord *r = entry->record;
    const char *digest = digest_of(full);

    if (digest) {
        list_add(&r->digests, &r->n_digests, full);
        map_put(&entry->store->names, r->digests[r->n_digests - 1], entry);
        blob_ref(entry->store, digest);
        return;
    }
    list_add(&r->tags, &r->n_tags, full);
    map_put(&entry->store->names, r->tags[r->n_tags - 1], entry);
    r->has_tagged_ns = true;
    r->tagged_ns = now_ns();
}

static bool name_drop(struct entry *entry, const char *full)
{
    ImageRecord *r = entry->record;
    const char *digest = digest_of(full);
    AUTO_FREE
    char *copy = mem_strdup(full); /* it may be the very text that is freed */

    if (map_get(&entry->store->names, copy) != entry)
        return false;
    map_remove(&entry->store->names, copy);
    if (digest)
        blob_unref(entry->store, strchr(copy, '@') + 1);
    return digest ? list_drop(r->digests, &r->n_digests, copy) : list_drop(r->tags, &r->n_tags, copy);
}

/* --- life ---------------------------------------------------------------------------------------- */

void entry_drop(struct entry *entry)
{
    free(entry->layers);
    arena_fini(&entry->arena);
    image_record__free_unpacked(entry->record, NULL);
    free(entry);
}

/* Make an entry around a record without names; the names are added by the caller. */
static int entry_new(struct images *s, ImageRecord *record, const char *json, size_t size, struct entry **ret,
                     struct err *e)
{
    struct entry *entry = mem_alloc(sizeof(*entry));

    entry->store = s;
    entry->record = record;
    arena_init(&entry->arena);
    int rc = image_config_parse(json, size, &entry->arena, &entry->config, e);
    if (rc < 0) {
        entry->record = NULL;
        arena_fini(&entry->arena);
        free(entry);
        return rc;
    }
    entry->layers = mem_array(entry->config->n_diff_ids, sizeof(struct layer *));
    *ret = entry;
    return 0;
}

/* Into the store: it uses its layers and names its blobs. */
static void entry_enter(struct entry *entry)
{
    struct images *s = entry->store;
    ImageRecord *r = entry->record;

    for (size_t i = 0; i < entry->config->n_diff_ids; i++)
        entry->layers[i] = layer_use(s, entry->config->diff_ids[i]);
    blob_ref(s, r->id);
    if (r->manifest_digest)
        blob_ref(s, r->manifest_digest);
    map_put(&s->images, r->id, entry);
    s->sorted_valid = false;
}

static int check_layers(const ImageConfig *config, struct images *s, bool must_be_ready, struct err *e)
{
    for (size_t i = 0; i < config->n_diff_ids; i++) {
        const struct layer *layer = layer_get(s, config->diff_ids[i]);
        bool can_be = false;

        if (!layer || !layer->record)
            return err_set(e, ERR_NOT_FOUND, "its layer %s is missing", config->diff_ids[i]);
        for (size_t k = 0; k < layer->record->n_blobs; k++)
            can_be |= blob_there(s, layer->record->blobs[k]);
        if (!layer->ready && (must_be_ready || !can_be))
            return err_set(e, ERR_NOT_FOUND, "its layer %s is missing", config->diff_ids[i]);
        /* The layers below would show through: overlayfs does not look at the mark on a layer's own directory. */
        if (i > 0 && layer->record->opaque_root)
            return err_set(e, ERR_UNSUPPORTED, "layer %s hides all layers below it, which is not supported",
                           config->diff_ids[i]);
    }
    return 0;
}

int entry_load(struct images *s, ImageRecord *record, struct err *e)
{
    struct buf json = {0};
    struct entry *entry = NULL;
    char **tags = record->tags, **digests = record->digests;
    size_t tag_count = record->n_tags, digest_count = record->n_digests;
    int64_t tagged_ns = record->tagged_ns;
    bool changed = false;
    int rc = digest_valid(record->id) && !entry_get(s, record->id)
                 ? 0
                 : err_set(e, ERR_CORRUPT, "the record contradicts itself");

    if (rc == 0)
        rc = blob_read(s, record->id, &json, e);
    if (rc == 0)
        rc = entry_new(s, record, buf_bytes(&json), json.length, &entry, e);
    if (rc == 0)
        rc = check_layers(entry->config, s, false, e);
    buf_fini(&json);
    if (rc < 0) {
        struct err ignored;

        (void)records_remove(s->image_records, HEX_OF(record->id), &ignored); /* it would be dropped again */
        if (entry)
            entry_drop(entry);
        else
            image_record__free_unpacked(record, NULL);
        return rc;
    }
    record->tags = record->digests = NULL;
    record->n_tags = record->n_digests = 0;
    entry_enter(entry);
    for (size_t i = 0; i < tag_count + digest_count; i++) {
        const char *full = i < tag_count ? tags[i] : digests[i - tag_count];
        struct entry *other = map_get(&s->names, full);

        if (other && other->record->tagged_ns >= tagged_ns) {
            changed = true;
            continue;
        }
        if (other && name_drop(other, full))
            (void)put_record(other, NULL); /* the next open comes to the same end */
        name_add(entry, full);
    }
    record->tagged_ns = tagged_ns;
    if (changed)
        (void)put_record(entry, NULL);
    for (size_t i = 0; i < tag_count; i++)
        free(tags[i]);
    for (size_t i = 0; i < digest_count; i++)
        free(digests[i]);
    free(tags);
    free(digests);
    return 0;
}

/* --- names --------------------------------------------------------------------------------------- */

/* Give a name to an image, away from another. *ret_changed: it led elsewhere before. */
static int name_move(struct entry *entry, const char *full, bool *ret_changed, struct err *e)
{
    struct entry *other = map_get(&entry->store->names, full);

    if (other == entry)
        return 0;
    if (entry->record->n_tags + entry->record->n_digests >= NAMES_MAX)
        return err_set(e, ERR_LIMIT, "image %.19s has %d names already", entry->record->id, NAMES_MAX);
    *ret_changed = true;
    if (other)
        name_drop(other, full);
    name_add(entry, full);
    int rc = put_record(entry, e);
    if (rc < 0) {
        name_drop(entry, full);
        if (other)
            name_add(other, full);
        return rc;
    }
    return other ? put_record(other, e) : 0;
}

int entry_tag(struct entry *entry, const char *full, struct err *e)
{
    bool changed = false;

    return name_move(entry, full, &changed, e);
}

int entry_untag(struct entry *entry, const char *full, struct err *e)
{
    AUTO_FREE
    char *copy = mem_strdup(full);

    name_drop(entry, copy);
    int rc = put_record(entry, e);
    if (rc < 0)
        name_add(entry, copy);
    return rc;
}

/* --- bringing ------------------------------------------------------------------------------------ */

static int entry_make(struct images *s, const struct entry_new *n, struct entry **ret, struct err *e)
{
    ImageRecord *record = mem_alloc(sizeof(*record));
    struct entry *entry = NULL;

    image_record__init(record);
    record->format = 1;
    record->id = mem_strdup(n->id);
    record->manifest_digest = n->manifest_digest ? mem_strdup(n->manifest_digest) : NULL;
    record->parent = n->parent ? mem_strdup(n->parent) : NULL;
    int rc = entry_new(s, record, n->config_json, n->config_size, &entry, e);
    if (rc < 0) {
        image_record__free_unpacked(record, NULL);
        return rc;
    }
    rc = check_layers(entry->config, s, true, e);
    if (rc < 0) {
        entry_drop(entry);
        return rc;
    }
    record->has_size_bytes = true;
    for (size_t i = 0; i < entry->config->n_diff_ids; i++)
        record->size_bytes += layer_get(s, entry->config->diff_ids[i])->record->size_bytes;
    rc = put_record(entry, e);
    if (rc < 0) {
        entry_drop(entry);
        return rc;
    }
    entry_enter(entry);
    *ret = entry;
    return 0;
}

int entry_add(struct images *s, const struct entry_new *n, struct entry **ret, bool *ret_changed, struct err *e)
{
    struct entry *entry = entry_get(s, n->id);
    const char *const names[] = {n->tag, n->digest_name};
    bool changed = false;
    int rc = entry ? 0 : entry_make(s, n, &entry, e);

    if (rc == 0 && entry->record->hidden) {
        entry->record->hidden = false;
        s->sorted_valid = false;
        rc = put_record(entry, e);
    }
    if (rc == 0 && n->manifest_digest && !entry->record->manifest_digest) {
        entry->record->manifest_digest = mem_strdup(n->manifest_digest);
        blob_ref(s, n->manifest_digest);
        rc = put_record(entry, e);
    }
    for (size_t i = 0; i < ARRAY_SIZE(names) && rc == 0; i++) {
        bool moved = false;

        if (names[i])
            rc = name_move(entry, names[i], &moved, e);
        changed |= moved && (i == 0 || !n->tag); /* what a caller asked for */
    }
    if (rc < 0)
        return rc;
    *ret = entry;
    *ret_changed = changed;
    return 0;
}

/* --- removing ------------------------------------------------------------------------------------ */

static void drop_names(struct entry *entry)
{
    while (entry->record->n_tags)
        name_drop(entry, entry->record->tags[0]);
    while (entry->record->n_digests)
        name_drop(entry, entry->record->digests[0]);
}

int entry_remove(struct entry *entry, void (*removed)(void *ctx, const char *diff_id), void *ctx, struct err *e)
{
    struct images *s = entry->store;
    ImageRecord *r = entry->record;

    if (entry->holds || !s->holds_done) {
        drop_names(entry);
        r->hidden = r->has_hidden = true;
        s->sorted_valid = false;
        return put_record(entry, e);
    }
    int rc = records_remove(s->image_records, HEX_OF(r->id), e);
    if (rc < 0)
        return rc;
    drop_names(entry);
    map_remove(&s->images, r->id);
    s->sorted_valid = false;
    for (size_t i = entry->config->n_diff_ids; i-- > 0;) {
        if (removed && entry->layers[i]->users == 1)
            removed(ctx, entry->layers[i]->diff_id);
        layer_unuse(s, entry->layers[i]);
    }
    if (r->manifest_digest)
        blob_unref(s, r->manifest_digest);
    blob_unref(s, r->id);
    entry_drop(entry);
    return 0;
}

size_t entry_children(struct images *s, const char *id)
{
    struct entry *entry;
    size_t at = 0, count = 0;

    while ((entry = map_next(&s->images, &at)))
        count += entry->record->parent && strcmp(entry->record->parent, id) == 0 && !entry->record->hidden;
    return count;
}

/* --- finding ------------------------------------------------------------------------------------- */

/* Ids that begin with `prefix` (hex digits). */
static struct entry *find_by_prefix(struct images *s, const char *prefix, struct err *e)
{
    struct entry *entry, *found = NULL;
    size_t at = 0, length = strlen(prefix);

    if (length == 0 || length > SHA256_HEX || strspn(prefix, "0123456789abcdef") != length)
        return NULL;
    while ((entry = map_next(&s->images, &at))) {
        if (entry->record->hidden || strncmp(HEX_OF(entry->record->id), prefix, length) != 0)
            continue;
        if (found) {
            err_set(e, ERR_INVALID, "ambiguous image id \"%s\": more than one image begins with it", prefix);
            return NULL;
        }
        found = entry;
    }
    return found;
}

struct entry *entry_find(struct images *s, const char *ref, struct err *e)
{
    AUTO_ARENA
    struct arena a;
    struct image_name name;
    struct entry *entry = NULL;
    struct err bad_name = {0}, ambiguous = {0};
    const char *prefix = strncmp(ref, "sha256:", 7) == 0 ? ref + 7 : ref;

    arena_init(&a);
    bool full_id = hex_valid(prefix, SHA256_HEX);
    if (full_id) {
        entry = find_by_prefix(s, prefix, &ambiguous);
    } else if (image_name_parse(ref, &a, &name, &bad_name) == 0) {
        const char *full =
            name.digest ? arena_printf(&a, "%s/%s@%s", name.domain, name.path, name.digest) : name.full;

        entry = map_get(&s->names, full);
    }
    if (!entry && !full_id)
        entry = find_by_prefix(s, prefix, &ambiguous);
    if (entry)
        return entry;
    if (ambiguous.code)
        err_set(e, ambiguous.code, "%s", ambiguous.text);
    else if (bad_name.code)
        err_set(e, bad_name.code, "%s", bad_name.text);
    else
        err_set(e, ERR_NOT_FOUND, "No such image: %.300s", full_id ? ref : name.familiar);
    return NULL;
}
