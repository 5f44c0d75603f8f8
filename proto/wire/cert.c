/* See cert.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define CERTIFICATES_MAX 8 /* in one text */

static int broken(struct err *e, int code, const char *what)
{
    char text[128] = "unknown reason";
    unsigned long number = ERR_get_error();

    if (number)
        ERR_error_string_n(number, text, sizeof(text));
    ERR_clear_error();
    return err_set(e, code, "%s: %s", what, text);
}

static X509 *read_certificate(const char *pem, struct err *e)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)strnlen(pem, CERT_PEM_BYTES_MAX));
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    if (!certificate)
        broken(e, ERR_INVALID, "read certificate");
    return certificate;
}

static EVP_PKEY *read_key(const char *pem, struct err *e)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)strnlen(pem, CERT_PEM_BYTES_MAX));
    /* With a passphrase given, if a wrong one: without any, OpenSSL would ask for it at a terminal. */
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;

    BIO_free(bio);
    if (!key)
        broken(e, ERR_INVALID, "read private key");
    return key;
}

int cert_key_new(char **ret_key_pem, struct err *e)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text;
    int rc = 0;

    if (!key || !bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        rc = broken(e, ERR_INTERNAL, "make private key");
    } else {
        long length = BIO_get_mem_data(bio, &text);

        *ret_key_pem = mem_strndup(text, (size_t)length);
    }
    BIO_free(bio);
    EVP_PKEY_free(key);
    return rc;
}

int cert_request_new(const char *key_pem, struct buf *ret_der, struct err *e)
{
    EVP_PKEY *key = read_key(key_pem, e);
    X509_REQ *request = X509_REQ_new();
    unsigned char *der = NULL;
    int rc = 0, length = -1;

    if (!key) {
        rc = ERR_INVALID;
        goto out;
    }
    if (request && X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
        X509_REQ_set_pubkey(request, key) == 1 && X509_REQ_sign(request, key, EVP_sha256()) > 0)
        length = i2d_X509_REQ(request, &der);
    if (length > 0)
        buf_append(ret_der, der, (size_t)length);
    else
        rc = broken(e, ERR_INTERNAL, "make certificate request");
out:
    OPENSSL_free(der);
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    return rc;
}

/* One subject field that must be there exactly once and be plain ASCII of the expected length. */
static int subject_field(X509 *certificate, int nid, char *ret, size_t size, struct err *e)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, nid, -1);

    if (at < 0 || X509_NAME_get_index_by_NID(subject, nid, at) >= 0)
        return err_set(e, ERR_INVALID, "certificate subject has no single %s", OBJ_nid2sn(nid));
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    size_t length = (size_t)ASN1_STRING_length(value);
    const char *data = (const char *)ASN1_STRING_get0_data(value);
    if (length >= size || memchr(data, '\0', length))
        return err_set(e, ERR_INVALID, "certificate subject: %s is malformed", OBJ_nid2sn(nid));
    memcpy(ret, data, length);
    ret[length] = '\0';
    return 0;
}

static int64_t time_ms(const ASN1_TIME *time)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return 0;
    return (int64_t)timegm(&tm) * 1000;
}

int cert_facts(const char *certificate_pem, struct cert_facts *ret, struct err *e)
{
    struct cert_facts facts = {0};
    char role[32];
    X509 *certificate = read_certificate(certificate_pem, e);

    if (!certificate)
        return ERR_INVALID;
    int rc = subject_field(certificate, NID_commonName, facts.identity.node_id, sizeof(facts.identity.node_id), e);
    if (rc == 0)
        rc = subject_field(certificate, NID_organizationName, facts.identity.cluster_id,
                           sizeof(facts.identity.cluster_id), e);
    if (rc == 0)
        rc = subject_field(certificate, NID_organizationalUnitName, role, sizeof(role), e);
    if (rc == 0) {
        if (strcmp(role, "swarm-manager") == 0)
            facts.identity.role = RPC_ROLE_MANAGER;
        else if (strcmp(role, "swarm-worker") == 0)
            facts.identity.role = RPC_ROLE_WORKER;
        else
            rc = err_set(e, ERR_INVALID, "certificate subject: OU %s is no role", role);
    }
    if (rc == 0 && (!ident_valid(facts.identity.node_id) || !ident_valid(facts.identity.cluster_id)))
        rc = err_set(e, ERR_INVALID, "certificate subject: CN or O is no id");
    if (rc == 0) {
        facts.not_before_ms = time_ms(X509_get0_notBefore(certificate));
        facts.not_after_ms = time_ms(X509_get0_notAfter(certificate));
        *ret = facts;
    }
    X509_free(certificate);
    return rc;
}

int cert_dates(const void *der, size_t size, int64_t *ret_not_before_ms, int64_t *ret_not_after_ms, struct err *e)
{
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, (long)MIN(size, CERT_PEM_BYTES_MAX));

    if (!certificate)
        return broken(e, ERR_INVALID, "malformed certificate");
    *ret_not_before_ms = time_ms(X509_get0_notBefore(certificate));
    *ret_not_after_ms = time_ms(X509_get0_notAfter(certificate));
    X509_free(certificate);
    return 0;
}

/* --- chains ------------------------------------------------------------------------------------------------- */

