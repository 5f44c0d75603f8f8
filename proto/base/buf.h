/* Growing byte buffers: append at the end, consume at the front.
 *
 * All zeroes is an empty buffer. Appending never fails (mem.h); whoever fills a buffer from outside bounds it. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;      /* owned; NULL while never used */
    size_t start;    /* first byte not yet consumed */
    size_t length;   /* bytes from start */
    size_t capacity; /* bytes allocated */
};

void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */

static inline char *buf_bytes(const struct buf *b)
{
    return b->data ? b->data + b->start : NULL;
}

/* Room for `size` more bytes at the returned place; tell with buf_added how many were used. */
char *buf_reserve(struct buf *b, size_t size);
void buf_added(struct buf *b, size_t size);

void buf_append(struct buf *b, const void *data, size_t size);
void buf_append_str(struct buf *b, const char *text);
void buf_append_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list args);

/* Drop `size` bytes at the front; size must not exceed the length. */
void buf_consume(struct buf *b, size_t size);

/* The contents as a zero-terminated string: borrowed until the next change, or stolen (free it). */
const char *buf_str(struct buf *b);
char *buf_steal(struct buf *b);

#define AUTO_BUF __attribute__((cleanup(buf_fini)))
