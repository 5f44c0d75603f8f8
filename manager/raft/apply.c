/* Committed entries on their way to the store, and entries that are read from disk again.
 *
 * What is applied is committed and on our own disk: the core may commit what our disk does not have yet, and the
 * store must not be ahead of our log. Entries whose contents are not in memory any more (after a restart; for a
 * member that lags) are fetched on the bulk lane, a bounded piece at a time. */
#include <stdlib.h>

#include "manager/raft/driver.h"
#include "manager/raft/fault.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define APPLY_ENTRIES 512       /* in one batch, one turn */
#define APPLY_BYTES   (1 << 20) /* unless one entry is larger */
#define FETCH_ENTRIES 4096
#define FETCH_APPLY   (1 << 20) /* bytes read at a time to be applied */

struct fetched {
    uint64_t term;
    size_t offset, size; /* of the contents in the data */
    uint8_t type;
};

struct fetch {
    struct env_job job;
    struct replica *replica;
    uint64_t first;
    size_t count;                 /* wanted; read, once done */
    struct disklog_place *places; /* owned */
    struct fetched *entries;      /* owned */
    struct buf data;
    struct err e;
    /* For a member that lags. */
    uint64_t to; /* 0: to be applied */
    uint64_t term, prev_term, commit;
};

static void fetch_free(struct fetch *f)
{
    buf_fini(&f->data);
    free(f->places);
    free(f->entries);
    free(f);
}

static void fetch_work(struct env_job *job)
{
    struct fetch *f = container_of(job, struct fetch, job);
    struct disklog *log = f->replica->log;
    size_t i;

    disklog_read_begin(log);
    for (i = 0; i < f->count && f->data.length < (f->to ? SEND_BURST : FETCH_APPLY); i++) {
        struct fetched *entry = &f->entries[i];

        entry->offset = f->data.length;
        if (disklog_read(log, f->places[i], f->first + i, &f->data, &entry->term, &entry->type, &f->e) < 0)
            break;
        entry->size = f->data.length - entry->offset;
    }
    disklog_read_begin(log); /* closes what was read */
    f->count = i;
}

static struct fetch *fetch_new(struct replica *r, uint64_t first, uint64_t count)
{
    struct fetch *f = mem_alloc(sizeof(*f));

    f->replica = r;
    f->first = first;
    f->count = MIN(count, FETCH_ENTRIES);
    f->places = mem_array(f->count, sizeof(*f->places));
    f->entries = mem_array(f->count, sizeof(*f->entries));
    for (size_t i = 0; i < f->count; i++) {
        f->places[i] = tail_place(&r->tail, first + i);
        if (!f->places[i].segment)
            f->count = i; /* from here on they are in memory */
    }
    return f;
}

/* --- applying ------------------------------------------------------------------------------------- */

static void give(struct replica *r, const struct replica_entry *entries, size_t count)
{
    struct err e = {0};

    for (size_t i = 0; i < count; i++)
        r->log_from += segment_record_bytes(entries[i].size);
    r->applied = entries[count - 1].index;
    if (r->events.on_apply(r->events.ctx, entries, count, &e) < 0) {
        driver_fail(r, &e);
        return;
    }
    propose_applied(r);
    digest_applied(r);
    driver_wake(r); /* there may be more */
}

static uint64_t apply_limit(const struct replica *r)
{
    return FAULT(APPLY_UNCOMMITTED) ? r->written : MIN(r->commit, r->written);
}

static void apply_from_memory(struct replica *r)
{
    AUTO_FREE
    struct replica_entry *entries = mem_array(APPLY_ENTRIES, sizeof(*entries));
    uint64_t limit = MIN(apply_limit(r), r->applied + digest_room(r));
    size_t count = 0, bytes = 0;

    for (uint64_t i = r->applied + 1; i <= limit && count < APPLY_ENTRIES && bytes < APPLY_BYTES; i++) {
        const struct tail_entry *entry = tail_get(&r->tail, i);
        bool command = entry && entry->type == RAFT_COMMAND;

        if (!entry)
            break;
        entries[count++] = (struct replica_entry){.index = i,
                                                  .term = entry->term,
                                                  .data = command ? entry->data : NULL,
                                                  .size = command ? entry->size : 0};
        bytes += entry->size;
    }
    if (count)
        give(r, entries, count);
}

