/* From the JSON of a create request to a ContainerConfig: pure but for jansson. */
#pragma once

#include <jansson.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

/* Read a body of POST /containers/create for this minor version of the API. Every field of the API is taken over,
 * refused by name, or warned about when it has no effect here; unknown ones are ignored. Everything lives in the
 * arena; `ret_warnings` ends with NULL. */
int container_read(const json_t *body, unsigned minor, struct arena *a, ContainerConfig **ret, char ***ret_warnings,
                   struct err *e);
