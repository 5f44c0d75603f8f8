/* Join tokens, "SWMTKN-1-<digest>-<secret>": the digest pins the cluster's root certificate, the secret decides the
 * role (DESIGN.md section 6, reference/swarm-surface.md section 5). Pure but for the digest. */
#pragma once

#include "proto/base/err.h"

#define TOKEN_DIGEST_TEXT 50                                              /* base 36 of the root's SHA-256 */
#define TOKEN_SECRET_TEXT 25                                              /* base 36 of 128 random bits */
#define TOKEN_TEXT        (9 + TOKEN_DIGEST_TEXT + 1 + TOKEN_SECRET_TEXT) /* without the zero */

/* Take a token apart. ERR_INVALID says "invalid join token" and what is wrong, never the token itself. */
int token_parse(const char *token, char ret_digest[TOKEN_DIGEST_TEXT + 1], char ret_secret[TOKEN_SECRET_TEXT + 1],
                struct err *e);

/* The digest of the first certificate of this text, as it stands in tokens. */
int token_digest(const char *root_pem, char ret[TOKEN_DIGEST_TEXT + 1], struct err *e);
