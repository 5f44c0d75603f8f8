/* Sessions with agents over TLS: what they are told, what they say, and when they are given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/assignment.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"
#include "tests/support/puppet.h"

static struct cluster c;
static struct puppet first;

static int setup(void **state)
{
    cluster_tuning = (struct manager_tuning){.registrations_per_node = 1000};
    cluster_found(&c, "/tmp", NULL);
    puppet_start(&first, &c);
    return 0;
}

/* Heartbeats every 100 ms: a node is silent after 300. */
static int setup_quick(void **state)
{
    cluster_tuning = (struct manager_tuning){.registrations_per_node = 1000, .orphan_ms = 300};
    cluster_found(&c, "/tmp",
                  "{\"ListenAddr\":\"127.0.0.1:0\",\"Spec\":{\"Dispatcher\":{\"HeartbeatPeriod\":100000000}}}");
    puppet_start(&first, &c);
    return 0;
}

/* As it is for users. */
static int setup_plain(void **state)
{
    cluster_tuning = (struct manager_tuning){0};
    cluster_found(&c, "/tmp", NULL);
    puppet_start(&first, &c);
    return 0;
}

/* Two registrations per second. */
static int setup_narrow(void **state)
{
    cluster_tuning = (struct manager_tuning){.registrations_per_node = 1000, .registrations_per_second = 2};
    cluster_found(&c, "/tmp", NULL);
    puppet_start(&first, &c);
    return 0;
}

static int teardown(void **state)
{
    puppet_end(&first);
    cluster_end(&c);
    return 0;
}

#define get(path)   cluster_expect(&c, 200, "GET", path, NULL)
#define format(...) arena_printf(&c.arena, __VA_ARGS__)

static void create(const char *name, unsigned replicas, const char *more)
{
    cluster_expect(&c, 201, "POST", "/services/create",
                   format("{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}%s},\"Mode\":{"
                          "\"Replicated\":{\"Replicas\":%u}}}",
                          name, more, replicas));
}

static const char *state_of(const struct puppet *p)
{
    return json_at(&c, get(format("/nodes/%s", p->node_id)), "Status.State");
}

static size_t count_tasks(const char *filters)
{
    return strtoul(json_at(&c, get(format("/tasks?filters=%s", filters)), "#"), NULL, 10);
}

/* --- down ------------------------------------------------------------------------------------------------- */

static void thousands_of_tasks_come_in_several_messages_that_fit_together(void **state)
{
    create("web", 3000, "");
    cluster_until(&c, puppet_running(&first) == 3000);
    unsigned before = first.messages;
    puppet_disconnect(&first);
    puppet_connect(&first);
    cluster_until(&c,
                  first.ready && assignment_complete(first.assignment)); /* number and digest fit, or it fails */
    assert_int_equal(first.tasks.count, 3000);
    assert_true(first.messages - before >= 3000 / 256);
    assert_int_equal(assignment_count(first.assignment), 3001); /* the spec, once */
}

static void spec_goes_with_its_last_task(void **state)
{
    create("web", 2, "");
    create("db", 1, "");
    cluster_until(&c, puppet_running(&first) == 3);
    assert_int_equal(assignment_count(first.assignment), 5);
    cluster_expect(&c, 200, "DELETE", "/services/web", NULL);
    cluster_until(&c, assignment_count(first.assignment) == 2);
    assert_int_equal(puppet_running(&first), 1);
}

static void set_default_log_driver(const char *driver)
{
    const char *version = json_at(&c, get("/swarm"), "Version.Index");

    cluster_expect(&c, 200, "POST", format("/swarm/update?version=%s", version),
                   format("{\"TaskDefaults\":{\"LogDriver\":%s}}", driver));
}

static void assert_log_driver(const char *task, const char *driver)
{
    cluster_until(&c, puppet_find(&first, task));
    const char *told = puppet_find(&first, task)->log_driver;
    assert_string_equal(told ? told : "", driver);
}

