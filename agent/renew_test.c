/* Renewal against a port that issues, refuses, lies and goes away; lives of seconds, and a wall clock that the test
 * sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/renew.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "tests/support/port.h"

#define DAY_MS  (24LL * 3600 * 1000)
#define FOREIGN "0000000000000000000000oth"

static uv_loop_t loop;
static struct port port;
static struct renew *renew;
static struct entropy_seeded entropy;
static struct tls *tls; /* the newest */
static char *certificate, *key;
static int64_t wall_shift_ms;
static unsigned renewed, asked_for_address;
static const char *address;
static struct err refuse_use; /* on_renewed says this */
static struct cert_facts facts;
static bool closed;

static int64_t fake_mono_us(struct clock *c)
{
    return clock_mono_us(clock_real());
}

static int64_t fake_wall_ms(struct clock *c)
{
    return clock_wall_ms(clock_real()) + wall_shift_ms;
}

static struct clock fake_clock = {fake_mono_us, fake_wall_ms};

static const char *on_address(void *ctx, unsigned attempt)
{
    assert_int_equal(attempt, asked_for_address);
    asked_for_address++;
    return address;
}

static int on_renewed(void *ctx, const struct renewed *r, struct tls **ret_tls, struct err *e)
{
    struct tls *made;

    if (refuse_use.code) {
        *e = refuse_use;
        return e->code;
    }
    assert_int_equal(cert_check(r->certificate_pem, r->key_pem, r->root_pem, e), 0);
    assert_int_equal(cert_facts(r->certificate_pem, &facts, e), 0);
    assert_string_not_equal(r->key_pem, key); /* a new one */
    assert_int_equal(tls_new(r->certificate_pem, r->key_pem, r->root_pem, &made, e), 0);
    tls_unref(tls);
    tls = *ret_tls = made;
    renewed++;
    return 0;
}

static void open_with(int64_t lifetime_ms)
{
    struct renew_config config = {.loop = &loop,
                                  .clock = &fake_clock,
                                  .entropy = &entropy.base,
                                  .address = on_address,
                                  .on_renewed = on_renewed};

    port_certificate(&port, RPC_ROLE_WORKER, PORT_NODE, lifetime_ms, &certificate, &key);
    assert_int_equal(tls_new(certificate, key, port.root_pem, &tls, NULL), 0);
    config.certificate_pem = certificate;
    config.tls = tls;
    assert_int_equal(renew_open(&config, &renew, NULL), 0);
}

