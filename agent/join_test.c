/* Joining, as far as the certificate: against ports that are honest, lie, redirect, refuse, or are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/join.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "proto/wire/tcp.h"
#include "tests/support/port.h"

#define HOUR_MS (3600 * 1000LL)
#define FOREIGN "0000000000000000000000oth"

static uv_loop_t loop;
static struct port port, other;
static bool has_other;
static struct join *join;
static struct entropy_seeded entropy;
static int64_t wall_shift_ms;
static char *token;
static unsigned dones;
static struct err error;
static bool closed;
static struct {
    NodeRole role;
    char node_id[32], cluster_id[32], local[64], manager[64];
    size_t manager_count;
} got;

static int64_t fake_mono_us(struct clock *c)
{
    return clock_mono_us(clock_real());
}

static int64_t fake_wall_ms(struct clock *c)
{
    return clock_wall_ms(clock_real()) + wall_shift_ms;
}

static struct clock fake_clock = {fake_mono_us, fake_wall_ms};

static void on_done(void *ctx, const struct err *e, const struct join_result *result)
{
    dones++;
    error = *e;
    assert_true((e->code == 0) == (result != NULL));
    if (!result)
        return;
    assert_int_equal(cert_check(result->certificate_pem, result->key_pem, result->root_pem, NULL), 0);
    got.role = result->role;
    (void)snprintf(got.node_id, sizeof(got.node_id), "%s", result->node_id);          /* an id */
    (void)snprintf(got.cluster_id, sizeof(got.cluster_id), "%s", result->cluster_id); /* likewise */
    (void)snprintf(got.local, sizeof(got.local), "%s", result->local);                /* fits */
    (void)snprintf(got.manager, sizeof(got.manager), "%s", result->managers[0]);      /* fits */
    got.manager_count = result->manager_count;
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void begin(char *const *remotes, size_t count, const char *with)
{
    struct join_config config = {.loop = &loop,
                                 .clock = &fake_clock,
                                 .entropy = &entropy.base,
                                 .remotes = remotes,
                                 .remote_count = count,
                                 .token = with,
                                 .availability = NODE_AVAILABILITY__DRAIN,
                                 .done = on_done};

    dones = 0;
    memset(&got, 0, sizeof(got));
    if (join_open(&config, &join, &error) < 0)
        fail_msg("%s", error.text);
}

static void end(void)
{
    closed = false;
    join_close(steal(&join), on_closed, NULL);
    port_until(&port, closed);
}

/* The outcome of joining through these. */
static int join_through(char *const *remotes, size_t count)
{
    begin(remotes, count, token);
    port_until(&port, dones);
    end();
    assert_int_equal(dones, 1);
    return error.code;
}

static int join_port(void)
{
    char *const remotes[] = {port.address};

    return join_through(remotes, 1);
}

static void assert_error_has(const char *text)
{
    if (!strstr(error.text, text))
        fail_msg("\"%s\" is not in: %s", text, error.text);
    assert_null(strchr(error.text, '\n'));
    assert_null(strstr(error.text, token + 60)); /* the secret is never shown */
}

static int setup(void **state)
{
    wall_shift_ms = 0;
    entropy_seeded_init(&entropy, 11);
    assert_int_equal(uv_loop_init(&loop), 0);
    port_open(&port, &loop);
    port.role = NODE_ROLE__WORKER;
    token = port_token(&port);
    return 0;
}

