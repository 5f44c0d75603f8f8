/* Containers live as their users will have it: made, started, ended, named. */
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

/* --- creation --------------------------------------------------------------------------------------------------
 */

static void created_container_has_files_and_a_name(void **state)
{
    a_config();
    const char *id = create("web");
    const ContainerRecord *record = engine_find(en, "/web", &e);

    assert_string_equal(record->id, id);
    assert_string_equal(record->argv[0], "sh");
    assert_int_equal(record->state->status, CONTAINER_STATUS_KIND__CREATED);
    assert_true(has_record(id));
    assert_true(there(arena_printf(&arena, "data/containers/%s/upper", id)));
    assert_true(there(arena_printf(&arena, "data/containers/%s/work", id)));
    assert_int_equal(fake_image_holds, 1);
    assert_non_null(engine_find(en, arena_strndup(&arena, id, 12), &e));
    turn();
    assert_string_equal(changes, "created ");
}

static void name_is_taken_once_and_free_after_removal(void **state)
{
    struct answer a = {0};
    const char *id, *other;
    char **warnings;

    a_config();
    id = create("web");
    assert_int_equal(engine_create(en, "/web", &config, &arena, &other, &warnings, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, id));
    assert_int_equal(engine_create(en, "w", &config, &arena, &other, &warnings, &e), ERR_INVALID);
    assert_int_equal(engine_create(en, "a/b", &config, &arena, &other, &warnings, &e), ERR_INVALID);
    assert_int_equal(engine_remove(en, "web", false, false, answered, &a, &e), 0);
    create("web");
    await(&a);
    assert_int_equal(a.e.code, 0);
}

static void what_cannot_be_is_refused_and_leaves_nothing(void **state)
{
    static const struct {
        const char *image, *network, *hostname, *driver, *restart;
        int code;
        const char *says;
    } table[] = {
        {"gone", "none", NULL, NULL, NULL, ERR_NOT_FOUND, "No such image: gone"},
        {"", "none", NULL, NULL, NULL, ERR_INVALID, "Image"},
        {"web:1", "bridge", NULL, NULL, NULL, ERR_UNSUPPORTED, "\"bridge\""},
        {"web:1", "container:x", NULL, NULL, NULL, ERR_UNSUPPORTED, "\"container:x\""},
        {"web:1", "mine", NULL, NULL, NULL, ERR_UNSUPPORTED, "\"mine\""},
        {"web:1", "none", "a b", NULL, NULL, ERR_INVALID, "\"a b\""},
        {"web:1", "none", NULL, "syslog", NULL, ERR_UNSUPPORTED, "syslog"},
        {"web:1", "none", NULL, "paper", NULL, ERR_INVALID, "paper"},
        {"web:1", "none", NULL, NULL, "perhaps", ERR_INVALID, "perhaps"},
    };
    const char *id;
    char **warnings;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        a_config();
        config.image = (char *)table[i].image;
        config.hostname = (char *)table[i].hostname;
        host.network_mode = (char *)table[i].network;
        host.log_driver = (char *)table[i].driver;
        rule.name = (char *)table[i].restart;
        host.restart = &rule;
        assert_int_equal(engine_create(en, NULL, &config, &arena, &id, &warnings, &e), table[i].code);
        if (!strstr(e.text, table[i].says))
            fail_msg("\"%s\" does not say \"%s\"", e.text, table[i].says);
    }
    size_t at = 0;
    const ContainerRecord *record;
    assert_false(engine_next(en, &at, &record));
    assert_int_equal(fake_image_holds, 0);
}

static void no_network_is_warned_about(void **state)
{
    const char *id;
    char **warnings;

    a_config();
    host.network_mode = (char *)"default";
    assert_int_equal(engine_create(en, NULL, &config, &arena, &id, &warnings, &e), 0);
    assert_non_null(strstr(warnings[0], "bridge networks come later"));
    assert_null(warnings[1]);
    assert_string_equal(engine_find(en, id, &e)->config->host->network_mode, "none");
    host.network_mode = (char *)"host";
    assert_int_equal(engine_create(en, NULL, &config, &arena, &id, &warnings, &e), 0);
    assert_null(warnings[0]);
}

