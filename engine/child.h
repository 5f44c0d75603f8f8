/* A helper process of ours on the loop: `shoal-job VERB`, spoken to in frames (proto/job.proto).
 *
 * Frames go to its standard input and come from its standard output; its standard error is ours. It gets
 * descriptors as 3 and up and, of the environment, only what helps it to reach registries. It dies with us. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "proto/base/err.h"

struct child;

struct child_config {
    uv_loop_t *loop;
    const char *program; /* path */
    const char *verb;
    bool upload;    /* its descriptor 3 is the end of a pipe that child_feed fills; `fds` begin at 4 */
    const int *fds; /* borrowed: duplicated by the start */
    unsigned fd_count;
};

struct child_events {
    void *ctx;
    /* One frame. May call child_send, child_kill. */
    void (*on_frame)(void *ctx, const void *data, size_t size);
    /* It has ended and everything it said has come; the child is freed. code 0: with status 0. */
    void (*on_end)(void *ctx, const struct err *e);
    /* After child_feed returned false: there is room again. */
    void (*on_writable)(void *ctx);
};

int child_start(const struct child_config *config, const struct child_events *events, struct child **ret,
                struct err *e);

void child_send(struct child *c, const ProtobufCMessage *message);
void child_finish(struct child *c); /* no more frames: end of its standard input */

/* Bytes of the upload; false when it should wait for on_writable (the bytes are taken all the same). Size 0 ends
 * it. */
bool child_feed(struct child *c, const void *data, size_t size);

void child_kill(struct child *c); /* on_end comes with ERR_CANCELED */