static int teardown(void **state)
{
    if (join)
        end();
    port_close(&port);
    if (has_other)
        port_close(&other);
    has_other = false;
    free(token);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

/* An address at which nobody listens. */
static char *nobody(void)
{
    static char address[64];
    struct sockaddr_storage at;
    socklen_t size = sizeof(at);
    char text[TCP_TEXT];
    int fd;

    assert_int_equal(tcp_bind("127.0.0.1:0", &fd, NULL), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    close(fd);
    tcp_format(&at, text);
    (void)snprintf(address, sizeof(address), "%s", text); /* fits */
    return address;
}

/* --- what goes well -------------------------------------------------------------------------------- */

static void token_and_address_are_enough_for_a_certificate(void **state)
{
    assert_int_equal(join_port(), 0);
    assert_int_equal(got.role, NODE_ROLE__WORKER);
    assert_string_equal(got.node_id, PORT_NODE);
    assert_string_equal(got.cluster_id, PORT_CLUSTER);
    assert_string_equal(got.local, "127.0.0.1");
    assert_string_equal(got.manager, port.address);
    assert_string_equal(port.token, token);
    assert_int_equal(port.roots, 1);
    assert_int_equal(port.issues, 1);
    assert_int_equal(port.issued_to.role, RPC_ROLE_NONE);
}

static void role_is_what_the_manager_signed(void **state)
{
    port.role = NODE_ROLE__MANAGER;
    assert_int_equal(join_port(), 0);
    assert_int_equal(got.role, NODE_ROLE__MANAGER);
}

static void name_is_looked_up(void **state)
{
    AUTO_FREE
    char *name = mem_printf("localhost:%s", strrchr(port.address, ':') + 1);
    char *const remotes[] = {name};

    assert_int_equal(join_through(remotes, 1), 0);
}

static void address_at_which_nobody_answers_is_followed_by_the_next(void **state)
{
    char *const remotes[] = {nobody(), (char *)"nowhere..invalid:2377", port.address};

    assert_int_equal(join_through(remotes, 3), 0);
    assert_string_equal(got.manager, port.address);
}

static void redirect_to_the_leader_is_followed(void **state)
{
    char first[64];

    (void)snprintf(first, sizeof(first), "%s", port.address); /* same size */
    other = port;                                             /* the same authority, elsewhere */
    other.server = NULL;
    other.root_pem = mem_strdup(port.root_pem);
    other.root_key_pem = mem_strdup(port.root_key_pem);
    other.tls = tls_ref(port.tls);
    other.address[0] = '\0';
    port_start(&other);
    has_other = true;
    port.issue_redirect = other.address;
    assert_int_equal(join_port(), 0);
    assert_string_equal(got.manager, other.address);
    assert_int_equal(other.issues, 1);
    assert_int_equal(other.roots, 0); /* the root is known */
}

static void cluster_without_a_leader_is_asked_again(void **state)
{
    char *const remotes[] = {port.address};

    err_set(&port.refuse, ERR_UNAVAILABLE, "the cluster elects a leader");
    begin(remotes, 1, token);
    port_until(&port, port.issues == 2);
    assert_int_equal(dones, 0);
    port.refuse.code = 0;
    port_until(&port, dones);
    assert_int_equal(error.code, 0);
}

/* --- what does not --------------------------------------------------------------------------------- */

static void addresses_at_which_nobody_answers_are_all_named(void **state)
{
    AUTO_FREE
    char *first = mem_strdup(nobody());
    char *const both[] = {first, (char *)"nowhere..invalid"}, *const one[] = {first};

    assert_int_equal(join_through(one, 1), ERR_UNAVAILABLE);
    assert_error_has(first);
    assert_error_has("cannot reach the manager");
    assert_true(join_through(both, 2) < 0);
    assert_error_has("no manager could be reached");
    assert_error_has(first);
    assert_error_has("nowhere..invalid");
}

static void malformed_addresses_are_named(void **state)
{
    static const char *const wrong[] = {"10.0.0.1:99999", "10.0.0.1:x", "[fd00::1:2377", ":2377", ""};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(join_through((char *const *)&wrong[i], 1), ERR_INVALID);
        assert_error_has("RemoteAddrs");
        assert_error_has(wrong[i]);
    }
}

static void secret_is_not_told_to_a_manager_with_another_root(void **state)
{
    char *const remotes[] = {other.address};

    port_open(&other, &loop); /* another authority */
    has_other = true;
    assert_int_equal(join_through(remotes, 1), ERR_INVALID);
    assert_error_has("remote CA does not match fingerprint");
    assert_error_has(other.address);
    assert_int_equal(other.issues, 0);

    /* Nor to one that only shows the right root. */
    other.root_instead = port.root_pem;
    assert_true(join_through(remotes, 1) < 0);
    assert_error_has("certificate");
    assert_int_equal(other.issues, 0);
    assert_string_equal(other.token, "");

    /* Nor to one that shows both. */
    AUTO_FREE
    char *both = mem_printf("%s%s", port.root_pem, other.root_pem);
    other.root_instead = both;
    assert_true(join_through(remotes, 1) < 0);
    assert_int_equal(other.issues, 0);
}

static void malformed_root_is_refused(void **state)
{
    port.root_instead = "no certificate";
    assert_true(join_port() < 0);
    assert_error_has("root certificate");
    assert_int_equal(port.issues, 0);
}

static void secret_is_not_told_to_a_worker(void **state)
{
    tls_unref(port.tls);
    port.tls = port_tls(&port, RPC_ROLE_WORKER, FOREIGN, 24 * HOUR_MS);
    rpc_server_set_tls(port.server, port.tls);
    assert_true(join_port() < 0);
    assert_error_has("role");
    assert_int_equal(port.issues, 0);
}

static void what_a_manager_refuses_is_not_asked_of_others(void **state)
{
    char *const remotes[] = {port.address, nobody()};

    err_set(&port.refuse, ERR_INVALID, "A valid join token is necessary to join this cluster");
    assert_int_equal(join_through(remotes, 2), ERR_INVALID);
    assert_error_has("A valid join token is necessary");
    assert_int_equal(port.issues, 1);
}

static void redirects_in_a_circle_end(void **state)
{
    char *const remotes[] = {port.address};

    port.issue_redirect = port.address;
    begin(remotes, 1, token);
    port_until(&port, port.issues > 10); /* rounds, with pauses between them */
    assert_int_equal(dones, 0);
    port.issue_redirect = NULL;
    port_until(&port, dones);
    assert_int_equal(error.code, 0);
}

static void spoil_role(IssueReply *reply, struct port *p)
{
    reply->has_role = true;
    reply->role = NODE_ROLE__MANAGER;
}

static void spoil_certificate(IssueReply *reply, struct port *p)
{
    reply->certificate_pem = reply->root_pem;
}

static void spoil_everything(IssueReply *reply, struct port *p)
{
    reply->has_certificate_pem = false;
}

static void answers_that_do_not_fit_are_refused(void **state)
{
    static void (*const ways[])(IssueReply *, struct port *) = {spoil_role, spoil_certificate, spoil_everything};

    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        port.spoil = ways[i];
        assert_true(join_port() < 0);
        assert_error_has(port.address);
    }
}

