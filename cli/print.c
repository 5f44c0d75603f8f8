/* See print.h.
 *
 * The rules are those users see: sizes keep three or four significant digits, ages round down to one unit, and a
 * unit is only used from two on ("59 minutes", then "About an hour", then "2 hours"). Where a size rounds up to the
 * next unit ("999.9kB") the next unit is written, not "1e+03kB". */
#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "proto/base/mem.h"

#define REPLACEMENT 0xfffd /* shown for bytes that are no UTF-8 */

static void scaled(double bytes, int digits, double base, const char *const *units, size_t units_count,
                   char ret[PRINT_TEXT])
{
    size_t unit = 0;

    while (bytes >= base && unit + 1 < units_count) {
        bytes /= base;
        unit++;
    }
    (void)snprintf(ret, PRINT_TEXT, "%.*g%s", digits, bytes, units[unit]);
    if (base == 1000.0 && strchr(ret, 'e') && unit + 1 < units_count)
        (void)snprintf(ret, PRINT_TEXT, "%.*g%s", digits, bytes / base, units[unit + 1]);
}

void print_size(double bytes, int digits, char ret[PRINT_TEXT])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};

    scaled(bytes, digits, 1000.0, units, ARRAY_SIZE(units), ret);
}

void print_size_binary(double bytes, char ret[PRINT_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};

    scaled(bytes, 4, 1024.0, units, ARRAY_SIZE(units), ret);
}

void print_age(int64_t seconds, char ret[PRINT_TEXT])
{
    static const struct {
        int64_t below_hours, hours;
        const char *unit;
    } steps[] = {
        {48, 1, "hours"}, {24 * 14, 24, "days"}, {24 * 60, 24 * 7, "weeks"}, {24 * 730, 24 * 30, "months"}};
    int64_t minutes = seconds / 60, hours = (seconds + 1800) / 3600;

    if (seconds < 1)
        (void)snprintf(ret, PRINT_TEXT, "Less than a second");
    else if (seconds == 1)
        (void)snprintf(ret, PRINT_TEXT, "1 second");
    else if (seconds < 60)
        (void)snprintf(ret, PRINT_TEXT, "%d seconds", (int)seconds);
    else if (minutes == 1)
        (void)snprintf(ret, PRINT_TEXT, "About a minute");
    else if (minutes < 60)
        (void)snprintf(ret, PRINT_TEXT, "%d minutes", (int)minutes);
    else if (hours == 1)
        (void)snprintf(ret, PRINT_TEXT, "About an hour");
    else {
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
            if (hours < steps[i].below_hours) {
                (void)snprintf(ret, PRINT_TEXT, "%lld %s", (long long)(hours / steps[i].hours), steps[i].unit);
                return;
            }
        }
        (void)snprintf(ret, PRINT_TEXT, "%lld years", (long long)(seconds / 3600 / 24 / 365));
    }
}

/* `value / unit` in full, trailing zeros dropped: 1500 / 1000 is "1.5". */
static void put_fraction(char *ret, uint64_t value, uint64_t unit, const char *suffix)
{
    char digits[12] = "";
    uint64_t rest = value % unit;

    for (size_t i = 0; rest && i + 2 < sizeof(digits); i++) {
        rest *= 10;
        digits[i] = (char)('0' + rest / unit);
        rest %= unit;
    }
    (void)snprintf(ret, PRINT_TEXT, "%llu%s%s%s", (unsigned long long)(value / unit), *digits ? "." : "", digits,
                   suffix);
}

void print_duration(int64_t ns, char ret[PRINT_TEXT])
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    char seconds[PRINT_TEXT];

    if (left == 0) {
        (void)snprintf(ret, PRINT_TEXT, "0s");
        return;
    }
    if (left < 1000000000) {
        if (left < 1000)
            put_fraction(seconds, left, 1, "ns");
        else if (left < 1000000)
            put_fraction(seconds, left, 1000, "µs");
        else
            put_fraction(seconds, left, 1000000, "ms");
        (void)snprintf(ret, PRINT_TEXT, "%s%.40s", sign, seconds);
        return;
    }
    uint64_t minutes = left / 60000000000, hours = minutes / 60;
    put_fraction(seconds, left % 60000000000, 1000000000, "s");
    if (hours)
        (void)snprintf(ret, PRINT_TEXT, "%s%lluh%llum%.24s", sign, (unsigned long long)hours,
                       (unsigned long long)(minutes % 60), seconds);
    else if (minutes)
        (void)snprintf(ret, PRINT_TEXT, "%s%llum%.24s", sign, (unsigned long long)minutes, seconds);
    else
        (void)snprintf(ret, PRINT_TEXT, "%s%.24s", sign, seconds);
}

