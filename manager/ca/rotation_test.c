/* A root changes without anybody losing anybody: at every moment of a rotation, whoever has renewed and whoever has
 * not shake hands both ways. Roots that users bring are checked before, each flaw by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "manager/ca/ca.h"
#include "manager/ca/internal.h"
#include "manager/ca/rotation.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "proto/wire/tls.h"

#define DAY_MS  (24LL * 3600 * 1000)
#define YEAR_S  (365LL * 24 * 3600)
#define NODE    "0000000000000000000000abc"
#define CLUSTER "0000000000000000000000xyz"

static struct arena arena;
static RootCa root;
static int64_t now_ms;

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), arena_dup(&arena, text, strlen(text))};
}

static int setup(void **state)
{
    AUTO_FREE
    char *certificate = NULL;
    AUTO_FREE
    char *key = NULL;

    arena_init(&arena);
    now_ms = clock_wall_ms(clock_real());
    if (ca_root_new(now_ms, &certificate, &key, NULL) < 0)
        return -1;
    root_ca__init(&root);
    root.has_certificate_pem = root.has_key_pem = true;
    root.certificate_pem = bytes_of(certificate);
    root.key_pem = bytes_of(key);
    return 0;
}

static int teardown(void **state)
{
    arena_fini(&arena);
    return 0;
}

/* --- nodes --------------------------------------------------------------------------------------------- */

struct node {
    const char *certificate, *key, *trust;
};

/* What a node gets now. */
static struct node renewed(void)
{
    struct rpc_identity identity = {.role = RPC_ROLE_MANAGER, .node_id = NODE, .cluster_id = CLUSTER};
    AUTO_FREE
    char *key = NULL;
    AUTO_FREE
    char *certificate = NULL;
    AUTO_BUF struct buf request = {0};
    struct ca_signer signer;
    struct err e;

    if (ca_signer(&root, &arena, &signer, &e) < 0 || cert_key_new(&key, &e) < 0 ||
        cert_request_new(key, &request, &e) < 0 ||
        ca_issue(signer.root_pem, signer.key_pem, buf_bytes(&request), request.length, &identity, now_ms,
                 90 * DAY_MS, &certificate, &e) < 0)
        fail_msg("%s", e.text);
    struct node node = {.certificate = arena_printf(&arena, "%s%s", certificate, signer.chain_pem),
                        .key = arena_strdup(&arena, key),
                        .trust = signer.trust_pem};
    if (cert_check(node.certificate, node.key, node.trust, &e) < 0)
        fail_msg("%s", e.text);
    return node;
}

static bool shake_hands(SSL *a, SSL *b)
{
    BIO *a_end = NULL, *b_end = NULL;

    assert_int_equal(BIO_new_bio_pair(&a_end, 1 << 16, &b_end, 1 << 16), 1);
    SSL_set_bio(a, a_end, a_end);
    SSL_set_bio(b, b_end, b_end);
    for (int i = 0; i < 10 && !(SSL_is_init_finished(a) && SSL_is_init_finished(b)); i++) {
        (void)SSL_do_handshake(a); /* as far as it goes */
        (void)SSL_do_handshake(b);
    }
    return SSL_is_init_finished(a) && SSL_is_init_finished(b);
}

static bool accepts(const struct node *server, const struct node *client)
{
    struct tls *server_tls, *client_tls;
    struct rpc_identity peer;
    struct err e;

    if (tls_new(server->certificate, server->key, server->trust, &server_tls, &e) < 0 ||
        tls_new(client->certificate, client->key, client->trust, &client_tls, &e) < 0)
        fail_msg("%s", e.text);
    SSL *in = tls_session(server_tls, true), *out = tls_session(client_tls, false);
    bool agreed = shake_hands(out, in) && tls_identify(server_tls, in, &peer, &e) == 0 &&
                  tls_identify(client_tls, out, &peer, &e) == 0;
    SSL_free(in);
    SSL_free(out);
    tls_unref(server_tls);
    tls_unref(client_tls);
    return agreed;
}

static void assert_know_each_other(const struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            if (!accepts(&nodes[i], &nodes[k]))
                fail_msg("node %zu does not accept node %zu", i, k);
}

static void begin(const char *certificate, const char *key)
{
    struct err e;

    if (ca_rotation_begin(&root, certificate, key, now_ms, &arena, &e) < 0)
        fail_msg("%s", e.text);
}

static uint64_t issuer_of(const struct node *node)
{
    uint64_t digest = 0;

    assert_int_equal(cert_issuer_digest(node->certificate, node->trust, &digest, NULL), 0);
    return digest;
}

