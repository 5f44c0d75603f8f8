/* Global services, and what follows for tasks when a node changes (reference/swarm-surface.md sections 7 and 10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/simulation/fake.h"

static bool runs_on(struct fake *f, uint64_t service, uint64_t node)
{
    uint64_t task = fake_newest(f, service, 0, node);

    return task && fake_task(f, task)->desired_state == TASK_STATE__RUNNING &&
           fake_status(f, task)->state == TASK_STATE__RUNNING;
}

static void every_fitting_node_gets_one_task(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a", .labels = "zone=x"});
    uint64_t b = fake_node(f, (struct fake_node){.hostname = "b", .labels = "zone=y"});
    uint64_t drained = fake_node(
        f, (struct fake_node){.hostname = "c", .labels = "zone=x", .availability = NODE_AVAILABILITY__DRAIN});
    uint64_t paused = fake_node(
        f, (struct fake_node){.hostname = "d", .labels = "zone=x", .availability = NODE_AVAILABILITY__PAUSE});
    uint64_t all = fake_service(f, (struct fake_service){.name = "all", .mode = SERVICE_MODE__GLOBAL});
    uint64_t some = fake_service(
        f,
        (struct fake_service){.name = "some", .mode = SERVICE_MODE__GLOBAL, .constraints = "node.labels.zone==x"});

    fake_converge(f);
    assert_true(runs_on(f, all, a) && runs_on(f, all, b) && runs_on(f, some, a));
    assert_int_equal(fake_newest(f, some, 0, b), 0);
    assert_int_equal(fake_newest(f, all, 0, drained), 0);
    assert_int_equal(fake_newest(f, all, 0, paused), 0);
    fake_check_settled(f);
    fake_free(f);
}

static void nodes_that_come_and_change_are_followed(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t all = fake_service(f, (struct fake_service){.name = "all", .mode = SERVICE_MODE__GLOBAL});
    uint64_t some = fake_service(
        f,
        (struct fake_service){.name = "some", .mode = SERVICE_MODE__GLOBAL, .constraints = "node.labels.zone==x"});
    fake_settle(f);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a"});
    fake_converge(f);
    assert_true(runs_on(f, all, a));
    assert_false(runs_on(f, some, a));
    fake_node_labels(f, a, "zone=x");
    fake_converge(f);
    assert_true(runs_on(f, some, a));
    fake_node_labels(f, a, "zone=y");
    fake_converge(f);
    assert_int_equal(fake_status(f, fake_newest(f, some, 0, a))->state, TASK_STATE__SHUTDOWN);
    fake_node_labels(f, a, "zone=x");
    fake_converge(f);
    assert_true(runs_on(f, some, a));
    fake_check_settled(f);
    fake_free(f);
}

static void drained_and_lost_nodes_lose_the_task_and_get_a_new_one_when_they_are_back(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a"});
    uint64_t all = fake_service(f, (struct fake_service){.name = "all", .mode = SERVICE_MODE__GLOBAL});
    fake_converge(f);
    uint64_t first = fake_newest(f, all, 0, a);
    fake_node_availability(f, a, NODE_AVAILABILITY__DRAIN);
    fake_converge(f);
    assert_int_equal(fake_newest(f, all, 0, a), first);
    assert_int_equal(fake_status(f, first)->state, TASK_STATE__SHUTDOWN);
    fake_node_availability(f, a, NODE_AVAILABILITY__ACTIVE);
    fake_converge(f);
    uint64_t second = fake_newest(f, all, 0, a);
    assert_int_not_equal(first, second);
    assert_true(runs_on(f, all, a));
    fake_node_state(f, a, NODE_STATE__DOWN);
    fake_converge(f);
    assert_int_equal(fake_newest(f, all, 0, a), second);
    assert_int_equal(fake_task(f, second)->desired_state, TASK_STATE__SHUTDOWN);
    fake_node_state(f, a, NODE_STATE__UP);
    fake_converge(f);
    assert_true(runs_on(f, all, a));
    assert_int_not_equal(fake_newest(f, all, 0, a), second);
    fake_check_settled(f);
    fake_free(f);
}

static void failed_task_is_restarted_on_its_node(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a"});
    uint64_t all =
        fake_service(f, (struct fake_service){.name = "all", .mode = SERVICE_MODE__GLOBAL, .delay_ms = 100});
    fake_node(f, (struct fake_node){.hostname = "b"});
    fake_converge(f);
    uint64_t first = fake_newest(f, all, 0, a);
    fake_report(f, first, TASK_STATE__FAILED, "boom");
    fake_settle(f);
    assert_int_not_equal(fake_newest(f, all, 0, a), first);
    assert_int_equal(fake_task(f, fake_newest(f, all, 0, a))->node, a);
    fake_advance(f, 100);
    fake_converge(f);
    assert_true(runs_on(f, all, a));
    fake_check_settled(f);
    fake_free(f);
}

static void task_whose_node_lacks_resources_waits_there_and_says_so(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t small = fake_node(f, (struct fake_node){.hostname = "small", .memory_bytes = 100});
    uint64_t large = fake_node(f, (struct fake_node){.hostname = "large", .memory_bytes = 1000});
    uint64_t all =
        fake_service(f, (struct fake_service){.name = "all", .mode = SERVICE_MODE__GLOBAL, .memory_bytes = 500});
    fake_converge(f);
    assert_true(runs_on(f, all, large));
    uint64_t waiting = fake_newest(f, all, 0, small);
    assert_int_equal(fake_status(f, waiting)->state, TASK_STATE__PENDING);
    assert_string_equal(fake_status(f, waiting)->err, "insufficient resources on 1 node");
    fake_check_settled(f);
    fake_node_set(f, small, (struct fake_node){.hostname = "small", .memory_bytes = 600});
    fake_converge(f);
    assert_true(runs_on(f, all, small));
    assert_null(fake_status(f, waiting)->err);
    fake_free(f);
}

static void two_global_tasks_never_share_what_is_enough_for_one(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a", .memory_bytes = 1000});
    uint64_t one =
        fake_service(f, (struct fake_service){.name = "one", .mode = SERVICE_MODE__GLOBAL, .memory_bytes = 600});
    uint64_t two =
        fake_service(f, (struct fake_service){.name = "two", .mode = SERVICE_MODE__GLOBAL, .memory_bytes = 600});

    fake_converge(f);
    assert_int_equal(runs_on(f, one, a) + runs_on(f, two, a), 1);
    fake_service_remove(f, runs_on(f, one, a) ? one : two);
    fake_converge(f);
    assert_int_equal(runs_on(f, one, a) + runs_on(f, two, a), 1);
    fake_check_settled(f);
    fake_free(f);
}

static void global_services_are_updated_node_by_node_but_not_on_paused_ones(void **state)
{
    struct fake *f = fake_new(2);
    struct fake_service s = {.name = "all", .mode = SERVICE_MODE__GLOBAL};
    uint64_t nodes[3], all;

    for (int i = 0; i < 3; i++)
        nodes[i] = fake_node(f, (struct fake_node){.hostname = "n"});
    all = fake_service(f, s);
    fake_converge(f);
    fake_node_availability(f, nodes[1], NODE_AVAILABILITY__PAUSE);
    s.image = "web:2";
    fake_service_update(f, all, s);
    fake_settle(f);
    assert_int_equal(index_service(f->index, all)->current->unsettled, 1);
    fake_converge(f);
    assert_int_equal(fake_task(f, fake_newest(f, all, 0, nodes[0]))->spec_version, 2);
    assert_int_equal(fake_task(f, fake_newest(f, all, 0, nodes[1]))->spec_version, 1);
    assert_int_equal(fake_task(f, fake_newest(f, all, 0, nodes[2]))->spec_version, 2);
    fake_node_availability(f, nodes[1], NODE_AVAILABILITY__ACTIVE);
    fake_converge(f);
    assert_int_equal(fake_task(f, fake_newest(f, all, 0, nodes[1]))->spec_version, 2);
    fake_check_settled(f);
    fake_free(f);
}

/* --- nodes and replicated tasks --------------------------------------------------------------------------------
 */

