/* A whole engine with the real keeper, store and jobs on a directory and a loop of its own, and an image made of
 * busybox: for tests and benchmarks. Needs root. Aborts when something cannot be prepared. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "engine/engine.h"
#include "proto/base/err.h"
#include "proto/wire/http.h"

#define ENGINE_RIG_SECONDS 60 /* a wait longer than this is a failure */
#define ENGINE_RIG_IMAGE   "box:1"

struct engine_rig {
    uv_loop_t loop;
    struct engine *engine;
    struct http_server *server; /* on <dir>/api.sock */
    char *dir, *data, *run;     /* owned */
    char instance[32];
    unsigned warm_min, warm_max;
    bool ready, flag;
    struct err error;
};

/* NULL, or why it cannot run here. */
const char *engine_rig_missing(void);

/* Directory, engine, server; the image is there. */
void engine_rig_open(struct engine_rig *r, unsigned warm_min, unsigned warm_max);

/* In another process: the same directory and instance, begun but not made. */
void engine_rig_attach(struct engine_rig *r, const char *dir, const char *instance);

/* End engine and server, or begin them again: as when shoald is restarted. */
void engine_rig_stop(struct engine_rig *r);
void engine_rig_start(struct engine_rig *r);

/* Remove all containers, end the keeper, the engine and the server, remove the directory. */
void engine_rig_close(struct engine_rig *r);

/* Turn the loop until the flag is set. */
void engine_rig_until(struct engine_rig *r, const bool *flag);

/* Operations, waited for. The code of the error, which is in r->error. */
int engine_rig_start_container(struct engine_rig *r, const char *ref);
int engine_rig_remove_container(struct engine_rig *r, const char *ref);

/* What of this rig there is on the machine: lines in the mount table, control groups, files below containers and
 * volumes, network namespaces and processes that its keeper holds, descriptors of this process. */
struct engine_rig_census {
    unsigned mounts, groups, files, children, fds;
};
struct engine_rig_census engine_rig_census(struct engine_rig *r);

/* Entries of a directory but those that begin with a dot; 0 when there is none. */
unsigned engine_rig_entries(const char *path);
