/* An engine that starts nothing (engine/engine.h), for tests of the agent. What it "has" lies in a flat piece of
 * memory that may be shared with other processes, so that it outlives an agent that is killed, as keeper and disk
 * do. Operations wait until the test lets them end, in any order. Link it before the engine's archive (Makefile).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "engine/engine.h"

#define FAKE_CONTAINERS_MAX 64
#define FAKE_IMAGES_MAX     8
#define FAKE_STARTS_MAX     512

struct fake_world {
    struct {
        uint32_t size; /* of the packed ContainerRecord; 0: a free place */
        uint8_t packed[4096];
    } containers[FAKE_CONTAINERS_MAX];
    char images[FAKE_IMAGES_MAX][64];
    uint32_t next_id;
    char started[FAKE_STARTS_MAX][26]; /* ids of the tasks whose containers were started, in order */
    uint32_t start_count;
};

struct engine *fake_engine_new(uv_loop_t *loop, struct fake_world *world);
void fake_engine_free(struct engine *en); /* what is under way ends with ERR_CANCELED */

/* Before and after each effect on the world: where an agent may be killed. */
void fake_engine_on_effect(struct engine *en, void (*on_effect)(void *ctx), void *ctx);

/* --- operations under way -------------------------------------------------------------------------- */

size_t fake_engine_pending(const struct engine *en);
const char *fake_engine_what(const struct engine *en, size_t at); /* "start"... */
/* Let one end: as it should, or as fake_engine_fail said. */
void fake_engine_end(struct engine *en, size_t at);
void fake_engine_end_all(struct engine *en); /* and those that they lead to */

/* The next `times` operations of this kind ("pull", "create", "start", "stop", "remove") end like this. */
void fake_engine_fail(struct engine *en, const char *what, int code, const char *text, unsigned times);

/* --- the world ------------------------------------------------------------------------------------- */

void fake_world_add_image(struct fake_world *w, const char *ref);
unsigned fake_world_count(const struct fake_world *w); /* containers */
unsigned fake_world_starts(const struct fake_world *w, const char *task_id);

/* The container of a task, or NULL. */
const ContainerRecord *fake_engine_of(struct engine *en, const char *task_id);
bool fake_engine_alive(struct engine *en, const char *task_id);
/* It ends by itself; by the kernel, for its memory; somebody removes it. */
void fake_engine_exit(struct engine *en, const char *task_id, int code);
void fake_engine_oom(struct engine *en, const char *task_id);
void fake_engine_vanish(struct engine *en, const char *task_id);

unsigned fake_engine_canceled(const struct engine *en); /* pulls */
const char *fake_engine_auth(const struct engine *en);  /* of the last pull; "" for none */
int64_t fake_engine_grace_ms(const struct engine *en);  /* of the last stop */

/* --- logs ------------------------------------------------------------------------------------------ */

unsigned fake_engine_readers(const struct engine *en);
/* To the newest reader. False: it is paused, and the line was taken. */
bool fake_engine_line(struct engine *en, const char *text);
void fake_engine_log_end(struct engine *en, const struct err *e);
bool fake_engine_resumed(struct engine *en); /* since the last call */
const struct engine_log_options *fake_engine_log_options(const struct engine *en);

int fake_engine_held(const struct engine *en);          /* the descriptor that is held; -1: none */
unsigned fake_engine_events(const struct engine *en);   /* of the swarm */
unsigned fake_engine_requests(const struct engine *en); /* of HTTP */
const char *fake_engine_path(const struct engine *en);  /* of the last one */
