/* See jwrite.h. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/jwrite.h"
#include "proto/base/timefmt.h"

static void put_text(struct jwrite *j, const char *text, size_t length);

static void begin_value(struct jwrite *j, const char *key)
{
    assert(!key == (j->depth == 0 || j->closers[j->depth - 1] == ']'));
    if (j->need_comma)
        buf_append_char(j->out, ',');
    j->need_comma = true;
    if (key) {
        put_text(j, key, strlen(key));
        buf_append_char(j->out, ':');
    }
}

static void open_level(struct jwrite *j, const char *key, char opener, char closer)
{
    begin_value(j, key);
    assert(j->depth < JWRITE_DEPTH_MAX);
    buf_append_char(j->out, opener);
    j->closers[j->depth++] = closer;
    j->need_comma = false;
}

void jwrite_object(struct jwrite *j, const char *key)
{
    open_level(j, key, '{', '}');
}

void jwrite_array(struct jwrite *j, const char *key)
{
    open_level(j, key, '[', ']');
}

void jwrite_end(struct jwrite *j)
{
    assert(j->depth > 0);
    buf_append_char(j->out, j->closers[--j->depth]);
    j->need_comma = true;
}

/* Length of the well-formed UTF-8 sequence at text, 0 when there is none. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    size_t length = text[0] < 0x80 ? 1 : text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : text[0] >= 0xc2 ? 2 : 0;

    if (length == 0 || length > left || text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates and numbers beyond Unicode hide in the second byte. */
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

bool jwrite_is_faithful(const char *value, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)value;

    for (size_t i = 0, sequence; i < length; i += sequence) {
        sequence = utf8_length(bytes + i, length - i);
        if (!sequence)
            return false;
    }
    return true;
}

static void put_escaped(struct buf *out, unsigned char c)
{
    switch (c) {
    case '"':
        buf_append(out, "\\\"", 2);
        break;
    case '\\':
        buf_append(out, "\\\\", 2);
        break;
    case '\n':
        buf_append(out, "\\n", 2);
        break;
    case '\r':
        buf_append(out, "\\r", 2);
        break;
    case '\t':
        buf_append(out, "\\t", 2);
        break;
    default: /* as Docker's encoder does, < > & are escaped too, so that answers may stand in a page */
        buf_printf(out, "\\u%04x", c);
    }
}

static bool plain(const struct jwrite *j, unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && (j->keep_markup || (c != '<' && c != '>' && c != '&'));
}

static void put_text(struct jwrite *j, const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;

    buf_append_char(j->out, '"');
    for (size_t i = 0; i < length;) {
        size_t run = i;

        while (run < length && plain(j, bytes[run]))
            run++;
        buf_append(j->out, text + i, run - i);
        i = run;
        if (i == length)
            break;
        size_t sequence = utf8_length(bytes + i, length - i);
        if (sequence == 1)
            put_escaped(j->out, bytes[i]);
        else if (sequence)
            buf_append(j->out, text + i, sequence);
        else
            buf_append_str(j->out, "\\ufffd");
        i += sequence ? sequence : 1;
    }
    buf_append_char(j->out, '"');
}

void jwrite_string_n(struct jwrite *j, const char *key, const char *value, size_t length)
{
    begin_value(j, key);
    put_text(j, value, length);
}

void jwrite_string(struct jwrite *j, const char *key, const char *value)
{
    jwrite_string_n(j, key, value ? value : "", value ? strlen(value) : 0);
}

void jwrite_printf(struct jwrite *j, const char *key, const char *fmt, ...)
{
    AUTO_BUF struct buf text = {0};
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    jwrite_string_n(j, key, buf_str(&text), text.length);
}

void jwrite_int(struct jwrite *j, const char *key, int64_t value)
{
    begin_value(j, key);
    buf_printf(j->out, "%lld", (long long)value);
}

void jwrite_uint(struct jwrite *j, const char *key, uint64_t value)
{
    begin_value(j, key);
    buf_printf(j->out, "%llu", (unsigned long long)value);
}

void jwrite_double(struct jwrite *j, const char *key, double value)
{
    char text[40];

    begin_value(j, key);
    if (!isfinite(value))
        value = 0; /* JSON knows no infinity */
    (void)snprintf(text, sizeof(text), "%.15g", value);
    if (strtod(text, NULL) != value)
        (void)snprintf(text, sizeof(text), "%.17g", value);
    buf_append_str(j->out, text);
}

void jwrite_bool(struct jwrite *j, const char *key, bool value)
{
    begin_value(j, key);
    buf_append_str(j->out, value ? "true" : "false");
}

void jwrite_null(struct jwrite *j, const char *key)
{
    begin_value(j, key);
    buf_append_str(j->out, "null");
}

void jwrite_raw(struct jwrite *j, const char *key, const char *text)
{
    begin_value(j, key);
    buf_append_str(j->out, text);
}

void jwrite_time_ns(struct jwrite *j, const char *key, int64_t wall_ns)
{
    char text[TIME_TEXT];

    time_format_ns(wall_ns, text);
    jwrite_string(j, key, text);
}
