/* The task machine step by step, and walked from end to end with a worker that fails now and then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/task.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

static const struct err temporary = {.code = ERR_UNAVAILABLE, .text = "the keeper is away"},
                        fatal = {.code = ERR_NOT_FOUND, .text = "No such image: web:9"};

#define a_task(...)                                                                                  \
    (struct task_in)                                                                                 \
    {                                                                                                \
        .assigned = true, .desired = TASK_STATE__RUNNING, .state = TASK_STATE__ASSIGNED, __VA_ARGS__ \
    }

static const struct {
    const char *name;
    struct task_in in;
    enum task_action action;
    TaskState state;
} steps[] = {
    {"new task is accepted", a_task(0), TASK_NOTHING, TASK_STATE__ACCEPTED},
    {"accepted task is being prepared", a_task(.state = TASK_STATE__ACCEPTED), TASK_NOTHING, TASK_STATE__PREPARING},
    {"missing image is pulled", a_task(.state = TASK_STATE__PREPARING), TASK_PULL, TASK_STATE__PREPARING},
    {"pull under way is waited for", a_task(.state = TASK_STATE__PREPARING, .busy = TASK_PULL), TASK_NOTHING,
     TASK_STATE__PREPARING},
    {"credentials are missing: the pull waits for a manager",
     a_task(.state = TASK_STATE__PREPARING, .image_waits = true), TASK_NOTHING, TASK_STATE__PREPARING},
    {"credentials are missing but the image is here: container is created",
     a_task(.state = TASK_STATE__PREPARING, .image_waits = true, .image_here = true), TASK_CREATE,
     TASK_STATE__PREPARING},
    {"image here: container is created", a_task(.state = TASK_STATE__PREPARING, .image_here = true), TASK_CREATE,
     TASK_STATE__PREPARING},
    {"created container makes it ready",
     a_task(.state = TASK_STATE__PREPARING, .image_here = true, .container = TASK_CONTAINER_CREATED), TASK_NOTHING,
     TASK_STATE__READY},
    {"ready task with desired ready is parked",
     a_task(.state = TASK_STATE__READY, .desired = TASK_STATE__READY, .container = TASK_CONTAINER_CREATED),
     TASK_NOTHING, TASK_STATE__READY},
    {"parked task whose container vanished has failed",
     a_task(.state = TASK_STATE__READY, .desired = TASK_STATE__READY), TASK_NOTHING, TASK_STATE__FAILED},
    {"ready task starts", a_task(.state = TASK_STATE__READY, .container = TASK_CONTAINER_CREATED), TASK_NOTHING,
     TASK_STATE__STARTING},
    {"starting task starts its container",
     a_task(.state = TASK_STATE__STARTING, .container = TASK_CONTAINER_CREATED), TASK_START, TASK_STATE__STARTING},
    {"start under way is waited for",
     a_task(.state = TASK_STATE__STARTING, .container = TASK_CONTAINER_CREATED, .busy = TASK_START), TASK_NOTHING,
     TASK_STATE__STARTING},
    {"living container is running", a_task(.state = TASK_STATE__STARTING, .container = TASK_CONTAINER_ALIVE),
     TASK_NOTHING, TASK_STATE__RUNNING},
    {"running stays running", a_task(.state = TASK_STATE__RUNNING, .container = TASK_CONTAINER_ALIVE), TASK_NOTHING,
     TASK_STATE__RUNNING},
    {"exit 0 is complete", a_task(.state = TASK_STATE__RUNNING, .container = TASK_CONTAINER_EXITED), TASK_NOTHING,
     TASK_STATE__COMPLETE},
    {"exit 3 is failed", a_task(.state = TASK_STATE__RUNNING, .container = TASK_CONTAINER_EXITED, .exit_code = 3),
     TASK_NOTHING, TASK_STATE__FAILED},
    {"unknown exit is failed, never complete",
     a_task(.state = TASK_STATE__RUNNING, .container = TASK_CONTAINER_EXITED, .exit_unknown = true), TASK_NOTHING,
     TASK_STATE__FAILED},
    {"start that nobody reported catches up: running",
     a_task(.state = TASK_STATE__ACCEPTED, .container = TASK_CONTAINER_ALIVE), TASK_NOTHING, TASK_STATE__RUNNING},
    {"start that nobody reported catches up: ended",
     a_task(.state = TASK_STATE__READY, .container = TASK_CONTAINER_EXITED, .exit_code = 1), TASK_NOTHING,
     TASK_STATE__FAILED},
    {"shutdown stops a running container",
     a_task(.state = TASK_STATE__RUNNING, .desired = TASK_STATE__SHUTDOWN, .container = TASK_CONTAINER_ALIVE),
     TASK_STOP, TASK_STATE__RUNNING},
    {"stop under way is waited for",
     a_task(.state = TASK_STATE__RUNNING, .desired = TASK_STATE__SHUTDOWN, .container = TASK_CONTAINER_ALIVE,
            .busy = TASK_STOP),
     TASK_NOTHING, TASK_STATE__RUNNING},
    {"stopped on request is shutdown, whatever the exit code",
     a_task(.state = TASK_STATE__RUNNING, .desired = TASK_STATE__SHUTDOWN, .container = TASK_CONTAINER_EXITED,
            .exit_code = 137),
     TASK_NOTHING, TASK_STATE__SHUTDOWN},
    {"shutdown of a task that never began", a_task(.desired = TASK_STATE__SHUTDOWN), TASK_NOTHING,
     TASK_STATE__SHUTDOWN},
    {"shutdown ends a pull",
     a_task(.state = TASK_STATE__PREPARING, .desired = TASK_STATE__SHUTDOWN, .busy = TASK_PULL), TASK_CANCEL,
     TASK_STATE__PREPARING},
    {"desired remove stops first",
     a_task(.state = TASK_STATE__RUNNING, .desired = TASK_STATE__REMOVE, .container = TASK_CONTAINER_ALIVE),
     TASK_STOP, TASK_STATE__RUNNING},
    {"dead task keeps its container",
     a_task(.state = TASK_STATE__FAILED, .desired = TASK_STATE__SHUTDOWN, .container = TASK_CONTAINER_EXITED),
     TASK_NOTHING, TASK_STATE__FAILED},
    {"dead task with a living container: it is stopped",
     a_task(.state = TASK_STATE__REJECTED, .container = TASK_CONTAINER_ALIVE), TASK_STOP, TASK_STATE__REJECTED},
    {"unassigned running task is stopped",
     a_task(.assigned = false, .state = TASK_STATE__RUNNING, .container = TASK_CONTAINER_ALIVE), TASK_STOP,
     TASK_STATE__RUNNING},
    {"unassigned stopped task is removed",
     a_task(.assigned = false, .state = TASK_STATE__SHUTDOWN, .container = TASK_CONTAINER_EXITED), TASK_REMOVE,
     TASK_STATE__SHUTDOWN},
    {"unassigned task without container is forgotten", a_task(.assigned = false, .state = TASK_STATE__FAILED),
     TASK_FORGET, TASK_STATE__FAILED},
    {"unassigned task ends its pull", a_task(.assigned = false, .state = TASK_STATE__PREPARING, .busy = TASK_PULL),
     TASK_CANCEL, TASK_STATE__PREPARING},
    {"fatal error before starting rejects",
     a_task(.state = TASK_STATE__PREPARING, .failed = TASK_PULL, .error = &fatal, .attempts = 1), TASK_NOTHING,
     TASK_STATE__REJECTED},
    {"fatal error at starting fails",
     a_task(.state = TASK_STATE__STARTING, .failed = TASK_START, .error = &fatal, .attempts = 1,
            .container = TASK_CONTAINER_CREATED),
     TASK_NOTHING, TASK_STATE__FAILED},
    {"temporary error is waited out",
     a_task(.state = TASK_STATE__PREPARING, .failed = TASK_PULL, .error = &temporary, .attempts = 1, .told = true),
     TASK_NOTHING, TASK_STATE__PREPARING},
    {"pull that failed three times is given up",
     a_task(.state = TASK_STATE__PREPARING, .failed = TASK_PULL, .error = &temporary, .attempts = 3, .told = true),
     TASK_NOTHING, TASK_STATE__REJECTED},
    {"start that failed three times for now is tried again",
     a_task(.state = TASK_STATE__STARTING, .container = TASK_CONTAINER_CREATED, .failed = TASK_START,
            .error = &temporary, .attempts = 3, .told = true, .now_ms = 60000),
     TASK_START, TASK_STATE__STARTING},
    {"temporary error is tried again after the delay",
     a_task(.state = TASK_STATE__PREPARING, .failed = TASK_PULL, .error = &temporary, .attempts = 1, .now_ms = 250),
     TASK_PULL, TASK_STATE__PREPARING},
    {"failed pull does not keep a task from being shut down",
     a_task(.state = TASK_STATE__PREPARING, .desired = TASK_STATE__SHUTDOWN, .failed = TASK_PULL,
            .error = &temporary, .attempts = 1),
     TASK_NOTHING, TASK_STATE__SHUTDOWN},
    {"failing stop is never given up",
     a_task(.state = TASK_STATE__RUNNING, .desired = TASK_STATE__SHUTDOWN, .container = TASK_CONTAINER_ALIVE,
            .failed = TASK_STOP, .error = &fatal, .attempts = 3, .now_ms = 60000),
     TASK_STOP, TASK_STATE__RUNNING},
    {"running task whose container vanished has failed", a_task(.state = TASK_STATE__RUNNING), TASK_NOTHING,
     TASK_STATE__FAILED},
    {"ready task whose container vanished has failed", a_task(.state = TASK_STATE__STARTING, .image_here = true),
     TASK_NOTHING, TASK_STATE__FAILED},
};

static void each_situation_has_its_step(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct task_step step;

        task_next(&steps[i].in, &step);
        if (step.action != steps[i].action || step.state != steps[i].state)
            fail_msg("%s: action %d state %d, expected action %d state %d", steps[i].name, step.action, step.state,
                     steps[i].action, steps[i].state);
        assert_int_equal(step.report, step.state != steps[i].in.state);
    }
}

static void failures_carry_their_reason(void **state)
{
    struct task_in oom = a_task(.state = TASK_STATE__RUNNING, .container = TASK_CONTAINER_EXITED, .exit_code = 137,
                                .oom_killed = true);
    struct task_in missing = a_task(.state = TASK_STATE__PREPARING, .failed = TASK_PULL, .error = &fatal);
    struct task_step step;

    task_next(&oom, &step);
    assert_string_equal(step.err, "task: non-zero exit (137): out of memory");
    task_next(&missing, &step);
    assert_string_equal(step.err, "No such image: web:9");
}

static void waiting_task_says_why_once(void **state)
{
    struct task_in in =
        a_task(.state = TASK_STATE__PREPARING, .failed = TASK_PULL, .error = &temporary, .attempts = 1);
    struct task_step step;

    task_next(&in, &step);
    assert_true(step.report);
    assert_int_equal(step.state, TASK_STATE__PREPARING);
    assert_int_equal(step.action, TASK_NOTHING);
    assert_string_equal(step.message, "waiting to try again");
    assert_string_equal(step.err, temporary.text);
    assert_int_equal(step.wake_ms, 250);
    in.told = true;
    task_next(&in, &step);
    assert_false(step.report);
    assert_int_equal(step.wake_ms, 250);
}

static void retries_back_off_and_stay_below_half_a_minute(void **state)
{
    int64_t before = 0;

    for (unsigned attempts = 1; attempts < 40; attempts++) {
        struct task_in in = a_task(.state = TASK_STATE__STARTING, .container = TASK_CONTAINER_CREATED,
                                   .failed = TASK_START, .error = &temporary, .attempts = attempts);
        struct task_step step;

        task_next(&in, &step);
        assert_int_equal(step.action, TASK_NOTHING);
        assert_true(step.wake_ms >= before && step.wake_ms <= 30000);
        before = step.wake_ms;
    }
    assert_int_equal(before, 30000);
}

/* A worker that does what it is told, sometimes failing, while the manager changes its mind: the state never goes
 * back, every task ends stopped and forgotten, and a container is never started after it was to stop. */
