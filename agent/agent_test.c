/* The agent as a whole, between a manager and an engine that the test plays: what is assigned runs, what is
 * reported arrives, and neither a lost session, nor a killed agent, nor a damaged ledger stops or doubles anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "agent/agent.h"
#include "manager/manager.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "tests/support/assigner.h"
#include "tests/support/fake_engine.h"
#include "tests/support/fake_session.h"
#include "tests/support/job.h"

#define NODE    "0000000000000000000000abc"
#define CLUSTER "0000000000000000000000xyz"

static uv_loop_t loop;
static struct fake_world *world;
static struct engine *engine;
static struct agent *agent;
static struct assigner manager;
static char *dir;
static char ids[16][26]; /* of tasks 1, 2... */
static int64_t mono_shift_us;
static unsigned reports, statuses, managers_changed;
static uint64_t epoch; /* as told last */
static uint64_t last_sequence;
static bool acknowledge, closed;
static unsigned descriptions; /* sent after the session was opened */
static uint64_t told_issuer, told_trust;

static int64_t fake_mono_us(struct clock *c)
{
    return clock_mono_us(clock_real()) + mono_shift_us;
}

static int64_t fake_wall_ms(struct clock *c)
{
    return 1790000000000;
}

static struct clock fake_clock = {fake_mono_us, fake_wall_ms};

static void turn(void)
{
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void until_turned(const bool *flag)
{
    while (!*flag)
        uv_run(&loop, UV_RUN_ONCE);
}

static void on_sent(void *ctx, const AgentMessage *message)
{
    if (message->description) {
        descriptions++;
        told_issuer = message->description->certificate_issuer;
        told_trust = message->description->trust;
    }
    if (!message->report)
        return;
    reports++;
    statuses += assigner_report(&manager, message->report);
    last_sequence = message->report->sequence;
}

static void acknowledge_reports(void)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    message.has_report_ack = true;
    message.report_ack = last_sequence;
    fake_session_deliver(&message);
}

static void on_managers(void *ctx, char *const *managers, size_t count)
{
    managers_changed++;
}

static void on_epoch(void *ctx, uint64_t to)
{
    epoch = to;
}

static void open_agent(void)
{
    Identity identity = IDENTITY__INIT;
    struct agent_config config = {.loop = &loop,
                                  .engine = engine,
                                  .clock = &fake_clock,
                                  .entropy = entropy_real(),
                                  .data_dir = dir,
                                  .identity = &identity,
                                  .on_managers = on_managers,
                                  .on_epoch = on_epoch};
    struct err e;
    const char *managers[] = {FAKE_MANAGER};

    identity.node_id = (char *)NODE;
    identity.cluster_id = (char *)CLUSTER;
    identity.role = NODE_ROLE__WORKER;
    assert_int_equal(tls_new(NULL, NULL, NULL, &config.tls, &e), 0);
    if (agent_open(&config, &agent, &e) < 0)
        fail_msg("%s", e.text);
    tls_unref(config.tls);
    assert_int_equal(agent_connect(agent, managers, 1, &e), 0);
    turn();
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void close_agent(void)
{
    closed = false;
    agent_close(agent, on_closed, NULL);
    until_turned(&closed);
    agent = NULL;
}

/* As after SIGKILL, seen from outside: another process finds the same world, and nothing was said in farewell. */
static void kill_agent(void)
{
    close_agent();
    fake_engine_free(engine);
    engine = fake_engine_new(&loop, world);
}

static int setup(void **state)
{
    uint8_t id[16];

    memset(&manager, 0, sizeof(manager));
    fake_session_reset();
    fake_session.on_sent = on_sent;
    reports = statuses = managers_changed = descriptions = 0;
    epoch = 0;
    last_sequence = 0;
    mono_shift_us = 0;
    acknowledge = false;
    for (uint32_t i = 1; i < ARRAY_SIZE(ids); i++)
        assigner_id(i, id, ids[i]);
    dir = scratch_new("agent");
    world = mem_alloc(sizeof(*world));
    assert_int_equal(uv_loop_init(&loop), 0);
    engine = fake_engine_new(&loop, world);
    fake_world_add_image(world, "web:1");
    open_agent();
    return 0;
}

static int teardown(void **state)
{
    if (agent)
        close_agent();
    fake_engine_free(engine);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(world);
    scratch_remove(dir);
    return 0;
}

/* Everything that is assigned, in one message. */
static void send_full(void)
{
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    fake_session_deliver(assigner_full(&manager, &at, SIZE_MAX, &a));
    turn();
}

static void send_changes(void)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    ManagerMessage *message = assigner_changes(&manager, &a);
    assert_non_null(message);
    fake_session_deliver(message);
    turn();
}

