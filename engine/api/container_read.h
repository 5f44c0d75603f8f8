/* From the JSON of a create request to a ContainerConfig: pure but for jansson. */
#pragma once

#include <jansson.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

/* Read a body of POST /containers/create for this minor version of the API. Every field of the API is taken over,
 * or refused with its name and value when it asks for what this version does not do; unknown ones are ignored.
 * Everything lives in the arena. */
int container_read(const json_t *body, unsigned minor, struct arena *a, ContainerConfig **ret, struct err *e);
