/* Certificates and TLS contexts.
 *
 * One context serves both directions: a node dials and accepts with the same certificate. TLS 1.3 only; neither
 * tickets nor a session cache nor early data, so every connection proves its certificate anew and a node that was
 * removed cannot come back with what it learned before (DESIGN.md section 6).
 *
 * A peer is who its certificate's subject says: CN the node's id, OU its role, O the cluster. Each must be there
 * exactly once and well-formed; names in extensions are ignored. The chain must lead to our root through at most
 * two intermediates (cross-signing). Clocks differ: a certificate whose time begins up to an hour in our future is
 * taken; an expired one is not.
 *
 * ALPN names the protocol and its version, so that a certificate of ours shown to, or by, another service of the
 * same machine is of no use here. */
#include <assert.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "proto/base/mem.h"
#include "proto/wire/tls.h"

#define CHAIN_DEPTH_MAX 2     /* intermediates */
#define CHAIN_BYTES_MAX 16384 /* certificates a peer may send */
#define PEM_CERTS_MAX   16    /* in one text */

static const unsigned char protocol[] = "\x07shoal/1"; /* length, then the name */
#define PROTOCOL_SIZE (sizeof(protocol) - 1)

int tls_error(SSL *session, struct err *e)
{
    unsigned long code = ERR_peek_error();
    long verified = session ? SSL_get_verify_result(session) : X509_V_OK;

    if (verified != X509_V_OK && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        err_set(e, ERR_UNAUTHORIZED, "peer's certificate: %s", X509_verify_cert_error_string(verified));
    else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET)
        err_set(e, ERR_UNAUTHORIZED, "peer refused: %s", ERR_reason_error_string(code));
    else
        err_set(e, ERR_CORRUPT, "TLS: %s", code ? ERR_reason_error_string(code) : "unexpected end");
    ERR_clear_error();
    return e->code;
}

/* --- subjects ------------------------------------------------------------------------------------ */

/* The only entry of this kind. False when there is none or several, or when it does not fit. */
static bool subject_text(const X509 *cert, int nid, char *ret, size_t size)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(name, nid, -1);

    if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
        return false;
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    int length = ASN1_STRING_length(value);
    if (length <= 0 || (size_t)length >= size)
        return false;
    memcpy(ret, ASN1_STRING_get0_data(value), (size_t)length);
    ret[length] = '\0';
    return strlen(ret) == (size_t)length;
}

static int identify(const X509 *cert, struct rpc_identity *ret, struct err *e)
{
    struct rpc_identity id = {0};
    char role[32];

    if (!subject_text(cert, NID_commonName, id.node_id, sizeof(id.node_id)) || !ident_valid(id.node_id))
        return err_set(e, ERR_UNAUTHORIZED, "certificate's CN is not the id of a node");
    if (!subject_text(cert, NID_organizationName, id.cluster_id, sizeof(id.cluster_id)) ||
        !ident_valid(id.cluster_id))
        return err_set(e, ERR_UNAUTHORIZED, "certificate's O is not the id of a cluster");
    if (!subject_text(cert, NID_organizationalUnitName, role, sizeof(role)))
        role[0] = '\0';
    if (strcmp(role, "swarm-manager") == 0)
        id.role = RPC_ROLE_MANAGER;
    else if (strcmp(role, "swarm-worker") == 0)
        id.role = RPC_ROLE_WORKER;
    else
        return err_set(e, ERR_UNAUTHORIZED, "certificate's OU \"%s\" is no role", role);
    *ret = id;
    return 0;
}

int tls_identify(const struct tls *t, SSL *session, struct rpc_identity *ret, struct err *e)
{
    X509 *cert = SSL_get0_peer_certificate(session);
    const unsigned char *chosen;
    unsigned length;
    struct rpc_identity id = {.role = RPC_ROLE_NONE};

    SSL_get0_alpn_selected(session, &chosen, &length);
    if (length != PROTOCOL_SIZE - 1 || memcmp(chosen, protocol + 1, length) != 0)
        return err_set(e, ERR_UNAUTHORIZED, "peer did not agree on the protocol");
    if (cert && t->verifies) {
        /* Verified already, or there would be no handshake; this is the place that relies on it. */
        if (SSL_get_verify_result(session) != X509_V_OK)
            return err_set(e, ERR_UNAUTHORIZED, "peer's certificate was not verified");
        int rc = identify(cert, &id, e);
        if (rc < 0)
            return rc;
        if (t->self.role != RPC_ROLE_NONE && strcmp(t->self.cluster_id, id.cluster_id) != 0)
            return err_set(e, ERR_UNAUTHORIZED, "peer belongs to cluster %s, not to %s", id.cluster_id,
                           t->self.cluster_id);
    }
    *ret = id;
    return 0;
}

/* --- verifying ----------------------------------------------------------------------------------- */

