/* This node's membership in a swarm: founding, resuming, leaving (reference/swarm-surface.md sections 4 and 5).
 *
 *     inactive --init--> pending --> active --leave--> leaving --> inactive
 *         (start) --> pending --> active | error
 *
 * It owns the identity, the manager (on managers) and the agent. What of the swarm API is the node's own business
 * is answered here: init, join, leave, unlock; the rest goes to the manager. On the node loop. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "engine/engine.h"
#include "proto/base/err.h"
#include "proto/base/jwrite.h"
#include "proto/wire/http.h"
#include "proto/wire/mailbox.h"

struct manager;
struct swarm;

struct swarm_config {
    uv_loop_t *loop;
    struct engine *engine;
    struct mailbox *mailbox; /* the node loop's: replies of the manager come there */
    struct clock *clock;
    struct entropy *entropy;
    const char *data_dir;
    int election_ms, heartbeat_ms; /* of Raft; 0: defaults */
    void *ctx;
    /* The manager stopped by itself and cannot go on: the process has to end, loudly. */
    void (*on_fatal)(void *ctx, const struct err *e);
};

/* Read the identity and, when there is one, begin to resume: the agent at once, the manager as soon as its log is
 * read. */
struct swarm *swarm_open(const struct swarm_config *config);
void swarm_close(struct swarm *s, void (*closed)(void *ctx), void *ctx);

/* The clock may have been set, the disk may have room again: look now at what waits for a time. */
void swarm_look(struct swarm *s);

/* The engine is ready: tasks may be looked after. Call once. */
void swarm_engine_ready(struct swarm *s);

/* Answer what is the node's own: true when `path` is one of these, whatever the outcome. */
bool swarm_http(struct swarm *s, struct http_exchange *x, const char *path);

/* The manager of this node while it serves; else NULL and the error to answer with, in Docker's words. */
struct manager *swarm_manager(struct swarm *s, struct err *e);

/* Whether that manager is about to serve, so that waiting for it is better than an error. `on_change` (NULL:
 * nobody) is called whenever this may have changed. */
bool swarm_manager_starts(const struct swarm *s);
void swarm_watch(struct swarm *s, void (*on_change)(void *ctx), void *ctx);

const char *swarm_header(const struct swarm *s);              /* of /_ping: "active/manager" */
void swarm_info(const struct swarm *s, struct jwrite *j);     /* members of /info's "Swarm" */
void swarm_warnings(const struct swarm *s, struct jwrite *j); /* texts of its "Warnings" */
