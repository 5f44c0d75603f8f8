/* See table.h.
 *
 * While a table grows there are two arrays: `slots`, where insertions go, and `old`, whose slots below old_at have
 * been moved. Each insertion moves MOVE_STEP more; the new array is twice as large, so the old one is empty long
 * before the next growth. Slots below old_at keep their stale pointers, because probing must pass over them, but
 * are never followed. Removal from `slots` shifts back; removal from `old` leaves a tombstone, which dies with it.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/table.h"

#define SLOTS_MIN 8
#define MOVE_STEP 8

static char tombstone;

void table_init(struct table *t, size_t key_offset, size_t key_size)
{
    assert(key_size == 8 || key_size == 16);
    *t = (struct table){.key_offset = (uint16_t)key_offset, .key_size = (uint16_t)key_size};
}

void table_fini(struct table *t)
{
    free(t->slots);
    free(t->old);
    table_init(t, t->key_offset, t->key_size);
}

static inline uint64_t word_at(const void *key, size_t at)
{
    uint64_t word;

    memcpy(&word, (const char *)key + at, 8);
    return word;
}

static inline uint64_t hash(const struct table *t, const void *key)
{
    uint64_t h = word_at(key, 0) * 0x9e3779b97f4a7c15;

    if (t->key_size == 16)
        h = (h ^ h >> 32 ^ word_at(key, 8)) * 0xd6e8feb86659fd93;
    return h ^ h >> 32;
}

static inline const void *key_of(const struct table *t, const void *entry)
{
    return (const char *)entry + t->key_offset;
}

static inline bool has_key(const struct table *t, const void *entry, const void *key)
{
    const void *own = key_of(t, entry);

    return word_at(own, 0) == word_at(key, 0) && (t->key_size == 8 || word_at(own, 8) == word_at(key, 8));
}

/* The slot of that key in the present array, or the free one where it belongs. */
static size_t find(const struct table *t, const void *key, uint64_t h)
{
    size_t at = h & t->mask;

    while (t->slots[at] && !has_key(t, t->slots[at], key))
        at = (at + 1) & t->mask;
    return at;
}

/* The slot of that key in the old array; SIZE_MAX when it is not there any more. */
static size_t find_old(const struct table *t, const void *key, uint64_t h)
{
    if (!t->old)
        return SIZE_MAX;
    for (size_t at = h & t->old_mask; t->old[at]; at = (at + 1) & t->old_mask)
        if (at >= t->old_at && t->old[at] != &tombstone && has_key(t, t->old[at], key))
            return at;
    return SIZE_MAX;
}

static void move_some(struct table *t, size_t steps)
{
    while (t->old && steps-- > 0) {
        void *entry = t->old[t->old_at++];

        if (entry && entry != &tombstone)
            t->slots[find(t, key_of(t, entry), hash(t, key_of(t, entry)))] = entry;
        if (t->old_at > t->old_mask) {
            free(t->old);
            t->old = NULL;
        }
    }
}

static void grow(struct table *t)
{
    move_some(t, SIZE_MAX); /* always done by now, but for tables that were never inserted into since */
    size_t slots = t->slots ? (t->mask + 1) * 2 : SLOTS_MIN;
    t->old = t->slots;
    t->old_mask = t->mask;
    t->old_at = 0;
    t->slots = mem_array(slots, sizeof(void *));
    t->mask = slots - 1;
}

void *table_get(const struct table *t, const void *key)
{
    if (!t->count)
        return NULL;
    uint64_t h = hash(t, key);
    void *entry = t->slots[find(t, key, h)];
    if (entry)
        return entry;
    size_t old = find_old(t, key, h);
    return old == SIZE_MAX ? NULL : t->old[old];
}

void table_put(struct table *t, void *entry)
{
    const void *key = key_of(t, entry);

    if (!t->slots || (t->count + 1) * 4 > (t->mask + 1) * 3)
        grow(t);
    move_some(t, MOVE_STEP);
    uint64_t h = hash(t, key);
    size_t at = find(t, key, h);
    assert(!t->slots[at] && find_old(t, key, h) == SIZE_MAX);
    t->slots[at] = entry;
    t->count++;
}

static void close_hole(struct table *t, size_t hole)
{
    /* Move later members of the run back, unless that would put one before its home. */
    for (size_t at = (hole + 1) & t->mask; t->slots[at]; at = (at + 1) & t->mask) {
        size_t home = hash(t, key_of(t, t->slots[at])) & t->mask;

        if (((at - home) & t->mask) >= ((at - hole) & t->mask)) {
            t->slots[hole] = t->slots[at];
            hole = at;
        }
    }
    t->slots[hole] = NULL;
}

void *table_remove(struct table *t, const void *key)
{
    if (!t->count)
        return NULL;
    uint64_t h = hash(t, key);
    size_t at = find(t, key, h);
    void *entry = t->slots[at];
    if (entry) {
        close_hole(t, at);
    } else {
        size_t old = find_old(t, key, h);

        if (old == SIZE_MAX)
            return NULL;
        entry = t->old[old];
        t->old[old] = &tombstone;
    }
    t->count--;
    return entry;
}

void *table_next(const struct table *t, size_t *at)
{
    size_t present = t->slots ? t->mask + 1 : 0, old = t->old ? t->old_mask + 1 : 0;

    for (; *at < present + old; ++*at) {
        bool is_old = *at >= present;
        void *entry = is_old ? t->old[*at - present] : t->slots[*at];

        if (!entry || entry == &tombstone || (is_old && *at - present < t->old_at))
            continue;
        ++*at;
        return entry;
    }
    return NULL;
}
