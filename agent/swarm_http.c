/* What a membership says to clients: the node's own part of the swarm API, and its state in Docker's words
 * (swarm.h).
 *
 * One operation (init or leave) runs at a time; its client may go away meanwhile, the operation goes on. */
#include <string.h>

#include "agent/address.h"
#include "agent/swarm_internal.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

static const char not_manager_text[] =
    "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to "
    "swarm and try again.";
const char swarm_worker_text[] =
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager.";

const char swarm_locked_text[] = "Swarm is encrypted and needs to be unlocked before it can be used. Please use "
                                 "\"docker swarm unlock\" to unlock "
                                 "it.";

static const char removed_text[] =
    "This node was removed from the swarm. To take part again, leave the swarm and join it anew.";
static const char expired_text[] =
    "Swarm certificates have expired. To replace them, leave the swarm and join again.";
static const char expired_manager_text[] =
    "Swarm certificates have expired. To replace them, leave the swarm and join again, or, where no other manager "
    "is left, go on alone with \"docker swarm init --force-new-cluster\".";

static void on_client_gone(struct http_exchange *x)
{
    struct swarm *s = http_data(x);

    if (s->waiting == x)
        s->waiting = NULL;
}

void swarm_wait_for(struct swarm *s, struct http_exchange *x)
{
    s->waiting = x;
    http_set_data(x, s);
    http_on_close(x, on_client_gone);
}

void swarm_answer_error(struct swarm *s, const struct err *e)
{
    if (s->waiting)
        http_reply_error(s->waiting, e);
    s->waiting = NULL;
}

/* --- the node's own part of the API ---------------------------------------------------------------- */

static void http_not_found(struct http_exchange *x)
{
    struct err e;

    err_set(&e, ERR_NOT_FOUND, "page not found");
    http_reply_error(x, &e);
}

bool swarm_http(struct swarm *s, struct http_exchange *x, const char *path)
{
    static const struct {
        const char *path;
        void (*serve)(struct swarm *s, struct http_exchange *x);
    } routes[] = {{"/swarm/init", swarm_http_init},
                  {"/swarm/leave", swarm_http_leave},
                  {"/swarm/join", swarm_http_join},
                  {"/swarm/unlock", swarm_http_unlock}};

    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        if (strcmp(path, routes[i].path) != 0)
            continue;
        if (strcmp(http_method(x), "POST") == 0)
            routes[i].serve(s, x);
        else
            http_not_found(x);
        return true;
    }
    return false;
}

struct manager *swarm_manager(struct swarm *s, struct err *e)
{
    if (s->manager_ready)
        return s->manager;
    if (s->state == SWARM_LOCKED)
        err_set(e, ERR_UNAVAILABLE, "%s", swarm_locked_text);
    else if (s->state == SWARM_FAILED)
        err_set(e, ERR_UNAVAILABLE, "the swarm on this node has failed: %s", s->error.text);
    else if (!s->identity)
        err_set(e, ERR_UNAVAILABLE, "%s", not_manager_text);
    else if (!swarm_is_member(s) && s->state != SWARM_PENDING)
        err_set(e, ERR_UNAVAILABLE, "%s", swarm_worker_text);
    else if (s->reopen.waits)
        err_set(e, ERR_UNAVAILABLE, "the manager on this node waits, and tries again every second: %s",
                s->error.text);
    else
        err_set(e, ERR_UNAVAILABLE, "the manager on this node is %s; try again in a moment",
                s->state == SWARM_LEAVING ? "leaving the swarm" : "starting");
    return NULL;
}

bool swarm_manager_starts(const struct swarm *s)
{
    return !s->manager_ready && s->state == SWARM_PENDING && swarm_is_manager(s) && !s->reopen.waits;
}

void swarm_watch(struct swarm *s, void (*on_change)(void *ctx), void *ctx)
{
    s->on_change = on_change;
    s->watch_ctx = ctx;
}

void swarm_tell(struct swarm *s)
{
    if (s->on_change)
        s->on_change(s->watch_ctx);
}

const char *swarm_header(const struct swarm *s)
{
    switch (s->state) {
    case SWARM_PENDING:
        return "pending";
    case SWARM_LOCKED:
        return "locked";
    case SWARM_ACTIVE:
        return swarm_is_member(s) ? "active/manager" : "active/worker";
    case SWARM_FAILED:
        return "error";
    default:
        return "inactive";
    }
}

/* A manager that does not get ready does not renew either. */
static bool is_expired(const struct swarm *s)
{
    struct cert_facts facts;

    if (s->state == SWARM_ACTIVE)
        return s->renew && renew_expired(s->renew);
    return s->state == SWARM_PENDING && s->identity &&
           cert_facts(s->identity->certificate_pem, &facts, NULL) == 0 &&
           facts.not_after_ms <= clock_wall_ms(s->config.clock);
}

static const char *local_state(const struct swarm *s)
{
    if (s->state == SWARM_LEAVING || s->state == SWARM_CLOSED)
        return "inactive";
    return is_expired(s) ? "error" : swarm_state_name(s);
}

/* A worker knows where the managers are, not which nodes they are. */
static void write_managers(const struct swarm *s, struct jwrite *j)
{
    if (!s->identity || (!s->identity->n_managers && !swarm_is_manager(s))) {
        jwrite_null(j, "RemoteManagers");
        return;
    }
    bool is_listed = false;
    jwrite_array(j, "RemoteManagers");
    for (size_t i = 0; i <= s->identity->n_managers; i++) {
        const char *address =
            i < s->identity->n_managers ? s->identity->managers[i] : s->identity->advertise_address;
        bool is_own = swarm_is_member(s) && swarm_is_own(s, address);

        if (i == s->identity->n_managers && (is_listed || !swarm_is_member(s)))
            break;
        jwrite_object(j, NULL);
        jwrite_string(j, "NodeID", is_own ? s->identity->node_id : "");
        jwrite_string(j, "Addr", address);
        jwrite_end(j);
        is_listed = is_listed || is_own;
    }
    jwrite_end(j);
}

/* Why this node does not take part, although nobody told it to leave; "": it does. */
static const char *trouble(const struct swarm *s)
{
    if (s->state == SWARM_FAILED)
        return s->error.text;
    if (is_expired(s))
        return swarm_is_manager(s) ? expired_manager_text : expired_text;
    return s->agent && agent_denied(s->agent) ? removed_text : "";
}

void swarm_info(const struct swarm *s, struct jwrite *j)
{
    char host[64] = "";

    if (s->identity && s->identity->advertise_address)
        address_host(s->identity->advertise_address, host, sizeof(host));
    jwrite_string(j, "NodeID", s->identity ? s->identity->node_id : "");
    jwrite_string(j, "NodeAddr", host);
    jwrite_string(j, "LocalNodeState", local_state(s));
    jwrite_bool(j, "ControlAvailable", s->manager_ready);
    jwrite_string(j, "Error", trouble(s));
    if (s->manager_ready)
        manager_info(s->manager, j); /* which knows all of them */
    else
        write_managers(s, j);
}

void swarm_warnings(const struct swarm *s, struct jwrite *j)
{
    if (s->manager_ready)
        manager_warnings(s->manager, j);
}
