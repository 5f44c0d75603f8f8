/* A keeper with real containers, for its tests and benchmarks: a directory of its own, an image made of busybox,
 * plans compiled by bundle, shoald's side of the keeper on a loop that the caller turns. Needs root. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "engine/container/bundle.h"
#include "engine/container/cgroup.h"
#include "engine/keeper/keeper.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/list.h"

#define RIG_SECONDS 30 /* a wait longer than this is a failure */
#define RIG_FDS     32

struct rig_case { /* one container; make it, change record and host as wanted, launch it */
    struct rig *rig;
    struct list link;
    char id[65];
    ContainerRecord record;
    ContainerConfig config;
    HostConfig host;
    ContainerState state;
    char **argv;
    int fds[RIG_FDS];
    unsigned fd_count, position[RIG_FDS];
    bool directory[RIG_FDS], copy_up[RIG_FDS];
    void (*change)(struct rig_case *c, LaunchPlan *plan); /* look at, or spoil, the plan before it is sent */

    bool answered, running, ended, forgotten, found;
    struct err error; /* of the launch */
    int pid;
    char sandbox[32];
    int64_t started_ns;
    struct keeper_exit exit;
};

struct rig {
    uv_loop_t loop;
    uv_timer_t alarm;
    struct keeper *keeper;
    char dir[64], run[64], instance[32], build[4096], keeper_program[4200];
    int layer, seccomp;
    struct cgroup_layout layout;
    struct bundle_kernel kernel;
    struct arena arena;
    struct list cases;
    unsigned warm_min, warm_max, serial;
    bool ready, closed, stopped, late, upgraded;
    struct err error; /* of the last stop or upgrade */
    unsigned fatal;   /* on_fatal came so often */
};

/* NULL, or why it cannot run here. `program` is argv[0]: the keeper is found in the same build directory. */
const char *rig_missing(const char *program);

/* The next rig's run directory is on a tmpfs, as a node's is (/run), where there is one. Tests do without: they
 * look for it below the rig's directory. */
void rig_run_in_memory(void);
void rig_open(struct rig *r, unsigned warm_min, unsigned warm_max); /* directory, image; then rig_connect */
void rig_connect(struct rig *r);                                    /* keeper_open, until it is ready */
void rig_begin_connect(struct rig *r);
void rig_disconnect(struct rig *r); /* keeper_close: as if shoald ended */
void rig_close(struct rig *r);      /* kill and forget what is left, stop the keeper, remove everything */

/* A container that runs argv (NULL-terminated list), with upper, work and log directories of its own. */
struct rig_case *rig_case(struct rig *r, const char *program, ...) __attribute__((sentinel));
/* A mount of a directory or file of the host; returns the point for further wishes. */
MountPoint *rig_bind(struct rig_case *c, const char *source, const char *target);
MountPoint *rig_volume(struct rig_case *c, const char *source, const char *target, bool copy_up);

void rig_send(struct rig_case *c);   /* launch without waiting */
void rig_launch(struct rig_case *c); /* and wait for the answer */
void rig_wait(struct rig_case *c);   /* for its end */
void rig_forget(struct rig_case *c);
void rig_drop(struct rig_case *c); /* one that is forgotten: remove its directory, free it */
int rig_run(struct rig_case *c);   /* launch, wait, forget: the exit code */

/* Turn the loop until *flag. Aborts after RIG_SECONDS. */
void rig_until(struct rig *r, const bool *flag);
void rig_turn(struct rig *r, unsigned ms); /* for so long */

/* What it wrote, as its log has it: both streams, or one. Borrowed until the next call. */
const char *rig_output(struct rig_case *c, const char *stream);

/* Paths below the rig's directory. In the arena. */
char *rig_path(struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Processes of this rig: the keeper, its logger; 0: none. */
int rig_keeper_pid(struct rig *r);
int rig_logger_pid(struct rig *r);
/* The same, waiting until there is one (other than `other`, the one that was killed). */
int rig_await_keeper(struct rig *r, int other);
int rig_await_logger(struct rig *r, int other);
/* Send a signal to one process; aborts when there is none of that number, and for numbers that name many. */
void rig_kill(int pid, int signal);
/* What of this rig there is on the machine: lines in the mount table, control groups, children of the keeper
 * (logger excepted), descriptors of keeper and logger, directories of sandboxes. */
struct rig_census {
    unsigned mounts, groups, children, keeper_fds, logger_fds, boxes;
};
struct rig_census rig_census(struct rig *r);
unsigned rig_rss_kib(int pid);                  /* memory of a process; 0 when it is gone */
unsigned rig_group_mounts(const struct rig *r); /* hierarchies in which each sandbox has a group */