static void tasks_have_the_log_driver_that_was_the_default_when_they_were_created(void **state)
{
    create("early", 1, "");
    assert_log_driver("early.1.", "");
    set_default_log_driver("{\"Name\":\"json-file\",\"Options\":{\"max-size\":\"1m\"}}");
    assert_string_equal(json_at(&c, get("/swarm"), "Spec.TaskDefaults.LogDriver.Options.max-size"), "1m");
    create("late", 1, "");
    create("own", 1, ",\"LogDriver\":{\"Name\":\"none\"}");
    assert_log_driver("late.1.", "json-file,max-size=1m");
    assert_log_driver("own.1.", "");
    set_default_log_driver("{\"Name\":\"none\"}");
    create("last", 1, "");
    assert_log_driver("last.1.", "none");
    assert_log_driver("late.1.", "json-file,max-size=1m");
    assert_log_driver("early.1.", "");
    set_default_log_driver("{\"Name\":\"\"}");
    assert_null(json_at(&c, get("/swarm"), "Spec.TaskDefaults.LogDriver"));
    create("without", 1, "");
    assert_log_driver("without.1.", "");
    puppet_disconnect(&first);
    puppet_connect(&first);
    cluster_until(&c, first.ready && assignment_complete(first.assignment));
    assert_log_driver("last.1.", "none");
}

static void each_node_is_told_of_its_own_tasks(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    create("here", 4, ",\"Placement\":{\"Constraints\":[\"node.hostname==second\"]}");
    create("there", 3, ",\"Placement\":{\"Constraints\":[\"node.hostname==first\"]}");
    cluster_until(&c, puppet_running(&worker) == 4 && puppet_running(&first) == 3);
    assert_null(puppet_find(&worker, "there."));
    assert_null(puppet_find(&first, "here."));
    assert_int_equal(assignment_count(worker.assignment), 5);
    puppet_end(&worker);
}

static void task_is_told_once_the_scheduler_has_said_that_it_fits(void **state)
{
    /* One of each node's: it is made for the node, which has half of that memory. */
    cluster_expect(&c, 201, "POST", "/services/create",
                   "{\"Name\":\"large\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"},\"Resources\":{"
                   "\"Reservations\":{\"MemoryBytes\":2199023255552}}},\"Mode\":{\"Global\":{}}}");
    cluster_expect(&c, 201, "POST", "/services/create",
                   "{\"Name\":\"small\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"},\"Resources\":{"
                   "\"Reservations\":{\"MemoryBytes\":1073741824}}},\"Mode\":{\"Global\":{}}}");
    cluster_until(&c, count_tasks("{\"service\":[\"large\"]}") == 1 && puppet_running(&first) == 1);
    cluster_rest(&c, 50);
    assert_non_null(puppet_find(&first, "small."));
    assert_null(puppet_find(&first, "large."));
}

static void full_set_comes_again_when_the_agent_asks(void **state)
{
    AgentMessage message = AGENT_MESSAGE__INIT;

    create("web", 5, "");
    cluster_until(&c, puppet_running(&first) == 5);
    cluster_until(&c, first.acknowledged == first.reports);
    cluster_rest(&c, 20);
    unsigned before = first.messages;
    message.has_resync = true;
    message.resync = 1;
    assignment_new_session(first.assignment); /* it must begin with `begin` now */
    puppet_send(&first, &message);
    cluster_until(&c, first.messages > before && assignment_complete(first.assignment));
    assert_int_equal(first.tasks.count, 5);
    create("more", 1, "");
    cluster_until(&c, puppet_running(&first) == 6);
}

static void agent_that_does_not_read_gets_the_newest_state_once(void **state)
{
    rpc_pause(first.stream, true);
    for (int i = 0; i < 4; i++) {
        create(format("s%d", i), 1500, "");
        if (i != 3)
            cluster_expect(&c, 200, "DELETE", format("/services/s%d", i), NULL);
    }
    cluster_until(&c, count_tasks("{\"service\":[\"s3\"]}") == 1500);
    cluster_rest(&c, 100);
    get("/swarm"); /* nobody else waits for it */
    rpc_pause(first.stream, false);
    cluster_until(&c, puppet_running(&first) == 1500);
    cluster_until(&c, assignment_count(first.assignment) == 1501);
}

/* --- up --------------------------------------------------------------------------------------------------- */

