/* The front and the membership behind it, with real clients on a socket, a manager that the test plays, and an
 * engine that starts nothing: who answers what, and how a node comes into a swarm, stays in it and leaves it,
 * whatever breaks meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>

#include "agent/front.h"
#include "agent/identity.h"
#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/wire/cert.h"
#include "proto/wire/http_test_web.h"
#include "tests/support/assigner.h"
#include "tests/support/fake_engine.h"
#include "tests/support/fake_manager.h"
#include "tests/support/fake_node.h"
#include "tests/support/fake_session.h"
#include "tests/support/job.h"

/* --- who answers ----------------------------------------------------------------------------------- */

static void versions_are_taken_off_and_checked(void **state)
{
    static const struct {
        const char *path;
        int status;
        const char *text;
    } cases[] = {
        {"/_ping", 200, "engine 1.45"},
        {"/v1.45/_ping", 200, "engine 1.45"},
        {"/v1.24/_ping", 200, "engine 1.24"},
        {"/v1.23/_ping", 400, "client version 1.23 is too old"},
        {"/v0.9/_ping", 400, "too old"},
        {"/v1.46/_ping", 400, "client version 1.46 is too new"},
        {"/v2.0/_ping", 400, "too new"},
        {"/v1.45x/_ping", 404, "page not found"},
        {"/v1/_ping", 404, "page not found"},
        {"/v/_ping", 404, "page not found"},
        {"/v1./_ping", 404, "page not found"},
        {"/v99999.1/_ping", 404, "page not found"},
        {"/v1.45", 404, "page not found"},
        {"/nothing", 404, "page not found"},
        {"/volumes-of-poems", 404, "page not found"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int status = call("GET", cases[i].path, "");

        if (status != cases[i].status || !strstr(buf_str(&client.got), cases[i].text))
            fail_msg("%s: %s", cases[i].path, buf_str(&client.got));
        assert_answer_has("Api-Version: 1.45");
        assert_answer_has("Server: Docker/");
    }
}

static void swarm_nouns_need_a_manager(void **state)
{
    assert_int_equal(call("GET", "/v1.45/services", ""), 503);
    assert_answer_has("This node is not a swarm manager. Use \\\"docker swarm init\\\"");
    assert_int_equal(fake_manager.asks, 0);
}

static void manager_is_asked_with_everything_that_the_client_said(void **state)
{
    init_swarm();
    ask("POST", "/v1.40/services/create?a=%20b&c", "{\"x\":1}");
    web_until(&web, fake_manager.asked);
    assert_string_equal(fake_manager.method, "POST");
    assert_string_equal(fake_manager.path, "/services/create");
    assert_string_equal(fake_manager.query, "a=%20b&c");
    assert_string_equal(fake_manager.body, "{\"x\":1}");
    assert_string_equal(fake_manager.auth, "c2VjcmV0");
    assert_int_equal(fake_manager.api_minor, 40);
    fake_manager_reply(201, NULL, "{\"ID\":\"1\"}", false);
    assert_int_equal(answer(), 201);
    assert_answer_has("Content-Type: application/json");
    assert_answer_has("{\"ID\":\"1\"}");
}

static void empty_answer_has_no_type(void **state)
{
    init_swarm();
    ask("DELETE", "/services/web", "");
    web_until(&web, fake_manager.asked);
    fake_manager_reply(200, NULL, "", false);
    assert_int_equal(answer(), 200);
    assert_null(strstr(buf_str(&client.got), "Content-Type"));
}

static void pages_are_asked_for_as_the_client_reads(void **state)
{
    init_swarm();
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    fake_manager_reply(200, "text/plain", "one,", true);
    web_until(&web, client_has(&client, "one,"));
    assert_int_equal(fake_manager.mores, 1);
    fake_manager_reply(200, NULL, "two,", true);
    fake_manager_reply(200, NULL, "three", false);
    assert_int_equal(answer(), 200);
    assert_answer_has("Content-Type: text/plain");
    assert_answer_has("two,");
    assert_answer_has("three");
    assert_int_equal(fake_manager.drops, 0);
}

static void client_sees_that_an_answer_broke_off(void **state)
{
    init_swarm();
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    fake_manager_reply(200, NULL, "one,", true);
    web_until(&web, client_has(&client, "one,"));
    fake_manager_cut();
    web_until(&web, client_ended(&client));
    assert_null(strstr(buf_str(&client.got), "\r\n0\r\n\r\n"));
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    fake_manager_cut(); /* before its head went out */
    assert_int_equal(answer(), 503);
}

static void client_that_reads_slowly_is_not_sent_ahead(void **state)
{
    char *page = mem_alloc(1 << 20);
    unsigned pages = 0;

    memset(page, 'p', (1 << 20) - 1);
    init_swarm();
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    do {
        fake_manager_reply(200, NULL, page, true);
        pages++;
        web_rest(&web, 20);
    } while (fake_manager.mores == pages && pages < 50);
    assert_true(pages < 50); /* the last one was not followed by a wish for more */
    web_until(&web, (client_pull(&client), fake_manager.mores == pages));
    fake_manager_reply(200, NULL, "end", false);
    assert_int_equal(answer(), 200);
    free(page);
}

static void client_that_goes_away_drops_its_request(void **state)
{
    init_swarm();
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    client_close(&client);
    web_until(&web, fake_manager.drops == 1);
    assert_null(fake_manager.asked);
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    fake_manager_reply(200, NULL, "one", true);
    client_close(&client);
    web_until(&web, fake_manager.drops == 2);
}

static void request_under_way_is_answered_when_the_manager_closes(void **state)
{
    init_swarm();
    ask("GET", "/services", "");
    web_until(&web, fake_manager.asked);
    struct client waiting = client;
    client = (struct client){.fd = -1};
    assert_int_equal(call("POST", "/swarm/leave?force=1", ""), 200);
    client_close(&client);
    client = waiting;
    assert_int_equal(answer(), 503);
}

static void engine_nouns_go_to_the_engine_with_or_without_a_swarm(void **state)
{
    assert_int_equal(call("GET", "/v1.44/containers/json", ""), 200);
    assert_answer_has("engine 1.44");
    assert_string_equal(fake_engine_path(engine), "/containers/json");
    init_swarm();
    assert_int_equal(call("GET", "/containers/json", ""), 200);
    assert_int_equal(fake_engine_requests(engine), 2);
}

static void network_is_the_managers_when_asked_for_as_the_swarms(void **state)
{
    assert_int_equal(call("GET", "/networks/web?scope=swarm", ""), 200);
    assert_string_equal(fake_engine_path(engine), "/networks/web"); /* there is no manager */
    init_swarm();
    ask("GET", "/networks/web?scope=swarm", "");
    web_until(&web, fake_manager.asked);
    assert_string_equal(fake_manager.path, "/networks/web");
    fake_manager_reply(200, NULL, "{}", false);
    assert_int_equal(answer(), 200);
    assert_int_equal(call("GET", "/networks/web", ""), 200);
    assert_int_equal(call("DELETE", "/networks/web?scope=swarm", ""), 200);
    assert_int_equal(fake_manager.asks, 1);
}

/* --- founding -------------------------------------------------------------------------------------- */

static void init_founds_a_swarm_and_answers_with_the_node(void **state)
{
    Identity *identity = NULL;

    assert_string_equal(swarm_header(swarm), "inactive");
    assert_info_has("\"LocalNodeState\":\"inactive\"");
    ask("POST", "/v1.45/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    assert_true(fake_manager.had_bootstrap);
    assert_string_equal(fake_manager.listen, "127.0.0.1:2377");
    assert_string_equal(fake_manager.advertise, "127.0.0.1:2377");
    assert_string_equal(swarm_header(swarm), "pending");
    assert_int_equal(identity_read(dir, &identity, NULL), ERR_NOT_FOUND); /* the manager first */
    fake_manager_ready();
    assert_int_equal(answer(), 200);
    assert_int_equal(identity_read(dir, &identity, NULL), 0);
    assert_answer_has(identity->node_id);
    assert_info_has(identity->node_id);
    assert_info_has("\"LocalNodeState\":\"active\"");
    assert_info_has("\"ControlAvailable\":true");
    assert_int_equal(fake_session.opens, 1); /* its agent dials its own manager */
    assert_string_equal(fake_session.managers[0], "127.0.0.1:2377");
    identity__free_unpacked(identity, NULL);
}

static void node_in_a_swarm_founds_no_other(void **state)
{
    init_swarm();
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 503);
    assert_answer_has("This node is already part of a swarm.");
    assert_int_equal(fake_manager.opens, 1);
}

static void second_init_waits_for_nobody(void **state)
{
    struct client first;

    ask("POST", "/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    first = client;
    client = (struct client){.fd = -1};
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 503);
    fake_manager_ready();
    client_close(&client);
    client = first;
    assert_int_equal(answer(), 200);
}

static void bad_init_names_the_field_and_changes_nothing(void **state)
{
    static const struct {
        const char *body, *text;
        int status;
    } cases[] = {
        {"{", "", 400},
        {"{\"ListenAddr\":5}", "ListenAddr", 400},
        {"{\"ListenAddr\":\"nowhere:2377\"}", "ListenAddr", 400},
        {"{\"ListenAddr\":\"127.0.0.1:99999\"}", "ListenAddr", 400},
        {"{\"ListenAddr\":\"127.0.0.1\",\"AdvertiseAddr\":\"0.0.0.0\"}", "AdvertiseAddr", 400},
        {"{\"ListenAddr\":\"127.0.0.1\",\"DataPathAddr\":\"nope0\"}", "DataPathAddr", 400},
        {"{\"ListenAddr\":\"127.0.0.1\",\"ForceNewCluster\":true}", "force-new-cluster", 503},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int status = call("POST", "/swarm/init", cases[i].body);

        if (status != cases[i].status || !strstr(buf_str(&client.got), cases[i].text))
            fail_msg("%s: %s", cases[i].body, buf_str(&client.got));
        assert_string_equal(swarm_header(swarm), "inactive");
    }
    assert_int_equal(fake_manager.opens, 0);
    assert_false(swarm_dir_exists());
}

static void manager_that_cannot_open_is_an_answered_error(void **state)
{
    err_set(&fake_manager.refuse_open, ERR_IO, "no threads");
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 500);
    assert_answer_has("no threads");
    assert_string_equal(swarm_header(swarm), "inactive");
    fake_manager.refuse_open.code = 0;
    init_swarm(); /* and it can be tried again */
}

