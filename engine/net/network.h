/* Networks of one machine: bridges, their addresses, and the rules between them (reference/engine-surface.md
 * section 15). Records as volumes have them; the kernel's part is made when a network is first needed and made
 * again, all of it, whenever this program starts.
 *
 * The predefined network "bridge" is one of these; "host" and "none" need nothing and are the API's business. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "engine/net/ipam.h"
#include "engine/net/kernel.h"
#include "proto/base/err.h"
#include "proto/base/list.h"
#include "proto/container.pb-c.h"

struct networks;

struct network {
    struct list link;      /* in the order of creation */
    NetworkRecord *record; /* owned */
    struct networks *owner;
    struct ipam_pool pool; /* of its only subnet */
    uint32_t gateway;      /* the bridge's own address; 0: none */
    char bridge[KERNEL_NAME];
    unsigned mtu; /* 0: the kernel's choice */
    bool predefined, talks, masquerade;
    int state;           /* enum network_state */
    struct list waiters; /* of struct network_waiter */
};

enum network_state {
    NETWORK_DOWN,   /* the kernel has nothing of it, as far as we know; the predefined one may have no subnet yet */
    NETWORK_MAKING, /* the net thread is at it */
    NETWORK_UP,
    NETWORK_REMOVING,
};

struct network_waiter { /* embedded by who waits for a network */
    struct list link;
    void (*done)(struct network_waiter *w, const struct err *e); /* e->code 0: it is up */
};

struct networks_config {
    uv_loop_t *loop;
    const char *dir;         /* <data-dir>/networks */
    const char *instance;    /* names what we make in the kernel */
    const char *bridge_id;   /* of the predefined network */
    unsigned settle_ms;      /* records are synced after this long */
    int64_t (*now_ns)(void); /* wall clock */
    void (*on_event)(void *ctx, const char *action, const struct network *n); /* "create", "destroy" */
    void *ctx;
};

int networks_open(const struct networks_config *config, struct networks **ret, struct err *e);

/* Waiters end with ERR_CANCELED. With `remove` everything of ours in the kernel goes: nothing uses it any more. */
void networks_close(struct networks *s, bool remove, void (*closed)(void *ctx), void *ctx);

struct network *networks_next(struct networks *s, const struct network *after); /* NULL: first; NULL at the end */
struct network *network_by_id(struct networks *s, const char *id);              /* NULL: none */
/* By name, id or unique prefix of the id; "network REF not found". */
int network_find(struct networks *s, const char *ref, struct network **ret, struct err *e);

/* Make one. The message is copied; id, time and driver are filled in. `done` comes once, with the network or with
 * what was wrong; errors that show at once are returned. */
typedef void network_created(void *ctx, const struct err *e, struct network *n);
int network_create(struct networks *s, const NetworkRecord *asked, network_created *done, void *ctx, struct err *e);

/* Remove one that nothing uses. What is gone from the records is gone; the kernel follows. */
int network_remove(struct network *n, struct err *e);

/* 0: it is up. ERR_AGAIN: the waiter is told. */
int network_need(struct network *n, struct network_waiter *w);
void network_unwait(struct network_waiter *w); /* `done` does not come any more */

struct kernel *networks_kernel(struct networks *s);

/* "shoal:<instance>:<id>" for a link of ours. `ret` has KERNEL_ALIAS bytes. */
void networks_alias(const struct networks *s, const char *id, char *ret);
