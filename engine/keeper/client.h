/* shoald's side of the keeper, inside: what client.c (containers, requests) and link.c (the connection) share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "engine/container/cgroup.h"
#include "engine/keeper/keeper.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/launch.pb-c.h"

enum link_state {
    LINK_DOWN,     /* nothing is connected; the timer will try again */
    LINK_STARTING, /* a keeper is being started */
    LINK_GREETING, /* connected, hello sent; it tells what it holds */
    LINK_READY,
    LINK_STOPPED, /* the keeper was told to end, and did */
    LINK_CLOSED,
};

#define HELD_FDS 6

struct held { /* one container, as long as it is not forgotten */
    struct list link;
    char *id, *sandbox, *group, *log_path;
    int pid;
    uint64_t start;
    int64_t started_ns;
    bool tty, open_stdin, log_discard, log_live;
    uint64_t log_size_max;
    uint32_t log_files_max;
    bool ended;                      /* its exit was told to our owner */
    bool seen;                       /* this keeper knows it */
    int fds[HELD_FDS];               /* process, network, terminal, stdin, stdout, stderr; owned, -1 when absent */
    char *paths[BUNDLE_CONTROLLERS]; /* of its groups, made when asked for */
};

struct request { /* to the keeper, until it is answered */
    struct list link;
    uint32_t serial;
    char *id;      /* launches: the container */
    uint8_t *data; /* packed KeeperRequest, owned; NULL once sent when it is not needed again */
    size_t size;
    int *fds; /* duplicates until it is sent, owned */
    unsigned fd_count;
    bool sent;
    enum request_kind { REQUEST_LAUNCH, REQUEST_UPGRADE, REQUEST_STOP, REQUEST_OTHER } kind;
    void (*prepared)(void *ctx, int netns_fd); /* held launches */
    bool is_prepared;                          /* it was called */
    union {
        void (*launched)(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns);
        void (*done)(void *ctx, const struct err *e);
    };
    void *ctx;
    char *program; /* upgrades: what later keepers are started from */
};

struct warm {
    struct list link;
    void *data; /* packed Recipe */
    size_t size;
};

struct keeper {
    struct keeper_events events;
    uv_loop_t *loop;
    char *run_dir, *program, *instance, *cgroup_parent;
    unsigned warm_min, warm_max;
    struct cgroup_layout layout;
    bool has_layout;
    bool was_ready; /* on_ready has been called */

    enum link_state state;
    int run; /* <run-dir>/keeper */
    int socket;
    uv_poll_t *poll;     /* heap: it is closed asynchronously, one per connection */
    uv_process_t *child; /* the keeper's starter */
    int child_output;    /* what it prints */
    uv_timer_t timer;    /* retry, or limit of greeting */
    unsigned failures;
    bool writing;

    struct list held;
    struct map by_id;
    struct map forgotten;   /* ids forgotten while nobody could be told: value is the owned key */
    struct list queue;      /* requests not yet sent, in order */
    struct list waiting;    /* sent, not yet answered */
    struct map64 by_serial; /* all launches, upgrades and stops */
    uint32_t next_serial;
    unsigned launching, launching_max;
    struct list warm;
    int hold; /* owned: what the keeper is to keep open; -1: nothing */

    void (*closed)(void *ctx);
    void *closed_ctx;
    unsigned closing; /* handles still to be closed */
};

/* --- link.c ---------------------------------------------------------------------------------------- */

int link_open(struct keeper *k, struct err *e);
void link_close(struct keeper *k); /* then keeper_on_closed */
void link_flush(struct keeper *k); /* send what is queued as far as possible */
void link_stopped(struct keeper *k);

/* --- client.c: what the link tells ------------------------------------------------------------------ */

void keeper_on_greeting(struct keeper *k); /* connected to a keeper that may be another one */
void keeper_on_event(struct keeper *k, const KeeperEvent *event, int *fds, unsigned fd_count);
void keeper_on_closed(struct keeper *k);
void keeper_on_trouble(struct keeper *k, const struct err *e); /* no keeper can be had at present */
