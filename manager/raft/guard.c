/* All guards of the step core, and all of its steps. The faults of libraft 0.22.1 and what was measured stand in
 * reference/raft-step.md section 5; each guard below names its number.
 *
 * Incoming messages pass guard_receive, which answers some itself, changes some and drops some; outgoing ones pass
 * outgoing(). Two faults need the core to begin again with another term or vote (G3, G5): the host stores them and
 * calls guard_restart.
 *
 * The order of an update is that of section 2.3: term and vote, entries, snapshot, messages, state, commit.
 * Membership changes are reported back to the core as soon as they are committed (RAFT_CONFIGURATION), not when the
 * store has applied them: what is committed stays committed, and the core does not care for the store.
 *
 * The packaged library is built without assertions, so a broken precondition would be silent damage. That is why
 * preconditions are checked here and not left to it. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "manager/raft/fault.h"
#include "manager/raft/guard.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

_Static_assert(RAFT_VERSION_NUMBER == 2201, "ownership rules and faults are those of libraft 0.22.1");

#define TIMER_LEAST_MS   5 /* G8 */
#define FEATURE_CAPACITY 1
#define RESULT_VERSION   1
#define VOTE_VERSION     2
#define TIME_OF_START    1 /* 0 means "never" in places */

static int step(struct guard *g, struct raft_event *event);

/* --- what the core looks like --------------------------------------------------------------------- */

bool guard_sole(const struct raft_configuration *c, uint64_t id)
{
    unsigned voters = 0;
    bool self = false;

    for (unsigned i = 0; i < c->n; i++) {
        voters += c->servers[i].role == RAFT_VOTER;
        self |= c->servers[i].role == RAFT_VOTER && c->servers[i].id == id;
    }
    return voters == 1 && self;
}

bool guard_begins_term(const struct raft_configuration *c, uint64_t id)
{
    return guard_sole(c, id) && !FAULT(G3);
}

bool guard_established(const struct guard *g)
{
    return g->core.state == RAFT_LEADER &&
           g->host.term_of(g->host.ctx, raft_commit_index(&g->core)) == raft_current_term(&g->core);
}

/* G14: the core's time never goes back, and it is 64 bits of milliseconds of this host. */
static raft_time core_time(struct guard *g)
{
    int64_t now = g->host.now_ms(g->host.ctx) + g->skew_ms + TIME_OF_START;

    if ((raft_time)now < g->time) {
        g->hits[14]++;
        return g->time;
    }
    g->time = (raft_time)now;
    return g->time;
}

static void fatal(struct guard *g, int event, int rv)
{
    struct err e;

    err_set(&e, ERR_INTERNAL, "the raft core failed at event %d: %s", event, raft_strerror(rv));
    g->host.on_fatal(g->host.ctx, &e);
}

/* --- outgoing messages ---------------------------------------------------------------------------- */

/* G13: a pending change of membership leaves the leader only once its own disk has it. Otherwise a leader that
 * restarts without it may need the vote of a member that thinks it has none. */
static bool outgoing_append(struct guard *g, struct raft_append_entries *a)
{
    uint64_t pending = g->core.configuration_uncommitted_index;

    if (FAULT(G13) || pending <= g->core.last_stored || a->prev_log_index + a->n_entries < pending)
        return true;
    g->hits[13]++;
    if (a->prev_log_index >= pending)
        return false;
    a->n_entries = (unsigned)(pending - 1 - a->prev_log_index);
    return true;
}

static void outgoing(struct guard *g, const struct raft_message *message)
{
    struct raft_message m = *message;
    struct raft_request_vote_result *vote = &m.request_vote_result;

    if (m.type == RAFT_APPEND_ENTRIES && !outgoing_append(g, &m.append_entries))
        return;
    /* G16: a refused pre-vote must tell the candidate our term, or a member with the newest log and an older term
     * is refused for ever. */
    if (m.type == RAFT_REQUEST_VOTE_RESULT && vote->pre_vote && !vote->vote_granted &&
        vote->term < raft_current_term(&g->core) && !FAULT(G16)) {
        g->hits[16]++;
        vote->term = raft_current_term(&g->core);
    }
    g->host.on_message(g->host.ctx, &m);
}

