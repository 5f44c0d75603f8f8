/* See logline.h. A reader for this one shape: members in any order, unknown ones skipped, strings decoded where
 * they lie (an escape is never shorter than what it stands for). Everything else is damage. */
#include <string.h>

#include "engine/container/logline.h"
#include "proto/base/base64.h"
#include "proto/base/timefmt.h"

#define DEPTH_MAX 16 /* of unknown members */

struct cursor {
    char *at, *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

static bool take(struct cursor *c, char expected)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != expected)
        return false;
    c->at++;
    return true;
}

static bool hex4(const struct cursor *c, const char *at, unsigned *ret)
{
    unsigned value = 0;

    if (c->end - at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char d = at[i];

        if (d >= '0' && d <= '9')
            value = value * 16 + (unsigned)(d - '0');
        else if ((d | 0x20) >= 'a' && (d | 0x20) <= 'f')
            value = value * 16 + (unsigned)((d | 0x20) - 'a') + 10;
        else
            return false;
    }
    *ret = value;
    return true;
}

static char *put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

/* After "\u": one code unit, or a pair of surrogates; half a pair is U+FFFD. */
static bool take_unicode(struct cursor *c, char **out)
{
    unsigned code, low;

    if (!hex4(c, c->at, &code))
        return false;
    c->at += 4;
    if (code >= 0xd800 && code < 0xdc00 && c->end - c->at >= 6 && c->at[0] == '\\' && c->at[1] == 'u' &&
        hex4(c, c->at + 2, &low) && low >= 0xdc00 && low < 0xe000) {
        c->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code < 0xe000) {
        code = 0xfffd;
    }
    *out = put_utf8(*out, code);
    return true;
}

static bool take_escape(struct cursor *c, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known;

    if (c->at == c->end)
        return false;
    char escape = *c->at++;
    if (escape == 'u')
        return take_unicode(c, out);
    known = escape ? strchr(from, escape) : NULL;
    if (!known)
        return false;
    *(*out)++ = to[known - from];
    return true;
}

static bool take_string(struct cursor *c, char **ret, size_t *ret_size)
{
    char *out;

    if (!take(c, '"'))
        return false;
    *ret = out = c->at;
    while (c->at < c->end) {
        /* Runs of plain bytes move at once. */
        char *run = c->at;
        while (c->at < c->end && *c->at != '"' && *c->at != '\\')
            c->at++;
        if (out != run)
            memmove(out, run, (size_t)(c->at - run));
        out += c->at - run;
        if (c->at == c->end)
            return false;
        if (*c->at++ == '"') {
            *ret_size = (size_t)(out - *ret);
            return true;
        }
        if (!take_escape(c, &out))
            return false;
    }
    return false;
}

static bool skip_value(struct cursor *c, int depth);

static bool skip_members(struct cursor *c, bool is_object, int depth)
{
    char *text, closer = is_object ? '}' : ']';
    size_t size;

    if (take(c, closer))
        return true;
    do {
        if (is_object && (!take_string(c, &text, &size) || !take(c, ':')))
            return false;
        if (!skip_value(c, depth + 1))
            return false;
    } while (take(c, ','));
    return take(c, closer);
}

static bool skip_value(struct cursor *c, int depth)
{
    char *text;
    size_t size;

    skip_blanks(c);
    if (c->at == c->end || depth > DEPTH_MAX)
        return false;
    if (*c->at == '"')
        return take_string(c, &text, &size);
    if (*c->at == '{' || *c->at == '[')
        return skip_members(c, *c->at++ == '{', depth);
    text = c->at;
    while (c->at < c->end && *c->at && strchr("+-.0123456789aeflnrstuE", *c->at))
        c->at++;
    return c->at > text;
}

static bool is(const char *text, size_t size, const char *expected)
{
    return size == strlen(expected) && memcmp(text, expected, size) == 0;
}

static bool take_time(const char *text, size_t size, int64_t *ret)
{
    char copy[TIME_TEXT + 1];

    if (size >= sizeof(copy))
        return false;
    memcpy(copy, text, size);
    copy[size] = '\0';
    return time_parse_ns(copy, ret);
}

static bool take_member(struct cursor *c, struct logline *line, bool *ret_has_time, bool *ret_has_raw)
{
    char *key, *text;
    size_t key_size, size;

    if (!take_string(c, &key, &key_size) || !take(c, ':'))
        return false;
    skip_blanks(c);
    bool is_log = is(key, key_size, "log"), is_stream = is(key, key_size, "stream"),
         is_time = is(key, key_size, "time"), is_raw = is(key, key_size, "raw");
    if (!is_log && !is_stream && !is_time && !is_raw)
        return skip_value(c, 0);
    if (!take_string(c, &text, &size))
        return false;
    if (is_raw) {
        if (!base64_decode(text, size, text, &line->size))
            return false;
        line->text = text;
        *ret_has_raw = true;
    } else if (is_log && !*ret_has_raw) {
        line->text = text;
        line->size = size;
    } else if (is_log) {
        return true; /* with U+FFFD for what "raw" says */
    } else if (is_stream) {
        line->stream = is(text, size, "stdout") ? LOGLINE_STDOUT : is(text, size, "stderr") ? LOGLINE_STDERR : 0;
    } else {
        *ret_has_time = take_time(text, size, &line->time_ns);
    }
    return true;
}

bool logline_parse(char *line, size_t size, struct logline *ret)
{
    struct cursor c = {line, line + size};
    struct logline found = {0};
    bool has_time = false, has_raw = false;

    if (!take(&c, '{'))
        return false;
    do {
        if (!take_member(&c, &found, &has_time, &has_raw))
            return false;
    } while (take(&c, ','));
    if (!take(&c, '}'))
        return false;
    skip_blanks(&c);
    if (c.at != c.end || !found.text || !found.stream || !has_time)
        return false;
    *ret = found;
    return true;
}
