/* The managers' simulation (manager_world.h): random worlds, managers that are killed during each of their writes
 * in turn, and the planted faults that prove the checkers.
 *
 *     manager_sim SEEDS [SEED]     with SEED: the random worlds of SEEDS seeds from that one alone
 *
 * RAFT_SIM_LOG=1 shows the production code's own log. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_scene.h"

#define SECOND        1000000 /* microseconds */
#define SEEDS_FOR_ALL 1000    /* with so many every rare state must come about */

static char dir[64];
static bool all_ok = true;

static void report(const char *name, uint64_t seed, const char *failure)
{
    if (!*failure) {
        printf("ok %s\n", name);
        return;
    }
    all_ok = false;
    printf("not ok %s: %s; seed %" PRIu64 "\n", name, failure, seed);
}

/* --- what is planted ----------------------------------------------------------------------------------- */

/* Give a service the ports of another. */
static int publish_twice(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct index_service *s, *owner = NULL, *other = NULL;

    (void)d;
    (void)write;
    for (size_t at = 0; (s = table_next(&p->index->services, &at));) {
        if (s->exists && s->port_count)
            owner = s;
        else if (s->exists)
            other = s;
    }
    if (!owner || !other)
        return err_set(e, ERR_NOT_FOUND, "nothing is published yet");
    Endpoint endpoint = *plan_service(p, owner->number)->endpoint;
    Service service = *plan_service(p, other->number);
    endpoint.spec = NULL;
    service.endpoint = &endpoint;
    plan_put(p, KIND_SERVICE, other->number, &service);
    return 0;
}

static int put_back(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct index_task *t;

    (void)d;
    (void)write;
    for (size_t at = 0; (t = table_next(&p->index->tasks, &at));)
        if (t->state == TASK_STATE__RUNNING) {
            Status status = *plan_status(p, t->number);

            status.state = TASK_STATE__STARTING;
            plan_put(p, KIND_STATUS, t->number, &status);
            return 0;
        }
    return err_set(e, ERR_NOT_FOUND, "nothing runs yet");
}

static void put_back_done(struct control_write *write, const struct err *e, uint64_t index)
{
    (void)e;
    (void)index;
    free(write);
}

static void ghost_in_the_index(struct msim_manager *m)
{
    Task task = TASK__INIT;
    struct object o = {.kind = KIND_TASK, .number = 999999, .message = &task.base};

    task.id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)"a ghost in index"};
    task.service = 999998;
    task.slot = 1;
    task.desired_state = TASK_STATE__SHUTDOWN;
    index_apply(control_index(m->control), NULL, &o);
}

/* One manager applies something that nobody proposed. */
static void foreign_entry(struct msim_manager *m)
{
    struct draft *d = draft_begin(m->store, 1, NULL, NULL);
    Network network = NETWORK__INIT;
    AUTO_BUF struct buf packed = {0};

    network.id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)"a foreign networ"};
    draft_create(d, KIND_NETWORK, &network.base);
    draft_pack(d, &packed);
    draft_end(d, false);
    struct store_entry entry = {
        .index = store_applied(m->store) + 1, .data = buf_bytes(&packed), .size = packed.length};
    (void)store_apply(m->store, &entry, 1, NULL, NULL, NULL);
    msim_check_applied(m);
}

static void plant(struct msim *w)
{
    struct msim_manager *m = msim_leader(w);

    if (w->planted || !m || w->now_us < 5 * SECOND)
        return;
    if (w->plant == PLANT_LINEAR && msim_chance(w, 5)) /* or it takes more seeds until one is asked too late */
        m->paused_until_us = w->now_us + 3 * SECOND;
    if (w->plant == PLANT_FORWARD || w->plant == PLANT_LAWS) {
        struct control_write *write = mem_alloc(sizeof(*write));

        write->execute = w->plant == PLANT_LAWS ? publish_twice : put_back;
        write->done = put_back_done;
        control_submit(m->control, write);
    } else if (w->plant == PLANT_INDEX) {
        ghost_in_the_index(m);
        w->planted = true;
    } else if (w->plant == PLANT_DIGEST) {
        struct msim_manager *other = &w->managers[m->id == 1 ? 2 : 1];

        if (other->up && store_applied(other->store) > 20) {
            foreign_entry(other);
            w->planted = true;
        }
    }
}

/* --- worlds ------------------------------------------------------------------------------------------- */

static struct msim_counts total;

static void end(struct msim *w)
{
    const uint64_t *from = (const uint64_t *)&w->counts;
    uint64_t *to = (uint64_t *)&total;

    for (unsigned id = 1; id <= w->manager_count; id++)
        msim_crash(w, id, false); /* what it counted is added */
    for (size_t i = 0; i < sizeof(total) / sizeof(*to); i++)
        to[i] += from[i];
    msim_free(w);
}