static void manager_that_stops_while_founding_leaves_nothing(void **state)
{
    AUTO_FREE
    char *left = mem_printf("%s/swarm/manager", dir);

    ask("POST", "/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    assert_int_equal(dir_make(left, 0700, NULL), 0); /* what a manager leaves */
    fake_manager_stop("bind 127.0.0.1:2377: Address already in use");
    assert_int_equal(answer(), 500);
    assert_answer_has("Address already in use");
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
    assert_int_equal(fatals, 0);
    init_swarm();
}

static void identity_that_cannot_be_written_undoes_the_founding(void **state)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm", dir);

    ask("POST", "/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* where the directory has to be */
    assert_true(fd >= 0);
    close(fd);
    fake_manager_ready();
    assert_true(answer() >= 400);
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_null(fake_manager.open);
}

static void founding_goes_on_when_its_client_goes_away(void **state)
{
    ask("POST", "/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    client_close(&client);
    web_rest(&web, 20);
    fake_manager_ready();
    web_until(&web, strcmp(swarm_header(swarm), "active/manager") == 0);
}

static void closing_in_the_middle_of_a_founding_founds_nothing(void **state)
{
    ask("POST", "/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    close_node();
    open_node();
    web_until(&web, strcmp(swarm_header(swarm), "inactive") == 0);
    assert_int_equal(fake_manager.opens, 1);
    init_swarm();
}

static void what_a_killed_init_left_is_removed_at_the_next_start(void **state)
{
    AUTO_FREE
    char *left = mem_printf("%s/swarm/manager/raft", dir);

    close_node();
    assert_int_equal(dir_make(left, 0700, NULL), 0);
    open_node();
    web_until(&web, !swarm_dir_exists());
    web_until(&web, strcmp(swarm_header(swarm), "inactive") == 0);
    assert_int_equal(fake_manager.opens, 0);
}

/* --- coming back ----------------------------------------------------------------------------------- */

static void node_comes_back_as_what_it_was(void **state)
{
    init_swarm();
    close_node();
    assert_null(fake_manager.open);
    open_node();
    assert_string_equal(swarm_header(swarm), "pending");
    assert_int_equal(fake_manager.opens, 2);
    assert_false(fake_manager.had_bootstrap);
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 503);
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_true(fake_session.open != NULL);
}

static void manager_that_does_not_get_ready_can_be_left_by_force(void **state)
{
    init_swarm();
    close_node();
    open_node();
    assert_int_equal(call("POST", "/swarm/leave", ""), 503);
    assert_answer_has("--force");
    assert_int_equal(call("POST", "/swarm/leave?force=1", ""), 200);
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
    assert_int_equal(fake_manager.closes, 2);
}

static void request_waits_for_a_manager_that_starts(void **state)
{
    init_swarm();
    close_node();
    open_node();
    ask("POST", "/services/create", "{\"Name\":\"web\"}");
    web_rest(&web, 20);
    assert_false(client_ended(&client));
    unsigned before = fake_manager.asks;
    fake_manager_ready();
    web_until(&web, fake_manager.asks == before + 1);
    assert_string_equal(fake_manager.body, "{\"Name\":\"web\"}");
    fake_manager_reply(201, "application/json", "{\"ID\":\"1\"}", false);
    assert_int_equal(answer(), 201);
}

static void client_that_leaves_while_it_waits_asks_nothing(void **state)
{
    init_swarm();
    close_node();
    open_node();
    ask("GET", "/services", "");
    web_rest(&web, 20);
    client_close(&client);
    web_rest(&web, 20);
    unsigned before = fake_manager.asks;
    fake_manager_ready();
    web_rest(&web, 20);
    assert_int_equal(fake_manager.asks, before);
}

static void manager_that_does_not_come_is_not_waited_for_for_ever(void **state)
{
    init_swarm();
    close_node();
    open_node();
    assert_int_equal(call("GET", "/services", ""), 503);
    assert_answer_has("the manager on this node is starting");
    ask("GET", "/services", "");
    web_rest(&web, 20);
    fake_manager_stop("no room"); /* opened again every second */
    assert_int_equal(answer(), 503);
    ask("GET", "/nodes", "");
    web_rest(&web, 20);
    close_node(); /* with or without somebody who waits */
    open_node();
}

static void agent_works_before_its_manager_is_back(void **state)
{
    init_swarm();
    close_node();
    fake_session_reset();
    open_node();
    assert_null(fake_session.open); /* there is nobody to dial yet */
    fake_manager_ready();
    assert_true(fake_session.open != NULL);
}

static void manager_that_stops_ends_the_process_with_its_reason(void **state)
{
    init_swarm();
    fake_manager_stop("the log is damaged");
    assert_int_equal(fatals, 1);
    assert_string_equal(swarm_header(swarm), "error");
    assert_info_has("the log is damaged");
    assert_int_equal(call("GET", "/services", ""), 503);
    assert_answer_has("the swarm on this node has failed: the log is damaged");
}

static void failed_swarm_can_be_left(void **state)
{
    init_swarm();
    fake_manager_stop("the log is damaged");
    assert_int_equal(call("POST", "/swarm/leave", ""), 503); /* it is a manager still */
    assert_int_equal(call("POST", "/swarm/leave?force=true", ""), 200);
    assert_string_equal(swarm_header(swarm), "inactive");
    init_swarm();
}

static void damaged_identity_is_an_error_not_an_empty_node(void **state)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm/identity", dir);

    init_swarm();
    close_node();
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damage", 6, 40), 6);
    close(fd);
    open_node();
    assert_string_equal(swarm_header(swarm), "error");
    assert_info_has("checksum");
    assert_int_equal(fake_manager.opens, 1);
    assert_true(swarm_dir_exists()); /* nothing is removed */
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 503);
}