/* --- steps ---------------------------------------------------------------------------------------- */

/* Tell the core which changes of membership are committed; without it every later change is refused. */
static void configure(struct guard *g)
{
    uint64_t index;
    struct raft_buffer data;

    while (!g->core.snapshot.installing &&
           g->host.change_after(g->host.ctx, g->configured, raft_commit_index(&g->core), &index, &data)) {
        struct raft_event event = {.type = RAFT_CONFIGURATION};

        g->configured = index;
        event.configuration.index = index;
        if (raft_configuration_decode(&data, &event.configuration.conf) != 0)
            abort(); /* out of memory: it was checked when it came in */
        if (step(g, &event) != 0)
            return;
    }
}

static void handle(struct guard *g, struct raft_update *u)
{
    void *ctx = g->host.ctx;

    if (u->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR))
        g->host.on_vote(ctx, raft_current_term(&g->core), raft_voted_for(&g->core));
    if (u->flags & RAFT_UPDATE_ENTRIES) {
        void *batch = u->entries.batch[0].batch;

        g->host.on_entries(ctx, u->entries.index, u->entries.batch, u->entries.n);
        raft_free(batch);
    }
    if (u->flags & RAFT_UPDATE_SNAPSHOT)
        g->host.on_install(ctx, &u->snapshot.metadata);
    if (u->flags & RAFT_UPDATE_MESSAGES)
        for (unsigned i = 0; i < u->messages.n; i++)
            outgoing(g, &u->messages.batch[i]);
    if (u->flags & (RAFT_UPDATE_STATE))
        g->host.on_state(ctx);
    if (u->flags & RAFT_UPDATE_COMMIT_INDEX) {
        g->host.on_commit(ctx);
        configure(g);
    }
}

/* One step. Returns what the core returned for a SUBMIT or TRANSFER; everything else that fails is fatal. */
static int step(struct guard *g, struct raft_event *event)
{
    struct raft_update update;
    int rv;

    memset(&update, 0, sizeof(update));
    event->time = core_time(g);
    event->capacity = g->host.capacity(g->host.ctx);
    rv = raft_step(&g->core, event, &update);
    if (rv == 0)
        handle(g, &update);
    else if (event->type != RAFT_SUBMIT && event->type != RAFT_TRANSFER)
        fatal(g, event->type, rv);
    return rv;
}

static void step_receive(struct guard *g, struct raft_message *m)
{
    struct raft_event event = {.type = RAFT_RECEIVE};

    m->server_address = "";
    for (unsigned i = 0; i < g->core.configuration.n; i++)
        if (g->core.configuration.servers[i].id == m->server_id)
            m->server_address = g->core.configuration.servers[i].address;
    AUTO_FREE
    char *address = mem_strdup(m->server_address); /* the step may free the configuration it stands in */
    m->server_address = address;
    event.receive.message = m;
    (void)step(g, &event);
    m->server_address = NULL;
}

/* --- life ----------------------------------------------------------------------------------------- */

void guard_start(struct guard *g, const struct guard_host *host, const struct guard_config *config, uint64_t term,
                 uint64_t vote)
{
    *g = (struct guard){.host = *host, .config = *config, .heard_ms = INT64_MIN / 2, .fired_ms = INT64_MIN / 2};
    guard_restart(g, term, vote);
}

