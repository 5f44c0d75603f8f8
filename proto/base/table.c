/* See table.h.
 *
 * While a table grows there are two parts: `now`, where insertions go, and `old`, whose slots below old_at have
 * been moved. Each insertion moves MOVE_STEP more, so the old part is empty long before the next growth. A slot of
 * `old` whose entry was moved or removed is marked GONE: probing passes over it. Removal from `now` shifts back, so
 * there are never such marks. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/base/table.h"

#define SLOTS_MIN 8
#define MOVE_STEP 32
#define FREE      0 /* what no hash is */
#define GONE      1

void table_init(struct table *t, size_t key_offset, size_t key_size)
{
    assert(key_size == 8 || key_size == 16);
    *t = (struct table){.key_offset = (uint16_t)key_offset, .key_size = (uint16_t)key_size};
}

static void part_fini(struct table_part *p)
{
    free(p->slots);
    free(p->hashes);
    *p = (struct table_part){0};
}

void table_fini(struct table *t)
{
    part_fini(&t->now);
    part_fini(&t->old);
    table_init(t, t->key_offset, t->key_size);
}

static inline uint64_t word_at(const void *key, size_t at)
{
    uint64_t word;

    memcpy(&word, (const char *)key + at, 8);
    return word;
}

/* 32 bits are enough to find a place among four thousand million slots. */
static inline uint32_t hash(const struct table *t, const void *key)
{
    uint64_t h = word_at(key, 0) * 0x9e3779b97f4a7c15;

    if (t->key_size == 16)
        h = (h ^ h >> 32 ^ word_at(key, 8)) * 0xd6e8feb86659fd93;
    h ^= h >> 32;
    return (uint32_t)h > GONE ? (uint32_t)h : (uint32_t)h + GONE + 1;
}

static inline const void *key_of(const struct table *t, const void *entry)
{
    return (const char *)entry + t->key_offset;
}

static inline int has_key(const struct table *t, const void *entry, const void *key)
{
    const void *own = key_of(t, entry);

    return word_at(own, 0) == word_at(key, 0) && (t->key_size == 8 || word_at(own, 8) == word_at(key, 8));
}

/* The slot of that key, or the free one that ends its run. The part has slots. */
static inline size_t find(const struct table *t, const struct table_part *p, const void *key, uint32_t h)
{
    size_t at = h & p->mask;

    while (p->hashes[at] != FREE && !(p->hashes[at] == h && has_key(t, p->slots[at], key)))
        at = (at + 1) & p->mask;
    return at;
}

static void set(struct table_part *p, size_t at, void *entry, uint32_t h)
{
    p->slots[at] = entry;
    p->hashes[at] = h;
}

static size_t find_free(const struct table_part *p, uint32_t h)
{
    size_t at = h & p->mask;

    while (p->hashes[at] != FREE)
        at = (at + 1) & p->mask;
    return at;
}

static void move_some(struct table *t, size_t steps)
{
    while (t->old.slots && steps-- > 0) {
        size_t at = t->old_at++;
        uint32_t h = t->old.hashes[at];

        if (h != FREE && h != GONE) {
            set(&t->now, find_free(&t->now, h), t->old.slots[at], h);
            t->old.hashes[at] = GONE;
        }
        if (t->old_at > t->old.mask)
            part_fini(&t->old);
    }
}

static void grow(struct table *t)
{
    move_some(t, SIZE_MAX); /* always done by now */
    size_t slots = t->now.slots ? (t->now.mask + 1) * 2 : SLOTS_MIN;
    t->old = t->now;
    t->old_at = 0;
    t->now = (struct table_part){
        .slots = mem_array(slots, sizeof(void *)), .hashes = mem_array(slots, sizeof(uint32_t)), .mask = slots - 1};
}

void *table_get(const struct table *t, const void *key)
{
    if (!t->count)
        return NULL;
    uint32_t h = hash(t, key);
    size_t at = find(t, &t->now, key, h);
    if (t->now.hashes[at] != FREE)
        return t->now.slots[at];
    if (!t->old.slots)
        return NULL;
    at = find(t, &t->old, key, h);
    return t->old.hashes[at] != FREE ? t->old.slots[at] : NULL;
}

void table_put(struct table *t, void *entry)
{
    const void *key = key_of(t, entry);

    if (!t->now.slots || (t->count + 1) * 4 > (t->now.mask + 1) * 3)
        grow(t);
    move_some(t, MOVE_STEP);
    assert(!table_get(t, key));
    uint32_t h = hash(t, key);
    set(&t->now, find_free(&t->now, h), entry, h);
    t->count++;
}

static void close_hole(struct table *t, size_t hole)
{
    struct table_part *p = &t->now;

    /* Move later members of the run back, unless that would put one before its home. */
    for (size_t at = (hole + 1) & p->mask; p->hashes[at] != FREE; at = (at + 1) & p->mask) {
        size_t home = p->hashes[at] & p->mask;

        if (((at - home) & p->mask) >= ((at - hole) & p->mask)) {
            set(p, hole, p->slots[at], p->hashes[at]);
            hole = at;
        }
    }
    set(p, hole, NULL, FREE);
}

void *table_remove(struct table *t, const void *key)
{
    if (!t->count)
        return NULL;
    uint32_t h = hash(t, key);
    size_t at = find(t, &t->now, key, h);
    void *entry = NULL;
    if (t->now.hashes[at] != FREE) {
        entry = t->now.slots[at];
        close_hole(t, at);
    } else if (t->old.slots) {
        at = find(t, &t->old, key, h);
        if (t->old.hashes[at] != FREE) {
            entry = t->old.slots[at];
            t->old.hashes[at] = GONE;
        }
    }
    t->count -= entry != NULL;
    return entry;
}

static void *part_next(const struct table_part *p, size_t *at)
{
    for (; p->slots && *at <= p->mask; ++*at)
        if (p->hashes[*at] != FREE && p->hashes[*at] != GONE)
            return p->slots[(*at)++];
    return NULL;
}

void *table_next(const struct table *t, size_t *at)
{
    size_t first = t->now.slots ? t->now.mask + 1 : 0;

    if (*at < first) {
        void *entry = part_next(&t->now, at);

        if (entry)
            return entry;
        *at = first;
    }
    size_t rest = *at - first;
    void *entry = part_next(&t->old, &rest);
    *at = first + rest;
    return entry;
}
