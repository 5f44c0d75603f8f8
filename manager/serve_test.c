/* The manager port: who gets in, who may call what, how certificates are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/caller.h"
#include "tests/support/puppet.h"

static struct cluster c;
static struct tls *nobody; /* trusts the root, shows no certificate */

static int setup(void **state)
{
    struct err e;

    cluster_found(&c, "/tmp", NULL);
    if (tls_new(NULL, NULL, c.founding.root_pem, &nobody, &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

static int teardown(void **state)
{
    tls_unref(nobody);
    cluster_end(&c);
    return 0;
}

/* --- calls ----------------------------------------------------------------------------------------------- */

static char *issue(struct arena *a, const char *key_pem, const char *token, size_t *ret_size)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_BUF struct buf csr = {0};
    struct err e;

    if (cert_request_new(key_pem, &csr, &e) < 0)
        fail_msg("%s", e.text);
    request.csr_der = (ProtobufCBinaryData){csr.length, (uint8_t *)buf_bytes(&csr)};
    request.token = (char *)token;
    *ret_size = issue_request__get_packed_size(&request);
    uint8_t *packed = arena_alloc(a, *ret_size);
    issue_request__pack(&request, packed);
    return (char *)packed;
}

static const char *token_of(const char *secret)
{
    char token[CA_TOKEN_TEXT + 1];

    assert_int_equal(ca_token(c.founding.root_pem, secret, token, NULL), 0);
    return arena_strdup(&c.arena, token);
}

static const char *node_count(void)
{
    return json_at(&c, cluster_expect(&c, 200, "GET", "/nodes", NULL), "#");
}

/* --- the root -------------------------------------------------------------------------------------------- */

static void anybody_is_given_the_root(void **state)
{
    struct caller call;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_ROOT, "", 0), 0);
    const RootReply *reply = arena_unpack(&a, &root_reply__descriptor, buf_bytes(&call.reply), call.reply.length);
    assert_non_null(reply);
    assert_int_equal(reply->certificate_pem.len, strlen(c.founding.root_pem));
    assert_memory_equal(reply->certificate_pem.data, c.founding.root_pem, reply->certificate_pem.len);
    buf_fini(&call.reply);
}

/* --- joining --------------------------------------------------------------------------------------------- */

static void worker_with_the_token_becomes_a_node(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    const char *body = cluster_expect(&c, 200, "GET", "/nodes/second", NULL);
    assert_string_equal(json_at(&c, body, "ID"), worker.node_id);
    assert_string_equal(json_at(&c, body, "Spec.Role"), "worker");
    assert_string_equal(json_at(&c, body, "Spec.Availability"), "active");
    assert_string_equal(json_at(&c, body, "Status.State"), "ready");
    puppet_end(&worker);
}

static void bad_tokens_are_refused_and_leave_no_node(void **state)
{
    char long_token[300];
    char other_secret[] = "0000000000000000000000000";
    const char *good = token_of(c.founding.worker_secret);

    memset(long_token, 'a', sizeof(long_token));
    long_token[sizeof(long_token) - 1] = '\0';
    const struct {
        const char *token;
        int code;
    } cases[] = {
        {"", ERR_INVALID},
        {"x", ERR_INVALID},
        {long_token, ERR_INVALID},
        {arena_printf(&c.arena, "%.*s", CA_TOKEN_TEXT - 1, good), ERR_INVALID},
        {arena_printf(&c.arena, "%sx", good), ERR_INVALID},
        {arena_printf(&c.arena, "SWMTKN-2-%s", good + 9), ERR_INVALID},
        {token_of(other_secret), ERR_INVALID},
        {token_of("zzzzzzzzzzzzzzzzzzzzzzzzz"), ERR_INVALID},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct puppet p = {.cluster = &c};
        struct err e;

        if (puppet_try_join(&p, cases[i].token, &e) != cases[i].code)
            fail_msg("case %zu: %d %s", i, e.code, e.text);
        assert_null(strstr(e.text, c.founding.worker_secret)); /* a refusal teaches nothing */
    }
    assert_string_equal(node_count(), "1");
}

static void malformed_requests_leave_no_node(void **state)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    uint8_t packed[512], junk[64] = {0x30, 0x3e, 1, 2, 3};
    struct caller call;

    request.csr_der = (ProtobufCBinaryData){sizeof(junk), junk};
    request.token = (char *)token_of(c.founding.worker_secret);
    size_t size = issue_request__pack(&request, packed);
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_ISSUE, packed, size), ERR_INVALID);
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_ISSUE, "\xff\xff\xff", 3), ERR_INVALID);
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_ISSUE, "", 0), ERR_INVALID);
    assert_string_equal(node_count(), "1");
}

static void certificate_of_a_joiner_lives_as_long_as_the_spec_says(void **state)
{
    AUTO_FREE
    char *key_pem = NULL;
    AUTO_ARENA struct arena a;
    struct cert_facts facts;
    struct caller call;
    size_t size;
    struct err e;

    arena_init(&a);
    cluster_expect(&c, 200, "POST",
                   arena_printf(&a, "/swarm/update?version=%s",
                                json_at(&c, cluster_expect(&c, 200, "GET", "/swarm", NULL), "Version.Index")),
                   "{\"CAConfig\":{\"NodeCertExpiry\":7200000000000}}"); /* two hours */
    if (cert_key_new(&key_pem, &e) < 0)
        fail_msg("%s", e.text);
    const char *request = issue(&a, key_pem, token_of(c.founding.worker_secret), &size);
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_ISSUE, request, size), 0);
    const IssueReply *reply = arena_unpack(&a, &issue_reply__descriptor, buf_bytes(&call.reply), call.reply.length);
    const char *pem = arena_strndup(&a, (const char *)reply->certificate_pem.data, reply->certificate_pem.len);
    assert_int_equal(cert_check(pem, key_pem, c.founding.root_pem, &e), 0);
    assert_int_equal(cert_facts(pem, &facts, &e), 0);
    int64_t left_ms = facts.not_after_ms - clock_wall_ms(clock_real());
    assert_true(left_ms > 7000000 && left_ms <= 7200000);
    assert_int_equal(facts.identity.role, RPC_ROLE_WORKER);
    assert_string_equal(facts.identity.cluster_id, c.founding.cluster_id);
    assert_int_equal(reply->role, NODE_ROLE__WORKER);
    buf_fini(&call.reply);
}

