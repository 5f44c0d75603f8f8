/* shoald's side of the keeper: start or find it, launch containers through it, learn how they end (DESIGN.md
 * sections 1 and 7).
 *
 * The keeper is a process of its own that outlives shoald. keeper_open connects to the one that serves this
 * instance, or starts one, and takes over what it holds: for each container on_found comes once, then on_ready. If
 * the keeper dies, a new one is started and given our duplicates of pidfds, terminals, network namespaces and
 * output pipes; the containers notice nothing. If shoald dies, the keeper keeps exits and their times until the
 * next shoald has stored them (keeper_forget).
 *
 * All callbacks come on the loop given, never from inside a call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/err.h"
#include "proto/launch.pb-c.h"

struct keeper;

struct keeper_exit {
    int code;         /* exit status, or 128 + signal */
    int64_t ended_ns; /* wall clock */
    bool oom_killed;  /* the kernel killed something in its group for lack of memory */
    bool unknown;     /* it ended while nobody could see how */
};

struct keeper_found {
    const char *id;      /* container */
    const char *sandbox; /* name of its cgroups */
    int pid;
    int64_t started_ns;
    const struct keeper_exit *exit; /* NULL while it runs */
};

struct keeper_events {
    void *ctx;
    void (*on_found)(void *ctx, const struct keeper_found *found);
    void (*on_ready)(void *ctx); /* everything the keeper held was reported; launches are taken from now on */
    void (*on_exit)(void *ctx, const char *id, const struct keeper_exit *exit);
    void (*on_fatal)(
        void *ctx,
        const struct err *e); /* no keeper can be started: nothing can be launched until it can; retried */
};

struct keeper_config {
    uv_loop_t *loop;
    const char *run_dir;  /* <run-dir>/keeper (0700) holds the socket and the pipes */
    const char *program;  /* path of shoal-keeper */
    const char *instance; /* names cgroups and everything else of ours on this machine */
    const char
        *cgroup_parent; /* group under which the instance's group is made; "" is the root of each hierarchy */
    unsigned warm_min;  /* warm sandboxes held per recipe when idle; 0: no pool */
    unsigned warm_max;  /* and when starts come fast */
};

int keeper_open(const struct keeper_config *config, const struct keeper_events *events, struct keeper **ret,
                struct err *e);

/* Close our side only: keeper and containers go on. */
void keeper_close(struct keeper *k, void (*closed)(void *ctx), void *ctx);

/* End the keeper and its logger. Only when it holds no container (node leaves the machine, tests): ERR_CONFLICT
 * otherwise. */
int keeper_stop(struct keeper *k, void (*stopped)(void *ctx, const struct err *e), void *ctx, struct err *e);

/* Keep sandboxes of this recipe warm. Several recipes may be warm; unused ones are given up after some minutes. */
void keeper_warm(struct keeper *k, const Recipe *recipe);

/* Launch. `fds` are the descriptors the plan's fd fields count in; they are duplicated, the caller keeps (and
 * closes) its own. At most 250. `done` comes once: with pid and time, or with the error of the step that failed
 * ("mount /data: permission denied"); then nothing of the container is left. Errors before the program could be
 * executed carry ERR_NOT_FOUND when it does not exist, ERR_DENIED when it may not be executed. A launch before
 * on_ready, or while a new keeper is being started, waits. `e->code` is 0 on success.
 *
 * With `prepared` the launch is held: it is called with the network namespace of the sandbox (borrowed for the
 * call) while the rest is being built, and the program is executed only after keeper_go. It may fail before that,
 * as any launch. A keeper or shoald that dies meanwhile ends it. */
int keeper_launch(struct keeper *k, const LaunchPlan *plan, const int *fds, unsigned fd_count,
                  void (*prepared)(void *ctx, int netns_fd),
                  void (*done)(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns),
                  void *ctx, struct err *e);

/* A held launch goes on, or ends: `done` comes with this error before the call returns. Nothing happens when it has
 * failed meanwhile. */
void keeper_go(struct keeper *k, const char *id);
void keeper_give_up(struct keeper *k, const char *id, const struct err *e);

/* Send a signal to the container's first process, through its pidfd. ERR_NOT_FOUND when it does not run. */
int keeper_signal(struct keeper *k, const char *id, int signal, struct err *e);

/* The exit has been stored: the keeper drops its record, pipes, namespaces and cgroups. Idempotent. */
void keeper_forget(struct keeper *k, const char *id);

/* End the container's standard input: the program reads an end of file. Only for open_stdin without tty;
 * idempotent. Whoever duplicated keeper_stdin must have closed that. */
void keeper_close_stdin(struct keeper *k, const char *id);

/* Have the keeper keep a duplicate of this descriptor open, also when we die, instead of the one it kept so far;
 * -1: none. The caller's own is duplicated. */
void keeper_hold(struct keeper *k, int fd);

/* Replace the running keeper's program by another executable of the same protocol; containers and launches in
 * flight go on. */
int keeper_upgrade(struct keeper *k, const char *program, void (*done)(void *ctx, const struct err *e), void *ctx,
                   struct err *e);

/* Whether the keeper that is connected runs another program than the one given to keeper_open: then it is time to
 * upgrade it. False when that cannot be told. */
bool keeper_is_other_program(struct keeper *k);

/* A borrowed duplicate of the container's terminal master, or -1. For attach and resize. */
int keeper_terminal(struct keeper *k, const char *id);

/* Borrowed in the same way, -1 when there is none: the write end of its standard input (open_stdin without tty),
 * its process and its network namespace. */
int keeper_stdin(struct keeper *k, const char *id);
int keeper_process(struct keeper *k, const char *id);
int keeper_network(struct keeper *k, const char *id);

/* The cgroup directory of a controller ("memory") of a running container, for statistics; NULL when there is none.
 * Valid until the container is forgotten. */
const char *keeper_cgroup(struct keeper *k, const char *id, const char *controller);
