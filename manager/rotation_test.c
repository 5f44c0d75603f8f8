/* `swarm ca --rotate` seen by agents and clients: everybody is told, certificates come from the next root, nodes
 * say whose theirs are, and it is over when the last one has renewed; whoever is down holds it up. */
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
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "tests/support/puppet.h"

static struct cluster c;
static struct puppet first, second;

static int setup(void **state)
{
    cluster_tuning = (struct manager_tuning){.registrations_per_node = 1000};
    cluster_found(&c, "/tmp", NULL);
    puppet_start(&first, &c);
    puppet_join(&second, &c, "second");
    cluster_until(&c, first.authority.tells == 1 && second.authority.tells == 1);
    return 0;
}

static int teardown(void **state)
{
    puppet_end(&first);
    puppet_end(&second);
    cluster_end(&c);
    return 0;
}

/* --- questions ------------------------------------------------------------------------------------------- */

static const char *get(const char *path)
{
    return cluster_expect(&c, 200, "GET", path, NULL);
}

static const char *swarm(const char *way)
{
    const char *text = json_at(&c, get("/swarm"), way);

    return text ? text : "";
}

static const char *node(const char *hostname, const char *way)
{
    AUTO_FREE
    char *path = mem_printf("/nodes/%s", hostname);
    const char *text = json_at(&c, get(path), way);

    return text ? text : "";
}

static const char *update_path(const char *query)
{
    return arena_printf(&c.arena, "/swarm/update?version=%s%s", swarm("Version.Index"), query);
}

static void rotate(unsigned counter)
{
    cluster_expect(&c, 200, "POST", update_path(""),
                   arena_printf(&c.arena, "{\"CAConfig\":{\"ForceRotate\":%u}}", counter));
}

static bool rotates(void)
{
    return strcmp(swarm("RootRotationInProgress"), "true") == 0;
}

/* As the client says it in `node ls`. */
static const char *tls_status(const char *hostname)
{
    const char *key = node(hostname, "Description.TLSInfo.CertIssuerPublicKey"),
               *trust = node(hostname, "Description.TLSInfo.TrustRoot");

    if (!*key && !*trust)
        return "Unknown";
    return strcmp(key, swarm("TLSInfo.CertIssuerPublicKey")) == 0 && strcmp(trust, swarm("TLSInfo.TrustRoot")) == 0
               ? "Ready"
               : "Needs Rotation";
}

static void renew(struct puppet *a)
{
    struct err e;

    if (puppet_renew(a, &e) < 0)
        fail_msg("%s", e.text);
    puppet_describe(a);
}

/* What an agent does that is told of roots alone. */
static void take_trust(struct puppet *a)
{
    a->trust = cert_trust_digest(a->authority.root_pem);
    puppet_describe(a);
}

/* --- rotations ------------------------------------------------------------------------------------------- */

static void nodes_are_ready_while_nothing_rotates(void **state)
{
    uint64_t digest;

    assert_false(rotates());
    assert_string_equal(tls_status("first"), "Ready");
    assert_string_equal(tls_status("second"), "Ready");
    assert_string_equal(second.authority.root_pem, c.founding.root_pem);
    assert_int_equal(cert_key_digest(c.founding.root_pem, &digest, NULL), 0);
    assert_int_equal(second.authority.issuer, digest);
    assert_int_equal(second.authority.lifetime_ms, 90LL * 24 * 3600 * 1000);
}

