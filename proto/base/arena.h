/* Arenas: everything one request or one planning turn needs, freed in one call.
 *
 * Memory from an arena is zeroed, aligned for any type and lives until arena_fini or arena_reset. The struct itself
 * must not be copied or moved once initialised: its allocator points back to it. */
#pragma once

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks;   /* newest first */
    char *next, *end;             /* free part of the newest chunk */
    size_t total_bytes;           /* bytes in all chunks */
    ProtobufCAllocator allocator; /* hands this arena to protobuf-c; its free does nothing */
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a);
void arena_reset(struct arena *a); /* forget everything, keep one chunk for the next turn */

void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size); /* aborts on overflow */
void *arena_dup(struct arena *a, const void *data, size_t size);
char *arena_strdup(struct arena *a, const char *text);
char *arena_strndup(struct arena *a, const char *text, size_t length);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Append to a grown array of `count` elements that lives in the arena: makes room for one more when count is a
 * power of two (or 0) and returns the possibly moved array. For building repeated fields of messages. */
void *arena_append(struct arena *a, void *array, size_t count, size_t size);

/* Deep copy of a message into the arena, by packing and unpacking. Never NULL. */
void *arena_message(struct arena *a, const ProtobufCMessage *message);

/* Unpack into the arena. NULL when the bytes are not such a message. */
void *arena_unpack(struct arena *a, const ProtobufCMessageDescriptor *type, const void *data, size_t size);

#define AUTO_ARENA         __attribute__((cleanup(arena_fini)))
#define ARENA_NEW(a, type) ((type *)arena_alloc(a, sizeof(type)))
