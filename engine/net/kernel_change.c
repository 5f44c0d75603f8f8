/* One change on the net thread: the namespace it happens in, the message or file or library that makes it, and
 * which answers of the kernel mean that it is so already (kernel.h).
 *
 * Links are named by their names and looked up when their turn comes, since indexes differ between namespaces and
 * are not known before the link is made. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include "engine/net/kernel_inside.h"
#include "proto/base/mem.h"

#define SEND_BYTES    (16 * 1024 * 1024) /* a transaction of nf_tables is one message to the socket */
#define RECEIVE_BYTES (1 * 1024 * 1024)

#define SYSCTL_BASE "/proc/sys/net/"
#define ANSWER_S    10 /* the kernel answers at once; this is for one that does not */

/* --- the namespace --------------------------------------------------------------------------------- */

int kernel_here_open(struct kernel_here *h, struct err *e)
{
    h->route = h->filter = h->at = -1;
    h->own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (h->own < 0)
        return err_errno(e, "open this node's network namespace");
    h->at = h->own;
    h->sequence = 1;
    return 0;
}

static void close_sockets(struct kernel_here *h)
{
    if (h->route >= 0)
        close(h->route);
    if (h->filter >= 0)
        close(h->filter);
    h->route = h->filter = -1;
}

void kernel_here_close(struct kernel_here *h)
{
    close_sockets(h);
    close(h->own);
    buf_fini(&h->message);
    if (h->nft_library)
        dlclose(h->nft_library);
}

/* A socket keeps its namespace alive, so none outlives the visit. */
int kernel_here_enter(struct kernel_here *h, int namespace_fd, struct err *e)
{
    if (namespace_fd == h->at)
        return 0;
    close_sockets(h);
    if (setns(namespace_fd, CLONE_NEWNET) < 0) {
        h->at = -1; /* wherever it is: the next one enters anew */
        return err_errno(e, "enter a network namespace");
    }
    h->at = namespace_fd;
    return 0;
}

int kernel_here_socket(struct kernel_here *h, int protocol, int *ret, struct err *e)
{
    int *slot = protocol == NETLINK_ROUTE ? &h->route : &h->filter;
    int send_bytes = SEND_BYTES, receive_bytes = RECEIVE_BYTES;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    struct timeval patience = {.tv_sec = ANSWER_S};

    if (*slot < 0) {
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

        if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0) {
            err_errno(e, "open a netlink socket");
            if (fd >= 0)
                close(fd);
            return e ? e->code : ERR_IO;
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes,
                         sizeof(send_bytes)); /* large ones fail then */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof(receive_bytes));
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)); /* else it waits for ever */
        *slot = fd;
    }
    *ret = *slot;
    return 0;
}

int kernel_here_talk(struct kernel_here *h, int fd, uint32_t sequence, void (*each)(void *ctx, const void *message),
                     void *ctx)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    char answer[32768] __attribute__((aligned(8)));
    int failure = 0;

    if (sendto(fd, buf_bytes(&h->message), h->message.length, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
        return -errno;
    for (;;) {
        ssize_t size = recv(fd, answer, sizeof(answer), 0);

        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        int left = (int)size;
        for (const struct nlmsghdr *m = (void *)answer; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
            if (m->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *error = mnl_nlmsg_get_payload(m);

                if (mnl_nlmsg_get_payload_len(m) < sizeof(error->error))
                    return -EBADMSG;
                if (!failure)
                    failure = error->error; /* of a transaction the first one says why */
                if (m->nlmsg_seq == sequence)
                    return failure;
            } else if (m->nlmsg_seq != sequence) {
                continue; /* of a talk that was given up */
            } else if (m->nlmsg_type == NLMSG_DONE) {
                return m->nlmsg_flags & NLM_F_DUMP_INTR ? -EAGAIN : 0;
            } else if (each) {
                each(ctx, m);
            }
        }
    }
}

int kernel_here_index(struct kernel_here *h, const char *name, int *ret, struct err *e)
{
    struct ifreq request = {0};
    int fd, rc = kernel_here_socket(h, NETLINK_ROUTE, &fd, e);

    if (rc < 0)
        return rc;
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name); /* one that is cut is not found */
    if (ioctl(fd, SIOCGIFINDEX, &request) < 0)
        return err_errno(e, "link %s", name);
    *ret = request.ifr_ifindex;
    return 0;
}

/* --- messages -------------------------------------------------------------------------------------- */

