/* The first message of a link from another manager. What is taken is the same when it is written again, and within
 * its bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/link_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF struct buf again = {0};
    struct link_hello h, same;

    if (link_hello_get(data, size, &h, NULL) < 0)
        return 0;
    if (h.from == 0 || h.to == 0 || h.channel > ENV_CHANNEL_BULK || strlen(h.address) > LINK_ADDRESS_MAX)
        abort();
    link_hello_put(&again, &h);
    if (link_hello_get(buf_bytes(&again), again.length, &same, NULL) < 0 || memcmp(&h, &same, sizeof(h)) != 0)
        abort();
    (void)link_hello_check(&h, h.to, h.epoch, h.feature_level, NULL); /* whatever it says, it must not crash */
    return 0;
}
