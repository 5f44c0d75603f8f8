/* Rolling update and rollback: what is replaced, in which order and pace, and what stops it
 * (reference/swarm-surface.md section 12). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/orchestrator/intent.h"
#include "tests/simulation/fake.h"

static struct fake *two_nodes(void)
{
    struct fake *f = fake_new(5);

    fake_node(f, (struct fake_node){.hostname = "n1", .labels = "zone=a", .memory_bytes = 1000});
    fake_node(f, (struct fake_node){.hostname = "n2", .labels = "zone=b", .memory_bytes = 1000});
    return f;
}

static UpdateState update_state(struct fake *f, uint64_t web)
{
    const UpdateStatus *status = fake_service_object(f, web)->update_status;

    return status ? status->state : UPDATE_STATE__NO_UPDATE;
}

/* Tasks of the present version that run, of slots 1 to n. */
static unsigned updated(struct fake *f, uint64_t web)
{
    const struct index_service *s = index_service(f->index, web);
    struct index_walk w = {0};
    struct index_task *t;
    unsigned count = 0;

    while ((t = index_service_next(s, &w)))
        count += t->spec == s->current && t->state == TASK_STATE__RUNNING && index_task_live(t);
    return count;
}

static unsigned running(struct fake *f, uint64_t web)
{
    const struct index_service *s = index_service(f->index, web);
    struct index_walk w = {0};
    struct index_task *t;
    unsigned count = 0;

    while ((t = index_service_next(s, &w)))
        count += t->state == TASK_STATE__RUNNING;
    return count;
}

static void one_slot_after_the_other_is_replaced_and_the_update_completes_after_its_monitor(void **state)
{
    struct fake *f = two_nodes();
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 3});

    fake_converge(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__NO_UPDATE);
    fake_service_update(f, web, (struct fake_service){.replicas = 3, .image = "web:2"});
    for (unsigned step = 0; step < 200 && update_state(f, web) != UPDATE_STATE__COMPLETED; step++) {
        fake_settle(f);
        fake_check(f);
        assert_true(running(f, web) >= 2 && running(f, web) <= 3);
        assert_true(index_service(f->index, web)->current->unsettled <= 1);
        if (!fake_agents(f, 1))
            fake_advance(f, 1000);
    }
    assert_int_equal(update_state(f, web), UPDATE_STATE__COMPLETED);
    assert_string_equal(fake_service_object(f, web)->update_status->message, "update completed");
    assert_int_equal(updated(f, web), 3);
    fake_check_settled(f);
    fake_free(f);
}

static void old_task_runs_until_the_image_of_the_new_one_is_there(void **state)
{
    struct fake *f = two_nodes();
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 1}), old, new;

    fake_converge(f);
    old = fake_newest(f, web, 1, 0);
    fake_service_update(f, web, (struct fake_service){.replicas = 1, .image = "web:2"});
    fake_settle(f);
    new = fake_newest(f, web, 1, 0);
    assert_int_not_equal(new, old);
    assert_int_equal(fake_task(f, new)->desired_state, TASK_STATE__READY);
    assert_int_equal(fake_task(f, old)->desired_state, TASK_STATE__RUNNING);
    fake_bring(f, new, TASK_STATE__PREPARING);
    fake_advance(f, 100000); /* a slow pull */
    assert_int_equal(fake_task(f, old)->desired_state, TASK_STATE__RUNNING);
    fake_report(f, new, TASK_STATE__READY, NULL);
    fake_settle(f);
    assert_int_equal(fake_task(f, old)->desired_state, TASK_STATE__SHUTDOWN);
    assert_int_equal(fake_task(f, new)->desired_state, TASK_STATE__READY); /* stop first */
    fake_report(f, old, TASK_STATE__SHUTDOWN, NULL);
    fake_settle(f);
    assert_int_equal(fake_task(f, new)->desired_state, TASK_STATE__RUNNING);
    fake_free(f);
}