static uint64_t wanted(void)
{
    uint64_t digest = 0;

    assert_int_equal(cert_key_digest(ca_issuer(&root, &arena), &digest, NULL), 0);
    return digest;
}

/* --- rotations ----------------------------------------------------------------------------------------- */

static void nodes_know_each_other_all_through_a_rotation(void **state)
{
    struct node nodes[5];

    nodes[0] = renewed(); /* never again in this rotation, as those that are slow */
    assert_int_equal(issuer_of(&nodes[0]), wanted());
    begin(NULL, NULL);
    assert_true(ca_rotates(&root));
    assert_int_not_equal(issuer_of(&nodes[0]), wanted());
    nodes[1] = nodes[0]; /* was told whom to trust, and has not renewed */
    nodes[1].trust = ca_trust(&root, &arena);
    assert_int_not_equal(cert_trust_digest(nodes[0].trust), cert_trust_digest(nodes[1].trust));
    nodes[2] = renewed();
    assert_int_equal(issuer_of(&nodes[2]), wanted());
    nodes[3] = renewed();
    assert_know_each_other(nodes, 4);
    const struct node late[] = {nodes[2], nodes[3]}; /* all have renewed, or it would not end */
    ca_rotation_finish(&root);
    assert_false(ca_rotates(&root));
    nodes[0] = late[0]; /* was not yet told that it is over */
    nodes[1] = late[0];
    nodes[1].trust = ca_trust(&root, &arena);
    nodes[2] = renewed();
    assert_int_equal(issuer_of(&nodes[1]), wanted());
    assert_know_each_other(nodes, 3);
}

static void old_certificate_is_worth_nothing_when_it_is_over(void **state)
{
    struct node before = renewed();

    begin(NULL, NULL);
    ca_rotation_finish(&root);
    struct node after = renewed();
    assert_false(accepts(&after, &before));
    assert_false(accepts(&before, &after));
    assert_null(strstr(after.trust, before.trust));
    assert_string_equal(after.trust, ca_trust(&root, &arena));
}

static void three_rotations_in_a_row(void **state)
{
    for (int i = 0; i < 3; i++) {
        struct node nodes[2] = {renewed()};

        begin(NULL, NULL);
        nodes[1] = renewed();
        assert_know_each_other(nodes, 2);
        ca_rotation_finish(&root);
    }
}

static void rotation_that_is_replaced_by_another_strands_nobody(void **state)
{
    struct node nodes[3] = {renewed()};

    begin(NULL, NULL);
    uint64_t first = wanted();
    nodes[1] = renewed();
    begin(NULL, NULL); /* again, before it is over */
    assert_int_not_equal(first, wanted());
    assert_int_not_equal(issuer_of(&nodes[1]), wanted());
    nodes[2] = renewed();
    assert_know_each_other(nodes, 3);
    nodes[1].trust = ca_trust(&root, &arena); /* told of the second, it still leads to the present root */
    assert_int_equal(cert_check(nodes[1].certificate, nodes[1].key, nodes[1].trust, NULL), 0);
}

static void present_root_asked_for_takes_a_rotation_back(void **state)
{
    const char *certificate = ca_trust(&root, &arena);
    const char *key = arena_strndup(&arena, (const char *)root.key_pem.data, root.key_pem.len);
    struct node nodes[3] = {renewed()};

    begin(NULL, NULL);
    nodes[1] = renewed();
    begin(certificate, key);
    assert_false(ca_rotates(&root));
    assert_string_equal(ca_trust(&root, &arena), certificate);
    nodes[2] = renewed();
    assert_know_each_other(nodes, 3);
    begin(certificate, key); /* nothing to do */
    assert_false(ca_rotates(&root));
}

static void cluster_without_a_key_cannot_rotate(void **state)
{
    RootCa empty = ROOT_CA__INIT;
    struct ca_signer signer;
    struct err e;

    assert_int_equal(ca_rotation_begin(&empty, NULL, NULL, now_ms, &arena, &e), ERR_UNAVAILABLE);
    assert_int_equal(ca_signer(&empty, &arena, &signer, &e), ERR_UNAVAILABLE);
    assert_string_equal(e.text, "this cluster has no signing key");
    assert_null(ca_trust(&empty, &arena));
    assert_null(ca_issuer(NULL, &arena));
}

/* --- roots of users' own --------------------------------------------------------------------------------- */

struct own {
    const char *name;
    const char *type; /* "P-256", "RSA-2048", "ED25519" */
    const char *constraints, *usage;
    int64_t from_s, to_s; /* from now */
    bool no_identifier, by_another;
    const char *why; /* NULL: good */
};

