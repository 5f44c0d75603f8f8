/* Manifests (manifest.h): Docker's schema 2 and list, OCI's manifest and index, docker save's manifest.json.
 *
 * The four registry formats differ in names only, so one reader does for all: what has "manifests" is an index,
 * what has "layers" and "config" an image, and the media type, wherever it is given, must not contradict. */
#include <stdio.h>
#include <string.h>

#include "engine/image/manifest.h"
#include "proto/base/hash.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

#define DOCKER "application/vnd.docker."
#define OCI    "application/vnd.oci.image."

/* --- platforms ----------------------------------------------------------------------------------- */

static const struct {
    const char *from, *architecture, *variant; /* variant NULL: as given */
} architectures[] = {
    {"x86_64", "amd64", ""},
    {"x86-64", "amd64", ""},
    {"i386", "386", ""},
    {"i686", "386", ""},
    {"aarch64", "arm64", ""},
    {"armhf", "arm", "v7"},
    {"armel", "arm", "v6"},
    {"armv8l", "arm", "v8"},
    {"armv7l", "arm", "v7"},
    {"armv6l", "arm", "v6"},
    {"armv5tel", "arm", "v5"},
    {"amd64", "amd64", NULL},
    {"arm64", "arm64", NULL},
    {"arm", "arm", NULL},
    {"386", "386", NULL},
    {"ppc64le", "ppc64le", NULL},
    {"riscv64", "riscv64", NULL},
    {"s390x", "s390x", NULL},
    {"mips64le", "mips64le", NULL},
    {"loong64", "loong64", NULL},
    {"loongarch64", "loong64", ""},
};

/* Drop what says nothing: amd64's v1, arm64's v8; arm without a variant is v7. */
static void platform_normalise(struct platform *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(architectures); i++)
        if (strcmp(p->architecture, architectures[i].from) == 0) {
            p->architecture = architectures[i].architecture;
            if (architectures[i].variant && !*p->variant)
                p->variant = architectures[i].variant;
            break;
        }
    if (strcmp(p->architecture, "amd64") == 0 && strcmp(p->variant, "v1") == 0)
        p->variant = "";
    if (strcmp(p->architecture, "arm64") == 0 && (strcmp(p->variant, "v8") == 0 || strcmp(p->variant, "8") == 0))
        p->variant = "";
    if (strcmp(p->architecture, "arm") == 0) {
        if (!*p->variant || strcmp(p->variant, "7") == 0)
            p->variant = "v7";
        else if (strcmp(p->variant, "6") == 0)
            p->variant = "v6";
        else if (strcmp(p->variant, "5") == 0)
            p->variant = "v5";
    }
}

static bool platform_word_valid(const char *word)
{
    size_t length = strlen(word);

    return length > 0 && length <= 32 &&
           strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == length;
}

static char *lower(struct arena *a, const char *text)
{
    char *copy = arena_strdup(a, text);

    for (char *at = copy; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at + 32);
    return copy;
}

int platform_parse(const char *text, const struct platform *host, struct arena *a, struct platform *ret,
                   struct err *e)
{
    char *words[4] = {NULL}, *rest = lower(a, text);
    size_t count = 0;

    while (rest && count < ARRAY_SIZE(words))
        words[count++] = strsep(&rest, "/");
    for (size_t i = 0; i < count; i++)
        if (count > 3 || !platform_word_valid(words[i]))
            return err_set(e, ERR_INVALID, "invalid platform \"%.100s\": expected os[/arch[/variant]]", text);
    struct platform p = {host->os, host->architecture, ""};
    if (count > 1) {
        p = (struct platform){words[0], words[1], count > 2 ? words[2] : ""};
    } else if (strcmp(words[0], "linux") == 0 || strcmp(words[0], "windows") == 0 ||
               strcmp(words[0], "darwin") == 0 || strcmp(words[0], "freebsd") == 0) {
        p = (struct platform){words[0], host->architecture, host->variant};
    } else {
        p.architecture = words[0];
    }
    platform_normalise(&p);
    *ret = p;
    return 0;
}

struct platform platform_of_machine(const char *machine)
{
    struct platform p = {"linux", machine, ""};

    platform_normalise(&p);
    return p;
}

