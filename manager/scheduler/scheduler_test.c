/* Placement: filters and their words, spread, preferences, waiting and waking (reference/swarm-surface.md section
 * 14). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/scheduler/filter.h"
#include "tests/simulation/fake.h"

static const char *reason(struct fake *f, uint64_t service, uint64_t slot)
{
    const Status *status = fake_status(f, fake_newest(f, service, slot, 0));

    assert_int_equal(status->state, TASK_STATE__PENDING);
    return status->err ? status->err : "";
}

/* --- filters and reasons
 * ------------------------------------------------------------------------------------------ */

static void waiting_task_says_why_in_dockers_words(void **state)
{
    static const struct {
        struct fake_service service;
        const char *reason;
    } cases[] = {
        {{.memory_bytes = 5000}, "no suitable node (insufficient resources on 3 nodes)"},
        {{.nano_cpus = 5000}, "no suitable node (insufficient resources on 3 nodes)"},
        {{.generic = "gpu=3"}, "no suitable node (insufficient resources on 3 nodes)"},
        {{.constraints = "node.labels.zone==x"},
         "no suitable node (scheduling constraints not satisfied on 3 nodes)"},
        {{.platforms = "windows/amd64"}, "no suitable node (unsupported platform on 3 nodes)"},
        {{.volume_driver = "nfs"}, "no suitable node (missing plugin on 3 nodes)"},
        {{.log_driver = "gelf"}, "no suitable node (missing plugin on 3 nodes)"},
        {{.memory_bytes = 600, .constraints = "node.labels.zone==x"},
         "no suitable node (insufficient resources on 2 nodes; scheduling constraints not satisfied on 1 node)"},
        {{.memory_bytes = 600, .constraints = "node.hostname==n1"},
         "no suitable node (insufficient resources on 2 nodes; scheduling constraints not satisfied on 1 node)"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake *f = fake_new(1);
        struct fake_service s = cases[i].service;

        s.replicas = 1;
        fake_node(f, (struct fake_node){.hostname = "n1", .memory_bytes = 100, .plugins = "Log=json-file"});
        fake_node(f, (struct fake_node){.hostname = "n2", .memory_bytes = 100, .plugins = "Log=json-file"});
        fake_node(f, (struct fake_node){
                         .hostname = "n3", .memory_bytes = 1000, .plugins = "Log=json-file", .generic = "gpu=2"});
        uint64_t web = fake_service(f, s);
        fake_settle(f);
        assert_string_equal(reason(f, web, 1), cases[i].reason);
        assert_string_equal(fake_status(f, fake_newest(f, web, 1, 0))->message, "pending task scheduling");
        fake_check_settled(f);
        fake_free(f);
    }
}

static void one_node_is_singular_and_no_node_has_no_reasons(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 2, .max_replicas = 1});
    uint64_t port = fake_service(f, (struct fake_service){.name = "p", .replicas = 2, .host_port = 80});

    fake_settle(f);
    assert_string_equal(reason(f, web, 1), "no suitable node");
    uint64_t node = fake_node(f, (struct fake_node){.hostname = "n1", .availability = NODE_AVAILABILITY__DRAIN});
    fake_settle(f);
    assert_string_equal(reason(f, web, 1), "no suitable node (1 node not available for new tasks)");
    fake_node_availability(f, node, NODE_AVAILABILITY__ACTIVE);
    fake_settle(f);
    assert_string_equal(reason(f, web, 2), "no suitable node (max replicas per node limit exceed)");
    assert_string_equal(reason(f, port, 2), "no suitable node (host-mode port already in use on 1 node)");
    fake_node_state(f, node, NODE_STATE__DISCONNECTED);
    fake_settle(f);
    assert_string_equal(reason(f, web, 2), "no suitable node (1 node not available for new tasks)");
    fake_check_settled(f);
    fake_free(f);
}

