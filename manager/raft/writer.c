/* See writer.h.
 *
 * The loop appends items to `waiting` and posts a job unless one is on its way. The job takes all of them, on the
 * lane: term and vote first (nothing that waits in the log depends on being written before them, while everything
 * that the driver holds back waits for them), then runs of entries, each run as one write. So batches grow exactly
 * as fast as the disk is slow.
 *
 * When the disk is full the rest goes back to the head of `waiting` and no job takes anything until the loop has
 * reason to try again: the order of items never changes. */
#include <assert.h>
#include <stdlib.h>

#include "manager/raft/fault.h"
#include "manager/raft/writer.h"
#include "proto/base/mem.h"

enum item_kind { ITEM_ENTRIES, ITEM_VOTE, ITEM_RESET, ITEM_MARK, ITEM_CLOSE };

struct writer_item {
    struct list by_order, by_waiting;
    enum item_kind kind;
    int64_t since_us;
    uint64_t first;                 /* ENTRIES: index; VOTE: term; RESET: index */
    uint64_t second;                /* VOTE: vote; RESET: term */
    size_t count, written;          /* ENTRIES */
    bool cut;                       /* ENTRIES: they replace others */
    struct segment_record *records; /* ENTRIES, owned; contents in blocks */
    struct block **blocks;          /* a reference for each record, owned */
    struct disklog_place *places;   /* owned */
};

struct writer_job {
    struct env_job base;
    struct writer *writer;
    struct list done; /* of writer_item.by_waiting: written, in order */
    bool full;        /* some were not, for want of room */
    struct err e;     /* code 0: no failure */
};

static void item_free(struct writer_item *item)
{
    for (size_t i = 0; i < item->count; i++)
        block_unref(item->blocks[i]);
    free(item->blocks);
    free(item->records);
    free(item->places);
    free(item);
}

void writer_init(struct writer *w, struct replica_env *env, struct disklog *log, struct tail *tail,
                 const struct writer_events *events)
{
    *w = (struct writer){.env = env, .log = log, .tail = tail, .events = *events};
    list_init(&w->order);
    list_init(&w->waiting);
    pthread_mutex_init(&w->lock, NULL);
}

void writer_fini(struct writer *w)
{
    struct writer_item *item, *after;

    list_each_safe (item, after, &w->order, by_order)
        item_free(item);
    pthread_mutex_destroy(&w->lock);
}

/* --- queueing ------------------------------------------------------------------------------------- */

static void job_work(struct env_job *base);
static void job_done(struct env_job *base);

static void kick(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    bool post = !w->posted && !w->full && !list_empty(&w->waiting);
    w->posted |= post;
    pthread_mutex_unlock(&w->lock);
    if (!post)
        return;
    struct writer_job *job = mem_alloc(sizeof(*job));
    job->base = (struct env_job){.work = job_work, .done = job_done};
    job->writer = w;
    list_init(&job->done);
    w->env->post(w->env, ENV_LANE_LOG, &job->base);
}

static void queue(struct writer *w, struct writer_item item)
{
    struct writer_item *copy = mem_dup(&item, sizeof(item));

    copy->since_us = clock_mono_us(w->env->clock);
    w->cuts += copy->cut;
    list_push(&w->order, &copy->by_order);
    pthread_mutex_lock(&w->lock);
    list_push(&w->waiting, &copy->by_waiting);
    pthread_mutex_unlock(&w->lock);
    kick(w);
}

void writer_entries(struct writer *w, uint64_t first, unsigned count, bool cut)
{
    struct writer_item item = {.kind = ITEM_ENTRIES, .first = first, .count = count, .cut = cut};

    item.records = mem_array(count, sizeof(*item.records));
    item.blocks = mem_array(count, sizeof(struct block *));
    item.places = mem_array(count, sizeof(*item.places));
    for (unsigned i = 0; i < count; i++) {
        const struct tail_entry *entry = tail_get(w->tail, first + i);

        assert(entry);
        item.records[i] = (struct segment_record){.index = first + i,
                                                  .term = entry->term,
                                                  .type = entry->type,
                                                  .cut = cut && i == 0 && !FAULT(CUT_FORGOTTEN),
                                                  .data = entry->data,
                                                  .size = entry->size};
        item.blocks[i] = block_ref(entry->block);
    }
    queue(w, item);
}

void writer_vote(struct writer *w, uint64_t term, uint64_t vote)
{
    queue(w, (struct writer_item){.kind = ITEM_VOTE, .first = term, .second = vote});
}

void writer_reset(struct writer *w, uint64_t index, uint64_t term)
{
    queue(w, (struct writer_item){.kind = ITEM_RESET, .first = index, .second = term});
}

void writer_mark(struct writer *w)
{
    queue(w, (struct writer_item){.kind = ITEM_MARK});
}

void writer_close(struct writer *w)
{
    queue(w, (struct writer_item){.kind = ITEM_CLOSE});
    writer_retry(w);
}

void writer_retry(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->full = false;
    pthread_mutex_unlock(&w->lock);
    kick(w);
}

bool writer_idle(const struct writer *w)
{
    return list_empty(&w->order);
}

int64_t writer_since_us(const struct writer *w)
{
    const struct writer_item *item = list_first(&w->order, struct writer_item, by_order);

    return item ? item->since_us : -1;
}

/* --- on the lane ---------------------------------------------------------------------------------- */

static struct writer_item *first_waiting(struct list *items)
{
    return list_first(items, struct writer_item, by_waiting);
}

