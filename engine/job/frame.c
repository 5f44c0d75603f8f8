/* See frame.h. */
#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "engine/job/frame.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

int frame_write(int fd, const ProtobufCMessage *message, struct err *e)
{
    size_t size = protobuf_c_message_get_packed_size(message);

    if (size > FRAME_MAX)
        return err_set(e, ERR_LIMIT, "a message of %zu bytes is too large", size);
    AUTO_FREE
    uint8_t *frame = mem_alloc(4 + size);
    for (int i = 0; i < 4; i++)
        frame[i] = (uint8_t)(size >> (8 * i));
    protobuf_c_message_pack(message, frame + 4);
    return write_all(fd, frame, 4 + size, e);
}

static int read_exactly(int fd, void *into, size_t size, struct err *e)
{
    char *at = into;

    while (size) {
        ssize_t got = read(fd, at, size);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, "read a message");
        if (got == 0)
            return err_set(e, ERR_CLOSED, "the other side is gone");
        at += got;
        size -= (size_t)got;
    }
    return 0;
}

int frame_read(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, struct err *e)
{
    uint8_t head[4];
    int rc = read_exactly(fd, head, sizeof(head), e);

    if (rc < 0)
        return rc;
    size_t size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    if (size > FRAME_MAX)
        return err_set(e, ERR_CORRUPT, "a message of %zu bytes is too large", size);
    AUTO_FREE
    uint8_t *body = mem_alloc(size);
    rc = read_exactly(fd, body, size, e);
    if (rc < 0)
        return rc;
    *ret = protobuf_c_message_unpack(type, NULL, size, body);
    return *ret ? 0 : err_set(e, ERR_CORRUPT, "a message is no %s", type->short_name);
}
