/* How a job confines itself before it touches bytes from outside (DESIGN.md section 7).
 *
 * In order: confine_limits, confine_root (or confine_root_network), confine_capabilities, confine_system_calls.
 * Nothing can be taken back afterwards, by the job or by whoever takes it over. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct confine_limits {
    uint64_t memory_bytes; /* writable memory of the process */
    uint64_t file_bytes;   /* largest file it may write */
    unsigned descriptors;  /* descriptors it may hold */
};

/* Die with the parent, no core dump, no tracing by others of our user, resource limits. */
int confine_limits(const struct confine_limits *limits, struct err *e);

/* Make the directory the whole world: "/" of a mount namespace that holds nothing else, without set-user-id,
 * devices and programs; with `alone`, empty network, IPC, host name and process namespaces too (the latter for the
 * next child). Takes dir_fd (and closes it: it would lead out), returns the new root's descriptor. */
int confine_root(int dir_fd, bool alone, int *ret_root_fd, struct err *e);

/* As confine_root for a job that speaks to the network: the directory is /work, and what name resolution and TLS
 * read (resolv.conf, hosts, certificates, libraries, `certificates` if it exists) is there, read-only. */
int confine_root_network(int dir_fd, const char *certificates, int *ret_root_fd, struct err *e);

/* Keep these capabilities (a mask of 1 << CAP_*) and no way to get others. */
int confine_capabilities(uint64_t keep, struct err *e);

enum confine_calls {
    CONFINE_FILES,   /* make and fill files below open directories */
    CONFINE_MARK,    /* read from a pipe, open below the root, set an attribute, wait for a child */
    CONFINE_REMOVE,  /* list and remove below open directories */
    CONFINE_NETWORK, /* sockets of the internet families, threads, files */
};

/* Allow the system calls such a job needs; every other one fails with ENOSYS. */
int confine_system_calls(enum confine_calls kind, struct err *e);
