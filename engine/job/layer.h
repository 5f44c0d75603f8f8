/* The entries of a layer's tar archive, checked and in plain terms, without touching a disk.
 *
 * What an archive may not do is refused here, with the entry's name and the reason: paths that lead upwards, names
 * and links that are too long, too many or too large files, owners and devices out of range, entries of unknown
 * kind. Where the bytes go is the sink's business (tree.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/job/source.h"
#include "proto/base/err.h"

#define LAYER_PATH_MAX    4095  /* bytes of a path or of what a link says */
#define LAYER_NAME_MAX    255   /* bytes of one name in it */
#define LAYER_DEVICES_MAX 4096  /* device nodes in one layer */
#define LAYER_XATTR_MAX   65536 /* bytes of one extended attribute */

enum layer_kind {
    LAYER_FILE,
    LAYER_DIRECTORY,
    LAYER_SYMLINK,
    LAYER_HARDLINK,
    LAYER_CHARACTER,
    LAYER_BLOCK,
    LAYER_FIFO,
    LAYER_WHITEOUT, /* hides `path` of the layers below */
    LAYER_OPAQUE,   /* the directory `path` hides everything below it in lower layers */
};

struct layer_xattr {
    const char *name;
    const void *value;
    size_t size;
};

struct layer_entry { /* borrowed until the sink returns */
    enum layer_kind kind;
    const char
        *path; /* "usr/bin/sh"; "" is the layer's own directory; no ".", "..", empty name, or slash at an end */
    const char *link; /* symlink: what it says; hard link: a path as above */
    mode_t mode;      /* permission bits, with set-id and sticky */
    uid_t uid;
    gid_t gid;
    int64_t mtime_s;
    long mtime_ns;
    uint64_t size; /* of a file */
    unsigned device_major, device_minor;
    const struct layer_xattr *xattrs; /* security.capability and user.* only */
    size_t xattr_count;
};

struct layer_sink {
    void *ctx;
    int (*entry)(void *ctx, const struct layer_entry *entry, struct err *e);
    int (*data)(void *ctx, uint64_t offset, const void *data, size_t size, struct err *e); /* of the last file */
    int (*end)(void *ctx, struct err *e);                                                  /* of the last file */
    void (*progress)(void *ctx);                                                           /* often; may be NULL */
    void *progress_ctx;
};

struct layer_limits {
    uint64_t bytes_max; /* of all files together */
    uint64_t files_max; /* entries of any kind */
    unsigned depth_max; /* directories within directories */
};

struct layer_totals {
    uint64_t size_bytes;
    uint64_t files;
    bool opaque_root;
};

/* Read all entries. The source is not read to its end (source_finish does that). */
int layer_read(struct source *source, const struct layer_limits *limits, const struct layer_sink *sink,
               struct layer_totals *ret, struct err *e);

/* Clean a path of an archive: leading "/" and "./", doubled slashes and a final slash go; ".." is refused. `into`
 * has room for LAYER_PATH_MAX + 1 bytes. The error does not name the path. */
int layer_path(const char *raw, unsigned depth_max, char *into, struct err *e);

/* A name for messages: quoted, control bytes as \xNN, cut when long. */
#define LAYER_SHOWN 200
const char *layer_show(const char *raw, char into[LAYER_SHOWN]);
