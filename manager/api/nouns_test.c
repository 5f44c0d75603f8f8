/* The nouns of the swarm API asked through the manager's door: what they do, what they refuse and in which words.
 */
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

static void expect_text(const char *got, const char *expected)
{
    assert_string_equal(got ? got : "(nothing)", expected);
}

static const char *service_json(const char *name, const char *more)
{
    return format("{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}}%s}", name, more);
}

static const char *create(const char *name, const char *more)
{
    const char *body = cluster_expect(&c, 201, "POST", "/services/create", service_json(name, more));

    expect_text(at(body, "Warnings"), "[]");
    return at(body, "ID");
}

static void refused(int status, const char *method, const char *path, const char *body, const char *message)
{
    const char *got = cluster_expect(&c, status, method, path, body);

    assert_string_equal(at(got, "message"), message);
}

static const char *version_of(const char *path)
{
    return at(get(path), "Version.Index");
}

#define REPLICAS(n) ",\"Mode\":{\"Replicated\":{\"Replicas\":" #n "}}"
#define QUICK       ",\"UpdateConfig\":{\"Parallelism\":0,\"Monitor\":1}"

/* --- services -------------------------------------------------------------------------------------------- */

static void service_is_found_by_id_name_and_beginning_of_its_id(void **state)
{
    const char *id = create("web", "");

    expect_text(at(get(format("/services/%s", id)), "ID"), id);
    expect_text(at(get("/services/web"), "ID"), id);
    expect_text(at(get("/services/WEB"), "ID"), id); /* names know no case */
    expect_text(at(get(format("/services/%.10s", id)), "ID"), id);
    refused(404, "GET", "/services/we", NULL, "service we not found");
    refused(404, "GET", "/services/%", NULL, "service % not found");
    refused(404, "GET", format("/services/%sx", id), NULL, format("service %sx not found", id));
    refused(404, "DELETE", "/services/other", NULL, "service other not found");
}

static void beginning_that_several_ids_have_is_ambiguous(void **state)
{
    unsigned begin_with[256] = {0};
    char prefix[2] = "";

    /* Ids begin with one of 36 characters: among so many, two share it. */
    for (int i = 0; i < 40; i++) {
        const char *id = create(format("s%d", i), REPLICAS(0));

        if (begin_with[(unsigned char)id[0]]++)
            prefix[0] = id[0];
    }
    const char *got = cluster_expect(&c, 400, "GET", format("/services/%s", prefix), NULL);
    assert_non_null(strstr(at(got, "message"), format("service %s is ambiguous (", prefix)));
    cluster_expect(&c, 400, "DELETE", format("/services/%s", prefix), NULL);
    expect_text(at(get("/services"), "#"), "40"); /* nothing was removed */
}

static void name_that_is_taken_is_refused(void **state)
{
    create("web", "");
    refused(409, "POST", "/services/create", service_json("web", ""),
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already "
            "exists");
    refused(409, "POST", "/services/create", service_json("Web", ""),
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service Web already "
            "exists");
    cluster_expect(&c, 200, "DELETE", "/services/web", NULL);
    create("web", ""); /* free at once, though its tasks still stop */
}

static void service_without_a_name_gets_one(void **state)
{
    const char *first = at(get(format("/services/%s", create("", ""))), "Spec.Name");
    const char *second = at(get(format("/services/%s", create("", ""))), "Spec.Name");

    assert_non_null(strchr(first, '_'));
    assert_non_null(strchr(second, '_'));
    assert_string_not_equal(first, second);
}

static void networks_become_ids_and_unknown_ones_are_refused(void **state)
{
    static const char attached[] =
        "{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"},\"Networks\":[{"
        "\"Target\":\"%s\"}]}}";
    const char *host = at(get("/networks/host"), "Id");

    cluster_expect(&c, 201, "POST", "/services/create", format(attached, "a", "host"));
    cluster_expect(&c, 201, "POST", "/services/create", format(attached, "b", host));
    cluster_expect(&c, 201, "POST", "/services/create", format(attached, "d", "none"));
    expect_text(at(get("/services/a"), "Spec.TaskTemplate.Networks.0.Target"), host);
    expect_text(at(get("/services/b"), "Spec.TaskTemplate.Networks.0.Target"), host);
    refused(404, "POST", "/services/create", format(attached, "failed", "nosuch"), "network nosuch not found");
    refused(404, "GET", "/services/failed", NULL, "service failed not found");
    cluster_until(&c, puppet_running(&agent) == 3);
    expect_text(at(get("/tasks?filters={\"service\":[\"a\"]}"), "0.NetworksAttachments.0.Network.Spec.Name"),
                "host");
}

