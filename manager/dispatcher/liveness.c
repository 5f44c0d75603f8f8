/* See liveness.h. One entry per node in a heap by deadline. A storm is found by counting what closed in the last
 * second; when it is one, the nodes that closed in it before it was recognised are given the grace too.
 *
 * A heartbeat costs a look-up and a store: the deadline of a node that was heard from stays where it is, and moves
 * when its time has come. */
#include <stdlib.h>

#include "manager/dispatcher/liveness.h"
#include "proto/base/heap.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define GRACE_PERIODS   3
#define EXPECT_PERIODS  6
#define STEPS_PER_GRACE 64 /* silent nodes are looked for so often at most: thousands of agents are one wake-up */

struct entry {
    uint64_t node;
    struct heap_item deadline;
    struct list closed; /* liveness->closed, while suspect; else unlinked */
    int64_t heard_ms;   /* with a session: when anything came last */
    int64_t closed_ms;
    int64_t grace_ms; /* by the period that its agent was told */
    bool has_session;
    bool expected; /* since it should have one */
};

struct liveness {
    int64_t period_ms;
    struct map64 entries; /* by node */
    struct heap deadlines;
    struct list closed;    /* suspects, oldest first */
    unsigned closed_count; /* of them */
    unsigned sessions;     /* entries with a session */
};

struct liveness *liveness_new(int64_t period_ms)
{
    struct liveness *l = mem_alloc(sizeof(*l));

    l->period_ms = period_ms;
    list_init(&l->closed);
    return l;
}

static void unsuspect(struct liveness *l, struct entry *entry)
{
    if (list_empty(&entry->closed))
        return;
    list_remove(&entry->closed);
    l->closed_count--;
}

static void drop(struct liveness *l, struct entry *entry)
{
    unsuspect(l, entry);
    heap_remove(&l->deadlines, &entry->deadline);
    map64_remove(&l->entries, entry->node);
    l->sessions -= entry->has_session;
    free(entry);
}

void liveness_clear(struct liveness *l)
{
    struct heap_item *item;

    while ((item = heap_first(&l->deadlines)))
        drop(l, container_of(item, struct entry, deadline));
}

void liveness_free(struct liveness *l)
{
    if (!l)
        return;
    liveness_clear(l);
    map64_fini(&l->entries);
    heap_fini(&l->deadlines);
    free(l);
}

void liveness_set_period(struct liveness *l, int64_t period_ms)
{
    l->period_ms = period_ms;
}

int64_t liveness_grace_ms(const struct liveness *l)
{
    return l->period_ms * GRACE_PERIODS;
}

static struct entry *entry_of(struct liveness *l, uint64_t node)
{
    struct entry *entry = map64_get(&l->entries, node);

    if (!entry) {
        entry = mem_alloc(sizeof(*entry));
        entry->node = node;
        list_init(&entry->closed);
        map64_put(&l->entries, node, entry);
    }
    return entry;
}

void liveness_opened(struct liveness *l, uint64_t node, int64_t now_ms)
{
    struct entry *entry = entry_of(l, node);

    unsuspect(l, entry);
    l->sessions += !entry->has_session;
    entry->has_session = true;
    entry->expected = false;
    entry->heard_ms = now_ms;
    entry->grace_ms = liveness_grace_ms(l);
    heap_put(&l->deadlines, &entry->deadline, now_ms + entry->grace_ms);
}

void liveness_heard(struct liveness *l, uint64_t node, int64_t now_ms)
{
    struct entry *entry = map64_get(&l->entries, node);

    if (entry)
        entry->heard_ms = now_ms;
}

/* Whether what closed lately is too much to be the nodes' own doing. Drops what closed longer ago. */
static bool is_storm(struct liveness *l, int64_t now_ms)
{
    struct entry *oldest;

    while ((oldest = list_first(&l->closed, struct entry, closed)) &&
           now_ms - oldest->closed_ms > LIVENESS_STORM_MS)
        unsuspect(l, oldest);
    return l->closed_count >= LIVENESS_STORM_LEAST && l->closed_count * 10 > l->sessions + l->closed_count;
}