void guard_restart(struct guard *g, uint64_t term, uint64_t vote)
{
    const struct guard_config *c = &g->config;
    struct raft_event event = {.type = RAFT_START};

    guard_stop(g);
    memset(&g->core, 0, sizeof(g->core));
    if (raft_init(&g->core, NULL, NULL, c->id, c->address) != 0)
        abort(); /* out of memory */
    g->core.tracer = NULL;
    g->running = true;
    raft_seed(&g->core, g->config.seed++);
    raft_set_election_timeout(&g->core, c->election_ms);
    raft_set_heartbeat_timeout(&g->core, c->heartbeat_ms);
    raft_set_install_snapshot_timeout(&g->core, c->install_ms);
    raft_set_max_inflight_entries(&g->core, c->window);
    /* The core's own capacity threshold stays off: with it a candidate whose voters' disks are full fails in the
     * middle of becoming leader, since its barrier is refused. The driver refuses proposals instead. */
    raft_set_pre_vote(&g->core, true);
    event.start.term = term;
    event.start.voted_for = vote;
    g->host.start(g->host.ctx, &event);
    /* What a snapshot stands for, or the first entry, is committed in the core's eyes. */
    g->configured = event.start.metadata ? event.start.metadata->index : event.start.n_entries ? 1 : 0;
    struct raft_entry *entries = event.start.entries;
    void *batch = event.start.n_entries ? entries[0].batch : NULL;
    if (step(g, &event) == 0) { /* the core copied what it needs */
        raft_free(batch);
        raft_free(entries);
    }
}

void guard_stop(struct guard *g)
{
    if (g->running)
        raft_close(&g->core, NULL);
    g->running = false;
}

/* --- incoming messages ---------------------------------------------------------------------------- */

/* G1: the core's own answer to a message of an older term holds an uninitialised index. */
static void answer_stale(struct guard *g, const struct raft_message *m)
{
    struct raft_message reply = {.type = RAFT_APPEND_ENTRIES_RESULT, .server_id = m->server_id};
    struct raft_append_entries_result *result = &reply.append_entries_result;

    result->version = RESULT_VERSION;
    result->term = raft_current_term(&g->core);
    result->rejected = 1;
    result->features = FEATURE_CAPACITY;
    result->capacity = g->host.capacity(g->host.ctx);
    g->host.on_message(g->host.ctx, &reply);
}

/* Pass the entries [from, to) of a message to the core as a message of their own. A batch of its own is what the
 * core may keep or free; the payloads stay the caller's. */
static void receive_part(struct guard *g, const struct raft_message *m, unsigned from, unsigned to,
                         uint64_t least_commit)
{
    struct raft_message part = *m;
    struct raft_append_entries *a = &part.append_entries;

    if (from > 0) {
        a->prev_log_index += from;
        a->prev_log_term = m->append_entries.entries[from - 1].term;
    }
    a->leader_commit = MAX(a->leader_commit, least_commit);
    a->n_entries = to - from;
    a->entries = NULL;
    if (a->n_entries) {
        void *batch = raft_malloc(1);

        a->entries = raft_calloc(a->n_entries, sizeof(*a->entries));
        if (!batch || !a->entries)
            abort(); /* out of memory */
        memcpy(a->entries, m->append_entries.entries + from, a->n_entries * sizeof(*a->entries));
        for (unsigned i = 0; i < a->n_entries; i++)
            a->entries[i].batch = batch;
    }
    struct raft_entry *entries = a->entries;
    step_receive(g, &part);
    raft_free(entries);
}

/* G7: the core files a change of membership under the index of its message's first entry, so each one must come
 * first. And it keeps one former configuration to fall back to, so the one before must be known to be committed:
 * that it is, a second change proves, since no leader proposes one before. */
static void receive_split(struct guard *g, const struct raft_message *m, unsigned from)
{
    const struct raft_append_entries *a = &m->append_entries;

    do {
        unsigned to = FAULT(G7) ? a->n_entries : from + (from < a->n_entries);

        while (to < a->n_entries && a->entries[to].type != RAFT_CHANGE)
            to++;
        uint64_t pending = g->core.configuration_uncommitted_index;
        if (!FAULT(G7) && from < a->n_entries && a->entries[from].type == RAFT_CHANGE && pending &&
            pending <= a->prev_log_index + from) {
            g->hits[7]++;
            receive_part(g, m, from, from, pending);
        }
        g->hits[7] += to < a->n_entries;
        receive_part(g, m, from, to, 0);
        from = to;
    } while (from < a->n_entries && g->core.state == RAFT_FOLLOWER);
}