static void old_version_cannot_update(void **state)
{
    create("web", REPLICAS(1));
    const char *version = version_of("/services/web");
    const char *path = format("/services/web/update?version=%s", version);

    expect_text(at(cluster_expect(&c, 200, "POST", path, service_json("web", REPLICAS(2))), "Warnings"), "[]");
    refused(500, "POST", path, service_json("web", REPLICAS(3)),
            "rpc error: code = Unknown desc = update out of sequence");
    expect_text(at(get("/services/web"), "Spec.Mode.Replicated.Replicas"), "2");
    expect_text(at(get("/services/web"), "PreviousSpec.Mode.Replicated.Replicas"), "1");
    cluster_until(&c, puppet_running(&agent) == 2);
}

/* All of them have seen the same version. */
static void of_many_updates_at_once_one_succeeds(void **state)
{
    enum { CLIENTS = 20 };
    static struct answer answers[CLIENTS];
    int won = -1;

    create("web", REPLICAS(0));
    for (int round = 0; round < 5; round++) {
        const char *path = format("/services/web/update?version=%s", version_of("/services/web"));

        won = -1;
        for (int i = 0; i < CLIENTS; i++)
            cluster_ask(&c, &answers[i], "POST", path,
                        service_json("web", format(",\"Labels\":{\"by\":\"%d\"},\"Mode\":{\"Replicated\":{"
                                                   "\"Replicas\":0}}",
                                                   i)));
        for (int i = 0; i < CLIENTS; i++) {
            cluster_until(&c, answers[i].done);
            if (answers[i].status == 200) {
                assert_int_equal(won, -1);
                won = i;
            } else {
                assert_int_equal(answers[i].status, 500);
                assert_non_null(strstr(buf_str(&answers[i].body), "update out of sequence"));
            }
            answer_fini(&answers[i]);
        }
        assert_true(won >= 0);
        expect_text(at(get("/services/web"), "Spec.Labels.by"), format("%d", won));
    }
}

static void name_and_mode_cannot_change(void **state)
{
    create("web", REPLICAS(1));
    const char *path = format("/services/web/update?version=%s", version_of("/services/web"));

    refused(501, "POST", path, service_json("other", REPLICAS(1)),
            "rpc error: code = Unimplemented desc = renaming services is not supported");
    refused(501, "POST", path, service_json("web", ",\"Mode\":{\"Global\":{}}"),
            "rpc error: code = Unimplemented desc = service mode change is not allowed");
    refused(404, "POST", "/services/x/update?version=1", service_json("x", ""), "service x not found");
}

static const char *image_of(const char *which)
{
    return at(get("/services/web"), format("%s.TaskTemplate.ContainerSpec.Image", which));
}

static void rollback_swaps_specs_and_is_undone_by_another(void **state)
{
    static const char second[] =
        "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:2\"}}" REPLICAS(1) QUICK "}";

    create("web", REPLICAS(1) QUICK);
    refused(400, "POST", format("/services/web/update?rollback=previous&version=%s", version_of("/services/web")),
            "{}", "rpc error: code = FailedPrecondition desc = service web does not have a previous spec");
    cluster_expect(&c, 200, "POST", format("/services/web/update?version=%s", version_of("/services/web")), second);
    expect_text(image_of("Spec"), "web:2");
    expect_text(image_of("PreviousSpec"), "web:1");
    cluster_expect(&c, 200, "POST",
                   format("/services/web/update?rollback=previous&version=%s", version_of("/services/web")), "");
    expect_text(image_of("Spec"), "web:1");
    expect_text(image_of("PreviousSpec"), "web:2");
    cluster_until(&c, strcmp(at(get("/services/web"), "UpdateStatus.State"), "rollback_completed") == 0);
}

static void update_replaces_tasks_and_says_how_it_went(void **state)
{
    static const char second[] =
        "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:2\"}}" REPLICAS(3) QUICK "}";
    static const char clean[] =
        "/tasks?filters={\"service\":[\"web\"],\"_up-to-date\":[\"true\"],\"desired-state\":["
        "\"running\"]}";

    create("web", REPLICAS(3) QUICK);
    cluster_until(&c, puppet_running(&agent) == 3);
    assert_null(at(get("/services/web"), "UpdateStatus"));
    expect_text(at(get(clean), "#"), "3");
    cluster_expect(&c, 200, "POST", format("/services/web/update?version=%s", version_of("/services/web")), second);
    cluster_until(&c, strcmp(at(get("/services/web"), "UpdateStatus.State"), "completed") == 0);
    expect_text(at(get(clean), "#"), "3");
    for (int i = 0; i < 3; i++)
        expect_text(at(get(clean), format("%d.Spec.ContainerSpec.Image", i)), "web:2");
    expect_text(at(get("/tasks?filters={\"service\":[\"web\"],\"desired-state\":[\"shutdown\"]}"), "#"), "3");
    expect_text(at(get("/services/web"), "UpdateStatus.Message"), "update completed");
}

