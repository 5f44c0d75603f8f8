/* Resources: what is refused, and which files of which controller get which value (reference/engine-surface.md
 * sections 3 and 5). The texts are Docker's, since people search for them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/container/bundle_part.h"
#include "proto/base/mem.h"
#include "proto/base/ulimit.h"

#define MEMORY_MIN   (6ll << 20)
#define PERIOD_US    100000ll
#define SHARES_MIN   2
#define SHARES_MAX   262144
#define PROCESSOR_NS 1000000000ll

/* --- processor and memory files -------------------------------------------------------------------- */

static void memory_steps(const HostConfig *h, bool v2, struct step_list *l)
{
    int64_t memory = h->memory_bytes, swap = h->memory_swap_bytes;

    if (memory > 0)
        step_cgroup(l, BUNDLE_MEMORY, v2 ? "memory.max" : "memory.limit_in_bytes", false, "%lld",
                    (long long)memory);
    if (memory > 0 && swap == 0)
        swap = 2 * memory;
    /* Without accounting of swap the files are missing; the limit of memory holds all the same. */
    if (memory > 0 && swap > 0 && v2)
        step_cgroup(l, BUNDLE_MEMORY, "memory.swap.max", true, "%lld", (long long)(swap - memory));
    else if (memory > 0 && swap > 0)
        step_cgroup(l, BUNDLE_MEMORY, "memory.memsw.limit_in_bytes", true, "%lld", (long long)swap);
    if (h->memory_reservation_bytes > 0)
        step_cgroup(l, BUNDLE_MEMORY, v2 ? "memory.low" : "memory.soft_limit_in_bytes", false, "%lld",
                    (long long)h->memory_reservation_bytes);
    if (!v2 && h->has_memory_swappiness && h->memory_swappiness >= 0)
        step_cgroup(l, BUNDLE_MEMORY, "memory.swappiness", true, "%lld", (long long)h->memory_swappiness);
    if (!v2 && h->oom_kill_disable)
        step_cgroup(l, BUNDLE_MEMORY, "memory.oom_control", true, "1");
}

static void processor_steps(const HostConfig *h, bool v2, struct step_list *l)
{
    int64_t shares = h->cpu_shares;
    int64_t period = h->cpu_period_us > 0 ? h->cpu_period_us : PERIOD_US;
    int64_t quota = h->nano_cpus > 0 ? h->nano_cpus * PERIOD_US / PROCESSOR_NS : h->cpu_quota_us;

    if (shares > 0) {
        shares = MIN(MAX(shares, (int64_t)SHARES_MIN), (int64_t)SHARES_MAX);
        if (v2)
            step_cgroup(l, BUNDLE_CPU, "cpu.weight", false, "%lld",
                        (long long)(1 + (shares - SHARES_MIN) * 9999 / (SHARES_MAX - SHARES_MIN)));
        else
            step_cgroup(l, BUNDLE_CPU, "cpu.shares", false, "%lld", (long long)shares);
    }
    if (quota <= 0 && h->cpu_period_us <= 0)
        return;
    if (v2 && quota > 0) {
        step_cgroup(l, BUNDLE_CPU, "cpu.max", false, "%lld %lld", (long long)quota, (long long)period);
        return;
    }
    if (v2) {
        step_cgroup(l, BUNDLE_CPU, "cpu.max", false, "max %lld", (long long)period);
        return;
    }
    step_cgroup(l, BUNDLE_CPU, "cpu.cfs_period_us", false, "%lld", (long long)period);
    if (quota > 0)
        step_cgroup(l, BUNDLE_CPU, "cpu.cfs_quota_us", false, "%lld", (long long)quota);
}

void limits_steps(const HostConfig *h, const struct bundle_kernel *kernel, struct step_list *l)
{
    if (!h)
        return;
    if (kernel->cgroup_there[BUNDLE_MEMORY])
        memory_steps(h, kernel->cgroup_v2[BUNDLE_MEMORY], l);
    if (kernel->cgroup_there[BUNDLE_CPU])
        processor_steps(h, kernel->cgroup_v2[BUNDLE_CPU], l);
    if (kernel->cgroup_there[BUNDLE_CPUSET]) {
        if (h->cpuset_cpus && *h->cpuset_cpus)
            step_cgroup(l, BUNDLE_CPUSET, "cpuset.cpus", false, "%s", h->cpuset_cpus);
        if (h->cpuset_mems && *h->cpuset_mems)
            step_cgroup(l, BUNDLE_CPUSET, "cpuset.mems", false, "%s", h->cpuset_mems);
    }
    if (kernel->cgroup_there[BUNDLE_PIDS] && h->pids_limit > 0)
        step_cgroup(l, BUNDLE_PIDS, "pids.max", false, "%lld", (long long)h->pids_limit);
    if (kernel->cgroup_there[BUNDLE_BLKIO] && h->blkio_weight) {
        /* Which file there is depends on the scheduler that is built in. */
        const char *file = kernel->cgroup_v2[BUNDLE_BLKIO] ? "io.bfq.weight" : "blkio.bfq.weight";

        step_cgroup(l, BUNDLE_BLKIO, file, true, "%u", h->blkio_weight);
        if (!kernel->cgroup_v2[BUNDLE_BLKIO])
            step_cgroup(l, BUNDLE_BLKIO, "blkio.weight", true, "%u", h->blkio_weight);
    }
}

