/* Seccomp programs: compiled once per profile, capabilities, kernel and architecture, and then at hand.
 *
 * shoald does not link libseccomp: `shoal-job profile` compiles. Programs are kept as sealed memfds, which plans
 * carry to the keeper, and in files below a directory, so that a restarted node has them at once. All callbacks
 * come on the loop, never from inside a call. */
#pragma once

#include <stdint.h>

#include <uv.h>

#include "proto/base/err.h"

struct seccomp;

/* `job` is the path of shoal-job, `dir` the cache's directory (made when missing). */
int seccomp_open(uv_loop_t *loop, const char *job, const char *dir, struct seccomp **ret, struct err *e);

/* Whoever still waits is told ERR_CANCELED. */
void seccomp_close(struct seccomp *s, void (*closed)(void *ctx), void *ctx);

/* The program of a profile (JSON text, NULL: the default one) for a container with these capabilities.
 *
 * 0: *ret_fd is set, borrowed until the loop turns (duplicate it, or send it now); `done` will not be called.
 * ERR_AGAIN: it is being compiled; `done` comes once with the descriptor, borrowed during the call, or with an
 * error: ERR_INVALID names the part of the profile that makes no sense. Other codes: refused at once. */
int seccomp_program(struct seccomp *s, const char *profile, uint64_t capabilities, int *ret_fd,
                    void (*done)(void *ctx, const struct err *e, int fd), void *ctx, struct err *e);

/* Do not call `done` for this ctx any more. */
void seccomp_cancel(struct seccomp *s, void *ctx);
