/* Joining a cluster, as far as the certificate (DESIGN.md section 6, reference/swarm-surface.md section 5): from a
 * join token and addresses of managers to an identity that other nodes believe. On the node loop; nothing is
 * written. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/spec.pb-c.h"

struct join;

struct join_result {
    const char *certificate_pem, *key_pem, *root_pem;
    const char *node_id, *cluster_id;
    NodeRole role;
    char *const *managers; /* addresses of the managers; at least one, that of the leader first */
    size_t manager_count;
    const uint8_t *lock_key; /* a manager's, while autolock is on: the unlock key, 32 bytes; else NULL */
    uint64_t lock_version;   /* of the cluster's object that has it */
    const char *local;       /* our own address, without a port, as it was used to reach the manager */
};

struct join_config {
    uv_loop_t *loop;
    struct clock *clock;
    struct entropy *entropy;
    char *const *remotes; /* "host", "host:port", "[v6]:port": addresses or names; copied */
    size_t remote_count;  /* 1 or more */
    const char *token;    /* copied */
    NodeAvailability availability;
    void *ctx;
    /* Once, later: code 0 and what came of it (borrowed), or why not, in one sentence. join_close is still due. */
    void (*done)(void *ctx, const struct err *e, const struct join_result *result);
};

int join_open(const struct join_config *config, struct join **ret, struct err *e);

/* At any time, also from `done`. Without it having come before, it never comes. */
void join_close(struct join *j, void (*closed)(void *ctx), void *ctx);
