/* A world of manager_world.h from its founding to its end: managers, agents and clients live with faults for a
 * while, then all faults stop, everything wanted must come about, then all lose their power, and it must be there
 * again. */
#pragma once

#include "tests/simulation/manager_world.h"

struct scene {
    struct msim_options options;
    enum msim_plant plant;
    int64_t seconds;   /* with faults */
    uint64_t crash_at; /* manager `victim` dies in this operation on its disk, and nothing else goes wrong; 0: no */
    unsigned victim;
    bool force; /* instead of all other faults: all managers but the leader are lost, and it goes on alone */
    void (*on_step)(struct msim *w); /* five times in each of these seconds; NULL: nothing */
};

/* A scene as that seed wants it: how many managers, whether they come and go, how much log they keep. */
struct scene scene_of(uint64_t seed);

/* What failed, if anything did, is in the world, which is the caller's (msim_free). */
struct msim *scene_live(uint64_t seed, const struct scene *scene, const char *dir);