static void reports_are_acknowledged_and_states_go_forward_only(void **state)
{
    first.mute = true;
    create("web", 1, ",\"RestartPolicy\":{\"Condition\":\"none\"}");
    cluster_until(&c, puppet_find(&first, "web.1."));
    struct puppet_task *t = puppet_find(&first, "web.1.");
    const char *path = format("/tasks/%s", t->key);
    static const struct {
        TaskState reported;
        const char *shown;
    } steps[] = {{TASK_STATE__PREPARING, "preparing"}, {TASK_STATE__ACCEPTED, "preparing"},
                 {TASK_STATE__RUNNING, "running"},     {TASK_STATE__STARTING, "running"},
                 {TASK_STATE__FAILED, "failed"},       {TASK_STATE__RUNNING, "failed"},
                 {TASK_STATE__COMPLETE, "failed"}};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        puppet_report(&first, t, steps[i].reported, NULL);
        cluster_until(&c, first.acknowledged == first.reports);
        assert_string_equal(json_at(&c, get(path), "Status.State"), steps[i].shown);
    }
}

static void reports_about_other_nodes_tasks_count_for_nothing(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    first.mute = true;
    create("web", 1, ",\"Placement\":{\"Constraints\":[\"node.hostname==first\"]}");
    cluster_until(&c, puppet_find(&first, "web.1."));
    const struct puppet_task *t = puppet_find(&first, "web.1.");
    TaskReport one = TASK_REPORT__INIT, *reports[] = {&one};
    StatusReport report = STATUS_REPORT__INIT;
    AgentMessage message = AGENT_MESSAGE__INIT;
    Status status = STATUS__INIT;
    uint8_t id[16];
    memcpy(id, t->id, sizeof(id));
    status.state = TASK_STATE__FAILED;
    one.task_id = (ProtobufCBinaryData){sizeof(id), id};
    one.status = &status;
    report.sequence = 77;
    report.tasks = reports;
    report.n_tasks = 1;
    message.report = &report;
    puppet_send(&worker, &message);
    cluster_until(&c, worker.acknowledged == 77);
    assert_string_equal(json_at(&c, get(format("/tasks/%s", t->key)), "Status.State"), "assigned");
    puppet_end(&worker);
}

static void malformed_messages_end_the_session(void **state)
{
    TaskReport one = TASK_REPORT__INIT, *reports[5000];
    StatusReport report = STATUS_REPORT__INIT;
    AgentMessage message = AGENT_MESSAGE__INIT;
    Status status = STATUS__INIT;
    uint8_t id[17] = {0};

    status.state = TASK_STATE__RUNNING;
    one.status = &status;
    for (size_t i = 0; i < ARRAY_SIZE(reports); i++)
        reports[i] = &one;
    report.tasks = reports;
    message.report = &report;
    const struct {
        size_t count, id_size;
    } cases[] = {{1, 17}, {1, 0}, {4097, 16}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        one.task_id = (ProtobufCBinaryData){cases[i].id_size, id};
        report.n_tasks = cases[i].count;
        report.sequence = i + 1;
        puppet_send(&first, &message);
        cluster_until(&c, !first.stream);
        assert_int_equal(first.ended.code, ERR_INVALID);
        puppet_disconnect(&first);
        puppet_connect(&first);
        cluster_until(&c, first.ready);
    }
    assert_int_equal(rpc_send(first.stream, "\xff\xff\xff\xff", 4), 0);
    cluster_until(&c, !first.stream);
    assert_int_equal(first.ended.code, ERR_INVALID);
}

/* --- lives ------------------------------------------------------------------------------------------------ */

static void newer_session_of_a_node_ends_the_older(void **state)
{
    struct puppet twin;

    create("web", 2, "");
    cluster_until(&c, puppet_running(&first) == 2);
    puppet_start(&twin, &c);
    cluster_until(&c, !first.stream);
    assert_int_equal(first.ended.code, ERR_CONFLICT);
    cluster_until(&c, twin.tasks.count == 2);
    cluster_rest(&c, 250); /* longer than suspicion lasts */
    assert_string_equal(state_of(&twin), "ready");
    puppet_end(&twin);
}