static void random_lives_end_with_nothing_left(void **state)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct entropy_seeded random;
        struct task_in in = a_task(0);
        struct err last = {0};
        bool forgotten = false;

        entropy_seeded_init(&random, seed);
        for (int turn = 0; turn < 400 && !forgotten; turn++) {
            struct task_step step;

            in.now_ms += (int64_t)entropy_below(&random.base, 20000);
            if (turn == 100 && in.desired < TASK_STATE__SHUTDOWN)
                in.desired = entropy_below(&random.base, 2) ? TASK_STATE__SHUTDOWN : TASK_STATE__REMOVE;
            if (turn == 200)
                in.assigned = false;
            task_next(&in, &step);
            if (step.report) {
                assert_true(step.state > in.state || (step.state == in.state && !in.told && *step.err));
                in.state = step.state;
                in.told = true;
            }
            if (step.action != TASK_NOTHING && step.action != TASK_CANCEL)
                assert_int_equal(in.busy, TASK_NOTHING);
            if (step.action == TASK_START)
                assert_true(in.assigned && in.desired < TASK_STATE__SHUTDOWN);
            if (step.action == TASK_CANCEL)
                in.busy = TASK_NOTHING;
            else if (step.action == TASK_FORGET)
                forgotten = true;
            else if (step.action != TASK_NOTHING)
                in.busy = step.action;
            if (in.busy != TASK_NOTHING && entropy_below(&random.base, 2)) { /* the action ends */
                enum task_action done = in.busy;

                in.busy = TASK_NOTHING;
                if (entropy_below(&random.base, 4) == 0) {
                    last = entropy_below(&random.base, 8) ? temporary : fatal;
                    in.attempts = in.failed == done ? in.attempts + 1 : 1;
                    in.failed = done;
                    in.told = false;
                    in.failed_ms = in.now_ms;
                    in.error = &last;
                } else {
                    in.failed = TASK_NOTHING;
                    in.image_here = in.image_here || done == TASK_PULL;
                    if (done == TASK_CREATE)
                        in.container = TASK_CONTAINER_CREATED;
                    else if (done == TASK_START)
                        in.container = TASK_CONTAINER_ALIVE;
                    else if (done == TASK_STOP)
                        in.container = TASK_CONTAINER_EXITED;
                    else if (done == TASK_REMOVE)
                        in.container = TASK_CONTAINER_NONE;
                }
            }
            if (in.container == TASK_CONTAINER_ALIVE && entropy_below(&random.base, 50) == 0)
                in.container = TASK_CONTAINER_EXITED; /* it ends by itself */
        }
        if (!forgotten)
            fail_msg("seed %llu: state %d container %d not forgotten", (unsigned long long)seed, in.state,
                     in.container);
        assert_int_equal(in.container, TASK_CONTAINER_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_situation_has_its_step),
        cmocka_unit_test(failures_carry_their_reason),
        cmocka_unit_test(waiting_task_says_why_once),
        cmocka_unit_test(retries_back_off_and_stay_below_half_a_minute),
        cmocka_unit_test(random_lives_end_with_nothing_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