static void platforms_match_by_alias_and_empty_parts(void **state)
{
    static const struct {
        const char *platforms, *architecture;
        bool fits;
    } cases[] = {
        {"linux/amd64", "x86_64", true},
        {"linux/x86_64", "x86_64", true},
        {"linux/arm64", "x86_64", false},
        {"linux/arm64", "aarch64", true},
        {"linux/", "riscv64", true},
        {"/amd64", "x86_64", true},
        {"windows/amd64,linux/amd64", "x86_64", true},
        {"windows/", "x86_64", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake *f = fake_new(1);

        uint64_t n = fake_node(f, (struct fake_node){.hostname = "n", .architecture = cases[i].architecture});
        uint64_t web = fake_service(f, (struct fake_service){.replicas = 1, .platforms = cases[i].platforms});
        fake_settle(f);
        assert_int_equal(fake_count_on(f, web, n), cases[i].fits);
        fake_free(f);
    }
}

static void log_drivers_are_not_asked_of_nodes_that_report_none(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n = fake_node(f, (struct fake_node){.hostname = "n", .plugins = "Volume=local"});
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 1, .log_driver = "gelf"});
    uint64_t local = fake_service(f, (struct fake_service){.name = "v", .replicas = 1, .volume_driver = "local"});

    fake_settle(f);
    assert_int_equal(fake_count_on(f, web, n), 1);
    assert_int_equal(fake_count_on(f, local, n), 1);
    fake_free(f);
}

static void reservations_are_kept_and_given_back(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n =
        fake_node(f, (struct fake_node){
                         .hostname = "n", .nano_cpus = 100, .memory_bytes = 100, .generic = "gpu=3,fpga=a,fpga=b"});
    uint64_t cpu = fake_service(f, (struct fake_service){.name = "c", .replicas = 5, .nano_cpus = 30});
    uint64_t gpu = fake_service(f, (struct fake_service){.name = "g", .replicas = 5, .generic = "gpu=2"});
    uint64_t fpga = fake_service(f, (struct fake_service){.name = "f", .replicas = 5, .generic = "fpga=1"});

    fake_converge(f);
    assert_int_equal(fake_count_on(f, cpu, n), 3);
    assert_int_equal(fake_count_on(f, gpu, n), 1);
    assert_int_equal(fake_count_on(f, fpga, n), 2);
    fake_service_update(f, cpu, (struct fake_service){.name = "c", .replicas = 1, .nano_cpus = 30});
    uint64_t more = fake_service(f, (struct fake_service){.name = "m", .replicas = 9, .nano_cpus = 10});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, more, n), 7);
    fake_check_settled(f);
    fake_free(f);
}

static void node_has_no_more_tasks_than_its_agent_can_hold(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n = fake_node(f, (struct fake_node){.hostname = "n"});
    uint64_t web = fake_service(f, (struct fake_service){.name = "w", .replicas = FILTER_NODE_TASKS_MAX});
    uint64_t more = fake_service(f, (struct fake_service){.name = "m", .replicas = 2});
    uint64_t global = fake_service(f, (struct fake_service){.name = "g", .mode = SERVICE_MODE__GLOBAL});

    fake_settle(f);
    assert_int_equal(fake_count_on(f, web, n) + fake_count_on(f, more, n) + fake_count_on(f, global, n),
                     FILTER_NODE_TASKS_MAX);
    const char *waits = fake_count_on(f, more, n) < 2 ? reason(f, more, 2) : reason(f, web, FILTER_NODE_TASKS_MAX);
    assert_string_equal(waits, "no suitable node (1 node has the most tasks it can hold)");
    fake_service_update(f, web, (struct fake_service){.name = "w", .replicas = 10});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, more, n), 2);
    assert_int_equal(fake_count_on(f, global, n), 1);
    fake_check_settled(f);
    fake_free(f);
}

/* --- ranking
 * -------------------------------------------------------------------------------------------------------- */

