/* What a container runs, from what was asked and what its image says (reference/engine-surface.md section 2): pure.
 */
#pragma once

#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

struct merged {
    ContainerConfig *config; /* as `inspect` shows it: the user's values, filled up from the image */
    char **argv;             /* entry point and command */
    size_t argc;             /* at least 1 */
    char **env;              /* of the process, without HOME */
    size_t env_count;
};

/* Everything in *ret lives in the arena and may borrow from `asked` and `image`. `hostname` is the container's.
 * Fails with ERR_INVALID when there is nothing to run or the working directory is not absolute. */
int config_merge(const ContainerConfig *asked, const ImageConfig *image, const char *hostname, struct arena *a,
                 struct merged *ret, struct err *e);

/* The value for `key` in a sorted list, or NULL; a key without value gives "". */
const char *key_value_get(KeyValue *const *list, size_t count, const char *key);
