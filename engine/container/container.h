/* Containers: records on disk, tables in memory, and what may be done with one (reference/engine-surface.md
 * sections 2 and 6). Inside the engine only; engine.h is the door.
 *
 *            create                start                 launched
 *     (none) ------> CREATED ------------> STARTING -----------------> RUNNING
 *                       ^                   |  ^  ^                    |    |
 *                       +--- never ran -----+  |  | start, or the      |    | ended
 *                                              |  | policy's delay     |    v
 *                        ENDED ----------------+  +---------------- WAITING (to be restarted)
 *                          ^   <--------- ended, stopped ------------'
 *                          |
 *     CREATED, ENDED, WAITING -- remove --> REMOVING --> (gone)
 *
 * Paused is RUNNING with a mark. What is written to disk is the status of ContainerState: WAITING is EXITED there,
 * and STARTING what it was before, because the keeper knows better what runs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/core.h"
#include "proto/base/map.h"
#include "proto/base/record.h"
#include "proto/base/sm.h"

struct launch;
struct sweep;

enum container_life {
    LIFE_CREATED,
    LIFE_STARTING,
    LIFE_RUNNING,
    LIFE_WAITING,
    LIFE_ENDED,
    LIFE_REMOVING,
};

enum container_condition { WAIT_NOT_RUNNING, WAIT_NEXT_EXIT, WAIT_REMOVED };

/* A caller of start, stop, restart or remove who wants to hear of the end. */
struct container_op {
    struct list link; /* in one of the container's lists */
    struct later later;
    struct container *container;
    engine_done *done;
    void *ctx;
    struct err result;
    struct alarm grace; /* until SIGKILL; then until giving up */
    int signal;         /* stop: to send first */
    int64_t grace_ms;   /* stop: and how long to wait; below 0: for ever */
    bool killed;        /* SIGKILL was sent */
    bool start_again;   /* restart: start once it has ended, and say that it was one */
};

/* A client that waits. Embedded by the caller; `done` comes once, later. */
struct container_wait {
    struct list link;
    struct later later;
    enum container_condition condition;
    int64_t code;      /* to be told */
    const char *error; /* NULL, or why the code is not to be trusted; borrowed during done */
    char error_text[200];
    void (*done)(struct container_wait *me);
};

struct container {
    struct engine *en;
    ContainerRecord *record; /* owned */
    struct list link;        /* in containers.all */
    int life;                /* enum container_life */
    unsigned held;           /* notices under way that name it; freed when gone and 0 */
    bool is_gone;            /* out of the tables */

    bool unconfirmed;        /* RUNNING by its record, the keeper has not said so yet */
    bool unsaved;            /* its record could not be written; tried again */
    bool forget_exit;        /* the keeper is told to forget once the record is written */
    bool remove_ended;       /* remove once it has ended; asked while it was STARTING */
    bool remove_volumes;     /* and its anonymous volumes */
    bool is_dead;            /* a removal failed */
    bool stdin_ended;        /* who was to type has left before it ran: its input ends at once */
    struct alarm save_again; /* its record is to be written, for the first time or once more */

    struct launch *launch;               /* while STARTING */
    struct list starts, stops, removals; /* of struct container_op */
    struct list waits;                   /* of struct container_wait */
    struct list populating;              /* in containers.populating: its launch waits for another's volume */

    struct alarm restart;
    int64_t restart_delay_ms; /* waited before this run; 0: started by a user */
    int64_t started_mono_ms;  /* when this run began */

    struct volume_use *uses; /* one per mount of the record; unused for others than volumes */
    uint64_t resolv_seen;    /* containers.resolv_generation its resolv.conf was made from; 0: unknown */
};

struct containers {
    struct engine *en;
    char *dir;   /* <data-dir>/containers; owned */
    int fd;      /* of it */
    int base_fd; /* the layer below every image (base.h) */
    int etc_fd;  /* <run-dir>/etc (etc.h) */
    struct records *records;
    struct sweep *sweep;
    struct map by_id, by_name;
    struct list all;           /* of struct container, newest first */
    struct container **sorted; /* by id, for prefixes */
    size_t count, room;
    struct map unusable;    /* ids whose record could not be read; keys and values owned, the same */
    struct list populating; /* of struct container */
    struct buf resolv;      /* the machine's resolv.conf */
    uint64_t resolv_generation, resolv_stamp;
};

extern const struct sm_table container_machine;

/* --- tables (table.c) ---------------------------------------------------------------------------- */

int containers_open(struct engine *en, struct containers **ret, struct err *e);

