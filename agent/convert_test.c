/* What a service asks for reaches the container, field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/convert.h"

struct fixture {
    struct arena arena;
    AssignedTask task;
    AssignedSpec spec;
    ServiceSpec service;
    TaskSpec task_spec;
    ContainerSpec container;
    uint8_t id[16];
};

static int setup(void **state)
{
    static struct fixture f;

    f = (struct fixture){.id = {1}};
    arena_init(&f.arena);
    f.task = (AssignedTask)ASSIGNED_TASK__INIT;
    f.spec = (AssignedSpec)ASSIGNED_SPEC__INIT;
    f.service = (ServiceSpec)SERVICE_SPEC__INIT;
    f.task_spec = (TaskSpec)TASK_SPEC__INIT;
    f.container = (ContainerSpec)CONTAINER_SPEC__INIT;
    f.task.id = f.task.service_id = (ProtobufCBinaryData){16, f.id};
    f.task.name = (char *)"web.1.x";
    f.spec.spec = &f.service;
    f.service.name = (char *)"web";
    f.service.task = &f.task_spec;
    f.task_spec.container = &f.container;
    f.container.image = (char *)"web:1";
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    arena_fini(&f->arena);
    return 0;
}

static ContainerConfig *convert(struct fixture *f)
{
    ContainerConfig *config = NULL;

    assert_int_equal(convert_task(&f->task, &f->spec, "node1", &f->arena, &config, NULL), 0);
    return config;
}

static const char *label_of(const ContainerConfig *config, const char *key)
{
    const char *value = NULL;

    for (size_t i = 0; i < config->n_labels; i++)
        if (strcmp(config->labels[i]->key, key) == 0) {
            assert_null(value); /* once */
            value = config->labels[i]->value;
        }
    return value;
}

static void defaults_are_those_of_a_swarm_task(void **state)
{
    ContainerConfig *config = convert(*state);

    assert_string_equal(config->image, "web:1");
    assert_string_equal(config->host->network_mode, "none");
    assert_int_equal(config->stop_timeout_s, 10);
    assert_false(config->entrypoint_set);
    assert_false(config->command_set);
    assert_false(config->host->has_memory_bytes);
}

static void labels_of_the_swarm_cannot_be_forged(void **state)
{
    struct fixture *f = *state;
    KeyValue own = KEY_VALUE__INIT, forged = KEY_VALUE__INIT, *labels[] = {&own, &forged};

    own.key = (char *)"tier";
    own.value = (char *)"front";
    forged.key = (char *)CONVERT_LABEL_TASK;
    forged.value = (char *)"somebody-else";
    f->container.labels = labels;
    f->container.n_labels = 2;
    ContainerConfig *config = convert(f);
    assert_string_equal(label_of(config, "tier"), "front");
    assert_string_not_equal(label_of(config, CONVERT_LABEL_TASK), "somebody-else");
    assert_string_equal(label_of(config, "com.docker.swarm.task"), "");
    assert_string_equal(label_of(config, "com.docker.swarm.service.name"), "web");
    assert_string_equal(label_of(config, CONVERT_LABEL_NODE), "node1");
}

static void command_replaces_entrypoint_and_args_replace_command(void **state)
{
    struct fixture *f = *state;
    char *words[] = {(char *)"sleep", (char *)"1"};

    f->container.args = words;
    f->container.n_args = 2;
    ContainerConfig *config = convert(f);
    assert_true(config->command_set);
    assert_false(config->entrypoint_set);
    f->container.command = words;
    f->container.n_command = 1;
    config = convert(f);
    assert_true(config->entrypoint_set);
    assert_int_equal(config->n_entrypoint, 1);
}

