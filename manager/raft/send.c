/* Messages out and in.
 *
 * The core names a range of entries and we fill it in. One of its messages may hold more than a message of ours:
 * then it becomes several, each with a predecessor of its own; shortening it would not do, since the core counted
 * all of it as sent. Entries that are not in memory any more are read on the bulk lane first (fetch_send). What
 * exceeds the bounds is dropped as a network would: the core finds out and sends it again.
 *
 * Outgoing messages wait in the outbox until the end of the turn, and longer while a vote is being stored. */
#include <stdlib.h>
#include <string.h>

#include "manager/raft/driver.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define SEND_BYTES  (1 << 20)  /* of entries in one message, unless one entry is larger */
#define INBOX_BYTES (16 << 20) /* that wait for a vote to be stored */
#define PEERS_MAX   256

struct peer *peer_of(struct replica *r, uint64_t id)
{
    for (size_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].id == id)
            return &r->peers[i];
    if (r->peer_count == PEERS_MAX) { /* ids are never reused, so the one heard longest ago has left */
        size_t oldest = 0;

        for (size_t i = 1; i < r->peer_count; i++)
            if (r->peers[i].heard_ms < r->peers[oldest].heard_ms)
                oldest = i;
        r->peers[oldest] = (struct peer){.id = id, .heard_ms = -1};
        return &r->peers[oldest];
    }
    r->peers = mem_grow(r->peers, r->peer_count + 1, sizeof(*r->peers));
    r->peers[r->peer_count] = (struct peer){.id = id, .heard_ms = -1};
    return &r->peers[r->peer_count++];
}

/* --- out ------------------------------------------------------------------------------------------ */

void send_message(struct replica *r, enum env_channel channel, struct message *m)
{
    struct outgoing *out = mem_alloc(sizeof(*out));

    m->from = r->id;
    out->to = m->to;
    out->channel = channel;
    message_put(&out->bytes, r->epoch, m);
    list_push(&r->outbox, &out->link);
    driver_wake(r);
}

static const char *address_of(const struct replica *r, uint64_t id)
{
    const struct raft_configuration *c = &r->guard.core.configuration;

    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id)
            return c->servers[i].address;
    return ""; /* not (or no longer) a member: the link it spoke on is all there is */
}

void send_flush(struct replica *r)
{
    struct list *link;

    while ((link = list_pop(&r->outbox))) {
        struct outgoing *out = list_entry(link, struct outgoing, link);

        r->env->send(r->env, out->to, address_of(r, out->to), out->channel, buf_bytes(&out->bytes),
                     out->bytes.length);
        buf_fini(&out->bytes);
        free(out);
    }
}

void send_drop(struct replica *r)
{
    struct list *link;

    while ((link = list_pop(&r->outbox))) {
        struct outgoing *out = list_entry(link, struct outgoing, link);

        buf_fini(&out->bytes);
        free(out);
    }
    while ((link = list_pop(&r->inbox)))
        free(list_entry(link, struct incoming, link));
}

static void send_one(struct replica *r, uint64_t to, uint64_t prev_index, uint64_t prev_term, uint64_t commit,
                     const struct raft_entry *entries, unsigned count)
{
    struct message m = {.type = RAFT_APPEND_ENTRIES, .to = to};

    m.raft.append_entries = (struct raft_append_entries){
        .term = raft_current_term(&r->guard.core),
        .prev_log_index = prev_index,
        .prev_log_term = prev_term,
        .leader_commit = commit,
        .entries = (struct raft_entry *)entries,
        .n_entries = count,
    };
    send_message(r, count ? ENV_CHANNEL_ENTRIES : ENV_CHANNEL_CONTROL, &m);
}

void send_entries(struct replica *r, uint64_t to, uint64_t prev_index, uint64_t prev_term, uint64_t commit,
                  const struct raft_entry *entries, unsigned count)
{
    unsigned sent = 0;

    while (sent < count) {
        unsigned part = 0;
        size_t bytes = 0;

        while (sent + part < count && part < MESSAGE_ENTRIES_MAX &&
               (part == 0 || bytes + message_entry_bytes(entries[sent + part].buf.len) <= SEND_BYTES))
            bytes += message_entry_bytes(entries[sent + part++].buf.len);
        send_one(r, to, prev_index + sent, sent ? entries[sent - 1].term : prev_term, commit, entries + sent, part);
        sent += part;
    }
}

/* Of the entries behind prev send those that are in memory, up to the burst. Returns how many that were; all of
 * them when the burst ended it. */
