/* Streams without a network, for code that serves them (proto/wire/rpc.h): what the far side does comes by these
 * functions, and what is done to the far side goes to its callbacks. Linked before the archive with the real one.
 */
#pragma once

#include "proto/wire/rpc.h"

struct fake_rpc_far {
    void *ctx;
    const char *address;                                         /* "ip:port" */
    int (*on_send)(void *ctx, const void *message, size_t size); /* ERR_AGAIN: no credit, fake_rpc_writable comes */
    void (*on_pause)(void *ctx, bool paused);
    void (*on_end)(void *ctx, const struct err *e); /* fake_rpc_ended is due, later */
};

struct rpc_stream *fake_rpc_open(const struct fake_rpc_far *far); /* give it to the method's on_open */
void fake_rpc_message(struct rpc_stream *s, const void *message, size_t size);
void fake_rpc_writable(struct rpc_stream *s);
void fake_rpc_ended(struct rpc_stream *s, const struct err *e); /* the last call: s is freed */
