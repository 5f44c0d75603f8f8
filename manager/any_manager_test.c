/* The swarm API at managers that do not lead: the same answers as at the leader, reads that see what was
 * acknowledged elsewhere, and requests that come through while leaders change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "tests/support/group.h"
#include "tests/support/puppet.h"

static struct group g;

static int setup(void **state)
{
    group_found(&g, "/tmp");
    group_join(&g);
    group_join(&g);
    group_until(&g, group_is_level(&g, 3) && g.at[1].ready && g.at[2].ready);
    return 0;
}

static int teardown(void **state)
{
    group_end(&g);
    return 0;
}

#define format(...) arena_printf(&g.at[0].arena, __VA_ARGS__)

static unsigned leader(void)
{
    return (unsigned)(group_lead(&g) - g.at);
}

/* Ask at this manager, while all of them turn. */
static int call(unsigned i, const char *method, const char *path, const char *body, struct answer *ret)
{
    cluster_ask(&g.at[i], ret, method, path, body);
    group_until(&g, ret->done);
    return ret->status;
}

static const char *expect(unsigned i, int status, const char *method, const char *path, const char *body)
{
    struct answer a;

    if (call(i, method, path, body, &a) != status)
        fail_msg("manager %u: %s %s: %d instead of %d: %s", i, method, path, a.status, status, buf_str(&a.body));
    const char *text = arena_strndup(&g.at[0].arena, a.body.length ? buf_bytes(&a.body) : "", a.body.length);
    answer_fini(&a);
    return text;
}

static const char *service_json(const char *name, unsigned replicas, const char *more)
{
    return format("{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}},\"Mode\":{"
                  "\"Replicated\":{\"Replicas\":%u}}%s}",
                  name, replicas, more);
}

static const char *create(unsigned i, const char *name, unsigned replicas)
{
    return json_at(&g.at[0], expect(i, 201, "POST", "/services/create", service_json(name, replicas, "")), "ID");
}

/* --- the same answers ---------------------------------------------------------------------------------------- */

static void every_manager_gives_the_same_answer(void **state)
{
    static const struct {
        const char *method, *path, *body;
    } asks[] = {
        {"GET", "/services", NULL},
        {"GET", "/services/web", NULL},
        {"GET", "/services/web?insertDefaults=1", NULL},
        {"GET", "/services?status=1&filters={\"name\":[\"we\"]}", NULL},
        {"GET", "/services?filters={\"nosuch\":[\"x\"]}", NULL},
        {"GET", "/services/nosuch", NULL},
        {"DELETE", "/services/nosuch", NULL},
        {"POST", "/services/create", "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}"},
        {"POST", "/services/create", "{\"Name\":\"bad name\"}"},
        {"POST", "/services/create", "{"},
        {"POST", "/services/create", ""},
        {"POST", "/services/web/update?version=1",
         "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}"},
        {"GET", "/services/web/logs", NULL},
        {"GET", "/services/web/logs?stdout=1", NULL},
        {"GET", "/services/nosuch/logs?stdout=1", NULL},
        {"GET", "/tasks", NULL},
        {"GET", "/tasks?filters={\"service\":[\"web\"],\"desired-state\":[\"running\"]}", NULL},
        {"GET", "/tasks?filters={\"service\":[\"nosuch\"]}", NULL},
        {"GET", "/tasks/nosuch", NULL},
        {"GET", "/nodes?filters={\"role\":[\"worker\"]}", NULL},
        {"GET", "/nodes/nosuch", NULL},
        {"GET", "/swarm", NULL},
        {"GET", "/swarm/unlockkey", NULL},
        {"GET", "/secrets", NULL},
        {"GET", "/configs/nosuch", NULL},
        {"GET", "/networks/ingress", NULL},
        {"PUT", "/services", NULL},
    };
    unsigned lead = leader();

    create(lead, "web", 3);
    for (size_t n = 0; n < ARRAY_SIZE(asks); n++) {
        struct answer expected;

        call(lead, asks[n].method, asks[n].path, asks[n].body, &expected);
        for (unsigned i = 0; i < g.count; i++) {
            struct answer a;

            call(i, asks[n].method, asks[n].path, asks[n].body, &a);
            if (a.status != expected.status || strcmp(a.type, expected.type) != 0 ||
                a.body.length != expected.body.length || a.cut ||
                (a.body.length && memcmp(buf_bytes(&a.body), buf_bytes(&expected.body), a.body.length) != 0))
                fail_msg("manager %u: %s %s: %d %s %s, the leader: %d %s %s", i, asks[n].method, asks[n].path,
                         a.status, a.type, buf_str(&a.body), expected.status, expected.type,
                         buf_str(&expected.body));
            answer_fini(&a);
        }
        answer_fini(&expected);
    }
}