static void begin_session(void)
{
    fake_session_ready();
    send_full();
}

static void end_operations(void)
{
    fake_engine_end_all(engine);
    turn();
}

static TaskState state_of(uint32_t number)
{
    return assigner_find(&manager, number)->state;
}

static const char *err_of(uint32_t number)
{
    return assigner_find(&manager, number)->err;
}

/* A task that runs, and the manager knows it. */
static void run_task(uint32_t number)
{
    (void)assigner_add(&manager, number, TASK_STATE__RUNNING);
    if (!fake_session.ready)
        begin_session();
    else
        send_changes();
    end_operations();
    assert_int_equal(state_of(number), TASK_STATE__RUNNING);
    assert_true(fake_engine_alive(engine, ids[number]));
}

static bool ledger_has(const char *kind, uint32_t number)
{
    AUTO_FREE
    char *path = number && strcmp(kind, "specs") == 0 ? mem_printf("%s/swarm/specs/%s.%u", dir, ids[number], number)
                                                      : mem_printf("%s/swarm/tasks/%s", dir, ids[number]);

    return access(path, F_OK) == 0;
}

/* --- the usual ------------------------------------------------------------------------------------- */

static void what_is_assigned_runs_and_what_is_removed_leaves_nothing(void **state)
{
    run_task(1);
    assert_int_equal(fake_world_starts(world, ids[1]), 1);
    assert_true(ledger_has("tasks", 1) && ledger_has("specs", 1));
    assigner_find(&manager, 1)->desired = TASK_STATE__SHUTDOWN;
    send_changes();
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__SHUTDOWN);
    assert_false(fake_engine_alive(engine, ids[1]));
    assigner_find(&manager, 1)->is_assigned = false;
    send_changes();
    end_operations();
    assert_int_equal(fake_world_count(world), 0);
    assert_false(ledger_has("tasks", 1) || ledger_has("specs", 1));
}

static void statuses_of_one_turn_travel_together_and_only_the_newest(void **state)
{
    for (uint32_t i = 1; i <= 5; i++)
        (void)assigner_add(&manager, i, TASK_STATE__RUNNING);
    fake_session_ready();
    assert_int_equal(reports, 0);
    send_full();
    assert_int_equal(reports, 1); /* accepted, preparing, ready and starting of five tasks in one message */
    assert_int_equal(statuses, 5);
    assert_int_equal(state_of(5), TASK_STATE__STARTING);
}

static void managers_of_the_cluster_are_passed_on(void **state)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    char *managers[] = {(char *)"10.0.0.7:2377", (char *)"10.0.0.8:2377"};

    fake_session_ready();
    message.managers = managers;
    message.n_managers = 2;
    fake_session_deliver(&message);
    assert_int_equal(managers_changed, 1);
    assert_int_equal(fake_session.manager_count, 2);
    assert_string_equal(fake_session.managers[1], "10.0.0.8:2377");
    assert_string_equal(agent_manager(agent), FAKE_MANAGER);
    fake_session_lost();
    assert_null(agent_manager(agent));
}

static void later_epoch_is_kept_with_the_identity(void **state)
{
    assert_int_equal(fake_session.epoch, 0);
    fake_session.epoch = 3;
    begin_session();
    assert_int_equal(epoch, 3);
    fake_session_lost();
    epoch = 0;
    fake_session_ready();
    assert_int_equal(epoch, 0); /* it is known */
}