static void task_that_does_not_stop_is_waited_for_sixty_seconds(void **state)
{
    struct fake *f = two_nodes();
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 1});

    fake_converge(f);
    fake_service_update(f, web, (struct fake_service){.replicas = 1, .image = "web:2"});
    fake_settle(f);
    fake_bring(f, fake_newest(f, web, 1, 0), TASK_STATE__READY);
    fake_settle(f);
    fake_advance(f, 59999);
    assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->desired_state, TASK_STATE__READY);
    fake_advance(f, 1);
    assert_int_equal(fake_task(f, fake_newest(f, web, 1, 0))->desired_state, TASK_STATE__RUNNING);
    fake_free(f);
}

static void old_task_goes_first_when_it_holds_what_the_new_one_needs(void **state)
{
    static const struct fake_service cases[] = {{.host_port = 80}, {.max_replicas = 1}, {.memory_bytes = 600}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake *f = fake_new(5);
        struct fake_service s = cases[i];
        uint64_t web;

        fake_node(f, (struct fake_node){.hostname = "n1", .memory_bytes = 1000});
        s.replicas = 1;
        web = fake_service(f, s);
        fake_converge(f);
        s.image = "web:2";
        fake_service_update(f, web, s);
        fake_converge(f);
        assert_int_equal(updated(f, web), 1);
        assert_int_equal(running(f, web), 1);
        fake_check_settled(f);
        fake_free(f);
    }
}

static void unplaceable_replacement_leaves_the_old_task_running_and_stalls_the_update(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2, .delay_ms = -1};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    s.image = "web:2";
    s.constraints = "node.labels.zone==nowhere";
    fake_service_update(f, web, s);
    fake_converge(f);
    fake_advance(f, 1000000);
    fake_converge(f);
    assert_int_equal(running(f, web), 2);
    assert_int_equal(updated(f, web), 0);
    assert_int_equal(update_state(f, web), UPDATE_STATE__UPDATING);
    fake_check_settled(f);
    /* A new spec supersedes it: what was half made goes. */
    s.constraints = NULL;
    fake_service_update(f, web, s);
    fake_converge(f);
    assert_int_equal(updated(f, web), 2);
    assert_int_equal(running(f, web), 2);
    fake_check_settled(f);
    fake_free(f);
}

static void parallelism_and_delay_pace_the_update(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 6, .has_update = true, .parallelism = 2, .update_delay_ms = 10000};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_converge(f);
    assert_int_equal(updated(f, web), 2);
    fake_advance(f, 9999);
    fake_converge(f);
    assert_int_equal(updated(f, web), 2);
    fake_advance(f, 1);
    fake_converge(f);
    assert_int_equal(updated(f, web), 4);
    fake_advance(f, 10000);
    fake_converge(f);
    assert_int_equal(updated(f, web), 6);
    assert_int_equal(update_state(f, web), UPDATE_STATE__UPDATING);
    fake_advance(f, 10999); /* delay >= monitor: the last are watched for delay + 1 s */
    assert_int_equal(update_state(f, web), UPDATE_STATE__UPDATING);
    fake_advance(f, 1);
    assert_int_equal(update_state(f, web), UPDATE_STATE__COMPLETED);
    fake_check_settled(f);
    fake_free(f);
}

static void parallelism_of_zero_replaces_all_at_once(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 7, .has_update = true, .parallelism = 0};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_settle(f);
    assert_int_equal(index_service(f->index, web)->current->unsettled, 7);
    fake_converge(f);
    assert_int_equal(updated(f, web), 7);
    fake_free(f);
}

static void start_first_stops_the_old_task_when_the_new_one_runs(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {
        .replicas = 1, .has_update = true, .parallelism = 1, .order = UPDATE_ORDER__START_FIRST};
    uint64_t web = fake_service(f, s), old, new;

    fake_converge(f);
    old = fake_newest(f, web, 1, 0);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_settle(f);
    new = fake_newest(f, web, 1, 0);
    assert_int_equal(fake_task(f, new)->desired_state, TASK_STATE__RUNNING);
    fake_bring(f, new, TASK_STATE__STARTING);
    fake_settle(f);
    assert_int_equal(fake_task(f, old)->desired_state, TASK_STATE__RUNNING);
    fake_report(f, new, TASK_STATE__RUNNING, NULL);
    fake_settle(f);
    assert_int_equal(fake_task(f, old)->desired_state, TASK_STATE__SHUTDOWN);
    fake_check_settled(f);
    fake_free(f);
}