/* --- leaving --------------------------------------------------------------------------------------- */

static void node_in_no_swarm_cannot_leave(void **state)
{
    assert_int_equal(call("POST", "/swarm/leave", ""), 503);
    assert_answer_has("This node is not part of a swarm");
}

static void manager_leaves_by_force_alone(void **state)
{
    init_swarm();
    assert_int_equal(call("POST", "/swarm/leave", ""), 503);
    assert_answer_has("Use `--force` to ignore this message");
    assert_int_equal(call("POST", "/swarm/leave?force=0", ""), 503);
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_int_equal(call("POST", "/swarm/leave?force=1", ""), 200);
    assert_string_equal(swarm_header(swarm), "inactive");
    assert_false(swarm_dir_exists());
    assert_null(fake_manager.open);
    assert_null(fake_session.open);
    close_node();
    open_node();
    assert_string_equal(swarm_header(swarm), "inactive");
}

static void leaving_removes_the_containers_of_tasks_and_no_others(void **state)
{
    struct assigner manager = {0};
    AUTO_ARENA struct arena a;
    ContainerConfig config = CONTAINER_CONFIG__INIT;
    char **warnings, task[26];
    const char *id;
    uint8_t bytes[16];
    size_t at = 0;

    arena_init(&a);
    init_swarm();
    assigner_id(1, bytes, task);
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    fake_session_ready();
    fake_session_deliver(assigner_full(&manager, &at, SIZE_MAX, &a));
    fake_engine_end_all(engine);
    assert_true(fake_engine_alive(engine, task));
    assert_int_equal(engine_create(engine, "mine", &config, &a, &id, &warnings, NULL), 0);
    assert_int_equal(fake_world_count(world), 2);
    ask("POST", "/swarm/leave?force=1", "");
    web_until(&web, fake_engine_pending(engine) == 1);
    assert_string_equal(swarm_header(swarm), "inactive");
    fake_engine_end_all(engine);
    assert_int_equal(answer(), 200);
    assert_int_equal(fake_world_count(world), 1);
}

