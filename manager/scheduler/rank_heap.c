/* See rank_heap.h. */
#include <stdlib.h>
#include <string.h>

#include "manager/scheduler/rank_heap.h"
#include "proto/base/mem.h"

#define CHILDREN 8
#define ROOM_MIN 8

static inline uint32_t *at_of(const struct rank_heap *h, uint32_t *at, uint32_t item)
{
    return at + (size_t)item * (h->stride ? h->stride : 1);
}

static inline void place(struct rank_heap *h, uint32_t *at, uint32_t position, uint32_t item, uint64_t key)
{
    h->keys[position] = key;
    h->items[position] = item;
    *at_of(h, at, item) = position + 1;
}

static void sift_up(struct rank_heap *h, uint32_t *at, uint32_t position, uint32_t item, uint64_t key)
{
    while (position > 0) {
        uint32_t parent = (position - 1) / CHILDREN;

        if (h->keys[parent] <= key)
            break;
        place(h, at, position, h->items[parent], h->keys[parent]);
        position = parent;
    }
    place(h, at, position, item, key);
}

static uint32_t least_child(const struct rank_heap *h, uint32_t first)
{
    uint32_t end = MIN(first + CHILDREN, h->count), least = first;

    for (uint32_t i = first + 1; i < end; i++)
        if (h->keys[i] < h->keys[least])
            least = i;
    return least;
}

static void sift_down(struct rank_heap *h, uint32_t *at, uint32_t position, uint32_t item, uint64_t key)
{
    for (;;) {
        uint32_t first = position * CHILDREN + 1;

        if (first >= h->count)
            break;
        uint32_t child = least_child(h, first);
        if (h->keys[child] >= key)
            break;
        place(h, at, position, h->items[child], h->keys[child]);
        position = child;
    }
    place(h, at, position, item, key);
}

static void settle(struct rank_heap *h, uint32_t *at, uint32_t position, uint32_t item, uint64_t key)
{
    if (position > 0 && key < h->keys[(position - 1) / CHILDREN])
        sift_up(h, at, position, item, key);
    else
        sift_down(h, at, position, item, key);
}

void rank_heap_put(struct rank_heap *h, uint32_t *at, uint32_t item, uint64_t key)
{
    uint32_t position = *at_of(h, at, item);

    if (position) {
        if (h->keys[position - 1] != key)
            settle(h, at, position - 1, item, key);
        return;
    }
    if (h->count == h->room) {
        h->room = MAX(h->room * 2, (uint32_t)ROOM_MIN);
        h->keys = mem_grow(h->keys, h->room, sizeof(*h->keys));
        h->items = mem_grow(h->items, h->room, sizeof(*h->items));
    }
    sift_up(h, at, h->count++, item, key);
}

void rank_heap_remove(struct rank_heap *h, uint32_t *at, uint32_t item)
{
    uint32_t *own = at_of(h, at, item);

    if (!*own)
        return;
    uint32_t hole = *own - 1, last = --h->count;
    *own = 0;
    if (hole != last)
        settle(h, at, hole, h->items[last], h->keys[last]);
}

void rank_heap_copy(struct rank_heap *to, const struct rank_heap *from)
{
    *to = (struct rank_heap){.stride = from->stride, .count = from->count, .room = from->count};
    to->keys = mem_dup(from->keys, from->count * sizeof(*from->keys));
    to->items = mem_dup(from->items, from->count * sizeof(*from->items));
}

void rank_heap_fini(struct rank_heap *h)
{
    free(h->keys);
    free(h->items);
    *h = (struct rank_heap){0};
}
