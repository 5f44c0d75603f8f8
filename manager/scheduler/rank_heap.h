/* The heap inside a rank: small numbers by 64-bit keys, eight children to a node so that a level is one cache line,
 * and the position of each number kept outside. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rank_heap {
    uint32_t stride; /* of the positions, in words; 0 counts as 1 */
    uint64_t *keys;  /* by position */
    uint32_t *items; /* by position */
    uint32_t count, room;
};

/* `at` is the caller's: for each item (at `stride` words from the one before) its position counted from 1, or 0
 * when it is not in. */
void rank_heap_put(struct rank_heap *h, uint32_t *at, uint32_t item, uint64_t key);
void rank_heap_remove(struct rank_heap *h, uint32_t *at, uint32_t item);
void rank_heap_copy(struct rank_heap *to, const struct rank_heap *from);
void rank_heap_fini(struct rank_heap *h);

static inline uint32_t rank_heap_first(const struct rank_heap *h) /* must not be empty */
{
    return h->items[0];
}
