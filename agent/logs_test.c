/* Task logs on their way to a manager, over real connections to a port that the test holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/logs.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/support/fake_engine.h"
#include "tests/support/port.h"

#define DAY_MS (24LL * 3600 * 1000)

static uv_loop_t loop;
static struct port port;
static struct fake_world *world;
static struct engine *engine;
static struct logs *logs;
static const char *container; /* whose log is asked for */
static struct arena arena;
static bool closed;

static void on_closed(void *ctx)
{
    closed = true;
}

static void close_logs(void)
{
    closed = false;
    task_logs_close(logs, on_closed, NULL);
    port_until(&port, closed);
    logs = NULL;
}

static int setup(void **state)
{
    ContainerConfig config = CONTAINER_CONFIG__INIT;
    char **warnings;
    const char *id;

    arena_init(&arena);
    world = mem_alloc(sizeof(*world));
    assert_int_equal(uv_loop_init(&loop), 0);
    port_open(&port, &loop);
    engine = fake_engine_new(&loop, world);
    assert_int_equal(engine_create(engine, "web", &config, &arena, &id, &warnings, NULL), 0);
    container = arena_strdup(&arena, id);
    struct tls *tls = port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS);
    logs = task_logs_new(&loop, engine, tls, PORT_CLUSTER);
    tls_unref(tls);
    return 0;
}

static int teardown(void **state)
{
    if (logs)
        close_logs();
    assert_int_equal(fake_engine_readers(engine), 0);
    fake_engine_free(engine);
    port_close(&port);
    uv_run(&loop, UV_RUN_DEFAULT);
    free(world);
    arena_fini(&arena);
    return uv_loop_close(&loop);
}

static void request(uint64_t number, const char *of, bool stop)
{
    static uint8_t task[16];
    LogRequest r = LOG_REQUEST__INIT;

    r.subscription = number;
    r.task_id = (ProtobufCBinaryData){sizeof(task), task};
    r.has_follow = r.follow = true;
    r.has_standard_error = true; /* not wanted */
    r.has_tail = true;
    r.tail = 7;
    r.has_since_ns = true;
    r.since_ns = 1234;
    r.has_stop = r.stop = stop;
    task_logs_request(logs, &r, port.address, of);
}

static bool received(const char *text)
{
    return port.lines.length && strstr(buf_str(&port.lines), text);
}

static void lines_arrive_in_order_with_what_was_asked_for(void **state)
{
    request(41, container, false);
    assert_int_equal(fake_engine_readers(engine), 1);
    const struct engine_log_options *options = fake_engine_log_options(engine);
    assert_true(options->follow && options->standard_out && !options->standard_error);
    assert_int_equal(options->tail, 7);
    assert_int_equal(options->since_ns, 1234);
    assert_true(fake_engine_line(engine, "one\n"));
    assert_true(fake_engine_line(engine, "two\n"));
    port_until(&port, received("one\ntwo\n"));
    assert_int_equal(port.log_subscription, 41);
    assert_true(fake_engine_line(engine, "three\n"));
    fake_engine_log_end(engine, NULL);
    port_until(&port, port.log_ended);
    assert_int_equal(port.log_error.code, 0);
    assert_string_equal(buf_str(&port.lines), "one\ntwo\nthree\n");
}

static void logs_share_one_connection(void **state)
{
    for (uint64_t i = 1; i <= 5; i++)
        request(i, container, false);
    assert_int_equal(fake_engine_readers(engine), 5);
    port_until(&port, port.logs == 5);
    assert_int_equal(port.connections, 1);
    request(3, container, false); /* already there */
    port_rest(&port, 20);
    assert_int_equal(port.logs, 5);
}

static void task_without_a_container_ends_with_the_reason(void **state)
{
    request(1, NULL, false);
    port_until(&port, port.log_ended);
    assert_int_equal(port.log_error.code, ERR_NOT_FOUND);
    assert_string_equal(port.log_error.text, "the task has no container on this node");
}

static void engines_errors_are_passed_on(void **state)
{
    struct err broken;

    request(1, "nosuch", false);
    port_until(&port, port.log_ended);
    assert_non_null(strstr(port.log_error.text, "nosuch"));
    request(2, container, false);
    port_until(&port, port.logs == 2);
    err_set(&broken, ERR_CORRUPT, "the log is damaged");
    fake_engine_log_end(engine, &broken);
    port_until(&port, port.log_ended);
    assert_int_equal(port.log_error.code, ERR_CORRUPT);
    assert_string_equal(port.log_error.text, "the log is damaged");
}

