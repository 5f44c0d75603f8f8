/* What there is in a network namespace (kernel.h): five dumps of rtnetlink, read into the batch's arena.
 *
 * What the kernel sends is checked like anybody's bytes: attributes that are too short count as absent. A dump that
 * the kernel says was disturbed by a change meanwhile is taken again. */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "engine/net/kernel_inside.h"

#define ATTRIBUTES 80 /* of a message, by type; higher ones are skipped */
#define TRIES      5

struct reading {
    struct arena *arena;
    struct kernel_dump *dump;
};

struct attributes {
    const struct nlattr *at[ATTRIBUTES];
};

static int note(const struct nlattr *attribute, void *data)
{
    struct attributes *all = data;
    unsigned type = mnl_attr_get_type(attribute);

    if (type < ATTRIBUTES)
        all->at[type] = attribute;
    return MNL_CB_OK;
}

static void parse(const struct nlmsghdr *m, size_t head, struct attributes *ret)
{
    *ret = (struct attributes){0};
    if (mnl_nlmsg_get_payload_len(m) >= head)
        (void)mnl_attr_parse(m, (unsigned)head, note, ret); /* what was read before it broke counts */
}

static bool has(const struct attributes *a, unsigned type, size_t size)
{
    return a->at[type] && mnl_attr_get_payload_len(a->at[type]) >= size;
}

static uint32_t number(const struct attributes *a, unsigned type)
{
    return has(a, type, 4) ? mnl_attr_get_u32(a->at[type]) : 0;
}

static void copy_text(const struct nlattr *attribute, char *to, size_t size)
{
    if (!attribute)
        return;
    size_t length = strnlen(mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute));
    length = length < size ? length : size - 1;
    memcpy(to, mnl_attr_get_payload(attribute), length);
    to[length] = '\0';
}

static void copy_mac(const struct attributes *a, unsigned type, uint8_t mac[6])
{
    if (has(a, type, 6))
        memcpy(mac, mnl_attr_get_payload(a->at[type]), 6);
}

static bool copy_address(const struct attributes *a, unsigned type, struct kernel_address *ret)
{
    size_t size = a->at[type] ? mnl_attr_get_payload_len(a->at[type]) : 0;

    if (size != 4 && size != 16)
        return false;
    *ret = (struct kernel_address){.family = size == 4 ? AF_INET : AF_INET6, .length = (unsigned)size * 8};
    memcpy(ret->bytes, mnl_attr_get_payload(a->at[type]), size);
    return true;
}

/* --- one message each ------------------------------------------------------------------------------ */

static void on_link(void *ctx, const void *message)
{
    const struct nlmsghdr *m = message;
    struct reading *r = ctx;
    struct attributes a, info = {0};

    if (m->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(m) < sizeof(struct ifinfomsg))
        return;
    const struct ifinfomsg *head = mnl_nlmsg_get_payload(m);
    parse(m, sizeof(*head), &a);
    struct kernel_dump *d = r->dump;
    d->links = arena_append(r->arena, d->links, d->link_count, sizeof(*d->links));
    struct kernel_seen_link *l = &d->links[d->link_count++];
    *l = (struct kernel_seen_link){.index = head->ifi_index, .up = head->ifi_flags & IFF_UP};
    l->master = (int)number(&a, IFLA_MASTER);
    l->peer = a.at[IFLA_LINK_NETNSID] ? 0 : (int)number(&a, IFLA_LINK);
    l->mtu = number(&a, IFLA_MTU);
    copy_text(a.at[IFLA_IFNAME], l->name, sizeof(l->name));
    copy_text(a.at[IFLA_IFALIAS], l->alias, sizeof(l->alias));
    copy_mac(&a, IFLA_ADDRESS, l->mac);
    if (a.at[IFLA_LINKINFO]) {
        (void)mnl_attr_parse_nested(a.at[IFLA_LINKINFO], note, &info); /* as above */
        copy_text(info.at[IFLA_INFO_KIND], l->kind, sizeof(l->kind));
    }
}

static void on_address(void *ctx, const void *message)
{
    const struct nlmsghdr *m = message;
    struct reading *r = ctx;
    struct attributes a;

    if (m->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(m) < sizeof(struct ifaddrmsg))
        return;
    const struct ifaddrmsg *head = mnl_nlmsg_get_payload(m);
    parse(m, sizeof(*head), &a);
    struct kernel_dump *d = r->dump;
    struct kernel_seen_address seen = {.link = (int)head->ifa_index};
    if (!copy_address(&a, IFA_LOCAL, &seen.address) && !copy_address(&a, IFA_ADDRESS, &seen.address))
        return;
    seen.address.length = head->ifa_prefixlen;
    d->addresses = arena_append(r->arena, d->addresses, d->address_count, sizeof(*d->addresses));
    d->addresses[d->address_count++] = seen;
}

