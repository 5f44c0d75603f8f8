/* Frames: how RPC cuts the bytes of one connection into pieces that belong to streams.
 *
 *     0        4        8    9        12
 *     | length | stream |type| 0 0 0  | payload of `length` bytes
 *
 * Numbers are big-endian. The first frame of each side is HELLO with magic and version, and only the first is; a
 * side that refuses the other sends CLOSE instead. A frame is never longer than one TLS record, so nothing has to
 * be allocated for a length that was only claimed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define FRAME_HEAD        12
#define FRAME_BYTES_MAX   16384 /* head and payload: one TLS record */
#define FRAME_PAYLOAD_MAX (FRAME_BYTES_MAX - FRAME_HEAD)
#define FRAME_MAGIC       0x53485250 /* "SHRP" */
#define FRAME_VERSION     1

enum frame_type {
    FRAME_HELLO = 1,  /* magic u32, version u16, 0 u16; more is ignored. Stream 0 */
    FRAME_OPEN = 2,   /* method u16, then bytes of the stream as in DATA */
    FRAME_DATA = 3,   /* bytes of the stream: messages, each after its length u32 */
    FRAME_CREDIT = 4, /* u32: so many bytes more may be sent on this stream */
    FRAME_END = 5,    /* code i32, text: the stream has ended. Each side sends one */
    FRAME_PING = 6,   /* u64, to be returned. Stream 0 */
    FRAME_PONG = 7,   /* that u64. Stream 0 */
    FRAME_CLOSE = 8,  /* code i32, text: the connection will be closed, and why. Stream 0 */
};

struct frame {
    enum frame_type type;
    uint32_t stream;
    const uint8_t *payload; /* borrowed: until the next read */
    size_t size;
};

struct frame_reader {
    struct buf partial; /* a frame that has not come whole; empty between frames */
    size_t used;        /* bytes of `partial` that the frame given last took */
    bool greeted;       /* HELLO has come */
};

/* The next frame from *data, *size, which move on. Returns 1, 0 when more bytes are needed, or ERR_CORRUPT when the
 * peer speaks something else. What a frame must look like by itself was checked. */
int frame_read(struct frame_reader *r, const uint8_t **data, size_t *size, struct frame *ret, struct err *e);
void frame_reader_fini(struct frame_reader *r);

/* Append a frame: its head, with the payload to be appended by the caller, or whole. */
void frame_put_head(struct buf *out, enum frame_type type, uint32_t stream, size_t payload_size);
void frame_put(struct buf *out, enum frame_type type, uint32_t stream, const void *payload, size_t size);
void frame_put_hello(struct buf *out);
void frame_put_u32(struct buf *out, enum frame_type type, uint32_t stream, uint32_t value);
void frame_put_reason(struct buf *out, enum frame_type type, uint32_t stream, int code, const char *text);

uint32_t frame_u16(const uint8_t *bytes);
uint32_t frame_u32(const uint8_t *bytes);
void frame_store_u32(uint8_t *bytes, uint32_t value);

/* The reason in an END or CLOSE frame. Texts of peers are cleaned; codes that are not ours become ERR_INTERNAL. */
void frame_reason(const struct frame *f, struct err *ret);