static EVP_PKEY *rsa; /* made once: it takes long */

static EVP_PKEY *key_of(const char *type)
{
    unsigned bits = strncmp(type, "RSA-", 4) == 0 ? (unsigned)strtoul(type + 4, NULL, 10) : 0;

    if (bits && (!rsa || EVP_PKEY_get_bits(rsa) != (int)bits)) {
        EVP_PKEY_free(rsa);
        rsa = EVP_RSA_gen(bits);
    }
    if (bits)
        return EVP_PKEY_up_ref(rsa) == 1 ? rsa : NULL;
    if (strcmp(type, "ED25519") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return EVP_EC_gen(type);
}

static const char *key_text(EVP_PKEY *key, const char *passphrase)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;

    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, passphrase ? EVP_aes_256_cbc() : NULL, NULL, 0, NULL,
                                                   (void *)passphrase),
                     1);
    const char *copy = arena_strndup(&arena, text, (size_t)BIO_get_mem_data(bio, &text));
    BIO_free(bio);
    return copy;
}

static void make_own(const struct own *own, const char **ret_certificate, const char **ret_key)
{
    EVP_PKEY *key = key_of(own->type), *signer = own->by_another ? EVP_EC_gen("P-256") : key;
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);

    assert_non_null(key);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 77);
    ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)(now_ms / 1000 + own->from_s));
    ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)(now_ms / 1000 + own->to_s));
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"our own CA", -1, -1, 0);
    X509_set_pubkey(certificate, key);
    if (own->by_another) {
        X509_NAME *other = X509_NAME_new();

        X509_NAME_add_entry_by_txt(other, "CN", MBSTRING_ASC, (const unsigned char *)"somebody", -1, -1, 0);
        X509_set_issuer_name(certificate, other);
        X509_NAME_free(other);
    } else {
        X509_set_issuer_name(certificate, name);
    }
    if (own->constraints)
        ca_extension_add(certificate, certificate, NID_basic_constraints, own->constraints);
    if (own->usage)
        ca_extension_add(certificate, certificate, NID_key_usage, own->usage);
    if (!own->no_identifier)
        ca_extension_add(certificate, certificate, NID_subject_key_identifier, "hash");
    bool plain = EVP_PKEY_get_base_id(signer) == EVP_PKEY_ED25519;
    assert_true(X509_sign(certificate, signer, plain ? NULL : EVP_sha256()) > 0);
    AUTO_FREE
    char *text = ca_write_certificate(certificate);
    *ret_certificate = arena_strdup(&arena, text);
    *ret_key = key_text(key, NULL);
    X509_free(certificate);
    if (own->by_another)
        EVP_PKEY_free(signer);
    EVP_PKEY_free(key);
}

#define CA  "critical,CA:TRUE"
#define USE "critical,keyCertSign,cRLSign"

static const struct own owns[] = {
    {"P-256", "P-256", CA, USE, -10, YEAR_S},
    {"P-384", "P-384", CA, USE, -10, YEAR_S},
    {"P-521", "P-521", CA, USE, -10, YEAR_S},
    {"RSA", "RSA-2048", CA, USE, -10, YEAR_S},
    {"path length 1", "P-256", "critical,CA:TRUE,pathlen:1", USE, -10, YEAR_S},
    {"no key usage", "P-256", CA, NULL, -10, YEAR_S},
    {"signed by another", "P-256", CA, USE, -10, YEAR_S, .by_another = true},
    {"RSA, signed by another", "RSA-2048", CA, USE, -10, YEAR_S, .by_another = true},
    {"clock ahead of ours", "P-256", CA, USE, 600, YEAR_S},
    {"P-224", "P-224", CA, USE, -10, YEAR_S, .why = "CAConfig.SigningCAKey: 224 bits are too few: ECDSA needs 256"},
    {"short RSA", "RSA-1024", CA, USE, -10, YEAR_S,
     .why = "CAConfig.SigningCAKey: 1024 bits are too few: RSA needs 2048"},
    {"Ed25519", "ED25519", CA, USE, -10, YEAR_S, .why = "CAConfig.SigningCAKey: the key is neither ECDSA nor RSA"},
    {"no CA", "P-256", "critical,CA:FALSE", NULL, -10, YEAR_S,
     .why = "CAConfig.SigningCACert: it is not the certificate of a CA"},
    {"nothing said of a CA", "P-256", NULL, NULL, -10, YEAR_S,
     .why = "CAConfig.SigningCACert: it is not the certificate of a CA"},
    {"may not sign", "P-256", CA, "critical,digitalSignature", -10, YEAR_S, .why = "CAConfig.SigningCACert: it"},
    {"path length 0", "P-256", "critical,CA:TRUE,pathlen:0", USE, -10, YEAR_S,
     .why = "CAConfig.SigningCACert: its path length is 0"},
    {"no identifier", "P-256", CA, USE, -10, YEAR_S, .no_identifier = true,
     .why = "CAConfig.SigningCACert: it has no subject key identifier"},
    {"expired", "P-256", CA, USE, -2 * YEAR_S, -1, .why = "CAConfig.SigningCACert: it has expired"},
    {"not yet valid", "P-256", CA, USE, 7200, YEAR_S, .why = "CAConfig.SigningCACert: it is not valid yet"},
};

