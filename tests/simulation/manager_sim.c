/* The managers' simulation (manager_world.h): SEEDS random worlds with one and with three managers, one manager
 * that is killed during each of its writes in turn, and the planted faults that prove the checkers.
 *
 *     manager_sim SEEDS [SEED]     SEED alone runs the random worlds of that seed
 *
 * RAFT_SIM_LOG=1 shows the production code's own log. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

#define SECOND 1000000 /* microseconds */

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

/* --- what goes wrong
 * --------------------------------------------------------------------------------------------------- */

static void fire_heal(struct msim *w, struct msim_event *e)
{
    w->cut[e->number] = false;
}

static void disturb(struct msim *w)
{
    uint64_t id = 1 + msim_below(w, w->manager_count);
    struct msim_manager *m = &w->managers[id];

    switch (msim_below(w, 8)) {
    case 0: /* dies soon, in the middle of something it does with its disk */
        if (m->up && !m->disk.crash_at) {
            m->disk.crash_at = m->disk.operations + 1 + msim_below(w, 30);
            m->disk.power = msim_chance(w, 50);
        }
        break;
    case 1:
        if (m->up && msim_chance(w, 50)) {
            msim_crash(w, id, msim_chance(w, 50));
            msim_start(w, id);
        }
        break;
    case 2:
        if (w->manager_count > 1 && !w->cut[id]) {
            w->cut[id] = true;
            msim_schedule(w, (int64_t)msim_below(w, 3 * SECOND),
                          (struct msim_event){.fire = fire_heal, .number = id});
        }
        break;
    case 3: /* full, or with room again */
        m->disk.full = !m->disk.full;
        break;
    case 4: /* fails, or works again */
        m->disk.broken = !m->disk.broken && msim_chance(w, 30);
        break;
    case 5:
        if (msim_chance(w, 30))
            msim_suspect(w, id);
        break;
    default:
        break;
    }
}

/* --- planted faults
 * ------------------------------------------------------------------------------------------------------ */

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

/* --- worlds
 * -----------------------------------------------------------------------------------------------------------------
 */

static void restart_all(struct msim *w)
{
    for (unsigned id = 1; id <= w->manager_count; id++) {
        w->cut[id] = false;
        msim_crash(w, id, true);
    }
    for (unsigned id = 1; id <= w->manager_count; id++)
        msim_start(w, id);
}

static void converge(struct msim *w)
{
    char why[256] = "";

    w->faults = false;
    for (unsigned id = 1; id <= w->manager_count; id++) {
        w->managers[id].disk.crash_at = 0;
        w->managers[id].disk.full = w->managers[id].disk.broken = false;
        w->cut[id] = false;
        msim_start(w, id);
    }
    msim_run(w, 2 * SECOND);
    actors_finish(w);
    for (int i = 0; i < 120 && !msim_broken(w) && !actors_content(w, why, sizeof(why)); i++)
        msim_run(w, SECOND);
    if (!msim_broken(w) && !actors_content(w, why, sizeof(why)))
        msim_fail(w, "converge", "%s", why);
}

/* Everything from the start: found, join, live with faults, heal, lose power, be the same. */
static struct msim *live(uint64_t seed, unsigned managers, enum msim_plant what, int64_t seconds, uint64_t crash_at)
{
    struct msim *w = msim_new(seed, managers, dir);
    char why[256] = "";

    w->plant = what;
    w->faults = w->spoil = true;
    if (crash_at) {
        w->managers[1].disk.crash_at = crash_at;
        w->managers[1].disk.power = seed % 2;
    }
    msim_start(w, 1);
    msim_join(w);
    for (int64_t i = 0; i < seconds * 5 && !msim_broken(w); i++) {
        msim_run(w, SECOND / 5);
        if (!crash_at && i > 5 && msim_chance(w, 35))
            disturb(w);
        plant(w);
    }
    converge(w);
    restart_all(w);
    for (int i = 0; i < 20 && !msim_broken(w) && !actors_content(w, why, sizeof(why)); i++)
        msim_run(w, SECOND);
    if (!msim_broken(w) && !actors_content(w, why, sizeof(why)))
        msim_fail(w, "converge", "after all lost power: %s", why);
    return w;
}