/* Its acknowledgements are due in the very turn in which it is ended. */
static void session_is_ended_with_much_under_way(void **state)
{
    struct puppet twin;

    create("web", 1, "");
    cluster_until(&c, puppet_running(&first) == 1 && first.acknowledged == first.reports);
    for (int round = 0; round < 10; round++) {
        struct puppet *old = round % 2 ? &twin : &first, *new = round % 2 ? &first : &twin;

        if (round == 0)
            puppet_prepare(&twin, &c);
        memcpy(twin.instance, first.instance, sizeof(twin.instance)); /* one agent that lost its connections */
        puppet_connect(new);
        while (old->stream) {
            if (!old->unsent.length)
                puppet_report(old, puppet_find(old, "web."), TASK_STATE__RUNNING, format("%d", round));
            uv_run(&c.loop, UV_RUN_NOWAIT);
        }
        assert_int_equal(old->ended.code, ERR_CONFLICT);
        cluster_until(&c, new->ready &&puppet_find(new, "web."));
        puppet_disconnect(old);
    }
    puppet_end(&twin);
}

static void silent_node_with_something_to_send_is_just_ended(void **state)
{
    unsigned made = 0;

    first.mute = true;
    for (int round = 0; round < 3; round++) {
        while (first.stream) /* what it is assigned goes on until it is found to be silent */
            create(format("s%u", made++), 1, "");
        assert_int_equal(first.ended.code, ERR_TIMEOUT);
        puppet_disconnect(&first);
        puppet_connect(&first);
        cluster_until(&c, first.ready);
    }
}

static void tasks_of_a_node_that_went_away_run_elsewhere(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    create("web", 6, ",\"RestartPolicy\":{\"Delay\":0}");
    cluster_until(&c, puppet_running(&worker) == 3 && puppet_running(&first) == 3);
    cluster_until(&c, worker.acknowledged == worker.reports);
    puppet_disconnect(&worker);
    cluster_until(&c, puppet_running(&first) == 6);
    assert_string_equal(state_of(&worker), "down");
    assert_string_equal(json_at(&c, get(format("/nodes/%s", worker.node_id)), "Status.Message"), "session closed");
    /* It comes back: what ran there is to be stopped, and nothing moves back. */
    puppet_connect(&worker);
    cluster_until(&c, worker.ready && puppet_running(&worker) == 0);
    assert_string_equal(state_of(&worker), "ready");
    assert_int_equal(puppet_running(&first), 6);
    puppet_end(&worker);
}

static void node_that_comes_back_at_once_keeps_its_tasks(void **state)
{
    create("web", 3, "");
    cluster_until(&c, puppet_running(&first) == 3 && first.acknowledged == first.reports);
    for (int i = 0; i < 5; i++) {
        puppet_disconnect(&first);
        puppet_connect(&first);
        cluster_until(&c, first.ready);
    }
    cluster_rest(&c, 250);
    assert_string_equal(state_of(&first), "ready");
    assert_int_equal(count_tasks("{}"), 3);
    assert_int_equal(puppet_running(&first), 3);
}

static void wish_role(const struct puppet *p, const char *role)
{
    const char *path = format("/nodes/%s", p->node_id);

    cluster_expect(&c, 200, "POST", format("%s/update?version=%s", path, json_at(&c, get(path), "Version.Index")),
                   format("{\"Role\":\"%s\",\"Availability\":\"active\"}", role));
}

/* Its session goes on through both changes, and when it comes back with the certificate of its new role. */
static void node_whose_role_changes_keeps_its_tasks(void **state)
{
    struct puppet worker;
    struct err e;

    puppet_join(&worker, &c, "second");
    create("web", 2, ",\"Placement\":{\"Constraints\":[\"node.hostname==second\"]}");
    cluster_until(&c, puppet_running(&worker) == 2 && worker.acknowledged == worker.reports);
    wish_role(&worker, "manager");
    puppet_disconnect(&worker);
    assert_int_equal(puppet_renew(&worker, &e), 0);
    puppet_connect(&worker);
    cluster_until(&c, worker.ready);
    wish_role(&worker, "worker");
    cluster_rest(&c, 400);
    assert_non_null(worker.stream);
    assert_string_equal(state_of(&worker), "ready");
    assert_int_equal(puppet_renew(&worker, &e), 0);
    puppet_disconnect(&worker);
    puppet_connect(&worker);
    cluster_until(&c, worker.ready);
    assert_int_equal(puppet_running(&worker), 2);
    assert_int_equal(count_tasks("{}"), 2);
    puppet_end(&worker);
}

