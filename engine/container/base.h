/* The layer below every image: what each container needs to have mounts put on, made once for all of them. */
#pragma once

#include "proto/base/err.h"

/* Open the base layer `name` below dir_fd as an O_PATH directory; what is missing of it is made. */
int base_layer_open(int dir_fd, const char *name, int *ret_fd, struct err *e);
