/* Logs of services and tasks, merged from agents that send what the test tells them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/dispatcher/dispatcher.h"
#include "proto/base/ident.h"
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

#define format(...) arena_printf(&c.arena, __VA_ARGS__)

static void create(const char *name, unsigned replicas, const char *container)
{
    cluster_expect(&c, 201, "POST", "/services/create",
                   format("{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"%s}},\"Mode\":{"
                          "\"Replicated\":{\"Replicas\":%u}}}",
                          name, container, replicas));
}

/* A service whose tasks are known to run. */
static void run(const char *name, unsigned replicas, const char *container)
{
    size_t before = puppet_running(&agent);

    create(name, replicas, container);
    cluster_until(&c, puppet_running(&agent) == before + replicas && agent.acknowledged == agent.reports);
}

static struct puppet_log *nth(const struct puppet *p, size_t n)
{
    struct puppet_log *l;

    list_each (l, &p->logs, link) {
        if (n-- == 0)
            return l;
    }
    return NULL;
}

static size_t log_count(const struct puppet *p)
{
    size_t count = 0;

    while (nth(p, count))
        count++;
    return count;
}

static struct puppet_log *log_of(const struct puppet *p, const char *task)
{
    const struct puppet_task *t = puppet_find(p, task);
    struct puppet_log *l, *found = NULL;

    assert_non_null(t);
    list_each (l, &p->logs, link) {
        if (memcmp(l->task_id, t->id, sizeof(t->id)) == 0)
            found = l; /* the newest */
    }
    return found;
}

static void expect_body(struct answer *a, const void *expected, size_t size)
{
    if (a->body.length != size || memcmp(buf_bytes(&a->body), expected, size) != 0)
        fail_msg("%zu bytes: %.*s", a->body.length, (int)a->body.length, buf_bytes(&a->body));
}

static const char frames_type[] = "application/vnd.docker.multiplexed-stream";

static void lines_of_all_tasks_come_in_frames_and_end_with_the_last(void **state)
{
    struct answer a;

    run("web", 2, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&stderr=1", NULL);
    cluster_until(&c, log_count(&agent) == 2);
    assert_false(nth(&agent, 0)->follow);
    assert_true(puppet_log_line(log_of(&agent, "web.1."), 1, 1, "one\n"));
    cluster_until(&c, a.body.length == 12);
    assert_true(puppet_log_line(log_of(&agent, "web.2."), 2, 2, "two\n"));
    cluster_until(&c, a.body.length == 24);
    puppet_log_end(log_of(&agent, "web.1."), NULL);
    cluster_rest(&c, 10);
    assert_false(a.done);
    assert_true(puppet_log_line(log_of(&agent, "web.2."), 3, 1, "end\n"));
    puppet_log_end(log_of(&agent, "web.2."), NULL);
    cluster_until(&c, a.done);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.type, frames_type);
    expect_body(&a, "\1\0\0\0\0\0\0\4one\n\2\0\0\0\0\0\0\4two\n\1\0\0\0\0\0\0\4end\n", 36);
    answer_fini(&a);
}

static void details_name_node_service_and_task(void **state)
{
    struct answer a;

    run("web", 1, "");
    const char *service = json_at(&c, cluster_expect(&c, 200, "GET", "/services/web", NULL), "ID");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&details=1&timestamps=1", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_true(puppet_log_line(nth(&agent, 0), 1700000000000000001, 1, "hi\n"));
    puppet_log_end(nth(&agent, 0), NULL);
    cluster_until(&c, a.done);
    assert_string_equal(
        buf_str(&a.body) + 8,
        format("2023-11-14T22:13:20.000000001Z com.docker.swarm.node.id=%s,com.docker.swarm.service.id=%s,"
               "com.docker.swarm.task.id=%s hi\n",
               agent.node_id, service, puppet_find(&agent, "web.1.")->key));
    answer_fini(&a);
}

