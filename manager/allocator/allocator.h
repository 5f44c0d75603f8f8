/* The allocator: what services and tasks are given before they are placed. So far published ports; addresses come
 * with networks. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/plan.h"
#include "proto/base/err.h"

#define ALLOCATOR_PORT_FIRST 30000 /* published ports that the cluster chooses */
#define ALLOCATOR_PORT_LAST  32767

/* Give services their ports, then move their new tasks from NEW to PENDING. Returns whether marks are left. */
bool allocate(struct plan *p);

/* Whether a service (number; 0: a new one) may publish these ports. ERR_INVALID names port and owner. */
int allocator_check_ports(const struct index *x, uint64_t service, const EndpointSpec *spec, struct err *e);
