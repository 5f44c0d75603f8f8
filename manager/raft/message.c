/* See message.h. All numbers little-endian.
 *
 *     0  version, type, two zeroes
 *     4  size of the whole message
 *     8  epoch of the cluster        a cluster that was recovered by force refuses the managers it left behind
 *    16  sender's id, 24 receiver's  a message that was led astray by a reused address is refused
 *    32  fields of the type
 *
 * An entry is term, type, three zeroes, size, bytes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/message.h"
#include "manager/raft/segment.h"
#include "proto/base/mem.h"

#define HEADER 32
#define ENTRY  16
#define APPEND (HEADER + 40)

/* --- writing -------------------------------------------------------------------------------------- */

static void add_u64(struct buf *out, uint64_t v)
{
    put_u64((uint8_t *)buf_reserve(out, 8), v);
    buf_added(out, 8);
}

static void add_u32(struct buf *out, uint32_t v)
{
    put_u32((uint8_t *)buf_reserve(out, 4), v);
    buf_added(out, 4);
}

static void put_append(struct buf *out, const struct raft_append_entries *a)
{
    add_u64(out, a->term);
    add_u64(out, a->prev_log_index);
    add_u64(out, a->prev_log_term);
    add_u64(out, a->leader_commit);
    add_u32(out, a->n_entries);
    add_u32(out, 0);
    for (unsigned i = 0; i < a->n_entries; i++) {
        add_u64(out, a->entries[i].term);
        add_u32(out, (uint32_t)a->entries[i].type);
        add_u32(out, (uint32_t)a->entries[i].buf.len);
        buf_append(out, a->entries[i].buf.base, a->entries[i].buf.len);
    }
}

static void put_append_result(struct buf *out, const struct raft_append_entries_result *a)
{
    add_u64(out, a->term);
    add_u64(out, a->rejected);
    add_u64(out, a->last_log_index);
    add_u32(out, a->features);
    add_u32(out, a->capacity);
}

static void put_vote(struct buf *out, const struct raft_request_vote *v)
{
    add_u64(out, v->term);
    add_u64(out, v->candidate_id);
    add_u64(out, v->last_log_index);
    add_u64(out, v->last_log_term);
    add_u32(out, (v->disrupt_leader ? 1u : 0) | (v->pre_vote ? 2u : 0));
}

static void put_vote_result(struct buf *out, const struct raft_request_vote_result *v)
{
    add_u64(out, v->term);
    add_u32(out, (v->vote_granted ? 1u : 0) | (v->pre_vote ? 2u : 0));
    add_u32(out, v->features);
    add_u32(out, v->capacity);
}

static void put_install(struct buf *out, const struct raft_install_snapshot *s, const struct message_offer *offer)
{
    struct raft_buffer conf;

    add_u64(out, s->term);
    add_u64(out, s->last_index);
    add_u64(out, s->last_term);
    add_u64(out, s->conf_index);
    add_u64(out, offer->chunks);
    add_u64(out, offer->bytes);
    add_u32(out, offer->chunk_bytes);
    buf_append(out, offer->digest, sizeof(offer->digest));
    if (raft_configuration_encode(&s->conf, &conf) != 0)
        abort(); /* out of memory */
    add_u32(out, (uint32_t)conf.len);
    buf_append(out, conf.base, conf.len);
    raft_free(conf.base);
}

static void put_timeout_now(struct buf *out, const struct raft_timeout_now *t)
{
    add_u64(out, t->term);
    add_u64(out, t->last_log_index);
    add_u64(out, t->last_log_term);
}

