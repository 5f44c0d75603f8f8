/* The stand-in store of the simulated world and its checkers (raft_world.h). */
#pragma once

#include "tests/simulation/raft_world.h"

struct replica_events check_events(struct world_member *m);

/* The files of a first member whose entry 1 names all voters. */
void check_make_first(struct world *w, const struct replica_config *config);

/* A message leaves. False: the world's filter took it. */
bool check_sent(struct world *w, uint64_t from, uint64_t to, const void *data, size_t size);

void check_member(struct world *w, struct world_member *m);   /* after each event */
void check_crashing(struct world *w, struct world_member *m); /* a life is about to end */
void check_opened(struct world *w, struct world_member *m);
void check_refused(struct world *w, struct world_member *m, const struct err *e); /* it does not open */
