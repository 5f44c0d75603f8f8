/* Sessions over real connections to a port that the test holds: registering, being refused, redirected, ignored and
 * cut off, and always coming back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/session.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/support/port.h"

#define DAY_MS (24LL * 3600 * 1000)

static uv_loop_t loop;
static struct port port, other;
static struct session *session;
static struct entropy_seeded entropy;
static unsigned ready, lost, messages, writable, described;
static uint64_t last_ack;
static struct err why_lost;
static bool closed;

static void on_ready(void *ctx)
{
    ready++;
}

static void on_message(void *ctx, const ManagerMessage *message)
{
    messages++;
    last_ack = message->report_ack;
}

static void on_writable(void *ctx)
{
    writable++;
}

static void on_lost(void *ctx, const struct err *e)
{
    assert_false(session_ready(session));
    why_lost = *e;
    lost++;
}

static NodeDescription *describe(void *ctx, struct arena *a)
{
    NodeDescription *d = ARENA_NEW(a, NodeDescription);

    described++;
    node_description__init(d);
    d->hostname = (char *)"fake-host";
    return d;
}

static void open_to(struct tls *tls, const char *const *managers, size_t count)
{
    struct session_config config = {.loop = &loop,
                                    .tls = tls,
                                    .cluster_id = PORT_CLUSTER,
                                    .entropy = &entropy.base,
                                    .cluster_epoch = 7,
                                    .feature_level = 3};
    struct session_events events = {.on_ready = on_ready,
                                    .on_message = on_message,
                                    .on_writable = on_writable,
                                    .on_lost = on_lost,
                                    .describe = describe};
    struct err e;

    assert_int_equal(session_open(&config, managers, count, &events, &session, &e), 0);
    tls_unref(tls);
}

/* A worker's session with the port. */
static void open_session(void)
{
    const char *managers[] = {port.address};

    open_to(port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS), managers, 1);
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void close_session(void)
{
    closed = false;
    session_close(session, on_closed, NULL);
    port_until(&port, closed);
    session = NULL;
}

static int setup(void **state)
{
    ready = lost = messages = writable = described = 0;
    last_ack = 0;
    entropy_seeded_init(&entropy, 3);
    assert_int_equal(uv_loop_init(&loop), 0);
    port_open(&port, &loop);
    return 0;
}

static int teardown(void **state)
{
    if (session)
        close_session();
    port_close(&port);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void registers_with_what_the_machine_is(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    open_session();
    assert_false(session_ready(session));
    assert_null(session_manager(session));
    port_until(&port, ready);
    assert_true(session_ready(session));
    assert_string_equal(session_manager(session), port.address);
    const AgentMessage *message =
        arena_unpack(&a, &agent_message__descriptor, buf_bytes(&port.opened), port.opened.length);
    assert_string_equal(message->open->description->hostname, "fake-host");
    assert_int_equal(message->open->cluster_epoch, 7);
    assert_int_equal(message->open->feature_level, 3);
    assert_int_equal(described, 1);
}

static void messages_arrive_after_ready_alone(void **state)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    open_session();
    port_until(&port, ready);
    message.has_report_ack = true;
    message.report_ack = 12;
    port_send(&port, &message);
    port_until(&port, messages == 1);
    assert_int_equal(last_ack, 12);
}

static void message_before_ready_is_a_broken_managers(void **state)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    port.mute = true;
    open_session();
    port_until(&port, port.session);
    message.has_report_ack = true;
    message.report_ack = 1;
    port_send(&port, &message);
    port_until(&port, !port.session);
    assert_int_equal(messages + ready + lost, 0);
    port.mute = false;
    port_until(&port, ready); /* and it comes back */
}

static void bytes_that_are_no_message_end_the_connection(void **state)
{
    open_session();
    port_until(&port, ready);
    port_send_bytes(&port, "\xff\xff\xff\xff", 4);
    port_until(&port, lost == 1);
    port_until(&port, ready == 2);
    assert_int_equal(messages, 0);
}

