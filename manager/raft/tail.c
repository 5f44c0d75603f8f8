/* See tail.h. Places are kept densely, 8 bytes an entry; terms as runs, since a term holds for many entries. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <raft.h>

#include "manager/raft/tail.h"
#include "proto/base/mem.h"

struct block *block_new(size_t size)
{
    struct block *b = malloc(sizeof(*b) + size);

    if (!b)
        abort(); /* as mem.h; not zeroed, it is filled at once */
    b->references = 1;
    b->size = size;
    return b;
}

struct block *block_ref(struct block *b)
{
    b->references++;
    return b;
}

void block_unref(struct block *b)
{
    if (b && --b->references == 0)
        free(b);
}

/* --- rings ---------------------------------------------------------------------------------------- */

static void *ring_at(const struct ring *r, size_t item, size_t i)
{
    return (char *)r->items + (r->start + i) * item;
}

static void *ring_push(struct ring *r, size_t item)
{
    if (r->start + r->count == r->capacity) {
        if (r->start > r->capacity / 2) { /* amortised: at most one move per item dropped */
            memmove(r->items, ring_at(r, item, 0), r->count * item);
            r->start = 0;
        } else {
            r->capacity = r->capacity ? r->capacity * 2 : 16;
            r->items = mem_grow(r->items, r->capacity, item);
        }
    }
    return ring_at(r, item, r->count++);
}

static void ring_drop_front(struct ring *r, size_t count)
{
    r->start += count;
    r->count -= count;
    if (r->count == 0)
        r->start = 0;
}

static void ring_fini(struct ring *r)
{
    free(r->items);
    *r = (struct ring){0};
}

#define AT(ring, type, i) ((type *)ring_at(&(ring), sizeof(type), i))

/* --- the tail ------------------------------------------------------------------------------------- */

void tail_init(struct tail *t)
{
    *t = (struct tail){.held = 1};
}

void tail_fini(struct tail *t)
{
    tail_cut(t, tail_first(t));
    ring_fini(&t->places);
    ring_fini(&t->entries);
    ring_fini(&t->runs);
    ring_fini(&t->changes);
}

void tail_reset(struct tail *t, uint64_t index, uint64_t term)
{
    tail_fini(t);
    *t = (struct tail){.base_index = index, .base_term = term, .last = index, .held = index + 1};
}

static void append(struct tail *t, uint64_t term, uint8_t type, const uint8_t *data, uint32_t size,
                   struct disklog_place place)
{
    const struct tail_run *run = t->runs.count ? AT(t->runs, struct tail_run, t->runs.count - 1) : NULL;

    t->last++;
    if (!run || run->term != term)
        *(struct tail_run *)ring_push(&t->runs, sizeof(struct tail_run)) = (struct tail_run){t->last, term};
    *(struct disklog_place *)ring_push(&t->places, sizeof(struct disklog_place)) = place;
    if (type == RAFT_CHANGE)
        *(struct tail_change *)ring_push(&t->changes, sizeof(struct tail_change)) =
            (struct tail_change){t->last, term, mem_dup(data, size), size};
}

void tail_append(struct tail *t, uint64_t term, uint8_t type, const uint8_t *data, uint32_t size, struct block *b)
{
    append(t, term, type, data, size, (struct disklog_place){0});
    if (t->entries.count == 0)
        t->held = t->last;
    *(struct tail_entry *)ring_push(&t->entries, sizeof(struct tail_entry)) =
        (struct tail_entry){.term = term, .data = data, .size = size, .type = type, .block = block_ref(b)};
    t->memory += size;
}

void tail_append_stored(struct tail *t, uint64_t term, uint8_t type, const uint8_t *data, uint32_t size,
                        struct disklog_place place)
{
    assert(t->entries.count == 0);
    append(t, term, type, data, size, place);
    t->held = t->last + 1;
}

