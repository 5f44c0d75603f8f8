/* Taking snapshots.
 *
 * When the log since the last snapshot is larger than both the configured least and that snapshot, the store is
 * asked for a stable view of itself; the bulk lane reads it chunk by chunk, one job each, so that spare segments
 * and old entries are not kept waiting by a large store. Then the file gets its name, older snapshots go, and the
 * log they stand for is dropped: in memory, in the core, on disk, in one turn.
 *
 * The last segments stay as trailing entries, so that a member that lags a little needs no snapshot. Whatever a
 * crash leaves behind is a file with a temporary name, an older snapshot, or segments nobody needs. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/driver.h"
#include "manager/raft/fault.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define TRAILING_SEGMENTS 2
#define RETRY_MS          10000

static void take_work(struct env_job *job);
static void take_done(struct env_job *job);

static void post(struct replica *r)
{
    r->take.job = (struct env_job){.work = take_work, .done = take_done};
    r->env->post(r->env, ENV_LANE_BULK, &r->take.job);
}

/* --- on the bulk lane ----------------------------------------------------------------------------- */

/* One chunk, or at the end of the contents the end of the file. */
static void take_work(struct env_job *job)
{
    struct take *t = container_of(job, struct take, job);
    struct replica *r = container_of(t, struct replica, take);
    long got = 1;
    int rc = 0;

    if (!t->out)
        rc = snapshot_out_open(&r->snapshots, SNAPSHOT_TAKEN, &t->info, &t->out, &t->e);
    buf_clear(&t->chunk);
    while (rc == 0 && t->chunk.length < t->info.chunk_bytes) {
        size_t want = t->info.chunk_bytes - t->chunk.length;

        got = t->source.read(t->source.ctx, buf_reserve(&t->chunk, want), want, &t->e);
        if (got < 0)
            rc = (int)got;
        if (got <= 0)
            break;
        buf_added(&t->chunk, (size_t)got);
    }
    if (rc == 0 && t->chunk.length)
        rc = snapshot_out_add(t->out, buf_bytes(&t->chunk), t->chunk.length, &t->e);
    if (rc == 0 && got == 0) {
        struct snapshot_info whole;

        rc = snapshot_out_end(t->out, &whole, &t->e);
        if (rc == 0) {
            snapshot_info_fini(&t->info);
            t->info = whole;
            t->ended = true;
            rc = snapshot_publish(&r->snapshots, SNAPSHOT_TAKEN, t->info.index, &t->e);
        }
    }
    if (rc < 0 && t->e.code == 0)
        err_set(&t->e, rc, "the store could not be read");
}

struct remove_job {
    struct env_job base;
    struct replica *replica;
    uint64_t index;   /* older snapshots go */
    uint32_t segment; /* older segments go */
};

static void remove_work(struct env_job *base)
{
    struct remove_job *job = container_of(base, struct remove_job, base);
    struct err e;

    /* What stays costs room and nothing else; the next snapshot tries again. */
    if (snapshots_remove_before(&job->replica->snapshots, job->index, &e) < 0 ||
        disklog_remove(job->replica->log, job->segment, &e) < 0)
        log_warn("old snapshots or log segments could not be removed", "error=\"%s\"", e.text);
}

static void remove_done(struct env_job *base)
{
    free(container_of(base, struct remove_job, base));
}

void take_remove_old(struct replica *r, uint32_t segment)
{
    struct remove_job *job = mem_alloc(sizeof(*job));

    job->base = (struct env_job){.work = remove_work, .done = remove_done};
    job->replica = r;
    job->index = r->last.index;
    job->segment = segment;
    r->env->post(r->env, ENV_LANE_BULK, &job->base);
}

/* --- back on the loop ----------------------------------------------------------------------------- */

