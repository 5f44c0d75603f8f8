/* The manager behind its door: requests by mail, an agent without an engine over real TLS, a log on the disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "tests/support/puppet.h"

static struct cluster c;

static int setup(void **state)
{
    cluster_found(&c, "/tmp", NULL);
    return 0;
}

static int teardown(void **state)
{
    cluster_end(&c);
    return 0;
}

#define WEB                                                                                                   \
    "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}},\"Mode\":{\"Replicated\":{" \
    "\"Replicas\":3}}}"

static void created_service_runs_on_the_agent(void **state)
{
    struct puppet a;

    puppet_start(&a, &c);
    cluster_expect(&c, 201, "POST", "/services/create", WEB);
    cluster_until(&c, puppet_running(&a) == 3);
    cluster_expect(&c, 200, "GET", "/services?status=true", NULL);
    cluster_expect(&c, 200, "GET", "/services/web?insertDefaults=true", NULL);
    cluster_expect(&c, 200, "GET", "/tasks", NULL);
    cluster_expect(&c, 200, "GET", "/nodes", NULL);
    cluster_expect(&c, 200, "GET", "/swarm", NULL);
    cluster_expect(&c, 200, "DELETE", "/services/web", NULL);
    cluster_until(&c, map_next(&a.tasks, &(size_t){0}) == NULL);
    puppet_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(created_service_runs_on_the_agent, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
