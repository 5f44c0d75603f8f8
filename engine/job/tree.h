/* A layer's directory, written entry by entry (layer.h) as an overlayfs lower directory.
 *
 * Every path is resolved from the root descriptor with openat2(RESOLVE_BENEATH): a link met on the way is followed
 * only while it stays beneath the root, the last component never. Whiteouts become character devices 0:0. Opaque
 * directories are told to `on_opaque`, because marking them needs a privilege the caller may not want here. */
#pragma once

#include "engine/job/layer.h"
#include "proto/base/err.h"

struct tree;

/* Begin in the empty directory root_fd (borrowed). on_opaque may come more than once for a directory, before or
 * after its content. */
struct tree *tree_new(int root_fd, int (*on_opaque)(void *ctx, const char *path, struct err *e), void *ctx);
void tree_free(struct tree *t);

/* The sink to read a layer into. Progress is left empty. */
struct layer_sink tree_sink(struct tree *t);

/* All entries are there: set what content would have changed (times of directories). */
int tree_finish(struct tree *t, struct err *e);
