/* Launch plans as the keeper sees them: checked whole before anything is done (proto/launch.proto). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/launch.pb-c.h"

#define PLAN_VERSION   1
#define PLAN_STEPS_MAX 4096
#define PLAN_FDS_MAX   250

/* The name of the step that is set ("mount"); "?" for none. */
const char *plan_step_name(const Step *step);

/* Unpack and check a recipe: nothing unknown in it, only steps that a sandbox may have. NULL and an error
 * otherwise.
 */
Recipe *plan_recipe(struct arena *a, const void *data, size_t size, struct err *e);

/* Unpack and check a plan that comes with `fd_count` descriptors, and its recipe (*ret_recipe). */
LaunchPlan *plan_unpack(struct arena *a, const void *data, size_t size, unsigned fd_count, Recipe **ret_recipe,
                        struct err *e);
