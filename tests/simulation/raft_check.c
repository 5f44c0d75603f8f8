/* See raft_check.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/log_private.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_check.h"

#define BARRIER_CONTENT 1 /* content of entries without data */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15 ^ (b + 0x632be59bd9b4e019);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t content_of(const void *data, size_t size)
{
    return data ? mix(crc32c(1, data, size), crc32c(0x12345, data, size)) | 2 : BARRIER_CONTENT;
}

static struct world *world_of(const struct world_member *m)
{
    return m->env->world;
}

static struct world_entry *entry_at(struct world *w, uint64_t index)
{
    if (index >= w->entries_max) {
        size_t max = MAX(index + 1, w->entries_max * 2 + 64);

        w->entries = mem_grow(w->entries, max, sizeof(*w->entries));
        memset(w->entries + w->entries_max, 0, (max - w->entries_max) * sizeof(*w->entries));
        w->entries_max = max;
    }
    return &w->entries[index];
}

/* A grown array of numbers by index. */
static uint64_t *number_at(uint64_t **numbers, size_t *max, uint64_t index)
{
    if (index >= *max) {
        size_t grown = MAX(index + 1, *max * 2 + 64);

        *numbers = mem_grow(*numbers, grown, sizeof(**numbers));
        memset(*numbers + *max, 0, (grown - *max) * sizeof(**numbers));
        *max = grown;
    }
    return &(*numbers)[index];
}

/* --- the store ------------------------------------------------------------------------------------ */

static int on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    struct world_member *m = ctx;
    struct world *w = world_of(m);

    for (size_t i = 0; i < count; i++) {
        const struct replica_entry *a = &entries[i];
        struct world_entry *known = entry_at(w, a->index);
        uint64_t content = content_of(a->data, a->size);

        if (a->index != m->applied + 1)
            raftsim_fail(w, "applied: member %" PRIu64 " was given entry %" PRIu64 " after %" PRIu64, m->id,
                         a->index, m->applied);
        m->applied = a->index;
        m->state = mix(m->state, mix(content, a->term));
        if (known->term == 0) {
            known->term = a->term;
            known->content = content;
            known->state = m->state;
            w->top = MAX(w->top, a->index);
            w->counts.entries++;
        } else if (known->term != a->term || known->content != content || known->state != m->state) {
            raftsim_fail(
                w, "applied: entry %" PRIu64 " of member %" PRIu64 " has term %" PRIu64 ", elsewhere %" PRIu64 "%s",
                a->index, m->id, a->term, known->term,
                known->content == content ? " (same content, other state)" : "");
        }
    }
    return 0;
}

struct source {
    uint64_t index, state;
    uint64_t at, size;
};

static long source_read(void *ctx, void *into, size_t size, struct err *e)
{
    struct source *s = ctx;
    uint8_t head[24];
    size_t part = 0;

    put_u64(head, s->index);
    put_u64(head + 8, s->state);
    put_u64(head + 16, s->size);
    size = MIN(size, s->size - s->at);
    for (; part < size; part++, s->at++) /* the head, then filling that depends on it */
        ((uint8_t *)into)[part] = s->at < sizeof(head) ? head[s->at] : (uint8_t)(s->state >> s->at % 8 * 8);
    return (long)part;
}

static void source_end(void *ctx)
{
    free(ctx);
}

static int on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    struct world_member *m = ctx;
    struct source *s = mem_alloc(sizeof(*s));

    s->index = m->applied;
    s->state = m->state;
    s->size = 24 + raftsim_random(world_of(m), 0, 3) * 400;
    *ret = (struct replica_snapshot_source){.ctx = s, .read = source_read, .end = source_end, .index = m->applied};
    return 0;
}

static int on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e)
{
    struct world_member *m = ctx;
    struct world *w = world_of(m);

    if (first)
        m->restoring = 0;
    if (m->restoring < sizeof(m->restored))
        memcpy(m->restored + m->restoring, data, MIN(size, sizeof(m->restored) - m->restoring));
    m->restoring += size;
    if (!last)
        return 0;
    uint64_t state = get_u64(m->restored + 8);
    const struct world_entry *known = entry_at(w, index);
    if (get_u64(m->restored) != index || get_u64(m->restored + 16) != m->restoring || known->state != state)
        raftsim_fail(
            w, "applied: member %" PRIu64 " restored a snapshot of %" PRIu64 " (%" PRIu64 " bytes) that is not it",
            m->id, index, m->restoring);
    m->applied = index;
    m->state = state;
    return 0;
}

