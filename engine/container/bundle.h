/* From a container's record and its image to a launch plan: pure (DESIGN.md section 7).
 *
 * Everything the sandbox defaults of reference/engine-surface.md section 4 and the resources of section 5 ask for
 * is decided here and only here: which namespaces, mounts, masks, devices, capabilities, limits, in which order.
 * Opening layers, volumes and bind sources is the caller's; the plan names them by position in the list of
 * descriptors. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"
#include "proto/launch.pb-c.h"

struct bundle_kernel {     /* what this machine offers */
    bool cgroup_v2[16];    /* by enum bundle_controller: its controller is on the v2 tree */
    bool cgroup_there[16]; /* the controller exists at all */
    /* which mount it is on: equal numbers are mounted together (cpu and cpuacct often are) */
    uint8_t cgroup_mount[16];
    unsigned processors;
    uint64_t capabilities; /* known to the kernel */
    bool mqueue;
};

enum bundle_controller {
    BUNDLE_CPU,
    BUNDLE_CPUACCT,
    BUNDLE_CPUSET,
    BUNDLE_MEMORY,
    BUNDLE_PIDS,
    BUNDLE_DEVICES,
    BUNDLE_FREEZER,
    BUNDLE_BLKIO,
    BUNDLE_CONTROLLERS,
};

struct bundle_device { /* one the caller has found on the host (--device, or all of /dev for a privileged container)
                        */
    const char *path;  /* in the container */
    bool block;
    uint32_t major, minor;
    uint32_t mode, uid, gid; /* of the node; mode 0 is 0666 */
    const char *access;      /* of "rwm" */
};

struct bundle_in {
    const ContainerRecord *record;
    const struct bundle_kernel *kernel;
    unsigned layers;        /* descriptors 0 .. layers-1 are the lower directories, topmost first, base last */
    unsigned upper, work;   /* positions */
    const unsigned *mounts; /* position of record->mounts[i]'s detached mount; unused for tmpfs */
    const bool *mount_is_directory;
    const bool *mount_copy_up;             /* an empty volume: copy the image's files first */
    unsigned resolv_conf, hostname, hosts; /* positions of the three files' detached mounts; UINT_MAX: none */
    unsigned seccomp;                      /* position of the program; UINT_MAX: none */
    unsigned log_directory;                /* position; UINT_MAX: none */
    const char *id;
    const struct bundle_device *devices;
    size_t device_count;
};

/* The recipe (of a sandbox with these namespaces and defaults) and the plan, in the arena. Validation that needs no
 * disk happens here too: unknown capabilities, signals, ulimits, sysctls outside the namespaces, conflicting
 * limits, with the field and value in the error. */
int bundle_make(const struct bundle_in *in, struct arena *a, LaunchPlan **ret_plan, struct err *e);

/* The recipe of a container without special wishes, to be kept warm. */
Recipe *bundle_default_recipe(const struct bundle_kernel *kernel, struct arena *a);

/* Check what a client asks for at create, before anything is made. `warnings` (in the arena, NULL-terminated) lists
 * what is accepted but has no effect here. */
int bundle_check(const ContainerConfig *config, const struct bundle_kernel *kernel, struct arena *a,
                 char ***ret_warnings, struct err *e);

/* The recipe a container's configuration asks for (mount targets that replace parts of it included), in the arena.
 */
int bundle_recipe(const ContainerRecord *record, const struct bundle_kernel *kernel, struct arena *a, Recipe **ret,
                  struct err *e);

/* Which seccomp program it needs: none at all, or that of a profile (JSON text; NULL: the default one). */
int bundle_seccomp(const HostConfig *host, bool *ret_none, const char **ret_profile, struct err *e);

/* Which capabilities a container gets: defaults, add, drop, ALL, privileged. Names with or without CAP_, any case.
 */
int bundle_capabilities(const HostConfig *host, uint64_t known, uint64_t *ret_mask, struct err *e);
