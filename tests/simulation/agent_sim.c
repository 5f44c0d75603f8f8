/* The agent killed at any moment, again and again: in the end its containers are the tasks assigned to it, and none
 * was started twice.
 *
 * What outlives an agent lies outside of its process: containers and images (tests/support/fake_engine) and what
 * the manager wants and knows (tests/support/assigner) in shared memory, the ledger in a directory. Each life of
 * the agent is a child process that plays a random story: tasks come, change and go, sessions begin and break,
 * messages are lost, come twice or differ, containers end, operations fail or end in any order. It is killed before
 * or after a randomly chosen effect: one on a container, or one on a record of the ledger. After some lives the
 * last one is let live until nothing moves any more.
 *
 * Laws: a task's container is started at most once; no state that a manager was told goes back; at the end each
 * task that is to run and has not ended runs in one container, each other runs in none, and neither engine nor
 * ledger has anything of a task that is not assigned. Planted: a node whose memory of what it ran is lost while the
 * manager does not say it either must be found out. */
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/convert.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/record.h"
#include "tests/support/assigner.h"
#include "tests/support/fake_engine.h"
#include "tests/support/fake_session.h"

#define NODE       "0000000000000000000000abc"
#define CLUSTER    "0000000000000000000000xyz"
#define LIVES      12
#define STEPS      60
#define TASKS_OPEN 10 /* assigned at a time */
#define KILLED     77
#define BROKEN     78

struct shared {
    struct fake_world world;
    struct assigner manager;
    uint32_t next_task;
    bool is_forgetful, is_blind; /* planted: the memory is lost; and going back is not looked for */
    uint64_t kills, effects;
    char why[512]; /* a law that was broken */
};

static struct shared *shared;
static char dir[64];
static uv_loop_t loop;
static struct engine *engine;
static struct agent *agent;
static struct entropy_seeded random_source;
static uint64_t effects_left; /* until this life ends; UINT64_MAX: never */
static uint64_t last_sequence;
static unsigned resyncs;
static size_t full_at; /* how far the full set of this session was sent; ASSIGNER_TASKS_MAX: all of it */

static void broken(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void broken(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(shared->why, sizeof(shared->why), fmt, args); /* cut when longer */
    va_end(args);
    _exit(BROKEN);
}

static uint64_t below(uint64_t limit)
{
    return entropy_below(&random_source.base, limit);
}

static bool one_in(uint64_t n)
{
    return below(n) == 0;
}

/* --- where it may be killed ------------------------------------------------------------------------ */

static void on_effect(void *ctx)
{
    shared->effects++;
    if (effects_left != UINT64_MAX && effects_left-- == 0) {
        shared->kills++;
        _exit(KILLED);
    }
}

/* The linker puts these before the real ones. */
int __real_records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e);
int __wrap_records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e);
int __real_records_remove(struct records *r, const char *name, struct err *e);
int __wrap_records_remove(struct records *r, const char *name, struct err *e);

int __wrap_records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e)
{
    on_effect(NULL);
    int rc = __real_records_put(r, name, message, e);
    on_effect(NULL);
    return rc;
}

int __wrap_records_remove(struct records *r, const char *name, struct err *e)
{
    on_effect(NULL);
    int rc = __real_records_remove(r, name, e);
    on_effect(NULL);
    return rc;
}

/* --- the manager ----------------------------------------------------------------------------------- */

static void check_report(const StatusReport *report)
{
    for (size_t i = 0; i < report->n_tasks && !shared->is_blind; i++)
        for (size_t k = 0; k < ASSIGNER_TASKS_MAX; k++) {
            const struct assigner_task *t = &shared->manager.tasks[k];
            uint8_t id[16];
            char text[26];

            assigner_id(t->number, id, text);
            if (t->number && memcmp(id, report->tasks[i]->task_id.data, 16) == 0 &&
                report->tasks[i]->status->state < t->state)
                broken("task %u went back from state %d to %d", t->number, (int)t->state,
                       (int)report->tasks[i]->status->state);
        }
}

static void on_sent(void *ctx, const AgentMessage *message)
{
    resyncs += message->has_resync;
    if (!message->report)
        return;
    check_report(message->report);
    (void)assigner_report(&shared->manager, message->report);
    last_sequence = message->report->sequence;
}

