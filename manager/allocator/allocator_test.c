/* Published ports: conflicts, numbers that the cluster chooses, and what happens when none is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/allocator/allocator.h"
#include "manager/orchestrator/intent.h"
#include "tests/simulation/fake.h"

static uint32_t published(struct fake *f, uint64_t service)
{
    const Endpoint *endpoint = fake_service_object(f, service)->endpoint;

    return endpoint && endpoint->n_ports ? endpoint->ports[endpoint->n_ports - 1]->published_port : 0;
}

static void wanted_port_is_given_and_refused_to_others(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web = fake_service(f, (struct fake_service){.name = "web", .replicas = 1, .mesh_port = 8080}), number;
    struct err e = {0};
    char expected[128], id[IDENT_TEXT + 1];

    fake_settle(f);
    assert_int_equal(published(f, web), 8080);
    ident_format(index_service(f->index, web)->id, id);
    (void)snprintf(expected, sizeof(expected),
                   "port '8080' is already in use by service 'web' (%s) as an ingress port", id);
    assert_int_equal(
        service_create(&f->plan, fake_spec(f, (struct fake_service){.name = "b", .mesh_port = 8080}), &number, &e),
        ERR_INVALID);
    assert_string_equal(e.text, expected);
    assert_int_equal(
        service_create(&f->plan, fake_spec(f, (struct fake_service){.name = "b", .host_port = 8080}), &number, &e),
        ERR_INVALID);
    assert_string_equal(e.text, expected);
    /* Its own update is no conflict, and when it is gone the port is free. */
    fake_service_update(f, web, (struct fake_service){.name = "web", .replicas = 2, .mesh_port = 8080});
    fake_settle(f);
    fake_service_remove(f, web);
    fake_service(f, (struct fake_service){.name = "b", .mesh_port = 8080});
    fake_converge(f);
    fake_check_settled(f);
    fake_free(f);
}

static void host_ports_of_two_services_may_be_the_same_but_not_one_of_the_mesh(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t number;
    struct err e = {0};

    fake_service(f, (struct fake_service){.name = "a", .host_port = 80});
    fake_settle(f);
    fake_service(f, (struct fake_service){.name = "b", .host_port = 80});
    fake_settle(f);
    assert_int_equal(
        service_create(&f->plan, fake_spec(f, (struct fake_service){.name = "c", .mesh_port = 80}), &number, &e),
        ERR_INVALID);
    assert_non_null(strstr(e.text, "port '80' is already in use by service"));
    fake_check_settled(f);
    fake_free(f);
}

static void chosen_ports_are_distinct_and_stay(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t a, b;

    fake_service(f, (struct fake_service){.name = "fixed", .mesh_port = 30001});
    a = fake_service(f, (struct fake_service){.name = "a", .automatic_port = true});
    b = fake_service(f, (struct fake_service){.name = "b", .automatic_port = true});
    fake_settle(f);
    assert_int_equal(published(f, a), 30000);
    assert_int_equal(published(f, b), 30002);
    fake_service_remove(f, a);
    fake_service_update(f, b, (struct fake_service){.name = "b", .automatic_port = true, .mesh_port = 9000});
    fake_settle(f);
    assert_int_equal(published(f, b), 30002);
    fake_check_settled(f);
    fake_free(f);
}

static void tasks_wait_and_say_so_when_no_port_is_left(void **state)
{
    struct fake *f = fake_new(1);
    enum { ALL = ALLOCATOR_PORT_LAST - ALLOCATOR_PORT_FIRST + 1 };
    uint64_t first = 0, starved, task;

    fake_node(f, (struct fake_node){.hostname = "n"});
    for (int i = 0; i < ALL; i++) {
        uint64_t s = fake_service(f, (struct fake_service){.name = "x", .automatic_port = true});

        first = first ? first : s;
    }
    fake_settle(f);
    starved = fake_service(f, (struct fake_service){.name = "late", .replicas = 1, .automatic_port = true});
    fake_converge(f);
    task = fake_newest(f, starved, 1, 0);
    assert_int_equal(fake_status(f, task)->state, TASK_STATE__NEW);
    assert_string_equal(fake_status(f, task)->err, "no published port is free between 30000 and 32767");
    fake_service_remove(f, first);
    fake_converge(f);
    assert_int_equal(fake_status(f, task)->state, TASK_STATE__RUNNING);
    assert_int_equal(published(f, starved), 30000);
    fake_check(f);
    fake_free(f);
}

static void service_without_ports_has_no_endpoint(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 1});

    fake_settle(f);
    assert_null(fake_service_object(f, web)->endpoint);
    fake_service_update(f, web, (struct fake_service){.replicas = 1, .mesh_port = 80});
    fake_settle(f);
    assert_int_equal(published(f, web), 80);
    fake_service_update(f, web, (struct fake_service){.replicas = 1});
    fake_settle(f);
    assert_null(fake_service_object(f, web)->endpoint);
    assert_int_equal(f->index->ports.count, 0);
    fake_check_settled(f);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wanted_port_is_given_and_refused_to_others),
        cmocka_unit_test(host_ports_of_two_services_may_be_the_same_but_not_one_of_the_mesh),
        cmocka_unit_test(chosen_ports_are_distinct_and_stay),
        cmocka_unit_test(tasks_wait_and_say_so_when_no_port_is_left),
        cmocka_unit_test(service_without_ports_has_no_endpoint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
