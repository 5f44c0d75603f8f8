/* See frame.h. Pure: bytes in, frames out.
 *
 * The reader copies only what it must: a frame that lies whole in the bytes handed over is given as it lies there,
 * and one that was cut is collected in `partial`, which never holds more than one frame. */
#include <string.h>

#include "proto/base/mem.h"
#include "proto/wire/frame.h"

#define REASON_TEXT_MAX 1000

/* What a frame of each type must look like. */
static const struct {
    size_t size_min, size_max; /* of the payload */
    bool on_stream;            /* stream must not be 0; else it must */
} shapes[] = {
    [FRAME_HELLO] = {8, 64, false},
    [FRAME_OPEN] = {2, FRAME_PAYLOAD_MAX, true},
    [FRAME_DATA] = {1, FRAME_PAYLOAD_MAX, true},
    [FRAME_CREDIT] = {4, 4, true},
    [FRAME_END] = {4, 4 + REASON_TEXT_MAX, true},
    [FRAME_PING] = {8, 8, false},
    [FRAME_PONG] = {8, 8, false},
    [FRAME_CLOSE] = {4, 4 + REASON_TEXT_MAX, false},
};

uint32_t frame_u16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

uint32_t frame_u32(const uint8_t *bytes)
{
    return frame_u16(bytes) << 16 | frame_u16(bytes + 2);
}

void frame_store_u32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 24);
    bytes[1] = (uint8_t)(value >> 16);
    bytes[2] = (uint8_t)(value >> 8);
    bytes[3] = (uint8_t)value;
}

/* --- reading ------------------------------------------------------------------------------------- */

/* Check the head. The length comes first in the bytes and is judged before anything is kept for it. */
static int check_head(const struct frame_reader *r, const uint8_t *head, struct err *e)
{
    uint32_t length = frame_u32(head), stream = frame_u32(head + 4), type = head[8];

    if (!r->greeted && type != FRAME_HELLO && type != FRAME_CLOSE)
        return err_set(e, ERR_CORRUPT, "peer does not speak our protocol (its first frame has type %u)", type);
    if (type == 0 || type >= ARRAY_SIZE(shapes))
        return err_set(e, ERR_CORRUPT, "frame of unknown type %u", type);
    if (r->greeted && type == FRAME_HELLO)
        return err_set(e, ERR_CORRUPT, "second hello");
    if (length < shapes[type].size_min || length > shapes[type].size_max)
        return err_set(e, ERR_CORRUPT, "frame of type %u with %u bytes", type, length);
    if (shapes[type].on_stream != (stream != 0))
        return err_set(e, ERR_CORRUPT, "frame of type %u on stream %u", type, stream);
    if (head[9] || head[10] || head[11])
        return err_set(e, ERR_CORRUPT, "frame of type %u with reserved bits", type);
    return 0;
}

static int check_hello(const uint8_t *payload, struct err *e)
{
    if (frame_u32(payload) != FRAME_MAGIC)
        return err_set(e, ERR_CORRUPT, "peer does not speak our protocol (magic 0x%08x)", frame_u32(payload));
    if (frame_u16(payload + 4) != FRAME_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "peer speaks version %u of the protocol, we speak %d",
                       frame_u16(payload + 4), FRAME_VERSION);
    return 0;
}

/* Make a frame of bytes that hold it whole. */
static int take(struct frame_reader *r, const uint8_t *bytes, struct frame *ret, struct err *e)
{
    *ret = (struct frame){
        .type = bytes[8], .stream = frame_u32(bytes + 4), .payload = bytes + FRAME_HEAD, .size = frame_u32(bytes)};
    if (ret->type == FRAME_HELLO) {
        int rc = check_hello(ret->payload, e);

        if (rc < 0)
            return rc;
        r->greeted = true;
    }
    return 1;
}

/* Move bytes into `partial` until it holds `want`; whether it does. */
static bool collect(struct frame_reader *r, size_t want, const uint8_t **data, size_t *size)
{
    size_t missing = want > r->partial.length ? want - r->partial.length : 0, part = MIN(missing, *size);

    buf_append(&r->partial, *data, part);
    *data += part;
    *size -= part;
    return r->partial.length >= want;
}

int frame_read(struct frame_reader *r, const uint8_t **data, size_t *size, struct frame *ret, struct err *e)
{
    int rc;

    if (r->used) { /* the frame given last */
        buf_fini(&r->partial);
        r->used = 0;
    }
    if (r->partial.length == 0 && *size >= FRAME_HEAD) {
        const uint8_t *bytes = *data;

        rc = check_head(r, bytes, e);
        if (rc < 0)
            return rc;
        size_t whole = FRAME_HEAD + frame_u32(bytes);
        if (*size >= whole) {
            *data += whole;
            *size -= whole;
            return take(r, bytes, ret, e);
        }
    }
    if (*size == 0 || !collect(r, FRAME_HEAD, data, size))
        return 0;
    rc = check_head(r, (const uint8_t *)buf_bytes(&r->partial), e);
    if (rc < 0)
        return rc;
    size_t whole = FRAME_HEAD + frame_u32((const uint8_t *)buf_bytes(&r->partial));
    if (!collect(r, whole, data, size))
        return 0;
    r->used = whole;
    return take(r, (const uint8_t *)buf_bytes(&r->partial), ret, e);
}

void frame_reader_fini(struct frame_reader *r)
{
    buf_fini(&r->partial);
}

void frame_reason(const struct frame *f, struct err *ret)
{
    int code = (int)frame_u32(f->payload);

    if (code > 0 || code < ERR_INTERNAL)
        code = ERR_INTERNAL;
    err_set(ret, code, "%.*s", (int)(f->size - 4), (const char *)f->payload + 4);
}

/* --- writing ------------------------------------------------------------------------------------- */

void frame_put_head(struct buf *out, enum frame_type type, uint32_t stream, size_t payload_size)
{
    uint8_t *head = (uint8_t *)buf_reserve(out, FRAME_HEAD);

    frame_store_u32(head, (uint32_t)payload_size);
    frame_store_u32(head + 4, stream);
    frame_store_u32(head + 8, (uint32_t)type << 24);
    buf_added(out, FRAME_HEAD);
}

void frame_put(struct buf *out, enum frame_type type, uint32_t stream, const void *payload, size_t size)
{
    frame_put_head(out, type, stream, size);
    buf_append(out, payload, size);
}

void frame_put_u32(struct buf *out, enum frame_type type, uint32_t stream, uint32_t value)
{
    uint8_t bytes[4];

    frame_store_u32(bytes, value);
    frame_put(out, type, stream, bytes, sizeof(bytes));
}

void frame_put_hello(struct buf *out)
{
    uint8_t bytes[8];

    frame_store_u32(bytes, FRAME_MAGIC);
    frame_store_u32(bytes + 4, FRAME_VERSION << 16);
    frame_put(out, FRAME_HELLO, 0, bytes, sizeof(bytes));
}

void frame_put_reason(struct buf *out, enum frame_type type, uint32_t stream, int code, const char *text)
{
    size_t length = MIN(strlen(text), (size_t)REASON_TEXT_MAX);
    uint8_t bytes[4];

    frame_store_u32(bytes, (uint32_t)code);
    frame_put_head(out, type, stream, sizeof(bytes) + length);
    buf_append(out, bytes, sizeof(bytes));
    buf_append(out, text, length);
}