/* A machine that was cloned: the newer one is the node, and they do not displace each other for ever. */
static void older_twin_is_kept_away_while_the_newer_is_there(void **state)
{
    struct puppet twin;

    puppet_start(&twin, &c);
    cluster_until(&c, !first.stream);
    puppet_disconnect(&first);
    puppet_connect(&first);
    cluster_until(&c, first.retry_ms);
    assert_false(first.ready);
    assert_true(first.retry_ms >= 10000);
    assert_true(twin.ready);
    puppet_disconnect(&first);
    /* The newer one only lost its connection. */
    puppet_disconnect(&twin);
    puppet_connect(&twin);
    cluster_until(&c, twin.ready);
    puppet_connect(&first);
    cluster_until(&c, first.ready || first.retry_ms); /* whoever comes while nobody is there is not kept away */
    puppet_disconnect(&first);
    puppet_disconnect(&twin);
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    puppet_end(&twin);
}

static void fourth_registration_in_eight_seconds_has_to_wait(void **state)
{
    create("web", 1, "");
    cluster_until(&c, puppet_running(&first) == 1 && first.acknowledged == first.reports);
    for (int i = 0; i < 2; i++) {
        puppet_disconnect(&first);
        puppet_connect(&first);
        cluster_until(&c, first.ready);
    }
    puppet_disconnect(&first);
    puppet_connect(&first);
    cluster_until(&c, first.ready || first.retry_ms);
    assert_false(first.ready);
    assert_in_range(first.retry_ms, 1, 8000);
    cluster_rest(&c, 300);                            /* longer than suspicion lasts */
    assert_string_equal(state_of(&first), "unknown"); /* it is there, as it has shown */
    assert_int_equal(count_tasks("{}"), 1);
}

static void storm_is_let_in_at_the_rate_and_nobody_is_down_for_it(void **state)
{
    enum { WORKERS = 6 };
    static struct puppet workers[WORKERS];
    unsigned in = 0, sent_away = 0;

    for (int i = 0; i < WORKERS; i++) { /* by and by */
        puppet_prepare_worker(&workers[i], &c, format("w%d", i));
        puppet_connect(&workers[i]);
        for (;;) {
            cluster_until(&c, workers[i].ready || workers[i].retry_ms);
            if (workers[i].ready)
                break;
            puppet_disconnect(&workers[i]);
            cluster_rest(&c, workers[i].retry_ms);
            puppet_connect(&workers[i]);
        }
    }
    cluster_rest(&c, 1100); /* the bucket is full again: two */
    for (int i = 0; i < WORKERS; i++)
        rpc_conn_close(workers[i].conn);
    for (int i = 0; i < WORKERS; i++)
        cluster_until(&c, !workers[i].conn);
    for (int i = 0; i < WORKERS; i++)
        puppet_connect(&workers[i]);
    for (int i = 0; i < WORKERS; i++) {
        cluster_until(&c, workers[i].ready || workers[i].retry_ms);
        in += workers[i].ready;
        sent_away += workers[i].retry_ms > 0;
    }
    assert_true(in >= 2 && sent_away >= 1);
    assert_int_equal(in + sent_away, WORKERS);
    cluster_rest(&c, 300);
    for (int i = 0; i < WORKERS; i++) {
        assert_string_not_equal(state_of(&workers[i]), "down");
        puppet_end(&workers[i]);
    }
}

static void tasks_of_a_node_that_is_down_for_long_are_given_up(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    create("web", 1, ",\"Placement\":{\"Constraints\":[\"node.hostname==second\"]}");
    cluster_until(&c, puppet_running(&worker) == 1 && worker.acknowledged == worker.reports);
    const char *path = format("/tasks/%s", puppet_find(&worker, "web.1.")->key);
    puppet_disconnect(&worker);
    cluster_until(&c, strcmp(state_of(&worker), "down") == 0);
    assert_string_equal(json_at(&c, get(path), "Status.State"), "running"); /* it may come back with it */
    cluster_until(&c, strcmp(json_at(&c, get(path), "Status.State"), "orphaned") == 0);
    puppet_end(&worker);
}

