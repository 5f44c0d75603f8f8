/* The door of manager/raft (replica.h): making a member, opening it, the small questions.
 *
 * Opening: the newest snapshot is checked; the log is read, and dropped if it ends below the snapshot or
 * contradicts it (a crash in the middle of an installation, install.c); the store is restored if it is older than
 * the snapshot; what the store has beyond the log would mean that the log lost its end, and is refused. A sole
 * voter begins a new term before its core starts (guard G3). Entries that the store lacks are applied later, from
 * the turns. */
#include <stdlib.h>
#include <string.h>

#include "manager/raft/driver.h"
#include "proto/base/mem.h"

#define ELECTION_MS    500
#define HEARTBEAT_MS   50
#define SEGMENT_BYTES  (8 << 20)
#define SNAPSHOT_BYTES (64 << 20)

static uint64_t segment_bytes_of(const struct replica_config *config)
{
    uint64_t bytes = config->segment_bytes ? config->segment_bytes : SEGMENT_BYTES;

    return MIN(MAX(bytes & ~(uint64_t)(SEGMENT_SECTOR - 1), SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX);
}

static struct disklog_config log_config(const struct replica_config *config)
{
    return (struct disklog_config){
        .env = config->env,
        .dir = config->dir,
        .key = config->key,
        .cluster = config->cluster,
        .id = config->id,
        .segment_bytes = segment_bytes_of(config),
    };
}

static int check(const struct replica_config *config, struct err *e)
{
    size_t length = strnlen(config->address, MESSAGE_ADDRESS_MAX + 1);

    if (config->id == 0)
        return err_set(e, ERR_INVALID, "0 is no member's id");
    if (length == 0 || length > MESSAGE_ADDRESS_MAX)
        return err_set(e, ERR_INVALID, "\"%.80s\" is no member's address", config->address);
    return 0;
}

/* --- making --------------------------------------------------------------------------------------- */

/* The configuration of this member alone; raft_free its bytes. */
static void encode_alone(const struct replica_config *config, struct raft_buffer *ret)
{
    struct raft_configuration conf;

    raft_configuration_init(&conf);
    if (raft_configuration_add(&conf, config->id, config->address, RAFT_VOTER) != 0 ||
        raft_configuration_encode(&conf, ret) != 0)
        abort(); /* out of memory */
    raft_configuration_close(&conf);
}

int replica_bootstrap(const struct replica_config *config, struct err *e)
{
    struct disklog_config log = log_config(config);
    struct raft_buffer data;
    int rc = check(config, e);

    if (rc < 0)
        return rc;
    encode_alone(config, &data);
    const struct segment_record first = {
        .index = 1, .term = 1, .type = RAFT_CHANGE, .data = data.base, .size = (uint32_t)data.len};
    rc = config->env->dir_make(config->env, config->dir, e);
    if (rc == 0)
        rc = disklog_create(&log, 1, &first, e);
    raft_free(data.base);
    return rc < 0 ? err_wrap(e, "make the raft log in %s", config->dir) : 0;
}

/* --- opening -------------------------------------------------------------------------------------- */

static int found_entry(void *ctx, const struct segment_record *record, struct disklog_place place, struct err *e)
{
    struct replica *r = ctx;

    /* What lies before the first one was removed after a snapshot; perhaps with all that a cut left. */
    if ((r->tail.last == 0 && record->index > 1) || (record->cut && record->index <= r->tail.base_index))
        tail_reset(&r->tail, record->index - 1, 0);
    else if (record->cut)
        tail_cut(&r->tail, record->index);
    if (record->type < RAFT_COMMAND || record->type > RAFT_CHANGE || record->term == 0 ||
        record->term < tail_term(&r->tail, r->tail.last))
        return err_set(e, ERR_CORRUPT, "entry %llu of type %d has term %llu after term %llu",
                       (unsigned long long)record->index, record->type, (unsigned long long)record->term,
                       (unsigned long long)tail_term(&r->tail, r->tail.last));
    if (record->type == RAFT_CHANGE && message_check_configuration(record->data, record->size, e) < 0)
        return err_wrap(e, "entry %llu", (unsigned long long)record->index);
    tail_append_stored(&r->tail, record->term, record->type, record->data, record->size, place);
    if (record->index > r->last.index && record->index <= r->applied)
        r->log_from += segment_record_bytes(record->size); /* the others count when they are applied */
    return 0;
}

static void found_reset(void *ctx, uint64_t index, uint64_t term)
{
    struct replica *r = ctx;

    tail_reset(&r->tail, index, term);
}

/* Learn of the newest snapshot. */
static int open_snapshot(struct replica *r, struct snapshot **ret, struct err *e)
{
    uint64_t index;
    int rc = r->env->dir_make(r->env, r->snapshots.dir, e);

    if (rc == 0)
        rc = snapshots_find(&r->snapshots, &index, e);
    if (rc < 0 || index == 0)
        return rc;
    rc = snapshot_open(&r->snapshots, index, ret, e);
    if (rc == 0)
        snapshot_info_copy(&r->last, snapshot_get_info(*ret));
    return rc;
}

/* Bring log and snapshot together. */
static int check_log(struct replica *r, struct err *e)
{
    struct tail *t = &r->tail;

    if (t->base_index > r->last.index)
        return err_set(e, ERR_CORRUPT, "the log begins at entry %llu, but the newest snapshot ends at %llu",
                       (unsigned long long)tail_first(t), (unsigned long long)r->last.index);
    if (r->last.index == 0) {
        const struct tail_change *change = tail_change_at(t, 1);

        if (t->last && (!change || change->index != 1))
            return err_set(e, ERR_CORRUPT, "entry 1 is not the first configuration");
        return 0;
    }
    if (t->base_index == r->last.index && !t->base_term)
        t->base_term = r->last.term;
    if (t->last >= r->last.index && tail_term(t, r->last.index) == r->last.term)
        return 0;
    tail_reset(t, r->last.index, r->last.term);
    return disklog_reset(r->log, r->last.index, r->last.term, e);
}

static int restore(struct replica *r, struct snapshot *p, struct err *e)
{
    AUTO_BUF struct buf data = {0};
    uint64_t chunks = r->last.chunks;
    int rc = snapshot_verify(p, e); /* all of it, before the store is given the first byte */

    for (uint64_t i = 0; rc == 0 && (i == 0 || i < chunks); i++) {
        buf_clear(&data);
        if (chunks)
            rc = snapshot_chunk(p, i, &data, e);
        if (rc == 0)
            rc = r->events.on_restore(r->events.ctx, buf_bytes(&data), data.length, i == 0, i + 1 >= chunks,
                                      r->last.index, e);
    }
    if (rc == 0)
        r->applied = r->last.index;
    return rc;
}

/* The newest configuration on disk; false when there is none. */
static bool newest_configuration(const struct replica *r, struct raft_configuration *ret)
{
    const struct tail_change *change = tail_change_at(&r->tail, r->tail.last);
    struct raft_buffer data = {.base = r->last.configuration, .len = r->last.configuration_size};

    if (change)
        data = (struct raft_buffer){.base = change->data, .len = change->size};
    if (!data.base)
        return false;
    if (raft_configuration_decode(&data, ret) != 0)
        abort(); /* out of memory: it was checked when it was read */
    return true;
}

/* G3, for the newest configuration on disk. */
static bool begins_term(const struct replica *r)
{
    struct raft_configuration conf;

    if (!newest_configuration(r, &conf))
        return false;
    bool begins = guard_begins_term(&conf, r->id);
    raft_configuration_close(&conf);
    return begins;
}

/* Log and newest snapshot (NULL when there is none). */
static int open_files(struct replica *r, const struct replica_config *config, struct snapshot **ret, struct err *e)
{
    const struct disklog_found found = {.ctx = r, .entry = found_entry, .reset = found_reset};
    struct disklog_config log = log_config(config);
    bool there = false;
    int rc = config->env->dir_make(config->env, config->dir, e);

    if (rc == 0)
        rc = disklog_exists(&log, &there, e);
    if (rc == 0 && !there)
        rc = disklog_create(&log, 0, NULL, e); /* a joiner: it gets everything from the leader */
    if (rc == 0)
        rc = open_snapshot(r, ret, e);
    if (rc == 0)
        rc = disklog_open(&log, &found, &r->log, e);
    return rc < 0 ? rc : check_log(r, e);
}

static int open_all(struct replica *r, const struct replica_config *config, struct err *e)
{
    struct snapshot *snapshot = NULL;
    int rc = open_files(r, config, &snapshot, e);

    if (rc == 0 && r->applied > r->tail.last)
        rc = err_set(e, ERR_CORRUPT, "the store has applied entry %llu, but the log ends at entry %llu",
                     (unsigned long long)r->applied, (unsigned long long)r->tail.last);
    if (rc == 0 && r->applied < r->last.index)
        rc = restore(r, snapshot, e);
    snapshot_close(snapshot);
    return rc;
}

static struct replica *alloc(const struct replica_config *config, const struct replica_events *events)
{
    struct replica *r = mem_alloc(sizeof(*r));

    r->env = config->env;
    r->events = *events;
    r->id = config->id;
    r->epoch = config->epoch;
    r->address = mem_strdup(config->address);
    r->election_ms = config->election_ms ? config->election_ms : ELECTION_MS;
    r->heartbeat_ms = config->heartbeat_ms ? config->heartbeat_ms : HEARTBEAT_MS;
    r->segment_bytes = segment_bytes_of(config);
    r->snapshot_bytes = config->snapshot_bytes ? config->snapshot_bytes : SNAPSHOT_BYTES;
    r->entry_max = MIN(SEGMENT_ENTRY_MAX, r->segment_bytes / 2);
    r->applied = config->applied;
    r->mark_ms = DRIVER_NEVER;
    r->asked_ms = r->expired_ms = DRIVER_BEFORE;
    list_init(&r->outbox);
    list_init(&r->inbox);
    list_init(&r->serves);
    propose_init(r);
    tail_init(&r->tail);
    snapshots_init(&r->snapshots, config->env, config->dir, config->key, config->cluster,
                   (uint32_t)MIN(MAX(r->segment_bytes / 32, SEGMENT_SECTOR), SNAPSHOT_CHUNK_MAX));
    return r;
}

int replica_open(const struct replica_config *config, const struct replica_events *events, struct replica **ret,
                 struct err *e)
{
    struct replica *r;
    struct writer_events writer = driver_writer_events;
    struct env_events env = driver_env_events;
    int rc = check(config, e);

    if (rc < 0)
        return rc;
    r = alloc(config, events);
    rc = open_all(r, config, e);
    uint64_t term = rc == 0 ? disklog_term(r->log) : 0, vote = rc == 0 ? disklog_vote(r->log) : 0;
    if (rc == 0 && begins_term(r)) {
        term++;
        vote = r->id;
        rc = disklog_vote_put(r->log, term, vote, e);
    }
    if (rc < 0) {
        disklog_free(r->log);
        r->log = NULL;
        driver_free(r);
        return err_wrap(e, "open the raft log in %s", config->dir);
    }
    writer.ctx = env.ctx = r;
    writer_init(&r->writer, r->env, r->log, &r->tail, &writer);
    r->written = r->tail.last;
    r->env->attach(r->env, &env);
    driver_start(r, term, vote);
    *ret = r;
    return 0;
}

/* --- going on alone ------------------------------------------------------------------------------- */

static bool is_alone(const struct replica *r)
{
    struct raft_configuration conf;

    if (!newest_configuration(r, &conf))
        return false;
    bool alone = conf.n == 1 && guard_sole(&conf, r->id);
    raft_configuration_close(&conf);
    return alone;
}

/* A new term first: whatever was sent in the old ones is not taken up any more. Then the configuration, behind all
 * that is there: what others acknowledged with us stays, and what they did not becomes committed with it. A crash
 * between the two leaves a member of the old group that has seen a newer term, and the next try goes on. */
static int make_alone(struct replica *r, const struct replica_config *config, struct err *e)
{
    uint64_t term = MAX(disklog_term(r->log), tail_term(&r->tail, r->tail.last)) + 1;
    struct segment_record record = {.index = r->tail.last + 1, .term = term, .type = RAFT_CHANGE};
    struct raft_buffer data;
    struct disklog_place place;
    size_t written = 0;
    int rc = disklog_vote_put(r->log, term, r->id, e);

    if (rc < 0)
        return rc;
    encode_alone(config, &data);
    record.data = data.base;
    record.size = (uint32_t)data.len;
    rc = disklog_write(r->log, &record, 1, &place, &written, e);
    raft_free(data.base);
    return rc;
}

int replica_force(const struct replica_config *config, struct err *e)
{
    const struct replica_events none = {.ctx = NULL};
    struct snapshot *snapshot = NULL;
    int rc = check(config, e);

    if (rc < 0)
        return rc;
    struct replica *r = alloc(config, &none);
    rc = open_files(r, config, &snapshot, e);
    snapshot_close(snapshot);
    if (rc == 0 && r->tail.last == 0)
        rc = err_set(e, ERR_PRECONDITION, "this manager holds nothing of the cluster yet");
    if (rc == 0 && !is_alone(r))
        rc = make_alone(r, config, e);
    disklog_free(r->log);
    r->log = NULL;
    driver_free(r);
    return rc < 0 ? err_wrap(e, "force a new group in %s", config->dir) : 0;
}

void replica_close(struct replica *r, void (*closed)(void *ctx), void *ctx)
{
    r->closing = true;
    r->closed = closed;
    r->closed_ctx = ctx;
    driver_wake(r);
}

/* --- questions ------------------------------------------------------------------------------------ */

uint64_t replica_id(const struct replica *r)
{
    return r->id;
}

enum replica_state replica_state(const struct replica *r)
{
    return r->propose.announced;
}

uint64_t replica_term(const struct replica *r)
{
    return raft_current_term(&r->guard.core);
}

/* The core's own word for a leader's address is the sender's of a message, which ours do not carry. */
static const char *address_of(const struct replica *r, uint64_t id)
{
    const struct raft_configuration *c = &r->guard.core.configuration;

    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id)
            return c->servers[i].address;
    return NULL;
}