static struct nlmsghdr *begin(struct kernel_here *h, uint16_t type, uint16_t flags)
{
    buf_clear(&h->message);
    struct nlmsghdr *m = mnl_nlmsg_put_header(buf_reserve(&h->message, MNL_SOCKET_BUFFER_SIZE));
    m->nlmsg_type = type;
    m->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    m->nlmsg_seq = h->sequence++;
    return m;
}

/* Errors that say that it is so already. */
static bool is_so(const struct change *c, int number)
{
    if (!c->remove)
        return number == EEXIST;
    return number == ENOENT || number == ENODEV || number == ESRCH || number == EADDRNOTAVAIL || number == ENXIO;
}

static int finish(struct kernel_here *h, const struct change *c, struct nlmsghdr *m, const char *what,
                  struct err *e)
{
    int fd, rc = kernel_here_socket(h, NETLINK_ROUTE, &fd, e);

    if (rc < 0)
        return rc;
    buf_added(&h->message, m->nlmsg_len);
    rc = kernel_here_talk(h, fd, m->nlmsg_seq, NULL, NULL);
    if (rc == 0 || is_so(c, -rc))
        return 0;
    if (rc == -ENODEV)
        return err_set(e, ERR_NOT_FOUND, "%s %s %s: there is no such link", c->remove ? "remove" : "set up", what,
                       c->name ? c->name : "");
    return err_number(e, -rc, "%s %s%s%s", c->remove ? "remove" : "set up", what, c->name ? " " : "",
                      c->name ? c->name : "");
}

static void put_link(struct nlmsghdr *m, const struct kernel_link *link)
{
    if (link->name)
        mnl_attr_put_strz(m, IFLA_IFNAME, link->name);
    if (link->mac)
        mnl_attr_put(m, IFLA_ADDRESS, 6, link->mac);
    if (link->mtu)
        mnl_attr_put_u32(m, IFLA_MTU, link->mtu);
}

static int where_fd(const struct kernel_here *h, const struct kernel_batch *b, const struct change *c)
{
    switch (c->where) {
    case WHERE_HERE:
        return h->at;
    case WHERE_OWN:
        return h->own;
    case WHERE_HELD:
        return b->held[c->number];
    }
    return -1;
}

static struct nlmsghdr *begin_link(struct kernel_here *h, uint16_t type, uint16_t flags, const char *name)
{
    struct nlmsghdr *m = begin(h, type, flags);

    mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg));
    if (name)
        mnl_attr_put_strz(m, IFLA_IFNAME, name);
    return m;
}

static void put_vxlan(struct nlmsghdr *m, const struct kernel_vxlan *v)
{
    mnl_attr_put_u32(m, IFLA_VXLAN_ID, v->id);
    mnl_attr_put(m, IFLA_VXLAN_PORT, sizeof(uint16_t), &(uint16_t){htons(v->port)});
    mnl_attr_put_u8(m, IFLA_VXLAN_LEARNING, 0);
    if (v->local.family)
        mnl_attr_put(m, v->local.family == AF_INET ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6,
                     v->local.family == AF_INET ? 4 : 16, v->local.bytes);
}

/* The alias can only be given to a link that is there. */
static int give_alias(struct kernel_here *h, const struct change *c, const struct kernel_link *link, struct err *e)
{
    struct nlmsghdr *m = begin_link(h, RTM_SETLINK, 0, link->name);

    mnl_attr_put(m, IFLA_IFALIAS, strlen(link->alias), link->alias);
    return finish(h, c, m, "the alias of link", e);
}

/* A bridge whose MTU was only given when it was made takes that of its ports. */
static int keep_mtu(struct kernel_here *h, const struct change *c, struct err *e)
{
    struct nlmsghdr *m = begin_link(h, RTM_SETLINK, 0, c->self.name);

    mnl_attr_put_u32(m, IFLA_MTU, c->self.mtu);
    return finish(h, c, m, "the MTU of link", e);
}