/* --- renewing -------------------------------------------------------------------------------------------- */

static void node_renews_for_itself_alone(void **state)
{
    AUTO_FREE
    char *key_pem = NULL;
    AUTO_ARENA struct arena a;
    struct cert_facts facts;
    struct puppet worker;
    struct caller call;
    size_t size;
    struct err e;

    arena_init(&a);
    puppet_join(&worker, &c, "second");
    if (cert_key_new(&key_pem, &e) < 0)
        fail_msg("%s", e.text);
    const char *request = issue(&a, key_pem, NULL, &size);
    assert_int_equal(caller_once(&call, &c, worker.tls, METHOD_ISSUE, request, size), 0);
    const IssueReply *reply = arena_unpack(&a, &issue_reply__descriptor, buf_bytes(&call.reply), call.reply.length);
    const char *pem = arena_strndup(&a, (const char *)reply->certificate_pem.data, reply->certificate_pem.len);
    assert_int_equal(cert_facts(pem, &facts, &e), 0);
    assert_string_equal(facts.identity.node_id, worker.node_id);
    assert_int_equal(facts.identity.role, RPC_ROLE_WORKER);
    buf_fini(&call.reply);
    /* Nobody without either; and who is one of us already joins no more. */
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_ISSUE, request, size), ERR_DENIED);
    request = issue(&a, key_pem, token_of(c.founding.worker_secret), &size);
    assert_int_equal(caller_once(&call, &c, worker.tls, METHOD_ISSUE, request, size), ERR_INVALID);
    assert_string_equal(node_count(), "2");
    puppet_end(&worker);
}

/* --- who gets in ------------------------------------------------------------------------------------------- */

static void sessions_and_logs_are_for_nodes(void **state)
{
    struct caller call;

    assert_int_equal(caller_once(&call, &c, nobody, METHOD_SESSION, "", 0), ERR_DENIED);
    assert_int_equal(caller_once(&call, &c, nobody, METHOD_LOGS, "", 0), ERR_DENIED);
    assert_int_not_equal(caller_once(&call, &c, nobody, 77, "", 0), 0);
    buf_fini(&call.reply);
}

static void certificates_without_a_row_are_refused(void **state)
{
    char stranger[IDENT_TEXT + 1];
    struct puppet worker;

    ident_new(entropy_real(), stranger);
    puppet_join(&worker, &c, "second");
    const struct {
        const char *node_id;
        enum rpc_role role;
        const char *cluster_id;
        bool gets_in;
    } cases[] = {
        {worker.node_id, RPC_ROLE_WORKER, c.founding.cluster_id, true},
        {c.founding.node_id, RPC_ROLE_MANAGER, c.founding.cluster_id, true},
        {stranger, RPC_ROLE_WORKER, c.founding.cluster_id, false},
        {stranger, RPC_ROLE_MANAGER, c.founding.cluster_id, false},
        {worker.node_id, RPC_ROLE_MANAGER, c.founding.cluster_id, true}, /* as a worker: announce_test */
        {c.founding.node_id, RPC_ROLE_WORKER, c.founding.cluster_id, true},
        {worker.node_id, RPC_ROLE_WORKER, stranger, false},
        {c.founding.node_id, RPC_ROLE_MANAGER, stranger, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct tls *tls = caller_certificate(&c, cases[i].node_id, cases[i].role, cases[i].cluster_id);
        struct caller call;
        bool got_in = caller_once(&call, &c, tls, METHOD_ROOT, "", 0) == 0;

        if (got_in != cases[i].gets_in)
            fail_msg("case %zu: %s", i, call.e.text);
        buf_fini(&call.reply);
        tls_unref(tls);
    }
    puppet_end(&worker);
}

static void removed_node_is_out_until_it_joins_anew(void **state)
{
    struct puppet worker, again;

    puppet_join(&worker, &c, "second");
    cluster_expect(&c, 200, "DELETE", arena_printf(&c.arena, "/nodes/%s?force=true", worker.node_id), NULL);
    cluster_until(&c, !worker.conn);
    puppet_join(&again, &c, "second"); /* with the token that still holds: as another node */
    assert_string_not_equal(again.node_id, worker.node_id);
    puppet_connect(&worker);
    cluster_until(&c, worker.ends);
    assert_false(worker.ready);
    assert_true(again.ready);
    puppet_end(&worker);
    puppet_end(&again);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(anybody_is_given_the_root),
        TEST(worker_with_the_token_becomes_a_node),
        TEST(bad_tokens_are_refused_and_leave_no_node),
        TEST(malformed_requests_leave_no_node),
        TEST(certificate_of_a_joiner_lives_as_long_as_the_spec_says),
        TEST(node_renews_for_itself_alone),
        TEST(sessions_and_logs_are_for_nodes),
        TEST(certificates_without_a_row_are_refused),
        TEST(removed_node_is_out_until_it_joins_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