static void on_state(void *ctx, enum replica_state state, uint64_t term)
{
    struct world_member *m = ctx;

    if (term < m->told_term)
        raftsim_fail(world_of(m), "leader: member %" PRIu64 " was told term %" PRIu64 " after %" PRIu64, m->id,
                     term, m->told_term);
    m->told_term = term;
    m->leads = state == REPLICA_LEADER;
}

static void on_fatal(void *ctx, const struct err *e)
{
    struct world_member *m = ctx;

    /* The machine died under it, or its disk reports errors: then it must stop. */
    if (!m->disk.crashed && !m->disk.broken)
        raftsim_fail(world_of(m), "fatal: member %" PRIu64 ": %s", m->id, e->text);
}

struct replica_events check_events(struct world_member *m)
{
    m->told_term = 0;
    return (struct replica_events){
        .ctx = m,
        .on_state = on_state,
        .on_apply = on_apply,
        .on_snapshot = on_snapshot,
        .on_restore = on_restore,
        .on_fatal = on_fatal,
    };
}

void check_make_first(struct world *w, const struct replica_config *config)
{
    struct raft_configuration conf;
    struct raft_buffer data;
    struct disklog_config log = {
        .env = config->env,
        .dir = config->dir,
        .key = config->key,
        .cluster = config->cluster,
        .id = config->id,
        .segment_bytes = config->segment_bytes,
    };
    struct err e;

    raft_configuration_init(&conf);
    for (unsigned id = 1; id <= w->options.voters; id++) {
        char address[16];

        (void)snprintf(address, sizeof(address), "m%u:2377", id);
        (void)raft_configuration_add(&conf, id, address, RAFT_VOTER);
    }
    (void)raft_configuration_encode(&conf, &data);
    raft_configuration_close(&conf);
    const struct segment_record first = {
        .index = 1, .term = 1, .type = RAFT_CHANGE, .data = data.base, .size = (uint32_t)data.len};
    if (disklog_create(&log, 1, &first, &e) < 0)
        raftsim_fail(w, "open: create: %s", e.text);
    raft_free(data.base);
}

/* --- messages ------------------------------------------------------------------------------------- */

/* RAFT_SIM_TRACE=1: every message to stderr, for looking into a failure. */
static void trace(const struct world *w, const struct message *m)
{
    const struct raft_append_entries *a = &m->raft.append_entries;
    const struct raft_append_entries_result *r = &m->raft.append_entries_result;
    const struct raft_request_vote *v = &m->raft.request_vote;
    const struct raft_request_vote_result *vr = &m->raft.request_vote_result;

    fprintf(stderr, "%9.3f %" PRIu64 "->%" PRIu64 " %s", (double)w->now_us / 1000, m->from, m->to,
            message_name(m->type));
    if (m->type == RAFT_APPEND_ENTRIES)
        fprintf(stderr, " term %llu after %llu/%llu +%u commit %llu", a->term, a->prev_log_index, a->prev_log_term,
                a->n_entries, a->leader_commit);
    else if (m->type == RAFT_APPEND_ENTRIES_RESULT)
        fprintf(stderr, " term %llu rejected %llu last %llu", r->term, r->rejected, r->last_log_index);
    else if (m->type == RAFT_REQUEST_VOTE)
        fprintf(stderr, " term %llu last %llu/%llu%s%s", v->term, v->last_log_index, v->last_log_term,
                v->pre_vote ? " pre" : "", v->disrupt_leader ? " disrupt" : "");
    else if (m->type == RAFT_REQUEST_VOTE_RESULT)
        fprintf(stderr, " term %llu %s%s", vr->term, vr->vote_granted ? "granted" : "refused",
                vr->pre_vote ? " pre" : "");
    else if (m->type == RAFT_INSTALL_SNAPSHOT)
        fprintf(stderr, " term %llu index %llu/%llu", m->raft.install_snapshot.term,
                m->raft.install_snapshot.last_index, m->raft.install_snapshot.last_term);
    else if (m->type == MESSAGE_PULL || m->type == MESSAGE_CHUNK)
        fprintf(stderr, " of %" PRIu64 " number %" PRIu64, m->chunk.index, m->chunk.number);
    fprintf(stderr, "\n");
}

