/* How containers end: by their users, by their policies, and how those who wait are told. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/container/life_testing.h"

/* --- stop and kill ---------------------------------------------------------------------------------------------
 */

static void stop_sends_the_signal_and_ends_with_the_container(void **state)
{
    struct answer a = {0};

    a_config();
    const char *id = a_running();
    assert_int_equal(engine_stop(en, id, NULL, 60000, answered, &a, &e), 0);
    assert_int_equal(fake_last_signal(), SIGTERM);
    turn();
    assert_false(a.here);
    fake_exit(id, 0);
    await(&a);
    assert_int_equal(a.e.code, 0);
    assert_int_equal(fake_keeper.signal_count, 1);
    assert_true(state_of(id)->stopped_by_user);
    assert_int_equal(engine_stop(en, id, NULL, 0, answered, &a, &e), ERR_NOT_MODIFIED);
}

static void own_stop_signal_and_a_given_one_are_used(void **state)
{
    struct answer a = {0};

    a_config();
    config.stop_signal = (char *)"SIGQUIT";
    const char *id = a_running();
    assert_int_equal(engine_stop(en, id, "nonsense", 60000, answered, &a, &e), ERR_INVALID);
    assert_int_equal(engine_stop(en, id, NULL, -1, answered, &a, &e), 0);
    assert_int_equal(fake_last_signal(), SIGQUIT);
    struct answer b = {0};
    assert_int_equal(engine_stop(en, id, "HUP", -1, answered, &b, &e), 0);
    assert_int_equal(fake_last_signal(), SIGHUP);
    fake_exit(id, 0);
    await(&a);
    await(&b);
}

static void grace_ends_with_sigkill(void **state)
{
    struct answer a = {0}, b = {0};

    a_config();
    const char *id = a_running();
    assert_int_equal(engine_stop(en, id, NULL, 1, answered, &a, &e), 0);
    while (fake_keeper.signal_count < 2)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(fake_last_signal(), SIGKILL);
    fake_exit(id, 137);
    await(&a);

    id = a_running();
    assert_int_equal(engine_stop(en, id, NULL, 0, answered, &b, &e), 0);
    assert_int_equal(fake_last_signal(), SIGKILL); /* at once */
    fake_exit(id, 137);
    await(&b);
}

static void stop_of_what_is_starting_waits_until_it_runs(void **state)
{
    struct answer started = {0}, stopped = {0};

    a_config();
    const char *id = create(NULL);
    assert_int_equal(engine_start(en, id, answered, &started, &e), 0);
    assert_int_equal(engine_stop(en, id, NULL, 60000, answered, &stopped, &e), 0);
    assert_int_equal(fake_keeper.signal_count, 0);
    fake_launched(1);
    assert_int_equal(fake_last_signal(), SIGTERM);
    fake_exit(id, 0);
    await(&started);
    await(&stopped);
}

static void kill_needs_a_running_container(void **state)
{
    a_config();
    const char *id = create(NULL);
    assert_int_equal(engine_kill(en, id, NULL, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "is not running"));
    start(id);
    assert_int_equal(engine_kill(en, id, "SIGRTMIN+3", &e), 0);
    assert_int_equal(fake_last_signal(), SIGRTMIN + 3);
    assert_int_equal(engine_kill(en, id, "99", &e), ERR_INVALID);
    assert_int_equal(engine_kill(en, id, NULL, &e), 0);
    assert_int_equal(fake_last_signal(), SIGKILL);
}

/* What happened to containers so far, in order. */
static void says_actions(const char *expected)
{
    AUTO_BUF struct buf actions = {0};
    const struct event *event;

    list_each (event, &en->events.kept, link)
        if (strcmp(event->type, "container") == 0)
            buf_printf(&actions, "%s ", event->action);
    assert_string_equal(buf_str(&actions), expected);
}

