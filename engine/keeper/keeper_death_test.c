/* Keeper, shoald and programs come and go; containers notice nothing and their ends are told truly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/keeper/process.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/rig_testing.h"

static int open_rig(void **state)
{
    (void)need_rig(state); /* does not return without */
    rig_open(&rig, 1, 2);
    return 0;
}

/* Runs until the file /tmp/end is made in it, then ends with 7. */
static struct rig_case *a_waiter(void)
{
    return a_shell("echo up; while ! test -e /tmp/end; do sleep 0.01; done; echo over; exit 7");
}

static void let_end(struct rig_case *c)
{
    AUTO_FREE
    char *path = mem_printf("/proc/%d/root/tmp/end", c->pid);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
}

static void kill_keeper_and_wait_for_the_next(void)
{
    int pid = rig_await_keeper(&rig, 0);

    rig_kill(pid, SIGKILL);
    (void)rig_await_keeper(&rig, pid);
    /* Until it answers: a container that it launches. */
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
}

static void wait_ms(long ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000};

    (void)nanosleep(&time, NULL);
}

static bool is_alive(int pid)
{
    return process_start(pid) != 0;
}

/* --- the keeper dies -------------------------------------------------------------------------------- */

static void killed_keeper_is_replaced_and_ends_are_still_known(void **state)
{
    struct rig_case *c = a_waiter();

    rig_launch(c);
    int pid = c->pid;
    for (int i = 0; i < 3; i++) {
        kill_keeper_and_wait_for_the_next();
        assert_true(is_alive(pid));
        assert_int_equal(keeper_signal(rig.keeper, c->id, 0, NULL), 0);
    }
    let_end(c);
    rig_wait(c);
    assert_false(c->exit.unknown);
    assert_int_equal(c->exit.code, 7);
    assert_string_equal(rig_output(c, NULL), "up\nover\n");
    rig_forget(c);
}

static void end_that_nobody_but_shoald_could_see_is_known_by_its_descriptor(void **state)
{
    struct rig_case *c = a_waiter();
    int keeper = rig_await_keeper(&rig, 0);

    rig_launch(c);
    /* The keeper is stopped, so that it cannot see the end, and then killed. */
    rig_kill(keeper, SIGSTOP);
    let_end(c);
    for (int i = 0; i < 1000; i++) {
        AUTO_FREE
        char *path = mem_printf("/proc/%d/stat", c->pid);
        AUTO_BUF struct buf text = {0};
        if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0 || strstr(buf_str(&text), ") Z "))
            break;
        rig_turn(&rig, 5);
    }
    rig_kill(keeper, SIGKILL);
    rig_wait(c);
    if (c->exit.unknown) /* a kernel without PIDFD_GET_INFO, or one whose init was quicker than we */
        print_message("the end is unknown on this kernel\n");
    else
        assert_int_equal(c->exit.code, 7);
    assert_true(c->exit.unknown || c->exit.code != 0);
    rig_forget(c);
}

static void terminal_survives_its_keeper(void **state)
{
    struct rig_case *c =
        a_shell("while read line; do echo \"got $line\"; test \"$line\" = end && exit 4; done; exit 9");

    c->config.tty = true;
    rig_launch(c);
    for (int i = 0; i < 2; i++) {
        char text[32];
        int length = snprintf(text, sizeof(text), "line %d\n", i);

        assert_int_equal(write(keeper_terminal(rig.keeper, c->id), text, (size_t)length), length);
        text[length - 1] = '\0';
        AUTO_FREE
        char *answer = mem_printf("got %s", text);
        for (int k = 0; k < 2000 && !strstr(rig_output(c, NULL), answer); k++)
            rig_turn(&rig, 5);
        assert_non_null(strstr(rig_output(c, NULL), answer));
        kill_keeper_and_wait_for_the_next();
    }
    assert_int_equal(write(keeper_terminal(rig.keeper, c->id), "end\n", 4), 4);
    rig_wait(c);
    assert_int_equal(c->exit.code, 4); /* 9: its terminal was hung up */
    assert_non_null(strstr(rig_output(c, NULL), "got end"));
    rig_forget(c);
}

