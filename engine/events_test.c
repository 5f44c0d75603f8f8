/* Events are kept, shown and handed to those who listen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/events.h"
#include "proto/base/mem.h"

static struct events events;

static int fresh(void **state)
{
    events_init(&events);
    return 0;
}

static int stale(void **state)
{
    events_fini(&events);
    return 0;
}

static void event_is_written_as_clients_read_it(void **state)
{
    struct event_attribute attributes[] = {
        {"name", "web"}, {"image", "nginx"}, {"exitCode", "1"}, {"exitCode", "0"}};
    AUTO_BUF struct buf out = {0};

    events_add(&events, 1700000000123456789, "local", "container", "die", "4f5c", attributes, 4);
    event_write(list_first(&events.kept, struct event, link), &out);
    assert_string_equal(buf_str(&out),
                        "{\"status\":\"die\",\"id\":\"4f5c\",\"from\":\"nginx\",\"Type\":\"container\","
                        "\"Action\":\"die\",\"Actor\":{\"ID\":\"4f5c\",\"Attributes\":{\"exitCode\":\"0\","
                        "\"image\":\"nginx\",\"name\":\"web\"}},\"scope\":\"local\",\"time\":1700000000,"
                        "\"timeNano\":1700000000123456789}");
}

static void only_the_newest_are_kept(void **state)
{
    char id[16];

    for (int i = 0; i < EVENTS_KEPT + 10; i++) {
        (void)snprintf(id, sizeof(id), "%d", i);
        events_add(&events, 1, "swarm", "volume", "create", id, NULL, 0);
    }
    assert_int_equal(events.kept_count, EVENTS_KEPT);
    assert_string_equal(list_first(&events.kept, struct event, link)->id, "10");
    assert_string_equal(list_last(&events.kept, struct event, link)->id, id);
    const struct event *ev;
    int64_t before = 0;
    list_each (ev, &events.kept, link) {
        assert_true(ev->time_ns > before); /* although the clock stood still */
        before = ev->time_ns;
    }
}

struct hearer {
    struct events_listener listener;
    int heard;
    bool once;
};

static void hear(void *ctx, const struct event *ev)
{
    struct hearer *h = ctx;

    h->heard++;
    if (h->once)
        events_unlisten(&events, &h->listener);
}

static void listeners_hear_until_they_stop(void **state)
{
    struct hearer one = {.listener = {.ctx = &one, .on_event = hear}, .once = true};
    struct hearer two = {.listener = {.ctx = &two, .on_event = hear}};

    events_listen(&events, &one.listener);
    events_listen(&events, &two.listener);
    assert_int_equal(events.listener_count, 2);
    events_add(&events, 1, "swarm", "volume", "create", "a", NULL, 0);
    events_add(&events, 2, "local", "volume", "create", "b", NULL, 0);
    assert_int_equal(one.heard, 1);
    assert_int_equal(two.heard, 2);
    events_unlisten(&events, &two.listener);
    assert_int_equal(events.listener_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(event_is_written_as_clients_read_it, fresh, stale),
        cmocka_unit_test_setup_teardown(only_the_newest_are_kept, fresh, stale),
        cmocka_unit_test_setup_teardown(listeners_hear_until_they_stop, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