static void rotation_ends_when_every_node_has_renewed(void **state)
{
    const char *token = swarm("JoinTokens.Worker"), *manager_token = swarm("JoinTokens.Manager"),
               *trust = swarm("TLSInfo.TrustRoot"), *key = swarm("TLSInfo.CertIssuerPublicKey");

    rotate(1);
    assert_true(rotates());
    assert_string_equal(swarm("TLSInfo.TrustRoot"), trust); /* still the one that tokens pin */
    assert_string_equal(swarm("JoinTokens.Worker"), token);
    assert_string_not_equal(swarm("TLSInfo.CertIssuerPublicKey"), key);
    assert_string_equal(swarm("Spec.CAConfig.ForceRotate"), "1");
    cluster_until(&c, first.authority.tells == 2 && second.authority.tells == 2);
    assert_memory_equal(second.authority.root_pem, trust, strlen(trust)); /* both, the present one first */
    assert_true(strlen(second.authority.root_pem) > strlen(trust));
    assert_int_not_equal(second.authority.issuer, second.certificate_issuer);
    assert_string_equal(tls_status("second"), "Needs Rotation");

    renew(&second);
    assert_int_equal(second.certificate_issuer, second.authority.issuer);
    assert_int_equal(second.trust, cert_trust_digest(second.authority.root_pem));
    cluster_until(&c, strcmp(node("second", "Description.TLSInfo.CertIssuerPublicKey"),
                             swarm("TLSInfo.CertIssuerPublicKey")) == 0);
    assert_true(rotates());
    assert_string_equal(tls_status("first"), "Needs Rotation");

    renew(&first);
    cluster_until(&c, !rotates());
    const char *next = swarm("TLSInfo.TrustRoot");
    assert_string_not_equal(next, trust);
    cluster_until(&c, first.authority.tells == 3 && second.authority.tells == 3);
    assert_string_equal(second.authority.root_pem, next);        /* the old one is dropped */
    assert_string_equal(tls_status("second"), "Needs Rotation"); /* it has not yet said that it did */
    take_trust(&first);
    take_trust(&second);
    cluster_until(&c, strcmp(tls_status("first"), "Ready") == 0 && strcmp(tls_status("second"), "Ready") == 0);
    assert_string_not_equal(swarm("JoinTokens.Worker"), token);
    assert_string_not_equal(swarm("JoinTokens.Manager"), manager_token);
    cluster_rest(&c, 30);
    assert_true(first.ready && second.ready); /* sessions went on all the time */
    assert_int_equal(second.ends, 0);
}

static void who_is_down_holds_it_up_until_it_renews_or_is_removed(void **state)
{
    struct puppet third = {0};

    puppet_join(&third, &c, "third");
    puppet_disconnect(&third);
    cluster_until(&c, strcmp(node("third", "Status.State"), "down") == 0);
    rotate(1);
    renew(&first);
    renew(&second);
    cluster_rest(&c, 50);
    assert_true(rotates());
    cluster_expect(&c, 200, "DELETE", arena_printf(&c.arena, "/nodes/%s", node("third", "ID")), NULL);
    cluster_until(&c, !rotates());
    puppet_end(&third);
}

static void rotation_goes_on_with_a_manager_that_starts(void **state)
{
    rotate(1);
    renew(&second);
    cluster_until(&c, strcmp(node("second", "Description.TLSInfo.CertIssuerPublicKey"),
                             swarm("TLSInfo.CertIssuerPublicKey")) == 0);
    cluster_stop(&c);
    cluster_start(&c);
    assert_true(rotates());
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    cluster_rest(&c, 30);
    assert_true(rotates());
    renew(&first);
    cluster_until(&c, !rotates());
}

static void second_rotation_takes_the_place_of_the_first(void **state)
{
    rotate(1);
    renew(&second);
    rotate(2);
    const char *key = swarm("TLSInfo.CertIssuerPublicKey");
    renew(&first);
    cluster_rest(&c, 50);
    assert_true(rotates()); /* the second node has a certificate of the first rotation */
    renew(&second);
    cluster_until(&c, !rotates());
    assert_string_equal(swarm("TLSInfo.CertIssuerPublicKey"), key);
}

static void node_that_joins_meanwhile_has_renewed_already(void **state)
{
    struct puppet third;

    rotate(1);
    renew(&first);
    puppet_join(&third, &c, "third"); /* with the token of before */
    assert_int_equal(third.certificate_issuer, second.authority.issuer);
    cluster_rest(&c, 30);
    assert_true(rotates());
    renew(&second);
    cluster_until(&c, !rotates());
    puppet_end(&third);
}

static void token_of_the_old_root_is_refused_afterwards(void **state)
{
    AUTO_FREE
    char *token = mem_strdup(swarm("JoinTokens.Worker"));
    struct puppet late = {.cluster = &c};
    struct err e;

    rotate(1);
    renew(&first);
    renew(&second);
    cluster_until(&c, !rotates());
    assert_int_equal(puppet_try_join(&late, token, &e), ERR_INVALID);
    assert_null(late.tls);
}

/* --- roots of users' own, and refusals --------------------------------------------------------------------- */

static const char *json_text(const char *text)
{
    struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    jwrite_string(&j, NULL, text);
    const char *copy = arena_strdup(&c.arena, buf_str(&out));
    buf_fini(&out);
    return copy;
}

static const char *own_body(const char *certificate, const char *key)
{
    return arena_printf(&c.arena, "{\"CAConfig\":{\"SigningCACert\":%s,\"SigningCAKey\":%s}}",
                        json_text(certificate), json_text(key));
}

