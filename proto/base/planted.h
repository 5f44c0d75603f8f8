/* Planted bugs: with each the simulation of the managers must fail, which proves that its checkers see
 * (tests/simulation/manager_faults_sim.c). Only that program's own build of the sources knows them; everywhere else
 * PLANTED is false and costs nothing. manager/raft has its own (manager/raft/fault.h). */
#pragma once

#include <stdbool.h>

enum planted {
    PLANTED_ENTRY_SKIPPED = 1, /* a follower leaves an entry out */
    PLANTED_UNDO_FORGOTTEN,    /* the index keeps what a lost draft had made */
    PLANTED_ONE_TOO_MANY,      /* an update works on one slot more than it may */
    PLANTED_PORT_TWICE,        /* ports in use are given out */
    PLANTED_ANSWERED_EARLY,    /* a change is answered when it is proposed */
    PLANTED_REPLAY_FORGOTTEN,  /* a repeated request is executed again */
    PLANTED_READ_STALE,        /* a strong read does not ask whether we still lead */
    PLANTED_TOLD_EARLY,        /* a task is sent to its agent before the scheduler has confirmed it */
    PLANTED_DOWN_TWICE,        /* a node that is registering is declared down */
    PLANTED_FULL_SET_CLEARS,   /* an agent drops everything when a full set begins */
    PLANTED_NEVER_PROMOTED,    /* standbys get no vote */
};

#ifdef WITH_PLANTED
extern enum planted planted; /* the one that is there now; 0: none */
#define PLANTED(name) (planted == PLANTED_##name)
#else
#define PLANTED(name) false
#endif
