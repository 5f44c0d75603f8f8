/* The cluster's certificate authority: root, issuing, join tokens (DESIGN.md section 6, reference/swarm-surface.md
 * section 5).
 *
 * Works on texts; it keeps nothing. Times are wall-clock milliseconds, given by the caller. */
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

/* Sign a request for this identity, valid from one hour ago for lifetime_ms. The request's subject and extensions
 * are ignored; its signature is checked and its key must be P-256 or stronger. Free the result. */
int ca_issue(const char *root_pem, const char *root_key_pem, const void *request_der, size_t request_size,
             const struct rpc_identity *identity, int64_t wall_ms, int64_t lifetime_ms, char **ret_certificate_pem,
             struct err *e);

void ca_secret_new(struct entropy *entropy, char ret[CA_SECRET_TEXT + 1]);
/* proto/wire/token.h takes it apart. */
int ca_token(const char *root_pem, const char *secret, char ret[CA_TOKEN_TEXT + 1], struct err *e);