static void on_route(void *ctx, const void *message)
{
    const struct nlmsghdr *m = message;
    struct reading *r = ctx;
    struct attributes a;

    if (m->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(m) < sizeof(struct rtmsg))
        return;
    const struct rtmsg *head = mnl_nlmsg_get_payload(m);
    bool ours = head->rtm_protocol == KERNEL_PROTOCOL;
    if (head->rtm_type != RTN_UNICAST && head->rtm_type != RTN_UNREACHABLE &&
        !(ours && head->rtm_type == RTN_LOCAL))
        return;
    parse(m, sizeof(*head), &a);
    struct kernel_dump *d = r->dump;
    struct kernel_seen_route seen = {.ours = ours,
                                     .link = (int)number(&a, RTA_OIF),
                                     .table = a.at[RTA_TABLE] ? number(&a, RTA_TABLE) : head->rtm_table,
                                     .metric = number(&a, RTA_PRIORITY)};
    seen.type = head->rtm_type == RTN_UNICAST ? KERNEL_UNICAST
                : head->rtm_type == RTN_LOCAL ? KERNEL_LOCAL
                                              : KERNEL_UNREACHABLE;
    if (!copy_address(&a, RTA_DST, &seen.to))
        seen.to.family = head->rtm_family;
    seen.to.length = head->rtm_dst_len;
    (void)copy_address(&a, RTA_GATEWAY, &seen.via); /* there may be none */
    d->routes = arena_append(r->arena, d->routes, d->route_count, sizeof(*d->routes));
    d->routes[d->route_count++] = seen;
}

static void on_neighbour(void *ctx, const void *message)
{
    const struct nlmsghdr *m = message;
    struct reading *r = ctx;
    struct attributes a;

    if (m->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(m) < sizeof(struct ndmsg))
        return;
    const struct ndmsg *head = mnl_nlmsg_get_payload(m);
    if (!(head->ndm_state & NUD_PERMANENT))
        return;
    parse(m, sizeof(*head), &a);
    struct kernel_dump *d = r->dump;
    struct kernel_seen_neighbour seen = {.link = head->ndm_ifindex};
    copy_mac(&a, NDA_LLADDR, seen.mac);
    if (!copy_address(&a, NDA_DST, head->ndm_family == AF_BRIDGE ? &seen.machine : &seen.address))
        return; /* a bridge's own */
    d->neighbours = arena_append(r->arena, d->neighbours, d->neighbour_count, sizeof(*d->neighbours));
    d->neighbours[d->neighbour_count++] = seen;
}

static void on_rule(void *ctx, const void *message)
{
    const struct nlmsghdr *m = message;
    struct reading *r = ctx;
    struct attributes a;

    if (m->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(m) < sizeof(struct fib_rule_hdr))
        return;
    const struct fib_rule_hdr *head = mnl_nlmsg_get_payload(m);
    parse(m, sizeof(*head), &a);
    if (!has(&a, FRA_PROTOCOL, 1) || mnl_attr_get_u8(a.at[FRA_PROTOCOL]) != KERNEL_PROTOCOL)
        return;
    struct kernel_dump *d = r->dump;
    struct kernel_seen_rule seen = {.rule = {.family = head->family,
                                             .priority = number(&a, FRA_PRIORITY),
                                             .mark = number(&a, FRA_FWMARK),
                                             .mask = number(&a, FRA_FWMASK),
                                             .table = a.at[FRA_TABLE] ? number(&a, FRA_TABLE) : head->table}};
    d->rules = arena_append(r->arena, d->rules, d->rule_count, sizeof(*d->rules));
    d->rules[d->rule_count++] = seen;
}

/* --- all of them ----------------------------------------------------------------------------------- */

static int ask(struct kernel_here *h, uint16_t type, int family, void (*each)(void *ctx, const void *message),
               struct reading *r, size_t *count, const char *what, struct err *e)
{
    int fd, rc = kernel_here_socket(h, NETLINK_ROUTE, &fd, e);

    if (rc < 0)
        return rc;
    for (int i = 0; i < TRIES; i++) {
        size_t before = *count;

        buf_clear(&h->message);
        struct nlmsghdr *m = mnl_nlmsg_put_header(buf_reserve(&h->message, MNL_SOCKET_BUFFER_SIZE));
        m->nlmsg_type = type;
        m->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        m->nlmsg_seq = h->sequence++;
        ((struct rtgenmsg *)mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg)))->rtgen_family =
            (uint8_t)family;
        buf_added(&h->message, m->nlmsg_len);
        rc = kernel_here_talk(h, fd, m->nlmsg_seq, each, r);
        if (rc == 0)
            return 0;
        if (rc != -EAGAIN)
            break;
        *count = before; /* again from the start */
    }
    return err_number(e, -rc, "read the %s of a network namespace", what);
}

int kernel_here_dump(struct kernel_here *h, struct arena *a, struct kernel_dump *ret, struct err *e)
{
    struct reading r = {.arena = a, .dump = ret};
    int rc = ask(h, RTM_GETLINK, AF_UNSPEC, on_link, &r, &ret->link_count, "links", e);

    if (rc == 0)
        rc = ask(h, RTM_GETADDR, AF_UNSPEC, on_address, &r, &ret->address_count, "addresses", e);
    if (rc == 0)
        rc = ask(h, RTM_GETROUTE, AF_UNSPEC, on_route, &r, &ret->route_count, "routes", e);
    if (rc == 0)
        rc = ask(h, RTM_GETNEIGH, AF_UNSPEC, on_neighbour, &r, &ret->neighbour_count, "neighbours", e);
    if (rc == 0)
        rc = ask(h, RTM_GETNEIGH, AF_BRIDGE, on_neighbour, &r, &ret->neighbour_count, "forwarding", e);
    if (rc == 0)
        rc = ask(h, RTM_GETRULE, AF_UNSPEC, on_rule, &r, &ret->rule_count, "rules", e);
    return rc;
}
