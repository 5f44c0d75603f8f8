/* The manager behind its door: opening, closing, what is left on the disk, and requests that take their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/tcp.h"
#include "tests/support/puppet.h"

#define DAY_MS (24LL * 3600 * 1000)

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

#define get(path)   cluster_expect(&c, 200, "GET", path, NULL)
#define format(...) arena_printf(&c.arena, __VA_ARGS__)

static const char *service(const char *name, unsigned replicas)
{
    return format(
        "{\"Name\":\"%s\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}},\"Mode\":{\"Replicated\":{"
        "\"Replicas\":%u}}}",
        name, replicas);
}

static void create(const char *name, unsigned replicas)
{
    cluster_expect(&c, 201, "POST", "/services/create", service(name, replicas));
}

static size_t count(const char *body)
{
    return strtoul(json_at(&c, body, "#"), NULL, 10);
}

/* --- opening and closing ----------------------------------------------------------------------------------- */

static void requests_before_it_serves_are_turned_away(void **state)
{
    struct answer a;
    struct err e;

    cluster_stop(&c);
    assert_int_equal(cluster_open(&c, NULL, &e), 0);
    cluster_ask(&c, &a, "GET", "/services", NULL);
    cluster_until(&c, a.done);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(buf_str(&a.body), "the manager is starting"));
    answer_fini(&a);
    assert_int_equal(manager_port(c.manager), 0);
    cluster_until(&c, c.ready);
    assert_true(manager_port(c.manager) > 0);
    get("/services");
}

static void manager_that_is_closed_while_it_opens_just_ends(void **state)
{
    struct err e;

    for (int i = 0; i < 20; i++) {
        cluster_stop(&c);
        assert_int_equal(cluster_open(&c, NULL, &e), 0);
        if (i % 4)
            cluster_rest(&c, (unsigned)i);
    }
    cluster_stop(&c);
    cluster_start(&c);
    get("/swarm");
}

static char *info(void)
{
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    jwrite_object(&j, NULL);
    manager_info(c.manager, &j);
    jwrite_end(&j);
    return arena_strdup(&c.arena, buf_str(&out));
}

static void info_follows_the_cluster(void **state)
{
    struct puppet agent, worker;

    assert_string_equal(json_at(&c, info(), "Nodes"), "1");
    assert_string_equal(json_at(&c, info(), "Managers"), "1");
    assert_string_equal(json_at(&c, info(), "Cluster.ID"), c.founding.cluster_id);
    assert_string_equal(json_at(&c, info(), "Cluster.Spec.Orchestration.TaskHistoryRetentionLimit"), "5");
    assert_string_equal(json_at(&c, info(), "Cluster.DefaultAddrPool.0"), "10.0.0.0/8");
    assert_null(json_at(&c, info(), "Cluster.JoinTokens"));
    assert_null(strstr(info(), c.founding.worker_secret));
    assert_null(strstr(info(), "PRIVATE KEY"));
    puppet_start(&agent, &c);
    puppet_join(&worker, &c, "second");
    cluster_until(&c, strcmp(json_at(&c, info(), "Nodes"), "2") == 0);
    cluster_expect(&c, 200, "POST", format("/swarm/update?version=%s", json_at(&c, get("/swarm"), "Version.Index")),
                   "{\"Orchestration\":{\"TaskHistoryRetentionLimit\":9}}");
    cluster_until(&c,
                  strcmp(json_at(&c, info(), "Cluster.Spec.Orchestration.TaskHistoryRetentionLimit"), "9") == 0);
    cluster_expect(&c, 200, "DELETE", format("/nodes/%s?force=1", worker.node_id), NULL);
    cluster_until(&c, strcmp(json_at(&c, info(), "Nodes"), "1") == 0);
    puppet_end(&worker);
    puppet_end(&agent);
}

static void wait_until_stopped(const char *says)
{
    cluster_until(&c, c.stops || c.ready);
    assert_int_equal(c.stops, 1);
    if (!strstr(c.why.text, says))
        fail_msg("%s", c.why.text);
    const char *body = cluster_expect(&c, 503, "GET", "/services", NULL);
    assert_non_null(strstr(body, says));
    c.stops = 0;
}

