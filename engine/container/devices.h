/* Devices of this machine that a container is to get: --device, and all of them for a privileged one. */
#pragma once

#include <stddef.h>

#include "engine/container/bundle.h"

#define DEVICES_MAX 4096

/* Find them. Looks at paths that users named, so not for the loop. Everything lives in the arena or is borrowed. */
int devices_find(const HostConfig *host, struct arena *a, struct bundle_device **ret, size_t *ret_count,
                 struct err *e);
