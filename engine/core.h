/* The engine's inside, shared by its parts and hidden from everybody else (engine.h is the door). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "engine/alarm.h"
#include "engine/container/bundle.h"
#include "engine/container/cgroup.h"
#include "engine/container/seccomp.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "engine/image/image.h"
#include "engine/keeper/keeper.h"
#include "engine/net/network.h"
#include "engine/volume/volume.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"

#define ENGINE_API_MINOR     45 /* we serve versions up to 1.45 */
#define ENGINE_API_MINOR_MIN 24
#define ENGINE_SETTLE_MS     1000 /* records are synced once they are this old */

struct containers;

/* Something to be told once the stack is empty, so that nobody is called back from inside his own call. In order.
 */
struct later {
    struct list link;
    void (*deliver)(struct later *me); /* may free it */
};

struct engine {
    struct engine_config config; /* strings owned */
    uv_loop_t *loop;
    struct images *images;
    struct volumes *volumes;
    struct networks *networks; /* NULL: this engine has none of its own */
    struct seccomp *seccomp;
    struct keeper *keeper;
    struct containers *containers;
    struct alarms alarms;
    struct alarm later_alarm;
    struct list later; /* of struct later */
    struct events events;
    struct list watches; /* of struct engine_watch */
    struct list calls;   /* of struct api_call: requests under way */
    struct list logs;    /* of struct engine_log */
    struct cgroup_layout cgroups;
    struct bundle_kernel kernel;
    char id[IDENT_TEXT + 1]; /* of this engine, for /info */
    bool is_ready, closing;
    bool networks_idle; /* while closing: no container uses one */
    void (*ready)(void *ctx);
    struct later ready_later;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

void engine_later(struct engine *en, struct later *l, void (*deliver)(struct later *me));

/* Wall clock. */
int64_t engine_now_ns(void);

/* Tell the API's listeners. */
void engine_event(struct engine *en, const char *type, const char *action, const char *id,
                  const struct event_attribute *attributes, size_t count);
