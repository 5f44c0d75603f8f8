/* See link_hello.h. */
#include <string.h>

#include "manager/raft/link_hello.h"
#include "proto/base/arena.h"
#include "proto/link.pb-c.h"

void link_hello_put(struct buf *out, const struct link_hello *h)
{
    LinkHello m = LINK_HELLO__INIT;

    m.from = h->from;
    m.to = h->to;
    m.epoch = h->epoch;
    m.feature_level = h->feature_level;
    m.channel = h->channel;
    m.address = *h->address ? (char *)h->address : NULL;
    size_t size = link_hello__get_packed_size(&m);
    link_hello__pack(&m, (uint8_t *)buf_reserve(out, size));
    buf_added(out, size);
}

int link_hello_get(const void *data, size_t size, struct link_hello *ret, struct err *e)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    const LinkHello *m = arena_unpack(&a, &link_hello__descriptor, data, size);
    if (!m)
        return err_set(e, ERR_INVALID, "link: its first message of %zu bytes cannot be read", size);
    if (m->from == 0 || m->to == 0)
        return err_set(e, ERR_INVALID, "link: from manager %llu to manager %llu", (unsigned long long)m->from,
                       (unsigned long long)m->to);
    if (m->channel > ENV_CHANNEL_BULK)
        return err_set(e, ERR_INVALID, "link: channel %u is not known", m->channel);
    if (m->address && strlen(m->address) > LINK_ADDRESS_MAX)
        return err_set(e, ERR_INVALID, "link: address of %zu bytes", strlen(m->address));
    *ret = (struct link_hello){.from = m->from,
                               .to = m->to,
                               .epoch = m->epoch,
                               .feature_level = m->feature_level,
                               .channel = (enum env_channel)m->channel};
    if (m->address)
        memcpy(ret->address, m->address, strlen(m->address));
    return 0;
}

int link_hello_check(const struct link_hello *h, uint64_t self, uint64_t epoch, uint32_t feature_level,
                     struct err *e)
{
    if (h->to != self)
        return err_set(e, ERR_PRECONDITION, "this is manager %llu, not %llu: its address is used by another",
                       (unsigned long long)self, (unsigned long long)h->to);
    if (h->from == self)
        return err_set(e, ERR_PRECONDITION, "manager %llu is this one", (unsigned long long)self);
    if (h->epoch < epoch)
        return err_set(e, ERR_PRECONDITION,
                       "manager %llu is of epoch %llu: a new cluster was forced without it (epoch %llu)",
                       (unsigned long long)h->from, (unsigned long long)h->epoch, (unsigned long long)epoch);
    if (h->epoch > epoch)
        return err_set(e, ERR_PRECONDITION,
                       "manager %llu is of epoch %llu: a new cluster was forced without this one (epoch %llu)",
                       (unsigned long long)h->from, (unsigned long long)h->epoch, (unsigned long long)epoch);
    if (h->feature_level < feature_level)
        return err_set(e, ERR_PRECONDITION,
                       "manager %llu offers feature level %u, the cluster needs %u: its version is too old",
                       (unsigned long long)h->from, h->feature_level, feature_level);
    return 0;
}
