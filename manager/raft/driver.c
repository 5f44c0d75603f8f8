/* The driver: what the guarded core asks for is done here, and what happened outside is told to it.
 *
 * A turn. Messages and finished writes go to the core as they come, unless a vote is being stored. Everything else
 * happens in turn(), once per wake-up of the loop however much happened before: proposals that came together are
 * one step and one write, answers and callbacks come from here and never from inside a call. A turn does a bounded
 * amount and wakes itself for the rest.
 *
 * Holding back. A step that changes term or vote must not be seen outside before both are stored. The writer stores
 * them ahead of all entries; until it says so the outbox is not flushed, no further event reaches the core and
 * nothing is announced. What comes in meanwhile waits in the inbox, which is bounded: losing messages is allowed.
 *
 * Beginning again. Two guards need the core to start anew with another term or vote (guard.h, on_restart): that is
 * the same holding back, with guard_restart at its end.
 *
 * What can fail. An I/O error of the log or a core that stops is fatal: on_fatal is called once and nothing is done
 * any more. A full disk is not: proposals are refused, the leadership goes to a member with room, and writes wait.
 * A disk that hangs longer than an election takes makes a leader hand over too. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/driver.h"
#include "manager/raft/fault.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define WINDOW_ENTRIES 4096
#define FULL_RETRY_MS  1000
#define SPARE_DELAY_MS 200 /* after opening: whoever waits for the first commits is not to wait for zeroes */
#define MARK_IDLE_MS   100 /* the log's end is noted when nothing was written for so long */
#define TAIL_MEMORY    (4 << 20)

static void turn(struct replica *r);

int64_t driver_now(const struct replica *r)
{
    return clock_mono_ms(r->env->clock);
}

bool driver_leads(const struct replica *r)
{
    return r->guard.running && r->guard.core.state == RAFT_LEADER;
}

bool driver_holds(const struct replica *r)
{
    return r->votes > 0 || r->restarting;
}

void driver_wake(struct replica *r)
{
    r->env->wake(r->env);
}

void driver_fail(struct replica *r, const struct err *e)
{
    if (r->failed)
        return;
    r->failed = true;
    r->fatal = *e;
    driver_wake(r);
}

unsigned driver_voters(const struct replica *r, uint64_t ids[MESSAGE_MEMBERS_MAX])
{
    const struct raft_configuration *c = &r->guard.core.configuration;
    unsigned count = 0;

    for (unsigned i = 0; i < c->n && count < MESSAGE_MEMBERS_MAX; i++)
        if (c->servers[i].role == RAFT_VOTER)
            ids[count++] = c->servers[i].id;
    return count;
}

/* --- the guard's host ----------------------------------------------------------------------------- */

static int64_t host_now_ms(void *ctx)
{
    return driver_now(ctx);
}

uint64_t driver_term_of(void *ctx, uint64_t index)
{
    struct replica *r = ctx;
    uint64_t term = tail_term(&r->tail, index);

    return term || index != r->last.index ? term : r->last.term;
}

static bool host_settled(void *ctx)
{
    struct replica *r = ctx;

    return writer_idle(&r->writer) && r->guard.core.last_stored == r->tail.last && !r->failed;
}

static unsigned short host_capacity(void *ctx)
{
    const struct replica *r = ctx;

    return r->full ? 0 : 1;
}

static bool host_change_after(void *ctx, uint64_t after, uint64_t upto, uint64_t *ret_index,
                              struct raft_buffer *ret)
{
    struct replica *r = ctx;
    const struct tail_change *change = tail_change_after(&r->tail, after);

    if (!change || change->index > upto)
        return false;
    *ret_index = change->index;
    *ret = (struct raft_buffer){.base = change->data, .len = change->size};
    return true;
}

/* The newest snapshot as the core wants it; the configuration is the core's. */
void driver_make_metadata(struct replica *r)
{
    struct raft_buffer conf = {.base = r->last.configuration, .len = r->last.configuration_size};

    r->metadata = (struct raft_snapshot_metadata){
        .index = r->last.index, .term = r->last.term, .configuration_index = r->last.configuration_index};
    if (raft_configuration_decode(&conf, &r->metadata.configuration) != 0)
        abort(); /* out of memory: it was checked when it was read */
}

