/* What a container writes is in its log, once and in order, whoever dies meanwhile. */
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/rig_testing.h"

static int open_rig(void **state)
{
    (void)need_rig(state); /* does not return without */
    rig_open(&rig, 0, 0);
    return 0;
}

/* --- format ---------------------------------------------------------------------------------------- */

static void streams_are_told_apart_and_complete_when_the_end_is_told(void **state)
{
    for (int i = 0; i < 20; i++) {
        struct rig_case *c = a_shell("echo out; echo err >&2; printf part; printf 'bytes \\377\\n' >&2");

        rig_launch(c);
        rig_wait(c);
        assert_string_equal(rig_output(c, "stdout"),
                            "out\npart"); /* no waiting: the end came after the last byte */
        assert_string_equal(rig_output(c, "stderr"), "err\nbytes \xef\xbf\xbd\n");
        rig_forget(c);
    }
}

static unsigned count_entries(struct rig_case *c)
{
    AUTO_BUF struct buf text = {0};
    unsigned count = 0;

    assert_int_equal(file_read(AT_FDCWD, rig_path(&rig, "c/%s/%s-json.log", c->id, c->id), 64 << 20, &text, NULL),
                     0);
    for (const char *at = buf_str(&text); (at = strchr(at, '\n')); at++)
        count++;
    return count;
}

static void long_line_is_split_at_sixteen_kib(void **state)
{
    struct rig_case *c = a_shell("head -c 40000 /dev/zero | tr '\\0' x; echo; echo end");

    (void)rig_run(c);
    assert_int_equal(count_entries(c), 4); /* 16384, 16384, 7232 and its newline, end */
    assert_int_equal(strlen(rig_output(c, NULL)), 40005);
}

static void unfinished_line_waits_for_its_rest(void **state)
{
    struct rig_case *c = a_shell("printf 'one '; sleep 0.1; printf 'two '; sleep 0.1; echo three");

    (void)rig_run(c);
    assert_string_equal(rig_output(c, NULL), "one two three\n");
    assert_int_equal(count_entries(c), 1);
}

static void line_appears_while_the_container_runs(void **state)
{
    struct rig_case *c = a_shell("echo now; sleep 1000");

    rig_launch(c);
    while (!*rig_output(c, NULL))
        rig_turn(&rig, 2);
    assert_string_equal(rig_output(c, NULL), "now\n");
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
}

static KeyValue *an_option(const char *key, const char *value)
{
    KeyValue *v = ARENA_NEW(&rig.arena, KeyValue);

    key_value__init(v);
    v->key = (char *)key;
    v->value = (char *)value;
    return v;
}

static void files_rotate_and_driver_none_writes_none(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "lines", "1000", "0", "100", NULL);
    KeyValue *options[] = {an_option("max-size", "20k"), an_option("max-file", "3")};
    struct stat st;

    c->host.log_options = options;
    c->host.n_log_options = 2;
    assert_int_equal(rig_run(c), 0);
    for (int i = 0; i < 3; i++) {
        char *path = rig_path(&rig, i ? "c/%s/%s-json.log.%d" : "c/%s/%s-json.log", c->id, c->id, i);

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0640);
        assert_true(st.st_size > 0 && st.st_size < 21000);
    }
    assert_int_equal(access(rig_path(&rig, "c/%s/%s-json.log.3", c->id, c->id), F_OK), -1);
    assert_non_null(strstr(rig_output(c, NULL), "line 00000999"));
    c = a_shell("echo unheard");
    c->host.log_driver = (char *)"none";
    assert_int_equal(rig_run(c), 0);
    assert_int_equal(access(rig_path(&rig, "c/%s/%s-json.log", c->id, c->id), F_OK), -1);
}

/* --- completeness ---------------------------------------------------------------------------------- */

struct tally {
    unsigned lines, missing, repeated, broken;
};

/* Numbered lines as `inside lines` writes them. Repetitions are counted, whatever their order. */
static struct tally count_lines(struct rig_case *c, unsigned expected)
{
    const char *text = rig_output(c, "stdout");
    AUTO_FREE
    unsigned char *seen = mem_alloc(expected + 1);
    struct tally t = {0};

    for (const char *at = text, *next; *at; at = next) {
        unsigned number;

        next = strchr(at, '\n');
        next = next ? next + 1 : at + strlen(at);
        if (sscanf(at, "line %8u ", &number) != 1 || number >= expected || next[-1] != '\n') {
            t.broken++;
            continue;
        }
        t.lines++;
        t.repeated += seen[number];
        seen[number] = 1;
    }
    for (unsigned i = 0; i < expected; i++)
        t.missing += !seen[i];
    return t;
}

