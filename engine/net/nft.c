/* See nft.h. Several changes of elements of one set go into one message, up to MESSAGE_SOFT bytes: that is what
 * makes loading tens of thousands quick. */
#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "engine/net/nft.h"
#include "proto/base/mem.h"

#define MESSAGE_SOFT 30000 /* an attribute's length has 16 bits */

struct nft *nft_new(void)
{
    return mem_alloc(sizeof(struct nft));
}

void nft_free(struct nft *t)
{
    if (!t)
        return;
    buf_fini(&t->bytes);
    free(t);
}

/* --- messages -------------------------------------------------------------------------------------- */

static void pad(struct buf *b)
{
    static const char zeroes[NLA_ALIGNTO];

    buf_append(b, zeroes, (size_t)NLA_ALIGN(b->length) - b->length);
}

static size_t begin_message(struct buf *b, uint16_t type, uint16_t flags, uint8_t family, uint16_t resource)
{
    struct nlmsghdr head = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
    struct nfgenmsg general = {.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
    size_t at = b->length;

    buf_append(b, &head, sizeof(head));
    buf_append(b, &general, sizeof(general));
    return at;
}

static void end_message(struct buf *b, size_t at)
{
    uint32_t length = (uint32_t)(b->length - at);

    memcpy(b->data + at + offsetof(struct nlmsghdr, nlmsg_len), &length, sizeof(length));
}

static void attribute(struct buf *b, uint16_t type, const void *data, size_t size)
{
    struct nlattr head = {.nla_len = (uint16_t)(NLA_HDRLEN + size), .nla_type = type};

    buf_append(b, &head, sizeof(head));
    buf_append(b, data, size);
    pad(b);
}

static size_t open_nest(struct buf *b, uint16_t type)
{
    struct nlattr head = {.nla_type = type | NLA_F_NESTED};
    size_t at = b->length;

    buf_append(b, &head, sizeof(head));
    return at;
}

static void close_nest(struct buf *b, size_t at)
{
    uint16_t length = (uint16_t)(b->length - at);

    memcpy(b->data + at + offsetof(struct nlattr, nla_len), &length, sizeof(length));
}

static void text(struct buf *b, uint16_t type, const char *value)
{
    attribute(b, type, value, strlen(value) + 1);
}

/* --- what is open ---------------------------------------------------------------------------------- */

static void close_list(struct nft *t)
{
    if (!t->open_set)
        return;
    close_nest(&t->bytes, t->open_list);
    end_message(&t->bytes, t->open);
    t->open_set = NULL;
}

/* A message that takes elements of this set: the one that is open, or a new one. */
static void open_list(struct nft *t, int type, const char *set)
{
    uint16_t flags = type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0;

    if (t->open_set && t->open_type == type && strcmp(t->open_set, set) == 0 &&
        t->bytes.length - t->open < MESSAGE_SOFT)
        return;
    close_list(t);
    t->open = begin_message(&t->bytes, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, (uint8_t)t->family, 0);
    t->count++;
    text(&t->bytes, NFTA_SET_ELEM_LIST_TABLE, t->table);
    text(&t->bytes, NFTA_SET_ELEM_LIST_SET, set);
    t->open_list = open_nest(&t->bytes, NFTA_SET_ELEM_LIST_ELEMENTS);
    t->open_type = type;
    t->open_set = set;
}

void nft_in(struct nft *t, int family, const char *table)
{
    close_list(t);
    t->family = family;
    t->table = table;
}

void nft_delete_table(struct nft *t)
{
    close_list(t);
    size_t at = begin_message(&t->bytes, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, 0, (uint8_t)t->family, 0);
    text(&t->bytes, NFTA_TABLE_NAME, t->table);
    end_message(&t->bytes, at);
    t->count++;
}

void nft_flush(struct nft *t, const char *set)
{
    close_list(t);
    size_t at = begin_message(&t->bytes, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM, 0, (uint8_t)t->family, 0);
    text(&t->bytes, NFTA_SET_ELEM_LIST_TABLE, t->table);
    text(&t->bytes, NFTA_SET_ELEM_LIST_SET, set);
    end_message(&t->bytes, at);
    t->count++;
}

/* --- keys ------------------------------------------------------------------------------------------ */

void nft_key_bytes(struct nft_key *k, const void *data, size_t size)
{
    size_t at = (k->size + 3) & ~(size_t)3;

    assert(at + size <= NFT_KEY_MAX);
    memset(k->bytes + k->size, 0, at - k->size);
    memcpy(k->bytes + at, data, size);
    k->size = at + size;
    k->fields++;
}

void nft_key_u8(struct nft_key *k, uint8_t value)
{
    nft_key_bytes(k, &value, sizeof(value));
}

void nft_key_port(struct nft_key *k, uint16_t value)
{
    uint16_t big = htons(value);

    nft_key_bytes(k, &big, sizeof(big));
}

void nft_key_host32(struct nft_key *k, uint32_t value)
{
    nft_key_bytes(k, &value, sizeof(value));
}

void nft_key_big32(struct nft_key *k, uint32_t value)
{
    uint32_t big = htonl(value);

    nft_key_bytes(k, &big, sizeof(big));
}

void nft_key_name(struct nft_key *k, const char *link)
{
    char name[16] = {0};

    assert(strlen(link) < sizeof(name));
    memcpy(name, link, strlen(link));
    nft_key_bytes(k, name, sizeof(name));
}

/* --- elements -------------------------------------------------------------------------------------- */

/* The last field of a concatenation is filled up as the others are. */
static void key_attribute(struct buf *b, uint16_t type, const struct nft_key *key)
{
    uint8_t padded[NFT_KEY_MAX] = {0};
    size_t size = key->fields > 1 ? (key->size + 3) & ~(size_t)3 : key->size;
    size_t at = open_nest(b, type);

    memcpy(padded, key->bytes, key->size);
    attribute(b, NFTA_DATA_VALUE, padded, size);
    close_nest(b, at);
}

static void element(struct nft *t, const struct nft_key *key, const struct nft_key *end, uint32_t flags,
                    const struct nft_key *value)
{
    struct buf *b = &t->bytes;
    uint32_t big = htonl(flags);
    size_t at = open_nest(b, NFTA_LIST_ELEM);

    if (flags)
        attribute(b, NFTA_SET_ELEM_FLAGS, &big, sizeof(big));
    key_attribute(b, NFTA_SET_ELEM_KEY, key);
    if (end)
        key_attribute(b, NFTA_SET_ELEM_KEY_END, end);
    if (value)
        key_attribute(b, NFTA_SET_ELEM_DATA, value);
    close_nest(b, at);
}

void nft_add(struct nft *t, const char *set, const struct nft_key *key, const struct nft_key *value)
{
    open_list(t, NFT_MSG_NEWSETELEM, set);
    element(t, key, NULL, 0, value);
}

void nft_delete(struct nft *t, const char *set, const struct nft_key *key)
{
    open_list(t, NFT_MSG_DELSETELEM, set);
    element(t, key, NULL, 0, NULL);
}

/* The first key behind a range; false: there is none. */
static bool key_after(const struct nft_key *to, struct nft_key *ret)
{
    *ret = *to;
    for (size_t i = ret->size; i-- > 0;)
        if (++ret->bytes[i] != 0)
            return true;
    return false;
}

static void range(struct nft *t, bool concatenated, const struct nft_key *from, const struct nft_key *to,
                  const struct nft_key *value)
{
    struct nft_key after;

    if (concatenated) {
        element(t, from, to, 0, value);
        return;
    }
    element(t, from, NULL, 0, value);
    if (key_after(to, &after))
        element(t, &after, NULL, NFT_SET_ELEM_INTERVAL_END, NULL);
}

void nft_add_range(struct nft *t, const char *set, bool concatenated, const struct nft_key *from,
                   const struct nft_key *to, const struct nft_key *value)
{
    open_list(t, NFT_MSG_NEWSETELEM, set);
    range(t, concatenated, from, to, value);
}

void nft_delete_range(struct nft *t, const char *set, bool concatenated, const struct nft_key *from,
                      const struct nft_key *to)
{
    open_list(t, NFT_MSG_DELSETELEM, set);
    range(t, concatenated, from, to, NULL);
}

/* --- sending --------------------------------------------------------------------------------------- */

uint32_t nft_finish(struct nft *t, uint32_t sequence, struct buf *out)
{
    uint32_t last = 0;
    size_t start = out->length;

    close_list(t);
    if (t->count == 0)
        return 0;
    end_message(out, begin_message(out, NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES));
    buf_append(out, t->bytes.data, t->bytes.length);
    size_t end = begin_message(out, NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES);
    end_message(out, end);
    for (size_t at = start, before = start; at < out->length;) {
        struct nlmsghdr head;

        memcpy(&head, out->data + at, sizeof(head));
        head.nlmsg_seq = sequence++;
        if (at == end) { /* the one before is the last change */
            struct nlmsghdr change;

            memcpy(&change, out->data + before, sizeof(change));
            change.nlmsg_flags |= NLM_F_ACK;
            last = change.nlmsg_seq;
            memcpy(out->data + before, &change, sizeof(change));
        }
        memcpy(out->data + at, &head, sizeof(head));
        before = at;
        at += NLMSG_ALIGN(head.nlmsg_len);
    }
    return last;
}
