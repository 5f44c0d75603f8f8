/* The keeper process: what its files share. One thread, one loop, one struct server.
 *
 *     main.c     start, lock, sealed copy, loop              control.c  shoald's connection
 *     box.c      one sandbox: its data, files, messages      launch.c   clone, plan, exec, exit
 *     pool.c     warm sandboxes                              loglink.c  the logger process
 *     janitor.c  groups of the dead                          resume.c   what a keeper before this one left
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "engine/container/cgroup.h"
#include "engine/keeper/loop.h"
#include "engine/keeper/process.h"
#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/launch.pb-c.h"

#define KEEPER_PROTOCOL    1
#define KEEPER_SOCKET      "control"
#define KEEPER_LOG_SOCKET  "log"
#define KEEPER_LOCK        "lock"
#define KEEPER_LOG_LOCK    "log.lock"
#define KEEPER_BOXES       "box"
#define KEEPER_STATE_MAGIC "SHOALKST"

/* How the program ends before it serves, for whoever starts it. */
#define KEEPER_EXIT_BUSY 75 /* another keeper (or logger) holds the lock */

#define SANDBOX_TEXT 16   /* hex digits of a sandbox's name */
#define BOXES_MAX    8192 /* sandboxes at once, warm ones and ended ones included */
#define RECIPES_MAX  16   /* kept warm */

struct server;

struct recipe { /* one that is kept warm */
    struct list link;
    void *data; /* packed, owned */
    size_t size;
    Recipe *message; /* in arena */
    struct arena arena;
    struct list boxes;  /* warm, or being prepared */
    unsigned target;    /* how many should be warm */
    unsigned warm;      /* how many are, or are being prepared */
    int64_t used_us;    /* last take, monotonic */
    int64_t changed_us; /* last change of target */
    int64_t retry_us;   /* not before: the last preparation failed */
};

struct box {
    struct server *server;
    struct list link; /* server->boxes */
    struct list say;  /* control.say while there is something to tell shoald */
    char sandbox[SANDBOX_TEXT + 1];
    char *id;  /* container, owned; NULL while warm */
    int stage; /* enum BoxStage */
    pid_t pid;
    uint64_t start;     /* its start time, clock ticks */
    int64_t started_ns; /* wall clock */
    struct {
        int code;
        int64_t ended_ns;
        bool oom_killed, unknown;
    } exit; /* from DRAINING on */
    bool tty, open_stdin;
    char *group;    /* its cgroup's path, owned; NULL without */
    char *log_path; /* owned; NULL: discard */
    uint64_t log_size_max;
    uint32_t log_files_max;
    bool log_discard, log_live;
    struct recipe *recipe; /* while preparing or warm for one */
    struct list pooled;    /* recipe->boxes */
    uint32_t serial;       /* of the request that launches it */
    uint32_t generation;   /* of the connection that asked */
    bool holding;          /* its network is being made: shoald's word is waited for */
    bool prepared;         /* this shoald knows its network namespace */
    bool released;         /* it was told to execute */
    bool executes;         /* it said that it does */
    bool announced;        /* this shoald knows it: found or launched */
    bool reported;         /* this shoald knows the end */
    bool adopted;          /* not our child */
    bool logged;           /* the logger has it */
    unsigned looks;        /* at a dead process whose parent has not taken note */
    struct err *error;     /* what its child said went wrong, owned */
    int64_t asked_us, warm_us;
    int pidfd, netns, terminal, in, out, err, log, channel; /* owned; -1 when absent */
    struct watch exit_watch, channel_watch;
    struct timer timer; /* retry of the exit, limit of draining */
};

struct answer { /* to a request that has no box */
    struct list link;
    uint32_t serial;
    struct err error; /* code 0: done */
};

