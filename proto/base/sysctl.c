/* See sysctl.h. */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/sysctl.h"

static const char *const ipc_names[] = {
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
    "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
};

/* It becomes a path below /proc/sys. */
static bool is_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return *name && strspn(name, allowed) == strlen(name) && !strstr(name, "..");
}

enum sysctl_scope sysctl_scope_of(const char *name)
{
    if (!is_name(name))
        return SYSCTL_NO_NAME;
    if (strncmp(name, "net.", 4) == 0)
        return SYSCTL_OF_NETWORK;
    if (strncmp(name, "fs.mqueue.", 10) == 0)
        return SYSCTL_OF_IPC;
    for (size_t i = 0; i < ARRAY_SIZE(ipc_names); i++)
        if (strcmp(name, ipc_names[i]) == 0)
            return SYSCTL_OF_IPC;
    return strcmp(name, "kernel.domainname") == 0 ? SYSCTL_OF_UTS : SYSCTL_OF_KERNEL;
}
