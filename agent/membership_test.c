/* A node among many: how it joins, becomes a manager and a worker again, leaves and goes on alone, whatever breaks
 * meanwhile. The cluster is a port that issues certificates and places, the node's own manager a fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/identity.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/wire/tcp.h"
#include "tests/support/fake_manager.h"
#include "tests/support/fake_node.h"
#include "tests/support/fake_session.h"
#include "tests/support/port.h"

static struct port port;
static char *token;
static char own[64]; /* where this node's manager port would be */

/* A port of loopback that nobody uses. */
static void find_own(void)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof(at);
    char text[TCP_TEXT];
    int fd;

    assert_int_equal(tcp_bind("127.0.0.1:0", &fd, NULL), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    close(fd);
    tcp_format(&at, text);
    (void)snprintf(own, sizeof(own), "%s", text); /* fits */
}

static int setup(void **state)
{
    assert_int_equal(fake_node_setup(state), 0);
    port_open(&port, &web.loop);
    port.role = NODE_ROLE__WORKER;
    token = port_token(&port);
    fake_session.address = port.address;
    find_own();
    return 0;
}

static int teardown(void **state)
{
    if (front)
        close_node();
    port_close(&port);
    free(token);
    return fake_node_teardown(state);
}

static void ask_to_join(void)
{
    AUTO_FREE
    char *body = mem_printf("{\"ListenAddr\":\"%s\",\"RemoteAddrs\":[\"%s\"],\"JoinToken\":\"%s\"}", own,
                            port.address, token);

    ask("POST", "/v1.45/swarm/join", body);
}

static Identity *stored(void)
{
    Identity *identity = NULL;

    return identity_read(dir, &identity, NULL) == 0 ? identity : NULL;
}

static bool stored_role_is(NodeRole role)
{
    Identity *identity = stored();
    bool is = identity && identity->role == role;

    message_free(identity);
    return is;
}

static uint64_t stored_raft_id(void)
{
    Identity *identity = stored();
    uint64_t id = identity && identity->has_raft_id ? identity->raft_id : UINT64_MAX;

    message_free(identity);
    return id;
}

static void join_as_worker(void)
{
    ask_to_join();
    web_until(&web, fake_session.open);
    fake_session_ready();
    assert_int_equal(answer(), 200);
    assert_string_equal(swarm_header(swarm), "active/worker");
}

static void join_as_manager(void)
{
    port.role = NODE_ROLE__MANAGER;
    ask_to_join();
    web_until(&web, fake_session.open);
    fake_session_ready();
    web_until(&web, fake_manager.open);
    fake_manager_ready();
    assert_int_equal(answer(), 200);
    assert_string_equal(swarm_header(swarm), "active/manager");
}

/* The leader tells this node's row. */
static void tell_row(NodeRole wish, bool is_member)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    uint8_t id[16] = {0};
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    NodeManager manager = NODE_MANAGER__INIT;

    spec.has_role = true;
    spec.role = wish;
    node.id = (ProtobufCBinaryData){sizeof(id), id};
    node.spec = &spec;
    node.manager = is_member ? &manager : NULL;
    message.node = &node;
    fake_session_deliver(&message);
}

static void wish_role(NodeRole role)
{
    port.changes_role = true;
    port.role = role;
}

static bool manager_dir_exists(void)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm/manager", dir);

    return access(path, F_OK) == 0;
}

static void make_manager_dir(void)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm/manager/raft", dir);

    assert_int_equal(dir_make(path, 0700, NULL), 0);
}

/* --- joining as a worker --------------------------------------------------------------------------- */

static void join_is_answered_when_the_node_is_of_use(void **state)
{
    ask_to_join();
    web_until(&web, fake_session.open);
    assert_string_equal(swarm_header(swarm), "active/worker");
    web_rest(&web, 20);
    assert_false(client_ended(&client));
    assert_string_equal(fake_session.managers[0], port.address);
    fake_session_ready();
    assert_int_equal(answer(), 200);
    assert_info_has("\"NodeID\":\"" PORT_NODE "\"");
    assert_info_has("\"NodeAddr\":\"127.0.0.1\"");
    assert_info_has("\"LocalNodeState\":\"active\",\"ControlAvailable\":false");
    assert_info_has(port.address);
    assert_int_equal(fake_manager.opens, 0);
}

