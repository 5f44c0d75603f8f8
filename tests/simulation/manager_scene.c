/* See manager_scene.h. */
#include "tests/simulation/manager_scene.h"
#include "proto/base/mem.h"

#define SECOND 1000000 /* microseconds */

/* --- what goes wrong -------------------------------------------------------------------------------- */

static void crash_many(struct msim *w)
{
    for (unsigned id = 1; id <= w->manager_count; id++)
        if (msim_chance(w, 60) && w->managers[id].up) {
            msim_crash(w, id, msim_chance(w, 50));
            msim_start_later(w, id);
        }
}

static void disturb_disk(struct msim *w, struct msim_manager *m)
{
    switch (msim_below(w, 5)) {
    case 0: /* full, or with room again */
        m->disk.full = !m->disk.full;
        w->counts.full += m->disk.full;
        break;
    case 1: /* fails, or works again */
        m->disk.broken = !m->disk.broken && msim_chance(w, 30);
        w->counts.broken += m->disk.broken;
        break;
    case 2:
        m->hung = !m->hung && msim_chance(w, 50);
        w->counts.hung += m->hung;
        break;
    case 3:
        m->disk_max_us = m->disk_max_us > 2000 ? 1700 : 5000 + (int64_t)msim_below(w, 150000);
        w->counts.slow_disks += m->disk_max_us > 2000;
        break;
    default:
        m->hung = m->disk.full = m->disk.broken = false;
        break;
    }
}

static void disturb(struct msim *w)
{
    uint64_t id = 1 + msim_below(w, w->manager_count);
    struct msim_manager *m = &w->managers[id];

    switch (msim_below(w, 11)) {
    case 0:
    case 1: /* dies soon, in the middle of something it does with its disk */
        if (m->up && !m->disk.crash_at)
            m->disk.crash_at = m->disk.operations + 1 + msim_below(w, 30);
        break;
    case 2:
        m = msim_chance(w, 50) && msim_leader(w) ? msim_leader(w) : m;
        msim_crash(w, m->id, msim_chance(w, 50));
        msim_start_later(w, m->id);
        break;
    case 3:
    case 4:
        msim_net_disturb(w);
        break;
    case 5:
        disturb_disk(w, m);
        break;
    case 6:
        if (msim_chance(w, 30))
            msim_suspect(w, id);
        break;
    case 7: /* somebody sets the clock */
        m->wall_skew_ms = (int64_t)msim_below(w, 7200000) - 3600000;
        w->counts.wall_steps++;
        break;
    case 8:
        if (msim_chance(w, 20))
            crash_many(w);
        break;
    case 9: /* SIGSTOP, and SIGCONT later */
        m = msim_chance(w, 50) && msim_leader(w) ? msim_leader(w) : m;
        m->paused_until_us = w->now_us + (int64_t)msim_below(w, 5 * SECOND);
        w->counts.paused++;
        break;
    default:
        msim_net_heal(w);
        break;
    }
}

/* --- from the start to the end
 * ------------------------------------------------------------------------------------------- */

static void mend_all(struct msim *w)
{
    w->faults = false;
    msim_net_heal(w);
    for (unsigned id = 1; id <= w->manager_count; id++) {
        struct msim_manager *m = &w->managers[id];

        m->disk.crash_at = 0;
        m->disk.full = m->disk.broken = m->hung = false;
        m->disk_max_us = 1700;
        m->paused_until_us = 0;
        msim_start(w, id);
    }
}

static void restart_all(struct msim *w)
{
    for (unsigned id = 1; id <= w->manager_count; id++)
        msim_crash(w, id, true);
    for (unsigned id = 1; id <= w->manager_count; id++)
        msim_start(w, id);
}

static bool content(struct msim *w, char *why, size_t size)
{
    return people_content(w, why, size) && rivals_content(w, why, size) && clients_content(w, why, size) &&
           agents_content(w, why, size);
}

/* Everything wanted runs, within so many seconds. */
static void await_content(struct msim *w, int seconds, const char *when)
{
    char why[256] = "";

    for (int i = 0; i < seconds && !msim_broken(w) && !content(w, why, sizeof(why)); i++)
        msim_run(w, SECOND);
    if (!msim_broken(w) && !content(w, why, sizeof(why)))
        msim_fail(w, "converge", "%s: %s", when, why);
}

/* Half of the time has passed: the others are lost. It has everything that was acknowledged, since it led. */
static bool lose_all_but_one(struct msim *w)
{
    struct msim_manager *leader = msim_leader(w);
    char why[256];
    uint64_t stale = 0;

    if (!leader || !people_content(w, why, sizeof(why)))
        return false;
    for (unsigned id = 2; id <= w->manager_count; id++)
        if (w->managers[id].up && id != leader->id && msim_chance(w, 50))
            stale = id;
    msim_force(w, leader, stale);
    return true;
}

/* Everything from the start: found, join, live with faults, heal, lose power, be the same. */
struct msim *scene_live(uint64_t seed, const struct scene *scene, const char *dir)
{
    struct msim *w = msim_new(seed, &scene->options, dir);

    bool armed = false;

    w->plant = scene->plant;
    w->faults = w->spoil = true;
    msim_start(w, 1);
    for (int64_t i = 0; i < scene->seconds * 5 && !msim_broken(w); i++) {
        if (scene->crash_at && !armed && w->managers[scene->victim].made) {
            w->managers[scene->victim].disk.crash_at = w->managers[scene->victim].disk.operations + scene->crash_at;
            armed = true;
        }
        msim_run(w, SECOND / 5);
        if (scene->force && i >= scene->seconds * 5 / 2 && !w->counts.forced)
            (void)lose_all_but_one(w);
        else if (!scene->crash_at && !scene->force && i > 5 && msim_chance(w, 35))
            disturb(w);
        if (scene->on_step)
            scene->on_step(w);
    }
    mend_all(w);
    msim_run(w, 2 * SECOND);
    clients_finish(w);
    rivals_finish(w);
    await_content(w, 120, "after the last fault");
    restart_all(w);
    await_content(w, 20, "after all lost power");
    if (!msim_broken(w))
        msim_check_history(w);
    return w;
}

/* A world as that seed wants it. */
struct scene scene_of(uint64_t seed)
{
    static const unsigned managers[] = {1, 3, 3, 3, 3, 5, 5, 5, 7, 2};
    struct scene s = {.seconds = 10};
    struct entropy_seeded pick;

    entropy_seeded_init(&pick, seed ^ 0x5ce7e);
    s.options.managers = managers[entropy_below(&pick.base, ARRAY_SIZE(managers))];
    s.options.churn = entropy_below(&pick.base, 3) == 0;
    s.options.snapshot_bytes = UINT64_C(2048) << entropy_below(&pick.base, 7);
    s.options.segment_bytes = UINT64_C(16384) << entropy_below(&pick.base, 3);
    s.options.orphan_ms = entropy_below(&pick.base, 3) == 0 ? 1500 : 0;
    return s;
}
