/* The dispatcher: sessions with agents, their assignments as differences, their statuses, their lives (DESIGN.md
 * section 9).
 *
 * It serves two methods of the manager port (proto/wire/methods.h): sessions and the bulk streams of task logs. It
 * works on the leader only; elsewhere agents are sent to the leader. What agents are told is what is applied, never
 * what a draft holds. All on the manager loop; it has no timers of its own: it asks through `wake` for
 * dispatcher_turn. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/control.h"
#include "proto/dispatch.pb-c.h"
#include "proto/wire/rpc.h"

struct dispatcher;

struct dispatcher_config {
    struct control *control;
    struct clock *clock;
    struct entropy *entropy;
    unsigned registrations_per_second, registrations_per_node; /* 0: as admission.h says */
    void *ctx;
    void (*wake)(void *ctx); /* call dispatcher_turn soon; comes from inside any function here */
};

struct dispatcher *dispatcher_new(const struct dispatcher_config *config);

/* End all sessions and logs. Writes under way end with control, so close that first. NULL is fine. */
void dispatcher_free(struct dispatcher *d);

/* Handlers for the table of methods; ctx is the dispatcher. */
void dispatcher_on_session(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer,
                           const void *message, size_t size);
void dispatcher_on_logs(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                        size_t size);

/* Send what changed, look who is down. Returns after how many milliseconds the next turn is due: -1: not before
 * `wake`. */
int64_t dispatcher_turn(struct dispatcher *d);

/* --- logs of tasks --------------------------------------------------------------------------------- */

#define DISPATCHER_LOGS_PER_NODE 256 /* at once: streams on its connection */

struct dispatcher_log; /* one task's log, as its node sends it */

struct dispatcher_log_events {
    void *ctx;
    /* Lines, in order; borrowed for the call. */
    void (*on_lines)(void *ctx, const LogChunk *chunk);
    /* It has ended: code 0, or why it could not be read (its node has no session or sends too many logs already,
     * the session was lost, no container). Last call. */
    void (*on_end)(void *ctx, const struct err *e);
};

/* Ask the task's node. `request` gives options; its subscription and task_id are filled in. on_end comes at the
 * earliest in the next dispatcher_turn, also when the node is away. */
struct dispatcher_log *dispatcher_log_open(struct dispatcher *d, uint64_t task, const LogRequest *request,
                                           const struct dispatcher_log_events *events);
void dispatcher_log_pause(struct dispatcher_log *l,
                          bool paused);              /* the node is slowed down through the stream's credit */
void dispatcher_log_close(struct dispatcher_log *l); /* no further callbacks; not after on_end */

unsigned dispatcher_sessions(const struct dispatcher *d);

/* Leader: the node was up under the leader before, and has not come to this one yet. */
bool dispatcher_awaits(const struct dispatcher *d, uint64_t node);
