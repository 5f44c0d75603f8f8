/* See arena.h. Chunks double from 4 KiB to 256 KiB; a request that is larger gets a chunk of its own. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arena.h"
#include "proto/base/mem.h"

#define ALIGN     16
#define CHUNK_MIN 4096
#define CHUNK_MAX (256 * 1024)

struct arena_chunk {
    struct arena_chunk *older; /* the one before */
    size_t size;               /* usable bytes that follow */
    max_align_t data[];
};

static void *allocator_alloc(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
    (void)data; /* the arena frees all at once */
    (void)pointer;
}

void arena_init(struct arena *a)
{
    *a = (struct arena){.allocator = {.alloc = allocator_alloc, .free = allocator_free, .allocator_data = a}};
}

static void free_chunks(struct arena_chunk *chunk)
{
    while (chunk) {
        struct arena_chunk *older = chunk->older;

        free(chunk);
        chunk = older;
    }
}

void arena_fini(struct arena *a)
{
    free_chunks(a->chunks);
    arena_init(a);
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = a->chunks;

    if (!keep)
        return;
    free_chunks(keep->older);
    keep->older = NULL;
    a->next = (char *)keep->data;
    a->end = a->next + keep->size;
    a->total_bytes = keep->size;
}

static void add_chunk(struct arena *a, size_t need)
{
    size_t size = a->total_bytes < CHUNK_MIN ? CHUNK_MIN : MIN(a->total_bytes, (size_t)CHUNK_MAX);

    if (size < need)
        size = need;
    struct arena_chunk *chunk = malloc(sizeof(*chunk) + size);
    if (!chunk)
        abort();
    chunk->older = a->chunks;
    chunk->size = size;
    a->chunks = chunk;
    a->next = (char *)chunk->data;
    a->end = a->next + size;
    a->total_bytes += size;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX / 2)
        abort();
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size == 0)
        size = ALIGN;
    if ((size_t)(a->end - a->next) < size)
        add_chunk(a, size);
    void *data = a->next;
    a->next += size;
    return memset(data, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        abort();
    return arena_alloc(a, bytes);
}

void *arena_dup(struct arena *a, const void *data, size_t size)
{
    void *copy = arena_alloc(a, size);

    if (size)
        memcpy(copy, data, size);
    return copy;
}

char *arena_strndup(struct arena *a, const char *text, size_t length)
{
    char *copy = arena_alloc(a, length + 1);

    memcpy(copy, text, length);
    return copy;
}

char *arena_strdup(struct arena *a, const char *text)
{
    return arena_strndup(a, text, strlen(text));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;

    va_start(args, fmt);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length < 0)
        abort();
    char *text = arena_alloc(a, (size_t)length + 1);
    (void)vsnprintf(text, (size_t)length + 1, fmt, again); /* measured above */
    va_end(again);
    return text;
}

void *arena_append(struct arena *a, void *array, size_t count, size_t size)
{
    if (count & (count - 1)) /* not a power of two: room was made before */
        return array;
    void *grown = arena_array(a, count ? count * 2 : 1, size);
    if (count)
        memcpy(grown, array, count * size);
    return grown;
}

void *arena_unpack(struct arena *a, const ProtobufCMessageDescriptor *type, const void *data, size_t size)
{
    return protobuf_c_message_unpack(type, &a->allocator, size, data);
}

void *arena_message(struct arena *a, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(a, size);

    protobuf_c_message_pack(message, packed);
    void *copy = arena_unpack(a, message->descriptor, packed, size);
    if (!copy)
        abort(); /* what we packed ourselves unpacks */
    return copy;
}