static void host_start(void *ctx, struct raft_event *event)
{
    struct replica *r = ctx;
    uint64_t count = r->tail.last - r->tail.base_index;

    event->start.start_index = tail_first(&r->tail);
    event->start.n_entries = (unsigned)count;
    if (r->last.index) {
        driver_make_metadata(r);
        event->start.metadata = &r->metadata;
    }
    if (count == 0)
        return;
    void *batch = raft_malloc(1);
    struct raft_entry *entries = raft_calloc(count, sizeof(*entries));
    if (!batch || !entries)
        abort(); /* out of memory */
    for (uint64_t i = 0; i < count; i++)
        entries[i] = (struct raft_entry){
            .term = tail_term(&r->tail, tail_first(&r->tail) + i), .type = RAFT_COMMAND, .batch = batch};
    const struct tail_change *change = tail_change_after(&r->tail, r->tail.base_index);
    for (; change; change = tail_change_after(&r->tail, change->index)) {
        struct raft_entry *entry = &entries[change->index - tail_first(&r->tail)];

        entry->type = RAFT_CHANGE;
        entry->buf = (struct raft_buffer){.base = change->data, .len = change->size};
    }
    event->start.entries = entries;
}

static void host_on_vote(void *ctx, uint64_t term, uint64_t vote)
{
    struct replica *r = ctx;

    r->votes += !FAULT(MESSAGE_EARLY);
    writer_vote(&r->writer, term, vote);
}

static void host_on_entries(void *ctx, uint64_t index, const struct raft_entry *entries, unsigned count)
{
    struct replica *r = ctx;
    bool cut = index <= r->tail.last;
    size_t size = 0;

    assert(index > r->tail.base_index && index <= r->tail.last + 1);
    if (cut) {
        r->stats.cuts++;
        tail_cut(&r->tail, index);
        r->written = MIN(r->written, index - 1);
    }
    for (unsigned i = 0; i < count; i++)
        size += entries[i].buf.len;
    struct block *block = block_new(size);
    uint8_t *into = block->bytes;
    for (unsigned i = 0; i < count; i++) {
        if (entries[i].buf.len)
            memcpy(into, entries[i].buf.base, entries[i].buf.len);
        tail_append(&r->tail, entries[i].term, (uint8_t)entries[i].type, into, (uint32_t)entries[i].buf.len, block);
        into += entries[i].buf.len;
    }
    block_unref(block);
    r->stats.entries += count;
    r->mark_ms = DRIVER_NEVER;
    writer_entries(&r->writer, index, count, cut);
    if (FAULT(EARLY_DURABLE))
        r->written = r->tail.last;
    propose_entries(r, index, entries[0].term);
}

static void host_on_install(void *ctx, const struct raft_snapshot_metadata *metadata)
{
    install_begin(ctx, metadata);
}

static void host_on_message(void *ctx, const struct raft_message *m)
{
    send_core(ctx, m);
}

static void host_on_state(void *ctx)
{
    propose_state(ctx);
}

static void host_on_commit(void *ctx)
{
    struct replica *r = ctx;

    r->commit = MAX(r->commit, raft_commit_index(&r->guard.core));
    driver_wake(r);
}

static void host_on_restart(void *ctx, uint64_t term, uint64_t vote, const struct raft_message *reply)
{
    struct replica *r = ctx;

    r->restarting = true;
    r->restart_term = term;
    r->restart_vote = vote;
    r->restart_replies = reply != NULL;
    if (reply)
        r->restart_reply = *reply;
    r->votes++;
    writer_vote(&r->writer, term, vote);
}

static void host_on_fatal(void *ctx, const struct err *e)
{
    driver_fail(ctx, e);
}

