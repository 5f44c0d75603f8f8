/* See ca.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "manager/ca/ca.h"
#include "manager/ca/internal.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define ROOT_LIFETIME_MS (20LL * 365 * 24 * 3600 * 1000)
#define KEY_BITS_MIN     256

int ca_broken(struct err *e, const char *what)
{
    char text[128] = "unknown reason";
    unsigned long number = ERR_get_error();

    if (number)
        ERR_error_string_n(number, text, sizeof(text));
    ERR_clear_error();
    return err_set(e, ERR_INTERNAL, "%s: %s", what, text);
}

EVP_PKEY *ca_read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)strnlen(pem, CERT_PEM_BYTES_MAX));
    /* With a passphrase given, if a wrong one: without any, OpenSSL would ask for it at a terminal. */
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;

    BIO_free(bio);
    return key;
}

X509 *ca_read_certificate(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)strnlen(pem, CERT_PEM_BYTES_MAX));
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    return certificate;
}

char *ca_write_certificate(X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL, *copy = NULL;

    if (bio && PEM_write_bio_X509(bio, certificate) == 1) {
        long length = BIO_get_mem_data(bio, &text);

        copy = mem_strndup(text, (size_t)length);
    }
    BIO_free(bio);
    return copy;
}

/* What every certificate has: version 3, a random serial number, times. */
static X509 *blank(int64_t wall_ms, int64_t lifetime_ms)
{
    X509 *certificate = X509_new();
    BIGNUM *serial = BN_new();
    bool good = certificate && serial && BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) &&
                X509_set_version(certificate, X509_VERSION_3) == 1 &&
                ASN1_TIME_set(X509_getm_notBefore(certificate), (wall_ms - CERT_BACKDATE_MS) / 1000) &&
                ASN1_TIME_set(X509_getm_notAfter(certificate), (wall_ms + lifetime_ms) / 1000);

    BN_free(serial);
    if (good)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static bool name_add(X509_NAME *name, const char *field, const char *value)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)value, -1, -1, 0) == 1;
}

bool ca_extension_add(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool good = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return good;
}

int ca_root_new(int64_t wall_ms, char **ret_certificate_pem, char **ret_key_pem, struct err *e)
{
    char *key_pem = NULL, *certificate_pem = NULL;
    int rc = cert_key_new(&key_pem, e);

    if (rc < 0)
        return rc;
    EVP_PKEY *key = ca_read_key(key_pem);
    X509 *root = blank(wall_ms, ROOT_LIFETIME_MS);
    if (key && root && name_add(X509_get_subject_name(root), "CN", "swarm-ca") &&
        X509_set_issuer_name(root, X509_get_subject_name(root)) == 1 && X509_set_pubkey(root, key) == 1 &&
        ca_extension_add(root, root, NID_basic_constraints, "critical,CA:TRUE,pathlen:1") &&
        ca_extension_add(root, root, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        ca_extension_add(root, root, NID_subject_key_identifier, "hash") && X509_sign(root, key, EVP_sha256()) > 0)
        certificate_pem = ca_write_certificate(root);
    EVP_PKEY_free(key);
    X509_free(root);
    if (!certificate_pem) {
        mem_wipe(key_pem, strlen(key_pem));
        free(key_pem);
        return ca_broken(e, "make root certificate");
    }
    *ret_certificate_pem = certificate_pem;
    *ret_key_pem = key_pem;
    return 0;
}

/* --- signing ------------------------------------------------------------------------------------------------- */

/* Reading a key costs OpenSSL twenty times what signing with it does, so what was read is kept. EVP_PKEY_free wipes
 * the private part. */
struct ca_root {
    uint8_t texts[SHA256_BYTES]; /* what it was read from */
    X509 *certificate;
    EVP_PKEY *key;
};

static void digest_texts(const char *certificate_pem, const char *key_pem, uint8_t ret[SHA256_BYTES])
{
    uint8_t digests[2][SHA256_BYTES];

    sha256(certificate_pem, strlen(certificate_pem), digests[0]);
    sha256(key_pem, strlen(key_pem), digests[1]);
    sha256(digests, sizeof(digests), ret);
    mem_wipe(digests, sizeof(digests));
}

int ca_root_use(struct ca_root **root, const char *certificate_pem, const char *key_pem, struct err *e)
{
    struct ca_root fresh;

    digest_texts(certificate_pem, key_pem, fresh.texts);
    if (*root && memcmp((*root)->texts, fresh.texts, sizeof(fresh.texts)) == 0)
        return 0;
    ca_root_free(*root);
    *root = NULL;
    fresh.certificate = ca_read_certificate(certificate_pem);
    fresh.key = fresh.certificate ? ca_read_key(key_pem) : NULL;
    if (!fresh.key) {
        X509_free(fresh.certificate);
        return ca_broken(e, "read root certificate and key");
    }
    *root = mem_dup(&fresh, sizeof(fresh));
    return 0;
}

void ca_root_free(struct ca_root *root)
{
    if (!root)
        return;
    EVP_PKEY_free(root->key);
    X509_free(root->certificate);
    free(root);
}

/* The request, once its signature proved that the asker holds the private key. */
static X509_REQ *read_request(const void *der, size_t size, struct err *e)
{
    const unsigned char *at = der;
    X509_REQ *request = size <= CERT_PEM_BYTES_MAX ? d2i_X509_REQ(NULL, &at, (long)size) : NULL;
    EVP_PKEY *key = request ? X509_REQ_get0_pubkey(request) : NULL;

    if (!key || at != (const unsigned char *)der + size || X509_REQ_verify(request, key) != 1)
        err_set(e, ERR_INVALID, "malformed certificate request");
    else if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC || EVP_PKEY_get_bits(key) < KEY_BITS_MIN)
        err_set(e, ERR_INVALID, "certificate request: the key must be ECDSA of at least %d bits", KEY_BITS_MIN);
    else
        return request;
    ERR_clear_error();
    X509_REQ_free(request);
    return NULL;
}

