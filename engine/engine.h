/* The engine's one door: images, containers and volumes of this machine, without any knowledge of clusters.
 *
 * The agent's worker and the HTTP API use the same functions. Everything runs on the node loop; callbacks come on
 * it, once, never from inside the call that asked. Containers are named to the engine by full id, name or unique
 * prefix (`ref`). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/base/jwrite.h"
#include "proto/base/list.h"
#include "proto/container.pb-c.h"
#include "proto/object.pb-c.h"
#include "proto/wire/http.h"

struct engine;

struct engine_config {
    uv_loop_t *loop;
    const char *data_dir; /* images, containers, volumes below it */
    const char *run_dir;  /* keeper's socket and pipes below it */
    const char *instance; /* names what we make in the kernel */
    const char *cgroup_parent;
    const char *program_dir;     /* where shoal-keeper and shoal-job lie */
    unsigned warm_min, warm_max; /* warm sandboxes; 0, 0: none */
    bool networks;               /* networks of this machine; without: containers have "host" or "none" */
    /* Parts of /info and /_ping that belong to the node's other half. */
    void *ctx;
    void (*swarm_info)(void *ctx, struct jwrite *j);     /* writes the members of "Swarm": {...} */
    void (*swarm_warnings)(void *ctx, struct jwrite *j); /* writes texts of "Warnings": [...]. May be NULL */
    const char *(*swarm_header)(void *ctx);              /* "inactive", "active/manager"... */
};

/* Open: read the records, find or start the keeper, adopt what runs. `ready` comes when every container's state is
 * true. */
int engine_open(const struct engine_config *config, void (*ready)(void *ctx), struct engine **ret, struct err *e);

/* Close; containers and keeper go on. */
void engine_close(struct engine *en, void (*closed)(void *ctx), void *ctx);

/* Answer an engine noun of the API (containers, images, volumes, networks, info, version, events, system,
 * distribution). `path` is without the version prefix. Returns false when it is no engine noun; then nothing was
 * done. */
bool engine_http(struct engine *en, struct http_exchange *x, const char *path, unsigned api_minor);

/* --- containers ---------------------------------------------------------------------------------- */

/* The record, borrowed until the loop turns. */
const ContainerRecord *engine_find(struct engine *en, const char *ref, struct err *e);
bool engine_next(struct engine *en, size_t *at, const ContainerRecord **ret); /* all of them, newest first */

/* Create. `name` NULL: generated. The image must be there. `warnings` goes to the arena. */
int engine_create(struct engine *en, const char *name, const ContainerConfig *config, struct arena *a,
                  const char **ret_id, char ***ret_warnings, struct err *e);

typedef void engine_done(void *ctx, const struct err *e); /* e->code 0: done */

/* Start: done once the program runs. ERR_NOT_MODIFIED when it runs already. */
int engine_start(struct engine *en, const char *ref, engine_done *done, void *ctx, struct err *e);

#define ENGINE_GRACE_OWN INT64_MIN /* the container's own stop timeout, else 10 s */

/* Stop signal (NULL: the container's own), grace (-1: for ever), then SIGKILL. done once it has ended.
 * ERR_NOT_MODIFIED when it has. */
int engine_stop(struct engine *en, const char *ref, const char *signal, int64_t grace_ms, engine_done *done,
                void *ctx, struct err *e);
int engine_kill(struct engine *en, const char *ref, const char *signal, struct err *e);

/* Remove with its files; `force` kills first; `volumes` removes anonymous ones. */
int engine_remove(struct engine *en, const char *ref, bool force, bool volumes, engine_done *done, void *ctx,
                  struct err *e);

/* Watch what happens to all containers: for the agent, for waits and for events. Called after the record changed.
 */
enum engine_change { ENGINE_CREATED, ENGINE_STARTED, ENGINE_DIED, ENGINE_REMOVED, ENGINE_OOM };
struct engine_watch {
    struct list link;
    void *ctx;
    void (*on_change)(void *ctx, enum engine_change what, const ContainerRecord *record);
};
void engine_watch(struct engine *en, struct engine_watch *w);
void engine_unwatch(struct engine_watch *w);

/* --- logs ---------------------------------------------------------------------------------------- */

struct engine_log; /* one reader of a container's log */

struct engine_log_options {
    bool follow, standard_out, standard_error;
    bool to_exit; /* following: to the end of the run that is under way or comes next, as who attaches wants it */
    int64_t since_ns, until_ns; /* 0: none */
    int64_t tail;               /* lines over both streams; -1: all */
};

struct engine_log_events {
    void *ctx;
    /* One line (with its newline) or part of one. False: pause until engine_log_resume. */
    bool (*on_line)(void *ctx, int64_t time_ns, unsigned stream, const char *data, size_t size);
    void (*on_end)(void *ctx,
                   const struct err *e); /* all read (and, following, the container ended or was removed) */
};

int engine_log_open(struct engine *en, const char *ref, const struct engine_log_options *options,
                    const struct engine_log_events *events, struct engine_log **ret, struct err *e);
void engine_log_resume(struct engine_log *l);
void engine_log_close(struct engine_log *l); /* no more callbacks; not after on_end */

/* --- images -------------------------------------------------------------------------------------- */

/* Whether `ref` is here: its id, or NULL. */
const char *engine_image(struct engine *en, const char *ref);

/* Bring it, unless it is here already (by digest or id). `auth` as the X-Registry-Auth header held it, or NULL. */
struct engine_pull;
int engine_pull(struct engine *en, const char *ref, const char *auth, engine_done *done, void *ctx,
                struct engine_pull **ret, struct err *e);
void engine_pull_cancel(struct engine_pull *p); /* done comes with ERR_CANCELED */

/* --- events --------------------------------------------------------------------------------------- */

#define ENGINE_EVENT_PAIRS 8

/* Something happened in the swarm: it goes into GET /events with what happens here, with scope "swarm". `pairs`:
 * key, value, key, value..., `count` of them, at most ENGINE_EVENT_PAIRS; copied. */
void engine_swarm_event(struct engine *en, const char *type, const char *action, const char *id,
                        const char *const *pairs, size_t count);

/* --- what outlives us ------------------------------------------------------------------------------ */

/* Have the keeper keep a duplicate of this descriptor open, also when this process dies, instead of the one it kept
 * so far; -1: none. So a peer sees the difference between a daemon that is replaced and a machine that is gone. */
void engine_hold(struct engine *en, int fd);

/* --- the machine --------------------------------------------------------------------------------- */

/* What an agent says of its machine, in the arena: platform, resources, version, labels, plugins. */
NodeDescription *engine_describe(struct engine *en, struct arena *a);