void message_put(struct buf *out, uint64_t epoch, const struct message *m)
{
    size_t start = out->length;
    uint8_t *header = (uint8_t *)buf_reserve(out, HEADER);

    memset(header, 0, HEADER);
    header[0] = MESSAGE_VERSION;
    header[1] = (uint8_t)m->type;
    put_u64(header + 8, epoch);
    put_u64(header + 16, m->from);
    put_u64(header + 24, m->to);
    buf_added(out, HEADER);
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        put_append(out, &m->raft.append_entries);
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        put_append_result(out, &m->raft.append_entries_result);
        break;
    case RAFT_REQUEST_VOTE:
        put_vote(out, &m->raft.request_vote);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        put_vote_result(out, &m->raft.request_vote_result);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        put_install(out, &m->raft.install_snapshot, &m->offer);
        break;
    case RAFT_TIMEOUT_NOW:
        put_timeout_now(out, &m->raft.timeout_now);
        break;
    case MESSAGE_READ_ASK:
    case MESSAGE_READ_ANSWER:
        add_u64(out, m->round.term);
        add_u64(out, m->round.round);
        break;
    case MESSAGE_PULL:
    case MESSAGE_CHUNK:
        add_u64(out, m->chunk.index);
        add_u64(out, m->chunk.number);
        buf_append(out, m->chunk.digest, sizeof(m->chunk.digest));
        if (m->type == MESSAGE_CHUNK)
            buf_append(out, m->chunk.data, m->chunk.size);
        break;
    case MESSAGE_REMOVED:
        add_u64(out, m->removed.term);
        add_u64(out, m->removed.index);
        break;
    case MESSAGE_DIGEST:
        add_u64(out, m->digest.index);
        add_u64(out, m->digest.value);
        break;
    default:
        assert(false);
    }
    put_u32((uint8_t *)buf_bytes(out) + start + 4, (uint32_t)(out->length - start));
}

size_t message_entry_bytes(size_t size)
{
    return ENTRY + size;
}

size_t message_entries_room(void)
{
    return MESSAGE_BYTES_MAX - APPEND;
}

/* --- reading -------------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad; /* asked for more than there is */
};

static const uint8_t *take(struct reader *r, size_t size)
{
    const uint8_t *at = r->at;

    if (size > r->left) {
        r->bad = true;
        return NULL;
    }
    r->at += size;
    r->left -= size;
    return at;
}

static uint64_t take_u64(struct reader *r)
{
    const uint8_t *at = take(r, 8);

    return at ? get_u64(at) : 0;
}

static uint32_t take_u32(struct reader *r)
{
    const uint8_t *at = take(r, 4);

    return at ? get_u32(at) : 0;
}

static unsigned short take_short(struct reader *r) /* written with four bytes */
{
    uint32_t v = take_u32(r);

    r->bad |= v > UINT16_MAX;
    return (unsigned short)v;
}

static uint64_t take_index(struct reader *r)
{
    uint64_t v = take_u64(r);

    r->bad |= v > MESSAGE_INDEX_MAX; /* so that adding to it never wraps */
    return v;
}