static void nodes_are_shown_alike_but_for_when_they_were_heard(void **state)
{
    for (unsigned i = 0; i < g.count; i++) {
        const char *body = expect(i, 200, "GET", "/nodes", NULL);

        assert_string_equal(json_at(&g.at[0], body, "#"), "3");
        for (unsigned n = 0; n < g.count; n++) {
            assert_string_equal(json_at(&g.at[0], body, format("%u.ManagerStatus.Reachability", n)), "reachable");
            const char *leads = json_at(&g.at[0], body, format("%u.ManagerStatus.Leader", n));
            bool is_leader =
                strcmp(json_at(&g.at[0], body, format("%u.ID", n)), g.at[leader()].founding.node_id) == 0;
            assert_int_equal(leads != NULL, is_leader);
        }
    }
}

/* So many tasks, each of which was told why it waits. */
static bool is_settled(unsigned i, int tasks)
{
    const char *body = expect(i, 200, "GET", "/tasks", NULL);

    return atoi(json_at(&g.at[0], body, "#")) == tasks && !strstr(body, "\"State\":\"new\"");
}

static void long_list_is_whole_at_every_manager(void **state)
{
    unsigned lead = leader();

    create((lead + 1) % 3, "many", 3000);
    group_until(&g, is_settled(lead, 3000));
    const char *expected = expect(lead, 200, "GET", "/tasks", NULL);
    for (unsigned i = 0; i < g.count; i++)
        assert_true(strcmp(expect(i, 200, "GET", "/tasks", NULL), expected) == 0); /* they are long */
}

static void body_comes_unchanged_through_a_follower(void **state)
{
    unsigned follower = (leader() + 1) % 3;
    size_t size = 120 * 1000; /* of many messages, as there are four */
    char *value = arena_alloc(&g.at[0].arena, size + 1);

    for (size_t i = 0; i < size; i++)
        value[i] = (char)('a' + i % 23);
    expect(follower, 201, "POST", "/services/create",
           service_json(
               "large", 0,
               format(",\"Labels\":{\"1\":\"%s\",\"2\":\"%s\",\"3\":\"%s\",\"4\":\"%s\",\"y\":\"\\u00e4\\n\"}",
                      value, value, value, value)));
    const char *body = expect(leader(), 200, "GET", "/services/large", NULL);
    for (unsigned i = 1; i <= 4; i++)
        assert_string_equal(json_at(&g.at[0], body, format("Spec.Labels.%u", i)), value);
    assert_string_equal(json_at(&g.at[0], body, "Spec.Labels.y"), "ä\n");
}

static void self_is_the_node_that_was_asked(void **state)
{
    unsigned lead = leader(), follower = (lead + 1) % 3;
    struct puppet agent;

    puppet_prepare(&agent, &g.at[follower]);
    agent.cluster = &g.at[lead]; /* where it is sent */
    puppet_connect(&agent);
    group_until(&g, agent.ready);
    expect(lead, 201, "POST", "/services/create", service_json("web", 2, ""));
    group_until(&g, puppet_running(&agent) == 2);
    assert_string_equal(
        json_at(&g.at[0], expect(follower, 200, "GET", "/tasks?filters={\"node\":[\"self\"]}", NULL), "#"), "2");
    assert_string_equal(expect(lead, 200, "GET", "/tasks?filters={\"node\":[\"self\"]}", NULL), "[]\n");
    puppet_end(&agent);
}