static int make_link(struct kernel_here *h, struct kernel_batch *b, struct change *c, struct err *e)
{
    static const char *const kinds[] = {
        [CHANGE_BRIDGE] = "bridge", [CHANGE_VETH] = "veth", [CHANGE_VXLAN] = "vxlan"};
    struct nlmsghdr *m = begin_link(h, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, NULL);

    put_link(m, &c->self);
    struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
    mnl_attr_put_strz(m, IFLA_INFO_KIND, kinds[c->kind]);
    struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
    if (c->kind == CHANGE_VXLAN) {
        put_vxlan(m, &c->vxlan);
    } else if (c->kind == CHANGE_VETH) {
        struct nlattr *peer = mnl_attr_nest_start(m, VETH_INFO_PEER);

        mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg));
        put_link(m, &c->peer);
        if (c->where != WHERE_HERE)
            mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)where_fd(h, b, c));
        mnl_attr_nest_end(m, peer);
    }
    mnl_attr_nest_end(m, data);
    mnl_attr_nest_end(m, info);
    int rc = finish(h, c, m, kinds[c->kind], e);
    if (rc == 0 && c->kind == CHANGE_BRIDGE && c->self.mtu)
        rc = keep_mtu(h, c, e);
    return rc == 0 && c->self.alias ? give_alias(h, c, &c->self, e) : rc;
}

static int change_link(struct kernel_here *h, struct kernel_batch *b, struct change *c, struct err *e)
{
    int rc, index = 0;
    struct nlmsghdr *m;

    switch (c->kind) {
    case CHANGE_LINK_DELETE:
        return finish(h, c, begin_link(h, RTM_DELLINK, 0, c->name), "link", e);
    case CHANGE_LINK:
        m = begin_link(h, RTM_SETLINK, 0, NULL);
        put_link(m, &c->self);
        rc = finish(h, c, m, "link", e);
        return rc == 0 && c->self.alias ? give_alias(h, c, &c->self, e) : rc;
    case CHANGE_UP: {
        m = begin(h, RTM_SETLINK, 0);
        struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));
        info->ifi_change = IFF_UP;
        info->ifi_flags = c->flag ? IFF_UP : 0;
        mnl_attr_put_strz(m, IFLA_IFNAME, c->name);
        return finish(h, c, m, "link", e);
    }
    case CHANGE_MASTER:
        if (c->other && (rc = kernel_here_index(h, c->other, &index, e)) < 0)
            return rc;
        m = begin_link(h, RTM_SETLINK, 0, c->name);
        mnl_attr_put_u32(m, IFLA_MASTER, (uint32_t)index);
        return finish(h, c, m, "the bridge of link", e);
    case CHANGE_PORT: {
        m = begin_link(h, RTM_SETLINK, 0, c->name);
        struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
        mnl_attr_put_strz(m, IFLA_INFO_SLAVE_KIND, "bridge");
        struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_SLAVE_DATA);
        mnl_attr_put_u8(m, IFLA_BRPORT_MODE, c->flag);
        mnl_attr_put_u8(m, IFLA_BRPORT_ISOLATED, c->second);
        mnl_attr_nest_end(m, data);
        mnl_attr_nest_end(m, info);
        return finish(h, c, m, "the port of bridge", e);
    }
    default: /* CHANGE_MOVE: by index, since a new name may come with it */
        rc = kernel_here_index(h, c->name, &index, e);
        if (rc < 0)
            return rc;
        m = begin(h, RTM_SETLINK, 0);
        struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));
        info->ifi_index = index;
        mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)where_fd(h, b, c));
        if (c->other)
            mnl_attr_put_strz(m, IFLA_IFNAME, c->other);
        return finish(h, c, m, "the namespace of link", e);
    }
}

/* --- addresses, routes, neighbours, rules ---------------------------------------------------------- */

static size_t bytes_of(int family)
{
    return family == AF_INET ? 4 : 16;
}

static int change_address(struct kernel_here *h, struct change *c, struct err *e)
{
    int index, rc = kernel_here_index(h, c->name, &index, e);

    if (rc < 0)
        return c->remove ? 0 : rc; /* gone with its link */
    struct nlmsghdr *m =
        begin(h, c->remove ? RTM_DELADDR : RTM_NEWADDR, c->remove ? 0 : NLM_F_CREATE | NLM_F_REPLACE);
    struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(m, sizeof(*a));
    a->ifa_family = (uint8_t)c->address.family;
    a->ifa_prefixlen = (uint8_t)c->address.length;
    a->ifa_index = (uint32_t)index;
    if (c->address.family == AF_INET6)
        a->ifa_flags = IFA_F_NODAD;
    mnl_attr_put(m, IFA_LOCAL, bytes_of(c->address.family), c->address.bytes);
    mnl_attr_put(m, IFA_ADDRESS, bytes_of(c->address.family), c->address.bytes);
    return finish(h, c, m, "an address of link", e);
}

