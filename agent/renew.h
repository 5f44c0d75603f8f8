/* Keeps this node's certificate fresh (DESIGN.md section 6): asks a manager for a new one well before it ends,
 * again and again until there is one. On the node loop.
 *
 * A new key is made for each attempt and never leaves the node but through on_renewed. A manager's node asks its
 * own manager without a connection, so that it comes back even when its certificate ran out while it was off;
 * everybody else needs a valid one to be let in. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "manager/manager.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/wire/rpc.h"

struct renew;

/* Checked: for this node, of this cluster, signed by this root; the role in it is what the cluster wishes now, and
 * may be another than before. Borrowed. */
struct renewed {
    const char *certificate_pem, *key_pem, *root_pem;
    const uint8_t *lock_key; /* a manager's, while autolock is on: the unlock key, 32 bytes; else NULL */
    uint64_t lock_version;   /* of the cluster's object that has it */
};

struct renew_config {
    uv_loop_t *loop;
    struct clock *clock;
    struct entropy *entropy;
    const char *certificate_pem; /* the present one; only read while opening */
    struct tls *tls;             /* of it; a reference is taken */
    void *ctx;
    /* The manager of this node while it serves, else NULL. NULL: there never is one. */
    struct manager *(*own)(void *ctx);
    /* Address of a manager to ask, another one at each attempt where there are several; NULL: none is known. */
    const char *(*address)(void *ctx, unsigned attempt);
    /* A new certificate. Use it, and set *ret_tls to what was made of it (borrowed). An error counts as a failed
     * attempt. */
    int (*on_renewed)(void *ctx, const struct renewed *renewed, struct tls **ret_tls, struct err *e);
};

int renew_open(const struct renew_config *config, struct renew **ret, struct err *e);

/* Look at the clock now, not when the timer comes: it may have been set. */
void renew_look(struct renew *r);

/* Ask for a new certificate after so long, whatever the dates say: the node's role changes. An attempt under way is
 * followed by another one. */
void renew_soon(struct renew *r, int64_t delay_ms);

/* The cluster's certificates live no longer than this by now (renewal_shorten). */
void renew_limit(struct renew *r, int64_t lifetime_ms, int64_t within_ms);

/* The certificate is the same, but other roots are trusted from now on. */
void renew_set_tls(struct renew *r, struct tls *tls);

/* Whether the present certificate has ended. */
bool renew_expired(const struct renew *r);

void renew_close(struct renew *r, void (*closed)(void *ctx), void *ctx);
