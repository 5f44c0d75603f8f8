/* A cluster's root and its change (DESIGN.md section 6, reference/swarm-surface.md section 5).
 *
 *     present --begin--> present and next --finish--> present (which was next)
 *
 * Between begin and finish the next root signs, the present one has vouched for it, and nodes trust both: so every
 * node can renew when it likes, and those that have verify those that have not and the other way round. All of it
 * stands in the cluster's object; what is made here lies in the arena. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/object.pb-c.h"

struct ca_signer {         /* who signs now; texts in the arena */
    const char *root_pem;  /* its certificate */
    const char *key_pem;   /* its key: ca_signer_wipe */
    const char *chain_pem; /* what follows a certificate that it signed; "" unless roots rotate */
    const char *trust_pem; /* what nodes trust */
};

/* ERR_UNAVAILABLE: the cluster has no signing key. */
int ca_signer(const RootCa *root, struct arena *a, struct ca_signer *ret, struct err *e);
void ca_signer_wipe(struct ca_signer *signer);

bool ca_rotates(const RootCa *root); /* NULL is fine */

/* As in ca_signer, for those who need no key; NULL when there is no root yet. */
const char *ca_trust(const RootCa *root, struct arena *a);
const char *ca_issuer(const RootCa *root, struct arena *a); /* the certificate of whoever signs */

/* How long certificates are to live. */
int64_t ca_lifetime_ms(const ClusterSpec *spec);

/* Check a root that a user brings: one certificate and its key, a CA that may sign CAs, valid now, ECDSA of 256
 * bits or RSA of 2048 at least. ERR_INVALID names the field (CAConfig.SigningCACert, CAConfig.SigningCAKey). */
int ca_root_check(const char *certificate_pem, const char *key_pem, int64_t wall_ms, struct err *e);

/* Change `root`: it is on the way to this certificate and key, or (both NULL) to new ones. One that is under way
 * already is dropped; asked for the present root, that is all. */
int ca_rotation_begin(RootCa *root, const char *certificate_pem, const char *key_pem, int64_t wall_ms,
                      struct arena *a, struct err *e);

/* Change `root`: every node has renewed. */
void ca_rotation_finish(RootCa *root);