static void own_address_is_that_of_the_connection_unless_told(void **state)
{
    AUTO_FREE
    char *found = mem_printf("{\"RemoteAddrs\":[\"%s\"],\"JoinToken\":\"%s\"}", port.address, token);
    AUTO_FREE
    char *told = mem_printf("{\"RemoteAddrs\":[\"%s\"],\"JoinToken\":\"%s\",\"AdvertiseAddr\":\"10.9.8.7\","
                            "\"ListenAddr\":\"0.0.0.0:4000\",\"DataPathAddr\":\"lo\",\"Availability\":\"drain\"}",
                            port.address, token);

    ask("POST", "/swarm/join", found);
    web_until(&web, fake_session.open);
    fake_session_ready();
    assert_int_equal(answer(), 200);
    Identity *identity = stored();
    assert_string_equal(identity->listen_address, "0.0.0.0:2377");
    assert_string_equal(identity->advertise_address, "127.0.0.1:2377");
    message_free(identity);
    assert_int_equal(call("POST", "/swarm/leave", ""), 200);
    ask("POST", "/swarm/join", told);
    web_until(&web, fake_session.open);
    fake_session_ready();
    assert_int_equal(answer(), 200);
    identity = stored();
    assert_string_equal(identity->listen_address, "0.0.0.0:4000");
    assert_string_equal(identity->advertise_address, "10.9.8.7:4000");
    assert_string_equal(identity->data_path_address, "127.0.0.1:2377");
    assert_int_equal(identity->availability, NODE_AVAILABILITY__DRAIN);
    message_free(identity);
}

static void joining_twice_is_refused_in_dockers_words(void **state)
{
    AUTO_FREE
    char *body = mem_printf("{\"RemoteAddrs\":[\"%s\"],\"JoinToken\":\"%s\"}", port.address, token);

    join_as_worker();
    assert_int_equal(call("POST", "/swarm/join", body), 503);
    assert_answer_has("This node is already part of a swarm. Use \\\"docker swarm leave\\\"");
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 503);
    assert_answer_has("already part of a swarm");
    assert_int_equal(port.issues, 1);
}