static void ambiguous_prefix_is_refused(void **state)
{
    struct container *c;

    a_config();
    for (int i = 0; i < 17; i++) /* two of them begin with the same digit */
        create(NULL);
    int ambiguous = 0;
    for (const char *digit = "0123456789abcdef"; *digit; digit++)
        ambiguous += container_find(en, (char[]){*digit, 0}, &c, &e) == ERR_INVALID;
    assert_true(ambiguous > 0);
    assert_int_equal(container_find(en, "", &c, &e), ERR_NOT_FOUND);
    assert_int_equal(container_find(en, "nothing", &c, &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "No such container: nothing");
}

/* --- start -----------------------------------------------------------------------------------------------------
 */

static void started_container_runs_and_is_not_started_twice(void **state)
{
    struct answer a = {0}, b = {0};

    a_config();
    const char *id = create(NULL);
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    assert_int_equal(engine_start(en, id, answered, &b, &e), 0); /* joins */
    assert_int_equal(fake_keeper.launch_count, 1);
    assert_true(fake_keeper.launches[0].fd_count >= 6);
    fake_launched(123456789);
    await(&a);
    await(&b);
    assert_int_equal(state_of(id)->status, CONTAINER_STATUS_KIND__ALIVE);
    assert_int_equal(state_of(id)->pid, 4242);
    assert_int_equal(state_of(id)->started_ns, 123456789);
    assert_int_equal(engine_start(en, id, answered, &a, &e), ERR_NOT_MODIFIED);
    assert_string_equal(changes, "created started ");
}

static void failed_start_says_why_and_leaves_it_created(void **state)
{
    static const struct {
        int code, exit;
        const char *failure, *says;
    } table[] = {
        {ERR_NOT_FOUND, 127, "mount /data: no", "executable file not found"},
        {ERR_NOT_FOUND, 127, "exec: \"x\": executable file not found in $PATH", "executable file not found"},
        {ERR_DENIED, 126, "mount /data: no", "permission denied"},
        {ERR_DENIED, 126, "exec: \"/etc\": permission denied", "permission denied"},
        {ERR_IO, 128, "mount /data: no", "mount /data"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct answer a = {0};

        a_config();
        const char *id = create(NULL);
        assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
        fake_launch_failed(table[i].code, table[i].failure);
        await(&a);
        assert_true(a.e.code < 0 && a.e.code != ERR_NOT_FOUND);
        assert_non_null(strstr(a.e.text, table[i].says));
        assert_null(strstr(strstr(a.e.text, table[i].says) + 1, table[i].says)); /* said once */
        assert_int_equal(life_of(id), LIFE_CREATED);
        assert_int_equal(state_of(id)->exit_code, table[i].exit);
        assert_string_equal(state_of(id)->error, table[i].failure);
    }
}

static void failed_start_can_be_tried_again(void **state)
{
    struct answer a = {0};

    a_config();
    const char *id = create(NULL);
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    fake_launch_failed(ERR_IO, "no");
    await(&a);
    start(id);
    assert_null(state_of(id)->error);
    assert_int_equal(state_of(id)->exit_code, 0);
}

static void missing_bind_source_fails_only_for_mounts(void **state)
{
    struct answer a = {0};
    char *source = arena_printf(&arena, "%s/made/for/it", dir);
    char *binds[] = {arena_printf(&arena, "%s:/data", source)};
    Mount mount = MOUNT__INIT, *mounts[] = {&mount};
    const char *id;

    a_config();
    host.binds = binds;
    host.n_binds = 1;
    id = create(NULL);
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    while (fake_keeper.launch_count == 0)
        uv_run(&loop, UV_RUN_ONCE);
    fake_launched(1);
    await(&a);
    assert_int_equal(access(source, F_OK), 0);

    a_config();
    mount.has_type = true;
    mount.type = MOUNT_TYPE__BIND;
    mount.source = arena_printf(&arena, "%s/missing", dir);
    mount.target = (char *)"/data";
    host.mounts = mounts;
    host.n_mounts = 1;
    /* Whether it is there is looked at when it starts (the API looks before it creates). */
    id = create(NULL);
    a = (struct answer){0};
    assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
    await(&a);
    assert_int_equal(a.e.code, ERR_INVALID);
    assert_non_null(strstr(a.e.text, mount.source));
    assert_int_equal(fake_keeper.launch_count, 1);
}

/* --- end -------------------------------------------------------------------------------------------------------
 */

static void exit_is_stored_before_the_keeper_forgets(void **state)
{
    a_config();
    const char *id = a_running();
    fake_exit(id, 7);
    assert_int_equal(state_of(id)->exit_code, 7);
    assert_int_equal(life_of(id), LIFE_ENDED);
    assert_false(fake_was_forgotten(id));
    turn();
    assert_string_equal(changes, "created started died ");
    await_forgotten(id);
    reopen();
    ready();
    assert_int_equal(state_of(id)->exit_code, 7);
    assert_int_equal(life_of(id), LIFE_ENDED);
}

static void exit_is_stored_before_the_next_start(void **state)
{
    a_config();
    const char *id = a_running();
    fake_exit(id, 7);
    start(id);
    assert_true(fake_was_forgotten(id));
}

static void what_waits_to_be_stored_is_stored_at_close(void **state)
{
    a_config();
    const char *id = a_running();
    fake_exit(id, 7);
    reopen();
    ready();
    assert_int_equal(state_of(id)->exit_code, 7);
    assert_int_equal(life_of(id), LIFE_ENDED);
}

static void short_life_is_not_written(void **state)
{
    struct answer a = {0};
    struct stat before, after;

    a_config();
    const char *id = create("brief"), *path = arena_printf(&arena, "data/containers/.records/%s", id);
    assert_int_equal(fstatat(dir_fd, path, &before, 0), 0);
    start(id);
    fake_exit(id, 0);
    turn();
    assert_int_equal(fstatat(dir_fd, path, &after, 0), 0);
    assert_true(before.st_ino == after.st_ino);
    assert_int_equal(engine_remove(en, id, false, false, answered, &a, &e), 0);
    await(&a);
    assert_true(fake_was_forgotten(id));
    assert_false(has_record(id));
}

static void exit_that_cannot_be_stored_is_not_forgotten(void **state)
{
    char *records = arena_printf(&arena, "%s/data/containers/.records", dir);
    char *aside = arena_printf(&arena, "%s/aside", dir);

    a_config();
    const char *id = a_running();
    /* The directory's descriptor stays; what is in it can be written no more. */
    assert_int_equal(rename(records, aside), 0);
    assert_int_equal(mkdir(records, 0700), 0);
    char *old = arena_printf(&arena, "%s/.%s.tmp", aside, id);
    struct container *c;
    assert_int_equal(mkdir(old, 0700), 0); /* where the new record would be written */
    fake_exit(id, 7);
    assert_int_equal(state_of(id)->exit_code, 7);
    assert_int_equal(container_find(en, id, &c, &e), 0);
    testing_run_until(&loop, &c->unsaved);
    assert_false(fake_was_forgotten(id));
    assert_int_equal(rmdir(old), 0);
    await_forgotten(id); /* tried again every second */
    assert_int_equal(rmdir(records), 0);
    assert_int_equal(rename(aside, records), 0);
}

static void unknown_exit_is_said_and_never_zero(void **state)
{
    struct keeper_exit exit = {.code = 0, .ended_ns = 99, .unknown = true};

    a_config();
    const char *id = a_running();
    fake_keeper.events.on_exit(fake_keeper.events.ctx, id, &exit);
    assert_int_not_equal(state_of(id)->exit_code, 0);
    assert_true(state_of(id)->exit_unknown);
    assert_non_null(strstr(state_of(id)->error, "unknown"));
}

static void auto_remove_leaves_nothing(void **state)
{
    a_config();
    host.has_auto_remove = host.auto_remove = true;
    config.volumes = (char *[]){(char *)"/data"};
    config.n_volumes = 1;
    const char *id = a_running();
    assert_non_null(volumes_next(en->volumes, NULL));
    fake_exit(id, 0);
    turn();
    assert_null(engine_find(en, id, &e));
    assert_false(has_record(id));
    assert_false(has_directory(id));
    assert_null(volumes_next(en->volumes, NULL));
    assert_int_equal(fake_image_holds, 0);
    assert_string_equal(changes, "created started died removed ");
}

static void oom_is_told(void **state)
{
    struct keeper_exit exit = {.code = 137, .ended_ns = engine_now_ns(), .oom_killed = true};

    a_config();
    const char *id = a_running();
    fake_keeper.events.on_exit(fake_keeper.events.ctx, id, &exit);
    turn();
    assert_true(state_of(id)->oom_killed);
    assert_string_equal(changes, "created started oom died ");
}

/* --- names and pause -------------------------------------------------------------------------------------------
 */

static void rename_frees_the_old_name(void **state)
{
    struct container *c;

    a_config();
    const char *id = create("old");
    create("taken");
    assert_int_equal(container_find(en, "old", &c, &e), 0);
    assert_int_equal(container_rename(c, "taken", &e), ERR_CONFLICT);
    assert_int_equal(container_rename(c, "", &e), ERR_INVALID);
    assert_int_equal(container_rename(c, "no good", &e), ERR_INVALID);
    assert_int_equal(container_rename(c, "/new", &e), 0);
    assert_null(engine_find(en, "old", &e));
    assert_string_equal(engine_find(en, "new", &e)->id, id);
    create("old");
    reopen();
    ready();
    assert_string_equal(engine_find(en, "new", &e)->id, id);
}

static void pause_freezes_and_stop_thaws(void **state)
{
    struct answer a = {0};
    struct container *c;
    AUTO_BUF struct buf text = {0};

    fake_keeper.cgroup = dir;
    assert_int_equal(file_replace(dir_fd, "freezer.state", 0600, "", 0, false, NULL), 0);
    a_config();
    const char *id = a_running();
    assert_int_equal(container_find(en, id, &c, &e), 0);
    assert_int_equal(container_pause(c, false, &e), ERR_CONFLICT);
    assert_int_equal(container_pause(c, true, &e), 0);
    assert_string_equal(container_status_word(c), "paused");
    assert_int_equal(container_pause(c, true, &e), ERR_CONFLICT);
    assert_int_equal(engine_start(en, id, answered, &a, &e), ERR_CONFLICT);
    assert_int_equal(engine_stop(en, id, NULL, 60000, answered, &a, &e), 0);
    assert_false(state_of(id)->paused);
    assert_int_equal(file_read(dir_fd, "freezer.state", 100, &text, NULL), 0);
    assert_non_null(strstr(buf_str(&text), "THAWED"));
    fake_exit(id, 0);
    await(&a);
}

/* --- callbacks -------------------------------------------------------------------------------------------------
 */

static struct answer nested;

static void remove_when_it_died(void *ctx, enum engine_change what, const ContainerRecord *record)
{
    struct err why;

    if (what == ENGINE_DIED)
        assert_int_equal(engine_remove(en, record->id, true, true, answered, &nested, &why), 0);
}

static void watchers_may_call_the_engine(void **state)
{
    struct engine_watch nosy = {.on_change = remove_when_it_died};

    nested = (struct answer){0};
    engine_watch(en, &nosy);
    a_config();
    const char *id = a_running();
    fake_exit(id, 0);
    await(&nested);
    assert_null(engine_find(en, id, &e));
    engine_unwatch(&nosy);
    assert_string_equal(changes, "created started died removed ");
}

static void close_ends_what_is_under_way(void **state)
{
    struct answer started = {0}, stopped = {0};

    a_config();
    const char *one = create(NULL), *two = a_running();
    assert_int_equal(engine_start(en, one, answered, &started, &e), 0);
    assert_int_equal(engine_stop(en, two, NULL, -1, answered, &stopped, &e), 0);
    close_engine();
    assert_int_equal(started.e.code, ERR_CANCELED);
    assert_int_equal(stopped.e.code, ERR_CANCELED);
    open_engine();
    ready();
}

static void nothing_starts_before_the_keeper_is_ready(void **state)
{
    struct answer a = {0};
    const char *id;
    char **warnings;

    a_config();
    id = create(NULL);
    reopen();
    assert_int_equal(engine_start(en, id, answered, &a, &e), ERR_UNAVAILABLE);
    assert_int_equal(engine_create(en, NULL, &config, &arena, &id, &warnings, &e), ERR_UNAVAILABLE);
    ready();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(created_container_has_files_and_a_name),
        TEST(name_is_taken_once_and_free_after_removal),
        TEST(what_cannot_be_is_refused_and_leaves_nothing),
        TEST(no_network_is_warned_about),
        TEST(ambiguous_prefix_is_refused),
        TEST(started_container_runs_and_is_not_started_twice),
        TEST(failed_start_says_why_and_leaves_it_created),
        TEST(failed_start_can_be_tried_again),
        TEST(missing_bind_source_fails_only_for_mounts),
        TEST(exit_is_stored_before_the_keeper_forgets),
        TEST(exit_is_stored_before_the_next_start),
        TEST(what_waits_to_be_stored_is_stored_at_close),
        TEST(short_life_is_not_written),
        TEST(exit_that_cannot_be_stored_is_not_forgotten),
        TEST(unknown_exit_is_said_and_never_zero),
        TEST(auto_remove_leaves_nothing),
        TEST(oom_is_told),
        TEST(rename_frees_the_old_name),
        TEST(pause_freezes_and_stop_thaws),
        TEST(watchers_may_call_the_engine),
        TEST(close_ends_what_is_under_way),
        TEST(nothing_starts_before_the_keeper_is_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