static void receive_append(struct guard *g, struct raft_message *m)
{
    struct raft_append_entries *a = &m->append_entries;
    uint64_t commit = raft_commit_index(&g->core);
    unsigned from = 0;

    /* G2: what lies at or below our commit index is cut off. After a compaction the core would take it for new. */
    if (!FAULT(G2) && !g->core.snapshot.installing && a->prev_log_index < commit) {
        g->hits[2]++;
        if (a->prev_log_index + a->n_entries <= commit) {
            a->prev_log_index = commit;
            a->prev_log_term = g->host.term_of(g->host.ctx, commit);
            a->n_entries = 0;
            assert(a->prev_log_term);
        } else {
            from = (unsigned)(commit - a->prev_log_index);
        }
    }
    receive_split(g, m, from);
}

static void receive_install(struct guard *g, struct raft_message *m)
{
    /* G11: the core would leak it. */
    if (g->core.snapshot.installing && !FAULT(G11)) {
        g->hits[11]++;
        raft_configuration_close(&m->install_snapshot.conf);
    } else {
        step_receive(g, m);
    }
    raft_configuration_init(&m->install_snapshot.conf);
}

/* From a leader: AppendEntries and InstallSnapshot. */
static void receive_from_leader(struct guard *g, struct raft_message *m)
{
    bool append = m->type == RAFT_APPEND_ENTRIES;
    uint64_t term = append ? m->append_entries.term : m->install_snapshot.term;

    if (term < raft_current_term(&g->core) && !FAULT(G1)) {
        g->hits[1]++;
        answer_stale(g, m);
    } else if (term == raft_current_term(&g->core) && g->core.state == RAFT_LEADER && !FAULT(G14)) {
        g->hits[14]++; /* G14: two leaders in one term cannot be: someone runs with a copy of a member's files */
        log_error("a member claims to lead our own term: is a manager's directory used twice?",
                  "member=%llu term=%llu", (unsigned long long)m->server_id, (unsigned long long)term);
    } else {
        g->heard_ms = (int64_t)core_time(g);
        if (append) {
            receive_append(g, m);
            return;
        }
        receive_install(g, m);
        return;
    }
    if (!append) {
        raft_configuration_close(&m->install_snapshot.conf);
        raft_configuration_init(&m->install_snapshot.conf);
    }
}

/* G5: a member that is no voter by its own log never votes, though the candidate's newer configuration may need it.
 * Then the plain rule of Raft is applied here. True when the request was answered, or will be after a restart. */
static bool vote_outside(struct guard *g, const struct raft_message *m)
{
    const struct raft_request_vote *a = &m->request_vote;
    uint64_t term = raft_current_term(&g->core), vote = a->term > term ? 0 : raft_voted_for(&g->core);
    uint64_t last = raft_last_index(&g->core), last_term = last ? g->host.term_of(g->host.ctx, last) : 0;
    bool quiet = a->disrupt_leader || (int64_t)core_time(g) >= g->heard_ms + (int64_t)g->config.election_ms;
    bool newer = a->last_log_term > last_term || (a->last_log_term == last_term && a->last_log_index >= last);
    struct raft_message reply = {.type = RAFT_REQUEST_VOTE_RESULT, .server_id = m->server_id};
    struct raft_request_vote_result *result = &reply.request_vote_result;

    if (FAULT(G5) || raft_role(&g->core) == RAFT_VOTER || g->core.state != RAFT_FOLLOWER || last == 0 ||
        g->core.snapshot.installing || !g->host.settled(g->host.ctx))
        return false;
    if (!quiet || !newer || a->term < term || (!a->pre_vote && vote && vote != a->candidate_id))
        return false;
    g->hits[5]++;
    result->version = VOTE_VERSION;
    result->term = a->term;
    result->vote_granted = true;
    result->pre_vote = a->pre_vote;
    result->features = FEATURE_CAPACITY;
    result->capacity = g->host.capacity(g->host.ctx);
    if (a->pre_vote || (a->term == term && vote))
        g->host.on_message(g->host.ctx, &reply);
    else
        g->host.on_restart(g->host.ctx, a->term, a->candidate_id, &reply);
    return true;
}

