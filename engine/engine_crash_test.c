/* Killed in the middle of anything, the engine comes back right.
 *
 * A child process of this test runs an engine and makes, starts, stops and removes containers at random, telling
 * through a pipe what it begins and what was acknowledged. After a random time it is killed. Then an engine is
 * opened here, over the same directories and the same keeper, and everything it shows must fit what was told. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/container/container.h"
#include "engine/sweep.h"
#include "engine/testing.h"
#include "proto/base/arena.h"
#include "proto/base/entropy.h"
#include "proto/base/log.h"
#include "tests/support/engine.h"

#define SLOTS  6
#define ROUNDS 12

enum wish { NOTHING, MADE, STARTED, STOPPED, GONE };

struct told { /* what the child said of one name */
    enum wish begun, done;
};

/* --- the child -------------------------------------------------------------------------------------------------
 */

static void tell(int fd, unsigned slot, enum wish what, bool done)
{
    unsigned char message[3] = {(unsigned char)slot, (unsigned char)what, done};

    if (write(fd, message, sizeof(message)) != sizeof(message))
        _exit(1);
}

static void on_done(void *ctx, const struct err *e)
{
    ((struct engine_rig *)ctx)->error = *e;
    ((struct engine_rig *)ctx)->flag = true;
}

static int awaited(struct engine_rig *r, int rc)
{
    if (rc == 0)
        engine_rig_until(r, &r->flag);
    return r->error.code;
}

static int make(struct engine_rig *r, const char *name, unsigned kind)
{
    static const char *const commands[][3] = {
        {"sh", "-c", "while :; do sleep 0.05; done"}, {"sh", "-c", "exit 3"}, {"sh", "-c", "sleep 0.05; exit 4"}};
    ContainerConfig config = CONTAINER_CONFIG__INIT;
    HostConfig host = HOST_CONFIG__INIT;
    char *volumes[] = {(char *)"/data"};
    struct arena AUTO_ARENA a;
    const char *id;
    char **warnings;

    arena_init(&a);
    config.image = (char *)ENGINE_RIG_IMAGE;
    config.command = (char **)commands[kind % 3];
    config.n_command = 3;
    config.volumes = volumes;
    config.n_volumes = 1;
    config.host = &host;
    host.network_mode = (char *)"none";
    return engine_create(r->engine, name, &config, &a, &id, &warnings, &r->error);
}

static int act(struct engine_rig *r, const char *name, enum wish what, unsigned kind)
{
    r->flag = false;
    r->error = (struct err){0};
    switch (what) {
    case MADE:
        return make(r, name, kind);
    case STARTED:
        return awaited(r, engine_start(r->engine, name, on_done, r, &r->error));
    case STOPPED:
        return awaited(r, engine_stop(r->engine, name, NULL, (int64_t)(kind % 2) * 20, on_done, r, &r->error));
    default:
        return awaited(r, engine_remove(r->engine, name, true, true, on_done, r, &r->error));
    }
}

static _Noreturn void run_child(const char *dir, const char *instance, int fd, uint64_t seed)
{
    struct engine_rig r;
    struct entropy_seeded random;

    log_set_level(LOG_LEVEL_ERROR);
    entropy_seeded_init(&random, seed);
    engine_rig_attach(&r, dir, instance);
    tell(fd, SLOTS, NOTHING, true); /* ready */
    for (;;) {
        unsigned slot = (unsigned)entropy_below(&random.base, SLOTS);
        enum wish what = (enum wish)(1 + entropy_below(&random.base, 4));
        char name[16];

        (void)snprintf(name, sizeof(name), "slot%u", slot);
        if ((engine_find(r.engine, name, NULL) == NULL) != (what == MADE))
            continue;
        tell(fd, slot, what, false);
        int rc = act(&r, name, what, (unsigned)entropy_below(&random.base, 6));
        if (rc < 0 && rc != ERR_NOT_MODIFIED) {
            fprintf(stderr, "child: %d of %s: %s\n", (int)what, name, r.error.text);
            _exit(2);
        }
        tell(fd, slot, what, true);
    }
}

/* --- the parent ------------------------------------------------------------------------------------------------
 */

static struct engine_rig rig;
static struct told told[SLOTS];
static const char *missing;

static void listen_to(int fd)
{
    unsigned char message[3];

    while (read(fd, message, sizeof(message)) == sizeof(message)) {
        if (message[0] >= SLOTS)
            continue;
        struct told *t = &told[message[0]];
        if (message[2])
            t->done = (enum wish)message[1];
        else
            t->begun = (enum wish)message[1];
    }
}

static pid_t spawn(int *ret_fd, uint64_t seed)
{
    int pipe_fds[2];
    char fd_text[16], seed_text[32];

    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = fcntl(pipe_fds[1], F_DUPFD, 10);

        (void)snprintf(fd_text, sizeof(fd_text), "%d", fd);
        (void)snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
        execl("/proc/self/exe", "engine_crash_test", "--child", rig.dir, rig.instance, fd_text, seed_text, NULL);
        _exit(127);
    }
    close(pipe_fds[1]);
    *ret_fd = pipe_fds[0];
    return pid;
}

