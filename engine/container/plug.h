/* A container's place in the networks of this machine: from what was asked for (ContainerConfig.endpoints and the
 * network mode) to addresses, and from addresses to interfaces in its network namespace.
 *
 * Addresses are taken before a launch, written down with the container's record (so that a crash does not lose
 * them), and given back when it has ended or could not be launched. Interfaces die with the namespace. */
#pragma once

#include <stdbool.h>

#include "engine/net/network.h"
#include "proto/base/buf.h"
#include "proto/container.pb-c.h"

struct container;
struct engine;

struct plug { /* one thing that is waited for; embedded */
    struct network_waiter waiter;
    struct container *container; /* NULL: the engine closes and has let go of it */
    void (*done)(struct plug *p, const struct err *e);
};

/* Refuse endpoints that cannot be: network mode and endpoints that contradict, addresses and MACs that are none. */
int plug_check(const ContainerConfig *config, struct err *e);

/* Bring its networks up and take its addresses. 0: done. ERR_AGAIN: `done` comes, e->code 0 when it has them. A
 * container without networks of ours has nothing to wait for. */
int plug_prepare(struct plug *p, struct container *c, void (*done)(struct plug *p, const struct err *e),
                 struct err *e);

/* Make its interfaces in this namespace (borrowed for the call). */
void plug_in(struct plug *p, struct container *c, int netns_fd, void (*done)(struct plug *p, const struct err *e));

/* Give its addresses back; nothing happens when it has none. */
void plug_out(struct container *c);

/* After its record was read: the addresses it may still have are taken. */
void plug_restore(struct container *c);

/* The lines of its /etc/hosts that name itself. */
void plug_hosts(const struct container *c, struct buf *out);

/* Whether any container has an address. */
bool containers_use_networks(const struct engine *en);

/* The endpoint it has in this network; NULL: none. */
const NetworkEndpoint *plug_endpoint(const ContainerRecord *record, const char *network_id);

/* Wishes, one after the other: the network mode's first, then further ones. False: there is no such. `config` is
 * NULL where nothing but the network was asked for. */
struct plug_wish {
    const char *network; /* name or id */
    const EndpointConfig *config;
};
bool plug_wish(const ContainerConfig *config, size_t number, struct plug_wish *ret);
