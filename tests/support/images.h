/* Images made in memory: layers, config and manifest, and the archives and registries that hold them. */
#pragma once

#include "proto/base/buf.h"
#include "tests/support/registry.h"

#define MADE_LAYERS 8

struct made {                       /* one image */
    struct buf layers[MADE_LAYERS]; /* as they lie there: plain or compressed */
    char diff_ids[MADE_LAYERS][72], digests[MADE_LAYERS][72];
    unsigned count;
    struct buf config, manifest;
    char id[72], manifest_digest[72];
};

/* Add a layer with one file `name` of that content; `filter` NULL: not compressed. */
void made_layer(struct made *m, const char *name, const char *content, const char *filter);
/* Add a layer of these bytes. */
void made_layer_tar(struct made *m, const struct buf *tar, const char *filter);
/* All layers are there: write config and manifest. `architecture` NULL: amd64's. `extra` goes into the config's
 * JSON
 * ("\"author\":\"joe\","), NULL for none. */
void made_finish(struct made *m, const char *architecture, const char *extra);
void made_fini(struct made *m);

/* docker save's form: layers as <n>/layer.tar, manifest.json last. `tags` is JSON ("[\"web:1\"]" or "null"). */
void archive_docker(struct buf *tar, const struct made *const *images, const char *const *tags, unsigned count);
/* An OCI layout; `name` becomes the annotation org.opencontainers.image.ref.name (NULL: none). */
void archive_oci(struct buf *tar, const struct made *const *images, const char *const *names, unsigned count);

/* What a registry serves: blobs by digest, manifests by tag and digest. */
#define SHELF_MAX 32
struct shelf {
    struct {
        char digest[72];
        const struct buf *bytes;
    } blobs[SHELF_MAX];
    unsigned blob_count;
    struct {
        char name[80]; /* "repository:tag" or "repository@digest" */
        const struct buf *bytes;
        const char *type;
    } manifests[SHELF_MAX];
    unsigned manifest_count;
    unsigned slow_us; /* before each 16 KiB of a blob */
};

void shelf_image(struct shelf *s, const struct made *m, const char *repository, const char *tag);
void shelf_manifest(struct shelf *s, const char *repository, const char *tag, const struct buf *bytes,
                    const char *type);

/* Serve a shelf (ctx) as a good registry does. */
void shelf_answer(struct exchange *x, void *ctx);
