/* Seccomp profiles in Docker's JSON format, compiled for this machine. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define PROFILE_BYTES_MAX (1u << 20)

struct profile_machine { /* what conditions in a profile are held against */
    uint64_t capabilities;
    unsigned kernel_major, kernel_minor;
};

/* The default profile's text. */
const char *profile_default(size_t *ret_size);

/* Compile: appends struct sock_filter to `ret`. ERR_INVALID names the part of the profile that makes no sense. */
int profile_compile(const char *json, size_t size, const struct profile_machine *machine, bool linear,
                    struct buf *ret, struct err *e);
