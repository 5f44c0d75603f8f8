/* State machines: allowed moves happen, others stop the program. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/sm.h"

enum { NEW, RUNNING, STOPPED };

static const char *const names[] = {"new", "running", "stopped"};
static const uint32_t moves[] = {SM_TO(RUNNING), SM_TO(STOPPED) | SM_TO(RUNNING), 0};
static const struct sm_table table = {"test", names, moves, 3};

static void allowed_moves_happen(void **state)
{
    int at = NEW;

    sm_move(&table, &at, RUNNING);
    assert_int_equal(at, RUNNING);
    sm_move(&table, &at, RUNNING);
    sm_move(&table, &at, STOPPED);
    assert_int_equal(at, STOPPED);
}

static void forbidden_moves_stop_the_program(void **state)
{
    static const int cases[][2] = {{NEW, STOPPED},     {NEW, NEW}, {STOPPED, NEW},
                                   {STOPPED, STOPPED}, {NEW, 3},   {NEW, -1}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
            struct rlimit none = {0, 0};
            int at = cases[i][0];

            (void)setrlimit(RLIMIT_CORE, &none);
            signal(SIGABRT, SIG_DFL);
            dup2(open("/dev/null", O_WRONLY), 2);
            sm_move(&table, &at, cases[i][1]);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

static void states_have_names(void **state)
{
    assert_string_equal(sm_name(&table, RUNNING), "running");
    assert_string_equal(sm_name(&table, 3), "?");
    assert_string_equal(sm_name(&table, -1), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allowed_moves_happen),
        cmocka_unit_test(forbidden_moves_stop_the_program),
        cmocka_unit_test(states_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