static void tasks_spread_by_service_first_then_by_load(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n[3], one, two;

    for (int i = 0; i < 3; i++)
        n[i] = fake_node(f, (struct fake_node){.hostname = "n", .labels = i == 0 ? "first=1" : NULL});
    fake_service(f, (struct fake_service){.name = "load", .replicas = 10, .constraints = "node.labels.first==1"});
    fake_settle(f);
    /* The loaded node is last among equals, but gets its share of the service. */
    one = fake_service(f, (struct fake_service){.name = "one", .replicas = 2});
    fake_settle(f);
    assert_int_equal(fake_count_on(f, one, n[0]), 0);
    two = fake_service(f, (struct fake_service){.name = "two", .replicas = 7});
    fake_settle(f);
    assert_int_equal(fake_count_on(f, two, n[0]), 2);
    assert_int_equal(fake_count_on(f, two, n[1]) + fake_count_on(f, two, n[2]), 5);
    fake_check_settled(f);
    fake_free(f);
}

static void node_on_which_tasks_fail_ranks_behind_healthy_ones(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t bad = fake_node(f, (struct fake_node){.hostname = "bad"}), good, web;

    web = fake_service(f, (struct fake_service){.replicas = 1, .delay_ms = 0});
    fake_settle(f);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->node, bad);
        fake_bring(f, fake_newest(f, web, 1, 0), TASK_STATE__RUNNING);
        if (i == 4) {
            good = fake_node(f, (struct fake_node){.hostname = "good"});
            fake_service(
                f, (struct fake_service){.name = "load", .replicas = 20, .constraints = "node.hostname==good"});
            fake_settle(f);
        }
        fake_report(f, fake_newest(f, web, 1, 0), TASK_STATE__FAILED, "boom");
        fake_settle(f);
    }
    assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->node, good);
    fake_check_settled(f);
    /* After five minutes it is forgotten. */
    fake_advance(f, 300000);
    fake_bring(f, fake_newest(f, web, 1, 0), TASK_STATE__RUNNING);
    fake_report(f, fake_newest(f, web, 1, 0), TASK_STATE__FAILED, "boom");
    fake_settle(f);
    assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->node, bad);
    fake_free(f);
}

static void preferences_even_out_branches_and_nest(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n[5];
    /* Two zones; the first has racks r1 (two nodes) and r2, the second r3; one node has no labels. */
    static const char *const labels[] = {"zone=a,rack=r1", "zone=a,rack=r1", "zone=a,rack=r2", "zone=b,rack=r3",
                                         NULL};

    for (int i = 0; i < 5; i++)
        n[i] = fake_node(f, (struct fake_node){.hostname = "n", .labels = labels[i]});
    uint64_t web =
        fake_service(f, (struct fake_service){.replicas = 12, .preferences = "node.labels.zone,node.labels.rack"});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, n[0]) + fake_count_on(f, web, n[1]), 2);
    assert_int_equal(fake_count_on(f, web, n[0]), 1);
    assert_int_equal(fake_count_on(f, web, n[2]), 2);
    assert_int_equal(fake_count_on(f, web, n[3]), 4);
    assert_int_equal(fake_count_on(f, web, n[4]), 4);
    fake_check_settled(f);
    /* More tasks count the existing ones. */
    fake_service_update(f, web,
                        (struct fake_service){.replicas = 15, .preferences = "node.labels.zone,node.labels.rack"});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, n[3]), 5);
    assert_int_equal(fake_count_on(f, web, n[4]), 5);
    fake_free(f);
}

static void preference_overflows_to_branches_with_room(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t small = fake_node(f, (struct fake_node){.hostname = "s", .labels = "zone=a", .memory_bytes = 200});
    uint64_t large = fake_node(f, (struct fake_node){.hostname = "l", .labels = "zone=b", .memory_bytes = 10000});
    uint64_t web = fake_service(
        f, (struct fake_service){.replicas = 10, .preferences = "node.labels.zone", .memory_bytes = 100});

    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, small), 2);
    assert_int_equal(fake_count_on(f, web, large), 8);
    /* A node that changes its label changes the branch. */
    fake_node_labels(f, small, "zone=b");
    fake_service_update(
        f, web, (struct fake_service){.replicas = 11, .preferences = "node.labels.zone", .memory_bytes = 100});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, large), 9);
    fake_check_settled(f);
    fake_free(f);
}