/* The first entry to keep: the last segments before the snapshot's end stay whole. */
static uint64_t keep_from(const struct replica *r, uint64_t index)
{
    uint32_t segment = tail_place(&r->tail, index).segment;
    uint64_t low = tail_first(&r->tail), high = index;

    if (segment <= TRAILING_SEGMENTS)
        return low;
    while (low < high) { /* places grow with the index */
        uint64_t middle = low + (high - low) / 2;

        if (tail_place(&r->tail, middle).segment < segment - TRAILING_SEGMENTS)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The file is there: make it the last snapshot and drop what it stands for. */
static void accept(struct replica *r)
{
    struct take *t = &r->take;
    uint64_t index = t->info.index;

    if (install_active(r) || index <= r->last.index || tail_term(&r->tail, index) != t->info.term)
        return; /* a leader's snapshot came in between */
    snapshot_info_fini(&r->last);
    r->last = t->info;
    t->info = (struct snapshot_info){0};
    r->stats.snapshots++;
    uint64_t first = keep_from(r, index);
    uint32_t segment = tail_place(&r->tail, first).segment;
    driver_make_metadata(r);
    if (first > tail_first(&r->tail))
        tail_drop(&r->tail, first - 1);
    guard_snapshot(&r->guard, &r->metadata, (unsigned)(index - r->tail.base_index));
    take_remove_old(r, segment);
    log_info("raft snapshot taken", "member=%llu index=%llu bytes=%llu", (unsigned long long)r->id,
             (unsigned long long)index, (unsigned long long)r->last.bytes);
}

static void end(struct replica *r)
{
    struct take *t = &r->take;

    if (t->source.end)
        t->source.end(t->source.ctx);
    snapshot_out_free(t->out);
    snapshot_info_fini(&t->info);
    buf_fini(&t->chunk);
    *t = (struct take){.again_ms = t->again_ms};
    driver_wake(r);
}

static void take_done(struct env_job *job)
{
    struct take *t = container_of(job, struct take, job);
    struct replica *r = container_of(t, struct replica, take);

    if (t->e.code && !r->closing) {
        log_warn("a raft snapshot could not be taken", "member=%llu error=\"%s\"", (unsigned long long)r->id,
                 t->e.text);
        t->again_ms = driver_now(r) + RETRY_MS;
    }
    if (t->e.code || t->canceled || r->closing || r->failed) {
        end(r);
    } else if (!t->ended) {
        post(r);
    } else {
        t->holding = true;
        driver_wake(r);
    }
}

/* --- beginning ------------------------------------------------------------------------------------ */

static void begin(struct replica *r)
{
    struct take *t = &r->take;
    const struct tail_change *change;
    struct err e = {0};

    if (r->events.on_snapshot(r->events.ctx, &t->source, &e) < 0) {
        log_warn("the store gave no snapshot", "member=%llu error=\"%s\"", (unsigned long long)r->id, e.text);
        t->source = (struct replica_snapshot_source){0};
        t->again_ms = driver_now(r) + RETRY_MS;
        return;
    }
    uint64_t index = t->source.index;
    assert(index > r->last.index && index <= r->applied);
    t->info = (struct snapshot_info){
        .index = index, .term = tail_term(&r->tail, index), .chunk_bytes = r->snapshots.chunk_bytes};
    change = tail_change_at(&r->tail, index);
    if (change) {
        t->info.configuration_index = change->index;
        t->info.configuration = mem_dup(change->data, change->size);
        t->info.configuration_size = change->size;
    } else {
        t->info.configuration_index = r->last.configuration_index;
        t->info.configuration = mem_dup(r->last.configuration, r->last.configuration_size);
        t->info.configuration_size = r->last.configuration_size;
    }
    r->log_from = 0;
    t->active = true;
    if (FAULT(REMOVE_EARLY))
        take_remove_old(r, tail_place(&r->tail, keep_from(r, index)).segment);
    post(r);
}

void take_advance(struct replica *r)
{
    struct take *t = &r->take;
    uint64_t least = MAX(r->snapshot_bytes, r->last.bytes);

    if (t->holding && (t->canceled || t->info.index <= raft_commit_index(&r->guard.core))) {
        if (!t->canceled)
            accept(r);
        end(r);
    }
    if (t->active || install_active(r) || r->log_from <= least || r->applied <= r->last.index ||
        driver_now(r) < t->again_ms)
        return;
    begin(r);
}

void take_cancel(struct replica *r)
{
    struct take *t = &r->take;

    t->canceled = t->active;
    if (t->holding)
        end(r);
}

int64_t take_due(const struct replica *r)
{
    bool wants = !r->take.active && r->log_from > MAX(r->snapshot_bytes, r->last.bytes);

    return wants && r->take.again_ms > driver_now(r) ? r->take.again_ms : DRIVER_NEVER;
}