uint64_t replica_leader(const struct replica *r, const char **ret_address)
{
    raft_id id = 0;
    const char *unused;

    raft_leader((struct raft *)&r->guard.core, &id, &unused); /* changes nothing */
    if (id == r->id && r->propose.announced != REPLICA_LEADER)
        id = 0; /* not before its barrier is applied */
    if (ret_address)
        *ret_address = id ? address_of(r, id) : NULL;
    return id;
}

uint64_t replica_last_index(const struct replica *r)
{
    return r->tail.last;
}

uint64_t replica_commit_index(const struct replica *r)
{
    return r->commit;
}

size_t replica_members(const struct replica *r, struct replica_member *ret, size_t max)
{
    const struct raft_configuration *c = &r->guard.core.configuration;
    size_t count = MIN(c->n, max);

    for (size_t i = 0; i < count; i++) {
        const struct raft_server *s = &c->servers[i];
        raft_index match = 0;

        ret[i] = (struct replica_member){
            .id = s->id, .address = s->address, .voter = s->role == RAFT_VOTER, .heard_ms = -1};
        if (raft_match_index(&r->guard.core, s->id, &match) == 0)
            ret[i].match = match;
        for (size_t k = 0; k < r->peer_count; k++)
            if (r->peers[k].id == s->id && r->peers[k].heard_ms >= 0)
                ret[i].heard_ms = driver_now(r) - r->peers[k].heard_ms;
    }
    return count;
}

void replica_stats(const struct replica *r, struct replica_stats *ret)
{
    *ret = r->stats;
    ret->log_bytes = disklog_bytes(r->log);
    ret->writes = ret->syncs = disklog_writes(r->log);
}
