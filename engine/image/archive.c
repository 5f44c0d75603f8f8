/* Archives of images (archive.h): docker save's, with manifest.json, and OCI layouts, with index.json. An archive
 * that has both is read by the first, which also says the names.
 *
 * Every name that leads from one file to another comes from the archive: it is looked up among its members, never
 * on the disk. Members of a layout are named by digest; the spool job has told what their digests are. */
#include <stdio.h>
#include <string.h>

#include "engine/image/archive.h"
#include "engine/image/config.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

#define LINKS_MAX       8 /* links between members followed */
#define INDEX_DEPTH_MAX 3
#define JSON_MAX        ((size_t)32 << 20) /* read of one archive, all together: it is parsed in one go */

int archive_add(struct archive *ar, const SpoolMember *m, struct err *e)
{
    struct archive_member *member = ARENA_NEW(ar->arena, struct archive_member);

    if (!m->link && (!m->digest || !digest_valid(m->digest)))
        return err_set(e, ERR_INTERNAL, "the spool job told a member without a digest");
    member->name = arena_strdup(ar->arena, m->name);
    member->file = m->file;
    member->size = m->size_bytes;
    member->digest = m->digest ? arena_strdup(ar->arena, m->digest) : NULL;
    member->link = m->link ? arena_strdup(ar->arena, m->link) : NULL;
    map_put(&ar->members, member->name, member); /* a later one of the name replaces it, as when unpacked */
    return 0;
}

static const struct archive_member *find(struct archive *ar, const char *name, struct err *e)
{
    const struct archive_member *m = map_get(&ar->members, name);

    for (int links = 0; m && m->link; links++) {
        if (links == LINKS_MAX) {
            err_set(e, ERR_INVALID, "\"%.200s\" is a loop of links", name);
            return NULL;
        }
        m = map_get(&ar->members, m->link);
    }
    if (!m)
        err_set(e, ERR_INVALID, "\"%.200s\" is missing from the archive", name);
    return m;
}

static int read_json(struct archive *ar, const struct archive_member *m, struct buf *into, struct err *e)
{
    char file[16];

    if (m->size > MANIFEST_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "\"%.200s\" has %llu bytes, more than %zu", m->name,
                       (unsigned long long)m->size, MANIFEST_BYTES_MAX);
    ar->json_bytes += m->size;
    if (ar->json_bytes > JSON_MAX)
        return err_set(e, ERR_LIMIT, "configs and manifests have more than %zu bytes together", JSON_MAX);
    snprintf(file, sizeof(file), "%u", m->file);
    return file_read(ar->dir_fd, file, MANIFEST_BYTES_MAX, into, e);
}

/* Begin an image with its config. */
static int found_new(struct archive *ar, const struct archive_member *config, struct archive_found **ret,
                     struct err *e)
{
    struct archive_found *f = ARENA_NEW(ar->arena, struct archive_found);
    ImageConfig *parsed = NULL;

    ar->images = arena_append(ar->arena, ar->images, ar->count, sizeof(*ar->images));
    ar->images[ar->count++] = f; /* from here on archive_fini gives its buffers back */
    int rc = read_json(ar, config, &f->config_json, e);
    if (rc == 0)
        rc = image_config_parse(buf_bytes(&f->config_json), f->config_json.length, ar->arena, &parsed, e);
    if (rc < 0)
        return err_wrap(e, "%.200s", config->name);
    f->id = config->digest;
    f->config = parsed;
    f->layers = arena_array(ar->arena, parsed->n_diff_ids, sizeof(*f->layers));
    *ret = f;
    return 0;
}

static int check_count(const struct archive_found *f, size_t layers, struct err *e)
{
    if (layers != f->config->n_diff_ids)
        return err_set(e, ERR_INVALID, "the archive has %zu layers where the image's config has %zu", layers,
                       f->config->n_diff_ids);
    return 0;
}

