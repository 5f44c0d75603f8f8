/* Restarts, drains and lost nodes: what becomes of the tasks of a slot (reference/swarm-surface.md section 11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/simulation/fake.h"

/* One node, one service with a single running task. */
struct one {
    struct fake *f;
    uint64_t node, web;
};

static struct one one_running(struct fake_service s)
{
    struct one o = {.f = fake_new(3)};

    o.node = fake_node(o.f, (struct fake_node){.hostname = "n1"});
    s.replicas = 1;
    o.web = fake_service(o.f, s);
    fake_converge(o.f);
    return o;
}

static uint64_t newest(const struct one *o)
{
    return fake_newest(o->f, o->web, 1, 0);
}

static void end_task(const struct one *o, TaskState state)
{
    fake_report(o->f, newest(o), state, "task: non-zero exit (1)");
    fake_settle(o->f);
}

static void failed_task_gets_a_successor_in_its_slot_at_once_and_starts_after_the_delay(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 3000});
    uint64_t old = newest(&o);

    end_task(&o, TASK_STATE__FAILED);
    assert_int_equal(fake_task(o.f, old)->desired_state, TASK_STATE__SHUTDOWN);
    assert_int_not_equal(newest(&o), old);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__ASSIGNED);
    fake_converge(o.f); /* it is prepared meanwhile */
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__READY);
    fake_advance(o.f, 2999);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    fake_advance(o.f, 1);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__RUNNING);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void delay_is_five_seconds_by_default(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = -1});

    end_task(&o, TASK_STATE__FAILED);
    fake_advance(o.f, 4999);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    fake_advance(o.f, 1);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__RUNNING);
    fake_free(o.f);
}

static void conditions_decide_whether_there_is_a_successor(void **state)
{
    static const struct {
        RestartCondition condition;
        TaskState end;
        bool restarts;
    } cases[] = {
        {RESTART_CONDITION__ANY, TASK_STATE__COMPLETE, true},
        {RESTART_CONDITION__ANY, TASK_STATE__FAILED, true},
        {RESTART_CONDITION__ANY, TASK_STATE__REJECTED, true},
        {RESTART_CONDITION__ON_FAILURE, TASK_STATE__COMPLETE, false},
        {RESTART_CONDITION__ON_FAILURE, TASK_STATE__FAILED, true},
        {RESTART_CONDITION__ON_FAILURE, TASK_STATE__REJECTED, true},
        {RESTART_CONDITION__NONE, TASK_STATE__COMPLETE, false},
        {RESTART_CONDITION__NONE, TASK_STATE__FAILED, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct one o = one_running((struct fake_service){.has_condition = true, .condition = cases[i].condition});
        uint64_t old = newest(&o);

        end_task(&o, cases[i].end);
        fake_converge(o.f);
        assert_int_equal(newest(&o) != old, cases[i].restarts);
        assert_int_equal(fake_task(o.f, old)->desired_state, TASK_STATE__SHUTDOWN);
        /* The slot stays taken, also when it is dead: no other task appears, then or later. */
        assert_int_equal(index_service(o.f->index, o.web)->held, 1);
        fake_advance(o.f, 100000);
        assert_int_equal(newest(&o) != old, cases[i].restarts);
        fake_check_settled(o.f);
        fake_free(o.f);
    }
}

static void attempts_are_counted_per_slot_and_spec_version(void **state)
{
    struct fake_service s = {.attempts = 2, .delay_ms = 0};
    struct one o = one_running(s);
    uint64_t last;

    for (int i = 0; i < 2; i++) {
        uint64_t old = newest(&o);

        end_task(&o, TASK_STATE__FAILED);
        assert_int_not_equal(newest(&o), old);
        fake_converge(o.f);
    }
    last = newest(&o);
    end_task(&o, TASK_STATE__FAILED);
    fake_advance(o.f, 1000000);
    assert_int_equal(newest(&o), last);
    fake_check_settled(o.f);
    /* A change of the spec starts anew, and takes up the dead slot. */
    s.image = "web:2";
    s.replicas = 1;
    fake_service_update(o.f, o.web, s);
    fake_converge(o.f);
    assert_int_not_equal(newest(&o), last);
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__RUNNING);
    fake_converge(o.f);
    uint64_t old = newest(&o);
    end_task(&o, TASK_STATE__FAILED);
    assert_int_not_equal(newest(&o), old);
    fake_free(o.f);
}