const char *platform_format(const struct platform *p, struct arena *a)
{
    return arena_printf(a, "%s/%s%s%s", p->os, p->architecture, *p->variant ? "/" : "", p->variant);
}

int platform_match(const struct platform *want, const struct platform *has)
{
    if (strcmp(want->os, has->os) != 0 || strcmp(want->architecture, has->architecture) != 0)
        return 0;
    if (strcmp(want->variant, has->variant) == 0)
        return 100;
    /* Variants of arm and amd64 are steps: what is built for a lower one runs on a higher one. */
    bool steps = strcmp(want->architecture, "arm") == 0 || strcmp(want->architecture, "amd64") == 0;
    unsigned wanted = 0, built = 0;
    if (steps && (!*want->variant || sscanf(want->variant, "v%u", &wanted) == 1) &&
        (!*has->variant || sscanf(has->variant, "v%u", &built) == 1) && built <= MIN(wanted, 50u))
        return 1 + (int)built;
    /* arm64's variants (v8.1...) only add to v8, which is written as none. */
    return strcmp(want->architecture, "arm64") == 0 && !*has->variant ? 1 : 0;
}

/* --- descriptors --------------------------------------------------------------------------------- */

static int read_platform(const json_t *object, const char *path, struct arena *a, struct descriptor *d,
                         struct err *e)
{
    json_t *platform = NULL;
    char *os = NULL, *architecture = NULL, *variant = NULL;
    int rc = jread_object(object, path, "platform", &platform, e);

    if (rc < 0 || !platform)
        return rc;
    rc = jread_string(platform, path, "os", a, &os, e);
    if (rc == 0)
        rc = jread_string(platform, path, "architecture", a, &architecture, e);
    if (rc == 0)
        rc = jread_string(platform, path, "variant", a, &variant, e);
    if (rc < 0 || !os || !architecture)
        return rc;
    d->has_platform = true;
    d->platform = (struct platform){os, architecture, variant ? variant : ""};
    platform_normalise(&d->platform);
    return 0;
}

static int read_annotations(const json_t *object, const char *path, struct arena *a, struct descriptor *d,
                            struct err *e)
{
    json_t *annotations = NULL;
    int rc = jread_object(object, path, "annotations", &annotations, e);

    if (rc < 0 || !annotations)
        return rc;
    /* Exact keys: these are no fields of ours. */
    const json_t *name = json_object_get(annotations, "io.containerd.image.name"),
                 *ref = json_object_get(annotations, "org.opencontainers.image.ref.name");
    if (json_is_string(name))
        d->image_name = arena_strdup(a, json_string_value(name));
    if (json_is_string(ref))
        d->ref_name = arena_strdup(a, json_string_value(ref));
    return 0;
}

static int read_descriptor(const json_t *object, const char *path, struct arena *a, struct descriptor *ret,
                           struct err *e)
{
    struct descriptor d = {.media_type = "", .size = -1};
    char *media_type = NULL, *digest = NULL;

    if (!json_is_object(object))
        return err_set(e, ERR_INVALID, "invalid manifest: %s is no object", path);
    int rc = jread_string(object, path, "mediaType", a, &media_type, e);
    if (rc == 0)
        rc = jread_string(object, path, "digest", a, &digest, e);
    if (rc == 0)
        rc = jread_int(object, path, "size", &d.size, e);
    if (rc == 0)
        rc = read_platform(object, path, a, &d, e);
    if (rc == 0)
        rc = read_annotations(object, path, a, &d, e);
    if (rc < 0)
        return err_wrap(e, "invalid manifest");
    if (!digest || !digest_valid(digest))
        return err_set(e, ERR_INVALID, "invalid manifest: %s.digest \"%.100s\" is no SHA-256 digest", path,
                       digest ? digest : "");
    if (d.size < 0)
        return err_set(e, ERR_INVALID, "invalid manifest: %s.size is absent or negative", path);
    d.media_type = media_type ? media_type : "";
    d.digest = digest;
    *ret = d;
    return 0;
}

static int read_descriptors(const json_t *root, const char *key, size_t max, struct arena *a, struct manifest *m,
                            struct err *e)
{
    json_t *array = NULL;
    int rc = jread_array(root, NULL, key, &array, e);