struct control { /* shoald's connection */
    int fd;      /* -1: nobody is connected */
    struct watch watch;
    uint32_t generation;   /* counts connections */
    int client_ns;         /* mount namespace of the descriptors in plans; -1 before hello */
    bool ready_due;        /* everything is announced: say so */
    bool reading, writing; /* what is watched */
    struct list say;       /* boxes with something to tell */
    struct list answers;   /* struct answer: to requests that have no box */
    unsigned answer_count;
};

struct logger_link {
    int fd; /* -1: none */
    struct watch watch;
    struct timer retry;
    unsigned failures; /* in a row */
    bool leaving;      /* it was told to end */
};

struct pool {
    struct list recipes; /* struct recipe, last used first */
    struct timer timer;
    unsigned min, max; /* per recipe */
};

struct janitor {
    char **groups; /* paths to remove, owned */
    unsigned count, capacity;
    unsigned working; /* the first so many are the running child's */
    int pidfd;        /* of the child; -1: none runs */
    pid_t pid;
    unsigned failures;
    struct watch watch;
    struct timer timer;
    bool sweep_due; /* nobody has looked yet at what keepers before us left */
    struct timer sweep;
};

struct upgrade {        /* another program that is being looked at */
    int program, state; /* sealed memfds; -1: none */
    uint32_t serial;
    pid_t pid; /* of the check */
    int pidfd;
    struct watch watch;
    struct timer timer;
};

struct server {
    struct loop loop;
    char *run_path;       /* <run-dir>/keeper, absolute */
    int run, box_dir;     /* it and its box directory */
    const char *instance; /* names our groups */
    char *group_base;     /* "/<parent>/shoal-<instance>" */
    struct cgroup_layout layout;
    bool has_groups; /* the machine has controllers */
    char boot[BOOT_ID_TEXT + 1];
    struct rlimit files; /* RLIMIT_NOFILE as found: what containers get */
    int lock, listener;  /* owned */
    int held;            /* owned: what shoald asked us to keep open; -1: nothing */
    struct watch listen_watch;
    struct control control;
    struct logger_link logger;
    struct pool pool;
    struct janitor janitor;
    struct upgrade upgrade;
    struct list boxes;
    unsigned box_count;
    unsigned launching;   /* boxes between plan and exec */
    uint32_t stop_serial; /* of the request to end: answered when everything is cleaned up; 0: none */
    struct map by_id, by_sandbox;
    struct map64 by_pid; /* boxes whose process is our child */
    char **argv;         /* as started, for the next program */
};

/* --- box.c ----------------------------------------------------------------------------------------- */

/* A new box with a fresh name (or the one given), registered, without files. NULL: too many. */
struct box *box_new(struct server *s, const char *sandbox);
void box_set_id(struct box *b, const char *id); /* register its container */
void box_move(struct box *b, BoxStage next);
/* Make its directory and pipes and open our ends. */
int box_make_files(struct box *b, struct err *e);
int box_open_files(struct box *b, struct err *e); /* those of a keeper before us */
int box_make_stdin(struct box *b, int *ret_reader, struct err *e);
/* Write the record that survives us. */
int box_save(struct box *b, struct err *e);
/* Read one: fills everything but descriptors. ERR_CORRUPT, ERR_NOT_FOUND. */
int box_load(struct server *s, const char *sandbox, struct box **ret, struct err *e);
/* Take over what a message says, descriptors excepted; a container in it is taken to run, or to have ended. */
void box_fill(struct box *b, const Box *m);
bool box_sandbox_valid(const char *sandbox); /* it becomes part of paths */
/* Take the descriptors a message names by their position in `fds` where the box has none; those become -1. */
void box_take_fds(struct box *b, const Box *m, int *fds, unsigned fd_count);
/* Describe it in a message that borrows from the box. With `fds` those shoald shares are appended there and named
 * by position; with fd_count alone none is named; with neither all are, by their numbers. */
struct box_message {
    Box box;
    BoxExit exit;
};
void box_describe(const struct box *b, struct box_message *ret, int *fds, unsigned *fd_count);
/* Remove its files, leave its group to the janitor, close everything, free it. */
void box_remove(struct box *b);
void box_free(struct box *b); /* close and free alone; files stay */

