/* See images.h. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base/mem.h"
#include "tests/support/images.h"
#include "tests/support/tarball.h"

#define OCI "application/vnd.oci.image."

void made_layer_tar(struct made *m, const struct buf *tar, const char *filter)
{
    unsigned i = m->count++;

    if (i >= MADE_LAYERS)
        abort();
    tar_digest(tar, m->diff_ids[i]);
    if (filter)
        tar_compress(tar, filter, &m->layers[i]);
    else
        buf_append(&m->layers[i], buf_bytes(tar), tar->length);
    tar_digest(&m->layers[i], m->digests[i]);
}

void made_layer(struct made *m, const char *name, const char *content, const char *filter)
{
    struct buf tar = {0};

    TAR(&tar, .name = name, .data = content);
    tar_close(&tar);
    made_layer_tar(m, &tar, filter);
    buf_fini(&tar);
}

void made_finish(struct made *m, const char *architecture, const char *extra)
{
    buf_printf(
        &m->config,
        "{%s\"architecture\":\"%s\",\"os\":\"linux\",\"created\":\"2024-01-02T03:04:05Z\",\"config\":{\"Env\":"
        "[\"PATH=/bin\"],\"Cmd\":[\"/bin/sh\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
        extra ? extra : "", architecture ? architecture : "amd64");
    for (unsigned i = 0; i < m->count; i++)
        buf_printf(&m->config, "%s\"%s\"", i ? "," : "", m->diff_ids[i]);
    buf_append_str(&m->config, "]}}");
    tar_digest(&m->config, m->id);
    buf_printf(&m->manifest,
               "{\"schemaVersion\":2,\"mediaType\":\"" OCI "manifest.v1+json\",\"config\":{\"mediaType\":\"" OCI
               "config.v1+json\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
               m->id, m->config.length);
    for (unsigned i = 0; i < m->count; i++)
        buf_printf(&m->manifest, "%s{\"mediaType\":\"" OCI "layer.v1.tar\",\"digest\":\"%s\",\"size\":%zu}",
                   i ? "," : "", m->digests[i], m->layers[i].length);
    buf_append_str(&m->manifest, "]}");
    tar_digest(&m->manifest, m->manifest_digest);
}

void made_fini(struct made *m)
{
    for (unsigned i = 0; i < m->count; i++)
        buf_fini(&m->layers[i]);
    buf_fini(&m->config);
    buf_fini(&m->manifest);
}

/* --- archives ------------------------------------------------------------------------------------ */

static void add_file(struct buf *tar, const char *name, const struct buf *b)
{
    TAR(tar, .name = name, .data = buf_bytes(b), .size = b->length);
}

void archive_docker(struct buf *tar, const struct made *const *images, const char *const *tags, unsigned count)
{
    struct buf manifest = {0};
    char name[100];

    buf_append_str(&manifest, "[");
    for (unsigned i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%s.json", images[i]->id + 7);
        add_file(tar, name, &images[i]->config);
        buf_printf(&manifest, "%s{\"Config\":\"%s\",\"RepoTags\":%s,\"Layers\":[", i ? "," : "", name, tags[i]);
        for (unsigned k = 0; k < images[i]->count; k++) {
            snprintf(name, sizeof(name), "%u-%u/layer.tar", i, k);
            add_file(tar, name, &images[i]->layers[k]);
            buf_printf(&manifest, "%s\"%s\"", k ? "," : "", name);
        }
        buf_append_str(&manifest, "]}");
    }
    buf_append_str(&manifest, "]");
    add_file(tar, "manifest.json", &manifest);
    tar_close(tar);
    buf_fini(&manifest);
}

static void add_blob(struct buf *tar, const char *digest, const struct buf *b)
{
    char name[100];

    snprintf(name, sizeof(name), "blobs/sha256/%s", digest + 7);
    add_file(tar, name, b);
}

