/* Control groups of sandboxes: made, joined, limited and removed alike on version 1, version 2 and hybrids.
 *
 * A group has one path ("/shoal-x/4f5c") below the root of every mount that engine/container/cgroup.h says we use.
 * Functions that take descriptors work without any path, so a child may go on setting limits after it has left the
 * host's mounts. */
#pragma once

#include <stdbool.h>

#include "engine/container/cgroup.h"
#include "proto/launch.pb-c.h"

struct group_dirs {
    int fds[CGROUP_MOUNTS]; /* directory per mount of the layout; -1 where there is none */
};

#define GROUP_NO_DIRS(d)                                \
    do {                                                \
        for (unsigned i_ = 0; i_ < CGROUP_MOUNTS; i_++) \
            (d)->fds[i_] = -1;                          \
    } while (0)

/* Make a group that will hold groups: every missing part of `path`, controllers passed on to what is below. */
int group_base(const struct cgroup_layout *l, const char *path, struct err *e);

/* Make a group below a base and open it. It must not exist. */
int group_make(const struct cgroup_layout *l, const char *path, struct group_dirs *ret, struct err *e);

/* Move the calling process into it. Blocks for milliseconds on an idle version 1 machine. */
int group_join(const struct cgroup_layout *l, const struct group_dirs *dirs, struct err *e);

/* Write a value. ERR_UNSUPPORTED when the controller or the file does not exist here. */
int group_set(const struct cgroup_layout *l, const struct group_dirs *dirs, const char *controller,
              const char *file, const char *value, struct err *e);

/* Allow exactly these devices (StepDevices). */
int group_devices(const struct cgroup_layout *l, const struct group_dirs *dirs, const StepDevices *devices,
                  struct err *e);

void group_close(struct group_dirs *dirs);

/* Whether the kernel killed something in the group for lack of memory. */
bool group_oom_killed(const struct cgroup_layout *l, const char *path);

/* Kill whatever is still in the group and remove it with what is below it. ERR_CONFLICT: something is still dying,
 * call again later. An absent group is fine. Blocks like group_join. */
int group_remove(const struct cgroup_layout *l, const char *path, struct err *e);

/* Show every group below `path`, in each mount, parents first. True from `visit`: show what is below that one too.
 */
void group_walk(const struct cgroup_layout *l, const char *path, bool (*visit)(void *ctx, const char *path),
                void *ctx);

/* Remove a base and the empty groups below it; what is not empty stays, with what is above it. */
void group_base_remove(const struct cgroup_layout *l, const char *path);

/* The program of a version 2 group for these rules: struct bpf_insn (linux/bpf.h) in an allocated array. */
struct bpf_insn *device_program(const StepDevices *devices, unsigned *ret_count);