static void own_root_is_taken_and_its_key_never_shown(void **state)
{
    AUTO_FREE
    char *certificate = NULL;
    AUTO_FREE
    char *key = NULL;

    assert_int_equal(ca_root_new(clock_wall_ms(clock_real()), &certificate, &key, NULL), 0);
    cluster_expect(&c, 200, "POST", update_path(""), own_body(certificate, key));
    assert_true(rotates());
    assert_null(strstr(get("/swarm"), "PRIVATE KEY"));
    assert_null(strstr(get("/swarm"), "SigningCA"));
    renew(&first);
    renew(&second);
    cluster_until(&c, !rotates());
    assert_string_equal(swarm("TLSInfo.TrustRoot"), certificate);
    cluster_expect(&c, 200, "POST", update_path(""), own_body(certificate, key)); /* it is that already */
    assert_false(rotates());
}

static void present_root_takes_a_rotation_back(void **state)
{
    rotate(1);
    assert_true(rotates());
    cluster_expect(&c, 200, "POST", update_path(""), own_body(c.founding.root_pem, c.founding.root_key_pem));
    assert_false(rotates());
    cluster_until(&c, second.authority.tells == 3);
    assert_string_equal(second.authority.root_pem, c.founding.root_pem);
}

static void refused(const char *body, const char *text)
{
    const char *answer;
    int status = cluster_call(&c, "POST", update_path(""), body, &answer);

    if (status != 400 && status != 501)
        fail_msg("%s: %d %s", body, status, answer);
    if (!strstr(answer, text))
        fail_msg("%s: %s", body, answer);
    assert_null(strstr(answer, "PRIVATE KEY"));
    assert_false(rotates());
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    AUTO_FREE
    char *certificate = NULL;
    AUTO_FREE
    char *key = NULL;

    assert_int_equal(ca_root_new(clock_wall_ms(clock_real()), &certificate, &key, NULL), 0);
    refused(own_body(certificate, c.founding.root_key_pem),
            "rpc error: code = InvalidArgument desc = CAConfig.SigningCAKey: the key does not belong to "
            "CAConfig.SigningCACert");
    refused(own_body(certificate, ""), "CAConfig.SigningCAKey is missing");
    refused(own_body("", key), "CAConfig.SigningCACert is missing");
    refused(own_body("words", key), "CAConfig.SigningCACert: expected exactly one certificate");
    refused("{\"CAConfig\":{\"SigningCACert\":5}}", "CAConfig.SigningCACert");
    refused("{\"CAConfig\":{\"ForceRotate\":-1}}", "CAConfig.ForceRotate");
    refused("{\"CAConfig\":{\"ExternalCAs\":[{\"Protocol\":\"cfssl\",\"URL\":\"https://x\"}]}}",
            "CAConfig.ExternalCAs");
}

static void counter_that_falls_is_refused_and_one_that_stays_does_nothing(void **state)
{
    rotate(3);
    renew(&first);
    renew(&second);
    cluster_until(&c, !rotates());
    refused("{\"CAConfig\":{\"ForceRotate\":2}}", "CAConfig.ForceRotate: 2 is less than what it was, 3");
    rotate(3);
    assert_false(rotates());
    cluster_expect(&c, 200, "POST", update_path(""), "{\"CAConfig\":{\"ForceRotate\":0}}"); /* says nothing */
    assert_false(rotates());
    assert_string_equal(swarm("Spec.CAConfig.ForceRotate"), "3");
}

static void shorter_lifetime_is_told_to_those_who_have_longer_ones(void **state)
{
    cluster_expect(&c, 200, "POST", update_path(""), "{\"CAConfig\":{\"NodeCertExpiry\":7200000000000}}");
    cluster_until(&c, second.authority.tells == 2);
    assert_int_equal(second.authority.lifetime_ms, 7200000);
    cluster_expect(&c, 200, "POST", update_path(""), "{\"Labels\":{\"a\":\"b\"}}"); /* nothing of it changes */
    cluster_rest(&c, 30);
    assert_int_equal(second.authority.tells, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nodes_are_ready_while_nothing_rotates),
        TEST(rotation_ends_when_every_node_has_renewed),
        TEST(who_is_down_holds_it_up_until_it_renews_or_is_removed),
        TEST(rotation_goes_on_with_a_manager_that_starts),
        TEST(second_rotation_takes_the_place_of_the_first),
        TEST(node_that_joins_meanwhile_has_renewed_already),
        TEST(token_of_the_old_root_is_refused_afterwards),
        TEST(own_root_is_taken_and_its_key_never_shown),
        TEST(present_root_takes_a_rotation_back),
        TEST(what_cannot_be_is_refused_by_name),
        TEST(counter_that_falls_is_refused_and_one_that_stays_does_nothing),
        TEST(shorter_lifetime_is_told_to_those_who_have_longer_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