static void stop_ends_it(void **state)
{
    request(1, container, false);
    port_until(&port, port.logs == 1);
    request(2, container, true); /* another one: not there */
    assert_int_equal(fake_engine_readers(engine), 1);
    request(1, container, true);
    assert_int_equal(fake_engine_readers(engine), 0);
    port_until(&port, port.log_ended);
    assert_int_equal(port.log_error.code, 0);
    request(1, container, true); /* again: nothing */
}

static void slow_reader_pauses_its_log_and_loses_nothing(void **state)
{
    char line[1001];
    size_t sent = 0;

    memset(line, 'x', 999);
    line[999] = '\n';
    line[1000] = '\0';
    port.log_paused = true;
    request(1, container, false);
    port_until(&port, port.log);
    for (int round = 0; round < 2000; round++) { /* 2 MB are more than any credit */
        bool goes_on = fake_engine_line(engine, line);

        sent += 1000;
        if (round % 20 == 0)
            port_rest(&port, 1);
        if (!goes_on)
            break;
    }
    assert_true(sent < 1000 * 1000);
    assert_false(fake_engine_resumed(engine));
    rpc_pause(port.log, false);
    port_until(&port, fake_engine_resumed(engine));
    fake_engine_log_end(engine, NULL);
    port_until(&port, port.log_ended);
    assert_int_equal(port.lines.length, sent);
}

static void log_that_ends_while_it_is_paused_arrives_whole(void **state)
{
    char line[1001];
    size_t sent = 0;

    memset(line, 'y', 999);
    line[999] = '\n';
    line[1000] = '\0';
    port.log_paused = true;
    request(1, container, false);
    port_until(&port, port.log);
    do {
        sent += 1000;
    } while (fake_engine_line(engine, line));
    fake_engine_log_end(engine, NULL);
    port_rest(&port, 20);
    rpc_pause(port.log, false);
    port_until(&port, port.log_ended);
    assert_int_equal(port.lines.length, sent);
    assert_int_equal(port.log_error.code, 0);
}

static void manager_that_goes_away_ends_its_logs(void **state)
{
    request(1, container, false);
    port_until(&port, port.log);
    port_stop(&port);
    port_until(&port, fake_engine_readers(engine) == 0);
    port_start(&port);
    request(2, container, false);
    port_until(&port, port.logs == 2); /* a new connection */
}

static void lost_session_ends_all_logs(void **state)
{
    for (uint64_t i = 1; i <= 3; i++)
        request(i, container, false);
    port_until(&port, port.logs == 3);
    task_logs_end_all(logs);
    assert_int_equal(fake_engine_readers(engine), 0);
    port_until(&port, port.log_ended);
}

static void manager_that_cannot_be_reached_is_survived(void **state)
{
    port_stop(&port);
    request(1, container, false);
    port_until(&port, fake_engine_readers(engine) == 0);
    port_start(&port);
    request(1, container, false);
    port_until(&port, port.logs == 1);
}

static void logs_are_bounded(void **state)
{
    for (uint64_t i = 1; i <= 300; i++)
        request(i, container, false);
    assert_true(fake_engine_readers(engine) <= 256);
    port_until(&port, port.logs == fake_engine_readers(engine));
}

static void closing_in_the_middle_frees_everything(void **state)
{
    request(1, container, false);
    close_logs(); /* while it dials */
    struct tls *tls = port_tls(&port, RPC_ROLE_WORKER, PORT_NODE, DAY_MS);
    logs = task_logs_new(&loop, engine, tls, PORT_CLUSTER);
    task_logs_set_tls(logs, tls);
    tls_unref(tls);
    request(2, container, false);
    port_until(&port, port.log);
    assert_true(fake_engine_line(engine, "not yet sent\n"));
    close_logs();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_arrive_in_order_with_what_was_asked_for),
        TEST(logs_share_one_connection),
        TEST(task_without_a_container_ends_with_the_reason),
        TEST(engines_errors_are_passed_on),
        TEST(stop_ends_it),
        TEST(slow_reader_pauses_its_log_and_loses_nothing),
        TEST(log_that_ends_while_it_is_paused_arrives_whole),
        TEST(manager_that_goes_away_ends_its_logs),
        TEST(lost_session_ends_all_logs),
        TEST(manager_that_cannot_be_reached_is_survived),
        TEST(logs_are_bounded),
        TEST(closing_in_the_middle_frees_everything),
    };

    log_set_level(LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
