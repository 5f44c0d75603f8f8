/* See base64.h. */
#include <stdint.h>

#include "proto/base/base64.h"

void base64_encode(struct buf *out, const void *data, size_t size)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i += 3) {
        size_t count = size - i < 3 ? size - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16;

        if (count > 1)
            group |= (uint32_t)bytes[i + 1] << 8;
        if (count > 2)
            group |= bytes[i + 2];
        for (size_t k = 0; k < 4; k++)
            buf_append_char(out, k <= count ? alphabet[group >> (18 - 6 * k) & 63] : '=');
    }
}
