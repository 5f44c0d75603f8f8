/* Manifests, indexes and archives of images as data: which blobs an image is made of, for which platform. No disk,
 * no network. Everything comes from outside: what cannot be used is refused with the field and the value. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

#define MANIFEST_BYTES_MAX   ((size_t)4 << 20) /* of a manifest, an index or a config */
#define MANIFEST_LAYERS_MAX  500               /* the kernel takes so many lower directories */
#define MANIFEST_ENTRIES_MAX 1000              /* of an index */
#define MANIFEST_IMAGES_MAX  1000              /* in one archive */

struct platform {                            /* as Go names them: "linux", "amd64", "v7" */
    const char *os, *architecture, *variant; /* variant "" when there is none */
};

/* "os[/arch[/variant]]" or "arch", as --platform takes it, normalised. What is absent comes from `host`. */
int platform_parse(const char *text, const struct platform *host, struct arena *a, struct platform *ret,
                   struct err *e);

/* The platform of a machine that calls itself `machine` (uname -m). */
struct platform platform_of_machine(const char *machine);

/* "linux/arm/v7" into the arena. */
const char *platform_format(const struct platform *p, struct arena *a);

/* Whether something built for `has` runs where `want` is wanted: 0 no, else the higher the better. */
int platform_match(const struct platform *want, const struct platform *has);

struct descriptor {
    const char *media_type; /* "" when absent */
    const char *digest;     /* a valid one */
    int64_t size;
    bool has_platform;
    struct platform platform;
    const char *image_name; /* annotations of layouts: io.containerd.image.name, */
    const char *ref_name;   /* and org.opencontainers.image.ref.name; NULL when absent */
};

enum manifest_kind { MANIFEST_IMAGE, MANIFEST_INDEX };

struct manifest { /* in an arena */
    enum manifest_kind kind;
    const char *media_type;
    struct descriptor config;   /* of an image */
    struct descriptor *entries; /* layers, lowest first, or the manifests of an index */
    size_t count;
};

/* Parse one. `content_type` is what the registry called it, or NULL. Schema 1 is refused by name, and so is an
 * artifact that is no container image. */
int manifest_parse(const char *json, size_t length, const char *content_type, struct arena *a, struct manifest *ret,
                   struct err *e);

/* The manifest of an index that suits best; NULL when none does. */
const struct descriptor *manifest_choose(const struct manifest *index, const struct platform *want);

struct archive_image {  /* one entry of docker save's manifest.json */
    const char *config; /* member's name */
    const char **layers;
    size_t layer_count;
    const char **tags;
    size_t tag_count;
};

/* Parse docker save's manifest.json. */
int archive_parse(const char *json, size_t length, struct arena *a, struct archive_image **ret, size_t *ret_count,
                  struct err *e);
