/* See ident.h. */
#include <string.h>

#include "proto/base/ident.h"

static const char digits36[] = "0123456789abcdefghijklmnopqrstuvwxyz";

bool base36_encode(const uint8_t *bytes, size_t size, size_t width, char *ret_text)
{
    uint8_t number[64];

    if (size > sizeof(number))
        return false;
    memcpy(number, bytes, size);
    for (size_t i = width; i-- > 0;) { /* long division by 36, least digit first */
        unsigned rest = 0;

        for (size_t k = 0; k < size; k++) {
            unsigned part = rest << 8 | number[k];

            number[k] = (uint8_t)(part / 36);
            rest = part % 36;
        }
        ret_text[i] = digits36[rest];
    }
    ret_text[width] = '\0';
    for (size_t k = 0; k < size; k++)
        if (number[k])
            return false;
    return true;
}

void ident_format(const uint8_t bytes[IDENT_BYTES], char ret_text[IDENT_TEXT + 1])
{
    (void)base36_encode(bytes, IDENT_BYTES, IDENT_TEXT, ret_text); /* 2^128 has 25 digits */
}

void ident_new(struct entropy *e, char ret_text[IDENT_TEXT + 1])
{
    uint8_t bytes[IDENT_BYTES];

    entropy_fill(e, bytes, sizeof(bytes));
    ident_format(bytes, ret_text);
}

static int digit36(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 10;
    return -1;
}

bool ident_parse(const char *text, uint8_t ret_bytes[IDENT_BYTES])
{
    uint8_t number[IDENT_BYTES] = {0};

    for (size_t i = 0; i < IDENT_TEXT; i++) {
        int digit = digit36(text[i]);

        if (digit < 0)
            return false; /* also the end of a shorter text */
        unsigned carry = (unsigned)digit;
        for (size_t k = IDENT_BYTES; k-- > 0;) {
            carry += number[k] * 36u;
            number[k] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry)
            return false;
    }
    if (text[IDENT_TEXT])
        return false;
    memcpy(ret_bytes, number, IDENT_BYTES);
    return true;
}

bool ident_valid(const char *text)
{
    uint8_t bytes[IDENT_BYTES];

    return ident_parse(text, bytes);
}

void hex_encode(const void *data, size_t size, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++) {
        ret_text[2 * i] = digits[bytes[i] >> 4];
        ret_text[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret_text[2 * size] = '\0';
}

void hex_id_new(struct entropy *e, char ret_text[HEX_ID_TEXT + 1])
{
    uint8_t bytes[HEX_ID_TEXT / 2];

    entropy_fill(e, bytes, sizeof(bytes));
    hex_encode(bytes, sizeof(bytes), ret_text);
}

bool hex_valid(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
    return text[length] == '\0';
}

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool all_of(const char *name, size_t length, const char *others)
{
    for (size_t i = 0; i < length; i++)
        if (!alnum(name[i]) && !strchr(others, name[i]))
            return false;
    return true;
}

bool name_valid_service(const char *name)
{
    size_t length = strlen(name);

    return length >= 1 && length <= NAME_MAX_SERVICE && alnum(name[0]) && alnum(name[length - 1]) &&
           all_of(name, length, "-_");
}

bool name_valid_secret(const char *name)
{
    size_t length = strlen(name);

    return length >= 1 && length <= NAME_MAX_SECRET && alnum(name[0]) && alnum(name[length - 1]) &&
           all_of(name, length, "-_.");
}

bool name_valid_container(const char *name)
{
    size_t length = strlen(name);

    return length >= 2 && length <= 255 && alnum(name[0]) && all_of(name, length, "-_.");
}
