/* What a manager's node says to the leader of its place in the managers' group (join.proto, MemberRequest): that it
 * is to become a member, where its manager port is, or that it leaves for good. On the node loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/join.pb-c.h"
#include "proto/wire/rpc.h"

struct member;

struct member_config {
    uv_loop_t *loop;
    struct entropy *entropy;
    const char *cluster_id; /* copied */
    const char *own;        /* address of the manager port of this node; copied */
    uint64_t raft_id;       /* 0: it has none yet */
    bool leave;
    int patience_ms; /* then it gives up; 0: never */
    void *ctx;
    struct tls *(*tls)(void *ctx);                       /* the present one; borrowed */
    const char *(*address)(void *ctx, unsigned attempt); /* of a manager to ask; NULL: none is known */
    void (*on_refused)(void *ctx, const struct err *e);  /* a manager said no; it is asked again. May be NULL */
    /* Once: code 0 and the answer (borrowed; raft_id and epoch are there), or why there was none in time.
     * member_close is still due. */
    void (*done)(void *ctx, const struct err *e, const MemberReply *reply);
};

struct member *member_open(const struct member_config *config);

/* At any time, also from a callback; nothing comes any more but `closed`. */
void member_close(struct member *m, void (*closed)(void *ctx), void *ctx);