void liveness_closed(struct liveness *l, uint64_t node, int64_t now_ms)
{
    struct entry *entry = map64_get(&l->entries, node);

    if (!entry || !entry->has_session)
        return;
    entry->has_session = false;
    entry->closed_ms = now_ms;
    l->sessions--;
    l->closed_count++;
    list_push(&l->closed, &entry->closed);
    heap_put(&l->deadlines, &entry->deadline, now_ms + LIVENESS_SUSPECT_MS);
    if (!is_storm(l, now_ms))
        return;
    list_each (entry, &l->closed, closed)
        heap_put(&l->deadlines, &entry->deadline, entry->closed_ms + entry->grace_ms);
}

void liveness_expect(struct liveness *l, uint64_t node, int64_t now_ms)
{
    struct entry *entry = entry_of(l, node);

    if (entry->has_session)
        return;
    entry->expected = true;
    unsuspect(l, entry);
    heap_put(&l->deadlines, &entry->deadline, now_ms + l->period_ms * EXPECT_PERIODS);
}

bool liveness_awaits(const struct liveness *l, uint64_t node)
{
    const struct entry *entry = map64_get(&l->entries, node);

    return entry && entry->expected;
}

void liveness_forget(struct liveness *l, uint64_t node)
{
    struct entry *entry = map64_get(&l->entries, node);

    if (entry)
        drop(l, entry);
}

/* We stood still: what was sent to us meanwhile has not been read yet, so those who are overdue get their time
 * again from now on. */
static void forgive(struct liveness *l, int64_t now_ms)
{
    struct heap_item *item;

    while ((item = heap_first(&l->deadlines)) && item->key <= now_ms) {
        struct entry *entry = container_of(item, struct entry, deadline);
        int64_t ms = entry->has_session ? entry->grace_ms
                     : entry->expected  ? l->period_ms * EXPECT_PERIODS
                                        : LIVENESS_SUSPECT_MS;

        entry->heard_ms = now_ms;
        heap_put(&l->deadlines, item, now_ms + ms);
    }
}

/* Put those in front back that were heard from since their deadline was set. */
static void put_back(struct liveness *l, int64_t now_ms)
{
    struct heap_item *item;

    while ((item = heap_first(&l->deadlines)) && item->key <= now_ms) {
        const struct entry *entry = container_of(item, struct entry, deadline);

        if (!entry->has_session || entry->heard_ms + entry->grace_ms <= item->key)
            return;
        heap_put(&l->deadlines, item, entry->heard_ms + entry->grace_ms);
    }
}

bool liveness_next_down(struct liveness *l, int64_t now_ms, uint64_t *ret_node, bool *ret_silent)
{
    put_back(l, now_ms);
    struct heap_item *item = heap_first(&l->deadlines);
    if (item && item->key < now_ms - LIVENESS_LATE_MS) {
        forgive(l, now_ms);
        return false;
    }
    if (!item || item->key > now_ms)
        return false;
    struct entry *entry = container_of(item, struct entry, deadline);
    *ret_node = entry->node;
    *ret_silent = entry->has_session;
    drop(l, entry);
    return true;
}

int64_t liveness_due_ms(const struct liveness *l)
{
    struct heap_item *item = heap_first(&l->deadlines);

    if (!item)
        return INT64_MAX;
    const struct entry *entry = container_of(item, struct entry, deadline);
    int64_t step_ms = entry->has_session ? MIN(entry->grace_ms / STEPS_PER_GRACE, LIVENESS_LATE_MS / 4) : 1;
    return step_ms > 1 ? (item->key + step_ms - 1) / step_ms * step_ms : item->key;
}

unsigned liveness_sessions(const struct liveness *l)
{
    return l->sessions;
}
