/* The launch child: from clone to exec. It builds a sandbox from a recipe, waits for a plan, makes the sandbox the
 * plan's container and becomes its program. It runs in a copy of the keeper's memory, alone in its namespaces, and
 * nothing of a container runs before its last instruction.
 *
 * It talks to the keeper over one SEQPACKET channel, in packets that begin with a letter. Keepers of later versions
 * must go on understanding these, since a child may be under way when its keeper is replaced. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "engine/keeper/group.h"
#include "engine/keeper/user.h"
#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/launch.pb-c.h"

/* From the keeper. */
#define CHILD_PLAN     'P' /* the packed plan; descriptors: mount namespace, stdin if the plan has one, the plan's */
#define CHILD_MEMFD    'M' /* the same with the plan in a sealed memfd, the last descriptor */
#define CHILD_GO       'G' /* execute */
/* From the child. End of file after CHILD_EXEC means that the program runs. */
#define CHILD_READY    'R' /* the sandbox is built */
#define CHILD_TERMINAL 'T' /* one descriptor: the terminal's master */
#define CHILD_EXEC     'X' /* about to execute; struct child_times */
#define CHILD_ERROR    'E' /* int32 code, text */

struct child_times { /* microseconds from the plan's arrival, for the log */
    uint32_t root;   /* the root is mounted and the sandbox moved into it */
    uint32_t steps;  /* all steps are done */
    uint32_t pivot;  /* the root is the root */
    uint32_t go;     /* the keeper's word has come */
};

struct child_birth { /* what the child is told by its keeper; borrowed from the keeper's memory */
    const char *sandbox;
    const char *directory; /* its pipes, a path in the keeper's mounts */
    const char *group;     /* NULL: no groups */
    const struct cgroup_layout *layout;
    const Recipe *recipe;
    struct rlimit files; /* RLIMIT_NOFILE as the keeper found it */
    int channel;
};

#define CHILD_TOPS 16

struct child {
    const struct child_birth *birth;
    struct arena arena; /* plan and small things */
    LaunchPlan *plan;   /* NULL while preparing */
    const int *fds;     /* the plan's descriptors */
    int channel;
    int own_ns;               /* our mount namespace */
    int client_ns;            /* the one the plan's descriptors come from */
    int staging;              /* the tmpfs in which the sandbox is built; also holds what masks are made of */
    int root;                 /* the container's root mount; -1 while preparing */
    int proc;                 /* a clone of the sandbox's /proc without masks, attached nowhere; -1 without one */
    int pts;                  /* its devpts; -1 without one */
    int oom;                  /* our oom_score_adj */
    int input, output, error; /* what the program gets as 0, 1, 2 */
    int terminal;             /* slave of the terminal, or -1 */
    char *tops[CHILD_TOPS];   /* directories of the staging root that are mounts: moved into the root */
    unsigned top_count;
    struct group_dirs groups;
    const StepUser *user; /* what it is to become; see become.c */
    const StepCapabilities *capabilities;
    const StepSeccomp *seccomp;
    const StepExec *exec;
    struct child_times times;
    bool executing; /* what fails from now on is the program's execution */
    struct err e;
};

/* Never returns. */
_Noreturn void child_main(const struct child_birth *birth);

/* Close every descriptor but 0, 1, 2 and the channel. */
int child_close_others(const struct child *c, struct err *e);

/* --- the steps, by file --------------------------------------------------------------------------- */

/* mount.c */
int child_enter_staging(struct child *c, struct err *e);
int child_overlay(struct child *c, const StepOverlay *s, struct err *e);
int child_mount(struct child *c, const StepMount *s, int host_mount, struct err *e);
int child_mask(struct child *c, const StepMask *s, struct err *e);
int child_read_only(struct child *c, const StepReadOnly *s, struct err *e);
int child_pivot(struct child *c, struct err *e);
int child_clone_tree(int dir_fd, const char *path, bool recursive, int *ret_fd, struct err *e);
int child_attach(int mount_fd, int target_fd, const char *target, struct err *e);
int child_new_mount(const char *type, char *const *options, size_t option_count, uint64_t attributes, int *ret_fd,
                    struct err *e);

/* inode.c */
int child_target(int root, const char *path, bool directory, bool create, int *ret_fd, struct err *e);
int child_device(struct child *c, const StepDevice *s, struct err *e);
int child_symlink(struct child *c, const StepSymlink *s, struct err *e);
int child_directory(struct child *c, const StepDirectory *s, struct err *e);
int child_file(struct child *c, const StepFile *s, struct err *e);

/* copyup.c: copy the directory `from` (in the image) into the empty directory `to` (a volume), with owners, modes,
 * times, extended attributes and hard links. A volume that is not empty is left alone. */
int child_copy_up(int from, int to, struct err *e);

/* become.c */
int child_terminal(struct child *c, struct err *e);
int child_stdio(struct child *c, struct err *e);
int child_become(struct child *c, struct err *e); /* returns only when the program cannot be executed */

/* The root directory of the phase: the staging tmpfs, then the container's root. */
static inline int child_root(const struct child *c)
{
    return c->root >= 0 ? c->root : c->staging;
}
