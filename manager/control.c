/* See control.h.
 *
 *     submit ---> queue ---> draft: writes, planners ---> proposed ---> applied ---> done
 *                   ^          | nothing to write            | lost: undone, outcome unknown
 *                   |          +---> we still lead? ---> done|
 *                   +----------------------------------------+  (submitted again, with its id, by whoever asked)
 *
 * A draft is made within one turn: begun, filled, packed and proposed. So it takes what there is at that moment and
 * no more than a few milliseconds; the next one takes what came meanwhile. While one is under way nothing is
 * planned, because the next must start from the state after it. The index shows the draft from the moment it grows;
 * if it is lost, the store undoes it through index_changed, and what was planned is marked again.
 *
 * A write that put nothing (an error, an answer from the store) saw the last applied state plus what the same draft
 * held before it. It is answered with the draft, or, if there is no draft, when the replica confirms that we still
 * lead: so nobody is told of a state that never was.
 *
 * What can fail: the log or the store (on_fatal, then nothing happens any more); leadership, at any moment, which
 * costs what is under way; a refused proposal (handing over), which is tried again after a while. On a full disk
 * nothing is drafted at all, neither for people nor by the planners, since the store could not apply it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/cluster_clock.h"
#include "manager/control_fill.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/planted.h"

#define WRITES_OBJECTS     600 /* of a draft: what people ask for */
#define BACKGROUND_OBJECTS 900 /* with statuses; the rest is the planners' at least */
#define REFUSED_MS         100 /* until a refused proposal is tried again */

struct control {
    struct control_config config;
    struct store *store;
    struct replica *replica;
    struct index *index;
    struct scheduler *scheduler;
    struct cluster_clock time;
    struct list queue, background; /* of struct control_write, waiting */
    struct list batches;           /* of struct batch, not yet answered */
    struct list watches;
    struct buf packed;
    struct store_load *load; /* a snapshot that is being restored */
    bool leads;
    bool under_way;        /* a draft is proposed */
    bool full;             /* the store has no room */
    int64_t not_before_us; /* monotonic; after a refused proposal */
    struct err fatal;      /* code 0: all is well */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct control_stats stats;
};

struct batch { /* writes that are answered together */
    struct list link;
    struct control *control;
    struct list writes;
    bool proposed;
};

static void wake(struct control *c)
{
    c->config.wake(c->config.ctx);
}

static int64_t now_us(const struct control *c)
{
    return clock_mono_us(c->config.clock);
}

static void took(struct control *c, int64_t start_us)
{
    c->stats.longest_turn_us = MAX(c->stats.longest_turn_us, now_us(c) - start_us);
}

/* The store is a view of the log: whatever befalls its file, it can be rebuilt by opening everything again. */
static int store_error(struct err *e, int rc)
{
    if (rc != ERR_IO)
        return rc;
    return e->code = ERR_UNAVAILABLE;
}

static void fatal(struct control *c, const struct err *e)
{
    if (c->fatal.code)
        return;
    c->fatal = *e;
    c->config.on_fatal(c->config.ctx, e);
}

/* --- answering
 * ---------------------------------------------------------------------------------------------------- */

static void answer_all(struct list *writes, const struct err *e, bool unknown, uint64_t index)
{
    struct err fine = {0};
    struct list *link;

    while ((link = list_pop(writes))) {
        struct control_write *w = list_entry(link, struct control_write, link);

        w->unknown = unknown;
        if (e->code)
            w->done(w, e, 0);
        else
            w->done(w, w->failed ? &w->error : &fine, index);
    }
}

static struct batch *batch_new(struct control *c, struct list *writes, bool proposed)
{
    struct batch *b = mem_alloc(sizeof(*b));

    b->control = c;
    b->proposed = proposed;
    list_init(&b->writes);
    list_splice(&b->writes, writes);
    list_push(&c->batches, &b->link);
    return b;
}

static void batch_end(struct batch *b, const struct err *e, uint64_t index)
{
    bool unknown = e->code && b->proposed;
    struct list writes;

    list_init(&writes);
    list_splice(&writes, &b->writes);
    list_remove(&b->link);
    free(b);
    answer_all(&writes, e, unknown, index);
}

