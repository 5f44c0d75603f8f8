/* See message.h. */
#include <stdlib.h>

#include "proto/base/mem.h"
#include "proto/base/message.h"

void *message_dup(const void *message)
{
    const ProtobufCMessage *from = message;
    size_t size = protobuf_c_message_get_packed_size(from);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size);

    protobuf_c_message_pack(from, packed);
    void *copy = protobuf_c_message_unpack(from->descriptor, NULL, size, packed);
    if (!copy)
        abort();            /* what we packed ourselves unpacks */
    mem_wipe(packed, size); /* some hold keys */
    return copy;
}

void message_free(void *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}
