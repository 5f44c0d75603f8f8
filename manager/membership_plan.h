/* Which change of the managers' group comes next (DESIGN.md section 5): node rows hold the wish, Raft's
 * configuration the fact. Pure; membership.c does what it says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMBERSHIP_ADDRESS_MAX 64 /* bytes of "host:port", zero included */

struct membership_row { /* a node with a number in the group */
    uint64_t number;    /* of the node's object */
    uint64_t raft_id;
    uint8_t node_id[16];
    char address[MEMBERSHIP_ADDRESS_MAX];
    bool wished; /* its spec's role is manager */
    bool held;   /* something failed with it a moment ago: not now */
};

struct membership_member { /* as Raft's configuration has it */
    uint64_t id;
    const char *address;
    bool voter;
    bool reachable; /* heard from lately; the leader itself is */
    bool level;     /* it lacks little of the log */
    bool held;
};

enum membership_verb {
    MEMBERSHIP_NOTHING,  /* all is as wished */
    MEMBERSHIP_WAIT,     /* something is to be done, but cannot yet: `why` */
    MEMBERSHIP_CLEAR,    /* take the number out of the row, which wishes no manager */
    MEMBERSHIP_REMOVE,   /* a standby that no row names */
    MEMBERSHIP_MOVE,     /* it is elsewhere now */
    MEMBERSHIP_PROMOTE,  /* a standby that is level becomes a voter */
    MEMBERSHIP_DEMOTE,   /* a voter becomes a standby */
    MEMBERSHIP_TRANSFER, /* the leader itself is to be demoted: hand over to raft_id */
    MEMBERSHIP_ADD,      /* as a standby */
};

struct membership_step {
    enum membership_verb verb;
    uint64_t raft_id;    /* whom it is about */
    uint64_t row;        /* CLEAR: the node's number */
    const char *address; /* ADD, MOVE: borrowed from the row */
    const char *why;     /* WAIT: a sentence's end for the log, "member 3 ..." */
};

struct membership_in {
    const struct membership_row *rows;
    size_t row_count;
    const struct membership_member *members;
    size_t member_count;
    uint64_t self; /* the leader's id */
};

/* One step. What is done with it comes back as rows and members that have changed, or as `held`. */
struct membership_step membership_plan(const struct membership_in *in);

/* Whether the voters that are left, less `without` and with `with` (0: none), could still decide anything: whether
 * those that are reachable are more than half of them. */
bool membership_keeps_quorum(const struct membership_in *in, uint64_t without, uint64_t with);