static unsigned assigned_count(void)
{
    unsigned count = 0;

    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++)
        count += shared->manager.tasks[i].number && shared->manager.tasks[i].is_assigned;
    return count;
}

static struct assigner_task *any_task(void)
{
    for (int i = 0; i < 100; i++) {
        struct assigner_task *t = &shared->manager.tasks[below(ASSIGNER_TASKS_MAX)];

        if (t->number && t->is_assigned)
            return t;
    }
    return NULL;
}

static void new_task(void)
{
    if (assigned_count() >= TASKS_OPEN || shared->next_task >= FAKE_STARTS_MAX / 2)
        return;
    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++) { /* make room: what is gone for good is forgotten */
        struct assigner_task *t = &shared->manager.tasks[i];

        if (t->number && !t->is_assigned && !t->is_sent)
            memset(t, 0, sizeof(*t));
    }
    if (assigner_find(&shared->manager, 0))
        (void)assigner_add(&shared->manager, ++shared->next_task,
                           one_in(4) ? TASK_STATE__READY : TASK_STATE__RUNNING);
}

/* What managers do with tasks: the desired state only grows, and what is removed does not come back. */
static void change_task(void)
{
    struct assigner_task *t = any_task();

    if (!t)
        return;
    if (one_in(4))
        t->is_assigned = false;
    else if (t->desired == TASK_STATE__READY)
        t->desired = TASK_STATE__RUNNING;
    else
        t->desired = TASK_STATE__SHUTDOWN;
}

static void send_full_piece(size_t most)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    ManagerMessage *message = assigner_full(&shared->manager, &full_at, most, &a);
    if (shared->is_forgetful)
        for (size_t i = 0; i < message->assignment->n_items; i++)
            if (message->assignment->items[i]->task) {
                message->assignment->items[i]->task->has_state = false;
                message->assignment->has_digest = false;
            }
    fake_session_deliver(message);
}

static void send_changes(bool honestly)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    ManagerMessage *message = assigner_changes(&shared->manager, &a);
    if (!message)
        return;
    if (shared->is_forgetful)
        message->assignment->has_digest = false;
    if (!honestly && one_in(3))
        return; /* lost: the next one does not fit */
    if (!honestly && one_in(3))
        message->assignment->digest++;
    fake_session_deliver(message);
    if (!honestly)
        fake_session_deliver(message); /* twice */
}

static void answer_resync(void)
{
    if (!resyncs)
        return;
    resyncs = 0;
    full_at = 0;
    send_full_piece(SIZE_MAX);
}

static void acknowledge(void)
{
    ManagerMessage message = MANAGER_MESSAGE__INIT;

    message.has_report_ack = true;
    message.report_ack = last_sequence;
    fake_session_deliver(&message);
}

/* --- one life -------------------------------------------------------------------------------------- */