static void attempts_outside_the_window_do_not_count(void **state)
{
    struct one o = one_running((struct fake_service){.attempts = 2, .delay_ms = 0, .window_ms = 10000});

    for (int i = 0; i < 6; i++) {
        uint64_t old = newest(&o);

        fake_advance(o.f, 6000); /* at most two restarts lie within any ten seconds before an end */
        end_task(&o, TASK_STATE__FAILED);
        assert_int_not_equal(newest(&o), old);
        fake_converge(o.f);
    }
    fake_advance(o.f, 1000);
    end_task(&o, TASK_STATE__FAILED);
    fake_converge(o.f);
    fake_advance(o.f, 1000);
    uint64_t last = newest(&o);
    end_task(&o, TASK_STATE__FAILED); /* the third within ten seconds */
    fake_advance(o.f, 1000000);
    assert_int_equal(newest(&o), last);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void task_that_fails_while_its_delay_runs_is_replaced_after_it(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 5000});
    uint64_t second;

    end_task(&o, TASK_STATE__FAILED);
    second = newest(&o);
    fake_advance(o.f, 1000);
    end_task(&o, TASK_STATE__REJECTED);
    assert_int_equal(newest(&o), second);
    fake_advance(o.f, 3999);
    assert_int_equal(newest(&o), second);
    fake_advance(o.f, 1);
    assert_int_not_equal(newest(&o), second);
    assert_int_equal(fake_task(o.f, newest(&o))->start_at_ms, o.f->plan.now_ms + 5000);
    fake_free(o.f);
}

static void drained_node_loses_its_tasks_without_delay_but_successors_wait_for_their_end(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 50000});
    uint64_t old = newest(&o), other = fake_node(o.f, (struct fake_node){.hostname = "n2"});

    fake_node_availability(o.f, o.node, NODE_AVAILABILITY__DRAIN);
    fake_settle(o.f);
    assert_int_equal(fake_task(o.f, old)->desired_state, TASK_STATE__SHUTDOWN);
    assert_int_equal(fake_task(o.f, newest(&o))->node, other);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    fake_bring(o.f, newest(&o), TASK_STATE__READY);
    fake_advance(o.f, 30000);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    fake_report(o.f, old, TASK_STATE__SHUTDOWN, NULL);
    fake_settle(o.f);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__RUNNING);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void successor_waits_at_most_sixty_seconds(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 0});

    fake_node(o.f, (struct fake_node){.hostname = "n2"});
    fake_node_availability(o.f, o.node, NODE_AVAILABILITY__DRAIN);
    fake_settle(o.f);
    fake_advance(o.f, 59999);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    fake_advance(o.f, 1);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__RUNNING);
    fake_free(o.f);
}

static void tasks_of_a_node_that_went_down_are_replaced_after_the_delay_without_waiting(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 2000});
    uint64_t old = newest(&o), other = fake_node(o.f, (struct fake_node){.hostname = "n2"});

    fake_node_state(o.f, o.node, NODE_STATE__DOWN);
    fake_settle(o.f);
    assert_int_equal(fake_task(o.f, old)->desired_state, TASK_STATE__SHUTDOWN);
    assert_int_equal(fake_task(o.f, newest(&o))->node, other);
    fake_advance(o.f, 2000);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__RUNNING);
    /* Back again, it is told to stop what was replaced; nothing moves back. */
    fake_node_state(o.f, o.node, NODE_STATE__UP);
    fake_converge(o.f);
    assert_int_equal(fake_status(o.f, old)->state, TASK_STATE__SHUTDOWN);
    assert_int_equal(fake_task(o.f, newest(&o))->node, other);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void successor_stops_waiting_when_the_old_node_goes_down(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 0});

    fake_node(o.f, (struct fake_node){.hostname = "n2"});
    fake_node_availability(o.f, o.node, NODE_AVAILABILITY__DRAIN);
    fake_settle(o.f);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__READY);
    fake_node_state(o.f, o.node, NODE_STATE__DOWN);
    fake_settle(o.f);
    assert_int_equal(fake_task(o.f, newest(&o))->desired_state, TASK_STATE__RUNNING);
    fake_free(o.f);
}