static void foreign_key_stops_it_and_harms_nothing(void **state)
{
    struct err e;

    create("web", 1);
    cluster_stop(&c);
    c.founding.data_key[7] ^= 1;
    assert_int_equal(cluster_open(&c, NULL, &e), 0);
    wait_until_stopped("open the raft log");
    cluster_stop(&c);
    c.founding.data_key[7] ^= 1;
    cluster_start(&c);
    assert_int_equal(count(get("/services")), 1);
}

static void occupied_port_stops_it(void **state)
{
    struct err e;
    int fd;

    cluster_stop(&c);
    assert_int_equal(tcp_bind("127.0.0.1:0", &fd, &e), 0);
    assert_int_equal(listen(fd, 1), 0);
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(c.listen, sizeof(c.listen), "127.0.0.1:%d", tcp_port(&address)); /* fits */
    assert_int_equal(cluster_open(&c, NULL, &e), 0);
    wait_until_stopped("in use");
    close(fd);
}

static void cluster_is_not_founded_twice_in_one_place(void **state)
{
    Cluster again = CLUSTER__INIT;
    uint8_t id[16] = {1};
    struct err e;

    cluster_stop(&c);
    again.id = (ProtobufCBinaryData){sizeof(id), id};
    assert_int_equal(cluster_open(&c, &again, &e), 0);
    wait_until_stopped("found a new cluster");
    cluster_stop(&c);
    cluster_start(&c);
    assert_string_equal(json_at(&c, get("/swarm"), "ID"), c.founding.cluster_id);
}

static void malformed_configuration_is_refused_at_once(void **state)
{
    char node_id[26];
    struct err e;

    cluster_stop(&c);
    memcpy(node_id, c.founding.node_id, sizeof(node_id));
    c.founding.node_id[3] = '!';
    assert_int_equal(cluster_open(&c, NULL, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "node id"));
    memcpy(c.founding.node_id, node_id, sizeof(node_id));
    cluster_start(&c);
}

/* --- what is left on the disk ------------------------------------------------------------------------------ */

struct picture { /* answers that must not change by closing and opening */
    const char *services, *tasks, *swarm, *one;
};

static struct picture take_picture(void)
{
    return (struct picture){get("/services"), get("/tasks"), get("/swarm"), get("/services/web?insertDefaults=1")};
}

static void compare(const struct picture *before, const struct picture *after)
{
    assert_string_equal(before->services, after->services);
    assert_string_equal(before->tasks, after->tasks);
    assert_string_equal(before->swarm, after->swarm);
    assert_string_equal(before->one, after->one);
}

/* A cluster with some history: services, running tasks, an update, a removal. */
static void make_history(struct puppet *agent)
{
    puppet_start(agent, &c);
    create("web", 4);
    create("db", 2);
    create("gone", 1);
    cluster_until(&c, puppet_running(agent) == 7);
    cluster_expect(&c, 200, "DELETE", "/services/gone", NULL);
    cluster_expect(&c, 200, "POST",
                   format("/services/web/update?version=%s", json_at(&c, get("/services/web"), "Version.Index")),
                   format("{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:2\"}},\"Mode\":{"
                          "\"Replicated\":{\"Replicas\":5}},\"UpdateConfig\":{\"Parallelism\":0,\"Monitor\":1}}"));
    cluster_until(&c, strcmp(json_at(&c, get("/services/web"), "UpdateStatus.State"), "completed") == 0);
    cluster_until(&c, agent->acknowledged == agent->reports && agent->tasks.count == count(get("/tasks")));
}

static void remove_store(void)
{
    struct err e;

    assert_int_equal(tree_remove(AT_FDCWD, format("%s/store", c.dir), &e), 0);
}