static void turn(void)
{
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void on_managers(void *ctx, char *const *managers, size_t count)
{
    (void)count; /* none are sent */
}

static void open_all(void)
{
    Identity identity = IDENTITY__INIT;
    struct agent_config config = {.loop = &loop,
                                  .clock = clock_real(),
                                  .entropy = &random_source.base,
                                  .data_dir = dir,
                                  .identity = &identity,
                                  .on_managers = on_managers};
    const char *managers[] = {FAKE_MANAGER};
    struct err e;

    assert(uv_loop_init(&loop) == 0);
    engine = fake_engine_new(&loop, &shared->world);
    fake_engine_on_effect(engine, on_effect, NULL);
    fake_session.on_sent = on_sent;
    identity.node_id = (char *)NODE;
    identity.cluster_id = (char *)CLUSTER;
    config.engine = engine;
    if (tls_new(NULL, NULL, NULL, &config.tls, &e) < 0 || agent_open(&config, &agent, &e) < 0 ||
        agent_connect(agent, managers, 1, &e) < 0)
        broken("%s", e.text);
    tls_unref(config.tls);
    full_at = ASSIGNER_TASKS_MAX;
    turn();
}

static void session_step(void)
{
    if (fake_session.restarting) {
        fake_session_lost();
        return;
    }
    if (full_at < ASSIGNER_TASKS_MAX) {
        send_full_piece(1 + below(4));
        return;
    }
    answer_resync();
    switch (below(8)) {
    case 0:
        fake_session_lost();
        return;
    case 1:
        acknowledge();
        return;
    case 2:
        send_changes(false);
        return;
    case 3:
        fake_session.credit = (unsigned)below(3);
        return;
    case 4:
        fake_session_writable();
        return;
    default:
        send_changes(true);
    }
}

static void world_step(void)
{
    const struct assigner_task *t = any_task();
    uint8_t id[16];
    char text[26];

    if (fake_engine_pending(engine) && !one_in(3)) {
        fake_engine_end(engine, below(fake_engine_pending(engine)));
        return;
    }
    if (!t)
        return;
    assigner_id(t->number, id, text);
    if (one_in(4) && fake_engine_alive(engine, text))
        fake_engine_exit(engine, text, one_in(2) ? 0 : 1);
    else if (one_in(12) && fake_engine_of(engine, text) && fake_engine_pending(engine) == 0)
        fake_engine_vanish(engine, text);
    else if (one_in(10))
        fake_engine_fail(engine, one_in(2) ? "start" : "create", ERR_INVALID, "told to fail", 1);
}

static void step(void)
{
    switch (below(4)) {
    case 0:
        new_task();
        break;
    case 1:
        change_task();
        break;
    case 2:
        if (fake_session.ready) {
            session_step();
        } else if (one_in(2)) {
            full_at = 0;
            resyncs = 0;
            fake_session.credit = UINT_MAX;
            fake_session_ready();
            send_full_piece(1 + below(ASSIGNER_TASKS_MAX));
        }
        break;
    default:
        world_step();
    }
    turn();
}

static void live(uint64_t seed, bool is_last)
{
    entropy_seeded_init(&random_source, seed);
    effects_left = is_last ? UINT64_MAX : below(120);
    open_all();
    for (int i = 0; i < STEPS; i++)
        step();
    if (!is_last)
        _exit(KILLED); /* between two turns */
}

/* --- the end of the last life ---------------------------------------------------------------------- */

static void settle(void)
{
    if (fake_session.ready)
        fake_session_lost();
    fake_session.credit = UINT_MAX;
    full_at = 0;
    resyncs = 0;
    turn();
    fake_session_ready();
    send_full_piece(SIZE_MAX);
    for (int quiet = 0, rounds = 0; quiet < 3; rounds++) {
        unsigned sent = fake_session.sent;

        if (rounds > 1000)
            broken("it never comes to rest");
        turn();
        answer_resync();
        send_changes(true);
        bool busy = fake_engine_pending(engine) > 0;
        fake_engine_end_all(engine);
        turn();
        acknowledge();
        quiet = busy || sent != fake_session.sent ? 0 : quiet + 1;
    }
}

static bool ledger_has(const char *task_id)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/swarm/tasks/%s", dir, task_id); /* fits */
    return access(path, F_OK) == 0;
}

static void check_task(const struct assigner_task *t, unsigned *containers)
{
    uint8_t id[16];
    char text[26];

    assigner_id(t->number, id, text);
    bool alive = fake_engine_alive(engine, text), exists = fake_engine_of(engine, text) != NULL;
    if (!t->is_assigned) {
        if (exists || ledger_has(text))
            broken("task %u is not assigned, and %s is left", t->number, exists ? "its container" : "its record");
        return;
    }
    *containers += exists;
    if (!ledger_has(text))
        broken("task %u is not in the ledger", t->number);
    if (t->desired == TASK_STATE__RUNNING && t->state <= TASK_STATE__RUNNING) {
        if (t->state != TASK_STATE__RUNNING || !alive)
            broken("task %u is to run: state %d, its container %s", t->number, (int)t->state,
                   alive ? "runs" : "does not run");
    } else if (t->desired == TASK_STATE__READY && t->state <= TASK_STATE__RUNNING) {
        if (t->state != TASK_STATE__READY || alive || !exists)
            broken("task %u is to be ready: state %d", t->number, (int)t->state);
    } else if (alive || t->state < TASK_STATE__COMPLETE) {
        broken("task %u has ended or is to end: state %d, its container %s", t->number, (int)t->state,
               alive ? "runs" : "does not run");
    }
}