static void session_is_held_for_the_daemon_after_this_one(void **state)
{
    assert_int_equal(fake_engine_held(engine), -1);
    begin_session();
    assert_int_equal(fake_engine_held(engine), FAKE_SESSION_FD);
    fake_session_lost();
    assert_int_equal(fake_engine_held(engine), -1); /* nobody may take a lost one for one that is silent */
    fake_session_ready();
    agent_leave_session(agent);
    close_agent();
    assert_true(fake_session.abandoned);
    assert_int_equal(fake_engine_held(engine), FAKE_SESSION_FD);
    open_agent();
    assert_int_equal(fake_engine_held(engine), FAKE_SESSION_FD); /* until there is another */
    begin_session();
    fake_session.abandoned = false;
    close_agent(); /* it leaves the swarm */
    assert_false(fake_session.abandoned);
    assert_int_equal(fake_engine_held(engine), -1);
    open_agent();
}

static void set_certificate(const struct manager_founding *founding)
{
    Identity identity = IDENTITY__INIT;
    struct tls *tls;

    identity.certificate_pem = founding->certificate_pem;
    identity.root_pem = founding->root_pem;
    assert_int_equal(tls_new(founding->certificate_pem, founding->key_pem, founding->root_pem, &tls, NULL), 0);
    agent_set_tls(agent, tls, &identity);
    tls_unref(tls);
    turn();
}

static void new_certificate_is_handed_to_the_session_and_stops_nothing(void **state)
{
    struct manager_founding founding, other;
    uint64_t issuer;

    assert_int_equal(manager_found(1790000000000, 7776000000, &founding, NULL), 0);
    assert_int_equal(manager_found(1790000000000, 7776000000, &other, NULL), 0);
    run_task(1);
    set_certificate(&founding);
    assert_true(fake_session.tls_set);
    assert_int_equal(fake_session.restarts, 0);
    assert_int_equal(fake_engine_pending(engine), 0);
    assert_true(fake_engine_alive(engine, ids[1]));
    assert_int_equal(descriptions, 1); /* the manager learns whose certificate it is */
    assert_int_equal(cert_key_digest(founding.root_pem, &issuer, NULL), 0);
    assert_int_equal(told_issuer, issuer);
    assert_int_equal(told_trust, cert_trust_digest(founding.root_pem));
    set_certificate(&founding); /* nothing that it would have to know has changed */
    assert_int_equal(descriptions, 1);
    fake_session.credit = 0;
    set_certificate(&other);
    assert_int_equal(fake_session.restarts, 1); /* it could not be told: a new session begins with it */
    manager_founding_free(&founding);
    manager_founding_free(&other);
}

/* --- managers that are away ------------------------------------------------------------------------ */

static void without_a_manager_everything_runs_on(void **state)
{
    run_task(1);
    fake_session_lost();
    turn();
    kill_agent();
    open_agent(); /* and none is reached */
    assert_int_equal(fake_engine_pending(engine), 0);
    assert_true(fake_engine_alive(engine, ids[1]));
    assert_int_equal(fake_world_starts(world, ids[1]), 1);
}

static void without_a_manager_what_was_prepared_is_brought_up(void **state)
{
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    assert_string_equal(fake_engine_what(engine, 0), "start");
    kill_agent(); /* before it started */
    open_agent();
    end_operations();
    assert_true(fake_engine_alive(engine, ids[1]));
    assert_int_equal(fake_world_count(world), 1);
}

static void exit_without_a_manager_is_reported_when_there_is_one(void **state)
{
    run_task(1);
    acknowledge_reports();
    fake_session_lost();
    fake_engine_exit(engine, ids[1], 3);
    turn();
    begin_session();
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "task: non-zero exit (3)");
}

static void what_was_not_acknowledged_is_said_again(void **state)
{
    run_task(1);
    unsigned before = statuses;
    fake_session_lost();
    fake_session_ready();
    assert_int_equal(statuses, before + 1); /* not yet durable there, for all we know */
    acknowledge_reports();
    fake_session_lost();
    fake_session_ready();
    assert_int_equal(statuses, before + 1);
}

