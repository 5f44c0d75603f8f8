/* Floors: what the kernel and the disk cost by themselves, measured in the run that compares with them.
 *
 * The launch floor is the least that starts a container as isolated as ours: all namespaces, overlay root, proc,
 * sys, dev and their masks, a group in each hierarchy with its list of devices, capabilities dropped, the default
 * seccomp profile, exec. No image store, no records, no log, no API, no keeper. Needs root. */
#pragma once

#include <linux/filter.h>

#include "engine/container/cgroup.h"

struct floor {
    char dir[128];  /* layer/ and the containers' directories */
    char group[64]; /* below the root of each hierarchy */
    struct cgroup_layout layout;
    struct sock_fprog program;
    unsigned serial;
};

/* Make layer and groups; the layer holds busybox. */
void floor_open(struct floor *f, const char *dir, const char *group);
void floor_close(struct floor *f); /* all containers have been ended */

struct floor_container {
    unsigned serial;
    int pid;
};

/* Start one; returns milliseconds from nothing to its exec. */
double floor_start(struct floor *f, struct floor_container *ret, const char *const argv[]);
/* Kill it if it runs, reap it and remove what was made for it. */
void floor_end(struct floor *f, struct floor_container *c);

/* `count` started by two processes at once: milliseconds until the last has started. */
double floor_burst_ms(struct floor *f, unsigned count);

/* Start, wait, remove, for so long, by `workers` processes. */
struct floor_rate {
    unsigned cycles;
    double per_second, cpu_ms; /* of one cycle */
};
struct floor_rate floor_cycles(struct floor *f, unsigned workers, double seconds);

/* Median of durable writes (O_DSYNC) of one sector into a file of that directory that is already there, in ms. */
double floor_flush_ms(const char *dir);