static int change_route(struct kernel_here *h, struct change *c, struct err *e)
{
    static const uint8_t types[] = {
        [KERNEL_UNICAST] = RTN_UNICAST, [KERNEL_LOCAL] = RTN_LOCAL, [KERNEL_UNREACHABLE] = RTN_UNREACHABLE};
    const struct kernel_route *r = &c->route;
    int index = 0, rc = r->link ? kernel_here_index(h, r->link, &index, e) : 0;
    uint32_t table = r->table ? r->table : r->type == KERNEL_LOCAL ? RT_TABLE_LOCAL : RT_TABLE_MAIN;

    if (rc < 0)
        return c->remove ? 0 : rc;
    struct nlmsghdr *m =
        begin(h, c->remove ? RTM_DELROUTE : RTM_NEWROUTE, c->remove ? 0 : NLM_F_CREATE | NLM_F_REPLACE);
    struct rtmsg *head = mnl_nlmsg_put_extra_header(m, sizeof(*head));
    head->rtm_family = (uint8_t)r->to.family;
    head->rtm_dst_len = (uint8_t)r->to.length;
    head->rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC;
    head->rtm_protocol = KERNEL_PROTOCOL;
    head->rtm_type = types[r->type];
    head->rtm_scope = r->type == KERNEL_LOCAL ? RT_SCOPE_HOST : r->scope_link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    head->rtm_flags = r->onlink ? RTNH_F_ONLINK : 0;
    mnl_attr_put_u32(m, RTA_TABLE, table);
    if (r->to.length)
        mnl_attr_put(m, RTA_DST, bytes_of(r->to.family), r->to.bytes);
    if (r->via.family == r->to.family && r->via.family)
        mnl_attr_put(m, RTA_GATEWAY, bytes_of(r->via.family), r->via.bytes);
    if (index)
        mnl_attr_put_u32(m, RTA_OIF, (uint32_t)index);
    if (r->metric)
        mnl_attr_put_u32(m, RTA_PRIORITY, r->metric);
    return finish(h, c, m, "a route", e);
}

static int change_neighbour(struct kernel_here *h, struct change *c, struct err *e)
{
    bool fdb = c->kind == CHANGE_FDB;
    int index, rc = kernel_here_index(h, c->name, &index, e);

    if (rc < 0)
        return c->remove ? 0 : rc;
    struct nlmsghdr *m =
        begin(h, c->remove ? RTM_DELNEIGH : RTM_NEWNEIGH, c->remove ? 0 : NLM_F_CREATE | NLM_F_REPLACE);
    struct ndmsg *n = mnl_nlmsg_put_extra_header(m, sizeof(*n));
    n->ndm_family = (uint8_t)(fdb ? AF_BRIDGE : c->address.family);
    n->ndm_ifindex = index;
    n->ndm_state = NUD_PERMANENT | (fdb ? NUD_NOARP : 0);
    n->ndm_flags = fdb ? NTF_SELF : 0;
    if (fdb || !c->remove)
        mnl_attr_put(m, NDA_LLADDR, 6, c->self_mac);
    if (c->address.family)
        mnl_attr_put(m, NDA_DST, bytes_of(c->address.family), c->address.bytes);
    return finish(h, c, m, fdb ? "the forwarding of link" : "a neighbour of link", e);
}

static int change_rule(struct kernel_here *h, struct change *c, struct err *e)
{
    const struct kernel_rule *r = &c->rule;
    struct nlmsghdr *m = begin(h, c->remove ? RTM_DELRULE : RTM_NEWRULE, c->remove ? 0 : NLM_F_CREATE | NLM_F_EXCL);
    struct fib_rule_hdr *head = mnl_nlmsg_put_extra_header(m, sizeof(*head));

    head->family = (uint8_t)r->family;
    head->action = FR_ACT_TO_TBL;
    head->table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
    mnl_attr_put_u32(m, FRA_TABLE, r->table);
    mnl_attr_put_u32(m, FRA_PRIORITY, r->priority);
    mnl_attr_put_u32(m, FRA_FWMARK, r->mark);
    mnl_attr_put_u32(m, FRA_FWMASK, r->mask);
    mnl_attr_put_u8(m, FRA_PROTOCOL, KERNEL_PROTOCOL);
    return finish(h, c, m, "a rule", e);
}

/* --- the rest -------------------------------------------------------------------------------------- */

static int write_sysctl(const struct change *c, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf(SYSCTL_BASE "%s", c->name);
    size_t size = strlen(c->other);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, c->other, size) != (ssize_t)size)
        return err_errno(e, "set net/%s to %s", c->name, c->other);
    return 0;
}

