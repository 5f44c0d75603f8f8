/* What is said where nobody leads: Docker's words, and which managers are missing. On the manager loop. */
#pragma once

#include "manager/control.h"

/* ERR_UNAVAILABLE. Managers from which nothing came for a while are named, by hostname, address, and when they were
 * heard last. */
void quorum_missing(struct control *c, struct err *e);
