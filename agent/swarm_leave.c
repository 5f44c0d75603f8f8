/* `swarm leave` (swarm.h).
 *
 * Order of leaving: a manager asks the leader to be taken out of the group, so that the others do not lose their
 * quorum by it (whether or not that succeeds, it goes on after a while), agent and manager are closed, the
 * containers of this node's tasks are removed, and last the identity's directory is renamed away before it is
 * removed, so that no half membership can be resumed. A crash before that leaves the membership as it was. */
#include <string.h>

#include "agent/convert.h"
#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

static void on_left(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (!swarm_callback_came(s))
        return;
    if (e->code) {
        s->error = *e;
        swarm_move(s, SWARM_FAILED);
        swarm_answer_error(s, e);
        return;
    }
    log_info("left the swarm", "cluster=%s node=%s", s->identity ? s->identity->cluster_id : "?",
             s->identity ? s->identity->node_id : "?");
    swarm_drop_identity(s);
    swarm_drop_asked(s);
    s->is_entering = false;
    swarm_move(s, SWARM_INACTIVE);
    if (s->waiting)
        http_reply_empty(s->waiting, 200);
    s->waiting = NULL;
}

static void forget(struct swarm *s)
{
    struct err e;

    s->pending++;
    if (identity_forget(s->config.loop, s->config.data_dir, on_left, s, &e) < 0)
        on_left(s, &e);
}

static void on_task_container_removed(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code && e->code != ERR_NOT_FOUND)
        log_warn("cannot remove a task's container", "error=\"%s\"", e->text);
    if (swarm_callback_came(s) && --s->removals == 0)
        swarm_when_written(s, forget);
}

/* Kill and remove the containers of this node's tasks, as leaving does in Docker. */
static void remove_task_containers(struct swarm *s)
{
    const ContainerRecord *record;
    AUTO_ARENA struct arena arena;
    char **ids = NULL;
    size_t at = 0, count = 0;
    struct err e;

    arena_init(&arena);
    while (engine_next(s->config.engine, &at, &record))
        for (size_t i = 0; i < record->config->n_labels; i++)
            if (strcmp(record->config->labels[i]->key, CONVERT_LABEL_NODE) == 0) {
                ids = arena_append(&arena, ids, count, sizeof(*ids));
                ids[count++] = arena_strdup(&arena, record->id);
                break;
            }
    s->removals = 1; /* of this function, so that the last callback cannot end it too early */
    for (size_t i = 0; i < count; i++) {
        s->removals++;
        s->pending++;
        if (engine_remove(s->config.engine, ids[i], true, true, on_task_container_removed, s, &e) < 0) {
            log_warn("cannot remove a task's container", "container=%s error=\"%s\"", ids[i], e.text);
            s->removals--;
            s->pending--;
        }
    }
    if (--s->removals == 0)
        swarm_when_written(s, forget);
}

/* Not in the middle of what decides whether there is a membership. */
static bool may_leave(const struct swarm *s)
{
    return s->engine_ready && (s->state == SWARM_ACTIVE || s->state == SWARM_FAILED || s->state == SWARM_LOCKED ||
                               (s->state == SWARM_PENDING && (s->join || (s->identity && !s->is_entering))));
}

/* Docker's words. */
static void refuse(const struct swarm *s, struct err *e)
{
    size_t managers = s->identity->n_managers;

    if (managers <= 1)
        err_set(
            e, ERR_UNAVAILABLE,
            "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last "
            "manager erases all current state of the swarm. Use `--force` to ignore this message. ");
    else if (managers == 2)
        err_set(e, ERR_UNAVAILABLE,
                "You are attempting to leave the swarm on a node that is participating as a manager. Removing this "
                "node leaves 1 managers out of 2. Without a Raft quorum your swarm will be inaccessible. The only "
                "way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. "
                "Use `--force` to suppress this message.");
    else
        err_set(
            e, ERR_UNAVAILABLE,
            "You are attempting to leave the swarm on a node that is participating as a manager. The only way to "
            "restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use "
            "`--force` to suppress this message.");
}

static void close_all(struct swarm *s)
{
    swarm_close_parts(s, remove_task_containers);
}

void swarm_http_leave(struct swarm *s, struct http_exchange *x)
{
    struct err e;

    if (s->state == SWARM_INACTIVE) {
        err_set(&e, ERR_UNAVAILABLE, "This node is not part of a swarm");
        http_reply_error(x, &e);
        return;
    }
    if (!may_leave(s)) {
        err_set(&e, ERR_UNAVAILABLE, "this node is %s; try again in a moment", swarm_state_name(s));
        http_reply_error(x, &e);
        return;
    }
    if (s->state == SWARM_LOCKED && !http_query_bool(x, "force")) {
        err_set(&e, ERR_UNAVAILABLE,
                "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.");
        http_reply_error(x, &e);
        return;
    }
    if (swarm_is_manager(s) && !s->role.is_ending && !http_query_bool(x, "force")) {
        refuse(s, &e);
        http_reply_error(x, &e);
        return;
    }
    err_set(&e, ERR_CANCELED, "the node was told to leave the swarm");
    swarm_answer_error(s, &e); /* who waits for a join */
    swarm_move(s, SWARM_LEAVING);
    swarm_wait_for(s, x);
    s->when_durable = NULL;
    if (s->identity)
        swarm_ask_to_leave(s, close_all);
    else
        close_all(s);
}