static void order_start_first_is_followed(void **state)
{
    static const char first[] =
        ",\"UpdateConfig\":{\"Parallelism\":1,\"Monitor\":1,\"Order\":\"start-first\"}" REPLICAS(1);

    create("web", first);
    cluster_until(&c, puppet_running(&agent) == 1);
    agent.mute = true; /* the new task does not run: the old one must not be stopped */
    cluster_expect(
        &c, 200, "POST", format("/services/web/update?version=%s", version_of("/services/web")),
        format("{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:2\"}}%s}", first));
    cluster_until(&c, agent.tasks.count == 2);
    cluster_rest(&c, 50);
    expect_text(at(get("/tasks?filters={\"service\":[\"web\"],\"desired-state\":[\"running\"]}"), "#"), "2");
}

static void filters_of_services_select(void **state)
{
    static const struct {
        const char *filters, *names[3]; /* in order of creation */
    } cases[] = {
        {"{}", {"web", "website", "db"}},
        {"{\"name\":[\"web\"]}", {"web", "website"}},
        {"{\"name\":{\"website\":true}}", {"website"}},
        {"{\"name\":[\"db\",\"website\"]}", {"website", "db"}},
        {"{\"name\":[\"eb\"]}", {NULL}},
        {"{\"mode\":[\"global\"]}", {"db"}},
        {"{\"mode\":[\"replicated\"]}", {"web", "website"}},
        {"{\"label\":[\"tier=front\"]}", {"web"}},
        {"{\"label\":[\"tier\"]}", {"web", "website"}},
        {"{\"label\":[\"tier\",\"x\"]}", {NULL}},
        {"{\"runtime\":[\"container\"]}", {"web", "website", "db"}},
        {"{\"runtime\":[\"plugin\"]}", {NULL}},
        {"{\"id\":[\"!\"]}", {NULL}},
    };

    create("web", ",\"Labels\":{\"tier\":\"front\"}");
    create("website", ",\"Labels\":{\"tier\":\"back\"}");
    create("db", ",\"Mode\":{\"Global\":{}}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *body = get(format("/services?filters=%s", cases[i].filters));
        size_t count = 0;

        for (; count < 3 && cases[i].names[count]; count++) {
            const char *name = at(body, format("%zu.Spec.Name", count));

            if (!name || strcmp(name, cases[i].names[count]) != 0)
                fail_msg("%s: %s", cases[i].filters, body);
        }
        if (strtoul(at(body, "#"), NULL, 10) != count)
            fail_msg("%s: %s", cases[i].filters, body);
    }
}

static void status_counts_tasks_that_run_and_should(void **state)
{
    agent.mute = true;
    create("web", REPLICAS(3));
    create("all", ",\"Mode\":{\"Global\":{}}");
    cluster_until(&c, agent.tasks.count == 4);
    const char *body = get("/services?status=true&filters={\"name\":[\"web\"]}");
    expect_text(at(body, "0.ServiceStatus.RunningTasks"), "0");
    expect_text(at(body, "0.ServiceStatus.DesiredTasks"), "3");
    puppet_report(&agent, puppet_find(&agent, "web.2."), TASK_STATE__RUNNING, NULL);
    puppet_report(&agent, puppet_find(&agent, "all."), TASK_STATE__RUNNING, NULL);
    cluster_until(&c, agent.acknowledged == agent.reports);
    body = get("/services?status=true");
    expect_text(at(body, "0.ServiceStatus.RunningTasks"), "1");
    expect_text(at(body, "1.ServiceStatus.RunningTasks"), "1");
    expect_text(at(body, "1.ServiceStatus.DesiredTasks"), "1");
    assert_null(at(get("/services"), "0.ServiceStatus"));
}

/* --- credentials ------------------------------------------------------------------------------------------- */

static void call_with_auth(const char *path, const char *body, const char *auth)
{
    struct answer a;

    cluster_ask_as(&c, &a, "POST", path, body, auth);
    cluster_until(&c, a.done);
    if (a.status / 100 != 2)
        fail_msg("%d: %s", a.status, buf_str(&a.body));
    answer_fini(&a);
}

static const char *auth_of_agent(const char *task)
{
    const AssignmentItem *item = NULL;

    cluster_until(&c, puppet_find(&agent, task));
    item = puppet_spec(&agent, puppet_find(&agent, task));
    const char *auth = item->spec->spec->task->container->registry_auth;
    return auth ? auth : "none";
}