int message_check_configuration(const uint8_t *data, size_t size, struct err *e)
{
    struct reader r = {.at = data, .left = size};
    const uint8_t *format = take(&r, 1);
    uint64_t ids[MESSAGE_MEMBERS_MAX], count = take_u64(&r);
    const char *addresses[MESSAGE_MEMBERS_MAX];

    if (r.bad || *format != 1 || count == 0 || count > MESSAGE_MEMBERS_MAX)
        return err_set(e, ERR_INVALID, "configuration of %llu members is not one", (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        ids[i] = take_u64(&r);
        addresses[i] = (const char *)r.at;
        size_t length = strnlen(addresses[i], r.left);

        if (length == r.left || length > MESSAGE_ADDRESS_MAX || ids[i] == 0)
            return err_set(e, ERR_INVALID, "configuration: member %llu has no id or address",
                           (unsigned long long)i);
        (void)take(&r, length + 1);
        const uint8_t *role = take(&r, 1);
        if (!role || *role > RAFT_SPARE)
            return err_set(e, ERR_INVALID, "configuration: member %llu has no role", (unsigned long long)i);
        for (uint64_t k = 0; k < i; k++)
            if (ids[k] == ids[i] || strcmp(addresses[k], addresses[i]) == 0)
                return err_set(e, ERR_INVALID, "configuration: member %llu is there twice",
                               (unsigned long long)ids[i]);
    }
    return r.left < 8 ? 0 : err_set(e, ERR_INVALID, "configuration is followed by %zu bytes", r.left);
}

static int get_entries(struct reader *r, struct raft_append_entries *a, struct err *e)
{
    size_t total = r->left;
    uint64_t term = a->prev_log_term;
    uint8_t *batch, *into;

    if (a->n_entries == 0)
        return 0;
    if (a->n_entries > MESSAGE_ENTRIES_MAX || (size_t)a->n_entries * ENTRY > r->left)
        return err_set(e, ERR_INVALID, "append entries: %u entries do not fit", a->n_entries);
    a->entries = raft_calloc(a->n_entries, sizeof(*a->entries));
    batch = into = raft_malloc(total);
    if (!a->entries || !batch)
        abort();                 /* as mem.h */
    a->entries[0].batch = batch; /* message_fini frees it by this one */
    for (unsigned i = 0; i < a->n_entries; i++) {
        struct raft_entry *entry = &a->entries[i];
        uint64_t entry_term = take_u64(r);
        uint32_t type = take_u32(r), size = take_u32(r);
        const uint8_t *data = take(r, size);

        if (r->bad || size > SEGMENT_ENTRY_MAX)
            return err_set(e, ERR_INVALID, "append entries: entry %u of %u is cut off or too large", i + 1,
                           a->n_entries);
        if (entry_term == 0 || entry_term < term || entry_term > a->term)
            return err_set(e, ERR_INVALID, "append entries: entry %u has term %llu after %llu in a message of %llu",
                           i + 1, (unsigned long long)entry_term, (unsigned long long)term,
                           (unsigned long long)a->term);
        if (type < RAFT_COMMAND || type > RAFT_CHANGE)
            return err_set(e, ERR_INVALID, "append entries: entry %u has type %u", i + 1, type);
        if (type == RAFT_CHANGE) {
            int rc = message_check_configuration(data, size, e);
            if (rc < 0)
                return err_wrap(e, "append entries: entry %u", i + 1);
        }
        memcpy(into, data, size);
        *entry = (struct raft_entry){.term = entry_term, .type = (enum raft_entry_type)type, .batch = batch};
        entry->buf = (struct raft_buffer){.base = into, .len = size};
        into += size;
        term = entry_term;
    }
    return 0;
}

static int get_append(struct reader *r, struct raft_append_entries *a, struct err *e)
{
    a->version = 1;
    a->term = take_index(r);
    a->prev_log_index = take_index(r);
    a->prev_log_term = take_index(r);
    a->leader_commit = take_index(r);
    a->n_entries = take_u32(r);
    if (take_u32(r) != 0 || r->bad)
        return err_set(e, ERR_INVALID, "append entries: is cut off or has a number out of range");
    if (a->term == 0 || (a->prev_log_index > 0) != (a->prev_log_term > 0) || a->prev_log_term > a->term)
        return err_set(e, ERR_INVALID, "append entries: term %llu after entry %llu of term %llu",
                       (unsigned long long)a->term, (unsigned long long)a->prev_log_index,
                       (unsigned long long)a->prev_log_term);
    return get_entries(r, a, e);
}

static int get_vote(struct reader *r, struct message *m, struct err *e)
{
    struct raft_request_vote *v = &m->raft.request_vote;

    v->version = 2;
    v->term = take_index(r);
    v->candidate_id = take_u64(r);
    v->last_log_index = take_index(r);
    v->last_log_term = take_index(r);
    uint32_t flags = take_u32(r);
    v->disrupt_leader = flags & 1;
    v->pre_vote = flags & 2;
    if (flags > 3 || v->term == 0)
        return err_set(e, ERR_INVALID, "request vote: term %llu, flags %x", (unsigned long long)v->term, flags);
    if (v->candidate_id != m->from)
        return err_set(e, ERR_INVALID, "request vote: for member %llu by member %llu",
                       (unsigned long long)v->candidate_id, (unsigned long long)m->from);
    return 0;
}

static int get_install(struct reader *r, struct message *m, struct err *e)
{
    struct raft_install_snapshot *s = &m->raft.install_snapshot;
    struct raft_buffer conf;
    const uint8_t *digest;

    s->version = 1;
    s->term = take_index(r);
    s->last_index = take_index(r);
    s->last_term = take_index(r);
    s->conf_index = take_index(r);
    m->offer.chunks = take_index(r);
    m->offer.bytes = take_index(r);
    m->offer.chunk_bytes = take_u32(r);
    digest = take(r, SHA256_BYTES);
    conf.len = take_u32(r);
    conf.base = (void *)take(r, conf.len);
    if (r->bad)
        return err_set(e, ERR_INVALID, "install snapshot: is cut off or has a number out of range");
    memcpy(m->offer.digest, digest, SHA256_BYTES);
    if (s->term == 0 || s->last_index == 0 || s->last_term == 0 || s->last_term > s->term || s->conf_index == 0 ||
        s->conf_index > s->last_index)
        return err_set(e, ERR_INVALID, "install snapshot: entry %llu of term %llu in term %llu",
                       (unsigned long long)s->last_index, (unsigned long long)s->last_term,
                       (unsigned long long)s->term);
    if (m->offer.chunk_bytes == 0 || m->offer.chunk_bytes > MESSAGE_CHUNK_MAX ||
        m->offer.chunks != (m->offer.bytes + m->offer.chunk_bytes - 1) / m->offer.chunk_bytes)
        return err_set(e, ERR_INVALID, "install snapshot: %llu bytes in %llu chunks of %u",
                       (unsigned long long)m->offer.bytes, (unsigned long long)m->offer.chunks,
                       m->offer.chunk_bytes);
    int rc = message_check_configuration(conf.base, conf.len, e);
    if (rc < 0)
        return err_wrap(e, "install snapshot");
    if (raft_configuration_decode(&conf, &s->conf) == 0)
        return 0;
    raft_configuration_init(&s->conf); /* it was freed */
    return err_set(e, ERR_INVALID, "install snapshot: the configuration cannot be read");
}

static int get_chunk(struct reader *r, struct message *m, struct err *e)
{
    struct message_chunk *c = &m->chunk;

    c->index = take_index(r);
    c->number = take_index(r);
    const uint8_t *digest = take(r, SHA256_BYTES);
    if (r->bad)
        return err_set(e, ERR_INVALID, "%s: is cut off", message_name(m->type));
    memcpy(c->digest, digest, SHA256_BYTES);
    if (m->type == MESSAGE_CHUNK) {
        if (r->left > MESSAGE_CHUNK_MAX)
            return err_set(e, ERR_INVALID, "chunk: %zu bytes are too many", r->left);
        c->size = (uint32_t)r->left;
        c->data = take(r, r->left);
    }
    return 0;
}

static int get_body(struct reader *r, struct message *m, struct err *e)
{
    struct raft_append_entries_result *result = &m->raft.append_entries_result;
    struct raft_request_vote_result *vote = &m->raft.request_vote_result;
    struct raft_timeout_now *now = &m->raft.timeout_now;
    uint32_t flags;

    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        return get_append(r, &m->raft.append_entries, e);
    case RAFT_APPEND_ENTRIES_RESULT:
        result->version = 1;
        result->term = take_index(r);
        result->rejected = take_index(r);
        result->last_log_index = take_index(r);
        result->features = take_short(r);
        result->capacity = take_short(r);
        return 0;
    case RAFT_REQUEST_VOTE:
        return get_vote(r, m, e);
    case RAFT_REQUEST_VOTE_RESULT:
        vote->version = 2;
        vote->term = take_index(r);
        flags = take_u32(r);
        vote->vote_granted = flags & 1;
        vote->pre_vote = flags & 2;
        vote->features = take_short(r);
        vote->capacity = take_short(r);
        return flags > 3 ? err_set(e, ERR_INVALID, "request vote result: flags %x", flags) : 0;
    case RAFT_INSTALL_SNAPSHOT:
        return get_install(r, m, e);
    case RAFT_TIMEOUT_NOW:
        now->version = 1;
        now->term = take_index(r);
        now->last_log_index = take_index(r);
        now->last_log_term = take_index(r);
        return 0;
    case MESSAGE_READ_ASK:
    case MESSAGE_READ_ANSWER:
        m->round.term = take_index(r);
        m->round.round = take_u64(r);
        return 0;
    case MESSAGE_PULL:
    case MESSAGE_CHUNK:
        return get_chunk(r, m, e);
    case MESSAGE_REMOVED:
        m->removed.term = take_index(r);
        m->removed.index = take_index(r);
        return 0;
    case MESSAGE_DIGEST:
        m->digest.index = take_index(r);
        m->digest.value = take_u64(r);
        return 0;
    }
    return err_set(e, ERR_INVALID, "message of type %d is not known", m->type);
}

