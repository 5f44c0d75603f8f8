/* Specs as the API writes and reads them: JSON <-> messages, by tables (proto/base/jmap.h,
 * reference/engine-api.yaml).
 *
 * What these tables do not take is refused by name: a field that parses and does nothing would be a lie. Whether
 * the values make sense is manager/api/validate's business. Pure but for jansson's tree. */
#pragma once

#include <jansson.h>

#include "proto/base/jmap.h"
#include "proto/spec.pb-c.h"

extern const struct jmap spec_service_map, spec_task_map, spec_node_map, spec_network_map, spec_cluster_map,
    spec_endpoint_map, spec_port_map, spec_platform_map, spec_resources_map;

int spec_read_service(const json_t *object, struct arena *a, ServiceSpec **ret, struct err *e);
int spec_read_node(const json_t *object, struct arena *a, NodeSpec **ret, struct err *e);
int spec_read_cluster(const json_t *object, struct arena *a, ClusterSpec **ret, struct err *e);
/* The root of a user's own in a cluster's spec, which is no part of the message: NULL where it is absent or empty.
 */
int spec_read_signing(const json_t *object, struct arena *a, char **ret_certificate, char **ret_key, struct err *e);

/* A name by which the API knows a value of these enums. */
const char *spec_protocol_name(PortProtocol protocol);
const char *spec_publish_mode_name(PublishMode mode);

/* Fill in what a service gets where its spec says nothing (reference/swarm-surface.md section 9), for inspect with
 * insertDefaults. What is added lies in the arena. */
void spec_insert_defaults(ServiceSpec *spec, struct arena *a);