static void credentials_reach_the_node_stay_over_updates_and_are_not_shown(void **state)
{
    call_with_auth("/services/create", service_json("web", QUICK), "Zmlyc3Q=");
    expect_text(auth_of_agent("web.1."), "Zmlyc3Q=");
    assert_null(strstr(get("/services/web"), "Zmlyc3Q"));
    cluster_expect(&c, 200, "POST", format("/services/web/update?version=%s", version_of("/services/web")),
                   "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:2\"}}" QUICK "}");
    cluster_until(&c, strcmp(at(get("/services/web"), "UpdateStatus.State"), "completed") == 0);
    cluster_until(&c, agent.tasks.count >= 2);
    struct puppet_task *t;
    size_t walk = 0, kept = 0;
    while ((t = map_next(&agent.tasks, &walk))) /* old and new version have them */
        kept += strcmp(puppet_spec(&agent, t)->spec->spec->task->container->registry_auth, "Zmlyc3Q=") == 0;
    assert_int_equal(kept, agent.tasks.count);
}

static void credentials_of_the_previous_spec_need_one(void **state)
{
    create("web", "");
    refused(400, "POST",
            format("/services/web/update?registryAuthFrom=previous-spec&version=%s", version_of("/services/web")),
            service_json("web", ""), "service web does not have a previous spec");
}

/* --- tasks ------------------------------------------------------------------------------------------------- */

static void task_is_found_by_id_name_and_beginning(void **state)
{
    create("web", REPLICAS(2));
    cluster_until(&c, puppet_running(&agent) == 2);
    const struct puppet_task *t = puppet_find(&agent, "web.2.");

    expect_text(at(get(format("/tasks/%s", t->key)), "Slot"), "2");
    expect_text(at(get(format("/tasks/%s", t->name)), "ID"), t->key);
    expect_text(at(get(format("/tasks/%.12s", t->key)), "ID"), t->key);
    refused(404, "GET", format("/tasks/web.1.%s", t->key), NULL, format("task web.1.%s not found", t->key));
    refused(404, "GET", "/tasks/nosuch", NULL, "task nosuch not found");
}

static size_t count_tasks(const char *filters)
{
    return strtoul(at(get(format("/tasks?filters=%s", filters)), "#"), NULL, 10);
}

static void filters_of_tasks_select(void **state)
{
    const char *web = create("web", REPLICAS(3) ",\"Labels\":{\"tier\":\"front\"}");
    const struct {
        const char *filters;
        size_t count;
    } cases[] = {
        {"{}", 4},
        {"{\"service\":[\"web\"]}", 3},
        {format("{\"service\":[\"%.8s\"]}", web), 3},
        {"{\"service\":[\"web\",\"all\"]}", 4},
        {"{\"service\":[\"web\"],\"node\":[\"self\"]}", 3},
        {"{\"node\":[\"self\"]}", 4},
        {"{\"node\":[\"first\"]}", 4},
        {format("{\"node\":[\"%s\",\"self\",\"first\"]}", agent.node_id), 4}, /* the same one: each task once */
        {"{\"name\":[\"web.2\"]}", 1},
        {"{\"name\":[\"web\"]}", 3},
        {"{\"name\":[\"all\"]}", 1},
        {format("{\"name\":[\"all.%s.\"]}", agent.node_id), 1},
        {"{\"label\":[\"tier=front\"]}", 3},
        {"{\"label\":[\"tier=back\"]}", 0},
        {"{\"desired-state\":[\"running\"]}", 4},
        {"{\"desired-state\":[\"shutdown\",\"ready\"]}", 0},
        {"{\"_up-to-date\":[\"true\"]}", 4},
        {"{\"_up-to-date\":[\"false\"]}", 4},
        {"{\"runtime\":[\"container\",\"\"]}", 4},
        {"{\"runtime\":[\"plugin\"]}", 0},
        {"{\"id\":[\"\"]}", 4},
    };

    create("all", ",\"Mode\":{\"Global\":{}}");
    cluster_until(&c, puppet_running(&agent) == 4);
    cluster_until(&c, agent.acknowledged == agent.reports);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (count_tasks(cases[i].filters) != cases[i].count)
            fail_msg("%s: %zu instead of %zu", cases[i].filters, count_tasks(cases[i].filters), cases[i].count);
    refused(404, "GET", "/tasks?filters={\"service\":[\"nosuch\"]}", NULL, "service nosuch not found");
    refused(404, "GET", "/tasks?filters={\"node\":[\"nosuch\"]}", NULL, "node nosuch not found");
}