static void large_services_are_balanced_over_many_nodes(void **state)
{
    struct fake *f = fake_new(1);
    enum { NODES = 50, EACH = 7 };
    uint64_t n[NODES], web;

    f->round_room = 100;
    for (int i = 0; i < NODES; i++)
        n[i] = fake_node(f, (struct fake_node){.hostname = "n"});
    web = fake_service(f, (struct fake_service){.replicas = NODES * EACH});
    fake_settle(f);
    for (int i = 0; i < NODES; i++)
        assert_int_equal(fake_count_on(f, web, n[i]), EACH);
    fake_check_settled(f);
    fake_free(f);
}

/* --- waiting and waking
 * ---------------------------------------------------------------------------------------------- */

static void parked_tasks_are_placed_when_a_node_changes_for_the_better(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n = fake_node(f, (struct fake_node){.hostname = "n", .memory_bytes = 100}), web, other;

    other = fake_service(f, (struct fake_service){.name = "o", .replicas = 1, .memory_bytes = 80});
    fake_converge(f);
    web = fake_service(f, (struct fake_service){.replicas = 2, .memory_bytes = 50});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, n), 0);
    fake_service_remove(f, other);
    fake_settle(f);
    assert_int_equal(fake_count_on(f, web, n), 2);
    fake_free(f);
}

static void changes_that_cannot_make_it_fit_wake_nobody(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;

    fake_node(f, (struct fake_node){.hostname = "n", .memory_bytes = 100});
    web = fake_service(f, (struct fake_service){.replicas = 100, .memory_bytes = 500});
    fake_settle(f);
    uint64_t eased = f->index->eased_at;
    assert_int_equal(index_service(f->index, web)->current->parked_at >= eased, 1);
    /* Load comes: nothing is eased, and no waiting task is written again. */
    fake_service(f, (struct fake_service){.name = "o", .replicas = 3});
    size_t mark = fake_mark(f);
    fake_settle(f);
    assert_int_equal(f->index->eased_at, eased);
    assert_true(fake_mark(f) - mark < 20);
    fake_check_settled(f);
    fake_free(f);
}

static void reason_is_rewritten_only_when_it_changed(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web;
    size_t mark;

    fake_node(f, (struct fake_node){.hostname = "n", .memory_bytes = 100});
    web = fake_service(f, (struct fake_service){.replicas = 5, .memory_bytes = 500});
    fake_settle(f);
    assert_string_equal(reason(f, web, 5), "no suitable node (insufficient resources on 1 node)");
    mark = fake_mark(f);
    fake_settle(f);
    assert_int_equal(fake_mark(f), mark);
    fake_node(f, (struct fake_node){.hostname = "m", .memory_bytes = 100});
    mark = fake_mark(f);
    fake_settle(f);
    assert_int_equal(fake_mark(f), mark + 5);
    for (uint64_t slot = 1; slot <= 5; slot++)
        assert_string_equal(reason(f, web, slot), "no suitable node (insufficient resources on 2 nodes)");
    fake_check_settled(f);
    fake_free(f);
}

static void reasons_of_many_tasks_are_told_over_several_rounds(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web, big;

    f->round_room = 60;
    fake_node(f, (struct fake_node){.hostname = "n", .memory_bytes = 100});
    web = fake_service(f, (struct fake_service){.replicas = 200, .memory_bytes = 500});
    for (int i = 0; i < 3; i++)
        fake_round(f);
    fake_node(f, (struct fake_node){.hostname = "m", .memory_bytes = 100}); /* the reason changes in between */
    fake_settle(f);
    for (uint64_t slot = 1; slot <= 200; slot++)
        assert_string_equal(reason(f, web, slot), "no suitable node (insufficient resources on 2 nodes)");
    big = fake_node(f, (struct fake_node){.hostname = "big", .memory_bytes = 500 * 150});
    fake_settle(f);
    assert_int_equal(fake_count_on(f, web, big), 150);
    fake_check_settled(f);
    fake_free(f);
}