/* The draft's entry is applied, or will never be known to be. */
static void on_proposed(void *ctx, const struct err *e, uint64_t index)
{
    struct batch *b = ctx;
    struct control *c = b->control;
    struct err outcome = *e;

    c->under_way = false;
    if (!outcome.code && store_was_discarded(c->store, index))
        err_set(&outcome, ERR_UNAVAILABLE, "the change was planned on a state that had passed");
    if (outcome.code) {
        c->stats.lost++;
        store_drop_proposed(c->store); /* the index follows */
    }
    wake(c);
    batch_end(b, &outcome, index);
}

static void on_confirmed(void *ctx, const struct err *e)
{
    struct batch *b = ctx;

    batch_end(b, e, store_applied(b->control->store));
}

/* --- drafts
 * --------------------------------------------------------------------------------------------------------- */

static bool has_work(struct control *c)
{
    if (!list_empty(&c->queue) || !list_empty(&c->background) || index_marked(c->index))
        return true;
    if (c->config.founding && !c->index->cluster)
        return true;
    return index_next_timer(c->index) <= control_now_ms(c);
}

static void refused(struct control *c, struct list *writes, const struct err *e)
{
    log_debug("proposal refused", "error=\"%s\"", e->text);
    c->not_before_us = now_us(c) + REFUSED_MS * 1000;
    answer_all(writes, e, false, 0);
    if (c->config.founding && !c->index->cluster)
        fatal(c, e); /* whoever founds a cluster is told at once, and nothing is lost */
}

/* Whether what is proposed now will find room in the store. */
static bool has_room(struct control *c)
{
    struct list writes;
    struct err e = {0};

    if (store_room(c->store, &e) == 0) {
        if (c->full)
            log_info("the disk of the store has room again", "%s", "");
        c->full = false;
        return true;
    }
    if (!c->full)
        log_warn("the disk of the store is full: changes are refused until there is room", "error=\"%s\"", e.text);
    c->full = true;
    list_init(&writes);
    list_splice(&writes, &c->queue);
    list_splice(&writes, &c->background);
    err_wrap(&e, "the disk of this manager is full");
    refused(c, &writes, &e);
    return false;
}

/* Nothing was put: answer when it is certain that we looked as the leader. */
static void end_empty(struct control *c, struct fill *f, struct list *writes)
{
    struct err e = {0};

    draft_end(f->draft, false);
    if (list_empty(writes))
        return;
    struct batch *b = batch_new(c, writes, false);
    if (replica_read(c->replica, on_confirmed, b, &e) < 0)
        batch_end(b, &e, 0);
}

static void propose(struct control *c, struct fill *f, struct list *writes)
{
    struct err e = {0};
    struct batch *b = batch_new(c, writes, true);

    c->stats.objects += draft_objects(f->draft);
    buf_clear(&c->packed);
    draft_pack(f->draft, &c->packed);
    if (replica_propose(c->replica, buf_bytes(&c->packed), c->packed.length, on_proposed, b, &e) < 0) {
        draft_end(f->draft, false);
        list_splice(writes, &b->writes);
        list_remove(&b->link);
        free(b);
        refused(c, writes, &e);
        return;
    }
    draft_end(f->draft, true);
    if (PLANTED(ANSWERED_EARLY))
        answer_all(&b->writes, &e, false, store_applied(c->store));
    c->under_way = true;
    c->stats.drafts++;
}

static void make_draft(struct control *c, int64_t start_us)
{
    struct list writes;
    struct fill f;

    list_init(&writes);
    fill_begin(&f, c->store, c->index, c->config.clock, c->config.entropy, control_now_ms(c), start_us);
    f.plan.orphan_ms = c->config.orphan_ms;
    if (c->config.founding && !c->index->cluster)
        control_found(&f.plan, c->config.founding);
    c->stats.writes += fill_writes(&f, &c->queue, &writes, WRITES_OBJECTS);
    c->stats.writes += fill_writes(&f, &c->background, &writes, BACKGROUND_OBJECTS);
    fill_plan(&f, c->scheduler);
    if (draft_empty(f.draft))
        end_empty(c, &f, &writes);
    else
        propose(c, &f, &writes);
}

/* Writes that come to a manager which does not lead were executed by nobody. */
static void turn_away(struct control *c)
{
    struct err e = {0};

    err_set(&e, ERR_UNAVAILABLE, "this manager does not lead");
    answer_all(&c->queue, &e, false, 0);
    answer_all(&c->background, &e, false, 0);
}

static int64_t wait_ms(struct control *c)
{
    if (c->under_way)
        return -1; /* its end wakes us */
    if (now_us(c) < c->not_before_us)
        return (c->not_before_us - now_us(c)) / 1000 + 1;
    if (has_work(c))
        return 0;
    int64_t timer = index_next_timer(c->index);
    return timer == INT64_MAX ? -1 : timer - control_now_ms(c);
}