static void failed_task_shows_its_error_and_is_replaced_in_its_slot(void **state)
{
    create("web", REPLICAS(1) ",\"Labels\":{}");
    cluster_until(&c, puppet_running(&agent) == 1);
    struct puppet_task *t = puppet_find(&agent, "web.1.");
    char *key = mem_strdup(t->key);

    puppet_report(&agent, t, TASK_STATE__FAILED, "task: non-zero exit (3)");
    cluster_until(&c, count_tasks("{\"service\":[\"web\"]}") == 2);
    const char *body = get(format("/tasks/%s", key));
    expect_text(at(body, "Status.State"), "failed");
    expect_text(at(body, "Status.Err"), "task: non-zero exit (3)");
    expect_text(at(body, "DesiredState"), "shutdown");
    expect_text(at(body, "Status.ContainerStatus.PID"), "4711");
    body = get("/tasks?filters={\"service\":[\"web\"],\"desired-state\":[\"ready\"]}");
    expect_text(at(body, "0.Slot"), "1");
    free(key);
}

static void task_that_fits_nowhere_says_why(void **state)
{
    cluster_expect(
        &c, 201, "POST", "/services/create",
        "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"},\"Placement\":{\"Constraints\":["
        "\"node.labels.zone==moon\"]}}}");
    cluster_until(&c, at(get("/tasks"), "0.Status.Err"));
    const char *body = get("/tasks");
    expect_text(at(body, "0.Status.State"), "pending");
    expect_text(at(body, "0.Status.Err"), "no suitable node (scheduling constraints not satisfied on 1 node)");
    assert_null(at(body, "0.NodeID"));
}

/* --- nodes ------------------------------------------------------------------------------------------------- */

static const char *node_path(const char *verb)
{
    return format("/nodes/%s/update?version=%s%s", agent.node_id, version_of(format("/nodes/%s", agent.node_id)),
                  verb);
}

static void node_is_updated_with_labels_and_availability(void **state)
{
    cluster_expect(&c, 200, "POST", node_path(""),
                   "{\"Role\":\"manager\",\"Availability\":\"drain\",\"Labels\":{\"zone\":\"a\"}}");
    const char *body = get("/nodes/first");
    expect_text(at(body, "Spec.Availability"), "drain");
    expect_text(at(body, "Spec.Labels.zone"), "a");
    expect_text(at(body, "ManagerStatus.Leader"), "true");
    expect_text(at(body, "Status.State"), "ready");
    create("web", "");
    cluster_until(&c, at(get("/tasks"), "0.Status.Err"));
    expect_text(at(get("/tasks"), "0.Status.Err"), "no suitable node (1 node not available for new tasks)");
    cluster_expect(&c, 200, "POST", node_path(""), "{\"Role\":\"manager\",\"Availability\":\"active\"}");
    cluster_until(&c, puppet_running(&agent) == 1);
    expect_text(at(get("/nodes/first"), "Spec.Labels"), "{}"); /* a spec replaces the one before */
}

static void role_is_a_wish_that_the_last_manager_may_not_lose(void **state)
{
    struct puppet worker;

    refused(400, "POST", node_path(""), "{\"Role\":\"worker\",\"Availability\":\"active\"}",
            "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm");
    puppet_join(&worker, &c, "second");
    cluster_expect(&c, 200, "POST", format("/nodes/second/update?version=%s", version_of("/nodes/second")),
                   "{\"Role\":\"manager\",\"Availability\":\"active\"}");
    expect_text(at(get("/nodes/second"), "Spec.Role"), "manager");
    assert_null(at(get("/nodes/second"), "ManagerStatus"));
    refused(400, "POST", node_path(""), "{\"Role\":\"worker\",\"Availability\":\"active\"}",
            "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm");
    cluster_expect(&c, 200, "POST", format("/nodes/second/update?version=%s", version_of("/nodes/second")),
                   "{\"Role\":\"worker\",\"Availability\":\"active\"}");
    refused(500, "POST", "/nodes/second/update?version=1", "{\"Role\":\"worker\",\"Availability\":\"active\"}",
            "rpc error: code = Unknown desc = update out of sequence");
    puppet_end(&worker);
}