/* G6: a rejection that lies below what the member is known to have was overtaken by its acknowledgement. */
static bool overtaken(struct guard *g, const struct raft_message *m)
{
    const struct raft_append_entries_result *a = &m->append_entries_result;
    raft_index match;

    if (FAULT(G6) || !a->rejected || g->core.state != RAFT_LEADER || a->term != raft_current_term(&g->core) ||
        raft_match_index(&g->core, m->server_id, &match) != 0 || a->last_log_index >= match)
        return false;
    g->hits[6]++;
    return true;
}

void guard_receive(struct guard *g, struct raft_message *m)
{
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
    case RAFT_INSTALL_SNAPSHOT:
        receive_from_leader(g, m);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        if (overtaken(g, m))
            return;
        break;
    case RAFT_REQUEST_VOTE:
        if (vote_outside(g, m))
            return;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        /* G12: in any other state the core would read another member of a union. */
        if (g->core.state != RAFT_CANDIDATE && !FAULT(G12)) {
            g->hits[12]++;
            return;
        }
        break;
    case RAFT_TIMEOUT_NOW:
        /* G3: see guard_timeout. */
        if (guard_sole(&g->core.configuration, g->config.id) && !FAULT(G3)) {
            g->hits[3]++;
            return;
        }
        break;
    }
    step_receive(g, m);
}

/* --- timer ---------------------------------------------------------------------------------------- */

int64_t guard_deadline(const struct guard *g)
{
    int64_t deadline = (int64_t)raft_timeout(&g->core) - g->skew_ms - TIME_OF_START;

    /* G8: a timer that stays in the past must not spin. */
    return FAULT(G8) ? deadline : MAX(deadline, g->fired_ms + TIMER_LEAST_MS);
}

void guard_timeout(struct guard *g)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};

    g->fired_ms = g->host.now_ms(g->host.ctx);
    /* G3: a sole voter elects itself without a new term, and would use indexes of entries again that it had sent,
     * but not stored, before a crash. It begins again in a new term instead. */
    if (g->core.state == RAFT_FOLLOWER && guard_sole(&g->core.configuration, g->config.id) && !FAULT(G3)) {
        g->hits[3]++;
        if (!g->core.snapshot.installing && g->host.settled(g->host.ctx))
            g->host.on_restart(g->host.ctx, raft_current_term(&g->core) + 1, g->config.id, NULL);
        return;
    }
    (void)step(g, &event);
}

void guard_expire(struct guard *g)
{
    int64_t left = guard_deadline(g) - g->host.now_ms(g->host.ctx);

    if (g->core.state == RAFT_FOLLOWER && left > 0)
        g->skew_ms += left;
}

/* --- durability ----------------------------------------------------------------------------------- */

void guard_persisted(struct guard *g, uint64_t index)
{
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

    /* G14: it must grow and must be there. */
    if (g->core.snapshot.installing || index <= g->core.last_stored || index > raft_last_index(&g->core))
        return;
    event.persisted_entries.index = index;
    (void)step(g, &event);
}

void guard_snapshot(struct guard *g, struct raft_snapshot_metadata *metadata, unsigned trailing)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT};

    assert(!g->core.snapshot.installing && metadata->index <= raft_commit_index(&g->core));
    event.snapshot.metadata = *metadata;
    event.snapshot.trailing = trailing;
    (void)step(g, &event);
}

void guard_installed(struct guard *g, struct raft_snapshot_metadata *metadata)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};

    assert(g->core.snapshot.installing && g->core.state == RAFT_FOLLOWER);
    g->configured = metadata->index;
    event.persisted_snapshot.metadata = *metadata;
    event.persisted_snapshot.last = true;
    (void)step(g, &event);
}

/* --- leading -------------------------------------------------------------------------------------- */

static int submit(struct guard *g, uint8_t type, const struct raft_buffer *data, unsigned count, struct err *e)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    struct raft_entry *entries = mem_array(count, sizeof(*entries));
    void *batch = raft_malloc(1);

    if (!batch)
        abort(); /* out of memory */
    for (unsigned i = 0; i < count; i++)
        entries[i] = (struct raft_entry){.term = raft_current_term(&g->core),
                                         .type = (enum raft_entry_type)type,
                                         .buf = data[i],
                                         .batch = batch};
    event.submit.entries = entries;
    event.submit.n = count;
    int rv = step(g, &event);
    if (rv != 0)
        raft_free(batch); /* on error everything stays ours */
    free(entries);
    if (rv == 0)
        return 0;
    if (rv == RAFT_CANTCHANGE)
        return err_set(e, ERR_CONFLICT, "another change of the managers is under way");
    return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
}

