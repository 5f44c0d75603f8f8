/* Kernel settings by the namespace that holds them: what a container may set. Pure. */
#pragma once

enum sysctl_scope {
    SYSCTL_NO_NAME,   /* no name of a setting at all */
    SYSCTL_OF_KERNEL, /* one for the whole machine: no container may set it */
    SYSCTL_OF_IPC,
    SYSCTL_OF_NETWORK,
    SYSCTL_OF_UTS,
};

enum sysctl_scope sysctl_scope_of(const char *name); /* "net.core.somaxconn" */
