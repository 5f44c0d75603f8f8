/* Assignments: nothing is removed before the end of a full set, nothing is lost in a gap, and the set follows a
 * manager through any sequence of sessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/assignment.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/assigned.h"

static int sets, removals;

static void on_set(void *ctx, const AssignmentItem *item)
{
    sets++;
}

static void on_removed(void *ctx, const char *key)
{
    removals++;
}

static const struct assignment_events events = {.on_set = on_set, .on_removed = on_removed};
static uint8_t id[16] = {1};

struct item {
    AssignmentItem item;
    AssignedTask task;
    char key[32];
    uint8_t id[16];
};

/* The key of a task, which is its id. */
static const char *key_of(int number)
{
    static char key[IDENT_TEXT + 1];
    uint8_t bytes[16];

    memcpy(bytes, id, sizeof(bytes));
    bytes[15] = (uint8_t)number;
    ident_format(bytes, key);
    return key;
}

static AssignmentItem *a_task(struct item *made, int number, TaskState desired)
{
    (void)snprintf(made->key, sizeof(made->key), "%s", key_of(number)); /* an id */
    made->task = (AssignedTask)ASSIGNED_TASK__INIT;
    memcpy(made->id, id, sizeof(id));
    made->id[15] = (uint8_t)number;
    made->task.id = (ProtobufCBinaryData){sizeof(made->id), made->id};
    made->task.service_id = (ProtobufCBinaryData){sizeof(id), id};
    made->task.spec_version = 1;
    made->task.desired_state = desired;
    made->item = (AssignmentItem)ASSIGNMENT_ITEM__INIT;
    made->item.key = made->key;
    made->item.task = &made->task;
    return &made->item;
}

static AssignmentItem *a_removal(struct item *made, int number)
{
    (void)a_task(made, number, TASK_STATE__RUNNING);
    made->item.task = NULL;
    made->item.has_remove = made->item.remove = true;
    return &made->item;
}

static int send(struct assignment *a, uint64_t sequence, bool begin, bool end, AssignmentItem **items, size_t count)
{
    Assignment message = ASSIGNMENT__INIT;
    struct err e;

    message.sequence = sequence;
    message.has_begin = message.begin = begin;
    message.has_end = message.end = end;
    message.items = items;
    message.n_items = count;
    return assignment_apply(a, &message, &e);
}

static int reset(void **state)
{
    sets = removals = 0;
    *state = assignment_new(&events);
    return 0;
}

static int drop(void **state)
{
    assignment_free(*state);
    return 0;
}

static void full_set_removes_what_it_does_not_name_only_at_its_end(void **state)
{
    struct assignment *a = *state;
    struct item one, two;
    AssignmentItem *both[] = {a_task(&one, 1, TASK_STATE__RUNNING), a_task(&two, 2, TASK_STATE__RUNNING)};

    assert_int_equal(send(a, 1, true, true, both, 2), 0);
    assignment_new_session(a);
    assert_int_equal(send(a, 1, true, false, both, 1), 0);
    assert_int_equal(removals, 0);
    assert_non_null(assignment_find(a, key_of(2)));
    assert_int_equal(send(a, 2, false, true, NULL, 0), 0);
    assert_int_equal(removals, 1);
    assert_null(assignment_find(a, key_of(2)));
    assert_non_null(assignment_find(a, key_of(1)));
}

static void broken_session_stops_nothing(void **state)
{
    struct assignment *a = *state;
    struct item one, two;
    AssignmentItem *both[] = {a_task(&one, 1, TASK_STATE__RUNNING), a_task(&two, 2, TASK_STATE__RUNNING)};

    assert_int_equal(send(a, 1, true, true, both, 2), 0);
    for (int i = 0; i < 3; i++) { /* it breaks in the middle of each full set */
        assignment_new_session(a);
        assert_int_equal(send(a, 1, true, false, both, 1), 0);
    }
    assert_int_equal(removals, 0);
    assert_int_equal(assignment_count(a), 2);
}

static void unchanged_items_are_not_set_again(void **state)
{
    struct assignment *a = *state;
    struct item one;
    AssignmentItem *item = a_task(&one, 1, TASK_STATE__RUNNING);

    assert_int_equal(send(a, 1, true, true, &item, 1), 0);
    assignment_new_session(a);
    assert_int_equal(send(a, 1, true, true, &item, 1), 0);
    assert_int_equal(sets, 1);
    item = a_task(&one, 1, TASK_STATE__SHUTDOWN);
    assert_int_equal(send(a, 2, false, false, &item, 1), 0);
    assert_int_equal(sets, 2);
    assert_int_equal(assignment_find(a, key_of(1))->task->desired_state, TASK_STATE__SHUTDOWN);
}