    if (rc < 0)
        return err_wrap(e, "invalid manifest");
    m->count = json_array_size(array);
    if (m->count > max)
        return err_set(e, ERR_LIMIT, "invalid manifest: %zu %s are more than the %zu allowed", m->count, key, max);
    m->entries = arena_array(a, m->count, sizeof(*m->entries));
    for (size_t i = 0; i < m->count; i++) {
        char path[64];

        snprintf(path, sizeof(path), "%s[%zu]", key, i);
        rc = read_descriptor(json_array_get(array, i), path, a, &m->entries[i], e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- manifests ----------------------------------------------------------------------------------- */

static bool one_of(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, list[i]) == 0)
            return true;
    return false;
}

static const char schema1[] = DOCKER "distribution.manifest.v1+";
static const char *const image_types[] = {DOCKER "distribution.manifest.v2+json", OCI "manifest.v1+json"};
static const char *const index_types[] = {DOCKER "distribution.manifest.list.v2+json", OCI "index.v1+json"};
static const char *const config_types[] = {DOCKER "container.image.v1+json", OCI "config.v1+json",
                                           "application/octet-stream", "application/json", ""};
static const char *const layer_types[] = {
    DOCKER "image.rootfs.diff.tar",
    DOCKER "image.rootfs.diff.tar.gzip",
    DOCKER "image.rootfs.diff.tar.zstd",
    DOCKER "image.rootfs.foreign.diff.tar.gzip",
    OCI "layer.v1.tar",
    OCI "layer.v1.tar+gzip",
    OCI "layer.v1.tar+zstd",
    OCI "layer.nondistributable.v1.tar",
    OCI "layer.nondistributable.v1.tar+gzip",
    OCI "layer.nondistributable.v1.tar+zstd",
    "",
};

static int refuse_schema1(struct err *e)
{
    return err_set(
        e, ERR_UNSUPPORTED,
        "the image is in Docker's manifest schema 1, which is no longer supported: ask its author to push it "
        "as schema 2 or OCI");
}

static int read_image(const json_t *root, struct arena *a, struct manifest *m, struct err *e)
{
    int rc = read_descriptor(jread_get(root, "config"), "config", a, &m->config, e);

    if (rc < 0)
        return rc;
    if (!one_of(m->config.media_type, config_types, ARRAY_SIZE(config_types)))
        return err_set(e, ERR_UNSUPPORTED, "this is no container image: its config is of type \"%.100s\"",
                       m->config.media_type);
    if ((uint64_t)m->config.size > MANIFEST_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "invalid manifest: config.size %lld is more than the %zu bytes allowed",
                       (long long)m->config.size, MANIFEST_BYTES_MAX);
    rc = read_descriptors(root, "layers", MANIFEST_LAYERS_MAX, a, m, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < m->count; i++)
        if (!one_of(m->entries[i].media_type, layer_types, ARRAY_SIZE(layer_types)))
            return err_set(e, ERR_UNSUPPORTED, "layers[%zu] is of type \"%.100s\", which is not supported", i,
                           m->entries[i].media_type);
    return 0;
}

int manifest_parse(const char *json, size_t length, const char *content_type, struct arena *a, struct manifest *ret,
                   struct err *e)
{
    AUTO_JSON
    json_t *root = NULL;
    char *said = NULL;
    int64_t schema = 2;
    struct manifest m = {0};

