/* The kernel's networking, seen from the node loop: the net thread and what it is asked to do (DESIGN.md sections 1
 * and 8).
 *
 * One thread calls setns, rtnetlink, nf_tables and conntrack, and no other. It takes batches: changes in order,
 * each in the network namespace that was named before it. A batch ends at its first change that fails, unless that
 * one was allowed to; what was done before stays done (who needs all or nothing undoes it, or lets the reconciler).
 * Batches run one after the other, in the order they were given.
 *
 * Making what is there already and removing what is gone are no errors: every change says how the kernel is to be.
 *
 * On the node loop; `done` comes on it, once, never from inside a call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netinet/in.h>

#include "proto/base/err.h"
#include "proto/wire/mailbox.h"

struct kernel;
struct kernel_batch;
struct nft; /* engine/net/nft.h */

#define KERNEL_NAME  16 /* IFNAMSIZ */
#define KERNEL_ALIAS 256
#define KERNEL_OWN   (-1) /* the node's own network namespace */

/* --- the thread ------------------------------------------------------------------------------------ */

/* `box` is where `done` is delivered: the node loop's. */
int kernel_open(struct mailbox *box, struct kernel **ret, struct err *e);
/* Batches that were given are carried out first. */
void kernel_close(struct kernel *k, void (*closed)(void *ctx), void *ctx);

typedef void kernel_done(void *ctx, const struct err *e, struct kernel_batch *b);

/* Carry it out. In `done` the batch can still be asked (kernel_batch_namespace, kernel_batch_dump); it is freed
 * after the call. */
void kernel_submit(struct kernel *k, struct kernel_batch *b, kernel_done *done, void *ctx);

/* --- batches --------------------------------------------------------------------------------------- */

struct kernel_batch *kernel_batch_new(void);
void kernel_batch_free(struct kernel_batch *b); /* one that is not submitted. NULL is fine */

/* What follows happens in this namespace; the descriptor is duplicated. At first: KERNEL_OWN. */
void kernel_in(struct kernel_batch *b, int namespace_fd);
/* Make a network namespace with its loopback up; what follows happens there. Returns its number, for
 * kernel_batch_namespace. */
unsigned kernel_namespace(struct kernel_batch *b);
/* In `done`: its descriptor, which is the caller's from then on; -1 when it was not made. */
int kernel_batch_namespace(struct kernel_batch *b, unsigned number);

/* The next change may fail; it is logged and the batch goes on. */
void kernel_may_fail(struct kernel_batch *b);

/* --- addresses ------------------------------------------------------------------------------------- */

struct kernel_address {
    int family;      /* AF_INET, AF_INET6; 0: none */
    unsigned length; /* of the prefix; 32 or 128 for one host */
    uint8_t bytes[16];
};

/* "10.0.0.1", "10.0.0.0/24", "fd00::1/64". False when it is none. */
bool kernel_address_parse(const char *text, struct kernel_address *ret);
/* Without the prefix when it is one host's. `ret` has KERNEL_ADDRESS_TEXT bytes. */
#define KERNEL_ADDRESS_TEXT 64
void kernel_address_format(const struct kernel_address *a, char *ret);

/* --- links ----------------------------------------------------------------------------------------- */

struct kernel_link {
    const char *name;
    const char *alias;  /* ifalias: "shoal:<instance>:<id>" */
    const uint8_t *mac; /* 6 bytes; NULL: the kernel's choice */
    unsigned mtu;       /* 0: the kernel's choice */
};

void kernel_bridge(struct kernel_batch *b, const struct kernel_link *link);
/* A pair: `link` here, `peer` in the namespace of peer_fd (KERNEL_OWN: the node's, KERNEL_HERE: this one). */
#define KERNEL_HERE (-2)
void kernel_veth(struct kernel_batch *b, const struct kernel_link *link, const struct kernel_link *peer,
                 int peer_fd);

struct kernel_vxlan {
    uint32_t id;
    uint16_t port;
    struct kernel_address local;
};
/* Its socket stays in this namespace wherever the link moves (kernel_link_move). */
void kernel_vxlan(struct kernel_batch *b, const struct kernel_link *link, const struct kernel_vxlan *vxlan);

void kernel_link_move(struct kernel_batch *b, const char *name, int namespace_fd, const char *new_name);
void kernel_link_up(struct kernel_batch *b, const char *name, bool up);
void kernel_link_change(struct kernel_batch *b, const struct kernel_link *link); /* MAC, MTU, alias as given */
void kernel_link_master(struct kernel_batch *b, const char *name, const char *bridge); /* NULL: none */
/* Of a bridge's port: packets may go back out where they came from; do not talk to other isolated ports. */
void kernel_link_port(struct kernel_batch *b, const char *name, bool hairpin, bool isolated);
void kernel_link_delete(struct kernel_batch *b, const char *name);

/* --- addresses, routes, neighbours, rules ----------------------------------------------------------- */

