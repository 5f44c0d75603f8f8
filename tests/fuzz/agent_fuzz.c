/* What a manager, or whoever got hold of a manager's certificate, can tell an agent.
 *
 * The input is a story: messages of a session as they come from the wire, mixed with events of the machine. Nothing
 * of it may crash the agent or make it keep more than its bounds. Law: whatever it was told, a proper empty full
 * set makes it stop and remove everything, and forget it. The ledger's disk is left out (the linker puts the two
 * functions below before the real ones). */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/assignment.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/record.h"
#include "proto/wire/assigned.h"
#include "tests/support/fake_engine.h"
#include "tests/support/fake_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int __wrap_records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e);
int __wrap_records_remove(struct records *r, const char *name, struct err *e);

static uv_loop_t loop;
static struct fake_world *world;
static struct engine *engine;
static struct agent *agent;
static char dir[64];
static bool closed;

static void must(bool holds)
{
    if (!holds)
        abort();
}

int __wrap_records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e)
{
    must(strlen(name) <= RECORD_NAME_MAX && !strchr(name, '/') && name[0] != '.');
    return 0;
}

int __wrap_records_remove(struct records *r, const char *name, struct err *e)
{
    must(strlen(name) <= RECORD_NAME_MAX && !strchr(name, '/') && name[0] != '.');
    return 0;
}

static void remove_dir(void)
{
    (void)tree_remove(AT_FDCWD, dir, NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    log_set_level(LOG_LEVEL_ERROR + 1);
    (void)snprintf(dir, sizeof(dir), "/tmp/shoal-agent-fuzz-%d", (int)getpid()); /* fits */
    must(dir_make(dir, 0700, NULL) == 0 && atexit(remove_dir) == 0);
    must(uv_loop_init(&loop) == 0);
    world = mem_alloc(sizeof(*world));
    return 0;
}

static void on_managers(void *ctx, char *const *managers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        must(managers[i] != NULL);
}

static void open_agent(void)
{
    Identity identity = IDENTITY__INIT;
    struct agent_config config = {.loop = &loop,
                                  .engine = engine,
                                  .clock = clock_real(),
                                  .entropy = entropy_real(),
                                  .data_dir = dir,
                                  .identity = &identity,
                                  .on_managers = on_managers};
    const char *managers[] = {FAKE_MANAGER};

    identity.node_id = (char *)"0000000000000000000000abc";
    identity.cluster_id = (char *)"0000000000000000000000xyz";
    must(tls_new(NULL, NULL, NULL, &config.tls, NULL) == 0);
    must(agent_open(&config, &agent, NULL) == 0);
    tls_unref(config.tls);
    must(agent_connect(agent, managers, 1, NULL) == 0);
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void turn(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void ready(void)
{
    if (fake_session.restarting)
        fake_session_lost();
    if (!fake_session.ready)
        fake_session_ready();
}

static void tell(const uint8_t *data, size_t size)
{
    ready();
    if (!fake_session_deliver_bytes(data, size))
        fake_session_lost(); /* as the session does with what is no message */
}

static void event(uint8_t what)
{
    switch (what & 7) {
    case 0:
        if (fake_session.ready)
            fake_session_lost();
        break;
    case 1:
        if (fake_engine_pending(engine))
            fake_engine_end(engine, (what >> 3) % fake_engine_pending(engine));
        break;
    case 2:
        fake_engine_end_all(engine);
        break;
    case 3:
        fake_session.credit = what >> 3 & 3;
        break;
    case 4:
        ready();
        fake_session_writable();
        break;
    default:
        break;
    }
    turn();
}

/* The one message that ends everything. */
static void tell_nothing_is_assigned(void)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;
    Assignment assignment = ASSIGNMENT__INIT;

    assignment.has_begin = assignment.begin = assignment.has_end = assignment.end = true;
    assignment.sequence = 1;
    assignment.has_digest = true;
    message.assignment = &assignment;
    ready();
    fake_session_writable();
    fake_session_deliver(&message);
    for (int i = 0; i < 5; i++) {
        turn();
        fake_engine_end_all(engine);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(world, 0, sizeof(*world));
    fake_world_add_image(world, "web:1");
    fake_session_reset();
    engine = fake_engine_new(&loop, world);
    open_agent();
    for (size_t at = 0; at + 2 < size;) {
        size_t length = (size_t)data[at] | (size_t)data[at + 1] << 8;

        if (length & 0x8000) {
            event(data[at]);
            at += 2;
            continue;
        }
        length = MIN(length, size - at - 2);
        uint8_t *copy = mem_dup(data + at + 2, length ? length : 1); /* so that reads beyond it are seen */
        tell(copy, length);
        free(copy);
        at += 2 + length;
        if (world->start_count > FAKE_STARTS_MAX / 2 || fake_engine_pending(engine) > 32)
            fake_engine_end_all(engine);
    }
    tell_nothing_is_assigned();
    must(fake_world_count(world) == 0);
    closed = false;
    agent_close(agent, on_closed, NULL);
    while (!closed)
        uv_run(&loop, UV_RUN_ONCE);
    fake_engine_free(engine);
    uv_run(&loop, UV_RUN_NOWAIT);
    return 0;
}
