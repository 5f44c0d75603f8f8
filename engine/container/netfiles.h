/* What stands in a container's /etc/hosts and /etc/resolv.conf: pure (reference/engine-surface.md section 15). */
#pragma once

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

/* /etc/hosts. `host_file` is the machine's own for network mode "host", else NULL for the usual local names. The
 * extra hosts of the configuration follow. */
void netfiles_hosts(const HostConfig *host, const char *host_file, struct buf *out);

/* /etc/resolv.conf from the machine's (`host_file`, "" when it has none) and the dns options. With a network of its
 * own (`own_network`) a container cannot reach name servers on the machine's loopback: they are left out. */
void netfiles_resolv(const HostConfig *host, const char *host_file, bool own_network, struct buf *out);

/* Refuse addresses, names and options that would not stand in such a file. */
int netfiles_check(const HostConfig *host, struct err *e);
