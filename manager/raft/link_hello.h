/* The opening message of a link (link.proto), between bytes and a struct. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "manager/raft/env.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

#define LINK_ADDRESS_MAX 262 /* as MESSAGE_ADDRESS_MAX */

struct link_hello {
    uint64_t from, to;
    uint64_t epoch;
    uint32_t feature_level;
    enum env_channel channel;
    char address[LINK_ADDRESS_MAX + 1]; /* "" when it does not say */
};

void link_hello_put(struct buf *out, const struct link_hello *h);

/* ERR_INVALID names what is wrong. */
int link_hello_get(const void *data, size_t size, struct link_hello *ret, struct err *e);

/* Whether we, number `self` of the group in `epoch`, take it. ERR_PRECONDITION or ERR_INVALID with a text for the
 * dialer's operator. */
int link_hello_check(const struct link_hello *h, uint64_t self, uint64_t epoch, uint32_t feature_level,
                     struct err *e);