/* The run of entries at the head of `taken` as one write; what is complete moves to job->done. */
static int write_entries(struct writer_job *job, struct list *taken, struct err *e)
{
    struct writer_item *item;
    size_t total = 0, at = 0, written = 0;

    list_each (item, taken, by_waiting) {
        if (item->kind != ITEM_ENTRIES)
            break;
        total += item->count - item->written;
    }
    AUTO_FREE
    struct segment_record *records = mem_array(total, sizeof(*records));
    AUTO_FREE
    struct disklog_place *places = mem_array(total, sizeof(*places));
    list_each (item, taken, by_waiting) {
        if (item->kind != ITEM_ENTRIES)
            break;
        for (size_t i = item->written; i < item->count; i++)
            records[at++] = item->records[i];
    }
    int rc = disklog_write(job->writer->log, records, total, places, &written, e);
    for (at = 0; at < written;) {
        item = first_waiting(taken);
        for (; item->written < item->count && at < written; at++)
            item->places[item->written++] = places[at];
        if (item->written == item->count) {
            list_remove(&item->by_waiting);
            list_push(&job->done, &item->by_waiting);
        }
    }
    return rc;
}

static int write_one(struct writer_job *job, struct list *taken, struct err *e)
{
    struct disklog *log = job->writer->log;
    struct writer_item *item = first_waiting(taken);
    int rc = 0;

    switch (item->kind) {
    case ITEM_ENTRIES:
        return write_entries(job, taken, e);
    case ITEM_VOTE: /* written before everything else */
        break;
    case ITEM_RESET:
        rc = disklog_reset(log, item->first, item->second, e);
        break;
    case ITEM_MARK:
        rc = disklog_marked(log) ? 0 : disklog_mark(log, false, e);
        break;
    case ITEM_CLOSE:
        rc = disklog_mark(log, true, e);
        break;
    }
    if (rc == 0) {
        list_remove(&item->by_waiting);
        list_push(&job->done, &item->by_waiting);
    }
    return rc;
}

static int write_votes(struct writer_job *job, struct list *taken, struct err *e)
{
    struct writer_item *item;

    list_each (item, taken, by_waiting) {
        int rc = item->kind == ITEM_VOTE && !FAULT(VOTE_NOT_STORED)
                     ? disklog_vote_put(job->writer->log, item->first, item->second, e)
                     : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void job_work(struct env_job *base)
{
    struct writer_job *job = container_of(base, struct writer_job, base);
    struct writer *w = job->writer;
    struct list taken = LIST_INIT(taken);

    pthread_mutex_lock(&w->lock);
    w->posted = false;
    if (!w->full && !w->broken)
        list_splice(&taken, &w->waiting);
    pthread_mutex_unlock(&w->lock);
    int rc = write_votes(job, &taken, &job->e);
    while (rc == 0 && !list_empty(&taken))
        rc = write_one(job, &taken, &job->e);
    if (rc == 0)
        return;
    pthread_mutex_lock(&w->lock);
    list_splice(&taken, &w->waiting); /* the rest goes before what came meanwhile */
    list_splice(&w->waiting, &taken);
    job->full = w->full = rc == ERR_UNAVAILABLE;
    w->broken = !w->full;
    pthread_mutex_unlock(&w->lock);
    if (job->full)
        job->e.code = 0;
}

/* --- back on the loop ----------------------------------------------------------------------------- */

/* Rules (a) and (b) of the header: the highest index this write vouches for; 0: none. */
static uint64_t vouched(const struct writer *w, const struct writer_item *item)
{
    const struct writer_item *later;
    uint64_t limit = UINT64_MAX, index = 0;

    if (w->cuts)
        list_each (later, &w->order, by_order)
            if (later->cut)
                limit = MIN(limit, later->first);
    for (size_t i = 0; i < item->count && item->first + i < limit; i++) {
        if (tail_term(w->tail, item->first + i) != item->records[i].term)
            break;
        index = item->first + i;
    }
    return index;
}

static void entries_written(struct writer *w, const struct writer_item *item)
{
    uint64_t durable = vouched(w, item);

    for (uint64_t i = MAX(item->first, tail_first(w->tail)); i <= durable; i++)
        tail_set_place(w->tail, i, item->places[i - item->first]);
    if (durable)
        w->events.on_durable(w->events.ctx, durable);
}

static void item_done(struct writer *w, struct writer_item *item)
{
    void *ctx = w->events.ctx;

    list_remove(&item->by_order);
    w->cuts -= item->cut;
    switch (item->kind) {
    case ITEM_ENTRIES:
        entries_written(w, item);
        break;
    case ITEM_VOTE:
        w->events.on_voted(ctx);
        break;
    case ITEM_RESET:
        w->events.on_reset(ctx);
        break;
    case ITEM_MARK:
        break;
    case ITEM_CLOSE:
        w->events.on_closed(ctx);
        break;
    }
    item_free(item);
}

static void job_done(struct env_job *base)
{
    struct writer_job *job = container_of(base, struct writer_job, base);
    struct writer *w = job->writer;
    struct writer_item *item, *after;

    list_each_safe (item, after, &job->done, by_waiting) {
        list_remove(&item->by_waiting);
        item_done(w, item);
    }
    if (job->full)
        w->events.on_full(w->events.ctx);
    if (job->e.code && !w->failed) {
        w->failed = true;
        w->events.on_failed(w->events.ctx, &job->e);
    }
    free(job);
}