void driver_start(struct replica *r, uint64_t term, uint64_t vote)
{
    const struct guard_host host = {
        .ctx = r,
        .now_ms = host_now_ms,
        .term_of = driver_term_of,
        .settled = host_settled,
        .capacity = host_capacity,
        .change_after = host_change_after,
        .start = host_start,
        .on_vote = host_on_vote,
        .on_entries = host_on_entries,
        .on_install = host_on_install,
        .on_message = host_on_message,
        .on_state = host_on_state,
        .on_commit = host_on_commit,
        .on_restart = host_on_restart,
        .on_fatal = host_on_fatal,
    };
    const struct guard_config config = {
        .id = r->id,
        .address = r->address,
        .election_ms = (unsigned)r->election_ms,
        .heartbeat_ms = (unsigned)r->heartbeat_ms,
        .install_ms = (unsigned)r->election_ms * 10,
        .window = WINDOW_ENTRIES,
        .seed = (unsigned)entropy_u64(r->env->entropy),
    };

    r->spare_ms = driver_now(r) + SPARE_DELAY_MS;
    guard_start(&r->guard, &host, &config, term, vote);
    driver_wake(r);
}

/* --- the writer's news ---------------------------------------------------------------------------- */

static void on_durable(void *ctx, uint64_t index)
{
    struct replica *r = ctx;

    r->written = MAX(r->written, index);
    r->mark_ms = driver_now(r) + MARK_IDLE_MS;
    if (!driver_holds(r) && !r->failed && !r->closing)
        guard_persisted(&r->guard, r->written);
    driver_wake(r);
}

static void on_voted(void *ctx)
{
    struct replica *r = ctx;

    if (FAULT(MESSAGE_EARLY) && r->votes == 0)
        return;
    assert(r->votes > 0);
    r->votes--;
    if (r->votes == 0 && r->restarting && !r->closing) {
        guard_restart(&r->guard, r->restart_term, r->restart_vote);
        r->restarting = false;
        r->stats.restarts++;
        if (r->restart_replies)
            send_core(r, &r->restart_reply);
    }
    driver_wake(r);
}

static void on_reset(void *ctx)
{
    install_reset_done(ctx);
}

static void on_closed(void *ctx)
{
    struct replica *r = ctx;

    r->closed_log = true;
    driver_wake(r);
}

static void on_full(void *ctx)
{
    struct replica *r = ctx;

    if (!r->full)
        log_warn("the disk of the raft log is full: changes are refused until there is room", "member=%llu",
                 (unsigned long long)r->id);
    r->full = true;
    r->spare_ms = driver_now(r) + FULL_RETRY_MS;
    r->closed_log |= r->closing; /* the closing mark will not be written: the next start begins a new segment */
    driver_wake(r);
}

static void on_failed(void *ctx, const struct err *e)
{
    struct replica *r = ctx;

    r->closed_log |= r->closing;
    driver_fail(r, e);
}

const struct writer_events driver_writer_events = {
    .on_durable = on_durable,
    .on_voted = on_voted,
    .on_reset = on_reset,
    .on_closed = on_closed,
    .on_full = on_full,
    .on_failed = on_failed,
};

/* --- spare segments ------------------------------------------------------------------------------- */

static void spare_work(struct env_job *job)
{
    struct replica *r = container_of(job, struct replica, spare_job);

    r->spare_error.code = 0;
    (void)disklog_spare(r->log, &r->spare_error); /* the error is looked at on the loop */
}

static void spare_done(struct env_job *job)
{
    struct replica *r = container_of(job, struct replica, spare_job);

    r->spare_posted = false;
    if (r->closing || r->failed)
        return;
    if (r->spare_error.code == 0) {
        if (r->full)
            log_info("the disk of the raft log has room again", "member=%llu", (unsigned long long)r->id);
        r->full = false;
        writer_retry(&r->writer);
    } else if (r->spare_error.code == ERR_UNAVAILABLE) {
        on_full(r);
    } else {
        driver_fail(r, &r->spare_error);
    }
    driver_wake(r);
}

static bool wants_spare(const struct replica *r)
{
    return !r->spare_posted && (r->full || disklog_spares(r->log) < DISKLOG_SPARES);
}

