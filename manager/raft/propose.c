/* Proposals and their answers, leadership as the outside sees it, strong reads.
 *
 * Leadership. A core that wins an election leads at once, but it does not know yet what is committed. Every leader
 * therefore has a barrier, an empty entry of its own term: the core's own where it appends one, else ours. Only
 * when that barrier is applied are we announced as leader, and only then are proposals and reads taken.
 *
 * Proposals made in one turn are one step of the core and one write. A proposal is answered when its index is
 * applied and the entry there still has the term it was proposed in; on loss of leadership at once, outcome
 * unknown.
 *
 * Strong reads need no entry: the leader notes its commit index, asks the voters once for all waiting reads whether
 * its term is still theirs, and answers when a majority said so and the index is applied. A majority that has not
 * seen a greater term after the read came in proves that no later leader had committed anything before. */
#include <assert.h>
#include <stdlib.h>

#include "manager/raft/driver.h"
#include "manager/raft/fault.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define PROPOSALS_MAX  16384      /* under way */
#define PROPOSAL_BYTES (12 << 20) /* under way; what the spare segments can always take */
#define SUBMIT_MAX     1024       /* in one step */

void propose_init(struct replica *r)
{
    list_init(&r->propose.queued);
    list_init(&r->propose.proposed);
    list_init(&r->propose.answered);
    list_init(&r->reads.waiting);
    list_init(&r->reads.asked);
    list_init(&r->reads.confirmed);
    list_init(&r->reads.answered);
    r->propose.announced = REPLICA_FOLLOWER;
}

bool propose_ready(const struct replica *r)
{
    return driver_leads(r) && r->propose.lead_index && r->applied >= r->propose.lead_index;
}

/* --- answers -------------------------------------------------------------------------------------- */

static void answer_proposal(struct replica *r, struct proposal *p)
{
    r->propose.count--;
    r->propose.bytes -= p->size;
    list_remove(&p->link);
    list_push(&r->propose.answered, &p->link);
}

static void fail_proposals(struct replica *r, struct list *from, int code, const char *why)
{
    while (!list_empty(from)) {
        struct proposal *p = list_first(from, struct proposal, link);

        err_set(&p->e, code, "%s", why);
        answer_proposal(r, p);
    }
}

static void fail_reads(struct replica *r, int code, const char *why)
{
    struct list *from[] = {&r->reads.waiting, &r->reads.asked, &r->reads.confirmed};

    for (size_t i = 0; i < ARRAY_SIZE(from); i++)
        while (!list_empty(from[i])) {
            struct read_request *read = list_first(from[i], struct read_request, link);

            err_set(&read->e, code, "%s", why);
            list_remove(&read->link);
            list_push(&r->reads.answered, &read->link);
        }
}

void propose_cancel(struct replica *r, int code, const char *why)
{
    fail_proposals(r, &r->propose.proposed, code, why);
    fail_proposals(r, &r->propose.queued, code, why);
    fail_reads(r, code, why);
}

static void call_back(struct replica *r)
{
    struct list *link;

    while ((link = list_pop(&r->propose.answered))) {
        struct proposal *p = list_entry(link, struct proposal, link);

        p->done(p->ctx, &p->e, p->e.code ? 0 : p->index);
        buf_fini(&p->data);
        free(p);
    }
    while ((link = list_pop(&r->reads.answered))) {
        struct read_request *read = list_entry(link, struct read_request, link);

        read->done(read->ctx, &read->e);
        free(read);
    }
}

static enum replica_state state_now(const struct replica *r)
{
    if (propose_ready(r))
        return REPLICA_LEADER;
    return r->guard.core.state == RAFT_FOLLOWER ? REPLICA_FOLLOWER : REPLICA_CANDIDATE;
}

void propose_answer(struct replica *r)
{
    call_back(r); /* proposals of a lost term are answered before the loss is told */
    enum replica_state state = state_now(r);
    uint64_t term = raft_current_term(&r->guard.core);
    bool changed = state != r->propose.announced || term != r->propose.announced_term;

    if (r->closing)
        return;
    r->propose.announced = state;
    uint64_t leader = replica_leader(r, NULL);
    if (!changed && leader == r->propose.announced_leader)
        return;
    r->propose.announced_term = term;
    r->propose.announced_leader = leader;
    r->events.on_state(r->events.ctx, state, term);
}