static int add_tag(struct archive *ar, struct archive_found *f, const char *tag, struct err *e)
{
    struct image_name name;
    int rc = image_name_parse(tag, ar->arena, &name, e);

    if (rc < 0)
        return rc;
    if (name.digest)
        return err_set(e, ERR_INVALID, "\"%.200s\" is no tag", tag);
    f->tags = arena_append(ar->arena, f->tags, f->tag_count, sizeof(*f->tags));
    f->tags[f->tag_count++] = name.full;
    return 0;
}

/* --- docker save --------------------------------------------------------------------------------- */

static int read_saved(struct archive *ar, const struct archive_image *image, struct err *e)
{
    struct archive_found *f = NULL;
    const struct archive_member *config = find(ar, image->config, e);
    int rc = config ? found_new(ar, config, &f, e) : ERR_INVALID;

    if (rc == 0)
        rc = check_count(f, image->layer_count, e);
    for (size_t i = 0; i < image->layer_count && rc == 0; i++) {
        f->layers[i] = (struct archive_layer){f->config->diff_ids[i], find(ar, image->layers[i], e)};
        if (!f->layers[i].member)
            rc = ERR_INVALID;
    }
    if (rc == 0)
        f->layer_count = image->layer_count;
    for (size_t i = 0; i < image->tag_count && rc == 0; i++)
        rc = add_tag(ar, f, image->tags[i], e);
    return rc;
}

static int read_docker(struct archive *ar, const struct archive_member *manifest, struct err *e)
{
    AUTO_BUF
    struct buf json = {0};
    struct archive_image *images;
    size_t count = 0;
    int rc = read_json(ar, manifest, &json, e);

    if (rc == 0)
        rc = archive_parse(buf_bytes(&json), json.length, ar->arena, &images, &count, e);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = read_saved(ar, &images[i], e);
    return rc;
}

/* --- OCI layout ---------------------------------------------------------------------------------- */

/* A blob of the layout, which must be what its name says. */
static const struct archive_member *find_blob(struct archive *ar, const struct descriptor *d, struct err *e)
{
    const char *name = arena_printf(ar->arena, "blobs/sha256/%s", d->digest + strlen("sha256:"));
    const struct archive_member *m = find(ar, name, e);

    if (!m)
        return NULL;
    if (strcmp(m->digest, d->digest) != 0) {
        err_set(e, ERR_CORRUPT, "\"%s\" is damaged: its contents have digest %s", name, m->digest);
        return NULL;
    }
    if (m->size != (uint64_t)d->size) {
        err_set(e, ERR_CORRUPT, "\"%s\" has %llu bytes where its descriptor says %lld", name,
                (unsigned long long)m->size, (long long)d->size);
        return NULL;
    }
    return m;
}

/* The name a layout gives to an image, if it gives one: whole references only, as a bare "1.0" says nothing of
 * whose. */
static int add_annotated(struct archive *ar, struct archive_found *f, const struct descriptor *d, struct err *e)
{
    if (d->image_name)
        return add_tag(ar, f, d->image_name, e);
    if (d->ref_name && strpbrk(d->ref_name, ":/"))
        return add_tag(ar, f, d->ref_name, e);
    return 0;
}

static int read_layout_image(struct archive *ar, const struct manifest *m, const struct descriptor *d,
                             const struct descriptor *named, struct buf *json, struct err *e)
{
    struct archive_found *f = NULL;
    const struct archive_member *config = find_blob(ar, &m->config, e);
    int rc = config ? found_new(ar, config, &f, e) : ERR_INVALID;

    if (rc == 0)
        rc = check_count(f, m->count, e);
    for (size_t i = 0; i < m->count && rc == 0; i++) {
        f->layers[i] = (struct archive_layer){f->config->diff_ids[i], find_blob(ar, &m->entries[i], e)};
        if (!f->layers[i].member)
            rc = e->code;
    }
    if (rc < 0)
        return rc;
    f->layer_count = m->count;
    f->manifest_digest = d->digest;
    f->manifest_json = *json;
    *json = (struct buf){0};
    return add_annotated(ar, f, named, e);
}