static void flood_is_complete_and_in_order(void **state)
{
    static const char *const blocks[] = {"1", "4096", "200000"};

    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
        struct rig_case *c = rig_case(&rig, "/bin/inside", "lines", "20000", "0", "100", blocks[i], NULL);

        assert_int_equal(rig_run(c), 0);
        struct tally t = count_lines(c, 20000);
        assert_int_equal(t.missing, 0);
        assert_int_equal(t.repeated, 0);
        assert_int_equal(t.broken, 0);
    }
}

static void flood_of_one_does_not_silence_another(void **state)
{
    struct rig_case *flood = rig_case(&rig, "yes", "flooding the log as fast as it can", NULL);
    struct rig_case *quiet = a_shell("sleep 0.1; echo heard; sleep 1000");
    KeyValue *options[] = {an_option("max-size", "1m")};

    flood->host.log_options = options;
    flood->host.n_log_options = 1;
    rig_launch(flood);
    rig_launch(quiet);
    for (int i = 0; !*rig_output(quiet, NULL); i++) {
        assert_true(i < 2000);
        rig_turn(&rig, 5);
    }
    struct rig_case *both[] = {flood, quiet};
    for (size_t i = 0; i < 2; i++) {
        (void)keeper_signal(rig.keeper, both[i]->id, SIGKILL, NULL);
        rig_wait(both[i]);
        rig_forget(both[i]);
    }
}

/* --- deaths ---------------------------------------------------------------------------------------- */

/* A writer of 1 MB/s for two and a half seconds; somebody is killed every now and then. */
#define LINES 25000

static struct rig_case *a_writer(const char *block)
{
    return rig_case(&rig, "/bin/inside", "lines", "25000", "10000", "100", block, NULL);
}

static void wait_for_lines(struct rig_case *c, unsigned more)
{
    struct stat st;
    char *path = rig_path(&rig, "c/%s/%s-json.log", c->id, c->id);
    off_t goal = stat(path, &st) == 0 ? st.st_size + (off_t)more * 150 : (off_t)more * 150;

    for (int i = 0; i < 3000 && !c->ended && (stat(path, &st) < 0 || st.st_size < goal); i++)
        rig_turn(&rig, 5);
}

static void killed_logger_loses_no_line(void **state)
{
    static const char *const blocks[] = {"1", "4096"};

    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
        struct rig_case *c = a_writer(blocks[i]);
        unsigned kills = 0;

        rig_launch(c);
        while (!c->ended && kills < 5) {
            wait_for_lines(c, 4000);
            int pid = rig_await_logger(&rig, 0);
            if (!c->ended) {
                rig_kill(pid, SIGKILL);
                kills++;
            }
        }
        rig_wait(c);
        assert_int_equal(c->exit.code, 0);
        assert_true(kills >= 3);
        struct tally t = count_lines(c, LINES);
        print_message("logger killed %u times, writes of %s bytes: %u missing, %u repeated, %u broken\n", kills,
                      blocks[i], t.missing, t.repeated, t.broken);
        assert_int_equal(t.missing, 0);
        assert_int_equal(t.broken, 0);
        assert_true(t.repeated <= kills * (65536 / 100)); /* at most the turn it was killed in */
        rig_forget(c);
    }
}

static void killed_keeper_loses_and_repeats_no_line(void **state)
{
    struct rig_case *c = a_writer("1");
    unsigned kills = 0;

    rig_launch(c);
    int writer = c->pid;
    while (!c->ended && kills < 5) {
        wait_for_lines(c, 4000);
        int pid = rig_await_keeper(&rig, 0);
        if (c->ended)
            break;
        rig_kill(pid, SIGKILL);
        kills++;
        (void)rig_await_keeper(&rig, pid);
        assert_int_equal(c->pid, writer);
    }
    rig_wait(c);
    assert_int_equal(c->exit.code, 0);
    assert_false(c->exit.unknown);
    struct tally t = count_lines(c, LINES);
    assert_true(kills >= 3);
    assert_int_equal(t.missing, 0);
    assert_int_equal(t.repeated, 0);
    assert_int_equal(t.broken, 0);
    rig_forget(c);
}

static void everybody_killed_in_turn_loses_no_line(void **state)
{
    struct rig_case *c = a_writer("1");

    rig_launch(c);
    for (unsigned i = 0; i < 6 && !c->ended; i++) {
        wait_for_lines(c, 3000);
        int keeper = rig_await_keeper(&rig, 0), logger = rig_await_logger(&rig, 0);

        if (i % 3 == 0) { /* shoald's side goes and comes back */
            rig_disconnect(&rig);
            rig_connect(&rig);
        } else if (i % 3 == 1) {
            rig_kill(logger, SIGKILL);
        } else { /* both at once */
            rig_kill(logger, SIGKILL);
            rig_kill(keeper, SIGKILL);
            (void)rig_await_keeper(&rig, keeper);
        }
    }
    rig_wait(c);
    assert_int_equal(c->exit.code, 0);
    struct tally t = count_lines(c, LINES);
    assert_int_equal(t.missing, 0);
    assert_int_equal(t.broken, 0);
    rig_forget(c);
}