static void spare_advance(struct replica *r)
{
    if (!wants_spare(r) || driver_now(r) < r->spare_ms)
        return;
    r->spare_posted = true;
    r->spare_job = (struct env_job){.work = spare_work, .done = spare_done};
    r->env->post(r->env, ENV_LANE_BULK, &r->spare_job);
}

/* --- turns ---------------------------------------------------------------------------------------- */

/* A leader whose disk is full or hangs must not keep the others waiting. */
static void watch_disk(struct replica *r)
{
    int64_t since = writer_since_us(&r->writer), now = clock_mono_us(r->env->clock);

    r->stats.longest_write_us =
        since >= 0 ? MAX(r->stats.longest_write_us, now - since) : r->stats.longest_write_us;
    if (!driver_leads(r))
        return;
    if (r->full)
        transfer_away(r, "its disk is full");
    else if (since >= 0 && now - since > (int64_t)r->election_ms * 1000)
        transfer_away(r, "its disk does not answer");
}

static void mark_advance(struct replica *r)
{
    if (driver_now(r) < r->mark_ms || !writer_idle(&r->writer))
        return;
    r->mark_ms = DRIVER_NEVER;
    writer_mark(&r->writer);
}

/* The leader's process is gone: our timer expires early, each member's a little after the one before, so that they
 * do not all ask for votes at once. Who asks before it is our turn gets our vote as if we had no leader: we know by
 * ourselves that it is gone, and nobody's word counts for that. */
static void gone_advance(struct replica *r)
{
    uint64_t leader = 0;
    const char *address;

    if (!r->gone || driver_now(r) < r->gone_ms)
        return;
    raft_leader(&r->guard.core, (raft_id *)&leader, &address);
    if (leader == r->gone) {
        r->expired_ms = driver_now(r);
        guard_expire(&r->guard);
    }
    r->gone = 0;
}

void driver_heard(struct replica *r, uint64_t from)
{
    if (from == r->lost)
        r->lost = r->gone = 0;
}

bool driver_disrupts(struct replica *r)
{
    uint64_t leader = 0;
    const char *address;

    raft_leader(&r->guard.core, (raft_id *)&leader, &address);
    r->asked_ms = driver_now(r);
    if (!r->lost || leader != r->lost || r->guard.core.state != RAFT_FOLLOWER)
        return false;
    r->gone_ms = MAX(r->gone_ms, driver_now(r) + r->election_ms / 2); /* he was first: his election has time */
    return true;
}

/* Two that expired at the same time would grant each other the pre-vote, ask for votes in the same term and then
 * wait for an election's length. So the one whose turn was first does not hear the other, if that one has no more.
 */
bool driver_precedes(const struct replica *r, const struct raft_request_vote *a, uint64_t from)
{
    uint64_t last = r->tail.last, term = tail_term(&r->tail, last);
    bool newer = a->last_log_term > term || (a->last_log_term == term && a->last_log_index > last);

    return r->lost && r->id < from && r->guard.core.state == RAFT_CANDIDATE && a->pre_vote && !newer &&
           driver_now(r) - r->expired_ms < 2 * r->heartbeat_ms;
}

static int64_t next_due(struct replica *r)
{
    int64_t due = r->members.removed ? DRIVER_NEVER : guard_deadline(&r->guard), now = driver_now(r);

    if (driver_holds(r))
        return now + r->election_ms; /* the writer wakes us */
    due = MIN(due, MIN(member_due(r), read_due(r)));
    due = MIN(due, MIN(take_due(r), install_due(r)));
    due = MIN(due, digest_due(r));
    due = MIN(due, writer_idle(&r->writer) ? r->mark_ms : now + r->election_ms);
    if (wants_spare(r))
        due = MIN(due, r->spare_ms);
    return r->gone ? MIN(due, r->gone_ms) : due;
}