static void standard_input_survives_its_keeper(void **state)
{
    struct rig_case *c = a_shell("read line; echo \"got $line\"");

    c->config.open_stdin = true;
    rig_launch(c);
    kill_keeper_and_wait_for_the_next();
    assert_false(c->ended);
    assert_int_equal(write(keeper_stdin(rig.keeper, c->id), "late\n", 5), 5);
    rig_wait(c);
    assert_string_equal(rig_output(c, NULL), "got late\n");
    rig_forget(c);
}

static void launch_under_way_when_the_keeper_dies_is_answered(void **state)
{
    unsigned launched = 0, failed = 0;

    for (int round = 0; round < 5; round++) {
        struct rig_case *c[4];
        int pid = rig_await_keeper(&rig, 0);

        for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
            c[i] = a_shell("sleep 1000");
            rig_send(c[i]);
        }
        if (round)
            rig_turn(&rig, (unsigned)(2 * round)); /* later each time: from not begun to just begun */
        rig_kill(pid, SIGKILL);
        for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
            rig_until(&rig, &c[i]->answered);
            launched += c[i]->error.code == 0;
            failed += c[i]->error.code != 0;
            if (c[i]->error.code)
                continue;
            (void)keeper_signal(rig.keeper, c[i]->id, SIGKILL, NULL);
            rig_wait(c[i]);
            rig_forget(c[i]);
        }
    }
    print_message("%u launched, %u failed\n", launched, failed);
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
}

/* --- shoald goes ------------------------------------------------------------------------------------ */

static void end_while_shoald_was_away_is_told_with_code_and_time(void **state)
{
    struct rig_case *lives = a_waiter(), *ends = a_waiter();
    struct timespec before, after;

    rig_launch(lives);
    rig_launch(ends);
    int64_t started_ns = lives->started_ns;
    rig_disconnect(&rig);
    clock_gettime(CLOCK_REALTIME, &before);
    let_end(ends);
    for (int i = 0; i < 2000 && is_alive(ends->pid); i++)
        wait_ms(5);
    clock_gettime(CLOCK_REALTIME, &after);
    lives->running = false;
    rig_connect(&rig);
    assert_true(lives->found && lives->running);
    assert_int_equal(lives->started_ns, started_ns);
    rig_wait(ends);
    assert_int_equal(ends->exit.code, 7);
    assert_false(ends->exit.unknown);
    assert_true(ends->exit.ended_ns / 1000000000 >= before.tv_sec &&
                ends->exit.ended_ns / 1000000000 <= after.tv_sec);
    assert_string_equal(rig_output(ends, NULL), "up\nover\n");
    rig_forget(ends);
    let_end(lives);
    rig_wait(lives);
    assert_int_equal(lives->exit.code, 7);
    rig_forget(lives);
}

static void newer_shoald_takes_the_place_of_an_older_one(void **state)
{
    static struct rig second;
    struct rig_case *c = a_waiter();

    rig_launch(c);
    second = rig;
    arena_init(&second.arena);
    list_init(&second.cases);
    assert_int_equal(uv_loop_init(&second.loop), 0);
    assert_int_equal(uv_timer_init(&second.loop, &second.alarm), 0);
    second.alarm.data = &second;
    list_remove(&c->link);
    list_push(&second.cases, &c->link);
    second.warm_max = 0;
    rig_connect(&second); /* the first is still there, and is put off */
    assert_true(c->found);
    rig_disconnect(&second);
    uv_close((uv_handle_t *)&second.alarm, NULL);
    (void)uv_run(&second.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&second.loop), 0);
    arena_fini(&second.arena);
    list_remove(&c->link);
    list_push(&rig.cases, &c->link);
    let_end(c);
    rig_wait(c); /* the first has connected again meanwhile */
    assert_int_equal(c->exit.code, 7);
    rig_forget(c);
}

/* --- both are gone ---------------------------------------------------------------------------------- */

