/* What the files of manager/ca share: texts and certificates. */
#pragma once

#include <stdbool.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "proto/base/err.h"

/* ERR_INTERNAL with OpenSSL's reason, whose queue is emptied. */
int ca_broken(struct err *e, const char *what);

/* The first key or certificate of a PEM text; NULL when there is none that can be read. */
EVP_PKEY *ca_read_key(const char *pem);
X509 *ca_read_certificate(const char *pem);
char *ca_write_certificate(X509 *certificate); /* free it; NULL: it cannot be written */

/* An extension as openssl.cnf would give it. */
bool ca_extension_add(X509 *certificate, X509 *issuer, int nid, const char *value);
