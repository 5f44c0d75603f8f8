/* Replicated services: as many slots as wanted, the lowest free, and the right ones go first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/simulation/fake.h"

static void created_service_leaves_one_round_split_placed_and_assigned(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t node = fake_node(f, (struct fake_node){.hostname = "n1"});
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 3});

    fake_round(f);
    assert_int_equal(fake_count_on(f, web, node), 3);
    for (uint64_t slot = 1; slot <= 3; slot++) {
        uint64_t task = fake_newest(f, web, slot, 0);

        assert_int_equal(fake_task(f, task)->node, node);
        assert_int_equal(fake_status(f, task)->state, TASK_STATE__ASSIGNED);
        assert_string_equal(fake_status(f, task)->message, "scheduler assigned task to node");
        assert_int_equal(fake_task(f, task)->desired_state, TASK_STATE__RUNNING);
    }
    assert_int_equal(fake_settle(f), 0);
    fake_check_settled(f);
    fake_free(f);
}

static void service_without_replicas_has_no_tasks(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;

    fake_node(f, (struct fake_node){.hostname = "n1"});
    web = fake_service(f, (struct fake_service){.replicas = 0});
    fake_settle(f);
    assert_int_equal(index_service(f->index, web)->slots.count, 0);
    fake_check_settled(f);
    fake_free(f);
}

static void scaling_up_fills_the_lowest_free_slots(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web, second;

    fake_node(f, (struct fake_node){.hostname = "n1"});
    web = fake_service(f, (struct fake_service){.replicas = 3});
    fake_converge(f);
    second = fake_newest(f, web, 2, 0);
    plan_set_desired(&f->plan, index_task(f->index, second), TASK_STATE__REMOVE);
    fake_service_update(f, web, (struct fake_service){.replicas = 4});
    fake_converge(f);
    assert_int_equal(index_service(f->index, web)->slots.count, 4);
    assert_int_not_equal(fake_newest(f, web, 2, 0), second);
    assert_null(fake_task(f, second));
    for (uint64_t slot = 1; slot <= 4; slot++)
        assert_int_not_equal(fake_newest(f, web, slot, 0), 0);
    fake_check_settled(f);
    fake_free(f);
}

static void scaling_down_removes_the_highest_slots_of_one_node(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;

    fake_node(f, (struct fake_node){.hostname = "n1"});
    web = fake_service(f, (struct fake_service){.replicas = 5});
    fake_converge(f);
    fake_service_update(f, web, (struct fake_service){.replicas = 2});
    fake_settle(f);
    assert_int_equal(fake_count(f, web, TASK_STATE__REMOVE, TASK_STATE__RUNNING), 3);
    fake_converge(f);
    assert_int_equal(index_service(f->index, web)->slots.count, 2);
    assert_int_not_equal(fake_newest(f, web, 1, 0), 0);
    assert_int_not_equal(fake_newest(f, web, 2, 0), 0);
    fake_check_settled(f);
    fake_free(f);
}

static void scaling_down_takes_first_what_runs_nowhere(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web, waiting = 0;

    fake_node(f, (struct fake_node){.hostname = "n1"});
    web = fake_service(f, (struct fake_service){.replicas = 3, .max_replicas = 2});
    fake_converge(f);
    for (uint64_t slot = 1; slot <= 3; slot++)
        if (!fake_task(f, fake_newest(f, web, slot, 0))->node)
            waiting = slot;
    assert_int_not_equal(waiting, 0);
    fake_service_update(f, web, (struct fake_service){.replicas = 2, .max_replicas = 2});
    fake_converge(f);
    assert_int_equal(fake_newest(f, web, waiting, 0), 0);
    assert_int_equal(fake_count(f, web, TASK_STATE__RUNNING, TASK_STATE__RUNNING), 2);
    fake_check_settled(f);
    fake_free(f);
}

static void scaling_down_leaves_nodes_balanced(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t nodes[4], web;

    nodes[0] = fake_node(f, (struct fake_node){.hostname = "n0"});
    web = fake_service(f, (struct fake_service){.replicas = 10});
    fake_converge(f);
    for (int i = 1; i < 4; i++)
        nodes[i] = fake_node(f, (struct fake_node){.hostname = "n"});
    fake_service_update(f, web, (struct fake_service){.replicas = 25});
    fake_converge(f); /* 10, 5, 5, 5 */
    assert_int_equal(fake_count_on(f, web, nodes[0]), 10);
    fake_service_update(f, web, (struct fake_service){.replicas = 13});
    fake_converge(f);
    for (int i = 0; i < 4; i++)
        assert_in_range(fake_count_on(f, web, nodes[i]), 3, 4);
    fake_check_settled(f);
    fake_free(f);
}

