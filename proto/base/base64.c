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

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *text, size_t size, void *ret, size_t *ret_size)
{
    uint8_t *out = ret;
    size_t padding = 0, length = 0;

    if (size % 4)
        return false;
    while (padding < 2 && padding < size && text[size - padding - 1] == '=')
        padding++;
    for (size_t i = 0; i < size; i += 4) { /* read before written: in place is fine */
        uint32_t group = 0;
        size_t missing = i + 4 == size ? padding : 0;

        for (size_t k = 0; k < 4; k++) {
            int value = k + missing >= 4 ? 0 : value_of(text[i + k]);

            if (value < 0)
                return false;
            group = group << 6 | (uint32_t)value;
        }
        for (size_t k = 0; k + missing < 3; k++)
            out[length++] = (uint8_t)(group >> (16 - 8 * k));
    }
    *ret_size = length;
    return true;
}