static void status_that_no_manager_has_survives_a_kill(void **state)
{
    run_task(1);
    acknowledge_reports();
    fake_session_lost();
    fake_engine_exit(engine, ids[1], 0);
    turn();
    kill_agent();
    open_agent();
    begin_session();
    assert_int_equal(state_of(1), TASK_STATE__COMPLETE);
}

static void session_that_breaks_in_a_full_set_stops_nothing(void **state)
{
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    run_task(1);
    run_task(2);
    run_task(3);
    fake_session_lost();
    fake_session_ready();
    fake_session_deliver(assigner_full(&manager, &at, 1, &a)); /* the first of three */
    turn();
    fake_session_lost();
    turn();
    assert_int_equal(fake_engine_pending(engine), 0);
    assert_true(fake_engine_alive(engine, ids[3]));
}

static void full_set_in_pieces_removes_what_it_did_not_name_at_its_end_alone(void **state)
{
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    run_task(1);
    run_task(2);
    run_task(3);
    fake_session_lost();
    assigner_find(&manager, 1)->is_assigned = false;
    fake_session_ready();
    for (int i = 0; at < ASSIGNER_TASKS_MAX; i++) {
        assert_int_equal(fake_engine_pending(engine), 0);
        fake_session_deliver(assigner_full(&manager, &at, 1, &a));
        turn();
    }
    end_operations();
    assert_null(fake_engine_of(engine, ids[1]));
    assert_true(fake_engine_alive(engine, ids[2]) && fake_engine_alive(engine, ids[3]));
}

/* --- messages that do not fit ---------------------------------------------------------------------- */

static void the_same_set_twice_changes_nothing(void **state)
{
    run_task(1);
    unsigned before = fake_session.sent;
    send_full();
    send_full();
    assert_int_equal(fake_engine_pending(engine), 0);
    assert_int_equal(fake_world_starts(world, ids[1]), 1);
    assert_int_equal(fake_session.sent, before);
}

static void message_that_comes_twice_asks_for_the_full_set(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    run_task(1);
    assigner_find(&manager, 1)->desired = TASK_STATE__SHUTDOWN;
    ManagerMessage *message = assigner_changes(&manager, &a);
    fake_session_deliver(message);
    turn();
    assert_int_equal(fake_session.resyncs, 0);
    fake_session_deliver(message);
    assert_int_equal(fake_session.resyncs, 1);
    send_full();
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__SHUTDOWN);
    assert_int_equal(fake_session.restarts, 0);
}

static void gap_asks_for_the_full_set_and_nothing_of_it_is_used(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    run_task(1);
    assigner_find(&manager, 1)->desired = TASK_STATE__SHUTDOWN;
    ManagerMessage *message = assigner_changes(&manager, &a);
    message->assignment->sequence++;
    fake_session_deliver(message);
    turn();
    assert_int_equal(fake_session.resyncs, 1);
    assert_int_equal(fake_engine_pending(engine), 0);
    message->assignment->sequence++;
    fake_session_deliver(message); /* what was on its way meanwhile: asked for once is enough */
    turn();
    assert_int_equal(fake_session.resyncs, 1);
    send_full();
    assert_string_equal(fake_engine_what(engine, 0), "stop");
    assigner_find(&manager, 1)->desired = TASK_STATE__REMOVE;
    ManagerMessage *next = assigner_changes(&manager, &a);
    next->assignment->sequence++;
    fake_session_deliver(next);
    assert_int_equal(fake_session.resyncs, 2); /* another gap */
}

static void increment_before_the_full_set_is_a_stale_sessions(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    run_task(1);
    assigner_find(&manager, 1)->desired = TASK_STATE__SHUTDOWN;
    ManagerMessage *message = assigner_changes(&manager, &a);
    fake_session_lost();
    fake_session_ready();
    fake_session_deliver(message);
    turn();
    assert_int_equal(fake_session.resyncs, 1);
    assert_int_equal(fake_engine_pending(engine), 0);
    assert_true(fake_engine_alive(engine, ids[1]));
}

