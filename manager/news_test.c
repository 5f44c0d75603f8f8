/* What the swarm's objects go through, as it is told for GET /events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/puppet.h"

static struct cluster c;
static struct puppet agent;

static int setup(void **state)
{
    cluster_found(&c, "/tmp", NULL);
    puppet_start(&agent, &c);
    cluster_rest(&c, 20); /* the first node's own news */
    c.hears = true;
    return 0;
}

static int teardown(void **state)
{
    puppet_end(&agent);
    cluster_end(&c);
    return 0;
}

#define get(path)   cluster_expect(&c, 200, "GET", path, NULL)
#define format(...) arena_printf(&c.arena, __VA_ARGS__)

/* Until this line was told, which must come after all that was waited for before; returns those between. */
static const char *until_told(const char *line)
{
    const char *wanted = format("%s\n", line), *found = NULL;

    cluster_until(&c, (found = strstr(buf_str(&c.events), wanted)));
    const char *between = format("%.*s", (int)(found - buf_str(&c.events)), buf_str(&c.events));
    char *rest = mem_strdup(found + strlen(wanted));
    buf_clear(&c.events);
    buf_append_str(&c.events, rest);
    free(rest);
    return between;
}

static const char *spec(const char *name, const char *image, unsigned replicas)
{
    return format(
        "{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"%s\"}},\"Mode\":{\"Replicated\":{"
        "\"Replicas\":%u}},\"UpdateConfig\":{\"Parallelism\":0,\"Monitor\":1000000}}",
        name, image, replicas);
}

static const char *create(const char *name)
{
    const char *body = cluster_expect(&c, 201, "POST", "/services/create", spec(name, "web:1", 1));

    return json_at(&c, body, "ID");
}

static void update(const char *path, const char *body)
{
    cluster_expect(&c, 200, "POST", format("%s/update?version=%s", path, json_at(&c, get(path), "Version.Index")),
                   body);
}

static void services_are_created_updated_and_removed(void **state)
{
    const char *id = create("web");

    assert_string_equal(until_told(format("service create %s name=web", id)), "");
    cluster_until(&c, puppet_running(&agent) == 1);
    update("/services/web", spec("web", "web:1", 3));
    assert_string_equal(until_told(format("service update %s name=web replicas.old=1 replicas.new=3", id)), "");
    update("/services/web", spec("web", "web:2", 3));
    until_told(format("service update %s name=web image.old=web:1 image.new=web:2 updatestate.new=updating", id));
    until_told(format("service update %s name=web updatestate.old=updating updatestate.new=completed", id));
    cluster_expect(&c, 200, "DELETE", "/services/web", NULL);
    assert_string_equal(until_told(format("service remove %s name=web", id)), "");
}

static void nodes_come_change_go_and_are_removed(void **state)
{
    struct puppet worker;

    puppet_join(&worker, &c, "second");
    const char *id = worker.node_id, *path = format("/nodes/%s", id);
    until_told(format("node create %s name=", id)); /* what it is called it says when it registers */
    until_told(format("node update %s name=second state.old=unknown state.new=ready", id));
    update(path, "{\"Role\":\"worker\",\"Availability\":\"drain\"}");
    until_told(format("node update %s name=second availability.old=active availability.new=drain", id));
    update(path, "{\"Role\":\"worker\",\"Availability\":\"drain\",\"Labels\":{\"a\":\"b\"}}");
    until_told(format("node update %s name=second", id));
    puppet_disconnect(&worker);
    until_told(format("node update %s name=second state.old=ready state.new=down", id));
    cluster_expect(&c, 200, "DELETE", path, NULL);
    until_told(format("node remove %s name=second", id));
    puppet_end(&worker);
}

static void refused_requests_are_no_news(void **state)
{
    create("web");
    cluster_expect(&c, 409, "POST", "/services/create", spec("web", "web:1", 1));
    cluster_expect(&c, 500, "POST", "/services/web/update?version=1", spec("web", "web:2", 1));
    cluster_expect(&c, 404, "DELETE", "/services/db", NULL);
    const char *id = create("last"), *told = until_told(format("service create %s name=last", id));
    assert_null(strstr(told, "update"));
    assert_null(strchr(strchr(told, '\n') + 1, '\n')); /* one line: of web */
}

/* More than are looked at in one turn. */
static void what_was_there_before_is_no_news(void **state)
{
    struct err e;

    for (int i = 0; i < 700; i++)
        create(format("s%d", i));
    for (int i = 0; i < 2; i++) {
        puppet_disconnect(&agent);
        cluster_stop(&c);
        if (i) /* everything is applied anew from the log */
            assert_int_equal(tree_remove(AT_FDCWD, format("%s/store", c.dir), &e), 0);
        buf_clear(&c.events);
        cluster_start(&c);
        get("/services/s699");
        cluster_rest(&c, 50);
        assert_string_equal(buf_str(&c.events), "");
        const char *id = json_at(&c, get(format("/services/s%d", i)), "ID");
        cluster_expect(&c, 200, "DELETE", format("/services/%s", id), NULL);
        assert_string_equal(until_told(format("service remove %s name=s%d", id, i)), "");
    }
}

static void each_of_many_at_once_is_told_in_order(void **state)
{
    enum { WRITES = 400 };
    static struct answer answers[WRITES];

    for (int i = 0; i < WRITES; i++)
        cluster_ask(&c, &answers[i], "POST", "/services/create", spec(format("s%d", i), "web:1", 0));
    for (int i = 0; i < WRITES; i++) {
        cluster_until(&c, answers[i].done);
        assert_int_equal(answers[i].status, 201);
        assert_string_equal(
            until_told(format("service create %s name=s%d", json_at(&c, buf_str(&answers[i].body), "ID"), i)), "");
        answer_fini(&answers[i]);
    }
    assert_string_equal(buf_str(&c.events), "");
}

static void closing_in_the_middle_of_news_loses_nothing_but_them(void **state)
{
    static struct answer answers[100];

    for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
        cluster_ask(&c, &answers[i], "POST", "/services/create", spec(format("s%zu", i), "web:1", 0));
    cluster_until(&c, answers[50].done);
    cluster_stop(&c);
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
        answer_fini(&answers[i]);
    cluster_start(&c);
    until_told(format("service create %s name=more", create("more")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(services_are_created_updated_and_removed),
        TEST(nodes_come_change_go_and_are_removed),
        TEST(refused_requests_are_no_news),
        TEST(what_was_there_before_is_no_news),
        TEST(each_of_many_at_once_is_told_in_order),
        TEST(closing_in_the_middle_of_news_loses_nothing_but_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
