/* The parts of `shoal network`: network.c shows, network_change.c changes. */
#pragma once

#include "cli/command.h"

extern const struct command network_create, network_connect, network_disconnect, network_rm, network_prune;
