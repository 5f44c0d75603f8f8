/* Planted bugs: with each the simulation must fail, which proves that its checkers see (tests/simulation). Only the
 * simulation's own build of these sources knows them; everywhere else FAULT is false and costs nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum raft_fault {
    /* A guard of reference/raft-step.md section 5 is missing. */
    FAULT_G1 = 1,
    FAULT_G2,
    FAULT_G3,
    FAULT_G4,
    FAULT_G5,
    FAULT_G6,
    FAULT_G7,
    FAULT_G8,
    FAULT_G9,
    FAULT_G10,
    FAULT_G11,
    FAULT_G12,
    FAULT_G13,
    FAULT_G14,
    FAULT_G15,
    FAULT_G16,
    FAULT_G17,
    /* One bug for each checker. */
    FAULT_VOTE_NOT_STORED,   /* term and vote are not written */
    FAULT_EARLY_DURABLE,     /* entries count as durable while they are being written */
    FAULT_CUT_FORGOTTEN,     /* a cut is not written to the log */
    FAULT_APPLY_UNCOMMITTED, /* everything durable is applied */
    FAULT_ANSWER_EARLY,      /* a proposal is answered when it is durable here */
    FAULT_READ_STALE,        /* a read does not ask whether we still lead */
    FAULT_OFFER_LOST,        /* no lagging member is ever offered a snapshot */
    FAULT_RESTORE_PARTIAL,   /* the last chunk of a snapshot is not restored */
    FAULT_MESSAGE_EARLY,     /* messages leave before term and vote are durable */
    FAULT_REMOVE_EARLY,      /* segments are removed before the snapshot is durable */
    FAULT_CACHE_TRUSTED,     /* what is read of the log when it is opened is taken to be on the disk */
    FAULTS
};

#ifdef RAFT_FAULTS
extern enum raft_fault raft_fault; /* the one that is planted now; 0: none */
#define FAULT(name) (raft_fault == FAULT_##name)
#else
#define FAULT(name) false
#endif