static void changes_that_leave_tasks_as_they_are_replace_nothing(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2, .constraints = "node.hostname!=n3", .delay_ms = -1};
    uint64_t web = fake_service(f, s), first, second;

    fake_converge(f);
    first = fake_newest(f, web, 1, 0);
    second = fake_newest(f, web, 2, 0);
    fake_service_update(f, web, s); /* nothing at all */
    fake_converge(f);
    s.constraints = "node.hostname!=n4"; /* placement only, and it still holds */
    fake_service_update(f, web, s);
    fake_converge(f);
    s.registry_auth = "secret"; /* credentials only, and the tasks run */
    fake_service_update(f, web, s);
    fake_converge(f);
    s.has_condition = true; /* the defaults said aloud */
    s.condition = RESTART_CONDITION__ANY;
    s.delay_ms = 5000;
    fake_service_update(f, web, s);
    fake_converge(f);
    assert_int_equal(fake_newest(f, web, 1, 0), first);
    assert_int_equal(fake_newest(f, web, 2, 0), second);
    assert_int_equal(update_state(f, web), UPDATE_STATE__NO_UPDATE);
    assert_true(index_task_clean(index_task(f->index, first)));
    fake_check_settled(f);
    fake_free(f);
}

static void placement_that_no_longer_holds_moves_only_the_tasks_it_concerns(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 4};
    uint64_t web = fake_service(f, s), on_a[4] = {0};

    fake_converge(f);
    for (uint64_t slot = 1; slot <= 4; slot++) {
        uint64_t task = fake_newest(f, web, slot, 0);

        if (strcmp(index_node(f->index, fake_task(f, task)->node)->hostname, "n1") == 0)
            on_a[slot - 1] = task;
    }
    s.constraints = "node.labels.zone==a";
    fake_service_update(f, web, s);
    fake_converge(f);
    for (uint64_t slot = 1; slot <= 4; slot++) {
        uint64_t task = fake_newest(f, web, slot, 0);

        if (on_a[slot - 1])
            assert_int_equal(task, on_a[slot - 1]);
        assert_string_equal(index_node(f->index, fake_task(f, task)->node)->hostname, "n1");
    }
    fake_check_settled(f);
    fake_free(f);
}

static void scaling_during_an_update_is_not_paced(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2, .has_update = true, .parallelism = 1, .update_delay_ms = 60000};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    s.image = "web:2";
    s.replicas = 5;
    fake_service_update(f, web, s);
    fake_converge(f);
    assert_int_equal(updated(f, web), 4); /* three new slots and the first of the old ones */
    assert_int_equal(running(f, web), 5);
    fake_free(f);
}

/* --- failures ---------------------------------------------------------------------------------------------------
 */

/* Update to an image whose tasks fail; each new task reaches `reach` and ends. Time passes until nothing moves. */
static void roll_badly(struct fake *f, uint64_t web, struct fake_service s, TaskState reach)
{
    s.image = "web:bad";
    fake_service_update(f, web, s);
    uint64_t bad = fake_service_object(f, web)->spec_version;
    for (int turn = 0; turn < 100; turn++) {
        fake_settle(f);
        fake_check(f);
        for (uint64_t number = 1; number < f->next_number; number++) {
            struct index_task *t = index_task(f->index, number);

            if (!t || t->spec->version != bad || !t->share || index_task_ended(t))
                continue;
            if (t->desired == TASK_STATE__READY)
                fake_bring(f, number, reach < TASK_STATE__READY ? reach : TASK_STATE__READY);
            if (t->desired == TASK_STATE__RUNNING)
                fake_bring(f, number, reach);
            if (t->state == reach)
                fake_report(f, number, reach < TASK_STATE__STARTING ? TASK_STATE__REJECTED : TASK_STATE__FAILED,
                            "bad");
        }
        struct index_walk w = {0};
        struct index_task *t;
        const struct index_service *service = index_service(f->index, web);
        uint64_t others[64];
        size_t count = 0;
        while ((t = index_service_next(service, &w)))
            if (t->spec->version != bad && count < ARRAY_SIZE(others))
                others[count++] = t->number;
        for (size_t i = 0; i < count; i++) {
            t = index_task(f->index, others[i]);
            if (t && t->share && t->desired == TASK_STATE__SHUTDOWN && !index_task_ended(t))
                fake_report(f, others[i], TASK_STATE__SHUTDOWN, NULL);
            else if (t && t->share && index_task_live(t))
                fake_bring(f, others[i], t->desired);
        }
        fake_advance(f, 500);
    }
}

