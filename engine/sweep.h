/* A trash directory: what goes in is gone at once, its bytes are given back soon.
 *
 * Removing a container's files can take seconds. Here it is one rename; the deletion happens in the thread pool, in
 * slices of a few milliseconds, one at a time, and goes on after a crash. Nothing outside is ever followed: no
 * symbolic link, no mount. Trees of any depth and with immutable files go too. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "proto/base/err.h"

struct sweep;

/* Open the trash `path` (made when missing) and go on with what lies in it. */
int sweep_open(uv_loop_t *loop, const char *path, struct sweep **ret, struct err *e);

/* Move `name` out of dir_fd, which must be on the same file system. Absent is fine. */
int sweep_take(struct sweep *s, int dir_fd, const char *name, struct err *e);

/* Whether all that can be removed has been. */
bool sweep_idle(const struct sweep *s);

/* Stop after the slice under way; what is left goes at the next open. NULL: not called. */
void sweep_close(struct sweep *s, void (*closed)(void *ctx), void *ctx);
