/* Membership of the managers' group: who is to be a manager, and, at the leader, the changes that make it so
 * (DESIGN.md section 5). On the manager loop; without a loop of its own, as control. */
#pragma once

#include "manager/control.h"
#include "manager/membership_plan.h"

struct membership;

struct membership_config {
    struct control *control;
    struct clock *clock;
    uint64_t self; /* this manager's raft id */
    /* Go on alone (swarm init --force-new-cluster): first of all the others lose their numbers, this node is the
     * manager, and the cluster has this epoch. */
    bool force;
    uint64_t epoch;
    const uint8_t *node_id; /* 16 bytes; borrowed, as the address */
    const char *address;
    int64_t reachable_ms; /* a member that was not heard from for so long cannot be reached; 0: 2000 */
    void *ctx;
    void (*wake)(void *ctx); /* call membership_turn soon */
};

struct membership *membership_new(const struct membership_config *config);

/* Follow what was applied and, on the leader, do what is next. Call when something was applied, when leadership
 * came or went, and at the time it asks for: after so many milliseconds, -1: not before one of these. */
int64_t membership_turn(struct membership *m);

/* That is so now, or was not asked for. */
bool membership_settled(const struct membership *m);

/* After control has closed, since it holds writes and changes of ours. NULL is fine. */
void membership_free(struct membership *m);

/* --- questions, at any manager, of what is applied here ----------------------------------------------- */

/* "host:port" of the leader's manager port; NULL: none is known. Borrowed until the loop turns. */
const char *membership_leader(struct membership *m);

/* All managers' addresses; borrowed until the loop turns. */
char *const *membership_managers(struct membership *m, size_t *ret_count);

/* The nodes that have a number, in the order in which they became managers; at most max. *ret_generation (may be
 * NULL) is another after each change of them. */
size_t membership_rows(struct membership *m, struct membership_row *ret, size_t max, uint64_t *ret_generation);

/* Whether that number is in Raft's configuration here, or is being added. */
bool membership_has(struct membership *m, uint64_t raft_id, bool *ret_voter);

enum membership_reach { MEMBERSHIP_UNKNOWN, MEMBERSHIP_UNREACHABLE, MEMBERSHIP_REACHABLE };

struct membership_facts {
    bool is_leader, is_voter;
    enum membership_reach reach; /* as the leader sees it; elsewhere MEMBERSHIP_UNKNOWN, but for itself */
    const char *why;             /* it has no vote yet or is not demoted yet; NULL: nothing is in the way */
};
/* What is known of a member. False: it is none. */
bool membership_describe(struct membership *m, uint64_t raft_id, struct membership_facts *ret);

/* Whether that node may be made a worker, as the draft stands: ERR_PRECONDITION with Docker's words when it is the
 * last manager, or when of the managers that are left too few can be reached. */
int membership_check_demotion(struct membership *m, struct plan *p, uint64_t number, struct err *e);