static void set_that_differs_from_the_managers_is_asked_for_anew(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    run_task(1);
    (void)assigner_add(&manager, 2, TASK_STATE__RUNNING);
    ManagerMessage *message = assigner_changes(&manager, &a);
    message->assignment->digest ^= 1;
    fake_session_deliver(message);
    turn();
    assert_int_equal(fake_session.resyncs, 1);
    send_full();
    end_operations();
    assert_true(fake_engine_alive(engine, ids[1]) && fake_engine_alive(engine, ids[2]));
    assert_int_equal(fake_world_starts(world, ids[2]), 1);
}

static void full_outbox_when_asking_anew_begins_a_new_session(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    run_task(1);
    (void)assigner_add(&manager, 2, TASK_STATE__RUNNING);
    ManagerMessage *message = assigner_changes(&manager, &a);
    message->assignment->digest ^= 1;
    fake_session.credit = 0;
    fake_session_deliver(message);
    assert_int_equal(fake_session.restarts, 1);
}

static void malformed_assignment_ends_the_session_and_stops_nothing(void **state)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    run_task(1);
    (void)assigner_add(&manager, 2, TASK_STATE__RUNNING);
    ManagerMessage *message = assigner_changes(&manager, &a);
    message->assignment->items[0]->key = (char *)"";
    fake_session_deliver(message);
    turn();
    assert_int_equal(fake_session.restarts, 1);
    assert_string_equal(fake_session.why, "malformed assignment");
    assert_int_equal(fake_engine_pending(engine), 0);
    fake_session_lost();
    begin_session();
    end_operations();
    assert_true(fake_engine_alive(engine, ids[1]) && fake_engine_alive(engine, ids[2]));
}

static void task_without_its_spec_is_not_run_and_harms_nobody(void **state)
{
    AUTO_ARENA struct arena a;
    size_t at = 0;

    arena_init(&a);
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    (void)assigner_add(&manager, 2, TASK_STATE__RUNNING);
    fake_session_ready();
    ManagerMessage *message = assigner_full(&manager, &at, SIZE_MAX, &a);
    Assignment *assignment = message->assignment;
    assignment->items[0] = assignment->items[1]; /* the first one's spec is left out */
    assignment->has_digest = false;
    fake_session_deliver(message);
    turn();
    end_operations();
    assert_null(fake_engine_of(engine, ids[1]));
    assert_true(fake_engine_alive(engine, ids[2]));
}

/* --- a manager that reads slowly ------------------------------------------------------------------- */

static void full_outbox_keeps_the_newest_status_of_each_task(void **state)
{
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    fake_session.credit = 0;
    begin_session();
    end_operations();
    fake_engine_exit(engine, ids[1], 9);
    turn();
    assert_int_equal(statuses, 0);
    assert_true(fake_session.refused > 0);
    fake_session_writable();
    assert_int_equal(statuses, 1);
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "task: non-zero exit (9)");
}

static void outbox_that_fills_in_the_middle_goes_on_where_it_stopped(void **state)
{
    for (uint32_t i = 1; i <= 3; i++)
        run_task(i);
    acknowledge_reports();
    unsigned before = statuses;
    fake_session.credit = 1;
    fake_engine_exit(engine, ids[1], 1);
    turn();
    fake_engine_exit(engine, ids[2], 1);
    turn();
    fake_engine_exit(engine, ids[3], 1);
    turn();
    assert_int_equal(statuses, before + 1);
    fake_session_writable();
    assert_int_equal(statuses, before + 3);
    for (uint32_t i = 1; i <= 3; i++)
        assert_int_equal(state_of(i), TASK_STATE__FAILED);
}

/* --- restarts -------------------------------------------------------------------------------------- */

static void restart_adopts_what_runs_and_starts_nothing_again(void **state)
{
    for (uint32_t i = 1; i <= 4; i++)
        run_task(i);
    acknowledge_reports();
    for (int round = 0; round < 3; round++) {
        kill_agent();
        open_agent();
        begin_session();
        assert_int_equal(fake_engine_pending(engine), 0);
    }
    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(fake_world_starts(world, ids[i]), 1);
        assert_true(fake_engine_alive(engine, ids[i]));
    }
}

