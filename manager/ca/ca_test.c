/* The authority issues what openssl accepts, for the identity it was told, and refuses the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/ca/ca.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define NOW_MS  1790000000000LL
#define DAY_MS  (24LL * 3600 * 1000)
#define NODE    "0000000000000000000000abc"
#define CLUSTER "0000000000000000000000xyz"

static char *root_pem, *root_key;

static int make_root(void **state)
{
    return ca_root_new(NOW_MS, &root_pem, &root_key, NULL);
}

static int drop_root(void **state)
{
    free(root_pem);
    free(root_key);
    return 0;
}

static struct rpc_identity identity_of(enum rpc_role role)
{
    return (struct rpc_identity){.role = role, .node_id = NODE, .cluster_id = CLUSTER};
}

static void issued_certificate_says_who_it_is_for(void **state)
{
    const enum rpc_role roles[] = {RPC_ROLE_WORKER, RPC_ROLE_MANAGER};

    for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
        AUTO_FREE
        char *key = NULL;
        AUTO_FREE
        char *certificate = NULL;
        AUTO_BUF struct buf request = {0};
        struct rpc_identity identity = identity_of(roles[i]);
        struct cert_facts facts;
        struct err e = {0};

        assert_int_equal(cert_key_new(&key, &e), 0);
        assert_int_equal(cert_request_new(key, &request, &e), 0);
        assert_int_equal(ca_issue(root_pem, root_key, buf_bytes(&request), request.length, &identity, NOW_MS,
                                  90 * DAY_MS, &certificate, &e),
                         0);
        assert_int_equal(cert_facts(certificate, &facts, &e), 0);
        assert_string_equal(facts.identity.node_id, NODE);
        assert_string_equal(facts.identity.cluster_id, CLUSTER);
        assert_int_equal(facts.identity.role, roles[i]);
        assert_int_equal(facts.not_before_ms, NOW_MS - 3600 * 1000);
        assert_int_equal(facts.not_after_ms, NOW_MS + 90 * DAY_MS);
        assert_int_equal(cert_check(certificate, key, root_pem, &e), 0);
    }
}

static void foreign_key_or_root_does_not_pass_the_check(void **state)
{
    AUTO_FREE
    char *key = NULL;
    AUTO_FREE
    char *other_key = NULL;
    AUTO_FREE
    char *certificate = NULL;
    AUTO_FREE
    char *other_root = NULL;
    AUTO_FREE
    char *other_root_key = NULL;
    AUTO_BUF struct buf request = {0};
    struct rpc_identity identity = identity_of(RPC_ROLE_WORKER);
    struct err e = {0};

    assert_int_equal(cert_key_new(&key, &e), 0);
    assert_int_equal(cert_key_new(&other_key, &e), 0);
    assert_int_equal(ca_root_new(NOW_MS, &other_root, &other_root_key, &e), 0);
    assert_int_equal(cert_request_new(key, &request, &e), 0);
    assert_int_equal(ca_issue(root_pem, root_key, buf_bytes(&request), request.length, &identity, NOW_MS, DAY_MS,
                              &certificate, &e),
                     0);
    assert_int_equal(cert_check(certificate, other_key, root_pem, &e), ERR_INVALID);
    assert_int_equal(cert_check(certificate, key, other_root, &e), ERR_INVALID);
}

static void a_root_is_read_again_once_its_texts_change(void **state)
{
    AUTO_FREE
    char *key = NULL;
    AUTO_FREE
    char *other_root = NULL;
    AUTO_FREE
    char *other_key = NULL;
    AUTO_BUF struct buf request = {0};
    struct rpc_identity identity = identity_of(RPC_ROLE_WORKER);
    struct ca_root *root = NULL, *before;
    struct err e = {0};

    assert_int_equal(cert_key_new(&key, &e), 0);
    assert_int_equal(cert_request_new(key, &request, &e), 0);
    assert_int_equal(ca_root_new(NOW_MS, &other_root, &other_key, &e), 0);
    for (int i = 0; i < 4; i++) {
        const char *pem = i / 2 ? other_root : root_pem, *other = i / 2 ? root_pem : other_root;
        char *certificate = NULL;

        before = root;
        assert_int_equal(ca_root_use(&root, pem, i / 2 ? other_key : root_key, &e), 0);
        if (i % 2)
            assert_ptr_equal(root, before);
        assert_int_equal(
            ca_root_issue(root, buf_bytes(&request), request.length, &identity, NOW_MS, DAY_MS, &certificate, &e),
            0);
        assert_int_equal(cert_check(certificate, key, pem, &e), 0);
        assert_int_equal(cert_check(certificate, key, other, &e), ERR_INVALID);
        free(certificate);
    }
    assert_true(ca_root_use(&root, other_root, "no key", &e) < 0);
    assert_null(root);
    ca_root_free(root);
}

static void damaged_request_is_refused_whatever_bit_is_flipped(void **state)
{
    AUTO_FREE
    char *key = NULL;
    AUTO_BUF struct buf request = {0};
    struct rpc_identity identity = identity_of(RPC_ROLE_WORKER);
    char *certificate = NULL;
    struct err e = {0};

    assert_int_equal(cert_key_new(&key, &e), 0);
    assert_int_equal(cert_request_new(key, &request, &e), 0);
    for (size_t i = 0; i < request.length; i++) {
        buf_bytes(&request)[i] ^= 0x10;
        int rc = ca_issue(root_pem, root_key, buf_bytes(&request), request.length, &identity, NOW_MS, DAY_MS,
                          &certificate, &e);
        assert_int_not_equal(rc, 0);
        buf_bytes(&request)[i] ^= 0x10;
    }
    assert_int_equal(ca_issue(root_pem, root_key, buf_bytes(&request), request.length - 1, &identity, NOW_MS,
                              DAY_MS, &certificate, &e),
                     ERR_INVALID);
    buf_append_char(&request, 'x');
    assert_int_equal(ca_issue(root_pem, root_key, buf_bytes(&request), request.length, &identity, NOW_MS, DAY_MS,
                              &certificate, &e),
                     ERR_INVALID);
}

static void token_comes_apart_into_digest_and_secret(void **state)
{
    char secret[CA_SECRET_TEXT + 1], token[CA_TOKEN_TEXT + 1], digest[TOKEN_DIGEST_TEXT + 1],
        secret_back[CA_SECRET_TEXT + 1];
    struct entropy_seeded seeded;
    struct err e = {0};

    entropy_seeded_init(&seeded, 7);
    ca_secret_new(&seeded.base, secret);
    assert_int_equal(ca_token(root_pem, secret, token, &e), 0);
    assert_int_equal(strlen(token), CA_TOKEN_TEXT);
    assert_int_equal(token_parse(token, digest, secret_back, &e), 0);
    assert_string_equal(secret, secret_back);
    assert_memory_equal(token + 9, digest, TOKEN_DIGEST_TEXT);
}

static void malformed_tokens_are_refused_without_being_shown(void **state)
{
    const char *const tokens[] = {
        "",
        "SWMTKN-1-",
        "SWMTKN-9-3v4gmxhlkm6qyb2kbsqgqvgzvcvx3fqm8x8nxpeyl1xbq4kp8c-8qbtk3pzl2y7x1gtwvxd6n0fj",
        "swmtkn-1-3v4gmxhlkm6qyb2kbsqgqvgzvcvx3fqm8x8nxpeyl1xbq4kp8c-8qbtk3pzl2y7x1gtwvxd6n0fj",
        "SWMTKN-1-3V4gmxhlkm6qyb2kbsqgqvgzvcvx3fqm8x8nxpeyl1xbq4kp8c-8qbtk3pzl2y7x1gtwvxd6n0fj",
        "SWMTKN-1-3v4gmxhlkm6qyb2kbsqgqvgzvcvx3fqm8x8nxpeyl1xbq4kp8c_8qbtk3pzl2y7x1gtwvxd6n0fjx",
    };
    char digest[TOKEN_DIGEST_TEXT + 1], secret[CA_SECRET_TEXT + 1];

    for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
        struct err e = {0};

        assert_int_equal(token_parse(tokens[i], digest, secret, &e), ERR_INVALID);
        assert_non_null(strstr(e.text, "join token"));
        assert_null(strstr(e.text, "8qbtk3pzl2"));
    }
}

static void facts_of_a_root_are_refused(void **state)
{
    struct cert_facts facts;
    struct err e = {0};

    assert_int_equal(cert_facts(root_pem, &facts, &e), ERR_INVALID); /* it names no node */
    assert_int_equal(cert_facts("no certificate", &facts, &e), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(issued_certificate_says_who_it_is_for),
        cmocka_unit_test(foreign_key_or_root_does_not_pass_the_check),
        cmocka_unit_test(a_root_is_read_again_once_its_texts_change),
        cmocka_unit_test(damaged_request_is_refused_whatever_bit_is_flipped),
        cmocka_unit_test(token_comes_apart_into_digest_and_secret),
        cmocka_unit_test(malformed_tokens_are_refused_without_being_shown),
        cmocka_unit_test(facts_of_a_root_are_refused),
    };

    return cmocka_run_group_tests(tests, make_root, drop_root);
}
