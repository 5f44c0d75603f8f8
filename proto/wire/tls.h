/* Inside of proto/wire: what one side proves itself with, and how it judges the other. The public part (tls_new,
 * tls_ref, tls_unref) stands in rpc.h. */
#pragma once

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "proto/wire/rpc.h"

#define TLS_SKEW_S 3600 /* a certificate may begin so much later than our clock says */

struct tls {
    atomic_uint references;
    SSL_CTX *context;         /* owned */
    struct rpc_identity self; /* of our certificate; RPC_ROLE_NONE without one */
    bool verifies;            /* there is a root to verify peers with */
};

/* A session for one connection; SSL_free it. It has no BIO yet. */
SSL *tls_session(struct tls *t, bool accepting);

/* After the handshake: who the peer is, by its verified certificate. ERR_UNAUTHORIZED when the certificate is valid
 * but names nobody we know how to treat; RPC_ROLE_NONE when it showed none or nothing was verified. */
int tls_identify(const struct tls *t, SSL *session, struct rpc_identity *ret, struct err *e);

/* After the handshake and tls_identify: free the peer's certificate, a quarter of what an idle connection holds
 * (nothing is ever resumed from the session object that owns it). */
void tls_forget_peer(SSL *session);

/* Describe why a TLS call failed, from OpenSSL's queue and the result of verifying; clears the queue. */
int tls_error(SSL *session, struct err *e);
