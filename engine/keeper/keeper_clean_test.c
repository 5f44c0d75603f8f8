/* Nothing is left: after many cycles, after failures, after the pool was filled and emptied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/rig_testing.h"

static int open_cold(void **state)
{
    (void)need_rig(state); /* does not return without */
    rig_open(&rig, 0, 0);
    return 0;
}

static int open_warm(void **state)
{
    (void)need_rig(state); /* does not return without */
    rig_open(&rig, 2, 6);
    return 0;
}

/* Until the machine is as it was: groups are removed a moment later, by a child. */
static void expect_census(const struct rig_census *before)
{
    struct rig_census now = rig_census(&rig);

    for (int i = 0; i < 2000 && memcmp(&now, before, sizeof(now)) != 0; i++) {
        rig_turn(&rig, 5);
        now = rig_census(&rig);
    }
    assert_int_equal(now.mounts, before->mounts);
    assert_int_equal(now.groups, before->groups);
    assert_int_equal(now.children, before->children);
    assert_int_equal(now.boxes, before->boxes);
    assert_int_equal(now.keeper_fds, before->keeper_fds);
    assert_int_equal(now.logger_fds, before->logger_fds);
}

/* What there is when a container has come and gone, and everything that is removed a moment later is removed. */
static struct rig_census settled(void)
{
    (void)rig_run(rig_case(&rig, "true", NULL)); /* what is made once is made now */
    (void)rig_await_logger(&rig, 0);
    struct rig_census now = rig_census(&rig);
    for (int i = 0; i < 2000 && (now.groups || now.children || now.boxes); i++) {
        rig_turn(&rig, 5);
        now = rig_census(&rig);
    }
    assert_int_equal(now.groups + now.children + now.boxes, 0);
    return rig_census(&rig);
}

/* SHOAL_CYCLES=1000 is the long form. */
static int cycles(void)
{
    const char *wish = getenv("SHOAL_CYCLES");
    long count = wish ? strtol(wish, NULL, 10) : 100;

    return count > 0 && count <= 1000000 ? (int)count : 100;
}

static void many_cycles_leave_nothing(void **state)
{
    struct rig_census before = settled();
    unsigned mapped = rig_rss_kib(rig_await_keeper(&rig, 0));

    for (int i = 0, count = cycles(); i < count; i++) {
        struct rig_case *c = i % 3 ? rig_case(&rig, "sleep", "1000", NULL) : a_shell("echo out; echo err >&2");

        c->config.tty = i % 10 == 0;
        c->config.open_stdin = i % 7 == 0;
        rig_launch(c);
        assert_int_equal(c->error.code, 0);
        if (i % 3)
            assert_int_equal(keeper_signal(rig.keeper, c->id, SIGKILL, NULL), 0);
        rig_wait(c);
        assert_int_equal(c->exit.code, i % 3 ? 128 + SIGKILL : 0);
        rig_forget(c);
        rig_drop(c);
    }
    expect_census(&before);
    unsigned now = rig_rss_kib(rig_await_keeper(&rig, 0));
    print_message("%d cycles; the keeper's memory: %u KiB before, %u after\n", cycles(), mapped, now);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what is freed */
    assert_true(now < mapped + 1024);
#endif
}

