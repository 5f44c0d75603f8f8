/* Keys and certificates as texts: what both sides of a join need (DESIGN.md section 6).
 *
 * Keys are ECDSA P-256. A node's certificate says who it is: CN the node's id, OU its role ("swarm-manager",
 * "swarm-worker"), O the cluster's id; SANs repeat CN and OU, and "swarm-ca" for managers. */
#pragma once

#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/wire/rpc.h"

#define CERT_PEM_BYTES_MAX 65536
#define CERT_BACKDATE_MS \
    (3600LL * 1000) /* a certificate is valid from so long before it was issued: clocks differ */

/* A new private key as PEM (PKCS 8). Free it; wipe it first. */
int cert_key_new(char **ret_key_pem, struct err *e);

/* A certificate request (DER) for this key. The subject is empty: the issuer decides. */
int cert_request_new(const char *key_pem, struct buf *ret_der, struct err *e);

struct cert_facts {
    struct rpc_identity identity;
    int64_t not_before_ms, not_after_ms; /* wall clock */
};

/* What the first certificate of a PEM text says. ERR_INVALID when the subject is not one of ours. */
int cert_facts(const char *certificate_pem, struct cert_facts *ret, struct err *e);

/* When a certificate (DER), whoever's it is, is valid. */
int cert_dates(const void *der, size_t size, int64_t *ret_not_before_ms, int64_t *ret_not_after_ms, struct err *e);

/* ERR_INVALID unless the first certificate belongs to this key and leads to a certificate of root_pem, through
 * those that follow it where there are any. Whether it is still valid is not asked. */
int cert_check(const char *certificate_pem, const char *key_pem, const char *root_pem, struct err *e);

/* DER of the certificate's issuer name and of the issuer's public key, for TLSInfo in inspect. */
int cert_issuer(const char *root_pem, struct buf *ret_subject_der, struct buf *ret_public_key_der, struct err *e);

/* SHA-256 over the DER of the first certificate: what join tokens pin. Says nothing of what is in it: whoever uses
 * the certificate reads it. */
int cert_digest(const char *certificate_pem, uint8_t ret[32], struct err *e);

/* Keys and trust by digests of 64 bits: enough to tell those of one cluster apart, which is all they are for. */

/* Of the public key of the first certificate. */
int cert_key_digest(const char *certificate_pem, uint64_t *ret, struct err *e);
/* Of the public key that signed the first certificate, which must lead to root_pem. */
int cert_issuer_digest(const char *certificate_pem, const char *root_pem, uint64_t *ret, struct err *e);
/* Of what a node trusts: the text as the managers gave it. */
uint64_t cert_trust_digest(const char *root_pem);