static int run_transaction(struct kernel_here *h, const struct change *c, struct err *e)
{
    int fd, rc = kernel_here_socket(h, NETLINK_NETFILTER, &fd, e);

    if (rc < 0)
        return rc;
    buf_clear(&h->message);
    uint32_t last = nft_finish(c->nft, h->sequence, &h->message);
    if (last == 0)
        return 0;
    h->sequence = last + 2; /* the end has a number as well */
    rc = kernel_here_talk(h, fd, last, NULL, NULL);
    return rc == 0 ? 0 : err_number(e, -rc, "change %u sets of nf_tables", c->nft->count);
}

/* libnftables is wanted when the first ruleset is set up, and by nobody before. */
int kernel_here_ruleset(struct kernel_here *h, const char *text, struct err *e)
{
    if (!h->nft_library)
        h->nft_library = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!h->nft_library)
        return err_set(e, ERR_UNSUPPORTED, "rules need libnftables.so.1: %s", dlerror());
    void *(*make)(uint32_t flags) = (void *(*)(uint32_t))dlsym(h->nft_library, "nft_ctx_new");
    void (*drop)(void *nft) = (void (*)(void *))dlsym(h->nft_library, "nft_ctx_free");
    int (*run)(void *nft, const char *text) =
        (int (*)(void *, const char *))dlsym(h->nft_library, "nft_run_cmd_from_buffer");
    int (*keep)(void *nft) = (int (*)(void *))dlsym(h->nft_library, "nft_ctx_buffer_error");
    int (*hide)(void *nft) = (int (*)(void *))dlsym(h->nft_library, "nft_ctx_buffer_output");
    const char *(*why)(void *nft) = (const char *(*)(void *))dlsym(h->nft_library, "nft_ctx_get_error_buffer");
    if (!make || !drop || !run || !keep || !hide || !why)
        return err_set(e, ERR_UNSUPPORTED, "libnftables.so.1 lacks what rules need");
    void *nft = make(0);
    if (!nft)
        return err_set(e, ERR_IO, "libnftables cannot be used here");
    keep(nft);
    hide(nft);
    int rc = run(nft, text);
    if (rc) {
        const char *reason = why(nft);

        rc = err_set(e, ERR_IO, "nf_tables: %.*s", reason ? (int)strcspn(reason, "\n") : 0, reason ? reason : "");
    }
    drop(nft);
    return rc;
}

static int make_namespace(struct kernel_here *h, struct kernel_batch *b, const struct change *c, struct err *e)
{
    struct kernel_link lo = {.name = "lo"};
    struct change up = {.kind = CHANGE_UP, .name = lo.name, .flag = true};

    close_sockets(h);
    if (unshare(CLONE_NEWNET) < 0)
        return err_errno(e, "make a network namespace");
    h->at = b->made[c->number] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (h->at < 0)
        return err_errno(e, "open the new network namespace");
    return change_link(h, b, &up, e);
}

int kernel_change(struct kernel_here *h, struct kernel_batch *b, struct change *c, struct err *e)
{
    switch (c->kind) {
    case CHANGE_IN:
        return kernel_here_enter(h, where_fd(h, b, c), e);
    case CHANGE_NAMESPACE:
        return make_namespace(h, b, c, e);
    case CHANGE_BRIDGE:
    case CHANGE_VETH:
    case CHANGE_VXLAN:
        return make_link(h, b, c, e);
    case CHANGE_MOVE:
    case CHANGE_UP:
    case CHANGE_LINK:
    case CHANGE_MASTER:
    case CHANGE_PORT:
    case CHANGE_LINK_DELETE:
        return change_link(h, b, c, e);
    case CHANGE_ADDRESS:
        return change_address(h, c, e);
    case CHANGE_ROUTE:
        return change_route(h, c, e);
    case CHANGE_NEIGHBOUR:
    case CHANGE_FDB:
        return change_neighbour(h, c, e);
    case CHANGE_RULE:
        return change_rule(h, c, e);
    case CHANGE_SYSCTL:
        return write_sysctl(c, e);
    case CHANGE_NFT:
        return run_transaction(h, c, e);
    case CHANGE_NFT_TEXT:
        return kernel_here_ruleset(h, c->name, e);
    case CHANGE_NAMES:
        return kernel_here_names(h, &b->names[c->number], e);
    case CHANGE_FLOWS:
        return kernel_here_forget(h, &c->flows, e);
    case CHANGE_DUMP:
        return kernel_here_dump(h, &b->arena, b->dumps[c->number], e);
    }
    return err_set(e, ERR_INTERNAL, "unknown change %d", c->kind);
}