static void container_that_cannot_be_removed_does_not_keep_the_node(void **state)
{
    struct assigner manager = {0};
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    init_swarm();
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    fake_session_ready();
    fake_session_deliver(assigner_full(&manager, &at, SIZE_MAX, &a));
    fake_engine_end_all(engine);
    fake_engine_fail(engine, "remove", ERR_IO, "stuck", 1);
    ask("POST", "/swarm/leave?force=1", "");
    web_until(&web, fake_engine_pending(engine) == 1);
    fake_engine_end_all(engine);
    assert_int_equal(answer(), 200);
    assert_false(swarm_dir_exists());
}

static void swarm_paths_take_posts_alone(void **state)
{
    assert_int_equal(call("GET", "/swarm/init", ""), 404);
    assert_int_equal(call("DELETE", "/swarm/leave", ""), 404);
    assert_int_equal(call("GET", "/swarm/join", ""), 404);
    assert_int_equal(call("GET", "/swarm/unlock", ""), 404);
}

/* --- the certificate ------------------------------------------------------------------------------- */

static char *stored_certificate(void)
{
    Identity *identity = NULL;

    if (identity_read(dir, &identity, NULL) < 0)
        return mem_strdup("none");
    char *text = mem_strdup(identity->certificate_pem);
    identity__free_unpacked(identity, NULL);
    return text;
}

static bool stored_certificate_is(const char *text)
{
    AUTO_FREE
    char *stored = stored_certificate();

    return strcmp(stored, text) == 0;
}

static void certificate_is_renewed_by_the_own_manager_and_stored(void **state)
{
    struct assigner manager = {0};
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    init_swarm();
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    fake_session_ready();
    fake_session_deliver(assigner_full(&manager, &at, SIZE_MAX, &a));
    fake_engine_end_all(engine);
    AUTO_FREE
    char *before = stored_certificate();
    swarm_look(swarm);
    web_rest(&web, 20);
    assert_int_equal(fake_manager.issues, 0);
    wall_shift_ms = 75 * DAY_MS;
    swarm_look(swarm);
    web_until(&web, !stored_certificate_is(before));
    assert_int_equal(fake_manager.issues, 1);
    assert_int_equal(fake_manager.certificates, 1);
    assert_true(fake_session.tls_set);
    assert_int_equal(fake_session.restarts, 0); /* the session goes on, and so do tasks */
    assert_int_equal(fake_engine_pending(engine), 0);
    assert_string_equal(swarm_header(swarm), "active/manager");
    wall_shift_ms = 0;
    close_node();
    open_node(); /* and the node comes back with it */
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
}

