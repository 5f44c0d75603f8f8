/* Capabilities: which a container gets (bundle.h, bundle_capabilities). Docker's rules: the defaults, what is
 * added, less what is dropped; dropping ALL leaves what is added; adding ALL leaves all but what is dropped;
 * privileged is all. Never more than the kernel and this process could give. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/container/bundle.h"
#include "engine/container/bundle_part.h"
#include "proto/base/capability.h"
#include "proto/base/mem.h"

static const char *const defaults[] = {
    "CHOWN",  "DAC_OVERRIDE", "FSETID",  "FOWNER",           "MKNOD",      "NET_RAW", "SETGID",
    "SETUID", "SETFCAP",      "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",    "AUDIT_WRITE",
};

static int collect(char *const *list, size_t count, const char *field, uint64_t known, uint64_t *ret_mask,
                   bool *ret_all, struct err *e)
{
    *ret_mask = 0;
    *ret_all = false;
    for (size_t i = 0; i < count; i++) {
        uint64_t bit = capability_bit(list[i]);

        if (strcasecmp(list[i], "ALL") == 0) {
            *ret_all = true;
            continue;
        }
        if (!bit)
            return err_set(e, ERR_INVALID, "invalid %s: unknown capability: \"%s\"", field, list[i]);
        if (!(bit & known))
            return err_set(e, ERR_INVALID,
                           "invalid %s: capability not supported by your kernel or not available in the current "
                           "environment: \"%s\"",
                           field, list[i]);
        *ret_mask |= bit;
    }
    return 0;
}

int bundle_capabilities(const HostConfig *host, uint64_t known, uint64_t *ret_mask, struct err *e)
{
    uint64_t add = 0, drop = 0, base = 0;
    bool add_all = false, drop_all = false;
    int rc = host ? collect(host->capability_add, host->n_capability_add, "CapAdd", known, &add, &add_all, e) : 0;

    /* What nobody has cannot be added, but dropping it is no mistake. */
    if (rc == 0 && host)
        rc = collect(host->capability_drop, host->n_capability_drop, "CapDrop", UINT64_MAX, &drop, &drop_all, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
        base |= capability_bit(defaults[i]);
    if (host && host->privileged)
        *ret_mask = known;
    else if (add_all)
        *ret_mask = known & ~drop;
    else if (drop_all)
        *ret_mask = known & add;
    else
        *ret_mask = known & ((base & ~drop) | add);
    return 0;
}