int guard_submit(struct guard *g, uint8_t type, const struct raft_buffer *data, unsigned count, struct err *e)
{
    assert(type != RAFT_CHANGE || FAULT(G10));
    return submit(g, type, data, count, e);
}

static const struct raft_server *server_of(const struct raft_configuration *c, uint64_t id)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id)
            return &c->servers[i];
    return NULL;
}

/* In how many members two configurations differ, by id and role. */
static unsigned differences(const struct raft_configuration *a, const struct raft_configuration *b)
{
    unsigned count = 0;

    for (unsigned i = 0; i < a->n; i++) {
        const struct raft_server *other = server_of(b, a->servers[i].id);

        count += !other || other->role != a->servers[i].role;
    }
    for (unsigned i = 0; i < b->n; i++)
        count += !server_of(a, b->servers[i].id);
    return count;
}

/* G9: RAFT_CATCH_UP is never used; the driver watches raft_match_index. G8: nor is RAFT_SPARE. */
int guard_change(struct guard *g, const struct raft_configuration *conf, struct err *e)
{
    const struct raft_server *self = server_of(conf, g->config.id);
    struct raft_buffer data;

    if (g->core.state != RAFT_LEADER || raft_transferee(&g->core))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    /* G17: two leaders might each hold an uncommitted change of one base, and each have its own majority. */
    if (!guard_established(g) && !FAULT(G17)) {
        g->hits[17]++;
        return err_set(e, ERR_UNAVAILABLE, "the leader has not committed anything in its term yet");
    }
    /* G10: one at a time, and in a proposal of its own. */
    if (g->core.configuration_uncommitted_index && !FAULT(G10)) {
        g->hits[10]++;
        return err_set(e, ERR_CONFLICT, "another change of the managers is under way");
    }
    /* G4: with two voters the other would lead the same term. */
    if ((!self || self->role != RAFT_VOTER) && !FAULT(G4)) {
        g->hits[4]++;
        return err_set(e, ERR_INVALID, "the leader cannot demote or remove itself: hand over first");
    }
    if (differences(&g->core.configuration, conf) > 1)
        return err_set(e, ERR_INVALID, "only one manager can change at a time");
    for (unsigned i = 0; i < conf->n; i++)
        if (conf->servers[i].role == RAFT_SPARE && !FAULT(G8)) {
            g->hits[8]++;
            return err_set(e, ERR_INVALID, "spare members are not supported");
        }
    if (raft_configuration_encode(conf, &data) != 0)
        abort(); /* out of memory */
    int rc = submit(g, RAFT_CHANGE, &data, 1, e);
    raft_free(data.base);
    return rc;
}

int guard_transfer(struct guard *g, uint64_t to, struct err *e)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    bool others = false, level = false;

    if (g->core.state != RAFT_LEADER || raft_transferee(&g->core))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    for (unsigned i = 0; i < g->core.configuration.n && !level; i++) {
        const struct raft_server *s = &g->core.configuration.servers[i];
        raft_index match;

        if (s->id == g->config.id || s->role != RAFT_VOTER || (to && s->id != to))
            continue;
        others = true;
        level = raft_match_index(&g->core, s->id, &match) == 0 && match == raft_last_index(&g->core);
        if (level || FAULT(G15))
            event.transfer.server_id = s->id;
    }
    if (!others)
        return err_set(e, ERR_NOT_FOUND, "there is no other voter to hand over to");
    /* G15: with entries under way the core fires too early and the target ignores it. */
    if (!level && !FAULT(G15)) {
        g->hits[15]++;
        return err_set(e, ERR_AGAIN, "no other voter has everything yet");
    }
    int rv = step(g, &event);
    return rv == 0 ? 0 : err_set(e, ERR_UNAVAILABLE, "handing over failed: %s", raft_strerror(rv));
}