static void node_that_was_removed_says_so(void **state)
{
    init_swarm();
    fake_session_ready();
    assert_info_has("\"Error\":\"\"");
    fake_session.denied = true;
    assert_info_has("\"Error\":\"This node was removed from the swarm. To take part again, leave");
}

static void manager_that_was_off_past_its_certificate_comes_back(void **state)
{
    init_swarm();
    close_node();
    wall_shift_ms = 400 * DAY_MS; /* what is issued now has ended by our clock as well: not used */
    open_node();
    fake_manager_ready();
    web_until(&web, fake_manager.issues >= 1);
    web_rest(&web, 20);
    assert_int_equal(fake_manager.certificates, 0);
    assert_info_has("Swarm certificates have expired");
    assert_info_has("\"LocalNodeState\":\"error\"");
    wall_shift_ms = 89 * DAY_MS;
    web_until(&web, (swarm_look(swarm), fake_manager.certificates == 1));
    assert_info_has("\"LocalNodeState\":\"active\"");
}

static void leaving_while_the_identity_is_written_leaves_nothing(void **state)
{
    char *managers[] = {(char *)"10.0.0.9:2377"};
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    init_swarm();
    fake_session_ready();
    message.managers = managers;
    message.n_managers = 1;
    ask("POST", "/swarm/leave?force=1", "");
    fake_session_deliver(&message); /* a write begins */
    assert_int_equal(answer(), 200);
    web_rest(&web, 50);
    assert_false(swarm_dir_exists());
}

static void managers_are_remembered_for_the_next_start(void **state)
{
    char *managers[] = {(char *)"10.0.0.9:2377", (char *)"10.0.0.8:2377"};
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    Identity *identity = NULL;

    init_swarm();
    fake_session_ready();
    message.managers = managers;
    for (message.n_managers = 1; message.n_managers <= 2; message.n_managers++)
        fake_session_deliver(&message); /* the second while the first is being written */
    do {
        if (identity)
            identity__free_unpacked(identity, NULL);
        web_rest(&web, 10);
        assert_int_equal(identity_read(dir, &identity, NULL), 0);
    } while (identity->n_managers < 2);
    assert_string_equal(identity->managers[1], "10.0.0.8:2377");
    identity__free_unpacked(identity, NULL);
}

/* --- the cluster's roots --------------------------------------------------------------------------- */

static void tell_authority(const char *trust_pem, const char *issuer_pem, int64_t lifetime_ms)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    Authority authority = AUTHORITY__INIT;

    authority.root_pem = (ProtobufCBinaryData){strlen(trust_pem), (uint8_t *)trust_pem};
    assert_int_equal(cert_key_digest(issuer_pem, &authority.issuer, NULL), 0);
    authority.has_lifetime_ms = true;
    authority.lifetime_ms = lifetime_ms;
    message.authority = &authority;
    fake_session_deliver(&message);
}

static bool stored_trusts(const char *root_pem)
{
    Identity *identity = NULL;

    assert_int_equal(identity_read(dir, &identity, NULL), 0);
    bool same = strcmp(identity->root_pem, root_pem) == 0;
    identity__free_unpacked(identity, NULL);
    return same;
}

static void node_follows_a_change_of_roots(void **state)
{
    AUTO_FREE
    char *old = NULL;
    AUTO_FREE
    char *next = NULL;
    char *next_key = NULL;

    init_swarm();
    fake_session_ready();
    old = mem_strdup(fake_manager.root_pem);
    AUTO_FREE
    char *before = stored_certificate();
    tell_authority(old, old, 90 * DAY_MS); /* as it is: nothing happens */
    web_rest(&web, 20);
    assert_int_equal(fake_manager.issues, 0);
    assert_int_equal(fake_manager.certificates, 0);

    assert_int_equal(ca_root_new(clock_wall_ms(clock_real()), &next, &next_key, NULL), 0);
    AUTO_FREE
    char *both = mem_printf("%s%s", old, next);
    free(fake_manager.root_pem);
    free(fake_manager.root_key_pem);
    fake_manager.root_pem = mem_strdup(next);
    fake_manager.root_key_pem = next_key;
    fake_manager.trust_pem = mem_strdup(both);
    tell_authority(both, next, 90 * DAY_MS);
    assert_int_equal(fake_manager.certificates, 1); /* the roots, at once; the certificate follows */
    web_until(&web, fake_manager.issues == 1 && fake_manager.certificates == 2);
    web_until(&web, !stored_certificate_is(before) && stored_trusts(both));

    tell_authority(next, next, 90 * DAY_MS); /* it is over */
    web_until(&web, stored_trusts(next));
    assert_int_equal(fake_manager.issues, 1);
    assert_int_equal(fake_manager.certificates, 3);
    assert_int_equal(fake_session.restarts, 0);
    close_node();
    open_node();
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
}