static int on_verify(int ok, X509_STORE_CTX *store)
{
    time_t later = time(NULL) + TLS_SKEW_S;
    X509 *cert = X509_STORE_CTX_get_current_cert(store);

    if (ok || X509_STORE_CTX_get_error(store) != X509_V_ERR_CERT_NOT_YET_VALID)
        return ok;
    if (X509_cmp_time(X509_get0_notBefore(cert), &later) >= 0)
        return 0;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

/* Verify without leaving the verified chain in the session, which would keep the peer's certificate alive. */
static int on_verify_chain(X509_STORE_CTX *store, void *arg)
{
    int ok = X509_verify_cert(store);

    (void)arg;
    X509_STORE_CTX_set0_verified_chain(store, NULL);
    return ok;
}

/* There is no call for it: the session object is read anew, in place, from an encoding that has no certificate.
 * What else the encoding holds is only ever used for resuming, which is off. */
void tls_forget_peer(SSL *session)
{
    SSL_SESSION *live = SSL_get_session(session), *plain = SSL_SESSION_new();
    unsigned char *encoded = NULL;

    if (!plain)
        abort();                                                                           /* out of memory */
    (void)SSL_SESSION_set_protocol_version(plain, SSL_SESSION_get_protocol_version(live)); /* these cannot fail */
    (void)SSL_SESSION_set_cipher(plain, SSL_SESSION_get0_cipher(live));
    int size = i2d_SSL_SESSION(plain, &encoded);
    const unsigned char *at = encoded;
    if (size > 0)
        (void)d2i_SSL_SESSION(&live, &at, size); /* or it stays as it is, which is only larger */
    OPENSSL_free(encoded);
    SSL_SESSION_free(plain);
    ERR_clear_error();
}

static int on_choose_protocol(SSL *session, const unsigned char **ret, unsigned char *ret_length,
                              const unsigned char *offered, unsigned offered_length, void *arg)
{
    unsigned char *chosen;

    (void)session; /* every session speaks the same */
    (void)arg;
    if (SSL_select_next_proto(&chosen, ret_length, protocol, PROTOCOL_SIZE, offered, offered_length) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* --- building ------------------------------------------------------------------------------------ */

static SSL_CTX *make_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());

    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                          "TLS_CHACHA20_POLY1305_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519:P-256") != 1 ||
        SSL_CTX_set1_sigalgs_list(context, "ECDSA+SHA256:ECDSA+SHA384") != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1 || SSL_CTX_set_alpn_protos(context, protocol, PROTOCOL_SIZE) != 0)
        abort(); /* out of memory, or not the library we were built with */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    /* Without the second one each handshake builds our own chain anew, and sends the root along. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    /* A root of the user's own may have been signed by another, which nobody here has to know. */
    (void)X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_PARTIAL_CHAIN); /* cannot fail */
    SSL_CTX_set_cert_verify_callback(context, on_verify_chain, NULL);
    SSL_CTX_set_verify_depth(context, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(context, CHAIN_BYTES_MAX);
    SSL_CTX_set_alpn_select_cb(context, on_choose_protocol, NULL);
    return context;
}

/* Call `each` with every certificate of a PEM text; it takes the certificate. */
static int each_certificate(const char *pem, const char *what,
                            int (*each)(void *ctx, int number, X509 *cert, struct err *e), void *ctx, struct err *e)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    int count = 0, rc = 0;
    X509 *cert;

    if (!bio)
        abort(); /* out of memory */
    while (rc == 0 && count < PEM_CERTS_MAX && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        rc = each(ctx, count++, cert, e);
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    if (rc < 0)
        return rc;
    if (count == 0 || !at_end)
        return err_set(e, ERR_INVALID, "%s is not a PEM text of 1 to %d certificates", what, PEM_CERTS_MAX - 1);
    return 0;
}

static int add_own(void *ctx, int number, X509 *cert, struct err *e)
{
    struct tls *t = ctx;
    int rc = 0;

    if (number > 0) {
        if (SSL_CTX_add0_chain_cert(t->context, cert) != 1)
            abort(); /* out of memory */
        return 0;
    }
    rc = identify(cert, &t->self, e);
    if (rc == 0 && SSL_CTX_use_certificate(t->context, cert) != 1)
        rc = tls_error(NULL, e);
    X509_free(cert);
    return rc;
}

static int add_root(void *ctx, int number, X509 *cert, struct err *e)
{
    struct tls *t = ctx;

    (void)number; /* all are trusted alike */
    (void)e;
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(t->context), cert) != 1)
        abort(); /* out of memory: adding one twice is no error */
    X509_free(cert);
    return 0;
}

static int use_key(struct tls *t, const char *pem, struct err *e)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
    int rc = 0;

    if (!key || SSL_CTX_use_PrivateKey(t->context, key) != 1 || SSL_CTX_check_private_key(t->context) != 1)
        rc = err_set(e, ERR_INVALID, "private key is damaged or does not belong to the certificate");
    ERR_clear_error();
    EVP_PKEY_free(key);
    BIO_free(bio);
    return rc;
}

int tls_new(const char *cert_pem, const char *key_pem, const char *root_pem, struct tls **ret, struct err *e)
{
    struct tls *t = mem_alloc(sizeof(*t));
    int rc = 0;

    assert(!cert_pem == !key_pem);
    assert(root_pem || !cert_pem);
    t->references = 1;
    t->self.role = RPC_ROLE_NONE;
    t->verifies = root_pem != NULL;
    t->context = make_context();
    ERR_clear_error();
    if (root_pem)
        rc = each_certificate(root_pem, "root", add_root, t, e);
    if (rc == 0 && cert_pem)
        rc = each_certificate(cert_pem, "certificate", add_own, t, e);
    if (rc == 0 && key_pem)
        rc = use_key(t, key_pem, e);
    if (rc < 0) {
        tls_unref(t);
        return rc;
    }
    *ret = t;
    return 0;
}

struct tls *tls_ref(struct tls *t)
{
    t->references++;
    return t;
}

void tls_unref(struct tls *t)
{
    if (!t || --t->references > 0)
        return;
    SSL_CTX_free(t->context);
    free(t);
}

SSL *tls_session(struct tls *t, bool accepting)
{
    SSL *session = SSL_new(t->context);

    if (!session)
        abort(); /* out of memory */
    SSL_set_verify(session, t->verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, on_verify);
    if (accepting)
        SSL_set_accept_state(session);
    else
        SSL_set_connect_state(session);
    return session;
}