bool check_sent(struct world *w, uint64_t from, uint64_t to, const void *data, size_t size)
{
    struct message m;
    struct err e;
    bool passes = true;

    if (message_get(data, size, 7, from, to, &m, &e) < 0) {
        raftsim_fail(w, "message: member %" PRIu64 " sent what cannot be read: %s", from, e.text);
        return false;
    }
    if (m.type == RAFT_REQUEST_VOTE_RESULT && m.raft.request_vote_result.vote_granted &&
        !m.raft.request_vote_result.pre_vote) {
        struct world_member *voter = &w->members[from];
        uint64_t *vote = number_at(&voter->votes, &voter->votes_max, m.raft.request_vote_result.term);

        if (*vote && *vote != to)
            raftsim_fail(w, "vote: member %" PRIu64 " voted for %" PRIu64 " and %" PRIu64 " in term %llu", from,
                         *vote, to, m.raft.request_vote_result.term);
        *vote = to;
        w->voter = from;
    }
    if (w->trace)
        trace(w, &m);
    if (w->filter)
        passes = w->filter(w, from, to, &m);
    message_fini(&m);
    return passes;
}

/* --- members -------------------------------------------------------------------------------------- */

/* What was rare about this election. */
static void count_leader(struct world *w, struct world_member *m, uint64_t term)
{
    const struct replica *r = m->replica;
    uint64_t first = r->guard.core.commit_index + 1;

    if (term > w->lead_term)
        w->counts.lost_terms += term - w->lead_term - 1;
    w->lead_term = MAX(w->lead_term, term);
    /* Figure 8: entries of older terms that may be on a majority and must not be committed by counting. */
    w->counts.old_uncommitted += first <= r->tail.last && driver_term_of(m->replica, first) < term;
    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++) {
        const struct world_member *other = &w->members[id];

        if (other == m || !other->replica || other->env->dead)
            continue;
        w->counts.two_leaders += driver_leads(other->replica);
        w->counts.longer_elsewhere += other->replica->tail.last > r->tail.last;
    }
}

static void check_leader(struct world *w, struct world_member *m)
{
    uint64_t term, *leader;

    if (m->replica->guard.core.state != RAFT_LEADER)
        return;
    term = raft_current_term(&m->replica->guard.core);
    leader = number_at(&w->leaders, &w->leaders_max, term);
    if (*leader && *leader != m->id)
        raftsim_fail(w, "leader: members %" PRIu64 " and %" PRIu64 " both lead term %" PRIu64, *leader, m->id,
                     term);
    w->counts.elections += *leader == 0;
    if (*leader == 0)
        count_leader(w, m, term);
    *leader = m->id;
}

/* One entry of a member's log against all that was seen of its index and term. */
static void check_entry(struct world *w, struct world_member *m, uint64_t index)
{
    const struct tail *t = &m->replica->tail;
    const struct tail_entry *have = tail_get(t, index);
    uint64_t term = tail_term(t, index), before = index > 1 ? tail_term(t, index - 1) : 0;
    struct world_entry *known = entry_at(w, index);

    for (size_t i = 0; i < known->version_count; i++) {
        struct world_version *v = &known->versions[i];

        if (v->term != term)
            continue;
        bool other = have && v->content && v->content != content_of(have->data, have->size);
        if (other || (before && v->before && v->before != before))
            raftsim_fail(w, "log: entry %" PRIu64 " of term %" PRIu64 " of member %" PRIu64 " %s", index, term,
                         m->id, other ? "has another content elsewhere" : "follows another elsewhere");
        if (have && !v->content)
            v->content = content_of(have->data, have->size);
        v->before = v->before ? v->before : before;
        return;
    }
    known->versions = mem_grow(known->versions, known->version_count + 1, sizeof(*known->versions));
    known->versions[known->version_count++] =
        (struct world_version){term, have ? content_of(have->data, have->size) : 0, before};
}

/* Entries change only from the end: look back until one is as it was. */
static void check_log(struct world *w, struct world_member *m)
{
    const struct tail *t = &m->replica->tail;

    if (m->cuts != m->replica->stats.cuts && m->seen) /* what was cut may have come back otherwise */
        memset(m->seen, 0, m->seen_max * sizeof(*m->seen));
    m->cuts = m->replica->stats.cuts;
    for (uint64_t i = t->last; i > t->base_index; i--) {
        uint64_t *seen = number_at(&m->seen, &m->seen_max, i);

        if (*seen == tail_term(t, i))
            break;
        *seen = tail_term(t, i);
        check_entry(w, m, i);
    }
}

void check_member(struct world *w, struct world_member *m)
{
    struct replica *r = m->replica;

    if (m->env->dead)
        return;
    check_leader(w, m);
    check_log(w, m);
    if (r->applied > r->written && !install_active(r))
        raftsim_fail(w, "durable: member %" PRIu64 " applied %" PRIu64 ", its disk has %" PRIu64, m->id, r->applied,
                     r->written);
}