static void heartbeats_come_by_the_period_that_was_told(void **state)
{
    port.heartbeat_ms = 20;
    open_session();
    port_until(&port, port.heartbeats >= 5);
    assert_int_equal(lost, 0);
}

static void nonsensical_heartbeat_period_is_bounded(void **state)
{
    port.heartbeat_ms = -5;
    open_session();
    port_until(&port, port.heartbeats >= 3); /* 10 ms at least: not in a circle */
    port_rest(&port, 100);
    assert_true(port.heartbeats < 200);
}

static void without_a_session_nothing_is_sent(void **state)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    struct err e;

    message.has_heartbeat = message.heartbeat = true;
    port.mute = true;
    open_session();
    assert_int_equal(session_send(session, &message, &e), ERR_UNAVAILABLE);
    port_until(&port, port.session);
    port.mute = false;
    port_ready(&port);
    port_until(&port, ready);
    assert_int_equal(session_send(session, &message, &e), 0);
    port_until(&port, port.heartbeats == 1);
}

static void lost_session_is_told_once_and_comes_back(void **state)
{
    open_session();
    port_until(&port, ready);
    port_stop(&port);
    port_until(&port, lost == 1);
    port_rest(&port, 50);
    assert_int_equal(lost, 1);
    assert_null(session_manager(session));
    port_start(&port);
    port_until(&port, ready == 2);
    assert_int_equal(described, 2); /* the machine may have changed */
}

static void manager_that_is_not_there_yet_is_tried_until_it_is(void **state)
{
    port_stop(&port);
    open_session();
    port_rest(&port, 150);
    assert_int_equal(ready + lost, 0);
    port_start(&port);
    port_until(&port, ready == 1);
}

static void refused_registration_is_tried_again_with_a_pause(void **state)
{
    err_set(&port.refuse_session, ERR_UNAVAILABLE, "this manager is not the leader");
    open_session();
    port_until(&port, port.sessions >= 3);
    assert_int_equal(ready + lost, 0);
    assert_true(port.sessions < 30); /* not in a circle */
    port.refuse_session.code = 0;
    port_until(&port, ready == 1);
}

static void node_that_no_manager_knows_can_tell(void **state)
{
    err_set(&port.refuse_session, ERR_DENIED, "node " PORT_NODE " is not part of this cluster");
    open_session();
    port_until(&port, session_denied(session));
    assert_true(port.sessions >= 3); /* one may have come too early */
    port.refuse_session.code = 0;
    port_until(&port, ready == 1);
    session_restart(session, "to see that it is forgotten");
    port_until(&port, ready == 2);
    assert_false(session_denied(session));
}

static void redirect_leads_to_the_leader_at_once(void **state)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    struct tls *own;

    port.mute = true;
    open_session();
    port_until(&port, port.session);
    /* The leader is of the same cluster: it has the same root. */
    other = (struct port){.loop = &loop, .lifetime_ms = DAY_MS};
    other.root_pem = mem_strdup(port.root_pem);
    other.root_key_pem = mem_strdup(port.root_key_pem);
    own = port_tls(&port, RPC_ROLE_MANAGER, "0000000000000000000000ldr", DAY_MS);
    other.tls = own;
    port_start(&other);
    message.redirect = other.address;
    port_send(&port, &message);
    port_until(&port, ready == 1);
    assert_string_equal(session_manager(session), other.address);
    assert_int_equal(port.sessions, 1);
    /* It is followed once: when the leader goes, the known managers are tried. */
    port.mute = false;
    port_stop(&other);
    port_until(&port, ready == 2);
    assert_string_equal(session_manager(session), port.address);
    port_close(&other);
}

static void redirect_to_nonsense_is_survived(void **state)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    port.mute = true;
    open_session();
    port_until(&port, port.session);
    message.redirect = (char *)"not an address";
    port_send(&port, &message);
    port_until(&port, !port.session);
    port.mute = false;
    port_until(&port, ready == 1);
}