static void restart_verb_stops_and_starts(void **state)
{
    struct answer a = {0};
    struct container *c;

    a_config();
    const char *id = a_running();
    assert_int_equal(container_find(en, id, &c, &e), 0);
    assert_int_equal(container_restart(c, NULL, 60000, answered, &a, &e), 0);
    fake_exit(id, 0);
    assert_int_equal(fake_keeper.launch_count, 2);
    turn();
    assert_false(a.here);
    fake_launched(2);
    await(&a);
    assert_int_equal(a.e.code, 0);
    assert_int_equal(life_of(id), LIFE_RUNNING);
    assert_false(state_of(id)->stopped_by_user);
    says_actions("create start kill die stop start restart ");
    assert_int_equal(container_stop(c, NULL, 60000, answered, &a, &e), 0);
    fake_exit(id, 0);
    a.here = false;
    await(&a);
    a.here = false;
    assert_int_equal(container_restart(c, NULL, 60000, answered, &a, &e), 0); /* of what is at rest */
    fake_launched(3);
    await(&a);
    says_actions("create start kill die stop start restart kill die stop start restart ");
}

static void restart_that_cannot_start_again_says_so(void **state)
{
    struct answer a = {0};
    struct container *c;

    a_config();
    const char *id = a_running();
    assert_int_equal(container_find(en, id, &c, &e), 0);
    assert_int_equal(container_restart(c, NULL, 60000, answered, &a, &e), 0);
    fake_exit(id, 0);
    fake_launch_failed(ERR_IO, "no");
    await(&a);
    assert_int_equal(a.e.code, ERR_IO);
    assert_int_equal(life_of(id), LIFE_ENDED);
}

/* --- policies --------------------------------------------------------------------------------------------------
 */

static const char *a_restarting(const char *policy)
{
    a_config();
    rule.name = (char *)policy;
    host.restart = &rule;
    return a_running();
}

static void policy_restarts_after_its_delay(void **state)
{
    const char *id = a_restarting("always");

    fake_exit(id, 0);
    assert_int_equal(life_of(id), LIFE_WAITING);
    while (fake_keeper.launch_count < 2)
        uv_run(&loop, UV_RUN_ONCE);
    fake_launched(2);
    assert_int_equal(life_of(id), LIFE_RUNNING);
    assert_int_equal(state_of(id)->restart_count, 1);
}

static void policy_tries_again_when_a_start_fails(void **state)
{
    const char *id = a_restarting("on-failure");

    fake_exit(id, 1);
    while (fake_keeper.launch_count < 2)
        uv_run(&loop, UV_RUN_ONCE);
    fake_launch_failed(ERR_IO, "no");
    assert_int_equal(life_of(id), LIFE_WAITING);
    while (fake_keeper.launch_count < 3)
        uv_run(&loop, UV_RUN_ONCE);
    fake_launched(2);
    assert_int_equal(life_of(id), LIFE_RUNNING);
}

static void users_stop_ends_the_policy(void **state)
{
    struct answer a = {0}, b = {0};
    const char *id = a_restarting("unless-stopped");

    assert_int_equal(engine_stop(en, id, NULL, 60000, answered, &a, &e), 0);
    fake_exit(id, 1);
    await(&a);
    assert_int_equal(life_of(id), LIFE_ENDED);

    id = a_restarting("always");
    fake_exit(id, 1);
    assert_int_equal(life_of(id), LIFE_WAITING);
    assert_int_equal(engine_stop(en, id, NULL, 60000, answered, &b, &e), 0);
    await(&b);
    assert_int_equal(life_of(id), LIFE_ENDED);
    assert_int_equal(fake_keeper.launch_count, 2);
}

static void start_does_not_wait_for_the_delay(void **state)
{
    struct answer a = {0};
    const char *id = a_restarting("always");

    fake_exit(id, 1);
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    fake_launched(2);
    await(&a);
    assert_int_equal(state_of(id)->restart_count, 0);
}

