/* What the files of the net thread share (kernel.h).
 *
 *     kernel.c         batches, on the node loop; the thread's queue
 *     kernel_change.c  one change as a netlink message, or as whatever else it takes
 *     kernel_dump.c    reading what there is
 *     kernel_flows.c   connections to be forgotten
 *     kernel_names.c   sockets for names */
#pragma once

#include <pthread.h>

#include "engine/net/kernel.h"
#include "engine/net/nft.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/list.h"

#define KERNEL_PROTOCOL 183 /* of our routes and rules, so that others' are left alone */

enum change_kind {
    CHANGE_IN,        /* number: of a held descriptor; KERNEL_OWN */
    CHANGE_NAMESPACE, /* number */
    CHANGE_BRIDGE,
    CHANGE_VETH,
    CHANGE_VXLAN,
    CHANGE_MOVE,
    CHANGE_UP,
    CHANGE_LINK,
    CHANGE_MASTER,
    CHANGE_PORT,
    CHANGE_LINK_DELETE,
    CHANGE_ADDRESS,
    CHANGE_ROUTE,
    CHANGE_NEIGHBOUR,
    CHANGE_FDB,
    CHANGE_RULE,
    CHANGE_SYSCTL,
    CHANGE_NFT,
    CHANGE_NFT_TEXT,
    CHANGE_NAMES, /* number */
    CHANGE_FLOWS,
    CHANGE_DUMP
};

enum where { WHERE_HERE, WHERE_OWN, WHERE_HELD };

struct change { /* in the batch's arena, with all texts */
    struct list link;
    enum change_kind kind;
    bool may_fail, remove;
    int number;        /* of a held descriptor, a made namespace or a dump */
    enum where where;  /* of the peer, or where to move */
    const char *name;  /* of the link concerned */
    const char *other; /* new name, master, sysctl's value */
    struct kernel_link self, peer;
    uint8_t self_mac[6], peer_mac[6];
    struct kernel_vxlan vxlan;
    struct kernel_address address, machine;
    struct kernel_route route;
    struct kernel_rule rule;
    struct kernel_flows flows;
    struct nft *nft;   /* owned */
    bool flag, second; /* up; hairpin and isolated */
};

struct kernel_batch {
    struct list link; /* the thread's queue */
    struct mail mail; /* back to the loop */
    struct kernel *kernel;
    struct arena arena;
    struct list changes;
    bool may_fail; /* the next one */
    int *held;     /* duplicates; owned */
    size_t held_count;
    int *made; /* -1: not made, or taken */
    size_t made_count;
    struct kernel_names *names; /* in the arena; -1: not made, or taken */
    size_t name_count;
    struct kernel_dump **dumps; /* in the arena */
    size_t dump_count;
    kernel_done *done;
    void *ctx;
    struct err e;
};

struct kernel_here {   /* the thread's own */
    int own;           /* descriptor of the node's namespace */
    int at;            /* the namespace it is in now; borrowed */
    int route, filter; /* netlink sockets in it; -1: none yet */
    uint32_t sequence;
    struct buf message;
    void *nft_library; /* NULL until a ruleset came as text */
};

/* --- kernel_change.c --- */

int kernel_here_open(struct kernel_here *h, struct err *e);
void kernel_here_close(struct kernel_here *h);
int kernel_here_enter(struct kernel_here *h, int namespace_fd, struct err *e);
/* A netlink socket of NETLINK_ROUTE or NETLINK_NETFILTER in the present namespace. */
int kernel_here_socket(struct kernel_here *h, int protocol, int *ret, struct err *e);
/* Send what is in h->message and wait for the answer to that sequence number; each message on the way, if there are
 * any, goes to `each`. Returns 0, or the kernel's error number (negative). */
int kernel_here_talk(struct kernel_here *h, int fd, uint32_t sequence, void (*each)(void *ctx, const void *message),
                     void *ctx);
int kernel_here_index(struct kernel_here *h, const char *name, int *ret, struct err *e);
int kernel_change(struct kernel_here *h, struct kernel_batch *b, struct change *c, struct err *e);

/* One transaction as text. */
int kernel_here_ruleset(struct kernel_here *h, const char *text, struct err *e);

/* --- kernel_dump.c, kernel_flows.c, kernel_names.c --- */

int kernel_here_dump(struct kernel_here *h, struct arena *a, struct kernel_dump *ret, struct err *e);
int kernel_here_names(struct kernel_here *h, struct kernel_names *ret, struct err *e);
int kernel_here_forget(struct kernel_here *h, const struct kernel_flows *f, struct err *e);
