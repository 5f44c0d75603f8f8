/* Logs are read as they were written, whatever rotates, follows or is damaged meanwhile. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/fakes.h"
#include "proto/base/log.h"

static uv_loop_t loop;
static char *dir, *id;
static int dir_fd = -1, log_dir = -1;
static struct engine *en;
static struct err e;
static bool is_ready;
static struct arena arena;
static int64_t next_ns; /* time of the next line */

static void set_ready(void *ctx)
{
    is_ready = true;
}

static int fresh(void **state)
{
    char *data, *run;
    ContainerConfig config = CONTAINER_CONFIG__INIT;
    HostConfig host = HOST_CONFIG__INIT;
    const char *made;
    char **warnings;

    log_set_level(LOG_LEVEL_ERROR);
    arena_init(&arena);
    dir = testing_dir("logs", &dir_fd);
    data = arena_printf(&arena, "%s/data", dir);
    run = arena_printf(&arena, "%s/run", dir);
    assert_int_equal(uv_loop_init(&loop), 0);
    memset(&fake_keeper, 0, sizeof(fake_keeper));
    is_ready = false;
    next_ns = 1000000000000;
    struct engine_config engine = {
        .loop = &loop, .data_dir = data, .run_dir = run, .instance = "test", .program_dir = "/nowhere"};
    assert_int_equal(engine_open(&engine, set_ready, &en, &e), 0);
    fake_keeper.events.on_ready(fake_keeper.events.ctx);
    testing_run_until(&loop, &is_ready);
    config.image = (char *)"web:1";
    config.host = &host;
    assert_int_equal(engine_create(en, "c1", &config, &arena, &made, &warnings, &e), 0);
    id = arena_strdup(&arena, made);
    log_dir = openat(dir_fd, arena_printf(&arena, "data/containers/%s", id), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(log_dir >= 0);
    return 0;
}

static int stale(void **state)
{
    bool closed = false;

    close(log_dir);
    engine_close(en, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
    arena_fini(&arena);
    testing_loop_close(&loop);
    close(dir_fd);
    testing_dir_remove(dir);
    return 0;
}

/* --- the logger ------------------------------------------------------------------------------------------------
 */

static const char *file_name(int index)
{
    return index ? arena_printf(&arena, "%s-json.log.%d", id, index) : arena_printf(&arena, "%s-json.log", id);
}

static void append(int index, const char *bytes, size_t size)
{
    int fd = openat(log_dir, file_name(index), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0640);

    assert_true(fd >= 0);
    assert_int_equal(write_all(fd, bytes, size, NULL), 0);
    close(fd);
}

static void log_text(int index, const char *stream, const char *text)
{
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    jwrite_object(&j, NULL);
    jwrite_printf(&j, "log", "%s\n", text);
    jwrite_string(&j, "stream", stream);
    jwrite_time_ns(&j, "time", next_ns);
    jwrite_end(&j);
    buf_append_char(&out, '\n');
    next_ns += 1000000000;
    append(index, buf_bytes(&out), out.length);
}

static void log_numbers(int index, int from, int to)
{
    for (int i = from; i <= to; i++)
        log_text(index, i % 2 ? "stdout" : "stderr", arena_printf(&arena, "%d", i));
}

static void rotate(int files)
{
    for (int i = files - 1; i > 0; i--)
        (void)renameat(log_dir, file_name(i - 1), log_dir, file_name(i));
}

/* --- the reader ------------------------------------------------------------------------------------------------
 */

struct reader {
    struct engine_log *log;
    struct buf text; /* lines, each as it came */
    unsigned lines, pause_after;
    bool ended;
    struct err e;
    bool wanted_here; /* `wanted` has come */
    const char *wanted;
    bool closes;
};

static bool on_line(void *ctx, int64_t time_ns, unsigned stream, const char *data, size_t size)
{
    struct reader *r = ctx;

    buf_append(&r->text, data, size);
    r->lines++;
    if (r->wanted && strstr(buf_str(&r->text), r->wanted))
        r->wanted_here = true;
    if (r->closes) {
        engine_log_close(r->log);
        r->ended = true;
        return false;
    }
    return !(r->pause_after && r->lines % r->pause_after == 0);
}

static void on_end(void *ctx, const struct err *why)
{
    struct reader *r = ctx;

    assert_false(r->ended);
    r->ended = true;
    r->e = *why;
}

static struct engine_log_options all(void)
{
    return (struct engine_log_options){.standard_out = true, .standard_error = true, .tail = -1};
}

static void open_reader(struct reader *r, const struct engine_log_options *options)
{
    struct engine_log_events events = {.ctx = r, .on_line = on_line, .on_end = on_end};

    if (engine_log_open(en, "c1", options, &events, &r->log, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(r->lines, 0);
    assert_false(r->ended);
}

/* Read to the end; the lines with blanks between them. */
static const char *read_all(const struct engine_log_options *options)
{
    struct reader r = {0};

    open_reader(&r, options);
    testing_run_until(&loop, &r.ended);
    assert_int_equal(r.e.code, 0);
    char *text = arena_strdup(&arena, buf_str(&r.text));
    for (char *at = text; *at; at++)
        *at = *at == '\n' ? ' ' : *at;
    buf_fini(&r.text);
    return text;
}

static void await_text(struct reader *r, const char *text)
{
    r->wanted = text;
    r->wanted_here = strstr(buf_str(&r->text), text) != NULL;
    testing_run_until(&loop, &r->wanted_here);
}

/* --- tests -----------------------------------------------------------------------------------------------------
 */

static void nothing_logged_is_an_empty_log(void **state)
{
    struct engine_log_options o = all();

    assert_string_equal(read_all(&o), "");
    o.tail = 5;
    assert_string_equal(read_all(&o), "");
}

static void rotated_files_are_read_oldest_first(void **state)
{
    struct engine_log_options o = all();

    log_numbers(2, 1, 3);
    log_numbers(1, 4, 5);
    log_numbers(0, 6, 7);
    assert_string_equal(read_all(&o), "1 2 3 4 5 6 7 ");
}

static void tail_counts_lines_over_files_and_streams(void **state)
{
    static const struct {
        int64_t tail;
        const char *text;
    } table[] = {
        {0, ""},         {1, "7 "},           {2, "6 7 "},           {3, "5 6 7 "},
        {4, "4 5 6 7 "}, {6, "2 3 4 5 6 7 "}, {7, "1 2 3 4 5 6 7 "}, {100, "1 2 3 4 5 6 7 "},
    };
    struct engine_log_options o = all();

    log_numbers(2, 1, 3);
    log_numbers(1, 4, 5);
    log_numbers(0, 6, 7);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        o.tail = table[i].tail;
        assert_string_equal(read_all(&o), table[i].text);
    }
    o.standard_error = false; /* of the last three lines, those of standard output */
    o.tail = 3;
    assert_string_equal(read_all(&o), "5 7 ");
}

static void tail_of_large_files_is_found_in_slices(void **state)
{
    struct engine_log_options o = all();
    char *long_text = arena_alloc(&arena, 3001);
    struct reader r = {0};

    memset(long_text, 'x', 3000);
    for (int i = 0; i < 100; i++)
        log_text(1, "stdout", long_text);
    for (int i = 0; i < 100; i++)
        log_text(0, "stdout", long_text);
    o.tail = 150;
    open_reader(&r, &o);
    testing_run_until(&loop, &r.ended);
    assert_int_equal(r.lines, 150);
    assert_int_equal(r.text.length, 150 * 3001);
    buf_fini(&r.text);
}

static void streams_and_times_are_filtered(void **state)
{
    struct engine_log_options o = all();

    log_numbers(0, 1, 6);
    o.standard_error = false;
    assert_string_equal(read_all(&o), "1 3 5 ");
    o = all();
    o.since_ns = 1000000000000 + 2000000000;
    assert_string_equal(read_all(&o), "3 4 5 6 ");
    o.until_ns = 1000000000000 + 4000000000;
    assert_string_equal(read_all(&o), "3 4 5 ");
    o.tail = 2;
    assert_string_equal(read_all(&o), "5 ");
}

static void damaged_lines_are_skipped(void **state)
{
    struct engine_log_options o = all();
    char *huge = arena_alloc(&arena, 2 * 1024 * 1024);

    log_numbers(0, 1, 1);
    append(0, "garbage\n\n{\"log\":\"half\n", 23);
    memset(huge, 'y', 2 * 1024 * 1024);
    append(0, huge, 2 * 1024 * 1024);
    append(0, "\n\0\0\0\n", 5);
    log_numbers(0, 2, 2);
    append(0, "{\"log\":\"cut", 11);
    assert_string_equal(read_all(&o), "1 2 ");
    o.tail = 2; /* lines are counted as they stand in the file */
    assert_string_equal(read_all(&o), "2 ");
}

static void pausing_loses_nothing(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {.pause_after = 3};
    unsigned pauses = 0;

    log_numbers(0, 1, 50);
    open_reader(&r, &o);
    while (!r.ended) {
        unsigned before = r.lines;

        uv_run(&loop, UV_RUN_NOWAIT);
        if (r.lines == before && !r.ended) {
            pauses++;
            engine_log_resume(r.log);
        }
    }
    assert_int_equal(r.lines, 50);
    assert_true(pauses >= 16);
    buf_fini(&r.text);
}

static void start_container(void)
{
    assert_int_equal(engine_start(en, id, NULL, NULL, &e), 0);
    fake_launched(1);
}

static void following_hears_of_new_lines_until_the_end(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    start_container();
    o.follow = true;
    log_numbers(0, 1, 2);
    open_reader(&r, &o);
    await_text(&r, "2\n");
    log_numbers(0, 3, 3);
    await_text(&r, "3\n");
    append(0, "{\"log\":\"four\\n\",\"stream\":", 25); /* half a line waits for the rest */
    uv_run(&loop, UV_RUN_NOWAIT);
    append(0, "\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n", 40);
    await_text(&r, "four\n");
    assert_false(r.ended);
    log_numbers(0, 5, 5);
    fake_exit(id, 0);
    testing_run_until(&loop, &r.ended);
    assert_string_equal(buf_str(&r.text), "1\n2\n3\nfour\n5\n");
    buf_fini(&r.text);
}

static void following_goes_on_through_rotation(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    start_container();
    o.follow = true;
    o.tail = 1;
    log_numbers(0, 1, 3);
    open_reader(&r, &o);
    await_text(&r, "3\n");
    for (int round = 0; round < 5; round++) {
        log_numbers(0, 10 * round + 4, 10 * round + 6); /* still unread when it rotates */
        rotate(3);
        log_numbers(0, 10 * round + 7, 10 * round + 8);
        await_text(&r, arena_printf(&arena, "%d\n", 10 * round + 8));
    }
    assert_string_equal(buf_str(&r.text),
                        "3\n4\n5\n6\n7\n8\n14\n15\n16\n17\n18\n24\n25\n26\n27\n28\n34\n35\n36\n37\n38\n"
                        "44\n45\n46\n47\n48\n");
    engine_log_close(r.log);
    buf_fini(&r.text);
}

static void following_goes_on_after_truncation(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    start_container();
    o.follow = true;
    log_numbers(0, 1, 20);
    open_reader(&r, &o);
    await_text(&r, "20\n");
    int fd = openat(log_dir, file_name(0), O_WRONLY | O_TRUNC | O_CLOEXEC);
    close(fd);
    log_numbers(0, 21, 21);
    await_text(&r, "21\n");
    assert_int_equal(r.lines, 21);
    engine_log_close(r.log);
    buf_fini(&r.text);
}

static void following_to_a_time_ends_then(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    start_container();
    o.follow = true;
    o.until_ns = engine_now_ns() + 50000000;
    log_numbers(0, 1, 2);
    open_reader(&r, &o);
    testing_run_until(&loop, &r.ended);
    assert_string_equal(buf_str(&r.text), "1\n2\n");
    buf_fini(&r.text);
}

static void following_what_does_not_run_just_reads(void **state)
{
    struct engine_log_options o = all();

    log_numbers(0, 1, 2);
    o.follow = true;
    assert_string_equal(read_all(&o), "1 2 ");
}

/* What `docker run` does: attach, start, read to the end. */
static void reader_to_the_exit_may_come_before_the_start(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    o.follow = o.to_exit = true;
    o.tail = 0;
    open_reader(&r, &o);
    for (int turn = 0; turn < 10; turn++)
        uv_run(&loop, UV_RUN_NOWAIT);
    assert_false(r.ended);
    start_container();
    log_numbers(0, 1, 2);
    fake_exit(id, 0);
    testing_run_until(&loop, &r.ended);
    assert_int_equal(r.e.code, 0);
    assert_string_equal(buf_str(&r.text), "1\n2\n");
    buf_fini(&r.text);
}

static void removed_container_is_read_to_its_end(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    o.follow = o.to_exit = true;
    open_reader(&r, &o);
    uv_run(&loop, UV_RUN_NOWAIT);
    start_container();
    assert_int_equal(engine_remove(en, id, true, false, NULL, NULL, &e), 0);
    log_numbers(0, 1, 3);
    fake_exit(id, 137); /* its directory goes before anybody looks at the log */
    testing_run_until(&loop, &r.ended);
    assert_string_equal(buf_str(&r.text), "1\n2\n3\n");
    buf_fini(&r.text);
}

static void removal_ends_a_reader(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    start_container();
    o.follow = true;
    log_numbers(0, 1, 2);
    open_reader(&r, &o);
    await_text(&r, "2\n");
    assert_int_equal(engine_remove(en, id, true, false, NULL, NULL, &e), 0);
    fake_exit(id, 137);
    testing_run_until(&loop, &r.ended);
    buf_fini(&r.text);
}

static void reader_may_be_closed_from_its_callback(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {.closes = true};

    log_numbers(0, 1, 5);
    open_reader(&r, &o);
    testing_run_until(&loop, &r.ended);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(r.lines, 1);
    buf_fini(&r.text);
}

static void closing_engine_ends_readers(void **state)
{
    struct engine_log_options o = all();
    struct reader r = {0};

    start_container();
    o.follow = true;
    open_reader(&r, &o);
    assert_int_equal(stale(NULL), 0);
    assert_true(r.ended);
    assert_int_equal(r.e.code, ERR_CANCELED);
    buf_fini(&r.text);
    assert_int_equal(fresh(NULL), 0);
}

static void container_without_a_log_says_so(void **state)
{
    ContainerConfig config = CONTAINER_CONFIG__INIT;
    HostConfig host = HOST_CONFIG__INIT;
    struct engine_log_options o = all();
    struct engine_log_events events = {0};
    struct engine_log *log;
    const char *made;
    char **warnings;

    config.image = (char *)"web:1";
    config.host = &host;
    host.log_driver = (char *)"none";
    assert_int_equal(engine_create(en, "silent", &config, &arena, &made, &warnings, &e), 0);
    assert_int_equal(engine_log_open(en, "silent", &o, &events, &log, &e), ERR_UNSUPPORTED);
    assert_int_equal(engine_log_open(en, "nobody", &o, &events, &log, &e), ERR_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_logged_is_an_empty_log),
        TEST(rotated_files_are_read_oldest_first),
        TEST(tail_counts_lines_over_files_and_streams),
        TEST(tail_of_large_files_is_found_in_slices),
        TEST(streams_and_times_are_filtered),
        TEST(damaged_lines_are_skipped),
        TEST(pausing_loses_nothing),
        TEST(following_hears_of_new_lines_until_the_end),
        TEST(following_goes_on_through_rotation),
        TEST(following_goes_on_after_truncation),
        TEST(following_to_a_time_ends_then),
        TEST(following_what_does_not_run_just_reads),
        TEST(reader_to_the_exit_may_come_before_the_start),
        TEST(removed_container_is_read_to_its_end),
        TEST(removal_ends_a_reader),
        TEST(reader_may_be_closed_from_its_callback),
        TEST(closing_engine_ends_readers),
        TEST(container_without_a_log_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
