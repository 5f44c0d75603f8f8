/* What tasks of one spec version ask of a node: everything the filters of reference/swarm-surface.md section 14
 * look at, parsed once. It lives inside the index's spec (manager/index.h). Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "manager/scheduler/constraint.h"
#include "proto/spec.pb-c.h"

struct demand_generic {
    const char *kind;
    int64_t amount;
};

struct demand_platform {
    const char *os, *architecture; /* "" matches any; the architecture by the kernel's name */
};

struct demand_plugin {
    const char *type, *name; /* "Volume", "Log" */
};

struct demand_preference {
    enum constraint_key key; /* spread over the values of this */
    const char *label;
};

struct demand {
    uint64_t digest[2]; /* two demands with the same digest ask the same */
    const struct constraint *constraints;
    const struct demand_platform *platforms;
    const struct demand_plugin *plugins;
    const struct demand_preference *preferences;
    const struct demand_generic *generic;
    const uint32_t *host_ports; /* protocol << 16 | port */
    uint32_t constraint_count, platform_count, plugin_count, preference_count, generic_count, host_port_count;
    int64_t nano_cpus, memory_bytes; /* reserved */
    uint64_t max_replicas;           /* of the service per node; 0: no limit */
};

/* Room for what demand_fill copies, beyond the struct. */
size_t demand_bytes(const ServiceSpec *spec);

/* Fill from a spec. Nothing of the spec is kept; everything lives in `memory`, demand_bytes large, 8-aligned. A
 * constraint that does not parse (the API refuses them) holds on no node. */
void demand_fill(const ServiceSpec *spec, void *memory, struct demand *ret);

/* "x86_64" for "amd64" and the like; others unchanged. */
const char *demand_architecture(const char *name);