static void first_failure_pauses_the_update_by_default(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 4, .delay_ms = 100000};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    roll_badly(f, web, s, TASK_STATE__STARTING);
    assert_int_equal(update_state(f, web), UPDATE_STATE__PAUSED);
    assert_non_null(strstr(fake_service_object(f, web)->update_status->message,
                           "update paused due to failure or early termination of task "));
    assert_int_equal(running(f, web), 3);
    fake_check_settled(f);
    fake_free(f);
}

static void image_that_cannot_be_pulled_pauses_the_update_and_stops_nothing(void **state)
{
    static const RestartCondition conditions[] = {RESTART_CONDITION__ANY, RESTART_CONDITION__NONE};

    for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
        struct fake *f = two_nodes();
        struct fake_service s = {
            .replicas = 4, .delay_ms = 100000, .has_condition = true, .condition = conditions[i]};
        uint64_t web = fake_service(f, s);

        fake_converge(f);
        roll_badly(f, web, s, TASK_STATE__PREPARING);
        assert_int_equal(update_state(f, web), UPDATE_STATE__PAUSED);
        assert_int_equal(running(f, web), 4);
        fake_check_settled(f);
        fake_free(f);
    }
}

static void new_spec_resumes_a_paused_update(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 4, .delay_ms = 100000};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    roll_badly(f, web, s, TASK_STATE__STARTING);
    s.image = "web:3";
    fake_service_update(f, web, s);
    fake_converge(f);
    assert_int_equal(updated(f, web), 4);
    fake_advance(f, 5000);
    assert_int_equal(update_state(f, web), UPDATE_STATE__COMPLETED);
    fake_check_settled(f);
    fake_free(f);
}

static void failures_within_the_ratio_are_tolerated(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {
        .replicas = 4, .delay_ms = 100000, .has_update = true, .parallelism = 1, .failure_ratio = 0.5f};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    roll_badly(f, web, s, TASK_STATE__STARTING);
    assert_int_equal(update_state(f, web), UPDATE_STATE__PAUSED);
    assert_int_equal(fake_service_object(f, web)->update_status->failures, 3); /* of four: more than half */
    assert_int_equal(running(f, web), 1);
    fake_free(f);
}

static void failure_after_the_monitored_time_counts_for_nothing(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2,
                             .delay_ms = 0,
                             .has_update = true,
                             .parallelism = 1,
                             .monitor_ms = 1000,
                             .update_delay_ms = 30000};
    uint64_t web = fake_service(f, s), made;

    fake_converge(f);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_converge(f);
    made = 0;
    for (uint64_t slot = 1; slot <= 2; slot++)
        if (index_task(f->index, fake_newest(f, web, slot, 0))->made)
            made = fake_newest(f, web, slot, 0);
    assert_int_not_equal(made, 0);
    fake_advance(f, 1001);
    fake_report(f, made, TASK_STATE__FAILED, "late");
    fake_converge(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__UPDATING);
    fake_free(f);
}

static void exit_of_zero_within_the_monitored_time_is_a_failure(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2, .delay_ms = 0};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_converge(f);
    for (uint64_t slot = 1; slot <= 2; slot++)
        if (index_task(f->index, fake_newest(f, web, slot, 0))->made)
            fake_report(f, fake_newest(f, web, slot, 0), TASK_STATE__COMPLETE, NULL);
    fake_settle(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__PAUSED);
    fake_free(f);
}

static void continue_counts_no_failures(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 3,
                             .delay_ms = 100000,
                             .has_update = true,
                             .parallelism = 1,
                             .failure_action = UPDATE_FAILURE_ACTION__CONTINUE};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    roll_badly(f, web, s, TASK_STATE__STARTING);
    assert_int_not_equal(update_state(f, web), UPDATE_STATE__PAUSED);
    assert_int_equal(running(f, web), 0); /* it was asked for */
    assert_int_equal(fake_service_object(f, web)->update_status->failures, 0);
    fake_free(f);
}

