/* Volumes as the API shows them. */
#pragma once

#include "engine/volume/volume.h"
#include "proto/base/jwrite.h"

/* `bytes` below 0: without usage. */
void volume_show(const struct volume *v, int64_t bytes, struct jwrite *j);