/* --- leadership ----------------------------------------------------------------------------------- */

void propose_state(struct replica *r)
{
    bool leads = driver_leads(r);

    if (r->propose.leading && !leads)
        propose_cancel(r, ERR_UNAVAILABLE, "leadership was lost: the outcome is unknown");
    if (!leads)
        r->propose.lead_index = 0;
    r->propose.leading = leads;
    r->reads.round++; /* answers to an earlier leadership's round count for nothing */
    r->reads.answers = 0;
    driver_wake(r);
}

void propose_entries(struct replica *r, uint64_t index, uint64_t term)
{
    if (driver_leads(r) && !r->propose.lead_index && term == raft_current_term(&r->guard.core))
        r->propose.lead_index = index;
}

static void ensure_barrier(struct replica *r)
{
    static uint8_t nothing[8];
    struct raft_buffer barrier = {.base = nothing, .len = sizeof(nothing)};

    if (r->propose.lead_index == 0) /* the core's own barrier would have come with the step that made it leader */
        (void)guard_submit(&r->guard, RAFT_BARRIER, &barrier, 1, NULL); /* handing over already: never mind */
}

/* --- proposing ------------------------------------------------------------------------------------ */

int replica_blocked(const struct replica *r, struct err *e)
{
    unsigned full = 0, voters;
    uint64_t ids[MESSAGE_MEMBERS_MAX];

    if (r->closing || r->failed || r->propose.announced != REPLICA_LEADER || !propose_ready(r))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    if (r->transfer.active)
        return err_set(e, ERR_UNAVAILABLE, "the leadership is being handed over");
    if (r->full)
        return err_set(e, ERR_UNAVAILABLE, "the disk of the raft log is full");
    voters = driver_voters(r, ids);
    for (size_t i = 0; i < r->peer_count; i++)
        for (unsigned k = 0; k < voters && r->peers[i].full; k++)
            full += ids[k] == r->peers[i].id;
    if (full > (voters - 1) / 2)
        return err_set(e, ERR_UNAVAILABLE, "the disks of most managers are full");
    return 0;
}

int replica_propose(struct replica *r, const void *data, size_t size,
                    void (*done)(void *ctx, const struct err *e, uint64_t index), void *ctx, struct err *e)
{
    int rc = replica_blocked(r, e);

    if (rc < 0)
        return rc;
    if (size > r->entry_max)
        return err_set(e, ERR_LIMIT, "a change of %zu bytes is larger than %zu", size, r->entry_max);
    if (r->propose.count == PROPOSALS_MAX || r->propose.bytes + size > PROPOSAL_BYTES)
        return err_set(e, ERR_LIMIT, "%zu changes of %zu bytes are under way", r->propose.count, r->propose.bytes);
    struct proposal *p = mem_alloc(sizeof(*p));
    buf_append(&p->data, data, size);
    p->size = size;
    p->done = done;
    p->ctx = ctx;
    r->propose.count++;
    r->propose.bytes += size;
    list_push(&r->propose.queued, &p->link);
    driver_wake(r);
    return 0;
}

static bool submit_some(struct replica *r)
{
    struct raft_buffer *data = mem_array(SUBMIT_MAX, sizeof(*data));
    struct list batch = LIST_INIT(batch);
    uint64_t first = r->tail.last + 1, term = raft_current_term(&r->guard.core);
    unsigned count = 0;
    struct err e;

    while (count < SUBMIT_MAX && !list_empty(&r->propose.queued)) {
        struct proposal *p = list_first(&r->propose.queued, struct proposal, link);

        list_remove(&p->link);
        list_push(&batch, &p->link);
        p->index = first + count;
        p->term = term;
        data[count++] = (struct raft_buffer){.base = p->data.data, .len = p->size};
    }
    int rc = guard_submit(&r->guard, RAFT_COMMAND, data, count, &e);
    free(data);
    if (rc < 0) {
        fail_proposals(r, &batch, e.code, e.text);
        return false;
    }
    struct proposal *p;
    list_each (p, &batch, link)
        buf_fini(&p->data); /* the log has it */
    list_splice(&r->propose.proposed, &batch);
    return !driver_holds(r);
}

