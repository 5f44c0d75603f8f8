/* Intrusive heaps: what is due first, or what has the least key, in logarithmic time.
 *
 * An item is embedded in whatever is ordered; it knows its place, so that it can be moved or removed without a
 * search. Equal keys come out in an order that depends on history alone. All zeroes is an empty heap and an item in
 * none. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_item {
    int64_t key;    /* the least comes first */
    uint32_t place; /* in the heap, counted from 1; 0: in none */
};

struct heap {
    struct heap_item **items; /* owned array of borrowed items */
    uint32_t count, capacity;
};

void heap_put(struct heap *h, struct heap_item *item, int64_t key); /* insert, or move when it is in already */
void heap_remove(struct heap *h, struct heap_item *item);           /* no-op when it is in none */
void heap_fini(struct heap *h);                                     /* frees the array; items are forgotten */

static inline struct heap_item *heap_first(const struct heap *h) /* NULL when empty */
{
    return h->count ? h->items[0] : NULL;
}

static inline bool heap_holds(const struct heap_item *item)
{
    return item->place != 0;
}
