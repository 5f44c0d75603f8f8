/* How many bytes a directory holds, without holding up the loop: the pool looks at it in slices of a few
 * milliseconds. Files with several names count once; other file systems below are left out. */
#pragma once

#include <stdint.h>

#include <uv.h>

struct measure;

/* Measure `dir_fd` (any kind of directory descriptor; duplicated). `done` comes once with the bytes, -1 when it
 * could not be looked at. */
struct measure *measure_start(uv_loop_t *loop, int dir_fd, void (*done)(void *ctx, int64_t bytes), void *ctx);

/* `done` does not come any more. */
void measure_cancel(struct measure *m);