static void everybody_dead_containers_are_found_by_their_records(void **state)
{
    struct rig_case *lives = a_waiter(), *ends = a_waiter();
    int keeper = rig_await_keeper(&rig, 0), logger = rig_await_logger(&rig, 0);

    rig_launch(lives);
    rig_launch(ends);
    int64_t started_ns = lives->started_ns;
    rig_disconnect(&rig);
    rig_kill(keeper, SIGKILL);
    rig_kill(logger, SIGKILL);
    let_end(ends);
    for (int i = 0; i < 4000 && is_alive(ends->pid); i++) /* until init has taken note: then nobody can know */
        wait_ms(5);
    rig_connect(&rig);
    assert_true(lives->found && lives->running);
    assert_int_equal(lives->started_ns, started_ns);
    rig_wait(ends);
    assert_true(ends->exit.unknown); /* and not 0, nor 7 by luck */
    assert_true(ends->exit.code != 0);
    rig_forget(ends);
    let_end(lives);
    rig_wait(lives);
    assert_false(lives->exit.unknown);
    assert_int_equal(lives->exit.code, 7);
    rig_forget(lives);
}

static void damaged_record_is_not_believed(void **state)
{
    struct rig_case *c = a_shell("sleep 1000");
    int keeper = rig_await_keeper(&rig, 0);

    rig_launch(c);
    char *record = rig_path(&rig, "keeper/box/%s/state", c->sandbox);
    rig_disconnect(&rig);
    rig_kill(keeper, SIGKILL);
    AUTO_CLOSE
    int fd = open(record, O_RDWR | O_CLOEXEC);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, 40), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, 40), 1);
    rig_connect(&rig);
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
    for (int i = 0; i < 2000 && is_alive(c->pid); i++) /* its group is emptied: nobody would know of it */
        rig_turn(&rig, 5);
    assert_false(is_alive(c->pid));
    c->running = false;
    c->forgotten = true;
}

static void number_of_another_process_is_told_apart_by_its_start(void **state)
{
    pid_t pid = fork();
    int fd = -1, status = 0;

    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    uint64_t start = process_start(pid);
    assert_true(start > 0);
    assert_int_equal(process_open(pid, start + 1, &fd, NULL), ERR_NOT_FOUND);
    assert_int_equal(process_open(pid, 0, &fd, NULL), ERR_NOT_FOUND);
    assert_int_equal(fd, -1);
    assert_int_equal(process_open(pid, start, &fd, NULL), 0);
    assert_int_equal(process_end(fd, pid, start, &status), PROCESS_RUNS);
    assert_int_equal(process_signal(fd, SIGTERM, NULL), 0);
    while (process_end(fd, pid, start, &status) == PROCESS_RUNS)
        ;
    assert_int_equal(process_exit_code(status), 128 + SIGTERM);
    close(fd);
}

static void second_keeper_for_one_directory_does_not_start(void **state)
{
    AUTO_FREE
    char *command =
        mem_printf("%s --run-dir %s --instance other >%s/said 2>&1", rig.keeper_program, rig.dir, rig.dir);
    AUTO_BUF struct buf text = {0};
    char *const argv[] = {(char *)"sh", (char *)"-c", command, NULL};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execv("/bin/sh", argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 75);
    assert_int_equal(file_read(AT_FDCWD, rig_path(&rig, "said"), 4096, &text, NULL), 0);
    assert_non_null(strstr(buf_str(&text), "held by a process that lives"));
}

/* --- what is held for shoald ------------------------------------------------------------------------ */

/* Whether the other end of the pair was closed: within a while, or by now. */
static bool is_closed(int fd, int patience_ms)
{
    char byte;

    for (int ms = 0;; ms += 10) {
        ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);

        if (got == 0)
            return true;
        assert_true(got < 0 && errno == EAGAIN);
        if (ms >= patience_ms)
            return false;
        rig_turn(&rig, 10);
    }
}

/* A connection that the keeper is to hold; the far end. */
static int held_pair(void)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    keeper_hold(rig.keeper, ends[0]);
    close(ends[0]);
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0); /* the keeper has read it */
    return ends[1];
}

static void upgrade_to(const char *program);
static char *other_program(const char *name, size_t keep);

static void connection_outlives_shoald_and_is_closed_with_the_keeper(void **state)
{
    AUTO_CLOSE
    int far = held_pair();

    rig_disconnect(&rig);
    assert_false(is_closed(far, 50));
    rig_connect(&rig); /* another shoald, which has no connection yet */
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
    assert_false(is_closed(far, 50));
    upgrade_to(other_program("other-keeper", SIZE_MAX));
    assert_int_equal(rig.error.code, 0);
    assert_false(is_closed(far, 50));
    kill_keeper_and_wait_for_the_next();
    assert_true(is_closed(far, 5000));
}

