/* Asking for a place among the managers: against ports that answer, redirect, refuse, or are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/member.h"
#include "proto/base/mem.h"
#include "tests/support/port.h"

#define OWN    "127.0.0.1:4242"
#define DAY_MS (24LL * 3600 * 1000)

static uv_loop_t loop;
static struct port port;
static struct member *member;
static struct entropy_seeded entropy;
static struct tls *tls;
static const char *addresses[2];
static unsigned asked, refused, dones;
static struct err error;
static uint64_t got_id, got_epoch;
static bool closed;

static struct tls *on_tls(void *ctx)
{
    return tls;
}

static const char *on_address(void *ctx, unsigned attempt)
{
    asked++;
    return addresses[attempt % 2];
}

static void on_refused(void *ctx, const struct err *e)
{
    refused++;
}

static void on_done(void *ctx, const struct err *e, const MemberReply *reply)
{
    dones++;
    error = *e;
    assert_true((e->code == 0) == (reply != NULL));
    if (reply) {
        got_id = reply->raft_id;
        got_epoch = reply->epoch;
    }
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void begin(uint64_t raft_id, bool leave, int patience_ms)
{
    struct member_config config = {.loop = &loop,
                                   .entropy = &entropy.base,
                                   .cluster_id = PORT_CLUSTER,
                                   .own = OWN,
                                   .raft_id = raft_id,
                                   .leave = leave,
                                   .patience_ms = patience_ms,
                                   .tls = on_tls,
                                   .address = on_address,
                                   .on_refused = on_refused,
                                   .done = on_done};

    member = member_open(&config);
}

static void end(void)
{
    closed = false;
    member_close(steal(&member), on_closed, NULL);
    port_until(&port, closed);
}

static int setup(void **state)
{
    asked = refused = dones = 0;
    got_id = got_epoch = 0;
    entropy_seeded_init(&entropy, 3);
    assert_int_equal(uv_loop_init(&loop), 0);
    port_open(&port, &loop);
    tls = port_tls(&port, RPC_ROLE_MANAGER, PORT_NODE, DAY_MS);
    addresses[0] = addresses[1] = port.address;
    return 0;
}

static int teardown(void **state)
{
    if (member)
        end();
    port_close(&port);
    tls_unref(tls);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void place_is_given_with_number_and_epoch(void **state)
{
    port.raft_id = 9;
    port.member_epoch = 4;
    begin(0, false, 0);
    port_until(&port, dones);
    assert_int_equal(error.code, 0);
    assert_int_equal(got_id, 9);
    assert_int_equal(got_epoch, 4);
    assert_string_equal(port.member_address, OWN);
    assert_int_equal(port.member_raft_id, 0);
    assert_false(port.member_leaves);
}

static void present_number_is_told(void **state)
{
    begin(6, false, 0);
    port_until(&port, dones);
    assert_int_equal(port.member_raft_id, 6);
    assert_int_equal(got_id, 6);
}

static void other_managers_are_asked_when_one_is_not_there(void **state)
{
    addresses[0] = "127.0.0.1:1";
    begin(0, false, 0);
    port_until(&port, dones);
    assert_int_equal(error.code, 0);
    assert_int_equal(asked, 2);
}

static void nobody_to_ask_is_waited_for(void **state)
{
    addresses[0] = addresses[1] = NULL;
    begin(0, false, 0);
    port_until(&port, asked >= 2);
    addresses[0] = addresses[1] = port.address;
    port_until(&port, dones);
    assert_int_equal(error.code, 0);
}

static void redirects_in_a_circle_are_no_busy_loop(void **state)
{
    port.member_redirect = port.address;
    begin(0, false, 0);
    port_until(&port, asked == 2);
    assert_in_range(port.members, 4, 8); /* a few in a row for each address that we chose */
    assert_int_equal(dones, 0);
    port.member_redirect = NULL;
    port_until(&port, dones);
    assert_int_equal(error.code, 0);
}

static void refusal_is_told_and_asked_again(void **state)
{
    err_set(&port.refuse_member, ERR_DENIED, "node is not to be a manager");
    begin(0, false, 0);
    port_until(&port, refused == 2);
    assert_int_equal(dones, 0);
    err_set(&port.refuse_member, ERR_UNAVAILABLE, "no leader");
    unsigned before = port.members;
    port_until(&port, port.members == before + 1);
    port.refuse_member.code = 0;
    port_until(&port, dones);
    assert_int_equal(refused, 2); /* a cluster without a leader refuses nothing */
    assert_int_equal(error.code, 0);
}

static void patience_ends(void **state)
{
    err_set(&port.refuse_member, ERR_UNAVAILABLE, "no leader");
    begin(3, true, 300);
    port_until(&port, dones);
    assert_int_equal(error.code, ERR_UNAVAILABLE);
    assert_string_equal(error.text, "no leader");
    assert_true(port.member_leaves);
    assert_int_equal(port.member_raft_id, 3);
}

static void asking_can_be_given_up_at_any_time(void **state)
{
    for (unsigned turns = 0; turns < 30; turns++) {
        addresses[0] = turns % 2 ? port.address : "127.0.0.1:1";
        begin(0, false, 0);
        for (unsigned i = 0; i < turns && !dones; i++)
            uv_run(&loop, UV_RUN_NOWAIT);
        unsigned before = dones;
        end();
        assert_int_equal(dones, before);
        dones = 0;
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(place_is_given_with_number_and_epoch),
        TEST(present_number_is_told),
        TEST(other_managers_are_asked_when_one_is_not_there),
        TEST(nobody_to_ask_is_waited_for),
        TEST(redirects_in_a_circle_are_no_busy_loop),
        TEST(refusal_is_told_and_asked_again),
        TEST(patience_ends),
        TEST(asking_can_be_given_up_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