/* --- launch.c -------------------------------------------------------------------------------------- */

/* Clone the child that prepares a sandbox. */
int launch_prepare(struct server *s, const Recipe *recipe, struct box **ret, struct err *e);
/* A launch request: takes the descriptors in any case. On error nothing is left and the answer is the caller's. */
int launch_begin(struct server *s, uint32_t serial, bool hold, const void *plan, size_t size, int memfd, int *fds,
                 unsigned fd_count, struct err *e);
/* A launch that is held goes on, or ends in silence. Of others, and of what is not there, nothing happens. */
void launch_go(struct server *s, const char *id);
void launch_give_up_held(struct server *s, const char *id);
void launch_drop_held(struct server *s);        /* who would say the word is gone */
int launch_watch(struct box *b, struct err *e); /* begin to watch child and channel of a box, by its stage */
void launch_look(struct box *b);                /* its process may have ended */
void launch_give_up(struct box *b);             /* a warm one that is not needed */
void launch_drained(struct box *b);             /* its last output is in the log */

/* --- pool.c ---------------------------------------------------------------------------------------- */

void pool_init(struct server *s);
void pool_configure(struct server *s, unsigned min, unsigned max);
int pool_add(struct server *s, const void *recipe, size_t size, struct err *e);
struct box *pool_take(struct server *s, const void *recipe, size_t size);
void pool_left(struct box *b, bool failed); /* a box of a recipe is no longer warm */
void pool_wake(struct server *s);           /* something changed: look soon whether to refill */
void pool_empty(struct server *s);

/* --- control.c ------------------------------------------------------------------------------------- */

int control_start(struct server *s, struct err *e);
/* Take over a connection that is established already. */
int control_resume(struct server *s, int fd, int client_ns, struct err *e);
void control_say(struct box *b);                                             /* something about it changed */
void control_answer(struct server *s, uint32_t serial, const struct err *e); /* NULL: done */
void control_poke(struct server *s); /* a launch of an earlier shoald is over */
void control_end(struct server *s);

/* --- loglink.c ------------------------------------------------------------------------------------- */

void logger_init(struct server *s);
void logger_begin(struct server *s); /* find the one that runs, or start one */
int logger_resume(struct server *s, int fd, struct err *e);
void logger_add(struct box *b);
void logger_drain(struct box *b); /* then launch_drained */
void logger_quit(struct server *s);

/* --- janitor.c ------------------------------------------------------------------------------------- */

void janitor_init(struct server *s);
void janitor_take(struct server *s, const char *group); /* a copy is made */
bool janitor_idle(const struct server *s);
void janitor_sweep(struct server *s);           /* take every group of ours that belongs to no box */
void janitor_sweep_soon(struct server *s);      /* the same a moment later, once per keeper */
bool janitor_look(struct server *s, pid_t pid); /* whether that is its child, which may have ended */

/* --- resume.c -------------------------------------------------------------------------------------- */

/* Find what ran under a keeper that died, by the files it left. */
int resume_scan(struct server *s, struct err *e);
/* Take over everything from the program before this one. */
int resume_state(struct server *s, int state_fd, struct err *e);
/* Whether this program understands a state. */
int resume_accepts(int state_fd, struct err *e);
void resume_init(struct server *s);
bool resume_look(struct server *s,
                 pid_t pid); /* whether that is the check of a new program, which may have ended */
/* Replace this program by another: checks it first, then answers `serial` from there, or here with the error. */
void resume_upgrade(struct server *s, uint32_t serial, int program_fd);
/* Take a container by the duplicates that shoald holds. Takes the descriptors. */
/* Take the lock `name` in the run directory; ERR_CONFLICT: somebody lives who holds it. */
int resume_lock(int run_fd, const char *name, int *ret_fd, struct err *e);
int resume_adopt(struct server *s, const Box *m, int *fds, unsigned fd_count, struct err *e);
