/* What this machine's cgroup controllers are: each found by itself, on version 1, version 2 or both (hybrid).
 *
 * Used by shoald, to compile plans and to find statistics, and by the keeper, which makes the groups. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/container/bundle.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

#define CGROUP_MOUNTS 16

struct cgroup_mount {
    char *path;           /* where it is mounted */
    bool v2;              /* the unified tree */
    uint16_t controllers; /* used here: bit per enum bundle_controller; 0: we have no business there */
};

struct cgroup_layout {
    struct cgroup_mount mounts[CGROUP_MOUNTS];
    unsigned count;
    int8_t of[BUNDLE_CONTROLLERS]; /* index of the mount a controller is on; -1: it does not exist */
};

/* The name of a controller: "cpu", "memory"; on version 2 blkio is called "io". */
const char *cgroup_name(enum bundle_controller controller);
/* The controller with this name ("io" is blkio); -1 when there is none. */
int cgroup_controller(const char *name);

/* Read the running machine. */
int cgroup_layout_read(struct cgroup_layout *ret, struct err *e);

/* From the text of a mountinfo; for each version 2 tree `controllers` is asked for the text of its
 * cgroup.controllers ("" when unknown). */
int cgroup_layout_parse(char *mountinfo, void (*controllers)(void *ctx, const char *path, struct buf *ret),
                        void *ctx, struct cgroup_layout *ret, struct err *e);
void cgroup_layout_fini(struct cgroup_layout *l);

/* Fill in what a plan needs to know of this machine: everything of struct bundle_kernel. */
int cgroup_kernel(const struct cgroup_layout *l, struct bundle_kernel *ret, struct err *e);

/* Path of a group ("/shoal-x/4f5c") under a controller; NULL when it is not there. free() it. */
char *cgroup_path(const struct cgroup_layout *l, enum bundle_controller controller, const char *group);

/* "" or names between single slashes, none of them beginning with a dot: such a path stays below the group it is
 * put to. */
bool cgroup_path_is_tame(const char *path);
