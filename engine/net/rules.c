/* See rules.h.
 *
 * forward    Established connections go on; containers of one bridge talk if they may; published ports are open;
 *            whatever else would come into a bridge, from outside or from another bridge, is dropped. Internal
 *            networks neither send nor receive.
 * nat        A published port is a map's element: with or without an address of the machine. Only packets to an
 *            address of this machine are looked up. Replies find their way by connection tracking.
 * masquerade What leaves a network; what a container sends to a published port of its own network (else the answer
 *            would not come back this way); and what the machine sends from 127.0.0.1, which is let out to bridges
 *            only for that (route_localnet). In return, nothing from a bridge may name a loopback address. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "engine/net/rules.h"
#include "proto/base/siphash.h"

void rules_table(const char *instance, char ret[RULES_TABLE])
{
    (void)snprintf(ret, RULES_TABLE, "shoal-%08x", (unsigned)siphash(0, 0, instance, strlen(instance)));
}

static const char skeleton[] = "set bridges { type ifname; }\n"
                               "set talking { type ifname . ifname; }\n"
                               "set internal { type ifname; }\n"
                               "set own { type ifname . ipv4_addr; flags interval; }\n"
                               "set masqueraded { type ipv4_addr; flags interval; }\n"
                               "map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
                               "map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . "
                               "inet_service; }\n"
                               "chain admin { }\n"
                               "chain foreign { type filter hook prerouting priority raw; policy accept; }\n"
                               "chain forward { type filter hook forward priority filter; policy accept; }\n"
                               "chain arriving { type nat hook prerouting priority dstnat; policy accept; }\n"
                               "chain local { type nat hook output priority -100; policy accept; }\n"
                               "chain leaving { type nat hook postrouting priority srcnat; policy accept; }\n";

static const struct {
    const char *chain, *rule;
} rules[] = {
    {"foreign", "iifname @bridges ip daddr 127.0.0.0/8 drop"},
    {"forward", "jump admin"},
    {"forward", "iifname != @bridges oifname != @bridges accept"},
    {"forward", "ct state established,related accept"},
    {"forward", "iifname . oifname @talking accept"},
    {"forward", "iifname @internal drop"},
    {"forward", "oifname @internal drop"},
    {"forward", "oifname @bridges ct status dnat accept"},
    {"forward", "oifname @bridges drop"},
    {"arriving", "fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th "
                 "dport map @ports_at"},
    {"arriving", "fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map "
                 "@ports"},
    {"local", "fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport "
              "map @ports_at"},
    {"local", "fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @ports"},
    {"leaving", "oifname @bridges ip saddr 127.0.0.0/8 masquerade"},
    {"leaving", "oifname . ip saddr @own ct status dnat masquerade"},
    {"leaving", "oifname @bridges accept"},
    {"leaving", "ip saddr @masqueraded masquerade"},
};

static const char *const sets[] = {"bridges", "talking", "internal", "own", "masqueraded"};
static const char *const maps[] = {"ports", "ports_at"};

static void add_network(const char *table, const struct rules_network *n, struct buf *out)
{
    char subnet[IPAM_TEXT];

    ipam_subnet_format(&n->subnet, subnet);
    buf_printf(out, "add element inet %s bridges { \"%s\" }\n", table, n->bridge);
    if (n->talks)
        buf_printf(out, "add element inet %s talking { \"%s\" . \"%s\" }\n", table, n->bridge, n->bridge);
    if (n->internal)
        buf_printf(out, "add element inet %s internal { \"%s\" }\n", table, n->bridge);
    buf_printf(out, "add element inet %s own { \"%s\" . %s }\n", table, n->bridge, subnet);
    if (n->masquerade && !n->internal)
        buf_printf(out, "add element inet %s masqueraded { %s }\n", table, subnet);
}

static void add_port(const char *table, const struct rules_port *p, struct buf *out)
{
    char host[IPAM_TEXT], address[IPAM_TEXT];

    ipam_address_format(p->host_address, host);
    ipam_address_format(p->address, address);
    if (p->host_address)
        buf_printf(out, "add element inet %s ports_at { %s . %u . %u : %s . %u }\n", table, host, p->protocol,
                   p->host_port, address, p->port);
    else
        buf_printf(out, "add element inet %s ports { %u . %u : %s . %u }\n", table, p->protocol, p->host_port,
                   address, p->port);
}

void rules_text(const char *table, const struct rules_network *networks, size_t network_count,
                const struct rules_port *ports, size_t port_count, struct buf *out)
{
    buf_printf(out, "table inet %s {\n%s}\n", table, skeleton);
    for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
        if (i == 0 || strcmp(rules[i].chain, rules[i - 1].chain) != 0)
            buf_printf(out, "flush chain inet %s %s\n", table, rules[i].chain);
    for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
        buf_printf(out, "add rule inet %s %s %s\n", table, rules[i].chain, rules[i].rule);
    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
        buf_printf(out, "flush set inet %s %s\n", table, sets[i]);
    for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++)
        buf_printf(out, "flush map inet %s %s\n", table, maps[i]);
    for (size_t i = 0; i < network_count; i++)
        add_network(table, &networks[i], out);
    for (size_t i = 0; i < port_count; i++)
        add_port(table, &ports[i], out);
}