static void task_whose_constraint_no_longer_holds_is_rejected_and_replaced_elsewhere(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a", .labels = "zone=x"}), b, web, first;

    web = fake_service(f, (struct fake_service){.replicas = 1, .constraints = "node.labels.zone==x"});
    fake_converge(f);
    first = fake_newest(f, web, 1, 0);
    b = fake_node(f, (struct fake_node){.hostname = "b", .labels = "zone=x"});
    fake_node_labels(f, a, "zone=y");
    fake_settle(f);
    assert_int_equal(fake_status(f, first)->state, TASK_STATE__REJECTED);
    assert_string_equal(fake_status(f, first)->err, "assigned node no longer meets constraints");
    assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->node, b);
    fake_check_settled(f);
    fake_free(f);
}

static void shrunken_node_rejects_what_no_longer_fits_and_no_more(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a", .memory_bytes = 1000}), web;

    web = fake_service(f, (struct fake_service){.replicas = 4, .memory_bytes = 250});
    fake_converge(f);
    fake_node_set(f, a, (struct fake_node){.hostname = "a", .memory_bytes = 600});
    fake_settle(f);
    assert_int_equal(fake_count_on(f, web, a), 2);
    fake_check_settled(f);
    fake_free(f);
}

static void paused_node_keeps_its_tasks_and_gets_no_new_ones(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a", .labels = "zone=x"}), web;

    web = fake_service(f, (struct fake_service){.replicas = 1, .constraints = "node.labels.zone==x"});
    fake_converge(f);
    fake_node_availability(f, a, NODE_AVAILABILITY__PAUSE);
    fake_node_labels(f, a, "zone=y");
    fake_converge(f);
    assert_int_equal(fake_status(f, fake_newest(f, web, 1, 0))->state, TASK_STATE__RUNNING);
    fake_service_update(f, web, (struct fake_service){.replicas = 2});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, a), 1);
    fake_check_settled(f);
    fake_free(f);
}

