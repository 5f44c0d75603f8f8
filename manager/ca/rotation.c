/* See rotation.h.
 *
 * The next root's certificate exists twice: signed as it came (by itself, as a rule), which nodes trust, and signed
 * by the present root, which certificates carry along so that nodes which trust the present root alone accept them.
 * Both have the same subject and key. */
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "manager/ca/ca.h"
#include "manager/ca/internal.h"
#include "manager/ca/rotation.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define LIFETIME_DEFAULT_MS (90LL * 24 * 3600 * 1000)
#define EC_BITS_MIN         256
#define RSA_BITS_MIN        2048

/* --- who signs, whom to trust -------------------------------------------------------------------------- */

static char *text_of(const ProtobufCBinaryData *data, struct arena *a)
{
    return arena_strndup(a, (const char *)data->data, data->len);
}

bool ca_rotates(const RootCa *root)
{
    return root && root->has_next_certificate_pem;
}

const char *ca_issuer(const RootCa *root, struct arena *a)
{
    if (!root || !root->has_certificate_pem)
        return NULL;
    return text_of(ca_rotates(root) ? &root->next_certificate_pem : &root->certificate_pem, a);
}

const char *ca_trust(const RootCa *root, struct arena *a)
{
    if (!root || !root->has_certificate_pem)
        return NULL;
    const char *present = text_of(&root->certificate_pem, a);
    return ca_rotates(root) ? arena_printf(a, "%s%s", present, text_of(&root->next_certificate_pem, a)) : present;
}

int64_t ca_lifetime_ms(const ClusterSpec *spec)
{
    return spec && spec->has_node_cert_expiry_ns && spec->node_cert_expiry_ns > 0
               ? spec->node_cert_expiry_ns / 1000000
               : LIFETIME_DEFAULT_MS;
}

int ca_signer(const RootCa *root, struct arena *a, struct ca_signer *ret, struct err *e)
{
    bool rotates = ca_rotates(root);

    if (!root || !root->has_certificate_pem || !(rotates ? root->has_next_key_pem : root->has_key_pem))
        return err_set(e, ERR_UNAVAILABLE, "this cluster has no signing key");
    *ret = (struct ca_signer){
        .root_pem = ca_issuer(root, a),
        .key_pem = text_of(rotates ? &root->next_key_pem : &root->key_pem, a),
        .chain_pem = rotates ? text_of(&root->cross_signed_pem, a) : "",
        .trust_pem = ca_trust(root, a),
    };
    return 0;
}

void ca_signer_wipe(struct ca_signer *signer)
{
    mem_wipe((char *)signer->key_pem, strlen(signer->key_pem));
}

/* --- a root of the user's own -------------------------------------------------------------------------- */

static int check_key(EVP_PKEY *key, struct err *e)
{
    int type = EVP_PKEY_get_base_id(key), bits = EVP_PKEY_get_bits(key);

    if (type != EVP_PKEY_EC && type != EVP_PKEY_RSA)
        return err_set(e, ERR_INVALID, "CAConfig.SigningCAKey: the key is neither ECDSA nor RSA");
    if (bits < (type == EVP_PKEY_EC ? EC_BITS_MIN : RSA_BITS_MIN))
        return err_set(e, ERR_INVALID, "CAConfig.SigningCAKey: %d bits are too few: %s needs %d", bits,
                       type == EVP_PKEY_EC ? "ECDSA" : "RSA", type == EVP_PKEY_EC ? EC_BITS_MIN : RSA_BITS_MIN);
    return 0;
}

static int check_certificate(X509 *certificate, int64_t wall_ms, struct err *e)
{
    time_t now = wall_ms / 1000, later = (wall_ms + CERT_BACKDATE_MS) / 1000;

    if (X509_check_ca(certificate) != 1)
        return err_set(e, ERR_INVALID, "CAConfig.SigningCACert: it is not the certificate of a CA");
    if ((X509_get_extension_flags(certificate) & EXFLAG_KUSAGE) &&
        !(X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN))
        return err_set(e, ERR_INVALID,
                       "CAConfig.SigningCACert: its key usage does not allow it to sign certificates");
    if (X509_get_pathlen(certificate) == 0)
        return err_set(
            e, ERR_INVALID,
            "CAConfig.SigningCACert: its path length is 0, so that it could not vouch for the next root");
    if (!X509_get0_subject_key_id(certificate))
        return err_set(e, ERR_INVALID, "CAConfig.SigningCACert: it has no subject key identifier");
    if (X509_cmp_time(X509_get0_notAfter(certificate), &now) <= 0)
        return err_set(e, ERR_INVALID, "CAConfig.SigningCACert: it has expired");
    if (X509_cmp_time(X509_get0_notBefore(certificate), &later) >= 0)
        return err_set(e, ERR_INVALID, "CAConfig.SigningCACert: it is not valid yet");
    return 0;
}

static unsigned count_certificates(const char *pem)
{
    static const char begin[] = "-----BEGIN ";
    unsigned count = 0;

    for (const char *at = pem; (at = strstr(at, begin)); at += sizeof(begin) - 1)
        count++;
    return count;
}

