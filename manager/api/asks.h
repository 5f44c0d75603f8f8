/* All asks of this manager: the manager loop's side of the swarm API. See ask.h. */
#pragma once

#include "manager/api/ask.h"
#include "manager/api/forward.h"
#include "manager/dispatcher/dispatcher.h"

struct asks_config {
    struct control *control;
    struct dispatcher *dispatcher;
    struct forward *forward; /* told here who leads; NULL: nothing is forwarded */
    struct membership *membership;
    struct clock *clock;
    struct entropy *entropy;
    const char *node_id; /* of this machine; borrowed */
    void *ctx;
    const char *(*leader)(void *ctx);             /* where it is, when another leads; NULL: as configured */
    void (*wake)(void *ctx);                      /* call asks_turn soon */
    void (*on_page)(void *ctx, struct ask *k);    /* hand it to the node */
    void (*on_dropped)(void *ctx, struct ask *k); /* it will not be touched any more */
};

struct asks *asks_new(const struct asks_config *config);

/* A new one; the node has taken a page; its client is gone (also when it has ended: then on_dropped comes at once).
 */
void asks_begin(struct asks *a, struct ask *k);
void asks_more(struct asks *a, struct ask *k);
void asks_drop(struct asks *a, struct ask *k);

/* A few milliseconds of work. Returns after how many milliseconds the next turn is due, -1: not before `wake`. */
int64_t asks_turn(struct asks *a);

/* Answer everything with this error, now and from now on; what the node has when it asks for more. */
void asks_refuse(struct asks *a, const struct err *e);

/* The same, and let go of what the node has (on_dropped), which must not ask for more any more: before control is
 * closed. */
void asks_end(struct asks *a, const struct err *e);

/* After control has closed, since it holds writes of ours. */
void asks_free(struct asks *a);

/* --- for the nouns -------------------------------------------------------------------------------------- */

const struct asks_config *asks_config(const struct asks *a);
struct logs_hub *asks_logs(const struct asks *a);