/* Two managers that each hold the other for the leader, or one that holds itself for it. */
static void redirects_in_a_circle_are_slowed_down(void **state)
{
    port.redirect = port.address;
    open_session();
    port_until(&port, port.sessions >= 4);
    port_rest(&port, 100);
    assert_true(port.sessions < 12);
    assert_int_equal(ready + lost, 0);
    port.redirect = NULL;
    port_until(&port, ready == 1);
}

static void manager_that_asks_for_patience_gets_it(void **state)
{
    uint64_t begun_ms;

    port.retry_ms = 400;
    open_session();
    port_until(&port, port.sessions == 1);
    port.retry_ms = 0;
    begun_ms = uv_now(&loop);
    port_until(&port, ready == 1);
    assert_true(uv_now(&loop) - begun_ms >= 350);
    assert_int_equal(port.sessions, 2);
}

/* It was restored from an old disk, or left behind by --force-new-cluster. */
static void manager_of_an_older_epoch_is_not_followed(void **state)
{
    port.epoch = 6; /* the session has seen 7 */
    open_session();
    port_until(&port, port.sessions >= 2);
    assert_int_equal(ready + lost, 0);
    port.epoch = 9;
    port_until(&port, ready == 1);
    port.epoch = 8;
    session_restart(session, "to see that it remembers");
    unsigned before = port.sessions;
    port_until(&port, port.sessions >= before + 2);
    assert_int_equal(ready, 1);
    port.epoch = 9;
    port_until(&port, ready == 2);
}

static void managers_are_tried_in_turn(void **state)
{
    const char *managers[] = {"127.0.0.1:1", "no address", port.address};

    open_to(port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS), managers, 3);
    port_until(&port, ready == 1);
    assert_string_equal(session_manager(session), port.address);
}

static void new_list_of_managers_is_used_for_the_next_attempt(void **state)
{
    const char *managers[] = {"127.0.0.1:1"};
    char *better[] = {port.address};

    open_to(port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS), managers, 1);
    port_rest(&port, 50);
    session_set_managers(session, better, 1);
    port_until(&port, ready == 1);
}

static void without_any_manager_it_waits_for_one(void **state)
{
    char *better[] = {port.address};

    open_to(port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS), NULL, 0);
    port_rest(&port, 50);
    assert_int_equal(port.connections, 0);
    session_set_managers(session, better, 1);
    port_until(&port, ready == 1);
}

static void list_of_managers_is_bounded(void **state)
{
    const char *managers[40];

    for (size_t i = 0; i < ARRAY_SIZE(managers); i++)
        managers[i] = port.address;
    open_to(port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS), managers, ARRAY_SIZE(managers));
    port_until(&port, ready == 1);
}

static void peer_that_is_no_manager_of_our_cluster_gets_nothing(void **state)
{
    const char *managers[] = {other.address};
    struct tls *tls = port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS);

    port_open(&other, &loop); /* another authority */
    open_to(tls_ref(tls), managers, 1);
    port_rest(&port, 300);
    assert_int_equal(other.sessions + ready, 0);
    close_session();
    port_close(&other);
    /* Our authority, but the certificate of a worker. */
    other = (struct port){.loop = &loop, .lifetime_ms = DAY_MS};
    other.root_pem = mem_strdup(port.root_pem);
    other.root_key_pem = mem_strdup(port.root_key_pem);
    other.tls = port_tls(&port, RPC_ROLE_WORKER, "0000000000000000000000ldr", DAY_MS);
    port_start(&other);
    open_to(tls, managers, 1);
    port_rest(&port, 300);
    assert_int_equal(other.sessions + ready, 0);
    port_close(&other);
}

static void expired_certificate_is_refused_until_there_is_a_new_one(void **state)
{
    const char *managers[] = {port.address};
    struct tls *fresh = port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS);

    open_to(port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, -1000), managers, 1);
    port_rest(&port, 300);
    assert_int_equal(port.sessions + ready, 0);
    session_set_tls(session, fresh);
    tls_unref(fresh);
    port_until(&port, ready == 1);
}

