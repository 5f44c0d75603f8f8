/* See heap.h. A binary heap in an array. */
#include <assert.h>
#include <stdlib.h>

#include "proto/base/heap.h"
#include "proto/base/mem.h"

#define CAPACITY_MIN 16

static void place(struct heap *h, uint32_t at, struct heap_item *item)
{
    h->items[at] = item;
    item->place = at + 1;
}

static void sift_up(struct heap *h, uint32_t at, struct heap_item *item)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;

        if (h->items[parent]->key <= item->key)
            break;
        place(h, at, h->items[parent]);
        at = parent;
    }
    place(h, at, item);
}

static void sift_down(struct heap *h, uint32_t at, struct heap_item *item)
{
    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= h->count)
            break;
        if (child + 1 < h->count && h->items[child + 1]->key < h->items[child]->key)
            child++;
        if (h->items[child]->key >= item->key)
            break;
        place(h, at, h->items[child]);
        at = child;
    }
    place(h, at, item);
}

static void settle(struct heap *h, uint32_t at, struct heap_item *item)
{
    if (at > 0 && item->key < h->items[(at - 1) / 2]->key)
        sift_up(h, at, item);
    else
        sift_down(h, at, item);
}

void heap_put(struct heap *h, struct heap_item *item, int64_t key)
{
    item->key = key;
    if (item->place) {
        settle(h, item->place - 1, item);
        return;
    }
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? h->capacity * 2 : CAPACITY_MIN;
        h->items = mem_grow(h->items, h->capacity, sizeof(struct heap_item *));
    }
    sift_up(h, h->count++, item);
}

void heap_remove(struct heap *h, struct heap_item *item)
{
    if (!item->place)
        return;
    uint32_t hole = item->place - 1;
    assert(hole < h->count && h->items[hole] == item);
    item->place = 0;
    struct heap_item *last = h->items[--h->count];
    if (last != item)
        settle(h, hole, last);
}

void heap_fini(struct heap *h)
{
    for (uint32_t i = 0; i < h->count; i++)
        h->items[i]->place = 0;
    free(h->items);
    *h = (struct heap){0};
}