/* X509_set_pubkey would encode the key and read it again, which costs more than a signature does. */
static bool copy_key(X509 *certificate, X509_REQ *request)
{
    X509_ALGOR *algorithm;
    const ASN1_OBJECT *object;
    const unsigned char *bits;
    const void *curve;
    int curve_type, size;

    if (X509_PUBKEY_get0_param(NULL, &bits, &size, &algorithm, X509_REQ_get_X509_PUBKEY(request)) != 1)
        return false;
    X509_ALGOR_get0(&object, &curve_type, &curve, algorithm);
    if (curve_type != V_ASN1_OBJECT) /* a curve that is spelled out, which nobody should have to verify */
        return false;
    ASN1_OBJECT *named = OBJ_dup(curve);
    unsigned char *copy = OPENSSL_memdup(bits, (size_t)size);
    if (named && copy &&
        X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(certificate), OBJ_nid2obj(OBJ_obj2nid(object)), V_ASN1_OBJECT,
                               named, copy, size) == 1)
        return true;
    ASN1_OBJECT_free(named);
    OPENSSL_free(copy);
    return false;
}

int ca_root_issue(const struct ca_root *root, const void *request_der, size_t request_size,
                  const struct rpc_identity *identity, int64_t wall_ms, int64_t lifetime_ms,
                  char **ret_certificate_pem, struct err *e)
{
    const char *unit = identity->role == RPC_ROLE_MANAGER ? "swarm-manager" : "swarm-worker";
    char names[256], *certificate_pem = NULL;
    X509_REQ *request = read_request(request_der, request_size, e);

    if (!request)
        return ERR_INVALID;
    (void)snprintf(names, sizeof(names), "DNS:%s,DNS:%s%s", unit, identity->node_id,
                   identity->role == RPC_ROLE_MANAGER ? ",DNS:swarm-ca" : ""); /* ids are short */
    X509 *issuer = root->certificate, *leaf = blank(wall_ms, lifetime_ms);
    X509_NAME *subject = leaf ? X509_get_subject_name(leaf) : NULL;
    if (leaf && name_add(subject, "O", identity->cluster_id) && name_add(subject, "OU", unit) &&
        name_add(subject, "CN", identity->node_id) &&
        X509_set_issuer_name(leaf, X509_get_subject_name(issuer)) == 1 && copy_key(leaf, request) &&
        ca_extension_add(leaf, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
        ca_extension_add(leaf, issuer, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
        ca_extension_add(leaf, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
        ca_extension_add(leaf, issuer, NID_subject_key_identifier, "hash") &&
        ca_extension_add(leaf, issuer, NID_authority_key_identifier, "keyid") &&
        ca_extension_add(leaf, issuer, NID_subject_alt_name, names) && X509_sign(leaf, root->key, EVP_sha256()) > 0)
        certificate_pem = ca_write_certificate(leaf);
    X509_free(leaf);
    X509_REQ_free(request);
    if (!certificate_pem)
        return ca_broken(e, "issue certificate");
    *ret_certificate_pem = certificate_pem;
    return 0;
}

int ca_issue(const char *root_pem, const char *root_key_pem, const void *request_der, size_t request_size,
             const struct rpc_identity *identity, int64_t wall_ms, int64_t lifetime_ms, char **ret_certificate_pem,
             struct err *e)
{
    struct ca_root *root = NULL;
    int rc = ca_root_use(&root, root_pem, root_key_pem, e);

    if (rc == 0)
        rc = ca_root_issue(root, request_der, request_size, identity, wall_ms, lifetime_ms, ret_certificate_pem, e);
    ca_root_free(root);
    return rc;
}

/* --- tokens -------------------------------------------------------------------------------------------------- */

void ca_secret_new(struct entropy *entropy, char ret[CA_SECRET_TEXT + 1])
{
    uint8_t bytes[16];

    entropy_fill(entropy, bytes, sizeof(bytes));
    (void)base36_encode(bytes, sizeof(bytes), CA_SECRET_TEXT, ret); /* 2^128 has 25 digits */
}

int ca_token(const char *root_pem, const char *secret, char ret[CA_TOKEN_TEXT + 1], struct err *e)
{
    char digest[TOKEN_DIGEST_TEXT + 1];
    int rc = token_digest(root_pem, digest, e);

    if (rc < 0)
        return rc;
    (void)snprintf(ret, CA_TOKEN_TEXT + 1, "SWMTKN-1-%s-%s", digest, secret); /* fits */
    return 0;
}