static void hosts_are_turned_around(void **state)
{
    struct fixture *f = *state;
    char *lines[] = {(char *)"10.0.0.1 db db.local", (char *)"fd00::1 six"}, *bad[] = {(char *)"10.0.0.1"};
    struct err e;
    ContainerConfig *config;

    f->container.hosts = lines;
    f->container.n_hosts = 2;
    config = convert(f);
    assert_int_equal(config->host->n_extra_hosts, 3);
    assert_string_equal(config->host->extra_hosts[0], "db:10.0.0.1");
    assert_string_equal(config->host->extra_hosts[1], "db.local:10.0.0.1");
    assert_string_equal(config->host->extra_hosts[2], "six:fd00::1");
    f->container.hosts = bad;
    f->container.n_hosts = 1;
    assert_int_equal(convert_task(&f->task, &f->spec, "node1", &f->arena, &config, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "10.0.0.1"));
}

static void limits_grace_and_privileges_reach_the_container(void **state)
{
    struct fixture *f = *state;
    Resources limits = RESOURCES__INIT;
    Privileges privileges = PRIVILEGES__INIT;

    limits.has_memory_bytes = limits.has_nano_cpus = limits.has_pids = true;
    limits.memory_bytes = 64 << 20;
    limits.nano_cpus = 500000000;
    limits.pids = 10;
    privileges.has_no_new_privileges = privileges.no_new_privileges = true;
    privileges.seccomp_mode = (char *)"unconfined";
    f->task_spec.limits = &limits;
    f->container.privileges = &privileges;
    f->container.has_stop_grace_period_ns = true;
    f->container.stop_grace_period_ns = 1500000000; /* rounded up: never less than asked for */
    f->task.network = (char *)"host";
    ContainerConfig *config = convert(f);
    assert_int_equal(config->host->memory_bytes, 64 << 20);
    assert_int_equal(config->host->nano_cpus, 500000000);
    assert_int_equal(config->host->pids_limit, 10);
    assert_int_equal(config->stop_timeout_s, 2);
    assert_string_equal(config->host->network_mode, "host");
    assert_int_equal(config->host->n_security_options, 2);
    assert_string_equal(config->host->security_options[0], "no-new-privileges=true");
    assert_string_equal(config->host->security_options[1], "seccomp=unconfined");
}

static void log_driver_of_the_task_is_there_for_a_spec_without_one(void **state)
{
    struct fixture *f = *state;
    LogDriver of_spec = LOG_DRIVER__INIT, of_task = LOG_DRIVER__INIT;
    KeyValue size = KEY_VALUE__INIT, *options[] = {&size};

    assert_null(convert(f)->host->log_driver);
    of_spec.name = (char *)"none";
    f->task_spec.log_driver = &of_spec;
    assert_string_equal(convert(f)->host->log_driver, "none");
    f->task_spec.log_driver = NULL;
    size.key = (char *)"max-size";
    size.value = (char *)"1m";
    of_task.name = (char *)"json-file";
    of_task.options = options;
    of_task.n_options = 1;
    f->task.log_driver = &of_task;
    ContainerConfig *config = convert(f);
    assert_string_equal(config->host->log_driver, "json-file");
    assert_int_equal(config->host->n_log_options, 1);
    assert_string_equal(config->host->log_options[0]->value, "1m");
}

static void spec_without_an_image_is_refused(void **state)
{
    struct fixture *f = *state;
    ContainerConfig *config;
    struct err e;

    f->container.image = NULL;
    assert_int_equal(convert_task(&f->task, &f->spec, "node1", &f->arena, &config, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "Image"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_those_of_a_swarm_task, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_of_the_swarm_cannot_be_forged, setup, teardown),
        cmocka_unit_test_setup_teardown(command_replaces_entrypoint_and_args_replace_command, setup, teardown),
        cmocka_unit_test_setup_teardown(hosts_are_turned_around, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_grace_and_privileges_reach_the_container, setup, teardown),
        cmocka_unit_test_setup_teardown(log_driver_of_the_task_is_there_for_a_spec_without_one, setup, teardown),
        cmocka_unit_test_setup_teardown(spec_without_an_image_is_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