/* Those of sandboxes whose removal was on the list of a keeper that was killed. */
static void groups_of_a_dead_keepers_dead_are_removed_by_the_next(void **state)
{
    static const char *const left[] = {"0123456789abcdef", "people/0123456789abcdee"};
    struct rig_census before = settled();
    struct rig_case *c = a_shell("sleep 1000");
    int keeper = rig_await_keeper(&rig, 0);

    rig_launch(c);
    for (unsigned i = 0; i < rig.layout.count; i++)
        for (size_t k = 0; rig.layout.mounts[i].controllers && k < 2; k++)
            assert_int_equal(dir_make(arena_printf(&rig.arena, "%s/shoal-%s/%s", rig.layout.mounts[i].path,
                                                   rig.instance, left[k]),
                                      0755, NULL),
                             0);
    rig_kill(keeper, SIGKILL);
    (void)rig_await_keeper(&rig, keeper);
    /* The parent that somebody named stays until the end: each hierarchy has it and the container's group. */
    for (int i = 0; i < 4000 && rig_census(&rig).groups != 2 * rig_group_mounts(&rig); i++)
        rig_turn(&rig, 5);
    assert_int_equal(rig_census(&rig).groups, 2 * rig_group_mounts(&rig));
    assert_int_equal(
        access(arena_printf(&rig.arena, "%s/shoal-%s/%s", rig.layout.mounts[0].path, rig.instance, left[1]), F_OK),
        -1);
    assert_false(c->ended);
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
    before.groups = rig_group_mounts(&rig);
    expect_census(&before);
}

static void failed_launches_leave_nothing(void **state)
{
    struct rig_census before = settled();

    for (int i = 0; i < 30; i++) {
        struct rig_case *c = rig_case(&rig, i % 2 ? "/nowhere" : "true", NULL);

        if (i % 2 == 0)
            c->record.user = (char *)"nobody-here";
        c->config.tty = i % 5 == 0;
        c->config.open_stdin = i % 3 == 0;
        rig_launch(c);
        assert_true(c->error.code != 0);
    }
    expect_census(&before);
}

static void keeper_ends_only_when_nothing_is_in_it(void **state)
{
    struct rig_case *c = a_shell("sleep 1000");
    struct err e;

    rig_launch(c);
    assert_int_equal(keeper_stop(rig.keeper, NULL, NULL, &e), ERR_CONFLICT);
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    assert_int_equal(keeper_stop(rig.keeper, NULL, NULL, &e), ERR_CONFLICT); /* its end is not stored */
    rig_forget(c);
    int keeper = rig_await_keeper(&rig, 0), logger = rig_await_logger(&rig, 0);
    rig_close(&rig); /* stops it, or says why not */
    rig_open(&rig, 0, 0);
    for (int i = 0; i < 2000 && (kill(keeper, 0) == 0 || kill(logger, 0) == 0); i++)
        rig_turn(&rig, 5); /* their new parent takes its time */
    assert_int_equal(kill(keeper, 0), -1);
    assert_int_equal(kill(logger, 0), -1);
}

/* The next shoald comes while the last one's keeper is still ending. */
static void next_keeper_follows_at_once(void **state)
{
    struct err e;

    for (int i = 0; i < 10; i++) {
        assert_int_equal(keeper_stop(rig.keeper, NULL, NULL, &e), 0);
        rig_disconnect(&rig);
        rig_connect(&rig);
        assert_int_equal(rig_run(a_shell("echo here; exit 3")), 3);
    }
}

/* --- the pool --------------------------------------------------------------------------------------- */

/* Warm sandboxes are the keeper's children. */
static void wait_for_warm(unsigned count)
{
    struct rig_census now;

    (void)rig_await_logger(&rig, 0);
    for (int i = 0; i < 4000; i++) {
        now = rig_census(&rig);
        if (now.children == count && now.boxes == count)
            break;
        rig_turn(&rig, 5);
    }
    assert_int_equal(now.children, count);
    assert_int_equal(now.boxes, count);
}

static void sandboxes_are_kept_warm_and_used_once(void **state)
{
    wait_for_warm(2);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(rig_run(a_shell("test -e /tmp/mark && exit 1; touch /tmp/mark /dev/shm/mark; exit 0")), 0);
        assert_int_equal(rig_run(a_shell("ls /dev/shm | wc -l | grep -q '^0$'")), 0);
    }
    rig_turn(&rig, 200);
    struct rig_census now = rig_census(&rig); /* starts came faster than sandboxes: more may be kept now */
    assert_true(now.children >= 2 && now.children <= 6);
}