int64_t control_turn(struct control *c)
{
    int64_t start_us = now_us(c);

    if (c->closing || c->fatal.code)
        return -1;
    c->stats.turns++;
    if (!c->leads) {
        turn_away(c);
        return -1;
    }
    if (!c->under_way && start_us >= c->not_before_us && has_work(c) && has_room(c))
        make_draft(c, start_us);
    took(c, start_us);
    return wait_ms(c);
}

/* --- the replica's events
 * ---------------------------------------------------------------------------------------------- */

static void tell_applied(struct control *c)
{
    struct control_watch *w, *after;

    list_each_safe (w, after, &c->watches, link)
        if (w->on_applied)
            w->on_applied(w, store_applied(c->store));
}

static void tell_leads(struct control *c)
{
    struct control_watch *w, *after;

    list_each_safe (w, after, &c->watches, link)
        if (w->on_leads)
            w->on_leads(w, c->leads);
}

static void tell_leader(struct control *c)
{
    struct control_watch *w, *after;

    list_each_safe (w, after, &c->watches, link)
        if (w->on_leader)
            w->on_leader(w);
}

static void change_lead(struct control *c, bool leads)
{
    c->leads = leads;
    if (leads) {
        cluster_clock_lead(&c->time, now_us(c), clock_wall_ms(c->config.clock));
        /* Time may just have jumped, and with it the age of answers that somebody still asks for again. */
        c->index->requests_from_ms = control_now_ms(c);
    } else {
        store_drop_proposed(c->store); /* for the case that nothing was under way it does nothing */
    }
    c->not_before_us = 0;
    wake(c);
    tell_leads(c);
}

static void on_state(void *ctx, enum replica_state state, uint64_t term)
{
    struct control *c = ctx;

    (void)term; /* the replica's business */
    if (c->leads != (state == REPLICA_LEADER))
        change_lead(c, !c->leads);
    tell_leader(c);
}

static int on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    struct control *c = ctx;
    AUTO_FREE
    struct store_entry *all = mem_array(count, sizeof(*all));
    int64_t start_us = now_us(c), before_ms = store_cluster_ms(c->store);

    for (size_t i = 0; i < count; i++)
        if (PLANTED(ENTRY_SKIPPED) && !c->leads && entries[i].index % 64 == 0)
            all[i] = (struct store_entry){.index = entries[i].index};
        else
            all[i] =
                (struct store_entry){.index = entries[i].index, .data = entries[i].data, .size = entries[i].size};
    int rc = store_apply(c->store, all, count, index_changed, c->index, e);
    if (rc < 0)
        return store_error(e, rc);
    if (!c->leads && replica_leader(c->replica, NULL) && store_cluster_ms(c->store) != before_ms)
        cluster_clock_follow(&c->time, store_cluster_ms(c->store), start_us);
    tell_applied(c);
    took(c, start_us);
    return 0;
}

static uint64_t on_digest(void *ctx)
{
    return store_digest(((struct control *)ctx)->store);
}

static long snapshot_read(void *ctx, void *into, size_t size, struct err *e)
{
    return store_snapshot_read(ctx, into, size, e);
}

static void snapshot_end(void *ctx)
{
    store_snapshot_end(ctx);
}

static int on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    struct control *c = ctx;
    struct store_snapshot *p = store_snapshot_begin(c->store);

    if (!p)
        return store_failed(c->store, e) < 0 ? e->code : err_set(e, ERR_IO, "the store has no file to read");
    *ret = (struct replica_snapshot_source){
        .ctx = p, .read = snapshot_read, .end = snapshot_end, .index = store_snapshot_index(p)};
    return 0;
}

/* Everything is another state now. */
static void rebuild(struct control *c)
{
    index_free(c->index);
    c->index = index_rebuild(c->store);
    scheduler_forget(c->scheduler);
}

static void drop_load(struct control *c)
{
    if (c->load)
        store_load_cancel(c->load);
    c->load = NULL;
}

static int on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e)
{
    struct control *c = ctx;

    if (first) {
        drop_load(c);
        c->load = store_load_begin(c->store);
    }
    int rc = store_load_add(c->load, data, size, e);
    if (rc < 0 || !last)
        return store_error(e, rc);
    rc = store_load_end(c->load, e);
    c->load = NULL;
    if (rc < 0)
        return store_error(e, rc);
    if (store_applied(c->store) != index)
        return err_set(e, ERR_CORRUPT, "a snapshot of index %llu holds index %llu", (unsigned long long)index,
                       (unsigned long long)store_applied(c->store));
    if (c->index) {
        rebuild(c); /* not while opening: that comes at its end */
        tell_applied(c);
    }
    return 0;
}