static void roots_that_our_certificate_does_not_lead_to_wait_for_another(void **state)
{
    AUTO_FREE
    char *old = NULL;
    AUTO_FREE
    char *next = NULL;
    char *next_key = NULL;

    init_swarm();
    fake_session_ready();
    old = mem_strdup(fake_manager.root_pem);
    assert_int_equal(ca_root_new(clock_wall_ms(clock_real()), &next, &next_key, NULL), 0);
    free(fake_manager.root_pem);
    free(fake_manager.root_key_pem);
    fake_manager.root_pem = mem_strdup(next);
    fake_manager.root_key_pem = next_key;
    tell_authority(next, next, 90 * DAY_MS); /* we were away all the time */
    assert_true(stored_trusts(old));
    assert_int_equal(fake_manager.certificates, 0);
    web_until(&web, fake_manager.certificates == 1 && stored_trusts(next));
    tell_authority("no PEM", next, 90 * DAY_MS);
    web_rest(&web, 20);
    assert_true(stored_trusts(next));
}

static void shorter_lifetime_pulls_the_renewal_in(void **state)
{
    init_swarm();
    fake_session_ready();
    tell_authority(fake_manager.root_pem, fake_manager.root_pem, 80 * DAY_MS);
    web_rest(&web, 20);
    assert_int_equal(fake_manager.issues, 0); /* there is time */
    wall_shift_ms = 30 * DAY_MS;
    swarm_look(swarm);
    web_rest(&web, 20);
    assert_int_equal(fake_manager.issues, 0); /* with the lifetime that it was issued with there still is */
    tell_authority(fake_manager.root_pem, fake_manager.root_pem, 10 * DAY_MS);
    web_until(&web, fake_manager.certificates == 1);
    assert_int_equal(fake_manager.issues, 1);
}

/* --- autolock -------------------------------------------------------------------------------------- */

#define AUTOLOCK_BODY \
    "{\"ListenAddr\":\"127.0.0.1:2377\",\"AdvertiseAddr\":\"127.0.0.1\",\"AutoLockManagers\":true}"
#define LOCKED_TEXT                                                                                              \
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use \\\"docker swarm unlock\\\" " \
    "to unlock it."

static const uint8_t first_key[MANAGER_LOCK_KEY] = {1, 2, 3}, second_key[MANAGER_LOCK_KEY] = {4, 5, 6};

static bool stored_is_locked(void)
{
    Identity *identity = NULL;

    assert_int_equal(identity_read(dir, &identity, NULL), 0);
    bool locked = identity->has_sealed;
    identity__free_unpacked(identity, NULL);
    return locked;
}

static bool stored_opens_with(const uint8_t *key)
{
    Identity *identity = NULL, *whole = NULL;

    assert_int_equal(identity_read(dir, &identity, NULL), 0);
    if (identity->has_sealed)
        (void)identity_unlock(identity, key, &whole, NULL);
    identity__free_unpacked(identity, NULL);
    bool opens = whole != NULL;
    message_free(whole);
    return opens;
}

static int unlock(const uint8_t *key)
{
    char text[MANAGER_LOCK_TEXT + 1];
    AUTO_FREE
    char *body = NULL;

    manager_lock_format(key, text);
    body = mem_printf("{\"UnlockKey\":\"%s\"}", text);
    return call("POST", "/swarm/unlock", body);
}

/* A manager whose identity is locked with the first key, restarted. */
static void init_locked(void)
{
    init_swarm();
    fake_manager_lock_key(first_key, 10);
    web_until(&web, stored_opens_with(first_key));
    close_node();
    open_node();
    assert_string_equal(swarm_header(swarm), "locked");
}

static void locked_manager_says_so_and_runs_nothing(void **state)
{
    static const char *const paths[] = {"/swarm", "/swarm/unlockkey", "/services", "/services/web"};

    init_locked();
    assert_int_equal(fake_manager.opens, 1); /* before it was restarted */
    assert_info_has("\"LocalNodeState\":\"locked\"");
    assert_info_has("\"ControlAvailable\":false");
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        assert_int_equal(call("GET", paths[i], ""), 503);
        assert_answer_has(LOCKED_TEXT);
    }
    assert_int_equal(call("POST", "/swarm/update?version=1", "{}"), 503);
    assert_answer_has(LOCKED_TEXT);
    assert_int_equal(call("POST", "/swarm/init", INIT_BODY), 503);
    assert_answer_has("This node is already part of a swarm.");
    assert_int_equal(call("GET", "/containers/json", ""), 200); /* the engine's are not the swarm's */
    swarm_look(swarm);
    web_rest(&web, 20);
    assert_true(stored_opens_with(first_key)); /* nothing was written over it */
    assert_int_equal(fake_session.opens, 1);
}

static void tasks_of_a_locked_manager_run_on(void **state)
{
    char *managers[] = {(char *)"10.0.0.9:2377"};
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    struct assigner manager = {0};
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    init_swarm();
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    fake_session_ready();
    fake_session_deliver(assigner_full(&manager, &at, SIZE_MAX, &a));
    message.managers = managers;
    message.n_managers = 1;
    fake_session_deliver(&message);
    fake_engine_end_all(engine);
    fake_manager_lock_key(first_key, 10);
    web_until(&web, stored_opens_with(first_key));
    close_node();
    size_t containers = fake_world_count(world);
    assert_true(containers > 0);
    unsigned opens = fake_session.opens;
    open_node();
    fake_engine_end_all(engine);
    assert_string_equal(swarm_header(swarm), "locked");
    assert_int_equal(fake_world_count(world), containers);
    assert_int_equal(fake_session.opens, opens); /* it has no certificate to dial anybody with */
    assert_int_equal(unlock(first_key), 200);
    fake_manager_ready();
    assert_int_equal(fake_session.opens, opens + 1); /* its agent has what it needs to dial */
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_int_equal(fake_world_count(world), containers);
}

