/* Sizes of directories for answers that show them; measured one after the other, off the loop. */
#pragma once

#include "engine/api/api.h"

struct sizes_entry {
    char *name;    /* of the container or volume */
    int64_t bytes; /* in it; -1: gone, or it could not be looked at */
    int (*open)(struct engine *en, const char *name);
};

bool sizes_is_container(const struct sizes_entry *entry);

struct sizes; /* what is to be measured for a call */

struct sizes *sizes_new(struct api_call *c);

/* A container's own layer by id, a volume's files by name. */
void sizes_add_container(struct sizes *s, const char *id);
void sizes_add_volume(struct sizes *s, const char *name);

/* Measure all, then call `done` (also with none), unless the client leaves before. The entries are in the order in
 * which they were added, borrowed during done. The call is held meanwhile. */
void sizes_start(struct sizes *s,
                 void (*done)(struct api_call *c, const struct sizes_entry *entries, size_t count));
