/* See restart.h.
 *
 * Nothing is remembered: the tasks of the slot are the history. Attempts are counted per slot and spec version, so
 * that any change of the spec starts anew. With a window, only successors made within it before this task's end
 * count; without one, all since ever. History is kept accordingly (reaper.c). */
#include "manager/orchestrator/restart.h"
#include "manager/index.h"

static bool condition_met(const struct index_task *t)
{
    switch (t->spec->restart_condition) {
    case RESTART_CONDITION__ANY:
        return true;
    case RESTART_CONDITION__ON_FAILURE:
        return t->state != TASK_STATE__COMPLETE;
    case RESTART_CONDITION__NONE:
    default:
        return false;
    }
}

static uint64_t attempts(const struct index_task *ended)
{
    const struct index_spec *spec = ended->spec;
    const struct index_task *t;
    uint64_t count = 0;

    list_each (t, &ended->slot->tasks, by_slot) {
        if (t->spec != spec || !t->restarted || t->number > ended->number)
            continue;
        if (spec->restart_window_ms &&
            (t->created_ms <= ended->state_ms - spec->restart_window_ms || t->created_ms >= ended->state_ms))
            continue;
        count++;
    }
    return count;
}

bool restart_allowed(const struct index_task *t)
{
    if (!condition_met(t))
        return false;
    return !t->spec->restart_attempts || attempts(t) < t->spec->restart_attempts;
}

uint64_t restart_history(const struct index_task *newest)
{
    return newest->spec->restart_attempts ? newest->spec->restart_attempts + 1 : 0;
}
