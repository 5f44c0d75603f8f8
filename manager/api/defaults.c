/* Defaults of a service's spec, shown on demand (spec.h). The planners have the same values where they read specs
 * (manager/index_spec.c); a spec is stored as it was given. */
#include "manager/api/spec.h"
#include "proto/base/message.h"

#define GRACE_NS         10000000000
#define RESTART_DELAY_NS 5000000000
#define MONITOR_NS       5000000000

#define MAKE(a, slot, type, init)        \
    do {                                 \
        if (!(slot)) {                   \
            (slot) = ARENA_NEW(a, type); \
            init(slot);                  \
        }                                \
    } while (0)

static UpdateConfig *fill_update(UpdateConfig *config, struct arena *a)
{
    MAKE(a, config, UpdateConfig, update_config__init);
    MESSAGE_DEFAULT(config, parallelism, 1);
    MESSAGE_DEFAULT(config, failure_action, UPDATE_FAILURE_ACTION__PAUSE_UPDATE);
    MESSAGE_DEFAULT(config, monitor_ns, MONITOR_NS);
    MESSAGE_DEFAULT(config, order, UPDATE_ORDER__STOP_FIRST);
    return config;
}

static void fill_task(TaskSpec *task, struct arena *a)
{
    if (task->container) {
        MESSAGE_DEFAULT(task->container, stop_grace_period_ns, GRACE_NS);
        MAKE(a, task->container->dns, DnsConfig, dns_config__init);
    }
    MAKE(a, task->limits, Resources, resources__init);
    MAKE(a, task->reservations, Resources, resources__init);
    MAKE(a, task->restart, RestartPolicy, restart_policy__init);
    MESSAGE_DEFAULT(task->restart, condition, RESTART_CONDITION__ANY);
    MESSAGE_DEFAULT(task->restart, delay_ns, RESTART_DELAY_NS);
    MESSAGE_DEFAULT(task->restart, max_attempts, 0);
    MAKE(a, task->placement, Placement, placement__init);
}

void spec_insert_defaults(ServiceSpec *spec, struct arena *a)
{
    if (spec->task)
        fill_task(spec->task, a);
    spec->update = fill_update(spec->update, a);
    spec->rollback = fill_update(spec->rollback, a);
    MAKE(a, spec->endpoint, EndpointSpec, endpoint_spec__init);
    MESSAGE_DEFAULT(spec->endpoint, mode, ENDPOINT_MODE__VIP);
}