static void apply_fetched(struct fetch *f)
{
    struct replica *r = f->replica;
    AUTO_FREE
    struct replica_entry *entries = mem_array(f->count, sizeof(*entries));

    for (size_t i = 0; i < f->count; i++) {
        const struct fetched *entry = &f->entries[i];
        bool command = entry->type == RAFT_COMMAND;

        entries[i] = (struct replica_entry){.index = f->first + i,
                                            .term = entry->term,
                                            .data = command ? buf_bytes(&f->data) + entry->offset : NULL,
                                            .size = command ? entry->size : 0};
    }
    give(r, entries, f->count);
}

static void fetch_apply_done(struct env_job *job)
{
    struct fetch *f = container_of(job, struct fetch, job);
    struct replica *r = f->replica;

    r->fetching = NULL;
    if (r->closing || r->failed || f->first != r->applied + 1 || install_active(r))
        (void)r; /* a snapshot took their place */
    else if (f->count == 0)
        driver_fail(r, &f->e);
    else
        apply_fetched(f);
    fetch_free(f);
    driver_wake(r);
}

void apply_advance(struct replica *r)
{
    uint64_t first = r->applied + 1, limit = apply_limit(r);

    if (install_active(r) || r->fetching || first > limit)
        return;
    if (first >= r->tail.held) {
        apply_from_memory(r);
        return;
    }
    struct fetch *f = fetch_new(r, first, MIN(limit - r->applied, digest_room(r)));
    f->job = (struct env_job){.work = fetch_work, .done = fetch_apply_done};
    r->fetching = f;
    r->env->post(r->env, ENV_LANE_BULK, &f->job);
}

/* --- for members that lag ------------------------------------------------------------------------- */

static void send_fetched(struct fetch *f)
{
    AUTO_FREE
    struct raft_entry *entries = mem_array(f->count, sizeof(*entries));

    for (size_t i = 0; i < f->count; i++) {
        const struct fetched *entry = &f->entries[i];

        entries[i] = (struct raft_entry){.term = entry->term, .type = (enum raft_entry_type)entry->type};
        entries[i].buf = (struct raft_buffer){.base = buf_bytes(&f->data) + entry->offset, .len = entry->size};
    }
    send_entries(f->replica, f->to, f->first - 1, f->prev_term, f->commit, entries, (unsigned)f->count);
}

static void fetch_send_done(struct env_job *job)
{
    struct fetch *f = container_of(job, struct fetch, job);
    struct replica *r = f->replica;

    peer_of(r, f->to)->fetching = false;
    if (f->e.code)
        log_warn("old entries of the raft log could not be read", "member=%llu error=\"%s\"",
                 (unsigned long long)r->id, f->e.text);
    /* A leader never cuts its own log, so in the same term the entries are still the ones the core meant. */
    if (f->count && !r->closing && !r->failed && driver_leads(r) && raft_current_term(&r->guard.core) == f->term)
        send_fetched(f);
    fetch_free(f);
}

void fetch_send(struct replica *r, uint64_t to, uint64_t prev_index, uint64_t count)
{
    struct peer *peer = peer_of(r, to);

    if (peer->fetching)
        return; /* one at a time; the core will ask again */
    struct fetch *f = fetch_new(r, prev_index + 1, count);
    f->to = to;
    f->term = raft_current_term(&r->guard.core);
    f->prev_term = prev_index ? driver_term_of(r, prev_index) : 0;
    f->commit = raft_commit_index(&r->guard.core);
    if (f->count == 0 || (prev_index && !f->prev_term)) {
        fetch_free(f);
        return;
    }
    peer->fetching = true;
    r->stats.fetches++;
    f->job = (struct env_job){.work = fetch_work, .done = fetch_send_done};
    r->env->post(r->env, ENV_LANE_BULK, &f->job);
}
