/* The cluster's certificate authority: root, issuing, join tokens (DESIGN.md section 6, reference/swarm-surface.md
 * section 5).
 *
 * Works on texts; nothing is kept but what a struct ca_root holds. Times are wall-clock milliseconds, given by the
 * caller. */
#pragma once

#include <stdint.h>

#include "proto/base/entropy.h"
#include "proto/base/err.h"
#include "proto/base/ident.h"
#include "proto/wire/rpc.h"
#include "proto/wire/token.h"

#define CA_SECRET_TEXT TOKEN_SECRET_TEXT
#define CA_TOKEN_TEXT  TOKEN_TEXT

/* A new root: key and self-signed certificate, CN swarm-ca, 20 years from now (backdated one hour). Free both; wipe
 * the key. */
int ca_root_new(int64_t wall_ms, char **ret_certificate_pem, char **ret_key_pem, struct err *e);

/* A root that was read, ready to sign: reading costs twenty times what a signature does. */
struct ca_root;

/* Make *root (NULL: none yet) the one of these texts. It stays as it is when they are the same as before; else it
 * is freed, and *root is NULL after a failure. */
int ca_root_use(struct ca_root **root, const char *certificate_pem, const char *key_pem, struct err *e);
void ca_root_free(struct ca_root *root); /* wipes the key; NULL is fine */

/* Sign a request for this identity, valid from one hour ago for lifetime_ms. The request's subject and extensions
 * are ignored; its signature is checked and its key must be of a named curve, P-256 or stronger. Free the result.
 */
int ca_root_issue(const struct ca_root *root, const void *request_der, size_t request_size,
                  const struct rpc_identity *identity, int64_t wall_ms, int64_t lifetime_ms,
                  char **ret_certificate_pem, struct err *e);

/* All three at once. */
int ca_issue(const char *root_pem, const char *root_key_pem, const void *request_der, size_t request_size,
             const struct rpc_identity *identity, int64_t wall_ms, int64_t lifetime_ms, char **ret_certificate_pem,
             struct err *e);

void ca_secret_new(struct entropy *entropy, char ret[CA_SECRET_TEXT + 1]);
/* proto/wire/token.h takes it apart. */
int ca_token(const char *root_pem, const char *secret, char ret[CA_TOKEN_TEXT + 1], struct err *e);