void print_real(double value, char ret[PRINT_TEXT])
{
    char text[PRINT_TEXT];
    int digits = 0;

    if (!isfinite(value)) {
        (void)snprintf(ret, PRINT_TEXT, "%s", isnan(value) ? "NaN" : value < 0 ? "-Inf" : "+Inf");
        return;
    }
    for (; digits < 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*e", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    /* Below a million in full; `digits` counts those after the first. */
    if (exponent >= -4 && exponent < 6)
        (void)snprintf(ret, PRINT_TEXT, "%.*f", MAX(digits - exponent, 0), value);
    else
        (void)snprintf(ret, PRINT_TEXT, "%s", text);
}

/* One code point of UTF-8 and its length; a byte that begins none counts as one character. */
static uint32_t decode(const char *text, size_t left, size_t *ret_length)
{
    const unsigned char *b = (const unsigned char *)text;
    size_t length = b[0] < 0x80 ? 1 : b[0] > 0xf4 ? 0 : b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : b[0] >= 0xc2 ? 2 : 0;
    uint32_t code = length == 1 ? b[0] : b[0] & (0x7f >> length);

    *ret_length = 1;
    if (length == 0 || length > left)
        return REPLACEMENT;
    for (size_t i = 1; i < length; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return REPLACEMENT;
        code = code << 6 | (b[i] & 0x3f);
    }
    *ret_length = length;
    return code;
}

static size_t places(uint32_t code)
{
    /* East Asian wide and full-width blocks, and the emoji that terminals draw two places wide. */
    static const struct {
        uint32_t first, last;
    } wide[] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},  {0xa960, 0xa97c}, {0xac00, 0xd7a3},
                {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},  {0xffe0, 0xffe6}, {0x1f300, 0x1f64f},
                {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};

    if (code < 0x1100)
        return code < 0x20 || code == 0x7f || (code >= 0x300 && code <= 0x36f) ? 0 : 1;
    for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
        if (code >= wide[i].first && code <= wide[i].last)
            return 2;
    return 1;
}

size_t print_width(const char *text, size_t length)
{
    size_t width = 0, step;

    for (size_t at = 0; at < length; at += step)
        width += places(decode(text + at, length - at, &step));
    return width;
}

void print_ellipsis(struct buf *out, const char *text, size_t width)
{
    size_t length = strlen(text), used = 0, at = 0, step;

    if (width == 0)
        return;
    if (print_width(text, length) <= width) {
        buf_append(out, text, length);
        return;
    }
    while (at < length) {
        used += places(decode(text + at, length - at, &step));
        if (used > width - 1)
            break;
        at += step;
    }
    buf_append(out, text, at);
    buf_append_str(out, "…");
}

void print_quoted(struct buf *out, const char *text)
{
    static const char plain[] = "abtnvfr"; /* \a is 7 and so on */
    size_t length = strlen(text), step;

    buf_append_char(out, '"');
    for (size_t at = 0; at < length; at += step) {
        uint32_t code = decode(text + at, length - at, &step);

        if (code == '"' || code == '\\')
            buf_printf(out, "\\%c", (char)code);
        else if (code >= 7 && code <= 13)
            buf_printf(out, "\\%c", plain[code - 7]);
        else if (code < 0x20 || code == 0x7f || (step == 1 && code >= 0x80))
            buf_printf(out, "\\x%02x", (unsigned char)text[at]);
        else
            buf_append(out, text + at, step);
    }
    buf_append_char(out, '"');
}

void print_capital(struct buf *out, const char *text)
{
    for (size_t i = 0; text[i]; i++)
        buf_append_char(out, (char)(i ? tolower((unsigned char)text[i]) : toupper((unsigned char)text[i])));
}

/* Compare two runs of digits by value; equal values by their length (leading zeros last). Moves both past them. */
static int compare_digits(const char **a, const char **b)
{
    const char *x = *a, *y = *b;

    while (*x == '0')
        x++;
    while (*y == '0')
        y++;
    size_t m = strspn(x, "0123456789"), n = strspn(y, "0123456789");
    int order = m != n ? (m < n ? -1 : 1) : strncmp(x, y, m);
    if (order == 0)
        order = (x - *a) < (y - *b) ? -1 : (x - *a) > (y - *b);
    *a = x + m;
    *b = y + n;
    return order;
}

int print_natural(const char *a, const char *b)
{
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            int order = compare_digits(&a, &b);

            if (order)
                return order;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return *a ? 1 : *b ? -1 : 0;
}

void print_moment(struct buf *out, const char *rfc3339)
{
    size_t length = strlen(rfc3339), clock = 8;

    if (!length) {
        buf_append_str(out, "0001-01-01 00:00:00 +0000 UTC");
        return;
    }
    if (length < 20 || rfc3339[10] != 'T') {
        buf_append_str(out, rfc3339);
        return;
    }
    const char *time = rfc3339 + 11, *zone = time + clock;
    if (*zone == '.') {
        size_t digits = strspn(zone + 1, "0123456789");

        zone += 1 + digits;
        while (digits && time[clock + digits] == '0')
            digits--;
        clock += digits ? 1 + digits : 0;
    }
    buf_printf(out, "%.10s %.*s", rfc3339, (int)clock, time);
    if (strlen(zone) == 6) /* "+01:00" */
        buf_printf(out, " %.3s%s %.3s%s", zone, zone + 4, zone, zone + 4);
    else
        buf_append_str(out, " +0000 UTC");
}

void print_wrapped(struct buf *out, const char *text, size_t indent, size_t columns)
{
    size_t column = indent;
    bool first = true;

    while (*text) {
        size_t blanks = strspn(text, " ");
        size_t word = strcspn(text + blanks, " \n");

        if (!first && word && column + blanks + print_width(text + blanks, word) > columns) {
            buf_printf(out, "\n%*s", (int)indent, "");
            column = indent;
            blanks = 0;
            text += strspn(text, " ");
        }
        buf_append(out, text, blanks + word);
        column += blanks + print_width(text + blanks, word);
        text += blanks + word;
        first = false;
        if (*text == '\n') {
            buf_printf(out, "\n%*s", (int)indent, "");
            column = indent;
            text++;
            first = true;
        }
    }
}