static void locked_manager_dials_no_other_one_before_it_is_unlocked(void **state)
{
    char *managers[] = {(char *)"10.0.0.9:2377", (char *)"127.0.0.1:2377"};
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    init_swarm();
    fake_session_ready();
    message.managers = managers;
    message.n_managers = 2;
    fake_session_deliver(&message);
    fake_manager_lock_key(first_key, 10);
    web_until(&web, stored_opens_with(first_key));
    close_node();
    unsigned opens = fake_session.opens;
    open_node();
    assert_string_equal(swarm_header(swarm), "locked");
    assert_int_equal(fake_session.opens, opens);
    assert_int_equal(unlock(first_key), 200);
    assert_int_equal(fake_session.opens, opens + 1); /* while its own manager does not serve */
    assert_string_equal(fake_session.managers[0], "10.0.0.9:2377");
}

static void right_key_unlocks_and_the_manager_resumes(void **state)
{
    init_locked();
    assert_int_equal(unlock(first_key), 200);
    assert_int_equal(fake_manager.opens, 2);
    assert_false(fake_manager.had_bootstrap);
    assert_string_equal(swarm_header(swarm), "pending");
    assert_int_equal(unlock(first_key), 409);
    assert_answer_has("swarm is not locked");
    fake_manager_ready();
    assert_string_equal(swarm_header(swarm), "active/manager");
    assert_int_equal(unlock(first_key), 409);
    assert_answer_has("swarm is not locked");
    fake_manager_lock_key(first_key, 11);
    web_rest(&web, 20);
    assert_true(stored_opens_with(first_key));
}

static void wrong_key_is_refused_after_a_while_and_one_at_a_time(void **state)
{
    init_locked();
    uint64_t before = uv_hrtime();
    assert_int_equal(unlock(second_key), 401);
    assert_answer_has("\"swarm could not be unlocked: invalid key provided\"");
    assert_true(uv_hrtime() - before > 900 * 1000000ull);
    assert_string_equal(swarm_header(swarm), "locked");
    assert_int_equal(fake_manager.opens, 1);

    char text[MANAGER_LOCK_TEXT + 1];
    manager_lock_format(second_key, text);
    AUTO_FREE
    char *body = mem_printf("{\"UnlockKey\":\"%s\"}", text);
    ask("POST", "/swarm/unlock", body);
    web_rest(&web, 20);
    client_close(&client); /* hanging up makes the next one no quicker */
    web_rest(&web, 20);
    assert_int_equal(unlock(first_key), 503);
    assert_answer_has("another key is being refused");
    web_until(&web, unlock(first_key) == 200);
}

static void malformed_unlock_is_refused_at_once(void **state)
{
    static const struct {
        const char *body, *text;
    } cases[] = {
        {"", "invalid JSON"},
        {"[]", "expected an object"},
        {"{}", "invalid unlock key: it does not begin with SWMKEY-1-"},
        {"{\"UnlockKey\":\"\"}", "invalid unlock key: it does not begin with SWMKEY-1-"},
        {"{\"UnlockKey\":5}", "UnlockKey"},
        {"{\"UnlockKey\":\"SWMKEY-1-short\"}", "invalid unlock key: it should have 52 characters"},
    };

    init_locked();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(call("POST", "/swarm/unlock", cases[i].body), 400);
        assert_answer_has(cases[i].text);
    }
    assert_int_equal(unlock(first_key), 200);
}

static void node_that_is_no_manager_has_nothing_to_unlock(void **state)
{
    assert_int_equal(unlock(first_key), 503);
    assert_answer_has("This node is not a swarm manager.");
}

static void locked_manager_leaves_by_force_alone(void **state)
{
    init_locked();
    assert_int_equal(call("POST", "/swarm/leave", ""), 503);
    assert_answer_has(
        "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.");
    assert_int_equal(call("POST", "/swarm/leave?force=1", ""), 200);
    assert_false(swarm_dir_exists());
    assert_string_equal(swarm_header(swarm), "inactive");
}

static void identity_follows_the_unlock_key(void **state)
{
    init_swarm();
    assert_false(stored_is_locked());
    fake_manager_lock_key(NULL, 5);
    web_rest(&web, 10);
    assert_false(stored_is_locked());
    fake_manager_lock_key(first_key, 10);
    web_until(&web, stored_opens_with(first_key));
    fake_manager_lock_key(second_key, 20);
    web_until(&web, stored_opens_with(second_key));
    fake_manager_lock_key(first_key, 10); /* an old one, from a log that is read again */
    web_rest(&web, 20);
    assert_true(stored_opens_with(second_key));
    fake_manager_lock_key(NULL, 30);
    web_until(&web, !stored_is_locked());
    assert_string_equal(swarm_header(swarm), "active/manager");
}