static void silent_node_is_down_after_its_grace(void **state)
{
    cluster_until(&c, strcmp(state_of(&first), "down") == 0); /* it has a connection, but sends nothing */
    assert_string_equal(json_at(&c, get("/nodes/first"), "Status.Message"), "heartbeat failure");
    cluster_until(&c, !first.stream);
    assert_int_equal(first.ended.code, ERR_TIMEOUT);
}

static void heartbeats_keep_a_node_alive(void **state)
{
    assert_true(first.heartbeat_ms >= 90 && first.heartbeat_ms <= 110);
    for (int i = 0; i < 40; i++) {
        puppet_heartbeat(&first);
        cluster_rest(&c, 25);
    }
    assert_true(first.ready);
    assert_string_equal(state_of(&first), "ready");
}

static void changed_period_reaches_those_who_are_there(void **state)
{
    static const struct {
        const char *period_ns;
        int64_t least_ms, most_ms;
    } cases[] = {{"200000000", 180, 220}, {"20000000000", 18000, 22000}, {"100000000", 90, 110}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cluster_expect(&c, 200, "POST",
                       format("/swarm/update?version=%s", json_at(&c, get("/swarm"), "Version.Index")),
                       format("{\"Dispatcher\":{\"HeartbeatPeriod\":%s}}", cases[i].period_ns));
        cluster_until(&c, first.heartbeat_ms >= cases[i].least_ms && first.heartbeat_ms <= cases[i].most_ms);
    }
    assert_true(first.ready);
    cluster_until(&c, strcmp(state_of(&first), "down") == 0); /* and holds: this one sends none */
}

static void many_that_close_at_once_are_given_the_grace(void **state)
{
    enum { WORKERS = 11 };
    static struct puppet workers[WORKERS];

    for (int i = 0; i < WORKERS; i++)
        puppet_join(&workers[i], &c, format("w%d", i));
    for (int i = 0; i < WORKERS; i++)
        rpc_conn_close(workers[i].conn);
    for (int i = 0; i < WORKERS; i++)
        cluster_until(&c, !workers[i].conn);
    cluster_rest(&c, 400);
    for (int i = 0; i < WORKERS; i++) { /* it is rather our network: five seconds are the period here */
        assert_string_equal(state_of(&workers[i]), "ready");
        puppet_end(&workers[i]);
    }
}

static void nodes_are_expected_back_after_the_manager_restarted(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    cluster_stop(&c);
    cluster_start(&c);
    cluster_until(&c, !first.conn && !worker.conn);
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    assert_string_equal(state_of(&worker), "unknown"); /* it may still come */
    for (int i = 0; i < 60 && strcmp(state_of(&worker), "down") != 0; i++) {
        puppet_heartbeat(&first);
        cluster_rest(&c, 50);
    }
    assert_string_equal(state_of(&worker), "down");
    assert_string_equal(state_of(&first), "ready");
    puppet_end(&worker);
}

static void description_of_a_machine_is_kept_up_to_date(void **state)
{
    const char *version = json_at(&c, get("/nodes/first"), "Version.Index");

    puppet_disconnect(&first);
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    assert_string_equal(json_at(&c, get("/nodes/first"), "Version.Index"),
                        version); /* nothing is new: nothing written */
    puppet_disconnect(&first);
    free(first.hostname);
    first.hostname = mem_strdup("renamed");
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    assert_string_equal(json_at(&c, get("/nodes/renamed"), "ID"), first.node_id);
    cluster_expect(&c, 404, "GET", "/nodes/first", NULL);
}

static const Node *row_of(const struct puppet *p)
{
    const Node *node = arena_unpack(&c.arena, &node__descriptor, buf_bytes(&p->row), p->row.length);

    assert_non_null(node);
    return node;
}

static void update_node(const struct puppet *p, const char *spec)
{
    const char *version = json_at(&c, get(format("/nodes/%s", p->node_id)), "Version.Index");

    cluster_expect(&c, 200, "POST", format("/nodes/%s/update?version=%s", p->node_id, version), spec);
}