static bool none_started_twice(void)
{
    for (uint32_t i = 0; i < shared->world.start_count; i++) {
        unsigned starts = fake_world_starts(&shared->world, shared->world.started[i]);

        if (starts != 1) {
            (void)snprintf(shared->why, sizeof(shared->why), "task %s was started %u times",
                           shared->world.started[i], starts); /* fits */
            return false;
        }
    }
    return true;
}

static void check_end(void)
{
    unsigned containers = 0;

    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++)
        if (shared->manager.tasks[i].number)
            check_task(&shared->manager.tasks[i], &containers);
    if (containers != fake_world_count(&shared->world))
        broken("%u containers of %u belong to assigned tasks", containers, fake_world_count(&shared->world));
}

/* --- worlds ---------------------------------------------------------------------------------------- */

static void empty_dir(void)
{
    (void)tree_remove(AT_FDCWD, dir, NULL);
    if (dir_make(dir, 0700, NULL) < 0)
        abort();
}

/* Planted: all memory of what has ended is lost. */
static void forget_what_ended(void)
{
    empty_dir();
    for (size_t i = 0; i < FAKE_CONTAINERS_MAX; i++) {
        ContainerRecord *record =
            container_record__unpack(NULL, shared->world.containers[i].size, shared->world.containers[i].packed);

        if (record && shared->world.containers[i].size && record->state->status == CONTAINER_STATUS_KIND__EXITED)
            shared->world.containers[i].size = 0;
        if (record)
            container_record__free_unpacked(record, NULL);
    }
}

static bool run_life(uint64_t seed, bool is_last)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        live(seed, is_last);
        settle();
        check_end();
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != (is_last ? 0 : KILLED)) {
        if (!*shared->why)
            (void)snprintf(shared->why, sizeof(shared->why), "the agent ended with status %x", (unsigned)status);
        return false;
    }
    return none_started_twice();
}

static bool run_world(uint64_t seed, bool plant, bool blind)
{
    memset(shared, 0, sizeof(*shared));
    shared->is_blind = blind;
    shared->is_forgetful = plant;
    fake_world_add_image(&shared->world, "web:1");
    empty_dir();
    for (unsigned life = 0; life < LIVES; life++) {
        if (!run_life(seed * 1000 + life, life == LIVES - 1))
            return false;
        if (plant)
            forget_what_ended();
    }
    return true;
}

static bool run_seeds(uint64_t first, uint64_t count)
{
    uint64_t kills = 0, effects = 0, starts = 0;

    for (uint64_t seed = first; seed < first + count; seed++) {
        if (!run_world(seed, false, false)) {
            printf("not ok agent_seed_%" PRIu64 ": %s (make sim ONLY=agent_sim SEED=%" PRIu64 ")\n", seed,
                   shared->why, seed);
            return false;
        }
        kills += shared->kills;
        effects += shared->effects;
        starts += shared->world.start_count;
    }
    printf("ok agents_killed_at_any_moment (%" PRIu64 " worlds of %d lives, %" PRIu64 " kills in %" PRIu64
           " effects, %" PRIu64 " starts)\n",
           count, LIVES, kills, effects, starts);
    return true;
}

static bool planted_fault_is_found(bool blind, const char *law)
{
    for (uint64_t seed = 1; seed <= 50; seed++)
        if (!run_world(seed, true, blind)) {
            bool good = strstr(shared->why, law) != NULL;

            printf("%sok planted_loss_of_memory_%s (seed %" PRIu64 ": %s)\n", good ? "" : "not ",
                   blind ? "starts_twice" : "goes_back", seed, shared->why);
            return good;
        }
    printf("not ok planted_loss_of_memory: no law was broken in 50 worlds\n");
    return false;
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 20;
    bool ok;

    log_set_level(getenv("AGENT_SIM_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    (void)snprintf(dir, sizeof(dir), "%s/shoal-agent-sim-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                   (int)getpid()); /* fits */
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    ok = run_seeds(argc > 2 ? strtoull(argv[2], NULL, 10) : 1, seeds);
    if (argc <= 2)
        ok = planted_fault_is_found(false, "went back") && planted_fault_is_found(true, "was started") && ok;
    (void)tree_remove(AT_FDCWD, dir, NULL);
    (void)munmap(shared, sizeof(*shared));
    return !ok;
}
