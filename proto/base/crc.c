/* CRC-32C by table (hash.h); a file of its own because it is pure and needs no library. */
#include <stdbool.h>

#include "proto/base/hash.h"

static uint32_t table[256];

/* Before main, so that no thread ever sees it half full. */
__attribute__((constructor)) static void fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
        table[i] = crc;
    }
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    crc = ~crc;
    for (size_t i = 0; i < size; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    return ~crc;
}