static void failing_update_rolls_back_and_forgets_the_previous_spec(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 4,
                             .delay_ms = 0,
                             .has_update = true,
                             .parallelism = 1,
                             .failure_action = UPDATE_FAILURE_ACTION__ROLLBACK};
    uint64_t web = fake_service(f, s), untouched[4];

    fake_converge(f);
    for (uint64_t slot = 1; slot <= 4; slot++)
        untouched[slot - 1] = fake_newest(f, web, slot, 0);
    roll_badly(f, web, s, TASK_STATE__STARTING);
    fake_converge(f);
    fake_advance(f, 10000);
    fake_converge(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__ROLLBACK_COMPLETED);
    assert_string_equal(fake_service_object(f, web)->update_status->message, "rollback completed");
    assert_int_equal(fake_service_object(f, web)->previous_spec_version, 0);
    assert_int_equal(fake_service_object(f, web)->spec_version, 3);
    assert_int_equal(running(f, web), 4);
    unsigned same = 0;
    for (uint64_t slot = 1; slot <= 4; slot++) {
        const struct index_task *t = index_task(f->index, fake_newest(f, web, slot, 0));

        assert_true(index_task_clean(t));
        same += t->number == untouched[slot - 1];
    }
    assert_int_equal(same, 3); /* those that were never touched are still the same */
    fake_check_settled(f);
    fake_free(f);
}

static void rollback_of_an_update_that_stopped_nothing_keeps_every_task(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2,
                             .delay_ms = 0,
                             .has_update = true,
                             .parallelism = 0,
                             .failure_action = UPDATE_FAILURE_ACTION__ROLLBACK};
    uint64_t web = fake_service(f, s), first, second;

    fake_converge(f);
    first = fake_newest(f, web, 1, 0);
    second = fake_newest(f, web, 2, 0);
    roll_badly(f, web, s, TASK_STATE__PREPARING);
    fake_advance(f, 10000);
    fake_converge(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__ROLLBACK_COMPLETED);
    assert_int_equal(fake_status(f, first)->state, TASK_STATE__RUNNING);
    assert_int_equal(fake_status(f, second)->state, TASK_STATE__RUNNING);
    assert_true(index_task_live(index_task(f->index, first)) && index_task_live(index_task(f->index, second)));
    fake_check_settled(f);
    fake_free(f);
}

static void rollback_brings_back_slots_that_have_given_up(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 3,
                             .has_condition = true,
                             .condition = RESTART_CONDITION__NONE, /* what fails stays down */
                             .has_update = true,
                             .parallelism = 2,
                             .failure_action = UPDATE_FAILURE_ACTION__ROLLBACK};
    uint64_t web = fake_service(f, s);

    fake_converge(f);
    roll_badly(f, web, s, TASK_STATE__STARTING);
    fake_advance(f, 10000);
    fake_converge(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__ROLLBACK_COMPLETED);
    assert_int_equal(running(f, web), 3);
    fake_check_settled(f);
    fake_free(f);
}

static void rollback_by_hand_swaps_so_that_twice_is_back(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2, .delay_ms = 0};
    uint64_t web = fake_service(f, s);
    struct err e = {0};

    fake_history_limit(f, 1);
    assert_int_equal(service_rollback(&f->plan, web, &e), ERR_PRECONDITION);
    assert_string_equal(e.text, "service web does not have a previous spec");
    fake_converge(f);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_converge(f);
    fake_advance(f, 5000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(service_rollback(&f->plan, web, NULL), 0);
        assert_int_equal(update_state(f, web), UPDATE_STATE__ROLLBACK_STARTED);
        fake_converge(f);
        fake_advance(f, 5000);
        assert_int_equal(update_state(f, web), UPDATE_STATE__ROLLBACK_COMPLETED);
        const Spec *spec = plan_spec(&f->plan, index_service(f->index, web)->current);
        assert_string_equal(spec->spec->task->container->image, i == 0 ? "web:1" : "web:2");
        assert_int_equal(updated(f, web), 2);
    }
    /* Specs that nothing names are gone: present and previous are left. */
    assert_int_equal(f->index->specs.count, 2);
    fake_check_settled(f);
    fake_free(f);
}

