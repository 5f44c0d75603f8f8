/* From an assigned task and its service's spec to what the engine shall create. Pure (reference/swarm-surface.md
 * section 16). */
#pragma once

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"
#include "proto/dispatch.pb-c.h"

/* The labels by which a task's container is found again. */
#define CONVERT_LABEL_TASK    "com.docker.swarm.task.id"
#define CONVERT_LABEL_NODE    "com.docker.swarm.node.id"
#define CONVERT_LABEL_SERVICE "com.docker.swarm.service.id"

/* All in the arena or borrowed from task and spec. ERR_INVALID when the spec asks for what no container can be. */
int convert_task(const AssignedTask *task, const AssignedSpec *spec, const char *node_id, struct arena *a,
                 ContainerConfig **ret, struct err *e);