    if (content_type && strncmp(content_type, schema1, strlen(schema1)) == 0)
        return refuse_schema1(e);
    if (length > MANIFEST_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "invalid manifest: %zu bytes are more than the %zu allowed", length,
                       MANIFEST_BYTES_MAX);
    int rc = jread_parse(json, length, &root, e);
    if (rc < 0)
        return err_wrap(e, "invalid manifest");
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "invalid manifest: no JSON object");
    rc = jread_int(root, NULL, "schemaVersion", &schema, e);
    if (rc == 0)
        rc = jread_string(root, NULL, "mediaType", a, &said, e);
    if (rc < 0)
        return err_wrap(e, "invalid manifest");
    if (schema == 1)
        return refuse_schema1(e);
    if (schema != 2)
        return err_set(e, ERR_UNSUPPORTED, "invalid manifest: schemaVersion %lld is not supported",
                       (long long)schema);
    bool index = jread_get(root, "manifests"), image = jread_get(root, "layers") || jread_get(root, "config");
    const char *type = said ? said : content_type;
    /* A document that could be read both ways would be another image to somebody else. */
    if (index == image)
        return err_set(e, ERR_INVALID, "invalid manifest: it has %s of manifests and layers",
                       index ? "both" : "none");
    bool contradicts = said && (index ? !one_of(said, index_types, ARRAY_SIZE(index_types))
                                      : !one_of(said, image_types, ARRAY_SIZE(image_types)));
    contradicts |= content_type && (one_of(content_type, index_types, ARRAY_SIZE(index_types))   ? !index
                                    : one_of(content_type, image_types, ARRAY_SIZE(image_types)) ? index
                                                                                                 : false);
    if (contradicts)
        return err_set(e, ERR_INVALID, "invalid manifest: mediaType \"%.100s\" contradicts its contents", type);
    m.kind = index ? MANIFEST_INDEX : MANIFEST_IMAGE;
    m.media_type = type && *type ? arena_strdup(a, type) : index ? OCI "index.v1+json" : OCI "manifest.v1+json";
    rc = index ? read_descriptors(root, "manifests", MANIFEST_ENTRIES_MAX, a, &m, e) : read_image(root, a, &m, e);
    if (rc == 0)
        *ret = m;
    return rc;
}

const struct descriptor *manifest_choose(const struct manifest *index, const struct platform *want)
{
    const struct descriptor *best = NULL, *unnamed = NULL;
    int best_match = 0;

    for (size_t i = 0; i < index->count; i++) {
        const struct descriptor *d = &index->entries[i];
        int match = d->has_platform ? platform_match(want, &d->platform) : 0;

        /* Other media types are artifacts beside the image, e.g. its signature. */
        if (*d->media_type && !one_of(d->media_type, image_types, ARRAY_SIZE(image_types)) &&
            !one_of(d->media_type, index_types, ARRAY_SIZE(index_types)))
            continue;
        if (match > best_match) {
            best = d;
            best_match = match;
        }
        if (!d->has_platform && !unnamed)
            unnamed = d;
    }
    return best ? best : unnamed;
}

/* --- docker save --------------------------------------------------------------------------------- */

static int read_archive_image(const json_t *object, const char *path, struct arena *a, struct archive_image *ret,
                              struct err *e)
{
    struct archive_image image = {0};
    char *config = NULL;

    if (!json_is_object(object))
        return err_set(e, ERR_INVALID, "%s is no object", path);
    int rc = jread_string(object, path, "Config", a, &config, e);
    if (rc == 0)
        rc = jread_strings(object, path, "Layers", a, (char ***)&image.layers, &image.layer_count, e);
    if (rc == 0)
        rc = jread_strings(object, path, "RepoTags", a, (char ***)&image.tags, &image.tag_count, e);
    if (rc < 0)
        return rc;
    if (!config || !*config)
        return err_set(e, ERR_INVALID, "%s names no Config", path);
    if (image.layer_count > MANIFEST_LAYERS_MAX || image.tag_count > MANIFEST_ENTRIES_MAX)
        return err_set(e, ERR_LIMIT, "%s has too many layers or tags", path);
    image.config = config;
    *ret = image;
    return 0;
}

int archive_parse(const char *json, size_t length, struct arena *a, struct archive_image **ret, size_t *ret_count,
                  struct err *e)
{
    AUTO_JSON
    json_t *root = NULL;
    int rc = jread_parse(json, length, &root, e);

    if (rc == 0 && !json_is_array(root))
        rc = err_set(e, ERR_INVALID, "it is no JSON array");
    if (rc == 0 && json_array_size(root) > MANIFEST_IMAGES_MAX)
        rc = err_set(e, ERR_LIMIT, "%zu images are more than the %d allowed", json_array_size(root),
                     MANIFEST_IMAGES_MAX);
    if (rc < 0)
        return err_wrap(e, "manifest.json");
    size_t count = json_array_size(root);
    struct archive_image *images = arena_array(a, count, sizeof(*images));
    for (size_t i = 0; i < count; i++) {
        char path[32];

        snprintf(path, sizeof(path), "[%zu]", i);
        rc = read_archive_image(json_array_get(root, i), path, a, &images[i], e);
        if (rc < 0)
            return err_wrap(e, "manifest.json");
    }
    *ret = images;
    *ret_count = count;
    return 0;
}