int message_get(const void *data, size_t size, uint64_t epoch, uint64_t from, uint64_t self, struct message *ret,
                struct err *e)
{
    const uint8_t *header = data;
    struct reader r = {.at = header + HEADER, .left = size - HEADER};
    struct message m = {0};

    if (size < HEADER || size > MESSAGE_BYTES_MAX || get_u32(header + 4) != size)
        return err_set(e, ERR_INVALID, "message of %zu bytes is not whole", size);
    if (header[0] != MESSAGE_VERSION || get_u16(header + 2) != 0)
        return err_set(e, ERR_INVALID, "message of version %d is not known", header[0]);
    if (get_u64(header + 8) != epoch)
        return err_set(e, ERR_INVALID, "message of epoch %llu, not %llu", (unsigned long long)get_u64(header + 8),
                       (unsigned long long)epoch);
    m.type = header[1];
    m.from = get_u64(header + 16);
    m.to = get_u64(header + 24);
    if (m.from == 0 || m.from != from || m.from == self)
        return err_set(e, ERR_INVALID, "message of member %llu came from member %llu", (unsigned long long)m.from,
                       (unsigned long long)from);
    if (m.to != self)
        return err_set(e, ERR_INVALID, "message for member %llu came to member %llu", (unsigned long long)m.to,
                       (unsigned long long)self);
    m.raft.type = (enum raft_message_type)m.type;
    m.raft.server_id = m.from;
    int rc = get_body(&r, &m, e);
    if (rc == 0 && (r.bad || r.left))
        rc = err_set(e, ERR_INVALID, "%s: has the wrong size or a number out of range", message_name(m.type));
    if (rc < 0) {
        message_fini(&m);
        return rc;
    }
    *ret = m;
    return 0;
}