/* A manifest or index of the layout; `named` is the entry of index.json that led here. */
static int read_layout_entry(struct archive *ar, const struct descriptor *d, const struct descriptor *named,
                             unsigned depth, struct err *e)
{
    AUTO_BUF
    struct buf json = {0};
    struct manifest m;
    const struct archive_member *member = find_blob(ar, d, e);

    if (!member)
        return e->code;
    if (depth > INDEX_DEPTH_MAX)
        return err_set(e, ERR_INVALID, "more than %d indexes lead to each other", INDEX_DEPTH_MAX);
    int rc = read_json(ar, member, &json, e);
    if (rc == 0)
        rc = manifest_parse(buf_bytes(&json), json.length, NULL, ar->arena, &m, e);
    if (rc < 0)
        return rc;
    if (m.kind == MANIFEST_IMAGE)
        return read_layout_image(ar, &m, d, named, &json, e);
    const struct descriptor *best = manifest_choose(&m, &ar->host);
    if (!best)
        return err_set(e, ERR_NOT_FOUND, "no matching manifest for %s in the manifest list entries",
                       platform_format(&ar->host, ar->arena));
    return read_layout_entry(ar, best, named, depth + 1, e);
}

static int read_layout(struct archive *ar, const struct archive_member *index, struct err *e)
{
    AUTO_BUF
    struct buf json = {0};
    struct manifest m = {0};
    bool named = false, platforms = false;
    int rc = read_json(ar, index, &json, e);

    if (rc == 0)
        rc = manifest_parse(buf_bytes(&json), json.length, NULL, ar->arena, &m, e);
    if (rc < 0)
        return err_wrap(e, "index.json");
    if (m.kind != MANIFEST_INDEX || m.count > MANIFEST_IMAGES_MAX)
        return err_set(e, ERR_INVALID, "index.json: no index of at most %d images", MANIFEST_IMAGES_MAX);
    for (size_t i = 0; i < m.count; i++) {
        named |= m.entries[i].image_name || m.entries[i].ref_name;
        platforms |= m.entries[i].has_platform;
    }
    /* Nameless entries for several platforms are one image. */
    if (!named && platforms && m.count > 1) {
        const struct descriptor *best = manifest_choose(&m, &ar->host);

        if (!best)
            return err_set(e, ERR_NOT_FOUND, "no matching manifest for %s in index.json",
                           platform_format(&ar->host, ar->arena));
        return read_layout_entry(ar, best, best, 0, e);
    }
    for (size_t i = 0; i < m.count && rc == 0; i++)
        rc = read_layout_entry(ar, &m.entries[i], &m.entries[i], 0, e);
    return rc;
}

int archive_read(struct archive *ar, struct err *e)
{
    static const struct {
        const char *name;
        int (*read)(struct archive *ar, const struct archive_member *m, struct err *e);
    } kinds[] = {{"manifest.json", read_docker}, {"index.json", read_layout}};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (!map_get(&ar->members, kinds[i].name))
            continue;
        const struct archive_member *m = find(ar, kinds[i].name, e);
        int rc = m ? kinds[i].read(ar, m, e) : e->code;
        return rc == 0 && ar->count == 0 ? err_set(e, ERR_INVALID, "the archive holds no image") : rc;
    }
    return err_set(
        e, ERR_INVALID,
        "it holds neither manifest.json nor index.json: this is no archive of images (an archive of a file "
        "system is what import takes)");
}

void archive_fini(struct archive *ar)
{
    for (size_t i = 0; i < ar->count; i++) {
        buf_fini(&ar->images[i]->config_json);
        buf_fini(&ar->images[i]->manifest_json);
    }
    map_fini(&ar->members);
}