static void damage_store(void)
{
    const char *path = format("%s/store/store.mdb", c.dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 4096; at < st.st_size; at += 509) {
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

static void nothing(void)
{
}

static void closed_manager_opens_with_the_same_answers(void **state)
{
    static void (*const harms[])(void) = {nothing, remove_store, damage_store, remove_store};
    struct puppet agent;

    make_history(&agent);
    struct picture before = take_picture();
    for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
        cluster_stop(&c);
        harms[i]();
        cluster_start(&c);
        struct picture after = take_picture();
        compare(&before, &after);
    }
    cluster_until(&c, !agent.conn);
    puppet_connect(&agent);
    cluster_until(&c, agent.ready);
    cluster_until(&c, puppet_running(&agent) == 7);
    create("more", 1); /* it goes on */
    cluster_until(&c, puppet_running(&agent) == 8);
    puppet_end(&agent);
}

/* A process of its own with the manager on c's directory: it creates services one after the other, several at once,
 * and says through the pipe which one was acknowledged. */
static void write_until_killed(int pipe_fd, unsigned next)
{
    enum { AT_ONCE = 8 };
    static struct cluster child;
    struct answer answers[AT_ONCE] = {{0}};

    cluster_resume(&child, c.dir, &c.founding);
    cluster_start(&child);
    for (unsigned i = 0; i < AT_ONCE; i++, next++)
        cluster_ask(&child, &answers[i], "POST", "/services/create", service(format("s%05u", next), 1));
    for (unsigned i = 0;; i = (i + 1) % AT_ONCE, next++) {
        cluster_until(&child, answers[i].done);
        if (answers[i].status != 201)
            _exit(1);
        answer_fini(&answers[i]);
        if (write(pipe_fd, "+", 1) != 1)
            _exit(1);
        cluster_ask(&child, &answers[i], "POST", "/services/create", service(format("s%05u", next), 1));
    }
}

/* Returns how many of them were acknowledged before the process was killed. */
static unsigned kill_while_it_writes(unsigned next, unsigned acknowledged_most)
{
    unsigned acknowledged = 0;
    int fds[2], status;
    char byte;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        write_until_killed(fds[1], next);
    }
    close(fds[1]);
    while (acknowledged < acknowledged_most && read(fds[0], &byte, 1) == 1)
        acknowledged++;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status)); /* else it failed before */
    while (read(fds[0], &byte, 1) == 1)
        acknowledged++;
    close(fds[0]);
    return acknowledged;
}

static void manager_killed_at_any_moment_has_all_that_was_acknowledged(void **state)
{
    static const unsigned rounds[] = {1, 2, 5, 17, 40, 3, 64, 11};
    unsigned known = 0;

    for (size_t i = 0; i < ARRAY_SIZE(rounds); i++) {
        cluster_stop(&c);
        unsigned acknowledged = known + kill_while_it_writes(known, rounds[i]);
        if (i % 3 == 2)
            remove_store();
        cluster_start(&c);
        const char *body = get("/services");
        unsigned found = (unsigned)count(body);
        print_message("%u acknowledged, %u found\n", acknowledged, found);
        assert_true(found >= acknowledged && found <= acknowledged + 9); /* those under way may be there */
        assert_string_equal(json_at(&c, body, format("%u.Spec.Name", found - 1)), format("s%05u", found - 1));
        assert_int_equal(count(get("/tasks")), found);
        known = found;
    }
}

/* --- requests that take their time -------------------------------------------------------------------------- */

static void many_writes_at_once_are_all_answered(void **state)
{
    enum { WRITES = 600 }; /* more than there is credit for */
    static struct answer answers[WRITES];
    int created = 0;

    for (int i = 0; i < WRITES; i++)
        cluster_ask(&c, &answers[i], "POST", "/services/create", service(format("s%d", i), 1));
    for (int i = 0; i < WRITES; i++) {
        cluster_until(&c, answers[i].done);
        /* On a slow machine the last ones find no credit within their second: nothing happened then. */
        assert_true(answers[i].status == 201 || answers[i].status == 503);
        created += answers[i].status == 201;
        answer_fini(&answers[i]);
    }
    assert_true(created >= 256);
    assert_int_equal(count(get("/services")), created);
    assert_int_equal(count(get("/tasks")), created);
}

static void long_list_comes_in_pages_and_holds_up_nobody(void **state)
{
    struct answer a;

    create("web", 3000);
    cluster_until(&c, count(get("/tasks")) == 3000);
    cluster_ask(&c, &a, "GET", "/tasks", NULL);
    a.keep_asking = false;
    unsigned pages = 0;
    while (!a.done) {
        cluster_until(&c, a.pages > pages);
        pages = a.pages;
        if (a.done)
            break;
        get("/swarm"); /* others are served while a client reads slowly */
        manager_more(a.request);
    }
    assert_true(pages >= 5);
    AUTO_JSON json_t *all = json_loadb(buf_bytes(&a.body), a.body.length, 0, NULL);
    assert_int_equal(json_array_size(all), 3000);
    for (size_t i = 0; i < 3000; i++) /* each once, in order of creation */
        assert_int_equal(json_integer_value(json_object_get(json_array_get(all, i), "Slot")), (int)i + 1);
    answer_fini(&a);
}

