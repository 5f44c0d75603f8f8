/* Whether the managers' stores are equal at equal index (DESIGN.md section 5).
 *
 * Everybody takes the store's digest when it has applied an entry whose index is a multiple of DIGEST_EVERY:
 * batches end there. The leader sends its own to all. A member that finds another one says so to the leader, and
 * waits:
 *
 *     a leader that a majority of voters contradicts    stops: the next one has what they have
 *     a member whose leader still leads after a while    stops: it is the one that differs
 *
 * What a member hears of an index that it has not applied yet is kept until it has. Nothing is decided by entries
 * of a term: the state at an index is one, whoever leads. */
#include "manager/raft/driver.h"
#include "proto/base/log.h"

#define DIGEST_EVERY    256
#define VERDICT_TIMEOUT 4 /* election times, for the leader to stop */

uint64_t digest_room(const struct replica *r)
{
    return DIGEST_EVERY - r->applied % DIGEST_EVERY;
}

static void put(struct digest_list *l, uint64_t index, uint64_t value)
{
    l->all[l->next++ % ARRAY_SIZE(l->all)] = (struct digest){.index = index, .value = value};
}

static const struct digest *find(const struct digest_list *l, uint64_t index)
{
    for (size_t i = 0; i < ARRAY_SIZE(l->all); i++)
        if (l->all[i].index == index && index)
            return &l->all[i];
    return NULL;
}

static void tell(struct replica *r, uint64_t to, uint64_t index, uint64_t value)
{
    struct message m = {.type = MESSAGE_DIGEST, .to = to, .digest = {.index = index, .value = value}};

    send_message(r, ENV_CHANNEL_CONTROL, &m);
}

static void stop(struct replica *r, uint64_t index, uint64_t own, uint64_t theirs)
{
    struct err e;

    err_set(
        &e, ERR_CORRUPT,
        "the store differs from the other managers' at entry %llu (%016llx, theirs %016llx): it cannot be trusted",
        (unsigned long long)index, (unsigned long long)own, (unsigned long long)theirs);
    driver_fail(r, &e);
}

/* Of a member: the leader has another one at an index that we have too. */
static void differ(struct replica *r, uint64_t leader, const struct digest *own, uint64_t theirs)
{
    struct digests *d = &r->digests;

    log_error("the store differs from the leader's", "member=%llu leader=%llu index=%llu",
              (unsigned long long)r->id, (unsigned long long)leader, (unsigned long long)own->index);
    tell(r, leader, own->index, own->value);
    if (d->leader)
        return; /* decided soon */
    d->leader = leader;
    d->term = raft_current_term(&r->guard.core);
    d->until_ms = driver_now(r) + (int64_t)r->election_ms * VERDICT_TIMEOUT;
    d->own = *own;
    d->theirs = theirs;
}

void digest_applied(struct replica *r)
{
    const struct raft_configuration *c = &r->guard.core.configuration;
    const struct digest *heard = find(&r->digests.heard, r->applied);

    if (r->applied % DIGEST_EVERY || !r->events.on_digest)
        return;
    const struct digest own = {.index = r->applied, .value = r->events.on_digest(r->events.ctx)};
    put(&r->digests.mine, own.index, own.value);
    r->digests.against = 0;
    for (unsigned i = 0; driver_leads(r) && i < c->n; i++)
        if (c->servers[i].id != r->id)
            tell(r, c->servers[i].id, own.index, own.value);
    if (heard && heard->value != own.value && !driver_leads(r))
        differ(r, r->digests.heard_from, &own, heard->value);
}

/* Of the leader: a member contradicts. */
static void contradicted(struct replica *r, const struct message *m, const struct digest *own)
{
    struct digests *d = &r->digests;
    uint64_t ids[MESSAGE_MEMBERS_MAX];
    unsigned voters = driver_voters(r, ids), count = 0;

    if (own->index != d->contested) {
        d->contested = own->index;
        d->against = 0;
    }
    for (unsigned i = 0; i < voters; i++) {
        if (ids[i] == m->from)
            d->against |= 1ULL << i;
        count += d->against >> i & 1;
    }
    if (count > voters / 2)
        stop(r, own->index, own->value, m->digest.value);
}

void digest_receive(struct replica *r, const struct message *m)
{
    const struct digest *own = find(&r->digests.mine, m->digest.index);

    if (!own && !driver_leads(r)) {
        put(&r->digests.heard, m->digest.index, m->digest.value);
        r->digests.heard_from = m->from;
    }
    if (!own || own->value == m->digest.value)
        return;
    if (driver_leads(r))
        contradicted(r, m, own);
    else
        differ(r, m->from, own, m->digest.value);
}

void digest_advance(struct replica *r)
{
    struct digests *d = &r->digests;
    uint64_t leader = 0;
    const char *address;

    if (!d->leader || driver_now(r) < d->until_ms)
        return;
    raft_leader(&r->guard.core, (raft_id *)&leader, &address);
    if (leader == d->leader && d->term == raft_current_term(&r->guard.core))
        stop(r, d->own.index, d->own.value, d->theirs);
    d->leader = 0;
}

void digest_forget(struct replica *r)
{
    r->digests = (struct digests){0};
}

int64_t digest_due(const struct replica *r)
{
    return r->digests.leader ? r->digests.until_ms : DRIVER_NEVER;
}
