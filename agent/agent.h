/* The agent: runs the tasks that managers assign to this node (DESIGN.md section 9).
 *
 * It ties together the session (agent/session), what is assigned (assignment), the tasks' lives (worker), statuses
 * on their way (report), what is remembered on disk (ledger), and logs. It needs no manager to keep going: what the
 * ledger remembers runs on. On the node loop. */
#pragma once

#include <uv.h>

#include "engine/engine.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/dispatch.pb-c.h"
#include "proto/identity.pb-c.h"
#include "proto/wire/rpc.h"

#define AGENT_FEATURE_LEVEL 1 /* what this program offers to a cluster */

struct agent;

struct agent_config {
    uv_loop_t *loop;
    struct engine *engine; /* ready */
    struct clock *clock;
    struct entropy *entropy;
    const char *data_dir;     /* the ledger lies in <data-dir>/swarm/tasks */
    const Identity *identity; /* what is needed of it is copied */
    struct tls *tls;          /* a reference is taken. NULL: not known yet; agent_set_tls before agent_connect */
    void *ctx;
    /* The managers of the cluster, when they changed. */
    void (*on_managers)(void *ctx, char *const *managers, size_t count);
    /* The row of this node as the leader has it, at each registration and when it changes: the role it is to have
     * (spec.role) and whether it is a member of the managers' group (manager). Borrowed. May be NULL. */
    void (*on_node)(void *ctx, const Node *node);
    /* The cluster is in a later epoch than the identity says: to be kept with it, so that no manager of an earlier
     * one is obeyed after a restart. May be NULL. */
    void (*on_epoch)(void *ctx, uint64_t epoch);
    /* Whom to trust, and who is to have signed this node's certificate: likewise. Borrowed. May be NULL. */
    void (*on_authority)(void *ctx, const Authority *authority);
    /* It has a session with a manager. May be NULL. */
    void (*on_session)(void *ctx);
};

/* Read the ledger, adopt what runs, carry on. No manager is dialed yet. */
int agent_open(const struct agent_config *config, struct agent **ret, struct err *e);

/* Dial these managers, now and whenever the session is lost. */
int agent_connect(struct agent *a, const char *const *managers, size_t count, struct err *e);

/* Dial this one first, once: it is known to lead. After agent_connect. */
void agent_try_first(struct agent *a, const char *manager);

/* The address of the manager it has a session with; NULL when there is none. Borrowed until the loop turns. */
const char *agent_manager(const struct agent *a);

/* The managers do not know this node any more: it was removed. */
bool agent_denied(const struct agent *a);

/* For connections from now on; the managers are told of the certificate and the roots in `identity`. */
void agent_set_tls(struct agent *a, struct tls *tls, const Identity *identity);

/* To be called right before agent_close when this daemon ends and another one takes over: the manager is told
 * nothing, and gives the node the grace of a silent one. */
void agent_leave_session(struct agent *a);

/* End the session; containers go on. */
void agent_close(struct agent *a, void (*closed)(void *ctx), void *ctx);