static void scaling_down_prefers_tasks_that_do_not_run(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;

    fake_node(f, (struct fake_node){.hostname = "n1"});
    web = fake_service(f, (struct fake_service){.replicas = 4});
    fake_settle(f);
    fake_bring(f, fake_newest(f, web, 3, 0), TASK_STATE__RUNNING);
    fake_bring(f, fake_newest(f, web, 4, 0), TASK_STATE__RUNNING);
    fake_service_update(f, web, (struct fake_service){.replicas = 2});
    fake_converge(f);
    assert_int_not_equal(fake_newest(f, web, 3, 0), 0);
    assert_int_not_equal(fake_newest(f, web, 4, 0), 0);
    assert_int_equal(fake_newest(f, web, 1, 0), 0);
    fake_free(f);
}

static void tasks_of_a_removed_service_stop_and_vanish_with_its_specs(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;

    fake_node(f, (struct fake_node){.hostname = "n1"});
    web = fake_service(f, (struct fake_service){.replicas = 3});
    fake_converge(f);
    fake_service_remove(f, web);
    fake_settle(f);
    assert_int_equal(fake_count(f, web, TASK_STATE__REMOVE, TASK_STATE__RUNNING), 3);
    fake_check(f);
    fake_converge(f);
    assert_null(index_service(f->index, web));
    assert_int_equal(f->index->tasks.count, 0);
    assert_int_equal(f->index->specs.count, 0);
    fake_check_settled(f);
    fake_free(f);
}

static void large_services_are_made_and_removed_over_several_rounds(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;

    f->round_room = 200;
    for (int i = 0; i < 7; i++)
        fake_node(f, (struct fake_node){.hostname = "n"});
    web = fake_service(f, (struct fake_service){.replicas = 1000});
    assert_true(fake_round(f) < 600);
    fake_check(f);
    fake_settle(f);
    assert_int_equal(index_service(f->index, web)->held, 1000);
    fake_check_settled(f);
    fake_service_update(f, web, (struct fake_service){.replicas = 10});
    fake_converge(f);
    assert_int_equal(index_service(f->index, web)->held, 10);
    fake_check_settled(f);
    fake_service_remove(f, web);
    fake_converge(f);
    assert_int_equal(f->index->tasks.count, 0);
    fake_free(f);
}

static void everything_can_be_undone(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web, node = fake_node(f, (struct fake_node){.hostname = "n1", .nano_cpus = 4000000000});
    size_t marks[64], count = 0;

    web = fake_service(f, (struct fake_service){.replicas = 5, .nano_cpus = 100000000});
    marks[count++] = fake_mark(f);
    fake_settle(f);
    marks[count++] = fake_mark(f);
    fake_agents(f, 10);
    marks[count++] = fake_mark(f);
    fake_service_update(f, web, (struct fake_service){.replicas = 3, .image = "web:2"});
    fake_settle(f);
    marks[count++] = fake_mark(f);
    fake_report(f, fake_newest(f, web, 1, 0), TASK_STATE__FAILED, "boom");
    fake_settle(f);
    marks[count++] = fake_mark(f);
    fake_node_availability(f, node, NODE_AVAILABILITY__DRAIN);
    fake_converge(f);
    marks[count++] = fake_mark(f);
    fake_node_remove(f, node);
    fake_service_remove(f, web);
    fake_converge(f);
    while (count) {
        fake_undo(f, marks[--count]);
        fake_check(f);
    }
    fake_converge(f); /* and planned again */
    assert_int_equal(fake_count(f, web, TASK_STATE__RUNNING, TASK_STATE__RUNNING), 5);
    fake_check_settled(f);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(created_service_leaves_one_round_split_placed_and_assigned),
        cmocka_unit_test(service_without_replicas_has_no_tasks),
        cmocka_unit_test(scaling_up_fills_the_lowest_free_slots),
        cmocka_unit_test(scaling_down_removes_the_highest_slots_of_one_node),
        cmocka_unit_test(scaling_down_takes_first_what_runs_nowhere),
        cmocka_unit_test(scaling_down_leaves_nodes_balanced),
        cmocka_unit_test(scaling_down_prefers_tasks_that_do_not_run),
        cmocka_unit_test(tasks_of_a_removed_service_stop_and_vanish_with_its_specs),
        cmocka_unit_test(large_services_are_made_and_removed_over_several_rounds),
        cmocka_unit_test(everything_can_be_undone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