static void node_is_told_of_its_own_row_when_people_change_it(void **state)
{
    struct puppet worker;
    uint8_t id[16];

    puppet_join(&worker, &c, "second");
    cluster_until(&c, worker.rows == 1 && first.rows == 1);
    assert_true(ident_parse(worker.node_id, id));
    assert_memory_equal(row_of(&worker)->id.data, id, sizeof(id));
    assert_null(row_of(&worker)->manager);
    assert_int_equal(row_of(&first)->manager->raft_id, 1);
    update_node(&worker, "{\"Role\":\"worker\",\"Availability\":\"pause\"}");
    cluster_until(&c, worker.rows == 2);
    assert_int_equal(row_of(&worker)->spec->availability, NODE_AVAILABILITY__PAUSE);
    update_node(&worker, "{\"Role\":\"worker\",\"Availability\":\"active\",\"Labels\":{\"rack\":\"7\"}}");
    cluster_until(&c, worker.rows == 3);
    assert_string_equal(row_of(&worker)->spec->labels[0]->value, "7");
    /* Nor is it told of others' rows, nor of what it has said itself. */
    create("web", 4, "");
    cluster_until(&c, puppet_running(&worker) == 2 && puppet_running(&first) == 2);
    puppet_disconnect(&first);
    cluster_until(&c, strcmp(state_of(&first), "down") == 0);
    puppet_connect(&first);
    cluster_until(&c, first.rows == 2);
    assert_int_equal(worker.rows, 3);
    puppet_end(&worker);
}

static void agents_are_told_who_the_managers_are(void **state)
{
    const char *address = json_at(&c, get(format("/nodes/%s", first.node_id)), "ManagerStatus.Addr");

    cluster_until(&c, first.managers[0]);
    assert_string_equal(first.managers, format("%s ", address));
}

/* It has seen what came after --force-new-cluster, which this manager knows nothing of. */
static void agent_of_a_later_epoch_is_not_served(void **state)
{
    assert_int_equal(first.epoch, 0);
    puppet_disconnect(&first);
    first.epoch = 1;
    puppet_connect(&first);
    cluster_until(&c, first.ends);
    assert_int_equal(first.ended.code, ERR_DENIED);
    assert_false(first.ready);
    puppet_disconnect(&first);
    first.epoch = 0;
    puppet_connect(&first);
    cluster_until(&c, first.ready);
}

/* --- logs -------------------------------------------------------------------------------------------------- */

struct intruder {
    struct rpc_stream *stream;
    bool ended;
    struct err e;
};

static void on_intruder_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct intruder *i = ctx;

    i->ended = true;
    i->e = *e;
}

static void intrude(struct puppet *p, uint64_t subscription, struct intruder *i)
{
    struct rpc_stream_events events = {.ctx = i, .on_end = on_intruder_end};
    LogStart start = LOG_START__INIT;
    uint8_t packed[32];
    struct err e;

    *i = (struct intruder){0};
    start.subscription = subscription;
    size_t size = log_start__pack(&start, packed);
    if (rpc_open(p->conn, METHOD_LOGS, METHOD_LOGS_BYTES_MAX, packed, size, &events, &i->stream, &e) < 0)
        fail_msg("%s", e.text);
    cluster_until(&c, i->ended);
}