static void pool_grows_when_starts_come_fast_and_only_to_its_maximum(void **state)
{
    struct rig_case *c[20];

    wait_for_warm(2);
    for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
        c[i] = a_shell("sleep 1000");
        rig_send(c[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
        rig_until(&rig, &c[i]->answered);
        assert_int_equal(c[i]->error.code, 0);
    }
    wait_for_warm((unsigned)ARRAY_SIZE(c) + 6);
    for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
        (void)keeper_signal(rig.keeper, c[i]->id, SIGKILL, NULL);
        rig_wait(c[i]);
        rig_forget(c[i]);
    }
    wait_for_warm(6);
}

static void container_with_other_wishes_gets_a_sandbox_of_its_own(void **state)
{
    wait_for_warm(2);
    struct rig_case *c = a_shell("df -k /dev/shm | tail -1 | awk '{print $2}'");
    c->host.shm_size_bytes = 1 << 20;
    assert_int_equal(rig_run(c), 0);
    assert_string_equal(rig_output(c, NULL), "1024\n");
    wait_for_warm(2);
}

static void warm_sandbox_that_dies_is_replaced(void **state)
{
    wait_for_warm(2);
    int logger = rig_await_logger(&rig, 0), keeper = rig_await_keeper(&rig, 0), pids[8], count = 0;
    char *path = arena_printf(&rig.arena, "/proc/%d/task/%d/children", keeper, keeper);
    FILE *list = fopen(path, "re");

    while (count < 8 && fscanf(list, "%d", &pids[count]) == 1)
        count += pids[count] != logger;
    fclose(list);
    assert_int_equal(count, 2);
    rig_kill(keeper, SIGSTOP); /* it is to learn of the deaths and of the launch at once */
    for (int i = 0; i < count; i++)
        rig_kill(pids[i], SIGKILL);
    rig_turn(&rig, 100);
    rig_kill(keeper, SIGCONT);
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
    struct rig_census now = rig_census(&rig); /* the launch found none alive, so more than two may be kept now */
    for (int i = 0; i < 4000 && (now.children < 2 || now.children != now.boxes); i++) {
        rig_turn(&rig, 5);
        now = rig_census(&rig);
    }
    assert_true(now.children >= 2 && now.children <= 6);
    assert_int_equal(now.boxes, now.children);
}

static void warm_sandboxes_of_a_dead_keeper_go_with_it(void **state)
{
    wait_for_warm(2);
    int pid = rig_await_keeper(&rig, 0);

    rig_kill(pid, SIGKILL);
    (void)rig_await_keeper(&rig, pid);
    wait_for_warm(2);
    for (int i = 0; i < 2000 && rig_census(&rig).boxes != 2; i++)
        rig_turn(&rig, 5);
    struct rig_census now = rig_census(&rig);
    assert_int_equal(now.boxes, 2);
    for (int i = 0; i < 2000 && rig_census(&rig).groups != 2 * rig_group_mounts(&rig); i++)
        rig_turn(&rig, 5);
    assert_int_equal(rig_census(&rig).groups, 2 * rig_group_mounts(&rig));
}

#define COLD(f) cmocka_unit_test_setup_teardown(f, open_cold, close_rig)
#define WARM(f) cmocka_unit_test_setup_teardown(f, open_warm, close_rig)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        COLD(many_cycles_leave_nothing),
        COLD(groups_of_a_dead_keepers_dead_are_removed_by_the_next),
        COLD(failed_launches_leave_nothing),
        COLD(keeper_ends_only_when_nothing_is_in_it),
        COLD(next_keeper_follows_at_once),
        WARM(sandboxes_are_kept_warm_and_used_once),
        WARM(pool_grows_when_starts_come_fast_and_only_to_its_maximum),
        WARM(container_with_other_wishes_gets_a_sandbox_of_its_own),
        WARM(warm_sandbox_that_dies_is_replaced),
        WARM(warm_sandboxes_of_a_dead_keeper_go_with_it),
    };

    (void)argc;
    missing = rig_missing(argv[0]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
