/* Schedules that random worlds reach seldom or never: Raft's figure 8, one for each guard of reference/raft-step.md
 * section 5, and one for each bug the simulation found. */
#pragma once

#include "manager/raft/fault.h"
#include "tests/simulation/raft_world.h"

struct directed {
    const char *name;
    void (*run)(struct world *w); /* begins with world_init and leaves the world to the caller */
    enum raft_fault without;      /* the fault with which it must fail; 0: none known */
};

extern const struct directed directed[];
extern const size_t directed_count;