/* Every certificate of the text; NULL when there is none. */
static STACK_OF(X509) * read_all(const char *pem, struct err *e)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)strnlen(pem, CERT_PEM_BYTES_MAX));
    STACK_OF(X509) *all = sk_X509_new_null();
    X509 *certificate;

    while (bio && all && sk_X509_num(all) < CERTIFICATES_MAX &&
           (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (sk_X509_push(all, certificate) == 0)
            abort(); /* out of memory */
    BIO_free(bio);
    if (all && sk_X509_num(all) > 0) {
        ERR_clear_error(); /* of the text's end */
        return all;
    }
    sk_X509_free(all);
    broken(e, ERR_INVALID, "read certificate");
    return NULL;
}

static void free_all(STACK_OF(X509) * all)
{
    sk_X509_pop_free(all, X509_free);
}

/* Who signed the first certificate, when that leads to one of the roots; a reference. A root need not have signed
 * itself. */
static X509 *find_issuer(STACK_OF(X509) * chain, STACK_OF(X509) * roots, struct err *e)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE *store = X509_STORE_new();
    X509 *issuer = NULL;

    if (!ctx || !store || X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain) != 1)
        abort(); /* out of memory */
    X509_STORE_CTX_set0_trusted_stack(ctx, roots);
    X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
    if (X509_verify_cert(ctx) == 1 && sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) > 1) {
        issuer = sk_X509_value(X509_STORE_CTX_get0_chain(ctx), 1);
        X509_up_ref(issuer);
    } else {
        err_set(e, ERR_INVALID, "certificate was not signed by the cluster's root: %s",
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    }
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return issuer;
}

int cert_check(const char *certificate_pem, const char *key_pem, const char *root_pem, struct err *e)
{
    STACK_OF(X509) *chain = read_all(certificate_pem, e), *roots = chain ? read_all(root_pem, e) : NULL;
    EVP_PKEY *key = roots ? read_key(key_pem, e) : NULL;
    X509 *issuer = NULL;

    if (key && X509_check_private_key(sk_X509_value(chain, 0), key) != 1)
        err_set(e, ERR_INVALID, "certificate and private key do not belong together");
    else if (key)
        issuer = find_issuer(chain, roots, e);
    int rc = issuer ? 0 : ERR_INVALID;
    ERR_clear_error();
    X509_free(issuer);
    EVP_PKEY_free(key);
    free_all(roots);
    free_all(chain);
    return rc;
}

/* --- digests ------------------------------------------------------------------------------------------------ */

static uint64_t digest64(const void *data, size_t size)
{
    uint8_t whole[SHA256_BYTES];
    uint64_t value = 0;

    sha256(data, size, whole);
    for (int i = 0; i < 8; i++)
        value = value << 8 | whole[i];
    return value;
}

static int key_digest(X509 *certificate, uint64_t *ret, struct err *e)
{
    unsigned char *der = NULL;
    int size = i2d_PUBKEY(X509_get0_pubkey(certificate), &der);

    if (size <= 0)
        return broken(e, ERR_INVALID, "read the certificate's key");
    *ret = digest64(der, (size_t)size);
    OPENSSL_free(der);
    return 0;
}

int cert_key_digest(const char *certificate_pem, uint64_t *ret, struct err *e)
{
    X509 *certificate = read_certificate(certificate_pem, e);
    int rc = certificate ? key_digest(certificate, ret, e) : ERR_INVALID;

    X509_free(certificate);
    return rc;
}

int cert_issuer_digest(const char *certificate_pem, const char *root_pem, uint64_t *ret, struct err *e)
{
    STACK_OF(X509) *chain = read_all(certificate_pem, e), *roots = chain ? read_all(root_pem, e) : NULL;
    X509 *issuer = roots ? find_issuer(chain, roots, e) : NULL;
    int rc = issuer ? key_digest(issuer, ret, e) : ERR_INVALID;

    X509_free(issuer);
    free_all(roots);
    free_all(chain);
    return rc;
}

uint64_t cert_trust_digest(const char *root_pem)
{
    return digest64(root_pem, strlen(root_pem));
}

/* --- what is said of a certificate -------------------------------------------------------------------------- */

int cert_issuer(const char *root_pem, struct buf *ret_subject_der, struct buf *ret_public_key_der, struct err *e)
{
    X509 *root = read_certificate(root_pem, e);
    unsigned char *subject = NULL, *key = NULL;

    if (!root)
        return ERR_INVALID;
    int subject_size = i2d_X509_NAME(X509_get_subject_name(root), &subject);
    int key_size = i2d_PUBKEY(X509_get0_pubkey(root), &key);
    int rc = 0;
    if (subject_size > 0 && key_size > 0) {
        buf_append(ret_subject_der, subject, (size_t)subject_size);
        buf_append(ret_public_key_der, key, (size_t)key_size);
    } else {
        rc = broken(e, ERR_INTERNAL, "encode issuer");
    }
    OPENSSL_free(subject);
    OPENSSL_free(key);
    X509_free(root);
    return rc;
}

/* Of the bytes as they stand: OpenSSL takes fifty times as long to read the certificate as to find it. */
int cert_digest(const char *certificate_pem, uint8_t ret[32], struct err *e)
{
    BIO *bio = BIO_new_mem_buf(certificate_pem, (int)strnlen(certificate_pem, CERT_PEM_BYTES_MAX));
    unsigned char *der = NULL;
    long size = 0, length;
    int tag, class, rc = 0;

    if (!bio || PEM_bytes_read_bio(&der, &size, NULL, PEM_STRING_X509, bio, NULL, NULL) != 1) {
        rc = broken(e, ERR_INVALID, "read certificate");
    } else {
        const unsigned char *at = der;

        if ((ASN1_get_object(&at, &length, &tag, &class, size) & 0x80) || tag != V_ASN1_SEQUENCE)
            rc = broken(e, ERR_INVALID, "read certificate");
        else
            sha256(der, (size_t)(at - der + length), ret); /* what follows is no part of it */
    }
    OPENSSL_free(der);
    BIO_free(bio);
    return rc;
}