static void node_is_removed_only_when_it_may(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    expect_text(at(get("/nodes"), "#"), "2");
    assert_null(at(get("/nodes/second"), "ManagerStatus"));
    refused(
        400, "DELETE", "/nodes/first", NULL,
        "rpc error: code = FailedPrecondition desc = node first is a cluster manager and is a member of the raft "
        "cluster. It must be demoted to worker before removal");
    refused(400, "DELETE", "/nodes/second", NULL,
            "rpc error: code = FailedPrecondition desc = node second is not down and can't be removed");
    cluster_expect(&c, 200, "DELETE", "/nodes/second?force=1", NULL);
    cluster_until(&c, !worker.conn); /* it is not one of us any more */
    expect_text(at(get("/nodes"), "#"), "1");
    puppet_connect(&worker);
    cluster_until(&c, worker.ends);
    assert_false(worker.ready);
    assert_non_null(strstr(worker.ended.text, "not part of this cluster"));
    puppet_end(&worker);
}

static void filters_of_nodes_select(void **state)
{
    struct puppet worker;
    static const struct {
        const char *filters, *count;
    } cases[] = {
        {"{}", "2"},
        {"{\"name\":[\"sec\"]}", "1"},
        {"{\"role\":[\"manager\"]}", "1"},
        {"{\"role\":[\"worker\",\"manager\"]}", "2"},
        {"{\"membership\":[\"accepted\"]}", "2"},
        {"{\"membership\":[\"pending\"]}", "0"},
        {"{\"node.label\":[\"zone\"]}", "1"},
        {"{\"node.label\":[\"zone=b\"]}", "0"},
        {"{\"label\":[\"zone\"]}", "0"}, /* the engine's, which has none */
        {"{\"id\":[\"-\"]}", "0"},
    };

    puppet_join(&worker, &c, "second");
    cluster_expect(&c, 200, "POST", format("/nodes/second/update?version=%s", version_of("/nodes/second")),
                   "{\"Role\":\"worker\",\"Availability\":\"active\",\"Labels\":{\"zone\":\"a\"}}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *body = get(format("/nodes?filters=%s", cases[i].filters));

        if (strcmp(at(body, "#"), cases[i].count) != 0)
            fail_msg("%s: %s", cases[i].filters, body);
    }
    puppet_end(&worker);
}

static void two_nodes_of_one_name_are_ambiguous(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "first");
    refused(400, "GET", "/nodes/first", NULL, "node first is ambiguous (2 matches found)");
    refused(400, "DELETE", "/nodes/first?force=1", NULL, "node first is ambiguous (2 matches found)");
    expect_text(at(get(format("/nodes/%s", worker.node_id)), "Description.Hostname"), "first");
    puppet_end(&worker);
}

/* --- the swarm --------------------------------------------------------------------------------------------- */

static void swarm_is_updated_and_keeps_what_is_not_named(void **state)
{
    const char *path = format("/swarm/update?version=%s", version_of("/swarm"));

    cluster_expect(
        &c, 200, "POST", path,
        "{\"Name\":\"default\",\"Labels\":{\"a\":\"b\"},\"Orchestration\":{\"TaskHistoryRetentionLimit\":2}}");
    const char *body = get("/swarm");
    expect_text(at(body, "Spec.Orchestration.TaskHistoryRetentionLimit"), "2");
    expect_text(at(body, "Spec.Labels.a"), "b");
    expect_text(at(body, "Spec.Dispatcher.HeartbeatPeriod"), "5000000000");
    expect_text(at(body, "Spec.Name"), "default");
    refused(500, "POST", path, "{}", "rpc error: code = Unknown desc = update out of sequence");
}

static void join_tokens_rotate_one_by_one(void **state)
{
    const char *before = get("/swarm");
    struct puppet joiner = {.cluster = &c};
    struct err e;

    cluster_expect(&c, 200, "POST", format("/swarm/update?rotateWorkerToken=true&version=%s", version_of("/swarm")),
                   "{\"Name\":\"default\"}");
    const char *after = get("/swarm");
    assert_string_not_equal(at(before, "JoinTokens.Worker"), at(after, "JoinTokens.Worker"));
    assert_string_equal(at(before, "JoinTokens.Manager"), at(after, "JoinTokens.Manager"));
    assert_int_equal(puppet_try_join(&joiner, at(before, "JoinTokens.Worker"), &e), ERR_INVALID);
    assert_int_equal(puppet_try_join(&joiner, at(after, "JoinTokens.Worker"), &e), 0);
    tls_unref(joiner.tls);
}

static void both_join_tokens_rotate_at_once(void **state)
{
    const char *before = get("/swarm");

    cluster_expect(
        &c, 200, "POST",
        format("/swarm/update?rotateWorkerToken=1&rotateManagerToken=true&version=%s", version_of("/swarm")),
        "{\"Name\":\"default\"}");
    const char *after = get("/swarm");
    assert_string_not_equal(at(before, "JoinTokens.Worker"), at(after, "JoinTokens.Worker"));
    assert_string_not_equal(at(before, "JoinTokens.Manager"), at(after, "JoinTokens.Manager"));
    assert_string_not_equal(at(after, "JoinTokens.Worker"), at(after, "JoinTokens.Manager"));
    assert_int_equal(strlen(at(after, "JoinTokens.Worker")), 85);
    assert_memory_equal(at(before, "JoinTokens.Worker"), at(after, "JoinTokens.Worker"),
                        60); /* the root's digest */
}