/* --- ulimits --------------------------------------------------------------------------------------- */

int limits_ulimits(const HostConfig *h, struct step_list *l, struct err *e)
{
    for (size_t i = 0; h && i < h->n_ulimits; i++) {
        const Ulimit *u = h->ulimits[i];
        int resource = ulimit_resource(u->name);

        if (resource < 0)
            return err_set(e, ERR_INVALID, "invalid ulimit type: %s", u->name);
        if (u->soft < -1 || u->hard < -1)
            return err_set(e, ERR_INVALID, "invalid ulimit %s: %lld:%lld", u->name, (long long)u->soft,
                           (long long)u->hard);
        if (u->hard != -1 && (u->soft > u->hard || u->soft == -1))
            return err_set(e, ERR_INVALID,
                           "ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
                           (long long)u->soft, (long long)u->hard);
        if (!l)
            continue;
        StepRlimit *s = ARENA_NEW(l->arena, StepRlimit);
        step_rlimit__init(s);
        s->resource = (uint32_t)resource;
        s->soft = u->soft == -1 ? UINT64_MAX : (uint64_t)u->soft;
        s->hard = u->hard == -1 ? UINT64_MAX : (uint64_t)u->hard;
        step_add(l)->rlimit = s;
    }
    return 0;
}

/* --- what is refused ------------------------------------------------------------------------------- */

static int check_memory(const HostConfig *h, struct err *e)
{
    if (h->memory_bytes != 0 && h->memory_bytes < MEMORY_MIN)
        return err_set(e, ERR_INVALID, "Minimum memory limit allowed is 6MB (HostConfig.Memory: %lld)",
                       (long long)h->memory_bytes);
    if (h->memory_bytes == 0 && h->memory_swap_bytes > 0)
        return err_set(e, ERR_INVALID,
                       "You should always set the Memory limit when using Memoryswap limit, see usage "
                       "(HostConfig.MemorySwap: %lld)",
                       (long long)h->memory_swap_bytes);
    if (h->memory_swap_bytes < -1 || (h->memory_swap_bytes > 0 && h->memory_swap_bytes < h->memory_bytes))
        return err_set(e, ERR_INVALID,
                       "Minimum memoryswap limit should be larger than memory limit, see usage "
                       "(HostConfig.MemorySwap: %lld, Memory: %lld)",
                       (long long)h->memory_swap_bytes, (long long)h->memory_bytes);
    if (h->has_memory_swappiness && (h->memory_swappiness < -1 || h->memory_swappiness > 100))
        return err_set(e, ERR_INVALID, "Invalid value: %lld, valid memory swappiness range is 0-100",
                       (long long)h->memory_swappiness);
    if (h->memory_reservation_bytes != 0 && h->memory_reservation_bytes < MEMORY_MIN)
        return err_set(e, ERR_INVALID,
                       "Minimum memory reservation allowed is 6MB (HostConfig.MemoryReservation: %lld)",
                       (long long)h->memory_reservation_bytes);
    if (h->memory_bytes > 0 && h->memory_reservation_bytes > h->memory_bytes)
        return err_set(e, ERR_INVALID,
                       "Minimum memory limit can not be less than memory reservation limit, see usage "
                       "(HostConfig.Memory: %lld, MemoryReservation: %lld)",
                       (long long)h->memory_bytes, (long long)h->memory_reservation_bytes);
    return 0;
}

static int check_processors(const HostConfig *h, const struct bundle_kernel *kernel, struct err *e)
{
    if (h->nano_cpus != 0 && h->cpu_period_us != 0)
        return err_set(e, ERR_INVALID,
                       "Conflicting options: Nano CPUs and CPU Period cannot both be set "
                       "(HostConfig.NanoCpus: %lld, CpuPeriod: %lld)",
                       (long long)h->nano_cpus, (long long)h->cpu_period_us);
    if (h->nano_cpus != 0 && h->cpu_quota_us != 0)
        return err_set(e, ERR_INVALID,
                       "Conflicting options: Nano CPUs and CPU Quota cannot both be set "
                       "(HostConfig.NanoCpus: %lld, CpuQuota: %lld)",
                       (long long)h->nano_cpus, (long long)h->cpu_quota_us);
    if (h->nano_cpus < 0 || (h->nano_cpus > 0 && h->nano_cpus < PROCESSOR_NS / 100) ||
        h->nano_cpus > (int64_t)kernel->processors * PROCESSOR_NS)
        return err_set(e, ERR_INVALID,
                       "range of CPUs is from 0.01 to %u.00, as there are only %u CPUs available "
                       "(HostConfig.NanoCpus: %lld)",
                       kernel->processors, kernel->processors, (long long)h->nano_cpus);
    if (h->cpu_shares < 0)
        return err_set(e, ERR_INVALID, "invalid CPU shares (%lld): value must be a positive integer",
                       (long long)h->cpu_shares);
    if (h->cpu_period_us != 0 && (h->cpu_period_us < 1000 || h->cpu_period_us > 1000000))
        return err_set(e, ERR_INVALID,
                       "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000) "
                       "(HostConfig.CpuPeriod: %lld)",
                       (long long)h->cpu_period_us);
    if (h->cpu_quota_us > 0 && h->cpu_quota_us < 1000)
        return err_set(e, ERR_INVALID,
                       "CPU cfs quota can not be less than 1ms (i.e. 1000) (HostConfig.CpuQuota: %lld)",
                       (long long)h->cpu_quota_us);
    return 0;
}