int ca_root_check(const char *certificate_pem, const char *key_pem, int64_t wall_ms, struct err *e)
{
    X509 *certificate = NULL;
    EVP_PKEY *key = NULL;
    int rc = 0;

    if (!*certificate_pem || !*key_pem)
        return err_set(e, ERR_INVALID, "CAConfig.%s is missing: a root of your own is a certificate and its key",
                       *certificate_pem ? "SigningCAKey" : "SigningCACert");
    if (count_certificates(certificate_pem) == 1)
        certificate = ca_read_certificate(certificate_pem);
    key = ca_read_key(key_pem);
    if (!certificate)
        rc = err_set(e, ERR_INVALID, "CAConfig.SigningCACert: expected exactly one certificate as PEM");
    else if (!key)
        rc = err_set(e, ERR_INVALID, "CAConfig.SigningCAKey: expected a private key as PEM, without a passphrase");
    else if (X509_check_private_key(certificate, key) != 1)
        rc = err_set(e, ERR_INVALID, "CAConfig.SigningCAKey: the key does not belong to CAConfig.SigningCACert");
    if (rc == 0)
        rc = check_key(key, e);
    if (rc == 0)
        rc = check_certificate(certificate, wall_ms, e);
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(certificate);
    return rc;
}

/* --- the present root's word for the next -------------------------------------------------------------- */

static bool renumber(X509 *certificate)
{
    BIGNUM *serial = BN_new();
    bool good = serial && BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate));

    BN_free(serial);
    return good;
}

/* Without the issuer's key identifier, which will be another's. */
static void drop_authority(X509 *certificate)
{
    int at;

    while ((at = X509_get_ext_by_NID(certificate, NID_authority_key_identifier, -1)) >= 0)
        X509_EXTENSION_free(X509_delete_ext(certificate, at));
}

/* The next root's certificate, signed by the present root; free it. */
static int cross_sign(const char *present_pem, const char *present_key_pem, const char *next_pem, char **ret,
                      struct err *e)
{
    X509 *present = ca_read_certificate(present_pem), *next = ca_read_certificate(next_pem),
         *cross = next ? X509_dup(next) : NULL;
    EVP_PKEY *key = ca_read_key(present_key_pem);
    char *pem = NULL;

    if (present && cross && key) {
        drop_authority(cross);
        if (renumber(cross) && X509_set_issuer_name(cross, X509_get_subject_name(present)) == 1 &&
            ca_extension_add(cross, present, NID_authority_key_identifier, "keyid") &&
            X509_sign(cross, key, EVP_sha256()) > 0)
            pem = ca_write_certificate(cross);
    }
    EVP_PKEY_free(key);
    X509_free(cross);
    X509_free(next);
    X509_free(present);
    if (!pem)
        return ca_broken(e, "vouch for the next root");
    *ret = pem;
    return 0;
}

/* --- the steps ------------------------------------------------------------------------------------------ */

static ProtobufCBinaryData keep(struct arena *a, const char *text)
{
    size_t size = strlen(text);

    return (ProtobufCBinaryData){size, arena_dup(a, text, size)};
}

static void drop_next(RootCa *root)
{
    root->has_next_certificate_pem = root->has_next_key_pem = root->has_cross_signed_pem = false;
}

static bool same_certificate(const char *a, const char *b)
{
    uint8_t one[32], other[32];

    return cert_digest(a, one, NULL) == 0 && cert_digest(b, other, NULL) == 0 && memcmp(one, other, 32) == 0;
}

static int begin(RootCa *root, const char *certificate_pem, const char *key_pem, struct arena *a, struct err *e)
{
    char *present_key = text_of(&root->key_pem, a);
    AUTO_FREE
    char *cross = NULL;
    int rc = cross_sign(text_of(&root->certificate_pem, a), present_key, certificate_pem, &cross, e);

    mem_wipe(present_key, strlen(present_key));
    if (rc < 0)
        return rc;
    root->has_next_certificate_pem = root->has_next_key_pem = root->has_cross_signed_pem = true;
    root->next_certificate_pem = keep(a, certificate_pem);
    root->next_key_pem = keep(a, key_pem);
    root->cross_signed_pem = keep(a, cross);
    return 0;
}

/* As it is written by us, whatever stands around it in the user's text. */
static int begin_own(RootCa *root, const char *certificate_pem, const char *key_pem, int64_t wall_ms,
                     struct arena *a, struct err *e)
{
    int rc = ca_root_check(certificate_pem, key_pem, wall_ms, e);

    if (rc < 0)
        return rc;
    if (same_certificate(certificate_pem, text_of(&root->certificate_pem, a))) {
        drop_next(root);
        return 0;
    }
    X509 *certificate = ca_read_certificate(certificate_pem);
    AUTO_FREE
    char *plain = certificate ? ca_write_certificate(certificate) : NULL;
    X509_free(certificate);
    return plain ? begin(root, plain, key_pem, a, e) : ca_broken(e, "read CAConfig.SigningCACert");
}

int ca_rotation_begin(RootCa *root, const char *certificate_pem, const char *key_pem, int64_t wall_ms,
                      struct arena *a, struct err *e)
{
    char *certificate = NULL, *key = NULL;

    if (!root->has_certificate_pem || !root->has_key_pem)
        return err_set(e, ERR_UNAVAILABLE, "this cluster has no signing key");
    if (certificate_pem || key_pem)
        return begin_own(root, certificate_pem ? certificate_pem : "", key_pem ? key_pem : "", wall_ms, a, e);
    int rc = ca_root_new(wall_ms, &certificate, &key, e);
    if (rc < 0)
        return rc;
    rc = begin(root, certificate, key, a, e);
    mem_wipe(key, strlen(key));
    free(key);
    free(certificate);
    return rc;
}

void ca_rotation_finish(RootCa *root)
{
    root->certificate_pem = root->next_certificate_pem;
    root->key_pem = root->next_key_pem;
    drop_next(root);
}
