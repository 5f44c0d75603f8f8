/* Certificates for tests and benchmarks, made on the spot: a root, and nodes' certificates good and bad. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "proto/base/mem.h"

struct test_ca {
    EVP_PKEY *key;
    X509 *cert;
    char *pem; /* owned */
};

struct test_cert {
    const char *cn, *ou, *o;       /* NULL: left out */
    const char *second_cn;         /* NULL: none */
    long begins_s, ends_s;         /* from now; 0, 0: an hour ago, in 90 days */
    bool is_rsa;                   /* not P-256 */
    bool server_only, client_only; /* extended key usage; neither: both */
    bool is_ca;
    bool zero_in_cn; /* a zero byte behind the id */
};

struct test_node {
    char *cert_pem, *key_pem; /* owned */
};

static inline char *test_pem_of(BIO *bio)
{
    char *data;
    long size = BIO_get_mem_data(bio, &data);
    char *text = mem_strndup(data, (size_t)size);

    BIO_free(bio);
    return text;
}

static inline char *test_cert_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());

    PEM_write_bio_X509(bio, cert);
    return test_pem_of(bio);
}

static inline void test_name_add(X509_NAME *name, const char *field, const char *value, int size)
{
    if (value)
        X509_NAME_add_entry_by_txt(name, field, V_ASN1_UTF8STRING, (const unsigned char *)value, size, -1, 0);
}

static inline void test_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert(ext);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

static inline X509 *test_cert_begin(EVP_PKEY *key, long begins_s, long ends_s)
{
    static long serial = 1;
    X509 *cert = X509_new();

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), begins_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), ends_s);
    X509_set_pubkey(cert, key);
    return cert;
}

static inline void test_ca_init(struct test_ca *ca)
{
    ca->key = EVP_EC_gen("P-256");
    ca->cert = test_cert_begin(ca->key, -7200, 3600 * 24 * 365L);
    test_name_add(X509_get_subject_name(ca->cert), "CN", "swarm-ca", -1);
    X509_set_issuer_name(ca->cert, X509_get_subject_name(ca->cert));
    test_extension(ca->cert, ca->cert, NID_basic_constraints, "critical,CA:TRUE");
    test_extension(ca->cert, ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    test_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash");
    X509_sign(ca->cert, ca->key, EVP_sha256());
    ca->pem = test_cert_pem(ca->cert);
}

static inline void test_ca_fini(struct test_ca *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    free(ca->pem);
}

static inline void test_issue(const struct test_ca *ca, const struct test_cert *spec, struct test_node *ret)
{
    EVP_PKEY *key = spec->is_rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    bool standard = spec->begins_s == 0 && spec->ends_s == 0;
    X509 *cert = test_cert_begin(key, standard ? -3600 : spec->begins_s, standard ? 3600 * 24 * 90L : spec->ends_s);
    X509_NAME *name = X509_get_subject_name(cert);
    BIO *bio = BIO_new(BIO_s_mem());

    test_name_add(name, "CN", spec->cn, spec->zero_in_cn ? (int)strlen(spec->cn) + 1 : -1);
    test_name_add(name, "CN", spec->second_cn, -1);
    test_name_add(name, "OU", spec->ou, -1);
    test_name_add(name, "O", spec->o, -1);
    X509_set_issuer_name(cert, X509_get_subject_name(ca->cert));
    test_extension(cert, ca->cert, NID_basic_constraints, spec->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    test_extension(cert, ca->cert, NID_ext_key_usage,
                   spec->server_only   ? "serverAuth"
                   : spec->client_only ? "clientAuth"
                                       : "serverAuth,clientAuth");
    test_extension(cert, ca->cert, NID_authority_key_identifier, "keyid");
    X509_sign(cert, ca->key, EVP_sha256());
    ret->cert_pem = test_cert_pem(cert);
    PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    ret->key_pem = test_pem_of(bio);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static inline void test_node_fini(struct test_node *n)
{
    free(n->cert_pem);
    free(n->key_pem);
}
