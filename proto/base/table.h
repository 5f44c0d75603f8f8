/* Hash tables of structs by a key that is inside them: 8 or 16 bytes at a fixed offset.
 *
 * Twelve bytes per slot, no allocation per entry, and no long pause: growing moves a few entries with each
 * insertion, so that a table of a million entries never stops a loop. Keys must not be under an attacker's control
 * (numbers and random ids of ours are not); for text from outside use map.h. Order of iteration is by no rule.
 * Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct table_part {
    void **slots;     /* power of two of them, linear probing */
    uint32_t *hashes; /* of each slot: 0 free; so others are passed, and entries moved, without a look at them */
    size_t mask;      /* slots - 1 */
};

struct table {
    struct table_part now, old; /* `old` is the smaller one that is being moved; slots NULL: none */
    size_t old_at;              /* slots of `old` below this are moved */
    size_t count;               /* entries */
    uint16_t key_offset;        /* of the key in an entry */
    uint16_t key_size;          /* 8 or 16 */
};

void table_init(struct table *t, size_t key_offset, size_t key_size);
void table_fini(struct table *t); /* frees the slots, not the entries */

void *table_get(const struct table *t, const void *key); /* NULL when absent */
void table_put(struct table *t, void *entry);            /* asserts that its key is not there */
void *table_remove(struct table *t, const void *key);    /* returns the entry, or NULL */

/* Iterate: size_t at = 0; void *v; while ((v = table_next(&t, &at))) ...   no put or remove meanwhile */
void *table_next(const struct table *t, size_t *at);