/* Due now by our clock, and valid for long enough by the port's, with delays of half a second. */
static void open_due(void)
{
    wall_shift_ms = 17000;
    open_with(20000);
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void close_renew(void)
{
    closed = false;
    renew_close(renew, on_closed, NULL);
    port_until(&port, closed);
    renew = NULL;
}

static int setup(void **state)
{
    wall_shift_ms = 0;
    renewed = asked_for_address = 0;
    refuse_use.code = 0;
    memset(&facts, 0, sizeof(facts));
    entropy_seeded_init(&entropy, 5);
    assert_int_equal(uv_loop_init(&loop), 0);
    port_open(&port, &loop);
    address = port.address;
    return 0;
}

static int teardown(void **state)
{
    if (renew)
        close_renew();
    port_close(&port);
    tls_unref(tls);
    tls = NULL;
    free(certificate);
    free(key);
    certificate = key = NULL;
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void short_lived_certificate_is_renewed_before_it_ends_again_and_again(void **state)
{
    int64_t began_ms = clock_wall_ms(clock_real());

    port.lifetime_ms = 4000;
    open_with(4000);
    port_until(&port, renewed == 1);
    assert_true(clock_wall_ms(clock_real()) - began_ms >= 1000);
    assert_int_equal(facts.identity.role, RPC_ROLE_WORKER);
    assert_string_equal(facts.identity.node_id, PORT_NODE);
    assert_false(renew_expired(renew));
    port_until(&port, renewed == 2); /* with the new certificate, and by its dates */
    assert_int_equal(port.issues, 2);
    assert_string_equal(port.issued_to.node_id, PORT_NODE);
}

static void nothing_is_asked_for_before_it_is_due(void **state)
{
    open_with(90 * DAY_MS);
    port_rest(&port, 100);
    wall_shift_ms = 44 * DAY_MS;
    renew_look(renew);
    port_rest(&port, 100);
    assert_int_equal(port.connections, 0);
    wall_shift_ms = 73 * DAY_MS; /* more than four fifths */
    renew_look(renew);
    port_until(&port, renewed == 1);
    assert_int_equal(port.issues, 1);
    port_rest(&port, 100); /* our clock is 73 days ahead: still only once */
    assert_int_equal(port.issues, 1);
}

static void refusal_is_tried_again(void **state)
{
    err_set(&port.refuse, ERR_UNAVAILABLE, "this manager is not the leader");
    open_due();
    port_until(&port, port.issues >= 3);
    assert_int_equal(renewed, 0);
    port.refuse.code = 0;
    port_until(&port, renewed == 1);
}

static void manager_that_is_away_is_tried_again(void **state)
{
    port_stop(&port);
    open_due();
    port_until(&port, asked_for_address >= 3);
    address = NULL; /* none is known */
    port_until(&port, asked_for_address >= 5);
    address = port.address;
    port_start(&port);
    port_until(&port, renewed == 1);
}

static void spoil_nothing(IssueReply *reply, struct port *p)
{
    reply->certificate_pem.len = 0;
}

static void spoil_text(IssueReply *reply, struct port *p)
{
    reply->certificate_pem.data[reply->certificate_pem.len / 2] ^= 1;
}

static void spoil_root(IssueReply *reply, struct port *p)
{
    static const char text[] = "no certificate";

    reply->root_pem = (ProtobufCBinaryData){sizeof(text), (uint8_t *)text};
}

static char *foreign_cert, *foreign_key;

static void spoil_swap(IssueReply *reply, struct port *p)
{
    reply->certificate_pem = (ProtobufCBinaryData){strlen(foreign_cert), (uint8_t *)foreign_cert};
}

static void answers_that_are_not_for_us_are_not_used(void **state)
{
    static void (*const spoilers[])(IssueReply *, struct port *) = {spoil_nothing, spoil_text, spoil_root,
                                                                    spoil_swap};

    port_certificate(&port, RPC_ROLE_WORKER, FOREIGN, DAY_MS, &foreign_cert, &foreign_key);
    open_due();
    for (size_t i = 0; i < ARRAY_SIZE(spoilers); i++) {
        unsigned before = port.issues;

        port.spoil = spoilers[i];
        port_until(&port, port.issues > before);
        port_rest(&port, 50);
        assert_int_equal(renewed, 0);
    }
    port.spoil = NULL;
    port_until(&port, renewed == 1);
    free(foreign_cert);
    free(foreign_key);
}

static void certificate_that_has_ended_already_is_not_used(void **state)
{
    port.lifetime_ms = DAY_MS;
    open_with(90 * DAY_MS);
    wall_shift_ms = 80 * DAY_MS; /* by our clock what is issued now ended 79 days ago */
    port_until(&port, port.issues >= 2);
    assert_int_equal(renewed, 0);
    wall_shift_ms = 0;
    renew_look(renew);
    port_rest(&port, 50);
    assert_int_equal(renewed, 0); /* nor is the old one due, by the clock that was put right */
}

static void user_that_cannot_use_it_is_asked_again(void **state)
{
    err_set(&refuse_use, ERR_IO, "no room");
    open_due();
    port_until(&port, port.issues >= 2);
    assert_int_equal(renewed, 0);
    refuse_use.code = 0;
    port_until(&port, renewed == 1);
}

static void worker_whose_certificate_ended_is_not_let_in_and_says_so(void **state)
{
    open_with(300);
    port_stop(&port);
    port_until(&port, renew_expired(renew));
    port_start(&port);
    unsigned before = asked_for_address;
    port_until(&port, asked_for_address >= before + 2);
    assert_int_equal(port.issues, 0);
    assert_int_equal(renewed, 0);
    assert_true(renew_expired(renew));
}

static void closing_in_the_middle_of_an_attempt_is_quiet(void **state)
{
    open_due();
    err_set(&port.refuse, ERR_UNAVAILABLE, "later");
    port_until(&port, asked_for_address >= 1);
    close_renew(); /* while it dials */
    port_rest(&port, 50);
    assert_int_equal(renewed, 0);
}

static void closing_at_once_is_quiet(void **state)
{
    open_with(1000);
    close_renew();
    assert_int_equal(asked_for_address, 0);
}

static void text_that_is_no_certificate_is_refused_at_opening(void **state)
{
    struct renew_config config = {
        .loop = &loop, .clock = &fake_clock, .entropy = &entropy.base, .certificate_pem = "none"};
    struct renew *none = NULL;
    struct err e;

    assert_true(renew_open(&config, &none, &e) < 0);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(short_lived_certificate_is_renewed_before_it_ends_again_and_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_is_asked_for_before_it_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(refusal_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(manager_that_is_away_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_that_are_not_for_us_are_not_used, setup, teardown),
        cmocka_unit_test_setup_teardown(certificate_that_has_ended_already_is_not_used, setup, teardown),
        cmocka_unit_test_setup_teardown(user_that_cannot_use_it_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(worker_whose_certificate_ended_is_not_let_in_and_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_in_the_middle_of_an_attempt_is_quiet, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_at_once_is_quiet, setup, teardown),
        cmocka_unit_test_setup_teardown(text_that_is_no_certificate_is_refused_at_opening, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
