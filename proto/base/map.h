/* Hash maps: from text or from a 64-bit number to a pointer.
 *
 * Keys of `struct map` are borrowed: they usually are a member of the value and must live as long as the entry.
 * Both kinds start as all zeroes, need no allocation while empty, and never fail (see mem.h). Order of iteration is
 * by no rule and must not reach anything that is compared or replicated. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct map_slot {
    const char *key; /* borrowed; NULL when free */
    uint64_t hash;   /* of key, never 0 in a used slot */
    void *value;     /* never NULL in a used slot */
};

struct map {
    struct map_slot *slots; /* power of two of them, linear probing */
    size_t mask;            /* number of slots - 1 */
    size_t count;           /* used slots */
};

void *map_get(const struct map *m, const char *key); /* NULL when absent */
void *map_get_n(const struct map *m, const char *key, size_t length);
void *map_put(struct map *m, const char *key, void *value); /* returns the value replaced, or NULL */
void *map_remove(struct map *m, const char *key);           /* returns the value removed, or NULL */
void map_fini(struct map *m);                               /* frees the slots, not the values */

/* Iterate: size_t at = 0; void *v; while ((v = map_next(&m, &at))) ...   no put or remove meanwhile */
void *map_next(const struct map *m, size_t *at);

struct map64_slot {
    uint64_t key;
    void *value; /* NULL when free */
};

struct map64 {
    struct map64_slot *slots;
    size_t mask;
    size_t count;
};

void *map64_get(const struct map64 *m, uint64_t key);
void *map64_put(struct map64 *m, uint64_t key, void *value);
void *map64_remove(struct map64 *m, uint64_t key);
void map64_fini(struct map64 *m);
void *map64_next(const struct map64 *m, size_t *at);

/* Make the hash of this process unpredictable. Called once by each program's main before any map is used; without
 * it (the simulation, tests) hashes are the same in every run. */
void map_seed(uint64_t seed);