static void container_that_vanished_while_nobody_looked_is_a_failed_task(void **state)
{
    run_task(1);
    close_agent();
    fake_engine_vanish(engine, ids[1]);
    open_agent();
    begin_session();
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "task: its container is gone");
    assert_int_equal(fake_engine_pending(engine), 0); /* a failed task is replaced, not revived */
}

static void container_removed_behind_our_back_is_a_failed_task(void **state)
{
    run_task(1);
    fake_engine_vanish(engine, ids[1]);
    turn();
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "task: its container is gone");
}

static void container_that_ended_while_nobody_looked_has_its_exit_code(void **state)
{
    run_task(1);
    close_agent();
    fake_engine_exit(engine, ids[1], 42);
    open_agent();
    begin_session();
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "task: non-zero exit (42)");
}

static void task_removed_while_we_were_away_goes_with_the_full_set(void **state)
{
    run_task(1);
    run_task(2);
    kill_agent();
    assigner_find(&manager, 1)->is_assigned = false;
    open_agent();
    end_operations();
    assert_true(fake_engine_alive(engine, ids[1])); /* nobody said so yet */
    begin_session();
    end_operations();
    assert_null(fake_engine_of(engine, ids[1]));
    assert_true(fake_engine_alive(engine, ids[2]));
    assert_false(ledger_has("tasks", 1));
}

static void task_that_finished_is_not_started_again_after_a_restart(void **state)
{
    run_task(1);
    fake_engine_exit(engine, ids[1], 0);
    turn();
    acknowledge_reports();
    kill_agent();
    open_agent();
    begin_session();
    end_operations();
    assert_int_equal(fake_world_starts(world, ids[1]), 1);
    assert_int_equal(state_of(1), TASK_STATE__COMPLETE);
}

/* The dispatcher says with a task what is known of it, for an agent that lost its ledger. */
static void lost_ledger_does_not_run_a_finished_task_again(void **state)
{
    AUTO_FREE
    char *swarm = mem_printf("%s/swarm", dir);
    int fd;

    run_task(1);
    run_task(2);
    fake_engine_exit(engine, ids[1], 0);
    turn();
    kill_agent();
    assert_int_equal(dir_open(swarm, &fd, NULL), 0);
    assert_int_equal(tree_remove(fd, "tasks", NULL), 0);
    assert_int_equal(tree_remove(fd, "specs", NULL), 0);
    close(fd);
    open_agent();
    assert_int_equal(fake_engine_pending(engine), 0);
    begin_session();
    end_operations();
    assert_int_equal(fake_world_starts(world, ids[1]), 1);
    assert_int_equal(fake_world_starts(world, ids[2]), 1);
    assert_true(fake_engine_alive(engine, ids[2]));
}

/* --- a damaged ledger ------------------------------------------------------------------------------ */

static void damage(const char *kind, uint32_t number)
{
    AUTO_FREE
    char *path = strcmp(kind, "specs") == 0 ? mem_printf("%s/swarm/specs/%s.%u", dir, ids[number], number)
                                            : mem_printf("%s/swarm/tasks/%s", dir, ids[number]);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damage", 6, 30), 6);
    close(fd);
}

static void damaged_ledger_is_restored_by_the_full_set(void **state)
{
    for (uint32_t i = 1; i <= 3; i++)
        run_task(i);
    kill_agent();
    damage("tasks", 1);
    damage("specs", 2);
    open_agent();
    assert_int_equal(fake_engine_pending(engine), 0); /* nothing is stopped for want of a record */
    begin_session();
    end_operations();
    for (uint32_t i = 1; i <= 3; i++) {
        assert_true(fake_engine_alive(engine, ids[i]));
        assert_int_equal(fake_world_starts(world, ids[i]), 1);
        assert_true(ledger_has("tasks", i) && ledger_has("specs", i));
    }
}