static void dropped_requests_are_forgotten_wherever_they_are(void **state)
{
    static struct answer waiting[300];
    struct answer a;

    create("web", 2000);
    for (int i = 0; i < 50; i++) {
        cluster_ask(&c, &a, "GET", "/tasks", NULL);
        a.keep_asking = i % 2;
        if (i % 5)
            cluster_until(&c, a.pages >= (unsigned)(i % 5 > 1 ? 1 : 0));
        if (i % 7 == 0)
            cluster_rest(&c, 1);
        if (!a.done)
            manager_drop(a.request);
        answer_fini(&a);
    }
    for (size_t i = 0; i < ARRAY_SIZE(waiting); i++)
        cluster_ask(&c, &waiting[i], "POST", "/services/create", service(format("s%zu", i), 0));
    for (size_t i = 0; i < ARRAY_SIZE(waiting); i++)
        manager_drop(waiting[i].request);
    cluster_rest(&c, 20);
    for (size_t i = 0; i < ARRAY_SIZE(waiting); i++)
        assert_false(waiting[i].done); /* nobody is told anything */
    get("/swarm");
}

static void streams_without_credit_are_told_after_a_second(void **state)
{
    enum { STREAMS = 128 };
    static struct answer answers[STREAMS + 1];

    create("web", 0);
    for (int i = 0; i <= STREAMS; i++)
        cluster_ask(&c, &answers[i], "GET", "/services/web/logs?follow=1&stdout=1", NULL);
    cluster_until(&c, answers[STREAMS].done);
    assert_int_equal(answers[STREAMS].status, 503);
    assert_non_null(strstr(buf_str(&answers[STREAMS].body), "too many requests"));
    get("/swarm"); /* reads have credit of their own */
    for (int i = 0; i < STREAMS; i++) {
        assert_false(answers[i].done);
        assert_int_equal(answers[i].status, 200);
        manager_drop(answers[i].request);
    }
    cluster_ask(&c, &answers[0], "GET", "/services/web/logs?follow=1&stdout=1", NULL);
    cluster_until(&c, answers[0].pages);
    assert_int_equal(answers[0].status, 200);
    manager_drop(answers[0].request);
    answer_fini(&answers[STREAMS]);
}

static void closing_answers_all_that_is_under_way(void **state)
{
    enum { ASKS = 400 };
    static struct answer answers[ASKS];
    unsigned refused = 0;

    create("web", 500);
    for (int i = 0; i < ASKS; i++) {
        static const char *const paths[] = {"/tasks", "/services/create", "/services/web/logs?follow=1&stdout=1",
                                            "/services"};

        cluster_ask(&c, &answers[i], i % 4 == 1 ? "POST" : "GET", paths[i % 4],
                    i % 4 == 1 ? service(format("s%d", i), 1) : NULL);
        answers[i].keep_asking = i % 8 < 4;
    }
    cluster_rest(&c, 2);
    cluster_stop(&c);
    for (int i = 0; i < ASKS; i++) {
        assert_true(answers[i].done);
        assert_null(answers[i].request);
        refused += answers[i].status == 503;
        assert_true(answers[i].status == 503 || answers[i].status / 100 == 2);
        answer_fini(&answers[i]);
    }
    assert_true(refused > 0);
    cluster_start(&c);
    get("/swarm");
}

