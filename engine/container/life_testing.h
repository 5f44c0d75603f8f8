/* What the tests of containers' lives share: an engine over a faked keeper and store, its answers, and builders.
 * Include after cmocka; one test program, one engine. */
#pragma once

#include <fcntl.h>
#include <unistd.h>

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

static inline void answered(void *ctx, const struct err *result)
{
    struct answer *a = ctx;

    assert_false(a->here); /* once */
    a->here = true;
    a->e = *result;
}

static inline void await(struct answer *a)
{
    testing_run_until(&loop, &a->here);
}

static inline void on_change(void *ctx, enum engine_change what, const ContainerRecord *record)
{
    static const char *const words[] = {"created", "started", "died", "removed", "oom"};

    (void)snprintf(changes + strlen(changes), sizeof(changes) - strlen(changes), "%s ", words[what]);
}

static inline void set_ready(void *ctx)
{
    is_ready = true;
}

/* Open without telling that the keeper is ready. */
static inline void open_engine(void)
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

static inline void ready(void)
{
    fake_keeper.events.on_ready(fake_keeper.events.ctx);
    assert_false(is_ready); /* never from inside */
    testing_run_until(&loop, &is_ready);
}

static inline void close_engine(void)
{
    bool closed = false;

    engine_unwatch(&watch);
    engine_close(en, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
}

/* As after a crash of this program, but for the records that were being synced. */
static inline void reopen(void)
{
    close_engine();
    open_engine();
}

static inline int fresh(void **state)
{
    log_set_level(LOG_LEVEL_ERROR);
    dir = testing_dir("life", &dir_fd);
    assert_int_equal(uv_loop_init(&loop), 0);
    arena_init(&arena);
    open_engine();
    ready();
    return 0;
}

static inline int stale(void **state)
{
    close_engine();
    arena_fini(&arena);
    testing_loop_close(&loop);
    close(dir_fd);
    testing_dir_remove(dir);
    return 0;
}

static inline void turn(void)
{
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* --- builders --------------------------------------------------------------------------------------------------
 */

static ContainerConfig config;
static HostConfig host;
static RestartRule rule;

static inline ContainerConfig *a_config(void)
{
    container_config__init(&config);
    host_config__init(&host);
    restart_rule__init(&rule);
    config.image = (char *)"web:1";
    config.host = &host;
    host.network_mode = (char *)"none";
    return &config;
}

static inline const char *create(const char *name)
{
    const char *id;
    char **warnings;

    if (engine_create(en, name, &config, &arena, &id, &warnings, &e) < 0)
        fail_msg("%s", e.text);
    return arena_strdup(&arena, id);
}

static inline const ContainerState *state_of(const char *id)
{
    const ContainerRecord *record = engine_find(en, id, &e);

    if (!record)
        fail_msg("%s", e.text);
    return record->state;
}

static inline int life_of(const char *id)
{
    struct container *c;

    assert_int_equal(container_find(en, id, &c, &e), 0);
    return c->life;
}

static inline void start(const char *id)
{
    struct answer a = {0};

    if (engine_start(en, id, answered, &a, &e) < 0)
        fail_msg("%s", e.text);
    fake_launched(engine_now_ns());
    assert_false(a.here);
    await(&a);
    assert_int_equal(a.e.code, 0);
}

static inline void await_forgotten(const char *id)
{
    while (!fake_was_forgotten(id))
        uv_run(&loop, UV_RUN_ONCE);
}

static inline const char *a_running(void)
{
    const char *id = create(NULL);

    start(id);
    return id;
}

static inline bool there(const char *path)
{
    return faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline bool has_record(const char *id)
{
    return there(arena_printf(&arena, "data/containers/.records/%s", id));
}

static inline bool has_directory(const char *id)
{
    return there(arena_printf(&arena, "data/containers/%s", id));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, stale)