/* Everything that waits for something, in the order in which it matters. */
static void advance(struct replica *r)
{
    if (!driver_holds(r)) {
        receive_waiting(r);
        if (!driver_holds(r))
            guard_persisted(&r->guard, r->written);
        gone_advance(r);
        if (!driver_holds(r) && !r->members.removed && driver_now(r) >= guard_deadline(&r->guard))
            guard_timeout(&r->guard);
    }
    if (!driver_holds(r)) {
        propose_advance(r);
        member_advance(r);
        read_advance(r);
        take_advance(r);
        install_advance(r);
        apply_advance(r);
        digest_advance(r);
        watch_disk(r);
    }
    spare_advance(r);
    mark_advance(r);
    tail_forget(&r->tail, MIN(r->written, r->applied), TAIL_MEMORY);
}

/* Callbacks; each may call anything, also replica_close. They come while a vote is being stored too: a leader whose
 * disk hangs must be told that it lost, and nobody becomes one meanwhile. */
static void answer(struct replica *r)
{
    propose_answer(r);
    member_answer(r);
}

static void close_advance(struct replica *r);

static void turn(struct replica *r)
{
    if (!r->closing && !r->failed)
        advance(r);
    if (!r->closing && !r->failed && !driver_holds(r))
        send_flush(r);
    if (!r->closing && !r->failed)
        answer(r);
    if (r->failed && !r->told && !r->closing) {
        r->told = true;
        r->events.on_fatal(r->events.ctx, &r->fatal);
    }
    if (r->closing)
        close_advance(r);
    else
        r->env->timer(r->env, r->failed ? -1 : next_due(r));
}

static void on_turn(void *ctx)
{
    turn(ctx);
}

static void on_message(void *ctx, uint64_t from, const void *data, size_t size)
{
    struct replica *r = ctx;

    if (r->closing || r->failed)
        return;
    receive_bytes(r, from, data, size);
    driver_wake(r);
}

static void on_gone(void *ctx, uint64_t member)
{
    struct replica *r = ctx;
    uint64_t ids[MESSAGE_MEMBERS_MAX], leader = 0;
    unsigned count = driver_voters(r, ids), rank = 0;
    const char *address;

    raft_leader(&r->guard.core, (raft_id *)&leader, &address);
    if (r->closing || r->failed || leader != member || r->guard.core.state != RAFT_FOLLOWER)
        return;
    for (unsigned i = 0; i < count; i++)
        rank += ids[i] != member && ids[i] < r->id;
    if (driver_now(r) - r->asked_ms < 2 * r->heartbeat_ms)
        rank = 0; /* whoever's turn it was asked too early, when we did not know yet: he waits for us now */
    r->gone = r->lost = member;
    r->gone_ms = driver_now(r) + (int64_t)rank * r->heartbeat_ms;
    driver_wake(r);
}

const struct env_events driver_env_events = {
    .on_wake = on_turn,
    .on_timer = on_turn,
    .on_message = on_message,
    .on_gone = on_gone,
};

/* --- closing -------------------------------------------------------------------------------------- */

static void on_detached(void *ctx)
{
    struct replica *r = ctx;
    void (*closed)(void *) = r->closed;
    void *closed_ctx = r->closed_ctx;

    driver_free(r);
    closed(closed_ctx);
}

/* First what waits is answered, then the log gets its closing mark, then the lanes run dry. */
static void close_advance(struct replica *r)
{
    if (!r->close_begun) {
        r->close_begun = true;
        r->env->timer(r->env, -1);
        propose_cancel(r, ERR_CANCELED, "the manager is closing");
        member_cancel(r, ERR_CANCELED, "the manager is closing");
        propose_answer(r);
        member_answer(r);
        take_cancel(r);
        if (r->failed)
            r->closed_log = true;
        else
            writer_close(&r->writer);
    }
    if (r->closed_log && !r->detached) {
        r->detached = true;
        r->env->detach(r->env, on_detached, r);
    }
}

void driver_free(struct replica *r)
{
    guard_stop(&r->guard);
    send_drop(r);
    install_fini(r);
    if (r->log)
        writer_fini(&r->writer);
    tail_fini(&r->tail);
    disklog_free(r->log);
    snapshot_info_fini(&r->last);
    snapshots_fini(&r->snapshots);
    free(r->peers);
    free(r->address);
    free(r);
}