static void turns_that_end_early_change_nothing_in_the_end(void **state)
{
    enum { NODES = 2000 };
    struct fake *f = fake_new(1);
    uint64_t web;

    for (int i = 0; i < NODES; i++)
        fake_node(f, (struct fake_node){.hostname = "n", .labels = i % 2 ? "zone=a" : NULL});
    web = fake_service(f, (struct fake_service){.replicas = 1500, .constraints = "node.labels.zone==a"});
    /* The rank of two thousand nodes is built in slices. */
    for (int i = 0; i < 3000 && index_service(f->index, web)->held < 1500; i++) {
        f->late_in = 7;
        fake_round(f);
    }
    for (int i = 0; i < 100; i++) {
        f->late_in = 40;
        fake_round(f);
    }
    fake_settle(f);
    fake_check_settled(f);
    unsigned most = 0;
    for (uint32_t i = 0; i < f->index->node_count; i++)
        most = MAX(most, f->index->node_at[i]->counted);
    assert_int_equal(most, 2);
    assert_int_equal(fake_count(f, web, TASK_STATE__RUNNING, TASK_STATE__ASSIGNED), 1500);
    fake_free(f);
}

static void nodes_that_go_and_come_are_not_mixed_up(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t n[4], web;

    for (int i = 0; i < 4; i++)
        n[i] = fake_node(f, (struct fake_node){.hostname = "n", .labels = i < 2 ? "zone=a" : "zone=b"});
    web = fake_service(f, (struct fake_service){.replicas = 2, .constraints = "node.labels.zone==a"});
    fake_converge(f);
    /* Places of removed nodes are given to others. */
    fake_node_remove(f, n[2]);
    fake_node_remove(f, n[3]);
    fake_settle(f);
    uint64_t fresh = fake_node(f, (struct fake_node){.hostname = "fresh", .labels = "zone=a"});
    fake_node(f, (struct fake_node){.hostname = "wrong", .labels = "zone=c"});
    fake_service_update(f, web, (struct fake_service){.replicas = 3, .constraints = "node.labels.zone==a"});
    fake_converge(f);
    assert_int_equal(fake_count_on(f, web, fresh), 1);
    fake_check_settled(f);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_task_says_why_in_dockers_words),
        cmocka_unit_test(one_node_is_singular_and_no_node_has_no_reasons),
        cmocka_unit_test(platforms_match_by_alias_and_empty_parts),
        cmocka_unit_test(log_drivers_are_not_asked_of_nodes_that_report_none),
        cmocka_unit_test(reservations_are_kept_and_given_back),
        cmocka_unit_test(node_has_no_more_tasks_than_its_agent_can_hold),
        cmocka_unit_test(tasks_spread_by_service_first_then_by_load),
        cmocka_unit_test(node_on_which_tasks_fail_ranks_behind_healthy_ones),
        cmocka_unit_test(preferences_even_out_branches_and_nest),
        cmocka_unit_test(preference_overflows_to_branches_with_room),
        cmocka_unit_test(large_services_are_balanced_over_many_nodes),
        cmocka_unit_test(parked_tasks_are_placed_when_a_node_changes_for_the_better),
        cmocka_unit_test(changes_that_cannot_make_it_fit_wake_nobody),
        cmocka_unit_test(reason_is_rewritten_only_when_it_changed),
        cmocka_unit_test(reasons_of_many_tasks_are_told_over_several_rounds),
        cmocka_unit_test(turns_that_end_early_change_nothing_in_the_end),
        cmocka_unit_test(nodes_that_go_and_come_are_not_mixed_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