static bool run_seed(uint64_t seed)
{
    struct scene scene = scene_of(seed);
    struct msim *w = scene_live(seed, &scene, dir);
    bool ok = !msim_broken(w);

    if (!ok)
        printf("not ok managers_seed_%" PRIu64
               " (%u managers%s): %s\n    again: make sim ONLY=manager_sim SEED=%" PRIu64 "\n",
               seed, scene.options.managers, scene.options.churn ? ", who come and go" : "", w->failure, seed);
    all_ok &= ok;
    end(w);
    fflush(stdout);
    return ok;
}

static void random_worlds(uint64_t first, uint64_t count)
{
    uint64_t failed = 0, seed = first;

    for (; seed < first + count && failed < 10; seed++)
        failed += !run_seed(seed);
    if (!failed)
        printf("ok managers (%" PRIu64 " seeds from %" PRIu64 ")\n", count, first);
}

/* Seeds that found something, each with what it was (the mend's commit says more). They fail without the mend as
 * long as worlds are made as they were then; what can be tested lower down is tested there as well. */
static void kept_seeds(void)
{
    static const uint64_t seeds[] = {
        2,      /* a task was told to its agent before the scheduler had confirmed it */
        5,      /* the dispatcher kept a session that was freed, for a task deleted later */
        1119,   /* stored answers aged by an hour when the clock was set between two lives */
        101001, /* a node that registered was declared down in the same draft, for good */
    };
    bool ok = true;

    for (size_t i = 0; i < ARRAY_SIZE(seeds); i++)
        ok &= run_seed(seeds[i]);
    report("seeds_that_found_something", 0, ok ? "" : "one of them found it again");
}

/* The same seed gives the same world, to the last event. */
static void replay(void)
{
    struct scene scene = scene_of(3);
    uint64_t events[2], digest[2];

    for (int i = 0; i < 2; i++) {
        struct msim *w = scene_live(3, &scene, dir);

        events[i] = w->counts.events;
        digest[i] = (uint64_t)(uintptr_t)map64_get(&w->digests, w->seen) ^ entropy_u64(&w->random.base);
        end(w);
    }
    report("one_seed_replays_everything", 3,
           events[0] == events[1] && digest[0] == digest[1] ? "" : "two runs differ");
}

/* Of three or five managers only one is left. */
static void go_on_alone(uint64_t first, uint64_t count)
{
    uint64_t seed = first;
    char failure[512] = "";

    for (; seed < first + count && !*failure; seed++) {
        struct scene scene = {
            .options = {.managers = seed % 2 ? 3 : 5, .snapshot_bytes = 16384, .segment_bytes = 32768},
            .seconds = 8,
            .force = true};
        struct msim *w = scene_live(seed, &scene, dir);

        (void)snprintf(failure, sizeof(failure), "%s", w->failure);
        end(w);
    }
    report("one_manager_goes_on_alone", seed - 1, failure);
}

/* A manager dies in each operation on its disk in turn: alone, and one of three. */
static void crash_at_each_write(const char *name, unsigned managers, uint64_t most)
{
    struct scene scene = {.options = {.managers = managers, .snapshot_bytes = 16384, .segment_bytes = 32768},
                          .seconds = 2,
                          .crash_at = UINT64_MAX,
                          .victim = managers > 1 ? 2 : 1};
    struct msim *w = scene_live(1, &scene, dir);
    uint64_t operations = w->managers[scene.victim].disk.operations, step = MAX(operations / most, (uint64_t)1);
    char failure[512];

    (void)snprintf(failure, sizeof(failure), "%s", w->failure);
    end(w);
    scene.crash_at = 1;
    for (; scene.crash_at < operations && !*failure; scene.crash_at += step) {
        w = scene_live(scene.crash_at % 2 ? 1 : 2, &scene, dir);
        (void)snprintf(failure, sizeof(failure), "%s%s", w->failure, *w->failure ? " (crash_at)" : "");
        end(w);
    }
    report(name, scene.crash_at, failure);
}

/* --- planted faults ----------------------------------------------------------------------------------- */

#define PLANT_SEEDS 1000

static struct scene planted_scene(enum msim_plant what, unsigned managers)
{
    return (struct scene){.options = {.managers = managers, .snapshot_bytes = 131072, .segment_bytes = 65536},
                          .plant = what,
                          .seconds = 10,
                          .on_step = plant};
}

static void planted_fault(const char *name, enum msim_plant what, unsigned managers, const char *checker,
                          const char * or)
{
    struct scene scene = planted_scene(what, managers);
    char why[600] = "no checker saw it";

    for (uint64_t seed = 1; seed <= PLANT_SEEDS; seed++) {
        struct msim *w = scene_live(seed, &scene, dir);
        bool broken = msim_broken(w), seen = strncmp(w->failure, checker, strlen(checker)) == 0 ||
                                             (or &&strncmp(w->failure, or, strlen(or)) == 0);

        if (broken)
            (void)snprintf(why, sizeof(why), "%s", w->failure);
        end(w);
        if (!broken)
            continue;
        printf("%sok %s (seed %" PRIu64 "): %s\n", seen ? "" : "not ", name, seed, why);
        all_ok &= seen;
        return;
    }
    report(name, PLANT_SEEDS, why);
}