static void failing_rollback_pauses_and_rolls_back_no_further(void **state)
{
    struct fake *f = two_nodes();
    struct fake_service s = {.replicas = 2,
                             .delay_ms = 100000,
                             .image = "web:bad",
                             .has_update = true,
                             .parallelism = 1,
                             .failure_action = UPDATE_FAILURE_ACTION__ROLLBACK};
    uint64_t web = fake_service(f, s), made = 0;

    fake_converge(f);
    s.image = "web:2";
    fake_service_update(f, web, s);
    fake_converge(f);
    fake_advance(f, 5000);
    assert_int_equal(service_rollback(&f->plan, web, NULL), 0);
    fake_settle(f);
    for (uint64_t number = 1; number < f->next_number; number++)
        if (index_task(f->index, number) && index_task(f->index, number)->spec->version == 3)
            made = number;
    fake_report(f, made, TASK_STATE__REJECTED, "bad");
    fake_settle(f);
    assert_int_equal(update_state(f, web), UPDATE_STATE__ROLLBACK_PAUSED);
    assert_int_equal(running(f, web), 2);
    fake_check_settled(f);
    fake_free(f);
}

static void renaming_and_changing_the_mode_are_refused(void **state)
{
    struct fake *f = two_nodes();
    uint64_t web = fake_service(f, (struct fake_service){.replicas = 1});
    struct err e = {0};

    assert_int_equal(service_update(&f->plan, web, fake_spec(f, (struct fake_service){.name = "other"}), &e),
                     ERR_UNSUPPORTED);
    assert_string_equal(e.text, "renaming services is not supported");
    assert_int_equal(
        service_update(&f->plan, web, fake_spec(f, (struct fake_service){.mode = SERVICE_MODE__GLOBAL}), &e),
        ERR_UNSUPPORTED);
    assert_string_equal(e.text, "service mode change is not allowed");
    assert_int_equal(service_update(&f->plan, 999, fake_spec(f, (struct fake_service){0}), &e), ERR_NOT_FOUND);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_slot_after_the_other_is_replaced_and_the_update_completes_after_its_monitor),
        cmocka_unit_test(old_task_runs_until_the_image_of_the_new_one_is_there),
        cmocka_unit_test(task_that_does_not_stop_is_waited_for_sixty_seconds),
        cmocka_unit_test(old_task_goes_first_when_it_holds_what_the_new_one_needs),
        cmocka_unit_test(unplaceable_replacement_leaves_the_old_task_running_and_stalls_the_update),
        cmocka_unit_test(parallelism_and_delay_pace_the_update),
        cmocka_unit_test(parallelism_of_zero_replaces_all_at_once),
        cmocka_unit_test(start_first_stops_the_old_task_when_the_new_one_runs),
        cmocka_unit_test(changes_that_leave_tasks_as_they_are_replace_nothing),
        cmocka_unit_test(placement_that_no_longer_holds_moves_only_the_tasks_it_concerns),
        cmocka_unit_test(scaling_during_an_update_is_not_paced),
        cmocka_unit_test(first_failure_pauses_the_update_by_default),
        cmocka_unit_test(image_that_cannot_be_pulled_pauses_the_update_and_stops_nothing),
        cmocka_unit_test(new_spec_resumes_a_paused_update),
        cmocka_unit_test(failures_within_the_ratio_are_tolerated),
        cmocka_unit_test(failure_after_the_monitored_time_counts_for_nothing),
        cmocka_unit_test(exit_of_zero_within_the_monitored_time_is_a_failure),
        cmocka_unit_test(continue_counts_no_failures),
        cmocka_unit_test(failing_update_rolls_back_and_forgets_the_previous_spec),
        cmocka_unit_test(rollback_of_an_update_that_stopped_nothing_keeps_every_task),
        cmocka_unit_test(rollback_brings_back_slots_that_have_given_up),
        cmocka_unit_test(rollback_by_hand_swaps_so_that_twice_is_back),
        cmocka_unit_test(failing_rollback_pauses_and_rolls_back_no_further),
        cmocka_unit_test(renaming_and_changing_the_mode_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