static void only_the_node_that_was_asked_may_send_a_log_and_only_once(void **state)
{
    struct intruder intruder;
    struct puppet worker;
    struct answer a;

    puppet_join(&worker, &c, "second");
    create("web", 1, ",\"Placement\":{\"Constraints\":[\"node.hostname==first\"]}");
    cluster_until(&c, puppet_running(&first) == 1 && first.acknowledged == first.reports);
    first.no_logs = true;
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    cluster_until(&c, !list_empty(&first.logs));
    const struct puppet_log *l = list_first(&first.logs, struct puppet_log, link);
    intrude(&worker, l->subscription, &intruder);
    assert_int_equal(intruder.e.code, ERR_DENIED);
    intrude(&first, l->subscription + 1, &intruder);
    assert_int_equal(intruder.e.code, ERR_DENIED);
    assert_false(a.done);
    /* A chunk that is none ends the log, not the manager. */
    struct rpc_stream_events events = {.ctx = &intruder, .on_end = on_intruder_end};
    LogStart start = LOG_START__INIT;
    uint8_t packed[32];
    struct err e;
    intruder = (struct intruder){0};
    start.subscription = l->subscription;
    size_t size = log_start__pack(&start, packed);
    assert_int_equal(
        rpc_open(first.conn, METHOD_LOGS, METHOD_LOGS_BYTES_MAX, packed, size, &events, &intruder.stream, &e), 0);
    struct intruder again;
    cluster_rest(&c, 20);
    intrude(&first, l->subscription, &again); /* it has its stream */
    assert_int_equal(again.e.code, ERR_DENIED);
    assert_int_equal(rpc_send(intruder.stream, "\xff\xff", 2), 0);
    cluster_until(&c, a.done && intruder.ended);
    assert_non_null(strstr(buf_str(&a.body) + 8, "malformed log"));
    assert_true(first.ready); /* the session has nothing to do with it */
    answer_fini(&a);
    puppet_end(&worker);
}

static void log_that_ends_for_several_reasons_at_once_ends_once(void **state)
{
    struct answer a;

    create("web", 1, "");
    cluster_until(&c, puppet_running(&first) == 1 && first.acknowledged == first.reports);
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    cluster_until(&c, !list_empty(&first.logs) && list_first(&first.logs, struct puppet_log, link)->stream);
    cluster_rest(&c, 20);
    struct puppet_log *l = list_first(&first.logs, struct puppet_log, link);
    assert_int_equal(rpc_send(l->stream, "\xff\xff", 2), 0);
    rpc_end(first.stream, NULL); /* in the same breath */
    cluster_until(&c, a.done && !l->stream);
    puppet_disconnect(&first);
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    answer_fini(&a);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)
#define QUICK(name) cmocka_unit_test_setup_teardown(name, setup_quick, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(thousands_of_tasks_come_in_several_messages_that_fit_together),
        TEST(spec_goes_with_its_last_task),
        TEST(tasks_have_the_log_driver_that_was_the_default_when_they_were_created),
        TEST(each_node_is_told_of_its_own_tasks),
        TEST(task_is_told_once_the_scheduler_has_said_that_it_fits),
        TEST(full_set_comes_again_when_the_agent_asks),
        TEST(agent_that_does_not_read_gets_the_newest_state_once),
        TEST(reports_are_acknowledged_and_states_go_forward_only),
        TEST(reports_about_other_nodes_tasks_count_for_nothing),
        TEST(malformed_messages_end_the_session),
        TEST(newer_session_of_a_node_ends_the_older),
        TEST(session_is_ended_with_much_under_way),
        QUICK(silent_node_with_something_to_send_is_just_ended),
        TEST(tasks_of_a_node_that_went_away_run_elsewhere),
        TEST(node_whose_role_changes_keeps_its_tasks),
        TEST(node_that_comes_back_at_once_keeps_its_tasks),
        TEST(older_twin_is_kept_away_while_the_newer_is_there),
        cmocka_unit_test_setup_teardown(fourth_registration_in_eight_seconds_has_to_wait, setup_plain, teardown),
        cmocka_unit_test_setup_teardown(storm_is_let_in_at_the_rate_and_nobody_is_down_for_it, setup_narrow,
                                        teardown),
        QUICK(tasks_of_a_node_that_is_down_for_long_are_given_up),
        QUICK(silent_node_is_down_after_its_grace),
        QUICK(heartbeats_keep_a_node_alive),
        TEST(changed_period_reaches_those_who_are_there),
        TEST(many_that_close_at_once_are_given_the_grace),
        QUICK(nodes_are_expected_back_after_the_manager_restarted),
        TEST(description_of_a_machine_is_kept_up_to_date),
        TEST(node_is_told_of_its_own_row_when_people_change_it),
        TEST(agents_are_told_who_the_managers_are),
        TEST(agent_of_a_later_epoch_is_not_served),
        TEST(only_the_node_that_was_asked_may_send_a_log_and_only_once),
        TEST(log_that_ends_for_several_reasons_at_once_ends_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
