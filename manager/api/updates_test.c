/* Rolling updates asked for through the manager's door: what becomes of the tasks when replacements fail, and what
 * UpdateStatus says of it (reference/swarm-surface.md section 12). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "tests/support/puppet.h"

static struct cluster c;
static struct puppet agent;

static int setup(void **state)
{
    cluster_found(&c, "/tmp", NULL);
    puppet_start(&agent, &c);
    return 0;
}

static int teardown(void **state)
{
    puppet_end(&agent);
    cluster_end(&c);
    return 0;
}

#define get(path)     cluster_expect(&c, 200, "GET", path, NULL)
#define at(body, way) json_at(&c, body, way)
#define format(...)   arena_printf(&c.arena, __VA_ARGS__)

#define HOUR "3600000000000"

/* A service of n replicas that never restarts what failed; `config` is a list of members that begins with a comma.
 */
static const char *spec(const char *image, unsigned replicas, const char *config)
{
    return format("{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"%s\"},\"RestartPolicy\":{"
                  "\"Condition\":\"none\"}},\"Mode\":{\"Replicated\":{\"Replicas\":%u}}%s}",
                  image, replicas, config);
}

static const char *web(const char *way)
{
    const char *value = at(get("/services/web"), way);

    return value ? value : "(nothing)";
}

#define IMAGE "Spec.TaskTemplate.ContainerSpec.Image"

static void create_running(unsigned replicas, const char *config)
{
    cluster_expect(&c, 201, "POST", "/services/create", spec("web:1", replicas, config));
    cluster_until(&c, puppet_running(&agent) == replicas && agent.acknowledged == agent.reports);
}

static void update(const char *query, const char *body)
{
    cluster_expect(&c, 200, "POST", format("/services/web/update?version=%s%s", web("Version.Index"), query), body);
}

static void until_state(const char *state)
{
    cluster_until(&c, strcmp(web("UpdateStatus.State"), state) == 0);
}

static size_t count(const char *filters)
{
    return strtoul(at(get(format("/tasks?filters={\"service\":[\"web\"],%s}", filters)), "#"), NULL, 10);
}

#define WANTED "\"desired-state\":[\"running\"]"

/* How many tasks that are to run are of this image. */
static size_t count_image(const char *image)
{
    const char *body = get("/tasks?filters={" WANTED "}");
    size_t tasks = strtoul(at(body, "#"), NULL, 10), found = 0;

    for (size_t i = 0; i < tasks; i++)
        found += strcmp(at(body, format("%zu.Spec.ContainerSpec.Image", i)), image) == 0;
    return found;
}

static void expect_message(const char *begins)
{
    if (strncmp(web("UpdateStatus.Message"), begins, strlen(begins)) != 0)
        fail_msg("%s", web("UpdateStatus.Message"));
}

/* The message ends with the id of a task that failed. */
static void expect_failed_task_in_message(void)
{
    const char *message = web("UpdateStatus.Message"), *id = strrchr(message, ' ') + 1;

    assert_string_equal(at(get(format("/tasks/%s", id)), "Status.State"), "failed");
}

/* --- failure actions ---------------------------------------------------------------------------------------- */

static void update_that_fails_is_paused_and_the_next_one_goes_on(void **state)
{
    static const char config[] = ",\"UpdateConfig\":{\"Parallelism\":1,\"Monitor\":" HOUR "}";

    create_running(3, config);
    agent.failing_image = "web:2";
    update("", spec("web:2", 3, config));
    until_state("paused");
    expect_message("update paused due to failure or early termination of task ");
    expect_failed_task_in_message();
    assert_string_not_equal(web("UpdateStatus.StartedAt"), "(nothing)");
    assert_string_equal(web("UpdateStatus.CompletedAt"), "(nothing)");
    cluster_rest(&c, 50);
    assert_int_equal(count_image("web:1"), 2); /* untouched */
    assert_string_equal(web(IMAGE), "web:2");
    update("", spec("web:3", 3, ",\"UpdateConfig\":{\"Parallelism\":1,\"Monitor\":1000000}"));
    until_state("completed");
    assert_int_equal(count_image("web:3"), 3);
    assert_int_equal(puppet_running(&agent), 3);
    expect_message("update completed");
    assert_string_not_equal(web("UpdateStatus.CompletedAt"), "(nothing)");
}