static void planted_faults(void)
{
    planted_fault("planted_read_without_asking_is_seen", PLANT_LINEAR, 3, "linear", NULL);
    planted_fault("planted_foreign_entry_is_seen", PLANT_DIGEST, 3, "digest", "open");
    planted_fault("planted_ghost_in_the_index_is_seen", PLANT_INDEX, 1, "index", NULL);
    planted_fault("planted_second_owner_of_a_port_is_seen", PLANT_LAWS, 1, "laws", NULL);
    planted_fault("planted_step_back_is_seen", PLANT_FORWARD, 1, "forward", NULL);
    planted_fault("planted_lost_write_is_seen", PLANT_ACKED, 1, "acked", NULL);
    planted_fault("planted_repeated_request_is_seen", PLANT_ANSWER, 1, "answer", NULL);
    planted_fault("planted_standstill_is_seen", PLANT_CONVERGE, 1, "converge", NULL);
}

/* --- all of it ---------------------------------------------------------------------------------------- */

/* How often what is rare came about. False: something never did. */
static bool print_counts(void)
{
    const struct msim_counts *c = &total;
    const struct {
        const char *name;
        uint64_t count;
    } states[] = {
        {"events", c->events},
        {"indexes compared", c->checks},
        {"terms with a leader", c->elections},
        {"looks at two who believed to lead", c->rivals_lead},
        {"managers killed", c->crashes},
        {"of these with a loss of power", c->powers},
        {"of these inside an operation on the disk", c->inside},
        {"drafts whose outcome was not learned", c->drafts_lost},
        {"changes acknowledged", c->acked},
        {"outcomes unknown to clients", c->unknown},
        {"answered again from the store", c->replayed},
        {"outcomes that stayed unknown", c->gave_up},
        {"rivals' swaps", c->swaps},
        {"rivals' swaps of what was there no more", c->mismatches},
        {"rivals' strong reads", c->reads},
        {"stores lost or damaged", c->spoiled},
        {"stores discarded while open", c->suspected},
        {"snapshots taken", c->snapshots},
        {"snapshots installed", c->installs},
        {"logs cut by a new leader", c->cuts},
        {"cores begun again (G3, G5)", c->restarts},
        {"old entries read again for a manager", c->fetches},
        {"managers stopped for a while", c->paused},
        {"disks hung", c->hung},
        {"disks full", c->full},
        {"disks broken", c->broken},
        {"disks slow", c->slow_disks},
        {"wall clocks set", c->wall_steps},
        {"links cut one way", c->one_way},
        {"partitions", c->partitions},
        {"leaders isolated", c->isolated},
        {"networks noisy", c->noisy},
        {"managers announced", c->announced},
        {"managers demoted", c->demoted},
        {"demotions refused", c->refused},
        {"managers told that they were removed", c->told_removed},
        {"managers gone", c->gone},
        {"managers that went on alone", c->forced},
        {"agents' sessions", c->sessions},
        {"full sets asked for", c->resyncs},
        {"agents sent to the leader", c->redirects},
        {"agents told to come back later", c->come_back},
        {"containers started", c->started},
        {"actions of engines that failed", c->actions_failed},
        {"agents killed", c->agents_killed},
        {"machines of agents without power", c->machines_off},
        {"tasks given up with their node", c->orphans},
    };
    bool all = true;

    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        printf("# %12" PRIu64 " %s\n", states[i].count, states[i].name);
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        all &= states[i].count > 0;
    return all;
}

static void print_speed(uint64_t seeds, int64_t start_us)
{
    int64_t us = MAX(clock_mono_us(clock_real()) - start_us, (int64_t)1);

    printf("# %" PRIu64 " seeds in %.1f s: %.0f seeds a minute\n", seeds, (double)us / 1e6,
           (double)seeds * 60e6 / (double)us);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 20, seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    int64_t start_us = clock_mono_us(clock_real());

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_level(getenv("RAFT_SIM_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    (void)snprintf(dir, sizeof(dir), "%s/shoal-sim-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                   (int)getpid());
    if (dir_make(dir, 0700, NULL) < 0) {
        printf("not ok manager_sim: no directory %s\n", dir);
        return 1;
    }
    random_worlds(seed ? seed : 1, seeds);
    print_speed(seeds, start_us);
    go_on_alone(seed ? seed : 1, seeds / 4 + 1);
    if (!seed) {
        kept_seeds();
        crash_at_each_write("crash_at_each_write_alone", 1, seeds);
        crash_at_each_write("crash_at_each_write_of_one_of_three", 3, seeds / 2 + 1);
        planted_faults();
        replay();
    }
    bool all = print_counts();
    if (seeds >= SEEDS_FOR_ALL)
        report("every_rare_state_is_reached", seeds, all ? "" : "not all");
    (void)tree_remove(AT_FDCWD, dir, NULL);
    return all_ok ? 0 : 1;
}