static void clocks_that_differ_are_told_so_and_by_how_much(void **state)
{
    static const struct {
        int64_t hours;
        const char *text;
    } cases[] = {{-5, "differ by at least 5 h "},
                 {-24 * 400, "differ by at least 400 days"},
                 {24 * 400, "ended 309 days ago"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        wall_shift_ms = cases[i].hours * HOUR_MS - HOUR_MS / 6;
        assert_int_equal(join_port(), ERR_PRECONDITION);
        assert_error_has("clock");
        assert_error_has(cases[i].text);
    }
    wall_shift_ms = -HOUR_MS / 2;
    assert_int_equal(join_port(), 0); /* as certificates bear */
}

static void joining_can_be_given_up_at_any_time(void **state)
{
    for (unsigned turns = 0; turns < 40; turns++) {
        char *const remotes[] = {(char *)(turns % 2 ? "localhost:9" : port.address), port.address};

        begin(remotes, 2, token);
        for (unsigned i = 0; i < turns && !dones; i++)
            uv_run(&loop, UV_RUN_NOWAIT);
        unsigned before = dones;
        end();
        assert_int_equal(dones, before); /* nothing comes afterwards */
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(token_and_address_are_enough_for_a_certificate),
        TEST(role_is_what_the_manager_signed),
        TEST(name_is_looked_up),
        TEST(address_at_which_nobody_answers_is_followed_by_the_next),
        TEST(redirect_to_the_leader_is_followed),
        TEST(cluster_without_a_leader_is_asked_again),
        TEST(addresses_at_which_nobody_answers_are_all_named),
        TEST(malformed_addresses_are_named),
        TEST(secret_is_not_told_to_a_manager_with_another_root),
        TEST(malformed_root_is_refused),
        TEST(secret_is_not_told_to_a_worker),
        TEST(what_a_manager_refuses_is_not_asked_of_others),
        TEST(redirects_in_a_circle_end),
        TEST(answers_that_do_not_fit_are_refused),
        TEST(clocks_that_differ_are_told_so_and_by_how_much),
        TEST(joining_can_be_given_up_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