static void absent_update_config_means_one_at_a_time_and_pause(void **state)
{
    create_running(2, "");
    agent.failing_image = "web:2";
    update("", spec("web:2", 2, ""));
    until_state("paused");
    assert_int_equal(count_image("web:1"), 1);
}

static void update_that_fails_is_rolled_back_when_it_says_so(void **state)
{
    static const char config[] =
        ",\"UpdateConfig\":{\"Parallelism\":2,\"FailureAction\":\"rollback\",\"Monitor\":" HOUR
        "},\"RollbackConfig\":{\"Parallelism\":1,\"Monitor\":" HOUR "}";

    create_running(3, config);
    agent.failing_image = "web:2";
    update("", spec("web:2", 3, config));
    until_state("rollback_started"); /* and stays so: it is watched for an hour */
    expect_message("update rolled back due to failure or early termination of task ");
    expect_failed_task_in_message();
    assert_string_equal(web(IMAGE), "web:1");
    assert_string_equal(web("PreviousSpec"), "(nothing)"); /* a rollback by itself forgets it */
    cluster_until(&c, count_image("web:1") == 3 && puppet_running(&agent) == 3);
    cluster_expect(&c, 400, "POST",
                   format("/services/web/update?rollback=previous&version=%s", web("Version.Index")), "{}");
}

static void rollback_by_itself_comes_to_an_end(void **state)
{
    static const char config[] = ",\"UpdateConfig\":{\"FailureAction\":\"rollback\",\"Order\":\"start-first\"},"
                                 "\"RollbackConfig\":{\"Parallelism\":0,\"Monitor\":1000000}";

    create_running(2, config);
    agent.failing_image = "web:2";
    update("", spec("web:2", 2, config));
    until_state("rollback_completed");
    expect_message("rollback completed");
    assert_int_equal(count_image("web:1"), 2);
    assert_int_equal(puppet_running(&agent), 2);
    assert_string_not_equal(web("UpdateStatus.CompletedAt"), "(nothing)");
}

static void rollback_that_fails_is_paused_and_not_rolled_back(void **state)
{
    static const char config[] =
        ",\"UpdateConfig\":{\"Parallelism\":1,\"FailureAction\":\"rollback\",\"Monitor\":" HOUR
        "},\"RollbackConfig\":{\"Parallelism\":1,\"Monitor\":" HOUR "}";

    create_running(2, config);
    agent.failing = true; /* whatever starts from now on */
    update("", spec("web:2", 2, config));
    until_state("rollback_paused");
    expect_message("rollback paused due to failure or early termination of task ");
    expect_failed_task_in_message();
    assert_string_equal(web(IMAGE), "web:1");
    assert_int_equal(puppet_running(&agent), 1); /* the one that was not yet replaced */
}

static void failures_are_not_even_counted_with_continue(void **state)
{
    static const char config[] =
        ",\"UpdateConfig\":{\"Parallelism\":1,\"FailureAction\":\"continue\",\"Monitor\":1000000}";

    create_running(3, config);
    agent.failing_image = "web:2";
    update("", spec("web:2", 3, config));
    until_state("completed");
    assert_int_equal(puppet_running(&agent), 0);
    assert_int_equal(count("\"_up-to-date\":[\"true\"]"), 3);
}

static void ratio_of_failures_is_tolerated(void **state)
{
    static const char config[] =
        ",\"UpdateConfig\":{\"Parallelism\":1,\"MaxFailureRatio\":0.5,\"Monitor\":" HOUR "}";

    create_running(4, config);
    agent.failing_image = "web:2";
    update("", spec("web:2", 4, config));
    until_state("paused");
    cluster_rest(&c, 20);
    assert_int_equal(count_image("web:1"), 1); /* two of four were not too many, the third was */
    assert_string_equal(web("UpdateStatus.State"), "paused");
}

/* --- order ---------------------------------------------------------------------------------------------------- */

