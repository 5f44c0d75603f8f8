/* The agent's session with a manager: dialing, registering, heartbeats, coming back (DESIGN.md section 9).
 *
 * One connection, one stream. When it ends, whatever the reason, another manager (or the same) is tried after a
 * back-off of 100 ms to 8 s with jitter; nothing else happens: containers go on. Callbacks come on the loop. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "proto/base/arena.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/dispatch.pb-c.h"
#include "proto/wire/rpc.h"

struct session;

struct session_events {
    void *ctx;
    /* Registered: the full set comes next. */
    void (*on_ready)(void *ctx);
    /* Anything but the session's own matters (ready, redirect). Borrowed for the call. */
    void (*on_message)(void *ctx, const ManagerMessage *message);
    /* It may be written to again after session_send returned ERR_AGAIN. */
    void (*on_writable)(void *ctx);
    /* It has ended, after on_ready; the next attempt is on its way. */
    void (*on_lost)(void *ctx, const struct err *e);
    /* What the agent says of its machine, asked for at each registration; in the arena. */
    NodeDescription *(*describe)(void *ctx, struct arena *a);
};

struct session_config {
    uv_loop_t *loop;
    struct tls *tls;        /* a reference is taken */
    const char *cluster_id; /* copied */
    struct entropy *entropy;
    uint64_t cluster_epoch;
    uint32_t feature_level;
};

int session_open(const struct session_config *config, const char *const *managers, size_t manager_count,
                 const struct session_events *events, struct session **ret, struct err *e);
void session_close(struct session *s, void (*closed)(void *ctx), void *ctx);

/* session_close without a word to the manager: the socket is held by the keeper, and another daemon takes over. */
void session_abandon(struct session *s, void (*closed)(void *ctx), void *ctx);

/* The cluster's epoch: the highest that was given or that a manager told. */
uint64_t session_epoch(const struct session *s);

/* The socket of the present connection, borrowed; -1: there is none. */
int session_fd(const struct session *s);

/* Where to look for managers from now on; copied. The present connection stays. */
void session_set_managers(struct session *s, char *const *managers, size_t count);

/* Try this manager before all others, once: it is known to lead. */
void session_try_first(struct session *s, const char *manager);

/* For connections from now on. */
void session_set_tls(struct session *s, struct tls *tls);

bool session_ready(const struct session *s);

/* ERR_AGAIN: no credit now, on_writable will come. ERR_UNAVAILABLE: no session. */
int session_send(struct session *s, const AgentMessage *message, struct err *e);

/* The managers say again and again that they do not know this node. */
bool session_denied(const struct session *s);

/* The address of the manager it is connected to, for bulk connections; NULL when there is none. */
const char *session_manager(const struct session *s);

/* End the present connection and come back: when the two sides disagree. */
void session_restart(struct session *s, const char *why);
