/* See map.h. Linear probing with backward-shift deletion, so there are no tombstones and a map never degrades. It
 * grows at three quarters full. Text is hashed with a keyed hash, because keys come from clients. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

#define SLOTS_MIN 8

static uint64_t seed0 = 0x736f6d6570736575, seed1 = 0x646f72616e646f6d;

void map_seed(uint64_t seed)
{
    seed0 ^= seed;
    seed1 ^= seed * 0x9e3779b97f4a7c15;
}

static uint64_t hash_text(const char *key, size_t length)
{
    uint64_t hash = siphash(seed0, seed1, key, length);

    return hash ? hash : 1;
}

static size_t find(const struct map *m, const char *key, size_t length, uint64_t hash)
{
    size_t at = hash & m->mask;

    while (m->slots[at].key) {
        if (m->slots[at].hash == hash && strncmp(m->slots[at].key, key, length) == 0 && !m->slots[at].key[length])
            break;
        at = (at + 1) & m->mask;
    }
    return at;
}

static void grow(struct map *m)
{
    struct map old = *m;
    size_t slots = old.slots ? (old.mask + 1) * 2 : SLOTS_MIN;

    m->slots = mem_array(slots, sizeof(*m->slots));
    m->mask = slots - 1;
    for (size_t i = 0; old.slots && i <= old.mask; i++) {
        if (!old.slots[i].key)
            continue;
        size_t at = old.slots[i].hash & m->mask;
        while (m->slots[at].key)
            at = (at + 1) & m->mask;
        m->slots[at] = old.slots[i];
    }
    free(old.slots);
}

void *map_get_n(const struct map *m, const char *key, size_t length)
{
    if (!m->count)
        return NULL;
    return m->slots[find(m, key, length, hash_text(key, length))].value;
}

void *map_get(const struct map *m, const char *key)
{
    return map_get_n(m, key, strlen(key));
}

void *map_put(struct map *m, const char *key, void *value)
{
    size_t length = strlen(key);
    uint64_t hash = hash_text(key, length);

    if (!value)
        abort(); /* NULL means absent */
    if (!m->slots || (m->count + 1) * 4 > (m->mask + 1) * 3)
        grow(m);
    struct map_slot *slot = &m->slots[find(m, key, length, hash)];
    void *old = slot->value;
    if (!slot->key)
        m->count++;
    *slot = (struct map_slot){.key = key, .hash = hash, .value = value};
    return old;
}

void *map_remove(struct map *m, const char *key)
{
    size_t length = strlen(key);

    if (!m->count)
        return NULL;
    size_t hole = find(m, key, length, hash_text(key, length));
    void *value = m->slots[hole].value;
    if (!value)
        return NULL;
    /* Move later members of the run back, unless that would put one before its home. */
    for (size_t at = (hole + 1) & m->mask; m->slots[at].key; at = (at + 1) & m->mask) {
        size_t home = m->slots[at].hash & m->mask;

        if (((at - home) & m->mask) >= ((at - hole) & m->mask)) {
            m->slots[hole] = m->slots[at];
            hole = at;
        }
    }
    m->slots[hole] = (struct map_slot){0};
    m->count--;
    return value;
}

void map_fini(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}

void *map_next(const struct map *m, size_t *at)
{
    while (m->slots && *at <= m->mask) {
        void *value = m->slots[(*at)++].value;

        if (value)
            return value;
    }
    return NULL;
}

/* --- numbers ------------------------------------------------------------------------------------- */

static inline size_t home64(const struct map64 *m, uint64_t key)
{
    key = (key ^ seed0) * 0x9e3779b97f4a7c15;
    return (key ^ key >> 32) & m->mask;
}

static size_t find64(const struct map64 *m, uint64_t key)
{
    size_t at = home64(m, key);

    while (m->slots[at].value && m->slots[at].key != key)
        at = (at + 1) & m->mask;
    return at;
}

static void grow64(struct map64 *m)
{
    struct map64 old = *m;
    size_t slots = old.slots ? (old.mask + 1) * 2 : SLOTS_MIN;

    m->slots = mem_array(slots, sizeof(*m->slots));
    m->mask = slots - 1;
    for (size_t i = 0; old.slots && i <= old.mask; i++)
        if (old.slots[i].value)
            m->slots[find64(m, old.slots[i].key)] = old.slots[i];
    free(old.slots);
}

void *map64_get(const struct map64 *m, uint64_t key)
{
    return m->count ? m->slots[find64(m, key)].value : NULL;
}

void *map64_put(struct map64 *m, uint64_t key, void *value)
{
    if (!value)
        abort(); /* NULL means absent */
    if (!m->slots || (m->count + 1) * 4 > (m->mask + 1) * 3)
        grow64(m);
    struct map64_slot *slot = &m->slots[find64(m, key)];
    void *old = slot->value;
    if (!old)
        m->count++;
    *slot = (struct map64_slot){.key = key, .value = value};
    return old;
}

void *map64_remove(struct map64 *m, uint64_t key)
{
    if (!m->count)
        return NULL;
    size_t hole = find64(m, key);
    void *value = m->slots[hole].value;
    if (!value)
        return NULL;
    for (size_t at = (hole + 1) & m->mask; m->slots[at].value; at = (at + 1) & m->mask) {
        size_t home = home64(m, m->slots[at].key);

        if (((at - home) & m->mask) >= ((at - hole) & m->mask)) {
            m->slots[hole] = m->slots[at];
            hole = at;
        }
    }
    m->slots[hole] = (struct map64_slot){0};
    m->count--;
    return value;
}

void map64_fini(struct map64 *m)
{
    free(m->slots);
    *m = (struct map64){0};
}

void *map64_next(const struct map64 *m, size_t *at)
{
    while (m->slots && *at <= m->mask) {
        void *value = m->slots[(*at)++].value;

        if (value)
            return value;
    }
    return NULL;
}