static void start_first_stops_the_old_one_when_the_new_one_runs(void **state)
{
    static const char config[] =
        ",\"UpdateConfig\":{\"Parallelism\":1,\"Monitor\":1000000,\"Order\":\"start-first\"}";

    create_running(2, config);
    agent.mute = true;
    update("", spec("web:2", 2, config));
    cluster_until(&c, puppet_find_image(&agent, "web:2"));
    assert_int_equal(count(WANTED), 3);
    puppet_report(&agent, puppet_find_image(&agent, "web:2"), TASK_STATE__RUNNING, NULL);
    cluster_until(&c, agent.acknowledged == agent.reports && count_image("web:1") == 1);
    agent.mute = false;
    puppet_look(&agent);
    until_state("completed");
    assert_int_equal(count_image("web:2"), 2);
}

static void start_first_keeps_the_old_one_when_the_new_one_fails(void **state)
{
    static const char config[] =
        ",\"UpdateConfig\":{\"Parallelism\":0,\"Monitor\":1000000,\"Order\":\"start-first\"}";

    create_running(2, config);
    agent.failing_image = "web:2";
    update("", spec("web:2", 2, config));
    until_state("paused");
    assert_int_equal(count_image("web:1"), 2);
    assert_int_equal(puppet_running(&agent), 2);
}

/* --- by hand -------------------------------------------------------------------------------------------------- */

static void rollback_by_hand_is_paced_by_its_own_config(void **state)
{
    static const char config[] = ",\"UpdateConfig\":{\"Parallelism\":0,\"Monitor\":1000000},\"RollbackConfig\":{"
                                 "\"Parallelism\":1,\"Monitor\":1000000}";

    create_running(3, config);
    update("", spec("web:2", 3, config));
    until_state("completed");
    agent.mute = true;
    update("&rollback=previous", "{}");
    until_state("rollback_started");
    expect_message("manually requested rollback");
    assert_string_equal(web(IMAGE), "web:1");
    assert_string_equal(web("PreviousSpec.TaskTemplate.ContainerSpec.Image"), "web:2");
    cluster_rest(&c, 30);
    assert_int_equal(count("\"desired-state\":[\"ready\"]"), 1); /* one at a time */
    agent.mute = false;
    puppet_look(&agent);
    until_state("rollback_completed");
    assert_int_equal(count_image("web:1"), 3);
    update("&rollback=previous", "{}"); /* and back again: it has swapped them */
    until_state("rollback_completed");
    assert_string_equal(web(IMAGE), "web:2");
}

static void scaling_and_labels_leave_tasks_alone(void **state)
{
    create_running(2, "");
    const char *tasks = get("/tasks?filters={" WANTED "}");
    const char *first = at(tasks, "0.ID"), *second = at(tasks, "1.ID");

    update("", spec("web:1", 4, ",\"Labels\":{\"a\":\"b\"}"));
    cluster_until(&c, puppet_running(&agent) == 4);
    tasks = get("/tasks?filters={" WANTED "}");
    assert_string_equal(at(tasks, "0.ID"), first);
    assert_string_equal(at(tasks, "1.ID"), second);
    assert_string_equal(web("UpdateStatus"), "(nothing)"); /* nothing had to be replaced */
    assert_int_equal(count("\"_up-to-date\":[\"true\"]"), 4);
}

static void update_during_an_update_supersedes_it(void **state)
{
    static const char config[] = ",\"UpdateConfig\":{\"Parallelism\":1,\"Monitor\":1000000}";

    create_running(3, config);
    agent.mute = true; /* the first replacement never runs */
    update("", spec("web:2", 3, config));
    until_state("updating");
    expect_message("update in progress");
    agent.mute = false;
    update("", spec("web:3", 3, config));
    puppet_look(&agent);
    until_state("completed");
    assert_int_equal(count_image("web:3"), 3);
    assert_int_equal(puppet_running(&agent), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(update_that_fails_is_paused_and_the_next_one_goes_on),
        TEST(absent_update_config_means_one_at_a_time_and_pause),
        TEST(update_that_fails_is_rolled_back_when_it_says_so),
        TEST(rollback_by_itself_comes_to_an_end),
        TEST(rollback_that_fails_is_paused_and_not_rolled_back),
        TEST(failures_are_not_even_counted_with_continue),
        TEST(ratio_of_failures_is_tolerated),
        TEST(start_first_stops_the_old_one_when_the_new_one_runs),
        TEST(start_first_keeps_the_old_one_when_the_new_one_fails),
        TEST(rollback_by_hand_is_paced_by_its_own_config),
        TEST(scaling_and_labels_leave_tasks_alone),
        TEST(update_during_an_update_supersedes_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
