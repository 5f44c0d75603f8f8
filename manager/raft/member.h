/* Changing who is in the Raft group: inside the manager, between the node rows' wishes (DESIGN.md section 5) and
 * Raft's configuration. Leader only; one change at a time (ERR_CONFLICT); `done` comes later, once: code 0 when the
 * change is committed and applied here; ERR_UNAVAILABLE when leadership was lost first (the outcome is unknown);
 * ERR_TIMEOUT when it could not be proposed in time.
 *
 * To add a manager: it starts empty, is added as a standby, which gets the log, and is promoted once it is level.
 * The leader never demotes or removes itself (ERR_INVALID): it hands over, and the next leader does it. */
#pragma once

#include "manager/raft/replica.h"

typedef void replica_member_done(void *ctx, const struct err *e);

int replica_member_add(struct replica *r, uint64_t id, const char *address, replica_member_done *done, void *ctx,
                       struct err *e);
/* Waits until the member has nearly everything. */
int replica_member_promote(struct replica *r, uint64_t id, replica_member_done *done, void *ctx, struct err *e);
int replica_member_demote(struct replica *r, uint64_t id, replica_member_done *done, void *ctx, struct err *e);
/* Where it is reached; its role stays. ERR_NOT_MODIFIED, ERR_NOT_FOUND; ERR_EXISTS when another has that address.
 */
int replica_member_address(struct replica *r, uint64_t id, const char *address, replica_member_done *done,
                           void *ctx, struct err *e);
/* The member is told that it was removed. */
int replica_member_remove(struct replica *r, uint64_t id, replica_member_done *done, void *ctx, struct err *e);

/* Hand the leadership to a voter, 0: to one that answers, has everything and has room. Proposals are refused until
 * `done`: code 0 when we no longer lead; ERR_TIMEOUT when the other did not take over, and we lead on. */
int replica_transfer(struct replica *r, uint64_t to, replica_member_done *done, void *ctx, struct err *e);