void check_crashing(struct world *w, struct world_member *m)
{
    struct replica *r = m->replica;
    struct world_counts *c = &w->counts;

    m->stored = install_active(r) ? 0 : r->guard.core.last_stored;
    m->stored_term = m->stored ? driver_term_of(r, m->stored) : 0;
    c->torn += m->disk.torn;
    c->unsaid += m->disk.unsaid;
    m->disk.torn = m->disk.unsaid = 0;
    c->cuts += r->stats.cuts;
    c->snapshots += r->stats.snapshots;
    c->installs += r->stats.installs;
    c->restarts += r->stats.restarts;
    c->fetches += r->stats.fetches;
    c->refused += r->stats.refused;
    for (int i = 0; i < GUARDS; i++)
        c->guards[i] += r->guard.hits[i];
}

void check_opened(struct world *w, struct world_member *m)
{
    struct replica *r = m->replica;

    if (m->seen)
        memset(m->seen, 0, m->seen_max * sizeof(*m->seen));
    if (m->stored > r->last.index && driver_term_of(r, m->stored) != m->stored_term)
        raftsim_fail(w,
                     "durable: member %" PRIu64 " had entry %" PRIu64 " of term %" PRIu64
                     ", after the crash it has term %" PRIu64,
                     m->id, m->stored, m->stored_term, driver_term_of(r, m->stored));
    w->counts.segments_new += r->log->sequence && !r->log->file;
    w->counts.marks_clean += r->log->file != NULL;
    check_member(w, m);
}

void check_refused(struct world *w, struct world_member *m, const struct err *e)
{
    if (m->disk.crashed || m->disk.broken || m->disk.full)
        return; /* while it opened; it tries again later */
    if (m->damaged && e->code == ERR_CORRUPT) {
        m->lost = true;
        w->counts.refused_open++;
        return;
    }
    raftsim_fail(w, "open: member %" PRIu64 " does not open: %s", m->id, e->text);
}

/* --- what scenarios ask --------------------------------------------------------------------------- */

uint64_t raftsim_leader(const struct world *w)
{
    uint64_t best = 0, term = 0;

    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++)
        if (w->members[id].replica && replica_state(w->members[id].replica) == REPLICA_LEADER &&
            replica_term(w->members[id].replica) > term) {
            best = id;
            term = replica_term(w->members[id].replica);
        }
    return best;
}

uint64_t raftsim_core_leader(const struct world *w)
{
    uint64_t best = 0, term = 0;

    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++)
        if (w->members[id].replica && driver_leads(w->members[id].replica) &&
            replica_term(w->members[id].replica) > term) {
            best = id;
            term = replica_term(w->members[id].replica);
        }
    return best;
}

struct asked { /* a proposal or a read under way */
    struct world *world;
    struct world_member *member;
    uint64_t life, content, acked_top;
};

static void proposed(void *ctx, const struct err *e, uint64_t index)
{
    struct asked *a = ctx;
    struct world *w = a->world;

    if (e->code == 0) {
        struct world_entry *known = entry_at(w, index);

        if (known->term == 0 || known->content != a->content)
            raftsim_fail(w, "acked: entry %" PRIu64 " was acknowledged by member %" PRIu64 ", but %s", index,
                         a->member->id, known->term ? "another was applied" : "none was applied");
        known->acked = a->content;
        w->acked_top = MAX(w->acked_top, index);
        w->counts.acked++;
    } else {
        w->counts.failed_proposals++;
    }
    free(a);
}

bool raftsim_propose(struct world *w, uint64_t id, size_t size)
{
    struct world_member *m = &w->members[id];
    struct asked *a;
    uint8_t data[4096];
    struct err e;

    if (!m->replica)
        return false;
    size = MIN(MAX(size, 8), sizeof(data));
    memset(data, 0x11, size);
    put_u64(data, ++w->payload);
    a = mem_alloc(sizeof(*a));
    *a = (struct asked){.world = w, .member = m, .life = m->life, .content = content_of(data, size)};
    if (replica_propose(m->replica, data, size, proposed, a, &e) == 0)
        return true;
    w->counts.full_refusals += strstr(e.text, "full") != NULL;
    free(a);
    return false;
}