static void lifetime_of_certificates_is_set_for_those_to_come(void **state)
{
    refused(400, "POST", format("/swarm/update?version=%s", version_of("/swarm")),
            "{\"CAConfig\":{\"NodeCertExpiry\":3599999999999}}",
            "rpc error: code = InvalidArgument desc = certificate expiry time must be at least 1h0m0s "
            "(CAConfig.NodeCertExpiry: 3599999999999 ns)");
    cluster_expect(&c, 200, "POST", format("/swarm/update?version=%s", version_of("/swarm")),
                   "{\"CAConfig\":{\"NodeCertExpiry\":7200000000000}}");
    expect_text(at(get("/swarm"), "Spec.CAConfig.NodeCertExpiry"), "7200000000000");
}

/* Counts the tasks of web's only slot that are kept. */
static void fail_once_more(size_t kept)
{
    struct puppet_task *t;

    cluster_until(&c, puppet_running(&agent) == 1 && agent.acknowledged == agent.reports);
    for (size_t walk = 0; (t = map_next(&agent.tasks, &walk)) && t->reported != TASK_STATE__RUNNING;)
        ;
    puppet_report(&agent, t, TASK_STATE__FAILED, "task: non-zero exit (1)");
    cluster_until(&c, puppet_running(&agent) == 1 && count_tasks("{\"service\":[\"web\"]}") == kept);
}

static void history_of_a_slot_is_as_long_as_the_swarm_says(void **state)
{
    cluster_expect(&c, 200, "POST", format("/swarm/update?version=%s", version_of("/swarm")),
                   "{\"Orchestration\":{\"TaskHistoryRetentionLimit\":3}}");
    cluster_expect(&c, 201, "POST", "/services/create",
                   "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"},\"RestartPolicy\":{"
                   "\"Delay\":1}}}");
    fail_once_more(2);
    fail_once_more(3);
    fail_once_more(3);
    fail_once_more(3);
    cluster_expect(&c, 200, "POST", format("/swarm/update?version=%s", version_of("/swarm")),
                   "{\"Orchestration\":{\"TaskHistoryRetentionLimit\":1}}");
    fail_once_more(1);
}

/* --- the unlock key ---------------------------------------------------------------------------------------- */

static const char *unlock_key(void)
{
    return at(get("/swarm/unlockkey"), "UnlockKey");
}

static void update_swarm(const char *query, const char *body)
{
    cluster_expect(&c, 200, "POST", format("/swarm/update?version=%s%s", version_of("/swarm"), query), body);
}

/* The node was told this key: its text, "" for none. */
static bool was_told(const char *text)
{
    char told[MANAGER_LOCK_TEXT + 1] = "";

    if (c.lock.is_on)
        manager_lock_format(c.lock.key, told);
    return c.lock.tells > 0 && strcmp(told, text) == 0;
}

static void unlock_key_is_there_while_autolock_is_on(void **state)
{
    expect_text(unlock_key(), "");
    expect_text(at(get("/swarm"), "Spec.EncryptionConfig.AutoLockManagers"), "false");
    cluster_until(&c, was_told(""));
    update_swarm("", "{\"EncryptionConfig\":{\"AutoLockManagers\":true}}");
    const char *key = unlock_key();
    uint8_t parsed[MANAGER_LOCK_KEY];
    assert_int_equal(manager_lock_parse(key, parsed, NULL), 0);
    expect_text(at(get("/swarm"), "Spec.EncryptionConfig.AutoLockManagers"), "true");
    cluster_until(&c, was_told(key));
    uint64_t version = c.lock.version;
    update_swarm("", "{\"Labels\":{\"a\":\"b\"}}"); /* other updates leave it */
    update_swarm("", "{\"EncryptionConfig\":{\"AutoLockManagers\":true}}");
    expect_text(unlock_key(), key);
    update_swarm("&rotateManagerUnlockKey=true", "{}");
    const char *second = unlock_key();
    assert_string_not_equal(key, second);
    cluster_until(&c, was_told(second));
    assert_true(c.lock.version > version);
    update_swarm("", "{\"EncryptionConfig\":{\"AutoLockManagers\":false}}");
    expect_text(unlock_key(), "");
    cluster_until(&c, was_told(""));
    update_swarm("", "{\"EncryptionConfig\":{\"AutoLockManagers\":true}}"); /* never the one from before */
    assert_string_not_equal(unlock_key(), second);
    assert_string_not_equal(unlock_key(), key);
}