static void own_roots_are_taken_or_refused_by_name(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(owns); i++) {
        const char *certificate, *key;
        struct err e = {0};

        make_own(&owns[i], &certificate, &key);
        int rc = ca_root_check(certificate, key, now_ms, &e);
        if (rc != (owns[i].why ? ERR_INVALID : 0) || (owns[i].why && !strstr(e.text, owns[i].why)))
            fail_msg("%s: %s", owns[i].name, e.text);
    }
}

static void nodes_know_each_other_on_the_way_to_an_own_root_and_back(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(owns) && !owns[i].why; i++) {
        const char *certificate, *key;
        struct node nodes[4] = {renewed()};

        if (owns[i].from_s > 0)
            continue; /* its handshakes go by the real clock and are fine as well, in a while */
        print_message("%s\n", owns[i].name);
        make_own(&owns[i], &certificate, &key);
        begin(arena_printf(&arena, "# our own\n\n%s\n", certificate), key);
        nodes[1] = renewed();
        assert_know_each_other(nodes, 2);
        ca_rotation_finish(&root);
        assert_string_equal(ca_trust(&root, &arena), certificate); /* without what stood around it */
        nodes[0] = nodes[1];
        nodes[0].trust = certificate;
        nodes[2] = renewed();
        begin(NULL, NULL); /* and away from it again */
        nodes[3] = renewed();
        assert_know_each_other(nodes, 4);
        ca_rotation_finish(&root);
    }
}

static void halves_and_garbage_are_refused_by_name(void **state)
{
    const char *certificate, *key, *other_certificate, *other_key;
    EVP_PKEY *locked = EVP_EC_gen("P-256");

    make_own(&owns[0], &certificate, &key);
    make_own(&owns[0], &other_certificate, &other_key);
    const struct {
        const char *certificate, *key, *why;
    } cases[] = {
        {certificate, NULL, "CAConfig.SigningCAKey is missing: a root of your own is a certificate and its key"},
        {NULL, key, "CAConfig.SigningCACert is missing: a root of your own is a certificate and its key"},
        {"x", key, "CAConfig.SigningCACert: expected exactly one certificate as PEM"},
        {key, key, "CAConfig.SigningCACert: expected exactly one certificate as PEM"},
        {arena_printf(&arena, "%s%s", certificate, other_certificate), key,
         "CAConfig.SigningCACert: expected exactly one certificate as PEM"},
        {certificate, "x", "CAConfig.SigningCAKey: expected a private key as PEM, without a passphrase"},
        {certificate, certificate, "CAConfig.SigningCAKey: expected a private key as PEM, without a passphrase"},
        {certificate, key_text(locked, "words"),
         "CAConfig.SigningCAKey: expected a private key as PEM, without a passphrase"},
        {certificate, other_key, "CAConfig.SigningCAKey: the key does not belong to CAConfig.SigningCACert"},
    };
    EVP_PKEY_free(locked);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        RootCa before = root;
        struct err e = {0};

        assert_int_equal(ca_rotation_begin(&root, cases[i].certificate, cases[i].key, now_ms, &arena, &e),
                         ERR_INVALID);
        assert_string_equal(e.text, cases[i].why);
        assert_memory_equal(&before, &root, sizeof(root));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nodes_know_each_other_all_through_a_rotation),
        TEST(old_certificate_is_worth_nothing_when_it_is_over),
        TEST(three_rotations_in_a_row),
        TEST(rotation_that_is_replaced_by_another_strands_nobody),
        TEST(present_root_asked_for_takes_a_rotation_back),
        TEST(cluster_without_a_key_cannot_rotate),
        TEST(own_roots_are_taken_or_refused_by_name),
        TEST(nodes_know_each_other_on_the_way_to_an_own_root_and_back),
        TEST(halves_and_garbage_are_refused_by_name),
    };

    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    EVP_PKEY_free(rsa);
    return failed;
}