static void gap_asks_for_the_full_set_and_changes_nothing(void **state)
{
    struct assignment *a = *state;
    struct item one, two;
    AssignmentItem *first = a_task(&one, 1, TASK_STATE__RUNNING), *second = a_task(&two, 2, TASK_STATE__RUNNING);

    assert_int_equal(send(a, 5, false, false, &first, 1), ERR_SEQUENCE); /* before any full set */
    assert_int_equal(send(a, 1, true, true, &first, 1), 0);
    assert_int_equal(send(a, 3, false, false, &second, 1), ERR_SEQUENCE);
    assert_int_equal(assignment_count(a), 1);
    assert_int_equal(send(a, 2, false, false, &second, 1), ERR_SEQUENCE); /* now only a full set will do */
    assert_int_equal(send(a, 9, true, true, &second, 1), 0);
    assert_int_equal(assignment_count(a), 1);
}

static void other_digest_asks_for_the_full_set(void **state)
{
    struct assignment *a = *state;
    struct item one;
    AssignmentItem *item = a_task(&one, 1, TASK_STATE__RUNNING);
    Assignment message = ASSIGNMENT__INIT;
    struct err e;

    message.sequence = 1;
    message.has_begin = message.begin = message.has_end = message.end = true;
    message.items = &item;
    message.n_items = 1;
    message.has_digest = true;
    message.digest = assigned_digest(item);
    assert_int_equal(assignment_apply(*state, &message, &e), 0);
    message.digest++;
    assert_int_equal(assignment_apply(a, &message, &e), ERR_SEQUENCE);
}

static void malformed_items_are_refused_whole(void **state)
{
    struct assignment *a = *state;
    struct item good, bad;
    AssignmentItem *items[] = {a_task(&good, 1, TASK_STATE__RUNNING), a_task(&bad, 2, TASK_STATE__RUNNING)};
    char long_key[ASSIGNMENT_KEY_MAX + 2];

    bad.task.id.len = 15;
    assert_int_equal(send(a, 1, true, true, items, 2), ERR_INVALID);
    bad.task.id.len = 16;
    bad.item.has_remove = bad.item.remove = true; /* a task and a removal at once */
    assert_int_equal(send(a, 1, true, true, items, 2), ERR_INVALID);
    bad.item.has_remove = bad.item.remove = false;
    bad.item.key = good.key; /* somebody else's */
    assert_int_equal(send(a, 1, true, true, items, 2), ERR_INVALID);
    bad.item.key = (char *)"../../../etc/passwd";
    assert_int_equal(send(a, 1, true, true, items, 2), ERR_INVALID);
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    bad.item.key = long_key;
    assert_int_equal(send(a, 1, true, true, items, 2), ERR_INVALID);
    assert_int_equal(assignment_count(a), 0);
    assert_int_equal(sets, 0);
}

/* A manager with a set of its own, sessions that break anywhere, messages that get lost: whenever a full set has
 * ended and the following messages came without a gap, both sets and digests are equal. */
static void set_follows_the_manager_through_any_sequence(void **state)
{
    enum { TASKS = 12 };

    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct entropy_seeded random;
        struct assignment *a = assignment_new(&events);
        bool has[TASKS] = {false};
        uint64_t sequence = 0, digest = 0;
        struct item made[TASKS];

        entropy_seeded_init(&random, seed);
        for (int turn = 0; turn < 200; turn++) {
            AssignmentItem *items[TASKS];
            int number = (int)entropy_below(&random.base, TASKS);

            if (!assignment_complete(
                    a)) { /* a new session: the full set in two parts, the second of which may never come */
                size_t count = 0;

                assignment_new_session(a);
                for (int i = 0; i < TASKS; i++)
                    if (has[i])
                        items[count++] = a_task(&made[i], i, TASK_STATE__RUNNING);
                sequence = 2;
                assert_int_equal(send(a, 1, true, false, items, count / 2), 0);
                if (entropy_below(&random.base, 4) == 0)
                    continue;
                assert_int_equal(send(a, 2, false, true, items + count / 2, count - count / 2), 0);
                assert_int_equal(assignment_count(a), count);
                assert_true(assignment_digest(a) == digest);
                continue;
            }
            items[0] = a_task(&made[0], number, TASK_STATE__RUNNING);
            digest += has[number] ? -assigned_digest(items[0]) : assigned_digest(items[0]);
            if (has[number])
                items[0] = a_removal(&made[0], number);
            has[number] = !has[number];
            sequence++;
            if (entropy_below(&random.base, 10) == 0)
                continue; /* lost: the next message makes the gap */
            if (send(a, sequence, false, false, items, 1) == 0)
                assert_true(assignment_digest(a) == digest);
        }
        assignment_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_set_removes_what_it_does_not_name_only_at_its_end, reset, drop),
        cmocka_unit_test_setup_teardown(broken_session_stops_nothing, reset, drop),
        cmocka_unit_test_setup_teardown(unchanged_items_are_not_set_again, reset, drop),
        cmocka_unit_test_setup_teardown(gap_asks_for_the_full_set_and_changes_nothing, reset, drop),
        cmocka_unit_test_setup_teardown(other_digest_asks_for_the_full_set, reset, drop),
        cmocka_unit_test_setup_teardown(malformed_items_are_refused_whole, reset, drop),
        cmocka_unit_test(set_follows_the_manager_through_any_sequence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