static void ledger_that_cannot_be_written_stops_nothing(void **state)
{
    AUTO_FREE
    char *swarm = mem_printf("%s/swarm", dir);
    int fd;

    run_task(1);
    assert_int_equal(dir_open(swarm, &fd, NULL), 0);
    assert_int_equal(tree_remove(fd, "tasks", NULL), 0); /* each write fails from now on */
    close(fd);
    run_task(2);
    assert_int_equal(state_of(2), TASK_STATE__RUNNING);
}

/* --- the engine's errors --------------------------------------------------------------------------- */

static void image_that_is_nowhere_rejects_the_task_with_the_reason(void **state)
{
    manager.image = "gone:1";
    fake_engine_fail(engine, "pull", ERR_NOT_FOUND, "manifest for gone:1 not found", 1);
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    assert_int_equal(state_of(1), TASK_STATE__PREPARING);
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__REJECTED);
    assert_string_equal(err_of(1), "manifest for gone:1 not found");
    assert_int_equal(fake_world_count(world), 0);
}

static void create_that_is_refused_rejects_the_task_with_the_reason(void **state)
{
    fake_engine_fail(engine, "create", ERR_NOT_FOUND, "no such volume: data", 1);
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    assert_int_equal(state_of(1), TASK_STATE__REJECTED);
    assert_string_equal(err_of(1), "no such volume: data");
}

static void start_that_fails_is_a_failed_task_with_the_reason(void **state)
{
    fake_engine_fail(engine, "start", ERR_INVALID, "exec \"nope\": no such file", 1);
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "exec \"nope\": no such file");
    assert_int_equal(fake_world_starts(world, ids[1]), 0);
}

static void start_that_was_interrupted_is_tried_again(void **state)
{
    fake_engine_fail(engine, "start", ERR_UNAVAILABLE, "the keeper is being replaced", 1);
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__STARTING);
    mono_shift_us += 60 * 1000000LL;
    while (!fake_engine_pending(engine))
        uv_run(&loop, UV_RUN_ONCE); /* the timer, for which the clock has moved on */
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__RUNNING);
}

static void out_of_memory_is_said(void **state)
{
    run_task(1);
    fake_engine_oom(engine, ids[1]);
    turn();
    assert_int_equal(state_of(1), TASK_STATE__FAILED);
    assert_string_equal(err_of(1), "task: non-zero exit (137): out of memory");
}

static void shutdown_while_an_image_is_brought_ends_the_pull(void **state)
{
    manager.image = "big:1";
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    assert_string_equal(fake_engine_what(engine, 0), "pull");
    assigner_find(&manager, 1)->desired = TASK_STATE__SHUTDOWN;
    send_changes();
    assert_int_equal(fake_engine_canceled(engine), 1);
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__SHUTDOWN);
    assert_int_equal(fake_world_count(world), 0);
}

static void removal_while_it_starts_waits_and_leaves_nothing(void **state)
{
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    assigner_find(&manager, 1)->is_assigned = false;
    send_changes();
    assert_int_equal(fake_engine_pending(engine), 1);
    assert_string_equal(fake_engine_what(engine, 0), "start");
    end_operations();
    assert_int_equal(fake_world_count(world), 0);
    assert_false(ledger_has("tasks", 1));
}

static void task_that_comes_back_while_it_goes_is_run_in_the_end(void **state)
{
    run_task(1);
    assigner_find(&manager, 1)->is_assigned = false;
    send_changes();
    assert_string_equal(fake_engine_what(engine, 0), "stop");
    assigner_find(&manager, 1)->is_assigned = true; /* a mistaken full set, put right */
    send_changes();
    end_operations();
    /* States only move forward: its container was stopped, so it has ended and is replaced by its manager. */
    assert_true(state_of(1) > TASK_STATE__RUNNING);
    assert_int_equal(fake_world_starts(world, ids[1]), 1);
}

/* --- credentials ----------------------------------------------------------------------------------- */

static bool ledger_holds(const char *text)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm/specs/%s.1", dir, ids[1]);
    AUTO_BUF struct buf bytes = {0};

    assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &bytes, NULL), 0);
    return memmem(buf_bytes(&bytes), bytes.length, text, strlen(text)) != NULL;
}

