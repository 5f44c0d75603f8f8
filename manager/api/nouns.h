/* The nouns of the swarm API, each with its table of routes, ended by an empty one (route.c). */
#pragma once

#include "manager/api/ask.h"

extern const struct ask_route swarm_routes[], service_routes[], task_routes[], node_routes[], network_routes[],
    later_routes[];