static void have_read(void *ctx, const struct err *e)
{
    struct asked *a = ctx;

    if (e->code == 0) {
        a->world->counts.reads++;
        if (a->member->applied < a->acked_top)
            raftsim_fail(a->world,
                         "read: member %" PRIu64 " answered at %" PRIu64 ", though %" PRIu64
                         " was acknowledged before",
                         a->member->id, a->member->applied, a->acked_top);
    }
    free(a);
}

bool raftsim_read(struct world *w, uint64_t id)
{
    struct world_member *m = &w->members[id];
    struct asked *a;

    if (!m->replica)
        return false;
    a = mem_alloc(sizeof(*a));
    *a = (struct asked){.world = w, .member = m, .life = m->life, .acked_top = w->acked_top};
    if (replica_read(m->replica, have_read, a, NULL) == 0)
        return true;
    free(a);
    return false;
}

/* Every member of the leader's configuration has applied all there is, and everything acknowledged is in it. */
static bool agreed(struct world *w, void *ctx)
{
    uint64_t leader = raftsim_leader(w), *stable = ctx;

    if (!leader || w->now_us < (int64_t)*stable)
        return false;
    struct replica *r = w->members[leader].replica;
    const struct raft_configuration *c = &r->guard.core.configuration;
    if (r->applied < w->acked_top || r->applied < r->tail.last || r->guard.core.configuration_uncommitted_index)
        return false;
    for (unsigned i = 0; i < c->n; i++) {
        const struct world_member *m = &w->members[c->servers[i].id];

        if (m->lost)
            continue;
        if (!m->replica || m->replica->applied != r->applied || install_active(m->replica))
            return false;
    }
    return true;
}

void raftsim_converge(struct world *w, int64_t ms)
{
    uint64_t leader, stable = (uint64_t)w->now_us + 100000;
    int64_t end = w->now_us + ms * 1000;

    /* A change proposed now must get through as well. */
    while (!w->failed && w->now_us < end) {
        leader = raftsim_leader(w);
        if (leader && raftsim_propose(w, leader, 32)) {
            stable = (uint64_t)w->now_us + 300000;
            break;
        }
        raftsim_run(w, 20);
    }
    if (w->failed)
        return;
    if (!raftsim_until(w, (end - w->now_us) / 1000 + 1, agreed, &stable)) {
        leader = raftsim_core_leader(w);
        raftsim_fail(w, "converge: no agreement %" PRId64 " ms after the last fault: leader %" PRIu64, ms, leader);
        return;
    }
    for (uint64_t i = 1; i <= w->acked_top; i++)
        if (w->entries[i].acked && w->entries[i].acked != w->entries[i].content)
            raftsim_fail(w, "acked: entry %" PRIu64 " is gone", i);
}

void raftsim_dump(const struct world *w)
{
    static const char *const states[] = {"?", "follower", "candidate", "leader"};

    fprintf(stderr, "at %" PRId64 " ms: applied %" PRIu64 ", acknowledged %" PRIu64 "\n", w->now_us / 1000, w->top,
            w->acked_top);
    for (uint64_t id = 1; id <= WORLD_MEMBERS; id++) {
        const struct world_member *m = &w->members[id];
        struct replica *r = m->replica;

        if (!m->exists)
            continue;
        if (!r) {
            fprintf(stderr, "  %" PRIu64 " down%s\n", id, m->lost ? ", lost" : "");
            continue;
        }
        const struct raft *core = &r->guard.core;
        fprintf(stderr,
                "  %" PRIu64 " %s%s term %" PRIu64 " vote %llu log %" PRIu64 "-%" PRIu64 " lastterm %" PRIu64
                " stored %llu written %" PRIu64 " commit %" PRIu64 "/%llu applied %" PRIu64 " snapshot %" PRIu64
                " install %d%s votes %u pending %llu%s%s idle %d due %" PRId64 " config",
                id, states[core->state], replica_state(r) == REPLICA_LEADER ? "!" : "", replica_term(r),
                core->voted_for, r->tail.base_index, r->tail.last, driver_term_of(r, r->tail.last),
                core->last_stored, r->written, r->commit, core->commit_index, r->applied, r->last.index,
                (int)r->install.state, core->snapshot.installing ? " installing" : "", r->votes,
                core->configuration_uncommitted_index, r->full ? " full" : "", r->failed ? " failed" : "",
                writer_idle(&r->writer), guard_deadline(&r->guard) - driver_now(r));
        for (unsigned i = 0; i < core->configuration.n; i++)
            fprintf(stderr, " %llu%c", core->configuration.servers[i].id,
                    "SVP"[core->configuration.servers[i].role]);
        fprintf(stderr, "%s\n", m->damaged ? " damaged" : "");
    }
}