static void node_is_told_the_key_again_by_a_manager_that_starts(void **state)
{
    update_swarm("", "{\"EncryptionConfig\":{\"AutoLockManagers\":true}}");
    const char *key = unlock_key();
    cluster_stop(&c);
    c.lock.tells = 0;
    cluster_start(&c);
    cluster_until(&c, was_told(key));
}

static void there_is_no_key_to_rotate_while_autolock_is_off(void **state)
{
    refused(
        400, "POST", format("/swarm/update?rotateManagerUnlockKey=1&version=%s", version_of("/swarm")), "{}",
        "rpc error: code = FailedPrecondition desc = rotateManagerUnlockKey: autolock is off, there is no key to "
        "rotate");
    /* Nor when it is turned off by the same request. */
    update_swarm("", "{\"EncryptionConfig\":{\"AutoLockManagers\":true}}");
    const char *key = unlock_key();
    refused(
        400, "POST", format("/swarm/update?rotateManagerUnlockKey=1&version=%s", version_of("/swarm")),
        "{\"EncryptionConfig\":{\"AutoLockManagers\":false}}",
        "rpc error: code = FailedPrecondition desc = rotateManagerUnlockKey: autolock is off, there is no key to "
        "rotate");
    expect_text(unlock_key(), key);
}

static void signing_key_never_leaves(void **state)
{
    static const char *const paths[] = {"/swarm", "/nodes", "/services", "/tasks", "/nodes/first", "/secrets"};

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        assert_null(strstr(get(paths[i]), "PRIVATE KEY"));
}

static void nouns_of_later_are_empty_or_refused(void **state)
{
    expect_text(at(get("/secrets"), "#"), "0");
    expect_text(at(get("/configs?filters={\"name\":[\"x\"]}"), "#"), "0");
    refused(501, "POST", "/secrets/create", "{\"Name\":\"x\"}", "secrets are not offered by shoal " SHOAL_VERSION);
    refused(404, "DELETE", "/configs/x", NULL, "config x not found");
}

static void networks_of_the_swarm_can_be_looked_up(void **state)
{
    const char *body = get("/networks/none");

    expect_text(at(body, "Name"), "none");
    expect_text(at(body, "Scope"), "swarm");
    expect_text(at(body, "Driver"), "null");
    refused(404, "GET", "/networks/bridge", NULL, "network bridge not found");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(service_is_found_by_id_name_and_beginning_of_its_id),
        TEST(beginning_that_several_ids_have_is_ambiguous),
        TEST(name_that_is_taken_is_refused),
        TEST(service_without_a_name_gets_one),
        TEST(networks_become_ids_and_unknown_ones_are_refused),
        TEST(old_version_cannot_update),
        TEST(of_many_updates_at_once_one_succeeds),
        TEST(name_and_mode_cannot_change),
        TEST(rollback_swaps_specs_and_is_undone_by_another),
        TEST(update_replaces_tasks_and_says_how_it_went),
        TEST(order_start_first_is_followed),
        TEST(filters_of_services_select),
        TEST(status_counts_tasks_that_run_and_should),
        TEST(credentials_reach_the_node_stay_over_updates_and_are_not_shown),
        TEST(credentials_of_the_previous_spec_need_one),
        TEST(task_is_found_by_id_name_and_beginning),
        TEST(filters_of_tasks_select),
        TEST(failed_task_shows_its_error_and_is_replaced_in_its_slot),
        TEST(task_that_fits_nowhere_says_why),
        TEST(node_is_updated_with_labels_and_availability),
        TEST(role_is_a_wish_that_the_last_manager_may_not_lose),
        TEST(node_is_removed_only_when_it_may),
        TEST(filters_of_nodes_select),
        TEST(two_nodes_of_one_name_are_ambiguous),
        TEST(swarm_is_updated_and_keeps_what_is_not_named),
        TEST(join_tokens_rotate_one_by_one),
        TEST(both_join_tokens_rotate_at_once),
        TEST(lifetime_of_certificates_is_set_for_those_to_come),
        TEST(history_of_a_slot_is_as_long_as_the_swarm_says),
        TEST(unlock_key_is_there_while_autolock_is_on),
        TEST(node_is_told_the_key_again_by_a_manager_that_starts),
        TEST(there_is_no_key_to_rotate_while_autolock_is_off),
        TEST(signing_key_never_leaves),
        TEST(nouns_of_later_are_empty_or_refused),
        TEST(networks_of_the_swarm_can_be_looked_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