void propose_advance(struct replica *r)
{
    if (!driver_leads(r))
        return;
    ensure_barrier(r);
    while (!list_empty(&r->propose.queued) && submit_some(r))
        continue;
}

void propose_applied(struct replica *r)
{
    uint64_t upto = FAULT(ANSWER_EARLY) ? r->written : r->applied;

    while (!list_empty(&r->propose.proposed)) {
        struct proposal *p = list_first(&r->propose.proposed, struct proposal, link);

        if (p->index > upto)
            break;
        if (driver_term_of(r, p->index) != p->term)
            err_set(&p->e, ERR_UNAVAILABLE, "another leader's change took its place");
        answer_proposal(r, p);
    }
}

/* --- strong reads --------------------------------------------------------------------------------- */

int replica_read(struct replica *r, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    struct read_request *read;

    if (r->closing || r->failed || r->propose.announced != REPLICA_LEADER || !propose_ready(r))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    read = mem_alloc(sizeof(*read));
    read->done = done;
    read->ctx = ctx;
    list_push(&r->reads.waiting, &read->link);
    driver_wake(r);
    return 0;
}

static void ask(struct replica *r)
{
    uint64_t ids[MESSAGE_MEMBERS_MAX];
    unsigned voters = driver_voters(r, ids);

    r->reads.asked_ms = driver_now(r);
    for (unsigned i = 0; i < voters; i++) {
        struct message m = {.type = MESSAGE_READ_ASK, .to = ids[i]};

        m.round = (struct message_round){.term = raft_current_term(&r->guard.core), .round = r->reads.round};
        if (ids[i] != r->id)
            send_message(r, ENV_CHANNEL_CONTROL, &m);
    }
}

/* Whether a majority of the voters, we among them, said that the round's term is theirs. */
static bool round_won(const struct replica *r)
{
    uint64_t ids[MESSAGE_MEMBERS_MAX];
    unsigned voters = driver_voters(r, ids), agreed = 0;

    for (unsigned i = 0; i < voters; i++) {
        bool yes = ids[i] == r->id;

        for (unsigned k = 0; k < r->reads.answers && !yes; k++)
            yes = r->reads.voters[k] == ids[i];
        agreed += yes;
    }
    return agreed > voters / 2 || FAULT(READ_STALE);
}

void read_advance(struct replica *r)
{
    struct reads *reads = &r->reads;

    if (!driver_leads(r))
        return;
    if (list_empty(&reads->asked) && !list_empty(&reads->waiting)) {
        list_splice(&reads->asked, &reads->waiting);
        reads->round++;
        reads->round_index = r->commit;
        reads->answers = 0;
        ask(r);
    }
    if (!list_empty(&reads->asked)) {
        if (round_won(r)) {
            list_splice(&reads->confirmed, &reads->asked);
            reads->confirmed_index = reads->round_index;
        } else if (driver_now(r) >= reads->asked_ms + r->heartbeat_ms) {
            ask(r); /* some of it was lost */
        }
    }
    if (r->applied >= reads->confirmed_index)
        list_splice(&reads->answered, &reads->confirmed);
    if (!list_empty(&reads->waiting) && list_empty(&reads->asked))
        driver_wake(r);
}

void read_receive(struct replica *r, const struct message *m)
{
    struct reads *reads = &r->reads;

    if (m->type == MESSAGE_READ_ASK) {
        struct message answer = {.type = MESSAGE_READ_ANSWER, .to = m->from, .round = m->round};

        if (m->round.term == raft_current_term(&r->guard.core))
            send_message(r, ENV_CHANNEL_CONTROL, &answer);
        return;
    }
    if (!driver_leads(r) || m->round.term != raft_current_term(&r->guard.core) || m->round.round != reads->round ||
        reads->answers == MESSAGE_MEMBERS_MAX)
        return;
    for (unsigned i = 0; i < reads->answers; i++)
        if (reads->voters[i] == m->from)
            return;
    reads->voters[reads->answers++] = m->from;
    driver_wake(r);
}

int64_t read_due(const struct replica *r)
{
    return list_empty(&r->reads.asked) ? DRIVER_NEVER : r->reads.asked_ms + r->heartbeat_ms;
}