static void writer_that_ends_while_shoald_is_away_is_complete(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "lines", "15000", "10000", "100", NULL);

    rig_launch(c);
    wait_for_lines(c, 1000);
    assert_false(c->ended);
    rig_disconnect(&rig);
    while (kill(c->pid, 0) == 0) /* the keeper reaps it */
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    rig_connect(&rig);
    assert_true(c->found);
    rig_wait(c);
    assert_int_equal(c->exit.code, 0);
    assert_false(c->exit.unknown);
    assert_true(c->exit.ended_ns - c->started_ns >= 1400000000);
    struct tally t = count_lines(c, 15000);
    assert_int_equal(t.missing + t.repeated + t.broken, 0);
    rig_forget(c);
}

/* What a killed logger had read of a terminal and not written: logger.c, WORK_BYTES. */
#define TERMINAL_LOSS_MAX ((64 + 16) * 1024 / 101 + 2)

static void terminal_that_is_written_to_survives_all_deaths(void **state)
{
    struct rig_case *c = a_writer("1");
    unsigned loggers = 0;

    c->config.tty = true;
    rig_launch(c);
    for (unsigned i = 0; i < 6 && !c->ended; i++) {
        wait_for_lines(c, 3000);
        int keeper = rig_await_keeper(&rig, 0), logger = rig_await_logger(&rig, 0);

        if (c->ended)
            break;
        if (i % 3 == 0) {
            rig_kill(keeper, SIGKILL);
            (void)rig_await_keeper(&rig, keeper);
        } else if (i % 3 == 1) {
            rig_kill(logger, SIGKILL);
            loggers++;
        } else {
            rig_disconnect(&rig);
            rig_connect(&rig);
        }
    }
    rig_wait(c);
    assert_int_equal(c->exit.code, 0); /* 3: a write failed, or a signal for the hang-up */
    assert_false(c->exit.unknown);
    struct tally t = count_lines(c, LINES);
    print_message("logger killed %u times: %u lines of the terminal missing, %u broken\n", loggers, t.missing,
                  t.broken);
    assert_true(loggers > 0);
    assert_int_equal(t.repeated, 0);
    assert_true(t.missing <= loggers * TERMINAL_LOSS_MAX);
    assert_true(t.broken <= 2 * loggers);
    rig_forget(c);
}

static void terminal_loses_nothing_when_only_keeper_and_shoald_die(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "lines", "12000", "10000", "100", NULL);

    c->config.tty = true;
    rig_launch(c);
    for (unsigned i = 0; i < 4 && !c->ended; i++) {
        wait_for_lines(c, 1500);
        int keeper = rig_await_keeper(&rig, 0);

        if (i % 2) {
            rig_kill(keeper, SIGKILL);
            (void)rig_await_keeper(&rig, keeper);
        } else {
            rig_disconnect(&rig);
            rig_connect(&rig);
        }
    }
    rig_wait(c);
    assert_int_equal(c->exit.code, 0);
    struct tally t = count_lines(c, 12000);
    assert_int_equal(t.missing + t.repeated + t.broken, 0);
    rig_forget(c);
}

static void writer_goes_on_while_nobody_reads(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "lines", "3000", "1000", "100", NULL);
    int keeper = rig_await_keeper(&rig, 0);

    rig_launch(c);
    wait_for_lines(c, 200);
    int logger = rig_await_logger(&rig, 0);
    rig_disconnect(&rig); /* nobody is left who would start another */
    rig_kill(keeper, SIGKILL);
    rig_kill(logger, SIGKILL);
    rig_turn(&rig, 300);
    assert_int_equal(kill(c->pid, 0), 0); /* neither a signal nor an error reached it */
    rig_connect(&rig);
    assert_true(c->found);
    rig_wait(c);
    struct tally t = count_lines(c, 3000);
    assert_int_equal(t.missing, 0);
    assert_int_equal(t.broken, 0);
    rig_forget(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(streams_are_told_apart_and_complete_when_the_end_is_told),
        TEST(long_line_is_split_at_sixteen_kib),
        TEST(unfinished_line_waits_for_its_rest),
        TEST(line_appears_while_the_container_runs),
        TEST(files_rotate_and_driver_none_writes_none),
        TEST(flood_is_complete_and_in_order),
        TEST(flood_of_one_does_not_silence_another),
        TEST(killed_logger_loses_no_line),
        TEST(killed_keeper_loses_and_repeats_no_line),
        TEST(everybody_killed_in_turn_loses_no_line),
        TEST(writer_that_ends_while_shoald_is_away_is_complete),
        TEST(terminal_that_is_written_to_survives_all_deaths),
        TEST(terminal_loses_nothing_when_only_keeper_and_shoald_die),
        TEST(writer_goes_on_while_nobody_reads),
    };

    (void)argc;
    missing = rig_missing(argv[0]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
