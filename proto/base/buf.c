/* See buf.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/mem.h"

#define CAPACITY_MIN 64

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->start = b->length = 0;
}

char *buf_reserve(struct buf *b, size_t size)
{
    size_t need = b->length + size;

    if (need < size)
        abort();
    if (b->start && (b->length == 0 || b->start + need > b->capacity)) {
        memmove(b->data, b->data + b->start, b->length);
        b->start = 0;
    }
    if (!b->data || b->start + need > b->capacity) {
        size_t capacity = MAX(MAX(b->capacity * 2, need), (size_t)CAPACITY_MIN);

        b->data = mem_grow(b->data, capacity, 1);
        b->capacity = capacity;
    }
    return b->data + b->start + b->length;
}

void buf_added(struct buf *b, size_t size)
{
    assert(b->start + b->length + size <= b->capacity);
    b->length += size;
}

void buf_append(struct buf *b, const void *data, size_t size)
{
    if (!size)
        return;
    memcpy(buf_reserve(b, size), data, size);
    b->length += size;
}

void buf_append_str(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_append_char(struct buf *b, char c)
{
    *buf_reserve(b, 1) = c;
    b->length++;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list args)
{
    va_list again;

    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    if (length < 0)
        abort();
    char *place = buf_reserve(b, (size_t)length + 1);
    (void)vsnprintf(place, (size_t)length + 1, fmt, again); /* measured above */
    va_end(again);
    b->length += (size_t)length;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    buf_vprintf(b, fmt, args);
    va_end(args);
}

void buf_consume(struct buf *b, size_t size)
{
    assert(size <= b->length);
    b->start += size;
    b->length -= size;
    if (b->length == 0)
        b->start = 0;
}

const char *buf_str(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return b->data + b->start;
}

char *buf_steal(struct buf *b)
{
    (void)buf_str(b); /* terminates */
    if (b->start) {
        memmove(b->data, b->data + b->start, b->length + 1);
        b->start = 0;
    }
    char *data = b->data;
    *b = (struct buf){0};
    return data;
}