void tail_cut(struct tail *t, uint64_t from)
{
    if (from > t->last)
        return;
    assert(from > t->base_index);
    while (t->entries.count && t->held + t->entries.count > from) {
        struct tail_entry *entry = AT(t->entries, struct tail_entry, t->entries.count - 1);

        t->memory -= entry->size;
        block_unref(entry->block);
        t->entries.count--;
    }
    while (t->changes.count && AT(t->changes, struct tail_change, t->changes.count - 1)->index >= from)
        free(AT(t->changes, struct tail_change, --t->changes.count)->data);
    while (t->runs.count && AT(t->runs, struct tail_run, t->runs.count - 1)->index >= from)
        t->runs.count--;
    t->places.count -= t->last - from + 1;
    t->last = from - 1;
    t->held = MIN(t->held, t->last + 1);
}

void tail_forget(struct tail *t, uint64_t upto, size_t memory_max)
{
    while (t->entries.count && t->held <= upto && t->memory > memory_max) {
        struct tail_entry *entry = AT(t->entries, struct tail_entry, 0);

        t->memory -= entry->size;
        block_unref(entry->block);
        ring_drop_front(&t->entries, 1);
        t->held++;
    }
}

void tail_drop(struct tail *t, uint64_t upto)
{
    assert(upto <= t->last);
    if (upto <= t->base_index)
        return;
    uint64_t term = tail_term(t, upto);
    tail_forget(t, upto, 0);
    while (t->entries.count && t->held <= upto) { /* entries without contents count no memory */
        block_unref(AT(t->entries, struct tail_entry, 0)->block);
        ring_drop_front(&t->entries, 1);
        t->held++;
    }
    while (t->changes.count && AT(t->changes, struct tail_change, 0)->index <= upto) {
        free(AT(t->changes, struct tail_change, 0)->data);
        ring_drop_front(&t->changes, 1);
    }
    while (t->runs.count > 1 && AT(t->runs, struct tail_run, 1)->index <= upto + 1)
        ring_drop_front(&t->runs, 1);
    if (upto == t->last)
        ring_drop_front(&t->runs, t->runs.count);
    ring_drop_front(&t->places, upto - t->base_index);
    t->base_index = upto;
    t->base_term = term;
    t->held = MAX(t->held, upto + 1);
}

uint64_t tail_term(const struct tail *t, uint64_t index)
{
    size_t low = 0, high = t->runs.count;

    if (index == t->base_index)
        return t->base_term;
    if (index < t->base_index || index > t->last)
        return 0;
    while (high - low > 1) { /* the last run that begins at or before it */
        size_t middle = low + (high - low) / 2;

        if (AT(t->runs, struct tail_run, middle)->index <= index)
            low = middle;
        else
            high = middle;
    }
    return AT(t->runs, struct tail_run, low)->term;
}

const struct tail_entry *tail_get(const struct tail *t, uint64_t index)
{
    if (index < t->held || index > t->last)
        return NULL;
    return AT(t->entries, struct tail_entry, index - t->held);
}

struct disklog_place tail_place(const struct tail *t, uint64_t index)
{
    if (index <= t->base_index || index > t->last)
        return (struct disklog_place){0};
    return *AT(t->places, struct disklog_place, index - t->base_index - 1);
}

void tail_set_place(struct tail *t, uint64_t index, struct disklog_place place)
{
    assert(index > t->base_index && index <= t->last);
    *AT(t->places, struct disklog_place, index - t->base_index - 1) = place;
}

const struct tail_change *tail_change_at(const struct tail *t, uint64_t index)
{
    for (size_t i = t->changes.count; i > 0; i--)
        if (AT(t->changes, struct tail_change, i - 1)->index <= index)
            return AT(t->changes, struct tail_change, i - 1);
    return NULL;
}

const struct tail_change *tail_change_after(const struct tail *t, uint64_t index)
{
    const struct tail_change *found = NULL;

    for (size_t i = t->changes.count; i > 0; i--) {
        if (AT(t->changes, struct tail_change, i - 1)->index <= index)
            break;
        found = AT(t->changes, struct tail_change, i - 1);
    }
    return found;
}
