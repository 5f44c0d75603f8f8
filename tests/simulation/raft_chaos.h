/* Random worlds: members, load, membership and faults from one seed, then healing and agreement. */
#pragma once

#include "tests/simulation/raft_world.h"

/* Run one world; w->failed and w->why say how it went. The caller ends it with raftsim_fini. */
void chaos_run(struct world *w, uint64_t seed);

/* As chaos_run, a quiet world in which one member dies at its n-th operation on the disk. Returns how many
 * operations the member did when it was not killed (n = 0). */
uint64_t chaos_kill_at(struct world *w, uint64_t seed, uint64_t n);
