/* See detach.h. */
#include <ctype.h>
#include <string.h>

#include "engine/api/detach.h"

/* One key's text to its byte; false when there is no such key. */
static bool key_of(const char *text, size_t length, unsigned char *ret)
{
    static const char prefix[] = "ctrl-";
    size_t start = sizeof(prefix) - 1;

    if (length == 1) {
        *ret = (unsigned char)*text;
        return true;
    }
    if (length != start + 1 || strncmp(text, prefix, start) != 0)
        return false;
    unsigned char c = (unsigned char)toupper((unsigned char)text[start]);
    if (c < '@' || c > '_') /* the columns of the character set whose control keys these are */
        return false;
    *ret = c - '@';
    return true;
}

int detach_parse(const char *text, struct detach *ret, struct err *e)
{
    struct detach d = {0};

    for (const char *at = text && *text ? text : "ctrl-p,ctrl-q";;) {
        size_t length = strcspn(at, ",");

        if (length == 0 && *at == ',') /* the comma itself */
            length = 1;
        if (d.count == DETACH_KEYS_MAX || !key_of(at, length, &d.keys[d.count]))
            return err_set(e, ERR_INVALID, "Invalid detach keys (%.120s) provided", text);
        d.count++;
        at += length;
        if (!*at)
            break;
        at++;
    }
    *ret = d;
    return 0;
}

bool detach_type(struct detach *d, const char *data, size_t size, struct buf *out)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)data[i] != d->keys[d->seen]) { /* what was held back was no beginning of the keys */
            buf_append(out, d->keys, d->seen);
            d->seen = 0;
        }
        if ((unsigned char)data[i] != d->keys[d->seen])
            buf_append(out, data + i, 1);
        else if (++d->seen == d->count)
            return true;
    }
    return false;
}