static void credentials_are_used_and_never_written(void **state)
{
    manager.image = "private:1";
    manager.auth = "c2VjcmV0";
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    assert_string_equal(fake_engine_auth(engine), "c2VjcmV0");
    assert_true(ledger_has("specs", 1));
    assert_false(ledger_holds("c2VjcmV0"));
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__RUNNING);
}

static void pull_that_needs_credentials_waits_for_a_manager_after_a_restart(void **state)
{
    manager.image = "private:1";
    manager.auth = "c2VjcmV0";
    (void)assigner_add(&manager, 1, TASK_STATE__RUNNING);
    begin_session();
    kill_agent(); /* in the middle of the pull */
    open_agent();
    assert_int_equal(fake_engine_pending(engine), 0); /* without credentials it would be refused */
    begin_session();
    assert_int_equal(fake_engine_pending(engine), 1);
    assert_string_equal(fake_engine_auth(engine), "c2VjcmV0");
    end_operations();
    assert_int_equal(state_of(1), TASK_STATE__RUNNING);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_assigned_runs_and_what_is_removed_leaves_nothing),
        TEST(statuses_of_one_turn_travel_together_and_only_the_newest),
        TEST(managers_of_the_cluster_are_passed_on),
        TEST(later_epoch_is_kept_with_the_identity),
        TEST(session_is_held_for_the_daemon_after_this_one),
        TEST(new_certificate_is_handed_to_the_session_and_stops_nothing),
        TEST(without_a_manager_everything_runs_on),
        TEST(without_a_manager_what_was_prepared_is_brought_up),
        TEST(exit_without_a_manager_is_reported_when_there_is_one),
        TEST(what_was_not_acknowledged_is_said_again),
        TEST(status_that_no_manager_has_survives_a_kill),
        TEST(session_that_breaks_in_a_full_set_stops_nothing),
        TEST(full_set_in_pieces_removes_what_it_did_not_name_at_its_end_alone),
        TEST(the_same_set_twice_changes_nothing),
        TEST(message_that_comes_twice_asks_for_the_full_set),
        TEST(gap_asks_for_the_full_set_and_nothing_of_it_is_used),
        TEST(increment_before_the_full_set_is_a_stale_sessions),
        TEST(set_that_differs_from_the_managers_is_asked_for_anew),
        TEST(full_outbox_when_asking_anew_begins_a_new_session),
        TEST(malformed_assignment_ends_the_session_and_stops_nothing),
        TEST(task_without_its_spec_is_not_run_and_harms_nobody),
        TEST(full_outbox_keeps_the_newest_status_of_each_task),
        TEST(outbox_that_fills_in_the_middle_goes_on_where_it_stopped),
        TEST(restart_adopts_what_runs_and_starts_nothing_again),
        TEST(container_that_vanished_while_nobody_looked_is_a_failed_task),
        TEST(container_removed_behind_our_back_is_a_failed_task),
        TEST(container_that_ended_while_nobody_looked_has_its_exit_code),
        TEST(task_removed_while_we_were_away_goes_with_the_full_set),
        TEST(task_that_finished_is_not_started_again_after_a_restart),
        TEST(lost_ledger_does_not_run_a_finished_task_again),
        TEST(damaged_ledger_is_restored_by_the_full_set),
        TEST(ledger_that_cannot_be_written_stops_nothing),
        TEST(image_that_is_nowhere_rejects_the_task_with_the_reason),
        TEST(create_that_is_refused_rejects_the_task_with_the_reason),
        TEST(start_that_fails_is_a_failed_task_with_the_reason),
        TEST(start_that_was_interrupted_is_tried_again),
        TEST(out_of_memory_is_said),
        TEST(shutdown_while_an_image_is_brought_ends_the_pull),
        TEST(removal_while_it_starts_waits_and_leaves_nothing),
        TEST(task_that_comes_back_while_it_goes_is_run_in_the_end),
        TEST(credentials_are_used_and_never_written),
        TEST(pull_that_needs_credentials_waits_for_a_manager_after_a_restart),
    };

    log_set_level(LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
