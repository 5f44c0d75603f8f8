/* `shoal-job unpack` on bytes made by a test. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

struct unpack_how { /* zero: a sensible value, or not given */
    const char *digest, *diff_id;
    uint64_t bytes_max, files_max;
    unsigned depth_max;
    bool complete;
};

struct unpacked {
    int status;       /* of the process */
    struct err error; /* what it told; empty when it did not fail */
    bool done;        /* it told a result */
    char digest[72], diff_id[72];
    uint64_t size_bytes, files;
    bool opaque_root;
};

/* Unpack into the directory `path`. `how` may be NULL. */
void unpack_run(const struct buf *blob, const char *path, const struct unpack_how *how, struct unpacked *ret);
