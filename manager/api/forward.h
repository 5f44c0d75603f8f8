/* Asks that come to a manager which does not lead, sent on to the one that does (DESIGN.md section 4). On the
 * manager loop; relay.h is the leader's side, proto/forward.proto what they say to each other.
 *
 * There is one connection, to the leader of the day: made when something is to be forwarded, kept until another
 * leads. Each ask is a stream of its own, so that one that is read slowly holds up nobody. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "manager/api/ask.h"
#include "proto/forward.pb-c.h"
#include "proto/wire/rpc.h"

#define FORWARD_BODY_MOST  (8 * 1024 * 1024) /* of a request, as proto/wire/http.h takes it */
#define FORWARD_PART_BYTES (48 * 1024)       /* of a body in one message */

struct forward;
struct forward_call;

struct forward_config {
    uv_loop_t *loop;
    struct tls *tls;        /* a reference is taken */
    const char *cluster_id; /* borrowed */
};

struct forward *forward_new(const struct forward_config *config);
void forward_set_tls(struct forward *f, struct tls *tls); /* for connections from now on */

/* This is the leader's address, "host:port"; NULL: nobody is known to lead. A connection to another one is closed,
 * and what is under way there ends with ERR_AGAIN; without a leader it is kept, for what it may still say. */
void forward_lead(struct forward *f, const char *address);
/* We lead: the connection is closed likewise. */
void forward_lead_here(struct forward *f);

/* `closed` comes when the connection is gone; every call was dropped before. f is freed then. */
void forward_close(struct forward *f, void (*closed)(void *ctx), void *ctx);

struct forward_events {
    /* A part of the answer; borrowed for the call. After one with `more` nothing comes until forward_more. */
    void (*on_part)(struct ask *k, const ForwardPart *part);
    /* No (further) part will come; `undecided`: the leader may have carried it out. The call is still to be
     * dropped.
     */
    void (*on_end)(struct ask *k, const struct err *e, bool undecided);
};

/* Send the ask to the leader, with this id if it changes something (16 bytes; NULL: it does not). Its texts and
 * body are used until forward_drop. ERR_UNAVAILABLE: no leader is known, or too much is under way. Events never
 * come from inside this call. */
int forward_send(struct forward *f, struct ask *k, const uint8_t *id, const struct forward_events *events,
                 struct forward_call **ret, struct err *e);
void forward_more(struct forward_call *call); /* may tell on_end */
void forward_drop(struct forward_call *call); /* once, in any state, also from inside its events */

/* --- reading what came: bounded and checked, in the arena. ERR_INVALID otherwise --------------------------- */

int forward_read_request(const void *message, size_t size, struct arena *a, ForwardRequest **ret, struct err *e);
int forward_read_part(const void *message, size_t size, struct arena *a, ForwardPart **ret, struct err *e);