static void connection_is_held_again_by_the_next_keeper(void **state)
{
    AUTO_CLOSE
    int far = held_pair();

    kill_keeper_and_wait_for_the_next();
    rig_disconnect(&rig);
    assert_false(is_closed(far, 50));
    rig_connect(&rig);
}

static void only_the_newest_connection_is_held(void **state)
{
    AUTO_CLOSE
    int first = held_pair();
    AUTO_CLOSE
    int second = held_pair();

    assert_true(is_closed(first, 5000));
    assert_false(is_closed(second, 0));
    keeper_hold(rig.keeper, -1);
    assert_true(is_closed(second, 5000));
}

/* --- another program -------------------------------------------------------------------------------- */

static void on_upgraded(void *ctx, const struct err *e)
{
    struct rig *r = ctx;

    r->error = *e;
    r->upgraded = true;
}

static void upgrade_to(const char *program)
{
    struct err e = {0};

    rig.upgraded = false;
    if (keeper_upgrade(rig.keeper, program, on_upgraded, &rig, &e) < 0)
        fail_msg("%s", e.text);
    rig_until(&rig, &rig.upgraded);
}

/* Another program: ours with something behind its end. */
static char *other_program(const char *name, size_t keep)
{
    char *path = rig_path(&rig, "%s", name);
    AUTO_BUF struct buf bytes = {0};
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

    assert_int_equal(file_read(AT_FDCWD, rig.keeper_program, 64 << 20, &bytes, NULL), 0);
    assert_int_equal(write_all(fd, buf_bytes(&bytes), MIN(keep, bytes.length), NULL), 0);
    assert_int_equal(write_all(fd, "another version", 15, NULL), 0);
    return path;
}

static off_t size_of_program(void)
{
    AUTO_FREE
    char *path = mem_printf("/proc/%d/exe", rig_keeper_pid(&rig));
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void keeper_becomes_another_program_and_back_with_launches_under_way(void **state)
{
    char *other = other_program("other-keeper", SIZE_MAX);
    struct rig_case *waiter = a_waiter(), *terminal = a_shell("read x; echo got $x; exit 3"), *burst[10];
    int keeper = rig_await_keeper(&rig, 0);

    terminal->config.tty = true;
    rig_launch(waiter);
    rig_launch(terminal);
    off_t size = size_of_program();
    for (int there = 1; there >= 0; there--) {
        for (size_t i = 0; i < ARRAY_SIZE(burst); i++) {
            burst[i] = i % 3 == 2 ? rig_case(&rig, "/nowhere", NULL) : a_shell("echo ran; exit 5");
            rig_send(burst[i]);
        }
        upgrade_to(there ? other : rig.keeper_program);
        assert_int_equal(rig.error.code, 0);
        assert_int_equal(rig_keeper_pid(&rig), keeper); /* the same process */
        assert_int_equal(size_of_program(), size + (there ? 15 : 0));
        for (size_t i = 0; i < ARRAY_SIZE(burst); i++) {
            rig_until(&rig, &burst[i]->answered);
            assert_int_equal(burst[i]->error.code, i % 3 == 2 ? ERR_NOT_FOUND : 0);
            if (burst[i]->error.code)
                continue;
            rig_wait(burst[i]);
            assert_int_equal(burst[i]->exit.code, 5);
            assert_string_equal(rig_output(burst[i], NULL), "ran\n");
            rig_forget(burst[i]);
        }
    }
    assert_int_equal(write(keeper_terminal(rig.keeper, terminal->id), "it\n", 3), 3);
    rig_wait(terminal);
    assert_int_equal(terminal->exit.code, 3);
    let_end(waiter);
    rig_wait(waiter);
    assert_int_equal(waiter->exit.code, 7); /* still a child: waited for */
    assert_false(waiter->exit.unknown);
    assert_string_equal(rig_output(waiter, NULL), "up\nover\n");
    rig_forget(terminal);
    rig_forget(waiter);
}

static void program_that_is_none_is_refused_and_changes_nothing(void **state)
{
    const char *const programs[] = {"/bin/false", "/etc/passwd", other_program("torn-keeper", 5000)};
    struct rig_case *c = a_waiter();
    off_t size = size_of_program();

    rig_launch(c);
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        upgrade_to(programs[i]);
        assert_int_equal(rig.error.code, ERR_UNSUPPORTED);
        assert_int_equal(size_of_program(), size);
        assert_int_equal(rig_run(a_shell("exit 2")), 2);
    }
    struct err e;
    assert_int_equal(keeper_upgrade(rig.keeper, "/nowhere", on_upgraded, &rig, &e), ERR_NOT_FOUND);
    let_end(c);
    rig_wait(c);
    assert_int_equal(c->exit.code, 7);
    rig_forget(c);
}