static void tasks_of_a_removed_node_are_orphaned_and_replaced(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a"}), b, web, first;

    web = fake_service(f, (struct fake_service){.replicas = 1});
    fake_converge(f);
    first = fake_newest(f, web, 1, 0);
    b = fake_node(f, (struct fake_node){.hostname = "b"});
    fake_node_remove(f, a);
    fake_settle(f);
    assert_int_equal(fake_status(f, first)->state, TASK_STATE__ORPHANED);
    assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->node, b);
    fake_check_settled(f);
    fake_service_remove(f, web);
    fake_converge(f);
    assert_int_equal(f->index->nodes.count, 1); /* the removed one left with its last task */
    fake_check_settled(f);
    fake_free(f);
}

static void tasks_of_a_node_that_is_down_for_a_day_are_orphaned(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a"}), web, first;

    web = fake_service(f, (struct fake_service){.replicas = 1});
    fake_converge(f);
    first = fake_newest(f, web, 1, 0);
    fake_node_state(f, a, NODE_STATE__DOWN);
    fake_settle(f);
    fake_advance(f, 24 * 3600 * 1000 - 1);
    assert_int_equal(fake_status(f, first)->state, TASK_STATE__RUNNING);
    fake_advance(f, 1);
    assert_int_equal(fake_status(f, first)->state, TASK_STATE__ORPHANED);
    fake_check_settled(f);
    fake_free(f);
}

static void node_that_is_back_within_a_day_orphans_nothing(void **state)
{
    struct fake *f = fake_new(2);
    uint64_t a = fake_node(f, (struct fake_node){.hostname = "a"}), web;

    web = fake_service(f, (struct fake_service){.replicas = 1});
    fake_converge(f);
    fake_node_state(f, a, NODE_STATE__DOWN);
    fake_settle(f);
    fake_advance(f, 3600 * 1000);
    fake_node_state(f, a, NODE_STATE__UP);
    fake_converge(f);
    fake_advance(f, 24 * 3600 * 1000);
    assert_int_equal(fake_count(f, web, TASK_STATE__SHUTDOWN, TASK_STATE__ORPHANED), 0);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fitting_node_gets_one_task),
        cmocka_unit_test(nodes_that_come_and_change_are_followed),
        cmocka_unit_test(drained_and_lost_nodes_lose_the_task_and_get_a_new_one_when_they_are_back),
        cmocka_unit_test(failed_task_is_restarted_on_its_node),
        cmocka_unit_test(task_whose_node_lacks_resources_waits_there_and_says_so),
        cmocka_unit_test(two_global_tasks_never_share_what_is_enough_for_one),
        cmocka_unit_test(global_services_are_updated_node_by_node_but_not_on_paused_ones),
        cmocka_unit_test(task_whose_constraint_no_longer_holds_is_rejected_and_replaced_elsewhere),
        cmocka_unit_test(shrunken_node_rejects_what_no_longer_fits_and_no_more),
        cmocka_unit_test(paused_node_keeps_its_tasks_and_gets_no_new_ones),
        cmocka_unit_test(tasks_of_a_removed_node_are_orphaned_and_replaced),
        cmocka_unit_test(tasks_of_a_node_that_is_down_for_a_day_are_orphaned),
        cmocka_unit_test(node_that_is_back_within_a_day_orphans_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