void archive_oci(struct buf *tar, const struct made *const *images, const char *const *names, unsigned count)
{
    struct buf index = {0};

    TAR(tar, .name = "oci-layout", .data = "{\"imageLayoutVersion\":\"1.0.0\"}");
    buf_append_str(&index, "{\"schemaVersion\":2,\"manifests\":[");
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&index, "%s{\"mediaType\":\"" OCI "manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu",
                   i ? "," : "", images[i]->manifest_digest, images[i]->manifest.length);
        if (names[i])
            buf_printf(&index, ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"%s\"}", names[i]);
        buf_append_str(&index, "}");
        add_blob(tar, images[i]->manifest_digest, &images[i]->manifest);
        add_blob(tar, images[i]->id, &images[i]->config);
        for (unsigned k = 0; k < images[i]->count; k++)
            add_blob(tar, images[i]->digests[k], &images[i]->layers[k]);
    }
    buf_append_str(&index, "]}");
    add_file(tar, "index.json", &index);
    tar_close(tar);
    buf_fini(&index);
}

/* --- registries ---------------------------------------------------------------------------------- */

static void shelf_blob(struct shelf *s, const char *digest, const struct buf *bytes)
{
    if (s->blob_count == SHELF_MAX)
        abort();
    snprintf(s->blobs[s->blob_count].digest, 72, "%s", digest);
    s->blobs[s->blob_count++].bytes = bytes;
}

static void shelf_name(struct shelf *s, const char *repository, char sign, const char *what,
                       const struct buf *bytes, const char *type)
{
    if (s->manifest_count == SHELF_MAX || strlen(repository) > 7)
        abort();
    snprintf(s->manifests[s->manifest_count].name, 80, "%.8s%c%s", repository, sign, what);
    s->manifests[s->manifest_count].bytes = bytes;
    s->manifests[s->manifest_count++].type = type;
}

void shelf_manifest(struct shelf *s, const char *repository, const char *tag, const struct buf *bytes,
                    const char *type)
{
    char digest[72];

    tar_digest(bytes, digest);
    shelf_name(s, repository, ':', tag, bytes, type);
    shelf_name(s, repository, '@', digest, bytes, type);
}

void shelf_image(struct shelf *s, const struct made *m, const char *repository, const char *tag)
{
    for (unsigned i = 0; i < m->count; i++)
        shelf_blob(s, m->digests[i], &m->layers[i]);
    shelf_blob(s, m->id, &m->config);
    shelf_manifest(s, repository, tag, &m->manifest, OCI "manifest.v1+json");
}

static void answer_blob(struct exchange *x, const struct shelf *s, const struct buf *b)
{
    if (s->slow_us == 0) {
        answer_range(x, buf_bytes(b), b->length);
        return;
    }
    const struct timespec pause = {.tv_sec = s->slow_us / 1000000, .tv_nsec = (long)(s->slow_us % 1000000) * 1000};
    answer_slowly(x, buf_bytes(b), b->length, &pause);
}

void shelf_answer(struct exchange *x, void *ctx)
{
    const struct shelf *s = ctx;
    char repository[64], kind[16], what[100], wanted[200], headers[200];

    if (strcmp(x->path, "/v2/") == 0) {
        answer_text(x, 200, "", "{}");
        return;
    }
    if (sscanf(x->path, "/v2/%63[^/]/%15[^/]/%99s", repository, kind, what) == 3) {
        for (unsigned i = 0; strcmp(kind, "blobs") == 0 && i < s->blob_count; i++)
            if (strcmp(s->blobs[i].digest, what) == 0) {
                answer_blob(x, s, s->blobs[i].bytes);
                return;
            }
        snprintf(wanted, sizeof(wanted), "%s%c%s", repository, strchr(what, ':') ? '@' : ':', what);
        for (unsigned i = 0; strcmp(kind, "manifests") == 0 && i < s->manifest_count; i++)
            if (strcmp(s->manifests[i].name, wanted) == 0) {
                snprintf(headers, sizeof(headers), "Content-Type: %s\r\n", s->manifests[i].type);
                answer(x, 200, headers, buf_bytes(s->manifests[i].bytes), s->manifests[i].bytes->length);
                return;
            }
    }
    answer_text(x, 404, "", "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}");
}