static uint64_t append_from_memory(struct replica *r, uint64_t to, const struct raft_append_entries *a)
{
    AUTO_FREE
    struct raft_entry *entries = mem_array(a->n_entries, sizeof(*entries));
    unsigned count = 0;
    size_t bytes = 0;

    for (; count < a->n_entries && bytes < SEND_BURST; count++) {
        const struct tail_entry *entry = tail_get(&r->tail, a->prev_log_index + 1 + count);

        if (!entry)
            break;
        bytes += entry->size;
        entries[count] = (struct raft_entry){.term = entry->term, .type = (enum raft_entry_type)entry->type};
        entries[count].buf = (struct raft_buffer){.base = (void *)entry->data, .len = entry->size};
    }
    send_entries(r, to, a->prev_log_index, a->prev_log_term, a->leader_commit, entries, count);
    return bytes < SEND_BURST ? count : a->n_entries;
}

static void send_append(struct replica *r, uint64_t to, const struct raft_append_entries *a)
{
    uint64_t sent;

    if (a->n_entries == 0) {
        send_one(r, to, a->prev_log_index, a->prev_log_term, a->leader_commit, NULL, 0);
        return;
    }
    sent = append_from_memory(r, to, a);
    if (sent < a->n_entries)
        fetch_send(r, to, a->prev_log_index + sent, a->n_entries - sent);
}

void send_core(struct replica *r, const struct raft_message *core)
{
    struct message m = {.type = core->type, .to = core->server_id, .raft = *core};

    switch (core->type) {
    case RAFT_APPEND_ENTRIES:
        send_append(r, core->server_id, &core->append_entries);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        install_offer(r, core->server_id, core->install_snapshot.term);
        return;
    default:
        send_message(r, ENV_CHANNEL_CONTROL, &m);
    }
}

/* --- in ------------------------------------------------------------------------------------------- */

/* What our segments cannot hold no leader of ours can have proposed. */
static bool too_large(const struct replica *r, const struct raft_append_entries *a)
{
    for (unsigned i = 0; i < a->n_entries; i++)
        if (a->entries[i].buf.len > r->entry_max)
            return true;
    return false;
}

static void receive(struct replica *r, struct message *m)
{
    struct peer *peer = peer_of(r, m->from);

    peer->heard_ms = driver_now(r);
    driver_heard(r, m->from);
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        if (too_large(r, &m->raft.append_entries))
            r->stats.refused++;
        else
            guard_receive(&r->guard, &m->raft);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        peer->full = m->raft.append_entries_result.features && m->raft.append_entries_result.capacity == 0;
        guard_receive(&r->guard, &m->raft);
        return;
    case RAFT_REQUEST_VOTE:
        member_heard(r, m->from);
        if (driver_precedes(r, &m->raft.request_vote, m->from))
            return;
        m->raft.request_vote.disrupt_leader |= driver_disrupts(r);
        guard_receive(&r->guard, &m->raft);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        if (!m->raft.request_vote_result.vote_granted)
            r->expired_ms = DRIVER_BEFORE; /* it asks for itself when its turn has come: that is to be heard */
        guard_receive(&r->guard, &m->raft);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        install_receive_offer(r, m);
        return;
    case MESSAGE_READ_ASK:
    case MESSAGE_READ_ANSWER:
        read_receive(r, m);
        return;
    case MESSAGE_PULL:
        install_receive_pull(r, m);
        return;
    case MESSAGE_CHUNK:
        install_receive_chunk(r, m);
        return;
    case MESSAGE_REMOVED:
        member_receive_removed(r, m);
        return;
    case MESSAGE_DIGEST:
        digest_receive(r, m);
        return;
    default:
        guard_receive(&r->guard, &m->raft);
    }
}

static void decode(struct replica *r, uint64_t from, const void *data, size_t size)
{
    struct message m;
    struct err e;

    if (message_get(data, size, r->epoch, from, r->id, &m, &e) < 0) {
        r->stats.refused++;
        log_warn("message of a manager refused", "member=%llu error=\"%s\"", (unsigned long long)from, e.text);
        return;
    }
    receive(r, &m);
    message_fini(&m);
}

void receive_bytes(struct replica *r, uint64_t from, const void *data, size_t size)
{
    if (!driver_holds(r) && list_empty(&r->inbox)) {
        decode(r, from, data, size);
        return;
    }
    if (r->inbox_bytes + size > INBOX_BYTES)
        return; /* lost, as the network may */
    struct incoming *in = mem_alloc(sizeof(*in) + size);
    in->from = from;
    in->size = size;
    memcpy(in->bytes, data, size);
    r->inbox_bytes += size;
    list_push(&r->inbox, &in->link);
}

void receive_waiting(struct replica *r)
{
    while (!driver_holds(r) && !r->failed && !list_empty(&r->inbox)) {
        struct incoming *in = list_entry(list_pop(&r->inbox), struct incoming, link);

        r->inbox_bytes -= in->size;
        decode(r, in->from, in->bytes, in->size);
        free(in);
    }
}
