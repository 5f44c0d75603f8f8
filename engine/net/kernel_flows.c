/* Connections that are to be forgotten (kernel.h): the table is read, what fits is deleted one by one. So that the
 * next packet of such a flow is judged as a new one's. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "engine/net/kernel_inside.h"

struct tuple {
    struct kernel_address source, destination;
    uint8_t protocol;
    uint16_t destination_port, source_port;
};

struct found {
    const struct kernel_flows *wanted;
    struct buf deletions; /* one message each, as it is to be sent */
    uint32_t *sequence;
    uint32_t last;
};

static int note_type(const struct nlattr *attribute, void *data)
{
    const struct nlattr **all = data;
    unsigned type = mnl_attr_get_type(attribute);

    if (type <= CTA_MAX)
        all[type] = attribute;
    return MNL_CB_OK;
}

static void take_address(const struct nlattr *attribute, struct kernel_address *ret)
{
    size_t size = attribute ? mnl_attr_get_payload_len(attribute) : 0;

    if (size != 4 && size != 16)
        return;
    *ret = (struct kernel_address){.family = size == 4 ? AF_INET : AF_INET6, .length = (unsigned)size * 8};
    memcpy(ret->bytes, mnl_attr_get_payload(attribute), size);
}

static uint16_t port_of(const struct nlattr *attribute)
{
    return attribute && mnl_attr_get_payload_len(attribute) >= 2 ? ntohs(mnl_attr_get_u16(attribute)) : 0;
}

static void read_tuple(const struct nlattr *attribute, struct tuple *ret)
{
    const struct nlattr *parts[CTA_MAX + 1] = {NULL}, *ip[CTA_MAX + 1] = {NULL}, *proto[CTA_MAX + 1] = {NULL};

    *ret = (struct tuple){0};
    if (!attribute)
        return;
    (void)mnl_attr_parse_nested(attribute, note_type, parts); /* what is not there counts as absent */
    if (parts[CTA_TUPLE_IP])
        (void)mnl_attr_parse_nested(parts[CTA_TUPLE_IP], note_type, ip);
    if (parts[CTA_TUPLE_PROTO])
        (void)mnl_attr_parse_nested(parts[CTA_TUPLE_PROTO], note_type, proto);
    take_address(ip[CTA_IP_V4_SRC] ? ip[CTA_IP_V4_SRC] : ip[CTA_IP_V6_SRC], &ret->source);
    take_address(ip[CTA_IP_V4_DST] ? ip[CTA_IP_V4_DST] : ip[CTA_IP_V6_DST], &ret->destination);
    ret->protocol = proto[CTA_PROTO_NUM] && mnl_attr_get_payload_len(proto[CTA_PROTO_NUM])
                        ? mnl_attr_get_u8(proto[CTA_PROTO_NUM])
                        : 0;
    ret->source_port = port_of(proto[CTA_PROTO_SRC_PORT]);
    ret->destination_port = port_of(proto[CTA_PROTO_DST_PORT]);
}

static bool same(const struct kernel_address *a, const struct kernel_address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, a->family == AF_INET ? 4 : 16) == 0;
}

static bool fits(const struct kernel_flows *f, const struct tuple *original, const struct tuple *reply)
{
    const struct kernel_address *address = f->backend ? &reply->source : &original->destination;
    uint16_t port = f->backend ? reply->source_port : original->destination_port;

    return (!f->protocol || original->protocol == f->protocol) && same(address, &f->address) &&
           (!f->port || port == f->port);
}

static void on_flow(void *ctx, const void *message)
{
    const struct nlmsghdr *m = message;
    struct found *found = ctx;
    const struct nlattr *all[CTA_MAX + 1] = {NULL};
    struct tuple original, reply;

    if (mnl_nlmsg_get_payload_len(m) < sizeof(struct nfgenmsg))
        return;
    (void)mnl_attr_parse(m, sizeof(struct nfgenmsg), note_type, all); /* as above */
    read_tuple(all[CTA_TUPLE_ORIG], &original);
    read_tuple(all[CTA_TUPLE_REPLY], &reply);
    if (!all[CTA_TUPLE_ORIG] || !fits(found->wanted, &original, &reply))
        return;
    struct nlmsghdr *d = mnl_nlmsg_put_header(buf_reserve(&found->deletions, MNL_SOCKET_BUFFER_SIZE));
    d->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    d->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    d->nlmsg_seq = found->last = (*found->sequence)++;
    struct nfgenmsg *head = mnl_nlmsg_put_extra_header(d, sizeof(*head));
    head->nfgen_family = (uint8_t)original.destination.family;
    head->version = NFNETLINK_V0;
    mnl_attr_put(d, CTA_TUPLE_ORIG | NLA_F_NESTED, mnl_attr_get_payload_len(all[CTA_TUPLE_ORIG]),
                 mnl_attr_get_payload(all[CTA_TUPLE_ORIG]));
    if (all[CTA_ZONE])
        mnl_attr_put(d, CTA_ZONE, mnl_attr_get_payload_len(all[CTA_ZONE]), mnl_attr_get_payload(all[CTA_ZONE]));
    buf_added(&found->deletions, d->nlmsg_len);
}

/* One at a time: each answer comes before the next is asked, and one that has ended by itself is no failure. */
static int delete_all(struct kernel_here *h, int fd, const struct found *found)
{
    int failure = 0;

    for (size_t at = 0; at < found->deletions.length;) {
        const struct nlmsghdr *m = (const void *)(buf_bytes(&found->deletions) + at);

        buf_clear(&h->message);
        buf_append(&h->message, m, m->nlmsg_len);
        int rc = kernel_here_talk(h, fd, m->nlmsg_seq, NULL, NULL);
        if (rc != 0 && rc != -ENOENT && !failure)
            failure = rc;
        at += NLMSG_ALIGN(m->nlmsg_len);
    }
    return failure;
}

int kernel_here_forget(struct kernel_here *h, const struct kernel_flows *f, struct err *e)
{
    struct found found = {.wanted = f, .sequence = &h->sequence};
    int fd, rc = kernel_here_socket(h, NETLINK_NETFILTER, &fd, e);

    if (rc < 0)
        return rc;
    buf_clear(&h->message);
    struct nlmsghdr *m = mnl_nlmsg_put_header(buf_reserve(&h->message, MNL_SOCKET_BUFFER_SIZE));
    m->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
    m->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    m->nlmsg_seq = h->sequence++;
    struct nfgenmsg *head = mnl_nlmsg_put_extra_header(m, sizeof(*head));
    head->nfgen_family = (uint8_t)f->address.family;
    head->version = NFNETLINK_V0;
    buf_added(&h->message, m->nlmsg_len);
    rc = kernel_here_talk(h, fd, m->nlmsg_seq, on_flow, &found);
    if (rc == 0)
        rc = delete_all(h, fd, &found);
    buf_fini(&found.deletions);
    return rc == 0 ? 0 : err_number(e, -rc, "forget connections");
}
