/* See pack.h. Both loops are of one process, so the header is a struct, copied in and out because of its place. */
#include <string.h>

#include "manager/api/pack.h"

static void put(struct buf *b, struct packed *p, const void *data)
{
    p->data = NULL; /* an address would not mean anything */
    buf_append(b, p, sizeof(*p));
    buf_append(b, data, p->size);
}

void pack_object(struct buf *b, const struct object *header, const void *data, size_t size)
{
    struct packed p = {.kind = header->kind,
                       .size = (uint32_t)size,
                       .number = header->number,
                       .version = header->version,
                       .created_ms = header->created_ms,
                       .updated_ms = header->updated_ms};

    put(b, &p, data);
}

void pack_note(struct buf *b, enum pack_note kind, const void *data, size_t size)
{
    struct packed p = {.kind = kind, .size = (uint32_t)size};

    put(b, &p, data);
}

bool pack_from(struct buf *b, struct view *v, enum kind k, uint64_t number)
{
    struct object header;
    const void *data;
    size_t size;

    if (!number || view_get_packed(v, k, number, &data, &size, &header) < 0)
        return false;
    pack_object(b, &header, data, size);
    return true;
}

bool pack_next(const struct buf *b, size_t *at, struct packed *ret)
{
    if (*at >= b->length)
        return false;
    memcpy(ret, buf_bytes(b) + *at, sizeof(*ret));
    ret->data = buf_bytes(b) + *at + sizeof(*ret);
    *at += sizeof(*ret) + ret->size;
    return true;
}
