/* For tests: several managers of one cluster in this process, each with its own threads, log and store, linked over
 * TLS on loopback. The first one founds, the others join with the managers' token as real nodes do.
 *
 * Each listens at an address of its own in 127.0.0.0/8, which no other test has, so that one that comes back finds
 * its port free. */
#pragma once

#include "tests/support/cluster.h"

#define GROUP_MOST 7

struct group {
    struct cluster at[GROUP_MOST]; /* founding.node_id is each one's own */
    bool open[GROUP_MOST];         /* its manager is */
    unsigned count;
    const char *base;
    struct err why; /* of the last call to a manager's port that failed */
};

/* Turn all loops until the condition holds. */
#define group_until(g, condition)                                                       \
    do {                                                                                \
        uint64_t give_up_ = uv_hrtime() / 1000000 + CLUSTER_PATIENCE_MS;                \
        while (!(condition)) {                                                          \
            group_turn(g);                                                              \
            if (uv_hrtime() / 1000000 > give_up_)                                       \
                cluster_fail(__FILE__, __LINE__, "waited in vain for: %s", #condition); \
        }                                                                               \
    } while (0)

void group_turn(struct group *g);
void group_rest(struct group *g, unsigned ms);

/* A cluster of one in a directory below `base`, which is borrowed. */
void group_found(struct group *g, const char *base);
/* Another one joins and opens its manager; returns its place. group_until(g, group_is_voter(...)) for the rest. */
unsigned group_join(struct group *g);
/* The same as far as its certificate: no manager yet. */
unsigned group_join_closed(struct group *g);
void group_end(struct group *g);

/* Say at the leader where this manager is, and keep the answer for group_start. `fresh`: it has no log. Returns the
 * code; what for is in g->why. */
int group_announce(struct group *g, unsigned i, bool fresh);
int group_leave(struct group *g, unsigned i); /* likewise: it leaves */

void group_stop(struct group *g, unsigned i);  /* as planned */
void group_start(struct group *g, unsigned i); /* on what it left on the disk; does not wait */
/* Its log is gone. It is stopped. */
void group_lose_disk(struct group *g, unsigned i);

/* As cluster_expect, at any manager: one that does not lead forwards, and the leader's own loop renders the answer,
 * so all of them have to be turned. */
const char *group_expect(struct group *g, unsigned i, int status, const char *method, const char *path,
                         const char *body);

/* The place of the leader, as those that are open see it; GROUP_MOST: there is none at the moment. */
unsigned group_leader(struct group *g);
/* Wait for one. */
struct cluster *group_lead(struct group *g);

/* What the leader's GET /nodes/<node i> has at this way; NULL: nothing, or no leader. */
const char *group_node(struct group *g, unsigned i, const char *way);
/* Update the role in node i's spec, at the leader; returns the status, *ret_body (may be NULL) the answer. */
int group_wish(struct group *g, unsigned i, const char *role, const char **ret_body);
/* It has a vote and is heard from: the group has as many as it should. */
bool group_is_level(struct group *g, unsigned managers);
