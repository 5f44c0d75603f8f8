/* Whether a spec makes sense (reference/swarm-surface.md sections 2, 3 and 9). Pure.
 *
 * Texts are Docker's where clients or scripts know them. What cannot work in this version is refused with
 * ERR_UNSUPPORTED, by name. */
#pragma once

#include "proto/base/err.h"
#include "proto/spec.pb-c.h"

int validate_service(const ServiceSpec *spec, struct err *e);
int validate_node(const NodeSpec *spec, struct err *e);
int validate_cluster(const ClusterSpec *spec, struct err *e);

/* Of a service's container: signals, capabilities, limits, settings and names that no node knows. */
int validate_container(const ContainerSpec *spec, struct err *e);
