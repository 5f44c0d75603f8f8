/* See procfs.h. */
#include <stddef.h>
#include <string.h>

#include "engine/container/procfs.h"
#include "proto/base/mem.h"

static const char *const files[] = {
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
};

bool procfs_may_be_covered(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (strcmp(path, files[i]) == 0)
            return true;
    return false;
}