void message_fini(struct message *m)
{
    if (m->type == RAFT_APPEND_ENTRIES && m->raft.append_entries.entries) {
        raft_free(m->raft.append_entries.entries[0].batch);
        raft_free(m->raft.append_entries.entries);
        m->raft.append_entries.entries = NULL;
    } else if (m->type == RAFT_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->raft.install_snapshot.conf);
        raft_configuration_init(&m->raft.install_snapshot.conf);
    }
}

const char *message_name(int type)
{
    static const char *const names[] = {
        [RAFT_APPEND_ENTRIES] = "append entries",
        [RAFT_APPEND_ENTRIES_RESULT] = "append entries result",
        [RAFT_REQUEST_VOTE] = "request vote",
        [RAFT_REQUEST_VOTE_RESULT] = "request vote result",
        [RAFT_INSTALL_SNAPSHOT] = "install snapshot",
        [RAFT_TIMEOUT_NOW] = "timeout now",
        [MESSAGE_READ_ASK] = "read ask",
        [MESSAGE_READ_ANSWER] = "read answer",
        [MESSAGE_PULL] = "pull",
        [MESSAGE_CHUNK] = "chunk",
        [MESSAGE_REMOVED] = "removed",
        [MESSAGE_DIGEST] = "digest",
    };

    return type > 0 && type < (int)ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}