static void old_keys_do_not_come_back_after_a_restart(void **state)
{
    init_swarm();
    fake_manager_lock_key(second_key, 20);
    web_until(&web, stored_opens_with(second_key));
    close_node();
    open_node();
    assert_int_equal(unlock(second_key), 200);
    fake_manager_lock_key(first_key, 10); /* its store is rebuilt from the log */
    fake_manager_ready();
    web_rest(&web, 20);
    assert_true(stored_opens_with(second_key));
    fake_manager_lock_key(first_key, 40);
    web_until(&web, stored_opens_with(first_key));
}

static void key_that_is_told_before_the_manager_serves_is_written(void **state)
{
    init_swarm();
    close_node();
    open_node();
    fake_manager_lock_key(first_key, 10);
    fake_manager_ready();
    web_until(&web, stored_opens_with(first_key));
}

static void swarm_that_is_founded_locked_never_has_its_keys_on_the_disk(void **state)
{
    ask("POST", "/swarm/init", AUTOLOCK_BODY);
    web_until(&web, fake_manager.open);
    assert_true(fake_manager.has_unlock_key);
    fake_manager_ready();
    assert_int_equal(answer(), 200);
    assert_true(stored_opens_with(fake_manager.unlock_key));
    close_node();
    open_node();
    assert_string_equal(swarm_header(swarm), "locked");
    assert_int_equal(unlock(fake_manager.unlock_key), 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_node_setup, fake_node_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(versions_are_taken_off_and_checked),
        TEST(swarm_nouns_need_a_manager),
        TEST(manager_is_asked_with_everything_that_the_client_said),
        TEST(empty_answer_has_no_type),
        TEST(pages_are_asked_for_as_the_client_reads),
        TEST(client_sees_that_an_answer_broke_off),
        TEST(client_that_reads_slowly_is_not_sent_ahead),
        TEST(client_that_goes_away_drops_its_request),
        TEST(request_under_way_is_answered_when_the_manager_closes),
        TEST(engine_nouns_go_to_the_engine_with_or_without_a_swarm),
        TEST(network_is_the_managers_when_asked_for_as_the_swarms),
        TEST(init_founds_a_swarm_and_answers_with_the_node),
        TEST(node_in_a_swarm_founds_no_other),
        TEST(second_init_waits_for_nobody),
        TEST(bad_init_names_the_field_and_changes_nothing),
        TEST(manager_that_cannot_open_is_an_answered_error),
        TEST(manager_that_stops_while_founding_leaves_nothing),
        TEST(identity_that_cannot_be_written_undoes_the_founding),
        TEST(founding_goes_on_when_its_client_goes_away),
        TEST(closing_in_the_middle_of_a_founding_founds_nothing),
        TEST(what_a_killed_init_left_is_removed_at_the_next_start),
        TEST(node_comes_back_as_what_it_was),
        TEST(manager_that_does_not_get_ready_can_be_left_by_force),
        TEST(request_waits_for_a_manager_that_starts),
        TEST(client_that_leaves_while_it_waits_asks_nothing),
        TEST(manager_that_does_not_come_is_not_waited_for_for_ever),
        TEST(agent_works_before_its_manager_is_back),
        TEST(manager_that_stops_ends_the_process_with_its_reason),
        TEST(failed_swarm_can_be_left),
        TEST(damaged_identity_is_an_error_not_an_empty_node),
        TEST(node_in_no_swarm_cannot_leave),
        TEST(manager_leaves_by_force_alone),
        TEST(leaving_removes_the_containers_of_tasks_and_no_others),
        TEST(container_that_cannot_be_removed_does_not_keep_the_node),
        TEST(swarm_paths_take_posts_alone),
        TEST(certificate_is_renewed_by_the_own_manager_and_stored),
        TEST(node_that_was_removed_says_so),
        TEST(manager_that_was_off_past_its_certificate_comes_back),
        TEST(leaving_while_the_identity_is_written_leaves_nothing),
        TEST(managers_are_remembered_for_the_next_start),
        TEST(node_follows_a_change_of_roots),
        TEST(roots_that_our_certificate_does_not_lead_to_wait_for_another),
        TEST(shorter_lifetime_pulls_the_renewal_in),
        TEST(locked_manager_says_so_and_runs_nothing),
        TEST(tasks_of_a_locked_manager_run_on),
        TEST(locked_manager_dials_no_other_one_before_it_is_unlocked),
        TEST(right_key_unlocks_and_the_manager_resumes),
        TEST(wrong_key_is_refused_after_a_while_and_one_at_a_time),
        TEST(malformed_unlock_is_refused_at_once),
        TEST(node_that_is_no_manager_has_nothing_to_unlock),
        TEST(locked_manager_leaves_by_force_alone),
        TEST(identity_follows_the_unlock_key),
        TEST(old_keys_do_not_come_back_after_a_restart),
        TEST(key_that_is_told_before_the_manager_serves_is_written),
        TEST(swarm_that_is_founded_locked_never_has_its_keys_on_the_disk),
    };

    client.fd = -1;
    log_set_level(LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
