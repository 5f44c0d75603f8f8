/* Which mounts a container gets: -v, --mount, --tmpfs, --volumes-from and the volumes of its image become one list
 * (reference/engine-surface.md section 14). Pure: the caller makes the volumes and looks at the sources. */
#pragma once

#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

#define MOUNTS_MAX 200 /* per container; each costs a descriptor of a launch */

struct mounts_from { /* one --volumes-from, resolved */
    const ContainerRecord *record;
    const char *mode; /* "ro", "rw" or NULL */
};

struct mounts {
    MountPoint **points; /* parents before what lies below them */
    size_t count;
    char **warnings; /* accepted without effect */
    size_t warning_count;
};

/* Resolve. `config` is merged (merge.h). Of a volume `source` is left empty, and of an anonymous one `volume` too.
 * Everything lives in the arena and may borrow from the arguments. ERR_INVALID names field and value. */
int mounts_resolve(const ContainerConfig *config, const struct mounts_from *from, size_t from_count,
                   struct arena *a, struct mounts *ret, struct err *e);

/* Split "container[:mode]" of --volumes-from. */
int mounts_from_parse(const char *text, struct arena *a, const char **ret_container, const char **ret_mode,
                      struct err *e);