/* Lines of a node reach a client of a manager that does not lead as they come, and stop coming when it leaves. */
static void log_is_followed_through_a_follower(void **state)
{
    unsigned lead = leader(), follower = (lead + 1) % 3;
    struct puppet agent;
    struct answer a;

    puppet_start(&agent, &g.at[lead]);
    create(follower, "web", 1);
    group_until(&g, puppet_running(&agent) == 1 && agent.acknowledged == agent.reports);
    cluster_ask(&g.at[follower], &a, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    group_until(&g, !list_empty(&agent.logs));
    struct puppet_log *log = list_first(&agent.logs, struct puppet_log, link);
    for (unsigned n = 1; n <= 3; n++) {
        group_until(&g, log->stream);
        assert_true(puppet_log_line(log, n, 1, "one line\n"));
        group_until(&g, a.body.length == n * (8 + 9));
    }
    assert_string_equal(a.type, "application/vnd.docker.multiplexed-stream");
    assert_false(a.done || log->stopped);
    manager_drop(a.request);
    answer_fini(&a);
    group_until(&g, log->stopped);
    puppet_end(&agent);
}

/* --- reads see what was acknowledged ------------------------------------------------------------------------- */

static void read_sees_what_was_acknowledged_at_another_manager(void **state)
{
    for (unsigned n = 0; n < 60; n++) {
        unsigned writer = n % 3, reader = (n / 3) % 3;
        const char *id = create(writer, format("s%u", n), 0);

        expect(reader, 200, "GET", format("/services/%s", id), NULL);
        expect(writer, 200, "DELETE", format("/services/%s", id), NULL);
        expect(reader, 404, "GET", format("/services/%s", id), NULL);
    }
}

/* --- clients that go -------------------------------------------------------------------------------------------
 */

static void clients_that_go_leave_nothing_at_the_leader(void **state)
{
    unsigned follower = (leader() + 1) % 3;
    struct answer a;

    create(follower, "many", 2000);
    for (unsigned n = 0; n < 400; n++) { /* more than may be under way */
        cluster_ask(&g.at[follower], &a, "GET", n % 2 ? "/tasks" : "/services/many/logs?stdout=1&follow=1", NULL);
        a.keep_asking = n % 4 < 2;
        if (n % 8 < 6)
            group_until(&g, a.pages);
        if (a.request)
            manager_drop(a.request);
        answer_fini(&a);
    }
    assert_int_equal(call(follower, "GET", "/services/many/logs?stdout=1", NULL, &a), 200);
    answer_fini(&a);
}

/* --- leaders that change ---------------------------------------------------------------------------------------
 */

static struct answer writes[300];

/* Clients at the managers that stay write without a pause; nobody is told anything but success, and everything is
 * there once. */
static void writes_at_followers_outlive_the_leader(void **state)
{
    unsigned old = leader(), count = 0;
    struct answer a;

    for (; count < 60; count++)
        cluster_ask(&g.at[(old + 1 + count % 2) % 3], &writes[count], "POST", "/services/create",
                    service_json(format("w%u", count), 0, ""));
    group_turn(&g);
    group_stop(&g, old);
    for (; count < 120; count++)
        cluster_ask(&g.at[(old + 1 + count % 2) % 3], &writes[count], "POST", "/services/create",
                    service_json(format("w%u", count), 0, ""));
    for (unsigned n = 0; n < count; n++) {
        group_until(&g, writes[n].done);
        if (writes[n].status != 201)
            fail_msg("write %u: %d %s", n, writes[n].status, buf_str(&writes[n].body));
        answer_fini(&writes[n]);
    }
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(call((old + i) % 3, "GET", "/services", NULL, &a), 200);
        buf_append_char(&a.body, 0);
        assert_string_equal(json_at(&g.at[0], buf_bytes(&a.body), "#"), format("%u", count));
        answer_fini(&a);
    }
}

static void answer_of_a_leader_that_stops_is_cut(void **state)
{
    unsigned old = leader(), follower = (old + 1) % 3;
    struct answer a;

    create(follower, "many", 1);
    cluster_ask(&g.at[follower], &a, "GET", "/services/many/logs?stdout=1&follow=1", NULL);
    group_until(&g, a.pages == 1);
    assert_false(a.done);
    group_stop(&g, old);
    group_until(&g, a.done);
    assert_true(a.cut);
    answer_fini(&a);
}

/* The others are stopped: the leader that stays is none any more, says so within ten seconds, and who is missing.
 */
static void without_quorum_it_is_said_who_is_missing(void **state)
{
    unsigned last = leader();
    struct answer asks[2];
    uint64_t since;

    for (unsigned i = 1; i < 3; i++)
        group_stop(&g, (last + i) % 3);
    group_rest(&g, 1500); /* it steps down after an election timeout */
    since = uv_hrtime();
    cluster_ask(&g.at[last], &asks[0], "GET", "/services", NULL);
    cluster_ask(&g.at[last], &asks[1], "POST", "/services/create", service_json("web", 0, ""));
    for (unsigned n = 0; n < 2; n++) {
        group_until(&g, asks[n].done);
        assert_int_equal(asks[n].status, 503);
        buf_append_char(&asks[n].body, 0);
        const char *text = buf_bytes(&asks[n].body);
        if (!strstr(text, "The swarm does not have a leader. It's possible that too few managers are online. Make "
                          "sure more than half of the managers are online. Missing: "))
            fail_msg("%s", text);
        for (unsigned i = 1; i < 3; i++) {
            struct cluster *gone = &g.at[(last + i) % 3];

            if (!strstr(text, format("%s (%s, heard of ", (last + i) % 3 ? gone->founding.node_id : "first",
                                     gone->advertise)))
                fail_msg("%s", text);
        }
        answer_fini(&asks[n]);
    }
    assert_true(uv_hrtime() - since >= 9500000000); /* it was given its time */
    group_start(&g, (last + 1) % 3);
    create(last, "web", 0); /* what was refused was not done */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_manager_gives_the_same_answer),
        TEST(nodes_are_shown_alike_but_for_when_they_were_heard),
        TEST(long_list_is_whole_at_every_manager),
        TEST(body_comes_unchanged_through_a_follower),
        TEST(self_is_the_node_that_was_asked),
        TEST(log_is_followed_through_a_follower),
        TEST(read_sees_what_was_acknowledged_at_another_manager),
        TEST(clients_that_go_leave_nothing_at_the_leader),
        TEST(writes_at_followers_outlive_the_leader),
        TEST(answer_of_a_leader_that_stops_is_cut),
        TEST(without_quorum_it_is_said_who_is_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