static void renewed_certificate_is_shown_from_then_on(void **state)
{
    struct manager_founding other;
    struct puppet agent;
    struct err e;

    puppet_start(&agent, &c);
    /* One of another cluster: a peer that trusts ours alone must notice. */
    assert_int_equal(manager_found(1700000000000, 4000000000000, &other, &e), 0);
    manager_set_certificate(c.manager, "nonsense", "nonsense", "nonsense"); /* logged, and the old one stays */
    puppet_disconnect(&agent);
    puppet_connect(&agent);
    cluster_until(&c, agent.ready);
    manager_set_certificate(c.manager, other.certificate_pem, other.key_pem, other.root_pem);
    puppet_disconnect(&agent);
    cluster_rest(&c, 20);
    puppet_connect(&agent);
    cluster_until(&c, agent.ends);
    assert_false(agent.ready);
    manager_set_certificate(c.manager, c.founding.certificate_pem, c.founding.key_pem, c.founding.root_pem);
    cluster_until(&c, !agent.conn);
    cluster_rest(&c, 20);
    puppet_connect(&agent);
    cluster_until(&c, agent.ready);
    puppet_end(&agent);
    manager_founding_free(&other);
}

/* --- signing for the own node ------------------------------------------------------------------------ */

static struct {
    unsigned answers;
    struct err e;
    struct buf reply;
} issued;

static void on_issued(void *ctx, const struct err *e, const void *reply, size_t size)
{
    issued.answers++;
    issued.e = *e;
    buf_clear(&issued.reply);
    if (e->code == 0)
        buf_append(&issued.reply, reply, size);
}

/* Without a connection, and so whatever became of the certificate that the node has. */
static void manager_signs_for_its_own_node(void **state)
{
    AUTO_FREE
    char *key = NULL;
    AUTO_BUF struct buf request = {0};
    struct cert_facts facts;
    struct err e;

    issued.answers = 0;
    assert_int_equal(cert_key_new(&key, &e), 0);
    assert_int_equal(cert_request_new(key, &request, &e), 0);
    assert_int_equal(manager_issue(c.manager, buf_bytes(&request), request.length, on_issued, NULL, &e), 0);
    assert_int_equal(issued.answers, 0); /* later */
    cluster_until(&c, issued.answers == 1);
    assert_int_equal(issued.e.code, 0);
    const IssueReply *reply =
        arena_unpack(&c.arena, &issue_reply__descriptor, buf_bytes(&issued.reply), issued.reply.length);
    assert_non_null(reply);
    const char *certificate =
        arena_strndup(&c.arena, (const char *)reply->certificate_pem.data, reply->certificate_pem.len);
    assert_int_equal(cert_check(certificate, key, c.founding.root_pem, &e), 0);
    assert_int_equal(cert_facts(certificate, &facts, &e), 0);
    assert_string_equal(facts.identity.node_id, c.founding.node_id);
    assert_string_equal(facts.identity.cluster_id, c.founding.cluster_id);
    assert_int_equal(facts.identity.role, RPC_ROLE_MANAGER);
    assert_in_range(facts.not_after_ms - clock_wall_ms(clock_real()), 89 * DAY_MS,
                    90 * DAY_MS); /* as the cluster says */
    assert_int_equal(manager_issue(c.manager, "nonsense", 8, on_issued, NULL, &e), 0);
    cluster_until(&c, issued.answers == 2);
    assert_int_equal(issued.e.code, ERR_INVALID);
    /* Under way while it closes: answered all the same, and then it takes no more. */
    assert_int_equal(manager_issue(c.manager, buf_bytes(&request), request.length, on_issued, NULL, &e), 0);
    cluster_stop(&c);
    assert_int_equal(issued.answers, 3);
    cluster_start(&c);
    buf_fini(&issued.reply);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_before_it_serves_are_turned_away),
        TEST(manager_that_is_closed_while_it_opens_just_ends),
        TEST(info_follows_the_cluster),
        TEST(foreign_key_stops_it_and_harms_nothing),
        TEST(occupied_port_stops_it),
        TEST(cluster_is_not_founded_twice_in_one_place),
        TEST(malformed_configuration_is_refused_at_once),
        TEST(closed_manager_opens_with_the_same_answers),
        TEST(manager_killed_at_any_moment_has_all_that_was_acknowledged),
        TEST(many_writes_at_once_are_all_answered),
        TEST(long_list_comes_in_pages_and_holds_up_nobody),
        TEST(dropped_requests_are_forgotten_wherever_they_are),
        TEST(streams_without_credit_are_told_after_a_second),
        TEST(closing_answers_all_that_is_under_way),
        TEST(renewed_certificate_is_shown_from_then_on),
        TEST(manager_signs_for_its_own_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
