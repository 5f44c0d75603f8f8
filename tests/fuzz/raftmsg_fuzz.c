/* Messages of other managers. The frame's own numbers (size, epoch, ids) are put right first, so that the fuzzer
 * gets to the fields; what is accepted must be the same when it is written again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/message.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE
    uint8_t *copy = mem_alloc(size + 32);
    AUTO_BUF struct buf again = {0};
    struct message m;

    if (size < 32 || size > 1 << 20)
        return 0;
    memcpy(copy, data, size);
    copy[0] = MESSAGE_VERSION;
    put_u16(copy + 2, 0);
    put_u32(copy + 4, (uint32_t)size);
    put_u64(copy + 8, 7);
    put_u64(copy + 16, 2);
    put_u64(copy + 24, 1);
    if (message_get(data, size, 7, 2, 1, &m, NULL) == 0)
        message_fini(&m);
    if (message_get(copy, size, 7, 2, 1, &m, NULL) < 0)
        return 0;
    if (m.type != RAFT_INSTALL_SNAPSHOT) { /* a configuration may have been padded otherwise */
        message_put(&again, 7, &m);
        if (again.length != size || memcmp(buf_bytes(&again), copy, size) != 0)
            abort();
    }
    message_fini(&m);
    return 0;
}