/* Every operation ends with ERR_CANCELED. `closed` comes later. */
void containers_close(struct containers *s, void (*closed)(void *ctx), void *ctx);

/* By full id, name (with or without slash) or unique prefix of the id. */
int container_find(struct engine *en, const char *ref, struct container **ret, struct err *e);

/* Put one into the tables, or take it out; it is freed once nobody holds it. */
struct container *container_add(struct containers *s, ContainerRecord *record);
void container_drop(struct container *c);
void container_release(struct container *c); /* one hold less */

/* Write the record now, it is synced in the background. What cannot be written is tried again every second; the
 * keeper keeps an exit until then. */
void container_save(struct container *c);

/* The same within half a second, with whatever else changes until then. For what the keeper knows as well and tells
 * again after a crash: that it runs, and how it ended. */
void container_save_soon(struct container *c);

/* Tell the watchers (later) and the API's listeners (now). `what` -1: no watcher. */
void container_tell(struct container *c, int what, const char *action, const struct event_attribute *more,
                    size_t more_count);

/* Open its directory. */
int container_dir(const struct container *c, int *ret_fd, struct err *e);
char *container_path(const struct container *c, const char *file); /* free() it */

const char *container_short_id(const struct container *c, char ret[13]);
bool container_is_running(
    const struct container *c); /* as `docker ps` counts: also while it waits to be restarted */
const char *container_status_word(const struct container *c); /* "running" */

/* --- life (life.c) ------------------------------------------------------------------------------- */

int container_start(struct container *c, engine_done *done, void *ctx, struct err *e);
/* Whether a container may be called that: ERR_INVALID, or ERR_CONFLICT when another one is. */
int container_name_free(const struct containers *s, const char *name, struct err *e);
int container_rename(struct container *c, const char *name, struct err *e);

/* The launch has ended, either way; called by launch.c, later than its begin. */
void container_launched(struct container *c, const struct err *e, int pid, const char *sandbox, int64_t started_ns);

/* What the keeper says. */
void containers_on_found(struct engine *en, const struct keeper_found *found);
void containers_on_ready(struct engine *en);
void containers_on_exit(struct engine *en, const char *id, const struct keeper_exit *exit);

/* --- stop (stop.c) ------------------------------------------------------------------------------- */

int container_stop(struct container *c, const char *signal, int64_t grace_ms, engine_done *done, void *ctx,
                   struct err *e);
int container_restart(struct container *c, const char *signal, int64_t grace_ms, engine_done *done, void *ctx,
                      struct err *e);
int container_kill(struct container *c, const char *signal, int *ret_number, struct err *e);
int container_pause(struct container *c, bool pause, struct err *e);

void container_wait(struct container *c, struct container_wait *w, enum container_condition condition);
void container_unwait(struct container_wait *w); /* `done` does not come any more */

/* Answer those whose condition holds now. */
void container_answer_waits(struct container *c, bool has_ended, bool is_removed);

/* Steps of life.c and remove.c. */
void container_send(struct container *c, int number); /* a signal and its event; errors show when it does not end */
struct container_op *container_op_add(struct container *c, struct list *to, engine_done *done, void *ctx);
void container_op_end(struct container_op *op, const struct err *e); /* e NULL or code 0: done */
void container_ops_end(struct list *ops, const struct err *e);
void container_stops_begin(struct container *c);       /* what was asked while it was starting */
void container_give_up_later(struct container_op *op); /* SIGKILL was sent: wait no longer than that takes */

/* --- removal (remove.c) -------------------------------------------------------------------------- */

int container_remove(struct container *c, bool force, bool volumes, engine_done *done, void *ctx, struct err *e);

/* It is at rest and marked REMOVING: let it go. */
void container_remove_now(struct container *c);

/* --- creation (create.c) ------------------------------------------------------------------------- */

/* engine_create, giving the container. */
int container_create(struct engine *en, const char *name, const ContainerConfig *config, struct arena *a,
                     struct container **ret, char ***ret_warnings, struct err *e);

/* Make and hold the volumes that the record names, those that are missing too. */
int container_hold_volumes(struct container *c, struct err *e);
void container_release_volumes(struct container *c);

/* --- launch (launch.c) --------------------------------------------------------------------------- */

/* Open what the container needs and hand it to the keeper. 0: container_launched comes. */
int launch_begin(struct container *c, struct err *e);

/* The engine closes: container_launched does not come. */
void launch_abandon(struct launch *l);

/* A volume is filled: those that waited for it go on. */
void launch_retry_populating(struct containers *s);