static void lost_node_is_not_compensated_when_the_condition_is_none(void **state)
{
    struct one o = one_running((struct fake_service){.has_condition = true, .condition = RESTART_CONDITION__NONE});
    uint64_t old = newest(&o);

    fake_node(o.f, (struct fake_node){.hostname = "n2"});
    fake_node_state(o.f, o.node, NODE_STATE__DOWN);
    fake_converge(o.f);
    fake_advance(o.f, 100000);
    assert_int_equal(newest(&o), old);
    assert_int_equal(fake_task(o.f, old)->desired_state, TASK_STATE__SHUTDOWN);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void states_never_go_back(void **state)
{
    struct one o = one_running((struct fake_service){0});

    fake_report(o.f, newest(&o), TASK_STATE__STARTING, NULL);
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__RUNNING);
    fake_report(o.f, newest(&o), TASK_STATE__COMPLETE, NULL);
    fake_report(o.f, newest(&o), TASK_STATE__RUNNING, NULL);
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__COMPLETE);
    fake_free(o.f);
}

static void reports_from_another_node_are_ignored(void **state)
{
    struct one o = one_running((struct fake_service){0});
    uint64_t other = fake_node(o.f, (struct fake_node){.hostname = "n2"});
    Status status = STATUS__INIT;

    status.state = TASK_STATE__FAILED;
    assert_false(
        plan_report(&o.f->plan, index_node(o.f->index, other), index_task(o.f->index, newest(&o))->id, &status));
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__RUNNING);
    assert_true(
        plan_report(&o.f->plan, index_node(o.f->index, o.node), index_task(o.f->index, newest(&o))->id, &status));
    fake_free(o.f);
}

static void history_keeps_five_tasks_of_a_slot(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 0});

    for (int i = 0; i < 12; i++) {
        end_task(&o, TASK_STATE__FAILED);
        fake_converge(o.f);
        assert_true(o.f->index->tasks.count <= 5);
    }
    assert_int_equal(o.f->index->tasks.count, 5);
    assert_int_equal(fake_status(o.f, newest(&o))->state, TASK_STATE__RUNNING);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void history_follows_the_restart_attempts(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 0, .attempts = 8});

    for (int i = 0; i < 12; i++) {
        end_task(&o, TASK_STATE__FAILED);
        fake_converge(o.f);
    }
    assert_int_equal(o.f->index->tasks.count, 9);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void history_limits_of_nothing_and_everything(void **state)
{
    struct one o = one_running((struct fake_service){.delay_ms = 0});

    fake_history_limit(o.f, 0);
    for (int i = 0; i < 3; i++) {
        end_task(&o, TASK_STATE__FAILED);
        fake_converge(o.f);
    }
    assert_int_equal(o.f->index->tasks.count, 1);
    fake_history_limit(o.f, -1);
    for (int i = 0; i < 10; i++) {
        end_task(&o, TASK_STATE__FAILED);
        fake_converge(o.f);
    }
    assert_int_equal(o.f->index->tasks.count, 11);
    fake_check_settled(o.f);
    fake_free(o.f);
}

static void dead_slot_survives_a_history_of_nothing(void **state)
{
    struct one o = one_running((struct fake_service){.has_condition = true, .condition = RESTART_CONDITION__NONE});
    uint64_t old = newest(&o);

    fake_history_limit(o.f, 0);
    end_task(&o, TASK_STATE__FAILED);
    fake_converge(o.f);
    assert_int_equal(newest(&o), old);
    fake_check_settled(o.f);
    fake_free(o.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_task_gets_a_successor_in_its_slot_at_once_and_starts_after_the_delay),
        cmocka_unit_test(delay_is_five_seconds_by_default),
        cmocka_unit_test(conditions_decide_whether_there_is_a_successor),
        cmocka_unit_test(attempts_are_counted_per_slot_and_spec_version),
        cmocka_unit_test(attempts_outside_the_window_do_not_count),
        cmocka_unit_test(task_that_fails_while_its_delay_runs_is_replaced_after_it),
        cmocka_unit_test(drained_node_loses_its_tasks_without_delay_but_successors_wait_for_their_end),
        cmocka_unit_test(successor_waits_at_most_sixty_seconds),
        cmocka_unit_test(tasks_of_a_node_that_went_down_are_replaced_after_the_delay_without_waiting),
        cmocka_unit_test(successor_stops_waiting_when_the_old_node_goes_down),
        cmocka_unit_test(lost_node_is_not_compensated_when_the_condition_is_none),
        cmocka_unit_test(states_never_go_back),
        cmocka_unit_test(reports_from_another_node_are_ignored),
        cmocka_unit_test(history_keeps_five_tasks_of_a_slot),
        cmocka_unit_test(history_follows_the_restart_attempts),
        cmocka_unit_test(history_limits_of_nothing_and_everything),
        cmocka_unit_test(dead_slot_survives_a_history_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