void kernel_add_address(struct kernel_batch *b, const char *link, const struct kernel_address *a);
void kernel_delete_address(struct kernel_batch *b, const char *link, const struct kernel_address *a);

enum kernel_route_type { KERNEL_UNICAST, KERNEL_LOCAL, KERNEL_UNREACHABLE };

struct kernel_route {
    enum kernel_route_type type;
    struct kernel_address to;  /* length 0: everything, of its family */
    struct kernel_address via; /* family 0: none */
    const char *link;          /* NULL: none */
    uint32_t table;            /* 0: main (local for KERNEL_LOCAL) */
    uint32_t metric;           /* 0: the kernel's */
    bool onlink;
    bool scope_link; /* of a route without `via` to one host behind a link */
};
void kernel_add_route(struct kernel_batch *b, const struct kernel_route *r); /* replaces */
void kernel_delete_route(struct kernel_batch *b, const struct kernel_route *r);

/* Permanent. */
void kernel_add_neighbour(struct kernel_batch *b, const char *link, const struct kernel_address *a,
                          const uint8_t mac[6]);
void kernel_delete_neighbour(struct kernel_batch *b, const char *link, const struct kernel_address *a);
/* Frames for `mac` on a VXLAN link go to this machine. */
void kernel_add_fdb(struct kernel_batch *b, const char *link, const uint8_t mac[6],
                    const struct kernel_address *machine);
void kernel_delete_fdb(struct kernel_batch *b, const char *link, const uint8_t mac[6]);

struct kernel_rule { /* packets whose mark fits look into that table */
    int family;
    uint32_t priority, mark, mask, table;
};
void kernel_add_rule(struct kernel_batch *b, const struct kernel_rule *r);
void kernel_delete_rule(struct kernel_batch *b, const struct kernel_rule *r);

/* --- the rest -------------------------------------------------------------------------------------- */

/* /proc/sys/net/<path> of the namespace: "ipv4/conf/default/proxy_arp". */
void kernel_sysctl(struct kernel_batch *b, const char *path, const char *value);
/* One transaction of nf_tables; taken. */
void kernel_nft(struct kernel_batch *b, struct nft *transaction);
/* A ruleset as text, in nft's language, as one transaction: for what is set up once. */
void kernel_nft_text(struct kernel_batch *b, const char *text);

/* The sockets for names in this namespace (dns.h): UDP, and TCP that listens, both non-blocking, bound to
 * KERNEL_NAMES_ADDRESS at ports of the kernel's choice, and the rules that lead its port 53 there; so containers
 * may bind port 53 themselves. Making them again leads to the new ones. Needs the loopback up. Returns its number.
 */
#define KERNEL_NAMES_ADDRESS "127.0.0.11"
struct kernel_names {
    int udp, tcp;
};
unsigned kernel_names(struct kernel_batch *b);
/* In `done`: the descriptors, which are the caller's from then on; -1 when they were not made. */
struct kernel_names kernel_batch_names(struct kernel_batch *b, unsigned number);

/* Forget the connections whose original destination is `to` (port 0: any) or, with `backend`, those that were
 * translated to it. `protocol` 0: any. */
struct kernel_flows {
    uint8_t protocol;
    struct kernel_address address;
    uint16_t port;
    bool backend;
};
void kernel_forget_flows(struct kernel_batch *b, const struct kernel_flows *f);

/* --- reading --------------------------------------------------------------------------------------- */

struct kernel_seen_link {
    int index, master, peer; /* master, peer: 0 when there is none here */
    char name[KERNEL_NAME], kind[16], alias[KERNEL_ALIAS];
    uint8_t mac[6];
    unsigned mtu;
    bool up;
};
struct kernel_seen_address {
    int link;
    struct kernel_address address;
};
struct kernel_seen_route {
    enum kernel_route_type type;
    bool ours; /* made here */
    struct kernel_address to, via;
    int link;
    uint32_t table, metric;
};
struct kernel_seen_neighbour { /* permanent ones; of a VXLAN link also where its frames go */
    int link;
    struct kernel_address address; /* family 0: an entry of the forwarding table, for `mac` */
    uint8_t mac[6];
    struct kernel_address machine;
};
struct kernel_seen_rule {
    struct kernel_rule rule;
};

struct kernel_dump { /* of one namespace; borrowed from the batch */
    struct kernel_seen_link *links;
    struct kernel_seen_address *addresses;
    struct kernel_seen_route *routes; /* whoever made them; local ones of ours alone */
    struct kernel_seen_neighbour *neighbours;
    struct kernel_seen_rule *rules;
    size_t link_count, address_count, route_count, neighbour_count, rule_count;
};

/* Read all of this at that place in the batch. Returns its number for kernel_batch_dump. */
unsigned kernel_dump(struct kernel_batch *b);
const struct kernel_dump *kernel_batch_dump(const struct kernel_batch *b, unsigned number);