static void kill_in_the_middle(struct entropy_seeded *random)
{
    unsigned char message[3];
    int fd, status;
    pid_t pid = spawn(&fd, entropy_u64(&random->base));

    if (read(fd, message, sizeof(message)) != sizeof(message)) /* it is ready */
        fail_msg("the child did not begin");
    (void)poll(NULL, 0, (int)entropy_below(&random->base, 150));
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("the child ended by itself with %d", WEXITSTATUS(status));
    listen_to(fd);
    close(fd);
}

/* What a name must look like after what was told of it. */
static void check_slot(unsigned slot)
{
    struct told *t = &told[slot];
    char name[16];

    (void)snprintf(name, sizeof(name), "slot%u", slot);
    const ContainerRecord *record = engine_find(rig.engine, name, NULL);
    bool in_doubt = t->begun != t->done; /* it was killed between */
    if (!in_doubt && (t->done == GONE || t->done == NOTHING))
        assert_null(record);
    if (!in_doubt && t->done != GONE && t->done != NOTHING && !record)
        fail_msg("%s is gone after %d, and nobody removed it", name, (int)t->done);
    if (!record) {
        *t = (struct told){0};
        return;
    }
    const ContainerState *state = record->state;
    if (state->exit_unknown)
        fail_msg("%s: nobody knows how it ended", name);
    if (!in_doubt && t->done == MADE)
        assert_int_equal(state->status, CONTAINER_STATUS_KIND__CREATED);
    if (!in_doubt && t->done == STOPPED)
        assert_int_not_equal(state->status, CONTAINER_STATUS_KIND__ALIVE);
    if (!in_doubt && t->done == STARTED && record->argv[2][0] == 'w' &&
        state->status != CONTAINER_STATUS_KIND__ALIVE)
        fail_msg("%s ended by itself with %d", name, (int)state->exit_code);
    if (state->status == CONTAINER_STATUS_KIND__EXITED) {
        int code = record->argv[2][0] == 'e' ? 3 : record->argv[2][0] == 's' ? 4 : 143;

        if (state->exit_code != code && state->exit_code != 137 && state->exit_code != 143)
            fail_msg("%s (%s) ended with %d", name, record->argv[2], (int)state->exit_code);
        assert_true(state->finished_ns >= state->started_ns && state->started_ns > 0);
    }
    /* From here on the next child goes on. */
    t->begun = t->done = state->status == CONTAINER_STATUS_KIND__ALIVE    ? NOTHING
                         : state->status == CONTAINER_STATUS_KIND__EXITED ? STOPPED
                                                                          : MADE;
    if (t->done == NOTHING)
        t->begun = STARTED; /* alive, and may end by itself: in doubt */
    if (state->status == CONTAINER_STATUS_KIND__REMOVING)
        t->begun = GONE; /* killed, and goes as soon as it has ended */
}

static void settle(void)
{
    for (int i = 0; i < 2000 && !sweep_idle(rig.engine->containers->sweep); i++) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        (void)poll(NULL, 0, 5);
    }
    assert_true(sweep_idle(rig.engine->containers->sweep));
}

/* Every container has a directory, a record and a volume, and nothing else has. */
static void check_files(void)
{
    const ContainerRecord *record;
    unsigned count = 0;
    size_t at = 0;

    settle();
    while (engine_next(rig.engine, &at, &record))
        count++;
    unsigned volumes = 0;
    for (struct volume *v = NULL; (v = volumes_next(rig.engine->volumes, v));) {
        volumes++;
        assert_false(list_empty(&v->uses));
    }
    /* A container whose volume was not made yet makes it when it starts. */
    assert_true(volumes <= count);
    AUTO_FREE
    char *dirs = mem_printf("%s/containers", rig.data);
    AUTO_FREE
    char *records = mem_printf("%s/containers/.records", rig.data);
    AUTO_FREE
    char *trash = mem_printf("%s/containers/.trash", rig.data);
    assert_int_equal(engine_rig_entries(trash), 0);
    assert_int_equal(engine_rig_entries(dirs), count);
    assert_int_equal(engine_rig_entries(records), count);
}

static void killed_engine_comes_back_right(void **state)
{
    struct entropy_seeded random;
    uint64_t seed = entropy_u64(entropy_real());

    if (missing) {
        print_message("%s\n", missing);
        skip();
    }
    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&random, seed);
    engine_rig_open(&rig, 0, 0);
    for (int round = 0; round < ROUNDS; round++) {
        engine_rig_stop(&rig);
        kill_in_the_middle(&random);
        engine_rig_start(&rig);
        for (unsigned slot = 0; slot < SLOTS; slot++)
            check_slot(slot);
        check_files();
    }
    const ContainerRecord *record;
    for (size_t at = 0; engine_next(rig.engine, &at, &record); at = 0)
        assert_int_equal(engine_rig_remove_container(&rig, record->id), 0);
    settle();
    assert_null(volumes_next(rig.engine->volumes, NULL));
    assert_int_equal(engine_rig_census(&rig).mounts, 0);
    engine_rig_close(&rig);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_engine_comes_back_right)};

    if (argc == 6 && strcmp(argv[1], "--child") == 0)
        run_child(argv[2], argv[3], (int)strtol(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
    log_set_level(LOG_LEVEL_ERROR);
    missing = engine_rig_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
