/* Containers and their volumes after crashes: of this program, of the keeper, in the middle of anything. */
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

/* --- crashes ---------------------------------------------------------------------------------------------------
 */

static struct keeper_found found(const char *id, int64_t started_ns, const struct keeper_exit *exit)
{
    return (struct keeper_found){.id = id, .sandbox = "box", .pid = 777, .started_ns = started_ns, .exit = exit};
}

static void report(const char *id, int64_t started_ns, const struct keeper_exit *exit)
{
    struct keeper_found f = found(id, started_ns, exit);

    fake_keeper.events.on_found(fake_keeper.events.ctx, &f);
}

static void running_container_is_adopted(void **state)
{
    struct answer a = {0};

    a_config();
    const char *id = create("web");
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    fake_launched(50);
    await(&a);
    reopen();
    report(id, 50, NULL);
    ready();
    assert_int_equal(life_of(id), LIFE_RUNNING);
    assert_string_equal(changes, ""); /* nothing has changed */
    fake_exit(id, 3);
    assert_int_equal(state_of(id)->exit_code, 3);
}

static void start_that_was_not_written_is_adopted(void **state)
{
    struct answer a = {0};

    a_config();
    const char *id = create("web");
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    reopen(); /* in the middle of the launch */
    assert_true(a.here);
    assert_int_equal(a.e.code, ERR_CANCELED);
    report(id, 60, NULL);
    ready();
    assert_int_equal(life_of(id), LIFE_RUNNING);
    assert_int_equal(state_of(id)->pid, 777);
    assert_int_equal(state_of(id)->started_ns, 60);
}

static void exit_meanwhile_is_recorded_with_code_and_time(void **state)
{
    struct keeper_exit exit = {.code = 42, .ended_ns = 12345};

    a_config();
    const char *id = a_running();
    int64_t started = state_of(id)->started_ns;
    reopen();
    report(id, started, &exit);
    ready();
    assert_int_equal(life_of(id), LIFE_ENDED);
    assert_int_equal(state_of(id)->exit_code, 42);
    assert_int_equal(state_of(id)->finished_ns, 12345);
    await_forgotten(id);
    /* Stored, but the keeper was not told: nothing happens twice. */
    reopen();
    report(id, started, &exit);
    ready();
    assert_true(fake_was_forgotten(id));
    assert_string_equal(changes, "");
}

static void start_and_exit_meanwhile_are_recorded(void **state)
{
    struct keeper_exit exit = {.code = 1, .ended_ns = 200};

    a_config();
    const char *id = create(NULL);
    reopen();
    report(id, 100, &exit);
    ready();
    assert_int_equal(life_of(id), LIFE_ENDED);
    assert_int_equal(state_of(id)->started_ns, 100);
    assert_int_equal(state_of(id)->finished_ns, 200);
    assert_int_equal(state_of(id)->exit_code, 1);
}

static void what_the_keeper_lost_ended_in_an_unknown_way(void **state)
{
    a_config();
    const char *id = a_running();
    reopen();
    ready();
    assert_int_equal(life_of(id), LIFE_ENDED);
    assert_true(state_of(id)->exit_unknown);
    assert_int_not_equal(state_of(id)->exit_code, 0);
    assert_non_null(state_of(id)->error);
}

static void what_nobody_knows_is_ended_and_forgotten(void **state)
{
    static const char stranger[] = "abababababababababababababababababababababababababababababababab";
    struct keeper_exit exit = {.code = 0, .ended_ns = 5};

    reopen();
    report(stranger, 1, NULL);
    assert_int_equal(fake_last_signal(), SIGKILL);
    ready();
    fake_keeper.events.on_exit(fake_keeper.events.ctx, stranger, &exit);
    assert_true(fake_was_forgotten(stranger));
}

static void half_created_container_is_removed(void **state)
{
    static const char half[] = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

    close_engine();
    assert_int_equal(mkdirat(dir_fd, arena_printf(&arena, "data/containers/%s", half), 0700), 0);
    assert_int_equal(mkdirat(dir_fd, arena_printf(&arena, "data/containers/%s/upper", half), 0700), 0);
    open_engine();
    ready();
    assert_false(has_directory(half));
    assert_null(engine_find(en, half, &e));
}

static void removal_that_was_under_way_is_finished(void **state)
{
    struct answer a = {0};

    a_config();
    config.volumes = (char *[]){(char *)"/data"};
    config.n_volumes = 1;
    const char *running = a_running();
    int64_t started = state_of(running)->started_ns;
    assert_int_equal(engine_remove(en, running, true, true, answered, &a, &e), 0);
    reopen(); /* killed, and not ended yet */
    assert_true(a.here);
    report(running, started, NULL);
    assert_int_equal(fake_last_signal(), SIGKILL);
    ready();
    assert_non_null(engine_find(en, running, &e));
    fake_exit(running, 137);
    assert_null(engine_find(en, running, &e));
    assert_false(has_record(running));
    assert_null(volumes_next(en->volumes, NULL));
}

