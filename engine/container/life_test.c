/* Containers live as their users, their policies and their crashes will have it. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/fakes.h"
#include "proto/base/log.h"

static uv_loop_t loop;
static char *dir;
static int dir_fd = -1;
static struct engine *en;
static struct err e;
static bool is_ready;
static struct arena arena;
static char changes[512]; /* what watchers were told */
static struct engine_watch watch;

struct answer { /* to an operation */
    bool here;
    struct err e;
};

static void answered(void *ctx, const struct err *result)
{
    struct answer *a = ctx;

    assert_false(a->here); /* once */
    a->here = true;
    a->e = *result;
}

static void await(struct answer *a)
{
    testing_run_until(&loop, &a->here);
}

static void on_change(void *ctx, enum engine_change what, const ContainerRecord *record)
{
    static const char *const words[] = {"created", "started", "died", "removed", "oom"};

    (void)snprintf(changes + strlen(changes), sizeof(changes) - strlen(changes), "%s ", words[what]);
}

static void set_ready(void *ctx)
{
    is_ready = true;
}

/* Open without telling that the keeper is ready. */
static void open_engine(void)
{
    char *data = mem_printf("%s/data", dir), *run = mem_printf("%s/run", dir);
    struct engine_config config = {
        .loop = &loop, .data_dir = data, .run_dir = run, .instance = "test", .program_dir = "/nowhere"};

    memset(&fake_keeper, 0, sizeof(fake_keeper));
    is_ready = false;
    if (engine_open(&config, set_ready, &en, &e) < 0)
        fail_msg("%s", e.text);
    free(data);
    free(run);
    watch.on_change = on_change;
    engine_watch(en, &watch);
    changes[0] = '\0';
}

static void ready(void)
{
    fake_keeper.events.on_ready(fake_keeper.events.ctx);
    assert_false(is_ready); /* never from inside */
    testing_run_until(&loop, &is_ready);
}

static void close_engine(void)
{
    bool closed = false;

    engine_unwatch(&watch);
    engine_close(en, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
}

/* As after a crash of this program, but for the records that were being synced. */
static void reopen(void)
{
    close_engine();
    open_engine();
}

static int fresh(void **state)
{
    log_set_level(LOG_LEVEL_ERROR);
    dir = testing_dir("life", &dir_fd);
    assert_int_equal(uv_loop_init(&loop), 0);
    arena_init(&arena);
    open_engine();
    ready();
    return 0;
}

static int stale(void **state)
{
    close_engine();
    arena_fini(&arena);
    testing_loop_close(&loop);
    close(dir_fd);
    testing_dir_remove(dir);
    return 0;
}

static void turn(void)
{
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* --- builders --------------------------------------------------------------------------------------------------
 */

static ContainerConfig config;
static HostConfig host;
static RestartRule rule;

static ContainerConfig *a_config(void)
{
    container_config__init(&config);
    host_config__init(&host);
    restart_rule__init(&rule);
    config.image = (char *)"web:1";
    config.host = &host;
    host.network_mode = (char *)"none";
    return &config;
}

static const char *create(const char *name)
{
    const char *id;
    char **warnings;

    if (engine_create(en, name, &config, &arena, &id, &warnings, &e) < 0)
        fail_msg("%s", e.text);
    return arena_strdup(&arena, id);
}

static const ContainerState *state_of(const char *id)
{
    const ContainerRecord *record = engine_find(en, id, &e);

    if (!record)
        fail_msg("%s", e.text);
    return record->state;
}

static int life_of(const char *id)
{
    struct container *c;

    assert_int_equal(container_find(en, id, &c, &e), 0);
    return c->life;
}

static void start(const char *id)
{
    struct answer a = {0};

    if (engine_start(en, id, answered, &a, &e) < 0)
        fail_msg("%s", e.text);
    fake_launched(engine_now_ns());
    assert_false(a.here);
    await(&a);
    assert_int_equal(a.e.code, 0);
}

static const char *a_running(void)
{
    const char *id = create(NULL);

    start(id);
    return id;
}

static bool there(const char *path)
{
    return faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool has_record(const char *id)
{
    return there(arena_printf(&arena, "data/containers/.records/%s", id));
}

static bool has_directory(const char *id)
{
    return there(arena_printf(&arena, "data/containers/%s", id));
}

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
    assert_true(there(arena_printf(&arena, "data/containers/%s/hosts", id)));
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
        const char *says;
    } table[] = {
        {ERR_NOT_FOUND, 127, "executable file not found"},
        {ERR_DENIED, 126, "permission denied"},
        {ERR_IO, 128, "mount /data"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct answer a = {0};

        a_config();
        const char *id = create(NULL);
        assert_int_equal(engine_start(en, id, answered, &a, &e), 0);
        fake_launch_failed(table[i].code, "mount /data: no");
        await(&a);
        assert_true(a.e.code < 0 && a.e.code != ERR_NOT_FOUND);
        assert_non_null(strstr(a.e.text, table[i].says));
        assert_int_equal(life_of(id), LIFE_CREATED);
        assert_int_equal(state_of(id)->exit_code, table[i].exit);
        assert_string_equal(state_of(id)->error, "mount /data: no");
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
    assert_true(fake_was_forgotten(id));
    turn();
    assert_string_equal(changes, "created started died ");
    reopen();
    ready();
    assert_int_equal(state_of(id)->exit_code, 7);
    assert_int_equal(life_of(id), LIFE_ENDED);
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
    assert_int_equal(mkdir(old, 0700), 0); /* where the new record would be written */
    fake_exit(id, 7);
    assert_int_equal(state_of(id)->exit_code, 7);
    assert_false(fake_was_forgotten(id));
    assert_int_equal(rmdir(old), 0);
    while (!fake_was_forgotten(id)) /* tried again every second */
        uv_run(&loop, UV_RUN_ONCE);
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
    assert_true(fake_was_forgotten(id));
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

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
        TEST(exit_that_cannot_be_stored_is_not_forgotten),
        TEST(unknown_exit_is_said_and_never_zero),
        TEST(auto_remove_leaves_nothing),
        TEST(oom_is_told),
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
        TEST(rename_frees_the_old_name),
        TEST(pause_freezes_and_stop_thaws),
        TEST(watchers_may_call_the_engine),
        TEST(close_ends_what_is_under_way),
        TEST(nothing_starts_before_the_keeper_is_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