/* "0-2,7": numbers and ranges; the largest number, or -1 when it is no such list. */
static long list_max(const char *list)
{
    long largest = -1;

    for (const char *at = list; *at;) {
        char *end;
        long from = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        long to = from;

        if (from < 0)
            return -1;
        if (*end == '-') {
            at = end + 1;
            to = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        }
        if (to < from || to > 1 << 20 || (*end && *end != ',') || (*end == ',' && !end[1]))
            return -1;
        largest = MAX(largest, to);
        at = *end ? end + 1 : end;
    }
    return largest;
}

static int check_sets(const HostConfig *h, const struct bundle_kernel *kernel, struct err *e)
{
    if (h->cpuset_cpus && *h->cpuset_cpus) {
        long largest = list_max(h->cpuset_cpus);

        if (largest < 0)
            return err_set(e, ERR_INVALID, "Invalid value %s for cpuset cpus", h->cpuset_cpus);
        if (largest >= (long)kernel->processors)
            return err_set(e, ERR_INVALID, "Requested CPUs are not available - requested %s, available: 0-%u",
                           h->cpuset_cpus, kernel->processors - 1);
    }
    if (h->cpuset_mems && *h->cpuset_mems && list_max(h->cpuset_mems) < 0)
        return err_set(e, ERR_INVALID, "Invalid value %s for cpuset mems", h->cpuset_mems);
    return 0;
}

static int check_rest(const HostConfig *h, struct err *e)
{
    if (h->blkio_weight != 0 && (h->blkio_weight < 10 || h->blkio_weight > 1000))
        return err_set(e, ERR_INVALID, "Range of blkio weight is from 10 to 1000 (HostConfig.BlkioWeight: %u)",
                       h->blkio_weight);
    if (h->oom_score_adj < -1000 || h->oom_score_adj > 1000)
        return err_set(e, ERR_INVALID, "Invalid value %lld, range for oom score adj is [-1000, 1000]",
                       (long long)h->oom_score_adj);
    if (h->shm_size_bytes < 0)
        return err_set(e, ERR_INVALID, "SHM size can not be less than 0 (HostConfig.ShmSize: %lld)",
                       (long long)h->shm_size_bytes);
    return limits_ulimits(h, NULL, e);
}

/* What the machine lacks does not refuse a container: the limit has no effect, and that is said. */
static void warn_missing(const HostConfig *h, const struct bundle_kernel *kernel, struct arena *a, char ***warnings,
                         size_t *count)
{
    const struct {
        enum bundle_controller controller;
        bool wanted;
        const char *what;
    } limits[] = {
        {BUNDLE_MEMORY, h->memory_bytes || h->memory_reservation_bytes, "memory limit"},
        {BUNDLE_CPU, h->cpu_shares || h->nano_cpus || h->cpu_period_us || h->cpu_quota_us, "CPU limit"},
        {BUNDLE_CPUSET, (h->cpuset_cpus && *h->cpuset_cpus) || (h->cpuset_mems && *h->cpuset_mems), "cpuset"},
        {BUNDLE_PIDS, h->pids_limit > 0, "PIDs limit"},
        {BUNDLE_BLKIO, h->blkio_weight != 0, "Block I/O weight"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
        if (limits[i].wanted && !kernel->cgroup_there[limits[i].controller])
            warn(a, warnings, count,
                 "Your kernel does not support %s capabilities or the cgroup is not mounted. Limitation discarded.",
                 limits[i].what);
    if (h->has_memory_swappiness && h->memory_swappiness >= 0 && kernel->cgroup_v2[BUNDLE_MEMORY])
        warn(a, warnings, count, "Memory swappiness has no effect with cgroup v2.");
    if (h->oom_kill_disable && kernel->cgroup_v2[BUNDLE_MEMORY])
        warn(a, warnings, count, "OomKillDisable has no effect with cgroup v2.");
    else if (h->oom_kill_disable && h->memory_bytes == 0)
        warn(a, warnings, count,
             "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
             "running out of resources.");
}

int limits_check(const HostConfig *h, const struct bundle_kernel *kernel, struct arena *a, char ***warnings,
                 size_t *warning_count, struct err *e)
{
    int rc = 0;

    if (!h)
        return 0;
    if ((rc = check_memory(h, e)) < 0 || (rc = check_processors(h, kernel, e)) < 0 ||
        (rc = check_sets(h, kernel, e)) < 0 || (rc = check_rest(h, e)) < 0)
        return rc;
    if (warnings)
        warn_missing(h, kernel, a, warnings, warning_count);
    return 0;
}