struct totals {
    uint64_t events, crashes, acked, unknown, replayed, checks, spoiled, suspected;
};

static void add(struct totals *t, const struct msim *w)
{
    t->events += w->counts.events;
    t->crashes += w->counts.crashes;
    t->acked += w->counts.acked;
    t->unknown += w->counts.unknown;
    t->replayed += w->counts.replayed;
    t->checks += w->counts.checks;
    t->spoiled += w->counts.spoiled;
    t->suspected += w->counts.suspected;
}

static void random_worlds(const char *name, unsigned managers, uint64_t first, uint64_t count)
{
    struct totals totals = {0};
    char failure[512] = "";
    uint64_t seed = first;

    for (; seed < first + count && !*failure; seed++) {
        struct msim *w = live(seed, managers, PLANT_NONE, 10, 0);

        (void)snprintf(failure, sizeof(failure), "%s", w->failure);
        add(&totals, w);
        msim_free(w);
    }
    printf("# %s: %" PRIu64 " events, %" PRIu64 " crashes, %" PRIu64 " acknowledged, %" PRIu64 " unknown, %" PRIu64
           " answered from the store, %" PRIu64 " indexes compared, %" PRIu64 " stores lost or damaged, %" PRIu64
           " discarded while open\n",
           name, totals.events, totals.crashes, totals.acked, totals.unknown, totals.replayed, totals.checks,
           totals.spoiled, totals.suspected);
    report(name, seed - 1, failure);
}

static void crash_at_each_write(uint64_t most)
{
    struct msim *w = live(1, 1, PLANT_NONE, 2, UINT64_MAX);
    uint64_t operations = w->managers[1].disk.operations, step = MAX(operations / most, (uint64_t)1), at = 1;
    char failure[512];

    (void)snprintf(failure, sizeof(failure), "%s", w->failure);
    msim_free(w);
    for (; at < operations && !*failure; at += step) {
        w = live(at % 2 ? 1 : 2, 1, PLANT_NONE, 2, at);
        (void)snprintf(failure, sizeof(failure), "%s%s", w->failure, *w->failure ? " (crash_at)" : "");
        msim_free(w);
    }
    report("crash_at_each_write", at, failure);
}

static void planted_faults(void)
{
    static const struct {
        enum msim_plant plant;
        const char *name, *checker, * or ;
    } plants[] = {
        {PLANT_DIGEST, "planted_foreign_entry_is_seen", "digest", "open"},
        {PLANT_INDEX, "planted_ghost_in_the_index_is_seen", "index", NULL},
        {PLANT_LAWS, "planted_second_owner_of_a_port_is_seen", "laws", NULL},
        {PLANT_FORWARD, "planted_step_back_is_seen", "forward", NULL},
        {PLANT_ACKED, "planted_lost_write_is_seen", "acked", NULL},
        {PLANT_ANSWER, "planted_repeated_request_is_seen", "answer", NULL},
        {PLANT_CONVERGE, "planted_standstill_is_seen", "converge", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(plants); i++) {
        struct msim *w = live(7, plants[i].plant == PLANT_DIGEST ? 3 : 1, plants[i].plant, 10, 0);
        bool seen = strncmp(w->failure, plants[i].checker, strlen(plants[i].checker)) == 0 ||
                    (plants[i].or &&strncmp(w->failure, plants[i].or, strlen(plants[i].or)) == 0);

        report(plants[i].name, 7, seen ? "" : *w->failure ? w->failure : "no checker saw it");
        msim_free(w);
    }
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 20, seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

    log_set_level(getenv("RAFT_SIM_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    (void)snprintf(dir, sizeof(dir), "%s/shoal-sim-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                   (int)getpid());
    if (dir_make(dir, 0700, NULL) < 0) {
        printf("not ok manager_sim: no directory %s\n", dir);
        return 1;
    }
    random_worlds("one_manager", 1, seed ? seed : 1, seed ? 1 : seeds);
    random_worlds("three_managers", 3, seed ? seed : 1, seed ? 1 : (seeds + 1) / 2);
    if (!seed) {
        crash_at_each_write(seeds);
        planted_faults();
    }
    (void)tree_remove(AT_FDCWD, dir, NULL);
    return all_ok ? 0 : 1;
}