static void upgrade_keeps_what_is_written_meanwhile(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "lines", "20000", "10000", "100", NULL);
    char *other = other_program("other-keeper", SIZE_MAX);
    unsigned next = 0;

    rig_launch(c);
    for (int i = 0; i < 4; i++) {
        rig_turn(&rig, 200);
        upgrade_to(i % 2 ? rig.keeper_program : other);
        assert_int_equal(rig.error.code, 0);
    }
    rig_wait(c);
    assert_int_equal(c->exit.code, 0);
    for (const char *at = rig_output(c, NULL); *at; at = strchr(at, '\n') + 1) {
        unsigned number;

        assert_int_equal(sscanf(at, "line %u", &number), 1);
        assert_int_equal(number, next++);
    }
    assert_int_equal(next, 20000);
    rig_forget(c);
}

/* --- nobody can be started -------------------------------------------------------------------------- */

static void missing_keeper_is_told_and_tried_again(void **state)
{
    struct rig_case *waiting;
    int pid = rig_await_keeper(&rig, 0), logger = rig_await_logger(&rig, 0);
    char *program = rig_path(&rig, "gone-keeper");
    AUTO_BUF struct buf bytes = {0};

    assert_int_equal(file_read(AT_FDCWD, rig.keeper_program, 64 << 20, &bytes, NULL), 0);
    rig_disconnect(&rig);
    rig_kill(pid, SIGKILL);
    rig_kill(logger, SIGKILL);
    (void)snprintf(rig.keeper_program, sizeof(rig.keeper_program), "%s", program);
    waiting = a_shell("exit 6");
    AUTO_CLOSE
    int fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_int_equal(write_all(fd, "#!/bin/sh\necho broken on purpose\nexit 1\n", 39, NULL), 0);
    close(steal_fd(&fd));
    rig.fatal = 0;
    rig_begin_connect(&rig);
    while (rig.fatal < 2)
        rig_turn(&rig, 5);
    assert_non_null(strstr(rig.error.text, "broken on purpose"));
    fd = open(program, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(write_all(fd, buf_bytes(&bytes), bytes.length, NULL), 0);
    close(steal_fd(&fd));
    rig_until(&rig, &rig.ready);
    assert_int_equal(rig_run(waiting), 6);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(killed_keeper_is_replaced_and_ends_are_still_known),
        TEST(end_that_nobody_but_shoald_could_see_is_known_by_its_descriptor),
        TEST(terminal_survives_its_keeper),
        TEST(standard_input_survives_its_keeper),
        TEST(launch_under_way_when_the_keeper_dies_is_answered),
        TEST(end_while_shoald_was_away_is_told_with_code_and_time),
        TEST(newer_shoald_takes_the_place_of_an_older_one),
        TEST(everybody_dead_containers_are_found_by_their_records),
        TEST(damaged_record_is_not_believed),
        cmocka_unit_test(number_of_another_process_is_told_apart_by_its_start),
        TEST(second_keeper_for_one_directory_does_not_start),
        TEST(connection_outlives_shoald_and_is_closed_with_the_keeper),
        TEST(connection_is_held_again_by_the_next_keeper),
        TEST(only_the_newest_connection_is_held),
        TEST(keeper_becomes_another_program_and_back_with_launches_under_way),
        TEST(program_that_is_none_is_refused_and_changes_nothing),
        TEST(upgrade_keeps_what_is_written_meanwhile),
        TEST(missing_keeper_is_told_and_tried_again),
    };

    (void)argc;
    missing = rig_missing(argv[0]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