static void removal_of_what_ended_meanwhile_is_finished(void **state)
{
    struct answer a = {0};
    struct keeper_exit exit = {.code = 137, .ended_ns = 500};

    a_config();
    const char *id = a_running();
    assert_int_equal(engine_remove(en, id, true, false, answered, &a, &e), 0);
    reopen();
    fake_keeper.deaf = true; /* nothing runs */
    report(id, 1, &exit);
    ready();
    assert_null(engine_find(en, id, &e));
    assert_false(has_directory(id));
    assert_true(fake_was_forgotten(id));
}

static void container_without_a_directory_is_forgotten(void **state)
{
    a_config();
    const char *id = create(NULL);
    close_engine();
    assert_int_equal(renameat(dir_fd, arena_printf(&arena, "data/containers/%s", id), dir_fd, "elsewhere"), 0);
    open_engine();
    ready();
    assert_null(engine_find(en, id, &e));
    assert_false(has_record(id));
}

static void damaged_record_leaves_the_directory_alone(void **state)
{
    a_config();
    const char *id = create(NULL);
    close_engine();
    int records = openat(dir_fd, "data/containers/.records", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(file_replace(records, id, 0600, "??", 2, false, NULL), 0);
    close(records);
    open_engine();
    ready();
    assert_null(engine_find(en, id, &e));
    assert_true(has_directory(id));
}

static void missing_volume_is_made_at_start(void **state)
{
    a_config();
    config.volumes = (char *[]){(char *)"/data"};
    config.n_volumes = 1;
    const char *id = create(NULL);
    char *volume = arena_strdup(&arena, engine_find(en, id, &e)->mounts[0]->volume);
    close_engine();
    /* As after a crash between the container's record and its volume. */
    assert_int_equal(renameat(dir_fd, arena_printf(&arena, "data/volumes/%s", volume), dir_fd, "elsewhere"), 0);
    open_engine();
    ready();
    assert_null(volume_find(en->volumes, volume));
    start(id);
    struct volume *v = volume_find(en->volumes, volume);
    assert_non_null(v);
    assert_true(v->record->anonymous);
    assert_int_equal(volume_remove(en->volumes, v, &e), ERR_CONFLICT);
}

/* --- volumes ---------------------------------------------------------------------------------------------------
 */

static void empty_volume_is_filled_once(void **state)
{
    struct answer one = {0}, two = {0};
    char *binds[] = {(char *)"shared:/data"};

    a_config();
    host.binds = binds;
    host.n_binds = 1;
    const char *first = create(NULL), *second = create(NULL);
    assert_int_equal(engine_start(en, first, answered, &one, &e), 0);
    assert_true(fake_copy_up);
    assert_int_equal(engine_start(en, second, answered, &two, &e), 0);
    assert_int_equal(fake_keeper.launch_count, 1); /* the second one waits */
    struct volume *v = volume_find(en->volumes, "shared");
    char *file = arena_printf(&arena, "%s/file", v->path);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); /* the keeper's child copied this */
    fake_launched(1);
    assert_int_equal(fake_keeper.launch_count, 2);
    assert_false(fake_copy_up);
    fake_launched(2);
    await(&one);
    await(&two);
}

static void failed_filling_lets_the_next_one_try(void **state)
{
    struct answer one = {0}, two = {0};
    char *binds[] = {(char *)"shared:/data"};

    a_config();
    host.binds = binds;
    host.n_binds = 1;
    const char *first = create(NULL), *second = create(NULL);
    assert_int_equal(engine_start(en, first, answered, &one, &e), 0);
    assert_int_equal(engine_start(en, second, answered, &two, &e), 0);
    fake_launch_failed(ERR_IO, "no");
    assert_int_equal(fake_keeper.launch_count, 2);
    assert_true(fake_copy_up);
    fake_launched(2);
    await(&one);
    await(&two);
    assert_int_equal(one.e.code, ERR_IO);
    assert_int_equal(two.e.code, 0);
}

static void volume_in_use_by_a_container_stays(void **state)
{
    struct answer a = {0};
    char *binds[] = {(char *)"shared:/data"};

    a_config();
    host.binds = binds;
    host.n_binds = 1;
    const char *id = create(NULL);
    struct volume *v = volume_find(en->volumes, "shared");
    assert_int_equal(volume_remove(en->volumes, v, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, id));
    reopen();
    ready();
    v = volume_find(en->volumes, "shared");
    assert_int_equal(volume_remove(en->volumes, v, &e), ERR_CONFLICT);
    assert_int_equal(engine_remove(en, id, false, true, answered, &a, &e), 0);
    await(&a);
    assert_int_equal(volume_remove(en->volumes, v, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(running_container_is_adopted),
        TEST(start_that_was_not_written_is_adopted),
        TEST(exit_meanwhile_is_recorded_with_code_and_time),
        TEST(start_and_exit_meanwhile_are_recorded),
        TEST(what_the_keeper_lost_ended_in_an_unknown_way),
        TEST(what_nobody_knows_is_ended_and_forgotten),
        TEST(half_created_container_is_removed),
        TEST(removal_that_was_under_way_is_finished),
        TEST(removal_of_what_ended_meanwhile_is_finished),
        TEST(container_without_a_directory_is_forgotten),
        TEST(damaged_record_leaves_the_directory_alone),
        TEST(missing_volume_is_made_at_start),
        TEST(empty_volume_is_filled_once),
        TEST(failed_filling_lets_the_next_one_try),
        TEST(volume_in_use_by_a_container_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
