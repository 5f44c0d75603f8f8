/* The change feed: the change sets that were applied last, as bytes, oldest evicted first (DESIGN.md section 4).
 *
 * Nothing is unpacked until somebody asks, and nobody is remembered: a consumer keeps the index it has seen and
 * asks for what came after. Entries that changed nothing (barriers, discarded sets) are not kept; whoever asks is
 * told that the index has moved on. */
#include <stdlib.h>
#include <string.h>

#include "manager/store/change.h"
#include "manager/store/inside.h"
#include "proto/base/mem.h"

struct feed_entry {
    struct list link;
    uint64_t index;
    int64_t at_ms;        /* cluster time of the set */
    size_t size, count;   /* bytes of the set; changes in it */
    int64_t created_ms[]; /* of each change's object; the set's bytes follow */
};

static size_t entry_bytes(size_t size, size_t count)
{
    return sizeof(struct feed_entry) + count * sizeof(int64_t) + size;
}

void feed_init(struct feed *f, size_t bytes_max, uint64_t floor)
{
    *f = (struct feed){.bytes_max = bytes_max, .floor = floor};
    list_init(&f->entries);
}

static void evict(struct feed *f)
{
    struct feed_entry *oldest = list_entry(list_pop(&f->entries), struct feed_entry, link);

    f->floor = oldest->index;
    f->bytes -= entry_bytes(oldest->size, oldest->count);
    free(oldest);
}

void feed_reset(struct feed *f, uint64_t floor)
{
    while (!list_empty(&f->entries))
        evict(f);
    f->floor = floor;
}

void feed_add(struct feed *f, uint64_t index, int64_t at_ms, const void *data, size_t size,
              const int64_t *created_ms, size_t count)
{
    size_t bytes = entry_bytes(size, count);
    struct feed_entry *entry = mem_alloc(bytes);

    entry->index = index;
    entry->at_ms = at_ms;
    entry->size = size;
    entry->count = count;
    if (count)
        memcpy(entry->created_ms, created_ms, count * sizeof(*created_ms));
    memcpy(entry->created_ms + count, data, size);
    list_push(&f->entries, &entry->link);
    f->bytes += bytes;
    while (f->bytes > f->bytes_max)
        evict(f);
}

static int tell(const struct feed_entry *entry, uint32_t kinds, struct arena *a, feed_each *each, void *ctx)
{
    struct change_set set;
    struct change c;
    size_t at = 0;

    if (change_set_read(entry->created_ms + entry->count, entry->size, &set, NULL) < 0)
        abort(); /* it was read when it was applied */
    while (change_next(&set, &c)) {
        struct object o = {.kind = c.kind,
                           .number = c.number,
                           .version = entry->index,
                           .created_ms = entry->created_ms[at++],
                           .updated_ms = entry->at_ms};

        if (!(kinds & FEED_KIND(c.kind)))
            continue;
        if (c.message && !(o.message = arena_unpack(a, kind_message(c.kind), c.message, c.size)))
            return ERR_CORRUPT; /* cannot be: applying unpacks it */
        each(ctx, entry->index, &o);
    }
    return 0;
}

int store_feed_kinds(struct store *s, uint64_t after, uint32_t kinds, struct arena *a, feed_each *each, void *ctx,
                     uint64_t *ret_index)
{
    const struct list *entries = &s->feed.entries;
    struct feed_entry *entry;
    struct list *at = entries->prev;

    if (after < s->feed.floor || after > s->state.applied)
        return ERR_LIMIT;
    /* From the newest back: who asks has usually seen all but the last few. */
    while (at != entries && list_entry(at, struct feed_entry, link)->index > after)
        at = at->prev;
    for (at = at->next; at != entries; at = at->next) {
        entry = list_entry(at, struct feed_entry, link);
        int rc = tell(entry, kinds, a, each, ctx);
        if (rc < 0)
            return rc;
    }
    *ret_index = s->state.applied;
    return 0;
}

int store_feed(struct store *s, uint64_t after, struct arena *a, feed_each *each, void *ctx, uint64_t *ret_index)
{
    return store_feed_kinds(s, after, UINT32_MAX, a, each, ctx, ret_index);
}