static void options_reach_the_node(void **state)
{
    struct answer a;

    run("web", 1, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&follow=1&tail=5&since=1700000000.25", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_true(nth(&agent, 0)->follow);
    assert_int_equal(nth(&agent, 0)->tail, 5);
    assert_true(nth(&agent, 0)->since_ns == 1700000000250000000);
    assert_false(a.done);
    assert_int_equal(a.status, 200); /* told at once, though there is no line */
    manager_drop(a.request);
    answer_fini(&a);
}

static void terminal_is_sent_as_it_is(void **state)
{
    struct answer a;

    run("web", 1, ",\"TTY\":true");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_true(puppet_log_line(nth(&agent, 0), 1, 1, "\x1b[1mhi\r\n"));
    puppet_log_end(nth(&agent, 0), NULL);
    cluster_until(&c, a.done);
    assert_string_equal(a.type, "application/vnd.docker.raw-stream");
    expect_body(&a, "\x1b[1mhi\r\n", 8);
    answer_fini(&a);
}

static void log_of_one_task_is_its_own(void **state)
{
    struct answer a;

    run("web", 3, "");
    const struct puppet_task *t = puppet_find(&agent, "web.2.");
    cluster_ask(&c, &a, "GET", format("/tasks/%s/logs?stdout=1", t->key), NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_memory_equal(nth(&agent, 0)->task_id, t->id, 16);
    puppet_log_end(nth(&agent, 0), NULL);
    cluster_until(&c, a.done);
    assert_int_equal(log_count(&agent), 1);
    assert_int_equal(a.body.length, 0);
    answer_fini(&a);
}

static void what_does_not_exist_is_not_found_and_what_never_ran_is_empty(void **state)
{
    struct answer a;

    assert_string_equal(json_at(&c, cluster_expect(&c, 404, "GET", "/services/x/logs?stdout=1", NULL), "message"),
                        "service x not found");
    assert_string_equal(json_at(&c, cluster_expect(&c, 404, "GET", "/tasks/x/logs?stdout=1", NULL), "message"),
                        "task x not found");
    agent.mute = true;
    create("web", 2, "");
    cluster_until(&c, agent.tasks.count == 2);
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    cluster_until(&c, a.done);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.body.length, 0);
    answer_fini(&a);
}

static void missing_node_ends_the_log_with_the_reason(void **state)
{
    static const char says[] =
        "Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. some "
        "logs could not be retrieved for the following reasons: node ";
    struct puppet worker;
    struct answer a;

    puppet_join(&worker, &c, "second");
    create("web", 2, "");
    cluster_until(&c, puppet_running(&agent) == 1 && puppet_running(&worker) == 1);
    cluster_until(&c, worker.acknowledged == worker.reports && agent.acknowledged == agent.reports);
    puppet_disconnect(&worker);
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_true(puppet_log_line(nth(&agent, 0), 1, 1, "here\n"));
    puppet_log_end(nth(&agent, 0), NULL);
    cluster_until(&c, a.done);
    assert_memory_equal(buf_bytes(&a.body), "\1\0\0\0\0\0\0\5here\n\3\0\0\0", 17);
    assert_memory_equal(buf_bytes(&a.body) + 21, says, strlen(says));
    const char *reason = format("%s is not available", worker.node_id); /* or becomes so while it is asked */
    assert_memory_equal(buf_str(&a.body) + 21 + strlen(says), reason, strlen(reason));
    answer_fini(&a);
    puppet_end(&worker);
}

static void node_that_goes_away_meanwhile_is_told_too(void **state)
{
    struct answer a;

    run("web", 1, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_true(puppet_log_line(nth(&agent, 0), 1, 1, "x\n"));
    cluster_until(&c, a.body.length == 10);
    puppet_disconnect(&agent);
    cluster_until(&c, a.done);
    assert_non_null(strstr(buf_str(&a.body) + 18, "incomplete log stream"));
    answer_fini(&a);
}

/* --- following --------------------------------------------------------------------------------------------- */

static void tasks_that_come_later_are_followed_too(void **state)
{
    struct answer a;

    run("web", 1, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    cluster_expect(
        &c, 200, "POST",
        format("/services/web/update?version=%s",
               json_at(&c, cluster_expect(&c, 200, "GET", "/services/web", NULL), "Version.Index")),
        "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}},\"Mode\":{\"Replicated\":{"
        "\"Replicas\":3}}}");
    cluster_until(&c, log_count(&agent) == 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(puppet_log_line(nth(&agent, i), 1, 1, format("%zu\n", i)));
    cluster_until(&c, a.body.length == 30);
    create("other", 1, "");
    cluster_until(&c, puppet_running(&agent) == 4);
    cluster_rest(&c, 20);
    assert_int_equal(log_count(&agent), 3); /* another's tasks are not */
    manager_drop(a.request);
    cluster_until(&c, !nth(&agent, 0)->stream && !nth(&agent, 1)->stream && !nth(&agent, 2)->stream);
    answer_fini(&a);
}

static void service_that_is_removed_ends_what_follows_it(void **state)
{
    struct answer a;

    run("web", 1, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    cluster_expect(&c, 200, "DELETE", "/services/web", NULL);
    cluster_rest(&c, 20);
    assert_false(a.done); /* the task may have last words */
    assert_true(puppet_log_line(nth(&agent, 0), 1, 1, "bye\n"));
    puppet_log_end(nth(&agent, 0), NULL);
    cluster_until(&c, a.done);
    expect_body(&a, "\1\0\0\0\0\0\0\4bye\n", 12);
    answer_fini(&a);
}

static void following_goes_on_where_it_was_when_the_node_comes_back(void **state)
{
    struct answer a;

    run("web", 1, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&follow=1&tail=3", NULL);
    cluster_until(&c, log_count(&agent) == 1);
    assert_true(puppet_log_line(nth(&agent, 0), 500, 1, "a\n"));
    cluster_until(&c, a.body.length == 10);
    puppet_disconnect(&agent);
    puppet_connect(&agent);
    cluster_until(&c, agent.ready);
    cluster_until(&c, log_count(&agent) == 2);
    assert_true(nth(&agent, 1)->since_ns == 501);
    assert_int_equal(nth(&agent, 1)->tail, -1); /* everything since */
    cluster_until(&c, nth(&agent, 1)->stream);
    assert_true(puppet_log_line(nth(&agent, 1), 600, 1, "b\n"));
    cluster_until(&c, a.body.length == 20);
    assert_false(a.done);
    manager_drop(a.request);
    answer_fini(&a);
}

/* --- slow clients -------------------------------------------------------------------------------------------- */

static void client_that_reads_slowly_slows_the_node_and_misses_nothing(void **state)
{
    enum { LINES = 4000, SIZE = 1000 };
    static char text[SIZE + 1];
    struct answer a;
    unsigned sent = 0;

    run("web", 1, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    a.keep_asking = false;
    cluster_until(&c, log_count(&agent) == 1 && a.pages == 1);
    struct puppet_log *l = nth(&agent, 0);
    cluster_until(&c, l->stream);
    memset(text, '.', SIZE);
    text[SIZE - 1] = '\n';
    for (int quiet = 0; quiet < 20;) {
        (void)snprintf(text, 6, "%05u", sent); /* the line's number begins it */
        text[5] = '.';
        if (puppet_log_line(l, sent + 1, 1, text)) {
            sent++;
            quiet = 0;
        } else {
            cluster_rest(&c, 5);
            quiet++;
        }
        assert_true(sent < LINES); /* somebody must say stop */
    }
    print_message("%u lines of %d bytes were taken from the node while its client read nothing\n", sent, SIZE);
    assert_true(sent <
                900); /* what waits here and the credit of the stream: half a megabyte, and what was on its way */
    manager_more(a.request);
    a.keep_asking = true;
    while (sent < LINES) {
        (void)snprintf(text, 6, "%05u", sent); /* as above */
        text[5] = '.';
        if (puppet_log_line(l, sent + 1, 1, text))
            sent++;
        else
            uv_run(&c.loop, UV_RUN_ONCE);
    }
    cluster_until(&c, a.body.length == LINES * (size_t)(SIZE + 8));
    for (unsigned i = 0; i < LINES; i++)
        assert_int_equal(strtoul(buf_str(&a.body) + i * (size_t)(SIZE + 8) + 8, NULL, 10), i);
    manager_drop(a.request);
    answer_fini(&a);
}

static void many_tasks_are_read_a_few_at_a_time(void **state)
{
    enum { TASKS = 150 };
    struct answer a;
    size_t ended = 0;

    run("web", TASKS, "");
    cluster_ask(&c, &a, "GET", "/services/web/logs?stdout=1", NULL);
    while (!a.done) {
        size_t open = 0;
        struct puppet_log *l;

        list_each (l, &agent.logs, link)
            open += l->stream != NULL;
        assert_true(open <= 64);
        if (ended < log_count(&agent) && nth(&agent, ended)->stream) {
            assert_true(puppet_log_line(nth(&agent, ended), 1, 1, "x\n"));
            puppet_log_end(nth(&agent, ended++), NULL);
        }
        uv_run(&c.loop, UV_RUN_ONCE);
    }
    assert_int_equal(ended, TASKS);
    assert_int_equal(a.body.length, TASKS * 10);
    answer_fini(&a);
}

static void client_that_leaves_ends_what_its_nodes_send(void **state)
{
    struct answer first, second;

    run("web", 3, "");
    cluster_ask(&c, &first, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    cluster_ask(&c, &second, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    cluster_until(&c, log_count(&agent) == 6 && nth(&agent, 5)->stream);
    manager_drop(first.request);
    for (size_t i = 0; i < 3; i++)
        cluster_until(&c, !nth(&agent, i)->stream && nth(&agent, i)->stopped);
    assert_true(puppet_log_line(nth(&agent, 3), 1, 1, "x\n"));
    cluster_until(&c, second.body.length == 10); /* nobody else is concerned */
    manager_drop(second.request);
    for (size_t i = 3; i < 6; i++)
        cluster_until(&c, !nth(&agent, i)->stream);
    answer_fini(&first);
    answer_fini(&second);
}

static size_t streams(void)
{
    struct puppet_log *l;
    size_t open = 0;

    list_each (l, &agent.logs, link)
        open += l->stream != NULL;
    return open;
}

static void logs_that_are_read_at_once_are_bounded(void **state)
{
    enum { TASKS = 240 };
    struct answer first, second, third;

    run("web", TASKS, "");
    cluster_ask(&c, &first, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    cluster_until(&c, streams() == TASKS);
    cluster_ask(&c, &second, "GET", "/services/web/logs?stdout=1&follow=1", NULL);
    cluster_until(&c, streams() == DISPATCHER_LOGS_PER_NODE); /* the rest are asked for again and again */
    cluster_rest(&c, 1200);
    assert_int_equal(streams(), DISPATCHER_LOGS_PER_NODE);
    cluster_until(&c, first.pages && second.pages);
    create("many", 280, ""); /* with what is open more than are read at once: refused before any is asked for */
    cluster_until(&c, puppet_running(&agent) == TASKS + 280);
    cluster_ask(&c, &third, "GET", "/services/many/logs?stdout=1&follow=1", NULL);
    cluster_until(&c, third.done);
    assert_int_equal(third.status, 503);
    assert_non_null(strstr(buf_str(&third.body), "too many logs are followed at once"));
    assert_false(first.done || second.done);
    manager_drop(first.request);
    cluster_until(&c, streams() == TASKS); /* the second has all of them now */
    manager_drop(second.request);
    cluster_until(&c, streams() == 0);
    answer_fini(&first);
    answer_fini(&second);
    answer_fini(&third);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_of_all_tasks_come_in_frames_and_end_with_the_last),
        TEST(details_name_node_service_and_task),
        TEST(options_reach_the_node),
        TEST(terminal_is_sent_as_it_is),
        TEST(log_of_one_task_is_its_own),
        TEST(what_does_not_exist_is_not_found_and_what_never_ran_is_empty),
        TEST(missing_node_ends_the_log_with_the_reason),
        TEST(node_that_goes_away_meanwhile_is_told_too),
        TEST(tasks_that_come_later_are_followed_too),
        TEST(service_that_is_removed_ends_what_follows_it),
        TEST(following_goes_on_where_it_was_when_the_node_comes_back),
        TEST(client_that_reads_slowly_slows_the_node_and_misses_nothing),
        TEST(many_tasks_are_read_a_few_at_a_time),
        TEST(client_that_leaves_ends_what_its_nodes_send),
        TEST(logs_that_are_read_at_once_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