static void new_certificate_leaves_the_present_session_alone(void **state)
{
    struct tls *fresh = port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS);

    open_session();
    port_until(&port, ready == 1);
    session_set_tls(session, fresh);
    tls_unref(fresh);
    port_rest(&port, 50);
    assert_true(session_ready(session));
    assert_int_equal(port.connections, 1);
    session_restart(session, "to see that the new one works");
    port_until(&port, ready == 2);
    assert_int_equal(port.connections, 2);
}

static void restart_without_a_connection_does_nothing(void **state)
{
    port_stop(&port);
    open_session();
    session_restart(session, "too early");
    port_start(&port);
    port_until(&port, ready == 1);
    assert_int_equal(lost, 0);
}

/* A manager that does not read: messages are refused once the credit is used up, and told when there is more. */
static void full_outbox_is_told_when_it_has_room_again(void **state)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    NodeDescription description = NODE_DESCRIPTION__INIT;
    char *text = mem_alloc(100001);
    unsigned sent = 0;
    int rc = 0;

    memset(text, 'x', 100000);
    description.hostname = text;
    message.description = &description;
    open_session();
    port_until(&port, ready == 1);
    rpc_pause(port.session, true);
    for (int i = 0; i < 10; i++) { /* the first credit may still be on its way */
        do {
            rc = session_send(session, &message, NULL);
            sent += rc == 0;
        } while (rc == 0 && sent < 100);
        port_rest(&port, 20);
    }
    assert_int_equal(rc, ERR_AGAIN);
    assert_in_range(sent, 1, 4); /* 256 KiB, and the one that is over it */
    writable = 0;
    rpc_pause(port.session, false);
    port_until(&port, writable > 0);
    assert_int_equal(session_send(session, &message, NULL), 0);
    assert_int_equal(lost, 0);
    free(text);
}

static void closing_is_quiet_in_every_state(void **state)
{
    open_session(); /* waiting */
    close_session();
    open_session();
    port_until(&port, port.connections); /* dialing, or just registering */
    close_session();
    port.mute = true;
    open_session();
    port_until(&port, port.session); /* registering */
    close_session();
    port_until(&port, !port.session);
    port.mute = false;
    open_session();
    port_until(&port, ready); /* ready */
    close_session();
    port_until(&port, !port.session);
    assert_int_equal(lost, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers_with_what_the_machine_is),
        TEST(messages_arrive_after_ready_alone),
        TEST(message_before_ready_is_a_broken_managers),
        TEST(bytes_that_are_no_message_end_the_connection),
        TEST(heartbeats_come_by_the_period_that_was_told),
        TEST(nonsensical_heartbeat_period_is_bounded),
        TEST(without_a_session_nothing_is_sent),
        TEST(lost_session_is_told_once_and_comes_back),
        TEST(manager_that_is_not_there_yet_is_tried_until_it_is),
        TEST(refused_registration_is_tried_again_with_a_pause),
        TEST(node_that_no_manager_knows_can_tell),
        TEST(redirect_leads_to_the_leader_at_once),
        TEST(redirect_to_nonsense_is_survived),
        TEST(redirects_in_a_circle_are_slowed_down),
        TEST(manager_that_asks_for_patience_gets_it),
        TEST(manager_of_an_older_epoch_is_not_followed),
        TEST(managers_are_tried_in_turn),
        TEST(new_list_of_managers_is_used_for_the_next_attempt),
        TEST(without_any_manager_it_waits_for_one),
        TEST(list_of_managers_is_bounded),
        TEST(peer_that_is_no_manager_of_our_cluster_gets_nothing),
        TEST(expired_certificate_is_refused_until_there_is_a_new_one),
        TEST(new_certificate_leaves_the_present_session_alone),
        TEST(restart_without_a_connection_does_nothing),
        TEST(full_outbox_is_told_when_it_has_room_again),
        TEST(closing_is_quiet_in_every_state),
    };

    log_set_level(LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
