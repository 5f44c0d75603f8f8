/* Helper processes, played by programs that every machine has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "engine/child.h"
#include "engine/later.h"
#include "proto/base/mem.h"
#include "proto/container.pb-c.h"

struct seen {
    struct child *child;
    unsigned frames, ends, finish_after;
    struct err end;
    int64_t sum;
};

static void on_frame(void *ctx, const void *data, size_t size)
{
    struct seen *s = ctx;
    VolumeRecord *v = volume_record__unpack(NULL, size, data);

    assert_non_null(v);
    s->sum += v->created_ns;
    volume_record__free_unpacked(v, NULL);
    if (++s->frames == s->finish_after)
        child_finish(s->child);
}

static void on_end(void *ctx, const struct err *e)
{
    struct seen *s = ctx;

    s->ends++;
    s->end = *e;
    s->child = NULL;
}

static int start(uv_loop_t *loop, const char *program, const char *verb, struct seen *s, struct err *e)
{
    const struct child_config config = {.loop = loop, .program = program, .verb = verb};
    const struct child_events events = {.ctx = s, .on_frame = on_frame, .on_end = on_end};

    return child_start(&config, &events, &s->child, e);
}

static void frames_go_and_come(void **state)
{
    uv_loop_t loop;
    struct seen s = {.finish_after = 1000};
    VolumeRecord v = VOLUME_RECORD__INIT;
    AUTO_FREE
    char *name = mem_alloc(3001);

    memset(name, 'n', 3000);
    v.format = 1;
    v.name = name;
    uv_loop_init(&loop);
    assert_int_equal(start(&loop, "/bin/cat", "-", &s, NULL), 0);
    for (int i = 0; i < 1000; i++) { /* three megabytes: more than any pipe holds */
        v.created_ns = i;
        child_send(s.child, &v.base);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.frames, 1000);
    assert_int_equal(s.sum, 999 * 500);
    assert_int_equal(s.ends, 1);
    assert_int_equal(s.end.code, 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void failures_are_told_once(void **state)
{
    uv_loop_t loop;
    struct seen s = {0};
    struct err e = {0};

    uv_loop_init(&loop);
    assert_int_equal(start(&loop, "/bin/false", "x", &s, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.ends, 1);
    assert_non_null(strstr(s.end.text, "ended with status 1"));
    assert_int_equal(start(&loop, "/no/such/program", "x", &s, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "/no/such/program x"));
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.ends, 1); /* a start that failed has no end */
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void nonsense_ends_the_child(void **state)
{
    uv_loop_t loop;
    struct seen s = {0};

    uv_loop_init(&loop);
    assert_int_equal(start(&loop, "/usr/bin/yes", "yyyyyyyy", &s, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.frames, 0);
    assert_int_equal(s.ends, 1);
    assert_non_null(strstr(s.end.text, "message that is too long"));
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void kill_later(void *ctx)
{
    struct seen *s = ctx;

    child_kill(s->child);
    child_kill(s->child); /* twice is fine */
}

static void killed_child_is_canceled(void **state)
{
    uv_loop_t loop;
    struct seen s = {0};

    uv_loop_init(&loop);
    assert_int_equal(start(&loop, "/bin/sleep", "1000", &s, NULL), 0);
    loop_later(&loop, kill_later, &s);
    assert_int_equal(s.ends, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.ends, 1);
    assert_int_equal(s.end.code, ERR_CANCELED);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_go_and_come),
        cmocka_unit_test(failures_are_told_once),
        cmocka_unit_test(nonsense_ends_the_child),
        cmocka_unit_test(killed_child_is_canceled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
