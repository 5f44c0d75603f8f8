/* A real node for benchmarks: shoald, with the keeper and jobs beside it, in a directory of its own, spoken to
 * through its socket alone.
 *
 * stage_enter comes first: what the benchmark starts lives in namespaces (processes, mounts, network) and groups of
 * its own, so that it ends with the benchmark, however that ends. */
#pragma once

#include <stdbool.h>

#include "tests/bench/dialog.h"

#define NODE_IMAGE "box:1" /* busybox; runs "sleep 1000" and ends by SIGKILL */

struct stage {
    char dir[128];    /* on the disk that is measured: $TMPDIR or /tmp */
    char group[64];   /* below the root of each hierarchy */
    char build[4096]; /* where the programs lie */
};

/* NULL, or why it cannot run here. `program` is argv[0]. */
const char *stage_enter(struct stage *s, const char *program);

struct node {
    const struct stage *stage;
    char dir[160], run[160], socket[200], warm[32], group[128];
    int pid;
    struct dialog client;
};

/* Start it and wait until it answers; the image is there. `warm` as in shoald --warm. */
void node_open(struct node *n, const struct stage *s, const char *name, const char *warm);
void node_close(struct node *n); /* no container is left */

void node_kill(struct node *n);        /* SIGKILL to shoald, reaped */
void node_stop(struct node *n);        /* SIGTERM, and wait */
void node_start_again(struct node *n); /* begin to start it; node_answers waits */
void node_answers(struct node *n);

/* shoald, keeper, logger and, when asked for, the sandboxes that wait: PSS together in KiB; their CPU time in ms
 * with all children they have reaped. */
double node_pss_kib(const struct node *n, bool with_warm);
double node_cpu_ms(const struct node *n);
/* Kernel memory is charged to the group of who asks for it. Put this process into the group of that name, and what
 * is charged to it and to those below it, in KiB; 0 where the kernel does not say. */
void stage_join(const struct stage *s, const char *below);
double stage_kernel_kib(const struct stage *s, const char *below);

void node_swarm_init(struct node *n);
void node_swarm_leave(struct node *n);
/* Wait until no container is left, not even an ended one. */
void node_empty(struct node *n);
