/* See swarm.h. Here: the states, what must be over before a membership can end, resuming and closing. Founding and
 * leaving have files of their own (swarm_init.c, swarm_leave.c), as have agent and manager (swarm_parts.c), the
 * identity and its renewal (swarm_identity.c) and what clients are told (swarm_http.c).
 *
 *     inactive --init--> pending (founding) --> active --leave--> leaving --> inactive
 *     start: an identity is there --> pending (resuming) --> active
 *     start: it is locked --> locked --unlock--> pending (resuming); its tasks run on meanwhile
 *     active | error --force-new-cluster--> pending (forcing) --> active
 *     whatever cannot go on --> error, which leaving ends
 *
 * The identity alone decides, at a start, whether this node is in a swarm; whatever else lies about without one is
 * left of an init or a leave that was interrupted, and is removed. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/sm.h"

static const char *const state_names[] = {"inactive", "pending", "locked", "active", "error", "leaving", "closed"};
static const uint32_t moves[] = {
    [SWARM_INACTIVE] = SM_TO(SWARM_PENDING) | SM_TO(SWARM_LOCKED) | SM_TO(SWARM_CLOSED),
    [SWARM_LOCKED] = SM_TO(SWARM_PENDING) | SM_TO(SWARM_LEAVING) | SM_TO(SWARM_CLOSED),
    [SWARM_PENDING] = SM_TO(SWARM_ACTIVE) | SM_TO(SWARM_FAILED) | SM_TO(SWARM_INACTIVE) | SM_TO(SWARM_LEAVING) |
                      SM_TO(SWARM_CLOSED),
    [SWARM_ACTIVE] = SM_TO(SWARM_PENDING) | SM_TO(SWARM_LEAVING) | SM_TO(SWARM_FAILED) | SM_TO(SWARM_CLOSED),
    [SWARM_FAILED] = SM_TO(SWARM_PENDING) | SM_TO(SWARM_LEAVING) | SM_TO(SWARM_CLOSED),
    [SWARM_LEAVING] = SM_TO(SWARM_INACTIVE) | SM_TO(SWARM_FAILED) | SM_TO(SWARM_CLOSED),
    [SWARM_CLOSED] = 0,
};
static const struct sm_table machine = {"swarm membership", state_names, moves, SWARM_CLOSED + 1};

void swarm_move(struct swarm *s, int next)
{
    sm_move(&machine, &s->state, next);
    swarm_tell(s);
}

const char *swarm_state_name(const struct swarm *s)
{
    return state_names[s->state];
}

/* --- the end --------------------------------------------------------------------------------------- */

void swarm_drop_identity(struct swarm *s)
{
    if (s->identity)
        identity_wipe(s->identity);
    message_free(s->identity);
    s->identity = NULL;
    tls_unref(s->tls);
    s->tls = NULL;
    s->role.is_known = s->role.is_ending = false;
    s->when_durable = NULL;
    s->is_unwritten = false;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void finish(struct swarm *s)
{
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;

    swarm_drop_identity(s);
    swarm_drop_asked(s);
    uv_close((uv_handle_t *)s->again, on_timer_closed);
    uv_close((uv_handle_t *)s->patience, on_timer_closed);
    free(s);
    closed(ctx);
}

/* One of the pending callbacks is done with s. Returns false when s is closing: then it may be gone. */
bool swarm_callback_came(struct swarm *s)
{
    s->pending--;
    if (s->state != SWARM_CLOSED)
        return true;
    if (s->parts_closed && s->pending == 0)
        finish(s);
    return false;
}

/* --- opening and closing --------------------------------------------------------------------------- */

static void resume_role(struct swarm *s)
{
    if (!swarm_is_manager(s)) {
        swarm_move(s, SWARM_ACTIVE);
        swarm_write_out(s);
        swarm_start_renewal(s);
    } else if (swarm_is_member(s)) {
        swarm_open_manager(s);
        if (s->identity->n_managers > 1)
            swarm_announce(s); /* others may be looking for us elsewhere */
    } else {
        swarm_start_renewal(s); /* joining or a promotion was interrupted */
        swarm_begin_manager(s);
    }
}

void swarm_resume(struct swarm *s)
{
    struct err e;

    log_info("resuming", "cluster=%s node=%s role=%s", s->identity->cluster_id, s->identity->node_id,
             swarm_is_manager(s) ? "manager" : "worker");
    swarm_move(s, SWARM_PENDING);
    int rc = tls_new(s->identity->certificate_pem, s->identity->key_pem, s->identity->root_pem, &s->tls, &e);
    if (rc == 0) {
        swarm_refresh_addresses(s);
        resume_role(s);
    }
    if (rc < 0) {
        log_error("cannot resume", "error=\"%s\"", e.text);
        s->error = e;
        swarm_move(s, SWARM_FAILED);
    }
}

static void on_leftovers_removed(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code)
        log_warn("cannot remove what an unfinished init or leave left", "error=\"%s\"", e->text);
    if (swarm_callback_came(s))
        swarm_move(s, SWARM_INACTIVE);
}

/* This node is in no swarm: nothing of one may lie about. */
static void remove_leftovers(struct swarm *s)
{
    AUTO_FREE
    char *left = mem_printf("%s/swarm", s->config.data_dir);
    AUTO_FREE
    char *renamed = mem_printf("%s/.swarm.left", s->config.data_dir);
    struct err e;

    if (access(left, F_OK) < 0 && access(renamed, F_OK) < 0)
        return;
    swarm_move(s, SWARM_PENDING);
    s->pending++;
    if (identity_forget(s->config.loop, s->config.data_dir, on_leftovers_removed, s, &e) < 0)
        on_leftovers_removed(s, &e);
}

static uv_timer_t *timer_new(struct swarm *s)
{
    uv_timer_t *timer = mem_alloc(sizeof(*timer));

    (void)uv_timer_init(s->config.loop, timer); /* cannot fail */
    timer->data = s;
    return timer;
}

struct swarm *swarm_open(const struct swarm_config *config)
{
    struct swarm *s = mem_alloc(sizeof(*s));
    struct err e;

    s->config = *config;
    s->again = timer_new(s);
    s->patience = timer_new(s);
    int rc = identity_read(config->data_dir, &s->identity, &e);
    if (rc == 0 && s->identity->has_sealed) {
        log_info("this manager is locked", "cluster=%s node=%s", s->identity->cluster_id, s->identity->node_id);
        swarm_move(s, SWARM_LOCKED);
    } else if (rc == 0) {
        swarm_resume(s);
    } else if (rc == ERR_NOT_FOUND) {
        remove_leftovers(s);
    } else {
        log_error("cannot read this node's identity", "error=\"%s\"", e.text);
        s->error = e;
        swarm_move(s, SWARM_PENDING);
        swarm_move(s, SWARM_FAILED);
    }
    return s;
}

void swarm_engine_ready(struct swarm *s)
{
    s->engine_ready = true;
    swarm_start_agent(s);
}

static void on_all_closed(struct swarm *s)
{
    s->parts_closed = true;
    if (s->pending == 0)
        finish(s);
}

void swarm_close(struct swarm *s, void (*closed)(void *ctx), void *ctx)
{
    struct err e = {.code = ERR_CANCELED, .text = "the daemon is stopping"};

    s->closed = closed;
    s->closed_ctx = ctx;
    swarm_answer_error(s, &e);
    swarm_stop_refusing(s);
    swarm_move(s, SWARM_CLOSED);
    swarm_close_parts(s, on_all_closed);
}