static void bad_joins_name_the_field_and_change_nothing(void **state)
{
    static const struct {
        const char *body, *text;
    } cases[] = {
        {"", ""},
        {"[]", "expected an object"},
        {"{}", "at least 1 RemoteAddr"},
        {"{\"RemoteAddrs\":[]}", "at least 1 RemoteAddr"},
        {"{\"RemoteAddrs\":\"x\"}", "RemoteAddrs"},
        {"{\"RemoteAddrs\":[\"a\"]}", "invalid join token"},
        {"{\"RemoteAddrs\":[\"a\"],\"JoinToken\":\"SWMTKN-1-x-y\"}", "invalid join token"},
        {"{\"RemoteAddrs\":[\"a\"],\"JoinToken\":\"%s\",\"ListenAddr\":\"nope0\"}", "ListenAddr"},
        {"{\"RemoteAddrs\":[\"a\"],\"JoinToken\":\"%s\",\"AdvertiseAddr\":\"0.0.0.0\"}", "AdvertiseAddr"},
        {"{\"RemoteAddrs\":[\"a\"],\"JoinToken\":\"%s\",\"DataPathAddr\":\"nope0\"}", "DataPathAddr"},
        {"{\"RemoteAddrs\":[\"a\"],\"JoinToken\":\"%s\",\"Availability\":\"busy\"}", "Availability"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *at = strstr(cases[i].body, "%s");
        AUTO_FREE
        char *body = at ? mem_printf("%.*s%s%s", (int)(at - cases[i].body), cases[i].body, token, at + 2)
                        : mem_strdup(cases[i].body);

        if (call("POST", "/swarm/join", body) != 400)
            fail_msg("%s: %s", body, buf_str(&client.got));
        assert_answer_has(cases[i].text);
        assert_string_equal(swarm_header(swarm), "inactive");
    }
    assert_int_equal(port.connections, 0);
}

static void join_that_fails_leaves_nothing_behind(void **state)
{
    err_set(&port.refuse, ERR_INVALID, "A valid join token is necessary to join this cluster");
    ask_to_join();
    assert_int_equal(answer(), 400);
    assert_answer_has("A valid join token is necessary");
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
    assert_info_has("\"LocalNodeState\":\"inactive\"");
    port.refuse.code = 0;
    join_as_worker();
}

static void join_goes_on_without_its_client(void **state)
{
    err_set(&port.refuse, ERR_UNAVAILABLE, "the cluster elects a leader");
    ask_to_join();
    web_until(&web, port.issues);
    assert_info_has("\"LocalNodeState\":\"pending\"");
    client_close(&client);
    web_rest(&web, 10);
    port.refuse.code = 0;
    web_until(&web, fake_session.open);
    assert_string_equal(swarm_header(swarm), "active/worker");
}

static void join_under_way_can_be_ended_by_leaving(void **state)
{
    struct client other = {.fd = -1};

    err_set(&port.refuse, ERR_UNAVAILABLE, "the cluster elects a leader");
    ask_to_join();
    web_until(&web, port.issues);
    client_open(&web, &other);
    client_send(&web, &other, "POST /swarm/leave HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    web_until(&web, client_ended(&other));
    assert_non_null(strstr(buf_str(&other.got), "HTTP/1.1 200"));
    assert_int_equal(answer(), 503);
    assert_answer_has("told to leave");
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
    client_close(&other);
}

static void stopping_while_joining_leaves_nothing_behind(void **state)
{
    err_set(&port.refuse, ERR_UNAVAILABLE, "the cluster elects a leader");
    ask_to_join();
    web_until(&web, port.issues);
    close_node();
    assert_false(swarm_dir_exists());
    open_node();
    assert_string_equal(swarm_header(swarm), "inactive");
}

static void worker_comes_back_and_knows_its_managers(void **state)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    char *managers[] = {(char *)"10.0.0.7:2377", port.address};

    join_as_worker();
    message.managers = managers;
    message.n_managers = 2;
    fake_session_deliver(&message);
    web_rest(&web, 50);
    close_node();
    open_node();
    assert_string_equal(swarm_header(swarm), "active/worker");
    web_until(&web, fake_session.open);
    assert_int_equal(fake_session.manager_count, 2);
    assert_string_equal(fake_session.managers[0], "10.0.0.7:2377");
    assert_int_equal(port.issues, 1);
}

/* --- joining as a manager -------------------------------------------------------------------------- */

static void manager_joins_with_a_place_in_the_group(void **state)
{
    port.role = NODE_ROLE__MANAGER;
    port.member_epoch = 3;
    ask_to_join();
    web_until(&web, fake_manager.open);
    assert_string_equal(port.member_address, own);
    assert_int_equal(port.member_raft_id, 0);
    assert_int_equal(fake_manager.raft_id, 7);
    assert_int_equal(fake_manager.epoch, 3);
    assert_false(fake_manager.had_bootstrap);
    assert_string_equal(fake_manager.advertise, own);
    assert_int_equal(stored_raft_id(), 7); /* before the manager began */
    web_rest(&web, 20);
    assert_false(client_ended(&client));
    assert_string_equal(swarm_header(swarm), "pending");
    fake_manager_ready();
    web_rest(&web, 20);
    assert_false(client_ended(&client)); /* its agent is not there yet */
    fake_session_ready();
    assert_int_equal(answer(), 200);
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_info_has("\"ControlAvailable\":true");
    web_until(&web, port.members >= 2); /* it says where it is */
    assert_int_equal(port.member_raft_id, 7);
}

static void manager_whose_port_is_taken_does_not_join(void **state)
{
    int fd;

    assert_int_equal(tcp_bind(own, &fd, NULL), 0);
    assert_int_equal(listen(fd, 1), 0);
    port.role = NODE_ROLE__MANAGER;
    ask_to_join();
    assert_true(answer() >= 400);
    assert_answer_has("the manager's port");
    assert_answer_has(own);
    assert_string_equal(swarm_header(swarm), "inactive");
    close(fd);
}

static void interrupted_join_of_a_manager_is_finished_at_the_next_start(void **state)
{
    port.role = NODE_ROLE__MANAGER;
    err_set(&port.refuse_member, ERR_UNAVAILABLE, "the cluster elects a leader");
    ask_to_join();
    web_until(&web, port.members);
    assert_int_equal(stored_raft_id(), 0);
    close_node();
    make_manager_dir(); /* of who knows what */
    port.refuse_member.code = 0;
    open_node();
    web_until(&web, fake_manager.open);
    assert_int_equal(fake_manager.raft_id, 7);
    assert_false(manager_dir_exists()); /* the fake makes none */
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_int_equal(port.issues, 1);
}

/* --- autolock -------------------------------------------------------------------------------------- */

#define LOCK_VERSION 40

static uint8_t lock_key[MANAGER_LOCK_KEY] = {1, 2, 3};
static size_t lock_key_size;

static void lock(IssueReply *reply, struct port *p)
{
    reply->has_lock_key = reply->has_lock_version = true;
    reply->lock_key = (ProtobufCBinaryData){lock_key_size, lock_key};
    reply->lock_version = LOCK_VERSION;
}

static bool stored_is_locked(void)
{
    Identity *identity = stored();
    bool is = identity->has_sealed && !*identity->key_pem && !identity->has_data_key;

    message_free(identity);
    return is;
}

static void joining_manager_is_locked_from_its_first_file_on(void **state)
{
    char text[MANAGER_LOCK_TEXT + 1];

    port.role = NODE_ROLE__MANAGER;
    port.spoil = lock;
    lock_key_size = MANAGER_LOCK_KEY;
    err_set(&port.refuse_member, ERR_UNAVAILABLE, "the cluster elects a leader");
    ask_to_join();
    web_until(&web, port.members);
    assert_true(stored_is_locked()); /* and no store has told it yet */
    close_node();
    port.refuse_member.code = 0;
    open_node();
    assert_string_equal(swarm_header(swarm), "locked");
    manager_lock_format(lock_key, text);
    AUTO_FREE
    char *body = mem_printf("{\"UnlockKey\":\"%s\"}", text);
    assert_int_equal(call("POST", "/swarm/unlock", body), 200);
    web_until(&web, fake_manager.open);
    assert_true(stored_is_locked());
    fake_manager_ready();
    fake_manager_lock_key(NULL, LOCK_VERSION - 1); /* its log is read from the beginning */
    web_rest(&web, 50);
    assert_true(stored_is_locked());
    fake_manager_lock_key(NULL, LOCK_VERSION + 1);
    web_until(&web, !stored_is_locked());
}

static void promoted_worker_is_locked_from_its_first_file_as_a_manager_on(void **state)
{
    join_as_worker();
    tell_row(NODE_ROLE__WORKER, false);
    port.spoil = lock;
    lock_key_size = MANAGER_LOCK_KEY;
    wish_role(NODE_ROLE__MANAGER);
    err_set(&port.refuse_member, ERR_UNAVAILABLE, "the cluster elects a leader");
    tell_row(NODE_ROLE__MANAGER, false);
    web_until(&web, port.members);
    assert_true(stored_role_is(NODE_ROLE__MANAGER));
    assert_true(stored_is_locked());
}

static void unlock_key_of_another_size_is_refused(void **state)
{
    port.role = NODE_ROLE__MANAGER;
    port.spoil = lock;
    lock_key_size = MANAGER_LOCK_KEY - 1;
    ask_to_join();
    assert_true(answer() >= 400);
    assert_answer_has("gave an unlock key of 31 bytes");
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
}

static void joined_manager_comes_back_with_its_log(void **state)
{
    join_as_manager();
    make_manager_dir();
    unsigned opens = fake_manager.opens;
    close_node();
    port.raft_id = 7;
    open_node();
    assert_int_equal(fake_manager.opens, opens + 1); /* at once */
    assert_int_equal(fake_manager.raft_id, 7);
    assert_true(manager_dir_exists());
    fake_manager_ready();
    web_until(&web, fake_session.open);
    assert_string_equal(swarm_header(swarm), "active/manager");
}

static void one_that_is_not_to_be_a_manager_any_more_joins_as_a_worker(void **state)
{
    port.role = NODE_ROLE__MANAGER;
    err_set(&port.refuse_member, ERR_DENIED, "node %s is not to be a manager", PORT_NODE);
    ask_to_join();
    web_until(&web, port.members);
    wish_role(NODE_ROLE__WORKER);
    web_until(&web, strcmp(swarm_header(swarm), "active/worker") == 0);
    fake_session_ready();
    assert_int_equal(answer(), 200);
    assert_string_equal(swarm_header(swarm), "active/worker");
    web_until(&web, stored_role_is(NODE_ROLE__WORKER));
    assert_int_equal(fake_manager.opens, 0);
}

/* --- roles that change ----------------------------------------------------------------------------- */

static void promoted_worker_becomes_a_manager_without_a_restart(void **state)
{
    join_as_worker();
    tell_row(NODE_ROLE__WORKER, false);
    web_rest(&web, 20);
    assert_int_equal(port.issues, 1);
    wish_role(NODE_ROLE__MANAGER);
    tell_row(NODE_ROLE__MANAGER, false);
    web_until(&web, fake_manager.open);
    assert_int_equal(port.issues, 2);
    assert_int_equal(port.issued_to.role, RPC_ROLE_WORKER);
    assert_int_equal(fake_manager.raft_id, 7);
    assert_false(fake_manager.had_bootstrap);
    assert_true(stored_role_is(NODE_ROLE__MANAGER));
    assert_true(fake_session.tls_set);
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_info_has("\"ControlAvailable\":true");
    assert_int_equal(fake_session.opens, 1); /* one agent through all of it */
}

static void removed_manager_becomes_a_worker_without_a_restart(void **state)
{
    join_as_manager();
    make_manager_dir();
    wish_role(NODE_ROLE__WORKER);
    tell_row(NODE_ROLE__WORKER, true); /* not yet out of the group */
    web_rest(&web, 50);
    assert_int_equal(port.issues, 1);
    assert_string_equal(swarm_header(swarm), "active/manager");
    fake_manager_remove();
    assert_string_equal(swarm_header(swarm), "active/worker");
    web_until(&web, stored_role_is(NODE_ROLE__WORKER));
    assert_int_equal(fake_manager.closes, 1);
    web_until(&web, !manager_dir_exists());
    assert_info_has("\"ControlAvailable\":false");
    Identity *identity = stored();
    assert_false(identity->has_data_key);
    assert_false(identity->has_raft_id);
    message_free(identity);
    assert_int_equal(fake_session.opens, 1);
    assert_int_equal(call("GET", "/services", ""), 503);
    assert_answer_has("Worker nodes can't be used to view");

    /* And back again, with another number and nothing of before. */
    port.raft_id = 9;
    wish_role(NODE_ROLE__MANAGER);
    tell_row(NODE_ROLE__MANAGER, false);
    web_until(&web, fake_manager.open);
    assert_int_equal(fake_manager.raft_id, 9);
    assert_int_equal(port.member_raft_id, 0);
}

static void row_that_says_worker_ends_a_manager_that_nobody_told(void **state)
{
    join_as_manager();
    wish_role(NODE_ROLE__WORKER);
    tell_row(NODE_ROLE__WORKER, false);
    web_until(&web, stored_role_is(NODE_ROLE__WORKER));
    assert_null(fake_manager.open);
    assert_string_equal(swarm_header(swarm), "active/worker");
}

static void manager_demoted_while_it_was_off_comes_back_as_a_worker(void **state)
{
    join_as_manager();
    make_manager_dir();
    close_node();
    wish_role(NODE_ROLE__WORKER);
    err_set(&port.refuse_member, ERR_DENIED, "node %s is not to be a manager", PORT_NODE);
    open_node();
    assert_string_equal(swarm_header(swarm), "pending");
    web_until(&web, fake_session.open); /* with the others, while its own does not serve */
    fake_session_ready();
    tell_row(NODE_ROLE__WORKER, false);
    web_until(&web, stored_role_is(NODE_ROLE__WORKER));
    web_until(&web, !manager_dir_exists());
    assert_string_equal(swarm_header(swarm), "active/worker");
}

static void certificate_for_a_worker_is_not_used_by_a_member(void **state)
{
    join_as_manager();
    wish_role(NODE_ROLE__WORKER);
    wall_shift_ms = 75 * DAY_MS;
    swarm_look(swarm);
    web_until(&web, port.issues == 2);
    web_rest(&web, 50);
    assert_true(stored_role_is(NODE_ROLE__MANAGER));
    assert_non_null(fake_manager.open);
}

static void restart_in_the_middle_of_a_demotion_finishes_it(void **state)
{
    join_as_manager();
    make_manager_dir();
    err_set(&port.refuse, ERR_UNAVAILABLE, "the cluster elects a leader");
    wish_role(NODE_ROLE__WORKER);
    fake_manager_remove();
    web_until(&web, port.issues == 2);
    close_node();
    assert_true(stored_role_is(NODE_ROLE__MANAGER));
    port.refuse.code = 0;
    open_node();
    fake_manager_remove(); /* its log says so, or those whom it dials */
    web_until(&web, stored_role_is(NODE_ROLE__WORKER));
    web_until(&web, !manager_dir_exists());
}

/* --- leaving --------------------------------------------------------------------------------------- */

static void manager_that_leaves_asks_to_be_taken_out_first(void **state)
{
    join_as_manager();
    assert_int_equal(call("POST", "/swarm/leave", ""), 503);
    assert_answer_has("participating as a manager");
    assert_false(port.member_leaves);
    assert_int_equal(call("POST", "/swarm/leave?force=1", ""), 200);
    assert_true(port.member_leaves);
    assert_int_equal(port.member_raft_id, 7);
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
}

static void last_manager_leaves_without_asking_anybody(void **state)
{
    init_swarm();
    assert_int_equal(call("POST", "/swarm/leave", ""), 503);
    assert_answer_has("Removing the last manager erases all current state");
    assert_int_equal(call("POST", "/swarm/leave?force=1", ""), 200);
    assert_false(swarm_dir_exists());
}

static void worker_leaves_without_force(void **state)
{
    join_as_worker();
    assert_int_equal(call("POST", "/swarm/leave", ""), 200);
    assert_null(fake_session.open);
    assert_int_equal(port.members, 0);
    assert_false(swarm_dir_exists());
    join_as_worker();
}

/* --- going on alone -------------------------------------------------------------------------------- */

static void force(const char *more)
{
    AUTO_FREE
    char *body = mem_printf("{\"ForceNewCluster\":true%s}", more);

    ask("POST", "/swarm/init", body);
}

static void surviving_manager_goes_on_alone(void **state)
{
    join_as_manager();
    port_stop(&port); /* nobody else is left */
    force(",\"AdvertiseAddr\":\"10.1.2.3:4000\"");
    web_until(&web, fake_manager.opens == 2 && fake_manager.open);
    assert_true(fake_manager.forced);
    assert_false(fake_manager.had_bootstrap);
    assert_int_equal(fake_manager.epoch, 1);
    assert_int_equal(fake_manager.raft_id, 7);
    assert_string_equal(fake_manager.advertise, "10.1.2.3:4000");
    assert_string_equal(fake_manager.listen, own);
    Identity *identity = stored();
    assert_true(identity->forces_new_cluster); /* before it began */
    assert_int_equal(identity->epoch, 1);
    message_free(identity);
    web_rest(&web, 10);
    assert_false(client_ended(&client));
    fake_manager_ready();
    assert_int_equal(answer(), 200);
    assert_answer_has(PORT_NODE);
    identity = stored();
    assert_false(identity->forces_new_cluster); /* before it was answered */
    assert_int_equal(identity->n_managers, 1);
    message_free(identity);
    assert_string_equal(swarm_header(swarm), "active/manager");
    close_node();
    open_node();
    assert_false(fake_manager.forced);
    assert_int_equal(fake_manager.epoch, 1);
}

static void interrupted_force_goes_on_at_the_next_start(void **state)
{
    init_swarm();
    force("");
    web_until(&web, fake_manager.opens == 2 && fake_manager.open);
    assert_string_equal(fake_manager.advertise, "127.0.0.1:2377"); /* as it was */
    close_node();
    open_node();
    assert_true(fake_manager.forced);
    assert_int_equal(fake_manager.epoch, 1);
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
}

static void manager_that_never_got_ready_can_be_forced(void **state)
{
    join_as_manager();
    close_node();
    port_stop(&port);
    open_node();
    force("");
    web_until(&web, fake_manager.forced && fake_manager.open);
    fake_manager_ready();
    assert_int_equal(answer(), 200);
}

static void only_a_manager_can_be_forced(void **state)
{
    force("");
    assert_int_equal(answer(), 503);
    assert_answer_has("not part of a swarm");
    join_as_worker();
    force("");
    assert_int_equal(answer(), 503);
    assert_answer_has("This node is a worker");
    assert_string_equal(swarm_header(swarm), "active/worker");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(join_is_answered_when_the_node_is_of_use),
        TEST(own_address_is_that_of_the_connection_unless_told),
        TEST(joining_twice_is_refused_in_dockers_words),
        TEST(bad_joins_name_the_field_and_change_nothing),
        TEST(join_that_fails_leaves_nothing_behind),
        TEST(join_goes_on_without_its_client),
        TEST(join_under_way_can_be_ended_by_leaving),
        TEST(stopping_while_joining_leaves_nothing_behind),
        TEST(worker_comes_back_and_knows_its_managers),
        TEST(manager_joins_with_a_place_in_the_group),
        TEST(manager_whose_port_is_taken_does_not_join),
        TEST(interrupted_join_of_a_manager_is_finished_at_the_next_start),
        TEST(joining_manager_is_locked_from_its_first_file_on),
        TEST(promoted_worker_is_locked_from_its_first_file_as_a_manager_on),
        TEST(unlock_key_of_another_size_is_refused),
        TEST(joined_manager_comes_back_with_its_log),
        TEST(one_that_is_not_to_be_a_manager_any_more_joins_as_a_worker),
        TEST(promoted_worker_becomes_a_manager_without_a_restart),
        TEST(removed_manager_becomes_a_worker_without_a_restart),
        TEST(row_that_says_worker_ends_a_manager_that_nobody_told),
        TEST(manager_demoted_while_it_was_off_comes_back_as_a_worker),
        TEST(certificate_for_a_worker_is_not_used_by_a_member),
        TEST(restart_in_the_middle_of_a_demotion_finishes_it),
        TEST(manager_that_leaves_asks_to_be_taken_out_first),
        TEST(last_manager_leaves_without_asking_anybody),
        TEST(worker_leaves_without_force),
        TEST(surviving_manager_goes_on_alone),
        TEST(interrupted_force_goes_on_at_the_next_start),
        TEST(manager_that_never_got_ready_can_be_forced),
        TEST(only_a_manager_can_be_forced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