static void on_fatal(void *ctx, const struct err *e)
{
    fatal(ctx, e);
}

static void on_removed(void *ctx)
{
    struct control *c = ctx;

    if (c->config.on_removed)
        c->config.on_removed(c->config.ctx);
}

/* --- opening and closing
 * ----------------------------------------------------------------------------------------------- */

int control_open(const struct control_config *config, struct control **ret, struct err *e)
{
    struct control *c = mem_alloc(sizeof(*c));
    struct replica_config replica = config->replica;
    const struct replica_events events = {.ctx = c,
                                          .on_state = on_state,
                                          .on_apply = on_apply,
                                          .on_snapshot = on_snapshot,
                                          .on_restore = on_restore,
                                          .on_fatal = on_fatal,
                                          .on_digest = on_digest,
                                          .on_removed = on_removed};

    c->config = *config;
    c->store = config->store;
    struct list *heads[] = {&c->queue, &c->background, &c->batches, &c->watches};
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        list_init(heads[i]);
    replica.applied = store_applied(c->store);
    int rc = replica_open(&replica, &events, &c->replica, e);
    if (rc < 0) {
        drop_load(c);
        free(c);
        return rc;
    }
    c->index = index_rebuild(c->store);
    c->scheduler = scheduler_new();
    cluster_clock_init(&c->time, store_cluster_ms(c->store), now_us(c));
    *ret = c;
    return 0;
}

static void on_closed(void *ctx)
{
    struct control *c = ctx;
    void (*closed)(void *ctx) = c->closed;
    void *closed_ctx = c->closed_ctx;
    struct err e = {0};

    err_set(&e, ERR_CANCELED, "the manager is stopping");
    while (!list_empty(&c->batches))
        batch_end(list_first(&c->batches, struct batch, link), &e, 0);
    answer_all(&c->queue, &e, false, 0);
    answer_all(&c->background, &e, false, 0);
    store_drop_proposed(c->store);
    drop_load(c);
    scheduler_free(c->scheduler);
    index_free(c->index);
    buf_fini(&c->packed);
    free(c);
    closed(closed_ctx);
}

void control_close(struct control *c, void (*closed)(void *ctx), void *ctx)
{
    assert(!c->closing);
    c->closing = true;
    c->closed = closed;
    c->closed_ctx = ctx;
    replica_close(c->replica, on_closed, c);
}

/* --- the rest of the door
 * ------------------------------------------------------------------------------------------------ */

void control_submit(struct control *c, struct control_write *w)
{
    w->replayed = w->unknown = w->failed = false;
    list_push(w->background ? &c->background : &c->queue, &w->link);
    wake(c);
}

int control_blocked(const struct control *c, struct err *e)
{
    if (!control_leads(c))
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    if (c->full)
        return err_set(e, ERR_UNAVAILABLE, "the disk of this manager is full");
    return replica_blocked(c->replica, e);
}

int control_read(struct control *c, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    if (!c->leads || c->closing)
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    if (PLANTED(READ_STALE)) {
        struct err fine = {0};

        done(ctx, &fine);
        return 0;
    }
    return replica_read(c->replica, done, ctx, e);
}

struct store *control_store(struct control *c)
{
    return c->store;
}

struct index *control_index(struct control *c)
{
    return c->index;
}

struct replica *control_replica(struct control *c)
{
    return c->replica;
}

bool control_leads(const struct control *c)
{
    return c->leads && !c->closing;
}

uint64_t control_leader(const struct control *c, const char **ret_address)
{
    return replica_leader(c->replica, ret_address);
}

int64_t control_now_ms(struct control *c)
{
    return cluster_clock_now(&c->time, store_cluster_ms(c->store), now_us(c), clock_wall_ms(c->config.clock));
}

void control_watch(struct control *c, struct control_watch *w)
{
    list_push(&c->watches, &w->link);
}

void control_unwatch(struct control *c, struct control_watch *w)
{
    (void)c; /* the list knows */
    list_remove(&w->link);
}

void control_stats(const struct control *c, struct control_stats *ret)
{
    *ret = c->stats;
    ret->discarded = store_discarded(c->store);
    ret->under_way = c->under_way;
}
