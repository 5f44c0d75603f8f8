/* Reports carry the newest status of each task until it is acknowledged, through any number of sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/report.h"
#include "proto/base/entropy.h"

static struct arena arena;

static int setup(void **state)
{
    arena_init(&arena);
    *state = report_new();
    return 0;
}

static int teardown(void **state)
{
    report_free(*state);
    arena_fini(&arena);
    return 0;
}

static void put(struct report *r, uint8_t task, TaskState state)
{
    uint8_t id[16] = {task};
    Status status = STATUS__INIT;

    status.state = state;
    report_put(r, id, &status);
}

static void newest_status_of_a_task_is_sent_once(void **state)
{
    struct report *r = *state;

    put(r, 1, TASK_STATE__ACCEPTED);
    put(r, 1, TASK_STATE__RUNNING);
    StatusReport *message = report_next(r, &arena);
    assert_int_equal(message->n_tasks, 1);
    assert_int_equal(message->tasks[0]->status->state, TASK_STATE__RUNNING);
    report_sent(r, message);
    assert_null(report_next(r, &arena));
    assert_false(report_empty(r));
    report_acknowledged(r, message->sequence);
    assert_true(report_empty(r));
}

static void change_after_sending_is_sent_again(void **state)
{
    struct report *r = *state;

    put(r, 1, TASK_STATE__RUNNING);
    StatusReport *first = report_next(r, &arena);
    report_sent(r, first);
    put(r, 1, TASK_STATE__FAILED);
    report_acknowledged(r, first->sequence); /* of the older one */
    StatusReport *second = report_next(r, &arena);
    assert_int_equal(second->tasks[0]->status->state, TASK_STATE__FAILED);
    assert_int_equal(second->sequence, first->sequence + 1);
}

static void new_session_repeats_what_was_not_acknowledged(void **state)
{
    struct report *r = *state;

    put(r, 1, TASK_STATE__RUNNING);
    report_sent(r, report_next(r, &arena));
    put(r, 2, TASK_STATE__RUNNING);
    report_new_session(r);
    StatusReport *message = report_next(r, &arena);
    assert_int_equal(message->sequence, 1);
    assert_int_equal(message->n_tasks, 2);
    assert_int_equal(message->tasks[0]->task_id.data[0], 1); /* in the old order */
}

static void unsent_message_comes_again(void **state)
{
    struct report *r = *state;

    put(r, 1, TASK_STATE__RUNNING);
    assert_int_equal(report_next(r, &arena)->sequence, 1);
    assert_int_equal(report_next(r, &arena)->sequence, 1);
}

static void many_statuses_go_in_several_messages(void **state)
{
    struct report *r = *state;
    size_t sent = 0;

    for (int i = 0; i < 1000; i++) {
        uint8_t id[16] = {(uint8_t)i, (uint8_t)(i >> 8)};
        Status status = STATUS__INIT;

        status.state = TASK_STATE__RUNNING;
        report_put(r, id, &status);
    }
    for (StatusReport *message; (message = report_next(r, &arena));) {
        assert_true(message->n_tasks <= REPORT_TASKS_MAX);
        sent += message->n_tasks;
        report_sent(r, message);
    }
    assert_int_equal(sent, 1000);
}

static void dropped_task_is_not_sent(void **state)
{
    struct report *r = *state;
    uint8_t id[16] = {1};

    put(r, 1, TASK_STATE__RUNNING);
    report_drop(r, id);
    report_drop(r, id);
    assert_null(report_next(r, &arena));
}

/* Whatever is lost, the manager ends with the newest status of every task. */
static void manager_learns_the_newest_status_in_any_weather(void **state)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct report *r = report_new();
        struct entropy_seeded random;
        TaskState truth[8] = {0}, known[8] = {0};

        entropy_seeded_init(&random, seed);
        for (int turn = 0; turn < 200; turn++) {
            uint8_t task = (uint8_t)entropy_below(&random.base, 8);

            if (entropy_below(&random.base, 2)) {
                truth[task]++;
                put(r, task, truth[task]);
            }
            if (entropy_below(&random.base, 20) == 0)
                report_new_session(r);
            StatusReport *message = report_next(r, &arena);
            if (message && entropy_below(&random.base, 2)) {
                bool arrives = entropy_below(&random.base, 3) != 0;

                for (size_t i = 0; arrives && i < message->n_tasks; i++)
                    known[message->tasks[i]->task_id.data[0]] = message->tasks[i]->status->state;
                report_sent(r, message);
                if (arrives && entropy_below(&random.base, 2))
                    report_acknowledged(r, message->sequence);
                else if (!arrives)
                    report_new_session(r); /* a message only gets lost with its session */
            }
        }
        report_new_session(r);
        for (StatusReport *message; (message = report_next(r, &arena));) {
            for (size_t i = 0; i < message->n_tasks; i++)
                known[message->tasks[i]->task_id.data[0]] = message->tasks[i]->status->state;
            report_sent(r, message);
            report_acknowledged(r, message->sequence);
        }
        assert_memory_equal(truth, known, sizeof(truth));
        assert_true(report_empty(r));
        report_free(r);
        arena_reset(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(newest_status_of_a_task_is_sent_once, setup, teardown),
        cmocka_unit_test_setup_teardown(change_after_sending_is_sent_again, setup, teardown),
        cmocka_unit_test_setup_teardown(new_session_repeats_what_was_not_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(unsent_message_comes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(many_statuses_go_in_several_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(dropped_task_is_not_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(manager_learns_the_newest_status_in_any_weather, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