static void open_starts_what_its_policy_wants(void **state)
{
    static const struct {
        const char *policy;
        bool stopped;
        int code;
        bool starts;
    } table[] = {
        {"no", false, 1, false},         {"always", false, 0, true},
        {"always", true, 0, true},       {"unless-stopped", true, 0, false},
        {"on-failure", false, 0, false}, {"on-failure", false, 3, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct answer a = {0};
        const char *id = a_restarting(table[i].policy);

        if (table[i].stopped) {
            assert_int_equal(engine_stop(en, id, NULL, 60000, answered, &a, &e), 0);
            fake_exit(id, table[i].code);
        } else {
            fake_exit(id, table[i].code);
        }
        reopen();
        ready();
        assert_int_equal(fake_keeper.launch_count, table[i].starts);
        if (table[i].starts)
            fake_launched(5);
        if (table[i].starts) {
            struct answer b = {0};
            assert_int_equal(engine_remove(en, id, true, false, answered, &b, &e), 0);
            fake_exit(id, 137);
            await(&b);
        } else {
            struct answer b = {0};
            assert_int_equal(engine_remove(en, id, true, false, answered, &b, &e), 0);
            await(&b);
        }
    }
}

/* --- waits -----------------------------------------------------------------------------------------------------
 */

struct waiting {
    struct container_wait wait;
    bool here;
    int64_t code;
    bool has_error;
};

static void waited(struct container_wait *w)
{
    struct waiting *me = container_of(w, struct waiting, wait);

    me->here = true;
    me->code = w->code;
    me->has_error = w->error != NULL;
}

static void wait_for(const char *id, struct waiting *w, enum container_condition condition)
{
    struct container *c;

    *w = (struct waiting){.wait.done = waited};
    assert_int_equal(container_find(en, id, &c, &e), 0);
    container_wait(c, &w->wait, condition);
    assert_false(w->here);
}

static void waits_end_with_their_condition(void **state)
{
    struct waiting now, first, next, removed;
    struct answer a = {0};

    a_config();
    const char *id = create(NULL);
    wait_for(id, &now, WAIT_NOT_RUNNING);
    testing_run_until(&loop, &now.here); /* it does not run */
    assert_int_equal(now.code, 0);
    wait_for(id, &next, WAIT_NEXT_EXIT);
    wait_for(id, &removed, WAIT_REMOVED);
    start(id);
    wait_for(id, &first, WAIT_NOT_RUNNING);
    turn();
    assert_false(first.here || next.here);
    fake_exit(id, 5);
    testing_run_until(&loop, &first.here);
    assert_int_equal(first.code, 5);
    assert_true(next.here);
    assert_int_equal(next.code, 5);
    assert_false(removed.here);
    assert_int_equal(engine_remove(en, id, false, false, answered, &a, &e), 0);
    testing_run_until(&loop, &removed.here);
    assert_int_equal(removed.code, 5);
    await(&a);
}

static void wait_for_rest_outlasts_restarts(void **state)
{
    struct waiting rest, next;
    struct answer a = {0};
    const char *id = a_restarting("always");

    struct container *c;

    wait_for(id, &rest, WAIT_NOT_RUNNING);
    wait_for(id, &next, WAIT_NEXT_EXIT);
    fake_exit(id, 1);
    assert_int_equal(container_find(en, id, &c, &e), 0);
    alarm_set(&en->alarms, &c->restart, 3600000, c->restart.ring); /* however slow this machine is just now */
    testing_run_until(&loop, &next.here);
    assert_false(rest.here);
    assert_int_equal(engine_stop(en, id, NULL, 0, answered, &a, &e), 0);
    testing_run_until(&loop, &rest.here);
    assert_int_equal(rest.code, 1);
}

static void wait_that_was_given_up_is_not_called(void **state)
{
    struct waiting w, other;

    a_config();
    const char *id = a_running();
    wait_for(id, &w, WAIT_NEXT_EXIT);
    wait_for(id, &other, WAIT_NEXT_EXIT);
    container_unwait(&w.wait);
    fake_exit(id, 0);
    container_unwait(&other.wait); /* between the end and its telling */
    turn();
    assert_false(w.here || other.here);
}

static void unknown_exit_is_told_to_those_who_wait(void **state)
{
    struct keeper_exit exit = {.ended_ns = 99, .unknown = true};
    struct waiting w;

    a_config();
    const char *id = a_running();
    wait_for(id, &w, WAIT_NOT_RUNNING);
    fake_keeper.events.on_exit(fake_keeper.events.ctx, id, &exit);
    testing_run_until(&loop, &w.here);
    assert_true(w.has_error);
    assert_int_not_equal(w.code, 0);
}

/* --- removal ---------------------------------------------------------------------------------------------------
 */

static void running_container_is_removed_by_force_alone(void **state)
{
    struct answer a = {0}, b = {0};

    a_config();
    const char *id = a_running();
    assert_int_equal(engine_remove(en, id, false, false, answered, &a, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, "container is running: stop the container before removing or force remove"));
    assert_int_equal(engine_remove(en, id, true, false, answered, &a, &e), 0);
    assert_int_equal(fake_last_signal(), SIGKILL);
    assert_int_equal(engine_remove(en, id, false, false, answered, &b, &e), 0); /* joins */
    turn();
    assert_false(a.here);
    assert_int_equal(state_of(id)->status, CONTAINER_STATUS_KIND__REMOVING);
    fake_exit(id, 137);
    await(&a);
    await(&b);
    assert_null(engine_find(en, id, &e));
    assert_false(has_record(id));
    assert_false(has_directory(id));
    assert_true(fake_was_forgotten(id));
    assert_int_equal(fake_image_holds, 0);
}

static void removal_takes_anonymous_volumes_only_when_asked(void **state)
{
    struct answer a = {0}, b = {0};
    char *binds[] = {(char *)"named:/named"};

    a_config();
    config.volumes = (char *[]){(char *)"/data"};
    config.n_volumes = 1;
    host.binds = binds;
    host.n_binds = 1;
    const char *one = create(NULL), *two = create(NULL);
    assert_int_equal(engine_remove(en, one, false, false, answered, &a, &e), 0);
    assert_int_equal(engine_remove(en, two, false, true, answered, &b, &e), 0);
    await(&a);
    await(&b);
    unsigned anonymous = 0, named = 0;
    for (struct volume *v = NULL; (v = volumes_next(en->volumes, v));) {
        anonymous += v->record->anonymous;
        named += !v->record->anonymous;
    }
    assert_int_equal(anonymous, 1);
    assert_int_equal(named, 1);
}

static void removal_while_starting_waits_and_kills(void **state)
{
    struct answer started = {0}, removed = {0};

    a_config();
    const char *id = create(NULL);
    assert_int_equal(engine_start(en, id, answered, &started, &e), 0);
    assert_int_equal(engine_remove(en, id, false, false, answered, &removed, &e), ERR_CONFLICT);
    assert_int_equal(engine_remove(en, id, true, true, answered, &removed, &e), 0);
    fake_launched(1);
    assert_int_equal(fake_last_signal(), SIGKILL);
    fake_exit(id, 137);
    await(&removed);
    assert_null(engine_find(en, id, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stop_sends_the_signal_and_ends_with_the_container),
        TEST(own_stop_signal_and_a_given_one_are_used),
        TEST(grace_ends_with_sigkill),
        TEST(stop_of_what_is_starting_waits_until_it_runs),
        TEST(kill_needs_a_running_container),
        TEST(restart_verb_stops_and_starts),
        TEST(restart_that_cannot_start_again_says_so),
        TEST(policy_restarts_after_its_delay),
        TEST(policy_tries_again_when_a_start_fails),
        TEST(users_stop_ends_the_policy),
        TEST(start_does_not_wait_for_the_delay),
        TEST(open_starts_what_its_policy_wants),
        TEST(waits_end_with_their_condition),
        TEST(wait_for_rest_outlasts_restarts),
        TEST(wait_that_was_given_up_is_not_called),
        TEST(unknown_exit_is_told_to_those_who_wait),
        TEST(running_container_is_removed_by_force_alone),
        TEST(removal_takes_anonymous_volumes_only_when_asked),
        TEST(removal_while_starting_waits_and_kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
