/* What an uploaded archive of images means: which files of it are configs, manifests and layers of which images.
 * Internal to engine/image; nothing is stored here. */
#pragma once

#include "engine/image/manifest.h"
#include "proto/base/buf.h"
#include "proto/base/map.h"
#include "proto/container.pb-c.h"
#include "proto/job.pb-c.h"

struct archive_member { /* one file or link of the archive, in an arena */
    const char *name;
    unsigned file; /* its number in the directory */
    uint64_t size;
    const char *digest; /* NULL: a link */
    const char *link;
};

struct archive_layer {
    const char *diff_id;
    const struct archive_member *member;
};

struct archive_found {                     /* one image, in an arena */
    const char *id;                        /* digest of its config */
    struct buf config_json, manifest_json; /* owned; the latter empty for docker save */
    const char *manifest_digest;           /* NULL for docker save */
    const ImageConfig *config;
    struct archive_layer *layers; /* lowest first */
    size_t layer_count;
    const char **tags; /* full names */
    size_t tag_count;
};

struct archive {
    struct arena *arena; /* borrowed */
    int dir_fd;          /* of the members' files */
    struct platform host;
    struct map members; /* name -> struct archive_member */
    struct archive_found **images;
    size_t count;
    size_t json_bytes; /* read so far */
};

/* Note a member that the spool job told. */
int archive_add(struct archive *ar, const SpoolMember *m, struct err *e);

/* All members are known: read what they mean. Files are read as far as they are JSON. */
int archive_read(struct archive *ar, struct err *e);

void archive_fini(struct archive *ar);
